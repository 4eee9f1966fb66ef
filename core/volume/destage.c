/* destage.c: from the journal to the parts, in batches (faults.md O4).
 *
 * Happy path: chunks with the oldest records -> plans -> redo records ->
 *   journal durable -> bytes in place on all parts -> files synced -> new
 *   names synced -> chunk tables -> files of holes removed, names synced ->
 *   index forgets -> labels -> journal tail.
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
 * Fails: the batch is kept and tried again as it is, the files opened anew
 *   (never a second sync of the same descriptors). No space: writers get
 *   -ENOSPC until it returns. Anything else: writers get -EIO; reads go on. */
#include "volume/volume.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/wait.h"
#include "target/mirror.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_CHUNKS_MAX 32
#define BATCH_BYTES_MAX (16u << 20)
#define TICK_MS 250
#define AGE_TICKS_MAX 20 /* oldest record is destaged within 5 s */

struct batch {
    struct plan *first, *last;
    size_t count;
    uint64_t bytes;
    bool in_place; /* durably; a retry only goes on from there (D6) */
};

bool
journal_has_chunk(void *ctx, uint64_t chunk)
{
    struct lsvd_volume *v = ctx;

    return chunk_truth(v, chunk + 1).state == CHUNK_PRESENT;
}

void
batch_free(struct lsvd_volume *v)
{
    struct plan *plan, *next;

    for (plan = v->batch ? v->batch->first : NULL; plan; plan = next) {
        next = plan->next;
        plan_release(v, plan);
        plan_free(plan);
    }
    free(v->batch);
    v->batch = NULL;
}

/* A chunk with a damaged file is made whole before it is changed - unless it
 * became zeroes as a whole: then the files are made anew, and a cut while that
 * was done is why they look damaged. */
static int
make_whole(struct lsvd_volume *v, uint64_t chunk)
{
    struct chunk *c;
    struct lease lease;
    uint32_t broken = 0;
    uint64_t lost, zero_seq;
    size_t total;
    int r;

    journal_chunk_blocks(v->journal, chunk - 1, NULL, 0, &total, &zero_seq);
    if (zero_seq != 0 || chunk_truth(v, chunk).state != CHUNK_PRESENT)
        return 0;
    r = chunk_get(v, chunk, &c);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, chunk, chunk + 1, false);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!chunk_fragment(v, c, i, NULL))
            broken |= UINT32_C(1) << i;
    }
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    for (uint32_t i = 0; i < v->g.part_count && r >= 0; i++) {
        if (broken & UINT32_C(1) << i)
            r = fragment_rebuild(v, chunk, i, &lost);
    }
    return r < 0 ? r : 0;
}

/* Rows whose parity fits into one redo record, which is no longer than
 * space_admit has kept room for at the end of the ring. */
static uint32_t
redo_rows_max(struct lsvd_volume *v)
{
    uint64_t bytes = JOURNAL_REDO_BYTES_MAX - 4096u, rows;
    struct journal_space now;

    if (!v->g.is_ec)
        return UINT32_MAX;
    journal_space(v->journal, &now);
    if (bytes > now.ring_bytes / 16)
        bytes = now.ring_bytes / 16;
    rows = bytes / redo_row_bytes(v);
    return rows > 0 ? (uint32_t)rows : 1;
}

/* all: also from the last sixteenth of the ring, which is kept for the rows
 * that hold the tail (D8). */
static int
log_redo(struct lsvd_volume *v, const struct plan *plan, bool all)
{
    struct journal_space now;
    uint8_t *body;
    size_t bytes;
    int r;

    r = redo_encode(v, plan, &body, &bytes);
    journal_space(v->journal, &now);
    if (r == 0 && body && !all &&
        now.used_bytes + bytes > now.ring_bytes - now.ring_bytes / 16)
        r = -ENOSPC;
    if (r == 0 && body)
        r = journal_append_redo(v->journal, body, bytes);
    free(body);
    return r;
}

/* 0: added; 1: no journal space for its redo record, the batch is full.
 * (D8) A full ring always empties: when the record of a whole chunk does not
 *      fit, only the rows that hold the tail are destaged. Their parity is a
 *      few times what one segment of the ring holds, and the reserve is many
 *      segments; with them the tail moves. */
