/* journal.h: the write-ahead ring: where a write becomes durable, and the
 * index of what it holds that the parts do not have yet.
 *
 * Object "<volume UUID>.journal" of the cache directory, preallocated and
 * written once: superblock copies at 0 and 4096, the ring, the area, superblock
 * copies in the last 8 KiB. A record is a header (with the sums of its blocks)
 * padded to 512 bytes, then its payload padded to 512; records never wrap (a
 * PAD record fills the end of the ring). docs/format.md has the bytes.
 *
 * (J1) A write is answered only when its record and every record before it
 *      are in the file: the chain has no gap after kill -9.
 * (J2) Every record's header holds the sum of the header before it: a record
 *      of an earlier lap or run can never follow.
 * (J3) Ring space is reused only after a durable superblock whose tail lies
 *      behind it, and after everything appended until then is durable (else
 *      a flushed version could go before its unflushed successor is safe).
 * (J4) The index has, for each block with a live record, the newest one.
 *      seq of an entry only grows.
 * (J5) A failed write or sync of the journal is sticky: nothing is accepted
 *      any more; what is indexed can still be read.
 * (J6) replay applies nothing: it fills the index and hands out redo records.
 * (J7) What a crash has cut off stays cut off: a record that a replay did not
 *      take is never taken later. Its header could stay where it is while the
 *      sectors behind it are written again, with the same bytes by chance.
 * (J8) Bodies of REDO records lie in an area of their own, whose space is free
 *      again after each advance; in the ring they would lie between writes
 *      that wait, and keep more of it busy than those do. (A journal made by a
 *      version that had no area has them in the ring.)
 * (J9) When a chunk's BYPASS record gets its place, the ring has nothing live
 *      of the chunk, and gets nothing more until the chunk is closed or its
 *      blocks are appended after all. So a replay forgets, at such a record,
 *      what earlier ones said of the chunk: it is on the parts, or overwritten.
 * (J10) For those blocks room is held, in ring and index, as long as the BYPASS
 *      record is kept: they can always be appended.
 * Superblocks (faults.md 5): counter c is written to pair c % 2, pair 0 =
 * copies at 0 and end-8192, pair 1 = 4096 and end-4096, then synced. The
 * greatest counter that stands in both copies of its pair wins; one that
 * stands once is used only if no pair is whole.
 *
 * Any thread may append, sync, read. The destage calls (marked D) come from
 * one thread at a time. */
#ifndef LSVD_JOURNAL_JOURNAL_H
#define LSVD_JOURNAL_JOURNAL_H

#include "base/log.h"
#include "meta/view.h"
#include "target/target.h"
#include <stdbool.h>

#define JOURNAL_ALIGN_BYTES 512u
#define JOURNAL_RECORD_PAYLOAD_MAX (1u << 20) /* of a WRITE record */
#define JOURNAL_REDO_BYTES_MAX (4u << 20)     /* body of a REDO record */
#define JOURNAL_REDO_RECORDS_MAX 64u /* between two advances, at most: what the
                                      * area is made for */
#define JOURNAL_ZERO_CHUNKS_MAX 1024u /* chunks that one ZERO record touches */

struct journal;

enum record_type {
    RECORD_WRITE = 1, /* whole blocks */
    RECORD_ZERO = 2,  /* a range of blocks reads as zeroes */
    RECORD_REDO = 3,  /* opaque to the journal: final bytes of a chunk */
    RECORD_PAD = 4,
    RECORD_REDO_APART = 5, /* as REDO, with its body in the area (J8) */
    RECORD_BYPASS = 6, /* writes to a chunk go past the journal (J9), … */
    RECORD_BYPASSED = 7, /* … as these blocks did */
    RECORD_REFERENCE = 8, /* a range of blocks becomes references */
};

/* What the superblock carries beside the ring's own fields. */
struct journal_identity {
    struct uuid volume, journal;
    uint32_t block_bytes;
    struct view view;
    uint64_t part_ckpt[PARTS_MAX];
    char host[64]; /* of the last server; for messages */
};

