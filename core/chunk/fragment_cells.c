/* fragment_cells.c: the data of a fragment: read and verify, write, punch.
 *
 * Neighbouring cells that are stored are moved in one call. A piece of the
 * caller's memory holds whole cells, so that runs can be cut anywhere. */
#include "base/err.h"
#include "base/sum.h"
#include "chunk/fragment.h"
#include <assert.h>
#include <limits.h>
#include <string.h>

#define RUN_PIECES_MAX 64 /* of one readv or writev */

/* Walks the caller's vector from front to back. */
struct cursor {
    const struct iovec *iov;
    int left;    /* pieces not used up */
    size_t used; /* bytes of iov[0] already taken */
};

/* Cells that are moved together. */
struct run {
    struct iovec piece[RUN_PIECES_MAX];
    int pieces;
    uint32_t first, count; /* relative to the request */
};

/* Take up to `want` cells; as many as fit into RUN_PIECES_MAX pieces. */
static void
take(struct cursor *c, uint32_t block_bytes, uint32_t first, uint32_t want,
     struct run *run)
{
    run->pieces = 0;
    run->first = first;
    run->count = 0;
    while (run->count < want && run->pieces < RUN_PIECES_MAX) {
        size_t need = (size_t)(want - run->count) * block_bytes;
        size_t bytes;

        assert(c->left > 0);
        assert(c->iov->iov_len % block_bytes == 0);
        bytes = c->iov->iov_len - c->used;
        if (bytes > need)
            bytes = need;
        if (bytes > 0) {
            struct iovec *piece = &run->piece[run->pieces++];

            piece->iov_base = (uint8_t *)c->iov->iov_base + c->used;
            piece->iov_len = bytes;
            run->count += (uint32_t)(bytes / block_bytes);
            c->used += bytes;
        }
        if (c->used == c->iov->iov_len) {
            c->iov++;
            c->left--;
            c->used = 0;
        }
    }
}

/* Is the cell as its entry says? */
static bool
cell_is_good(const struct fragment *f, uint32_t row, const uint8_t *bytes)
{
    const struct geometry *g = f->geometry;
    struct cell_entry entry = fragment_entry(f, row);
    bool is_parity = geometry_is_parity(g, f->id.fragment);
    uint64_t stripe_sums[EC_DATA_MAX] = {0}, any = 0;

    for (uint32_t i = 0; is_parity && i < g->data_count; i++) {
        stripe_sums[i] = fragment_stripe_sum(f, row, i);
        any |= stripe_sums[i];
    }
    if (!sum_has_bytes(entry.sum))
        return any == 0 && sum_all_zero(bytes, g->block_bytes);
    if (!is_parity
        && geometry_block_of(g, f->id.fragment, row) == UINT32_MAX)
        return false; /* no such block: only a damaged entry says so */
    return entry.sum
        == fragment_sum_cell(g, &f->id, row, stripe_sums, bytes);
}

/* Judge cells that were read, from row on; those already bad stay bad. */
static void
judge(const struct fragment *f, uint32_t row, const struct iovec *iov,
      int pieces, bool *bad)
{
    uint32_t block_bytes = f->geometry->block_bytes;
    uint32_t cell = 0;

    for (int i = 0; i < pieces; i++) {
        const uint8_t *at = iov[i].iov_base;
        const uint8_t *end = at + iov[i].iov_len;

        for (; at < end; at += block_bytes, cell++)
            if (!bad[cell])
                bad[cell] = !cell_is_good(f, row + cell, at);
    }
}

/* One unreadable sector must not cost its neighbours: ask for each cell by
 * itself. Returns how many were read; those that the medium refused are marked
 * bad. Any other error says nothing of them, and ends it. */
