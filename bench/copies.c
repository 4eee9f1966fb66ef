/* copies.c: preloaded into a server, this counts what it copies by memcpy and
 * memmove, in pieces of at least PIECE bytes, for bench/counts.py: two numbers,
 * calls and bytes, in the file that LSVD_COPIES names, which is there and has
 * room for them. What the kernel copies is not seen, nor what a compiler does
 * in place, as it may when it knows the size. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE 512u /* the smallest block: no header of ours is that long */
#define PUBLIC __attribute__((visibility("default")))

typedef void *copy_fn(void *to, const void *from, size_t count);

struct seen {
    atomic_uint_fast64_t calls, bytes;
};

static struct seen nobody, *seen = &nobody;
static copy_fn *real_memcpy, *real_memmove;

/* What a fortified program calls; bounds are its own matter. */
PUBLIC void *__memcpy_chk(void *to, const void *from, size_t count,
                          size_t room);
PUBLIC void *__memmove_chk(void *to, const void *from, size_t count,
                           size_t room);

__attribute__((constructor)) static void
begin(void)
{
    const char *path = getenv("LSVD_COPIES");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = MAP_FAILED;

    real_memcpy = (copy_fn *)dlsym(RTLD_NEXT, "memcpy");
    real_memmove = (copy_fn *)dlsym(RTLD_NEXT, "memmove");
    if (fd >= 0) {
        shared = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED,
                      fd, 0);
        close(fd);
    }
    if (shared != MAP_FAILED)
        seen = shared;
}

/* Before begin, for the loader and what it starts. */
static void *
by_bytes(uint8_t *to, const uint8_t *from, size_t count)
{
    if (to <= from) {
        for (size_t i = 0; i < count; i++)
            to[i] = from[i];
    } else {
        while (count-- > 0)
            to[count] = from[count];
    }
    return to;
}

static void *
copy(copy_fn *real, void *to, const void *from, size_t count)
{
    if (!real)
        return by_bytes(to, from, count);
    if (count >= PIECE) {
        atomic_fetch_add_explicit(&seen->calls, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&seen->bytes, count, memory_order_relaxed);
    }
    return real(to, from, count);
}

PUBLIC void *
memcpy(void *to, const void *from, size_t count)
{
    return copy(real_memcpy, to, from, count);
}

PUBLIC void *
memmove(void *to, const void *from, size_t count)
{
    return copy(real_memmove, to, from, count);
}

void *
__memcpy_chk(void *to, const void *from, size_t count, size_t room)
{
    (void)room;
    return copy(real_memcpy, to, from, count);
}

void *
__memmove_chk(void *to, const void *from, size_t count, size_t room)
{
    (void)room;
    return copy(real_memmove, to, from, count);
}
