/* roots.c: finding a volume and its policy under the roots.
 *
 * Every root carries a registry and every root and part a copy of .meta. The
 * valid copy with the greatest generation wins. A registry is only an index:
 * without it, the .meta files below the root tell the same. */
#include "volume/volume.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

int
roots_open(struct io *io, const struct logger *log, char *const *paths,
           struct roots *ret)
{
    size_t count = 0;
    int r, last = -ENOENT;

    memset(ret, 0, sizeof *ret);
    while (paths[count])
        count++;
    r = mem_new(count + 1, sizeof(struct target *), &ret->root);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        r = io->ops->open_dir(io, paths[i], 0, &ret->root[ret->count]);
        if (r == 0) {
            ret->count++;
            continue;
        }
        last = r;
        if (count > 1)
            log_event(log, LOG_WARNING_LEVEL, "%s", err_text());
    }
    if (ret->count == 0) {
        roots_close(ret);
        return err_wrap(last, "data directory");
    }
    return 0;
}

void
roots_close(struct roots *roots)
{
    for (size_t i = 0; i < roots->count; i++)
        target_close(roots->root[i]);
    free(roots->root);
    memset(roots, 0, sizeof *roots);
}

static int
meta_load(struct target *dir, struct volume_meta *ret)
{
    AUTO_FREE uint8_t *bytes = NULL;
    size_t count;
    int r;

    r = target_load(dir, META_NAME, META_BYTES_MAX, &bytes, &count);
    if (r < 0)
        return r;
    r = meta_parse(bytes, count, ret);
    if (r < 0)
        return err_wrap(r, "%s/%s", dir->path, META_NAME);
    return 0;
}

/* What has been found so far of one volume. */
struct search {
    const char *name;
    uint32_t number;
    struct volume_meta best; /* generation 0: nothing yet */
    int error;               /* the most telling one */
    char text[512];
};

static void
search_take(struct search *s, struct target *dir)
{
    struct volume_meta meta;
    int r = meta_load(dir, &meta);

    if (r < 0) {
        if (r != -ENOENT && s->error != -EPROTO) {
            s->error = r;
            snprintf(s->text, sizeof s->text, "%s", err_text());
        }
        return;
    }
    if (strcmp(meta.name, s->name) != 0 || meta.number != s->number ||
        meta.generation <= s->best.generation) {
        meta_done(&meta);
        return;
    }
    meta_done(&s->best);
    s->best = meta;
}

/* Look at a root's copy and at those of the parts under it. */
static void
search_root(struct search *s, struct target *root)
{
    struct target *dir, *part;
    char text[16];
    int r;

    snprintf(text, sizeof text, "%u", s->number);
    r = target_subdir(root, text, 0, &dir);
    if (r < 0 && r != -ENOENT && s->error == 0) {
        s->error = r; /* there may be one: not "no such volume" */
        snprintf(s->text, sizeof s->text, "%s", err_text());
    }
    if (r < 0)
        return;
    search_take(s, dir);
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        char letter[2] = {(char)('a' + i), 0};

        if (target_subdir(dir, letter, 0, &part) < 0)
            continue;
        search_take(s, part);
        target_close(part);
    }
    target_close(dir);
}

struct rebuild_registry {
    struct target *root;
    struct registry *registry;
};

static int
registry_add_found(void *ctx, const char *name)
{
    struct rebuild_registry *rebuild = ctx;
    struct registry_entry entry;
    struct volume_meta meta;
    struct target *dir;
    int r;

    for (const char *p = name; *p; p++) {
        if (!isdigit((unsigned char)*p))
            return 0;
    }
    if (target_subdir(rebuild->root, name, 0, &dir) < 0)
        return 0;
    r = meta_load(dir, &meta);
    for (uint32_t i = 0; i < PARTS_MAX && r < 0; i++) {
        char letter[2] = {(char)('a' + i), 0};
        struct target *part;

        if (target_subdir(dir, letter, 0, &part) < 0)
            continue;
        r = meta_load(part, &meta);
        target_close(part);
    }
    target_close(dir);
    if (r < 0)
        return 0;
    memset(&entry, 0, sizeof entry);
    memcpy(entry.name, meta.name, sizeof entry.name);
    entry.number = meta.number;
    entry.uuid = meta.uuid;
    meta_done(&meta);
    r = registry_add(rebuild->registry, &entry);
    return r == -ENOMEM ? r : 0;
}

