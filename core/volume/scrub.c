/* scrub.c: see scrub.h. */
#include "volume/scrub.h"
#include "base/err.h"
#include "volume/verify.h"
#include <stdio.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)
#define LATER_NS (SECOND_NS / 4)
#define STORE_EVERY_NS (60 * SECOND_NS)

static uint64_t
clock_ns(struct lsvd_volume *v)
{
    return v->io->ops->now_ns(v->io);
}

static bool
is_wanted(const struct lsvd_volume *v)
{
    return v->attached && v->config.scrub_s > 0;
}

/* ---- when ---- */

static uint64_t
max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* On our clock. */
static uint64_t
due_ns(struct lsvd_volume *v)
{
    const struct scrub *s = &v->scrub;
    uint64_t in_pass = scrub_due_in_pass_ns(v->config.scrub_s * SECOND_NS,
                                            s->mark.chunks, s->total);
    uint64_t due = s->since_ns;

    if (in_pass > s->mark.served_ns)
        due += in_pass - s->mark.served_ns;
    due = max_u64(due, s->step_ns + scrub_rate_ns(s->step_bytes,
                                                  v->config.scrub_rate));
    return max_u64(due, s->not_before_ns);
}

uint64_t
scrub_wait_ns_locked(struct lsvd_volume *v)
{
    uint64_t now = clock_ns(v), due;

    if (!is_wanted(v) || !v->scrub.is_loaded)
        return UINT64_MAX;
    due = due_ns(v);
    return due > now ? due - now : 0;
}

/* SC2. */
static bool
is_busy(struct lsvd_volume *v)
{
    struct journal_space space;
    bool busy;

    journal_space(v->journal, &space);
    pthread_mutex_lock(&v->state_lock);
    busy = v->space_waiters > 0 || v->gone != 0 || v->resync.is_active ||
           v->stalled_since != 0;
    pthread_mutex_unlock(&v->state_lock);
    return busy || atomic_load(&v->destage_error) != 0 ||
           atomic_load(&v->in_repair) || atomic_load(&v->hurried) ||
           space.used_bytes > space.ring_bytes / 2;
}

static void
put_off(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->state_lock);
    v->scrub.not_before_ns = clock_ns(v) + LATER_NS;
    pthread_mutex_unlock(&v->state_lock);
}

/* ---- where ---- */

static uint64_t
next_present(struct lsvd_volume *v, uint64_t chunk)
{
    for (chunk = next_known_chunk(v, chunk); chunk;
         chunk = next_known_chunk(v, chunk + 1)) {
        if (chunk_truth(v, chunk).state == CHUNK_PRESENT)
            return chunk;
    }
    return 0;
}

static uint64_t
count_from(struct lsvd_volume *v, uint64_t chunk)
{
    uint64_t count = 0;

    for (chunk = next_present(v, chunk); chunk;
         chunk = next_present(v, chunk + 1))
        count++;
    return count;
}

static void
begin_pass(struct lsvd_volume *v, struct scrub *s)
{
    const struct scrub_mark before = s->mark;

    s->mark = (struct scrub_mark){.next = 1,
                                  .began = v->io->ops->wall_seconds(v->io),
                                  .last_end = before.last_end,
                                  .passes = before.passes};
    s->total = count_from(v, 1);
    s->is_told = false;
    s->is_changed = true;
}

/* The changes of one step become visible at once; the time that it took, and
 * that before it, is the pass's, unless that has just begun. */
static void
publish(struct lsvd_volume *v, struct scrub *s)
{
    uint64_t now = clock_ns(v);

    pthread_mutex_lock(&v->state_lock);
    if (s->mark.passes == v->scrub.mark.passes)
        s->mark.served_ns += now - s->since_ns;
    s->since_ns = now;
    v->scrub = *s;
    pthread_mutex_unlock(&v->state_lock);
}

static void
copy_state(struct lsvd_volume *v, struct scrub *ret)
{
    pthread_mutex_lock(&v->state_lock);
    *ret = v->scrub;
    pthread_mutex_unlock(&v->state_lock);
}

