/* server.h: the control socket of one open volume.
 *
 * Root and the user that runs the server may use it, nobody else: mode 0600,
 * and the kernel is asked who connected. Requests are judged by protocol.h;
 * at most a few run at a time. The volume is only used through lsvd.h, from
 * threads of its own. */
#ifndef LSVD_CONTROL_SERVER_H
#define LSVD_CONTROL_SERVER_H

#include "control/protocol.h"
#include "lsvd.h"

struct control_server;

/* Listen at <cache>/<UUID>.control, in the first cache directory where that
 * works. What a dead server left there is replaced: the caller holds the
 * volume's lock, so no live one is disturbed. The volume must stay open until
 * control_server_stop. A negative errno, with a line of text in error. */
int control_server_start(struct lsvd_volume *v, struct control_server **ret,
                         char error[CONTROL_ERROR_BYTES]);

/* Remove the socket, end what is being answered, wait for it. NULL is
 * fine. */
void control_server_stop(struct control_server *s);

#endif
