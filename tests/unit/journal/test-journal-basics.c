/* The journal's calls, one behaviour a test, mostly on a real directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/seq.h"
#include "base/sum.h"
#include "temp-dir.h"
#include <string.h>

#define BLOCK 4096u

static void
written_blocks_are_read(void **state)
{
    struct temp_dir dir;
    struct rig rig;
    uint8_t have[6];

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, BLOCK, 8, 100, 1 << 20, 0);
    assert_int_equal(rig_write(&rig, 5, 3), 0);
    assert_int_equal(rig_write(&rig, 6, 1), 0);
    assert_int_equal(rig_zero(&rig, 7, 1), 0);
    journal_lookup(rig.j, 4, 6, have);
    /* chunk 0 holds nothing on the parts, but is in the index */
    assert_memory_equal(have, "\0\1\1\2\0\0", 6);
    rig_check(&rig);
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig.stats.records, 3);
    assert_int_equal(rig.stats.max_seq, seq_make(1, 3));
    assert_false(rig.stats.torn_tail);
    journal_lookup(rig.j, 4, 6, have);
    assert_memory_equal(have, "\0\1\1\2\0\0", 6);
    rig_check(&rig);
    rig_done(&rig);
    temp_dir_done(&dir);
}

static void
references_have_no_bytes(void **state)
{
    struct journal_block blocks[8];
    struct temp_dir dir;
    struct rig rig;
    uint8_t have[4], bytes[BLOCK];
    uint64_t zero_seq;
    size_t total;

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, BLOCK, 8, 100, 1 << 20, 0);
    assert_int_equal(rig_write(&rig, 5, 2), 0);
    assert_int_equal(journal_append_reference(rig.j, 6, 2), 0);
    for (unsigned i = 0; i < 2; i++) { /* and after a replay */
        journal_lookup(rig.j, 4, 4, have);
        assert_memory_equal(have, "\0\1\3\3", 4);
        assert_int_equal(journal_read(rig.j, 6, 0, bytes), 0);
        assert_int_equal(journal_chunk_blocks(rig.j, 0, blocks, 8, &total,
                                              &zero_seq), 3);
        assert_true(sum_has_bytes(blocks[0].sum));
        assert_int_equal(blocks[1].sum, SUM_REFERENCE);
        assert_int_equal(blocks[2].sum, SUM_REFERENCE);
        assert_int_equal(blocks[2].at, 0);
        if (i == 0)
            assert_int_equal(rig_reopen(&rig), 0);
    }
    assert_int_equal(rig_write(&rig, 6, 1), 0); /* its own again */
    journal_lookup(rig.j, 4, 4, have);
    assert_memory_equal(have, "\0\1\1\3", 4);
    rig_done(&rig);
    temp_dir_done(&dir);
}

static void
opening_needs_a_journal_and_its_lock(void **state)
{
    struct journal_identity identity = { .block_bytes = BLOCK };
    struct journal *j;
    struct temp_dir dir;
    struct rig rig;

    (void)state;
    temp_dir_init(&dir);
    assert_int_equal(journal_open(dir.target, RIG_NAME, 0, &j), -ENOENT);
    assert_int_equal(journal_create(dir.target, RIG_NAME, 60000, &identity, 0,
                                    true, &j), -EINVAL);
    identity.block_bytes = 65536;
    assert_int_equal(journal_create(dir.target, RIG_NAME, 65536, &identity, 0,
                                    true, &j), -EINVAL);
    rig_init(&rig, dir.target, BLOCK, 8, 100, 65536, 0);
    assert_int_equal(journal_open(dir.target, RIG_NAME, 0, &j), -EBUSY);
    identity.block_bytes = BLOCK;
    assert_int_equal(journal_create(dir.target, RIG_NAME, 65536, &identity, 0,
                                    true, &j), -EBUSY);
    assert_int_equal(rig_write(&rig, 1, 1), 0);
    rig_check(&rig);
    rig_done(&rig);
    assert_int_equal(journal_open(dir.target, RIG_NAME, 0, &j), 0);
    journal_close(j);
    journal_close(NULL);
    temp_dir_done(&dir);
}

