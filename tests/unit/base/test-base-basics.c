/* Errors, logging, identities, bytes, sums and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/seq.h"
#include "base/sum.h"
#include "base/uuid.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
err_text_is_set_and_wrapped(void **state)
{
    (void)state;
    assert_int_equal(err_set(-EIO, "block %d", 7), -EIO);
    assert_string_equal(err_text(), "block 7");
    assert_int_equal(err_wrap(-EPROTO, "part %c", 'b'), -EPROTO);
    assert_string_equal(err_text(), "part b: block 7");
    /* Its own text as an argument. */
    assert_int_equal(err_set(-EIO, "again %s", err_text()), -EIO);
    assert_string_equal(err_text(), "again part b: block 7");
}

static void
err_text_is_cut_not_overrun(void **state)
{
    char longer[3000];

    (void)state;
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    (void)err_set(-EIO, "%s", longer);
    assert_int_equal(strlen(err_text()), 1023);
    (void)err_wrap(-EIO, "abc");
    assert_int_equal(strlen(err_text()), 1023);
    assert_memory_equal(err_text(), "abc: xxx", 8);
    (void)err_wrap(-EIO, "%s", longer);
    assert_int_equal(strlen(err_text()), 1023);
}

static void *
other_thread(void *arg)
{
    bool *was_empty = arg;

    *was_empty = err_text()[0] == '\0';
    (void)err_set(-EIO, "other");
    return NULL;
}

static void
err_text_belongs_to_a_thread(void **state)
{
    pthread_t thread;
    bool was_empty = false;

    (void)state;
    (void)err_set(-EIO, "mine");
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &was_empty),
                     0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(was_empty);
    assert_string_equal(err_text(), "mine");
}

struct seen {
    enum log_level level;
    char line[64];
    int count;
};

static void
keep_line(void *ctx, enum log_level level, const char *message)
{
    struct seen *seen = ctx;

    seen->level = level;
    seen->count++;
    (void)snprintf(seen->line, sizeof seen->line, "%s", message);
}

static void
log_reaches_its_function(void **state)
{
    struct seen seen = { .count = 0 };
    struct logger log = { .cb = keep_line, .ctx = &seen };
    struct logger none = { .cb = NULL };

    (void)state;
    log_event(&log, LOG_WARNING_LEVEL, "healed %d", 3);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.level, LOG_WARNING_LEVEL);
    assert_string_equal(seen.line, "healed 3");
    log_event(&none, LOG_ERROR_LEVEL, "dropped");
    log_event(NULL, LOG_ERROR_LEVEL, "dropped");
    assert_int_equal(seen.count, 1);
}

static void
uuid_text_round_trip(void **state)
{
    static const char text[] = "01234567-89ab-cdef-fedc-ba9876543210";
    char back[UUID_TEXT_BYTES];
    struct uuid uuid, zero = { { 0 } };

    (void)state;
    assert_int_equal(uuid_parse(text, &uuid), 0);
    assert_int_equal(uuid.b[0], 0x01);
    assert_int_equal(uuid.b[15], 0x10);
    uuid_format(&uuid, back);
    assert_string_equal(back, text);
    assert_false(uuid_is_zero(&uuid));
    assert_true(uuid_is_zero(&zero));
    assert_false(uuid_equal(&uuid, &zero));
}

static void
uuid_text_is_exact(void **state)
{
    static const char *const wrong[] = {
        "", "0", "-",
        "01234567-89ab-cdef-fedc-ba987654321",
        "01234567-89ab-cdef-fedc-ba98765432100",
        "01234567-89AB-cdef-fedc-ba9876543210",
        "0123456789ab-cdef-fedc-ba9876543210-",
        "01234567-89ab-cdef-fedc-ba987654321g",
        "01234567-89ab-cdef-fedc_ba9876543210",
        " 01234567-89ab-cdef-fedc-ba9876543210",
        "01234567-89ab-cdef-fedc-ba9876543210 ",
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct uuid uuid;

        assert_int_equal(uuid_parse(wrong[i], &uuid), -EINVAL);
    }
}

static void
bytes_are_little_endian_and_bounded(void **state)
{
    uint8_t memory[15];
    struct byte_writer out = { .at = memory, .left = sizeof memory };
    struct byte_reader in = { .at = memory, .left = sizeof memory };

    (void)state;
    write_u64(&out, UINT64_C(0x0102030405060708));
    write_u32(&out, 0xa1b2c3d4);
    write_u16(&out, 0xfffe);
    assert_false(out.overrun);
    write_u8(&out, 9);
    assert_false(out.overrun);
    write_u8(&out, 10);
    assert_true(out.overrun);
    assert_int_equal(memory[0], 8);
    assert_int_equal(memory[11], 0xa1);
    assert_int_equal(memory[14], 9);
    assert_int_equal(read_u64(&in), UINT64_C(0x0102030405060708));
    assert_int_equal(read_u32(&in), 0xa1b2c3d4);
    assert_int_equal(read_u16(&in), 0xfffe);
    assert_int_equal(read_u16(&in), 0); /* one byte is left */
    assert_true(in.overrun);
}

