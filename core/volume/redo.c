/* redo.c: the record that closes the EC write hole (faults.md section 3).
 *
 * For each row of a plan that the journal does not cover, the record holds
 * the new parity and all stripe sums, and says where in the journal the new
 * data lies. It is durable before the first byte in place, so that after a
 * cut the stripe can be finished without reading anything from the parts -
 * also with parts missing.
 * (E6) After a crash every record is re-applied before any row is read.
 * A record is done with once a chunk table has the chunk at its sequence:
 * tables are stored only after the bytes are durable on all parts.
 *
 * Body: magic u32, rows u32, chunk u64, seq u64; per row: row u32, mask u32
 * of new data cells, per new cell {block, seq, sum, at} u64 each, K stripe
 * sums u64, per parity cell sum u64 and (unless 0) the bytes. */
#include "volume/parent.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDO_MAGIC UINT32_C(0x4f444552)
#define REDO_HEAD_BYTES 24u

struct redo_item {
    struct redo_item *next;
    bool everywhere; /* every part has the file, with these bytes or newer */
    size_t bytes;
    uint8_t body[];
};

struct redo_list {
    struct redo_item *first, *last;
};

static const struct journal_block *
block_at(const struct lsvd_volume *v, const struct plan *plan, uint32_t slot,
         uint32_t row)
{
    uint64_t block = geometry_first_block(&v->g, plan->chunk) +
                     geometry_block_of(&v->g, slot, row);
    size_t low = 0, high = plan->block_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (plan->blocks[middle].block < block)
            low = middle + 1;
        else
            high = middle;
    }
    return &plan->blocks[low];
}

uint64_t
redo_row_bytes(const struct lsvd_volume *v)
{
    return 8 + v->g.data_count * (32u + 8u) +
           (size_t)v->g.parity_count * (8u + v->g.block_bytes);
}

/* next[i]: index in plan->cells[i] of the first cell at or after the row. */
static void
encode_row(struct lsvd_volume *v, const struct plan *plan, uint32_t *next,
           uint32_t row, struct byte_writer *out)
{
    static const uint8_t zeroes[BLOCK_BYTES_MAX];
    const struct plan_cell *parity =
        &plan->cells[v->g.data_count][next[v->g.data_count]];
    uint32_t mask = 0;

    for (uint32_t i = 0; i < v->g.data_count; i++) {
        if (next[i] < plan->cell_count[i] &&
            plan->cells[i][next[i]].row == row)
            mask |= UINT32_C(1) << i;
    }
    write_u32(out, row);
    write_u32(out, mask);
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        const struct journal_block *b;

        if (!(mask & UINT32_C(1) << i))
            continue;
        b = block_at(v, plan, i, row);
        write_u64(out, b->block);
        write_u64(out, b->seq);
        write_u64(out, b->sum);
        write_u64(out, b->at);
    }
    for (uint32_t i = 0; i < v->g.data_count; i++)
        write_u64(out, parity->stripe_sums[i]);
    for (uint32_t i = v->g.data_count; i < v->g.part_count; i++) {
        const struct plan_cell *cell = &plan->cells[i][next[i]];

        write_u64(out, cell->entry.sum);
        if (cell->entry.sum != SUM_ZERO_BLOCK)
            write_bytes(out, cell->data ? cell->data : zeroes,
                        v->g.block_bytes);
    }
}

