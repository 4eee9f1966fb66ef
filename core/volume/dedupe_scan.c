/* dedupe_scan.c: one chunk: which of its blocks are equal to a source's, and
 * what that would give back. */
#include "base/err.h"
#include "base/sum.h"
#include "volume/bypass.h"
#include "volume/dedupe.h"
#include "volume/parent.h"
#include <string.h>

#define PAGE_BYTES 4096u /* what a file system gives back, at least */

struct look {
    struct dedupe *d;
    uint64_t first;
};

static int
note_own(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    struct look *look = ctx;

    memset(look->d->is + (first - look->first), (int)is, count);
    return 0;
}

static void
propose(struct dedupe *d, uint32_t nth, uint64_t block, struct reference *ret)
{
    const struct geometry *g = &d->source[nth].volume->g;

    *ret = (struct reference){
        .volume = d->source[nth].volume->meta.number,
        .chunk = (uint32_t)geometry_chunk_of(g, block),
        .at = geometry_block_in_chunk(g, block) * g->block_bytes,
    };
}

/* The first source whose index has the block. */
static int
look_up(struct dedupe *d, const uint8_t *bytes, struct reference *ret)
{
    ret->volume = 0;
    for (uint32_t i = 0; i < d->source_count; i++) {
        const struct lsvd_volume *source = d->source[i].volume;
        struct dedupe_shape shape = {
            .block_bytes = source->g.block_bytes,
            .hash_bits = d->spec->hash_bits ? d->spec->hash_bits
                                            : DEDUPE_HASH_BITS_MAX,
        };
        struct dedupe_hash hash = dedupe_hash_of(&shape, bytes);
        uint64_t block;
        int r = dedupe_index_find(d->source[i].index, &hash, &block);

        if (r < 0)
            return r;
        if (r == 0 || block >= geometry_block_count(&source->g))
            continue;
        propose(d, i, block, ret);
        return 0;
    }
    return 0;
}

/* Read as refer_read does, but of a source that may not be one yet. */
static int
read_proposed(struct dedupe *d, const struct reference *ref, uint32_t count)
{
    for (uint32_t i = 0; i < d->source_count; i++) {
        struct lsvd_volume *source = d->source[i].volume;

        if (source->meta.number == ref->volume)
            return volume_fetch_leased(
                source, refer_block(&source->g, ref), count, d->other);
    }
    return err_set(-EIO, "volume %u is no source", ref->volume);
}

/* DD1: those that differ are not wanted. */
static int
compare(struct dedupe *d, uint32_t at, uint32_t count)
{
    struct reference *want = d->want->block + at;
    size_t bytes = d->v->g.block_bytes;
    int r = 0;

    for (uint32_t i = 0, run; i < count && r == 0; i += run) {
        run = 1;
        if (want[i].volume == 0)
            continue;
        while (i + run < count &&
               refer_follows(&d->v->g, &want[i + run - 1], &want[i + run]))
            run++;
        r = read_proposed(d, &want[i], run);
        for (uint32_t n = 0; n < run && r == 0; n++) {
            if (memcmp(d->own + (i + n) * bytes, d->other + n * bytes,
                       bytes) == 0) {
                d->gone[at + i + n] = true;
                d->matched++;
            } else {
                want[i + n].volume = 0;
                d->report->blocks_collided++;
            }
        }
    }
    return r;
}

static int
scan_run(struct dedupe *d, uint64_t first, uint32_t at, uint32_t count)
{
    size_t bytes = d->v->g.block_bytes;
    int r = volume_fetch(d->v, first + at, count, d->own);

    for (uint32_t i = 0; i < count && r == 0; i++) {
        const uint8_t *own = d->own + i * bytes;

        d->report->blocks_scanned++;
        d->report->bytes_scanned += bytes;
        if (!sum_all_zero(own, bytes)) {
            r = look_up(d, own, &d->want->block[at + i]);
            continue;
        }
        d->gone[at + i] = true;
        d->zero++;
    }
    return r == 0 ? compare(d, at, count) : r;
}

/* Runs of data, in pieces that are leased each for itself. */
static int
scan_piece(struct dedupe *d, uint64_t first, uint32_t at, uint32_t count)
{
    struct look look = {d, first};
    struct lease lease;
    int r;

    lease_get(&d->v->leases, &lease, first + at, first + at + count, false);
    r = volume_own(d->v, first + at, count, note_own, &look);
    for (uint32_t i = at, run; i < at + count && r == 0; i += run) {
        run = 1;
        if (d->is[i] != OWN_DATA)
            continue;
        while (i + run < at + count && d->is[i + run] == OWN_DATA)
            run++;
        r = scan_run(d, first, i, run);
    }
    lease_put(&d->v->leases, &lease);
    return r;
}

