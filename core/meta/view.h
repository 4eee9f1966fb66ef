/* view.h: the numbered set of in-sync parts, as it is stored in labels and in
 * the journal's superblock. Only the record and its bytes; the rules are in
 * redundancy/membership.h. */
#ifndef LSVD_META_VIEW_H
#define LSVD_META_VIEW_H

#include "base/bytes.h"
#include "base/limits.h"
#include "base/uuid.h"

struct view_id {
    uint32_t epoch, minor; /* compared in this order */
    struct uuid start;     /* random per start: tells siblings apart */
};

struct view_absent {
    struct uuid instance; /* zero: never was one */
    struct view_id dropped_by;
    uint64_t ckpt; /* its checkpoint when it was dropped, or … */
};
/* … its bytes may be newer than the volume's: a journal was given up. */
#define VIEW_CKPT_UNKNOWN UINT64_MAX

struct view {
    struct view_id id, previous;
    uint32_t members; /* S: bit i = part i is in sync */
    uint32_t complete_members; /* Q: S of the last view known complete */
    struct uuid instance[PARTS_MAX]; /* who holds slot i; zero if absent */
    struct uuid journal; /* zero: detached */
    struct view_absent absent[PARTS_MAX]; /* of the slots not in S */
    uint32_t history_count;
    struct view_id history[VIEW_HISTORY_MAX]; /* ids before this one, newest
                                               * first: [0] is previous */
};

/* Room that view_encode needs: fits a label's and a superblock's 4 KiB. */
#define VIEW_BYTES_MAX 3328

/* Negative, 0, positive by epoch, then minor (not by start). */
int view_id_compare(const struct view_id *a, const struct view_id *b);
bool view_id_equal(const struct view_id *a, const struct view_id *b);

/* A new view id follows (greater, assert): previous and history are updated.
 * The first id of an all-zero view follows nothing: history stays empty. */
void view_advance(struct view *view, const struct view_id *next);

/* The record states the number of slots and of history entries it holds. */
void view_encode(const struct view *view, struct byte_writer *out);

/* -EBADMSG if cut short or a count or bit is out of range. */
int view_decode(struct byte_reader *in, struct view *ret);

#endif
