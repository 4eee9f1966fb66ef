/* Faults to order: each kind over a target in memory, which calls are hit, and
 * that what hangs comes back. */
#include "unit.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/wait.h"
#include "memory-target.h"
#include "target/fault.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES 4096u

struct world {
    struct io io; /* first: opens the memory target, whatever the path */
    struct io_ops io_ops;
    struct target_ops ops; /* the memory target's, and close */
    struct memory_target memory;
    struct io *fault;
    struct target *t;
    struct object *o;
    uint64_t stopped_ns; /* where the clock was stopped; 0: it goes */
};

static int
open_memory(struct io *io, const char *path, unsigned flags,
            struct target **ret)
{
    (void)path;
    (void)flags;
    *ret = &((struct world *)io)->memory.base;
    return 0;
}

static uint64_t
now_ns(struct io *io)
{
    const struct world *w = (struct world *)io;

    return w && w->stopped_ns > 0 ? w->stopped_ns
                                  : io_system()->ops->now_ns(io_system());
}

static void
close_nothing(struct target *t)
{
    (void)t;
}

static int
set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    assert_non_null(w);
    memory_target_init(&w->memory);
    w->ops = *w->memory.base.ops;
    w->ops.close = close_nothing;
    w->memory.base.ops = &w->ops;
    w->io_ops.open_dir = open_memory;
    w->io_ops.now_ns = now_ns;
    w->io.ops = &w->io_ops;
    assert_int_equal(fault_new(&w->io, NULL, NULL, NULL, &w->fault), 0);
    assert_int_equal(w->fault->ops->open_dir(w->fault, "x", 0, &w->t), 0);
    (void)memory_target_file(&w->memory, "17", BYTES);
    assert_int_equal(target_open(w->t, "17", OBJECT_WRITE, &w->o), 0);
    *state = w;
    return 0;
}

static int
tear_down(void **state)
{
    struct world *w = *state;

    object_close(w->o);
    target_close(w->t);
    fault_free(w->fault);
    memory_target_done(&w->memory);
    free(w);
    return 0;
}

static uint8_t *
stored(struct world *w)
{
    return memory_target_find(&w->memory, "17")->bytes;
}

/* Set one rule, named "r". */
static void
rule(struct world *w, struct fault_rule r)
{
    (void)snprintf(r.name, sizeof r.name, "r");
    if (r.calls == 0)
        r.calls = FAULT_ANY;
    assert_int_equal(fault_set_rules(w->fault, &r, 1), 0);
}

static int
write_with(struct world *w, uint8_t value, size_t bytes, uint64_t at)
{
    uint8_t buffer[BYTES];

    memset(buffer, value, sizeof buffer);
    return object_write(w->o, buffer, bytes, at);
}

static size_t
count_of(const uint8_t *bytes, size_t count, uint8_t value)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += bytes[i] == value;
    return found;
}

static void
without_rules_nothing_happens(void **state)
{
    struct world *w = *state;
    uint8_t byte = 0;

    assert_int_equal(write_with(w, 7, BYTES, 0), 0);
    assert_int_equal(object_sync(w->o), 0);
    assert_int_equal(object_read(w->o, &byte, 1, 99), 0);
    assert_int_equal(byte, 7);
    assert_int_equal(w->memory.syncs, 1);
}

static void
errors_have_their_code_and_name_the_rule(void **state)
{
    static const int codes[] = { -EIO, -ENOSPC, -ESTALE };
    struct world *w = *state;
    struct object_stat stat;

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        rule(w, (struct fault_rule){ .kind = FAULT_ERROR,
                                     .error = codes[i] });
        assert_int_equal(write_with(w, 1, 8, 0), codes[i]);
        assert_non_null(strstr(err_text(), "memory/17: fault r"));
        assert_int_equal(object_sync(w->o), codes[i]);
        assert_int_equal(object_punch(w->o, 0, 8), codes[i]);
        assert_int_equal(object_stat(w->o, &stat), codes[i]);
        assert_int_equal(object_lock(w->o, 0, 1, true), codes[i]);
        assert_int_equal(target_remove(w->t, "17"), codes[i]);
        assert_int_equal(target_sync(w->t), codes[i]);
        assert_int_equal(w->fault->ops->open_dir(w->fault, "x", 0, NULL),
                         codes[i]);
    }
    assert_int_equal(stored(w)[0], 0);
    assert_int_equal(w->memory.syncs, 0);
}

