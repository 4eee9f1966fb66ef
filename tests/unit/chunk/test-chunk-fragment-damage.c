/* test-chunk-fragment-damage.c: every kind of damage to a chunk file is seen,
 * and costs no more than what was damaged. */
#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include "chunk/fragment.h"
#include "golden.h"
#include "temp-dir.h"
#include "unit.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK UINT64_C(5)
#define BLOCK 512u
#define ROWS 512u
#define SEQ UINT64_C(0x0000300000000007)

struct world {
    struct temp_dir d;
    struct geometry g;
    struct fragment_id id;
};

/* Row r holds bytes of value r % 250 + 1, or is zero (every fourth row). */
static bool
row_is_zero(uint32_t row)
{
    return row % 4 == 3;
}

static uint8_t
row_value(uint32_t row)
{
    return row_is_zero(row) ? 0 : (uint8_t)(row % 250 + 1);
}

static void
make_file(struct world *w)
{
    uint8_t cell[BLOCK];
    struct iovec iov = {cell, sizeof cell};
    struct fragment *f;

    assert_int_equal(fragment_create(w->d.target, "5", &w->g, &w->id, &f), 0);
    for (uint32_t row = 0; row < ROWS; row++) {
        struct cell_entry entry = {SUM_ZERO_BLOCK, SEQ - row};

        memset(cell, row_value(row), sizeof cell);
        if (!row_is_zero(row)) {
            entry.sum = sum_block(fragment_cell_seed(&w->g, &w->id, row),
                                  cell, sizeof cell);
            assert_int_equal(fragment_write(f, row, 1, &iov, 1), 0);
        }
        fragment_set_entry(f, row, entry, NULL);
    }
    assert_int_equal(fragment_store_meta(f, SEQ), 0);
    fragment_close(f);
}

static void
world_init(struct world *w)
{
    temp_dir_init(&w->d);
    geometry_init(&w->g, 10 * CHUNK_BYTES_MIN, CHUNK_BYTES_MIN, BLOCK, 3, 0,
                  0);
    memset(&w->id, 0, sizeof w->id);
    memset(w->id.volume.b, 0x11, sizeof w->id.volume.b);
    memset(w->id.instance.b, 0x22, sizeof w->id.instance.b);
    w->id.chunk = CHUNK;
    w->id.fragment = 1;
    make_file(w);
}

static void
world_done(struct world *w)
{
    temp_dir_done(&w->d);
}

static int
try_open(struct world *w, const struct geometry *g,
         const struct fragment_id *id, bool writable)
{
    struct fragment *f;
    int r = fragment_open(w->d.target, g, id, writable, &f);

    if (r == 0)
        fragment_close(f);
    return r;
}

/* Read everything; exactly the rows first … first + count - 1 are bad, all
 * others hold what they should. */
static void
check_bad(struct world *w, bool doubtful, uint32_t first, uint32_t count)
{
    uint8_t *bytes = malloc(ROWS * BLOCK);
    struct iovec iov = {bytes, ROWS * BLOCK};
    struct fragment *f;
    bool bad[ROWS];

    assert_non_null(bytes);
    assert_int_equal(fragment_open(w->d.target, &w->g, &w->id, true, &f), 0);
    assert_int_equal(f->doubtful, doubtful);
    assert_int_equal(f->seq, SEQ);
    assert_int_equal(fragment_read(f, 0, ROWS, &iov, 1, bad), 0);
    for (uint32_t row = 0; row < ROWS; row++) {
        bool expected = row >= first && row < first + count;

        assert_int_equal(bad[row], expected);
        if (!expected)
            for (uint32_t i = 0; i < BLOCK; i++)
                assert_int_equal(bytes[row * BLOCK + i], row_value(row));
    }
    fragment_close(f);
    free(bytes);
}

static uint64_t
cell_at(const struct world *w, uint32_t row)
{
    return geometry_cell_at(&w->g, 1, row);
}

static uint64_t
entry_at(uint32_t row)
{
    return FRAGMENT_HEADER_BYTES + row * DATA_ENTRY_BYTES;
}

