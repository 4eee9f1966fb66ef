/* guard.c: see guard.h. Here: what the calls are made of. How they are carried
 * out, waited for and given up is crew.c's.
 *
 * An operation owns all that it touches (G2): names and bytes lie behind it,
 * results in it. It works on an inner target or object, which its crew keeps
 * open for it (C1). */
#include "target/guard.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include "target/crew.h"
#include "base/recycle.h"
#include <assert.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#define PIECE_ALIGNMENT alignof(struct object_piece)
#define JOINED_PIECES_MAX 64
#define JOINED_BYTES_MAX (1u << 20)

struct guard {
    struct io base; /* first */
    struct io *inner;
    atomic_uint deadline_ms;
    atomic_bool refuses; /* guard_refuse */
    bool waits; /* for what is written */
};

/* What stands behind a handle. */
struct inner {
    struct crew_thing thing; /* first */
    struct target *target;   /* one of them; NULL until it is open */
    struct object *object;
};

struct guarded_target {
    struct target base; /* first */
    struct guard *guard;
    struct inner *inner;
};

struct guarded_object {
    struct object base; /* first */
    struct guard *guard;
    struct inner *inner;
    char *name; /* directory and all, for messages; owned */
};

struct names {
    char *text; /* one behind the other, each with its zero; owned */
    size_t used, room;
};

struct op {
    struct crew_op base; /* first */
    struct inner *on;
    struct inner *from; /* subdir: the directory above; a use of it */
    struct io *io;      /* open_dir */
    uint64_t at, bytes;
    uint64_t end;
    unsigned flags;
    int pieces; /* of write_pieces */
    bool exclusive;
    const char *name, *to; /* in data */
    struct object_stat stat;
    struct target_space space;
    struct names names;
    struct shared *shared; /* held, or NULL */
    size_t recycled_bytes; /* 0: it is ordinary memory */
    uint8_t *data; /* behind the op */
};

static const struct target_ops guard_ops;

static struct guarded_target *
to_target(struct target *t)
{
    assert(t->ops == &guard_ops);
    return (struct guarded_target *)t;
}

static struct guarded_object *
to_object(struct object *o)
{
    assert(o->ops == &guard_ops);
    return (struct guarded_object *)o;
}

static struct op *
to_op(struct crew_op *op)
{
    return (struct op *)op;
}

static struct inner *
to_inner(struct crew_thing *thing)
{
    return (struct inner *)thing;
}

/* ---- inner things ---- */

static void
inner_close(struct crew_thing *thing)
{
    struct inner *inner = to_inner(thing);

    object_close(inner->object);
    target_close(inner->target);
}

static void
inner_free(struct crew_thing *thing)
{
    free(to_inner(thing));
}

static int
inner_new(struct guard *g, struct crew *c, struct inner *parent,
          struct inner **ret)
{
    struct inner *inner;
    int r;

    r = mem_new(1, sizeof *inner, &inner);
    if (r < 0)
        return r;
    inner->thing.close = inner_close;
    inner->thing.free = inner_free;
    inner->thing.deadline_ms = &g->deadline_ms;
    r = crew_thing_begin(c, parent != NULL ? &parent->thing : NULL,
                         &inner->thing);
    if (r < 0) {
        free(inner);
        return r;
    }
    *ret = inner;
    return 0;
}

/* ---- operations ---- */

static void
op_free(struct crew_op *base)
{
    struct op *op = to_op(base);

    free(op->base.text);
    free(op->names.text);
    shared_put(op->shared);
    if (op->recycled_bytes > 0)
        recycle_put(op, op->recycled_bytes);
    else
        free(op);
}

/* With data_bytes behind it, which are not initialised. */
static int
op_new(int (*run)(struct crew_op *op), enum guard_kind kind,
       size_t data_bytes, struct op **ret)
{
    struct op *op = NULL;
    size_t bytes = 0;
    int r;

    if (__builtin_add_overflow(sizeof *op, data_bytes, &bytes))
        return err_set(-ENOMEM, "out of memory (%zu bytes)", data_bytes);
    r = bytes < RECYCLE_BYTES_MIN ? mem_new(1, bytes, &op)
                                  : recycle_get(bytes, &op);
    if (r < 0)
        return r;
    memset(op, 0, sizeof *op);
    op->recycled_bytes = bytes < RECYCLE_BYTES_MIN ? 0 : bytes;
    op->base.run = run;
    op->base.free = op_free;
    op->base.kind = kind;
    op->data = (uint8_t *)(op + 1);
    *ret = op;
    return 0;
}