static void
only_the_calls_named_are_hit(void **state)
{
    struct world *w = *state;

    rule(w, (struct fault_rule){ .kind = FAULT_ERROR, .error = -EIO,
                                 .calls = FAULT_SYNC | FAULT_READ });
    assert_int_equal(write_with(w, 1, 8, 0), 0);
    assert_int_equal(object_sync(w->o), -EIO);
    assert_int_equal(object_read(w->o, (uint8_t[1]){ 0 }, 1, 0), -EIO);
    assert_int_equal(target_sync(w->t), -EIO);
    assert_int_equal(fault_hits(w->fault, "r"), 3);
    assert_int_equal(fault_hits(w->fault, "s"), 0);
}

static void
paths_are_parts_or_patterns(void **state)
{
    static const struct {
        const char *path;
        bool hits; /* memory/17 */
    } cases[] = {
        { "", true },          { "emory/1", true },  { "17", true },
        { "memory/18", false }, { "*", true },       { "mem*", true },
        { "m*7", true },       { "em*", false },     { "1?", true },
        { "1", true },         { "?", false },       { "[12]7", true },
        { "memory/*", true },  { "*/memory/*", false }, { "1*/x", false },
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fault_rule r = { .kind = FAULT_ERROR, .error = -EIO };

        (void)snprintf(r.path, sizeof r.path, "%s", cases[i].path);
        rule(w, r);
        if (write_with(w, 1, 8, 0) != (cases[i].hits ? -EIO : 0))
            fail_msg("%s", cases[i].path);
    }
}

static void
the_nth_calls_are_hit(void **state)
{
    struct world *w = *state;

    rule(w, (struct fault_rule){ .kind = FAULT_ERROR, .error = -EIO,
                                 .calls = FAULT_WRITE, .after = 3,
                                 .count = 2 });
    for (int i = 0; i < 10; i++) {
        assert_int_equal(object_sync(w->o), 0); /* does not count */
        assert_int_equal(write_with(w, 1, 8, 0),
                         i == 3 || i == 4 ? -EIO : 0);
    }
}

/* Which of 64 calls are hit. */
static uint64_t
pattern(struct world *w, uint64_t seed)
{
    uint64_t hits = 0;

    assert_int_equal(fault_set_rules(w->fault, NULL, 0), 0);
    rule(w, (struct fault_rule){ .kind = FAULT_ERROR, .error = -EIO,
                                 .probability = FAULT_MILLION / 4,
                                 .seed = seed });
    for (int i = 0; i < 64; i++)
        hits |= (uint64_t)(write_with(w, 1, 8, 0) < 0) << i;
    return hits;
}

static void
chance_follows_from_the_seed(void **state)
{
    struct world *w = *state;
    uint64_t first = pattern(w, 7), hits = 0;

    assert_int_equal(pattern(w, 7), first);
    assert_int_not_equal(pattern(w, 8), first);
    for (uint64_t seed = 0; seed < 64; seed++)
        hits += (uint64_t)__builtin_popcountll(pattern(w, seed));
    assert_in_range(hits, 64 * 64 / 4 - 200, 64 * 64 / 4 + 200);
}

static void
unchanged_rules_go_on_counting(void **state)
{
    struct fault_rule rules[2] = {
        { .name = "a", .calls = FAULT_WRITE, .kind = FAULT_ERROR,
          .error = -EIO, .after = 2, .count = 1 },
        { .name = "b", .calls = FAULT_SYNC, .kind = FAULT_ERROR,
          .error = -EIO },
    };
    struct world *w = *state;

    assert_int_equal(fault_set_rules(w->fault, rules, 1), 0);
    assert_int_equal(write_with(w, 1, 8, 0), 0);
    assert_int_equal(fault_set_rules(w->fault, rules, 2), 0);
    assert_int_equal(write_with(w, 1, 8, 0), 0);
    assert_int_equal(write_with(w, 1, 8, 0), -EIO);
    rules[0].after = 1; /* another rule now */
    assert_int_equal(fault_set_rules(w->fault, rules, 2), 0);
    assert_int_equal(write_with(w, 1, 8, 0), 0);
    assert_int_equal(write_with(w, 1, 8, 0), -EIO);
}

