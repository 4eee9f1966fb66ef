/* mirror.c: a volume with two cache directories: copies of the journal die,
 * go away, come back, are restored from old copies, in every order that leaves
 * one that has everything.
 *
 * What the harness knows is in l->truth: which copies have all that was
 * answered. It never takes all of those away, and demands:
 * - with all of them there, the volume opens;
 * - with others alone, it opens with what it must hold, or is refused. */
#include "life.h"
#include <errno.h>
#include <inttypes.h>

static const char *const dirs[] = {"/cache", "/cache2"};

static void
journal_path(struct life *l, unsigned copy, char *text, size_t bytes)
{
    char **names = simio_names(l->s, dirs[copy]);

    text[0] = '\0';
    for (size_t i = 0; names && names[i]; i++)
        snprintf(text, bytes, "%s/%s", dirs[copy], names[i]);
    simio_names_free(names);
}

static void
die(void *ctx, enum sim_call kind)
{
    struct life *l = ctx;

    (void)kind;
    if (l->steps_to_death == 0 || --l->steps_to_death > 0)
        return;
    life_event(l, "%s dies", dirs[l->dying]);
    simio_set_sick(l->s, dirs[l->dying], -EIO);
    l->truth &= ~(1u << l->dying);
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

/* One of the two may die at one of the next steps. */
void
life_mirror_serve(struct life *l)
{
    if (!l->policy.mirror || l->truth != 3 || l->hidden ||
        !prng_one_in(&l->prng, 2))
        return;
    l->dying = (unsigned)prng_below(&l->prng, 2);
    l->steps_to_death = prng_between(&l->prng, 1, l->steps_typical + 4);
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
    if (prng_one_in(&l->prng, 4) && (l->truth & ~(1u << one)) != 0)
        tamper(l, one);
    if (prng_one_in(&l->prng, 2) && !l->rolled_back)
        hide(l, 1u << prng_below(&l->prng, 2));
    l->must_open = (l->truth & ~l->hidden) != 0;
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
        l->truth = seen;
        l->rolled_back = false; /* both were seen: it was made equal */
        l->starts++;
        l->alone += seen != 3;
        if (prng_one_in(&l->prng, 3))
            keep_copy(l);
        return false;
    }
    if (!opened && !simio_halted(l->s)) {
        if (l->must_open)
            return false;
        l->refused++;
        hide(l, 0);
        return true;
    }
    /* It may have come to the claim, or not. */
    if (seen != 3)
        l->truth &= seen;
    return false;
}

/* Closed cleanly: nothing is needed of the journal. */
void
life_mirror_closed(struct life *l)
{
    l->truth = 3 & ~l->hidden; /* of the journal that is made next */
    l->rolled_back = false;
    l->steps_to_death = 0;
}

void
life_mirror_end(struct life *l)
{
    for (unsigned i = 0; i < 2; i++)
        simio_copy_free(l->journal_copy[i]);
}
