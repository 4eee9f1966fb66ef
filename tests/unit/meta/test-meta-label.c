/* Labels and views: round trips, damage, the future, and the two slots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/sum.h"
#include "memory-target.h"
#include "meta/label.h"
#include "sample.h"
#include <stdlib.h>

static void
assert_error_names(const char *what)
{
    if (strstr(err_text(), what) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err_text(), what);
}

static void
seal(uint8_t *bytes)
{
    put_le64(bytes + LABEL_SLOT_BYTES - 8,
             sum_bytes(bytes, LABEL_SLOT_BYTES - 8));
}

/* ---- bytes ---- */

static void
assert_same_view(const struct view *a, const struct view *b)
{
    assert_true(view_id_equal(&a->id, &b->id));
    assert_true(view_id_equal(&a->previous, &b->previous));
    assert_int_equal(a->members, b->members);
    assert_int_equal(a->complete_members, b->complete_members);
    assert_true(uuid_equal(&a->journal, &b->journal));
    for (size_t i = 0; i < PARTS_MAX; i++) {
        assert_true(uuid_equal(&a->instance[i], &b->instance[i]));
        assert_true(uuid_equal(&a->absent[i].instance,
                               &b->absent[i].instance));
        assert_true(view_id_equal(&a->absent[i].dropped_by,
                                  &b->absent[i].dropped_by));
        assert_int_equal(a->absent[i].ckpt, b->absent[i].ckpt);
    }
    assert_int_equal(a->history_count, b->history_count);
    for (uint32_t i = 0; i < a->history_count; i++)
        assert_true(view_id_equal(&a->history[i], &b->history[i]));
}

static void
assert_same_label(const struct label *a, const struct label *b)
{
    assert_int_equal(a->incompat, b->incompat);
    assert_int_equal(a->ro_compat, b->ro_compat);
    assert_int_equal(a->compat, b->compat);
    assert_true(uuid_equal(&a->volume, &b->volume));
    assert_true(uuid_equal(&a->instance, &b->instance));
    assert_int_equal(a->geometry, b->geometry);
    assert_int_equal(a->slot, b->slot);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->clean, b->clean);
    assert_int_equal(a->write_count, b->write_count);
    assert_int_equal(a->promised, b->promised);
    assert_int_equal(a->ckpt, b->ckpt);
    assert_int_equal(a->table_generation, b->table_generation);
    assert_int_equal(a->written_at, b->written_at);
    assert_string_equal(a->host, b->host);
    assert_same_view(&a->view, &b->view);
}

static void
label_round_trip(void **state)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    struct label label, back;

    (void)state;
    sample_label(&label);
    label_encode(&label, bytes);
    assert_int_equal(label_decode(bytes, &back), 0);
    assert_same_label(&label, &back);
    label.state = LABEL_INIT;
    label.clean = false;
    label.slot = PARTS_MAX - 1;
    label_encode(&label, bytes);
    assert_int_equal(label_decode(bytes, &back), 0);
    assert_same_label(&label, &back);
}

static void
the_fullest_label_fits(void **state)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    struct label label, back;

    (void)state;
    memset(&label, 0xff, sizeof label);
    label.incompat = 0;
    label.slot = 0;
    label.state = LABEL_LIVE;
    label.clean = true;
    label.view.members = label.view.complete_members = (1u << PARTS_MAX) - 1;
    label.view.history_count = VIEW_HISTORY_MAX;
    memset(label.host, 'h', sizeof label.host);
    label_encode(&label, bytes);
    assert_int_equal(label_decode(bytes, &back), 0);
    assert_int_equal(strlen(back.host), sizeof back.host - 1); /* cut */
    memcpy(label.host, back.host, sizeof label.host);
    assert_same_label(&label, &back);
}

