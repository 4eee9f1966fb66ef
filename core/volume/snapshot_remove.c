/* snapshot_remove.c: a snapshot goes: the one volume that depends on it takes
 * what it says (adopt.h). That one is not served, or else its server has seen
 * to that before. */
#include "base/err.h"
#include "volume/adding.h"
#include "volume/adopt.h"
#include "volume/find.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <string.h>

struct dependants {
    const struct volume_meta *of;
    struct volume_meta first; /* of them; generation 0: there is none */
    uint32_t count;
    char names[256];
    char unborn[VOLUME_NAME_BYTES_MAX + 1]; /* one of them; "": none is */
    uint32_t referring; /* others that have references to it, … */
    char example[VOLUME_NAME_BYTES_MAX + 1]; /* … and one of them */
};

static int
note_dependant(void *ctx, const struct volume_meta *meta)
{
    struct dependants *d = ctx;
    size_t used = strlen(d->names);

    if (meta->removing || !meta_needs(meta, d->of->number, &d->of->uuid))
        return 0;
    if (meta_has_source(meta, d->of->number, &d->of->uuid)) {
        d->referring++;
        snprintf(d->example, sizeof d->example, "%s", meta->name);
        return 0;
    }
    snprintf(d->names + used, sizeof d->names - used, "%s%s",
             d->count > 0 ? ", " : "", meta->name);
    if (meta_is_unborn_name(meta->name))
        memcpy(d->unborn, meta->name, sizeof d->unborn);
    return d->count++ == 0 ? meta_copy(meta, &d->first) : 0;
}

struct handing {
    const struct lsvd_env *env;
    const struct lsvd_flatten *spec;
    const struct lsvd_repair_callbacks *cb;
};

static int
hand_to(void *arg, struct lsvd_volume *v)
{
    const struct handing *h = arg;

    return flatten_unserved(v, h->env, h->spec, h->cb);
}

static int
hand_to_volume(struct handing *h, const char *name)
{
    struct lsvd_volume *v;
    int r = lsvd_open(h->env, name, 0, &v);

    return r < 0 ? r : volume_close_after(v, hand_to(h, v));
}

/* The one that depends on it takes what it says. */
static int
hand_down(const struct lsvd_env *env, const struct volume_meta *snapshot,
          const struct dependants *d, uint64_t rate_bytes,
          const struct lsvd_repair_callbacks *cb)
{
    const struct lsvd_flatten spec = {snapshot->name, rate_bytes};
    struct handing h = {env, &spec, cb};
    int r;

    if (d->count > 1)
        return err_set(-EBUSY, "snapshot %s: %s depend on it: flatten or "
                       "remove all but one of them first", snapshot->name,
                       d->names);
    if (d->first.successor)
        r = add_to_snapshot(env, d->first.name, hand_to, &h);
    else
        r = hand_to_volume(&h, d->first.name);
    return r == -EBUSY ? err_wrap(r, "snapshot %s: %s depends on it",
                                  snapshot->name, d->first.name)
                       : r;
}

/* What was left when a snapshot or a rollback was cut short, or the volume
 * itself, which does not say its name yet: who opens the volume settles
 * either. */
static int
settle_unborn(const struct lsvd_env *env, const char *unborn)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];
    struct lsvd_volume *v;
    int r;

    meta_base_name(unborn, base);
    r = lsvd_open(env, base, 0, &v);
    if (r == -ENOENT) /* the volume was removed */
        return lsvd_remove(env, unborn);
    return r < 0 ? r
                 : volume_close_after(v, snapshot_remove_leftovers(v, env));
}

static int
look_for_dependants(struct lsvd_volume *v, struct dependants *d)
{
    meta_done(&d->first);
    *d = (struct dependants){.of = &v->meta};
    return volume_each_policy(v->io, &v->log, &v->config, &v->meta,
                              false, note_dependant, d);
}

static int
find_dependants(struct lsvd_volume *v, const struct lsvd_env *env,
                struct dependants *d)
{
    int r = look_for_dependants(v, d);

    if (r < 0 || !d->unborn[0])
        return r;
    r = settle_unborn(env, d->unborn);
    if (r < 0)
        return err_wrap(r, "snapshot %s: %s, left by a snapshot or a rollback "
                        "that was cut short, depends on it yet; the next "
                        "snapshot removes it", v->meta.name, d->unborn);
    r = look_for_dependants(v, d);
    if (r == 0 && d->unborn[0])
        r = err_set(-EBUSY, "snapshot %s: %s depends on it: try again",
                    v->meta.name, d->unborn);
    return r;
}

static int
find_snapshot(struct lsvd_volume *v, const char *name)
{
    int r = volume_find(v->io, &v->log, &v->config, name, &v->meta, NULL);

    if (r == 0 && !v->meta.successor)
        r = err_set(-EINVAL, "volume %s is no snapshot", name);
    return r;
}

int
lsvd_snapshot_remove(const struct lsvd_env *env, const char *name,
                     uint64_t rate_bytes,
                     const struct lsvd_repair_callbacks *cb)
{
    struct dependants d = {.count = 0};
    struct lsvd_volume *v;
    int r = volume_new(env, name, &v);

    if (r < 0)
        return r;
    r = find_snapshot(v, name);
    if (r == 0 && !v->meta.removing)
        r = find_dependants(v, env, &d);
    if (r == 0 && d.referring > 0)
        r = err_set(-EBUSY, "snapshot %s: %s has references to it: remove that "
                    "first, or what it refers to (lsvd-dedupe --rehydrate)",
                    name, d.example);
    if (r == 0 && d.count > 0)
        r = hand_down(env, &v->meta, &d, rate_bytes, cb);
    meta_done(&d.first);
    volume_free(v);
    return r < 0 ? r : lsvd_remove(env, name);
}
