/* slots.c: see slots.h. */
#include "readcache/slots.h"

#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define USES_MAX 3u /* two bits, as in the paper */
#define USED 4u     /* a block's */
#define BUSY 8u     /* a writer's */
#define GUESS 16u   /* never found since it was let in as one */
#define GHOST_WAYS 4u
#define HAND_STEPS_MAX 256u /* at a time: then who has uses goes, too */
#define GUESS_STEPS_MAX 4096u /* the same, of the hand that looks for guesses */

static_assert(sizeof(struct slot_entry) + 2 * sizeof(uint32_t) <=
                  SLOT_INDEX_BYTES, "RI1");

int
slots_new(uint32_t slots, struct slots *ret)
{
    uint32_t buckets = 1;
    int r;

    assert(slots > 0 && slots <= SLOTS_MAX);
    memset(ret, 0, sizeof *ret);
    while (buckets <= slots / 2)
        buckets *= 2;
    ret->slot_count = slots;
    ret->bucket_mask = buckets - 1;
    ret->ghost_sets = slots / GHOST_WAYS > 0 ? slots / GHOST_WAYS : 1;
    r = mem_new(slots, sizeof *ret->slot, &ret->slot);
    if (r == 0)
        r = mem_new(buckets, sizeof *ret->bucket, &ret->bucket);
    if (r == 0)
        r = mem_new((size_t)ret->ghost_sets * GHOST_WAYS, sizeof *ret->ghost,
                    &ret->ghost);
    if (r < 0) {
        slots_done(ret);
        return r;
    }
    memset(ret->bucket, 0xff, buckets * sizeof *ret->bucket);
    return 0;
}

void
slots_done(struct slots *ix)
{
    free(ix->slot);
    free(ix->bucket);
    free(ix->ghost);
    memset(ix, 0, sizeof *ix);
}

static uint64_t
hash(uint64_t block)
{
    block = (block + 1) * UINT64_C(0x9e3779b97f4a7c15);
    block ^= block >> 29;
    block *= UINT64_C(0xbf58476d1ce4e5b9);
    return block ^ block >> 32;
}

static uint64_t
block_of(const struct slot_entry *s)
{
    return (uint64_t)s->block_high << 32 | s->block_low;
}

static uint32_t *
bucket_of(struct slots *ix, uint64_t block)
{
    return &ix->bucket[hash(block) & ix->bucket_mask];
}

/* What points to the block's slot: it, or SLOT_NONE at the chain's end. */
static uint32_t *
look_up(struct slots *ix, uint64_t block)
{
    uint32_t *at = bucket_of(ix, block);

    while (*at != SLOT_NONE && block_of(&ix->slot[*at]) != block)
        at = &ix->slot[*at].next;
    return at;
}

static void
unlink_at(struct slots *ix, uint32_t *at)
{
    struct slot_entry *s = &ix->slot[*at];

    assert(s->state & USED && !(s->state & BUSY));
    *at = s->next;
    s->state = 0;
    ix->used--;
}

/* ---- ghosts ---- */

static uint32_t *
ghost_set(struct slots *ix, uint64_t block, uint32_t *ret_print)
{
    uint64_t h = hash(block);

    *ret_print = (uint32_t)(h >> 32) | 1u; /* 0: none */
    return &ix->ghost[(h & UINT32_MAX) % ix->ghost_sets * GHOST_WAYS];
}

/* Was it missed lately? Then no more. */
static bool
ghost_take(struct slots *ix, uint64_t block)
{
    uint32_t print, *set = ghost_set(ix, block, &print);

    for (uint32_t i = 0; i < GHOST_WAYS; i++) {
        if (set[i] != print)
            continue;
        memmove(set + i, set + i + 1, (GHOST_WAYS - 1 - i) * sizeof *set);
        set[GHOST_WAYS - 1] = 0;
        return true;
    }
    return false;
}

static void
ghost_add(struct slots *ix, uint64_t block)
{
    uint32_t print, *set = ghost_set(ix, block, &print);

    memmove(set + 1, set, (GHOST_WAYS - 1) * sizeof *set);
    set[0] = print;
}

/* ---- the hand ---- */

/* A slot that is as good as one never used, or SLOT_NONE. As guesses go into
 * the latter only, there are none before the hand when all are used, but those
 * that a writer had when it came by: they go as any block does. */
static uint32_t
take_free(struct slots *ix)
{
    if (ix->fresh < ix->slot_count)
        return ix->fresh++;
    for (uint32_t step = 0; step < GUESS_STEPS_MAX; step++) {
        uint32_t at = ix->guess_hand;
        struct slot_entry *s = &ix->slot[at];

        if (at == ix->slot_count)
            break;
        ix->guess_hand++;
        if (s->state == 0)
            return at;
        if (s->state != (USED | GUESS))
            continue;
        unlink_at(ix, look_up(ix, block_of(s)));
        ix->evicted++;
        return at;
    }
    return SLOT_NONE;
}

