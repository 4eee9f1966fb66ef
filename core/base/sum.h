/* sum.h: checksums; the only user of xxHash.
 *
 * A block's sum is XXH3-64 seeded with the volume, the chunk and the cell (see
 * sum_seed), so that a block that landed in the wrong place does not pass.
 * Two values are kept for blocks whose bytes are nowhere: 0 for "it reads as
 * zeroes", and one for "it is a reference" (chunk/references.h): a block that
 * happens to hash to one of them gets 1. */
#ifndef LSVD_BASE_SUM_H
#define LSVD_BASE_SUM_H

#include "base/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUM_ZERO_BLOCK UINT64_C(0)
#define SUM_REFERENCE (UINT64_MAX - 1)

/* Of a cell: has it bytes of its own, or is it a hole in its file? */
static inline bool
sum_has_bytes(uint64_t sum)
{
    return sum != SUM_ZERO_BLOCK && sum != SUM_REFERENCE;
}

/* Seed for the block at place `cell` of chunk `chunk`. Data blocks: cell is
 * the block's index in its chunk, the same on every replica. Parity blocks:
 * (1 << 63) | parity index << 32 | row. Pure. */
uint64_t sum_seed(const struct uuid *volume, uint64_t chunk, uint64_t cell);

/* Seeded sum of one block; sum_has_bytes of it is true. */
uint64_t sum_block(uint64_t seed, const void *data, size_t bytes);

/* Unseeded XXH3-64, for headers, tables and records. */
uint64_t sum_bytes(const void *data, size_t bytes);

/* Unseeded XXH3-128, to find blocks that are probably equal. */
void sum_wide(const void *data, size_t bytes, uint64_t *ret_high,
              uint64_t *ret_low);

/* True if every byte is zero. */
bool sum_all_zero(const void *data, size_t bytes);

#endif
