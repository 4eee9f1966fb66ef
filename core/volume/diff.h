/* diff.h: in which blocks two volumes of one family may differ, by what they
 * and those between them say of themselves (extents.c). No data is read.
 *
 * FROM and TO have a nearest common ancestor in their chains of parents; it may
 * be one of them. A block of which no layer above it says anything, on either
 * side, and that both sides show of it, is the same in both.
 * (DI1) All others are told, but those of which it is known that they read as
 *       zeroes in both. What can't be known now (OWN_UNKNOWN) is told.
 * (DI2) An overlap (PA3) or the end of a volume hides what lies behind it: if
 *       the sides show more or less of a block of the common ancestor than
 *       each other, it is told. Behind its end FROM is taken for zeroes; behind
 *       that of TO nothing is told. */
#ifndef LSVD_VOLUME_DIFF_H
#define LSVD_VOLUME_DIFF_H

#include "volume/volume.h"

struct diff_side {
    struct lsvd_volume *top;          /* NULL: nothing at all, zeroes */
    const struct lsvd_volume *common; /* in its chain; NULL: none is needed */
    uint64_t shows; /* so many bytes of the common one's beginning */
};

struct diff {
    struct diff_side to, from;
    bool owns_from; /* it is not in the chain of to.top */
};

/* Open both, read-only, for diff_close. from NULL: all that TO holds is told.
 * -EINVAL: FROM can change, or they have no common ancestor; -EBUSY: TO is
 * served (a snapshot beside its server is not). */
int diff_open(const struct lsvd_env *env, const char *from, const char *to,
              struct diff *ret);
/* The error text stays. */
void diff_close(struct diff *d);

/* Runs of blocks that may differ, from this byte on, in order, joined; the last
 * one ends with TO. cb holds no lease; a non-zero return stops and is returned.
 */
int diff_each(const struct diff *d, uint64_t offset,
              int (*cb)(void *ctx, const struct lsvd_change *change),
              void *ctx);

#endif
