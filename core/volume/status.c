/* status.c: how an open volume is doing, for programs that watch it. */
#include "target/guard.h"
#include "volume/journal_refill.h"
#include "volume/moment.h"
#include "volume/read_cache.h"
#include "volume/volume.h"
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
fill_latency(struct lsvd_latency *to, const struct guard_latency *from)
{
    to->count = from->count;
    to->sum_ns = from->sum_ns;
    memcpy(to->bucket, from->bucket, sizeof to->bucket);
}

/* What it is and where; its lease keeps that as it is. */
static void
fill_place(struct lsvd_volume *v, uint32_t slot, struct lsvd_part_status *ret)
{
    struct part *p = &v->part[slot];
    struct guard_stats stats = {0};
    struct lease lease;

    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    pthread_mutex_lock(&v->state_lock);
    ret->letter = (char)('a' + slot);
    ret->state = p->state;
    if (p->state != LSVD_PART_OK)
        snprintf(ret->problem, sizeof ret->problem, "%s", p->problem);
    uuid_format(&v->meta.part[slot].instance, ret->instance);
    part_path(&v->meta, slot, ret->directory, sizeof ret->directory);
    pthread_mutex_unlock(&v->state_lock);
    if (p->dir) {
        snprintf(ret->directory, sizeof ret->directory, "%s", p->dir->path);
        (void)guard_stats(p->dir, &stats);
    }
    lease_put(&v->part_leases, &lease);
    ret->slow = atomic_load(&p->slow);
    ret->failing = atomic_load(&p->failing);
    ret->abandoned = stats.abandoned;
    ret->errors = atomic_load(&p->errors) + stats.errors;
    fill_latency(&ret->read, &stats.latency[GUARD_READ]);
    fill_latency(&ret->write, &stats.latency[GUARD_WRITE]);
    fill_latency(&ret->sync, &stats.latency[GUARD_SYNC]);
}

/* A chunk that the part has not as the others have it: by its table while it
 * is being filled; else by how far it was when it was last heard of. */
static bool
lacks(struct lsvd_volume *v, uint32_t slot, uint64_t chunk, uint64_t ckpt)
{
    struct chunk_entry truth = chunk_truth(v, chunk);
    struct chunk_entry own = {.state = CHUNK_HOLE};
    bool known = false;

    pthread_mutex_lock(&v->table_lock);
    if (v->part[slot].table) {
        own = chunk_table_get(v->part[slot].table, chunk);
        known = true;
    }
    pthread_mutex_unlock(&v->table_lock);
    return known ? own.seq != truth.seq : truth.seq > ckpt;
}

static void
fill_lag(struct lsvd_volume *v, uint32_t slot, const struct view *view,
         uint64_t dirty_chunks, struct lsvd_part_status *ret)
{
    uint64_t ckpt = view->members & UINT32_C(1) << slot
                        ? UINT64_MAX /* nothing is destaged without it */
                        : view->absent[slot].ckpt;

    if (ret->state == LSVD_PART_OK)
        return;
    if (!(view->members & UINT32_C(1) << slot) &&
        (ckpt == VIEW_CKPT_UNKNOWN ||
         !uuid_equal(&view->absent[slot].instance,
                     &v->meta.part[slot].instance)))
        ckpt = 0; /* made anew, or as good as that */
    for (uint64_t c = next_known_chunk(v, 1); c;
         c = next_known_chunk(v, c + 1))
        ret->lag_chunks += lacks(v, slot, c, ckpt);
    if (ret->lag_chunks == 0)
        ret->lag_chunks = dirty_chunks;
    ret->lag_bytes = ret->lag_chunks * geometry_file_bytes(&v->g, slot);
}

static void
fill_resync(struct lsvd_volume *v, struct lsvd_task_status *ret)
{
    struct resync *s = &v->resync;

    pthread_mutex_lock(&v->state_lock);
    ret->active = s->is_active;
    ret->part = s->is_active ? (char)('a' + s->slot) : 0;
    if (s->is_active)
        ret->seconds = (v->io->ops->now_ns(v->io) - s->began_ns) /
                       UINT64_C(1000000000);
    pthread_mutex_unlock(&v->state_lock);
    ret->chunks_done = atomic_load(&s->chunks_done);
    ret->chunks_total = atomic_load(&s->chunks_total);
    ret->bytes_done = atomic_load(&s->bytes_done);
    ret->copied = atomic_load(&s->copied);
}

