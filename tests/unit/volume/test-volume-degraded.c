/* Volumes that start, and go on, without all of their parts; and what becomes
 * of a directory that comes back in a part's place: the part itself, an older
 * copy of it, another one, or one with a history of its own. */
#include "unit.h"
#include "base/io.h"
#include "meta/label.h"
#include "rig.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

static const struct kind *const kinds[] = {&rig_mirror, &rig_triple, &rig_ec,
                                           &rig_wide};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Filled, destaged, and stopped: no journal holds anything. */
static struct rig *
filled(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);

    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    return rig;
}

static void
end(struct rig *rig)
{
    rig_check(rig);
    rig_end(rig);
}

/* Opens, and may not be written. */
static void
open_read_only(struct rig *rig)
{
    assert_null(rig->world.volume);
    MUST(lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume));
    rig->threaded = false;
    assert_false(lsvd_can_write(rig->world.volume));
    assert_false(rig_status(rig)->writable);
    assert_int_equal(rig_write(rig, 0, BLOCK), -EROFS);
    rig_check(rig);
}

/* R3: nothing proves that what is here is the newest: not even for reading. */
static void
open_refused(struct rig *rig, const char *without)
{
    char text[32];

    assert_null(rig->world.volume);
    (void)snprintf(text, sizeof text, "without part %s ", without);
    for (unsigned flags = 0; flags < 2; flags++) {
        assert_int_equal(lsvd_open(&rig->world.env, NAME,
                                   flags ? LSVD_OPEN_READ_ONLY : 0,
                                   &rig->world.volume), -EIO);
        assert_non_null(strstr(lsvd_error(), text));
    }
}

/* Nothing in sight proves it. Here it is known that nothing newer was written
 * from here (JF8), so it is read; where nothing is known it is refused. */
static void
open_unproven(struct rig *rig, const char *without)
{
    char *cache = rig->world.cache, aside[320];

    open_read_only(rig);
    assert_true(rig_has_said(rig, "nothing newer was written"));
    rig_close(rig);
    (void)snprintf(aside, sizeof aside, "%s.aside", cache);
    assert_int_equal(rename(cache, aside), 0);
    assert_int_equal(mkdir(cache, 0700), 0);
    open_refused(rig, without);
    assert_int_equal(rmdir(cache), 0);
    assert_int_equal(rename(aside, cache), 0);
}

/* ---- starting with parts away ---- */

static void
test_start_without_one(void **state)
{
    (void)state;
    for (size_t i = 1; i < KINDS; i++) { /* for 2 replicas see below */
        struct rig *rig = filled(kinds[i]);

        rig_take_away(rig, 'b');
        rig_open(rig, false);
        assert_int_equal(rig_status(rig)->health, LSVD_DEGRADED);
        assert_int_equal(rig_status(rig)->part[1].state, LSVD_PART_MISSING);
        assert_true(rig_has_said(rig, "part b is not there at the start"));
        rig_check(rig);
        rig_touch(rig, 2, 2);
        world_drain(&rig->world);
        /* what its own label says is not known while it is away */
        assert_in_range(rig_status(rig)->part[1].lag_chunks, 2, CHUNKS);
        rig_put_back(rig, 'b');
        rig_until(rig, rig_is_healthy, 0);
        assert_int_equal(rig_status(rig)->resync.copied, 2);
        assert_int_equal(rig_status(rig)->part[1].lag_chunks, 0);
        end(rig);
    }
}

/* Nothing has changed: nothing is copied. */
static void
test_back_before_anything_changed(void **state)
{
    (void)state;
    for (size_t i = 1; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);

        rig_take_away(rig, 'b');
        rig_open(rig, false);
        rig_put_back(rig, 'b');
        rig_until(rig, rig_is_healthy, 0);
        assert_int_equal(rig_status(rig)->resync.copied, 0);
        end(rig);
    }
}

/* One that was left behind, and is all that is left: what is known here is that
 * it is old. */
