/* bypass_recover.c: chunks that were open for writes past the journal when a
 * server ended (BY7).
 *
 * What was flushed is in chunk tables, so all that is here may be lost, block
 * by block, if the power was: but after a mere kill all of it is there, and the
 * parts must agree before anybody reads it.
 * (BR1) A cell that counts is never written over: cut at any step, the next
 *       attempt finds what this one found.
 * (BR2) With EC a row that can't be decoded is what of its blocks is there, and
 *       zeroes, with parity for that. */
#include "volume/bypass.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <stdlib.h>
#include <string.h>

/* Has it been closed since? Then it has a greater sequence, as a file, or is a
 * hole. A file with this one is no word of a table that was stored: they are
 * lost, and dated by headers as they were when the files were made. */
static bool
is_closed(struct lsvd_volume *v, uint64_t chunk, uint64_t seq)
{
    struct chunk_entry truth = tables_truth(v, chunk);

    return truth.seq > seq ||
           (truth.seq == seq && truth.state != CHUNK_PRESENT);
}

int
bypass_found(struct lsvd_volume *v, uint64_t chunk, uint64_t seq)
{
    struct bypass_chunk *b = bypass_of_chunk_locked(v, chunk + 1);
    int r;

    if (is_closed(v, chunk + 1, seq))
        return 0;
    if (b) { /* it went into the journal, became a hole, and was opened again */
        bypass_forget_sums(b);
        b->seq = b->newest = seq;
        return 1;
    }
    r = mem_new(1, sizeof *b, &b);
    if (r < 0)
        return r;
    b->chunk = chunk + 1;
    b->seq = b->newest = seq;
    b->found = b->has_files = true;
    bypass_enlist_locked(v, b);
    return 1;
}

int
bypass_found_blocks(struct lsvd_volume *v, uint64_t seq,
                    const struct journal_bypassed *record)
{
    struct bypass_chunk *b = bypass_find_locked(v, record->first, 1);
    uint32_t rows = v->g.is_ec ? record->count / v->g.data_count : 0;
    size_t count = record->count + record->more;
    struct bypass_sums *sums;
    int r;

    if (!b || seq < b->seq)
        return 0;
    if (record->more != rows * v->g.parity_count ||
        (v->g.is_ec && (record->count % v->g.data_count != 0 ||
                        record->first % v->g.data_count != 0)))
        return err_set(-EBADMSG, "volume %s: a record of blocks past the "
                       "journal has impossible fields", v->meta.name);
    r = mem_new(1, sizeof *sums + count * sizeof sums->sums[0], &sums);
    if (r < 0)
        return r;
    sums->seq = seq;
    sums->first = record->first;
    sums->count = record->count;
    sums->more = record->more;
    memcpy(sums->sums, record->sums, count * sizeof sums->sums[0]);
    sums->next = b->sums;
    b->sums = sums;
    return 0;
}

/* ---- entries, as the records say ---- */

static void
set_data(struct lsvd_volume *v, struct bypass_chunk *b,
         const struct bypass_sums *s, uint32_t slot)
{
    struct fragment *f = chunk_fragment(v, b->pin, slot, NULL);

    for (uint32_t i = 0; f && i < s->count; i++) {
        uint32_t block = geometry_block_in_chunk(&v->g, s->first + i);

        if (!v->g.is_ec || geometry_fragment_of(&v->g, block) == slot)
            fragment_set_entry(f, geometry_row_of(&v->g, block),
                               (struct cell_entry){s->sums[i], s->seq}, NULL);
    }
}

static void
set_parity(struct lsvd_volume *v, struct bypass_chunk *b,
           const struct bypass_sums *s, uint32_t slot)
{
    struct fragment *f = chunk_fragment(v, b->pin, slot, NULL);
    uint32_t block = geometry_block_in_chunk(&v->g, s->first);
    uint32_t row = geometry_row_of(&v->g, block), k = v->g.data_count;
    const uint64_t *sum = s->sums + s->count + (slot - k);

    for (uint32_t i = 0; f && i < s->count / k; i++)
        fragment_set_entry(f, row + i,
                           (struct cell_entry){sum[i * v->g.parity_count],
                                               s->seq},
                           s->sums + (size_t)i * k);
}

/* A cell counts if it is what the records say, which is always checked; an
 * entry of the file that no record tells of says that nothing was written. So
 * what a cut left of a table is no matter of doubt here (C4). */
