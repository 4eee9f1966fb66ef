/* admin.c: the calls that make, change, mend and remove volumes, interrupted
 * at each of their steps. Whatever was left, the same call made again must
 * finish the job, and no byte may differ. */
#include "dedupes.h"
#include "imports.h"
#include "snapshots.h"
#include "base/memory.h"
#include "volume/volume.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SPARE_ROOT "/spare"

enum interruption {
    BY_POWER, BY_KILL, BY_ERROR, BY_MEMORY,
    BY_BOTH, /* an error, and a kill a few steps later */
    INTERRUPTIONS
};

static const char *const interruption_names[INTERRUPTIONS] = {
    "power cut", "kill", "an error", "ENOMEM", "an error and a kill",
};

struct scenario {
    const char *name;
    bool (*applies)(const struct sim_policy *policy);
    void (*prepare)(struct life *l);
    int (*act)(struct life *l);
    /* act was interrupted, or returned 0: make it whole and judge */
    void (*finish)(struct life *l, int result, bool crashed);
};

static bool
always(const struct sim_policy *policy)
{
    (void)policy;
    return true;
}

static bool
has_redundancy(const struct sim_policy *policy)
{
    return life_tolerated(policy) > 0;
}

/* The closed volume: opens, holds what it must, closes, verifies. */
static void
judge(struct life *l)
{
    if (l->failed)
        return;
    if (life_open(l, 0) < 0) {
        life_fail(l, "open afterwards: %s", lsvd_error());
        return;
    }
    if (!lsvd_can_write(l->v))
        life_fail(l, "not writable afterwards");
    life_check_image(l, "afterwards");
    for (int i = 0; i < 3 && !l->failed; i++)
        life_request(l, false);
    life_calm(l); /* what was interrupted may have looked like a part failing */
    if (life_close(l) < 0)
        life_fail(l, "close afterwards: %s", lsvd_error());
    model_flushed(l->m);
    life_verify(l);
}

static void
prepare_nothing(struct life *l)
{
    (void)l;
}

/* A volume that was used and closed. */
static void
prepare_volume(struct life *l)
{
    if (life_create(l) < 0 || life_open(l, 0) < 0) {
        life_fail(l, "create: %s", lsvd_error());
        return;
    }
    for (int i = 0; i < 12 && !l->failed; i++)
        life_request(l, false);
    if (life_close(l) < 0)
        life_fail(l, "close: %s", lsvd_error());
    model_flushed(l->m);
    simio_settle(l->s);
}

/* ---- create ---- */

