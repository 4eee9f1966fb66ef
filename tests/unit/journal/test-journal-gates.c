/* What must wait for what: one call is held in the middle of its I/O, and the
 * others show whether they wait for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

#include "base/err.h"
#include "base/sum.h"
#include <sched.h>
#include <stdatomic.h>

#define BLOCK 512u

enum call_kind { APPEND, ADVANCE, SYNC, SYNC_SEEN };

/* A call of the journal on a thread of its own. */
struct call {
    struct rig *rig;
    enum call_kind kind;
    uint64_t block, number;
    int result;
    bool durable; /* SYNC_SEEN: number is, when it returns */
    atomic_bool done;
    pthread_t thread;
};

static void *
call_main(void *arg)
{
    struct call *c = arg;
    uint64_t ckpt[PARTS_MAX] = { 0 };
    uint8_t data[BLOCK];
    uint64_t sum;

    switch (c->kind) {
    case APPEND:
        rig_fill(c->rig, c->block, c->number, data);
        sum = sum_block(rig_seed(NULL, c->block), data, BLOCK);
        c->result = journal_append_write(c->rig->j, c->block, 1, &sum, data);
        break;
    case ADVANCE:
        c->result = journal_advance(c->rig->j, ckpt);
        break;
    case SYNC:
        c->result = journal_sync(c->rig->j);
        break;
    case SYNC_SEEN:
        c->result = journal_sync_seen(c->rig->j, c->number);
        c->durable = journal_is_durable(c->rig->j, c->number);
        break;
    }
    atomic_store(&c->done, true);
    return NULL;
}

static void
start(struct call *c, struct rig *rig, enum call_kind kind, uint64_t block,
      uint64_t number)
{
    *c = (struct call){ .rig = rig, .kind = kind, .block = block,
                        .number = number };
    assert_int_equal(pthread_create(&c->thread, NULL, call_main, c), 0);
}

static int
finish(struct call *c)
{
    pthread_join(c->thread, NULL);
    return c->result;
}

/* Let the others run: a call that does not wait as it should gets the time to
 * show it. (Too little time makes a bug go unseen, never a failure.) */
static void
let_others_run(void)
{
    for (unsigned i = 0; i < 3000; i++)
        sched_yield();
}

static uint64_t
number_in_journal(struct rig *rig, uint64_t block)
{
    uint8_t content[BLOCK];
    uint64_t number;

    if (journal_read(rig->j, block, rig_seed(NULL, block), content) != 1)
        return 0;
    memcpy(&number, content, sizeof number);
    return number;
}

/* Versions far apart: block 0 is flushed as 1, then much else. */
static void
flush_an_old_version(struct rig *rig)
{
    rig_init(rig, NULL, BLOCK, 8, 64, 65536, 0);
    assert_int_equal(rig_write(rig, 0, 1), 0);
    for (unsigned i = 0; i < 15; i++)
        assert_int_equal(rig_write(rig, 8, 1), 0);
    assert_int_equal(rig_sync(rig), 0);
}

/* What destage puts in place is what the index shows, also of a record whose
 * append waits for the one before it: it must not be in place before both are
 * durable (D3 of destage.c). */
static void
what_is_seen_waits_for_its_predecessor(void **state)
{
    struct call first, second, sync;
    struct journal_block seen;
    uint64_t zero_seq;
    struct rig rig;
    size_t total;

    (void)state;
    flush_an_old_version(&rig);
    cut_target_set_gate(&rig.cut, 0);
    start(&first, &rig, APPEND, 20, 100);
    cut_target_wait_gate(&rig.cut);
    start(&second, &rig, APPEND, 32, 101);
    while (number_in_journal(&rig, 32) != 101)
        sched_yield();
    assert_int_equal(journal_chunk_blocks(rig.j, 4, &seen, 1, &total,
                                          &zero_seq), 1);
    start(&sync, &rig, SYNC_SEEN, 0, seen.seq);
    let_others_run();
    assert_false(atomic_load(&sync.done));
    cut_target_open_gate(&rig.cut);
    assert_int_equal(finish(&sync), 0);
    assert_true(sync.durable);
    assert_int_equal(finish(&first), 0);
    assert_int_equal(finish(&second), 0);
    rig_done(&rig);
}

static void
no_answer_before_its_predecessor(void **state)
{
    struct call first, second;
    struct rig rig;

    (void)state;
    flush_an_old_version(&rig);
    cut_target_set_gate(&rig.cut, 0);
    start(&first, &rig, APPEND, 20, 100);
    cut_target_wait_gate(&rig.cut);
    start(&second, &rig, APPEND, 0, 200);
    while (number_in_journal(&rig, 0) != 200) /* written and indexed */
        sched_yield();
    let_others_run();
    assert_false(atomic_load(&second.done));
    assert_false(atomic_load(&first.done));
    cut_target_open_gate(&rig.cut);
    assert_int_equal(finish(&first), 0);
    assert_int_equal(finish(&second), 0);
    rig_done(&rig);
}

