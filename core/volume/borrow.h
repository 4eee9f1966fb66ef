/* borrow.h: a volume that is needed twice by what one server serves.
 *
 * What a killed server left in the journal of a snapshot is read there as long
 * as a part that it has to be moved to is away. Such a snapshot is locked for
 * one opening. So whoever needs it, too, among the volume that is opened and
 * all that this needs, gets the one that is open: a volume may have the same
 * snapshot below it and as a source.
 * (BO1) Only one with a journal is lent. Any other is opened once more, as then
 *       each can be renewed without the other (renew.c).
 * (BO2) It is closed, and told to hurry, when the last who has it lets it go.
 * (BO3) As long as it is lent its own parent is not taken from it (adopt.c),
 *       and it is not opened to be added to (adding.c). */
#ifndef LSVD_VOLUME_BORROW_H
#define LSVD_VOLUME_BORROW_H

#include "volume/volume.h"

/* For v, which is being opened by v->opener, or is open and reserved: the
 * volume that is called so by number. NULL: none that is to be lent. */
struct lsvd_volume *borrow(const struct lsvd_volume *v, uint32_t number,
                           const struct uuid *uuid);
/* Who has v lets it go. False: it was the last, who is to close it. */
bool borrow_give_back(struct lsvd_volume *v);
/* BO3. -EBUSY. */
int borrow_check_alone(const struct lsvd_volume *v);

#endif
