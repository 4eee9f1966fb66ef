/* Eight threads on one volume, with a journal so small that it wraps and is
 * destaged all the time, and nearly no RAM.
 *
 * The volume is dealt out in pieces of an odd size, so that every block and
 * many sectors belong to several threads: what a thread wrote into its pieces
 * must be there, whatever the others do around it. One stretch belongs to all:
 * there each sector must be one that somebody wrote whole. */
#include "unit.h"
#include "faulty-io.h"
#include "world.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 8, PIECE = 1900, SECTOR = 512, SHARED = 64 * 1024 };

struct crowd {
    struct world world;
    uint8_t *model;  /* each byte touched by its owner only */
    unsigned steps;  /* of each thread */
    bool trims;
};

struct thread {
    struct crowd *crowd;
    unsigned number;
    uint64_t random;
    uint8_t bytes[4 * PIECE];
    pthread_t id;
};

/* A random range within one of the thread's pieces. */
static void
pick(struct thread *t, uint64_t *ret_at, size_t *ret_count)
{
    uint64_t bytes = t->crowd->world.kind.size_bytes - SHARED;
    uint64_t pieces = bytes / PIECE / THREADS;
    uint64_t piece = random_below(&t->random, pieces) * THREADS + t->number;
    size_t from = 0, end = PIECE;

    if (random_below(&t->random, 4) > 0) {
        from = random_below(&t->random, PIECE);
        end = from + 1 + random_below(&t->random, PIECE - from);
    }
    *ret_at = SHARED + piece * PIECE + from;
    *ret_count = end - from;
}

static void
step_own(struct thread *t)
{
    struct lsvd_volume *v = t->crowd->world.volume;
    uint64_t what = random_below(&t->random, 100), at;
    uint8_t *model;
    size_t count;

    pick(t, &at, &count);
    model = t->crowd->model + at;
    if (what < 60) {
        random_fill(&t->random, t->bytes, count);
        MUST(lsvd_pwrite(v, t->bytes, count, at, what < 3 ? LSVD_FUA : 0));
        memcpy(model, t->bytes, count);
    } else if (what < 70 && t->crowd->trims) {
        MUST(what < 65 ? lsvd_zero(v, count, at, 0)
                       : lsvd_trim(v, count, at, 0));
        memset(model, 0, count);
    } else if (what < 98) {
        MUST(lsvd_pread(v, t->bytes, count, at));
        if (memcmp(t->bytes, model, count) != 0) {
            fprintf(stderr, "thread %u: wrong bytes at %" PRIu64 "+%zu\n",
                    t->number, at, count);
            abort();
        }
    } else {
        MUST(lsvd_flush(v));
    }
}

/* Sectors of the shared stretch hold one word, repeated. */
static void
check_sector(const uint8_t *sector)
{
    for (size_t i = 8; i < SECTOR; i += 8) {
        if (memcmp(sector, sector + i, 8) == 0)
            continue;
        fprintf(stderr, "a sector is a mix of two writes\n");
        abort();
    }
}

static void
step_shared(struct thread *t)
{
    struct lsvd_volume *v = t->crowd->world.volume;
    uint64_t first = random_below(&t->random, SHARED / SECTOR - 8);
    size_t sectors = 1 + random_below(&t->random, 8);

    if (random_below(&t->random, 2)) {
        for (size_t i = 0; i < sectors; i++) {
            uint64_t word = random_next(&t->random);

            for (size_t at = 0; at < SECTOR; at += 8)
                memcpy(t->bytes + i * SECTOR + at, &word, 8);
        }
        MUST(lsvd_pwrite(v, t->bytes, sectors * SECTOR, first * SECTOR, 0));
        return;
    }
    MUST(lsvd_pread(v, t->bytes, sectors * SECTOR, first * SECTOR));
    for (size_t i = 0; i < sectors; i++)
        check_sector(t->bytes + i * SECTOR);
}

