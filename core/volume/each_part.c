/* each_part.c: the same for several parts, side by side: what takes one part
 * long does not hold up the next, and their syncs become one commit where they
 * share a file system. Without threads (simulator, tools) one after the other,
 * beginning with another one each time. */
#include "base/err.h"
#include "base/parallel.h"
#include "volume/volume.h"

struct each {
    struct lsvd_volume *v;
    int (*job)(struct lsvd_volume *v, uint32_t slot);
    uint32_t slot[PARTS_MAX];
    size_t count;
};

static int
do_one(void *ctx, size_t i)
{
    struct each *each = ctx;

    return each->job(each->v, each->slot[i]);
}

int
parts_each(struct lsvd_volume *v, uint32_t parts,
           int (*job)(struct lsvd_volume *v, uint32_t slot))
{
    struct parallel_result result[PARTS_MAX];
    struct each each = {.v = v, .job = job};
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (parts & UINT32_C(1) << i)
            each.slot[each.count++] = i;
    }
    parallel_each(v->parallel ? PARTS_MAX : 1, each.count, v->turn++, do_one,
                  &each, result);
    for (size_t i = 0; i < each.count; i++) {
        if (result[i].error < 0)
            r = part_failed(v, each.slot[i],
                            err_set(result[i].error, "%s", result[i].text));
    }
    return r;
}
