/* adding.c: see adding.h. */
#include "volume/adding.h"
#include "base/err.h"
#include "volume/borrow.h"
#include "volume/exchange.h"
#include "volume/parent.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <string.h>

/* The snapshot, who goes on from it, and how far below top it lies. */
struct place {
    struct lsvd_volume *snapshot, *child;
    unsigned depth;
};

struct lsvd_volume *
needed_find(struct lsvd_volume *top, const char *name, unsigned *ret_depth)
{
    unsigned depth = 1;

    for (struct lsvd_volume *p = top->parent; p; p = p->parent, depth++) {
        if (strcmp(meta_stored_name(&p->meta), name) != 0)
            continue;
        if (ret_depth)
            *ret_depth = depth;
        return p;
    }
    return NULL;
}

/* The chain is changed by one at a time, and that is us. */
static int
find_place(struct lsvd_volume *top, const char *name, struct place *ret)
{
    *ret = (struct place){.child = top};
    ret->snapshot = needed_find(top, name, &ret->depth);
    if (!ret->snapshot)
        return err_set(-EXDEV, "volume %s does not go on from %s",
                       top->meta.name, name);
    while (ret->child->parent != ret->snapshot)
        ret->child = ret->child->parent;
    return 0;
}

static int
check_is_snapshot(const struct lsvd_volume *c)
{
    if (c->meta.successor)
        return 0;
    return err_set(-EINVAL, "volume %s is no snapshot",
                   meta_stored_name(&c->meta));
}

static int
check(const struct lsvd_volume *top, const struct lsvd_volume *c)
{
    const char *name = meta_stored_name(&c->meta);
    int r;

    if (!top->attached)
        return err_set(-EROFS, "volume %s can't be written now",
                       top->meta.name);
    if (c->usable != volume_all_parts(c))
        return err_set(-EIO, "%s: not all its parts are in sync: see "
                       "lsvd-repair verify %s", name, name);
    for (const struct lsvd_volume *p = top->parent; p; p = p->parent) {
        if (p->attached) /* it has threads, which read what it depends on */
            return err_set(-EBUSY, "%s is not yet complete on its parts: try "
                           "again when it is", meta_stored_name(&p->meta));
    }
    r = borrow_check_alone(c);
    return r < 0 ? r : check_is_snapshot(c);
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
    struct lsvd_volume *c = at->snapshot;
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
    atomic_store(&next->is_added_to, true);
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

/* AD3. What is said of an older view does no harm, should it stay so. */
static int
store_view(struct lsvd_volume *c)
{
    struct volume_meta next = c->meta;
    int r;

    if (!c->attached || c->usable != volume_all_parts(c))
        return err_set(-EIO, "volume %s: not all its parts are in sync",
                       c->meta.name);
    next.frozen_epoch = c->view.id.epoch;
    next.frozen_minor = c->view.id.minor;
    next.generation++;
    r = volume_store_meta_in_use(c, &next);
    if (r < 0) {
        (void)volume_restore_meta(c);
        return err_wrap(r, "volume %s", c->meta.name);
    }
    pthread_mutex_lock(&c->state_lock);
    c->meta.frozen_epoch = next.frozen_epoch;
    c->meta.frozen_minor = next.frozen_minor;
    c->meta.generation = next.generation;
    pthread_mutex_unlock(&c->state_lock);
    return 0;
}

/* Its threads may change the view. */
static int
freeze_anew(struct lsvd_volume *c)
{
    struct lease role;
    int r = role_get(c, &role);

    if (r < 0)
        return r;
    r = store_view(c);
    role_put(c, &role);
    return r;
}

static int
run(struct lsvd_volume *c, adding_job job, void *arg)
{
    int r = freeze_anew(c);

    return r < 0 ? r : job(arg, c);
}

static int
add(struct lsvd_volume *top, const struct place *at,
    const struct lsvd_env *env, const struct lsvd_alone *alone, adding_job job,
    void *arg)
{
    char text[LSVD_TEXT_BYTES];
    struct lsvd_volume *c;
    int r = open_to_add(at, env, &c);

    if (r == 0)
        r = put_in_place(top, at, c, alone);
    if (r < 0)
        return r;
    r = run(c, job, arg);
    snprintf(text, sizeof text, "%s", err_text());
    snapshot_finish_adding(c);
    return r < 0 ? err_set(r, "%s", text) : 0;
}

int
add_to_needed(struct lsvd_volume *top, const char *name,
              const struct lsvd_env *env, const struct lsvd_alone *alone,
              adding_job job, void *arg)
{
    struct place at;
    int r = find_place(top, name, &at);

    if (r == 0)
        r = check(top, at.snapshot);
    if (r < 0)
        return r;
    atomic_store(&top->adds_below, true);
    r = add(top, &at, env, alone, job, arg);
    atomic_store(&top->adds_below, false);
    return r;
}

/* ---- of one that nobody has open ---- */

int
add_to_snapshot(const struct lsvd_env *env, const char *name, adding_job job,
                void *arg)
{
    char text[LSVD_TEXT_BYTES];
    struct lsvd_volume *c;
    int r = volume_open(env, name, OPEN_ADD, &c), settled;

    if (r < 0)
        return r;
    opening_ends(c);
    r = check_is_snapshot(c);
    if (r == 0)
        r = run(c, job, arg);
    snprintf(text, sizeof text, "%s", err_text());
    settled = snapshot_settle(c);
    lsvd_abandon(c);
    return r < 0 ? err_set(r, "%s", text) : settled;
}
