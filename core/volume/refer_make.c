/* refer_make.c: blocks become references, and references blocks (refer.h).
 *
 * All of it for one chunk at a time, with all its blocks leased and the role
 * taken, so that nobody writes to it, and no destage of it is under way: what
 * was compared is what becomes a reference, and the file that is put in place
 * is not removed under it. */
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "volume/bypass.h"
#include "volume/parent.h"
#include "volume/refer.h"
#include <stdlib.h>
#include <string.h>

#define RUN_BLOCKS 256u

struct making {
    struct lsvd_volume *v;
    struct chunk *chunk; /* pinned */
    uint64_t first;      /* block */
    uint32_t count;
    struct lease blocks, role;
    uint8_t *own, *other; /* RUN_BLOCKS each; owned */
    uint8_t *is;          /* enum own, or OVERWRITTEN, count; owned */
};

/* Its cell says that it is a reference, and the journal that it is something
 * else, which may not be durable: what stands in the file is needed yet (RF2).
 */
#define OVERWRITTEN 100

static int
note_own(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    struct making *m = ctx;

    memset(m->is + (first - m->first), (int)is, count);
    return 0;
}

static void
note_overwritten(struct making *m)
{
    uint64_t number = m->chunk->number;
    struct lease lease;

    lease_get(&m->v->chunk_leases, &lease, number, number + 1, false);
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->is[i] != OWN_REFERENCE &&
            refer_cell_says_so(m->v, m->chunk, i))
            m->is[i] = OVERWRITTEN;
    }
    lease_put(&m->v->chunk_leases, &lease);
}

/* Was it being destaged at a crash? Then what its cells say is not known before
 * the next batch: what the file has for them must stay (RF2). */
static bool
is_doubtful(struct making *m)
{
    uint64_t number = m->chunk->number;
    struct lease lease;
    bool doubtful = false;

    lease_get(&m->v->chunk_leases, &lease, number, number + 1, false);
    for (uint32_t i = 0; i < m->v->g.part_count; i++) {
        const struct fragment *f = chunk_fragment(m->v, m->chunk, i, NULL);

        doubtful |= f && f->doubtful;
    }
    lease_put(&m->v->chunk_leases, &lease);
    return doubtful;
}

/* Has it a chunk file (RF5)? What the journal has of it besides is overwritten
 * there as by any write. */
static int
check_settled(struct making *m)
{
    struct lsvd_volume *v = m->v;
    uint64_t number = m->chunk->number;
    int r;

    if (bypass_has(v, m->first, m->count))
        return -EAGAIN;
    if (tables_truth(v, number).state != CHUNK_PRESENT)
        return volume_chunk_is_dirty(v, number) ? -EAGAIN : -ENODATA;
    if (volume_chunk_is_dirty(v, number) && is_doubtful(m))
        return -EAGAIN;
    r = volume_own(v, m->first, m->count, note_own, m);
    if (r == 0)
        note_overwritten(m);
    return r;
}

static int
alloc(struct making *m)
{
    size_t bytes = (size_t)RUN_BLOCKS * m->v->g.block_bytes;
    int r = mem_new(m->count, sizeof *m->is, &m->is);

    if (r == 0)
        r = mem_new_aligned(bytes, &m->own);
    if (r == 0)
        r = mem_new_aligned(bytes, &m->other);
    return r;
}

static void
end(struct making *m)
{
    struct lsvd_volume *v = m->v;

    role_put(v, &m->role);
    lease_put(&v->leases, &m->blocks);
    chunk_put(v, m->chunk);
    free(m->is);
    free(m->own);
    free(m->other);
}

/* -EAGAIN: not now. -ENODATA: there is nothing to be done. Ended by end, if it
 * is 0. */
static int
begin(struct lsvd_volume *v, uint64_t chunk, struct making *m)
{
    int r;

    *m = (struct making){.v = v,
                         .first = geometry_first_block(&v->g, chunk),
                         .count = geometry_blocks_in(&v->g, chunk)};
    r = chunk_get(v, chunk, &m->chunk);
    if (r < 0)
        return r;
    lease_get(&v->leases, &m->blocks, m->first, m->first + m->count, true);
    r = role_get(v, &m->role);
    if (r < 0) {
        lease_put(&v->leases, &m->blocks);
        chunk_put(v, m->chunk);
        return r;
    }
    r = volume_check_ours(v);
    if (r == 0)
        r = alloc(m);
    if (r == 0)
        r = check_settled(m);
    if (r < 0)
        end(m);
    return r;
}

/* ---- to references ---- */

