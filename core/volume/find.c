/* find.c: see find.h. */
#include "volume/find.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

#define SUCCESSORS_MAX 4096u

/* ---- one volume ---- */

/* What has been found so far of one volume. */
struct search {
    uint32_t number;
    struct uuid uuid;
    bool is_there;           /* a root has its directory, or may have it */
    struct volume_meta best; /* generation 0: nothing yet */
    int error;               /* the most telling one */
    char text[512];
};

static void
search_take(struct search *s, struct target *dir)
{
    struct volume_meta meta;
    int r = volume_load_meta(dir, &meta);

    if (r < 0) {
        if (r != -ENOENT && s->error != -EPROTO) {
            s->error = r;
            snprintf(s->text, sizeof s->text, "%s", err_text());
        }
        return;
    }
    if (meta.number != s->number || !uuid_equal(&meta.uuid, &s->uuid) ||
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
    s->is_there = s->is_there || r != -ENOENT;
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

static void
search_path(struct search *s, struct io *io, const char *path)
{
    struct target *root;

    if (io->ops->open_dir(io, path, 0, &root) < 0)
        return;
    search_root(s, root);
    target_close(root);
}

static bool
has_part_under(const struct volume_meta *meta, uint32_t parts,
               const char *path)
{
    for (uint32_t i = 0; meta && i < parts; i++) {
        if (strcmp(meta->part[i].root, path) == 0)
            return true;
    }
    return false;
}

/* Where volumes are looked for. */
struct places {
    struct io *io;
    const struct logger *log;
    const struct config *config;
    struct roots roots;            /* those of the configuration, opened */
    const struct volume_meta *of;  /* NULL, or its parts' roots, too */
};

static int
places_open(struct io *io, const struct logger *log,
            const struct config *config, const struct volume_meta *of,
            struct places *ret)
{
    *ret = (struct places){io, log, config, {0}, of};
    return roots_open(io, log, config->data, &ret->roots);
}

static bool
is_configured(const struct places *p, const char *path)
{
    for (size_t i = 0; p->config->data[i]; i++) {
        if (strcmp(p->config->data[i], path) == 0)
            return true;
    }
    return false;
}

/* A part elsewhere may know of a newer policy; and that of others. */
static void
search_parts(const struct places *p, struct search *s)
{
    uint64_t before;

    do {
        before = s->best.generation;
        for (uint32_t i = 0; i < s->best.part_count; i++) {
            const char *path = s->best.part[i].root;

            if (is_configured(p, path) ||
                has_part_under(p->of, p->of ? p->of->part_count : 0, path) ||
                has_part_under(&s->best, i, path))
                continue;
            search_path(s, p->io, path);
            if (s->best.generation != before)
                break;
        }
    } while (s->best.generation != before);
}

/* s->best is the caller's to free, also when nothing usable was found. */
static int
search_all(const struct places *p, uint32_t number, const struct uuid *uuid,
           struct search *s)
{
    *s = (struct search){.number = number, .uuid = *uuid};
    for (size_t i = 0; i < p->roots.count; i++)
        search_root(s, p->roots.root[i]);
    for (uint32_t i = 0; p->of && i < p->of->part_count; i++) {
        const char *path = p->of->part[i].root;

        if (!is_configured(p, path) && !has_part_under(p->of, i, path))
            search_path(s, p->io, path);
    }
    search_parts(p, s);
    if (s->best.generation > 0 && s->error != -EPROTO)
        return 0;
    return err_set(s->error ? s->error : -ENOENT, "no usable .meta: %s",
                   s->text[0] ? s->text : "none was found");
}

static void
copy_judge(const struct volume_meta *of, struct metadata_problems *problems,
           struct target *dir, char letter)
{
    struct metadata_problem *problem;
    struct volume_meta meta;
    char text[256] = "older than the other copies";
    int r = volume_load_meta(dir, &meta);
    bool newest = false;

    if (r < 0) {
        snprintf(text, sizeof text, "%s", err_text());
    } else {
        newest = meta.generation == of->generation;
        meta_done(&meta);
    }
    if (newest || problems->count == problems->max)
        return;
    problem = &problems->problem[problems->count++];
    problem->letter = letter;
    snprintf(problem->path, sizeof problem->path, "%s/%s", dir->path,
             META_NAME);
    snprintf(problem->text, sizeof problem->text, "%s", text);
}

/* Which of the copies that should be there are not this one? */
static void
copies_judge(struct io *io, const struct volume_meta *meta,
             struct metadata_problems *problems)
{
    struct target *dir;

    for (uint32_t i = 0; i < meta->part_count; i++) {
        if (volume_is_first_of_root(meta, i) &&
            volume_dir_open(io, meta->part[i].root, meta->number, 0, &dir) ==
                0) {
            copy_judge(meta, problems, dir, 0);
            target_close(dir);
        }
        if (part_dir_open(io, meta, i, 0, &dir) == 0) {
            copy_judge(meta, problems, dir, (char)('a' + i));
            target_close(dir);
        }
    }
}

/* ---- by name ---- */

enum reach { REACH_NAME, REACH_BASE, REACH_ALL };

struct finder {
    const struct places *places;
    const char *name;
    enum reach reach;         /* which entries are followed now */
    struct volume_meta found; /* generation 0: nothing yet */
    int error;                /* of what is not found */
    char text[512];
    bool damaged; /* a registry */
};

static void
note_error(struct finder *f, int error)
{
    if (f->error == -EPROTO)
        return;
    f->error = error;
    snprintf(f->text, sizeof f->text, "%s", err_text());
}

/* FI2. One that was discarded (snapshot.c, rollback) is called so, too. */
static bool
is_heir(const struct volume_meta *meta, const char *name)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];

    meta_base_name(meta->name, base);
    return meta_is_unborn_name(meta->name) && meta->successor == 0 &&
           strcmp(base, name) == 0;
}

