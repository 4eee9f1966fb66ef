/* bypass_write.c: a write that goes past the journal (bypass.h): cells on all
 * parts, then their sums into the journal, then the entries in memory. */
#include "volume/bypass.h"
#include <assert.h>

bool
bypass_is_whole_rows(const struct lsvd_volume *v, uint64_t first,
                     uint32_t count)
{
    return !v->g.is_ec || (first % v->g.data_count == 0 &&
                           count % v->g.data_count == 0);
}

uint32_t
bypass_blocks_max(const struct lsvd_volume *v)
{
    return v->g.is_ec
               ? journal_bypassed_max(v->g.data_count, v->g.parity_count)
               : journal_bypassed_max(1, 0);
}

static bool
any_written(const struct bypass_chunk *b, uint32_t block, uint32_t count)
{
    for (uint32_t i = block; i < block + count; i++) {
        if (b->written[i / 64] >> i % 64 & 1)
            return true;
    }
    return false;
}

static void
note_written(struct bypass_chunk *b, uint32_t block, uint32_t count)
{
    for (uint32_t i = block; i < block + count; i++)
        b->written[i / 64] |= UINT64_C(1) << i % 64;
}

/* Enter as a writer, if these blocks may go this way (BY3, BY5). */
static enum bypass_result
enter(struct lsvd_volume *v, uint64_t first, uint32_t count,
      struct bypass_chunk **ret)
{
    uint32_t block = geometry_block_in_chunk(&v->g, first);
    enum bypass_result result = BYPASS_NOT;
    struct bypass_chunk *b;

    pthread_mutex_lock(&v->table_lock);
    b = bypass_find_locked(v, first, count);
    if (b) {
        result = BYPASS_CONFLICT;
        if (block + count <= v->g.chunk_blocks && !b->closing && !b->broken &&
            !any_written(b, block, count) &&
            bypass_is_whole_rows(v, first, count) &&
            count <= bypass_blocks_max(v)) {
            result = BYPASS_DONE;
            b->writers++;
        }
    }
    pthread_mutex_unlock(&v->table_lock);
    *ret = b;
    return result;
}

/* What is written of a piece to one part: neighbouring cells. */
static int
vector_of(struct lsvd_volume *v, struct plan *plan, uint32_t slot,
          struct iovec **ret)
{
    const struct plan_cell *cells = plan->cells[slot];
    uint32_t count = plan->cell_count[slot];
    struct iovec *iov = plan_alloc(plan, count, sizeof *iov), *last = NULL;
    size_t bytes = v->g.block_bytes;

    if (!iov)
        return -ENOMEM;
    *ret = iov;
    for (uint32_t i = 0; i < count; i++) {
        assert(cells[i].row == cells[0].row + i && cells[i].data);
        if (last && cells[i].data ==
                        (uint8_t *)last->iov_base + last->iov_len) {
            last->iov_len += bytes;
            continue;
        }
        last = last ? last + 1 : iov;
        *last = (struct iovec){cells[i].data, bytes};
    }
    atomic_fetch_add(&v->count.part_bytes, count * bytes);
    return (int)(last - iov) + 1;
}

static void
begin_to_put(struct lsvd_volume *v, struct bypass_chunk *b, struct plan *plan,
             uint32_t slot, struct guard_write *ret)
{
    struct fragment *f = chunk_fragment(v, b->pin, slot, NULL);
    struct iovec *iov;
    int count = f && f->writable ? vector_of(v, plan, slot, &iov) : -EIO;

    *ret = (struct guard_write){.result = count};
    if (count > 0)
        fragment_put_begin(f, plan->cells[slot][0].row, plan->written, iov,
                           count, ret);
}

/* The piece's bytes, on all parts side by side, whatever one says. The lease is
 * shared: no entry tells of these cells yet, so nobody reads them. */
static int
put_in_place(struct lsvd_volume *v, struct bypass_chunk *b, struct plan *plan)
{
    struct guard_write write[PARTS_MAX];
    struct lease lease;
    int r;

    r = volume_check_ours(v); /* OW4, OW5 */
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, false);
    for (uint32_t i = 0; i < v->g.part_count; i++)
        begin_to_put(v, b, plan, i, &write[i]);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        int put = guard_write_end(&write[i]);

        if (put < 0)
            part_suspect(v, i, put);
        r = put < 0 ? put : r;
    }
    lease_put(&v->chunk_leases, &lease);
    return r;
}

