/* Rules of faults from a file: what is read, what is refused, and that the
 * file is looked at again. */
#include "unit.h"

#include "base/err.h"
#include "base/wait.h"
#include "meta/fault_rules.h"
#include "temp-dir.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fault_rule rules[FAULT_RULES_MAX];
static size_t count;

static void
a_rule_has_every_key(void **state)
{
    static const char text[] =
        "# a comment\n"
        "[rule1]\npath=root-b*\ncall=write; sync\nerror=ESTALE\nafter=10\n"
        "count=3\nprobability=0.5\nseed=18446744073709551615\n"
        "delay-ms=20\n"
        "[second]\nhang=yes\n";

    (void)state;
    assert_int_equal(fault_rules_parse(text, strlen(text), rules, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(rules[0].name, "rule1");
    assert_string_equal(rules[0].path, "root-b*");
    assert_int_equal(rules[0].calls, FAULT_WRITE | FAULT_SYNC);
    assert_int_equal(rules[0].kind, FAULT_ERROR);
    assert_int_equal(rules[0].error, -ESTALE);
    assert_int_equal(rules[0].after, 10);
    assert_int_equal(rules[0].count, 3);
    assert_int_equal(rules[0].probability, 500000);
    assert_int_equal(rules[0].seed, UINT64_MAX);
    assert_int_equal(rules[0].delay_ms, 20);
    assert_string_equal(rules[1].name, "second");
    assert_string_equal(rules[1].path, "");
    assert_int_equal(rules[1].calls, FAULT_ANY);
    assert_int_equal(rules[1].kind, FAULT_HANG);
    assert_int_equal(rules[1].count, 0);
    assert_int_equal(rules[1].probability, 0);
}

static void
every_kind_has_its_word(void **state)
{
    static const struct {
        const char *text;
        enum fault_kind kind;
    } cases[] = {
        { "[r]\ndelay-ms=1\n", FAULT_NONE },
        { "[r]\nerror=ENOSPC\n", FAULT_ERROR },
        { "[r]\nhang=yes\n", FAULT_HANG },
        { "[r]\nshort=yes\n", FAULT_SHORT },
        { "[r]\nlie=yes\n", FAULT_LIE },
        { "[r]\nflip=yes\ncall=read\n", FAULT_FLIP },
        { "[r]\ndrop=yes\n", FAULT_DROP },
        { "[r]\nmisdirect=yes\n", FAULT_MISDIRECT },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(fault_rules_parse(cases[i].text,
                                           strlen(cases[i].text), rules,
                                           &count), 0);
        assert_int_equal(count, 1);
        assert_int_equal(rules[0].kind, cases[i].kind);
    }
}

static void
mistakes_name_section_and_key(void **state)
{
    static const struct {
        const char *text, *names;
    } cases[] = {
        { "nonsense", "" },
        { "key=1\n", "" },
        { "[r]\n", "[r]" },
        { "[r]\ncall=write\n", "[r]" },
        { "[r]\ncolour=red\n", "[r]: colour" },
        { "[r]\nhang=no\n", "[r]: hang" },
        { "[r]\nhang=yes\nerror=EIO\n", "[r]: error" },
        { "[r]\nerror=EWHAT\n", "[r]: error" },
        { "[r]\nerror=5\n", "[r]: error" },
        { "[r]\nerror=EIO\ncall=writ\n", "[r]: call" },
        { "[r]\nerror=EIO\ncall=\n", "[r]" },
        { "[r]\nerror=EIO\ncall=read;;x\n", "[r]: call" },
        { "[r]\nerror=EIO\nafter=-1\n", "[r]: after" },
        { "[r]\nerror=EIO\ncount=0\n", "[r]: count" },
        { "[r]\nerror=EIO\ncount=18446744073709551616\n", "[r]: count" },
        { "[r]\nerror=EIO\nprobability=0\n", "[r]: probability" },
        { "[r]\nerror=EIO\nprobability=1.1\n", "[r]: probability" },
        { "[r]\nerror=EIO\nprobability=nan\n", "[r]: probability" },
        { "[r]\nerror=EIO\nprobability=0.5x\n", "[r]: probability" },
        { "[r]\ndelay-ms=99999999\n", "[r]: delay-ms" },
        { "[r]\nlie=yes\ncall=read\n", "[r]" },
        { "[r]\nmisdirect=yes\ncall=punch\n", "[r]" },
        { "[a-name-of-more-than-thirty-one-x]\nhang=yes\n", "[a-name" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text = cases[i].text;

        if (fault_rules_parse(text, strlen(text), rules, &count) != -EINVAL ||
            strncmp(err_text(), cases[i].names,
                    strlen(cases[i].names)) != 0 ||
            strchr(err_text(), '\n') != NULL)
            fail_msg("%s: %s", text, err_text());
    }
}

static void
sizes_are_bounded(void **state)
{
    char *text = malloc(FAULT_RULES_BYTES_MAX + 2);
    size_t at = 0;

    (void)state;
    assert_non_null(text);
    memset(text, '\n', FAULT_RULES_BYTES_MAX + 1);
    assert_int_equal(fault_rules_parse(text, FAULT_RULES_BYTES_MAX, rules,
                                       &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(fault_rules_parse(text, FAULT_RULES_BYTES_MAX + 1,
                                       rules, &count), -EINVAL);
    for (int i = 0; i <= FAULT_RULES_MAX; i++)
        at += (size_t)sprintf(text + at, "[%d]\nhang=yes\n", i);
    assert_int_equal(fault_rules_parse(text, at, rules, &count), -EINVAL);
    at = (size_t)sprintf(text, "[r]\nhang=yes\npath=%0300d\n", 1);
    assert_int_equal(fault_rules_parse(text, at, rules, &count), -EINVAL);
    free(text);
}

/* ---- the file ---- */

struct world {
    struct temp_dir dir;
    char path[300];
    char line[512]; /* logged last */
    unsigned lines;
    struct io *io;
    struct target *t;
};

static void
keep_line(void *ctx, enum log_level level, const char *message)
{
    struct world *w = ctx;

    (void)level;
    (void)snprintf(w->line, sizeof w->line, "%s", message);
    w->lines++;
}

static void
put_rules(struct world *w, const char *text)
{
    assert_int_equal(target_store(w->dir.target, "rules", text,
                                  strlen(text)), 0);
}

static int
open_io(struct world *w)
{
    struct logger log = { keep_line, w };

    return fault_rules_new(io_system(), w->path, &log, &w->io);
}

static int
set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    assert_non_null(w);
    temp_dir_init(&w->dir);
    (void)snprintf(w->path, sizeof w->path, "%s/rules", w->dir.path);
    *state = w;
    return 0;
}

static int
tear_down(void **state)
{
    struct world *w = *state;

    target_close(w->t);
    fault_free(w->io);
    temp_dir_done(&w->dir);
    free(w);
    return 0;
}

/* Sync the directory until that returns code: the file is looked at every
 * 50 ms. */
static void
wait_for(struct world *w, int code)
{
    for (int i = 0; i < 1000; i++) {
        if (target_sync(w->t) == code)
            return;
        pause_ms(10);
    }
    fail_msg("never %d", code);
}

static void
the_file_is_looked_at_again(void **state)
{
    struct world *w = *state;

    assert_int_equal(open_io(w), 0); /* there is none */
    assert_int_equal(w->io->ops->open_dir(w->io, w->dir.path, 0, &w->t), 0);
    assert_int_equal(target_sync(w->t), 0);
    put_rules(w, "[r]\nerror=EIO\ncall=sync\n");
    wait_for(w, -EIO);
    put_rules(w, "[r]\nerror=ESTALE\ncall=sync\n");
    wait_for(w, -ESTALE);
    put_rules(w, "");
    wait_for(w, 0);
    put_rules(w, "[r]\nerror=EIO\ncall=sync\n");
    wait_for(w, -EIO);
    assert_int_equal(target_remove(w->dir.target, "rules"), 0);
    wait_for(w, 0);
    assert_int_equal(w->lines, 0);
}

static void
a_broken_file_changes_nothing(void **state)
{
    struct world *w = *state;

    put_rules(w, "[r]\nerror=EIO\ncall=sync\n");
    assert_int_equal(open_io(w), 0);
    assert_int_equal(w->io->ops->open_dir(w->io, w->dir.path, 0, &w->t), 0);
    assert_int_equal(target_sync(w->t), -EIO);
    put_rules(w, "[r]\nerror=E\n");
    for (int i = 0; i < 30; i++) {
        assert_int_equal(target_sync(w->t), -EIO);
        pause_ms(10);
    }
    assert_int_equal(w->lines, 1);
    assert_non_null(strstr(w->line, "rules: [r]: error: "));
    put_rules(w, "");
    wait_for(w, 0);
    assert_int_equal(w->lines, 1);
}

static void
a_broken_file_at_the_start_is_an_error(void **state)
{
    struct world *w = *state;

    put_rules(w, "[r]\nerror=E\n");
    assert_int_equal(open_io(w), -EINVAL);
    assert_non_null(strstr(err_text(), w->path));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_has_every_key),
        cmocka_unit_test(every_kind_has_its_word),
        cmocka_unit_test(mistakes_name_section_and_key),
        cmocka_unit_test(sizes_are_bounded),
        TEST(the_file_is_looked_at_again),
        TEST(a_broken_file_changes_nothing),
        TEST(a_broken_file_at_the_start_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
