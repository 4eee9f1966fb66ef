/* When a miss brings its neighbours (around.h). */
#include "unit.h"
#include "volume/around.h"

enum { SMALL_NS = 10000000 };

static void
test_far(void **state)
{
    struct around a;

    (void)state;
    around_init(&a);
    assert_false(around_begin(&a, 1, 0)); /* not known */
    assert_false(around_begin(&a, 1, AROUND_FAR_NS - 1));
    assert_true(around_begin(&a, 1, AROUND_FAR_NS));
    around_done(&a);
}

/* AR1. */
static void
test_a_few_at_a_time(void **state)
{
    struct around a;

    (void)state;
    around_init(&a);
    for (uint64_t w = 0; w < AROUND_AT_ONCE; w++) {
        assert_true(around_begin(&a, w, SMALL_NS));
        assert_false(around_begin(&a, w, SMALL_NS));
    }
    assert_false(around_begin(&a, AROUND_AT_ONCE, SMALL_NS));
    around_end(&a, 2, SMALL_NS);
    assert_true(around_begin(&a, AROUND_AT_ONCE, SMALL_NS));
    around_end(&a, 0, SMALL_NS);
    assert_false(around_begin(&a, 1, SMALL_NS));
    assert_true(around_begin(&a, 2, SMALL_NS));
    around_done(&a);
}

/* AR2; and back, when it pays again. */
static void
test_what_it_costs(void **state)
{
    struct around a;
    unsigned tried = 0;

    (void)state;
    around_init(&a);
    for (uint64_t w = 0; w < 100; w++) {
        assert_true(around_begin(&a, w, SMALL_NS));
        around_end(&a, w, 2 * SMALL_NS);
    }
    for (uint64_t w = 0; w < 20; w++) {
        if (around_begin(&a, w, SMALL_NS))
            around_end(&a, w, 50 * SMALL_NS);
    }
    for (uint64_t w = 0; w < 10 * AROUND_RETRY; w++) {
        if (!around_begin(&a, w, SMALL_NS))
            continue;
        tried++;
        around_end(&a, w, 50 * SMALL_NS);
    }
    assert_in_range(tried, 9, 11);
    for (uint64_t w = 0; w < 40 * AROUND_RETRY; w++) {
        if (around_begin(&a, w, SMALL_NS))
            around_end(&a, w, SMALL_NS);
    }
    assert_true(around_begin(&a, 0, SMALL_NS));
    around_done(&a);
}

/* AR3. */
static void
test_failed(void **state)
{
    struct around a;

    (void)state;
    around_init(&a);
    for (uint64_t w = 0; w < AROUND_FAILED; w++) {
        assert_true(around_begin(&a, w, SMALL_NS));
        around_end(&a, w, 0);
    }
    for (uint64_t w = 0; w < AROUND_FAILED; w++)
        assert_false(around_begin(&a, w, SMALL_NS));
    assert_true(around_begin(&a, AROUND_FAILED, SMALL_NS));
    around_end(&a, AROUND_FAILED, 0);
    assert_true(around_begin(&a, 0, SMALL_NS)); /* forgotten */
    around_done(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_a_few_at_a_time),
        cmocka_unit_test(test_what_it_costs),
        cmocka_unit_test(test_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
