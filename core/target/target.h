/* target.h: where bytes live. A target is a flat set of named objects with
 * byte ranges; an object is open while its struct object exists.
 *
 * Two implementations: dir.c (a directory, real system calls, the only file
 * of core that makes them) and the simulator's (tests/sim). What a caller may
 * rely on:
 * (T1) Bytes written and not yet synced may survive a power cut in any subset
 *      and order, torn at 512 bytes; they do survive the death of the process.
 * (T2) object_sync returned 0: all earlier writes, punches and the size of
 *      that object survive. A failed sync says nothing about any of them, and
 *      a later successful one says nothing about the earlier writes.
 * (T3) A name made, removed or replaced survives a power cut only after
 *      target_sync of its directory returned 0.
 * (T4) target_rename replaces atomically: a cut leaves the old or the new.
 * (T5) Only regular files with one link are opened; never through a symlink,
 *      never out of the directory, never blocking on a FIFO: -EPROTO for
 *      anything else, with the text naming the file and what it is.
 * All calls may block, and may be made from any thread. All return 0 (or as
 * described) or a negative errno with the text set and naming the file. */
#ifndef LSVD_TARGET_TARGET_H
#define LSVD_TARGET_TARGET_H

#include "base/io.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct object;

enum {
    OBJECT_WRITE = 1,  /* else read only */
    OBJECT_CREATE = 2, /* make it if it is missing (mode 0600) */
    OBJECT_EXCL = 4,   /* with CREATE: -EEXIST if it is there */
    OBJECT_EAGER = 8,  /* what is written in large pieces is synced soon: the
                        * medium is to begin with it at once */
};

struct object_stat {
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* really occupied on the medium */
    uint64_t device, node;    /* alike: the same object, by whatever path */
};

struct target_space {
    uint64_t free_bytes;  /* available to us */
    uint64_t total_bytes;
    uint64_t device;      /* equal for targets that share their space */
};

/* Bytes for a place in an object. */
struct object_piece {
    uint64_t at;
    struct iovec iov;
};

/* What an object of that name would be. */
struct target_named {
    int error; /* 0; -ENOENT; or another why it can't be told or opened */
    uint64_t size_bytes;
};

struct target_ops {
    int (*open)(struct target *t, const char *name, unsigned flags,
                struct object **ret);
    /* open, and stat of what was opened, where both together cost less. NULL:
     * one after the other. */
    int (*open_stat)(struct target *t, const char *name, unsigned flags,
                     struct object_stat *ret_stat, struct object **ret);
    int (*remove)(struct target *t, const char *name); /* -ENOENT if none */
    int (*rename)(struct target *t, const char *from, const char *to);
    /* Every name but . and .. once, in any order; stops when cb returns
     * non-zero and returns that. */
    int (*list)(struct target *t, int (*cb)(void *ctx, const char *name),
                void *ctx);
    /* Many names at once, by the directory alone: no object is opened, so a
     * mode that forbids it is not noticed. ret: count of them. 0, or -errno if
     * that could not be asked at all. NULL: each is opened. */
    int (*stat_names)(struct target *t, const char *const *names, size_t count,
                      struct target_named *ret);
    int (*sync)(struct target *t); /* T3 */
    int (*space)(struct target *t, struct target_space *ret);
    /* A directory below this one. flags: DIR_CREATE. */
    int (*subdir)(struct target *t, const char *name, unsigned flags,
                  struct target **ret);
    int (*remove_dir)(struct target *t, const char *name); /* empty ones */
    void (*close)(struct target *t); /* no object of it is open */

