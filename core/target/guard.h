/* guard.h: directories that may hang, or die, without taking us with them.
 *
 * An io that stands before another one: every call on its targets and objects
 * is carried out by threads that belong to that directory (its crew), and who
 * made the call waits for it no longer than the deadline.
 *
 * (G1) A call returns within the deadline, counted from when it began or when
 *      its crew last finished something, whichever is later (a queue on a
 *      slow disk is no hang): with its result, or -ETIMEDOUT.
 * (G2) An operation that was given up keeps everything it touches (buffers,
 *      descriptors, the inner objects) until it returns: bytes are copied in
 *      before, and out after, on the caller's side.
 * (G3) When one operation is given up the whole crew is: what had not begun is
 *      dropped and never carried out, what is called afterwards fails at once
 *      with -ETIMEDOUT. A directory is usable again, by opening it anew, when
 *      none of its given-up operations is left; objects and targets opened
 *      before stay dead.
 * (G4) object_writev and object_punch return when they are queued; bytes
 *      queued are bounded. They are carried out in order for one object, side
 *      by side for several. A later object_sync of the object waits for them,
 *      and returns the first error of any of them; so does every later call on
 *      that object but close (T1 and T2 of target.h hold: before a sync
 *      nothing was promised).
 * (G5) A read that finds its bytes at hand (page cache) is done on the
 *      caller's thread if the inner target can tell without blocking. Reads
 *      see all writes queued before them.
 * (G6) Crews are found by the path of their directory, for the whole process:
 *      opened twice, it is one crew. A child directory has a crew of its own,
 *      which also opens it. Threads come when there is work, at most
 *      CREW_THREADS_MAX, and go when there has been none for a while; a fork
 *      leaves none in the child, and nothing broken there.
 * Closing waits no longer than a short while for a directory that hangs, and
 * then leaves the rest to the crew. */
#ifndef LSVD_TARGET_GUARD_H
#define LSVD_TARGET_GUARD_H

#include "target/target.h"

#define CREW_THREADS_MAX 8
#define CREW_QUEUE_BYTES_MAX (16u << 20)
#define GUARD_LATENCY_BUCKETS 28 /* as lsvd.h's lsvd_latency */

/* Wrap inner (borrowed; must outlive it and every crew that has not come
 * back: io_system() does). clocks and random numbers are passed on. */
int guard_new(struct io *inner, unsigned deadline_ms, struct io **ret);
void guard_free(struct io *io); /* no target of it is open; NULL is fine */

/* From now on, for every target of it, also for who waits already. */
void guard_set_deadline(struct io *io, unsigned deadline_ms);

enum guard_kind { GUARD_READ, GUARD_WRITE, GUARD_SYNC, GUARD_OTHER,
                  GUARD_KINDS };

struct guard_latency {
    uint64_t count, sum_ns;
    uint64_t bucket[GUARD_LATENCY_BUCKETS];
};

struct guard_stats {
    uint64_t abandoned; /* given up and not come back yet */
    uint64_t running, queued;
    uint64_t longest_ns; /* how long the oldest running one has been at it */
    uint64_t errors, timeouts;
    uint64_t medium_errors; /* of errors: EIO and its like */
    struct guard_latency latency[GUARD_KINDS]; /* of finished operations */
};

/* False: not a guarded target (the simulator's): *ret is all zero. */
bool guard_stats(struct target *t, struct guard_stats *ret);

/* Give up everything under way on this directory now (G3): the part was
 * dropped. What returns later is ignored. Nothing happens if t is not guarded
 * or nothing is under way. */
void guard_give_up(struct target *t);

/* Look whether an operation runs longer than the deadline though nobody waits
 * for it (queued writes), and give up the crew then. True: it is given up. */
bool guard_is_hung(struct target *t);

/* A read that is not waited for longer than patience_ns: -EAGAIN then, iov
 * undefined; the read goes on by itself and its bytes are dropped. Not
 * guarded: an ordinary read. */
int guard_read_within(struct object *o, const struct iovec *iov, int count,
                      uint64_t at, uint64_t patience_ns);

#endif
