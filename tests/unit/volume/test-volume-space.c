/* A journal that is full all the time: destage must always find a way on. */
#include "unit.h"
#include "rig.h"
#include <stdlib.h>
#include <string.h>

/* Single blocks all over one chunk: every one is a partial stripe and needs a
 * redo record with its parity, together more than the journal has room for. */
static void
scatter(const struct kind *kind, unsigned writes)
{
    struct world w;
    uint64_t random = 7, blocks = kind->size_bytes / kind->block_bytes;
    uint8_t *block = malloc(kind->block_bytes);

    assert_non_null(block);
    world_init(&w, kind);
    world_open(&w);
    for (unsigned i = 0; i < writes; i++) {
        random_fill(&random, block, kind->block_bytes);
        MUST(lsvd_pwrite(w.volume, block, kind->block_bytes,
                         random_below(&random, blocks) * kind->block_bytes,
                         0));
    }
    world_close(&w);
    world_check_sound(&w);
    world_done(&w);
    free(block);
}

static void
test_scattered_stripes(void **state)
{
    struct kind kind = {.ec_data = 4, .ec_parity = 2, .block_bytes = 4096,
                        .chunk_bytes = 4 << 20, .size_bytes = 4 << 20};

    (void)state;
    scatter(&kind, 600);
}

static void
test_scattered_wide_stripes(void **state)
{
    struct kind kind = {.ec_data = 16, .ec_parity = 4, .block_bytes = 65536,
                        .chunk_bytes = 64 << 20, .size_bytes = 64 << 20};

    (void)state;
    scatter(&kind, 40);
}

static void
test_scattered_over_chunks(void **state)
{
    struct kind kind = {.ec_data = 4, .ec_parity = 2, .block_bytes = 4096,
                        .chunk_bytes = 256 << 10, .size_bytes = 64 << 20};

    (void)state;
    scatter(&kind, 400);
}

/* The redo records of a batch that a crash cut off take all the room there is,
 * for chunks that are then written to again. The oldest chunk is another one
 * now, which needs a record to move the tail: the start must have made room. */
static void
redo_left_behind(unsigned rows)
{
    enum { ROW = 4 * BLOCK, OLDEST = 7 * CHUNK, PARTS = 6 };
    struct rig *rig = rig_new(&rig_wide);

    rig_open_filled(rig);
    assert_int_equal(rig_write(rig, OLDEST, BLOCK), 0);
    for (uint64_t at = 0; at < rows * (uint64_t)ROW; at += ROW)
        assert_int_equal(rig_write(rig, at, BLOCK), 0);
    assert_int_equal(rig_write(rig, OLDEST + ROW, BLOCK), 0);
    for (unsigned part = 0; part < PARTS; part++)
        rig->io.refuse[part] = REFUSE_SYNCS;
    assert_true(lsvd_destage_step(rig->world.volume) < 0);
    rig_kill(rig);
    for (unsigned part = 0; part < PARTS; part++)
        rig->io.refuse[part] = 0;
    rig_open(rig, false);
    rig_check(rig);
    for (uint64_t at = 0; at < rows * (uint64_t)ROW; at += CHUNK)
        assert_int_equal(rig_write(rig, at, BLOCK), 0);
    world_drain(&rig->world);
    rig_check(rig);
    rig_end(rig);
}

static void
test_redo_left_behind(void **state)
{
    (void)state;
    for (unsigned rows = 57; rows <= 64; rows++) /* room for 62 or so */
        redo_left_behind(rows);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scattered_stripes),
        cmocka_unit_test(test_scattered_wide_stripes),
        cmocka_unit_test(test_scattered_over_chunks),
        cmocka_unit_test(test_redo_left_behind),
    };

    return cmocka_run_group_tests_name("volume-space", tests, NULL, NULL);
}
