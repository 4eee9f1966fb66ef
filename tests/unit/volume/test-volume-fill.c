/* A part that was away is brought up to date cell by cell (fill.c): what is
 * copied, what is found wrong on the way, and what must not be kept. */
#include "unit.h"
#include "rig.h"
#include "volume/volume.h"
#include "volume/watch.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct kind *const kinds[] = {&rig_mirror, &rig_triple, &rig_ec,
                                           &rig_wide};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Served without part b, which has all that was written so far. */
static struct rig *
without_b(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);

    rig_open_filled(rig);
    rig_take_away(rig, 'b');
    rig_until(rig, rig_has_dropped, 1);
    return rig;
}

static void
fill_b(struct rig *rig)
{
    world_drain(&rig->world);
    rig_put_back(rig, 'b');
    rig_until(rig, rig_is_healthy, 0);
}

/* Of replicas part b has all blocks, with EC every K-th from 1 on. */
static bool
is_in_b(const struct kind *kind, uint64_t block)
{
    return kind->replicas > 0 || block % kind->ec_data == 1;
}

static void
test_cells_not_chunks(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = without_b(kinds[i]);
        uint64_t cells = 0;

        for (uint64_t block = 0; block < 6; block++) {
            MUST(rig_write(rig, 2 * CHUNK + (block * 5 + 1) * BLOCK, BLOCK));
            cells += is_in_b(kinds[i], block * 5 + 1);
        }
        MUST(rig_trim(rig, 3 * CHUNK + 8 * BLOCK, 24 * BLOCK));
        for (uint64_t block = 8; block < 32; block++)
            cells += is_in_b(kinds[i], block);
        fill_b(rig);
        assert_int_equal(rig_status(rig)->resync.copied, 2);
        assert_int_equal(rig_status(rig)->resynced_bytes, cells * BLOCK);
        rig_check(rig);
        if (kinds[i]->replicas > 0)
            rig_check_from(rig, 2);
        rig_end(rig);
    }
}

/* What did not change is looked at all the same. */
static void
test_rot_is_found_on_the_way(void **state)
{
    struct rig *rig = without_b(&rig_triple);

    (void)state;
    MUST(rig_write(rig, 2 * CHUNK, BLOCK));
    world_drain(&rig->world);
    rig_put_back(rig, 'b');
    world_flip(&rig->world, "b/3", -100);
    rig_until(rig, rig_is_healthy, 0);
    assert_int_equal(rig_status(rig)->resynced_bytes, 2 * BLOCK);
    rig_check_from(rig, 2);
    rig_end(rig);
}

/* A destage that was cut may have left bytes where the table says zero. Kept,
 * they would be an error as soon as the table is torn (C4). */
static void
test_nothing_stays_where_zeroes_are(void **state)
{
    static const uint8_t zeroes[BLOCK];

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = without_b(kinds[i]);
        int64_t at = (int64_t)geometry_cell_at(&rig->world.volume->g, 1, 1);
        uint8_t bytes[BLOCK];
        char path[512];
        int file;

        MUST(rig_trim(rig, 2 * CHUNK, 16 * BLOCK));
        fill_b(rig);
        rig_take_away(rig, 'b');
        rig_until(rig, rig_has_dropped, 1);
        MUST(rig_write(rig, 3 * CHUNK - BLOCK, BLOCK));
        world_drain(&rig->world);
        rig_put_back(rig, 'b');
        world_path(&rig->world, "b/3", path);
        file = open(path, O_RDWR);
        assert_true(file >= 0);
        memset(bytes, 'x', BLOCK);
        assert_int_equal(pwrite(file, bytes, BLOCK, at), BLOCK);
        rig_until(rig, rig_is_healthy, 0);
        assert_int_equal(pread(file, bytes, BLOCK, at), BLOCK);
        assert_memory_equal(bytes, zeroes, BLOCK);
        assert_int_equal(close(file), 0);
        rig_end(rig);
    }
}

/* FI3: the last good copy of what was written meanwhile rots before the part is
 * filled. What it still has is old, and is not read in its place. */
static void
test_old_block_does_not_replace_a_lost_one(void **state)
{
    struct rig *rig = without_b(&rig_mirror);
    uint8_t block[BLOCK];

    (void)state;
    MUST(rig_write(rig, 3 * CHUNK - BLOCK, BLOCK));
    world_drain(&rig->world);
    world_flip(&rig->world, "a/3", -100);
    rig_put_back(rig, 'b');
    rig_until(rig, rig_is_healthy, 0);
    rig_close(rig); /* what RAM has is no matter */
    rig_open(rig, false);
    for (unsigned parts = 1; parts <= 3; parts++) {
        rig->io.refuse[0] = parts & 1 ? 0 : REFUSE_READS;
        rig->io.refuse[1] = parts & 2 ? 0 : REFUSE_READS;
        assert_int_equal(lsvd_pread(rig->world.volume, block, BLOCK,
                                    3 * CHUNK - BLOCK), -EIO);
    }
    MUST(rig_write(rig, 3 * CHUNK - BLOCK, BLOCK));
    world_drain(&rig->world);
    rig_check_from(rig, 1);
    rig_check_from(rig, 2);
    rig_end(rig);
}

/* What the last copy's medium refuses for a moment is not lost: the part is not
 * filled with nothing. With and without an old file. */
