/* journal_format.h: the bytes of the journal's file, and the only code that
 * reads or writes them. Little endian, fixed width; reserved bytes are zero.
 *
 * File: superblock copies at 0 and 4096, the ring from 8192 on, the area for
 * bodies of REDO records behind it, superblock copies in the last 8192 bytes.
 * Records, and bodies in the area, begin at multiples of 512.
 *
 * Superblock copy, 4096 bytes:
 *    0  magic "LSVDJSB1"        8
 *    8  sum of bytes 16 … 4095  8
 *   16  version                 4   1
 *   20  block_bytes             4
 *   24  incompat, ro_compat, compat  8 each; incompat 1: there is an area
 *   48  volume, journal UUID    16 each
 *   80  counter                 8   newest wins; pair = counter % 2
 *   88  file_bytes              8
 *   96  salt                    8   in every record of this journal
 *  104  tail_at                 8   place of the first live record
 *  112  tail_chain              8   sum of the header before it
 *  120  tail_seq                8
 *  128  durable_seq             8
 *  136  redo_seq                8   older REDO records are done with; 0: no
 *                                   claim with it was complete yet
 *  144  index_limit             8   bounds what a replay may need
 *  152  slots of part_ckpt      4   PARTS_MAX
 *  156  size of the area        4   in 4096 bytes; 0 without incompat 1
 *  160  part_ckpt               8 each (20)
 *  320  host                    64  ends with a zero byte
 *  384  bytes of the view       4   then 4 reserved
 *  392  view                    (meta/view.h)
 *
 * Record header, 128 bytes, then 8 a sum, padded to 512:
 *    0  magic "LSVDJREC"        8
 *    8  sum of bytes 16 … end of the padded header  8
 *   16  salt                    8
 *   24  seq                     8
 *   32  chain                   8   sum of the header before
 *   40  durable                 8   greatest seq known durable when written
 *   48  at                      8   place of this header in the file
 *   56  type                    4   enum record_type
 *   60  header_bytes            4   with sums and padding
 *   64  first                   8   block (WRITE, ZERO); REDO_APART: place of
 *                                   the body in the file; BYPASS: chunk,
 *                                   from 0; BYPASSED: block
 *   72  count                   8   blocks (WRITE, ZERO, BYPASSED)
 *   80  payload_bytes           8   before padding; REDO_APART: of the body,
 *                                   which does not follow here
 *   88  payload_sum             8   REDO, REDO_APART: of the body; BYPASSED:
 *                                   how many sums there are beside the
 *                                   blocks'
 *   96  reserved                32 */
#ifndef LSVD_JOURNAL_JOURNAL_FORMAT_H
#define LSVD_JOURNAL_JOURNAL_FORMAT_H

#include "journal/journal.h"

#define SUPER_BYTES 4096u
#define RING_AT 8192u              /* the ring's place in the file */
#define RING_OVERHEAD_BYTES 16384u /* superblocks at both ends */
#define JOURNAL_FILE_BYTES_MIN 65536u
#define JOURNAL_UNIT_BYTES 4096u   /* of the sizes of file and area */
#define RECORD_FIXED_BYTES 128u
#define RECORD_SUMS_MAX (JOURNAL_RECORD_PAYLOAD_MAX / BLOCK_BYTES_MIN)
#define RECORD_HEADER_BYTES_MAX (512u + RECORD_SUMS_MAX * 8u)

static_assert(RECORD_HEADER_BYTES_MAX % JOURNAL_ALIGN_BYTES == 0,
              "the longest header is whole sectors");
static_assert(392 + VIEW_BYTES_MAX <= SUPER_BYTES, "a view fits");

struct record_header {
    uint64_t sum; /* of the header; set by encode and decode */
    uint64_t salt, seq, chain, durable, at;
    uint32_t type, header_bytes;
    uint64_t first, count, payload_bytes, payload_sum;
};

static inline uint64_t
round_up_512(uint64_t bytes)
{
    return (bytes + JOURNAL_ALIGN_BYTES - 1) &
           ~(uint64_t)(JOURNAL_ALIGN_BYTES - 1);
}

static inline bool
record_is_redo(const struct record_header *h)
{
    return h->type == RECORD_REDO || h->type == RECORD_REDO_APART;
}

/* Bytes of a header with this many block sums. */
static inline uint32_t
record_header_bytes(uint32_t sum_count)
{
    return (uint32_t)round_up_512(RECORD_FIXED_BYTES + 8u * sum_count);
}

/* bytes: h->header_bytes of them, zeroed but for the block sums. Writes the
 * fixed fields and the sum, which it also leaves in *h. */
void record_header_encode(struct record_header *h, uint8_t *bytes);

void record_sum_put(uint8_t *header, uint32_t i, uint64_t sum);
uint64_t record_sum_get(const uint8_t *header, uint32_t i);

/* bytes: as many as there are up to the end of the ring; at least 512. False:
 * not a header of this salt that stands where it was written. */
bool record_header_decode(const uint8_t *bytes, size_t available,
                          uint64_t salt, uint64_t at,
                          struct record_header *ret);

/* Does it look like the beginning of one of our headers at this place,
 * whatever its sum says? For telling a cut record from old bytes. */
bool record_header_begun(const uint8_t *bytes, uint64_t salt, uint64_t at,
                         uint64_t *ret_seq);

/* Place of copy 0 … 3 of the superblock: pair = copy / 2. */
uint64_t super_at(uint64_t file_bytes, unsigned copy);

#endif
