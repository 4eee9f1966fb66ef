/* membership.c: see membership.h. Pure. */
#include "redundancy/membership.h"
#include "base/err.h"

uint32_t
membership_write_quorum(uint32_t replicas, uint32_t ec_data,
                        uint32_t ec_parity)
{
    if (replicas > 0)
        return replicas - replicas / 2;
    return ec_parity >= 2 ? ec_data + 1 : ec_data;
}

/* A member of this view holds another one of the same number: so this one was
 * never on all its members, or that member went on without it. */
static bool
is_void(const struct view *view, const struct label *const *labels,
        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct label *label = labels[i];

        if (!label || !(view->members & UINT32_C(1) << i) ||
            !uuid_equal(&label->instance, &view->instance[i]))
            continue;
        if (view_id_compare(&label->view.id, &view->id) == 0 &&
            !view_id_equal(&label->view.id, &view->id))
            return true;
    }
    return false;
}

static const struct view *
greatest(const struct label *const *labels, uint32_t count)
{
    const struct view *best = NULL;

    for (uint32_t i = 0; i < count; i++) {
        if (labels[i] &&
            (!best || view_id_compare(&labels[i]->view.id, &best->id) > 0))
            best = &labels[i]->view;
    }
    return best;
}

int
membership_choose(const struct label *const *labels, uint32_t count,
                  struct view *ret)
{
    const struct view *best = greatest(labels, count), *chosen = NULL;
    bool tie = false;

    if (!best)
        return err_set(-ENOENT, "no part has a readable label");
    for (uint32_t i = 0; i < count; i++) {
        const struct view *view = labels[i] ? &labels[i]->view : NULL;

        if (!view || view_id_compare(&view->id, &best->id) != 0 ||
            is_void(view, labels, count))
            continue;
        tie = tie || (chosen && !view_id_equal(&view->id, &chosen->id));
        /* one that is told to be complete by any is */
        if (!chosen || view->complete_members == view->members)
            chosen = view;
    }
    if (tie || !chosen)
        return err_set(-EEXIST,
                       "two parts claim the same view %u.%u from different "
                       "starts: their histories have diverged",
                       best->id.epoch, best->id.minor);
    *ret = *chosen;
    return 0;
}

static bool
is_ancestor(const struct view *view, const struct view_id *id)
{
    for (uint32_t i = 0; i < view->history_count; i++) {
        if (view_id_equal(&view->history[i], id))
            return true;
    }
    return false;
}

const char *
membership_objection(const struct label *label, uint32_t slot,
                     const struct view *view, uint64_t journal_ckpt,
                     uint64_t newest_ckpt)
{
    if (!(view->members & UINT32_C(1) << slot))
        return "is not in the view in force";
    if (!uuid_equal(&view->instance[slot], &label->instance))
        return "is not the instance that the view in force knows";
    if ((!view_id_equal(&label->view.id, &view->id) &&
         !view_id_equal(&label->view.id, &view->previous)) ||
        label->promised < view->id.epoch)
        return "missed changes, or was restored from an old copy";
    /* all members had the same when the journal was detached */
    if (uuid_is_zero(&view->journal) && label->ckpt < newest_ckpt)
        return "is older than other parts: restored from an old copy?";
    if (label->ckpt < journal_ckpt)
        return "is older than the journal recorded: restored from an old "
               "copy?";
    return NULL;
}

uint64_t
membership_newest_ckpt(const struct label *const *labels, uint32_t count,
                       const struct view *view)
{
    uint64_t newest = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (labels[i] && labels[i]->ckpt > newest &&
            (view_id_equal(&labels[i]->view.id, &view->id) ||
             view_id_equal(&labels[i]->view.id, &view->previous)))
            newest = labels[i]->ckpt;
    }
    return newest;
}

static uint32_t
missing_count(uint32_t set, uint32_t present)
{
    return (uint32_t)__builtin_popcount(set & ~present);
}

bool
membership_proven(const struct view *view, uint32_t in_sync,
                  uint32_t in_sight, uint32_t w)
{
    return missing_count(view->members, in_sync) < w &&
           missing_count(view->complete_members, in_sync | in_sight) < w;
}

bool
membership_allows(const struct view *view, uint32_t members, uint32_t w)
{
    uint32_t known = members & view->complete_members;
    uint32_t q = (uint32_t)__builtin_popcount(view->complete_members);
    uint32_t needed = q > 0 && q < w ? q : w; /* a forced view's Q */

    return (uint32_t)__builtin_popcount(members) >= w &&
           (uint32_t)__builtin_popcount(known) >= needed;
}

/* A view that was begun, and never in force: it follows one of ours, and a
 * member of it that is one of ours, too, never had it. */
static bool
was_only_begun(const struct view *begun, const struct view *view)
{
    uint32_t both = begun->members & view->members;

    if (!is_ancestor(view, &begun->previous))
        return false;
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        if ((both & UINT32_C(1) << i) &&
            uuid_equal(&begun->instance[i], &view->instance[i]))
            return true;
    }
    return false;
}

enum membership_return
membership_returning(const struct label *label, uint32_t slot,
                     const struct view *view, const char **ret_why)
{
    const struct view_absent *absent = &view->absent[slot];
    const struct view_id *id = &label->view.id;

    *ret_why = "";
    if (!uuid_equal(&label->instance, &absent->instance)) {
        *ret_why = "is an instance that the volume has not dropped";
        return RETURN_DIVERGED;
    }
    if (view_id_compare(id, &absent->dropped_by) >= 0) {
        *ret_why = "was written to after the volume had dropped it";
        return RETURN_DIVERGED;
    }
    if (is_ancestor(view, id) || was_only_begun(&label->view, view))
        return absent->ckpt == VIEW_CKPT_UNKNOWN ? RETURN_FULL
                                                 : RETURN_RESYNC;
    if (view->history_count == VIEW_HISTORY_MAX &&
        view_id_compare(id, &view->history[VIEW_HISTORY_MAX - 1]) < 0)
        return RETURN_FULL;
    *ret_why = "has a view that the volume never had";
    return RETURN_DIVERGED;
}

uint32_t
membership_next_epoch(const struct label *const *labels, uint32_t count,
                      const struct view *view)
{
    uint32_t epoch = view->id.epoch;

    for (uint32_t i = 0; i < count; i++) {
        if (!labels[i])
            continue;
        if (labels[i]->promised > epoch)
            epoch = labels[i]->promised;
        if (labels[i]->view.id.epoch > epoch)
            epoch = labels[i]->view.id.epoch;
    }
    return epoch == UINT32_MAX ? epoch : epoch + 1; /* no start takes that */
}
