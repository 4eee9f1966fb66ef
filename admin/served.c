/* served.c: status, events, metrics: asked of the servers; where there is
 * none, what the roots tell. */
#include "served.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define WATCH_MS 1000
#define FOLLOW_MS 500

enum { EXIT_HEALTHY = 0, EXIT_UNHEALTHY = 1, EXIT_UNKNOWN = 3 };

static int
worse(int a, int b)
{
    return a > b ? a : b;
}

/* ---- without a server ---- */

static json_t *
offline_parts(const struct lsvd_info *info, bool *ret_all)
{
    json_t *parts = cli_json_must(json_array());

    *ret_all = true;
    for (uint32_t i = 0; i < info->part_count; i++) {
        const struct lsvd_part_info *p = &info->part[i];
        const char letter[2] = { p->letter, '\0' };
        json_t *part = cli_json_new();

        cli_json_set(part, "part", cli_json_text(letter));
        cli_json_set(part, "state",
                     cli_json_text(lsvd_part_state_text(p->state)));
        cli_json_set(part, "directory", cli_json_text(p->root));
        cli_json_set(part, "instance", cli_json_text(p->instance));
        cli_json_set(part, "problem", p->problem[0]
                                          ? cli_json_text(p->problem)
                                          : json_null());
        cli_json_append(parts, part);
        *ret_all = *ret_all && p->state == LSVD_PART_OK;
    }
    return parts;
}

static json_t *
first_problem(const struct lsvd_info *info, const char *why_no_answer)
{
    char text[1024];

    if (info->in_use) {
        (void)snprintf(text, sizeof text, "in use by %s, but no control "
                       "socket answers (%s)",
                       info->owner[0] ? info->owner : "another process",
                       why_no_answer);
        return cli_json_text(text);
    }
    for (uint32_t i = 0; i < info->part_count; i++)
        if (info->part[i].state != LSVD_PART_OK) {
            (void)snprintf(text, sizeof text, "part %c is %s: %s",
                           info->part[i].letter,
                           lsvd_part_state_text(info->part[i].state),
                           info->part[i].problem);
            return cli_json_text(text);
        }
    if (info->accepted_loss)
        return cli_json_text("a loss was accepted, and is not verified");
    return json_null();
}

static json_t *
offline_status(const struct lsvd_info *info, const char *why_no_answer)
{
    bool all;
    json_t *s = cli_json_new(), *parts;
    json_t *view = cli_json_new();
    json_t *journal = cli_json_new();

    parts = offline_parts(info, &all);
    cli_json_set(view, "epoch", cli_json_u64(info->epoch));
    cli_json_set(view, "minor", cli_json_u64(info->view_minor));
    cli_json_set(journal, "bytes", cli_json_u64(info->journal_bytes));
    cli_json_set(journal, "used_bytes",
                 cli_json_u64(info->journal_used_bytes));
    cli_json_set(s, "name", cli_json_text(info->name));
    cli_json_set(s, "uuid", cli_json_text(info->uuid));
    cli_json_set(s, "size", cli_json_u64(info->size_bytes));
    cli_json_set(s, "served", json_false());
    all = all && !info->accepted_loss;
    cli_json_set(s, "accepted_loss", json_boolean(info->accepted_loss));
    cli_json_set(s, "healthy", info->in_use ? json_null()
                                            : json_boolean(all));
    cli_json_set(s, "health", cli_json_text(info->in_use ? "unknown"
                                            : all        ? "stopped"
                                                         : "degraded"));
    cli_json_set(s, "problem", first_problem(info, why_no_answer));
    cli_json_set(s, "in_use", json_boolean(info->in_use));
    cli_json_set(s, "owner", info->owner[0] ? cli_json_text(info->owner)
                                            : json_null());
    cli_json_set(s, "clean", json_boolean(info->clean));
    cli_json_set(s, "view", view);
    cli_json_set(s, "journal", journal);
    cli_json_set(s, "parts", parts);
    return s;
}

/* ---- status ---- */

/* What is known of a volume, or NULL: nothing, the reason printed. */
static json_t *
find_status(struct request *req, const char *name)
{
    const struct control_ask ask = { .volume = name, .op = "status",
                                     .patience_ms = PATIENCE_MS };
    struct lsvd_env env = cli_env(&req->cli);
    char error[CONTROL_ERROR_BYTES];
    struct lsvd_info *info;
    json_t *status = NULL;
    int r = cli_ask(&req->cli, &ask, &status, error);

    if (r == 0) {
        (void)json_object_del(status, "nonce"); /* for programs of ours */
        return status;
    }
    if (!ask_is_offline(r)) {
        (void)cli_fail(&req->cli, 0, "%s", error);
        return NULL;
    }
    info = malloc(sizeof *info);
    if (!info)
        cli_no_memory();
    if (lsvd_info(&env, name, info) < 0)
        (void)cli_fail(&req->cli, 0, "%s",
                       r == -EACCES ? error : lsvd_error());
    else
        status = offline_status(info, error);
    free(info);
    return status;
}