int
redo_encode(struct lsvd_volume *v, const struct plan *plan, uint8_t **ret,
            size_t *ret_bytes)
{
    uint32_t next[PARTS_MAX] = {0}, rows = 0, p = v->g.data_count;
    struct byte_writer out;
    uint8_t *body;
    size_t size;
    int r;

    *ret = NULL;
    *ret_bytes = 0;
    if (!plan->row_needs_redo || plan->remove)
        return 0;
    for (uint32_t i = 0; i < plan->cell_count[p]; i++)
        rows += plan->row_needs_redo[plan->cells[p][i].row];
    if (rows == 0)
        return 0;
    size = REDO_HEAD_BYTES + rows * redo_row_bytes(v);
    r = mem_new_aligned(size, &body);
    if (r < 0)
        return r;
    out = (struct byte_writer){body, size, false};
    write_u32(&out, REDO_MAGIC);
    write_u32(&out, rows);
    write_u64(&out, plan->chunk);
    write_u64(&out, plan->seq);
    for (; next[p] < plan->cell_count[p]; ) {
        uint32_t row = plan->cells[p][next[p]].row;

        if (plan->row_needs_redo[row])
            encode_row(v, plan, next, row, &out);
        for (uint32_t i = 0; i < v->g.part_count; i++) {
            if (next[i] < plan->cell_count[i] &&
                plan->cells[i][next[i]].row == row)
                next[i]++;
        }
    }
    *ret = body;
    *ret_bytes = size - out.left;
    return out.overrun ? err_set(-EIO, "redo record too small") : 0;
}

static struct plan_cell *
next_cell(struct plan *plan, uint32_t slot, uint32_t row)
{
    struct plan_cell *cell = &plan->cells[slot][plan->cell_count[slot]++];

    cell->row = row;
    return cell;
}

static int
decode_data(struct lsvd_volume *v, struct byte_reader *in, struct plan *plan,
            uint32_t row, uint32_t mask)
{
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        struct journal_block b;
        struct plan_cell *cell;
        int r;

        if (!(mask & UINT32_C(1) << i))
            continue;
        b.block = read_u64(in);
        b.seq = read_u64(in);
        b.sum = read_u64(in);
        b.at = read_u64(in);
        if (in->overrun ||
            b.block != geometry_first_block(&v->g, plan->chunk) +
                           geometry_block_of(&v->g, i, row))
            return err_set(-EBADMSG, "redo record names a wrong block");
        cell = next_cell(plan, i, row);
        cell->entry = (struct cell_entry){
            volume_cell_sum(v, b.block, b.sum), b.seq};
        if (!sum_has_bytes(b.sum))
            continue;
        cell->data = plan_alloc(plan, 1, v->g.block_bytes);
        if (!cell->data)
            return -ENOMEM;
        r = journal_read_at(v->journal, &b, volume_block_seed(v, b.block),
                            cell->data);
        if (r < 0)
            return r;
    }
    return 0;
}

static int
decode_parity(struct lsvd_volume *v, struct byte_reader *in,
              struct plan *plan, uint32_t row)
{
    uint64_t *sums = plan_alloc(plan, v->g.data_count, sizeof *sums);

    if (!sums)
        return -ENOMEM;
    for (uint32_t i = 0; i < v->g.data_count; i++)
        sums[i] = read_u64(in);
    for (uint32_t i = v->g.data_count; i < v->g.part_count; i++) {
        struct plan_cell *cell = next_cell(plan, i, row);

        cell->stripe_sums = sums;
        cell->entry.sum = read_u64(in);
        cell->entry.seq = plan->seq;
        if (cell->entry.sum == SUM_ZERO_BLOCK)
            continue;
        cell->data = plan_alloc(plan, 1, v->g.block_bytes);
        if (!cell->data)
            return -ENOMEM;
        read_bytes(in, cell->data, v->g.block_bytes);
    }
    return in->overrun ? err_set(-EBADMSG, "redo record is cut short") : 0;
}

static int
decode_rows(struct lsvd_volume *v, struct byte_reader *in, uint32_t rows,
            struct plan *plan)
{
    uint32_t last = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        plan->cells[i] = plan_alloc(plan, rows, sizeof(struct plan_cell));
        if (!plan->cells[i])
            return -ENOMEM;
    }
    for (uint32_t n = 0; n < rows; n++) {
        uint32_t row = read_u32(in), mask = read_u32(in);
        int r;

        if (in->overrun || row >= v->g.rows || (n > 0 && row <= last) ||
            mask >> v->g.data_count)
            return err_set(-EBADMSG, "redo record names a wrong row");
        last = row;
        r = decode_data(v, in, plan, row, mask);
        if (r == 0)
            r = decode_parity(v, in, plan, row);
        if (r < 0)
            return r;
    }
    return 0;
}

