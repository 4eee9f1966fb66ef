/* resync.c: see resync.h. */
#include "volume/refer.h"
#include "volume/resync.h"
#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_EVERY 16 /* chunks copied between two stores of the table */
#define NONE UINT32_MAX

static uint32_t
filled_slot(const struct resync *s)
{
    return s->is_active ? s->slot : NONE;
}

static bool
place_offer(struct lsvd_volume *v, struct offer *offer, bool held)
{
    struct offer **place = &v->resync.offered[offer->part.slot];
    uint32_t bit = UINT32_C(1) << offer->part.slot;
    struct offer *copy;
    bool taken = false;

    if (mem_new(1, sizeof *copy, &copy) < 0)
        return false;
    *copy = *offer;
    pthread_mutex_lock(&v->state_lock);
    if (!*place && held == ((v->resync.held & bit) != 0)) {
        v->resync.held &= ~bit;
        *place = copy;
        taken = true;
        pthread_cond_signal(&v->work);
    }
    pthread_mutex_unlock(&v->state_lock);
    if (!taken)
        free(copy);
    return taken;
}

bool
resync_offer(struct lsvd_volume *v, struct offer *offer)
{
    return place_offer(v, offer, false);
}

bool
resync_offer_held(struct lsvd_volume *v, struct offer *offer)
{
    return place_offer(v, offer, true);
}

bool
resync_has(struct lsvd_volume *v, uint32_t slot)
{
    bool has;

    pthread_mutex_lock(&v->state_lock);
    has = v->resync.offered[slot] || filled_slot(&v->resync) == slot ||
          ((v->resync.held | v->resync.taken) & UINT32_C(1) << slot);
    pthread_mutex_unlock(&v->state_lock);
    return has;
}

/* One that never left the view first: the volume waits for it. Another only
 * when none is being filled. */
static struct offer *
take_offer(struct lsvd_volume *v)
{
    struct offer *offer = NULL;

    pthread_mutex_lock(&v->state_lock);
    for (uint32_t i = 0; i < v->g.part_count && !offer; i++) {
        struct offer **place = &v->resync.offered[i];

        if (*place && ((*place)->is_member || !v->resync.is_active)) {
            offer = *place;
            *place = NULL;
            v->resync.taken = UINT32_C(1) << i;
        }
    }
    pthread_mutex_unlock(&v->state_lock);
    return offer;
}

static void
offer_free(struct offer *offer)
{
    if (!offer)
        return;
    chunk_table_close(offer->part.table);
    object_close(offer->part.lock);
    target_close(offer->part.dir);
    free(offer);
}

void
resync_hold(struct lsvd_volume *v, uint32_t slot)
{
    struct offer *offer;
    struct lease lease;

    pthread_mutex_lock(&v->state_lock);
    v->resync.held |= UINT32_C(1) << slot;
    offer = v->resync.offered[slot];
    v->resync.offered[slot] = NULL;
    pthread_mutex_unlock(&v->state_lock);
    offer_free(offer);
    /* the watch may be looking for it just now */
    lease_get(&v->part_leases, &lease, slot, slot + 1, true);
    lease_put(&v->part_leases, &lease);
}

void
resync_release(struct lsvd_volume *v, uint32_t slot)
{
    pthread_mutex_lock(&v->state_lock);
    v->resync.held &= ~(UINT32_C(1) << slot);
    pthread_mutex_unlock(&v->state_lock);
}

void
resync_done(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        offer_free(v->resync.offered[i]);
        v->resync.offered[i] = NULL;
    }
}

/* The part is what was offered from now on; not usable yet (V6). */
static void
put_in_place(struct lsvd_volume *v, struct offer *offer,
             enum lsvd_part_state state)
{
    struct part *p = &v->part[offer->part.slot];
    struct lease lease;

