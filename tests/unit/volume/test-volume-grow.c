/* A volume grows while it is open: what it held stays, what was added reads as
 * zeroes and can be written, and a later start finds all of it, whatever was
 * away meanwhile and whenever the server was killed. */
#include "unit.h"
#include "hold.h"
#include "rig.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct lsvd_volume *
volume_of(struct rig *rig)
{
    return rig->world.volume;
}

/* ---- against a model ---- */

struct grown {
    struct world world;
    uint64_t size, room; /* of model and found */
    uint8_t *model, *found;
    uint64_t random;
};

static void
begin(struct grown *g, const struct kind *kind)
{
    *g = (struct grown){.size = kind->size_bytes, .room = 4u << 20,
                        .random = 5};
    g->model = calloc(1, g->room);
    g->found = malloc(g->room);
    assert_non_null(g->model);
    assert_non_null(g->found);
    world_init(&g->world, kind);
    world_open(&g->world);
}

static void
check(struct grown *g)
{
    assert_int_equal(lsvd_get_size(g->world.volume), g->size);
    MUST(lsvd_pread(g->world.volume, g->found, g->size, 0));
    assert_memory_equal(g->found, g->model, g->size);
    assert_int_equal(lsvd_pread(g->world.volume, g->found, 1, g->size),
                     -EINVAL);
}

static void
put(struct grown *g, uint64_t at, size_t count)
{
    random_fill(&g->random, g->model + at, count);
    MUST(lsvd_pwrite(g->world.volume, g->model + at, count, at, 0));
}

static void
zero(struct grown *g, uint64_t at, size_t count)
{
    memset(g->model + at, 0, count);
    MUST(lsvd_zero(g->world.volume, count, at, 0));
}

static void
grow_to(struct grown *g, uint64_t size)
{
    struct lsvd_info info;

    assert_true(size <= g->room);
    MUST(lsvd_live_resize(g->world.volume, size));
    g->size = size;
    check(g);
    MUST(lsvd_info(&g->world.env, NAME, &info)); /* as others see it */
    assert_int_equal(info.size_bytes, size);
}

static void
reopen(struct grown *g, bool killed)
{
    if (killed) {
        lsvd_abandon(g->world.volume);
        g->world.volume = NULL;
    } else {
        world_close(&g->world);
    }
    world_open(&g->world);
    check(g);
}

static void
end(struct grown *g)
{
    world_close(&g->world);
    world_check_sound(&g->world);
    world_done(&g->world);
    free(g->model);
    free(g->found);
}

static const struct kind odd_kinds[] = {
    {.replicas = 1, .block_bytes = 4096, .chunk_bytes = 256 << 10,
     .size_bytes = 700001},
    {.replicas = 3, .block_bytes = 4096, .chunk_bytes = 256 << 10,
     .size_bytes = 700001},
    {.ec_data = 2, .ec_parity = 1, .block_bytes = 512,
     .chunk_bytes = 256 << 10, .size_bytes = 700001},
    {.ec_data = 4, .ec_parity = 2, .block_bytes = 4096,
     .chunk_bytes = 256 << 10, .size_bytes = 256 << 10},
};
#define ODD_KINDS (sizeof odd_kinds / sizeof *odd_kinds)

/* Within the last block, to the end of it, within the last chunk, and on. */
static void
test_step_by_step(void **state)
{
    (void)state;
    for (size_t i = 0; i < ODD_KINDS; i++) {
        struct grown g;

        begin(&g, &odd_kinds[i]);
        put(&g, 0, g.size);
        grow_to(&g, g.size + 77);
        put(&g, g.size - 50, 50);
        grow_to(&g, (g.size + 4095) / 4096 * 4096);
        world_drain(&g.world);
        grow_to(&g, g.size + 30000);
        put(&g, g.size - 40000, 20000);
        reopen(&g, true);
        grow_to(&g, 2500000);
        put(&g, 1000001, 300000);
        put(&g, g.size - 5000, 5000);
        check(&g);
        reopen(&g, true);
        zero(&g, 1100000, g.size - 1100000);
        grow_to(&g, 3000000);
        put(&g, 2500000, 1000);
        reopen(&g, false);
        end(&g);
    }
}

/* The last chunk, which the end cuts short, became zeroes as a whole before;
 * what is written behind the old end is newer. */
static void
test_after_zeroes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ODD_KINDS; i++) {
        for (int how = 0; how < 4; how++) {
            struct grown g;
            uint64_t old;

            begin(&g, &odd_kinds[i]);
            put(&g, 0, g.size);
            world_drain(&g.world);
            zero(&g, 0, g.size);
            old = g.size;
            grow_to(&g, g.size + 100000);
            put(&g, old, 100);
            put(&g, old + 8000, 5000);
            if (how & 1)
                world_drain(&g.world);
            reopen(&g, how & 2);
            zero(&g, old / 4096 * 4096, g.size - old / 4096 * 4096);
            check(&g);
            end(&g);
        }
    }
}

