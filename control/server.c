/* server.c: see server.h.
 *
 *   one thread accepts; each connection has a thread and a slot
 *   FREE -> RUNNING   the accepting thread, before it starts the thread
 *   RUNNING -> ENDED  the connection's thread, as its last act
 *   ENDED -> FREE     the accepting thread (or stop), which joins it
 * (C1) A connection's descriptor is closed by who frees its slot, so that
 *      stop can shut it down without hitting another file of that number.
 * (C2) Nothing that a client does or leaves undone holds up another: reading
 *      a request and sending have deadlines, and slots are few but apart. */
#include "control/server.h"

#include "control/ops.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 8
#define REQUEST_TIMEOUT_MS 5000
#define ACCEPT_PAUSE_MS 100 /* no descriptors left: somebody must end first */

enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_ENDED };

struct connection {
    struct control_server *server;
    _Atomic enum slot_state state;
    int fd;
    pthread_t thread;
};

struct control_server {
    struct served served;
    char name[65], uuid[37]; /* of the volume; under served.gate */
    char socket_name[64];
    int directory_fd;
    int listen_fd;
    int stop_fd;             /* eventfd */
    dev_t device;            /* of the socket that we made, */
    ino_t inode;             /* to remove no other */
    atomic_bool stopping;
    bool accepting;          /* the thread exists */
    pthread_t thread;
    struct connection connection[CONNECTIONS_MAX];
};

/* ---- one connection ---- */

/* One line into text, without its newline. The number of its bytes, or
 * -EMSGSIZE, -ETIMEDOUT, -EPIPE. */
static int
read_line(int fd, char text[CONTROL_REQUEST_MAX])
{
    const int64_t end = control_now_ms() + REQUEST_TIMEOUT_MS;
    size_t have = 0;

    while (have < CONTROL_REQUEST_MAX) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        int64_t left = end - control_now_ms();
        ssize_t n;
        char *newline;

        if (left <= 0 || poll(&ready, 1, (int)left) == 0)
            return -ETIMEDOUT;
        n = recv(fd, text + have, CONTROL_REQUEST_MAX - have, MSG_DONTWAIT);
        if (n == 0)
            return -EPIPE;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (n < 0)
            continue;
        newline = memchr(text + have, '\n', (size_t)n);
        if (newline)
            return (int)(newline - text);
        have += (size_t)n;
    }
    return -EMSGSIZE;
}

static bool
is_allowed(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

static bool
is_ours(struct control_server *s, const char *volume)
{
    bool is;

    pthread_rwlock_rdlock(&s->served.gate);
    is = strcmp(volume, s->name) == 0 || strcmp(volume, s->uuid) == 0;
    pthread_rwlock_unlock(&s->served.gate);
    return is;
}

static void
answer_request(struct control_server *s, struct answer *a, const char *line,
               size_t bytes)
{
    struct control_request request;
    char text[CONTROL_ERROR_BYTES];
    int r = control_request_parse(line, bytes, &request, text);

    a->id = request.id;
    if (r < 0) {
        answer_error(a, r, text);
        return;
    }
    if (is_ours(s, request.volume)) {
        ops_run(&s->served, &request, a);
    } else {
        (void)snprintf(text, sizeof text, "volume %s is not served here: "
                       "this is the socket of %s", request.volume, s->name);
        answer_error(a, -ENXIO, text);
    }
    control_request_done(&request);
}

static void
converse(struct control_server *s, int fd)
{
    char line[CONTROL_REQUEST_MAX], text[CONTROL_ERROR_BYTES];
    struct answer answer;
    int bytes;

    answer_init(&answer, fd, &s->stopping);
    if (!is_allowed(fd)) {
        answer_error(&answer, -EPERM, "refused: only root and the user that "
                     "runs the server may ask");
        answer_free(&answer);
        return;
    }
    bytes = read_line(fd, line);
    if (bytes >= 0) {
        answer_request(s, &answer, line, (size_t)bytes);
    } else if (bytes == -EMSGSIZE) {
        (void)snprintf(text, sizeof text, "the request is longer than %d "
                       "bytes", CONTROL_REQUEST_MAX);
        answer_error(&answer, -EMSGSIZE, text);
    } else if (bytes == -ETIMEDOUT) {
        answer_error(&answer, -ETIMEDOUT, "no request came");
    } else {
        answer_error(&answer, -EINVAL, "the request is not a whole line");
    }
    answer_free(&answer);
}

static void *
run_connection(void *ctx)
{
    struct connection *c = ctx;

    converse(c->server, c->fd);
    (void)shutdown(c->fd, SHUT_RDWR); /* closed later: C1 */
    atomic_store(&c->state, SLOT_ENDED);
    return NULL;
}

/* ---- the accepting thread ---- */

static void
reap(struct connection *c)
{
    (void)pthread_join(c->thread, NULL);
    (void)close(c->fd);
    atomic_store(&c->state, SLOT_FREE);
}

static struct connection *
find_slot(struct control_server *s)
{
    struct connection *found = NULL;

    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &s->connection[i];

        if (atomic_load(&c->state) == SLOT_ENDED)
            reap(c);
        if (atomic_load(&c->state) == SLOT_FREE)
            found = c;
    }
    return found;
}

