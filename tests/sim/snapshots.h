/* snapshots.h: snapshots of the volume of a life, v@s0, v@s1 … */
#ifndef LSVD_SIM_SNAPSHOTS_H
#define LSVD_SIM_SNAPSHOTS_H

#include "life.h"

/* Keep what the open volume holds just now, to compare the next snapshot with.
 * False: it can't be read. */
bool snapshots_note(struct life *l);
/* That snapshot, of the closed volume. */
int snapshots_take_offline(struct life *l);
/* One of the open volume; l->v is its successor then. Some requests come
 * between its beginning and the moment that counts, some behind it. */
int snapshots_take(struct life *l, unsigned requests);
/* The open volume takes what that snapshot says, or a later one does; then it
 * is removed. Cut in between it is there or not, and right. */
int snapshots_remove(struct life *l, size_t nth);
/* Blocks of that snapshot, which the open volume goes on from, become
 * references, or are made its own again. */
int snapshots_dedupe(struct life *l, size_t nth);
/* All that were made, and perhaps the last one, must be what was frozen. */
void snapshots_check(struct life *l);
/* What was left out of a view of theirs comes back only so. */
void snapshots_rebuild(struct life *l);
/* Learn the volume's number anew: it changes with each snapshot. */
void snapshots_find(struct life *l);
/* While it serves, now and then: one more. */
void snapshots_event(struct life *l);
void snapshots_end(struct life *l);

#endif