    assert(!(v->usable & UINT32_C(1) << p->slot));
    lease_get(&v->part_leases, &lease, p->slot, p->slot + 1, true);
    pthread_mutex_lock(&v->state_lock);
    assert(!p->dir);
    p->dir = offer->part.dir;
    p->lock = offer->part.lock;
    p->has_label = true;
    p->damaged_label_slots = offer->part.damaged_label_slots;
    p->label = offer->part.label;
    p->state = state;
    p->problem[0] = '\0';
    p->failure = 0;
    p->off_until_ns = 0;
    /* What a late reader says is of the directory that was let go. */
    v->gone &= ~(UINT32_C(1) << p->slot);
    pthread_mutex_unlock(&v->state_lock);
    pthread_mutex_lock(&v->table_lock);
    p->table = offer->part.table;
    pthread_mutex_unlock(&v->table_lock);
    lease_put(&v->part_leases, &lease);
    atomic_store(&p->label_writes, p->label.write_count);
    atomic_store(&p->label_promised, p->label.promised);
    free(offer);
}

/* The volume may have grown since it was looked at. */
static int
fit_table(struct lsvd_volume *v, struct chunk_table *table)
{
    uint64_t chunks = geometry_chunk_count(&v->g);

    return !table || chunk_table_count(table) == chunks
               ? 0
               : chunk_table_resize(table, chunks);
}

/* A table that says nothing of some chunks, and is all that is known: chunk
 * files date themselves then, as at a start. */
static int
mend_table(struct lsvd_volume *v, uint32_t slot)
{
    return v->usable == 0 ? part_raise_table(v, &v->part[slot]) : 0;
}

/* While other members are away, whose tables may be sound, it waits for them:
 * headers of files that a destage did not come to on all parts are ahead. */
static bool
must_wait(struct lsvd_volume *v, uint32_t slot)
{
    if (v->usable != 0 || !(v->view.members & ~(UINT32_C(1) << slot)))
        return false;
    pthread_mutex_lock(&v->state_lock);
    part_fail(&v->part[slot], LSVD_PART_ERROR,
              "its chunk table is damaged, and no other part is there");
    pthread_mutex_unlock(&v->state_lock);
    return true;
}

/* It is what it was when it was last heard of: nothing was destaged without
 * it. */
static void
welcome_member(struct lsvd_volume *v, struct offer *offer)
{
    uint32_t slot = offer->part.slot, bit = UINT32_C(1) << slot;
    bool still = (v->view.members & bit) && !(v->usable & bit) &&
                 !v->part[slot].dir;
    bool doubtful = offer->full;
    int r;

    if (!still || fit_table(v, offer->part.table) < 0 ||
        (doubtful && must_wait(v, slot))) {
        offer_free(offer);
        return;
    }
    put_in_place(v, offer, LSVD_PART_OK);
    r = volume_store_part_meta(v, slot); /* RS5 */
    if (r == 0 && doubtful)
        r = mend_table(v, slot);
    if (r == 0) {
        atomic_fetch_or(&v->usable, bit);
        batch_begin_anew(v);
        v->view_begun = true; /* its label may be one behind */
    }
    if (r == 0 && doubtful) {
        v->failed = 0;
        r = tables_level(v);
        if (r < 0 && !(v->failed & bit))
            r = 0; /* destage will meet the others' */
    }
    if (r < 0) {
        (void)part_failed(v, slot, r);
        part_lost(v, bit);
        return;
    }
    event_note(v, LOG_WARNING_LEVEL, "return", v->part[slot].letter,
               "part %c answers again; nothing was written without it",
               v->part[slot].letter);
}

static bool
lacks(struct lsvd_volume *v, uint32_t slot, uint64_t chunk)
{
    struct chunk_entry truth = chunk_truth(v, chunk);
    struct chunk_entry own = chunk_table_get(v->part[slot].table, chunk);

    return own.seq != truth.seq || own.state != truth.state;
}

static uint64_t
next_lacking(struct lsvd_volume *v, uint32_t slot, uint64_t chunk)
{
    for (chunk = next_known_chunk(v, chunk); chunk;
         chunk = next_known_chunk(v, chunk + 1)) {
        if (lacks(v, slot, chunk))
            return chunk;
    }
    return 0;
}

/* An entry that is ahead of the view's is of a history that was given up. */
static bool
is_ahead(struct lsvd_volume *v, const struct chunk_table *table)
{
    for (uint64_t c = chunk_table_next(table, 1); c;
         c = chunk_table_next(table, c + 1)) {
        if (chunk_table_get(table, c).seq > chunk_truth(v, c).seq)
            return true;
        if (c == geometry_chunk_count(&v->g))
            break;
    }
    return false;
}

