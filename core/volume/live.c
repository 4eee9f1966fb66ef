/* live.c: verify, rebuild and replace of a volume that is being served, for the
 * control socket: the same work as that of the tools, a step at a time between
 * the rounds of the destage thread (V3). Nobody else reads beside a server, so
 * there are no false alarms. */
#include "base/err.h"
#include "base/wait.h"
#include "volume/resync.h"
#include "volume/verify.h"
#include "volume/watch.h"
#include <stdio.h>
#include <string.h>

#define POLL_MS 200

int
volume_reserve(struct lsvd_volume *v)
{
    if (atomic_exchange(&v->in_repair, true))
        return err_set(-EBUSY, "volume %s is being verified, repaired, "
                       "flattened or deduped, or a snapshot of it made or "
                       "removed: wait for that to end", v->meta.name);
    return 0;
}

void
volume_release(struct lsvd_volume *v)
{
    atomic_store(&v->in_repair, false);
}

static int
begin(struct lsvd_volume *v)
{
    if (!v->attached)
        return err_set(-EROFS, "volume %s is served read-only: stop the server "
                       "first", v->meta.name);
    return volume_reserve(v);
}

static int
check(struct lsvd_volume *v, bool full, const struct lsvd_repair_callbacks *cb,
      struct lsvd_report *ret)
{
    struct verify y = {.v = v, .cb = cb, .report = ret, .live = true};
    uint64_t rebuilt = ret->rebuilt;
    int r;

    memset(ret, 0, sizeof *ret);
    ret->full = full;
    ret->rebuilt = rebuilt;
    r = verify_volume(&y);
    if (r == 0)
        r = verify_settles_loss(&y);
    ret->beside_server = true;
    return r;
}

int
lsvd_live_verify(struct lsvd_volume *v, bool full,
                 const struct lsvd_repair_callbacks *cb,
                 struct lsvd_report *ret)
{
    int r;

    memset(ret, 0, sizeof *ret);
    r = begin(v);
    if (r < 0)
        return r;
    r = check(v, full, cb, ret);
    volume_release(v);
    return r;
}

static int
check_letter(struct lsvd_volume *v, char part)
{
    if (part >= 'a' && (uint32_t)(part - 'a') < v->g.part_count)
        return 0;
    return err_set(-EINVAL, "volume %s has no part %c", v->meta.name, part);
}

/* Let the threads go on, or do their work if there are none. */
static void
wait_a_moment(struct lsvd_volume *v)
{
    if (!v->threaded) {
        lsvd_watch(v);
        (void)destage_batch(v);
        return;
    }
    pthread_mutex_lock(&v->state_lock);
    pthread_cond_signal(&v->work);
    wait_ms(&v->progress, &v->state_lock, POLL_MS);
    pthread_mutex_unlock(&v->state_lock);
}

/* Until the part, which was offered, is in sync. Whoever stops waiting does not
 * stop that. */
static int
wait_in_sync(struct verify *y, uint32_t slot)
{
    struct lsvd_volume *v = y->v;
    struct resync *s = &v->resync;

    while (!(v->usable & UINT32_C(1) << slot)) {
        if (atomic_load(&v->stopping) || atomic_load(&v->hurried) ||
            atomic_load(&v->fenced))
            return err_set(-ESHUTDOWN, "volume %s: the server ends",
                           v->meta.name);
        if (atomic_load(&v->journal_lost)) /* no view can be recorded */
            return err_set(-EIO, "volume %s: its journal has failed; part %c "
                           "can't be taken in before the next start",
                           v->meta.name, (char)('a' + slot));
        if (!resync_has(v, slot)) {
            char problem[256];

            pthread_mutex_lock(&v->state_lock);
            snprintf(problem, sizeof problem, "%s", v->part[slot].problem);
            pthread_mutex_unlock(&v->state_lock);
            if (!(v->usable & UINT32_C(1) << slot))
                return err_set(-EIO, "part %c: %s", (char)('a' + slot),
                               problem);
        }
        y->progress.chunks_done = atomic_load(&s->chunks_done);
        y->progress.chunks_total = atomic_load(&s->chunks_total);
        y->progress.bytes_done = atomic_load(&s->bytes_done);
        if (verify_progress(y))
            return err_set(-EINTR, "no longer waited for; the server goes on "
                           "filling part %c", (char)('a' + slot));
        wait_a_moment(v);
    }
    y->report->rebuilt += atomic_load(&s->copied);
    return 0;
}

