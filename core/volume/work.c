/* work.c: what happens in the background, and who does it: the destage thread,
 * or whoever has the role for a moment (V3).
 *
 * A round: parts that failed or do not answer are dropped -> a batch is
 * destaged -> a damaged file is healed -> a part, or a copy of the journal,
 * that came back is filled a little. Writers that wait for space are told how
 * each round ended. Between rounds that have nothing to do the scrub goes on.
 */
#include "base/err.h"
#include "base/wait.h"
#include "target/guard.h"
#include "target/mirror.h"
#include "volume/bypass.h"
#include "volume/journal_refill.h"
#include "volume/read_cache.h"
#include "volume/resync.h"
#include "volume/volume.h"
#include "volume/watch.h"
#include <stdio.h>
#include <string.h>

#define TICK_MS 250
#define TICK_NS UINT64_C(250000000)
#define HOLD_NS UINT64_C(2000000000)
#define AGE_NS UINT64_C(5000000000) /* by then the oldest record is destaged */
/* The longer blocks stay in the journal, the more of them go to a chunk at
 * once, and the more are overwritten before. Between the two is what a burst
 * brings without being disturbed. */
#define FILL_DUE (FILL_FULL / 2)
#define FILL_ENOUGH (FILL_FULL * 3 / 8)
/* While batches follow each other, of each one's time for all else: without it
 * a part that came back would wait until clients pause. */
#define TENDING(ns) ((ns) / 2)

void
volume_heal_tried(struct lsvd_volume *v, uint64_t chunk, uint32_t slot)
{
    pthread_mutex_lock(&v->state_lock);
    for (size_t i = 0; i < v->heal_count; i++) {
        if (v->heal[i].chunk == chunk && v->heal[i].slot == slot) {
            v->heal[i] = v->heal[--v->heal_count];
            break;
        }
    }
    pthread_mutex_unlock(&v->state_lock);
}

/* Files that gave wrong bytes, one a call. It stays in the queue until it was
 * tried, so that what the attempt itself meets does not queue it again: one
 * that can't be healed would come back for ever. */
static bool
heal_one(struct lsvd_volume *v)
{
    struct heal heal;
    uint64_t lost = 0;
    int r;

    pthread_mutex_lock(&v->state_lock);
    if (v->heal_count == 0) {
        v->heal_fails = false;
        pthread_mutex_unlock(&v->state_lock);
        return false;
    }
    heal = v->heal[v->heal_count - 1];
    pthread_mutex_unlock(&v->state_lock);
    if (!bypass_bar_opening(v, heal.chunk)) /* when it is closed */
        return false;
    r = v->usable & UINT32_C(1) << heal.slot
            ? fragment_rebuild(v, heal.chunk, heal.slot, &lost)
            : 0;
    bypass_unbar(v);
    v->heal_fails = r < 0;
    volume_heal_tried(v, heal.chunk, heal.slot);
    if (r < 0)
        part_complain(v, heal.slot,
                      "chunk %llu of part %c could not be healed: %s",
                      (unsigned long long)heal.chunk,
                      v->part[heal.slot].letter, err_text());
    else if (r > 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: chunk %llu of part %c healed", v->meta.name,
                  (unsigned long long)heal.chunk, v->part[heal.slot].letter);
    return true;
}

/* Something of what clients wait for less than for a batch: healing, filling a
 * part or a copy of the journal. */
static bool
tend_once(struct lsvd_volume *v)
{
    bool worked = heal_one(v);

    worked = resync_step(v) || worked;
    return refill_step(v) || worked;
}

/* Once, and on until so much time has gone. */
static bool
tend_for(struct lsvd_volume *v, uint64_t ns)
{
    uint64_t begin = v->io->ops->now_ns(v->io);
    bool worked = tend_once(v), again = worked && ns > 0;

    v->tended_ns = 0;
    while (again) {
        v->tended_ns = v->io->ops->now_ns(v->io) - begin;
        pthread_mutex_lock(&v->state_lock);
        /* two that can't be healed queue each other */
        again = v->tended_ns < ns && v->gone == 0 && !v->heal_fails;
        pthread_mutex_unlock(&v->state_lock);
        again = again && !atomic_load(&v->stopping) &&
                journal_is_settled(v) && tend_once(v);
    }
    return worked;
}