static void
test_left_behind_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig *rig = filled(i ? &rig_triple : &rig_mirror);

        rig_open(rig, false);
        rig_take_away(rig, 'b');
        rig_touch(rig, 1, 2);
        rig_until(rig, rig_has_dropped, 1);
        rig_close(rig);
        rig_put_back(rig, 'b');
        rig_take_away(rig, 'a');
        if (i)
            rig_take_away(rig, 'c');
        for (unsigned flags = 0; flags < 2; flags++)
            assert_int_equal(lsvd_open(&rig->world.env, NAME,
                                       flags ? LSVD_OPEN_READ_ONLY : 0,
                                       &rig->world.volume), -EIO);
        rig_put_back(rig, 'a');
        if (i)
            rig_put_back(rig, 'c');
        rig_open(rig, false);
        rig_until(rig, rig_is_healthy, 0);
        end(rig);
    }
}

/* R6: of two copies that were last seen together one alone proves nothing: the
 * other may have gone on without it. With the journal, which knows, it may. */
static void
test_one_of_two(void **state)
{
    struct rig *rig = filled(&rig_mirror);

    (void)state;
    rig_take_away(rig, 'a');
    open_unproven(rig, "a");
    rig_put_back(rig, 'a');
    rig_open(rig, false);
    rig_touch(rig, 1, 1);
    rig_kill(rig);
    rig_take_away(rig, 'a');
    rig_open(rig, false);
    rig_check(rig);
    rig_touch(rig, 2, 1);
    rig_close(rig);
    /* now the label of the one says that it is the only one */
    rig_open(rig, false);
    rig_check(rig);
    rig_touch(rig, 3, 1);
    rig_close(rig);
    /* and the other one by itself is not believed */
    rig_take_away(rig, 'b');
    rig_put_back(rig, 'a');
    assert_int_equal(lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume),
                     -EIO);
    assert_non_null(strstr(lsvd_error(), "part a is stale"));
    rig_put_back(rig, 'b');
    rig_open(rig, false);
    rig_until(rig, rig_is_healthy, 0);
    assert_in_range(rig_status(rig)->resync.copied, 2, 3);
    end(rig);
}

/* It is open read-only; the first of those that are away is enough. */
static void
becomes_writable(struct rig *rig, const char *away)
{
    char in_use = strchr(away, 'a') ? 'b' : 'a';

    assert_true(lsvd_awaits_parts(rig->world.volume));
    assert_false(lsvd_parts_are_back(rig->world.volume));
    rig_put_back(rig, *away);
    rig_take_away(rig, in_use); /* AW2: what is open could not be had again */
    assert_false(lsvd_parts_are_back(rig->world.volume));
    rig_put_back(rig, in_use);
    assert_true(lsvd_parts_are_back(rig->world.volume));
    rig_check(rig);
    assert_int_equal(rig_write(rig, 0, BLOCK), -EROFS);
    rig_close(rig);
    rig_open(rig, false);
    assert_false(lsvd_awaits_parts(rig->world.volume));
    rig_check(rig);
    rig_touch(rig, 0, CHUNKS);
}

/* Too few to write, enough to read; and with them back, all is as it was. */
static void
test_too_few_to_write(void **state)
{
    static const struct {
        const struct kind *kind;
        const char *away;
        bool killed; /* the journal is there and says who is in sync */
        const char *refused; /* nothing says it; NULL: may be read */
    } cases[] = {
        {&rig_triple, "ab", false, "a and b"},
        {&rig_triple, "ac", true, NULL},
        {&rig_wide, "bf", false, NULL},
        {&rig_wide, "ac", true, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig *rig = filled(cases[i].kind);

        rig_open(rig, false);
        rig_touch(rig, 0, CHUNKS);
        if (cases[i].killed)
            rig_kill(rig);
        else
            rig_close(rig);
        for (const char *p = cases[i].away; *p; p++)
            rig_take_away(rig, *p);
        if (cases[i].refused) {
            open_unproven(rig, cases[i].refused);
        } else {
            open_read_only(rig);
            assert_true(rig_has_said(rig, "read-only until they are back"));
            becomes_writable(rig, cases[i].away);
        }
        for (const char *p = cases[i].away; *p; p++)
            if (cases[i].refused || p > cases[i].away)
                rig_put_back(rig, *p);
        if (cases[i].refused)
            rig_open(rig, false);
        rig_until(rig, rig_is_healthy, 0);
        end(rig);
    }
}

static void
test_too_few_to_read(void **state)
{
    struct rig *rig = filled(&rig_ec);

    (void)state;
    rig_take_away(rig, 'b');
    rig_take_away(rig, 'c');
    assert_int_equal(lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume),
                     -EIO);
    assert_non_null(strstr(lsvd_error(), "1 of the 2 parts needed"));
    rig_put_back(rig, 'c');
    rig_open(rig, false);
    rig_check(rig);
    rig_put_back(rig, 'b');
    rig_until(rig, rig_is_healthy, 0);
    end(rig);
}

