/* cleanup.h: what a function owns is given back on every way out. */
#ifndef LSVD_BASE_CLEANUP_H
#define LSVD_BASE_CLEANUP_H

#include <stdlib.h>

static inline void
cleanup_free(void *p)
{
    free(*(void **)p);
}

#define AUTO_FREE __attribute__((cleanup(cleanup_free)))

#endif
