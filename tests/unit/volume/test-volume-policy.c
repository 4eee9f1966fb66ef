/* When a part is called failing or slow, from samples with the time they were
 * taken; and what comes of it. */
#include "faulty-io.h"
#include "target/fault.h"
#include "target/guard.h"
#include "unit.h"
#include "volume/policy.h"
#include "world.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS = 3, FAST = 10 /* 1 ms */, LATE = 19 /* 0.5 s */ };

struct judge {
    struct policy policy;
    struct policy_sample sample[PARTS];
    struct policy_verdict verdict;
    uint64_t now_ns;
};

static void
look(struct judge *j)
{
    j->now_ns += POLICY_LOOK_NS;
    policy_look(&j->policy, j->now_ns, j->sample, PARTS, &j->verdict);
}

static void
begin(struct judge *j)
{
    memset(j, 0, sizeof *j);
    j->now_ns = 12345 * POLICY_LOOK_NS;
    for (int i = 0; i < PARTS; i++)
        j->sample[i].in_use = true;
    look(j);
}

/* So many looks, with operations of these classes on part 0 and on others. */
static void
run(struct judge *j, enum policy_kind kind, unsigned looks, unsigned first,
    unsigned others)
{
    while (looks-- > 0) {
        j->sample[0].bucket[kind][first] += 50;
        for (int i = 1; i < PARTS; i++)
            j->sample[i].bucket[kind][others] += 50;
        look(j);
    }
}

static void
test_errors_of_an_hour(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    j.sample[1].errors = POLICY_ERRORS_MAX;
    look(&j);
    assert_int_equal(j.verdict.failing, 0);
    j.sample[1].errors++;
    look(&j);
    assert_int_equal(j.verdict.failing, 2);
    assert_int_equal(j.verdict.errors[1], POLICY_ERRORS_MAX + 1);
    for (unsigned i = 0; i < 59 * 6 - 1; i++)
        look(&j);
    assert_int_equal(j.verdict.failing, 2);
    for (unsigned i = 0; i < 2 * 6; i++)
        look(&j);
    assert_int_equal(j.verdict.failing, 0);
    assert_int_equal(j.verdict.errors[1], 0);
}

/* One every four minutes is fifteen in an hour. */
static void
test_errors_now_and_then(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    for (unsigned i = 0; i < 5000; i++) {
        j.sample[0].errors += i % 24 == 0;
        look(&j);
        assert_int_equal(j.verdict.failing, 0);
    }
}

/* What it had before it was away does not count; nor do counters that begin
 * anew. */
static void
test_absence_forgets(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    j.sample[0].errors = 100;
    look(&j);
    assert_int_equal(j.verdict.failing, 1);
    j.sample[0].in_use = false;
    look(&j);
    assert_int_equal(j.verdict.failing, 0);
    j.sample[0].in_use = true;
    look(&j);
    look(&j);
    assert_int_equal(j.verdict.failing, 0);
    j.sample[0].errors = 5;
    look(&j);
    assert_int_equal(j.verdict.errors[0], 0);
}

static void
test_slow_for_a_minute(void **state)
{
    (void)state;
    for (int kind = 0; kind < POLICY_KINDS; kind++) {
        enum policy_kind k = (enum policy_kind)kind;
        struct judge j;

        begin(&j);
        run(&j, k, 10, FAST, FAST);
        run(&j, k, 5, LATE, FAST);
        assert_int_equal(j.verdict.slow, 0);
        run(&j, k, 1, LATE, FAST);
        assert_int_equal(j.verdict.slow, 1);
        assert_in_range(j.verdict.late_us[0], 100000, 1 << LATE);
        run(&j, k, 5, FAST, FAST);
        assert_int_equal(j.verdict.slow, 1);
        run(&j, k, 1, FAST, FAST);
        assert_int_equal(j.verdict.slow, 0);
    }
}

/* One good look in between, and the minute begins anew. */
static void
test_not_slow_all_the_time(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    for (int i = 0; i < 20; i++) {
        run(&j, POLICY_READ, 5, LATE, FAST);
        run(&j, POLICY_READ, 1, FAST, FAST);
        assert_int_equal(j.verdict.slow, 0);
    }
}

static void
test_all_are_slow(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    run(&j, POLICY_READ, 50, LATE, LATE);
    assert_int_equal(j.verdict.slow, 0);
}