static void
identity_is_kept(void **state)
{
    struct journal_identity identity;
    struct temp_dir dir;
    struct rig rig;

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, BLOCK, 8, 100, 65536, 0);
    identity = *journal_identity(rig.j);
    identity.view.id.epoch = 9;
    identity.view.members = 3;
    identity.part_ckpt[19] = 77;
    strcpy(identity.host, "here");
    for (unsigned i = 0; i < 5; i++) {
        identity.view.id.minor = i;
        assert_int_equal(journal_store_identity(rig.j, &identity), 0);
        assert_int_equal(rig_write(&rig, i, 1), 0);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(journal_identity(rig.j)->view.id.minor, i);
        assert_int_equal(journal_identity(rig.j)->view.id.epoch, 9);
        assert_int_equal(journal_identity(rig.j)->part_ckpt[19], 77);
        assert_int_equal(journal_identity(rig.j)->block_bytes, BLOCK);
        assert_string_equal(journal_identity(rig.j)->host, "here");
        rig_check(&rig);
    }
    rig_done(&rig);
    temp_dir_done(&dir);
}

static void
a_whole_chunk_gets_one_mark(void **state)
{
    struct journal_space space;
    struct journal_block blocks[8];
    uint64_t zero_seq;
    size_t total;
    struct temp_dir dir;
    struct rig rig;

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, 512, 8, 21, 65536, 0); /* chunk 2 has 5 */
    memset(rig.present, 1, 3);
    for (uint64_t block = 0; block < 21; block++) /* "on the parts" */
        rig.parts[block] = rig.may[block].value[0] = 1000 + block;
    assert_int_equal(rig_write(&rig, 9, 2), 0);
    assert_int_equal(rig_zero(&rig, 6, 15), 0); /* to the end */
    rig_check(&rig);
    journal_space(rig.j, &space);
    assert_int_equal(space.live_blocks, 2); /* 6 and 7 */
    assert_int_equal(space.dirty_chunks, 3);
    assert_int_equal(rig_write(&rig, 20, 1), 0);
    for (unsigned run = 0; run < 2; run++) {
        assert_int_equal(journal_chunk_blocks(rig.j, 2, blocks, 8, &total,
                                              &zero_seq), 1);
        assert_int_equal(blocks[0].block, 20);
        assert_int_equal(zero_seq, seq_make(1, 2));
        assert_int_equal(journal_chunk_blocks(rig.j, 0, blocks, 1, &total,
                                              &zero_seq), 1);
        assert_int_equal(total, 2);
        assert_int_equal(blocks[0].block, 6); /* the first in order */
        assert_int_equal(blocks[0].sum, 0);
        assert_int_equal(zero_seq, 0);
        rig_check(&rig);
        assert_int_equal(rig_reopen(&rig), 0);
        rig_check(&rig);
    }
    rig_done(&rig);
    temp_dir_done(&dir);
}

/* A chunk that the volume's end cut short became zeroes as a whole; then the
 * volume grew. A replay, which knows the new end only, needs no more of the
 * index than the run did, and what was written behind the old end stays. */
static void
a_mark_outlives_growth(void **state)
{
    struct journal_block blocks[4];
    uint64_t zero_seq;
    size_t total;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, 512, 1000, 3000, 1 << 20, 64);
    memset(rig.present, 1, 3);
    journal_set_volume_blocks(rig.j, 1900);
    assert_int_equal(rig_zero(&rig, 900, 1000), -EFBIG); /* 100 entries */
    assert_int_equal(rig_zero(&rig, 1000, 900), 0);
    journal_set_volume_blocks(rig.j, 3000);
    assert_int_equal(rig_write(&rig, 1950, 1), 0);
    /* no longer the end: not a whole chunk */
    assert_int_equal(rig_zero(&rig, 1000, 900), -EFBIG);
    for (unsigned run = 0; run < 2; run++) {
        assert_int_equal(journal_chunk_blocks(rig.j, 1, blocks, 4, &total,
                                              &zero_seq), 1);
        assert_int_equal(blocks[0].block, 1950);
        assert_int_equal(zero_seq, seq_make(1, 1));
        rig_check(&rig);
        assert_int_equal(rig_reopen(&rig), 0);
    }
    rig_check(&rig);
    rig_done(&rig);
}

static void
zeroing_a_hole_costs_nothing(void **state)
{
    struct journal_space before, after;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, 512, 8, 8 * 2000, 65536, 0);
    assert_int_equal(rig_write(&rig, 100, 1), 0);
    journal_space(rig.j, &before);
    assert_int_equal(rig_zero(&rig, 500, 7000), 0);
    journal_space(rig.j, &after);
    assert_int_equal(after.appended_bytes, before.appended_bytes);
    assert_int_equal(after.dirty_chunks, before.dirty_chunks);
    /* the one chunk that is dirty gets its mark */
    assert_int_equal(rig_zero(&rig, 0, 8 * JOURNAL_ZERO_CHUNKS_MAX), 0);
    journal_space(rig.j, &after);
    assert_int_equal(after.appended_bytes, before.appended_bytes + 512);
    assert_int_equal(after.live_blocks, 0);
    assert_int_equal(after.dirty_chunks, 1);
    assert_int_equal(rig_zero(&rig, 0, 8 * JOURNAL_ZERO_CHUNKS_MAX + 1),
                     -EFBIG);
    rig_check(&rig);
    rig_done(&rig);
}

