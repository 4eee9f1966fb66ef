/* guard.h: directories that may hang, or die, without taking us with them.
 *
 * An io that stands before another one: every call on its targets and objects
 * is carried out by threads that belong to that directory (its crew), and who
 * made the call waits for it no longer than the deadline.
 *
 * (G1) A crew is hung when one of its operations has been running for the
 *      deadline; who waits gives it up then. So a call returns within the
 *      deadline, counted from when it began or when its crew last finished
 *      something, whichever is later (a queue on a slow disk is no hang): with
 *      its result, or -ETIMEDOUT and a text that names the path and says "no
 *      answer for N s".
 * (G2) An operation that was given up keeps everything it touches (buffers,
 *      descriptors, the inner objects) until it returns: bytes are copied in
 *      before, and out after, on the caller's side. What it opened too late is
 *      closed on its thread.
 * (G3) When one operation is given up the whole crew is: what had not begun is
 *      dropped and never carried out, what is called afterwards fails at once
 *      with -ETIMEDOUT. A directory is usable again, by opening it anew, when
 *      none of its given-up operations is left, the closing of what was
 *      opened before included; until then opening it fails at once with
 *      -ETIMEDOUT. Objects and targets opened before stay dead.
 * (G4) object_writev, object_write_pieces (one operation, whose pieces count
 *      together in G1) and object_punch return when they are queued; bytes
 *      queued are bounded (a caller waits for room as in G1). They are carried
 *      out in order for one object, side by side for several, and joined where
 *      one goes on where the other ends. A later object_sync of the object
 *      waits for them, and returns the first error of any of them, with its
 *      text; so does every later call on that object but close and reads, and
 *      what was queued behind the error is not carried out (T1 and T2 of
 *      target.h hold: before a sync nothing was promised). A read gets what is
 *      there: a part that can't be written can be read all the same, and what
 *      the lost writes were meant to change its reader looks for elsewhere. An
 *      object here is a handle: two handles of one file know nothing of each
 *      other's queues until the one is closed, which waits for its queue.
 *      After guard_set_waits they return when they were carried out, side by
 *      side, and an error is the call's alone: for who must not lose what was
 *      answered with the process.
 * (G5) A read that finds its bytes at hand (page cache) is done on the
 *      caller's thread if the inner target can tell without blocking
 *      (try_readv). Reads, and all else that is asked of an object, see all
 *      writes queued to it before; no read waits for a sync, of this object or
 *      of others, unless a write that it must see does.
 * (G6) Crews are found by the path of their directory, for the whole process:
 *      opened twice, it is one crew. A child directory has a crew of its own,
 *      which also opens it. Threads come when there is work, at most
 *      CREW_THREADS_MAX for queued writes, for syncs, and for all else, and go
 *      when there has been none for a while or nothing is open; a fork leaves
 *      none in the child, and nothing broken there: what was under way is the
 *      parent's, an object with queued writes gets -EIO in the child, given-up
 *      operations are forgotten.
 * Closing waits for what is queued as in G1, then for the closing itself no
 * longer than the deadline and 2 s, and leaves the rest to the crew; of what is
 * given up already it leaves everything. On a healthy directory the
 * descriptor, and so the lock, is gone when close returns. */
#ifndef LSVD_TARGET_GUARD_H
#define LSVD_TARGET_GUARD_H

#include "base/shared.h"
#include "target/target.h"

#define CREW_THREADS_MAX 8
#define CREW_QUEUE_BYTES_MAX (16u << 20)
#define GUARD_LATENCY_BUCKETS 28 /* as lsvd.h's lsvd_latency */

/* Wrap inner (borrowed; must outlive it and every crew that has not come
 * back: io_system() does). Clocks and random numbers are passed on.
 * deadline_ms > 0. */
int guard_new(struct io *inner, unsigned deadline_ms, struct io **ret);
/* No target of it is open; NULL is fine. All threads have ended then but those
 * that hang: code that may be unloaded must stay for them. */
void guard_free(struct io *io);

/* G4: before anything is opened through it. */
void guard_set_waits(struct io *io);

