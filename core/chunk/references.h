/* references.h: where blocks of one chunk that have no bytes of their own lie:
 * the reference file of the chunk, "<chunk>.refs" beside its chunk file.
 *
 *   at           size
 *     0             8  magic "LSVDrefs"
 *     8             8  XXH3-64 of all that follows, from 16 to the end
 *    16             4  format, 1
 *    20             4  bytes of the header, 128
 *    24             8  incompatible features
 *    32             8  read-only-compatible features
 *    40             8  compatible features
 *    48            16  volume UUID
 *    64             8  chunk number, from 1
 *    72             4  block size in bytes
 *    76             4  chunk size in bytes
 *    80             8  sequence: the greater is the newer
 *    88            40  zero
 *   128    10 x blocks  references: volume number u16, chunk u32, byte position
 *                      in that chunk u32; all zero: none
 *     …     8 x blocks  the sum of each block's bytes, seeded as that of a
 *                      block that is written there (sum.h); 0: none
 *
 * (RE1) It is the same on every part, byte by byte: whichever can be read will
 *       do, and may be copied to where it is missing.
 * (RE2) A reference counts only if the block's cell says that it is one
 *       (SUM_REFERENCE). Others may stand in the file before their cells say
 *       so, and after.
 * (RE3) What is found at the place that a reference names is the block's
 *       content only if it has the sum.
 * A struct references is not changed while others read it. */
#ifndef LSVD_CHUNK_REFERENCES_H
#define LSVD_CHUNK_REFERENCES_H

#include "base/uuid.h"
#include "chunk/geometry.h"
#include "target/target.h"

#define REFERENCE_BYTES 10u
#define REFERENCES_HEADER_BYTES 128u
#define REFERENCES_NAME_BYTES 32

struct reference {
    uint32_t volume; /* number; 0: none, and the rest means nothing */
    uint32_t chunk;  /* of that volume, from 1 */
    uint32_t at;     /* bytes from the beginning of that chunk */
    uint64_t sum;    /* RE3 */
};

struct references {
    struct uuid volume;
    uint64_t chunk, seq;
    uint32_t count;             /* blocks a chunk */
    uint32_t block_bytes, chunk_bytes;
    struct reference *block;    /* count of them */
};

/* "17.refs" */
void references_name(uint64_t chunk, char name[REFERENCES_NAME_BYTES]);
/* The chunk that a name means, or 0. */
uint64_t references_chunk_of(const char *name);

/* With no reference in it. */
int references_new(const struct geometry *g, const struct uuid *volume,
                   uint64_t chunk, struct references **ret);
int references_copy(const struct references *from, struct references **ret);
void references_free(struct references *r); /* NULL is fine */

/* Of a file. */
uint64_t references_file_bytes(const struct geometry *g);

size_t references_memory(const struct references *r);
bool reference_equal(const struct reference *a, const struct reference *b);
bool references_equal(const struct references *a, const struct references *b);

/* -ENOENT: no file. -EBADMSG: damaged, or of another volume or chunk; -EPROTO:
 * of the future. */
int references_load(struct target *part, const struct geometry *g,
                    const struct uuid *volume, uint64_t chunk,
                    struct references **ret);

/* Durably, in place of what was there. */
int references_store(struct target *part, const struct references *r);

/* The bytes of the file; for tests and the fuzzer. *ret is malloc'ed. */
int references_encode(const struct references *r, uint8_t **ret,
                      size_t *ret_bytes);
/* Any bytes. -EBADMSG, -EPROTO. */
int references_decode(const uint8_t *bytes, size_t count,
                      struct references **ret);

#endif
