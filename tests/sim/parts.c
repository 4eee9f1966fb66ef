/* parts.c: parts vanish, die, come back, are put back from old copies, trade
 * places, are replaced - and what the volume owes its clients meanwhile.
 *
 * What is owed is computed from the records on the media by the rules of the
 * design, not asked of the engine:
 * - at a start: to serve, and to be writable, if the parts that are there and
 *   were not tampered with are enough (life_owed);
 * - while it serves: no error, as long as enough members are well
 *   (parts_suffice);
 * - once nothing is away, dead or full: all parts in sync, after a bounded
 *   number of steps (life_calm). */
#include "records.h"
#include "redundancy/membership.h"
#include "volume/resync.h"
#include "volume/volume.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define CALM_ROUNDS 20 /* more than two looks everywhere */
#define CALM_STEPS 400

static uint32_t
count_bits(uint32_t set)
{
    return (uint32_t)__builtin_popcount(set);
}

static uint32_t
write_quorum(const struct life *l)
{
    return membership_write_quorum(l->policy.replicas, l->policy.ec_data,
                                   l->policy.ec_parity);
}

static uint32_t
read_quorum(const struct life *l)
{
    return l->policy.replicas ? 1 : l->policy.ec_data;
}

static uint32_t
all_slots(const struct life *l)
{
    return (1u << life_parts(&l->policy)) - 1;
}

static bool
has_parts_away(const struct life *l)
{
    return l->policy.missing && life_tolerated(&l->policy) > 0;
}

/* ---- one directory ---- */

/* A replacement that was cut short may not have come so far. */
static bool
exists(struct life *l, uint32_t dir)
{
    char **names = simio_names(l->s, l->dir[dir]);

    simio_names_free(names);
    return names != NULL;
}

/* A disk goes with all that is on it: snapshots are where the volume is. */
static void
hide_snapshots(struct life *l, uint32_t dir, bool hidden)
{
    struct life old = {.one_root = l->one_root};
    char path[64];

    if (dir >= life_parts(&l->policy))
        return;
    memcpy(old.root, l->root, sizeof old.root);
    for (unsigned n = 11; n < 11 + LIFE_NUMBERS_MAX; n++) {
        bool is = l->hidden_numbers[dir] & 1u << (n - 11);
        char **names = NULL;

        old.number = n;
        life_part_path(&old, dir, path, sizeof path);
        if (hidden && n < l->number)
            names = simio_names(l->s, path);
        if (names || (is && !hidden)) {
            simio_hide(l->s, path, hidden);
            l->hidden_numbers[dir] ^= 1u << (n - 11);
        }
        simio_names_free(names);
    }
}

static void
hide(struct life *l, uint32_t dir, bool hidden)
{
    if (hidden == ((l->hidden_dirs >> dir & 1) != 0) || !exists(l, dir))
        return;
    simio_hide(l->s, l->dir[dir], hidden);
    hide_snapshots(l, dir, hidden);
    l->hidden_dirs ^= 1u << dir;
    l->part_failures += hidden;
    life_event(l, "%s %s", l->dir[dir], hidden ? "vanishes" : "is back");
}

static void
set_sick(struct life *l, uint32_t dir, int code)
{
    simio_set_sick(l->s, l->dir[dir], code);
    l->sick_dirs &= ~(1u << dir);
    if (code < 0)
        l->sick_dirs |= 1u << dir;
    l->part_failures += code < 0;
    life_event(l, "%s %s", l->dir[dir],
               code == 0      ? "is well"
               : code == -EIO ? "dies"
                              : "is stale");
}

void
life_parts_well(struct life *l)
{
    for (uint32_t i = 0; i < l->dir_count; i++) {
        hide(l, i, false);
        if (l->sick_dirs & 1u << i)
            set_sick(l, i, 0);
    }
}

/* Today's state of a part, for a later day. */
static void
take_copy(struct life *l, uint32_t dir)
{
    struct label label = {0};

    (void)records_label(l, l->dir[dir], false, &label);
    simio_dir_free(l->dir_copy[dir]);
    l->dir_copy[dir] = simio_take_dir(l->s, l->dir[dir]);
    l->copy_writes[dir] = label.write_count;
    life_event(l, "%s is copied", l->dir[dir]);
}

/* What the members would still have in all, if these directories were old
 * copies. Enough to go on with? */
