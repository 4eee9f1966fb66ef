/* err.h: how errors travel.
 *
 * Every function that can fail returns 0 (or a count) or a negative errno
 * value. The function that finds the error also leaves one line of text for
 * the calling thread; callers add what they know ("volume x: part b: ...") on
 * the way up, and the program at the edge prints the line once. Nothing in
 * core prints. Values that mean the same everywhere in core:
 *   -ENOENT   the named thing does not exist
 *   -EBADMSG  bytes read do not pass their check (damage)
 *   -EPROTO   a format or feature of the future, or an object of a kind that
 *             we never make (a symlink where a chunk file should be)
 *   -EBUSY    somebody else holds the lock
 *   -EROFS    the volume, or this way of opening it, is read-only
 *   -EINVAL   bad argument from the user
 */
#ifndef LSVD_BASE_ERR_H
#define LSVD_BASE_ERR_H

#include <errno.h>

/* Replace this thread's error text and return code (a negative errno).
 * Usage: return err_set(-EINVAL, "size %s: not a number", text); */
int err_set(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Put "prefix: " before this thread's error text and return code. */
int err_wrap(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The text of the last error of this thread; never NULL. Valid until the next
 * err_ call of this thread. */
const char *err_text(void);

#endif