/* Started again and again without it, by stopping and by dying. */
static void
restarts(const struct kind *kind, unsigned count, uint64_t chunks)
{
    struct rig *rig = filled(kind);
    uint64_t total = 0;

    rig_take_away(rig, 'b');
    for (unsigned i = 0; i < count; i++) {
        rig_open(rig, false);
        assert_int_equal(rig_status(rig)->health, LSVD_DEGRADED);
        rig_check(rig);
        rig_touch(rig, i % 3, 1);
        if (i % 2)
            rig_kill(rig);
        else
            rig_close(rig);
    }
    rig_put_back(rig, 'b');
    rig_open(rig, false);
    rig_until(rig, rig_is_healthy, 0);
    total = rig_status(rig)->resync.copied;
    assert_int_equal(total, chunks);
    rig_check_from(rig, kind->replicas ? 2 : ~1u);
    end(rig);
}

static void
test_restarts(void **state)
{
    (void)state;
    for (size_t i = 1; i < KINDS; i++)
        restarts(kinds[i], 6, 3);
}

/* For longer than the volume keeps its history: then all of it is copied. */
static void
test_away_for_long(void **state)
{
    (void)state;
    restarts(&rig_triple, 70, CHUNKS);
}

/* One after the other is away; each comes back with what it lacked. */
static void
test_taking_turns(void **state)
{
    (void)state;
    for (size_t i = 1; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);

        rig_open(rig, false);
        for (unsigned turn = 0; turn < 6; turn++) {
            uint32_t slot = turn % rig_status(rig)->part_count;

            rig_take_away(rig, (char)('a' + slot));
            rig_until(rig, rig_has_dropped, slot);
            rig_touch(rig, turn % 4, 2);
            world_drain(&rig->world);
            rig_put_back(rig, (char)('a' + slot));
            rig_until(rig, rig_is_healthy, 0);
            assert_int_equal(rig_status(rig)->resync.copied, 2);
            rig_check_from(rig, kinds[i]->replicas ? 1u << slot
                                                   : ~(2u << slot));
        }
        assert_int_equal(rig_status(rig)->returns, 6);
        end(rig);
    }
}

/* ---- what was a hole, and what became one, while it was away ---- */

static void
test_holes(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);
        struct stat st;
        char path[512];

        rig_open(rig, false);
        MUST(rig_trim(rig, 6 * CHUNK, CHUNK)); /* to be written again */
        world_drain(&rig->world);
        rig_take_away(rig, 'b');
        rig_until(rig, rig_has_dropped, 1);
        MUST(rig_trim(rig, 3 * CHUNK, CHUNK));
        MUST(rig_trim(rig, 4 * CHUNK, CHUNK / 2));
        MUST(rig_trim(rig, 5 * CHUNK, CHUNK));
        world_drain(&rig->world);
        rig_touch(rig, 5, 2);
        world_drain(&rig->world);
        rig_put_back(rig, 'b');
        world_path(&rig->world, "b/4", path);
        assert_int_equal(stat(path, &st), 0);
        rig_until(rig, rig_is_healthy, 0);
        assert_int_equal(stat(path, &st), -1);
        assert_int_equal(rig_status(rig)->resync.copied, 3);
        rig_check_from(rig, kinds[i]->replicas ? 2 : ~1u);
        end(rig);
    }
}

/* It is away again before it is filled, more is written, and it comes back:
 * what it has got is not copied twice. */