static void
turn_away(struct control_server *s, int fd)
{
    struct answer answer;

    answer_init(&answer, fd, &s->stopping);
    answer_error(&answer, -EBUSY, "too many requests at a time; ask again");
    answer_free(&answer);
    (void)close(fd);
}

static void
take_connection(struct control_server *s, int fd)
{
    struct connection *c = find_slot(s);

    if (c) {
        c->server = s;
        c->fd = fd;
        atomic_store(&c->state, SLOT_RUNNING);
        if (pthread_create(&c->thread, NULL, run_connection, c) == 0)
            return;
        atomic_store(&c->state, SLOT_FREE);
    }
    turn_away(s, fd);
}

static void *
accept_connections(void *ctx)
{
    struct control_server *s = ctx;
    struct pollfd fds[] = {
        { .fd = s->stop_fd, .events = POLLIN },
        { .fd = s->listen_fd, .events = POLLIN },
    };

    while (!atomic_load(&s->stopping)) {
        int fd;

        if (poll(fds, 2, -1) < 0 || fds[0].revents)
            continue;
        fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            take_connection(s, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            (void)poll(fds, 1, ACCEPT_PAUSE_MS);
    }
    return NULL;
}

/* ---- making the socket ---- */

/* Only a socket is ever removed: a file of that name is somebody's. */
static int
remove_stale(const struct control_server *s)
{
    struct stat info;

    if (fstatat(s->directory_fd, s->socket_name, &info,
                AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(info.st_mode))
        return -EEXIST;
    return unlinkat(s->directory_fd, s->socket_name, 0) < 0 ? -errno : 0;
}

/* The mode of the inode comes from the socket's own, so that there is no
 * moment in which others could connect. */
static int
bind_socket(struct control_server *s, const char *directory)
{
    struct sockaddr_un address;
    const void *at = &address;
    struct stat info;
    int r = remove_stale(s);

    if (r < 0)
        return r;
    control_address(directory, s->directory_fd, s->socket_name, &address);
    if (fchmod(s->listen_fd, 0600) < 0 ||
        bind(s->listen_fd, at, sizeof address) < 0)
        return -errno;
    if (fstatat(s->directory_fd, s->socket_name, &info,
                AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    s->device = info.st_dev;
    s->inode = info.st_ino;
    return listen(s->listen_fd, CONNECTIONS_MAX) < 0 ? -errno : 0;
}

static int
listen_in(struct control_server *s, const char *directory)
{
    int r;

    s->directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->directory_fd < 0)
        return -errno;
    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
                          SOCK_NONBLOCK, 0);
    r = s->listen_fd < 0 ? -errno : bind_socket(s, directory);
    if (r == 0)
        return 0;
    if (s->listen_fd >= 0)
        (void)close(s->listen_fd);
    (void)close(s->directory_fd);
    s->listen_fd = s->directory_fd = -1;
    return r;
}

static int
listen_somewhere(struct control_server *s, const struct lsvd_serving *serving,
                 char *error)
{
    int r = -ENOENT;

    (void)snprintf(s->socket_name, sizeof s->socket_name,
                   "%s" CONTROL_SUFFIX, serving->uuid);
    for (uint32_t i = 0; i < serving->caches.count; i++) {
        r = listen_in(s, serving->caches.directory[i]);
        if (r == 0)
            return 0;
        (void)control_fail(error, r, "no control socket %.300s/%s: %s",
                   serving->caches.directory[i], s->socket_name,
                   r == -EEXIST ? "there is a file of that name that is no "
                                  "socket" : strerror(-r));
    }
    return r;
}

/* Signals are for the threads of the program. */
static int
start_thread(pthread_t *thread, void *(*run)(void *), void *ctx)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(thread, NULL, run, ctx); /* the mask is inherited */
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static int
make_nonce(char nonce[NONCE_BYTES])
{
    uint64_t random;

    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -errno;
    (void)snprintf(nonce, NONCE_BYTES, "%016" PRIx64, random);
    return 0;
}

static int
bring_up(struct control_server *s, const struct lsvd_serving *serving,
         char *error)
{
    int r = make_nonce(s->served.nonce);

    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r < 0 || s->stop_fd < 0)
        return control_fail(error, r < 0 ? r : -errno, "no control socket: %m");
    r = listen_somewhere(s, serving, error);
    if (r < 0)
        return r;
    r = start_thread(&s->thread, accept_connections, s);
    if (r < 0)
        return control_fail(error, r,
                            "no control socket: can't start a thread: %s",
                            strerror(-r));
    s->accepting = true;
    return 0;
}

/* One that a stream of askers doesn't keep shut. */
static void
make_gate(pthread_rwlock_t *gate)
{
    pthread_rwlockattr_t attributes;

    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes,
                                  PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(gate, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

int
control_server_start(struct lsvd_volume *v, const struct control_owner *owner,
                     struct control_server **ret,
                     char error[CONTROL_ERROR_BYTES])
{
    struct lsvd_serving *serving = malloc(sizeof *serving);
    struct control_server *s = calloc(1, sizeof *s);
    int r = -ENOMEM;

    *ret = NULL;
    if (!serving || !s) {
        (void)control_fail(error, r, "no control socket: out of memory");
    } else {
        s->directory_fd = s->listen_fd = s->stop_fd = -1;
        s->served.volume = v;
        s->served.owner = owner;
        make_gate(&s->served.gate);
        lsvd_get_serving(v, serving);
        memcpy(s->name, serving->name, sizeof s->name);
        memcpy(s->uuid, serving->uuid, sizeof s->uuid);
        r = bring_up(s, serving, error);
    }
    free(serving);
    if (r == 0)
        *ret = s;
    else
        control_server_stop(s);
    return r;
}

/* ---- another volume ---- */

void
control_server_hold(struct control_server *s)
{
    pthread_rwlock_wrlock(&s->served.gate);
}

void
control_server_resume(struct control_server *s)
{
    pthread_rwlock_unlock(&s->served.gate);
}

/* What is there under its name is a dead server's, as at a start. */
static int
rename_socket(struct control_server *s, const char *uuid)
{
    char old[sizeof s->socket_name];
    int r;

    memcpy(old, s->socket_name, sizeof old);
    (void)snprintf(s->socket_name, sizeof s->socket_name, "%s" CONTROL_SUFFIX,
                   uuid);
    r = remove_stale(s);
    if (r == 0 && renameat(s->directory_fd, old, s->directory_fd,
                           s->socket_name) < 0)
        r = -errno;
    if (r < 0) /* it stays where it was */
        memcpy(s->socket_name, old, sizeof old);
    return r;
}

int
control_server_exchange(struct control_server *s, struct lsvd_volume *v,
                        char error[CONTROL_ERROR_BYTES])
{
    struct lsvd_serving *serving = malloc(sizeof *serving);
    int r = 0;

    s->served.volume = v;
    if (serving) {
        lsvd_get_serving(v, serving);
        memcpy(s->name, serving->name, sizeof s->name);
        memcpy(s->uuid, serving->uuid, sizeof s->uuid);
        r = rename_socket(s, serving->uuid);
    }
    pthread_rwlock_unlock(&s->served.gate);
    if (!serving)
        r = -ENOMEM;
    free(serving);
    return r == 0 ? 0
                  : control_fail(error, r, "no control socket after the "
                                 "snapshot: %s", strerror(-r));
}

/* ---- the end ---- */

static void
remove_socket(const struct control_server *s)
{
    struct stat info;

    if (fstatat(s->directory_fd, s->socket_name, &info,
                AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_dev == s->device && info.st_ino == s->inode)
        (void)unlinkat(s->directory_fd, s->socket_name, 0);
}

static void
end_threads(struct control_server *s)
{
    const uint64_t one = 1;

    atomic_store(&s->stopping, true);
    if (write(s->stop_fd, &one, sizeof one) < 0)
        return; /* can't be: it was made for this */
    (void)pthread_join(s->thread, NULL);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &s->connection[i];

        if (atomic_load(&c->state) == SLOT_RUNNING)
            (void)shutdown(c->fd, SHUT_RDWR);
    }
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (atomic_load(&s->connection[i].state) != SLOT_FREE)
            reap(&s->connection[i]);
}

void
control_server_stop(struct control_server *s)
{
    if (!s)
        return;
    if (s->inode != 0)
        remove_socket(s);
    if (s->accepting)
        end_threads(s);
    for (size_t i = 0; i < 3; i++) {
        int fd = i == 0   ? s->listen_fd
                 : i == 1 ? s->directory_fd
                          : s->stop_fd;

        if (fd >= 0)
            (void)close(fd);
    }
    pthread_rwlock_destroy(&s->served.gate);
    free(s);
}
