/* references.c: see references.h. */
#include "chunk/references.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUM_AT 8u
#define SUMMED_FROM 16u
#define FORMAT 1u
#define SUFFIX ".refs"

static const uint8_t magic[8] = {'L', 'S', 'V', 'D', 'r', 'e', 'f', 's'};

void
references_name(uint64_t chunk, char name[REFERENCES_NAME_BYTES])
{
    snprintf(name, REFERENCES_NAME_BYTES, "%" PRIu64 SUFFIX, chunk);
}

uint64_t
references_chunk_of(const char *name)
{
    char canonical[REFERENCES_NAME_BYTES];
    uint64_t chunk;

    if (!isdigit((unsigned char)name[0]))
        return 0;
    errno = 0;
    chunk = strtoull(name, NULL, 10);
    if (errno || chunk > CHUNK_COUNT_MAX)
        return 0;
    references_name(chunk, canonical);
    return strcmp(canonical, name) == 0 ? chunk : 0;
}

static size_t
file_bytes(uint32_t count)
{
    return REFERENCES_HEADER_BYTES +
           (size_t)count * (REFERENCE_BYTES + sizeof(uint64_t));
}

uint64_t
references_file_bytes(const struct geometry *g)
{
    return file_bytes(g->chunk_blocks);
}

static int
new_table(uint32_t count, struct references **ret)
{
    struct references *r;
    int e = mem_new(1, sizeof *r, &r);

    if (e < 0)
        return e;
    e = mem_new(count, sizeof r->block[0], &r->block);
    if (e < 0) {
        free(r);
        return e;
    }
    r->count = count;
    *ret = r;
    return 0;
}

int
references_new(const struct geometry *g, const struct uuid *volume,
               uint64_t chunk, struct references **ret)
{
    int r = new_table(g->chunk_blocks, ret);

    if (r < 0)
        return r;
    (*ret)->volume = *volume;
    (*ret)->chunk = chunk;
    (*ret)->block_bytes = g->block_bytes;
    (*ret)->chunk_bytes = g->chunk_bytes;
    return 0;
}

int
references_copy(const struct references *from, struct references **ret)
{
    struct references *copy;
    struct reference *block;
    int r = new_table(from->count, &copy);

    if (r < 0)
        return r;
    block = copy->block;
    *copy = *from;
    copy->block = block;
    memcpy(block, from->block, from->count * sizeof block[0]);
    *ret = copy;
    return 0;
}

void
references_free(struct references *r)
{
    if (r)
        free(r->block);
    free(r);
}

size_t
references_memory(const struct references *r)
{
    return sizeof *r + r->count * sizeof r->block[0];
}

bool
reference_equal(const struct reference *a, const struct reference *b)
{
    return a->volume == b->volume && a->chunk == b->chunk && a->at == b->at &&
           a->sum == b->sum;
}

bool
references_equal(const struct references *a, const struct references *b)
{
    bool same = a->count == b->count && a->chunk == b->chunk &&
                a->seq == b->seq && uuid_equal(&a->volume, &b->volume);

    for (uint32_t i = 0; same && i < a->count; i++)
        same = reference_equal(&a->block[i], &b->block[i]);
    return same;
}

/* ---- bytes ---- */

static void
put_block(struct byte_writer *out, const struct reference *b)
{
    write_u16(out, (uint16_t)b->volume);
    write_u32(out, b->volume ? b->chunk : 0);
    write_u32(out, b->volume ? b->at : 0);
}

int
references_encode(const struct references *r, uint8_t **ret, size_t *ret_bytes)
{
    size_t size = file_bytes(r->count);
    struct byte_writer out;
    uint8_t *bytes;
    int e = mem_new(size, 1, &bytes);

    if (e < 0)
        return e;
    out = (struct byte_writer){bytes, size, false};
    write_bytes(&out, magic, sizeof magic);
    write_u64(&out, 0); /* the sum, below */
    write_u32(&out, FORMAT);
    write_u32(&out, REFERENCES_HEADER_BYTES);
    write_u64(&out, 0); /* incompat, ro_compat, compat */
    write_u64(&out, 0);
    write_u64(&out, 0);
    write_bytes(&out, r->volume.b, sizeof r->volume.b);
    write_u64(&out, r->chunk);
    write_u32(&out, r->block_bytes);
    write_u32(&out, r->chunk_bytes);
    write_u64(&out, r->seq);
    out = (struct byte_writer){bytes + REFERENCES_HEADER_BYTES,
                               size - REFERENCES_HEADER_BYTES, false};
    for (uint32_t i = 0; i < r->count; i++)
        put_block(&out, &r->block[i]);
    for (uint32_t i = 0; i < r->count; i++)
        write_u64(&out, r->block[i].volume ? r->block[i].sum : 0);
    assert(!out.overrun && out.left == 0);
    put_le64(bytes + SUM_AT, sum_bytes(bytes + SUMMED_FROM,
                                       size - SUMMED_FROM));
    *ret = bytes;
    *ret_bytes = size;
    return 0;
}