static void
forget_keeps_what_is_newer(void **state)
{
    struct journal_block blocks[8];
    uint64_t zero_seq, newer;
    size_t total, count;
    struct rig rig;
    uint8_t have[3];

    (void)state;
    rig_init(&rig, NULL, 512, 8, 64, 65536, 0);
    assert_int_equal(rig_write(&rig, 0, 2), 0);
    count = journal_chunk_blocks(rig.j, 0, blocks, 8, &total, &zero_seq);
    assert_int_equal(count, 2);
    assert_int_equal(rig_write(&rig, 1, 2), 0);
    journal_forget(rig.j, 0, blocks, count, zero_seq);
    journal_lookup(rig.j, 0, 3, have);
    assert_memory_equal(have, "\0\1\1", 3);

    /* A mark that is not forgotten keeps the entries above it. */
    assert_int_equal(rig_zero(&rig, 0, 8), 0);
    assert_int_equal(rig_write(&rig, 3, 1), 0);
    count = journal_chunk_blocks(rig.j, 0, blocks, 8, &total, &zero_seq);
    assert_int_equal(count, 1);
    assert_true(zero_seq > 0);
    journal_forget(rig.j, 0, blocks, count, 0);
    rig_check(&rig);

    /* A newer mark: nothing that is forgotten is left anyway. */
    assert_int_equal(rig_zero(&rig, 0, 8), 0);
    assert_int_equal(rig_write(&rig, 3, 1), 0);
    journal_forget(rig.j, 0, blocks, count, zero_seq);
    rig_check(&rig);
    assert_int_equal(journal_chunk_blocks(rig.j, 0, blocks, 8, &total,
                                          &newer), 1);
    assert_true(newer > zero_seq);
    journal_forget(rig.j, 0, blocks, 1, newer);
    assert_int_equal(journal_oldest_chunks(rig.j, &newer, 1), 0);
    rig_done(&rig);
}

static void
redo_comes_back_in_order_until_advance(void **state)
{
    struct temp_dir dir;
    struct rig rig;
    uint64_t seq;

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, 512, 8, 64, 32 << 20, 0);
    assert_int_equal(rig_write(&rig, 3, 1), 0); /* keeps the tail */
    rig_redo(&rig, 1);
    seq = journal_take_seq(rig.j);
    rig_redo(&rig, JOURNAL_REDO_BYTES_MAX);
    rig_redo(&rig, 513);
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig.redo_count, 3);
    assert_int_equal(rig.redo_seen[0], seq - 1);
    assert_int_equal(rig.redo_seen[1], seq + 1);
    assert_int_equal(rig.redo_bytes[1], JOURNAL_REDO_BYTES_MAX);
    assert_int_equal(rig.redo_bytes[2], 513);
    assert_int_equal(rig_advance(&rig), 0);
    assert_int_equal(journal_store_identity(rig.j, journal_identity(rig.j)),
                     0);
    rig_redo(&rig, 42);
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig.redo_count, 1);
    assert_int_equal(rig.redo_bytes[0], 42);
    assert_int_equal(rig.stats.records, 5);
    rig_check(&rig);
    rig_done(&rig);
    temp_dir_done(&dir);
}

/* As many as there is room for. */
static unsigned
redo_until_full(struct rig *rig, size_t bytes)
{
    unsigned count = 0;
    int r;

    while ((r = rig_try_redo(rig, bytes)) == 0)
        count++;
    assert_int_equal(r, -ENOSPC);
    return count;
}

static void
write_until_full(struct rig *rig)
{
    int r;

    while ((r = rig_write(rig, 1, 4)) == 0)
        ;
    assert_int_equal(r, -EAGAIN);
}

/* A full ring with nothing in the way of destage empties, and goes on. */
static void
destage_goes_on(struct rig *rig)
{
    size_t done;

    rig_check(rig);
    rig_redo(rig, 512);
    assert_int_equal(rig_destage(rig, 8, &done), 0);
    assert_int_equal(rig_advance(rig), 0);
    rig_redo(rig, 512);
    assert_int_equal(rig_write(rig, 1, 4), 0);
    rig_check(rig);
}