/* From nothing. */
static int
table_anew(struct lsvd_volume *v, struct part *p)
{
    struct chunk_table *table, *old = p->table;
    int r;

    r = chunk_table_create(p->dir, &p->label.instance,
                           geometry_chunk_count(&v->g), &table);
    if (r == 0) {
        r = target_sync(p->dir);
        if (r < 0)
            chunk_table_close(table);
    }
    if (r < 0)
        return r;
    pthread_mutex_lock(&v->table_lock);
    p->table = table;
    pthread_mutex_unlock(&v->table_lock);
    chunk_table_close(old);
    return 0;
}

static void
set_active(struct lsvd_volume *v, uint32_t slot, bool active)
{
    pthread_mutex_lock(&v->state_lock);
    v->resync.is_active = active;
    v->resync.slot = slot;
    pthread_mutex_unlock(&v->state_lock);
}

static void
begin(struct lsvd_volume *v, struct offer *offer)
{
    struct resync *s = &v->resync;
    uint32_t slot = offer->part.slot;
    struct part *p = &v->part[slot];
    bool full;
    int r = 0;

    if ((v->view.members & UINT32_C(1) << slot) || p->dir ||
        fit_table(v, offer->part.table) < 0) {
        offer_free(offer); /* things have changed since it was made */
        return;
    }
    full = offer->full || !offer->part.table ||
           is_ahead(v, offer->part.table);
    s->cursor = 1;
    s->copied_in_pass = s->unstored = 0;
    s->began_ns = v->io->ops->now_ns(v->io); /* others look once it is active */
    atomic_store(&s->chunks_done, 0);
    atomic_store(&s->bytes_done, 0);
    atomic_store(&s->copied, 0);
    atomic_store(&s->chunks_total, 0);
    put_in_place(v, offer, LSVD_PART_SYNCING);
    set_active(v, slot, true);
    if (full)
        r = table_anew(v, p);
    if (r < 0) {
        (void)part_failed(v, slot, r);
        resync_give_up(v);
        return;
    }
    for (uint64_t c = next_lacking(v, slot, 1); c;
         c = next_lacking(v, slot, c + 1))
        atomic_fetch_add(&s->chunks_total, 1);
    event_note(v, LOG_WARNING_LEVEL, "resync", p->letter,
               "part %c is back (%s); %llu chunks have changed and are copied "
               "to it%s",
               p->letter, p->dir->path,
               (unsigned long long)atomic_load(&s->chunks_total),
               full ? " (all there are)" : "");
}

bool
resync_adopt(struct lsvd_volume *v)
{
    struct offer *offer = take_offer(v);

    if (!offer)
        return false;
    if (offer->is_member)
        welcome_member(v, offer);
    else
        begin(v, offer);
    pthread_mutex_lock(&v->state_lock);
    v->resync.taken = 0;
    pthread_mutex_unlock(&v->state_lock);
    return true;
}

void
resync_give_up(struct lsvd_volume *v)
{
    struct resync *s = &v->resync;
    struct part *p = &v->part[s->slot];

    if (!s->is_active)
        return;
    event_note(v, LOG_WARNING_LEVEL, "resync", p->letter,
               "filling part %c has ended early: %s; it is tried again",
               p->letter, p->failure_text);
    atomic_fetch_add(&p->fills_failed, 1);
    part_lost(v, UINT32_C(1) << s->slot);
    set_active(v, 0, false);
}

uint32_t
resync_parts_of(struct lsvd_volume *v, uint64_t chunk, bool anew)
{
    struct resync *s = &v->resync;

    if (!s->is_active)
        return 0;
    if (anew || chunk_truth(v, chunk).state != CHUNK_PRESENT ||
        !lacks(v, s->slot, chunk)) /* RS3 */
        return UINT32_C(1) << s->slot;
    return 0;
}

