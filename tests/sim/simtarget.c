/* simtarget.c: target.h on the simulated world. Each call asks sim_judge
 * first, and does what it is told: all, a part, or nothing. */
#include "simtree.h"
#include "base/err.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct sim_target {
    struct target base;
    struct simio *s;
    struct sim_inode *dir;
};

struct sim_object {
    struct object base;
    struct simio *s;
    struct sim_inode *inode;
    bool writable;
    char name[SIM_NAME_BYTES];
};

static const struct target_ops sim_ops;

static void *
must(void *p)
{
    if (!p)
        abort();
    return p;
}

static struct sim_target *
sim_target(struct target *t)
{
    return (struct sim_target *)t;
}

static struct sim_object *
sim_object(struct object *o)
{
    return (struct sim_object *)o;
}

int
sim_target_new(struct simio *s, struct sim_inode *dir, const char *path,
               struct target **ret)
{
    struct sim_target *t = must(calloc(1, sizeof *t));

    t->base.ops = &sim_ops;
    t->base.path = must(strdup(path));
    t->s = s;
    t->dir = sim_inode_get(dir);
    s->handles++;
    *ret = &t->base;
    return 0;
}

static int
no_such(struct sim_target *t, const char *name)
{
    return err_set(-ENOENT, "%s/%s: No such file or directory", t->base.path,
                   name);
}

static void
check_name(const char *name)
{
    assert(name[0] != '\0');
    assert(!strchr(name, '/'));
    assert(strcmp(name, ".") != 0);
    assert(strcmp(name, "..") != 0);
}

static enum sim_verdict
judge_name(struct sim_target *t, enum sim_call kind, bool is_step,
           const char *name, int *ret_code)
{
    return sim_judge(t->s, kind, is_step, t->base.path, name, ret_code);
}

static enum sim_verdict
judge(struct sim_object *o, enum sim_call kind, bool is_step, int *ret_code)
{
    return sim_judge(o->s, kind, is_step, o->base.target->path, o->name,
                     ret_code);
}

static int
sim_open(struct target *base, const char *name, unsigned flags,
         struct object **ret)
{
    struct sim_target *t = sim_target(base);
    struct sim_inode *inode = sim_names_find(&t->dir->now, name);
    bool makes = !inode && flags & OBJECT_CREATE;
    enum sim_verdict verdict;
    struct sim_object *o;
    int code;

    check_name(name);
    verdict = judge_name(t, SIM_CALL_OPEN, makes, name, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!inode && !makes)
        return no_such(t, name);
    if (inode && flags & OBJECT_EXCL)
        return err_set(-EEXIST, "%s/%s: File exists", base->path, name);
    if (inode && inode->is_dir)
        return err_set(-EPROTO, "%s/%s: is a directory", base->path, name);
    if (verdict == SIM_GO || (makes && prng_one_in(&t->s->prng, 2))) {
        if (makes) {
            inode = sim_inode_new(false);
            sim_dir_create(t->dir, t->s->serial++, name, inode);
            sim_inode_put(inode);
        }
    }
    if (verdict == SIM_TEAR)
        return code;
    o = must(calloc(1, sizeof *o));
    o->base.ops = &sim_ops;
    o->base.target = base;
    o->s = t->s;
    o->inode = sim_inode_get(inode);
    o->writable = flags & OBJECT_WRITE;
    assert(strlen(name) < sizeof o->name);
    strcpy(o->name, name);
    t->s->handles++;
    *ret = &o->base;
    return 0;
}

/* A name call that is torn happened or did not. */
static bool
takes_effect(struct sim_target *t, enum sim_verdict verdict)
{
    return verdict == SIM_GO || prng_one_in(&t->s->prng, 2);
}

static int
sim_remove(struct target *base, const char *name)
{
    struct sim_target *t = sim_target(base);
    struct sim_inode *inode = sim_names_find(&t->dir->now, name);
    enum sim_verdict verdict;
    int code;

    check_name(name);
    verdict = judge_name(t, SIM_CALL_REMOVE, inode != NULL, name, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!inode)
        return no_such(t, name);
    if (inode->is_dir)
        return err_set(-EISDIR, "%s/%s: Is a directory", base->path, name);
    if (takes_effect(t, verdict))
        sim_dir_remove(t->dir, t->s->serial++, name);
    return verdict == SIM_TEAR ? code : 0;
}

