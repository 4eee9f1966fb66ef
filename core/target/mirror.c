/* mirror.c: see mirror.h.
 *
 * Every operation is carried out on each copy that counts at its beginning;
 * judge() then decides, under the lock, what that means: which copies are lost
 * and whether the caller may rely on the rest. */
#include "target/mirror.h"

#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKIPPED 1 /* a result: the copy did not count */

struct copy {
    struct target *target; /* owned */
    struct object *object; /* NULL: not open; owned by struct object_mirror */
    atomic_bool lost;
};

struct mirror {
    struct target target;
    mirror_lost_cb cb;
    void *ctx;
    char *name;        /* of the open object; owned */
    unsigned flags;    /* it was opened with */
    bool open;
    struct object object;
    struct copy copy[MIRROR_COPIES_MAX];
    unsigned count;    /* grows only while nobody uses the mirror */

    pthread_mutex_t lock; /* guards what follows; lost is set under it */
    atomic_uint losses;
    bool threaded, stopping;
    pthread_t thread;
    pthread_cond_t work, done;
    enum { IDLE, ASKED, ANSWERED } sync_state; /* of copy 1, by the thread */
    int sync_result;
    char sync_text[256];
};

/* What became of one operation, copy by copy. */
struct outcome {
    int result[MIRROR_COPIES_MAX]; /* 0, SKIPPED, or an error */
    char text[MIRROR_COPIES_MAX][256];
};

static const struct target_ops mirror_ops;

static struct mirror *
to_mirror(struct target *t)
{
    assert(t->ops == &mirror_ops);
    return (struct mirror *)(void *)((char *)t -
                                     offsetof(struct mirror, target));
}

static struct mirror *
of_object(struct object *o)
{
    return to_mirror(o->target);
}

static void
note(struct outcome *out, unsigned i, int r)
{
    out->result[i] = r;
    if (r < 0)
        snprintf(out->text[i], sizeof out->text[i], "%s", err_text());
}

static bool
counts(const struct mirror *m, unsigned i)
{
    return !atomic_load(&m->copy[i].lost);
}

/* Has a copy other than i, that counts, carried it out? */
static bool
another_did(const struct mirror *m, const struct outcome *out, unsigned i)
{
    for (unsigned k = 0; k < m->count; k++) {
        if (k != i && counts(m, k) && out->result[k] == 0)
            return true;
    }
    return false;
}

/* MI1, MI3, MI4: lose the copies that failed if another did it; 0 if one that
 * counts did. */
static int
judge(struct mirror *m, const struct outcome *out)
{
    bool lost[MIRROR_COPIES_MAX] = {false}, done = false;
    int failed = -1;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->count; i++) {
        if (out->result[i] >= 0 || !counts(m, i))
            continue;
        failed = (int)i;
        lost[i] = another_did(m, out, i);
        if (lost[i]) {
            atomic_store(&m->copy[i].lost, true);
            atomic_fetch_add(&m->losses, 1);
        }
    }
    for (unsigned i = 0; i < m->count; i++)
        done = done || (counts(m, i) && out->result[i] == 0);
    pthread_mutex_unlock(&m->lock);
    for (unsigned i = 0; i < m->count; i++) {
        if (lost[i] && m->cb)
            m->cb(m->ctx, m->copy[i].target->path, out->text[i]);
    }
    if (done)
        return 0;
    if (failed < 0) /* all that did it were lost meanwhile */
        return err_set(-EIO, "%s: the copy of the journal that is left did "
                       "not get this", m->target.path);
    return err_set(out->result[failed], "%s", out->text[failed]);
}

/* ---- the object ---- */

static int
mirror_readv(struct object *o, const struct iovec *iov, int count,
             uint64_t at)
{
    struct mirror *m = of_object(o);
    int r = -EIO;

    for (unsigned i = 0; i < m->count; i++) {
        if (!counts(m, i))
            continue;
        r = object_readv(m->copy[i].object, iov, count, at);
        if (r == 0)
            return 0;
    }
    return r;
}

static int
mirror_writev(struct object *o, const struct iovec *iov, int count,
              uint64_t at)
{
    struct mirror *m = of_object(o);
    struct outcome out = { 0 };

    for (unsigned i = 0; i < m->count; i++)
        note(&out, i, counts(m, i) ? object_writev(m->copy[i].object, iov,
                                                   count, at)
                                   : SKIPPED);
    return judge(m, &out);
}