static void
finish_create(struct life *l, int result, bool crashed)
{
    int r = result == 0 && !crashed ? 0 : life_create(l);

    life_event(l, "create again: %s", r < 0 ? lsvd_error() : "done");
    if (r == -EEXIST && !crashed)
        life_fail(l, "a create that failed left a volume");
    else if (result == 0 && crashed && r != -EEXIST)
        life_fail(l, "a volume that was made is gone");
    else if (r < 0 && r != -EEXIST)
        life_fail(l, "create again: %s", lsvd_error());
    judge(l);
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

static int act_rebuild(struct life *l);

/* An error on a part may have cost it its place: a person would rebuild it
 * first. */
static int
once_more(struct life *l, int (*act)(struct life *l))
{
    int r = act(l);

    if (r < 0 && life_tolerated(&l->policy) > 0 && act_rebuild(l) == 0)
        r = act(l);
    return r;
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
    judge(l);
    (void)crashed;
    if (!l->failed && once_more(l, act_grow) < 0)
        life_fail(l, "resize again: %s", lsvd_error());
    check_tail(l);
    judge(l);
}

/* ---- the same while it serves ---- */

#define MARK_BYTES 3000u /* written behind the old end, from there on */
#define MARK 0x6d

static bool mark_is_answered; /* with FUA */

static void
prepare_served(struct life *l)
{
    mark_is_answered = false;
    prepare_volume(l);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
    for (int i = 0; i < 6 && !l->failed; i++)
        life_request(l, false);
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

    if (result < 0 && !crashed) /* a sync that failed is as a power cut */
        model_crashed(l->m, true);
    if (lsvd_info(&l->env, LIFE_VOLUME, &info) < 0)
        life_fail(l, "info: %s", lsvd_error());
    else if (info.size_bytes != grown(l) &&
             (info.size_bytes != l->volume_bytes || result == 0 ||
              mark_is_answered))
        life_fail(l, "size %" PRIu64 " after a resize", info.size_bytes);
    judge(l);
    if (!l->failed && once_more(l, act_grow) < 0)
        life_fail(l, "resize again: %s", lsvd_error());
    check_mark(l);
    judge(l);
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
    prepare_volume(l);
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
    if (result < 0 && once_more(l, act_shrink) < 0) {
        life_fail(l, "resize again: %s", lsvd_error());
        return;
    }
    model_write_begin(l->m, shrunk(l), l->volume_bytes - shrunk(l), NULL);
    model_write_end(l->m, true, true);
    judge(l);
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
    judge(l);
}

/* ---- rebuild and replace ---- */

static void
delete_some(struct life *l)
{
    char dir[64], path[400];
    char **names;

    prepare_volume(l);
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

/* A source that could not be read for a moment is no error of the call: the
 * report tells that it has to be done again. */
static int
whole(struct life *l, int r, const struct lsvd_report *report)
{
    if (r < 0 || report->policy_met)
        return r;
    life_event(l, "done, but the policy is not met");
    return -EIO;
}

static int
act_rebuild(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report = {0};
    int r = lsvd_rebuild(&l->env, LIFE_VOLUME, 0, false, &none, &report);

    return whole(l, r, &report);
}

static void
finish_rebuild(struct life *l, int result, bool crashed)
{
    (void)crashed;
    if (result < 0 && act_rebuild(l) < 0)
        life_fail(l, "rebuild again: %s", lsvd_error());
    life_verify(l);
    judge(l);
}

/* Part a has missed what was written. */
static void
prepare_stale(struct life *l)
{
    prepare_volume(l);
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
    prepare_volume(l);
    simio_make_dir(l->s, SPARE_ROOT);
}

static int
act_replace(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report = {0};
    int r = lsvd_replace(&l->env, LIFE_VOLUME, 'a', SPARE_ROOT, &none,
                         &report);

    return whole(l, r, &report);
}

/* However far it came: what a person would do next mends it. */
static void
finish_replace(struct life *l, int result, bool crashed)
{
    (void)crashed;
    if (result < 0 && act_replace(l) < 0) {
        life_event(l, "replace again: %s", lsvd_error());
        if (act_rebuild(l) < 0)
            life_fail(l, "neither replace nor rebuild: %s", lsvd_error());
    }
    life_verify(l);
    judge(l);
}

/* ---- snapshot ---- */

static void
prepare_snapshot(struct life *l)
{
    prepare_volume(l);
    if (l->failed)
        return;
    if (life_open(l, 0) < 0 || !snapshots_note(l) || life_close(l) < 0)
        life_fail(l, "image: %s", lsvd_error());
    simio_settle(l->s);
}

static void
finish_snapshot(struct life *l, int result, bool crashed)
{
    snapshots_find(l);
    (void)crashed;
    if (result < 0) {
        int r = once_more(l, snapshots_take_offline);

        if (r < 0 && r != -EEXIST)
            life_fail(l, "snapshot again: %s", lsvd_error());
        l->frozen[0].is_sure = l->number_due = true;
    }
    snapshots_find(l);
    judge(l);
    snapshots_check(l);
    judge(l);
}

/* More requests, then the server ends. r: of what was done. */
static int
end_served(struct life *l, int r)
{
    int closed;

    for (int i = 0; i < 4 && r == 0 && !l->failed; i++)
        life_request(l, true);
    if (simio_halted(l->s)) {
        lsvd_abandon(l->v);
        l->v = NULL;
        return r < 0 ? r : -EIO;
    }
    closed = life_close(l);
    return r < 0 ? r : closed;
}

static int
act_snapshot_served(struct life *l)
{
    return end_served(l, snapshots_take(l, 3));
}

static void
finish_snapshot_served(struct life *l, int result, bool crashed)
{
    snapshots_find(l);
    if (result < 0 && !crashed) /* a sync that failed is as a power cut */
        model_crashed(l->m, true);
    judge(l);
    snapshots_check(l);
    if (result == 0 && l->frozen_count != 1)
        life_fail(l, "the snapshot is gone");
    judge(l);
}

/* ---- what was killed may be in memory alone ---- */

#define OTHER_NAME "w"

static struct lsvd_info info; /* large */

/* A volume is used; interrupted, by the next process, too; then the power goes.
 */
static int
act_use(struct life *l)
{
    int r = life_open(l, 0);

    if (r < 0)
        return r;
    for (int i = 0; i < 14 && !l->failed && !simio_halted(l->s); i++)
        life_request(l, true);
    if (!simio_halted(l->s))
        return life_close(l);
    lsvd_abandon(l->v);
    l->v = NULL;
    return -EIO;
}

/* perhaps: within that, too */
static void
use_until_cut(struct life *l, bool perhaps)
{
    if (perhaps && prng_one_in(&l->prng, 2))
        simio_arm_cut(l->s, 1 + prng_below(&l->prng, 200));
    if (life_open(l, 0) == 0) {
        life_check_image(l, "in between");
        for (int i = 0; i < 4 && !l->failed && !simio_halted(l->s); i++)
            life_request(l, true);
        if (!simio_halted(l->s) && lsvd_flush(l->v) == 0)
            model_flushed(l->m);
    } else if (!simio_halted(l->s)) {
        life_fail(l, "open: %s", lsvd_error());
    }
    simio_arm_cut(l->s, 0);
    life_crash(l, true);
}

static void
finish_use(struct life *l, int result, bool crashed)
{
    if (result < 0 && !crashed) /* a sync that failed is as a power cut */
        model_crashed(l->m, true);
    use_until_cut(l, true);
    judge(l);
}

/* One more of the same shape and places, if it has no parent. */
static int
make_other(struct life *l, const char *name, const char *parent)
{
    struct lsvd_create_part part[LIFE_PARTS_MAX];
    struct lsvd_create spec = {
        .name = name,
        .parent = parent,
        .journal_bytes = 1u << 20,
    };

    for (uint32_t i = 0; i < life_parts(&l->policy); i++)
        part[i] = (struct lsvd_create_part){(char)('a' + i), l->root[i]};
    if (!l->one_root) {
        spec.parts = part;
        spec.part_count = life_parts(&l->policy);
    }
    if (!parent) {
        spec.size_bytes = spec.chunk_bytes = LIFE_CHUNK_BYTES;
        spec.block_bytes = l->policy.block_bytes;
        spec.replicas = l->policy.replicas;
        spec.ec_data = l->policy.ec_data;
        spec.ec_parity = l->policy.ec_parity;
    }
    return lsvd_create(&l->env, &spec);
}

static void
prepare_other(struct life *l)
{
    if (make_other(l, "other", NULL) < 0)
        life_fail(l, "create: %s", lsvd_error());
    l->number = 12;
    simio_settle(l->s);
}

/* If it is in sight it is used. */
static void
finish_create_beside(struct life *l, int result, bool crashed)
{
    if (lsvd_info(&l->env, LIFE_VOLUME, &info) < 0) {
        finish_create(l, result, crashed);
        return;
    }
    use_until_cut(l, false);
    judge(l);
}

static int
act_set_read_only(struct life *l)
{
    return lsvd_set(&l->env, LIFE_VOLUME, "read-only", "on");
}

/* What looks read-only gets a clone. */
static void
finish_set_read_only(struct life *l, int result, bool crashed)
{
    int r = make_other(l, "clone", LIFE_VOLUME);
    struct lsvd_volume *v;

    (void)result;
    (void)crashed;
    life_event(l, "clone: %s", r < 0 ? lsvd_error() : "made");
    life_crash(l, true);
    if (r < 0 || l->failed)
        return;
    r = lsvd_open(&l->env, "clone", 0, &v);
    if (r < 0)
        life_fail(l, "open of the clone: %s", lsvd_error());
    else if (lsvd_close(v) < 0)
        life_fail(l, "close of the clone: %s", lsvd_error());
}

static void
prepare_two_volumes(struct life *l)
{
    prepare_other(l);
    prepare_volume(l);
}

/* Another one gets the name that it has given away. */
static void
finish_rename_other(struct life *l, int result, bool crashed)
{
    static const char *const names[] = {LIFE_VOLUME, OTHER_NAME, "other"};
    int r = lsvd_rename(&l->env, "other", LIFE_VOLUME), found = 0;

    (void)result;
    (void)crashed;
    life_event(l, "rename of the other: %s", r < 0 ? lsvd_error() : "done");
    life_crash(l, true);
    for (int i = 0; i < 3; i++)
        found += lsvd_info(&l->env, names[i], &info) == 0;
    if (found != 2)
        life_fail(l, "%d of 2 volumes are found", found);
}

/* ---- rollback ---- */

static void
prepare_rollback(struct life *l)
{
    prepare_snapshot(l);
    if (l->failed)
        return;
    if (snapshots_take_offline(l) < 0)
        life_fail(l, "snapshot: %s", lsvd_error());
    snapshots_find(l);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
    for (int i = 0; i < 8 && !l->failed; i++)
        life_request(l, false);
    if (!l->failed && life_close(l) < 0)
        life_fail(l, "close: %s", lsvd_error());
    model_flushed(l->m);
    simio_settle(l->s);
}

static int
act_rollback(struct life *l)
{
    return lsvd_snapshot_rollback(&l->env, LIFE_VOLUME "@s0");
}

static int
count_volume(void *ctx, const struct lsvd_listed *volume)
{
    (void)volume;
    ++*(int *)ctx;
    return 0;
}

static void
check_no_leftovers(struct life *l)
{
    int count = 0;

    if (lsvd_list(&l->env, count_volume, &count) < 0)
        life_fail(l, "list: %s", lsvd_error());
    else if (count != 2)
        life_fail(l, "%d volumes after a rollback", count);
}

/* Interrupted, it holds either; called again, what was frozen. */
static void
finish_rollback(struct life *l, int result, bool crashed)
{
    char discarded[32];

    (void)crashed;
    snprintf(discarded, sizeof discarded, LIFE_VOLUME "@+%u", l->number);
    l->number_due = true;
    snapshots_find(l);
    if (result < 0) {
        if (once_more(l, act_rollback) < 0)
            life_fail(l, "rollback again: %s", lsvd_error());
        if (lsvd_remove(&l->env, discarded) < 0) /* as lsvd list tells */
            life_event(l, "remove of %s: %s", discarded, lsvd_error());
    }
    l->number_due = true;
    snapshots_find(l);
    model_write_begin(l->m, 0, l->volume_bytes, l->frozen[0].image);
    model_write_end(l->m, true, true);
    judge(l);
    snapshots_check(l);
    check_no_leftovers(l);
}

/* Interrupted, and what it discarded removed at once; then the power goes. */
static void
finish_discard(struct life *l, int result, bool crashed)
{
    char discarded[32];
    int r;

    snprintf(discarded, sizeof discarded, LIFE_VOLUME "@+%u", l->number);
    r = lsvd_remove(&l->env, discarded);
    life_event(l, "remove of %s: %s", discarded, r < 0 ? lsvd_error()
                                                       : "done");
    life_crash(l, true);
    l->number_due = true;
    if (!l->failed)
        finish_rollback(l, result, crashed);
}

/* What was not made, as it seems, is removed by hand; then the power goes. */
static void
finish_leftover(struct life *l, int result, bool crashed)
{
    char name[32];
    int r;

    (void)result;
    (void)crashed;
    snprintf(name, sizeof name, LIFE_VOLUME "@+%u", l->number + 1);
    r = lsvd_remove(&l->env, name);
    life_event(l, "remove of %s: %s", name, r < 0 ? lsvd_error() : "done");
    life_crash(l, true);
    if (!l->failed && lsvd_info(&l->env, LIFE_VOLUME, &info) < 0)
        life_fail(l, "info: %s", lsvd_error());
}

/* After the next start each of its parts must do (SN2), or as many as have the
 * data. */
static void
finish_alone(struct life *l, int result, bool crashed)
{
    struct lsvd_volume *v;
    char path[64];
    bool whole; /* an error has cost it no part */

    (void)result;
    (void)crashed;
    l->number_due = true;
    snapshots_find(l);
    if (l->failed || life_open(l, 0) < 0 || life_close(l) < 0 ||
        lsvd_open(&l->env, LIFE_VOLUME "@s0", LSVD_OPEN_READ_ONLY, &v) < 0)
        return; /* other scenarios judge that */
    whole = v->usable == (1u << life_parts(&l->policy)) - 1;
    (void)lsvd_close(v);
    for (uint32_t i = 0; whole && i < life_parts(&l->policy) && !l->failed;
         i++) {
        snprintf(path, sizeof path, "%s/11/%c",
                 l->one_root ? "/data" : l->root[i], (char)('a' + i));
        simio_hide(l->s, path, true);
        if (lsvd_open(&l->env, LIFE_VOLUME "@s0", LSVD_OPEN_READ_ONLY, &v) < 0)
            life_fail(l, "s0 without part %c: %s", (char)('a' + i),
                      lsvd_error());
        else
            (void)lsvd_close(v);
        simio_hide(l->s, path, false);
    }
}

/* ---- snapshots that go ---- */

/* A volume with what was written since the second of two snapshots. */
static void
prepare_two_snapshots(struct life *l)
{
    prepare_volume(l);
    for (int i = 0; i < 2 && !l->failed; i++) {
        if (life_open(l, 0) < 0 || snapshots_take(l, 4) < 0) {
            life_fail(l, "snapshot: %s", lsvd_error());
            return;
        }
        snapshots_find(l);
        for (int n = 0; n < 4 && !l->failed; n++)
            life_request(l, false);
        if (life_close(l) < 0)
            life_fail(l, "close: %s", lsvd_error());
    }
    model_flushed(l->m);
    simio_settle(l->s);
}

static int
act_remove_first(struct life *l)
{
    return lsvd_snapshot_remove(&l->env, LIFE_VOLUME "@s0", 0, NULL);
}

static int
act_remove_last(struct life *l)
{
    return lsvd_snapshot_remove(&l->env, LIFE_VOLUME "@s1", 0, NULL);
}

static int
act_flatten(struct life *l)
{
    return lsvd_flatten(&l->env, LIFE_VOLUME, 0, NULL);
}

/* How many snapshots are there yet? */
static size_t
forget_removed(struct life *l)
{
    struct lsvd_volume *v;
    size_t there = 0;

    for (size_t i = 0; i < l->frozen_count; i++) {
        char name[32];
        int r;

        snprintf(name, sizeof name, LIFE_VOLUME "@s%zu", i);
        r = lsvd_open(&l->env, name, LSVD_OPEN_READ_ONLY, &v);
        if (r == 0)
            lsvd_abandon(v);
        l->frozen[i].is_gone = r == -ENOENT;
        there += r != -ENOENT;
    }
    return there;
}

/* Interrupted, it may be there or not, and what is there is right. */
static void
finish_remove_snapshot(struct life *l, int result, bool crashed)
{
    bool last = strcmp(l->scenario, "remove-last-snapshot") == 0;
    size_t there;

    (void)crashed;
    there = forget_removed(l);
    snapshots_check(l);
    judge(l);
    snapshots_rebuild(l);
    if (result < 0 && there == 2 &&
        once_more(l, last ? act_remove_last : act_remove_first) < 0)
        life_fail(l, "remove again: %s", lsvd_error());
    if (!l->failed && forget_removed(l) != 1)
        life_fail(l, "a snapshot that was removed is there");
    judge(l);
    snapshots_check(l);
}

static void
prepare_two_served(struct life *l)
{
    prepare_two_snapshots(l);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
    for (int i = 0; i < 4 && !l->failed; i++)
        life_request(l, false);
}

/* The later one takes what the first one says, while the volume goes on. */
static int
act_merge_served(struct life *l)
{
    return end_served(l, snapshots_remove(l, 0));
}

static void
finish_merge_served(struct life *l, int result, bool crashed)
{
    if (result < 0 && !crashed) /* a sync that failed is as a power cut */
        model_crashed(l->m, true);
    finish_remove_snapshot(l, result, crashed);
}

/* ---- snapshots that share blocks ---- */

static int
act_dedupe(struct life *l)
{
    struct lsvd_dedupe_report report;

    return dedupes_run_offline(l, LIFE_VOLUME "@s0", &report);
}

static int
act_dedupe_served(struct life *l)
{
    return end_served(l, snapshots_dedupe(l, 0));
}

/* Interrupted, it reads as it did; a run that is not has them all. */
static void
finish_dedupe(struct life *l, int result, bool crashed)
{
    struct lsvd_dedupe_report report;

    (void)result;
    (void)crashed;
    snapshots_check(l);
    judge(l);
    snapshots_rebuild(l);
    if (!l->failed && once_more(l, act_dedupe) < 0)
        life_fail(l, "dedupe again: %s", lsvd_error());
    if (!l->failed &&
        dedupes_run_offline(l, LIFE_VOLUME "@s0", &report) < 0)
        life_fail(l, "dedupe once more: %s", lsvd_error());
    if (!l->failed && report.blocks_matched + report.blocks_zero > 0)
        life_fail(l, "a whole run had left %" PRIu64 " blocks",
                  report.blocks_matched + report.blocks_zero);
    snapshots_check(l);
    judge(l);
}

static void
finish_dedupe_served(struct life *l, int result, bool crashed)
{
    if (result < 0 && !crashed) /* a sync that failed is as a power cut */
        model_crashed(l->m, true);
    finish_dedupe(l, result, crashed);
}

static int
act_rename(struct life *l)
{
    return lsvd_rename(&l->env, LIFE_VOLUME, OTHER_NAME);
}

/* Called again it is done; and back again, so that all is found. */
static void
finish_rename(struct life *l, int result, bool crashed)
{
    int r = result;

    (void)crashed;
    if (result < 0)
        r = act_rename(l);
    if (r < 0 && r != -ENOENT) /* it was done, but for an error */
        life_fail(l, "rename again: %s", lsvd_error());
    if (!l->failed &&
        lsvd_rename(&l->env, OTHER_NAME, LIFE_VOLUME) < 0)
        life_fail(l, "rename back: %s", lsvd_error());
    judge(l);
    snapshots_check(l);
    if (!l->failed && forget_removed(l) != 2)
        life_fail(l, "a snapshot is gone");
}

static void
finish_flatten(struct life *l, int result, bool crashed)
{
    (void)crashed;
    snapshots_check(l);
    judge(l);
    if (result < 0) {
        int r = once_more(l, act_flatten);

        if (r < 0 && r != -EINVAL) /* it has no parent any more */
            life_fail(l, "flatten again: %s", lsvd_error());
    }
    if (lsvd_info(&l->env, LIFE_VOLUME, &info) < 0 || info.parent_number != 0)
        life_fail(l, "it has a parent yet");
    snapshots_check(l);
    judge(l);
}

/* Interrupted, and its parent removed at once, by what policies say that may be
 * in memory alone; then the power goes. */
static void
finish_let_go(struct life *l, int result, bool crashed)
{
    int r = once_more(l, act_remove_last);

    (void)result;
    (void)crashed;
    life_event(l, "remove of the parent: %s", r < 0 ? lsvd_error() : "done");
    if (r < 0)
        life_fail(l, "remove: %s", lsvd_error());
    life_crash(l, true);
    if (!l->failed && forget_removed(l) != 1)
        life_fail(l, "a snapshot that was removed is there");
    judge(l);
    snapshots_check(l);
}

/* ---- import ---- */

static void
holds_frozen(struct life *l, size_t nth)
{
    l->number_due = true;
    snapshots_find(l);
    model_write_begin(l->m, 0, l->volume_bytes, l->frozen[nth].image);
    model_write_end(l->m, true, true);
}

/* The volume is at the first snapshot, and a stream leads to the second, which
 * is not there any more. */
static void
prepare_import(struct life *l)
{
    prepare_two_snapshots(l);
    if (l->failed)
        return;
    if (imports_keep(l) < 0 || act_rollback(l) < 0 || act_remove_last(l) < 0)
        life_fail(l, "stream: %s", lsvd_error());
    holds_frozen(l, 0);
    simio_settle(l->s);
}

static int
act_import_again(struct life *l)
{
    int r = act_rollback(l);

    return r < 0 ? r : imports_apply(l);
}

/* Interrupted, the second snapshot is there, and right, or it is not. If it
 * could say so, the volume is at the first one, or has a part of the stream. */
static void
finish_import(struct life *l, int result, bool crashed)
{
    l->frozen[1].is_gone = false;
    l->frozen[1].is_sure = result == 0;
    l->number_due = true;
    snapshots_check(l);
    if (l->failed)
        return;
    if (l->frozen[1].is_gone && !crashed && !imports_left_some()) {
        holds_frozen(l, 0);
        if (life_open(l, 0) < 0)
            life_fail(l, "open: %s", lsvd_error());
        life_check_image(l, "after an import that failed");
        if (!l->failed && life_close(l) < 0)
            life_fail(l, "close: %s", lsvd_error());
    }
    if (l->frozen[1].is_gone && once_more(l, act_import_again) < 0)
        life_fail(l, "import again: %s", lsvd_error());
    l->frozen[1].is_gone = false;
    l->frozen[1].is_sure = true;
    holds_frozen(l, 1);
    judge(l);
    snapshots_check(l);
}

static const struct scenario scenarios[] = {
    {"create", always, prepare_nothing, life_create, finish_create},
    {"create-beside", always, prepare_other, life_create,
     finish_create_beside},
    {"use", always, prepare_volume, act_use, finish_use},
    {"set-and-clone", always, prepare_volume, act_set_read_only,
     finish_set_read_only},
    {"grow", always, prepare_volume, act_grow, finish_grow},
    {"grow-served", always, prepare_served, act_grow_served,
     finish_grow_served},
    {"grow-degraded", starts_without_one, prepare_degraded, act_grow_served,
     finish_grow_degraded},
    {"shrink", always, prepare_volume, act_shrink, finish_shrink},
    {"remove", always, prepare_volume, act_remove, finish_remove},
    {"rebuild", has_redundancy, delete_some, act_rebuild, finish_rebuild},
    {"rebuild-stale", has_redundancy, prepare_stale, act_rebuild,
     finish_rebuild},
    {"replace", has_redundancy, prepare_replace, act_replace, finish_replace},
    {"snapshot", always, prepare_snapshot, snapshots_take_offline,
     finish_snapshot},
    {"rollback", always, prepare_rollback, act_rollback, finish_rollback},
    {"rollback-and-remove", always, prepare_rollback, act_rollback,
     finish_discard},
    {"remove-snapshot", always, prepare_two_snapshots, act_remove_first,
     finish_remove_snapshot},
    {"remove-last-snapshot", always, prepare_two_snapshots, act_remove_last,
     finish_remove_snapshot},
    {"snapshot-alone", has_redundancy, prepare_served, act_snapshot_served,
     finish_alone},
    {"snapshot-leftover", always, prepare_snapshot, snapshots_take_offline,
     finish_leftover},
    {"rollback-leftover", always, prepare_rollback, act_rollback,
     finish_leftover},
    {"rename-and-rename", always, prepare_two_volumes, act_rename,
     finish_rename_other},
    {"rename", always, prepare_two_snapshots, act_rename, finish_rename},
    {"flatten", always, prepare_two_snapshots, act_flatten, finish_flatten},
    {"flatten-and-remove", always, prepare_two_snapshots, act_flatten,
     finish_let_go},
    {"import", always, prepare_import, imports_apply, finish_import},
    {"merge-served", always, prepare_two_served, act_merge_served,
     finish_merge_served},
    {"snapshot-served", always, prepare_served, act_snapshot_served,
     finish_snapshot_served},
    {"dedupe-snapshot", always, prepare_two_snapshots, act_dedupe,
     finish_dedupe},
    {"dedupe-snapshot-served", always, prepare_two_served, act_dedupe_served,
     finish_dedupe_served},
};

static void
arm(struct life *l, enum interruption by, uint64_t nth)
{
    switch (by) {
    case BY_POWER:
    case BY_KILL:
        simio_arm_cut(l->s, nth);
        break;
    case BY_BOTH:
        simio_halt_after_failure(l->s, 1 + prng_below(&l->prng, 8));
        simio_arm_failure(l->s, nth, -EIO);
        break;
    case BY_ERROR: /* which: by the seed */
        simio_arm_failure(l->s, nth, prng_one_in(&l->prng, 3) ? -ENOSPC
                                                              : -EIO);
        break;
    case BY_MEMORY:
        mem_fail_after((long)nth - 1);
        break;
    case INTERRUPTIONS:
        assert(false);
    }
}

static bool
disarm(struct life *l, enum interruption by)
{
    bool fired = false;

    if (by == BY_MEMORY) {
        fired = mem_fail_after(-1);
    } else if (by == BY_ERROR || by == BY_BOTH) {
        fired = simio_failure_fired(l->s);
        if (fired)
            life_event(l, "(it was a %s)",
                       simio_call_name(simio_failure_kind(l->s)));
        simio_arm_failure(l->s, 0, 0);
        simio_halt_after_failure(l->s, 0);
        simio_arm_cut(l->s, 0);
    } else {
        fired = simio_halted(l->s);
        simio_arm_cut(l->s, 0);
    }
    return fired;
}

/* Has it a twin (dedupes.h)? */
static bool
shares_blocks(const struct scenario *scenario)
{
    return scenario->act == act_dedupe || scenario->act == act_dedupe_served;
}

/* Does its end judge what is left then? */
static bool
bears_both(const struct scenario *scenario)
{
    return scenario->finish == finish_use ||
           scenario->finish == finish_leftover;
}

static bool
interrupt(const struct scenario *scenario, const struct sim_policy *policy,
          enum interruption by, uint64_t nth, uint64_t seed, bool *ret_fired)
{
    struct sim_policy all = *policy;
    struct life l;
    bool ok, crashed;
    int r;

    all.dedupe |= shares_blocks(scenario);
    life_begin_empty(&l, &all, prng_mix(seed + nth % 7));
    scenario->prepare(&l);
    *ret_fired = false;
    if (!l.failed) {
        l.scenario = scenario->name;
        life_event(&l, "%s, %s at %" PRIu64, scenario->name,
                   interruption_names[by], nth);
        arm(&l, by, nth);
        r = scenario->act(&l);
        life_event(&l, "    -> %s", r < 0 ? lsvd_error() : "done");
        *ret_fired = disarm(&l, by);
        life_check_handles(&l, scenario->name);
        crashed = simio_halted(l.s);
        if (!l.failed && crashed)
            life_crash(&l, by == BY_POWER);
        if (!l.failed && crashed && by == BY_BOTH)
            model_crashed(l.m, true); /* a sync may have failed */
        if (!l.failed && r < 0 && !*ret_fired)
            life_fail(&l, "%s fails by itself: %s", scenario->name,
                      lsvd_error());
        if (!l.failed)
            scenario->finish(&l, r, crashed);
    }
    ok = !l.failed;
    if (!ok) {
        life_print_failure(&l, stdout);
        printf("in %s, with %s at number %" PRIu64 "\n", scenario->name,
               interruption_names[by], nth);
    }
    life_end(&l);
    return ok;
}

bool
admin_knows(const char *scenario)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, scenario) == 0)
            return true;
    }
    return false;
}

/* Interrupted so, at every step until it is not any more; or, of each `every`
 * steps, at one. */
static bool
run_scenario(const struct scenario *scenario, const struct sim_policy *policy,
             enum interruption by, uint64_t every, uint64_t seed,
             uint64_t *ret_cuts)
{
    bool fired = true;

    for (uint64_t nth = 1 + (seed + (uint64_t)by) % every; fired;
         nth += every) {
        if (!interrupt(scenario, policy, by, nth, seed, &fired))
            return false;
        *ret_cuts += fired;
    }
    return true;
}

bool
admin_run(const struct sim_policy *policy, const char *name, uint64_t every,
          uint64_t seed, uint64_t *ret_cuts)
{
    bool ok = true;

    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        const struct scenario *s = &scenarios[i];

        if (!s->applies(policy) || (name && strcmp(name, s->name) != 0))
            continue;
        /* one kind that fails; the others may tell more */
        for (int by = 0; by < INTERRUPTIONS - !bears_both(s); by++)
            ok &= run_scenario(s, policy, (enum interruption)by, every, seed,
                               ret_cuts);
    }
    return ok;
}
