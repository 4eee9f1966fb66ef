/* sum.h: checksums; the only user of xxHash.
 *
 * A block's sum is XXH3-64 seeded with the volume, the chunk and the cell (see
 * sum_seed), so that a block that landed in the wrong place does not pass.
 * The value 0 is kept for "this block reads as zeroes": a block that happens
 * to hash to 0 gets 1. */
#ifndef LSVD_BASE_SUM_H
#define LSVD_BASE_SUM_H

#include "base/uuid.h"
#include <stddef.h>
#include <stdint.h>

#define SUM_ZERO_BLOCK UINT64_C(0)

/* Seed for the block at place `cell` of chunk `chunk`. Data blocks: cell is
 * the block's index in its chunk, the same on every replica. Parity blocks:
 * (1 << 63) | parity index << 32 | row. Pure. */
uint64_t sum_seed(const struct uuid *volume, uint64_t chunk, uint64_t cell);

/* Seeded sum of one block; never 0. */
uint64_t sum_block(uint64_t seed, const void *data, size_t bytes);

/* Unseeded XXH3-64, for headers, tables and records. */
uint64_t sum_bytes(const void *data, size_t bytes);

/* True if every byte is zero. */
bool sum_all_zero(const void *data, size_t bytes);

#endif
