/* How writers are slowed down as the journal fills. */
#include "unit.h"
#include "volume/throttle.h"
#include <string.h>

enum { RATE = 20000 }; /* blocks a second */
#define SECOND UINT64_C(1000000000)

static void
begin(struct throttle *t)
{
    memset(t, 0, sizeof *t);
    throttle_note(t, RATE / 2, SECOND / 2);
}

/* How many blocks a second writers bring that do nothing else. */
static uint64_t
brought(uint32_t fill, uint64_t writers, uint64_t blocks)
{
    uint64_t now = 5 * SECOND, end = now + SECOND, count = 0, next[64];
    struct throttle t;

    begin(&t);
    for (uint64_t i = 0; i < writers; i++)
        next[i] = now;
    while (now < end) {
        uint64_t first = 0;

        for (uint64_t i = 1; i < writers; i++)
            first = next[i] < next[first] ? i : first;
        now = next[first];
        /* what it does not wait for takes 10 us */
        next[first] = now + 10000 +
                      throttle_wait_ns(&t, fill, blocks, now);
        count += blocks;
    }
    return count;
}

static void
test_nobody_waits_with_room(void **state)
{
    struct throttle t;

    (void)state;
    begin(&t);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(throttle_wait_ns(&t, FILL_THROTTLED - 1, 256, i), 0);
}

/* A burst fills the journal before the first batch has ended: what is taken for
 * the pace then is soon forgotten. */
static void
test_before_a_batch_was_seen(void **state)
{
    struct throttle t;

    (void)state;
    memset(&t, 0, sizeof t); /* not even that is known */
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(throttle_wait_ns(&t, FILL_FULL, 256, i), 0);
    throttle_begin(&t, 4 * RATE);
    assert_int_equal(throttle_rate(&t), RATE);
    (void)throttle_wait_ns(&t, FILL_FULL, 256, SECOND);
    assert_true(throttle_wait_ns(&t, FILL_FULL, 256, SECOND) > 0);
    for (unsigned i = 0; i < 8; i++) /* of a tenth of a second */
        throttle_note(&t, RATE, SECOND / 10);
    assert_in_range(throttle_rate(&t), 9 * RATE, 10 * RATE);
}

static void
test_as_much_as_is_taken_away(void **state)
{
    static const struct {
        uint32_t fill;
        uint64_t share; /* quarters of the rate */
    } cases[] = {
        {FILL_THROTTLED, 16}, {FILL_FULL * 7 / 8, 4}, {FILL_FULL, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t want = RATE * cases[i].share / 4;

        assert_in_range(brought(cases[i].fill, 16, 1), want * 95 / 100,
                        want * 105 / 100);
        assert_in_range(brought(cases[i].fill, 4, 16), want * 95 / 100,
                        want * 105 / 100);
    }
}

/* TH1. */
static void
test_no_wait_is_long(void **state)
{
    uint64_t now = SECOND, most = 0;
    struct throttle t;

    (void)state;
    begin(&t);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t wait = throttle_wait_ns(&t, FILL_FULL, 8192, now);

        most = wait > most ? wait : most;
    }
    assert_int_equal(most, THROTTLE_WAIT_MAX_NS);
    /* and all is forgotten when there is room */
    assert_int_equal(throttle_wait_ns(&t, 0, 1, now), 0);
    assert_int_equal(throttle_wait_ns(&t, FILL_FULL, 1, now), 0);
}

/* Many small batches, of which each costs what any batch costs, do not count
 * for more than a long one. */
static void
test_rate_is_by_time(void **state)
{
    struct throttle t;

    (void)state;
    begin(&t);
    assert_int_equal(throttle_rate(&t), RATE);
    for (unsigned i = 0; i < 3; i++)
        throttle_note(&t, 1, SECOND / 1000);
    assert_in_range(throttle_rate(&t), RATE * 9 / 10, RATE);
    for (unsigned i = 0; i < 20; i++)
        throttle_note(&t, RATE, SECOND * 2);
    assert_in_range(throttle_rate(&t), RATE / 2, RATE * 51 / 100);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_waits_with_room),
        cmocka_unit_test(test_before_a_batch_was_seen),
        cmocka_unit_test(test_as_much_as_is_taken_away),
        cmocka_unit_test(test_no_wait_is_long),
        cmocka_unit_test(test_rate_is_by_time),
    };

    return cmocka_run_group_tests_name("volume-throttle", tests, NULL, NULL);
}
