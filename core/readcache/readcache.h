/* readcache.h: copies of blocks in a file of the cache directory, for volumes
 * whose parts are slower than that.
 *
 * A file, <volume UUID>.rcache: a header, a table of slots (what was where when
 * it was stored last), and the slots, a block each; docs/format.md. The index
 * is in RAM (slots.h).
 *
 * Why a wrong block cannot be served:
 * (RC1) Who asks brings the sum that the block must have now: that of the entry
 *       in force, in the chunk file of a part, by which the part's own bytes
 *       would be judged, too. What is read from a slot is served only if its
 *       sum, seeded with volume, chunk and block, is that one. Bytes that are
 *       old, torn, another block's, another volume's, or garbage don't pass; a
 *       block that passes is one that the part could have given. So nothing of
 *       this depends on what the index, the table or the file say, on anything
 *       being dropped in time when a block is written, on an order of writes
 *       to the file, or on a clean end of the server before.
 * (RC2) Therefore nothing in the file is ever synced, and after a crash the
 *       table of the last clean end is used as it is: what was overwritten
 *       since fails its check once, and is forgotten.
 * (RC3) A tag, 16 bits of the sum, stands in the index: what has been written
 *       since is mostly known to be out of date without a read.
 * (RC4) An error of the file is told once, by the call that meets it; the
 *       caller stops using the cache then, and goes to the parts.
 * (RC5) The table is read in steps, since that of a large cache takes a while.
 *      Until all of it is, blocks are found as far as it is, nothing is let in,
 *      and storing leaves the rest as it is.
 * No mutex is held across I/O. Any thread. */
#ifndef LSVD_READCACHE_READCACHE_H
#define LSVD_READCACHE_READCACHE_H

#include "base/uuid.h"
#include "target/target.h"

#define READCACHE_BYTES_MIN (64u << 10) /* and 16 blocks */

struct readcache;

struct readcache_shape {
    struct uuid volume;
    uint32_t block_bytes;
    uint64_t bytes;       /* of the file, all included; at least the minimum */
    uint64_t block_count; /* of the volume now */
};

/* One block that is asked for or offered. */
struct readcache_block {
    uint64_t seed; /* of the volume, the chunk and the block */
    uint64_t sum;  /* what its bytes must sum up to; 0: not wanted */
    bool is_guess; /* offered: nobody has asked for it yet; slots.h */
};

struct readcache_counts {
    uint64_t slots, used;
    uint64_t hits, misses, admitted, evicted;
    uint64_t wrong; /* slots that held something else than they should */
    uint64_t memory; /* of the index, at most */
};

/* Open or make the file in dir (borrowed). A file that is
 * another volume's, of another shape, damaged or of the future becomes an empty
 * one of ours. Nothing of the table is read yet. -EBUSY: another process uses
 * it. */
int readcache_open(struct target *dir, const char *name,
                   const struct readcache_shape *shape,
                   struct readcache **ret);
/* RC5: read at most so many pages more of the table. 1: there are more; 0: all
 * are read. One thread at a time. */
int readcache_load(struct readcache *rc, uint64_t pages);
/* Write down what is where, for the next start. Nobody loads. */
int readcache_store(struct readcache *rc);
void readcache_close(struct readcache *rc); /* NULL is fine; writes nothing */

/* Blocks [first, first + count): those that are here, and right, are put to
 * their places in `to`, and have[i] is set; what the others' places hold then
 * is undefined. No read is waited for longer than patience_ns (0: as long as it
 * takes): -EAGAIN then. Errors: RC4; have[] counts all the same. */
int readcache_get(struct readcache *rc, uint64_t first, uint32_t count,
                  const struct readcache_block *want, void *to,
                  uint64_t patience_ns, bool *have);

/* These blocks were read from the parts, or put there (is_change), and are
 * right: keep those that the policy lets in. */
int readcache_offer(struct readcache *rc, uint64_t first, uint32_t count,
                    const struct readcache_block *blocks, const void *data,
                    bool is_change);
/* Would guesses be let in? */
bool readcache_has_room(struct readcache *rc);
/* It has become zeroes. */
void readcache_drop(struct readcache *rc, uint64_t block);

void readcache_get_counts(struct readcache *rc, struct readcache_counts *ret);

/* ---- format.c ---- */

#define READCACHE_PAGE_BYTES 4096u
#define READCACHE_PAGE_SLOTS 511u /* 8 bytes each, then 8 of a sum */

struct readcache_header {
    struct uuid volume;
    uint32_t block_bytes;
    uint64_t slots;
};

void readcache_header_encode(const struct readcache_header *h, uint8_t *page);
/* -EBADMSG: none, or damaged; -EPROTO: of the future. */
int readcache_header_decode(const uint8_t *page,
                            struct readcache_header *ret);
/* The sum at the end of page nth of the table. */
void readcache_page_seal(const struct uuid *volume, uint64_t nth,
                         uint8_t *page);
bool readcache_page_is_sound(const struct uuid *volume, uint64_t nth,
                             const uint8_t *page);

uint16_t readcache_tag(uint64_t sum);      /* RC3 */
bool readcache_proves(const struct readcache_block *want, const void *data,
                      uint32_t bytes);     /* RC1 */

#endif
