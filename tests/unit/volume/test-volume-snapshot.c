/* A snapshot holds what its volume held at one moment, and the volume goes on
 * with just that: beside requests and threads, killed in between, one above
 * the other. */
#include "unit.h"
#include "film.h"
#include "volume/volume.h"
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests before, at and after the moment ---- */

static void
write_to_next(struct film *f)
{
    uint64_t b = f->block;

    film_put(f, 4 * b, 2 * b);            /* half of it in the journal below */
    film_put(f, 9 * b + 120, 60);         /* within a block of that journal */
    film_put(f, 30 * b + 5, b);           /* of the parts */
    film_zero(f, 3 * b + 9, 77);
    film_trim(f, 2 * CHUNK + 20 * b, b);
    film_zero(f, 4 * CHUNK + 3 * b, b);
    film_trim(f, 4 * CHUNK + 6 * b + 1, 2 * b);
    film_trim(f, 5 * CHUNK, CHUNK);       /* all of it in that journal alone */
    film_put(f, 6 * CHUNK + 2 * b, 10);
    film_check(f);
    film_check_extents(f);
    film_trim(f, 0, CHUNK);               /* all of it on the parts */
    film_put(f, 5 * CHUNK + b + 1, 10);   /* the rest of the block stays zero */
    film_check(f);
    film_check_extents(f);
}

static void
live(const struct kind *kind, uint64_t ram_bytes, bool drain_first)
{
    struct film f;

    film_begin(&f, kind, ram_bytes, false);
    film_write_to_journal(&f);
    film_snapshot_begin(&f, "v1@x");
    film_put(&f, 5 * f.block, 2 * f.block);
    film_trim(&f, 4 * CHUNK + f.block, f.block);
    film_snapshot_commit(&f, "v1@x");
    film_check(&f);
    film_check_extents(&f);
    write_to_next(&f);
    if (drain_first)
        world_drain(&f.world);
    film_check(&f);
    film_check_extents(&f);
    film_snapshot_finish(&f, "v1@x");
    film_check(&f);
    film_check_extents(&f);
    film_put(&f, 5 * CHUNK + 3 * f.block, f.block);
    world_drain(&f.world);
    film_check(&f);
    film_check_named(&f, "v1@x", f.frozen); /* while the other is open */
    film_put(&f, 0, f.block);
    film_check(&f);
    world_close(&f.world);
    film_check_named(&f, "v1@x", f.frozen);
    film_check_sound(&f, "v1@x");
    film_end(&f);
}

static void
test_requests_go_on(void **state)
{
    const struct kind *kind[] = {&film_one, &film_triple, &film_ec,
                                 &film_small};

    (void)state;
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        live(kind[i], 1, false);
        live(kind[i], 1, true);
        live(kind[i], 4u << 20, false);
    }
}

/* ---- kill -9 (SN3) ---- */

static void
killed_after_commit(const struct kind *kind, bool writes)
{
    static const char *const names[] = {NAME, "v1@x", NULL};
    struct film f;

    film_begin(&f, kind, 1, false);
    film_write_to_journal(&f);
    film_snapshot_begin(&f, "v1@x");
    film_snapshot_commit(&f, "v1@x");
    if (writes)
        write_to_next(&f);
    film_kill(&f);
    film_check_list(&f, names);
    world_open(&f.world);
    film_check(&f);
    film_check_extents(&f);
    film_put(&f, 6 * CHUNK, CHUNK / 8);
    world_drain(&f.world);
    film_check(&f);
    film_check_named(&f, "v1@x", f.frozen);
    world_close(&f.world);
    film_check_list(&f, names);
    film_check_sound(&f, "v1@x");
    film_check_traces(&f, 2, 1);
    film_end(&f);
}

static void
test_killed_after_the_moment(void **state)
{
    (void)state;
    killed_after_commit(&film_triple, true);
    killed_after_commit(&film_triple, false);
    killed_after_commit(&film_ec, true);
    killed_after_commit(&film_one, false);
}