/* SLOT_NONE: all that it saw are writers'. */
static uint32_t
make_room(struct slots *ix)
{
    for (uint32_t step = 0; step < 2 * HAND_STEPS_MAX; step++) {
        uint32_t at = ix->hand;
        struct slot_entry *s = &ix->slot[at];

        ix->hand = at + 1 < ix->slot_count ? at + 1 : 0;
        if (s->state & BUSY)
            continue;
        if (!(s->state & USED))
            return at;
        if (s->state & USES_MAX && step < HAND_STEPS_MAX) {
            s->state--;
            continue;
        }
        unlink_at(ix, look_up(ix, block_of(s)));
        ix->evicted++;
        return at;
    }
    return SLOT_NONE;
}

/* ---- for readcache.c ---- */

bool
slots_have_room(const struct slots *ix)
{
    return ix->fresh < ix->slot_count;
}

uint32_t
slots_find(struct slots *ix, uint64_t block, uint16_t tag)
{
    uint32_t *at = look_up(ix, block), slot = *at;
    struct slot_entry *s;

    if (slot == SLOT_NONE)
        return SLOT_NONE;
    s = &ix->slot[slot];
    if (s->tag != tag) {
        unlink_at(ix, at);
        ghost_add(ix, block); /* it is wanted: let in at once */
        return SLOT_NONE;
    }
    if ((s->state & USES_MAX) < USES_MAX)
        s->state++;
    s->state &= (uint8_t)~GUESS;
    return slot;
}

uint32_t
slots_admit(struct slots *ix, uint64_t block, uint16_t tag,
            enum slots_reason reason)
{
    uint32_t *at, slot;
    bool known;

    if (block > SLOTS_BLOCK_MAX)
        return SLOT_NONE;
    at = look_up(ix, block);
    known = *at != SLOT_NONE;
    if (known && ix->slot[*at].tag == tag)
        return SLOT_NONE;
    if (known) {
        slot = *at;
        unlink_at(ix, at);
        ix->slot[slot].state = BUSY;
        return slot;
    }
    if (reason == SLOTS_GUESS && !slots_have_room(ix))
        return SLOT_NONE;
    slot = take_free(ix);
    if (slot == SLOT_NONE && !ghost_take(ix, block)) {
        if (reason == SLOTS_MISS)
            ghost_add(ix, block);
        return SLOT_NONE;
    }
    if (slot == SLOT_NONE)
        slot = make_room(ix);
    if (slot != SLOT_NONE)
        ix->slot[slot].state = reason == SLOTS_GUESS ? BUSY | GUESS : BUSY;
    return slot;
}

void
slots_publish(struct slots *ix, uint32_t slot, uint64_t block, uint16_t tag)
{
    struct slot_entry *s = &ix->slot[slot];
    uint32_t *at = look_up(ix, block), *bucket;
    uint8_t state = USED | (s->state & GUESS);

    assert((s->state | GUESS) == (BUSY | GUESS));
    if (*at != SLOT_NONE) { /* somebody else did it meanwhile */
        uint8_t known = ix->slot[*at].state;

        state = USED | (known & USES_MAX) | (state & known & GUESS);
        unlink_at(ix, at);
    }
    bucket = bucket_of(ix, block);
    *s = (struct slot_entry){
        .block_low = (uint32_t)block,
        .block_high = (uint8_t)(block >> 32),
        .next = *bucket,
        .tag = tag,
        .state = state,
    };
    *bucket = slot;
    ix->used++;
}

void
slots_release(struct slots *ix, uint32_t slot)
{
    assert((ix->slot[slot].state | GUESS) == (BUSY | GUESS));
    ix->slot[slot].state = 0;
}

void
slots_forget(struct slots *ix, uint64_t block, uint32_t slot)
{
    uint32_t *at = look_up(ix, block);

    if (*at != SLOT_NONE && *at == slot)
        unlink_at(ix, at);
}

void
slots_drop(struct slots *ix, uint64_t block)
{
    uint32_t *at = look_up(ix, block);

    if (*at != SLOT_NONE)
        unlink_at(ix, at);
}

/* Bits 0-39: block + 1; 40-55: tag; 56-57: uses. */
uint64_t
slots_pack(const struct slots *ix, uint32_t slot)
{
    const struct slot_entry *s = &ix->slot[slot];

    if (!(s->state & USED))
        return 0;
    return (block_of(s) + 1) | (uint64_t)s->tag << 40 |
           (uint64_t)(s->state & USES_MAX) << 56;
}

void
slots_unpack(struct slots *ix, uint32_t slot, uint64_t packed,
             uint64_t block_count)
{
    uint64_t block = packed & ((UINT64_C(1) << 40) - 1);

    assert(slot < ix->slot_count);
    assert(slot >= ix->fresh);
    if (block == 0 || --block >= block_count || block > SLOTS_BLOCK_MAX ||
        *look_up(ix, block) != SLOT_NONE)
        return;
    ix->fresh = slot + 1;
    ix->slot[slot].state = BUSY;
    slots_publish(ix, slot, block, (uint16_t)(packed >> 40));
    ix->slot[slot].state |= (uint8_t)(packed >> 56) & USES_MAX;
}
