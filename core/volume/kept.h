/* kept.h: old content of blocks, for who reads a volume as it was at a moment
 * (moment.h): which blocks are kept is in memory, their bytes are in a file
 * without a name in the cache directory.
 *
 * The file is made when the first bytes come. It is sparse, and cut into
 * regions: one for each chunk of which something is kept, in order of arrival;
 * in a region each block has its place, and behind them all have their sums
 * (XXH3-64, seeded with volume, chunk and block), 8 bytes each.
 *
 * (KP1) A block is kept once, and never changes then; it is found only when
 *       all of it is in the file.
 * (KP2) Bytes are given out only if they have the sum that stands in the file
 *       for that block of that volume. A sum that was lost is 0, which none is.
 * (KP3) Nothing of it survives the process, and nothing is synced: the name is
 *       gone before the first byte is written. What is left by a kill in
 *       between is removed by who makes the next.
 * (KP4) Memory: 2 bits a block, and some 40 bytes, of each chunk of which
 *       something is kept; 8 KiB for each thousand chunks that lie side by side
 *       with one of those. With 4 KiB blocks that is 80 MiB for a TiB of which
 *       every chunk was written to. A block of zeroes takes nothing else.
 * No mutex is held across I/O; that of the index is the innermost. Any thread;
 * nobody keeps a block beside another who keeps the same, or looks for it. */
#ifndef LSVD_VOLUME_KEPT_H
#define LSVD_VOLUME_KEPT_H

#include "base/io.h"
#include "base/uuid.h"
#include <stddef.h>

#define KEPT_RUN_MAX 256u /* blocks that are kept or read at a time */
#define KEPT_PLACES_MAX 2

struct kept;

struct kept_shape {
    struct uuid volume;
    uint32_t block_bytes, chunk_blocks;
    uint64_t block_count;
};

/* Directories, of which the first that works is taken, and the name that the
 * file has for a moment. io is borrowed for as long as the file is open. */
struct kept_place {
    struct io *io;
    const char *path[KEPT_PLACES_MAX]; /* or NULL */
    const char *name;
};

enum kept_state { KEPT_NOT, KEPT_ZERO, KEPT_DATA };

/* Opens nothing yet. -ENOMEM. */
int kept_new(const struct kept_shape *shape, const struct kept_place *place,
             struct kept **ret);
void kept_free(struct kept *k); /* NULL is fine */

/* What there is of a block below block_count; ret_run: of so many, up to count,
 * that is true. Data: all of one chunk. */
enum kept_state kept_find(struct kept *k, uint64_t block, uint64_t count,
                          uint64_t *ret_run);
/* Keep these blocks of one chunk, of which none is kept; at most KEPT_RUN_MAX.
 * An error: some of them may be. */
int kept_put(struct kept *k, uint64_t first, uint32_t count,
             const uint8_t *data);
/* Blocks that are found as data, in one run. -EIO: also if it is not what was
 * kept. */
int kept_get(struct kept *k, uint64_t first, uint32_t count, uint8_t *to);
/* Give all its space back; nothing can be read any more. */
void kept_empty(struct kept *k);
/* The same, with nobody who uses it, and for ever: io may go. */
void kept_close(struct kept *k);
/* Bytes in the file. */
uint64_t kept_bytes(struct kept *k);

#endif