int
registry_load(struct target *root, const struct logger *log,
              struct registry *ret, bool *ret_damaged)
{
    AUTO_FREE uint8_t *bytes = NULL;
    struct rebuild_registry rebuild = {root, ret};
    size_t count;
    int r;

    memset(ret, 0, sizeof *ret);
    *ret_damaged = false;
    r = target_load(root, REGISTRY_NAME, REGISTRY_BYTES_MAX, &bytes, &count);
    if (r == 0) {
        r = registry_parse(bytes, count, ret);
        if (r == 0)
            return 0;
        err_wrap(r, "%s/%s", root->path, REGISTRY_NAME);
    }
    if (r != -ENOENT && r != -EBADMSG)
        return r;
    if (r == -EBADMSG) {
        *ret_damaged = true;
        log_event(log, LOG_WARNING_LEVEL,
                  "%s; using the .meta files below it instead", err_text());
    }
    memset(ret, 0, sizeof *ret);
    r = target_list(root, registry_add_found, &rebuild);
    if (r < 0) {
        registry_done(ret);
        return r;
    }
    if (ret->count > 0 && !*ret_damaged) {
        *ret_damaged = true;
        log_event(log, LOG_WARNING_LEVEL,
                  "%s/%s is missing; using the .meta files below it instead",
                  root->path, REGISTRY_NAME);
    }
    return 0;
}

int
registry_store(struct target *root, const struct registry *registry)
{
    AUTO_FREE char *text = NULL;
    size_t bytes;
    int r;

    r = registry_format(registry, &text, &bytes);
    if (r < 0)
        return r;
    return target_store(root, REGISTRY_NAME, text, bytes);
}

void
part_path(const struct volume_meta *meta, uint32_t slot, char *text,
          size_t bytes)
{
    const char *root = meta->part[slot].root;

    snprintf(text, bytes, "%s/%u/%c", root ? root : "?", meta->number,
             (char)('a' + slot));
}

/* <root>/<number>, opened. */
static int
volume_dir_open(struct io *io, const char *path, uint32_t number,
                unsigned flags, struct target **ret)
{
    struct target *root;
    char text[16];
    int r;

    r = io->ops->open_dir(io, path, 0, &root);
    if (r < 0)
        return r;
    snprintf(text, sizeof text, "%u", number);
    r = target_subdir(root, text, flags, ret);
    target_close(root);
    return r;
}

int
part_dir_open(struct io *io, const struct volume_meta *meta, uint32_t slot,
              unsigned flags, struct target **ret)
{
    char letter[2] = {(char)('a' + slot), 0};
    struct target *dir;
    int r;

    r = volume_dir_open(io, meta->part[slot].root, meta->number, flags, &dir);
    if (r < 0)
        return r;
    r = target_subdir(dir, letter, flags, ret);
    target_close(dir);
    return r;
}

/* True if no earlier part has the same root. */
static bool
is_first_of_root(const struct volume_meta *meta, uint32_t slot)
{
    for (uint32_t i = 0; i < slot; i++) {
        if (strcmp(meta->part[i].root, meta->part[slot].root) == 0)
            return false;
    }
    return true;
}

struct copies {
    const struct volume_meta *meta;
    struct metadata_problem *problems;
    size_t max, count;
};

static void
copy_judge(struct copies *copies, struct target *dir, char letter)
{
    struct metadata_problem *problem;
    struct volume_meta meta;
    char text[256] = "older than the other copies";
    int r = meta_load(dir, &meta);
    bool newest = false;

    if (r < 0) {
        snprintf(text, sizeof text, "%s", err_text());
    } else {
        newest = meta.generation == copies->meta->generation;
        meta_done(&meta);
    }
    if (newest || copies->count == copies->max)
        return;
    problem = &copies->problems[copies->count++];
    problem->letter = letter;
    snprintf(problem->path, sizeof problem->path, "%s/%s", dir->path,
             META_NAME);
    snprintf(problem->text, sizeof problem->text, "%s", text);
}