static void
test_refusals(void **state)
{
    struct lsvd_volume *v;
    struct grown g;

    (void)state;
    begin(&g, &odd_kinds[1]);
    put(&g, 0, g.size);
    assert_int_equal(lsvd_live_resize(g.world.volume, g.size - 1), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "stop its server"));
    assert_int_equal(lsvd_live_resize(g.world.volume, UINT64_MAX), -EINVAL);
    assert_non_null(strstr(lsvd_error(), "at most"));
    MUST(lsvd_live_resize(g.world.volume, g.size));
    check(&g);
    reopen(&g, false);
    world_close(&g.world);
    MUST(lsvd_open(&g.world.env, NAME, LSVD_OPEN_READ_ONLY, &v));
    assert_int_equal(lsvd_live_resize(v, g.size + 1), -EROFS);
    MUST(lsvd_close(v));
    world_open(&g.world);
    end(&g);
}

/* ---- beside requests ---- */

struct zeroing {
    struct lsvd_volume *v;
    uint64_t offset, count;
    int result;
};

static void *
zero_it(void *arg)
{
    struct zeroing *z = arg;

    z->result = lsvd_zero(z->v, z->count, z->offset, 0);
    return NULL;
}

/* A request to the end was accepted; before it comes to the last block the
 * volume grows, and somebody writes behind that end, within the block. */
static void
test_zeroes_end_where_they_were_asked_to(void **state)
{
    (void)state;
    for (size_t i = 0; i < ODD_KINDS; i++) {
        uint64_t size = 700001, from = size - 20000;
        struct kind kind = odd_kinds[i];
        struct zeroing z;
        struct grown g;
        struct hold *hold;
        pthread_t thread;

        kind.size_bytes = size;
        begin(&g, &kind);
        put(&g, 0, g.size);
        z = (struct zeroing){g.world.volume, from, 20000, 0};
        /* its first block, which it does not take in whole */
        hold = hold_block(z.v, from / kind.block_bytes);
        assert_int_equal(pthread_create(&thread, NULL, zero_it, &z), 0);
        assert_true(hold_wait(hold));
        MUST(lsvd_live_resize(z.v, size + 10));
        g.size = size + 10;
        put(&g, size, 10);
        hold_release(hold);
        pthread_join(thread, NULL);
        assert_int_equal(z.result, 0);
        memset(g.model + from, 0, 20000);
        check(&g);
        reopen(&g, true);
        end(&g);
    }
}

enum { WRITERS = 4, STEPS = 40, STEP_BYTES = 47 * 1000 + 7, SLICE = 1 << 16 };

struct writer {
    struct grown *g;
    unsigned number;
    uint64_t random;
    atomic_bool *over;
    pthread_t id;
};

/* In a slice of its own within the first size. */
static void *
write_and_read(void *arg)
{
    struct writer *w = arg;
    uint64_t base = (uint64_t)w->number * SLICE;
    uint8_t found[SLICE];

    while (!atomic_load(w->over)) {
        uint64_t at = base + random_below(&w->random, SLICE - 9000);
        size_t count = 1 + random_below(&w->random, 9000);
        uint8_t *model = w->g->model + at;

        if (random_below(&w->random, 5) == 0) {
            memset(model, 0, count);
            MUST(lsvd_trim(w->g->world.volume, count, at, 0));
        } else {
            random_fill(&w->random, model, count);
            MUST(lsvd_pwrite(w->g->world.volume, model, count, at, 0));
        }
        MUST(lsvd_pread(w->g->world.volume, found, SLICE, base));
        if (memcmp(found, w->g->model + base, SLICE) != 0) {
            fprintf(stderr, "writer %u: wrong bytes\n", w->number);
            abort();
        }
    }
    return NULL;
}

/* Somebody who looks at all there is. */
static void *
look_around(void *arg)
{
    struct writer *w = arg;
    struct lsvd_status *status = malloc(sizeof *status);
    uint8_t *bytes = malloc(w->g->room);

    assert_non_null(status);
    assert_non_null(bytes);
    while (!atomic_load(w->over)) {
        uint64_t size = lsvd_get_size(w->g->world.volume);

        MUST(lsvd_pread(w->g->world.volume, bytes, 5000, size - 5000));
        lsvd_get_status(w->g->world.volume, status);
        if (status->size_bytes < size)
            abort();
    }
    free(status);
    free(bytes);
    return NULL;
}

