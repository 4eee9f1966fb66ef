/* direct.h: large writes past the page cache. What is written that way costs no
 * second copy and no page of memory, and nothing dirty is left that the kernel
 * could write to a disk later, when its part has been let go (faults.md 3).
 * Private to dir.c. */
#ifndef LSVD_TARGET_DIRECT_H
#define LSVD_TARGET_DIRECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Below that the cache is quicker: it gathers small writes. */
#define DIRECT_BYTES_MIN (64u << 10)

/* Place, memory and length of all pieces are multiples of 4096, which is what
 * any disk can take, and it is much. */
bool direct_suits(const struct iovec *iov, int count, uint64_t at);

/* As pwritev on the file that fd has open. -1 with errno 0: this file can't be
 * written in this way, try the other. */
ssize_t direct_pwritev(int fd, const struct iovec *iov, int count,
                       uint64_t at);

#endif