static void
test_size(void **state)
{
    struct world w;
    char path[512];
    uint64_t bytes;

    (void)state;
    world_init(&w);
    bytes = geometry_file_bytes(&w.g, 1);
    (void)snprintf(path, sizeof path, "%s/5", w.d.path);
    for (int i = 0; i < 5; i++) {
        static const int64_t change[] = {1, -1, 4096, -512, INT64_MIN};
        int64_t size = change[i] == INT64_MIN ? 0 : (int64_t)bytes + change[i];

        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(try_open(&w, &w.g, &w.id, true), -EBADMSG);
        assert_non_null(strstr(err_text(), "size"));
        assert_non_null(strstr(err_text(), "/5"));
    }
    world_done(&w);
}

static void
test_header_flips(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    for (uint64_t at = 0; at < 512; at++) {
        temp_dir_flip(&w.d, "5", at);
        assert_int_equal(try_open(&w, &w.g, &w.id, true), -EBADMSG);
        temp_dir_flip(&w.d, "5", at);
    }
    for (uint64_t at = 512; at < 4096; at += 511) { /* means nothing (C3) */
        temp_dir_flip(&w.d, "5", at);
        check_bad(&w, false, 0, 0);
    }
    world_done(&w);
}

/* A header with a right sum that says something else. */
static void
put_header(struct world *w, const struct fragment_header *h, uint32_t format)
{
    uint8_t bytes[FRAGMENT_HEADER_BYTES];

    fragment_header_encode(h, bytes);
    put_le32(bytes + 8, format);
    put_le64(bytes + 504, sum_bytes(bytes, 504));
    temp_dir_poke(&w->d, "5", 0, bytes, sizeof bytes);
}

static void
test_foreign(void **state)
{
    uint8_t bytes[FRAGMENT_HEADER_BYTES];
    struct fragment_header h, good;
    struct fragment_id id;
    struct world w;

    (void)state;
    world_init(&w);
    id = w.id;
    id.volume.b[15] ^= 1;
    assert_int_equal(try_open(&w, &w.g, &id, true), -EBADMSG);
    assert_non_null(strstr(err_text(), "another volume"));
    id = w.id;
    id.instance.b[0] ^= 1;
    assert_int_equal(try_open(&w, &w.g, &id, true), -EBADMSG);
    assert_non_null(strstr(err_text(), "another instance"));
    id = w.id;
    id.fragment = 2;
    assert_int_equal(try_open(&w, &w.g, &id, true), -EBADMSG);
    assert_non_null(strstr(err_text(), "part b"));
    assert_int_equal(target_rename(w.d.target, "5", "6"), 0);
    id = w.id;
    id.chunk = 6;
    assert_int_equal(try_open(&w, &w.g, &id, true), -EBADMSG);
    assert_non_null(strstr(err_text(), "holds chunk 5"));
    assert_int_equal(try_open(&w, &w.g, &w.id, true), -ENOENT);
    assert_int_equal(target_rename(w.d.target, "6", "5"), 0);
    temp_dir_peek(&w.d, "5", 0, bytes, sizeof bytes);
    assert_int_equal(fragment_header_decode(bytes, &good), 0);
    for (int i = 0; i < 3; i++) {
        h = good;
        if (i == 0)
            h.block_bytes *= 2;
        else if (i == 1)
            h.chunk_bytes *= 2;
        else {
            h.data_count = 3;
            h.parity_count = 1;
        }
        put_header(&w, &h, 1);
        assert_int_equal(try_open(&w, &w.g, &w.id, true), -EBADMSG);
        assert_non_null(strstr(err_text(), "other sizes"));
    }
    put_header(&w, &good, 1);
    check_bad(&w, false, 0, 0);
    world_done(&w);
}

