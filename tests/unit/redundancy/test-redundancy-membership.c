/* The rules R1, R3, R5 and that for a part that returns, case by case. */
#include "redundancy/membership.h"
#include "unit.h"
#include <errno.h>
#include <string.h>

enum { A = 1, B = 2, C = 4, D = 8, E = 16, F = 32 };

static struct uuid
uuid_of(uint8_t n)
{
    struct uuid uuid = {{0}};

    uuid.b[0] = n;
    return uuid;
}

static struct view_id
id_of(uint32_t epoch, uint32_t minor, uint8_t start)
{
    return (struct view_id){epoch, minor, uuid_of(start)};
}

/* ---- w ---- */

static void
test_quorum(void **state)
{
    static const uint32_t of_replicas[] = {1, 1, 2, 2, 3, 3, 4};

    (void)state;
    for (uint32_t r = 1; r <= 7; r++)
        assert_int_equal(membership_write_quorum(r, 1, 0),
                         of_replicas[r - 1]);
    assert_int_equal(membership_write_quorum(0, 2, 1), 2);
    assert_int_equal(membership_write_quorum(0, 4, 2), 5);
    assert_int_equal(membership_write_quorum(0, 8, 3), 9);
}

/* ---- R1 ---- */

static void
test_allows(void **state)
{
    static const struct {
        uint32_t complete, members, w;
        bool allowed;
    } cases[] = {
        {A | B, A | B, 1, true},
        {A | B, A, 1, true},
        {A | B, 0, 1, false},
        /* the one member must know what was written last */
        {A, A, 1, true},
        {A, B, 1, false},
        {A, A | B, 1, true},
        {A | B | C, A | B, 2, true},
        {A | B | C, A, 2, false},
        {A | B | C, 0, 2, false},
        /* enough of them, but of Q only one */
        {A | B, A | C, 2, false},
        {A | B, B | C, 2, false},
        {A | B, A | B | C, 2, true},
        {A | B, A | B, 2, true},
        {A | B | C, A | C, 2, true},
        {A | B | C | D | E | F, A | B | C | D | E, 5, true},
        {A | B | C | D | E | F, A | B | C | D, 5, false},
        {A | B | C | D | E, A | B | C | D | F, 5, false},
        {A | B | C | D | E, A | B | C | D | E | F, 5, true},
        /* nothing known complete: nobody may be a member */
        {0, A | B | C, 2, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view view = {.members = A | B | C | D | E | F,
                            .complete_members = cases[i].complete};

        if (membership_allows(&view, cases[i].members, cases[i].w) !=
            cases[i].allowed)
            fail_msg("case %zu", i);
    }
}

/* ---- R3 ---- */

static void
test_proven(void **state)
{
    static const struct {
        uint32_t members, complete, present, w;
        bool proven;
    } cases[] = {
        {A | B, A | B, A | B, 1, true},
        /* the other copy may have gone on without this one */
        {A | B, A | B, A, 1, false},
        {A | B, A | B, 0, 1, false},
        {A, A, A, 1, true},
        /* begun without B, and not known to be complete */
        {A, A | B, A, 1, false},
        {A | B | C, A | B | C, A | B | C, 2, true},
        {A | B | C, A | B | C, A | C, 2, true},
        {A | B | C, A | B | C, B, 2, false},
        {A | B, A | B | C, A, 2, false},
        {A | B, A | B | C, A | B, 2, true},
        {A | B | C | D | E | F, A | B | C | D | E | F, A | B, 5, true},
        {A | B | C | D | E | F, A | B | C | D | E | F, A, 5, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view view = {.members = cases[i].members,
                            .complete_members = cases[i].complete};

        if (membership_proven(&view, cases[i].present, 0, cases[i].w) !=
            cases[i].proven)
            fail_msg("case %zu", i);
    }
}

/* ---- which view is in force ---- */

static struct label
label_of(struct view_id id)
{
    struct label label;

    memset(&label, 0, sizeof label);
    label.view.id = id;
    return label;
}

static void
test_choose(void **state)
{
    struct label old = label_of(id_of(3, 9, 1));
    struct label new = label_of(id_of(4, 0, 2));
    struct label sibling = label_of(id_of(4, 0, 3));
    struct label newest = label_of(id_of(4, 1, 2));
    const struct label *labels[4] = {&old, NULL, &new, &new};
    struct view view;

    (void)state;
    assert_int_equal(membership_choose(labels, 4, &view), 0);
    assert_true(view_id_equal(&view.id, &new.view.id));
    /* two starts with one number: nothing says which of them was it */
    labels[3] = &sibling;
    assert_int_equal(membership_choose(labels, 4, &view), -EEXIST);
    /* a later one decides, wherever it stands */
    labels[1] = &newest;
    assert_int_equal(membership_choose(labels, 4, &view), 0);
    assert_true(view_id_equal(&view.id, &newest.view.id));
    labels[0] = labels[1] = labels[2] = labels[3] = NULL;
    assert_int_equal(membership_choose(labels, 4, &view), -ENOENT);
}

/* Two views of one number: one of them may be void. */
static void
test_choose_between_siblings(void **state)
{
    struct label a = label_of(id_of(4, 0, 1)), b = label_of(id_of(4, 0, 1));
    struct label c = label_of(id_of(4, 0, 2));
    const struct label *labels[3] = {&a, &b, &c};
    struct view view;

    (void)state;
    a.instance = uuid_of(10);
    b.instance = uuid_of(11);
    c.instance = uuid_of(12);
    a.view.members = A | B;
    c.view.members = B | C;
    for (uint8_t i = 0; i < 3; i++)
        a.view.instance[i] = c.view.instance[i] = uuid_of(10 + i);
    b.view = a.view;
    /* b is a member of both, and holds the one of a */
    assert_int_equal(membership_choose(labels, 3, &view), 0);
    assert_true(view_id_equal(&view.id, &a.view.id));
    /* the b that c knows is another instance: nothing decides */
    c.view.instance[1] = uuid_of(99);
    assert_int_equal(membership_choose(labels, 3, &view), -EEXIST);
    /* nor does it when b is out of sight */
    c.view.instance[1] = uuid_of(11);
    labels[1] = NULL;
    assert_int_equal(membership_choose(labels, 3, &view), -EEXIST);
    /* or when each has one of the other's members */
    labels[1] = &b;
    a.view.members = b.view.members = A | B | C;
    assert_int_equal(membership_choose(labels, 3, &view), -EEXIST);
    /* one that has an older view says nothing */
    a.view.members = b.view.members = A | B;
    b.view.id = id_of(3, 0, 1);
    assert_int_equal(membership_choose(labels, 3, &view), -EEXIST);
}

/* ---- a part that returns ---- */

enum { SLOT = 2, OURS = 7, STRANGE = 8 };

/* The volume is at 5.`minor`; SLOT was dropped by 5.2, which means that 5.1 was
 * the last view that it could have. Before that were 4.0 to 4.3. */
static void
volume_at(struct view *view, uint32_t minor)
{
    struct view_id id;

    memset(view, 0, sizeof *view);
    for (uint32_t i = 0; i <= 3; i++) {
        id = id_of(4, i, 1);
        view_advance(view, &id);
    }
    for (uint32_t i = 0; i <= minor; i++) {
        id = id_of(5, i, 2);
        view_advance(view, &id);
    }
    view->members = A | B;
    view->absent[SLOT].instance = uuid_of(OURS);
    view->absent[SLOT].dropped_by = id_of(5, 2, 2);
}

static enum membership_return
returning(uint8_t instance, struct view_id id, uint32_t volume_minor,
          const char **why)
{
    struct label label = label_of(id);
    struct view view;

    label.instance = uuid_of(instance);
    volume_at(&view, volume_minor);
    return membership_returning(&label, SLOT, &view, why);
}

static void
test_returning(void **state)
{
    static const struct {
        uint8_t instance;
        uint32_t epoch, minor;
        uint8_t start;
        enum membership_return result;
    } cases[] = {
        {OURS, 5, 1, 2, RETURN_RESYNC},
        {OURS, 5, 0, 2, RETURN_RESYNC},
        {OURS, 4, 3, 1, RETURN_RESYNC},  /* from last week's backup */
        {OURS, 4, 0, 1, RETURN_RESYNC},
        {STRANGE, 5, 1, 2, RETURN_DIVERGED},
        {0, 5, 1, 2, RETURN_DIVERGED},
        {OURS, 5, 2, 2, RETURN_DIVERGED}, /* the view that dropped it */
        {OURS, 5, 3, 2, RETURN_DIVERGED}, /* it knows what it was not in */
        {OURS, 5, 2, 3, RETURN_DIVERGED}, /* of that number, another start */
        {OURS, 6, 0, 3, RETURN_DIVERGED}, /* from the future */
        {OURS, 5, 1, 3, RETURN_DIVERGED}, /* before, but never ours */
        {OURS, 4, 4, 1, RETURN_DIVERGED}, /* between two of ours */
        {OURS, 3, 0, 1, RETURN_DIVERGED}, /* older, in a history with room */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view_id id = id_of(cases[i].epoch, cases[i].minor,
                                  cases[i].start);
        const char *why = NULL;

        if (returning(cases[i].instance, id, 4, &why) != cases[i].result)
            fail_msg("case %zu: %s", i, why);
        assert_non_null(why);
        assert_true((cases[i].result == RETURN_DIVERGED) == (why[0] != 0));
    }
}

/* A journal was given up: there may be bytes that no table tells of. */
static void
test_returning_after_a_loss(void **state)
{
    struct label label = label_of(id_of(5, 1, 2));
    struct view view;
    const char *why;

    (void)state;
    label.instance = uuid_of(OURS);
    volume_at(&view, 4);
    view.absent[SLOT].ckpt = VIEW_CKPT_UNKNOWN;
    assert_int_equal(membership_returning(&label, SLOT, &view, &why),
                     RETURN_FULL);
    assert_string_equal(why, "");
    label.view.id = id_of(5, 1, 3);
    assert_int_equal(membership_returning(&label, SLOT, &view, &why),
                     RETURN_DIVERGED);
}

/* Fewer than w members, all that was left: they, and whoever joins them. */
static void
test_allows_after_a_loss(void **state)
{
    struct view view = {.members = 1, .complete_members = 1};

    (void)state;
    assert_false(membership_allows(&view, 1, 2));
    assert_true(membership_allows(&view, 3, 2));
    assert_false(membership_allows(&view, 6, 2));
    view.complete_members = 0; /* never */
    assert_false(membership_allows(&view, 7, 2));
}

/* When the history is full, what is older than its end may have been ours. */
static void
test_returning_beyond_the_history(void **state)
{
    const char *why;
    /* as many views as make 4.2 the one that has just fallen out */
    enum { LATER = VIEW_HISTORY_MAX - 1 };

    (void)state;
    assert_int_equal(returning(OURS, id_of(4, 3, 1), LATER, &why),
                     RETURN_RESYNC);
    assert_int_equal(returning(OURS, id_of(4, 2, 1), LATER, &why),
                     RETURN_FULL);
    assert_string_equal(why, "");
    assert_int_equal(returning(OURS, id_of(1, 0, 9), LATER, &why),
                     RETURN_FULL);
    /* within what is kept it must be one of those */
    assert_int_equal(returning(OURS, id_of(5, 0, 9), LATER, &why),
                     RETURN_DIVERGED);
    /* of the number of the last that is kept, and not that one */
    assert_int_equal(returning(OURS, id_of(4, 3, 9), LATER, &why),
                     RETURN_DIVERGED);
    /* and an instance that is not known stays so, however old it is */
    assert_int_equal(returning(STRANGE, id_of(1, 0, 9), LATER, &why),
                     RETURN_DIVERGED);
}

/* ---- R5 ---- */

enum { MEMBER = 1 }; /* a slot that the view of volume_at counts in */

static void
member_of(const struct view *view, struct label *label)
{
    *label = label_of(view->id);
    label->instance = view->instance[MEMBER];
    label->promised = view->id.epoch;
    label->ckpt = 100;
}

static void
test_objection(void **state)
{
    struct view view;
    struct label label;

    (void)state;
    volume_at(&view, 4);
    view.instance[MEMBER] = uuid_of(OURS);
    view.journal = uuid_of(OURS);
    member_of(&view, &label);
    assert_null(membership_objection(&label, MEMBER, &view, 100, 100));
    assert_non_null(membership_objection(&label, SLOT, &view, 0, 0));
    label.instance = uuid_of(STRANGE);
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 0));
    member_of(&view, &label);
    /* the journal knows better than a label that was put back */
    assert_non_null(membership_objection(&label, MEMBER, &view, 101, 100));
    /* what others have does not count: the journal tells what is missing */
    assert_null(membership_objection(&label, MEMBER, &view, 100, 200));
    /* it does where there is none */
    view.journal = uuid_of(0);
    assert_null(membership_objection(&label, MEMBER, &view, 0, 100));
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 101));
}

