/* wait.h: waiting for a condition, but not for ever. */
#ifndef LSVD_BASE_WAIT_H
#define LSVD_BASE_WAIT_H

#include <pthread.h>

/* As pthread_cond_wait, for at most ms milliseconds. Returns for any reason:
 * look at the state again. The condition has the default clock. */
void wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, unsigned ms);

/* Let ms milliseconds pass; for polling what can't be waited for (another
 * process). */
void pause_ms(unsigned ms);

#endif
