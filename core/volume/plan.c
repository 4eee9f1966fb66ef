/* plan.c: what destaging one chunk will write: final bytes, entries, parity.
 *
 * A plan is built from the journal's newest blocks of the chunk and, where an
 * EC row is not covered by them, from verified old data. Building changes
 * nothing; the same plan can be applied any number of times (apply.c).
 * (D1) seq of the plan is above that of every block in it.
 * (D2) Rows that the journal does not cover need a redo record: their parity
 *      depends on bytes outside the journal. */
#include "volume/parent.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/recycle.h"
#include "base/sum.h"
#include "volume/resync.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PLAN_BYTES_MAX (8u << 20) /* of new data */
#define RUN_BLOCKS_MAX 256u        /* read from the journal at once */

/* Small things of a plan, a handful for each row, lie one behind the other in a
 * piece; what is larger has a piece of its own. Many small plans wait for their
 * chunks to be closed (bypass.h), so the first piece is small. */
#define FIRST_PIECE_BYTES 8192u
#define PIECE_BYTES 32768u
#define PIECE_ALIGN 64u

struct plan_memory {
    struct plan_memory *next;
    uint8_t *bytes;
    size_t size;
    size_t used;
};

struct plan *
plan_new(uint64_t chunk)
{
    struct plan *plan;

    if (mem_new(1, sizeof *plan, &plan) < 0)
        return NULL;
    plan->chunk = chunk;
    return plan;
}

void
plan_free(struct plan *plan)
{
    struct plan_memory *m, *next;

    if (!plan)
        return;
    assert(!plan->pin);
    for (m = plan->memory; m; m = next) {
        next = m->next;
        recycle_put(m->bytes, m->size);
        free(m);
    }
    shared_put(plan->written);
    free(plan);
}

uint64_t
plan_newest_seq(const struct plan *plan)
{
    uint64_t newest = plan->zero_seq;

    for (size_t i = 0; i < plan->block_count; i++) {
        if (plan->blocks[i].seq > newest)
            newest = plan->blocks[i].seq;
    }
    return newest;
}

/* One more piece, to be taken from until it is full; but one that is made for
 * something large leaves that to the one before. */
static struct plan_memory *
add_piece(struct plan *plan, size_t size)
{
    struct plan_memory **at = &plan->memory, *m;

    if (*at && size > PIECE_BYTES)
        at = &(*at)->next;
    else if (!*at && size < FIRST_PIECE_BYTES)
        size = FIRST_PIECE_BYTES;
    else if (size < PIECE_BYTES)
        size = PIECE_BYTES;
    if (mem_new(1, sizeof *m, &m) < 0)
        return NULL;
    m->size = size;
    if (recycle_get(size, &m->bytes) < 0) {
        free(m);
        return NULL;
    }
    m->next = *at;
    *at = m;
    return m;
}

