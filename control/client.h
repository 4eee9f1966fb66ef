/* client.h: asking the server of a volume. */
#ifndef LSVD_CONTROL_CLIENT_H
#define LSVD_CONTROL_CLIENT_H

#include "control/protocol.h"
#include "lsvd.h"
#include <stdbool.h>

struct control_ask {
    const char *volume; /* name */
    const char *op;
    const json_t *args; /* NULL: none */
    /* A line that is not the last; NULL: passed over. */
    void (*line)(void *ctx, const char *key, const json_t *value);
    bool (*cancelled)(void *ctx); /* true: stop soon, -EINTR; or NULL */
    void *ctx;
    int patience_ms; /* for the next line; 0: for ever */
};

/* Ask whichever server serves the volume from one of these cache directories.
 * Returns 0 with *ret_result (owned by the caller), or a negative errno with a
 * line of text: -ENOENT if there is no socket where somebody answers for this
 * volume, so that it is not served here, as far as can be seen; -EACCES if
 * there are some that we may not ask; -EHOSTDOWN if a cache directory hangs, so
 * that it can't be told; the server's own error (-EREMOTEIO for one that would
 * mean one of these); -EINTR;
 * -ETIMEDOUT; -EPROTO. */
int control_ask(const struct lsvd_caches *caches,
                const struct control_ask *ask, json_t **ret_result,
                char error[CONTROL_ERROR_BYTES]);

/* Call cb for each volume served from these cache directories, with its
 * status; sockets where nobody answers are passed over. 0, or a negative errno
 * with a line of text: -EHOSTDOWN, a directory hangs, and what is served from
 * there was left out. */
int control_each(const struct lsvd_caches *caches,
                 void (*cb)(void *ctx, const char *volume,
                            const json_t *status), void *ctx,
                 char error[CONTROL_ERROR_BYTES]);

#endif
