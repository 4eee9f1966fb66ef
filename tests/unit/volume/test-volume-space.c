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

static uint64_t
only_in_journal(struct world *w)
{
    struct lsvd_status *status = malloc(sizeof *status); /* large */
    uint64_t bytes;

    assert_non_null(status);
    lsvd_get_status(w->volume, status);
    bytes = status->journal_only_bytes;
    free(status);
    return bytes;
}

/* Room comes back in parts that do not let writers run from a full journal to
 * one half empty and back; and a batch that is cut costs the next ones
 * nothing. */
static void
test_batches_are_a_part_of_the_ring(void **state)
{
    static const struct kind kind = {
        .replicas = 1, .block_bytes = 4096, .chunk_bytes = 256 << 10,
        .size_bytes = 16 << 20, .journal_bytes = 32 << 20,
    };
    uint8_t *chunk = malloc(kind.chunk_bytes);
    uint64_t random = 3, left, most = 0;
    struct world w;

    (void)state;
    assert_non_null(chunk);
    world_init(&w, &kind);
    world_open(&w);
    for (uint64_t at = 0; at < kind.size_bytes; at += kind.chunk_bytes) {
        random_fill(&random, chunk, kind.chunk_bytes);
        MUST(lsvd_pwrite(w.volume, chunk, kind.chunk_bytes, at, 0));
    }
    left = only_in_journal(&w);
    assert_in_range(left, kind.size_bytes, kind.journal_bytes);
    while (left > 0) {
        uint64_t before = left;

        MUST(lsvd_destage_step(w.volume));
        left = only_in_journal(&w);
        assert_true(left < before);
        most = before - left > most ? before - left : most;
    }
    /* Small ones would please writers, and cost the parts more syncs. */
    assert_in_range(most, kind.journal_bytes / 16,
                    kind.journal_bytes / 8 + kind.chunk_bytes);
    world_close(&w);
    world_check_sound(&w);
    world_done(&w);
    free(chunk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scattered_stripes),
        cmocka_unit_test(test_scattered_wide_stripes),
        cmocka_unit_test(test_scattered_over_chunks),
        cmocka_unit_test(test_redo_left_behind),
        cmocka_unit_test(test_batches_are_a_part_of_the_ring),
    };

    return cmocka_run_group_tests_name("volume-space", tests, NULL, NULL);
}
