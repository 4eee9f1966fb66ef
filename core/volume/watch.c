/* watch.c: see watch.h. */
#include "volume/watch.h"
#include "base/err.h"
#include "base/wait.h"
#include "redundancy/membership.h"
#include "target/guard.h"
#include "volume/journal_refill.h"
#include "volume/resync.h"
#include "volume/volume.h"
#include <stdio.h>
#include <string.h>

#define LOOK_MS 1000
#define LOOKS_LEFT_BITS 5 /* a look in half a minute */
#define HEARTBEAT_NS UINT64_C(5000000000)
#define EVERYWHERE_EVERY 8 /* looks: also where other parts belong */

/* ---- those in use ---- */

/* Is the label under this path still ours, and not of an older day? Counts only
 * grow, so one that was read before must not be above what is found. */
static int
check_path(struct lsvd_volume *v, uint32_t slot, const char *path,
           uint64_t writes, bool fresh)
{
    struct target *dir;
    struct label label;
    int damaged, r;

    r = v->io->ops->open_dir(v->io, path, 0, &dir);
    if (r < 0)
        return r;
    r = fresh ? label_load_fresh(dir, &label, &damaged)
              : label_load(dir, &label, &damaged);
    target_close(dir);
    if (r < 0)
        return r;
    if (!uuid_equal(&label.instance, &v->meta.part[slot].instance))
        return err_set(-ENOENT, "%s is another part now", path);
    if (owner_is_foreign(v, slot, &label))
        return 0;
    if (label.write_count < writes)
        return err_set(-ESTALE, "%s was replaced by an old copy of itself",
                       path);
    if (fresh)
        owner_has_heard(v, slot);
    return 0;
}

static void
check_member(struct lsvd_volume *v, uint32_t slot, bool fresh)
{
    struct part *p = &v->part[slot];
    uint64_t writes = atomic_load(&p->label_writes);
    char path[PATH_TEXT_MAX] = "";
    struct lease lease;
    bool hung = false;
    int r;

    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    if ((v->usable & UINT32_C(1) << slot) && p->dir) {
        snprintf(path, sizeof path, "%s", p->dir->path);
        hung = guard_is_hung(p->dir);
    }
    lease_put(&v->part_leases, &lease);
    if (path[0] == '\0')
        return;
    if (hung)
        r = err_set(-ETIMEDOUT, "%s does not answer", path);
    else
        r = check_path(v, slot, path, writes, fresh);
    if (r == -EBADMSG || r == -EIO) /* destage will say what that means */
        r = 0;
    if (r < 0 && ++p->absences < 2 && r != -ETIMEDOUT)
        return; /* somebody may be exchanging a file at this moment */
    if (r < 0)
        part_gone(v, slot, r);
    p->absences = 0;
}

/* ---- those that are away ---- */

static void
say(struct lsvd_volume *v, struct part *p, enum lsvd_part_state state,
    const char *text)
{
    bool news;

    pthread_mutex_lock(&v->state_lock);
    news = p->state != state || strcmp(p->problem, text) != 0;
    if (news)
        part_fail(p, state, "%s", text);
    pthread_mutex_unlock(&v->state_lock);
    if (news && state == LSVD_PART_DIVERGED)
        event_note(v, LOG_ERROR_LEVEL, "diverged", p->letter,
                   "part %c is not taken back: %s", p->letter, text);
}

static void
id_text(const struct view_id *id, char *text, size_t bytes)
{
    char start[UUID_TEXT_BYTES];

    uuid_format(&id->start, start);
    snprintf(text, bytes, "%u.%u-%.8s", id->epoch, id->minor, start);
}

/* A member that did not answer: is it as it was left? */
static bool
is_as_it_was(const struct part *p, const struct part *found,
             const struct view *view)
{
    return uuid_equal(&found->label.instance, &view->instance[p->slot]) &&
           (view_id_equal(&found->label.view.id, &view->id) ||
            view_id_equal(&found->label.view.id, &view->previous)) &&
           found->label.write_count >= atomic_load(&p->label_writes);
}

/* May it be taken back, and how? */
static bool
judge(struct lsvd_volume *v, struct part *p, struct offer *offer)
{
    struct part *found = &offer->part;
    struct view view;
    char text[256], own[32], ours[32];
    const char *why;

    volume_get_view(v, &view);
    if (view.members & UINT32_C(1) << p->slot) {
        offer->is_member = is_as_it_was(p, found, &view);
        if (!offer->is_member)
            say(v, p, LSVD_PART_STALE,
                "is back, but not as it was when it was last heard of; too few "
                "parts are in sync to do without it");
        return offer->is_member;
    }
    if (found->state == LSVD_PART_REBUILDING) { /* its own table tells all */
        offer->full = view.absent[p->slot].ckpt == VIEW_CKPT_UNKNOWN;
        return true;
    }
    switch (membership_returning(&found->label, p->slot, &view, &why)) {
    case RETURN_RESYNC:
        return true;
    case RETURN_FULL:
        offer->full = true;
        return true;
    case RETURN_DIVERGED:
        break;
    }
    id_text(&found->label.view.id, own, sizeof own);
    id_text(&view.id, ours, sizeof ours);
    snprintf(text, sizeof text,
             "%s; its history is at %s, the volume's at %s; if what it holds "
             "is not wanted: lsvd-repair replace %s %c",
             why, own, ours, v->meta.name, p->letter);
    say(v, p, LSVD_PART_DIVERGED, text);
    return false;
}

