/* create.c: making a volume (faults.md O1).
 *
 * Directories and labels (INIT) -> chunk tables -> labels LIVE with the first
 * view -> copies of .meta -> registry entries, last. A failure before the
 * registry takes everything back. */
#include "base/err.h"
#include "base/memory.h"
#include "volume/find.h"
#include "volume/parent.h"
#include "volume/root_lock.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_TRIES 100u
#define JOURNAL_DEFAULT_MIN (UINT64_C(16) << 20)
#define JOURNAL_DEFAULT_MAX (UINT64_C(512) << 20)

static uint64_t
default_journal_bytes(uint64_t size_bytes)
{
    uint64_t bytes = size_bytes / 4;

    if (bytes < JOURNAL_DEFAULT_MIN)
        bytes = JOURNAL_DEFAULT_MIN;
    if (bytes > JOURNAL_DEFAULT_MAX)
        bytes = JOURNAL_DEFAULT_MAX;
    return bytes & ~UINT64_C(4095);
}

static int
check_counts(const struct lsvd_create *spec, bool data_given, uint32_t parts)
{
    if (spec->replicas > 0 && (spec->ec_data > 0 || spec->ec_parity > 0))
        return err_set(-EINVAL, "replicas and erasure coding exclude each "
                       "other");
    if (spec->replicas > REPLICAS_MAX)
        return err_set(-EINVAL, "%u replicas: 1 … %u are possible",
                       spec->replicas, REPLICAS_MAX);
    if (spec->ec_data > 0 &&
        (spec->ec_data < EC_DATA_MIN || spec->ec_data > EC_DATA_MAX ||
         spec->ec_parity < 1 || spec->ec_parity > EC_PARITY_MAX))
        return err_set(-EINVAL, "EC %u+%u: %u … %u data and 1 … %u parity "
                       "parts are possible", spec->ec_data, spec->ec_parity,
                       EC_DATA_MIN, EC_DATA_MAX, EC_PARITY_MAX);
    if (spec->part_count > 0 && spec->part_count < parts && !data_given)
        return err_set(-EINVAL, "%u parts are needed and %zu given; give the "
                       "others too, or a data directory for them", parts,
                       spec->part_count);
    for (size_t i = 0; i < spec->part_count; i++) {
        const struct lsvd_create_part *p = &spec->parts[i];

        if (p->letter < 'a' || (uint32_t)(p->letter - 'a') >= parts)
            return err_set(-EINVAL, "part %c: the volume has parts a … %c",
                           isprint((unsigned char)p->letter) ? p->letter
                                                             : '?',
                           (char)('a' + parts - 1));
        for (size_t j = 0; j < i; j++) {
            if (spec->parts[j].letter == p->letter)
                return err_set(-EINVAL, "part %c is given twice", p->letter);
            if (strcmp(spec->parts[j].root, p->root) == 0)
                return err_set(-EINVAL, "parts %c and %c are given the same "
                               "directory %s", spec->parts[j].letter,
                               p->letter, p->root);
        }
    }
    return 0;
}

static uint32_t
first_of(uint32_t given, uint32_t of_parent, uint32_t otherwise)
{
    return given ? given : of_parent ? of_parent : otherwise;
}

/* Where a part lies that is not named. */
static const char *
default_root(const struct config *config, const struct volume_meta *parent,
             uint32_t parts, uint32_t slot)
{
    return parent && parent->part_count == parts ? parent->part[slot].root
                                                 : config->data[0];
}

static int
take_parent(struct volume_meta *meta, const struct volume_meta *parent)
{
    if (meta->block_bytes != parent->block_bytes)
        return err_set(-EINVAL, "volume %s: its parent %s has blocks of %u "
                       "bytes, and so must it", meta->name, parent->name,
                       parent->block_bytes);
    meta->incompat |= META_INCOMPAT_PARENT;
    meta->parent = parent->number;
    meta->parent_uuid = parent->uuid;
    meta->overlap_bytes = meta->size_bytes < parent->size_bytes
                              ? meta->size_bytes
                              : parent->size_bytes;
    return 0;
}

