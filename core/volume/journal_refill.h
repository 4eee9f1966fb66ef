/* journal_refill.h: a copy of the journal that was lost, or was not there at
 * the start, is made anew while the volume serves (JF6).
 *
 *   (none) --journal_look--> offered --begin--> active --end--> counts,
 *   unrecorded --record--> (all are in place)
 *   active --an error, give_up--> (none): looked for again, later
 *
 * The watch looks whether the directory answers and what lies in it; the role
 * does the rest, a little between its rounds. Clients wait for none of it.
 * (JF6) A copy that comes back has no superblock from before the first byte is
 *       copied (journal_fill_begin) until it holds, durably, all that lives in
 *       the ring, and gets what is appended (journal_fill_end). Only then does
 *       it count, and only then is a view with a new UUID installed, whose
 *       superblock is its first. So at any cut it is a file that no start
 *       takes, or one that has all that was answered; and what it was before
 *       is neither: it had an older UUID (JF3), and is overwritten.
 * (JF7) Nothing of it begins before the loss is recorded (JF3), or while an
 *       operation on the lost copy is under way (MI5).
 * Fails: it is lost (MI6), which is recorded if it may have got a superblock;
 *   the volume is as it was. It is tried less and less often. */
#ifndef LSVD_VOLUME_JOURNAL_REFILL_H
#define LSVD_VOLUME_JOURNAL_REFILL_H

#include <stdbool.h>
#include <stddef.h>

struct lsvd_volume;

/* Is the directory there again of which there is no copy? The watch's. */
void journal_look(struct lsvd_volume *v);

/* Is there something to do for the role? Under state_lock. */
bool refill_is_asked_locked(const struct lsvd_volume *v);
/* Do a little of it. True: did something. The role's. */
bool refill_step(struct lsvd_volume *v);

/* Copies that a later start may take. */
unsigned journal_copies(struct lsvd_volume *v);
/* False: two directories were given, and one of them has no copy; why is
 * filled with a line that names it. */
bool journal_is_mirrored(struct lsvd_volume *v, char *why, size_t bytes);

/* What was begun and did not end. At close. */
void refill_done(struct lsvd_volume *v);

#endif
