/* cache.c: see cache.h.
 *
 * A shard is an array of slots, chained into the buckets of a hash table by
 * block number, under one mutex. A slot is on one bucket's chain (used), on
 * the free list, or was never used (>= `touched`). The bytes of slot i lie at
 * i * block_bytes of the shard's arena, which stays untouched, and so without
 * memory, until the slot is used for the first time.
 * CLOCK: a hit marks the slot; the hand, turning only when every slot is used,
 * takes away marks and evicts the first slot that has none. */
#include "cache/cache.h"
#include "base/memory.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS_MAX 16u
#define SHARD_SLOTS_MIN 32u /* else fewer shards */
#define SHARD_SLOTS_MAX (UINT32_C(1) << 30)
#define NONE UINT32_MAX

struct slot {
    uint64_t block;
    uint32_t next; /* in the bucket or the free list */
    bool marked;   /* hit since the hand passed */
    bool used;
};

/* What a slot costs beside its block: itself, and less than two buckets. */
#define SLOT_COST (sizeof(struct slot) + 2 * sizeof(uint32_t))

struct shard {
    pthread_mutex_t lock; /* guards what follows and the bytes */
    uint32_t slot_count, touched, hand, free_list;
    uint32_t bucket_mask;
    uint32_t *buckets; /* slot + 1, so that zeroed memory is empty; owned */
    struct slot *slots; /* owned */
    uint8_t *bytes;     /* owned */
    uint64_t used, hits, misses, evictions;
} __attribute__((aligned(64)));

struct cache {
    size_t block_bytes;
    uint32_t shard_count; /* power of two; 0: holds nothing */
    struct shard shard[SHARDS_MAX];
};

static uint64_t
hash_of(uint64_t block)
{
    uint64_t h = block * UINT64_C(0x9e3779b97f4a7c15);

    return h ^ h >> 32;
}

static struct shard *
shard_of(struct cache *c, uint64_t block)
{
    return &c->shard[hash_of(block) >> 40 & (c->shard_count - 1)];
}

static uint32_t *
bucket_of(const struct shard *s, uint64_t block)
{
    return &s->buckets[hash_of(block) & s->bucket_mask];
}

static uint8_t *
bytes_of(const struct cache *c, const struct shard *s, uint32_t slot)
{
    return s->bytes + slot * c->block_bytes;
}

static uint32_t
find(const struct shard *s, uint64_t block)
{
    uint32_t i = *bucket_of(s, block) - 1;

    while (i != NONE && s->slots[i].block != block)
        i = s->slots[i].next;
    return i;
}

/* Take the slot off its bucket's chain. */
static void
unlink_slot(struct shard *s, uint32_t slot)
{
    uint32_t *bucket = bucket_of(s, s->slots[slot].block);
    uint32_t i = *bucket - 1;

    if (i == slot)
        *bucket = s->slots[slot].next + 1;
    else {
        while (s->slots[i].next != slot)
            i = s->slots[i].next;
        s->slots[i].next = s->slots[slot].next;
    }
    s->slots[slot].used = false;
    s->used--;
}

static void
link_slot(struct shard *s, uint32_t slot, uint64_t block)
{
    uint32_t *bucket = bucket_of(s, block);

    s->slots[slot].block = block;
    s->slots[slot].next = *bucket - 1;
    s->slots[slot].marked = false;
    s->slots[slot].used = true;
    *bucket = slot + 1;
    s->used++;
}

static void
drop_slot(struct shard *s, uint32_t slot)
{
    unlink_slot(s, slot);
    s->slots[slot].next = s->free_list;
    s->free_list = slot;
}

/* A slot that is on no chain; evicts if it must. */
static uint32_t
take_slot(struct shard *s)
{
    uint32_t slot = s->free_list;

    if (slot != NONE) {
        s->free_list = s->slots[slot].next;
        return slot;
    }
    if (s->touched < s->slot_count)
        return s->touched++;
    for (;;) { /* ends in the second round: no mark is left then */
        slot = s->hand;
        s->hand = (s->hand + 1) % s->slot_count;
        assert(s->slots[slot].used);
        if (!s->slots[slot].marked)
            break;
        s->slots[slot].marked = false;
    }
    unlink_slot(s, slot);
    s->evictions++;
    return slot;
}

static int
shard_init(struct shard *s, uint32_t slot_count, size_t block_bytes)
{
    uint32_t buckets = 1;
    int r;

    while (buckets < slot_count)
        buckets *= 2;
    s->slot_count = slot_count;
    s->free_list = NONE;
    s->bucket_mask = buckets - 1;
    r = mem_new(buckets, sizeof *s->buckets, &s->buckets);
    if (r == 0)
        r = mem_new(slot_count, sizeof *s->slots, &s->slots);
    if (r == 0)
        r = mem_new(slot_count, block_bytes, &s->bytes);
    return r;
}

