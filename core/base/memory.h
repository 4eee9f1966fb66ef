/* memory.h: every allocation of core goes through here, so that a test can
 * make the n-th one fail. All return 0 or -ENOMEM with the text set. */
#ifndef LSVD_BASE_MEMORY_H
#define LSVD_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory of count * bytes; free with free(). */
int mem_new(size_t count, size_t bytes, void *ret_pointer);

/* Room in an array of *room items of so many bytes each (*array, a pointer to
 * any type, may be NULL) for `need` of them: it stays as it is, or is made anew
 * with its items and zeroes behind them, about twice as large. */
int mem_grow(size_t need, size_t bytes, size_t *room, void *array);

/* Uninitialised memory aligned to 4096; free with free(). bytes > 0. */
int mem_new_aligned(size_t bytes, void *ret_pointer);

/* The same, of many that stay: in large pages where the system has them, as far
 * as those are whole within it. */
int mem_new_lasting(size_t bytes, void *ret_pointer);

/* A copy of text; free with free(). */
int mem_dup(const char *text, char **ret);

/* Tests: the allocation after `nth` more successful ones fails, once.
 * Negative: never. Returns whether an armed failure has fired since the last
 * call. Not for use with several threads. */
int mem_fail_after(long nth);

#endif
