/* exports.h: the volumes that this server has open.
 *
 * A volume is opened once, by the first who asks for it, and shared by all
 * connections; it stays open until the server ends, so that a client that
 * reconnects finds it warm and no other server slips in between; but for a
 * snapshot, which is closed when nobody reads it any more. One that had
 * too few parts to be written is opened anew when they are back, and a snapshot
 * puts its successor in its place. */
#ifndef LSVD_PLUGIN_EXPORTS_H
#define LSVD_PLUGIN_EXPORTS_H

#include <lsvd.h>
#include <stdbool.h>
#include <stdint.h>

#include "config.h"

struct export;

/* Serve config->volume alone (open it now), or any volume of the roots when
 * it is NULL. Borrows config. 0, or -1 after an nbdkit_error. */
int exports_open(const struct config *config);

/* The server has forked: threads may run from now on. 0 or -1. */
int exports_start(void);

/* The server is to end. Who waits for a part that hangs, or for one to come
 * back, does so not for long any more. Any thread. */
void exports_hurry(void);

/* No request is running any more: close all, print what fails. closed is called
 * after each. */
void exports_close(void (*closed)(void));

/* The export a client asked for; opened for reading alone if it wasn't open
 * and read_only is set. NULL after an nbdkit_error. To be given back. */
struct export *exports_get(const char *name, bool read_only);
void exports_put(struct export *e);

/* Call fn for each volume that is open; it must be quick, and call nothing of
 * this. Any thread; for none any more once exports_close has begun. */
void exports_each(void (*fn)(void *ctx, struct lsvd_volume *v), void *ctx);

/* The volume, for one request; NULL: it is being opened anew, and that did not
 * work yet. It stays what it is until export_leave. */
struct lsvd_volume *export_enter(struct export *e, unsigned *ret_entered);
void export_leave(struct export *e, unsigned entered);
/* Call fn, which must be quick, while no request is inside: none may be under
 * way, and those that come wait. -1 after an nbdkit_error. */
int export_alone(struct export *e, int (*fn)(void *ctx, struct lsvd_volume *v),
                 void *ctx);
const char *export_volume_name(const struct export *e);
/* As it is now: lsvd resize may make it grow. nbdkit asks once a connection,
 * and keeps that one to what it was told. */
uint64_t export_size_bytes(struct export *e);
uint32_t export_block_bytes(const struct export *e);

#endif
