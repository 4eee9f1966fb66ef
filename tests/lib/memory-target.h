/* memory-target.h: a target in memory, for fuzzers and for tests that make the
 * n-th call fail. Flat objects (not for sparse giants), no cuts, no locks, one
 * thread. Sync does nothing but count. */
#ifndef LSVD_TESTS_MEMORY_TARGET_H
#define LSVD_TESTS_MEMORY_TARGET_H

#include "target/target.h"

#define MEMORY_FILES_MAX 8
#define MEMORY_FILE_BYTES_MAX (64u << 20)

struct memory_file {
    char name[64]; /* "" if unused */
    uint8_t *bytes;
    size_t size;
};

struct memory_target {
    struct target base;
    struct memory_file file[MEMORY_FILES_MAX];
    unsigned reads, writes, syncs;
    long fail_after; /* calls that still succeed; negative: all do */
    int fail_code;   /* what the one after them returns, once */
    bool fired;
    /* Reads that touch [bad_begin, bad_end) of any file are -EIO. */
    uint64_t bad_begin, bad_end;
};

void memory_target_init(struct memory_target *t);
void memory_target_done(struct memory_target *t);

/* The file, made if it is missing, with this size. */
struct memory_file *memory_target_file(struct memory_target *t,
                                       const char *name, size_t size);
/* NULL if there is none. */
struct memory_file *memory_target_find(struct memory_target *t,
                                       const char *name);

#endif