static int
open_files(struct lsvd_volume *v, struct bypass_chunk *b)
{
    int r = chunk_files_answer(v, b->pin);

    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        struct fragment *f = chunk_fragment(v, b->pin, i, NULL);

        if (f)
            f->doubtful = false;
        for (const struct bypass_sums *s = b->sums; s && f; s = s->next) {
            if (geometry_is_parity(&v->g, i))
                set_parity(v, b, s, i);
            else
                set_data(v, b, s, i);
        }
    }
    return r;
}

/* ---- rows ---- */

/* Some rows of a chunk, and what they become. */
struct recovery {
    struct lsvd_volume *v;
    struct bypass_chunk *b;
    struct rows rows;
    struct plan *plan;
    uint8_t *zeroes; /* one block */
};

static uint8_t *
cell_at(const struct recovery *y, uint32_t slot, uint32_t row)
{
    return y->rows.cell[slot] +
           (size_t)(row - y->rows.first) * y->v->g.block_bytes;
}

static bool
is_there(const struct recovery *y, uint32_t slot, uint32_t row)
{
    return y->rows.fragment[slot] &&
           !y->rows.bad[slot][row - y->rows.first];
}

static bool
has_sum(const struct recovery *y, uint32_t slot, uint32_t row, uint64_t sum)
{
    return is_there(y, slot, row) &&
           fragment_entry(y->rows.fragment[slot], row).sum == sum;
}

/* The cell is to be this; NULL: zeroes, and so is the entry. Also if it is
 * zeroes by its entry: who knows what bytes a cut has left there. */
static void
put_cell(struct recovery *y, uint32_t slot, uint32_t row,
         struct cell_entry entry, uint64_t *stripe_sums, uint8_t *data)
{
    struct plan_cell *cell =
        &y->plan->cells[slot][y->plan->cell_count[slot]++];

    *cell = (struct plan_cell){.row = row,
                               .entry = entry,
                               .stripe_sums = stripe_sums,
                               .data = data};
}

/* What each data cell of the row is (replicas have one), and in rows->cell its
 * bytes, unless it is zeroes. */
static void
resolve_replicas(struct recovery *y, const struct stripe *s,
                 struct cell_entry *entry)
{
    struct lsvd_volume *v = y->v;
    uint32_t good = (uint32_t)__builtin_ctz(s->good | UINT32_C(1) << 31);

    entry[0] = (struct cell_entry){0, 0};
    if (!s->readable || s->sum[0] == SUM_ZERO_BLOCK)
        return;
    entry[0] = (struct cell_entry){s->sum[0], s->seq};
    if (good != 0)
        memcpy(cell_at(y, 0, s->row), cell_at(y, good, s->row),
               v->g.block_bytes);
}

/* As they were written; false: not all can be had. */
static bool
decode_row(struct recovery *y, const struct stripe *s,
           struct cell_entry *entry)
{
    struct lsvd_volume *v = y->v;

    if (!s->readable)
        return false;
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        if (s->state[i] == CELL_GOOD)
            entry[i] = fragment_entry(y->rows.fragment[i], s->row);
        else if (rows_rebuild(v, &y->rows, s, i, &entry[i]) < 0)
            return false;
    }
    return true;
}

/* BR2. */
static void
resolve_stripe(struct recovery *y, const struct stripe *s,
               struct cell_entry *entry)
{
    bool decoded = decode_row(y, s, entry);

    for (uint32_t i = 0; i < y->v->g.data_count; i++) {
        if (!decoded)
            entry[i] = is_there(y, i, s->row)
                           ? fragment_entry(y->rows.fragment[i], s->row)
                           : (struct cell_entry){0, 0};
        if (entry[i].sum == SUM_ZERO_BLOCK)
            entry[i].seq = 0;
    }
}

static void
resolve(struct recovery *y, uint32_t row, struct stripe *s,
        struct cell_entry *entry)
{
    rows_judge(y->v, &y->rows, row, s);
    if (y->v->g.is_ec)
        resolve_stripe(y, s, entry);
    else
        resolve_replicas(y, s, entry);
}

static void
settle_replicas(struct recovery *y, const struct stripe *s,
                const struct cell_entry *entry)
{
    bool is_zero = entry->sum == SUM_ZERO_BLOCK;

    for (uint32_t i = 0; i < y->v->g.part_count; i++) {
        if (is_zero || s->state[i] != CELL_GOOD) /* BR1 */
            put_cell(y, i, s->row, *entry, NULL,
                     is_zero ? NULL : cell_at(y, 0, s->row));
    }
}

static bool
has_stripe_sums(const struct recovery *y, uint32_t slot, uint32_t row,
                const uint64_t *sums)
{
    if (!is_there(y, slot, row) || has_sum(y, slot, row, SUM_ZERO_BLOCK))
        return false;
    for (uint32_t i = 0; i < y->v->g.data_count; i++) {
        if (fragment_stripe_sum(y->rows.fragment[slot], row, i) != sums[i])
            return false;
    }
    return true;
}

