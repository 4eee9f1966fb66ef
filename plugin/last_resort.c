/* last_resort.c: see last_resort.h.
 *
 * A thread that takes no lock: what it ends may hold them all. */
#define NBDKIT_API_VERSION 2
#include "last_resort.h"
#include "thread.h"

#include <control/protocol.h>
#include <errno.h>
#include <nbdkit-plugin.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
    int signal_fd;  /* the caller's */
    int closing_fd; /* event: .cleanup begins */
    int ended_fd;   /* event: .cleanup ends */
    bool running;   /* the thread exists */
    pthread_t thread;
    _Atomic int64_t progress_ms;
} last = { .signal_fd = -1, .closing_fd = -1, .ended_fd = -1 };

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
    while ((left = last.progress_ms + LAST_RESORT_MS -
                   control_now_ms()) > 0) {
        if (poll(&end, 1, (int)left) > 0)
            return NULL;
    }
    end_as_if_killed();
    return NULL;
}

int
last_resort_start(int signal_fd)
{
    last.signal_fd = signal_fd;
    last.closing_fd = thread_event_open();
    last.ended_fd = thread_event_open();
    if (last.closing_fd < 0 || last.ended_fd < 0 ||
        thread_start(&last.thread, watch, NULL) < 0)
        return -1;
    last.running = true;
    return 0;
}

void
last_resort_closing(void)
{
    thread_event_signal(last.closing_fd);
}

void
last_resort_progress(void)
{
    last.progress_ms = control_now_ms();
}

void
last_resort_stop(void)
{
    if (!last.running)
        return;
    thread_event_signal(last.ended_fd);
    (void)pthread_join(last.thread, NULL);
    last.running = false;
}