static void
fill_scrub(struct lsvd_volume *v, struct lsvd_status *ret)
{
    struct lsvd_task_status *task = &ret->scrub;
    const struct scrub *s = &v->scrub;
    uint64_t now = v->io->ops->now_ns(v->io), ns = 0;

    ret->scrub_every_seconds = v->config.scrub_s;
    pthread_mutex_lock(&v->state_lock);
    task->active = s->is_loaded;
    task->chunks_done = s->mark.chunks;
    task->chunks_total = s->total > s->mark.chunks ? s->total
                                                   : s->mark.chunks;
    task->bytes_done = s->mark.bytes;
    task->copied = s->mark.healed;
    if (s->is_loaded)
        ns = s->mark.served_ns + (now > s->since_ns ? now - s->since_ns : 0);
    ret->scrub_last_end = s->mark.last_end;
    ret->scrub_passes = s->mark.passes;
    pthread_mutex_unlock(&v->state_lock);
    task->seconds = ns / UINT64_C(1000000000);
}

static void
fill_copies(struct lsvd_volume *v, struct lsvd_status *ret)
{
    struct refill *f = &v->refill;

    ret->journal_copies = journal_copies(v);
    ret->journal_copies_wanted = (uint32_t)journal_directories(v);
    if (v->mirror)
        ret->journal_copy_losses = mirror_losses(v->mirror);
    ret->journal_copy_returns = atomic_load(&f->ended);
    pthread_mutex_lock(&v->state_lock);
    ret->journal_filling = f->is_active || f->is_unrecorded;
    pthread_mutex_unlock(&v->state_lock);
    if (!ret->journal_filling)
        return;
    ret->journal_fill_done = atomic_load(&f->done);
    ret->journal_fill_total = atomic_load(&f->total);
}

/* Of those that v needs, the first that lacks a part; NULL: none does. */
static const struct lsvd_volume *
find_reduced(const struct lsvd_volume *v)
{
    const struct lsvd_volume *reduced = NULL;

    for (const struct lsvd_volume *p = v->parent; p && !reduced;
         p = p->parent)
        reduced = volume_all_parts(p) & ~p->usable ? p : NULL;
    for (const struct lsvd_volume *p = v; p && !reduced; p = p->parent) {
        uint32_t count = atomic_load(&p->source_count);

        for (uint32_t i = 0; i < count && !reduced; i++) {
            const struct lsvd_volume *source = p->source[i].volume;

            if (source && (volume_all_parts(source) & ~source->usable))
                reduced = source;
            else if (source)
                reduced = find_reduced(source);
        }
    }
    return reduced;
}

/* What others have must be read from them. */
static bool
needed_are_whole(struct lsvd_volume *v, char *text, size_t bytes)
{
    const struct lsvd_volume *p;

    pthread_mutex_lock(&v->state_lock); /* one may be let go (flatten.c) */
    p = find_reduced(v);
    if (p)
        snprintf(text, bytes, "part %c of %s, which it depends on, is not in "
                 "use: lsvd-repair verify",
                 p->part[__builtin_ctz(volume_all_parts(p) & ~p->usable)]
                     .letter,
                 meta_stored_name(&p->meta));
    pthread_mutex_unlock(&v->state_lock);
    return p == NULL;
}

