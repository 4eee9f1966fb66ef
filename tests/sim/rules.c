/* rules.c: see rules.h. What is meant is named by its number. */
#include "rules.h"
#include "records.h"
#include "redundancy/membership.h"
#include "volume/volume.h"
#include <string.h>

static uint32_t
write_quorum(const struct life *l)
{
    return membership_write_quorum(l->policy.replicas, l->policy.ec_data,
                                   l->policy.ec_parity);
}

static uint32_t
bits(uint32_t set)
{
    return (uint32_t)__builtin_popcount(set);
}

/* I15. */
static void
check_instance(struct life *l, const struct uuid *instance, uint32_t slot)
{
    struct rules *u = &l->rules;

    for (uint32_t i = 0; i < u->instance_count; i++) {
        if (!uuid_equal(&u->instance[i].instance, instance))
            continue;
        if (u->instance[i].slot != slot)
            life_fail(l, "I15: the instance of part %c is written as part %c",
                      (int)('a' + u->instance[i].slot), (int)('a' + slot));
        return;
    }
    if (u->instance_count == RULES_INSTANCES_MAX)
        return;
    u->instance[u->instance_count].instance = *instance;
    u->instance[u->instance_count++].slot = slot;
}

/* A view that is about to be written, wherever. The first has no history. */
static void
check_view(struct life *l, const struct view *view, const char *where)
{
    uint32_t w = write_quorum(l);
    uint32_t known = view->members & view->complete_members;
    uint32_t present = ~(l->hidden_dirs | l->sick_dirs | l->tampered |
                         l->old_dirs);
    struct records all;

    if (bits(view->members) < w || bits(known) < w)
        life_fail(l, "I2, I14: %s gets view %u.%u with S %#x, Q %#x", where,
                  view->id.epoch, view->id.minor, view->members,
                  view->complete_members);
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        if (view->members & 1u << i)
            check_instance(l, &view->instance[i], i);
    }
    if (view->history_count == 0)
        return;
    records_read(l, UINT32_MAX, true, &all);
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        int at = records_find(&all, &view->instance[i]);

        if (!(known & 1u << i) || at < 0 || !(present & 1u << at))
            continue;
        if (all.label[at].promised < view->id.epoch)
            life_fail(l, "I4: %s gets view %u.%u, but part %c has promised %u",
                      where, view->id.epoch, view->id.minor, (int)('a' + i),
                      all.label[at].promised);
    }
}

/* R2: Q changes in a view that stays the same only when all members have it.
 */
static void
check_completion(struct life *l, const struct view *old,
                 const struct view *view, const char *where)
{
    struct records all;

    if (!view_id_equal(&old->id, &view->id) ||
        old->complete_members == view->complete_members)
        return;
    records_read(l, UINT32_MAX, true, &all);
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        int at = records_find(&all, &view->instance[i]);

        if (!(view->members & 1u << i) || at < 0 ||
            (l->tampered | l->old_dirs) & 1u << at)
            continue;
        if (!view_id_equal(&all.label[at].view.id, &view->id))
            life_fail(l, "R2: %s says that view %u.%u is complete, but part "
                      "%c does not have it", where, view->id.epoch,
                      view->id.minor, (int)('a' + i));
    }
}

static void
check_label(struct life *l, const char *dir, const uint8_t *bytes)
{
    struct rules *u = &l->rules;
    struct label label, old;

    u->checked++;
    if (label_decode(bytes, &label) < 0) {
        life_fail(l, "I16: %s gets a label that is none", dir);
        return;
    }
    if (!u->has_volume) {
        u->has_volume = true;
        u->volume = label.volume;
        u->geometry = label.geometry;
    }
    if (!uuid_equal(&label.volume, &u->volume) ||
        label.geometry != u->geometry ||
        label.slot >= life_parts(&l->policy))
        life_fail(l, "I16: %s gets a label of another volume or shape", dir);
    check_instance(l, &label.instance, label.slot);
    check_view(l, &label.view, dir);
    /* of a slot that could not be read for a moment nobody knows */
    if (!records_label(l, dir, false, &old) ||
        !uuid_equal(&old.instance, &label.instance) ||
        simio_failure_fired(l->s))
        return;
    if (view_id_compare(&label.view.id, &old.view.id) < 0)
        life_fail(l, "I1: %s goes from view %u.%u back to %u.%u", dir,
                  old.view.id.epoch, old.view.id.minor, label.view.id.epoch,
                  label.view.id.minor);
    else if (view_id_compare(&label.view.id, &old.view.id) == 0 &&
             !view_id_equal(&label.view.id, &old.view.id))
        life_fail(l, "I1: %s gets another view %u.%u", dir,
                  label.view.id.epoch, label.view.id.minor);
    if (label.promised < old.promised)
        life_fail(l, "I4: %s takes back its promise of epoch %u", dir,
                  old.promised);
    if (label.ckpt < old.ckpt)
        life_fail(l, "I8: the checkpoint of %s goes back", dir);
    check_completion(l, &old.view, &label.view, dir);
}

