/* What can't be kept of a moment costs who reads it, with one line, and never
 * who writes. */
#include "unit.h"
#include "base/memory.h"
#include "rig.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BROKEN "v1@now gets errors from now on"

static char file_name[64];

/* Filled, on its parts; of its cache directory only that file is refused. */
static struct rig *
begin(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);

    rig_open_filled(rig);
    (void)snprintf(file_name, sizeof file_name, "%s.now",
                   rig_status(rig)->uuid);
    rig->io.only = file_name;
    return rig;
}

static void
check(struct rig *rig, struct lsvd_moment *m, const uint8_t *was)
{
    MUST(lsvd_moment_pread(m, rig->found, BYTES, 0));
    assert_memory_equal(rig->found, was, BYTES);
}

static int
no_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    (void)ctx;
    (void)offset;
    (void)count;
    (void)is_data;
    return 0;
}

static void
check_broken(struct rig *rig, struct lsvd_moment *m)
{
    assert_int_equal(lsvd_moment_pread(m, rig->found, 1, 0), -EIO);
    assert_non_null(strstr(lsvd_error(), "v1@now"));
    assert_int_equal(lsvd_moment_pread(m, rig->found, CHUNK, CHUNK), -EIO);
    assert_int_equal(lsvd_moment_extents(m, BYTES, 0, no_extent, NULL), -EIO);
}

static unsigned
count_said(struct rig *rig, const char *text)
{
    unsigned count = 0;

    for (const char *at = rig->said; (at = strstr(at, text)); at++)
        count++;
    return count;
}

/* After some blocks could be kept, or before the file could be made. */
static void
refused(const struct kind *kind, unsigned what, bool keeps_before)
{
    struct rig *rig = begin(kind);
    struct lsvd_moment *m, *other, *next;
    uint8_t *was = malloc(BYTES);

    assert_non_null(was);
    memcpy(was, rig->model, BYTES);
    MUST(lsvd_moment_take(rig->world.volume, &m));
    MUST(lsvd_moment_take(rig->world.volume, &other));
    if (keeps_before)
        MUST(rig_write(rig, 3, CHUNK));
    check(rig, m, was);
    rig->io.refuse_cache[0] = what;
    MUST(rig_write(rig, 2 * CHUNK + 5, CHUNK));
    MUST(rig_trim(rig, 3 * CHUNK, 2 * CHUNK));
    MUST(lsvd_flush(rig->world.volume));
    assert_true(rig->io.refused > 0);
    check_broken(rig, m);
    check_broken(rig, other);
    assert_int_equal(count_said(rig, BROKEN), 2); /* one line for each */
    assert_int_equal(rig_status(rig)->now.broken, 2);
    assert_int_equal(rig_status(rig)->now.kept_bytes, 0);
    rig->io.refuse_cache[0] = 0;
    MUST(rig_write(rig, 0, CHUNK));
    check_broken(rig, m); /* what was missed stays so */
    memcpy(was, rig->model, BYTES);
    lsvd_moment_drop(m);
    MUST(lsvd_moment_take(rig->world.volume, &next));
    MUST(rig_trim(rig, 100, BYTES - 200));
    check(rig, next, was);
    lsvd_moment_drop(other);
    lsvd_moment_drop(next);
    rig_check(rig);
    free(was);
    rig_end(rig);
}

static void
test_the_file_refuses(void **state)
{
    (void)state;
    refused(&rig_mirror, REFUSE_WRITES, true);
    refused(&rig_mirror, REFUSE_WRITES, false);
    refused(&rig_ec, REFUSE_WRITES, true);
    refused(&rig_mirror, REFUSE_OPENS, false);
}

/* It can't be read for a while: those reads fail, the moment is whole. */
static void
test_the_file_can_not_be_read(void **state)
{
    struct rig *rig = begin(&rig_mirror);
    struct lsvd_moment *m;
    uint8_t *was = malloc(BYTES);

    (void)state;
    assert_non_null(was);
    memcpy(was, rig->model, BYTES);
    MUST(lsvd_moment_take(rig->world.volume, &m));
    MUST(rig_write(rig, CHUNK, CHUNK));
    rig->io.refuse_cache[0] = REFUSE_READS;
    assert_int_equal(lsvd_moment_pread(m, rig->found, BYTES, 0), -EIO);
    MUST(lsvd_moment_pread(m, rig->found, CHUNK, 0));
    MUST(rig_write(rig, 5 * CHUNK, 7));
    rig->io.refuse_cache[0] = 0;
    check(rig, m, was);
    assert_int_equal(count_said(rig, BROKEN), 0);
    lsvd_moment_drop(m);
    free(was);
    rig_end(rig);
}

/* Blocks are overwritten that nobody can read any more. */
static void
test_the_parts_refuse(void **state)
{
    struct rig *rig = begin(&rig_mirror);
    struct lsvd_moment *m;

    (void)state;
    MUST(lsvd_moment_take(rig->world.volume, &m));
    rig->io.only = NULL;
    rig->io.refuse[0] = rig->io.refuse[1] = REFUSE_READS;
    MUST(rig_write(rig, CHUNK, CHUNK));
    MUST(rig_trim(rig, 4 * CHUNK, CHUNK));
    check_broken(rig, m);
    assert_int_equal(count_said(rig, BROKEN), 1);
    rig->io.refuse[0] = rig->io.refuse[1] = 0;
    lsvd_moment_drop(m);
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    rig_end(rig);
}

/* ---- no memory ---- */

/* The write may fail for it, too, as it does with no moment there. Returns
 * whether the n-th allocation failed. */
static bool
short_of_memory(struct rig *rig, long nth, bool trims)
{
    uint8_t *was = malloc(BYTES), *now = malloc(CHUNK);
    struct lsvd_moment *m;
    bool failed;
    int r;

    assert_true(was && now);
    random_fill(&rig->random, now, CHUNK);
    memcpy(was, rig->model, BYTES);
    (void)mem_fail_after(nth);
    r = lsvd_moment_take(rig->world.volume, &m);
    if (r == 0) {
        int w = trims ? lsvd_trim(rig->world.volume, CHUNK, CHUNK / 2, 0)
                      : lsvd_pwrite(rig->world.volume, now, CHUNK, CHUNK / 2,
                                    0);

        assert_true(w == 0 || w == -ENOMEM);
        failed = mem_fail_after(-1);
        assert_true(w == 0 || failed);
        r = lsvd_moment_pread(m, rig->found, BYTES, 0);
        assert_true(r == 0 || (r == -EIO && failed));
        if (r == 0)
            assert_memory_equal(rig->found, was, BYTES);
        lsvd_moment_drop(m);
    } else {
        assert_int_equal(r, -ENOMEM);
        failed = mem_fail_after(-1);
    }
    MUST(rig_write(rig, CHUNK / 2, CHUNK)); /* whatever became of it */
    world_drain(&rig->world);
    free(was);
    free(now);
    return failed;
}

static void
test_no_memory(void **state)
{
    struct rig *rig = begin(&rig_mirror);
    long nth = 0;

    (void)state;
    while (short_of_memory(rig, nth, false))
        nth++;
    assert_true(nth > 6); /* at least: those of a moment itself */
    for (nth = 0; short_of_memory(rig, nth, true);)
        nth++;
    assert_true(nth > 6);
    rig_check(rig);
    rig_end(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_file_refuses),
        cmocka_unit_test(test_the_file_can_not_be_read),
        cmocka_unit_test(test_the_parts_refuse),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