static void
test_future(void **state)
{
    uint8_t bytes[FRAGMENT_HEADER_BYTES];
    struct fragment_header h, changed;
    struct world w;

    (void)state;
    world_init(&w);
    temp_dir_peek(&w.d, "5", 0, bytes, sizeof bytes);
    assert_int_equal(fragment_header_decode(bytes, &h), 0);
    put_header(&w, &h, 2);
    assert_int_equal(try_open(&w, &w.g, &w.id, false), -EPROTO);
    assert_non_null(strstr(err_text(), "format 2"));
    put_header(&w, &h, 0);
    assert_int_equal(try_open(&w, &w.g, &w.id, false), -EBADMSG);
    changed = h;
    changed.incompat = UINT64_C(1) << 63;
    put_header(&w, &changed, 1);
    assert_int_equal(try_open(&w, &w.g, &w.id, false), -EPROTO);
    changed = h;
    changed.ro_compat = 1;
    put_header(&w, &changed, 1);
    assert_int_equal(try_open(&w, &w.g, &w.id, true), -EPROTO);
    assert_int_equal(try_open(&w, &w.g, &w.id, false), 0);
    changed = h;
    changed.compat = UINT64_MAX;
    put_header(&w, &changed, 1);
    check_bad(&w, false, 0, 0);
    world_done(&w);
}

static void
test_illegal_values(void **state)
{
    const struct fragment_header good = {
        .id = {.chunk = 1, .fragment = 0},
        .block_bytes = 4096,
        .chunk_bytes = 4u << 20,
        .data_count = 1,
    };
    struct fragment_header h[16], ret;
    uint8_t bytes[FRAGMENT_HEADER_BYTES];
    size_t n = 0;

    (void)state;
    fragment_header_encode(&good, bytes);
    assert_int_equal(fragment_header_decode(bytes, &ret), 0);
    for (size_t i = 0; i < 16; i++)
        h[i] = good;
    h[n++].id.chunk = 0;
    h[n++].id.chunk = UINT64_C(1) << 32;
    h[n++].id.fragment = 8;
    h[n++].id.fragment = UINT32_MAX;
    h[n++].block_bytes = 0;
    h[n++].block_bytes = 256;
    h[n++].block_bytes = 4097;
    h[n++].block_bytes = 131072;
    h[n++].chunk_bytes = 0;
    h[n++].chunk_bytes = 128u << 20;
    h[n++].chunk_bytes = (4u << 20) + 512;
    h[n++].data_count = 0;
    h[n++].data_count = 2; /* no parity */
    h[n++].parity_count = 1; /* one data fragment */
    h[n].parity_count = 5;
    h[n++].data_count = 4;
    h[n].parity_count = 1;
    h[n++].data_count = 17;
    assert_int_equal(n, 16);
    for (size_t i = 0; i < n; i++) {
        fragment_header_encode(&h[i], bytes);
        assert_int_equal(fragment_header_decode(bytes, &ret), -EBADMSG);
    }
}

/* Any change of the table makes the fragment doubtful, and costs the cells
 * whose entries it touched. */
static void
test_table_flips(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    temp_dir_flip(&w.d, "5", entry_at(9) + 3); /* a sum */
    check_bad(&w, true, 9, 1);
    temp_dir_flip(&w.d, "5", entry_at(9) + 3);
    temp_dir_flip(&w.d, "5", entry_at(9) + 12); /* a sequence */
    check_bad(&w, true, 0, 0);
    temp_dir_flip(&w.d, "5", entry_at(9) + 12);
    temp_dir_flip(&w.d, "5", entry_at(11)); /* zero, now it says more */
    check_bad(&w, true, 11, 1);
    temp_dir_flip(&w.d, "5", entry_at(11));
    check_bad(&w, false, 0, 0);
    world_done(&w);
}

/* The dangerous one: a lost table page says "zero" of cells that are not.
 * While the fragment is doubtful, zero is not believed (C4). */
static void
test_table_page_lost(void **state)
{
    static const uint8_t zeroes[512];
    struct world w;
    uint8_t bytes[512];
    uint8_t cell[BLOCK];
    struct iovec iov = {cell, sizeof cell};
    struct fragment *f;

    (void)state;
    world_init(&w);
    temp_dir_peek(&w.d, "5", entry_at(64), bytes, sizeof bytes);
    temp_dir_poke(&w.d, "5", entry_at(64), zeroes, sizeof zeroes);
    assert_int_equal(fragment_open(w.d.target, &w.g, &w.id, true, &f), 0);
    assert_true(f->doubtful);
    for (uint32_t row = 0; row < ROWS; row++) {
        bool lost = row >= 64 && row < 96, bad;

        assert_int_equal(fragment_read(f, row, 1, &iov, 1, &bad), 0);
        assert_int_equal(bad, lost && !row_is_zero(row));
    }
    fragment_close(f);
    world_done(&w);
}