/* The policy that the user asked for; number and UUIDs come later. parent: NULL
 * or that of the parent. */
static int
meta_from_spec(const struct lsvd_create *spec, const struct config *config,
               bool data_given, const struct volume_meta *parent,
               struct volume_meta *meta)
{
    const struct volume_meta none = {0}, *like = parent ? parent : &none;
    uint32_t replicas = spec->replicas, parts;
    uint32_t ec_data = spec->ec_data, ec_parity = spec->ec_parity;
    int r;

    if (replicas == 0 && ec_data == 0 && ec_parity == 0) {
        replicas = like->replicas;
        ec_data = like->ec_data;
        ec_parity = like->ec_parity;
    }

    if (replicas == 0 && ec_data == 0)
        replicas = 1;
    parts = replicas ? replicas : ec_data + ec_parity;
    r = check_counts(spec, data_given || like->part_count == parts, parts);
    if (r < 0)
        return r;
    snprintf(meta->name, sizeof meta->name, "%s", spec->name);
    meta->generation = 1;
    meta->size_bytes = spec->size_bytes ? spec->size_bytes : like->size_bytes;
    meta->chunk_bytes = first_of(spec->chunk_bytes, like->chunk_bytes,
                                 CHUNK_BYTES_DEFAULT);
    meta->block_bytes = first_of(spec->block_bytes, like->block_bytes,
                                 BLOCK_BYTES_DEFAULT);
    meta->replicas = replicas;
    meta->ec_data = ec_data;
    meta->ec_parity = ec_parity;
    meta->journal_bytes = spec->journal_bytes ? spec->journal_bytes
                          : config->journal_bytes
                              ? config->journal_bytes
                              : default_journal_bytes(meta->size_bytes);
    meta->part_count = parts;
    for (uint32_t i = 0; i < parts; i++) {
        const char *root = default_root(config, parent, parts, i);

        for (size_t j = 0; j < spec->part_count; j++) {
            if (spec->parts[j].letter == (char)('a' + i))
                root = spec->parts[j].root;
        }
        r = mem_dup(root, &meta->part[i].root);
        if (r < 0)
            return r;
    }
    meta->number = VOLUME_NUMBER_FIRST; /* one that may be, for now */
    if (parent && parent->number == meta->number)
        meta->number++;
    return parent ? take_parent(meta, parent) : 0;
}

struct used_numbers {
    bool is_used[VOLUME_NUMBER_MAX + 1];
    uint32_t greatest;
};

static void
note_used(struct used_numbers *used, unsigned long number)
{
    if (number > VOLUME_NUMBER_MAX)
        return;
    used->is_used[number] = true;
    if (number > used->greatest)
        used->greatest = (uint32_t)number;
}

static int
note_directory(void *ctx, const char *name)
{
    char *end;
    unsigned long number;

    if (!isdigit((unsigned char)name[0]))
        return 0;
    number = strtoul(name, &end, 10);
    if (!*end)
        note_used(ctx, number);
    return 0;
}

/* The next one; when the last was given, the first that nobody has any more, as
 * each snapshot takes one: what refers to a volume names its UUID, too. 0: all
 * are taken. */
static uint32_t
unused_number(const struct used_numbers *used)
{
    if (used->greatest < VOLUME_NUMBER_MAX)
        return used->greatest + 1;
    for (uint32_t i = VOLUME_NUMBER_FIRST; i < VOLUME_NUMBER_MAX; i++) {
        if (!used->is_used[i])
            return i;
    }
    return 0;
}

