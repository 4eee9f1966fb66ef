/* renew.c: parts of volumes that a served one needs come back.
 *
 * Nobody writes to these volumes, so a part that was away has missed nothing:
 * it is as it was, or its label says that it is not. But they have no threads
 * that look after their parts, and what was found missing is remembered chunk
 * by chunk. So when parts are there again the parent, or the source, is opened
 * anew, with all that it needs itself, and takes the place of the old one.
 * (RN1) The new one is used only if more parts of it answer than of the old
 *       one; else that goes on.
 * (RN2) What is being changed is left alone: a parent that is attached (it was
 *       frozen just now, or is added to), or has a journal to be read; and the
 *       volume itself, while it is verified, flattened and so on.
 * (RN3) A file that is missing, or can't be read, looks like a part that was
 *       away: so it is done ever more seldom.
 * (RN4) Looking takes a twentieth of the time at most, as a file system that
 *       hangs holds up who looks. */
#include "base/err.h"
#include "target/guard.h"
#include "volume/exchange.h"
#include "volume/parent.h"
#include "volume/refer.h"

#define LOOK_NS UINT64_C(4000000000)
#define LOOK_SHARE 20u
#define AGAIN_NS UINT64_C(30000000000)
#define AGAIN_DOUBLED_MAX 7u

struct census {
    unsigned answer; /* parts that are in use, and have not failed */
    unsigned back;   /* others that answer */
    bool is_fixed;   /* RN2 */
};

/* Only reading tells that a part fails; what nobody reads is not looked at. */
static void
look_at_used(struct lsvd_volume *p, uint32_t slot, struct census *c)
{
    if (!(atomic_load(&p->missed) & UINT32_C(1) << slot))
        c->answer++;
    else if (p->part[slot].dir && !guard_is_hung(p->part[slot].dir) &&
             part_is_still_there(p, &p->part[slot]))
        c->back++;
}

static void
look_at(struct lsvd_volume *p, struct census *c)
{
    uint32_t sources = atomic_load(&p->source_count);

    if (atomic_load(&p->is_added_to) || p->attached || p->journal)
        c->is_fixed = true;
    for (uint32_t i = 0; i < p->g.part_count && !c->is_fixed; i++) {
        if (p->usable & UINT32_C(1) << i)
            look_at_used(p, i, c);
        else
            c->back += part_is_back(p, i);
    }
    for (uint32_t i = 0; i < sources && !c->is_fixed; i++) {
        if (p->source[i].volume)
            look_at(p->source[i].volume, c);
    }
    if (p->parent && !c->is_fixed)
        look_at(p->parent, c);
}

/* nth: of the sources; or the parent (-1). */
static int
open_again(struct lsvd_volume *v, const struct lsvd_env *env, int nth,
           struct lsvd_volume **ret)
{
    return nth < 0 ? parent_open_again(v, env, ret)
                   : source_open_nth(v, env, (uint32_t)nth, 0, ret);
}

/* RN1. 1: it was done. */
static int
renew(struct lsvd_volume *v, const struct lsvd_env *env, int nth,
      unsigned answered, const struct lsvd_alone *alone)
{
    struct exchange x = {
        .top = v,
        .owner = v,
        .slot = nth < 0 ? &v->parent : &v->source[nth].volume,
    };
    struct census now = {0};
    int r = *x.slot ? 0 : -ENOENT; /* it was let go meanwhile */

    if (r == 0)
        r = open_again(v, env, nth, &x.next);
    if (r < 0)
        return r;
    look_at(x.next, &now);
    if (now.is_fixed || now.answer <= answered)
        r = err_set(-EAGAIN, "its parts are not in use yet");
    if (r == 0)
        r = exchange(&x, alone);
    if (r < 0) {
        lsvd_abandon(x.next);
        return r;
    }
    event_note(v, LOG_WARNING_LEVEL, "part", 0, "%s: parts of it, or of what "
               "it needs, that were away or have failed are in use again",
               meta_stored_name(&x.next->meta));
    volume_let_go(x.old);
    return 1;
}

/* Beside jobs of the volume: who lets a parent or a source go is not waited
 * for, as he may wait for us. False: nothing can be seen now. */
static bool
look(struct lsvd_volume *v, int nth, struct census *ret)
{
    struct lsvd_volume *needed;
    struct lease chain;

    *ret = (struct census){0};
    if (!lease_try(&v->chain, &chain, 0, 1, false))
        return false;
    needed = nth < 0 ? v->parent : v->source[nth].volume;
    if (needed)
        look_at(needed, ret);
    lease_put(&v->chain, &chain);
    return needed && !ret->is_fixed;
}

/* RN2, RN3. */
static int
look_after(struct lsvd_volume *v, const struct lsvd_env *env, int nth,
           const struct lsvd_alone *alone)
{
    struct census c;
    int r;

    if (!look(v, nth, &c) || c.back == 0)
        return 0;
    r = volume_reserve(v);
    if (r < 0)
        return r;
    r = renew(v, env, nth, c.answer, alone);
    volume_release(v);
    v->renewed++;
    return r;
}

/* 1: something was opened anew, or that has failed. */
static int
look_after_all(struct lsvd_volume *v, const struct lsvd_env *env,
               const struct lsvd_alone *alone)
{
    int sources = (int)atomic_load(&v->source_count), result = 0;

    for (int nth = -1; nth < sources; nth++) {
        if (look_after(v, env, nth, alone) != 0)
            result = 1;
    }
    return result;
}

void
lsvd_renew_needed(struct lsvd_volume *v, const struct lsvd_env *env,
                  const struct lsvd_alone *alone)
{
    uint64_t begun = v->io->ops->now_ns(v->io), pause, now, again;
    int r;

    if ((!v->parent && atomic_load(&v->source_count) == 0) ||
        begun < v->renew_ns || v->meta.due_from)
        return;
    r = look_after_all(v, env, alone);
    now = v->io->ops->now_ns(v->io);
    again = AGAIN_NS << (v->renewed < AGAIN_DOUBLED_MAX ? v->renewed
                                                        : AGAIN_DOUBLED_MAX);
    pause = (now - begun) * LOOK_SHARE;
    if (r != 0 && pause < again)
        pause = again;
    v->renew_ns = now + (pause > LOOK_NS ? pause : LOOK_NS);
}
