/* test-world.c: the simulated world keeps its promises and breaks what it
 * may break; the model notices what it must. */
#include "model.h"
#include "simio.h"
#include "target/target.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TRIES 200

struct world {
    struct simio *s;
    struct target *dir;
};

static struct world
world_new(uint64_t seed)
{
    struct world w = {.s = simio_new(seed)};
    struct io *io = simio_io(w.s);

    simio_make_dir(w.s, "/d");
    assert_int_equal(io->ops->open_dir(io, "/d", 0, &w.dir), 0);
    return w;
}

static void
world_reopen(struct world *w)
{
    struct io *io = simio_io(w->s);

    assert_int_equal(io->ops->open_dir(io, "/d", 0, &w->dir), 0);
}

static void
world_cut(struct world *w)
{
    w->dir->ops->close(w->dir);
    simio_power_cut(w->s);
    world_reopen(w);
}

static void
world_free(struct world *w)
{
    w->dir->ops->close(w->dir);
    simio_free(w->s);
}

static struct object *
make(struct world *w, const char *name)
{
    struct object *o;

    assert_int_equal(w->dir->ops->open(w->dir, name,
                                       OBJECT_WRITE | OBJECT_CREATE, &o), 0);
    return o;
}

static int
put(struct object *o, char letter, size_t bytes, uint64_t at)
{
    char *data = malloc(bytes);
    struct iovec iov = {.iov_base = data, .iov_len = bytes};
    int r;

    assert_non_null(data);
    memset(data, letter, bytes);
    r = o->ops->writev(o, &iov, 1, at);
    free(data);
    return r;
}

static char
get(struct object *o, uint64_t at)
{
    char c = 0;
    struct iovec iov = {.iov_base = &c, .iov_len = 1};

    assert_int_equal(o->ops->readv(o, &iov, 1, at), 0);
    return c;
}

/* The letter at `at` of a file after a cut; 0 if there is no such file. */
static char
look(struct world *w, const char *name, uint64_t at)
{
    struct object *o;
    char c;

    if (w->dir->ops->open(w->dir, name, 0, &o) < 0)
        return 0;
    c = get(o, at);
    o->ops->object_close(o);
    return c;
}

static void
test_synced_file_with_unsynced_name_can_go(void **state)
{
    int gone = 0, there = 0;

    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");

        assert_int_equal(put(o, 'a', 512, 0), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        o->ops->object_close(o);
        world_cut(&w);
        if (look(&w, "f", 0) == 0)
            gone++;
        else if (look(&w, "f", 0) == 'a')
            there++;
        world_free(&w);
    }
    assert_true(gone > 20);
    assert_true(there > 20);
    assert_int_equal(gone + there, TRIES);
}

static void
test_synced_name_and_bytes_stay(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");

        assert_int_equal(put(o, 'a', 5000, 100), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        assert_int_equal(w.dir->ops->sync(w.dir), 0);
        o->ops->object_close(o);
        world_cut(&w);
        assert_int_equal(look(&w, "f", 100), 'a');
        assert_int_equal(look(&w, "f", 5099), 'a');
        world_free(&w);
    }
}

/* Two unsynced writes over synced bytes: every sector is one of the three,
 * and all of them, and mixes among sectors, do come. */
static void
test_unsynced_writes_tear(void **state)
{
    int seen[3] = {0}, mixed = 0;

    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");
        char first;
        int same = 1;

        assert_int_equal(put(o, 'a', 4096, 0), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        assert_int_equal(w.dir->ops->sync(w.dir), 0);
        assert_int_equal(put(o, 'b', 4096, 0), 0);
        assert_int_equal(put(o, 'c', 4096, 0), 0);
        assert_int_equal(get(o, 9), 'c');
        o->ops->object_close(o);
        world_cut(&w);
        first = look(&w, "f", 0);
        for (uint64_t at = 0; at < 4096; at += 512) {
            char c = look(&w, "f", at);

            assert_true(c >= 'a' && c <= 'c');
            assert_int_equal(look(&w, "f", at + 511), c);
            same = same && c == first;
            seen[c - 'a']++;
        }
        mixed += !same;
        world_free(&w);
    }
    for (int i = 0; i < 3; i++)
        assert_true(seen[i] > 50);
    assert_true(mixed > 20);
}

static void
test_kill_loses_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");

        assert_int_equal(put(o, 'a', 4096, 0), 0);
        o->ops->object_close(o);
        w.dir->ops->close(w.dir);
        simio_kill(w.s);
        world_reopen(&w);
        assert_int_equal(look(&w, "f", 4000), 'a');
        world_free(&w);
    }
}

