/* test-cache-shard.c: one shard of the RAM cache: who goes, and when; and what
 * is remembered of those that went. */
#include "base/memory.h"
#include "cache/shard.h"
#include "unit.h"
#include <string.h>

enum { SLOTS = 160, SMALL = 16, MAIN = SLOTS - SMALL, NEVER = 100000 };

/* Full of blocks 0 ... SLOTS - 1: the first in SMALL, the others in MAIN. */
static void
make_full(struct shard *s)
{
    memset(s, 0, sizeof *s);
    assert_int_equal(shard_init(s, SLOTS, 1), 0);
    for (uint64_t block = 0; block < SLOTS; block++)
        (void)shard_take(s, block);
    assert_int_equal(s->queue[SHARD_SMALL].count, SMALL);
    assert_int_equal(s->queue[SHARD_MAIN].count, MAIN);
    assert_int_equal(s->evictions, 0);
    assert_true(shard_ok(s));
}

static bool
has(const struct shard *s, uint64_t block)
{
    return shard_find(s, block) != SHARD_NONE;
}

static enum shard_queue
queue_of(const struct shard *s, uint64_t block)
{
    uint32_t slot = shard_find(s, block);

    assert_int_not_equal(slot, SHARD_NONE);
    return (enum shard_queue)s->slots[slot].queue;
}

static void
use(struct shard *s, uint64_t block)
{
    uint32_t slot = shard_find(s, block);

    assert_int_not_equal(slot, SHARD_NONE);
    shard_use(s, &s->slots[slot]);
}

/* Blocks that nobody uses, so that time goes on: through SMALL. */
static void
pass(struct shard *s, uint64_t count)
{
    static uint64_t block = NEVER;

    while (count-- > 0)
        (void)shard_take(s, block++);
}

/* The oldest of SMALL goes, and is remembered: when it comes again, it comes
 * into MAIN; then MAIN has too many. */
static void
test_small_to_memory_to_main(void **state)
{
    struct shard s;

    (void)state;
    make_full(&s);
    (void)shard_take(&s, 1000);
    assert_false(has(&s, 0));
    assert_int_equal(queue_of(&s, 1000), SHARD_SMALL);
    (void)shard_take(&s, 0);
    assert_int_equal(queue_of(&s, 0), SHARD_MAIN);
    assert_false(has(&s, 1));
    assert_int_equal(s.queue[SHARD_MAIN].count, MAIN + 1);
    (void)shard_take(&s, 1001); /* now the oldest of MAIN goes */
    assert_false(has(&s, SMALL));
    assert_true(has(&s, 2));
    assert_int_equal(s.queue[SHARD_MAIN].count, MAIN);
    (void)shard_take(&s, SMALL); /* which is not remembered */
    assert_int_equal(queue_of(&s, SMALL), SHARD_SMALL);
    assert_int_equal(s.evictions, 4);
    assert_true(shard_ok(&s));
    shard_done(&s);
}

static void
test_small_to_main(void **state)
{
    struct shard s;

    (void)state;
    make_full(&s);
    use(&s, 0);
    use(&s, 3);
    pass(&s, 2); /* 0 is promoted: the oldest of MAIN goes for it; then 1 */
    assert_int_equal(queue_of(&s, 0), SHARD_MAIN);
    assert_int_equal(s.slots[shard_find(&s, 0)].uses, 0); /* spent */
    assert_false(has(&s, SMALL));
    assert_false(has(&s, 1));
    pass(&s, 10 * SLOTS);
    assert_int_equal(queue_of(&s, 0), SHARD_MAIN);
    assert_int_equal(queue_of(&s, 3), SHARD_MAIN);
    assert_false(has(&s, 2));
    assert_true(has(&s, SLOTS - 1)); /* MAIN did not notice */
    assert_true(shard_ok(&s));
    shard_done(&s);
}

/* In MAIN every use buys one more round, up to three. */
static void
test_main_rounds(void **state)
{
    struct shard s;

    (void)state;
    for (unsigned uses = 0; uses < 6; uses++) {
        uint64_t rounds = 0;

        make_full(&s);
        for (unsigned i = 0; i < uses; i++) {
            use(&s, SMALL);
            pass(&s, SLOTS); /* another tick */
        }
        /* One that comes back for one of MAIN that goes. */
        for (uint64_t block = 2000; has(&s, SMALL); block++) {
            (void)shard_take(&s, block);
            pass(&s, SMALL + 1);
            assert_false(has(&s, block));
            (void)shard_take(&s, block);
            rounds++;
        }
        rounds /= MAIN - 1;
        assert_int_equal(rounds, uses < 3 ? uses : 3);
        assert_true(shard_ok(&s));
        shard_done(&s);
    }
}

static void
test_tick(void **state)
{
    struct shard s;
    uint32_t slot;

    (void)state;
    make_full(&s);
    slot = shard_take(&s, 1000);
    use(&s, 1000); /* it came just now: that is the same use */
    assert_int_equal(s.slots[slot].uses, 0);
    pass(&s, 3);
    use(&s, 1000);
    use(&s, 1000);
    assert_int_equal(s.slots[slot].uses, 1);
    pass(&s, 3);
    use(&s, 1000);
    assert_int_equal(s.slots[slot].uses, 2);
    shard_done(&s);
}

/* M4: everything was used, and still somebody goes soon: the one behind those
 * that got their second chance. */
