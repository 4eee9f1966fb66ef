/* latency.h: how long something took, counted by powers of two (lsvd.h). */
#ifndef LSVD_VOLUME_LATENCY_H
#define LSVD_VOLUME_LATENCY_H

#include "lsvd.h"
#include <stdatomic.h>

struct latency {
    atomic_uint_fast64_t count, sum_ns, bucket[LSVD_LATENCY_BUCKETS];
};

static inline void
latency_note(struct latency *l, uint64_t ns)
{
    uint64_t us = ns / 1000;
    unsigned bucket = us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);

    if (bucket >= LSVD_LATENCY_BUCKETS)
        bucket = LSVD_LATENCY_BUCKETS - 1;
    atomic_fetch_add_explicit(&l->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->sum_ns, ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->bucket[bucket], 1, memory_order_relaxed);
}

static inline void
latency_get(const struct latency *l, struct lsvd_latency *ret)
{
    ret->count = atomic_load(&l->count);
    ret->sum_ns = atomic_load(&l->sum_ns);
    for (unsigned i = 0; i < LSVD_LATENCY_BUCKETS; i++)
        ret->bucket[i] = atomic_load(&l->bucket[i]);
}

#endif
