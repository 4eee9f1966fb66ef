/* fuzz-diff: a stream of export-diff of any bytes: refused, or a header and
 * records within their bounds, in order, that are encoded to the same bytes. */
#include "base/bytes.h"
#include "base/sum.h"
#include "fuzz.h"
#include "volume/diff_format.h"
#include <errno.h>
#include <stdbool.h>

static void
judge_header(const struct diff_header *h)
{
    uint8_t bytes[DIFF_HEADER_BYTES];
    struct diff_header again;
    struct diff_stream s;

    FUZZ_CHECK(h->size_bytes > 0 && h->size_bytes <= VOLUME_BYTES_MAX);
    FUZZ_CHECK(memchr(h->from, '\0', sizeof h->from) != NULL);
    FUZZ_CHECK(memchr(h->to, '\0', sizeof h->to) != NULL);
    diff_header_encode(h, &s, bytes);
    FUZZ_CHECK(diff_header_decode(bytes, &again, &s) == 0);
    FUZZ_CHECK(strcmp(again.to, h->to) == 0);
}

/* s: before it was decoded. */
static void
judge_record(struct diff_stream s, const struct diff_record *record)
{
    uint8_t bytes[DIFF_RECORD_BYTES];
    struct diff_stream before = s;
    struct diff_record again;

    if (record->type != DIFF_END) {
        FUZZ_CHECK(record->offset >= s.end && record->count > 0);
        FUZZ_CHECK(record->offset + record->count <= s.size_bytes);
        FUZZ_CHECK(record->type == DIFF_ZERO ||
                   record->count <= DIFF_DATA_MAX);
    }
    diff_record_encode(record, &s, bytes);
    FUZZ_CHECK(diff_record_decode(bytes, &before, &again) == 0);
    FUZZ_CHECK(again.type == record->type && again.offset == record->offset);
}

/* Give it the sum that it needs here (DF1). */
static void
mend(uint8_t record[DIFF_RECORD_BYTES], const struct diff_stream *s)
{
    uint8_t bytes[DIFF_RECORD_BYTES];

    put_le64(bytes, s->sum);
    memcpy(bytes + 8, record, DIFF_RECORD_BYTES - 8);
    put_le64(record + DIFF_RECORD_BYTES - 8, sum_bytes(bytes, sizeof bytes));
}

static void
decode(const uint8_t *data, size_t size, bool mends)
{
    uint8_t header[DIFF_HEADER_BYTES] = { 0 }, bytes[DIFF_RECORD_BYTES];
    struct diff_record record = { .type = DIFF_ZERO };
    struct diff_stream s, before;
    struct diff_header h;
    size_t at = sizeof header;
    int r;

    memcpy(header, data, size < sizeof header ? size : sizeof header);
    if (mends)
        put_le64(header + sizeof header - 8,
                 sum_bytes(header, sizeof header - 8));
    r = diff_header_decode(header, &h, &s);
    FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -EPROTO);
    if (r == 0)
        judge_header(&h);
    while (r == 0 && record.type != DIFF_END && size >= at + sizeof bytes) {
        memcpy(bytes, data + at, sizeof bytes);
        if (mends)
            mend(bytes, &s);
        before = s;
        r = diff_record_decode(bytes, &s, &record);
        FUZZ_CHECK(r == 0 || r == -EBADMSG);
        if (r == 0)
            judge_record(before, &record);
        at += sizeof bytes;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size, false);
    decode(data, size, true);
    return 0;
}

/* Without the data between records: it is no parser's. */
size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    const struct diff_record data = { DIFF_DATA, 4096, 8192, 77 };
    const struct diff_record zeroes = { DIFF_ZERO, 65536, 1u << 30, 0 };
    const struct diff_record end = { .type = DIFF_END };
    struct diff_header h = { .size_bytes = UINT64_C(1) << 40,
                             .block_bytes = 4096, .to = "vm1@tuesday" };
    struct diff_stream s;

    if (idx > 1 || room < DIFF_HEADER_BYTES + 3 * DIFF_RECORD_BYTES)
        return 0;
    memset(&h.to_uuid, 0x22, sizeof h.to_uuid);
    if (idx == 1) {
        memset(&h.from_uuid, 0x11, sizeof h.from_uuid);
        memcpy(h.from, "vm1@monday", 11);
    }
    diff_header_encode(&h, &s, to);
    to += DIFF_HEADER_BYTES;
    diff_record_encode(&data, &s, to);
    diff_record_encode(&zeroes, &s, to + DIFF_RECORD_BYTES);
    diff_record_encode(&end, &s, to + 2 * DIFF_RECORD_BYTES);
    return DIFF_HEADER_BYTES + 3 * DIFF_RECORD_BYTES;
}
