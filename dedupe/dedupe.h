/* dedupe.h: a parsed command line of lsvd-dedupe. */
#ifndef LSVD_DEDUPE_DEDUPE_H
#define LSVD_DEDUPE_DEDUPE_H

#include "cli.h"
#include <progress.h>

#define SOURCES_MAX 64
#define MEMORY_MIN (UINT64_C(1) << 20)

struct request {
    struct cli cli;
    struct lsvd_dedupe spec;
    const char *source[SOURCES_MAX + 1]; /* NULL behind the last */
    size_t source_count;
    bool rehydrate, no_progress;
    struct progress progress;
};

/* help.c */
void help_print(void);

#endif
