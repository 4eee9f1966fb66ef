/* destage.c: from the journal to the parts, in batches (faults.md O4).
 *
 * Happy path: chunks with the oldest records -> plans -> redo records ->
 *   journal durable -> bytes in place on all parts -> files synced -> new
 *   names synced -> chunk tables -> files of holes removed, names synced ->
 *   index forgets -> labels -> journal tail. Plans without redo records whose
 *   own records are durable go in place before the others are made.
 * (D3) No byte is in place before every record it came from is durable, in
 *      every copy of the journal that a later start may take (JF3).
 * (D4) A chunk table moves only after the bytes are durable on all parts; the
 *      journal's tail only after tables and labels.
 * (D5) A file is removed only when its chunk is durably a hole in all tables,
 *      and the journal lets go of the zeroes only when it is durably gone: a
 *      cut in between is made good by destaging the zeroes once more.
 * (D6) What is durably in place is not put there again: a file made anew would
 *      be cut to nothing first, and by then the tables may call it present.
 * (D7) A table calls a chunk a hole only under the exclusive chunk lease: who
 *      reads its files has seen them called present.
 * Fails: the batch is tried again at once, the files opened anew (never a
 *   second sync of the same descriptors). A part that fails again is dropped
 *   (O5) and the batch goes on without it, as long as enough remain (R7).
 *   Otherwise the batch is kept: no space -> writers get -ENOSPC until it
 *   returns; too few parts -> the volume is stalled: writes go on into the
 *   journal while it has room, then wait (space_wait). Reads go on.
 * (D9) A part that is being filled never delays the others: what fails on it is
 *      left for a later attempt to fill it. */
#include "volume/batch.h"
#include "volume/parent.h"
#include "volume/read_cache.h"
#include "volume/refer.h"
#include "volume/resync.h"
#include "base/err.h"
#include "base/parallel.h"
#include <stdio.h>

static void
forget_applied(struct lsvd_volume *v)
{
    for (struct plan *plan = v->batch->first; plan; plan = plan->next)
        plan->applied = 0;
}

/* What of the batch was being written to a part that is a member again may be
 * there or not; what is in place is there, as it was a member then (D6). */
void
batch_begin_anew(struct lsvd_volume *v)
{
    if (v->batch && !v->batch->in_place)
        forget_applied(v);
}

bool
journal_has_chunk(void *ctx, uint64_t chunk)
{
    struct lsvd_volume *v = ctx;
    struct chunk_entry truth = chunk_truth(v, chunk + 1);

    return truth.state == CHUNK_PRESENT ||
           (truth.seq == 0 && parent_shows(v, chunk + 1));
}

void
chunk_mark_flux(struct lsvd_volume *v, uint64_t chunk, bool in_flux)
{
    bool marked = false;

    for (uint32_t i = 0; i < v->g.part_count && !marked; i++) {
        struct object *lock;
        struct lease lease;

        lease_get(&v->part_leases, &lease, i, i + 1, false);
        lock = v->part[i].lock;
        if (lock && in_flux)
            (void)object_lock(lock, LOCK_CHUNK_AT + chunk, 1, true);
        else if (lock)
            (void)object_unlock(lock, LOCK_CHUNK_AT + chunk, 1);
        marked = lock != NULL;
        lease_put(&v->part_leases, &lease);
    }
}

static void
mark_flux(struct lsvd_volume *v, struct plan *plan, bool in_flux)
{
    if (plan->in_flux == in_flux)
        return;
    plan->in_flux = in_flux;
    chunk_mark_flux(v, plan->chunk, in_flux);
}

static void
mark_all(struct lsvd_volume *v, bool in_flux)
{
    for (struct plan *plan = v->batch->first; plan; plan = plan->next)
        mark_flux(v, plan, in_flux);
}

static int
sync_names_of(struct lsvd_volume *v, uint32_t slot)
{
    atomic_fetch_add(&v->count.part_syncs, 1);
    return target_sync(v->part[slot].dir);
}

int
names_sync(struct lsvd_volume *v, uint32_t parts)
{
    return parts_each(v, parts, sync_names_of);
}

/* The plans of a batch, to be applied in any order: each of another chunk. */
struct applying {
    struct lsvd_volume *v;
    struct plan *plan[BATCH_CHUNKS_MAX];
    struct parallel_result result[BATCH_CHUNKS_MAX];
};