/* Which views a member's label may have, whatever its checkpoint. */
static void
test_objection_to_the_view(void **state)
{
    struct view view;
    struct label label;

    (void)state;
    volume_at(&view, 4);
    view.instance[MEMBER] = uuid_of(OURS);
    member_of(&view, &label);
    label.view.id = view.previous; /* a cut while the view was written */
    assert_null(membership_objection(&label, MEMBER, &view, 0, 100));
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 101));
    label.view.id = id_of(5, 2, 2); /* ours, but the one before that */
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 0));
    label.view.id = id_of(5, 3, 9); /* of that number, and not ours */
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 0));
    label.view.id = id_of(5, 5, 2); /* later than the one in force */
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 0));
}

/* Every member promised the epoch before the view was begun (R4): who has not
 * is an old copy, even if its view is the one before. */
static void
test_objection_to_the_promise(void **state)
{
    struct view view;
    struct label label;

    (void)state;
    volume_at(&view, 0);
    view.instance[MEMBER] = uuid_of(OURS);
    member_of(&view, &label);
    label.promised = view.id.epoch - 1;
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 0));
    label.view.id = view.previous; /* 4.3: of the start before */
    assert_non_null(membership_objection(&label, MEMBER, &view, 0, 0));
    label.promised = view.id.epoch;
    assert_null(membership_objection(&label, MEMBER, &view, 0, 0));
    label.promised = view.id.epoch + 1; /* to a start that came no further */
    assert_null(membership_objection(&label, MEMBER, &view, 0, 0));
}

