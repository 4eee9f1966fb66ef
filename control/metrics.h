/* metrics.h: what the engine tells, as Prometheus reads it; docs/metrics.md
 * names each. */
#ifndef LSVD_CONTROL_METRICS_H
#define LSVD_CONTROL_METRICS_H

#include "lsvd.h"
#include <stddef.h>

/* The text for these volumes (malloc'ed), or NULL: out of memory. served
 * false: the last time that they are told of. */
char *metrics_format(const struct lsvd_status *const *volume, size_t count,
                     bool served);

/* Put text in the place of a file, at once: readers see the old or the new.
 * 0, or a negative errno. */
int metrics_store(const char *path, const char *text);

#endif
