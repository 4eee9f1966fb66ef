/* temp-dir.h: a directory of its own for one test, on the real file system. */
#ifndef LSVD_TESTS_TEMP_DIR_H
#define LSVD_TESTS_TEMP_DIR_H

#include "target/target.h"

struct temp_dir {
    char path[256];
    struct target *target;
};

/* Under TMPDIR, or /tmp. Aborts if that can't be had. */
void temp_dir_init(struct temp_dir *d);
/* Close the target and remove the directory with all its files. */
void temp_dir_done(struct temp_dir *d);

/* Change bytes of a file behind everybody's back. */
void temp_dir_poke(const struct temp_dir *d, const char *name, uint64_t at,
                   const void *bytes, size_t count);
void temp_dir_peek(const struct temp_dir *d, const char *name, uint64_t at,
                   void *bytes, size_t count);
/* Invert one bit. */
void temp_dir_flip(const struct temp_dir *d, const char *name, uint64_t at);

#endif
