/* extents.c: what a volume says of its blocks, and what is allocated: the
 * journal's index over the chunk tables over the fragments' tables, and then
 * the parent. */
#include "volume/bypass.h"
#include "volume/parent.h"
#include "base/err.h"
#include "base/sum.h"
#include <string.h>

#define RUN_BLOCKS_MAX 1024u

/* What is known of the sum of this block's cell; false: nothing. Caller holds
 * the chunk lease. */
static bool
sum_of_cell(struct lsvd_volume *v, struct chunk *c, uint32_t block,
            uint64_t *ret)
{
    uint32_t slot = geometry_fragment_of(&v->g, block);
    uint32_t row = geometry_row_of(&v->g, block);
    uint32_t first = v->g.is_ec ? slot : 0;
    uint32_t end = v->g.is_ec ? slot + 1 : v->g.part_count;
    struct fragment *f;

    if (bypass_is_found(v, c->number))
        return false;
    for (uint32_t i = first; i < end; i++) {
        f = chunk_fragment(v, c, i, NULL);
        if (!f || f->doubtful)
            continue;
        *ret = fragment_entry(f, row).sum;
        return true;
    }
    for (uint32_t i = v->g.data_count; v->g.is_ec && i < v->g.part_count;
         i++) {
        f = chunk_fragment(v, c, i, NULL);
        if (!f || f->doubtful)
            continue;
        *ret = fragment_stripe_sum(f, row, slot);
        return true;
    }
    return false;
}

/* What the parts hold of a block (PA1). */
static enum own
what_is_stored(struct lsvd_volume *v, struct chunk *c, uint64_t at)
{
    uint64_t sum;

    if (!sum_of_cell(v, c, geometry_block_in_chunk(&v->g, at), &sum))
        return OWN_UNKNOWN; /* reading will tell */
    if (sum == SUM_ZERO_BLOCK)
        return volume_is_clone(v) ? OWN_ABSENT : OWN_ZERO;
    if (sum == SUM_REFERENCE)
        return OWN_REFERENCE;
    return volume_sum_is_zero(v, at, sum) ? OWN_ZERO : OWN_DATA;
}

/* A run of joined answers, not yet handed out. */
struct own_run {
    uint64_t first, count;
    enum own is;
    volume_own_cb cb;
    void *ctx;
};

static int
own_emit(struct own_run *run)
{
    uint64_t count = run->count;

    run->count = 0;
    return count > 0 ? run->cb(run->ctx, run->first, count, run->is) : 0;
}

static int
own_add(struct own_run *run, uint64_t first, uint64_t count, enum own is)
{
    int r;

    if (run->count > 0 && run->is == is) {
        run->count += count;
        return 0;
    }
    r = own_emit(run);
    run->first = first;
    run->count = count;
    run->is = is;
    return r;
}

bool
volume_chunk_is_dirty(struct lsvd_volume *v, uint64_t chunk)
{
    size_t total = 0;
    uint64_t zero_seq = 0;

    if (!v->journal)
        return false;
    journal_chunk_blocks(v->journal, chunk - 1, NULL, 0, &total, &zero_seq);
    return total > 0 || zero_seq != 0;
}

/* In neither place, however blocks went from one to the other meanwhile: those
 * of a destage are on the parts first, others in the journal (bypass_spills).
 */
static bool
has_no_blocks(struct lsvd_volume *v, uint64_t chunk,
              struct chunk_entry *ret_truth)
{
    uint64_t spills = bypass_spills(v);
    bool is_dirty = volume_chunk_is_dirty(v, chunk);

    *ret_truth = chunk_truth(v, chunk);
    return !is_dirty && ret_truth->state != CHUNK_PRESENT &&
           spills == bypass_spills(v);
}

/* A chunk without files, as far as the parts go. */
static enum own
what_a_hole_says(const struct lsvd_volume *v, const struct chunk_entry *truth)
{
    return truth->seq == 0 && volume_is_clone(v) ? OWN_ABSENT : OWN_ZERO;
}

static enum own
what_is_journalled(uint8_t have)
{
    return have == JOURNAL_ZEROES      ? OWN_ZERO
           : have == JOURNAL_REFERENCE ? OWN_REFERENCE
                                       : OWN_DATA;
}

/* Blocks [first, first + count) of one chunk. The lease comes before the
 * question whether it has files: destage answers that anew, and then takes the
 * blocks out of the index, only with the lease of its own; between the two a
 * block would be in neither place. */
