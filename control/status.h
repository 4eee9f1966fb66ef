/* status.h: what the engine tells of an open volume, as JSON. All return NULL
 * when memory runs out. */
#ifndef LSVD_CONTROL_STATUS_H
#define LSVD_CONTROL_STATUS_H

#include "lsvd.h"
#include <jansson.h>

json_t *status_to_json(const struct lsvd_status *status);
json_t *event_to_json(const struct lsvd_event *event);

/* The time in microseconds below which this share (0.99) of what was counted
 * stayed; between the bounds of a bucket it is estimated. 0 if nothing was. */
uint64_t latency_quantile_us(const struct lsvd_latency *latency,
                             double share);

#endif
