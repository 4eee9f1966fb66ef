/* fault.c: targets and objects that ask the rules first; see fault.h. */
#include "target/fault.h"

#include "base/err.h"
#include "base/memory.h"
#include "target/fault_plan.h"
#include "target/target.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct fault_target {
    struct target base; /* first; the path is the inner one's */
    struct target *inner;
    struct fault_io *io; /* holds a reference */
};

struct fault_object {
    struct object base; /* first */
    struct object *inner;
    char *name; /* owned */
};

static const struct target_ops fault_target_ops;

static struct fault_target *
to_target(struct target *t)
{
    assert(t->ops == &fault_target_ops);
    return (struct fault_target *)t;
}

static struct fault_object *
to_object(struct object *o)
{
    assert(o->ops == &fault_target_ops);
    return (struct fault_object *)o;
}

static int
judge_target(struct fault_target *t, const char *name, enum fault_call call,
             struct fault_verdict *ret)
{
    return fault_judge(t->io, t->base.path, name, call, ret);
}

static int
judge_object(struct fault_object *o, enum fault_call call,
             struct fault_verdict *ret)
{
    return judge_target(to_target(o->base.target), o->name, call, ret);
}

/* Takes inner over, also when it fails. */
static int
wrap_target(struct fault_io *f, struct target *inner, struct target **ret)
{
    struct fault_target *t;
    int r;

    r = mem_new(1, sizeof *t, &t);
    if (r < 0) {
        target_close(inner);
        return r;
    }
    t->base.ops = &fault_target_ops;
    t->base.path = inner->path;
    t->inner = inner;
    t->io = f;
    fault_ref(f);
    *ret = &t->base;
    return 0;
}

/* ---- targets ---- */

static int
fault_open(struct target *base, const char *name, unsigned flags,
           struct object **ret)
{
    struct fault_target *t = to_target(base);
    struct fault_object *o;
    struct fault_verdict v;
    int r;

    r = judge_target(t, name, FAULT_OPEN, &v);
    if (r < 0)
        return r;
    r = mem_new(1, sizeof *o, &o);
    if (r < 0)
        return r;
    r = mem_dup(name, &o->name);
    if (r == 0)
        r = target_open(t->inner, name, flags, &o->inner);
    if (r < 0) {
        free(o->name);
        free(o);
        return r;
    }
    o->base.ops = &fault_target_ops;
    o->base.target = base;
    *ret = &o->base;
    return 0;
}

static int
fault_remove(struct target *base, const char *name)
{
    struct fault_target *t = to_target(base);
    struct fault_verdict v;
    int r = judge_target(t, name, FAULT_REMOVE, &v);

    if (r < 0 || v.kind == FAULT_DROP)
        return r;
    return target_remove(t->inner, name);
}

static int
fault_rename(struct target *base, const char *from, const char *to)
{
    struct fault_target *t = to_target(base);
    struct fault_verdict v;
    int r = judge_target(t, to, FAULT_RENAME, &v);

    if (r < 0 || v.kind == FAULT_DROP)
        return r;
    return target_rename(t->inner, from, to);
}

static int
fault_list(struct target *base, int (*cb)(void *ctx, const char *name),
           void *ctx)
{
    struct fault_target *t = to_target(base);
    struct fault_verdict v;
    int r = judge_target(t, "", FAULT_LIST, &v);

    return r < 0 ? r : target_list(t->inner, cb, ctx);
}

static int
fault_sync_dir(struct target *base)
{
    struct fault_target *t = to_target(base);
    struct fault_verdict v;
    int r = judge_target(t, "", FAULT_SYNC, &v);

    return r < 0 || v.kind == FAULT_LIE ? r : target_sync(t->inner);
}

static int
fault_space(struct target *base, struct target_space *ret)
{
    struct fault_target *t = to_target(base);
    struct fault_verdict v;
    int r = judge_target(t, "", FAULT_STAT, &v);

    return r < 0 ? r : target_space(t->inner, ret);
}

static int
fault_subdir(struct target *base, const char *name, unsigned flags,
             struct target **ret)
{
    struct fault_target *t = to_target(base);
    struct target *inner;
    struct fault_verdict v;
    int r;

    r = judge_target(t, name, FAULT_DIR, &v);
    if (r == 0)
        r = target_subdir(t->inner, name, flags, &inner);
    return r < 0 ? r : wrap_target(t->io, inner, ret);
}

static int
fault_remove_dir(struct target *base, const char *name)
{
    struct fault_target *t = to_target(base);
    struct fault_verdict v;
    int r = judge_target(t, name, FAULT_REMOVE, &v);

    if (r < 0 || v.kind == FAULT_DROP)
        return r;
    return target_remove_dir(t->inner, name);
}

