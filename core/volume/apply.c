/* apply.c: a plan's bytes, in place. Any number of times, cut anywhere: the
 * same bytes, so the same result. */
#include "volume/refer.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/sum.h"
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is handed on together: it has one deadline (G1), which a slow disk must
 * be able to meet. */
#define RUNS_BYTES_MAX (1u << 20)
#define RUNS_PLACES_MAX 32 /* apart from each other */
#define SYNC_THREADS 16

void
plan_release(struct lsvd_volume *v, struct plan *plan)
{
    if (plan->pin) {
        atomic_store(&plan->pin->in_flight, false);
        chunk_put(v, plan->pin);
    }
    plan->pin = NULL;
}

/* A table that a cut left torn (C4): keep what its cells confirm. An entry
 * that says zero over bytes that are not must not become a trusted zero. */
static int
settle_doubt(struct lsvd_volume *v, struct fragment *f)
{
    uint8_t *cells = NULL;
    bool bad[64];
    int r;

    r = mem_new_aligned(sizeof bad * v->g.block_bytes, &cells);
    for (uint32_t row = 0; r == 0 && row < v->g.rows; row += 64) {
        uint32_t count = v->g.rows - row < 64 ? v->g.rows - row : 64;
        struct iovec iov = {cells, (size_t)count * v->g.block_bytes};

        memset(bad, 0, sizeof bad);
        r = fragment_read(f, row, count, &iov, 1, bad);
        for (uint32_t i = 0; i < count && r == 0; i++) {
            struct cell_entry entry = fragment_entry(f, row + i);
            uint64_t sums[EC_DATA_MAX] = {0};

            if (!bad[i] || sum_has_bytes(entry.sum))
                continue;
            entry.sum = 1; /* matches no bytes: stays an error */
            fragment_set_entry(f, row + i, entry,
                               geometry_is_parity(&v->g, f->id.fragment)
                                   ? sums
                                   : NULL);
        }
    }
    free(cells);
    return r;
}

/* Cells with bytes, from the first on, up to one without or until it is enough:
 * *ret_done of them. */
static int
write_some_cells(struct lsvd_volume *v, struct fragment *f,
                 const struct plan_cell *cells, uint32_t count,
                 uint32_t *ret_done)
{
    struct fragment_run run[FRAGMENT_RUNS_MAX], *last = NULL;
    uint32_t most = RUNS_BYTES_MAX / v->g.block_bytes, places = 0, i;
    int runs = 0;

    for (i = 0; i < count && i < most && cells[i].data; i++) {
        places += i == 0 || cells[i].row != cells[i - 1].row + 1;
        if (places > RUNS_PLACES_MAX)
            break;
        if (last && cells[i].row == last->row + last->count &&
            cells[i].data ==
                last->cells + (size_t)last->count * v->g.block_bytes) {
            last->count++;
            continue;
        }
        if (runs == FRAGMENT_RUNS_MAX)
            break;
        last = &run[runs++];
        *last = (struct fragment_run){cells[i].row, 1, cells[i].data};
    }
    *ret_done = i;
    atomic_fetch_add(&v->count.part_bytes, (uint64_t)i * v->g.block_bytes);
    return fragment_write_runs(f, run, runs);
}

/* Those that become zeroes. */
static int
punch_cells(struct fragment *f, const struct plan_cell *cells, uint32_t count,
            bool fresh, uint32_t *ret_done)
{
    uint32_t i;

    for (i = 1; i < count && !cells[i].data; i++) {
        if (cells[i].row != cells[0].row + i)
            break;
    }
    *ret_done = i;
    return fresh ? 0 : fragment_punch(f, cells[0].row, i);
}

static int
write_cells(struct lsvd_volume *v, struct fragment *f,
            const struct plan_cell *cells, uint32_t count, bool fresh)
{
    uint32_t done;
    int r = 0;

    for (uint32_t i = 0; i < count && r == 0; i += done) {
        if (cells[i].data)
            r = write_some_cells(v, f, cells + i, count - i, &done);
        else
            r = punch_cells(f, cells + i, count - i, fresh, &done);
    }
    return r;
}

