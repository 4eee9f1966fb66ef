/* state.h: the journal's inside, for the files of this folder.
 *
 * A logical place ("pos") counts bytes of the ring since the journal was
 * opened, never wraps, and lies in the file at RING_AT + pos % ring_bytes.
 *
 *     tail_pos <= every live record < head_pos <= start of the tail's segment
 *                                                 one lap further
 *
 * so that no segment ever holds records of two laps.
 *
 * Behind the ring lies the area. Bodies of REDO records are written there one
 * after the other, and from its beginning again after each advance: they are
 * done with then. */
#ifndef LSVD_JOURNAL_STATE_H
#define LSVD_JOURNAL_STATE_H

#include "journal/index.h"
#include "journal/journal_format.h"

#include "base/wake.h"
#include <pthread.h>

/* An append that has its place and is not yet part of the unbroken chain in
 * the file. Lives on its thread's stack. */
struct unfinished {
    uint64_t seq;
    uint64_t pos;      /* it begins here, with its PAD */
    bool written;      /* its bytes are in the file */
    bool linked;
    bool waiting;      /* for those before it */
    struct wake wake;  /* … until it is unlinked, or J5 */
    struct unfinished *prev, *next; /* in order of seq */
};

/* Who waits for a sync of another one. Lives on its thread's stack. */
struct sync_waiter {
    uint64_t want;
    bool durable;      /* when woken; else it is to look again */
    struct wake wake;  /* after it was taken from the list */
    struct sync_waiter *next;
};

struct journal_tail {
    uint64_t pos;
    uint64_t chain; /* sum of the header before */
    uint64_t seq;   /* no record from here on is older */
};

/* A BYPASS record that is kept. */
struct bypass_mark {
    uint64_t chunk, seq;
    uint32_t segment; /* in which it lies, and is live */
    uint64_t held_bytes; /* of the ring, for its blocks (J10); … */
    size_t entries, nodes; /* … and of the index, reserved */
};

struct journal {
    struct object *object; /* owned, locked exclusively */
    char *path;            /* for messages; owned */

    /* fixed at open */
    uint64_t file_bytes, ring_bytes, segment_bytes;
    uint64_t area_bytes;    /* 0: bodies of REDO records are in the ring */
    uint64_t reserve_bytes; /* of the ring, kept for REDO */
    uint32_t segment_count;
    uint32_t block_bytes;
    uint64_t salt;
    size_t index_limit;
    uint64_t stored_index_limit; /* of the run before */

    pthread_mutex_t lock;     /* guards what follows */
    pthread_cond_t written;   /* written_seq or failed has changed */
    struct sync_waiter *sync_waiters; /* S2 */
    bool started;
    bool is_cut;              /* at head_pos a record was begun, and cut off */
    uint64_t volume_blocks;   /* may grow */
    uint64_t head_pos, head_chain; /* where the next record goes */
    struct journal_tail tail;      /* on disk, durable */
    uint64_t last_seq;        /* given out */
    uint64_t last_record_seq; /* of a record with a place; 0: none */
    uint64_t written_seq;     /* J1: all up to here are in the file */
    uint64_t durable_seq;     /* all up to here survive a power cut */
    bool syncing;             /* a leader is in object_sync */
    bool storing;             /* a superblock is being written */
    struct unfinished *oldest_unfinished, *newest_unfinished;
    struct segment *segments;
    uint64_t redo_bytes;      /* REDO records since the last advance, … */
    uint64_t area_used;       /* … and their bodies apart */
    uint64_t cost;            /* sum over the segments since the tail */
    struct index index;
    struct bypass_mark *bypass; /* owned */
    size_t bypass_count, bypass_reserved, bypass_room;
    uint64_t held_bytes;        /* the sum of theirs, and of those on their way
                                 * (J10) */
    bool failed;              /* J5 */
    uint64_t failed_floor;    /* nothing from here on was finished */
    char failed_text[256];
    uint64_t appended_bytes, syncs, stores;

    /* of the one thread that makes the calls marked D */
    struct journal_identity identity;
    uint64_t counter;      /* of the newest superblock */
    uint64_t redo_seq;
    unsigned next_pair;    /* of superblock copies to write */
};

static inline uint64_t
file_at(const struct journal *j, uint64_t pos)
{
    return RING_AT + pos % j->ring_bytes;
}

static inline uint64_t
area_at(const struct journal *j)
{
    return RING_AT + j->ring_bytes;
}

static inline uint32_t
segment_of(const struct journal *j, uint64_t pos)
{
    return (uint32_t)(pos % j->ring_bytes / j->segment_bytes);
}

/* The segment in which pos lies begins here. */
static inline uint64_t
segment_start(const struct journal *j, uint64_t pos)
{
    return pos - pos % j->ring_bytes % j->segment_bytes;
}

/* super.c: sizes from file_bytes and block_bytes; lock, pools. */
int journal_new(struct object *object, const char *directory,
                const char *name, const struct journal_super *s,
                size_t index_limit, struct journal **ret);
/* Write the next superblock, durably. A failure is sticky (J5). */
int journal_store_super(struct journal *j,
                        const struct journal_identity *identity,
                        const struct journal_tail *tail, uint64_t redo_seq);
/* Bytes that are there already, or not, become zeroes that were written. */
int journal_write_zeroes(struct object *object, uint64_t at, uint64_t bytes);

/* sync.c. Everything up to want, which must be in the file or on its way, in
 * the file and durable. */
int journal_sync_to(struct journal *j, uint64_t want);

/* Below this line j->lock must be held. */

/* J5: remember this thread's error text. */
void journal_fail_locked(struct journal *j);
int journal_failed_error_locked(const struct journal *j);

/* append.c: those who wait there find out that it has failed. */
void journal_wake_appends_locked(struct journal *j);
/* append.c: note that a record begins at pos. */
void journal_segment_begin_locked(struct journal *j, uint64_t pos,
                                  uint64_t seq, uint64_t chain);

/* mark.c. Reserve a place for a mark: -ENOMEM; then it can be put, in place of
 * an older one of the chunk. */
int mark_reserve_locked(struct journal *j);
void mark_put_locked(struct journal *j, const struct bypass_mark *mark);
struct bypass_mark *mark_find_locked(struct journal *j, uint64_t chunk);
/* So much of what was held for it is used now. */
void mark_use_locked(struct journal *j, struct bypass_mark *mark,
                       uint64_t bytes);
/* What a mark for a chunk has to hold; all of them, at most a part of the
 * ring. */
#define HOLD_PART 4u
uint64_t mark_hold(const struct journal *j);
/* The least sequence of a mark, or UINT64_MAX. */
uint64_t mark_least_locked(const struct journal *j);

/* zero.c: what a ZERO record does to the index, chunk by chunk. */
struct zero_plan {
    uint64_t first, end;     /* blocks; Z1 */
    size_t entries, nodes;   /* what it needs of the index */
    uint64_t needed[JOURNAL_ZERO_CHUNKS_MAX / 64]; /* bit per chunk touched */
};
/* -EFBIG: touches too many chunks. */
int zero_plan_locked(struct journal *j, uint64_t first, uint64_t count,
                     bool (*present)(void *ctx, uint64_t chunk), void *ctx,
                     struct zero_plan *ret);
void zero_apply_locked(struct journal *j, const struct zero_plan *plan,
                       uint64_t seq, uint32_t segment);

/* Most entries a replay from the tail may need: appends keep to it, and a
 * replay grows its index up to it. */
static inline uint64_t
journal_cost_max(uint64_t index_limit)
{
    return 2 * index_limit;
}

#endif
