/* Large writes into new chunks, which go past the journal. */
#include "unit.h"
#include "rig.h"
#include "volume/bypass.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RING = 32 << 20, PIECE = CHUNK / 4, STRIPE = 4 * BLOCK };

static const struct kind three = {.replicas = 3, .block_bytes = BLOCK,
                                  .chunk_bytes = CHUNK, .size_bytes = BYTES,
                                  .journal_bytes = RING};
static const struct kind one = {.replicas = 1, .block_bytes = BLOCK,
                                .chunk_bytes = CHUNK, .size_bytes = BYTES,
                                .journal_bytes = RING};
static const struct kind wide = {.ec_data = 4, .ec_parity = 2,
                                 .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                                 .size_bytes = BYTES, .journal_bytes = RING};
static const struct kind narrow = {.ec_data = 2, .ec_parity = 1,
                                   .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                                   .size_bytes = BYTES, .journal_bytes = RING};
static const struct kind *const kinds[] = {&three, &one, &wide};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct rig *
opened(const struct kind *kind, bool threaded)
{
    struct rig *rig = rig_new(kind);

    rig_set(rig, "bypass-after=0");
    rig_open(rig, threaded);
    return rig;
}

static void
reopen(struct rig *rig)
{
    bool threaded = rig->threaded;

    rig_kill(rig);
    rig_open(rig, threaded);
}

/* Some pieces of a chunk, which counts from 0. */
static void
stream(struct rig *rig, uint64_t chunk, unsigned pieces)
{
    for (unsigned i = 0; i < pieces; i++)
        assert_int_equal(rig_write(rig, chunk * CHUNK + i * PIECE, PIECE), 0);
}

static struct lsvd_counters
counters(struct rig *rig)
{
    return rig_status(rig)->counters;
}

static uint64_t
open_chunks(struct rig *rig)
{
    return rig_status(rig)->dirty_chunks;
}

static void
flush(struct rig *rig)
{
    MUST(lsvd_flush(rig->world.volume));
}

/* Bytes are written once, to the parts; a flush makes them durable there. */
static void
test_bytes_are_written_once(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct rig *rig = opened(kinds[k], false);
        uint64_t parts = kinds[k]->replicas ? kinds[k]->replicas : 6;
        uint64_t factor = kinds[k]->replicas ? 2 * kinds[k]->replicas : 3;
        uint64_t before = counters(rig).part_bytes;

        for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
            stream(rig, chunk, 4);
            if (chunk % 2 == 1)
                flush(rig);
        }
        assert_int_equal(open_chunks(rig), 0);
        assert_int_equal(counters(rig).bypass_bytes, BYTES);
        assert_int_equal(counters(rig).bypass_spills, 0);
        assert_true(counters(rig).journal_bytes < BYTES / 10);
        /* in halves; and headers, tables, labels, a little for each chunk */
        assert_in_range(counters(rig).part_bytes - before,
                        BYTES / 2 * factor,
                        BYTES / 2 * factor + parts * CHUNKS * 40960);
        rig_check(rig);
        reopen(rig);
        assert_int_equal(counters(rig).bypass_recovered, 0);
        rig_check(rig);
        rig_end(rig);
    }
}

/* What was answered is there after a kill, also when it was not flushed. */
static void
test_a_kill_loses_nothing(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        for (unsigned pieces = 1; pieces <= 4; pieces++) {
            struct rig *rig = opened(kinds[k], false);

            stream(rig, 1, pieces);
            assert_int_equal(open_chunks(rig), 1);
            rig_check(rig);
            reopen(rig);
            assert_int_equal(counters(rig).bypass_recovered, 1);
            rig_check(rig);
            reopen(rig);
            assert_int_equal(counters(rig).bypass_recovered, 0);
            rig_check(rig);
            rig_end(rig);
        }
    }
}

/* Nor when all chunk tables are lost with it: the headers of the files, which
 * date them then, are as old as the records. */
static void
test_a_kill_and_no_table(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        uint32_t parts = kinds[k]->replicas ? kinds[k]->replicas : 6;
        struct rig *rig = opened(kinds[k], false);
        char path[512], name[32];

        stream(rig, 0, 4); /* closed: */
        flush(rig);
        stream(rig, 1, 3);
        assert_int_equal(open_chunks(rig), 1);
        rig_kill(rig);
        for (uint32_t i = 0; i < parts; i++) {
            snprintf(name, sizeof name, "%c/.chunks", (int)('a' + i));
            world_path(&rig->world, name, path);
            assert_int_equal(unlink(path), 0);
        }
        rig_open(rig, false);
        assert_int_equal(counters(rig).bypass_recovered, 1);
        rig_check(rig);
        rig_end(rig);
    }
}