static void
test_away_while_it_is_filled(void **state)
{
    struct rig *rig = filled(&rig_triple);
    uint64_t first;

    (void)state;
    rig_open(rig, false);
    rig_take_away(rig, 'b');
    rig_until(rig, rig_has_dropped, 1);
    rig_touch(rig, 0, CHUNKS);
    world_drain(&rig->world);
    rig_put_back(rig, 'b');
    lsvd_watch(rig->world.volume);
    for (unsigned i = 0; i < 4; i++)
        MUST(lsvd_destage_step(rig->world.volume));
    first = rig_status(rig)->resync.copied;
    assert_in_range(first, 1, 4);
    assert_int_equal(rig_status(rig)->part[1].state, LSVD_PART_SYNCING);
    rig->io.refuse[1] = REFUSE_WRITES | REFUSE_READS | REFUSE_SYNCS;
    rig_touch(rig, 7, 1);
    rig_look(rig, 3);
    assert_true(rig_has_said(rig, "filling part b has ended early"));
    rig_check(rig);
    rig->io.refuse[1] = 0;
    rig_until(rig, rig_is_healthy, 0);
    assert_true(rig_status(rig)->resync.copied <= CHUNKS);
    rig_check_from(rig, 2);
    end(rig);
}

/* ---- while it serves ---- */

/* The directory is removed with all that is in it; in its place is nothing,
 * then an empty directory (what is below a mount point). That is no part, and
 * nothing is put there. */
static void
test_removed_while_serving(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);
        struct lsvd_report report;
        char path[512];

        rig_open(rig, false);
        rig_touch(rig, 0, 2);
        rig_delete(rig, 'b');
        rig_touch(rig, 2, 2);
        rig_until(rig, rig_has_dropped, 1);
        rig_check(rig);
        assert_int_equal(rig_status(rig)->part[1].state, LSVD_PART_MISSING);
        world_path(&rig->world, "b", path);
        assert_int_equal(mkdir(path, 0700), 0);
        rig_touch(rig, 4, 2);
        rig_look(rig, 4);
        assert_true(rig_has_dropped(rig_status(rig), 1));
        assert_non_null(strstr(rig_status(rig)->part[1].problem,
                               "is its file system mounted?"));
        assert_int_equal(rmdir(path), 0); /* it is still empty */
        rig_check(rig);
        rig_close(rig);
        MUST(lsvd_replace(&rig->world.env, NAME, 'b', NULL, NULL, &report));
        assert_true(report.policy_met);
        rig_open(rig, false);
        assert_true(rig_status(rig)->healthy);
        rig_check_from(rig, kinds[i]->replicas ? 2 : ~1u);
        end(rig);
    }
}

/* The same while requests arrive, and nobody but the threads looks. */
static void
test_moved_away_under_threads(void **state)
{
    struct rig *rig = filled(&rig_triple);

    (void)state;
    rig_open(rig, true);
    rig_touch(rig, 0, 2);
    rig_take_away(rig, 'c');
    rig_until(rig, rig_has_dropped, 2);
    rig_touch(rig, 1, 2);
    rig_put_back(rig, 'c');
    rig_until(rig, rig_is_healthy, 0);
    assert_true(rig_status(rig)->resync.copied <= 3);
    end(rig);
}

/* ---- something else in its place ---- */

/* From last week's backup: while the volume was stopped, … */
static void
test_old_copy_offline(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);

        rig_back_up(rig, 'b');
        rig_open(rig, false);
        rig_touch(rig, 1, 3);
        rig_close(rig);
        rig_restore(rig, 'b');
        if (kinds[i] == &rig_mirror) { /* as if it were not there: R6 */
            open_unproven(rig, "b");
            assert_true(rig_has_said(rig, "part b is stale"));
            rig_free(rig);
            continue;
        }
        rig_open(rig, false);
        assert_int_equal(rig_status(rig)->health, LSVD_DEGRADED);
        rig_check_from(rig, ~2u);
        rig_until(rig, rig_is_healthy, 0);
        assert_int_equal(rig_status(rig)->resync.copied, 3);
        rig_check_from(rig, kinds[i]->replicas ? 2 : ~1u);
        end(rig);
    }
}

