/* batch.h: plans that destage carries out together. Private to batch.c, which
 * gathers them, and destage.c. */
#ifndef LSVD_VOLUME_BATCH_H
#define LSVD_VOLUME_BATCH_H

#include "volume/volume.h"

#define BATCH_THREADS 16

struct batch {
    struct plan *first, *last;
    size_t count;
    uint64_t bytes;
    bool is_cut;   /* there was more that was due than it may have */
    bool in_place; /* durably; a retry only goes on from there (D6) */
};

/* While the next plan is being made: put this one's bytes on their way, if
 * nothing has to be waited for first (D3) and no part has failed in this batch.
 * plan->applied tells whether they went. Any thread. */
void batch_apply_early(struct lsvd_volume *v, struct plan *plan);

/* Gather the next one into v->batch, which is NULL: 1. Some of it may be on its
 * way to the parts by then. 0: nothing is in the journal. An error: nothing was
 * gathered; v->failed tells which parts it was. */
int batch_build(struct lsvd_volume *v);

#endif