static void
fault_close(struct target *base)
{
    struct fault_target *t = to_target(base);
    struct fault_io *f = t->io;

    target_close(t->inner);
    free(t);
    fault_unref(f);
}

/* ---- bytes on their way ---- */

static size_t
iov_bytes(const struct iovec *iov, int count)
{
    size_t bytes = 0;

    for (int i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

/* One bit of what the vectors hold. */
static void
flip_bit(const struct iovec *iov, int count, uint64_t chance)
{
    size_t bytes = iov_bytes(iov, count), at;

    if (bytes == 0)
        return;
    at = (size_t)(chance / 8 % bytes);
    for (; at >= iov->iov_len; iov++)
        at -= iov->iov_len;
    ((uint8_t *)iov->iov_base)[at] ^= (uint8_t)(1u << chance % 8);
}

/* The first half of the vectors, in as many; freed by the caller. */
static int
first_half(const struct iovec *iov, int count, struct iovec **ret)
{
    size_t left = iov_bytes(iov, count) / 2;
    struct iovec *half;
    int r = mem_new((size_t)count + 1, sizeof *half, &half);

    if (r < 0)
        return r;
    for (int i = 0; i < count; i++) {
        half[i] = iov[i];
        if (half[i].iov_len > left)
            half[i].iov_len = left;
        left -= half[i].iov_len;
    }
    *ret = half;
    return 0;
}

static int
short_transfer(struct fault_object *o, bool write, const struct iovec *iov,
               int count, uint64_t at)
{
    struct iovec *half;
    int r;

    r = first_half(iov, count, &half);
    if (r < 0)
        return r;
    r = write ? object_writev(o->inner, half, count, at)
              : object_readv(o->inner, half, count, at);
    free(half);
    if (r < 0)
        return r;
    return err_set(-EIO, "%s/%s: short %s", o->base.target->path, o->name,
                   write ? "write" : "read");
}

static int
flipped_write(struct fault_object *o, const struct iovec *iov, int count,
              uint64_t at, uint64_t chance)
{
    size_t bytes = iov_bytes(iov, count), filled = 0;
    struct iovec copy = { .iov_len = bytes };
    int r;

    if (bytes == 0)
        return 0;
    r = mem_new_aligned(bytes, &copy.iov_base);
    if (r < 0)
        return r;
    for (int i = 0; i < count; i++) {
        memcpy((uint8_t *)copy.iov_base + filled, iov[i].iov_base,
               iov[i].iov_len);
        filled += iov[i].iov_len;
    }
    flip_bit(&copy, 1, chance);
    r = object_writev(o->inner, &copy, 1, at);
    free(copy.iov_base);
    return r;
}

/* Another place of whole sectors, within the file if it has one. */
static int
elsewhere(struct fault_object *o, size_t bytes, uint64_t at, uint64_t chance,
          uint64_t *ret)
{
    struct object_stat stat;
    uint64_t places, to;
    int r = object_stat(o->inner, &stat);

    if (r < 0)
        return r;
    if (stat.size_bytes < bytes + 512) {
        *ret = at + 512;
        return 0;
    }
    places = (stat.size_bytes - bytes) / 512 + 1;
    to = chance % places * 512;
    if (to == at)
        to = to >= 512 ? to - 512 : to + 512;
    *ret = to;
    return 0;
}

static int
fault_readv(struct object *base, const struct iovec *iov, int count,
            uint64_t at)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r;

    r = judge_object(o, FAULT_READ, &v);
    if (r < 0)
        return r;
    if (v.kind == FAULT_SHORT)
        return short_transfer(o, false, iov, count, at);
    r = object_readv(o->inner, iov, count, at);
    if (r == 0 && v.kind == FAULT_FLIP)
        flip_bit(iov, count, v.chance);
    return r;
}

static int
fault_writev(struct object *base, const struct iovec *iov, int count,
             uint64_t at)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r;

    r = judge_object(o, FAULT_WRITE, &v);
    if (r < 0 || v.kind == FAULT_DROP)
        return r;
    if (v.kind == FAULT_SHORT)
        return short_transfer(o, true, iov, count, at);
    if (v.kind == FAULT_FLIP)
        return flipped_write(o, iov, count, at, v.chance);
    if (v.kind == FAULT_MISDIRECT)
        r = elsewhere(o, iov_bytes(iov, count), at, v.chance, &at);
    return r < 0 ? r : object_writev(o->inner, iov, count, at);
}

/* ---- other calls on objects ---- */

static int
fault_punch(struct object *base, uint64_t at, uint64_t bytes)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_PUNCH, &v);

    if (r < 0 || v.kind == FAULT_DROP)
        return r;
    return object_punch(o->inner, at, bytes);
}

static int
fault_allocate(struct object *base, uint64_t at, uint64_t bytes)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_ALLOCATE, &v);

    if (r < 0 || v.kind == FAULT_DROP)
        return r;
    return object_allocate(o->inner, at, bytes);
}

