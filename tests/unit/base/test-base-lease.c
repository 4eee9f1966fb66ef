/* Leases: who shares, who waits, and in which order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/lease.h"
#include <pthread.h>
#include <sched.h>

static void
shared_share_and_exclusive_exclude(void **state)
{
    struct lease_table table;
    struct lease a, b, c;

    (void)state;
    lease_table_init(&table);
    lease_get(&table, &a, 10, 20, false);
    assert_true(lease_try(&table, &b, 15, 25, false));
    assert_false(lease_try(&table, &c, 19, 20, true));
    assert_false(lease_try(&table, &c, 0, UINT64_MAX, true));
    assert_true(lease_try(&table, &c, 25, 30, true));
    lease_put(&table, &c);
    lease_put(&table, &a);
    assert_false(lease_try(&table, &c, 19, 20, true));
    lease_put(&table, &b);
    assert_true(lease_try(&table, &c, 19, 20, true));
    assert_false(lease_try(&table, &a, 19, 20, false));
    assert_true(lease_try(&table, &a, 20, 21, true)); /* neighbours */
    lease_put(&table, &a);
    lease_put(&table, &c);
    lease_table_done(&table);
}

struct waiter {
    struct lease_table *table;
    uint64_t first, end;
    bool exclusive;
    int order; /* when it got its lease, from 1 */
    int *next_order;
    pthread_mutex_t *order_lock;
    pthread_t thread;
};

static void *
wait_for_lease(void *arg)
{
    struct waiter *w = arg;
    struct lease lease;

    lease_get(w->table, &lease, w->first, w->end, w->exclusive);
    (void)pthread_mutex_lock(w->order_lock);
    w->order = (*w->next_order)++;
    (void)pthread_mutex_unlock(w->order_lock);
    lease_put(w->table, &lease);
    return NULL;
}

static unsigned
claim_count(struct lease_table *table)
{
    unsigned count = 0;

    (void)pthread_mutex_lock(&table->lock);
    for (const struct lease *l = table->head; l != NULL; l = l->next)
        count++;
    (void)pthread_mutex_unlock(&table->lock);
    return count;
}

/* Start it and wait until its claim stands in the table. */
static void
start_waiter(struct waiter *w, unsigned claims_then)
{
    assert_int_equal(pthread_create(&w->thread, NULL, wait_for_lease, w), 0);
    while (claim_count(w->table) < claims_then)
        (void)sched_yield();
}

static void
a_waiting_exclusive_claim_is_not_overtaken(void **state)
{
    pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
    struct lease_table table;
    struct lease holder, other;
    int next_order = 1;
    struct waiter writer = {
        .table = &table, .first = 5, .end = 6, .exclusive = true,
        .next_order = &next_order, .order_lock = &order_lock,
    };
    struct waiter reader = {
        .table = &table, .first = 0, .end = 8, .exclusive = false,
        .next_order = &next_order, .order_lock = &order_lock,
    };

    (void)state;
    lease_table_init(&table);
    lease_get(&table, &holder, 0, 10, false);
    start_waiter(&writer, 2);
    /* Readers would share with the holder, but the writer came first. */
    assert_false(lease_try(&table, &other, 5, 6, false));
    start_waiter(&reader, 3);
    assert_int_equal(next_order, 1);
    /* Where the writer does not want to go, nobody waits. */
    assert_true(lease_try(&table, &other, 8, 9, false));
    lease_put(&table, &other);
    lease_put(&table, &holder);
    assert_int_equal(pthread_join(writer.thread, NULL), 0);
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    assert_int_equal(writer.order, 1);
    assert_int_equal(reader.order, 2);
    lease_table_done(&table);
}

#define CELLS 16
#define THREADS 6
#define ROUNDS 2000

struct crowd {
    struct lease_table table;
    uint64_t cell[CELLS]; /* guarded by leases alone: TSan judges */
};

struct member {
    struct crowd *crowd;
    uint64_t random;
    uint64_t added, torn;
    pthread_t thread;
};

static uint64_t
next_random(struct member *m)
{
    m->random = m->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return m->random >> 33;
}

static void *
crowd_member(void *arg)
{
    struct member *m = arg;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t first = next_random(m) % CELLS;
        uint64_t end = first + 1 + next_random(m) % (CELLS - first);
        bool exclusive = next_random(m) % 2;
        struct lease lease;
        uint64_t before = 0, after = 0;

        if (next_random(m) % 4 == 0) {
            if (!lease_try(&m->crowd->table, &lease, first, end, exclusive))
                continue;
        } else {
            lease_get(&m->crowd->table, &lease, first, end, exclusive);
        }
        for (uint64_t i = first; i < end; i++)
            before += m->crowd->cell[i];
        if (exclusive)
            for (uint64_t i = first; i < end; i++) {
                m->crowd->cell[i]++;
                m->added++;
                before++;
            }
        for (uint64_t i = first; i < end; i++)
            after += m->crowd->cell[i];
        m->torn += before != after;
        lease_put(&m->crowd->table, &lease);
    }
    return NULL;
}

static void
a_crowd_loses_nothing(void **state)
{
    struct crowd crowd = { .cell = { 0 } };
    struct member member[THREADS] = { { 0 } };
    uint64_t added = 0, found = 0;

    (void)state;
    lease_table_init(&crowd.table);
    for (size_t i = 0; i < THREADS; i++) {
        member[i].crowd = &crowd;
        member[i].random = i + 1;
        assert_int_equal(pthread_create(&member[i].thread, NULL, crowd_member,
                                        &member[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(member[i].thread, NULL), 0);
        assert_int_equal(member[i].torn, 0);
        added += member[i].added;
    }
    for (size_t i = 0; i < CELLS; i++)
        found += crowd.cell[i];
    assert_true(added > 0);
    assert_int_equal(found, added);
    lease_table_done(&crowd.table);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_share_and_exclusive_exclude),
        cmocka_unit_test(a_waiting_exclusive_claim_is_not_overtaken),
        cmocka_unit_test(a_crowd_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