/* -EEXIST: another one has the name, too. Takes meta. */
static int
take_found(struct finder *f, struct volume_meta *meta)
{
    if (f->found.generation > 0) {
        bool same = uuid_equal(&f->found.uuid, &meta->uuid);

        meta_done(meta);
        return same ? 0
                    : err_set(-EEXIST, "volume %s: the roots given know two "
                              "volumes of that name; give the root of one",
                              f->name);
    }
    f->found = *meta;
    return 0;
}

/* A registry says that this one has the name, or one before it had it. */
static int
follow(struct finder *f, uint32_t number, struct uuid uuid)
{
    uint32_t before = 0;
    struct uuid uuid_before = uuid;

    for (unsigned hops = 0; hops < SUCCESSORS_MAX; hops++) {
        struct search s;

        if (f->found.generation > 0 && uuid_equal(&f->found.uuid, &uuid))
            return 0;
        if (search_all(f->places, number, &uuid, &s) < 0) {
            if (f->reach != REACH_ALL || is_our_trouble(s.error))
                note_error(f, s.error ? s.error : -ENOENT);
            meta_done(&s.best);
            return 0;
        }
        if (s.error)
            log_event(f->places->log, LOG_WARNING_LEVEL,
                      "%s; another copy of the policy is used", s.text);
        if (strcmp(s.best.name, f->name) == 0)
            return take_found(f, &s.best);
        if (hops > 0 && is_heir(&s.best, f->name)) {
            snprintf(s.best.name, sizeof s.best.name, "%s", f->name);
            s.best.due_from = before;
            s.best.due_from_uuid = uuid_before;
            s.best.generation++;
            return take_found(f, &s.best);
        }
        before = number;
        uuid_before = uuid;
        number = s.best.successor;
        uuid = s.best.successor_uuid;
        meta_done(&s.best);
        if (number == 0)
            return 0;
    }
    return 0;
}

/* Of one volume and its snapshots? */
static bool
is_of_same(const char *name, const char *other)
{
    size_t bytes = strcspn(name, "@");

    return bytes == strcspn(other, "@") && strncmp(name, other, bytes) == 0;
}

static bool
is_within(enum reach reach, const char *entry, const char *name)
{
    return reach == REACH_ALL ||
           (reach == REACH_BASE ? is_of_same(entry, name)
                                : strcmp(entry, name) == 0);
}