/* Is the name free, and which number is, under this root? */
static int
survey_root(struct io *io, const struct logger *log, const char *path,
            const char *name, struct used_numbers *used)
{
    const struct registry_entry *entry;
    struct registry registry;
    struct target *root;
    bool damaged;
    int r;

    r = io->ops->open_dir(io, path, 0, &root);
    if (r < 0)
        return err_wrap(r, "data directory");
    r = registry_load(root, log, &registry, &damaged);
    if (r == 0) {
        entry = registry_find(&registry, name);
        if (entry)
            r = err_set(-EEXIST, "volume %s exists already (%s/%u)", name,
                        path, entry->number);
        for (size_t i = 0; i < registry.count; i++)
            note_used(used, registry.entry[i].number);
        registry_done(&registry);
    }
    if (r == 0)
        r = target_list(root, note_directory, used);
    target_close(root);
    return r;
}

static int
survey_roots(struct io *io, const struct logger *log,
             const struct config *config, const struct volume_meta *meta,
             struct used_numbers *used)
{
    int r;

    for (uint32_t i = 0; i < meta->part_count; i++) {
        r = survey_root(io, log, meta->part[i].root, meta->name, used);
        if (r < 0)
            return r;
    }
    /* Other roots of this machine should not know the name either. */
    for (size_t i = 0; config->data[i]; i++) {
        r = survey_root(io, log, config->data[i], meta->name, used);
        if (r == -EEXIST)
            return r;
    }
    return 0;
}

static int
choose_number(struct io *io, const struct logger *log,
              const struct config *config, struct volume_meta *meta)
{
    struct used_numbers *used;
    int r = mem_new(1, sizeof *used, &used);

    if (r < 0)
        return r;
    used->greatest = VOLUME_NUMBER_FIRST - 1;
    r = survey_roots(io, log, config, meta, used);
    if (r == 0) {
        meta->number = unused_number(used);
        if (meta->number == 0)
            r = err_set(-ENOSPC, "no volume number is left");
    }
    free(used);
    return r;
}

/* Now that its number is known. */
static int
name_unborn(struct volume_meta *meta)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];

    meta_base_name(meta->name, base);
    return meta_unborn_name(base, meta->number, meta->name);
}

static int
make_part(struct lsvd_volume *v, uint32_t slot)
{
    char number[16], letter[2] = {(char)('a' + slot), 0};
    struct part *p = &v->part[slot];
    struct target *root, *dir;
    int r;

    p->slot = slot;
    p->letter = letter[0];
    snprintf(number, sizeof number, "%u", v->meta.number);
    r = v->io->ops->open_dir(v->io, v->meta.part[slot].root, 0, &root);
    if (r < 0)
        return r;
    r = target_subdir(root, number, DIR_CREATE, &dir);
    target_close(root);
    if (r < 0)
        return r;
    r = target_subdir(dir, letter, DIR_CREATE, &p->dir);
    target_close(dir);
    if (r == 0)
        r = part_take_lock(v, p, true);
    if (r == 0)
        r = part_init(v, p->dir, slot, &v->meta.part[slot].instance,
                      &p->table);
    return r;
}

/* What is there is locked, or has a label: somebody else chose the number at
 * the same time, and was first; where roots can't be locked (RL5). */
static bool
is_taken(int r)
{
    return r == -EBUSY || r == -EEXIST;
}

/* *ret_ours: the parts of which what is there is what we have put there. */
static int
make_parts(struct lsvd_volume *v, uint32_t *ret_ours)
{
    int r = 0;

    *ret_ours = 0;
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        r = make_part(v, i);
        if (!is_taken(r))
            *ret_ours |= UINT32_C(1) << i;
    }
    return r;
}

/* Every label LIVE, in the first view, with everything in it. */
static int
make_live(struct lsvd_volume *v)
{
    int damaged, r;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        r = label_load(p->dir, &p->label, &damaged);
        if (r < 0)
            return r;
        p->label.state = LABEL_LIVE;
        p->label.promised = v->view.id.epoch;
        v->usable |= UINT32_C(1) << i;
    }
    return volume_store_first_view(v);
}

