/* shared.h: a piece of memory with several holders, freed with the last: bytes
 * on their way to several disks, one of which may never answer. Any thread. */
#ifndef LSVD_BASE_SHARED_H
#define LSVD_BASE_SHARED_H

#include <stddef.h>
#include <stdint.h>

struct shared;

/* So many bytes, aligned to 4096, not initialised, held once. -ENOMEM. */
int shared_new(size_t bytes, struct shared **ret);
uint8_t *shared_bytes(const struct shared *s);
/* One holder more, and less (NULL is fine). */
struct shared *shared_hold(struct shared *s);
void shared_put(struct shared *s);

#endif