static void
hosts_are_safe_to_print(void **state)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    struct label label, back;

    (void)state;
    sample_label(&label);
    label_encode(&label, bytes);
    memcpy(bytes + 128, "a\x1b[2J\n\xff", 8);
    seal(bytes);
    assert_int_equal(label_decode(bytes, &back), 0);
    assert_string_equal(back.host, "a?[2J??");
}

static void
every_bit_flip_is_detected(void **state)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    struct label label, back;

    (void)state;
    sample_label(&label);
    label_encode(&label, bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] = (uint8_t)(bytes[i] ^ 1 << bit);
            assert_int_equal(label_decode(bytes, &back), -EBADMSG);
            bytes[i] = (uint8_t)(bytes[i] ^ 1 << bit);
        }
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(label_decode(bytes, &back), -EBADMSG);
}

/* A tear at every sector of an older and a newer label. */
static void
every_tear_is_detected(void **state)
{
    uint8_t older[LABEL_SLOT_BYTES], newer[LABEL_SLOT_BYTES];
    uint8_t torn[LABEL_SLOT_BYTES];
    struct label label, back;

    (void)state;
    sample_label(&label);
    label_encode(&label, older);
    label.write_count += 2;
    label.view.history[label.view.history_count - 1].minor++;
    label_encode(&label, newer);
    for (size_t at = 512; at < sizeof torn; at += 512) {
        memcpy(torn, newer, at);
        memcpy(torn + at, older + at, sizeof torn - at);
        assert_int_equal(label_decode(torn, &back), -EBADMSG);
        memcpy(torn, older, at);
        memcpy(torn + at, newer + at, sizeof torn - at);
        assert_int_equal(label_decode(torn, &back), -EBADMSG);
    }
}

static void
the_future_is_refused_not_guessed(void **state)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    struct label label, back;

    (void)state;
    sample_label(&label);
    label_encode(&label, bytes);
    put_le32(bytes + 8, 2);
    seal(bytes);
    assert_int_equal(label_decode(bytes, &back), -EPROTO);
    assert_error_names("format 2");
    put_le32(bytes + 8, 1);
    put_le64(bytes + 16, 1);
    seal(bytes);
    assert_int_equal(label_decode(bytes, &back), -EPROTO);
    assert_error_names("0x1");
}

/* Every number that bounds another, with a right checksum. */
static void
impossible_values_are_damage(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
    } edits[] = {
        { 8, 0 },                                 /* format */
        { 80, PARTS_MAX }, { 80, UINT32_MAX },    /* slot */
        { 84, 0 }, { 84, 3 },                     /* state */
        { 192, 0 }, { 192, 79 }, { 192, 200 }, { 192, 4088 - 200 + 1 },
        { 192, UINT32_MAX },                      /* bytes of the view */
        { 200, PARTS_MAX + 1 }, { 200, 0xffff },  /* slots, no history */
        { 200, 5 << 16 },                         /* members beyond slots */
        { 200, PARTS_MAX | (VIEW_HISTORY_MAX + 1) << 16 },
        { 200, PARTS_MAX | 6 << 16 },             /* more than there are */
        { 208, 1u << PARTS_MAX }, { 208, UINT32_MAX }, /* members */
        { 212, 1u << PARTS_MAX }, { 212, 1u << 31 },   /* complete ones */
    };

    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        uint8_t bytes[LABEL_SLOT_BYTES];
        struct label label, back;
        int r;

        sample_label(&label);
        label_encode(&label, bytes);
        put_le32(bytes + edits[i].at, edits[i].value);
        seal(bytes);
        r = label_decode(bytes, &back);
        if (r != -EBADMSG)
            fail_msg("edit %zu: %d", i, r);
    }
}

/* ---- views ---- */

static void
ids_are_ordered(void **state)
{
    struct view_id a = sample_view_id(1, 9), b = sample_view_id(2, 0);
    struct view_id c = sample_view_id(2, 1), d = c;

    (void)state;
    d.start = sample_uuid(3);
    assert_true(view_id_compare(&a, &b) < 0);
    assert_true(view_id_compare(&c, &b) > 0);
    assert_int_equal(view_id_compare(&c, &d), 0);
    assert_false(view_id_equal(&c, &d)); /* siblings */
    assert_true(view_id_equal(&c, &c));
    a.epoch = UINT32_MAX;
    assert_true(view_id_compare(&a, &b) > 0);
}