static void
grow_under_load(const struct kind *kind)
{
    struct writer writers[WRITERS + 1];
    atomic_bool over = false;
    struct grown g;

    begin(&g, kind);
    MUST(lsvd_start(g.world.volume));
    for (unsigned i = 0; i <= WRITERS; i++) {
        writers[i] = (struct writer){.g = &g, .number = i, .over = &over,
                                     .random = 70 + i};
        assert_int_equal(pthread_create(&writers[i].id, NULL,
                                        i < WRITERS ? write_and_read
                                                    : look_around,
                                        &writers[i]), 0);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t old = g.size;

        MUST(lsvd_live_resize(g.world.volume, old + STEP_BYTES));
        g.size = old + STEP_BYTES;
        put(&g, old, 100); /* at once */
        put(&g, g.size - 3000, 3000);
        if (i % 3 == 0)
            zero(&g, old - 500, g.size - old + 500);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i <= WRITERS; i++)
        pthread_join(writers[i].id, NULL);
    check(&g);
    reopen(&g, true);
    end(&g);
}

static void
test_under_load(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        grow_under_load(&odd_kinds[i]);
}

/* ---- parts that are away, or fail ---- */

static struct rig *
filled(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);

    rig_open_filled(rig);
    return rig;
}

/* One block behind the old end, of a letter of its own. */
static void
write_behind(struct rig *rig, uint64_t at, char letter)
{
    uint8_t bytes[BLOCK];

    memset(bytes, letter, sizeof bytes);
    MUST(lsvd_pwrite(volume_of(rig), bytes, BLOCK, at, 0));
}

static void
check_behind(struct rig *rig, uint64_t at, char letter)
{
    uint8_t bytes[BLOCK];

    MUST(lsvd_pread(volume_of(rig), bytes, BLOCK, at));
    for (size_t i = 0; i < BLOCK; i++)
        assert_int_equal(bytes[i], letter);
}

static void
finish(struct rig *rig)
{
    rig_check(rig);
    rig_end(rig);
}

/* The part knows it by itself, with no other to tell. The volume is killed, and
 * all its parts are there. */
static void
check_policy_of(struct rig *rig, char part, uint64_t size)
{
    struct lsvd_info info;
    char path[512];

    world_path(&rig->world, ".meta", path);
    assert_int_equal(unlink(path), 0);
    for (char other = 'a'; other < 'd'; other++) {
        if (other != part)
            rig_take_away(rig, other);
    }
    MUST(lsvd_info(&rig->world.env, NAME, &info));
    assert_int_equal(info.size_bytes, size);
    for (char other = 'a'; other < 'd'; other++) {
        if (other != part)
            rig_put_back(rig, other);
    }
}

/* It comes back with the old size, and has the new one. */
static void
test_part_away(void **state)
{
    static const struct kind *const kinds[] = {&rig_triple, &rig_wide};

    (void)state;
    for (int how = 0; how < 8; how++) {
        struct rig *rig = filled(kinds[how & 1]);

        rig_take_away(rig, 'b');
        rig_until(rig, rig_has_dropped, 1);
        MUST(lsvd_live_resize(volume_of(rig), 3 * BYTES));
        write_behind(rig, 2 * BYTES, 'x');
        rig_touch(rig, 0, 2);
        if (how & 2) { /* back while it serves, or at a start */
            rig_kill(rig);
            if (how & 4)
                rig_put_back(rig, 'b');
            rig_open(rig, false);
            assert_int_equal(lsvd_get_size(volume_of(rig)), 3 * BYTES);
        }
        if (!(how & 2) || !(how & 4))
            rig_put_back(rig, 'b');
        rig_until(rig, rig_is_healthy, 0);
        check_behind(rig, 2 * BYTES, 'x');
        check_behind(rig, 2 * BYTES + BLOCK, 0);
        rig_kill(rig);
        if (!(how & 1))
            check_policy_of(rig, 'b', 3 * BYTES);
        /* the one that was away is needed */
        rig_take_away(rig, 'c');
        rig_open(rig, false);
        assert_int_equal(lsvd_get_size(volume_of(rig)), 3 * BYTES);
        check_behind(rig, 2 * BYTES, 'x');
        rig_put_back(rig, 'c');
        rig_until(rig, rig_is_healthy, 0);
        finish(rig);
    }
}

