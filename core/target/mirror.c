/* mirror.c: see mirror.h.
 *
 * Every operation is carried out on each copy that is in use at its beginning
 * (hold); judge() then decides, under the lock, what that means: which copies
 * are lost and whether the caller may rely on the rest. */
#include "target/mirror.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/wait.h"
#include "target/guard.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 100 /* whether one hangs */
#define SKIPPED 1 /* a result: the copy was not asked */

/*  NONE -> COUNTS  mirror_add         NONE -> JOINING    mirror_join
 *  JOINING -> COUNTS mirror_promote   COUNTS, JOINING -> LOST  judge,
 *  LOST -> NONE    mirror_bury            mirror_lose_joining */
enum copy_state { COPY_NONE, COPY_COUNTS, COPY_JOINING, COPY_LOST };

/* All of it is changed under the lock; who holds a copy may use target and
 * object without. */
struct copy {
    enum copy_state state;
    struct target *target; /* owned */
    struct object *object; /* NULL: not open; owned */
    unsigned uses;         /* operations that hold it (MI5) */
};

struct mirror {
    struct target target;
    mirror_lost_cb cb;
    void *ctx;
    char *name;        /* of the open object; owned */
    unsigned flags;    /* it was opened with */
    bool open;
    struct object object;

    pthread_mutex_t lock; /* guards what follows */
    struct copy copy[MIRROR_COPIES_MAX];
    atomic_uint losses;
    bool threaded, overseen, stopping;
    pthread_t thread, overseer;
    pthread_cond_t work, done, ending;
    atomic_uint patience_ms;
    enum { IDLE, ASKED, ANSWERED } sync_state; /* of copy 1, by the thread */
    int sync_result;
    char sync_text[256];
};

/* What became of one operation, copy by copy. */
struct outcome {
    bool held[MIRROR_COPIES_MAX];
    int result[MIRROR_COPIES_MAX]; /* 0, SKIPPED, or an error */
    char text[MIRROR_COPIES_MAX][256]; /* of an error */
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

/* The copies that an operation is for: those that count, and for all that
 * changes them the one that joins. judge or let_go follows. */
static void
hold(struct mirror *m, bool changes, struct outcome *out)
{
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        struct copy *c = &m->copy[i];

        out->held[i] = c->state == COPY_COUNTS ||
                       (changes && c->state == COPY_JOINING);
        c->uses += out->held[i];
        out->result[i] = SKIPPED;
    }
    pthread_mutex_unlock(&m->lock);
}

static void
let_go_locked(struct mirror *m, const struct outcome *out)
{
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        assert(m->copy[i].uses >= out->held[i]);
        m->copy[i].uses -= out->held[i];
    }
}

static void
let_go(struct mirror *m, const struct outcome *out)
{
    pthread_mutex_lock(&m->lock);
    let_go_locked(m, out);
    pthread_mutex_unlock(&m->lock);
}

/* Has a copy other than i, that counts, carried it out? */
static bool
another_did(const struct mirror *m, const struct outcome *out, unsigned i)
{
    for (unsigned k = 0; k < MIRROR_COPIES_MAX; k++) {
        if (k != i && m->copy[k].state == COPY_COUNTS && out->result[k] == 0)
            return true;
    }
    return false;
}

static void
lose_locked(struct mirror *m, unsigned i)
{
    m->copy[i].state = COPY_LOST;
    atomic_fetch_add(&m->losses, 1);
}

/* MI1, MI3, MI4, MI6: lose the copies that failed if another did it; 0 if one
 * that counts did. Lets them go. */
static int
judge(struct mirror *m, const struct outcome *out)
{
    bool lost[MIRROR_COPIES_MAX] = {false}, done = false;
    int failed = -1;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        struct copy *c = &m->copy[i];

        if (out->result[i] >= 0 || c->state == COPY_LOST)
            continue;
        if (c->state == COPY_COUNTS)
            failed = (int)i;
        lost[i] = c->state == COPY_JOINING || another_did(m, out, i);
        if (lost[i])
            lose_locked(m, i);
    }
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++)
        done = done || (m->copy[i].state == COPY_COUNTS &&
                        out->result[i] == 0);
    pthread_mutex_unlock(&m->lock);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (lost[i] && m->cb)
            m->cb(m->ctx, m->copy[i].target->path, out->text[i]);
    }
    let_go(m, out);
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
    struct outcome out;
    int r = -EIO;

    hold(m, false, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX && r < 0; i++) {
        if (out.held[i])
            r = object_readv(m->copy[i].object, iov, count, at);
    }
    let_go(m, &out);
    return r;
}

static int
mirror_writev(struct object *o, const struct iovec *iov, int count,
              uint64_t at)
{
    struct mirror *m = of_object(o);
    struct outcome out;

    hold(m, true, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (out.held[i])
            note(&out, i, object_writev(m->copy[i].object, iov, count, at));
    }
    return judge(m, &out);
}

