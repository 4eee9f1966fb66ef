/* Rot and torn writes: found, told apart, never taken for data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include "journal/journal_format.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512u

static void
flip(struct rig *rig, uint64_t at, unsigned bit)
{
    rig->cut.now[at] ^= (uint8_t)(1u << bit);
    rig->cut.medium[at] ^= (uint8_t)(1u << bit);
}

/* A record of every kind, all synced. */
static void
fill_and_sync(struct rig *rig)
{
    rig_init(rig, NULL, BLOCK, 8, 64, 65536, 0);
    assert_int_equal(rig_write(rig, 0, 3), 0);
    assert_int_equal(rig_zero(rig, 1, 9), 0);
    rig_redo(rig, 512);
    assert_int_equal(rig_write(rig, 2, 1), 0);
    assert_int_equal(rig_sync(rig), 0);
}

static uint64_t
head_at(struct rig *rig)
{
    struct journal_space space;

    journal_space(rig->j, &space);
    return RING_AT + space.used_bytes;
}

/* Every byte of [from, to): replay must refuse. */
static void
each_flip_is_corrupt(struct rig *rig, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at++) {
        int r;

        flip(rig, at, at % 8);
        r = rig_reopen(rig);
        if (r != -EBADMSG)
            fail_msg("flip at %llu: %d", (unsigned long long)at, r);
        flip(rig, at, at % 8);
    }
    assert_int_equal(rig_reopen(rig), 0);
    assert_false(rig->stats.torn_tail);
    rig_check(rig);
}

static void
rot_that_a_later_record_knows_of(void **state)
{
    struct rig rig;
    uint64_t end;

    (void)state;
    fill_and_sync(&rig);
    end = head_at(&rig);
    assert_int_equal(rig_write(&rig, 7, 2), 0);
    each_flip_is_corrupt(&rig, RING_AT, end);
    each_flip_is_corrupt(&rig, rig_area_at(&rig), rig_area_at(&rig) + 512);
    rig_done(&rig);
}

static void
rot_that_the_superblock_knows_of(void **state)
{
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    assert_int_equal(journal_store_identity(rig.j, journal_identity(rig.j)),
                     0);
    each_flip_is_corrupt(&rig, RING_AT, head_at(&rig));
    each_flip_is_corrupt(&rig, rig_area_at(&rig), rig_area_at(&rig) + 512);
    rig_done(&rig);
}

static void
a_torn_tail_is_cut_off(void **state)
{
    uint64_t from, to, end;
    uint8_t *whole;
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    from = head_at(&rig);
    assert_int_equal(rig_write(&rig, 2, 2), 0);
    to = head_at(&rig);
    assert_int_equal(rig_write(&rig, 30, 1), 0);
    end = head_at(&rig);
    whole = malloc(end - from);
    assert_non_null(whole);
    memcpy(whole, rig.cut.now + from, end - from);
    for (uint64_t at = from; at < to; at++) {
        flip(&rig, at, at % 8);
        if (rig_reopen(&rig) < 0)
            fail_msg("flip at %llu: %s", (unsigned long long)at, err_text());
        assert_true(rig.stats.torn_tail);
        assert_int_equal(rig.stats.records, 4);
        assert_true(rig.stats.max_seq > 0);
        assert_int_equal(head_at(&rig), from);
        assert_int_equal(rig_read(&rig, 2), 2);
        assert_int_equal(rig_read(&rig, 3), 0);
        assert_int_equal(rig_read(&rig, 30), 0);
        memcpy(rig.cut.now + from, whole, end - from);
        memcpy(rig.cut.medium + from, whole, end - from);
    }
    free(whole);
    /* What follows the end is nobody's business, but for the body. */
    for (uint64_t at = end; at < 65536 - RING_AT; at += 97) {
        if (at >= rig_area_at(&rig) && at < rig_area_at(&rig) + 512)
            continue;
        flip(&rig, at, at % 8);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_false(rig.stats.torn_tail);
        rig_check(&rig);
        flip(&rig, at, at % 8);
    }
    rig_done(&rig);
}