/* One that carries one or two names. */
static int
op_new_named(int (*run)(struct crew_op *op), const char *name,
             const char *to, struct op **ret)
{
    size_t name_bytes = strlen(name) + 1;
    size_t to_bytes = to != NULL ? strlen(to) + 1 : 0;
    struct op *op = NULL;
    int r;

    r = op_new(run, GUARD_OTHER, name_bytes + to_bytes, &op);
    if (r < 0)
        return r;
    memcpy(op->data, name, name_bytes);
    op->name = (const char *)op->data;
    if (to != NULL) {
        memcpy(op->data + name_bytes, to, to_bytes);
        op->to = (const char *)op->data + name_bytes;
    }
    *ret = op;
    return 0;
}

static void
op_on(struct op *op, struct inner *inner)
{
    op->on = inner;
    op->base.thing = &inner->thing;
}

/* Does nobody want it any more? */
static int
check_wanted(struct guard *g, const char *name)
{
    if (!atomic_load_explicit(&g->refuses, memory_order_relaxed))
        return 0;
    return err_set(-ECANCELED, "%s: not done any more", name);
}

/* Carry it out and wait. *ret: op if it has come back, to be freed; else NULL.
 */
static int
op_call(struct op *op, struct guard *g, struct crew *c, const char *name,
        struct op **ret)
{
    const struct crew_patience patience = {.deadline_ms = &g->deadline_ms};
    bool own;
    int r;

    *ret = op;
    r = check_wanted(g, name);
    if (r < 0)
        return r;
    r = crew_call(c, &op->base, name, &patience, &own);
    *ret = own ? op : NULL;
    return r;
}

static int
call_on_target(struct target *t, struct op *op, struct op **ret)
{
    struct guarded_target *g = to_target(t);

    op_on(op, g->inner);
    return op_call(op, g->guard, g->inner->thing.crew, t->path, ret);
}

static int
call_on_object(struct object *o, struct op *op, struct op **ret)
{
    struct guarded_object *g = to_object(o);

    op_on(op, g->inner);
    return op_call(op, g->guard, g->inner->thing.crew, g->name, ret);
}

static void
op_drop(struct op *op)
{
    if (op != NULL)
        op_free(&op->base);
}

/* ---- opening ---- */

/* It came back when nobody wanted it any more; on the crew's thread. */
static void
undo_open(struct crew_op *base)
{
    struct op *op = to_op(base);

    inner_close(base->made);
    crew_thing_discard(base->made);
    if (op->from != NULL)
        crew_thing_release(&op->from->thing);
}

static void
op_makes(struct op *op, struct inner *made)
{
    op->base.made = &made->thing;
    op->base.undo = undo_open;
}

static int
run_open_dir(struct crew_op *base)
{
    struct op *op = to_op(base);

    return op->io->ops->open_dir(op->io, op->name, op->flags,
                                 &to_inner(base->made)->target);
}

static int
run_subdir(struct crew_op *base)
{
    struct op *op = to_op(base);

    return target_subdir(op->from->target, op->name, op->flags,
                         &to_inner(base->made)->target);
}

static int
run_open(struct crew_op *base)
{
    struct op *op = to_op(base);

    return target_open(op->on->target, op->name, op->flags,
                       &to_inner(base->made)->object);
}

static int
run_open_stat(struct crew_op *base)
{
    struct inner *made = to_inner(base->made);
    struct op *op = to_op(base);

    return target_open_stat(op->on->target, op->name, op->flags, &op->stat,
                            &made->object);
}

/* Carry out op, which opens the target behind t; t->inner is NULL after a
 * failure. */
static int
open_target(struct guarded_target *t, struct op *op)
{
    struct crew *c = t->inner->thing.crew;
    struct inner *from = op->from;
    struct op *back;
    int r;

    op_makes(op, t->inner);
    r = op_call(op, t->guard, c, c->path, &back);
    if (back == NULL) {
        t->inner = NULL; /* they are the operation's */
        return r;
    }
    if (from != NULL)
        crew_thing_release(&from->thing);
    if (r == 0)
        r = mem_dup(t->inner->target->path, &t->base.path);
    if (r < 0) {
        if (t->inner->target != NULL)
            crew_thing_close(&t->inner->thing);
        else
            crew_thing_discard(&t->inner->thing);
        t->inner = NULL;
    }
    op_free(&back->base);
    return r;
}

/* op: open_dir or subdir, which is used up. path: of the new directory. */
static int
new_target(struct guard *g, const char *path, struct op *op,
           struct target **ret)
{
    struct guarded_target *t = NULL;
    struct crew *c = NULL;
    int r;

    r = crew_get(path, &c);
    if (r == 0)
        r = mem_new(1, sizeof *t, &t);
    if (r == 0)
        r = inner_new(g, c, NULL, &t->inner);
    if (r == 0) {
        t->base.ops = &guard_ops;
        t->guard = g;
        if (op->from != NULL)
            crew_thing_hold(&op->from->thing);
        r = open_target(t, op);
    } else {
        op_free(&op->base);
    }
    if (c != NULL)
        crew_put(c);
    if (r < 0) {
        free(t);
        return r;
    }
    *ret = &t->base;
    return 0;
}

