/* batch.c: what destage takes next: the chunks with the oldest records, as many
 * of them as are moved in about a second, and in an eighth of the ring. */
#include "volume/batch.h"
#include "volume/bypass.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/parallel.h"
#include <pthread.h>
#include <stdlib.h>

#define BATCH_CHUNKS_MIN 8
#define BATCH_BYTES_MIN (1u << 20)
#define BATCH_BYTES_MAX (32u << 20)
#define RING_BATCHES 8 /* so many fill the ring; see batch_bytes_max */
#define BATCH_NS UINT64_C(1000000000) /* half of it to all of it is right */

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

/* The chunks of a batch, from 0, and which of their files are damaged. */
struct looks {
    struct lsvd_volume *v;
    uint64_t chunk[BATCH_CHUNKS_MAX];
    uint32_t broken[BATCH_CHUNKS_MAX]; /* bit per part */
    bool is_bulk[BATCH_CHUNKS_MAX];
    struct parallel_result result[BATCH_CHUNKS_MAX];
};

/* A chunk that became zeroes as a whole is none: its files are made anew, and a
 * cut while that was done is why they look damaged. */
static int
look_at(void *ctx, size_t i)
{
    struct looks *looks = ctx;
    struct lsvd_volume *v = looks->v;
    uint64_t chunk = looks->chunk[i] + 1, zero_seq;
    struct chunk *c;
    struct lease lease;
    size_t total;
    int r;

    looks->broken[i] = 0;
    journal_chunk_blocks(v->journal, chunk - 1, NULL, 0, &total, &zero_seq);
    looks->is_bulk[i] = plan_is_bulk(v, total);
    if (zero_seq != 0 || chunk_truth(v, chunk).state != CHUNK_PRESENT)
        return 0;
    r = chunk_get(v, chunk, &c);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, chunk, chunk + 1, false);
    for (uint32_t slot = 0; slot < v->g.part_count; slot++) {
        enum fragment_state state;

        if (!chunk_fragment(v, c, slot, &state) && state != FRAGMENT_AWAY)
            looks->broken[i] |= UINT32_C(1) << slot;
    }
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return 0;
}

/* What is damaged is made whole before it is changed. */
static int
make_whole(struct lsvd_volume *v, uint64_t chunk, uint32_t broken)
{
    uint64_t lost;
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r >= 0; i++) {
        if (!(broken & UINT32_C(1) << i))
            continue;
        r = fragment_rebuild(v, chunk, i, &lost);
        if (r < 0)
            (void)part_failed(v, i, r);
    }
    return r < 0 ? r : 0;
}

/* all: also from the last sixteenth of a ring without an area for bodies, which
 * is kept for the rows that hold the tail (D8). */
static int
log_redo(struct lsvd_volume *v, const struct plan *plan, bool all)
{
    struct journal_space now;
    uint8_t *body;
    size_t bytes;
    int r;

    r = redo_encode(v, plan, &body, &bytes);
    journal_space(v->journal, &now);
    if (r == 0 && body && !all && now.area_bytes == 0 &&
        now.used_bytes + bytes > now.ring_bytes - now.ring_bytes / 16)
        r = -ENOSPC;
    if (r == 0 && body)
        r = journal_append_redo(v->journal, body, bytes);
    free(body);
    return r;
}

/* 0: added; 1: no journal space for its redo record, the batch is full.
 * (D8) A full ring always empties. The first record of a batch finds all of the
 *      area free, and fits (space_redo_rows_max); its header is in the reserve.
 *      Without an area, when the record of a whole chunk does not fit, only the
 *      rows that hold the tail are destaged: their parity is a few times what
 *      one segment of the ring holds, and the reserve is many segments; with
 *      them the tail moves. */