static int
sim_rename(struct target *base, const char *from, const char *to)
{
    struct sim_target *t = sim_target(base);
    enum sim_verdict verdict;
    int code;

    check_name(from);
    check_name(to);
    verdict = judge_name(t, SIM_CALL_RENAME, true, to, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!sim_names_find(&t->dir->now, from))
        return no_such(t, from);
    if (takes_effect(t, verdict))
        sim_dir_rename(t->dir, t->s->serial++, from, to);
    return verdict == SIM_TEAR ? code : 0;
}

static int
sim_list(struct target *base, int (*cb)(void *ctx, const char *name),
         void *ctx)
{
    struct sim_target *t = sim_target(base);
    struct sim_name *copy;
    size_t count = t->dir->now.count;
    int code, r = 0;

    if (judge_name(t, SIM_CALL_OTHER, false, "", &code) != SIM_GO)
        return code;
    /* cb may change the directory */
    copy = must(malloc((count + 1) * sizeof *copy));
    for (size_t i = 0; i < count; i++)
        copy[i] = t->dir->now.name[i];
    for (size_t i = 0; i < count && r == 0; i++)
        r = cb(ctx, copy[i].text);
    free(copy);
    return r;
}

static int
sim_sync(struct target *base)
{
    struct sim_target *t = sim_target(base);
    enum sim_verdict verdict;
    int code;

    verdict = judge_name(t, SIM_CALL_SYNC_DIR, true, "", &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!(t->s->bugs & SIM_BUG_NO_DIR_SYNC) && takes_effect(t, verdict))
        sim_dir_sync(t->dir);
    return verdict == SIM_TEAR ? code : 0;
}

static int
sim_space(struct target *base, struct target_space *ret)
{
    struct sim_target *t = sim_target(base);
    int code;

    if (judge_name(t, SIM_CALL_OTHER, false, "", &code) != SIM_GO)
        return code;
    *ret = (struct target_space){.free_bytes = UINT64_C(1) << 40,
                                 .total_bytes = UINT64_C(1) << 41,
                                 .device = 1};
    return 0;
}

static int
sim_subdir(struct target *base, const char *name, unsigned flags,
           struct target **ret)
{
    struct sim_target *t = sim_target(base);
    struct sim_inode *dir = sim_names_find(&t->dir->now, name);
    bool makes = !dir && flags & DIR_CREATE;
    enum sim_verdict verdict;
    char path[1024];
    int code;

