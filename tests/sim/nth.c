/* nth.c: what can fail, fails once: each call of the world with EIO and with
 * ENOSPC, each allocation. The volume may answer with an error or go on; what
 * it may not do is return wrong bytes, or be unwell after a restart. */
#include "life.h"
#include "base/memory.h"
#include <errno.h>
#include <inttypes.h>

#define REQUESTS 14

enum nth_kind { NTH_EIO, NTH_ENOSPC, NTH_MEMORY, NTH_KINDS };

static const char *const kind_names[NTH_KINDS] = {"EIO", "ENOSPC", "ENOMEM"};

static void
arm(struct life *l, enum nth_kind kind, uint64_t nth)
{
    if (kind == NTH_MEMORY)
        mem_fail_after((long)nth - 1);
    else
        simio_arm_failure(l->s, nth, kind == NTH_EIO ? -EIO : -ENOSPC);
}

static bool
disarm(struct life *l, enum nth_kind kind)
{
    bool fired;

    if (kind == NTH_MEMORY)
        return mem_fail_after(-1);
    fired = simio_failure_fired(l->s);
    if (fired) {
        life_event(l, "(it was a %s)",
                   simio_call_name(simio_failure_kind(l->s)));
        /* what it should have made durable is gone, as with the power */
        if (simio_failure_kind(l->s) == SIM_CALL_SYNC)
            model_crashed(l->m, true);
    }
    simio_arm_failure(l->s, 0, 0);
    return fired;
}

static void
some_requests(struct life *l)
{
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open of a new volume: %s", lsvd_error());
    for (int i = 0; i < REQUESTS && !l->failed; i++)
        life_request(l, false);
    if (!l->failed)
        life_crash(l, false);
}

/* Something to recover: writes in the journal, some of them on the parts. away:
 * and a part that has missed some. */
static void
prepare(struct life *l, bool away)
{
    some_requests(l);
    if (!away || l->failed)
        return;
    simio_hide(l->s, l->dir[0], true);
    some_requests(l);
    simio_hide(l->s, l->dir[0], false);
}

/* With the failure armed. Reads are compared as far as they succeed. */
static void
act(struct life *l)
{
    char why[1024];

    if (life_open(l, 0) < 0)
        return;
    if (life_read_image(l) == 0 &&
        !model_check_image(l->m, l->image, why, sizeof why))
        life_fail(l, "recovered: %s", why);
    for (int i = 0; i < REQUESTS && !l->failed; i++)
        life_request(l, true);
    for (int i = 0; i < 4 && !l->failed; i++) {
        lsvd_watch(l->v);
        for (int step = 0; step < 20; step++) {
            if (lsvd_destage_step(l->v) <= 0)
                break;
        }
    }
    for (int i = 0; i < 4 && !l->failed; i++)
        life_request(l, true);
}

/* Block by block: what can be read must be right. */
static void
read_what_can_be_read(struct life *l)
{
    uint64_t step = l->policy.block_bytes;
    char why[1024];

    for (uint64_t at = 0; at < l->volume_bytes && !l->failed; at += step) {
        size_t n = step;

        if (n > l->volume_bytes - at)
            n = l->volume_bytes - at;
        if (lsvd_pread(l->v, l->buffer, n, at) == 0 &&
            !model_check_read(l->m, at, n, l->buffer, why, sizeof why))
            life_fail(l, "after the failure: %s", why);
    }
}

static void
restart(struct life *l)
{
    if (l->v && prng_one_in(&l->prng, 2)) {
        /* an error of close means: the journal has the rest */
        if (life_close(l) == 0)
            model_flushed(l->m);
    }
    if (!l->failed)
        life_crash(l, prng_one_in(&l->prng, 2));
    life_recover(l);
    for (int i = 0; i < 4 && !l->failed; i++)
        life_request(l, false);
    life_calm(l);
    if (!l->failed && life_close(l) < 0)
        life_fail(l, "close after the restart: %s", lsvd_error());
    life_verify(l);
}

static bool
one(const struct sim_policy *policy, enum nth_kind kind, uint64_t nth,
    bool away, uint64_t seed, bool *ret_fired)
{
    struct life l;
    bool ok;

    life_begin(&l, policy, seed, NULL);
    prepare(&l, away);
    *ret_fired = false;
    if (!l.failed) {
        life_event(&l, "%s at number %" PRIu64, kind_names[kind], nth);
        arm(&l, kind, nth);
        act(&l);
        *ret_fired = disarm(&l, kind);
        if (l.v && !l.failed)
            read_what_can_be_read(&l);
        if (!l.failed)
            restart(&l);
    }
    ok = !l.failed;
    if (!ok) {
        life_print_failure(&l, stdout);
        printf("with %s at number %" PRIu64 "%s\n", kind_names[kind], nth,
               away ? ", a part has been away" : "");
    }
    life_end(&l);
    return ok;
}

bool
nth_run(const struct sim_policy *policy, uint64_t every, uint64_t seed,
        uint64_t *ret_failures)
{
    int rounds = life_tolerated(policy) > 0 ? 2 : 1;

    for (int kind = 0; kind < rounds * NTH_KINDS; kind++) {
        bool fired = true;

        for (uint64_t nth = 1 + (seed + (uint64_t)kind) % every; fired;
             nth += every) {
            if (!one(policy, (enum nth_kind)(kind % NTH_KINDS), nth,
                     kind >= NTH_KINDS, seed, &fired))
                return false;
            *ret_failures += fired;
        }
    }
    return true;
}