/* Not initialised; aligned to PIECE_ALIGN. */
static void *
alloc_bytes(struct plan *plan, size_t bytes)
{
    size_t size = (bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    struct plan_memory *m = plan->memory;
    void *p;

    if (!m || m->size - m->used < size)
        m = add_piece(plan, size);
    if (!m)
        return NULL;
    p = m->bytes + m->used;
    m->used += size;
    return p;
}

void *
plan_alloc(struct plan *plan, size_t count, size_t bytes)
{
    void *p = alloc_bytes(plan, count * bytes);

    return p ? memset(p, 0, count * bytes) : NULL;
}

/* Is in RAM what the index says of the block, and not something newer? That
 * saves a system call. */
static bool
load_from_ram(struct lsvd_volume *v, const struct journal_block *b,
              uint8_t *to)
{
    return cache_peek(v->cache, b->block, to) &&
           sum_block(volume_block_seed(v, b->block), to, v->g.block_bytes) ==
               b->sum;
}

/* From the journal: the first of these blocks, and those behind it that are
 * missing, too, and lie there one behind the other. Returns how many. */
static int
load_run(struct lsvd_volume *v, const struct journal_block *b,
         const bool *missing, size_t max, uint8_t *to)
{
    uint64_t seeds[RUN_BLOCKS_MAX];
    size_t n = 0;
    int r;

    do {
        seeds[n] = volume_block_seed(v, b[n].block);
        n++;
    } while (n < max && n < RUN_BLOCKS_MAX && missing[n] &&
             journal_follows(v->journal, &b[n - 1], &b[n]));
    r = journal_read_run(v->journal, b, seeds, n, to);
    return r < 0 ? r : (int)n;
}

/* Read the bytes of every block in the plan that has any. NULL entries of
 * ret: zeroes. */
static int
load_new_data(struct lsvd_volume *v, struct plan *plan, uint8_t ***ret)
{
    uint8_t **data = plan_alloc(plan, plan->block_count, sizeof(uint8_t *));
    bool *missing = plan_alloc(plan, plan->block_count, sizeof(bool));
    size_t with_bytes = 0;
    uint8_t *at;
    int r;

    for (size_t i = 0; i < plan->block_count; i++)
        with_bytes += sum_has_bytes(plan->blocks[i].sum);
    at = alloc_bytes(plan, with_bytes * v->g.block_bytes);
    if (!data || !missing || !at)
        return -ENOMEM;
    for (size_t i = 0; i < plan->block_count; i++) {
        if (!sum_has_bytes(plan->blocks[i].sum))
            continue;
        data[i] = at;
        missing[i] = !load_from_ram(v, &plan->blocks[i], at);
        at += v->g.block_bytes;
    }
    for (size_t i = 0, n; i < plan->block_count; i += n) {
        n = 1;
        if (!missing[i])
            continue;
        r = load_run(v, &plan->blocks[i], &missing[i], plan->block_count - i,
                     data[i]);
        if (r < 0)
            return r;
        n = (size_t)r;
    }
    *ret = data;
    return 0;
}

static int
build_replicas(struct lsvd_volume *v, struct plan *plan,
               uint8_t *const *data)
{
    struct plan_cell *cells = plan_alloc(plan, plan->block_count,
                                         sizeof *cells);

    if (!cells)
        return -ENOMEM;
    for (size_t i = 0; i < plan->block_count; i++) {
        const struct journal_block *b = &plan->blocks[i];

        cells[i].row = geometry_block_in_chunk(&v->g, b->block);
        cells[i].entry = (struct cell_entry){
            volume_cell_sum(v, b->block, b->sum), b->seq};
        cells[i].data = data[i];
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        plan->cells[i] = cells;
        plan->cell_count[i] = (uint32_t)plan->block_count;
    }
    return 0;
}

/* Data cell `slot` of the row as it is now, verified. */
static int
load_old_cell(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
              uint32_t row, uint8_t *to, uint64_t *ret_sum)
{
    struct fragment *f = chunk_fragment(v, c, slot, NULL);
    struct iovec iov = {to, v->g.block_bytes};
    struct cell_entry entry;
    struct stripe stripe;
    struct rows rows;
    bool bad = false, agreed = f && !f->doubtful;
    uint32_t asked = 0;
    int r;

    /* In agreement with every parity of a part that is in use? */
    for (uint32_t i = v->g.data_count; i < v->g.part_count && agreed; i++) {
        enum fragment_state state;
        const struct fragment *parity = chunk_fragment(v, c, i, &state);

        if (state == FRAGMENT_AWAY)
            continue;
        asked++;
        agreed = parity && !parity->doubtful &&
                 fragment_stripe_sum(parity, row, slot) ==
                     fragment_entry(f, row).sum;
    }
    if (agreed && asked > 0) {
        r = fragment_read(f, row, 1, &iov, 1, &bad);
        if (r == 0 && !bad) {
            *ret_sum = fragment_entry(f, row).sum;
            return 0;
        }
        if (r == 0 || r == -EIO)
            volume_note_bad(v, c, slot, row,
                            "the block does not pass its check");
    }
    r = rows_new(v, 1, &rows);
    if (r < 0)
        return r;
    rows_load(v, c, row, 1, &rows);
    rows_judge(v, &rows, row, &stripe);
    if (stripe.state[slot] == CELL_GOOD)
        entry.sum = stripe.sum[slot];
    else
        r = rows_rebuild(v, &rows, &stripe, slot, &entry);
    if (r == -EIO && rows.trouble != 0 && rows.trouble != -EIO)
        r = err_set(rows.trouble, "row %u can't be read now", row);
    if (r == 0) {
        memcpy(to, rows.cell[slot], v->g.block_bytes);
        *ret_sum = entry.sum;
    }
    rows_free(&rows);
    return r;
}

/* What one EC row becomes. */
struct new_row {
    uint32_t row;
    uint8_t *data[EC_DATA_MAX]; /* bytes, zeroes included */
    uint64_t sum[EC_DATA_MAX];
    bool is_new[EC_DATA_MAX];
    struct cell_entry entry[EC_DATA_MAX];
};

struct ec_build {
    struct lsvd_volume *v;
    struct plan *plan;
    struct chunk *chunk; /* pinned; NULL when fresh */
    const uint8_t *zeroes;
    uint8_t *old;    /* K blocks of scratch */
    uint8_t *parity; /* next free parity block; NULL: to be made */
    bool all_answer; /* parts_answer said so */
};

/* Does every part of the view still answer, so that what can't be read of the
 * chunk is lost and not only out of reach? */
static bool
parts_answer(struct lsvd_volume *v, struct chunk *c)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        enum fragment_state state;
        struct label label;
        int damaged, r;

        if (!(v->view.members & UINT32_C(1) << i))
            continue;
        (void)chunk_fragment(v, c, i, &state);
        if (state == FRAGMENT_REFUSED || state == FRAGMENT_ERROR ||
            state == FRAGMENT_AWAY)
            return false;
        r = label_load_fresh(v->part[i].dir, &label, &damaged);
        if (r < 0 || !uuid_equal(&label.instance,
                                 &v->part[i].label.instance))
            return false;
    }
    return true;
}

