/* answer.c: see answer.h. */
#include "control/answer.h"

#include "control/protocol.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define SEND_TIMEOUT_S 10

void
answer_init(struct answer *a, int fd, const atomic_bool *stopping)
{
    const struct timeval timeout = { .tv_sec = SEND_TIMEOUT_S };

    *a = (struct answer){ .fd = fd, .stopping = stopping };
    pthread_mutex_init(&a->lock, NULL);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
}

void
answer_free(struct answer *a)
{
    pthread_mutex_destroy(&a->lock);
}

/* A line of which a part went out can't be taken back: then it is over. */
static void
send_locked(struct answer *a, const char *text, size_t bytes, bool may_drop)
{
    const int flags = MSG_NOSIGNAL | (may_drop ? MSG_DONTWAIT : 0);
    size_t sent = 0;

    while (sent < bytes && !atomic_load(&a->broken)) {
        ssize_t n = send(a->fd, text + sent, bytes - sent, flags);

        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno == EINTR)
            continue;
        else if (may_drop && sent == 0 && n < 0 &&
                 (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        else
            atomic_store(&a->broken, true);
    }
}

static void
send_object(struct answer *a, json_t *object, bool may_drop)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    size_t bytes = text ? strlen(text) : 0;

    if (!text) { /* out of memory: better no answer than half of one */
        atomic_store(&a->broken, true);
        json_decref(object);
        return;
    }
    text[bytes] = '\n'; /* in place of its end */
    pthread_mutex_lock(&a->lock);
    send_locked(a, text, bytes + 1, may_drop);
    pthread_mutex_unlock(&a->lock);
    free(text);
    json_decref(object);
}

int
answer_line(struct answer *a, const char *key, json_t *value)
{
    send_object(a, json_pack("{s:I, s:o}", "id", a->id, key, value), false);
    return atomic_load(&a->broken) ? -EPIPE : 0;
}

void
answer_try(struct answer *a, const char *key, json_t *value)
{
    send_object(a, json_pack("{s:I, s:o}", "id", a->id, key, value), true);
}

void
answer_done(struct answer *a, json_t *result)
{
    send_object(a, json_pack("{s:i, s:I, s:b, s:o}", "version",
                             CONTROL_VERSION, "id", a->id, "done", 1,
                             "result", result), false);
}

void
answer_error(struct answer *a, int error, const char *text)
{
    send_object(a, json_pack("{s:i, s:I, s:b, s:o, s:i}", "version",
                             CONTROL_VERSION, "id", a->id, "done", 1,
                             "error", control_text(text), "errno", -error),
                false);
}

bool
answer_unwanted(struct answer *a)
{
    struct pollfd fd = { .fd = a->fd };

    if (atomic_load(a->stopping) || atomic_load(&a->broken))
        return true;
    return poll(&fd, 1, 0) > 0 &&
           (fd.revents & (POLLHUP | POLLERR)) != 0;
}
