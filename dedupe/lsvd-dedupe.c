/* lsvd-dedupe.c: the program lsvd-dedupe: blocks of a volume that are equal to
 * blocks of read-only volumes become references to those. */
#include "dedupe.h"

#include <ask.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option options[] = {
    { "data", 'd', true, 1 },
    { "cache", 'c', true, 1 },
    { "config", 0, true, 1 },
    { "json", 0, false, 1 },
    { "verbose", 'v', false, 1 },
    { "quiet", 'q', false, 1 },
    { "no-progress", 0, false, 1 },
    { "help", 'h', false, 1 },
    { "version", 'V', false, 1 },
    { "source", 's', true, 1 },
    { "estimate", 'n', false, 1 },
    { "rehydrate", 0, false, 1 },
    { "memory", 0, true, 1 },
    { "max-mbps", 0, true, 1 },
    { NULL, 0, false, 0 },
};

struct parsing {
    struct request *req;
    bool help, version;
};

static int
take_number(struct request *req, const struct cli_option *option,
            const char *value)
{
    if (strcmp(option->name, "memory") == 0) {
        if (lsvd_parse_size(value, &req->spec.memory_bytes) < 0 ||
            req->spec.memory_bytes < MEMORY_MIN)
            return cli_usage(&req->cli, "--memory %s: not a size of at least "
                             "1M", value);
        return 0;
    }
    return cli_take_rate(&req->cli, value, &req->spec.rate_bytes);
}

static int
take_option(void *ctx, const struct cli_option *option, const char *value)
{
    struct parsing *p = ctx;
    struct request *req = p->req;
    struct {
        const char *name;
        bool *flag;
    } flags[] = {
        { "help", &p->help },
        { "version", &p->version },
        { "quiet", &req->cli.quiet },
        { "no-progress", &req->no_progress },
        { "estimate", &req->spec.estimate },
        { "rehydrate", &req->rehydrate },
    };

    if (cli_common_option(&req->cli, option, value))
        return 0;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(flags[i].name, option->name) == 0) {
            *flags[i].flag = true;
            return 0;
        }
    }
    if (strcmp(option->name, "source") != 0)
        return take_number(req, option, value);
    if (req->source_count == SOURCES_MAX)
        return cli_usage(&req->cli, "more than %d sources", SOURCES_MAX);
    req->source[req->source_count++] = value;
    return 0;
}

/* ---- work ---- */

static json_t *
make_args(const struct request *req, const char *name)
{
    json_t *args = cli_json_new(), *names = cli_json_must(json_array());

    for (size_t i = 0; i < req->source_count; i++)
        cli_json_append(names, cli_json_text(req->source[i]));
    cli_json_set(args, "sources", names);
    if (strchr(name, '@'))
        cli_json_set(args, "snapshot", cli_json_text(name));
    cli_json_set(args, "estimate", json_boolean(req->spec.estimate));
    cli_json_set(args, "rehydrate", json_boolean(req->rehydrate));
    cli_json_set(args, "memory", cli_json_u64(req->spec.memory_bytes));
    cli_json_set(args, "rate", cli_json_u64(req->spec.rate_bytes));
    return args;
}

static void
take_report(const json_t *result, struct lsvd_dedupe_report *ret)
{
    *ret = (struct lsvd_dedupe_report){
        .blocks_scanned = ask_u64(result, "blocks_scanned"),
        .bytes_scanned = ask_u64(result, "bytes_scanned"),
        .blocks_matched = ask_u64(result, "blocks_matched"),
        .blocks_zero = ask_u64(result, "blocks_zero"),
        .blocks_collided = ask_u64(result, "blocks_collided"),
        .bytes_given_back = ask_u64(result, "bytes_given_back"),
        .chunks_skipped = ask_u64(result, "chunks_skipped"),
        .index_blocks = ask_u64(result, "index_blocks"),
        .index_memory_bytes = ask_u64(result, "index_memory_bytes"),
        .duration_ms = ask_u64(result, "duration_ms"),
    };
}

/* By the server of the volume, if it has one, and goes on from the snapshot
 * that is named; else here. */
static int
work(struct request *req, const char *name, struct lsvd_dedupe_report *ret)
{
    const struct lsvd_repair_callbacks cb =
        progress_callbacks(&req->progress);
    struct lsvd_env env = cli_env(&req->cli);
    json_t *args = make_args(req, name), *result = NULL;
    char *volume = cli_volume_of(name);
    const struct control_ask ask = { .volume = volume,
                                     .op = strchr(name, '@')
                                               ? "dedupe-snapshot" : "dedupe",
                                     .args = args,
                                     .line = progress_line,
                                     .cancelled = progress_cancelled,
                                     .ctx = &req->progress };
    char error[CONTROL_ERROR_BYTES];
    int r = cli_ask(&req->cli, &ask, &result, error);

    if (r == 0)
        take_report(result, ret);
    json_decref(result);
    json_decref(args);
    free(volume);
    if (r == 0)
        return 0;
    if (!ask_is_offline(r) && r != -EXDEV)
        return cli_fail(&req->cli, EXIT_FAILURE, "%s", error);
    req->spec.sources = req->source;
    r = req->rehydrate ? lsvd_rehydrate(&env, name, &req->spec, &cb, ret)
                       : lsvd_dedupe(&env, name, &req->spec, &cb, ret);
    return r < 0 ? cli_engine_failed(&req->cli) : 0;
}

