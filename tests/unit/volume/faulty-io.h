/* faulty-io.h: the real world, in which a part can refuse: everything whose
 * directory's path ends in /<number>/<letter of a broken part>, or a directory
 * of the journal. */
#ifndef LSVD_TESTS_UNIT_VOLUME_FAULTY_IO_H
#define LSVD_TESTS_UNIT_VOLUME_FAULTY_IO_H

#include "base/io.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
    REFUSE_WRITES = 1, /* and syncs, names, sizes */
    REFUSE_READS = 2,
    REFUSE_SYNCS = 4,
    REFUSE_SPACE = 8, /* with WRITES: for want of space */
    REFUSE_LOCKS = 16,
    REFUSE_OPENS = 32, /* for writing: a file system that became read-only */
    REFUSE_RECORDS = 64, /* writes to .lock, as when its lock is lost */
    REFUSE_BYTES = 128, /* of READS: those of bytes alone, not opens */
};

struct faulty_io {
    struct io io;
    atomic_uint refuse[26]; /* by part */
    atomic_uint refuse_cache[2]; /* directories "cache" and "cache2" */
    const char *only; /* an object's name: of parts nothing else refuses */
    atomic_uint refused;    /* calls */
    void (*on_open)(void *ctx, const char *name); /* NULL: nobody is told */
    void *on_open_ctx;
    atomic_uint_fast64_t ahead_ns; /* of the real clock is ours */
    bool stopped;                  /* the real one: it counts for nothing */
    atomic_uint_fast64_t sync_ns;  /* that a sync takes, by our clock */
    atomic_uint_fast64_t read_ns;  /* the same for reads of chunk files */
    atomic_uint syncs_begun;       /* before they were asked for */
    atomic_uint together; /* so many writes to chunk files must be under way at
                           * once before any goes on, or one gives up waiting:
                           * 0 from then on */
    atomic_uint together_reads; /* the same for reads of them */
    atomic_uint reads;          /* of chunk files, so far */
    atomic_uint no_memory_at;   /* for this one of them; 0: for all … */
    atomic_uint no_memory_more; /* … and so many after it */
    atomic_bool apart;    /* one gave up */
    pthread_mutex_t lock;
    pthread_cond_t came;
    unsigned under_way;   /* guarded by lock */
};

void faulty_io_init(struct faulty_io *f);

#endif