int
dedupe_scan(struct dedupe *d, uint64_t chunk)
{
    uint64_t first = geometry_first_block(&d->v->g, chunk);
    uint32_t count = geometry_blocks_in(&d->v->g, chunk);
    int r = 0;

    d->matched = d->zero = 0;
    memset(d->gone, 0, d->v->g.chunk_blocks * sizeof *d->gone);
    memset(d->is, OWN_ABSENT, d->v->g.chunk_blocks);
    memset(d->want->block, 0,
           d->want->count * sizeof d->want->block[0]);
    for (uint32_t at = 0; at < count && r == 0; at += DEDUPE_RUN_BLOCKS)
        r = scan_piece(d, first, at,
                       count - at < DEDUPE_RUN_BLOCKS ? count - at
                                                      : DEDUPE_RUN_BLOCKS);
    return r;
}

/* ---- what it gives back ---- */

static bool
has_bytes(const struct dedupe *d, uint32_t block, bool after)
{
    return d->is[block] == OWN_DATA && !(after && d->gone[block]);
}

/* Has the cell of a fragment bytes, before or after? That of parity has, if any
 * of its row has. */
static bool
cell_has_bytes(const struct dedupe *d, uint32_t slot, uint32_t row, bool after)
{
    const struct geometry *g = &d->v->g;
    bool parity = geometry_is_parity(g, slot);
    uint32_t first = parity ? 0 : slot, end = parity ? g->data_count
                                                     : slot + 1;

    for (uint32_t i = first; i < end; i++) {
        uint32_t block = g->is_ec ? geometry_block_of(g, i, row) : row;

        if (block != UINT32_MAX && block < g->chunk_blocks &&
            has_bytes(d, block, after))
            return true;
    }
    return false;
}

/* Pages of a fragment's file that are had now, and not then. */
static uint64_t
estimate_fragment(const struct dedupe *d, uint32_t slot)
{
    const struct geometry *g = &d->v->g;
    uint32_t rows = g->block_bytes < PAGE_BYTES ? PAGE_BYTES / g->block_bytes
                                                : 1;
    uint64_t bytes = 0;

    for (uint32_t row = 0; row < g->rows; row += rows) {
        bool before = false, after = false;

        for (uint32_t i = row; i < row + rows && i < g->rows; i++) {
            before = before || cell_has_bytes(d, slot, i, false);
            after = after || cell_has_bytes(d, slot, i, true);
        }
        if (before && !after)
            bytes += (uint64_t)rows * g->block_bytes;
    }
    return bytes;
}

uint64_t
dedupe_estimate(struct dedupe *d, uint64_t chunk)
{
    const struct geometry *g = &d->v->g;
    bool had = memchr(d->is, OWN_REFERENCE, g->chunk_blocks) != NULL;
    uint64_t file = (references_file_bytes(g) + PAGE_BYTES - 1) / PAGE_BYTES *
                    PAGE_BYTES;
    uint64_t bytes = 0, cost = d->matched > 0 && !had ? file : 0;

    (void)chunk;
    for (uint32_t i = 0; i < g->part_count; i++)
        bytes += estimate_fragment(d, g->is_ec ? i : 0);
    cost *= g->part_count;
    return bytes > cost ? bytes - cost : 0;
}

/* ---- zeroes ---- */

static int
punch_run(struct dedupe *d, uint64_t first, uint32_t count)
{
    struct lsvd_volume *v = d->v;
    struct lease lease;
    int r = 0;

    space_throttle(v, count);
    lease_get(&v->leases, &lease, first, first + count, true);
    if (!bypass_has(v, first, count))
        r = volume_fetch(v, first, count, d->own);
    else
        count = 0;
    /* others may have been written since */
    if (r == 0 && count > 0 &&
        sum_all_zero(d->own, (size_t)count * v->g.block_bytes)) {
        r = volume_zero_blocks(v, first, count);
        d->report->blocks_zero += r == 0 ? count : 0;
    }
    lease_put(&v->leases, &lease);
    return r;
}

int
dedupe_punch(struct dedupe *d, uint64_t chunk)
{
    uint64_t first = geometry_first_block(&d->v->g, chunk);
    uint32_t count = geometry_blocks_in(&d->v->g, chunk);
    int r = 0;

    for (uint32_t at = 0, run; at < count && r == 0; at += run) {
        run = 1;
        if (!d->gone[at] || d->want->block[at].volume != 0)
            continue;
        while (at + run < count && run < DEDUPE_RUN_BLOCKS &&
               d->gone[at + run] && d->want->block[at + run].volume == 0)
            run++;
        r = punch_run(d, first + at, run);
    }
    return r;
}
