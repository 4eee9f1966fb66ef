/* moment.h: a volume as it was at one moment, for who reads it while others
 * write (a hot backup). Nothing is frozen for it and nothing is on disk: before
 * a block changes, what it held is kept (kept.h).
 *
 * Happy path: no request is under way: a moment is added to the volume's ->
 *   before a write, trim or zero changes a block, which it has the lease for,
 *   exclusive, each moment that has not kept the block yet does -> who reads
 *   the moment gets what is kept, and all else as it is now -> the last who
 *   uses it frees it, and the file goes.
 * (MO1) A moment is added while no request is under way (the gate of the
 *       server), so each request is in it as a whole or not at all. What is
 *       begun later sees it.
 * (MO2) Blocks are kept under the exclusive lease on them, before the journal
 *       has the change. Who reads the moment holds it shared, from the look at
 *       what is kept until it has the bytes: so what is not kept has not
 *       changed. The order of locks is that of any read: the lease, then what
 *       volume_fetch takes, then the file; the mutexes here are the innermost.
 * (MO3) Who has no lease asks the volume first, and what is kept then: what is
 *       still not kept has not changed until then (extents).
 * (MO4) Nobody who writes fails because of a moment, or waits for more than the
 *       copying. One for which a block can't be kept is broken before that
 *       block changes: one line says why, its file gives its space back, and
 *       whoever reads it gets -EIO from then on.
 * (MO5) What only moves or copies blocks keeps nothing: destage, resync, heal,
 *       scrub, flatten, growth. Nor do zeroes that become zeroes: before a trim
 *       takes its lease the volume tells what of the range is data, and that
 *       is kept a piece at a time, each under its lease, so that nobody waits
 *       for all of it. Who makes data of the rest before the trim comes to it
 *       keeps the zeroes himself.
 * (MO6) When a snapshot is made the moments go over to the successor, with no
 *       request under way: it reads as the volume did. When the volume is
 *       closed they are broken.
 * With no moment, a request pays for one relaxed load. */
#ifndef LSVD_VOLUME_MOMENT_H
#define LSVD_VOLUME_MOMENT_H

#include "volume/volume.h"

/* These are moment.c's; use the two below them. */
void moment_keep(struct lsvd_volume *v, uint64_t first, uint64_t count);
void moment_keep_data(struct lsvd_volume *v, uint64_t first, uint64_t count);

static inline bool
moments_are_there(struct lsvd_volume *v)
{
    return atomic_load_explicit(&v->moments.count, memory_order_relaxed) > 0;
}

/* Before these blocks are written; the caller has the lease on them,
 * exclusive, until they are. */
static inline void
moments_keep(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    if (moments_are_there(v))
        moment_keep(v, first, count);
}

/* Before these become zeroes, however many they are, within a request and
 * without a lease (MO5). */
static inline void
moments_keep_data(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    if (moments_are_there(v))
        moment_keep_data(v, first, count);
}

void moments_init(struct lsvd_volume *v);
/* MO6. The volume is about to be freed; no request is under way. */
void moments_end(struct lsvd_volume *v);
/* MO6. No request is under way, in either; to is new. */
void moments_move(struct lsvd_volume *from, struct lsvd_volume *to);
void moments_get_status(struct lsvd_volume *v, struct lsvd_now_status *ret);
/* <volume UUID>.now: what the file is called before it has no name. */
void moment_file_name(const struct lsvd_volume *v, char *text, size_t bytes);

#endif
