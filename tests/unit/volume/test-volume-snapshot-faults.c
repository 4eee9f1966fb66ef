/* Snapshots that are cut short, that can't be had now, or of which an old copy
 * says something else: nothing that is needed goes, no name is lost, and what
 * was left can go. */
#include "unit.h"
#include "faulty-io.h"
#include "film.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COPY ".meta.new" /* of a policy, while it is being stored */

/* ---- cut short, or refused, when a policy says something ---- */

/* Once a copy has this line, whoever begins to store another one ends there, as
 * by kill -9; or finds that the parts refuse it. */
struct trap {
    struct faulty_io io;
    char path[700];
    const char *line;
    bool kills;
};

static bool
has_line(const char *path, const char *line)
{
    char text[8192] = "", whole[100];
    int fd = open(path, O_RDONLY);

    if (fd < 0)
        return false;
    assert_true(read(fd, text, sizeof text - 1) >= 0);
    close(fd);
    snprintf(whole, sizeof whole, "\n%s\n", line);
    return strstr(text, whole) != NULL;
}

static void
spring(void *ctx, const char *name)
{
    struct trap *t = ctx;

    if (strcmp(name, COPY) != 0 || !has_line(t->path, t->line))
        return;
    if (t->kills)
        _exit(0);
    t->io.only = COPY;
    for (int i = 0; i < 3; i++)
        t->io.refuse[i] = REFUSE_WRITES;
}

static void
set_trap(struct film *f, struct trap *t, const char *file, const char *line,
         bool kills)
{
    *t = (struct trap){.line = line, .kills = kills};
    snprintf(t->path, sizeof t->path, "%s/%s", f->world.data, file);
    faulty_io_init(&t->io);
    t->io.on_open = spring;
    t->io.on_open_ctx = t;
    f->world.env.io = &t->io.io;
}

static void
release(struct trap *t)
{
    t->io.on_open = NULL;
    for (int i = 0; i < 3; i++)
        t->io.refuse[i] = 0;
}

/* In a process of its own, which must not come to its end. */
static void
cut(struct film *f, int (*act)(const struct lsvd_env *env, const char *name),
    const char *name, const char *file, const char *line)
{
    struct trap trap;
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        set_trap(f, &trap, file, line, true);
        (void)act(&f->world.env, name);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* v1@x is 11, v1 is 12, with something else in it, and closed. */
static void
begin_with_snapshot(struct film *f, const struct kind *kind)
{
    film_begin(f, kind, 1, false);
    film_snapshot(f, "v1@x");
    film_put(f, 3 * f->block, 4 * f->block);
    world_close(&f->world);
}

/* ---- a rollback that was cut short ---- */

/* The one that was discarded is the only way to the one that has the name. */
static void
test_what_a_rollback_discarded_leads_to_the_volume(void **state)
{
    static const char *const names[] = {NAME, "v1@x", NULL};
    struct film f;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    cut(&f, lsvd_snapshot_rollback, "v1@x", "12/b/.meta", "removing = true");
    memcpy(f.model, f.frozen, BYTES);
    MUST(lsvd_remove(&f.world.env, "v1@+12"));
    film_check_named(&f, NAME, f.model);
    film_check_list(&f, names);
    film_check_traces(&f, 2, 1);
    film_end(&f);
}

/* What says so is in memory alone, and the medium does not take it. */
static void
test_what_was_discarded_is_not_known_for_sure(void **state)
{
    struct film f;
    struct trap t;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    cut(&f, lsvd_snapshot_rollback, "v1@x", "12/a/.meta", "removing = true");
    memcpy(f.model, f.frozen, BYTES);
    set_trap(&f, &t, "12/a/.meta", "no such line", false);
    t.io.refuse[0] = REFUSE_SYNCS;
    assert_int_equal(lsvd_remove(&f.world.env, "v1@+12"), -EIO);
    assert_non_null(strstr(lsvd_error(), "12/a"));
    assert_true(t.io.refused > 0);
    release(&t);
    film_check_named(&f, NAME, f.model);
    MUST(lsvd_remove(&f.world.env, "v1@+12"));
    film_check_named(&f, NAME, f.model);
    film_check_traces(&f, 2, 1);
    film_end(&f);
}

/* As long as that can't say so itself the other one stays. */
static void
test_what_leads_to_the_volume_stays(void **state)
{
    struct film f;
    struct trap t;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    cut(&f, lsvd_snapshot_rollback, "v1@x", "12/b/.meta", "removing = true");
    memcpy(f.model, f.frozen, BYTES);
    set_trap(&f, &t, "12/b/.meta", "removing = true", false);
    assert_int_equal(lsvd_remove(&f.world.env, "v1@+12"), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "open v1 once first"));
    assert_true(t.io.refused > 0);
    release(&t);
    film_check_named(&f, NAME, f.model);
    MUST(lsvd_remove(&f.world.env, "v1@+12"));
    film_check_traces(&f, 2, 1);
    film_end(&f);
}