static int
batch_add(struct lsvd_volume *v, uint64_t chunk)
{
    uint32_t rows = redo_rows_max(v);
    uint64_t before = UINT64_MAX;
    struct plan *plan;
    int r;

    r = make_whole(v, chunk);
    if (r < 0)
        return r;
    for (;;) {
        r = plan_build(v, chunk, rows, before, &plan);
        if (r < 0)
            return r;
        r = log_redo(v, plan, before != UINT64_MAX);
        if (r == 0)
            break;
        if (before != UINT64_MAX)
            rows = plan->redo_rows / 2;
        plan_free(plan);
        if (r != -ENOSPC)
            return r;
        if (v->batch->count > 0)
            return 1;
        before = journal_tail_bound(v->journal);
        if (rows == 0)
            return err_set(-EIO, "the journal is too small to destage");
    }
    if (v->batch->last)
        v->batch->last->next = plan;
    else
        v->batch->first = plan;
    v->batch->last = plan;
    v->batch->count++;
    v->batch->bytes += plan->block_count * v->g.block_bytes;
    return 0;
}

static int
batch_build(struct lsvd_volume *v)
{
    uint64_t chunks[BATCH_CHUNKS_MAX];
    size_t count;
    int r;

    count = journal_oldest_chunks(v->journal, chunks, BATCH_CHUNKS_MAX);
    if (count == 0)
        return 0;
    r = mem_new(1, sizeof *v->batch, &v->batch);
    for (size_t i = 0; i < count && r == 0; i++) {
        if (v->batch->bytes >= BATCH_BYTES_MAX)
            break;
        r = batch_add(v, chunks[i] + 1);
    }
    if (r < 0 && v->batch && v->batch->count > 0) {
        /* What is ready can go; the failing chunk comes again. */
        log_event(&v->log, LOG_ERROR_LEVEL, "volume %s: destage: %s",
                  v->meta.name, err_text());
        r = 0;
    }
    if (r < 0) {
        batch_free(v);
        return r;
    }
    return 1;
}

/* Tell verify in another process which chunks are being changed. */
static void
mark_flux(struct lsvd_volume *v, bool in_flux)
{
    struct object *lock = v->part[0].lock;
    struct plan *plan;

    for (plan = v->batch->first; plan && lock; plan = plan->next) {
        if (in_flux)
            (void)object_lock(lock, LOCK_CHUNK_AT + plan->chunk, 1, true);
        else
            (void)object_unlock(lock, LOCK_CHUNK_AT + plan->chunk, 1);
    }
}

static int
sync_names(struct lsvd_volume *v)
{
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        atomic_fetch_add(&v->count.part_syncs, 1);
        r = target_sync(v->part[i].dir);
    }
    return r;
}

static int
batch_put_in_place(struct lsvd_volume *v)
{
    uint32_t parts = volume_all_parts(v);
    bool names = false;
    struct plan *plan;
    int r;

    r = journal_sync(v->journal); /* D3 */
    if (r == 0)
        r = journal_settle(v);
    for (plan = v->batch->first; plan && r == 0; plan = plan->next) {
        r = plan_apply(v, plan, parts);
        names |= plan->fresh && !plan->remove;
    }
    if (r == 0)
        r = plan_sync(v, v->batch->first, parts);
    return r == 0 && names ? sync_names(v) : r;
}

/* D5: after the tables, before the journal forgets. */
static int
batch_remove(struct lsvd_volume *v)
{
    bool names = false;
    struct plan *plan;
    int r = 0;

    for (plan = v->batch->first; plan && r == 0; plan = plan->next) {
        if (!plan->remove)
            continue;
        r = plan_remove(v, plan, volume_all_parts(v));
        names = true;
    }
    return r == 0 && names ? sync_names(v) : r;
}

int
tables_store(struct lsvd_volume *v, uint32_t parts)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        uint64_t before;
        int r;

        if (!(parts & UINT32_C(1) << i) || !v->part[i].table)
            continue;
        /* Only the destage caller changes tables: reading one here while
         * others read it needs no lock. */
        before = chunk_table_generation(v->part[i].table);
        r = chunk_table_store(v->part[i].table);
        if (r < 0)
            return err_wrap(r, "part %c", v->part[i].letter);
        if (chunk_table_generation(v->part[i].table) != before) {
            atomic_fetch_add(&v->count.part_bytes, 4096);
            atomic_fetch_add(&v->count.part_syncs, 1);
        }
    }
    return 0;
}