/* The records behind a torn one stay in the ring: they never come back. */
static void
what_was_cut_off_never_returns(void **state)
{
    uint64_t from;
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    from = head_at(&rig);
    assert_int_equal(rig_write(&rig, 20, 1), 0);
    assert_int_equal(rig_write(&rig, 21, 1), 0);
    flip(&rig, from + 40, 1);
    assert_int_equal(rig_reopen(&rig), 0);
    rig_adopt(&rig);
    assert_int_equal(rig_read(&rig, 21), 0);
    /* Just as long as the one that was torn: the old one follows it. */
    assert_int_equal(rig_write(&rig, 22, 1), 0);
    for (unsigned run = 0; run < 2; run++) {
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig.stats.records, 5);
        rig_check(&rig);
    }
    assert_int_equal(rig_write(&rig, 23, 4), 0);
    assert_int_equal(rig_sync(&rig), 0);
    assert_int_equal(rig_reopen(&rig), 0);
    rig_check(&rig);
    rig_done(&rig);
}

/* The same, when its payload becomes right again: the next life writes the same
 * bytes there, and its header is lost. */
static void
what_was_torn_never_heals(void **state)
{
    uint64_t from;
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    from = head_at(&rig);
    assert_int_equal(rig_write(&rig, 20, 1), 0);
    flip(&rig, from + JOURNAL_ALIGN_BYTES, 1);
    assert_int_equal(rig_reopen(&rig), 0);
    assert_true(rig.stats.torn_tail);
    rig_adopt(&rig);
    assert_int_equal(rig_read(&rig, 20), 0);
    flip(&rig, from + JOURNAL_ALIGN_BYTES, 1);
    for (unsigned run = 0; run < 2; run++) {
        cut_target_cut(&rig.cut);
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig.stats.records, 4);
        assert_int_equal(rig_read(&rig, 20), 0);
        rig_check(&rig);
    }
    rig_done(&rig);
}

struct lie {
    unsigned at; /* in the header */
    uint64_t value;
    unsigned bytes;
};

/* Of the header at this place, its sum made right again. */
static void
lie_is_refused(struct rig *rig, uint64_t header_at, const struct lie *lie)
{
    uint8_t *header = rig->cut.now + header_at;
    uint8_t before[512];
    int r;

    memcpy(before, header, sizeof before);
    if (lie->bytes == 8)
        put_le64(header + lie->at, lie->value);
    else
        put_le32(header + lie->at, (uint32_t)lie->value);
    put_le64(header + 8, sum_bytes(header + 16,
                                   get_le32(header + 60) - 16));
    r = rig_reopen(rig);
    if (r != (lie->at == 56 ? -EPROTO : -EBADMSG))
        fail_msg("lie %u %" PRIu64 ": %d %s", lie->at, lie->value, r,
                 r < 0 ? err_text() : "");
    memcpy(header, before, sizeof before);
}

/* A header that passes its sum and asks for the impossible. */
static void
nonsense_is_refused(void **state)
{
    static const struct lie lies[] = {
        { 40, UINT64_MAX, 8 }, /* durable beyond itself */
        { 56, 9, 4 },          /* type */
        { 56, 0, 4 },
        { 60, 1024, 4 },       /* header_bytes */
        { 64, 64, 8 },         /* first */
        { 64, UINT64_MAX, 8 },
        { 72, 0, 8 },          /* count */
        { 72, 4, 8 },
        { 72, UINT64_MAX, 8 },
        { 80, 0, 8 },          /* payload_bytes */
        { 80, UINT64_MAX, 8 },
        { RECORD_FIXED_BYTES, 0, 8 }, /* a block's sum */
    };
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        lie_is_refused(&rig, RING_AT, &lies[i]);
    assert_int_equal(rig_reopen(&rig), 0);
    rig_check(&rig);
    rig_done(&rig);
}

/* … of a body in the area. */
static void
nonsense_about_the_area_is_refused(void **state)
{
    uint64_t area, area_bytes, header;
    struct journal_space space;
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    header = head_at(&rig);
    rig_redo(&rig, 600);
    assert_int_equal(rig_sync(&rig), 0);
    assert_int_equal(rig_write(&rig, 5, 1), 0); /* knows that it was durable */
    journal_space(rig.j, &space);
    area = rig_area_at(&rig);
    area_bytes = space.area_bytes;
    const struct lie lies[] = {
        { 64, area - 512, 8 },              /* before it */
        { 64, area, 8 },                    /* where the other one is */
        { 64, area + 1024, 8 },             /* with a gap */
        { 64, area + area_bytes - 512, 8 }, /* longer than what is left */
        { 64, area + area_bytes, 8 },
        { 64, UINT64_MAX - 100, 8 },
        { 80, 0, 8 },
        { 80, area_bytes, 8 },
        { 80, JOURNAL_REDO_BYTES_MAX + 1, 8 },
        { 80, UINT64_MAX, 8 },
        { 88, 1, 8 },                       /* the body's sum */
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        lie_is_refused(&rig, header, &lies[i]);
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig.redo_count, 2);
    rig_done(&rig);
}

