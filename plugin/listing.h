/* listing.h: what a client sees before it chooses an export. */
#ifndef LSVD_PLUGIN_LISTING_H
#define LSVD_PLUGIN_LISTING_H

#include "config.h"
#include <stdbool.h>

struct nbdkit_exports;

/* All three: 0 (a string) or -1 (NULL) after an nbdkit_error. Strings are
 * nbdkit's. */
int listing_add(const struct config *config, struct nbdkit_exports *to);

/* Is this the volume, or a snapshot of it? */
bool listing_is_of(const char *name, const char *volume);

/* The only volume there is, or ""; snapshots don't count. */
const char *listing_default(const struct config *config);

/* The line that the listing shows beside a volume. */
const char *listing_describe(const struct config *config, const char *name);
/* The same of NAME@now. */
const char *listing_describe_now(const char *name);

#endif