/* Cells that the journal does not have: zero, or read. */
static int
complete_row(struct ec_build *b, struct new_row *row, bool *ret_needs_redo)
{
    struct lsvd_volume *v = b->v;
    int r;

    *ret_needs_redo = false;
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        uint8_t *old = b->old + (size_t)i * v->g.block_bytes;

        if (row->is_new[i])
            continue;
        row->data[i] = old;
        row->sum[i] = SUM_ZERO_BLOCK;
        memset(old, 0, v->g.block_bytes);
        if (b->plan->fresh ||
            geometry_block_of(&v->g, i, row->row) == UINT32_MAX)
            continue;
        *ret_needs_redo = true;
        r = load_old_cell(v, b->chunk, i, row->row, old, &row->sum[i]);
        if (r == -EIO && !b->all_answer)
            b->all_answer = parts_answer(v, b->chunk);
        if (r == -EIO && !b->all_answer)
            return err_set(-EIO, "row %u can't be read now: not all parts "
                           "answer", row->row);
        if (r == -EIO) {
            /* Lost already: it stays an error (a sum that nothing matches),
             * and must not keep its neighbours from being written. */
            memset(old, 0, v->g.block_bytes);
            row->sum[i] = 1;
            r = 0;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* Are all cells of the row zeroes, whatever their sums are (PA1)? Then parity
 * is a hole, too; but for plan_of_write, all of whose cells have bytes. */
static bool
is_zero_row(const struct lsvd_volume *v, uint64_t chunk,
            const struct new_row *row)
{
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        uint32_t block = geometry_block_of(&v->g, i, row->row);

        if (block != UINT32_MAX &&
            !volume_sum_is_hole(v, geometry_first_block(&v->g, chunk) + block,
                                row->sum[i]))
            return false;
    }
    return true;
}

static int
add_parity(struct ec_build *b, const struct new_row *row)
{
    struct lsvd_volume *v = b->v;
    const uint8_t *data[EC_DATA_MAX];
    uint8_t *parity[EC_PARITY_MAX];
    uint64_t parity_sums[EC_PARITY_MAX];
    uint64_t *sums = plan_alloc(b->plan, v->g.data_count, sizeof *sums);
    bool any;

    if (!sums)
        return -ENOMEM;
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        data[i] = row->data[i];
        sums[i] = row->sum[i];
    }
    for (uint32_t i = 0; i < v->g.parity_count; i++) {
        parity[i] = b->parity;
        b->parity += v->g.block_bytes;
    }
    any = stripe_encode(v, b->plan->chunk, row->row, sums, data, parity,
                        parity_sums) &&
          (b->plan->written || !is_zero_row(v, b->plan->chunk, row));
    for (uint32_t i = 0; i < v->g.parity_count; i++) {
        uint32_t slot = v->g.data_count + i;
        struct plan_cell *cell =
            &b->plan->cells[slot][b->plan->cell_count[slot]++];

        cell->row = row->row;
        cell->entry = (struct cell_entry){parity_sums[i], b->plan->seq};
        cell->stripe_sums = sums;
        cell->data = any ? parity[i] : NULL;
    }
    return 0;
}

