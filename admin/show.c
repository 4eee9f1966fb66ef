/* show.c: the status of a volume for people: a line that says how it is, a
 * table of its parts, and bars for what goes on. */
#include "served.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BAR_COLUMNS 20
#define CELL_BYTES 32

/* "850us", "1.2ms", "3.4s"; "-" if nothing was counted. */
static const char *
quantile_text(const json_t *latency, const char *key, char text[CELL_BYTES])
{
    double us = (double)ask_u64(latency, key);

    if (ask_u64(latency, "count") == 0)
        (void)snprintf(text, CELL_BYTES, "-");
    else if (us < 1000)
        (void)snprintf(text, CELL_BYTES, "%.0fus", us);
    else if (us < 1000000)
        (void)snprintf(text, CELL_BYTES, "%.1fms", us / 1000);
    else
        (void)snprintf(text, CELL_BYTES, "%.1fs", us / 1000000);
    return text;
}

/* "210us/1.2ms": half of them, and 99 of 100, took less. */
static const char *
latency_text(const json_t *latency, char text[2 * CELL_BYTES])
{
    char p50[CELL_BYTES], p99[CELL_BYTES];

    if (ask_u64(latency, "count") == 0)
        return "-";
    (void)snprintf(text, 2 * CELL_BYTES, "%s/%s",
                   quantile_text(latency, "p50_us", p50),
                   quantile_text(latency, "p99_us", p99));
    return text;
}

static void
time_text(uint64_t seconds, char text[CELL_BYTES])
{
    if (seconds >= 86400)
        (void)snprintf(text, CELL_BYTES, "%" PRIu64 "d %u:%02u",
                       seconds / 86400, (unsigned)(seconds / 3600 % 24),
                       (unsigned)(seconds / 60 % 60));
    else
        (void)snprintf(text, CELL_BYTES, "%u:%02u:%02u",
                       (unsigned)(seconds / 3600),
                       (unsigned)(seconds / 60 % 60),
                       (unsigned)(seconds % 60));
}

static void
print_bar(uint64_t done, uint64_t total)
{
    double share = total ? (double)done / (double)total : 0;
    int full;

    if (share > 1)
        share = 1;
    full = (int)(share * BAR_COLUMNS);
    putchar('[');
    for (int i = 0; i < BAR_COLUMNS; i++)
        putchar(i < full ? '#' : '.');
    printf("] %3.0f %%", share * 100);
}

/* ---- the first lines ---- */

