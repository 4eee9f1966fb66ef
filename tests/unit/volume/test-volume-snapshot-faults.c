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
    MUST(lsvd_snapshot_remove(&f->world.env, "v1@y", NULL));
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
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", NULL));
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
    MUST(lsvd_snapshot_remove(&f.world.env, "v1@x", NULL));
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_old_copy_does_not_hide_what_is_needed),
        cmocka_unit_test(test_an_old_copy_keeps_nothing),
        cmocka_unit_test(test_a_name_that_nobody_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
