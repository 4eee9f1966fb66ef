/* supervisor.c: see supervisor.h. */
#define NBDKIT_API_VERSION 2
#include "supervisor.h"

#include <errno.h>
#include <nbdkit-plugin.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "exports.h"
#include "thread.h"

static struct {
    int fd;       /* connected to the supervisor's socket; -1: there is none */
    int stop_fd;  /* event */
    int every_ms; /* between two signs of life */
    bool running; /* the thread exists */
    atomic_bool closing;
    pthread_t thread;
} supervisor = { .fd = -1, .stop_fd = -1 };

/* $NOTIFY_SOCKET: a path, or @ and a name. */
static int
connect_to(const char *where)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const void *at = &address;
    size_t length = strlen(where);
    int fd;

    if ((where[0] != '/' && where[0] != '@') || where[1] == '\0' ||
        length >= sizeof(address.sun_path))
        return -1;
    memcpy(address.sun_path, where, length);
    if (where[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    length += offsetof(struct sockaddr_un, sun_path) +
              (where[0] == '/' ? 1 : 0);
    if (connect(fd, at, (socklen_t)length) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

/* Never waits: a supervisor that does not read is not worth a stop. */
static void
tell(const char *what)
{
    if (send(supervisor.fd, what, strlen(what),
             MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        nbdkit_debug("lsvd: telling the supervisor %s: %m", what);
}

static void
ask_volume(void *ctx, struct lsvd_volume *v)
{
    lsvd_get_status(v, ctx);
}

static void *
show_life(void *ctx)
{
    struct pollfd stop = { .fd = supervisor.stop_fd, .events = POLLIN };

    do {
        if (!atomic_load(&supervisor.closing))
            exports_each(ask_volume, ctx);
        tell("WATCHDOG=1");
    } while (poll(&stop, 1, supervisor.every_ms) <= 0);
    free(ctx);
    return NULL;
}

/* Twice in the time that is left to us; 0: no signs of life are wanted. */
static int
interval_ms(void)
{
    const char *text = getenv("WATCHDOG_USEC");
    long long us = text != NULL ? atoll(text) : 0;

    if (us <= 0)
        return 0;
    us /= 2000;
    return us < 1 ? 1 : us > 3600000 ? 3600000 : (int)us;
}

static int
start_thread(void)
{
    struct lsvd_status *status = malloc(sizeof(*status)); /* 100 KB */

    supervisor.stop_fd = thread_event_open();
    if (status == NULL)
        nbdkit_error("lsvd: can't watch the volumes: %m");
    if (status == NULL || supervisor.stop_fd < 0 ||
        thread_start(&supervisor.thread, show_life, status) < 0) {
        free(status);
        return -1;
    }
    supervisor.running = true;
    return 0;
}

int
supervisor_start(void)
{
    const char *where = getenv("NOTIFY_SOCKET");

    if (where == NULL)
        return 0;
    supervisor.fd = connect_to(where);
    if (supervisor.fd < 0) {
        nbdkit_error("lsvd: warning: NOTIFY_SOCKET=%s: %m", where);
        return 0;
    }
    supervisor.every_ms = interval_ms();
    if (supervisor.every_ms > 0 && start_thread() < 0)
        return -1;
    tell("READY=1");
    return 0;
}

void
supervisor_closing(void)
{
    atomic_store(&supervisor.closing, true);
    if (supervisor.fd >= 0)
        tell("STOPPING=1");
}

void
supervisor_stop(void)
{
    if (!supervisor.running)
        return;
    thread_event_signal(supervisor.stop_fd);
    (void)pthread_join(supervisor.thread, NULL);
    supervisor.running = false;
}
