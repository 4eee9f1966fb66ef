/* hedge.h: how long a part is waited for before others are asked, too (hedged
 * reads: Dean and Barroso, The Tail at Scale, CACM 2013).
 *
 * The bound is learned as TCP learns its time-out (RFC 6298): mean and mean
 * deviation of what its reads took. A part that was late is not asked again for
 * a moment, so that one that hangs costs one bound, not one a request. */
#ifndef LSVD_VOLUME_HEDGE_H
#define LSVD_VOLUME_HEDGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PATIENCE_MIN_NS UINT64_C(50000000)
#define PATIENCE_MAX_NS UINT64_C(2000000000)
#define AVOID_NS UINT64_C(1000000000)

struct pace { /* any thread; approximate */
    atomic_uint_fast64_t mean_ns, deviation_ns;
    atomic_uint_fast64_t avoid_until_ns; /* 0: not avoided */
};

static inline uint64_t
pace_patience_ns(const struct pace *p)
{
    uint64_t bound = 4 * (atomic_load(&p->mean_ns) +
                          4 * atomic_load(&p->deviation_ns));

    if (bound < PATIENCE_MIN_NS)
        return PATIENCE_MIN_NS;
    return bound < PATIENCE_MAX_NS ? bound : PATIENCE_MAX_NS;
}

static inline void
pace_note(struct pace *p, uint64_t ns)
{
    uint64_t mean = atomic_load_explicit(&p->mean_ns, memory_order_relaxed);
    uint64_t dev = atomic_load_explicit(&p->deviation_ns,
                                        memory_order_relaxed);
    uint64_t off = ns > mean ? ns - mean : mean - ns;

    atomic_store_explicit(&p->deviation_ns, dev - dev / 4 + off / 4,
                          memory_order_relaxed);
    atomic_store_explicit(&p->mean_ns, mean - mean / 8 + ns / 8,
                          memory_order_relaxed);
}

static inline void
pace_late(struct pace *p, uint64_t now_ns)
{
    atomic_store(&p->avoid_until_ns, now_ns + AVOID_NS);
}

static inline bool
pace_is_avoided(const struct pace *p, uint64_t now_ns)
{
    uint64_t until = atomic_load_explicit(&p->avoid_until_ns,
                                          memory_order_relaxed);

    return until != 0 && now_ns < until;
}

#endif