static bool
may_be_old(struct life *l, uint32_t dirs)
{
    struct records all;
    const struct view *view;
    uint32_t left = 0;
    bool journal;

    records_read(l, ~(l->v ? l->hidden_dirs | l->sick_dirs : 0), false, &all);
    view = records_newest(&all, &journal);
    for (uint32_t i = 0; view && i < life_parts(&l->policy); i++) {
        int at = records_find(&all, &view->instance[i]);

        if (view->members & view->complete_members & 1u << i && at >= 0 &&
            !(dirs & 1u << at) &&
            view_id_equal(&all.label[at].view.id, &view->id))
            left |= 1u << i;
    }
    return count_bits(left) >= write_quorum(l);
}

static bool
lies_in(const struct part *p, const struct life *l, uint32_t dir)
{
    return p->dir && strcmp(p->dir->path, l->dir[dir]) == 0;
}

static bool
is_in_use(const struct life *l, uint32_t dir)
{
    for (uint32_t i = 0; l->v && i < life_parts(&l->policy); i++)
        if (l->v->usable & 1u << i && lies_in(&l->v->part[i], l, dir))
            return true;
    return false;
}

/* While it serves: the look at the parts notices, before another one fails.
 * (One that was not in use may be found, filled and taken in meanwhile.) */
static void
notice_copy(struct life *l, uint32_t dir, bool was_in_use)
{
    l->tampered |= 1u << dir;
    for (int i = 0; i < 2; i++)
        lsvd_watch(l->v);
    lsvd_destage_step(l->v);
    if (simio_halted(l->s))
        return;
    if (was_in_use && is_in_use(l, dir))
        life_fail(l, "WA2: %s is in use, but it is an old copy", l->dir[dir]);
    l->tampered = 0;
}

/* It would be filled where nobody finds it again: the next look at the parts
 * drops it once more. */
static bool
is_being_filled(const struct life *l, uint32_t dir)
{
    for (uint32_t i = 0; l->v && i < life_parts(&l->policy); i++) {
        const struct part *p = &l->v->part[i];
        const struct offer *offer = l->v->resync.offered[i];

        if (offer)
            p = &offer->part;
        if ((offer || !(l->v->usable & 1u << i)) && lies_in(p, l, dir))
            return true;
    }
    return false;
}

static void
put_copy(struct life *l, uint32_t dir)
{
    bool was_in_use = is_in_use(l, dir);
    struct label before, after;

    if (!l->dir_copy[dir] || l->sick_dirs & 1u << dir ||
        !may_be_old(l, l->old_dirs | 1u << dir) || is_being_filled(l, dir))
        return;
    if (!records_label(l, l->dir[dir], false, &before))
        return;
    /* Who finds another directory that says the same can't tell: a server
     * writes where nobody looks, and a start may lack what a destage wrote that
     * was cut off before its label. */
    if (before.write_count == l->copy_writes[dir])
        return;
    simio_put_dir(l->s, l->dir[dir], l->dir_copy[dir]);
    if (!records_label(l, l->dir[dir], false, &after) ||
        (uuid_equal(&before.instance, &after.instance) &&
         before.write_count == after.write_count))
        return;
    life_event(l, "%s is an old copy of itself", l->dir[dir]);
    l->part_failures++;
    l->old_dirs |= 1u << dir;
    if (l->v)
        notice_copy(l, dir, was_in_use);
}

/* ---- what is owed ---- */

/* Bit per slot that the engine uses, and which is well and in S. */
static uint32_t
well(struct life *l)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        const struct part *p = &l->v->part[i];

        if (!(l->v->usable & ~l->v->gone & l->v->view.members & 1u << i) ||
            !p->dir)
            continue;
        for (uint32_t d = 0; d < l->dir_count; d++) {
            uint32_t ill = l->hidden_dirs | l->sick_dirs | l->tampered;

            if (strcmp(l->dir[d], p->dir->path) == 0 && !(ill & 1u << d))
                set |= 1u << i;
        }
    }
    return set;
}

bool
life_parts_suffice(struct life *l, bool to_write)
{
    if (!has_parts_away(l))
        return true;
    return count_bits(well(l)) >= (to_write ? write_quorum(l)
                                            : read_quorum(l));
}

