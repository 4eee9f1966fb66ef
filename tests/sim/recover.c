/* recover.c: after a crash: open again and again, cut again, with parts away,
 * until the volume serves and holds what it may hold. */
#include "life.h"
#include <inttypes.h>

static void
hide(struct life *l, uint32_t part, bool hidden)
{
    char path[64];

    life_part_path(l, part, path, sizeof path);
    simio_hide(l->s, path, hidden);
}

static uint32_t
count_bits(uint32_t set)
{
    return (uint32_t)__builtin_popcount(set);
}

static uint32_t
choose_missing(struct life *l)
{
    uint32_t parts = life_parts(&l->policy);
    uint32_t count = (uint32_t)prng_between(&l->prng, 1,
                                            life_tolerated(&l->policy));
    uint32_t set = 0;

    while (count_bits(set) < count)
        set |= 1u << prng_below(&l->prng, parts);
    return set;
}

/* A request that must be refused while parts are away. */
static void
check_refuses_writes(struct life *l)
{
    uint8_t byte = 1;

    if (lsvd_can_write(l->v))
        life_fail(l, "writable with parts away");
    else if (lsvd_pwrite(l->v, &byte, 1, 0, 0) == 0)
        life_fail(l, "a write was taken with parts away");
    else if (lsvd_trim(l->v, l->volume_bytes, 0, 0) == 0)
        life_fail(l, "a trim was taken with parts away");
}

/* Read with parts away; what was read must be what stays. May end in a crash
 * of its own. */
static void
serve_degraded(struct life *l, uint32_t set)
{
    for (uint32_t i = 0; i < LIFE_PARTS_MAX; i++) {
        if (set & 1u << i)
            hide(l, i, true);
    }
    life_mirror_before_reading(l);
    life_event(l, "parts %#x away", set);
    if (prng_one_in(&l->prng, 3))
        simio_arm_cut(l->s, prng_between(&l->prng, 1, 12));
    if (life_open(l, prng_one_in(&l->prng, 4) ? LSVD_OPEN_READ_ONLY : 0) < 0) {
        if (!simio_halted(l->s))
            life_fail(l, "open with parts %#x away: %s", set, lsvd_error());
    } else {
        life_check_image(l, "degraded");
        if (!l->failed && !simio_halted(l->s)) {
            check_refuses_writes(l);
            l->degraded++;
        }
    }
    if (!l->failed && !simio_halted(l->s) && prng_one_in(&l->prng, 2)) {
        if (life_close(l) < 0 && !simio_halted(l->s))
            life_fail(l, "close with parts away: %s", lsvd_error());
    }
    simio_arm_cut(l->s, 0);
    if (l->v || simio_halted(l->s))
        life_crash(l, prng_one_in(&l->prng, 2));
    for (uint32_t i = 0; i < LIFE_PARTS_MAX; i++) {
        if (set & 1u << i)
            hide(l, i, false);
    }
    life_event(l, "parts back");
}

void
life_recover(struct life *l)
{
    while (!l->failed) {
        bool missing = l->policy.missing && life_tolerated(&l->policy) > 0;

        life_rot_crashed(l);
        if (l->damaged) /* that is all it can bear */
            missing = false;
        if (missing && prng_one_in(&l->prng, 3)) {
            serve_degraded(l, choose_missing(l));
            continue;
        }
        if (prng_one_in(&l->prng, 4))
            simio_arm_cut(l->s, prng_between(&l->prng, 1, 30));
        life_mirror_before_open(l);
        if (life_open(l, 0) < 0) {
            if (life_mirror_after_open(l, false)) {
                simio_arm_cut(l->s, 0);
                continue;
            }
            if (!simio_halted(l->s)) {
                life_fail(l, "open after a crash: %s", lsvd_error());
                return;
            }
            life_crash(l, !prng_one_in(&l->prng, 4));
            continue;
        }
        life_mirror_after_open(l, true);
        if (simio_halted(l->s)) { /* a part that failed was let go */
            life_crash(l, !prng_one_in(&l->prng, 4));
            continue;
        }
        simio_arm_cut(l->s, 0);
        if (!lsvd_can_write(l->v)) {
            life_fail(l, "not writable after a crash, all parts there");
            return;
        }
        life_check_image(l, "recovered");
        l->recoveries++;
        return;
    }
}

static void
on_finding(void *ctx, const struct lsvd_finding *f)
{
    life_event(ctx, "    finding: part %c chunk %" PRIu64 " kind %d: %s",
               f->part, f->chunk, (int)f->kind, f->text ? f->text : "");
}

void
life_verify(struct life *l)
{
    struct lsvd_repair_callbacks cb = {.finding = on_finding, .ctx = l};
    struct lsvd_report report;
    uint64_t bad = 0;
    int r;

    if (l->failed)
        return;
    r = lsvd_verify(&l->env, LIFE_VOLUME, true, &cb, &report);
    l->verifies++;
    if (r < 0) {
        life_fail(l, "verify: %s", lsvd_error());
        return;
    }
    for (uint32_t i = 0; i < report.part_count; i++)
        bad += report.part[i].missing + report.part[i].stale +
               report.part[i].corrupt + report.part[i].unexpected;
    if (!report.full || !report.policy_met || report.data_lost || bad > 0)
        life_fail(l, "verify after a clean close: policy %s, data %s, %" PRIu64
                  " chunks not healthy", report.policy_met ? "met" : "not met",
                  report.data_lost ? "LOST" : "all there", bad);
    life_check_handles(l, "verify");
}