/* Bodies that a crash leaves behind hold their area until the advance; then it
 * is all free again, also if the ring is full. */
static void
redo_left_behind_leaves_room(void **state)
{
    enum { BODY = 2048 };
    struct journal_space space;
    unsigned count;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, 512, 8, 64, 65536, 0);
    count = redo_until_full(&rig, BODY);
    assert_int_equal(count, 12);
    journal_space(rig.j, &space); /* what the medium got: headers and bodies */
    assert_int_equal(space.appended_bytes, count * (512 + BODY));
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig.redo_count, count);
    assert_int_equal(rig_try_redo(&rig, BODY), -ENOSPC);
    assert_int_equal(rig_advance(&rig), 0);
    write_until_full(&rig);
    for (unsigned crash = 0; crash < 2; crash++) {
        rig_redo(&rig, 512);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig.redo_count, 1);
        assert_int_equal(rig_advance(&rig), 0);
    }
    destage_goes_on(&rig);
    rig_done(&rig);
}

/* Crash after crash before the advance: there is still room for redo also in a
 * ring that has no area for it. */
static void
redo_left_behind_in_the_ring_leaves_room(void **state)
{
    struct rig rig;

    (void)state;
    rig_init_without_area(&rig, 512, 8, 64, 65536, 0);
    write_until_full(&rig);
    for (unsigned crash = 0; crash < 4; crash++) {
        assert_true(redo_until_full(&rig, 512) > 0);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig_write(&rig, 1, 1), -EAGAIN);
    }
    destage_goes_on(&rig);
    rig_done(&rig);
}

static void
the_tail_waits_for_what_is_live(void **state)
{
    struct journal_space space;
    uint64_t chunk, first;
    size_t done;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 100, 1 << 20, 0);
    first = seq_make(1, 1);
    assert_int_equal(journal_checkpoint_seq(rig.j), first - 1);
    assert_int_equal(rig_write(&rig, 40, 1), 0); /* first */
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(rig_write(&rig, 0, 4), 0);
    assert_int_equal(journal_checkpoint_seq(rig.j), first - 1);
    assert_int_equal(journal_oldest_chunks(rig.j, &chunk, 1), 1);
    assert_int_equal(chunk, 5);
    /* rewritten: now chunk 0 is the oldest, by its newest write */
    assert_int_equal(rig_write(&rig, 40, 1), 0);
    assert_int_equal(journal_oldest_chunks(rig.j, &chunk, 1), 1);
    assert_int_equal(chunk, 0);
    assert_int_equal(journal_checkpoint_seq(rig.j), first + 19);
    assert_int_equal(rig_advance(&rig), 0);
    journal_space(rig.j, &space);
    assert_true(space.used_bytes < 8 * (4 * BLOCK + 512));
    assert_int_equal(rig_reopen(&rig), 0);
    rig_check(&rig);
    assert_int_equal(rig_destage(&rig, 8, &done), 0);
    assert_int_equal(done, 2);
    assert_int_equal(rig_advance(&rig), 0);
    journal_space(rig.j, &space);
    assert_int_equal(space.used_bytes, 0);
    rig_done(&rig);
}

static void
syncs_are_shared(void **state)
{
    struct journal_space space;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 100, 1 << 20, 0);
    assert_int_equal(journal_sync(rig.j), 0);
    journal_space(rig.j, &space);
    assert_int_equal(space.syncs, 0); /* nothing to sync */
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(rig_write(&rig, i, 1), 0);
    assert_int_equal(journal_sync(rig.j), 0);
    assert_int_equal(journal_sync(rig.j), 0);
    journal_space(rig.j, &space);
    assert_int_equal(space.syncs, 1);
    rig_done(&rig);
}

static void
a_new_journal_disowns_the_old_records(void **state)
{
    struct journal_identity identity;
    struct temp_dir dir;
    struct rig rig;
    uint64_t bytes = 65536;

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, 512, 8, 100, bytes, 0);
    for (unsigned reset = 0; reset < 4; reset++) {
        for (unsigned i = 0; i < 20; i++)
            assert_int_equal(rig_write(&rig, i, 1), 0);
        assert_int_equal(rig_sync(&rig), 0);
        identity = *journal_identity(rig.j);
        if (reset % 2) /* even with the same UUID */
            identity.journal.b[0]++;
        journal_close(rig.j);
        bytes += reset == 2 ? 4096 : 0;
        assert_int_equal(journal_create(dir.target, RIG_NAME, bytes,
                                        &identity, 0, true, &rig.j), 0);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig.stats.records, 0);
        assert_int_equal(rig.stats.max_seq, 0);
        for (uint64_t block = 0; block < 100; block++)
            rig.may[block].value[0] = 0;
        rig_check(&rig);
    }
    rig_done(&rig);
    temp_dir_done(&dir);
}