/* Pending bytes that survived a kill can still be lost to a power cut. */
static void
test_kill_makes_nothing_durable(void **state)
{
    int lost = 0;

    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");

        assert_int_equal(put(o, 'a', 512, 0), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        assert_int_equal(w.dir->ops->sync(w.dir), 0);
        assert_int_equal(put(o, 'b', 512, 0), 0);
        o->ops->object_close(o);
        w.dir->ops->close(w.dir);
        simio_kill(w.s);
        world_reopen(&w);
        assert_int_equal(look(&w, "f", 0), 'b');
        world_cut(&w);
        lost += look(&w, "f", 0) == 'a';
        world_free(&w);
    }
    assert_true(lost > 20);
}

static void
test_rename_is_old_or_new(void **state)
{
    int old = 0, new = 0;

    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");

        assert_int_equal(put(o, 'a', 512, 0), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        o->ops->object_close(o);
        assert_int_equal(w.dir->ops->sync(w.dir), 0);
        o = make(&w, "f.new");
        assert_int_equal(put(o, 'b', 512, 0), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        o->ops->object_close(o);
        assert_int_equal(w.dir->ops->rename(w.dir, "f.new", "f"), 0);
        world_cut(&w);
        old += look(&w, "f", 0) == 'a';
        new += look(&w, "f", 0) == 'b';
        world_free(&w);
    }
    assert_true(old > 20);
    assert_true(new > 20);
    assert_int_equal(old + new, TRIES);
}

static void
test_removed_file_can_come_back(void **state)
{
    int back = 0;

    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");

        assert_int_equal(put(o, 'a', 512, 0), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        o->ops->object_close(o);
        assert_int_equal(w.dir->ops->sync(w.dir), 0);
        assert_int_equal(w.dir->ops->remove(w.dir, "f"), 0);
        assert_int_equal(look(&w, "f", 0), 0);
        world_cut(&w);
        back += look(&w, "f", 0) == 'a';
        world_free(&w);
    }
    assert_true(back > 20);
    assert_true(back < TRIES);
}

/* After a sync that failed, a later one does not save what was lost. */
static void
test_failed_sync_can_lose_for_good(void **state)
{
    int lost = 0;

    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct world w = world_new(seed);
        struct object *o = make(&w, "f");

        assert_int_equal(put(o, 'a', 512, 0), 0);
        assert_int_equal(o->ops->object_sync(o), 0);
        assert_int_equal(w.dir->ops->sync(w.dir), 0);
        assert_int_equal(put(o, 'b', 512, 0), 0);
        simio_arm_failure(w.s, 1, -EIO);
        assert_int_equal(o->ops->object_sync(o), -EIO);
        assert_true(simio_failure_fired(w.s));
        assert_int_equal(get(o, 0), 'b');
        assert_int_equal(o->ops->object_sync(o), 0);
        o->ops->object_close(o);
        world_cut(&w);
        lost += look(&w, "f", 0) == 'a';
        world_free(&w);
    }
    assert_true(lost > 20);
}

static void
test_armed_cut_halts_the_world(void **state)
{
    struct world w = world_new(7);
    struct object *o = make(&w, "f");
    char c;
    struct iovec iov = {.iov_base = &c, .iov_len = 1};

    (void)state;
    simio_arm_cut(w.s, 2);
    assert_int_equal(put(o, 'a', 512, 0), 0);
    assert_false(simio_halted(w.s));
    assert_int_equal(put(o, 'b', 512, 0), -EIO);
    assert_true(simio_halted(w.s));
    assert_int_equal(o->ops->readv(o, &iov, 1, 0), -EIO);
    assert_int_equal(put(o, 'c', 512, 0), -EIO);
    assert_int_equal(o->ops->object_sync(o), -EIO);
    o->ops->object_close(o);
    w.dir->ops->close(w.dir);
    simio_kill(w.s);
    world_reopen(&w);
    c = look(&w, "f", 0);
    assert_true(c == 'a' || c == 'b');
    world_free(&w);
}

