/* ops.h: what can be asked of a served volume. */
#ifndef LSVD_CONTROL_OPS_H
#define LSVD_CONTROL_OPS_H

#include "control/answer.h"
#include "control/protocol.h"
#include "control/server.h"
#include "lsvd.h"

#define NONCE_BYTES 17 /* 16 hex digits */

struct served {
    struct lsvd_volume *volume; /* under the gate, held shared while it is used,
                                 * and exclusive to exchange it */
    pthread_rwlock_t gate;
    const struct control_owner *owner;
    char nonce[NONCE_BYTES]; /* of this run of the server: status tells it */
};

/* Do it, and send every line of the answer. */
void ops_run(struct served *served, const struct control_request *request,
             struct answer *answer);

/* jobs.c: those that may take long. They answer in the same way. */
void op_verify(struct served *s, const json_t *args, struct answer *a);
void op_rebuild(struct served *s, const json_t *args, struct answer *a);
void op_replace(struct served *s, const json_t *args, struct answer *a);
void op_set(struct served *s, const json_t *args, struct answer *a);
void op_resize(struct served *s, const json_t *args, struct answer *a);
void op_snapshot(struct served *s, const json_t *args, struct answer *a);
void op_flatten(struct served *s, const json_t *args, struct answer *a);
void op_dedupe(struct served *s, const json_t *args, struct answer *a);
/* diff.c */
void op_diff(struct served *s, const json_t *args, struct answer *a);

#endif
