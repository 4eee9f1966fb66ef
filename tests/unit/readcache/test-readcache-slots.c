/* The index of the read cache: its rules against a model, and how good its
 * choice of blocks is beside LRU and CLOCK. */
#include "readcache/slots.h"
#include "unit.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t
next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* As readcache.c does it: look, and offer what was missed. */
static bool
request(struct slots *ix, uint64_t block, uint16_t tag)
{
    uint32_t slot = slots_find(ix, block, tag);

    if (slot != SLOT_NONE)
        return true;
    slot = slots_admit(ix, block, tag, SLOTS_MISS);
    if (slot != SLOT_NONE)
        slots_publish(ix, slot, block, tag);
    return false;
}

/* ---- rules ---- */

enum { BLOCKS = 300, SLOTS = 64 };

/* What a slot was written for last, and what each block's tag is now. */
struct world {
    uint64_t block_of[SLOTS];
    uint16_t tag_of[SLOTS], tag[BLOCKS];
    bool busy[SLOTS];
};

static void
check_all(struct slots *ix, const struct world *w)
{
    uint32_t used = 0;
    bool seen[BLOCKS] = {false};

    for (uint32_t s = 0; s < SLOTS; s++) {
        uint64_t packed = slots_pack(ix, s);
        uint64_t block = (packed & ((UINT64_C(1) << 40) - 1)) - 1;

        if (packed == 0)
            continue;
        used++;
        assert_false(w->busy[s]); /* RI2 */
        assert_true(block < BLOCKS);
        assert_false(seen[block]);
        seen[block] = true;
        assert_int_equal(w->block_of[s], block);
        assert_int_equal(w->tag_of[s], (uint16_t)(packed >> 40));
    }
    assert_int_equal(used, ix->used);
}

static void
finish(struct slots *ix, struct world *w, uint32_t slot, bool well)
{
    if (well)
        slots_publish(ix, slot, w->block_of[slot], w->tag_of[slot]);
    else
        slots_release(ix, slot);
    w->busy[slot] = false;
}

static void
test_rules(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    uint64_t random = 5, found = 0;
    struct slots ix;

    (void)state;
    assert_non_null(w);
    assert_int_equal(slots_new(SLOTS, &ix), 0);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t block = next(&random) % BLOCKS;
        uint32_t slot;

        if (next(&random) % 3)
            block %= SLOTS; /* some are asked for more often */
        switch (next(&random) % 8) {
        case 0:
            w->tag[block]++;
            break;
        case 1:
            slots_drop(&ix, block);
            assert_int_equal(slots_find(&ix, block, w->tag[block]), SLOT_NONE);
            break;
        case 2: /* a writer ends */
            slot = (uint32_t)(next(&random) % SLOTS);
            if (w->busy[slot])
                finish(&ix, w, slot, next(&random) % 4 != 0);
            break;
        case 3:
        case 4: /* one begins */
            slot = slots_admit(&ix, block, w->tag[block],
                               (enum slots_reason)(next(&random) % 3));
            if (slot == SLOT_NONE)
                break;
            assert_true(slot < SLOTS);
            assert_false(w->busy[slot]); /* RI2 */
            w->busy[slot] = true;
            w->block_of[slot] = block;
            w->tag_of[slot] = w->tag[block];
            break;
        default:
            slot = slots_find(&ix, block, w->tag[block]);
            if (slot == SLOT_NONE)
                break;
            found++;
            assert_false(w->busy[slot]);
            assert_int_equal(w->block_of[slot], block);
            assert_int_equal(w->tag_of[slot], w->tag[block]);
            break;
        }
        if (i % 64 == 0)
            check_all(&ix, w);
    }
    assert_true(found > 2000);
    slots_done(&ix);
    free(w);
}

/* All that a writer can have, it has: nobody else gets room, and nothing
 * breaks. */
static void
test_all_busy(void **state)
{
    uint32_t slot[SLOTS];
    struct slots ix;

    (void)state;
    assert_int_equal(slots_new(SLOTS, &ix), 0);
    for (uint32_t i = 0; i < SLOTS; i++)
        slot[i] = slots_admit(&ix, i, 1, SLOTS_MISS);
    for (int i = 0; i < 3; i++)
        assert_int_equal(slots_admit(&ix, 1000, 1, SLOTS_MISS), SLOT_NONE);
    for (uint32_t i = 0; i < SLOTS; i++) {
        assert_int_not_equal(slot[i], SLOT_NONE);
        slots_publish(&ix, slot[i], i, 1);
    }
    slot[0] = slots_admit(&ix, 1000, 1, SLOTS_MISS);
    slot[1] = slots_admit(&ix, 1000, 1, SLOTS_MISS);
    assert_true((slot[0] == SLOT_NONE) != (slot[1] == SLOT_NONE));
    slots_done(&ix);
}

