/* commands.c: the commands of lsvd: call the engine, print what came of it.
 * Errors are the engine's own line. */
#include "ask.h"
#include "request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
parse_size(const struct request *req, const char *text, uint64_t *ret)
{
    if (lsvd_parse_size(text, ret) < 0)
        return cli_usage(&req->cli, "%s", lsvd_error());
    return 0;
}

/* What a command printed as JSON is the volume as it now is. */
static int
print_json_info(struct request *req, const char *name)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_info info;

    if (lsvd_info(&env, name, &info) < 0)
        return cli_engine_failed(&req->cli);
    cli_json_print(info_to_json(&info));
    return 0;
}

/* ---- create ---- */

/* A directory as a shell takes it. */
static void
print_quoted(const char *path)
{
    if (path[0] && !path[strspn(path, "abcdefghijklmnopqrstuvwxyz"
                                      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789/._-+,@%")]) {
        fputs(path, stdout);
        return;
    }
    putchar('\'');
    for (; *path; path++)
        if (*path == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*path);
    putchar('\'');
}

/* Of --data so many are named: the parts of a clone may lie under any of them.
 */
static size_t
named_data(const struct request *req)
{
    size_t count = req->cli.data.count;

    return req->create.parent || count == 0 ? count : 1;
}

static bool
is_first_mention(const struct request *req, size_t idx)
{
    char *const *data = req->cli.data.path;

    for (size_t i = 0; i < idx; i++)
        if (strcmp(req->part_root[i], req->part_root[idx]) == 0)
            return false;
    for (size_t i = 0; i < named_data(req); i++)
        if (strcmp(data[i], req->part_root[idx]) == 0)
            return false;
    return true;
}

/* Every root is named: any one of them is enough to find the volume. */
static void
print_serve_line(const struct request *req)
{
    const struct cli_paths *data = &req->cli.data;
    const struct cli_paths *cache = &req->cli.cache;

    printf("nbdkit lsvd %s", req->create.name);
    for (size_t i = 0; i < named_data(req); i++) {
        fputs(" data=", stdout);
        print_quoted(data->path[i]);
    }
    for (size_t i = 0; i < req->create.part_count; i++) {
        if (!is_first_mention(req, i))
            continue;
        fputs(" data=", stdout);
        print_quoted(req->part_root[i]);
    }
    for (size_t i = 0; i < cache->count; i++) {
        fputs(" cache=", stdout);
        print_quoted(cache->path[i]);
    }
    if (req->cli.config) {
        fputs(" config=", stdout);
        print_quoted(req->cli.config);
    }
    putchar('\n');
}

/* The parts' roots are where the volume can be asked for, when no --data
 * was needed to make it. */
static void
add_part_roots(struct request *req)
{
    for (size_t i = 0; i < req->create.part_count; i++)
        if (is_first_mention(req, i))
            cli_add_path(&req->cli.data, req->part_root[i]);
}

static void
print_created(const struct request *req)
{
    const struct lsvd_create *c = &req->create;
    char size[CLI_SIZE_BYTES], redundancy[CLI_SIZE_BYTES];
    const struct lsvd_info shape = {
        .replicas = c->ec_data ? 0 : c->replicas ? c->replicas : 1,
        .ec_data = c->ec_data,
        .ec_parity = c->ec_parity,
    };

    printf("created %s: %s, %s; serve it with: ", c->name,
           cli_size(c->size_bytes, size), cli_redundancy(&shape, redundancy));
    print_serve_line(req);
}

/* Made by lsvd_create from what the command line says of it. */
static int
make(struct request *req)
{
    struct lsvd_create *c = &req->create;
    struct lsvd_env env = cli_env(&req->cli);
    int r;

    if (c->ec_data && c->replicas)
        return cli_usage(&req->cli, "--replicas or --ec, not both");
    cli_hold_signals();
    r = lsvd_create(&env, c);
    cli_let_signals();
    if (r < 0)
        return cli_engine_failed(&req->cli);
    if (c->ec_parity == 1)
        (void)cli_fail(&req->cli, 0,
                       "warning: EC %" PRIu32 "+1 bears the loss of one part "
                       "only; while it is being rebuilt, nothing more",
                       c->ec_data);
    return 0;
}

static int
print_json_created(struct request *req)
{
    if (req->cli.data.count == 0)
        add_part_roots(req);
    return print_json_info(req, req->create.name);
}

int
command_create(struct request *req)
{
    struct lsvd_create *c = &req->create;
    int r;

    c->name = req->words[0];
    r = parse_size(req, req->words[1], &c->size_bytes);
    if (r == 0)
        r = make(req);
    if (r)
        return r;
    if (req->cli.json)
        return print_json_created(req);
    print_created(req);
    return 0;
}

int
command_clone(struct request *req)
{
    int r;

    req->create.parent = req->words[0];
    req->create.name = req->words[1];
    r = make(req);
    if (r)
        return r;
    if (req->cli.json)
        return print_json_info(req, req->create.name);
    printf("cloned %s from %s; serve it with: ", req->create.name,
           req->create.parent);
    print_serve_line(req);
    return 0;
}

/* ---- list ---- */

struct listing {
    const struct cli *cli;
    json_t *array; /* NULL: for people */
    size_t count;
};

static json_t *
listed_to_json(const struct lsvd_listed *volume)
{
    json_t *entry = cli_json_new();
    cli_json_set(entry, "name", cli_json_text(volume->name));
    cli_json_set(entry, "number", cli_json_u64(volume->number));
    cli_json_set(entry, "size", cli_json_u64(volume->size_bytes));
    cli_json_set(entry, "redundancy", cli_json_text(volume->redundancy));
    cli_json_set(entry, "read_only", json_boolean(volume->read_only));
    cli_json_set(entry, "problem", volume->problem
                                       ? cli_json_text(volume->problem)
                                       : json_null());
    return entry;
}

static int
list_one(void *ctx, const struct lsvd_listed *volume)
{
    struct listing *listing = ctx;
    char size[CLI_SIZE_BYTES];

    listing->count++;
    if (listing->array) {
        cli_json_append(listing->array, listed_to_json(volume));
        return 0;
    }
    if (listing->count == 1)
        printf("%-24s %6s %8s  %-12s %s\n", "NAME", "NUMBER", "SIZE",
               "REDUNDANCY", "STATE");
    printf("%-24s %6" PRIu32 " %8s  %-12s ", volume->name, volume->number,
           volume->problem ? "?" : cli_size(volume->size_bytes, size),
           volume->problem ? "?" : volume->redundancy);
    cli_print_safe(volume->problem     ? volume->problem
                   : volume->read_only ? "read-only"
                                       : "read-write");
    putchar('\n');
    return 0;
}

int
command_list(struct request *req)
{
    struct listing listing = { .cli = &req->cli };
    struct lsvd_env env = cli_env(&req->cli);

    if (req->cli.json) {
        listing.array = cli_json_must(json_array());
    }
    if (lsvd_list(&env, list_one, &listing) < 0) {
        json_decref(listing.array);
        return cli_engine_failed(&req->cli);
    }
    if (listing.array)
        cli_json_print(listing.array);
    else if (listing.count == 0)
        puts("no volumes");
    return 0;
}

/* ---- the others ---- */

int
command_info(struct request *req)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_info info;

    if (req->cli.json)
        return print_json_info(req, req->words[0]);
    if (lsvd_info(&env, req->words[0], &info) < 0)
        return cli_engine_failed(&req->cli);
    info_print(&info);
    return 0;
}

/* Have the server of a volume do it. True: it did, or refused; *ret is the
 * exit status. False: there is none that can be asked, so the engine here may
 * try; *ret is 0. Takes args. ret_result (the caller's then) may be NULL. */
static bool
done_by_server(struct request *req, const char *op, json_t *args, int *ret,
               json_t **ret_result)
{
    const struct control_ask ask = { .volume = req->words[0], .op = op,
                                     .args = args };
    char error[CONTROL_ERROR_BYTES];
    json_t *result = NULL;
    int r = cli_ask(&req->cli, &ask, &result, error);

    json_decref(args);
    if (ret_result)
        *ret_result = result;
    else
        json_decref(result);
    *ret = 0;
    if (ask_is_offline(r))
        return false;
    if (r < 0)
        *ret = cli_fail(&req->cli, EXIT_FAILURE, "%s", error);
    return true;
}

static int
print_json_resized(struct request *req, const char *name, bool reconnect)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_info info;
    json_t *answer;

    if (lsvd_info(&env, name, &info) < 0)
        return cli_engine_failed(&req->cli);
    answer = info_to_json(&info);
    cli_json_set(answer, "reconnect", json_boolean(reconnect));
    cli_json_print(answer);
    return 0;
}

