/* shard.c: see shard.h.
 *
 * Slots that were never used are those from `touched` on: the memory of their
 * bytes, at slot * block_bytes, is not touched before, and so not there. */
#include "cache/shard.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>

/* SMALL has a tenth of the slots, as the paper says. */
#define SMALL_PART 10u

/* A tick is a 64th of the slots in insertions: shorter than a block stays in
 * SMALL, longer than one client needs to read a block piece by piece. */
#define TICKS 64u

int
shard_init(struct shard *s, uint32_t slot_count, size_t block_bytes)
{
    uint32_t buckets = 1, small = slot_count / SMALL_PART;
    int r;

    assert(slot_count > 0);
    assert(slot_count <= SHARD_SLOTS_MAX);
    while (buckets < slot_count)
        buckets *= 2;
    s->slot_count = slot_count;
    s->main_share = slot_count - (small > 0 ? small : 1);
    s->tick_left = 1;
    s->free_list = SHARD_NONE;
    s->bucket_mask = buckets - 1;
    for (unsigned q = 0; q < SHARD_QUEUES; q++)
        s->queue[q].oldest = s->queue[q].newest = SHARD_NONE;
    r = mem_new(buckets, sizeof *s->buckets, &s->buckets);
    if (r == 0)
        r = mem_new(slot_count, sizeof *s->slots, &s->slots);
    if (r == 0)
        r = mem_new_lasting(slot_count * block_bytes, &s->bytes);
    if (r == 0)
        r = ghost_init(&s->ghost, slot_count);
    return r;
}

void
shard_done(struct shard *s)
{
    ghost_done(&s->ghost);
    free(s->bytes);
    free(s->slots);
    free(s->buckets);
}

/* ---- the table ---- */

static uint32_t *
bucket_of(const struct shard *s, uint64_t block)
{
    return &s->buckets[shard_hash(block) & s->bucket_mask];
}

static void
link_slot(struct shard *s, uint32_t slot, uint64_t block)
{
    uint32_t *bucket = bucket_of(s, block);

    s->slots[slot].block = block;
    s->slots[slot].next = *bucket - 1;
    *bucket = slot + 1;
}

static void
unlink_slot(struct shard *s, uint32_t slot)
{
    uint32_t *bucket = bucket_of(s, s->slots[slot].block);
    uint32_t i = *bucket - 1;

    if (i == slot) {
        *bucket = s->slots[slot].next + 1;
        return;
    }
    while (s->slots[i].next != slot)
        i = s->slots[i].next;
    s->slots[i].next = s->slots[slot].next;
}

/* ---- the queues ---- */

static void
enqueue(struct shard *s, uint32_t slot, enum shard_queue which)
{
    struct fifo *q = &s->queue[which];
    struct slot *x = &s->slots[slot];

    x->queue = (uint8_t)which;
    x->newer = SHARD_NONE;
    x->older = q->newest;
    if (q->newest != SHARD_NONE)
        s->slots[q->newest].newer = slot;
    else
        q->oldest = slot;
    q->newest = slot;
    q->count++;
}

static void
dequeue(struct shard *s, uint32_t slot)
{
    struct slot *x = &s->slots[slot];
    struct fifo *q;

    assert(x->queue < SHARD_QUEUES);
    q = &s->queue[x->queue];
    assert(q->count > 0);
    if (x->older != SHARD_NONE)
        s->slots[x->older].newer = x->newer;
    else
        q->oldest = x->newer;
    if (x->newer != SHARD_NONE)
        s->slots[x->newer].older = x->older;
    else
        q->newest = x->older;
    q->count--;
    x->queue = SHARD_QUEUES;
}

static uint32_t
next_in_turn(const struct shard *s)
{
    const struct fifo *small = &s->queue[SHARD_SMALL];
    const struct fifo *main = &s->queue[SHARD_MAIN];

    return main->count > s->main_share || small->count == 0 ? main->oldest
                                                            : small->oldest;
}