/* By R3, R5, R6: bit per slot that must be usable at a start. */
static uint32_t
in_sync(const struct life *l, const struct records *seen,
        const struct view *view, bool journal)
{
    uint64_t newest = 0;
    uint32_t set = 0;

    for (int i = 0; i < LIFE_DIRS_MAX; i++) {
        const struct label *label = &seen->label[i];

        if (seen->has_label[i] && label->ckpt > newest &&
            (view_id_equal(&label->view.id, &view->id) ||
             view_id_equal(&label->view.id, &view->previous)))
            newest = label->ckpt;
    }
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        int at = records_find(seen, &view->instance[i]);
        const struct label *label = at < 0 ? NULL : &seen->label[at];

        if (!label || !(view->members & 1u << i) ||
            label->state != LABEL_LIVE ||
            label->promised < view->id.epoch ||
            (!view_id_equal(&label->view.id, &view->id) &&
             !view_id_equal(&label->view.id, &view->previous)))
            continue;
        if (label->ckpt >= (journal ? seen->super.identity.part_ckpt[i]
                                    : newest))
            set |= 1u << i;
    }
    return set;
}

/* Not only the leftovers of a part that was replaced. */
static bool
a_member_has(const struct records *seen, const struct view *view)
{
    for (uint32_t i = 0; i < LIFE_PARTS_MAX; i++) {
        int at = view->members & 1u << i
                     ? records_find(seen, &view->instance[i])
                     : -1;

        if (at >= 0 && view_id_equal(&seen->label[at].view.id, &view->id))
            return true;
    }
    return false;
}

static uint32_t
lacking(uint32_t set, uint32_t present)
{
    return count_bits(set & ~present);
}

/* R3: that nobody went on without those that are not there. A journal that
 * never held a record may be left of a claim that was cut; and of a part that
 * was just added others may not know (docs/model). */
static bool
has_proof(struct life *l, const struct records *seen, const struct view *view,
          bool journal, uint32_t there)
{
    uint32_t in_sight = there, w = write_quorum(l);

    if (journal && records_held(l, &seen->super))
        return true;
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        if (records_find(seen, &view->absent[i].instance) >= 0)
            in_sight |= 1u << i;
    }
    return lacking(view->members, there) < w &&
           lacking(view->complete_members, in_sight) < w &&
           ((view->members & ~view->complete_members) == 0 ||
            lacking(view->members, there) == 0);
}

struct owed
life_owed(struct life *l)
{
    struct owed owed = {.proven = true, .serve = true, .write = true};
    const struct view *newest, *seen_newest;
    struct records all, seen;
    bool journal, seen_journal;
    uint32_t there, w = write_quorum(l);

    if (!has_parts_away(l) || l->policy.mirror)
        return owed;
    records_read(l, UINT32_MAX, false, &all);
    records_read(l, ~(l->hidden_dirs | l->sick_dirs), false, &seen);
    newest = records_newest(&all, &journal);
    seen_newest = records_newest(&seen, &seen_journal);
    owed.proven = newest && seen_newest &&
                  view_id_equal(&newest->id, &seen_newest->id) &&
                  (seen_journal || a_member_has(&seen, seen_newest));
    if (!owed.proven)
        return (struct owed){0};
    there = in_sync(l, &seen, seen_newest, seen_journal);
    owed.serve = count_bits(there) >= read_quorum(l) &&
                 has_proof(l, &seen, seen_newest, seen_journal, there);
    owed.write = owed.serve && count_bits(there) >= w &&
                 count_bits(there & seen_newest->complete_members) >= w;
    return owed;
}

/* ---- events ---- */

static uint32_t
any_dir(struct life *l)
{
    return (uint32_t)prng_below(&l->prng, l->dir_count);
}

static void
watch(struct life *l)
{
    life_event(l, "watch");
    lsvd_watch(l->v);
}

/* A part that was dropped while nothing was destaged has all there is (I25).
 */
static void
blink(struct life *l)
{
    struct lsvd_status status;
    uint32_t dir = any_dir(l);
    uint64_t changes;
    int r = 1;

    for (int i = 0; i < CALM_STEPS && r > 0; i++)
        r = lsvd_destage_step(l->v);
    lsvd_get_status(l->v, &status);
    if (r != 0 || !status.healthy || status.dirty_chunks > 0 ||
        l->hidden_dirs || l->sick_dirs || l->tampered || l->damaged)
        return;
    changes = l->rules.chunk_changes;
    hide(l, dir, true);
    for (int i = 0; i < 3; i++) {
        lsvd_watch(l->v);
        lsvd_destage_step(l->v);
    }
    hide(l, dir, false);
    life_calm(l);
    if (!l->failed && !simio_halted(l->s) &&
        l->rules.chunk_changes != changes)
        life_fail(l, "I25: filling a part that lacks nothing makes %" PRIu64
                  " changes", l->rules.chunk_changes - changes);
}

