/* root_lock.c: see root_lock.h. */
#include "volume/root_lock.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/wait.h"
#include <stdlib.h>
#include <string.h>

#define LOCK_FILE REGISTRY_NAME ".lock"
#define WAIT_NS (UINT64_C(20) * 1000000000)
#define TRIES_MAX 4000u /* where time does not pass */
#define TRIES_SECOND 10u
#define PAUSE_MIN_MS 10u
#define PAUSE_MAX_MS 100u

/* The waiting of one caller, for any number of locks. */
struct patience {
    struct io *io;
    uint64_t begun_ns;
    unsigned tries;
    const char *path; /* what it waits for */
};

static bool
has_no_locks(int r)
{
    return r == -ENOLCK || r == -EOPNOTSUPP || r == -ENOSYS;
}

/* *ret_made: it was not there. */
static int
open_file(struct root_lock *l, bool *ret_made)
{
    int r = target_open(l->root, LOCK_FILE,
                        OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL, &l->file);

    *ret_made = r == 0;
    if (r == -EEXIST)
        r = target_open(l->root, LOCK_FILE, OBJECT_WRITE | OBJECT_CREATE,
                        &l->file);
    return r;
}

/* -EBUSY: somebody else has it. */
static int
lock_file(struct io *io, struct root_lock *l, bool *ret_made)
{
    uint32_t chance = 0;
    int r = io->ops->random(io, &chance, sizeof chance);

    l->mark = UINT64_C(1) + chance;
    *ret_made = false;
    if (r == 0)
        r = open_file(l, ret_made);
    if (r == 0)
        r = object_lock(l->file, 0, 1, true);
    if (r == 0)
        r = object_lock(l->file, l->mark, 1, true);
    return r;
}

/* RL3. 1: it does. */
static int
name_leads_to_it(const struct root_lock *l)
{
    struct object *file;
    int r = target_open(l->root, LOCK_FILE, 0, &file);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    r = object_is_locked(file, l->mark, 1);
    object_close(file);
    return r;
}

/* RL4. What excludes us is a lock of our own. 1: yes. */
static int
is_held_already(const struct root_locks *locks, const struct root_lock *l)
{
    int r = 0;

    for (size_t i = 0; i < locks->count && l->file && r == 0; i++) {
        if (locks->held[i].file)
            r = object_is_locked(l->file, locks->held[i].mark, 1);
    }
    return r;
}

/* 1: held. 0: not yet; on NFS who has the file open may be told that it is
 * gone (-ESTALE). */
static int
try_lock(struct io *io, const struct root_locks *locks, struct root_lock *l)
{
    bool made;
    int r = lock_file(io, l, &made);

    if (r == 0) {
        r = name_leads_to_it(l);
        if (r > 0)
            return r;
    } else if (has_no_locks(r)) {
        if (made)
            (void)target_remove(l->root, LOCK_FILE);
        r = 1;
    } else if (r == -EBUSY) {
        r = is_held_already(locks, l);
    }
    object_close(l->file);
    l->file = NULL;
    return r == -ESTALE ? 0 : r;
}

/* -EBUSY: it has been enough. */
static int
wait_more(struct patience *p)
{
    uint64_t now = p->io->ops->now_ns(p->io);
    unsigned pause = PAUSE_MIN_MS * (1 + p->tries / 10);

    if (now - p->begun_ns > WAIT_NS || ++p->tries > TRIES_MAX)
        return err_set(-EBUSY, "%s: another lsvd has been changing volumes "
                       "there for %u seconds: try again later, or, if it is "
                       "out of reach for good, remove %s/%s", p->path,
                       (unsigned)((now - p->begun_ns) / 1000000000u), p->path,
                       LOCK_FILE);
    pause_ms(pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
    return 0;
}

/* 0: held. -EAGAIN: not after so many tries (0: any number). */
static int
lock_root(struct patience *p, const char *path, unsigned tries,
          struct root_locks *locks)
{
    struct root_lock l = {NULL, NULL, 0};
    int r = mem_grow(locks->count + 1, sizeof *locks->held, &locks->room,
                     &locks->held);

    if (r == 0)
        r = p->io->ops->open_dir(p->io, path, 0, &l.root);
    if (r < 0)
        return r;
    for (unsigned i = 1;; i++) {
        r = try_lock(p->io, locks, &l);
        if (r != 0)
            break;
        p->path = path;
        r = i == tries ? -EAGAIN : wait_more(p);
        if (r < 0)
            break;
    }
    if (r < 0) {
        target_close(l.root);
        return r;
    }
    locks->held[locks->count++] = l;
    return 0;
}

static struct root_lock *
find_held(const struct root_locks *locks, const char *path)
{
    for (size_t i = 0; locks && i < locks->count; i++) {
        if (strcmp(locks->held[i].root->path, path) == 0)
            return &locks->held[i];
    }
    return NULL;
}

struct wanted {
    const char *path;
    bool is_data; /* of no part: goes without, if it must */
};

static int
compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    int order = strcmp(x->path, y->path);

    return order != 0 ? order : x->is_data - y->is_data;
}

