/* test-admin-cli.c: what both programs do with paths, sizes and options. */
#include "cli.h"

#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- sizes ---- */

static void
sizes_are_short_and_exact_where_possible(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        { 0, "0" },
        { 1023, "1023" },
        { 1024, "1K" },
        { 1536, "1.5K" },
        { UINT64_C(10) << 30, "10G" },
        { UINT64_C(1) << 53, "8P" },
        { UINT64_MAX, "16.0E" },
    };
    char text[CLI_SIZE_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(cli_size(rows[i].bytes, text), rows[i].text);
}

static void
redundancy_is_named(void **state)
{
    struct lsvd_info info = { .replicas = 1 };
    char text[CLI_SIZE_BYTES];

    (void)state;
    assert_string_equal(cli_redundancy(&info, text), "1 replica");
    info.replicas = 3;
    assert_string_equal(cli_redundancy(&info, text), "3 replicas");
    info = (struct lsvd_info){ .ec_data = 16, .ec_parity = 4 };
    assert_string_equal(cli_redundancy(&info, text), "EC 16+4");
}

/* ---- paths ---- */

static void
expect_path(const char *given, const char *base, const char *rest)
{
    char *got = cli_absolute(given), *want;

    assert_true(asprintf(&want, "%s%s", base, rest) >= 0);
    assert_string_equal(got, want);
    free(got);
    free(want);
}

static void
paths_become_absolute(void **state)
{
    char made[] = "/tmp/lsvd-test-XXXXXX", *base, *old;

    (void)state;
    assert_non_null(mkdtemp(made));
    base = realpath(made, NULL);
    old = getcwd(NULL, 0);
    assert_int_equal(chdir(base), 0);
    assert_int_equal(mkdir("real", 0700), 0);
    assert_int_equal(symlink("real", "link"), 0);

    expect_path(".", base, "");
    expect_path("link", base, "/real");
    expect_path("link/new", base, "/real/new");
    expect_path("real/../real/", base, "/real");
    expect_path("new", base, "/new");
    expect_path("no/such/dir", base, "/no/such/dir");
    /* Absolute ones are the person's own words. */
    expect_path("/mnt//x/", "/mnt//x", "");
    expect_path("/", "/", "");
    expect_path("", "", "");

    assert_int_equal(unlink("link"), 0);
    assert_int_equal(rmdir("real"), 0);
    assert_int_equal(chdir(old), 0);
    assert_int_equal(rmdir(base), 0);
    free(base);
    free(old);
}

static void
paths_make_an_environment(void **state)
{
    struct cli cli = { .program = "test" };
    struct lsvd_env env = cli_env(&cli);

    (void)state;
    assert_null(env.data); /* as the engine wants: from the configuration */
    assert_null(env.cache);
    assert_null(env.config_path);
    for (int i = 0; i < 20; i++)
        cli_add_path(&cli.data, i % 2 ? "/odd" : "/even");
    env = cli_env(&cli);
    assert_string_equal(env.data[0], "/even");
    assert_string_equal(env.data[19], "/odd");
    assert_null(env.data[20]);
    cli_done(&cli);
}

/* ---- options ---- */

enum { COMMAND_ONE = 1, COMMAND_TWO = 2 };

static const struct cli_option options[] = {
    { "data", 'd', true, COMMAND_ONE | COMMAND_TWO },
    { "json", 0, false, COMMAND_ONE | COMMAND_TWO },
    { "force", 'f', false, COMMAND_TWO },
    { NULL, 0, false, 0 },
};

static int
take(void *ctx, const struct cli_option *option, const char *value)
{
    return cli_common_option(ctx, option, value) ||
                   strcmp(option->name, "force") == 0
               ? 0
               : 99;
}

/* Messages of refusals are wanted on stderr, not in the test's output. */
static int
parse(struct cli *cli, const char *line, uint64_t *seen, char *words)
{
    char *copy = strdup(line), *argv[16] = { 0 };
    int argc = 0, first = 0, r;

    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    optind = 0;
    r = cli_parse(cli, argc, argv, options, take, cli, seen, &first);
    words[0] = '\0';
    for (int i = first; r == 0 && i < argc; i++) {
        strcat(words, argv[i]);
        strcat(words, " ");
    }
    free(copy);
    return r;
}

static void
options_stand_anywhere(void **state)
{
    struct cli cli = { .program = "test", .command = "one" };
    uint64_t seen;
    char words[100];

    (void)state;
    assert_int_equal(
        parse(&cli, "test one -d /a x --data=/b --json -- --y", &seen, words),
        0);
    assert_string_equal(words, "one x --y ");
    assert_true(cli.json);
    assert_int_equal(cli.data.count, 2);
    assert_string_equal(cli.data.path[1], "/b");
    assert_int_equal(cli_check_seen(&cli, options, seen, COMMAND_ONE), 0);
    cli_done(&cli);
}

static void
options_of_other_commands_are_refused(void **state)
{
    struct cli cli = { .program = "test", .command = "one" };
    uint64_t seen;
    char words[100];

    (void)state;
    assert_int_equal(parse(&cli, "test one -f", &seen, words), 0);
    assert_int_equal(cli_check_seen(&cli, options, seen, COMMAND_ONE),
                     EXIT_USAGE);
    assert_int_equal(cli_check_seen(&cli, options, seen, COMMAND_TWO), 0);
    cli_done(&cli);
}

static void
nonsense_is_refused(void **state)
{
    static const char *const lines[] = {
        "test --unknown", "test -x", "test one --data", "test one -d",
        "test --json=yes",
    };
    struct cli cli = { .program = "test" };
    uint64_t seen;
    char words[100];

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_int_equal(parse(&cli, lines[i], &seen, words), EXIT_USAGE);
    cli_done(&cli);
}

/* ---- JSON ---- */

static void
text_that_is_not_utf8_is_still_json(void **state)
{
    json_t *value = cli_json_text("/a/\xff/\xc3\xa9");

    (void)state;
    assert_string_equal(json_string_value(value), "/a/?/??");
    json_decref(value);
    value = cli_json_text("\xc3\xa9");
    assert_string_equal(json_string_value(value), "\xc3\xa9");
    json_decref(value);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_short_and_exact_where_possible),
        cmocka_unit_test(redundancy_is_named),
        cmocka_unit_test(paths_become_absolute),
        cmocka_unit_test(paths_make_an_environment),
        cmocka_unit_test(options_stand_anywhere),
        cmocka_unit_test(options_of_other_commands_are_refused),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(text_that_is_not_utf8_is_still_json),
    };

    return cmocka_run_group_tests_name("admin-cli", tests, NULL, NULL);
}
