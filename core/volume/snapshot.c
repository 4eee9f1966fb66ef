/* snapshot.c: see snapshot.h. */
#include "volume/snapshot.h"
#include "base/err.h"
#include "base/memory.h"
#include "volume/find.h"
#include "volume/moment.h"
#include "volume/parent.h"
#include "volume/read_cache.h"
#include "volume/root_lock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW_NAME "now" /* volume@now is what it holds at the moment */

/* ---- before ---- */

static int
check_name(const struct lsvd_volume *v, const char *name)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];
    int r = meta_check_name(name);

    if (r < 0)
        return r;
    meta_base_name(name, base);
    if (strcmp(base, v->meta.name) != 0 || !meta_is_snapshot_name(name) ||
        meta_is_unborn_name(name))
        return err_set(-EINVAL, "name \"%s\": a snapshot of %s is called "
                       "%s@ and a name", name, v->meta.name, v->meta.name);
    if (strcmp(strchr(name, '@') + 1, NOW_NAME) == 0)
        return err_set(-EINVAL, "name \"%s\": that means the volume at the "
                       "moment; choose another", name);
    return volume_has_name(v->io, &v->log, &v->config, name)
               ? err_set(-EEXIST, "there is a snapshot %s already", name)
               : 0;
}

static int
check_depth(const struct lsvd_volume *v)
{
    unsigned depth = 1;

    for (const struct lsvd_volume *p = v->parent; p; p = p->parent)
        depth++;
    if (depth < PARENT_DEPTH_MAX)
        return 0;
    return err_set(-ELOOP, "volume %s has %u snapshots and parents below it: "
                   "no more", v->meta.name, depth);
}

int
snapshot_check_state(struct lsvd_volume *v)
{
    uint32_t away = volume_all_parts(v) & ~v->usable;
    const struct part *p = &v->part[away ? __builtin_ctz(away) : 0];

    if (v->client_read_only)
        return err_set(-EROFS, "volume %s is read-only, as a snapshot is",
                       v->meta.name);
    if (away)
        return err_set(-EIO, "volume %s: a snapshot needs all its parts in "
                       "sync, and part %c is %s; see lsvd status %s",
                       v->meta.name, p->letter,
                       lsvd_part_state_text(p->state), v->meta.name);
    if (!v->attached)
        return err_set(-EROFS, "volume %s can't be written now",
                       v->meta.name);
    return 0;
}

static void
release(struct lsvd_volume *v)
{
    destage_go_on(v);
    atomic_store(&v->in_snapshot, false);
    volume_release(v);
}

/* From now on only the snapshot changes it: what its successor is made from
 * stays as it is, and no verify of hours goes on with what is frozen then. */
static int
reserve(struct lsvd_volume *v)
{
    struct lease role;
    int r = volume_reserve(v);

    if (r < 0)
        return r;
    atomic_store(&v->in_snapshot, true);
    r = role_get(v, &role); /* behind who changes it just now */
    if (r == 0)
        role_put(v, &role);
    else
        release(v);
    return r;
}

struct leftovers {
    const struct volume_meta *of;
    char name[16][VOLUME_NAME_BYTES_MAX + 1];
    size_t count;
};

static int
note_leftover(void *ctx, const struct volume_meta *meta)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];
    struct leftovers *l = ctx;

    meta_base_name(meta->name, base);
    if (meta_is_unborn_name(meta->name) &&
        strcmp(base, l->of->name) == 0 && meta->number != l->of->number &&
        l->count < sizeof l->name / sizeof *l->name)
        memcpy(l->name[l->count++], meta->name, sizeof meta->name);
    return 0;
}

int
snapshot_remove_leftovers(struct lsvd_volume *v, const struct lsvd_env *env)
{
    struct leftovers l = {.of = &v->meta};
    struct lease role;
    int r = volume_each_policy(v->io, &v->log, &v->config, &v->meta,
                               false, note_leftover, &l);

    if (r < 0) /* another volume's trouble */
        log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
    if (l.count == 0)
        return 0;
    r = role_get(v, &role);
    if (r < 0)
        return r;
    pthread_mutex_lock(&v->state_lock);
    v->meta.generation++;
    pthread_mutex_unlock(&v->state_lock);
    r = volume_store_meta_in_use(v, &v->meta);
    role_put(v, &role);
    for (size_t i = 0; i < l.count && r == 0; i++)
        r = lsvd_remove(env, l.name[i]);
    return r;
}

