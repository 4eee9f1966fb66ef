/* now.h: the export NAME@now: what volume NAME holds when a client connects,
 * for as long as it is connected, while others write. Each connection has a
 * moment of its own (lsvd_moment_take), so a client must not have several. */
#ifndef LSVD_PLUGIN_NOW_H
#define LSVD_PLUGIN_NOW_H

#include <stdbool.h>
#include <stddef.h>

#define NOW_SUFFIX "@now"

struct export;
struct lsvd_moment;

/* Is it NAME@now? */
bool now_is_name(const char *name);

/* The export of the volume, opened if need be (exports_get), and the moment.
 * NULL after an nbdkit_error. */
struct export *now_open(const char *name, bool read_only,
                        struct lsvd_moment **ret);
void now_close(struct export *e, struct lsvd_moment *m);

#endif
