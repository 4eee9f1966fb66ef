/* .meta: round trips, damage, the future, and what is refused. */
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
assert_error_names(const char *what)
{
    if (strstr(err_text(), what) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err_text(), what);
}

static void
assert_same(const struct volume_meta *a, const struct volume_meta *b)
{
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->incompat, b->incompat);
    assert_int_equal(a->ro_compat, b->ro_compat);
    assert_int_equal(a->compat, b->compat);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->number, b->number);
    assert_true(uuid_equal(&a->uuid, &b->uuid));
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_int_equal(a->chunk_bytes, b->chunk_bytes);
    assert_int_equal(a->block_bytes, b->block_bytes);
    assert_int_equal(a->replicas, b->replicas);
    assert_int_equal(a->ec_data, b->ec_data);
    assert_int_equal(a->ec_parity, b->ec_parity);
    assert_int_equal(a->read_only, b->read_only);
    assert_int_equal(a->append_only, b->append_only);
    assert_int_equal(a->removing, b->removing);
    assert_int_equal(a->journal_bytes, b->journal_bytes);
    assert_int_equal(a->part_count, b->part_count);
    for (uint32_t i = 0; i < a->part_count; i++) {
        assert_true(uuid_equal(&a->part[i].instance, &b->part[i].instance));
        assert_string_equal(a->part[i].root, b->part[i].root);
    }
    assert_int_equal(a->accepted_loss, b->accepted_loss);
    assert_int_equal(a->forced_count, b->forced_count);
    for (uint32_t i = 0; i < a->forced_count; i++)
        assert_string_equal(a->forced[i], b->forced[i]);
}

static void
assert_round_trip(const struct volume_meta *m)
{
    struct volume_meta back, copy;
    size_t bytes;
    char *text;

    assert_int_equal(meta_format(m, &text, &bytes), 0);
    assert_int_equal(strlen(text), bytes);
    assert_int_equal(meta_parse((uint8_t *)text, bytes, &back), 0);
    assert_same(m, &back);
    assert_int_equal(meta_copy(&back, &copy), 0);
    meta_done(&back);
    assert_same(m, &copy);
    meta_done(&copy);
    meta_done(&copy);
    free(text);
}

static void
round_trips(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta m;

    (void)state;
    for (uint32_t n = 1; n <= REPLICAS_MAX; n++) {
        sample_meta(n, 0, 0, roots, &m);
        assert_round_trip(&m);
    }
    for (uint32_t k = EC_DATA_MIN; k <= EC_DATA_MAX; k++) {
        sample_meta(0, k, k % EC_PARITY_MAX + 1, roots, &m);
        assert_round_trip(&m);
    }
    m.read_only = true;
    assert_round_trip(&m);
    m.append_only = true;
    m.removing = true;
    m.generation = UINT64_MAX;
    m.compat = UINT64_MAX;
    m.size_bytes = VOLUME_BYTES_MAX;
    m.journal_bytes = 0;
    assert_round_trip(&m);
}

/* What was accepted is kept for ever, and is one line of text each. */
static void
the_history_round_trips(void **state)
{
    char roots[PARTS_MAX][64], line[META_FORCED_BYTES_MAX + 2];
    struct volume_meta m;

    (void)state;
    sample_meta(2, 0, 0, roots, &m);
    memset(line, 'x', sizeof line);
    line[META_FORCED_BYTES_MAX + 1] = '\0';
    assert_int_equal(meta_add_forced(&m, line), -EINVAL);
    assert_int_equal(meta_add_forced(&m, ""), -EINVAL);
    assert_int_equal(meta_add_forced(&m, "two\nlines"), -EINVAL);
    assert_int_equal(meta_add_forced(&m, "\xff"), -EINVAL);
    assert_int_equal(m.forced_count, 0);
    line[META_FORCED_BYTES_MAX] = '\0';
    assert_int_equal(meta_add_forced(&m, line), 0);
    m.accepted_loss = true;
    for (int i = 1; i < META_FORCED_MAX; i++) {
        assert_round_trip(&m);
        assert_int_equal(meta_add_forced(&m, " [end] = \\n; \xc3\xbc "), 0);
    }
    assert_round_trip(&m);
    assert_int_equal(meta_add_forced(&m, "one more"), -ENOSPC);
    for (uint32_t i = 0; i < m.forced_count; i++)
        free(m.forced[i]);
}

