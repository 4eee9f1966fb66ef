/* io.h: the seam. All that core knows of the world outside its process comes
 * through a struct io: directories (as targets), the clocks, random bytes.
 * io_system() is the real one; the simulator supplies another. */
#ifndef LSVD_BASE_IO_H
#define LSVD_BASE_IO_H

#include <stddef.h>
#include <stdint.h>

struct io;
struct target;

enum {
    DIR_CREATE = 1, /* make the last component if it is missing (mode 0700
                     * less umask) and make its name durable */
};

struct io_ops {
    /* Open the directory at path as a target (see target/target.h).
     * -ENOENT, -ENOTDIR, -EACCES, -EIO. *ret is closed with
     * target_close. */
    int (*open_dir)(struct io *io, const char *path, unsigned flags,
                    struct target **ret);
    /* Monotonic nanoseconds; for deadlines, never for correctness. */
    uint64_t (*now_ns)(struct io *io);
    /* Seconds since 1970; for messages only. */
    uint64_t (*wall_seconds)(struct io *io);
    /* Fill with random bytes that nobody else gets. */
    int (*random)(struct io *io, void *buffer, size_t bytes);
};

struct io {
    const struct io_ops *ops;
};

/* The real world; never fails, nothing to free. */
struct io *io_system(void);

#endif
