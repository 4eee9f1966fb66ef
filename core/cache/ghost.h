/* ghost.h: which blocks went not long ago: their fingerprints, without bytes.
 *
 * A table of sets. A block's hash names its set, in which the newest stands in
 * front and the oldest falls out behind: so one is remembered for about as many
 * insertions as the table has places, at 4 bytes and one line of the CPU's
 * cache. Forgetting early, or taking one block for another, costs a wrong guess
 * of what to keep, nothing else. The caller locks. */
#ifndef LSVD_CACHE_GHOST_H
#define LSVD_CACHE_GHOST_H

#include <stdbool.h>
#include <stdint.h>

#define GHOST_WAYS 16u

struct ghost {
    uint32_t set_count; /* 0: remembers nothing */
    uint32_t *prints;   /* set_count * GHOST_WAYS; 0: empty; owned */
};

/* At most `places`; whole sets of them. */
int ghost_init(struct ghost *g, uint32_t places);
void ghost_done(struct ghost *g);

/* Remember the block of this hash, all 64 bits of which count. */
void ghost_put(struct ghost *g, uint64_t hash);

/* Forget it; was it remembered? */
bool ghost_take(struct ghost *g, uint64_t hash);

#endif
