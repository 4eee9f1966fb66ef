/* The scrub: its pace, its file, what it heals and tells. Time is moved by hand
 * and nothing is waited for. */
#include "faulty-io.h"
#include "unit.h"
#include "volume/scrub.h"
#include "world.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096, CHUNK = 256 << 10, CHUNKS = 8, BYTES = CHUNKS * CHUNK };

#define SECOND UINT64_C(1000000000)

/* A pass takes an hour, so no real time that a test takes matters. */
static const char *const an_hour[] = {"scrub=1h", "scrub-rate=0", NULL};
static const char *const bounded[] = {"scrub=1h", "scrub-rate=4k", NULL};
static const char *const off[] = {"scrub=0", NULL};

static const struct kind three = {.replicas = 3, .block_bytes = BLOCK,
                                  .chunk_bytes = CHUNK, .size_bytes = BYTES};
static const struct kind wide = {.ec_data = 4, .ec_parity = 2,
                                 .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                                 .size_bytes = BYTES};

/* ---- pace ---- */

static void
test_pace_is_even(void **state)
{
    const uint64_t week = 7 * 86400 * SECOND;
    uint64_t before = 0;

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t due = scrub_due_in_pass_ns(week, i, 1000);

        assert_in_range(due - before, week / 1000 - SECOND,
                        week / 1000 + SECOND);
        before = due;
    }
    assert_int_equal(before, week);
    assert_int_equal(scrub_due_in_pass_ns(week, 1000, 1000), week);
    assert_int_equal(scrub_due_in_pass_ns(week, 5, 3), week);
    assert_int_equal(scrub_due_in_pass_ns(week, 0, 0), week);
    assert_int_equal(scrub_due_in_pass_ns(week, 0, UINT64_MAX), 0);
    assert_int_equal(scrub_due_in_pass_ns(UINT32_MAX * SECOND, 0, 1),
                     UINT32_MAX * SECOND);
}

static void
test_rate(void **state)
{
    (void)state;
    assert_int_equal(scrub_rate_ns(1 << 20, 0), 0);
    assert_int_equal(scrub_rate_ns(0, 1 << 20), 0);
    assert_int_equal(scrub_rate_ns(1 << 20, 1 << 20), SECOND);
    assert_int_equal(scrub_rate_ns(UINT64_C(1) << 40, UINT64_C(1) << 30),
                     1024 * SECOND);
}

/* ---- the file ---- */

static void
test_file_decodes_or_is_refused(void **state)
{
    const struct scrub_mark mark = {.next = 5, .chunks = 4, .bytes = 99,
                                    .served_ns = 12 * SECOND, .began = 1000,
                                    .last_end = 900, .passes = 7, .healed = 3,
                                    .unhealed = 2, .lost_bytes = 4096};
    const struct uuid volume = {{1, 2, 3}}, other = {{1, 2, 4}};
    uint8_t bytes[SCRUB_FILE_BYTES];
    struct scrub_mark found;

    (void)state;
    scrub_encode(&mark, &volume, bytes);
    assert_int_equal(scrub_decode(bytes, sizeof bytes, &volume, &found), 0);
    assert_memory_equal(&found, &mark, sizeof mark);
    assert_int_equal(scrub_decode(bytes, sizeof bytes, &other, &found),
                     -EBADMSG);
    assert_int_equal(scrub_decode(bytes, sizeof bytes - 1, &volume, &found),
                     -EBADMSG);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 0x10;
        assert_int_equal(scrub_decode(bytes, sizeof bytes, &volume, &found),
                         -EBADMSG);
        bytes[i] ^= 0x10;
    }
}

/* ---- a volume ---- */

struct rig {
    struct world world;
    struct faulty_io io;
    uint8_t model[BYTES];
};

