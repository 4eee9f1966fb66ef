/* test-chunk-geometry.c: against a model that deals blocks out one by one. */
#include "chunk/geometry.h"
#include "unit.h"
#include <stdlib.h>

struct sizes {
    uint64_t volume;
    uint32_t chunk, block, replicas, data, parity;
};

static void
init(struct geometry *g, const struct sizes *s)
{
    geometry_init(g, s->volume, s->chunk, s->block, s->replicas, s->data,
                  s->parity);
}

/* Deal the blocks of a chunk to K columns as cards; every block must be where
 * the deal put it, and every cell must know its block. */
static void
check_cells(const struct geometry *g)
{
    uint32_t columns = g->is_ec ? g->data_count : 1;
    uint32_t column = 0, row = 0;

    for (uint32_t block = 0; block < g->chunk_bytes / g->block_bytes;
         block++) {
        assert_int_equal(geometry_fragment_of(g, block), column);
        assert_int_equal(geometry_row_of(g, block), row);
        assert_int_equal(geometry_block_of(g, column, row), block);
        if (++column == columns) {
            column = 0;
            row++;
        }
    }
    if (column > 0) { /* the ragged row */
        for (; column < columns; column++)
            assert_int_equal(geometry_block_of(g, column, row), UINT32_MAX);
        row++;
    }
    assert_int_equal(g->rows, row);
}

/* Nothing overlaps, everything is aligned, and it ends where the file ends. */
static void
check_file(const struct geometry *g)
{
    for (uint32_t fragment = 0; fragment < g->part_count; fragment++) {
        bool parity = g->is_ec && fragment >= g->data_count;
        uint64_t entries =
            (uint64_t)g->rows * (16 + (parity ? 8 * g->data_count : 0));
        uint64_t table = geometry_table_bytes(g, fragment);
        uint64_t data_at = geometry_data_at(g, fragment);
        uint64_t at = data_at;

        assert_int_equal(geometry_is_parity(g, fragment), parity);
        assert_int_equal((uint64_t)g->rows
                             * geometry_entry_bytes(g, fragment),
                         entries);
        assert_true(table >= entries);
        assert_true(table - entries < 4096);
        assert_int_equal(table % 4096, 0);
        assert_true(data_at >= 4096 + table);
        assert_true(data_at - 4096 - table < g->block_bytes);
        assert_int_equal(data_at % 4096, 0);
        assert_int_equal(data_at % g->block_bytes, 0);
        for (uint32_t row = 0; row < g->rows; row++) {
            assert_int_equal(geometry_cell_at(g, fragment, row), at);
            at += g->block_bytes;
        }
        assert_int_equal(geometry_file_bytes(g, fragment), at);
    }
}

/* Walk the volume chunk by chunk and count what is left. */
static void
check_volume(const struct geometry *g, const struct sizes *s)
{
    uint64_t left = s->volume, chunk = 0, block = 0;

    while (left > 0 && chunk < 100) {
        uint64_t bytes = left < s->chunk ? left : s->chunk;
        uint32_t blocks = (uint32_t)((bytes + s->block - 1) / s->block);

        chunk++;
        assert_int_equal(geometry_first_block(g, chunk), block);
        assert_int_equal(geometry_blocks_in(g, chunk), blocks);
        for (uint32_t i = 0; i < blocks; i += blocks > 64 ? 61 : 1) {
            assert_int_equal(geometry_chunk_of(g, block + i), chunk);
            assert_int_equal(geometry_block_in_chunk(g, block + i), i);
        }
        assert_int_equal(geometry_chunk_of(g, block + blocks - 1), chunk);
        block += blocks;
        left -= bytes;
    }
    if (left == 0) {
        assert_int_equal(geometry_chunk_count(g), chunk);
        assert_int_equal(geometry_block_count(g), block);
    }
}

static void
check(const struct sizes *s)
{
    struct geometry g;

    init(&g, s);
    assert_int_equal(g.part_count,
                     s->replicas ? s->replicas : s->data + s->parity);
    assert_int_equal(g.is_ec, s->replicas == 0);
    check_cells(&g);
    check_file(&g);
    check_volume(&g, s);
}