static int
build_row(struct ec_build *b, struct new_row *row, uint8_t *const *data)
{
    int r;

    r = complete_row(b, row, &b->plan->row_needs_redo[row->row]);
    if (r < 0)
        return r;
    b->plan->redo_rows += b->plan->row_needs_redo[row->row];
    for (uint32_t i = 0; i < b->v->g.data_count; i++) {
        struct plan_cell *cell;

        if (!row->is_new[i])
            continue;
        cell = &b->plan->cells[i][b->plan->cell_count[i]++];
        cell->row = row->row;
        cell->entry = row->entry[i];
        cell->data = data[i];
    }
    return add_parity(b, row);
}

/* Do the entries say that the row's blocks are in place, by a destage that was
 * checkpointed? */
static bool
seems_in_place(struct ec_build *b, const struct new_row *row)
{
    struct lsvd_volume *v = b->v;
    uint64_t checkpointed = chunk_truth(v, b->plan->chunk).seq;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        enum fragment_state state;
        const struct fragment *f = chunk_fragment(v, b->chunk, i, &state);
        struct cell_entry entry;

        if (state == FRAGMENT_AWAY)
            continue;
        if (!f || f->doubtful || f->seq > checkpointed)
            return false;
        if (i >= v->g.data_count || !row->is_new[i])
            continue;
        entry = fragment_entry(f, row->row);
        if (entry.sum != row->entry[i].sum || entry.seq != row->entry[i].seq)
            return false;
    }
    return true;
}

/* Is there nothing to do for the row, all of it being in place and right? A
 * crash brings back what was destaged while older records held the journal's
 * tail. Redo records for it are in the ring already, and done with: for new
 * ones there need be no room (space_admit). */
static int
is_in_place(struct ec_build *b, const struct new_row *row, bool *ret)
{
    struct lsvd_volume *v = b->v;
    struct stripe stripe;
    struct rows rows;
    int r;

    *ret = false;
    if (b->plan->fresh || !seems_in_place(b, row))
        return 0;
    r = rows_new(v, 1, &rows);
    if (r < 0)
        return r;
    rows_load(v, b->chunk, row->row, 1, &rows);
    rows_judge(v, &rows, row->row, &stripe);
    *ret = stripe.good == v->usable;
    for (uint32_t i = 0; i < v->g.data_count; i++)
        *ret = *ret && (!row->is_new[i] || stripe.sum[i] == row->sum[i]);
    rows_free(&rows);
    return 0;
}

/* Blocks from i on that lie in the row of i. */
static size_t
row_length(struct lsvd_volume *v, const struct plan *plan, size_t i)
{
    uint64_t first = plan->blocks[i].block;
    uint32_t row = geometry_row_of(&v->g,
                                   geometry_block_in_chunk(&v->g, first));
    size_t n = 1;

    while (i + n < plan->block_count &&
           geometry_row_of(&v->g, geometry_block_in_chunk(
                                      &v->g, plan->blocks[i + n].block)) ==
               row)
        n++;
    return n;
}

