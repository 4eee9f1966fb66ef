/* cache.c: see cache.h. Which shard has a block, and the copies. */
#include "cache/cache.h"
#include "base/memory.h"
#include "cache/shard.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS_MAX 16u
#define SLOTS_MIN 32u /* of a shard, else fewer shards */

struct cache {
    size_t block_bytes;
    uint32_t shard_count; /* power of two; 0: holds nothing */
    struct shard shard[SHARDS_MAX];
};

static struct shard *
shard_of(struct cache *c, uint64_t block)
{
    return &c->shard[shard_hash(block) >> 40 & (c->shard_count - 1)];
}

static uint8_t *
bytes_of(const struct cache *c, const struct shard *s, uint32_t slot)
{
    return s->bytes + slot * c->block_bytes;
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
        slots = (ram_bytes - sizeof *c) / (block_bytes + SHARD_SLOT_COST);
    while (shards > 1 && slots / shards < SLOTS_MIN)
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
        shard_done(s);
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
    slot = shard_find(s, block);
    if (slot != SHARD_NONE) {
        memcpy(to, bytes_of(c, s, slot) + at, bytes);
        shard_use(s, &s->slots[slot]);
        s->hits++;
    } else
        s->misses++;
    (void)pthread_mutex_unlock(&s->lock);
    return slot != SHARD_NONE;
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
    slot = shard_find(s, block);
    if (slot != SHARD_NONE)
        memcpy(to, bytes_of(c, s, slot), c->block_bytes);
    (void)pthread_mutex_unlock(&s->lock);
    return slot != SHARD_NONE;
}

static uint32_t
offer_any(struct shard *s, uint64_t block)
{
    return shard_offer(s, block, true);
}

static uint32_t
offer_touched(struct shard *s, uint64_t block)
{
    return shard_offer(s, block, false);
}

static void
put(struct cache *c, uint64_t block, const void *data,
    uint32_t (*take)(struct shard *s, uint64_t block))
{
    struct shard *s;
    uint32_t slot;

    if (c->shard_count == 0)
        return;
    s = shard_of(c, block);
    (void)pthread_mutex_lock(&s->lock);
    slot = shard_find(s, block);
    if (slot == SHARD_NONE)
        slot = take(s, block);
    else
        shard_use(s, &s->slots[slot]);
    if (slot != SHARD_NONE)
        memcpy(bytes_of(c, s, slot), data, c->block_bytes);
    (void)pthread_mutex_unlock(&s->lock);
}

void
cache_put(struct cache *c, uint64_t block, const void *data)
{
    put(c, block, data, shard_take);
}

void
cache_offer(struct cache *c, uint64_t block, const void *data, bool untouched)
{
    put(c, block, data, untouched ? offer_any : offer_touched);
}

static void
drop_one(struct cache *c, uint64_t block)
{
    struct shard *s = shard_of(c, block);
    uint32_t slot;

    (void)pthread_mutex_lock(&s->lock);
    slot = shard_find(s, block);
    if (slot != SHARD_NONE)
        shard_drop(s, slot);
    (void)pthread_mutex_unlock(&s->lock);
}

static void
drop_in_shard(struct shard *s, uint64_t first, uint64_t end)
{
    (void)pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->touched; i++)
        if (s->slots[i].queue < SHARD_QUEUES && s->slots[i].block >= first
            && s->slots[i].block < end)
            shard_drop(s, i);
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
        counts.used_blocks +=
            s->queue[SHARD_SMALL].count + s->queue[SHARD_MAIN].count;
        (void)pthread_mutex_unlock(&s->lock);
    }
    return counts;
}

bool
cache_ok(struct cache *c)
{
    bool ok = true;

    for (uint32_t i = 0; i < c->shard_count; i++) {
        struct shard *s = &c->shard[i];

        (void)pthread_mutex_lock(&s->lock);
        ok = shard_ok(s) && ok;
        (void)pthread_mutex_unlock(&s->lock);
    }
    return ok;
}
