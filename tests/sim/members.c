/* members.c: see members.h. */
#include "members.h"
#include "redundancy/membership.h"
#include "volume/volume.h"

static unsigned chosen; /* of the whole program: the linker has no context */

void
members_set_bugs(unsigned bugs)
{
    chosen = bugs;
}

int __real_volume_drop(struct lsvd_volume *v, uint32_t parts);
int __wrap_volume_drop(struct lsvd_volume *v, uint32_t parts);

int
__wrap_volume_drop(struct lsvd_volume *v, uint32_t parts)
{
    if (!(chosen & MEMBER_BUG_NO_VIEW) ||
        !volume_may_be_members(v, v->usable & v->view.members & ~parts))
        return __real_volume_drop(v, parts);
    part_lost(v, parts);
    v->view.members &= v->usable;
    return 0;
}

const char *__real_membership_objection(const struct label *label,
                                        uint32_t slot,
                                        const struct view *view,
                                        uint64_t journal_ckpt,
                                        uint64_t newest_ckpt);
const char *__wrap_membership_objection(const struct label *label,
                                        uint32_t slot,
                                        const struct view *view,
                                        uint64_t journal_ckpt,
                                        uint64_t newest_ckpt);

const char *
__wrap_membership_objection(const struct label *label, uint32_t slot,
                            const struct view *view, uint64_t journal_ckpt,
                            uint64_t newest_ckpt)
{
    if (chosen & MEMBER_BUG_STALE &&
        uuid_equal(&view->instance[slot], &label->instance))
        return NULL;
    return __real_membership_objection(label, slot, view, journal_ckpt,
                                       newest_ckpt);
}

int __real_fragment_fill(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
                         uint64_t *ret_bytes);
int __wrap_fragment_fill(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
                         uint64_t *ret_bytes);

int
__wrap_fragment_fill(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
                     uint64_t *ret_bytes)
{
    struct chunk_entry truth = chunk_truth(v, chunk);

    if (!(chosen & MEMBER_BUG_SKIP) || truth.seq % 2 == 0)
        return __real_fragment_fill(v, chunk, slot, ret_bytes);
    *ret_bytes = 0;
    return fragment_declare_whole(v, chunk, slot, truth);
}

struct fragment *__real_chunk_fragment(struct lsvd_volume *v, struct chunk *c,
                                       uint32_t slot,
                                       enum fragment_state *ret);
struct fragment *__wrap_chunk_fragment(struct lsvd_volume *v, struct chunk *c,
                                       uint32_t slot,
                                       enum fragment_state *ret);

struct fragment *
__wrap_chunk_fragment(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
                      enum fragment_state *ret)
{
    if (chosen & MEMBER_BUG_READ && v->part[slot].dir)
        return chunk_fragment_to_write(v, c, slot, ret);
    return __real_chunk_fragment(v, c, slot, ret);
}
