/* refer.h: blocks of a volume that lie in another one, read-only: a source.
 *
 * Happy path: with its blocks leased and the role taken, a chunk's blocks are
 *   found to be equal to blocks of a source (dedupe.c) -> its reference file
 *   (chunk/references.h), with these references in it, is durable on all parts
 *   in use -> a record says that the blocks are references -> destage makes
 *   holes of their cells. A write makes a block the volume's own again.
 * (RF1) What a cell says counts, or the journal before it: SUM_REFERENCE. For
 *       redundancy, repair and recovery such a cell is one of zeroes.
 * (RF2) No journal and no cell says so before the file is durable on every
 *       part that is in use or being filled; and as long as a cell says so, its
 *       reference stays in the file. Who fills or mends a chunk file sees to
 *       the reference file, too.
 * (RF3) A reference leads to a volume that the policy names as a source, by
 *       number and UUID, which is read-only, which is not taken back, nor is it
 *       resized or removed as long as the policy names it (as PA2). The policy
 *       is durable before the first reference is.
 * (RF4) Bytes are compared before, under the lease; and what a reference gives
 *       must have the sum that stands beside it: a source that was changed all
 *       the same gives an error.
 * (RF5) A chunk with a reference has its chunk file: one that is a hole has
 *       none, whatever lies beside it.
 * (RF6) The entry of a chunk in the chunk tables may name a sequence: then the
 *       chunk has no bytes of its own, and the reference file of that sequence
 *       has those blocks that are references, and no other. So the chunk file
 *       need not be opened to read it. The journal forgets a block only when an
 *       entry of a newer sequence is in force, and durable (a start without
 *       the journal takes these marks away); and who changes the file gives it
 *       another sequence: one that is not the entry's says no more than RE2
 *       (references.h). */
#ifndef LSVD_VOLUME_REFER_H
#define LSVD_VOLUME_REFER_H

#include "chunk/references.h"
#include "volume/volume.h"

/* ---- sources ---- */

/* With the policy found: open the sources, by the same roots. flags: of our own
 * opening; with OPEN_INSPECT they stay closed. Errors name the source. */
int sources_open(struct lsvd_volume *v, const struct lsvd_env *env,
                 unsigned flags);
/* Those that were left closed, to be looked at; one that can't be is logged.
 * Before threads. */
void sources_open_late(struct lsvd_volume *v, const struct lsvd_env *env);
/* One of them, as the policy names it, once more. flags: of v's own opening. */
int source_open_nth(struct lsvd_volume *v, const struct lsvd_env *env,
                    uint32_t nth, unsigned flags, struct lsvd_volume **ret);
void sources_close(struct lsvd_volume *v);
/* The same beside requests of top, which is v, or goes on from it; none of them
 * needs its sources any more. */
void sources_let_go(struct lsvd_volume *v, struct lsvd_volume *top);
/* NULL: no source, or not open. */
struct lsvd_volume *source_find(const struct lsvd_volume *v, uint32_t number);
/* RF3. v is open to be written, source was opened as one, and is owned by v
 * when this returns 0. -EIO: not all parts of v are in use. The role's. */
int source_add(struct lsvd_volume *v, struct lsvd_volume *source);
/* A policy that is stored, and differs in the sources: the rest of it is read
 * by requests. */
void sources_take_policy(struct lsvd_volume *v,
                         const struct volume_meta *next);
/* The volume of this name, as a source for v, which is open. Errors say why it
 * can't be one. */
int source_open_named(struct lsvd_volume *v, const struct lsvd_env *env,
                      const char *name, struct lsvd_volume **ret);

static inline bool
volume_has_references(const struct lsvd_volume *v)
{
    return atomic_load_explicit(&v->source_count, memory_order_acquire) > 0;
}

/* ---- reading ---- */

/* Does the journal say of a block of the chunk that it is a reference? */
bool refer_journal_has(struct lsvd_volume *v, uint64_t chunk);
/* Do the cells that can be read say that the block is a reference? Caller holds
 * the chunk lease. */
bool refer_cell_says_so(struct lsvd_volume *v, struct chunk *c,
                        uint32_t block);
/* The references of blocks of the chunk, where said is SAID_REFERENCE. Caller
 * holds the chunk lease, or has the role. -EIO: a block has none. */
