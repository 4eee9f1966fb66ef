/* prng.h: the only source of chance in the simulator (xoshiro256**, seeded
 * by splitmix64). Same seed, same run, on every machine. */
#ifndef LSVD_SIM_PRNG_H
#define LSVD_SIM_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

static inline uint64_t
prng_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline void
prng_seed(struct prng *p, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        p->s[i] = prng_mix(seed + (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15));
}

static inline uint64_t
prng_next(struct prng *p)
{
    uint64_t x = p->s[1] * 5;
    uint64_t result = (x << 7 | x >> 57) * 9;
    uint64_t t = p->s[1] << 17;

    p->s[2] ^= p->s[0];
    p->s[3] ^= p->s[1];
    p->s[1] ^= p->s[2];
    p->s[0] ^= p->s[3];
    p->s[2] ^= t;
    p->s[3] = p->s[3] << 45 | p->s[3] >> 19;
    return result;
}

/* 0 … limit - 1. The bias is of no matter here. */
static inline uint64_t
prng_below(struct prng *p, uint64_t limit)
{
    return prng_next(p) % limit;
}

/* lowest … highest, both possible. */
static inline uint64_t
prng_between(struct prng *p, uint64_t lowest, uint64_t highest)
{
    return lowest + prng_below(p, highest - lowest + 1);
}

/* True once in n. */
static inline bool
prng_one_in(struct prng *p, uint64_t n)
{
    return prng_below(p, n) == 0;
}

#endif
