/* parent.c: see parent.h. */
#include "volume/parent.h"
#include "base/err.h"
#include "base/sum.h"
#include "base/uuid.h"
#include "volume/find.h"
#include "volume/refer.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <string.h>

/* ---- opening ---- */

static unsigned
depth_of(unsigned flags)
{
    return flags >> OPEN_DEPTH_SHIFT;
}

/* Left by a kill, when a label said already that it is needed no more. One part
 * alone must be enough to read the snapshot (SN2), and after a power cut, too:
 * so all say it, durably, before it goes. */
static void
remove_left_journal(struct lsvd_volume *p)
{
    int r;

    if (!volume_has_journal_file(p))
        return;
    r = volume_roll_forward(p);
    if (r == 0)
        r = volume_remove_cache_files(p);
    if (r < 0)
        log_event(&p->log, LOG_WARNING_LEVEL, "volume %s: a journal that is "
                  "not needed any more stays there for now: %s", p->meta.name,
                  err_text());
}

int
needed_settle(struct lsvd_volume *p)
{
    if (!p->meta.read_only)
        return err_set(-EROFS, "volume %s is not read-only any more",
                       p->meta.name);
    if (!p->journal && snapshot_is_proven(p) && !p->observer)
        remove_left_journal(p);
    if (snapshot_settle(p) < 0)
        log_event(&p->log, LOG_WARNING_LEVEL, "volume %s: what its journal "
                  "holds stays there for now: %s", p->meta.name, err_text());
    return 0;
}

int
needed_flags(const struct lsvd_volume *v, const char *name, unsigned flags,
             unsigned *ret)
{
    unsigned depth = depth_of(flags) + 1;

    if (depth > PARENT_DEPTH_MAX)
        return err_set(-ELOOP, "volume %s would be the parent of a parent, and "
                       "so on, of more than %u volumes", name,
                       PARENT_DEPTH_MAX);
    *ret = LSVD_OPEN_READ_ONLY | OPEN_PARENT | depth << OPEN_DEPTH_SHIFT |
           (flags & LSVD_OPEN_NO_LOCK) |
           (v->meta.due_from && !(flags & LSVD_OPEN_READ_ONLY)
                ? OPEN_DEGRADED : 0); /* SN1 */
    return 0;
}

/* name: of that volume, or of v's own parent, if v has a policy. */
static int
open_it(struct lsvd_volume *v, const struct lsvd_env *env, const char *name,
        unsigned flags, struct lsvd_volume **ret)
{
    int r = needed_flags(v, name, flags, &flags);

    if (r < 0)
        return r;
    if (volume_is_clone(v))
        r = volume_open_parent_of(env, v, name, flags, ret);
    else
        r = volume_open(env, name, flags, ret);
    if (r < 0)
        return r;
    opening_ends(*ret);
    return needed_settle(*ret);
}

int
needed_check_settled(struct lsvd_volume *p)
{
    struct volume_meta meta;
    int r = volume_find_number_settled(p->io, &p->log, &p->config, &p->meta,
                                       p->meta.number, &p->meta.uuid, &meta);

    if (r < 0)
        return err_wrap(r, "volume %s", p->meta.name);
    if (!meta.read_only)
        r = err_set(-EROFS, "volume %s is not read-only", p->meta.name);
    meta_done(&meta);
    return r;
}

int
parent_open_named(struct lsvd_volume *v, const struct lsvd_env *env,
                  const char *name)
{
    int r = open_it(v, env, name, 0, &v->parent);

    return r < 0 ? r : needed_check_settled(v->parent);
}

int
needed_name(struct lsvd_volume *v, uint32_t number, const struct uuid *uuid,
            char *name, size_t bytes)
{
    struct volume_meta meta;
    int r = volume_find_number(v->io, &v->log, &v->config, &v->meta, number,
                               uuid, &meta, NULL);

    if (r < 0)
        return r;
    snprintf(name, bytes, "%s", meta.name);
    meta_done(&meta);
    return 0;
}

int
parent_find_name(struct lsvd_volume *v, char *name, size_t bytes)
{
    int r = needed_name(v, v->meta.parent, &v->meta.parent_uuid, name, bytes);

    return r < 0 ? err_wrap(r, "volume %s: its parent", v->meta.name) : 0;
}

/* *ret is to be closed also after an error, if it is not NULL. */
static int
open_found(struct lsvd_volume *v, const struct lsvd_env *env, unsigned flags,
           struct lsvd_volume **ret)
{
    char name[VOLUME_NAME_BYTES_MAX + 1];
    int r = needed_name(v, v->meta.parent, &v->meta.parent_uuid, name,
                        sizeof name);

