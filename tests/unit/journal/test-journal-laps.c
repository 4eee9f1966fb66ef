/* Many laps of small rings under random work, killed and cut at any point. */
#include "unit.h"
#include "rig.h"

#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>

struct shape {
    uint32_t block_bytes, chunk_blocks;
    uint64_t blocks, file_bytes;
    size_t index_limit;
    bool in_ring; /* REDO bodies: no area */
};

static const struct shape shapes[] = {
    { 512, 8, 100, 65536, 0, false },
    { 4096, 4, 41, 65536, 64, false },
    { 512, 16, 500, 200000, 128, false },
    { 4096, 8, 64, 300000, 0, false },
    { 512, 8, 100, 65536, 0, true },
    { 4096, 8, 64, 300000, 0, true },
};

/* One step of work. 0; or -EIO once the medium is dead. */
static int
step(struct rig *rig, uint64_t *random)
{
    uint64_t n = next_random(random), first = n % rig->blocks;
    uint64_t most = journal_payload_max(rig->j) / rig->block_bytes, count;
    size_t done;
    int r = 0;

    count = (n >> 20) % 8 < 6 ? (n >> 30) % 4 + 1 : (n >> 30) % most + 1;
    if (count > most)
        count = most;
    if (count > rig->blocks - first)
        count = rig->blocks - first;
    switch ((n >> 10) % 32) {
    case 0: case 1: case 2:
        r = rig_zero(rig, first, (n >> 40) % (rig->blocks - first) + 1);
        break;
    case 3: case 4:
        r = rig_sync(rig);
        break;
    case 5: case 6:
        r = rig_destage(rig, (n >> 40) % 8 + 1, &done);
        break;
    case 7:
        r = rig_advance(rig);
        break;
    case 8:
        r = journal_store_identity(rig->j, journal_identity(rig->j));
        break;
    case 9:
        r = rig_try_redo(rig, (n >> 40) % 3000 + 1);
        if (r == -ENOSPC)
            r = rig_advance(rig);
        break;
    default:
        r = rig_write(rig, first, (uint32_t)count);
        break;
    }
    if (r == -EFBIG)
        return 0;
    if (r != -EAGAIN)
        return r;
    r = rig_destage(rig, 4, &done);
    return r < 0 ? r : rig_advance(rig);
}

static void
work(struct rig *rig, uint64_t *random, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        uint64_t before = journal_checkpoint_seq(rig->j);
        int r = step(rig, random);

        if (r < 0)
            fail_msg("step: %s", err_text());
        assert_true(journal_checkpoint_seq(rig->j) >= before);
    }
}

static void
init_shape(struct rig *rig, const struct shape *s)
{
    if (s->in_ring)
        rig_init_without_area(rig, s->block_bytes, s->chunk_blocks, s->blocks,
                              s->file_bytes, s->index_limit);
    else
        rig_init(rig, NULL, s->block_bytes, s->chunk_blocks, s->blocks,
                 s->file_bytes, s->index_limit);
}

static void
kills_lose_nothing(void **state)
{
    uint64_t laps = 0;

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint64_t random = 100 + i;
        struct journal_space space;
        struct rig rig;

        init_shape(&rig, &shapes[i]);
        for (unsigned run = 0; run < 60; run++) {
            work(&rig, &random, (unsigned)(next_random(&random) % 200));
            rig_check(&rig);
            journal_space(rig.j, &space);
            laps += space.appended_bytes / space.ring_bytes;
            if (rig_reopen(&rig) < 0)
                fail_msg("shape %zu run %u: %s", i, run, err_text());
            assert_false(rig.stats.torn_tail);
            rig_check(&rig);
        }
        rig_done(&rig);
    }
    assert_true(laps > 100);
}

/* The medium dies in the middle of a call, then the power goes. */
static void
cut_once(struct rig *rig, uint64_t *random)
{
    uint64_t n = next_random(random);
    int r = 0;

    for (unsigned i = (unsigned)(n % 30); i > 0; i--)
        assert_int_equal(step(rig, random), 0);
    rig->cut.calls_left = (long)((n >> 8) % 12);
    for (unsigned i = 0; i < 200 && r == 0; i++)
        r = step(rig, random);
    assert_int_equal(r, -EIO);
    assert_int_equal(journal_sync(rig->j), -EIO);
    cut_target_cut(&rig->cut);
}

static void
cuts_lose_nothing_flushed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        unsigned torn = 0;

        for (uint64_t seed = 1; seed <= FEWER(8u); seed++) {
            uint64_t random = seed * 1000 + i;
            struct rig rig;

            init_shape(&rig, &shapes[i]);
            rig.cut.random = seed;
            for (unsigned run = 0; run < 60; run++) {
                cut_once(&rig, &random);
                if (rig_reopen(&rig) < 0)
                    fail_msg("shape %zu seed %u run %u: %s", i,
                             (unsigned)seed, run, err_text());
                torn += rig.stats.torn_tail;
                rig_adopt(&rig);
                /* and once more before anything is written */
                cut_target_cut(&rig.cut);
                assert_int_equal(rig_reopen(&rig), 0);
                rig_check(&rig);
            }
            rig_done(&rig);
        }
        assert_true(torn > 10); /* the cuts did something */
    }
}

/* However full it is, destage, forget and advance make it empty again. */
static void
full_journals_empty(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint64_t random = i, last_at = 0;
        struct journal_space space;
        size_t done;
        struct rig rig;
        int r;

        init_shape(&rig, &shapes[i]);
        for (unsigned lap = 0; lap < 20; lap++) {
            while ((r = rig_write(&rig, next_random(&random) % rig.blocks,
                                  1)) == 0)
                ;
            assert_int_equal(r, -EAGAIN);
            journal_space(rig.j, &space);
            assert_true(space.appended_bytes > last_at);
            last_at = space.appended_bytes;
            /* destage has its reserve */
            rig_redo(&rig, 600);
            rig_check(&rig);
            do
                assert_int_equal(rig_destage(&rig, 3, &done), 0);
            while (done > 0);
            assert_int_equal(rig_advance(&rig), 0);
            journal_space(rig.j, &space);
            assert_int_equal(space.used_bytes, 0);
            assert_int_equal(space.live_blocks, 0);
            assert_int_equal(space.dirty_chunks, 0);
            assert_int_equal(journal_checkpoint_seq(rig.j), space.last_seq);
        }
        rig_check(&rig);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig.stats.records, 0);
        assert_int_equal(rig.redo_count, 0);
        rig_check(&rig);
        rig_done(&rig);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_lose_nothing),
        cmocka_unit_test(cuts_lose_nothing_flushed),
        cmocka_unit_test(full_journals_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
