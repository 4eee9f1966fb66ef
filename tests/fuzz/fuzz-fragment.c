/* fuzz-fragment.c: header and table of a chunk file.
 *
 * Input: a byte that says which fragment and which sums are corrected, the
 * header, the table. The data behind them is always the same, so that no
 * damage of header or table may ever let other bytes through. */
#include "base/bytes.h"
#include "base/sum.h"
#include "chunk/fragment.h"
#include "fuzz.h"
#include "memory-target.h"
#include <string.h>

#define BLOCK_BYTES 512u
#define CHUNK UINT64_C(7)
#define SEQ UINT64_C(0x100000000005)

enum { PARITY = 1, FIX_HEADER = 2, FIX_TABLE = 4 };

static void
set_up(uint8_t flags, struct geometry *g, struct fragment_id *id)
{
    /* 512 blocks in 171 rows; the last has two. */
    geometry_init(g, 10 * CHUNK_BYTES_MIN, CHUNK_BYTES_MIN, BLOCK_BYTES, 0, 3,
                  2);
    memset(id, 0, sizeof *id);
    memset(id->volume.b, 0x11, sizeof id->volume.b);
    memset(id->instance.b, 0x22, sizeof id->instance.b);
    id->chunk = CHUNK;
    id->fragment = flags & PARITY ? 4 : 2;
}

/* What cell `row` holds; never all zero. */
static void
pattern(uint32_t row, uint8_t *to)
{
    memset(to, (int)(row % 251 + 1), BLOCK_BYTES);
}

static void
fill_data(const struct geometry *g, const struct fragment_id *id,
          struct memory_file *file)
{
    for (uint32_t row = 0; row < g->rows; row++)
        pattern(row, file->bytes + geometry_cell_at(g, id->fragment, row));
}

static void
load_meta(const struct geometry *g, const struct fragment_id *id,
          struct memory_file *file, uint8_t flags, const uint8_t *data,
          size_t size)
{
    size_t meta = (size_t)geometry_data_at(g, id->fragment);
    size_t table = (size_t)geometry_table_bytes(g, id->fragment);

    memcpy(file->bytes, data, size < meta ? size : meta);
    if (flags & FIX_TABLE)
        put_le64(file->bytes + 112,
                 sum_bytes(file->bytes + FRAGMENT_HEADER_BYTES, table));
    if (flags & FIX_HEADER)
        put_le64(file->bytes + 504, sum_bytes(file->bytes, 504));
}

/* A cell that passes holds its own bytes, or is honestly zero. */
static void
check_cells(struct fragment *f)
{
    const struct geometry *g = f->geometry;
    uint8_t cell[BLOCK_BYTES], expected[BLOCK_BYTES];
    struct iovec iov = {cell, sizeof cell};

    for (uint32_t row = 0; row < g->rows; row++) {
        bool bad;

        FUZZ_CHECK(fragment_read(f, row, 1, &iov, 1, &bad) == 0);
        if (bad)
            continue;
        if (fragment_entry(f, row).sum == SUM_ZERO_BLOCK) {
            FUZZ_CHECK(!f->doubtful);
            FUZZ_CHECK(sum_all_zero(cell, sizeof cell));
        } else {
            pattern(row, expected);
            FUZZ_CHECK(memcmp(cell, expected, sizeof cell) == 0);
        }
    }
}

/* What can be opened can be changed, stored and opened again. */
static void
check_store(struct memory_target *t, const struct geometry *g,
            const struct fragment_id *id, struct fragment *f)
{
    const uint64_t sums[3] = {1, 2, 3};
    const uint64_t *stripe_sums =
        geometry_is_parity(g, id->fragment) ? sums : NULL;
    struct cell_entry entry = {0, SEQ + 1};
    struct fragment *again;

    fragment_set_entry(f, g->rows - 1, entry, stripe_sums);
    FUZZ_CHECK(fragment_store_meta(f, SEQ + 1) == 0);
    FUZZ_CHECK(fragment_open(&t->base, g, id, false, &again) == 0);
    FUZZ_CHECK(!again->doubtful);
    FUZZ_CHECK(again->seq == SEQ + 1);
    FUZZ_CHECK(fragment_entry(again, g->rows - 1).seq == SEQ + 1);
    fragment_close(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fragment_header h;
    struct memory_target t;
    struct memory_file *file;
    struct fragment_id id;
    struct fragment *f;
    struct geometry g;

    if (size < 1)
        return 0;
    set_up(data[0], &g, &id);
    memory_target_init(&t);
    file = memory_target_file(&t, "7",
                              (size_t)geometry_file_bytes(&g, id.fragment));
    fill_data(&g, &id, file);
    load_meta(&g, &id, file, data[0], data + 1, size - 1);
    if (fragment_header_decode(file->bytes, &h) == 0) {
        FUZZ_CHECK(h.block_bytes >= BLOCK_BYTES_MIN);
        FUZZ_CHECK(h.chunk_bytes <= CHUNK_BYTES_MAX);
        FUZZ_CHECK(h.id.fragment < PARTS_MAX);
    }
    if (fragment_open(&t.base, &g, &id, true, &f) == 0) {
        check_cells(f);
        check_store(&t, &g, &id, f);
        fragment_close(f);
    }
    memory_target_done(&t);
    return 0;
}

/* 0 and 1: nothing corrected; 2 … 5: sums corrected, data and parity. */
size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    static const uint8_t flags[] = {
        0, PARITY, FIX_HEADER, FIX_HEADER | PARITY,
        FIX_HEADER | FIX_TABLE, FIX_HEADER | FIX_TABLE | PARITY,
    };
    const uint64_t sums[3] = {5, 0, 7};
    struct memory_target t;
    struct fragment_id id;
    struct fragment *f;
    struct geometry g;
    size_t bytes;

    if (idx >= sizeof flags)
        return 0;
    set_up(flags[idx], &g, &id);
    memory_target_init(&t);
    FUZZ_CHECK(fragment_create(&t.base, "7", &g, &id, &f) == 0);
    for (uint32_t row = 0; row < g.rows; row++) {
        struct cell_entry entry = {0, SEQ - row};
        uint8_t cell[BLOCK_BYTES];

        pattern(row, cell);
        if (row % 3 != 1 && row + 1 < g.rows)
            entry.sum = sum_block(fragment_cell_seed(&g, &id, row), cell,
                                  sizeof cell);
        fragment_set_entry(f, row, entry,
                           geometry_is_parity(&g, id.fragment) ? sums : NULL);
    }
    FUZZ_CHECK(fragment_store_meta(f, SEQ) == 0);
    fragment_close(f);
    bytes = (size_t)geometry_data_at(&g, id.fragment);
    FUZZ_CHECK(bytes < room);
    to[0] = flags[idx];
    memcpy(to + 1, memory_target_find(&t, "7")->bytes, bytes);
    memory_target_done(&t);
    return bytes + 1;
}