/* Much slower than the others, but fast enough. */
static void
test_fast_enough(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    run(&j, POLICY_READ, 50, 16, 1);
    assert_int_equal(j.verdict.slow, 0);
}

/* Nobody to compare with: as it was before. */
static void
test_alone(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    j.sample[1].in_use = j.sample[2].in_use = false;
    look(&j);
    run(&j, POLICY_READ, 200, FAST, 0);
    for (int i = 0; i < 6; i++) { /* few, or they are what is usual */
        j.sample[0].bucket[POLICY_READ][LATE] += 6;
        look(&j);
    }
    assert_int_equal(j.verdict.slow, 1);
}

/* Avoided by reads, it is not read, and can't be seen to be well. */
static void
test_another_chance(void **state)
{
    struct judge j;

    (void)state;
    begin(&j);
    run(&j, POLICY_READ, 6, LATE, FAST);
    assert_int_equal(j.verdict.slow, 1);
    for (int i = 0; i < 59; i++)
        look(&j);
    assert_int_equal(j.verdict.slow, 1);
    look(&j);
    assert_int_equal(j.verdict.slow, 0);
}

/* ---- of a volume ---- */

enum { BLOCK = 4096, CHUNK = 256 << 10, BYTES = 1 << 20 };

static void
spoil(struct world *w, const char *name)
{
    char path[512];
    uint8_t bytes[CHUNK];
    off_t at;
    int fd;

    memset(bytes, 0x5a, sizeof bytes);
    world_path(w, name, path);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    at = lseek(fd, 0, SEEK_END) - CHUNK;
    assert_int_equal(pwrite(fd, bytes, CHUNK, at), CHUNK);
    close(fd);
}

static const struct lsvd_part_status *
part_b(struct world *w)
{
    return &world_status(w)->part[1];
}

/* Every block of a file is bad: named, and dropped if that is wanted; it stays
 * away for an hour, and is then taken back. */
static void
failing(const char *setting, uint32_t replicas, bool dropped)
{
    const struct kind kind = {.replicas = replicas, .block_bytes = BLOCK,
                              .chunk_bytes = CHUNK, .size_bytes = BYTES};
    const char *const settings[] = {setting, NULL};
    uint8_t *bytes = calloc(1, BYTES);
    uint64_t random = 8;
    struct faulty_io io;
    struct world w;

    assert_non_null(bytes);
    faulty_io_init(&io);
    world_init(&w, &kind);
    w.env.io = &io.io;
    w.env.ram_bytes = 1;
    w.env.settings = settings;
    world_open(&w);
    random_fill(&random, bytes, BYTES);
    MUST(lsvd_pwrite(w.volume, bytes, BYTES, 0, 0));
    world_drain(&w);
    lsvd_watch(w.volume);
    spoil(&w, "b/1"); /* replica 1 is asked first for chunk 1 */
    MUST(lsvd_pread(w.volume, bytes, CHUNK, 0));
    io.ahead_ns += POLICY_LOOK_NS;
    lsvd_watch(w.volume);
    assert_true(part_b(&w)->failing);
    world_drain(&w);
    assert_int_equal(part_b(&w)->state,
                     dropped ? LSVD_PART_ERROR : LSVD_PART_OK);
    if (dropped)
        assert_non_null(strstr(part_b(&w)->problem, "errors in an hour"));
    io.ahead_ns += POLICY_AWAY_NS - 2 * POLICY_LOOK_NS;
    lsvd_watch(w.volume);
    world_drain(&w);
    assert_int_equal(part_b(&w)->state,
                     dropped ? LSVD_PART_ERROR : LSVD_PART_OK);
    io.ahead_ns += 3 * POLICY_LOOK_NS;
    lsvd_watch(w.volume);
    world_drain(&w);
    assert_int_equal(part_b(&w)->state, LSVD_PART_OK);
    assert_false(part_b(&w)->failing && dropped);
    world_close(&w);
    world_done(&w);
    free(bytes);
}

static void
test_failing_is_named(void **state)
{
    (void)state;
    failing("failing-part=warn", 3, false);
}

static void
test_failing_is_dropped(void **state)
{
    (void)state;
    failing("failing-part=drop", 3, true);
}

/* A world with one part whose syncs take their time. */
struct slow_world {
    struct faulty_io clock; /* for its clock alone */
    struct io *fault, *guard;
    struct world w;
    uint8_t bytes[BYTES], found[BYTES];
    uint64_t random;
};

