/* recycle.h: large pieces of memory that come and go with every operation. To
 * take them fresh from the system each time costs more (its pages are zeroed
 * one by one) than what they are used for, so a few are kept. Private to
 * guard.c. */
#ifndef LSVD_TARGET_RECYCLE_H
#define LSVD_TARGET_RECYCLE_H

#include <stddef.h>

#define RECYCLE_KEPT_BYTES_MAX (16u << 20) /* by the process */

/* At least this many bytes, not initialised; 0 or -ENOMEM. Given back with
 * recycle_put and the same number of bytes. */
int recycle_get(size_t bytes, void *ret_pointer);
void recycle_put(void *p, size_t bytes);

/* Give what is kept back to the system. */
void recycle_empty(void);

#endif