static void *
run(void *arg)
{
    struct thread *t = arg;

    for (unsigned i = 0; i < t->crowd->steps; i++) {
        if (random_below(&t->random, 6) == 0)
            step_shared(t);
        else
            step_own(t);
    }
    return NULL;
}

static void
check_all(struct crowd *c)
{
    size_t bytes = c->world.kind.size_bytes;
    uint8_t *found = malloc(bytes);

    assert_non_null(found);
    MUST(lsvd_pread(c->world.volume, found, bytes, 0));
    assert_memory_equal(found + SHARED, c->model + SHARED, bytes - SHARED);
    for (size_t i = 0; i < SHARED; i += SECTOR)
        check_sector(found + i);
    free(found);
}

static void
run_crowd(struct crowd *c, uint64_t seed)
{
    struct thread *threads = calloc(THREADS, sizeof *threads);

    assert_non_null(threads);
    MUST(lsvd_start(c->world.volume));
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i].crowd = c;
        threads[i].number = i;
        threads[i].random = seed * 100 + i;
        assert_int_equal(pthread_create(&threads[i].id, NULL, run,
                                        &threads[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i].id, NULL);
    free(threads);
}

static void
live(const struct kind *kind, unsigned steps, bool trims)
{
    struct crowd c = {.steps = steps, .trims = trims};
    const char *more = getenv("LSVD_TEST_STEPS");

    if (more)
        c.steps *= (unsigned)atoi(more);
    c.model = calloc(1, kind->size_bytes);
    assert_non_null(c.model);
    world_init(&c.world, kind);
    for (uint64_t round = 0; round < 3; round++) {
        world_open(&c.world);
        check_all(&c);
        run_crowd(&c, 10 + round);
        check_all(&c);
        if (round == 1) { /* as kill -9 leaves it */
            lsvd_abandon(c.world.volume);
            c.world.volume = NULL;
        } else {
            world_close(&c.world);
        }
    }
    world_check_sound(&c.world);
    world_open(&c.world);
    check_all(&c);
    world_close(&c.world);
    world_done(&c.world);
    free(c.model);
}

static void
test_replicas(void **state)
{
    struct kind kind = {.replicas = 2, .block_bytes = 4096,
                        .chunk_bytes = 256 << 10, .size_bytes = 3333333};

    (void)state;
    live(&kind, 500, true);
}

static void
test_replicas_512(void **state)
{
    struct kind kind = {.replicas = 2, .block_bytes = 512,
                        .chunk_bytes = 256 << 10, .size_bytes = 1333333};

    (void)state;
    live(&kind, 500, true);
}

static void
test_ec_2_1(void **state)
{
    struct kind kind = {.ec_data = 2, .ec_parity = 1, .block_bytes = 4096,
                        .chunk_bytes = 256 << 10, .size_bytes = 3333333};

    (void)state;
    live(&kind, 400, true);
}

static void
test_ec_2_1_512(void **state)
{
    struct kind kind = {.ec_data = 2, .ec_parity = 1, .block_bytes = 512,
                        .chunk_bytes = 256 << 10, .size_bytes = 1333333};

    (void)state;
    live(&kind, 400, true);
}

static void
test_ec_4_2(void **state)
{
    struct kind kind = {.ec_data = 4, .ec_parity = 2, .block_bytes = 4096,
                        .chunk_bytes = 4 << 20, .size_bytes = 5555555};

    (void)state;
    live(&kind, 250, true);
}

static void
test_ec_4_2_512(void **state)
{
    struct kind kind = {.ec_data = 4, .ec_parity = 2, .block_bytes = 512,
                        .chunk_bytes = 256 << 10, .size_bytes = 1333333};

    (void)state;
    live(&kind, 250, false);
}

/* ---- the same, while parts fail, vanish and return ---- */

struct churn {
    struct crowd crowd;
    struct faulty_io io;
    atomic_bool over;
};

static void *
run_churned(void *arg)
{
    struct churn *churn = arg;

    run_crowd(&churn->crowd, 77);
    atomic_store(&churn->over, true);
    return NULL;
}

static bool
is_as_it_should_be(struct churn *churn, bool healthy)
{
    return world_status(&churn->crowd.world)->healthy == healthy;
}