/* In a journal without an area there are none. */
static void
an_area_that_is_not_there_is_refused(void **state)
{
    uint64_t header;
    struct rig rig;

    (void)state;
    rig_init_without_area(&rig, BLOCK, 8, 64, 65536, 0);
    header = head_at(&rig);
    rig_redo(&rig, 512);
    put_le32(rig.cut.now + header + 56, RECORD_REDO_APART);
    put_le64(rig.cut.now + header + 8,
             sum_bytes(rig.cut.now + header + 16, 512 - 16));
    assert_int_equal(rig_reopen(&rig), -EBADMSG);
    rig_done(&rig);
}

/* One superblock, as it is stored. */
static void
superblocks_are_what_they_were(void **state)
{
    struct journal_super s = {
        .identity.block_bytes = 4096,
        .counter = 5,
        .file_bytes = 1 << 20,
        .salt = 6,
        .tail_at = 8192 + 512,
        .tail_chain = 7,
        .tail_seq = 8,
        .durable_seq = 9,
        .redo_seq = 10,
        .area_bytes = 12 << 12,
        .index_limit = 11,
    }, got;
    uint8_t bytes[SUPER_BYTES];

    (void)state;
    memset(&s.identity.volume, 0x12, 16);
    s.identity.part_ckpt[3] = 33;
    s.identity.view.history_count = 2;
    s.identity.view.history[1].epoch = 44;
    journal_super_encode(&s, bytes);
    assert_int_equal(journal_super_decode(bytes, &got), 0);
    assert_memory_equal(&s, &got, sizeof s);
    for (unsigned at = 0; at < SUPER_BYTES; at++) {
        bytes[at] ^= 16;
        assert_int_equal(journal_super_decode(bytes, &got), -EBADMSG);
        bytes[at] ^= 16;
    }
    bytes[24] |= 2; /* an incompatible feature */
    put_le64(bytes + 8, sum_bytes(bytes + 16, SUPER_BYTES - 16));
    assert_int_equal(journal_super_decode(bytes, &got), -EPROTO);
}

struct outcomes {
    unsigned fine, refused, unopened;
};

/* All but the copies in `damaged` are well: right data, or a refusal. */
static void
with_superblocks_damaged(struct rig *rig, unsigned damaged, unsigned newest,
                         uint64_t *random, struct outcomes *count)
{
    uint8_t *keep = malloc(rig->file_bytes);
    uint64_t file_bytes = rig->file_bytes;
    int r;

    assert_non_null(keep);
    memcpy(keep, rig->cut.now, file_bytes);
    for (unsigned copy = 0; copy < 4; copy++) {
        if (damaged & 1u << copy)
            flip(rig, super_at(file_bytes, copy) +
                      next_random(random) % SUPER_BYTES, 3);
    }
    r = rig_reopen(rig);
    if ((damaged >> 2 * newest & 3) == 0)
        assert_int_equal(r, 0);
    if (damaged == 15)
        assert_null(rig->j);
    if (r == 0) {
        count->fine++;
        rig_check(rig);
    } else {
        assert_int_equal(r, -EBADMSG);
        count->refused++;
    }
    memcpy(rig->cut.now, keep, file_bytes);
    memcpy(rig->cut.medium, keep, file_bytes);
    free(keep);
}