/* I9: what the ring forgets is on all members. */
static void
check_super(struct life *l, const uint8_t *bytes)
{
    const struct view *view;
    struct journal_super super, old;
    struct records all;

    if (journal_super_decode(bytes, &super) < 0 ||
        (l->rules.has_volume &&
         !uuid_equal(&super.identity.volume, &l->rules.volume)))
        return;
    l->rules.checked++;
    view = &super.identity.view;
    check_view(l, view, "the journal");
    if (!records_super(l, false, &old) ||
        !uuid_equal(&old.identity.journal, &super.identity.journal))
        return;
    if (view_id_compare(&view->id, &old.identity.view.id) < 0)
        life_fail(l, "I1: the journal goes from view %u.%u back to %u.%u",
                  old.identity.view.id.epoch, old.identity.view.id.minor,
                  view->id.epoch, view->id.minor);
    check_completion(l, &old.identity.view, view, "the journal");
    if (super.tail_seq == old.tail_seq)
        return;
    records_read(l, UINT32_MAX, true, &all);
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        int at = records_find(&all, &view->instance[i]);

        if (!(view->members & 1u << i) || at < 0 ||
            (l->tampered | l->old_dirs) & 1u << at)
            continue;
        if (super.identity.part_ckpt[i] == 0 ||
            super.identity.part_ckpt[i] > all.label[at].ckpt)
            life_fail(l, "I9: the journal forgets what part %c, which is a "
                      "member, is not known to have", (int)('a' + i));
    }
}

static bool
is_chunk(const char *name)
{
    return name[0] != '\0' && strspn(name, "0123456789") == strlen(name);
}

static bool
is_part(const struct life *l, const char *dir)
{
    for (uint32_t i = 0; i < l->dir_count; i++) {
        if (strcmp(l->dir[i], dir) == 0)
            return true;
    }
    return false;
}

/* Of a snapshot, or of what is to be the volume after the next one. */
static bool
is_foreign_part(const struct life *l, const char *dir)
{
    return (l->policy.snapshot || l->frozen_count > 0) && !is_part(l, dir);
}

/* By the labels of its members, also of those that the engine can't see. */
static bool
was_in_force(const struct life *l, const struct records *all,
             const struct view *view)
{
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        int at = records_find(all, &view->instance[i]);

        if (view->members & 1u << i && at >= 0 &&
            view_id_compare(&all->label[at].view.id, &view->id) < 0)
            return false;
    }
    return true;
}

/* I7, by what the label in this directory and the newest view say. One that was
 * begun, and that the engine can't see, does not count (R3). */
static void
check_reading(struct life *l, const char *dir)
{
    uint32_t dirs = ~(l->old_dirs | l->tampered);
    const struct view *view;
    struct records all;
    struct label label;
    bool journal;

    if (!records_label(l, dir, false, &label))
        return;
    records_read(l, dirs, false, &all);
    view = records_newest(&all, &journal);
    if (view && !was_in_force(l, &all, view)) {
        records_read(l, dirs & ~l->hidden_dirs, false, &all);
        view = records_newest(&all, &journal);
    }
    if (view && (!(view->members & 1u << label.slot) ||
                 !uuid_equal(&view->instance[label.slot], &label.instance)))
        life_fail(l, "I7: a client's read takes bytes of %s, which is not in "
                  "S", dir);
}

/* I3: the view in force is on all its members. */
static void
check_in_force(struct life *l, const char *dir, const char *name)
{
    const struct view *view;
    struct journal_super super;
    struct records all;

    if (l->rules.in_force || !records_super(l, true, &super))
        return;
    l->rules.in_force = true;
    view = &super.identity.view;
    records_read(l, UINT32_MAX, true, &all);
    for (uint32_t i = 0; i < life_parts(&l->policy); i++) {
        int at = records_find(&all, &view->instance[i]);

        if (!(view->members & 1u << i) || at < 0 ||
            (l->tampered | l->old_dirs) & 1u << at)
            continue;
        if (!view_id_equal(&all.label[at].view.id, &view->id))
            life_fail(l, "I3: %s/%s is changed under view %u.%u, which part "
                      "%c does not have", dir, name, view->id.epoch,
                      view->id.minor, (int)('a' + i));
    }
}

static void
witness(void *ctx, const struct sim_seen *seen)
{
    struct life *l = ctx;
    struct rules *u = &l->rules;
    bool changes = seen->is_step && seen->kind != SIM_CALL_SYNC;

    if (l->failed)
        return;
    if (is_chunk(seen->name) && is_part(l, seen->dir) && !seen->data) {
        u->chunk_calls += changes || seen->kind == SIM_CALL_READ;
        u->chunk_changes += changes;
        if (u->in_quiet_open && (changes || seen->kind == SIM_CALL_READ))
            life_fail(l, "I22: opening after a clean close does %s to %s/%s",
                      simio_call_name(seen->kind), seen->dir, seen->name);
        if (u->in_client_read && seen->kind == SIM_CALL_READ)
            check_reading(l, seen->dir);
        if (changes && l->v && lsvd_can_write(l->v) && !l->policy.mirror)
            check_in_force(l, seen->dir, seen->name);
    }
    if (strcmp(seen->name, LABEL_NAME) == 0 ||
        (seen->data && strcmp(seen->dir, "/cache") == 0))
        u->in_force = false;
    if (!seen->data)
        return;
    if (strcmp(seen->name, LABEL_NAME) == 0 &&
        seen->bytes == LABEL_SLOT_BYTES && !is_foreign_part(l, seen->dir))
        check_label(l, seen->dir, seen->data);
    else if (strcmp(seen->dir, "/cache") == 0 && seen->bytes == 4096 &&
             !l->policy.mirror)
        check_super(l, seen->data);
}

void
rules_begin(struct life *l)
{
    simio_set_witness(l->s, witness, l);
}

void
rules_started(struct life *l)
{
    struct rules *u = &l->rules;
    uint32_t epoch = l->v->view.id.epoch;

    if (epoch <= u->epoch)
        life_fail(l, "I6: two starts have epoch %u", epoch);
    u->epoch = epoch;
}
