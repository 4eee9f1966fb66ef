/* A copy that is made before a start has all that the first one has, bodies of
 * REDO records included: it is replayed alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

#include "base/err.h"
#include "journal/journal_format.h"
#include <stdlib.h>
#include <string.h>

#define BLOCK 512u
#define FILE_BYTES 65536u

static const struct replay_callbacks only_seeds = { .seed = rig_seed };

/* A copy as mirror writes leave it: equal so far. */
static void
copy_medium(struct cut_target *to, const struct cut_target *from)
{
    cut_target_init(to, 1);
    to->now = malloc(from->bytes);
    to->medium = malloc(from->bytes);
    assert_true(to->now && to->medium);
    memcpy(to->now, from->now, from->bytes);
    memcpy(to->medium, from->now, from->bytes);
    to->bytes = from->bytes;
    to->exists = true;
}

static struct journal *
open_again(struct target *t, struct journal_scan *ret)
{
    struct journal *j;

    if (journal_open(t, RIG_NAME, 0, &j) < 0)
        fail_msg("open: %s", err_text());
    journal_set_chunk_blocks(j, 8);
    journal_set_volume_blocks(j, 64);
    if (journal_scan(j, &only_seeds, NULL, ret) < 0)
        fail_msg("scan: %s", err_text());
    return j;
}

/* As a start does. */
static int
follow(struct rig *rig, struct cut_target *copy)
{
    struct journal_scan scan, copy_scan;
    struct journal *to;
    int r;

    journal_close(rig->j);
    to = open_again(&copy->base, &copy_scan);
    rig->j = open_again(rig->target, &scan);
    r = journal_follow(rig->j, &scan.end, to, &copy_scan.end);
    journal_close(to);
    return r;
}

/* From now on the copy is all there is. */
static void
go_on_with(struct rig *rig, struct cut_target *copy)
{
    rig->target = &copy->base;
    if (rig_reopen(rig) < 0)
        fail_msg("the copy: %s", err_text());
    rig_check(rig);
}

static void
a_clone_has_it_all(void **state)
{
    struct journal_scan scan;
    struct cut_target copy;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, FILE_BYTES, 0);
    assert_int_equal(rig_write(&rig, 3, 4), 0);
    rig_redo(&rig, 700);
    rig_redo(&rig, 900);
    assert_int_equal(rig_sync(&rig), 0);
    journal_close(rig.j);
    cut_target_init(&copy, 1);
    rig.j = open_again(rig.target, &scan);
    assert_int_equal(scan.end.area_used, 1024 + 1024);
    assert_int_equal(journal_clone(rig.j, &copy.base, RIG_NAME), 0);
    go_on_with(&rig, &copy);
    assert_int_equal(rig.redo_count, 2);
    rig_done(&rig);
    cut_target_done(&copy);
}

/* The copy missed the end, or nothing. */
static void
a_follower_gets_what_it_lacks(void **state)
{
    (void)state;
    for (unsigned missed = 0; missed < 3; missed++) {
        struct cut_target copy;
        struct rig rig;

        rig_init(&rig, NULL, BLOCK, 8, 64, FILE_BYTES, 0);
        assert_int_equal(rig_write(&rig, 3, 4), 0);
        if (missed == 2)
            copy_medium(&copy, &rig.cut);
        rig_redo(&rig, 700);
        if (missed == 1)
            copy_medium(&copy, &rig.cut);
        rig_redo(&rig, 900);
        assert_int_equal(rig_write(&rig, 9, 1), 0);
        assert_int_equal(rig_sync(&rig), 0);
        if (missed == 0)
            copy_medium(&copy, &rig.cut);
        assert_int_equal(follow(&rig, &copy), 0);
        go_on_with(&rig, &copy);
        assert_int_equal(rig.redo_count, 2);
        rig_done(&rig);
        cut_target_done(&copy);
    }
}

/* It takes other bodies for ones that count than the first copy does: while
 * they were copied it would be neither. */
