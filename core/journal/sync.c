/* sync.c: group commit, and what happens when the medium says no.
 *
 * Happy path: the first who needs a sync becomes the leader and syncs, without
 * the lock, all that was written when it began; those who come meanwhile wait,
 * and the first of them leads the next one if they are not covered.
 * (S1) durable_seq is raised only by a sync that began after those records
 *      were in the file, and returned 0.
 * Fails: once (T2), for good (J5). */
#include "journal/state.h"

#include "base/err.h"
#include <assert.h>
#include <stdio.h>

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
    pthread_cond_broadcast(&j->synced);
}

int
journal_failed_error_locked(const struct journal *j)
{
    assert(j->failed);
    return err_set(-EIO, "the journal has failed: %s", j->failed_text);
}

/* Called with the lock, which it drops meanwhile. */
static void
lead_sync_locked(struct journal *j)
{
    uint64_t covered = j->written_seq;
    int r;

    j->syncing = true;
    pthread_mutex_unlock(&j->lock);
    r = object_sync(j->object);
    pthread_mutex_lock(&j->lock);
    j->syncing = false;
    j->syncs++;
    if (r < 0) {
        journal_fail_locked(j);
        return;
    }
    if (covered > j->durable_seq)
        j->durable_seq = covered;
    pthread_cond_broadcast(&j->synced);
}

static int
sync_to_locked(struct journal *j, uint64_t want)
{
    while (!j->failed && j->durable_seq < want) {
        if (j->written_seq < want)
            pthread_cond_wait(&j->written, &j->lock);
        else if (j->syncing)
            pthread_cond_wait(&j->synced, &j->lock);
        else
            lead_sync_locked(j);
    }
    return j->failed ? journal_failed_error_locked(j) : 0;
}

int
journal_sync_to(struct journal *j, uint64_t want)
{
    int r;

    pthread_mutex_lock(&j->lock);
    r = sync_to_locked(j, want);
    pthread_mutex_unlock(&j->lock);
    return r;
}

int
journal_sync_seen(struct journal *j, uint64_t seq)
{
    int r;

    pthread_mutex_lock(&j->lock);
    r = sync_to_locked(j, seq > j->written_seq ? seq : j->written_seq);
    pthread_mutex_unlock(&j->lock);
    return r;
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
