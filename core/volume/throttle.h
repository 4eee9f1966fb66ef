/* throttle.h: writers are slowed down as the journal fills, so that it does not
 * run full and stop them all at once until a whole batch is on the parts.
 *
 * The pace is what destage has been seen to do; before it has been seen, that
 * the ring is emptied in four seconds. Until the journal is three
 * quarters full nobody waits: that is what bursts have it for. From there on
 * writers may bring four times as much as destage takes away, at seven eighths
 * as much, and at the end a quarter: where it settles down, both go at the same
 * pace.
 * (TH1) No request waits longer than THROTTLE_WAIT_MAX_NS at a time. A full
 *       journal is another matter (space_wait).
 * Times are of any monotonic clock. The caller locks. */
#ifndef LSVD_VOLUME_THROTTLE_H
#define LSVD_VOLUME_THROTTLE_H

#include <stdint.h>

#define THROTTLE_WAIT_MAX_NS UINT64_C(100000000)
#define FILL_FULL 1024u /* fills are counted in 1024ths */
#define FILL_THROTTLED (FILL_FULL * 3 / 4)

struct throttle {
    uint64_t blocks, ns; /* what recent batches moved, and their time */
    uint64_t next_ns;    /* when the next writer may go on */
};

/* Nothing has been seen yet; the ring has room for so many blocks. */
void throttle_begin(struct throttle *t, uint64_t ring_blocks);
/* A batch of so many blocks took so long. */
void throttle_note(struct throttle *t, uint64_t blocks, uint64_t ns);
/* Blocks a second that destage moves. */
uint64_t throttle_rate(const struct throttle *t);
/* Nanoseconds that somebody who brings so many blocks is to wait first. */
uint64_t throttle_wait_ns(struct throttle *t, uint32_t fill, uint64_t blocks,
                          uint64_t now_ns);

#endif