/* Unless all parts that are to have it have it. */
static int
apply_if_needed(struct lsvd_volume *v, struct plan *plan)
{
    uint32_t parts = v->usable | plan->also;
    int r;

    if (plan->is_done || (plan->applied & parts) == parts)
        return 0;
    r = volume_check_ours(v); /* OW4, OW5 */
    if (r == 0)
        r = plan_apply(v, plan, parts);
    if (r == 0)
        plan->applied = parts;
    return r;
}

static int
apply_one(void *ctx, size_t i)
{
    struct applying *all = ctx;

    return apply_if_needed(all->v, all->plan[i]);
}

/* D3, as it is now: what is not durable yet has time until the batch is
 * complete. In this order: a copy of the journal that was lost before the sync
 * ended is known by then (JF3). */
static bool
may_go_early(struct lsvd_volume *v, const struct plan *plan)
{
    bool all_well;

    if (plan->remove || plan->redo_rows > 0)
        return false;
    pthread_mutex_lock(&v->state_lock);
    all_well = v->failed == 0; /* else its turn is with the retries */
    pthread_mutex_unlock(&v->state_lock);
    return all_well &&
           journal_is_durable(v->journal, plan_newest_seq(plan)) &&
           journal_is_settled(v);
}

void
batch_apply_early(struct lsvd_volume *v, struct plan *plan)
{
    if (!may_go_early(v, plan))
        return;
    mark_flux(v, plan, true);
    (void)apply_if_needed(v, plan); /* what fails is tried again, and told */
}

/* All of them, whatever one says. names: the parts that got new ones. */
static int
apply_all(struct lsvd_volume *v, uint32_t *names)
{
    struct applying all = {.v = v};
    size_t count = 0;
    int r = 0;

    *names = 0;
    for (struct plan *plan = v->batch->first; plan; plan = plan->next) {
        all.plan[count++] = plan;
        if (plan->fresh && !plan->remove)
            *names |= v->usable | plan->also;
    }
    parallel_each(v->parallel ? BATCH_THREADS : 1, count, v->turn++,
                  apply_one, &all, all.result);
    for (size_t i = 0; i < count; i++) {
        if (all.result[i].error < 0)
            r = err_set(all.result[i].error, "%s", all.result[i].text);
    }
    return r;
}

static int
batch_put_in_place(struct lsvd_volume *v)
{
    uint64_t newest = 0;
    uint32_t names;
    int r;

    for (struct plan *plan = v->batch->first; plan; plan = plan->next) {
        uint64_t seq = plan_newest_seq(plan);

        newest = seq > newest ? seq : newest;
    }
    r = journal_sync_seen(v->journal, newest); /* D3 */
    if (r == 0)
        r = journal_settle(v);
    if (r == 0)
        r = apply_all(v, &names);
    if (r == 0)
        r = plan_sync(v, v->batch->first, v->usable);
    return r == 0 ? names_sync(v, names) : r;
}

/* D5: after the tables, before the journal forgets. */
static int
batch_remove(struct lsvd_volume *v)
{
    uint32_t names = 0;
    struct plan *plan;
    int r = 0;

    for (plan = v->batch->first; plan && r == 0; plan = plan->next) {
        if (!plan->remove || plan->is_done)
            continue;
        r = plan_remove(v, plan, v->usable | plan->also);
        names |= v->usable | plan->also;
    }
    return r == 0 ? names_sync(v, names) : r;
}

static int
store_table_of(struct lsvd_volume *v, uint32_t slot)
{
    struct chunk_table *table = v->part[slot].table;
    uint64_t before;
    int r;

    if (!table)
        return 0;
    /* Only the destage caller changes tables: reading one here while others
     * read it needs no lock. */
    before = chunk_table_generation(table);
    r = chunk_table_store(table);
    if (r < 0)
        return err_wrap(r, "part %c", v->part[slot].letter);
    if (chunk_table_generation(table) != before) {
        atomic_fetch_add(&v->count.part_bytes, 4096);
        atomic_fetch_add(&v->count.part_syncs, 1);
    }
    return 0;
}

int
tables_store(struct lsvd_volume *v, uint32_t parts)
{
    return parts_each(v, parts, store_table_of);
}

int
files_store(struct lsvd_volume *v, uint32_t parts)
{
    int r = names_sync(v, parts);

    return r < 0 ? r : tables_store(v, parts);
}