/* ---- R4 ---- */

static void
test_next_epoch(void **state)
{
    struct label promised = label_of(id_of(4, 0, 1));
    struct label used = label_of(id_of(9, 0, 1));
    const struct label *labels[3] = {&promised, NULL, NULL};
    struct view view = {.id = id_of(5, 3, 1)};

    (void)state;
    assert_int_equal(membership_next_epoch(labels, 3, &view), 6);
    promised.promised = 8; /* to a start that came no further */
    assert_int_equal(membership_next_epoch(labels, 3, &view), 9);
    labels[2] = &used;
    assert_int_equal(membership_next_epoch(labels, 3, &view), 10);
    promised.promised = UINT32_MAX; /* and does not begin anew */
    assert_int_equal(membership_next_epoch(labels, 3, &view), UINT32_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quorum),
        cmocka_unit_test(test_allows),
        cmocka_unit_test(test_proven),
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_choose_between_siblings),
        cmocka_unit_test(test_returning),
        cmocka_unit_test(test_returning_beyond_the_history),
        cmocka_unit_test(test_returning_after_a_loss),
        cmocka_unit_test(test_allows_after_a_loss),
        cmocka_unit_test(test_objection),
        cmocka_unit_test(test_objection_to_the_view),
        cmocka_unit_test(test_objection_to_the_promise),
        cmocka_unit_test(test_next_epoch),
    };

    return cmocka_run_group_tests_name("redundancy-membership", tests, NULL,
                                       NULL);
}
