/* adopt.h: a volume takes over what its parent says.
 *
 * Happy path: chunk by chunk, beside requests, what the parent itself says and
 *   the volume does not is written to the volume, as any write -> no request is
 *   under way: all of it is durable -> the policy names the parent's own parent
 *   instead, or none.
 * (FL1) A block is looked at and written under one exclusive lease: what a
 *       client writes meanwhile stays.
 * (FL2) What the volume reads never changes by it: each block that is copied
 *       reads as it did, and when the parent is let go, all that it says is in
 *       the volume. So it can be cut, and begun anew, at any point.
 * (FL3) Zeroes that the parent says are copied where its own parent might show.
 * (FL4) The policy is changed as a resize does it (GR1, GR3): durable with all
 *       parts in use. The parent is let go after that, and removed by nobody
 *       before.
 * One level is given up at a time. A clone becomes independent so (flatten.c),
 * and a snapshot goes: the one volume that depends on it takes what it says,
 * which is that clone, or a later snapshot (adding.h). */
#ifndef LSVD_VOLUME_ADOPT_H
#define LSVD_VOLUME_ADOPT_H

#include "volume/volume.h"

/* v, which is open for writing, or to be added to, takes over what its parent
 * says, and needs that one no more. top: v, or what v is read for, of which no
 * request is under way when the parent is let go. rate_bytes: so many are
 * copied in a second; 0: as many as can be. cb may be NULL. -EINTR, -ESHUTDOWN
 * … */
int adopt_level(struct lsvd_volume *v, struct lsvd_volume *top,
                uint64_t rate_bytes, const struct lsvd_alone *alone,
                const struct lsvd_repair_callbacks *cb);

/* lsvd_live_flatten of a volume that is open, and not served. */
int flatten_unserved(struct lsvd_volume *v, const struct lsvd_env *env,
                     const struct lsvd_flatten *spec,
                     const struct lsvd_repair_callbacks *cb);

#endif