static void
damaged_superblocks_never_mislead(void **state)
{
    struct outcomes count = { 0 };
    uint64_t random = 1;
    struct rig rig;
    size_t done;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, 65536, 0);
    for (unsigned run = 0; run < 60; run++) {
        unsigned newest;

        for (uint64_t i = next_random(&random) % 25; i > 0; i--) {
            int r = rig_write(&rig, next_random(&random) % 64, 1);

            assert_true(r == 0 || r == -EAGAIN);
        }
        assert_int_equal(rig_destage(&rig, next_random(&random) % 10, &done),
                         0);
        if (run % 3 != 0)
            assert_int_equal(rig_advance(&rig), 0);
        newest = get_le64(rig.cut.now + 80) < get_le64(rig.cut.now +
                                                       SUPER_BYTES + 80);
        for (unsigned damaged = 0; damaged < 16; damaged++)
            with_superblocks_damaged(&rig, damaged, newest, &random, &count);
        assert_int_equal(rig_reopen(&rig), 0);
        if (run % 3 == 0)
            assert_int_equal(rig_destage(&rig, 64, &done), 0);
        assert_int_equal(rig_advance(&rig), 0);
    }
    assert_true(count.fine > 60 * 6);
    assert_true(count.refused >= 60);
    rig_done(&rig);
}

/* U4: one copy of the newest superblock went bad, so an older one counts, which
 * takes a REDO record for needed whose body was written over. What the good
 * copy knows helps; also once it has been replaced by newer ones. */
static void
one_bad_copy_costs_nothing(void **state)
{
    (void)state;
    for (unsigned laps = 1; laps <= 4; laps++)
        for (unsigned bad = 0; bad < 2; bad++) {
            struct rig rig;
            unsigned newest;

            rig_init(&rig, NULL, BLOCK, 8, 64, 65536, 0);
            assert_int_equal(rig_write(&rig, 0, 1), 0); /* keeps the tail */
            for (unsigned lap = 0; lap < laps; lap++) {
                rig_redo(&rig, 600 + lap);
                assert_int_equal(rig_write(&rig, 1 + lap, 1), 0);
                assert_int_equal(rig_advance(&rig), 0);
            }
            rig_redo(&rig, 700);
            assert_int_equal(rig_sync(&rig), 0);
            newest = get_le64(rig.cut.now + 80) <
                     get_le64(rig.cut.now + SUPER_BYTES + 80);
            flip(&rig, super_at(rig.file_bytes, 2 * newest + bad) + 500, 1);
            for (unsigned run = 0; run < 3; run++) {
                if (rig_reopen(&rig) < 0)
                    fail_msg("laps %u bad %u run %u: %s", laps, bad, run,
                             err_text());
                assert_int_equal(rig.redo_count, run == 2 ? 2 : 1);
                assert_int_equal(rig.redo_bytes[0], 700);
                rig_check(&rig);
                assert_int_equal(journal_store_identity(
                                     rig.j, journal_identity(rig.j)), 0);
                if (run == 1)
                    rig_redo(&rig, 800);
            }
            rig_done(&rig);
        }
}

/* A body that can't be read is no torn one: nothing is given up. */
static void
an_unreadable_body_is_an_error(void **state)
{
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    rig.cut.bad_at[0] = rig_area_at(&rig) + 1;
    assert_int_equal(rig_reopen(&rig), -EIO);
    rig.cut.bad_at[0] = 0;
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig.redo_count, 1);
    rig_check(&rig);
    rig_done(&rig);
}

/* U3: copies that can't be read make none older than they are. */
static void
unreadable_superblocks_never_mislead(void **state)
{
    struct rig rig;
    size_t done;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, 65536, 0);
    for (unsigned run = 1; run < 20; run++) {
        uint64_t ckpt[PARTS_MAX] = { run };

        assert_int_equal(rig_write(&rig, run, 1), 0);
        assert_int_equal(rig_destage(&rig, 64, &done), 0);
        assert_int_equal(journal_advance(rig.j, ckpt), 0);
        for (unsigned bad = 0; bad < 16; bad++) {
            bool pair = (bad & 3) == 3 || (bad & 12) == 12;

            for (unsigned copy = 0; copy < 4; copy++)
                rig.cut.bad_at[copy] = bad & 1u << copy
                                           ? super_at(rig.file_bytes, copy) + 1
                                           : 0;
            assert_int_equal(rig_reopen(&rig), pair ? -EIO : 0);
            if (pair)
                continue;
            assert_int_equal(journal_identity(rig.j)->part_ckpt[0], run);
            rig_check(&rig);
        }
        memset(rig.cut.bad_at, 0, sizeof rig.cut.bad_at);
        assert_int_equal(rig_reopen(&rig), 0);
    }
    rig_done(&rig);
}