static void
a_failed_predecessor_fails_its_successors(void **state)
{
    struct call first, second;
    struct rig rig;

    (void)state;
    flush_an_old_version(&rig);
    cut_target_set_gate(&rig.cut, 0);
    start(&first, &rig, APPEND, 20, 100);
    cut_target_wait_gate(&rig.cut);
    start(&second, &rig, APPEND, 0, 200);
    while (number_in_journal(&rig, 0) != 200)
        sched_yield();
    rig.cut.calls_left = 0;
    cut_target_open_gate(&rig.cut);
    assert_int_equal(finish(&first), -EIO);
    assert_int_equal(finish(&second), -EIO);
    cut_target_cut_records(&rig.cut);
    assert_int_equal(rig_reopen(&rig), 0);
    rig_check(&rig);
    rig_done(&rig);
}

/* J3: the old version may go only when the new one can't be lost, and that
 * hangs on every record before it. */
static void
the_tail_waits_for_every_record_before_it_moves(void **state)
{
    struct call hole, successor, advance;
    struct rig rig;

    (void)state;
    flush_an_old_version(&rig);
    cut_target_set_gate(&rig.cut, 0);
    start(&hole, &rig, APPEND, 20, 100);
    cut_target_wait_gate(&rig.cut);
    start(&successor, &rig, APPEND, 0, 200);
    while (number_in_journal(&rig, 0) != 200)
        sched_yield();
    start(&advance, &rig, ADVANCE, 0, 0);
    let_others_run();
    assert_false(atomic_load(&advance.done));
    cut_target_open_gate(&rig.cut);
    assert_int_equal(finish(&hole), 0);
    assert_int_equal(finish(&successor), 0);
    assert_int_equal(finish(&advance), 0);
    rig_done(&rig);
}

/* The same in one thread: the superblock reaches the medium, the record that
 * replaced the old version does not. */
static void
the_tail_moves_after_what_replaced_it(void **state)
{
    struct rig rig;

    (void)state;
    for (long calls = 0; calls < 4; calls++) {
        flush_an_old_version(&rig);
        assert_int_equal(rig_write(&rig, 0, 1), 0);
        rig.cut.calls_left = calls; /* of sync, copy, copy, sync */
        assert_int_equal(rig_advance(&rig), -EIO);
        cut_target_cut_records(&rig.cut);
        if (rig_reopen(&rig) < 0)
            fail_msg("after %ld calls: %s", calls, err_text());
        rig_adopt(&rig);
        rig_done(&rig);
    }
}

/* U2: no space is reused before the superblock that frees it is durable. */
static void
space_is_free_after_the_superblock(void **state)
{
    struct journal_space space;
    struct call advance;
    struct rig rig;
    size_t done;
    int r;

    (void)state;
    for (long calls = 0; calls < 3; calls++) { /* copy, copy, sync */
        rig_init(&rig, NULL, BLOCK, 8, 64, 65536, 0);
        while ((r = rig_write(&rig, 3, 1)) == 0)
            ;
        assert_int_equal(r, -EAGAIN);
        assert_int_equal(rig_destage(&rig, 64, &done), 0);
        cut_target_set_gate(&rig.cut, calls);
        start(&advance, &rig, ADVANCE, 0, 0);
        cut_target_wait_gate(&rig.cut);
        assert_int_equal(rig_write(&rig, 4, 1), -EAGAIN);
        cut_target_open_gate(&rig.cut);
        assert_int_equal(finish(&advance), 0);
        journal_space(rig.j, &space);
        assert_int_equal(space.used_bytes, 0);
        assert_int_equal(rig_write(&rig, 4, 1), 0);
        rig_check(&rig);
        rig_done(&rig);
    }
}

/* Records that come while the tail moves to where they begin. */
static void
appends_go_on_while_the_tail_moves(void **state)
{
    struct call advance;
    struct rig rig;
    size_t done;

    (void)state;
    rig_init(&rig, NULL, BLOCK, 8, 64, 65536, 0);
    for (unsigned lap = 0; lap < 200; lap++) {
        assert_int_equal(rig_write(&rig, 1, 2), 0);
        assert_int_equal(rig_destage(&rig, 64, &done), 0);
        cut_target_set_gate(&rig.cut, 2);
        start(&advance, &rig, ADVANCE, 0, 0);
        cut_target_wait_gate(&rig.cut);
        assert_int_equal(rig_write(&rig, 4, 1), 0);
        cut_target_open_gate(&rig.cut);
        assert_int_equal(finish(&advance), 0);
        assert_int_equal(rig_write(&rig, 5, 1), 0);
        assert_int_equal(rig_advance(&rig), 0); /* it stays before block 4 */
        rig_check(&rig);
        assert_int_equal(rig_reopen(&rig), 0);
        rig_check(&rig);
        assert_int_equal(rig_destage(&rig, 64, &done), 0);
        assert_int_equal(rig_advance(&rig), 0);
    }
    rig_done(&rig);
}

