/* refer_exact.c: chunks that are nothing but references (RF6, refer.h). */
#include "volume/refer.h"

/* A plan that makes no reference leaves no such chunk behind it, or one that is
 * worth no look at all its cells. */
static bool
makes_references(const struct plan *plan)
{
    for (size_t i = 0; i < plan->block_count; i++) {
        if (plan->blocks[i].sum == SUM_REFERENCE)
            return true;
    }
    return false;
}

/* Do the cells of the data fragment say what the file says, and no more? */
static bool
is_alike(const struct lsvd_volume *v, const struct fragment *f,
         const struct references *all)
{
    for (uint32_t row = 0; row < v->g.rows; row++) {
        uint32_t block = geometry_block_of(&v->g, f->id.fragment, row);
        uint64_t sum = fragment_entry(f, row).sum;

        if (block == UINT32_MAX)
            continue;
        if (sum != (all->block[block].volume ? SUM_REFERENCE : SUM_ZERO_BLOCK))
            return false;
    }
    return true;
}

uint64_t
refer_exact_seq(struct lsvd_volume *v, const struct plan *plan)
{
    const struct references *all;

    if (!volume_has_references(v) || !plan->pin || !makes_references(plan) ||
        chunk_references(v, plan->pin, &all) < 0)
        return 0;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct fragment *f = chunk_fragment(v, plan->pin, i, NULL);

        if (!f || f->doubtful)
            return 0;
        if (!geometry_is_parity(&v->g, i) && !is_alike(v, f, all))
            return 0;
    }
    return all->seq;
}

bool
refer_look_exact(struct lsvd_volume *v, struct chunk *c,
                 const struct chunk_entry *truth, uint32_t block,
                 uint32_t count, uint8_t *said, struct reference *ret)
{
    const struct references *all;

    /* The tables of a volume that somebody else writes are old. */
    if (truth->references_seq == 0 || v->observer ||
        !volume_has_references(v) || chunk_references(v, c, &all) < 0 ||
        all->seq != truth->references_seq)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        ret[i] = all->block[block + i];
        said[i] = ret[i].volume ? SAID_REFERENCE : SAID_NOTHING;
    }
    return true;
}