/* Follow each entry of this name; of the same volume or a snapshot of it; or
 * every one: of those most are other volumes, and their trouble is not that of
 * this one. */
static int
look_in_registries(struct finder *f)
{
    const struct places *p = f->places;
    int r = 0;

    for (size_t i = 0; i < p->roots.count && r == 0; i++) {
        struct registry registry;
        bool damaged;

        r = registry_load(p->roots.root[i], p->log, &registry, &damaged);
        if (r < 0) {
            note_error(f, r);
            log_event(p->log, LOG_WARNING_LEVEL, "%s", err_text());
            r = 0;
            continue;
        }
        f->damaged |= damaged;
        for (size_t n = 0; n < registry.count && r == 0; n++) {
            const struct registry_entry *e = &registry.entry[n];

            if (is_within(f->reach, e->name, f->name))
                r = follow(f, e->number, e->uuid);
        }
        registry_done(&registry);
    }
    return r;
}

/* Between two policies of a snapshot that was cut short no registry has the
 * name, or one is older than the snapshot; of a renaming that was, it may have
 * the old name yet. */
static int
find_name(struct finder *f, enum reach furthest)
{
    const struct places *p = f->places;
    int r = 0;

    for (f->reach = REACH_NAME;
         f->reach <= furthest && r == 0 && f->found.generation == 0;
         f->reach++)
        r = look_in_registries(f);
    if (r < 0 || f->found.generation > 0)
        return r;
    if (f->error)
        return err_set(f->error, "volume %s: %s", f->name, f->text);
    return err_set(-ENOENT, "volume %s: unknown under %s%s", f->name,
                   p->roots.root[0]->path,
                   p->roots.count > 1 ? " and the other data directories"
                                      : "");
}

static void
note_registry(struct metadata_problems *problems)
{
    struct metadata_problem *problem;

    if (problems->count == problems->max)
        return;
    problem = &problems->problem[problems->count++];
    *problem = (struct metadata_problem){
        .text = "the registry is damaged or missing",
    };
    snprintf(problem->path, sizeof problem->path, "%s", REGISTRY_NAME);
}

int
volume_find(struct io *io, const struct logger *log,
            const struct config *config, const char *name,
            struct volume_meta *ret, struct metadata_problems *problems)
{
    struct places places;
    struct finder f = {.places = &places, .name = name};
    int r;

    r = meta_check_name(name);
    if (r == 0)
        r = places_open(io, log, config, NULL, &places);
    if (r < 0)
        return r;
    r = find_name(&f, REACH_ALL);
    roots_close(&places.roots);
    if (r < 0) {
        meta_done(&f.found);
        return r;
    }
    *ret = f.found;
    if (problems)
        copies_judge(io, ret, problems);
    if (problems && f.damaged)
        note_registry(problems);
    return 0;
}

bool
volume_has_name(struct io *io, const struct logger *log,
                const struct config *config, const char *name)
{
    struct places places;
    struct finder f = {.places = &places, .name = name};
    bool has;

    if (places_open(io, log, config, NULL, &places) < 0)
        return false;
    has = find_name(&f, REACH_BASE) == 0;
    roots_close(&places.roots);
    meta_done(&f.found);
    return has;
}

int
volume_find_number(struct io *io, const struct logger *log,
                   const struct config *config, const struct volume_meta *of,
                   uint32_t number, const struct uuid *uuid,
                   struct volume_meta *ret,
                   struct metadata_problems *problems)
{
    struct places places;
    struct search s;
    int r;

    r = places_open(io, log, config, of, &places);
    if (r < 0)
        return r;
    r = search_all(&places, number, uuid, &s);
    roots_close(&places.roots);
    if (r < 0) {
        meta_done(&s.best);
        return err_wrap(r, "volume %u", number);
    }
    *ret = s.best;
    if (problems)
        copies_judge(io, ret, problems);
    return 0;
}

/* ---- all of them ---- */

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
    struct search search = {.number = entry->number, .uuid = entry->uuid};

    search_root(&search, root);
    *ret = search.best;
    if (search.best.generation > 0)
        return 0;
    if (!search.is_there)
        return -ENOENT;
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