/* One index entry, as destage sees it. */
struct journal_block {
    uint64_t block; /* of the volume */
    uint64_t seq;
    uint64_t sum;   /* 0: zeroes; SUM_REFERENCE; both have no payload */
    uint64_t at;    /* payload's place in the file; 0 if it has none */
};

/* Make (or take over) the object, zero-written to `bytes` in all, with an
 * empty ring. bytes >= 64 KiB, rounded down to 4 KiB. Object locked
 * exclusively (-EBUSY). index_limit: most blocks the index may hold (0: from
 * the size). has_area: there will be REDO records (J8). Also the way to reset a
 * detached journal. identity->journal must be new (random): the salt that tells
 * this journal's records from those of its predecessors is made from it.
 * -EINVAL: too small for its blocks. */
int journal_create(struct target *cache, const char *name, uint64_t bytes,
                   const struct journal_identity *identity,
                   size_t index_limit, bool has_area, struct journal **ret);

/* Open and lock an existing one; reads the superblock only. -ENOENT;
 * -EBADMSG: no valid superblock; -EPROTO; -EBUSY. Ready for journal_replay. */
int journal_open(struct target *cache, const char *name, size_t index_limit,
                 struct journal **ret);

/* Free; writes nothing. NULL is fine. */
void journal_close(struct journal *j);

const struct journal_identity *journal_identity(const struct journal *j);

struct replay_stats {
    uint64_t records, blocks, bytes; /* found in order and indexed */
    uint64_t max_seq;                /* greatest seq seen, 0 if none */
    bool torn_tail;      /* the chain ended in a record cut short */
};

/* Blocks that went past the journal: their sums, and others that belong to them
 * (of parity), which the journal does not look at. */
struct journal_bypassed {
    uint64_t first;
    uint32_t count, more;
    const uint64_t *sums; /* count, then more of them */
};

struct replay_callbacks {
    /* As for journal_append_zero. NULL: every chunk may hold data. */
    bool (*present)(void *ctx, uint64_t chunk);
    /* Called for each REDO record in order (body valid during the call only);
     * a negative return ends the replay. */
    int (*redo)(void *ctx, uint64_t seq, const uint8_t *body, size_t bytes);
    /* Called for each BYPASS record in order, chunk from 0. 1: the parts do
     * not tell yet what the chunk holds, the record is kept; 0: they do. NULL:
     * 0. */
    int (*bypass)(void *ctx, uint64_t chunk, uint64_t seq);
    /* Called for each BYPASSED record in order: what was appended. NULL: they
     * are not wanted. */
    int (*bypassed)(void *ctx, uint64_t seq,
                    const struct journal_bypassed *record);
    /* The seed of a block's sum, to verify payloads. */
    uint64_t (*seed)(void *ctx, uint64_t block);
    void *ctx;
    /* None of these may call the journal. */
};

/* Scan the ring from the tail and index it. At the first record that fails:
 * if any later valid header, or a superblock, says that it had been durable
 * -> -EBADMSG "journal corrupt at sequence ..." and nothing is given up; else
 * a torn tail, which ends the scan. Payload sums are verified. O(ring). What
 * was found is made durable first, so that nothing read afterwards can be lost
 * again. REDO records appended before the last journal_advance are done with
 * and are not handed out. */
int journal_replay(struct journal *j, const struct replay_callbacks *cb,
                   struct replay_stats *ret);

/* ---- two copies of one journal (target/mirror.h) ---- */

/* Where a chain ends: in bytes of the file, and by what it says. */
struct journal_end {
    uint64_t seq;   /* of the last record */
    uint64_t at;    /* where the next one would begin */
    uint64_t chain; /* sum of the last header */
    uint64_t area_used; /* bytes of the area that REDO records name (J8) */
};

struct journal_scan {
    struct journal_end end;
    bool passed; /* the chain comes by `through` */
};

/* As journal_replay, but nothing is indexed and the journal stays as it is: to
 * choose between copies. Of the callbacks only seed is called. through: the end
 * of another copy's chain, or NULL. */
int journal_scan(struct journal *j, const struct replay_callbacks *cb,
                 const struct journal_end *through, struct journal_scan *ret);