int
tables_set(struct lsvd_volume *v, const struct plan *plan)
{
    struct chunk_entry entry = {
        .seq = plan->seq,
        .state = plan->remove ? CHUNK_HOLE : CHUNK_PRESENT};
    struct lease lease;
    int r = 0;

    lease_get(&v->chunk_leases, &lease, plan->chunk, plan->chunk + 1, true);
    entry.references_seq = refer_exact_seq(v, plan);
    pthread_mutex_lock(&v->table_lock);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if ((v->usable | plan->also) & UINT32_C(1) << i)
            r = chunk_table_set(v->part[i].table, plan->chunk, entry);
    }
    pthread_mutex_unlock(&v->table_lock);
    lease_put(&v->chunk_leases, &lease);
    return r;
}

int
destage_checkpoint(struct lsvd_volume *v)
{
    uint64_t ckpts[PARTS_MAX], ckpt = journal_checkpoint_seq(v->journal);
    int r = volume_labels_checkpoint(v, ckpt);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < PARTS_MAX; i++)
        ckpts[i] = v->usable & UINT32_C(1) << i ? ckpt : 0;
    return journal_advance(v->journal, ckpts);
}

static int
batch_checkpoint(struct lsvd_volume *v)
{
    uint32_t parts = v->usable;
    struct plan *plan;
    int r = 0;

    for (plan = v->batch->first; plan && r == 0; plan = plan->next) {
        r = plan->is_done ? 0 : tables_set(v, plan);
        parts |= plan->also;
    }
    if (r == 0)
        r = tables_store(v, parts);
    if (r == 0)
        r = batch_remove(v);
    if (r < 0)
        return r;
    for (plan = v->batch->first; plan; plan = plan->next) {
        /* In this order: an empty journal begins to count anew. */
        space_redone(v, plan->redo_rows);
        plan->redo_rows = 0; /* what follows may be tried again */
        if (plan->is_done)
            continue;
        read_cache_destaged(v, plan);
        journal_forget(v->journal, plan->chunk - 1, plan->blocks,
                       plan->block_count, plan->zero_seq);
        plan->is_done = true;
    }
    return destage_checkpoint(v);
}

/* After a failed sync nothing is known of what was written: all of it goes
 * out once more, through descriptors of its own. */
static void
batch_close_files(struct lsvd_volume *v)
{
    struct lease lease;
    struct plan *plan;

    for (plan = v->batch->first; plan; plan = plan->next) {
        if (!plan->pin)
            continue;
        lease_get(&v->chunk_leases, &lease, plan->chunk, plan->chunk + 1,
                  true);
        chunk_forget_fragments(v, plan->pin);
        lease_put(&v->chunk_leases, &lease);
    }
    forget_applied(v);
}

static int
batch_attempt(struct lsvd_volume *v)
{
    int r = 0;

    v->failed = 0;
    mark_all(v, true);
    if (!v->batch->in_place) {
        r = batch_put_in_place(v);
        v->batch->in_place = r == 0;
        if (r < 0)
            batch_close_files(v);
    }
    if (r == 0)
        r = batch_checkpoint(v);
    mark_all(v, false);
    return r;
}

/* D9. */
static void
batch_leave_alone(struct lsvd_volume *v, uint32_t parts)
{
    struct plan *plan;

    for (plan = v->batch->first; plan; plan = plan->next)
        plan->also &= ~parts;
}

int
parts_do_without(struct lsvd_volume *v, int error)
{
    uint32_t members = v->failed & v->usable;
    char text[512];
    int r;

    snprintf(text, sizeof text, "%s", err_text());
    v->failed = 0;
    if (!parts_are_to_blame(v, members, error))
        return err_set(error, "%s", text);
    r = volume_drop(v, members);
    return r < 0 && error == -ENOSPC ? err_set(error, "%s", text) : r;
}

int
parts_try(struct lsvd_volume *v, int (*step)(struct lsvd_volume *v))
{
    for (bool again = false;; again = !again) {
        int r;

        v->failed = 0;
        r = step(v);
        if (r >= 0 || v->failed == 0)
            return r;
        if (again) {
            r = parts_do_without(v, r);
            if (r < 0)
                return r;
        }
    }
}

int
batch_run(struct lsvd_volume *v)
{
    bool again = false;
    int r;

    for (;;) {
        uint32_t members;

        r = batch_attempt(v);
        if (r == 0 || v->failed == 0)
            return r;
        if (v->failed & ~v->usable) {
            batch_leave_alone(v, v->failed & ~v->usable);
            resync_give_up(v);
        }
        members = v->failed & v->usable;
        if (members == 0)
            continue;
        if (again || parts_are_gone(v, members)) {
            r = parts_do_without(v, r);
            if (r < 0)
                return r;
        }
        again = !again;
    }
}

int
batch_prepare(struct lsvd_volume *v)
{
    return v->batch ? 1 : parts_try(v, batch_build);
}
