/* root_lock.h: one at a time changes what a root says of its volumes.
 *
 * Servers and programs that have nothing else in common share a root: its
 * registry is loaded, changed and stored as a whole, and the number of a new
 * volume is the next one that is free.
 *
 * (RL1) Who changes a root's registry, or chooses a number or a name by it,
 *       holds the lock of ROOT/.volumesmeta.lock from the load to the store;
 *       for a new volume, of the roots of all its parts.
 * (RL2) Several are taken in the order of their paths, so nobody waits for one
 *       who waits for him; and nobody waits for ever (-EBUSY).
 * (RL3) Who lets go removes the file first. A lock is one only if, once it is
 *       had, the name still leads to that file. One that a kill has left is
 *       nobody's, and used again.
 * (RL4) Two paths may lead to one root: it is locked once.
 * (RL5) Where a file system has no locks there are none here; whether a volume
 *       may be there is asked about its parts. */
#ifndef LSVD_VOLUME_ROOT_LOCK_H
#define LSVD_VOLUME_ROOT_LOCK_H

#include "volume/volume.h"

struct root_lock {
    struct target *root;
    struct object *file; /* NULL: RL5, or RL4 */
    uint64_t mark;       /* a byte of it that is locked, too: nobody else's */
};

struct root_locks { /* all zeroes: none */
    struct root_lock held[PARTS_MAX];
    size_t count;
};

/* Those of the roots of all parts. locks: none; so it is after an error, too,
 * which may be that a root can't be opened. */
int root_locks_take(struct io *io, const struct volume_meta *meta,
                    struct root_locks *locks);
void root_locks_release(struct root_locks *locks);

/* Load the registry of the root at path, let change have it, and store it if
 * *ret_changed; change is called again under the lock if it wants something, so
 * it decides by what it is given. held: locks of the caller's, or NULL. */
typedef int registry_change_fn(void *ctx, struct target *root,
                               struct registry *registry, bool damaged,
                               bool *ret_changed);
int registry_change(struct io *io, const struct logger *log, const char *path,
                    const struct root_locks *held, registry_change_fn *change,
                    void *ctx);

#endif