static int
own_of_chunk(struct lsvd_volume *v, struct own_run *run, uint64_t first,
             uint32_t count)
{
    uint64_t number = geometry_chunk_of(&v->g, first);
    uint8_t have[RUN_BLOCKS_MAX];
    struct chunk_entry truth;
    struct lease lease;
    struct chunk *c;
    int r;

    if (has_no_blocks(v, number, &truth))
        return own_add(run, first, count, what_a_hole_says(v, &truth));
    r = chunk_get(v, number, &c);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, number, number + 1, false);
    truth = chunk_truth(v, number);
    while (count > 0 && r == 0) {
        uint32_t n = count < RUN_BLOCKS_MAX ? count : RUN_BLOCKS_MAX;

        if (v->journal)
            journal_lookup(v->journal, first, n, have);
        else
            memset(have, 0, n);
        for (uint32_t i = 0; i < n && r == 0; i++) {
            enum own is = what_is_journalled(have[i]);

            if (have[i] == 0)
                is = truth.state == CHUNK_PRESENT
                         ? what_is_stored(v, c, first + i)
                         : what_a_hole_says(v, &truth);
            r = own_add(run, first + i, 1, is);
        }
        first += n;
        count -= n;
    }
    if (r == 0)
        r = own_emit(run);
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return r;
}

int
volume_own(struct lsvd_volume *v, uint64_t first, uint64_t count,
           volume_own_cb cb, void *ctx)
{
    struct own_run run = {.cb = cb, .ctx = ctx};
    uint64_t end = first + count;
    int r = 0;

    while (first < end && r == 0) {
        uint32_t left = v->g.chunk_blocks -
                        geometry_block_in_chunk(&v->g, first);
        uint32_t n = end - first < left ? (uint32_t)(end - first) : left;

        r = own_of_chunk(v, &run, first, n);
        first += n;
    }
    return r == 0 ? own_emit(&run) : r;
}

/* ---- with what the parent has ---- */

/* The same for lsvd_extents. */
struct run {
    struct lsvd_volume *v;
    uint64_t first, count;
    bool is_data;
    int (*cb)(void *ctx, uint64_t offset, uint64_t count, bool is_data);
    void *ctx;
    uint64_t begin, end; /* bytes that were asked for */
};

static int
run_emit(struct run *run)
{
    uint64_t bytes = run->v->g.block_bytes;
    uint64_t offset = run->first * bytes, end = offset + run->count * bytes;

    if (run->count == 0)
        return 0;
    if (offset < run->begin)
        offset = run->begin;
    if (end > run->end)
        end = run->end;
    run->count = 0;
    return end > offset ? run->cb(run->ctx, offset, end - offset,
                                  run->is_data)
                        : 0;
}

static int
run_add(void *ctx, uint64_t first, uint64_t count, bool is_data)
{
    struct run *run = ctx;
    int r;

    if (run->count > 0 && run->is_data == is_data) {
        run->count += count;
        return 0;
    }
    r = run_emit(run);
    run->first = first;
    run->count = count;
    run->is_data = is_data;
    return r;
}

/* What the parent does not tell of is zeroes. */
static int
add_own(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    struct run *run = ctx;
    uint64_t told;
    int r;

    if (is != OWN_ABSENT)
        return run_add(run, first, count, is != OWN_ZERO);
    r = parent_extents(run->v, first, count, run_add, run);
    told = run->count > 0 && run->first + run->count > first
               ? run->first + run->count - first
               : 0;
    if (r == 0 && told < count)
        r = run_add(run, first + told, count - told, false);
    return r;
}

/* Blocks that a range of bytes touches. */
static void
blocks_of(const struct lsvd_volume *v, uint64_t count, uint64_t offset,
          uint64_t *ret_first, uint64_t *ret_count)
{
    *ret_first = offset / v->g.block_bytes;
    *ret_count = (offset + count - 1) / v->g.block_bytes + 1 - *ret_first;
}

int
lsvd_extents(struct lsvd_volume *v, uint64_t count, uint64_t offset,
             int (*cb)(void *ctx, uint64_t offset, uint64_t count,
                       bool is_data),
             void *ctx)
{
    struct run run = {.v = v,
                      .cb = cb,
                      .ctx = ctx,
                      .begin = offset,
                      .end = offset + count};
    uint64_t first, blocks;
    int r;

    r = volume_check_range(v, count, offset);
    if (r < 0 || count == 0)
        return r;
    blocks_of(v, count, offset, &first, &blocks);
    r = volume_own(v, first, blocks, add_own, &run);
    return r == 0 ? run_emit(&run) : r;
}

static int
any_but_data(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    (void)ctx;
    (void)first;
    (void)count;
    return is != OWN_DATA && is != OWN_UNKNOWN;
}

bool
volume_is_allocated(struct lsvd_volume *v, uint64_t count, uint64_t offset)
{
    uint64_t first, blocks;

    blocks_of(v, count, offset, &first, &blocks);
    return volume_own(v, first, blocks, any_but_data, NULL) == 0;
}
