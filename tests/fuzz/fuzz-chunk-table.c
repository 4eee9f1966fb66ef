/* fuzz-chunk-table.c: a whole .chunks file.
 *
 * Input: a byte that says whether the sums of the slots are corrected, then
 * the file. */
#include "base/bytes.h"
#include "base/sum.h"
#include "chunk/chunk_page.h"
#include "fuzz.h"
#include "memory-target.h"
#include <string.h>

#define CHUNKS UINT64_C(600) /* three pages, the last one partly used */

enum { FIX_SUMS = 1 };

static const struct uuid instance = {{0x33, 1, 2, 3}};

/* As in chunk_page.h. */
static void
fix_sum(uint64_t page, uint8_t *bytes)
{
    uint64_t seed = sum_seed(&instance, page, UINT64_MAX);

    seed = sum_block(seed, bytes, 24);
    put_le64(bytes + 24, sum_block(seed, bytes + 32, 4096 - 32));
}

static void
fix_sums(struct memory_file *file)
{
    for (size_t at = 0; at + CHUNK_PAGE_BYTES <= file->size;
         at += CHUNK_PAGE_BYTES)
        if (!sum_all_zero(file->bytes + at, CHUNK_PAGE_BYTES))
            fix_sum(at / (2 * CHUNK_PAGE_BYTES), file->bytes + at);
}

/* A chunk whose sequence can still grow. */
static uint64_t
changeable(const struct chunk_table *table)
{
    for (uint64_t chunk = CHUNKS; chunk > 0; chunk--)
        if (chunk_table_get(table, chunk).seq < UINT64_MAX)
            return chunk;
    return 0;
}

/* What was loaded can be changed, stored and loaded again. */
static void
check_store(struct memory_target *t, struct chunk_table *table)
{
    struct chunk_entry entry = {.seq = UINT64_MAX, .state = CHUNK_BAD};
    uint64_t chunk = changeable(table), damaged, generation, stored;
    struct chunk_table *again;

    if (chunk == 0)
        return;
    generation = chunk_table_generation(table);
    if (generation >= CHUNK_GENERATION_MAX - 1)
        return;
    FUZZ_CHECK(chunk_table_set(table, chunk, entry) == 0);
    FUZZ_CHECK(chunk_table_store(table) == 0);
    /* a page of which both slots were damaged is stored twice */
    stored = chunk_table_generation(table);
    FUZZ_CHECK(stored == generation + 1 || stored == generation + 2);
    FUZZ_CHECK(chunk_table_open(&t->base, &instance, CHUNKS, false, &again,
                                &damaged) == 0);
    FUZZ_CHECK(damaged == 0);
    FUZZ_CHECK(chunk_table_generation(again) == stored);
    for (uint64_t i = 1; i <= CHUNKS; i++) {
        struct chunk_entry a = chunk_table_get(table, i);
        struct chunk_entry b = chunk_table_get(again, i);

        FUZZ_CHECK(a.seq == b.seq);
        FUZZ_CHECK(a.state == b.state);
    }
    chunk_table_close(again);
}

/* Entries behind the end never come back. */
static void
check_resize(struct chunk_table *table)
{
    FUZZ_CHECK(chunk_table_resize(table, 260) == 0);
    FUZZ_CHECK(chunk_table_resize(table, CHUNKS) == 0);
    FUZZ_CHECK(chunk_table_next(table, 261) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t damaged, seen = 0;
    struct chunk_table *table;
    struct memory_target t;
    struct memory_file *file;

    if (size < 1)
        return 0;
    memory_target_init(&t);
    file = memory_target_file(&t, CHUNK_TABLE_NAME, size - 1);
    memcpy(file->bytes, data + 1, size - 1);
    if (data[0] & FIX_SUMS)
        fix_sums(file);
    if (chunk_table_open(&t.base, &instance, CHUNKS, true, &table, &damaged)
        == 0) {
        FUZZ_CHECK(damaged <= 3);
        for (uint64_t chunk = chunk_table_next(table, 1); chunk != 0;
             chunk = chunk < CHUNKS ? chunk_table_next(table, chunk + 1) : 0) {
            FUZZ_CHECK(chunk > seen);
            FUZZ_CHECK(chunk <= CHUNKS);
            FUZZ_CHECK(chunk_table_get(table, chunk).state <= CHUNK_BAD);
            seen = chunk;
        }
        check_store(&t, table);
        check_resize(table);
        chunk_table_close(table);
    }
    memory_target_done(&t);
    return 0;
}

static void
seed_stores(struct chunk_table *table)
{
    for (uint64_t round = 1; round <= 3; round++) {
        for (uint64_t chunk = round; chunk <= CHUNKS; chunk += 100) {
            struct chunk_entry entry = {.seq = round * 1000 + chunk,
                                        .state = (uint32_t)(chunk % 3),
                                        .references_seq = round * 999};

            FUZZ_CHECK(chunk_table_set(table, chunk, entry) == 0);
        }
        FUZZ_CHECK(chunk_table_store(table) == 0);
    }
}

size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    struct chunk_table *table;
    struct memory_target t;
    struct memory_file *file;
    size_t bytes;

    if (idx > 1)
        return 0;
    memory_target_init(&t);
    FUZZ_CHECK(chunk_table_create(&t.base, &instance, CHUNKS, &table) == 0);
    seed_stores(table);
    chunk_table_close(table);
    file = memory_target_find(&t, CHUNK_TABLE_NAME);
    bytes = file->size;
    FUZZ_CHECK(bytes < room);
    to[0] = idx == 1 ? FIX_SUMS : 0;
    memcpy(to + 1, file->bytes, bytes);
    memory_target_done(&t);
    return bytes + 1;
}
