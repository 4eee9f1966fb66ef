/* The stream of export-diff as bytes: what format 1 wrote is read for ever, and
 * written again byte by byte; nothing that was changed passes.
 *
 *   test-volume-diff-format DIR           check
 *   test-volume-diff-format --write DIR   make the image, if it is missing
 */
#include "unit.h"
#include "base/sum.h"
#include "volume/diff_format.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DATA = 512, SIZE = 1 << 20,
       BYTES = 256 + 3 * 40 + DATA }; /* header, two records, the end */

static char path[4096];

static void
make_header(struct diff_header *ret)
{
    *ret = (struct diff_header){.size_bytes = SIZE + 1, .block_bytes = 4096,
                                .from = "vm1@monday", .to = "vm1@tuesday"};
    memset(ret->from_uuid.b, 0x11, sizeof ret->from_uuid.b);
    memset(ret->to_uuid.b, 0x22, sizeof ret->to_uuid.b);
}

static void
make_stream(uint8_t to[BYTES])
{
    struct diff_record data = {DIFF_DATA, 4096, DATA, 0};
    const struct diff_record zeroes = {DIFF_ZERO, 8192, SIZE - 8191, 0};
    const struct diff_record end = {.type = DIFF_END};
    struct diff_stream s;
    struct diff_header h;

    make_header(&h);
    diff_header_encode(&h, &s, to);
    to += DIFF_HEADER_BYTES;
    for (unsigned i = 0; i < DATA; i++)
        to[DIFF_RECORD_BYTES + i] = (uint8_t)(i * 7);
    data.data_sum = sum_bytes(to + DIFF_RECORD_BYTES, DATA);
    diff_record_encode(&data, &s, to);
    to += DIFF_RECORD_BYTES + DATA;
    diff_record_encode(&zeroes, &s, to);
    diff_record_encode(&end, &s, to + DIFF_RECORD_BYTES);
}

static void
load_image(uint8_t to[BYTES])
{
    FILE *file = fopen(path, "rb");

    assert_non_null(file);
    assert_int_equal(fread(to, 1, BYTES, file), BYTES);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
}

static void
test_image(void **state)
{
    uint8_t image[BYTES], ours[BYTES];
    const uint8_t *at = image;
    struct diff_header h, want;
    struct diff_record record;
    struct diff_stream s;

    (void)state;
    load_image(image);
    make_stream(ours);
    assert_memory_equal(image, ours, BYTES);
    make_header(&want);
    assert_int_equal(diff_header_decode(at, &h, &s), 0);
    assert_int_equal(h.size_bytes, want.size_bytes);
    assert_int_equal(h.block_bytes, want.block_bytes);
    assert_string_equal(h.from, want.from);
    assert_string_equal(h.to, want.to);
    assert_true(uuid_equal(&h.from_uuid, &want.from_uuid));
    assert_true(uuid_equal(&h.to_uuid, &want.to_uuid));
    at += DIFF_HEADER_BYTES;
    assert_int_equal(diff_record_decode(at, &s, &record), 0);
    assert_int_equal(record.type, DIFF_DATA);
    assert_int_equal(record.offset, 4096);
    assert_int_equal(record.count, DATA);
    at += DIFF_RECORD_BYTES;
    assert_int_equal(record.data_sum, sum_bytes(at, DATA));
    at += DATA;
    assert_int_equal(diff_record_decode(at, &s, &record), 0);
    assert_int_equal(record.type, DIFF_ZERO);
    assert_int_equal(record.offset, 8192);
    assert_int_equal(record.count, SIZE - 8191);
    at += DIFF_RECORD_BYTES;
    assert_int_equal(diff_record_decode(at, &s, &record), 0);
    assert_int_equal(record.type, DIFF_END);
    assert_int_equal(s.records, 2);
    assert_int_equal(s.data_bytes, DATA);
    assert_int_equal(s.zero_bytes, SIZE - 8191);
}

/* As lsvd_import_diff does it. */
static int
read_all(const uint8_t *at, size_t count)
{
    const uint8_t *end = at + count;
    struct diff_record record = {.type = DIFF_ZERO};
    struct diff_header h;
    struct diff_stream s;
    int r = count < DIFF_HEADER_BYTES ? -EBADMSG
                                      : diff_header_decode(at, &h, &s);

    for (at += DIFF_HEADER_BYTES; r == 0; ) {
        if ((size_t)(end - at) < DIFF_RECORD_BYTES)
            return -EBADMSG;
        r = diff_record_decode(at, &s, &record);
        at += DIFF_RECORD_BYTES;
        if (r == 0 && record.type == DIFF_END)
            return at == end ? 0 : -EBADMSG;
        if (r < 0 || record.type != DIFF_DATA)
            continue;
        if ((size_t)(end - at) < record.count ||
            sum_bytes(at, (size_t)record.count) != record.data_sum)
            return -EBADMSG;
        at += record.count;
    }
    return r;
}

