/* bypass.h: large writes into new chunks go straight to the parts, past the
 * journal, which would only be a detour for them: their bytes would be written
 * twice.
 *
 * A chunk that holds nothing is opened for it, gets its bytes, and is closed:
 *
 *   (a hole) --bypass_prepare: BYPASS record, files made--> open
 *   open --bypass_write: cells on all parts, then a BYPASSED record--> open
 *   open --the role: no more writes--> closing
 *   closing --entries, headers; files, names, tables are durable--> (a chunk
 *             like any other)
 *   closing --something failed: spilled into the journal--> (a hole, and dirty)
 *
 * An answered write is in the files of all parts, and its sums are in the
 * journal: kill -9 does not lose it. A flush waits until every chunk that is
 * open is closed.
 *
 * (BY1) While a chunk is open the journal has no block of it. Who writes to it
 *       in a way that can't go straight to the parts asks for it to be closed,
 *       and waits.
 * (BY2) A chunk is opened only under an exclusive lease on all its blocks, so
 *       who has a lease on one of them knows whether it is open.
 * (BY3) A cell is written at most once while the chunk is open: what is there
 *       was never answered to anybody, so a write that is cut loses nothing.
 * (BY4) Chunk tables know nothing of it until it is closed: all else is asked
 *       through chunk_truth, which does. Entries are in memory alone: a file
 *       that is opened anew is older than chunk_truth says, and not used.
 * (BY5) With EC whole rows only: no stripe is ever half new.
 * (BY6) The bytes stay in memory until it is closed: when a part fails, they
 *       are appended to the journal, which has its ways with such a part, and
 *       room for them (J10). Nothing is promised of the files then.
 * (BY7) After a crash the records say what the files may hold that no table
 *       tells. What was flushed is in the tables; so a cell that is what its
 *       record says counts, and one that is not was never flushed, and is a
 *       hole.
 * Only on a volume that has all its parts, whose chunks nobody verifies or
 * heals at that moment (role_get bars it). */
#ifndef LSVD_VOLUME_BYPASS_H
#define LSVD_VOLUME_BYPASS_H

#include "volume/volume.h"

/* ---- for who writes; no lease is held, unless it says so ---- */

/* At attaching: when is it cheaper? */
void bypass_begin(struct lsvd_volume *v);

/* Of a write of so many bytes, what may go the same way. */
size_t bypass_cut(struct lsvd_volume *v, size_t count, uint64_t offset);

/* Open the chunk for these blocks, if that is worth it. */
void bypass_prepare(struct lsvd_volume *v, uint64_t first, uint32_t count);

enum bypass_result {
    BYPASS_NOT,      /* the chunk is not open: the journal is for it */
    BYPASS_DONE,
    BYPASS_CONFLICT, /* it is, but not for this: bypass_settle, without the
                      * lease, then again */
};
/* Caller holds the exclusive lease on the blocks, and waits for what the
 * journal waits for (journal_await) before it answers. */
enum bypass_result bypass_write(struct lsvd_volume *v, uint64_t first,
                                uint32_t count, const uint64_t *sums,
                                const uint8_t *data);
/* Is one of the blocks in an open chunk? Caller holds a lease on them. */
bool bypass_has(struct lsvd_volume *v, uint64_t first, uint64_t count);
/* Until none of them is. -EIO: it can't be closed, for too long. */
int bypass_settle(struct lsvd_volume *v, uint64_t first, uint64_t count);

/* Before the journal is synced for a flush: everything that was answered is
 * in chunks that are closed. */
int bypass_flush(struct lsvd_volume *v);

/* ---- for who asks what a chunk holds ---- */

/* Caller holds table_lock. True: it is open, since the sequence *ret. */
bool bypass_is_open_locked(struct lsvd_volume *v, uint64_t chunk,
                           uint64_t *ret);
bool bypass_is_open(struct lsvd_volume *v, uint64_t chunk);
/* Raised when blocks that were on the parts are in the journal instead: who
 * finds that nothing is on the parts, and a raised number, looks again. */
static inline uint64_t
bypass_spills(struct lsvd_volume *v)
{
    return atomic_load(&v->bypass.spills);
}

/* ---- the role's ---- */

/* Close those that can or must be, and all that were opened before or as
 * `upto`. *ret_closed: did something. An error: some of them could not be, and
 * stay as they are. */
