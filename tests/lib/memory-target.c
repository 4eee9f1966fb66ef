/* memory-target.c: see memory-target.h. */
#include "memory-target.h"
#include "base/err.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memory_object {
    struct object base;
    struct memory_file *file;
    bool writable;
};

static struct memory_target *
target_of(struct target *t)
{
    return (struct memory_target *)t;
}

static struct memory_file *
file_of(struct object *o)
{
    return ((struct memory_object *)o)->file;
}

/* Every call that may fail passes here. */
static int
step(struct target *base)
{
    struct memory_target *t = target_of(base);

    if (t->fail_after < 0)
        return 0;
    if (t->fail_after-- > 0)
        return 0;
    t->fired = true;
    return err_set(t->fail_code, "injected");
}

static int
set_size(struct memory_file *f, uint64_t size)
{
    uint8_t *bytes;

    if (size > MEMORY_FILE_BYTES_MAX)
        return err_set(-EFBIG, "%s: too big for memory", f->name);
    bytes = realloc(f->bytes, size > 0 ? (size_t)size : 1);
    if (!bytes)
        return err_set(-ENOMEM, "out of memory");
    if (size > f->size)
        memset(bytes + f->size, 0, (size_t)size - f->size);
    f->bytes = bytes;
    f->size = (size_t)size;
    return 0;
}

struct memory_file *
memory_target_find(struct memory_target *t, const char *name)
{
    for (int i = 0; i < MEMORY_FILES_MAX; i++)
        if (strcmp(t->file[i].name, name) == 0)
            return &t->file[i];
    return NULL;
}

struct memory_file *
memory_target_file(struct memory_target *t, const char *name, size_t size)
{
    struct memory_file *f = memory_target_find(t, name);

    if (!f) {
        f = memory_target_find(t, "");
        if (!f || strlen(name) >= sizeof f->name)
            abort();
        (void)snprintf(f->name, sizeof f->name, "%s", name);
    }
    if (set_size(f, size) < 0)
        abort();
    return f;
}

static int
memory_open(struct target *t, const char *name, unsigned flags,
            struct object **ret)
{
    struct memory_file *f = memory_target_find(target_of(t), name);
    struct memory_object *o;
    int r = step(t);

    if (r < 0)
        return r;
    if (!f && !(flags & OBJECT_CREATE))
        return err_set(-ENOENT, "%s: no such file", name);
    if (f && (flags & OBJECT_EXCL))
        return err_set(-EEXIST, "%s: exists", name);
    if (!f)
        f = memory_target_file(target_of(t), name, 0);
    o = calloc(1, sizeof *o);
    if (!o)
        return err_set(-ENOMEM, "out of memory");
    o->base.ops = t->ops;
    o->base.target = t;
    o->file = f;
    o->writable = (flags & OBJECT_WRITE) != 0;
    *ret = &o->base;
    return 0;
}

static int
memory_remove(struct target *t, const char *name)
{
    struct memory_file *f = memory_target_find(target_of(t), name);
    int r = step(t);

    if (r < 0)
        return r;
    if (!f)
        return err_set(-ENOENT, "%s: no such file", name);
    free(f->bytes);
    memset(f, 0, sizeof *f);
    return 0;
}

static bool
is_bad(const struct memory_target *t, uint64_t at, size_t bytes)
{
    return at < t->bad_end && at + bytes > t->bad_begin;
}

static int
memory_readv(struct object *o, const struct iovec *iov, int count,
             uint64_t at)
{
    struct memory_file *f = file_of(o);
    int r = step(o->target);

    target_of(o->target)->reads++;
    for (int i = 0; r == 0 && i < count; i++) {
        if (at > f->size || iov[i].iov_len > f->size - at
            || is_bad(target_of(o->target), at, iov[i].iov_len))
            return err_set(-EIO, "%s: can't read", f->name);
        memcpy(iov[i].iov_base, f->bytes + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return r;
}

static int
memory_writev(struct object *o, const struct iovec *iov, int count,
              uint64_t at)
{
    struct memory_file *f = file_of(o);
    int r = step(o->target);

    assert(((struct memory_object *)o)->writable);
    target_of(o->target)->writes++;
    for (int i = 0; r == 0 && i < count; i++) {
        if (at + iov[i].iov_len > f->size)
            r = set_size(f, at + iov[i].iov_len);
        if (r == 0)
            memcpy(f->bytes + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return r;
}

static int
memory_punch(struct object *o, uint64_t at, uint64_t bytes)
{
    struct memory_file *f = file_of(o);
    int r = step(o->target);

    if (r < 0 || at >= f->size)
        return r;
    if (bytes > f->size - at)
        bytes = f->size - at;
    memset(f->bytes + at, 0, (size_t)bytes);
    return 0;
}

static int
memory_resize(struct object *o, uint64_t bytes)
{
    int r = step(o->target);

    return r < 0 ? r : set_size(file_of(o), bytes);
}

static int
memory_sync(struct object *o)
{
    target_of(o->target)->syncs++;
    return step(o->target);
}

static int
memory_stat(struct object *o, struct object_stat *ret)
{
    int r = step(o->target);

    if (r < 0)
        return r;
    ret->size_bytes = file_of(o)->size;
    ret->allocated_bytes = file_of(o)->size;
    ret->device = 0;
    ret->node = (uintptr_t)file_of(o);
    return 0;
}

static int
memory_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
                 uint64_t *ret_end)
{
    struct memory_file *f = file_of(o);
    int r = step(o->target);

    if (r < 0)
        return r;
    while (at < f->size && f->bytes[at] == 0)
        at++;
    if (at >= f->size)
        return -ENXIO;
    *ret_begin = at;
    while (at < f->size && f->bytes[at] != 0)
        at++;
    *ret_end = at;
    return 0;
}

/* All of it is allocated, always. */
static int
memory_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    (void)at;
    (void)bytes;
    return step(o->target);
}

static int
memory_sync_names(struct target *t)
{
    return step(t);
}

static void
memory_drop_cache(struct object *o)
{
    (void)o;
}

/* One process, one thread: nobody else holds it. */
static int
memory_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    (void)at;
    (void)bytes;
    (void)exclusive;
    return step(o->target);
}

static void
memory_close(struct object *o)
{
    free(o);
}

static const struct target_ops memory_ops = {
    .open = memory_open,
    .remove = memory_remove,
    .sync = memory_sync_names,
    .readv = memory_readv,
    .writev = memory_writev,
    .punch = memory_punch,
    .allocate = memory_allocate,
    .resize = memory_resize,
    .object_sync = memory_sync,
    .stat = memory_stat,
    .next_data = memory_next_data,
    .drop_cache = memory_drop_cache,
    .lock = memory_lock,
    .object_close = memory_close,
};

void
memory_target_init(struct memory_target *t)
{
    static char path[] = "memory";

    memset(t, 0, sizeof *t);
    t->base.ops = &memory_ops;
    t->base.path = path;
    t->fail_after = -1;
}

void
memory_target_done(struct memory_target *t)
{
    for (int i = 0; i < MEMORY_FILES_MAX; i++)
        free(t->file[i].bytes);
}
