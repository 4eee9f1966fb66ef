/* test-chunk-references.c: the reference file of a chunk. */
#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include "chunk/references.h"
#include "golden.h"
#include "temp-dir.h"
#include "unit.h"
#include <stdlib.h>
#include <string.h>

static const struct uuid ours = {{0x42, 1, 2, 3}};
static const struct uuid theirs = {{0x43, 1, 2, 3}};

/* 64 blocks of 4 KiB. */
static void
geometry_of_test(struct geometry *g)
{
    geometry_init(g, UINT64_C(1) << 30, 256u << 10, 4096, 2, 0, 0);
}

static struct references *
make(const struct geometry *g)
{
    struct references *r;

    assert_int_equal(references_new(g, &ours, 17, &r), 0);
    r->seq = 0x0102030405060708;
    r->block[0] = (struct reference){11, 1, 0, 5};
    r->block[3] = (struct reference){65535, CHUNK_COUNT_MAX, 4096 * 1023,
                                     UINT64_MAX};
    r->block[63] = (struct reference){300, 70000, 4096, 1};
    return r;
}

static void
format_1(void **state)
{
    uint8_t *bytes, image[4096];
    struct references *r, *again;
    struct geometry g;
    size_t count;

    (void)state;
    geometry_of_test(&g);
    r = make(&g);
    assert_int_equal(references_encode(r, &bytes, &count), 0);
    assert_int_equal(count, 128 + 64 * 18);
    assert_int_equal(count, references_file_bytes(&g));
    golden_check("v1-references.refs", bytes, count, image);
    /* found by position: 2 bytes, 4 bytes, 4 bytes */
    assert_int_equal(get_le16(image + 128 + 630), 300);
    assert_int_equal(get_le32(image + 128 + 632), 70000);
    assert_int_equal(get_le32(image + 128 + 636), 4096);
    assert_true(sum_all_zero(image + 128 + 10, 20));
    assert_int_equal(references_decode(image, count, &again), 0);
    assert_true(references_equal(r, again));
    references_free(again);
    references_free(r);
    free(bytes);
}

static void
stored_and_loaded(void **state)
{
    struct references *r, *again;
    struct geometry g, other;
    struct temp_dir dir;

    (void)state;
    temp_dir_init(&dir);
    geometry_of_test(&g);
    assert_int_equal(references_load(dir.target, &g, &ours, 17, &again),
                     -ENOENT);
    r = make(&g);
    assert_int_equal(references_store(dir.target, r), 0);
    r->block[5] = r->block[0];
    assert_int_equal(references_store(dir.target, r), 0);
    assert_int_equal(references_load(dir.target, &g, &ours, 17, &again), 0);
    assert_true(references_equal(r, again));
    references_free(again);
    assert_int_equal(references_load(dir.target, &g, &theirs, 17, &again),
                     -EBADMSG);
    geometry_init(&other, UINT64_C(1) << 30, 256u << 10, 512, 2, 0, 0);
    assert_int_equal(references_load(dir.target, &other, &ours, 17, &again),
                     -EBADMSG);
    references_free(r);
    temp_dir_done(&dir);
}

/* No bit can change unnoticed, nor the length. */
static void
damage_is_noticed(void **state)
{
    struct references *r, *again;
    struct geometry g;
    uint8_t *bytes;
    size_t count;

    (void)state;
    geometry_of_test(&g);
    r = make(&g);
    assert_int_equal(references_encode(r, &bytes, &count), 0);
    for (size_t at = 0; at < count; at++) {
        bytes[at] ^= (uint8_t)(1u << at % 8);
        assert_int_equal(references_decode(bytes, count, &again), -EBADMSG);
        bytes[at] ^= (uint8_t)(1u << at % 8);
        assert_int_equal(references_decode(bytes, at, &again), -EBADMSG);
    }
    references_free(r);
    free(bytes);
}

static void
change(uint8_t *bytes, size_t count, size_t at, uint8_t value, int error)
{
    struct references *again;
    uint8_t before = bytes[at];

    bytes[at] = value;
    put_le64(bytes + 8, sum_bytes(bytes + 16, count - 16));
    assert_int_equal(references_decode(bytes, count, &again), error);
    bytes[at] = before;
}

/* Whatever the sum says. */
static void
what_cannot_be_is_refused(void **state)
{
    struct references *r;
    struct geometry g;
    uint8_t *bytes;
    size_t count;

    (void)state;
    geometry_of_test(&g);
    r = make(&g);
    assert_int_equal(references_encode(r, &bytes, &count), 0);
    change(bytes, count, 16, 2, -EPROTO);
    change(bytes, count, 24, 1, -EPROTO);
    change(bytes, count, 20, 127, -EBADMSG);
    change(bytes, count, 64, 0, -EBADMSG);       /* chunk 0 */
    change(bytes, count, 73, 0x11, -EBADMSG);    /* block size */
    change(bytes, count, 78, 5, -EBADMSG);       /* chunk size */
    change(bytes, count, 128, 0, -EBADMSG);      /* no volume, and the rest */
    change(bytes, count, 130, 0, -EBADMSG);      /* its chunk 0 */
    change(bytes, count, 134, 1, -EBADMSG);      /* not where a block is */
    change(bytes, count, 128 + 640, 0, -EBADMSG); /* no sum */
    references_free(r);
    free(bytes);
}

static void
names(void **state)
{
    char name[REFERENCES_NAME_BYTES];

    (void)state;
    references_name(4294967295, name);
    assert_string_equal(name, "4294967295.refs");
    assert_int_equal(references_chunk_of(name), 4294967295);
    assert_int_equal(references_chunk_of("1.refs"), 1);
    assert_int_equal(references_chunk_of("01.refs"), 0);
    assert_int_equal(references_chunk_of("1"), 0);
    assert_int_equal(references_chunk_of("1.refs.new"), 0);
    assert_int_equal(references_chunk_of("4294967296.refs"), 0);
    assert_int_equal(references_chunk_of("-1.refs"), 0);
    assert_int_equal(references_chunk_of(".refs"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_1),
        cmocka_unit_test(stored_and_loaded),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
