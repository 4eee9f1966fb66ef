/* lease.c: claims on ranges, granted in order of arrival.
 *
 * All claims, granted or waiting, are in one list in order of arrival.
 * (LE1) A claim is granted when no claim before it in the list conflicts with
 *       it. So of two that conflict the earlier always goes first: nobody
 *       starves.
 * (LE2) Two granted claims never conflict: the later one was granted when the
 *       earlier was in the list before it.
 * WAITING -> GRANTED  lease_get, on the waiter's own thread
 * GRANTED -> gone     lease_put */
#include "base/lease.h"

#include <assert.h>
#include <stddef.h>

void
lease_table_init(struct lease_table *table)
{
    int r;

    r = pthread_mutex_init(&table->lock, NULL);
    assert(r == 0);
    r = pthread_cond_init(&table->changed, NULL);
    assert(r == 0);
    table->head = NULL;
    table->tail = NULL;
}

void
lease_table_done(struct lease_table *table)
{
    assert(table->head == NULL);
    (void)pthread_cond_destroy(&table->changed);
    (void)pthread_mutex_destroy(&table->lock);
}

static bool
conflict(const struct lease *a, const struct lease *b)
{
    if (!a->exclusive && !b->exclusive)
        return false;
    return a->first < b->end && b->first < a->end;
}

/* Does a claim before `lease` stand in its way? (LE1) */
static bool
is_blocked_locked(const struct lease *lease)
{
    for (const struct lease *l = lease->prev; l != NULL; l = l->prev)
        if (conflict(l, lease))
            return true;
    return false;
}

/* Is a claim waiting behind `lease` that could be waiting for it? */
static bool
is_awaited_locked(const struct lease *lease)
{
    for (const struct lease *l = lease->next; l != NULL; l = l->next)
        if (!l->granted && conflict(l, lease))
            return true;
    return false;
}

static void
append_locked(struct lease_table *table, struct lease *lease)
{
    lease->next = NULL;
    lease->prev = table->tail;
    if (table->tail != NULL)
        table->tail->next = lease;
    else
        table->head = lease;
    table->tail = lease;
}

static void
unlink_locked(struct lease_table *table, struct lease *lease)
{
    if (lease->prev != NULL)
        lease->prev->next = lease->next;
    else
        table->head = lease->next;
    if (lease->next != NULL)
        lease->next->prev = lease->prev;
    else
        table->tail = lease->prev;
    lease->next = NULL;
    lease->prev = NULL;
}

static void
lease_fill(struct lease *lease, uint64_t first, uint64_t end, bool exclusive)
{
    assert(first <= end);
    lease->first = first;
    lease->end = end;
    lease->exclusive = exclusive;
    lease->granted = false;
}

void
lease_get(struct lease_table *table, struct lease *lease, uint64_t first,
          uint64_t end, bool exclusive)
{
    lease_fill(lease, first, end, exclusive);
    (void)pthread_mutex_lock(&table->lock);
    append_locked(table, lease);
    while (is_blocked_locked(lease))
        (void)pthread_cond_wait(&table->changed, &table->lock);
    lease->granted = true;
    (void)pthread_mutex_unlock(&table->lock);
}

bool
lease_try(struct lease_table *table, struct lease *lease, uint64_t first,
          uint64_t end, bool exclusive)
{
    bool granted;

    lease_fill(lease, first, end, exclusive);
    (void)pthread_mutex_lock(&table->lock);
    append_locked(table, lease);
    granted = !is_blocked_locked(lease);
    if (granted)
        lease->granted = true;
    else
        unlink_locked(table, lease);
    (void)pthread_mutex_unlock(&table->lock);
    return granted;
}

void
lease_put(struct lease_table *table, struct lease *lease)
{
    (void)pthread_mutex_lock(&table->lock);
    assert(lease->granted);
    if (is_awaited_locked(lease))
        (void)pthread_cond_broadcast(&table->changed);
    unlink_locked(table, lease);
    lease->granted = false;
    (void)pthread_mutex_unlock(&table->lock);
}