/* What was used goes to MAIN, behind all others. */
static bool
give_second_chance(struct shard *s, uint32_t slot)
{
    struct slot *x = &s->slots[slot];

    if (x->uses == 0)
        return false;
    x->uses = x->queue == SHARD_SMALL ? 0 : (uint8_t)(x->uses - 1);
    dequeue(s, slot);
    enqueue(s, slot, SHARD_MAIN);
    return true;
}

/* Every slot is used: make one free. */
static uint32_t
evict(struct shard *s)
{
    uint32_t slot = next_in_turn(s);

    for (unsigned i = 0; i < SHARD_STEPS_MAX && give_second_chance(s, slot);
         i++)
        slot = next_in_turn(s);
    if (s->slots[slot].queue == SHARD_SMALL)
        ghost_put(&s->ghost, shard_hash(s->slots[slot].block));
    unlink_slot(s, slot);
    dequeue(s, slot);
    s->evictions++;
    return slot;
}

static bool
has_room(const struct shard *s)
{
    return s->free_list != SHARD_NONE || s->touched < s->slot_count;
}

static uint32_t
take_room(struct shard *s)
{
    uint32_t slot = s->free_list;

    if (slot != SHARD_NONE) {
        s->free_list = s->slots[slot].next;
        return slot;
    }
    return s->touched < s->slot_count ? s->touched++ : evict(s);
}

static void
advance(struct shard *s)
{
    if (--s->tick_left == 0) {
        s->tick++;
        s->tick_left = (s->slot_count + TICKS - 1) / TICKS;
    }
}

static uint32_t
insert(struct shard *s, uint64_t block, enum shard_queue which)
{
    uint32_t slot = take_room(s);

    advance(s);
    link_slot(s, slot, block);
    enqueue(s, slot, which);
    s->slots[slot].tick = s->tick;
    s->slots[slot].uses = 0;
    return slot;
}

uint32_t
shard_take(struct shard *s, uint64_t block)
{
    bool known = ghost_take(&s->ghost, shard_hash(block));
    bool fills = has_room(s) &&
                 s->queue[SHARD_SMALL].count >= s->slot_count - s->main_share;

    return insert(s, block, known || fills ? SHARD_MAIN : SHARD_SMALL);
}

uint32_t
shard_offer(struct shard *s, uint64_t block, bool untouched)
{
    uint64_t hash = shard_hash(block);

    if (s->free_list != SHARD_NONE || (untouched && has_room(s)))
        return shard_take(s, block);
    if (ghost_take(&s->ghost, hash))
        return insert(s, block, SHARD_MAIN);
    ghost_put(&s->ghost, hash);
    return SHARD_NONE;
}

void
shard_drop(struct shard *s, uint32_t slot)
{
    unlink_slot(s, slot);
    dequeue(s, slot);
    s->slots[slot].next = s->free_list;
    s->free_list = slot;
}

/* ---- for tests ---- */

static bool
fifo_ok(const struct shard *s, unsigned which)
{
    const struct fifo *q = &s->queue[which];
    uint32_t newer = SHARD_NONE, n = 0;

    for (uint32_t i = q->newest; i != SHARD_NONE; i = s->slots[i].older) {
        const struct slot *x = &s->slots[i];

        if (i >= s->touched || x->queue != which || x->newer != newer ||
            x->uses > SHARD_USES_MAX || n++ == q->count ||
            shard_find(s, x->block) != i)
            return false;
        newer = i;
    }
    return n == q->count && newer == q->oldest;
}

bool
shard_ok(const struct shard *s)
{
    uint32_t n = s->queue[SHARD_SMALL].count + s->queue[SHARD_MAIN].count;

    for (uint32_t i = s->free_list; i != SHARD_NONE; i = s->slots[i].next)
        if (i >= s->touched || s->slots[i].queue != SHARD_QUEUES ||
            n++ == s->touched)
            return false;
    return n == s->touched && s->touched <= s->slot_count &&
           fifo_ok(s, SHARD_SMALL) && fifo_ok(s, SHARD_MAIN);
}
