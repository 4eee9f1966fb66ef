/* status.c: how an open volume is doing, for programs that watch it. */
#include "target/guard.h"
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
fill_part(struct lsvd_volume *v, uint32_t slot, struct lsvd_part_status *ret)
{
    struct part *p = &v->part[slot];

    ret->letter = p->letter;
    ret->state = p->state;
    if (p->dir)
        snprintf(ret->directory, sizeof ret->directory, "%s", p->dir->path);
    else
        part_path(&v->meta, slot, ret->directory, sizeof ret->directory);
    uuid_format(&v->meta.part[slot].instance, ret->instance);
    if (p->state != LSVD_PART_OK)
        snprintf(ret->problem, sizeof ret->problem, "%s", p->problem);
}

void
lsvd_get_status(struct lsvd_volume *v, struct lsvd_status *ret)
{
    struct journal_space space = {0};
    bool all = true;

    memset(ret, 0, sizeof *ret);
    memcpy(ret->name, v->meta.name, sizeof ret->name);
    uuid_format(&v->meta.uuid, ret->uuid);
    ret->epoch = v->view.id.epoch;
    ret->view_minor = v->view.id.minor;
    ret->size_bytes = v->meta.size_bytes;
    ret->chunk_bytes = v->meta.chunk_bytes;
    ret->writable = lsvd_can_write(v);
    ret->journal_bytes = v->meta.journal_bytes;
    if (v->journal)
        journal_space(v->journal, &space);
    ret->journal_used_bytes = space.used_bytes;
    ret->journal_only_bytes = space.live_blocks * v->g.block_bytes;
    ret->dirty_chunks = space.dirty_chunks;
    ret->part_count = v->g.part_count;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        fill_part(v, i, &ret->part[i]);
        all = all && ret->part[i].state == LSVD_PART_OK;
    }
    ret->health = space.failed     ? LSVD_FAILED
                  : !all           ? LSVD_DEGRADED
                  : !ret->writable ? LSVD_READ_ONLY
                                   : LSVD_HEALTHY;
    ret->healthy = all && !space.failed;
    ret->scrub_every_seconds = v->config.scrub_s;
    volume_counters_get(v, &ret->counters);
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