void
life_parts_event(struct life *l)
{
    uint32_t dir = any_dir(l);

    if (!has_parts_away(l) || l->damaged)
        return;
    switch (prng_below(&l->prng, l->policy.mirror ? 6 : 12)) {
    case 0:
    case 1:
        hide(l, dir, true);
        break;
    case 2:
        set_sick(l, dir, -EIO);
        break;
    case 3: /* its server is gone, or has another one in its place */
        hide(l, dir, true);
        set_sick(l, dir, -ESTALE);
        break;
    case 4:
        hide(l, dir, false);
        if (l->sick_dirs & 1u << dir)
            set_sick(l, dir, 0);
        break;
    case 5:
        life_parts_well(l);
        break;
    case 6:
        take_copy(l, dir);
        break;
    case 7:
        if (prng_one_in(&l->prng, 4))
            put_copy(l, dir);
        break;
    case 8:
        if (prng_one_in(&l->prng, 3))
            blink(l);
        break;
    default:
        watch(l);
        if (prng_one_in(&l->prng, 2))
            watch(l);
        break;
    }
}

/* What a snapshot lacks comes back by rebuild alone (snapshots_rebuild). */
static bool
is_for_a_parent(const struct lsvd_status *status)
{
    return status->health == LSVD_DEGRADED &&
           strstr(status->problem, "which it depends on");
}

void
life_calm(struct life *l)
{
    struct lsvd_status status;

    if (l->failed || !l->v || !lsvd_can_write(l->v))
        return;
    life_parts_well(l);
    life_mirror_well(l);
    life_event(l, "calm");
    for (int i = 0; i < CALM_ROUNDS; i++) {
        int r = 1;

        lsvd_watch(l->v);
        for (int step = 0; step < CALM_STEPS && r > 0; step++)
            r = lsvd_destage_step(l->v);
        if (simio_halted(l->s))
            return;
        lsvd_get_status(l->v, &status);
        if (r == 0 && (status.healthy || is_for_a_parent(&status)) && i > 2) {
            l->old_dirs = l->tampered = 0;
            life_mirror_look(l);
            l->calms++;
            return;
        }
    }
    for (uint32_t i = 0; i < status.part_count; i++) {
        if (status.part[i].state != LSVD_PART_OK)
            life_fail(l, "liveness: all is well, but part %c is %s: %s",
                      status.part[i].letter,
                      lsvd_part_state_text(status.part[i].state),
                      status.part[i].problem);
    }
    life_fail(l, "liveness: all is well, but the volume is %s: %s (%s)",
              lsvd_health_text(status.health), status.problem, lsvd_error());
}

/* ---- between two starts ---- */

static void
swap_bits(uint32_t *set, uint32_t a, uint32_t b)
{
    uint32_t differ = (*set >> a ^ *set >> b) & 1;

    *set ^= differ << a | differ << b;
}

static void
swap(struct life *l)
{
    uint32_t a = any_dir(l), b = any_dir(l);
    struct sim_inode *copy = l->dir_copy[a];
    uint64_t writes = l->copy_writes[a];

    if (a == b || l->dir_count != life_parts(&l->policy) ||
        l->frozen_count > 0) /* what is on these disks does not move along */
        return;
    l->swapped = true;
    life_event(l, "%s and %s trade places", l->dir[a], l->dir[b]);
    simio_swap_dirs(l->s, l->dir[a], l->dir[b]);
    l->dir_copy[a] = l->dir_copy[b];
    l->dir_copy[b] = copy;
    l->copy_writes[a] = l->copy_writes[b];
    l->copy_writes[b] = writes;
    swap_bits(&l->hidden_dirs, a, b);
    swap_bits(&l->old_dirs, a, b);
}

/* Nothing of what is newest may be out of sight while old copies could be
 * taken for it. */
static void
keep_newest_in_sight(struct life *l)
{
    if (l->old_dirs && !life_owed(l).proven)
        life_parts_well(l);
}

