/* answer.h: the lines that a request is answered with. Any thread may add
 * one: the engine's callbacks come from its own. */
#ifndef LSVD_CONTROL_ANSWER_H
#define LSVD_CONTROL_ANSWER_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct answer {
    int fd;
    json_int_t id;
    const atomic_bool *stopping; /* the server ends */
    atomic_bool broken;          /* the client has gone, or does not read */
    pthread_mutex_t lock;        /* guards the order of lines */
    uint64_t progress_ms;        /* of the last line of progress */
};

void answer_init(struct answer *a, int fd, const atomic_bool *stopping);
void answer_free(struct answer *a); /* not the descriptor */

/* A line with key: value. Takes value (NULL: out of memory, which breaks the
 * answer). Waits for a slow client, for a while: not for threads that others
 * depend on. 0, or -EPIPE when it is broken. */
int answer_line(struct answer *a, const char *key, json_t *value);

/* The same, but never waits: what does not fit is dropped. */
void answer_try(struct answer *a, const char *key, json_t *value);

/* The last line. Takes result. */
void answer_done(struct answer *a, json_t *result);
/* error: negative errno. */
void answer_error(struct answer *a, int error, const char *text);

/* True when nobody waits for more. Costs a system call. */
bool answer_unwanted(struct answer *a);

#endif