    *ret = NULL;
    if (r == 0)
        r = open_it(v, env, name, flags, ret);
    if (r == 0 && (*ret)->g.block_bytes != v->g.block_bytes)
        r = err_set(-EINVAL, "volume %s has blocks of %u bytes", name,
                    (*ret)->g.block_bytes);
    if (r == 0 || r == -ELOOP) /* no use to name them all */
        return r;
    return err_wrap(r, "volume %s: its parent", v->meta.name);
}

int
parent_open(struct lsvd_volume *v, const struct lsvd_env *env, unsigned flags)
{
    if (!volume_is_clone(v) || (flags & OPEN_INSPECT))
        return 0;
    return open_found(v, env, flags, &v->parent);
}

int
parent_open_again(struct lsvd_volume *v, const struct lsvd_env *env,
                  struct lsvd_volume **ret)
{
    int r = open_found(v, env, 0, ret);

    if (r < 0 && *ret)
        lsvd_abandon(*ret);
    return r;
}

void
parent_close(struct lsvd_volume *v)
{
    if (v->parent)
        lsvd_abandon(v->parent);
    v->parent = NULL;
}

int
parent_check_known(struct lsvd_volume *v)
{
    struct volume_meta meta;
    int r;

    if (!volume_is_clone(v))
        return 0;
    r = volume_find_number(v->io, &v->log, &v->config, &v->meta,
                           v->meta.parent, &v->meta.parent_uuid, &meta, NULL);
    if (r == 0) {
        if (!meta.read_only)
            r = err_set(-EROFS, "volume %s is not read-only", meta.name);
        meta_done(&meta);
    }
    return r < 0 ? err_wrap(r, "volume %s: its parent", v->meta.name) : 0;
}

/* ---- what it has ---- */

/* Bytes of the clone that the parent may have. */
static uint64_t
overlap(const struct lsvd_volume *v)
{
    uint64_t bytes = volume_is_clone(v) ? v->meta.overlap_bytes : 0;

    return v->parent && bytes > v->parent->g.volume_bytes
               ? v->parent->g.volume_bytes
               : bytes;
}

/* So many of these blocks lie in it, with a byte at least. */
static uint64_t
within(const struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    uint64_t end = (overlap(v) + v->g.block_bytes - 1) / v->g.block_bytes;

    if (first >= end)
        return 0;
    return count < end - first ? count : end - first;
}

int
parent_fetch(struct lsvd_volume *v, uint64_t first, uint64_t count,
             uint8_t *to)
{
    uint64_t have = within(v, first, count), bytes = 0;
    int r = 0;

    if (have > 0 && !v->parent)
        return err_set(-EIO, "volume %s: its parent is not open",
                       v->meta.name);
    if (have > 0)
        r = volume_fetch_leased(v->parent, first, (uint32_t)have, to);
    if (r < 0)
        return err_wrap(r, "volume %s: its parent", v->meta.name);
    if (have > 0) {
        bytes = overlap(v) - first * v->g.block_bytes;
        if (bytes > have * v->g.block_bytes)
            bytes = have * v->g.block_bytes;
    }
    memset(to + bytes, 0, (size_t)(count * v->g.block_bytes - bytes));
    return 0;
}

/* Zeroes that only its journal has yet are taken for data; and so are those of
 * a chunk over data of its own parent: they must be said again by whoever takes
 * its place (flatten.c, FL3). */
static bool
chunk_shows(struct lsvd_volume *p, uint64_t chunk)
{
    bool is_dirty = volume_chunk_is_dirty(p, chunk);
    struct chunk_entry truth = chunk_truth(p, chunk);

    return is_dirty || truth.state == CHUNK_PRESENT ||
           parent_shows(p, chunk);
}

bool
parent_shows(struct lsvd_volume *v, uint64_t chunk)
{
    struct lsvd_volume *p = v->parent;
    struct lease lease;
    bool shows = false;

    uint64_t first = geometry_first_block(&v->g, chunk), count, last;

    if (!volume_is_clone(v))
        return false;
    count = within(v, first, v->g.chunk_blocks);
    if (count == 0)
        return false;
    if (!p)
        return true; /* nobody can tell */
    last = geometry_chunk_of(&p->g, first + count - 1);
    /* The clone's journal is locked: this is not waited for. */
    if (!lease_try(&p->leases, &lease, first, first + count, false))
        return true;
    for (uint64_t c = geometry_chunk_of(&p->g, first); c <= last && !shows; c++)
        shows = chunk_shows(p, c);
    lease_put(&p->leases, &lease);
    return shows;
}

int
parent_own(struct lsvd_volume *v, uint64_t first, uint64_t count,
           volume_own_cb cb, void *ctx)
{
    struct lease lease;
    int r;

    count = within(v, first, count);
    if (count == 0)
        return 0;
    lease_get(&v->parent->leases, &lease, first, first + count, false);
    r = volume_own(v->parent, first, count, cb, ctx);
    lease_put(&v->parent->leases, &lease);
    return r;
}