static int
first_view(struct lsvd_volume *v)
{
    struct view *view = &v->view;
    int r;

    view->id.epoch = 1;
    r = v->io->ops->random(v->io, view->id.start.b, sizeof view->id.start.b);
    for (uint32_t i = 0; i < v->meta.part_count && r == 0; i++) {
        r = v->io->ops->random(v->io, v->meta.part[i].instance.b,
                               sizeof v->meta.part[i].instance.b);
        view->instance[i] = v->meta.part[i].instance;
        view->members |= UINT32_C(1) << i;
    }
    view->complete_members = view->members;
    return r;
}

/* Of these parts. A registry has the number only once all are made; before
 * that it is somebody else's there. */
static void
take_back(struct lsvd_volume *v, uint32_t ours,
          const struct root_locks *held)
{
    static const char *const names[] = {LABEL_NAME, CHUNK_TABLE_NAME,
                                        LOCK_NAME,  META_NAME,
                                        META_NAME ".new"};

    /* some roots may know the name already */
    if (ours == volume_all_parts(v))
        (void)volume_forget(v->io, &v->log, &v->meta, held);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        if (!(ours & UINT32_C(1) << i))
            continue;
        for (size_t n = 0; p->dir && n < sizeof names / sizeof *names; n++)
            (void)target_remove(p->dir, names[n]);
    }
    parts_close(v);
    volume_remove_dirs(v->io, &v->meta, ours);
}

/* Whoever gives several data directories may believe that the parts are spread
 * over them. They are where volumes are looked for; what lies under the first
 * is lost with it. */
static void
warn_of_one_root(struct lsvd_volume *v)
{
    const char *first = v->config.data[0];
    char letters[PART_LETTERS_BYTES];
    uint32_t under = 0;

    if (!v->config.data[1])
        return;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (strcmp(v->meta.part[i].root, first) == 0)
            under |= UINT32_C(1) << i;
    }
    if (__builtin_popcount(under) < 2)
        return;
    part_letters(under, letters, sizeof letters);
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: parts %s lie under %s: of several data directories "
              "only the first gets parts; to spread them remove the volume, "
              "and create it with --part a=DIR for each part",
              v->meta.name, letters, first);
}

/* It is locked from here on, so that it stays a parent (PA2). */
static int
open_the_parent(struct lsvd_volume *v, const struct lsvd_env *env,
                const struct lsvd_create *spec)
{
    struct volume_meta meta;
    int r;

    r = volume_find(v->io, &v->log, &v->config, spec->parent, &meta, NULL);
    if (r < 0)
        return r;
    if (!meta.read_only)
        r = err_set(-EROFS, "volume %s is not read-only, so it can't be the "
                    "parent of %s: lsvd set %s read-only=on", meta.name,
                    spec->name, meta.name);
    meta_done(&meta);
    return r < 0 ? r : parent_open_named(v, env, spec->parent);
}

/* With the locks of its roots (RL1). */
static int
make_locked(struct lsvd_volume *v, const struct root_locks *held)
{
    char text[512], name[VOLUME_NAME_BYTES_MAX + 1];
    unsigned tries = 0;
    uint32_t ours;
    int r;

    memcpy(name, v->meta.name, sizeof name);
    for (;;) {
        r = choose_number(v->io, &v->log, &v->config, &v->meta);
        if (r == 0 && meta_is_unborn_name(name))
            r = name_unborn(&v->meta);
        if (r < 0)
            return r;
        r = make_parts(v, &ours);
        if (!is_taken(r) || ++tries == NUMBER_TRIES)
            break;
        take_back(v, ours, held); /* who has the number goes on */
    }
    if (r == 0)
        r = make_live(v);
    if (r == 0)
        r = volume_store_meta_everywhere(v->io, &v->meta, held);
    if (r == 0)
        return 0;
    snprintf(text, sizeof text, "%s", err_text());
    take_back(v, ours, held);
    return err_set(r, "volume %s: %s", name, text);
}

