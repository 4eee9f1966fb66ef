/* flatten.c: a clone comes to need its parent no more.
 *
 * Happy path: chunk by chunk, beside requests, what the parent itself says and
 *   the clone does not is written to the clone, as any write -> no request is
 *   under way: all of it is durable -> the policy names the parent's own parent
 *   instead, or none.
 * (FL1) A block is looked at and written under one exclusive lease: what a
 *       client writes meanwhile stays.
 * (FL2) What the clone reads never changes by it: each block that is copied
 *       reads as it did, and when the parent is let go, all that it says is in
 *       the clone. So it can be cut, and begun anew, at any point.
 * (FL3) Zeroes that the parent says are copied where its own parent might show.
 * (FL4) The policy is changed as a resize does it (GR1, GR3): durable with all
 *       parts in use. The parent is let go after that, and removed by nobody
 *       before.
 * One level is given up at a time. That is also how a snapshot goes: the one
 * volume that depends on it takes what it says. */
#include "base/err.h"
#include "base/memory.h"
#include "volume/bypass.h"
#include "volume/dedupe.h"
#include "volume/find.h"
#include "volume/parent.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BLOCKS 256u

/* Blocks that are looked at together. */
struct adoption {
    struct lsvd_volume *v;
    uint64_t first;
    uint32_t count;
    enum own own[RUN_BLOCKS], parents[RUN_BLOCKS];
    uint8_t *data; /* owned; RUN_BLOCKS */
    uint64_t copied; /* blocks */
};

struct look {
    uint64_t first;
    enum own *to;
};

static int
note(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    struct look *look = ctx;

    for (uint64_t i = 0; i < count; i++)
        look->to[first - look->first + i] = is;
    return 0;
}

/* It must not be taken for something that need not be copied. */
static int
note_known(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    if (is == OWN_UNKNOWN)
        return err_set(-EIO, "what its chunk files say can't be read now");
    return note(ctx, first, count, is);
}

static int
look_at(struct adoption *a)
{
    struct look own = {a->first, a->own}, parents = {a->first, a->parents};
    int r;

    for (uint32_t i = 0; i < a->count; i++)
        a->parents[i] = OWN_ABSENT;
    r = volume_own(a->v, a->first, a->count, note_known, &own);
    return r < 0 ? r : parent_own(a->v, a->first, a->count, note, &parents);
}

/* What is to be done for a block: OWN_ABSENT: nothing. */
static enum own
wanted(const struct adoption *a, uint32_t i)
{
    if (a->own[i] != OWN_ABSENT)
        return OWN_ABSENT;
    if (a->parents[i] == OWN_ZERO && !volume_is_clone(a->v->parent))
        return OWN_ABSENT; /* FL3 */
    return a->parents[i] == OWN_UNKNOWN ? OWN_DATA : a->parents[i];
}

/* In pieces of a record each. */
static int
copy_run(struct adoption *a, uint64_t first, uint32_t count)
{
    uint32_t most = (uint32_t)(journal_payload_max(a->v->journal) /
                               a->v->g.block_bytes);
    int r = volume_fetch(a->v, first, count, a->data);

    for (uint32_t i = 0, n; i < count && r == 0; i += n) {
        n = count - i < most ? count - i : most;
        r = volume_write_blocks(a->v, first + i, n,
                                a->data + (size_t)i * a->v->g.block_bytes);
    }
    return r;
}

static int
adopt_run(struct adoption *a, uint32_t at, uint32_t count, enum own is)
{
    int r = is == OWN_ZERO
                ? volume_zero_blocks(a->v, a->first + at, count)
                : copy_run(a, a->first + at, count);

    a->copied += r == 0 ? count : 0;
    return r;
}

static int
adopt_leased(struct adoption *a)
{
    int r = look_at(a);

    for (uint32_t i = 0, run; i < a->count && r == 0; i += run) {
        enum own is = wanted(a, i);

        for (run = 1; i + run < a->count && wanted(a, i + run) == is; run++)
            ;
        if (is != OWN_ABSENT)
            r = adopt_run(a, i, run, is);
    }
    return r;
}

/* FL1. */
static int
adopt(struct adoption *a)
{
    struct lease lease;
    int r;

    space_throttle(a->v, a->count);
    do {
        lease_get(&a->v->leases, &lease, a->first, a->first + a->count, true);
        r = bypass_has(a->v, a->first, a->count) ? -EAGAIN : adopt_leased(a);
        lease_put(&a->v->leases, &lease);
        if (r != -EAGAIN)
            return r;
        r = bypass_settle(a->v, a->first, a->count);
    } while (r == 0);
    return r;
}