/* That a file system can't allocate is an answer, and no failure. */
static int
mirror_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    struct mirror *m = of_object(o);
    struct outcome out = { 0 };
    bool cannot = false;
    int r;

    for (unsigned i = 0; i < m->count; i++) {
        r = counts(m, i) ? object_allocate(m->copy[i].object, at, bytes)
                         : SKIPPED;
        cannot = cannot || r == -EOPNOTSUPP;
        note(&out, i, r == -EOPNOTSUPP ? 0 : r);
    }
    r = judge(m, &out);
    return r == 0 && cannot ? err_set(-EOPNOTSUPP, "%s: can't allocate",
                                      m->target.path) : r;
}

static int
mirror_resize(struct object *o, uint64_t bytes)
{
    struct mirror *m = of_object(o);
    struct outcome out = { 0 };

    for (unsigned i = 0; i < m->count; i++)
        note(&out, i, counts(m, i) ? object_resize(m->copy[i].object, bytes)
                                   : SKIPPED);
    return judge(m, &out);
}

static void *
sync_thread(void *arg)
{
    struct mirror *m = arg;

    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        int r;

        if (m->sync_state != ASKED) {
            pthread_cond_wait(&m->work, &m->lock);
            continue;
        }
        pthread_mutex_unlock(&m->lock);
        r = object_sync(m->copy[1].object);
        pthread_mutex_lock(&m->lock);
        m->sync_result = r;
        snprintf(m->sync_text, sizeof m->sync_text, "%s",
                 r < 0 ? err_text() : "");
        m->sync_state = ANSWERED;
        pthread_cond_signal(&m->done);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* Ask the thread to sync copy 1. False: there is none, or it is busy with
 * somebody else's. */
static bool
ask_thread(struct mirror *m)
{
    bool asked;

    pthread_mutex_lock(&m->lock);
    asked = m->threaded && m->sync_state == IDLE;
    if (asked) {
        m->sync_state = ASKED;
        pthread_cond_signal(&m->work);
    }
    pthread_mutex_unlock(&m->lock);
    return asked;
}

static void
await_thread(struct mirror *m, struct outcome *out)
{
    pthread_mutex_lock(&m->lock);
    while (m->sync_state != ANSWERED)
        pthread_cond_wait(&m->done, &m->lock);
    m->sync_state = IDLE;
    out->result[1] = m->sync_result;
    snprintf(out->text[1], sizeof out->text[1], "%s", m->sync_text);
    pthread_mutex_unlock(&m->lock);
}

static int
mirror_object_sync(struct object *o)
{
    struct mirror *m = of_object(o);
    struct outcome out = { 0 };
    bool asked = m->count > 1 && counts(m, 0) && counts(m, 1) &&
                 ask_thread(m);

    for (unsigned i = 0; i < m->count; i++) {
        if (i == 1 && asked)
            await_thread(m, &out);
        else
            note(&out, i, counts(m, i) ? object_sync(m->copy[i].object)
                                       : SKIPPED);
    }
    return judge(m, &out);
}

/* Copies that differ are of no size: whoever makes a journal begins anew. */
static int
mirror_stat(struct object *o, struct object_stat *ret)
{
    struct mirror *m = of_object(o);
    bool first = true;

    for (unsigned i = 0; i < m->count; i++) {
        struct object_stat st;
        int r;

        if (!counts(m, i))
            continue;
        r = object_stat(m->copy[i].object, &st);
        if (r < 0)
            return r;
        if (first)
            *ret = st;
        else if (st.size_bytes != ret->size_bytes)
            ret->size_bytes = ret->allocated_bytes = 0;
        else if (st.allocated_bytes < ret->allocated_bytes)
            ret->allocated_bytes = st.allocated_bytes;
        first = false;
    }
    return 0;
}

static void
mirror_drop_cache(struct object *o)
{
    struct mirror *m = of_object(o);

    for (unsigned i = 0; i < m->count; i++) {
        if (counts(m, i))
            object_drop_cache(m->copy[i].object);
    }
}

static int
mirror_unlock(struct object *o, uint64_t at, uint64_t bytes)
{
    struct mirror *m = of_object(o);
    int r = 0;

    for (unsigned i = 0; i < m->count; i++) {
        int each = counts(m, i) ? object_unlock(m->copy[i].object, at, bytes)
                                : 0;

        r = r < 0 ? r : each;
    }
    return r;
}

/* A lock that is denied is no failure of the copy: somebody else has it. What
 * was taken goes when the object is closed. */
static int
mirror_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    struct mirror *m = of_object(o);
    int r = 0;

    for (unsigned i = 0; i < m->count && r == 0; i++) {
        if (counts(m, i))
            r = object_lock(m->copy[i].object, at, bytes, exclusive);
    }
    return r;
}

