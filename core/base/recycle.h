/* recycle.h: large pieces of memory that come and go with every operation. To
 * take them fresh from the system each time costs more (its pages are zeroed
 * one by one) than what they are used for, so a few are kept. Any thread. */
#ifndef LSVD_BASE_RECYCLE_H
#define LSVD_BASE_RECYCLE_H

#include <stddef.h>

/* By the process: a batch of destage, and what is on its way to disks. */
#define RECYCLE_KEPT_BYTES_MAX (48u << 20)
#define RECYCLE_BYTES_MIN 16384u /* below that malloc is as quick */

/* At least this many bytes, aligned to 4096, not initialised; 0 or -ENOMEM.
 * Given back with recycle_put and the same number of bytes. */
int recycle_get(size_t bytes, void *ret_pointer);
void recycle_put(void *p, size_t bytes);

/* Give what is kept back to the system. */
void recycle_empty(void);

#endif