static struct rig *
rig_new(const struct kind *kind, const char *const *settings)
{
    struct rig *rig = calloc(1, sizeof *rig);
    uint64_t random = 3;

    assert_non_null(rig);
    faulty_io_init(&rig->io);
    world_init(&rig->world, kind);
    rig->world.env.io = &rig->io.io;
    rig->world.env.settings = settings;
    world_open(&rig->world);
    random_fill(&random, rig->model, BYTES);
    MUST(lsvd_pwrite(rig->world.volume, rig->model, BYTES, 0, 0));
    world_drain(&rig->world);
    return rig;
}

static void
rig_free(struct rig *rig)
{
    world_done(&rig->world);
    free(rig);
}

static struct lsvd_volume *
volume_of(struct rig *rig)
{
    return rig->world.volume;
}

static void
pass_seconds(struct rig *rig, uint64_t seconds)
{
    rig->io.ahead_ns += seconds * SECOND;
}

static unsigned
steps(struct rig *rig)
{
    unsigned count = 0;

    while (MUST(lsvd_scrub_step(volume_of(rig))) > 0)
        count++;
    return count;
}

struct told {
    const char *kind, *text;
    unsigned count;
};

static int
count_told(void *ctx, const struct lsvd_event *event)
{
    struct told *told = ctx;

    told->count += strcmp(event->kind, told->kind) == 0 &&
                   strstr(event->text, told->text);
    return 0;
}

static unsigned
events(struct rig *rig, const char *kind, const char *text)
{
    struct told told = {kind, text, 0};

    MUST(lsvd_events(volume_of(rig), 0, count_told, &told));
    return told.count;
}

/* text: 600 bytes. */
static void
mark_path(struct rig *rig, char *text)
{
    (void)snprintf(text, 600, "%s/%.36s.scrub", rig->world.cache,
                   world_status(&rig->world)->uuid);
}

static bool
has_file(struct rig *rig)
{
    char path[600];

    mark_path(rig, path);
    return access(path, F_OK) == 0;
}

static void
test_pass_is_spread(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);

    (void)state;
    assert_int_equal(steps(rig), 0); /* loads; the first is not due yet */
    assert_true(world_status(&rig->world)->scrub.active);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_total, CHUNKS);
    for (unsigned i = 1; i <= CHUNKS; i++) {
        assert_int_equal(steps(rig), 0);
        pass_seconds(rig, 3600 / CHUNKS);
        /* the last one, then the end of the pass */
        assert_int_equal(steps(rig), i == CHUNKS ? 2 : 1);
        if (i < CHUNKS) {
            assert_int_equal(world_status(&rig->world)->scrub.chunks_done, i);
            assert_int_equal(world_status(&rig->world)->scrub_passes, 0);
        }
    }
    assert_int_equal(world_status(&rig->world)->scrub_passes, 1);
    assert_true(world_status(&rig->world)->scrub_last_end > 0);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_done, 0);
    assert_int_equal(events(rig, "scrub", "begins"), 1);
    assert_int_equal(events(rig, "scrub", "has ended"), 1);
    rig_free(rig);
}

/* Far behind, it catches up, but at the rate: 768 KiB at 4 KiB a second. */
static void
test_rate_bounds_what_is_behind(void **state)
{
    struct rig *rig = rig_new(&three, bounded);

    (void)state;
    assert_int_equal(steps(rig), 0);
    pass_seconds(rig, 86400);
    assert_int_equal(steps(rig), 1);
    pass_seconds(rig, 190);
    assert_int_equal(steps(rig), 0);
    pass_seconds(rig, 60); /* files are longer than what they hold */
    assert_int_equal(steps(rig), 1);
    rig_free(rig);
}

static void
test_off_is_off(void **state)
{
    struct rig *rig = rig_new(&three, off);

    (void)state;
    world_flip(&rig->world, "a/1", -100);
    pass_seconds(rig, 86400 * 365);
    assert_int_equal(steps(rig), 0);
    assert_false(world_status(&rig->world)->scrub.active);
    assert_int_equal(world_status(&rig->world)->counters.bad_blocks, 0);
    assert_false(has_file(rig));
    rig_free(rig);
}

