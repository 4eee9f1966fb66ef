/* What a batch of destage takes, and how it puts it in place. */
#include "unit.h"
#include "faulty-io.h"
#include "world.h"
#include <stdlib.h>

#define SECOND UINT64_C(1000000000)
enum { BLOCK = 4096, CHUNK = 256 << 10, CHUNKS = 64,
       RING = 32 << 20 }; /* a batch may have an eighth of it: 16 chunks */

static const struct kind kind = {
    .replicas = 1, .block_bytes = BLOCK, .chunk_bytes = CHUNK,
    .size_bytes = (uint64_t)CHUNKS * CHUNK, .journal_bytes = RING,
};

struct volume {
    struct world world;
    struct faulty_io io;
    uint64_t random;
    uint8_t bytes[CHUNK];
};

static struct volume *
volume_new(void)
{
    struct volume *t = calloc(1, sizeof *t);

    assert_non_null(t);
    faulty_io_init(&t->io);
    t->io.stopped = true; /* a machine that is busy makes no difference */
    t->io.ahead_ns = SECOND;
    world_init(&t->world, &kind);
    t->world.env.io = &t->io.io;
    world_open(&t->world);
    return t;
}

static void
volume_end(struct volume *t)
{
    world_close(&t->world);
    world_check_sound(&t->world);
    world_done(&t->world);
    free(t);
}

/* The first so many bytes of every chunk. */
static void
write_chunks(struct volume *t, size_t bytes)
{
    for (uint64_t i = 0; i < CHUNKS; i++) {
        random_fill(&t->random, t->bytes, bytes);
        MUST(lsvd_pwrite(t->world.volume, t->bytes, bytes, i * CHUNK, 0));
    }
}

static uint64_t
left_in_journal(struct volume *t)
{
    return world_status(&t->world)->journal_only_bytes;
}

/* Bytes that the next one moves. */
static uint64_t
batch_bytes(struct volume *t)
{
    uint64_t before = left_in_journal(t);

    MUST(lsvd_destage_step(t->world.volume));
    return before - left_in_journal(t);
}

/* Room comes back in parts that do not let writers run from a full journal to
 * one half empty and back. */
static void
test_batches_are_a_part_of_the_ring(void **state)
{
    struct volume *t = volume_new();
    uint64_t most = 0;

    (void)state;
    write_chunks(t, CHUNK);
    assert_in_range(left_in_journal(t), kind.size_bytes, RING);
    while (left_in_journal(t) > 0) {
        uint64_t bytes = batch_bytes(t);

        assert_true(bytes > 0);
        most = bytes > most ? bytes : most;
    }
    /* Small ones would please writers, and cost the parts more syncs. */
    assert_in_range(most, RING / 16, RING / 8);
    volume_end(t);
}

/* Single blocks teach it that many chunks take no time at all. */
static void
learn_to_take_many(struct volume *t)
{
    write_chunks(t, BLOCK);
    for (unsigned chunks = 8; chunks <= 32; chunks *= 2)
        assert_int_equal(batch_bytes(t), chunks * BLOCK);
    world_drain(&t->world);
}

/* Then whole ones come, of which only some fit; slow: these take so long that
 * it was too many all the same. */
static void
cut(bool slow)
{
    struct volume *t = volume_new();

    learn_to_take_many(t);
    write_chunks(t, CHUNK);
    t->io.sync_ns = slow ? SECOND : 0;
    assert_int_equal(batch_bytes(t), RING / 8);
    assert_int_equal(batch_bytes(t), slow ? RING / 16 : RING / 8);
    t->io.sync_ns = 0;
    volume_end(t);
}

static void
test_what_was_cut_is_asked_for_again(void **state)
{
    (void)state;
    cut(false);
}

static void
test_a_slow_one_that_was_cut_is_halved(void **state)
{
    (void)state;
    cut(true);
}

/* Begun fragment by fragment, few blocks in each would stand in the way of
 * those that are still to be put in place. */
static void
test_syncs_are_begun_where_much_is_written(void **state)
{
    struct volume *t = volume_new();

    (void)state;
    write_chunks(t, CHUNK / 2 - BLOCK);
    world_drain(&t->world);
    assert_int_equal(t->io.syncs_begun, 0);
    write_chunks(t, CHUNK / 2);
    world_drain(&t->world);
    assert_int_equal(t->io.syncs_begun, CHUNKS);
    volume_end(t);
}

/* What goes early is not put in place again with the rest; whole chunks, that
 * are new and that replace what is there. */
static void
test_bytes_go_out_once(void **state)
{
    struct volume *t = volume_new();
    uint64_t before = 0;

    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        uint64_t now;

        write_chunks(t, CHUNK);
        world_drain(&t->world);
        now = world_status(&t->world)->counters.part_bytes;
        assert_in_range(now - before, kind.size_bytes,
                        kind.size_bytes + CHUNKS * 32 * 1024);
        before = now;
    }
    volume_end(t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_are_a_part_of_the_ring),
        cmocka_unit_test(test_what_was_cut_is_asked_for_again),
        cmocka_unit_test(test_a_slow_one_that_was_cut_is_halved),
        cmocka_unit_test(test_syncs_are_begun_where_much_is_written),
        cmocka_unit_test(test_bytes_go_out_once),
    };

    return cmocka_run_group_tests_name("volume-batch", tests, NULL, NULL);
}