static int64_t
read_singly(const struct fragment *f, uint32_t row, const struct iovec *iov,
            int pieces, bool *bad)
{
    uint32_t block_bytes = f->geometry->block_bytes;
    uint32_t cell = 0;
    int64_t answered = 0;

    for (int i = 0; i < pieces; i++) {
        uint8_t *at = iov[i].iov_base;
        uint8_t *end = at + iov[i].iov_len;

        for (; at < end; at += block_bytes, cell++) {
            uint64_t from =
                geometry_cell_at(f->geometry, f->id.fragment, row + cell);
            int r = object_read(f->object, at, block_bytes, from);

            if (r < 0 && r != -EIO)
                return r;
            bad[cell] |= r < 0;
            answered += r == 0;
        }
    }
    return answered;
}

/* After a read of count cells, which returned r. Returns the number of cells
 * that the medium gave, or a negative errno if there is no use in asking it for
 * more. */
static int64_t
take_cells(const struct fragment *f, uint32_t row, uint32_t count,
           const struct iovec *iov, int pieces, int r, bool *bad)
{
    int64_t answered = count;

    if (r == -EIO)
        answered = read_singly(f, row, iov, pieces, bad);
    else if (r < 0)
        return r;
    if (answered >= 0)
        judge(f, row, iov, pieces, bad);
    return answered;
}

static int64_t
read_run(const struct fragment *f, uint32_t row, const struct run *run,
         uint64_t patience_ns, bool *bad)
{
    int r = guard_read_within(f->object, run->piece, run->pieces,
                              geometry_cell_at(f->geometry, f->id.fragment,
                                               row + run->first),
                              patience_ns);

    return take_cells(f, row + run->first, run->count, run->piece, run->pieces,
                      r, bad + run->first);
}

static bool
must_read(const struct fragment *f, uint32_t row)
{
    return f->doubtful || sum_has_bytes(fragment_entry(f, row).sum);
}

/* Or can it not be told? */
static bool
may_have_data(const struct fragment *f, uint32_t row, uint32_t count)
{
    uint64_t at = geometry_cell_at(f->geometry, f->id.fragment, row);
    uint64_t begin, end;
    int r = object_next_data(f->object, at, &begin, &end);

    if (r == -ENXIO)
        return false;
    return r < 0 ||
           begin < at + (uint64_t)count * f->geometry->block_bytes;
}

static void
fill_zero(const struct run *run)
{
    for (int i = 0; i < run->pieces; i++)
        memset(run->piece[i].iov_base, 0, run->piece[i].iov_len);
}

/* got: what the last call of the medium said; answered of the cells that were
 * asked for were read. */
static int
read_outcome(int64_t got, uint64_t asked, uint64_t answered, uint32_t count,
             bool *bad)
{
    if (got >= 0 && (asked == 0 || answered > 0))
        return 0;
    memset(bad, true, count * sizeof *bad);
    /* the text is the target's */
    return got == -EAGAIN || got == -ETIMEDOUT || got == -ENOMEM ? (int)got
                                                                 : -EIO;
}

/* One run after the other. */
static int
read_runs(const struct fragment_read *read)
{
    struct cursor cursor = {read->iov, read->iov_count, 0};
    uint32_t row = read->row, count = read->count;
    uint64_t asked = 0, answered = 0;
    struct fragment *f = read->f;
    int64_t got = 0;
    struct run run;

    for (uint32_t i = 0; i < count; i += run.count) {
        bool stored = must_read(f, row + i);
        uint32_t end = i + 1;

        while (end < count && must_read(f, row + end) == stored)
            end++;
        take(&cursor, f->geometry->block_bytes, i, end - i, &run);
        if (!stored && !(read->all && may_have_data(f, row + i, run.count))) {
            fill_zero(&run);
            continue;
        }
        got = read_run(f, row, &run, read->patience_ns, read->bad);
        if (got < 0)
            break;
        asked += run.count;
        answered += (uint64_t)got;
    }
    return read_outcome(got, asked, answered, count, read->bad);
}

void
fragment_read_begin(struct fragment *f, uint32_t row, uint32_t count,
                    const struct iovec *iov, int iov_count,
                    uint64_t patience_ns, bool *bad,
                    struct fragment_read *ret)
{
    uint32_t stored = 0;

