/* shard.h: a share of the cache: slots, the hash table that finds them, and the
 * order in which they are evicted. The caller holds the shard's lock.
 *
 * Eviction is S3-FIFO (J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi: FIFO
 * Queues are All You Need for Cache Eviction, SOSP 2023,
 * doi:10.1145/3600006.3613147). Two queues and a memory of what went:
 *
 *      shard_take ---> SMALL -- evicted, unused ---> remembered (ghost.h)
 *                        |                                 |
 *                        | its turn, used                  | shard_take
 *                        v                                 v
 *      gone <-- unused  MAIN <-----------------------------+
 *                        ^ |  its turn, used: once more round
 *                        +-+
 *
 * Most blocks that come are never wanted again: they leave through SMALL, a
 * tenth of the slots, and MAIN does not notice (M5). A use moves nothing.
 *
 * What is not as in the paper, each for a reason that bench/replay shows or the
 * tests in tests/unit/cache do:
 * - Uses count once in a tick of the shard's own time, insertions. A block that
 *   is read or written piece by piece was used once: small requests of a scan
 *   do not make it look wanted. So one use is enough to leave SMALL for MAIN;
 *   the paper asks for two.
 * - While there is room, MAIN takes what SMALL has no share for. A loop over
 *   more than the cache then finds what it left there, instead of nothing.
 * - What is remembered stands in a table of sets, not in a queue.
 * - Second chances are bounded. What uses there are beyond them, if all of MAIN
 *   was used, says little about who should go.
 *
 * (Q1) A used slot is in one bucket and one queue, and is found by its block.
 *      Any other touched slot is on the free list.
 * (Q2) Eviction begins when every slot is used. It is SMALL's turn while MAIN
 *      has no more than its share.
 * (Q3) An eviction gives at most SHARD_STEPS_MAX second chances (M4).
 * (Q4) A block that is here is not remembered. */
#ifndef LSVD_CACHE_SHARD_H
#define LSVD_CACHE_SHARD_H

#include "cache/ghost.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARD_NONE      UINT32_MAX /* no slot */
#define SHARD_SLOTS_MAX (UINT32_C(1) << 30)
#define SHARD_USES_MAX  3u
#define SHARD_STEPS_MAX 32u

enum shard_queue { SHARD_SMALL, SHARD_MAIN, SHARD_QUEUES };

struct slot {
    uint64_t block;
    uint32_t next;         /* in the bucket or the free list */
    uint32_t older, newer; /* in the queue */
    uint16_t tick;         /* when it came, or the last use that counted */
    uint8_t uses;          /* that counted and were not spent yet */
    uint8_t queue;         /* enum shard_queue; SHARD_QUEUES: not used */
};

struct fifo {
    uint32_t oldest, newest, count;
};

/* What a slot costs beside its bytes: itself, less than two buckets, and a
 * place among the remembered. */
#define SHARD_SLOT_COST (sizeof(struct slot) + 3 * sizeof(uint32_t))

struct shard {
    pthread_mutex_t lock; /* guards what follows and the bytes */
    uint32_t bucket_mask;
    uint16_t tick;      /* of the shard's own time: insertions */
    uint32_t *buckets;  /* slot + 1, so that zeroed memory is empty; owned */
    struct slot *slots; /* owned */
    uint8_t *bytes;     /* from a page's start on; owned */
    uint64_t hits, misses, evictions;
    uint32_t slot_count, touched, free_list;
    uint32_t main_share; /* slots; the rest is SMALL's */
    uint32_t tick_left;  /* insertions until the next tick */
    struct fifo queue[SHARD_QUEUES];
    struct ghost ghost;
} __attribute__((aligned(64)));

static inline uint64_t
shard_hash(uint64_t block)
{
    uint64_t h = block * UINT64_C(0x9e3779b97f4a7c15);

    return h ^ h >> 32;
}

/* SHARD_NONE: not here. */
static inline uint32_t
shard_find(const struct shard *s, uint64_t block)
{
    uint32_t i = s->buckets[shard_hash(block) & s->bucket_mask] - 1;

    while (i != SHARD_NONE && s->slots[i].block != block)
        i = s->slots[i].next;
    return i;
}

/* A use counts once in a tick. */
static inline void
shard_use(const struct shard *s, struct slot *slot)
{
    if (slot->tick != s->tick) {
        slot->tick = s->tick;
        if (slot->uses < SHARD_USES_MAX)
            slot->uses++;
    }
}

/* Of zeroed memory. If it fails, shard_done is to be called all the same. */
int shard_init(struct shard *s, uint32_t slot_count, size_t block_bytes);
void shard_done(struct shard *s);

/* A slot for this block, which is not here; its bytes are the caller's to fill.
 * Evicts if it must. */
uint32_t shard_take(struct shard *s, uint64_t block);

/* The same, but evicts only for a block that is remembered; SHARD_NONE for any
 * other, which is remembered then. untouched: whether slots that were never
 * used may go to one that is not. */
uint32_t shard_offer(struct shard *s, uint64_t block, bool untouched);

void shard_drop(struct shard *s, uint32_t slot);

/* Q1 and what the counts say, by walking. */
bool shard_ok(const struct shard *s);

#endif
