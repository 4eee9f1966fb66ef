/* flatten.c: a clone comes to need its parents no more (adopt.h). */
#include "base/err.h"
#include "volume/adding.h"
#include "volume/adopt.h"
#include "volume/dedupe.h"
#include "volume/parent.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <string.h>

/* A parent that can't be counted on to stay is not there to be let go. */
static int
check_level(struct lsvd_volume *v)
{
    if (!v->attached)
        return err_set(-EROFS, "volume %s can't be written now", v->meta.name);
    if (!volume_is_clone(v) || !v->parent)
        return err_set(-EINVAL, "volume %s has no parent", v->meta.name);
    if (v->parent->attached)
        return err_set(-EBUSY, "%s is not yet complete on its parts: try again "
                       "when it is", meta_stored_name(&v->parent->meta));
    return 0;
}

static int
flatten_one(struct lsvd_volume *v, const struct lsvd_flatten *spec,
            const struct lsvd_alone *alone,
            const struct lsvd_repair_callbacks *cb)
{
    int r = check_level(v);

    return r < 0 ? r : adopt_level(v, v, spec->rate_bytes, alone, cb);
}

/* All of its parents, and what it has references to. */
static int
flatten_all(struct lsvd_volume *v, const struct lsvd_flatten *spec,
            const struct lsvd_alone *alone,
            const struct lsvd_repair_callbacks *cb)
{
    const struct lsvd_dedupe undo = {.rate_bytes = spec->rate_bytes};
    struct lsvd_dedupe_report report;
    int r = 0;

    if (!volume_is_clone(v) && !volume_has_references(v))
        return check_level(v); /* says what it has not */
    while (r == 0 && volume_is_clone(v))
        r = flatten_one(v, spec, alone, cb);
    return r == 0 && volume_has_references(v) ? dedupe_undo(v, v, &undo, cb,
                                                            &report)
                                              : r;
}

/* What goes, and is taken over by a snapshot that top goes on from. */
struct merging {
    struct lsvd_volume *top;
    const struct lsvd_flatten *spec;
    const struct lsvd_alone *alone;
    const struct lsvd_repair_callbacks *cb;
};

static int
merge(void *arg, struct lsvd_volume *snapshot)
{
    const struct merging *m = arg;

    return adopt_level(snapshot, m->top, m->spec->rate_bytes, m->alone, m->cb);
}

static int
merge_below(struct lsvd_volume *v, const struct lsvd_env *env,
            const struct lsvd_flatten *spec, const struct lsvd_alone *alone,
            const struct lsvd_repair_callbacks *cb)
{
    struct merging m = {v, spec, alone, cb};
    const struct lsvd_volume *parent = needed_find(v, spec->parent, NULL);
    const struct lsvd_volume *p = v->parent;
    char name[VOLUME_NAME_BYTES_MAX + 1];

    if (!parent)
        return err_set(-EXDEV, "volume %s does not depend on %s",
                       v->meta.name, spec->parent);
    while (p->parent != parent)
        p = p->parent;
    snprintf(name, sizeof name, "%s", meta_stored_name(&p->meta));
    if (!p->meta.successor)
        return err_set(-EBUSY, "%s depends on it, and is no snapshot: flatten "
                       "or remove that first", name);
    return add_to_needed(v, name, env, alone, merge, &m);
}

int
lsvd_live_flatten(struct lsvd_volume *v, const struct lsvd_env *env,
                  const struct lsvd_flatten *spec,
                  const struct lsvd_alone *alone,
                  const struct lsvd_repair_callbacks *cb)
{
    int r = volume_reserve(v);

    if (r < 0)
        return r;
    if (!spec->parent)
        r = flatten_all(v, spec, alone, cb);
    else if (v->parent &&
             strcmp(meta_stored_name(&v->parent->meta), spec->parent) == 0)
        r = flatten_one(v, spec, alone, cb);
    else
        r = merge_below(v, env, spec, alone, cb);
    volume_release(v);
    return r;
}

/* ---- of a volume that nobody serves ---- */

static int
run_at_once(void *ctx, int (*fn)(void *arg), void *arg,
            char text[LSVD_TEXT_BYTES])
{
    int r = fn(arg);

    (void)ctx;
    snprintf(text, LSVD_TEXT_BYTES, "%s", err_text());
    return r;
}

static const struct lsvd_alone nobody_else = {.run = run_at_once};

int
flatten_unserved(struct lsvd_volume *v, const struct lsvd_env *env,
                 const struct lsvd_flatten *spec,
                 const struct lsvd_repair_callbacks *cb)
{
    return lsvd_live_flatten(v, env, spec, &nobody_else, cb);
}

int
lsvd_flatten(const struct lsvd_env *env, const char *name,
             uint64_t rate_bytes, const struct lsvd_repair_callbacks *cb)
{
    const struct lsvd_flatten spec = {.rate_bytes = rate_bytes};
    struct lsvd_volume *v;
    int r = lsvd_open(env, name, 0, &v);

    return r < 0 ? r : volume_close_after(v, flatten_unserved(v, env, &spec,
                                                               cb));
}