static void
limits_are_said(void **state)
{
    struct journal_space space;
    struct rig rig;
    size_t done;
    int r;

    (void)state;
    rig_init(&rig, NULL, 512, 200, 40000, 1 << 20, 64);
    memset(rig.present, 1, rig.chunks);
    assert_int_equal(journal_payload_max(rig.j), 32 * 512);
    assert_int_equal(rig_write(&rig, 0, 33), -EFBIG);
    assert_int_equal(rig_zero(&rig, 1, 33), -EFBIG);
    assert_int_equal(rig_zero(&rig, 0, 200 * 33), -EFBIG);
    assert_int_equal(rig_zero(&rig, 0, 200 * 32), 0);
    assert_int_equal(rig_write(&rig, 200 * 40, 32), 0);
    assert_int_equal(rig_write(&rig, 200 * 41, 32), 0);
    assert_int_equal(rig_write(&rig, 200 * 42, 1), -EAGAIN);
    assert_int_equal(rig_write(&rig, 200 * 40, 1), -EAGAIN);
    rig_check(&rig);
    assert_int_equal(rig_destage(&rig, 40, &done), 0);
    assert_int_equal(rig_write(&rig, 200 * 42, 1), 0);
    /* Much was forgotten, but a replay would still meet it: the index a
     * replay needs is bounded too. */
    do {
        r = rig_write(&rig, 200 * 43, 32);
        if (r == 0)
            assert_int_equal(rig_destage(&rig, 1, &done), 0);
    } while (r == 0);
    assert_int_equal(r, -EAGAIN);
    journal_space(rig.j, &space);
    assert_true(space.live_blocks < 64);
    assert_int_equal(rig_reopen(&rig), 0);
    rig_check(&rig);
    assert_int_equal(rig_destage(&rig, 64, &done), 0);
    assert_int_equal(rig_destage(&rig, 64, &done), 0);
    assert_int_equal(done, 0);
    assert_int_equal(rig_advance(&rig), 0);
    assert_int_equal(rig_write(&rig, 200 * 43, 32), 0);
    rig_check(&rig);
    rig_done(&rig);
}

static void
a_smaller_index_still_replays(void **state)
{
    struct rig rig;
    size_t done;

    (void)state;
    rig_init(&rig, NULL, 512, 8, 4000, 1 << 20, 1000);
    for (uint64_t block = 0; block < 3900; block += 8)
        assert_int_equal(rig_write(&rig, block, 1), 0);
    rig.index_limit = 64;
    assert_int_equal(rig_reopen(&rig), 0);
    rig_check(&rig);
    assert_int_equal(rig_write(&rig, 1, 1), -EAGAIN);
    do
        assert_int_equal(rig_destage(&rig, 64, &done), 0);
    while (done > 0);
    assert_int_equal(rig_advance(&rig), 0);
    assert_int_equal(rig_write(&rig, 1, 1), 0);
    rig_check(&rig);
    rig_done(&rig);
}

static void
failure_is_sticky_and_reads_go_on(void **state)
{
    uint64_t ckpt;
    struct rig rig;

    (void)state;
    for (unsigned which = 0; which < 2; which++) {
        rig_init(&rig, NULL, 512, 8, 64, 65536, 0);
        assert_int_equal(rig_write(&rig, 1, 1), 0);
        assert_int_equal(rig_write(&rig, 2, 1), 0);
        rig_check(&rig);
        ckpt = journal_checkpoint_seq(rig.j);
        rig.cut.calls_left = 0;
        if (which == 0)
            assert_int_equal(journal_sync(rig.j), -EIO);
        else
            assert_int_equal(rig_write(&rig, 3, 1), -EIO);
        rig.cut.calls_left = -1; /* the medium is well again */
        assert_int_equal(rig_write(&rig, 4, 1), -EIO);
        assert_int_equal(rig_zero(&rig, 1, 1), -EIO);
        assert_int_equal(journal_append_redo(rig.j, "x", 1), -EIO);
        assert_int_equal(journal_sync(rig.j), -EIO);
        assert_int_equal(rig_advance(&rig), -EIO);
        assert_int_equal(journal_store_identity(rig.j,
                                                journal_identity(rig.j)),
                         -EIO);
        assert_int_equal(journal_checkpoint_seq(rig.j), ckpt);
        assert_int_equal(rig_read(&rig, 1), 1);
        assert_int_equal(rig_read(&rig, 2), 2);
        assert_int_equal(rig_reopen(&rig), 0);
        rig_adopt(&rig);
        assert_int_equal(rig_write(&rig, 4, 1), 0);
        rig_done(&rig);
    }
}