static size_t
count_rows(struct lsvd_volume *v, const struct plan *plan)
{
    size_t rows = 0;

    for (size_t i = 0; i < plan->block_count; i += row_length(v, plan, i))
        rows++;
    return rows;
}

static int
build_ec(struct ec_build *b, uint8_t *const *data)
{
    struct lsvd_volume *v = b->v;
    struct plan *plan = b->plan;
    uint8_t *zeroes = plan_alloc(plan, 1, v->g.block_bytes);
    size_t n = plan->block_count;

    b->old = plan_alloc(plan, v->g.data_count, v->g.block_bytes);
    if (!b->parity)
        b->parity = alloc_bytes(plan, count_rows(v, plan) *
                                          v->g.parity_count *
                                          v->g.block_bytes);
    plan->row_needs_redo = plan_alloc(plan, v->g.rows, sizeof(bool));
    if (!zeroes || !b->old || !b->parity || !plan->row_needs_redo)
        return -ENOMEM;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        plan->cells[i] = plan_alloc(plan, n, sizeof(struct plan_cell));
        if (!plan->cells[i])
            return -ENOMEM;
    }
    for (size_t i = 0; i < n;) {
        uint8_t *cell_data[EC_DATA_MAX] = {NULL};
        struct new_row row;
        bool in_place;
        int r;

        memset(&row, 0, sizeof row);
        row.row = geometry_row_of(
            &v->g, geometry_block_in_chunk(&v->g, plan->blocks[i].block));
        for (; i < n; i++) {
            const struct journal_block *jb = &plan->blocks[i];
            uint32_t block = geometry_block_in_chunk(&v->g, jb->block);
            uint32_t slot = geometry_fragment_of(&v->g, block);

            if (geometry_row_of(&v->g, block) != row.row)
                break;
            row.is_new[slot] = true;
            row.sum[slot] = volume_cell_sum(v, jb->block, jb->sum);
            row.entry[slot] = (struct cell_entry){row.sum[slot], jb->seq};
            row.data[slot] = data[i] ? data[i] : zeroes;
            cell_data[slot] = data[i];
        }
        r = is_in_place(b, &row, &in_place);
        if (r == 0 && !in_place)
            r = build_row(b, &row, cell_data);
        if (r < 0)
            return r;
    }
    return 0;
}

static uint32_t
first_usable(struct lsvd_volume *v)
{
    return v->usable ? (uint32_t)__builtin_ctz(v->usable) : 0;
}

/* Would anything but zeroes remain in the chunk? Replicas look at the first
 * fragment that can be read. */
static bool
leaves_nothing(struct lsvd_volume *v, const struct plan *plan,
               struct chunk *c)
{
    uint32_t end = v->g.is_ec ? v->g.data_count : 1;

    if (volume_is_clone(v)) /* what it lacks is its parent's */
        return false;
    for (size_t i = 0; i < plan->block_count; i++) {
        if (plan->blocks[i].sum != SUM_ZERO_BLOCK)
            return false;
    }
    for (uint32_t slot = 0; slot < end; slot++) {
        const struct fragment *f = chunk_fragment(
            v, c, v->g.is_ec ? slot : first_usable(v), NULL);
        uint32_t next = 0;

        if (!f || f->doubtful)
            return false;
        for (uint32_t row = 0; row < v->g.rows; row++) {
            if (next < plan->cell_count[slot] &&
                plan->cells[slot][next].row == row) {
                next++;
                continue;
            }
            if (fragment_entry(f, row).sum != SUM_ZERO_BLOCK)
                return false;
        }
    }
    return true;
}

/* Cells of the row that have a block. */
static size_t
row_blocks(struct lsvd_volume *v, uint64_t block)
{
    uint32_t in = geometry_block_in_chunk(&v->g, block);
    uint32_t first = in - in % v->g.data_count;
    uint32_t left = v->g.chunk_blocks - first;

    return left < v->g.data_count ? left : v->g.data_count;
}

