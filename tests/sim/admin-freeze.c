/* admin-freeze.c: snapshots are made, gone back to, removed, shared, and
 * interrupted. */
#include "admin.h"
#include "dedupes.h"
#include "imports.h"
#include "snapshots.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- snapshot ---- */

void
admin_prepare_snapshot(struct life *l)
{
    admin_prepare_volume(l);
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
        int r = admin_once_more(l, snapshots_take_offline);

        if (r < 0 && r != -EEXIST)
            life_fail(l, "snapshot again: %s", lsvd_error());
        l->frozen[0].is_sure = l->number_due = true;
    }
    snapshots_find(l);
    admin_judge(l);
    snapshots_check(l);
    admin_judge(l);
}

int
admin_snapshot_served(struct life *l)
{
    return admin_end_served(l, snapshots_take(l, 3));
}

static void
finish_snapshot_served(struct life *l, int result, bool crashed)
{
    snapshots_find(l);
    admin_after_error(l, result, crashed);
    admin_judge(l);
    snapshots_check(l);
    if (result == 0 && l->frozen_count != 1)
        life_fail(l, "the snapshot is gone");
    admin_judge(l);
}

/* ---- rollback ---- */

void
admin_prepare_rollback(struct life *l)
{
    admin_prepare_snapshot(l);
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

int
admin_rollback(struct life *l)
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
void
admin_finish_rollback(struct life *l, int result, bool crashed)
{
    char discarded[32];

    (void)crashed;
    snprintf(discarded, sizeof discarded, LIFE_VOLUME "@+%u", l->number);
    l->number_due = true;
    snapshots_find(l);
    if (result < 0) {
        if (admin_once_more(l, admin_rollback) < 0)
            life_fail(l, "rollback again: %s", lsvd_error());
        if (lsvd_remove(&l->env, discarded) < 0) /* as lsvd list tells */
            life_event(l, "remove of %s: %s", discarded, lsvd_error());
    }
    l->number_due = true;
    snapshots_find(l);
    model_write_begin(l->m, 0, l->volume_bytes, l->frozen[0].image);
    model_write_end(l->m, true, true);
    admin_judge(l);
    snapshots_check(l);
    check_no_leftovers(l);
}

/* ---- snapshots that go ---- */

/* A volume with what was written since the second of two snapshots. */
void
admin_prepare_two_snapshots(struct life *l)
{
    admin_prepare_volume(l);
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

int
admin_remove_last(struct life *l)
{
    return lsvd_snapshot_remove(&l->env, LIFE_VOLUME "@s1", 0, NULL);
}

int
admin_flatten(struct life *l)
{
    return lsvd_flatten(&l->env, LIFE_VOLUME, 0, NULL);
}

size_t
admin_forget_removed(struct life *l)
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
    there = admin_forget_removed(l);
    snapshots_check(l);
    admin_judge(l);
    snapshots_rebuild(l);
    if (result < 0 && there == 2 &&
        admin_once_more(l, last ? admin_remove_last : act_remove_first) < 0)
        life_fail(l, "remove again: %s", lsvd_error());
    if (!l->failed && admin_forget_removed(l) != 1)
        life_fail(l, "a snapshot that was removed is there");
    admin_judge(l);
    snapshots_check(l);
}

static void
prepare_two_served(struct life *l)
{
    admin_prepare_two_snapshots(l);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
    for (int i = 0; i < 4 && !l->failed; i++)
        life_request(l, false);
}

/* The later one takes what the first one says, while the volume goes on. */
static int
act_merge_served(struct life *l)
{
    return admin_end_served(l, snapshots_remove(l, 0));
}

static void
finish_merge_served(struct life *l, int result, bool crashed)
{
    admin_after_error(l, result, crashed);
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
    return admin_end_served(l, snapshots_dedupe(l, 0));
}

/* Interrupted, it reads as it did; a run that is not has them all. */
static void
finish_dedupe(struct life *l, int result, bool crashed)
{
    struct lsvd_dedupe_report report;

    (void)result;
    (void)crashed;
    snapshots_check(l);
    admin_judge(l);
    snapshots_rebuild(l);
    if (!l->failed && admin_once_more(l, act_dedupe) < 0)
        life_fail(l, "dedupe again: %s", lsvd_error());
    if (!l->failed &&
        dedupes_run_offline(l, LIFE_VOLUME "@s0", &report) < 0)
        life_fail(l, "dedupe once more: %s", lsvd_error());
    if (!l->failed && report.blocks_matched + report.blocks_zero > 0)
        life_fail(l, "a whole run had left %" PRIu64 " blocks",
                  report.blocks_matched + report.blocks_zero);
    snapshots_check(l);
    admin_judge(l);
}

static void
finish_dedupe_served(struct life *l, int result, bool crashed)
{
    admin_after_error(l, result, crashed);
    finish_dedupe(l, result, crashed);
}

int
admin_rename(struct life *l)
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
        r = admin_rename(l);
    if (r < 0 && r != -ENOENT) /* it was done, but for an error */
        life_fail(l, "rename again: %s", lsvd_error());
    if (!l->failed &&
        lsvd_rename(&l->env, OTHER_NAME, LIFE_VOLUME) < 0)
        life_fail(l, "rename back: %s", lsvd_error());
    admin_judge(l);
    snapshots_check(l);
    if (!l->failed && admin_forget_removed(l) != 2)
        life_fail(l, "a snapshot is gone");
}

