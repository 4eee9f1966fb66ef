/* rebuild.c: putting a fragment right, and refilling parts.
 *
 * A fragment is made anew beside the old one, cell by cell from whatever is
 * good - its own cells included -, synced, read again from the medium, and
 * only then takes the old one's name. Killed anywhere it can be run again.
 * (F1) Never from a source that fails its check; never over the last good
 *      copy: what the old file alone holds is copied into the new one. It is
 *      read twice, to be judged and to be copied: what was there the first time
 *      and is not the second ends it.
 * (F2) A cell that nobody has stays an error; it does not become zeroes. A file
 *      with such cells is not replaced but mended in place, and not even that
 *      if it can't be opened now: what can't be read today (no memory, a bad
 *      cable) may be readable tomorrow.
 * (F3) Zero cells are not written: sparse stays sparse. */
#include "volume/parent.h"
#include "volume/refer.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rebuild {
    struct lsvd_volume *v;
    struct chunk *chunk;
    uint32_t slot;
    struct fragment *own; /* the old file, or NULL */
    struct fragment *to;  /* the new one; NULL: only judging, or in place */
    bool in_place;        /* no room for a second file: mend the old one */
    bool no_old;          /* there is no old file, own is NULL */
    bool replaced;        /* the name is another file's now */
    uint64_t wrong;   /* cells found that can be made right */
    uint64_t unknown; /* cells that nobody has */
    uint64_t lost;    /* of these, those that the journal has not either */
    int trouble;      /* why they are unknown (rows_trouble) */
    uint64_t seq;     /* newest seen */
    struct rows rows; /* while they are gone through */
};

static bool
journal_has(struct rebuild *b, uint32_t slot, uint32_t row)
{
    struct lsvd_volume *v = b->v;
    uint32_t block = geometry_block_of(&v->g, slot, row);
    uint8_t have = 0;

    if (!v->journal || block == UINT32_MAX)
        return false;
    journal_lookup(v->journal,
                   geometry_first_block(&v->g, b->chunk->number) + block, 1,
                   &have);
    return have != 0;
}

/* A cell that a destage cut short left torn everywhere is not lost: the
 * journal has its block, and the next destage writes it. Parity is of use only
 * for blocks that neither the journal nor their own cells have. */
static bool
journal_covers(struct rebuild *b, const struct stripe *stripe)
{
    struct lsvd_volume *v = b->v;

    if (!geometry_is_parity(&v->g, b->slot))
        return journal_has(b, b->slot, stripe->row);
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        if (stripe->state[i] != CELL_GOOD &&
            sum_has_bytes(stripe->sum[i]) &&
            !journal_has(b, i, stripe->row))
            return false;
    }
    return true;
}

/* What the cell should be: bytes in rows->cell[slot] and its entry. False:
 * nobody knows. */
static bool
right_cell(struct rebuild *b, const struct stripe *stripe,
           struct cell_entry *ret)
{
    uint32_t slot = b->slot;

    /* A file that could not be opened at first may have been a moment later:
     * what its cells say was judged with another look than own. */
    if (stripe->state[slot] == CELL_GOOD && b->own) {
        *ret = fragment_entry(b->own, stripe->row);
        return true;
    }
    if (rows_rebuild(b->v, &b->rows, stripe, slot, ret) == 0) {
        b->wrong++;
        return true;
    }
    b->unknown++;
    rows_trouble(&b->trouble, b->rows.trouble);
    b->lost += !journal_covers(b, stripe);
    *ret = (struct cell_entry){1, stripe->seq}; /* matches no bytes */
    return false;
}

/* What is to become of the cell in the file; its entry is set here. */
static enum cell_change
judge_cell(struct rebuild *b, const struct stripe *stripe)
{
    struct lsvd_volume *v = b->v;
    struct fragment *to = b->in_place ? b->own : b->to;
    bool parity = geometry_is_parity(&v->g, b->slot);
    struct cell_entry entry;
    bool known = right_cell(b, stripe, &entry);

    if (!to || (b->in_place && stripe->state[b->slot] == CELL_GOOD))
        return CELL_KEEP;
    if (b->in_place && !known &&
        fragment_entry(to, stripe->row).sum != SUM_ZERO_BLOCK)
        return CELL_KEEP; /* its bytes and its sum stay as they are */
    if (entry.sum != SUM_ZERO_BLOCK || entry.seq != 0)
        fragment_set_entry(to, stripe->row, entry,
                           parity ? stripe->sum : NULL);
    if (!known)
        return CELL_KEEP;
    if (sum_has_bytes(entry.sum) &&
        !volume_cell_is_hole(v, &b->rows, b->slot, stripe->row))
        return CELL_WRITE;
    return b->in_place ? CELL_PUNCH : CELL_KEEP;
}