static int
code_of(const json_t *status)
{
    const json_t *healthy = json_object_get(status, "healthy");

    if (!json_is_boolean(healthy))
        return EXIT_UNKNOWN;
    return json_is_true(healthy) ? EXIT_HEALTHY : EXIT_UNHEALTHY;
}

struct all {
    json_t *statuses; /* array */
    int code;
};

static bool
has_volume(const json_t *statuses, const char *name)
{
    json_t *status;
    size_t i;

    json_array_foreach(statuses, i, status)
        if (strcmp(ask_text(status, "name"), name) == 0)
            return true;
    return false;
}

static void
add_served(void *ctx, const char *name, const json_t *status)
{
    struct all *all = ctx;
    json_t *copy = cli_json_must(json_deep_copy(status));

    (void)json_object_del(copy, "nonce");
    if (has_volume(all->statuses, name))
        json_decref(copy);
    else
        cli_json_append(all->statuses, copy);
}

struct names {
    json_t *array;
};

static int
add_name(void *ctx, const struct lsvd_listed *volume)
{
    struct names *names = ctx;

    cli_json_append(names->array, cli_json_text(volume->name));
    return 0;
}

/* False: not all that are served could be asked. */
static bool
find_served(struct request *req, struct all *all)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_caches *caches = malloc(sizeof *caches);
    char error[CONTROL_ERROR_BYTES];
    int r = 0;

    if (!caches)
        cli_no_memory();
    if (lsvd_caches(&env, NULL, caches) == 0)
        r = control_each(caches, add_served, all, error);
    free(caches);
    if (r < 0)
        (void)cli_fail(&req->cli, 0, "%s", error);
    return r == 0;
}

/* Those that are served first: no root is needed for them. */
static void
find_all(struct request *req, struct all *all)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct names names = { .array = NULL };
    json_t *name;
    size_t i;

    if (!find_served(req, all)) {
        all->code = EXIT_UNKNOWN;
        return; /* of the others it is not known whether they are served */
    }
    names.array = cli_json_must(json_array());
    if (lsvd_list(&env, add_name, &names) < 0) {
        (void)cli_fail(&req->cli, 0, "%s", lsvd_error());
        all->code = EXIT_UNKNOWN;
    }
    json_array_foreach(names.array, i, name) {
        json_t *status;

        if (has_volume(all->statuses, json_string_value(name)))
            continue;
        status = find_status(req, json_string_value(name));
        if (status)
            cli_json_append(all->statuses, status);
        else
            all->code = EXIT_UNKNOWN;
    }
    json_decref(names.array);
    json_array_foreach(all->statuses, i, name)
        all->code = worse(all->code, code_of(name));
}

static void
print_all(const json_t *statuses)
{
    json_t *status;
    size_t i;

    if (json_array_size(statuses) == 0)
        puts("no volumes");
    json_array_foreach(statuses, i, status) {
        if (i > 0)
            putchar('\n');
        show_status(status);
    }
}

static int
status_once(struct request *req, const char *name)
{
    struct all all = { .statuses = cli_json_must(json_array()) };
    json_t *one;

    if (name) {
        one = find_status(req, name);
        if (one)
            cli_json_append(all.statuses, one);
        all.code = one ? code_of(one) : EXIT_UNKNOWN;
    } else {
        find_all(req, &all);
    }
    if (req->watch && isatty(STDOUT_FILENO))
        fputs("\033[H\033[J", stdout);
    if (json_array_size(all.statuses) == 0 && all.code == EXIT_UNKNOWN &&
        (name || !req->cli.json))
        ; /* it was said why */
    else if (req->cli.json && name)
        cli_json_print(json_incref(json_array_get(all.statuses, 0)));
    else if (req->cli.json)
        cli_json_print(json_incref(all.statuses));
    else
        print_all(all.statuses);
    json_decref(all.statuses);
    return all.code;
}

int
command_status(struct request *req)
{
    const char *name = req->words[0];
    int code = status_once(req, name);

    while (req->watch && fflush(stdout) == 0) {
        (void)poll(NULL, 0, WATCH_MS);
        code = status_once(req, name);
    }
    return code;
}

