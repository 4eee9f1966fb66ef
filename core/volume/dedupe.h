/* dedupe.h: what dedupe.c and dedupe_scan.c share.
 *
 * Happy path: the sources are opened, and an index of each is made, or taken
 *   from the cache directory (dedupe/dedupe_index.h) -> chunk by chunk, beside
 *   requests: the volume's own blocks are read, hashed, looked up, and compared
 *   with the block that the index proposes -> where any are equal, they become
 *   references (refer.h), compared once more while nobody can write them ->
 *   blocks of zeroes become holes.
 * (DD1) A hash only proposes. What becomes a reference was compared, byte by
 *       byte, under the lease under which it becomes one.
 * (DD2) It can be cut off, and run again, at any point: a chunk is as it was,
 *       or has references that are true.
 * (DD3) A source is named in the policy before the first reference to it. */
#ifndef LSVD_VOLUME_DEDUPE_H
#define LSVD_VOLUME_DEDUPE_H

#include "dedupe/dedupe_index.h"
#include "volume/rate_limit.h"
#include "volume/refer.h"

#define DEDUPE_RUN_BLOCKS 256u

struct dedupe_source {
    struct lsvd_volume *volume;
    bool is_added; /* the volume's own by now; else ours */
    struct dedupe_index *index; /* owned */
};

/* What a chunk's files took before it was changed. */
struct dedupe_touched {
    uint64_t chunk, bytes;
};

struct dedupe {
    struct lsvd_volume *v;
    const struct lsvd_dedupe *spec;
    const struct lsvd_repair_callbacks *cb;
    struct lsvd_dedupe_report *report;
    struct lsvd_progress progress;
    struct dedupe_source source[META_SOURCES_MAX];
    uint32_t source_count;
    struct target *dir; /* of the indexes; owned */
    uint8_t *own, *other;    /* DEDUPE_RUN_BLOCKS each; owned */
    uint8_t *is;             /* enum own, of a chunk's blocks; owned */
    bool *gone;              /* of them: will have no bytes; owned */
    struct references *want; /* of the chunk; owned */
    uint32_t matched, zero;  /* of the chunk */
    struct dedupe_touched *touched; /* owned */
    size_t touched_count, touched_room;
    uint64_t began_ns;
    struct rate_limit limit; /* of this pass */
};

/* As lsvd_live_dedupe and lsvd_live_rehydrate, of a volume that is reserved, or
 * a snapshot that is being added to; of one that is not attached, with
 * spec->estimate. top: v, or what is served and goes on from it. */
int dedupe_volume(struct lsvd_volume *v, const struct lsvd_env *env,
                  const struct lsvd_dedupe *spec,
                  const struct lsvd_repair_callbacks *cb,
                  struct lsvd_dedupe_report *ret);
/* Of a snapshot that will be added to: then what needs it can't be opened, and
 * would not be found to be no source. */
int dedupe_check_sources(struct lsvd_volume *v, const struct lsvd_env *env,
                         const struct lsvd_dedupe *spec);
int dedupe_undo(struct lsvd_volume *v, struct lsvd_volume *top,
                const struct lsvd_dedupe *spec,
                const struct lsvd_repair_callbacks *cb,
                struct lsvd_dedupe_report *ret);

/* Look at a chunk: want, gone, matched and zero are set. Changes nothing. */
int dedupe_scan(struct dedupe *d, uint64_t chunk);
/* Bytes that the chunk's files would give back. */
uint64_t dedupe_estimate(struct dedupe *d, uint64_t chunk);
/* Its blocks of zeroes become holes. */
int dedupe_punch(struct dedupe *d, uint64_t chunk);

#endif