static void
the_first_rule_that_hits_is_carried_out(void **state)
{
    struct fault_rule rules[2] = {
        { .name = "a", .calls = FAULT_WRITE, .kind = FAULT_ERROR,
          .error = -ENOSPC, .count = 1 },
        { .name = "b", .calls = FAULT_ANY, .kind = FAULT_ERROR,
          .error = -EIO, .after = 1 },
    };
    struct world *w = *state;

    assert_int_equal(fault_set_rules(w->fault, rules, 2), 0);
    assert_int_equal(write_with(w, 1, 8, 0), -ENOSPC); /* b does not see */
    assert_int_equal(write_with(w, 1, 8, 0), 0);       /* passes b */
    assert_int_equal(write_with(w, 1, 8, 0), -EIO);
}

static void
short_writes_and_reads_do_half(void **state)
{
    struct world *w = *state;
    uint8_t buffer[BYTES], parts[3][100];
    struct iovec iov[3] = { { parts[0], 100 }, { parts[1], 100 },
                            { parts[2], 100 } };

    rule(w, (struct fault_rule){ .kind = FAULT_SHORT });
    assert_int_equal(write_with(w, 7, 1000, 0), -EIO);
    assert_int_equal(count_of(stored(w), 500, 7), 500);
    assert_int_equal(count_of(stored(w), BYTES, 7), 500);
    memset(buffer, 1, sizeof buffer);
    assert_int_equal(object_read(w->o, buffer, 400, 0), -EIO);
    assert_int_equal(count_of(buffer, BYTES, 7), 200);
    memset(parts, 9, sizeof parts);
    assert_int_equal(object_writev(w->o, iov, 3, 1000), -EIO);
    assert_int_equal(count_of(stored(w), BYTES, 9), 150);
    assert_int_equal(object_sync(w->o), 0); /* none of its calls */
}

static void
a_lying_sync_does_not_sync(void **state)
{
    struct world *w = *state;

    rule(w, (struct fault_rule){ .kind = FAULT_LIE });
    assert_int_equal(object_sync(w->o), 0);
    w->memory.fail_after = 0; /* a real one would fail */
    w->memory.fail_code = -EIO;
    assert_int_equal(target_sync(w->t), 0);
    assert_false(w->memory.fired);
    assert_int_equal(w->memory.syncs, 0);
}

static unsigned
bits_set(const uint8_t *bytes, size_t count)
{
    unsigned bits = 0;

    for (size_t i = 0; i < count; i++)
        bits += (unsigned)__builtin_popcount(bytes[i]);
    return bits;
}

static void
a_flip_is_one_bit_elsewhere_each_time(void **state)
{
    uint8_t buffer[BYTES] = { 0 }, before[BYTES], parts[2][8] = { { 0 } };
    struct iovec iov[2] = { { parts[0], 1 }, { parts[1], 8 } };
    struct world *w = *state;

    rule(w, (struct fault_rule){ .kind = FAULT_FLIP, .seed = 3 });
    assert_int_equal(object_read(w->o, buffer, BYTES, 0), 0);
    assert_int_equal(bits_set(buffer, BYTES), 1);
    assert_int_equal(bits_set(stored(w), BYTES), 0);
    memcpy(before, buffer, BYTES);
    assert_int_equal(object_read(w->o, buffer, BYTES, 0), 0);
    assert_memory_not_equal(before, buffer, BYTES);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(object_readv(w->o, iov, 2, 0), 0);
        assert_int_equal(bits_set(parts[0], 8) + bits_set(parts[1], 8), 1);
    }
    memset(buffer, 0, BYTES);
    assert_int_equal(object_write(w->o, buffer, BYTES, 0), 0);
    assert_int_equal(bits_set(stored(w), BYTES), 1);
    assert_int_equal(bits_set(buffer, BYTES), 0); /* the caller's own */
}

