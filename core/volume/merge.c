/* merge.c: a snapshot that a served volume is read through takes over what its
 * own parent says, so that this one can be removed (adopt.h).
 *
 * Happy path: the snapshot is locked for us alone -> it is opened once more, to
 *   be added to, over the same parent; what was read through the old one is
 *   read through the new one from a moment on at which no request is under way
 *   -> it takes over what its parent says, beside requests -> the parent is let
 *   go -> what its journal holds is moved, and the journal goes: it is a parent
 *   like others again.
 * (ME1) Nothing of its files is changed before the exchange: until then the old
 *       one reads them without looking whether they change.
 * (ME2) Others that read the snapshot have it locked, shared: then it is not
 *       added to (-EBUSY). Who comes while it is, is refused.
 * (ME3) Its policy tells the view in which it is added to (SN2): a part that
 *       lacks some of that proves nothing.
 * Cut at any point: it is opened with what its journal holds, as any parent
 * (needed_settle), and reads as it did (FL2). */
#include "base/err.h"
#include "volume/adopt.h"
#include "volume/exchange.h"
#include "volume/parent.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <string.h>

/* What depends on the snapshot that takes over, and how far below top it is. */
struct place {
    struct lsvd_volume *child;
    unsigned depth;
};

/* The chain is changed by one at a time, and that is us. */
static int
find_place(struct lsvd_volume *top, const char *parent, struct place *ret)
{
    *ret = (struct place){top, 1};
    for (; ret->child->parent; ret->child = ret->child->parent, ret->depth++) {
        const struct lsvd_volume *p = ret->child->parent->parent;

        if (p && strcmp(meta_stored_name(&p->meta), parent) == 0)
            return 0;
    }
    return err_set(-EXDEV, "volume %s does not depend on %s", top->meta.name,
                   parent);
}

static int
check(const struct lsvd_volume *top, const struct lsvd_volume *c)
{
    const char *name = meta_stored_name(&c->meta);

    if (!top->attached)
        return err_set(-EROFS, "volume %s can't be written now",
                       top->meta.name);
    if (!c->meta.successor)
        return err_set(-EBUSY, "%s depends on it, and is no snapshot: flatten "
                       "or remove that first", name);
    if (c->usable != volume_all_parts(c))
        return err_set(-EIO, "%s: not all its parts are in sync: see "
                       "lsvd-repair verify %s", name, name);
    for (const struct lsvd_volume *p = top->parent; p; p = p->parent) {
        if (p->attached) /* it has threads, which read what it depends on */
            return err_set(-EBUSY, "%s is not yet complete on its parts: try "
                           "again when it is", meta_stored_name(&p->meta));
    }
    return 0;
}

static int
lock_exclusive(struct lsvd_volume *c)
{
    int r = 0;

    for (uint32_t i = 0; i < c->g.part_count && r == 0; i++)
        r = part_take_lock(c, &c->part[i], true);
    return r;
}

/* The error text stays. */
static void
lock_shared_again(struct lsvd_volume *c)
{
    char text[LSVD_TEXT_BYTES];

    snprintf(text, sizeof text, "%s", err_text());
    for (uint32_t i = 0; i < c->g.part_count; i++) {
        if (part_take_lock(c, &c->part[i], false) < 0)
            log_event(&c->log, LOG_ERROR_LEVEL, "volume %s: part %c is read "
                      "without a lock: %s", c->meta.name, c->part[i].letter,
                      err_text());
    }
    (void)err_set(-EIO, "%s", text);
}

static int
open_to_add(const struct place *at, const struct lsvd_env *env,
            struct lsvd_volume **ret)
{
    struct lsvd_volume *c = at->child->parent;
    unsigned flags = OPEN_ADD | OPEN_PARENT | at->depth << OPEN_DEPTH_SHIFT;
    int r = lock_exclusive(c);

    if (r == 0)
        r = volume_open_instead(env, at->child, flags, ret);
    if (r == 0)
        opening_ends(*ret);
    if (r == 0 && !(*ret)->attached) {
        (*ret)->parent = NULL; /* stays that of c */
        lsvd_abandon(*ret);
        r = err_set(-EIO, "%s: not all its parts are in sync",
                    meta_stored_name(&c->meta));
    }
    if (r < 0)
        lock_shared_again(c);
    return r;
}

static int
put_in_place(struct lsvd_volume *top, const struct place *at,
             struct lsvd_volume *next, const struct lsvd_alone *alone)
{
    struct exchange x = {.top = top,
                         .owner = at->child,
                         .slot = &at->child->parent,
                         .next = next,
                         .passes_parent = true};
    int r;

    atomic_store(&next->in_repair, true); /* for as long as it is attached */
    atomic_store(&next->in_merge, true);
    lsvd_on_fenced(next, top->on_fenced, top->on_fenced_ctx);
    r = exchange(&x, alone);
    if (r < 0) {
        char text[LSVD_TEXT_BYTES];

        snprintf(text, sizeof text, "%s", err_text());
        (void)snapshot_settle(next);
        next->parent = NULL; /* stays that of the old one */
        lsvd_abandon(next);
        lock_shared_again(at->child->parent);
        return err_set(r, "%s", text);
    }
    volume_let_go(x.old);
    if (top->threaded && lsvd_start(next) < 0) /* it works without, if slower */
        log_event(&next->log, LOG_WARNING_LEVEL, "%s", err_text());
    return 0;
}

int
merge_freeze_anew(struct lsvd_volume *v)
{
    if (!v->attached || v->usable != volume_all_parts(v))
        return err_set(-EIO, "volume %s: not all its parts are in sync",
                       v->meta.name);
    v->meta.frozen_epoch = v->view.id.epoch;
    v->meta.frozen_minor = v->view.id.minor;
    v->meta.generation++;
    return volume_store_meta_in_use(v, &v->meta);
}

/* ME3: its threads may change the view. */
static int
freeze_anew(struct lsvd_volume *c)
{
    struct lease role;
    int r = role_get(c, &role);

    if (r < 0)
        return r;
    r = merge_freeze_anew(c);
    role_put(c, &role);
    return r;
}

static int
merge(struct lsvd_volume *top, const struct place *at,
      const struct lsvd_env *env, const struct lsvd_flatten *spec,
      const struct lsvd_alone *alone, const struct lsvd_repair_callbacks *cb)
{
    char text[LSVD_TEXT_BYTES];
    struct lsvd_volume *c;
    int r = open_to_add(at, env, &c);

    if (r == 0)
        r = put_in_place(top, at, c, alone);
    if (r < 0)
        return r;
    r = freeze_anew(c);
    if (r == 0)
        r = adopt_level(c, top, spec->rate_bytes, alone, cb);
    snprintf(text, sizeof text, "%s", err_text());
    snapshot_finish_merge(c);
    return r < 0 ? err_set(r, "%s", text) : 0;
}

int
merge_below(struct lsvd_volume *top, const struct lsvd_env *env,
            const struct lsvd_flatten *spec, const struct lsvd_alone *alone,
            const struct lsvd_repair_callbacks *cb)
{
    struct place at;
    int r = find_place(top, spec->parent, &at);

    if (r == 0)
        r = check(top, at.child->parent);
    if (r < 0)
        return r;
    atomic_store(&top->in_merge, true);
    r = merge(top, &at, env, spec, alone, cb);
    atomic_store(&top->in_merge, false);
    return r;
}