static void
killed_before_commit(const struct kind *kind)
{
    static const char *const names[] = {NAME, "v1@y", NULL};
    struct film f;

    film_begin(&f, kind, 1, false);
    film_snapshot_begin(&f, "v1@x");
    film_write_to_journal(&f);
    film_kill(&f);
    assert_true(film_has_unborn(&f)); /* else nothing is tested below */
    film_check_traces(&f, 2, 2);
    film_check_unknown(&f, "v1@x");
    world_open(&f.world);
    film_check(&f);
    film_snapshot(&f, "v1@y");
    film_check_list(&f, names);
    film_check_traces(&f, 2, 1);
    film_put(&f, 7 * f.block, f.block);
    film_check_unknown(&f, "v1@x");
    film_check_named(&f, "v1@y", f.frozen);
    film_check(&f);
    film_end(&f);
}

static void
test_killed_before_the_moment(void **state)
{
    (void)state;
    killed_before_commit(&film_triple);
    killed_before_commit(&film_ec);
}

/* ---- beside threads ---- */

enum { THREADS = 4, SNAPSHOTS = 5, STEPS_BETWEEN = 150 };

struct crowd {
    struct film film;        /* its model: each block of one thread alone */
    pthread_rwlock_t gate;   /* shared: a request is under way */
    atomic_uint steps;       /* of all */
    atomic_bool over;
    uint8_t *frozen[SNAPSHOTS];
};

struct thread {
    struct crowd *crowd;
    unsigned number;
    uint64_t random;
    uint8_t bytes[4096];
    pthread_t id;
};

/* cmocka can't fail from a thread of ours. */
static void
disagree(const struct thread *t, uint64_t at)
{
    fprintf(stderr, "thread %u: wrong bytes at %" PRIu64 "\n", t->number, at);
    abort();
}

/* Within one of its own blocks; the model follows inside the gate, so that
 * it is what was answered when the gate is shut. */
static void
step(struct thread *t)
{
    struct film *f = &t->crowd->film;
    uint64_t blocks = BYTES / f->block / THREADS;
    uint64_t at = (random_below(&t->random, blocks) * THREADS + t->number) *
                  f->block;
    size_t from = random_below(&t->random, 2) ? 0 : 99;
    size_t count = f->block - from;

    at += from;
    pthread_rwlock_rdlock(&t->crowd->gate);
    switch (random_below(&t->random, 6)) {
    case 0:
        memset(f->model + at, 0, count);
        MUST(lsvd_trim(f->world.volume, count, at, 0));
        break;
    case 1:
    case 2:
        MUST(lsvd_pread(f->world.volume, t->bytes, count, at));
        if (memcmp(t->bytes, f->model + at, count) != 0)
            disagree(t, at);
        break;
    default:
        random_fill(&t->random, f->model + at, count);
        MUST(lsvd_pwrite(f->world.volume, f->model + at, count, at, 0));
    }
    pthread_rwlock_unlock(&t->crowd->gate);
    atomic_fetch_add(&t->crowd->steps, 1);
}

static void *
run(void *arg)
{
    struct thread *t = arg;

    while (!atomic_load(&t->crowd->over))
        step(t);
    return NULL;
}

static void
let_them_run(struct crowd *c)
{
    unsigned goal = atomic_load(&c->steps) + STEPS_BETWEEN;

    while (atomic_load(&c->steps) < goal)
        sched_yield();
}

/* As the plugin does it. */
static void
take_live(struct crowd *c, unsigned nth)
{
    struct film *f = &c->film;
    char name[16];

    snprintf(name, sizeof name, "v1@s%u", nth);
    film_snapshot_begin(f, name);
    let_them_run(c);
    pthread_rwlock_wrlock(&c->gate);
    film_snapshot_commit(f, name);
    memcpy(c->frozen[nth], f->model, BYTES);
    MUST(lsvd_start(f->world.volume));
    pthread_rwlock_unlock(&c->gate);
    film_snapshot_finish(f, name);
    let_them_run(c);
}