/* That a file system can't allocate is an answer, and no failure. */
static int
mirror_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    struct mirror *m = of_object(o);
    struct outcome out;
    bool cannot = false;
    int r;

    hold(m, true, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (!out.held[i])
            continue;
        r = object_allocate(m->copy[i].object, at, bytes);
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
    struct outcome out;

    hold(m, true, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (out.held[i])
            note(&out, i, object_resize(m->copy[i].object, bytes));
    }
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
    struct outcome out;
    bool asked;

    hold(m, true, &out);
    asked = out.held[0] && out.held[1] && ask_thread(m);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (i == 1 && asked)
            await_thread(m, &out);
        else if (out.held[i])
            note(&out, i, object_sync(m->copy[i].object));
    }
    return judge(m, &out);
}

/* Copies that differ are of no size: whoever makes a journal begins anew. */
static int
mirror_stat(struct object *o, struct object_stat *ret)
{
    struct mirror *m = of_object(o);
    struct outcome out;
    bool first = true;
    int r = 0;

    hold(m, false, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX && r == 0; i++) {
        struct object_stat st;

        if (!out.held[i])
            continue;
        r = object_stat(m->copy[i].object, &st);
        if (r < 0)
            break;
        if (first)
            *ret = st;
        else if (st.size_bytes != ret->size_bytes)
            ret->size_bytes = ret->allocated_bytes = 0;
        else if (st.allocated_bytes < ret->allocated_bytes)
            ret->allocated_bytes = st.allocated_bytes;
        first = false;
    }
    let_go(m, &out);
    return r;
}

static void
mirror_drop_cache(struct object *o)
{
    struct mirror *m = of_object(o);
    struct outcome out;

    hold(m, false, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (out.held[i])
            object_drop_cache(m->copy[i].object);
    }
    let_go(m, &out);
}

static int
mirror_unlock(struct object *o, uint64_t at, uint64_t bytes)
{
    struct mirror *m = of_object(o);
    struct outcome out;
    int r = 0;

    hold(m, false, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        int each = out.held[i] ? object_unlock(m->copy[i].object, at, bytes)
                               : 0;

        r = r < 0 ? r : each;
    }
    let_go(m, &out);
    return r;
}

/* A lock that is denied is no failure of the copy: somebody else has it. What
 * was taken goes when the object is closed. */
static int
mirror_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    struct mirror *m = of_object(o);
    struct outcome out;
    int r = 0;

    hold(m, false, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX && r == 0; i++) {
        if (out.held[i])
            r = object_lock(m->copy[i].object, at, bytes, exclusive);
    }
    let_go(m, &out);
    return r;
}

static int
mirror_is_locked(struct object *o, uint64_t at, uint64_t bytes)
{
    struct mirror *m = of_object(o);
    struct outcome out;
    int r = 0;

    hold(m, false, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX && r == 0; i++) {
        if (out.held[i])
            r = object_is_locked(m->copy[i].object, at, bytes);
    }
    let_go(m, &out);
    return r;
}

/* The overseer holds copies when it likes: nothing is taken down before it
 * has gone. */
static void
end_threads(struct mirror *m)
{
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    pthread_cond_signal(&m->work);
    pthread_cond_signal(&m->ending);
    pthread_mutex_unlock(&m->lock);
    if (m->threaded)
        pthread_join(m->thread, NULL);
    if (m->overseen)
        pthread_join(m->overseer, NULL);
    m->threaded = m->overseen = m->stopping = false;
}

static void
mirror_object_close(struct object *o)
{
    struct mirror *m = of_object(o);

    end_threads(m);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        assert(m->copy[i].uses == 0);
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
    struct outcome out;
    int r;

    assert(!m->open);
    r = mem_dup(name, &m->name);
    if (r < 0)
        return r;
    hold(m, true, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (out.held[i])
            note(&out, i, target_open(m->copy[i].target, name, flags,
                                      &m->copy[i].object));
    }
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
    struct outcome out;

    hold(m, true, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (out.held[i])
            note(&out, i, target_sync(m->copy[i].target));
    }
    return judge(m, &out);
}

static void
mirror_close(struct target *t)
{
    struct mirror *m = to_mirror(t);

    assert(!m->open);
    end_threads(m);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++)
        target_close(m->copy[i].target);
    pthread_cond_destroy(&m->work);
    pthread_cond_destroy(&m->done);
    pthread_cond_destroy(&m->ending);
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
    pthread_cond_init(&m->ending, NULL);
    *ret = &m->target;
    return 0;
}

/* Messages name where the journal is. */
static int
name_copies(struct mirror *m)
{
    const char *first = m->copy[0].target->path;
    const char *second = m->copy[1].target ? m->copy[1].target->path : "";
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

/* The place for one more; NULL: there is none. */
static struct copy *
free_place(struct mirror *m)
{
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (m->copy[i].state == COPY_NONE)
            return &m->copy[i];
    }
    return NULL;
}

int
mirror_add(struct target *mirror, struct target *copy)
{
    struct mirror *m = to_mirror(mirror);
    struct copy *c = free_place(m);
    int r = 0;

    assert(c && !c->object);
    assert(!m->threaded);
    if (m->open) {
        r = target_open(copy, m->name, m->flags, &c->object);
        if (r == 0)
            r = object_lock(c->object, 0, 0, true);
    }
    c->target = copy;
    c->state = COPY_COUNTS;
    if (r == 0)
        r = name_copies(m);
    if (r < 0) {
        object_close(c->object);
        target_close(copy);
        *c = (struct copy){0};
    }
    return r;
}

