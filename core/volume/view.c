/* view.c: which parts are in sync: labels, epochs, and views that replace each
 * other (faults.md 2.3: R1-R4, R7; O5, O6).
 *
 *   promise (R4) -> view: journal, then every member -> in force -> the same
 *   view again, saying that it is complete (Q := S)
 *
 * (VW1) A view is begun only if R1 allows it: at least w members, at least w
 *       of them members of the last view known complete.
 * (VW2) It is in force only when the journal and all its members have it. A
 *       member that fails meanwhile is left out of the next view, which is
 *       derived from the one that was begun, never from the one before.
 *       Whoever is to be a member of that has the one that was begun first: a
 *       label two views behind is one that missed changes (R5).
 * (VW3) No error makes the members fewer than w (R7): then nothing is
 *       recorded, and nothing is destaged until parts are back.
 * (VW4) A part that refuses, but can be read, is let go only when as many
 *       others as are needed were asked, and did not refuse: what failed on
 *       all of them may have been met on one first, and rows that are half
 *       changed can only be read with it.
 * Everything here is the role's, or under open and close. */
#include "base/err.h"
#include "redundancy/membership.h"
#include "volume/snapshot.h"
#include "volume/volume.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* OW2. A label that can't be read may be a foreign one, also one of a later
 * version. Of what is damaged in both copies nobody's promise is left: it is
 * written anew. */
static int
check_ours(struct lsvd_volume *v, const struct part *p)
{
    struct label found;
    int damaged, r;

    if (volume_check_fenced(v) < 0)
        return -ESHUTDOWN;
    r = label_load_fresh(p->dir, &found, &damaged);
    if (r == -EBADMSG)
        return 0;
    if (r < 0)
        return err_wrap(r, "not written, as it can't be read");
    return owner_is_foreign(v, p->slot, &found) ? volume_check_fenced(v) : 0;
}

int
label_write(struct lsvd_volume *v, struct part *p)
{
    struct label *label = &p->label;
    int r = check_ours(v, p);

    if (r == -ESHUTDOWN)
        return r;
    if (r < 0)
        return err_wrap(r, "part %c: its label", p->letter);
    label->written_at = v->io->ops->wall_seconds(v->io);
    memset(label->host, 0, sizeof label->host);
    gethostname(label->host, sizeof label->host - 1);
    if (p->table)
        label->table_generation = chunk_table_generation(p->table);
    atomic_fetch_add(&v->count.part_bytes, LABEL_SLOT_BYTES);
    atomic_fetch_add(&v->count.part_syncs, 1);
    r = label_store(p->dir, label);
    atomic_store(&p->label_writes, label->write_count);
    atomic_store(&p->label_promised, label->promised);
    return r < 0 ? err_wrap(r, "part %c", p->letter) : 0;
}

static int
write_label_of(struct lsvd_volume *v, uint32_t slot)
{
    return label_write(v, &v->part[slot]);
}

int
volume_labels_checkpoint(struct lsvd_volume *v, uint64_t ckpt)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct label *label = &v->part[i].label;

        /* Never back: a crash may have returned records of what it has already,
         * and a batch may have left the oldest of them to the next. */
        if ((v->usable & UINT32_C(1) << i) && label->ckpt < ckpt)
            label->ckpt = ckpt;
    }
    return parts_each(v, v->usable, write_label_of);
}

uint32_t
volume_write_quorum(const struct lsvd_volume *v)
{
    if (v->force.quorum > 0) /* FO2 */
        return v->force.quorum;
    return membership_write_quorum(v->meta.replicas, v->g.data_count,
                                   v->g.parity_count);
}

void
volume_get_view(struct lsvd_volume *v, struct view *ret)
{
    pthread_mutex_lock(&v->state_lock);
    *ret = v->view;
    pthread_mutex_unlock(&v->state_lock);
}

static void
set_view(struct lsvd_volume *v, const struct view *view)
{
    pthread_mutex_lock(&v->state_lock);
    v->view = *view;
    pthread_mutex_unlock(&v->state_lock);
}