/* S1: what came while a sync ran is not covered by it. */
static void
a_sync_covers_what_came_before_it(void **state)
{
    struct call sync;
    struct rig rig;
    uint64_t syncs;

    (void)state;
    flush_an_old_version(&rig);
    assert_int_equal(rig_write(&rig, 20, 1), 0);
    cut_target_set_gate(&rig.cut, 0);
    start(&sync, &rig, SYNC, 0, 0);
    cut_target_wait_gate(&rig.cut);
    assert_int_equal(rig_write(&rig, 21, 1), 0);
    cut_target_open_gate(&rig.cut);
    assert_int_equal(finish(&sync), 0);
    syncs = rig.cut.syncs;
    assert_int_equal(rig_sync(&rig), 0);
    assert_int_equal(rig.cut.syncs, syncs + 1);
    cut_target_cut_records(&rig.cut);
    assert_int_equal(rig_reopen(&rig), 0);
    rig_check(&rig);
    rig_done(&rig);
}

/* Many wait for one sync, which is followed by one for all who came late. */
static void
late_comers_share_the_next_sync(void **state)
{
    struct call leader, late[6];
    struct rig rig;
    uint64_t syncs;

    (void)state;
    flush_an_old_version(&rig);
    assert_int_equal(rig_write(&rig, 20, 1), 0);
    syncs = rig.cut.syncs;
    cut_target_set_gate(&rig.cut, 0);
    start(&leader, &rig, SYNC, 0, 0);
    cut_target_wait_gate(&rig.cut);
    assert_int_equal(rig_write(&rig, 21, 1), 0);
    for (unsigned i = 0; i < 6; i++)
        start(&late[i], &rig, SYNC, 0, 0);
    let_others_run();
    for (unsigned i = 0; i < 6; i++)
        assert_false(atomic_load(&late[i].done));
    cut_target_open_gate(&rig.cut);
    assert_int_equal(finish(&leader), 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(finish(&late[i]), 0);
    assert_int_equal(rig.cut.syncs, syncs + 2);
    rig_done(&rig);
}

/* J5: also for those who wait for the sync of another one, or for the next. */
static void
a_failed_sync_fails_those_who_wait_for_it(void **state)
{
    struct call leader, late[6];
    struct rig rig;

    (void)state;
    flush_an_old_version(&rig);
    assert_int_equal(rig_write(&rig, 20, 1), 0);
    rig.cut.calls_left = 0;
    cut_target_set_gate(&rig.cut, 0);
    start(&leader, &rig, SYNC, 0, 0);
    cut_target_wait_gate(&rig.cut);
    rig.cut.calls_left = -1; /* only that sync fails */
    for (unsigned i = 0; i < 3; i++)
        start(&late[i], &rig, SYNC, 0, 0);
    let_others_run();
    assert_int_equal(rig_write(&rig, 21, 1), 0);
    for (unsigned i = 3; i < 6; i++)
        start(&late[i], &rig, SYNC, 0, 0);
    let_others_run();
    cut_target_open_gate(&rig.cut);
    assert_int_equal(finish(&leader), -EIO);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(finish(&late[i]), -EIO);
    rig_done(&rig);
}

/* Whatever it is that the medium does not answer to, it can be seen; and that
 * something came back, too. */
static void
what_is_under_way_can_be_seen(void **state)
{
    static const struct { enum call_kind kind; long after; } hold[] = {
        { APPEND, 0 }, { SYNC, 0 },
        { ADVANCE, 0 }, { ADVANCE, 1 }, { ADVANCE, 2 }, { ADVANCE, 3 },
    };
    uint64_t mark, before = 0;
    struct call held;
    struct rig rig;

    (void)state;
    flush_an_old_version(&rig);
    for (unsigned i = 0; i < sizeof hold / sizeof hold[0]; i++) {
        assert_int_equal(rig_write(&rig, 20, 1), 0);
        assert_int_equal(journal_under_way(rig.j), 0);
        cut_target_set_gate(&rig.cut, hold[i].after);
        start(&held, &rig, hold[i].kind, 21, 1 + i);
        cut_target_wait_gate(&rig.cut);
        mark = journal_under_way(rig.j);
        assert_int_not_equal(mark, 0);
        assert_int_equal(journal_under_way(rig.j), mark);
        assert_int_not_equal(mark, before);
        before = mark;
        cut_target_open_gate(&rig.cut);
        assert_int_equal(finish(&held), 0);
    }
    rig_done(&rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_seen_waits_for_its_predecessor),
        cmocka_unit_test(no_answer_before_its_predecessor),
        cmocka_unit_test(a_failed_predecessor_fails_its_successors),
        cmocka_unit_test(the_tail_waits_for_every_record_before_it_moves),
        cmocka_unit_test(the_tail_moves_after_what_replaced_it),
        cmocka_unit_test(space_is_free_after_the_superblock),
        cmocka_unit_test(appends_go_on_while_the_tail_moves),
        cmocka_unit_test(a_sync_covers_what_came_before_it),
        cmocka_unit_test(late_comers_share_the_next_sync),
        cmocka_unit_test(a_failed_sync_fails_those_who_wait_for_it),
        cmocka_unit_test(what_is_under_way_can_be_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
