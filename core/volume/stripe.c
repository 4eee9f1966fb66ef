/* stripe.c: which cells of a row are right, and computing those that are not.
 *
 * Replicas: of the cells that pass their check, those with the greatest
 * sequence are right.
 * EC: the valid parity cell with the greatest sequence is the witness: it
 * recorded the sum of every data cell it was computed from (stripe sums).
 * (S1) A data cell is good if its sum is the witness's. One that is valid but
 *      different and older missed a write; one that is newer than the witness
 *      makes the witness stale, and the row has no other: nothing is decoded
 *      from it then (J2).
 * (S2) A parity cell is good if it has the witness's stripe sums.
 * (S3) Only good cells are decoded from, at least K, and the result must hash
 *      to the witness's sum: a mixed stripe gives an error, never bytes. */
#include "volume/volume.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_BYTES (1u << 20)

int
rows_new(struct lsvd_volume *v, uint32_t count, struct rows *ret)
{
    size_t cells = (size_t)count * v->g.block_bytes;
    uint8_t *memory, *at;
    int r;

    memset(ret, 0, sizeof *ret);
    r = mem_new_aligned(v->g.part_count * (cells + count), &memory);
    if (r < 0)
        return r;
    at = memory;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        ret->cell[i] = at;
        at += cells;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        ret->bad[i] = (bool *)at;
        at += count;
    }
    ret->memory = memory;
    return 0;
}

void
rows_free(struct rows *rows)
{
    free(rows->memory);
    memset(rows, 0, sizeof *rows);
}

uint32_t
rows_at_once(const struct lsvd_volume *v)
{
    uint32_t rows = ROWS_BYTES / v->g.block_bytes;

    return rows < ROWS_AT_ONCE ? rows : ROWS_AT_ONCE;
}

int
rows_each(struct lsvd_volume *v,
          int (*job)(void *ctx, uint32_t first, uint32_t count), void *ctx)
{
    uint32_t most = rows_at_once(v);
    int r = 0;

    for (uint32_t row = 0; r == 0 && row < v->g.rows; row += most) {
        uint32_t left = v->g.rows - row;

        r = job(ctx, row, left < most ? left : most);
    }
    return r;
}

/* The medium gave nothing; what the entries call zero is known all the same. */
static void
keep_zeroes(struct lsvd_volume *v, struct rows *rows, uint32_t slot)
{
    const struct fragment *f = rows->fragment[slot];

    for (uint32_t i = 0; i < rows->count; i++) {
        rows->bad[slot][i] =
            f->doubtful ||
            sum_has_bytes(fragment_entry(f, rows->first + i).sum);
        if (!rows->bad[slot][i])
            memset(rows->cell[slot] + (size_t)i * v->g.block_bytes, 0,
                   v->g.block_bytes);
    }
}

void
rows_trouble(int *trouble, int error)
{
    if (error != 0 &&
        (*trouble == 0 || *trouble == -EIO || error == -ENOMEM))
        *trouble = error;
}

int
fragment_trouble(enum fragment_state state)
{
    return state == FRAGMENT_REFUSED ? -EIO
           : state == FRAGMENT_ERROR ? -ENOMEM
                                     : 0;
}

static void
begin_rows(struct lsvd_volume *v, struct chunk *c, uint32_t first,
           uint32_t count, struct rows *rows)
{
    rows->chunk = c;
    rows->first = first;
    rows->count = count;
    rows->trouble = 0;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        uint32_t bit = UINT32_C(1) << i;
        enum fragment_state state = FRAGMENT_UNKNOWN;

        rows->fragment[i] = rows->skip & bit ? NULL
                                             : chunk_fragment(v, c, i, &state);
        memset(rows->bad[i], rows->fragment[i] == NULL, count);
        rows_trouble(&rows->trouble, fragment_trouble(state));
    }
}