static int
settle_parity(struct recovery *y, uint32_t row, const struct cell_entry *entry)
{
    struct lsvd_volume *v = y->v;
    uint64_t *sums = plan_alloc(y->plan, v->g.data_count, sizeof *sums);
    const uint8_t *data[EC_DATA_MAX];
    uint8_t *parity[EC_PARITY_MAX];
    uint64_t parity_sums[EC_PARITY_MAX];
    bool any;

    if (!sums)
        return -ENOMEM;
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        sums[i] = entry[i].sum;
        data[i] = sums[i] != SUM_ZERO_BLOCK ? cell_at(y, i, row) : y->zeroes;
    }
    for (uint32_t i = 0; i < v->g.parity_count; i++) {
        parity[i] = plan_alloc(y->plan, 1, v->g.block_bytes);
        if (!parity[i])
            return -ENOMEM;
    }
    any = stripe_encode(v, y->b->chunk, row, sums, data, parity, parity_sums);
    for (uint32_t i = 0; i < v->g.parity_count; i++) {
        uint32_t slot = v->g.data_count + i;
        struct cell_entry own = {parity_sums[i], any ? y->plan->seq : 0};

        if (has_stripe_sums(y, slot, row, sums))
            continue;
        put_cell(y, slot, row, own, sums, any ? parity[i] : NULL);
    }
    return 0;
}

static int
settle_stripe(struct recovery *y, uint32_t row, const struct cell_entry *entry)
{
    for (uint32_t i = 0; i < y->v->g.data_count; i++) {
        bool is_zero = entry[i].sum == SUM_ZERO_BLOCK;

        if (is_zero || !has_sum(y, i, row, entry[i].sum))
            put_cell(y, i, row, entry[i], NULL,
                     is_zero ? NULL : cell_at(y, i, row));
    }
    return settle_parity(y, row, entry);
}

static int
settle_row(struct recovery *y, uint32_t row)
{
    struct cell_entry entry[EC_DATA_MAX];
    struct stripe s;

    resolve(y, row, &s, entry);
    if (y->v->g.is_ec)
        return settle_stripe(y, row, entry);
    settle_replicas(y, &s, entry);
    return 0;
}

/* Those that need it; on the way the files that are missing are made. */
static int
apply(struct recovery *y)
{
    struct lsvd_volume *v = y->v;
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            continue;
        r = plan_apply_to(v, y->plan, y->b->pin, i);
        if (r < 0)
            r = part_failed(v, i, err_wrap(r, "part %c", v->part[i].letter));
    }
    return r;
}

static int
new_plan(struct recovery *y, uint32_t rows)
{
    struct lsvd_volume *v = y->v;

    y->plan = plan_new(y->b->chunk);
    if (!y->plan)
        return -ENOMEM;
    y->plan->make = v->usable;
    y->plan->seq = journal_take_seq(v->journal);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        y->plan->cells[i] = plan_alloc(y->plan, rows,
                                       sizeof(struct plan_cell));
        if (!y->plan->cells[i])
            return -ENOMEM;
    }
    return 0;
}

static int
load(struct recovery *y, struct chunk *c, uint32_t first, uint32_t count)
{
    int r = rows_new(y->v, count, &y->rows);

    if (r < 0)
        return r;
    rows_load(y->v, c, first, count, &y->rows);
    /* what a medium refuses is not there; anything else may be */
    return y->rows.trouble == -EIO ? 0 : y->rows.trouble;
}

static int
settle_rows(void *ctx, uint32_t first, uint32_t count)
{
    struct recovery *y = ctx;
    int r;

    r = new_plan(y, count);
    if (r == 0)
        r = load(y, y->b->pin, first, count);
    for (uint32_t row = first; row < first + count && r == 0; row++)
        r = settle_row(y, row);
    if (r == 0)
        r = apply(y);
    y->b->newest = y->plan ? y->plan->seq : 0;
    plan_free(y->plan);
    rows_free(&y->rows);
    return r;
}

static int
recover_chunk(struct lsvd_volume *v, struct bypass_chunk *b)
{
    struct recovery y = {.v = v, .b = b};
    struct lease lease;
    int r = 0;

    if (!b->pin)
        r = chunk_get(v, b->chunk, &b->pin);
    if (r == 0)
        r = mem_new_aligned(v->g.block_bytes, &y.zeroes);
    if (r < 0)
        return r;
    memset(y.zeroes, 0, v->g.block_bytes);
    b->newest = b->seq; /* also if it is tried again */
    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, true);
    chunk_read_anew(v, b->pin); /* cells that are right are not written */
    r = open_files(v, b);
    if (r == 0)
        r = rows_each(v, settle_rows, &y);
    lease_put(&v->chunk_leases, &lease);
    free(y.zeroes);
    return r;
}

