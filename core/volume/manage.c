/* manage.c: list, resize, set, remove. */
#include "base/err.h"
#include "base/memory.h"
#include "volume/find.h"
#include "volume/moment.h"
#include "volume/parent.h"
#include "volume/read_cache.h"
#include "volume/root_lock.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
redundancy_text(const struct volume_meta *meta, char *text, size_t bytes)
{
    if (meta->replicas > 0)
        snprintf(text, bytes, "%u replica%s", meta->replicas,
                 meta->replicas == 1 ? "" : "s");
    else
        snprintf(text, bytes, "EC %u+%u", meta->ec_data, meta->ec_parity);
}

/* Has the volume of this number the name by now, and does not say so yet
 * (FI2)? */
static bool
is_heir(struct io *io, const struct config *config, const char *base,
        uint32_t number)
{
    const struct logger silent = {NULL, NULL};
    struct volume_meta meta;
    bool is;

    if (volume_find(io, &silent, config, base, &meta, NULL) < 0)
        return false;
    is = meta.number == number;
    meta_done(&meta);
    return is;
}

/* The policy says what it is called; the registry's word counts only where
 * there is none. */
static int
list_entry(struct io *io, const struct config *config,
           const struct registry_entry *e,
           int (*cb)(void *ctx, const struct lsvd_listed *volume), void *ctx)
{
    const struct logger silent = {NULL, NULL};
    struct lsvd_listed listed = {.name = e->name, .number = e->number};
    char base[VOLUME_NAME_BYTES_MAX + 1];
    struct volume_meta meta;
    char problem[512];
    int r;

    r = volume_find_number(io, &silent, config, NULL, e->number, &e->uuid,
                           &meta, NULL);
    if (r < 0) {
        snprintf(problem, sizeof problem, "%s", err_text());
        listed.problem = problem;
        return cb(ctx, &listed);
    }
    listed.name = meta.name;
    meta_base_name(meta.name, base);
    listed.size_bytes = meta.size_bytes;
    listed.read_only = meta.read_only;
    redundancy_text(&meta, listed.redundancy, sizeof listed.redundancy);
    if (meta.removing)
        listed.problem = "being removed; finish with lsvd remove";
    else if (meta_is_unborn_name(meta.name) &&
             is_heir(io, config, base, meta.number))
        listed.name = base;
    else if (meta_is_unborn_name(meta.name))
        listed.problem = "left by a snapshot that was cut short; the next one "
                         "removes it";
    r = cb(ctx, &listed);
    meta_done(&meta);
    return r;
}

/* The entries of all registries, each volume once. */
struct entries {
    struct registry_entry *entry; /* owned */
    size_t count, room;
};

static int
add_entry(struct entries *all, const struct registry_entry *e)
{
    int r;

    for (size_t i = 0; i < all->count; i++) {
        if (uuid_equal(&all->entry[i].uuid, &e->uuid))
            return 0;
    }
    r = mem_grow(all->count + 1, sizeof *all->entry, &all->room, &all->entry);
    if (r < 0)
        return r;
    all->entry[all->count++] = *e;
    return 0;
}

static int
compare_numbers(const void *a, const void *b)
{
    const struct registry_entry *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static int
gather_entries(const struct roots *roots, const struct logger *log,
               struct entries *all)
{
    struct registry one;
    bool damaged;
    int r = 0;

    for (size_t i = 0; i < roots->count && r == 0; i++) {
        r = registry_load(roots->root[i], log, &one, &damaged);
        if (r < 0)
            break;
        for (size_t n = 0; n < one.count && r == 0; n++)
            r = add_entry(all, &one.entry[n]);
        registry_done(&one);
    }
    if (all->count > 0)
        qsort(all->entry, all->count, sizeof *all->entry, compare_numbers);
    return r;
}

int
lsvd_list(const struct lsvd_env *env,
          int (*cb)(void *ctx, const struct lsvd_listed *volume), void *ctx)
{
    struct entries all = {0};
    struct config config;
    struct logger log;
    struct roots roots;
    struct env_world world;
    int r;

    r = env_load(env, NULL, &config, &world, &log);
    if (r < 0)
        return r;
    r = roots_open(world.io, &log, config.data, &roots);
    if (r == 0) {
        r = gather_entries(&roots, &log, &all);
        for (size_t n = 0; n < all.count && r == 0; n++)
            r = list_entry(world.io, &config, &all.entry[n], cb, ctx);
        roots_close(&roots);
    }
    free(all.entry);
    config_done(&config);
    env_done(&world);
    return r;
}

/* -EIO: the first part that is not in sync is named. */
static int
check_all_there(const struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct part *p = &v->part[i];

        if (!(v->usable & UINT32_C(1) << i))
            return err_set(-EIO, "volume %s: not all its parts are healthy; "
                           "part %c is %s: %s", v->meta.name, p->letter,
                           lsvd_part_state_text(p->state), p->problem);
    }
    return 0;
}

