/* roots.c: registries and copies of policies under the roots.
 *
 * Every root carries a registry and every root and part a copy of .meta. A
 * registry is only an index: without it, the .meta files below the root tell
 * the same. Which volume is meant by a name: find.c. */
#include "volume/root_lock.h"
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

int
volume_load_meta(struct target *dir, struct volume_meta *ret)
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

int
volume_check_dir(struct target *dir, const struct volume_meta *meta)
{
    struct volume_meta found;
    int r = volume_load_meta(dir, &found);

    if (r < 0) /* none, or nobody can tell whose it is */
        return 0;
    if (!uuid_equal(&found.uuid, &meta->uuid))
        r = err_set(-EEXIST, "volume %s: %s is of another volume, %s (%s): was "
                    "its disk exchanged?", meta_stored_name(meta), dir->path,
                    found.name, META_NAME);
    meta_done(&found);
    return r;
}

int
part_check_dir(struct target *dir, const struct volume_meta *meta)
{
    struct label label;
    int damaged;

    if (label_load(dir, &label, &damaged) < 0)
        return volume_check_dir(dir, meta);
    if (uuid_equal(&label.volume, &meta->uuid))
        return 0;
    return err_set(-EEXIST, "volume %s: %s holds a part of another volume: was "
                   "its disk exchanged?", meta_stored_name(meta), dir->path);
}

struct rebuild_registry {
    struct target *root;
    struct registry *registry;
};

/* Not there, or rotten: no more will be known tomorrow. */
static bool
is_for_good(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -EBADMSG;
}

/* 0: the directory's own; else of a part below it. */
static int
load_copy(struct target *dir, uint32_t nth, struct volume_meta *ret)
{
    char letter[2] = {(char)('a' + nth - 1), 0};
    struct target *part;
    int r;

    if (nth == 0)
        return volume_load_meta(dir, ret);
    r = target_subdir(dir, letter, 0, &part);
    if (r < 0)
        return r;
    r = volume_load_meta(part, ret);
    target_close(part);
    return r;
}

/* Whichever copy can be read. The first error that may pass comes before all
 * others. */
static int
load_any_copy(struct target *dir, struct volume_meta *ret)
{
    char text[256] = "";
    int r = -ENOENT;

    for (uint32_t i = 0; i <= PARTS_MAX; i++) {
        int one = load_copy(dir, i, ret);

        if (one == 0)
            return 0;
        if (is_for_good(one) || !is_for_good(r))
            continue;
        r = one;
        snprintf(text, sizeof text, "%s", err_text());
    }
    return err_set(r, "%s", text);
}

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
    r = target_subdir(rebuild->root, name, 0, &dir);
    if (r == -EPROTO) /* a symlink is no directory of ours */
        return 0;
    if (r == 0) {
        r = load_any_copy(dir, &meta);
        target_close(dir);
    }
    if (r < 0 && !is_for_good(r))
        snprintf(rebuild->registry->unknown,
                 sizeof rebuild->registry->unknown, "%s", err_text());
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
    if (ret->count == 0 && !*ret_damaged)
        ret->unknown[0] = '\0'; /* new to us: what is there is others' */
    if (ret->count > 0 && !*ret_damaged) {
        *ret_damaged = true;
        log_event(log, LOG_WARNING_LEVEL,
                  "%s/%s is missing; using the .meta files below it instead",
                  root->path, REGISTRY_NAME);
    }
    return 0;
}

