/* test-cache-replay.c: the RAM cache finds more than LRU and CLOCK would; and
 * the traces that show it are the same everywhere. */
#include "cache/cache.h"
#include "replay.h"
#include "temp-dir.h"
#include "unit.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BLOCKS = 1 << 14, ASKED = 1 << 18 };

static uint64_t
mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * UINT64_C(0x100000001b3);
}

/* docs/performance.md has a table that everybody can make again. */
static void
test_same_everywhere(void **state)
{
    uint64_t sum = 0;

    (void)state;
    for (int kind = 0; kind < TRACE_KINDS; kind++) {
        struct trace t;

        trace_make(&t, (enum trace_kind)kind, BLOCKS, ASKED);
        for (size_t i = 0; i < t.count; i++) {
            sum = mix(sum, t.request[i].first);
            sum = mix(sum, t.request[i].count * 2u + t.request[i].is_write);
        }
        trace_free(&t);
    }
    assert_int_equal(sum, UINT64_C(0xaee8648c72ad4a7e));
}

/* Percent: what ours has more than the other's; at 1, 5, 10, 25 % of all. */
static void
assert_better(enum trace_kind kind, enum replay_policy policy, double least)
{
    static const uint64_t part[] = {100, 20, 10, 4};
    struct trace t;

    trace_make(&t, kind, BLOCKS, ASKED);
    for (int i = kind == TRACE_LONG; i < 4; i++) { /* a request should fit */
        struct cache *c = replay_cache_new(BLOCKS / part[i]);
        uint64_t capacity = cache_counts(c).capacity_blocks;
        double ours = replay_ratio(replay_cache(c, &t));
        double other = replay_ratio(replay_other(policy, capacity, &t));

        if (ours * 100 < other * 100 + least)
            fail_msg("%s, %" PRIu64 " blocks: %.4f, the other has %.4f", t.name,
                     capacity, ours, other);
        assert_true(cache_ok(c));
        cache_free(c);
    }
    trace_free(&t);
}

static void
test_scans(void **state)
{
    (void)state;
    assert_better(TRACE_SCAN, REPLAY_CLOCK, 2);
    assert_better(TRACE_SCAN, REPLAY_LRU, 2);
    assert_better(TRACE_SCAN_LONG, REPLAY_LRU, 2);
    assert_better(TRACE_DATABASE, REPLAY_CLOCK, 0);
    assert_better(TRACE_LOOP, REPLAY_CLOCK, 0.5);
}

static void
test_zipf(void **state)
{
    (void)state;
    for (int policy = 0; policy < REPLAY_POLICIES; policy++) {
        assert_better(TRACE_ZIPF_08, (enum replay_policy)policy, 1);
        assert_better(TRACE_ZIPF_099, (enum replay_policy)policy, 0.5);
        assert_better(TRACE_ZIPF_12, (enum replay_policy)policy, -0.2);
        assert_better(TRACE_READ_WRITE, (enum replay_policy)policy, 0.5);
    }
}

/* Long requests for what is wanted again and again: CLOCK, as it was, never let
 * them in once it was full. */
static void
test_long_requests(void **state)
{
    (void)state;
    assert_better(TRACE_LONG, REPLAY_CLOCK, 20);
}

/* The others are what they are called. */
static void
test_others(void **state)
{
    /* 3 takes the place of 2; with CLOCK, all being marked, that of 1. */
    static struct request r[] = {
        {1, 1, false}, {2, 1, false}, {2, 1, false}, {1, 1, false},
        {3, 1, true},  {1, 1, false}, {3, 1, false},
    };
    struct trace t = {.count = sizeof r / sizeof *r, .request = r};
    struct replay lru = replay_other(REPLAY_LRU, 2, &t);
    struct replay clock = replay_other(REPLAY_CLOCK, 2, &t);

    (void)state;
    assert_int_equal(lru.reads, 6);
    assert_int_equal(lru.hits, 4);
    assert_int_equal(clock.reads, 6);
    assert_int_equal(clock.hits, 3);
}

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void
test_file(void **state)
{
    static const char *const bad[] = {
        "x\n",         "1 x\n",    "1 2 3\n", "1 0\n",
        "-1\n",        "1 2 wx\n", "1,2\n",   "18446744073709551615 2\n",
        "1 9999999\n",
    };
    struct temp_dir dir;
    struct trace t;
    char path[300];

    (void)state;
    temp_dir_init(&dir);
    snprintf(path, sizeof path, "%s/trace", dir.path);
    write_file(path, "# a trace\n\n7\n 8 3\r\n10 w\n9\t2 w\n"
                     "18446744073709551614");
    assert_true(trace_load(&t, path));
    assert_int_equal(t.count, 5);
    assert_int_equal(t.blocks, 5); /* 7 8 9 10 and the last */
    assert_int_equal(t.request[1].first, 8);
    assert_int_equal(t.request[1].count, 3);
    assert_false(t.request[1].is_write);
    assert_int_equal(t.request[2].count, 1);
    assert_true(t.request[2].is_write);
    assert_int_equal(t.request[3].count, 2);
    assert_true(t.request[3].is_write);
    assert_true(t.request[4].first == UINT64_MAX - 1);
    trace_free(&t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(path, bad[i]);
        assert_false(trace_load(&t, path));
    }
    temp_dir_done(&dir);
    assert_false(trace_load(&t, path));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_everywhere),
        cmocka_unit_test(test_scans),
        cmocka_unit_test(test_zipf),
        cmocka_unit_test(test_long_requests),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