/* Those that did not answer a read: it can be done without them. */
static void
note_gone(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->state_lock);
    v->failed |= v->gone & v->usable;
    pthread_mutex_unlock(&v->state_lock);
}

int
bypass_recover(struct lsvd_volume *v, size_t *ret)
{
    struct bypass_chunk *b;
    int r = 0;

    *ret = 0;
    for (b = v->bypass.first; b && r == 0; b = b->next) {
        r = recover_chunk(v, b);
        if (r == 0)
            r = bypass_make_durable(v, &b, 1);
        *ret += r == 0;
    }
    if (r == -ETIMEDOUT)
        note_gone(v);
    if (r == 0)
        atomic_fetch_add(&v->count.bypass_recovered, *ret);
    while (r == 0 && v->bypass.first)
        bypass_forget(v, v->bypass.first);
    return r;
}

/* Does a record tell of the block, or with EC of its row? If none does it was
 * never written. */
static bool
is_recorded(struct lsvd_volume *v, uint64_t chunk, uint32_t block)
{
    const struct bypass_chunk *b = bypass_of_chunk_locked(v, chunk);
    uint64_t at = geometry_first_block(&v->g, chunk) + block;

    for (const struct bypass_sums *s = b ? b->sums : NULL; s; s = s->next) {
        if (at >= s->first && at < s->first + s->count)
            return true;
    }
    return false;
}

/* A member that is away may have what is not here, and will be asked: until
 * then nobody can tell. */
static int
unknown(struct lsvd_volume *v, uint64_t chunk, uint32_t block)
{
    return err_set(-EIO, "volume %s: chunk %llu, block %u was being written "
                   "when its server ended: what it holds can't be known "
                   "without the parts that are away", v->meta.name,
                   (unsigned long long)chunk, block);
}

static int
read_row(struct recovery *y, uint32_t row, uint32_t block, uint32_t count,
         uint8_t *to, uint8_t *said)
{
    struct lsvd_volume *v = y->v;
    size_t bytes = v->g.block_bytes;
    struct cell_entry entry[EC_DATA_MAX];
    struct stripe s;

    resolve(y, row, &s, entry);
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        uint32_t at = geometry_block_of(&v->g, i, row);

        if (at == UINT32_MAX || at < block || at >= block + count)
            continue;
        if (said)
            said[at - block] = said_by_sum(entry[i].sum);
        if (entry[i].sum != SUM_ZERO_BLOCK)
            memcpy(to + (at - block) * bytes, cell_at(y, i, row), bytes);
        else if ((v->view.members & ~v->usable) &&
                 is_recorded(v, y->rows.chunk->number, at))
            return unknown(v, y->rows.chunk->number, at);
        else
            memset(to + (at - block) * bytes, 0, bytes);
    }
    return 0;
}

int
bypass_read_found(struct lsvd_volume *v, struct chunk *c, uint32_t block,
                  uint32_t count, uint8_t *to, uint8_t *said)
{
    uint32_t first = geometry_row_of(&v->g, block);
    uint32_t end = geometry_row_of(&v->g, block + count - 1) + 1;
    struct recovery y = {.v = v};
    int r;

    r = load(&y, c, first, end - first);
    for (uint32_t row = first; row < end && r == 0; row++)
        r = read_row(&y, row, block, count, to, said);
    rows_free(&y.rows);
    return r;
}

static int
keep(struct lsvd_volume *v, struct bypass_chunk *b)
{
    struct lease lease;
    int r = 0;

    if (!b->pin)
        r = chunk_get(v, b->chunk, &b->pin);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, true);
    r = open_files(v, b);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        struct fragment *f = chunk_fragment(v, b->pin, i, NULL);

        r = f ? fragment_sync(f) : 0;
        if (r < 0)
            r = part_failed(v, i, err_wrap(r, "part %c", v->part[i].letter));
    }
    lease_put(&v->chunk_leases, &lease);
    return r;
}

int
bypass_keep_found(struct lsvd_volume *v)
{
    int r = 0;

    for (struct bypass_chunk *b = v->bypass.first; b && r == 0; b = b->next)
        r = keep(v, b);
    return r == 0 && v->bypass.first ? names_sync(v, v->usable) : r;
}
