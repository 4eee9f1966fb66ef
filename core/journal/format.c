/* format.c: bytes of superblocks and record headers; see journal_format.h. */
#include "journal/journal_format.h"

#include "base/err.h"
#include "base/sum.h"
#include <assert.h>

static const char super_magic[8] = "LSVDJSB1";
static const char record_magic[8] = "LSVDJREC";

enum {
    SUPER_VERSION = 1,
    HAS_AREA = 1, /* incompat */
};

uint64_t
super_at(uint64_t file_bytes, unsigned copy)
{
    switch (copy) {
    case 0: return 0;
    case 1: return file_bytes - 2 * SUPER_BYTES;
    case 2: return SUPER_BYTES;
    default: return file_bytes - SUPER_BYTES;
    }
}

static void
write_uuid(struct byte_writer *out, const struct uuid *uuid)
{
    write_bytes(out, uuid->b, sizeof uuid->b);
}

void
journal_super_encode(const struct journal_super *s, uint8_t *bytes)
{
    static_assert(PARTS_MAX == 20, "the table in journal_format.h");
    struct byte_writer out = { bytes, SUPER_BYTES, false };
    const struct journal_identity *id = &s->identity;
    uint8_t view[VIEW_BYTES_MAX] = { 0 };
    struct byte_writer view_out = { view, sizeof view, false };
    char host[sizeof id->host] = { 0 };
    uint32_t view_bytes;

    view_encode(&id->view, &view_out);
    assert(!view_out.overrun);
    view_bytes = (uint32_t)(sizeof view - view_out.left);
    memcpy(host, id->host, strnlen(id->host, sizeof host - 1));

    memset(bytes, 0, SUPER_BYTES);
    write_bytes(&out, super_magic, sizeof super_magic);
    write_u64(&out, 0); /* the sum, below */
    write_u32(&out, SUPER_VERSION);
    write_u32(&out, id->block_bytes);
    write_u64(&out, s->area_bytes > 0 ? HAS_AREA : 0);
    write_u64(&out, 0); /* ro_compat */
    write_u64(&out, 0); /* compat */
    write_uuid(&out, &id->volume);
    write_uuid(&out, &id->journal);
    write_u64(&out, s->counter);
    write_u64(&out, s->file_bytes);
    write_u64(&out, s->salt);
    write_u64(&out, s->tail_at);
    write_u64(&out, s->tail_chain);
    write_u64(&out, s->tail_seq);
    write_u64(&out, s->durable_seq);
    write_u64(&out, s->redo_seq);
    write_u64(&out, s->index_limit);
    write_u32(&out, PARTS_MAX);
    write_u32(&out, (uint32_t)(s->area_bytes / JOURNAL_UNIT_BYTES));
    for (unsigned i = 0; i < PARTS_MAX; i++)
        write_u64(&out, id->part_ckpt[i]);
    write_bytes(&out, host, sizeof host);
    write_u32(&out, view_bytes);
    write_u32(&out, 0);
    write_bytes(&out, view, view_bytes);
    assert(!out.overrun);
    put_le64(bytes + 8, sum_bytes(bytes + 16, SUPER_BYTES - 16));
}

/* The fields that place things are within the file. */
static bool
super_is_sane(const struct journal_super *s)
{
    uint32_t block_bytes = s->identity.block_bytes;

    if (block_bytes < BLOCK_BYTES_MIN || block_bytes > BLOCK_BYTES_MAX ||
        (block_bytes & (block_bytes - 1)) != 0)
        return false;
    if (s->file_bytes < JOURNAL_FILE_BYTES_MIN ||
        s->file_bytes > VOLUME_BYTES_MAX ||
        s->file_bytes % JOURNAL_UNIT_BYTES != 0)
        return false;
    if (s->area_bytes > (s->file_bytes - RING_OVERHEAD_BYTES) / 2)
        return false;
    return s->tail_at >= RING_AT &&
           s->tail_at < s->file_bytes - RING_AT - s->area_bytes &&
           s->tail_at % JOURNAL_ALIGN_BYTES == 0 && s->tail_seq > 0;
}