/* Nor is there one for who does not ask: no file, no step. */
static void
test_destage_steps_do_not_scrub(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);

    (void)state;
    pass_seconds(rig, 86400 * 365);
    world_drain(&rig->world);
    assert_false(world_status(&rig->world)->scrub.active);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_done, 0);
    world_close(&rig->world);
    world_open(&rig->world);
    assert_false(has_file(rig));
    rig_free(rig);
}

/* Cells, a header, a file that is gone; one chunk has two bad files. */
static void
heals(const struct kind *kind)
{
    struct rig *rig = rig_new(kind, an_hour);
    char path[512];

    world_flip(&rig->world, "a/1", -100);
    world_flip(&rig->world, "b/2", -5000);
    world_flip(&rig->world, "c/2", -100);
    world_flip(&rig->world, "c/7", -100);
    world_path(&rig->world, "b/4", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(steps(rig), 0);
    pass_seconds(rig, 3600);
    assert_int_equal(steps(rig), CHUNKS + 1);
    assert_int_equal(world_status(&rig->world)->scrub_passes, 1);
    assert_int_equal(events(rig, "scrub", " 5 files healed, 0 that"), 1);
    assert_int_equal(events(rig, "lost", ""), 0);
    assert_in_range(world_status(&rig->world)->counters.bad_blocks, 5, 10);
    assert_true(world_status(&rig->world)->counters.healed_blocks >= 5);
    pass_seconds(rig, 3600);
    assert_int_equal(steps(rig), CHUNKS + 1);
    assert_int_equal(events(rig, "scrub", " 0 files healed, 0 that"), 1);
    world_close(&rig->world);
    world_check_sound(&rig->world);
    rig_free(rig);
}

static void
test_heals(void **state)
{
    (void)state;
    heals(&three);
    heals(&wide);
}

/* The same block is wrong everywhere: told once in a pass, and nothing else is
 * hurt. */
static void
test_lost_is_told(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);
    uint8_t block[BLOCK];
    char text[64];

    (void)state;
    world_flip(&rig->world, "a/3", -100);
    world_flip(&rig->world, "b/3", -100);
    world_flip(&rig->world, "c/3", -100);
    assert_int_equal(steps(rig), 0);
    (void)snprintf(text, sizeof text, "%d bytes at %d ", BLOCK,
                   3 * CHUNK - BLOCK);
    for (unsigned pass = 1; pass <= 2; pass++) {
        pass_seconds(rig, 3600);
        assert_int_equal(steps(rig), CHUNKS + 1);
        assert_int_equal(events(rig, "lost", text), pass);
        assert_int_equal(events(rig, "lost", ""), pass);
        assert_int_equal(events(rig, "scrub", "4096 bytes lost"), pass);
    }
    /* written anew it is well again */
    memset(block, 7, sizeof block);
    MUST(lsvd_pwrite(volume_of(rig), block, BLOCK, 3 * CHUNK - BLOCK, 0));
    world_drain(&rig->world);
    pass_seconds(rig, 3600);
    assert_int_equal(steps(rig), CHUNKS + 1);
    assert_int_equal(events(rig, "scrub", " 0 bytes lost"), 1);
    rig_free(rig);
}

/* What the journal has newer is left to it. */
static void
test_blocks_in_the_journal_are_left_alone(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);

    (void)state;
    for (char part = 'a'; part <= 'c'; part++) {
        const char name[] = {part, '/', '8', 0};

        world_flip(&rig->world, name, -100);
    }
    MUST(lsvd_pwrite(volume_of(rig), rig->model, BLOCK, BYTES - BLOCK, 0));
    assert_int_equal(steps(rig), 0);
    pass_seconds(rig, 3600);
    assert_int_equal(steps(rig), CHUNKS + 1);
    assert_int_equal(events(rig, "lost", ""), 0);
    assert_int_equal(events(rig, "scrub", " 0 files healed, 0 that"), 1);
    rig_free(rig);
}