    assert(row < f->geometry->rows);
    assert(count <= f->geometry->rows - row);
    memset(bad, 0, count * sizeof *bad);
    *ret = (struct fragment_read){
        .f = f, .row = row, .count = count, .iov = iov,
        .iov_count = iov_count, .patience_ns = patience_ns, .bad = bad};
    while (stored < count && must_read(f, row + stored))
        stored++;
    if (stored < count || iov_count > IOV_MAX)
        return;
    ret->begun = true;
    guard_read_begin(f->object, iov, iov_count,
                     geometry_cell_at(f->geometry, f->id.fragment, row),
                     patience_ns, &ret->read);
}

int
fragment_read_end(struct fragment_read *read)
{
    int64_t got;
    int r;

    if (!read->begun)
        return read_runs(read);
    r = guard_read_end(&read->read);
    got = take_cells(read->f, read->row, read->count, read->iov,
                     read->iov_count, r, read->bad);
    return read_outcome(got, read->count, got > 0 ? (uint64_t)got : 0,
                        read->count, read->bad);
}

int
fragment_read(struct fragment *f, uint32_t row, uint32_t count,
              const struct iovec *iov, int iov_count, bool *bad)
{
    struct fragment_read read;

    fragment_read_begin(f, row, count, iov, iov_count, 0, bad, &read);
    return fragment_read_end(&read);
}

int
fragment_read_all(struct fragment *f, uint32_t row, uint32_t count,
                  const struct iovec *iov, int iov_count, bool *bad)
{
    struct fragment_read read = {.f = f, .row = row, .count = count,
                                 .iov = iov, .iov_count = iov_count,
                                 .bad = bad, .all = true};

    assert(row < f->geometry->rows);
    assert(count <= f->geometry->rows - row);
    memset(bad, 0, count * sizeof *bad);
    return read_runs(&read);
}

int
fragment_write(struct fragment *f, uint32_t row, uint32_t count,
               const struct iovec *iov, int iov_count)
{
    struct cursor cursor = {iov, iov_count, 0};
    struct run run;
    int r;

    assert(row < f->geometry->rows);
    assert(count <= f->geometry->rows - row);
    for (uint32_t i = 0; i < count; i += run.count) {
        take(&cursor, f->geometry->block_bytes, i, count - i, &run);
        r = object_writev(f->object, run.piece, run.pieces,
                          geometry_cell_at(f->geometry, f->id.fragment,
                                           row + i));
        if (r < 0)
            return r;
    }
    return 0;
}

int
fragment_write_runs(struct fragment *f, const struct fragment_run *run,
                    int count)
{
    struct object_piece piece[FRAGMENT_RUNS_MAX];

    assert(count <= FRAGMENT_RUNS_MAX);
    for (int i = 0; i < count; i++) {
        assert(run[i].row < f->geometry->rows);
        assert(run[i].count <= f->geometry->rows - run[i].row);
        piece[i] = (struct object_piece){
            geometry_cell_at(f->geometry, f->id.fragment, run[i].row),
            {run[i].cells, (size_t)run[i].count * f->geometry->block_bytes},
        };
    }
    return object_write_pieces(f->object, piece, count);
}

void
fragment_put_begin(struct fragment *f, uint32_t row, struct shared *bytes,
                   const struct iovec *iov, int count,
                   struct guard_write *ret)
{
    assert(row < f->geometry->rows);
    guard_write_begin(f->object, bytes, iov, count,
                      geometry_cell_at(f->geometry, f->id.fragment, row),
                      ret);
}

int
fragment_punch(struct fragment *f, uint32_t row, uint32_t count)
{
    assert(row < f->geometry->rows);
    assert(count <= f->geometry->rows - row);
    if (count == 0)
        return 0;
    return object_punch(f->object,
                        geometry_cell_at(f->geometry, f->id.fragment, row),
                        (uint64_t)count * f->geometry->block_bytes);
}
