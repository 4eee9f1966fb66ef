/* recover.c: after a crash: open again and again, cut again, with parts away,
 * until the volume serves and holds what it may hold. */
#include "snapshots.h"
#include <inttypes.h>

/* Requests that must be refused by a volume that is not writable. */
static void
check_refuses_writes(struct life *l)
{
    uint8_t byte = 1;

    if (lsvd_pwrite(l->v, &byte, 1, 0, 0) == 0)
        life_fail(l, "a write was taken by a volume that is not writable");
    else if (lsvd_trim(l->v, l->volume_bytes, 0, 0) == 0)
        life_fail(l, "a trim was taken by a volume that is not writable");
}

/* It serves reads only, or not at all: what was read must be what stays. May
 * end in a crash of its own. */
static void
leave(struct life *l)
{
    /* what a replaced instance knows of is not in sight for the engine */
    if (l->v && l->replaced == 0)
        life_check_image(l, "read-only");
    if (l->v && !l->failed && !simio_halted(l->s)) {
        check_refuses_writes(l);
        l->unwritable++;
    }
    if (l->v && !l->failed && !simio_halted(l->s) &&
        prng_one_in(&l->prng, 2) && life_close(l) < 0 && !simio_halted(l->s))
        life_fail(l, "close of what is not writable: %s", lsvd_error());
    simio_arm_cut(l->s, 0);
    if (l->v || simio_halted(l->s))
        life_crash(l, prng_one_in(&l->prng, 2));
    if (!l->failed && prng_one_in(&l->prng, 2))
        life_parts_well(l);
}

/* The start has ended without a cut: was it as it must be? True: it serves, and
 * is writable. */
static bool
judge(struct life *l, const struct owed *owed, bool read_only)
{
    if (!l->v && owed->serve) {
        life_fail(l, "open after a crash: %s", lsvd_error());
        return false;
    }
    if (!l->v || read_only)
        return false;
    if (lsvd_can_write(l->v))
        return true;
    if (owed->write)
        life_fail(l, "not writable, with parts enough (away: %#x)",
                  l->hidden_dirs);
    return false;
}

/* Everything is there, and yet the rules do not let it be written: only old
 * copies can be why. */
static void
mend(struct life *l)
{
    if (l->old_dirs == 0)
        life_fail(l, "all parts are there, and it is not writable");
    else
        life_parts_mend(l);
}

void
life_recover(struct life *l)
{
    bool was_due = l->number_due;

    snapshots_find(l); /* all its parts are there, if that is in question */
    while (!l->failed) {
        bool read_only, writable, whole;
        struct owed owed;

        life_rot_crashed(l);
        life_spoil(l);
        life_parts_between(l);
        life_parts_replace(l);
        read_only = l->policy.missing && !l->policy.mirror &&
                    prng_one_in(&l->prng, 10);
        whole = l->hidden_dirs == 0;
        owed = life_owed(l);
        if (l->failed)
            return;
        if (prng_one_in(&l->prng, 4))
            simio_arm_cut(l->s, prng_between(&l->prng, 1, 30));
        /* who finds a snapshot half made leaves out what is away (SN1) */
        l->snapshots_reduced |= was_due && l->hidden_dirs != 0;
        if (l->snapshots_reduced)
            owed = (struct owed){0};
        life_mirror_before_open(l);
        (void)life_open(l, read_only ? LSVD_OPEN_READ_ONLY : 0);
        if (life_mirror_after_open(l, l->v != NULL)) {
            simio_arm_cut(l->s, 0);
            continue;
        }
        if (simio_halted(l->s)) { /* also: a part that failed was let go */
            life_crash(l, !prng_one_in(&l->prng, 4));
            continue;
        }
        writable = judge(l, &owed, read_only);
        if (l->failed)
            return;
        if (!writable) {
            leave(l);
            if (!l->failed && whole && !read_only)
                mend(l);
            continue;
        }
        simio_arm_cut(l->s, 0);
        life_check_image(l, "recovered");
        l->recoveries++;
        l->degraded += l->hidden_dirs != 0;
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