static void
test_holes_and_punches(void **state)
{
    struct world w = world_new(1);
    struct object *o = make(&w, "f");
    struct object_stat st;
    uint64_t begin, end;

    (void)state;
    assert_int_equal(o->ops->resize(o, 100000), 0);
    assert_int_equal(o->ops->next_data(o, 0, &begin, &end), -ENXIO);
    assert_int_equal(put(o, 'a', 8192, 8192), 0);
    assert_int_equal(o->ops->next_data(o, 0, &begin, &end), 0);
    assert_int_equal(begin, 8192);
    assert_int_equal(end, 16384);
    assert_int_equal(o->ops->stat(o, &st), 0);
    assert_int_equal(st.size_bytes, 100000);
    assert_int_equal(st.allocated_bytes, 8192);
    assert_int_equal(o->ops->punch(o, 8192, 4096), 0);
    assert_int_equal(get(o, 8192), 0);
    assert_int_equal(get(o, 12288), 'a');
    assert_int_equal(o->ops->next_data(o, 0, &begin, &end), 0);
    assert_int_equal(begin, 12288);
    o->ops->object_close(o);
    world_free(&w);
}

static void
test_locks(void **state)
{
    struct world w = world_new(1);
    struct object *a = make(&w, "f"), *b = make(&w, "f");

    (void)state;
    assert_int_equal(a->ops->lock(a, 0, 0, true), 0);
    assert_int_equal(b->ops->lock(b, 0, 0, true), -EBUSY);
    assert_int_equal(b->ops->is_locked(b, 0, 0), 1);
    assert_int_equal(a->ops->is_locked(a, 0, 0), 0);
    a->ops->object_close(a); /* and the lock with it */
    assert_int_equal(b->ops->lock(b, 0, 0, false), 0);
    a = make(&w, "f");
    assert_int_equal(a->ops->lock(a, 0, 0, false), 0);
    assert_int_equal(a->ops->lock(a, 0, 0, true), -EBUSY);
    a->ops->object_close(a);
    b->ops->object_close(b);
    world_free(&w);
}

static void
test_hidden_directory(void **state)
{
    struct world w = world_new(1);
    struct io *io = simio_io(w.s);
    struct target *t;

    (void)state;
    simio_make_dir(w.s, "/d/e/f");
    simio_hide(w.s, "/d/e", true);
    assert_int_equal(io->ops->open_dir(io, "/d/e/f", 0, &t), -ENOENT);
    assert_int_equal(io->ops->open_dir(io, "/d/e", DIR_CREATE, &t), -ENOENT);
    assert_int_equal(w.dir->ops->subdir(w.dir, "e", 0, &t), -ENOENT);
    simio_hide(w.s, "/d/e", false);
    assert_int_equal(io->ops->open_dir(io, "/d/e/f", 0, &t), 0);
    t->ops->close(t);
    world_free(&w);
}

static void
test_dead_and_full_media(void **state)
{
    struct world w = world_new(1);
    struct object *o = make(&w, "f"), *new;
    char c;
    struct iovec iov = {.iov_base = &c, .iov_len = 1};

    (void)state;
    assert_int_equal(put(o, 'a', 4096, 0), 0);
    simio_set_full(w.s, true);
    assert_int_equal(put(o, 'b', 512, 0), 0);
    assert_int_equal(put(o, 'b', 512, 4000), -ENOSPC);
    assert_int_equal(get(o, 4000), 'a');
    assert_int_equal(w.dir->ops->open(w.dir, "g",
                                      OBJECT_WRITE | OBJECT_CREATE, &new),
                     -ENOSPC);
    simio_set_full(w.s, false);
    assert_int_equal(put(o, 'b', 512, 4000), 0);
    simio_set_sick(w.s, "/d", -EIO);
    assert_int_equal(put(o, 'c', 512, 0), -EIO);
    assert_int_equal(o->ops->readv(o, &iov, 1, 0), -EIO);
    simio_set_sick(w.s, "/other", -ESTALE);
    assert_int_equal(put(o, 'c', 512, 0), -EIO);
    simio_set_sick(w.s, "/d", 0);
    assert_int_equal(get(o, 0), 'b');
    o->ops->object_close(o);
    world_free(&w);
}

static void
test_clone_is_independent(void **state)
{
    struct world w = world_new(3), copy;
    struct object *o = make(&w, "f");

    (void)state;
    assert_int_equal(put(o, 'a', 512, 0), 0);
    assert_int_equal(o->ops->object_sync(o), 0);
    assert_int_equal(w.dir->ops->sync(w.dir), 0);
    assert_int_equal(put(o, 'b', 512, 0), 0);
    copy.s = simio_clone(w.s, 1);
    simio_power_cut_with(copy.s, SIM_KEEP_NONE, 512);
    world_reopen(&copy);
    assert_int_equal(look(&copy, "f", 0), 'a');
    world_free(&copy);
    copy.s = simio_clone(w.s, 1);
    simio_power_cut_with(copy.s, SIM_KEEP_ALL, 512);
    world_reopen(&copy);
    assert_int_equal(look(&copy, "f", 0), 'b');
    world_free(&copy);
    assert_int_equal(get(o, 0), 'b');
    o->ops->object_close(o);
    world_free(&w);
}

