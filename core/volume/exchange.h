/* exchange.h: a volume that a served one needs, its parent or a source, is open
 * in another way from one moment on. */
#ifndef LSVD_VOLUME_EXCHANGE_H
#define LSVD_VOLUME_EXCHANGE_H

#include "volume/volume.h"

struct exchange {
    struct lsvd_volume *top;   /* whose requests must not be under way */
    struct lsvd_volume *owner; /* top, or one that it is read through: */
    struct lsvd_volume **slot; /* where that has it */
    struct lsvd_volume *next;  /* goes there */
    bool passes_parent;        /* next has the parent of the old one */
    struct lsvd_volume *old;   /* returned, to be closed */
};

/* Around a change of what owner, which top is read through, has as parent or
 * source: lsvd_status of top and lsvd_hurry go through them beside it. */
void chain_lock(struct lsvd_volume *top, struct lsvd_volume *owner);
void chain_unlock(struct lsvd_volume *top, struct lsvd_volume *owner);

/* An error, with text: nothing has changed. */
int exchange(struct exchange *x, const struct lsvd_alone *alone);

#endif