/* An old header with a new table, as a cut leaves them: doubtful; storing the
 * judged table ends that. */
static void
test_torn_store(void **state)
{
    uint8_t header[FRAGMENT_HEADER_BYTES], cell[BLOCK];
    struct iovec iov = {cell, sizeof cell};
    struct fragment *f;
    struct world w;
    bool bad;

    (void)state;
    world_init(&w);
    temp_dir_peek(&w.d, "5", 0, header, sizeof header);
    assert_int_equal(fragment_open(w.d.target, &w.g, &w.id, true, &f), 0);
    memset(cell, row_value(20), sizeof cell);
    for (uint32_t row = 20; row < 22; row++) {
        struct cell_entry entry = {
            sum_block(fragment_cell_seed(&w.g, &w.id, row), cell, BLOCK),
            SEQ + 1,
        };

        fragment_set_entry(f, row, entry, NULL);
    }
    assert_int_equal(fragment_write(f, 20, 1, &iov, 1), 0);
    assert_int_equal(fragment_store_meta(f, SEQ + 1), 0);
    fragment_close(f);
    temp_dir_poke(&w.d, "5", 0, header, sizeof header);
    check_bad(&w, true, 21, 1); /* its bytes never came */
    assert_int_equal(fragment_open(w.d.target, &w.g, &w.id, true, &f), 0);
    assert_int_equal(fragment_write(f, 21, 1, &iov, 1), 0);
    assert_int_equal(fragment_store_meta(f, SEQ + 1), 0);
    assert_false(f->doubtful);
    fragment_close(f);
    assert_int_equal(fragment_open(w.d.target, &w.g, &w.id, true, &f), 0);
    assert_false(f->doubtful);
    assert_int_equal(f->seq, SEQ + 1);
    assert_int_equal(fragment_read(f, 21, 1, &iov, 1, &bad), 0);
    assert_false(bad);
    fragment_close(f);
    world_done(&w);
}

static void
test_data_flips(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    for (uint32_t row = 0; row < ROWS; row += 37) {
        if (row_is_zero(row))
            continue;
        for (uint64_t at = 0; at < BLOCK; at += 73) {
            temp_dir_flip(&w.d, "5", cell_at(&w, row) + at);
            check_bad(&w, false, row, 1);
            temp_dir_flip(&w.d, "5", cell_at(&w, row) + at);
        }
    }
    /* Rubbish where the table says zero is not looked at. */
    temp_dir_flip(&w.d, "5", cell_at(&w, 3));
    check_bad(&w, false, 0, 0);
    world_done(&w);
}

/* Bytes that are good, in another place or of another chunk. */
static void
test_misdirected(void **state)
{
    uint8_t a[BLOCK], b[BLOCK], zeroes[BLOCK] = {0};
    struct world w;

    (void)state;
    world_init(&w);
    temp_dir_peek(&w.d, "5", cell_at(&w, 8), a, BLOCK);
    temp_dir_peek(&w.d, "5", cell_at(&w, 9), b, BLOCK);
    temp_dir_poke(&w.d, "5", cell_at(&w, 8), b, BLOCK);
    temp_dir_poke(&w.d, "5", cell_at(&w, 9), a, BLOCK);
    check_bad(&w, false, 8, 2);
    /* Rows 0 and 250 hold equal bytes, but not equal sums. */
    temp_dir_poke(&w.d, "5", cell_at(&w, 8), a, BLOCK);
    temp_dir_poke(&w.d, "5", cell_at(&w, 9), b, BLOCK);
    check_bad(&w, false, 0, 0);
    temp_dir_peek(&w.d, "5", entry_at(250), a, 8);
    temp_dir_poke(&w.d, "5", entry_at(0), a, 8);
    check_bad(&w, true, 0, 1);
    /* A lost write: zeroes where bytes were. */
    world_done(&w);
    world_init(&w);
    temp_dir_poke(&w.d, "5", cell_at(&w, 30), zeroes, BLOCK);
    check_bad(&w, false, 30, 1);
    world_done(&w);
}