/* Which of the copies that should be there are not this one? */
static void
copies_judge(struct io *io, struct copies *copies)
{
    const struct volume_meta *meta = copies->meta;
    struct target *dir;

    for (uint32_t i = 0; i < meta->part_count; i++) {
        if (is_first_of_root(meta, i) &&
            volume_dir_open(io, meta->part[i].root, meta->number, 0, &dir) ==
                0) {
            copy_judge(copies, dir, 0);
            target_close(dir);
        }
        if (part_dir_open(io, meta, i, 0, &dir) == 0) {
            copy_judge(copies, dir, (char)('a' + i));
            target_close(dir);
        }
    }
}

static int
search_names(struct roots *roots, const struct logger *log,
             struct search *search, bool *ret_damaged)
{
    struct registry registry;
    const struct registry_entry *entry;
    struct uuid uuid;
    bool found = false, damaged;
    int r, last = 0;

    memset(&uuid, 0, sizeof uuid);
    for (size_t i = 0; i < roots->count; i++) {
        r = registry_load(roots->root[i], log, &registry, &damaged);
        if (r < 0) {
            last = r;
            log_event(log, LOG_WARNING_LEVEL, "%s", err_text());
            continue;
        }
        *ret_damaged |= damaged;
        entry = registry_find(&registry, search->name);
        if (entry && found && !uuid_equal(&entry->uuid, &uuid)) {
            registry_done(&registry);
            return err_set(-EEXIST,
                           "volume %s: the roots given know two volumes of "
                           "that name; give the root of one",
                           search->name);
        }
        if (entry) {
            found = true;
            search->number = entry->number;
            uuid = entry->uuid;
            search_root(search, roots->root[i]);
        }
        registry_done(&registry);
    }
    if (!found && last < 0)
        return last;
    if (!found)
        return err_set(-ENOENT, "volume %s: unknown under %s%s",
                       search->name, roots->root[0]->path,
                       roots->count > 1 ? " and the other data directories"
                                        : "");
    return 0;
}

int
volume_find(struct io *io, const struct logger *log,
            const struct config *config, const char *name,
            struct volume_meta *ret, struct metadata_problem *problems,
            size_t max, size_t *ret_problems)
{
    struct search search = {.name = name};
    struct copies copies;
    struct roots roots;
    struct target *root;
    bool damaged = false;
    uint64_t before;
    int r;

    r = meta_check_name(name);
    if (r < 0)
        return r;
    r = roots_open(io, log, config->data, &roots);
    if (r < 0)
        return r;
    r = search_names(&roots, log, &search, &damaged);
    roots_close(&roots);
    if (r < 0) {
        meta_done(&search.best);
        return r;
    }
    /* A part elsewhere may know of a newer policy; and that of others. */
    do {
        before = search.best.generation;
        for (uint32_t i = 0; i < search.best.part_count; i++) {
            if (io->ops->open_dir(io, search.best.part[i].root, 0, &root) < 0)
                continue;
            search_root(&search, root);
            target_close(root);
            if (search.best.generation != before)
                break;
        }
    } while (search.best.generation != before);

    if (search.best.generation == 0 || search.error == -EPROTO) {
        meta_done(&search.best);
        return err_set(search.error ? search.error : -ENOENT,
                       "volume %s: no usable .meta: %s", name,
                       search.text[0] ? search.text : "none was found");
    }
    *ret = search.best;
    if (problems) {
        copies = (struct copies){ret, problems, max, 0};
        copies_judge(io, &copies);
        if (damaged && copies.count < max) {
            copies.problems[copies.count] = (struct metadata_problem){
                .text = "the registry is damaged or missing",
            };
            snprintf(copies.problems[copies.count].path,
                     sizeof copies.problems[0].path, "%s", REGISTRY_NAME);
            copies.count++;
        }
        *ret_problems = copies.count;
        if (search.error)
            log_event(log, LOG_WARNING_LEVEL,
                      "%s; another copy of the policy is used", search.text);
    }
    return 0;
}

/* The roots of the configuration and of a volume's parts, each once. */
static const char *
nth_root(const struct config *config, const struct volume_meta *of, size_t n)
{
    size_t count = 0;

    while (config->data[count])
        count++;
    if (n < count)
        return config->data[n];
    return n - count < of->part_count ? of->part[n - count].root : NULL;
}

static bool
is_first_mention(const struct config *config, const struct volume_meta *of,
                 size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(nth_root(config, of, i), nth_root(config, of, n)) == 0)
            return false;
    }
    return true;
}