/* The one that had the name is gone: then so may be what led to it. */
static void
test_what_leads_nowhere_goes(void **state)
{
    struct film f;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    cut(&f, lsvd_snapshot_rollback, "v1@x", "12/b/.meta", "removing = true");
    MUST(lsvd_remove(&f.world.env, NAME));
    MUST(lsvd_remove(&f.world.env, "v1@+12"));
    film_check_named(&f, "v1@x", f.frozen);
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    film_check_traces(&f, 0, 0);
    film_free(&f);
}

/* ---- what was left depends on a snapshot ---- */

static void
test_a_leftover_does_not_keep_a_snapshot(void **state)
{
    struct film f;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    cut(&f, lsvd_snapshot_rollback, "v1@x", "13/.meta", "name = v1@+13");
    assert_true(film_has_unborn(&f));
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    assert_false(film_has_unborn(&f));
    film_check_unknown(&f, "v1@x");
    film_check_named(&f, NAME, f.model);
    film_check_traces(&f, 1, 1);
    film_end(&f);
}

static void
test_a_leftover_of_a_volume_that_is_gone(void **state)
{
    struct film f;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    cut(&f, lsvd_snapshot_rollback, "v1@x", "13/.meta", "name = v1@+13");
    MUST(lsvd_remove(&f.world.env, NAME));
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    film_check_traces(&f, 0, 0);
    film_free(&f);
}

/* While somebody has the volume it is said what there is, and nothing goes. */
static void
test_a_leftover_of_a_volume_that_is_served(void **state)
{
    struct film f;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    cut(&f, lsvd_snapshot_rollback, "v1@x", "13/.meta", "name = v1@+13");
    world_open(&f.world);
    assert_int_equal(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL),
                     -EBUSY);
    assert_non_null(strstr(lsvd_error(), "v1@+13"));
    film_put(&f, 0, f.block);
    film_check(&f);
    world_close(&f.world);
    film_check_named(&f, "v1@x", f.frozen);
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    film_check_traces(&f, 1, 1);
    film_end(&f);
}

/* It is the volume itself, which does not say its name yet (FI2). */
static void
test_an_heir_is_no_leftover(void **state)
{
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    world_close(&f.world);
    cut(&f, lsvd_snapshot_create, "v1@x", "11/b/.meta", "name = v1@x");
    assert_int_equal(lsvd_remove(&f.world.env, "v1@+12"), -EBUSY);
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    film_check_unknown(&f, "v1@x");
    film_check_traces(&f, 1, 1);
    film_end(&f);
}

/* ---- parts that are away ---- */

/* A removal that is refused changes nothing, also not who is in sync. */
static void
test_a_removal_without_a_part_leaves_none_out(void **state)
{
    struct film f;

    (void)state;
    begin_with_snapshot(&f, &film_triple);
    world_open(&f.world);
    film_snapshot(&f, "v1@y");
    world_close(&f.world);
    film_move(f.world.data, "12/b", f.world.path, "away");
    assert_int_equal(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL), -EIO);
    film_move(f.world.path, "away", f.world.data, "12/b");
    film_check_sound(&f, "v1@y");
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    film_check_named(&f, "v1@y", f.frozen);
    film_check_sound(&f, "v1@y");
    film_check_traces(&f, 2, 1);
    film_end(&f);
}

