/* open.c: a volume is found, locked, and opened (faults.md O2).
 *
 * Open: find the policy -> lock the parts -> read labels, choose the view ->
 *   its journal, if it names one, must be here -> what bring_up.c does.
 * (P1) No label or journal is written before every part that is there is
 *      locked, and no view of an epoch before all members promised it. */
#include "base/err.h"
#include "redundancy/membership.h"
#include "volume/borrow.h"
#include "volume/find.h"
#include "volume/parent.h"
#include "volume/read_cache.h"
#include "volume/refer.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <string.h>

static uint32_t
labels_of(struct lsvd_volume *v, const struct label **labels)
{
    uint32_t present = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        bool ok = v->part[i].state == LSVD_PART_OK;

        labels[i] = ok ? &v->part[i].label : NULL;
        if (ok)
            present |= UINT32_C(1) << i;
    }
    return present;
}

int
volume_choose_view(struct lsvd_volume *v)
{
    const struct label *labels[PARTS_MAX];
    int r;

    (void)labels_of(v, labels);
    r = membership_choose(labels, v->g.part_count, &v->view);
    if (r == -ENOENT)
        return err_set(r, "volume %s: no part can be used; part a is %s: %s",
                       v->meta.name, lsvd_part_state_text(v->part[0].state),
                       v->part[0].problem);
    return r < 0 ? err_wrap(r, "volume %s", v->meta.name) : 0;
}

int
volume_find_journal(struct lsvd_volume *v)
{
    const struct view *stored;
    int r;

    if (uuid_is_zero(&v->view.journal) || v->observer)
        return 0;
    r = journal_find(v);
    if (r < 0)
        return r;
    stored = &journal_identity(v->journal)->view;
    if (view_id_compare(&stored->id, &v->view.id) < 0)
        return err_set(-EIO,
                       "volume %s: its journal is older than its parts: "
                       "an old copy of the cache directory?",
                       v->meta.name);
    v->view = *stored;
    return 0;
}

void
volume_judge_parts(struct lsvd_volume *v)
{
    const struct label *labels[PARTS_MAX];
    uint32_t present = labels_of(v, labels);
    uint64_t ckpt, newest;

    newest = membership_newest_ckpt(labels, v->g.part_count, &v->view);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const char *objection;

        if (!(present & UINT32_C(1) << i))
            continue;
        ckpt = v->journal ? journal_identity(v->journal)->part_ckpt[i] : 0;
        objection = membership_objection(&v->part[i].label, i, &v->view,
                                         ckpt, newest);
        if (objection)
            part_fail(&v->part[i], LSVD_PART_STALE, "%s %s",
                      v->part[i].dir->path, objection);
        else
            v->usable |= UINT32_C(1) << i;
    }
}

/* Choose the view, find its journal, judge each part against both. */
static int
choose_view(struct lsvd_volume *v)
{
    int r = volume_choose_view(v);

    if (r == 0)
        r = volume_find_journal(v);
    if (r < 0)
        return r;
    volume_judge_parts(v);
    return 0;
}

/* Everything after the locks. */
static int
begin(struct lsvd_volume *v, unsigned flags)
{
    bool wants_write = !(flags & (LSVD_OPEN_READ_ONLY | OPEN_REPAIR)) &&
                       (!v->meta.read_only || flags & OPEN_ADD) &&
                       !v->observer;
    int r;

    r = choose_view(v);
    if (r < 0)
        return r;
    if (v->journal && !wants_write && !(flags & OPEN_REPAIR)) {
        /* Recovery writes, whatever the client may do. */
        for (uint32_t i = 0; i < v->g.part_count; i++) {
            if (!v->part[i].lock)
                continue;
            r = part_take_lock(v, &v->part[i], true);
            if (r < 0)
                return r;
        }
        v->exclusive = true;
    }
    return volume_bring_up(v, flags, wants_write);
}

int
volume_check_policy(struct lsvd_volume *v)
{
    const struct logger silent = {NULL, NULL};
    struct volume_meta now;
    bool same;
    int r;

    r = volume_find_number(v->io, &silent, &v->config, &v->meta,
                           v->meta.number, &v->meta.uuid, &now, NULL);
    if (r < 0)
        return r;
    same = now.generation + (v->meta.due_from ? 1 : 0) == v->meta.generation;
    meta_done(&now);
    return same ? 0 : err_set(-EAGAIN, "volume %s is being changed",
                              v->meta.name);
}