void
rows_load(struct lsvd_volume *v, struct chunk *c, uint32_t first,
          uint32_t count, struct rows *rows)
{
    struct fragment_read read[PARTS_MAX];
    struct iovec iov[PARTS_MAX];

    begin_rows(v, c, first, count, rows);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        iov[i] = (struct iovec){rows->cell[i],
                                (size_t)count * v->g.block_bytes};
        if (rows->fragment[i])
            fragment_read_begin(rows->fragment[i], first, count, &iov[i], 1, 0,
                                rows->bad[i], &read[i]);
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        int r = rows->fragment[i] ? fragment_read_end(&read[i]) : 0;

        if (r < 0) {
            rows_trouble(&rows->trouble, r);
            keep_zeroes(v, rows, i);
        }
        if (r == -ETIMEDOUT)
            part_suspect(v, i, r);
    }
}

bool
rows_peek(struct lsvd_volume *v, struct chunk *c, uint32_t first,
          uint32_t count, struct rows *rows)
{
    begin_rows(v, c, first, count, rows);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (rows->fragment[i] && rows->fragment[i]->doubtful)
            return false;
    }
    return true;
}

static bool
is_valid(const struct rows *rows, uint32_t slot, uint32_t row)
{
    return rows->fragment[slot] && !rows->bad[slot][row - rows->first];
}

static void
judge_replicas(struct lsvd_volume *v, const struct rows *rows,
               struct stripe *s)
{
    struct cell_entry best = {0, 0}, entry;
    bool found = false;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!is_valid(rows, i, s->row))
            continue;
        entry = fragment_entry(rows->fragment[i], s->row);
        if (!found || entry.seq > best.seq)
            best = entry;
        found = true;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        s->state[i] = CELL_BAD;
        if (!is_valid(rows, i, s->row))
            continue;
        entry = fragment_entry(rows->fragment[i], s->row);
        s->state[i] = entry.seq == best.seq && entry.sum == best.sum
                          ? CELL_GOOD
                          : CELL_STALE;
        if (s->state[i] == CELL_GOOD)
            s->good |= UINT32_C(1) << i;
    }
    s->seq = best.seq;
    s->sum[0] = best.sum;
    s->readable = found;
}

/* The valid parity cell with the greatest sequence below that, or part_count.
 */
static uint32_t
find_witness(struct lsvd_volume *v, const struct rows *rows, uint32_t row,
             uint64_t below)
{
    uint32_t witness = v->g.part_count;
    uint64_t seq = 0;

    for (uint32_t i = v->g.data_count; i < v->g.part_count; i++) {
        struct cell_entry entry;

        if (!is_valid(rows, i, row))
            continue;
        entry = fragment_entry(rows->fragment[i], row);
        if (entry.seq < below &&
            (witness == v->g.part_count || entry.seq > seq)) {
            witness = i;
            seq = entry.seq;
        }
    }
    return witness;
}

/* What a lost cell must hash to when no parity is left to tell: no cell does,
 * and above all it is none that needs no other cell (sum_has_bytes). */
#define SUM_UNKNOWN UINT64_MAX

/* Without parity, or with none that counts: valid data cells stand for
 * themselves. */
static void
judge_unwitnessed(struct lsvd_volume *v, const struct rows *rows,
                  struct stripe *s)
{
    s->good = 0;
    s->seq = 0;
    s->readable = true;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct cell_entry entry;

        s->state[i] = i >= v->g.data_count && is_valid(rows, i, s->row)
                          ? CELL_STALE
                          : CELL_BAD;
        if (i < v->g.data_count && is_valid(rows, i, s->row)) {
            entry = fragment_entry(rows->fragment[i], s->row);
            s->state[i] = CELL_GOOD;
            s->good |= UINT32_C(1) << i;
            s->sum[i] = entry.sum;
            if (entry.seq > s->seq)
                s->seq = entry.seq;
        } else if (i < v->g.data_count &&
                   geometry_block_of(&v->g, i, s->row) != UINT32_MAX) {
            s->sum[i] = SUM_UNKNOWN;
            s->readable = false;
        }
    }
}

static bool
same_stripe_sums(struct lsvd_volume *v, const struct fragment *f,
                 const struct stripe *s)
{
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        if (fragment_stripe_sum(f, s->row, i) != s->sum[i])
            return false;
    }
    return true;
}

