/* find.c: see find.h. */
#include "volume/find.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include "volume/places.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUCCESSORS_MAX 4096u

/* ---- one volume ---- */

/* What has been found so far of one volume. */
struct search {
    uint32_t number;
    struct uuid uuid;
    bool settle;             /* FI3 */
    uint64_t unsettled;      /* the newest copy that can't be synced */
    bool is_there;           /* a root has its directory, or may have it */
    struct volume_meta best; /* generation 0: nothing yet */
    int error;               /* the most telling one */
    char text[512];
};

static void
search_note(struct search *s, int error)
{
    if (error == -ENOENT || s->error == -EPROTO)
        return;
    s->error = error;
    snprintf(s->text, sizeof s->text, "%s", err_text());
}

/* True: the copy is that of another volume of this number. */
static bool
search_take(struct search *s, struct target *dir)
{
    struct volume_meta meta;
    bool is_others;
    int r = volume_load_meta(dir, &meta);

    if (r < 0) {
        search_note(s, r);
        return false;
    }
    is_others = meta.number != s->number || !uuid_equal(&meta.uuid, &s->uuid);
    if (s->settle && !is_others && meta.generation >= s->best.generation)
        r = target_sync(dir);
    if (r < 0) {
        search_note(s, r);
        if (meta.generation > s->unsettled)
            s->unsettled = meta.generation;
    }
    if (is_others || r < 0 || meta.generation <= s->best.generation) {
        meta_done(&meta);
        return is_others;
    }
    meta_done(&s->best);
    s->best = meta;
    return false;
}

/* Look at a root's copy and at those of the parts under it. */
static void
search_root(struct search *s, struct target *root)
{
    struct target *dir, *part;
    char text[16];
    bool is_others;
    int r;

    snprintf(text, sizeof text, "%u", s->number);
    r = target_subdir(root, text, 0, &dir);
    if (r < 0 && r != -ENOENT) {
        s->is_there = true; /* there may be one: not "no such volume" */
        if (s->error == 0) {
            s->error = r;
            snprintf(s->text, sizeof s->text, "%s", err_text());
        }
    }
    if (r < 0)
        return;
    is_others = search_take(s, dir);
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        char letter[2] = {(char)('a' + i), 0};

        if (target_subdir(dir, letter, 0, &part) < 0)
            continue;
        is_others |= search_take(s, part);
        target_close(part);
    }
    target_close(dir);
    s->is_there |= !is_others;
}

static int
search_place(struct places *p, struct search *s, const char *path)
{
    struct place *place;
    int r = places_get(p, path, &place);

    if (r == 0 && is_our_trouble(place->error))
        r = err_set(place->error, "%s", place->text);
    if (r < 0 || place->searched == p->searches)
        return r;
    place->searched = p->searches;
    if (place->root)
        search_root(s, place->root);
    return 0;
}

/* A part elsewhere may know of a newer policy; and that of others. */
static int
search_parts(struct places *p, struct search *s)
{
    uint64_t before;
    int r = 0;

    do {
        before = s->best.generation;
        for (uint32_t i = 0; i < s->best.part_count && r == 0 &&
                             s->best.generation == before; i++)
            r = search_place(p, s, s->best.part[i].root);
    } while (r == 0 && s->best.generation != before);
    return r;
}

/* s->best is the caller's to free, also when nothing usable was found. */
static int
search_all(struct places *p, uint32_t number, const struct uuid *uuid,
           struct search *s)
{
    const struct volume_meta *of = p->of;
    int r = 0;