/* The gate is shut soon, however many come. */
static void
gate_init(pthread_rwlock_t *gate)
{
    pthread_rwlockattr_t attr;

    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(
        &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    assert_int_equal(pthread_rwlock_init(gate, &attr), 0);
    pthread_rwlockattr_destroy(&attr);
}

static void
run_crowd(struct crowd *c)
{
    struct thread *t = calloc(THREADS, sizeof *t);

    assert_non_null(t);
    MUST(lsvd_start(c->film.world.volume));
    for (unsigned i = 0; i < THREADS; i++) {
        t[i] = (struct thread){.crowd = c, .number = i, .random = 40 + i};
        assert_int_equal(pthread_create(&t[i].id, NULL, run, &t[i]), 0);
    }
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        take_live(c, i);
    atomic_store(&c->over, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i].id, NULL);
    free(t);
}

static void
beside_threads(const struct kind *kind)
{
    struct crowd *c = calloc(1, sizeof *c);
    char name[16];

    assert_non_null(c);
    gate_init(&c->gate);
    film_begin(&c->film, kind, 1, false);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        c->frozen[i] = malloc(BYTES);
        assert_non_null(c->frozen[i]);
    }
    run_crowd(c);
    film_check(&c->film);
    world_close(&c->film.world);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        snprintf(name, sizeof name, "v1@s%u", i);
        film_check_named(&c->film, name, c->frozen[i]);
        film_check_sound(&c->film, name);
        free(c->frozen[i]);
    }
    film_end(&c->film);
    pthread_rwlock_destroy(&c->gate);
    free(c);
}

static void
test_beside_threads(void **state)
{
    (void)state;
    beside_threads(&film_triple);
    beside_threads(&film_ec);
}

/* ---- one above the other ---- */

static void
test_chain(void **state)
{
    enum { COUNT = 10 };
    uint8_t *frozen = malloc((size_t)COUNT * BYTES);
    char name[16];
    struct film f;

    (void)state;
    assert_non_null(frozen);
    film_begin(&f, &film_ec, 1, false);
    for (unsigned i = 0; i < COUNT; i++) {
        film_put(&f, i * 5 * f.block + 17, 3 * f.block);
        film_trim(&f, (40 + i) * f.block, 2 * f.block);
        film_put(&f, 6 * CHUNK + (i % 3) * f.block, f.block);
        snprintf(name, sizeof name, "v1@s%u", i);
        film_snapshot(&f, name);
        film_check(&f);
        memcpy(frozen + (size_t)i * BYTES, f.frozen, BYTES);
    }
    film_check_extents(&f);
    film_trim(&f, 0, CHUNK);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "v1@s%u", i);
        film_check_named(&f, name, frozen + (size_t)i * BYTES);
    }
    film_check(&f);
    free(frozen);
    film_end(&f);
}

/* With the volume itself there are as many as are allowed. */
static void
test_depth(void **state)
{
    enum { DEPTH = 64 };
    struct film f;
    char name[16];

    (void)state;
    film_begin(&f, &film_one, 1, false);
    for (unsigned i = 1; i < DEPTH; i++) {
        film_put(&f, i * f.block, f.block);
        snprintf(name, sizeof name, "v1@s%u", i);
        film_snapshot(&f, name);
    }
    assert_int_equal(lsvd_snapshot_begin(f.world.volume, &f.world.env,
                                         "v1@more", &f.next), -ELOOP);
    film_put(&f, 0, f.block);
    film_check(&f);
    world_close(&f.world);
    film_check_named(&f, "v1@s63", f.frozen);
    film_check_unknown(&f, "v1@more");
    film_end(&f);
}

/* Before that moment destage is to hold still, and the journal may run full. */
static void
test_who_needs_room_gets_it(void **state)
{
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    MUST(lsvd_start(f.world.volume));
    MUST(destage_hold(f.world.volume));
    for (unsigned i = 0; i < 4; i++) {
        for (uint64_t at = 0; at < BYTES; at += CHUNK / 2)
            film_put(&f, at, CHUNK / 2);
    }
    film_check(&f);
    destage_go_on(f.world.volume);
    film_end(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_go_on),
        cmocka_unit_test(test_killed_after_the_moment),
        cmocka_unit_test(test_killed_before_the_moment),
        cmocka_unit_test(test_beside_threads),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_who_needs_room_gets_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