static int
fault_resize(struct object *base, uint64_t bytes)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_RESIZE, &v);

    if (r < 0 || v.kind == FAULT_DROP)
        return r;
    return object_resize(o->inner, bytes);
}

static int
fault_sync(struct object *base)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_SYNC, &v);

    return r < 0 || v.kind == FAULT_LIE ? r : object_sync(o->inner);
}

static int
fault_stat(struct object *base, struct object_stat *ret)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_STAT, &v);

    return r < 0 ? r : object_stat(o->inner, ret);
}

static int
fault_next_data(struct object *base, uint64_t at, uint64_t *ret_begin,
                uint64_t *ret_end)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_STAT, &v);

    return r < 0 ? r : object_next_data(o->inner, at, ret_begin, ret_end);
}

static void
fault_start_sync(struct object *base)
{
    object_start_sync(to_object(base)->inner);
}

static void
fault_drop_cache(struct object *base)
{
    object_drop_cache(to_object(base)->inner);
}

static int
fault_lock(struct object *base, uint64_t at, uint64_t bytes, bool exclusive)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_LOCK, &v);

    return r < 0 ? r : object_lock(o->inner, at, bytes, exclusive);
}

static int
fault_unlock(struct object *base, uint64_t at, uint64_t bytes)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_LOCK, &v);

    return r < 0 ? r : object_unlock(o->inner, at, bytes);
}

static int
fault_is_locked(struct object *base, uint64_t at, uint64_t bytes)
{
    struct fault_object *o = to_object(base);
    struct fault_verdict v;
    int r = judge_object(o, FAULT_LOCK, &v);

    return r < 0 ? r : object_is_locked(o->inner, at, bytes);
}

static void
fault_object_close(struct object *base)
{
    struct fault_object *o = to_object(base);

    object_close(o->inner);
    free(o->name);
    free(o);
}

static const struct target_ops fault_target_ops = {
    .open = fault_open,
    .remove = fault_remove,
    .rename = fault_rename,
    .list = fault_list,
    .sync = fault_sync_dir,
    .space = fault_space,
    .subdir = fault_subdir,
    .remove_dir = fault_remove_dir,
    .close = fault_close,
    .readv = fault_readv,
    .writev = fault_writev,
    .punch = fault_punch,
    .allocate = fault_allocate,
    .resize = fault_resize,
    .object_sync = fault_sync,
    .start_sync = fault_start_sync,
    .stat = fault_stat,
    .next_data = fault_next_data,
    .drop_cache = fault_drop_cache,
    .lock = fault_lock,
    .unlock = fault_unlock,
    .is_locked = fault_is_locked,
    .object_close = fault_object_close,
};

/* ---- the io ---- */

static int
fault_open_dir(struct io *io, const char *path, unsigned flags,
               struct target **ret)
{
    struct fault_io *f = (struct fault_io *)io;
    struct fault_verdict v;
    struct target *inner;
    int r;

    fault_ref(f);
    r = fault_judge(f, path, "", FAULT_DIR, &v);
    if (r == 0)
        r = f->inner->ops->open_dir(f->inner, path, flags, &inner);
    if (r == 0)
        r = wrap_target(f, inner, ret);
    fault_unref(f);
    return r;
}

static uint64_t
fault_now_ns(struct io *io)
{
    struct io *inner = ((struct fault_io *)io)->inner;

    return inner->ops->now_ns(inner);
}

static uint64_t
fault_wall_seconds(struct io *io)
{
    struct io *inner = ((struct fault_io *)io)->inner;

    return inner->ops->wall_seconds(inner);
}

static int
fault_random(struct io *io, void *buffer, size_t bytes)
{
    struct io *inner = ((struct fault_io *)io)->inner;

    return inner->ops->random(inner, buffer, bytes);
}

static const struct io_ops fault_io_ops = {
    .open_dir = fault_open_dir,
    .now_ns = fault_now_ns,
    .wall_seconds = fault_wall_seconds,
    .random = fault_random,
};

int
fault_new(struct io *inner, fault_refresh refresh, void (*release)(void *ctx),
          void *ctx, struct io **ret)
{
    struct fault_io *f;
    int r;

    r = mem_new(1, sizeof *f, &f);
    if (r < 0)
        return r;
    f->base.ops = &fault_io_ops;
    f->inner = inner;
    f->refresh = refresh;
    f->release = release;
    f->ctx = ctx;
    f->refs = 1;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    *ret = &f->base;
    return 0;
}

void
fault_free(struct io *io)
{
    struct fault_io *f = (struct fault_io *)io;

    if (f == NULL)
        return;
    pthread_mutex_lock(&f->lock);
    f->ended = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    fault_unref(f);
}