/* A table may not give bytes to a cell that has no block. */
static void
test_ragged_cell(void **state)
{
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;
    struct temp_dir d;
    uint8_t cell[BLOCK], entry[8], table[4096], header[512];
    struct iovec iov = {cell, sizeof cell};
    uint64_t at;
    bool bad;

    (void)state;
    temp_dir_init(&d);
    /* 512 blocks in 171 rows of 3: the last row has two. */
    geometry_init(&g, CHUNK_BYTES_MIN, CHUNK_BYTES_MIN, BLOCK, 0, 3, 1);
    memset(&id, 0, sizeof id);
    id.chunk = 1;
    id.fragment = 2;
    assert_int_equal(fragment_create(d.target, "1", &g, &id, &f), 0);
    assert_int_equal(fragment_store_meta(f, 1), 0);
    fragment_close(f);
    assert_int_equal(geometry_table_bytes(&g, 2), sizeof table);
    memset(cell, 1, sizeof cell);
    at = geometry_cell_at(&g, 2, 170);
    temp_dir_poke(&d, "1", at, cell, sizeof cell);
    put_le64(entry,
             sum_block(fragment_cell_seed(&g, &id, 170), cell, BLOCK));
    temp_dir_poke(&d, "1", entry_at(170), entry, sizeof entry);
    temp_dir_peek(&d, "1", 4096, table, sizeof table);
    temp_dir_peek(&d, "1", 0, header, sizeof header);
    put_le64(header + 112, sum_bytes(table, sizeof table));
    put_le64(header + 504, sum_bytes(header, 504));
    temp_dir_poke(&d, "1", 0, header, sizeof header);
    assert_int_equal(fragment_open(d.target, &g, &id, true, &f), 0);
    assert_false(f->doubtful);
    assert_int_equal(fragment_read(f, 170, 1, &iov, 1, &bad), 0);
    assert_true(bad);
    fragment_close(f);
    temp_dir_done(&d);
}

/* Anything but a plain file with one name is not a chunk file. */
static void
test_not_a_file(void **state)
{
    char path[512], other[512];
    struct world w;

    (void)state;
    world_init(&w);
    (void)snprintf(path, sizeof path, "%s/5", w.d.path);
    (void)snprintf(other, sizeof other, "%s/x", w.d.path);
    assert_int_equal(link(path, other), 0);
    assert_int_equal(try_open(&w, &w.g, &w.id, true), -EPROTO);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("x", path), 0);
    assert_int_equal(try_open(&w, &w.g, &w.id, true), -EPROTO);
    world_done(&w);
}

/* Header and table of format 1. */
static void
test_golden(void **state)
{
    uint8_t bytes[4096 + 8192], image[4096 + 8192];
    struct fragment_header h;
    struct world w;

    (void)state;
    world_init(&w);
    temp_dir_peek(&w.d, "5", 0, bytes, sizeof bytes);
    golden_check("v1-replica.fragment", bytes, sizeof bytes, image);
    assert_int_equal(fragment_header_decode(image, &h), 0);
    assert_int_equal(h.id.chunk, CHUNK);
    assert_int_equal(h.id.fragment, 1);
    assert_int_equal(h.seq, SEQ);
    assert_int_equal(h.block_bytes, BLOCK);
    assert_int_equal(h.chunk_bytes, CHUNK_BYTES_MIN);
    assert_int_equal(h.data_count, 1);
    assert_int_equal(h.parity_count, 0);
    temp_dir_poke(&w.d, "5", 0, image, sizeof image);
    check_bad(&w, false, 0, 0);
    world_done(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_header_flips),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_future),
        cmocka_unit_test(test_illegal_values),
        cmocka_unit_test(test_table_flips),
        cmocka_unit_test(test_table_page_lost),
        cmocka_unit_test(test_torn_store),
        cmocka_unit_test(test_data_flips),
        cmocka_unit_test(test_misdirected),
        cmocka_unit_test(test_ragged_cell),
        cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
