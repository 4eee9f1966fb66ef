/* exchange.c: see exchange.h. */
#include "volume/exchange.h"
#include "base/err.h"

void
chain_lock(struct lsvd_volume *top, struct lsvd_volume *owner)
{
    pthread_mutex_lock(&top->state_lock);
    if (owner != top)
        pthread_mutex_lock(&owner->state_lock);
}

void
chain_unlock(struct lsvd_volume *top, struct lsvd_volume *owner)
{
    if (owner != top)
        pthread_mutex_unlock(&owner->state_lock);
    pthread_mutex_unlock(&top->state_lock);
}

/* With the role no thread of top goes through what it needs either. */
static int
put_in_place(void *arg)
{
    struct exchange *x = arg;
    struct lease role;
    int r = role_get(x->top, &role);

    if (r < 0)
        return r;
    chain_lock(x->top, x->owner);
    x->old = *x->slot;
    *x->slot = x->next;
    if (x->passes_parent)
        x->old->parent = NULL;
    chain_unlock(x->top, x->owner);
    role_put(x->top, &role);
    if (atomic_load(&x->owner->hurried))
        lsvd_hurry(x->next);
    return 0;
}

int
exchange(struct exchange *x, const struct lsvd_alone *alone)
{
    char text[LSVD_TEXT_BYTES];
    struct lease chain;
    int r;

    lease_get(&x->top->chain, &chain, 0, 1, true);
    r = destage_hold(x->top);
    if (r == 0) {
        r = alone->run(alone->ctx, put_in_place, x, text);
        if (r < 0)
            (void)err_set(r, "%s", text);
        destage_go_on(x->top);
    }
    lease_put(&x->top->chain, &chain);
    return r;
}