/* Tell the waiting writers how it ended. blocks: how many were moved. */
static void
report(struct lsvd_volume *v, int r, uint64_t blocks, uint64_t begin_ns)
{
    uint64_t now = v->io->ops->now_ns(v->io);
    char text[512];
    int before;

    snprintf(text, sizeof text, "%s", err_text());
    pthread_mutex_lock(&v->state_lock);
    before = atomic_load(&v->destage_error);
    atomic_store(&v->destage_error,
                 r < 0 ? (r == -ENOSPC ? r : -EIO) : 0);
    if (r < 0 && before == 0)
        v->stalled_since = now > 0 ? now : 1;
    if (r >= 0)
        v->stalled_since = 0;
    if (r >= 0 && blocks > 0)
        throttle_note(&v->throttle, blocks, now - begin_ns + v->tended_ns);
    v->destage_rounds++;
    v->free_checked_at = 0;
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
    if (r < 0 && before == 0)
        event_note(v, LOG_ERROR_LEVEL, "stall", 0,
                   "destage: %s; the data is safe in the journal; until it "
                   "works again writes %s",
                   text,
                   r == -ENOSPC ? "get ENOSPC"
                                : "go on while the journal has room, then "
                                  "wait, then get EIO");
    if (r >= 0 && before < 0)
        event_note(v, LOG_WARNING_LEVEL, "stall", 0, "destage works again");
}

/* Those of which somebody said that they are not there. */
static uint32_t
take_gone(struct lsvd_volume *v)
{
    uint32_t gone;

    pthread_mutex_lock(&v->state_lock);
    gone = v->gone & v->usable;
    v->gone = 0;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        if (!(gone & UINT32_C(1) << i))
            continue;
        p->failure = p->absence;
        memcpy(p->failure_text, p->absence_text, sizeof p->failure_text);
    }
    pthread_mutex_unlock(&v->state_lock);
    return gone;
}

static int
drop_gone(struct lsvd_volume *v)
{
    uint32_t gone = take_gone(v);

    return gone ? volume_drop(v, gone) : 0;
}

/* OW5. Nothing is written, no view either; but parts that do not answer are let
 * go, so that the watch can find them anew. */
static void
let_go_of_gone(struct lsvd_volume *v)
{
    uint32_t gone = take_gone(v);

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        uint32_t bit = UINT32_C(1) << i;

        if ((gone & bit) && parts_are_gone(v, bit))
            part_lost(v, bit);
    }
}

/* Those that the configuration does not want any more (PO3), as long as enough
 * are left. */
static int
drop_unwanted(struct lsvd_volume *v)
{
    uint32_t unwanted;
    int r = 0;

    pthread_mutex_lock(&v->state_lock);
    unwanted = v->unwanted & v->usable;
    v->unwanted = 0;
    pthread_mutex_unlock(&v->state_lock);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        uint32_t bit = UINT32_C(1) << i;
        struct part *p = &v->part[i];

        if (!(unwanted & bit & v->usable) ||
            !volume_may_be_members(v, v->view.members & v->usable & ~bit))
            continue;
        pthread_mutex_lock(&v->state_lock);
        p->failure = -EIO;
        memcpy(p->failure_text, p->unwanted_text, sizeof p->unwanted_text);
        p->off_until_ns = v->io->ops->now_ns(v->io) + POLICY_AWAY_NS;
        pthread_mutex_unlock(&v->state_lock);
        r = volume_drop(v, bit);
    }
    return r;
}

int
parts_settle(struct lsvd_volume *v)
{
    int r = drop_gone(v);

    if (r == 0 && (v->view.members & ~v->usable))
        r = volume_drop(v, 0);
    if (r == 0)
        r = volume_settle_view(v);
    if (r == 0)
        r = drop_unwanted(v);
    return r;
}

/* Up to which chunk that is open for writes past the journal? They hold its
 * tail. The simulator sees batches beside such chunks and without. */