/* The volume to ourselves, everything destaged. */
static int
open_settled(const struct lsvd_env *env, const char *name,
             struct lsvd_volume **ret)
{
    int r;

    r = volume_open(env, name, OPEN_REPAIR, ret);
    if (r < 0)
        return r;
    r = check_all_there(*ret);
    if (r < 0) {
        lsvd_abandon(*ret);
        return r;
    }
    if ((*ret)->attached)
        r = volume_detach(*ret);
    if (r == 0) /* one may have failed just then */
        r = check_all_there(*ret);
    if (r < 0)
        lsvd_abandon(*ret);
    return r;
}

/* Chunks behind the end are forgotten: growing, before the new size is in
 * force; shrinking, after it is. */
static int
resize_tables(struct lsvd_volume *v, uint64_t size_bytes)
{
    struct geometry g;
    int r = 0;

    geometry_init(&g, size_bytes, v->meta.chunk_bytes, v->meta.block_bytes,
                  v->meta.replicas, v->meta.ec_data, v->meta.ec_parity);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++)
        r = chunk_table_resize(v->part[i].table, geometry_chunk_count(&g));
    if (r == 0)
        r = tables_store(v, volume_all_parts(v));
    return r;
}

/* Its own pointers stay v's. */
static int
change_meta(struct lsvd_volume *v, struct volume_meta *next)
{
    int r;

    next->generation++;
    r = volume_change_meta(v, next);
    if (r == 0)
        v->meta = *next;
    return r;
}

static int
finish(struct lsvd_volume *v, int r)
{
    if (r == 0)
        return lsvd_close(v);
    lsvd_abandon(v);
    return r;
}

/* What is cut off must read as zeroes should the volume grow again. */
static int
clear_tail(const struct lsvd_env *env, const char *name, uint64_t size_bytes)
{
    struct lsvd_volume *v;
    int r;

    r = lsvd_open(env, name, 0, &v);
    if (r < 0)
        return r;
    if (!lsvd_can_write(v))
        r = err_set(-EROFS, "volume %s can't be written now: it stays as it "
                    "is", name);
    if (r == 0)
        r = lsvd_zero(v, v->meta.size_bytes - size_bytes, size_bytes,
                      LSVD_FUA);
    if (r < 0) {
        (void)lsvd_close(v);
        return r;
    }
    return lsvd_close(v);
}

/* PA3. */
static void
take_size(struct volume_meta *meta, uint64_t size_bytes)
{
    meta->size_bytes = size_bytes;
    if (meta->overlap_bytes > size_bytes)
        meta->overlap_bytes = size_bytes;
}