/* Out and in again, and rubbish in: nothing impossible gets in. */
static void
test_pack(void **state)
{
    uint64_t random = 9, packed[SLOTS];
    struct slots ix, copy;
    uint32_t same = 0;

    (void)state;
    assert_int_equal(slots_new(SLOTS, &ix), 0);
    for (unsigned i = 0; i < 5000; i++)
        (void)request(&ix, next(&random) % BLOCKS, 7);
    assert_int_equal(slots_new(SLOTS, &copy), 0);
    for (uint32_t s = 0; s < SLOTS; s++) {
        packed[s] = slots_pack(&ix, s);
        slots_unpack(&copy, s, packed[s], BLOCKS);
    }
    for (uint32_t s = 0; s < SLOTS; s++)
        same += packed[s] != 0 && slots_pack(&copy, s) == packed[s];
    assert_int_equal(same, ix.used);
    assert_true(same > SLOTS / 2);
    slots_done(&copy);

    assert_int_equal(slots_new(SLOTS, &copy), 0);
    for (uint32_t s = 0; s < SLOTS; s++)
        slots_unpack(&copy, s, s % 2 ? packed[0] : next(&random), BLOCKS);
    assert_true(copy.used <= 1);
    for (unsigned i = 0; i < 5000; i++)
        (void)request(&copy, next(&random) % BLOCKS, 7);
    assert_true(copy.used > SLOTS / 2);
    slots_done(&copy);
    slots_done(&ix);
}

/* ---- the choice ---- */

enum { ITEMS = 100000, ROOM = 10000, REQUESTS = 1000000 };

struct lru {
    uint32_t before[ITEMS * 4 + 1], after[ITEMS * 4 + 1]; /* a ring; 0 ends */
    bool here[ITEMS * 4 + 1];
    uint32_t count;
};

static void
lru_take(struct lru *l, uint32_t i)
{
    l->after[l->before[i]] = l->after[i];
    l->before[l->after[i]] = l->before[i];
}

static bool
lru_request(struct lru *l, uint64_t block)
{
    uint32_t i = (uint32_t)block + 1;
    bool hit = l->here[i];

    if (hit) {
        lru_take(l, i);
    } else if (l->count == ROOM) {
        uint32_t oldest = l->before[0];

        lru_take(l, oldest);
        l->here[oldest] = false;
    } else {
        l->count++;
    }
    l->here[i] = true;
    l->after[i] = l->after[0];
    l->before[i] = 0;
    l->before[l->after[0]] = i;
    l->after[0] = i;
    return hit;
}

struct clock {
    uint64_t block[ROOM];
    bool used[ROOM];
    uint32_t where[ITEMS * 4]; /* + 1; 0: not here */
    uint32_t hand;
};

static bool
clock_request(struct clock *c, uint64_t block)
{
    uint32_t at = c->where[block];

    if (at) {
        c->used[at - 1] = true;
        return true;
    }
    while (c->used[c->hand]) {
        c->used[c->hand] = false;
        c->hand = (c->hand + 1) % ROOM;
    }
    if (c->block[c->hand] != UINT64_MAX)
        c->where[c->block[c->hand]] = 0;
    c->block[c->hand] = block;
    c->where[block] = c->hand + 1;
    c->hand = (c->hand + 1) % ROOM;
    return false;
}

/* Ranks by Zipf's law, scattered over the blocks. */
static double *
make_zipf(double skew)
{
    double *sum = calloc(ITEMS, sizeof *sum), all = 0;

    assert_non_null(sum);
    for (unsigned i = 0; i < ITEMS; i++)
        sum[i] = all += 1 / pow(i + 1, skew);
    for (unsigned i = 0; i < ITEMS; i++)
        sum[i] /= all;
    return sum;
}