/* The parent counts bytes. */
struct extents {
    uint32_t block_bytes;
    int (*cb)(void *ctx, uint64_t first, uint64_t count, bool is_data);
    void *ctx;
};

static int
tell_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct extents *x = ctx;

    return x->cb(x->ctx, offset / x->block_bytes,
                 (count + x->block_bytes - 1) / x->block_bytes, is_data);
}

int
parent_extents(struct lsvd_volume *v, uint64_t first, uint64_t count,
               int (*cb)(void *ctx, uint64_t first, uint64_t count,
                         bool is_data),
               void *ctx)
{
    struct extents x = {v->g.block_bytes, cb, ctx};
    uint64_t offset = first * v->g.block_bytes, bytes, end;
    struct lease lease;
    int r;

    count = within(v, first, count);
    if (count == 0)
        return 0;
    if (!v->parent)
        return cb(ctx, first, count, true); /* nobody can tell */
    end = (first + count) * v->g.block_bytes;
    if (end > v->parent->g.volume_bytes)
        end = v->parent->g.volume_bytes;
    bytes = end - offset;
    lease_get(&v->parent->leases, &lease, first, first + count, false);
    r = lsvd_extents(v->parent, bytes, offset, tell_extent, &x);
    lease_put(&v->parent->leases, &lease);
    return r;
}

/* ---- zeroes of a clone ---- */

static uint64_t
zero_sum(const struct lsvd_volume *v, uint64_t block)
{
    static const uint8_t zeroes[BLOCK_BYTES_MAX];

    return sum_block(volume_block_seed(v, block), zeroes, v->g.block_bytes);
}

uint64_t
volume_cell_sum(const struct lsvd_volume *v, uint64_t block, uint64_t sum)
{
    return sum == SUM_ZERO_BLOCK && volume_is_clone(v) ? zero_sum(v, block)
                                                       : sum;
}

bool
volume_sum_is_zero(const struct lsvd_volume *v, uint64_t block, uint64_t sum)
{
    return sum == SUM_ZERO_BLOCK ||
           (volume_is_clone(v) && sum == zero_sum(v, block));
}

bool
volume_cell_is_hole(const struct lsvd_volume *v, const struct rows *rows,
                    uint32_t slot, uint32_t row)
{
    return (volume_is_clone(v) || volume_has_references(v)) &&
           sum_all_zero(rows->cell[slot] + (size_t)(row - rows->first) *
                                               v->g.block_bytes,
                        v->g.block_bytes);
}

/* ---- who depends on it ---- */

struct children {
    struct lsvd_volume *v;
    char *names;
    size_t bytes;
    uint32_t count;
};

static int
note_child(void *ctx, const struct volume_meta *meta)
{
    struct children *c = ctx;
    size_t used = strlen(c->names);

    if (meta->removing ||
        !meta_needs(meta, c->v->meta.number, &c->v->meta.uuid))
        return 0;
    if (!c->v->meta.successor && meta_is_unborn_name(meta->name))
        return 0; /* left by a snapshot that was cut short */
    snprintf(c->names + used, c->bytes - used, "%s%s",
             c->count > 0 ? ", " : "", meta->name);
    c->count++;
    return 0;
}

static int
find_children(struct lsvd_volume *v, bool settled, char *names, size_t bytes,
              uint32_t *ret_count)
{
    struct children c = {v, names, bytes, 0};
    int r;

    names[0] = 0;
    *ret_count = 0;
    if (!v->meta.read_only) /* PA2 */
        return 0;
    r = volume_each_policy(v->io, &v->log, &v->config, &v->meta, settled,
                           note_child, &c);
    *ret_count = c.count;
    return r < 0 ? err_wrap(r, "volume %s: is it the parent of others",
                            v->meta.name)
                 : 0;
}

int
parent_children(struct lsvd_volume *v, char *names, size_t bytes,
                uint32_t *ret_count)
{
    return find_children(v, false, names, bytes, ret_count);
}

int
parent_check_unused(struct lsvd_volume *v)
{
    char names[256];
    uint32_t count;
    int r = find_children(v, true, names, sizeof names, &count);

    if (r < 0 || count == 0)
        return r;
    return err_set(-EBUSY, "volume %s is the parent, or a source, of %s%s%s: "
                   "it stays as it is as long as %s", v->meta.name, names,
                   strlen(names) + 1 == sizeof names ? "…" : "",
                   count == 1 ? "" : " (all of them)",
                   count == 1 ? "that is there" : "they are there");
}

int
parent_check_thaw(struct lsvd_volume *v)
{
    if (v->meta.successor)
        return err_set(-EROFS, "volume %s is a snapshot, and stays as it is: "
                       "change a clone of it", v->meta.name);
    return parent_check_unused(v);
}