static void
what_is_dropped_was_never_done(void **state)
{
    struct world *w = *state;

    assert_int_equal(write_with(w, 7, BYTES, 0), 0);
    rule(w, (struct fault_rule){ .kind = FAULT_DROP });
    assert_int_equal(write_with(w, 8, BYTES, 0), 0);
    assert_int_equal(object_punch(w->o, 0, 100), 0);
    assert_int_equal(object_resize(w->o, 1), 0);
    assert_int_equal(target_remove(w->t, "17"), 0);
    assert_int_equal(target_rename(w->t, "17", "18"), 0);
    assert_int_equal(memory_target_find(&w->memory, "17")->size, BYTES);
    assert_int_equal(count_of(stored(w), BYTES, 7), BYTES);
    assert_int_equal(fault_hits(w->fault, "r"), 5);
}

static void
a_misdirected_write_is_elsewhere_in_the_file(void **state)
{
    struct world *w = *state;

    rule(w, (struct fault_rule){ .kind = FAULT_MISDIRECT, .seed = 5 });
    for (uint64_t at = 0; at < BYTES; at += 512) {
        memset(stored(w), 0, BYTES);
        assert_int_equal(write_with(w, 7, 512, at), 0);
        assert_int_equal(memory_target_find(&w->memory, "17")->size, BYTES);
        assert_int_equal(count_of(stored(w), BYTES, 7), 512);
        assert_int_equal(count_of(stored(w) + at, 512, 7), 0);
    }
    assert_int_equal(write_with(w, 9, BYTES, 0), 0); /* no other place */
    assert_int_equal(memory_target_find(&w->memory, "17")->size,
                     BYTES + 512);
    assert_int_equal(count_of(stored(w), 512, 9), 0);
}

static void
slow_calls_are_done_later(void **state)
{
    struct world *w = *state;
    uint64_t begin = now_ns(NULL);

    rule(w, (struct fault_rule){ .delay_ms = 120 });
    assert_int_equal(write_with(w, 7, BYTES, 0), 0);
    assert_true(now_ns(NULL) - begin >= 120 * UINT64_C(1000000));
    assert_int_equal(count_of(stored(w), BYTES, 7), BYTES);
    begin = now_ns(NULL);
    rule(w, (struct fault_rule){ .kind = FAULT_ERROR, .error = -EIO,
                                 .delay_ms = 60 });
    assert_int_equal(write_with(w, 8, BYTES, 0), -EIO);
    assert_true(now_ns(NULL) - begin >= 60 * UINT64_C(1000000));
}

/* ---- hanging ---- */

struct hung {
    struct world *w;
    atomic_bool done;
    int result;
};

static void *
hang_in_write(void *ctx)
{
    struct hung *h = ctx;

    h->result = write_with(h->w, 7, BYTES, 0);
    atomic_store(&h->done, true);
    return NULL;
}

static pthread_t
start_hanging(struct world *w, struct hung *h)
{
    pthread_t thread;

    *h = (struct hung){ .w = w };
    rule(w, (struct fault_rule){ .kind = FAULT_HANG, .calls = FAULT_WRITE });
    assert_int_equal(pthread_create(&thread, NULL, hang_in_write, h), 0);
    while (fault_hits(w->fault, "r") == 0)
        pause_ms(1);
    return thread;
}

