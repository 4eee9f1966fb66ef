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

/* Who serves the volume, for what is not done by the engine alone. Called by
 * threads of the socket. */
struct control_owner {
    /* Make this snapshot of it; clients wait for so long. A negative errno,
     * with a line of text. The volume that is served then is another: see
     * control_server_exchange. */
    int (*snapshot)(void *ctx, const char *name, uint64_t *ret_pause_us,
                    char error[CONTROL_ERROR_BYTES]);
    /* How other volumes are found; valid as long as the volume is open. */
    struct lsvd_env (*env)(void *ctx);
    /* As of lsvd_alone. */
    int (*alone)(void *ctx, int (*fn)(void *arg), void *arg,
                 char error[CONTROL_ERROR_BYTES]);
    void *ctx;
};

/* Listen at <cache>/<UUID>.control, in the first cache directory where that
 * works. What a dead server left there is replaced: the caller holds the
 * volume's lock, so no live one is disturbed. The volume must stay open until
 * control_server_stop; owner, which is borrowed, too. A negative errno, with a
 * line of text in error. */
int control_server_start(struct lsvd_volume *v,
                         const struct control_owner *owner,
                         struct control_server **ret,
                         char error[CONTROL_ERROR_BYTES]);

/* Whoever asks anything waits from now on, and what is being asked of the
 * volume is waited for, but for its snapshot; until one of the next two. */
void control_server_hold(struct control_server *s);
void control_server_resume(struct control_server *s);
/* It is held: from now on it is the socket of this volume, under its UUID. A
 * negative errno, with a line of text: it can't be found. */
int control_server_exchange(struct control_server *s, struct lsvd_volume *v,
                            char error[CONTROL_ERROR_BYTES]);

/* Remove the socket, end what is being answered, wait for it. NULL is
 * fine. */
void control_server_stop(struct control_server *s);

#endif