void
life_parts_between(struct life *l)
{
    uint32_t away = 0;

    if (!has_parts_away(l) || l->damaged)
        return;
    /* A start that only reads does not record which copy of the journal it
     * took, so each is to be one that can write. */
    if (l->policy.mirror) {
        life_parts_well(l);
        return;
    }
    if (prng_one_in(&l->prng, 12))
        put_copy(l, any_dir(l));
    if (prng_one_in(&l->prng, 16))
        swap(l);
    if (prng_one_in(&l->prng, 4))
        take_copy(l, any_dir(l));
    if (prng_one_in(&l->prng, 3)) {
        uint64_t count = prng_one_in(&l->prng, 4)
                             ? prng_between(&l->prng, 1,
                                            life_parts(&l->policy))
                             : 1;

        for (uint64_t i = 0; i < count; i++)
            away |= 1u << any_dir(l);
    } else if (prng_one_in(&l->prng, 2)) {
        away = l->hidden_dirs;
    }
    for (uint32_t i = 0; i < l->dir_count; i++)
        hide(l, i, away >> i & 1);
    keep_newest_in_sight(l);
}

/* A new directory for a part, as a person would who gives up the old one. */
void
life_parts_replace(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report;
    struct records all;
    const struct view *view;
    uint32_t slot, dir = any_dir(l);
    char root[16];
    bool owed, journal, was_hidden = l->hidden_dirs >> dir & 1;
    int r;

    if (!has_parts_away(l) || l->damaged || l->failed || l->policy.mirror ||
        l->dir_count == LIFE_DIRS_MAX || l->swapped ||
        !prng_one_in(&l->prng, 24))
        return;
    records_read(l, UINT32_MAX, false, &all);
    view = records_newest(&all, &journal);
    slot = all.label[dir].slot;
    if (!all.has_label[dir] || !view ||
        !uuid_equal(&all.label[dir].instance,
                    view->members & 1u << slot
                        ? &view->instance[slot]
                        : &view->absent[slot].instance))
        return; /* was replaced already */
    hide(l, dir, true);
    owed = life_owed(l).write;
    hide(l, dir, was_hidden);
    if (!owed)
        return;
    snprintf(root, sizeof root, "/new%u", l->dir_count);
    simio_make_dir(l->s, root);
    life_event(l, "part %c is replaced, in %s",
               (int)('a' + slot), root);
    snprintf(l->dir[l->dir_count], sizeof l->dir[0], "%s/%u/%c", root,
             l->number, (int)('a' + slot));
    l->dir_count++;
    if (prng_one_in(&l->prng, 2))
        simio_arm_cut(l->s, prng_between(&l->prng, 1, 60));
    r = lsvd_replace(&l->env, LIFE_VOLUME, (char)('a' + slot),
                     root, &none, &report);
    life_event(l, "    -> %s", r < 0 ? lsvd_error() : "done");
    if (r < 0 && !simio_halted(l->s))
        life_fail(l, "replace: %s", lsvd_error());
    simio_arm_cut(l->s, 0);
    if (simio_halted(l->s))
        life_crash(l, !prng_one_in(&l->prng, 4));
    l->replaced++;
}

/* All is there, but the rules leave it to a person. */
void
life_parts_mend(struct life *l)
{
    static const struct lsvd_repair_callbacks none;
    struct lsvd_report report;
    int r = lsvd_rebuild(&l->env, LIFE_VOLUME, 0, false, &none, &report);

    life_event(l, "rebuild: %s", r < 0 ? lsvd_error() : "done");
    if (r < 0)
        life_fail(l, "rebuild of what is not in sync: %s", lsvd_error());
    else if (!report.policy_met)
        life_fail(l, "rebuild leaves parts that are not in sync");
    l->old_dirs = 0;
}

void
life_parts_begin(struct life *l)
{
    for (uint32_t i = 0; i < life_parts(&l->policy); i++)
        life_part_path(l, i, l->dir[i], sizeof l->dir[i]);
    l->dir_count = life_parts(&l->policy);
}

void
life_parts_end(struct life *l)
{
    for (uint32_t i = 0; i < LIFE_DIRS_MAX; i++) {
        simio_dir_free(l->dir_copy[i]);
        l->dir_copy[i] = NULL;
    }
}

bool
life_parts_all_in_sync(struct life *l)
{
    struct records all;
    const struct view *view;
    bool journal;

    if (l->hidden_dirs || l->old_dirs)
        return false;
    if (life_tolerated(&l->policy) == 0)
        return true;
    records_read(l, UINT32_MAX, false, &all);
    view = records_newest(&all, &journal);
    return view && view->members == all_slots(l);
}

bool
life_parts_all_recoverable(struct life *l)
{
    struct records all;
    const struct view *view;
    bool journal;

    if (!life_parts_all_in_sync(l))
        return false;
    records_read(l, UINT32_MAX, false, &all);
    view = records_newest(&all, &journal);
    return view && in_sync(l, &all, view, journal) == all_slots(l);
}
