/* trace.h: what blocks a client asks for, one request after the other: made up,
 * the same on every machine, or read from a file.
 *
 * A trace file is text, a request per line:
 *
 *      FIRST [COUNT] [w]
 *
 * the number of its first block, how many blocks (1), and w for a write; all
 * numbers decimal. Empty lines, and lines that begin with #, are skipped. */
#ifndef LSVD_TESTS_TRACE_H
#define LSVD_TESTS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request {
    uint64_t first;
    uint32_t count;
    bool is_write;
};

struct trace {
    const char *name; /* what it is, for people; of static memory */
    uint64_t blocks;  /* that a cache's size is given in parts of */
    size_t count;
    struct request *request; /* owned */
};

enum trace_kind {
    TRACE_ZIPF_08,
    TRACE_ZIPF_099,
    TRACE_ZIPF_12,
    TRACE_UNIFORM,
    TRACE_LOOP,
    TRACE_LOOP_LONG,
    TRACE_SCAN,
    TRACE_SCAN_LONG,
    TRACE_LONG,
    TRACE_SHIFT,
    TRACE_READ_WRITE,
    TRACE_DATABASE,
    TRACE_KINDS,
};

/* A trace over `blocks` blocks, a power of two from 2^12 on. About
 * `block_count` blocks are asked for. Ends the program without memory. */
void trace_make(struct trace *t, enum trace_kind kind, uint64_t blocks,
                size_t block_count);

/* Read a file. Its `blocks` are as many as are asked for at least once.
 * On failure a line on stderr, and false. */
bool trace_load(struct trace *t, const char *path);

void trace_free(struct trace *t);

#endif
