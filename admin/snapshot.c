/* snapshot.c: lsvd snapshot create, list, rollback. The server of a volume does
 * it, while it goes on; where there is none, the engine here. */
#include "ask.h"
#include "request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIME_BYTES 32

/* The volume's name; NULL: out of the question, and it was said why. */
static char *
volume_of(const struct request *req, const char *name)
{
    const char *at = strchr(name, '@');

    if (!at || at == name || !at[1]) {
        (void)cli_usage(&req->cli, "%s: a snapshot is named VOLUME@SNAPSHOT",
                        name);
        return NULL;
    }
    return cli_volume_of(name);
}

/* ---- create ---- */

/* As control_ask; ret_result may be NULL on an error. */
static int
ask_server(struct request *req, const char *volume, const char *name,
           json_t **ret_result, char error[CONTROL_ERROR_BYTES])
{
    json_t *args = cli_json_new();
    const struct control_ask ask = { .volume = volume, .op = "snapshot",
                                     .args = args };
    int r;

    cli_json_set(args, "name", cli_json_text(name));
    r = cli_ask(&req->cli, &ask, ret_result, error);
    json_decref(args);
    return r;
}

static int
print_created(struct request *req, const char *name, const json_t *result)
{
    uint64_t pause_us = ask_u64(result, "pause_us");
    json_t *answer;

    if (req->cli.json) {
        answer = cli_json_new();
        cli_json_set(answer, "snapshot", cli_json_text(name));
        cli_json_set(answer, "pause_us", result ? cli_json_u64(pause_us)
                                                : json_null());
        cli_json_print(answer);
        return 0;
    }
    printf("made %s", name);
    if (result)
        printf("; clients waited %" PRIu64 ".%" PRIu64 " ms", pause_us / 1000,
               pause_us / 100 % 10);
    putchar('\n');
    return 0;
}

static int
create(struct request *req, const char *name)
{
    struct lsvd_env env = cli_env(&req->cli);
    char error[CONTROL_ERROR_BYTES];
    char *volume = volume_of(req, name);
    json_t *result = NULL;
    int r;

    if (!volume)
        return EXIT_USAGE;
    r = ask_server(req, volume, name, &result, error);
    free(volume);
    if (r < 0 && !ask_is_offline(r))
        return cli_fail(&req->cli, EXIT_FAILURE, "%s", error);
    if (r < 0) {
        cli_hold_signals();
        r = lsvd_snapshot_create(&env, name);
        cli_let_signals();
    }
    if (r < 0)
        return cli_engine_failed(&req->cli);
    r = print_created(req, name, result);
    json_decref(result);
    return r;
}

/* ---- list ---- */

static void
time_text(uint64_t seconds, char text[TIME_BYTES])
{
    time_t at = (time_t)seconds;
    struct tm tm;

    if (!gmtime_r(&at, &tm) ||
        strftime(text, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(text, TIME_BYTES, "?");
}

struct listing {
    json_t *array; /* NULL: for people */
    size_t count;
};

static int
list_one(void *ctx, const struct lsvd_snapshot *s)
{
    struct listing *listing = ctx;
    char made[TIME_BYTES], size[CLI_SIZE_BYTES];
    json_t *entry;

    listing->count++;
    time_text(s->frozen_at, made);
    if (listing->array) {
        entry = cli_json_new();
        cli_json_set(entry, "name", cli_json_text(s->name));
        cli_json_set(entry, "number", cli_json_u64(s->number));
        cli_json_set(entry, "size", cli_json_u64(s->size_bytes));
        cli_json_set(entry, "made", cli_json_text(made));
        cli_json_append(listing->array, entry);
        return 0;
    }
    if (listing->count == 1)
        printf("%-32s %6s %8s  %s\n", "NAME", "NUMBER", "SIZE", "MADE");
    printf("%-32s %6" PRIu32 " %8s  %s\n", s->name, s->number,
           cli_size(s->size_bytes, size), made);
    return 0;
}

/* Of a snapshot: those of its volume. */
static int
list(struct request *req, const char *name)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct listing listing = { .count = 0 };
    char *volume = cli_volume_of(name);
    int r;

    if (req->cli.json) {
        listing.array = cli_json_must(json_array());
    }
    r = lsvd_snapshot_list(&env, volume, list_one, &listing);
    if (r < 0)
        json_decref(listing.array);
    else if (listing.array)
        cli_json_print(listing.array);
    else if (listing.count == 0)
        printf("no snapshots of %s\n", volume);
    free(volume);
    return r < 0 ? cli_engine_failed(&req->cli) : 0;
}

/* ---- rollback ---- */

static int
rollback(struct request *req, const char *name)
{
    struct lsvd_env env = cli_env(&req->cli);
    char *volume = volume_of(req, name);
    json_t *answer;
    int r;

    if (!volume)
        return EXIT_USAGE;
    cli_hold_signals();
    r = lsvd_snapshot_rollback(&env, name);
    cli_let_signals();
    if (r < 0) {
        free(volume);
        return cli_engine_failed(&req->cli);
    }
    if (req->cli.json) {
        answer = cli_json_new();
        cli_json_set(answer, "volume", cli_json_text(volume));
        cli_json_set(answer, "holds", cli_json_text(name));
        cli_json_print(answer);
    } else {
        printf("%s holds again what %s holds\n", volume, name);
    }
    free(volume);
    return 0;
}

static const struct action {
    const char *name;
    int (*run)(struct request *req, const char *name);
} actions[] = {
    { "create", create },
    { "list", list },
    { "rollback", rollback },
    { "remove", snapshot_remove },
};

static int
run_action(struct request *req, const struct action *action)
{
    if (action->run != snapshot_remove && (req->rate_bytes || req->no_progress))
        return cli_usage(&req->cli, "snapshot %s takes no --max-mbps and no "
                         "--no-progress", action->name);
    return action->run(req, req->words[1]);
}

int
command_snapshot(struct request *req)
{
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(actions[i].name, req->words[0]) == 0)
            return run_action(req, &actions[i]);
    return cli_usage(&req->cli, "snapshot %s: create, list, rollback and "
                     "remove are known", req->words[0]);
}