int
lsvd_resize(const struct lsvd_env *env, const char *name, uint64_t size_bytes,
            bool allow_shrink)
{
    struct volume_meta next;
    struct lsvd_volume *v;
    uint64_t old;
    int r;

    r = open_settled(env, name, &v);
    if (r < 0)
        return r;
    old = v->meta.size_bytes;
    next = v->meta;
    take_size(&next, size_bytes);
    r = meta_check(&next);
    if (r == 0)
        r = parent_check_thaw(v);
    if (r == 0 && size_bytes < old && !allow_shrink)
        r = err_set(-EPERM, "volume %s has %llu bytes: shrinking it to %llu "
                    "destroys what lies behind; needs force", name,
                    (unsigned long long)old, (unsigned long long)size_bytes);
    if (r == 0 && size_bytes < old && (v->meta.read_only ||
                                       v->meta.append_only))
        r = err_set(-EROFS, "volume %s is read-only or append-only: not "
                    "shrunk", name);
    if (r == 0 && size_bytes < old) {
        lsvd_abandon(v);
        r = clear_tail(env, name, size_bytes);
        if (r == 0)
            r = open_settled(env, name, &v);
        if (r < 0)
            return r;
    }
    if (r == 0 && size_bytes > old)
        r = resize_tables(v, size_bytes);
    if (r == 0 && size_bytes != old) {
        next = v->meta;
        take_size(&next, size_bytes);
        r = change_meta(v, &next);
        if (r == 0 && size_bytes < old)
            r = resize_tables(v, size_bytes);
    }
    return finish(v, r);
}

int
policy_flag(struct volume_meta *meta, const char *key, const char *value,
            bool **ret_flag, bool *ret_on)
{
    bool on = strcmp(value, "on") == 0 || strcmp(value, "true") == 0 ||
              strcmp(value, "yes") == 0 || strcmp(value, "1") == 0;
    bool off = strcmp(value, "off") == 0 || strcmp(value, "false") == 0 ||
               strcmp(value, "no") == 0 || strcmp(value, "0") == 0;

    if (strcmp(key, "read-only") == 0)
        *ret_flag = &meta->read_only;
    else if (strcmp(key, "append-only") == 0)
        *ret_flag = &meta->append_only;
    else
        return err_set(-EINVAL, "%s can't be set; read-only and append-only "
                       "can", key);
    if (!on && !off)
        return err_set(-EINVAL, "%s=%s: on or off is meant", key, value);
    *ret_on = on;
    return 0;
}

int
lsvd_set(const struct lsvd_env *env, const char *name, const char *key,
         const char *value)
{
    struct volume_meta next;
    struct lsvd_volume *v;
    bool *flag, on;
    int r;

    r = policy_flag(&next, key, value, &flag, &on);
    if (r == 0)
        r = open_settled(env, name, &v);
    if (r < 0)
        return r;
    next = v->meta;
    (void)policy_flag(&next, key, value, &flag, &on);
    if (flag == &next.read_only && !on)
        r = parent_check_thaw(v);
    if (r == 0) {
        *flag = on;
        r = change_meta(v, &next);
    }
    return finish(v, r);
}

void
volume_remove_dirs(struct io *io, const struct volume_meta *meta,
                   uint32_t parts)
{
    char number[16];

    snprintf(number, sizeof number, "%u", meta->number);
    for (uint32_t i = 0; i < meta->part_count; i++) {
        char letter[2] = {(char)('a' + i), 0};
        struct target *root, *dir;

        if (!(parts & UINT32_C(1) << i) ||
            io->ops->open_dir(io, meta->part[i].root, 0, &root) < 0)
            continue;
        if (target_subdir(root, number, 0, &dir) == 0) {
            if (volume_check_dir(dir, meta) == 0) {
                (void)target_remove(dir, META_NAME);
                (void)target_remove(dir, META_NAME ".new");
            }
            (void)target_remove_dir(dir, letter);
            (void)target_sync(dir);
            target_close(dir);
        }
        (void)target_remove_dir(root, number);
        (void)target_sync(root);
        target_close(root);
    }
}

struct names {
    char name[64][256];
    size_t count;
};

static int
take_name(void *ctx, const char *name)
{
    struct names *names = ctx;

    if (names->count == sizeof names->name / sizeof names->name[0])
        return 1;
    snprintf(names->name[names->count++], sizeof names->name[0], "%s", name);
    return 0;
}

/* A few at a time: a listing is not promised to survive removals. */
static int
empty_dir(struct target *dir)
{
    struct names *names;
    size_t removed;
    int r, failed;

    r = mem_new(1, sizeof *names, &names);
    if (r < 0)
        return r;
    do {
        names->count = removed = 0;
        failed = 0;
        r = target_list(dir, take_name, names);
        for (size_t i = 0; i < names->count && r >= 0; i++) {
            int gone = target_remove(dir, names->name[i]);

            removed += gone == 0;
            if (gone < 0 && gone != -ENOENT)
                failed = gone;
        }
    } while (r >= 0 && removed > 0);
    free(names);
    if (r >= 0)
        r = failed;
    return r < 0 ? r : target_sync(dir);
}

