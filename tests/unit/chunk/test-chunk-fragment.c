/* test-chunk-fragment.c: fragments that nothing has damaged: round trips,
 * what is written and what is not, errors of the medium. */
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "chunk/fragment.h"
#include "memory-target.h"
#include "temp-dir.h"
#include "unit.h"
#include <stdlib.h>
#include <string.h>

#define CHUNK UINT64_C(5)

struct layout {
    uint32_t chunk, block, replicas, data, parity, fragment;
};

static void
set_up(const struct layout *l, struct geometry *g, struct fragment_id *id)
{
    geometry_init(g, UINT64_C(10) * l->chunk, l->chunk, l->block, l->replicas,
                  l->data, l->parity);
    memset(id, 0, sizeof *id);
    memset(id->volume.b, 0x11, sizeof id->volume.b);
    memset(id->instance.b, 0x22, sizeof id->instance.b);
    id->chunk = CHUNK;
    id->fragment = l->fragment;
}

/* Cell contents that depend on everything; every third cell is zero. */
static bool
cell_is_zero(const struct fragment *f, uint32_t row)
{
    return row % 3 == 1
        || (!geometry_is_parity(f->geometry, f->id.fragment)
            && geometry_block_of(f->geometry, f->id.fragment, row)
                == UINT32_MAX);
}

static void
make_cell(const struct fragment *f, uint32_t row, uint8_t *to)
{
    uint32_t v = row * 2654435761u + f->id.fragment + 1;

    for (uint32_t i = 0; i < f->geometry->block_bytes; i++) {
        v = v * 1664525u + 1013904223u;
        to[i] = cell_is_zero(f, row) ? 0 : (uint8_t)(v >> 24);
    }
}

/* Parity that is zero was computed from zeroes. */
static void
make_sums(const struct fragment *f, uint32_t row, uint64_t *sums)
{
    for (uint32_t i = 0; i < EC_DATA_MAX; i++)
        sums[i] = cell_is_zero(f, row) ? 0 : row * 100 + i;
}

static struct cell_entry
make_entry(const struct fragment *f, uint32_t row, const uint8_t *cell)
{
    struct cell_entry entry = {SUM_ZERO_BLOCK, row + 1};
    uint64_t sums[EC_DATA_MAX];

    make_sums(f, row, sums);
    if (!cell_is_zero(f, row))
        entry.sum = fragment_sum_cell(f->geometry, &f->id, row, sums, cell);
    return entry;
}

static void
put_entry(struct fragment *f, uint32_t row, struct cell_entry entry)
{
    uint64_t sums[EC_DATA_MAX];

    make_sums(f, row, sums);
    fragment_set_entry(f, row, entry,
                       geometry_is_parity(f->geometry, f->id.fragment)
                           ? sums
                           : NULL);
}

static void
write_all(struct fragment *f)
{
    size_t block = f->geometry->block_bytes;
    uint8_t *bytes = malloc(f->geometry->rows * block);
    struct iovec iov[2];

    assert_non_null(bytes);
    for (uint32_t row = 0; row < f->geometry->rows; row++) {
        make_cell(f, row, bytes + row * block);
        put_entry(f, row, make_entry(f, row, bytes + row * block));
    }
    for (uint32_t row = 0; row < f->geometry->rows; row += 2) {
        uint32_t count = f->geometry->rows - row < 2 ? 1 : 2;

        iov[0].iov_base = bytes + row * block;
        iov[0].iov_len = block;
        iov[1].iov_base = bytes + (row + count - 1) * block;
        iov[1].iov_len = block;
        if (count == 2 && cell_is_zero(f, row + 1))
            count = 1;
        if (!cell_is_zero(f, row))
            assert_int_equal(fragment_write(f, row, count, iov, (int)count),
                             0);
        else if (count == 2)
            assert_int_equal(fragment_write(f, row + 1, 1, iov + 1, 1), 0);
    }
    free(bytes);
}

