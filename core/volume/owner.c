/* owner.c: one writer (faults.md section 4).
 *
 * The lock on a part's .lock keeps others out by agreement; the record in it
 * tells people who has it. Neither stops a server that was cut off from its
 * storage for a while and believes that it still has the lock. What does, as
 * far as anything on our side can:
 * (OW1) The record is written anew, through the locked descriptor, and synced,
 *       every few seconds: where a file server has given the lock to somebody
 *       else, that fails, and the part is dropped.
 * (OW2) Before each write of a label its promise is read. One of an epoch above
 *       ours was made by another server that has claimed the volume: we are
 *       fenced. The watch looks for that too.
 * (OW3) Fenced is for ever: every request gets ESHUTDOWN, and nothing is
 *       written to any part any more (K4). The program is told, to end.
 * (OW4) Who has slept (SIGSTOP, a suspended host) for longer than the watch
 *       ever takes does not go on from where it was: before the next answer,
 *       and before the next chunk is destaged, one label must have been looked
 *       at. What was being done at that moment is done: only a fence of the
 *       storage stops that. */
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

int
owner_write(struct lsvd_volume *v, struct part *p)
{
    char owner[OWNER_BYTES] = "", host[65] = "?", since[32], now[32];

    if (v->since_wall == 0) {
        v->since_wall = v->io->ops->wall_seconds(v->io);
        owner_boot(v, v->boot, sizeof v->boot);
    }
    gethostname(host, sizeof host - 1);
    time_text(v->since_wall, since, sizeof since);
    time_text(v->io->ops->wall_seconds(v->io), now, sizeof now);
    snprintf(owner, sizeof owner,
             "host %s, pid %ld, since %s, boot %s, epoch %u, heartbeat %s",
             host, (long)getpid(), since, v->boot,
             atomic_load(&p->label_promised), now);
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

void
owner_heartbeat(struct lsvd_volume *v, uint32_t slot)
{
    struct part *p = &v->part[slot];
    struct lease lease;
    int r = 0;

    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    if ((v->usable & UINT32_C(1) << slot) && p->lock) {
        r = owner_write(v, p);
        if (r == 0)
            r = object_sync(p->lock);
        if (r < 0)
            guard_forgive(p->lock); /* the next beat writes all of it */
    }
    lease_put(&v->part_leases, &lease);
    if (r < 0)
        part_gone(v, slot, err_wrap(r, "its lock can't be kept"));
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

/* ---- OW4 ---- */

#define SECOND_NS UINT64_C(1000000000)
#define POLL_MS 100

/* A look at a part that hangs may take its deadline. */
static bool
has_slept(struct lsvd_volume *v)
{
    uint64_t was = atomic_load(&v->awake_ns), now = v->io->ops->now_ns(v->io);

    return was != 0 && now > was &&
           now - was > (2 * (uint64_t)v->config.part_timeout_s + 1) * SECOND_NS;
}

void
owner_is_awake(struct lsvd_volume *v)
{
    if (has_slept(v)) /* first; then nobody misses it */
        atomic_store(&v->must_look, true);
    atomic_store(&v->awake_ns, v->io->ops->now_ns(v->io));
}

void
owner_has_looked(struct lsvd_volume *v)
{
    if (!atomic_exchange(&v->must_look, false))
        return;
    pthread_mutex_lock(&v->state_lock);
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
}

static bool
is_ending(struct lsvd_volume *v)
{
    return atomic_load(&v->fenced) || atomic_load(&v->stopping) ||
           atomic_load(&v->hurried);
}

static int
await_look(struct lsvd_volume *v)
{
    uint64_t begin = v->io->ops->now_ns(v->io);
    uint64_t most = (v->config.stall_timeout_s + UINT64_C(1)) * SECOND_NS;

    pthread_mutex_lock(&v->state_lock);
    while ((has_slept(v) || atomic_load(&v->must_look)) && !is_ending(v) &&
           v->io->ops->now_ns(v->io) - begin < most)
        wait_ms(&v->progress, &v->state_lock, POLL_MS);
    pthread_mutex_unlock(&v->state_lock);
    if (volume_check_fenced(v) < 0)
        return -ESHUTDOWN;
    if (has_slept(v) || atomic_load(&v->must_look))
        return err_set(-EIO, "volume %s: it is not known whether another "
                       "server has claimed it", v->meta.name);
    return 0;
}

int
volume_check_awake(struct lsvd_volume *v)
{
    if (v->is_watched && v->attached &&
        (has_slept(v) || atomic_load(&v->must_look)))
        return await_look(v);
    return volume_check_fenced(v);
}