static int
batch_add(struct lsvd_volume *v, uint64_t chunk)
{
    uint32_t rows = space_redo_rows_max(v);
    uint64_t before = UINT64_MAX;
    bool only_tail = false;
    struct plan *plan;
    int r;

    for (;;) {
        r = plan_build(v, chunk, rows, before, &plan);
        if (r < 0)
            return r;
        r = log_redo(v, plan, only_tail);
        if (r == 0)
            break;
        if (only_tail)
            rows = plan->redo_rows / 2;
        plan_free(plan);
        if (r != -ENOSPC)
            return r;
        if (v->batch->count > 0)
            return 1;
        only_tail = true;
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
    v->batch->bytes += plan->taken * v->g.block_bytes;
    return 0;
}

/* Many syncs side by side are cheap, and so is what they have in common; but
 * views, rebuild and the end of the server wait for a batch to end. */
static size_t
batch_chunks_max(const struct lsvd_volume *v)
{
    size_t most = chunks_open_max(v) / 2; /* a batch pins its files */
    size_t now = v->batch_chunks;

    if (atomic_load(&v->hurried) || now < BATCH_CHUNKS_MIN)
        now = BATCH_CHUNKS_MIN;
    if (now > most)
        now = most;
    return now > 0 ? now : 1;
}

/* What a batch moves becomes room when it ends, at once: writers keep a steady
 * pace (throttle.h) only if that is a part of what they are slowed down in. */
static uint64_t
batch_bytes_max(struct lsvd_volume *v)
{
    struct journal_space now;
    uint64_t bytes;

    journal_space(v->journal, &now);
    bytes = now.ring_bytes / RING_BATCHES;
    if (bytes < BATCH_BYTES_MIN)
        return BATCH_BYTES_MIN;
    return bytes < BATCH_BYTES_MAX ? bytes : BATCH_BYTES_MAX;
}

void
batch_took(struct lsvd_volume *v, uint64_t ns)
{
    size_t now = batch_chunks_max(v);

    if (v->batch->is_cut) /* what was opened beyond it was opened in vain */
        now = v->batch->count;
    if (ns > BATCH_NS && now / 2 >= BATCH_CHUNKS_MIN)
        now /= 2;
    else if (!v->batch->is_cut && ns < BATCH_NS / 2 &&
             now * 2 <= BATCH_CHUNKS_MAX &&
             v->batch->bytes < batch_bytes_max(v) / 2)
        now *= 2;
    v->batch_chunks = now;
}

uint64_t
batch_blocks(const struct lsvd_volume *v)
{
    uint64_t blocks = 0;

    for (const struct plan *plan = v->batch->first; plan; plan = plan->next)
        blocks += plan->taken;
    return blocks;
}

/* Plans are made by one thread, one after the other; others take those with
 * much in them as soon as they are made, so that disks have work meanwhile. */
struct making {
    struct looks *looks;
    size_t count;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t more;
    struct plan *plan[BATCH_CHUNKS_MAX];
    size_t made, taken;
    bool over;
    struct parallel_result result[1 + BATCH_CHUNKS_MAX];
};

static void
offer(struct making *m, struct plan *plan)
{
    pthread_mutex_lock(&m->lock);
    m->plan[m->made++] = plan;
    pthread_cond_signal(&m->more);
    pthread_mutex_unlock(&m->lock);
}

static void
end_offers(struct making *m)
{
    pthread_mutex_lock(&m->lock);
    m->over = true;
    pthread_cond_broadcast(&m->more);
    pthread_mutex_unlock(&m->lock);
}

/* NULL: there are no more. */
static struct plan *
take(struct making *m)
{
    struct plan *plan;

    pthread_mutex_lock(&m->lock);
    while (m->taken == m->made && !m->over)
        pthread_cond_wait(&m->more, &m->lock);
    plan = m->taken < m->made ? m->plan[m->taken++] : NULL;
    pthread_mutex_unlock(&m->lock);
    return plan;
}

static int
make_all(struct making *m)
{
    struct lsvd_volume *v = m->looks->v;
    uint64_t bytes_max = batch_bytes_max(v);
    int r = 0;

    for (size_t i = 0; i < m->count && r == 0; i++) {
        const struct parallel_result *look = &m->looks->result[i];

        r = v->batch->bytes < bytes_max ? look->error : 1;
        if (r < 0)
            err_set(r, "%s", look->text);
        if (r == 0)
            r = make_whole(v, m->looks->chunk[i] + 1, m->looks->broken[i]);
        if (r == 0)
            r = batch_add(v, m->looks->chunk[i] + 1);
        if (r == 0 && m->looks->is_bulk[i])
            offer(m, v->batch->last);
    }
    end_offers(m);
    v->batch->is_cut = r == 1;
    return r < 0 ? r : 0;
}

/* The first makes, and is begun before the others (parallel.h); each of those
 * takes one at most. */
static int
make_or_take(void *ctx, size_t i)
{
    struct making *m = ctx;
    struct plan *plan;

    if (i == 0)
        return make_all(m);
    plan = take(m);
    if (plan)
        batch_apply_early(m->looks->v, plan);
    return 0;
}

static int
batch_fill(struct lsvd_volume *v, struct looks *looks, size_t count)
{
    struct making *m;
    size_t takers = 0;
    int r;

    /* Files are opened side by side, as each takes the way to its disk. */
    parallel_each(v->parallel ? BATCH_THREADS : 1, count, v->turn++, look_at,
                  looks, looks->result);
    r = mem_new(1, sizeof *m, &m);
    if (r < 0)
        return r;
    /* The simulator, which has no threads, sees batches with and without. */
    for (size_t i = 0; i < count; i++)
        takers += looks->is_bulk[i] && (v->parallel || v->turn % 2);
    if (takers > 0) /* what went wrong is found when it is needed */
        (void)journal_sync(v->journal);
    m->looks = looks;
    m->count = count;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->more, NULL);
    parallel_each(v->parallel ? BATCH_THREADS : 1, 1 + takers, 0,
                  make_or_take, m, m->result);
    r = m->result[0].error;
    if (r < 0)
        err_set(r, "%s", m->result[0].text);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->more);
    free(m);
    return r;
}

/* Chunks whose blocks are just going the other way (bypass_close.c) wait. */
static size_t
oldest_chunks(struct lsvd_volume *v, struct looks *looks)
{
    size_t found = journal_oldest_chunks(v->journal, looks->chunk,
                                         batch_chunks_max(v));
    size_t kept = 0;

    for (size_t i = 0; i < found; i++) {
        if (!bypass_is_open(v, looks->chunk[i] + 1))
            looks->chunk[kept++] = looks->chunk[i];
    }
    return kept;
}

int
batch_build(struct lsvd_volume *v)
{
    struct looks looks = {.v = v};
    size_t count;
    int r;

    count = oldest_chunks(v, &looks);
    if (count == 0)
        return 0;
    r = mem_new(1, sizeof *v->batch, &v->batch);
    if (r == 0)
        r = batch_fill(v, &looks, count);
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
