/* journal_refill.c: see journal_refill.h. */
#include "volume/journal_refill.h"
#include "volume/volume.h"
#include "volume/watch.h"
#include "base/err.h"
#include <stdio.h>
#include <string.h>

#define STEP_BYTES_MIN (64u << 10)
#define STEP_BYTES_MAX (4u << 20)
#define STEPS 64 /* of a ring, about */
#define AT_ONCE_NS UINT64_C(50000000) /* others may want the role */
#define QUIET_LOOKS 60    /* after which earlier failures are forgotten */

/* ---- the watch's ---- */

/* Every failure is said once. */
static void
say(struct lsvd_volume *v, const char *path, const char *text)
{
    struct refill *f = &v->refill;
    bool news;

    pthread_mutex_lock(&v->state_lock);
    news = strcmp(f->problem, text) != 0;
    snprintf(f->problem, sizeof f->problem, "%s", text);
    pthread_mutex_unlock(&v->state_lock);
    if (news)
        event_note(v, LOG_ERROR_LEVEL, "journal", 0,
                   "no copy of the journal in %s yet: %s", path, text);
}

static bool
is_busy(struct lsvd_volume *v)
{
    bool busy;

    pthread_mutex_lock(&v->state_lock);
    busy = v->refill.offered || v->refill.is_active ||
           v->refill.is_unrecorded;
    pthread_mutex_unlock(&v->state_lock);
    return busy;
}

static void
offer(struct lsvd_volume *v, size_t nth, struct target *dir)
{
    pthread_mutex_lock(&v->state_lock);
    v->refill.offered = dir;
    v->refill.index = nth;
    pthread_cond_broadcast(&v->work);
    pthread_mutex_unlock(&v->state_lock);
}

static void
look_for(struct lsvd_volume *v, size_t nth)
{
    struct target *dir;
    int r;

    if (!watch_is_turn(v, atomic_load(&v->refill.failed),
                       &v->refill.looks_left) ||
        !mirror_bury(v->mirror)) /* MI5 */
        return;
    env_cache_patience(&v->world, nth, false);
    r = journal_probe(v, nth, &dir);
    if (r == 0)
        offer(v, nth, dir);
    else if (r != -EBUSY && r != -ENOMEM) /* EBUSY: our own lock, going */
        say(v, v->config.cache[nth], err_text());
}

void
journal_look(struct lsvd_volume *v)
{
    struct journal_space space;

    if (!v->mirror || !v->attached || is_busy(v))
        return;
    journal_space(v->journal, &space);
    if (space.failed)
        return;
    for (size_t i = 0; v->config.cache[i]; i++) {
        if (mirror_is_in(v->mirror, v->config.cache[i]))
            continue;
        v->refill.quiet_looks = 0;
        look_for(v, i);
        return;
    }
    if (++v->refill.quiet_looks >= QUIET_LOOKS)
        atomic_store(&v->refill.failed, 0);
}

/* ---- the role's ---- */

bool
refill_is_asked_locked(const struct lsvd_volume *v)
{
    return v->refill.offered || v->refill.is_active ||
           v->refill.is_unrecorded;
}

static void
set_state(struct lsvd_volume *v, bool active, bool unrecorded)
{
    pthread_mutex_lock(&v->state_lock);
    v->refill.is_active = active;
    v->refill.is_unrecorded = unrecorded;
    pthread_mutex_unlock(&v->state_lock);
}

static void
release(struct refill *f)
{
    object_close(f->object);
    target_close(f->dir);
    f->object = NULL;
    f->dir = NULL;
}

static void
give_up(struct lsvd_volume *v)
{
    struct refill *f = &v->refill;
    char text[256];

    snprintf(text, sizeof text, "%s", err_text());
    release(f);
    atomic_fetch_add(&f->failed, 1);
    set_state(v, false, false);
    say(v, v->config.cache[f->index], text);
}

static struct target *
take_offer(struct lsvd_volume *v)
{
    struct target *dir;

    pthread_mutex_lock(&v->state_lock);
    dir = v->refill.offered;
    v->refill.offered = NULL;
    v->refill.is_active = dir != NULL;
    pthread_mutex_unlock(&v->state_lock);
    return dir;
}

static bool
begin(struct lsvd_volume *v)
{
    struct refill *f = &v->refill;
    char name[64];
    int r;

    f->dir = take_offer(v);
    if (!f->dir)
        return false;
    atomic_store(&f->done, 0);
    atomic_store(&f->total, 0);
    journal_name(v, name, sizeof name);
    r = target_open(f->dir, name, OBJECT_WRITE | OBJECT_CREATE, &f->object);
    if (r == 0)
        r = object_lock(f->object, 0, 0, true);
    if (r == 0)
        r = journal_fill_begin(v->journal, f->object, &f->fill);
    if (r == 0)
        r = target_sync(f->dir);
    if (r < 0) {
        give_up(v);
        return true;
    }
    atomic_store(&f->total, f->fill.total);
    event_note(v, LOG_WARNING_LEVEL, "journal", 0,
               "%s can be used: the copy of the journal in it is being made "
               "anew", f->dir->path);
    return true;
}

