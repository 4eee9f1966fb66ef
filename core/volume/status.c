/* status.c: how an open volume is doing, for programs that watch it. */
#include "target/guard.h"
#include "volume/volume.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static_assert(LSVD_LATENCY_BUCKETS == GUARD_LATENCY_BUCKETS,
              "one histogram, told twice");

const char *
lsvd_health_text(enum lsvd_health health)
{
    switch (health) {
    case LSVD_HEALTHY:
        return "healthy";
    case LSVD_DEGRADED:
        return "degraded";
    case LSVD_STALLED:
        return "stalled";
    case LSVD_READ_ONLY:
        return "read-only";
    case LSVD_FAILED:
        return "failed";
    case LSVD_FENCED:
        return "fenced";
    }
    return "unknown";
}

static void
fill_latency(const struct guard_latency *from, struct lsvd_latency *to)
{
    to->count = from->count;
    to->sum_ns = from->sum_ns;
    memcpy(to->bucket, from->bucket, sizeof to->bucket);
}

/* Chunks that have changed since the part was in sync. Zero for one whose
 * files nobody has looked at yet: then its history is not known. */
static uint64_t
missed_chunks(struct lsvd_volume *v, const struct view *view, uint32_t slot)
{
    uint64_t count = 0;

    for (uint64_t c = next_known_chunk(v, 1); c;
         c = next_known_chunk(v, c + 1))
        count += chunk_truth(v, c).seq > view->absent[slot].ckpt;
    return count;
}

static void
fill_lag(struct lsvd_volume *v, const struct view *view, uint32_t slot,
         struct lsvd_part_status *ret)
{
    uint64_t done = atomic_load(&v->resync.chunks_done);
    uint64_t total = atomic_load(&v->resync.chunks_total);

    if (view->members & UINT32_C(1) << slot)
        return;
    if (ret->state == LSVD_PART_SYNCING)
        ret->lag_chunks = total > done ? total - done : 0;
    else
        ret->lag_chunks = missed_chunks(v, view, slot);
    ret->lag_bytes = ret->lag_chunks * geometry_file_bytes(&v->g, slot);
}

/* Caller holds state_lock: the part may be let go, or come back. */
static void
fill_part_locked(struct lsvd_volume *v, uint32_t slot,
                 struct lsvd_part_status *ret)
{
    struct part *p = &v->part[slot];
    struct guard_stats stats;

    ret->letter = p->letter;
    ret->state = p->state;
    ret->errors = atomic_load(&p->errors);
    if (p->dir) {
        snprintf(ret->directory, sizeof ret->directory, "%s", p->dir->path);
        (void)guard_stats(p->dir, &stats);
        ret->abandoned = stats.abandoned;
        fill_latency(&stats.latency[GUARD_READ], &ret->read);
        fill_latency(&stats.latency[GUARD_WRITE], &ret->write);
        fill_latency(&stats.latency[GUARD_SYNC], &ret->sync);
    } else {
        part_path(&v->meta, slot, ret->directory, sizeof ret->directory);
    }
    uuid_format(&v->meta.part[slot].instance, ret->instance);
    if (p->state != LSVD_PART_OK)
        snprintf(ret->problem, sizeof ret->problem, "%s", p->problem);
}

/* True: all of them are in sync. */
static bool
fill_parts(struct lsvd_volume *v, struct lsvd_status *ret)
{
    struct view view;
    bool all = true;

    volume_get_view(v, &view);
    ret->epoch = view.id.epoch;
    ret->view_minor = view.id.minor;
    ret->part_count = v->g.part_count;
    pthread_mutex_lock(&v->state_lock);
    for (uint32_t i = 0; i < v->g.part_count; i++)
        fill_part_locked(v, i, &ret->part[i]);
    pthread_mutex_unlock(&v->state_lock);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        fill_lag(v, &view, i, &ret->part[i]);
        all = all && ret->part[i].state == LSVD_PART_OK;
    }
    return all;
}

