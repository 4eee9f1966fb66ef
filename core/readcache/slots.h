/* slots.h: which block is in which slot of the read cache's file, in RAM; what
 * is let in, and what has to go. No I/O, no lock: readcache.c has the mutex.
 *
 * Policy: S3-FIFO (Yang et al., FIFO Queues Are All You Need for Cache
 * Eviction, SOSP 2023) as it is for flash. Its small queue, where most blocks
 * end that are read once, holds no data here: volume's RAM has had them, and
 * a fingerprint of each remains (the ghosts, as many as there are slots). A
 * block that is missed again while its ghost lives is let in. The main queue
 * is a FIFO with re-insertion: as slots are never moved, a hand that goes round
 * them, takes a use off each block that has some, and the slot of the first
 * that has none. So what is read once costs the device no write, and slots are
 * written one behind the other. While there are slots that were never used,
 * any block is let in; also one that nobody has asked for yet: a guess. Guesses
 * that are still that when all slots are used make room as if they were free,
 * each once.
 *
 * (RI1) Memory is bounded and known at the start: SLOT_INDEX_BYTES a slot.
 * (RI2) A slot belongs to at most one of: nobody, a block (found by it), a
 *       writer (from slots_admit to slots_publish or slots_release: busy, not
 *       found, not given away).
 * (RI3) What is found need not be right: a slot may be written for another
 *       block while it is read, and the file may hold anything. Who reads it
 *       judges the bytes (readcache.h). */
#ifndef LSVD_READCACHE_SLOTS_H
#define LSVD_READCACHE_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#define SLOT_NONE UINT32_MAX
#define SLOTS_MAX (UINT32_MAX - 1)
#define SLOT_INDEX_BYTES 20 /* 12 for the slot, 4 bucket, 4 ghost; at most */
#define SLOTS_BLOCK_MAX ((UINT64_C(1) << 40) - 2)

struct slot_entry {
    uint32_t block_low;
    uint32_t next; /* in its bucket, or SLOT_NONE */
    uint16_t tag;  /* of the sum that its bytes should have */
    uint8_t block_high;
    uint8_t state; /* uses, and flags; see slots.c */
};

struct slots {
    struct slot_entry *slot; /* slot_count; owned */
    uint32_t *bucket;        /* bucket_mask + 1; owned */
    uint32_t *ghost;         /* fingerprints, oldest last in each set; owned */
    uint32_t slot_count, bucket_mask, ghost_sets;
    uint32_t fresh; /* slots from here on were never used */
    uint32_t hand;
    uint32_t guess_hand; /* slots from here on may hold guesses */
    uint32_t used;
    uint64_t evicted;
};

/* slots > 0. -ENOMEM. */
int slots_new(uint32_t slots, struct slots *ret);
void slots_done(struct slots *ix); /* zeroed is fine */

/* Are there slots that were never used? */
bool slots_have_room(const struct slots *ix);

/* The slot of the block, if its bytes should have this tag; it has been used
 * once more then. One with another tag is out of date, and is forgotten. */
uint32_t slots_find(struct slots *ix, uint64_t block, uint16_t tag);

enum slots_reason {
    SLOTS_MISS,   /* a read did not find it */
    SLOTS_CHANGE, /* it has just got new bytes: one that is known is kept up to
                   * date, one that is missed now and then is let in */
    SLOTS_GUESS,  /* it may be asked for: into a slot that was never used */
};

/* Shall the block be kept, and where? SLOT_NONE: no (or it is there already,
 * with this tag). Else the slot is the caller's until it publishes or releases
 * it (RI2). */
uint32_t slots_admit(struct slots *ix, uint64_t block, uint16_t tag,
                     enum slots_reason reason);
/* Its bytes are written, or will be before any later read. */
void slots_publish(struct slots *ix, uint32_t slot, uint64_t block,
                   uint16_t tag);
void slots_release(struct slots *ix, uint32_t slot);

/* The block is not in this slot, whatever we thought. */
void slots_forget(struct slots *ix, uint64_t block, uint32_t slot);
/* It is in none. */
void slots_drop(struct slots *ix, uint64_t block);

/* For storing and loading: a slot as 64 bits, 0 if nobody's. */
uint64_t slots_pack(const struct slots *ix, uint32_t slot);
/* Into an index that was made just now, slots in ascending order; what is
 * impossible (a block twice, or beyond the end) stays nobody's. */
void slots_unpack(struct slots *ix, uint32_t slot, uint64_t packed,
                  uint64_t block_count);

#endif
