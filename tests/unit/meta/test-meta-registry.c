/* .volumesmeta: round trips, damage, the future, adding and removing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "meta/meta.h"
#include "sample.h"
#include <inttypes.h>
#include <stdlib.h>

#define SUM_LINE_BYTES 28

static void
add(struct registry *registry, const char *name, uint32_t number, int expect)
{
    struct registry_entry e = { .number = number };

    (void)snprintf(e.name, sizeof e.name, "%s", name);
    e.uuid = sample_uuid(number);
    assert_int_equal(registry_add(registry, &e), expect);
}

/* Names that could be taken for sections of ours. */
static void
fill(struct registry *registry)
{
    memset(registry, 0, sizeof *registry);
    registry->generation = 3;
    registry->compat = 9;
    add(registry, "registry", 13, 0);
    add(registry, "end", 11, 0);
    add(registry, "mydevice1", 65535, 0);
    add(registry, "A.b-c_d", 12, 0);
}

static void
assert_same(const struct registry *a, const struct registry *b)
{
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->compat, b->compat);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        assert_string_equal(a->entry[i].name, b->entry[i].name);
        assert_int_equal(a->entry[i].number, b->entry[i].number);
        assert_true(uuid_equal(&a->entry[i].uuid, &b->entry[i].uuid));
    }
}

static void
assert_round_trip(const struct registry *registry)
{
    struct registry back;
    size_t bytes;
    char *text;

    assert_int_equal(registry_format(registry, &text, &bytes), 0);
    assert_int_equal(registry_parse((uint8_t *)text, bytes, &back), 0);
    assert_same(registry, &back);
    registry_done(&back);
    free(text);
}

static void
round_trips(void **state)
{
    struct registry registry = { 0 };

    (void)state;
    assert_round_trip(&registry);
    fill(&registry);
    assert_round_trip(&registry);
    registry_done(&registry);
}

static void
the_largest_fits(void **state)
{
    struct registry registry = { 0 };
    struct registry_entry *e;

    (void)state;
    registry.count = VOLUME_NUMBER_MAX - VOLUME_NUMBER_FIRST + 1;
    registry.entry = calloc(registry.count, sizeof *registry.entry);
    assert_non_null(registry.entry);
    for (size_t i = 0; i < registry.count; i++) {
        e = &registry.entry[i];
        e->number = VOLUME_NUMBER_FIRST + (uint32_t)i;
        (void)snprintf(e->name, sizeof e->name, "%064zu", i);
        e->uuid = sample_uuid(1);
    }
    assert_round_trip(&registry);
    registry_done(&registry);
}

static void
entries_are_in_order_of_number(void **state)
{
    struct registry registry;

    (void)state;
    fill(&registry);
    assert_int_equal(registry.count, 4);
    assert_string_equal(registry.entry[0].name, "end");
    assert_string_equal(registry.entry[1].name, "A.b-c_d");
    assert_string_equal(registry.entry[2].name, "registry");
    assert_string_equal(registry.entry[3].name, "mydevice1");
    registry_done(&registry);
}

static void
adding_and_removing(void **state)
{
    struct registry registry;

    (void)state;
    fill(&registry);
    add(&registry, "end", 20, -EEXIST);
    add(&registry, "end", 11, 0);     /* the same again */
    add(&registry, "renamed", 12, 0); /* replaces by number */
    assert_int_equal(registry.count, 4);
    assert_null(registry_find(&registry, "A.b-c_d"));
    assert_int_equal(registry_find(&registry, "renamed")->number, 12);
    add(&registry, "../x", 30, -EINVAL);
    add(&registry, "x", 10, -EINVAL);
    add(&registry, "x", 65536, -EINVAL);
    assert_false(registry_remove(&registry, 14));
    assert_true(registry_remove(&registry, 13));
    assert_false(registry_remove(&registry, 13));
    assert_null(registry_find(&registry, "registry"));
    assert_true(registry_remove(&registry, 65535));
    assert_true(registry_remove(&registry, 11));
    assert_true(registry_remove(&registry, 12));
    assert_int_equal(registry.count, 0);
    add(&registry, "registry", 13, 0);
    assert_round_trip(&registry);
    registry_done(&registry);
}

