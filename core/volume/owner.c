/* owner.c: one writer (faults.md section 4).
 *
 * The lock on a part's .lock keeps others out by agreement; the record in it
 * tells people who has it. Neither stops a server that was cut off from its
 * storage for a while and believes that it still has the lock. What does, as
 * far as anything on our side can:
 * (OW1) The record is written anew, through the locked descriptor, and synced,
 *       every few seconds: where a file server has forgotten the lock, or given
 *       it to somebody else, that fails, and the part is dropped; if the rules
 *       forbid that (R7), it is not used any more all the same until its lock
 *       was taken again (K1).
 * (OW2) Before each write of a label its promise is read. One of an epoch above
 *       ours was made by another server that has claimed the volume: we are
 *       fenced. One that can't be read may be such a promise, and is not
 *       written over: the part has failed. The watch looks for that too. So it
 *       is at a start, which may have slept between its reading of the labels
 *       and its claim.
 * (OW3) Fenced is for ever: every request gets ESHUTDOWN, and nothing is
 *       written to any part any more (K4). The program is told, to end.
 * (OW4) Who has slept (SIGSTOP, a suspended host) for longer than the watch
 *       ever takes does not go on from where it was: before the next answer,
 *       and before the next chunk is destaged, one label must have been looked
 *       at. What was being done at that moment is done: only a fence of the
 *       storage stops that.
 * (OW5) Who has not heard of any part for half a minute (no label could be read
 *       from the medium, no record written) may have been replaced, and would
 *       be the last to know: as in OW4 nothing is answered, reads included, and
 *       nothing destaged, until a part is heard of. A takeover watches for
 *       longer than that. It is no fence: when the parts come back as they
 *       were, the volume goes on by itself.
 * (OW6) A member that comes back is looked at as in OW2 before it is used; also
 *       if it can't be had, as somebody else has its lock. (What was promised
 *       on a part that is no member is for the rules of its return to judge:
 *       whoever may start has promised it to one of our members, too.) */
#include "base/err.h"
#include "base/wait.h"
#include "target/guard.h"
#include "volume/volume.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BOOT_ID_BYTES 8 /* so much of it */

void
part_owner(struct target *dir, char *text, size_t bytes)
{
    struct object *object;
    struct object_stat stat;
    size_t count;

    text[0] = 0;
    if (target_open(dir, LOCK_NAME, 0, &object) < 0)
        return;
    if (object_stat(object, &stat) == 0 && stat.size_bytes >= OWNER_BYTES) {
        char owner[OWNER_BYTES];

        if (object_read(object, owner, sizeof owner, 0) == 0) {
            count = strnlen(owner, sizeof owner - 1);
            owner[count] = 0;
            for (size_t i = 0; i < count; i++) {
                if (!isprint((unsigned char)owner[i]))
                    owner[i] = '?';
            }
            snprintf(text, bytes, "%s", owner);
        }
    }
    object_close(object);
}

static void
time_text(uint64_t wall_seconds, char *text, size_t bytes)
{
    time_t at = (time_t)wall_seconds;
    struct tm tm;

    text[0] = '\0';
    if (gmtime_r(&at, &tm))
        strftime(text, bytes, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void
owner_boot(struct lsvd_volume *v, char *text, size_t bytes)
{
    char id[BOOT_ID_BYTES + 1] = "?";
    struct object *object;
    struct target *dir;

    if (v->cache_io->ops->open_dir(v->cache_io, "/proc/sys/kernel/random", 0,
                                   &dir) == 0) {
        /* its size is 0, whatever is in it */
        if (target_open(dir, "boot_id", 0, &object) == 0) {
            if (object_read(object, id, BOOT_ID_BYTES, 0) < 0)
                snprintf(id, sizeof id, "?");
            object_close(object);
        }
        target_close(dir);
    }
    snprintf(text, bytes, "%s", id);
}

/* How the record of this process begins. */
static void
own_name(char *text, size_t bytes)
{
    char host[65] = "?";

    gethostname(host, sizeof host - 1);
    snprintf(text, bytes, "host %s, pid %ld, ", host, (long)getpid());
}

int
owner_write(struct lsvd_volume *v, struct part *p)
{
    char owner[OWNER_BYTES] = "", name[100], since[32], now[32];

    if (v->since_wall == 0) {
        v->since_wall = v->io->ops->wall_seconds(v->io);
        owner_boot(v, v->boot, sizeof v->boot);
    }
    own_name(name, sizeof name);
    time_text(v->since_wall, since, sizeof since);
    time_text(v->io->ops->wall_seconds(v->io), now, sizeof now);
    snprintf(owner, sizeof owner,
             "%ssince %s, boot %s, epoch %u, heartbeat %s",
             name, since, v->boot, atomic_load(&p->label_promised), now);
    return object_write(p->lock, owner, sizeof owner, 0);
}

void
parts_sign(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->part[i].lock)
            (void)owner_write(v, &v->part[i]);
    }
}