/* Between two looks, not instead of one. */
static void
wait_until(struct churn *churn, bool healthy)
{
    const struct timespec moment = {.tv_nsec = 5000000};

    for (unsigned i = 0; !is_as_it_should_be(churn, healthy); i++) {
        if (i > 12000)
            fail_msg("not %s within a minute", healthy ? "healthy" : "dropped");
        if (!healthy && atomic_load(&churn->over))
            return; /* nobody writes any more: nobody meets it */
        nanosleep(&moment, NULL);
    }
}

/* One part at a time, so that the rules always allow going on: no request may
 * fail, and nothing may be wrong. */
static void
parts_come_and_go(const struct kind *kind, unsigned steps)
{
    static const unsigned refusals[] = {
        REFUSE_WRITES, REFUSE_SYNCS, REFUSE_WRITES | REFUSE_READS,
        REFUSE_WRITES | REFUSE_SPACE};
    struct churn *churn = calloc(1, sizeof *churn);
    struct crowd *c = &churn->crowd;
    pthread_t id;

    assert_non_null(churn);
    *c = (struct crowd){.steps = steps, .trims = true};
    c->model = calloc(1, kind->size_bytes);
    assert_non_null(c->model);
    faulty_io_init(&churn->io);
    world_init(&c->world, kind);
    c->world.env.io = &churn->io.io;
    world_open(&c->world);
    assert_int_equal(pthread_create(&id, NULL, run_churned, churn), 0);
    for (unsigned round = 0; !atomic_load(&churn->over); round++) {
        atomic_uint *refuse = &churn->io.refuse[round % 3];

        atomic_store(refuse, refusals[round % 4]);
        wait_until(churn, false);
        atomic_store(refuse, 0);
        wait_until(churn, true);
    }
    pthread_join(id, NULL);
    wait_until(churn, true);
    check_all(c);
    world_close(&c->world);
    world_check_sound(&c->world);
    world_done(&c->world);
    free(c->model);
    free(churn);
}

static void
test_parts_come_and_go(void **state)
{
    struct kind triple = {.replicas = 3, .block_bytes = 4096,
                          .chunk_bytes = 256 << 10, .size_bytes = 3333333};
    struct kind wide = {.ec_data = 4, .ec_parity = 2, .block_bytes = 4096,
                        .chunk_bytes = 256 << 10, .size_bytes = 3333333};

    (void)state;
    parts_come_and_go(&triple, 2500);
    parts_come_and_go(&wide, 1500);
}

/* What one chunk waits for does not hold up the next. */
static void
test_chunks_are_written_side_by_side(void **state)
{
    const struct kind kind = {.replicas = 2, .block_bytes = 4096,
                              .chunk_bytes = 256 << 10,
                              .size_bytes = 2 << 20};
    struct faulty_io io;
    struct world w;
    uint8_t block[4096];

    (void)state;
    faulty_io_init(&io);
    world_init(&w, &kind);
    w.env.io = &io.io;
    world_open(&w);
    memset(block, 7, sizeof block);
    for (uint64_t i = 0; i < 6; i++)
        MUST(lsvd_pwrite(w.volume, block, sizeof block,
                         i * kind.chunk_bytes, 0));
    atomic_store(&io.together, 6);
    MUST(lsvd_start(w.volume));
    world_close(&w); /* the thread destages, or the end does */
    assert_int_equal(atomic_load(&io.together), 0);
    assert_false(atomic_load(&io.apart));
    world_done(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas),
        cmocka_unit_test(test_replicas_512),
        cmocka_unit_test(test_ec_2_1),
        cmocka_unit_test(test_ec_2_1_512),
        cmocka_unit_test(test_ec_4_2),
        cmocka_unit_test(test_ec_4_2_512),
        cmocka_unit_test(test_parts_come_and_go),
        cmocka_unit_test(test_chunks_are_written_side_by_side),
    };

    return cmocka_run_group_tests_name("volume-threads", tests, NULL, NULL);
}
