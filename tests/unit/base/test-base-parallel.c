/* Each job is done once, side by side where that was asked for. */
#include "unit.h"
#include "base/err.h"
#include "base/parallel.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define JOBS_MAX 100

struct jobs {
    atomic_uint done[JOBS_MAX];
    atomic_uint begun;
    size_t first_begun;
    pthread_barrier_t *together; /* NULL: nobody waits */
};

static int
job(void *ctx, size_t i)
{
    struct jobs *jobs = ctx;

    if (atomic_fetch_add(&jobs->begun, 1) == 0)
        jobs->first_begun = i;
    if (jobs->together)
        pthread_barrier_wait(jobs->together);
    atomic_fetch_add(&jobs->done[i], 1);
    return i % 7 == 3 ? err_set(-EIO, "job %zu", i) : 0;
}

static void
assert_done(struct jobs *jobs, const struct parallel_result *result,
            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[32];

        snprintf(text, sizeof text, "job %zu", i);
        assert_int_equal(jobs->done[i], 1);
        assert_int_equal(result[i].error, i % 7 == 3 ? -EIO : 0);
        if (result[i].error < 0)
            assert_string_equal(result[i].text, text);
    }
    assert_int_equal(jobs->begun, count);
}

static void
test_each_once(void **state)
{
    static const size_t counts[] = {0, 1, 2, 5, 16, JOBS_MAX};
    static const unsigned threads[] = {0, 1, 2, 6, 16, 1000};

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
            struct parallel_result result[JOBS_MAX] = {{0}};
            struct jobs jobs = {0};

            parallel_each(threads[t], counts[c], 3, job, &jobs, result);
            assert_done(&jobs, result, counts[c]);
            if (counts[c] > 0 && threads[t] <= 1)
                assert_int_equal(jobs.first_begun, 3 % counts[c]);
        }
    }
}

/* None ends before all have begun. */
static void
do_together(struct jobs *jobs, unsigned threads)
{
    struct parallel_result result[JOBS_MAX] = {{0}};
    pthread_barrier_t barrier;

    memset(jobs, 0, sizeof *jobs);
    pthread_barrier_init(&barrier, NULL, threads);
    jobs->together = &barrier;
    parallel_each(threads, threads, 0, job, jobs, result);
    pthread_barrier_destroy(&barrier);
    assert_done(jobs, result, threads);
}

static void
test_side_by_side(void **state)
{
    struct jobs jobs;

    (void)state;
    for (unsigned threads = 2; threads <= 16; threads++)
        do_together(&jobs, threads);
}

static int
nested(void *ctx, size_t i)
{
    struct jobs jobs;

    (void)ctx;
    (void)i;
    do_together(&jobs, 3);
    return 0;
}

static void *
caller(void *unused)
{
    for (unsigned n = 0; n < 50; n++) {
        struct parallel_result result[4];
        struct jobs jobs;

        do_together(&jobs, 2 + n % 5);
        parallel_each(4, 4, n, nested, NULL, result);
    }
    return unused;
}

static void
test_many_callers(void **state)
{
    pthread_t thread[8];

    (void)state;
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, caller, NULL), 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(thread[i], NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_once),
        cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_many_callers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
