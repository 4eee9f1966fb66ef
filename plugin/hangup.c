/* hangup.c: an idle client doesn't keep the server from ending.
 *
 * Happy path: signal -> our handler wakes the watcher, then does what nbdkit
 * set -> grace, in which busy connections end by themselves -> the watcher
 * shuts the reading side of those left, again and again until .cleanup.
 *
 * (H1) Nothing is shut while a request is running: its answer goes out first.
 * (H2) Only sockets that were accepted here are shut: those whose local
 *      address is that of a listening socket of this process.
 * (H3) The signals keep the meaning that nbdkit gave them.
 * (H4) A request that waits (for space, for a part that hangs) does not keep
 *      the server from ending: the engine is told to hurry.
 *
 * nbdkit_nanosleep would tell of the end as well, but prints an error line
 * then. */
#define NBDKIT_API_VERSION 2
#include "hangup.h"
#include "exports.h"
#include "thread.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <nbdkit-plugin.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define GRACE_MS 250
#define SWEEP_MS 100
#define LISTENERS_MAX 16

static const int quit_signal[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP };
#define QUIT_SIGNALS (sizeof(quit_signal) / sizeof(quit_signal[0]))

/* File scope, as a signal handler has no context. */
static struct {
    int signal_fd; /* event: a signal came */
    int stop_fd;   /* event: .cleanup */
    bool running;  /* the watcher exists */
    pthread_t watcher;
    unsigned running_requests; /* atomic */
    struct sigaction before[QUIT_SIGNALS];
} hangup = { .signal_fd = -1, .stop_fd = -1 };

void
hangup_enter(void)
{
    (void)__atomic_add_fetch(&hangup.running_requests, 1, __ATOMIC_SEQ_CST);
}

void
hangup_leave(void)
{
    (void)__atomic_sub_fetch(&hangup.running_requests, 1, __ATOMIC_SEQ_CST);
}

static bool
idle(void)
{
    return __atomic_load_n(&hangup.running_requests, __ATOMIC_SEQ_CST) == 0;
}

static void
handle_signal(int number)
{
    const int saved = errno;

    thread_event_signal(hangup.signal_fd);
    for (size_t i = 0; i < QUIT_SIGNALS; i++)
        if (quit_signal[i] == number)
            hangup.before[i].sa_handler(number);
    errno = saved;
}

static bool
is_listening(int fd)
{
    socklen_t bytes = sizeof(int);
    int value = 0;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &bytes) == 0 &&
           value != 0;
}

struct local {
    struct sockaddr_storage at;
    socklen_t bytes;
};

static bool
local_of(int fd, struct local *ret)
{
    *ret = (struct local){ .bytes = sizeof(ret->at) };
    return getsockname(fd, (struct sockaddr *)&ret->at, &ret->bytes) == 0;
}

/* An accepted socket has the port or path of its listener, but not always
 * its address (which may be "any"). */
static bool
same_service(const struct local *a, const struct local *b)
{
    const void *pa = &a->at, *pb = &b->at;

    if (a->at.ss_family != b->at.ss_family)
        return false;
    switch (a->at.ss_family) {
    case AF_INET:
        return ((const struct sockaddr_in *)pa)->sin_port ==
               ((const struct sockaddr_in *)pb)->sin_port;
    case AF_INET6:
        return ((const struct sockaddr_in6 *)pa)->sin6_port ==
               ((const struct sockaddr_in6 *)pb)->sin6_port;
    case AF_VSOCK:
        return ((const struct sockaddr_vm *)pa)->svm_port ==
               ((const struct sockaddr_vm *)pb)->svm_port;
    case AF_UNIX:
        return a->bytes == b->bytes &&
               a->bytes > offsetof(struct sockaddr_un, sun_path) &&
               memcmp(pa, pb, a->bytes) == 0;
    default:
        return false;
    }
}

/* Call fn for every descriptor of this process that is a stream socket. */
static void
each_socket(void (*fn)(void *ctx, int fd, const struct local *local),
            void *ctx)
{
    struct dirent *entry;
    struct local local;
    DIR *dir;
    int fd;

    dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        fd = atoi(entry->d_name); /* "." and "..": 0, no harm */
        if (fd > STDERR_FILENO && local_of(fd, &local))
            fn(ctx, fd, &local);
    }
    (void)closedir(dir);
}

struct listeners {
    struct local at[LISTENERS_MAX];
    size_t count;
};

static void
note_listener(void *ctx, int fd, const struct local *local)
{
    struct listeners *listeners = ctx;

    if (is_listening(fd) && listeners->count < LISTENERS_MAX)
        listeners->at[listeners->count++] = *local;
}

static void
shut_accepted(void *ctx, int fd, const struct local *local)
{
    const struct listeners *listeners = ctx;

    if (is_listening(fd))
        return;
    for (size_t i = 0; i < listeners->count; i++)
        if (same_service(local, &listeners->at[i]))
            (void)shutdown(fd, SHUT_RD); /* fails if it is gone: fine */
}

static void
sweep(void)
{
    struct listeners listeners = { .count = 0 };

    each_socket(note_listener, &listeners);
    each_socket(shut_accepted, &listeners);
}

/* True when .cleanup wants us to end. */
static bool
stopped_within(int timeout_ms)
{
    struct pollfd stop = { .fd = hangup.stop_fd, .events = POLLIN };

    return poll(&stop, 1, timeout_ms) > 0;
}

static void *
watch(void *unused)
{
    struct pollfd fds[] = {
        { .fd = hangup.signal_fd, .events = POLLIN },
        { .fd = hangup.stop_fd, .events = POLLIN },
    };

    (void)unused;
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        continue;
    if (stopped_within(GRACE_MS))
        return NULL;
    nbdkit_debug("lsvd: shutting down: hanging up on idle clients");
    do {
        exports_hurry(); /* H4; also what was just being opened */
        if (idle()) /* H1 */
            sweep();
    } while (!stopped_within(SWEEP_MS));
    return NULL;
}

/* H3: a signal that nbdkit ignores, or leaves to the system, stays so. */
static void
take_signals(void)
{
    struct sigaction action;

    for (size_t i = 0; i < QUIT_SIGNALS; i++) {
        if (sigaction(quit_signal[i], NULL, &hangup.before[i]) < 0)
            continue;
        if (hangup.before[i].sa_handler == SIG_DFL ||
            hangup.before[i].sa_handler == SIG_IGN ||
            (hangup.before[i].sa_flags & SA_SIGINFO) != 0)
            continue;
        action = hangup.before[i];
        action.sa_handler = handle_signal;
        (void)sigaction(quit_signal[i], &action, NULL);
    }
}

int
hangup_start(void)
{
    assert(!hangup.running);
    hangup.signal_fd = thread_event_open();
    hangup.stop_fd = thread_event_open();
    if (hangup.signal_fd < 0 || hangup.stop_fd < 0 ||
        thread_start(&hangup.watcher, watch, NULL) < 0)
        return -1;
    hangup.running = true;
    take_signals();
    return 0;
}

int
hangup_signal_fd(void)
{
    return hangup.signal_fd;
}

/* The handlers and descriptors stay: a second signal may be on its way, and
 * the process is about to end. */
void
hangup_stop(void)
{
    if (!hangup.running)
        return;
    thread_event_signal(hangup.stop_fd);
    (void)pthread_join(hangup.watcher, NULL);
    hangup.running = false;
}