/* Journal, then the parts of `to`; which of them failed is noted. */
static int
store_view(struct lsvd_volume *v, const struct view *view, uint32_t to,
           bool clean, uint32_t *ret_failed)
{
    int r, result = 0;

    *ret_failed = 0;
    /* Also the view that detaches it: a member that was left out of that one
     * would else take the journal's word that its own is the last. */
    if (v->journal && (!uuid_is_zero(&view->journal) || v->attached)) {
        struct journal_identity identity = *journal_identity(v->journal);

        identity.view = *view;
        if (!uuid_is_zero(&view->journal))
            identity.journal = view->journal;
        for (uint32_t i = 0; i < PARTS_MAX; i++) {
            if (!(view->members & UINT32_C(1) << i))
                identity.part_ckpt[i] = 0;
            else if (identity.part_ckpt[i] == 0) /* it joins */
                identity.part_ckpt[i] = v->part[i].label.ckpt;
        }
        r = journal_store_identity(v->journal, &identity);
        if (r < 0)
            return r;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        if (!(to & UINT32_C(1) << i))
            continue;
        p->label.view = *view;
        p->label.clean = clean;
        r = label_write(v, p);
        if (is_our_trouble(r))
            return r;
        if (r < 0) {
            result = part_failed(v, i, r);
            *ret_failed |= UINT32_C(1) << i;
        }
    }
    return result;
}

int
volume_store_first_view(struct lsvd_volume *v)
{
    uint32_t failed;

    return store_view(v, &v->view, volume_all_parts(v), true, &failed);
}

/* Take these parts out of S, as they are now. */
static void
leave_out(struct lsvd_volume *v, struct view *view, uint32_t parts)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct part *p = &v->part[i];

        if (!(parts & view->members & UINT32_C(1) << i))
            continue;
        view->absent[i].instance = view->instance[i];
        view->absent[i].dropped_by = v->force.left_out & UINT32_C(1) << i
                                         ? v->force.dropped_by
                                         : view->id;
        view->absent[i].ckpt = p->has_label ? p->label.ckpt : 0;
        memset(&view->instance[i], 0, sizeof view->instance[i]);
    }
    view->members &= ~parts;
}

static int
too_few(struct lsvd_volume *v, uint32_t members)
{
    char text[200];

    snprintf(text, sizeof text, "%s", err_text());
    return err_set(-EIO,
                   "volume %s: %d of its parts are in sync and answer, %u are "
                   "needed to write: %s",
                   v->meta.name, __builtin_popcount(members),
                   volume_write_quorum(v), text);
}

bool
volume_may_be_members(struct lsvd_volume *v, uint32_t members)
{
    return membership_allows(&v->view, members, volume_write_quorum(v));
}

static void
tell_dropped(struct lsvd_volume *v, uint32_t parts)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        if (!(parts & UINT32_C(1) << i))
            continue;
        atomic_fetch_add(&v->count.evictions, 1);
        event_note(v, LOG_ERROR_LEVEL, "drop", p->letter,
                   "part %c is dropped: %s; the volume goes on without it",
                   p->letter, p->problem);
    }
}

int
volume_install_view(struct lsvd_volume *v, const struct view *next,
                    uint32_t joining, bool clean)
{
    struct view view = *next;
    uint32_t w = volume_write_quorum(v), failed, away;
    int r;

    /* none is written to a member that is not in use: an old copy of a part
     * would look like new with it */
    away = view.members & ~(v->usable | joining);
    if (away) {
        err_set(-EIO, "part %c, which is a member, is not in use",
                v->part[__builtin_ctz(away)].letter);
        return too_few(v, view.members & ~away);
    }
    for (;;) {
        /* Q is that of the last complete one, whatever was begun since */
        if (!membership_allows(&view, view.members, w))
            return too_few(v, view.members);
        set_view(v, &view);
        v->view_begun = true;
        r = store_view(v, &view, view.members, clean, &failed);
        if (r == 0)
            break;
        if (failed == 0)
            return r;
        if (!membership_allows(&view, view.members & ~failed, w))
            return too_few(v, view.members & ~failed); /* VW3 */
        part_lost(v, failed & ~joining); /* VW2 */
        tell_dropped(v, failed & ~joining);
        view_advance(&view, &(struct view_id){view.id.epoch,
                                              view.id.minor + 1,
                                              view.id.start});
        leave_out(v, &view, failed);
    }
    v->view_begun = false;
    atomic_fetch_add(&v->count.views, 1);
    return 0;
}