int bypass_close(struct lsvd_volume *v, uint64_t upto, bool *ret_closed);
#define BYPASS_ALL UINT64_MAX
/* Takes the role: one round for those who wait. */
int bypass_round(struct lsvd_volume *v);
/* Caller holds state_lock. Is there one to be closed? */
bool bypass_is_asked_locked(struct lsvd_volume *v);
/* Ask for those that nobody has written to for a while. */
void bypass_look_for_old(struct lsvd_volume *v, bool all);
/* None is opened between these two. -EIO: one can't be closed. */
int bypass_bar(struct lsvd_volume *v);
/* The same without closing any, if this chunk is not open: then true. */
bool bypass_bar_opening(struct lsvd_volume *v, uint64_t chunk);
void bypass_unbar(struct lsvd_volume *v);

/* ---- after a crash: bypass_recover.c ---- */

/* The journal's replay has such a record (replay_callbacks). */
int bypass_found(struct lsvd_volume *v, uint64_t chunk, uint64_t seq);
int bypass_found_blocks(struct lsvd_volume *v, uint64_t seq,
                        const struct journal_bypassed *record);
/* Attached: what the files hold becomes what the chunks hold, durably. *ret:
 * how many there were. */
int bypass_recover(struct lsvd_volume *v, size_t *ret);

/* Not attached, so that nothing can be recovered: what is in the files becomes
 * durable, before anybody reads it. Parts that fail are noted. */
int bypass_keep_found(struct lsvd_volume *v);
/* Blocks of such a chunk into `to`; caller holds the chunk lease. -EIO: a part
 * that is away may have one, so nobody can tell what it is (it was never
 * flushed). */
bool bypass_is_found(struct lsvd_volume *v, uint64_t chunk);
int bypass_read_found(struct lsvd_volume *v, struct chunk *c, uint32_t block,
                      uint32_t count, uint8_t *to, uint8_t *said);

void bypass_done(struct lsvd_volume *v);

/* A part was let go: what had been on its way to it may not be there. */
void bypass_break(struct lsvd_volume *v);

/* ---- between bypass.c and its fellows ---- */

/* What a BYPASSED record said. */
struct bypass_sums {
    struct bypass_sums *next;
    uint64_t seq, first;
    uint32_t count, more;
    uint64_t sums[];
};

struct bypass_chunk {
    struct bypass_chunk *next; /* the list, oldest first, and what is … */
    uint64_t id;       /* … fixed: grows from opening to opening */
    uint64_t chunk;    /* from 1 */
    uint32_t parts;    /* that it is written to: all */
    uint64_t begun_ns;
    uint64_t seq;      /* of the BYPASS record */
    bool has_files;    /* on all parts; else it is a hole still */
    uint64_t newest;   /* of its records */
    struct chunk *pin;
    uint64_t *written; /* bit a block; owned */
    uint32_t blocks;   /* that are written */
    unsigned writers;  /* on their way */
    bool closing, broken;
    struct plan *pieces; /* what was written, newest first; owned */
    size_t spilled;    /* blocks of the first piece that the journal has */
    bool found;        /* by a replay (and has_files), with … */
    struct bypass_sums *sums; /* … these; owned */
};

/* Caller holds table_lock, or is alone. That of the chunk, or NULL. */
struct bypass_chunk *bypass_of_chunk_locked(struct lsvd_volume *v,
                                            uint64_t chunk);
/* The first that has one of these blocks, or NULL. */
struct bypass_chunk *bypass_find_locked(struct lsvd_volume *v, uint64_t first,
                                        uint64_t count);
/* It is the newest from now on, and gets its id. */
void bypass_enlist_locked(struct lsvd_volume *v, struct bypass_chunk *b);
/* A writer leaves, with this result; by the last one a role may be waiting. */
void bypass_leave(struct lsvd_volume *v, struct bypass_chunk *b, int r);
/* BY5. */
bool bypass_is_whole_rows(const struct lsvd_volume *v, uint64_t first,
                          uint32_t count);
/* Whose sums, and those of their parity, fit into a record. */
uint32_t bypass_blocks_max(const struct lsvd_volume *v);
void bypass_free(struct bypass_chunk *b);
void bypass_forget_sums(struct bypass_chunk *b);
/* It is not open any more, what it holds is known by other means. The role's;
 * nobody writes to it. */
void bypass_forget(struct lsvd_volume *v, struct bypass_chunk *b);
/* Files, names, tables of these. Parts that fail are noted. */
int bypass_make_durable(struct lsvd_volume *v,
                        struct bypass_chunk *const *chunk, size_t count);

#endif
