/* test-control-metrics.c: what Prometheus and lsvd status are told. */
#include "../unit.h"
#include "control/metrics.h"
#include "control/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct lsvd_status *
sample(const char *name)
{
    struct lsvd_status *s = calloc(1, sizeof *s);

    assert_non_null(s);
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    s->health = LSVD_DEGRADED;
    s->part_count = 2;
    s->part[0].letter = 'a';
    s->part[1].letter = 'b';
    s->part[1].state = LSVD_PART_SYNCING;
    s->part[1].lag_bytes = 4096;
    return s;
}

static void
assert_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);

    if (!at)
        print_error("no line %s\n", line);
    assert_non_null(at);
    assert_true(at == text || at[-1] == '\n');
    assert_int_equal(at[strlen(line)], '\n');
}

static void
samples_of_a_metric_stand_together(void **state)
{
    struct lsvd_status *one = sample("one"), *two = sample("two");
    const struct lsvd_status *const both[] = { one, two };
    char *text = metrics_format(both, 2, true);
    const char *at;

    (void)state;
    assert_non_null(text);
    at = strstr(text, "lsvd_up{volume=\"one\"} 1\n");
    assert_non_null(at);
    assert_int_equal(strncmp(strchr(at, '\n'),
                             "\nlsvd_up{volume=\"two\"} 1\n", 25), 0);
    assert_line(text, "lsvd_health{volume=\"two\",health=\"degraded\"} 1");
    assert_line(text, "lsvd_health{volume=\"two\",health=\"healthy\"} 0");
    assert_line(text, "lsvd_part_in_sync{volume=\"one\",part=\"a\"} 1");
    assert_line(text, "lsvd_part_in_sync{volume=\"one\",part=\"b\"} 0");
    assert_line(text, "lsvd_part_lag_bytes{volume=\"one\",part=\"b\"} 4096");
    free(text);
    text = metrics_format(both, 1, false);
    assert_line(text, "lsvd_up{volume=\"one\"} 0");
    free(text);
    free(one);
    free(two);
}

#define BUCKET "lsvd_request_duration_seconds_bucket{volume=\"v\",op=\"read\""

/* Bucket i is of what took less than 2^i us. */
static void
histograms_are_cumulative(void **state)
{
    struct lsvd_status *s = sample("v");
    const struct lsvd_status *one = s;
    char *text;

    (void)state;
    s->read.bucket[0] = 1;
    s->read.bucket[10] = 2;
    s->read.bucket[LSVD_LATENCY_BUCKETS - 1] = 4;
    s->read.count = 7;
    s->read.sum_ns = 1500000000;
    text = metrics_format(&one, 1, true);
    assert_line(text, BUCKET ",le=\"0.000016\"} 1");
    assert_line(text, BUCKET ",le=\"0.000512\"} 1");
    assert_line(text, BUCKET ",le=\"0.001024\"} 3");
    assert_line(text, BUCKET ",le=\"67.108864\"} 3");
    assert_line(text, BUCKET ",le=\"+Inf\"} 7");
    assert_line(text, "lsvd_request_duration_seconds_sum"
                      "{volume=\"v\",op=\"read\"} 1.500000000");
    assert_line(text, "lsvd_request_duration_seconds_count"
                      "{volume=\"v\",op=\"read\"} 7");
    free(text);
    free(s);
}

static void
quantiles_lie_in_their_bucket(void **state)
{
    struct lsvd_latency l = { .count = 0 };

    (void)state;
    assert_int_equal(latency_quantile_us(&l, 0.5), 0);
    l.count = 100;
    l.bucket[8] = 98; /* 128 to 256 us */
    l.bucket[12] = 2; /* 2048 to 4096 us */
    assert_in_range(latency_quantile_us(&l, 0.5), 128, 256);
    assert_in_range(latency_quantile_us(&l, 0.98), 128, 256);
    assert_in_range(latency_quantile_us(&l, 0.99), 2048, 4096);
    assert_int_equal(latency_quantile_us(&l, 1), 4096);
    l.count = 200; /* counted while others add */
    assert_int_equal(latency_quantile_us(&l, 0.99), 4096);
}

static void
status_is_json_whatever_a_directory_is_called(void **state)
{
    struct lsvd_status *s = sample("v");
    json_t *all, *part;

    (void)state;
    (void)strcpy(s->part[0].directory, "/mnt/\xe9\n\"x");
    (void)strcpy(s->part[0].problem, "\xff");
    s->counters.reads = 5;
    all = status_to_json(s);
    part = json_array_get(json_object_get(all, "parts"), 0);
    assert_string_equal(json_string_value(json_object_get(part, "directory")),
                        "/mnt/?\n\"x");
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(all, "counters"), "reads")), 5);
    assert_true(json_is_null(json_object_get(all, "problem")));
    json_decref(all);
    free(s);
}

/* ---- the file ---- */

static void
read_back(const char *path, const char *want)
{
    char got[100] = "";
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    assert_int_equal(fread(got, 1, sizeof got - 1, file), strlen(want));
    assert_string_equal(got, want);
    (void)fclose(file);
}

/* A link where the new file is to be is not followed. */
static void
the_file_is_replaced_at_once(void **state)
{
    char dir[] = "/tmp/lsvd-test-XXXXXX", path[64], fresh[64], other[64];
    struct stat info;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/m.prom", dir);
    (void)snprintf(fresh, sizeof fresh, "%s/m.prom.new", dir);
    (void)snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(metrics_store(other, "precious"), 0);
    assert_int_equal(symlink(other, fresh), 0);
    (void)umask(077);
    assert_int_equal(metrics_store(path, "one"), 0);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
    read_back(path, "one");
    assert_int_equal(metrics_store(path, "two\n"), 0);
    read_back(path, "two\n");
    read_back(other, "precious");
    assert_int_equal(lstat(fresh, &info), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(metrics_store(path, "x"), -ENOENT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_of_a_metric_stand_together),
        cmocka_unit_test(histograms_are_cumulative),
        cmocka_unit_test(quantiles_lie_in_their_bucket),
        cmocka_unit_test(status_is_json_whatever_a_directory_is_called),
        cmocka_unit_test(the_file_is_replaced_at_once),
    };

    return cmocka_run_group_tests_name("control-metrics", tests, NULL, NULL);
}