/* A header that passes its sum, but does not follow the one before it. */
static void
only_the_next_record_follows(void **state)
{
    static const struct { unsigned at; uint64_t value; } lies[] = {
        { 16, 1 },             /* salt */
        { 24, 0 },             /* seq: that of the first, below */
        { 32, 1 },             /* chain */
        { 48, RING_AT },       /* at */
    };
    struct rig rig;

    (void)state;
    fill_and_sync(&rig);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        uint8_t *header = rig.cut.now + RING_AT + 512 + 3 * BLOCK;
        uint8_t before[512];

        memcpy(before, header, sizeof before);
        put_le64(header + lies[i].at, lies[i].at == 24
                 ? get_le64(rig.cut.now + RING_AT + 24) : lies[i].value);
        put_le64(header + 8, sum_bytes(header + 16, sizeof before - 16));
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(rig.stats.records, 1);
        memcpy(header, before, sizeof before);
    }
    assert_int_equal(rig_reopen(&rig), 0);
    assert_int_equal(rig.stats.records, 4);
    rig_check(&rig);
    rig_done(&rig);
}

/* Half a superblock was written: the whole, older pair is in force. */
static void
a_half_written_superblock_is_not_used(void **state)
{
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, 65536, 0);
    for (unsigned run = 1; run < 9; run++) {
        uint64_t ckpt[PARTS_MAX] = { run }, before;

        before = journal_identity(rig.j)->part_ckpt[0];
        assert_int_equal(rig_write(&rig, run, 1), 0);
        rig.cut.calls_left = 1 + run % 3; /* of sync, copy, copy, sync */
        assert_int_equal(journal_advance(rig.j, ckpt), -EIO);
        rig.cut.calls_left = -1;
        assert_int_equal(rig_reopen(&rig), 0);
        assert_int_equal(journal_identity(rig.j)->part_ckpt[0],
                         run % 3 == 2 ? run : before);
        rig_check(&rig);
    }
    rig_done(&rig);
}

/* The copies of the greatest counter that stands in both of its pair. */
static uint64_t
in_force(const struct rig *rig)
{
    const uint8_t *now = rig->cut.now;
    uint64_t best = UINT64_MAX, counter = 0;

    for (unsigned copy = 0; copy < 4; copy += 2) {
        uint64_t a = super_at(rig->file_bytes, copy);
        uint64_t b = super_at(rig->file_bytes, copy + 1);

        if (memcmp(now + a, now + b, SUPER_BYTES) == 0 &&
            get_le64(now + a + 80) >= counter) {
            counter = get_le64(now + a + 80);
            best = a;
        }
    }
    assert_true(best != UINT64_MAX);
    return best;
}

static void
the_pair_in_force_is_never_written(void **state)
{
    uint8_t before[SUPER_BYTES];
    struct rig rig;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, 65536, 0);
    for (unsigned run = 0; run < 12; run++) {
        uint64_t at = in_force(&rig);

        memcpy(before, rig.cut.now + at, SUPER_BYTES);
        rig.cut.calls_left = run % 3; /* of copy, copy, sync */
        assert_int_equal(journal_store_identity(rig.j,
                                                journal_identity(rig.j)),
                         -EIO);
        rig.cut.calls_left = -1;
        assert_memory_equal(before, rig.cut.now + at, SUPER_BYTES);
        assert_int_equal(rig_reopen(&rig), 0);
    }
    rig_done(&rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot_that_a_later_record_knows_of),
        cmocka_unit_test(rot_that_the_superblock_knows_of),
        cmocka_unit_test(a_torn_tail_is_cut_off),
        cmocka_unit_test(what_was_cut_off_never_returns),
        cmocka_unit_test(what_was_torn_never_heals),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(nonsense_about_the_area_is_refused),
        cmocka_unit_test(an_area_that_is_not_there_is_refused),
        cmocka_unit_test(superblocks_are_what_they_were),
        cmocka_unit_test(damaged_superblocks_never_mislead),
        cmocka_unit_test(one_bad_copy_costs_nothing),
        cmocka_unit_test(an_unreadable_body_is_an_error),
        cmocka_unit_test(unreadable_superblocks_never_mislead),
        cmocka_unit_test(only_the_next_record_follows),
        cmocka_unit_test(a_half_written_superblock_is_not_used),
        cmocka_unit_test(the_pair_in_force_is_never_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
