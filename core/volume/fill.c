/* fill.c: bringing one fragment of a part that is being filled up to date.
 *
 * A part that was away for a minute lacks a few cells of a chunk, not the
 * chunk: what it has is kept, and only the others are copied. Nobody reads the
 * file meanwhile (RS1), and its table says that it lacks the chunk until all
 * of it is durable (RS2), so it is mended where it is.
 * (FI1) A cell is kept only if its entry is what the members' entries say and
 *       its bytes pass their check: an earlier fill that was cut short may have
 *       left entries whose bytes never came, or a destage bytes where the
 *       entry says zero. They are read from the medium:
 *       after a sync that failed the page cache shows bytes that are not there
 *       and that no later sync writes.
 * (FI2) The part's own cells are never a source, whatever sequence they carry:
 *       they may be of a history that was given up.
 * (FI3) A cell that no member has gets an entry that no bytes match: what the
 *       part had there is old, and must not be read as if it were not. Whether
 *       no member has it is not known while one does not answer.
 * A file that is missing, damaged or another instance's is made anew
 * (rebuild.c). */
#include "base/sum.h"
#include "volume/parent.h"
#include "volume/refer.h"
#include "volume/resync.h"
#include <string.h>

struct fill {
    struct lsvd_volume *v;
    struct chunk *chunk;
    uint32_t slot;
    struct fragment *own;
    struct rows rows;
    uint64_t cells; /* written or punched */
};

/* Does the entry say what the judged members' entries do? */
static bool
is_as_it_should(const struct fill *fill, const struct stripe *stripe)
{
    const struct geometry *g = &fill->v->g;
    struct cell_entry own = fragment_entry(fill->own, stripe->row);

    if (!g->is_ec)
        return own.seq == stripe->seq && own.sum == stripe->sum[0];
    if (!geometry_is_parity(g, fill->slot))
        return own.sum == stripe->sum[fill->slot];
    for (uint32_t i = 0; i < g->data_count; i++) {
        if (fragment_stripe_sum(fill->own, stripe->row, i) != stripe->sum[i])
            return false;
    }
    return true;
}

/* FI1. lacks: one for each row. */
static int
look(struct fill *fill, uint32_t first, uint32_t count, bool *lacks)
{
    struct lsvd_volume *v = fill->v;
    struct rows *rows = &fill->rows;
    struct iovec iov = {rows->cell[fill->slot],
                        (size_t)count * v->g.block_bytes};
    bool bad[ROWS_AT_ONCE];
    int r;

    memset(lacks, true, count);
    if (!rows_peek(v, fill->chunk, first, count, rows))
        return 0;
    r = fragment_read_all(fill->own, first, count, &iov, 1, bad);
    if (r == -ETIMEDOUT || r == -ENOMEM)
        return r;
    for (uint32_t i = 0; i < count; i++) {
        struct stripe stripe;

        rows_judge(v, rows, first + i, &stripe);
        lacks[i] = bad[i] || !is_as_it_should(fill, &stripe);
    }
    return 0;
}

static int
take_over(struct fill *fill, uint32_t row, enum cell_change *ret)
{
    struct lsvd_volume *v = fill->v;
    struct cell_entry entry;
    struct stripe stripe;
    bool known;
    int r = 0;

    rows_judge(v, &fill->rows, row, &stripe);
    known = rows_rebuild(v, &fill->rows, &stripe, fill->slot, &entry) == 0;
    if (!known) {
        r = fragment_judge_unknown(v, fill->slot, fill->chunk->number,
                                   fill->rows.trouble);
        entry = (struct cell_entry){1, stripe.seq}; /* FI3 */
    }
    *ret = CELL_KEEP;
    if (r < 0)
        return r;
    fragment_set_entry(fill->own, row, entry,
                       geometry_is_parity(&v->g, fill->slot) ? stripe.sum
                                                             : NULL);
    if (known)
        *ret = !sum_has_bytes(entry.sum) ||
                       volume_cell_is_hole(v, &fill->rows, fill->slot, row)
                   ? CELL_PUNCH
                   : CELL_WRITE;
    return 0;
}

static int
copy_rows(struct fill *fill, uint32_t first, uint32_t count)
{
    enum cell_change change[ROWS_AT_ONCE];
    int r = 0;

    rows_load(fill->v, fill->chunk, first, count, &fill->rows);
    for (uint32_t i = 0; i < count && r == 0; i++)
        r = take_over(fill, first + i, &change[i]);
    if (r < 0)
        return r;
    fill->cells += count;
    return rows_change(fill->v, &fill->rows, fill->slot, fill->own, change);
}