static uint64_t
close_up_to(struct lsvd_volume *v)
{
    uint64_t asked;
    bool is_short;

    pthread_mutex_lock(&v->state_lock);
    is_short = v->space_waiters > 0;
    asked = v->bypass.asked;
    pthread_mutex_unlock(&v->state_lock);
    return is_short || space_fill(v) > FILL_DUE ||
                   (!v->threaded && v->turn++ % 2)
               ? BYPASS_ALL
               : asked;
}

/* The batch first: what can't be healed must not keep writers waiting. They
 * are told also if there was nothing to do: the journal may have been emptied
 * between their attempt and their waiting. */
static int
destage_round(struct lsvd_volume *v, bool move)
{
    uint64_t begin, took, blocks = 0;
    bool moved, closed;
    int r, closing;

    closing = bypass_close(v, close_up_to(v), &closed);
    r = parts_settle(v);
    begin = v->io->ops->now_ns(v->io); /* what went before is no pace */
    if (r == 0 && (move || v->batch))
        r = batch_prepare(v);
    moved = r > 0;
    if (moved) {
        blocks = batch_blocks(v);
        r = batch_run(v);
        if (r < 0)
            r = journal_failed(v, r);
    }
    took = v->io->ops->now_ns(v->io) - begin;
    report(v, r >= 0 && closing < 0 ? closing : r, blocks, begin);
    if (r >= 0 && moved)
        batch_took(v, took);
    atomic_store(&v->retries, r < 0 && v->batch);
    if (r < 0) {
        (void)resync_adopt(v); /* perhaps the one that is missing */
        return r;
    }
    batch_free(v);
    if (tend_for(v, moved ? TENDING(took) : 0) || moved || closed)
        return 1;
    return closing;
}

static int
take_turn(struct lsvd_volume *v, bool move)
{
    struct lease lease;
    int r;

    if (!v->attached)
        return 0;
    lease_get(&v->role, &lease, 0, 1, true);
    r = volume_check_ours(v);
    if (r == 0) {
        r = destage_round(v, move);
    } else if (r != -ESHUTDOWN) {
        let_go_of_gone(v);
        if (atomic_load(&v->is_silent))
            report(v, err_set(r, "no part is heard of"), 0, 0);
    }
    lease_put(&v->role, &lease);
    return r;
}

int
destage_batch(struct lsvd_volume *v)
{
    return take_turn(v, true);
}

int
role_get(struct lsvd_volume *v, struct lease *lease)
{
    int r;

    lease_get(&v->role, lease, 0, 1, true);
    r = volume_check_ours(v);
    if (r == 0 && !v->batch && bypass_bar(v) == 0)
        return 0;
    lease_put(&v->role, lease);
    if (r < 0)
        return r;
    return err_set(-EIO, "volume %s can't be checked or changed now: its "
                   "journal can't be moved to the parts", v->meta.name);
}

void
role_put(struct lsvd_volume *v, struct lease *lease)
{
    bypass_unbar(v);
    lease_put(&v->role, lease);
}

int
destage_hold(struct lsvd_volume *v)
{
    struct lease role;
    int r;

    atomic_store(&v->held_until_ns, v->io->ops->now_ns(v->io) + HOLD_NS);
    r = role_get(v, &role);
    if (r == 0)
        role_put(v, &role);
    else
        destage_go_on(v);
    return r;
}

void
destage_go_on(struct lsvd_volume *v)
{
    atomic_store(&v->held_until_ns, 0);
}

int
lsvd_destage_step(struct lsvd_volume *v)
{
    return destage_batch(v);
}

static bool
is_held(struct lsvd_volume *v)
{
    uint64_t until = atomic_load(&v->held_until_ns);

    return until > 0 && v->io->ops->now_ns(v->io) < until;
}

/* When the destage thread looked at the journal, and what was its newest. */
struct look {
    uint64_t at_ns, seq;
};

/* Once a tick: true; and was nothing appended since the last time? */
static bool
look_again(struct lsvd_volume *v, struct look *look,
           const struct journal_space *now, bool *ret_quiet)
{
    uint64_t now_ns = v->io->ops->now_ns(v->io);

    if (now_ns - look->at_ns < TICK_NS)
        return false;
    *ret_quiet = now->last_seq == look->seq;
    *look = (struct look){now_ns, now->last_seq};
    return true;
}