/* MI7. One that is idle may be so because nobody comes past the other. */
static void
look(struct mirror *m)
{
    uint64_t patience_ns = atomic_load(&m->patience_ms) * UINT64_C(1000000);
    bool hangs[MIRROR_COPIES_MAX] = {false}, answers = false;
    struct outcome out;

    hold(m, true, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        struct guard_stats stats;

        if (!out.held[i])
            continue;
        (void)guard_stats(m->copy[i].target, &stats);
        hangs[i] = stats.longest_ns >= patience_ns;
        pthread_mutex_lock(&m->lock);
        answers |= !hangs[i] && m->copy[i].state == COPY_COUNTS;
        pthread_mutex_unlock(&m->lock);
    }
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (hangs[i] && answers)
            guard_give_up(m->copy[i].target);
    }
    let_go(m, &out);
}

static void *
oversee(void *arg)
{
    struct mirror *m = arg;

    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        wait_ms(&m->ending, &m->lock, LOOK_MS);
        pthread_mutex_unlock(&m->lock);
        look(m);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

void
mirror_set_patience(struct target *mirror, unsigned patience_ms)
{
    atomic_store(&to_mirror(mirror)->patience_ms, patience_ms);
}

void
mirror_start(struct target *mirror, unsigned patience_ms)
{
    struct mirror *m = to_mirror(mirror);

    assert(!m->threaded);
    assert(!m->overseen);
    mirror_set_patience(mirror, patience_ms);
    m->threaded = true; /* before there is a thread */
    if (pthread_create(&m->thread, NULL, sync_thread, m) != 0)
        m->threaded = false;
    m->overseen = pthread_create(&m->overseer, NULL, oversee, m) == 0;
}

/* ---- copies that go and come ---- */

bool
mirror_join(struct target *mirror, struct target *copy, struct object *object)
{
    struct mirror *m = to_mirror(mirror);
    struct copy *c;

    pthread_mutex_lock(&m->lock);
    assert(m->open);
    c = free_place(m);
    if (c)
        *c = (struct copy){.state = COPY_JOINING, .target = copy,
                           .object = object};
    pthread_mutex_unlock(&m->lock);
    return c != NULL;
}

static struct copy *
joining_locked(struct mirror *m)
{
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (m->copy[i].state == COPY_JOINING)
            return &m->copy[i];
    }
    return NULL;
}

bool
mirror_promote(struct target *mirror)
{
    struct mirror *m = to_mirror(mirror);
    struct copy *c;

    pthread_mutex_lock(&m->lock);
    c = joining_locked(m);
    if (c)
        c->state = COPY_COUNTS;
    pthread_mutex_unlock(&m->lock);
    return c != NULL;
}

void
mirror_lose_joining(struct target *mirror)
{
    struct mirror *m = to_mirror(mirror);
    struct copy *c;

    pthread_mutex_lock(&m->lock);
    c = joining_locked(m);
    if (c)
        lose_locked(m, (unsigned)(c - m->copy));
    pthread_mutex_unlock(&m->lock);
}

bool
mirror_bury(struct target *mirror)
{
    struct mirror *m = to_mirror(mirror);
    struct copy dead[MIRROR_COPIES_MAX] = {{0}};
    bool left = false;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        struct copy *c = &m->copy[i];

        if (c->state != COPY_LOST)
            continue;
        left |= c->uses > 0;
        if (c->uses > 0)
            continue;
        dead[i] = *c;
        *c = (struct copy){0};
    }
    pthread_mutex_unlock(&m->lock);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        object_close(dead[i].object);
        target_close(dead[i].target);
    }
    return !left;
}

/* ---- what there is ---- */

unsigned
mirror_copies(struct target *mirror)
{
    struct mirror *m = to_mirror(mirror);
    unsigned count = 0;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++)
        count += m->copy[i].state == COPY_COUNTS;
    pthread_mutex_unlock(&m->lock);
    return count;
}

unsigned
mirror_losses(struct target *mirror)
{
    return atomic_load(&to_mirror(mirror)->losses);
}

bool
mirror_is_in(struct target *mirror, const char *path)
{
    struct mirror *m = to_mirror(mirror);
    bool found = false;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++)
        found |= m->copy[i].state == COPY_COUNTS &&
                 strcmp(m->copy[i].target->path, path) == 0;
    pthread_mutex_unlock(&m->lock);
    return found;
}

int
mirror_read(struct object *o, unsigned nth, void *buffer, size_t bytes,
            uint64_t at)
{
    struct outcome out;
    struct mirror *m;
    int r = -ENOENT;

    if (o->ops != &mirror_ops)
        return nth == 0 ? object_read(o, buffer, bytes, at) : r;
    m = of_object(o);
    hold(m, false, &out);
    for (unsigned i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (!out.held[i] || nth-- > 0)
            continue;
        r = object_read(m->copy[i].object, buffer, bytes, at);
        break;
    }
    let_go(m, &out);
    return r;
}
