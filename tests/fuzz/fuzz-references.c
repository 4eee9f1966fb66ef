/* fuzz-references: a reference file, and the files of a dedupe index, of any
 * bytes: refused, or of possible values that are encoded to the same bytes. */
#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include "chunk/references.h"
#include "dedupe/dedupe_page.h"
#include "fuzz.h"
#include "memory-target.h"
#include "temp-dir.h"
#include <stdlib.h>
#include <string.h>

enum { FIX_SUMS = 1, AS_INDEX = 2 };

#define FILE_BYTES (128u + 64u * 18u) /* a chunk of 64 blocks */

static const struct dedupe_shape shape = {
    .source = {{0x42, 1, 2, 3}},
    .source_bytes = UINT64_C(1) << 30,
    .block_bytes = 4096,
    .hash_bits = DEDUPE_HASH_BITS_MAX,
};

static void
judge(const struct references *r, const uint8_t *bytes, size_t count)
{
    uint8_t *again;
    size_t same;

    for (uint32_t i = 0; i < r->count; i++) {
        const struct reference *b = &r->block[i];

        FUZZ_CHECK(b->volume == 0 || b->chunk > 0);
        FUZZ_CHECK(b->at % r->block_bytes == 0);
        FUZZ_CHECK(b->volume == 0 || sum_has_bytes(b->sum));
    }
    FUZZ_CHECK(references_encode(r, &again, &same) == 0);
    FUZZ_CHECK(same == count);
    /* all but what is reserved, and their sum */
    FUZZ_CHECK(memcmp(again + 48, bytes + 48, 40) == 0);
    FUZZ_CHECK(memcmp(again + 128, bytes + 128, count - 128) == 0);
    free(again);
}

static void
as_file(uint8_t *bytes, size_t count, bool fix)
{
    struct references *r;
    int e;

    if (fix && count >= 16)
        put_le64(bytes + 8, sum_bytes(bytes + 16, count - 16));
    e = references_decode(bytes, count, &r);
    FUZZ_CHECK(e == 0 || e == -EBADMSG || e == -EPROTO);
    if (e < 0)
        return;
    judge(r, bytes, count);
    references_free(r);
}

static void
fix_index(uint8_t *bytes, size_t count)
{
    uint64_t pages = count < 72 ? 0 : get_le64(bytes + 64);

    for (uint64_t i = 0; i < pages && (i + 2) * 4096 <= count; i++)
        put_le64(bytes + (i + 1) * 4096,
                 sum_block(i, bytes + (i + 1) * 4096 + 8, 4096 - 8));
    if (count < 4096)
        return;
    if (pages < count / 4096 && count == (1 + pages) * 4096 + pages * 16)
        put_le64(bytes + 72, sum_bytes(bytes + (1 + pages) * 4096,
                                       (size_t)pages * 16));
    put_le64(bytes + 8, sum_bytes(bytes + 16, 4096 - 16));
}

static void
as_index(const uint8_t *bytes, size_t count, bool fix)
{
    struct dedupe_hash hash = {UINT64_C(1) << 63, 5};
    char name[DEDUPE_NAME_BYTES];
    struct memory_target t;
    struct memory_file *file;
    struct dedupe_index *x;
    uint64_t block;
    int r;

    memory_target_init(&t);
    dedupe_name(&shape, name);
    file = memory_target_file(&t, name, count);
    memcpy(file->bytes, bytes, count);
    if (fix)
        fix_index(file->bytes, count);
    r = dedupe_index_open(&t.base, &shape, 1u << 20, &x);
    FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -ENOSPC);
    if (r == 0) {
        r = dedupe_index_find(x, &hash, &block);
        FUZZ_CHECK(r == 0 || r == 1);
        dedupe_index_close(x);
    }
    memory_target_done(&t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size < 1)
        return 0;
    copy = malloc(size);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    if (data[0] & AS_INDEX)
        as_index(copy, size - 1, data[0] & FIX_SUMS);
    else
        as_file(copy, size - 1, data[0] & FIX_SUMS);
    free(copy);
    return 0;
}

static size_t
seed_file(uint8_t *to)
{
    struct geometry g;
    struct references *r;
    uint8_t *bytes;
    size_t count;

    geometry_init(&g, UINT64_C(1) << 30, 256u << 10, 4096, 2, 0, 0);
    FUZZ_CHECK(references_new(&g, &shape.source, 17, &r) == 0);
    r->block[3] = (struct reference){300, 70000, 4096, 1};
    FUZZ_CHECK(references_encode(r, &bytes, &count) == 0);
    memcpy(to + 1, bytes, count);
    to[0] = FIX_SUMS;
    free(bytes);
    references_free(r);
    return count + 1;
}

static size_t
make_index(uint8_t **ret)
{
    char name[DEDUPE_NAME_BYTES];
    struct dedupe_build *b;
    struct temp_dir dir;
    size_t count;

    temp_dir_init(&dir);
    FUZZ_CHECK(dedupe_build_begin(dir.target, &shape, 1u << 20, &b) == 0);
    for (uint64_t i = 0; i < 400; i++) {
        struct dedupe_hash hash = {i << 55, i};

        FUZZ_CHECK(dedupe_build_add(b, &hash, i) == 0);
    }
    FUZZ_CHECK(dedupe_build_end(b) == 0);
    dedupe_build_free(b);
    dedupe_name(&shape, name);
    FUZZ_CHECK(target_load(dir.target, name, 1u << 20, ret, &count) == 0);
    temp_dir_done(&dir);
    return count;
}

static size_t
seed_index(uint8_t *to)
{
    static uint8_t *bytes; /* made once */
    static size_t count;

    if (!bytes)
        count = make_index(&bytes);
    memcpy(to + 1, bytes, count);
    to[0] = FIX_SUMS | AS_INDEX;
    return count + 1;
}

size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    if (room < 5 * 4096)
        return 0;
    return idx == 0 ? seed_file(to) : idx == 1 ? seed_index(to) : 0;
}
