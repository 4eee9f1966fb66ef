/* mirror.c: a volume with two cache directories: copies of the journal die,
 * go away, come back, are restored from old copies, in every order that leaves
 * one that has everything.
 *
 * What the harness knows is in l->truth: which copies have all that was
 * answered. It never takes all of those away, and demands:
 * - with all of them there, the volume opens;
 * - with others alone, it opens with what it must hold, or is refused;
 * - one that is back while it serves has all again when the status says so. */
#include "life.h"
#include "losses.h"
#include "volume/journal_refill.h"
#include "volume/volume.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char *const dirs[] = {"/cache", "/cache2"};

/* Not that of a snapshot. */
static void
journal_path(struct life *l, unsigned copy, char *text, size_t bytes)
{
    char **names = simio_names(l->s, dirs[copy]);

    text[0] = '\0';
    for (size_t i = 0; names && names[i]; i++) {
        if (strncmp(names[i], l->uuid, strlen(l->uuid)) == 0)
            snprintf(text, bytes, "%s/%s", dirs[copy], names[i]);
    }
    simio_names_free(names);
}

/* What it still holds is part of the volume, and nobody fills a second copy of
 * that one. */
bool
life_frozen_journal(const struct life *l)
{
    const struct lsvd_volume *p = l->v ? l->v->parent : NULL;

    while (p && !p->journal)
        p = p->parent;
    return p != NULL;
}

/* One that has just been filled counts for the engine before the status says
 * so: then the other one may die, and both must be looked at. */
static bool
may_die(const struct life *l, unsigned copy)
{
    if (l->truth & ~(1u << copy))
        return true;
    return l->v && l->v->mirror && mirror_copies(l->v->mirror) == 2 &&
           !life_frozen_journal(l);
}

static void
die(void *ctx, enum sim_call kind)
{
    struct life *l = ctx;

    if (l->in_destage && l->dies_at_sync && kind == SIM_CALL_SYNC) {
        l->dies_at_sync = false;
        l->steps_to_death = 1;
    }
    if (l->steps_to_death == 0 || --l->steps_to_death > 0)
        return;
    if (l->dead || !may_die(l, l->dying))
        return;
    life_event(l, "%s dies", dirs[l->dying]);
    simio_set_sick(l->s, dirs[l->dying], -EIO);
    l->dead = 1u << l->dying;
    l->truth &= ~(1u << l->dying);
    if (l->in_destage && !prng_one_in(&l->prng, 8)) { /* D3 */
        simio_arm_cut(l->s, prng_between(&l->prng, 2, 16));
        l->hide_next = l->truth;
    }
}

void
life_mirror_begin(struct life *l)
{
    if (!l->policy.mirror)
        return;
    simio_make_dir(l->s, dirs[1]);
    l->cache[1] = dirs[1];
    l->truth = 3;
    simio_set_step_hook(l->s, die, l);
}

static void
arm_death(struct life *l, uint64_t most)
{
    l->dying = (unsigned)prng_below(&l->prng, 2);
    l->steps_to_death = prng_between(&l->prng, 1, most);
}

/* One of the two may die at one of the next steps. */
void
life_mirror_serve(struct life *l)
{
    if (l->policy.mirror && l->truth == 3 && !l->hidden && !l->dead &&
        prng_one_in(&l->prng, 2))
        arm_death(l, l->steps_typical + 4);
}

/* A copy that dies as destage syncs the journal does not have what destage is
 * about to put in place: it must not be taken by a start that does not see the
 * other one (D3, JF3). */
void
life_mirror_destage(struct life *l, bool begins)
{
    l->in_destage = begins;
    l->dies_at_sync = false;
    losses_in_destage(begins);
    if (begins && l->policy.mirror && l->truth == 3 && !l->hidden &&
        !l->dead && prng_one_in(&l->prng, 2)) {
        arm_death(l, 1);
        l->steps_to_death = 0;
        l->dies_at_sync = true;
    }
}