int
cache_new(uint64_t ram_bytes, uint32_t block_bytes, struct cache **ret)
{
    uint64_t slots = 0;
    uint32_t shards = SHARDS_MAX;
    struct cache *c;
    int r;

    assert(block_bytes > 0);
    r = mem_new_aligned(sizeof *c, &c); /* shards on lines of their own */
    if (r < 0)
        return r;
    memset(c, 0, sizeof *c);
    c->block_bytes = block_bytes;
    if (ram_bytes > sizeof *c)
        slots = (ram_bytes - sizeof *c) / (block_bytes + SLOT_COST);
    while (shards > 1 && slots / shards < SHARD_SLOTS_MIN)
        shards /= 2;
    slots /= shards;
    if (slots > SHARD_SLOTS_MAX)
        slots = SHARD_SLOTS_MAX;
    for (uint32_t i = 0; i < SHARDS_MAX; i++)
        (void)pthread_mutex_init(&c->shard[i].lock, NULL);
    if (slots > 0)
        c->shard_count = shards;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        r = shard_init(&c->shard[i], (uint32_t)slots, block_bytes);
        if (r < 0) {
            cache_free(c);
            return r;
        }
    }
    *ret = c;
    return 0;
}

void
cache_free(struct cache *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        struct shard *s = &c->shard[i];

        (void)pthread_mutex_destroy(&s->lock);
        free(s->buckets);
        free(s->slots);
        free(s->bytes);
    }
    free(c);
}

bool
cache_get(struct cache *c, uint64_t block, size_t at, size_t bytes, void *to)
{
    struct shard *s;
    uint32_t slot;

    assert(at <= c->block_bytes);
    assert(bytes <= c->block_bytes - at);
    if (c->shard_count == 0)
        return false;
    s = shard_of(c, block);
    (void)pthread_mutex_lock(&s->lock);
    slot = find(s, block);
    if (slot != NONE) {
        memcpy(to, bytes_of(c, s, slot) + at, bytes);
        s->slots[slot].marked = true;
        s->hits++;
    } else
        s->misses++;
    (void)pthread_mutex_unlock(&s->lock);
    return slot != NONE;
}

bool
cache_peek(struct cache *c, uint64_t block, void *to)
{
    struct shard *s;
    uint32_t slot;

    if (c->shard_count == 0)
        return false;
    s = shard_of(c, block);
    (void)pthread_mutex_lock(&s->lock);
    slot = find(s, block);
    if (slot != NONE)
        memcpy(to, bytes_of(c, s, slot), c->block_bytes);
    (void)pthread_mutex_unlock(&s->lock);
    return slot != NONE;
}

static bool
has_room(const struct shard *s)
{
    return s->free_list != NONE || s->touched < s->slot_count;
}

static void
put(struct cache *c, uint64_t block, const void *data, bool may_evict)
{
    struct shard *s;
    uint32_t slot;

    if (c->shard_count == 0)
        return;
    s = shard_of(c, block);
    (void)pthread_mutex_lock(&s->lock);
    slot = find(s, block);
    if (slot != NONE) {
        s->slots[slot].marked = true;
    } else if (may_evict || has_room(s)) {
        slot = take_slot(s);
        link_slot(s, slot, block);
    }
    if (slot != NONE)
        memcpy(bytes_of(c, s, slot), data, c->block_bytes);
    (void)pthread_mutex_unlock(&s->lock);
}

void
cache_put(struct cache *c, uint64_t block, const void *data)
{
    put(c, block, data, true);
}

void
cache_offer(struct cache *c, uint64_t block, const void *data)
{
    put(c, block, data, false);
}

static void
drop_one(struct cache *c, uint64_t block)
{
    struct shard *s = shard_of(c, block);
    uint32_t slot;

    (void)pthread_mutex_lock(&s->lock);
    slot = find(s, block);
    if (slot != NONE)
        drop_slot(s, slot);
    (void)pthread_mutex_unlock(&s->lock);
}

static void
drop_in_shard(struct shard *s, uint64_t first, uint64_t end)
{
    (void)pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->touched; i++)
        if (s->slots[i].used && s->slots[i].block >= first
            && s->slots[i].block < end)
            drop_slot(s, i);
    (void)pthread_mutex_unlock(&s->lock);
}

void
cache_drop(struct cache *c, uint64_t first, uint64_t end)
{
    uint64_t slots;

    assert(first <= end);
    if (c->shard_count == 0)
        return;
    slots = (uint64_t)c->shard_count * c->shard[0].slot_count;
    if (end - first <= slots)
        for (uint64_t block = first; block < end; block++)
            drop_one(c, block);
    else
        for (uint32_t i = 0; i < c->shard_count; i++)
            drop_in_shard(&c->shard[i], first, end);
}

struct cache_counts
cache_counts(struct cache *c)
{
    struct cache_counts counts = {0};

    for (uint32_t i = 0; i < c->shard_count; i++) {
        struct shard *s = &c->shard[i];

        (void)pthread_mutex_lock(&s->lock);
        counts.hits += s->hits;
        counts.misses += s->misses;
        counts.evictions += s->evictions;
        counts.capacity_blocks += s->slot_count;
        counts.used_blocks += s->used;
        (void)pthread_mutex_unlock(&s->lock);
    }
    return counts;
}
