/* info.c: what a volume is and how it is doing, and the small calls of the
 * API that need no volume. */
#include "base/err.h"
#include "volume/find.h"
#include "volume/parent.h"
#include "volume/refer.h"
#include <inttypes.h>
#include <isa-l.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

const char *
lsvd_error(void)
{
    return err_text();
}

int
lsvd_parse_size(const char *text, uint64_t *ret)
{
    return size_parse(text, ret);
}

const char *
lsvd_part_state_text(enum lsvd_part_state state)
{
    switch (state) {
    case LSVD_PART_OK:
        return "ok";
    case LSVD_PART_MISSING:
        return "missing";
    case LSVD_PART_STALE:
        return "stale";
    case LSVD_PART_FOREIGN:
        return "foreign";
    case LSVD_PART_REBUILDING:
        return "rebuilding";
    case LSVD_PART_ERROR:
        return "error";
    case LSVD_PART_SYNCING:
        return "syncing";
    case LSVD_PART_DIVERGED:
        return "diverged";
    }
    return "unknown";
}

void
volume_counters_get(struct lsvd_volume *v, struct lsvd_counters *ret)
{
    struct volume_counters *from = &v->count;
    struct cache_counts cache = {0};
    struct journal_space space = {0};

    if (v->cache)
        cache = cache_counts(v->cache);
    if (v->journal)
        journal_space(v->journal, &space);
    *ret = (struct lsvd_counters){
        .read_bytes = atomic_load(&from->read_bytes),
        .write_bytes = atomic_load(&from->write_bytes),
        .reads = atomic_load(&from->reads),
        .writes = atomic_load(&from->writes),
        .flushes = atomic_load(&from->flushes),
        .journal_bytes = space.appended_bytes,
        .journal_syncs = space.syncs,
        .part_bytes = atomic_load(&from->part_bytes),
        .part_syncs = atomic_load(&from->part_syncs),
        .bypass_bytes = atomic_load(&from->bypass_bytes),
        .bypass_spills = atomic_load(&v->bypass.spills),
        .bypass_recovered = atomic_load(&from->bypass_recovered),
        .cache_hits = cache.hits,
        .cache_misses = cache.misses,
        .bad_blocks = atomic_load(&from->bad_blocks),
        .healed_blocks = atomic_load(&from->healed_blocks),
        .lost_blocks = atomic_load(&from->lost_blocks),
    };
}

void
volume_log_counters(struct lsvd_volume *v)
{
    struct lsvd_counters c;

    volume_counters_get(v, &c);
    log_event(&v->log, LOG_DEBUG_LEVEL,
              "volume %s: counters: writes=%" PRIu64 " write_bytes=%" PRIu64
              " flushes=%" PRIu64 " journal_bytes=%" PRIu64
              " journal_syncs=%" PRIu64 " part_bytes=%" PRIu64
              " part_syncs=%" PRIu64 " bypass_bytes=%" PRIu64
              " bypass_spills=%" PRIu64,
              v->meta.name, c.writes, c.write_bytes, c.flushes,
              c.journal_bytes, c.journal_syncs, c.part_bytes, c.part_syncs,
              c.bypass_bytes, c.bypass_spills);
    log_event(&v->log, LOG_DEBUG_LEVEL,
              "volume %s: counters: reads=%" PRIu64 " read_bytes=%" PRIu64
              " cache_hits=%" PRIu64 " cache_misses=%" PRIu64
              " bad_blocks=%" PRIu64 " healed_blocks=%" PRIu64
              " lost_blocks=%" PRIu64,
              v->meta.name, c.reads, c.read_bytes, c.cache_hits,
              c.cache_misses, c.bad_blocks, c.healed_blocks, c.lost_blocks);
}

static void
fill_parts(struct lsvd_volume *v, struct lsvd_info *ret)
{
    ret->part_count = v->g.part_count;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct lsvd_part_info *info = &ret->part[i];
        struct part *p = &v->part[i];

        info->letter = p->letter;
        info->state = p->state;
        if (p->dir)
            snprintf(info->root, sizeof info->root, "%s", p->dir->path);
        else
            part_path(&v->meta, i, info->root, sizeof info->root);
        uuid_format(&v->meta.part[i].instance, info->instance);
        if (p->state != LSVD_PART_OK)
            snprintf(info->problem, sizeof info->problem, "%s", p->problem);
    }
}

void
lsvd_get_info(struct lsvd_volume *v, struct lsvd_info *ret)
{
    struct journal_space space = {0};

    memset(ret, 0, sizeof *ret);
    memcpy(ret->name, v->meta.name, sizeof ret->name);
    uuid_format(&v->meta.uuid, ret->uuid);
    ret->number = v->meta.number;
    ret->size_bytes = v->g.volume_bytes;
    ret->chunk_bytes = v->meta.chunk_bytes;
    ret->block_bytes = v->meta.block_bytes;
    ret->replicas = v->meta.replicas;
    ret->ec_data = v->meta.ec_data;
    ret->ec_parity = v->meta.ec_parity;
    pthread_mutex_lock(&v->state_lock);
    ret->read_only = v->meta.read_only;
    ret->append_only = v->meta.append_only;
    pthread_mutex_unlock(&v->state_lock);
    ret->clean = uuid_is_zero(&v->view.journal);
    ret->accepted_loss = volume_has_accepted_loss(v);
    ret->forced_count = v->meta.forced_count;
    for (uint32_t i = 0; i < v->meta.forced_count; i++)
        snprintf(ret->forced[i], sizeof ret->forced[i], "%s",
                 v->meta.forced[i]);
    ret->parent_number = v->meta.parent;
    ret->overlap_bytes = v->meta.overlap_bytes;
    ret->chunks_present = count_present_chunks(v);
    ret->epoch = v->view.id.epoch;
    ret->view_minor = v->view.id.minor;
    ret->journal_bytes = v->meta.journal_bytes;
    if (v->journal) {
        journal_space(v->journal, &space);
        ret->journal_used_bytes = space.used_bytes;
    }
    fill_parts(v, ret);
    volume_counters_get(v, &ret->counters);
}