/* Only possible values, of which is room for the blocks in `count` bytes. */
static int
judge_header(const struct references *h, uint32_t header_bytes, size_t count)
{
    if (header_bytes != REFERENCES_HEADER_BYTES || h->chunk < 1 ||
        h->chunk > CHUNK_COUNT_MAX || h->block_bytes < BLOCK_BYTES_MIN ||
        h->block_bytes > BLOCK_BYTES_MAX ||
        (h->block_bytes & (h->block_bytes - 1)) != 0 ||
        h->chunk_bytes < CHUNK_BYTES_MIN || h->chunk_bytes > CHUNK_BYTES_MAX ||
        h->chunk_bytes % h->block_bytes != 0 ||
        count != file_bytes(h->chunk_bytes / h->block_bytes))
        return err_set(-EBADMSG, "the reference file has impossible fields");
    return 0;
}

static int
decode_header(struct byte_reader *in, size_t count, struct references *ret)
{
    uint32_t format, header_bytes;
    uint64_t incompat;

    format = read_u32(in);
    header_bytes = read_u32(in);
    incompat = read_u64(in);
    (void)read_u64(in); /* ro_compat, compat: nothing is known of them yet */
    (void)read_u64(in);
    if (format > FORMAT || incompat != 0)
        return err_set(-EPROTO, "the reference file has format %" PRIu32
                       ", features %#" PRIx64 ": it needs a newer lsvd",
                       format, incompat);
    read_bytes(in, ret->volume.b, sizeof ret->volume.b);
    ret->chunk = read_u64(in);
    ret->block_bytes = read_u32(in);
    ret->chunk_bytes = read_u32(in);
    ret->seq = read_u64(in);
    return judge_header(ret, header_bytes, count);
}

static int
check_block(const struct reference *b, uint32_t block_bytes)
{
    bool is_none = b->volume == 0 && b->chunk == 0 && b->at == 0 &&
                   b->sum == 0;

    if (is_none || (b->volume >= VOLUME_NUMBER_FIRST && b->chunk >= 1 &&
                    b->at % block_bytes == 0 && b->at < CHUNK_BYTES_MAX &&
                    sum_has_bytes(b->sum)))
        return 0;
    return err_set(-EBADMSG, "the reference file has an impossible reference");
}

int
references_decode(const uint8_t *bytes, size_t count, struct references **ret)
{
    struct byte_reader in = {bytes + SUMMED_FROM, 0, false}, sums;
    struct references h = {.count = 0}, *found = NULL;
    int r;

    if (count < REFERENCES_HEADER_BYTES ||
        memcmp(bytes, magic, sizeof magic) != 0)
        return err_set(-EBADMSG, "not a reference file");
    if (get_le64(bytes + SUM_AT) != sum_bytes(bytes + SUMMED_FROM,
                                              count - SUMMED_FROM))
        return err_set(-EBADMSG, "the reference file is damaged (checksum)");
    in.left = count - SUMMED_FROM;
    r = decode_header(&in, count, &h);
    if (r == 0)
        r = new_table(h.chunk_bytes / h.block_bytes, &found);
    if (r < 0)
        return r;
    h.count = found->count;
    h.block = found->block;
    *found = h;
    in = (struct byte_reader){bytes + REFERENCES_HEADER_BYTES,
                              count - REFERENCES_HEADER_BYTES, false};
    sums = in;
    (void)read_skip(&sums, (size_t)h.count * REFERENCE_BYTES);
    for (uint32_t i = 0; i < h.count && r == 0; i++) {
        struct reference *b = &found->block[i];

        b->volume = read_u16(&in);
        b->chunk = read_u32(&in);
        b->at = read_u32(&in);
        b->sum = read_u64(&sums);
        r = check_block(b, h.block_bytes);
    }
    if (r < 0)
        references_free(found);
    else
        *ret = found;
    return r;
}

/* ---- files ---- */

int
references_load(struct target *part, const struct geometry *g,
                const struct uuid *volume, uint64_t chunk,
                struct references **ret)
{
    AUTO_FREE uint8_t *bytes = NULL;
    char name[REFERENCES_NAME_BYTES];
    struct references *found;
    size_t count;
    int r;

    references_name(chunk, name);
    r = target_load(part, name, file_bytes(g->chunk_blocks), &bytes, &count);
    if (r < 0)
        return r;
    r = references_decode(bytes, count, &found);
    if (r < 0)
        return err_wrap(r, "%s/%s", part->path, name);
    if (!uuid_equal(&found->volume, volume) || found->chunk != chunk ||
        found->block_bytes != g->block_bytes ||
        found->chunk_bytes != g->chunk_bytes) {
        references_free(found);
        return err_set(-EBADMSG, "%s/%s is of another volume or chunk",
                       part->path, name);
    }
    *ret = found;
    return 0;
}

int
references_store(struct target *part, const struct references *r)
{
    AUTO_FREE uint8_t *bytes = NULL;
    char name[REFERENCES_NAME_BYTES];
    size_t count;
    int e = references_encode(r, &bytes, &count);

    if (e < 0)
        return e;
    references_name(r->chunk, name);
    return target_store(part, name, bytes, count);
}
