/* The configuration file, and sizes as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/memory.h"
#include "meta/config.h"
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
assert_error_names(const char *what)
{
    if (strstr(err_text(), what) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err_text(), what);
}

/* Load this text as a file. */
static int
load_text(const char *text, const char *volume, struct config *ret)
{
    char path[] = "/tmp/lsvd-config-XXXXXX";
    int fd = mkstemp(path);
    int r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    r = config_load(path, volume, ret);
    if (r == -EINVAL)
        assert_error_names(path);
    (void)unlink(path);
    return r;
}

static void
defaults_stand_without_a_file(void **state)
{
    struct config config;

    (void)state;
    assert_int_equal(load_text("", "v", &config), 0);
    assert_string_equal(config.data[0], CONFIG_DATA_DEFAULT);
    assert_null(config.data[1]);
    assert_string_equal(config.cache[0], CONFIG_CACHE_DEFAULT);
    assert_int_equal(config.cache_bytes, 0);
    assert_int_equal(config.read_cache, READ_CACHE_AUTO);
    assert_null(config.cache[1]);
    assert_int_equal(config.ram_bytes, CONFIG_RAM_DEFAULT);
    assert_int_equal(config.journal_bytes, 0);
    assert_int_equal(config.part_timeout_s, 15);
    assert_int_equal(config.stall_timeout_s, 60);
    assert_int_equal(config.resync_rate, 0);
    assert_int_equal(config.scrub_s, 7 * 86400);
    assert_int_equal(config.scrub_rate, 32 << 20);
    assert_int_equal(config.bypass_after, CONFIG_BYPASS_AUTO);
    assert_false(config.drop_slow);
    assert_false(config.drop_failing);
    assert_null(config.fence_cmd);
    assert_false(config.unsafe_nolock);
    assert_null(config.metrics);
    config_done(&config);
    config_done(&config);
    assert_int_equal(config_load("/nowhere/lsvd.conf", NULL, &config),
                     -ENOENT);
    assert_error_names("/nowhere/lsvd.conf");
}

static void
a_section_overrides_the_defaults(void **state)
{
    static const char text[] =
        "# a comment\n"
        "[defaults]\n"
        "data = /a;/b;\n"
        "ram = 1G\n"
        "[big]\n"
        "ram = 1.5G\n"
        "cache = /nvme0;/nvme1\n"
        "journal-size = 8G\n"
        "cache-size = 20G\n"
        "read-cache = on\n";
    struct config config;

    (void)state;
    assert_int_equal(load_text(text, "big", &config), 0);
    assert_string_equal(config.data[0], "/a");
    assert_string_equal(config.data[1], "/b");
    assert_null(config.data[2]);
    assert_string_equal(config.cache[1], "/nvme1");
    assert_int_equal(config.ram_bytes, UINT64_C(3) << 29);
    assert_int_equal(config.journal_bytes, UINT64_C(8) << 30);
    assert_int_equal(config.cache_bytes, UINT64_C(20) << 30);
    assert_int_equal(config.read_cache, READ_CACHE_ON);
    config_done(&config);
    assert_int_equal(load_text(text, "other", &config), 0);
    assert_string_equal(config.cache[0], CONFIG_CACHE_DEFAULT);
    assert_int_equal(config.ram_bytes, UINT64_C(1) << 30);
    config_done(&config);
    assert_int_equal(load_text(text, NULL, &config), 0);
    assert_int_equal(config.ram_bytes, UINT64_C(1) << 30);
    config_done(&config);
}