/* Which one is to be opened. */
struct wanted {
    const char *name;
    const struct lsvd_volume *child; /* NULL, or: its parent, or source, of
                                      * this number, whatever any registry says
                                      * of the name */
    uint32_t number;
    const struct uuid *uuid;
    struct lsvd_volume *parent;      /* NULL, or that of the one wanted, which
                                      * is open already */
    struct lsvd_volume *instead;     /* NULL, or the one wanted, as it is open:
                                      * it gives up its locks */
};

static int
find_policy(struct lsvd_volume *v, const struct wanted *w)
{
    struct metadata_problems problems = {
        v->problem, sizeof v->problem / sizeof v->problem[0], 0};
    const char *name = w->name;
    int r;

    if (w->child)
        r = volume_find_number(v->io, &v->log, &v->config, &w->child->meta,
                               w->number, w->uuid, &v->meta, &problems);
    else
        r = volume_find(v->io, &v->log, &v->config, name, &v->meta,
                        &problems);
    v->problem_count = problems.count;
    if (r == 0 && v->meta.removing)
        r = err_set(-ENOENT,
                    "volume %s is being removed; finish with lsvd remove %s",
                    name, name);
    if (r < 0)
        return r;
    geometry_init(&v->g, v->meta.size_bytes, v->meta.chunk_bytes,
                  v->meta.block_bytes, v->meta.replicas, v->meta.ec_data,
                  v->meta.ec_parity);
    return 0;
}

static void
say_accepted_loss(struct lsvd_volume *v)
{
    if (v->meta.accepted_loss && v->force.quorum == 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: a loss was accepted, and what it did is not "
                  "verified: run lsvd-repair rebuild %s",
                  v->meta.name, v->meta.name);
}

/* A policy that was being stored when a server before this one ended may stand
 * on a part that is out of sight now. It is not to come into force by that
 * part's return: ours becomes newer than any that is older than our epoch. */
static void
outdate_unseen(struct lsvd_volume *v)
{
    uint64_t least = (uint64_t)v->view.id.epoch << 32;

    if (!v->attached || v->usable == volume_all_parts(v) ||
        v->meta.generation >= least)
        return;
    v->meta.generation = least;
    if (volume_store_meta_in_use(v, &v->meta) < 0)
        log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: %s: its policy is "
                  "not up to date everywhere", v->meta.name, err_text());
}

/* Who checks or mends the files of a clone needs no other volume, but to tell
 * what is wrong with references. */
static int
open_parent(struct lsvd_volume *v, const struct lsvd_env *env,
            const struct wanted *w, unsigned flags)
{
    int r;

    v->parent = w->parent;
    if (w->parent)
        return 0;
    r = parent_open(v, env, flags);
    if (r == 0 || r == -ENOMEM ||
        !(flags & (OPEN_REPAIR | LSVD_OPEN_NO_LOCK)))
        return r;
    log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
    parent_close(v);
    return 0;
}

static void
mend_copies(struct lsvd_volume *v, int level)
{
    int r = volume_store_meta(v->io, &v->meta);

    if (r < 0)
        log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: %s: %s; it can't be "
                  "brought up to date: %s", v->meta.name, v->problem[0].path,
                  v->problem[0].text, err_text());
    else
        log_event(&v->log, level, "volume %s: %s: %s; brought up to date",
                  v->meta.name, v->problem[0].path, v->problem[0].text);
}

static int
open_once(const struct lsvd_env *env, const struct wanted *w, unsigned flags,
          struct lsvd_volume **ret)
{
    struct lsvd_volume *v;
    bool takes_name; /* then all copies lag behind, and that is no news */
    int r;

