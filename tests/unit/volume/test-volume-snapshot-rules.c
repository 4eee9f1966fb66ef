/* Snapshots that are refused, and copies of policies, registries and parts
 * that are old or gone: what counts is found all the same. SN1 and SN2 are
 * those of volume/snapshot.h, FI1 and FI2 those of volume/find.h. */
#include "unit.h"
#include "faulty-io.h"
#include "film.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- what is refused ---- */

/* It opens, is written, and nothing was left. */
static void
check_unharmed(struct film *f)
{
    film_check_traces(f, 1, 1);
    assert_false(film_has_unborn(f));
    world_open(&f->world);
    film_put(f, random_below(&f->random, 100) * f->block, f->block);
    film_check(f);
    world_close(&f->world);
}

/* Of the closed volume, and of one that is open with these flags. */
static void
refuse(struct film *f, const char *name, unsigned flags, int error)
{
    struct lsvd_volume *v, *next;

    MUST(lsvd_open(&f->world.env, NAME, flags, &v));
    assert_int_equal(lsvd_snapshot_begin(v, &f->world.env, name, &next),
                     error);
    assert_true(lsvd_error()[0] != 0);
    film_check_is(f, v, f->model);
    MUST(lsvd_close(v));
    if (flags == 0)
        assert_true(lsvd_snapshot_create(&f->world.env, name) < 0);
}

static void
test_bad_names(void **state)
{
    static const char *const bad[] = {"v1", "v1@", "v2@x", "v1@now", "v1@+1",
                                      "v1@x@y", "@x", "v1@-x", ""};
    struct lsvd_create spec = {.name = "a@b", .size_bytes = BYTES};
    char longest[66] = "v1@"; /* 65 bytes: one too many */
    struct film f;

    (void)state;
    film_begin(&f, &film_triple, 1, false);
    world_close(&f.world);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refuse(&f, bad[i], 0, -EINVAL);
        check_unharmed(&f);
    }
    memset(longest + 3, 'x', 62);
    refuse(&f, longest, 0, -EINVAL);
    check_unharmed(&f);
    assert_int_equal(lsvd_snapshot_create(&f.world.env, "v2@x"), -ENOENT);
    assert_int_equal(lsvd_create(&f.world.env, &spec), -EINVAL);
    check_unharmed(&f);
    longest[64] = 0; /* and not one too many */
    MUST(lsvd_snapshot_create(&f.world.env, longest));
    film_check_named(&f, longest, f.model);
    film_end(&f);
}

static void
test_refused_as_it_is(void **state)
{
    struct film f;

    (void)state;
    film_begin(&f, &film_triple, 1, false);
    world_close(&f.world);
    refuse(&f, "v1@x", LSVD_OPEN_READ_ONLY, -EROFS);
    check_unharmed(&f);
    MUST(lsvd_set(&f.world.env, NAME, "read-only", "on"));
    refuse(&f, "v1@x", 0, -EROFS);
    MUST(lsvd_set(&f.world.env, NAME, "read-only", "off"));
    check_unharmed(&f);
    film_move(f.world.data, "11/b", f.world.path, "away");
    refuse(&f, "v1@x", 0, -EIO); /* SN2 */
    film_move(f.world.path, "away", f.world.data, "11/b");
    MUST(lsvd_rebuild(&f.world.env, NAME, 0, false, NULL,
                      &(struct lsvd_report){0}));
    check_unharmed(&f);
    MUST(lsvd_snapshot_create(&f.world.env, "v1@x"));
    film_check_named(&f, "v1@x", f.model);
    film_end(&f);
}

static void
until_part_is_missed(struct film *f)
{
    time_t begin = time(NULL);

    while (world_status(&f->world)->part[1].state == LSVD_PART_OK) {
        assert_true(time(NULL) - begin < 30);
        lsvd_watch(f->world.volume);
        film_put(f, 9 * f->block, f->block);
        world_drain(&f->world);
    }
}

/* Between begin and commit a part goes: the volume goes on without it. */
static void
test_refused_at_the_moment(void **state)
{
    struct film f;

    (void)state;
    film_begin(&f, &film_triple, 1, false);
    film_snapshot_begin(&f, "v1@x");
    film_move(f.world.data, "11/b", f.world.path, "away");
    until_part_is_missed(&f);
    film_put(&f, 0, f.block);
    assert_int_equal(lsvd_snapshot_commit(f.world.volume, f.next, "v1@x"),
                     -EIO);
    lsvd_snapshot_cancel(f.next, &f.world.env);
    film_check(&f);
    film_put(&f, f.block, f.block);
    world_close(&f.world);
    film_move(f.world.path, "away", f.world.data, "11/b");
    MUST(lsvd_rebuild(&f.world.env, NAME, 0, false, NULL,
                      &(struct lsvd_report){0}));
    film_check_unknown(&f, "v1@x");
    check_unharmed(&f);
    film_end(&f);
}