static void
history_keeps_the_newest(void **state)
{
    struct view view;

    (void)state;
    memset(&view, 0, sizeof view);
    for (uint32_t i = 1; i <= VIEW_HISTORY_MAX + 10; i++) {
        struct view_id id = sample_view_id(i, 0);

        view_advance(&view, &id);
        assert_int_equal(view.id.epoch, i);
        assert_int_equal(view.previous.epoch, i - 1);
        assert_int_equal(view.history_count,
                         i - 1 < VIEW_HISTORY_MAX ? i - 1 : VIEW_HISTORY_MAX);
        for (uint32_t k = 0; k < view.history_count; k++)
            assert_int_equal(view.history[k].epoch, i - 1 - k);
    }
}

static void
a_view_cut_short_is_damage(void **state)
{
    uint8_t bytes[VIEW_BYTES_MAX];
    struct byte_writer out = { .at = bytes, .left = sizeof bytes };
    struct label label;
    struct view view;
    size_t used;

    (void)state;
    sample_label(&label);
    view_encode(&label.view, &out);
    assert_false(out.overrun);
    used = (size_t)(out.at - bytes);
    for (size_t i = 0; i <= used; i++) {
        uint8_t *exact = malloc(i + 1);
        struct byte_reader in = { .at = exact, .left = i };

        assert_non_null(exact);
        memcpy(exact, bytes, i);
        assert_int_equal(view_decode(&in, &view), i < used ? -EBADMSG : 0);
        free(exact);
    }
    assert_same_view(&label.view, &view);
    out.at = bytes;
    out.left = used - 1;
    out.overrun = false;
    view_encode(&label.view, &out);
    assert_true(out.overrun);
}

/* ---- slots ---- */

static void
store_alternates_and_load_takes_the_newest(void **state)
{
    struct memory_target t;
    struct label label, back;
    int damaged = -1;

    (void)state;
    memory_target_init(&t);
    assert_int_equal(label_load(&t.base, &back, &damaged), -ENOENT);
    assert_error_names("mounted");
    sample_label(&label);
    label.write_count = 0;
    for (uint64_t i = 1; i <= 5; i++) {
        label.ckpt = i * 10;
        assert_int_equal(label_store(&t.base, &label), 0);
        assert_int_equal(label.write_count, i);
        assert_int_equal(memory_target_find(&t, LABEL_NAME)->size,
                         2 * LABEL_SLOT_BYTES);
        assert_int_equal(label_load(&t.base, &back, &damaged), 0);
        assert_int_equal(damaged, 0);
        assert_same_label(&label, &back);
    }
    assert_int_equal(t.syncs, 5);
    memory_target_done(&t);
}

static void
one_damaged_slot_leaves_the_other(void **state)
{
    struct memory_target t;
    struct memory_file *f;
    struct label label, back;
    int damaged;

    (void)state;
    memory_target_init(&t);
    sample_label(&label);
    label.write_count = 0;
    for (int i = 0; i < 4; i++)
        assert_int_equal(label_store(&t.base, &label), 0);
    f = memory_target_find(&t, LABEL_NAME);
    f->bytes[300] ^= 1; /* slot 0: number 4 */
    assert_int_equal(label_load(&t.base, &back, &damaged), 0);
    assert_int_equal(damaged, 1);
    assert_int_equal(back.write_count, 3);
    f->bytes[300] ^= 1;
    f->bytes[LABEL_SLOT_BYTES + 300] ^= 1;
    assert_int_equal(label_load(&t.base, &back, &damaged), 0);
    assert_int_equal(damaged, 1);
    assert_int_equal(back.write_count, 4);
    f->bytes[300] ^= 1;
    assert_int_equal(label_load(&t.base, &back, &damaged), -EBADMSG);
    assert_error_names(LABEL_NAME);
    memory_target_done(&t);
}

