/* client.c: see client.h.
 *
 * Sockets are named by UUID, tools have a name; so every socket in the cache
 * directories is asked, and the server that has the volume answers. No root
 * of a volume is touched, and no cache directory but by way of reach.c: one
 * that hangs must not hang who wants to know. */
#include "control/client.h"

#include "control/reach.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 200            /* between two looks at cancelled */
#define FIND_PATIENCE_MS 5000  /* a server that says nothing for so long */

/* ---- a conversation ---- */

struct talk {
    int fd;
    const struct control_ask *ask;
    char *text;      /* what came and was not used yet; owned */
    size_t have, room;
};

static int
send_request(struct talk *t)
{
    char *line = control_request_format(1, t->ask->volume, t->ask->op,
                                        t->ask->args);
    ssize_t n;
    int r;

    if (!line)
        return -EMSGSIZE;
    /* It fits a fresh socket's buffer at once. Whoever refuses us may have
     * closed already; its answer can still be read. */
    n = send(t->fd, line, strlen(line), MSG_NOSIGNAL);
    r = n < 0 && errno != EPIPE && errno != ECONNRESET ? -errno : 0;
    free(line);
    return r;
}

static int
wait_readable(struct talk *t)
{
    const int64_t began = control_now_ms();
    struct pollfd ready = { .fd = t->fd, .events = POLLIN };

    for (;;) {
        if (t->ask->cancelled && t->ask->cancelled(t->ask->ctx))
            return -EINTR;
        if (poll(&ready, 1, LOOK_MS) > 0)
            return 0;
        if (t->ask->patience_ms > 0 &&
            control_now_ms() - began >= t->ask->patience_ms)
            return -ETIMEDOUT;
    }
}

static int
receive(struct talk *t)
{
    ssize_t n;
    int r;

    if (t->have == t->room) {
        size_t room = t->room ? 2 * t->room : 4096;
        char *grown = room > CONTROL_ANSWER_MAX ? NULL
                                                : realloc(t->text, room);

        if (!grown)
            return -ENOMEM;
        t->text = grown;
        t->room = room;
    }
    r = wait_readable(t);
    if (r < 0)
        return r;
    n = recv(t->fd, t->text + t->have, t->room - t->have, MSG_DONTWAIT);
    if (n == 0)
        return -EPIPE;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    t->have += (size_t)n;
    return 0;
}

/* The next object; *ret is owned by the caller. */
static int
next_line(struct talk *t, json_t **ret)
{
    size_t seen = 0, bytes;
    char *newline = NULL;
    int r;

    for (;;) {
        if (t->have > seen)
            newline = memchr(t->text + seen, '\n', t->have - seen);
        if (newline)
            break;
        seen = t->have;
        r = receive(t);
        if (r < 0)
            return r;
    }
    bytes = (size_t)(newline - t->text);
    *ret = json_loadb(t->text, bytes, 0, NULL);
    t->have -= bytes + 1;
    memmove(t->text, newline + 1, t->have);
    if (json_is_object(*ret))
        return 0;
    json_decref(*ret);
    return -EPROTO;
}

static void
tell(const struct control_ask *ask, json_t *line)
{
    const char *key;
    json_t *value;

    if (ask->line)
        json_object_foreach(line, key, value)
            if (strcmp(key, "id") != 0)
                ask->line(ask->ctx, key, value);
}

/* The last line: its result, or the server's error. */
static int
take_done(const json_t *line, json_t **ret, char *error)
{
    const json_t *text = json_object_get(line, "error");
    const json_t *number = json_object_get(line, "errno");
    json_t *result = json_object_get(line, "result");

    if (json_is_string(text)) {
        json_int_t code = json_integer_value(number);

        return control_fail(error, code > 0 && code < 4096 ? -(int)code : -EIO,
                    "%s", json_string_value(text));
    }
    if (!json_is_object(result))
        return control_fail(error, -EPROTO,
                            "the server's answer has no result");
    *ret = json_incref(result);
    return 0;
}

static int
converse(struct talk *t, json_t **ret, char *error)
{
    int r = send_request(t);

    while (r >= 0) {
        json_t *line;

        r = next_line(t, &line);
        if (r < 0)
            break;
        if (json_is_true(json_object_get(line, "done"))) {
            r = take_done(line, ret, error);
            json_decref(line);
            return r;
        }
        tell(t->ask, line);
        json_decref(line);
    }
    switch (r) {
    case -EINTR:
        return control_fail(error, r, "interrupted");
    case -EPIPE:
    case -ECONNRESET:
        return control_fail(error, r, "the server ended while it was asked");
    case -ETIMEDOUT:
        return control_fail(error, r, "the server does not answer");
    case -EMSGSIZE:
        return control_fail(error, r, "too long for a request");
    default:
        return control_fail(error, r, "asking the server: %s", strerror(-r));
    }
}

/* A descriptor, or a negative errno with its text. */
static int
connect_to(const char *directory, const char *name, char *error)
{
    int fd = reach_connect(directory, name);

    if (fd >= 0)
        return fd;
    return control_fail(error, fd, "%.300s/%s: %s", directory, name,
                        fd == -EAGAIN ? "the server does not answer"
                                      : strerror(-fd));
}

/* Closes fd. */
static int
ask_server(int fd, const struct control_ask *ask, json_t **ret, char *error)
{
    struct talk talk = { .fd = fd, .ask = ask };
    int r = converse(&talk, ret, error);

    free(talk.text);
    (void)close(fd);
    return r;
}

/* ---- which sockets ---- */

