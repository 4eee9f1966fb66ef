/* cache.h: blocks in RAM. Only copies: what is here is also in the journal or
 * on the parts, so any block may be dropped at any time and nothing is lost.
 *
 * (M1) A block in the cache is the newest content accepted for it. volume/
 *      guarantees the order: it puts and drops only under its lease on the
 *      block (shared for what it read, exclusive for what it wrote).
 * (M2) A block is copied in and out whole under its shard's mutex: no reader
 *      sees half of an update.
 * (M3) Memory is bounded by ram_bytes: blocks, their index, and what is kept
 *      of those that went. It is reserved at cache_new and touched as blocks
 *      come. Slots are of one size: nothing is fragmented.
 * (M4) Whoever evicts looks at a bounded number of blocks.
 * (M5) What comes once, however much it is, drives out only what has come
 *      once, too.
 * Eviction: S3-FIFO, in each shard by itself; see shard.h. Any thread. */
#ifndef LSVD_CACHE_CACHE_H
#define LSVD_CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache;

struct cache_counts {
    uint64_t hits, misses, evictions;
    uint64_t capacity_blocks, used_blocks;
};

/* ram_bytes too small for a block: a cache that holds nothing. */
int cache_new(uint64_t ram_bytes, uint32_t block_bytes, struct cache **ret);
void cache_free(struct cache *c); /* NULL is fine */

/* Copy bytes [at, at + bytes) of the block to `to`. False: not here. */
bool cache_get(struct cache *c, uint64_t block, size_t at, size_t bytes,
               void *to);

/* The whole block, for one who has it elsewhere, too: neither counted nor taken
 * for a use. */
bool cache_peek(struct cache *c, uint64_t block, void *to);

/* Insert or replace a whole block. */
void cache_put(struct cache *c, uint64_t block, const void *data);

/* The same for a block of a long request. One that is not here yet gets room
 * that nobody has, or room like any other if it came before, not long ago.
 * Else it is only remembered: a scan costs no copy and no eviction. untouched:
 * room that nobody has ever had counts, too; its memory has to be made first,
 * which costs several times the copy. */
void cache_offer(struct cache *c, uint64_t block, const void *data,
                 bool untouched);

/* Forget blocks [first, end). Cost: the smaller of the range and the cache. */
void cache_drop(struct cache *c, uint64_t first, uint64_t end);

struct cache_counts cache_counts(struct cache *c);

/* Tests: is everything where it belongs? Walks the whole cache. */
bool cache_ok(struct cache *c);

#endif