static void
every_byte_flip_is_detected(void **state)
{
    struct registry registry, back;
    size_t bytes;
    char *text;

    (void)state;
    fill(&registry);
    assert_int_equal(registry_format(&registry, &text, &bytes), 0);
    for (size_t i = 0; i < bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            assert_int_equal(registry_parse((uint8_t *)text, bytes, &back),
                             -EBADMSG);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(registry_parse((uint8_t *)text, i, &back), -EBADMSG);
    free(text);
    registry_done(&registry);
}

/* Parse a body with a right checksum. */
static int
parse_body(const char *body, struct registry *ret)
{
    char text[4096];
    size_t bytes;

    (void)snprintf(text, sizeof text - 64, "%s", body);
    bytes = strlen(text);
    (void)snprintf(text + bytes, 64, "checksum = %016" PRIx64 "\n",
                   sum_bytes(text, bytes));
    return registry_parse((uint8_t *)text, strlen(text), ret);
}

#define HEAD_OF(format, incompat, ro)                                        \
    "[.registry]\nformat = " format "\nincompat = " incompat                 \
    "\nro-compat = " ro "\ncompat = 0\ngeneration = 1\n"
#define HEAD HEAD_OF("1", "0", "0")
#define UUID "uuid = 01234567-89ab-cdef-fedc-ba9876543210\n"

static void
the_future_is_refused_not_guessed(void **state)
{
    struct registry registry;
    size_t bytes;
    char *text;

    (void)state;
    assert_int_equal(parse_body(HEAD, &registry), 0);
    registry_done(&registry);
    assert_int_equal(parse_body(HEAD_OF("2", "0", "0"), &registry), -EPROTO);
    assert_int_equal(parse_body(HEAD_OF("1", "1", "0"), &registry), -EPROTO);
    assert_int_equal(parse_body(HEAD_OF("1", "0", "8"), &registry), 0);
    assert_int_equal(registry.ro_compat, 8);
    assert_int_equal(registry_format(&registry, &text, &bytes), -EROFS);
    registry_done(&registry);
    /* Sections of ours that we don't know yet. */
    assert_int_equal(parse_body(HEAD "[.later]\nx = 1\n", &registry), 0);
    assert_int_equal(registry.count, 0);
    registry_done(&registry);
}

static void
impossible_values_are_damage(void **state)
{
    static const char *const bodies[] = {
        "",
        "[.registry]\n",
        "x = 1\n" HEAD,
        HEAD_OF("0", "0", "0"),
        HEAD_OF("x", "0", "0"),
        HEAD "[a]\nnumber = 11\n",
        HEAD "[a]\n" UUID,
        HEAD "[a]\nnumber = 10\n" UUID,
        HEAD "[a]\nnumber = 65536\n" UUID,
        HEAD "[a/b]\nnumber = 11\n" UUID,
        HEAD "[a b]\nnumber = 11\n" UUID,
        HEAD "[-]\nnumber = 11\n" UUID,
        HEAD "[a]\nnumber = 11\nuuid = x\n",
        HEAD "[a]\nnumber = 11\n"
             "uuid = 00000000-0000-0000-0000-000000000000\n",
        HEAD "[a]\nnumber = 11\n" UUID "[b]\nnumber = 11\n" UUID,
        HEAD "[a]\nnumber = 11\n" UUID "garbage\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct registry registry;
        int r = parse_body(bodies[i], &registry);

        if (r != -EBADMSG)
            fail_msg("body %zu: %d", i, r);
    }
}

static void
every_allocation_may_fail(void **state)
{
    bool fired = true;
    long nth;

    (void)state;
    for (nth = 0; fired; nth++) {
        struct registry_entry e = { .number = 40, .name = "x",
                                    .uuid = sample_uuid(4) };
        struct registry registry, back = { 0 };
        char *text = NULL;
        size_t bytes;
        int r;

        fill(&registry);
        (void)mem_fail_after(nth);
        r = registry_add(&registry, &e);
        if (r < 0)
            assert_int_equal(registry.count, 4);
        if (r == 0)
            r = registry_format(&registry, &text, &bytes);
        if (r == 0)
            r = registry_parse((uint8_t *)text, bytes, &back);
        fired = mem_fail_after(-1);
        assert_int_equal(r, fired ? -ENOMEM : 0);
        registry_done(&back);
        registry_done(&registry);
        free(text);
    }
    assert_true(nth > 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(the_largest_fits),
        cmocka_unit_test(entries_are_in_order_of_number),
        cmocka_unit_test(adding_and_removing),
        cmocka_unit_test(every_byte_flip_is_detected),
        cmocka_unit_test(the_future_is_refused_not_guessed),
        cmocka_unit_test(impossible_values_are_damage),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