static void
misdirected_and_missing_slots_are_damage(void **state)
{
    struct memory_target t;
    struct memory_file *f;
    struct label label, back;
    int damaged;

    (void)state;
    memory_target_init(&t);
    sample_label(&label);
    label.write_count = 0;
    for (int i = 0; i < 3; i++)
        assert_int_equal(label_store(&t.base, &label), 0);
    f = memory_target_find(&t, LABEL_NAME);
    /* Number 3 belongs into slot 1, and was written over slot 0. */
    memcpy(f->bytes, f->bytes + LABEL_SLOT_BYTES, LABEL_SLOT_BYTES);
    assert_int_equal(label_load(&t.base, &back, &damaged), 0);
    assert_int_equal(damaged, 1);
    assert_int_equal(back.write_count, 3);
    memset(f->bytes, 0, LABEL_SLOT_BYTES); /* as if never written */
    assert_int_equal(label_load(&t.base, &back, &damaged), 0);
    assert_int_equal(damaged, 0);
    (void)memory_target_file(&t, LABEL_NAME, LABEL_SLOT_BYTES);
    assert_int_equal(label_load(&t.base, &back, &damaged), -EBADMSG);
    (void)memory_target_file(&t, LABEL_NAME, 0);
    assert_int_equal(label_load(&t.base, &back, &damaged), -EBADMSG);
    memory_target_done(&t);
}

static void
a_label_of_the_future_is_not_overruled(void **state)
{
    struct memory_target t;
    struct memory_file *f;
    struct label label, back;
    int damaged;

    (void)state;
    memory_target_init(&t);
    sample_label(&label);
    label.write_count = 0;
    assert_int_equal(label_store(&t.base, &label), 0);
    assert_int_equal(label_store(&t.base, &label), 0);
    f = memory_target_find(&t, LABEL_NAME);
    put_le64(f->bytes + 16, 2);
    seal(f->bytes);
    assert_int_equal(label_load(&t.base, &back, &damaged), -EPROTO);
    memory_target_done(&t);
}

/* A first store where there is a label already: of the same part it is
 * replaced, of another one it is refused. */
static void
a_first_store_takes_only_its_own_place(void **state)
{
    struct memory_target t;
    struct label label, fresh, back;
    int damaged;

    (void)state;
    memory_target_init(&t);
    sample_label(&label);
    label.write_count = 0;
    for (int i = 0; i < 4; i++)
        assert_int_equal(label_store(&t.base, &label), 0);

    fresh = label;
    fresh.write_count = 0;
    fresh.volume = sample_uuid(77);
    assert_int_equal(label_store(&t.base, &fresh), -EEXIST);
    assert_error_names("part c of another volume");
    fresh.volume = label.volume;
    fresh.slot++;
    assert_int_equal(label_store(&t.base, &fresh), -EEXIST);
    assert_error_names("part c of this volume");
    assert_int_equal(fresh.write_count, 0);
    assert_int_equal(label_load(&t.base, &back, &damaged), 0);
    assert_same_label(&label, &back);

    fresh.slot = label.slot;
    fresh.instance = sample_uuid(78);
    assert_int_equal(label_store(&t.base, &fresh), 0);
    assert_int_equal(label_load(&t.base, &back, &damaged), 0);
    assert_same_label(&fresh, &back); /* count 1 won: 4 is gone */
    assert_int_equal(damaged, 0);

    memory_target_find(&t, LABEL_NAME)->bytes[LABEL_SLOT_BYTES] ^= 1;
    fresh.write_count = 0;
    fresh.volume = sample_uuid(79);
    assert_int_equal(label_store(&t.base, &fresh), 0);

    put_le32(memory_target_find(&t, LABEL_NAME)->bytes + LABEL_SLOT_BYTES + 8,
             2);
    seal(memory_target_find(&t, LABEL_NAME)->bytes + LABEL_SLOT_BYTES);
    fresh.write_count = 0;
    assert_int_equal(label_store(&t.base, &fresh), -EPROTO);
    memory_target_done(&t);
}

