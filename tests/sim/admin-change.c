/* admin-change.c: volumes are made, resized, removed, mended, and interrupted.
 */
#include "admin.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SPARE_ROOT "/spare"

/* ---- create ---- */

void
admin_finish_create(struct life *l, int result, bool crashed)
{
    int r = result == 0 && !crashed ? 0 : life_create(l);

    life_event(l, "create again: %s", r < 0 ? lsvd_error() : "done");
    if (r == -EEXIST && !crashed)
        life_fail(l, "a create that failed left a volume");
    else if (result == 0 && crashed && r != -EEXIST)
        life_fail(l, "a volume that was made is gone");
    else if (r < 0 && r != -EEXIST)
        life_fail(l, "create again: %s", lsvd_error());
    admin_judge(l);
}

/* ---- resize ---- */

static uint64_t
grown(const struct life *l)
{
    return l->volume_bytes + LIFE_CHUNK_BYTES + 12345;
}

static uint64_t
shrunk(const struct life *l)
{
    return l->volume_bytes / 2 + 100;
}

static int
act_grow(struct life *l)
{
    return lsvd_resize(&l->env, LIFE_VOLUME, grown(l), false);
}

/* What lies behind the old end is zero. */
static void
check_tail(struct life *l)
{
    uint64_t count = grown(l) - l->volume_bytes;
    uint64_t half = l->volume_bytes < count ? l->volume_bytes : count;

    if (l->failed || life_open(l, 0) < 0) {
        life_fail(l, "open after growing: %s", lsvd_error());
        return;
    }
    for (uint64_t done = 0; done < count && !l->failed; done += half) {
        if (half > count - done)
            half = count - done;
        if (lsvd_pread(l->v, l->buffer, half, l->volume_bytes + done) < 0)
            life_fail(l, "read of what was added: %s", lsvd_error());
        for (uint64_t i = 0; i < half && !l->failed; i++) {
            if (l->buffer[i] != 0)
                life_fail(l, "what was added is not zero at %" PRIu64,
                          l->volume_bytes + done + i);
        }
    }
    if (life_close(l) < 0)
        life_fail(l, "close after growing: %s", lsvd_error());
}

static void
finish_grow(struct life *l, int result, bool crashed)
{
    struct lsvd_info info;

    if (lsvd_info(&l->env, LIFE_VOLUME, &info) < 0)
        life_fail(l, "info: %s", lsvd_error());
    else if (info.size_bytes != grown(l) &&
             (info.size_bytes != l->volume_bytes || result == 0))
        life_fail(l, "size %" PRIu64 " after a resize", info.size_bytes);
    admin_judge(l);
    (void)crashed;
    if (!l->failed && admin_once_more(l, act_grow) < 0)
        life_fail(l, "resize again: %s", lsvd_error());
    check_tail(l);
    admin_judge(l);
}

/* ---- the same while it serves ---- */

#define MARK_BYTES 3000u /* written behind the old end, from there on */
#define MARK 0x6d

static bool mark_is_answered; /* with FUA */

static void
prepare_mark(struct life *l)
{
    mark_is_answered = false;
    admin_prepare_served(l);
}

/* What is added is used at once, between requests that have nothing to do with
 * it; then the server ends. */
static int
act_grow_served(struct life *l)
{
    uint8_t mark[MARK_BYTES];
    int closed, r;

    memset(mark, MARK, sizeof mark);
    r = lsvd_live_resize(l->v, grown(l));
    if (r == 0)
        r = lsvd_pwrite(l->v, mark, sizeof mark, l->volume_bytes, 0);
    if (r == 0)
        r = lsvd_flush(l->v);
    mark_is_answered = r == 0;
    if (r == 0 && lsvd_get_size(l->v) != grown(l))
        life_fail(l, "resized, and the size is what it was");
    if (simio_halted(l->s)) {
        lsvd_abandon(l->v);
        l->v = NULL;
        return r < 0 ? r : -EIO;
    }
    closed = life_close(l);
    return r < 0 ? r : closed;
}

/* The mark, or zeroes if it was never answered; behind it zeroes. */
static bool
may_be(uint64_t behind, uint8_t found)
{
    if (behind >= MARK_BYTES)
        return found == 0;
    return found == MARK || (found == 0 && !mark_is_answered);
}