static void
print_upper(const char *text)
{
    for (; *text; text++)
        putchar(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
}

static void
print_health(const json_t *s)
{
    const char *problem = ask_text(s, "problem");

    printf("volume %s: ", ask_text(s, "name"));
    print_upper(ask_text(s, "health"));
    if (problem[0]) {
        fputs(": ", stdout);
        cli_print_safe(problem);
    }
    putchar('\n');
}

static void
print_serving(const json_t *s)
{
    const json_t *view = json_object_get(s, "view");
    char up[CELL_BYTES], size[CLI_SIZE_BYTES];

    if (json_object_get(s, "size"))
        printf("  size     %s (%" PRIu64 " bytes)\n",
               cli_size(ask_u64(s, "size"), size), ask_u64(s, "size"));
    fputs("  served   ", stdout);
    if (ask_bool(s, "served")) {
        time_text(ask_u64(s, "uptime_seconds"), up);
        printf("for %s, %s", up,
               ask_bool(s, "writable") ? "writable" : "read-only");
    } else if (ask_bool(s, "in_use")) {
        fputs("by ", stdout);
        cli_print_safe(ask_text(s, "owner")[0] ? ask_text(s, "owner")
                                               : "another process");
    } else {
        printf("no; %s", ask_bool(s, "clean")
                             ? "closed cleanly"
                             : "the journal will be replayed");
    }
    printf(", view %" PRIu64 ".%" PRIu64 "\n", ask_u64(view, "epoch"),
           ask_u64(view, "minor"));
}

/* ---- parts ---- */

static void
lag_text(const json_t *part, char text[2 * CELL_BYTES])
{
    uint64_t chunks = ask_u64(part, "lag_chunks");
    char bytes[CLI_SIZE_BYTES];

    if (chunks == 0 && ask_u64(part, "lag_bytes") == 0)
        (void)snprintf(text, 2 * CELL_BYTES, "-");
    else
        (void)snprintf(text, 2 * CELL_BYTES, "%s/%" PRIu64,
                       cli_size(ask_u64(part, "lag_bytes"), bytes), chunks);
}

static void
print_part(const json_t *part)
{
    char lag[2 * CELL_BYTES], read[2 * CELL_BYTES], write[2 * CELL_BYTES];
    const char *problem = ask_text(part, "problem");

    lag_text(part, lag);
    printf("  %-4c  %-10s  %-12s  %-15s  %-15s  %6" PRIu64 "  ",
           ask_letter(part, "part"), ask_text(part, "state"), lag,
           latency_text(json_object_get(part, "read"), read),
           latency_text(json_object_get(part, "write"), write),
           ask_u64(part, "errors"));
    cli_print_safe(ask_text(part, "directory"));
    putchar('\n');
    if (ask_bool(part, "slow"))
        puts("        answers much later than it used to");
    if (ask_bool(part, "failing"))
        puts("        more than 20 errors in an hour: replace it");
    if (ask_u64(part, "abandoned"))
        printf("        %" PRIu64 " operations have not come back\n",
               ask_u64(part, "abandoned"));
    if (problem[0]) {
        fputs("        ", stdout);
        cli_print_safe(problem);
        putchar('\n');
    }
}

static void
print_parts(const json_t *s)
{
    json_t *part;
    size_t i;

    printf("  %-4s  %-10s  %-12s  %-15s  %-15s  %6s  %s\n", "part", "state",
           "lag/chunks", "read p50/p99", "write p50/p99", "errors",
           "directory");
    json_array_foreach(json_object_get(s, "parts"), i, part)
        print_part(part);
}

/* ---- what goes on ---- */

/* Only where there should be two. */
static void
print_copies(const json_t *journal)
{
    uint64_t there = ask_u64(journal, "copies");
    uint64_t done = ask_u64(journal, "fill_done_bytes");
    uint64_t total = ask_u64(journal, "fill_total_bytes");
    char a[CLI_SIZE_BYTES], b[CLI_SIZE_BYTES];

    if (ask_u64(journal, "copies_wanted") < 2)
        return;
    if (ask_bool(journal, "filling"))
        printf("  copies   1 of 2; the other one is being made anew: %s of "
               "%s\n", cli_size(done, a), cli_size(total, b));
    else
        printf("  copies   %" PRIu64 " of 2%s\n", there,
               there < 2 ? ": one was lost, or is not there" : "");
}

static void
print_journal(const json_t *s)
{
    const json_t *journal = json_object_get(s, "journal");
    char size[CLI_SIZE_BYTES], only[CLI_SIZE_BYTES];

    fputs("  journal  ", stdout);
    print_bar(ask_u64(journal, "used_bytes"), ask_u64(journal, "bytes"));
    printf(" of %s", cli_size(ask_u64(journal, "bytes"), size));
    if (ask_bool(s, "served"))
        printf("; flushed but on the journal only: %s",
               cli_size(ask_u64(journal, "only_bytes"), only));
    putchar('\n');
    print_copies(journal);
}

static void
print_read_cache(const json_t *cache)
{
    const char *state = ask_text(cache, "state");
    char size[CLI_SIZE_BYTES];

    if (state[0] == '\0' || strcmp(state, "none") == 0)
        return;
    printf("  rcache   ");
    print_bar(ask_u64(cache, "used_bytes"), ask_u64(cache, "bytes"));
    printf(" of %s; %" PRIu64 " hits, %" PRIu64 " misses; ",
           cli_size(ask_u64(cache, "bytes"), size), ask_u64(cache, "hits"),
           ask_u64(cache, "misses"));
    if (strcmp(state, "failed") == 0)
        printf("off: %s\n", ask_text(cache, "problem"));
    else if (ask_u64(cache, "part_read_us") == 0 ||
             ask_u64(cache, "cache_read_us") == 0)
        printf("%s\n", state);
    else
        printf("%s: %" PRIu64 " us, the parts take %" PRIu64 " us\n", state,
               ask_u64(cache, "cache_read_us"),
               ask_u64(cache, "part_read_us"));
}

/* Clients that read NAME@now. */
static void
print_now(const json_t *now)
{
    char kept[CLI_SIZE_BYTES];

    if (ask_u64(now, "readers") == 0)
        return;
    printf("  @now     readers: %" PRIu64 ", of whom %" PRIu64 " get errors; "
           "kept for them: %s\n", ask_u64(now, "readers"),
           ask_u64(now, "broken"),
           cli_size(ask_u64(now, "kept_bytes"), kept));
}

static void
print_task(const char *name, const json_t *task)
{
    uint64_t done = ask_u64(task, "chunks_done");
    uint64_t total = ask_u64(task, "chunks_total");
    uint64_t seconds = ask_u64(task, "seconds");
    char rate[CLI_SIZE_BYTES], left[CELL_BYTES] = "-:--:--";

    if (!ask_bool(task, "active"))
        return;
    printf("  %s %c ", name,
           ask_letter(task, "part") ? ask_letter(task, "part") : ' ');
    print_bar(done, total);
    if (done && done <= total)
        time_text((uint64_t)((double)seconds * (double)(total - done) /
                             (double)done),
                  left);
    printf(" of %" PRIu64 " chunks, %s/s, ETA %s\n", total,
           cli_size(ask_u64(task, "bytes_done") / (seconds ? seconds : 1),
                    rate),
           left);
}

static void
print_scrub_history(const json_t *scrub)
{
    time_t end = (time_t)ask_u64(scrub, "last_end");
    char text[64];
    struct tm tm;

    if (ask_u64(scrub, "every_seconds") == 0) {
        puts("  scrub    off");
        return;
    }
    if (end == 0 || !localtime_r(&end, &tm) ||
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm) == 0)
        (void)snprintf(text, sizeof text, "never");
    printf("  scrub    last finished: %s\n", text);
}