/* What a callback of each_socket returns beside 0 (go on) and errors. */
enum { FOUND = 1, HANGS = 2 /* the directory, as was seen now */ };

/* Call cb for the name of each socket until it finds, or fails. FOUND; 0;
 * -errno with its text. *ret_silent: a directory that hangs and was passed
 * over, or NULL. */
static int
each_socket(const struct lsvd_caches *caches,
            int (*cb)(void *ctx, const char *directory, const char *name),
            void *ctx, const char **ret_silent, char *error)
{
    int r = 0;

    *ret_silent = NULL;
    for (uint32_t i = 0; i < caches->count && r == 0; i++) {
        const char *directory = caches->directory[i];
        struct reach_names names;

        r = reach_list(directory, &names);
        if (r == -EHOSTDOWN)
            r = HANGS;
        else if (r < 0)
            (void)control_fail(error, r, "%.300s: %s", directory,
                               strerror(-r));
        for (size_t k = 0; k < names.count && r == 0; k++)
            r = cb(ctx, directory, names.name[k]);
        reach_names_done(&names);
        if (r == HANGS) {
            *ret_silent = directory;
            r = 0;
        }
    }
    return r;
}

struct asking {
    const struct control_ask *ask;
    json_t **result;
    char *error;
    char why[CONTROL_ERROR_BYTES]; /* of a socket that was passed over */
    int passed; /* its error, 0: none */
    bool moved; /* a socket went away between the listing and the call */
};

#define MOVES_MAX 8 /* each snapshot of a volume gives its socket a new name */

static int
look_for_volume(struct asking *a, const char *directory, const char *name)
{
    struct control_ask look = { .volume = a->ask->volume, .op = "status",
                                .cancelled = a->ask->cancelled,
                                .ctx = a->ask->ctx,
                                .patience_ms = FIND_PATIENCE_MS };
    char text[CONTROL_ERROR_BYTES];
    json_t *status = NULL;
    int r = connect_to(directory, name, text);

    if (r == -EHOSTDOWN)
        return HANGS;
    if (r >= 0)
        r = ask_server(r, &look, &status, text);
    json_decref(status);
    a->moved = a->moved || r == -ENOENT;
    if (r == -EINTR)
        return control_fail(a->error, r, "%s", text);
    if (r < 0 && r != -ENXIO && r != -ECONNREFUSED && r != -ENOENT) {
        a->passed = r;
        memcpy(a->why, text, sizeof a->why);
    }
    return r == 0 ? FOUND : 0;
}

/* The server's own: not to be mistaken for one that says that there is none. */
static int
as_its_own(int r)
{
    return r == -ENOENT || r == -EACCES || r == -EHOSTDOWN ? -EREMOTEIO : r;
}

static int
ask_if_right(void *ctx, const char *directory, const char *name)
{
    struct asking *a = ctx;
    int r = look_for_volume(a, directory, name);

    if (r != FOUND)
        return r;
    r = connect_to(directory, name, a->error);
    if (r == -EHOSTDOWN)
        return HANGS;
    if (r == -ENOENT) {
        a->moved = true;
        return 0;
    }
    if (r >= 0)
        r = as_its_own(ask_server(r, a->ask, a->result, a->error));
    return r < 0 ? r : FOUND;
}

int
control_ask(const struct lsvd_caches *caches, const struct control_ask *ask,
            json_t **ret_result, char error[CONTROL_ERROR_BYTES])
{
    struct asking a = { .ask = ask, .result = ret_result, .error = error };
    const char *silent = NULL;
    int r = 0;

    *ret_result = NULL;
    for (int moves = 0; moves < MOVES_MAX; moves++) {
        a.moved = false;
        r = each_socket(caches, ask_if_right, &a, &silent, error);
        if (r != 0 || !a.moved)
            break;
    }
    if (r != 0)
        return r == FOUND ? 0 : r;
    if (silent)
        return control_fail(error, -EHOSTDOWN,
                            "volume %s: its server may be in %s, which does "
                            "not answer", ask->volume, silent);
    if (a.passed)
        return control_fail(error, a.passed == -EACCES || a.passed == -EPERM
                               ? -EACCES : -ENOENT, "%s", a.why);
    return control_fail(error, -ENOENT, "volume %s: no server answers here",
                ask->volume);
}

struct each {
    void (*cb)(void *ctx, const char *volume, const json_t *status);
    void *ctx;
};

static int
tell_one(void *ctx, const char *directory, const char *name)
{
    struct each *each = ctx;
    char uuid[37], text[CONTROL_ERROR_BYTES];
    struct control_ask ask = { .volume = uuid, .op = "status",
                               .patience_ms = FIND_PATIENCE_MS };
    json_t *status = NULL;
    const char *volume;
    int r = connect_to(directory, name, text);

    if (r == -EHOSTDOWN)
        return HANGS;
    (void)snprintf(uuid, sizeof uuid, "%s", name);
    if (r < 0 || ask_server(r, &ask, &status, text) < 0)
        return 0;
    volume = json_string_value(json_object_get(status, "name"));
    if (volume)
        each->cb(each->ctx, volume, status);
    json_decref(status);
    return 0;
}

int
control_each(const struct lsvd_caches *caches,
             void (*cb)(void *ctx, const char *volume, const json_t *status),
             void *ctx, char error[CONTROL_ERROR_BYTES])
{
    struct each each = { .cb = cb, .ctx = ctx };
    const char *silent;
    int r = each_socket(caches, tell_one, &each, &silent, error);

    if (r == 0 && silent)
        r = control_fail(error, -EHOSTDOWN, "%.300s does not answer: volumes "
                         "that are served from there are left out", silent);
    return r;
}