/* Data cells that are newer than the witness say that the parity missed a
 * write: then all parity is stale. */
static bool
witness_is_stale(struct lsvd_volume *v, const struct rows *rows,
                 const struct stripe *s, uint64_t witness_seq)
{
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        struct cell_entry entry;

        if (!is_valid(rows, i, s->row))
            continue;
        entry = fragment_entry(rows->fragment[i], s->row);
        if (entry.sum != s->sum[i] && entry.seq > witness_seq)
            return true;
    }
    return false;
}

/* Are the cells that this one witnesses there, or K of them? */
static void
judge_by(struct lsvd_volume *v, const struct rows *rows, uint32_t witness,
         struct stripe *s)
{
    struct cell_entry entry = fragment_entry(rows->fragment[witness], s->row);

    s->good = 0;
    s->seq = entry.seq;
    for (uint32_t i = 0; i < v->g.data_count; i++)
        s->sum[i] = fragment_stripe_sum(rows->fragment[witness], s->row, i);
    if (witness_is_stale(v, rows, s, entry.seq)) {
        judge_unwitnessed(v, rows, s);
        return;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        bool same;

        s->state[i] = CELL_BAD;
        if (!is_valid(rows, i, s->row))
            continue;
        same = i < v->g.data_count
                   ? fragment_entry(rows->fragment[i], s->row).sum ==
                         s->sum[i]
                   : same_stripe_sums(v, rows->fragment[i], s);
        s->state[i] = same ? CELL_GOOD : CELL_STALE;
        if (same)
            s->good |= UINT32_C(1) << i;
    }
    s->readable = (uint32_t)__builtin_popcount(s->good) >= v->g.data_count;
    if (!s->readable) { /* what the row's blocks need may still be there */
        s->readable = true;
        for (uint32_t i = 0; i < v->g.data_count; i++) {
            if (s->state[i] != CELL_GOOD && sum_has_bytes(s->sum[i]))
                s->readable = false;
        }
    }
}

/* FO5: the newest is not whole, though every part has told what it has, and
 * the record that would have made it so is lost for good. Data that are, as
 * they are read, or else what an older parity tells. */
static void
judge_older(struct lsvd_volume *v, const struct rows *rows, struct stripe *s)
{
    struct stripe newest = *s;
    uint64_t below = newest.seq;
    uint32_t witness;

    judge_unwitnessed(v, rows, s);
    while (!s->readable) {
        witness = find_witness(v, rows, s->row, below);
        if (witness == v->g.part_count) {
            *s = newest;
            break;
        }
        below = fragment_entry(rows->fragment[witness], s->row).seq;
        judge_by(v, rows, witness, s);
    }
}

static void
judge_ec(struct lsvd_volume *v, const struct rows *rows, struct stripe *s)
{
    uint32_t witness = find_witness(v, rows, s->row, UINT64_MAX);

    if (witness == v->g.part_count) {
        judge_unwitnessed(v, rows, s);
        return;
    }
    judge_by(v, rows, witness, s);
    if (!s->readable && rows->trouble == 0 && rows->skip == 0 &&
        force_may_look_back(v))
        judge_older(v, rows, s);
}

void
rows_judge(struct lsvd_volume *v, const struct rows *rows, uint32_t row,
           struct stripe *ret)
{
    assert(row >= rows->first);
    assert(row < rows->first + rows->count);
    memset(ret, 0, sizeof *ret);
    ret->row = row;
    if (v->g.is_ec)
        judge_ec(v, rows, ret);
    else
        judge_replicas(v, rows, ret);
}

bool
stripe_encode(struct lsvd_volume *v, uint64_t chunk, uint32_t row,
              const uint64_t *sums, const uint8_t *const *data,
              uint8_t *const *parity, uint64_t *ret_sums)
{
    bool any = !sum_all_zero(sums, v->g.data_count * sizeof *sums);

    if (any)
        ec_encode(v->ec, v->g.block_bytes, data, parity);
    for (uint32_t i = 0; i < v->g.parity_count; i++) {
        struct fragment_id id = {.volume = v->meta.uuid,
                                 .chunk = chunk,
                                 .fragment = v->g.data_count + i};

        ret_sums[i] = any ? fragment_sum_cell(&v->g, &id, row, sums, parity[i])
                          : SUM_ZERO_BLOCK;
    }
    return any;
}

