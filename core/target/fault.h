/* fault.h: a world that misbehaves to order, for tests.
 *
 * An io that stands before another one, at the very bottom: what the engine
 * sees through it are the errors, delays and lies that rules ask for. Each
 * call on a target or an object of it is judged by the rules in their order:
 * a rule whose path and call match counts it; the first one that hits it is
 * carried out, those behind it don't see that call. No rules: no faults.
 *
 * (F1) Which calls a rule hits, and what is damaged, follows from the rule and
 *      the number of the matching call alone: the same rules and the same calls
 *      give the same faults.
 * (F2) A rule that is set again unchanged goes on counting where it was.
 * (F3) A call that hangs does so until its rule is gone or changed, and is
 *      then carried out, however late. A delay ends early then, too.
 * (F4) fault_free ends every hang and delay: those calls fail with -EIO and do
 *      nothing. What is still open of it stays valid, and is to be closed.
 * Calls on several threads are judged one at a time, and carried out and wait
 * side by side. */
#ifndef LSVD_TARGET_FAULT_H
#define LSVD_TARGET_FAULT_H

#include "base/io.h"
#include <stdint.h>

enum fault_call {
    FAULT_OPEN = 1,
    FAULT_READ = 2,
    FAULT_WRITE = 4,
    FAULT_SYNC = 8,   /* of an object or a directory */
    FAULT_PUNCH = 16,
    FAULT_ALLOCATE = 32,
    FAULT_RESIZE = 64,
    FAULT_LIST = 128,
    FAULT_REMOVE = 256, /* of a file or a directory */
    FAULT_RENAME = 512,
    FAULT_STAT = 1024,  /* also: where data is, and the space that is left */
    FAULT_LOCK = 2048,  /* lock, unlock, and looking for locks */
    FAULT_DIR = 4096,   /* opening or making a directory */
    FAULT_ANY = 8191,
};

/* What becomes of a call that is hit, after its delay. */
enum fault_kind {
    FAULT_NONE,      /* nothing: it was only slow */
    FAULT_ERROR,     /* it fails, and does nothing */
    FAULT_HANG,      /* F3 */
    FAULT_SHORT,     /* read, write: half of it is done, then -EIO */
    FAULT_LIE,       /* sync: 0, without syncing */
    FAULT_FLIP,      /* read, write: one bit is inverted on the way */
    FAULT_DROP,      /* write, punch, allocate, resize, remove, rename: 0, and
                      * nothing is done */
    FAULT_MISDIRECT, /* write: goes elsewhere in the same file */
    FAULT_KINDS,
};

#define FAULT_NAME_BYTES 32
#define FAULT_PATH_BYTES 256
#define FAULT_RULES_MAX 64
#define FAULT_MILLION 1000000u

struct fault_rule {
    char name[FAULT_NAME_BYTES]; /* tells rules apart; in error texts */
    /* Part of the path (directory/object) of what is called; with one of *?[
     * a pattern for the whole path, or for its end from any component on,
     * in which * takes slashes, too. "": every path. */
    char path[FAULT_PATH_BYTES];
    unsigned calls;       /* enum fault_call, or'ed */
    enum fault_kind kind;
    int error;            /* FAULT_ERROR: a negative errno */
    uint64_t after;       /* so many matching calls pass first */
    uint64_t count;       /* then at most so many are hit; 0: no bound */
    uint32_t probability; /* of being hit, in millionths; 0: always */
    uint64_t seed;        /* for probability, and what is flipped */
    uint32_t delay_ms;    /* wait so long first */
};

/* The calls that a kind can happen to. */
unsigned fault_calls_of(enum fault_kind kind);

/* Called before a call is judged, at most every 50 ms, by one thread at a
 * time: may call fault_set_rules. */
typedef void (*fault_refresh)(void *ctx, struct io *io);

/* Wrap inner (borrowed, must outlive all). refresh and release, which frees
 * ctx at the very end, may be NULL. When it fails ctx stays the caller's. */
int fault_new(struct io *inner, fault_refresh refresh,
              void (*release)(void *ctx), void *ctx, struct io **ret);
void fault_free(struct io *io); /* F4; NULL is fine */

/* From now on these rules, and no others, hold. -EINVAL: more than
 * FAULT_RULES_MAX; -ENOMEM. The former ones hold on then. */
int fault_set_rules(struct io *io, const struct fault_rule *rules,
                    size_t count);

/* How many calls the rule of that name has hit; 0 if there is none. */
uint64_t fault_hits(struct io *io, const char *name);

#endif
