/* wait.c: see wait.h. */
#include "base/wait.h"
#include <poll.h>
#include <stddef.h>
#include <time.h>

void
wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, unsigned ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    (void)pthread_cond_clockwait(cond, lock, CLOCK_MONOTONIC, &until);
}

void
pause_ms(unsigned ms)
{
    (void)poll(NULL, 0, (int)ms);
}
