/* target.c: thin callers of the table, and what is built on them alone. */
#include "target/target.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <string.h>

#define PIECES_JOINED_MAX 64

int
target_open(struct target *t, const char *name, unsigned flags,
            struct object **ret)
{
    return t->ops->open(t, name, flags, ret);
}

int
target_open_stat(struct target *t, const char *name, unsigned flags,
                 struct object_stat *ret_stat, struct object **ret)
{
    struct object *object;
    int r;

    if (t->ops->open_stat)
        return t->ops->open_stat(t, name, flags, ret_stat, ret);
    r = target_open(t, name, flags, &object);
    if (r < 0)
        return r;
    r = object_stat(object, ret_stat);
    if (r < 0)
        object_close(object);
    else
        *ret = object;
    return r;
}

int
target_remove(struct target *t, const char *name)
{
    return t->ops->remove(t, name);
}

int
target_rename(struct target *t, const char *from, const char *to)
{
    return t->ops->rename(t, from, to);
}

int
target_list(struct target *t, int (*cb)(void *ctx, const char *name),
            void *ctx)
{
    return t->ops->list(t, cb, ctx);
}

int
target_stat_name(struct target *t, const char *name, uint64_t *ret_bytes)
{
    struct object_stat stat;
    struct object *object;
    int r = target_open_stat(t, name, 0, &stat, &object);

    if (r < 0)
        return r;
    object_close(object);
    *ret_bytes = stat.size_bytes;
    return 0;
}

int
target_stat_names(struct target *t, const char *const *names, size_t count,
                  struct target_named *ret)
{
    if (t->ops->stat_names)
        return t->ops->stat_names(t, names, count, ret);
    for (size_t i = 0; i < count; i++)
        ret[i].error = target_stat_name(t, names[i], &ret[i].size_bytes);
    return 0;
}

int
target_sync(struct target *t)
{
    return t->ops->sync(t);
}

int
target_space(struct target *t, struct target_space *ret)
{
    return t->ops->space(t, ret);
}

int
target_subdir(struct target *t, const char *name, unsigned flags,
              struct target **ret)
{
    return t->ops->subdir(t, name, flags, ret);
}

int
target_remove_dir(struct target *t, const char *name)
{
    return t->ops->remove_dir(t, name);
}

void
target_close(struct target *t)
{
    if (t != NULL)
        t->ops->close(t);
}

int
object_readv(struct object *o, const struct iovec *iov, int count,
             uint64_t at)
{
    return o->ops->readv(o, iov, count, at);
}

int
object_writev(struct object *o, const struct iovec *iov, int count,
              uint64_t at)
{
    return o->ops->writev(o, iov, count, at);
}

int
object_read(struct object *o, void *buffer, size_t bytes, uint64_t at)
{
    struct iovec iov = { .iov_base = buffer, .iov_len = bytes };

    return object_readv(o, &iov, 1, at);
}

int
object_write(struct object *o, const void *buffer, size_t bytes, uint64_t at)
{
    struct iovec iov = { .iov_len = bytes };

    /* iovec has no const; a write only reads. */
    memcpy(&iov.iov_base, &buffer, sizeof buffer);
    return object_writev(o, &iov, 1, at);
}

/* How many pieces, from the first, one call can take: iov of them. */
static int
neighbours(const struct object_piece *piece, int count,
           struct iovec iov[PIECES_JOINED_MAX])
{
    uint64_t end = piece[0].at;
    int joined = 0;

    while (joined < count && joined < PIECES_JOINED_MAX &&
           piece[joined].at == end) {
        iov[joined] = piece[joined].iov;
        end += iov[joined++].iov_len;
    }
    return joined;
}

int
object_write_pieces(struct object *o, const struct object_piece *piece,
                    int count)
{
    struct iovec iov[PIECES_JOINED_MAX];
    int r = 0, joined;

    if (o->ops->write_pieces)
        return o->ops->write_pieces(o, piece, count);
    for (int i = 0; i < count && r == 0; i += joined) {
        joined = neighbours(piece + i, count - i, iov);
        r = object_writev(o, iov, joined, piece[i].at);
    }
    return r;
}