/* ---- the file ---- */

static void
store(struct lsvd_volume *v, struct scrub *s)
{
    s->stored_ns = clock_ns(v);
    s->is_changed = false;
    if (scrub_store(v, &s->mark) == 0) {
        s->is_broken = false;
        return;
    }
    if (!s->is_broken)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: where the scrub is can't be stored (%s): after "
                  "a restart it begins anew",
                  v->meta.name, err_text());
    s->is_broken = true;
}

void
scrub_begin(struct lsvd_volume *v)
{
    struct scrub s = {0};

    if (!is_wanted(v))
        return;
    scrub_load(v, &s.mark);
    s.since_ns = s.stored_ns = clock_ns(v);
    if (s.mark.next == 0 || s.mark.next > geometry_chunk_count(&v->g) + 1)
        begin_pass(v, &s);
    else
        s.total = s.mark.chunks + count_from(v, s.mark.next);
    s.is_loaded = true;
    pthread_mutex_lock(&v->state_lock);
    v->scrub = s;
    pthread_mutex_unlock(&v->state_lock);
}

void
scrub_end(struct lsvd_volume *v)
{
    struct scrub s;

    copy_state(v, &s);
    if (!s.is_loaded)
        return;
    s.mark.served_ns += clock_ns(v) - s.since_ns;
    store(v, &s);
}

/* ---- a step ---- */

struct step {
    struct lsvd_volume *v;
    struct scrub *s;
};

static void
on_lost(void *ctx, const struct lsvd_lost_range *range)
{
    struct step *step = ctx;
    struct lsvd_volume *v = step->v;

    step->s->mark.lost_bytes += range->count;
    atomic_fetch_add(&v->count.lost_blocks,
                     (range->count + v->g.block_bytes - 1) / v->g.block_bytes);
    event_note(v, LOG_ERROR_LEVEL, "lost", 0,
               "%llu bytes at %llu can't be read or computed from the parts "
               "that are in use (found by the scrub)",
               (unsigned long long)range->count,
               (unsigned long long)range->offset);
}

/* SC3. */
static void
heal_file(struct step *step, uint64_t chunk, uint32_t slot, const char *text)
{
    struct lsvd_volume *v = step->v;
    char letter = v->part[slot].letter;
    uint64_t lost;
    int r;

    r = fragment_rebuild(v, chunk, slot, &lost);
    volume_heal_tried(v, chunk, slot);
    step->s->mark.healed += r > 0;
    step->s->mark.unhealed += r < 0;
    if (r < 0)
        log_event(&v->log, LOG_ERROR_LEVEL,
                  "volume %s: scrub: chunk %llu of part %c is wrong (%s), and "
                  "could not be healed: %s",
                  v->meta.name, (unsigned long long)chunk, letter, text,
                  err_text());
    else
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: scrub: chunk %llu of part %c was wrong (%s)%s",
                  v->meta.name, (unsigned long long)chunk, letter, text,
                  r > 0 ? "; it is healed" : "");
}

/* Opening the file may have counted it already. */
static void
count_bad(struct lsvd_volume *v, uint32_t slot, uint64_t before)
{
    if (atomic_load(&v->part[slot].bad) != before)
        return;
    atomic_fetch_add(&v->part[slot].bad, 1);
    atomic_fetch_add(&v->count.bad_blocks, 1);
}

static bool
is_any_gone(struct lsvd_volume *v)
{
    bool gone;

    pthread_mutex_lock(&v->state_lock);
    gone = v->gone != 0;
    pthread_mutex_unlock(&v->state_lock);
    return gone;
}

static uint64_t
bytes_of_chunk(struct lsvd_volume *v)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->usable & UINT32_C(1) << i)
            bytes += geometry_file_bytes(&v->g, i);
    }
    return bytes;
}