static void
sums_tell_places_apart(void **state)
{
    struct uuid a = { { 1 } }, b = { { 2 } };
    uint8_t block[4096] = { 0 };
    uint64_t seed = sum_seed(&a, 1, 2);

    (void)state;
    assert_int_not_equal(seed, sum_seed(&b, 1, 2));
    assert_int_not_equal(seed, sum_seed(&a, 2, 2));
    assert_int_not_equal(seed, sum_seed(&a, 1, 3));
    assert_int_not_equal(seed, sum_seed(&a, 2, 1));
    assert_int_equal(seed, sum_seed(&a, 1, 2));
    assert_int_not_equal(sum_block(seed, block, sizeof block),
                         sum_block(seed + 1, block, sizeof block));
    assert_int_not_equal(sum_block(seed, block, sizeof block), 0);
}

/* These values are on disks: they may never change. */
static void
sums_are_for_ever(void **state)
{
    struct uuid uuid = { { 0, 1, 2, 3, 4, 5, 6, 7,
                           8, 9, 10, 11, 12, 13, 14, 15 } };
    uint8_t block[4096];

    (void)state;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i * 7);
    /* XXH3_64bits of nothing, from its reference. */
    assert_int_equal(sum_bytes("", 0), UINT64_C(0x2d06800538d394c2));
    assert_int_equal(sum_seed(&uuid, 1, 2), UINT64_C(0xac478eec94958048));
    assert_int_equal(sum_block(42, block, sizeof block),
                     UINT64_C(0xc7e448f55101b62c));
}

static void
zero_test_sees_every_byte(void **state)
{
    uint8_t block[513] = { 0 };

    (void)state;
    assert_true(sum_all_zero(block, 0));
    assert_true(sum_all_zero(block, sizeof block));
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] = 1;
        assert_false(sum_all_zero(block, sizeof block));
        assert_true(sum_all_zero(block, i));
        block[i] = 0;
    }
}

static void
memory_fails_when_told(void **state)
{
    AUTO_FREE uint8_t *a = NULL;
    AUTO_FREE uint8_t *b = NULL;
    AUTO_FREE char *c = NULL;

    (void)state;
    (void)mem_fail_after(1);
    assert_int_equal(mem_new(3, 5, &a), 0);
    assert_true(sum_all_zero(a, 15));
    assert_int_equal(mem_new(1, 1, &b), -ENOMEM);
    assert_null(b);
    assert_int_equal(mem_new_aligned(8192, &b), 0); /* once */
    assert_int_equal((uintptr_t)b % 4096, 0);
    assert_true(mem_fail_after(-1));
    assert_false(mem_fail_after(-1));
    assert_int_equal(mem_dup("text", &c), 0);
    assert_string_equal(c, "text");
}

static void
memory_refuses_the_impossible(void **state)
{
    void *p = NULL;

    (void)state;
    assert_int_equal(mem_new(SIZE_MAX / 2, 4, &p), -ENOMEM);
    assert_null(p);
    assert_int_equal(mem_new(0, 8, &p), 0);
    assert_non_null(p);
    free(p);
}

static void
an_array_grows_with_what_it_holds(void **state)
{
    AUTO_FREE uint32_t *item = NULL;
    uint32_t *before;
    size_t room = 0;

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(mem_grow(i + 1, sizeof *item, &room, &item), 0);
        assert_true(room > i);
        assert_true(sum_all_zero((uint8_t *)&item[i],
                                 (room - i) * sizeof *item));
        item[i] = i + 1;
    }
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(item[i], i + 1);
    before = item;
    assert_int_equal(mem_grow(room, sizeof *item, &room, &item), 0);
    assert_ptr_equal(item, before);
    (void)mem_fail_after(0);
    assert_int_equal(mem_grow(room + 1, sizeof *item, &room, &item), -ENOMEM);
    assert_ptr_equal(item, before);
    assert_true(mem_fail_after(-1));
    assert_int_equal(mem_grow(5000, sizeof *item, &room, &item), 0);
    assert_int_equal(room, 5000);
    assert_int_equal(item[999], 1000);
}

static void
seq_orders_epochs_first(void **state)
{
    (void)state;
    assert_true(seq_make(2, 1) > seq_make(1, UINT64_C(1) << 43));
    assert_int_equal(seq_epoch(seq_make(SEQ_EPOCH_MAX, 5)), SEQ_EPOCH_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_text_is_set_and_wrapped),
        cmocka_unit_test(err_text_is_cut_not_overrun),
        cmocka_unit_test(err_text_belongs_to_a_thread),
        cmocka_unit_test(log_reaches_its_function),
        cmocka_unit_test(uuid_text_round_trip),
        cmocka_unit_test(uuid_text_is_exact),
        cmocka_unit_test(bytes_are_little_endian_and_bounded),
        cmocka_unit_test(sums_tell_places_apart),
        cmocka_unit_test(sums_are_for_ever),
        cmocka_unit_test(zero_test_sees_every_byte),
        cmocka_unit_test(memory_fails_when_told),
        cmocka_unit_test(memory_refuses_the_impossible),
        cmocka_unit_test(an_array_grows_with_what_it_holds),
        cmocka_unit_test(seq_orders_epochs_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