/* What it knows of the journal between its rounds. */
struct due {
    struct look moved, open;
    uint64_t since_ns; /* what waits to be moved was seen first; 0: nothing */
};

/* Is it time to move something? Not while blocks are still being rewritten
 * in the journal, unless it fills up or they get old; also not when the thread
 * comes by every few milliseconds because it fills a part. */
static bool
is_due(struct lsvd_volume *v, struct due *due)
{
    uint64_t now_ns = v->io->ops->now_ns(v->io);
    struct journal_space now;
    bool quiet;

    journal_space(v->journal, &now);
    if (now.dirty_chunks == 0)
        due->since_ns = 0;
    else if (due->since_ns == 0)
        due->since_ns = now_ns;
    if (now.dirty_chunks == 0 || space_fill(v) > FILL_DUE)
        return now.dirty_chunks > 0;
    return look_again(v, &due->moved, &now, &quiet) &&
           (quiet || now_ns - due->since_ns >= AGE_NS);
}

/* The same for chunks that are open for writes past the journal: those that are
 * old, and all when nothing was written for a tick. */
static void
look_at_open(struct lsvd_volume *v, struct due *due)
{
    struct journal_space now;
    bool quiet;

    journal_space(v->journal, &now);
    if (look_again(v, &due->open, &now, &quiet))
        bypass_look_for_old(v, quiet);
}

/* Batches until there is room again, or one fails: what the last one returned.
 * One, if it is to hold still. */
static int
destage_rounds(struct lsvd_volume *v)
{
    int r;

    do
        r = destage_batch(v);
    while (r > 0 && space_fill(v) > FILL_ENOUGH &&
           !atomic_load(&v->stopping) && !is_held(v));
    return r;
}

/* Is there something to do besides what is_due knows? */
static bool
is_asked_locked(struct lsvd_volume *v)
{
    bool offered = v->resync.is_active;

    for (uint32_t i = 0; i < v->g.part_count; i++)
        offered |= v->resync.offered[i] != NULL;
    return v->space_waiters > 0 || (v->heal_count > 0 && !v->heal_fails) ||
           v->gone != 0 || v->unwanted != 0 || offered ||
           refill_is_asked_locked(v);
}

/* A copy of the journal was lost: clients wait for this. */
static void
settle_copies(struct lsvd_volume *v)
{
    struct lease lease;
    int r;

    if (journal_is_settled(v))
        return;
    lease_get(&v->role, &lease, 0, 1, true);
    r = journal_settle(v);
    lease_put(&v->role, &lease);
    if (r == 0)
        return;
    log_event(&v->log, LOG_ERROR_LEVEL, "volume %s: %s", v->meta.name,
              err_text());
    pthread_mutex_lock(&v->state_lock);
    wait_ms(&v->progress, &v->state_lock, TICK_MS);
    pthread_mutex_unlock(&v->state_lock);
}

/* A tick, or until somebody asks for something. The scrub may use what of it
 * nobody else needs. */
static void
rest_locked(struct lsvd_volume *v)
{
    uint64_t now = v->io->ops->now_ns(v->io), end = now + TICK_NS;
    bool asked = is_asked_locked(v); /* and it did not work, or is too early */

    while (!asked && now < end) {
        uint64_t wait = scrub_wait_ns_locked(v);

        if (wait >= end - now)
            break;
        if (wait > 0) {
            wait_ms(&v->work, &v->state_lock, (unsigned)(wait / 1000000) + 1);
        } else {
            pthread_mutex_unlock(&v->state_lock);
            (void)scrub_step(v);
            pthread_mutex_lock(&v->state_lock);
        }
        if (atomic_load(&v->stopping) || !journal_is_settled(v) ||
            is_asked_locked(v))
            return;
        now = v->io->ops->now_ns(v->io);
    }
    if (now < end)
        wait_ms(&v->work, &v->state_lock,
                (unsigned)((end - now) / 1000000) + 1);
}

static uint64_t
requests(const struct lsvd_volume *v)
{
    return atomic_load(&v->count.reads) + atomic_load(&v->count.writes);
}