/* ---- events ---- */

struct events {
    struct request *req;
    json_t *array; /* NULL: print each */
    uint64_t last;
};

static void
take_event(void *ctx, const char *key, const json_t *value)
{
    struct events *e = ctx;
    char *text;

    if (strcmp(key, "event") != 0)
        return;
    e->last = ask_u64(value, "event");
    if (e->array) {
        cli_json_append(e->array, cli_json_must(json_deep_copy(value)));
    } else if (e->req->cli.json) {
        text = json_dumps(value, JSON_COMPACT);
        if (!text)
            cli_no_memory();
        puts(text);
        free(text);
    } else {
        show_event(value);
    }
}

/* result and why: of cli_ask. */
static int
not_served(struct request *req, const char *name, int result,
           const char *why)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_location *at;
    int r;

    if (result == -EACCES)
        return cli_fail(&req->cli, EXIT_FAILURE, "%s", why);
    at = malloc(sizeof *at);
    if (!at)
        cli_no_memory();
    if (lsvd_locate(&env, name, at) < 0)
        r = cli_engine_failed(&req->cli);
    else if (at->in_use)
        r = cli_fail(&req->cli, EXIT_FAILURE, "volume %s is in use by %s, "
                     "but no control socket answers (%s)", name,
                     at->owner[0] ? at->owner : "another process", why);
    else
        r = cli_fail(&req->cli, EXIT_FAILURE, "volume %s is not served",
                     name);
    free(at);
    return r;
}

static int
events_once(struct request *req, const char *name, struct events *e)
{
    struct control_ask ask = { .volume = name, .op = "events",
                               .line = take_event, .ctx = e,
                               .patience_ms = PATIENCE_MS };
    char error[CONTROL_ERROR_BYTES];
    json_t *args = cli_json_new(), *result = NULL;
    int r;

    cli_json_set(args, "after", cli_json_u64(e->last));
    ask.args = args;
    r = cli_ask(&req->cli, &ask, &result, error);
    json_decref(args);
    json_decref(result);
    if (r == 0)
        return 0;
    if (ask_is_offline(r))
        return not_served(req, name, r, error);
    return cli_fail(&req->cli, EXIT_FAILURE, "%s", error);
}

int
command_events(struct request *req)
{
    const char *name = req->words[0];
    struct events e = { .req = req };
    int code;

    if (req->cli.json && !req->follow)
        e.array = cli_json_must(json_array());
    code = events_once(req, name, &e);
    while (code == 0 && req->follow && fflush(stdout) == 0) {
        (void)poll(NULL, 0, FOLLOW_MS);
        code = events_once(req, name, &e);
    }
    if (e.array && code == 0)
        cli_json_print(json_incref(e.array));
    json_decref(e.array);
    return code;
}

/* ---- metrics ---- */

struct metering {
    struct request *req;
    struct merged merged;
    int code;
};

static void
add_metrics(struct metering *m, const char *name)
{
    const struct control_ask ask = { .volume = name, .op = "metrics",
                                     .patience_ms = PATIENCE_MS };
    char error[CONTROL_ERROR_BYTES];
    json_t *result = NULL;
    int r = cli_ask(&m->req->cli, &ask, &result, error);

    if (r == 0)
        merged_add(&m->merged, ask_text(result, "text"));
    else if (ask_is_offline(r))
        m->code = not_served(m->req, name, r, error);
    else
        m->code = cli_fail(&m->req->cli, EXIT_FAILURE, "%s", error);
    json_decref(result);
}

static void
add_metrics_of_one(void *ctx, const char *name, const json_t *status)
{
    (void)status;
    add_metrics(ctx, name);
}

int
command_metrics(struct request *req)
{
    struct metering m = { .req = req };
    struct lsvd_env env = cli_env(&req->cli);
    char error[CONTROL_ERROR_BYTES];
    struct lsvd_caches *caches = malloc(sizeof *caches);

    if (!caches)
        cli_no_memory();
    if (req->words[0])
        add_metrics(&m, req->words[0]);
    else if (lsvd_caches(&env, NULL, caches) < 0)
        m.code = cli_engine_failed(&req->cli);
    else if (control_each(caches, add_metrics_of_one, &m, error) < 0)
        m.code = cli_fail(&req->cli, EXIT_FAILURE, "%s", error);
    free(caches);
    merged_print(&m.merged);
    merged_free(&m.merged);
    return m.code;
}