/* D7. */
static int
tables_set(struct lsvd_volume *v, const struct plan *plan)
{
    struct chunk_entry entry = {plan->seq, plan->remove ? CHUNK_HOLE
                                                        : CHUNK_PRESENT};
    struct lease lease;
    int r = 0;

    lease_get(&v->chunk_leases, &lease, plan->chunk, plan->chunk + 1, true);
    pthread_mutex_lock(&v->table_lock);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++)
        r = chunk_table_set(v->part[i].table, plan->chunk, entry);
    pthread_mutex_unlock(&v->table_lock);
    lease_put(&v->chunk_leases, &lease);
    return r;
}

static int
batch_checkpoint(struct lsvd_volume *v)
{
    uint64_t ckpts[PARTS_MAX], ckpt;
    struct plan *plan;
    int r = 0;

    for (plan = v->batch->first; plan && r == 0; plan = plan->next)
        r = tables_set(v, plan);
    if (r == 0)
        r = tables_store(v, volume_all_parts(v));
    if (r == 0)
        r = batch_remove(v);
    if (r < 0)
        return r;
    for (plan = v->batch->first; plan; plan = plan->next) {
        /* In this order: an empty journal begins to count anew. */
        space_redone(v, plan->redo_rows);
        plan->redo_rows = 0; /* what follows may be tried again */
        journal_forget(v->journal, plan->chunk - 1, plan->blocks,
                       plan->block_count, plan->zero_seq);
    }
    ckpt = journal_checkpoint_seq(v->journal);
    r = volume_labels_checkpoint(v, ckpt);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < PARTS_MAX; i++)
        ckpts[i] = i < v->g.part_count ? ckpt : 0;
    return journal_advance(v->journal, ckpts);
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
}

static int
batch_run(struct lsvd_volume *v)
{
    int r = 0;

    mark_flux(v, true);
    if (!v->batch->in_place) {
        r = batch_put_in_place(v);
        v->batch->in_place = r == 0;
        if (r < 0)
            batch_close_files(v);
    }
    if (r == 0)
        r = batch_checkpoint(v);
    mark_flux(v, false);
    return r;
}

static void
heal_done(struct lsvd_volume *v, const struct heal *heal)
{
    pthread_mutex_lock(&v->state_lock);
    for (size_t i = 0; i < v->heal_count; i++) {
        if (v->heal[i].chunk == heal->chunk && v->heal[i].slot == heal->slot) {
            v->heal[i] = v->heal[--v->heal_count];
            break;
        }
    }
    pthread_mutex_unlock(&v->state_lock);
}

/* Files that gave wrong bytes, one a call. It stays in the queue until it was
 * tried, so that what the attempt itself meets does not queue it again: one
 * that can't be healed would come back for ever. */
static bool
heal_one(struct lsvd_volume *v)
{
    struct heal heal;
    uint64_t lost = 0;
    int r;

    pthread_mutex_lock(&v->state_lock);
    if (v->heal_count == 0) {
        pthread_mutex_unlock(&v->state_lock);
        return false;
    }
    heal = v->heal[v->heal_count - 1];
    pthread_mutex_unlock(&v->state_lock);
    r = fragment_rebuild(v, heal.chunk, heal.slot, &lost);
    v->heal_fails = r < 0;
    heal_done(v, &heal);
    if (r < 0)
        log_event(&v->log, LOG_ERROR_LEVEL,
                  "volume %s: chunk %llu of part %c could not be healed: %s",
                  v->meta.name, (unsigned long long)heal.chunk,
                  v->part[heal.slot].letter, err_text());
    else if (r > 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: chunk %llu of part %c healed", v->meta.name,
                  (unsigned long long)heal.chunk, v->part[heal.slot].letter);
    return true;
}