static int
fill_rows(void *ctx, uint32_t first, uint32_t count)
{
    struct fill *fill = ctx;
    bool lacks[ROWS_AT_ONCE];
    uint32_t end;
    int r = look(fill, first, count, lacks);

    for (uint32_t i = 0; i < count && r == 0; i = end) {
        end = i + 1;
        while (end < count && lacks[end] == lacks[i])
            end++;
        if (lacks[i])
            r = copy_rows(fill, first + i, end - i);
    }
    return r;
}

/* A member whose file can't be opened now may be able to in a moment: what all
 * of the chunk hangs on is not called lost for that. */
static int
check_sources(struct fill *fill)
{
    struct lsvd_volume *v = fill->v;
    uint32_t have = 0, needed = v->g.is_ec ? v->g.data_count : 1;
    /* not -EIO: that it is lost takes more than one look */
    int trouble = -ETIMEDOUT;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        enum fragment_state state;

        have += chunk_fragment(v, fill->chunk, i, &state) != NULL;
        rows_trouble(&trouble, fragment_trouble(state));
    }
    return have >= needed ? 0
                          : fragment_judge_unknown(v, fill->slot,
                                                   fill->chunk->number,
                                                   trouble);
}

static int
fill_in_place(struct fill *fill)
{
    struct lsvd_volume *v = fill->v;
    int r = check_sources(fill);

    if (r == 0)
        r = rows_new(v, rows_at_once(v), &fill->rows);
    if (r == 0)
        r = rows_each(v, fill_rows, fill);
    rows_free(&fill->rows);
    /* also when nothing was written: an earlier fill's bytes may not be
     * durable yet */
    if (r == 0)
        r = fragment_store_meta(fill->own,
                                fragment_newest_seq(v, fill->chunk));
    if (r == 0)
        r = fragment_sync(fill->own);
    return r;
}

/* FI1: header and table, too, are read from the medium. */
static int
forget_cached(struct fill *fill)
{
    struct object *object;
    char name[24];
    int r;

    fragment_name(fill->chunk->number, name);
    r = target_open(fill->v->part[fill->slot].dir, name, 0, &object);
    if (r < 0)
        return r;
    object_drop_cache(object);
    object_close(object);
    return 0;
}

/* The part's file, if it can be mended where it is. */
static int
open_own(struct fill *fill)
{
    struct lsvd_volume *v = fill->v;
    struct fragment_id id = {.volume = v->meta.uuid,
                             .instance = v->part[fill->slot].label.instance,
                             .chunk = fill->chunk->number,
                             .fragment = fill->slot};
    int r;

    /* what destage has of it open would not see what changes */
    chunk_forget_fragment(v, fill->chunk, fill->slot);
    r = forget_cached(fill);
    if (r == 0)
        r = fragment_open(v->part[fill->slot].dir, &v->g, &id, true,
                          &fill->own);
    if (r < 0)
        return r;
    if (fill->own->doubtful) {
        fragment_close(fill->own);
        return -EBADMSG;
    }
    return 0;
}

static int
make_anew(struct fill *fill, uint64_t *ret_bytes)
{
    struct lsvd_volume *v = fill->v;
    uint64_t lost;
    int r = fragment_rebuild(v, fill->chunk->number, fill->slot, &lost);

    if (r > 0)
        *ret_bytes = geometry_file_bytes(&v->g, fill->slot);
    return r < 0 ? r : 0;
}

int
fragment_fill(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
              uint64_t *ret_bytes)
{
    struct fill fill = {.v = v, .slot = slot};
    struct chunk_entry truth = chunk_truth(v, chunk);
    struct lease lease;
    int r;

    *ret_bytes = 0;
    r = chunk_get(v, chunk, &fill.chunk);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, chunk, chunk + 1, false);
    r = open_own(&fill);
    if (r == 0) {
        r = references_mend(v, fill.chunk, slot);
        if (r >= 0)
            r = fill_in_place(&fill);
        fragment_close(fill.own);
        *ret_bytes = fill.cells * v->g.block_bytes;
        lease_put(&v->chunk_leases, &lease);
        if (r == 0)
            r = fragment_declare_whole(v, chunk, slot, truth);
    } else {
        lease_put(&v->chunk_leases, &lease);
        r = make_anew(&fill, ret_bytes);
    }
    chunk_put(v, fill.chunk);
    return r;
}
