/* verify.h: what verify.c and repair.c share. */
#ifndef LSVD_VOLUME_VERIFY_H
#define LSVD_VOLUME_VERIFY_H

#include "volume/volume.h"

struct verify {
    struct lsvd_volume *v;
    const struct lsvd_repair_callbacks *cb; /* may be NULL */
    struct lsvd_report *report;
    struct lsvd_progress progress;
};

/* What was found of one chunk. */
struct chunk_check {
    bool present; /* else a hole: nothing to check */
    enum lsvd_chunk_finding kind[PARTS_MAX];
    char text[PARTS_MAX][160];
    uint32_t *lost; /* blocks of the chunk; lost_max long */
    uint32_t lost_count, lost_max;
};

/* Judge one chunk on all parts. Reads only. */
int chunk_check(struct lsvd_volume *v, uint64_t number, bool full,
                struct chunk_check *check);

/* The whole volume, into y->report, telling the callbacks. */
int verify_volume(struct verify *y);

/* Tell; true: the caller wants us to stop. */
bool verify_progress(struct verify *y);

#endif