/* Without a batch. While clients are at work it gets half of the time. 1: did
 * something. */
static int
tend(struct lsvd_volume *v)
{
    uint64_t before = requests(v), begin = v->io->ops->now_ns(v->io), took;
    int r = take_turn(v, false);

    took = v->io->ops->now_ns(v->io) - begin;
    if (r > 0 && requests(v) != before) {
        pthread_mutex_lock(&v->state_lock);
        if (!atomic_load(&v->stopping) && v->space_waiters == 0 &&
            v->gone == 0 && journal_is_settled(v))
            wait_ms(&v->work, &v->state_lock,
                    took < TICK_NS ? (unsigned)(took / 1000000) + 1 : TICK_MS);
        pthread_mutex_unlock(&v->state_lock);
    }
    return r;
}

/* How the last round of the thread ended. */
struct ended {
    bool idle;  /* there was nothing to do, or it could not be done */
    bool stuck; /* a chunk that is open can't be closed now */
};

/* What did not work, or was too early, is not tried at once again. */
static bool
may_rest_locked(struct lsvd_volume *v, const struct ended *last)
{
    if (!journal_is_settled(v) ||
        (!last->stuck && bypass_is_asked_locked(v)))
        return false;
    return !is_asked_locked(v) ||
           (last->idle && (v->space_waiters == 0 ||
                           atomic_load(&v->destage_error) != 0));
}

static void *
destage_thread(void *arg)
{
    struct lsvd_volume *v = arg;
    struct ended last = {.idle = true};
    struct due due = {0};

    scrub_begin(v);
    pthread_mutex_lock(&v->state_lock);
    while (!atomic_load(&v->stopping)) {
        bool move, asked, close;

        if (may_rest_locked(v, &last))
            rest_locked(v);
        if (atomic_load(&v->stopping))
            break;
        /* what failed is over when a round ends well, also one without work */
        move = last.stuck || v->space_waiters > 0 ||
               atomic_load(&v->destage_error) != 0;
        asked = is_asked_locked(v) || v->heal_count > 0;
        close = bypass_is_asked_locked(v);
        pthread_mutex_unlock(&v->state_lock);
        settle_copies(v);
        last = (struct ended){true, close && bypass_round(v) < 0};
        look_at_open(v, &due);
        if (move || atomic_load(&v->retries) ||
            (!is_held(v) && is_due(v, &due))) {
            last.idle = destage_rounds(v) <= 0;
            due.since_ns = 0;
        } else if (asked) {
            last.idle = tend(v) <= 0;
        }
        pthread_mutex_lock(&v->state_lock);
    }
    pthread_mutex_unlock(&v->state_lock);
    return NULL;
}

int
lsvd_start(struct lsvd_volume *v)
{
    struct journal_space now;
    int r;

    read_cache_start(v);
    if (!v->attached)
        return 0;
    journal_space(v->journal, &now);
    throttle_begin(&v->throttle, now.ring_bytes / v->g.block_bytes);
    parts_sign(v);
    if (v->mirror)
        mirror_start(v->mirror, v->world.timeout_ms);
    /* before there is a thread that looks at it */
    v->threaded = v->parallel = true;
    r = pthread_create(&v->thread, NULL, destage_thread, v);
    if (r != 0) {
        v->threaded = false;
        return err_set(-r, "volume %s: can't start a thread", v->meta.name);
    }
    return watch_start(v);
}

void
lsvd_watch(struct lsvd_volume *v)
{
    if (v->attached)
        watch_look(v);
}

void
lsvd_on_fenced(struct lsvd_volume *v, void (*cb)(void *ctx), void *ctx)
{
    v->on_fenced = cb;
    v->on_fenced_ctx = ctx;
}

void
destage_stop(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->state_lock);
    atomic_store(&v->stopping, true);
    pthread_cond_broadcast(&v->work);
    pthread_cond_broadcast(&v->progress);
    pthread_cond_broadcast(&v->watching);
    pthread_mutex_unlock(&v->state_lock);
    watch_stop(v);
    if (v->threaded)
        pthread_join(v->thread, NULL);
    v->threaded = false;
}