static int
decode_head(struct lsvd_volume *v, struct byte_reader *in, uint32_t *ret_rows,
            uint64_t *ret_chunk, uint64_t *ret_seq)
{
    uint32_t magic = read_u32(in);

    *ret_rows = read_u32(in);
    *ret_chunk = read_u64(in);
    *ret_seq = read_u64(in);
    if (in->overrun || magic != REDO_MAGIC || *ret_rows > v->g.rows ||
        *ret_chunk < 1 || *ret_chunk > geometry_chunk_count(&v->g) ||
        !v->g.is_ec)
        return err_set(-EBADMSG, "damaged redo record");
    return 0;
}

int
redo_decode(struct lsvd_volume *v, const uint8_t *body, size_t bytes,
            struct plan **ret)
{
    struct byte_reader in = {body, bytes, false};
    struct plan *plan;
    uint64_t chunk, seq;
    uint32_t rows;
    int r;

    r = decode_head(v, &in, &rows, &chunk, &seq);
    if (r < 0)
        return r;
    plan = plan_new(chunk);
    if (!plan)
        return -ENOMEM;
    plan->seq = seq;
    r = decode_rows(v, &in, rows, plan);
    if (r < 0) {
        plan_free(plan);
        return r;
    }
    *ret = plan;
    return 0;
}

struct redo_list *
redo_list_new(void)
{
    struct redo_list *list;

    return mem_new(1, sizeof *list, &list) < 0 ? NULL : list;
}

bool
redo_list_is_empty(const struct redo_list *list)
{
    return !list->first;
}

void
redo_list_free(struct redo_list *list)
{
    struct redo_item *item, *next;

    for (item = list ? list->first : NULL; item; item = next) {
        next = item->next;
        free(item);
    }
    free(list);
}

int
redo_remember(void *ctx, uint64_t seq, const uint8_t *body, size_t bytes)
{
    struct redo_list *list = ctx;
    struct redo_item *item;
    int r;

    (void)seq;
    r = mem_new(1, sizeof *item + bytes, &item);
    if (r < 0)
        return r;
    item->bytes = bytes;
    memcpy(item->body, body, bytes);
    if (list->last)
        list->last->next = item;
    else
        list->first = item;
    list->last = item;
    return 0;
}

/* Parts whose file of the chunk can take the bytes; a damaged or missing one
 * is for repair, not for replay. */
static int
parts_with_file(struct lsvd_volume *v, struct chunk *c, uint32_t *ret)
{
    *ret = 0;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((v->usable & UINT32_C(1) << i) && chunk_fragment(v, c, i, NULL))
            *ret |= UINT32_C(1) << i;
    }
    return 0;
}

/* The same. One that can't be opened just now, and is left out, is stale from
 * then on: so the others must be able to make it anew. */
static int
ask_for_files(struct lsvd_volume *v, struct chunk *c, uint32_t *ret)
{
    uint32_t failed = v->failed, count;
    int r = chunk_files_answer(v, c);
    char text[256];

    *ret = 0;
    if (r < 0 && r != -EIO)
        return r;
    snprintf(text, sizeof text, "%s", err_text());
    (void)parts_with_file(v, c, ret);
    count = (uint32_t)__builtin_popcount(*ret);
    if (r < 0 && count < v->g.data_count)
        return err_set(r, "%s", text);
    v->failed = failed;
    return 0;
}

