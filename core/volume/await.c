/* await.c: a volume that was opened to be written, and has too few parts.
 *
 * It is served as it is, read-only. When parts are back it is not made into
 * another one: whoever serves it closes it and opens it anew.
 *
 * (AW1) What may be written has passed all rules of a start (open.c): the view
 *       chosen among all labels, the journal replayed with the tables of all
 *       parts, the claim. None of it is done a second time in a volume that is
 *       open: one of the parts that were away may know of a newer view, and a
 *       replay without its table may have left out what only it needs.
 * (AW2) Nothing that is served is let go for a mere hope: the parts in use are
 *       still under their paths, and with those that are back there are enough
 *       to write. */
#include "base/err.h"
#include "redundancy/membership.h"
#include "volume/volume.h"
#include <stdio.h>

bool
lsvd_awaits_parts(const struct lsvd_volume *v)
{
    return !v->attached && !v->client_read_only && !v->observer;
}

/* AW2. */
bool
part_is_still_there(struct lsvd_volume *v, const struct part *p)
{
    struct label label;
    struct target *dir;
    int damaged, r;

    r = v->io->ops->open_dir(v->io, p->dir->path, 0, &dir);
    if (r < 0)
        return false;
    r = label_load(dir, &label, &damaged);
    target_close(dir);
    return r == 0 && uuid_equal(&label.instance, &p->label.instance);
}

/* It was found at the start, without a label, or refused something. */
static bool
has_recovered(const struct part *p)
{
    struct label label;
    int damaged;

    return (p->state == LSVD_PART_MISSING || p->state == LSVD_PART_ERROR) &&
           label_load(p->dir, &label, &damaged) == 0;
}

bool
part_is_back(struct lsvd_volume *v, uint32_t slot)
{
    struct part found;
    bool back;

    if (v->part[slot].dir)
        return has_recovered(&v->part[slot]);
    if (part_find(v, slot, true, &found) < 0)
        return false;
    back = found.state == LSVD_PART_OK;
    part_candidate_close(&found);
    return back;
}

bool
lsvd_parts_are_back(struct lsvd_volume *v)
{
    uint32_t there = 0, back = 0;

    if (!lsvd_awaits_parts(v))
        return false;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (volume_check_hurried(v) < 0)
            return false;
        if (v->usable & UINT32_C(1) << i) {
            if (!part_is_still_there(v, &v->part[i]))
                return false;
            there++;
        } else if (part_is_back(v, i)) {
            back++;
        }
    }
    return back > 0 && there + back >= volume_write_quorum(v);
}
