/* around.h: shall a miss of the read cache bring its neighbours with it, from
 * parts that are far? Which windows are read so now, and what it cost; the
 * reading is read_cache.c's. A window is a number that stands for AROUND_BYTES
 * of the volume.
 *
 * (AR1) AROUND_AT_ONCE windows at a time, each by one thread: where it is the
 *       bandwidth that makes parts slow, not the way to them, most requests go
 *       on asking for no more than they need.
 * (AR2) When a window takes more than thrice the time of a small read, it is
 *       tried for one request of AROUND_RETRY.
 * (AR3) A window that could not be read is not tried again soon.
 * Any thread. */
#ifndef LSVD_VOLUME_AROUND_H
#define LSVD_VOLUME_AROUND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define AROUND_BYTES (64u << 10)
#define AROUND_FAR_NS UINT64_C(2000000) /* of a small read: they are far */
#define AROUND_AT_ONCE 4u
#define AROUND_RETRY 64u
#define AROUND_FAILED 16u
#define AROUND_SMALL_SAMPLES 4u  /* until the time of a small read is known */
#define AROUND_WINDOW_SAMPLES 4u /* and that of a window */

struct around {
    pthread_mutex_t lock; /* guards all; memory only */
    uint64_t reading[AROUND_AT_ONCE]; /* window + 1, or 0 */
    uint64_t failed[AROUND_FAILED];   /* the same; a ring */
    uint32_t next_failed, refused;
    uint64_t mean_ns, samples; /* of windows that were read */
};

void around_init(struct around *a);
void around_done(struct around *a);

/* small_ns, here and below: mean of small reads of the parts, 0: not known. */
static inline bool
around_is_far(uint64_t small_ns)
{
    return small_ns >= AROUND_FAR_NS;
}

/* True: read it, then around_end. */
bool around_begin(struct around *a, uint64_t window, uint64_t small_ns);
/* took_ns: 0: it could not be read. */
void around_end(struct around *a, uint64_t window, uint64_t took_ns);

#endif