static int
make_next(struct lsvd_volume *v, const struct lsvd_env *env, const char *name,
          struct lsvd_volume **ret)
{
    struct volume_meta unborn;
    char text[512];
    int r;

    r = check_name(v, name);
    if (r == 0)
        r = check_depth(v);
    if (r == 0)
        r = snapshot_remove_leftovers(v, env);
    if (r == 0)
        r = volume_make_successor(&v->meta, &v->meta, env, &unborn);
    if (r < 0)
        return r;
    r = volume_open_with_parent(env, unborn.name, v, ret);
    if (r == 0) {
        opening_ends(*ret);
        read_cache_open(*ret);
    } else {
        snprintf(text, sizeof text, "%s", err_text());
        (void)lsvd_remove(env, unborn.name);
        r = err_set(r, "volume %s: no snapshot: %s", v->meta.name, text);
    }
    meta_done(&unborn);
    return r;
}

int
lsvd_snapshot_begin(struct lsvd_volume *v, const struct lsvd_env *env,
                    const char *name, struct lsvd_volume **ret)
{
    int r = snapshot_check_state(v);

    if (r == 0)
        r = reserve(v);
    if (r < 0)
        return r;
    r = make_next(v, env, name, ret);
    if (r < 0) {
        release(v);
        return r;
    }
    if (!(*ret)->attached)
        r = err_set(-EIO, "volume %s: no snapshot: its successor can't be "
                    "written", v->meta.name);
    if (r < 0) {
        lsvd_snapshot_cancel(*ret, env);
        *ret = NULL;
    }
    return r;
}

/* RL6. The successor has the roots of the volume. */
int
lsvd_snapshot_hold(struct lsvd_volume *next)
{
    int r;

    if (next->root_locks)
        return 0;
    r = mem_new(1, sizeof *next->root_locks, &next->root_locks);
    if (r == 0)
        r = root_locks_take(next->io, &next->meta, next->config.data,
                            next->root_locks);
    /* only now, so that little is left for the moment itself */
    if (r == 0)
        r = destage_hold(next->parent);
    if (r == 0)
        r = lsvd_flush(next->parent);
    if (r < 0)
        root_locks_free(&next->root_locks);
    return r;
}

void
lsvd_snapshot_cancel(struct lsvd_volume *next, const struct lsvd_env *env)
{
    char text[512], unborn[VOLUME_NAME_BYTES_MAX + 1];
    struct lsvd_volume *v;
    bool named;

    snprintf(text, sizeof text, "%s", err_text());
    memcpy(unborn, next->meta.name, sizeof unborn);
    named = next->may_be_named;
    v = next->parent;
    next->parent = NULL; /* goes on */
    root_locks_free(&next->root_locks);
    lsvd_abandon(next);
    release(v);
    if (!named)
        (void)lsvd_remove(env, unborn); /* or by who makes the next (SN3) */
    (void)err_set(-EIO, "%s", text);
}

/* ---- the moment ---- */

int
snapshot_policy(const struct lsvd_volume *v, const struct volume_meta *next,
                const char *name, struct volume_meta *ret)
{
    int r = meta_copy(&v->meta, ret);

    if (r < 0)
        return r;
    snprintf(ret->name, sizeof ret->name, "%s", name);
    ret->generation++;
    ret->read_only = true;
    ret->incompat |= META_INCOMPAT_SNAPSHOT;
    ret->successor = next->number;
    ret->successor_uuid = next->uuid;
    ret->frozen_at = v->io->ops->wall_seconds(v->io);
    ret->frozen_epoch = v->view.id.epoch;
    ret->frozen_minor = v->view.id.minor;
    ret->source_uuid = v->imported;
    return 0;
}

int
snapshot_take_back(struct lsvd_volume *v, const char *what, bool *ret_named)
{
    *ret_named = volume_restore_meta(v) < 0;
    return err_wrap(-EIO, "volume %s: no %s%s", v->meta.name, what,
                    *ret_named ? " now, and perhaps one with the next start"
                               : "");
}