/* Read rows [row, row + count) in pieces of `piece` cells and compare. */
static void
check_rows(struct fragment *f, uint32_t row, uint32_t count, uint32_t piece)
{
    size_t block = f->geometry->block_bytes;
    uint8_t *bytes = malloc(count * block), *expected = malloc(block);
    bool *bad = calloc(count, sizeof *bad);
    struct iovec *iov = calloc(count + 1, sizeof *iov);
    int n = 0;

    assert_non_null(bytes);
    assert_non_null(expected);
    memset(bytes, 0xee, count * block);
    for (uint32_t i = 0; i < count; i += piece, n++) {
        iov[n].iov_base = bytes + i * block;
        iov[n].iov_len = (count - i < piece ? count - i : piece) * block;
    }
    assert_int_equal(fragment_read(f, row, count, iov, n, bad), 0);
    for (uint32_t i = 0; i < count; i++) {
        assert_false(bad[i]);
        make_cell(f, row + i, expected);
        assert_memory_equal(bytes + i * block, expected, block);
        assert_int_equal(fragment_entry(f, row + i).seq, row + i + 1);
        if (geometry_is_parity(f->geometry, f->id.fragment))
            for (uint32_t k = 0; k < f->geometry->data_count; k++) {
                uint64_t sums[EC_DATA_MAX];

                make_sums(f, row + i, sums);
                assert_int_equal(fragment_stripe_sum(f, row + i, k), sums[k]);
            }
    }
    free(bytes);
    free(expected);
    free(bad);
    free(iov);
}

static void
round_trip(const struct layout *l)
{
    struct temp_dir d;
    struct geometry g;
    struct fragment_id id;
    struct fragment *f;
    struct object_stat st;

    temp_dir_init(&d);
    set_up(l, &g, &id);
    assert_int_equal(fragment_open(d.target, &g, &id, true, &f), -ENOENT);
    assert_int_equal(fragment_create(d.target, "5", &g, &id, &f), 0);
    assert_true(f->fresh);
    write_all(f);
    assert_int_equal(fragment_store_meta(f, 77), 0);
    assert_int_equal(fragment_sync(f), 0);
    assert_false(f->fresh);
    fragment_close(f);

    assert_int_equal(fragment_open(d.target, &g, &id, false, &f), 0);
    assert_false(f->doubtful);
    assert_false(f->fresh);
    assert_int_equal(f->seq, 77);
    assert_int_equal(object_stat(f->object, &st), 0);
    assert_int_equal(st.size_bytes, geometry_file_bytes(&g, id.fragment));
    check_rows(f, 0, g.rows, g.rows);
    check_rows(f, 0, g.rows, 1);
    check_rows(f, 0, g.rows, 3);
    check_rows(f, g.rows - 1, 1, 1);
    check_rows(f, g.rows / 2, g.rows - g.rows / 2, 2);
    f->doubtful = true; /* every cell is as it says, so nothing changes */
    check_rows(f, 0, g.rows, 5);
    fragment_close(f);
    temp_dir_done(&d);
}

static void
test_round_trips(void **state)
{
    static const struct layout layouts[] = {
        {256u << 10, 512, 3, 0, 0, 0},   {256u << 10, 512, 3, 0, 0, 2},
        {1u << 20, 4096, 1, 0, 0, 0},    {256u << 10, 65536, 2, 0, 0, 1},
        {256u << 10, 512, 0, 3, 2, 0},   {256u << 10, 512, 0, 3, 2, 2},
        {256u << 10, 512, 0, 3, 2, 4},   {256u << 10, 4096, 0, 7, 1, 6},
        {256u << 10, 4096, 0, 5, 4, 8},  {256u << 10, 65536, 0, 16, 4, 10},
        {256u << 10, 65536, 0, 16, 4, 19},
    };

    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        round_trip(&layouts[i]);
}

/* The same cell has the same sum on every replica, and another one on every
 * other cell, chunk and volume. */
