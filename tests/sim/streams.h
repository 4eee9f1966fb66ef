/* streams.h: rules of writes past the journal (bypass.h) that the engine keeps
 * unless told not to, by taking the place of its functions at link time (see
 * meson.build), so that the engine itself has no switch. */
#ifndef LSVD_SIM_STREAMS_H
#define LSVD_SIM_STREAMS_H

#include <stdbool.h>

enum stream_bug {
    STREAM_BUG_FLUSH = 1, /* a flush does not wait for open chunks */
    STREAM_BUG_FOUND = 2, /* a start does not ask for those that were open */
};

/* eager: the first bytes after a flush go past the journal, too. */
void streams_set(bool eager, unsigned bugs);

#endif
