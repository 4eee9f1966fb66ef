/* root_lock.h: one at a time changes what a root says of its volumes.
 *
 * Servers and programs that have nothing else in common share a root: its
 * registry is loaded, changed and stored as a whole, and the number of a new
 * volume is the next one that is free.
 *
 * (RL1) Who changes a root's registry holds the lock of
 *       ROOT/.volumesmeta.lock from the load to the store. Who makes or renames
 *       a volume holds those of the roots of all its parts, and of the data
 *       directories that can be written, from the choice of name and number on.
 * (RL2) Nobody waits for a second one for more than a moment: he lets go of all
 *       and begins again, so two who name their roots differently don't wait
 *       for each other. And nobody waits for ever (-EBUSY).
 * (RL3) Who lets go removes the file first. A lock is one only if, once it is
 *       had, the name still leads to that file. One that a kill has left is
 *       nobody's, and used again; who removes one whose owner is out of reach
 *       (a host that is gone) has taken its lock away. Should that owner come
 *       back, he leaves alone what the name leads to by then.
 * (RL4) Two paths may lead to one root: it is locked once.
 * (RL5) Where a file system has no locks there are none here; whether a volume
 *       may be there is asked about its parts.
 * (RL6) Clients never wait for one: what holds them up (the moment of a
 *       snapshot) has its locks before. */
#ifndef LSVD_VOLUME_ROOT_LOCK_H
#define LSVD_VOLUME_ROOT_LOCK_H

#include "volume/volume.h"

struct root_lock {
    struct target *root;
    struct object *file; /* NULL: RL5, or RL4 */
    uint64_t mark;       /* a byte of it that is locked, too: nobody else's */
};

struct root_locks { /* all zeroes: none */
    struct root_lock *held;
    size_t count, room;
};

/* Those of the roots of all parts, and of the directories of data (ends with
 * NULL) that are there and can be written. locks: none; so it is after an
 * error, too, which may be that a part's root can't be opened. */
int root_locks_take(struct io *io, const struct volume_meta *meta,
                    char *const *data, struct root_locks *locks);
void root_locks_release(struct root_locks *locks);
/* The same of some that were allocated; NULL is fine. *locks: NULL then. */
void root_locks_free(struct root_locks **locks);

/* Load the registry of the root at path, let change have it, and store it if
 * *ret_changed; change is called again under the lock if it wants something, so
 * it decides by what it is given. held: locks of the caller's, or NULL.
 * -ENOENT: there is no such root. */
typedef int registry_change_fn(void *ctx, struct target *root,
                               struct registry *registry, bool damaged,
                               bool *ret_changed);
int registry_change(struct io *io, const struct logger *log, const char *path,
                    const struct root_locks *held, registry_change_fn *change,
                    void *ctx);

#endif