/* Make a copy, whose chain is a beginning of j's (passed), equal to it: what
 * follows in the chain, then the superblocks. Neither has been started or
 * replayed. to is used up by it: close it, also after an error. -EINVAL: not a
 * copy of this journal. */
int journal_follow(struct journal *j, const struct journal_end *end,
                   struct journal *to, const struct journal_end *to_end);

/* Make the object `name` of dir an equal copy of j, whatever it was before. A
 * cut leaves no valid superblock there, or the whole copy. -EBUSY: locked. */
int journal_clone(struct journal *j, struct target *dir, const char *name);

/* ---- a second copy that is filled while the first is in use ---- */

struct journal_fill {
    struct object *to;    /* borrowed */
    uint64_t done, total; /* bytes; total is an estimate */
    /* copy.c's: */
    uint64_t zero_at, zero_end; /* of the file: to be written once */
    uint64_t pos;      /* every record before it is there, or is dead */
    uint64_t unsynced;
};

/* D. After start. Make `to` (writable, locked by the caller) a file of the same
 * size that is no journal, whatever it was; durably. */
int journal_fill_begin(struct journal *j, struct object *to,
                       struct journal_fill *ret);

/* D. Copy about so many bytes of the live part of the ring, while others
 * append. 1: there is more; 0: so little is left that journal_fill_end is
 * next. After an error the fill is over. */
int journal_fill_step(struct journal *j, struct journal_fill *f,
                      uint64_t bytes);

/* D. join is called once, with the journal's lock held: from then on what j's
 * object is asked to write and sync, it must do to `to` as well; false: it
 * can't. Then what is missing is copied. 0: `to` holds all that is live, and
 * durably what was appended before join; its superblock is still missing, which
 * the next one that is stored makes good (after an error that must not happen).
 * Appends are not held up. */
int journal_fill_end(struct journal *j, struct journal_fill *f,
                     bool (*join)(void *ctx), void *ctx);

/* After create or replay: records from now on have seq_make(epoch, 1…). Must
 * be called once, before the first append; epoch is above every epoch in use
 * (a journal that holds a later sequence fails at once, J5). A header that was
 * cut off where the first record will be is wiped out, durably (J7). */
int journal_start(struct journal *j, uint32_t epoch);

/* D. After start, of a journal that never held a record: the next superblock
 * says that the view in it is on all its members, as a record would prove. */
void journal_vouch(struct journal *j);
bool journal_vouches(const struct journal *j);

/* Store identity (view, ckpts, host; the journal's UUID may be a new one) and
 * the present tail, durably. D. */
int journal_store_identity(struct journal *j,
                           const struct journal_identity *identity);

/* Append one WRITE record: `count` whole blocks from `first` on, their sums
 * (never 0) and bytes; count * block_bytes <= JOURNAL_RECORD_PAYLOAD_MAX.
 * Caller holds its exclusive lease on the blocks. Returns when J1 holds and
 * the index is updated. -EAGAIN: no space, nothing done (see journal_space):
 * destage, forget, advance, try again; -EFBIG: more than journal_payload_max,
 * cut it; -EIO: the journal has failed (J5). */
int journal_append_write(struct journal *j, uint64_t first, uint32_t count,
                         const uint64_t *sums, const void *data);

/* As above: blocks [first, first + count) become zeroes. A chunk that lies
 * wholly in the range gets one mark instead of an entry a block. Chunks for
 * which present(ctx, chunk) is false and that have nothing in the index hold
 * no data: they get nothing, so that trimming a huge hole is cheap. chunk
 * counts from 0. The record names the whole range; a range that needs nothing
 * at all makes no record. present is called with the journal's lock held; it
 * must be true from before the journal_forget of a destage that gave the chunk
 * data. -EFBIG: touches more than JOURNAL_ZERO_CHUNKS_MAX chunks, or needs more
 * entries than half the index; cut it. */
int journal_append_zero(struct journal *j, uint64_t first, uint64_t count,
                        bool (*present)(void *ctx, uint64_t chunk),
                        void *ctx);

/* As journal_append_write, but the blocks, all of one chunk, become references
 * (chunk/references.h): where they lead to is durable already. */
