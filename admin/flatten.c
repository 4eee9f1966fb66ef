/* flatten.c: lsvd flatten, lsvd snapshot remove: what a volume says is taken
 * over by what depends on it. The server of that one does it, while it goes on;
 * where there is none, the engine here. */
#include "ask.h"
#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A server's disks have clients to serve. */
#define SERVED_RATE_BYTES 100000000u

/* Done by the server of the volume, if it has one, and if the parent (NULL:
 * all) is one of its parents. True: it was, or was refused; *ret is the exit
 * status. */
static bool
flattened_by_server(struct request *req, const char *volume,
                    const char *parent, int *ret)
{
    json_t *args = cli_json_new(), *result = NULL;
    const struct control_ask ask = { .volume = volume, .op = "flatten",
                                     .args = args,
                                     .line = progress_line,
                                     .cancelled = progress_cancelled,
                                     .ctx = &req->progress };
    char error[CONTROL_ERROR_BYTES];
    int r;

    if (parent)
        cli_json_set(args, "parent", cli_json_text(parent));
    cli_json_set(args, "rate", cli_json_u64(req->rate_bytes
                                                ? req->rate_bytes
                                                : SERVED_RATE_BYTES));
    r = cli_ask(&req->cli, &ask, &result, error);
    json_decref(args);
    json_decref(result);
    *ret = 0;
    if (ask_is_offline(r) || (parent && r == -EXDEV)) /* of another branch */
        return false;
    if (r < 0)
        *ret = cli_fail(&req->cli, EXIT_FAILURE, "%s", error);
    return true;
}

static int
flatten(struct request *req, const char *name)
{
    struct lsvd_repair_callbacks cb = progress_callbacks(&req->progress);
    struct lsvd_env env = cli_env(&req->cli);
    int r;

    if (!flattened_by_server(req, name, NULL, &r) &&
        lsvd_flatten(&env, name, req->rate_bytes, &cb) < 0)
        return cli_engine_failed(&req->cli);
    return r;
}

/* The volume whose server has open what depends on the snapshot, if one does;
 * NULL: none. malloc'ed. */
static int
find_dependant(struct request *req, const char *name, char **ret)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_info *info = malloc(sizeof *info);
    int r;

    if (!info)
        cli_no_memory();
    *ret = NULL;
    r = lsvd_info(&env, name, info) < 0 ? cli_engine_failed(&req->cli) : 0;
    if (r == 0 && info->child_count == 1)
        *ret = cli_volume_of(info->children);
    free(info);
    return r;
}

static int
remove_it(struct request *req, const char *name)
{
    struct lsvd_repair_callbacks cb = progress_callbacks(&req->progress);
    struct lsvd_env env = cli_env(&req->cli);
    char *dependant;
    int r = find_dependant(req, name, &dependant);

    if (r == 0 && dependant)
        (void)flattened_by_server(req, dependant, name, &r);
    free(dependant);
    if (r)
        return r;
    if (lsvd_snapshot_remove(&env, name, req->rate_bytes, &cb) < 0)
        return cli_engine_failed(&req->cli);
    return 0;
}

/* With a progress bar; Ctrl-C ends it at its next step. done: the key of the
 * answer. */
static int
run(struct request *req, const char *name,
    int (*work)(struct request *req, const char *name), const char *done)
{
    json_t *answer;
    int r;

    progress_begin(&req->progress, &req->cli, !req->no_progress);
    progress_start(&req->progress, name);
    r = work(req, name);
    progress_end(&req->progress, &req->cli);
    if (r || !req->cli.json)
        return r;
    answer = cli_json_new();
    cli_json_set(answer, done, cli_json_text(name));
    cli_json_print(answer);
    return 0;
}

int
command_flatten(struct request *req)
{
    const char *name = req->words[0];
    int r = run(req, name, flatten, "flattened");

    if (r == 0 && !req->cli.json)
        printf("%s needs no parent any more\n", name);
    return r;
}

int
snapshot_remove(struct request *req, const char *name)
{
    int r;

    if (!strchr(name, '@'))
        return cli_usage(&req->cli, "%s: a snapshot is named VOLUME@SNAPSHOT",
                         name);
    r = run(req, name, remove_it, "removed");
    if (r == 0 && !req->cli.json)
        printf("removed %s\n", name);
    return r;
}
