/* thread.c: see thread.h. */
#define NBDKIT_API_VERSION 2
#include "thread.h"

#include <nbdkit-plugin.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int
thread_start(pthread_t *ret, void *(*run)(void *), void *ctx)
{
    int r = pthread_create(ret, NULL, run, ctx);

    if (r == 0)
        return 0;
    nbdkit_error("lsvd: can't start a thread: %s", strerror(r));
    return -1;
}

int
thread_event_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        nbdkit_error("lsvd: eventfd: %m");
    return fd;
}

void
thread_event_signal(int fd)
{
    const uint64_t one = 1;

    /* It can fail only when it is signalled 2^64 times already. */
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
        return;
}