static void
test_a_snapshot_stays_as_it_is(void **state)
{
    const struct lsvd_env *env;
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    env = &f.world.env;
    film_snapshot(&f, "v1@x");
    film_put(&f, 0, f.block);
    world_close(&f.world);
    world_open(&f.world);
    assert_int_equal(lsvd_snapshot_begin(f.world.volume, env, "v1@x",
                                         &f.next), -EEXIST);
    world_close(&f.world);
    assert_int_equal(lsvd_snapshot_create(env, "v1@x"), -EEXIST);
    assert_int_equal(lsvd_set(env, "v1@x", "read-only", "off"), -EROFS);
    assert_true(lsvd_resize(env, "v1@x", 2 * BYTES, false) < 0);
    assert_int_equal(lsvd_remove(env, "v1@x"), -EBUSY);
    film_check_traces(&f, 2, 1);
    film_check_named(&f, "v1@x", f.frozen);
    film_check_named(&f, NAME, f.model);
    MUST(lsvd_remove(env, NAME));
    film_check_named(&f, "v1@x", f.frozen);
    assert_int_equal(lsvd_set(env, "v1@x", "read-only", "off"), -EROFS);
    MUST(lsvd_remove(env, "v1@x"));
    film_check_traces(&f, 0, 0);
    film_free(&f);
}

/* ---- old and missing copies ---- */

static void
copy_file(const char *from, const char *to)
{
    char bytes[64 << 10];
    int in = open(from, O_RDONLY), out;
    ssize_t count;

    assert_true(in >= 0);
    out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(out >= 0);
    count = read(in, bytes, sizeof bytes);
    assert_true(count > 0 && count < (ssize_t)sizeof bytes);
    assert_int_equal(write(out, bytes, (size_t)count), count);
    close(in);
    close(out);
}

/* What a policy of three parts with three roots is stored in, in the order in
 * which that happens. */
enum { COPIES = 3 * ROOTS };

static void
copy_paths(const struct film *f, unsigned number, unsigned nth, char *path,
           char *aside)
{
    unsigned root = nth / 3;

    switch (nth % 3) {
    case 0:
        snprintf(path, 700, "%s/%u/%c/.meta", f->root[root], number,
                 'a' + root);
        break;
    case 1:
        snprintf(path, 700, "%s/%u/.meta", f->root[root], number);
        break;
    default:
        snprintf(path, 700, "%s/.volumesmeta", f->root[root]);
    }
    snprintf(aside, 700, "%s/kept-%u-%u", f->world.path, number, nth);
}

static void
keep(const struct film *f, unsigned number)
{
    char path[700], aside[700];

    for (unsigned i = 0; i < COPIES; i++) {
        copy_paths(f, number, i, path, aside);
        copy_file(path, aside);
    }
}

/* Those of the mask. */
static void
put_back(const struct film *f, unsigned number, unsigned mask)
{
    char path[700], aside[700];

    for (unsigned i = 0; i < COPIES; i++) {
        copy_paths(f, number, i, path, aside);
        if (mask & 1u << i)
            copy_file(aside, path);
    }
}

/* Registries alone, of roots of a mask. */
static unsigned
registries(unsigned roots)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < ROOTS; i++) {
        if (roots & 1u << i)
            mask |= 1u << (3 * i + 2);
    }
    return mask;
}

/* Both are found and right, whichever is asked for first. */
static void
check_both(struct film *f)
{
    static const char *const names[] = {NAME, "v1@x", NULL};

    film_check_list(f, names);
    film_check_named(f, "v1@x", f->frozen);
    film_check_named(f, NAME, f->model);
    world_open(&f->world);
    film_put(f, 5 * f->block, f->block);
    film_check(f);
    world_close(&f->world);
    film_check_list(f, names);
}

/* What the registries of these roots know is v1 alone, as number 11. */
static void
film_whose_registries_lag(struct film *f, unsigned roots)
{
    film_begin(f, &film_triple, 1, true);
    keep(f, 11);
    film_write_to_journal(f);
    film_snapshot(f, "v1@x");
    film_put(f, 0, f->block);
    world_close(&f->world);
    put_back(f, 11, registries(roots));
}

