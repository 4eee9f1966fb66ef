/* random.c: a life of random requests and cuts. One cycle: serve until a cut
 * or a clean close, then recover and check. */
#include "life.h"

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

/* One part dies; what is read must go on being right, and what is written is
 * kept or refused. Only a restart brings it back. */
static void
fall_sick(struct life *l)
{
    uint32_t part = (uint32_t)prng_below(&l->prng, life_parts(&l->policy));
    char path[64];

    life_part_path(l, part, path, sizeof path);
    life_event(l, "part %c dies", (int)('a' + part));
    simio_set_sick(l->s, path);
    l->is_sick = true;
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
    if (r < 0 && !simio_halted(l->s))
        life_fail(l, "destage when there is space again: %s", lsvd_error());
}

static void
serve(struct life *l)
{
    static const uint8_t most[] = {2, 10, 30, 80};
    uint64_t requests =
        prng_between(&l->prng, 1, most[prng_below(&l->prng, 4)]);
    bool sick = l->policy.missing && !l->damaged &&
                life_tolerated(&l->policy) > 0 && prng_one_in(&l->prng, 12);
    bool full = prng_one_in(&l->prng, 20);
    uint64_t when = prng_below(&l->prng, requests);

    for (uint64_t i = 0; i < requests && !l->failed; i++) {
        if (simio_halted(l->s))
            return;
        if (i == when && sick)
            fall_sick(l);
        else if (i == when && full)
            run_full(l);
        else
            life_request(l, l->is_sick);
    }
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
    if (l->failed)
        return;
    if (!simio_halted(l->s) && !prng_one_in(&l->prng, 3)) {
        closed = life_close(l) == 0;
        if (!closed && !simio_halted(l->s) && !l->is_sick)
            life_fail(l, "close: %s", lsvd_error());
    }
    learn(l, simio_get_stats(l->s)->steps - steps);
    /* the cut may have come after all that close had to do */
    simio_arm_cut(l->s, 0);
    if (l->failed)
        return;
    if (closed && !simio_halted(l->s)) {
        simio_set_sick(l->s, NULL);
        l->is_sick = false;
        life_mirror_closed(l);
        model_flushed(l->m); /* a clean close is as good as a flush */
        life_mend(l);
        life_verify(l);
        life_rot(l);
        if (prng_one_in(&l->prng, 2) && !l->failed) {
            life_crash(l, true);
        } else if (!l->failed && life_open(l, 0) < 0) {
            life_fail(l, "open after a clean close: %s", lsvd_error());
        } else if (!l->failed) {
            life_check_image(l, "reopened");
            return;
        }
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
    if (life_close(l) < 0)
        life_fail(l, "last close: %s", lsvd_error());
    life_mend(l);
    life_verify(l);
}