int refer_look(struct lsvd_volume *v, struct chunk *c, uint32_t block,
               uint32_t count, const uint8_t *said, struct reference *ret);
/* RF6: the sequence for the entry of a chunk as the plan, which is in place,
 * has made it, or 0. Caller holds the chunk lease. */
uint64_t refer_exact_seq(struct lsvd_volume *v, const struct plan *plan);
/* RF6: what blocks of the chunk are, of which the tables say this. False: that
 * is not known; ask the cells. Caller holds the chunk lease. */
bool refer_look_exact(struct lsvd_volume *v, struct chunk *c,
                      const struct chunk_entry *truth, uint32_t block,
                      uint32_t count, uint8_t *said, struct reference *ret);
/* The same of one chunk's blocks that the journal says are references. */
int refer_look_up(struct lsvd_volume *v, uint64_t first, uint32_t count,
                  struct reference *ret);
/* The bytes of blocks [first, first + count), all of them references. Caller
 * holds a lease on them, and not the chunk's. -EIO. */
int refer_fetch(struct lsvd_volume *v, uint64_t first, uint32_t count,
                const struct reference *references, uint8_t *to);
/* What lies at the place that a reference names, and behind it; unchecked. */
int refer_read(struct lsvd_volume *v, const struct reference *ref,
               uint32_t count, uint8_t *to);
/* The block of a source of this geometry. */
static inline uint64_t
refer_block(const struct geometry *g, const struct reference *ref)
{
    return (uint64_t)(ref->chunk - 1) * g->chunk_blocks +
           ref->at / g->block_bytes;
}
/* Does b lead to the block behind that of a? */
bool refer_follows(const struct geometry *g, const struct reference *a,
                   const struct reference *b);

/* ---- making them (refer_make.c) ---- */

struct refer_result {
    uint64_t blocks; /* have become references */
};
/* Blocks of the chunk that are the volume's own, and have the bytes of the
 * block that `want` names, become references; the others stay as they are. want
 * has one for each block of the chunk, or none; its sums don't matter. -EAGAIN:
 * not now: the chunk is being written, or the journal is full. */
int refer_chunk(struct lsvd_volume *v, uint64_t chunk,
                const struct references *want, struct refer_result *ret);
/* References of the chunk become blocks of the volume's own again. The file
 * stays: see references_tidy. -EAGAIN as above. */
int refer_undo(struct lsvd_volume *v, uint64_t chunk,
               struct refer_result *ret);
/* The chunk's reference file goes, if nothing needs it any more. -EAGAIN:
 * something does, if only until what was written is destaged. */
int references_tidy(struct lsvd_volume *v, uint64_t chunk);

/* ---- files ---- */

/* The chunk's references, as any part in use has them; cached with the chunk.
 * Caller holds the chunk lease. -ENOENT: no part has a file; -EIO. */
int chunk_references(struct lsvd_volume *v, struct chunk *c,
                     const struct references **ret);
/* With the chunk lease, exclusive, or nobody else at the chunk. */
void chunk_forget_references(struct lsvd_volume *v, struct chunk *c);
/* RF2: durable on all parts, in place of what was. Takes `next`, which gets a
 * sequence of its own, if that is so. The role's; caller holds no chunk lease.
 * Parts that fail are noted (part_failed). */
int references_put(struct lsvd_volume *v, struct chunk *c,
                   struct references *next);
/* RF2: the reference file of a part that is filled or mended, if the chunk has
 * one. 1: written; 0: was right, or there is none. Caller holds the chunk
 * lease. */
int references_mend(struct lsvd_volume *v, struct chunk *c, uint32_t slot);
/* What is wrong with that file of this part: 0, or -ENOENT, -EBADMSG, -ESTALE
 * (it lacks a reference that another part's has). Caller holds the chunk lease.
 */
int references_check(struct lsvd_volume *v, struct chunk *c, uint32_t slot);
/* Has any part that is in use a reference file of the chunk? */
bool references_exist(struct lsvd_volume *v, uint64_t chunk);
/* Blocks of the volume whose cells say that they are references. */
uint64_t references_count(struct lsvd_volume *v);
/* Of a chunk that is a hole now, or ceases to be. -ENOENT is none. */
int references_remove(struct target *part, uint64_t chunk);

#endif
