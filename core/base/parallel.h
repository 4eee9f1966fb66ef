/* parallel.h: independent calls that block, side by side. */
#ifndef LSVD_BASE_PARALLEL_H
#define LSVD_BASE_PARALLEL_H

#include <stddef.h>

/* What became of one of them. */
struct parallel_result {
    int error;      /* 0, or a negative errno */
    char text[256]; /* of an error */
};

/* Call job(ctx, 0 … count - 1), each once, whatever the others say, up to
 * `threads` at a time, this thread being one of them; returns when all have
 * ended. ret: count of them. threads <= 1, or no thread to be had: one after
 * the other, here. The first to begin is first % count, before any other, and
 * then they go round: of those behind it with threads any order may come about,
 * so no caller may count on one, and the simulator, which has none, should see
 * more than one. */
void parallel_each(unsigned threads, size_t count, size_t first,
                   int (*job)(void *ctx, size_t i), void *ctx,
                   struct parallel_result *ret);

#endif