/* The record could not be written: was the lock lost, or has the disk failed?
 * It was, if nobody has it, or somebody who has signed. What can't be found out
 * is no loss. The part's lease is held. */
static bool
is_lock_lost(struct part *p)
{
    char ours[OWNER_BYTES], found[OWNER_BYTES];
    struct object *lock;
    int locked;

    if (target_open(p->dir, LOCK_NAME, 0, &lock) < 0)
        return false;
    object_drop_cache(lock);
    locked = object_is_locked(lock, 0, 1);
    object_close(lock);
    if (locked <= 0)
        return locked == 0;
    part_owner(p->dir, found, sizeof found);
    own_name(ours, sizeof ours);
    return found[0] != '\0' && strncmp(found, ours, strlen(ours)) != 0;
}

void
owner_heartbeat(struct lsvd_volume *v, uint32_t slot)
{
    struct part *p = &v->part[slot];
    char why[256] = "";
    struct lease lease;
    bool lost = false;
    int r = -ENOENT;

    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    if ((v->usable & UINT32_C(1) << slot) && p->lock) {
        r = owner_write(v, p);
        if (r == 0)
            r = object_sync(p->lock);
        snprintf(why, sizeof why, "%s", r < 0 ? err_text() : "");
        if (r < 0)
            guard_forgive(p->lock); /* the next beat writes all of it */
        lost = r < 0 && r != -ETIMEDOUT && is_lock_lost(p);
    }
    lease_put(&v->part_leases, &lease);
    if (r == 0)
        owner_has_heard(v, slot);
    else if (why[0] && r != -ENOSPC) /* what to do then is for destage */
        part_gone(v, slot, err_set(lost ? -ENOLCK : r, "its lock %s: %s",
                                   lost ? "was lost" : "can't be kept", why));
}

bool
owner_is_foreign(struct lsvd_volume *v, uint32_t slot,
                 const struct label *label)
{
    if (!uuid_equal(&label->volume, &v->meta.uuid) ||
        label->promised <= atomic_load(&v->part[slot].label_promised))
        return false;
    volume_fence(v, slot, label);
    return true;
}

void
volume_fence(struct lsvd_volume *v, uint32_t slot, const struct label *label)
{
    if (atomic_exchange(&v->fenced, true))
        return;
    event_note(v, LOG_ERROR_LEVEL, "fenced", (char)('a' + slot),
               "another server (host %.63s, epoch %u) has claimed the volume: "
               "this one stops; nothing more is written",
               label->host, label->promised);
    pthread_mutex_lock(&v->state_lock);
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
    if (v->on_fenced)
        v->on_fenced(v->on_fenced_ctx);
}

int
volume_check_fenced(struct lsvd_volume *v)
{
    if (!atomic_load_explicit(&v->fenced, memory_order_relaxed))
        return 0;
    return err_set(-ESHUTDOWN, "volume %s: another server has claimed it",
                   v->meta.name);
}

bool
owner_was_replaced(struct lsvd_volume *v, uint32_t slot,
                   const struct label *label)
{
    struct view view;

    if (!v->attached) /* nobody can take from us what we have not claimed */
        return false;
    volume_get_view(v, &view);
    return (view.members & UINT32_C(1) << slot) && label->slot == slot &&
           uuid_equal(&label->instance, &view.instance[slot]) &&
           owner_is_foreign(v, slot, label);
}

void
owner_look_beside(struct lsvd_volume *v, uint32_t slot, struct target *dir)
{
    struct label label;
    int damaged;

    if (label_load_fresh(dir, &label, &damaged) == 0)
        (void)owner_was_replaced(v, slot, &label);
}

/* ---- OW4, OW5 ---- */