/* Tell the waiting writers how it ended. */
static void
report(struct lsvd_volume *v, int r)
{
    int before;

    pthread_mutex_lock(&v->state_lock);
    before = atomic_load(&v->destage_error);
    atomic_store(&v->destage_error,
                 r < 0 ? (r == -ENOSPC ? r : -EIO) : 0);
    v->destage_rounds++;
    v->free_checked_at = 0;
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
    if (r < 0 && before == 0)
        log_event(&v->log, LOG_ERROR_LEVEL,
                  "volume %s: destage: %s; writes get %s until it works "
                  "again, the data is safe in the journal",
                  v->meta.name, err_text(),
                  r == -ENOSPC ? "ENOSPC" : "EIO");
    if (r >= 0 && before < 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: destage works again", v->meta.name);
}

/* The batch first: what can't be healed must not keep writers waiting. They
 * are told also if there was nothing to do: the journal may have been emptied
 * between their attempt and their waiting. */
int
destage_batch(struct lsvd_volume *v)
{
    bool moved, healed;
    int r = 1;

    if (!v->attached)
        return 0;
    if (!v->batch)
        r = batch_build(v);
    moved = r > 0;
    if (moved) {
        r = batch_run(v);
        if (r < 0 && r != -ENOSPC) /* once more, with files opened anew */
            r = batch_run(v);
    }
    report(v, r);
    if (r < 0)
        return r;
    batch_free(v);
    healed = heal_one(v);
    return moved || healed;
}

int
lsvd_destage_step(struct lsvd_volume *v)
{
    return destage_batch(v);
}

/* Is it time to move something? Not while blocks are still being rewritten
 * in the journal, unless it fills up or they get old. */
static bool
is_due(struct lsvd_volume *v, uint64_t *last_seq, unsigned *age)
{
    struct journal_space now;
    bool due, quiet;

    journal_space(v->journal, &now);
    quiet = now.last_seq == *last_seq;
    *last_seq = now.last_seq;
    *age = now.dirty_chunks == 0 ? 0 : *age + 1;
    due = quiet || now.used_bytes > now.ring_bytes / 4 ||
          now.index_blocks > now.index_limit / 2 || *age >= AGE_TICKS_MAX;
    return now.dirty_chunks > 0 && due;
}

/* Batches until the journal is nearly empty, or one fails. */
static void
destage_round(struct lsvd_volume *v)
{
    struct journal_space now;

    do {
        if (destage_batch(v) <= 0)
            return;
        journal_space(v->journal, &now);
    } while (now.used_bytes > now.ring_bytes / 8 && !atomic_load(&v->stopping));
}

/* A copy of the journal was lost: clients wait for this. */
static void
settle_copies(struct lsvd_volume *v)
{
    if (journal_is_settled(v) || journal_settle(v) == 0)
        return;
    log_event(&v->log, LOG_ERROR_LEVEL, "volume %s: %s", v->meta.name,
              err_text());
    pthread_mutex_lock(&v->state_lock);
    wait_ms(&v->progress, &v->state_lock, TICK_MS);
    pthread_mutex_unlock(&v->state_lock);
}

static void *
destage_thread(void *arg)
{
    struct lsvd_volume *v = arg;
    uint64_t last_seq = 0;
    unsigned age = 0;
    bool asked;

    pthread_mutex_lock(&v->state_lock);
    while (!atomic_load(&v->stopping)) {
        asked = v->space_waiters > 0 || (v->heal_count > 0 && !v->heal_fails);
        if (journal_is_settled(v) &&
            (!asked || atomic_load(&v->destage_error) != 0)) {
            wait_ms(&v->work, &v->state_lock, TICK_MS);
            asked = v->space_waiters > 0 || v->heal_count > 0;
        }
        if (atomic_load(&v->stopping))
            break;
        pthread_mutex_unlock(&v->state_lock);
        settle_copies(v);
        if (asked || v->batch || is_due(v, &last_seq, &age)) {
            destage_round(v);
            age = 0;
        }
        pthread_mutex_lock(&v->state_lock);
    }
    pthread_mutex_unlock(&v->state_lock);
    return NULL;
}

int
lsvd_start(struct lsvd_volume *v)
{
    int r;

    if (!v->attached)
        return 0;
    parts_sign(v);
    if (v->mirror)
        mirror_start(v->mirror);
    v->threaded = true; /* before there is a thread that looks at it */
    r = pthread_create(&v->thread, NULL, destage_thread, v);
    if (r != 0) {
        v->threaded = false;
        return err_set(-r, "volume %s: can't start a thread", v->meta.name);
    }
    return 0;
}

void
destage_stop(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->state_lock);
    atomic_store(&v->stopping, true);
    pthread_cond_broadcast(&v->work);
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
    if (v->threaded)
        pthread_join(v->thread, NULL);
    v->threaded = false;
}