static int
rebuild_rows(void *ctx, uint32_t first, uint32_t count)
{
    struct rebuild *b = ctx;
    struct fragment *to = b->in_place ? b->own : b->to;
    enum cell_change change[ROWS_AT_ONCE];

    rows_load(b->v, b->chunk, first, count, &b->rows);
    for (uint32_t i = 0; i < count; i++) {
        struct stripe stripe;

        rows_judge(b->v, &b->rows, first + i, &stripe);
        change[i] = judge_cell(b, &stripe);
    }
    return to ? rows_change(b->v, &b->rows, b->slot, to, change) : 0;
}

static int
rebuild_all_rows(struct rebuild *b)
{
    int r;

    b->wrong = b->unknown = b->lost = 0;
    b->trouble = 0;
    r = rows_new(b->v, rows_at_once(b->v), &b->rows);
    if (r == 0)
        r = rows_each(b->v, rebuild_rows, b);
    rows_free(&b->rows);
    return r;
}

struct written {
    struct fragment *fragment;
    uint8_t *cells; /* room for rows_at_once */
    uint64_t wrong;
};

static int
reread_rows(void *ctx, uint32_t first, uint32_t count)
{
    struct written *written = ctx;
    struct iovec iov = {written->cells,
                        count * written->fragment->geometry->block_bytes};
    bool bad[ROWS_AT_ONCE] = {false};
    int r = fragment_read(written->fragment, first, count, &iov, 1, bad);

    for (uint32_t i = 0; i < count; i++)
        written->wrong += bad[i];
    return r;
}

/* Read the new file again, from the medium. */
static int
check_written(struct rebuild *b)
{
    struct written written = {.fragment = b->to};
    struct lsvd_volume *v = b->v;
    int r;

    object_drop_cache(b->to->object);
    r = mem_new_aligned((size_t)rows_at_once(v) * v->g.block_bytes,
                        &written.cells);
    if (r == 0)
        r = rows_each(v, reread_rows, &written);
    free(written.cells);
    if (r == 0 && written.wrong > b->unknown)
        r = err_set(-EIO, "part %c: chunk %llu does not read back as it was "
                    "written: is the medium failing?",
                    v->part[b->slot].letter,
                    (unsigned long long)b->chunk->number);
    return r;
}

uint64_t
fragment_newest_seq(struct lsvd_volume *v, struct chunk *c)
{
    uint64_t seq = chunk_truth(v, c->number).seq;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct fragment *f = chunk_fragment(v, c, i, NULL);

        if (f && f->seq > seq)
            seq = f->seq;
    }
    return seq;
}

/* Touches only cells that are wrong and can be made right. */
static int
mend_in_place(struct rebuild *b)
{
    struct fragment *own = b->own;
    struct lsvd_volume *v = b->v;
    int r;

    if (!own->writable)
        return err_set(-EROFS, "part %c: its file of chunk %llu can't be "
                       "written", v->part[b->slot].letter,
                       (unsigned long long)b->chunk->number);
    b->in_place = true;
    r = rebuild_all_rows(b);
    if (r == 0)
        r = fragment_store_meta(own, b->seq);
    if (r == 0)
        r = fragment_sync(own);
    return r;
}

int
fragment_judge_unknown(struct lsvd_volume *v, uint32_t slot, uint64_t chunk,
                       int trouble)
{
    struct part *p = &v->part[slot];

    if (v->usable & UINT32_C(1) << slot)
        return 0; /* a member that lost its file has nothing to lose by it */
    if (v->view.members & ~v->usable)
        trouble = -ETIMEDOUT; /* one that is not asked may have them */
    if (trouble == 0 ||
        (trouble != -ENOMEM && p->sources_refused >= REFUSALS_BEFORE_LOSS))
        return 0;
    if (trouble == -EIO && v->insists)
        return 0;
    p->sources_refused += trouble != -ENOMEM;
    /* not as if the part itself did not answer */
    return err_set(trouble == -ENOMEM ? trouble : -EIO,
                   "part %c: chunk %llu can't be read from the other parts "
                   "now", p->letter, (unsigned long long)chunk);
}

/* Is there one that is a member, and did not answer? It is about to be dropped,
 * or to come back. */
static bool
is_any_gone(struct lsvd_volume *v)
{
    bool any;

    pthread_mutex_lock(&v->state_lock);
    any = v->gone & v->usable;
    pthread_mutex_unlock(&v->state_lock);
    return any;
}

/* F1. Of what would be given up the old file had something a moment ago; or, of
 * a member, which has lost its file, other members may have it in a moment.
 * What is left as it is is judged anew the next time. */
static int
check_given_up(const struct rebuild *b)
{
    bool is_member = b->v->usable & UINT32_C(1) << b->slot;
    bool will_pass = (b->trouble != 0 && b->trouble != -EIO) ||
                     is_any_gone(b->v);

    if (b->lost == 0 || (b->no_old && !(is_member && will_pass)))
        return 0;
    return err_set(b->trouble == -ENOMEM ? -ENOMEM : -EIO,
                   "part %c: chunk %llu: not all that there is of it can be "
                   "read now: it is left as it is",
                   b->v->part[b->slot].letter,
                   (unsigned long long)b->chunk->number);
}