int
object_punch(struct object *o, uint64_t at, uint64_t bytes)
{
    return o->ops->punch(o, at, bytes);
}

int
object_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    return o->ops->allocate(o, at, bytes);
}

int
object_resize(struct object *o, uint64_t bytes)
{
    return o->ops->resize(o, bytes);
}

int
object_sync(struct object *o)
{
    return o->ops->object_sync(o);
}

void
object_start_sync(struct object *o)
{
    if (o->ops->start_sync)
        o->ops->start_sync(o);
}

int
object_stat(struct object *o, struct object_stat *ret)
{
    return o->ops->stat(o, ret);
}

int
object_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
                 uint64_t *ret_end)
{
    return o->ops->next_data(o, at, ret_begin, ret_end);
}

void
object_drop_cache(struct object *o)
{
    o->ops->drop_cache(o);
}

int
object_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    return o->ops->lock(o, at, bytes, exclusive);
}

int
object_unlock(struct object *o, uint64_t at, uint64_t bytes)
{
    return o->ops->unlock(o, at, bytes);
}

int
object_is_locked(struct object *o, uint64_t at, uint64_t bytes)
{
    return o->ops->is_locked(o, at, bytes);
}

void
object_close(struct object *o)
{
    if (o != NULL)
        o->ops->object_close(o);
}

static int
load_object(struct object *o, const struct object_stat *st, const char *name,
            size_t max_bytes, uint8_t **ret, size_t *ret_bytes)
{
    AUTO_FREE uint8_t *bytes = NULL;
    size_t count;
    int r;

    if (st->size_bytes > max_bytes)
        return err_set(-EBADMSG, "%s/%s: has %ju bytes, more than the %zu "
                       "that it can have", o->target->path, name,
                       (uintmax_t)st->size_bytes, max_bytes);
    count = (size_t)st->size_bytes;
    r = mem_new(count + 1, 1, &bytes);
    if (r < 0)
        return r;
    r = object_read(o, bytes, count, 0);
    if (r < 0)
        return r;
    *ret = bytes;
    *ret_bytes = count;
    bytes = NULL; /* the caller's now */
    return 0;
}

int
target_load(struct target *t, const char *name, size_t max_bytes,
            uint8_t **ret, size_t *ret_bytes)
{
    struct object_stat st;
    struct object *o;
    int r;

    assert(max_bytes < SIZE_MAX);
    r = target_open_stat(t, name, 0, &st, &o);
    if (r < 0)
        return r;
    r = load_object(o, &st, name, max_bytes, ret, ret_bytes);
    object_close(o);
    return r;
}

void
target_read_anew(struct target *t, const char *name)
{
    struct object *o;

    if (target_open(t, name, 0, &o) < 0)
        return;
    object_drop_cache(o);
    object_close(o);
}

static int
fill_new(struct target *t, const char *name, const void *bytes, size_t count)
{
    struct object *o;
    int r;

    r = target_open(t, name, OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL, &o);
    if (r < 0)
        return r;
    r = object_write(o, bytes, count, 0);
    if (r == 0)
        r = object_sync(o);
    object_close(o);
    return r;
}

/* Remove what a failure left; the text of the failure stays. */
static int
discard_new(struct target *t, const char *name, int error)
{
    AUTO_FREE char *text = NULL;

    if (mem_dup(err_text(), &text) < 0)
        return error;
    (void)target_remove(t, name);
    return err_set(error, "%s", text);
}

int
target_store(struct target *t, const char *name, const void *bytes,
             size_t count)
{
    AUTO_FREE char *new_name = NULL;
    size_t name_bytes = strlen(name);
    int r;

    r = mem_new(name_bytes + sizeof ".new", 1, &new_name);
    if (r < 0)
        return r;
    memcpy(new_name, name, name_bytes);
    memcpy(new_name + name_bytes, ".new", sizeof ".new");

    /* One that a crash left, whatever it is: never written through. */
    r = target_remove(t, new_name);
    if (r < 0 && r != -ENOENT)
        return r;
    r = fill_new(t, new_name, bytes, count);
    if (r == 0)
        r = target_rename(t, new_name, name);
    if (r < 0)
        return discard_new(t, new_name, r);
    return target_sync(t);
}
