/* vanish.h: nbdkit before 1.33.10 aborts the whole server when a client drops
 * a connection without TLS that has several requests running. No plugin can
 * prevent it; we say so, once, when there first is such a connection. */
#ifndef LSVD_PLUGIN_VANISH_H
#define LSVD_PLUGIN_VANISH_H

#include <stdatomic.h>
#include <stdbool.h>

/* In .get_ready, while there is one thread: which nbdkit is this? */
void vanish_find_out(void);

struct vanish {
    bool is_tls;
    atomic_uint running; /* requests of this connection */
};

/* Around each request. */
void vanish_enter(struct vanish *connection);
void vanish_leave(struct vanish *connection);

#endif