static int
guard_open_dir(struct io *io, const char *path, unsigned flags,
               struct target **ret)
{
    struct guard *g = (struct guard *)io;
    struct op *op;
    int r;

    r = op_new_named(run_open_dir, path, NULL, &op);
    if (r < 0)
        return r;
    op->io = g->inner;
    op->flags = flags;
    return new_target(g, path, op, ret);
}

static int
join_path(const char *path, const char *name, char **ret)
{
    size_t bytes = strlen(path) + 1 + strlen(name) + 1;
    char *joined;
    int r;

    r = mem_new(bytes, 1, &joined);
    if (r < 0)
        return r;
    (void)snprintf(joined, bytes, "%s/%s", path, name);
    *ret = joined;
    return 0;
}

static int
guard_subdir(struct target *target, const char *name, unsigned flags,
             struct target **ret)
{
    struct guarded_target *t = to_target(target);
    AUTO_FREE char *path = NULL;
    struct op *op = NULL;
    bool busy;
    int r;

    r = crew_thing_check(&t->inner->thing, target->path, &busy);
    if (r == 0)
        r = join_path(target->path, name, &path);
    if (r == 0)
        r = op_new_named(run_subdir, name, NULL, &op);
    if (r < 0)
        return r;
    op->from = t->inner;
    op->flags = flags;
    return new_target(t->guard, path, op, ret);
}

/* As open_target, for an object. */
static int
open_object(struct guarded_target *t, struct guarded_object *o,
            struct op *op, struct object_stat *ret_stat)
{
    struct op *back;
    int r;

    op_on(op, t->inner);
    op_makes(op, o->inner);
    r = op_call(op, t->guard, t->inner->thing.crew, o->name, &back);
    if (back != NULL && r < 0)
        crew_thing_discard(&o->inner->thing);
    if (back != NULL && r == 0 && ret_stat != NULL)
        *ret_stat = back->stat;
    op_drop(back);
    return r;
}

/* ret_stat: NULL, not wanted. */
static int
open_by(struct target *target, const char *name, unsigned flags,
        struct object_stat *ret_stat, struct object **ret)
{
    struct guarded_target *t = to_target(target);
    AUTO_FREE struct guarded_object *o = NULL;
    AUTO_FREE char *path = NULL;
    struct op *op = NULL;
    int r;

    r = mem_new(1, sizeof *o, &o);
    if (r == 0)
        r = join_path(target->path, name, &path);
    if (r == 0)
        r = op_new_named(ret_stat ? run_open_stat : run_open, name, NULL, &op);
    if (r < 0)
        return r;
    op->flags = flags;
    o->base.ops = &guard_ops;
    o->base.target = target;
    o->guard = t->guard;
    o->name = path;
    r = inner_new(t->guard, t->inner->thing.crew, t->inner, &o->inner);
    if (r < 0) {
        op_free(&op->base);
        return r;
    }
    r = open_object(t, o, op, ret_stat);
    if (r < 0)
        return r;
    *ret = &o->base;
    path = NULL; /* both are the caller's now */
    o = NULL;
    return 0;
}

static int
guard_open(struct target *target, const char *name, unsigned flags,
           struct object **ret)
{
    return open_by(target, name, flags, NULL, ret);
}

static int
guard_open_stat(struct target *target, const char *name, unsigned flags,
                struct object_stat *ret_stat, struct object **ret)
{
    return open_by(target, name, flags, ret_stat, ret);
}

static void
guard_close(struct target *target)
{
    struct guarded_target *t = to_target(target);

    crew_thing_close(&t->inner->thing);
    free(target->path);
    free(t);
}

static void
guard_object_close(struct object *object)
{
    struct guarded_object *o = to_object(object);

    crew_thing_close(&o->inner->thing);
    free(o->name);
    free(o);
}

/* ---- names ---- */

static int
run_remove(struct crew_op *base)
{
    return target_remove(to_op(base)->on->target, to_op(base)->name);
}

static int
run_rename(struct crew_op *base)
{
    struct op *op = to_op(base);

    return target_rename(op->on->target, op->name, op->to);
}

static int
run_remove_dir(struct crew_op *base)
{
    return target_remove_dir(to_op(base)->on->target, to_op(base)->name);
}

static int
call_named(struct target *t, int (*run)(struct crew_op *op),
           const char *name, const char *to)
{
    struct op *op;
    int r;

    r = op_new_named(run, name, to, &op);
    if (r < 0)
        return r;
    r = call_on_target(t, op, &op);
    op_drop(op);
    return r;
}

