/* adding.h: a snapshot is added to, in a way that does not change what it reads
 * as: it takes over what its own parent says, so that this one can be removed
 * (adopt.h), or blocks of it become references (dedupe.h).
 *
 * Happy path: the snapshot is locked for us alone -> it is opened once more, to
 *   be added to, over the same parent; what was read through the old one is
 *   read through the new one from a moment on at which no request is under way
 *   -> it is added to, beside requests -> what its journal holds is moved, and
 *   the journal goes: it is a parent like others again.
 * (AD1) Nothing of its files is changed before the exchange: until then the old
 *       one reads them without looking whether they change.
 * (AD2) Others that read the snapshot have it locked, shared: then it is not
 *       added to (-EBUSY). Who comes while it is, is refused.
 * (AD3) Its policy tells the view in which it is added to (SN2): a part that
 *       lacks some of that proves nothing.
 * Cut at any point: it is opened with what its journal holds, as any parent
 * (needed_settle), and reads as it did. */
#ifndef LSVD_VOLUME_ADDING_H
#define LSVD_VOLUME_ADDING_H

#include "volume/volume.h"

/* What is done with a snapshot that is open to be added to. */
typedef int (*adding_job)(void *arg, struct lsvd_volume *snapshot);

/* The snapshot of this name, which top goes on from, beside requests of top.
 * top is reserved (volume_reserve). env: that it was opened with. -EXDEV: top
 * does not go on from it; -EBUSY; what job returns. */
int add_to_needed(struct lsvd_volume *top, const char *name,
                  const struct lsvd_env *env, const struct lsvd_alone *alone,
                  adding_job job, void *arg);
/* One that nobody has open. */
int add_to_snapshot(const struct lsvd_env *env, const char *name,
                    adding_job job, void *arg);

/* The volume of that name that top goes on from, and in *ret_depth, which may
 * be NULL, how far below it lies. NULL: there is none. The caller holds the
 * chain, or has reserved top. */
struct lsvd_volume *needed_find(struct lsvd_volume *top, const char *name,
                                unsigned *ret_depth);

#endif