int
registry_is_complete(struct target *root, const struct registry *registry)
{
    if (registry->unknown[0] == '\0')
        return 0;
    return err_set(-EIO, "%s/%s is damaged or missing, and it can't be told "
                   "what else belongs in it: %s", root->path, REGISTRY_NAME,
                   registry->unknown);
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

int
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

bool
volume_is_first_of_root(const struct volume_meta *meta, uint32_t slot)
{
    for (uint32_t i = 0; i < slot; i++) {
        if (strcmp(meta->part[i].root, meta->part[slot].root) == 0)
            return false;
    }
    return true;
}

/* An entry of a volume that is called otherwise by now is in nobody's way. */
static void
mend_outdated(struct target *root, struct registry *registry,
              const char *name, uint32_t number)
{
    const struct registry_entry *old = registry_find(registry, name);
    struct volume_meta meta;
    struct target *dir;
    char text[16];
    int r;

    if (!old || old->number == number)
        return;
    snprintf(text, sizeof text, "%u", old->number);
    if (target_subdir(root, text, 0, &dir) < 0)
        return;
    r = volume_load_meta(dir, &meta);
    target_close(dir);
    if (r < 0)
        return;
    if (meta.number == old->number && uuid_equal(&meta.uuid, &old->uuid) &&
        strcmp(meta.name, name) != 0) {
        struct registry_entry mended = *old;

        memcpy(mended.name, meta.name, sizeof mended.name);
        (void)registry_add(registry, &mended);
    }
    meta_done(&meta);
}

static int
add_to_registry(void *ctx, struct target *root, struct registry *registry,
                bool damaged, bool *ret_changed)
{
    const struct volume_meta *meta = *(const struct volume_meta **)ctx;
    const char *name = meta_stored_name(meta);
    struct registry_entry entry = {.number = meta->number,
                                   .uuid = meta->uuid};
    const struct registry_entry *old;

    mend_outdated(root, registry, name, meta->number);
    old = registry_find(registry, name);
    if (!damaged && old && old->number == meta->number)
        return 0;
    *ret_changed = true;
    snprintf(entry.name, sizeof entry.name, "%s", name);
    return registry_add(registry, &entry);
}

/* Not over that of another volume of this number: the disk that was there may
 * have been exchanged for another host's. */
static int
store_policy(struct target *dir, const struct volume_meta *meta,
             const char *text, size_t bytes)
{
    int r = volume_check_dir(dir, meta);

    return r < 0 ? r : target_store(dir, META_NAME, text, bytes);
}

/* Into one root: its copy, and its registry's entry. held: may be NULL. */
static int
store_in_root(struct io *io, const struct volume_meta *meta, const char *path,
              const char *text, size_t bytes, const struct root_locks *held)
{
    const struct logger silent = {NULL, NULL};
    struct target *dir;
    int r;

    r = volume_dir_open(io, path, meta->number, 0, &dir);
    if (r < 0)
        return r;
    r = store_policy(dir, meta, text, bytes);
    target_close(dir);
    return r < 0 ? r
                 : registry_change(io, &silent, path, held, add_to_registry,
                                   &meta);
}

void
volume_sync_roots(struct io *io, const struct volume_meta *meta)
{
    struct target *root;

    for (uint32_t i = 0; i < meta->part_count; i++) {
        if (!volume_is_first_of_root(meta, i) ||
            io->ops->open_dir(io, meta->part[i].root, 0, &root) < 0)
            continue;
        (void)target_sync(root);
        target_close(root);
    }
}

/* Of several errors the first one, and its text; -ENOMEM comes before all. */
static void
note_first(int r, int *first, char text[LSVD_TEXT_BYTES])
{
    if (r >= 0 || (*first < 0 && r != -ENOMEM))
        return;
    *first = r;
    snprintf(text, LSVD_TEXT_BYTES, "%s", err_text());
}

static int
store_copies(struct io *io, const struct volume_meta *meta,
             const struct root_locks *held, int *ret_stored)
{
    AUTO_FREE char *text = NULL;
    char why[LSVD_TEXT_BYTES] = "";
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
            r = store_policy(dir, meta, text, bytes);
            target_close(dir);
        }
        note_first(r, &failed, why);
        *ret_stored += r == 0;
    }
    for (uint32_t i = 0; i < meta->part_count; i++) {
        if (!volume_is_first_of_root(meta, i))
            continue;
        r = store_in_root(io, meta, meta->part[i].root, text, bytes, held);
        note_first(r, &failed, why);
        *ret_stored += r == 0;
    }
    return failed < 0 ? err_set(failed, "%s", why) : 0;
}

int
volume_store_meta_at(struct io *io, const struct volume_meta *meta,
                     uint32_t parts)
{
    AUTO_FREE char *text = NULL;
    struct target *dir;
    size_t bytes;
    int r;

    r = meta_format(meta, &text, &bytes);
    for (uint32_t i = 0; i < meta->part_count && r == 0; i++) {
        if (!(parts & UINT32_C(1) << i))
            continue;
        r = part_dir_open(io, meta, i, 0, &dir);
        if (r < 0)
            break;
        r = store_policy(dir, meta, text, bytes);
        target_close(dir);
        if (r == 0)
            r = store_in_root(io, meta, meta->part[i].root, text, bytes,
                              NULL);
    }
    return r;
}

int
volume_store_meta(struct io *io, const struct volume_meta *meta)
{
    int stored, r = store_copies(io, meta, NULL, &stored);

    return stored > 0 && !is_our_trouble(r) ? 0 : r;
}

int
volume_store_meta_everywhere(struct io *io, const struct volume_meta *meta,
                             const struct root_locks *held)
{
    int stored;

    return store_copies(io, meta, held, &stored);
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
    r = store_in_root(v->io, meta, meta->part[slot].root, text, bytes,
                      v->root_locks);
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
        v->behind &= ~(UINT32_C(1) << i);
        if (r == 0)
            continue;
        v->behind |= UINT32_C(1) << i;
        if (result < 0)
            continue;
        result = r;
        snprintf(first, sizeof first, "%s", err_text());
    }
    return result < 0 ? err_set(result, "%s", first) : 0;
}

int
volume_restore_meta(struct lsvd_volume *v)
{
    char text[LSVD_TEXT_BYTES];
    int r;

    snprintf(text, sizeof text, "%s", err_text());
    pthread_mutex_lock(&v->state_lock);
    v->meta.generation += 2;
    pthread_mutex_unlock(&v->state_lock);
    r = volume_store_meta_in_use(v, &v->meta);
    (void)err_set(-EIO, "%s", text);
    return r;
}

int
volume_change_meta(struct lsvd_volume *v, const struct volume_meta *next)
{
    if (volume_store_meta_in_use(v, next) == 0)
        return 0;
    if (volume_restore_meta(v) < 0)
        return err_wrap(-EIO, "volume %s stays as it was until it is started "
                        "again, and is perhaps changed from then on",
                        v->meta.name);
    return err_wrap(-EIO, "volume %s stays as it was", v->meta.name);
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
    r = store_in_root(v->io, &v->meta, v->meta.part[slot].root, text, bytes,
                      NULL);
    if (r < 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: part %c: its root's copy of the policy is not "
                  "up to date: %s", v->meta.name, (char)('a' + slot),
                  err_text());
    return 0;
}
