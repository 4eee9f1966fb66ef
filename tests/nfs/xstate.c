/* xstate.c: lets User-Mode Linux 6.1 run on a processor whose register state
 * is larger than its buffer (those with AMX). To be preloaded.
 *
 * UML saves and restores the registers of its processes by ptrace, with a
 * buffer of its own size. The kernel takes a short buffer when it is asked for
 * the state, and refuses it when the state is set. Here setting means: fetch
 * all of it, put the beginning over it, set all of it. What lies behind (AMX
 * tiles) is as the process had it last, and no program of a guest uses it. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define STATE_BYTES_MAX 65536
#define FEATURES_AT 512      /* XSTATE_BV: which components are valid */
#define FEATURE_TILES 0x60000ull /* bits 17 and 18 */

/* libc's ptrace, on the same system call. */
static long
call(int request, long pid, void *address, void *data)
{
    long word = 0;
    long r;

    if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA &&
        request != PTRACE_PEEKUSER)
        return syscall(SYS_ptrace, (long)request, pid, address, data);
    r = syscall(SYS_ptrace, (long)request, pid, address, &word);
    if (r < 0)
        return -1;
    errno = 0;
    return word;
}

static long
set_state(long pid, void *address, const struct iovec *given)
{
    /* UML's kernel has one thread. */
    static unsigned char all[STATE_BYTES_MAX]
        __attribute__((aligned(64)));
    struct iovec whole = { .iov_base = all, .iov_len = sizeof all };
    unsigned long long features;
    size_t bytes = given->iov_len;

    if (call(PTRACE_GETREGSET, pid, address, &whole) < 0)
        return -1;
    if (bytes > whole.iov_len)
        bytes = whole.iov_len;
    memcpy(all, given->iov_base, bytes);
    memcpy(&features, all + FEATURES_AT, sizeof features);
    features &= ~FEATURE_TILES;
    memcpy(all + FEATURES_AT, &features, sizeof features);
    return call(PTRACE_SETREGSET, pid, address, &whole);
}

long
ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    void *address, *data;
    long pid;

    va_start(arguments, request);
    pid = va_arg(arguments, int);
    address = va_arg(arguments, void *);
    data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
        return set_state(pid, address, data);
    return call((int)request, pid, address, data);
}
