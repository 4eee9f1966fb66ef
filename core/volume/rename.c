/* rename.c: a volume and its snapshots get another name.
 *
 * Only policies and registries change: numbers, files and UUIDs stay, so clones
 * find their parents as before. Each policy is stored by itself, the volume's
 * last. Interrupted, some snapshots have the new name already; called again, it
 * goes on. */
#include "base/err.h"
#include "base/memory.h"
#include "volume/find.h"
#include "volume/parent.h"
#include "volume/root_lock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct renaming {
    const struct lsvd_env *env;
    const char *from, *to;
    char (*name)[VOLUME_NAME_BYTES_MAX + 1]; /* owned; of snapshots */
    size_t count, room;
};

/* to, and what follows the @ of name. -EINVAL: too long. */
static int
new_name(const struct renaming *y, const char *name,
         char ret[VOLUME_NAME_BYTES_MAX + 1])
{
    const char *at = name + strcspn(name, "@");
    int bytes = snprintf(ret, VOLUME_NAME_BYTES_MAX + 1, "%s%s", y->to, at);

    if (bytes > VOLUME_NAME_BYTES_MAX)
        return err_set(-EINVAL, "volume %s: its snapshot %s would have a name "
                       "of more than %d bytes", y->from, name,
                       VOLUME_NAME_BYTES_MAX);
    return 0;
}

static int
note_snapshot(void *ctx, const struct lsvd_snapshot *s)
{
    struct renaming *y = ctx;
    char renamed[VOLUME_NAME_BYTES_MAX + 1];
    int r = new_name(y, s->name, renamed);

    if (r == 0)
        r = mem_grow(y->count + 1, sizeof *y->name, &y->room, &y->name);
    if (r < 0)
        return r;
    snprintf(y->name[y->count++], sizeof *y->name, "%s", s->name);
    return 0;
}

static int
check_is_free(struct lsvd_volume *v, const char *name)
{
    return volume_has_name(v->io, &v->log, &v->config, name)
               ? err_set(-EEXIST, "volume %s exists already", name)
               : 0;
}

/* Else it would be stored on some alone. */
static int
check_parts(const struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!v->part[i].lock)
            return err_set(-EIO, "volume %s: part %c is not there: %s",
                           v->meta.name, v->part[i].letter,
                           v->part[i].problem);
    }
    return 0;
}

/* Everywhere, or it has its old name. */
static int
change_name(struct lsvd_volume *v, const char *name,
            const struct root_locks *held)
{
    char old[VOLUME_NAME_BYTES_MAX + 1], why[LSVD_TEXT_BYTES];

    snprintf(old, sizeof old, "%s", v->meta.name);
    snprintf(v->meta.name, sizeof v->meta.name, "%s", name);
    v->meta.generation++;
    if (volume_store_meta_everywhere(v->io, &v->meta, held) == 0)
        return 0;
    snprintf(why, sizeof why, "%s", err_text());
    snprintf(v->meta.name, sizeof v->meta.name, "%s", old);
    v->meta.generation++;
    if (volume_store_meta_everywhere(v->io, &v->meta, held) == 0)
        return err_set(-EIO, "volume %s keeps its name: %s", old, why);
    return err_set(-EIO, "volume %s keeps its name, but not all of its parts "
                   "could be told so: %s", old, why);
}

static int
store_renamed(const struct renaming *y, struct lsvd_volume *v)
{
    char name[VOLUME_NAME_BYTES_MAX + 1];
    struct root_locks held = {.count = 0};
    int r = new_name(y, v->meta.name, name);

    if (r == 0)
        r = check_parts(v);
    if (r == 0) {
        r = root_locks_take(v->io, &v->meta, v->config.data, &held);
        if (r < 0)
            return err_wrap(r, "volume %s", v->meta.name);
    }
    if (r == 0)
        r = check_is_free(v, name);
    if (r == 0)
        r = change_name(v, name, &held);
    root_locks_release(&held);
    return r;
}

/* Locked shared, as by who serves a clone of it: it is not being changed. */
static int
rename_snapshot(const struct renaming *y, const char *name)
{
    struct lsvd_volume *v;
    int r = volume_open(y->env, name,
                        LSVD_OPEN_READ_ONLY | OPEN_LOCKED | OPEN_INSPECT, &v);

    if (r < 0)
        return r;
    r = store_renamed(y, v);
    lsvd_abandon(v);
    return r;
}

static int
check_names(const struct renaming *y)
{
    int r = meta_check_name(y->to);

    if (r == 0 && (meta_is_snapshot_name(y->from) ||
                   meta_is_snapshot_name(y->to)))
        r = err_set(-EINVAL, "snapshots get another name with their volume");
    return r;
}

int
lsvd_rename(const struct lsvd_env *env, const char *from, const char *to)
{
    struct renaming y = {.env = env, .from = from, .to = to};
    struct lsvd_volume *v;
    int r = check_names(&y);

    if (r < 0)
        return r;
    /* exclusive: nobody serves it, or makes a snapshot of it */
    r = volume_open(env, from, OPEN_REPAIR | OPEN_LOCKED, &v);
    if (r < 0)
        return r;
    r = check_parts(v);
    if (r == 0)
        r = check_is_free(v, to);
    if (r == 0)
        r = lsvd_snapshot_list(env, from, note_snapshot, &y);
    for (size_t i = 0; i < y.count && r == 0; i++)
        r = rename_snapshot(&y, y.name[i]);
    if (r == 0)
        r = store_renamed(&y, v);
    free(y.name);
    lsvd_abandon(v);
    return r;
}
