/* admin-second.c: what a process that was killed had changed may be in the page
 * cache alone. The next one believes it and goes on; then the power goes. */
#include "admin.h"
#include "snapshots.h"
#include "volume/volume.h"
#include <inttypes.h>
#include <string.h>

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
    admin_after_error(l, result, crashed);
    use_until_cut(l, true);
    admin_judge(l);
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
        admin_finish_create(l, result, crashed);
        return;
    }
    use_until_cut(l, false);
    admin_judge(l);
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
    admin_prepare_volume(l);
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
        admin_finish_rollback(l, result, crashed);
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

/* Interrupted, and its parent removed at once, by what policies say that may be
 * in memory alone; then the power goes. */
static void
finish_let_go(struct life *l, int result, bool crashed)
{
    int r = admin_once_more(l, admin_remove_last);

    (void)result;
    (void)crashed;
    life_event(l, "remove of the parent: %s", r < 0 ? lsvd_error() : "done");
    if (r < 0)
        life_fail(l, "remove: %s", lsvd_error());
    life_crash(l, true);
    if (!l->failed && admin_forget_removed(l) != 1)
        life_fail(l, "a snapshot that was removed is there");
    admin_judge(l);
    snapshots_check(l);
}

const struct scenario admin_seconds[] = {
    {"create-beside", admin_always, prepare_other, life_create,
     finish_create_beside, 0},
    {"use", admin_always, admin_prepare_volume, act_use, finish_use,
     SCENARIO_BOTH},
    {"set-and-clone", admin_always, admin_prepare_volume, act_set_read_only,
     finish_set_read_only, 0},
    {"rollback-and-remove", admin_always, admin_prepare_rollback,
     admin_rollback, finish_discard, 0},
    {"snapshot-alone", admin_has_redundancy, admin_prepare_served,
     admin_snapshot_served, finish_alone, 0},
    {"snapshot-leftover", admin_always, admin_prepare_snapshot,
     snapshots_take_offline, finish_leftover, SCENARIO_BOTH},
    {"rollback-leftover", admin_always, admin_prepare_rollback,
     admin_rollback, finish_leftover, SCENARIO_BOTH},
    {"rename-and-rename", admin_always, prepare_two_volumes, admin_rename,
     finish_rename_other, 0},
    {"flatten-and-remove", admin_always, admin_prepare_two_snapshots,
     admin_flatten, finish_let_go, 0},
    {0},
};