static int
guard_remove(struct target *t, const char *name)
{
    return call_named(t, run_remove, name, NULL);
}

static int
guard_rename(struct target *t, const char *from, const char *to)
{
    return call_named(t, run_rename, from, to);
}

static int
guard_remove_dir(struct target *t, const char *name)
{
    return call_named(t, run_remove_dir, name, NULL);
}

static int
names_add(void *ctx, const char *name)
{
    struct names *n = ctx;
    size_t bytes = strlen(name) + 1;

    if (n->room - n->used < bytes) {
        size_t room = 2 * n->room + bytes + 4096;
        char *text;
        int r;

        r = mem_new(room, 1, &text);
        if (r < 0)
            return r;
        if (n->used > 0)
            memcpy(text, n->text, n->used);
        free(n->text);
        n->text = text;
        n->room = room;
    }
    memcpy(n->text + n->used, name, bytes);
    n->used += bytes;
    return 0;
}

static int
run_list(struct crew_op *base)
{
    struct op *op = to_op(base);

    return target_list(op->on->target, names_add, &op->names);
}

static int
guard_list(struct target *t, int (*cb)(void *ctx, const char *name),
           void *ctx)
{
    struct op *op;
    int r;

    r = op_new(run_list, GUARD_OTHER, 0, &op);
    if (r < 0)
        return r;
    r = call_on_target(t, op, &op);
    for (size_t at = 0; r == 0 && at < op->names.used;
         at += strlen(op->names.text + at) + 1)
        r = cb(ctx, op->names.text + at);
    op_drop(op);
    return r;
}

/* In the op's data: the answers, then the names one behind the other. */
static int
run_stat_names(struct crew_op *base)
{
    struct op *op = to_op(base);
    struct target_named *named = (struct target_named *)(void *)op->data;
    const char *name = op->name;

    for (uint64_t i = 0; i < op->bytes; i++) {
        int r = target_stat_names(op->on->target, &name, 1, &named[i]);

        if (r < 0)
            return r;
        name += strlen(name) + 1;
    }
    return 0;
}

static int
guard_stat_names(struct target *t, const char *const *names, size_t count,
                 struct target_named *ret)
{
    size_t bytes = count * sizeof *ret;
    struct op *op = NULL;
    char *to;
    int r;

    for (size_t i = 0; i < count; i++)
        bytes += strlen(names[i]) + 1;
    r = op_new(run_stat_names, GUARD_OTHER, bytes, &op);
    if (r < 0)
        return r;
    op->bytes = count;
    op->name = to = (char *)op->data + count * sizeof *ret;
    for (size_t i = 0; i < count; i++)
        to = stpcpy(to, names[i]) + 1;
    r = call_on_target(t, op, &op);
    if (r == 0)
        memcpy(ret, op->data, count * sizeof *ret);
    op_drop(op);
    return r;
}

static int
run_sync(struct crew_op *base)
{
    return target_sync(to_op(base)->on->target);
}

static int
guard_sync(struct target *t)
{
    struct op *op;
    int r;

    r = op_new(run_sync, GUARD_SYNC, 0, &op);
    if (r < 0)
        return r;
    r = call_on_target(t, op, &op);
    op_drop(op);
    return r;
}

static int
run_space(struct crew_op *base)
{
    return target_space(to_op(base)->on->target, &to_op(base)->space);
}

static int
guard_space(struct target *t, struct target_space *ret)
{
    struct op *op;
    int r;

    r = op_new(run_space, GUARD_OTHER, 0, &op);
    if (r < 0)
        return r;
    r = call_on_target(t, op, &op);
    if (r == 0)
        *ret = op->space;
    op_drop(op);
    return r;
}

/* ---- reading ---- */

static int
vector_bytes(const struct iovec *iov, int count, size_t *ret)
{
    size_t bytes = 0;

    for (int i = 0; i < count; i++)
        if (__builtin_add_overflow(bytes, iov[i].iov_len, &bytes))
            return err_set(-EINVAL, "the pieces are too long");
    *ret = bytes;
    return 0;
}

static void
scatter(const struct iovec *iov, int count, const uint8_t *from)
{
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(iov[i].iov_base, from, iov[i].iov_len);
        from += iov[i].iov_len;
    }
}

static void
gather(const struct iovec *iov, int count, uint8_t *to)
{
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
}

static int
run_read(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_read(op->on->object, op->data, (size_t)op->bytes, op->at);
}

/* On this thread, if nothing has to be waited for (G5): else 1. */
static int
read_at_hand(struct guarded_object *o, const struct iovec *iov, int count,
             uint64_t at)
{
    const struct object *inner = o->inner->object;
    bool busy;
    int r;

    r = crew_thing_check(&o->inner->thing, o->name, &busy);
    if (r < 0)
        return r;
    if (busy || inner->ops->try_readv == NULL)
        return 1;
    r = inner->ops->try_readv(o->inner->object, iov, count, at);
    return r == 0 ? 0 : 1;
}

