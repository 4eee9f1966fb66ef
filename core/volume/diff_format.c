/* diff_format.c: see diff_format.h. */
#include "volume/diff_format.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include "meta/meta.h"
#include <assert.h>
#include <string.h>

#define NAME_BYTES 72u /* with zeroes behind it */
#define HEADER_BODY (DIFF_HEADER_BYTES - 8)
#define RECORD_BODY (DIFF_RECORD_BYTES - 8)

static const uint8_t magic[8] = {'L', 'S', 'V', 'D', 'D', 'I', 'F', 'F'};

/* ---- the header ---- */

static void
write_name(struct byte_writer *out, const char *name)
{
    uint8_t bytes[NAME_BYTES] = {0};

    memcpy(bytes, name, strlen(name));
    write_bytes(out, bytes, sizeof bytes);
}

void
diff_header_encode(const struct diff_header *h, struct diff_stream *s,
                   uint8_t to[DIFF_HEADER_BYTES])
{
    struct byte_writer out = {.at = to, .left = HEADER_BODY};

    memset(to, 0, DIFF_HEADER_BYTES);
    write_bytes(&out, magic, sizeof magic);
    write_u32(&out, FORMAT_VERSION);
    write_u32(&out, DIFF_HEADER_BYTES);
    write_u64(&out, 0); /* incompat */
    write_u64(&out, 0); /* compat */
    write_u64(&out, h->size_bytes);
    write_u32(&out, h->block_bytes);
    write_u32(&out, 0);
    write_bytes(&out, h->from_uuid.b, sizeof h->from_uuid.b);
    write_bytes(&out, h->to_uuid.b, sizeof h->to_uuid.b);
    write_name(&out, h->from);
    write_name(&out, h->to);
    assert(!out.overrun);
    put_le64(to + HEADER_BODY, sum_bytes(to, HEADER_BODY));
    *s = (struct diff_stream){.sum = get_le64(to + HEADER_BODY),
                              .size_bytes = h->size_bytes};
}

/* False: it does not end. */
static bool
read_name(struct byte_reader *in, char name[VOLUME_NAME_BYTES_MAX + 1])
{
    uint8_t bytes[NAME_BYTES];

    read_bytes(in, bytes, sizeof bytes);
    memcpy(name, bytes, VOLUME_NAME_BYTES_MAX + 1);
    return memchr(name, 0, VOLUME_NAME_BYTES_MAX + 1) != NULL;
}

static bool
header_ok(const struct diff_header *h)
{
    bool is_whole = h->from[0] == 0;

    if (h->size_bytes == 0 || h->size_bytes > VOLUME_BYTES_MAX ||
        h->block_bytes < BLOCK_BYTES_MIN || h->block_bytes > BLOCK_BYTES_MAX)
        return false;
    if (uuid_is_zero(&h->to_uuid) || uuid_is_zero(&h->from_uuid) != is_whole)
        return false;
    if (!is_whole && (meta_check_name(h->from) < 0 ||
                      !meta_is_snapshot_name(h->from)))
        return false;
    return meta_check_name(h->to) == 0;
}

int
diff_header_decode(const uint8_t from[DIFF_HEADER_BYTES],
                   struct diff_header *ret, struct diff_stream *s)
{
    struct byte_reader in = {.at = from, .left = HEADER_BODY};
    struct diff_header h;
    uint64_t incompat;
    uint32_t format, bytes;
    bool names_end;