static struct slow_world *
slow_world_new(const char *const *settings)
{
    const struct kind kind = {.replicas = 3, .block_bytes = BLOCK,
                              .chunk_bytes = CHUNK, .size_bytes = BYTES};
    struct slow_world *s = calloc(1, sizeof *s);

    assert_non_null(s);
    s->random = 9;
    faulty_io_init(&s->clock);
    MUST(fault_new(&s->clock.io, NULL, NULL, NULL, &s->fault));
    MUST(guard_new(s->fault, 60000, &s->guard));
    world_init(&s->w, &kind);
    s->w.env.io = s->guard;
    s->w.env.ram_bytes = 1;
    s->w.env.settings = settings;
    world_open(&s->w);
    random_fill(&s->random, s->bytes, BYTES);
    MUST(lsvd_pwrite(s->w.volume, s->bytes, BYTES, 0, 0));
    world_drain(&s->w);
    return s;
}

static void
slow_world_free(struct slow_world *s)
{
    MUST(lsvd_pread(s->w.volume, s->found, BYTES, 0));
    assert_memory_equal(s->found, s->bytes, BYTES);
    world_close(&s->w);
    world_check_sound(&s->w);
    world_done(&s->w);
    guard_free(s->guard);
    fault_free(s->fault);
    free(s);
}

/* Part b's syncs take so long; those of the others nothing, whatever disk they
 * are on. */
static void
set_delay(struct slow_world *s, uint32_t delay_ms)
{
    const struct fault_rule rules[] = {
        {.name = "b", .path = "*/b/*", .calls = FAULT_SYNC,
         .delay_ms = delay_ms},
        {.name = "others", .path = "*/[ac]/*", .calls = FAULT_SYNC,
         .kind = FAULT_LIE},
    };

    MUST(fault_set_rules(s->fault, rules, delay_ms > 0 ? 2 : 0));
}

/* Work until the next look at the parts, and what that asks for. */
static void
look_again(struct slow_world *s)
{
    for (unsigned i = 0; i < 2; i++) { /* some syncs each */
        uint64_t at = i * CHUNK;

        random_fill(&s->random, s->bytes + at, BLOCK);
        MUST(lsvd_pwrite(s->w.volume, s->bytes + at, BLOCK, at, 0));
        world_drain(&s->w);
    }
    s->clock.ahead_ns += POLICY_LOOK_NS;
    lsvd_watch(s->w.volume);
    world_drain(&s->w);
}

/* When it has been so for a minute; an hour later it is taken back, and gets
 * what it has missed. */
static void
test_slow_is_dropped(void **state)
{
    static const char *const settings[] = {"slow-part=drop", NULL};
    struct slow_world *s = slow_world_new(settings);
    unsigned looks = 0;

    (void)state;
    look_again(s); /* from where it is judged */
    set_delay(s, 280);
    for (; part_b(&s->w)->state == LSVD_PART_OK; looks++) {
        assert_true(looks < 8);
        look_again(s);
    }
    assert_true(looks >= 6);
    assert_int_equal(part_b(&s->w)->state, LSVD_PART_ERROR);
    assert_non_null(strstr(part_b(&s->w)->problem, "slow: one of a hundred"));
    set_delay(s, 0);
    s->clock.ahead_ns += POLICY_AWAY_NS - 3 * POLICY_LOOK_NS;
    look_again(s);
    assert_int_equal(part_b(&s->w)->state, LSVD_PART_ERROR);
    s->clock.ahead_ns += 3 * POLICY_LOOK_NS;
    look_again(s);
    assert_int_equal(part_b(&s->w)->state, LSVD_PART_OK);
    assert_false(part_b(&s->w)->slow);
    slow_world_free(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_of_an_hour),
        cmocka_unit_test(test_errors_now_and_then),
        cmocka_unit_test(test_absence_forgets),
        cmocka_unit_test(test_slow_for_a_minute),
        cmocka_unit_test(test_not_slow_all_the_time),
        cmocka_unit_test(test_all_are_slow),
        cmocka_unit_test(test_fast_enough),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_another_chance),
        cmocka_unit_test(test_failing_is_named),
        cmocka_unit_test(test_failing_is_dropped),
        cmocka_unit_test(test_slow_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