static void
print_counters(const json_t *s)
{
    const json_t *c = json_object_get(s, "counters");
    const json_t *l = json_object_get(s, "latency");
    char a[CLI_SIZE_BYTES], b[CLI_SIZE_BYTES];
    char read[2 * CELL_BYTES], write[2 * CELL_BYTES], flush[2 * CELL_BYTES];

    printf("  clients  %" PRIu64 " reads (%s), %" PRIu64 " writes (%s), %"
           PRIu64 " flushes; errors: %" PRIu64 "\n", ask_u64(c, "reads"),
           cli_size(ask_u64(c, "read_bytes"), a), ask_u64(c, "writes"),
           cli_size(ask_u64(c, "write_bytes"), b), ask_u64(c, "flushes"),
           ask_u64(c, "read_errors") + ask_u64(c, "write_errors"));
    printf("  p50/p99  read %s, write %s, flush %s\n",
           latency_text(json_object_get(l, "read"), read),
           latency_text(json_object_get(l, "write"), write),
           latency_text(json_object_get(l, "flush"), flush));
    printf("  blocks   %" PRIu64 " bad, %" PRIu64 " healed, %" PRIu64
           " lost; cache: %" PRIu64 " hits, %" PRIu64 " misses\n",
           ask_u64(c, "bad_blocks"), ask_u64(c, "healed_blocks"),
           ask_u64(c, "lost_blocks"), ask_u64(c, "cache_hits"),
           ask_u64(c, "cache_misses"));
    printf("  parts    %" PRIu64 " dropped, %" PRIu64 " came back, %" PRIu64
           " chunks resynced; stalled requests: %" PRIu64 "\n",
           ask_u64(c, "evictions"), ask_u64(c, "returns"),
           ask_u64(c, "resynced_chunks"), ask_u64(c, "stalled_requests"));
}

void
show_status(const json_t *s)
{
    print_health(s);
    print_serving(s);
    if (json_array_size(json_object_get(s, "parts")))
        print_parts(s);
    if (json_object_get(s, "journal"))
        print_journal(s);
    print_read_cache(json_object_get(s, "read_cache"));
    print_now(json_object_get(s, "now"));
    if (!ask_bool(s, "served"))
        return;
    print_task("resync", json_object_get(s, "resync"));
    print_task("scrub ", json_object_get(s, "scrub"));
    print_scrub_history(json_object_get(s, "scrub"));
    print_counters(s);
}

void
show_event(const json_t *e)
{
    time_t at = (time_t)ask_u64(e, "time");
    char text[64] = "?";
    struct tm tm;

    if (localtime_r(&at, &tm))
        (void)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%5" PRIu64 "  %s  %-8s  %c  ", ask_u64(e, "event"), text,
           ask_text(e, "kind"),
           ask_letter(e, "part") ? ask_letter(e, "part") : '-');
    cli_print_safe(ask_text(e, "text"));
    putchar('\n');
}
