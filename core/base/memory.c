/* memory.c: allocation, and the switch that makes it fail in tests. The
 * countdown is the one piece of process-wide state in core: allocation has no
 * context to carry it. */
#include "base/memory.h"

#include "base/err.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEM_ALIGN_BYTES 4096u
#define ROOM_MIN 16u /* of an array that grows */
/* Of most machines; elsewhere it does no harm. */
#define LARGE_PAGE_BYTES ((uintptr_t)2 << 20)

static atomic_long fail_countdown = -1; /* negative: never */
static atomic_bool fail_fired;

static bool
must_fail(void)
{
    long left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);

    if (left < 0)
        return false;
    atomic_store_explicit(&fail_countdown, left - 1, memory_order_relaxed);
    if (left > 0)
        return false;
    atomic_store(&fail_fired, true);
    return true;
}

static int
no_memory(size_t count, size_t bytes)
{
    return err_set(-ENOMEM, "out of memory (%zu x %zu bytes)", count, bytes);
}

int
mem_new(size_t count, size_t bytes, void *ret_pointer)
{
    void *p = NULL;
    size_t product;

    if (count == 0 || bytes == 0) /* NULL must mean failure */
        count = bytes = 1;
    /* calloc would check it, too, but sanitizers take that for a bug. */
    if (__builtin_mul_overflow(count, bytes, &product))
        return no_memory(count, bytes);
    if (!must_fail())
        p = calloc(count, bytes);
    if (p == NULL)
        return no_memory(count, bytes);
    memcpy(ret_pointer, &p, sizeof p);
    return 0;
}

int
mem_grow(size_t need, size_t bytes, size_t *room, void *array)
{
    size_t more = 2 * *room + ROOM_MIN;
    void *old, *grown = NULL;
    int r;

    if (need <= *room)
        return 0;
    if (more < need)
        more = need;
    r = mem_new(more, bytes, &grown);
    if (r < 0)
        return r;
    memcpy(&old, array, sizeof old);
    if (*room > 0)
        memcpy(grown, old, *room * bytes);
    free(old);
    memcpy(array, &grown, sizeof grown);
    *room = more;
    return 0;
}

int
mem_new_aligned(size_t bytes, void *ret_pointer)
{
    void *p = NULL;

    if (must_fail() || posix_memalign(&p, MEM_ALIGN_BYTES, bytes) != 0)
        return no_memory(1, bytes);
    memcpy(ret_pointer, &p, sizeof p);
    return 0;
}

int
mem_new_lasting(size_t bytes, void *ret_pointer)
{
    uintptr_t begin, end;
    uint8_t *p = NULL;
    int r;

    r = mem_new_aligned(bytes, &p);
    if (r < 0)
        return r;
    begin = ((uintptr_t)p + LARGE_PAGE_BYTES - 1) & ~(LARGE_PAGE_BYTES - 1);
    end = ((uintptr_t)p + bytes) & ~(LARGE_PAGE_BYTES - 1);
    if (begin < end)
        (void)madvise(p + (begin - (uintptr_t)p), end - begin, MADV_HUGEPAGE);
    memcpy(ret_pointer, &p, sizeof p);
    return 0;
}

int
mem_dup(const char *text, char **ret)
{
    size_t bytes = strlen(text) + 1;
    char *copy = NULL;
    int r;

    r = mem_new(bytes, 1, &copy);
    if (r < 0)
        return r;
    memcpy(copy, text, bytes);
    *ret = copy;
    return 0;
}

int
mem_fail_after(long nth)
{
    bool fired = atomic_exchange(&fail_fired, false);

    atomic_store(&fail_countdown, nth < 0 ? -1 : nth);
    return fired;
}
