/* event.h: the last changes of state, for people who ask what happened.
 *
 * Kinds: start, stop, view, drop, return, resync, sync, replace, stall,
 * silence, failed, fenced, heal, lost, slow, failing, scrub, journal, set,
 * resize, force, takeover. In memory; any thread. */
#ifndef LSVD_VOLUME_EVENT_H
#define LSVD_VOLUME_EVENT_H

#include "base/log.h"
#include <stdint.h>

struct lsvd_volume;
struct events;

int events_new(struct events **ret);
void events_free(struct events *e); /* NULL is fine */

/* Note it, and send it to the log at this level. part: letter, or 0. kind is a
 * constant. */
/* Another volume's ring is its own, too, from now on; nobody else has either of
 * them yet. */
void events_share(struct lsvd_volume *from, struct lsvd_volume *to);

void event_note(struct lsvd_volume *v, enum log_level level, const char *kind,
                char part, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