uint64_t
fragment_meta_bytes(const struct fragment *f)
{
    uint64_t table = geometry_table_bytes(f->geometry, f->id.fragment);
    uint64_t pages = (table + 4095) / 4096, dirty = 0;

    for (uint64_t i = 0; i < (pages + 63) / 64; i++)
        dirty += (uint64_t)__builtin_popcountll(f->dirty_pages[i]);
    return FRAGMENT_HEADER_BYTES + dirty * 4096;
}

/* A file made anew for a chunk that was a hole or is overwritten whole. */
static int
make_fragment(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
              struct fragment **ret)
{
    struct fragment_id id = {.volume = v->meta.uuid,
                             .instance = v->part[slot].label.instance,
                             .chunk = c->number,
                             .fragment = slot};
    char name[24];
    int r;

    fragment_name(c->number, name);
    r = fragment_create(v->part[slot].dir, name, &v->g, &id, ret);
    if (r < 0)
        return r;
    pthread_mutex_lock(&c->lock);
    assert(!c->fragment[slot]);
    c->fragment[slot] = *ret;
    c->state[slot] = FRAGMENT_OK;
    pthread_mutex_unlock(&c->lock);
    chunk_count_fragment(v, *ret);
    return 0;
}

int
plan_apply_to(struct lsvd_volume *v, const struct plan *plan,
              struct chunk *c, uint32_t slot)
{
    const struct plan_cell *cells = plan->cells[slot];
    uint32_t count = plan->cell_count[slot];
    bool anew = plan->fresh;
    struct fragment *f = NULL;
    int r = 0;

    if (!anew)
        f = chunk_fragment_to_write(v, c, slot, NULL);
    anew = anew || (!f && (plan->make & UINT32_C(1) << slot));
    if (anew)
        r = make_fragment(v, c, slot, &f);
    if (r < 0)
        return r;
    if (!f)
        return err_set(-EIO, "its file of chunk %llu can't be used",
                       (unsigned long long)plan->chunk);
    if (f->doubtful) {
        r = settle_doubt(v, f);
        if (r < 0)
            return r;
    }
    r = write_cells(v, f, cells, count, anew);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < count; i++)
        fragment_set_entry(f, cells[i].row, cells[i].entry,
                           cells[i].stripe_sums);
    atomic_fetch_add(&v->count.part_bytes, fragment_meta_bytes(f));
    return fragment_store_meta(f, plan->seq);
}

/* While the chunks behind it are still being written. Without the lease: a disk
 * with much to write keeps the caller waiting, and readers of the chunk need
 * not. Only where much is written: many single blocks cost more time begun
 * fragment by fragment, in the way of those still to be put in place, than it
 * saves the sync. */
static void
start_syncs(struct lsvd_volume *v, const struct plan *plan, uint32_t parts)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct fragment *f = NULL;

        if ((parts & UINT32_C(1) << i) &&
            plan->cell_count[i] >= v->g.rows / 2)
            f = chunk_fragment_to_write(v, plan->pin, i, NULL);
        if (f)
            fragment_start_sync(f);
    }
}

int
plan_apply(struct lsvd_volume *v, struct plan *plan, uint32_t parts)
{
    struct lease lease;
    struct chunk *c;
    char text[512];
    int r;

    if (plan->remove)
        return 0; /* see plan_remove */
    if (!plan->pin) {
        r = chunk_get(v, plan->chunk, &plan->pin);
        if (r < 0)
            return r;
    }
    c = plan->pin;
    lease_get(&v->chunk_leases, &lease, plan->chunk, plan->chunk + 1, true);
    atomic_store(&c->in_flight, true);
    if (plan->fresh)
        chunk_forget_fragments(v, c);
    r = 0;
    /* All of them, whatever one says: a stripe that is new on every part that
     * answers can be decoded, one of which half is new can't. */
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        int applied;

        if (!(parts & UINT32_C(1) << i))
            continue;
        applied = plan_apply_to(v, plan, c, i);
        if (applied >= 0)
            continue;
        applied = err_wrap(applied, "part %c", v->part[i].letter);
        (void)part_failed(v, i, applied);
        if (r < 0)
            continue;
        r = applied;
        snprintf(text, sizeof text, "%s", err_text());
    }
    if (r < 0) {
        err_set(r, "%s", text); /* the first one's */
        /* memory and files may differ now */
        chunk_forget_fragments(v, c);
    }
    lease_put(&v->chunk_leases, &lease);
    if (r == 0)
        start_syncs(v, plan, parts);
    return r;
}