static void
test_all_sizes(void **state)
{
    static const uint32_t chunks[] = {256u << 10, 1u << 20, 4u << 20,
                                      64u << 20};
    static const uint32_t data[] = {2, 3, 4, 5, 7, 16};

    (void)state;
    for (size_t c = 0; c < 4; c++)
        for (uint32_t block = 512; block <= 65536; block *= 2) {
            struct sizes s = {3 * (uint64_t)chunks[c] + 1, chunks[c], block,
                              3, 0, 0};

            check(&s);
            for (size_t k = 0; k < 6; k++) {
                s.replicas = 0;
                s.data = data[k];
                s.parity = (uint32_t)k % 4 + 1;
                check(&s);
            }
        }
}

static void
test_odd_volumes(void **state)
{
    static const uint64_t volumes[] = {
        1,       511,     512,          513,      262143,
        262144,  262145,  262144 + 512, 1000000,  (1u << 20) - 1,
        7000001, 262144 * UINT64_C(100),
    };

    (void)state;
    for (size_t i = 0; i < sizeof volumes / sizeof *volumes; i++)
        for (uint32_t block = 512; block <= 65536; block *= 4) {
            struct sizes s = {volumes[i], 256u << 10, block, 2, 0, 0};

            check(&s);
            s.replicas = 0;
            s.data = 3;
            s.parity = 2;
            check(&s);
        }
}

static void
test_biggest(void **state)
{
    struct sizes s = {VOLUME_BYTES_MAX, 4u << 20, 512, 1, 0, 0};
    struct geometry g;

    (void)state;
    init(&g, &s);
    assert_int_equal(geometry_chunk_count(&g), UINT64_C(1) << 31);
    assert_int_equal(geometry_chunk_of(&g, geometry_block_count(&g) - 1),
                     geometry_chunk_count(&g));
    s.volume = ((UINT64_C(1) << 32) - 1) << 18;
    s.chunk = 256u << 10;
    init(&g, &s);
    assert_int_equal(geometry_chunk_count(&g), CHUNK_COUNT_MAX);
    assert_int_equal(geometry_blocks_in(&g, geometry_chunk_count(&g)), 512);
}

static void
test_grow(void **state)
{
    struct sizes s = {(5 << 20) + 1, 4u << 20, 4096, 1, 0, 0};
    struct geometry g;

    (void)state;
    init(&g, &s);
    assert_int_equal(geometry_chunk_count(&g), 2);
    assert_int_equal(geometry_block_count(&g), 1281);
    assert_int_equal(geometry_blocks_in(&g, 2), 257);
    geometry_grow(&g, (5 << 20) + 4096); /* in the last block */
    assert_int_equal(geometry_block_count(&g), 1281);
    geometry_grow(&g, (8 << 20) + 1);
    assert_int_equal(geometry_chunk_count(&g), 3);
    assert_int_equal(geometry_block_count(&g), 2049);
    assert_int_equal(geometry_blocks_in(&g, 2), 1024);
    assert_int_equal(geometry_blocks_in(&g, 3), 1);
    assert_int_equal(geometry_chunk_of(&g, 2048), 3);
}

/* A label holds the hash: its value may never change. */
static void
test_hash(void **state)
{
    struct sizes s = {1 << 20, 4u << 20, 4096, 3, 0, 0};
    struct geometry a, b;

    (void)state;
    init(&a, &s);
    assert_int_equal(geometry_hash(&a), UINT64_C(0xd2a7de3d1bfef3bd));
    s.volume = 1 << 30; /* may grow */
    init(&b, &s);
    assert_int_equal(geometry_hash(&a), geometry_hash(&b));
    s.replicas = 2;
    init(&b, &s);
    assert_int_not_equal(geometry_hash(&a), geometry_hash(&b));
    s.replicas = 3;
    s.block = 512;
    init(&b, &s);
    assert_int_not_equal(geometry_hash(&a), geometry_hash(&b));
    s.block = 4096;
    s.chunk = 8u << 20;
    init(&b, &s);
    assert_int_not_equal(geometry_hash(&a), geometry_hash(&b));
    s.replicas = 0;
    s.data = 2;
    s.parity = 4;
    init(&a, &s);
    s.data = 4;
    s.parity = 2;
    init(&b, &s);
    assert_int_not_equal(geometry_hash(&a), geometry_hash(&b));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_sizes),
        cmocka_unit_test(test_odd_volumes),
        cmocka_unit_test(test_biggest),
        cmocka_unit_test(test_grow),
        cmocka_unit_test(test_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