/* From a policy that only lacks number and UUIDs: everything on the disks.
 * Nothing is left behind when it fails. */
static int
make(struct lsvd_volume *v)
{
    struct root_locks held = {.count = 0};
    int r = v->io->ops->random(v->io, v->meta.uuid.b, sizeof v->meta.uuid.b);

    if (r == 0)
        r = first_view(v);
    if (r < 0)
        return r;
    r = meta_check(&v->meta);
    if (r < 0)
        return err_wrap(r, "volume %s", v->meta.name);
    geometry_init(&v->g, v->meta.size_bytes, v->meta.chunk_bytes,
                  v->meta.block_bytes, v->meta.replicas, v->meta.ec_data,
                  v->meta.ec_parity);
    r = root_locks_take(v->io, &v->meta, v->config.data, &held);
    if (r < 0)
        return err_wrap(r, "data directory");
    r = make_locked(v, &held);
    root_locks_release(&held);
    return r;
}

static int
check_own_name(const char *name)
{
    if (!meta_is_snapshot_name(name))
        return 0;
    return err_set(-EINVAL, "name \"%.80s\": an @ is for snapshots, which lsvd "
                   "snapshot create makes", name);
}

/* Also where no registry has the name just now (FI2). What can't be found out
 * is found out by who looks into the registries. */
static int
check_is_free(struct lsvd_volume *v, const char *name)
{
    return volume_has_name(v->io, &v->log, &v->config, name)
               ? err_set(-EEXIST, "volume %s exists already", name)
               : 0;
}

int
lsvd_create(const struct lsvd_env *env, const struct lsvd_create *spec)
{
    bool data_given = env->data && env->data[0];
    struct lsvd_volume *v;
    int r;

    r = meta_check_name(spec->name);
    if (r == 0)
        r = check_own_name(spec->name);
    if (r == 0)
        r = volume_new(env, NULL, &v);
    if (r < 0)
        return r;
    r = check_is_free(v, spec->name);
    if (r == 0 && spec->parent)
        r = open_the_parent(v, env, spec);
    if (r == 0)
        r = meta_from_spec(spec, &v->config, data_given,
                           v->parent ? &v->parent->meta : NULL, &v->meta);
    if (r == 0)
        r = make(v);
    if (r == 0)
        warn_of_one_root(v);
    volume_free(v);
    return r;
}

/* As of is but for what its history has made of it. */
static int
meta_of_successor(const struct volume_meta *of,
                  const struct volume_meta *parent, struct volume_meta *meta)
{
    int r = meta_copy(of, meta);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < meta->forced_count; i++) {
        free(meta->forced[i]);
        meta->forced[i] = NULL;
    }
    meta->forced_count = 0;
    meta->accepted_loss = false;
    while (meta->source_count > 0)
        meta_remove_source(meta, meta->source[0].number);
    meta->generation = 1;
    meta->size_bytes = parent->size_bytes;
    meta->number = parent->number == VOLUME_NUMBER_FIRST /* for now */
                       ? VOLUME_NUMBER_FIRST + 1
                       : VOLUME_NUMBER_FIRST;
    r = meta_unborn_name(of->name, VOLUME_NUMBER_MAX, meta->name);
    return r < 0 ? r : take_parent(meta, parent);
}

int
volume_make_successor(const struct volume_meta *of,
                      const struct volume_meta *parent,
                      const struct lsvd_env *env, struct volume_meta *ret)
{
    struct lsvd_volume *v;
    int r = volume_new(env, of->name, &v);

    if (r < 0)
        return r;
    r = meta_of_successor(of, parent, &v->meta);
    if (r == 0)
        r = make(v);
    if (r == 0) {
        r = meta_copy(&v->meta, ret);
        if (r < 0)
            take_back(v, volume_all_parts(v), NULL);
    }
    volume_free(v);
    return r;
}