int
volume_find_name(struct io *io, const struct logger *log,
                 const struct config *config, const struct volume_meta *of,
                 uint32_t number, const struct uuid *uuid, char *name,
                 size_t bytes)
{
    bool found = false, damaged;
    int r, failed = 0;

    for (size_t n = 0; nth_root(config, of, n) && !found; n++) {
        struct registry registry;
        struct target *root;

        if (!is_first_mention(config, of, n))
            continue;
        r = io->ops->open_dir(io, nth_root(config, of, n), 0, &root);
        if (r == 0) {
            r = registry_load(root, log, &registry, &damaged);
            target_close(root);
        }
        failed = r < 0 && r != -ENOENT ? r : failed;
        for (size_t i = 0; r == 0 && i < registry.count; i++) {
            if (registry.entry[i].number != number ||
                !uuid_equal(&registry.entry[i].uuid, uuid))
                continue;
            snprintf(name, bytes, "%s", registry.entry[i].name);
            found = true;
        }
        if (r == 0)
            registry_done(&registry);
    }
    if (found)
        return 0;
    return failed < 0 ? failed
                      : err_set(-ENOENT, "volume %u is not known under any of "
                                "the data directories", number);
}

/* UUIDs of what was told already. */
struct told {
    struct uuid *uuid; /* owned */
    size_t count, room;
};

static int
told_add(struct told *told, const struct uuid *uuid)
{
    struct uuid *grown;
    int r;

    for (size_t i = 0; i < told->count; i++) {
        if (uuid_equal(&told->uuid[i], uuid))
            return 0;
    }
    if (told->count == told->room) {
        r = mem_new(2 * told->room + 16, sizeof *grown, &grown);
        if (r < 0)
            return r;
        if (told->count > 0)
            memcpy(grown, told->uuid, told->count * sizeof *grown);
        free(told->uuid);
        told->uuid = grown;
        told->room = 2 * told->room + 16;
    }
    told->uuid[told->count++] = *uuid;
    return 1;
}

/* What this root says of the volume of this entry. -ENOENT: nothing. */
static int
policy_under(struct target *root, const struct registry_entry *entry,
             struct volume_meta *ret)
{
    struct search search = {.name = entry->name, .number = entry->number};
    struct target *dir;
    char text[16];
    int r;

    snprintf(text, sizeof text, "%u", entry->number);
    r = target_subdir(root, text, 0, &dir);
    if (r < 0)
        return r;
    target_close(dir);
    search_root(&search, root);
    *ret = search.best;
    if (search.best.generation > 0)
        return 0;
    return err_set(search.error ? search.error : -EIO,
                   "volume %s: no usable .meta under %s: %s", entry->name,
                   root->path, search.text);
}

static int
each_policy_of(struct target *root, const struct registry *registry,
               struct told *told,
               int (*cb)(void *ctx, const struct volume_meta *meta),
               void *ctx)
{
    int r = 0;

    for (size_t i = 0; i < registry->count && r == 0; i++) {
        struct volume_meta meta;

        r = policy_under(root, &registry->entry[i], &meta);
        if (r == -ENOENT) { /* of a removal that could not reach this root */
            r = 0;
            continue;
        }
        if (r < 0)
            return r;
        r = told_add(told, &meta.uuid);
        if (r == 1)
            r = cb(ctx, &meta);
        meta_done(&meta);
    }
    return r;
}

int
volume_each_policy(struct io *io, const struct logger *log,
                   const struct config *config, const struct volume_meta *of,
                   int (*cb)(void *ctx, const struct volume_meta *meta),
                   void *ctx)
{
    struct told told = {0};
    bool damaged;
    int r = 0;

    for (size_t n = 0; nth_root(config, of, n) && r == 0; n++) {
        struct registry registry;
        struct target *root;

        if (!is_first_mention(config, of, n))
            continue;
        r = io->ops->open_dir(io, nth_root(config, of, n), 0, &root);
        if (r == -ENOENT) {
            log_event(log, LOG_WARNING_LEVEL, "%s: the volumes under it are "
                      "not known", err_text());
            r = 0;
            continue;
        }
        if (r < 0)
            break;
        r = registry_load(root, log, &registry, &damaged);
        if (r == 0) {
            r = each_policy_of(root, &registry, &told, cb, ctx);
            registry_done(&registry);
        }
        target_close(root);
    }
    free(told.uuid);
    return r;
}

