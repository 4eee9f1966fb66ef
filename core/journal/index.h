/* index.h: what the journal holds that the parts do not have yet: for each
 * block its newest record, for each chunk the list of its blocks.
 *
 * (X1) An entry or zero mark counts once in the live count of the segment in
 *      which its record begins.
 * (X2) A block's newest state is its entry, else its chunk's zero mark, else
 *      nothing: a chunk with a mark loses no entry before the mark.
 * (X3) The list of dirty chunks is in order of first_seq, which is never
 *      above the least live sequence of its chunk.
 * (X4) Appends reserve what they may need before they do I/O: what follows
 *      cannot fail.
 * Guarded by the journal's lock. Numbers of entries and nodes are places in
 * the pools; 0 is nobody. */
#ifndef LSVD_JOURNAL_INDEX_H
#define LSVD_JOURNAL_INDEX_H

#include "journal/journal.h"

struct segment {
    uint64_t first_pos;   /* logical place of the first record that begins
                           * here; stale if below the tail */
    uint64_t first_seq, first_chain; /* its seq; sum of the header before */
    uint32_t live;        /* entries and marks of records that begin here */
    uint32_t unfinished;  /* appends that begin here and still write */
    uint64_t cost;        /* insertions that a replay of it would make */
};

struct index_entry {
    struct journal_block block;
    uint32_t segment;
    uint32_t node;           /* its chunk */
    uint32_t hash_next;      /* or the next free one */
    uint32_t prev, next;     /* of the same chunk, in no order */
};

struct index_node {          /* a dirty chunk */
    uint64_t chunk;
    uint64_t first_seq;      /* X3 */
    uint64_t zero_seq;       /* 0: no mark */
    uint32_t zero_segment;
    uint32_t entries, count;
    uint32_t hash_next;      /* or the next free one */
    uint32_t prev, next;     /* list of dirty chunks */
};

struct pool_counts {
    uint32_t capacity;  /* places 1 … capacity */
    uint32_t used, reserved;
    uint32_t touched;   /* greatest place ever used */
    uint32_t free_list;
};

struct index {
    struct index_entry *entries;
    struct index_node *nodes;
    uint32_t *entry_heads, *node_heads; /* hash tables */
    unsigned entry_bits, node_bits;     /* log2 of their sizes */
    struct pool_counts entry_pool, node_pool;
    uint32_t oldest, newest;            /* ends of the list of dirty chunks */
    struct segment *segments;           /* the journal's; for X1 */
    uint32_t chunk_blocks;
};

int index_init(struct index *x, size_t capacity, struct segment *segments);
void index_done(struct index *x);

/* Room for so many more, by growth if need be (replay only), never beyond
 * capacity_max. -ENOMEM. */
int index_make_room(struct index *x, size_t entries, size_t nodes,
                    size_t capacity_max);

/* X4. False: no room below `limit`. */
bool index_reserve(struct index *x, size_t entries, size_t nodes,
                   size_t limit);
void index_unreserve(struct index *x, size_t entries, size_t nodes);

/* Insert or replace, unless what is there is newer. Room was reserved. */
void index_put(struct index *x, const struct journal_block *block,
               uint32_t segment);
void index_put_zero_chunk(struct index *x, uint64_t chunk, uint64_t seq,
                          uint32_t segment);

const struct index_entry *index_find(const struct index *x, uint64_t block);
const struct index_node *index_find_chunk(const struct index *x,
                                          uint64_t chunk);

/* Drop the block's entry if it has this sequence; a chunk without entries and
 * mark goes with its last. */
void index_forget(struct index *x, uint64_t block, uint64_t seq);
void index_forget_mark(struct index *x, uint64_t chunk, uint64_t seq);
/* All that is known of a chunk. */
void index_forget_chunk(struct index *x, uint64_t chunk);

/* Make first_seq of the oldest chunk exact, and it the oldest. */
void index_settle_oldest(struct index *x);

#endif