/* ---- old copies of policies ---- */

/* v1@x is 11; v1@y was 12; v1 is 13, and has taken over what 12 said while the
 * first root was away. */
static void
begin_with_old_root(struct film *f)
{
    film_begin(f, &film_triple, 1, true);
    film_snapshot(f, "v1@x");
    film_put(f, f->block, 2 * f->block);
    film_snapshot(f, "v1@y");
    film_put(f, 2 * f->block, 2 * f->block);
    world_close(&f->world);
    film_move(f->world.path, "root0", f->world.path, "away");
    MUST(lsvd_snapshot_remove(&f->world.env, "v1@y", 0, NULL));
    film_move(f->world.path, "away", f->world.path, "root0");
}

/* By that root's copy v1 depends on 12 alone. */
static void
test_an_old_copy_does_not_hide_what_is_needed(void **state)
{
    struct film f;

    (void)state;
    begin_with_old_root(&f);
    film_move(f.root[0], "12", f.world.path, "gone");
    assert_int_equal(lsvd_remove(&f.world.env, "v1@x"), -EBUSY);
    film_check_named(&f, NAME, f.model);
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    film_check_named(&f, NAME, f.model);
    film_free(&f);
}

/* And so what that root has yet of 12 could not go. */
static void
test_an_old_copy_keeps_nothing(void **state)
{
    struct film f;

    (void)state;
    begin_with_old_root(&f);
    MUST(lsvd_remove(&f.world.env, "v1@y"));
    film_check_named(&f, NAME, f.model);
    assert_int_equal(lsvd_remove(&f.world.env, "v1@x"), -EBUSY);
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", 0, NULL));
    film_check_named(&f, NAME, f.model);
    film_free(&f);
}

/* ---- others that are broken ---- */

static void
test_a_name_that_nobody_has(void **state)
{
    struct lsvd_create spec = {.name = "other", .size_bytes = BYTES,
                               .replicas = 2};
    static const char *const copies[] = {"12/.meta", "12/a/.meta",
                                         "12/b/.meta"};
    struct lsvd_volume *v;
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    world_close(&f.world);
    MUST(lsvd_create(&f.world.env, &spec));
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
        char path[700];
        int fd;

        snprintf(path, sizeof path, "%s/%s", f.world.data, copies[i]);
        fd = open(path, O_WRONLY | O_TRUNC);
        assert_int_equal(write(fd, "broken\n", 7), 7);
        close(fd);
    }
    film_check_unknown(&f, "nobody");
    film_check_unknown(&f, "v1@x");
    assert_int_equal(lsvd_remove(&f.world.env, "nobody"), -ENOENT);
    assert_int_equal(lsvd_open(&f.world.env, "other", 0, &v), -EBADMSG);
    MUST(lsvd_snapshot_create(&f.world.env, "v1@x"));
    film_check_named(&f, "v1@x", f.model);
    film_end(&f);
}

/* ---- a name that can't be stored ---- */

/* The snapshot is there, and the volume goes on; it says its name later. */
static void
name_is_due(bool is_killed)
{
    static const char *const names[] = {NAME, "v1@x", NULL};
    struct film f;
    struct trap t;

    film_begin(&f, &film_mirror, 1, false);
    world_close(&f.world);
    set_trap(&f, &t, "11/b/.meta", "name = v1@x", false);
    world_open(&f.world);
    film_write_to_journal(&f);
    film_snapshot_begin(&f, "v1@x");
    film_snapshot_commit(&f, "v1@x");
    assert_true(t.io.refused > 0);
    film_put(&f, 0, f.block);
    assert_false(lsvd_snapshot_finish(f.world.volume));
    film_put(&f, f.block, f.block);
    film_check(&f);
    film_check_list(&f, names);
    release(&t);
    if (is_killed)
        film_kill(&f);
    else
        assert_true(lsvd_snapshot_tend(f.world.volume));
    if (is_killed)
        world_open(&f.world);
    film_check(&f);
    world_close(&f.world);
    film_check_list(&f, names);
    assert_false(film_has_unborn(&f));
    film_check_named(&f, "v1@x", f.frozen);
    film_check_sound(&f, "v1@x");
    film_end(&f);
}