/* chunk: from 0. */
static int
adopt_chunk(struct adoption *a, uint64_t chunk)
{
    uint64_t end = (chunk + 1) * a->v->g.chunk_blocks;
    uint64_t all = geometry_block_count(&a->v->g);
    int r = 0;

    if (end > all)
        end = all;
    for (a->first = chunk * a->v->g.chunk_blocks; a->first < end && r == 0;
         a->first += a->count) {
        a->count = end - a->first < RUN_BLOCKS ? (uint32_t)(end - a->first)
                                               : RUN_BLOCKS;
        r = adopt(a);
    }
    return r;
}

static int
adopt_all(struct lsvd_volume *v, const struct lsvd_repair_callbacks *cb)
{
    struct adoption a = {.v = v};
    struct lsvd_progress progress = {
        .chunks_total = geometry_chunk_count(&v->g)};
    int r = mem_new_aligned((size_t)RUN_BLOCKS * v->g.block_bytes, &a.data);

    for (uint64_t c = 0; c < progress.chunks_total && r == 0; c++) {
        r = volume_check_awake(v);
        if (r == 0)
            r = volume_check_hurried(v);
        if (r == 0)
            r = adopt_chunk(&a, c);
        progress.chunks_done = c + 1;
        progress.bytes_done = a.copied * v->g.block_bytes;
        if (cb && cb->progress)
            cb->progress(cb->ctx, &progress);
        if (r == 0 && cb && cb->cancelled && cb->cancelled(cb->ctx))
            r = err_set(-EINTR, "interrupted; run it again to go on");
    }
    free(a.data);
    return r;
}

/* ---- the parent is let go ---- */

static void
take_grandparent(struct volume_meta *meta, const struct volume_meta *parent)
{
    meta->parent = parent->parent;
    meta->parent_uuid = parent->parent_uuid;
    if (meta->overlap_bytes > parent->overlap_bytes)
        meta->overlap_bytes = parent->overlap_bytes;
    if (meta->parent == 0)
        meta->incompat &= ~META_INCOMPAT_PARENT;
    meta->generation++;
}

/* Some copies may be the new ones, and the newest counts; either is right. */
static int
take_back(struct lsvd_volume *v)
{
    char text[256];

    snprintf(text, sizeof text, "%s", err_text());
    pthread_mutex_lock(&v->state_lock);
    v->meta.generation += 2;
    pthread_mutex_unlock(&v->state_lock);
    (void)volume_store_meta_in_use(v, &v->meta);
    return err_set(-EIO, "volume %s keeps its parent for now: %s",
                   v->meta.name, text);
}

/* No request is under way, and it is the role's. *ret: the parent that was. */
static int
let_go(struct lsvd_volume *v, struct lsvd_volume **ret)
{
    struct volume_meta next = v->meta;

    take_grandparent(&next, &v->parent->meta);
    if (volume_store_meta_in_use(v, &next) < 0)
        return take_back(v);
    pthread_mutex_lock(&v->state_lock); /* also for lsvd_hurry */
    v->meta = next; /* what it owns is the same */
    *ret = v->parent;
    v->parent = (*ret)->parent;
    (*ret)->parent = NULL;
    pthread_mutex_unlock(&v->state_lock);
    return 0;
}

struct end {
    struct lsvd_volume *v, *parent;
};

static int
end_level(void *arg)
{
    struct end *end = arg;
    struct lease role;
    int r = lsvd_flush(end->v);

    if (r == 0)
        r = role_get(end->v, &role);
    if (r < 0)
        return r;
    r = let_go(end->v, &end->parent);
    role_put(end->v, &role);
    return r;
}

/* A parent that can't be counted on to stay is not there to be let go. */
static int
check_level(struct lsvd_volume *v, const char *parent)
{
    if (!v->attached)
        return err_set(-EROFS, "volume %s can't be written now", v->meta.name);
    if (!volume_is_clone(v) || !v->parent)
        return err_set(-EINVAL, "volume %s has no parent", v->meta.name);
    if (v->parent->attached)
        return err_set(-EBUSY, "%s is not yet complete on its parts: try again "
                       "when it is", meta_stored_name(&v->parent->meta));
    if (parent && strcmp(meta_stored_name(&v->parent->meta), parent) != 0)
        return err_set(-EBUSY, "volume %s is served, and %s is not its newest "
                       "snapshot: remove those from the newest on, or stop the "
                       "server", v->meta.name, parent);
    return 0;
}