#define SECOND_NS UINT64_C(1000000000)
#define SILENCE_NS (30 * SECOND_NS)
#define POLL_MS 100

/* A look at a part that hangs may take its deadline. */
static bool
has_slept(const struct lsvd_volume *v, uint64_t now)
{
    uint64_t was = atomic_load(&v->awake_ns);

    return was != 0 && now > was &&
           now - was > (2 * (uint64_t)v->config.part_timeout_s + 1) * SECOND_NS;
}

static bool
is_cut_off(const struct lsvd_volume *v, uint64_t now)
{
    uint64_t heard = atomic_load(&v->heard_ns);

    return heard != 0 && now > heard && now - heard > SILENCE_NS;
}

static bool
is_in_doubt(struct lsvd_volume *v)
{
    uint64_t now = v->io->ops->now_ns(v->io);

    return atomic_load(&v->must_look) || has_slept(v, now) ||
           is_cut_off(v, now);
}

void
owner_is_awake(struct lsvd_volume *v)
{
    uint64_t now = v->io->ops->now_ns(v->io);
    uint_fast64_t never = 0;

    if (has_slept(v, now)) /* first; then nobody misses it */
        atomic_store(&v->must_look, true);
    atomic_compare_exchange_strong(&v->heard_ns, &never, now);
    atomic_store(&v->awake_ns, now);
}

/* As of when the watch was about to look, not of when it was answered. */
void
owner_has_heard(struct lsvd_volume *v, uint32_t slot)
{
    bool looked = atomic_exchange(&v->must_look, false);

    atomic_store(&v->heard_ns, atomic_load(&v->awake_ns));
    if (atomic_load(&v->is_silent))
        event_note(v, LOG_WARNING_LEVEL, "silence", (char)('a' + slot),
                   "part %c is heard of again, and nobody has claimed the "
                   "volume meanwhile: it goes on", (int)('a' + slot));
    if (atomic_exchange(&v->is_silent, false) || looked) {
        pthread_mutex_lock(&v->state_lock);
        pthread_cond_broadcast(&v->progress);
        pthread_mutex_unlock(&v->state_lock);
    }
}

bool
owner_is_in_doubt(struct lsvd_volume *v)
{
    if (is_cut_off(v, v->io->ops->now_ns(v->io)) &&
        !atomic_exchange(&v->is_silent, true))
        event_note(v, LOG_ERROR_LEVEL, "silence", 0,
                   "nothing was heard of any part for %u s: another server "
                   "may have been given the volume, so nothing is answered "
                   "until one is heard of",
                   (unsigned)(SILENCE_NS / SECOND_NS));
    return is_in_doubt(v);
}

void
owner_watch_ends(struct lsvd_volume *v)
{
    if (v->attached && is_in_doubt(v))
        atomic_store(&v->must_look, true);
}

static bool
is_ending(struct lsvd_volume *v)
{
    return atomic_load(&v->fenced) || atomic_load(&v->stopping) ||
           atomic_load(&v->hurried);
}

/* Who comes when the silence has lasted for long does not wait for as long
 * again. */
static uint64_t
patience_end(const struct lsvd_volume *v, uint64_t now)
{
    uint64_t most = (v->config.stall_timeout_s + UINT64_C(1)) * SECOND_NS;

    if (is_cut_off(v, now))
        return atomic_load(&v->heard_ns) + SILENCE_NS + most;
    return now + most;
}

static int
await_look(struct lsvd_volume *v)
{
    uint64_t end = patience_end(v, v->io->ops->now_ns(v->io));

    pthread_mutex_lock(&v->state_lock);
    while (is_in_doubt(v) && !is_ending(v) && v->io->ops->now_ns(v->io) < end)
        wait_ms(&v->progress, &v->state_lock, POLL_MS);
    pthread_mutex_unlock(&v->state_lock);
    return volume_check_ours(v);
}

int
volume_check_ours(struct lsvd_volume *v)
{
    int r = volume_check_fenced(v);

    if (r == 0 && v->attached &&
        (v->is_watched ? is_in_doubt(v) : atomic_load(&v->must_look)))
        r = err_set(-EIO, "volume %s: it is not known whether another server "
                    "has claimed it", v->meta.name);
    return r;
}

int
volume_check_awake(struct lsvd_volume *v)
{
    if (v->is_watched && v->attached && is_in_doubt(v))
        return await_look(v);
    return volume_check_fenced(v);
}