/* Its own table says what it has; a doubtful one says nothing. */
static int
open_table(struct lsvd_volume *v, struct offer *offer)
{
    struct part *found = &offer->part;
    uint64_t damaged = 0;
    int r;

    if (offer->full)
        return 0;
    r = chunk_table_open(found->dir, &found->label.instance,
                         geometry_chunk_count(&v->g), true, &found->table,
                         &damaged);
    if (r == -ENOENT) {
        offer->full = true;
        return 0;
    }
    if (r < 0)
        return r;
    offer->full = damaged > 0 || chunk_table_generation(found->table) <
                                     found->label.table_generation;
    return 0;
}

static void
look_for(struct lsvd_volume *v, uint32_t slot)
{
    struct part *p = &v->part[slot];
    struct offer offer;
    int r;

    memset(&offer, 0, sizeof offer);
    r = part_find(v, slot, p->absences++ % EVERYWHERE_EVERY == 0,
                  &offer.part);
    if (r < 0) {
        if (r != -EBUSY && !is_our_trouble(r)) /* EBUSY: our own lock, going */
            say(v, p, LSVD_PART_MISSING, err_text());
        return;
    }
    if (owner_was_replaced(v, slot, &offer.part.label)) { /* OW6 */
        part_candidate_close(&offer.part);
        return;
    }
    if (judge(v, p, &offer)) {
        r = open_table(v, &offer);
        if (r == 0 && offer.is_member && !offer.part.table)
            r = -ENOENT;
        if (r == 0 && offer.is_member) /* with a lock that is taken anew */
            owner_has_heard(v, slot);
        if (r == 0 && resync_offer(v, &offer))
            return;
        if (r < 0 && !is_our_trouble(r))
            say(v, p, LSVD_PART_ERROR, err_text());
    }
    chunk_table_close(offer.part.table);
    part_candidate_close(&offer.part);
}

void
watch_for(struct lsvd_volume *v, uint32_t slot)
{
    struct lease lease;

    /* its root and instance are changed under the exclusive lease; and it may
     * have been taken back since somebody thought that it is away */
    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    if (!v->part[slot].dir && !resync_has(v, slot))
        look_for(v, slot);
    lease_put(&v->part_leases, &lease);
}

/* ---- the thread ---- */

bool
watch_is_turn(const struct lsvd_volume *v, unsigned failed, unsigned *left)
{
    if (!v->threaded || failed == 0)
        return true;
    if (*left == 0) {
        *left = 1u << (failed < LOOKS_LEFT_BITS ? failed : LOOKS_LEFT_BITS);
        return true;
    }
    --*left;
    return false;
}

/* Nobody can help those who wait for a journal that does not answer (copies of
 * it are given up, mirror.h), but it is told. */
static void
look_at_journal(struct lsvd_volume *v, uint64_t now)
{
    /* copies are given up at the timeout, and then it goes on */
    uint64_t patience = (v->world.timeout_ms + 2 * LOOK_MS) *
                        UINT64_C(1000000);
    uint64_t mark = journal_under_way(v->journal), since;
    struct journal_space space;
    bool hangs, before;

    pthread_mutex_lock(&v->state_lock);
    if (mark != v->journal_mark) {
        v->journal_mark = mark;
        v->journal_mark_ns = now;
    }
    since = v->journal_mark_ns;
    before = v->journal_hangs;
    hangs = mark != 0 && now - since >= patience;
    v->journal_hangs = hangs;
    pthread_mutex_unlock(&v->state_lock);
    if (hangs && !before)
        event_note(v, LOG_ERROR_LEVEL, "journal", 0,
                   "the journal has not answered for %llu s: until it does, "
                   "requests wait", (unsigned long long)(now - since) /
                                    1000000000);
    journal_space(v->journal, &space);
    if (!hangs && before && !space.failed)
        event_note(v, LOG_WARNING_LEVEL, "journal", 0,
                   "the journal answers again");
}

void
watch_look(struct lsvd_volume *v)
{
    uint64_t now = v->io->ops->now_ns(v->io);
    bool beats = now - v->beat_ns >= HEARTBEAT_NS;

    if (beats)
        v->beat_ns = now;
    if (v->world.timeout_ms > 0)
        look_at_journal(v, now);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (atomic_load(&v->stopping))
            return;
        owner_is_awake(v);
        if (owner_is_in_doubt(v))
            beats = true;
        if (v->usable & UINT32_C(1) << i) {
            check_member(v, i, beats);
            if (beats)
                owner_heartbeat(v, i);
        } else if (!resync_has(v, i) && !policy_keeps_off(v, i) &&
                   watch_is_turn(v, atomic_load(&v->part[i].fills_failed),
                                 &v->part[i].looks_left)) {
            watch_for(v, i);
        }
    }
    journal_look(v);
    policy_watch(v);
    parts_tell_left_out(v);
}

static void *
watch(void *arg)
{
    struct lsvd_volume *v = arg;

    pthread_mutex_lock(&v->state_lock);
    while (!atomic_load(&v->stopping)) {
        wait_ms(&v->watching, &v->state_lock, LOOK_MS);
        if (atomic_load(&v->stopping))
            break;
        pthread_mutex_unlock(&v->state_lock);
        watch_look(v);
        pthread_mutex_lock(&v->state_lock);
    }
    pthread_mutex_unlock(&v->state_lock);
    return NULL;
}

int
watch_start(struct lsvd_volume *v)
{
    int r;

    owner_is_awake(v);
    r = pthread_create(&v->watcher, NULL, watch, v);
    if (r != 0)
        return err_set(-r, "volume %s: can't start a thread", v->meta.name);
    v->is_watched = true;
    return 0;
}

void
watch_stop(struct lsvd_volume *v)
{
    if (!v->is_watched)
        return;
    pthread_join(v->watcher, NULL);
    owner_watch_ends(v);
    v->is_watched = false;
}