static void
keep_copy(struct life *l)
{
    unsigned copy = (unsigned)prng_below(&l->prng, 2);
    char path[96];

    journal_path(l, copy, path, sizeof path);
    if (path[0] == '\0' || l->hidden)
        return;
    simio_copy_free(l->journal_copy[copy]);
    l->journal_copy[copy] = simio_take_copy(l->s, path);
    l->copy_start[copy] = l->starts;
}

/* The copy of the journal is gone, or is an old one. Of the start that wrote
 * it last, an older state can't be told from the last one: then the other copy
 * must be seen, too. */
static void
tamper(struct life *l, unsigned copy)
{
    char path[96];

    journal_path(l, copy, path, sizeof path);
    if (path[0] == '\0')
        return;
    l->truth &= ~(1u << copy);
    if (l->journal_copy[copy] && prng_one_in(&l->prng, 2)) {
        life_event(l, "%s is an old copy", path);
        simio_put_copy(l->s, path, l->journal_copy[copy]);
        l->rolled_back |= l->copy_start[copy] == l->starts;
    } else {
        life_event(l, "%s is lost", path);
        simio_delete(l->s, path);
    }
}

static void
hide(struct life *l, unsigned set)
{
    for (unsigned i = 0; i < 2; i++) {
        if ((l->hidden ^ set) >> i & 1)
            simio_hide(l->s, dirs[i], set >> i & 1);
    }
    if (set != l->hidden)
        life_event(l, "%s", set == 0 ? "both cache directories are there"
                            : set == 1 ? "/cache is away"
                                       : "/cache2 is away");
    l->hidden = set;
}

/* A start that only reads records nothing, so which copy it took is not known
 * to the next one: it must see both. */
void
life_mirror_before_reading(struct life *l)
{
    if (l->policy.mirror)
        hide(l, 0);
}

void
life_mirror_before_open(struct life *l)
{
    unsigned one = (unsigned)prng_below(&l->prng, 2);

    if (!l->policy.mirror)
        return;
    l->steps_to_death = 0;
    hide(l, 0);
    if (l->truth == 0) { /* either may be the one: look at both */
        l->must_open = true;
        return;
    }
    if (!l->needs_both && prng_one_in(&l->prng, 4) &&
        (l->truth & ~(1u << one)) != 0)
        tamper(l, one);
    if (l->hide_next && !l->rolled_back)
        hide(l, l->hide_next);
    else if (prng_one_in(&l->prng, 2) && !l->rolled_back)
        hide(l, 1u << prng_below(&l->prng, 2));
    l->hide_next = 0;
    l->must_open = (l->truth & ~l->hidden) != 0;
}

/* While it serves, a directory comes back as it was left, empty, or as an older
 * copy. */
static void
come_back(struct life *l)
{
    char path[96];

    if (l->hidden) {
        hide(l, 0);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!(l->dead & 1u << i))
            continue;
        journal_path(l, i, path, sizeof path);
        /* not noticed, or not recorded yet: nobody may touch it, an older state
         * could not be told from the last one */
        if (mirror_is_in(l->v->mirror, dirs[i]) || !journal_is_settled(l->v))
            path[0] = '\0';
        if (path[0] && prng_one_in(&l->prng, 4))
            simio_delete(l->s, path);
        else if (path[0] && l->journal_copy[i] && prng_one_in(&l->prng, 3))
            simio_put_copy(l->s, path, l->journal_copy[i]);
        life_event(l, "%s is well again", dirs[i]);
        simio_set_sick(l->s, dirs[i], 0);
    }
    l->dead = 0;
}

void
life_mirror_look(struct life *l)
{
    struct lsvd_status status;

    if (!l->policy.mirror || l->truth == 3 || l->failed || !l->v ||
        simio_halted(l->s) || life_frozen_journal(l))
        return;
    lsvd_get_status(l->v, &status);
    if (status.journal_copies < 2 || l->dead || l->hidden)
        return;
    life_event(l, "both copies of the journal are in place");
    if (l->truth && prng_one_in(&l->prng, 2)) { /* what is the new one worth? */
        l->dying = l->truth >> 1;
        l->steps_to_death = prng_between(&l->prng, 1, 12);
    }
    l->truth = 3;
    l->rolled_back = false;
    l->refilled++;
}

