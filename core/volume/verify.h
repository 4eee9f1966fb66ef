/* verify.h: what verify.c, repair.c and live.c share. */
#ifndef LSVD_VOLUME_VERIFY_H
#define LSVD_VOLUME_VERIFY_H

#include "volume/volume.h"

struct quick;

struct verify {
    struct lsvd_volume *v;
    const struct lsvd_repair_callbacks *cb; /* may be NULL */
    struct lsvd_report *report;
    struct lsvd_progress progress;
    bool live; /* the volume is being served: take the role for each step */
    uint64_t step_ns;  /* when this one began */
    uint64_t mendable; /* chunks with something wrong and nothing lost */
    uint64_t unread;   /* chunks with something lost, of which not all that may
                        * be there could be read */
    int failed;        /* the first error that did not end it; its text */
    char problem[1024];
};

/* What was found of one chunk. */
struct chunk_check {
    bool present; /* else a hole: nothing to check */
    bool unread;  /* a part did not tell all that it has */
    enum lsvd_chunk_finding kind[PARTS_MAX];
    char text[PARTS_MAX][160];
    uint32_t *lost; /* blocks of the chunk; lost_max long */
    uint32_t lost_count, lost_max;
    uint32_t *odd; /* NULL, or rows whose cells do not all agree; as long */
    uint32_t odd_count;
};

/* Judge one chunk on all parts. Reads only. quick: what was asked about its
 * files since the role was taken, or NULL; not used if full. The role's. */
int chunk_check(struct lsvd_volume *v, uint64_t number, bool full,
                const struct quick *quick, struct chunk_check *check);

/* The first that is found of a part names it. */
void chunk_check_set(struct chunk_check *check, uint32_t slot,
                     enum lsvd_chunk_finding kind, const char *text);

/* verify_references.c: reference files, and what they lead to (refer.h). Caller
 * holds the chunk lease. The role's. */
int chunk_check_references(struct lsvd_volume *v, struct chunk *c,
                           struct chunk_check *check);

/* Tell what was found lost; neighbouring blocks are one range. */
void chunk_check_lost(struct lsvd_volume *v, uint64_t chunk,
                      struct chunk_check *check,
                      void (*lost)(void *ctx,
                                   const struct lsvd_lost_range *range),
                      void *ctx);
int chunk_check_new(struct lsvd_volume *v, struct chunk_check **ret);
void chunk_check_free(struct chunk_check *check); /* NULL is fine */

/* The whole volume, into y->report, telling the callbacks. */
int verify_volume(struct verify *y);

/* After a verify that ran to its end: what there was to be found of an accepted
 * loss is known, if nothing is left that could be mended, and no part may have
 * more of what is lost. */
int verify_settles_loss(struct verify *y);

/* A step of it, between two of which nothing is held. */
int verify_step_begin(struct verify *y, struct lease *role);
void verify_step_end(struct verify *y, struct lease *role);
/* Under load a step has to wait for a batch: so it is more than one chunk, but
 * not so many that batches, and writers, wait for long. */
bool verify_step_is_over(const struct verify *y);

/* ---- quick.c ---- */

#define QUICK_CHUNKS 64u /* asked about at once */

int quick_new(struct quick **ret);
void quick_free(struct quick *quick); /* NULL is fine */
/* Ask all parts in use about the files of QUICK_CHUNKS chunks. */
void quick_look(struct lsvd_volume *v, struct quick *quick, uint64_t first);
/* Size of a chunk's file, from what was asked if that is no error. -ENOENT. */
int quick_size(struct lsvd_volume *v, const struct quick *quick,
               uint64_t chunk, uint32_t slot, uint64_t *ret_bytes);

/* ---- repair.c ---- */

/* Enough parts but this one to compute everything from, and to write? */
int repair_check_sources(struct lsvd_volume *v, uint32_t slot);
/* Put a blank instance of the part under this root in its place, and offer it
 * to be filled (resync.h). -EEXIST: something of value is there. The role's. */
int repair_blank_part(struct lsvd_volume *v, uint32_t slot, const char *root);

/* Tell; true: the caller wants us to stop. */
bool verify_progress(struct verify *y);

/* If r is an error, it is kept, unless there is one. */
void verify_note(struct verify *y, int r);
/* The same of what became of one chunk. Returns 0 to go on with the others:
 * one that can't be mended is no reason to leave them as they are. */
int verify_pass_over(struct verify *y, int r);

#endif
