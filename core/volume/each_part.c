/* each_part.c: the same for several parts, side by side: what takes one part
 * long does not hold up the next, and their syncs become one commit where they
 * share a file system. Without threads (simulator, tools) in their order. */
#include "base/err.h"
#include "base/parallel.h"
#include "volume/volume.h"
#include <stdio.h>

struct each {
    struct lsvd_volume *v;
    int (*job)(struct lsvd_volume *v, uint32_t slot);
    uint32_t slot[PARTS_MAX];
    size_t count;
    struct {
        int error;
        char text[256];
    } result[PARTS_MAX];
};

static int
do_one(void *ctx, size_t i)
{
    struct each *each = ctx;
    int r = each->job(each->v, each->slot[i]);

    each->result[i].error = r;
    if (r < 0)
        snprintf(each->result[i].text, sizeof each->result[i].text, "%s",
                 err_text());
    return 0; /* the others are not kept from it */
}

int
parts_each(struct lsvd_volume *v, uint32_t parts,
           int (*job)(struct lsvd_volume *v, uint32_t slot))
{
    struct each each = {.v = v, .job = job};
    int r;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (parts & UINT32_C(1) << i)
            each.slot[each.count++] = i;
    }
    r = parallel_for(v->parallel ? PARTS_MAX : 1, each.count, do_one, &each);
    for (size_t i = 0; i < each.count; i++) {
        int error = each.result[i].error;

        if (error < 0)
            r = part_failed(v, each.slot[i],
                            err_set(error, "%s", each.result[i].text));
    }
    return r;
}