/* alone: as if clients wrote faster than destage can follow, which leaves
 * nothing to copy. */
static void
look_and_fill(struct life *l, bool alone)
{
    uint64_t steps = prng_between(&l->prng, 1, alone ? 20 : 6);

    life_event(l, "watch, and %" PRIu64 " steps%s", steps,
               alone ? " and requests" : "");
    lsvd_watch(l->v);
    for (uint64_t i = 0; i < steps && !l->failed && !simio_halted(l->s); i++) {
        bool owed = life_parts_suffice(l, true);

        if (!alone && lsvd_destage_step(l->v) < 0 && owed &&
            !simio_halted(l->s))
            life_fail(l, "destage: %s", lsvd_error());
        if (alone && prng_one_in(&l->prng, 2))
            (void)refill_step(l->v);
        else if (alone)
            life_write(l);
    }
}

void
life_mirror_event(struct life *l)
{
    switch (prng_below(&l->prng, 8)) {
    case 0:
    case 1:
        come_back(l);
        break;
    case 2:
        if (l->steps_to_death == 0)
            arm_death(l, 30);
        break;
    case 3:
        look_and_fill(l, false);
        break;
    default:
        if (prng_one_in(&l->prng, 2))
            come_back(l);
        look_and_fill(l, true);
        break;
    }
}

void
life_mirror_well(struct life *l)
{
    if (!l->policy.mirror)
        return;
    l->steps_to_death = 0;
    hide(l, 0);
    if (l->dead)
        come_back(l);
}

void
life_mirror_crashed(struct life *l)
{
    l->steps_to_death = 0;
    l->dead = 0; /* the world has forgotten it */
}

/* A cut while a part was taken into the view leaves one that is not on all its
 * members. With a copy of the journal away nothing shows that it never took
 * effect: the part may have gone on in it with the other copy, and be an old
 * copy now. So it is with a copy that was lost: the start that is refused makes
 * it anew, and the next one sees both. */
static bool
may_be_unproven(const struct life *l)
{
    return l->policy.missing && (l->hidden || l->truth != 3) &&
           strstr(lsvd_error(), "nothing proves") != NULL;
}

/* The open succeeded, failed, or was cut short. True: it was refused as it may
 * be; try with both. */
bool
life_mirror_after_open(struct life *l, bool opened)
{
    unsigned seen = 3 & ~l->hidden;

    if (!l->policy.mirror)
        return false;
    if (opened && lsvd_can_write(l->v) && !simio_halted(l->s)) {
        l->needs_both = false;
        l->truth = seen;
        l->rolled_back = false; /* both were seen: it was made equal */
        l->starts++;
        l->alone += seen != 3;
        if (prng_one_in(&l->prng, 3))
            keep_copy(l);
        return false;
    }
    if (!opened && !simio_halted(l->s)) {
        if (l->must_open && !may_be_unproven(l))
            return false;
        l->needs_both |= l->must_open;
        l->refused++;
        hide(l, 0);
        return true;
    }
    /* It may have come to the claim, or not. With both in sight one may have
     * been made equal, and then the other anew by it. */
    if (seen != 3)
        l->truth &= seen;
    else if (l->truth != 3)
        l->truth = 0;
    return false;
}

/* Closed cleanly: nothing is needed of the journal. */
void
life_mirror_closed(struct life *l)
{
    l->truth = 3 & ~l->hidden; /* of the journal that is made next */
    l->rolled_back = false;
    life_mirror_crashed(l);
}

/* It has another number now, and a journal of its own. */
void
life_mirror_renewed(struct life *l)
{
    for (unsigned i = 0; i < 2; i++) {
        simio_copy_free(l->journal_copy[i]);
        l->journal_copy[i] = NULL;
    }
}

void
life_mirror_end(struct life *l)
{
    life_mirror_renewed(l);
}
