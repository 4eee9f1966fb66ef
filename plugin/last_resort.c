/* last_resort.c: see last_resort.h.
 *
 * A thread that takes no lock: what it ends may hold them all. */
#define NBDKIT_API_VERSION 2
#include "last_resort.h"

#include <errno.h>
#include <nbdkit-plugin.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static struct {
    int signal_fd;  /* the caller's */
    int closing_fd; /* eventfd: .cleanup begins */
    int ended_fd;   /* eventfd: .cleanup ends */
    bool running;   /* the thread exists */
    pthread_t thread;
    _Atomic int64_t progress_ms;
} last = { .signal_fd = -1, .closing_fd = -1, .ended_fd = -1 };

static int64_t
now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
end_as_if_killed(void)
{
    (void)alarm(1); /* the log may hang, too */
    nbdkit_error("lsvd: it can't end in order: something has not answered for "
                 "%d s (does a cache directory hang?); it ends as if it was "
                 "killed, and nothing that was answered is lost",
                 LAST_RESORT_MS / 1000);
    _exit(EXIT_FAILURE);
}

static void *
watch(void *unused)
{
    struct pollfd begin[] = {
        { .fd = last.signal_fd, .events = POLLIN },
        { .fd = last.closing_fd, .events = POLLIN },
    };
    struct pollfd end = { .fd = last.ended_fd, .events = POLLIN };
    int64_t left;

    (void)unused;
    while (poll(begin, 2, -1) < 0 && errno == EINTR)
        continue;
    last_resort_progress();
    while ((left = last.progress_ms + LAST_RESORT_MS - now_ms()) > 0) {
        if (poll(&end, 1, (int)left) > 0)
            return NULL;
    }
    end_as_if_killed();
    return NULL;
}

static void
wake(int fd)
{
    const uint64_t one = 1;

    /* It can fail only when it is signalled 2^64 times already. */
    if (fd >= 0 && write(fd, &one, sizeof one) < 0)
        return;
}

int
last_resort_start(int signal_fd)
{
    int r;

    last.signal_fd = signal_fd;
    last.closing_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    last.ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (last.closing_fd < 0 || last.ended_fd < 0) {
        nbdkit_error("lsvd: eventfd: %m");
        return -1;
    }
    r = pthread_create(&last.thread, NULL, watch, NULL);
    if (r != 0) {
        nbdkit_error("lsvd: can't start a thread: %s", strerror(r));
        return -1;
    }
    last.running = true;
    return 0;
}

void
last_resort_closing(void)
{
    wake(last.closing_fd);
}

void
last_resort_progress(void)
{
    last.progress_ms = now_ms();
}

void
last_resort_stop(void)
{
    if (!last.running)
        return;
    wake(last.ended_fd);
    (void)pthread_join(last.thread, NULL);
    last.running = false;
}