static void
test_seeds(void **state)
{
    static const struct layout replicated = {256u << 10, 512, 3, 0, 0, 0};
    static const struct layout coded = {256u << 10, 512, 0, 3, 2, 0};
    struct fragment_id id, other;
    struct geometry r, e;

    (void)state;
    set_up(&replicated, &r, &id);
    other = id;
    other.fragment = 2;
    memset(other.instance.b, 9, sizeof other.instance.b);
    for (uint32_t row = 0; row < r.rows; row++) {
        uint64_t seed = fragment_cell_seed(&r, &id, row);

        assert_int_equal(seed, sum_seed(&id.volume, CHUNK, row));
        assert_int_equal(seed, fragment_cell_seed(&r, &other, row));
    }
    set_up(&coded, &e, &id);
    for (id.fragment = 0; id.fragment < 3; id.fragment++)
        assert_int_equal(fragment_cell_seed(&e, &id, 7),
                         sum_seed(&id.volume, CHUNK, 21 + id.fragment));
    for (id.fragment = 3; id.fragment < 5; id.fragment++)
        assert_int_equal(fragment_cell_seed(&e, &id, 7),
                         sum_seed(&id.volume, CHUNK,
                                  UINT64_C(1) << 63
                                      | (uint64_t)(id.fragment - 3) << 32
                                      | 7));
}

static void
test_names(void **state)
{
    char text[24];

    (void)state;
    fragment_name(1, text);
    assert_string_equal(text, "1");
    fragment_name(UINT64_MAX, text);
    assert_string_equal(text, "18446744073709551615");
}

/* Punched cells read as zeroes and their space comes back. */
static void
test_punch(void **state)
{
    static const struct layout l = {1u << 20, 4096, 1, 0, 0, 0};
    struct cell_entry zero = {SUM_ZERO_BLOCK, 1000};
    struct object_stat before, after;
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;
    struct temp_dir d;
    uint8_t cell[4096];
    struct iovec iov = {cell, sizeof cell};
    bool bad;

    (void)state;
    temp_dir_init(&d);
    set_up(&l, &g, &id);
    assert_int_equal(fragment_create(d.target, "5", &g, &id, &f), 0);
    memset(cell, 7, sizeof cell);
    for (uint32_t row = 0; row < g.rows; row++) {
        struct cell_entry entry = {
            sum_block(fragment_cell_seed(&g, &id, row), cell, sizeof cell),
            1,
        };

        fragment_set_entry(f, row, entry, NULL);
        assert_int_equal(fragment_write(f, row, 1, &iov, 1), 0);
    }
    assert_int_equal(fragment_store_meta(f, 1), 0);
    assert_int_equal(fragment_sync(f), 0);
    assert_int_equal(object_stat(f->object, &before), 0);
    assert_true(before.allocated_bytes >= g.chunk_bytes);
    assert_int_equal(fragment_punch(f, 0, 0), 0);
    assert_int_equal(fragment_punch(f, 64, 128), 0);
    for (uint32_t row = 64; row < 192; row++)
        fragment_set_entry(f, row, zero, NULL);
    assert_int_equal(fragment_store_meta(f, 2), 0);
    assert_int_equal(fragment_sync(f), 0);
    assert_int_equal(object_stat(f->object, &after), 0);
    assert_true(after.allocated_bytes
                <= before.allocated_bytes - 128 * 4096);
    assert_int_equal(after.size_bytes, before.size_bytes);
    for (uint32_t row = 63; row <= 192; row++) {
        assert_int_equal(fragment_read(f, row, 1, &iov, 1, &bad), 0);
        assert_false(bad);
        assert_int_equal(cell[0], row == 63 || row == 192 ? 7 : 0);
        assert_int_equal(sum_all_zero(cell, sizeof cell),
                         row != 63 && row != 192);
    }
    fragment_close(f);
    temp_dir_done(&d);
}

