/* shared.c: see shared.h. */
#include "base/shared.h"

#include "base/memory.h"
#include "base/recycle.h"
#include <stdatomic.h>
#include <stdlib.h>

struct shared {
    atomic_uint holders;
    size_t size;
    uint8_t *bytes;
};

int
shared_new(size_t bytes, struct shared **ret)
{
    struct shared *s;
    int r = mem_new(1, sizeof *s, &s);

    if (r < 0)
        return r;
    s->size = bytes ? bytes : 1;
    r = recycle_get(s->size, &s->bytes);
    if (r < 0) {
        free(s);
        return r;
    }
    atomic_init(&s->holders, 1);
    *ret = s;
    return 0;
}

uint8_t *
shared_bytes(const struct shared *s)
{
    return s->bytes;
}

struct shared *
shared_hold(struct shared *s)
{
    atomic_fetch_add(&s->holders, 1);
    return s;
}

void
shared_put(struct shared *s)
{
    if (s == NULL || atomic_fetch_sub(&s->holders, 1) > 1)
        return;
    recycle_put(s->bytes, s->size);
    free(s);
}