/* EC: whole rows, of which at most rows_max need a redo record. A row that the
 * journal holds in full must be destaged as such: what remained of it would
 * need a record that space_admit did not reckon with. */
static void
cut_rows(struct lsvd_volume *v, struct plan *plan, uint32_t rows_max,
         bool is_cut)
{
    size_t rows = 0, n;

    for (size_t i = 0; i < plan->block_count; i += n) {
        n = row_length(v, plan, i);
        if (n < row_blocks(v, plan->blocks[i].block))
            rows++;
        if (i > 0 && (rows > rows_max ||
                      (is_cut && i + n == plan->block_count))) {
            plan->block_count = i;
            return;
        }
    }
}

/* Only rows that have a block from before this sequence. */
static void
keep_old_rows(struct lsvd_volume *v, struct plan *plan, uint64_t before)
{
    size_t kept = 0, n;

    for (size_t i = 0; i < plan->block_count; i += n) {
        bool old = false;

        n = row_length(v, plan, i);
        for (size_t k = 0; k < n; k++)
            old = old || plan->blocks[i + k].seq < before;
        if (!old)
            continue;
        memmove(&plan->blocks[kept], &plan->blocks[i],
                n * sizeof plan->blocks[0]);
        kept += n;
    }
    plan->block_count = kept;
}

/* Take the chunk's newest blocks from the index, no more than fit. */
static int
take_blocks(struct lsvd_volume *v, struct plan *plan, uint32_t rows_max,
            uint64_t before)
{
    size_t total, max = PLAN_BYTES_MAX / v->g.block_bytes;

    journal_chunk_blocks(v->journal, plan->chunk - 1, NULL, 0, &total,
                         &plan->zero_seq);
    if (total < max || before != UINT64_MAX)
        max = total;
    plan->blocks = plan_alloc(plan, max, sizeof *plan->blocks);
    if (!plan->blocks)
        return -ENOMEM;
    plan->block_count = journal_chunk_blocks(v->journal, plan->chunk - 1,
                                             plan->blocks, max, &total,
                                             &plan->zero_seq);
    if (plan->zero_seq != 0 ||
        chunk_truth(v, plan->chunk).state != CHUNK_PRESENT)
        rows_max = UINT32_MAX; /* made anew: none needs a record */
    else if (before != UINT64_MAX)
        keep_old_rows(v, plan, before);
    if (v->g.is_ec)
        cut_rows(v, plan, rows_max,
                 before == UINT64_MAX && total > plan->block_count);
    plan->taken = plan->block_count;
    plan->bulk = plan_is_bulk(v, plan->taken);
    plan->seq = journal_take_seq(v->journal);
    return 0;
}

/* PA1. The chunk was zeroes as a whole, and gets a file: what the journal does
 * not have is zeroes there, too, and must say so. */
static int
fill_with_zeroes(struct lsvd_volume *v, struct plan *plan, uint64_t seq)
{
    uint64_t first = geometry_first_block(&v->g, plan->chunk);
    size_t count = geometry_blocks_in(&v->g, plan->chunk), had = 0;
    struct journal_block *all = plan_alloc(plan, count, sizeof *all);

    if (!all)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        bool has = had < plan->block_count &&
                   plan->blocks[had].block == first + i;

        all[i] = has ? plan->blocks[had++]
                     : (struct journal_block){.block = first + i,
                                              .seq = seq,
                                              .sum = SUM_ZERO_BLOCK};
    }
    plan->blocks = all;
    plan->block_count = count;
    return 0;
}