static void
finish_flatten(struct life *l, int result, bool crashed)
{
    static struct lsvd_info info; /* large */

    (void)crashed;
    snapshots_check(l);
    admin_judge(l);
    if (result < 0) {
        int r = admin_once_more(l, admin_flatten);

        if (r < 0 && r != -EINVAL) /* it has no parent any more */
            life_fail(l, "flatten again: %s", lsvd_error());
    }
    if (lsvd_info(&l->env, LIFE_VOLUME, &info) < 0 || info.parent_number != 0)
        life_fail(l, "it has a parent yet");
    snapshots_check(l);
    admin_judge(l);
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
    admin_prepare_two_snapshots(l);
    if (l->failed)
        return;
    if (imports_keep(l) < 0 || admin_rollback(l) < 0 ||
        admin_remove_last(l) < 0)
        life_fail(l, "stream: %s", lsvd_error());
    holds_frozen(l, 0);
    simio_settle(l->s);
}

static int
act_import_again(struct life *l)
{
    int r = admin_rollback(l);

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
    if (l->frozen[1].is_gone && admin_once_more(l, act_import_again) < 0)
        life_fail(l, "import again: %s", lsvd_error());
    l->frozen[1].is_gone = false;
    l->frozen[1].is_sure = true;
    holds_frozen(l, 1);
    admin_judge(l);
    snapshots_check(l);
}

const struct scenario admin_freezes[] = {
    {"snapshot", admin_always, admin_prepare_snapshot, snapshots_take_offline,
     finish_snapshot, 0},
    {"rollback", admin_always, admin_prepare_rollback, admin_rollback,
     admin_finish_rollback, 0},
    {"remove-snapshot", admin_always, admin_prepare_two_snapshots,
     act_remove_first, finish_remove_snapshot, 0},
    {"remove-last-snapshot", admin_always, admin_prepare_two_snapshots,
     admin_remove_last, finish_remove_snapshot, 0},
    {"rename", admin_always, admin_prepare_two_snapshots, admin_rename,
     finish_rename, 0},
    {"flatten", admin_always, admin_prepare_two_snapshots, admin_flatten,
     finish_flatten, 0},
    {"import", admin_always, prepare_import, imports_apply, finish_import, 0},
    {"merge-served", admin_always, prepare_two_served, act_merge_served,
     finish_merge_served, 0},
    {"snapshot-served", admin_always, admin_prepare_served,
     admin_snapshot_served, finish_snapshot_served, 0},
    {"dedupe-snapshot", admin_always, admin_prepare_two_snapshots, act_dedupe,
     finish_dedupe, SCENARIO_SHARES},
    {"dedupe-snapshot-served", admin_always, prepare_two_served,
     act_dedupe_served, finish_dedupe_served, SCENARIO_SHARES},
    {0},
};
