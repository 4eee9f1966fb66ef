/* report.c: what was found in a volume, for people and for programs. */
#include "repair.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *
kind_text(enum lsvd_chunk_finding kind)
{
    switch (kind) {
    case LSVD_CHUNK_HEALTHY:
        return "healthy";
    case LSVD_CHUNK_MISSING:
        return "missing";
    case LSVD_CHUNK_STALE:
        return "stale";
    case LSVD_CHUNK_CORRUPT:
        return "corrupt";
    case LSVD_CHUNK_UNEXPECTED:
        return "unexpected";
    }
    return "unknown";
}

static const char *
command_text(const struct request *req)
{
    switch (req->command) {
    case COMMAND_REBUILD:
        return req->dry_run ? "rebuild --dry-run" : "rebuild";
    case COMMAND_REPLACE:
        return "replace";
    case COMMAND_FORCE_START:
        return "force-start";
    case COMMAND_VERIFY:
    case COMMAND_TAKEOVER: /* takeover.c */
    case COMMAND_ALL:
        break;
    }
    return req->quick ? "verify --quick" : "verify --full";
}

static struct lsvd_part_report
sum_of_parts(const struct lsvd_report *report)
{
    struct lsvd_part_report sum = { 0 };

    for (uint32_t i = 0; i < report->part_count; i++) {
        const struct lsvd_part_report *part = &report->part[i];

        sum.healthy += part->healthy;
        sum.missing += part->missing;
        sum.stale += part->stale;
        sum.corrupt += part->corrupt;
        sum.unexpected += part->unexpected;
    }
    return sum;
}

static const char *
verdict(const struct outcome *o)
{
    switch (o->code) {
    case CODE_OK:
        return "policy met";
    case CODE_REDUCED:
        return "redundancy is reduced; all data can be read";
    case CODE_LOST:
        return o->report.data_lost || o->lost.count ? "DATA IS LOST"
                                                    : "a loss was accepted";
    case CODE_FAILED:
        return "could not check";
    }
    return "?";
}

/* ---- for people ---- */

static void
print_finding(const struct outcome *o, const struct kept_finding *f)
{
    if (o->unconfirmed)
        fputs("  unconfirmed:", stdout);
    if (f->part)
        printf("  part %c ", f->part);
    else
        fputs("  volume ", stdout);
    if (f->chunk)
        printf("chunk %" PRIu64 " ", f->chunk);
    printf("%s: ", kind_text(f->kind));
    /* A text about a file often names it itself. */
    if (!strstr(f->text, f->file)) {
        cli_print_safe(f->file);
        fputs(f->text[0] ? ": " : "", stdout);
    }
    cli_print_safe(f->text);
    putchar('\n');
}

static void
print_findings(const struct outcome *o)
{
    for (size_t i = 0; i < o->finding_count; i++)
        print_finding(o, &o->finding[i]);
    if (o->findings_total > o->finding_count)
        printf("  ... and %" PRIu64 " more\n",
               o->findings_total - o->finding_count);
}

static void
print_row(const char *name, const char *state,
          const struct lsvd_part_report *part)
{
    printf("  %-4s  %-10s  %10" PRIu64 "  %10" PRIu64 "  %10" PRIu64
           "  %10" PRIu64 "  %10" PRIu64 "\n",
           name, state, part->healthy, part->missing, part->stale,
           part->corrupt, part->unexpected);
}

static void
print_table(const struct lsvd_report *report)
{
    struct lsvd_part_report sum = sum_of_parts(report);

    printf("  %-4s  %-10s  %10s  %10s  %10s  %10s  %10s\n", "part", "state",
           "healthy", "missing", "stale", "corrupt", "unexpected");
    for (uint32_t i = 0; i < report->part_count; i++) {
        const char name[2] = { report->part[i].letter, '\0' };

        print_row(name, lsvd_part_state_text(report->part[i].state),
                  &report->part[i]);
    }
    print_row("sum", "", &sum);
}

static void
print_range(const char *what, const struct lsvd_lost_range *range,
            uint32_t block_bytes)
{
    uint64_t end = range->offset + range->count;

    printf("  %s: bytes %" PRIu64 "-%" PRIu64, what, range->offset, end - 1);
    if (block_bytes)
        printf(" (blocks %" PRIu64 "-%" PRIu64 ")",
               range->offset / block_bytes, (end - 1) / block_bytes);
    putchar('\n');
}

static void
print_ranges(const char *what, const struct ranges *r, uint32_t block_bytes)
{
    size_t shown = r->count;

    if (shown > RANGES_SHOWN_MAX)
        shown = RANGES_SHOWN_MAX;
    for (size_t i = 0; i < shown; i++)
        print_range(what, &r->range[i], block_bytes);
    if (r->count - shown + r->dropped)
        printf("  %s: ... and %" PRIu64 " more ranges (see --json)\n", what,
               r->count - shown + r->dropped);
}