int journal_append_reference(struct journal *j, uint64_t first,
                             uint32_t count);

/* D. Append a REDO record, which is kept until the next journal_advance. Its
 * body goes to the area, its header to the space kept for destage; in a journal
 * that has no area, the body, too. Of that space the records between two
 * journal_advance may take half of what is left, so that crashes before the
 * advance always leave room for another try. -ENOSPC: destage less at once. */
int journal_append_redo(struct journal *j, const void *body, size_t bytes);

/* Append a BYPASS record (J9), which is kept, and with it the tail, until
 * journal_forget_bypass. chunk: from 0. Caller holds an exclusive lease on all
 * blocks of the chunk, of which nothing is in the index. Returns as an append
 * does; *ret_seq: its sequence. -EAGAIN also if too much would be held (J10).
 */
int journal_append_bypass(struct journal *j, uint64_t chunk,
                          uint64_t *ret_seq);
/* Append a BYPASSED record: these blocks, all of one chunk with a BYPASS
 * record, are in the files of the parts. Returns as an append does; there is
 * room for it (J10) if no block comes twice. */
int journal_append_bypassed(struct journal *j,
                            const struct journal_bypassed *record,
                            uint64_t *ret_seq);
/* D. As journal_append_write, of blocks of such a chunk, each of which comes
 * once; there is room (J10). */
int journal_append_spilled(struct journal *j, uint64_t first, uint32_t count,
                           const uint64_t *sums, const void *data);
/* D. The chunk's tables tell what it holds, or its blocks were appended. */
void journal_forget_bypass(struct journal *j, uint64_t chunk, uint64_t seq);
/* So many BYPASS records may be kept at once (J10). */
size_t journal_bypass_max(const struct journal *j);
/* Most blocks that a BYPASSED record may have, with so many more sums for each
 * `of` blocks. */
uint32_t journal_bypassed_max(uint32_t of, uint32_t more);

/* A sequence of its own, for what is put on the parts: for one destage of a
 * chunk, for one write that goes past the journal. */
uint64_t journal_take_seq(struct journal *j);

/* Everything appended before this call survives a power cut when it returns
 * 0. Group commit: the first waiter syncs for all. */
int journal_sync(struct journal *j);
/* The same for what the index shows: a record is there as soon as it is in the
 * file, while the appends of those before it, and so its own, are still under
 * way. This waits for them, up to seq; then syncs all that was written. */
int journal_sync_seen(struct journal *j, uint64_t seq);
/* Does everything up to this sequence survive a power cut by now? Does not
 * wait. */
bool journal_is_durable(struct journal *j, uint64_t seq);

/* For who watches whether the medium answers: 0, no append, no sync of appends
 * and no superblock is under way (or it has failed, J5); else a number that
 * stays the same only as long as none has come back. */
uint64_t journal_under_way(struct journal *j);

/* Copy a block's newest live bytes to `to` (block_bytes), verified with the
 * sum's seed. 1: done; 0: the journal has no bytes for it; -EIO: has them, but
 * can't read them. Caller holds a lease on the block, or is destage. */
int journal_read(struct journal *j, uint64_t block, uint64_t seed, void *to);

/* Is there an entry? For a run of blocks: fills have[0 … count-1] with 0: no,
 * or what it is. One lock for all. */
enum { JOURNAL_DATA = 1, JOURNAL_ZEROES = 2, JOURNAL_REFERENCE = 3 };
void journal_lookup(struct journal *j, uint64_t first, uint32_t count,
                    uint8_t *have);

/* Blocks per chunk, so that the index can list a chunk's entries; call once
 * before replay or the first append. */
void journal_set_chunk_blocks(struct journal *j, uint32_t chunk_blocks);

/* Blocks of the volume: a record that names a block beyond is refused by
 * replay, and a zeroed last chunk counts as whole though it is cut short. Call
 * before replay or the first append; and from any thread when the volume has
 * grown, before a block behind the old end is written. */
void journal_set_volume_blocks(struct journal *j, uint64_t volume_blocks);

/* Most payload bytes that one WRITE record may have in this journal; whole
 * blocks, at most JOURNAL_RECORD_PAYLOAD_MAX. */