static int
redo_apply(struct lsvd_volume *v, struct redo_item *item)
{
    struct byte_reader in = {item->body, item->bytes, false};
    struct chunk_entry truth;
    struct plan *plan;
    struct chunk *c;
    uint64_t chunk, seq;
    uint32_t rows, parts;
    int r;

    r = decode_head(v, &in, &rows, &chunk, &seq);
    if (r < 0)
        return r;
    truth = tables_truth(v, chunk);
    if (truth.state != CHUNK_PRESENT)
        return 0;
    r = chunk_get(v, chunk, &c);
    if (r < 0)
        return r;
    /* Rows beside those of the record, which look as if they were in place, may
     * be so in the page cache alone. */
    if (truth.seq < seq)
        chunk_read_anew(v, c);
    r = truth.seq < seq ? ask_for_files(v, c, &parts)
                        : parts_with_file(v, c, &parts);
    item->everywhere = parts == v->usable;
    if (r == 0 && truth.seq >= seq) {
        chunk_put(v, c);
        return 0;
    }
    if (r == 0)
        r = redo_decode(v, item->body, item->bytes, &plan);
    if (r < 0) {
        chunk_put(v, c);
        return r;
    }
    plan->pin = c;
    r = plan_apply(v, plan, parts);
    if (r == 0)
        r = plan_sync(v, plan, parts);
    plan_release(v, plan);
    plan_free(plan);
    return r;
}

static int
mark_applied(struct lsvd_volume *v, const struct redo_item *item)
{
    struct byte_reader in = {item->body, item->bytes, false};
    struct chunk_entry entry = {.state = CHUNK_PRESENT};
    uint64_t chunk;
    uint32_t rows;
    int r;

    r = decode_head(v, &in, &rows, &chunk, &entry.seq);
    if (r < 0)
        return r;
    if (tables_truth(v, chunk).seq >= entry.seq)
        return 0;
    pthread_mutex_lock(&v->table_lock);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if (v->usable & UINT32_C(1) << i)
            r = chunk_table_set(v->part[i].table, chunk, entry);
    }
    pthread_mutex_unlock(&v->table_lock);
    return r;
}

/* All tables alike: what one says is durable on all parts (D4). A table that
 * lagged behind could later, with the others away, have an old record applied
 * over newer bytes. */
int
tables_level(struct lsvd_volume *v)
{
    uint64_t chunk = next_known_chunk(v, 1);
    int r = 0;

    for (; chunk && r == 0; chunk = next_known_chunk(v, chunk + 1)) {
        struct chunk_entry truth = tables_truth(v, chunk);

        pthread_mutex_lock(&v->table_lock);
        for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
            struct chunk_table *t = v->usable & UINT32_C(1) << i
                                        ? v->part[i].table
                                        : NULL;

            if (t && chunk_table_get(t, chunk).seq < truth.seq)
                r = chunk_table_set(t, chunk, truth);
        }
        pthread_mutex_unlock(&v->table_lock);
    }
    return r < 0 ? r : tables_store(v, v->usable);
}

/* What the record put on all parts needs no second one: without this every
 * crash would leave less room for the records of the next try. */
static int
forget_applied(struct lsvd_volume *v, const struct redo_item *item)
{
    struct plan *plan;
    int r;

    if (!item->everywhere)
        return 0;
    r = redo_decode(v, item->body, item->bytes, &plan);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        for (uint32_t n = 0; n < plan->cell_count[i]; n++) {
            const struct plan_cell *cell = &plan->cells[i][n];
            struct journal_block b = {
                .block = geometry_first_block(&v->g, plan->chunk) +
                         geometry_block_of(&v->g, i, cell->row),
                .seq = cell->entry.seq,
            };

            journal_forget(v->journal, plan->chunk - 1, &b, 1, 0);
        }
    }
    plan_free(plan);
    return 0;
}

int
redo_apply_all(struct lsvd_volume *v, struct redo_list *list)
{
    struct redo_item *item;
    int r = 0;

    for (item = list->first; item && r == 0; item = item->next)
        r = redo_apply(v, item);
    return r;
}

int
redo_checkpoint(struct lsvd_volume *v, struct redo_list *list)
{
    struct redo_item *item;
    int r = 0;

    for (item = list->first; item && r == 0; item = item->next)
        r = mark_applied(v, item);
    if (r == 0)
        r = tables_level(v);
    for (item = list->first; item && r == 0; item = item->next)
        r = forget_applied(v, item);
    return r;
}
