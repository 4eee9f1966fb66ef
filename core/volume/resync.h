/* resync.h: a part that was away, or is new, is filled while the volume serves
 * (faults.md 2.5, O6).
 *
 *   (away) --watch.c offers--> offered --resync_adopt--> SYNCING
 *   SYNCING --resync_step, nothing is left to copy--> in the view
 *   SYNCING --an error, resync_give_up--> (away): tried again later
 *
 * (RS1) A part that is being filled is never read, and is in no view.
 * (RS2) What it lacks is what its own chunk table and the view's tell
 *       differently: an entry is stored after the bytes are durable (D4), so it
 *       needs no record of its own, and a fill that was cut short goes on where
 *       it was.
 * (RS3) It gets what is destaged of chunks that it has, and of those made anew,
 *       so that filling comes to an end whatever is written meanwhile.
 * (RS4) It enters the view when every entry is the same, everything is synced,
 *       and nothing is being destaged.
 * (RS5) Before that it has the policy in force: the volume may have grown while
 *       it was away, and it may be the only one left at the next start. */
#ifndef LSVD_VOLUME_RESYNC_H
#define LSVD_VOLUME_RESYNC_H

#include "volume/volume.h"

/* A part that is back, as watch.c found it: locked, its label and table read.
 * Member: it never left the view (R7), only did not answer. */
struct offer {
    struct part part; /* owned until it is taken */
    bool is_member;
    bool full;        /* its table tells nothing: everything is copied */
};

/* Any thread. Takes the offer over; false (and the caller's still) if there is
 * one for that part already. */
bool resync_offer(struct lsvd_volume *v, struct offer *offer);
/* Is it offered, being filled, or held? */
bool resync_has(struct lsvd_volume *v, uint32_t slot);

/* The rest is the role's. */

/* Take one offer. True: did something. */
bool resync_adopt(struct lsvd_volume *v);
/* One chunk (fill.c), at most at the rate that is set. True: there is more. */
bool resync_step(struct lsvd_volume *v);
/* Nothing is offered for this part until it is released, and what was is
 * dropped: somebody else decides about it. */
void resync_hold(struct lsvd_volume *v, uint32_t slot);
void resync_release(struct lsvd_volume *v, uint32_t slot);
/* As resync_offer, of a part that is held; releases it. */
bool resync_offer_held(struct lsvd_volume *v, struct offer *offer);
/* The part failed, or is to be let go. */
void resync_give_up(struct lsvd_volume *v);
/* The bit of the part that is being filled, if a destage of the chunk is for
 * it, too: it has the chunk, or nothing old of it is needed. */
uint32_t resync_parts_of(struct lsvd_volume *v, uint64_t chunk, bool anew);
/* Free what was offered and never taken. At close. */
void resync_done(struct lsvd_volume *v);

#endif
