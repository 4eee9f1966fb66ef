/* extents.c: what is allocated: the journal's index over the chunk tables
 * over the fragments' tables. */
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

enum stored { STORED_ZERO, STORED_DATA, STORED_ABSENT };

/* What the parts hold of a block; absent: that is the parent's (PA1). */
static enum stored
what_is_stored(struct lsvd_volume *v, struct chunk *c, uint64_t at)
{
    uint64_t sum;

    if (!sum_of_cell(v, c, geometry_block_in_chunk(&v->g, at), &sum))
        return STORED_DATA; /* nobody knows: reading will tell */
    if (sum == SUM_ZERO_BLOCK)
        return volume_is_clone(v) ? STORED_ABSENT : STORED_ZERO;
    return volume_sum_is_zero(v, at, sum) ? STORED_ZERO : STORED_DATA;
}

/* A run of joined answers, not yet handed out. */
struct run {
    uint64_t first, count;
    bool is_data;
    bool own_only; /* what the parent has is a hole */
    int (*cb)(void *ctx, uint64_t offset, uint64_t count, bool is_data);
    void *ctx;
    uint64_t begin, end; /* bytes that were asked for */
    uint64_t block_bytes;
};

static int
run_emit(struct run *run)
{
    uint64_t offset = run->first * run->block_bytes;
    uint64_t end = offset + run->count * run->block_bytes;

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
run_add(struct run *run, uint64_t first, uint64_t count, bool is_data)
{
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
 * Nor does the parent show there. */
static bool
is_hole(struct lsvd_volume *v, const struct run *run, uint64_t chunk)
{
    uint64_t spills = bypass_spills(v);
    bool is_dirty = volume_chunk_is_dirty(v, chunk);
    struct chunk_entry truth = chunk_truth(v, chunk);

    return !is_dirty && truth.state != CHUNK_PRESENT &&
           spills == bypass_spills(v) &&
           (run->own_only || truth.seq != 0 || !parent_shows(v, chunk));
}

static int
add_parent_run(void *ctx, uint64_t first, uint64_t count, bool is_data)
{
    return run_add(ctx, first, count, is_data);
}

/* Blocks that the clone says nothing of. */
static int
add_absent(struct lsvd_volume *v, struct run *run, uint64_t first,
           uint64_t count)
{
    uint64_t told;
    int r = 0;

    if (count > 0 && !run->own_only)
        r = parent_extents(v, first, count, add_parent_run, run);
    told = run->count > 0 && run->first + run->count > first
               ? run->first + run->count - first
               : 0;
    if (r == 0 && told < count)
        r = run_add(run, first + told, count - told, false);
    return r;
}

/* Blocks [first, first + count) of one chunk. The lease comes before the
 * question whether it has files: destage answers that anew, and then takes the
 * blocks out of the index, only with the lease of its own; between the two a
 * block would be in neither place. */
static int
add_chunk(struct lsvd_volume *v, struct run *run, uint64_t first,
          uint32_t count)
{
    uint64_t number = geometry_chunk_of(&v->g, first);
    uint8_t have[RUN_BLOCKS_MAX];
    uint64_t absent = 0; /* so many before the one that is looked at */
    struct chunk_entry truth;
    struct lease lease;
    struct chunk *c;
    int r;

    if (is_hole(v, run, number))
        return run_add(run, first, count, false);
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
            enum stored is = have[i] == 1 ? STORED_DATA : STORED_ZERO;

            if (have[i] == 0 && truth.state == CHUNK_PRESENT)
                is = what_is_stored(v, c, first + i);
            else if (have[i] == 0 && truth.seq == 0 && volume_is_clone(v))
                is = STORED_ABSENT;
            if (is == STORED_ABSENT) {
                absent++;
                continue;
            }
            r = add_absent(v, run, first + i - absent, absent);
            absent = 0;
            if (r == 0)
                r = run_add(run, first + i, 1, is == STORED_DATA);
        }
        first += n;
        count -= n;
    }
    if (r == 0)
        r = add_absent(v, run, first - absent, absent);
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return r;
}

static int
each_extent(struct lsvd_volume *v, uint64_t count, uint64_t offset,
            bool own_only, int (*cb)(void *ctx, uint64_t offset,
                                     uint64_t count, bool is_data),
            void *ctx)
{
    struct run run = {.cb = cb,
                      .ctx = ctx,
                      .own_only = own_only,
                      .begin = offset,
                      .end = offset + count,
                      .block_bytes = v->g.block_bytes};
    uint64_t first, end;
    int r;

    r = volume_check_range(v, count, offset);
    if (r < 0 || count == 0)
        return r;
    first = offset / v->g.block_bytes;
    end = (offset + count - 1) / v->g.block_bytes + 1;
    while (first < end) {
        uint32_t left = v->g.chunk_blocks -
                        geometry_block_in_chunk(&v->g, first);
        uint32_t n = end - first < left ? (uint32_t)(end - first) : left;

        r = add_chunk(v, &run, first, n);
        if (r != 0)
            return r;
        first += n;
    }
    return run_emit(&run);
}

int
lsvd_extents(struct lsvd_volume *v, uint64_t count, uint64_t offset,
             int (*cb)(void *ctx, uint64_t offset, uint64_t count,
                       bool is_data),
             void *ctx)
{
    return each_extent(v, count, offset, false, cb, ctx);
}

static int
any_hole(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    (void)ctx;
    (void)offset;
    (void)count;
    return is_data ? 0 : 1;
}

bool
volume_is_allocated(struct lsvd_volume *v, uint64_t count, uint64_t offset)
{
    return each_extent(v, count, offset, true, any_hole, NULL) == 0;
}