static void
a_copy_with_other_bodies_does_not_follow(void **state)
{
    struct cut_target copy;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, FILE_BYTES, 0);
    assert_int_equal(rig_write(&rig, 3, 4), 0);
    rig_redo(&rig, 700);
    assert_int_equal(rig_sync(&rig), 0);
    copy_medium(&copy, &rig.cut);
    assert_int_equal(rig_advance(&rig), 0);
    rig_redo(&rig, 900);
    assert_int_equal(rig_sync(&rig), 0);
    assert_int_equal(follow(&rig, &copy), -EINVAL);
    assert_int_equal(journal_clone(rig.j, &copy.base, RIG_NAME), 0);
    go_on_with(&rig, &copy);
    assert_int_equal(rig.redo_count, 1);
    rig_done(&rig);
    cut_target_done(&copy);
}

static bool
joins(void *ctx)
{
    (void)ctx;
    return true;
}

/* What the mirror does once it counts. */
static void
give_superblocks(struct rig *rig, struct cut_target *copy)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t at = super_at(FILE_BYTES, i);

        memcpy(copy->now + at, rig->cut.now + at, SUPER_BYTES);
    }
}

/* Of a copy that comes back, with the ring that it had. */
static void
fill(struct rig *rig, struct cut_target *copy)
{
    struct journal_fill fill;
    struct object *to;
    int r;

    assert_int_equal(target_open(&copy->base, RIG_NAME, OBJECT_WRITE, &to), 0);
    assert_int_equal(journal_fill_begin(rig->j, to, &fill), 0);
    while ((r = journal_fill_step(rig->j, &fill, 4096)) > 0)
        ;
    assert_int_equal(r, 0);
    assert_int_equal(journal_fill_end(rig->j, &fill, joins, NULL), 0);
    object_close(to);
    assert_int_equal(journal_store_identity(rig->j, journal_identity(rig->j)),
                     0);
    give_superblocks(rig, copy);
}

static void
a_filled_copy_has_it_all(void **state)
{
    struct cut_target copy;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, FILE_BYTES, 0);
    copy_medium(&copy, &rig.cut);
    assert_int_equal(rig_write(&rig, 3, 4), 0);
    rig_redo(&rig, 700);
    rig_redo(&rig, 900);
    fill(&rig, &copy);
    go_on_with(&rig, &copy);
    assert_int_equal(rig.redo_count, 2);
    rig_done(&rig);
    cut_target_done(&copy);
}

/* Y2: a power cut took the last record from the copy that went on, and left it
 * in the other one. Nothing came after it. */
static void
what_only_the_copy_had_stays_gone(void **state)
{
    (void)state;
    for (unsigned live = 0; live < 2; live++) {
        struct cut_target copy;
        struct rig rig;

        rig_init(&rig, NULL, BLOCK, 8, 64, FILE_BYTES, 0);
        if (live > 0)
            assert_int_equal(rig_write(&rig, 3, 4), 0);
        assert_int_equal(rig_sync(&rig), 0);
        assert_int_equal(rig_write(&rig, 9, 1), 0);
        copy_medium(&copy, &rig.cut);
        cut_target_cut_records(&rig.cut);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig.stats.records, live);
        rig_adopt(&rig);
        fill(&rig, &copy);
        go_on_with(&rig, &copy);
        assert_int_equal(rig.stats.records, live);
        rig_done(&rig);
        cut_target_done(&copy);
    }
}

/* What is broken lies close before what is live. */
static void
a_full_ring_is_filled(void **state)
{
    struct cut_target copy;
    struct rig rig;
    int r;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, FILE_BYTES, 0);
    copy_medium(&copy, &rig.cut);
    while ((r = rig_write(&rig, 1, 1)) == 0)
        ;
    assert_int_equal(r, -EAGAIN);
    while ((r = rig_try_redo(&rig, 1)) == 0) /* what is kept for destage */
        ;
    assert_int_equal(r, -ENOSPC);
    fill(&rig, &copy);
    go_on_with(&rig, &copy);
    rig_done(&rig);
    cut_target_done(&copy);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clone_has_it_all),
        cmocka_unit_test(a_follower_gets_what_it_lacks),
        cmocka_unit_test(a_copy_with_other_bodies_does_not_follow),
        cmocka_unit_test(a_filled_copy_has_it_all),
        cmocka_unit_test(what_only_the_copy_had_stays_gone),
        cmocka_unit_test(a_full_ring_is_filled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
