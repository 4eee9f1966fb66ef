/* snapshot.h: a volume is frozen, and goes on in another.
 *
 * The volume itself becomes the snapshot: it keeps number, UUID and files, gets
 * the name volume@snapshot, is read-only from then on and has a successor: an
 * empty clone of it (parent.h), in the same places, which has the name and the
 * clients from then on. No block is copied, and none is looked at.
 *
 * Happy path: a successor is made and opened, yet unborn (meta.h), while
 *   requests go on -> no request is under way: all that was answered becomes
 *   durable -> the policy of the old one, durable on all its parts, says what
 *   has become of it: that is the moment -> RAM changes hands, requests go on
 *   to the successor -> it says its name itself -> what the old one's journal
 *   holds is moved to its parts, and the journal removed.
 * (SN1) Nothing is written to the successor before the old one's policy is
 *       durable on all its parts: whatever set of them a later start may go by,
 *       it finds the successor with them (as GR1). A start that finds it by a
 *       copy that may be the only one (due_from) makes it so first: with the
 *       parts in use, and what is away is left out of a view of the old one,
 *       whose journal goes; so nothing proves it there.
 * (SN2) All parts are in sync at that moment, so each has what the snapshot
 *       holds, or needs its journal for it and says so. The policy tells the
 *       view of the moment: a part of that one, or of a later one, and without
 *       a journal, is as new as anything that ever was (snapshot_is_proven); a
 *       copy of it from before is not.
 * (SN3) Killed before it: the volume is as it was, and the unborn one is
 *       removed by whoever makes the next snapshot. After it: the snapshot is
 *       there. What its journal holds is read there until it is moved, by this
 *       server or by the next one that opens the successor (parent_open).
 * (SN4) Who reads what the snapshot has, for the successor, has a lease on its
 *       blocks, shared: under all of them, exclusive, its journal goes.
 * Fails at the moment itself: the old policy is made newer than the new one, as
 *   a resize does; if that fails, too, the volume goes on as it was, and the
 *   next start may find the snapshot, with all that was written until then. */
#ifndef LSVD_VOLUME_SNAPSHOT_H
#define LSVD_VOLUME_SNAPSHOT_H

#include "volume/volume.h"

/* Of a volume that was opened as a parent, and whose journal still held
 * something: once it is on its parts the journal is needed no more. -EIO: it
 * is not, and stays; reading works all the same. */
int snapshot_settle(struct lsvd_volume *v);

/* Is it a snapshot, in a view that has all of it (SN2)? */
static inline bool
snapshot_is_proven(const struct lsvd_volume *v)
{
    const struct view_id *id = &v->view.id;

    return v->meta.successor != 0 && uuid_is_zero(&v->view.journal) &&
           (id->epoch > v->meta.frozen_epoch ||
            (id->epoch == v->meta.frozen_epoch &&
             id->minor >= v->meta.frozen_minor));
}

/* Of one that was found by due_from, and is ours: SN1. */
int snapshot_take_name(struct lsvd_volume *v);

/* At the end of a server: what is left to do for its parents, if there is time
 * for it. */
void snapshot_end(struct lsvd_volume *v);
/* It needs its journal no more: the files in the cache directories go, and
 * others may open it. */
void snapshot_drop_journal(struct lsvd_volume *v);

/* Of one that was being added to (adding.h): as far as it can be done, what its
 * journal holds is moved, and the journal goes. What can't is left to
 * lsvd_snapshot_tend. */
void snapshot_finish_adding(struct lsvd_volume *p);

/* ---- snapshot.c, also for rollback.c ---- */

/* May it be frozen, as it is now? All parts in sync (SN2). */
int snapshot_check_state(struct lsvd_volume *v);
/* SN3; also what a rollback discarded and could not remove. The volume itself
 * is in sight under its own name, so it is none of these. A policy that names
 * one, and could not be taken back everywhere, becomes an old one first. */
int snapshot_remove_leftovers(struct lsvd_volume *v,
                              const struct lsvd_env *env);
/* v's policy under this name, with that successor. *ret is to be freed. */
int snapshot_policy(const struct lsvd_volume *v,
                    const struct volume_meta *next, const char *name,
                    struct volume_meta *ret);
/* Storing such a policy has failed: some copies may be the new ones, and the
 * newest counts. *ret_named: the successor may be found by one that could not
 * be reached. what: for the error that is returned. The role's. */
int snapshot_take_back(struct lsvd_volume *v, const char *what,
                       bool *ret_named);
/* SN4. Its journal, which holds nothing, and its files in the cache
 * directories. */
void snapshot_forget_journal(struct lsvd_volume *v);

/* ---- rollback.c ---- */

/* Of one that is being removed, not locked by us: if it is what a rollback
 * discarded that was cut short, the volume that has begun anew is found by it
 * alone, until it was opened once; so it is. -EBUSY: it can't be now. */
int rollback_pass_name(struct lsvd_volume *v, const struct lsvd_env *env);

#endif
