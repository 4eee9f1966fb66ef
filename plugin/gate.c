/* gate.c: see gate.h.
 *
 * (GA1) Who enters counts himself in first and looks at is_shut then; who shuts
 *       sets it first and looks at the counts then; all in one order (seq_cst).
 *       So either the one sees the other, or is seen. */
#include "gate.h"

#include <time.h>

static atomic_uint threads;
static _Thread_local unsigned own_shard = GATE_SHARDS; /* none yet */

void
gate_init(struct gate *g)
{
    for (unsigned i = 0; i < GATE_SHARDS; i++)
        atomic_init(&g->shard[i].inside, 0);
    atomic_init(&g->is_shut, false);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
}

void
gate_done(struct gate *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

void
gate_leave(struct gate *g, unsigned entered)
{
    atomic_fetch_sub(&g->shard[entered].inside, 1);
    if (!atomic_load(&g->is_shut))
        return;
    pthread_mutex_lock(&g->lock);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void
wait_until_open(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (atomic_load(&g->is_shut))
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

unsigned
gate_enter(struct gate *g)
{
    if (own_shard == GATE_SHARDS)
        own_shard = atomic_fetch_add(&threads, 1) % GATE_SHARDS;
    for (;;) {
        atomic_fetch_add(&g->shard[own_shard].inside, 1);
        if (!atomic_load(&g->is_shut))
            return own_shard;
        gate_leave(g, own_shard);
        wait_until_open(g);
    }
}

static bool
is_empty(struct gate *g)
{
    for (unsigned i = 0; i < GATE_SHARDS; i++)
        if (atomic_load(&g->shard[i].inside) > 0)
            return false;
    return true;
}

void
gate_shut(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (atomic_exchange(&g->is_shut, true)) /* by another one */
        pthread_cond_wait(&g->changed, &g->lock);
    while (!is_empty(g))
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

/* False: it is too late. */
static bool
wait_until(struct gate *g, const struct timespec *end)
{
    return pthread_cond_clockwait(&g->changed, &g->lock, CLOCK_MONOTONIC,
                                  end) == 0;
}

bool
gate_try_shut(struct gate *g, unsigned timeout_ms)
{
    struct timespec end;
    bool is_ours, shut;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += timeout_ms / 1000;
    end.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    pthread_mutex_lock(&g->lock);
    while (!(is_ours = !atomic_exchange(&g->is_shut, true)) &&
           wait_until(g, &end))
        continue;
    while (!(shut = is_ours && is_empty(g)) && is_ours && wait_until(g, &end))
        continue;
    pthread_mutex_unlock(&g->lock);
    if (is_ours && !shut)
        gate_open(g);
    return shut;
}

void
gate_open(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->is_shut, false);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}