    check_name(name);
    verdict = judge_name(t, makes ? SIM_CALL_MAKE_DIR : SIM_CALL_OTHER, makes,
                         name, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if ((!dir && !makes) || (dir && dir->hidden))
        return no_such(t, name);
    if (dir && !dir->is_dir)
        return err_set(-ENOTDIR, "%s/%s: Not a directory", base->path, name);
    if (makes && takes_effect(t, verdict)) {
        dir = sim_inode_new(true);
        sim_dir_create(t->dir, t->s->serial++, name, dir);
        sim_inode_put(dir);
        if (verdict == SIM_GO && !(t->s->bugs & SIM_BUG_NO_DIR_SYNC))
            sim_dir_sync(t->dir); /* DIR_CREATE makes the name durable */
    }
    if (verdict == SIM_TEAR)
        return code;
    snprintf(path, sizeof path, "%s/%s", base->path, name);
    return sim_target_new(t->s, dir, path, ret);
}

static int
sim_remove_dir(struct target *base, const char *name)
{
    struct sim_target *t = sim_target(base);
    struct sim_inode *dir = sim_names_find(&t->dir->now, name);
    enum sim_verdict verdict;
    int code;

    check_name(name);
    verdict = judge_name(t, SIM_CALL_REMOVE, dir != NULL, name, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!dir || dir->hidden)
        return no_such(t, name);
    if (!dir->is_dir)
        return err_set(-ENOTDIR, "%s/%s: Not a directory", base->path, name);
    if (dir->now.count > 0)
        return err_set(-ENOTEMPTY, "%s/%s: Directory not empty", base->path,
                       name);
    if (takes_effect(t, verdict))
        sim_dir_remove(t->dir, t->s->serial++, name);
    return verdict == SIM_TEAR ? code : 0;
}

static void
sim_close(struct target *base)
{
    struct sim_target *t = sim_target(base);

    assert(t->s->handles > 0);
    t->s->handles--;
    sim_inode_put(t->dir);
    free(t->base.path);
    free(t);
}

static int
sim_readv(struct object *base, const struct iovec *iov, int count, uint64_t at)
{
    struct sim_object *o = sim_object(base);
    uint64_t size = o->inode->file.now.size_bytes;
    int code;

    if (judge(o, SIM_CALL_READ, false, &code) != SIM_GO)
        return code;
    for (int i = 0; i < count; i++) {
        if (at > size || iov[i].iov_len > size - at)
            return err_set(-EIO, "%s/%s: short read at %" PRIu64,
                           base->target->path, o->name, at);
        sim_file_read(&o->inode->file, at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return 0;
}

/* The switch "lost table": a write that begins before the data of a chunk
 * file is dropped now and then, as a disk does that acknowledges and forgets.
 * Chunk files are those with a number for a name. */
static bool
loses_write(struct sim_object *o, uint64_t at)
{
    return o->s->bugs & SIM_BUG_LOST_TABLE && at < o->s->table_bytes &&
           strspn(o->name, "0123456789") == strlen(o->name) &&
           prng_one_in(&o->s->prng, 8);
}

/* Would the range take more of the medium than the file has? */
static bool
needs_more(const struct sim_object *o, uint64_t at, uint64_t bytes)
{
    const struct sim_map *map = &o->inode->file.now;
    uint64_t end = (at + bytes + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;

    for (uint64_t i = at / SIM_PAGE_BYTES; i < end; i++) {
        if (i >= map->count || !map->page[i])
            return true;
    }
    return false;
}

static int
sim_writev(struct object *base, const struct iovec *iov, int count,
           uint64_t at)
{
    struct sim_object *o = sim_object(base);
    enum sim_verdict verdict;
    uint64_t bytes = 0, done = 0;
    uint8_t *all;
    int code;

    verdict = judge(o, SIM_CALL_WRITE, true, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!o->writable)
        return err_set(-EBADF, "%s/%s: not open for writing",
                       base->target->path, o->name);
    for (int i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    if (o->s->full && verdict == SIM_GO && needs_more(o, at, bytes))
        return err_set(-ENOSPC, "%s/%s: full", base->target->path, o->name);
    all = must(malloc(bytes + 1));
    for (int i = 0; i < count; i++) {
        memcpy(all + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    if (verdict == SIM_TEAR && prng_one_in(&o->s->prng, 2))
        bytes = prng_below(&o->s->prng, bytes / SIM_SECTOR_BYTES + 1) *
                SIM_SECTOR_BYTES;
    if (o->s->trace)
        fprintf(o->s->trace, "    at %" PRIu64 " bytes %" PRIu64 "\n", at,
                bytes);
    if (o->s->witness) {
        struct sim_seen seen = {SIM_CALL_WRITE, true, base->target->path,
                                o->name, at, all, bytes};

        o->s->witness(o->s->witness_ctx, &seen);
    }
    if (!loses_write(o, at))
        sim_file_write(&o->inode->file, o->s->serial++, at, all, bytes);
    free(all);
    return verdict == SIM_TEAR ? code : 0;
}

static int
sim_punch(struct object *base, uint64_t at, uint64_t bytes)
{
    struct sim_object *o = sim_object(base);
    uint64_t size = o->inode->file.now.size_bytes;
    enum sim_verdict verdict;
    int code;

    verdict = judge(o, SIM_CALL_PUNCH, true, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!o->writable)
        return err_set(-EBADF, "%s/%s: not open for writing",
                       base->target->path, o->name);
    if (at > size)
        bytes = 0;
    else if (bytes > size - at)
        bytes = size - at;
    if (verdict == SIM_TEAR)
        bytes = prng_below(&o->s->prng, bytes / SIM_SECTOR_BYTES + 1) *
                SIM_SECTOR_BYTES;
    sim_file_punch(&o->inode->file, o->s->serial++, at, bytes);
    return verdict == SIM_TEAR ? code : 0;
}

/* Space is never short here (see simio_arm_failure for that): only the size
 * may grow. */
static int
sim_allocate(struct object *base, uint64_t at, uint64_t bytes)
{
    struct sim_object *o = sim_object(base);
    uint64_t size = o->inode->file.now.size_bytes;
    enum sim_verdict verdict;
    int code;

    verdict = judge(o, SIM_CALL_ALLOCATE, true, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!o->writable)
        return err_set(-EBADF, "%s/%s: not open for writing",
                       base->target->path, o->name);
    if (at + bytes > size &&
        (verdict == SIM_GO || prng_one_in(&o->s->prng, 2)))
        sim_file_resize(&o->inode->file, o->s->serial++, at + bytes);
    return verdict == SIM_TEAR ? code : 0;
}

static int
sim_resize(struct object *base, uint64_t bytes)
{
    struct sim_object *o = sim_object(base);
    enum sim_verdict verdict;
    int code;

    verdict = judge(o, SIM_CALL_RESIZE, true, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!o->writable)
        return err_set(-EBADF, "%s/%s: not open for writing",
                       base->target->path, o->name);
    if (verdict == SIM_GO || prng_one_in(&o->s->prng, 2))
        sim_file_resize(&o->inode->file, o->s->serial++, bytes);
    return verdict == SIM_TEAR ? code : 0;
}

static bool
is_journal(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot && strcmp(dot, ".journal") == 0;
}

static int
sim_object_sync(struct object *base)
{
    struct sim_object *o = sim_object(base);
    struct sim_cut cut;
    enum sim_verdict verdict;
    int code;

    verdict = judge(o, SIM_CALL_SYNC, true, &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (o->s->bugs & SIM_BUG_NO_JOURNAL_SYNC && is_journal(o->name))
        return verdict == SIM_TEAR ? code : 0;
    if (verdict == SIM_GO) {
        sim_file_sync(&o->inode->file);
        return 0;
    }
    /* A cut in a sync: the cut itself decides what is kept. A sync that fails
     * while life goes on loses some of it for good. */
    if (!o->s->halted) {
        cut = sim_random_cut(o->s);
        sim_file_sync_failed(&o->inode->file, &cut);
    } else if (prng_one_in(&o->s->prng, 2)) {
        sim_file_sync(&o->inode->file);
    }
    return code;
}

static int
sim_stat(struct object *base, struct object_stat *ret)
{
    struct sim_object *o = sim_object(base);
    int code;

    if (judge(o, SIM_CALL_OTHER, false, &code) != SIM_GO)
        return code;
    ret->size_bytes = o->inode->file.now.size_bytes;
    ret->allocated_bytes = sim_map_allocated(&o->inode->file.now);
    ret->device = 0;
    ret->node = (uintptr_t)o->inode;
    return 0;
}

static int
sim_next_data(struct object *base, uint64_t at, uint64_t *ret_begin,
              uint64_t *ret_end)
{
    struct sim_object *o = sim_object(base);
    const struct sim_map *map = &o->inode->file.now;
    uint64_t i = at / SIM_PAGE_BYTES, end;
    int code;

    if (judge(o, SIM_CALL_OTHER, false, &code) != SIM_GO)
        return code;
    while (i < map->count && !map->page[i])
        i++;
    end = i;
    while (end < map->count && map->page[end])
        end++;
    *ret_begin = i * SIM_PAGE_BYTES > at ? i * SIM_PAGE_BYTES : at;
    *ret_end = end * SIM_PAGE_BYTES;
    if (*ret_end > map->size_bytes)
        *ret_end = map->size_bytes;
    if (i == map->count || *ret_begin >= *ret_end)
        return err_set(-ENXIO, "%s/%s: no data behind %" PRIu64,
                       base->target->path, o->name, at);
    return 0;
}

static void
sim_drop_cache(struct object *base)
{
    struct sim_object *o = sim_object(base);

    if (!o->s->halted)
        sim_file_drop_cache(&o->inode->file);
}

static bool
lock_excludes(const struct sim_object *o, const struct sim_lock *l,
              uint64_t at, uint64_t end, bool exclusive)
{
    return l->owner != o && l->at < end && at < l->end &&
           (exclusive || l->exclusive);
}

static bool
is_excluded(const struct sim_object *o, uint64_t at, uint64_t end,
            bool exclusive)
{
    for (size_t i = 0; i < o->inode->lock_count; i++) {
        if (lock_excludes(o, &o->inode->lock[i], at, end, exclusive))
            return true;
    }
    return false;
}

static uint64_t
lock_end(uint64_t at, uint64_t bytes)
{
    return bytes == 0 || bytes > UINT64_MAX - at ? UINT64_MAX : at + bytes;
}

/* Our own locks on the range go away, or are cut. */
static void
drop_locks(struct sim_object *o, uint64_t at, uint64_t end)
{
    struct sim_inode *inode = o->inode;
    size_t kept = 0, count = inode->lock_count;

    for (size_t i = 0; i < count; i++) {
        struct sim_lock l = inode->lock[i];

        if (l.owner == o && at <= l.at && l.end <= end)
            continue;
        assert(l.owner != o || l.end <= at || end <= l.at); /* not split */
        inode->lock[kept++] = l;
    }
    inode->lock_count = kept;
}

static int
sim_lock(struct object *base, uint64_t at, uint64_t bytes, bool exclusive)
{
    struct sim_object *o = sim_object(base);
    struct sim_inode *inode = o->inode;
    uint64_t end = lock_end(at, bytes);
    int code;

    if (judge(o, SIM_CALL_OTHER, false, &code) != SIM_GO)
        return code;
    if (is_excluded(o, at, end, exclusive))
        return err_set(-EBUSY, "%s/%s: locked", base->target->path, o->name);
    drop_locks(o, at, end);
    if (inode->lock_count == inode->lock_room) {
        inode->lock_room = inode->lock_room ? inode->lock_room * 2 : 4;
        inode->lock = must(
            realloc(inode->lock, inode->lock_room * sizeof *inode->lock));
    }
    inode->lock[inode->lock_count++] = (struct sim_lock){
        .owner = o, .at = at, .end = end, .exclusive = exclusive};
    return 0;
}

static int
sim_unlock(struct object *base, uint64_t at, uint64_t bytes)
{
    struct sim_object *o = sim_object(base);
    int code;

    if (judge(o, SIM_CALL_OTHER, false, &code) != SIM_GO)
        return code;
    drop_locks(o, at, lock_end(at, bytes));
    return 0;
}

static int
sim_is_locked(struct object *base, uint64_t at, uint64_t bytes)
{
    struct sim_object *o = sim_object(base);
    int code;

    if (judge(o, SIM_CALL_OTHER, false, &code) != SIM_GO)
        return code;
    return is_excluded(o, at, lock_end(at, bytes), false);
}

static void
sim_object_close(struct object *base)
{
    struct sim_object *o = sim_object(base);

    drop_locks(o, 0, UINT64_MAX);
    assert(o->s->handles > 0);
    o->s->handles--;
    sim_inode_put(o->inode);
    free(o);
}

static const struct target_ops sim_ops = {
    .open = sim_open,
    .remove = sim_remove,
    .rename = sim_rename,
    .list = sim_list,
    .sync = sim_sync,
    .space = sim_space,
    .subdir = sim_subdir,
    .remove_dir = sim_remove_dir,
    .close = sim_close,
    .readv = sim_readv,
    .writev = sim_writev,
    .punch = sim_punch,
    .allocate = sim_allocate,
    .resize = sim_resize,
    .object_sync = sim_object_sync,
    .stat = sim_stat,
    .next_data = sim_next_data,
    .drop_cache = sim_drop_cache,
    .lock = sim_lock,
    .unlock = sim_unlock,
    .is_locked = sim_is_locked,
    .object_close = sim_object_close,
};