/* … and while it served. */
static void
test_old_copy_while_serving(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);

        rig_back_up(rig, 'b');
        rig_open(rig, false);
        rig_touch(rig, 1, 3);
        world_drain(&rig->world);
        rig_restore(rig, 'b');
        rig_until(rig, rig_has_dropped, 1);
        rig_touch(rig, 5, 1);
        rig_check(rig);
        rig_until(rig, rig_is_healthy, 0);
        assert_int_equal(rig_status(rig)->resync.copied, 4);
        rig_check_from(rig, kinds[i]->replicas ? 2 : ~1u);
        end(rig);
    }
}

static void
swap(struct rig *rig, const char *one, const char *other)
{
    char first[512], second[512], aside[512];

    world_path(&rig->world, one, first);
    world_path(&rig->world, other, second);
    world_path(&rig->world, "aside", aside);
    assert_int_equal(rename(first, aside), 0);
    assert_int_equal(rename(second, first), 0);
    assert_int_equal(rename(aside, second), 0);
}

/* A part is what its label says, wherever it lies. */
static void
test_swapped(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);

        swap(rig, "a", "b");
        rig_open(rig, false);
        assert_true(rig_status(rig)->healthy);
        rig_check(rig);
        rig_touch(rig, 0, CHUNKS);
        rig_close(rig);
        swap(rig, "a", "b");
        rig_open(rig, false);
        assert_true(rig_status(rig)->healthy);
        end(rig);
    }
}

/* While it serves: both are gone then, and are found when each is back in its
 * place. Nothing is written to the one for the other. */
static void
test_swapped_while_serving(void **state)
{
    struct rig *rig = filled(&rig_triple);

    (void)state;
    rig_open(rig, false);
    swap(rig, "a", "b");
    rig_touch(rig, 0, 2);
    rig_look(rig, 4);
    rig_check(rig);
    swap(rig, "a", "b");
    rig_until(rig, rig_is_healthy, 0);
    end(rig);
}

/* The label as it is in this directory. */
static struct label
label_in(struct rig *rig, const char *part)
{
    struct target *dir = NULL;
    struct label label;
    char path[512];
    int damaged;

    world_path(&rig->world, part, path);
    MUST(io_system()->ops->open_dir(io_system(), path, 0, &dir));
    MUST(label_load(dir, &label, &damaged));
    target_close(dir);
    return label;
}

/* A directory that is not the part lies in its place: the volume does without,
 * says why, and writes nothing there. */
static void
stranger_in_place(struct rig *rig, bool serving, const char *why)
{
    struct label before = label_in(rig, "b"), after;

    if (!serving)
        rig_open(rig, false);
    rig_until(rig, rig_has_dropped, 1);
    rig_touch(rig, 0, 2);
    rig_look(rig, 4);
    rig_check(rig);
    assert_int_equal(rig_status(rig)->health, LSVD_DEGRADED);
    if (!strstr(rig_status(rig)->part[1].problem, why))
        fail_msg("%s: %s", why, rig_status(rig)->part[1].problem);
    after = label_in(rig, "b");
    assert_int_equal(after.write_count, before.write_count);
    assert_int_equal(after.promised, before.promised);
}

static void
remove_place(struct rig *rig)
{
    rig_delete(rig, 'b');
    rig_put_back(rig, 'b');
    rig_until(rig, rig_is_healthy, 0);
    end(rig);
}

/* A part of another volume. */
static void
test_foreign(void **state)
{
    (void)state;
    for (int serving = 0; serving < 2; serving++) {
        struct rig *rig = filled(&rig_triple);
        struct lsvd_create spec = {.name = "other", .size_bytes = BYTES,
                                   .chunk_bytes = CHUNK, .replicas = 3,
                                   .journal_bytes = 1 << 20};
        char from[512], to[512];

        MUST(lsvd_create(&rig->world.env, &spec));
        (void)snprintf(from, sizeof from, "%s/12/b", rig->world.data);
        world_path(&rig->world, "b", to);
        if (serving)
            rig_open(rig, false);
        rig_take_away(rig, 'b');
        rig_copy(rig, from, to);
        stranger_in_place(rig, serving, "another volume");
        remove_place(rig);
    }
}

