/* lsvd-repair.c: the program lsvd-repair: checks volumes and puts back what is
 * missing. Exit status: enum repair_code, the worst of all volumes; 64: the
 * command line makes no sense. */
#include "repair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char *name;
    enum command_bit bit;
};

static const struct command commands[] = {
    { "verify", COMMAND_VERIFY },
    { "rebuild", COMMAND_REBUILD },
    { "replace", COMMAND_REPLACE },
    { "force-start", COMMAND_FORCE_START },
    { "takeover", COMMAND_TAKEOVER },
};

static const struct cli_option options[] = {
    { "data", 'd', true, COMMAND_ALL },
    { "cache", 'c', true, COMMAND_ALL },
    { "config", 0, true, COMMAND_ALL },
    { "json", 0, false, COMMAND_ALL },
    { "verbose", 'v', false, COMMAND_ALL },
    { "quiet", 'q', false, COMMAND_ALL },
    { "no-progress", 0, false, COMMAND_ALL },
    { "help", 'h', false, COMMAND_ALL },
    { "version", 'V', false, COMMAND_ALL },
    { "all", 'a', false, COMMAND_VERIFY | COMMAND_REBUILD },
    { "quick", 0, false, COMMAND_VERIFY },
    { "no-lock", 0, false, COMMAND_VERIFY },
    { "full", 0, false, COMMAND_VERIFY },
    { "part", 0, true, COMMAND_REBUILD },
    { "dry-run", 'n', false, COMMAND_REBUILD },
    { "accept-loss", 0, true, COMMAND_FORCE_START },
    { "i-fenced-it", 0, false, COMMAND_TAKEOVER },
#ifdef LSVD_FAULTS
    { "observe-seconds", 0, true, COMMAND_TAKEOVER }, /* for tests */
#endif
    { NULL, 0, false, 0 },
};

struct parsing {
    struct request *req;
    bool help, version;
};

static bool
is_letter(char c)
{
    return c >= 'a' && c <= 'z';
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
        { "all", &req->all },
        { "quick", &req->quick },
        { "no-lock", &req->no_lock },
        { "full", &req->full },
        { "dry-run", &req->dry_run },
        { "i-fenced-it", &req->fenced_it },
    };

    if (cli_common_option(&req->cli, option, value))
        return 0;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (strcmp(flags[i].name, option->name) == 0)
            *flags[i].flag = true;
    if (strcmp(option->name, "accept-loss") == 0)
        req->reason = value;
    if (strcmp(option->name, "observe-seconds") == 0)
        req->observe_seconds = (unsigned)strtoul(value, NULL, 10);
    if (strcmp(option->name, "part") != 0)
        return 0;
    if (!is_letter(value[0]) || value[1])
        return cli_usage(&req->cli, "--part %s: not a letter from a to z",
                         value);
    req->part = value[0];
    return 0;
}

/* ---- which volumes ---- */

struct names {
    char **name; /* owned, as are the texts */
    size_t count;
};

static int
add_name(void *ctx, const struct lsvd_listed *volume)
{
    struct names *names = ctx;
    char **grown =
        realloc(names->name, (names->count + 1) * sizeof *grown);

    if (!grown)
        cli_no_memory();
    names->name = grown;
    grown[names->count] = strdup(volume->name);
    if (!grown[names->count])
        cli_no_memory();
    names->count++;
    return 0;
}

static void
free_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->name[i]);
    free(names->name);
}

/* ---- work ---- */

static bool
worth_printing(const struct request *req, const struct outcome *o)
{
    return !req->cli.quiet || o->code != CODE_OK;
}

/* One volume; into array if there is one. */
static enum repair_code
do_volume(struct request *req, const char *name, json_t *array)
{
    struct outcome o;
    enum repair_code code;

    work_on_volume(req, name, &o);
    code = o.code;
    if (o.error) {
        /* The engine's line may name the volume already. */
        bool named = strstr(o.error, name) != NULL;

        (void)cli_fail(&req->cli, 0, "%s%s%s%s",
                       req->command == COMMAND_VERIFY ? "could not check: "
                                                      : "",
                       named ? "" : name, named ? "" : ": ", o.error);
    }
    if (worth_printing(req, &o)) {
        if (array)
            cli_json_append(array, report_to_json(&o));
        else if (req->cli.json)
            cli_json_print(report_to_json(&o));
        else if (!o.error)
            report_print(&o);
    }
    outcome_done(&o);
    (void)fflush(stdout); /* seen now; checked at the end */
    return code;
}

