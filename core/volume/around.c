/* around.c: see around.h. */
#include "volume/around.h"

#include <string.h>

#define MEAN_SHIFT 3 /* a sample counts 1/8 */

void
around_init(struct around *a)
{
    memset(a, 0, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
}

void
around_done(struct around *a)
{
    pthread_mutex_destroy(&a->lock);
}

static bool
is_among(const uint64_t *windows, uint32_t count, uint64_t window)
{
    for (uint32_t i = 0; i < count; i++) {
        if (windows[i] == window + 1)
            return true;
    }
    return false;
}

/* Put `next` where `old` is. False: it is nowhere. */
static bool
exchange(struct around *a, uint64_t old, uint64_t next)
{
    for (uint32_t i = 0; i < AROUND_AT_ONCE; i++) {
        if (a->reading[i] != old)
            continue;
        a->reading[i] = next;
        return true;
    }
    return false;
}

static bool
is_worth_it(struct around *a, uint64_t small_ns)
{
    return a->samples < AROUND_WINDOW_SAMPLES || a->mean_ns <= 3 * small_ns ||
           a->refused++ % AROUND_RETRY == 0;
}

bool
around_begin(struct around *a, uint64_t window, uint64_t small_ns)
{
    bool may;

    pthread_mutex_lock(&a->lock);
    may = around_is_far(small_ns) &&
          !is_among(a->reading, AROUND_AT_ONCE, window) &&
          !is_among(a->failed, AROUND_FAILED, window) &&
          is_worth_it(a, small_ns) && exchange(a, 0, window + 1);
    pthread_mutex_unlock(&a->lock);
    return may;
}

void
around_end(struct around *a, uint64_t window, uint64_t took_ns)
{
    pthread_mutex_lock(&a->lock);
    (void)exchange(a, window + 1, 0);
    if (took_ns == 0) {
        a->failed[a->next_failed] = window + 1;
        a->next_failed = (a->next_failed + 1) % AROUND_FAILED;
    } else if (a->samples++ == 0) {
        a->mean_ns = took_ns;
    } else {
        a->mean_ns = a->mean_ns - (a->mean_ns >> MEAN_SHIFT) +
                     (took_ns >> MEAN_SHIFT);
    }
    pthread_mutex_unlock(&a->lock);
}