static int
end_view(struct lsvd_volume *v)
{
    struct view view = v->view;
    int r = volume_install_view(v, &view, 0, false);

    return r < 0 ? r : volume_complete_view(v, false);
}

/* The view in force is on all its members: say so. That may come later: who
 * fails at it is looked at by the next round, and until then Q is what it was,
 * which forbids more, never less. */
int
volume_complete_view(struct lsvd_volume *v, bool clean)
{
    struct view view = v->view;
    uint32_t failed;
    int r;

    view.complete_members = view.members;
    r = store_view(v, &view, view.members, clean, &failed);
    if (r < 0 && failed == 0)
        return r;
    v->view_incomplete = failed;
    if (r == 0)
        set_view(v, &view);
    return 0;
}

/* What volume_complete_view left over. */
int
volume_settle_view(struct lsvd_volume *v)
{
    int r = 0;

    if (v->view_begun)
        r = end_view(v);
    if (r == 0 && v->view_incomplete)
        r = volume_complete_view(v, false);
    if (r == 0 && v->view_incomplete) /* the second time */
        r = volume_drop(v, v->view_incomplete & v->usable);
    return r;
}

/* Every part that was seen and is of ours, also one that is stale. */
static void
all_labels(struct lsvd_volume *v, const struct label **labels)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct part *p = &v->part[i];

        labels[i] = p->has_label &&
                            uuid_equal(&p->label.volume, &v->meta.uuid)
                        ? &p->label
                        : NULL;
    }
}

/* R4: every member of S and of Q that is there. One that is no member any
 * more keeps the view that its label has. */
static bool
must_promise(const struct lsvd_volume *v, uint32_t slot)
{
    const struct part *p = &v->part[slot];
    uint32_t bit = UINT32_C(1) << slot;

    if (v->usable & bit)
        return true;
    return (v->view.complete_members & bit || v->force.quorum > 0) &&
           p->lock && p->has_label && p->state == LSVD_PART_STALE;
}

int
volume_roll_forward(struct lsvd_volume *v)
{
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        struct part *p = &v->part[i];
        uint32_t bit = UINT32_C(1) << i;

        if (!(v->view.members & bit))
            continue;
        if (!(v->usable & bit) || !p->lock)
            return err_set(-EIO, "part %c is away", p->letter);
        if (view_id_compare(&p->label.view.id, &v->view.id) == 0) {
            r = label_sync(p->dir, &p->label);
        } else {
            struct view before = p->label.view;

            r = part_take_lock(v, p, true);
            if (r < 0)
                return r;
            p->label.view = v->view;
            r = label_write(v, p);
            if (r < 0)
                p->label.view = before;
            (void)part_take_lock(v, p, false);
        }
    }
    return r;
}

int
volume_sync_labels(struct lsvd_volume *v)
{
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if (v->usable & UINT32_C(1) << i)
            r = label_sync(v->part[i].dir, &v->part[i].label);
    }
    return r;
}