static int
do_volumes(struct request *req, char *const *names, size_t count)
{
    bool many = req->all || count > 1;
    json_t *array = NULL;
    enum repair_code worst = CODE_OK;

    if (req->cli.json && many) {
        array = json_array();
        if (!array)
            cli_no_memory();
    }
    for (size_t i = 0; i < count; i++) {
        enum repair_code code = do_volume(req, names[i], array);

        if (code > worst)
            worst = code;
    }
    if (array && json_array_size(array) == 0 && req->cli.quiet)
        json_decref(array);
    else if (array)
        cli_json_print(array);
    return (int)worst;
}

static int
do_all(struct request *req)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct names names = { 0 };
    int status;

    if (lsvd_list(&env, add_name, &names) < 0) {
        free_names(&names);
        return cli_fail(&req->cli, CODE_FAILED, "%s", lsvd_error());
    }
    /* Perhaps a mount is missing: not a reason to be content. */
    if (names.count == 0)
        return cli_fail(&req->cli, CODE_FAILED,
                        "no volumes found: are the roots mounted?");
    status = do_volumes(req, names.name, names.count);
    free_names(&names);
    return status;
}

/* ---- command lines ---- */

static int
take_replace_words(struct request *req, char *const *words, int count)
{
    const char *part;

    if (count != 2)
        return cli_usage(&req->cli, "replace takes NAME b or NAME b=NEWDIR");
    part = words[1];
    if (!is_letter(part[0]) || (part[1] && (part[1] != '=' || !part[2])))
        return cli_usage(&req->cli, "%s: not of the form b or b=NEWDIR",
                         part);
    req->part = part[0];
    if (part[1])
        req->new_root = cli_absolute(part + 2);
    return 0;
}

static int
check_force(struct request *req, int count)
{
    if (count != 1)
        return cli_usage(&req->cli, "force-start takes one NAME");
    if (!req->reason || !req->reason[strspn(req->reason, " \t")])
        return cli_usage(&req->cli, "force-start takes --accept-loss=TEXT: "
                         "what happened, and why that can't be helped");
    return 0;
}

static int
check_words(struct request *req, char *const *words, int count)
{
    if (req->command == COMMAND_REPLACE)
        return take_replace_words(req, words, count);
    if (req->command == COMMAND_FORCE_START)
        return check_force(req, count);
    if (req->command == COMMAND_TAKEOVER)
        return count == 1 ? 0 : cli_usage(&req->cli, "takeover takes one "
                                          "NAME");
    if (req->all && count)
        return cli_usage(&req->cli, "NAME or --all, not both");
    if (!req->all && count == 0)
        return cli_usage(&req->cli, "%s takes NAMEs, or --all",
                         req->cli.command);
    if (req->quick && req->full)
        return cli_usage(&req->cli, "--quick or --full, not both");
    return 0;
}

static int
run_command(struct request *req, uint64_t seen, char *const *words,
            int count)
{
    int r = cli_check_seen(&req->cli, options, seen, req->command);

    if (r == 0)
        r = check_words(req, words, count);
    if (r)
        return r;
    progress_begin(&req->progress, &req->cli, !req->no_progress);
    if (req->command == COMMAND_TAKEOVER)
        r = (int)takeover(req, words[0]);
    else if (req->all)
        r = do_all(req);
    else
        r = do_volumes(req, words,
                       req->command == COMMAND_REPLACE ? 1 : (size_t)count);
    progress_end(&req->progress, &req->cli);
    return cli_finish(&req->cli, r, CODE_FAILED);
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
        req->command = command->bit;
    }
    if (p.help)
        help_print(req->cli.command);
    else if (p.version)
        puts("lsvd-repair " LSVD_VERSION);
    else if (!command)
        return cli_usage(&req->cli, "which command?");
    else
        return run_command(req, seen, argv + first + 1, argc - first - 1);
    return cli_finish(&req->cli, 0, CODE_FAILED);
}

int
main(int argc, char **argv)
{
    struct request req = { .cli = { .program = "lsvd-repair" } };
    int status = run(&req, argc, argv);

    free(req.new_root);
    cli_done(&req.cli);
    return status;
}