static void
test_registries_lag(void **state)
{
    struct film f;

    (void)state;
    for (unsigned roots = 1; roots < 7; roots++) {
        film_whose_registries_lag(&f, roots);
        check_both(&f);
        film_end(&f);
    }
}

/* The name leads on from the old one, if nothing else does (FI1). */
static void
test_all_registries_lag(void **state)
{
    struct film f;

    (void)state;
    film_whose_registries_lag(&f, 7);
    film_check_named(&f, NAME, f.model);
    world_open(&f.world);
    film_put(&f, 5 * f.block, f.block);
    film_check(&f);
    film_end(&f);
}

static void
test_registries_are_gone(void **state)
{
    char path[700], aside[700];
    struct film f;

    (void)state;
    film_whose_registries_lag(&f, 0);
    for (unsigned i = 2; i < COPIES; i += 3) {
        copy_paths(&f, 11, i, path, aside);
        assert_int_equal(unlink(path), 0);
    }
    check_both(&f);
    film_end(&f);
}

/* All of the policy's copies say so now. */
static void
check_copies_say(const struct film *f, unsigned number, const char *line)
{
    char path[700], aside[700], text[8192];

    for (unsigned i = 0; i < COPIES; i++) {
        int fd;

        copy_paths(f, number, i, path, aside);
        fd = open(path, O_RDONLY);
        assert_true(fd >= 0);
        memset(text, 0, sizeof text);
        assert_true(read(fd, text, sizeof text - 1) > 0);
        close(fd);
        if (i % 3 < 2)
            assert_non_null(strstr(text, line));
    }
}

/* Opened for writing it is put right, whatever it was found by. */
static void
check_put_right(struct film *f)
{
    static const char *const names[] = {NAME, "v1@x", NULL};
    struct lsvd_info info;

    world_open(&f->world);
    film_check(f);
    film_put(f, 9 * f->block, f->block);
    check_copies_say(f, 11, "\nname = v1@x\n");
    check_copies_say(f, 12, "\nname = v1\n");
    world_close(&f->world);
    MUST(lsvd_info(&f->world.env, NAME, &info));
    assert_true(info.clean);
    assert_int_equal(info.number, 12);
    film_check_list(f, names);
    film_check_named(f, "v1@x", f->frozen);
    film_check_sound(f, "v1@x");
}

/* The old one's policy is in force, and the new one's not yet: FI2. */
static void
start_between_policies(unsigned mask)
{
    struct film f;

    film_begin(&f, &film_triple, 1, true);
    film_write_to_journal(&f);
    film_snapshot_begin(&f, "v1@x");
    keep(&f, 12);
    check_copies_say(&f, 12, "\nname = v1@+12\n");
    film_snapshot_commit(&f, "v1@x");
    film_snapshot_finish(&f, "v1@x");
    film_put(&f, 3 * f.block, f.block);
    world_close(&f.world);
    put_back(&f, 12, mask);
    check_put_right(&f);
    film_end(&f);
}

static void
test_a_start_between_the_policies(void **state)
{
    const unsigned all = (1u << COPIES) - 1;

    (void)state;
    start_between_policies(all);
    start_between_policies(all & ~registries(7));
    start_between_policies(all & ~registries(2));
    start_between_policies(7 | 7 << 3); /* one root has the new ones */
}

/* kill -9 while the old one's policy is being stored, after so many copies:
 * the first of them is the moment (SN1). */
static void
cut_short_at_commit(unsigned stored)
{
    struct film f;

    film_begin(&f, &film_triple, 1, true);
    film_write_to_journal(&f);
    film_snapshot_begin(&f, "v1@x");
    keep(&f, 11);
    keep(&f, 12);
    film_snapshot_commit(&f, "v1@x");
    film_kill(&f);
    put_back(&f, 12, ((1u << COPIES) - 1) & ~registries((1u << ROOTS) - 1));
    put_back(&f, 11, (1u << COPIES) - (1u << stored));
    if (stored > 0) {
        check_put_right(&f);
    } else {
        film_check_unknown(&f, "v1@x");
        film_check_named(&f, NAME, f.model);
        assert_true(film_has_unborn(&f));
    }
    film_end(&f);
}

