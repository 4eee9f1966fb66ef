/* direct.c: see direct.h. The file is opened once more for each write: that
 * costs less than a hundredth of it, and no descriptor has to be kept for the
 * thousands of files that a volume has open. */
#include "target/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define ALIGNMENT 4096u

bool
direct_suits(const struct iovec *iov, int count, uint64_t at)
{
    uintptr_t odd = (uintptr_t)at;
    size_t bytes = 0;

    for (int i = 0; i < count; i++) {
        odd |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
        bytes += iov[i].iov_len;
    }
    return odd % ALIGNMENT == 0 && bytes >= DIRECT_BYTES_MIN;
}

/* The same file, whatever its name is by now. */
static int
open_again(int fd)
{
    char path[32];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOCTTY);
}

ssize_t
direct_pwritev(int fd, const struct iovec *iov, int count, uint64_t at)
{
    int direct = open_again(fd), error;
    ssize_t put;

    if (direct < 0) {
        errno = 0;
        return -1;
    }
    put = pwritev(direct, iov, count, (off_t)at);
    error = errno;
    (void)close(direct);
    errno = error == EINVAL || error == EOPNOTSUPP ? 0 : error;
    return put;
}