    if (memcmp(from, magic, sizeof magic) != 0)
        return err_set(-EBADMSG, "this is no stream of lsvd export-diff");
    if (get_le64(from + HEADER_BODY) != sum_bytes(from, HEADER_BODY))
        return err_set(-EBADMSG, "the stream is damaged: its header");
    (void)read_skip(&in, sizeof magic);
    format = read_u32(&in);
    bytes = read_u32(&in);
    incompat = read_u64(&in);
    (void)read_u64(&in); /* compat */
    if (format != FORMAT_VERSION || bytes != DIFF_HEADER_BYTES ||
        incompat != 0)
        return err_set(-EPROTO, "the stream was written by a later version of "
                       "lsvd");
    h.size_bytes = read_u64(&in);
    h.block_bytes = read_u32(&in);
    (void)read_u32(&in);
    read_bytes(&in, h.from_uuid.b, sizeof h.from_uuid.b);
    read_bytes(&in, h.to_uuid.b, sizeof h.to_uuid.b);
    names_end = read_name(&in, h.from);
    names_end &= read_name(&in, h.to);
    assert(!in.overrun);
    if (!names_end || !header_ok(&h))
        return err_set(-EBADMSG, "the stream is damaged: what its header says "
                       "is impossible");
    *ret = h;
    *s = (struct diff_stream){.sum = get_le64(from + HEADER_BODY),
                              .size_bytes = h.size_bytes};
    return 0;
}

/* ---- records ---- */

/* DF1. */
static uint64_t
sum_with(const struct diff_stream *s, const uint8_t body[RECORD_BODY])
{
    uint8_t bytes[8 + RECORD_BODY];

    put_le64(bytes, s->sum);
    memcpy(bytes + 8, body, RECORD_BODY);
    return sum_bytes(bytes, sizeof bytes);
}

static bool
record_ok(const struct diff_stream *s, const struct diff_record *r)
{
    if (r->type != DIFF_DATA && r->type != DIFF_ZERO)
        return false;
    return r->count > 0 && r->offset >= s->end &&
           r->offset <= s->size_bytes &&
           r->count <= s->size_bytes - r->offset &&
           (r->type == DIFF_ZERO || r->count <= DIFF_DATA_MAX);
}

static void
count_record(struct diff_stream *s, const struct diff_record *r, uint64_t sum)
{
    s->sum = sum;
    if (r->type == DIFF_END)
        return;
    s->records++;
    s->end = r->offset + r->count;
    if (r->type == DIFF_DATA)
        s->data_bytes += r->count;
    else
        s->zero_bytes += r->count;
}

void
diff_record_encode(const struct diff_record *record, struct diff_stream *s,
                   uint8_t to[DIFF_RECORD_BYTES])
{
    struct byte_writer out = {.at = to, .left = RECORD_BODY};
    bool is_end = record->type == DIFF_END;

    assert(is_end || record_ok(s, record));
    write_u32(&out, (uint32_t)record->type);
    write_u32(&out, 0);
    write_u64(&out, is_end ? s->records : record->offset);
    write_u64(&out, is_end ? s->data_bytes : record->count);
    write_u64(&out, is_end ? s->zero_bytes
                    : record->type == DIFF_DATA ? record->data_sum : 0);
    assert(!out.overrun);
    put_le64(to + RECORD_BODY, sum_with(s, to));
    count_record(s, record, get_le64(to + RECORD_BODY));
}

int
diff_record_decode(const uint8_t from[DIFF_RECORD_BYTES],
                   struct diff_stream *s, struct diff_record *ret)
{
    struct byte_reader in = {.at = from, .left = RECORD_BODY};
    uint64_t sum = get_le64(from + RECORD_BODY);
    struct diff_record r = {0};
    bool ok;

    if (sum != sum_with(s, from))
        return err_set(-EBADMSG, "the stream is damaged: its record %llu",
                       (unsigned long long)s->records + 1);
    r.type = (enum diff_type)read_u32(&in);
    (void)read_u32(&in);
    r.offset = read_u64(&in);
    r.count = read_u64(&in);
    r.data_sum = read_u64(&in);
    assert(!in.overrun);
    if (r.type == DIFF_END)
        ok = r.offset == s->records && r.count == s->data_bytes &&
             r.data_sum == s->zero_bytes;
    else
        ok = record_ok(s, &r);
    if (!ok)
        return err_set(-EBADMSG, "the stream is damaged: what its record %llu "
                       "says is impossible",
                       (unsigned long long)s->records + 1);
    if (r.type == DIFF_END)
        r = (struct diff_record){.type = DIFF_END};
    count_record(s, &r, sum);
    *ret = r;
    return 0;
}
