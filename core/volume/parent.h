/* parent.h: a clone, and the read-only volume that has what it lacks.
 *
 * A block of a clone is what the clone itself says of it, if it says anything;
 * else what its parent has at the same address, which may ask its own; else,
 * and behind the overlap, zeroes.
 *
 * (PA1) What a clone says on its parts: a chunk that is a hole with a sequence
 *       is zeroes; one without a sequence says nothing; in a chunk file a cell
 *       with the sum 0 says nothing. So zeroes that were written beside blocks
 *       of the parent are cells with the sum of a block of zeroes, whose bytes
 *       are a hole: for redundancy, repair and reading they are data like any
 *       other.
 * (PA2) Nothing changes a volume that is a parent: it is read-only, which is
 *       not taken back, nor is it resized or removed, as long as a policy under
 *       its roots names it (parent_check_unused), and who serves a clone has it
 *       locked, shared.
 * (PA3) The overlap only shrinks, with the clone: what lay behind a smaller end
 *       does not come to light again. */
#ifndef LSVD_VOLUME_PARENT_H
#define LSVD_VOLUME_PARENT_H

#include "volume/volume.h"

#define PARENT_DEPTH_MAX 64u

/* ---- opening ---- */

/* With the policy found, before anything is read: open the parent, and its, by
 * the same roots. flags: of our own opening. Errors name the parent: -ENOENT,
 * -EROFS it is not read-only, -ELOOP more than PARENT_DEPTH_MAX … */
int parent_open(struct lsvd_volume *v, const struct lsvd_env *env,
                unsigned flags);
/* That of a volume that is open, once more, and all that it needs. */
int parent_open_again(struct lsvd_volume *v, const struct lsvd_env *env,
                      struct lsvd_volume **ret);
/* That of a volume that is being made. */
int parent_open_named(struct lsvd_volume *v, const struct lsvd_env *env,
                      const char *name);
void parent_close(struct lsvd_volume *v);
/* Of a volume that was opened without: is it known, and read-only? 0 also if
 * there is none. */
int parent_check_known(struct lsvd_volume *v);
/* What it is called, for messages. */
int parent_find_name(struct lsvd_volume *v, char *name, size_t bytes);

/* The same for any volume that v needs, be it a source (refer.h): with which
 * flags, … */
int needed_flags(const struct lsvd_volume *v, const char *name, unsigned flags,
                 unsigned *ret);
/* … by which name, … */
int needed_name(struct lsvd_volume *v, uint32_t number,
                const struct uuid *uuid, char *name, size_t bytes);
/* … and, once it is open: can it be trusted to stay as it is (PA2)? What its
 * journal still holds is part of it, wherever it lies. */
int needed_settle(struct lsvd_volume *p);
/* Before something comes to need p, which is open: will it be read-only after a
 * power cut, too (FI3)? -EROFS. */
int needed_check_settled(struct lsvd_volume *p);

/* ---- what it has ---- */

static inline bool
volume_is_clone(const struct lsvd_volume *v)
{
    return v->meta.parent != 0;
}

/* Blocks that the clone says nothing of. Caller holds a lease on them. */
int parent_fetch(struct lsvd_volume *v, uint64_t first, uint64_t count,
                 uint8_t *to);
/* Of a chunk of which the clone's parts say nothing: may there be data of the
 * parent in it? Memory alone. */
bool parent_shows(struct lsvd_volume *v, uint64_t chunk);
/* volume_own of the parent, of such blocks; what lies behind the overlap is not
 * told. */
int parent_own(struct lsvd_volume *v, uint64_t first, uint64_t count,
               volume_own_cb cb, void *ctx);
/* lsvd_extents of such blocks: blocks of v, in order, within the overlap; what
 * lies behind it is not told. */
int parent_extents(struct lsvd_volume *v, uint64_t first, uint64_t count,
                   int (*cb)(void *ctx, uint64_t first, uint64_t count,
                             bool is_data),
                   void *ctx);

/* ---- zeroes of a clone (PA1) ---- */

/* What stands in a chunk file for a block with this sum in the journal. */
uint64_t volume_cell_sum(const struct lsvd_volume *v, uint64_t block,
                         uint64_t sum);
/* Does this sum of a cell mean zeroes, or nothing? */
bool volume_sum_is_zero(const struct lsvd_volume *v, uint64_t block,
                        uint64_t sum);
/* … or a reference: that there are no bytes? */
static inline bool
volume_sum_is_hole(const struct lsvd_volume *v, uint64_t block, uint64_t sum)
{
    return sum == SUM_REFERENCE || volume_sum_is_zero(v, block, sum);
}

/* Of a cell that was loaded, or rebuilt: is it such zeroes, so that its bytes
 * need not be written? */
bool volume_cell_is_hole(const struct lsvd_volume *v, const struct rows *rows,
                         uint32_t slot, uint32_t row);

/* ---- who depends on it (PA2) ---- */

/* The names of its clones under these roots, ", " between them. */
int parent_children(struct lsvd_volume *v, char *names, size_t bytes,
                    uint32_t *ret_count);
/* -EBUSY, with their names, if there are any. 0: and there are none after a
 * power cut (FI3). */
int parent_check_unused(struct lsvd_volume *v);
/* The same, and for ever of a snapshot. */
int parent_check_thaw(struct lsvd_volume *v);

#endif
