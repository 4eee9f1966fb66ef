/* geometry.c: see geometry.h. Pure arithmetic, asserts on our own mistakes:
 * whoever hands in values from disk has checked them against limits.h. */
#include "chunk/geometry.h"
#include "base/bytes.h"
#include "base/sum.h"
#include <assert.h>

#define PAGE_BYTES 4096u

static uint64_t
div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static uint64_t
round_up(uint64_t a, uint64_t b)
{
    return div_up(a, b) * b;
}

static bool
is_power_of_two(uint64_t v)
{
    return v != 0 && (v & (v - 1)) == 0;
}

void
geometry_init(struct geometry *g, uint64_t volume_bytes, uint32_t chunk_bytes,
              uint32_t block_bytes, uint32_t replicas, uint32_t ec_data,
              uint32_t ec_parity)
{
    assert(volume_bytes > 0);
    assert(volume_bytes <= VOLUME_BYTES_MAX);
    assert(is_power_of_two(block_bytes));
    assert(block_bytes >= BLOCK_BYTES_MIN);
    assert(block_bytes <= BLOCK_BYTES_MAX);
    assert(chunk_bytes >= CHUNK_BYTES_MIN);
    assert(chunk_bytes <= CHUNK_BYTES_MAX);
    assert(chunk_bytes % block_bytes == 0);

    g->volume_bytes = volume_bytes;
    g->chunk_bytes = chunk_bytes;
    g->block_bytes = block_bytes;
    g->is_ec = replicas == 0;
    if (g->is_ec) {
        assert(ec_data >= EC_DATA_MIN);
        assert(ec_data <= EC_DATA_MAX);
        assert(ec_parity >= 1);
        assert(ec_parity <= EC_PARITY_MAX);
        g->data_count = ec_data;
        g->parity_count = ec_parity;
        g->part_count = ec_data + ec_parity;
    } else {
        assert(replicas <= REPLICAS_MAX);
        assert(ec_data == 0);
        assert(ec_parity == 0);
        g->data_count = 1;
        g->parity_count = 0;
        g->part_count = replicas;
    }
    g->block_shift = (uint32_t)__builtin_ctz(block_bytes);
    assert(geometry_chunk_count(g) <= CHUNK_COUNT_MAX);
    g->chunk_blocks = chunk_bytes / block_bytes;
    g->rows = (uint32_t)div_up(g->chunk_blocks, g->data_count);
}

void
geometry_grow(struct geometry *g, uint64_t volume_bytes)
{
    assert(volume_bytes >= g->volume_bytes);
    assert(volume_bytes <= VOLUME_BYTES_MAX);
    g->volume_bytes = volume_bytes;
    assert(geometry_chunk_count(g) <= CHUNK_COUNT_MAX);
}

/* Over a fixed little-endian record: the value is stored in labels. */
uint64_t
geometry_hash(const struct geometry *g)
{
    uint8_t bytes[32] = {0};
    struct byte_writer out = {bytes, sizeof bytes, false};

    write_bytes(&out, "lsvdgeo1", 8);
    write_u32(&out, g->chunk_bytes);
    write_u32(&out, g->block_bytes);
    write_u32(&out, g->data_count);
    write_u32(&out, g->parity_count);
    write_u32(&out, g->part_count);
    write_u32(&out, g->is_ec);
    assert(!out.overrun);
    assert(out.left == 0);
    return sum_bytes(bytes, sizeof bytes);
}

bool
geometry_is_parity(const struct geometry *g, uint32_t fragment)
{
    assert(fragment < g->part_count);
    return g->is_ec && fragment >= g->data_count;
}

uint32_t
geometry_entry_bytes(const struct geometry *g, uint32_t fragment)
{
    if (geometry_is_parity(g, fragment))
        return DATA_ENTRY_BYTES + 8 * g->data_count;
    return DATA_ENTRY_BYTES;
}

uint64_t
geometry_table_bytes(const struct geometry *g, uint32_t fragment)
{
    return round_up((uint64_t)g->rows * geometry_entry_bytes(g, fragment),
                    PAGE_BYTES);
}

uint64_t
geometry_data_at(const struct geometry *g, uint32_t fragment)
{
    uint32_t align =
        g->block_bytes > PAGE_BYTES ? g->block_bytes : PAGE_BYTES;

    return round_up(FRAGMENT_HEADER_BYTES + geometry_table_bytes(g, fragment),
                    align);
}

uint64_t
geometry_cell_at(const struct geometry *g, uint32_t fragment, uint32_t row)
{
    assert(row < g->rows);
    return geometry_data_at(g, fragment) + (uint64_t)row * g->block_bytes;
}

uint64_t
geometry_file_bytes(const struct geometry *g, uint32_t fragment)
{
    return geometry_data_at(g, fragment) + (uint64_t)g->rows * g->block_bytes;
}

uint64_t
geometry_chunk_of(const struct geometry *g, uint64_t block)
{
    assert(block < geometry_block_count(g));
    return block / g->chunk_blocks + 1;
}

uint32_t
geometry_block_in_chunk(const struct geometry *g, uint64_t block)
{
    return (uint32_t)(block % g->chunk_blocks);
}

uint64_t
geometry_first_block(const struct geometry *g, uint64_t chunk)
{
    assert(chunk >= 1);
    assert(chunk <= geometry_chunk_count(g));
    return (chunk - 1) * g->chunk_blocks;
}

uint32_t
geometry_blocks_in(const struct geometry *g, uint64_t chunk)
{
    uint64_t left = geometry_block_count(g) - geometry_first_block(g, chunk);

    return left < g->chunk_blocks ? (uint32_t)left : g->chunk_blocks;
}

uint32_t
geometry_fragment_of(const struct geometry *g, uint32_t block)
{
    assert(block < g->chunk_blocks);
    return block % g->data_count;
}

uint32_t
geometry_row_of(const struct geometry *g, uint32_t block)
{
    assert(block < g->chunk_blocks);
    return block / g->data_count;
}

uint32_t
geometry_block_of(const struct geometry *g, uint32_t fragment, uint32_t row)
{
    uint32_t block;

    assert(!geometry_is_parity(g, fragment));
    assert(row < g->rows);
    if (!g->is_ec)
        return row;
    block = row * g->data_count + fragment;
    return block < g->chunk_blocks ? block : UINT32_MAX;
}
