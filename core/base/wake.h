/* wake.h: one thread waits, once, until another one lets it go on.
 *
 * Where many wait for one event and a condition would do, each of them would
 * have to take the condition's lock again before it can go on: all at once, and
 * those who work meanwhile beside them. Here each is woken by itself and takes
 * no lock. What was written before wake_post is seen after wake_wait. */
#ifndef LSVD_BASE_WAKE_H
#define LSVD_BASE_WAKE_H

#include <assert.h>
#include <errno.h>
#include <semaphore.h>

struct wake {
    sem_t sem;
};

static inline void
wake_init(struct wake *wake)
{
    int r = sem_init(&wake->sem, 0, 0);

    assert(r == 0);
    (void)r;
}

/* Called once, by the one who waits; then it is gone. */
static inline void
wake_wait(struct wake *wake)
{
    int r;

    do
        r = sem_wait(&wake->sem);
    while (r < 0 && errno == EINTR);
    assert(r == 0);
    (void)sem_destroy(&wake->sem);
}

/* Called once, by another one. The wake may be gone when it returns. */
static inline void
wake_post(struct wake *wake)
{
    int r = sem_post(&wake->sem);

    assert(r == 0);
    (void)r;
}

#endif