static void
fill_health(struct lsvd_volume *v, bool failed, struct lsvd_status *ret)
{
    bool all = true, stalled, hangs;

    for (uint32_t i = 0; i < ret->part_count; i++) {
        const struct lsvd_part_status *p = &ret->part[i];

        if (p->state == LSVD_PART_OK)
            continue;
        if (all)
            snprintf(ret->problem, sizeof ret->problem, "part %c is %s: %.200s",
                     p->letter, lsvd_part_state_text(p->state), p->problem);
        all = false;
    }
    if (all && ret->accepted_loss) {
        snprintf(ret->problem, sizeof ret->problem, "a loss was accepted, and "
                 "what it did is not verified: lsvd-repair verify --full");
        all = false;
    }
    if (all && !needed_are_whole(v, ret->problem, sizeof ret->problem))
        all = false;
    if (all && !journal_is_mirrored(v, ret->problem, sizeof ret->problem))
        all = false;
    pthread_mutex_lock(&v->state_lock);
    hangs = v->journal_hangs;
    stalled = hangs || v->stalled_since != 0;
    pthread_mutex_unlock(&v->state_lock);
    ret->health = atomic_load(&v->fenced) ? LSVD_FENCED
                  : failed         ? LSVD_FAILED
                  : stalled        ? LSVD_STALLED
                  : lsvd_awaits_parts(v) ? LSVD_READ_ONLY
                  : !all           ? LSVD_DEGRADED
                  : !ret->writable ? LSVD_READ_ONLY
                                   : LSVD_HEALTHY;
    if (failed)
        snprintf(ret->problem, sizeof ret->problem, "the journal has failed");
    else if (hangs)
        snprintf(ret->problem, sizeof ret->problem, "the journal does not "
                 "answer: requests wait until it does");
    else if (stalled && all)
        snprintf(ret->problem, sizeof ret->problem,
                 "the journal can't be moved to the parts now");
    ret->healthy = all && !stalled && !failed && !atomic_load(&v->fenced);
    if (ret->health == LSVD_FENCED)
        snprintf(ret->problem, sizeof ret->problem,
                 "another server has claimed the volume");
}

static void
fill_counts(struct lsvd_volume *v, struct lsvd_status *ret)
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
    ret->read_errors = atomic_load(&c->read_errors);
    ret->write_errors = atomic_load(&c->write_errors);
    latency_get(&c->read, &ret->read);
    latency_get(&c->write, &ret->write);
    latency_get(&c->flush, &ret->flush);
    latency_get(&c->trim, &ret->trim);
}

void
lsvd_get_status(struct lsvd_volume *v, struct lsvd_status *ret)
{
    struct journal_space space = {0};
    struct view view;

    memset(ret, 0, sizeof *ret);
    volume_get_view(v, &view);
    memcpy(ret->name, v->meta.name, sizeof ret->name);
    uuid_format(&v->meta.uuid, ret->uuid);
    ret->epoch = view.id.epoch;
    ret->view_minor = view.id.minor;
    ret->uptime_seconds = (v->io->ops->now_ns(v->io) - v->opened_ns) /
                          UINT64_C(1000000000);
    ret->size_bytes = v->g.volume_bytes;
    ret->chunk_bytes = v->meta.chunk_bytes;
    ret->writable = lsvd_can_write(v);
    ret->accepted_loss = volume_has_accepted_loss(v);
    ret->journal_bytes = v->meta.journal_bytes;
    if (v->journal)
        journal_space(v->journal, &space);
    ret->journal_used_bytes = space.used_bytes;
    ret->journal_only_bytes = space.live_blocks * v->g.block_bytes;
    ret->dirty_chunks = space.dirty_chunks + space.bypassed_chunks;
    ret->part_count = v->g.part_count;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        fill_place(v, i, &ret->part[i]);
        fill_lag(v, i, &view, space.dirty_chunks, &ret->part[i]);
    }
    fill_copies(v, ret);
    fill_resync(v, &ret->resync);
    fill_scrub(v, ret);
    fill_health(v, space.failed, ret);
    read_cache_get_status(v, &ret->read_cache);
    moments_get_status(v, &ret->now);
    fill_counts(v, ret);
}

void
lsvd_get_serving(struct lsvd_volume *v, struct lsvd_serving *ret)
{
    memset(ret, 0, sizeof *ret);
    memcpy(ret->name, v->meta.name, sizeof ret->name);
    uuid_format(&v->meta.uuid, ret->uuid);
    volume_caches(&v->config, &ret->caches);
    if (v->config.metrics)
        snprintf(ret->metrics, sizeof ret->metrics, "%s", v->config.metrics);
}