static bool
join(void *ctx)
{
    struct lsvd_volume *v = ctx;
    struct refill *f = &v->refill;

    if (!mirror_join(v->mirror, f->dir, f->object))
        return false;
    f->dir = NULL; /* they are the mirror's */
    f->object = NULL;
    return true;
}

/* JF6. From the promotion on, the loss of either is a loss as any other. */
static bool
end(struct lsvd_volume *v)
{
    int r = journal_fill_end(v->journal, &v->refill.fill, join, v);

    if (r == 0 && !mirror_promote(v->mirror))
        r = err_set(-EIO, "it was lost again meanwhile");
    if (r < 0) {
        mirror_lose_joining(v->mirror);
        give_up(v);
        return true;
    }
    env_cache_patience(&v->world, v->refill.index, true);
    set_state(v, false, true);
    return true;
}

/* A part that fails at it is let go as with any view. */
static bool
record(struct lsvd_volume *v)
{
    const char *path = v->config.cache[v->refill.index];
    int r;

    if (mirror_copies(v->mirror) < journal_directories(v)) {
        set_state(v, false, false); /* and the loss was recorded */
        return true;
    }
    r = journal_rename(v);
    if (r < 0) {
        say(v, path, err_text());
        return false;
    }
    pthread_mutex_lock(&v->state_lock);
    v->refill.is_unrecorded = false;
    v->refill.problem[0] = '\0';
    pthread_mutex_unlock(&v->state_lock);
    atomic_fetch_add(&v->refill.ended, 1);
    event_note(v, LOG_WARNING_LEVEL, "journal", 0,
               "the copy of the journal in %s is up to date again; both "
               "cache directories have one", path);
    return true;
}

static uint64_t
step_bytes(const struct lsvd_volume *v)
{
    uint64_t bytes = v->meta.journal_bytes / STEPS;

    if (bytes > STEP_BYTES_MAX)
        return STEP_BYTES_MAX;
    return bytes > STEP_BYTES_MIN ? bytes : STEP_BYTES_MIN;
}

/* As quickly as it goes, for a moment: clients that write faster than a step in
 * a round would never be caught up with. */
static int
copy_some(struct lsvd_volume *v)
{
    uint64_t begin = v->io->ops->now_ns(v->io);
    struct refill *f = &v->refill;
    int r;

    do
        r = journal_fill_step(v->journal, &f->fill, step_bytes(v));
    while (r > 0 && v->threaded &&
           v->io->ops->now_ns(v->io) - begin < AT_ONCE_NS);
    atomic_store(&f->done, f->fill.done);
    return r;
}

bool
refill_step(struct lsvd_volume *v)
{
    struct refill *f = &v->refill;
    int r;

    if (!v->mirror || atomic_load(&v->stopping) ||
        (!journal_is_settled(v) && journal_settle(v) < 0)) /* JF7 */
        return false;
    if (f->is_unrecorded)
        return record(v);
    if (!f->is_active)
        return begin(v);
    r = copy_some(v);
    if (r == 0)
        return end(v);
    if (r < 0)
        give_up(v);
    return true;
}

void
refill_done(struct lsvd_volume *v)
{
    target_close(v->refill.offered);
    v->refill.offered = NULL;
    release(&v->refill);
}

/* ---- anybody's ---- */

unsigned
journal_copies(struct lsvd_volume *v)
{
    unsigned count;

    if (!v->mirror)
        return v->journal != NULL;
    count = mirror_copies(v->mirror);
    pthread_mutex_lock(&v->state_lock);
    if (v->refill.is_unrecorded && count > 1)
        count--;
    pthread_mutex_unlock(&v->state_lock);
    return count;
}

bool
journal_is_mirrored(struct lsvd_volume *v, char *why, size_t bytes)
{
    struct refill *f = &v->refill;
    const char *path = NULL;
    bool filling;

    if (!v->mirror || journal_copies(v) == journal_directories(v))
        return true;
    pthread_mutex_lock(&v->state_lock);
    filling = f->is_active || f->is_unrecorded;
    if (filling)
        path = v->config.cache[f->index];
    pthread_mutex_unlock(&v->state_lock);
    for (size_t i = 0; v->config.cache[i] && !path; i++) {
        if (!mirror_is_in(v->mirror, v->config.cache[i]))
            path = v->config.cache[i];
    }
    snprintf(why, bytes, filling ? "the copy of the journal in %.200s is being "
                                   "made anew"
                                 : "no copy of the journal in %.200s",
             path ? path : "?");
    return false;
}