static int
flatten_level(struct lsvd_volume *v, const struct lsvd_alone *alone,
              const struct lsvd_repair_callbacks *cb)
{
    char name[VOLUME_NAME_BYTES_MAX + 1], text[LSVD_TEXT_BYTES];
    struct end end = {.v = v};
    struct lease chain;
    int r = adopt_all(v, cb);

    if (r < 0)
        return r;
    lease_get(&v->chain, &chain, 0, 1, true); /* while requests go on */
    r = alone->run(alone->ctx, end_level, &end, text);
    lease_put(&v->chain, &chain); /* who comes now does not find it */
    if (r < 0)
        return err_set(r, "%s", text);
    snprintf(name, sizeof name, "%s", meta_stored_name(&end.parent->meta));
    lsvd_abandon(end.parent);
    event_note(v, LOG_WARNING_LEVEL, "flatten", 0, "it needs its parent %s no "
               "more", name);
    return 0;
}

int
lsvd_live_flatten(struct lsvd_volume *v, const char *parent,
                  const struct lsvd_alone *alone,
                  const struct lsvd_repair_callbacks *cb)
{
    struct lsvd_dedupe_report report;
    int r = 0;

    if (atomic_exchange(&v->in_repair, true))
        return err_set(-EBUSY, "volume %s is being checked or repaired "
                       "already", v->meta.name);
    do {
        if (!parent && !volume_is_clone(v) && volume_has_references(v))
            break; /* it has no parent, but sources */
        r = check_level(v, parent);
        if (r == 0)
            r = flatten_level(v, alone, cb);
    } while (r == 0 && !parent && volume_is_clone(v));
    if (r == 0 && !parent && volume_has_references(v))
        r = dedupe_undo(v, &(struct lsvd_dedupe){.estimate = false}, cb,
                        &report);
    atomic_store(&v->in_repair, false);
    return r;
}

/* ---- of a volume that nobody serves ---- */

static int
run_at_once(void *ctx, int (*fn)(void *arg), void *arg,
            char text[LSVD_TEXT_BYTES])
{
    int r = fn(arg);

    (void)ctx;
    snprintf(text, LSVD_TEXT_BYTES, "%s", err_text());
    return r;
}

static const struct lsvd_alone nobody_else = {.run = run_at_once};

static int
flatten_and_close(struct lsvd_volume *v, const char *parent,
                  const struct lsvd_repair_callbacks *cb)
{
    int r = lsvd_live_flatten(v, parent, &nobody_else, cb), closed;
    char text[LSVD_TEXT_BYTES];

    snprintf(text, sizeof text, "%s", err_text());
    if (v->meta.successor) {
        closed = snapshot_settle(v);
        lsvd_abandon(v);
    } else {
        closed = lsvd_close(v);
    }
    return r < 0 ? err_set(r, "%s", text) : closed;
}

int
lsvd_flatten(const struct lsvd_env *env, const char *name,
             const struct lsvd_repair_callbacks *cb)
{
    struct lsvd_volume *v;
    int r = lsvd_open(env, name, 0, &v);

    return r < 0 ? r : flatten_and_close(v, NULL, cb);
}

/* ---- a snapshot is removed ---- */

struct dependants {
    const struct volume_meta *of;
    struct volume_meta first; /* of them; generation 0: there is none */
    uint32_t count;
    char names[256];
    char unborn[VOLUME_NAME_BYTES_MAX + 1]; /* one of them; "": none is */
    uint32_t referring; /* others that have references to it, … */
    char example[VOLUME_NAME_BYTES_MAX + 1]; /* … and one of them */
};

static int
note_dependant(void *ctx, const struct volume_meta *meta)
{
    struct dependants *d = ctx;
    size_t used = strlen(d->names);

    if (meta->removing || !meta_needs(meta, d->of->number, &d->of->uuid))
        return 0;
    if (meta_has_source(meta, d->of->number, &d->of->uuid)) {
        d->referring++;
        snprintf(d->example, sizeof d->example, "%s", meta->name);
        return 0;
    }
    snprintf(d->names + used, sizeof d->names - used, "%s%s",
             d->count > 0 ? ", " : "", meta->name);
    if (meta_is_unborn_name(meta->name))
        memcpy(d->unborn, meta->name, sizeof d->unborn);
    return d->count++ == 0 ? meta_copy(meta, &d->first) : 0;
}

/* SN2: from now on a part without what is added proves nothing. */
static int
freeze_anew(struct lsvd_volume *v)
{
    if (!v->attached || v->usable != volume_all_parts(v))
        return err_set(-EIO, "volume %s: not all its parts are in sync",
                       v->meta.name);
    v->meta.frozen_epoch = v->view.id.epoch;
    v->meta.frozen_minor = v->view.id.minor;
    v->meta.generation++;
    return volume_store_meta_in_use(v, &v->meta);
}

