/* gate-io.c: see gate-io.h. */
#include "gate-io.h"

#include "base/err.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gate_target {
    struct target base; /* first */
    struct gate *gate;
};

struct gate_object {
    struct object base; /* first */
    struct gate *gate;
    struct gate_file *file;
    bool holds_lock;
};

static const struct target_ops gate_ops;

static struct gate *
gate_of(struct target *t)
{
    return ((struct gate_target *)t)->gate;
}

static struct gate_object *
to_object(struct object *o)
{
    return (struct gate_object *)o;
}

/* Every call comes through here. */
static int
pass(struct gate *g, enum gate_call call, const char *name)
{
    int r;

    pthread_mutex_lock(&g->lock);
    g->calls[call]++;
    g->inside++;
    if (g->inside > g->inside_max)
        g->inside_max = g->inside;
    pthread_cond_broadcast(&g->changed);
    while ((g->shut & 1u << call) &&
           (g->only == NULL || strcmp(g->only, name) == 0))
        pthread_cond_wait(&g->changed, &g->lock);
    g->inside--;
    r = g->fail[call];
    pthread_mutex_unlock(&g->lock);
    return r < 0 ? err_set(r, "%s: the test wants it so", name) : 0;
}

/* ---- targets ---- */

static int
new_target(struct gate *g, const char *path, struct target **ret)
{
    struct gate_target *t = calloc(1, sizeof *t);

    assert(t != NULL);
    t->base.ops = &gate_ops;
    t->base.path = strdup(path);
    t->gate = g;
    pthread_mutex_lock(&g->lock);
    g->open_targets++;
    pthread_mutex_unlock(&g->lock);
    *ret = &t->base;
    return 0;
}

static int
gate_open_dir(struct io *io, const char *path, unsigned flags,
              struct target **ret)
{
    struct gate *g = (struct gate *)io;
    int r;

    (void)flags;
    r = pass(g, GATE_OPEN_DIR, path);
    return r < 0 ? r : new_target(g, path, ret);
}

static int
gate_subdir(struct target *t, const char *name, unsigned flags,
            struct target **ret)
{
    char path[256];
    int r;

    (void)flags;
    r = pass(gate_of(t), GATE_OPEN_DIR, name);
    (void)snprintf(path, sizeof path, "%s/%s", t->path, name);
    return r < 0 ? r : new_target(gate_of(t), path, ret);
}

