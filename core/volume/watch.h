/* watch.h: a look at every part now and then, by a thread that nobody waits
 * for: are those in use where they should be, and do they answer? Are those
 * that are away back?
 *
 * (WA1) It changes nothing by itself: what it finds it tells to the role
 *       (part_gone, resync_offer).
 * (WA2) A part that is in use is looked for by its path: a directory that was
 *       taken away, unmounted, or replaced by an old copy is noticed though our
 *       descriptors still work. */
#ifndef LSVD_VOLUME_WATCH_H
#define LSVD_VOLUME_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct lsvd_volume;

/* One look at every part, on this thread. */
void watch_look(struct lsvd_volume *v);

/* Is this part, which is away, back? Then it is offered (resync_offer). */
void watch_for(struct lsvd_volume *v, uint32_t slot);

/* Something that failed so often in a row is looked for less and less often;
 * by the thread, which would try again every second. left: the caller's, looks
 * not to be made yet. */
bool watch_is_turn(const struct lsvd_volume *v, unsigned failed,
                   unsigned *left);

/* The thread: looks every second, until watch_stop. */
int watch_start(struct lsvd_volume *v);
void watch_stop(struct lsvd_volume *v);

#endif