/* One that a crew is asked for. */
struct guard_reading {
    struct op *op;
    const struct iovec *iov;
    int count;
    struct crew_pending pending;
};

static int
new_reading(const struct iovec *iov, int count, struct guard_reading **ret)
{
    struct guard_reading *reading = NULL;
    size_t bytes = 0;
    int r;

    r = vector_bytes(iov, count, &bytes);
    if (r == 0)
        r = mem_new(1, sizeof *reading, &reading);
    if (r < 0)
        return r;
    reading->iov = iov;
    reading->count = count;
    r = op_new(run_read, GUARD_READ, bytes, &reading->op);
    if (r < 0) {
        free(reading);
        return r;
    }
    reading->op->bytes = bytes;
    *ret = reading;
    return 0;
}

static void
free_reading(struct guard_reading *reading, bool own)
{
    if (own)
        op_free(&reading->op->base);
    free(reading);
}

/* 0: it is begun, or over: then *ret is NULL. */
static int
begin_reading(struct guarded_object *o, const struct iovec *iov, int count,
              uint64_t at, uint64_t patience_ns, struct guard_reading **ret)
{
    const struct crew_patience patience = {
        .deadline_ms = &o->guard->deadline_ms,
        .ns = patience_ns,
    };
    struct guard_reading *reading = NULL;
    int r;

    *ret = NULL;
    r = read_at_hand(o, iov, count, at);
    if (r <= 0)
        return r;
    r = check_wanted(o->guard, o->name);
    if (r == 0)
        r = new_reading(iov, count, &reading);
    if (r < 0)
        return r;
    reading->op->at = at;
    op_on(reading->op, o->inner);
    r = crew_begin(o->inner->thing.crew, &reading->op->base, o->name,
                   &patience, &reading->pending);
    if (r < 0) {
        free_reading(reading, true);
        return r;
    }
    *ret = reading;
    return 0;
}

static int
end_reading(struct guard_reading *reading, uint64_t *ret_took_ns)
{
    bool own;
    int r = crew_end(&reading->pending, &own);

    if (r == 0) {
        *ret_took_ns = reading->op->base.ended_ns - reading->pending.began_ns;
        scatter(reading->iov, reading->count, reading->op->data);
    }
    free_reading(reading, own);
    return r;
}

void
guard_read_begin(struct object *o, const struct iovec *iov, int count,
                 uint64_t at, uint64_t patience_ns, struct guard_read *ret)
{
    *ret = (struct guard_read){0};
    if (o->ops == &guard_ops)
        ret->result = begin_reading(to_object(o), iov, count, at, patience_ns,
                                    &ret->reading);
    else
        ret->result = object_readv(o, iov, count, at);
    if (ret->result < 0)
        (void)mem_dup(err_text(), &ret->text);
}

int
guard_read_end(struct guard_read *read)
{
    int r = read->result;

    if (read->reading != NULL)
        r = end_reading(read->reading, &read->took_ns);
    else if (r < 0)
        (void)err_set(r, "%s", read->text != NULL ? read->text : strerror(-r));
    free(read->text);
    read->reading = NULL;
    read->text = NULL;
    return r;
}

int
guard_read_within(struct object *o, const struct iovec *iov, int count,
                  uint64_t at, uint64_t patience_ns)
{
    struct guard_read read;

    guard_read_begin(o, iov, count, at, patience_ns, &read);
    return guard_read_end(&read);
}

static int
guard_readv(struct object *o, const struct iovec *iov, int count,
            uint64_t at)
{
    return guard_read_within(o, iov, count, at, 0);
}

static int
guard_try_readv(struct object *o, const struct iovec *iov, int count,
                uint64_t at)
{
    return read_at_hand(to_object(o), iov, count, at) == 0 ? 0 : -EAGAIN;
}

void
guard_forgive(struct object *o)
{
    if (o->ops == &guard_ops)
        crew_thing_forgive(&to_object(o)->inner->thing);
}

/* ---- writing ---- */

/* Together with those that were joined to it. */
static int
run_write(struct crew_op *base)
{
    struct iovec iov[JOINED_PIECES_MAX];
    const struct op *op = to_op(base);
    int count = 0;

    iov[count].iov_base = to_op(base)->data;
    iov[count++].iov_len = (size_t)op->bytes;
    for (struct crew_op *j = base->joined.first; j != NULL; j = j->next) {
        assert(count < JOINED_PIECES_MAX);
        iov[count].iov_base = to_op(j)->data;
        iov[count++].iov_len = (size_t)to_op(j)->bytes;
    }
    return object_writev(op->on->object, iov, count, op->at);
}

