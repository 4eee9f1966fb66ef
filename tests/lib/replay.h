/* replay.h: how many blocks of a trace a cache would have had: ours as it is,
 * and two others to compare it with, which keep numbers alone. */
#ifndef LSVD_TESTS_REPLAY_H
#define LSVD_TESTS_REPLAY_H

#include "trace.h"

struct cache;

/* Requests from here on are offered, not put; as the volume does from 256 KiB
 * on, with blocks of 4 KiB. */
#define REPLAY_LONG 64u

struct replay {
    uint64_t reads, hits; /* of blocks */
};

enum replay_policy {
    REPLAY_LRU,   /* as in the books */
    REPLAY_CLOCK, /* one bit; blocks of long requests get free room only: what
                     lsvd had before */
    REPLAY_POLICIES,
};

/* A cache of ours for at least `capacity` blocks; cache_counts tells how many.
 * Ends the program without memory. */
struct cache *replay_cache_new(uint64_t capacity);

struct replay replay_cache(struct cache *c, const struct trace *t);

struct replay replay_other(enum replay_policy policy, uint64_t capacity,
                           const struct trace *t);

double replay_ratio(struct replay r); /* of hits to reads */

#endif