/* Some chunks from *chunk on, in one step: *chunk is the next one then, or 0.
 */
static int
rebuild_some(struct verify *y, uint32_t slot, uint64_t *chunk)
{
    struct lsvd_volume *v = y->v;
    struct lease role;
    uint64_t lost;
    int r;

    r = verify_step_begin(y, &role);
    if (r < 0)
        return r;
    do {
        if (v->usable & UINT32_C(1) << slot) {
            r = fragment_rebuild(v, *chunk, slot, &lost);
            y->report->rebuilt += r > 0;
            r = verify_pass_over(y, r);
        }
        y->progress.chunks_done++;
        y->progress.bytes_done += v->g.chunk_bytes;
        *chunk = next_known_chunk(v, *chunk + 1);
    } while (r >= 0 && *chunk && !verify_step_is_over(y));
    verify_step_end(y, &role);
    if (r >= 0 && verify_progress(y))
        r = err_set(-EINTR, "interrupted; run it again to go on");
    return r < 0 ? r : 0;
}

static int
rebuild_part(struct verify *y, uint32_t slot)
{
    struct lsvd_volume *v = y->v;
    uint64_t chunk;
    int r = 0;

    if (!(v->usable & UINT32_C(1) << slot)) {
        policy_admit(v, slot);
        if (!resync_has(v, slot))
            watch_for(v, slot);
        return wait_in_sync(y, slot);
    }
    chunk = next_known_chunk(v, 1);
    while (r == 0 && chunk)
        r = rebuild_some(y, slot, &chunk);
    return r;
}

int
lsvd_live_rebuild(struct lsvd_volume *v, char part,
                  const struct lsvd_repair_callbacks *cb,
                  struct lsvd_report *ret)
{
    struct verify y = {.v = v, .cb = cb, .report = ret, .live = true};
    int r;

    memset(ret, 0, sizeof *ret);
    r = part ? check_letter(v, part) : 0;
    if (r == 0)
        r = begin(v);
    if (r < 0)
        return r;
    y.progress.chunks_total = count_present_chunks(v) *
                              (part ? 1 : v->g.part_count);
    for (uint32_t i = 0; i < v->g.part_count && r != -EINTR; i++) {
        if (part && i != (uint32_t)(part - 'a'))
            continue;
        r = rebuild_part(&y, i);
        verify_note(&y, r);
    }
    if (r != -EINTR)
        r = check(v, true, cb, ret);
    if (r == 0 && y.failed < 0)
        log_event(&v->log, LOG_ERROR_LEVEL, "%s", y.problem);
    volume_release(v);
    return r;
}

/* The role's. */
static int
replace(struct lsvd_volume *v, uint32_t slot, const char *new_root)
{
    struct part *p = &v->part[slot];
    char root[PATH_TEXT_MAX];
    int r;

    snprintf(root, sizeof root, "%s", new_root ? new_root
                                               : v->meta.part[slot].root);
    r = repair_check_sources(v, slot);
    if (r == 0 && p->state == LSVD_PART_OK &&
        strcmp(root, v->meta.part[slot].root) == 0)
        r = err_set(-EEXIST,
                    "volume %s: part %c is healthy (%s); nothing to replace",
                    v->meta.name, p->letter, root);
    if (r == 0)
        r = repair_blank_part(v, slot, root);
    if (r == 0)
        event_note(v, LOG_WARNING_LEVEL, "replace", p->letter,
                   "part %c is made anew in %s", p->letter, root);
    return r;
}

int
lsvd_live_replace(struct lsvd_volume *v, char part, const char *new_root,
                  const struct lsvd_repair_callbacks *cb,
                  struct lsvd_report *ret)
{
    struct verify y = {.v = v, .cb = cb, .report = ret, .live = true};
    uint32_t slot = (uint32_t)(part - 'a');
    struct lease role;
    int r;

    memset(ret, 0, sizeof *ret);
    r = check_letter(v, part);
    if (r == 0)
        r = begin(v);
    if (r < 0)
        return r;
    r = role_get(v, &role);
    if (r == 0) {
        r = replace(v, slot, new_root);
        role_put(v, &role);
    }
    if (r == 0)
        r = wait_in_sync(&y, slot);
    if (r == 0)
        r = check(v, true, cb, ret);
    volume_release(v);
    return r;
}