static void
test_every_bit_counts(void **state)
{
    uint8_t bytes[BYTES];

    (void)state;
    make_stream(bytes);
    assert_int_equal(read_all(bytes, BYTES), 0);
    for (size_t bit = 0; bit < 8 * BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(read_all(bytes, BYTES), -EBADMSG);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < BYTES; n++)
        assert_int_equal(read_all(bytes, n), -EBADMSG);
}

/* Whole records, but not all, or not in this order. */
static void
test_order(void **state)
{
    uint8_t bytes[BYTES], other[BYTES];
    uint8_t *first = bytes + DIFF_HEADER_BYTES;
    uint8_t *second = first + DIFF_RECORD_BYTES + DATA;

    (void)state;
    make_stream(bytes);
    memcpy(other, bytes, DIFF_HEADER_BYTES);
    memcpy(other + DIFF_HEADER_BYTES, second, 2 * DIFF_RECORD_BYTES);
    assert_int_equal(read_all(other, DIFF_HEADER_BYTES +
                                         2 * DIFF_RECORD_BYTES), -EBADMSG);
    memcpy(other, bytes, BYTES);
    memcpy(other + (second - bytes), second + DIFF_RECORD_BYTES,
           DIFF_RECORD_BYTES); /* the end, before its time */
    assert_int_equal(read_all(other, BYTES - DIFF_RECORD_BYTES), -EBADMSG);
}

/* With a right sum, and yet impossible. */
static void
check_refused(const struct diff_header *h, uint32_t at, uint8_t value,
              int expected)
{
    uint8_t bytes[DIFF_HEADER_BYTES];
    struct diff_header found;
    struct diff_stream s;
    uint64_t sum;

    diff_header_encode(h, &s, bytes);
    bytes[at] = value;
    sum = sum_bytes(bytes, DIFF_HEADER_BYTES - 8);
    for (unsigned i = 0; i < 8; i++)
        bytes[DIFF_HEADER_BYTES - 8 + i] = (uint8_t)(sum >> 8 * i);
    assert_int_equal(diff_header_decode(bytes, &found, &s), expected);
}

static void
test_impossible_headers(void **state)
{
    struct diff_header h;

    (void)state;
    make_header(&h);
    check_refused(&h, 0, 'L', 0);
    check_refused(&h, 0, 'l', -EBADMSG);
    check_refused(&h, 8, 2, -EPROTO);  /* format */
    check_refused(&h, 12, 1, -EPROTO); /* longer */
    check_refused(&h, 16, 1, -EPROTO); /* incompat */
    check_refused(&h, 24, 1, 0);       /* compat */
    check_refused(&h, 38, 0xff, -EBADMSG); /* size */
    check_refused(&h, 41, 0, -EBADMSG);    /* block size 0 */
    check_refused(&h, 80, '@', -EBADMSG);  /* FROM's name … */
    check_refused(&h, 83, '_', -EBADMSG);  /* … of no snapshot */
    check_refused(&h, 152, '/', -EBADMSG); /* TO's */
    memset(&h.to_uuid, 0, sizeof h.to_uuid);
    check_refused(&h, 0, 'L', -EBADMSG);
    make_header(&h);
    memset(&h.from_uuid, 0, sizeof h.from_uuid);
    check_refused(&h, 0, 'L', -EBADMSG);
    h.from[0] = 0;
    check_refused(&h, 0, 'L', 0);
}

static int
write_image(void)
{
    FILE *file = fopen(path, "wbx");
    uint8_t bytes[BYTES];
    bool ok;

    if (!file)
        return errno == EEXIST ? 0 : 1;
    make_stream(bytes);
    ok = fwrite(bytes, 1, BYTES, file) == BYTES;
    return fclose(file) == 0 && ok ? 0 : 1;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_impossible_headers),
    };
    bool is_writing = argc == 3 && strcmp(argv[1], "--write") == 0;

    if (argc != 2 && !is_writing)
        return 64;
    (void)snprintf(path, sizeof path, "%s/v1-diff.bin", argv[argc - 1]);
    if (is_writing)
        return write_image();
    return cmocka_run_group_tests_name("diff-format", tests, NULL, NULL);
}