/* As deadline_ms: an operation is given up by guard_give_up alone. */
#define GUARD_FOREVER UINT32_MAX

/* From now on, for every target of it, also for who waits already. Not 0. */
void guard_set_deadline(struct io *io, unsigned deadline_ms);

/* From now on no call is begun: -ECANCELED at once. What is under way is waited
 * for as after guard_set_deadline; things can be closed. For ever. */
void guard_refuse(struct io *io, unsigned deadline_ms);

enum guard_kind { GUARD_READ, GUARD_WRITE, GUARD_SYNC, GUARD_OTHER,
                  GUARD_KINDS };

struct guard_latency {
    uint64_t count, sum_ns;
    uint64_t bucket[GUARD_LATENCY_BUCKETS];
};

/* Of a crew, since there is one: all who have the directory open. */
struct guard_stats {
    uint64_t abandoned; /* given up and not come back, or not closed, yet */
    uint64_t running, queued;
    uint64_t longest_ns; /* how long the oldest running one has been at it */
    uint64_t errors;   /* operations that failed; that a name is missing or
                        * there, a range empty or locked, is no failure */
    uint64_t medium_errors; /* of errors: EIO and its like */
    uint64_t timeouts; /* operations given up, and those never begun */
    /* Of operations that threads finished; not of reads at hand (G5). */
    struct guard_latency latency[GUARD_KINDS];
};

/* False: not a guarded target (the simulator's): *ret is all zero. Answers for
 * dead targets, too. */
bool guard_stats(struct target *t, struct guard_stats *ret);

/* Give up everything under way on this directory now (G3): the part was
 * dropped. What returns later is ignored. Nothing happens if t is not guarded
 * or nothing is under way. */
void guard_give_up(struct target *t);

/* Look whether an operation runs longer than the deadline though nobody waits
 * for it (queued writes), and give up the crew then. True: it is given up, now
 * or earlier, and t is dead. */
bool guard_is_hung(struct target *t);

/* The error of queued writes that o keeps (G4) was told by a sync, and all that
 * they wrote will be written again: o takes writes again. For an object that
 * can't be opened anew, because its lock would be lost. */
void guard_forgive(struct object *o);

/* Reads of several objects side by side, whose parts may be on different disks:
 * each is begun, then each is ended. */
struct guard_read {
    struct guard_reading *reading; /* the guard's; NULL: result is there */
    int result;
    char *text; /* of an error; owned */
    uint64_t took_ns; /* if a crew was asked, and had it: from the beginning
                       * until then; else 0 */
};

/* Not waited for longer than patience_ns (0: as any other read): -EAGAIN then
 * (no text), iov undefined; the read goes on by itself and its bytes are
 * dropped, or is not begun any more. o and iov are borrowed until the end. Not
 * guarded: an ordinary read, which is over at once. */
void guard_read_begin(struct object *o, const struct iovec *iov, int count,
                      uint64_t at, uint64_t patience_ns,
                      struct guard_read *ret);
/* 0 with the bytes in iov, or a negative errno. Once for each begun. */
int guard_read_end(struct guard_read *read);
/* Both. */
int guard_read_within(struct object *o, const struct iovec *iov, int count,
                      uint64_t at, uint64_t patience_ns);

/* Writes of several objects side by side, of bytes that stay where they are and
 * need not be copied; each is begun, then each is ended. Those of one object go
 * one after the other, in order with what is queued to it (G4); an error is
 * theirs alone. */
struct guard_write {
    struct guard_writing *writing; /* the guard's; NULL: result is there */
    int result;
    char *text; /* of an error; owned */
};

/* iov lies in bytes, which are held as long as anybody may still write them
 * (G2). o is borrowed until the end. Not guarded: over at once. */
void guard_write_begin(struct object *o, struct shared *bytes,
                       const struct iovec *iov, int count, uint64_t at,
                       struct guard_write *ret);
/* 0: it is in the object; or a negative errno. Once for each begun. */
int guard_write_end(struct guard_write *write);

#endif