static uint8_t *
cell_of(struct lsvd_volume *v, const struct rows *rows, uint32_t slot,
        uint32_t row)
{
    return rows->cell[slot] +
           (size_t)(row - rows->first) * v->g.block_bytes;
}

static int
rebuild_replica(struct lsvd_volume *v, struct rows *rows,
                const struct stripe *s, uint32_t slot,
                struct cell_entry *ret_entry)
{
    uint32_t source;

    if (s->good == 0)
        return err_set(-EIO, "no good copy is left");
    source = (uint32_t)__builtin_ctz(s->good);
    memcpy(cell_of(v, rows, slot, s->row), cell_of(v, rows, source, s->row),
           v->g.block_bytes);
    *ret_entry = fragment_entry(rows->fragment[source], s->row);
    return 0;
}

/* Decode, or for parity encode what is decoded or good. */
static int
rebuild_ec(struct lsvd_volume *v, struct rows *rows, const struct stripe *s,
           uint32_t slot, struct cell_entry *ret_entry)
{
    uint8_t *cells[PARTS_MAX];
    uint32_t want = UINT32_C(1) << slot;
    struct fragment_id id = {.volume = v->meta.uuid,
                             .chunk = rows->chunk->number,
                             .fragment = slot};
    int r;

    for (uint32_t i = 0; i < v->g.part_count; i++)
        cells[i] = cell_of(v, rows, i, s->row);
    ret_entry->seq = s->seq;
    if (slot < v->g.data_count && !sum_has_bytes(s->sum[slot])) {
        memset(cells[slot], 0, v->g.block_bytes);
        ret_entry->sum = s->sum[slot];
        return 0;
    }
    r = ec_decode(v->ec, v->g.block_bytes, s->good & ~want, want, cells);
    if (r < 0)
        return r;
    ret_entry->sum = fragment_sum_cell(&v->g, &id, s->row, s->sum,
                                       cells[slot]);
    if (geometry_is_parity(&v->g, slot)) {
        if (sum_all_zero(s->sum, v->g.data_count * sizeof s->sum[0]))
            ret_entry->sum = SUM_ZERO_BLOCK;
        return 0;
    }
    if (ret_entry->sum != s->sum[slot])
        return err_set(-EIO, "the stripe's cells do not belong together");
    return 0;
}

int
rows_rebuild(struct lsvd_volume *v, struct rows *rows,
             const struct stripe *stripe, uint32_t slot,
             struct cell_entry *ret_entry)
{
    if (v->g.is_ec)
        return rebuild_ec(v, rows, stripe, slot, ret_entry);
    return rebuild_replica(v, rows, stripe, slot, ret_entry);
}

static int
change_run(const struct lsvd_volume *v, const struct rows *rows, uint32_t slot,
           struct fragment *to, uint32_t begin, uint32_t count,
           enum cell_change change)
{
    size_t bytes = v->g.block_bytes;
    struct iovec iov = {rows->cell[slot] + begin * bytes, count * bytes};

    switch (change) {
    case CELL_KEEP:
        return 0;
    case CELL_WRITE:
        return fragment_write(to, rows->first + begin, count, &iov, 1);
    case CELL_PUNCH:
        return fragment_punch(to, rows->first + begin, count);
    }
    return 0;
}

int
rows_change(struct lsvd_volume *v, const struct rows *rows, uint32_t slot,
            struct fragment *to, const enum cell_change *change)
{
    uint32_t end;
    int r = 0;

    for (uint32_t i = 0; i < rows->count && r == 0; i = end) {
        end = i + 1;
        while (end < rows->count && change[end] == change[i])
            end++;
        r = change_run(v, rows, slot, to, i, end - i, change[i]);
    }
    return r;
}