/* Does it go on where the last of them ends? */
static bool
join_write(struct crew_op *base, struct crew_op *next)
{
    struct op *op = to_op(base);

    if (next->run != run_write || op->end != to_op(next)->at ||
        op->flags + 1 >= JOINED_PIECES_MAX ||
        op->end - op->at + to_op(next)->bytes > JOINED_BYTES_MAX)
        return false;
    op->flags++; /* how many are joined */
    op->end += to_op(next)->bytes;
    return true;
}

static int
queue_on_object(struct object *object, struct op *op)
{
    struct guarded_object *o = to_object(object);
    int r;

    if (o->guard->waits) {
        op->base.join = NULL;
        op->base.bytes = 0;
        r = call_on_object(object, op, &op);
        op_drop(op);
        return r;
    }
    op_on(op, o->inner);
    op->base.in_order = true;
    op->base.async = true;
    r = check_wanted(o->guard, o->name);
    if (r == 0)
        r = crew_queue(o->inner->thing.crew, &op->base, o->name,
                       &o->guard->deadline_ms);
    if (r < 0)
        op_free(&op->base);
    return r;
}

static int
guard_writev(struct object *o, const struct iovec *iov, int count,
             uint64_t at)
{
    struct op *op = NULL;
    size_t bytes = 0;
    int r;

    r = vector_bytes(iov, count, &bytes);
    if (r == 0)
        r = op_new(run_write, GUARD_WRITE, bytes, &op);
    if (r < 0)
        return r;
    gather(iov, count, op->data);
    op->at = at;
    op->bytes = bytes;
    op->end = at + bytes;
    op->base.join = join_write;
    op->base.bytes = sizeof *op + bytes;
    return queue_on_object(o, op);
}

static struct object_piece *
pieces_of(const struct op *op)
{
    return (struct object_piece *)(void *)(op->data + op->bytes);
}

/* Copy the bytes one behind the other; what goes on where the one before ends
 * is one piece from now on. */
static void
gather_pieces(struct op *op, const struct object_piece *piece, int count)
{
    struct object_piece *to = pieces_of(op), *last = NULL;
    uint8_t *put = op->data;

    for (int i = 0; i < count; i++) {
        const struct iovec *iov = &piece[i].iov;

        gather(iov, 1, put);
        if (last != NULL && piece[i].at == last->at + last->iov.iov_len) {
            last->iov.iov_len += iov->iov_len;
        } else {
            last = to++;
            *last = (struct object_piece){piece[i].at, {put, iov->iov_len}};
        }
        put += iov->iov_len;
    }
    op->pieces = (int)(to - pieces_of(op));
}

static int
run_write_pieces(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_write_pieces(op->on->object, pieces_of(op), op->pieces);
}

/* Behind the bytes. */
static int
guard_write_pieces(struct object *o, const struct object_piece *piece,
                   int count)
{
    size_t bytes = 0, room = (size_t)count * sizeof *piece;
    struct op *op = NULL;
    int r;

    for (int i = 0; i < count; i++)
        bytes += piece[i].iov.iov_len; /* of memory: the sum fits */
    bytes = (bytes + PIECE_ALIGNMENT - 1) / PIECE_ALIGNMENT * PIECE_ALIGNMENT;
    r = op_new(run_write_pieces, GUARD_WRITE, bytes + room, &op);
    if (r < 0)
        return r;
    op->bytes = bytes;
    gather_pieces(op, piece, count);
    op->base.bytes = sizeof *op + bytes + room;
    return queue_on_object(o, op);
}

/* ---- writing what stays where it is ---- */

struct guard_writing {
    struct op *op;
    struct crew_pending pending;
};

static int
run_write_shared(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_writev(op->on->object,
                         (const struct iovec *)(void *)op->data, op->pieces,
                         op->at);
}

static int
begin_writing(struct guarded_object *o, struct shared *bytes,
              const struct iovec *iov, int count, uint64_t at,
              struct guard_writing **ret)
{
    const struct crew_patience patience = {
        .deadline_ms = &o->guard->deadline_ms,
    };
    struct guard_writing *writing = NULL;
    struct op *op = NULL;
    int r;

    r = check_wanted(o->guard, o->name);
    if (r == 0)
        r = mem_new(1, sizeof *writing, &writing);
    if (r == 0)
        r = op_new(run_write_shared, GUARD_WRITE, (size_t)count * sizeof *iov,
                   &op);
    if (r == 0) {
        op->shared = shared_hold(bytes);
        memcpy(op->data, iov, (size_t)count * sizeof *iov);
        op->pieces = count;
        op->at = at;
        op->base.in_order = true; /* else they only fight for the file */
        op_on(op, o->inner);
        writing->op = op;
        r = crew_begin(o->inner->thing.crew, &op->base, o->name, &patience,
                       &writing->pending);
    }
    if (r < 0) {
        op_drop(op);
        free(writing);
        return r;
    }
    *ret = writing;
    return 0;
}