static void
test_sources_that_refuse_for_a_moment(void **state)
{
    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        struct rig *rig = without_b(&rig_mirror);
        char path[512];

        MUST(rig_write(rig, 2 * CHUNK, BLOCK));
        world_drain(&rig->world);
        rig_close(rig);
        rig_open(rig, false);
        rig_put_back(rig, 'b');
        world_path(&rig->world, "b/3", path);
        if (lost)
            assert_int_equal(unlink(path), 0);
        rig->io.refuse[0] = REFUSE_READS;
        rig_look(rig, 1);
        assert_true(rig_has_said(rig, "can't be read from the other parts"));
        assert_int_not_equal(rig_status(rig)->part[1].state, LSVD_PART_OK);
        rig->io.refuse[0] = 0;
        rig_until(rig, rig_is_healthy, 0);
        rig_check_from(rig, 2);
        rig_end(rig);
    }
}

/* What is refused again and again does not keep the part out for ever. What it
 * did not get is read from the other one when that can be read again. */
static void
test_sources_that_go_on_refusing(void **state)
{
    static const struct kind *const least[] = {&rig_mirror, &rig_ec};

    (void)state;
    for (size_t i = 0; i < sizeof least / sizeof least[0]; i++) {
        struct rig *rig = without_b(least[i]);

        MUST(rig_write(rig, 2 * CHUNK, 2 * BLOCK));
        MUST(rig_write(rig, 4 * CHUNK, 2 * BLOCK));
        world_drain(&rig->world);
        rig_close(rig);
        rig_open(rig, false);
        rig->io.only = "3";
        rig->io.refuse[0] = REFUSE_READS;
        rig_put_back(rig, 'b');
        rig_until(rig, rig_is_healthy, 0);
        assert_true(rig_has_said(rig, "can't be read from the other parts"));
        rig->io.refuse[0] = 0;
        rig_check(rig);
        world_drain(&rig->world); /* heals what was asked for */
        rig_take_away(rig, 'a');
        rig_until(rig, rig_has_dropped, 0);
        rig_check(rig);
        rig_put_back(rig, 'a');
        rig_until(rig, rig_is_healthy, 0);
        rig_end(rig);
    }
}

/* A file that the part lost, or that is damaged, is made anew as a whole. */
static void
test_files_made_anew(void **state)
{
    struct rig *rig = without_b(&rig_triple);
    char path[512];

    (void)state;
    rig_touch(rig, 2, 2);
    world_drain(&rig->world);
    rig_put_back(rig, 'b');
    world_path(&rig->world, "b/3", path);
    assert_int_equal(unlink(path), 0);
    world_flip(&rig->world, "b/4", 17);
    rig_until(rig, rig_is_healthy, 0);
    assert_int_equal(rig_status(rig)->resync.copied, 2);
    assert_in_range(rig_status(rig)->resynced_bytes, 2 * CHUNK,
                    2 * CHUNK + (2 << 17));
    rig_check_from(rig, 2);
    rig_end(rig);
}

/* The watch saw that the part was away, and looks for it only when it is back
 * and filled: it must not be called missing then, for good. */
static void
test_look_that_comes_late(void **state)
{
    struct rig *rig = without_b(&rig_triple);

    (void)state;
    fill_b(rig);
    watch_for(rig->world.volume, 1);
    assert_int_equal(rig_status(rig)->part[1].state, LSVD_PART_OK);
    assert_true(rig_status(rig)->healthy);
    rig_end(rig);
}

static void
break_journal(void *ctx, const struct lsvd_progress *progress)
{
    struct rig *rig = ctx;

    (void)progress;
    atomic_store(&rig->io.refuse_cache[0], REFUSE_WRITES | REFUSE_SYNCS);
}

/* Whoever waits for a part to be filled is told when it never will be. */
static void
test_no_journal_to_record_it(void **state)
{
    (void)state;
    for (unsigned dirty = 0; dirty < 2; dirty++) {
        struct rig *rig = rig_new(&rig_triple);
        const struct lsvd_repair_callbacks cb = {.progress = break_journal,
                                                 .ctx = rig};
        struct lsvd_report report;
        char root[512];

        (void)snprintf(root, sizeof root, "%s/spare", rig->world.path);
        assert_int_equal(mkdir(root, 0755), 0);
        rig_open_filled(rig);
        if (dirty)
            rig_touch(rig, 0, CHUNKS);
        assert_int_equal(lsvd_live_replace(rig->world.volume, 'b', root, &cb,
                                           &report), -EIO);
        assert_non_null(strstr(lsvd_error(), dirty ? "journal has failed"
                                                   : "/cache: broken"));
        rig_kill(rig);
        rig_free(rig);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_not_chunks),
        cmocka_unit_test(test_rot_is_found_on_the_way),
        cmocka_unit_test(test_nothing_stays_where_zeroes_are),
        cmocka_unit_test(test_old_block_does_not_replace_a_lost_one),
        cmocka_unit_test(test_sources_that_refuse_for_a_moment),
        cmocka_unit_test(test_sources_that_go_on_refusing),
        cmocka_unit_test(test_files_made_anew),
        cmocka_unit_test(test_look_that_comes_late),
        cmocka_unit_test(test_no_journal_to_record_it),
    };

    return cmocka_run_group_tests_name("volume-fill", tests, NULL, NULL);
}