static int
build(struct lsvd_volume *v, struct plan *plan, struct chunk *c,
      const struct chunk_entry *truth)
{
    struct ec_build b = {.v = v, .plan = plan, .chunk = c};
    uint64_t zero_seq = plan->zero_seq ? plan->zero_seq : truth->seq;
    bool any_data = false;
    uint8_t **data;
    int r = 0;

    for (size_t i = 0; i < plan->block_count; i++)
        any_data |= plan->blocks[i].sum != SUM_ZERO_BLOCK;
    plan->fresh = truth->state != CHUNK_PRESENT || plan->zero_seq != 0;
    if (plan->fresh && !any_data && (zero_seq != 0 || !volume_is_clone(v))) {
        /* also when it was a hole: a destage that was cut short may have
         * left a file that no table knows */
        plan->remove = true;
        return 0;
    }
    if (plan->fresh && zero_seq != 0 && volume_is_clone(v))
        r = fill_with_zeroes(v, plan, zero_seq);
    if (r == 0)
        r = load_new_data(v, plan, &data);
    if (r == 0)
        r = v->g.is_ec ? build_ec(&b, data) : build_replicas(v, plan, data);
    if (r == 0 && !plan->fresh && !any_data)
        plan->remove = leaves_nothing(v, plan, c);
    return r;
}

int
plan_build(struct lsvd_volume *v, uint64_t chunk, uint32_t rows_max,
           uint64_t before, struct plan **ret)
{
    struct plan *plan = plan_new(chunk);
    struct chunk_entry truth;
    struct lease lease;
    struct chunk *c;
    int r;

    if (!plan)
        return -ENOMEM;
    r = take_blocks(v, plan, rows_max, before);
    if (r == 0)
        r = chunk_get(v, chunk, &c);
    if (r < 0) {
        plan_free(plan);
        return r;
    }
    plan->also = resync_parts_of(v, chunk, plan->zero_seq != 0);
    lease_get(&v->chunk_leases, &lease, chunk, chunk + 1, false);
    truth = chunk_truth(v, chunk);
    r = build(v, plan, c, &truth);
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    if (r < 0) {
        plan_free(plan);
        return err_wrap(r, "chunk %llu", (unsigned long long)chunk);
    }
    *ret = plan;
    return 0;
}

/* The blocks with a copy of their bytes, behind which is room for parity:
 * *ret, where each of them is. */
static int
take_written(struct lsvd_volume *v, struct plan *plan, uint64_t first,
             const uint64_t *sums, const void *bytes, uint8_t ***ret)
{
    size_t count = plan->block_count, block_bytes = v->g.block_bytes;
    size_t parity = v->g.is_ec ? count / v->g.data_count * v->g.parity_count
                               : 0;
    uint8_t **data = plan_alloc(plan, count, sizeof(uint8_t *));
    uint8_t *copy;
    int r;

    r = shared_new((count + parity) * block_bytes, &plan->written);
    plan->blocks = plan_alloc(plan, count, sizeof *plan->blocks);
    if (r < 0 || !plan->blocks || !data)
        return -ENOMEM;
    copy = shared_bytes(plan->written);
    memcpy(copy, bytes, count * block_bytes);
    for (size_t i = 0; i < count; i++) {
        plan->blocks[i] = (struct journal_block){.block = first + i,
                                                 .sum = sums[i]};
        data[i] = copy + i * block_bytes;
    }
    *ret = data;
    return 0;
}

int
plan_of_write(struct lsvd_volume *v, uint64_t first, uint32_t count,
              const uint64_t *sums, const void *bytes, struct plan **ret)
{
    struct plan *plan = plan_new(geometry_chunk_of(&v->g, first));
    struct ec_build b = {.v = v, .plan = plan};
    uint8_t **data;
    int r;

    if (!plan)
        return -ENOMEM;
    plan->block_count = count;
    plan->fresh = true; /* there is nothing old in its rows */
    r = take_written(v, plan, first, sums, bytes, &data);
    if (r == 0 && v->g.is_ec)
        b.parity = shared_bytes(plan->written) +
                   (size_t)count * v->g.block_bytes;
    if (r == 0)
        r = v->g.is_ec ? build_ec(&b, data) : build_replicas(v, plan, data);
    if (r < 0) {
        plan_free(plan);
        return r;
    }
    plan->fresh = false;
    assert(plan->redo_rows == 0);
    *ret = plan;
    return 0;
}