/* One directory for two letters. */
static void
test_twice(void **state)
{
    struct rig *rig = filled(&rig_triple);
    char from[512], to[512];

    (void)state;
    world_path(&rig->world, "a", from);
    world_path(&rig->world, "b", to);
    rig_take_away(rig, 'b');
    rig_copy(rig, from, to);
    assert_int_equal(lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume),
                     -EINVAL);
    assert_non_null(strstr(lsvd_error(), "part a is there twice"));
    rig_delete(rig, 'b');
    rig_open(rig, false);
    rig_copy(rig, from, to);
    rig_look(rig, 3);
    assert_true(rig_has_dropped(rig_status(rig), 1));
    rig_check(rig);
    remove_place(rig);
}

/* A label that a later version of the programs wrote. */
static void
test_from_the_future(void **state)
{
    (void)state;
    for (int serving = 0; serving < 2; serving++) {
        struct rig *rig = filled(&rig_triple);
        struct target *dir = NULL;
        struct label label;
        char path[512];
        uint8_t bytes[LABEL_SLOT_BYTES];
        struct object *object = NULL;

        if (serving)
            rig_open(rig, false);
        rig_back_up(rig, 'b');
        label = label_in(rig, "b");
        label.incompat |= UINT64_C(1) << 40;
        label.write_count++;
        world_path(&rig->world, "b", path);
        MUST(io_system()->ops->open_dir(io_system(), path, 0, &dir));
        MUST(target_open(dir, LABEL_NAME, OBJECT_WRITE, &object));
        for (int slot = 0; slot < 2; slot++) {
            label_encode(&label, bytes);
            MUST(object_write(object, bytes, sizeof bytes,
                              (uint64_t)slot * sizeof bytes));
        }
        object_close(object);
        target_close(dir);
        if (!serving)
            rig_open(rig, false);
        rig_look(rig, 3);
        assert_true(rig_has_dropped(rig_status(rig), 1));
        rig_touch(rig, 1, 1);
        rig_check(rig);
        rig_restore(rig, 'b');
        rig_until(rig, rig_is_healthy, 0);
        end(rig);
    }
}

/* ---- histories that have parted ---- */

/* c is part of a history of its own: {b, c} went on from the same state, while
 * {a, b} did, too, from a copy of it. */
static struct rig *
diverged(void)
{
    struct rig *rig = filled(&rig_triple);
    uint8_t model[BYTES];

    for (char p = 'a'; p <= 'c'; p++)
        rig_back_up(rig, p);
    memcpy(model, rig->model, sizeof model);
    rig_take_away(rig, 'a');
    rig_open(rig, false);
    rig_touch(rig, 1, 1);
    rig_close(rig);
    rig_take_away(rig, 'c'); /* with the other history */
    memcpy(rig->model, model, sizeof model);
    rig_restore(rig, 'a');
    rig_restore(rig, 'b');
    rig_open(rig, false);
    rig_touch(rig, 2, 1);
    return rig;
}

static void
assert_left_alone(struct rig *rig, const struct label *before)
{
    struct label after = label_in(rig, "c");
    struct lsvd_status *s;

    assert_int_equal(after.write_count, before->write_count);
    s = rig_status(rig);
    assert_int_equal(s->part[2].state, LSVD_PART_DIVERGED);
    assert_int_equal(s->health, LSVD_DEGRADED);
    assert_non_null(strstr(s->part[2].problem, "its history is at "));
    assert_non_null(strstr(s->part[2].problem, ", the volume's at "));
    assert_non_null(strstr(s->part[2].problem, "lsvd-repair replace"));
    rig_check(rig);
}

static void
test_diverged(void **state)
{
    struct rig *rig = diverged();
    struct lsvd_report report;
    struct label before;

    (void)state;
    rig_put_back(rig, 'c');
    before = label_in(rig, "c");
    rig_until(rig, rig_has_diverged, 2);
    rig_touch(rig, 0, CHUNKS);
    rig_look(rig, 4);
    assert_left_alone(rig, &before);
    assert_true(rig_has_said(rig, "part c is not taken back"));
    rig_close(rig);
    /* after a restart, too */
    rig_open(rig, false);
    rig_until(rig, rig_has_diverged, 2);
    rig_look(rig, 4);
    assert_left_alone(rig, &before);
    rig_close(rig);
    MUST(lsvd_replace(&rig->world.env, NAME, 'c', NULL, NULL, &report));
    rig_open(rig, false);
    assert_true(rig_status(rig)->healthy);
    rig_check_from(rig, 4);
    end(rig);
}