    *s = (struct search){.number = number, .uuid = *uuid,
                         .settle = p->settle};
    p->searches++;
    for (size_t i = 0; i < p->configured && r == 0; i++)
        r = search_place(p, s, p->place[i].path);
    for (uint32_t i = 0; of && i < of->part_count && r == 0; i++)
        r = search_place(p, s, of->part[i].root);
    if (r == 0)
        r = search_parts(p, s);
    if (r < 0) {
        s->error = r;
        return r;
    }
    if (s->unsettled > s->best.generation) /* older ones may be in force */
        return err_set(s->error, "%s", s->text);
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

/* ---- what was looked for already ---- */

struct told {
    struct told_entry {
        uint32_t number;
        struct uuid uuid;
    } *entry; /* owned */
    size_t count, room;
};

static bool
told_has(const struct told *told, uint32_t number, const struct uuid *uuid)
{
    for (size_t i = 0; i < told->count; i++) {
        if (told->entry[i].number == number &&
            uuid_equal(&told->entry[i].uuid, uuid))
            return true;
    }
    return false;
}

/* 0: it was. */
static int
told_add(struct told *told, uint32_t number, const struct uuid *uuid)
{
    int r;

    if (told_has(told, number, uuid))
        return 0;
    r = mem_grow(told->count + 1, sizeof *told->entry, &told->room,
                 &told->entry);
    if (r < 0)
        return r;
    told->entry[told->count++] = (struct told_entry){number, *uuid};
    return 1;
}

/* ---- by name ---- */

enum reach { REACH_NAME, REACH_BASE, REACH_ALL };

struct finder {
    struct places *places;
    const char *name;
    enum reach reach;         /* which entries are followed now */
    struct volume_meta found; /* generation 0: nothing yet */
    struct told followed;     /* they don't lead to it */
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
        int r;

        if (f->found.generation > 0 && uuid_equal(&f->found.uuid, &uuid))
            return 0;
        if (told_has(&f->followed, number, &uuid))
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
        /* an heir is none by itself, but may be one by who names it */
        r = is_heir(&s.best, f->name)
                ? 0 : told_add(&f->followed, number, &uuid);
        before = number;
        uuid_before = uuid;
        number = s.best.successor;
        uuid = s.best.successor_uuid;
        meta_done(&s.best);
        if (r < 0 || number == 0)
            return r < 0 ? r : 0;
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