static void
test_bounded_steps(void **state)
{
    struct shard s;
    uint64_t gone = 0;

    (void)state;
    make_full(&s);
    for (int round = 0; round < 3; round++)
        for (uint64_t block = 0; block < SLOTS; block++) {
            s.slots[shard_find(&s, block)].tick--;
            use(&s, block);
        }
    (void)shard_take(&s, 1000);
    for (uint64_t block = 0; block < SLOTS; block++) {
        gone += !has(&s, block);
        /* The first one of SMALL, and as many of MAIN as there are steps. */
        assert_int_equal(has(&s, block), block != SMALL + SHARD_STEPS_MAX - 1);
    }
    assert_int_equal(gone, 1);
    assert_true(shard_ok(&s));
    shard_done(&s);
}

static void
test_offers(void **state)
{
    struct shard s;

    (void)state;
    make_full(&s);
    shard_drop(&s, shard_find(&s, 7));
    shard_drop(&s, shard_find(&s, 70));
    assert_int_not_equal(shard_offer(&s, 1000, true), SHARD_NONE);
    assert_int_not_equal(shard_offer(&s, 1001, true), SHARD_NONE);
    assert_int_equal(shard_offer(&s, 1002, true), SHARD_NONE);
    assert_int_equal(s.evictions, 0);
    assert_int_not_equal(shard_offer(&s, 1002, true), SHARD_NONE);
    assert_int_equal(queue_of(&s, 1002), SHARD_MAIN);
    assert_int_equal(s.evictions, 1);
    shard_drop(&s, shard_find(&s, 1002)); /* and so is not remembered (Q4) */
    (void)shard_take(&s, 1003);
    assert_int_equal(shard_offer(&s, 1002, true), SHARD_NONE);
    assert_true(shard_ok(&s));
    shard_done(&s);
}

/* Nobody has had the room: a block gets it the second time. */
static void
test_offers_for_room_that_was_used(void **state)
{
    struct shard s = {0};

    (void)state;
    assert_int_equal(shard_init(&s, SLOTS, 1), 0);
    assert_int_equal(shard_offer(&s, 1, false), SHARD_NONE);
    assert_int_equal(s.touched, 0);
    assert_int_not_equal(shard_offer(&s, 1, false), SHARD_NONE);
    assert_int_equal(s.touched, 1);
    shard_drop(&s, shard_find(&s, 1));
    assert_int_not_equal(shard_offer(&s, 2, false), SHARD_NONE);
    assert_int_equal(shard_offer(&s, 3, false), SHARD_NONE);
    assert_int_not_equal(shard_offer(&s, 4, true), SHARD_NONE);
    assert_int_equal(s.touched, 2);
    assert_true(shard_ok(&s));
    shard_done(&s);
}

static void
do_anything(uint32_t slots)
{
    struct shard s = {0};
    uint32_t v = 5;

    assert_int_equal(shard_init(&s, slots, 1), 0);
    for (int step = 0; step < 50000; step++) {
        uint64_t block;
        uint32_t slot;

        v = v * 1664525u + 1013904223u;
        block = (v >> 8) % 150;
        slot = shard_find(&s, block);
        if (v >> 28 == 0) {
            uint64_t end = block + (v >> 4) % 40;

            for (; block < end; block++)
                if ((slot = shard_find(&s, block)) != SHARD_NONE)
                    shard_drop(&s, slot);
        } else if (slot != SHARD_NONE) {
            shard_use(&s, &s.slots[slot]);
        } else if (v >> 30 == 1) {
            (void)shard_offer(&s, block, v & 1);
        } else {
            slot = shard_take(&s, block);
            assert_int_equal(shard_find(&s, block), slot);
        }
        assert_true(shard_ok(&s));
    }
    assert_true(s.evictions > 1000);
    shard_done(&s);
}

static void
test_any_order(void **state)
{
    static const uint32_t slots[] = {1, 2, 3, 11, 50};

    (void)state;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        do_anything(slots[i]);
}

/* The newest are remembered, the oldest forgotten, and each only once. */
static void
test_ghost(void **state)
{
    enum { PLACES = 16000 };
    struct ghost g = {0};
    uint64_t kept = 0;

    (void)state;
    assert_int_equal(ghost_init(&g, PLACES + GHOST_WAYS - 1), 0);
    assert_int_equal(g.set_count, PLACES / GHOST_WAYS);
    for (uint64_t block = 0; block < 10 * PLACES; block++) {
        assert_false(ghost_take(&g, shard_hash(block)));
        ghost_put(&g, shard_hash(block));
        ghost_put(&g, shard_hash(block));
    }
    for (uint64_t block = 0; block < 8 * PLACES; block++)
        kept += ghost_take(&g, shard_hash(block));
    assert_true(kept < PLACES / 100);
    kept = 0;
    for (uint64_t block = 10 * PLACES; block-- > 9 * PLACES + PLACES / 2;) {
        kept += ghost_take(&g, shard_hash(block));
        assert_false(ghost_take(&g, shard_hash(block)));
    }
    assert_true(kept > PLACES / 2 * 97 / 100);
    ghost_done(&g);
}

static void
test_no_ghost(void **state)
{
    struct ghost g = {0};

    (void)state;
    assert_int_equal(ghost_init(&g, GHOST_WAYS - 1), 0);
    ghost_put(&g, 1);
    assert_false(ghost_take(&g, 1));
    ghost_done(&g);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_to_memory_to_main),
        cmocka_unit_test(test_small_to_main),
        cmocka_unit_test(test_main_rounds),
        cmocka_unit_test(test_tick),
        cmocka_unit_test(test_bounded_steps),
        cmocka_unit_test(test_offers),
        cmocka_unit_test(test_offers_for_room_that_was_used),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_ghost),
        cmocka_unit_test(test_no_ghost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