/* Its table was read before the volume grew, and is used after. */
static void
test_part_on_its_way_back(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        struct rig *rig = filled(&rig_triple);

        rig_take_away(rig, 'b');
        rig_until(rig, rig_has_dropped, 1);
        rig_touch(rig, 0, CHUNKS);
        world_drain(&rig->world);
        rig_put_back(rig, 'b');
        lsvd_watch(volume_of(rig));
        if (how == 1) { /* it is being filled by now */
            assert_true(lsvd_destage_step(volume_of(rig)) > 0);
            assert_int_equal(rig_status(rig)->part[1].state,
                             LSVD_PART_SYNCING);
        }
        MUST(lsvd_live_resize(volume_of(rig), 300 * (uint64_t)CHUNK));
        write_behind(rig, 299 * (uint64_t)CHUNK, 'y');
        rig_until(rig, rig_is_healthy, 0);
        check_behind(rig, 299 * (uint64_t)CHUNK, 'y');
        finish(rig);
    }
}

/* A member that does not answer, and without which there are too few. */
static void
test_part_that_is_needed(void **state)
{
    struct rig *rig = filled(&rig_triple);

    (void)state;
    rig_take_away(rig, 'b');
    rig_until(rig, rig_has_dropped, 1);
    rig_take_away(rig, 'c');
    rig_until(rig, rig_is_in_health, LSVD_STALLED);
    assert_int_equal(lsvd_live_resize(volume_of(rig), 2 * BYTES), -EIO);
    assert_int_equal(lsvd_get_size(volume_of(rig)), BYTES);
    rig_put_back(rig, 'c');
    rig_put_back(rig, 'b');
    rig_until(rig, rig_is_healthy, 0);
    MUST(lsvd_live_resize(volume_of(rig), 2 * BYTES));
    finish(rig);
}

/* It does not take the new policy: the others are not left with it. */
static void
test_part_that_refuses(void **state)
{
    struct rig *rig = filled(&rig_triple);

    (void)state;
    atomic_store(&rig->io.refuse[1], REFUSE_WRITES);
    assert_int_equal(lsvd_live_resize(volume_of(rig), 2 * BYTES), -EIO);
    assert_non_null(strstr(lsvd_error(), NAME));
    assert_int_equal(lsvd_get_size(volume_of(rig)), BYTES);
    rig_check(rig);
    rig_kill(rig);
    atomic_store(&rig->io.refuse[1], 0);
    rig_open(rig, false);
    assert_int_equal(lsvd_get_size(volume_of(rig)), BYTES);
    MUST(lsvd_live_resize(volume_of(rig), 2 * BYTES));
    write_behind(rig, BYTES, 'z');
    rig_kill(rig);
    rig_open(rig, false);
    assert_int_equal(lsvd_get_size(volume_of(rig)), 2 * BYTES);
    check_behind(rig, BYTES, 'z');
    finish(rig);
}

/* Killed when part a alone had the new policy. While a is away the volume
 * grows to another size; then a is back. */
static void
test_a_policy_out_of_sight(void **state)
{
    static const char *const copies[] = {".meta", "b/.meta", "c/.meta"};
    struct rig *rig = filled(&rig_triple);
    char old[512], path[512];

    (void)state;
    world_path(&rig->world, "old", old);
    world_path(&rig->world, ".meta", path);
    rig_copy(rig, path, old);
    MUST(lsvd_live_resize(volume_of(rig), 2 * BYTES));
    rig_kill(rig);
    for (size_t i = 0; i < 3; i++) {
        world_path(&rig->world, copies[i], path);
        rig_copy(rig, old, path);
    }
    rig_take_away(rig, 'a');
    rig_open(rig, false);
    assert_int_equal(lsvd_get_size(volume_of(rig)), BYTES);
    MUST(lsvd_live_resize(volume_of(rig), 3 * BYTES));
    write_behind(rig, 2 * BYTES + BLOCK, 'q');
    rig_kill(rig);
    rig_put_back(rig, 'a');
    world_path(&rig->world, ".meta", path);
    assert_int_equal(unlink(path), 0); /* it would be seen before a's */
    rig_open(rig, false);
    assert_int_equal(lsvd_get_size(volume_of(rig)), 3 * BYTES);
    check_behind(rig, 2 * BYTES + BLOCK, 'q');
    rig_until(rig, rig_is_healthy, 0);
    finish(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_by_step),
        cmocka_unit_test(test_after_zeroes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_zeroes_end_where_they_were_asked_to),
        cmocka_unit_test(test_under_load),
        cmocka_unit_test(test_part_away),
        cmocka_unit_test(test_part_on_its_way_back),
        cmocka_unit_test(test_part_that_is_needed),
        cmocka_unit_test(test_part_that_refuses),
        cmocka_unit_test(test_a_policy_out_of_sight),
    };

    return cmocka_run_group_tests_name("volume-grow", tests, NULL, NULL);
}