/* LA3: nobody knows whether the slot that can't be read is the newer one. */
static void
a_bad_sector_hides_the_label(void **state)
{
    struct memory_target t;
    struct label label, back;
    int damaged;

    (void)state;
    memory_target_init(&t);
    sample_label(&label);
    label.write_count = 0;
    for (int i = 0; i < 4; i++)
        assert_int_equal(label_store(&t.base, &label), 0);
    for (unsigned slot = 0; slot < 2; slot++) {
        t.bad_begin = slot * LABEL_SLOT_BYTES;
        t.bad_end = t.bad_begin + 512;
        assert_int_equal(label_load(&t.base, &back, &damaged), -EIO);
        assert_error_names("can't be read");
    }
    t.bad_end = t.bad_begin = 0;
    for (long nth = 0; nth < 4; nth++) { /* it passes */
        int r;

        t.fail_after = nth;
        t.fail_code = -EIO;
        r = label_load(&t.base, &back, &damaged);
        assert_true(r == -EIO || (r == 0 && back.write_count == 4));
    }
    t.fail_after = -1;
    assert_int_equal(label_load(&t.base, &back, &damaged), 0);
    assert_int_equal(damaged, 0);
    assert_int_equal(back.write_count, 4);
    memory_target_done(&t);
}

/* Whichever call fails: a label can be loaded, the count is right, and the
 * next store works. */
static void
every_call_may_fail(void **state)
{
    bool fired = true;
    long nth;

    (void)state;
    for (nth = 0; fired; nth++) {
        struct memory_target t;
        struct label label, back;
        int damaged, r = 0;
        uint64_t stored = 0;

        memory_target_init(&t);
        sample_label(&label);
        label.write_count = 0;
        t.fail_after = nth;
        t.fail_code = -EIO;
        for (int i = 0; i < 3 && r == 0; i++) {
            r = label_store(&t.base, &label);
            stored += r == 0;
        }
        fired = t.fired;
        t.fail_after = -1;
        assert_int_equal(r, fired ? -EIO : 0);
        assert_int_equal(label.write_count, stored);
        if (stored > 0) {
            assert_int_equal(label_load(&t.base, &back, &damaged), 0);
            assert_true(back.write_count == stored ||
                        back.write_count == stored + 1);
        }
        assert_int_equal(label_store(&t.base, &label), 0);
        assert_int_equal(label_load(&t.base, &back, &damaged), 0);
        assert_int_equal(back.write_count, stored + 1);
        memory_target_done(&t);
    }
    assert_true(nth > 9);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(label_round_trip),
        cmocka_unit_test(the_fullest_label_fits),
        cmocka_unit_test(hosts_are_safe_to_print),
        cmocka_unit_test(every_bit_flip_is_detected),
        cmocka_unit_test(every_tear_is_detected),
        cmocka_unit_test(the_future_is_refused_not_guessed),
        cmocka_unit_test(impossible_values_are_damage),
        cmocka_unit_test(ids_are_ordered),
        cmocka_unit_test(history_keeps_the_newest),
        cmocka_unit_test(a_view_cut_short_is_damage),
        cmocka_unit_test(store_alternates_and_load_takes_the_newest),
        cmocka_unit_test(one_damaged_slot_leaves_the_other),
        cmocka_unit_test(misdirected_and_missing_slots_are_damage),
        cmocka_unit_test(a_label_of_the_future_is_not_overruled),
        cmocka_unit_test(a_first_store_takes_only_its_own_place),
        cmocka_unit_test(a_bad_sector_hides_the_label),
        cmocka_unit_test(every_call_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