/* ---- the model ---- */

static bool
image_is(struct model *m, const uint8_t *image)
{
    char why[512];

    return model_check_image(m, image, why, sizeof why);
}

static void
write_as(struct model *m, uint8_t *image, uint64_t at, size_t count,
         bool succeeded)
{
    uint8_t data[8192];

    model_fill(model_next_id(m), at, data, count);
    model_write_begin(m, at, count, data);
    model_write_end(m, succeeded, false);
    if (image)
        memcpy(image + at, data, count);
}

static void
test_model_power_cut(void **state)
{
    uint8_t old[16384] = {0}, flushed[16384] = {0}, last[16384];
    uint8_t mixed[16384];
    struct model *m = model_new(sizeof old, 4096);

    (void)state;
    write_as(m, flushed, 0, 4096, true);
    model_flushed(m);
    memcpy(last, flushed, sizeof last);
    write_as(m, last, 0, 4096, true);
    write_as(m, last, 4096, 4096, true);
    memcpy(mixed, flushed, sizeof mixed);
    memcpy(mixed, last, 512);
    model_crashed(m, true);
    assert_false(image_is(m, old));
    assert_false(image_is(m, mixed));
    assert_true(image_is(m, flushed));
    assert_false(image_is(m, last)); /* it was read: stable from now on */
    model_free(m);
}

static void
test_model_kill(void **state)
{
    uint8_t first[16384] = {0}, last[16384] = {0};
    struct model *m = model_new(sizeof first, 4096);

    (void)state;
    write_as(m, first, 0, 4096, true);
    memcpy(last, first, sizeof last);
    write_as(m, last, 512, 1024, true);
    model_crashed(m, false);
    assert_false(image_is(m, first));
    assert_true(image_is(m, last));
    model_free(m);
}

static void
test_model_uncertain_write(void **state)
{
    uint8_t before[16384] = {0}, after[16384], part[4096];
    struct model *m = model_new(sizeof before, 4096);
    char why[512];

    (void)state;
    write_as(m, before, 0, 4096, true);
    memcpy(after, before, sizeof after);
    write_as(m, after, 0, 4096, false);
    assert_true(model_check_read(m, 0, 4096, after, why, sizeof why));
    assert_false(model_check_read(m, 0, 4096, before, why, sizeof why));
    /* a part of a block, laid over what was read */
    memcpy(part, after, 4096);
    write_as(m, part, 100, 50, true);
    assert_true(model_check_read(m, 0, 4096, part, why, sizeof why));
    memcpy(after, part, 4096);
    model_crashed(m, true);
    assert_true(image_is(m, before));
    model_free(m);
}

static void
test_model_names_foreign_sectors(void **state)
{
    uint8_t image[16384] = {0};
    struct model *m = model_new(sizeof image, 4096);
    char why[512];

    (void)state;
    write_as(m, image, 0, 8192, true);
    memcpy(image + 8192, image, 4096); /* block 0 where block 2 should be */
    assert_false(model_check_image(m, image, why, sizeof why));
    assert_non_null(strstr(why, "block 2 "));
    assert_non_null(strstr(why, "write 1 of SECTOR 0"));
    model_free(m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synced_file_with_unsynced_name_can_go),
        cmocka_unit_test(test_synced_name_and_bytes_stay),
        cmocka_unit_test(test_unsynced_writes_tear),
        cmocka_unit_test(test_kill_loses_nothing),
        cmocka_unit_test(test_kill_makes_nothing_durable),
        cmocka_unit_test(test_rename_is_old_or_new),
        cmocka_unit_test(test_removed_file_can_come_back),
        cmocka_unit_test(test_failed_sync_can_lose_for_good),
        cmocka_unit_test(test_armed_cut_halts_the_world),
        cmocka_unit_test(test_holes_and_punches),
        cmocka_unit_test(test_locks),
        cmocka_unit_test(test_hidden_directory),
        cmocka_unit_test(test_dead_and_full_media),
        cmocka_unit_test(test_clone_is_independent),
        cmocka_unit_test(test_model_power_cut),
        cmocka_unit_test(test_model_kill),
        cmocka_unit_test(test_model_uncertain_write),
        cmocka_unit_test(test_model_names_foreign_sectors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
