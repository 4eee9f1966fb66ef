/* quick.c: what a quick verify knows of the files: that they are there, and as
 * long as they must be.
 *
 * A volume has hundreds of thousands of them, and a hand-over to the threads of
 * a directory costs more than what it asks: so many names are asked at once,
 * of all parts side by side. */
#include "base/memory.h"
#include "base/parallel.h"
#include "volume/verify.h"
#include <stdlib.h>
#include <string.h>

struct quick {
    uint64_t first, end; /* chunks that were asked for */
    uint32_t parts;      /* bit per part that answered */
    char name[QUICK_CHUNKS][24];
    const char *names[QUICK_CHUNKS];
    struct target_named named[PARTS_MAX][QUICK_CHUNKS];
};

struct asking {
    struct lsvd_volume *v;
    struct quick *quick;
    size_t count;
    struct parallel_result result[PARTS_MAX];
};

int
quick_new(struct quick **ret)
{
    return mem_new(1, sizeof **ret, ret);
}

void
quick_free(struct quick *quick)
{
    free(quick);
}

static int
ask_part(void *ctx, size_t slot)
{
    struct asking *asking = ctx;

    if (!(asking->v->usable & UINT32_C(1) << slot))
        return -ENODEV;
    return target_stat_names(asking->v->part[slot].dir, asking->quick->names,
                             asking->count, asking->quick->named[slot]);
}

void
quick_look(struct lsvd_volume *v, struct quick *quick, uint64_t first)
{
    struct asking asking = {.v = v, .quick = quick};
    uint64_t left = geometry_chunk_count(&v->g) - first + 1;

    asking.count = left < QUICK_CHUNKS ? (size_t)left : QUICK_CHUNKS;
    quick->first = first;
    quick->end = first + asking.count;
    quick->parts = 0;
    for (size_t i = 0; i < asking.count; i++) {
        fragment_name(first + i, quick->name[i]);
        quick->names[i] = quick->name[i];
    }
    parallel_each(v->g.part_count, v->g.part_count, 0, ask_part, &asking,
                  asking.result);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (asking.result[i].error == 0)
            quick->parts |= UINT32_C(1) << i;
    }
}

int
quick_size(struct lsvd_volume *v, const struct quick *quick, uint64_t chunk,
           uint32_t slot, uint64_t *ret_bytes)
{
    const struct target_named *named;
    char name[24];

    if (quick && (quick->parts & UINT32_C(1) << slot) &&
        chunk >= quick->first && chunk < quick->end) {
        named = &quick->named[slot][chunk - quick->first];
        *ret_bytes = named->size_bytes;
        if (named->error == 0)
            return 0;
    }
    fragment_name(chunk, name);
    return target_stat_name(v->part[slot].dir, name, ret_bytes);
}