int
command_resize(struct request *req)
{
    const char *name = req->words[0];
    struct lsvd_env env = cli_env(&req->cli);
    char text[CLI_SIZE_BYTES];
    json_t *args, *result = NULL;
    uint64_t size_bytes;
    bool reconnect;
    int r = parse_size(req, req->words[1], &size_bytes);

    if (r)
        return r;
    args = cli_json_new();
    cli_json_set(args, "size", cli_json_u64(size_bytes));
    if (!done_by_server(req, "resize", args, &r, &result) &&
        lsvd_resize(&env, name, size_bytes, req->force) < 0)
        return cli_engine_failed(&req->cli);
    reconnect = ask_bool(result, "reconnect");
    json_decref(result);
    if (r)
        return r;
    if (req->cli.json)
        return print_json_resized(req, name, reconnect);
    printf("resized %s: now %s (%" PRIu64 " bytes)%s\n", name,
           cli_size(size_bytes, text), size_bytes,
           reconnect ? "; it is being served: clients that are connected see "
                       "that when they connect again" : "");
    return 0;
}

int
command_set(struct request *req)
{
    const char *name = req->words[0];
    const char *equals = strchr(req->words[1], '=');
    struct lsvd_env env = cli_env(&req->cli);
    json_t *args;
    char *key;
    int r;

    if (!equals || equals == req->words[1])
        return cli_usage(&req->cli, "set %s: not of the form KEY=VALUE",
                         req->words[1]);
    key = strndup(req->words[1], (size_t)(equals - req->words[1]));
    if (!key)
        cli_no_memory();
    args = cli_json_new();
    cli_json_set(args, "key", cli_json_text(key));
    cli_json_set(args, "value", cli_json_text(equals + 1));
    if (!done_by_server(req, "set", args, &r, NULL) &&
        lsvd_set(&env, name, key, equals + 1) < 0)
        r = cli_engine_failed(&req->cli);
    free(key);
    if (r)
        return r;
    if (req->cli.json)
        return print_json_info(req, name);
    printf("set %s: %s\n", name, req->words[1]);
    return 0;
}

int
command_rename(struct request *req)
{
    struct lsvd_env env = cli_env(&req->cli);
    int r;

    cli_hold_signals();
    r = lsvd_rename(&env, req->words[0], req->words[1]);
    cli_let_signals();
    if (r < 0)
        return cli_engine_failed(&req->cli);
    if (req->cli.json)
        return print_json_info(req, req->words[1]);
    printf("%s is called %s now\n", req->words[0], req->words[1]);
    return 0;
}

int
command_remove(struct request *req)
{
    const char *name = req->words[0];
    struct lsvd_env env = cli_env(&req->cli);
    json_t *answer;

    if (lsvd_remove(&env, name) < 0)
        return cli_engine_failed(&req->cli);
    if (!req->cli.json) {
        printf("removed %s\n", name);
        return 0;
    }
    answer = cli_json_new();
    cli_json_set(answer, "removed", cli_json_text(name));
    cli_json_print(answer);
    return 0;
}