static void
check_mark(struct life *l)
{
    uint64_t count = grown(l) - l->volume_bytes, n;

    if (l->failed || life_open(l, 0) < 0) {
        life_fail(l, "open after growing: %s", lsvd_error());
        return;
    }
    for (uint64_t done = 0; done < count && !l->failed; done += n) {
        n = count - done < l->volume_bytes ? count - done : l->volume_bytes;
        if (lsvd_pread(l->v, l->buffer, n, l->volume_bytes + done) < 0)
            life_fail(l, "read of what was added: %s", lsvd_error());
        for (uint64_t i = 0; i < n && !l->failed; i++) {
            if (!may_be(done + i, l->buffer[i]))
                life_fail(l, "what was added is wrong at %" PRIu64,
                          l->volume_bytes + done + i);
        }
    }
    if (life_close(l) < 0)
        life_fail(l, "close after growing: %s", lsvd_error());
}

static void
finish_grow_served(struct life *l, int result, bool crashed)
{
    struct lsvd_info info;

    admin_after_error(l, result, crashed);
    if (lsvd_info(&l->env, LIFE_VOLUME, &info) < 0)
        life_fail(l, "info: %s", lsvd_error());
    else if (info.size_bytes != grown(l) &&
             (info.size_bytes != l->volume_bytes || result == 0 ||
              mark_is_answered))
        life_fail(l, "size %" PRIu64 " after a resize", info.size_bytes);
    admin_judge(l);
    if (!l->failed && admin_once_more(l, act_grow) < 0)
        life_fail(l, "resize again: %s", lsvd_error());
    check_mark(l);
    admin_judge(l);
}

/* The same without part a, which is back afterwards with the old size. */
static bool
starts_without_one(const struct sim_policy *policy)
{
    return life_tolerated(policy) > 0 && policy->replicas != 2;
}

static void
prepare_degraded(struct life *l)
{
    mark_is_answered = false;
    admin_prepare_volume(l);
    simio_hide(l->s, l->dir[0], true);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open without part a: %s", lsvd_error());
    if (!l->failed && !lsvd_can_write(l->v))
        life_fail(l, "not writable without part a");
    for (int i = 0; i < 6 && !l->failed; i++)
        life_request(l, false);
}

static void
finish_grow_degraded(struct life *l, int result, bool crashed)
{
    simio_hide(l->s, l->dir[0], false);
    finish_grow_served(l, result, crashed);
}

/* Less, and then as much again: what was cut off must not come back. */
static int
act_shrink(struct life *l)
{
    int r = lsvd_resize(&l->env, LIFE_VOLUME, shrunk(l), true);

    return r < 0 ? r : lsvd_resize(&l->env, LIFE_VOLUME, l->volume_bytes,
                                   false);
}

static void
finish_shrink(struct life *l, int result, bool crashed)
{
    (void)crashed;
    if (result < 0 && admin_once_more(l, act_shrink) < 0) {
        life_fail(l, "resize again: %s", lsvd_error());
        return;
    }
    model_write_begin(l->m, shrunk(l), l->volume_bytes - shrunk(l), NULL);
    model_write_end(l->m, true, true);
    admin_judge(l);
}

/* ---- remove ---- */

static int
act_remove(struct life *l)
{
    return lsvd_remove(&l->env, LIFE_VOLUME);
}

/* Nothing of weight may be left: no file of a part, no journal. */
static void
check_traces(struct life *l)
{
    char dir[64];
    char **names;

    for (uint32_t i = 0; i <= life_parts(&l->policy) && !l->failed; i++) {
        if (i < life_parts(&l->policy))
            life_part_path(l, i, dir, sizeof dir);
        else
            snprintf(dir, sizeof dir, "/cache");
        names = simio_names(l->s, dir);
        if (names && names[0])
            life_fail(l, "remove leaves %s/%s", dir, names[0]);
        simio_names_free(names);
    }
}

static void
finish_remove(struct life *l, int result, bool crashed)
{
    int r = act_remove(l);

    if (result == 0 && r != -ENOENT)
        life_fail(l, "a volume that was removed is there%s",
                  crashed ? " again" : "");
    if (r < 0 && r != -ENOENT)
        life_fail(l, "remove again: %s", lsvd_error());
    check_traces(l);
    model_free(l->m);
    l->m = model_new(l->volume_bytes, l->policy.block_bytes);
    if (!l->failed && life_create(l) < 0)
        life_fail(l, "create after remove: %s", lsvd_error());
    admin_judge(l);
}

/* ---- rebuild and replace ---- */

static void
delete_some(struct life *l)
{
    char dir[64], path[400];
    char **names;

    admin_prepare_volume(l);
    life_part_path(l, 0, dir, sizeof dir);
    names = simio_names(l->s, dir);
    for (size_t i = 0; names && names[i]; i++) {
        if (strspn(names[i], "0123456789") != strlen(names[i]))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (i % 2)
            simio_delete(l->s, path);
        else
            simio_flip(l->s, path, 5000, 1);
    }
    simio_names_free(names);
}

