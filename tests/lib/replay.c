/* replay.c: see replay.h.
 *
 * LRU and CLOCK are one list: a use puts a block of LRU in front; with CLOCK it
 * is marked, and put in front when its turn to go comes, without the mark. */
#include "replay.h"
#include "cache/cache.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 64u /* bytes: nobody looks at them */

static void *
must_have(void *p)
{
    if (p == NULL) {
        fputs("replay: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

double
replay_ratio(struct replay r)
{
    return r.reads == 0 ? 0 : (double)r.hits / (double)r.reads;
}

struct cache *
replay_cache_new(uint64_t capacity)
{
    struct cache *c = NULL;

    for (uint64_t ram = capacity * BLOCK;; ram += ram / 1000 + 1000) {
        if (cache_new(ram, BLOCK, &c) < 0)
            must_have(NULL);
        if (cache_counts(c).capacity_blocks >= capacity)
            return c;
        cache_free(c);
    }
}

struct replay
replay_cache(struct cache *c, const struct trace *t)
{
    struct cache_counts before = cache_counts(c), after;
    uint8_t data[BLOCK] = {0};

    for (size_t i = 0; i < t->count; i++) {
        const struct request *r = &t->request[i];

        for (uint32_t k = 0; k < r->count; k++) {
            uint64_t block = r->first + k;

            if (!r->is_write && cache_get(c, block, 0, BLOCK, data))
                continue;
            if (r->count >= REPLAY_LONG)
                cache_offer(c, block, data, r->is_write);
            else
                cache_put(c, block, data);
        }
    }
    after = cache_counts(c);
    return (struct replay){
        .hits = after.hits - before.hits,
        .reads = after.hits + after.misses - before.hits - before.misses,
    };
}

/* ---- the others ---- */

#define NOBODY UINT64_MAX

struct entry {
    uint64_t block, next; /* in its bucket */
    uint64_t older, newer;
    bool marked;
};

struct other {
    enum replay_policy policy;
    uint64_t capacity, used, mask;
    uint64_t *buckets;
    struct entry *entry; /* the last one is the ends of the list */
};

static uint64_t *
bucket_of(struct other *o, uint64_t block)
{
    return &o->buckets[(block * UINT64_C(0x9e3779b97f4a7c15) >> 20) & o->mask];
}

static void
detach(struct other *o, uint64_t i)
{
    o->entry[o->entry[i].older].newer = o->entry[i].newer;
    o->entry[o->entry[i].newer].older = o->entry[i].older;
}

static void
attach(struct other *o, uint64_t i)
{
    struct entry *ends = &o->entry[o->capacity];

    o->entry[i].newer = o->capacity;
    o->entry[i].older = ends->older;
    o->entry[ends->older].newer = i;
    ends->older = i;
}

/* Is it here? That is a use of it. */
static bool
use(struct other *o, uint64_t block)
{
    uint64_t i = *bucket_of(o, block);

    while (i != NOBODY && o->entry[i].block != block)
        i = o->entry[i].next;
    if (i == NOBODY)
        return false;
    o->entry[i].marked = true;
    if (o->policy == REPLAY_LRU) {
        detach(o, i);
        attach(o, i);
    }
    return true;
}

static uint64_t
evict(struct other *o)
{
    uint64_t i = o->entry[o->capacity].newer, *link; /* the oldest */

    while (o->policy == REPLAY_CLOCK && o->entry[i].marked) {
        o->entry[i].marked = false;
        detach(o, i);
        attach(o, i);
        i = o->entry[o->capacity].newer;
    }
    link = bucket_of(o, o->entry[i].block);
    while (*link != i)
        link = &o->entry[*link].next;
    *link = o->entry[i].next;
    detach(o, i);
    return i;
}

static void
insert(struct other *o, uint64_t block)
{
    uint64_t i = o->used < o->capacity ? o->used++ : evict(o);
    uint64_t *bucket = bucket_of(o, block);

    o->entry[i].block = block;
    o->entry[i].marked = false;
    o->entry[i].next = *bucket;
    *bucket = i;
    attach(o, i);
}

static void
other_init(struct other *o, enum replay_policy policy, uint64_t capacity)
{
    uint64_t buckets = 1;

    while (buckets < capacity)
        buckets *= 2;
    *o = (struct other){
        .policy = policy,
        .capacity = capacity,
        .mask = buckets - 1,
    };
    o->buckets = must_have(malloc(buckets * sizeof *o->buckets));
    memset(o->buckets, 0xff, buckets * sizeof *o->buckets);
    o->entry = must_have(calloc(capacity + 1, sizeof *o->entry));
    o->entry[capacity].older = o->entry[capacity].newer = capacity;
}

struct replay
replay_other(enum replay_policy policy, uint64_t capacity,
             const struct trace *t)
{
    struct replay result = {0};
    struct other o;

    assert(capacity > 0);
    other_init(&o, policy, capacity);
    for (size_t i = 0; i < t->count; i++) {
        const struct request *r = &t->request[i];
        bool free_room_only = policy == REPLAY_CLOCK && r->count >= REPLAY_LONG;

        for (uint32_t k = 0; k < r->count; k++) {
            bool hit = use(&o, r->first + k);

            if (!hit && (!free_room_only || o.used < capacity))
                insert(&o, r->first + k);
            result.reads += !r->is_write;
            result.hits += hit && !r->is_write;
        }
    }
    free(o.buckets);
    free(o.entry);
    return result;
}