/* Into one root: its copy, and its registry's entry. */
static int
store_in_root(struct io *io, const struct volume_meta *meta, const char *path,
              const char *text, size_t bytes)
{
    const struct logger silent = {NULL, NULL};
    struct registry_entry entry = {.number = meta->number,
                                   .uuid = meta->uuid};
    struct registry registry;
    struct target *root, *dir;
    bool damaged;
    int r;

    r = volume_dir_open(io, path, meta->number, 0, &dir);
    if (r < 0)
        return r;
    r = target_store(dir, META_NAME, text, bytes);
    target_close(dir);
    if (r < 0)
        return r;
    r = io->ops->open_dir(io, path, 0, &root);
    if (r < 0)
        return r;
    r = registry_load(root, &silent, &registry, &damaged);
    if (r == 0) {
        const struct registry_entry *old = registry_find(&registry,
                                                         meta->name);

        if (damaged || !old || old->number != meta->number) {
            memcpy(entry.name, meta->name, sizeof entry.name);
            r = registry_add(&registry, &entry);
            registry.generation++;
            if (r == 0)
                r = registry_store(root, &registry);
        }
        registry_done(&registry);
    }
    target_close(root);
    return r;
}

static int
store_copies(struct io *io, const struct volume_meta *meta, int *ret_stored)
{
    AUTO_FREE char *text = NULL;
    struct target *dir;
    size_t bytes;
    int r, failed = 0;

    *ret_stored = 0;
    r = meta_format(meta, &text, &bytes);
    if (r < 0)
        return r;
    /* Parts first: the root's registry is what makes a volume known. */
    for (uint32_t i = 0; i < meta->part_count; i++) {
        r = part_dir_open(io, meta, i, 0, &dir);
        if (r == 0) {
            r = target_store(dir, META_NAME, text, bytes);
            target_close(dir);
        }
        if (r < 0)
            failed = r;
        else
            ++*ret_stored;
    }
    for (uint32_t i = 0; i < meta->part_count; i++) {
        if (!is_first_of_root(meta, i))
            continue;
        r = store_in_root(io, meta, meta->part[i].root, text, bytes);
        if (r < 0)
            failed = r;
        else
            ++*ret_stored;
    }
    return failed;
}

int
volume_store_meta(struct io *io, const struct volume_meta *meta)
{
    int stored, r = store_copies(io, meta, &stored);

    return stored > 0 ? 0 : r;
}

int
volume_store_meta_everywhere(struct io *io, const struct volume_meta *meta)
{
    int stored;

    return store_copies(io, meta, &stored);
}

/* The part's own directory first: its label is there, and whoever finds the one
 * finds the other. */
static int
store_for_part(struct lsvd_volume *v, const struct volume_meta *meta,
               uint32_t slot, const char *text, size_t bytes)
{
    int r = target_store(v->part[slot].dir, META_NAME, text, bytes);

    if (r < 0)
        return r;
    r = store_in_root(v->io, meta, meta->part[slot].root, text, bytes);
    return r == -ENOENT ? 0 : r; /* it was found elsewhere */
}

int
volume_store_meta_in_use(struct lsvd_volume *v,
                         const struct volume_meta *meta)
{
    AUTO_FREE char *text = NULL;
    char first[256] = "";
    size_t bytes;
    int r, result = 0;

    r = meta_format(meta, &text, &bytes);
    if (r < 0)
        return r;
    /* All of them, whatever one says: the newest counts, and the more have it
     * the likelier it is in sight. */
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            continue;
        r = store_for_part(v, meta, i, text, bytes);
        if (r == 0 || result < 0)
            continue;
        result = r;
        snprintf(first, sizeof first, "%s", err_text());
    }
    return result < 0 ? err_set(result, "%s", first) : 0;
}

int
volume_store_part_meta(struct lsvd_volume *v, uint32_t slot)
{
    AUTO_FREE char *text = NULL;
    size_t bytes;
    int r;

    r = meta_format(&v->meta, &text, &bytes);
    if (r == 0)
        r = target_store(v->part[slot].dir, META_NAME, text, bytes);
    if (r < 0)
        return r;
    r = store_in_root(v->io, &v->meta, v->meta.part[slot].root, text, bytes);
    if (r < 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: part %c: its root's copy of the policy is not "
                  "up to date: %s", v->meta.name, (char)('a' + slot),
                  err_text());
    return 0;
}