static uint64_t
draw(const double *sum, uint64_t *random)
{
    double x = (double)(next(random) >> 11) / 9007199254740992.0;
    uint32_t low = 0, high = ITEMS - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (sum[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low * UINT64_C(2654435761) % ITEMS;
}

struct ratios {
    double ours, lru, clock;
};

/* A scan of scan_every blocks in each thousand goes over other blocks. */
static struct ratios
compare(double skew, unsigned scan)
{
    double *sum = make_zipf(skew);
    struct lru *lru = calloc(1, sizeof *lru);
    struct clock *clock = calloc(1, sizeof *clock);
    uint64_t random = 77, scanned = ITEMS, hits[3] = {0};
    struct slots ix;

    assert_true(lru && clock);
    memset(clock->block, 0xff, sizeof clock->block);
    assert_int_equal(slots_new(ROOM, &ix), 0);
    for (unsigned i = 0; i < REQUESTS; i++) {
        uint64_t block = draw(sum, &random);
        bool counts = i >= REQUESTS / 4;

        if (i % 1000 < scan) {
            block = scanned;
            scanned = scanned + 1 < 4 * ITEMS ? scanned + 1 : ITEMS;
            counts = false;
        }
        hits[0] += (unsigned)request(&ix, block, 0) & counts;
        hits[1] += (unsigned)lru_request(lru, block) & counts;
        hits[2] += (unsigned)clock_request(clock, block) & counts;
    }
    slots_done(&ix);
    free(sum);
    free(lru);
    free(clock);
    double all = REQUESTS * 3 / 4 * (1 - scan / 1000.0);

    printf("# zipf %.2f, %u%% scan: ours %.3f, LRU %.3f, CLOCK %.3f\n", skew,
           scan / 10, (double)hits[0] / all, (double)hits[1] / all,
           (double)hits[2] / all);
    return (struct ratios){(double)hits[0] / all, (double)hits[1] / all,
                           (double)hits[2] / all};
}

static void
test_choice(void **state)
{
    struct ratios r;

    (void)state;
    r = compare(0.99, 0);
    assert_true(r.ours > r.lru + 0.02 && r.ours > r.clock + 0.02);
    r = compare(0.8, 0);
    assert_true(r.ours > r.lru + 0.04 && r.ours > r.clock + 0.04);
    r = compare(0.99, 300);
    assert_true(r.ours > r.lru + 0.04 && r.ours > r.clock + 0.04);
}

/* What is read once is not let in when there is no room that nobody had. */
static void
test_scan(void **state)
{
    struct slots ix;
    unsigned kept = 0;

    (void)state;
    assert_int_equal(slots_new(ROOM, &ix), 0);
    for (uint64_t b = 0; b < ROOM; b++)
        (void)request(&ix, b, 0);
    for (uint64_t b = 0; b < 20 * ROOM; b++)
        (void)request(&ix, ITEMS + b, 0);
    for (uint64_t b = 0; b < ROOM; b++)
        kept += slots_find(&ix, b, 0) != SLOT_NONE;
    assert_int_equal(kept, ROOM);
    assert_int_equal(ix.evicted, 0);
    slots_done(&ix);
}

/* A guess: a block that nobody has asked for yet. */
static bool
guess(struct slots *ix, uint64_t block)
{
    uint32_t slot = slots_admit(ix, block, 0, SLOTS_GUESS);

    if (slot != SLOT_NONE)
        slots_publish(ix, slot, block, 0);
    return slot != SLOT_NONE;
}

/* Guesses have the room that is free, and no other; those that were found stay,
 * the others make room for what is missed once. */
static void
test_guesses(void **state)
{
    enum { FEW = 1000 };
    struct slots ix;
    unsigned kept = 0;

    (void)state;
    assert_int_equal(slots_new(ROOM, &ix), 0);
    for (uint64_t b = 0; b < FEW; b++)
        (void)request(&ix, b, 0);
    for (uint64_t b = FEW; b < ROOM; b++) {
        assert_true(slots_have_room(&ix));
        assert_true(guess(&ix, b));
    }
    assert_false(slots_have_room(&ix));
    assert_false(guess(&ix, ITEMS));
    for (uint64_t b = 0; b < 2 * FEW; b++)
        assert_true(request(&ix, b, 0));
    assert_int_equal(ix.evicted, 0);
    for (uint64_t b = 0; b < ROOM - 2 * FEW; b++) {
        assert_false(request(&ix, ITEMS + b, 0));
        assert_true(request(&ix, ITEMS + b, 0)); /* let in at once */
    }
    assert_int_equal(ix.evicted, ROOM - 2 * FEW);
    assert_false(guess(&ix, 3 * ITEMS));
    assert_false(request(&ix, 2 * ITEMS, 0)); /* from here on all is as ever */
    assert_false(request(&ix, 2 * ITEMS, 0));
    for (uint64_t b = 0; b < 2 * FEW; b++)
        kept += slots_find(&ix, b, 0) != SLOT_NONE;
    assert_true(kept >= 2 * FEW - 1);
    slots_done(&ix);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),  cmocka_unit_test(test_all_busy),
        cmocka_unit_test(test_pack),   cmocka_unit_test(test_choice),
        cmocka_unit_test(test_scan),   cmocka_unit_test(test_guesses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
