/* format.c: the bytes of a read cache's file, and what makes its blocks count.
 *
 *    at  bytes  what                       of the header
 *     0      8  magic "LSVDRCAC"
 *     8      4  format, 1
 *    12      4  block bytes
 *    16     16  volume UUID
 *    32      8  slots
 *    40      …  zeroes
 *  4088      8  XXH3-64 of the 4088 bytes above
 *
 *    at  bytes  what                       of a page of the table
 *     0   4088  511 slots: bits 0-39 block + 1, or 0: nobody's; 40-55 tag;
 *               56-57 uses
 *  4088      8  XXH3-64 of that, seeded with the volume and the page's number
 * Integers are little-endian. */
#include "readcache/readcache.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include <string.h>

#define FORMAT 1u
#define BODY_BYTES (READCACHE_PAGE_BYTES - 8)
#define PAGE_SEED_CHUNK UINT64_MAX /* no chunk has this number */

static const uint8_t magic[8] = { 'L', 'S', 'V', 'D', 'R', 'C', 'A', 'C' };

void
readcache_header_encode(const struct readcache_header *h, uint8_t *page)
{
    memset(page, 0, READCACHE_PAGE_BYTES);
    memcpy(page, magic, sizeof magic);
    put_le32(page + 8, FORMAT);
    put_le32(page + 12, h->block_bytes);
    memcpy(page + 16, h->volume.b, sizeof h->volume.b);
    put_le64(page + 32, h->slots);
    put_le64(page + BODY_BYTES, sum_bytes(page, BODY_BYTES));
}

int
readcache_header_decode(const uint8_t *page, struct readcache_header *ret)
{
    if (memcmp(page, magic, sizeof magic) != 0 ||
        get_le64(page + BODY_BYTES) != sum_bytes(page, BODY_BYTES))
        return err_set(-EBADMSG, "not the header of a read cache");
    if (get_le32(page + 8) != FORMAT)
        return err_set(-EPROTO, "a read cache of format %u",
                       get_le32(page + 8));
    ret->block_bytes = get_le32(page + 12);
    memcpy(ret->volume.b, page + 16, sizeof ret->volume.b);
    ret->slots = get_le64(page + 32);
    return 0;
}

static uint64_t
page_sum(const struct uuid *volume, uint64_t nth, const uint8_t *page)
{
    return sum_block(sum_seed(volume, PAGE_SEED_CHUNK, nth), page,
                     BODY_BYTES);
}

void
readcache_page_seal(const struct uuid *volume, uint64_t nth, uint8_t *page)
{
    put_le64(page + BODY_BYTES, page_sum(volume, nth, page));
}

bool
readcache_page_is_sound(const struct uuid *volume, uint64_t nth,
                        const uint8_t *page)
{
    return get_le64(page + BODY_BYTES) == page_sum(volume, nth, page);
}

uint16_t
readcache_tag(uint64_t sum)
{
    return (uint16_t)(sum >> 48);
}

bool
readcache_proves(const struct readcache_block *want, const void *data,
                 uint32_t bytes)
{
    return want->sum != SUM_ZERO_BLOCK &&
           sum_block(want->seed, data, bytes) == want->sum;
}
