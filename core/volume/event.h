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
void event_note(struct lsvd_volume *v, enum log_level level, const char *kind,
                char part, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