static void
what_is_done_about_failures_is_set(void **state)
{
    static const char text[] =
        "[defaults]\n"
        "part-timeout = 5\n"
        "stall-timeout = 2m\n"
        "resync-rate = 100M\n"
        "[v]\n"
        "stall-timeout = 0\n"
        "scrub = 12h\n"
        "scrub-rate = 0\n"
        "slow-part = drop\n"
        "failing-part = drop\n"
        "fence-cmd = /usr/sbin/fence --node 2\n"
        "unsafe-nolock = 1\n"
        "metrics = /run/lsvd/v.prom\n";
    struct config config;

    (void)state;
    assert_int_equal(load_text(text, "v", &config), 0);
    assert_int_equal(config.part_timeout_s, 5);
    assert_int_equal(config.stall_timeout_s, 0);
    assert_int_equal(config.resync_rate, 100 << 20);
    assert_int_equal(config.scrub_s, 12 * 3600);
    assert_int_equal(config.scrub_rate, 0);
    assert_true(config.drop_slow);
    assert_true(config.drop_failing);
    assert_string_equal(config.fence_cmd, "/usr/sbin/fence --node 2");
    assert_true(config.unsafe_nolock);
    assert_int_equal(config_set(&config, "unsafe-nolock=yes"), -EINVAL);
    assert_int_equal(config_set(&config, "unsafe-nolock=0"), 0);
    assert_false(config.unsafe_nolock);
    assert_string_equal(config.metrics, "/run/lsvd/v.prom");
    config_done(&config);
    assert_int_equal(load_text(text, "other", &config), 0);
    assert_int_equal(config.stall_timeout_s, 120);
    assert_false(config.drop_slow);
    config_done(&config);
}

/* As they come from a command line. */
static void
single_settings_override_the_file(void **state)
{
    static const struct {
        const char *setting;
        uint32_t seconds;
    } times[] = {
        { "stall-timeout=0", 0 },     { "stall-timeout=90", 90 },
        { "stall-timeout=90s", 90 },  { "stall-timeout=5m", 300 },
        { "stall-timeout=12h", 43200 }, { "stall-timeout=7d", 604800 },
    };
    static const char *const wrong[] = {
        "stall-timeout=", "stall-timeout=-1", "stall-timeout=+1",
        "stall-timeout= 1", "stall-timeout=1 ", "stall-timeout=m",
        "stall-timeout=5M", "stall-timeout=1.5h", "stall-timeout=5mm",
        "stall-timeout=1w", "stall-timeout=0x10", "stall-timeout=5m;6m",
        "stall-timeout=4294967295d", "stall-timeout=99999999999999999999",
        "stall-timeout=for ever", "part-timeout=0", "part-timeout=0d",
        "scrub=never", "resync-rate=fast", "resync-rate=-1", "resync-rate=",
        "scrub-rate=1M/s", "slow-part=", "slow-part=Drop", "slow-part=on",
        "bypass-after=", "bypass-after=off", "bypass-after=1M;2M",
        "failing-part=ignore", "metrics=v.prom", "metrics=",
    };
    struct config config;

    (void)state;
    assert_int_equal(load_text("[v]\nscrub = 1d\nmetrics = /a\n", "v",
                               &config), 0);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_int_equal(config_set(&config, times[i].setting), 0);
        assert_int_equal(config.stall_timeout_s, times[i].seconds);
    }
    assert_int_equal(config_set(&config, "part-timeout=1"), 0);
    assert_int_equal(config.part_timeout_s, 1);
    assert_int_equal(config_set(&config, "scrub=0"), 0);
    assert_int_equal(config.scrub_s, 0);
    assert_int_equal(config_set(&config, "metrics=/b=c"), 0);
    assert_string_equal(config.metrics, "/b=c");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char key[32] = "";
        int r = config_set(&config, wrong[i]);

        if (r != -EINVAL)
            fail_msg("\"%s\": %d", wrong[i], r);
        (void)snprintf(key, sizeof key, "%.*s", (int)strcspn(wrong[i], "="),
                       wrong[i]);
        assert_error_names(key);
    }
    assert_int_equal(config_set(&config, "no-such=1"), -EINVAL);
    assert_int_equal(config_set(&config, "stall-timeout"), -EINVAL);
    assert_int_equal(config_set(&config, "=1"), -EINVAL);
    /* what was refused has changed nothing */
    assert_int_equal(config.stall_timeout_s, 604800);
    assert_int_equal(config.part_timeout_s, 1);
    assert_false(config.drop_slow);
    assert_string_equal(config.metrics, "/b=c");
    config_done(&config);
}