static int
mirror_is_locked(struct object *o, uint64_t at, uint64_t bytes)
{
    struct mirror *m = of_object(o);
    int r = 0;

    for (unsigned i = 0; i < m->count && r == 0; i++) {
        if (counts(m, i))
            r = object_is_locked(m->copy[i].object, at, bytes);
    }
    return r;
}

static void
mirror_object_close(struct object *o)
{
    struct mirror *m = of_object(o);

    for (unsigned i = 0; i < m->count; i++) {
        object_close(m->copy[i].object);
        m->copy[i].object = NULL;
    }
    free(m->name);
    m->name = NULL;
    m->open = false;
}

static int
no_punch(struct object *o, uint64_t at, uint64_t bytes)
{
    (void)at;
    (void)bytes;
    return err_set(-ENOTSUP, "%s: no holes in a mirror", o->target->path);
}

static int
no_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
             uint64_t *ret_end)
{
    (void)at;
    *ret_begin = *ret_end = 0;
    return err_set(-ENOTSUP, "%s: no holes in a mirror", o->target->path);
}

/* ---- the target ---- */

/* -EBUSY and the like are for the caller, too: only what the other copy could
 * do loses one. */
static int
mirror_open(struct target *t, const char *name, unsigned flags,
            struct object **ret)
{
    struct mirror *m = to_mirror(t);
    struct outcome out = { 0 };
    int r;

    assert(!m->open && m->count > 0);
    r = mem_dup(name, &m->name);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < m->count; i++)
        note(&out, i, counts(m, i) ? target_open(m->copy[i].target, name,
                                                 flags, &m->copy[i].object)
                                   : SKIPPED);
    m->object = (struct object){ .ops = &mirror_ops, .target = t };
    m->flags = flags & ~(unsigned)(OBJECT_CREATE | OBJECT_EXCL);
    m->open = true;
    r = judge(m, &out);
    if (r < 0) {
        mirror_object_close(&m->object);
        return r;
    }
    *ret = &m->object;
    return 0;
}

static int
mirror_target_sync(struct target *t)
{
    struct mirror *m = to_mirror(t);
    struct outcome out = { 0 };

    for (unsigned i = 0; i < m->count; i++)
        note(&out, i, counts(m, i) ? target_sync(m->copy[i].target)
                                   : SKIPPED);
    return judge(m, &out);
}

static void
mirror_close(struct target *t)
{
    struct mirror *m = to_mirror(t);

    assert(!m->open);
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    pthread_cond_signal(&m->work);
    pthread_mutex_unlock(&m->lock);
    if (m->threaded)
        pthread_join(m->thread, NULL);
    for (unsigned i = 0; i < m->count; i++)
        target_close(m->copy[i].target);
    pthread_cond_destroy(&m->work);
    pthread_cond_destroy(&m->done);
    pthread_mutex_destroy(&m->lock);
    free(m->target.path);
    free(m);
}

static int
no_name(struct target *t, const char *name)
{
    return err_set(-ENOTSUP, "%s: %s: not in a mirror", t->path, name);
}

static int
no_rename(struct target *t, const char *from, const char *to)
{
    (void)to;
    return no_name(t, from);
}

static int
no_list(struct target *t, int (*cb)(void *ctx, const char *name), void *ctx)
{
    (void)cb;
    (void)ctx;
    return no_name(t, "a list");
}

static int
no_space(struct target *t, struct target_space *ret)
{
    *ret = (struct target_space){ 0 };
    return no_name(t, "its space");
}