void
guard_write_begin(struct object *o, struct shared *bytes,
                  const struct iovec *iov, int count, uint64_t at,
                  struct guard_write *ret)
{
    *ret = (struct guard_write){0};
    if (o->ops == &guard_ops)
        ret->result = begin_writing(to_object(o), bytes, iov, count, at,
                                    &ret->writing);
    else
        ret->result = object_writev(o, iov, count, at);
    if (ret->result < 0)
        (void)mem_dup(err_text(), &ret->text);
}

int
guard_write_end(struct guard_write *write)
{
    int r = write->result;
    bool own;

    if (write->writing != NULL) {
        r = crew_end(&write->writing->pending, &own);
        if (own)
            op_free(&write->writing->op->base);
        free(write->writing);
    } else if (r < 0) {
        (void)err_set(r, "%s",
                      write->text != NULL ? write->text : strerror(-r));
    }
    free(write->text);
    *write = (struct guard_write){0};
    return r;
}

static int
run_punch(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_punch(op->on->object, op->at, op->bytes);
}

static int
guard_punch(struct object *o, uint64_t at, uint64_t bytes)
{
    struct op *op;
    int r;

    r = op_new(run_punch, GUARD_WRITE, 0, &op);
    if (r < 0)
        return r;
    op->at = at;
    op->bytes = bytes;
    op->base.bytes = sizeof *op;
    return queue_on_object(o, op);
}

static int
run_start_sync(struct crew_op *base)
{
    object_start_sync(to_op(base)->on->object);
    return 0;
}

static void
guard_start_sync(struct object *o)
{
    struct op *op;

    if (op_new(run_start_sync, GUARD_OTHER, 0, &op) < 0)
        return; /* the sync will do all of it */
    op->base.unseen = true;
    (void)queue_on_object(o, op); /* of no bytes: it never waits for room */
}

/* ---- objects: what is waited for ---- */

static int
call_ranged(struct object *o, int (*run)(struct crew_op *op), uint64_t at,
            uint64_t bytes, bool in_order)
{
    struct op *op;
    int r;

    r = op_new(run, GUARD_OTHER, 0, &op);
    if (r < 0)
        return r;
    op->at = at;
    op->bytes = bytes;
    op->base.in_order = in_order;
    r = call_on_object(o, op, &op);
    op_drop(op);
    return r;
}

static int
run_allocate(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_allocate(op->on->object, op->at, op->bytes);
}

static int
guard_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    return call_ranged(o, run_allocate, at, bytes, true);
}

static int
run_resize(struct crew_op *base)
{
    return object_resize(to_op(base)->on->object, to_op(base)->bytes);
}

static int
guard_resize(struct object *o, uint64_t bytes)
{
    return call_ranged(o, run_resize, 0, bytes, true);
}

static int
run_object_sync(struct crew_op *base)
{
    return object_sync(to_op(base)->on->object);
}

static int
guard_object_sync(struct object *o)
{
    struct op *op;
    int r;

    r = op_new(run_object_sync, GUARD_SYNC, 0, &op);
    if (r < 0)
        return r;
    op->base.in_order = op->base.unseen = true;
    r = call_on_object(o, op, &op);
    op_drop(op);
    return r;
}

static int
run_stat(struct crew_op *base)
{
    return object_stat(to_op(base)->on->object, &to_op(base)->stat);
}

static int
guard_stat(struct object *o, struct object_stat *ret)
{
    struct op *op;
    int r;

    r = op_new(run_stat, GUARD_OTHER, 0, &op);
    if (r < 0)
        return r;
    r = call_on_object(o, op, &op);
    if (r == 0)
        *ret = op->stat;
    op_drop(op);
    return r;
}

static int
run_next_data(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_next_data(op->on->object, op->at, &op->at, &op->end);
}

static int
guard_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
                uint64_t *ret_end)
{
    struct op *op;
    int r;

    r = op_new(run_next_data, GUARD_OTHER, 0, &op);
    if (r < 0)
        return r;
    op->at = at;
    r = call_on_object(o, op, &op);
    if (r == 0) {
        *ret_begin = op->at;
        *ret_end = op->end;
    }
    op_drop(op);
    return r;
}

static int
run_drop_cache(struct crew_op *base)
{
    object_drop_cache(to_op(base)->on->object);
    return 0;
}

static void
guard_drop_cache(struct object *o)
{
    (void)call_ranged(o, run_drop_cache, 0, 0, true);
}

