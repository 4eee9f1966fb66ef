/* close.c: all that the journal holds goes to the parts, and the volume is let
 * go (faults.md O7): destage all -> view with the journal detached, labels
 * clean. For what is promised on the way see open.c. */
#include "base/err.h"
#include "target/guard.h"
#include "target/mirror.h"
#include "volume/borrow.h"
#include "volume/read_cache.h"
#include "volume/scrub.h"
#include "volume/snapshot.h"
#include "volume/volume.h"
#include <stdio.h>
#include <string.h>

#define HURRIED_DRAIN_NS UINT64_C(3000000000)

static void hurry(struct lsvd_volume *v, bool ends);

static void
hurry_needed(struct lsvd_volume *v, bool ends)
{
    if (v && (ends || v->borrowers == 0)) /* the others are in no hurry */
        hurry(v, ends);
}

/* ends: the whole server does, and not v alone. */
static void
hurry(struct lsvd_volume *v, bool ends)
{
    pthread_mutex_lock(&v->state_lock); /* it may be let go (flatten.c) */
    hurry_needed(v->parent, ends);
    for (uint32_t i = 0; i < atomic_load(&v->source_count); i++)
        hurry_needed(v->source[i].volume, ends);
    pthread_mutex_unlock(&v->state_lock);
    if (v->world.guard)
        guard_set_deadline(v->world.guard, HURRIED_DEADLINE_MS);
    if (v->world.read_guard)
        guard_set_deadline(v->world.read_guard, HURRIED_DEADLINE_MS);
    if (v->mirror)
        mirror_set_patience(v->mirror, HURRIED_DEADLINE_MS);
    for (size_t i = 0; v->mirror && v->config.cache[i]; i++) {
        /* one that is being filled, or only looked at */
        if (v->world.copy_guard[i] &&
            !mirror_is_in(v->mirror, v->config.cache[i]))
            guard_set_deadline(v->world.copy_guard[i], HURRIED_DEADLINE_MS);
    }
    pthread_mutex_lock(&v->state_lock);
    if (!atomic_load(&v->hurried))
        v->hurried_ns = v->io->ops->now_ns(v->io);
    atomic_store(&v->hurried, true);
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
}

void
lsvd_hurry(struct lsvd_volume *v)
{
    hurry(v, true);
}

/* Whoever stops a server may wait so long for what is in the journal. */
static bool
is_late(struct lsvd_volume *v)
{
    return atomic_load(&v->hurried) &&
           v->io->ops->now_ns(v->io) - v->hurried_ns > HURRIED_DRAIN_NS;
}

/* Destage everything that the journal holds. */
int
volume_drain(struct lsvd_volume *v)
{
    struct journal_space space;
    int r;

    for (;;) {
        journal_space(v->journal, &space);
        if (space.dirty_chunks == 0 && !v->batch &&
            atomic_load(&v->bypass.count) == 0)
            return 0;
        if (is_late(v))
            return err_set(-ETIMEDOUT, "volume %s: there was no time to move "
                           "all that the journal holds", v->meta.name);
        r = destage_batch(v);
        if (r < 0)
            return r;
        if (r == 0)
            return err_set(-EIO, "volume %s: the journal does not empty",
                           v->meta.name);
    }
}

/* After a drain all members have what one of them has; their labels say so
 * before the last view is begun, because without the journal only they tell an
 * old copy from a member. */
static int
level_checkpoints(struct lsvd_volume *v)
{
    for (;;) {
        uint64_t newest = 0, oldest = UINT64_MAX;
        uint32_t failed;
        int r;

        for (uint32_t i = 0; i < v->g.part_count; i++) {
            uint64_t ckpt = v->part[i].label.ckpt;

            if (!(v->usable & UINT32_C(1) << i))
                continue;
            newest = ckpt > newest ? ckpt : newest;
            oldest = ckpt < oldest ? ckpt : oldest;
        }
        if (oldest >= newest)
            return 0;
        v->failed = 0;
        r = volume_labels_checkpoint(v, newest);
        failed = v->failed & v->usable;
        v->failed = 0;
        if (r < 0 && failed)
            r = volume_drop(v, failed);
        if (r < 0)
            return r;
    }
}

/* The next start would take the newest policy, and so it does no harm if this
 * fails; but until then verify would find an old one. */
static void
store_missed_policies(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->behind & v->usable & UINT32_C(1) << i &&
            volume_store_part_meta(v, i) < 0)
            log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: part %c: its "
                      "copy of the policy is not up to date: %s", v->meta.name,
                      v->part[i].letter, err_text());
    }
    v->behind = 0;
}

/* O7: only then may another host open without this journal. */
int
volume_detach(struct lsvd_volume *v)
{
    struct view next;
    struct view_id id;
    int r;

    r = volume_drain(v);
    if (r == 0)
        r = level_checkpoints(v);
    if (r < 0)
        return r;
    store_missed_policies(v);
    next = v->view;
    id = next.id;
    id.minor++;
    view_advance(&next, &id);
    memset(&next.journal, 0, sizeof next.journal);
    r = volume_install_view(v, &next, 0, true);
    if (r < 0)
        return r;
    v->attached = false;
    /* A member may have failed just now: the next start must not need it. */
    return v->view.complete_members == v->view.members
               ? 0
               : volume_complete_view(v, true);
}

int
lsvd_close(struct lsvd_volume *v)
{
    char text[256];
    int r = 0;

    destage_stop(v);
    scrub_end(v);
    if (v->attached)
        r = volume_check_fenced(v);
    if (v->attached && r == 0) {
        r = volume_detach(v);
        if (r == 0 && v->meta.successor) /* read-only for ever */
            snapshot_drop_journal(v);
    }
    snprintf(text, sizeof text, "%s", err_text());
    snapshot_end(v);
    read_cache_store(v);
    volume_log_counters(v);
    if (r < 0)
        r = err_set(r,
                    "volume %s: not everything could be moved to its parts; "
                    "it is safe in the journal: %s",
                    v->meta.name, text);
    volume_free(v);
    return r;
}

void
lsvd_abandon(struct lsvd_volume *v)
{
    if (borrow_give_back(v))
        return;
    destage_stop(v);
    volume_free(v);
}

void
volume_let_go(struct lsvd_volume *v)
{
    if (borrow_give_back(v))
        return;
    hurry(v, false);
    lsvd_abandon(v);
}

int
volume_close_after(struct lsvd_volume *v, int r)
{
    char text[LSVD_TEXT_BYTES];
    int closed;

    snprintf(text, sizeof text, "%s", err_text());
    closed = lsvd_close(v);
    return r < 0 ? err_set(r, "%s", text) : closed;
}