void
report_print(const struct outcome *o)
{
    const struct lsvd_report *report = &o->report;
    char lost[CLI_SIZE_BYTES];

    printf("%s: %s%s: %s", o->volume, command_text(o->req),
           o->unconfirmed          ? " (beside a server: unconfirmed)"
           : report->beside_server ? " (by its server)"
                                   : "",
           verdict(o));
    if (report->data_lost)
        printf(": %s (%" PRIu64 " bytes)",
               cli_size(report->lost_bytes, lost), report->lost_bytes);
    putchar('\n');
    print_findings(o);
    print_ranges("lost", &o->lost, o->block_bytes);
    if (report->journal_given_up)
        printf("  writes since sequence %" PRIu64 " that were only in the "
               "journal are lost; which blocks is not known\n",
               report->kept_seq);
    print_ranges("doubtful", &o->doubtful, o->block_bytes);
    print_table(report);
    if (o->req->command != COMMAND_VERIFY && !o->req->dry_run)
        printf("  written back: %" PRIu64 " chunks\n", report->rebuilt);
}

/* ---- for programs ---- */

static json_t *
new_array(void)
{
    json_t *array = cli_json_must(json_array());

    return array;
}

static void
set_counts(json_t *object, const struct lsvd_part_report *part)
{
    cli_json_set(object, "healthy", cli_json_u64(part->healthy));
    cli_json_set(object, "missing", cli_json_u64(part->missing));
    cli_json_set(object, "stale", cli_json_u64(part->stale));
    cli_json_set(object, "corrupt", cli_json_u64(part->corrupt));
    cli_json_set(object, "unexpected", cli_json_u64(part->unexpected));
}

static json_t *
letter_to_json(char letter)
{
    const char text[2] = { letter, '\0' };

    return letter ? cli_json_text(text) : json_null();
}

static json_t *
parts_to_json(const struct lsvd_report *report)
{
    json_t *array = new_array();

    for (uint32_t i = 0; i < report->part_count; i++) {
        const struct lsvd_part_report *part = &report->part[i];
        json_t *object = cli_json_new();

        cli_json_set(object, "part", letter_to_json(part->letter));
        cli_json_set(object, "state",
                     cli_json_text(lsvd_part_state_text(part->state)));
        set_counts(object, part);
        cli_json_append(array, object);
    }
    return array;
}

static json_t *
findings_to_json(const struct outcome *o)
{
    json_t *array = new_array();

    for (size_t i = 0; i < o->finding_count; i++) {
        const struct kept_finding *f = &o->finding[i];
        json_t *object = cli_json_new();

        cli_json_set(object, "part", letter_to_json(f->part));
        cli_json_set(object, "chunk", cli_json_u64(f->chunk));
        cli_json_set(object, "kind", cli_json_text(kind_text(f->kind)));
        cli_json_set(object, "file", cli_json_text(f->file));
        cli_json_set(object, "text", cli_json_text(f->text));
        cli_json_set(object, "unconfirmed", json_boolean(o->unconfirmed));
        cli_json_append(array, object);
    }
    return array;
}

static json_t *
ranges_to_json(const struct ranges *r)
{
    json_t *array = new_array();

    for (size_t i = 0; i < r->count; i++) {
        json_t *object = cli_json_new();

        cli_json_set(object, "offset", cli_json_u64(r->range[i].offset));
        cli_json_set(object, "bytes", cli_json_u64(r->range[i].count));
        cli_json_append(array, object);
    }
    return array;
}

static json_t *
bool_if_checked(const struct outcome *o, bool value)
{
    return o->error ? json_null() : json_boolean(value);
}

json_t *
report_to_json(const struct outcome *o)
{
    const struct lsvd_report *report = &o->report;
    struct lsvd_part_report sum = sum_of_parts(report);
    json_t *object = cli_json_new(), *total = cli_json_new();

    set_counts(total, &sum);
    cli_json_set(object, "volume", cli_json_text(o->volume));
    cli_json_set(object, "command", cli_json_text(command_text(o->req)));
    cli_json_set(object, "exit_code", cli_json_u64((uint64_t)o->code));
    cli_json_set(object, "error",
                 o->error ? cli_json_text(o->error) : json_null());
    cli_json_set(object, "policy_met",
                 bool_if_checked(o, report->policy_met));
    cli_json_set(object, "data_lost",
                 bool_if_checked(o, report->data_lost || o->lost.count));
    cli_json_set(object, "full", bool_if_checked(o, report->full));
    cli_json_set(object, "beside_server",
                 bool_if_checked(o, report->beside_server));
    cli_json_set(object, "parts", parts_to_json(report));
    cli_json_set(object, "sum", total);
    cli_json_set(object, "rebuilt", cli_json_u64(report->rebuilt));
    cli_json_set(object, "lost_bytes", cli_json_u64(report->lost_bytes));
    cli_json_set(object, "lost", ranges_to_json(&o->lost));
    cli_json_set(object, "lost_ranges_dropped",
                 cli_json_u64(o->lost.dropped));
    cli_json_set(object, "doubtful", ranges_to_json(&o->doubtful));
    cli_json_set(object, "doubtful_ranges_dropped",
                 cli_json_u64(o->doubtful.dropped));
    cli_json_set(object, "journal_lost_since",
                 report->journal_given_up ? cli_json_u64(report->kept_seq)
                                          : json_null());
    cli_json_set(object, "findings_count", cli_json_u64(o->findings_total));
    cli_json_set(object, "findings", findings_to_json(o));
    return object;
}