static void
rot_under_a_live_block_is_an_error(void **state)
{
    struct journal_block b;
    uint64_t zero_seq;
    size_t total;
    struct rig rig;
    uint8_t to[512];

    (void)state;
    rig_init(&rig, NULL, 512, 8, 64, 65536, 0);
    assert_int_equal(rig_write(&rig, 1, 1), 0);
    assert_int_equal(journal_chunk_blocks(rig.j, 0, &b, 1, &total,
                                          &zero_seq), 1);
    rig.cut.now[b.at + 100] ^= 4;
    assert_int_equal(journal_read(rig.j, 1, rig_seed(NULL, 1), to), -EIO);
    assert_non_null(strstr(err_text(), RIG_NAME));
    assert_int_equal(journal_read_at(rig.j, &b, rig_seed(NULL, 1), to), -EIO);
    rig.cut.now[b.at + 100] ^= 4;
    assert_int_equal(journal_read(rig.j, 1, rig_seed(NULL, 2), to), -EIO);
    assert_int_equal(journal_read(rig.j, 1, rig_seed(NULL, 1), to), 1);
    rig_done(&rig);
}

/* The same content as by itself, and each block is checked by itself. */
static void
a_run_is_read_at_once(void **state)
{
    enum { COUNT = 6 };
    struct journal_block b[COUNT + 1];
    uint64_t zero_seq, seeds[COUNT + 1];
    uint8_t run[(COUNT + 1) * 512], one[512];
    size_t total;
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, 512, 8, 64, 65536, 0);
    assert_int_equal(rig_write(&rig, 0, COUNT), 0);
    assert_int_equal(rig_write(&rig, COUNT, 1), 0); /* a record of its own */
    assert_int_equal(journal_chunk_blocks(rig.j, 0, b, COUNT + 1, &total,
                                          &zero_seq), COUNT + 1);
    for (unsigned i = 0; i <= COUNT; i++)
        seeds[i] = rig_seed(NULL, b[i].block);
    for (unsigned i = 1; i < COUNT; i++)
        assert_true(journal_follows(rig.j, &b[i - 1], &b[i]));
    assert_false(journal_follows(rig.j, &b[COUNT - 1], &b[COUNT]));
    assert_int_equal(journal_read_run(rig.j, b, seeds, COUNT, run), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(journal_read_at(rig.j, &b[i], seeds[i], one), 0);
        assert_memory_equal(run + i * 512, one, 512);
    }
    for (unsigned bad = 0; bad < COUNT; bad++) {
        rig.cut.now[b[bad].at + 7] ^= 1;
        assert_int_equal(journal_read_run(rig.j, b, seeds, COUNT, run), -EIO);
        assert_int_equal(journal_read_run(rig.j, b, seeds, bad, run), 0);
        rig.cut.now[b[bad].at + 7] ^= 1;
    }
    rig_done(&rig);
}

static void
an_epoch_that_was_used_is_refused(void **state)
{
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, 512, 8, 64, 65536, 0);
    rig.epoch = 50;
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig_write(&rig, 1, 1), 0);
    rig.epoch = 50; /* again */
    assert_int_equal(rig_reopen(&rig), -EIO);
    assert_non_null(strstr(err_text(), "epoch"));
    assert_int_equal(rig_write(&rig, 1, 1), -EIO);
    rig_done(&rig);
}

/* Each allocation fails in turn: an error, and the next try works. */
static void
memory_may_run_out(void **state)
{
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, 512, 8, 4000, 1 << 20, 1000);
    for (uint64_t block = 0; block < 3900; block += 8)
        assert_int_equal(rig_write(&rig, block, 1), 0);
    rig_redo(&rig, 700); /* a buffer of its own */
    rig.index_limit = 64; /* so that the index must grow */
    for (long nth = 0;; nth++) {
        int r;

        assert_true(nth < 100);
        mem_fail_after(nth);
        r = rig_reopen(&rig);
        if (!mem_fail_after(-1)) {
            assert_int_equal(r, 0);
            assert_true(nth > 8);
            break;
        }
        assert_int_equal(r, -ENOMEM);
    }
    rig_check(&rig);
    rig_done(&rig);
}

