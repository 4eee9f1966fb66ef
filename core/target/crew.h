/* crew.h: the threads that work for one directory, and what waits for them.
 * Private to guard.c (see guard.h for the rules G1 to G6); roster.c keeps the
 * list of crews.
 *
 * A thing is what operations work on: an inner target or object. Operations
 * on a thing that are in_order form its queue, and at most one of them is
 * under way; all others go side by side. A read stands in that queue behind
 * what it could see the effect of, but never waits for a sync.
 *
 * What a client may be waiting for (reads, opening), queued writes, which a
 * read may have to stand behind, and syncs, which take their time, go in lanes
 * of their own, each with CREW_THREADS_MAX threads at most: a destage that
 * syncs dozens of files does not hold up a read.
 *
 * An operation, and who frees it:
 *   queued -> running -> done                the waiter, else the thread
 *   queued -> done (crew_give_up: dropped)   the waiter, else the dropper
 *   running -> abandoned -> done             the waiter if it still waits,
 *                                            else the thread
 * A waiter that leaves before "done" takes its name off the operation.
 *
 * (C1) A thing is closed by a thread of its crew, when nobody uses it: its
 *      handle is closed, no operation on it is queued or running, no thing
 *      made through it is left.
 * (C2) Nothing of the outside is called with the lock held.
 * (C3) Lock order: the roster's, then one crew's. Never two crews'.
 * (C4) While something is queued there is a thread.
 * (C5) A thread that ends an operation takes the next of a lane that has
 *      threads left: nobody need be woken when room is made in a lane. */
#ifndef LSVD_TARGET_CREW_H
#define LSVD_TARGET_CREW_H

#include "target/guard.h"
#include <pthread.h>
#include <stdatomic.h>

struct crew_op;
struct crew_thing;

struct crew_ops_list {
    struct crew_op *first, *last;
};

enum crew_lane { LANE_PROMPT, LANE_WRITE, LANE_SYNC, LANES };

/* Of who waits, as long as it does. */
struct crew_waiter {
    pthread_cond_t cond;
    bool for_room; /* in the queue */
    struct crew_waiter *prev, *next; /* all of a crew */
};

struct crew {
    char *path;         /* without needless slashes; owned; fixed */
    struct crew *next;  /* guarded by the roster */
    atomic_uint refs;   /* things, threads, callers; 0 only in the roster */

    pthread_mutex_t lock;    /* guards what follows */
    pthread_cond_t work;     /* for its threads */
    atomic_uint_fast64_t generation; /* how often it was given up; read without
                              * the lock by crew_thing_check */
    uint64_t silent_ns;      /* how long it had been silent the last time */
    uint64_t progress_ns;    /* when something was finished last */
    unsigned things;         /* not closed yet */
    unsigned threads, idle;
    unsigned ending; /* threads that are done; they give back their reference
                      * in one with this, under the roster's lock, too: a fork
                      * finds both or neither */
    unsigned signalled;      /* of the idle: woken and not up yet */
    struct crew_ops_list queue[LANES]; /* can be begun */
    unsigned busy[LANES];          /* threads that work for a lane */
    struct crew_op *running;       /* of this generation; any order */
    struct crew_op *leftover;      /* given up and not come back; closings
                                    * that wait behind them, too */
    struct crew_waiter *waiters;
    unsigned room_waiters;
    uint64_t queued_bytes;   /* of writes, until they are done */
    uint64_t queued_count;   /* not begun */
    struct guard_stats stats; /* running, longest: see crew_stats */
};

struct crew_op {
    /* Set by who makes it, zero otherwise: */
    int (*run)(struct crew_op *op);    /* on a thread of the crew */
    void (*undo)(struct crew_op *op);  /* it ran, and nobody takes its result:
                                        * there, too; or NULL */
    void (*free)(struct crew_op *op);
    /* May next, queued right behind op, be carried out by op's run? Then it
     * is put into op->joined. Or NULL. */
    bool (*join)(struct crew_op *op, struct crew_op *next);
    struct crew_thing *thing; /* of this crew, or NULL */
    struct crew_thing *made;  /* what it opens, or NULL */
    enum guard_kind kind;
    bool in_order; /* else only a read, behind what it could see */
    bool unseen;   /* no read could tell whether it was carried out: a sync */
    bool async;    /* nobody waits; an error sticks to the thing */
    size_t bytes;  /* of an async one's memory */

