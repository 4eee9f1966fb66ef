/* extents.c: what is allocated: the journal's index over the chunk tables
 * over the fragments' tables. */
#include "volume/bypass.h"
#include "base/err.h"
#include "base/sum.h"
#include <string.h>

#define RUN_BLOCKS_MAX 1024u

/* Is this block stored on the parts? Caller holds the chunk lease. */
static bool
block_is_stored(struct lsvd_volume *v, struct chunk *c, uint32_t block)
{
    uint32_t slot = geometry_fragment_of(&v->g, block);
    uint32_t row = geometry_row_of(&v->g, block);
    struct fragment *f;

    if (bypass_is_found(v, c->number))
        return true;
    if (v->g.is_ec) {
        f = chunk_fragment(v, c, slot, NULL);
        if (f && !f->doubtful)
            return fragment_entry(f, row).sum != SUM_ZERO_BLOCK;
        for (uint32_t i = v->g.data_count; i < v->g.part_count; i++) {
            f = chunk_fragment(v, c, i, NULL);
            if (f && !f->doubtful)
                return fragment_stripe_sum(f, row, slot) != SUM_ZERO_BLOCK;
        }
        return true;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        f = chunk_fragment(v, c, i, NULL);
        if (f && !f->doubtful)
            return fragment_entry(f, row).sum != SUM_ZERO_BLOCK;
    }
    return true; /* nobody knows: reading will tell */
}

/* A run of joined answers, not yet handed out. */
struct run {
    uint64_t first, count;
    bool is_data;
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

static bool
chunk_is_dirty(struct lsvd_volume *v, uint64_t chunk)
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
is_hole(struct lsvd_volume *v, uint64_t chunk)
{
    uint64_t spills = bypass_spills(v);

    return !chunk_is_dirty(v, chunk) &&
           chunk_truth(v, chunk).state != CHUNK_PRESENT &&
           spills == bypass_spills(v);
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
    struct lease lease;
    struct chunk *c;
    bool present;
    int r;

    if (is_hole(v, number))
        return run_add(run, first, count, false);
    r = chunk_get(v, number, &c);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, number, number + 1, false);
    present = chunk_truth(v, number).state == CHUNK_PRESENT;
    while (count > 0 && r == 0) {
        uint32_t n = count < RUN_BLOCKS_MAX ? count : RUN_BLOCKS_MAX;

        if (v->journal)
            journal_lookup(v->journal, first, n, have);
        else
            memset(have, 0, n);
        for (uint32_t i = 0; i < n && r == 0; i++) {
            bool is_data = have[i] == 1;

            if (have[i] == 0 && present)
                is_data = block_is_stored(
                    v, c, geometry_block_in_chunk(&v->g, first + i));
            r = run_add(run, first + i, 1, is_data);
        }
        first += n;
        count -= n;
    }
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return r;
}

int
lsvd_extents(struct lsvd_volume *v, uint64_t count, uint64_t offset,
             int (*cb)(void *ctx, uint64_t offset, uint64_t count,
                       bool is_data),
             void *ctx)
{
    struct run run = {.cb = cb,
                      .ctx = ctx,
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
