/* root_lock.c: see root_lock.h. */
#include "volume/root_lock.h"
#include "base/err.h"
#include "base/wait.h"
#include <stdlib.h>
#include <string.h>

#define LOCK_FILE REGISTRY_NAME ".lock"
#define LOCK_TRIES 3000u /* half a minute */
#define LOCK_PAUSE_MS 10u

static bool
has_no_locks(int r)
{
    return r == -ENOLCK || r == -EOPNOTSUPP || r == -ENOSYS;
}

/* -EBUSY: somebody else has it. */
static int
lock_file(struct io *io, struct root_lock *l)
{
    uint32_t chance;
    int r = io->ops->random(io, &chance, sizeof chance);

    l->mark = UINT64_C(1) + chance;
    if (r == 0)
        r = target_open(l->root, LOCK_FILE, OBJECT_WRITE | OBJECT_CREATE,
                        &l->file);
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

/* 1: held. 0: not yet. */
static int
try_lock(struct io *io, const struct root_locks *locks, struct root_lock *l)
{
    int r = lock_file(io, l);

    if (r == 0) {
        r = name_leads_to_it(l);
        if (r > 0)
            return r;
    } else if (has_no_locks(r)) {
        (void)target_remove(l->root, LOCK_FILE);
        r = 1;
    } else if (r == -EBUSY) {
        r = is_held_already(locks, l);
    }
    object_close(l->file);
    l->file = NULL;
    return r;
}

static int
lock_root(struct io *io, const char *path, struct root_locks *locks)
{
    struct root_lock l = {NULL, NULL, 0};
    int r = io->ops->open_dir(io, path, 0, &l.root);

    if (r < 0)
        return r;
    r = try_lock(io, locks, &l);
    for (unsigned i = 1; i < LOCK_TRIES && r == 0; i++) {
        pause_ms(LOCK_PAUSE_MS);
        r = try_lock(io, locks, &l);
    }
    if (r == 0)
        r = err_set(-EBUSY, "%s/%s: another lsvd has been changing volumes "
                    "there for %u seconds; try again later", path, LOCK_FILE,
                    LOCK_TRIES * LOCK_PAUSE_MS / 1000);
    if (r < 0) {
        target_close(l.root);
        return r;
    }
    locks->held[locks->count++] = l;
    return 0;
}

static bool
is_held(const struct root_locks *locks, const char *path)
{
    for (size_t i = 0; locks && i < locks->count; i++) {
        if (strcmp(locks->held[i].root->path, path) == 0)
            return true;
    }
    return false;
}

static int
compare_paths(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int
root_locks_take(struct io *io, const struct volume_meta *meta,
                struct root_locks *locks)
{
    const char *path[PARTS_MAX];
    int r = 0;

    for (uint32_t i = 0; i < meta->part_count; i++)
        path[i] = meta->part[i].root;
    qsort(path, meta->part_count, sizeof *path, compare_paths);
    for (uint32_t i = 0; i < meta->part_count && r == 0; i++) {
        if (!is_held(locks, path[i]))
            r = lock_root(io, path[i], locks);
    }
    if (r < 0)
        root_locks_release(locks);
    return r;
}

void
root_locks_release(struct root_locks *locks)
{
    while (locks->count > 0) {
        struct root_lock *l = &locks->held[--locks->count];

        if (l->file)
            (void)target_remove(l->root, LOCK_FILE);
        object_close(l->file);
        target_close(l->root);
    }
}

/* One load, and what becomes of it. */
static int
change_once(struct target *root, const struct logger *log,
            registry_change_fn *change, void *ctx, bool may_store,
            bool *ret_changed)
{
    struct registry registry;
    bool damaged;
    int r = registry_load(root, log, &registry, &damaged);

    *ret_changed = false;
    if (r < 0)
        return r;
    r = change(ctx, root, &registry, damaged, ret_changed);
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
    bool has_lock = is_held(held, path), changed;
    struct root_locks own = {.count = 0};
    struct target *root;
    int r = io->ops->open_dir(io, path, 0, &root);

    if (r < 0)
        return r;
    r = change_once(root, log, change, ctx, has_lock, &changed);
    if (r == 0 && changed && !has_lock) { /* mostly there is nothing to do */
        r = lock_root(io, path, &own);
        if (r == 0)
            r = change_once(root, &silent, change, ctx, true, &changed);
        root_locks_release(&own);
    }
    target_close(root);
    return r;
}
