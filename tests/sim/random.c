/* random.c: a life of random requests and cuts. One cycle: serve until a cut
 * or a clean close, then recover and check. */
#include "snapshots.h"

static void
arm(struct life *l)
{
    uint64_t limit = l->steps_typical + l->steps_typical / 3 + 4;

    if (prng_one_in(&l->prng, 4))
        limit = 8;
    simio_arm_cut(l->s, prng_between(&l->prng, 1, limit));
}

static void
learn(struct life *l, uint64_t steps)
{
    l->steps_typical = (l->steps_typical * 3 + steps) / 4;
    if (l->steps_typical < 8)
        l->steps_typical = 8;
}

/* No space on any part for some requests, then there is again: nothing but
 * these requests may have suffered. */
static void
run_full(struct life *l)
{
    uint64_t requests = prng_between(&l->prng, 1, 10);
    int r;

    life_event(l, "full");
    simio_set_full(l->s, true);
    for (uint64_t i = 0; i < requests && !l->failed; i++) {
        if (simio_halted(l->s))
            return;
        life_request(l, true);
    }
    simio_set_full(l->s, false);
    life_event(l, "space again");
    if (simio_halted(l->s) || l->failed)
        return;
    r = lsvd_destage_step(l->v);
    if (r < 0 && !simio_halted(l->s) && life_parts_suffice(l, true))
        life_fail(l, "destage when there is space again: %s", lsvd_error());
}

static void
serve(struct life *l)
{
    static const uint8_t most[] = {2, 10, 30, 80};
    uint64_t requests =
        prng_between(&l->prng, 1, most[prng_below(&l->prng, 4)]);
    bool eventful = !prng_one_in(&l->prng, 3);
    bool full = prng_one_in(&l->prng, 20);
    uint64_t when = prng_below(&l->prng, requests);

    for (uint64_t i = 0; i < requests && !l->failed; i++) {
        if (simio_halted(l->s))
            return;
        if (i == when && full)
            run_full(l);
        else if (eventful && prng_one_in(&l->prng, 6))
            life_parts_event(l);
        else if (eventful && l->policy.mirror && prng_one_in(&l->prng, 5))
            life_mirror_event(l);
        else
            life_request(l, false);
        if (!l->failed && !simio_halted(l->s))
            snapshots_event(l);
        life_mirror_look(l);
    }
}

/* Closed cleanly: is everything where it belongs? */
static void
inspect(struct life *l)
{
    if (l->snapshots_reduced && l->hidden_dirs == 0)
        snapshots_rebuild(l);
    if (!l->snapshots_reduced &&
        (uint32_t)__builtin_popcount(l->hidden_dirs) <=
            life_tolerated(&l->policy))
        snapshots_check(l);
    if (!l->failed && life_parts_all_in_sync(l)) {
        life_mend(l);
        life_verify(l);
        life_rot(l);
    }
}

static void
reopen(struct life *l)
{
    bool quiet = life_parts_all_in_sync(l) && !l->policy.rot;
    int r;

    life_spoil(l);
    l->rules.in_quiet_open = quiet;
    r = life_open(l, 0);
    l->rules.in_quiet_open = false;
    if (r < 0)
        life_fail(l, "open after a clean close: %s", lsvd_error());
    else
        life_check_image(l, "reopened");
}

static void
cycle(struct life *l)
{
    uint64_t steps = simio_get_stats(l->s)->steps;
    bool closed = false;

    if (!prng_one_in(&l->prng, 8))
        arm(l);
    life_mirror_serve(l);
    serve(l);
    if (life_tolerated(&l->policy) > 0 && prng_one_in(&l->prng, 3))
        life_calm(l);
    if (l->failed)
        return;
    if (!simio_halted(l->s) && !prng_one_in(&l->prng, 3)) {
        bool owed = life_parts_suffice(l, true);

        closed = life_close(l) == 0;
        if (!closed && !simio_halted(l->s) && owed)
            life_fail(l, "close: %s", lsvd_error());
    }
    learn(l, simio_get_stats(l->s)->steps - steps);
    /* the cut may have come after all that close had to do */
    simio_arm_cut(l->s, 0);
    if (l->failed)
        return;
    if (closed && !simio_halted(l->s)) {
        simio_set_sick(l->s, NULL, 0);
        l->sick_dirs = l->tampered = 0;
        life_mirror_closed(l);
        model_flushed(l->m); /* a clean close is as good as a flush */
        inspect(l);
        if (l->failed)
            return;
        if (!prng_one_in(&l->prng, 2) && life_parts_all_in_sync(l)) {
            reopen(l);
            return;
        }
        life_crash(l, true);
    } else {
        life_crash(l, !prng_one_in(&l->prng, 4));
    }
    life_recover(l);
}

void
life_run(struct life *l, uint64_t cuts)
{
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open of a new volume: %s", lsvd_error());
    while (!l->failed && l->cuts < cuts)
        cycle(l);
    if (l->failed || !l->v)
        return;
    life_calm(l);
    if (!l->failed && life_close(l) < 0)
        life_fail(l, "last close: %s", lsvd_error());
    life_mend(l);
    life_verify(l);
    snapshots_check(l);
}
