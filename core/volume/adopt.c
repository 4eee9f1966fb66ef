/* adopt.c: see adopt.h. */
#include "volume/adopt.h"
#include "base/err.h"
#include "base/memory.h"
#include "volume/borrow.h"
#include "volume/bypass.h"
#include "volume/exchange.h"
#include "volume/rate_limit.h"
#include "volume/parent.h"
#include <stdlib.h>

#define RUN_BLOCKS 256u
#define TOLD_TRIES 100u /* batches */

/* Blocks that are looked at together. */
struct adoption {
    struct lsvd_volume *v;
    uint64_t first;
    uint32_t count;
    enum own own[RUN_BLOCKS], parents[RUN_BLOCKS];
    uint8_t *data; /* owned; RUN_BLOCKS */
    uint64_t copied; /* blocks */
    const struct lsvd_repair_callbacks *cb;
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
        return -ENODATA;
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

/* The files of a chunk that was being destaged at a crash may not tell yet what
 * they hold: the next batch writes them anew. */
static int
have_it_told(struct adoption *a, unsigned tries)
{
    uint64_t chunk = geometry_chunk_of(&a->v->g, a->first);
    int r;

    if (tries == TOLD_TRIES || !volume_chunk_is_dirty(a->v, chunk))
        return err_set(-EIO, "volume %s: chunk %llu: what its files say can't "
                       "be read now", meta_stored_name(&a->v->meta),
                       (unsigned long long)chunk);
    r = destage_batch(a->v);
    return r < 0 ? r : 0;
}

/* FL1. */
static int
adopt(struct adoption *a)
{
    unsigned tries = 0;
    struct lease lease;
    int r;

    space_throttle(a->v, a->count);
    do {
        lease_get(&a->v->leases, &lease, a->first, a->first + a->count, true);
        r = bypass_has(a->v, a->first, a->count) ? -EAGAIN : adopt_leased(a);
        lease_put(&a->v->leases, &lease);
        if (r == -ENODATA)
            r = have_it_told(a, tries++);
        else if (r == -EAGAIN)
            r = bypass_settle(a->v, a->first, a->count);
        else
            return r;
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
check_going(void *ctx)
{
    const struct adoption *a = ctx;

    return volume_check_going(a->v, a->cb);
}

static int
adopt_all(struct lsvd_volume *v, uint64_t rate_bytes,
          const struct lsvd_repair_callbacks *cb)
{
    struct adoption a = {.v = v, .cb = cb};
    struct lsvd_progress progress = {
        .chunks_total = geometry_chunk_count(&v->g)};
    struct rate_limit limit;
    int r = mem_new_aligned((size_t)RUN_BLOCKS * v->g.block_bytes, &a.data);

    rate_limit_begin(&limit, v->io, rate_bytes);
    for (uint64_t c = 0; c < progress.chunks_total && r == 0; c++) {
        r = check_going(&a);
        if (r == 0)
            r = adopt_chunk(&a, c);
        progress.chunks_done = c + 1;
        progress.bytes_done = a.copied * v->g.block_bytes;
        if (cb && cb->progress)
            cb->progress(cb->ctx, &progress);
        if (r == 0)
            r = rate_limit_keep(&limit, progress.bytes_done, check_going,
                                &a);
    }
    if (r == 0)
        r = check_going(&a); /* before the parent is let go */
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

static int
let_go(struct lsvd_volume *v, struct lsvd_volume *top,
       struct lsvd_volume **ret)
{
    struct volume_meta next = v->meta;

    take_grandparent(&next, &v->parent->meta);
    if (volume_store_meta_in_use(v, &next) < 0) { /* either is right */
        (void)volume_restore_meta(v);
        return err_wrap(-EIO, "volume %s keeps its parent for now",
                        meta_stored_name(&v->meta));
    }
    chain_lock(top, v);
    v->meta = next; /* what it owns is the same */
    *ret = v->parent;
    v->parent = (*ret)->parent;
    (*ret)->parent = NULL;
    chain_unlock(top, v);
    return 0;
}

struct end {
    struct lsvd_volume *v, *top, *parent;
};

static int
let_go_with_role(struct end *end)
{
    struct lease role;
    int r = role_get(end->v, &role);

    if (r < 0)
        return r;
    r = let_go(end->v, end->top, &end->parent);
    role_put(end->v, &role);
    return r;
}

/* Threads of what it is read for look at its parents, too. */
static int
end_level(void *arg)
{
    struct end *end = arg;
    struct lease role;
    int r = lsvd_flush(end->v);

    if (r < 0 || end->v == end->top)
        return r < 0 ? r : let_go_with_role(end);
    r = role_get(end->top, &role);
    if (r < 0)
        return r;
    r = let_go_with_role(end);
    role_put(end->top, &role);
    return r;
}

static void
go_on(struct lsvd_volume *v, struct lsvd_volume *top)
{
    destage_go_on(v);
    destage_go_on(top);
}

/* With no request under way; as little as can be is left to do then. */
static int
end_alone(struct end *end, const struct lsvd_alone *alone)
{
    char text[LSVD_TEXT_BYTES];
    int r = destage_hold(end->top);

    if (r == 0 && end->v != end->top)
        r = destage_hold(end->v);
    if (r == 0) {
        r = alone->run(alone->ctx, end_level, end, text);
        if (r < 0)
            (void)err_set(r, "%s", text);
    }
    go_on(end->v, end->top);
    return r;
}

int
adopt_level(struct lsvd_volume *v, struct lsvd_volume *top,
            uint64_t rate_bytes, const struct lsvd_alone *alone,
            const struct lsvd_repair_callbacks *cb)
{
    struct end end = {.v = v, .top = top};
    struct lease chain;
    int r = borrow_check_alone(v->parent);

    if (r == 0)
        r = adopt_all(v, rate_bytes, cb);
    if (r == 0)
        r = lsvd_flush(v);
    if (r < 0)
        return r;
    lease_get(&top->chain, &chain, 0, 1, true); /* while requests go on */
    r = end_alone(&end, alone);
    lease_put(&top->chain, &chain); /* who comes now does not find it */
    if (r < 0)
        return r;
    event_note(top, LOG_WARNING_LEVEL, "flatten", 0, "%s needs its parent %s "
               "no more", meta_stored_name(&v->meta),
               meta_stored_name(&end.parent->meta));
    volume_let_go(end.parent);
    return 0;
}
