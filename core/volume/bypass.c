/* bypass.c: see bypass.h. Here: which chunks are open, and waiting until one is
 * not. */
#include "volume/bypass.h"
#include "base/err.h"
#include "base/wait.h"
#include <stdlib.h>
#include <string.h>

#define ROUND_LOOK_MS 1000u

/* ---- the list ---- */

struct bypass_chunk *
bypass_of_chunk_locked(struct lsvd_volume *v, uint64_t chunk)
{
    struct bypass_chunk *b = v->bypass.first;

    while (b && b->chunk != chunk)
        b = b->next;
    return b;
}

struct bypass_chunk *
bypass_find_locked(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    uint64_t begin = geometry_chunk_of(&v->g, first);
    uint64_t end = geometry_chunk_of(&v->g, first + count - 1);
    struct bypass_chunk *b = v->bypass.first;

    while (b && (b->chunk < begin || b->chunk > end))
        b = b->next;
    return b;
}

void
bypass_enlist_locked(struct lsvd_volume *v, struct bypass_chunk *b)
{
    struct bypass_chunk **at = &v->bypass.first;

    b->id = ++v->bypass.newest_id;
    while (*at)
        at = &(*at)->next;
    *at = b;
    atomic_fetch_add(&v->bypass.count, 1);
}

bool
bypass_is_open_locked(struct lsvd_volume *v, uint64_t chunk, uint64_t *ret)
{
    const struct bypass_chunk *b = bypass_of_chunk_locked(v, chunk);

    if (!b || !b->has_files)
        return false;
    *ret = b->newest;
    return true;
}

/* Without a lock as long as none is open. */
static bool
has_blocks(struct lsvd_volume *v, uint64_t first, uint64_t count,
           bool found_only)
{
    const struct bypass_chunk *b;
    bool has;

    if (atomic_load(&v->bypass.count) == 0)
        return false;
    pthread_mutex_lock(&v->table_lock);
    b = bypass_find_locked(v, first, count);
    has = b && (b->found || !found_only);
    pthread_mutex_unlock(&v->table_lock);
    return has;
}

bool
bypass_has(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    return has_blocks(v, first, count, false);
}

bool
bypass_is_open(struct lsvd_volume *v, uint64_t chunk)
{
    return has_blocks(v, geometry_first_block(&v->g, chunk), 1, false);
}

bool
bypass_is_found(struct lsvd_volume *v, uint64_t chunk)
{
    return has_blocks(v, geometry_first_block(&v->g, chunk), 1, true);
}

void
bypass_forget_sums(struct bypass_chunk *b)
{
    struct bypass_sums *next;

    for (; b->sums; b->sums = next) {
        next = b->sums->next;
        free(b->sums);
    }
}

void
bypass_free(struct bypass_chunk *b)
{
    struct plan *next;

    for (; b->pieces; b->pieces = next) {
        next = b->pieces->next;
        plan_free(b->pieces);
    }
    bypass_forget_sums(b);
    free(b->written);
    free(b);
}

void
bypass_done(struct lsvd_volume *v)
{
    struct bypass_chunk *b, *next;

    for (b = v->bypass.first; b; b = next) {
        next = b->next;
        if (b->pin)
            chunk_put(v, b->pin);
        bypass_free(b);
    }
    v->bypass.first = NULL;
}

void
bypass_leave(struct lsvd_volume *v, struct bypass_chunk *b, int r)
{
    bool is_due;

    pthread_mutex_lock(&v->table_lock);
    b->writers--;
    if (r < 0)
        b->broken = true;
    is_due = b->broken || b->blocks == v->g.chunk_blocks;
    pthread_cond_broadcast(&v->bypass.changed);
    pthread_mutex_unlock(&v->table_lock);
    if (!is_due)
        return;
    pthread_mutex_lock(&v->state_lock);
    pthread_cond_signal(&v->work);
    pthread_mutex_unlock(&v->state_lock);
}

void
bypass_break(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->table_lock);
    for (struct bypass_chunk *b = v->bypass.first; b; b = b->next)
        b->broken = true;
    pthread_mutex_unlock(&v->table_lock);
}

/* ---- waiting for the role ---- */

/* From now on the journal is for what is written, for a while. */
static void
begin_anew(struct lsvd_volume *v)
{
    atomic_store(&v->bypass.flushed_at, atomic_load(&v->count.write_bytes));
}

static bool
has_up_to(struct lsvd_volume *v, uint64_t id)
{
    bool has;

    pthread_mutex_lock(&v->table_lock);
    has = v->bypass.first && v->bypass.first->id <= id;
    pthread_mutex_unlock(&v->table_lock);
    return has;
}

/* Caller holds state_lock. Wait for the next round, if there is to be one. */
static int
await_round_locked(struct lsvd_volume *v)
{
    int error = atomic_load(&v->destage_error);
    uint64_t left = error == 0 ? UINT64_MAX : space_patience_ms_locked(v);

    if (atomic_load(&v->stopping) || atomic_load(&v->fenced) ||
        (atomic_load(&v->hurried) && error != 0))
        return -ESHUTDOWN;
    if (atomic_load(&v->journal_lost) || left == 0)
        return error != 0 ? error : -EIO;
    pthread_cond_signal(&v->work);
    wait_ms(&v->progress, &v->state_lock,
            left < ROUND_LOOK_MS ? (unsigned)left : ROUND_LOOK_MS);
    return 0;
}

static int
await_closed(struct lsvd_volume *v, uint64_t id)
{
    int r = 0;

    pthread_mutex_lock(&v->state_lock);
    while (r == 0 && has_up_to(v, id)) {
        if (v->bypass.asked < id)
            v->bypass.asked = id;
        if (v->threaded) {
            r = await_round_locked(v);
            continue;
        }
        pthread_mutex_unlock(&v->state_lock);
        r = bypass_round(v);
        pthread_mutex_lock(&v->state_lock);
    }
    pthread_mutex_unlock(&v->state_lock);
    if (r < 0)
        err_set(r, "volume %s: what was written can't be made durable: %s",
                v->meta.name, strerror(-r));
    return r;
}

int
bypass_settle(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    const struct bypass_chunk *b;
    uint64_t id = 0;

    begin_anew(v); /* who writes so is served better by the journal */
    pthread_mutex_lock(&v->table_lock);
    for (b = bypass_find_locked(v, first, count); b; b = b->next) {
        if (b->chunk <= geometry_chunk_of(&v->g, first + count - 1) &&
            b->chunk >= geometry_chunk_of(&v->g, first))
            id = b->id;
    }
    pthread_mutex_unlock(&v->table_lock);
    return id == 0 ? 0 : await_closed(v, id);
}

int
bypass_flush(struct lsvd_volume *v)
{
    uint64_t id;

    begin_anew(v);
    if (atomic_load(&v->bypass.count) == 0)
        return 0;
    pthread_mutex_lock(&v->table_lock);
    id = v->bypass.newest_id;
    pthread_mutex_unlock(&v->table_lock);
    return await_closed(v, id);
}
