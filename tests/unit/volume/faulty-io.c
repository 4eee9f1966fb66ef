/* faulty-io.c: see faulty-io.h. */
#include "faulty-io.h"
#include "base/err.h"
#include "target/target.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct faulty_target {
    struct target target;
    struct target *real;
    struct faulty_io *world;
};

struct faulty_object {
    struct object object;
    struct object *real;
    char name[64];
};

static const struct target_ops faulty_ops;

static struct faulty_target *
of(struct target *t)
{
    return (struct faulty_target *)t;
}

static struct object *
real(struct object *o)
{
    return ((struct faulty_object *)o)->real;
}

/* name: of the object, or NULL. */
static int
asked(struct target *t, const char *name, unsigned what)
{
    const char *slash = strrchr(t->path, '/');
    struct faulty_io *world = of(t)->world;
    unsigned refuse = 0;

    if (slash && slash[1] >= 'a' && slash[1] <= 'z' && slash[2] == 0)
        refuse = world->refuse[slash[1] - 'a'];
    else if (slash && strcmp(slash, "/cache") == 0)
        refuse = world->refuse_cache[0];
    else if (slash && strcmp(slash, "/cache2") == 0)
        refuse = world->refuse_cache[1];
    if (!(refuse & what))
        return 0;
    if (world->only && (!name || strcmp(name, world->only) != 0))
        return 0;
    atomic_fetch_add(&world->refused, 1);
    if (what & REFUSE_OPENS)
        return err_set(-EROFS, "%s: read-only, says the test", t->path);
    if (what & REFUSE_LOCKS)
        return err_set(-ENOLCK, "%s: no locks, says the test", t->path);
    if (what & REFUSE_WRITES && world->refuse[slash[1] - 'a'] & REFUSE_SPACE)
        return err_set(-ENOSPC, "%s: full, says the test", t->path);
    return err_set(-EIO, "%s: broken by the test", t->path);
}

static int
wrap(struct faulty_io *world, int r, struct target *inner,
     struct target **ret)
{
    struct faulty_target *t;

    if (r < 0)
        return r;
    t = calloc(1, sizeof *t);
    if (!t)
        abort();
    *t = (struct faulty_target){{&faulty_ops, inner->path}, inner, world};
    *ret = &t->target;
    return 0;
}

#define ASK_OF(t, name, what)                                               \
    do {                                                                    \
        int asked_ = asked(t, name, what);                                  \
                                                                            \
        if (asked_ < 0)                                                     \
            return asked_;                                                  \
    } while (0)
#define ASK(t, what) ASK_OF(t, NULL, what)
#define ASK_OBJECT(o, what)                                                 \
    ASK_OF((o)->target, ((struct faulty_object *)(o))->name, what)

static int
op_open(struct target *t, const char *name, unsigned flags,
        struct object **ret)
{
    struct faulty_object *o;
    struct object *inner;
    int r;

    if (of(t)->world->on_open)
        of(t)->world->on_open(of(t)->world->on_open_ctx, name);
    ASK_OF(t, name, flags & OBJECT_CREATE ? REFUSE_WRITES : REFUSE_READS);
    if (flags & OBJECT_WRITE)
        ASK_OF(t, name, REFUSE_OPENS);
    r = target_open(of(t)->real, name, flags, &inner);
    if (r < 0)
        return r;
    o = calloc(1, sizeof *o);
    if (!o)
        abort();
    *o = (struct faulty_object){{&faulty_ops, t}, inner, ""};
    (void)snprintf(o->name, sizeof o->name, "%s", name);
    *ret = &o->object;
    return 0;
}

static int
op_remove(struct target *t, const char *name)
{
    ASK(t, REFUSE_WRITES);
    return target_remove(of(t)->real, name);
}

static int
op_rename(struct target *t, const char *from, const char *to)
{
    ASK(t, REFUSE_WRITES);
    return target_rename(of(t)->real, from, to);
}

static int
op_list(struct target *t, int (*cb)(void *ctx, const char *name), void *ctx)
{
    ASK(t, REFUSE_READS);
    return target_list(of(t)->real, cb, ctx);
}

static int
op_sync(struct target *t)
{
    ASK(t, REFUSE_WRITES | REFUSE_SYNCS);
    return target_sync(of(t)->real);
}

static int
op_space(struct target *t, struct target_space *ret)
{
    return target_space(of(t)->real, ret);
}

static int
op_subdir(struct target *t, const char *name, unsigned flags,
          struct target **ret)
{
    struct target *inner = NULL;
    int r = target_subdir(of(t)->real, name, flags, &inner);

    return wrap(of(t)->world, r, inner, ret);
}

static int
op_remove_dir(struct target *t, const char *name)
{
    return target_remove_dir(of(t)->real, name);
}

static void
op_close(struct target *t)
{
    target_close(of(t)->real);
    free(of(t));
}

/* Until there are *together of those who come here. */
static void
meet(struct faulty_io *world, atomic_uint *together)
{
    struct timespec deadline;

    if (*together == 0)
        return;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 20;
    pthread_mutex_lock(&world->lock);
    world->under_way++;
    while (*together != 0 && world->under_way < *together) {
        if (pthread_cond_timedwait(&world->came, &world->lock, &deadline) == 0)
            continue;
        world->apart = true;
        *together = 0;
    }
    *together = 0;
    world->under_way--;
    pthread_cond_broadcast(&world->came);
    pthread_mutex_unlock(&world->lock);
}

