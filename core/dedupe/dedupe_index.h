/* dedupe_index.h: where in a source a block with a given content lies: a sorted
 * file in the cache directory, "<UUID of the source>.dedupe".
 *
 *     0       4096  header: magic "LSVDdidx"; the sum of what follows in it,
 *                   u64; format u32, 1; block size u32; source UUID; source
 *                   size u64; bits of a hash that count u32; zero u32; entries
 *                   u64; pages u64; sum of the fences u64; generation of the
 *                   source's policy u64
 *  4096  4096 x n   pages: the sum of what follows in it, seeded with its
 *                   number, u64; entries in it u32; zero u32; then entries of
 *                   24 bytes: hash, high u64, low u64; block u64
 *     …    16 x n   fences: the first hash of each page
 *
 * A hash is XXH3-128 of a block's bytes. Sorted by hash, and each once: of
 * blocks that are equal, one is enough.
 *
 * (DX1) It only proposes: who asks compares the bytes. So nothing is at stake
 *       if it is old, damaged, or another's; a page that fails its check has no
 *       entries.
 * (DX2) A source doesn't change: what is there under its UUID, with its size
 *       and the generation of its policy, is used again.
 * (DX3) Memory, given when it is made or opened, holds for all of it: entries
 *       that are being sorted, fences, pages that are kept. What does not fit
 *       is sorted in pieces, in files beside it, which are then merged.
 * One thread at a time. */
#ifndef LSVD_DEDUPE_DEDUPE_INDEX_H
#define LSVD_DEDUPE_DEDUPE_INDEX_H

#include "base/uuid.h"
#include "target/target.h"
#include <stddef.h>
#include <stdint.h>

#define DEDUPE_HASH_BITS_MAX 128u
#define DEDUPE_MEMORY_MIN (1u << 20)

struct dedupe_hash {
    uint64_t high, low;
};

struct dedupe_shape {
    struct uuid source;
    uint64_t source_bytes;
    uint32_t block_bytes;
    uint32_t hash_bits; /* 1 … DEDUPE_HASH_BITS_MAX: fewer are for tests */
    uint64_t generation; /* of its policy: it may have been writable since */
};

/* Of a block's bytes. */
struct dedupe_hash dedupe_hash_of(const struct dedupe_shape *shape,
                                  const void *block);

/* ---- making one ---- */

struct dedupe_build;

/* dir is borrowed. -ENOMEM, and what the directory says. */
int dedupe_build_begin(struct target *dir, const struct dedupe_shape *shape,
                       size_t memory, struct dedupe_build **ret);
int dedupe_build_add(struct dedupe_build *b, const struct dedupe_hash *hash,
                     uint64_t block);
/* Put the file in place of what was there. b is to be freed. */
int dedupe_build_end(struct dedupe_build *b);
/* Files beside it go; NULL is fine. */
void dedupe_build_free(struct dedupe_build *b);

/* ---- using it ---- */

struct dedupe_index;

/* -ENOENT: none; -EBADMSG: damaged, or of another shape: make it anew. -ENOSPC:
 * the memory does not hold the fences; the text says how much it takes. */
int dedupe_index_open(struct target *dir, const struct dedupe_shape *shape,
                      size_t memory, struct dedupe_index **ret);
void dedupe_index_close(struct dedupe_index *x); /* NULL is fine */

/* 1: *ret_block; 0: no such block. */
int dedupe_index_find(struct dedupe_index *x, const struct dedupe_hash *hash,
                      uint64_t *ret_block);

uint64_t dedupe_index_entries(const struct dedupe_index *x);
/* That it holds now. */
size_t dedupe_index_memory(const struct dedupe_index *x);

#endif