/* Making a fragment over an old file leaves nothing of it. */
static void
test_create_over_old(void **state)
{
    static const struct layout l = {256u << 10, 512, 1, 0, 0, 0};
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;
    struct temp_dir d;

    (void)state;
    temp_dir_init(&d);
    set_up(&l, &g, &id);
    assert_int_equal(fragment_create(d.target, "5", &g, &id, &f), 0);
    write_all(f);
    assert_int_equal(fragment_store_meta(f, 1), 0);
    fragment_close(f);
    assert_int_equal(fragment_create(d.target, "5", &g, &id, &f), 0);
    assert_int_equal(fragment_entry(f, 0).sum, 0);
    fragment_close(f);
    /* Its header is not there before store_meta. */
    assert_int_equal(fragment_open(d.target, &g, &id, true, &f), -EBADMSG);
    assert_non_null(strstr(err_text(), "never written"));
    assert_int_equal(fragment_create(d.target, "5", &g, &id, &f), 0);
    assert_int_equal(fragment_store_meta(f, 9), 0);
    fragment_close(f);
    assert_int_equal(fragment_open(d.target, &g, &id, true, &f), 0);
    f->doubtful = true; /* so that the bytes are looked at */
    for (uint32_t row = 0; row < g.rows; row++) {
        uint8_t cell[512];
        struct iovec iov = {cell, sizeof cell};
        bool bad;

        assert_int_equal(fragment_entry(f, row).seq, 0);
        assert_int_equal(fragment_read(f, row, 1, &iov, 1, &bad), 0);
        assert_false(bad);
    }
    fragment_close(f);
    temp_dir_done(&d);
}

/* Only dirty pages are written, neighbours together, page 0 with the header;
 * of a fresh fragment only pages that hold something. */
static void
test_store_writes(void **state)
{
    static const struct layout l = {1u << 20, 512, 1, 0, 0, 0}; /* 8 pages */
    struct cell_entry entry = {3, 3}, zero = {0, 0};
    struct memory_target t;
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;

    (void)state;
    memory_target_init(&t);
    set_up(&l, &g, &id);
    assert_int_equal(fragment_create(&t.base, "5", &g, &id, &f), 0);
    t.writes = 0;
    for (uint32_t row = 0; row < g.rows; row++)
        fragment_set_entry(f, row, zero, NULL);
    assert_int_equal(fragment_store_meta(f, 1), 0);
    assert_int_equal(t.writes, 1); /* the header */
    t.writes = 0;
    assert_int_equal(fragment_store_meta(f, 2), 0);
    assert_int_equal(t.writes, 1);
    t.writes = 0;
    fragment_set_entry(f, 0, entry, NULL);
    fragment_set_entry(f, 256, entry, NULL);
    assert_int_equal(fragment_store_meta(f, 3), 0);
    assert_int_equal(t.writes, 1); /* header, pages 0 and 1 */
    t.writes = 0;
    fragment_set_entry(f, 512, entry, NULL);
    fragment_set_entry(f, 768, entry, NULL);
    fragment_set_entry(f, 2047, entry, NULL);
    assert_int_equal(fragment_store_meta(f, 4), 0);
    assert_int_equal(t.writes, 3); /* header, pages 2 and 3, page 7 */
    fragment_close(f);
    assert_int_equal(fragment_open(&t.base, &g, &id, true, &f), 0);
    assert_false(f->doubtful);
    assert_int_equal(f->seq, 4);
    assert_int_equal(fragment_entry(f, 2047).sum, 3);
    /* A zero over something of a file that is not fresh is written. */
    for (uint32_t row = 1792; row < 2048; row++)
        fragment_set_entry(f, row, zero, NULL);
    assert_int_equal(fragment_store_meta(f, 5), 0);
    fragment_close(f);
    assert_int_equal(fragment_open(&t.base, &g, &id, true, &f), 0);
    assert_false(f->doubtful);
    assert_int_equal(fragment_entry(f, 2047).sum, 0);
    fragment_close(f);
    memory_target_done(&t);
}

/* An entry that lies across two pages dirties both; one that is set to what it
 * is dirties its page all the same (F2). */