static int
no_subdir(struct target *t, const char *name, unsigned flags,
          struct target **ret)
{
    (void)flags;
    *ret = NULL;
    return no_name(t, name);
}

static const struct target_ops mirror_ops = {
    .open = mirror_open,
    .remove = no_name,
    .rename = no_rename,
    .list = no_list,
    .sync = mirror_target_sync,
    .space = no_space,
    .subdir = no_subdir,
    .remove_dir = no_name,
    .close = mirror_close,
    .readv = mirror_readv,
    .writev = mirror_writev,
    .punch = no_punch,
    .allocate = mirror_allocate,
    .resize = mirror_resize,
    .object_sync = mirror_object_sync,
    .stat = mirror_stat,
    .next_data = no_next_data,
    .drop_cache = mirror_drop_cache,
    .lock = mirror_lock,
    .unlock = mirror_unlock,
    .is_locked = mirror_is_locked,
    .object_close = mirror_object_close,
};

/* ---- by themselves ---- */

int
mirror_new(mirror_lost_cb lost, void *ctx, struct target **ret)
{
    struct mirror *m;
    int r = mem_new(1, sizeof *m, &m);

    if (r < 0)
        return r;
    r = mem_dup("mirror", &m->target.path);
    if (r < 0) {
        free(m);
        return r;
    }
    m->target.ops = &mirror_ops;
    m->cb = lost;
    m->ctx = ctx;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->work, NULL);
    pthread_cond_init(&m->done, NULL);
    *ret = &m->target;
    return 0;
}

/* Messages name where the journal is. */
static int
name_copies(struct mirror *m)
{
    const char *first = m->copy[0].target->path;
    const char *second = m->count > 1 ? m->copy[1].target->path : "";
    size_t bytes = strlen(first) + strlen(second) + 4;
    char *path;
    int r = mem_new(bytes, 1, &path);

    if (r < 0)
        return r;
    snprintf(path, bytes, "%s%s%s", first, *second ? " + " : "", second);
    free(m->target.path);
    m->target.path = path;
    return 0;
}

int
mirror_add(struct target *mirror, struct target *copy)
{
    struct mirror *m = to_mirror(mirror);
    struct copy *c = &m->copy[m->count];
    int r = 0;

    assert(m->count < MIRROR_COPIES_MAX);
    assert(!m->threaded);
    c->object = NULL;
    if (m->open) {
        r = target_open(copy, m->name, m->flags, &c->object);
        if (r == 0)
            r = object_lock(c->object, 0, 0, true);
    }
    c->target = copy;
    m->count++;
    if (r == 0)
        r = name_copies(m);
    if (r < 0) {
        object_close(c->object);
        target_close(copy);
        m->count--;
    }
    return r;
}

void
mirror_start(struct target *mirror)
{
    struct mirror *m = to_mirror(mirror);

    assert(!m->threaded);
    if (m->count < 2)
        return;
    m->threaded = true; /* before there is a thread */
    if (pthread_create(&m->thread, NULL, sync_thread, m) != 0)
        m->threaded = false;
}

unsigned
mirror_copies(struct target *mirror)
{
    struct mirror *m = to_mirror(mirror);
    unsigned count = 0;

    for (unsigned i = 0; i < m->count; i++)
        count += counts(m, i);
    return count;
}

unsigned
mirror_losses(struct target *mirror)
{
    return atomic_load(&to_mirror(mirror)->losses);
}

static int
find_copy(const struct mirror *m, unsigned nth)
{
    for (unsigned i = 0; i < m->count; i++) {
        if (counts(m, i) && nth-- == 0)
            return (int)i;
    }
    return -1;
}

const char *
mirror_path(struct target *mirror, unsigned nth)
{
    struct mirror *m = to_mirror(mirror);
    int i = find_copy(m, nth);

    return i < 0 ? NULL : m->copy[i].target->path;
}

int
mirror_read(struct object *o, unsigned nth, void *buffer, size_t bytes,
            uint64_t at)
{
    struct object *from = nth == 0 ? o : NULL;

    if (o->ops == &mirror_ops) {
        int i = find_copy(of_object(o), nth);

        from = i < 0 ? NULL : of_object(o)->copy[i].object;
    }
    if (!from)
        return -ENOENT;
    return object_read(from, buffer, bytes, at);
}