/* And while the new one says its name; with writes behind it, if it did. */
static void
cut_short_at_finish(unsigned stored)
{
    static const char *const names[] = {NAME, "v1@x", NULL};
    struct film f;

    film_begin(&f, &film_triple, 1, true);
    film_write_to_journal(&f);
    film_snapshot_begin(&f, "v1@x");
    keep(&f, 12);
    film_snapshot_commit(&f, "v1@x");
    if (stored == COPIES)
        film_put(&f, 2 * f.block, f.block);
    film_kill(&f);
    put_back(&f, 12, (1u << COPIES) - (1u << stored));
    film_check_list(&f, names);
    film_check_named(&f, "v1@x", f.frozen);
    check_put_right(&f);
    film_end(&f);
}

static void
test_cut_short_after_each_copy(void **state)
{
    (void)state;
    for (unsigned stored = 0; stored <= COPIES; stored++) {
        cut_short_at_commit(stored);
        cut_short_at_finish(stored);
    }
}

/* ---- parts that are gone (SN2) ---- */

static void
test_parts_are_gone(void **state)
{
    struct film f;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const char *root = i == 0 ? "root0" : "root1";

        film_begin(&f, &film_mirror, 1, true);
        film_write_to_journal(&f);
        film_snapshot(&f, "v1@x");
        film_put(&f, 0, f.block);
        world_close(&f.world);
        film_move(f.world.path, root, f.world.path, "away");
        film_check_named(&f, "v1@x", f.frozen);
        film_check_named(&f, NAME, f.model);
        film_move(f.world.path, "away", f.world.path, root);
        film_check_named(&f, "v1@x", f.frozen);
        film_end(&f);
    }
}

/* The journal is needed until all parts have what it holds: who only reads, and
 * ends well, leaves it where it is. */
static void
test_a_journal_that_can_not_be_emptied_stays(void **state)
{
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, true);
    film_write_to_journal(&f);
    film_snapshot_begin(&f, "v1@x");
    film_snapshot_commit(&f, "v1@x");
    film_kill(&f);
    film_move(f.world.path, "root1", f.world.path, "away");
    for (int i = 0; i < 2; i++)
        film_check_named(&f, "v1@x", f.frozen);
    film_move(f.world.path, "away", f.world.path, "root1");
    film_check_named(&f, NAME, f.model);
    film_check_named(&f, "v1@x", f.frozen);
    film_end(&f);
}

/* Chunks that were trimmed as a whole stay so, when the one that says it goes:
 * there is data below (FL3). */
static void
test_trimmed_chunks_stay_so(void **state)
{
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, true);
    film_put(&f, 0, BYTES / 2);
    film_snapshot(&f, "v1@x");
    MUST(lsvd_trim(f.world.volume, BYTES / 2, 0, LSVD_FUA));
    memset(f.model, 0, BYTES / 2);
    film_snapshot(&f, "v1@y");
    world_close(&f.world);
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@y", 0, NULL));
    film_check_named(&f, NAME, f.model);
    film_end(&f);
}

/* ---- many ---- */

static void
count_policies(void *ctx, const char *name)
{
    *(unsigned *)ctx += strcmp(name, ".meta") == 0;
}

/* Each is looked at for the next one, but not once for each of the others: so
 * much more for each. */
static void
test_looks_once_at_each_of_the_others(void **state)
{
    static const struct kind kind = {.replicas = 1, .block_bytes = 4096,
                                     .chunk_bytes = CHUNK, .size_bytes = BYTES};
    unsigned read[13] = {0};
    struct faulty_io io;
    struct world world;

    (void)state;
    world_init(&world, &kind);
    faulty_io_init(&io);
    io.on_open = count_policies;
    world.env.io = &io.io;
    for (unsigned i = 1; i <= 12; i++) {
        char name[16];

        snprintf(name, sizeof name, "v1@s%u", i);
        io.on_open_ctx = &read[i];
        MUST(lsvd_snapshot_create(&world.env, name));
    }
    assert_int_equal(read[12] - read[8], read[8] - read[4]);
    world_done(&world);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_refused_as_it_is),
        cmocka_unit_test(test_refused_at_the_moment),
        cmocka_unit_test(test_a_snapshot_stays_as_it_is),
        cmocka_unit_test(test_registries_lag),
        cmocka_unit_test(test_all_registries_lag),
        cmocka_unit_test(test_registries_are_gone),
        cmocka_unit_test(test_a_start_between_the_policies),
        cmocka_unit_test(test_cut_short_after_each_copy),
        cmocka_unit_test(test_parts_are_gone),
        cmocka_unit_test(test_trimmed_chunks_stay_so),
        cmocka_unit_test(test_a_journal_that_can_not_be_emptied_stays),
        cmocka_unit_test(test_looks_once_at_each_of_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