int
plan_remove(struct lsvd_volume *v, const struct plan *plan, uint32_t parts)
{
    struct lease lease;
    struct chunk *c;
    bool references;
    char name[24];
    int r;

    r = chunk_get(v, plan->chunk, &c);
    if (r < 0)
        return r;
    fragment_name(plan->chunk, name);
    /* Not what a block needs that the plan could not take (RF2). */
    references = volume_has_references(v) &&
                 !refer_journal_has(v, plan->chunk);
    lease_get(&v->chunk_leases, &lease, plan->chunk, plan->chunk + 1, true);
    chunk_forget_fragments(v, c);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        int removed;

        if (!(parts & UINT32_C(1) << i))
            continue;
        removed = target_remove(v->part[i].dir, name);
        if ((removed == 0 || removed == -ENOENT) && references)
            removed = references_remove(v->part[i].dir, plan->chunk);
        if (removed < 0 && removed != -ENOENT)
            r = part_failed(v, i, err_wrap(removed, "part %c",
                                           v->part[i].letter));
    }
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return r;
}

/* Files of a list of plans, to be synced in any order. */
struct sync_list {
    struct lsvd_volume *v;
    struct fragment **fragment;
    bool *drop; /* of each: no reason to keep it in the page cache */
    struct parallel_result *result;
    size_t count;
};

static int
sync_one(void *ctx, size_t i)
{
    struct sync_list *list = ctx;
    int r;

    atomic_fetch_add(&list->v->count.part_syncs, 1);
    r = fragment_sync(list->fragment[i]);
    if (r == 0 && list->drop[i])
        fragment_drop_cache(list->fragment[i]);
    return r;
}

static int
sync_list_add(struct sync_list *list, const struct plan *plan, uint32_t parts)
{
    for (uint32_t i = 0; i < list->v->g.part_count; i++) {
        struct fragment *f;

        if (!(parts & UINT32_C(1) << i))
            continue;
        f = chunk_fragment_to_write(list->v, plan->pin, i, NULL);
        if (!f)
            return part_failed(list->v, i,
                               err_set(-EIO,
                                       "part %c: lost the file of chunk %llu",
                                       (char)('a' + i),
                                       (unsigned long long)plan->chunk));
        list->drop[list->count] = plan->bulk &&
                                  !volume_reads_first(list->v, plan->chunk,
                                                      i);
        list->fragment[list->count++] = f;
    }
    return 0;
}

/* All of them, whatever one says. */
static int
sync_all(struct sync_list *list)
{
    struct lsvd_volume *v = list->v;
    int r = 0;

    /* file systems commit many syncs as one */
    parallel_each(v->parallel ? SYNC_THREADS : 1, list->count, v->turn++,
                  sync_one, list, list->result);
    for (size_t i = 0; i < list->count; i++) {
        const struct parallel_result *result = &list->result[i];
        uint32_t slot = list->fragment[i]->id.fragment;

        if (result->error < 0)
            r = part_failed(v, slot, err_set(result->error, "part %c: %s",
                                             (char)('a' + slot),
                                             result->text));
    }
    return r;
}

int
plan_sync(struct lsvd_volume *v, const struct plan *first, uint32_t parts)
{
    struct sync_list list = {.v = v};
    const struct plan *plan;
    size_t count = 0;
    int r;

    for (plan = first; plan; plan = plan->next)
        count += v->g.part_count;
    r = mem_new(count, sizeof *list.fragment, &list.fragment);
    if (r == 0)
        r = mem_new(count, sizeof *list.drop, &list.drop);
    if (r == 0)
        r = mem_new(count, sizeof *list.result, &list.result);
    for (plan = first; plan && r == 0; plan = plan->next) {
        if (!plan->remove && !plan->is_done)
            r = sync_list_add(&list, plan, parts | plan->also);
    }
    if (r == 0)
        r = sync_all(&list);
    free(list.fragment);
    free(list.drop);
    free(list.result);
    return r;
}