    for (size_t i = 0; i < p->configured && r == 0; i++) {
        struct target *root = p->place[i].root;
        struct registry registry;
        bool damaged;

        if (!root)
            continue;
        r = registry_load(root, p->log, &registry, &damaged);
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
    int r = places_check(f->places);

    for (f->reach = REACH_NAME;
         f->reach <= furthest && r == 0 && f->found.generation == 0;
         f->reach++)
        r = look_in_registries(f);
    free(f->followed.entry);
    f->followed = (struct told){0};
    if (r < 0 || f->found.generation > 0)
        return r;
    if (f->error)
        return err_set(f->error, "volume %s: %s", f->name, f->text);
    return err_set(-ENOENT, "volume %s: unknown under %s%s", f->name,
                   places_first(f->places), f->places->configured > 1
                       ? " and the other data directories" : "");
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

static int
find_by_name(struct io *io, const struct logger *log,
             const struct config *config, const char *name, bool settled,
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
    places.settle = settled;
    r = find_name(&f, REACH_ALL);
    places_close(&places);
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

int
volume_find(struct io *io, const struct logger *log,
            const struct config *config, const char *name,
            struct volume_meta *ret, struct metadata_problems *problems)
{
    return find_by_name(io, log, config, name, false, ret, problems);
}

int
volume_find_settled(struct io *io, const struct logger *log,
                    const struct config *config, const char *name,
                    struct volume_meta *ret)
{
    return find_by_name(io, log, config, name, true, ret, NULL);
}

bool
volume_has_name(struct io *io, const struct logger *log,
                const struct config *config, const char *name)
{
    struct places places;
    bool has = false;

    if (places_open(io, log, config, NULL, &places) < 0)
        return false;
    /* who has given it away in memory alone settles that, or has it yet */
    for (int settle = 1; settle >= 0 && !has; settle--) {
        struct finder f = {.places = &places, .name = name};

        places.settle = settle;
        has = find_name(&f, REACH_BASE) == 0;
        meta_done(&f.found);
    }
    places_close(&places);
    return has;
}

static int
find_by_number(struct io *io, const struct logger *log,
               const struct config *config, const struct volume_meta *of,
               uint32_t number, const struct uuid *uuid, bool settled,
               struct volume_meta *ret, struct metadata_problems *problems)
{
    struct places places;
    struct search s;
    int r;

    r = places_open(io, log, config, of, &places);
    if (r < 0)
        return r;
    places.settle = settled;
    r = places_check(&places);
    if (r < 0) {
        places_close(&places);
        return r;
    }
    r = search_all(&places, number, uuid, &s);
    places_close(&places);
    if (r < 0) {
        meta_done(&s.best);
        return err_wrap(r, "volume %u", number);
    }
    *ret = s.best;
    if (problems)
        copies_judge(io, ret, problems);
    return 0;
}

int
volume_find_number(struct io *io, const struct logger *log,
                   const struct config *config, const struct volume_meta *of,
                   uint32_t number, const struct uuid *uuid,
                   struct volume_meta *ret,
                   struct metadata_problems *problems)
{
    return find_by_number(io, log, config, of, number, uuid, false, ret,
                          problems);
}

int
volume_find_number_settled(struct io *io, const struct logger *log,
                           const struct config *config,
                           const struct volume_meta *of, uint32_t number,
                           const struct uuid *uuid, struct volume_meta *ret)
{
    return find_by_number(io, log, config, of, number, uuid, true, ret, NULL);
}

/* ---- all of them ---- */

/* -ENOENT: there is no such volume, as after a removal that could not reach the
 * root of this entry. */
static int
newest_of(struct places *p, const struct registry_entry *e,
          struct volume_meta *ret)
{
    struct search s;
    int r = search_all(p, e->number, &e->uuid, &s);

    if (r == 0) {
        *ret = s.best;
        return 0;
    }
    meta_done(&s.best);
    if (!s.is_there && !is_our_trouble(r))
        return -ENOENT;
    return err_wrap(r == -ENOENT ? -EIO : r, "volume %s", e->name);
}

static int
each_policy_of(struct places *p, struct target *root, struct told *told,
               int (*cb)(void *ctx, const struct volume_meta *meta),
               void *ctx)
{
    struct registry registry;
    struct volume_meta meta;
    bool damaged;
    int r = registry_load(root, p->log, &registry, &damaged);

    if (r < 0)
        return r;
    r = registry_is_complete(root, &registry);
    for (size_t i = 0; i < registry.count && r == 0; i++) {
        r = told_add(told, registry.entry[i].number,
                     &registry.entry[i].uuid);
        if (r <= 0)
            continue;
        r = newest_of(p, &registry.entry[i], &meta);
        if (r == 0) {
            r = cb(ctx, &meta);
            meta_done(&meta);
        } else if (r == -ENOENT) {
            r = 0;
        }
    }
    registry_done(&registry);
    return r;
}

int
volume_each_policy(struct io *io, const struct logger *log,
                   const struct config *config, const struct volume_meta *of,
                   bool settled,
                   int (*cb)(void *ctx, const struct volume_meta *meta),
                   void *ctx)
{
    struct told told = {0};
    struct places p;
    int r = places_open(io, log, config, of, &p);
    size_t count = p.count; /* not those of other volumes' parts */

    p.settle = settled;
    for (size_t i = 0; i < count && r == 0; i++) {
        const struct place *place = &p.place[i];

        if (place->root)
            r = each_policy_of(&p, place->root, &told, cb, ctx);
        else if (place->error == -ENOENT)
            log_event(log, LOG_WARNING_LEVEL, "%s: the volumes under it are "
                      "not known", place->text);
        else
            r = err_set(place->error, "%s", place->text);
    }
    free(told.entry);
    places_close(&p);
    return r;
}