int
volume_promise(struct lsvd_volume *v, uint32_t *ret_epoch)
{
    const struct label *labels[PARTS_MAX];
    uint32_t epoch;
    int r;

    all_labels(v, labels);
    epoch = membership_next_epoch(labels, v->g.part_count, &v->view);
    if (epoch > SEQ_EPOCH_MAX)
        return err_set(-EIO, "volume %s has used up its %u starts",
                       v->meta.name, SEQ_EPOCH_MAX);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        if (!must_promise(v, i))
            continue;
        /* R5: one that a cut left at the view before is rolled forward, or
         * the next view would leave it two behind. */
        if (v->usable & v->view.members & UINT32_C(1) << i)
            p->label.view = v->view;
        p->label.promised = epoch;
        r = label_write(v, p);
        if (is_our_trouble(r))
            return r;
        if (r < 0) { /* it counts as missing */
            (void)part_failed(v, i, r);
            part_lost(v, UINT32_C(1) << i);
        }
    }
    *ret_epoch = epoch;
    return 0;
}

/* Those that the view has dropped, and that are here to be asked. */
static uint32_t
dropped_in_sight(const struct lsvd_volume *v)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct part *p = &v->part[i];

        if (!(v->view.members & UINT32_C(1) << i) && p->has_label &&
            p->state == LSVD_PART_STALE &&
            uuid_equal(&p->label.instance, &v->view.absent[i].instance))
            set |= UINT32_C(1) << i;
    }
    return set;
}

bool
volume_is_proven(struct lsvd_volume *v)
{
    uint32_t in_sync = v->usable & v->view.members;

    if (snapshot_is_proven(v)) /* SN2 */
        return true;
    if ((v->journal && v->journal_held && !v->copy_unseen) ||
        v->force.quorum > 0)
        return true;
    /* A part that was just added may be unknown to whoever claims from the
     * others: then all of S must be here (docs/model, ADD_UNKNOWN). */
    if ((v->view.members & ~v->view.complete_members) != 0 &&
        in_sync != v->view.members)
        return false;
    return membership_proven(&v->view, in_sync, dropped_in_sight(v),
                             volume_write_quorum(v));
}

bool
volume_may_attach(struct lsvd_volume *v)
{
    return volume_is_proven(v) &&
           volume_may_be_members(v, v->usable & v->view.members);
}

/* A new epoch, and a random number that tells it from others of its kind. */
int
volume_next_epoch(struct lsvd_volume *v, struct view_id *ret)
{
    int r;

    memset(ret, 0, sizeof *ret);
    r = volume_promise(v, &ret->epoch);
    return r < 0 ? r : v->io->ops->random(v->io, ret->start.b,
                                          sizeof ret->start.b);
}

/* A view that follows the one in force; in the same epoch, if that is ours. */
static int
next_view(struct lsvd_volume *v, struct view *ret)
{
    struct view_id id = v->view.id;
    int r = 0;

    if (v->attached)
        id.minor++;
    else
        r = volume_next_epoch(v, &id);
    *ret = v->view;
    if (r == 0)
        view_advance(ret, &id);
    return r;
}

/* VW2: the view that was begun, to the members that will be left of it; *parts
 * gets those that fail at it. */
static int
bring_forward(struct lsvd_volume *v, uint32_t *parts)
{
    struct view begun = v->view;
    uint32_t left = begun.members & ~*parts, failed;
    int r = store_view(v, &begun, left, false, &failed);

    if (r == 0 || failed == 0)
        return r;
    if (!volume_may_be_members(v, left & ~failed))
        return too_few(v, left & ~failed);
    part_lost(v, failed);
    tell_dropped(v, failed);
    *parts |= failed;
    return 0;
}

static int
view_without(struct lsvd_volume *v, uint32_t parts)
{
    struct view view;
    int r = 0;

    if (!(v->view.members & parts))
        return 0;
    if (v->view_begun)
        r = bring_forward(v, &parts);
    if (r == 0)
        r = next_view(v, &view);
    if (r < 0)
        return r;
    leave_out(v, &view, parts);
    r = volume_install_view(v, &view, 0, false);
    return r < 0 ? r : volume_complete_view(v, uuid_is_zero(&view.journal));
}

/* Those that can't be used as they are, whatever the view says. */
static uint32_t
without_answer(struct lsvd_volume *v, uint32_t parts)
{
    uint32_t gone = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((parts & UINT32_C(1) << i) &&
            parts_are_gone(v, UINT32_C(1) << i))
            gone |= UINT32_C(1) << i;
    }
    return gone;
}