/* At the start, with views of the same number: the one that is not on all its
 * members does not count. When nothing says which one that is, it is not
 * guessed. */
static void
test_diverged_at_start(void **state)
{
    struct rig *rig = diverged();
    struct label a, c;

    (void)state;
    rig_close(rig);
    rig_put_back(rig, 'c');
    a = label_in(rig, "a");
    c = label_in(rig, "c");
    assert_int_equal(view_id_compare(&a.view.id, &c.view.id), 0);
    rig_take_away(rig, 'b');
    assert_int_equal(lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume),
                     -EEXIST);
    assert_non_null(strstr(lsvd_error(), "diverged"));
    rig_put_back(rig, 'b');
    rig_open(rig, false);
    rig_check(rig);
    rig_until(rig, rig_has_diverged, 2);
    assert_left_alone(rig, &c);
    rig_free(rig);
}

/* ---- parts that are being replaced ---- */

static bool
after_some(void *ctx)
{
    unsigned *left = ctx;

    if (*left == 0)
        return true;
    (*left)--;
    return false;
}

/* A replacement that was cut short is filled by the server. */
static void
test_half_replaced(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = filled(kinds[i]);
        struct lsvd_repair_callbacks cb = {.cancelled = after_some};
        struct lsvd_report report;
        unsigned left = 3;

        cb.ctx = &left;
        rig_delete(rig, 'b');
        assert_int_equal(lsvd_replace(&rig->world.env, NAME, 'b', NULL, &cb,
                                      &report), -EINTR);
        assert_int_equal(label_in(rig, "b").state, LABEL_INIT);
        rig_open(rig, false);
        assert_int_equal(rig_status(rig)->health, LSVD_DEGRADED);
        rig_touch(rig, 6, 1);
        rig_check(rig);
        rig_until(rig, rig_is_healthy, 0);
        assert_int_equal(label_in(rig, "b").state, LABEL_LIVE);
        rig_check_from(rig, kinds[i]->replicas ? 2 : ~1u);
        end(rig);
    }
}

/* ---- what else may be asked of a degraded volume ---- */

static void
test_append_only(void **state)
{
    struct rig *rig = rig_new(&rig_triple);

    (void)state;
    MUST(lsvd_set(&rig->world.env, NAME, "append-only", "on"));
    rig_open(rig, false);
    MUST(rig_write(rig, 0, CHUNK));
    world_drain(&rig->world);
    rig_take_away(rig, 'b');
    rig_until(rig, rig_has_dropped, 1);
    MUST(rig_write(rig, CHUNK, CHUNK));
    assert_int_equal(rig_write(rig, 0, BLOCK), -EPERM);
    world_drain(&rig->world);
    assert_int_equal(rig_write(rig, CHUNK, BLOCK), -EPERM);
    rig_put_back(rig, 'b');
    rig_until(rig, rig_is_healthy, 0);
    assert_int_equal(rig_write(rig, CHUNK, BLOCK), -EPERM);
    MUST(rig_write(rig, 2 * CHUNK, CHUNK));
    rig_check_from(rig, 2);
    end(rig);
}

static void
test_resize(void **state)
{
    struct rig *rig = filled(&rig_triple);
    struct lsvd_info info;

    (void)state;
    rig_take_away(rig, 'b');
    rig_open(rig, false);
    rig_close(rig);
    assert_true(lsvd_resize(&rig->world.env, NAME, 2 * BYTES, false) < 0);
    assert_non_null(strstr(lsvd_error(), "part b is missing"));
    MUST(lsvd_info(&rig->world.env, NAME, &info));
    assert_int_equal(info.size_bytes, BYTES);
    rig_put_back(rig, 'b');
    rig_open(rig, false);
    rig_until(rig, rig_is_healthy, 0);
    rig_close(rig);
    MUST(lsvd_resize(&rig->world.env, NAME, 2 * BYTES, false));
    rig_open(rig, false);
    end(rig);
}

static const struct kind single = {.replicas = 1, .block_bytes = BLOCK,
                                   .chunk_bytes = CHUNK, .size_bytes = BYTES};

/* The only part comes back with a chunk table that is damaged: what its files
 * say of themselves is all that is known. */
