/* dedupes.h: a life whose volume has much in common with another one, twin,
 * and comes to have references to it (refer.h); and rules of those that the
 * engine keeps unless told not to, by taking the place of its functions at link
 * time (see meson.build). */
#ifndef LSVD_SIM_DEDUPES_H
#define LSVD_SIM_DEDUPES_H

#include "life.h"

enum dedupe_bug {
    DEDUPE_BUG_UNSYNCED = 1, /* reference files are not durable in time */
    DEDUPE_BUG_MEND = 2,     /* a part that is filled gets none */
};

void dedupes_set_bugs(unsigned bugs);

/* Make twin, which is read-only then, in a place of its own. */
int dedupes_make_source(struct life *l);
/* Bytes of twin for a request at this place; they lie elsewhere there, as a
 * rule. */
void dedupes_choose(struct life *l, uint64_t *offset, uint64_t *count,
                    const uint8_t **ret);
/* While it serves: a run, or back; of a snapshot that the volume goes on from,
 * if one is named, for which alone is used. 0 or its error. */
int dedupes_run(struct life *l, const char *snapshot,
                const struct lsvd_alone *alone);
/* Of one that nobody has open, all of it. */
int dedupes_run_offline(struct life *l, const char *name,
                        struct lsvd_dedupe_report *ret);
void dedupes_end(struct life *l);

#endif
