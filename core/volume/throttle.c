/* throttle.c: see throttle.h. A virtual queue: each writer gets the time that
 * its blocks take at the present pace, behind those who came before. */
#include "volume/throttle.h"

#define SECOND_NS UINT64_C(1000000000)

/* Little of it is left after a few batches. */
void
throttle_begin(struct throttle *t, uint64_t ring_blocks)
{
    *t = (struct throttle){ring_blocks / 16, SECOND_NS / 4, 0};
}

/* Older batches count three quarters of what newer ones do; by time, so that
 * many small ones weigh no more than one long one. */
void
throttle_note(struct throttle *t, uint64_t blocks, uint64_t ns)
{
    t->blocks = t->blocks - t->blocks / 4 + blocks;
    t->ns = t->ns - t->ns / 4 + ns;
}

uint64_t
throttle_rate(const struct throttle *t)
{
    uint64_t us = t->ns / 1000;

    return us > 0 ? t->blocks * 1000000 / us : 0;
}

/* Writers' share of destage's rate, in 1024ths. */
static uint64_t
share(uint32_t fill)
{
    uint64_t half = (FILL_FULL - FILL_THROTTLED) / 2, in;

    if (fill > FILL_FULL)
        fill = FILL_FULL;
    in = fill - FILL_THROTTLED;
    if (in < half) /* 4 ... 1 */
        return 1024 * (4 * half - 3 * in) / half;
    return 256 * (4 * half - 3 * (in - half)) / half; /* 1 ... 1/4 */
}

uint64_t
throttle_wait_ns(struct throttle *t, uint32_t fill, uint64_t blocks,
                 uint64_t now_ns)
{
    uint64_t rate = throttle_rate(t), begin, latest;

    if (fill < FILL_THROTTLED || rate == 0) {
        t->next_ns = 0;
        return 0;
    }
    rate = rate * share(fill) / 1024;
    begin = t->next_ns > now_ns ? t->next_ns : now_ns;
    latest = now_ns + THROTTLE_WAIT_MAX_NS;
    if (begin > latest)
        begin = latest;
    t->next_ns = begin + blocks * SECOND_NS / (rate > 0 ? rate : 1);
    return begin - now_ns;
}