/* VW4. *parts gets those of the others that fail at it. */
static int
ask_others(struct lsvd_volume *v, uint32_t *parts)
{
    uint32_t others = v->view.members & ~*parts, failed;
    uint32_t before = v->failed; /* by whoever has the role */
    int r;

    v->failed = 0;
    r = parts_each(v, others, write_label_of);
    failed = v->failed & others;
    v->failed |= before;
    *parts |= failed;
    return r < 0 && failed == 0 ? r : 0;
}

int
volume_drop(struct lsvd_volume *v, uint32_t parts)
{
    uint32_t before = v->view.members;
    uint32_t all = parts | (before & ~v->usable);
    int r;

    if (all == 0)
        return 0;
    if (volume_may_be_members(v, before & ~all) &&
        without_answer(v, parts) != parts) {
        r = ask_others(v, &all);
        if (r < 0)
            return r;
        parts = all & v->usable;
    }
    err_set(-EIO, "%s", v->part[__builtin_ctz(all)].failure_text);
    if (!volume_may_be_members(v, before & ~all)) {
        r = too_few(v, before & ~all);
        part_lost(v, without_answer(v, parts));
        return r;
    }
    part_lost(v, parts);
    r = view_without(v, all);
    if (r == 0)
        tell_dropped(v, all & before); /* others that failed were told */
    return r;
}

int
volume_view_with(struct lsvd_volume *v, uint32_t slot)
{
    struct part *p = &v->part[slot];
    uint32_t bit = UINT32_C(1) << slot;
    struct view view;
    int r;

    r = next_view(v, &view);
    if (r < 0)
        return r;
    view.members |= bit;
    view.instance[slot] = p->label.instance;
    memset(&view.absent[slot], 0, sizeof view.absent[slot]);
    /* O6: it has all that the members have */
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((v->usable & UINT32_C(1) << i) &&
            v->part[i].label.ckpt > p->label.ckpt)
            p->label.ckpt = v->part[i].label.ckpt;
    }
    p->label.state = LABEL_LIVE;
    if (p->label.promised < view.id.epoch)
        p->label.promised = view.id.epoch;
    r = volume_install_view(v, &view, bit, false);
    if (r == 0 && !(v->view.members & bit))
        r = err_set(-EIO, "part %c: %s", p->letter, p->failure_text);
    if (r < 0)
        return r;
    atomic_fetch_or(&v->usable, bit); /* V5 */
    return volume_complete_view(v, uuid_is_zero(&view.journal));
}

int
volume_claim(struct lsvd_volume *v)
{
    struct view next = v->view;
    struct view_id id;
    uint32_t away;
    int r;

    r = volume_next_epoch(v, &id);
    if (r == 0 && !volume_may_attach(v)) /* some failed to promise */
        r = too_few(v, v->usable);
    if (r < 0)
        return r;
    away = v->view.members & ~v->usable;
    view_advance(&next, &id);
    leave_out(v, &next, away);
    if (v->force.given_up)
        force_doubt_absent(v, &next);
    r = v->io->ops->random(v->io, next.journal.b, sizeof next.journal.b);
    if (r == 0 && !v->journal)
        r = journal_make(v, &next);
    if (r < 0)
        return r;
    r = journal_start(v->journal, id.epoch);
    if (r == 0)
        r = volume_install_view(v, &next, 0, false); /* JF1 */
    if (r == 0 && !v->journal_held)
        journal_vouch(v->journal);
    if (r == 0)
        r = volume_complete_view(v, false);
    if (r == 0)
        r = journal_settle(v); /* a copy may have failed just now */
    if (r < 0)
        return r;
    v->attached = v->journal_held = true;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (away & UINT32_C(1) << i)
            event_note(v, LOG_WARNING_LEVEL, "drop", v->part[i].letter,
                       "part %c is not there at the start (%s): the volume "
                       "goes on without it",
                       v->part[i].letter, v->part[i].problem);
    }
    return 0;
}