#define OPEN_CHUNK 3u
#define CHUNK_BLOCKS 8u

/* What a replay is told of blocks that went past. */
struct told {
    unsigned chunks, records;
    uint64_t seq;
    struct journal_bypassed last;
    uint64_t sums[RIG_VALUES_MAX];
    bool is_done; /* the parts have it */
};

static int
tell_chunk(void *ctx, uint64_t chunk, uint64_t seq)
{
    struct told *told = ctx;

    assert_int_equal(chunk, OPEN_CHUNK);
    told->chunks++;
    told->seq = seq;
    return !told->is_done;
}

static int
tell_blocks(void *ctx, uint64_t seq, const struct journal_bypassed *record)
{
    struct told *told = ctx;

    assert_true(seq > told->seq);
    assert_in_range(record->count + record->more, 1, RIG_VALUES_MAX);
    told->records++;
    told->last = *record;
    memcpy(told->sums, record->sums,
           (record->count + record->more) * sizeof told->sums[0]);
    return 0;
}

/* Open it and replay; nothing is started. */
static void
replay_told(struct rig *rig, struct told *told)
{
    const struct replay_callbacks cb = { .bypass = tell_chunk,
                                         .bypassed = tell_blocks,
                                         .seed = rig_seed, .ctx = told };
    struct replay_stats stats;

    journal_close(rig->j);
    assert_int_equal(journal_open(rig->target, RIG_NAME, 0, &rig->j), 0);
    journal_set_chunk_blocks(rig->j, CHUNK_BLOCKS);
    journal_set_volume_blocks(rig->j, 100);
    assert_int_equal(journal_replay(rig->j, &cb, &stats), 0);
}

static struct journal_space
space_of(struct rig *rig)
{
    struct journal_space space;

    journal_space(rig->j, &space);
    return space;
}

/* However full the journal is: every block can be told of, and appended after
 * all, each by itself (J10). */
static void
there_is_room_for_what_went_past(void **state)
{
    uint8_t data[BLOCK] = { 0 };
    struct temp_dir dir;
    struct rig rig;
    uint64_t seq, opened;

    (void)state;
    for (uint32_t begin = 0; begin < 60; begin += 7) { /* in the ring */
        temp_dir_init(&dir);
        rig_init(&rig, dir.target, BLOCK, CHUNK_BLOCKS, 100, 1 << 20, 0);
        for (uint32_t i = 0; i < begin; i++)
            assert_int_equal(rig_write(&rig, i % 3, 1), 0);
        if (begin > 0)
            assert_int_equal(rig_destage(&rig, 1, &(size_t){ 0 }), 0);
        assert_int_equal(rig_advance(&rig), 0);
        assert_int_equal(journal_append_bypass(rig.j, OPEN_CHUNK, &opened),
                         0);
        assert_int_equal(space_of(&rig).bypassed_chunks, 1);
        while (rig_write(&rig, 8, 1) == 0)
            ;
        assert_true(space_of(&rig).held_bytes > CHUNK_BLOCKS * BLOCK);
        for (uint32_t i = 0; i < CHUNK_BLOCKS; i++) {
            const struct journal_bypassed record = {
                OPEN_CHUNK * CHUNK_BLOCKS + i, 1, 1, (uint64_t[]){ i + 1, 9 }
            };

            assert_int_equal(journal_append_bypassed(rig.j, &record, &seq),
                             0);
            assert_true(seq > opened);
        }
        assert_int_equal(journal_checkpoint_seq(rig.j) < opened, 1);
        for (uint32_t i = 0; i < CHUNK_BLOCKS; i++) {
            uint64_t block = OPEN_CHUNK * CHUNK_BLOCKS + i;
            uint64_t sum = sum_block(rig_seed(&rig, block), data, BLOCK);

            assert_int_equal(rig_write(&rig, 8, 1), -EAGAIN);
            assert_int_equal(journal_append_spilled(rig.j, block, 1, &sum,
                                                    data), 0);
        }
        journal_forget_bypass(rig.j, OPEN_CHUNK, opened);
        assert_int_equal(space_of(&rig).held_bytes, 0);
        assert_int_equal(space_of(&rig).bypassed_chunks, 0);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(space_of(&rig).live_blocks,
                         CHUNK_BLOCKS + 1);
        rig_done(&rig);
        temp_dir_done(&dir);
    }
}