static int
open_snapshot_to_add(const struct lsvd_env *env, const char *name,
                     struct lsvd_volume **ret)
{
    char text[LSVD_TEXT_BYTES];
    int r = volume_open(env, name, OPEN_ADD, ret);

    if (r < 0)
        return r;
    opening_ends(*ret);
    r = freeze_anew(*ret);
    if (r == 0)
        return 0;
    snprintf(text, sizeof text, "%s", err_text());
    (void)snapshot_settle(*ret);
    lsvd_abandon(*ret);
    return err_set(r, "%s", text);
}

/* The one that depends on it takes what it says. */
static int
hand_down(const struct lsvd_env *env, const struct volume_meta *snapshot,
          const struct dependants *d, const struct lsvd_repair_callbacks *cb)
{
    struct lsvd_volume *v;
    int r;

    if (d->count > 1)
        return err_set(-EBUSY, "snapshot %s: %s depend on it: flatten or "
                       "remove all but one of them first", snapshot->name,
                       d->names);
    if (d->first.successor)
        r = open_snapshot_to_add(env, d->first.name, &v);
    else
        r = lsvd_open(env, d->first.name, 0, &v);
    if (r == -EBUSY)
        return err_set(r, "snapshot %s: %s, which depends on it, is in use: "
                       "remove snapshots from the newest on, or stop the "
                       "server", snapshot->name, d->first.name);
    return r < 0 ? r : flatten_and_close(v, snapshot->name, cb);
}

/* What was left when a snapshot or a rollback was cut short, or the volume
 * itself, which does not say its name yet: who opens the volume settles
 * either. */
static int
settle_unborn(const struct lsvd_env *env, const char *unborn)
{
    char base[VOLUME_NAME_BYTES_MAX + 1], text[LSVD_TEXT_BYTES];
    struct lsvd_volume *v;
    int r, closed;

    meta_base_name(unborn, base);
    r = lsvd_open(env, base, 0, &v);
    if (r == -ENOENT) /* the volume was removed */
        return lsvd_remove(env, unborn);
    if (r < 0)
        return r;
    r = snapshot_remove_leftovers(v, env);
    snprintf(text, sizeof text, "%s", err_text());
    closed = lsvd_close(v);
    return r < 0 ? err_set(r, "%s", text) : closed;
}

static int
look_for_dependants(struct lsvd_volume *v, struct dependants *d)
{
    meta_done(&d->first);
    *d = (struct dependants){.of = &v->meta};
    return volume_each_policy(v->io, &v->log, &v->config, &v->meta,
                              note_dependant, d);
}

static int
find_dependants(struct lsvd_volume *v, const struct lsvd_env *env,
                struct dependants *d)
{
    int r = look_for_dependants(v, d);

    if (r < 0 || !d->unborn[0])
        return r;
    r = settle_unborn(env, d->unborn);
    if (r < 0)
        return err_wrap(r, "snapshot %s: %s, left by a snapshot or a rollback "
                        "that was cut short, depends on it yet; the next "
                        "snapshot removes it", v->meta.name, d->unborn);
    r = look_for_dependants(v, d);
    if (r == 0 && d->unborn[0])
        r = err_set(-EBUSY, "snapshot %s: %s depends on it: try again",
                    v->meta.name, d->unborn);
    return r;
}

static int
find_snapshot(struct lsvd_volume *v, const char *name)
{
    int r = volume_find(v->io, &v->log, &v->config, name, &v->meta, NULL);

    if (r == 0 && !v->meta.successor)
        r = err_set(-EINVAL, "volume %s is no snapshot", name);
    return r;
}

int
lsvd_snapshot_remove(const struct lsvd_env *env, const char *name,
                     const struct lsvd_repair_callbacks *cb)
{
    struct dependants d = {.count = 0};
    struct lsvd_volume *v;
    int r = volume_new(env, name, &v);

    if (r < 0)
        return r;
    r = find_snapshot(v, name);
    if (r == 0 && !v->meta.removing)
        r = find_dependants(v, env, &d);
    if (r == 0 && d.referring > 0)
        r = err_set(-EBUSY, "snapshot %s: %s has references to it: remove that "
                    "first, or what it refers to (lsvd-dedupe --rehydrate)",
                    name, d.example);
    if (r == 0 && d.count > 0)
        r = hand_down(env, &v->meta, &d, cb);
    meta_done(&d.first);
    volume_free(v);
    return r < 0 ? r : lsvd_remove(env, name);
}
