/* thread.h: the plugin's threads and what ends them. */
#ifndef LSVD_PLUGIN_THREAD_H
#define LSVD_PLUGIN_THREAD_H

#include <pthread.h>

/* 0, or -1 after an nbdkit_error. */
int thread_start(pthread_t *ret, void *(*run)(void *), void *ctx);

/* A descriptor (eventfd) that is readable, for good, once it was signalled;
 * -1 after an nbdkit_error. */
int thread_event_open(void);

/* May be called in a signal handler. Nothing for a negative fd. */
void thread_event_signal(int fd);

#endif
