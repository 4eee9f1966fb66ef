/* lsvd.c: the program lsvd: makes, lists, changes and removes volumes.
 * Exit status: 0 done, 1 failed, 64 the command line makes no sense; of
 * status: 0 healthy, 1 not, 3 can't tell. */
#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char *name;
    enum command_bit bit;
    int words_min, words_max;
    const char *usage;
    int (*run)(struct request *req);
};

static const struct command commands[] = {
    { "create", COMMAND_CREATE, 2, 2, "NAME SIZE", command_create },
    { "clone", COMMAND_CLONE, 2, 2, "PARENT NAME", command_clone },
    { "snapshot", COMMAND_SNAPSHOT, 2, 2,
      "create, list, rollback or remove, and a NAME", command_snapshot },
    { "flatten", COMMAND_FLATTEN, 1, 1, "NAME", command_flatten },
    { "diff", COMMAND_DIFF, 1, 2, "FROM, and TO or nothing", command_diff },
    { "export-diff", COMMAND_EXPORT_DIFF, 2, 2, "TO FILE",
      command_export_diff },
    { "import-diff", COMMAND_IMPORT_DIFF, 2, 2, "FILE NAME",
      command_import_diff },
    { "list", COMMAND_LIST, 0, 0, "no words", command_list },
    { "info", COMMAND_INFO, 1, 1, "NAME", command_info },
    { "resize", COMMAND_RESIZE, 2, 2, "NAME SIZE", command_resize },
    { "set", COMMAND_SET, 2, 2, "NAME KEY=VALUE", command_set },
    { "rename", COMMAND_RENAME, 2, 2, "NAME NEWNAME", command_rename },
    { "remove", COMMAND_REMOVE, 1, 1, "NAME", command_remove },
    { "status", COMMAND_STATUS, 0, 1, "NAME or nothing", command_status },
    { "events", COMMAND_EVENTS, 1, 1, "NAME", command_events },
    { "metrics", COMMAND_METRICS, 0, 1, "NAME or nothing", command_metrics },
};

static const struct cli_option options[] = {
    { "data", 'd', true, COMMAND_ALL },
    { "cache", 'c', true, COMMAND_ALL },
    { "config", 0, true, COMMAND_ALL },
    { "json", 0, false, COMMAND_ALL },
    { "verbose", 'v', false, COMMAND_ALL },
    { "help", 'h', false, COMMAND_ALL },
    { "version", 'V', false, COMMAND_ALL },
    { "part", 0, true, COMMAND_CREATE | COMMAND_CLONE },
    { "replicas", 0, true, COMMAND_CREATE | COMMAND_CLONE },
    { "ec", 0, true, COMMAND_CREATE | COMMAND_CLONE },
    { "chunk-size", 0, true, COMMAND_CREATE | COMMAND_CLONE },
    { "block-size", 0, true, COMMAND_CREATE },
    { "journal-size", 0, true, COMMAND_CREATE | COMMAND_CLONE },
    { "size", 0, true, COMMAND_CLONE },
    { "force", 0, false, COMMAND_RESIZE },
    { "from", 0, true, COMMAND_EXPORT_DIFF },
    { "max-mbps", 0, true, COMMAND_FLATTEN | COMMAND_SNAPSHOT },
    { "no-progress", 0, false, COMMAND_FLATTEN | COMMAND_SNAPSHOT },
    { "watch", 'w', false, COMMAND_STATUS },
    { "follow", 'f', false, COMMAND_EVENTS },
    { NULL, 0, false, 0 },
};

struct parsing {
    struct request *req;
    bool help, version;
};

static int
take_option(void *ctx, const struct cli_option *option, const char *value)
{
    struct parsing *p = ctx;
    bool known;
    int r;

    if (cli_common_option(&p->req->cli, option, value))
        return 0;
    r = create_option(p->req, option, value, &known);
    if (known)
        return r;
    if (strcmp(option->name, "help") == 0)
        p->help = true;
    else if (strcmp(option->name, "version") == 0)
        p->version = true;
    else if (strcmp(option->name, "force") == 0)
        p->req->force = true;
    else if (strcmp(option->name, "from") == 0)
        p->req->from = value;
    else if (strcmp(option->name, "max-mbps") == 0)
        return cli_take_rate(&p->req->cli, value, &p->req->rate_bytes);
    else if (strcmp(option->name, "no-progress") == 0)
        p->req->no_progress = true;
    else if (strcmp(option->name, "watch") == 0)
        p->req->watch = true;
    else if (strcmp(option->name, "follow") == 0)
        p->req->follow = true;
    return 0;
}

static const struct command *
find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int
run_command(struct request *req, const struct command *command,
            uint64_t seen, int count)
{
    int r = cli_check_seen(&req->cli, options, seen, command->bit);

    if (r)
        return r;
    if (count < command->words_min || count > command->words_max)
        return cli_usage(&req->cli, "%s takes %s, not %d word%s",
                         command->name, command->usage, count,
                         count == 1 ? "" : "s");
    return cli_finish(&req->cli, command->run(req), EXIT_FAILURE);
}

static int
run(struct request *req, int argc, char **argv)
{
    struct parsing p = { .req = req };
    const struct command *command = NULL;
    uint64_t seen;
    int first, r;

    r = cli_parse(&req->cli, argc, argv, options, take_option, &p, &seen,
                  &first);
    if (r)
        return r;
    if (first < argc) {
        command = find_command(argv[first]);
        if (!command)
            return cli_usage(&req->cli, "unknown command %s", argv[first]);
        req->cli.command = command->name;
        req->words = argv + first + 1;
    }
    if (p.help)
        help_print(command ? command->name : NULL);
    else if (p.version)
        puts("lsvd " LSVD_VERSION);
    else if (!command)
        return cli_usage(&req->cli, "which command?");
    else
        return run_command(req, command, seen, argc - first - 1);
    return cli_finish(&req->cli, 0, EXIT_FAILURE);
}

int
main(int argc, char **argv)
{
    struct request req = { .cli = { .program = "lsvd" } };
    int status = run(&req, argc, argv);

    for (size_t i = 0; i < req.create.part_count; i++)
        free(req.part_root[i]);
    cli_done(&req.cli);
    return status;
}