size_t journal_payload_max(const struct journal *j);

/* D. Up to `max` dirty chunks (index from 0 = block / chunk_blocks), those
 * with the oldest records first. Returns the count. */
size_t journal_oldest_chunks(struct journal *j, uint64_t *chunks, size_t max);

/* D. All live entries of a chunk, in order of block; at most max. *ret_total
 * is how many there are. *ret_zero_seq: 0, or the sequence with which the
 * whole chunk became zeroes (blocks with an entry are newer). Returns the
 * count written. */
size_t journal_chunk_blocks(struct journal *j, uint64_t chunk,
                            struct journal_block *blocks, size_t max,
                            size_t *ret_total, uint64_t *ret_zero_seq);

/* D. Read the payload of an entry from journal_chunk_blocks (not zeroes),
 * verified against its sum with `seed` supplied by the caller. -EIO. */
int journal_read_at(struct journal *j, const struct journal_block *b,
                    uint64_t seed, void *to);

/* D. The same for `count` entries whose bytes lie one behind the other in the
 * ring (journal_follows), in one read if all is well. */
int journal_read_run(struct journal *j, const struct journal_block *b,
                     const uint64_t *seeds, size_t count, void *to);
/* Does b lie right behind a? */
bool journal_follows(const struct journal *j, const struct journal_block *a,
                     const struct journal_block *b);

/* D. These entries of the chunk, and its zero mark if it still has this
 * sequence (0: none), are durable on the parts: drop those that have not been
 * replaced since (same seq). While the chunk's zero mark stays, its entries
 * stay too: it must not come to light again below them. */
void journal_forget(struct journal *j, uint64_t chunk,
                    const struct journal_block *blocks, size_t count,
                    uint64_t zero_seq);

/* D. Live entries with sequences below this hold the tail where it is: they
 * lie in the first segment of the ring that has any. UINT64_MAX: there is no
 * record behind that segment. */
uint64_t journal_tail_bound(struct journal *j);

/* D. Every record <= this is no longer needed: the least live or unfinished
 * sequence, minus one. */
uint64_t journal_checkpoint_seq(struct journal *j);

/* D. After the parts' labels: sync what was appended, store the superblock
 * with the new tail and these checkpoints, then reuse the space (J3). Every
 * REDO record appended before has been applied and checkpointed. */
int journal_advance(struct journal *j, const uint64_t *part_ckpt);

struct journal_space {
    uint64_t ring_bytes, used_bytes;
    uint64_t free_bytes;       /* what writes may still append */
    size_t index_blocks, index_limit;
    uint64_t live_blocks;      /* entries in the index */
    uint64_t dirty_chunks;
    uint64_t bypassed_chunks;  /* BYPASS records that are kept, … */
    uint64_t held_bytes;       /* … and room for their blocks (J10) */
    uint64_t cost, cost_max;   /* of memory that a replay would need */
    uint64_t appended_bytes;   /* since open; headers, padding, and bodies in
                                * the area included */
    uint64_t syncs;            /* data syncs issued since open */
    uint64_t area_bytes;       /* for bodies of REDO records; 0: in the ring */
    uint64_t last_seq;
    bool failed;               /* J5 */
};
void journal_space(struct journal *j, struct journal_space *ret);

/* Bytes [at, at + count) of the file hold the superblocks, records …; fuzz
 * entry: decode a superblock copy. -EBADMSG, -EPROTO. */
struct journal_super {
    struct journal_identity identity;
    uint64_t counter, file_bytes, salt;
    uint64_t tail_at, tail_chain; /* first live record; sum before it */
    uint64_t tail_seq;            /* no live record is older */
    uint64_t durable_seq;         /* known durable when written */
    uint64_t redo_seq;            /* REDO records below are done with */
    uint64_t area_bytes;          /* for bodies of REDO records; 0: none */
    uint64_t index_limit;         /* bounds what a replay may need */
};
int journal_super_decode(const uint8_t *bytes, struct journal_super *ret);
void journal_super_encode(const struct journal_super *s, uint8_t *bytes);

#endif
