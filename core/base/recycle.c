/* recycle.c: see recycle.h. Pieces come in sizes a quarter of a power of two
 * apart; those of one size are in a list, linked through their first bytes.
 *
 * Nobody waits for the lock: who does not get it does without. So it can't be
 * the reason for anything to hang, not even in the child of a fork that found
 * it taken. */
#include "base/recycle.h"

#include "base/memory.h"
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIZES 30u /* 32 KiB to 5 MiB */

static struct {
    pthread_mutex_t lock; /* guards what follows */
    size_t kept_bytes;
    void *first[SIZES];
} kept = { .lock = PTHREAD_MUTEX_INITIALIZER };

static size_t
size_bytes(unsigned size)
{
    return (size_t)(4 + size % 4) << (13 + size / 4);
}

/* The smallest that will do; SIZES: ordinary memory. */
static unsigned
size_for(size_t bytes)
{
    unsigned size = 0;

    if (bytes < RECYCLE_BYTES_MIN)
        return SIZES;
    while (size < SIZES && size_bytes(size) < bytes)
        size++;
    return size;
}

static void *
take(unsigned size)
{
    void *p;

    if (pthread_mutex_trylock(&kept.lock) != 0)
        return NULL;
    p = kept.first[size];
    if (p != NULL) {
        memcpy(&kept.first[size], p, sizeof p);
        kept.kept_bytes -= size_bytes(size);
    }
    (void)pthread_mutex_unlock(&kept.lock);
    return p;
}

int
recycle_get(size_t bytes, void *ret_pointer)
{
    unsigned size = size_for(bytes);
    void *p;

    if (size == SIZES)
        return mem_new_aligned(bytes, ret_pointer);
    p = take(size);
    if (p == NULL)
        return mem_new_aligned(size_bytes(size), ret_pointer);
    memcpy(ret_pointer, &p, sizeof p);
    return 0;
}

void
recycle_put(void *p, size_t bytes)
{
    unsigned size = size_for(bytes);

    if (size < SIZES && pthread_mutex_trylock(&kept.lock) == 0) {
        if (kept.kept_bytes + size_bytes(size) <= RECYCLE_KEPT_BYTES_MAX) {
            memcpy(p, &kept.first[size], sizeof p);
            kept.first[size] = p;
            kept.kept_bytes += size_bytes(size);
            p = NULL;
        }
        (void)pthread_mutex_unlock(&kept.lock);
    }
    free(p);
}

void
recycle_empty(void)
{
    for (unsigned size = 0; size < SIZES; size++) {
        void *p;

        while ((p = take(size)) != NULL)
            free(p);
    }
}