/* -EAGAIN: a part stopped answering meanwhile; what was found means nothing. */
static int
check_chunk(struct step *step, uint64_t chunk, struct chunk_check *check)
{
    struct lsvd_volume *v = step->v;
    uint64_t before[PARTS_MAX];
    int r;

    for (uint32_t i = 0; i < v->g.part_count; i++)
        before[i] = atomic_load(&v->part[i].bad);
    r = chunk_check(v, chunk, true, NULL, check);
    if (r == 0 && is_any_gone(v))
        r = -EAGAIN;
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (check->kind[i] == LSVD_CHUNK_HEALTHY ||
            !(v->usable & UINT32_C(1) << i))
            continue;
        count_bad(v, i, before[i]);
        heal_file(step, chunk, i, check->text[i]);
    }
    chunk_check_lost(v, chunk, check, on_lost, step);
    return 0;
}

static void
tell_begin(struct step *step)
{
    const struct scrub_mark *m = &step->s->mark;

    if (step->s->is_told)
        return;
    step->s->is_told = true;
    if (m->chunks == 0)
        event_note(step->v, LOG_INFO_LEVEL, "scrub", 0,
                   "a pass over %llu chunks begins",
                   (unsigned long long)step->s->total);
    else
        event_note(step->v, LOG_INFO_LEVEL, "scrub", 0,
                   "the pass goes on, after %llu of %llu chunks",
                   (unsigned long long)m->chunks,
                   (unsigned long long)step->s->total);
}

static void
end_pass(struct step *step)
{
    struct lsvd_volume *v = step->v;
    struct scrub *s = step->s;
    struct scrub_mark *m = &s->mark;
    bool clean = m->healed == 0 && m->unhealed == 0 && m->lost_bytes == 0;
    uint64_t took = m->served_ns + clock_ns(v) - s->since_ns;

    tell_begin(step);
    event_note(v, clean ? LOG_INFO_LEVEL : LOG_WARNING_LEVEL, "scrub", 0,
               "a pass has ended after %llu s: %llu chunks checked, %llu files "
               "healed, %llu that could not be, %llu bytes lost",
               (unsigned long long)(took / SECOND_NS),
               (unsigned long long)m->chunks, (unsigned long long)m->healed,
               (unsigned long long)m->unhealed,
               (unsigned long long)m->lost_bytes);
    m->passes++;
    m->last_end = v->io->ops->wall_seconds(v->io);
    begin_pass(v, s);
}

/* The role's. */
static int
check_next(struct step *step)
{
    struct lsvd_volume *v = step->v;
    struct scrub *s = step->s;
    uint64_t chunk = next_present(v, s->mark.next);
    struct chunk_check *check;
    int r;

    if (chunk == 0) {
        end_pass(step);
        return 0;
    }
    tell_begin(step);
    r = chunk_check_new(v, &check);
    if (r < 0)
        return r;
    s->step_ns = clock_ns(v);
    s->step_bytes = bytes_of_chunk(v);
    r = check_chunk(step, chunk, check);
    chunk_check_free(check);
    if (r < 0)
        return r;
    s->mark.next = chunk + 1;
    s->mark.chunks++;
    s->mark.bytes += s->step_bytes;
    s->is_changed = true;
    return 0;
}

bool
scrub_step(struct lsvd_volume *v)
{
    struct scrub s;
    struct step step = {v, &s};
    struct lease role;
    uint64_t wait;
    int r;

    pthread_mutex_lock(&v->state_lock);
    wait = scrub_wait_ns_locked(v);
    pthread_mutex_unlock(&v->state_lock);
    if (wait > 0)
        return false;
    if (is_busy(v) || role_get(v, &role) < 0) {
        put_off(v);
        return false;
    }
    copy_state(v, &s);
    r = check_next(&step);
    role_put(v, &role);
    publish(v, &s);
    if (r < 0) {
        put_off(v);
        return false;
    }
    if (s.is_changed && clock_ns(v) - s.stored_ns >= STORE_EVERY_NS) {
        store(v, &s);
        pthread_mutex_lock(&v->state_lock);
        v->scrub = s;
        pthread_mutex_unlock(&v->state_lock);
    }
    return true;
}

int
lsvd_scrub_step(struct lsvd_volume *v)
{
    if (!v->scrub.is_loaded)
        scrub_begin(v);
    return scrub_step(v);
}
