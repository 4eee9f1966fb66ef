/* admin.c: the calls that make, change, mend and remove volumes, interrupted
 * at each of their steps. Whatever was left, the same call made again must
 * finish the job, and no byte may differ. */
#include "admin.h"
#include "base/memory.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum interruption {
    BY_POWER, BY_KILL, BY_ERROR, BY_MEMORY,
    BY_BOTH, /* an error, and a kill a few steps later */
    INTERRUPTIONS
};

static const char *const interruption_names[INTERRUPTIONS] = {
    "power cut", "kill", "an error", "ENOMEM", "an error and a kill",
};

/* ---- what scenarios are made of ---- */

bool
admin_always(const struct sim_policy *policy)
{
    (void)policy;
    return true;
}

bool
admin_has_redundancy(const struct sim_policy *policy)
{
    return life_tolerated(policy) > 0;
}

void
admin_after_error(struct life *l, int result, bool crashed)
{
    if (result < 0 && !crashed)
        model_crashed(l->m, true);
}

void
admin_judge(struct life *l)
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

void
admin_prepare_nothing(struct life *l)
{
    (void)l;
}

void
admin_prepare_volume(struct life *l)
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

void
admin_prepare_served(struct life *l)
{
    admin_prepare_volume(l);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
    for (int i = 0; i < 6 && !l->failed; i++)
        life_request(l, false);
}

int
admin_whole(struct life *l, int r, const struct lsvd_report *report)
{
    if (r < 0 || report->policy_met)
        return r;
    life_event(l, "done, but the policy is not met");
    return -EIO;
}

int
admin_rebuild(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report = {0};
    int r = lsvd_rebuild(&l->env, LIFE_VOLUME, 0, false, &none, &report);

    return admin_whole(l, r, &report);
}

int
admin_once_more(struct life *l, int (*act)(struct life *l))
{
    int r = act(l);

    if (r < 0 && life_tolerated(&l->policy) > 0 && admin_rebuild(l) == 0)
        r = act(l);
    return r;
}

int
admin_end_served(struct life *l, int r)
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

/* ---- interrupted ---- */

static const struct scenario *const scenarios[] = {
    admin_changes, admin_freezes, admin_seconds, admin_forces,
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

static bool
interrupt(const struct scenario *scenario, const struct sim_policy *policy,
          enum interruption by, uint64_t nth, uint64_t seed, bool *ret_fired)
{
    struct sim_policy all = *policy;
    struct life l;
    bool ok, crashed;
    int r;

    all.dedupe |= scenario->flags & SCENARIO_SHARES;
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
        for (const struct scenario *s = scenarios[i]; s->name; s++) {
            if (strcmp(s->name, scenario) == 0)
                return true;
        }
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

/* One kind that fails; the others may tell more. */
static bool
run_kinds(const struct scenario *scenario, const struct sim_policy *policy,
          uint64_t every, uint64_t seed, uint64_t *ret_cuts)
{
    bool ok = true;

    for (int by = 0; by < INTERRUPTIONS; by++) {
        if (by != BY_BOTH || scenario->flags & SCENARIO_BOTH)
            ok &= run_scenario(scenario, policy, (enum interruption)by, every,
                               seed, ret_cuts);
    }
    return ok;
}

bool
admin_run(const struct sim_policy *policy, const char *name, uint64_t every,
          uint64_t seed, uint64_t *ret_cuts)
{
    bool ok = true;

    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        for (const struct scenario *s = scenarios[i]; s->name; s++) {
            if (s->applies(policy) && (!name || strcmp(name, s->name) == 0))
                ok &= run_kinds(s, policy, every, seed, ret_cuts);
        }
    }
    return ok;
}