static void
test_dirty_pages(void **state)
{
    static const struct layout l = {1u << 20, 512, 0, 3, 2, 3};
    const uint32_t row = 4096 / 40; /* entries of 40 bytes */
    struct cell_entry entry = {UINT64_MAX, UINT64_MAX};
    struct memory_target t;
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;

    (void)state;
    memory_target_init(&t);
    set_up(&l, &g, &id);
    assert_int_equal(geometry_entry_bytes(&g, id.fragment), 40);
    assert_int_equal(fragment_create(&t.base, "5", &g, &id, &f), 0);
    put_entry(f, row, entry);
    assert_int_equal(fragment_store_meta(f, 1), 0);
    fragment_close(f);
    assert_int_equal(fragment_open(&t.base, &g, &id, true, &f), 0);
    assert_false(f->doubtful);
    assert_int_equal(fragment_stripe_sum(f, row, 2),
                     cell_is_zero(f, row) ? 0 : row * 100 + 2);
    /* The medium lost what the store wrote, and its sync said so. */
    memset(memory_target_find(&t, "5")->bytes + 4096, 0, 8192);
    put_entry(f, row, entry);
    assert_int_equal(fragment_store_meta(f, 1), 0);
    fragment_close(f);
    assert_int_equal(fragment_open(&t.base, &g, &id, true, &f), 0);
    assert_false(f->doubtful);
    assert_int_equal(fragment_entry(f, row).sum, UINT64_MAX);
    fragment_close(f);
    memory_target_done(&t);
}

/* A store that fails anywhere can be repeated, and then all is there (F1). */
static void
test_store_fails(void **state)
{
    static const struct layout l = {1u << 20, 512, 0, 3, 2, 3};
    struct memory_target t;
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;
    long nth = 0;

    (void)state;
    set_up(&l, &g, &id);
    for (bool fired = true; fired; nth++) {
        memory_target_init(&t);
        assert_int_equal(fragment_create(&t.base, "5", &g, &id, &f), 0);
        put_entry(f, 0, (struct cell_entry){1, 1});
        put_entry(f, g.rows - 1, (struct cell_entry){2, 2});
        t.fail_after = nth;
        t.fail_code = -EIO;
        if (fragment_store_meta(f, 6) < 0) {
            assert_true(f->fresh);
            assert_int_equal(f->seq, 0);
            assert_int_equal(fragment_store_meta(f, 6), 0);
        }
        fired = t.fired;
        t.fail_after = -1;
        fragment_close(f);
        assert_int_equal(fragment_open(&t.base, &g, &id, false, &f), 0);
        assert_false(f->doubtful);
        assert_int_equal(f->seq, 6);
        assert_int_equal(fragment_entry(f, 0).sum, 1);
        assert_int_equal(fragment_entry(f, g.rows - 1).sum, 2);
        fragment_close(f);
        memory_target_done(&t);
    }
    assert_true(nth > 2);
}