/* A replay tells of it, as long as the record is kept; and forgets, at the
 * record, what the chunk had before (J9). */
static void
a_replay_tells_what_went_past(void **state)
{
    const uint64_t sums[] = { 11, 12, 13, 14, 21, 22 };
    const struct journal_bypassed record = { OPEN_CHUNK * CHUNK_BLOCKS + 2, 4,
                                             2, sums };
    struct told told = { 0 };
    struct temp_dir dir;
    struct rig rig;
    uint64_t seq, opened;
    size_t done;

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, BLOCK, CHUNK_BLOCKS, 100, 1 << 20, 0);
    assert_int_equal(rig_write(&rig, 1, 1), 0); /* holds the tail */
    assert_int_equal(rig_write(&rig, OPEN_CHUNK * CHUNK_BLOCKS, 3), 0);
    assert_int_equal(rig_write(&rig, 1, 1), 0);
    assert_int_equal(rig_destage(&rig, 1, &done), 0);
    assert_int_equal(space_of(&rig).dirty_chunks, 1);
    assert_int_equal(journal_append_bypass(rig.j, OPEN_CHUNK, &opened), 0);
    assert_int_equal(journal_append_bypassed(rig.j, &record, &seq), 0);
    replay_told(&rig, &told);
    assert_int_equal(told.chunks, 1);
    assert_int_equal(told.seq, opened);
    assert_int_equal(told.records, 1);
    assert_int_equal(told.last.first, record.first);
    assert_int_equal(told.last.count, 4);
    assert_int_equal(told.last.more, 2);
    assert_memory_equal(told.sums, sums, sizeof sums);
    assert_int_equal(space_of(&rig).dirty_chunks, 1);
    assert_int_equal(space_of(&rig).bypassed_chunks, 1);
    assert_int_equal(journal_checkpoint_seq(rig.j) < opened, 1);
    told.is_done = true;
    replay_told(&rig, &told);
    assert_int_equal(space_of(&rig).bypassed_chunks, 0);
    rig_done(&rig);
    temp_dir_done(&dir);
}

/* Not without limit: there must be room for others. */
static void
few_chunks_may_be_open(void **state)
{
    struct temp_dir dir;
    struct rig rig;
    uint64_t seq;
    size_t count = 0;

    (void)state;
    temp_dir_init(&dir);
    rig_init(&rig, dir.target, BLOCK, CHUNK_BLOCKS, 4000, 4 << 20, 0);
    while (journal_append_bypass(rig.j, count, &seq) == 0)
        count++;
    assert_in_range(count, 1, 16);
    assert_int_equal(count, journal_bypass_max(rig.j));
    assert_true(space_of(&rig).held_bytes <= space_of(&rig).ring_bytes / 4);
    assert_int_equal(rig_write(&rig, 4000 - 8, 8), 0);
    rig_check(&rig);
    rig_done(&rig);
    temp_dir_done(&dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_blocks_are_read),
        cmocka_unit_test(references_have_no_bytes),
        cmocka_unit_test(opening_needs_a_journal_and_its_lock),
        cmocka_unit_test(identity_is_kept),
        cmocka_unit_test(a_whole_chunk_gets_one_mark),
        cmocka_unit_test(a_mark_outlives_growth),
        cmocka_unit_test(zeroing_a_hole_costs_nothing),
        cmocka_unit_test(forget_keeps_what_is_newer),
        cmocka_unit_test(redo_comes_back_in_order_until_advance),
        cmocka_unit_test(redo_left_behind_leaves_room),
        cmocka_unit_test(redo_left_behind_in_the_ring_leaves_room),
        cmocka_unit_test(the_tail_waits_for_what_is_live),
        cmocka_unit_test(syncs_are_shared),
        cmocka_unit_test(a_new_journal_disowns_the_old_records),
        cmocka_unit_test(limits_are_said),
        cmocka_unit_test(a_smaller_index_still_replays),
        cmocka_unit_test(failure_is_sticky_and_reads_go_on),
        cmocka_unit_test(rot_under_a_live_block_is_an_error),
        cmocka_unit_test(a_run_is_read_at_once),
        cmocka_unit_test(an_epoch_that_was_used_is_refused),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(there_is_room_for_what_went_past),
        cmocka_unit_test(a_replay_tells_what_went_past),
        cmocka_unit_test(few_chunks_may_be_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