static void
test_a_name_that_can_not_be_stored(void **state)
{
    (void)state;
    name_is_due(false);
    name_is_due(true);
}

/* ---- a target of a rollback that can't be read ---- */

static void
test_a_rollback_to_what_is_away(void **state)
{
    uint8_t *first = malloc(BYTES);
    struct film f;

    (void)state;
    assert_non_null(first);
    begin_with_snapshot(&f, &film_mirror);
    memcpy(first, f.frozen, BYTES);
    world_open(&f.world);
    film_snapshot(&f, "v1@y");
    world_close(&f.world);
    MUST(lsvd_snapshot_rollback(&f.world.env, "v1@x"));
    memcpy(f.model, first, BYTES);
    film_move(f.world.data, "12/a", f.world.path, "a");
    film_move(f.world.data, "12/b", f.world.path, "b");
    assert_true(lsvd_snapshot_rollback(&f.world.env, "v1@y") < 0);
    assert_non_null(strstr(lsvd_error(), "v1@y"));
    film_check_named(&f, NAME, f.model);
    assert_false(film_has_unborn(&f));
    film_check_traces(&f, 3, 1);
    film_move(f.world.path, "a", f.world.data, "12/a");
    film_move(f.world.path, "b", f.world.data, "12/b");
    MUST(lsvd_snapshot_rollback(&f.world.env, "v1@y"));
    memcpy(f.model, f.frozen, BYTES);
    film_check_named(&f, NAME, f.model);
    film_check_traces(&f, 3, 1);
    free(first);
    film_end(&f);
}

/* ---- chunk files that can't be asked ---- */

/* What a clone says is not known then: nothing is copied over it, and nothing
 * let go. */
static void
test_a_flatten_that_can_not_tell(void **state)
{
    struct faulty_io io;
    struct lsvd_info info;
    struct film f;

    (void)state;
    begin_with_snapshot(&f, &film_mirror);
    faulty_io_init(&io);
    f.world.env.io = &io.io;
    io.only = "1";
    io.refuse[0] = io.refuse[1] = REFUSE_READS;
    assert_int_equal(lsvd_flatten(&f.world.env, NAME, 0, NULL), -EIO);
    assert_true(io.refused > 0);
    io.refuse[0] = io.refuse[1] = 0;
    MUST(lsvd_info(&f.world.env, NAME, &info));
    assert_int_equal(info.parent_number, 11);
    film_check_named(&f, NAME, f.model);
    MUST(lsvd_rebuild(&f.world.env, NAME, 0, false, NULL,
                      &(struct lsvd_report){0}));
    MUST(lsvd_flatten(&f.world.env, NAME, 0, NULL));
    MUST(lsvd_info(&f.world.env, NAME, &info));
    assert_int_equal(info.parent_number, 0);
    film_check_named(&f, "v1@x", f.frozen);
    MUST(lsvd_remove(&f.world.env, "v1@x"));
    film_end(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_rollback_discarded_leads_to_the_volume),
        cmocka_unit_test(test_what_was_discarded_is_not_known_for_sure),
        cmocka_unit_test(test_what_leads_to_the_volume_stays),
        cmocka_unit_test(test_what_leads_nowhere_goes),
        cmocka_unit_test(test_a_leftover_does_not_keep_a_snapshot),
        cmocka_unit_test(test_a_leftover_of_a_volume_that_is_gone),
        cmocka_unit_test(test_a_leftover_of_a_volume_that_is_served),
        cmocka_unit_test(test_an_heir_is_no_leftover),
        cmocka_unit_test(test_a_removal_without_a_part_leaves_none_out),
        cmocka_unit_test(test_an_old_copy_does_not_hide_what_is_needed),
        cmocka_unit_test(test_an_old_copy_keeps_nothing),
        cmocka_unit_test(test_a_name_that_nobody_has),
        cmocka_unit_test(test_a_name_that_can_not_be_stored),
        cmocka_unit_test(test_a_rollback_to_what_is_away),
        cmocka_unit_test(test_a_flatten_that_can_not_tell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