static int
run_lock(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_lock(op->on->object, op->at, op->bytes, op->exclusive);
}

static int
guard_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    struct op *op;
    int r;

    r = op_new(run_lock, GUARD_OTHER, 0, &op);
    if (r < 0)
        return r;
    op->at = at;
    op->bytes = bytes;
    op->exclusive = exclusive;
    r = call_on_object(o, op, &op);
    op_drop(op);
    return r;
}

static int
run_unlock(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_unlock(op->on->object, op->at, op->bytes);
}

static int
guard_unlock(struct object *o, uint64_t at, uint64_t bytes)
{
    return call_ranged(o, run_unlock, at, bytes, false);
}

static int
run_is_locked(struct crew_op *base)
{
    struct op *op = to_op(base);

    return object_is_locked(op->on->object, op->at, op->bytes);
}

static int
guard_is_locked(struct object *o, uint64_t at, uint64_t bytes)
{
    return call_ranged(o, run_is_locked, at, bytes, false);
}

static const struct target_ops guard_ops = {
    .open = guard_open,
    .open_stat = guard_open_stat,
    .remove = guard_remove,
    .rename = guard_rename,
    .list = guard_list,
    .stat_names = guard_stat_names,
    .sync = guard_sync,
    .space = guard_space,
    .subdir = guard_subdir,
    .remove_dir = guard_remove_dir,
    .close = guard_close,
    .readv = guard_readv,
    .try_readv = guard_try_readv,
    .writev = guard_writev,
    .write_pieces = guard_write_pieces,
    .punch = guard_punch,
    .allocate = guard_allocate,
    .resize = guard_resize,
    .object_sync = guard_object_sync,
    .start_sync = guard_start_sync,
    .stat = guard_stat,
    .next_data = guard_next_data,
    .drop_cache = guard_drop_cache,
    .lock = guard_lock,
    .unlock = guard_unlock,
    .is_locked = guard_is_locked,
    .object_close = guard_object_close,
};

/* ---- the io ---- */

static uint64_t
guard_now_ns(struct io *io)
{
    struct io *inner = ((struct guard *)io)->inner;

    return inner->ops->now_ns(inner);
}

static uint64_t
guard_wall_seconds(struct io *io)
{
    struct io *inner = ((struct guard *)io)->inner;

    return inner->ops->wall_seconds(inner);
}

static int
guard_random(struct io *io, void *buffer, size_t bytes)
{
    struct io *inner = ((struct guard *)io)->inner;

    return inner->ops->random(inner, buffer, bytes);
}

int
guard_new(struct io *inner, unsigned deadline_ms, struct io **ret)
{
    static const struct io_ops ops = {
        .open_dir = guard_open_dir,
        .now_ns = guard_now_ns,
        .wall_seconds = guard_wall_seconds,
        .random = guard_random,
    };
    struct guard *g;
    int r;

    assert(deadline_ms > 0);
    r = mem_new(1, sizeof *g, &g);
    if (r < 0)
        return r;
    g->base.ops = &ops;
    g->inner = inner;
    atomic_init(&g->deadline_ms, deadline_ms);
    *ret = &g->base;
    return 0;
}

void
guard_free(struct io *io)
{
    if (io == NULL)
        return;
    crew_wait_for_threads();
    recycle_empty();
    free(io);
}

void
guard_set_waits(struct io *io)
{
    ((struct guard *)io)->waits = true;
}

void
guard_set_deadline(struct io *io, unsigned deadline_ms)
{
    assert(deadline_ms > 0);
    atomic_store(&((struct guard *)io)->deadline_ms, deadline_ms);
    crew_wake_all_waiters();
}

void
guard_refuse(struct io *io, unsigned deadline_ms)
{
    atomic_store(&((struct guard *)io)->refuses, true);
    guard_set_deadline(io, deadline_ms);
}

/* ---- looking on ---- */

bool
guard_stats(struct target *t, struct guard_stats *ret)
{
    if (t->ops != &guard_ops) {
        memset(ret, 0, sizeof *ret);
        return false;
    }
    crew_get_stats(to_target(t)->inner->thing.crew, ret);
    return true;
}

void
guard_give_up(struct target *t)
{
    const struct crew_thing *thing;

    if (t->ops != &guard_ops)
        return;
    thing = &to_target(t)->inner->thing;
    (void)crew_give_up(thing->crew, thing->generation, 0);
}

bool
guard_is_hung(struct target *t)
{
    const struct crew_thing *thing;
    unsigned deadline_ms;

    if (t->ops != &guard_ops)
        return false;
    thing = &to_target(t)->inner->thing;
    deadline_ms = atomic_load(&to_target(t)->guard->deadline_ms);
    return crew_give_up(thing->crew, thing->generation,
                        deadline_ms * UINT64_C(1000000));
}