/* The copies in RAM are the successor's, too: it has nothing else yet. What it
 * asks of its parent it keeps itself. */
static void
hand_over_cache(struct lsvd_volume *v, struct lsvd_volume *next,
                struct cache *none)
{
    cache_free(next->cache);
    next->cache = v->cache;
    v->cache = none;
}

static void
put_in_force(struct lsvd_volume *v, struct lsvd_volume *next,
             const struct volume_meta *policy)
{
    pthread_mutex_lock(&v->state_lock);
    snprintf(next->meta.name, sizeof next->meta.name, "%s", v->meta.name);
    next->meta.due_from = v->meta.number;
    next->meta.due_from_uuid = v->meta.uuid;
    next->meta.generation++;
    v->meta.generation = policy->generation;
    v->meta.read_only = true;
    v->meta.incompat = policy->incompat;
    v->meta.successor = policy->successor;
    v->meta.successor_uuid = policy->successor_uuid;
    v->meta.frozen_at = policy->frozen_at;
    v->meta.frozen_epoch = policy->frozen_epoch;
    v->meta.frozen_minor = policy->frozen_minor;
    v->meta.source_uuid = policy->source_uuid;
    snprintf(v->meta.renamed, sizeof v->meta.renamed, "%s", policy->name);
    pthread_mutex_unlock(&v->state_lock);
    v->client_read_only = true;
    events_share(v, next);
    if (v->parent)
        chunks_keep_few(v->parent);
}

/* The role's. */
static int
freeze(struct lsvd_volume *v, struct lsvd_volume *next, const char *name)
{
    struct cache *none = NULL;
    struct volume_meta policy;
    int r = snapshot_check_state(v);

    if (r == 0)
        r = cache_new(0, v->g.block_bytes, &none);
    if (r == 0)
        r = snapshot_policy(v, &next->meta, name, &policy);
    if (r < 0) {
        cache_free(none);
        return r;
    }
    r = volume_store_meta_in_use(v, &policy);
    if (r == 0) {
        put_in_force(v, next, &policy);
        hand_over_cache(v, next, none);
        moments_move(v, next);
    } else {
        cache_free(none);
        r = snapshot_take_back(v, "snapshot", &next->may_be_named);
    }
    meta_done(&policy);
    return r;
}

/* Its name, with the lock of the role or before anybody else has it. What fails
 * is done later: a start finds the name by the snapshot (FI2). */
static int
store_name(struct lsvd_volume *v)
{
    int r = volume_store_meta_in_use(v, &v->meta);

    if (r < 0)
        return err_wrap(r, "volume %s: its name", v->meta.name);
    v->meta.due_from = 0;
    return 0;
}

int
lsvd_snapshot_commit(struct lsvd_volume *v, struct lsvd_volume *next,
                     const char *name)
{
    struct lease role;
    int r = lsvd_snapshot_hold(next);

    if (r == 0)
        r = lsvd_flush(v);
    if (r == 0)
        r = role_get(v, &role);
    if (r < 0)
        return r;
    v->root_locks = next->root_locks;
    r = freeze(v, next, name);
    v->root_locks = NULL;
    role_put(v, &role);
    if (r < 0)
        return r;
    destage_go_on(v); /* what it holds is to be moved */
    if (store_name(next) < 0)
        log_event(&next->log, LOG_WARNING_LEVEL, "%s", err_text());
    root_locks_free(&next->root_locks);
    event_note(next, LOG_WARNING_LEVEL, "snapshot", 0, "the snapshot %s was "
               "made", name);
    return 0;
}

/* ---- after ---- */

/* SN1. The one before is the parent, whose journal has gone with its absent
 * parts; or it is what a rollback discards, which has no journal. */
int
snapshot_take_name(struct lsvd_volume *v)
{
    struct volume_meta before;
    int r;

    if (!v->meta.due_from || !v->exclusive)
        return 0;
    if (v->meta.due_from == v->meta.parent &&
        (!v->parent || v->parent->journal))
        return err_set(-EIO, "volume %s: a snapshot of it was made just when "
                       "its server ended, and too few of its parts can be used "
                       "to end that: bring the others back", v->meta.name);
    r = volume_find_number(v->io, &v->log, &v->config, &v->meta,
                           v->meta.due_from, &v->meta.due_from_uuid, &before,
                           NULL);
    if (r < 0)
        return r;
    r = volume_store_meta_at(v->io, &before, v->usable);
    meta_done(&before);
    return r < 0 ? r : store_name(v);
}