/* Nor does a part that is away at the start, or has lost its file. */
static void
test_a_part_is_away_after_a_kill(void **state)
{
    static const struct kind *const spare[] = {&three, &wide};
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        struct rig *rig = opened(spare[k], false);

        stream(rig, 0, 4);
        stream(rig, 1, 3);
        rig_kill(rig);
        rig_take_away(rig, 'b');
        rig_open(rig, false);
        assert_int_equal(counters(rig).bypass_recovered, 2);
        rig_check(rig);
        rig_put_back(rig, 'b');
        rig_until(rig, rig_is_healthy, 0);
        rig_check(rig);
        rig_end(rig);
    }
}

/* Cells that did not get to the medium are computed where they can be, and else
 * holes, on all parts alike. */
static void
test_what_a_power_cut_took_is_a_hole(void **state)
{
    static uint8_t zeroes[CHUNK];
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct rig *rig = opened(kinds[k], false);
        uint32_t parts = kinds[k]->replicas ? kinds[k]->replicas : 6;
        char name[16];

        stream(rig, 0, 2);
        rig_kill(rig);
        for (uint32_t i = 0; i < parts; i++) { /* the last cells of each */
            char path[512];
            struct stat st;
            FILE *file;

            (void)snprintf(name, sizeof name, "%c/1", (char)('a' + i));
            world_path(&rig->world, name, path);
            assert_int_equal(stat(path, &st), 0);
            file = fopen(path, "r+");
            assert_non_null(file);
            assert_int_equal(fseek(file, st.st_size / 4, SEEK_SET), 0);
            assert_int_equal(fwrite(zeroes, 1, (size_t)st.st_size / 2, file),
                             st.st_size / 2);
            assert_int_equal(fclose(file), 0);
        }
        rig_open(rig, false);
        assert_int_equal(counters(rig).bypass_recovered, 1);
        MUST(lsvd_pread(rig->world.volume, rig->found, CHUNK, 0));
        for (size_t at = 0; at < CHUNK; at += BLOCK)
            assert_true(memcmp(rig->found + at, rig->model + at, BLOCK) == 0 ||
                        memcmp(rig->found + at, zeroes, BLOCK) == 0);
        assert_memory_equal(rig->found, rig->model, BLOCK);
        assert_memory_equal(rig->found + CHUNK / 2 - BLOCK, zeroes, BLOCK);
        memcpy(rig->model, rig->found, CHUNK);
        rig_check(rig);
        rig_end(rig);
    }
}

/* What can't go the same way closes the chunk first. */
static void
test_other_writes_close_it(void **state)
{
    struct rig *rig;

    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        for (unsigned what = 0; what < 5; what++) {
            rig = opened(kinds[k], k == 0);
            stream(rig, 2, 3);
            assert_int_equal(open_chunks(rig), 1);
            switch (what) {
            case 0: /* within a block that was written */
                assert_int_equal(rig_write(rig, 2 * CHUNK + 100, 1000), 0);
                break;
            case 1: /* over what was written */
                assert_int_equal(rig_write(rig, 2 * CHUNK + BLOCK, PIECE), 0);
                break;
            case 2: /* beyond its end; the rest of it is a hole */
                assert_int_equal(rig_write(rig, 3 * CHUNK - STRIPE,
                                           3 * STRIPE), 0);
                break;
            case 3:
                assert_int_equal(rig_trim(rig, 2 * CHUNK, CHUNK), 0);
                break;
            default:
                assert_int_equal(rig_trim(rig, 2 * CHUNK + BLOCK, 5000), 0);
                break;
            }
            rig_check(rig);
            reopen(rig);
            rig_check(rig);
            rig_end(rig);
        }
    }
}

/* A part that fails: its blocks are in the journal then, and it is dropped by
 * destage, if it fails still. */
static void
test_a_part_fails(void **state)
{
    static const unsigned refuse[] = {REFUSE_WRITES, REFUSE_SYNCS,
                                      REFUSE_WRITES | REFUSE_SPACE};
    (void)state;
    for (size_t i = 0; i < sizeof refuse / sizeof refuse[0]; i++) {
        for (unsigned before = 0; before < 2; before++) {
            struct rig *rig = opened(&three, true);

            stream(rig, 0, 2 * before);
            atomic_store(&rig->io.refuse[1], refuse[i]);
            stream(rig, 1, 4);
            stream(rig, 2, 4);
            flush(rig);
            rig_check(rig);
            assert_true(counters(rig).bypass_spills > 0 ||
                        rig_has_dropped(rig_status(rig), 1));
            atomic_store(&rig->io.refuse[1], 0);
            rig_until(rig, rig_is_healthy, 0);
            rig_check(rig);
            reopen(rig);
            rig_check(rig);
            rig_end(rig);
        }
    }
}

/* One that is alone: nothing is lost, and what was answered is in the journal.
 */
static void
test_the_only_part_fails(void **state)
{
    struct rig *rig = opened(&one, true);

    (void)state;
    stream(rig, 0, 3);
    atomic_store(&rig->io.refuse[0], REFUSE_WRITES | REFUSE_SYNCS);
    flush(rig);
    assert_int_equal(counters(rig).bypass_spills, 1);
    rig_check(rig);
    rig_kill(rig);
    atomic_store(&rig->io.refuse[0], 0);
    rig_open(rig, true);
    rig_check(rig);
    rig_end(rig);
}

