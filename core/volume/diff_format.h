/* diff_format.h: the stream of lsvd_export_diff; docs/format.md has its bytes.
 *
 * A header, records, an end. Each is judged when it comes, before anything is
 * done with it:
 * (DF1) each record has a sum over itself and the sum of the one before, and
 *       so over all that came before it: nothing can be left out, put in, or
 *       be in another order;
 * (DF2) data has a sum of its own, which the record tells, so DF1 covers it;
 * (DF3) the end record tells how much there was: a stream that is cut has
 *       none. */
#ifndef LSVD_VOLUME_DIFF_FORMAT_H
#define LSVD_VOLUME_DIFF_FORMAT_H

#include "base/limits.h"
#include "base/uuid.h"
#include <stddef.h>
#include <stdint.h>

#define DIFF_HEADER_BYTES 256u
#define DIFF_RECORD_BYTES 40u
#define DIFF_DATA_MAX (1u << 20) /* bytes of one record */

/* What a stream leads from, and to. */
struct diff_header {
    uint64_t size_bytes;  /* of TO */
    uint32_t block_bytes; /* the same */
    struct uuid from_uuid; /* zero: it is all that TO holds */
    struct uuid to_uuid;
    char from[VOLUME_NAME_BYTES_MAX + 1]; /* a snapshot's; "": none */
    char to[VOLUME_NAME_BYTES_MAX + 1];   /* a snapshot's, or a volume's */
};

enum diff_type { DIFF_DATA = 1, DIFF_ZERO = 2, DIFF_END = 3 };

struct diff_record {
    enum diff_type type;
    uint64_t offset;   /* bytes of the volume, ascending; 0 of the end */
    uint64_t count;    /* of data: 1 … DIFF_DATA_MAX; 0 of the end */
    uint64_t data_sum; /* of data: sum_bytes of what follows */
};

/* How far a stream is; written and read alike. */
struct diff_stream {
    uint64_t sum;        /* of all until now (DF1) */
    uint64_t size_bytes; /* as the header says */
    uint64_t end;        /* of the last record, bytes of the volume */
    uint64_t records, data_bytes, zero_bytes;
};

/* They begin it. -EBADMSG: damaged, or no such stream; -EPROTO: of a later
 * version. *ret and *s are filled on success. */
void diff_header_encode(const struct diff_header *h, struct diff_stream *s,
                        uint8_t to[DIFF_HEADER_BYTES]);
int diff_header_decode(const uint8_t from[DIFF_HEADER_BYTES],
                       struct diff_header *ret, struct diff_stream *s);

/* The next one. -EBADMSG as above, also if it is out of order or does not lie
 * within the volume, or if it is the end and does not tell of what there was.
 */
void diff_record_encode(const struct diff_record *record,
                        struct diff_stream *s, uint8_t to[DIFF_RECORD_BYTES]);
int diff_record_decode(const uint8_t from[DIFF_RECORD_BYTES],
                       struct diff_stream *s, struct diff_record *ret);

#endif
