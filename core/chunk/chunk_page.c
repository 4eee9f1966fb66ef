/* chunk_page.c: see chunk_page.h. */
#include "chunk/chunk_page.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/sum.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define SUM_AT 24u
#define HEADER_BYTES 32u
#define ENTRY_BYTES 16u

static_assert(HEADER_BYTES + CHUNK_PAGE_ENTRIES * ENTRY_BYTES
                  == CHUNK_PAGE_BYTES,
              "a page is full");

static const uint8_t magic[8] = {'L', 'S', 'V', 'D', 'c', 't', 'a', 'b'};

static uint64_t
page_sum(const struct uuid *instance, uint64_t page, const uint8_t *bytes)
{
    uint64_t seed = sum_seed(instance, page, UINT64_MAX);

    seed = sum_block(seed, bytes, SUM_AT);
    return sum_block(seed, bytes + HEADER_BYTES,
                     CHUNK_PAGE_BYTES - HEADER_BYTES);
}

void
chunk_page_seal(const struct uuid *instance, uint64_t page,
                uint64_t generation, uint8_t *bytes)
{
    struct byte_writer out = {bytes, SUM_AT, false};

    assert(page <= UINT32_MAX);
    write_bytes(&out, magic, sizeof magic);
    write_u32(&out, (uint32_t)page);
    write_u32(&out, FORMAT_VERSION);
    write_u64(&out, generation);
    assert(!out.overrun);
    assert(out.left == 0);
    put_le64(bytes + SUM_AT, page_sum(instance, page, bytes));
}

static bool
entries_are_legal(const uint8_t *bytes)
{
    for (uint32_t i = 0; i < CHUNK_PAGE_ENTRIES; i++)
        if (chunk_page_get(bytes, i).state > CHUNK_BAD)
            return false;
    return true;
}

int
chunk_page_judge(const struct uuid *instance, uint64_t page,
                 const uint8_t *bytes, uint64_t *ret_generation)
{
    uint64_t generation;
    uint32_t format;

    if (sum_all_zero(bytes, CHUNK_PAGE_BYTES))
        return -ENOENT;
    if (memcmp(bytes, magic, sizeof magic) != 0
        || get_le64(bytes + SUM_AT) != page_sum(instance, page, bytes))
        return err_set(-EBADMSG, "chunk table page %" PRIu64 " is damaged",
                       page);
    if (get_le32(bytes + 8) != page)
        return err_set(-EBADMSG,
                       "chunk table page %" PRIu64 " names page %" PRIu32,
                       page, get_le32(bytes + 8));
    format = get_le32(bytes + 12);
    if (format > FORMAT_VERSION)
        return err_set(-EPROTO,
                       "chunk table has format %" PRIu32
                       ", this version knows %d",
                       format, FORMAT_VERSION);
    generation = get_le64(bytes + 16);
    if (format < 1 || generation < 1 || generation > CHUNK_GENERATION_MAX
        || !entries_are_legal(bytes))
        return err_set(-EBADMSG,
                       "chunk table page %" PRIu64 " has illegal values",
                       page);
    *ret_generation = generation;
    return 0;
}

/* The greatest number up to seq with this lower half; 0: none, or none is
 * meant. */
static uint64_t
references_seq_of(uint64_t seq, uint32_t low)
{
    uint32_t less = (uint32_t)seq - low;

    return low == 0 || less > seq ? 0 : seq - less;
}

struct chunk_entry
chunk_page_get(const uint8_t *bytes, uint32_t i)
{
    const uint8_t *p = bytes + HEADER_BYTES + i * ENTRY_BYTES;
    struct chunk_entry entry;

    assert(i < CHUNK_PAGE_ENTRIES);
    entry.seq = get_le64(p);
    entry.state = get_le32(p + 8);
    entry.references_seq = references_seq_of(entry.seq, get_le32(p + 12));
    return entry;
}

void
chunk_page_set(uint8_t *bytes, uint32_t i, struct chunk_entry entry)
{
    uint8_t *p = bytes + HEADER_BYTES + i * ENTRY_BYTES;
    uint32_t low = (uint32_t)entry.references_seq;

    assert(i < CHUNK_PAGE_ENTRIES);
    assert(entry.state <= CHUNK_BAD);
    if (references_seq_of(entry.seq, low) != entry.references_seq)
        low = 0;
    put_le64(p, entry.seq);
    put_le32(p + 8, entry.state);
    put_le32(p + 12, low);
}
