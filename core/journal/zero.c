/* zero.c: a range of blocks becomes zeroes: one mark for a whole chunk, an
 * entry a block at the ragged ends, nothing where nothing is.
 *
 * Between plan and apply the record is written without the lock. The caller's
 * lease keeps others from making entries in the range meanwhile; destage may
 * drop some. So what needed nothing at the plan needs nothing later, and what
 * needed something gets it, needed or not.
 *
 * (Z1) A record that zeroes the last chunk as a whole goes on to the end of
 *      that chunk, behind the volume's: there is nothing yet, and a replay does
 *      not depend on where the volume ends then (it may have grown). */
#include "journal/state.h"

#include "base/err.h"
#include <assert.h>

/* The part of [from, plan->end) that lies in one chunk. */
struct piece {
    uint64_t chunk, first, end;
    bool whole;
};

/* Z1. */
static uint64_t
whole_end(const struct journal *j, uint64_t first, uint64_t end)
{
    uint64_t chunk_blocks = j->index.chunk_blocks;
    uint64_t last = (end - 1) / chunk_blocks * chunk_blocks;

    return end == j->volume_blocks && first <= last ? last + chunk_blocks
                                                    : end;
}

static struct piece
piece_at(const struct journal *j, const struct zero_plan *plan, uint64_t from)
{
    uint32_t chunk_blocks = j->index.chunk_blocks;
    struct piece p = { .chunk = from / chunk_blocks, .first = from };
    uint64_t chunk_first = p.chunk * chunk_blocks;
    uint64_t chunk_end = chunk_first + chunk_blocks;

    p.end = plan->end < chunk_end ? plan->end : chunk_end;
    p.whole = p.first == chunk_first && p.end == chunk_end;
    return p;
}

int
zero_plan_locked(struct journal *j, uint64_t first, uint64_t count,
                 bool (*present)(void *ctx, uint64_t chunk), void *ctx,
                 struct zero_plan *ret)
{
    uint32_t chunk_blocks = j->index.chunk_blocks;
    uint64_t touched = (first + count - 1) / chunk_blocks -
                       first / chunk_blocks + 1;
    struct piece p;

    assert(count > 0);
    assert(first + count > first);
    *ret = (struct zero_plan){ .first = first,
                               .end = whole_end(j, first, first + count) };
    if (touched > JOURNAL_ZERO_CHUNKS_MAX)
        return err_set(-EFBIG, "%s: zeroes over %llu chunks in one record",
                       j->path, (unsigned long long)touched);
    for (uint64_t at = first, i = 0; at < ret->end; at = p.end, i++) {
        p = piece_at(j, ret, at);
        /* The index first: destage makes a chunk present before it
         * forgets its entries. */
        if (!index_find_chunk(&j->index, p.chunk) && present &&
            !present(ctx, p.chunk))
            continue;
        ret->needed[i / 64] |= UINT64_C(1) << i % 64;
        ret->nodes++;
        if (!p.whole)
            ret->entries += p.end - p.first;
    }
    return 0;
}

void
zero_apply_locked(struct journal *j, const struct zero_plan *plan,
                  uint64_t seq, uint32_t segment)
{
    struct piece p;

    for (uint64_t at = plan->first, i = 0; at < plan->end; at = p.end, i++) {
        p = piece_at(j, plan, at);
        if (!(plan->needed[i / 64] >> i % 64 & 1))
            continue;
        if (p.whole) {
            index_put_zero_chunk(&j->index, p.chunk, seq, segment);
            continue;
        }
        for (uint64_t block = p.first; block < p.end; block++) {
            struct journal_block b = { .block = block, .seq = seq };

            index_put(&j->index, &b, segment);
        }
    }
}
