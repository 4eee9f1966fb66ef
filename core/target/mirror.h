/* mirror.h: one object kept on two targets, for the journal's two copies.
 *
 * A target that stands before one or two others (the copies) and holds one
 * open object. What is written or synced goes to every copy that counts; a
 * copy that refuses stops counting, for the life of the mirror, unless it is
 * the only one left: then the caller gets the error.
 *
 * (MI1) A write, allocation, resize or sync returned 0: a copy that still
 *       counts has carried it out, and all earlier ones.
 * (MI2) A copy that was lost is never written, synced or read again.
 * (MI3) The last copy is never lost: its errors are the caller's.
 * (MI4) mirror_losses has grown before any call returns 0 that a copy did not
 *       carry out. So who is about to rely on a result (answer a client, put
 *       bytes in place, reuse space) looks at mirror_losses after the call: as
 *       long as it is what the owner has recorded durably, all copies that a
 *       later start may choose from have the bytes.
 * (MI5) A copy that was lost is closed, and only then its directory looked at
 *       again, when no operation that was begun on it is under way: none lands
 *       late in what it is filled with.
 * (MI6) A copy that joins gets all that is written and synced from then on, and
 *       is not relied on: what it fails at is nobody's error, and the loss of
 *       another is never judged by what it did. It counts when its owner says
 *       so (mirror_promote): when it holds, durably, what was written before.
 *       That it is lost meanwhile is a loss like any other (MI4): it may have
 *       got a superblock.
 * (MI7) After mirror_start, if the copies are guarded (guard.h): one of which
 *       an operation has been under way for the patience, while another that
 *       counts has none that old, is given up (G3). Who waits for it gets an
 *       error, and it is lost. The last one is waited for, for ever.
 * The owner's side of MI4 and MI6 is in volume/journal_files.c and
 * journal_refill.h: a start must never prefer a copy that was lost.
 *
 * Syncs of two copies run side by side after mirror_start (a flush costs the
 * slower of the two, not their sum); before it, and in the simulator, one after
 * the other on the caller's thread. Writes go one after the other: they end in
 * the page cache. */
#ifndef LSVD_TARGET_MIRROR_H
#define LSVD_TARGET_MIRROR_H

#include "target/target.h"

#define MIRROR_COPIES_MAX 2

/* A copy stopped counting: the path of its directory, and why. From the thread
 * that met the error, before its call returns; it must not call the mirror. */
typedef void (*mirror_lost_cb)(void *ctx, const char *path, const char *why);

/* Without copies. Its ops are those that a journal needs (open, target_sync,
 * and of an object: read, write, allocate, resize, sync, stat, drop_cache,
 * locks); others are -ENOTSUP. One object at a time. */
int mirror_new(mirror_lost_cb lost, void *ctx, struct target **ret);

/* One copy more; copy is the mirror's from then on, also when this fails. If
 * the mirror's object is open, it is opened and locked there too: it must hold
 * the same bytes, and nobody may be using the mirror meanwhile. */
int mirror_add(struct target *mirror, struct target *copy);

/* Start the threads that sync, and that look whether a copy hangs; not before a
 * fork. No thread to be had is no error. They end with the object. */
void mirror_start(struct target *mirror, unsigned patience_ms);
/* MI7, from now on. */
void mirror_set_patience(struct target *mirror, unsigned patience_ms);

/* ---- copies that go and come, while it is used; any thread ---- */

/* MI6: the object, which is open in copy and locked, gets what is written and
 * synced by operations that begin from now on. Both are the mirror's then.
 * Does not block. False (and nothing done): no place is free, see
 * mirror_bury. One at a time. */
bool mirror_join(struct target *mirror, struct target *copy,
                 struct object *object);
/* It counts from now on. False: it was lost. */
bool mirror_promote(struct target *mirror);
/* It can't be made to count: it is lost. Nothing if it is already. */
void mirror_lose_joining(struct target *mirror);
/* MI5: close those that were lost. False: one is still used. */
bool mirror_bury(struct target *mirror);

/* Copies that count; how many have been lost so far. */
unsigned mirror_copies(struct target *mirror);
unsigned mirror_losses(struct target *mirror);
/* Does the copy in the directory of this path count? */
bool mirror_is_in(struct target *mirror, const char *path);

/* Read from copy nth (from 0) of those that count: for who can tell wrong bytes
 * from right ones. Of any other object there is one copy. -ENOENT: no such
 * copy. */
int mirror_read(struct object *o, unsigned nth, void *buffer, size_t bytes,
                uint64_t at);

#endif