static void
finish_rebuild(struct life *l, int result, bool crashed)
{
    (void)crashed;
    if (result < 0 && admin_rebuild(l) < 0)
        life_fail(l, "rebuild again: %s", lsvd_error());
    life_verify(l);
    admin_judge(l);
}

/* Part a has missed what was written. */
static void
prepare_stale(struct life *l)
{
    admin_prepare_volume(l);
    simio_hide(l->s, l->dir[0], true);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open without part a: %s", lsvd_error());
    if (l->failed || !lsvd_can_write(l->v)) { /* R6: two copies need both */
        if (l->v && life_close(l) < 0)
            life_fail(l, "close: %s", lsvd_error());
        simio_hide(l->s, l->dir[0], false);
        return;
    }
    for (int i = 0; i < 8 && !l->failed; i++)
        life_request(l, false);
    if (life_close(l) < 0)
        life_fail(l, "close without part a: %s", lsvd_error());
    model_flushed(l->m);
    simio_settle(l->s);
    simio_hide(l->s, l->dir[0], false);
}

static void
prepare_replace(struct life *l)
{
    admin_prepare_volume(l);
    simio_make_dir(l->s, SPARE_ROOT);
}

static int
act_replace(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report = {0};
    int r = lsvd_replace(&l->env, LIFE_VOLUME, 'a', SPARE_ROOT, &none,
                         &report);

    return admin_whole(l, r, &report);
}

/* However far it came: what a person would do next mends it. */
static void
finish_replace(struct life *l, int result, bool crashed)
{
    (void)crashed;
    if (result < 0 && act_replace(l) < 0) {
        life_event(l, "replace again: %s", lsvd_error());
        if (admin_rebuild(l) < 0)
            life_fail(l, "neither replace nor rebuild: %s", lsvd_error());
    }
    life_verify(l);
    admin_judge(l);
}

/* ---- the same while it serves ---- */

static void
prepare_damaged_served(struct life *l)
{
    delete_some(l);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
}

static void
prepare_replace_served(struct life *l)
{
    admin_prepare_served(l);
    simio_make_dir(l->s, SPARE_ROOT);
}

static int
act_rebuild_served(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report = {0};
    int r = lsvd_live_rebuild(l->v, 0, &none, &report);

    return admin_end_served(l, admin_whole(l, r, &report));
}

static int
act_replace_served(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report = {0};
    int r = lsvd_live_replace(l->v, 'a', SPARE_ROOT, &none, &report);

    return admin_end_served(l, admin_whole(l, r, &report));
}

static void
finish_rebuild_served(struct life *l, int result, bool crashed)
{
    admin_after_error(l, result, crashed);
    if (result < 0 && admin_rebuild(l) < 0)
        life_fail(l, "rebuild again: %s", lsvd_error());
    admin_judge(l);
}

/* An error may have cost a request a part, or a root the newest policy: the
 * next start mends that. */
static void
finish_replace_served(struct life *l, int result, bool crashed)
{
    admin_after_error(l, result, crashed);
    admin_judge(l);
    if (!l->failed)
        finish_replace(l, result, crashed);
}

const struct scenario admin_changes[] = {
    {"create", admin_always, admin_prepare_nothing, life_create,
     admin_finish_create, 0},
    {"grow", admin_always, admin_prepare_volume, act_grow, finish_grow, 0},
    {"grow-served", admin_always, prepare_mark, act_grow_served,
     finish_grow_served, 0},
    {"grow-degraded", starts_without_one, prepare_degraded, act_grow_served,
     finish_grow_degraded, 0},
    {"shrink", admin_always, admin_prepare_volume, act_shrink, finish_shrink,
     0},
    {"remove", admin_always, admin_prepare_volume, act_remove, finish_remove,
     0},
    {"rebuild", admin_has_redundancy, delete_some, admin_rebuild,
     finish_rebuild, 0},
    {"rebuild-stale", admin_has_redundancy, prepare_stale, admin_rebuild,
     finish_rebuild, 0},
    {"replace", admin_has_redundancy, prepare_replace, act_replace,
     finish_replace, 0},
    {"rebuild-served", admin_has_redundancy, prepare_damaged_served,
     act_rebuild_served, finish_rebuild_served, 0},
    {"replace-served", admin_has_redundancy, prepare_replace_served,
     act_replace_served, finish_replace_served, 0},
    {0},
};