/* The sums of the piece: its blocks', then of each row its parities'. */
static int
append_sums(struct lsvd_volume *v, struct plan *plan, uint64_t *ret_seq)
{
    uint32_t count = (uint32_t)plan->block_count, at = count;
    uint32_t rows = v->g.is_ec ? count / v->g.data_count : 0;
    uint32_t more = rows * v->g.parity_count;
    uint64_t *sums = plan_alloc(plan, count + more, sizeof *sums);
    struct journal_bypassed record = {.first = plan->blocks[0].block,
                                      .count = count,
                                      .more = more,
                                      .sums = sums};

    if (!sums)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        sums[i] = plan->blocks[i].sum;
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t i = v->g.data_count; i < v->g.part_count; i++)
            sums[at++] = plan->cells[i][row].entry.sum;
    }
    return journal_append_bypassed(v->journal, &record, ret_seq);
}

/* Caller holds the chunk lease. Could all parts have been asked? */
static bool
has_all_files(struct lsvd_volume *v, struct bypass_chunk *b)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!chunk_fragment(v, b->pin, i, NULL))
            return false;
    }
    return true;
}

/* From here on readers find the blocks (BY4): on all parts, or on none. */
static int
set_entries(struct lsvd_volume *v, struct bypass_chunk *b,
            const struct plan *plan, uint64_t seq)
{
    struct lease lease;
    bool may;

    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, true);
    may = has_all_files(v, b);
    for (uint32_t i = 0; may && i < v->g.part_count; i++) {
        struct fragment *f = chunk_fragment(v, b->pin, i, NULL);

        for (uint32_t k = 0; f && k < plan->cell_count[i]; k++) {
            const struct plan_cell *cell = &plan->cells[i][k];

            fragment_set_entry(f, cell->row,
                               (struct cell_entry){cell->entry.sum, seq},
                               cell->stripe_sums);
        }
        if (f && f->seq < seq)
            f->seq = seq;
    }
    pthread_mutex_lock(&v->table_lock);
    if (b->newest < seq)
        b->newest = seq;
    pthread_mutex_unlock(&v->table_lock);
    lease_put(&v->chunk_leases, &lease);
    return may ? 0 : -EIO;
}

static void
begin_syncs(struct lsvd_volume *v, struct bypass_chunk *b)
{
    struct lease lease;

    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, false);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct fragment *f = chunk_fragment(v, b->pin, i, NULL);

        if (f)
            fragment_start_sync(f);
    }
    lease_put(&v->chunk_leases, &lease);
}

static void
add_piece(struct lsvd_volume *v, struct bypass_chunk *b, struct plan *plan)
{
    uint64_t first = plan->blocks[0].block;
    bool is_full;

    pthread_mutex_lock(&v->table_lock);
    note_written(b, geometry_block_in_chunk(&v->g, first),
                 (uint32_t)plan->block_count);
    b->blocks += (uint32_t)plan->block_count;
    is_full = b->blocks == v->g.chunk_blocks;
    plan->next = b->pieces;
    b->pieces = plan;
    pthread_mutex_unlock(&v->table_lock);
    atomic_fetch_add(&v->count.bypass_bytes,
                     plan->block_count * v->g.block_bytes);
    if (is_full)
        begin_syncs(v, b);
}

enum bypass_result
bypass_write(struct lsvd_volume *v, uint64_t first, uint32_t count,
             const uint64_t *sums, const uint8_t *data)
{
    enum bypass_result result;
    struct bypass_chunk *b;
    struct plan *plan = NULL;
    uint64_t seq;
    int r;

    if (atomic_load(&v->bypass.count) == 0)
        return BYPASS_NOT;
    result = enter(v, first, count, &b);
    if (result != BYPASS_DONE)
        return result;
    r = plan_of_write(v, first, count, sums, data, &plan);
    if (r == 0)
        r = put_in_place(v, b, plan);
    if (r == 0)
        r = append_sums(v, plan, &seq);
    if (r == 0)
        r = set_entries(v, b, plan, seq);
    if (r == 0)
        add_piece(v, b, plan);
    else
        plan_free(plan);
    bypass_leave(v, b, r);
    return r == 0 ? BYPASS_DONE : BYPASS_CONFLICT; /* BY6 */
}