int
journal_super_decode(const uint8_t *bytes, struct journal_super *ret)
{
    struct byte_reader in = { bytes + 16, SUPER_BYTES - 16, false };
    struct byte_reader view_in;
    struct journal_super s = { 0 };
    uint32_t version, slots, area, view_bytes;
    uint64_t incompat, ro_compat;
    const uint8_t *view;

    if (memcmp(bytes, super_magic, sizeof super_magic) != 0)
        return err_set(-EBADMSG, "not a journal superblock");
    if (get_le64(bytes + 8) != sum_bytes(bytes + 16, SUPER_BYTES - 16))
        return err_set(-EBADMSG, "journal superblock: wrong checksum");
    version = read_u32(&in);
    s.identity.block_bytes = read_u32(&in);
    incompat = read_u64(&in);
    ro_compat = read_u64(&in);
    (void)read_u64(&in);
    if (version != SUPER_VERSION || (incompat & ~(uint64_t)HAS_AREA) != 0 ||
        ro_compat != 0)
        return err_set(-EPROTO, "journal of a later format (version %u, "
                       "features %llx): needs a newer lsvd", version,
                       (unsigned long long)(incompat | ro_compat));
    read_bytes(&in, s.identity.volume.b, sizeof s.identity.volume.b);
    read_bytes(&in, s.identity.journal.b, sizeof s.identity.journal.b);
    s.counter = read_u64(&in);
    s.file_bytes = read_u64(&in);
    s.salt = read_u64(&in);
    s.tail_at = read_u64(&in);
    s.tail_chain = read_u64(&in);
    s.tail_seq = read_u64(&in);
    s.durable_seq = read_u64(&in);
    s.redo_seq = read_u64(&in);
    s.index_limit = read_u64(&in);
    slots = read_u32(&in);
    area = read_u32(&in);
    if (incompat & HAS_AREA)
        s.area_bytes = (uint64_t)area * JOURNAL_UNIT_BYTES;
    for (unsigned i = 0; i < PARTS_MAX; i++)
        s.identity.part_ckpt[i] = read_u64(&in);
    read_bytes(&in, s.identity.host, sizeof s.identity.host);
    s.identity.host[sizeof s.identity.host - 1] = 0;
    view_bytes = read_u32(&in);
    (void)read_u32(&in);
    view = read_skip(&in, view_bytes);
    if (in.overrun || slots != PARTS_MAX || !super_is_sane(&s))
        return err_set(-EBADMSG, "journal superblock: impossible fields");
    view_in = (struct byte_reader){ view, view_bytes, false };
    if (view_decode(&view_in, &s.identity.view) < 0)
        return err_wrap(-EBADMSG, "journal superblock");
    *ret = s;
    return 0;
}

void
record_header_encode(struct record_header *h, uint8_t *bytes)
{
    struct byte_writer out = { bytes, RECORD_FIXED_BYTES, false };

    write_bytes(&out, record_magic, sizeof record_magic);
    write_u64(&out, 0); /* the sum, below */
    write_u64(&out, h->salt);
    write_u64(&out, h->seq);
    write_u64(&out, h->chain);
    write_u64(&out, h->durable);
    write_u64(&out, h->at);
    write_u32(&out, h->type);
    write_u32(&out, h->header_bytes);
    write_u64(&out, h->first);
    write_u64(&out, h->count);
    write_u64(&out, h->payload_bytes);
    write_u64(&out, h->payload_sum);
    assert(!out.overrun);
    h->sum = sum_bytes(bytes + 16, h->header_bytes - 16);
    put_le64(bytes + 8, h->sum);
}

void
record_sum_put(uint8_t *header, uint32_t i, uint64_t sum)
{
    put_le64(header + RECORD_FIXED_BYTES + 8 * (size_t)i, sum);
}

uint64_t
record_sum_get(const uint8_t *header, uint32_t i)
{
    return get_le64(header + RECORD_FIXED_BYTES + 8 * (size_t)i);
}

bool
record_header_begun(const uint8_t *bytes, uint64_t salt, uint64_t at,
                    uint64_t *ret_seq)
{
    *ret_seq = get_le64(bytes + 24);
    return memcmp(bytes, record_magic, sizeof record_magic) == 0 &&
           get_le64(bytes + 16) == salt && get_le64(bytes + 48) == at;
}

bool
record_header_decode(const uint8_t *bytes, size_t available, uint64_t salt,
                     uint64_t at, struct record_header *ret)
{
    struct byte_reader in = { bytes + 8, RECORD_FIXED_BYTES - 8, false };
    struct record_header h;
    uint64_t seq;

    assert(available >= JOURNAL_ALIGN_BYTES);
    if (!record_header_begun(bytes, salt, at, &seq))
        return false;
    h.sum = read_u64(&in);
    h.salt = read_u64(&in);
    h.seq = read_u64(&in);
    h.chain = read_u64(&in);
    h.durable = read_u64(&in);
    h.at = read_u64(&in);
    h.type = read_u32(&in);
    h.header_bytes = read_u32(&in);
    h.first = read_u64(&in);
    h.count = read_u64(&in);
    h.payload_bytes = read_u64(&in);
    h.payload_sum = read_u64(&in);
    if (h.header_bytes < JOURNAL_ALIGN_BYTES ||
        h.header_bytes > RECORD_HEADER_BYTES_MAX ||
        h.header_bytes > available ||
        h.header_bytes % JOURNAL_ALIGN_BYTES != 0)
        return false;
    if (h.sum != sum_bytes(bytes + 16, h.header_bytes - 16))
        return false;
    *ret = h;
    return true;
}
