/* What a batch of destage takes, and how it puts it in place. */
#include "unit.h"
#include "faulty-io.h"
#include "volume/batch.h"
#include "world.h"
#include <stdlib.h>

#define SECOND UINT64_C(1000000000)
enum { BLOCK = 4096, CHUNK = 256 << 10, CHUNKS = 64,
       RING = 32 << 20 }; /* a batch may have an eighth of it: 16 chunks */

static const struct kind kind = {
    .replicas = 2, .block_bytes = BLOCK, .chunk_bytes = CHUNK,
    .size_bytes = (uint64_t)CHUNKS * CHUNK, .journal_bytes = RING,
};

struct stand {
    struct world world;
    struct faulty_io io;
    uint64_t random;
    uint8_t bytes[CHUNK];
};

static struct stand *
stand_new(void)
{
    struct stand *t = calloc(1, sizeof *t);

    assert_non_null(t);
    faulty_io_init(&t->io);
    t->io.stopped = true; /* a machine that is busy makes no difference */
    t->io.ahead_ns = SECOND;
    world_init(&t->world, &kind);
    t->world.env.io = &t->io.io;
    world_open(&t->world);
    t->world.volume->bypass.after_bytes = CONFIG_BYPASS_NEVER;
    return t;
}

static void
stand_end(struct stand *t)
{
    world_close(&t->world);
    world_check_sound(&t->world);
    world_done(&t->world);
    free(t);
}

/* The first so many bytes of every chunk. */
static void
write_chunks(struct stand *t, size_t bytes)
{
    for (uint64_t i = 0; i < CHUNKS; i++) {
        random_fill(&t->random, t->bytes, bytes);
        MUST(lsvd_pwrite(t->world.volume, t->bytes, bytes, i * CHUNK, 0));
    }
}

static uint64_t
left_in_journal(struct stand *t)
{
    return world_status(&t->world)->journal_only_bytes;
}

/* Bytes that the next one moves. */
static uint64_t
batch_bytes(struct stand *t)
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
    struct stand *t = stand_new();
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
    stand_end(t);
}

/* Single blocks teach it that many chunks take no time at all. */
static void
learn_to_take_many(struct stand *t)
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
    struct stand *t = stand_new();

    learn_to_take_many(t);
    write_chunks(t, CHUNK);
    t->io.sync_ns = slow ? SECOND : 0;
    assert_int_equal(batch_bytes(t), RING / 8);
    assert_int_equal(batch_bytes(t), slow ? RING / 16 : RING / 8);
    t->io.sync_ns = 0;
    stand_end(t);
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
    struct stand *t = stand_new();

    (void)state;
    write_chunks(t, CHUNK / 2 - BLOCK);
    world_drain(&t->world);
    assert_int_equal(t->io.syncs_begun, 0);
    write_chunks(t, CHUNK / 2);
    world_drain(&t->world);
    assert_int_equal(t->io.syncs_begun, kind.replicas * CHUNKS);
    stand_end(t);
}

/* What goes early is not put in place again with the rest; whole chunks, that
 * are new and that replace what is there. */
static void
test_bytes_go_out_once(void **state)
{
    struct stand *t = stand_new();
    uint64_t before = 0;

    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        uint64_t now;

        write_chunks(t, CHUNK);
        world_drain(&t->world);
        now = world_status(&t->world)->counters.part_bytes;
        assert_in_range(now - before, kind.replicas * kind.size_bytes,
                        kind.replicas * (kind.size_bytes +
                                         CHUNKS * 32 * 1024));
        before = now;
    }
    stand_end(t);
}

/* Make a batch of whole chunks; how many of them were put in place with it. */
static size_t
early(struct stand *t)
{
    struct lsvd_volume *v = t->world.volume;
    size_t count = 0;

    write_chunks(t, CHUNK);
    v->parallel = true;
    assert_int_equal(batch_prepare(v), 1);
    for (const struct plan *plan = v->batch->first; plan; plan = plan->next)
        count += plan->applied == 3;
    assert_true(v->batch->count > 1);
    return count;
}

static void
test_whole_chunks_go_early(void **state)
{
    struct stand *t = stand_new();
    size_t count = early(t);

    (void)state;
    assert_int_equal(count, t->world.volume->batch->count);
    world_drain(&t->world);
    stand_end(t);
}

/* D3: nothing is in place before its record is durable. */
static void
test_nothing_goes_before_its_record(void **state)
{
    struct stand *t = stand_new();

    (void)state;
    t->io.refuse_cache[0] = REFUSE_SYNCS;
    assert_int_equal(early(t), 0);
    assert_true(lsvd_destage_step(t->world.volume) < 0);
    world_done(&t->world);
    free(t);
}

/* A part that refuses for a while gets with the rest what it has not got. */
static void
test_what_failed_early_goes_later(void **state)
{
    struct stand *t = stand_new();

    (void)state;
    t->io.refuse[1] = REFUSE_WRITES;
    assert_int_equal(early(t), 0);
    t->io.refuse[1] = 0;
    world_drain(&t->world);
    assert_true(world_status(&t->world)->healthy);
    assert_int_equal(world_status(&t->world)->evictions, 0);
    stand_end(t);
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
        cmocka_unit_test(test_whole_chunks_go_early),
        cmocka_unit_test(test_nothing_goes_before_its_record),
        cmocka_unit_test(test_what_failed_early_goes_later),
    };

    return cmocka_run_group_tests_name("volume-batch", tests, NULL, NULL);
}