/* The file of a chunk that became a hole while the part was away. */
static int
remove_file(struct lsvd_volume *v, uint32_t slot, uint64_t chunk)
{
    struct chunk_entry truth = chunk_truth(v, chunk);
    struct part *p = &v->part[slot];
    char name[24];
    int r;

    fragment_name(chunk, name);
    r = target_remove(p->dir, name);
    if ((r == 0 || r == -ENOENT) && volume_has_references(v) &&
        !refer_journal_has(v, chunk) && references_remove(p->dir, chunk) == 0)
        r = 0;
    if (r == 0)
        r = target_sync(p->dir);
    if (r < 0 && r != -ENOENT)
        return r;
    pthread_mutex_lock(&v->table_lock);
    r = chunk_table_set(p->table, chunk, truth);
    pthread_mutex_unlock(&v->table_lock);
    return r;
}

static int
copy_chunk(struct lsvd_volume *v, uint32_t slot, uint64_t chunk)
{
    struct resync *s = &v->resync;
    uint64_t written;
    int r;

    if (chunk_truth(v, chunk).state != CHUNK_PRESENT) {
        r = remove_file(v, slot, chunk);
    } else {
        r = fragment_fill(v, chunk, slot, &written);
        if (r == 0) {
            atomic_fetch_add(&s->bytes_done, geometry_file_bytes(&v->g, slot));
            atomic_fetch_add(&s->copied, 1);
            atomic_fetch_add(&v->count.resynced_chunks, 1);
            atomic_fetch_add(&v->count.resynced_bytes, written);
        }
    }
    if (r < 0)
        return r;
    atomic_fetch_add(&s->chunks_done, 1);
    s->copied_in_pass++;
    if (++s->unstored < STORE_EVERY)
        return 0;
    s->unstored = 0;
    return files_store(v, UINT32_C(1) << slot);
}

/* O6. RS5: the policy first. */
static int
promote(struct lsvd_volume *v, uint32_t slot)
{
    struct part *p = &v->part[slot];
    int r;

    r = files_store(v, UINT32_C(1) << slot);
    if (r == 0) {
        leftovers_remove_of(v, slot);
        r = target_sync(p->dir);
    }
    if (r == 0)
        r = volume_store_part_meta(v, slot);
    if (r < 0)
        return r;
    set_active(v, slot, false); /* VW2 would lose it twice */
    r = volume_view_with(v, slot);
    if (r < 0 && !(v->usable & UINT32_C(1) << slot)) {
        set_active(v, slot, p->dir != NULL);
        return r;
    }
    pthread_mutex_lock(&v->state_lock);
    p->state = LSVD_PART_OK;
    pthread_mutex_unlock(&v->state_lock);
    atomic_store(&p->fills_failed, 0);
    p->sources_refused = 0;
    atomic_fetch_add(&v->count.returns, 1);
    event_note(v, LOG_WARNING_LEVEL, "sync", p->letter,
               "part %c is in sync again; %llu chunks were copied", p->letter,
               (unsigned long long)atomic_load(&v->resync.copied));
    return 0;
}

/* Not more than the rate, but a chunk at a time all the same. */
static bool
is_too_early(struct lsvd_volume *v)
{
    struct resync *s = &v->resync;
    uint64_t rate = v->config.resync_rate, now;

    if (rate == 0)
        return false;
    now = v->io->ops->now_ns(v->io);
    return (double)atomic_load(&s->bytes_done) >
           (double)rate * ((double)(now - s->began_ns) / 1e9);
}

bool
resync_step(struct lsvd_volume *v)
{
    struct resync *s = &v->resync;
    uint64_t chunk;
    int r = 0;

    if (!s->is_active)
        return resync_adopt(v);
    if (is_too_early(v))
        return false;
    v->failed = 0;
    chunk = next_lacking(v, s->slot, s->cursor);
    if (chunk) {
        r = copy_chunk(v, s->slot, chunk);
        if (r == 0)
            s->cursor = chunk + 1;
    } else if (s->copied_in_pass > 0) {
        s->copied_in_pass = 0;
        s->cursor = 1;
    } else {
        r = promote(v, s->slot);
    }
    if (r == -ENOMEM)
        return false; /* later */
    if (r < 0) {
        (void)part_failed(v, s->slot, r);
        resync_give_up(v);
    }
    return true;
}
