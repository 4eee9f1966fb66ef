/* dedupe_page.c: see dedupe_page.h. */
#include "dedupe/dedupe_page.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include <assert.h>
#include <stdio.h>

#define FORMAT 1u
#define SUMMED_FROM 16u
#define PAGE_HEAD 16u

static const uint8_t magic[8] = {'L', 'S', 'V', 'D', 'd', 'i', 'd', 'x'};

struct dedupe_hash
dedupe_hash_of(const struct dedupe_shape *shape, const void *block)
{
    struct dedupe_hash hash;
    uint32_t bits = shape->hash_bits;

    sum_wide(block, shape->block_bytes, &hash.high, &hash.low);
    if (bits <= 64)
        hash.low = 0;
    else if (bits < 128)
        hash.low &= UINT64_MAX << (128 - bits);
    if (bits < 64)
        hash.high &= UINT64_MAX << (64 - bits);
    return hash;
}

void
dedupe_name(const struct dedupe_shape *shape, char name[DEDUPE_NAME_BYTES])
{
    char uuid[UUID_TEXT_BYTES];

    uuid_format(&shape->source, uuid);
    snprintf(name, DEDUPE_NAME_BYTES, "%s.dedupe", uuid);
}

static uint64_t
page_sum(uint64_t page, const uint8_t *bytes)
{
    return sum_block(page, bytes + 8, DEDUPE_PAGE_BYTES - 8);
}

void
dedupe_page_encode(uint64_t page, const struct dedupe_entry *entry,
                   uint32_t count, uint8_t *bytes)
{
    struct byte_writer out = {bytes, DEDUPE_PAGE_BYTES, false};

    assert(count <= DEDUPE_PAGE_ENTRIES);
    memset(bytes, 0, DEDUPE_PAGE_BYTES);
    write_u64(&out, 0); /* the sum, below */
    write_u32(&out, count);
    write_u32(&out, 0);
    for (uint32_t i = 0; i < count; i++) {
        write_u64(&out, entry[i].hash.high);
        write_u64(&out, entry[i].hash.low);
        write_u64(&out, entry[i].block);
    }
    assert(!out.overrun);
    put_le64(bytes, page_sum(page, bytes));
}

uint32_t
dedupe_page_decode(uint64_t page, const uint8_t *bytes,
                   struct dedupe_entry *entry)
{
    struct byte_reader in = {bytes, DEDUPE_PAGE_BYTES, false};
    uint32_t count;

    if (read_u64(&in) != page_sum(page, bytes))
        return 0;
    count = read_u32(&in);
    (void)read_u32(&in);
    if (count > DEDUPE_PAGE_ENTRIES)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        entry[i].hash.high = read_u64(&in);
        entry[i].hash.low = read_u64(&in);
        entry[i].block = read_u64(&in);
    }
    return count;
}

void
dedupe_fence_put(uint8_t *fences, uint64_t page, const struct dedupe_hash *hash)
{
    put_le64(fences + page * 16, hash->high);
    put_le64(fences + page * 16 + 8, hash->low);
}

struct dedupe_hash
dedupe_fence_get(const uint8_t *fences, uint64_t page)
{
    return (struct dedupe_hash){get_le64(fences + page * 16),
                                get_le64(fences + page * 16 + 8)};
}

void
dedupe_header_encode(const struct dedupe_header *h, uint8_t *bytes)
{
    struct byte_writer out = {bytes, DEDUPE_PAGE_BYTES, false};

    memset(bytes, 0, DEDUPE_PAGE_BYTES);
    write_bytes(&out, magic, sizeof magic);
    write_u64(&out, 0); /* the sum, below */
    write_u32(&out, FORMAT);
    write_u32(&out, h->shape.block_bytes);
    write_bytes(&out, h->shape.source.b, sizeof h->shape.source.b);
    write_u64(&out, h->shape.source_bytes);
    write_u32(&out, h->shape.hash_bits);
    write_u32(&out, 0);
    write_u64(&out, h->entries);
    write_u64(&out, h->pages);
    write_u64(&out, h->fence_sum);
    write_u64(&out, h->shape.generation);
    assert(!out.overrun);
    put_le64(bytes + 8, sum_bytes(bytes + SUMMED_FROM,
                                  DEDUPE_PAGE_BYTES - SUMMED_FROM));
}

int
dedupe_header_decode(const uint8_t *bytes, struct dedupe_header *ret)
{
    struct byte_reader in = {bytes + SUMMED_FROM,
                             DEDUPE_PAGE_BYTES - SUMMED_FROM, false};
    struct dedupe_header h;
    uint32_t format;

    if (memcmp(bytes, magic, sizeof magic) != 0 ||
        get_le64(bytes + 8) != sum_bytes(bytes + SUMMED_FROM,
                                         DEDUPE_PAGE_BYTES - SUMMED_FROM))
        return err_set(-EBADMSG, "not a dedupe index, or damaged");
    format = read_u32(&in);
    if (format != FORMAT)
        return err_set(-EPROTO, "a dedupe index of format %u", format);
    h.shape.block_bytes = read_u32(&in);
    read_bytes(&in, h.shape.source.b, sizeof h.shape.source.b);
    h.shape.source_bytes = read_u64(&in);
    h.shape.hash_bits = read_u32(&in);
    (void)read_u32(&in);
    h.entries = read_u64(&in);
    h.pages = read_u64(&in);
    h.fence_sum = read_u64(&in);
    h.shape.generation = read_u64(&in);
    *ret = h;
    return 0;
}