static void
roots_of_every_kind_round_trip(void **state)
{
    static char roots[][64] = {
        "/", "/a b", "/ends in a blank ", "/back\\slash\\n", "/semi;colon",
        "/hash # tag", "/equals = sign", "/[section]", "/\xc3\xbcmlaut",
        "/\\s\\t", "//x",
    };
    char sample_roots[PARTS_MAX][64];
    struct volume_meta m;

    (void)state;
    sample_meta(1, 0, 0, sample_roots, &m);
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        m.part[0].root = roots[i];
        assert_round_trip(&m);
    }
}

/* Every byte of the file counts. */
static void
every_byte_flip_is_detected(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta m, back;
    size_t bytes;
    char *text;

    (void)state;
    sample_meta(0, 4, 2, roots, &m);
    assert_int_equal(meta_format(&m, &text, &bytes), 0);
    for (size_t i = 0; i < bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            assert_int_equal(meta_parse((uint8_t *)text, bytes, &back),
                             -EBADMSG);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    free(text);
}

static void
every_truncation_is_detected(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta m, back;
    size_t bytes;
    char *text;

    (void)state;
    sample_meta(3, 0, 0, roots, &m);
    assert_int_equal(meta_format(&m, &text, &bytes), 0);
    for (size_t i = 0; i < bytes; i++) {
        uint8_t *exact = malloc(i + 1); /* so that ASan sees an overrun */

        assert_non_null(exact);
        memcpy(exact, text, i);
        exact[i] = 0xa5;
        assert_int_equal(meta_parse(exact, i, &back), -EBADMSG);
        free(exact);
    }
    free(text);
}

static void
trailing_bytes_are_damage(void **state)
{
    static const char *const tails[] = { "\n", " ", "#", "x = 1\n", "[x]\n" };
    char roots[PARTS_MAX][64];
    char longer[8192];
    struct volume_meta m, back;
    size_t bytes;
    char *text;

    (void)state;
    sample_meta(3, 0, 0, roots, &m);
    assert_int_equal(meta_format(&m, &text, &bytes), 0);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        int count = snprintf(longer, sizeof longer, "%s%s", text, tails[i]);

        assert_int_equal(meta_parse((uint8_t *)longer, (size_t)count, &back),
                         -EBADMSG);
    }
    /* Its last line twice; the whole of it twice. */
    (void)snprintf(longer, sizeof longer, "%s%s", text,
                   text + bytes - SUM_LINE_BYTES);
    assert_int_equal(meta_parse((uint8_t *)longer, strlen(longer), &back),
                     -EBADMSG);
    (void)snprintf(longer, sizeof longer, "%s%s", text, text);
    assert_int_equal(meta_parse((uint8_t *)longer, strlen(longer), &back),
                     -EBADMSG);
    free(text);
}

/* Text of the sample with one piece exchanged, and a right checksum. */
static int
parse_edited(const char *from, const char *to, struct volume_meta *ret)
{
    char roots[PARTS_MAX][64];
    char edited[16384];
    struct volume_meta m;
    const char *at;
    size_t bytes;
    char *text;
    int r;

    sample_meta(0, 4, 2, roots, &m);
    assert_int_equal(meta_format(&m, &text, &bytes), 0);
    text[bytes - SUM_LINE_BYTES] = '\0';
    at = strstr(text, from);
    if (at == NULL)
        fail_msg("the file has no \"%s\"", from);
    r = snprintf(edited, sizeof edited - 64, "%.*s%s%s", (int)(at - text),
                 text, to, at + strlen(from));
    bytes = (size_t)r;
    (void)snprintf(edited + bytes, 64, "checksum = %016" PRIx64 "\n",
                   sum_bytes(edited, bytes));
    free(text);
    return meta_parse((uint8_t *)edited, strlen(edited), ret);
}

static void
the_future_is_refused_not_guessed(void **state)
{
    struct volume_meta m;

    (void)state;
    assert_int_equal(parse_edited("format = 1", "format = 2", &m), -EPROTO);
    assert_error_names("format 2");
    assert_int_equal(parse_edited("\nincompat = 0", "\nincompat = 1024", &m),
                     -EPROTO);
    assert_error_names("0x400");
    assert_int_equal(parse_edited("layout = chunk", "layout = log", &m),
                     -EPROTO);
    assert_error_names("log");
    assert_int_equal(parse_edited("= ec 4+2", "= lrc 4+2+1", &m), -EPROTO);
    assert_error_names("lrc");
    /* Also where later keys are no longer what we know. */
    assert_int_equal(parse_edited("format = 1", "format = 2\nsize = big", &m),
                     -EPROTO);
}

static void
read_only_compatible_features_make_it_read_only(void **state)
{
    struct volume_meta m;
    size_t bytes;
    char *text;

    (void)state;
    assert_int_equal(parse_edited("ro-compat = 0", "ro-compat = 2", &m), 0);
    assert_true(m.read_only);
    assert_int_equal(m.ro_compat, 2);
    assert_int_equal(meta_format(&m, &text, &bytes), -EROFS);
    meta_done(&m);
}