    r = volume_new(env, w->name, &v);
    if (r < 0)
        return r;
    v->observer = flags & LSVD_OPEN_NO_LOCK;
    v->takes_over = flags & OPEN_TAKE_OVER;
    v->instead = w->instead;
    v->opener = w->child;
    if (flags & OPEN_PARENT)
        v->config.ram_bytes = 0;
    if (flags >> OPEN_DEPTH_SHIFT > 1)
        chunks_keep_few(v);
    r = find_policy(v, w);
    v->client_read_only = (flags & (LSVD_OPEN_READ_ONLY | LSVD_OPEN_NO_LOCK |
                                    OPEN_REPAIR)) ||
                          (v->meta.read_only && !(flags & OPEN_ADD));
    v->append_only = v->meta.append_only;
    v->exclusive = !v->client_read_only || (flags & OPEN_REPAIR);
    if (r == 0 && v->g.is_ec)
        r = ec_new(v->meta.ec_data, v->meta.ec_parity, &v->ec);
    if (r == 0)
        r = open_parent(v, env, w, flags);
    if (r == 0)
        r = sources_open(v, env, flags);
    v->opener = NULL;
    if (r == 0)
        r = parts_open(v, v->exclusive);
    v->instead = NULL;
    if (r == 0 && !v->observer)
        r = volume_check_policy(v);
    if (r == 0 && !(flags & OPEN_LOCKED))
        r = begin(v, flags);
    if (r == 0 && !v->observer)
        say_accepted_loss(v);
    takes_name = v->meta.due_from != 0;
    if (r == 0 && v->exclusive)
        volume_sync_roots(v->io, &v->meta);
    if (r == 0)
        r = snapshot_take_name(v);
    if (r == 0 && v->exclusive && v->problem_count > 0 &&
        !(flags & OPEN_INSPECT))
        mend_copies(v, takes_name ? LOG_INFO_LEVEL : LOG_WARNING_LEVEL);
    if (r == 0)
        outdate_unseen(v);
    if (r < 0) {
        if (w->parent)
            v->parent = NULL; /* stays the caller's */
        volume_free(v);
        return r;
    }
    *ret = v;
    return 0;
}

static int
open_wanted(const struct lsvd_env *env, const struct wanted *w, unsigned flags,
            struct lsvd_volume **ret)
{
    int r = -EAGAIN;

    *ret = w->child && !w->instead ? borrow(w->child, w->number, w->uuid)
                                   : NULL;
    if (*ret)
        return 0;
    for (int tries = 0; r == -EAGAIN && tries < 5; tries++)
        r = open_once(env, w, flags, ret);
    return r == -EAGAIN ? -EBUSY : r;
}

int
volume_open(const struct lsvd_env *env, const char *name, unsigned flags,
            struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name};

    return open_wanted(env, &w, flags, ret);
}

int
volume_open_parent_of(const struct lsvd_env *env,
                      const struct lsvd_volume *child, const char *name,
                      unsigned flags, struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name,
                             .child = child,
                             .number = child->meta.parent,
                             .uuid = &child->meta.parent_uuid};

    return open_wanted(env, &w, flags, ret);
}

int
volume_open_source_of(const struct lsvd_env *env, const struct lsvd_volume *v,
                      uint32_t nth, const char *name, unsigned flags,
                      struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name,
                             .child = v,
                             .number = v->meta.source[nth].number,
                             .uuid = &v->meta.source[nth].uuid};

    return open_wanted(env, &w, flags, ret);
}

int
volume_open_with_parent(const struct lsvd_env *env, const char *name,
                        struct lsvd_volume *parent, struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name, .parent = parent};

    return open_wanted(env, &w, 0, ret);
}

int
volume_open_instead(const struct lsvd_env *env, const struct lsvd_volume *child,
                    unsigned flags, struct lsvd_volume **ret)
{
    struct lsvd_volume *old = child->parent;
    const struct wanted w = {.name = meta_stored_name(&old->meta),
                             .child = child,
                             .number = child->meta.parent,
                             .uuid = &child->meta.parent_uuid,
                             .parent = old->parent,
                             .instead = old};

    return open_wanted(env, &w, flags, ret);
}

int
lsvd_open(const struct lsvd_env *env, const char *name, unsigned flags,
          struct lsvd_volume **ret)
{
    struct lsvd_volume *v = NULL;
    int r, ended;

    if (meta_is_unborn_name(name))
        return err_set(-EINVAL, "volume %s: it is left by a snapshot that was "
                       "cut short", name);
    r = volume_open(env, name,
                    flags & (LSVD_OPEN_READ_ONLY | LSVD_OPEN_NO_LOCK), &v);
    if (r == 0)
        opening_ends(v);
    ended = openings_check(env->openings, name);
    if (ended < 0) { /* what was said of parts would mislead */
        volume_free(v);
        return ended;
    }
    if (r == 0)
        read_cache_open(v);
    *ret = v;
    return r;
}

bool
lsvd_can_write(const struct lsvd_volume *v)
{
    return v->attached && !v->client_read_only;
}
