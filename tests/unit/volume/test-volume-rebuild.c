/* Rebuilding a volume of which some things can't be rebuilt. */
#include "unit.h"
#include "rig.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void
damage_header(struct rig *rig, char part, unsigned chunk)
{
    char name[32];

    (void)snprintf(name, sizeof name, "%c/%u", part, chunk);
    world_flip(&rig->world, name, 9);
}

static void
part_file(struct rig *rig, char part, unsigned chunk, char path[512])
{
    char name[32];

    (void)snprintf(name, sizeof name, "%c/%u", part, chunk);
    world_path(&rig->world, name, path);
}

static void
delete_file(struct rig *rig, char part, unsigned chunk)
{
    char path[512];

    part_file(rig, part, chunk, path);
    assert_int_equal(unlink(path), 0);
}

static bool
exists(struct rig *rig, char part, unsigned chunk)
{
    char path[512];

    part_file(rig, part, chunk, path);
    return access(path, F_OK) == 0;
}

/* Chunk 2 is beyond help on every part; 1, 3 and the last of part b are gone.
 */
static struct rig *
damaged(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);
    uint32_t parts = kind->ec_data ? kind->ec_data + kind->ec_parity
                                   : kind->replicas;

    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    for (uint32_t i = 0; i < parts; i++)
        damage_header(rig, (char)('a' + i), 2);
    delete_file(rig, 'b', 1);
    delete_file(rig, 'b', 3);
    delete_file(rig, 'b', CHUNKS);
    return rig;
}

static void
is_rebuilt(struct rig *rig, const struct lsvd_report *report)
{
    assert_false(report->policy_met);
    assert_true(report->data_lost);
    assert_int_equal(report->lost_bytes, CHUNK);
    assert_true(exists(rig, 'b', 1));
    assert_true(exists(rig, 'b', 3));
    assert_true(exists(rig, 'b', CHUNKS));
    assert_int_equal(report->rebuilt, 3);
    assert_true(rig_has_said(rig, "chunk 2 can't be used"));
}

static const struct kind *const kinds[] = {&rig_mirror, &rig_wide};

static void
test_what_is_lost_holds_up_nothing_else(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig *rig = damaged(kinds[i]);
        struct lsvd_report report;

        MUST(lsvd_rebuild(&rig->world.env, NAME, 0, false, NULL, &report));
        is_rebuilt(rig, &report);
        rig_free(rig);
    }
}

static void
test_nor_while_it_is_served(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig *rig = damaged(kinds[i]);
        struct lsvd_report report;

        rig_open(rig, false);
        MUST(lsvd_live_rebuild(rig->world.volume, 0, NULL, &report));
        is_rebuilt(rig, &report);
        rig_close(rig);
        rig_free(rig);
    }
}

/* A part that was away, and came back with damage in what it had kept. */
static void
test_stale_and_damaged(void **state)
{
    static const struct kind *const spare[] = {&rig_triple, &rig_wide};

    (void)state;
    for (size_t k = 0; k < sizeof spare / sizeof spare[0]; k++) {
        struct rig *rig = rig_new(spare[k]);
        struct lsvd_report report;

        rig_open(rig, false);
        rig_fill(rig);
        rig_close(rig);
        rig_take_away(rig, 'c');
        rig_open(rig, false);
        rig_touch(rig, 0, 1);
        rig_close(rig);
        rig_put_back(rig, 'c');
        world_flip(&rig->world, "c/5", -5);
        MUST(lsvd_rebuild(&rig->world.env, NAME, 0, false, NULL, &report));
        assert_true(report.policy_met);
        assert_int_equal(report.rebuilt, 2);
        rig_open(rig, false);
        rig_check(rig);
        rig_end(rig);
    }
}

/* Each copy has damage, and each what is damaged in the other one: both are
 * mended, or, when there is no memory for a read of one of them, left as they
 * are. True: it came to the read of that number. */
static bool
is_kept(bool live, bool has_file, unsigned nth)
{
    struct rig *rig = rig_new(&rig_mirror);
    struct lsvd_report report;
    int r;

    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    if (has_file) {
        world_flip(&rig->world, "a/1", -5 - 7 * BLOCK);
        world_flip(&rig->world, "b/1", -5);
    } else {
        delete_file(rig, 'b', 1);
    }
    if (live)
        rig_open(rig, false);
    rig->io.reads = 0;
    rig->io.no_memory_at = nth;
    r = live ? lsvd_live_rebuild(rig->world.volume, 0, NULL, &report)
             : lsvd_rebuild(&rig->world.env, NAME, 0, false, NULL, &report);
    assert_true(r == 0 || r == -ENOMEM || r == -EIO);
    rig->io.no_memory_at = 0;
    if (!live)
        rig_open(rig, false);
    rig_check(rig);
    /* what could not be read is not called lost on the other part either */
    if (!has_file && exists(rig, 'b', 1)) {
        rig->io.refuse[0] = REFUSE_READS;
        MUST(rig_read(rig, 0, CHUNK));
    }
    rig_kill(rig);
    r = rig->io.reads >= nth;
    rig_free(rig);
    return r;
}

static void
test_the_last_good_cell_is_kept(void **state)
{
    (void)state;
    for (unsigned what = 0; what < 4; what++) {
        unsigned nth = 1;

        while (is_kept(what & 1, what & 2, nth))
            nth++;
        assert_true(nth > 2 * CHUNKS); /* both are read to the end */
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_lost_holds_up_nothing_else),
        cmocka_unit_test(test_nor_while_it_is_served),
        cmocka_unit_test(test_stale_and_damaged),
        cmocka_unit_test(test_the_last_good_cell_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
