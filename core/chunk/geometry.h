/* geometry.h: where a byte of the volume lies. Pure arithmetic.
 *
 * The volume is cut into chunks (chunk 1 is the first), a chunk into blocks.
 * Replicas: every part's fragment holds all blocks of the chunk, block b in
 * row b. EC K+M: block b is in row b / K of data fragment b % K, so that K
 * neighbouring blocks are one stripe; fragments K … K+M-1 hold parity. A cell
 * is (fragment, row). Rows of a ragged last stripe that have no block count
 * as zeroes.
 *
 * Fragment file:
 *   0                header, 4 KiB
 *   4096             table: rows x entry_bytes
 *   data_at          rows x block_bytes; data_at is a multiple of 4 KiB and of
 *                    the block size
 * Entry of a data cell (16 bytes): sum u64, seq u64. Entry of a parity cell:
 * sum u64, seq u64, then K x u64, the sums of the data cells it was computed
 * from ("stripe sums"). sum 0: the cell reads as zeroes and is not stored. */
#ifndef LSVD_CHUNK_GEOMETRY_H
#define LSVD_CHUNK_GEOMETRY_H

#include "base/limits.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAGMENT_HEADER_BYTES 4096u
#define DATA_ENTRY_BYTES 16u

struct geometry {
    atomic_uint_fast64_t volume_bytes; /* all that ever changes: it may grow
                                        * while others read it */
    uint32_t chunk_bytes, block_bytes;
    uint32_t block_shift;    /* log2 of block_bytes */
    uint32_t data_count;     /* K; 1 for replicas */
    uint32_t parity_count;   /* M; 0 for replicas */
    uint32_t part_count;     /* replicas, or K + M */
    bool is_ec;
    uint32_t chunk_blocks;   /* blocks a chunk */
    uint32_t rows;           /* cells a fragment */
};

/* Arguments are within limits.h (assert). replicas 0 means EC. */
void geometry_init(struct geometry *g, uint64_t volume_bytes,
                   uint32_t chunk_bytes, uint32_t block_bytes,
                   uint32_t replicas, uint32_t ec_data, uint32_t ec_parity);

/* The volume ends later from now on; what it held stays where it is. */
void geometry_grow(struct geometry *g, uint64_t volume_bytes);

/* Of the volume; the last one may be partial. */
static inline uint64_t
geometry_block_count(const struct geometry *g)
{
    return ((g->volume_bytes - 1) >> g->block_shift) + 1;
}

static inline uint64_t
geometry_chunk_count(const struct geometry *g)
{
    return (g->volume_bytes - 1) / g->chunk_bytes + 1;
}

/* Hash of what may never differ between the parts of a volume (not of the
 * size, which can grow). */
uint64_t geometry_hash(const struct geometry *g);

bool geometry_is_parity(const struct geometry *g, uint32_t fragment);
uint32_t geometry_entry_bytes(const struct geometry *g, uint32_t fragment);
uint64_t geometry_table_bytes(const struct geometry *g, uint32_t fragment);
uint64_t geometry_data_at(const struct geometry *g, uint32_t fragment);
/* Offset of a cell's data in its fragment file. */
uint64_t geometry_cell_at(const struct geometry *g, uint32_t fragment,
                          uint32_t row);
uint64_t geometry_file_bytes(const struct geometry *g, uint32_t fragment);

/* Chunk (from 1) of a block of the volume, and the block's index in it. */
uint64_t geometry_chunk_of(const struct geometry *g, uint64_t block);
uint32_t geometry_block_in_chunk(const struct geometry *g, uint64_t block);
/* First block of a chunk; and how many of its blocks the volume has. */
uint64_t geometry_first_block(const struct geometry *g, uint64_t chunk);
uint32_t geometry_blocks_in(const struct geometry *g, uint64_t chunk);

/* EC: data fragment and row of a block in its chunk. Replicas: fragment 0. */
uint32_t geometry_fragment_of(const struct geometry *g, uint32_t block);
uint32_t geometry_row_of(const struct geometry *g, uint32_t block);
/* The block of a data cell, or UINT32_MAX where a ragged row has none. */
uint32_t geometry_block_of(const struct geometry *g, uint32_t fragment,
                           uint32_t row);

#endif