static int
remove_from_registry(void *ctx, struct target *root,
                     struct registry *registry, bool damaged,
                     bool *ret_changed)
{
    const struct volume_meta *meta = *(const struct volume_meta **)ctx;

    (void)root;
    (void)damaged;
    for (size_t i = 0; i < registry->count && !*ret_changed; i++) {
        if (uuid_equal(&registry->entry[i].uuid, &meta->uuid))
            *ret_changed = registry_remove(registry, meta->number);
    }
    return 0;
}

int
volume_forget(struct io *io, const struct logger *log,
              const struct volume_meta *meta, const struct root_locks *held)
{
    for (uint32_t i = 0; i < meta->part_count; i++) {
        int r = registry_change(io, log, meta->part[i].root, held,
                                remove_from_registry, &meta);

        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

bool
volume_has_journal_file(struct lsvd_volume *v)
{
    bool found = false;
    char name[64];

    journal_name(v, name, sizeof name);
    for (size_t i = 0; v->config.cache[i] && !found; i++) {
        struct target *dir;
        uint64_t bytes;

        if (env_open_cache(&v->world, &v->config, i, &dir) < 0)
            continue;
        found = target_stat_name(dir, name, &bytes) == 0;
        target_close(dir);
    }
    return found;
}

int
volume_remove_cache_files(struct lsvd_volume *v)
{
    char name[64], scrub[64], copies[64], kept[64];
    int failed = 0;

    journal_name(v, name, sizeof name);
    scrub_file_name(v, scrub, sizeof scrub);
    read_cache_name(v, copies, sizeof copies);
    moment_file_name(v, kept, sizeof kept);
    for (size_t i = 0; v->config.cache[i]; i++) {
        struct target *dir;
        int r;

        r = env_open_cache(&v->world, &v->config, i, &dir);
        if (r == 0) {
            r = target_remove(dir, copies);
            if (r == 0 || r == -ENOENT)
                r = target_remove(dir, kept);
            if (r == 0 || r == -ENOENT)
                r = target_remove(dir, scrub);
            if (r == 0 || r == -ENOENT)
                r = target_remove(dir, name);
            if (r == 0)
                r = target_sync(dir);
            target_close(dir);
        }
        if (r < 0 && r != -ENOENT)
            failed = r;
    }
    return failed;
}

static bool
is_gone(struct target *root, uint32_t number)
{
    struct target *dir;
    char text[16];
    int r;

    snprintf(text, sizeof text, "%u", number);
    r = target_subdir(root, text, 0, &dir);
    if (r == 0)
        target_close(dir);
    return r == -ENOENT;
}

struct orphan {
    const char *name;
    bool forgotten;
};

static int
remove_orphan(void *ctx, struct target *root, struct registry *registry,
              bool damaged, bool *ret_changed)
{
    struct orphan *orphan = ctx;
    const struct registry_entry *entry = registry_find(registry,
                                                       orphan->name);

    (void)damaged;
    if (!entry || !is_gone(root, entry->number))
        return 0;
    registry_remove(registry, entry->number);
    *ret_changed = orphan->forgotten = true;
    return 0;
}

/* A name whose directory is gone: what an interrupted removal leaves in the
 * registry of a root that could not be reached then. */
static int
forget_orphan(struct lsvd_volume *v, const char *name)
{
    struct orphan orphan = {name, false};
    char text[512];
    int r = 0;

    snprintf(text, sizeof text, "%s", err_text()); /* why it was not found */
    for (size_t i = 0; v->config.data[i] && r == 0; i++) {
        r = registry_change(v->io, &v->log, v->config.data[i], NULL,
                            remove_orphan, &orphan);
        if (r == -ENOENT || !orphan.forgotten) /* known elsewhere, or not */
            r = 0;
    }
    if (r == 0 && !orphan.forgotten)
        return err_set(-ENOENT, "%s", text);
    return r;
}

/* removing is durable in every copy before anything goes, so that an
 * interrupted removal is known for what it is (also of one that was interrupted
 * at that; where there is no space any more, one copy is enough); and the names
 * in the registries go when all else is gone, so that it can be found and
 * continued. */
static int
remove_all(struct lsvd_volume *v)
{
    bool continued = v->meta.removing;
    int r;

    v->meta.removing = true;
    v->meta.generation++;
    r = volume_store_meta(v->io, &v->meta);
    if (r < 0 && !continued)
        return r;
    r = 0;
    for (uint32_t i = 0; i < v->meta.part_count && r == 0; i++) {
        if (v->part[i].dir)
            r = empty_dir(v->part[i].dir);
    }
    if (r < 0)
        return r;
    parts_close(v);
    r = volume_remove_cache_files(v);
    if (r == 0)
        r = volume_forget(v->io, &v->log, &v->meta, NULL);
    if (r == 0)
        volume_remove_dirs(v->io, &v->meta, UINT32_MAX); /* all */
    return r;
}

/* Who has the volume's name? */
static int
find_named(struct lsvd_volume *v, const char *base, bool *ret_is_it)
{
    struct volume_meta meta;
    int r = volume_find_settled(v->io, &v->log, &v->config, base, &meta);

    *ret_is_it = false;
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    *ret_is_it = meta.number == v->meta.number;
    meta_done(&meta);
    return 0;
}

static int
find_named_by_parent(struct lsvd_volume *v, bool *ret_is_it)
{
    struct volume_meta meta;
    int r;

    *ret_is_it = false;
    if (v->meta.successor || v->meta.parent == 0) /* discarded */
        return 0;
    r = volume_find_number_settled(v->io, &v->log, &v->config, &v->meta,
                                   v->meta.parent, &v->meta.parent_uuid,
                                   &meta);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    *ret_is_it = meta.successor &&
                 uuid_equal(&meta.successor_uuid, &v->meta.uuid);
    meta_done(&meta);
    return 0;
}

/* -EBUSY: it is called unborn (FI2), and is the volume by now; after a power
 * cut, too, it is not (FI3). */
static int
check_is_unborn(struct lsvd_volume *v)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];
    bool is_it;
    int r;

    if (!meta_is_unborn_name(v->meta.name))
        return 0;
    meta_base_name(v->meta.name, base);
    r = find_named(v, base, &is_it);
    if (r == 0 && !is_it)
        r = find_named_by_parent(v, &is_it);
    if (r < 0)
        return err_wrap(r, "volume %s stays: is it %s by now", v->meta.name,
                        base);
    return is_it ? err_set(-EBUSY, "volume %s is %s by now: remove it by that "
                           "name", v->meta.name, base)
                 : 0;
}

int
lsvd_remove(const struct lsvd_env *env, const char *name)
{
    struct lsvd_volume *v;
    int r;

    r = volume_new(env, name, &v);
    if (r < 0)
        return r;
    r = volume_find_settled(v->io, &v->log, &v->config, name, &v->meta);
    if (r < 0) {
        if (r == -ENOENT)
            r = forget_orphan(v, name);
        volume_free(v);
        return r;
    }
    r = rollback_pass_name(v, env);
    for (uint32_t i = 0; i < v->meta.part_count && r == 0; i++) {
        struct part *p = &v->part[i];

        p->letter = (char)('a' + i);
        r = part_dir_open(v->io, &v->meta, i, 0, &p->dir);
        if (r == 0) {
            r = part_check_dir(p->dir, &v->meta);
            if (r == 0)
                r = part_take_lock(v, p, true);
        } else if (r == -ENOENT) { /* away: what is there can't be removed */
            r = 0;
        }
    }
    if (r == 0)
        r = volume_check_policy(v);
    if (r == 0)
        r = check_is_unborn(v);
    if (r == 0 && !v->meta.removing)
        r = parent_check_unused(v);
    if (r == 0)
        r = remove_all(v);
    volume_free(v);
    return r;
}
