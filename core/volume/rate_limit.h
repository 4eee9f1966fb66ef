/* rate_limit.h: work in the background goes no faster than it is told to. */
#ifndef LSVD_VOLUME_RATE_LIMIT_H
#define LSVD_VOLUME_RATE_LIMIT_H

#include "base/io.h"

struct rate_limit {
    struct io *io;
    uint64_t bytes_per_s; /* 0: as fast as it can */
    uint64_t begun_ns;
};

void rate_limit_begin(struct rate_limit *l, struct io *io,
                      uint64_t bytes_per_s);
/* So many bytes are done since it began: wait until they may be. check is asked
 * now and then meanwhile; returns what it returns, if that is an error. Time in
 * which less was done is credited for a second at most. */
int rate_limit_keep(struct rate_limit *l, uint64_t bytes,
                    int (*check)(void *ctx), void *ctx);

#endif