/* The blocks of the run that are equal, with their sums, into next. */
static uint32_t
compare_run(struct making *m, uint32_t at, uint32_t count,
            const struct reference *want, struct references *next)
{
    struct lsvd_volume *v = m->v;
    size_t bytes = v->g.block_bytes;
    uint32_t equal = 0;

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *own = m->own + i * bytes;

        if (memcmp(own, m->other + i * bytes, bytes) != 0)
            continue;
        next->block[at + i] = want[i];
        next->block[at + i].sum =
            sum_block(volume_block_seed(v, m->first + at + i), own, bytes);
        equal++;
    }
    return equal;
}

/* Neighbours that are the volume's own, wanted, and neighbours where they are
 * wanted to lead to; at least one. */
static uint32_t
run_length(const struct making *m, uint32_t at, const struct references *want)
{
    uint32_t run = 1;

    while (at + run < m->count && run < RUN_BLOCKS &&
           m->is[at + run] == OWN_DATA &&
           refer_follows(&m->v->g, &want->block[at + run - 1],
                         &want->block[at + run]))
        run++;
    return run;
}

/* RF2: a part that is away would miss the file, and could come back without the
 * chunk being looked at. */
static int
check_parts(struct lsvd_volume *v)
{
    uint32_t there = v->usable;

    if (v->resync.is_active)
        there |= UINT32_C(1) << v->resync.slot;
    if (there == volume_all_parts(v))
        return 0;
    return err_set(-EIO, "volume %s: part %c is not in use: blocks become "
                   "references when all are (lsvd status)", v->meta.name,
                   v->part[__builtin_ctz(~there)].letter);
}

static int
compare_all(struct making *m, const struct references *want,
            struct references *next, uint32_t *ret_equal)
{
    int r = 0;

    *ret_equal = 0;
    for (uint32_t at = 0, run; at < m->count && r == 0; at += run) {
        run = 1;
        if (m->is[at] != OWN_DATA || want->block[at].volume == 0)
            continue;
        run = run_length(m, at, want);
        r = volume_fetch(m->v, m->first + at, run, m->own);
        if (r == 0)
            r = refer_read(m->v, &want->block[at], run, m->other);
        if (r == 0)
            *ret_equal += compare_run(m, at, run, &want->block[at], next);
    }
    return r;
}

/* As journal_await, which would wait for who waits for the role. */
static int
settle(struct lsvd_volume *v)
{
    int r = journal_settle(v);

    return r < 0 ? journal_failed(v, r) : 0;
}

/* Before an entry goes that no block needs any more (RF2): a record that says
 * otherwise may be durable, and those over it not yet. */
static int
make_durable(struct making *m)
{
    struct lsvd_volume *v = m->v;
    int r;

    if (!volume_chunk_is_dirty(v, m->chunk->number))
        return 0;
    r = journal_sync(v->journal);
    return r < 0 ? journal_failed(v, r) : settle(v);
}

static int
append(struct lsvd_volume *v, uint64_t first, uint32_t count)
{
    struct admission a;
    int r = space_admit(v, &a, first, count, 0);

    if (r < 0)
        return r;
    r = journal_append_reference(v->journal, first, count);
    space_admitted(v, &a, r == 0);
    if (r == -EAGAIN)
        return r;
    return r < 0 ? journal_failed(v, r) : settle(v);
}

/* RF2: the file is durable. */
static int
append_all(struct making *m, const struct references *next,
           struct refer_result *ret)
{
    int r = 0;

    for (uint32_t at = 0, run; at < m->count && r == 0; at += run) {
        bool refers = m->is[at] == OWN_DATA && next->block[at].volume != 0;

        for (run = 1; at + run < m->count && run < RUN_BLOCKS &&
                      refers == (m->is[at + run] == OWN_DATA &&
                                 next->block[at + run].volume != 0);
             run++)
            ;
        if (refers)
            r = append(m->v, m->first + at, run);
        if (refers && r == 0)
            ret->blocks += run;
    }
    return r;
}

static int
copy_table(struct making *m, struct references **ret)
{
    uint64_t number = m->chunk->number;
    const struct references *old;
    struct lease lease;
    int r;

    lease_get(&m->v->chunk_leases, &lease, number, number + 1, false);
    r = chunk_references(m->v, m->chunk, &old);
    if (r == 0)
        r = references_copy(old, ret);
    lease_put(&m->v->chunk_leases, &lease);
    return r;
}

/* What the chunk has already, or may have; nothing that was left there of its
 * own blocks. */
static int
begin_table(struct making *m, struct references **ret)
{
    bool has = memchr(m->is, OWN_REFERENCE, m->count) ||
               memchr(m->is, OVERWRITTEN, m->count);
    bool may_have = memchr(m->is, OWN_UNKNOWN, m->count);
    int r = has || may_have ? copy_table(m, ret) : -ENOENT;

    if (!has && r == -ENOENT)
        r = references_new(&m->v->g, &m->v->meta.uuid, m->chunk->number, ret);
    for (uint32_t i = 0; r == 0 && i < m->count; i++) {
        if (m->is[i] != OWN_REFERENCE && m->is[i] != OWN_UNKNOWN &&
            m->is[i] != OVERWRITTEN)
            (*ret)->block[i] = (struct reference){.volume = 0};
    }
    return r;
}