/* A batch that two parts refuse is kept, of a row that is new on the third: its
 * REDO record is all that the row can be put right with. To close a chunk
 * beside it does not end that. False: it was closed before. */
static bool
keeps_redo_beside_it(bool one_round_before)
{
    struct rig *rig = opened(&narrow, false);
    bool beside;

    stream(rig, 0, 4);
    flush(rig);
    world_drain(&rig->world);
    if (one_round_before) /* every second one closes what is open */
        (void)lsvd_destage_step(rig->world.volume);
    assert_int_equal(rig_write(rig, 0, BLOCK), 0); /* a block of part a */
    stream(rig, 1, 2);
    rig->io.only = "1";
    rig->io.refuse[1] = rig->io.refuse[2] = REFUSE_WRITES;
    assert_int_equal(lsvd_destage_step(rig->world.volume), -EIO);
    assert_false(rig_has_dropped(rig_status(rig), 1));
    beside = rig->world.volume->bypass.count == 1;
    flush(rig);
    assert_int_equal(rig->world.volume->bypass.count, 0);
    rig_kill(rig);
    rig->io.refuse[1] = rig->io.refuse[2] = 0;
    rig_take_away(rig, 'b');
    rig_open(rig, false);
    rig_check(rig);
    rig_kill(rig);
    rig_free(rig);
    return beside;
}

static void
test_a_kept_batch_keeps_its_redo(void **state)
{
    bool first = keeps_redo_beside_it(false);

    (void)state;
    assert_int_equal(keeps_redo_beside_it(true), !first);
}

/* Blocks to read, and what is allocated, while it is open. */
static void
test_it_is_read_while_it_is_open(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct rig *rig = opened(kinds[k], false);

        stream(rig, 0, 2);
        rig_check(rig);
        if (kinds[k] != &one) {
            rig_take_away(rig, 'a');
            rig_look(rig, 3);
            rig_check(rig);
            rig_put_back(rig, 'a');
            rig_until(rig, rig_is_healthy, 0);
        }
        stream(rig, 1, 4);
        rig_check(rig);
        rig_end(rig);
    }
}

/* verify of a served volume, a new size, and what is unusual. */
static void
test_beside_other_work(void **state)
{
    struct lsvd_repair_callbacks cb = {0};
    struct lsvd_report report;
    struct rig *rig = opened(&three, true);

    (void)state;
    stream(rig, 0, 3);
    stream(rig, 1, 2);
    MUST(lsvd_live_verify(rig->world.volume, true, &cb, &report));
    assert_true(report.policy_met);
    assert_false(report.data_lost);
    assert_int_equal(open_chunks(rig), 0);
    stream(rig, 3, 3);
    rig_check(rig);
    rig_close(rig);
    rig_open(rig, true);
    assert_int_equal(counters(rig).bypass_recovered, 0);
    rig_check(rig);
    rig_end(rig);
}

/* What goes to the journal as ever. */
static void
test_what_does_not_go_past(void **state)
{
    struct rig *rig = rig_new(&three);

    (void)state;
    rig_set(rig, "bypass-after=never");
    rig_open(rig, false);
    stream(rig, 0, 4);
    assert_int_equal(counters(rig).bypass_bytes, 0);
    rig_end(rig);

    rig = rig_new(&three);
    rig_set(rig, "bypass-after=512k");
    rig_open(rig, false);
    stream(rig, 0, 4); /* not enough without a flush yet */
    stream(rig, 1, 4);
    assert_int_equal(counters(rig).bypass_bytes, 0);
    stream(rig, 2, 4);
    assert_int_equal(counters(rig).bypass_bytes, CHUNK);
    flush(rig);
    stream(rig, 3, 4);
    assert_int_equal(counters(rig).bypass_bytes, CHUNK);
    rig_end(rig);

    rig = opened(&three, false);
    rig_fill(rig);
    stream(rig, 0, 4); /* it holds something */
    assert_int_equal(rig_write(rig, CHUNK + BLOCK, BLOCK), 0);
    assert_true(counters(rig).bypass_bytes <= BYTES);
    rig_end(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_written_once),
        cmocka_unit_test(test_a_kill_loses_nothing),
        cmocka_unit_test(test_a_kill_and_no_table),
        cmocka_unit_test(test_a_part_is_away_after_a_kill),
        cmocka_unit_test(test_what_a_power_cut_took_is_a_hole),
        cmocka_unit_test(test_other_writes_close_it),
        cmocka_unit_test(test_a_part_fails),
        cmocka_unit_test(test_the_only_part_fails),
        cmocka_unit_test(test_a_kept_batch_keeps_its_redo),
        cmocka_unit_test(test_it_is_read_while_it_is_open),
        cmocka_unit_test(test_beside_other_work),
        cmocka_unit_test(test_what_does_not_go_past),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