/* Also in sections that nobody asks for. */
static void
mistakes_are_named(void **state)
{
    static const char *const wrong[][2] = {
        { "[defaults]\nrom = 1\n", "rom" },
        { "[other]\ncolour = red\n", "colour" },
        { "[other]\nram = lots\n", "lots" },
        { "[a/b]\nram = 1G\n", "a/b" },
        { "[defaults]\nram = 0\n", "ram" },
        { "[defaults]\nram = 1G;2G\n", "ram" },
        { "[defaults]\nram =\n", "ram" },
        { "[defaults]\ndata = relative\n", "data" },
        { "[defaults]\ndata = /a;;/b\n", "data" },
        { "[defaults]\ndata =\n", "data" },
        { "[defaults]\ndata = /a\\q\n", "data" },
        { "[defaults]\ncache = /a;/b;/c\n", "cache" },
        { "[defaults]\njournal-size = 4K\n", "journal-size" },
        { "[defaults]\ncache-size = much\n", "cache-size" },
        { "[other]\nread-cache = yes\n", "auto, on or off" },
        { "[defaults]\npart-timeout = 0\n", "part-timeout" },
        { "[other]\nstall-timeout = soon\n", "stall-timeout" },
        { "[other]\nslow-part = kill\n", "warn or drop" },
        { "[other]\nscrub = 7d;8d\n", "scrub" },
        { "[other]\nmetrics = here.prom\n", "absolute" },
        { "ram = 1G\n", "" },
        { "[defaults\nram = 1G\n", "" },
        { "garbage\n", "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct config config;
        int r = load_text(wrong[i][0], "v", &config);

        if (r != -EINVAL)
            fail_msg("\"%s\": %d", wrong[i][0], r);
        assert_error_names(wrong[i][1]);
    }
}

static void
sizes_are_read_as_people_write_them(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        { "0", 0 }, { "512", 512 }, { "1b", 1 }, { "7B", 7 },
        { "3s", 1536 }, { "3S", 1536 },
        { "10k", 10240 }, { "10K", 10240 }, { "4M", 4 << 20 },
        { "1G", 1 << 30 }, { "2t", UINT64_C(2) << 40 },
        { "3P", UINT64_C(3) << 50 }, { "15E", UINT64_C(15) << 60 },
        { "1.5G", UINT64_C(3) << 29 }, { "0.5k", 512 }, { "1.50k", 1536 },
        { "1.0", 1 }, { "2.000", 2 }, { "0.0009765625k", 1 },
        { "1.00000000000000000000000000000k", 1024 },
        { "007", 7 },
        { "18446744073709551615", UINT64_MAX },
        { "15.9375E", UINT64_MAX - (UINT64_C(1) << 56) + 1 },
        { "9007199254740992", UINT64_C(1) << 53 }, { "8P", UINT64_C(1) << 53 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t bytes = 1234567;
        int r = size_parse(good[i].text, &bytes);

        if (r != 0 || bytes != good[i].bytes)
            fail_msg("%s: %d, %ju", good[i].text, r, (uintmax_t)bytes);
    }
}

static void
other_sizes_are_refused(void **state)
{
    static const char *const bad[] = {
        "", " ", "-1", "+1", " 1", "1 ", "1 K", "K", ".5K", "1.", "1.K",
        "1,5G", "1e3", "0x10", "1Q", "1KB", "1KiB", "1KK", "1.5", "0.3K",
        "1.5b", "16E", "18446744073709551616", "99999999999999999999999",
        "15.99999999999999999999E", "1.2.3K", "nan", "inf",
        "1\n", "\x1b[2J",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes = 42;
        int r = size_parse(bad[i], &bytes);

        if (r != -EINVAL)
            fail_msg("\"%s\": %d, %ju", bad[i], r, (uintmax_t)bytes);
        assert_int_equal(bytes, 42);
        for (const char *c = err_text(); *c != '\0'; c++)
            assert_in_range((unsigned char)*c, ' ', '~');
    }
}

static void
every_allocation_may_fail(void **state)
{
    bool fired = true;
    long nth;

    (void)state;
    for (nth = 0; fired; nth++) {
        struct config config;
        int r;

        (void)mem_fail_after(nth);
        r = load_text("[defaults]\ndata=/a;/b\n[v]\ncache=/c\n"
                      "fence-cmd=/f\nmetrics=/m\n", "v", &config);
        fired = mem_fail_after(-1);
        assert_int_equal(r, fired ? -ENOMEM : 0);
        if (r == 0)
            config_done(&config);
    }
    assert_true(nth > 10);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_without_a_file),
        cmocka_unit_test(a_section_overrides_the_defaults),
        cmocka_unit_test(what_is_done_about_failures_is_set),
        cmocka_unit_test(single_settings_override_the_file),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(sizes_are_read_as_people_write_them),
        cmocka_unit_test(other_sizes_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
