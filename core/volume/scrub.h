/* scrub.h: every chunk is read again and checked, all the time, slowly: a bad
 * sector is found while the others are still there.
 *
 *   pass: chunk 1 -> ... -> last chunk -> (the next pass begins at once)
 *
 * (SC1) A pass takes the time that is set (scrub=), its chunks spread evenly
 *       over it, and never reads more bytes a second than scrub-rate=. What it
 *       is behind, after a stall or a resync, it catches up at that rate. Time
 *       counts while the volume is served.
 * (SC2) A chunk at a time, with the role (V3), and only when nobody else needs
 *       it: no writer waits for space, no part is being filled or gone, nothing
 *       is stalled, the journal is not filling up, no verify or rebuild runs.
 * (SC3) What is wrong is made right as any other damaged file
 *       (fragment_rebuild: F1-F3). Rows of which the journal has a block are
 *       left to it. What is lost is told once in a pass.
 * (SC4) Where it is, is kept in a file in the cache directory, written at most
 *       once a minute and at the end. Without it the pass begins anew: nothing
 *       else depends on it. */
#ifndef LSVD_VOLUME_SCRUB_H
#define LSVD_VOLUME_SCRUB_H

#include "base/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lsvd_volume;

/* What is remembered. */
struct scrub_mark {
    uint64_t next;     /* chunk that is checked next; 0: no pass yet */
    uint64_t chunks, bytes; /* checked in this pass */
    uint64_t served_ns;     /* this pass has taken so long */
    uint64_t began, last_end; /* wall clock seconds; last_end 0: never */
    uint64_t passes;          /* finished */
    uint64_t healed, unhealed; /* files, in this pass */
    uint64_t lost_bytes;       /* in this pass */
};

/* All of it under state_lock; changed by who scrubs: the destage thread, or
 * lsvd_scrub_step. */
struct scrub {
    struct scrub_mark mark;
    bool is_loaded, is_told; /* told: that this pass goes on, or has begun */
    bool is_changed;         /* since it was stored */
    bool is_broken;          /* storing failed, and that was said */
    uint64_t total;          /* chunks of this pass, as far as is known */
    uint64_t since_ns;       /* when mark.served_ns was right */
    uint64_t step_ns, step_bytes; /* the last chunk: began, read */
    uint64_t not_before_ns;  /* something else came first */
    uint64_t stored_ns;
};

/* ---- scrub_file.c ---- */

#define SCRUB_FILE_BYTES 128

/* SC1: when in its pass (0: at its begin) is the next chunk due, after `done`
 * of `total`? Pure. */
uint64_t scrub_due_in_pass_ns(uint64_t pass_ns, uint64_t done,
                              uint64_t total);
/* How long these bytes take at least. rate 0: no time. Pure. */
uint64_t scrub_rate_ns(uint64_t bytes, uint64_t rate);

void scrub_encode(const struct scrub_mark *mark, const struct uuid *volume,
                  uint8_t *bytes);
/* -EBADMSG: not one, damaged, or another volume's. */
int scrub_decode(const uint8_t *bytes, uint64_t count,
                 const struct uuid *volume, struct scrub_mark *ret);
/* From the cache directory; the furthest, if there are two. All zero if there
 * is none. */
void scrub_load(struct lsvd_volume *v, struct scrub_mark *ret);
/* Into the first cache directory that takes it. */
int scrub_store(struct lsvd_volume *v, const struct scrub_mark *mark);
void scrub_file_name(const struct lsvd_volume *v, char *text, size_t bytes);

/* ---- scrub.c ---- */

/* Nanoseconds until scrub_step has something to do. UINT64_MAX: there is no
 * scrub. state_lock is held. */
uint64_t scrub_wait_ns_locked(struct lsvd_volume *v);
/* Check a chunk if it is time. Takes the role. True: did. */
bool scrub_step(struct lsvd_volume *v);
/* Before waiting for the first time: read where it was. */
void scrub_begin(struct lsvd_volume *v);
/* At close. */
void scrub_end(struct lsvd_volume *v);

#endif