static void
gate_close(struct target *t)
{
    struct gate *g = gate_of(t);

    (void)pass(g, GATE_DIR_CLOSE, t->path);
    free(t->path);
    free(t);
    pthread_mutex_lock(&g->lock);
    g->open_targets--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static struct gate_file *
find_file(struct gate *g, const char *name, bool make)
{
    struct gate_file *unused = NULL;

    for (int i = 0; i < GATE_FILES; i++) {
        if (strcmp(g->file[i].name, name) == 0)
            return &g->file[i];
        if (g->file[i].name[0] == '\0' && unused == NULL)
            unused = &g->file[i];
    }
    if (!make)
        return NULL;
    assert(unused != NULL);
    (void)snprintf(unused->name, sizeof unused->name, "%s", name);
    return unused;
}

static int
gate_open_object(struct target *t, const char *name, unsigned flags,
                 struct object **ret)
{
    struct gate *g = gate_of(t);
    struct gate_file *file;
    struct gate_object *o;
    int r;

    r = pass(g, GATE_OPEN, name);
    if (r < 0)
        return r;
    pthread_mutex_lock(&g->lock);
    file = find_file(g, name, flags & OBJECT_CREATE);
    if (file != NULL)
        g->open_objects++;
    pthread_mutex_unlock(&g->lock);
    if (file == NULL)
        return err_set(-ENOENT, "%s/%s: is missing", t->path, name);
    o = calloc(1, sizeof *o);
    assert(o != NULL);
    o->base.ops = &gate_ops;
    o->base.target = t;
    o->gate = g;
    o->file = file;
    *ret = &o->base;
    return 0;
}

static int
gate_remove(struct target *t, const char *name)
{
    return pass(gate_of(t), GATE_NAMES, name);
}

static int
gate_rename(struct target *t, const char *from, const char *to)
{
    (void)to;
    return pass(gate_of(t), GATE_NAMES, from);
}

static int
gate_list(struct target *t, int (*cb)(void *ctx, const char *name), void *ctx)
{
    struct gate *g = gate_of(t);
    int r;

    r = pass(g, GATE_LIST, "");
    for (int i = 0; i < GATE_FILES && r == 0; i++)
        if (g->file[i].name[0] != '\0')
            r = cb(ctx, g->file[i].name);
    return r;
}

static int
gate_sync_dir(struct target *t)
{
    return pass(gate_of(t), GATE_DIR_SYNC, "");
}

static int
gate_space(struct target *t, struct target_space *ret)
{
    *ret = (struct target_space){ 1, 2, 3 };
    return pass(gate_of(t), GATE_STAT, "");
}

/* ---- objects ---- */

static int
gate_readv(struct object *object, const struct iovec *iov, int count,
           uint64_t at)
{
    struct gate_object *o = to_object(object);
    struct gate *g = o->gate;
    int r;

    r = pass(g, GATE_READ, o->file->name);
    pthread_mutex_lock(&g->lock);
    for (int i = 0; i < count; i++) {
        assert(at + iov[i].iov_len <= GATE_FILE_BYTES);
        memcpy(iov[i].iov_base, o->file->bytes + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    pthread_mutex_unlock(&g->lock);
    return r;
}

static int
gate_try_readv(struct object *object, const struct iovec *iov, int count,
               uint64_t at)
{
    struct gate_object *o = to_object(object);
    struct gate *g = o->gate;
    int r = -EAGAIN;

    pthread_mutex_lock(&g->lock);
    if (g->try_works && count == 1 &&
        at + iov[0].iov_len <= GATE_FILE_BYTES) {
        memcpy(iov[0].iov_base, o->file->bytes + at, iov[0].iov_len);
        r = 0;
    }
    pthread_mutex_unlock(&g->lock);
    return r;
}

static int
gate_writev(struct object *object, const struct iovec *iov, int count,
            uint64_t at)
{
    struct gate_object *o = to_object(object);
    struct gate *g = o->gate;
    int r;

    r = pass(g, GATE_WRITE, o->file->name);
    pthread_mutex_lock(&g->lock);
    g->log[g->logged++ % GATE_LOG] = at;
    g->pieces += (unsigned)count;
    for (int i = 0; i < count; i++) {
        uint8_t *to = o->file->bytes + at % GATE_FILE_BYTES;

        /* Read all of it, so that a sanitizer sees every byte. */
        for (size_t b = 0; b < iov[i].iov_len; b++)
            to[b % 4096] = ((const uint8_t *)iov[i].iov_base)[b];
        at += iov[i].iov_len;
    }
    if (o->file->size < at)
        o->file->size = at;
    pthread_mutex_unlock(&g->lock);
    return r;
}

static int
gate_change(struct object *o, uint64_t at, uint64_t bytes)
{
    (void)at;
    (void)bytes;
    return pass(to_object(o)->gate, GATE_WRITE, to_object(o)->file->name);
}

static int
gate_resize(struct object *o, uint64_t bytes)
{
    return gate_change(o, 0, bytes);
}

static int
gate_sync(struct object *o)
{
    return pass(to_object(o)->gate, GATE_SYNC, to_object(o)->file->name);
}

static int
gate_stat(struct object *object, struct object_stat *ret)
{
    struct gate_object *o = to_object(object);
    int r;

    r = pass(o->gate, GATE_STAT, o->file->name);
    pthread_mutex_lock(&o->gate->lock);
    ret->size_bytes = ret->allocated_bytes = o->file->size;
    ret->device = 0;
    ret->node = (uintptr_t)o->file;
    pthread_mutex_unlock(&o->gate->lock);
    return r;
}

static int
gate_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
               uint64_t *ret_end)
{
    *ret_begin = at;
    *ret_end = at + 1;
    return pass(to_object(o)->gate, GATE_STAT, to_object(o)->file->name);
}

static void
gate_drop_cache(struct object *o)
{
    (void)gate_sync(o);
}

static int
gate_lock(struct object *object, uint64_t at, uint64_t bytes, bool exclusive)
{
    struct gate_object *o = to_object(object);
    int r;

    (void)at;
    (void)bytes;
    (void)exclusive;
    r = pass(o->gate, GATE_LOCK, o->file->name);
    if (r < 0)
        return r;
    pthread_mutex_lock(&o->gate->lock);
    if (o->file->locked && !o->holds_lock)
        r = -EBUSY;
    else
        o->file->locked = o->holds_lock = true;
    pthread_mutex_unlock(&o->gate->lock);
    return r < 0 ? err_set(r, "%s: is locked", o->file->name) : 0;
}

static void
let_go(struct gate_object *o)
{
    pthread_mutex_lock(&o->gate->lock);
    if (o->holds_lock)
        o->file->locked = o->holds_lock = false;
    pthread_mutex_unlock(&o->gate->lock);
}

static int
gate_unlock(struct object *o, uint64_t at, uint64_t bytes)
{
    (void)at;
    (void)bytes;
    let_go(to_object(o));
    return 0;
}

static int
gate_is_locked(struct object *object, uint64_t at, uint64_t bytes)
{
    struct gate_object *o = to_object(object);
    bool locked;

    (void)at;
    (void)bytes;
    pthread_mutex_lock(&o->gate->lock);
    locked = o->file->locked && !o->holds_lock;
    pthread_mutex_unlock(&o->gate->lock);
    return locked;
}

static void
gate_close_object(struct object *object)
{
    struct gate_object *o = to_object(object);
    struct gate *g = o->gate;

    (void)pass(g, GATE_CLOSE, o->file->name);
    let_go(o);
    free(o);
    pthread_mutex_lock(&g->lock);
    g->open_objects--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static const struct target_ops gate_ops = {
    .open = gate_open_object,
    .remove = gate_remove,
    .rename = gate_rename,
    .list = gate_list,
    .sync = gate_sync_dir,
    .space = gate_space,
    .subdir = gate_subdir,
    .remove_dir = gate_remove,
    .close = gate_close,
    .readv = gate_readv,
    .try_readv = gate_try_readv,
    .writev = gate_writev,
    .punch = gate_change,
    .allocate = gate_change,
    .resize = gate_resize,
    .object_sync = gate_sync,
    .stat = gate_stat,
    .next_data = gate_next_data,
    .drop_cache = gate_drop_cache,
    .lock = gate_lock,
    .unlock = gate_unlock,
    .is_locked = gate_is_locked,
    .object_close = gate_close_object,
};

/* ---- the test's side ---- */

static uint64_t
gate_clock(struct io *io)
{
    (void)io;
    return 42;
}

static int
gate_random(struct io *io, void *buffer, size_t bytes)
{
    (void)io;
    memset(buffer, 7, bytes);
    return 0;
}

void
gate_init(struct gate *g)
{
    static const struct io_ops ops = {
        .open_dir = gate_open_dir,
        .now_ns = gate_clock,
        .wall_seconds = gate_clock,
        .random = gate_random,
    };

    memset(g, 0, sizeof *g);
    g->io.ops = &ops;
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
gate_shut(struct gate *g, unsigned calls, const char *only)
{
    pthread_mutex_lock(&g->lock);
    g->shut = calls;
    g->only = only;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void
gate_open(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->shut = 0;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void
gate_wait_inside(struct gate *g, unsigned n)
{
    pthread_mutex_lock(&g->lock);
    while (g->inside != n)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

void
gate_wait_closed(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (g->open_objects > 0 || g->open_targets > 0)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

void
gate_fail(struct gate *g, enum gate_call call, int error)
{
    pthread_mutex_lock(&g->lock);
    g->fail[call] = error;
    pthread_mutex_unlock(&g->lock);
}

unsigned
gate_count(struct gate *g, enum gate_call call)
{
    unsigned n;

    pthread_mutex_lock(&g->lock);
    n = g->calls[call];
    pthread_mutex_unlock(&g->lock);
    return n;
}
