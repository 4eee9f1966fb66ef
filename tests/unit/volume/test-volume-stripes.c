/* How the parts are asked for what is read, and how often. */
#include "unit.h"
#include "rig.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_BLOCKS = CHUNK / BLOCK, WIDE_DATA = 4, WIDE_PARITY = 2 };

/* Filled and stopped; opened with nothing in RAM. */
static struct rig *
cold(const struct kind *kind, unsigned deadline_ms)
{
    struct rig *rig = rig_new(kind);

    if (deadline_ms > 0)
        rig_guard(rig, deadline_ms);
    rig_open_filled(rig);
    rig_close(rig);
    rig_open(rig, false);
    return rig;
}

static void
flip(struct rig *rig, char part, unsigned chunk, int64_t at)
{
    char name[32];

    (void)snprintf(name, sizeof name, "%c/%u", part, chunk);
    world_flip(&rig->world, name, at);
}

/* One disk's time, not the sum of four. */
static void
test_parts_are_read_side_by_side(void **state)
{
    struct rig *rig = cold(&rig_wide, 60000);
    uint8_t block[BLOCK];

    (void)state;
    for (uint64_t i = 0; i < WIDE_DATA; i++) /* all files are open then */
        MUST(lsvd_pread(rig->world.volume, block, BLOCK, i * BLOCK));
    rig->io.together_reads = WIDE_DATA;
    MUST(lsvd_pread(rig->world.volume, rig->found, CHUNK / 2, CHUNK / 2));
    assert_memory_equal(rig->found, rig->model + CHUNK / 2, CHUNK / 2);
    assert_int_equal(rig->io.together_reads, 0);
    assert_false(rig->io.apart);
    rig_end(rig);
}

/* All rows of a fragment that is away at once: not one part after the other
 * for each block. */
static void
test_rows_are_computed_together(void **state)
{
    struct rig *rig = cold(&rig_wide, 0);
    unsigned before;

    (void)state;
    rig_take_away(rig, 'b');
    rig_until(rig, rig_has_dropped, 1);
    MUST(rig_read(rig, 0, CHUNK)); /* its files are open now */
    before = rig->io.reads;
    MUST(rig_read(rig, CHUNK, CHUNK));
    before = rig->io.reads;
    MUST(lsvd_pread(rig->world.volume, rig->found, CHUNK / 2, 0));
    assert_memory_equal(rig->found, rig->model, CHUNK / 2);
    /* what is there; and once more, with one of the two parities */
    assert_int_equal(rig->io.reads - before, WIDE_DATA - 1 + WIDE_DATA);
    rig_put_back(rig, 'b');
    rig_until(rig, rig_is_healthy, 0);
    rig_end(rig);
}

/* The one that is read may be rotten: then the other one is, too. */
static void
test_any_parity_will_do(void **state)
{
    struct rig *rig = rig_new(&rig_wide);

    (void)state;
    rig_open_filled(rig);
    rig_close(rig);
    for (unsigned chunk = 1; chunk <= 2; chunk++) {
        for (int parity = 0; parity < WIDE_PARITY; parity++) /* other rows */
            flip(rig, (char)('a' + WIDE_DATA + parity), chunk,
                 -(parity + 1) * BLOCK - 17);
    }
    rig_open(rig, false);
    rig_take_away(rig, 'b');
    rig_until(rig, rig_has_dropped, 1);
    MUST(rig_read(rig, 0, CHUNK));
    MUST(rig_read(rig, CHUNK, CHUNK));
    rig_close(rig);
    rig_free(rig);
}

/* What one row lacks is no reason to refuse its neighbours. */
static void
test_a_row_is_lost_alone(void **state)
{
    const uint64_t lost = CHUNK - 2 * WIDE_DATA * BLOCK; /* the last but one */
    const uint64_t after = lost + WIDE_DATA * BLOCK;
    struct rig *rig = rig_new(&rig_wide);

    (void)state;
    rig_open_filled(rig);
    rig_close(rig);
    for (char part = 'a'; part < 'a' + WIDE_PARITY + 1; part++)
        flip(rig, part, 1, -BLOCK - 17);
    rig_open(rig, false);
    assert_int_equal(rig_read(rig, 0, CHUNK), -EIO);
    assert_non_null(strstr(lsvd_error(), "chunk 1, block 5"));
    assert_int_equal(rig_status(rig)->counters.lost_blocks, WIDE_PARITY + 1);
    MUST(lsvd_pread(rig->world.volume, rig->found, lost, 0));
    assert_memory_equal(rig->found, rig->model, lost);
    MUST(lsvd_pread(rig->world.volume, rig->found, CHUNK - after, after));
    assert_memory_equal(rig->found, rig->model + after, CHUNK - after);
    MUST(rig_read(rig, CHUNK, CHUNK));
    rig_close(rig);
    rig_free(rig);
}

/* Another replica is not even opened as long as the first one answers. */
static void
test_one_replica_is_asked(void **state)
{
    struct rig *rig = cold(&rig_mirror, 0);
    unsigned before = rig->io.refused;

    (void)state;
    rig->io.refuse[1] = REFUSE_READS;
    /* the second, of which a is asked first */
    MUST(rig_read(rig, CHUNK, CHUNK));
    assert_int_equal(rig->io.refused, before);
    rig->io.refuse[1] = 0;
    rig_end(rig);
}

static void
test_two_parts_refuse(void **state)
{
    struct rig *rig = cold(&rig_wide, 0);

    (void)state;
    rig->io.refuse[0] = rig->io.refuse[1] = REFUSE_READS | REFUSE_BYTES;
    MUST(rig_read(rig, 0, CHUNK));
    rig->io.refuse[2] = REFUSE_READS | REFUSE_BYTES;
    assert_int_equal(rig_read(rig, CHUNK, CHUNK), -EIO);
    rig->io.refuse[0] = rig->io.refuse[1] = rig->io.refuse[2] = 0;
    MUST(rig_read(rig, CHUNK, CHUNK));
    rig_end(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_are_read_side_by_side),
        cmocka_unit_test(test_rows_are_computed_together),
        cmocka_unit_test(test_any_parity_will_do),
        cmocka_unit_test(test_a_row_is_lost_alone),
        cmocka_unit_test(test_one_replica_is_asked),
        cmocka_unit_test(test_two_parts_refuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
