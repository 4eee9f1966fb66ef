/* sync.c: group commit, and what happens when the medium says no.
 *
 * Happy path: the first who needs a sync becomes the leader and syncs, without
 * the lock, all that was written when it began; those who come meanwhile wait,
 * and one of them leads the next one if they are not covered.
 * (S1) durable_seq is raised only by a sync that began after those records
 *      were in the file, and returned 0.
 * (S2) Who is in sync_waiters wants nothing that is not in the file, and there
 *      is a leader, or one on its way: it was woken and has not looked yet.
 *      Whoever leads covers all that are in the list when it begins.
 * Fails: once (T2), for good (J5). */
#include "journal/state.h"

#include "base/err.h"
#include <assert.h>
#include <stdio.h>

/* Those of a list, without the lock. */
static void
wake_all(struct sync_waiter *list, bool durable)
{
    while (list) {
        struct sync_waiter *w = list;

        list = w->next;
        w->durable = durable;
        wake_post(&w->wake);
    }
}

void
journal_fail_locked(struct journal *j)
{
    if (!j->failed) {
        j->failed = true;
        j->failed_floor = j->oldest_unfinished ? j->oldest_unfinished->seq
                                               : j->last_seq + 1;
        snprintf(j->failed_text, sizeof j->failed_text, "%s", err_text());
    }
    pthread_cond_broadcast(&j->written);
    journal_wake_appends_locked(j);
    wake_all(j->sync_waiters, false);
    j->sync_waiters = NULL;
}

int
journal_failed_error_locked(const struct journal *j)
{
    assert(j->failed);
    return err_set(-EIO, "the journal has failed: %s", j->failed_text);
}

/* Out of the list: those whose records are durable. One of the others is to
 * lead the next sync, and comes last of them. */
static struct sync_waiter *
take_woken_locked(struct journal *j, struct sync_waiter **ret_leader)
{
    struct sync_waiter *left = NULL, *covered = NULL, *next;

    for (struct sync_waiter *w = j->sync_waiters; w; w = next) {
        struct sync_waiter **to = w->want <= j->durable_seq ? &covered : &left;

        next = w->next;
        w->next = *to;
        *to = w;
    }
    *ret_leader = left;
    j->sync_waiters = left ? left->next : NULL;
    if (left)
        left->next = NULL;
    return covered;
}

/* Drops the lock, for good. */
static int
lead_sync(struct journal *j)
{
    uint64_t covered = j->written_seq;
    struct sync_waiter *woken, *leader;
    int r;

    j->syncing = true;
    pthread_mutex_unlock(&j->lock);
    r = object_sync(j->object);
    pthread_mutex_lock(&j->lock);
    j->syncing = false;
    j->syncs++;
    if (r < 0) {
        journal_fail_locked(j);
        r = journal_failed_error_locked(j);
        pthread_mutex_unlock(&j->lock);
        return r;
    }
    if (covered > j->durable_seq)
        j->durable_seq = covered;
    woken = take_woken_locked(j, &leader);
    pthread_mutex_unlock(&j->lock);
    wake_all(leader, false);
    wake_all(woken, true);
    return 0;
}

/* With the lock, which it drops for good. */
static int
sync_to_and_unlock(struct journal *j, uint64_t want)
{
    int r = 0;

    while (!j->failed && j->durable_seq < want) {
        struct sync_waiter w;

        if (j->written_seq < want) {
            pthread_cond_wait(&j->written, &j->lock);
            continue;
        }
        if (!j->syncing)
            return lead_sync(j);
        w.want = want;
        wake_init(&w.wake);
        w.next = j->sync_waiters;
        j->sync_waiters = &w;
        pthread_mutex_unlock(&j->lock);
        wake_wait(&w.wake);
        if (w.durable)
            return 0;
        pthread_mutex_lock(&j->lock);
    }
    if (j->failed)
        r = journal_failed_error_locked(j);
    pthread_mutex_unlock(&j->lock);
    return r;
}

int
journal_sync_to(struct journal *j, uint64_t want)
{
    pthread_mutex_lock(&j->lock);
    return sync_to_and_unlock(j, want);
}

int
journal_sync_seen(struct journal *j, uint64_t seq)
{
    pthread_mutex_lock(&j->lock);
    return sync_to_and_unlock(j, seq > j->written_seq ? seq : j->written_seq);
}

bool
journal_is_durable(struct journal *j, uint64_t seq)
{
    bool durable;

    pthread_mutex_lock(&j->lock);
    durable = !j->failed && j->durable_seq >= seq;
    pthread_mutex_unlock(&j->lock);
    return durable;
}

uint64_t
journal_under_way(struct journal *j)
{
    uint64_t mark = 0;

    pthread_mutex_lock(&j->lock);
    if (j->failed)
        mark = 0;
    else if (j->syncing)
        mark = 3 * j->syncs + 1;
    else if (j->storing)
        mark = 3 * j->stores + 2;
    else if (j->oldest_unfinished)
        mark = 3 * j->oldest_unfinished->seq;
    pthread_mutex_unlock(&j->lock);
    return mark;
}

int
journal_sync(struct journal *j)
{
    return journal_sync_seen(j, 0);
}
