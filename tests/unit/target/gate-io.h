/* gate-io.h: directories in memory whose calls stand still until the test lets
 * them go on. Any path can be opened; all of them show the same files. */
#ifndef LSVD_TESTS_UNIT_TARGET_GATE_IO_H
#define LSVD_TESTS_UNIT_TARGET_GATE_IO_H

#include "target/target.h"
#include <pthread.h>

#define GATE_FILES 16
#define GATE_FILE_BYTES 65536u
#define GATE_LOG 4096

enum gate_call {
    GATE_OPEN_DIR, GATE_OPEN, GATE_NAMES, GATE_LIST, GATE_DIR_SYNC,
    GATE_READ, GATE_WRITE, GATE_SYNC, GATE_STAT, GATE_LOCK, GATE_CLOSE,
    GATE_DIR_CLOSE, GATE_CALLS,
};

struct gate_file {
    char name[32];
    uint8_t bytes[GATE_FILE_BYTES];
    uint64_t size;
    bool locked;
};

struct gate {
    struct io io; /* first */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned shut;      /* bits of gate_call: these stand still … */
    const char *only;   /* … for this file, or NULL: for all */
    unsigned inside;    /* how many stand still */
    unsigned inside_max;
    unsigned calls[GATE_CALLS];
    int fail[GATE_CALLS]; /* what they return; 0: they succeed */
    unsigned open_objects, open_targets;
    bool try_works;     /* try_readv has the bytes */
    uint64_t log[GATE_LOG]; /* where each write was */
    unsigned logged, pieces;
    struct gate_file file[GATE_FILES];
};

void gate_init(struct gate *g);
void gate_done(struct gate *g);

/* These calls stand still from now on, and no others. */
void gate_shut(struct gate *g, unsigned calls, const char *only);
/* All go on. */
void gate_open(struct gate *g);
/* Until exactly n stand still. */
void gate_wait_inside(struct gate *g, unsigned n);
/* Until no object and target is open. */
void gate_wait_closed(struct gate *g);
void gate_fail(struct gate *g, enum gate_call call, int error);
unsigned gate_count(struct gate *g, enum gate_call call);

#endif
