/* membership.h: which parts may be used: the pure part of the rules R1-R7.
 *
 * (R3) The view in force is the greatest in any readable label. Without a
 *      journal that proves it, fewer than w members of S and of Q may be out
 *      of sight, else a newer view could exist among them.
 * (R5) A part is usable if the view counts it in and its label has the view's
 *      id, or the one before it (cut while the view was being written), and
 *      has promised the view's epoch, as every member had before the view was
 *      begun (R4); and its checkpoint is not older than the journal recorded,
 *      or, without a journal, than any other member's: otherwise it was rolled
 *      back or missed a change. */
#ifndef LSVD_REDUNDANCY_MEMBERSHIP_H
#define LSVD_REDUNDANCY_MEMBERSHIP_H

#include "meta/label.h"
#include <stdbool.h>

/* w: least number of in-sync parts for writing. data 1, parity 0 and
 * replicas > 0 for a replicated volume. */
uint32_t membership_write_quorum(uint32_t replicas, uint32_t ec_data,
                                 uint32_t ec_parity);

/* The view in force among these labels (by slot; NULL: not readable). -ENOENT:
 * none; -EEXIST: two views of equal number that are not the same, and nothing
 * decides. A view decides against itself if one of its own members holds the
 * other. */
int membership_choose(const struct label *const *labels, uint32_t count,
                      struct view *ret);

/* R5. journal_ckpt: what the journal recorded for this part, 0 if unknown.
 * newest_ckpt: the greatest in a label of this view. NULL, or why not (a
 * constant text). */
const char *membership_objection(const struct label *label, uint32_t slot,
                                 const struct view *view,
                                 uint64_t journal_ckpt,
                                 uint64_t newest_ckpt);

/* The greatest checkpoint in a label of this view or the one before it. */
uint64_t membership_newest_ckpt(const struct label *const *labels,
                                uint32_t count, const struct view *view);

/* R3 without a journal. in_sync: bit per usable member; in_sight: parts that
 * the view does not count in, whose labels were seen: they, too, know nothing
 * newer. */
bool membership_proven(const struct view *view, uint32_t in_sync,
                       uint32_t in_sight, uint32_t w);

/* R1: may these be the members of the view after this one? At least w of them,
 * and at least w of them members of the last view known complete: of a forced
 * one that has fewer (volume/force.c), all. */
bool membership_allows(const struct view *view, uint32_t members, uint32_t w);

enum membership_return {
    RETURN_RESYNC,   /* has all up to its checkpoint, and nothing else */
    RETURN_FULL,     /* as above, but longer ago than the history tells, or a
                      * journal was given up since: it may hold bytes of that
                      * which nothing tells of */
    RETURN_DIVERGED, /* has, or may have, what nobody else knows */
};

/* What may be done with a part that is not in the view, whose label is LIVE and
 * of this volume (faults.md 2.5). *ret_why: a constant text. */
enum membership_return membership_returning(const struct label *label,
                                            uint32_t slot,
                                            const struct view *view,
                                            const char **ret_why);

/* R4: the least epoch that nobody has used or promised. */
uint32_t membership_next_epoch(const struct label *const *labels,
                               uint32_t count, const struct view *view);

#endif