/* Its destage thread does it, if it has one: who reads from a row that is being
 * changed waits for that thread. */
static int
drain(struct lsvd_volume *v)
{
    struct journal_space space;
    int r = 0;

    for (;;) {
        journal_space(v->journal, &space);
        if (r < 0 || space.dirty_chunks == 0)
            break;
        r = space_wait(v);
    }
    return r;
}

void
snapshot_forget_journal(struct lsvd_volume *v)
{
    struct lease all;

    lease_get(&v->leases, &all, 0, UINT64_MAX, true);
    read_cache_close(v);
    journal_close(v->journal);
    v->journal = NULL;
    v->exclusive = false;
    lease_put(&v->leases, &all);
    if (volume_remove_cache_files(v) < 0)
        log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: its journal, which "
                  "is empty, can't be removed: %s", v->meta.name, err_text());
}

void
snapshot_drop_journal(struct lsvd_volume *v)
{
    snapshot_forget_journal(v);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->part[i].lock)
            (void)part_take_lock(v, &v->part[i], false);
    }
}

int
snapshot_settle(struct lsvd_volume *v)
{
    int r;

    if (!v->journal || !v->attached)
        return 0;
    r = volume_detach(v);
    if (r == 0 && v->meta.successor)
        snapshot_drop_journal(v);
    return r;
}

void
snapshot_end(struct lsvd_volume *v)
{
    for (struct lsvd_volume *p = v->parent; p; p = p->parent) {
        if (!p->attached)
            continue;
        if (atomic_load(&v->hurried) && !atomic_load(&p->hurried))
            lsvd_hurry(p); /* it came when that had been said (adding.c) */
        destage_stop(p);
        if (snapshot_settle(p) < 0)
            log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: what the journal "
                      "of its snapshot %s holds is moved with the next start: "
                      "%s", v->meta.name, meta_stored_name(&p->meta),
                      err_text());
    }
}

/* Nothing is left in its journal, and no part has still to be filled: its
 * threads have nothing to do any more. False: not yet. */
static bool
settle_frozen(struct lsvd_volume *p)
{
    struct journal_space space;

    journal_space(p->journal, &space);
    if (space.dirty_chunks > 0 || p->usable != volume_all_parts(p))
        return false;
    destage_stop(p);
    return snapshot_settle(p) == 0;
}

bool
lsvd_snapshot_tend(struct lsvd_volume *v)
{
    struct lease role;
    bool all = true;

    if (v->meta.due_from && v->exclusive) { /* one that is only read waits */
        if (role_get(v, &role) == 0) {
            (void)store_name(v);
            role_put(v, &role);
        }
        all = v->meta.due_from == 0;
    }
    for (struct lsvd_volume *p = v->parent; p; p = p->parent) {
        if (!atomic_load(&p->is_added_to) && p->attached && !settle_frozen(p))
            all = false;
    }
    return all;
}

void
snapshot_finish_adding(struct lsvd_volume *p)
{
    (void)drain(p);
    (void)settle_frozen(p); /* or by lsvd_snapshot_tend */
    atomic_store(&p->is_added_to, false);
}

bool
lsvd_snapshot_finish(struct lsvd_volume *next)
{
    (void)drain(next->parent); /* what goes wrong it says itself */
    return lsvd_snapshot_tend(next);
}

/* ---- all of it, of a volume that nobody serves ---- */

int
lsvd_snapshot_create(const struct lsvd_env *env, const char *name)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];
    struct lsvd_volume *v, *next;
    int r = meta_check_name(name);

    if (r < 0)
        return r;
    meta_base_name(name, base);
    r = lsvd_open(env, base, 0, &v);
    if (r < 0)
        return r;
    r = lsvd_snapshot_begin(v, env, name, &next);
    if (r == 0) {
        r = lsvd_snapshot_commit(v, next, name);
        if (r < 0)
            lsvd_snapshot_cancel(next, env);
    }
    if (r < 0)
        return volume_close_after(v, r);
    (void)lsvd_snapshot_finish(next);
    return lsvd_close(next);
}
