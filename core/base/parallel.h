/* parallel.h: independent calls that block, side by side. */
#ifndef LSVD_BASE_PARALLEL_H
#define LSVD_BASE_PARALLEL_H

#include <stddef.h>

/* Call job(ctx, 0 … count - 1), up to `threads` at a time, this thread being
 * one of them; returns when all have ended. After a failure no further job is
 * begun; the first error and its text are returned. threads <= 1, or no thread
 * to be had: one after the other, here. */
int parallel_for(unsigned threads, size_t count,
                 int (*job)(void *ctx, size_t i), void *ctx);

#endif
