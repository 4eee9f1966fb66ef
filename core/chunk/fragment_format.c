/* fragment_format.c: the header of a fragment file, and nothing else.
 *
 *   at   size
 *     0     8  magic "LSVDfrag"
 *     8     4  format, 1
 *    12     4  bytes of the header that the sum covers, 512 (the sum included)
 *    16     8  incompatible features
 *    24     8  read-only-compatible features
 *    32     8  compatible features
 *    40    16  volume UUID
 *    56    16  instance UUID of the part
 *    72     8  chunk number, from 1
 *    80     4  fragment = slot of the part
 *    84     4  block size in bytes
 *    88     4  chunk size in bytes
 *    92     4  K, data fragments; 1 for replicas
 *    96     4  M, parity fragments; 0 for replicas
 *   100     4  zero
 *   104     8  sequence of the last destage that touched the chunk
 *   112     8  XXH3-64 of the whole table region
 *   120   384  zero
 *   504     8  XXH3-64 of bytes 0 … 503
 *   512  3584  zero
 * All of it within one 512-byte sector, which a medium writes whole (C3). The
 * sum's place is the same in every format, so that a damaged header is never
 * taken for one of the future. */
#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include "chunk/fragment.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define HEADER_SUM_AT 504u
#define HEADER_SUMMED_BYTES 512u

/* No feature bits exist yet. */
#define INCOMPAT_KNOWN UINT64_C(0)

static const uint8_t magic[8] = {'L', 'S', 'V', 'D', 'f', 'r', 'a', 'g'};

void
fragment_header_encode(const struct fragment_header *h, uint8_t *bytes)
{
    struct byte_writer out = {bytes, HEADER_SUM_AT, false};

    memset(bytes, 0, FRAGMENT_HEADER_BYTES);
    write_bytes(&out, magic, sizeof magic);
    write_u32(&out, FORMAT_VERSION);
    write_u32(&out, HEADER_SUMMED_BYTES);
    write_u64(&out, h->incompat);
    write_u64(&out, h->ro_compat);
    write_u64(&out, h->compat);
    write_bytes(&out, h->id.volume.b, sizeof h->id.volume.b);
    write_bytes(&out, h->id.instance.b, sizeof h->id.instance.b);
    write_u64(&out, h->id.chunk);
    write_u32(&out, h->id.fragment);
    write_u32(&out, h->block_bytes);
    write_u32(&out, h->chunk_bytes);
    write_u32(&out, h->data_count);
    write_u32(&out, h->parity_count);
    write_u32(&out, 0);
    write_u64(&out, h->seq);
    write_u64(&out, h->table_sum);
    assert(!out.overrun);
    put_le64(bytes + HEADER_SUM_AT, sum_bytes(bytes, HEADER_SUM_AT));
}

static int
judge_values(const struct fragment_header *h)
{
    bool is_ec = h->parity_count > 0;

    if (h->id.chunk < 1 || h->id.chunk > CHUNK_COUNT_MAX)
        return err_set(-EBADMSG, "chunk header names chunk %" PRIu64,
                       h->id.chunk);
    if (h->block_bytes < BLOCK_BYTES_MIN || h->block_bytes > BLOCK_BYTES_MAX
        || (h->block_bytes & (h->block_bytes - 1)) != 0)
        return err_set(-EBADMSG, "chunk header has a block size of %" PRIu32,
                       h->block_bytes);
    if (h->chunk_bytes < CHUNK_BYTES_MIN || h->chunk_bytes > CHUNK_BYTES_MAX
        || h->chunk_bytes % h->block_bytes != 0)
        return err_set(-EBADMSG, "chunk header has a chunk size of %" PRIu32,
                       h->chunk_bytes);
    if (h->parity_count > EC_PARITY_MAX
        || (is_ec
            && (h->data_count < EC_DATA_MIN || h->data_count > EC_DATA_MAX))
        || (!is_ec && h->data_count != 1))
        return err_set(-EBADMSG,
                       "chunk header has %" PRIu32 " data and %" PRIu32
                       " parity fragments",
                       h->data_count, h->parity_count);
    if (h->id.fragment
        >= (is_ec ? h->data_count + h->parity_count : REPLICAS_MAX))
        return err_set(-EBADMSG, "chunk header names fragment %" PRIu32,
                       h->id.fragment);
    return 0;
}

int
fragment_header_decode(const uint8_t *bytes, struct fragment_header *ret)
{
    struct byte_reader in = {bytes, HEADER_SUM_AT, false};
    struct fragment_header h;
    uint32_t format, summed_bytes;
    int r;

    if (sum_all_zero(bytes, HEADER_SUMMED_BYTES))
        return err_set(-EBADMSG, "chunk header was never written");
    if (memcmp(read_skip(&in, sizeof magic), magic, sizeof magic) != 0)
        return err_set(-EBADMSG, "not a chunk file (no header)");
    if (get_le64(bytes + HEADER_SUM_AT) != sum_bytes(bytes, HEADER_SUM_AT))
        return err_set(-EBADMSG, "chunk header is damaged (checksum)");
    format = read_u32(&in);
    summed_bytes = read_u32(&in);
    if (format > FORMAT_VERSION)
        return err_set(-EPROTO,
                       "chunk header has format %" PRIu32
                       ", this version knows %d",
                       format, FORMAT_VERSION);
    if (format < 1 || summed_bytes != HEADER_SUMMED_BYTES)
        return err_set(-EBADMSG, "chunk header has format %" PRIu32
                       " with %" PRIu32 " bytes", format, summed_bytes);
    h.incompat = read_u64(&in);
    h.ro_compat = read_u64(&in);
    h.compat = read_u64(&in);
    read_bytes(&in, h.id.volume.b, sizeof h.id.volume.b);
    read_bytes(&in, h.id.instance.b, sizeof h.id.instance.b);
    h.id.chunk = read_u64(&in);
    h.id.fragment = read_u32(&in);
    h.block_bytes = read_u32(&in);
    h.chunk_bytes = read_u32(&in);
    h.data_count = read_u32(&in);
    h.parity_count = read_u32(&in);
    (void)read_u32(&in);
    h.seq = read_u64(&in);
    h.table_sum = read_u64(&in);
    assert(!in.overrun);
    if ((h.incompat & ~INCOMPAT_KNOWN) != 0)
        return err_set(-EPROTO,
                       "chunk header needs features %#" PRIx64
                       " that this version does not know",
                       h.incompat);
    r = judge_values(&h);
    if (r < 0)
        return r;
    *ret = h;
    return 0;
}
