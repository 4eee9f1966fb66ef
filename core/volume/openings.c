/* openings.c: volumes that are being opened, and need not be any more.
 *
 * To open one is to read and write every part, one after the other, each within
 * its deadline. Who ends a server does not wait for that.
 * (OP1) Once it was ended no call on a part is begun, so nothing is decided by
 *       the errors that follow: no view, which would leave a part out, can be
 *       written. On the parts it looks like a kill at that moment.
 * (OP2) Those errors are no part's (is_our_trouble), and no claim is begun
 *       after them: the journal, which may be written still, holds no view
 *       either that a part was left out of for them.
 * A world without guards (the simulator) just goes on to its end. */
#include "base/err.h"
#include "base/memory.h"
#include "target/guard.h"
#include "volume/volume.h"
#include <assert.h>
#include <stdlib.h>

struct lsvd_openings {
    pthread_mutex_t lock;
    bool ended;
    struct lsvd_volume *head; /* through next_opening */
};

int
lsvd_openings_new(struct lsvd_openings **ret)
{
    int r = mem_new(1, sizeof **ret, ret);

    if (r == 0)
        pthread_mutex_init(&(*ret)->lock, NULL);
    return r;
}

void
lsvd_openings_free(struct lsvd_openings *o)
{
    if (!o)
        return;
    assert(!o->head);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

/* Only what is fixed as long as it is being opened is touched. */
static void
refuse(struct lsvd_volume *v)
{
    atomic_store(&v->hurried, true);
    if (v->world.guard)
        guard_refuse(v->world.guard, HURRIED_DEADLINE_MS);
    for (size_t i = 0; i < MIRROR_COPIES_MAX; i++) {
        if (v->world.copy_guard[i])
            guard_refuse(v->world.copy_guard[i], HURRIED_DEADLINE_MS);
    }
}

void
lsvd_openings_end(struct lsvd_openings *o)
{
    pthread_mutex_lock(&o->lock);
    o->ended = true;
    for (struct lsvd_volume *v = o->head; v; v = v->next_opening)
        refuse(v);
    pthread_mutex_unlock(&o->lock);
}

void
opening_begins(struct lsvd_openings *o, struct lsvd_volume *v)
{
    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    v->openings = o;
    v->next_opening = o->head;
    o->head = v;
    if (o->ended)
        refuse(v);
    pthread_mutex_unlock(&o->lock);
}

void
opening_ends(struct lsvd_volume *v)
{
    struct lsvd_openings *o = v->openings;
    struct lsvd_volume **at;

    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    for (at = &o->head; *at != v; at = &(*at)->next_opening)
        continue;
    *at = v->next_opening;
    pthread_mutex_unlock(&o->lock);
    v->openings = NULL;
}

int
openings_check(struct lsvd_openings *o, const char *name)
{
    bool ended = false;

    if (o) {
        pthread_mutex_lock(&o->lock);
        ended = o->ended;
        pthread_mutex_unlock(&o->lock);
    }
    if (!ended)
        return 0;
    return err_set(-ECANCELED, "volume %s: it is not opened any more: the "
                   "server ends", name);
}

int
volume_check_hurried(struct lsvd_volume *v)
{
    if (!atomic_load(&v->hurried))
        return 0;
    return err_set(-ECANCELED, "volume %s: the server ends", v->meta.name);
}

int
volume_check_going(struct lsvd_volume *v,
                   const struct lsvd_repair_callbacks *cb)
{
    int r = volume_check_awake(v);

    if (r == 0)
        r = volume_check_hurried(v);
    if (r == 0 && cb && cb->cancelled && cb->cancelled(cb->ctx))
        r = err_set(-EINTR, "interrupted; run it again to go on");
    return r;
}