/* -EAGAIN: not all. */
static int
lock_all(struct patience *p, const struct wanted *wanted, size_t count,
         struct root_locks *locks)
{
    int r = 0;

    for (size_t i = 0; i < count && r == 0; i++) {
        if (find_held(locks, wanted[i].path))
            continue;
        r = lock_root(p, wanted[i].path, locks->count > 0 ? TRIES_SECOND : 0,
                      locks);
        if (r < 0 && r != -EAGAIN && r != -EBUSY && r != -ENOMEM &&
            wanted[i].is_data)
            r = 0;
    }
    if (r < 0)
        root_locks_release(locks);
    return r;
}

/* RL2 */
static int
lock_all_in_the_end(struct io *io, const struct wanted *wanted, size_t count,
                    struct root_locks *locks)
{
    struct patience patience = {io, io->ops->now_ns(io), 0, NULL};
    uint8_t chance;
    int r;

    while ((r = lock_all(&patience, wanted, count, locks)) == -EAGAIN) {
        r = io->ops->random(io, &chance, sizeof chance);
        if (r == 0)
            r = wait_more(&patience);
        if (r < 0)
            break;
        pause_ms(chance);
    }
    return r;
}

int
root_locks_take(struct io *io, const struct volume_meta *meta,
                char *const *data, struct root_locks *locks)
{
    struct wanted *wanted;
    size_t count = 0;
    int r;

    while (data[count])
        count++;
    r = mem_new(meta->part_count + count, sizeof *wanted, &wanted);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++)
        wanted[i] = (struct wanted){data[i], true};
    for (uint32_t i = 0; i < meta->part_count; i++)
        wanted[count++] = (struct wanted){meta->part[i].root, false};
    qsort(wanted, count, sizeof *wanted, compare_wanted);
    r = lock_all_in_the_end(io, wanted, count, locks);
    free(wanted);
    return r;
}

void
root_locks_release(struct root_locks *locks)
{
    while (locks->count > 0) {
        struct root_lock *l = &locks->held[--locks->count];

        if (l->file && name_leads_to_it(l) > 0)
            (void)target_remove(l->root, LOCK_FILE);
        object_close(l->file);
        target_close(l->root);
    }
    free(locks->held);
    *locks = (struct root_locks){NULL, 0, 0};
}

void
root_locks_free(struct root_locks **locks)
{
    if (*locks)
        root_locks_release(*locks);
    free(*locks);
    *locks = NULL;
}

/* One load, and what becomes of it. */
static int
change_once(struct target *root, const struct logger *log,
            registry_change_fn *change, void *ctx, bool may_store,
            bool *ret_changed)
{
    struct registry registry;
    bool damaged, is_complete;
    int r = registry_load(root, log, &registry, &damaged);

    *ret_changed = false;
    if (r < 0)
        return r;
    is_complete = registry_is_complete(root, &registry) == 0;
    /* What is known already needs not be stored for being damaged alone. */
    r = change(ctx, root, &registry, damaged && is_complete, ret_changed);
    if (r == 0 && *ret_changed)
        r = registry_is_complete(root, &registry);
    if (r == 0 && *ret_changed && may_store) {
        registry.generation++;
        r = registry_store(root, &registry);
    }
    registry_done(&registry);
    return r;
}

int
registry_change(struct io *io, const struct logger *log, const char *path,
                const struct root_locks *held, registry_change_fn *change,
                void *ctx)
{
    const struct logger silent = {NULL, NULL};
    struct patience patience = {io, io->ops->now_ns(io), 0, NULL};
    const struct root_lock *have = find_held(held, path);
    struct root_locks own = {.count = 0};
    struct target *root;
    bool changed;
    int r;

    if (have)
        return change_once(have->root, log, change, ctx, true, &changed);
    r = io->ops->open_dir(io, path, 0, &root);
    if (r < 0)
        return r;
    r = change_once(root, log, change, ctx, false, &changed);
    target_close(root);
    if (r < 0 || !changed) /* mostly there is nothing to do */
        return r;
    r = lock_root(&patience, path, 0, &own);
    if (r == 0)
        r = change_once(own.held[0].root, &silent, change, ctx, true,
                        &changed);
    root_locks_release(&own);
    return r;
}
