/* rate_limit.c: see rate_limit.h. */
#include "volume/rate_limit.h"
#include "base/wait.h"

#define LOOK_MS 100
#define CREDIT_NS UINT64_C(1000000000)

void
rate_limit_begin(struct rate_limit *l, struct io *io, uint64_t bytes_per_s)
{
    *l = (struct rate_limit){io, bytes_per_s, io->ops->now_ns(io)};
}

int
rate_limit_keep(struct rate_limit *l, uint64_t bytes,
                int (*check)(void *ctx), void *ctx)
{
    uint64_t now, due;
    int r = 0;

    if (l->bytes_per_s == 0)
        return 0;
    due = l->begun_ns +
          (uint64_t)((double)bytes / (double)l->bytes_per_s * 1e9);
    now = l->io->ops->now_ns(l->io);
    if (now > due + CREDIT_NS) /* time in which nothing was to be done */
        l->begun_ns += now - due - CREDIT_NS;
    while (r == 0 && (now = l->io->ops->now_ns(l->io)) < due) {
        uint64_t ms = (due - now) / 1000000 + 1;

        pause_ms(ms < LOOK_MS ? (unsigned)ms : LOOK_MS);
        r = check(ctx);
    }
    return r;
}