/* ---- what came of it ---- */

static void
print_json(const struct request *req, const char *volume,
           const struct lsvd_dedupe_report *r)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        { "blocks_scanned", r->blocks_scanned },
        { "bytes_scanned", r->bytes_scanned },
        { "blocks_matched", r->blocks_matched },
        { "blocks_zero", r->blocks_zero },
        { "blocks_collided", r->blocks_collided },
        { "bytes_given_back", r->bytes_given_back },
        { "chunks_skipped", r->chunks_skipped },
        { "index_blocks", r->index_blocks },
        { "index_memory_bytes", r->index_memory_bytes },
        { "duration_ms", r->duration_ms },
    };
    json_t *answer = cli_json_new();
    cli_json_set(answer, "volume", cli_json_text(volume));
    cli_json_set(answer, "estimate", json_boolean(req->spec.estimate));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        cli_json_set(answer, numbers[i].key, cli_json_u64(numbers[i].value));
    cli_json_print(answer);
}

static void
print_text(const struct request *req, const char *volume,
           const struct lsvd_dedupe_report *r)
{
    double seconds = (double)(r->duration_ms + 1) / 1000;
    bool estimate = req->spec.estimate;
    char size[CLI_SIZE_BYTES];

    if (req->rehydrate) {
        printf("%s: %" PRIu64 " references are its own blocks again\n", volume,
               r->blocks_matched);
        return;
    }
    printf("%s: %" PRIu64 " blocks looked at in %.1f s (%s/s)\n", volume,
           r->blocks_scanned, seconds,
           cli_size((uint64_t)((double)r->bytes_scanned / seconds), size));
    printf("  %s %" PRIu64 "\n",
           estimate ? "equal to a source's block " : "became references         ",
           r->blocks_matched);
    printf("  %s %" PRIu64 "\n",
           estimate ? "zeroes                    " : "zeroes that became holes  ",
           r->blocks_zero);
    printf("  %s %s\n",
           estimate ? "a run would give back     " : "given back on the parts   ",
           cli_size(r->bytes_given_back, size));
    if (r->chunks_skipped > 0)
        printf("  chunks that were being written all the time: %" PRIu64
               "; run it again\n", r->chunks_skipped);
}

static int
dedupe(struct request *req, const char *volume)
{
    struct lsvd_dedupe_report report = { 0 };
    int r;

    progress_start(&req->progress, volume);
    r = work(req, volume, &report);
    progress_clear(&req->progress);
    if (r)
        return r;
    if (req->cli.json)
        print_json(req, volume, &report);
    else if (!req->cli.quiet)
        print_text(req, volume, &report);
    return 0;
}

static int
run_on(struct request *req, const char *volume)
{
    int r;

    progress_begin(&req->progress, &req->cli, !req->no_progress);
    r = dedupe(req, volume);
    progress_end(&req->progress, &req->cli);
    return cli_finish(&req->cli, r, EXIT_FAILURE);
}

static int
run(struct request *req, int argc, char **argv)
{
    struct parsing p = { .req = req };
    uint64_t seen;
    int first, r;

    r = cli_parse(&req->cli, argc, argv, options, take_option, &p, &seen,
                  &first);
    if (r)
        return r;
    if (p.help) {
        help_print();
        return cli_finish(&req->cli, 0, EXIT_FAILURE);
    }
    if (p.version) {
        puts("lsvd-dedupe " LSVD_VERSION);
        return cli_finish(&req->cli, 0, EXIT_FAILURE);
    }
    if (argc - first != 1)
        return cli_usage(&req->cli, "it takes one NAME");
    if (req->rehydrate && (req->source_count > 0 || req->spec.estimate))
        return cli_usage(&req->cli, "--rehydrate takes no --source and no "
                         "--estimate");
    if (!req->rehydrate && req->source_count == 0)
        return cli_usage(&req->cli, "which --source?");
    return run_on(req, argv[first]);
}

int
main(int argc, char **argv)
{
    struct request req = { .cli = { .program = "lsvd-dedupe" } };
    int status = run(&req, argc, argv);

    cli_done(&req.cli);
    return status;
}