static void
what_hangs_is_done_when_its_rule_is_gone(void **state)
{
    struct world *w = *state;
    struct fault_rule rules[2] = {
        { .name = "r", .kind = FAULT_HANG, .calls = FAULT_WRITE },
        { .name = "s", .kind = FAULT_ERROR, .error = -EIO,
          .calls = FAULT_READ },
    };
    struct hung h;
    pthread_t thread = start_hanging(w, &h);

    /* Others are served, and other rules change nothing. */
    assert_int_equal(object_sync(w->o), 0);
    assert_int_equal(fault_set_rules(w->fault, rules, 2), 0);
    assert_int_equal(object_read(w->o, (uint8_t[1]){ 0 }, 1, 0), -EIO);
    pause_ms(120); /* it looks again meanwhile */
    assert_false(atomic_load(&h.done));
    assert_int_equal(stored(w)[0], 0);
    assert_int_equal(fault_set_rules(w->fault, rules + 1, 1), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(h.result, 0);
    assert_int_equal(stored(w)[0], 7);
}

static void
freeing_ends_hangs_without_doing_them(void **state)
{
    struct world *w = *state;
    struct hung h;
    pthread_t thread = start_hanging(w, &h);

    fault_free(w->fault);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(h.result, -EIO);
    assert_int_equal(stored(w)[0], 0);
    w->fault = NULL; /* target and object are still to be closed */
}

static void
lift_rules(void *ctx, struct io *io)
{
    unsigned *asked = ctx;

    if (++*asked == 3)
        assert_int_equal(fault_set_rules(io, NULL, 0), 0);
}

static void
count_release(void *ctx)
{
    *(unsigned *)ctx += 1000;
}

static void
rules_are_refreshed_by_who_hangs(void **state)
{
    struct world *w = *state;
    unsigned asked = 0;
    uint64_t begin = now_ns(NULL);

    object_close(w->o);
    target_close(w->t);
    fault_free(w->fault);
    assert_int_equal(fault_new(&w->io, lift_rules, count_release, &asked,
                               &w->fault), 0);
    w->stopped_ns = begin;
    assert_int_equal(w->fault->ops->open_dir(w->fault, "x", 0, &w->t), 0);
    w->stopped_ns += 49 * UINT64_C(1000000);
    assert_int_equal(target_open(w->t, "17", OBJECT_WRITE, &w->o), 0);
    assert_int_equal(asked, 1); /* twice within 50 ms: asked once */
    w->stopped_ns = 0;
    rule(w, (struct fault_rule){ .kind = FAULT_HANG });
    assert_int_equal(write_with(w, 7, BYTES, 0), 0);
    assert_int_equal(asked, 3);
    assert_true(now_ns(NULL) - begin >= 100 * UINT64_C(1000000));
    fault_free(w->fault);
    w->fault = NULL;
    assert_int_equal(asked, 3); /* w->t is not closed yet */
    object_close(w->o);
    w->o = NULL;
    target_close(w->t);
    w->t = NULL;
    assert_int_equal(asked, 1003);
}

static void
too_many_rules_are_refused(void **state)
{
    static struct fault_rule rules[FAULT_RULES_MAX + 1];
    struct world *w = *state;

    rule(w, (struct fault_rule){ .kind = FAULT_ERROR, .error = -EIO });
    assert_int_equal(fault_set_rules(w->fault, rules, FAULT_RULES_MAX + 1),
                     -EINVAL);
    assert_int_equal(write_with(w, 1, 8, 0), -EIO);
    (void)mem_fail_after(0);
    assert_int_equal(fault_set_rules(w->fault, rules, 1), -ENOMEM);
    (void)mem_fail_after(-1);
    assert_int_equal(write_with(w, 1, 8, 0), -EIO);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_rules_nothing_happens),
        TEST(errors_have_their_code_and_name_the_rule),
        TEST(only_the_calls_named_are_hit),
        TEST(paths_are_parts_or_patterns),
        TEST(the_nth_calls_are_hit),
        TEST(chance_follows_from_the_seed),
        TEST(unchanged_rules_go_on_counting),
        TEST(the_first_rule_that_hits_is_carried_out),
        TEST(short_writes_and_reads_do_half),
        TEST(a_lying_sync_does_not_sync),
        TEST(a_flip_is_one_bit_elsewhere_each_time),
        TEST(what_is_dropped_was_never_done),
        TEST(a_misdirected_write_is_elsewhere_in_the_file),
        TEST(slow_calls_are_done_later),
        TEST(what_hangs_is_done_when_its_rule_is_gone),
        TEST(freeing_ends_hangs_without_doing_them),
        TEST(rules_are_refreshed_by_who_hangs),
        TEST(too_many_rules_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