/* Reads the tables of all chunks that have a reference file. */
static void
fill_sources(struct lsvd_volume *v, struct lsvd_info *info)
{
    for (uint32_t i = 0; i < v->meta.source_count; i++) {
        const struct meta_source *s = &v->meta.source[i];
        size_t used = strlen(info->sources);
        char name[VOLUME_NAME_BYTES_MAX + 1];

        if (needed_name(v, s->number, &s->uuid, name, sizeof name) < 0)
            snprintf(name, sizeof name, "%u (not found)", s->number);
        snprintf(info->sources + used, sizeof info->sources - used, "%s%s",
                 i > 0 ? ", " : "", name);
    }
    info->source_count = v->meta.source_count;
    if (v->meta.source_count > 0)
        info->referenced_bytes = references_count(v) * v->g.block_bytes;
}

int
lsvd_info(const struct lsvd_env *env, const char *name, struct lsvd_info *ret)
{
    struct lsvd_volume *v;
    struct object *lock;
    int r;

    r = volume_open(env, name, LSVD_OPEN_NO_LOCK | OPEN_INSPECT, &v);
    if (r < 0)
        return r;
    lsvd_get_info(v, ret);
    if (v->meta.parent &&
        parent_find_name(v, ret->parent, sizeof ret->parent) < 0)
        log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
    fill_sources(v, ret);
    if (parent_children(v, ret->children, sizeof ret->children,
                        &ret->child_count) < 0)
        log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
    for (uint32_t i = 0; i < v->g.part_count && !ret->in_use; i++) {
        if (!v->part[i].dir ||
            target_open(v->part[i].dir, LOCK_NAME, 0, &lock) < 0)
            continue;
        if (object_is_locked(lock, 0, 1) > 0) {
            ret->in_use = true;
            part_owner(v->part[i].dir, ret->owner, sizeof ret->owner);
        }
        object_close(lock);
    }
    volume_free(v);
    return 0;
}

void
volume_caches(const struct config *config, struct lsvd_caches *ret)
{
    for (uint32_t i = 0; i < LSVD_CACHES_MAX && config->cache[i]; i++)
        snprintf(ret->directory[ret->count++], sizeof ret->directory[0],
                 "%s", config->cache[i]);
}

int
lsvd_caches(const struct lsvd_env *env, const char *name,
            struct lsvd_caches *ret)
{
    struct config config;
    struct env_world world;
    struct logger log;
    int r;

    *ret = (struct lsvd_caches){0};
    r = env_load(env, name, &config, &world, &log);
    if (r < 0)
        return r;
    volume_caches(&config, ret);
    config_done(&config);
    env_done(&world);
    return 0;
}

/* A part that is away, or can't be asked, says nothing. */
static void
find_owner(struct lsvd_volume *v, struct lsvd_location *ret)
{
    struct target *dir;
    struct object *lock;

    for (uint32_t i = 0; i < v->meta.part_count && !ret->in_use; i++) {
        if (part_dir_open(v->io, &v->meta, i, 0, &dir) < 0)
            continue;
        if (target_open(dir, LOCK_NAME, 0, &lock) == 0) {
            ret->in_use = object_is_locked(lock, 0, 1) > 0;
            if (ret->in_use)
                part_owner(dir, ret->owner, sizeof ret->owner);
            object_close(lock);
        }
        target_close(dir);
    }
}

int
lsvd_locate(const struct lsvd_env *env, const char *name,
            struct lsvd_location *ret)
{
    struct lsvd_volume *v;
    int r;

    memset(ret, 0, sizeof *ret);
    r = volume_new(env, name, &v);
    if (r < 0)
        return r;
    r = volume_find(v->io, &v->log, &v->config, name, &v->meta, NULL);
    if (r == 0) {
        memcpy(ret->name, v->meta.name, sizeof ret->name);
        uuid_format(&v->meta.uuid, ret->uuid);
        volume_caches(&v->config, &ret->caches);
        find_owner(v, ret);
    }
    volume_free(v);
    return r;
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *
lsvd_versions(void)
{
    return "lsvd_version=" LSVD_VERSION "\n"
           "lsvd_format=" TEXT(FORMAT_VERSION) "\n"
           "lsvd_isal=" TEXT(ISAL_MAJOR_VERSION) "." TEXT(
               ISAL_MINOR_VERSION) "." TEXT(ISAL_PATCH_VERSION) "\n"
           "lsvd_xxhash=" TEXT(XXH_VERSION_MAJOR) "." TEXT(
               XXH_VERSION_MINOR) "." TEXT(XXH_VERSION_RELEASE) "\n"
           "lsvd_ec_max=" TEXT(EC_DATA_MAX) "+" TEXT(EC_PARITY_MAX) "\n"
           "lsvd_replicas_max=" TEXT(REPLICAS_MAX) "\n";
}