/* After a restart it goes on where it was, with what it had found. */
static void
test_goes_on_after_a_restart(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);

    (void)state;
    world_flip(&rig->world, "a/2", -100);
    assert_int_equal(steps(rig), 0);
    pass_seconds(rig, 3 * 3600 / CHUNKS + 1);
    assert_int_equal(steps(rig), 3);
    world_close(&rig->world);
    pass_seconds(rig, 86400); /* nobody serves it */
    world_open(&rig->world);
    assert_true(has_file(rig));
    assert_int_equal(steps(rig), 0);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_done, 3);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_total, CHUNKS);
    assert_int_equal(world_status(&rig->world)->scrub.copied, 1);
    pass_seconds(rig, 5 * 3600 / CHUNKS);
    assert_int_equal(steps(rig), CHUNKS - 3 + 1);
    assert_int_equal(events(rig, "scrub", "goes on, after 3 of 8"), 1);
    assert_int_equal(events(rig, "scrub", "8 chunks checked, 1 files"), 1);
    world_close(&rig->world);
    world_open(&rig->world);
    assert_int_equal(steps(rig), 0);
    assert_int_equal(world_status(&rig->world)->scrub_passes, 1);
    assert_true(world_status(&rig->world)->scrub_last_end > 0);
    rig_free(rig);
}

/* Killed, it has what was stored a minute ago at most. */
static void
test_is_stored_while_it_runs(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);

    (void)state;
    assert_int_equal(steps(rig), 0);
    pass_seconds(rig, 3600 / CHUNKS + 1);
    assert_int_equal(steps(rig), 1);
    lsvd_abandon(rig->world.volume);
    rig->world.volume = NULL;
    world_open(&rig->world);
    assert_int_equal(steps(rig), 0);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_done, 1);
    rig_free(rig);
}

static void
test_damaged_file_begins_anew(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);
    char path[600];

    (void)state;
    assert_int_equal(steps(rig), 0);
    pass_seconds(rig, 1800);
    assert_int_equal(steps(rig), CHUNKS / 2);
    mark_path(rig, path);
    world_close(&rig->world);
    assert_int_equal(truncate(path, 60), 0);
    world_open(&rig->world);
    assert_int_equal(steps(rig), 0);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_done, 0);
    assert_int_equal(world_status(&rig->world)->scrub.chunks_total, CHUNKS);
    rig_free(rig);
}

/* A cache directory that takes nothing: it scrubs all the same. */
static void
test_file_can_not_be_written(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);

    (void)state;
    assert_int_equal(steps(rig), 0);
    rig->io.refuse_cache[0] = REFUSE_WRITES;
    pass_seconds(rig, 3600);
    assert_int_equal(steps(rig), CHUNKS + 1);
    assert_int_equal(world_status(&rig->world)->scrub_passes, 1);
    rig->io.refuse_cache[0] = 0;
    world_close(&rig->world);
    world_check_sound(&rig->world);
    rig_free(rig);
}

/* Removing the volume removes it, too. */
static void
test_is_removed(void **state)
{
    struct rig *rig = rig_new(&three, an_hour);
    char path[600];

    (void)state;
    assert_int_equal(steps(rig), 0);
    mark_path(rig, path);
    world_close(&rig->world);
    assert_int_equal(access(path, F_OK), 0);
    MUST(lsvd_remove(&rig->world.env, NAME));
    assert_int_equal(access(path, F_OK), -1);
    rig_free(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pace_is_even),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_file_decodes_or_is_refused),
        cmocka_unit_test(test_pass_is_spread),
        cmocka_unit_test(test_rate_bounds_what_is_behind),
        cmocka_unit_test(test_off_is_off),
        cmocka_unit_test(test_destage_steps_do_not_scrub),
        cmocka_unit_test(test_heals),
        cmocka_unit_test(test_lost_is_told),
        cmocka_unit_test(test_blocks_in_the_journal_are_left_alone),
        cmocka_unit_test(test_goes_on_after_a_restart),
        cmocka_unit_test(test_is_stored_while_it_runs),
        cmocka_unit_test(test_damaged_file_begins_anew),
        cmocka_unit_test(test_file_can_not_be_written),
        cmocka_unit_test(test_is_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