    /* The crew's: */
    struct crew_op *next;   /* in a queue or in joined */
    struct crew_op *before, *after; /* in running or leftover */
    struct crew_ops_list joined;
    struct crew_waiter *waiter; /* NULL: nobody waits (any more) */
    uint64_t begun_ns, ended_ns;
    bool ordered;    /* it is in its thing's queue */
    enum crew_lane lane;
    bool cancelled;  /* not to be begun */
    bool begun;
    bool abandoned;  /* in leftover */
    bool done;
    int result;
    char *text;      /* of an error; owned; NULL if there was no memory */
};

struct crew_thing {
    struct crew *crew;         /* a reference */
    struct crew_thing *parent; /* of the same crew, or NULL; used by us */
    void (*close)(struct crew_thing *thing); /* on a thread of the crew */
    void (*free)(struct crew_thing *thing);  /* the memory alone */
    const atomic_uint *deadline_ms; /* of who opened it */
    /* Guarded by the crew's lock: */
    uint64_t generation;  /* of the crew when it was opened; else: dead */
    unsigned users;       /* see C1 */
    bool in_order_busy; /* one is in a queue of the crew or running */
    atomic_uint unread; /* in order, and a read must see their effect */
    struct crew_ops_list later; /* in order behind that one */
    bool closed;
    struct crew_waiter *closer; /* who waits for that */
    atomic_int error;     /* of a write that nobody waited for; sticky */
    char error_text[256];
    struct crew_op closing; /* carried out when the last user goes */
};

/* How long somebody waits. */
struct crew_patience {
    const atomic_uint *deadline_ms;
    uint64_t ns;  /* 0: only the deadline counts. Else -EAGAIN after it */
};

uint64_t crew_now_ns(void);

/* ---- roster.c ---- */

/* Found or made; put it back with crew_put. */
int crew_get(const char *path, struct crew **ret);
void crew_ref(struct crew *c);
void crew_put(struct crew *c); /* without any lock */

/* Start a thread that calls work and holds a reference meanwhile. */
int crew_start_thread(struct crew *c, void (*work)(struct crew *c));
/* Wait, not for long, for threads that have nothing left to do. */
void crew_wait_for_threads(void);
/* Let all who wait anywhere look at their deadline again. */
void crew_wake_all_waiters(void);

void crew_cond_init(pthread_cond_t *cond); /* on the monotonic clock */
void crew_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                     uint64_t until_ns);

/* ---- crew.c ---- */

/* Prepare a thing that is about to be opened: users is 1. Takes a reference
 * of c. -ETIMEDOUT if operations have not come back. The other members are set
 * by the caller, before. */
int crew_thing_begin(struct crew *c, struct crew_thing *parent,
                     struct crew_thing *thing);
/* It could not be opened: forget it (thing is freed). */
void crew_thing_discard(struct crew_thing *thing);
/* One user more, and less: for an operation of another crew. */
void crew_thing_hold(struct crew_thing *thing);
void crew_thing_release(struct crew_thing *thing);
/* The handle is closed: waits for what is queued, within the deadline, and for
 * the closing itself, but not for long. */
void crew_thing_close(struct crew_thing *thing);
/* May a read begin? -ETIMEDOUT (dead) or 0. *ret_busy: it has to stand in order
 * behind something. */
int crew_thing_check(struct crew_thing *thing, const char *name,
                     bool *ret_busy);

/* The sticky error was told: it is forgotten. Nothing is queued. */
void crew_thing_forgive(struct crew_thing *thing);

/* Queue an op that nobody waits for; may wait for room. On failure op is the
 * caller's still. name: for the error's text. */
int crew_queue(struct crew *c, struct crew_op *op, const char *name,
               const atomic_uint *deadline_ms);
/* Queue it and wait. *ret_own: op is the caller's again, was carried out or
 * refused; else it is not to be touched any more, nor what it makes. */
int crew_call(struct crew *c, struct crew_op *op, const char *name,
              const struct crew_patience *patience, bool *ret_own);

/* The same in two steps, for who waits for several crews at a time. */
struct crew_pending {
    struct crew *crew;
    struct crew_op *op;
    const char *name; /* borrowed until the end */
    struct crew_patience patience;
    uint64_t began_ns;
    struct crew_waiter waiter; /* so a pending one is not moved */
};
/* On failure op is the caller's still, and there is nothing to end. */
int crew_begin(struct crew *c, struct crew_op *op, const char *name,
               const struct crew_patience *patience,
               struct crew_pending *ret);
int crew_end(struct crew_pending *p, bool *ret_own);

void crew_get_stats(struct crew *c, struct guard_stats *ret);
/* Those of this generation. after_ns: only if something has been running that
 * long. Returns whether that generation is given up. */
bool crew_give_up(struct crew *c, uint64_t generation, uint64_t after_ns);

/* In the child of a fork, for roster.c: no thread is there any more. */
void crew_after_fork(struct crew *c);

#endif