static void
test_back_with_a_damaged_table(void **state)
{
    struct rig *rig = filled(&single);
    char path[512];
    struct stat st;

    (void)state;
    rig_open(rig, false);
    world_path(&rig->world, "a/.chunks", path);
    assert_int_equal(stat(path, &st), 0);
    for (int64_t at = 100; at < st.st_size; at += 4096)
        world_flip(&rig->world, "a/.chunks", at);
    rig_take_away(rig, 'a');
    rig_until(rig, rig_has_dropped, 0);
    rig_put_back(rig, 'a');
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    rig_touch(rig, 0, CHUNKS);
    rig_close(rig);
    rig_open(rig, false);
    end(rig);
}

/* D6: what is in place when the only part goes away, before its table says so,
 * is not put there again when it is back. */
static void
test_back_with_a_batch_in_place(void **state)
{
    static const struct utimbuf long_ago = {.actime = 1, .modtime = 1};
    struct rig *rig = rig_new(&single);
    struct stat st;
    char path[512];

    (void)state;
    rig_open(rig, false);
    assert_int_equal(rig_write(rig, 3 * CHUNK, BLOCK), 0);
    rig->io.only = ".chunks";
    rig->io.refuse[0] = REFUSE_WRITES;
    assert_int_equal(lsvd_destage_step(rig->world.volume), -EIO);
    world_path(&rig->world, "a/4", path);
    assert_int_equal(utime(path, &long_ago), 0);
    rig_take_away(rig, 'a');
    rig_until(rig, rig_has_dropped, 0);
    rig->io.refuse[0] = 0;
    rig_put_back(rig, 'a');
    rig_until(rig, rig_is_healthy, 0);
    assert_true(rig_has_said(rig, "nothing was written without it"));
    world_drain(&rig->world);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mtime, long_ago.modtime);
    end(rig);
}

/* A root that is named otherwise than the volume has it, as by a shell that
 * completes names, is no second place; above all not one that is in use. */
static void
test_a_root_by_another_path(void **state)
{
    char slash[320], link[320];
    const char *const path[] = {slash, link};

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        for (size_t k = 0; k < 2; k++) {
            struct rig *rig = filled(kinds[i]);

            (void)snprintf(slash, sizeof slash, "%s/", rig->world.data);
            (void)snprintf(link, sizeof link, "%s/link", rig->world.path);
            assert_int_equal(symlink(rig->world.data, link), 0);
            rig->world.data_list[0] = path[k];
            rig_open(rig, false); /* in health */
            rig_touch(rig, 1, 1);
            rig_kill(rig);
            rig_take_away(rig, 'b');
            rig_open(rig, false);
            rig_check(rig);
            rig_touch(rig, 2, 1);
            rig_put_back(rig, 'b');
            rig_until(rig, rig_is_healthy, 0);
            end(rig);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_without_one),
        cmocka_unit_test(test_back_before_anything_changed),
        cmocka_unit_test(test_left_behind_alone),
        cmocka_unit_test(test_one_of_two),
        cmocka_unit_test(test_too_few_to_write),
        cmocka_unit_test(test_too_few_to_read),
        cmocka_unit_test(test_restarts),
        cmocka_unit_test(test_away_for_long),
        cmocka_unit_test(test_taking_turns),
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_away_while_it_is_filled),
        cmocka_unit_test(test_removed_while_serving),
        cmocka_unit_test(test_moved_away_under_threads),
        cmocka_unit_test(test_old_copy_offline),
        cmocka_unit_test(test_old_copy_while_serving),
        cmocka_unit_test(test_swapped),
        cmocka_unit_test(test_swapped_while_serving),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_from_the_future),
        cmocka_unit_test(test_diverged),
        cmocka_unit_test(test_diverged_at_start),
        cmocka_unit_test(test_half_replaced),
        cmocka_unit_test(test_append_only),
        cmocka_unit_test(test_back_with_a_damaged_table),
        cmocka_unit_test(test_back_with_a_batch_in_place),
        cmocka_unit_test(test_a_root_by_another_path),
        cmocka_unit_test(test_resize),
    };

    return cmocka_run_group_tests_name("volume-degraded", tests, NULL, NULL);
}
