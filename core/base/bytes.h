/* bytes.h: little-endian integers in byte buffers, and cursors that cannot
 * overrun. Everything on disk is written and read through these. */
#ifndef LSVD_BASE_BYTES_H
#define LSVD_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t
get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t
get_le32(const uint8_t *p)
{
    return (uint32_t)get_le16(p) | (uint32_t)get_le16(p + 2) << 16;
}

static inline uint64_t
get_le64(const uint8_t *p)
{
    return (uint64_t)get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}

static inline void
put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void
put_le32(uint8_t *p, uint32_t v)
{
    put_le16(p, (uint16_t)v);
    put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void
put_le64(uint8_t *p, uint64_t v)
{
    put_le32(p, (uint32_t)v);
    put_le32(p + 4, (uint32_t)(v >> 32));
}

/* Reads move the cursor; past the end they return zeroes and set overrun,
 * which the caller checks once, before it uses anything it read. */
struct byte_reader {
    const uint8_t *at;
    size_t left;
    bool overrun;
};

static inline const uint8_t *
read_skip(struct byte_reader *in, size_t bytes)
{
    const uint8_t *at = in->at;

    if (bytes > in->left) {
        in->overrun = true;
        in->left = 0;
        return NULL;
    }
    in->at += bytes;
    in->left -= bytes;
    return at;
}

static inline uint8_t
read_u8(struct byte_reader *in)
{
    const uint8_t *p = read_skip(in, 1);
    return p ? *p : 0;
}

static inline uint16_t
read_u16(struct byte_reader *in)
{
    const uint8_t *p = read_skip(in, 2);
    return p ? get_le16(p) : 0;
}

static inline uint32_t
read_u32(struct byte_reader *in)
{
    const uint8_t *p = read_skip(in, 4);
    return p ? get_le32(p) : 0;
}

static inline uint64_t
read_u64(struct byte_reader *in)
{
    const uint8_t *p = read_skip(in, 8);
    return p ? get_le64(p) : 0;
}

static inline void
read_bytes(struct byte_reader *in, void *to, size_t bytes)
{
    const uint8_t *p = read_skip(in, bytes);

    if (p)
        memcpy(to, p, bytes);
    else
        memset(to, 0, bytes);
}

/* Writes move the cursor; a write that does not fit sets overrun and writes
 * nothing. */
struct byte_writer {
    uint8_t *at;
    size_t left;
    bool overrun;
};

static inline void
write_bytes(struct byte_writer *out, const void *from, size_t bytes)
{
    if (bytes > out->left) {
        out->overrun = true;
        out->left = 0;
        return;
    }
    memcpy(out->at, from, bytes);
    out->at += bytes;
    out->left -= bytes;
}

static inline void
write_u8(struct byte_writer *out, uint8_t v)
{
    write_bytes(out, &v, 1);
}

static inline void
write_u16(struct byte_writer *out, uint16_t v)
{
    uint8_t b[2];

    put_le16(b, v);
    write_bytes(out, b, sizeof b);
}

static inline void
write_u32(struct byte_writer *out, uint32_t v)
{
    uint8_t b[4];

    put_le32(b, v);
    write_bytes(out, b, sizeof b);
}

static inline void
write_u64(struct byte_writer *out, uint64_t v)
{
    uint8_t b[8];

    put_le64(b, v);
    write_bytes(out, b, sizeof b);
}

#endif