/* Every call of open and create, and every allocation, may fail. */
static void
test_open_fails(void **state)
{
    static const struct layout l = {256u << 10, 512, 1, 0, 0, 0};
    struct memory_target t;
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;
    int failures = 0;

    (void)state;
    set_up(&l, &g, &id);
    memory_target_init(&t);
    for (long nth = 0;; nth++) {
        t.fired = false;
        t.fail_after = nth;
        t.fail_code = -ENOSPC;
        if (fragment_create(&t.base, "5", &g, &id, &f) == 0)
            break;
        assert_true(t.fired);
        assert_non_null(strstr(err_text(), "injected"));
        assert_null(memory_target_find(&t, "5")); /* nothing half-made */
        failures++;
    }
    t.fail_after = -1;
    assert_int_equal(fragment_store_meta(f, 1), 0);
    fragment_close(f);
    for (long nth = 0;; nth++) {
        t.fired = false;
        t.fail_after = nth;
        t.fail_code = -EIO;
        if (fragment_open(&t.base, &g, &id, true, &f) == 0)
            break;
        assert_true(t.fired);
        failures++;
    }
    t.fail_after = -1;
    fragment_close(f);
    for (long nth = 0;; nth++) {
        int r;

        (void)mem_fail_after(nth);
        r = fragment_open(&t.base, &g, &id, true, &f);
        if (!mem_fail_after(-1)) {
            assert_int_equal(r, 0);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        failures++;
    }
    fragment_close(f);
    memory_target_done(&t);
    assert_true(failures >= 2 + 3 + 3);
}

/* One unreadable place costs the cells it touches, and no other. */
static void
test_bad_sector(void **state)
{
    static const struct layout l = {256u << 10, 512, 1, 0, 0, 0};
    struct memory_target t;
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;
    uint8_t *bytes;
    bool bad[512];
    struct iovec iov;

    (void)state;
    memory_target_init(&t);
    set_up(&l, &g, &id);
    assert_int_equal(fragment_create(&t.base, "5", &g, &id, &f), 0);
    write_all(f);
    bytes = malloc(g.chunk_bytes);
    assert_non_null(bytes);
    iov.iov_base = bytes;
    iov.iov_len = g.chunk_bytes;
    t.bad_begin = geometry_cell_at(&g, 0, 99) + 100;
    t.bad_end = t.bad_begin + 1;
    assert_int_equal(fragment_read(f, 0, g.rows, &iov, 1, bad), 0);
    for (uint32_t row = 0; row < g.rows; row++)
        assert_int_equal(bad[row], row == 99);
    iov.iov_len = 512;
    assert_int_equal(fragment_read(f, 99, 1, &iov, 1, bad), -EIO);
    assert_true(bad[0]);
    t.bad_begin = 0;
    t.bad_end = UINT64_MAX; /* nothing can be read */
    memset(bad, 0, sizeof bad);
    iov.iov_len = g.chunk_bytes;
    assert_int_equal(fragment_read(f, 0, g.rows, &iov, 1, bad), -EIO);
    for (uint32_t row = 0; row < g.rows; row++)
        assert_true(bad[row]);
    t.bad_begin = t.bad_end = 0;
    t.fail_after = 0; /* not the medium's: no use in asking again */
    t.fail_code = -ESTALE;
    memset(bad, 0, sizeof bad);
    assert_int_equal(fragment_read(f, 0, g.rows, &iov, 1, bad), -EIO);
    assert_true(bad[0]);
    assert_true(bad[511]);
    free(bytes);
    fragment_close(f);
    memory_target_done(&t);
}

/* A stripe sum that was damaged must not be believed: it would make a good data
 * cell look stale. Nor one beside parity that says zero. */
static void
test_damaged_stripe_sum(void **state)
{
    static const struct layout l = {1u << 20, 512, 0, 3, 2, 3};
    struct memory_target t;
    struct fragment_id id;
    struct geometry g;
    struct fragment *f;
    uint8_t cell[512];
    struct iovec iov = {cell, sizeof cell};
    uint32_t zero = 0, stored = 0;
    bool bad;

    (void)state;
    memory_target_init(&t);
    set_up(&l, &g, &id);
    assert_int_equal(fragment_create(&t.base, "5", &g, &id, &f), 0);
    write_all(f);
    assert_int_equal(fragment_store_meta(f, 5), 0);
    while (!cell_is_zero(f, zero))
        zero++;
    while (cell_is_zero(f, stored))
        stored++;
    fragment_close(f);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t row = i ? zero : stored;
        uint8_t *at = memory_target_find(&t, "5")->bytes + 4096 +
                      row * 40 + 16 + 8;

        *at ^= 1;
        assert_int_equal(fragment_open(&t.base, &g, &id, true, &f), 0);
        assert_true(f->doubtful);
        assert_int_equal(fragment_read(f, row, 1, &iov, 1, &bad), 0);
        assert_true(bad);
        assert_int_equal(fragment_read(f, row + 5, 1, &iov, 1, &bad), 0);
        assert_false(bad);
        fragment_close(f);
        *at ^= 1;
    }
    memory_target_done(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_punch),
        cmocka_unit_test(test_create_over_old),
        cmocka_unit_test(test_store_writes),
        cmocka_unit_test(test_dirty_pages),
        cmocka_unit_test(test_store_fails),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_bad_sector),
        cmocka_unit_test(test_damaged_stripe_sum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