static bool
is_of_chunk(struct object *o)
{
    const char *name = ((struct faulty_object *)o)->name;

    return name[strspn(name, "0123456789")] == '\0';
}

static int
op_readv(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    struct faulty_io *world = of(o->target)->world;

    ASK_OBJECT(o, REFUSE_READS | REFUSE_BYTES);
    if (is_of_chunk(o)) {
        unsigned nth = ++world->reads, first = world->no_memory_at;

        if (first > 0 && nth >= first && nth <= first + world->no_memory_more)
            return err_set(-ENOMEM, "no memory, says the test");
        world->ahead_ns += world->read_ns;
        meet(world, &world->together_reads);
    }
    return object_readv(real(o), iov, count, at);
}

static int
op_writev(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    ASK_OBJECT(o, REFUSE_WRITES);
    if (strcmp(((struct faulty_object *)o)->name, ".lock") == 0)
        ASK(o->target, REFUSE_RECORDS);
    if (is_of_chunk(o))
        meet(of(o->target)->world, &of(o->target)->world->together);
    return object_writev(real(o), iov, count, at);
}

static int
op_punch(struct object *o, uint64_t at, uint64_t bytes)
{
    ASK_OBJECT(o, REFUSE_WRITES);
    return object_punch(real(o), at, bytes);
}

static int
op_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    ASK_OBJECT(o, REFUSE_WRITES);
    return object_allocate(real(o), at, bytes);
}

static int
op_resize(struct object *o, uint64_t bytes)
{
    ASK_OBJECT(o, REFUSE_WRITES);
    return object_resize(real(o), bytes);
}

static int
op_object_sync(struct object *o)
{
    struct faulty_io *world = of(o->target)->world;

    ASK_OBJECT(o, REFUSE_WRITES | REFUSE_SYNCS);
    world->ahead_ns += world->sync_ns;
    return object_sync(real(o));
}

static void
op_start_sync(struct object *o)
{
    of(o->target)->world->syncs_begun++;
    object_start_sync(real(o));
}

static int
op_stat(struct object *o, struct object_stat *ret)
{
    ASK_OBJECT(o, REFUSE_READS);
    return object_stat(real(o), ret);
}

static int
op_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
             uint64_t *ret_end)
{
    ASK_OBJECT(o, REFUSE_READS);
    return object_next_data(real(o), at, ret_begin, ret_end);
}

static void
op_drop_cache(struct object *o)
{
    object_drop_cache(real(o));
}

static int
op_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    ASK_OBJECT(o, REFUSE_LOCKS);
    return object_lock(real(o), at, bytes, exclusive);
}

static int
op_unlock(struct object *o, uint64_t at, uint64_t bytes)
{
    return object_unlock(real(o), at, bytes);
}

static int
op_is_locked(struct object *o, uint64_t at, uint64_t bytes)
{
    return object_is_locked(real(o), at, bytes);
}

static void
op_object_close(struct object *o)
{
    object_close(real(o));
    free(o);
}

static const struct target_ops faulty_ops = {
    .open = op_open,
    .remove = op_remove,
    .rename = op_rename,
    .list = op_list,
    .sync = op_sync,
    .space = op_space,
    .subdir = op_subdir,
    .remove_dir = op_remove_dir,
    .close = op_close,
    .readv = op_readv,
    .writev = op_writev,
    .punch = op_punch,
    .allocate = op_allocate,
    .resize = op_resize,
    .object_sync = op_object_sync,
    .start_sync = op_start_sync,
    .stat = op_stat,
    .next_data = op_next_data,
    .drop_cache = op_drop_cache,
    .lock = op_lock,
    .unlock = op_unlock,
    .is_locked = op_is_locked,
    .object_close = op_object_close,
};

static int
io_open_dir(struct io *io, const char *path, unsigned flags,
            struct target **ret)
{
    struct io *system = io_system();
    struct target *inner = NULL;
    int r = system->ops->open_dir(system, path, flags, &inner);

    return wrap((struct faulty_io *)io, r, inner, ret);
}

static uint64_t
io_now_ns(struct io *io)
{
    struct faulty_io *f = (struct faulty_io *)io;

    if (f->stopped)
        return f->ahead_ns;
    return io_system()->ops->now_ns(io_system()) + f->ahead_ns;
}

static uint64_t
io_wall_seconds(struct io *io)
{
    (void)io;
    return io_system()->ops->wall_seconds(io_system());
}

static int
io_random(struct io *io, void *buffer, size_t bytes)
{
    (void)io;
    return io_system()->ops->random(io_system(), buffer, bytes);
}

static const struct io_ops faulty_io_ops = {
    .open_dir = io_open_dir,
    .now_ns = io_now_ns,
    .wall_seconds = io_wall_seconds,
    .random = io_random,
};

void
faulty_io_init(struct faulty_io *f)
{
    memset(f, 0, sizeof *f);
    f->io.ops = &faulty_io_ops;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->came, NULL);
}