static void
fill_resync(struct lsvd_volume *v, struct lsvd_task_status *ret)
{
    struct resync *s = &v->resync;
    uint64_t now = v->io->ops->now_ns(v->io);

    pthread_mutex_lock(&v->state_lock);
    ret->active = s->is_active;
    if (ret->active) {
        ret->part = v->part[s->slot].letter;
        ret->seconds = (now - s->began_ns) / 1000000000;
    }
    pthread_mutex_unlock(&v->state_lock);
    ret->chunks_done = atomic_load(&s->chunks_done);
    ret->chunks_total = atomic_load(&s->chunks_total);
    ret->bytes_done = atomic_load(&s->bytes_done);
    ret->copied = atomic_load(&s->copied);
}

static void
fill_journal(struct lsvd_volume *v, struct lsvd_status *ret, bool *ret_failed)
{
    struct journal_space space = {0};

    if (v->journal)
        journal_space(v->journal, &space);
    ret->journal_bytes = v->meta.journal_bytes;
    ret->journal_used_bytes = space.used_bytes;
    ret->journal_only_bytes = space.live_blocks * v->g.block_bytes;
    ret->dirty_chunks = space.dirty_chunks;
    *ret_failed = space.failed;
}

static void
fill_counters(struct lsvd_volume *v, struct lsvd_status *ret)
{
    struct volume_counters *c = &v->count;

    volume_counters_get(v, &ret->counters);
    ret->views = atomic_load(&c->views);
    ret->evictions = atomic_load(&c->evictions);
    ret->returns = atomic_load(&c->returns);
    ret->resynced_chunks = atomic_load(&c->resynced_chunks);
    ret->resynced_bytes = atomic_load(&c->resynced_bytes);
    ret->hedged_reads = atomic_load(&c->hedged_reads);
    ret->late_reads = atomic_load(&c->late_reads);
    ret->stalled_requests = atomic_load(&c->stalled_requests);
    ret->stalled_ns = atomic_load(&c->stalled_ns);
}

/* What of all that is wrong is worst, in one line. */
static void
fill_problem(struct lsvd_status *ret)
{
    uint32_t away = 0, first = 0;

    for (uint32_t i = ret->part_count; i-- > 0;) {
        if (ret->part[i].state != LSVD_PART_OK) {
            away++;
            first = i;
        }
    }
    if (ret->health == LSVD_FAILED)
        snprintf(ret->problem, sizeof ret->problem,
                 "the journal is lost: %llu bytes are not on the parts",
                 (unsigned long long)ret->journal_only_bytes);
    else if (away > 0)
        snprintf(ret->problem, sizeof ret->problem,
                 "%u of %u parts are not in sync; part %c is %s%s%.160s", away,
                 ret->part_count, ret->part[first].letter,
                 lsvd_part_state_text(ret->part[first].state),
                 ret->part[first].problem[0] ? ": " : "",
                 ret->part[first].problem);
    else if (ret->health == LSVD_STALLED)
        snprintf(ret->problem, sizeof ret->problem,
                 "nothing can be moved from the journal to the parts");
}

static enum lsvd_health
health(struct lsvd_volume *v, bool journal_failed, bool all, bool writable)
{
    if (journal_failed)
        return LSVD_FAILED;
    if (atomic_load(&v->destage_error) == -EIO)
        return LSVD_STALLED;
    if (!all && (writable || v->client_read_only))
        return LSVD_DEGRADED;
    return writable ? LSVD_HEALTHY : LSVD_READ_ONLY;
}

void
lsvd_get_status(struct lsvd_volume *v, struct lsvd_status *ret)
{
    bool all, failed;

    memset(ret, 0, sizeof *ret);
    memcpy(ret->name, v->meta.name, sizeof ret->name);
    uuid_format(&v->meta.uuid, ret->uuid);
    ret->writable = lsvd_can_write(v);
    ret->uptime_seconds = (v->io->ops->now_ns(v->io) - v->opened_ns) /
                          1000000000;
    fill_journal(v, ret, &failed);
    all = fill_parts(v, ret);
    fill_resync(v, &ret->resync);
    fill_counters(v, ret);
    ret->health = health(v, failed, all, ret->writable);
    ret->healthy = all && ret->health == LSVD_HEALTHY;
    fill_problem(ret);
}