static int
refer_all(struct making *m, const struct references *want,
          struct refer_result *ret)
{
    struct references *next;
    uint32_t equal;
    int r = check_parts(m->v);

    if (r == 0)
        r = begin_table(m, &next);
    if (r < 0)
        return r;
    r = compare_all(m, want, next, &equal);
    if (r == 0 && equal > 0)
        r = make_durable(m);
    if (r == 0 && equal > 0)
        r = check_parts(m->v); /* that may have cost one */
    if (r == 0 && equal > 0)
        r = references_put(m->v, m->chunk, next);
    if (r < 0 || equal == 0) {
        references_free(next);
        return r;
    }
    return append_all(m, next, ret); /* the chunk has it now */
}

int
refer_chunk(struct lsvd_volume *v, uint64_t chunk,
            const struct references *want, struct refer_result *ret)
{
    struct making m;
    int r = begin(v, chunk, &m);

    if (r < 0)
        return r == -ENODATA ? 0 : r;
    r = refer_all(&m, want, ret);
    end(&m);
    return r;
}

/* ---- and back ---- */

static int
take_over(struct making *m, uint32_t at, uint32_t count,
          struct refer_result *ret)
{
    struct lsvd_volume *v = m->v;
    uint64_t sums[RUN_BLOCKS];
    uint32_t most = (uint32_t)(journal_payload_max(v->journal) /
                               v->g.block_bytes);
    int r = volume_fetch(v, m->first + at, count, m->own);

    for (uint32_t i = 0; i < count; i++)
        sums[i] = sum_block(volume_block_seed(v, m->first + at + i),
                            m->own + (size_t)i * v->g.block_bytes,
                            v->g.block_bytes);
    for (uint32_t i = 0, n; i < count && r == 0; i += n) {
        struct admission a;

        n = count - i < most ? count - i : most;
        r = space_admit(v, &a, m->first + at + i, n,
                        (uint64_t)n * v->g.block_bytes);
        if (r < 0)
            break;
        r = journal_append_write(v->journal, m->first + at + i, n, sums + i,
                                 m->own + (size_t)i * v->g.block_bytes);
        space_admitted(v, &a, r == 0);
        if (r < 0 && r != -EAGAIN)
            r = journal_failed(v, r);
        else if (r == 0)
            r = settle(v);
        ret->blocks += r == 0 ? n : 0;
    }
    return r;
}

static int
undo_all(struct making *m, struct refer_result *ret)
{
    int r = 0;

    if (memchr(m->is, OWN_UNKNOWN, m->count))
        r = err_set(-EIO, "chunk %llu: what its files say can't be read now",
                    (unsigned long long)m->chunk->number);
    for (uint32_t at = 0, run; at < m->count && r == 0; at += run) {
        run = 1;
        if (m->is[at] != OWN_REFERENCE)
            continue;
        while (at + run < m->count && run < RUN_BLOCKS &&
               m->is[at + run] == OWN_REFERENCE)
            run++;
        r = space_check(m->v, m->first + at, run);
        if (r == 0)
            r = take_over(m, at, run, ret);
    }
    return r;
}

int
refer_undo(struct lsvd_volume *v, uint64_t chunk, struct refer_result *ret)
{
    struct making m;
    int r = begin(v, chunk, &m);

    if (r < 0)
        return r == -ENODATA ? 0 : r;
    r = undo_all(&m, ret);
    end(&m);
    return r;
}

static int
remove_on_parts(struct lsvd_volume *v, struct chunk *c)
{
    struct lease lease;
    int r = 0;

    lease_get(&v->chunk_leases, &lease, c->number, c->number + 1, true);
    chunk_forget_references(v, c);
    lease_put(&v->chunk_leases, &lease);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            continue;
        r = references_remove(v->part[i].dir, c->number);
        r = r == -ENOENT ? 0 : r;
        if (r < 0)
            r = part_failed(v, i, r);
    }
    return r;
}

static int
tidy(struct making *m)
{
    int r;

    if (memchr(m->is, OWN_REFERENCE, m->count) ||
        memchr(m->is, OVERWRITTEN, m->count) ||
        memchr(m->is, OWN_UNKNOWN, m->count))
        return -EAGAIN;
    if (!references_exist(m->v, m->chunk->number))
        return 0;
    r = make_durable(m);
    return r < 0 ? r : remove_on_parts(m->v, m->chunk);
}

int
references_tidy(struct lsvd_volume *v, uint64_t chunk)
{
    struct making m;
    int r = begin(v, chunk, &m);

    if (r < 0)
        return r == -ENODATA ? 0 : r;
    r = tidy(&m);
    end(&m);
    return r;
}