static int
make_anew(struct rebuild *b)
{
    struct lsvd_volume *v = b->v;
    struct part *p = &v->part[b->slot];
    struct fragment_id id = {.volume = v->meta.uuid,
                             .instance = p->label.instance,
                             .chunk = b->chunk->number,
                             .fragment = b->slot};
    char name[24], fresh[32];
    int r;

    fragment_name(b->chunk->number, name);
    snprintf(fresh, sizeof fresh, "%s.new", name);
    r = target_remove(p->dir, fresh); /* whatever an earlier run left */
    if (r == -ENOENT)
        r = 0;
    if (r == 0)
        r = fragment_create(p->dir, fresh, &v->g, &id, &b->to);
    if (r < 0)
        return r;
    r = rebuild_all_rows(b);
    if (r == 0)
        r = check_given_up(b);
    if (r == 0 && b->unknown > 0)
        r = fragment_judge_unknown(v, b->slot, id.chunk, b->trouble);
    if (r == 0)
        r = fragment_store_meta(b->to, b->seq);
    if (r == 0)
        r = fragment_sync(b->to);
    if (r == 0)
        r = check_written(b);
    fragment_close(b->to);
    b->to = NULL;
    if (r == 0)
        r = target_rename(p->dir, fresh, name);
    if (r == 0) {
        b->replaced = true;
        r = target_sync(p->dir);
    }
    if (r < 0)
        (void)target_remove(p->dir, fresh);
    return r;
}

/* A part being refilled where it was may still have the file of the instance
 * before it: not used, but perhaps the last that has these blocks (F1). */
static bool
has_old_file(struct rebuild *b)
{
    struct object *object;
    char name[24];
    int r;

    fragment_name(b->chunk->number, name);
    r = target_open(b->v->part[b->slot].dir, name, 0, &object);
    if (r == 0)
        object_close(object);
    return r != -ENOENT;
}

/* Caller holds the lease. 1: mended; 0: was right. */
static int
judge_and_mend(struct rebuild *b)
{
    struct lsvd_volume *v = b->v;
    enum fragment_state state;
    int r;

    b->own = chunk_fragment(v, b->chunk, b->slot, &state);
    b->no_old = state == FRAGMENT_MISSING ||
                (state == FRAGMENT_AWAY && !has_old_file(b));
    if (b->no_old) {
        r = make_anew(b);
        return r < 0 ? r : 1;
    }
    r = rebuild_all_rows(b); /* to == NULL: judges only */
    if (r < 0)
        return r;
    if (b->own && !b->own->doubtful && b->wrong == 0 &&
        (b->own->seq >= b->seq || b->unknown > 0))
        return 0;
    if (b->lost == 0) {
        r = make_anew(b);
        if (r == -ENOSPC && b->own)
            r = mend_in_place(b);
    } else if (b->own) {
        r = mend_in_place(b);
    } else {
        return err_set(-EIO,
                       "part %c: its file of chunk %llu can't be used, and "
                       "the other parts can't replace all of it: left as it "
                       "is",
                       v->part[b->slot].letter,
                       (unsigned long long)b->chunk->number);
    }
    return r < 0 ? r : 1;
}

int
fragment_declare_whole(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
                       struct chunk_entry truth)
{
    struct part *p = &v->part[slot];
    int r = 0;

    pthread_mutex_lock(&v->table_lock);
    if (p->table && chunk_table_get(p->table, chunk).seq < truth.seq)
        r = chunk_table_set(p->table, chunk, truth);
    pthread_mutex_unlock(&v->table_lock);
    return r;
}

int
fragment_rebuild(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
                 uint64_t *ret_lost_blocks)
{
    struct rebuild b = {.v = v, .slot = slot};
    struct chunk_entry truth = chunk_truth(v, chunk);
    bool is_read = v->usable & UINT32_C(1) << slot;
    struct lease lease;
    int r, references;

    *ret_lost_blocks = 0;
    if (truth.state != CHUNK_PRESENT)
        return fragment_declare_whole(v, chunk, slot, truth);
    r = chunk_get(v, chunk, &b.chunk);
    if (r < 0)
        return r;
    /* Nobody reads a part that is being filled (RS1). */
    lease_get(&v->chunk_leases, &lease, chunk, chunk + 1, is_read);
    b.seq = fragment_newest_seq(v, b.chunk);
    references = references_mend(v, b.chunk, slot);
    r = references < 0 ? references : judge_and_mend(&b);
    if (r == 0)
        r = references;
    /* After an attempt that changed nothing what is known of the files stays
     * known: asking again would report, and queue, the damage again. */
    if (r > 0 || b.replaced || b.in_place)
        chunk_forget_fragment(v, b.chunk, slot);
    if (r > 0 && is_read)
        atomic_fetch_add(&v->count.healed_blocks, b.wrong ? b.wrong : 1);
    *ret_lost_blocks = b.lost;
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, b.chunk);
    if (r >= 0) {
        int t = fragment_declare_whole(v, chunk, slot, truth);

        if (t < 0)
            r = t;
    }
    return r;
}