static void
unknown_keys_are_ignored(void **state)
{
    struct volume_meta m;

    (void)state;
    assert_int_equal(parse_edited("[part a]", "colour = red\n[later]\n"
                                  "x = 1\n[part a]", &m), 0);
    assert_int_equal(m.part_count, 6);
    assert_false(m.read_only);
    assert_int_equal(m.compat, 5);
    meta_done(&m);
}

static void
impossible_values_are_damage(void **state)
{
    static const char *const edits[][2] = {
        { "name = mydevice1", "name = .." },
        { "name = mydevice1", "name = a/b" },
        { "name = mydevice1", "name = \xff\xfe" },
        { "name = mydevice1\n", "" },
        { "number = 11", "number = 10" },
        { "number = 11", "number = 65536" },
        { "number = 11", "number = 4294967307" },
        { "number = 11", "number = -11" },
        { "number = 11", "number = +11" },
        { "number = 11", "number = 11 12" },
        { "size = 10737418240", "size = 0" },
        { "size = 10737418240", "size = 9007199254740993" },
        { "size = 10737418240", "size = 18446744073709551617" },
        { "size = 10737418240", "size = 10G" },
        { "size = 10737418240", "size =" },
        { "chunk-size = 4194304", "chunk-size = 4194305" },
        { "chunk-size = 4194304", "chunk-size = 131072" },
        { "chunk-size = 4194304", "chunk-size = 134217728" },
        { "block-size = 4096", "block-size = 0" },
        { "block-size = 4096", "block-size = 256" },
        { "block-size = 4096", "block-size = 131072" },
        { "block-size = 4096", "block-size = 5000" },
        { "= ec 4+2", "= ec 1+2" },
        { "= ec 4+2", "= ec 17+2" },
        { "= ec 4+2", "= ec 4+0" },
        { "= ec 4+2", "= ec 4+5" },
        { "= ec 4+2", "= ec 5+2" }, /* a part too few */
        { "= ec 4+2", "= replicas 9" },
        { "read-only = false", "read-only = maybe" },
        { "read-only = false\n", "" },
        { "journal-size = 1073741824", "journal-size = 1" },
        { "[part b]", "[part x]" },
        { "root = /mnt/disk 3", "root = mnt" },
        { "root = /mnt/disk 3", "root =" },
        { "root = /mnt/disk 3", "root = /mnt\\n/x" },
        { "root = /mnt/disk 3", "root = /mnt\\q" },
        { "root = /mnt/disk 3", "root = /\xff" },
        { "[volume]", "[volum]" },
        { "[volume]", "[volume" },
        { "[part a]\ninstance = ", "[part a]\ninstance = 0" },
        { "format = 1", "format = 0" },
        { "format = 1\n", "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        struct volume_meta m;
        int r = parse_edited(edits[i][0], edits[i][1], &m);

        if (r != -EBADMSG)
            fail_msg("\"%s\" -> \"%s\": %d", edits[i][0], edits[i][1], r);
    }
}

static void
equal_instances_are_damage(void **state)
{
    struct uuid a = sample_uuid(10), b = sample_uuid(11);
    char text_a[UUID_TEXT_BYTES], text_b[UUID_TEXT_BYTES];
    struct volume_meta m;

    (void)state;
    uuid_format(&a, text_a);
    uuid_format(&b, text_b);
    assert_int_equal(parse_edited(text_b, text_a, &m), -EBADMSG);
    assert_error_names("parts a and b");
    assert_int_equal(parse_edited(text_b,
                                  "00000000-0000-0000-0000-000000000000", &m),
                     -EBADMSG);
}

static void
sizes_have_bounds(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta m;

    (void)state;
    sample_meta(1, 0, 0, roots, &m);
    m.size_bytes = 0;
    assert_int_equal(meta_check(&m), -EINVAL);
    assert_error_names("size 0");
    m.size_bytes = 1;
    assert_int_equal(meta_check(&m), 0);
    m.size_bytes = UINT64_C(1) << 53;
    assert_int_equal(meta_check(&m), 0);
    m.size_bytes++;
    assert_int_equal(meta_check(&m), -EINVAL);
    assert_error_names("9007199254740993");
    /* Chunk numbers have 32 bits. */
    m.chunk_bytes = CHUNK_BYTES_MIN;
    m.size_bytes = (uint64_t)CHUNK_BYTES_MIN * CHUNK_COUNT_MAX;
    assert_int_equal(meta_check(&m), 0);
    m.size_bytes++;
    assert_int_equal(meta_check(&m), -EINVAL);
}

static void
checks_name_the_value(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta m;

    (void)state;
    sample_meta(3, 0, 0, roots, &m);
    m.ec_data = 4;
    assert_int_equal(meta_check(&m), -EINVAL);
    sample_meta(3, 0, 0, roots, &m);
    m.part_count = 2;
    assert_int_equal(meta_check(&m), -EINVAL);
    assert_error_names("2 parts");
    sample_meta(0, 2, 1, roots, &m);
    assert_int_equal(meta_check(&m), 0);
    m.block_bytes = 1000;
    assert_int_equal(meta_check(&m), -EINVAL);
    assert_error_names("1000");
    m.block_bytes = BLOCK_BYTES_MAX;
    m.chunk_bytes = CHUNK_BYTES_MAX * 2;
    assert_int_equal(meta_check(&m), -EINVAL);
    assert_error_names("134217728");
    m.chunk_bytes = CHUNK_BYTES_MIN;
    m.part[1].root = NULL;
    assert_int_equal(meta_check(&m), -EINVAL);
    assert_error_names("part b");
    m.part[1].root = roots[0];
    assert_int_equal(meta_check(&m), 0);
}

static void
names_have_rules(void **state)
{
    static const char *const good[] = {
        "a", "A", "0", "mydevice1", "a.b_c-d", "end", "volume", "defaults",
        "mydevice1@monday", "a@0", "a@b.c_d-e", "a@+12",
        "0123456789012345678901234567890123456789012345678901234567890123",
    };
    static const char *const bad[] = {
        "", ".", "..", ".hidden", "-x", "_x", "a/b", "/a", "a b", "a\n",
        "\x1b[2J", "a\x01" "b", "\xc3\xbc", "a;b", "a[b]", "a=b", "a#b",
        "@", "a@", "@b", "a@@b", "a@b@c", "a@-b", "a@+", "a@++1", "a@b+1",
        "a+b",
        "01234567890123456789012345678901234567890123456789012345678901234",
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(meta_check_name(good[i]), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(meta_check_name(bad[i]), -EINVAL);
        for (const char *c = err_text(); *c != '\0'; c++)
            assert_in_range((unsigned char)*c, ' ', '~');
    }
}

static void
the_text_is_for_people(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta m;
    size_t bytes;
    char *text;

    (void)state;
    sample_meta(0, 4, 2, roots, &m);
    assert_int_equal(meta_format(&m, &text, &bytes), 0);
    assert_memory_equal(text, "# lsvd volume", 13);
    assert_non_null(strstr(text, "\n[volume]\n"));
    assert_non_null(strstr(text, "\nname = mydevice1\n"));
    assert_non_null(strstr(text, "\nredundancy = ec 4+2\n"));
    assert_non_null(strstr(text, "\nroot = /mnt/disk 5\n"));
    assert_memory_equal(text + bytes - SUM_LINE_BYTES, "checksum = ", 11);
    free(text);
}

static void
every_allocation_may_fail(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta m;
    bool fired = true;
    long nth;

    (void)state;
    sample_meta(3, 0, 0, roots, &m);
    for (nth = 0; fired; nth++) {
        struct volume_meta back = { 0 }, copy = { 0 };
        char *text = NULL;
        size_t bytes;
        int r;

        (void)mem_fail_after(nth);
        r = meta_format(&m, &text, &bytes);
        if (r == 0)
            r = meta_parse((uint8_t *)text, bytes, &back);
        if (r == 0)
            r = meta_copy(&back, &copy);
        fired = mem_fail_after(-1);
        assert_int_equal(r, fired ? -ENOMEM : 0);
        meta_done(&back);
        meta_done(&copy);
        free(text);
    }
    assert_true(nth > 7);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(the_history_round_trips),
        cmocka_unit_test(roots_of_every_kind_round_trip),
        cmocka_unit_test(every_byte_flip_is_detected),
        cmocka_unit_test(every_truncation_is_detected),
        cmocka_unit_test(trailing_bytes_are_damage),
        cmocka_unit_test(the_future_is_refused_not_guessed),
        cmocka_unit_test(read_only_compatible_features_make_it_read_only),
        cmocka_unit_test(unknown_keys_are_ignored),
        cmocka_unit_test(impossible_values_are_damage),
        cmocka_unit_test(equal_instances_are_damage),
        cmocka_unit_test(sizes_have_bounds),
        cmocka_unit_test(checks_name_the_value),
        cmocka_unit_test(names_have_rules),
        cmocka_unit_test(the_text_is_for_people),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