    /* Whole vectors or an error: a short read is -EIO. */
    int (*readv)(struct object *o, const struct iovec *iov, int count,
                 uint64_t at);
    /* As readv, if that does not have to wait for the medium; else -EAGAIN
     * without a text, and iov may hold anything. May be NULL. */
    int (*try_readv)(struct object *o, const struct iovec *iov, int count,
                     uint64_t at);
    int (*writev)(struct object *o, const struct iovec *iov, int count,
                  uint64_t at);
    /* As writev for each of them, in order, until one fails; those that go on
     * where the one before ends are one. NULL: just so. */
    int (*write_pieces)(struct object *o, const struct object_piece *piece,
                        int count);
    /* The range reads as zeroes and gives its space back; size unchanged. */
    int (*punch)(struct object *o, uint64_t at, uint64_t bytes);
    /* Reserve the range's space: the size grows to cover it, bytes that were
     * there stay, others read as zeroes. May write zeroes into holes, so not
     * beside another writer of the range. */
    int (*allocate)(struct object *o, uint64_t at, uint64_t bytes);
    int (*resize)(struct object *o, uint64_t bytes);
    int (*object_sync)(struct object *o); /* T2 */
    /* Let the medium begin with what was written: object_sync will be called
     * soon, and then finds less to do. Promises nothing, does not wait. May be
     * NULL. */
    void (*start_sync)(struct object *o);
    int (*stat)(struct object *o, struct object_stat *ret);
    /* The first run of bytes at or after `at` that may be non-zero.
     * -ENXIO if there is none. */
    int (*next_data)(struct object *o, uint64_t at, uint64_t *ret_begin,
                     uint64_t *ret_end);
    /* Forget cached clean bytes, so that the next read asks the medium. */
    void (*drop_cache)(struct object *o);
    /* Open-file-description lock on a range; bytes 0: to the end of time.
     * Never waits: -EBUSY. Survives fork, dies with the last descriptor. */
    int (*lock)(struct object *o, uint64_t at, uint64_t bytes, bool exclusive);
    int (*unlock)(struct object *o, uint64_t at, uint64_t bytes);
    /* 1 if somebody else holds a lock that excludes reading, else 0. */
    int (*is_locked)(struct object *o, uint64_t at, uint64_t bytes);
    void (*object_close)(struct object *o); /* NULL is not allowed */
};

struct target {
    const struct target_ops *ops;
    char *path; /* for messages; owned by the implementation */
};

struct object {
    const struct target_ops *ops;
    struct target *target;
};

/* Thin callers; see the members of the table. */
int target_open(struct target *t, const char *name, unsigned flags,
                struct object **ret);
int target_open_stat(struct target *t, const char *name, unsigned flags,
                     struct object_stat *ret_stat, struct object **ret);
int target_remove(struct target *t, const char *name);
int target_rename(struct target *t, const char *from, const char *to);
int target_list(struct target *t, int (*cb)(void *ctx, const char *name),
                void *ctx);
int target_stat_names(struct target *t, const char *const *names, size_t count,
                      struct target_named *ret);
/* One name, by opening it: an error has its text. */
int target_stat_name(struct target *t, const char *name, uint64_t *ret_bytes);
int target_sync(struct target *t);
int target_space(struct target *t, struct target_space *ret);
int target_subdir(struct target *t, const char *name, unsigned flags,
                  struct target **ret);
int target_remove_dir(struct target *t, const char *name);
void target_close(struct target *t); /* NULL is fine */

int object_readv(struct object *o, const struct iovec *iov, int count,
                 uint64_t at);
int object_writev(struct object *o, const struct iovec *iov, int count,
                  uint64_t at);
int object_read(struct object *o, void *buffer, size_t bytes, uint64_t at);
int object_write(struct object *o, const void *buffer, size_t bytes,
                 uint64_t at);
int object_write_pieces(struct object *o, const struct object_piece *piece,
                        int count);
int object_punch(struct object *o, uint64_t at, uint64_t bytes);
int object_allocate(struct object *o, uint64_t at, uint64_t bytes);
int object_resize(struct object *o, uint64_t bytes);
int object_sync(struct object *o);
void object_start_sync(struct object *o);
int object_stat(struct object *o, struct object_stat *ret);
int object_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
                     uint64_t *ret_end);
void object_drop_cache(struct object *o);
int object_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive);
int object_unlock(struct object *o, uint64_t at, uint64_t bytes);
int object_is_locked(struct object *o, uint64_t at, uint64_t bytes);
void object_close(struct object *o); /* NULL is fine */

/* Clean bytes of it that are cached are forgotten: what a process before this
 * one could not sync is there, and nowhere else. Who opens it finds out what is
 * wrong with it. */
void target_read_anew(struct target *t, const char *name);

/* Read a whole small object. At most max_bytes, else -EBADMSG. *ret is
 * NUL-terminated for convenience (not counted) and freed by the caller. */
int target_load(struct target *t, const char *name, size_t max_bytes,
                uint8_t **ret, size_t *ret_bytes);

/* Replace a small object atomically and durably: write NAME.new, sync it,
 * rename, sync the directory. */
int target_store(struct target *t, const char *name, const void *bytes,
                 size_t count);

#endif
