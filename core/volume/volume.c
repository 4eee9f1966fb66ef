/* volume.c: the structure itself, before anything is opened and after all is
 * closed. */
#include "volume/volume.h"
#include "base/memory.h"
#include "volume/batch.h"
#include "volume/bypass.h"
#include "volume/journal_refill.h"
#include "volume/moment.h"
#include "volume/parent.h"
#include "volume/read_cache.h"
#include "volume/refer.h"
#include "volume/resync.h"
#include "volume/root_lock.h"
#include <stdlib.h>

int
volume_new(const struct lsvd_env *env, const char *name,
           struct lsvd_volume **ret)
{
    struct lsvd_volume *v;
    int r;

    r = mem_new(1, sizeof *v, &v);
    if (r < 0)
        return r;
    r = events_new(&v->events);
    if (r == 0)
        r = env_load(env, name, &v->config, &v->world, &v->log);
    if (r < 0) {
        events_free(v->events);
        free(v);
        return r;
    }
    v->io = v->world.io;
    opening_begins(env->openings, v);
    v->opened_ns = v->io->ops->now_ns(v->io);
    v->cache_io = v->world.cache_io;
    pthread_mutex_init(&v->table_lock, NULL);
    pthread_mutex_init(&v->state_lock, NULL);
    pthread_cond_init(&v->work, NULL);
    pthread_cond_init(&v->progress, NULL);
    pthread_cond_init(&v->watching, NULL);
    pthread_cond_init(&v->bypass.changed, NULL);
    lease_table_init(&v->leases);
    lease_table_init(&v->chunk_leases);
    lease_table_init(&v->part_leases);
    lease_table_init(&v->role);
    lease_table_init(&v->chain);
    pthread_mutex_init(&v->chunks.lock, NULL);
    moments_init(v);
    *ret = v;
    return 0;
}

void
volume_free(struct lsvd_volume *v)
{
    if (!v)
        return;
    opening_ends(v);
    moments_end(v);
    root_locks_free(&v->root_locks);
    parent_close(v);
    sources_close(v);
    batch_free(v);
    bypass_done(v);
    chunk_store_done(v);
    cache_free(v->cache);
    read_cache_close(v);
    refill_done(v);
    journal_close(v->journal);
    target_close(v->cache_dir);
    resync_done(v);
    journal_files_done(v);
    parts_close(v);
    ec_free(v->ec);
    meta_done(&v->meta);
    config_done(&v->config);
    env_done(&v->world);
    events_free(v->events);
    lease_table_done(&v->leases);
    lease_table_done(&v->chunk_leases);
    lease_table_done(&v->part_leases);
    lease_table_done(&v->role);
    lease_table_done(&v->chain);
    pthread_mutex_destroy(&v->chunks.lock);
    pthread_mutex_destroy(&v->table_lock);
    pthread_mutex_destroy(&v->state_lock);
    pthread_cond_destroy(&v->work);
    pthread_cond_destroy(&v->progress);
    pthread_cond_destroy(&v->watching);
    pthread_cond_destroy(&v->bypass.changed);
    free(v);
}
