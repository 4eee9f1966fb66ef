/* cli.c: what lsvd and lsvd-repair share; see cli.h. */
#include "cli.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- messages ---- */

void
cli_no_memory(void)
{
    fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
    exit(3);
}

static void
make_safe(char *text)
{
    for (; *text; text++)
        if (iscntrl((unsigned char)*text))
            *text = '?';
}

static void
print_line(const struct cli *cli, const char *kind, char *text)
{
    make_safe(text);
    if (cli->before_line)
        cli->before_line(cli->before_line_ctx);
    fprintf(stderr, "%s: %s%s\n", cli->program, kind, text);
}

static char *format_text(const char *format, va_list args)
    __attribute__((format(printf, 1, 0)));

static char *
format_text(const char *format, va_list args)
{
    char *text;

    if (vasprintf(&text, format, args) < 0)
        cli_no_memory();
    return text;
}

int
cli_fail(const struct cli *cli, int status, const char *format, ...)
{
    char *text;
    va_list args;

    va_start(args, format);
    text = format_text(format, args);
    va_end(args);
    print_line(cli, "", text);
    free(text);
    return status;
}

int
cli_engine_failed(const struct cli *cli)
{
    return cli_fail(cli, EXIT_FAILURE, "%s", lsvd_error());
}

int
cli_usage(const struct cli *cli, const char *format, ...)
{
    char *text;
    va_list args;

    va_start(args, format);
    text = format_text(format, args);
    va_end(args);
    (void)cli_fail(cli, 0, "%s (see: %s%s%s --help)", text, cli->program,
                   cli->command ? " " : "",
                   cli->command ? cli->command : "");
    free(text);
    return EXIT_USAGE;
}

static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;

/* True for the first of equal lines. */
static bool
is_news(struct cli *cli, const char *text)
{
    char **place, *copy = strdup(text);
    bool news = true;

    pthread_mutex_lock(&lines_lock);
    for (size_t i = 0; i < CLI_LINES_KEPT; i++)
        if (cli->line[i] && strcmp(cli->line[i], text) == 0)
            news = false;
    if (news) {
        place = &cli->line[cli->line_count++ % CLI_LINES_KEPT];
        free(*place);
        *place = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&lines_lock);
    free(copy);
    return news;
}

/* Events of the engine; any thread. */
static void
log_line(void *ctx, enum lsvd_log_level level, const char *line)
{
    struct cli *cli = ctx;
    enum lsvd_log_level most = LSVD_WARNING;
    char *text;

    if (cli->quiet)
        most = LSVD_ERROR;
    if (cli->verbose)
        most = LSVD_INFO;
    if (level > most || !is_news(cli, line))
        return;
    text = strdup(line);
    if (!text)
        return;
    print_line(cli, level == LSVD_WARNING ? "warning: " : "", text);
    free(text);
}

void
cli_print_safe(const char *text)
{
    for (; *text; text++)
        putchar(iscntrl((unsigned char)*text) ? '?' : *text);
}

int
cli_finish(const struct cli *cli, int status, int failed)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    (void)cli_fail(cli, 0, "can't write to standard output: %s",
                   strerror(errno));
    return status ? status : failed;
}

/* ---- where things are ---- */

static char *
must_dup(const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        cli_no_memory();
    return copy;
}

static char *
join(const char *directory, const char *name)
{
    char *path;

    if (asprintf(&path, "%s%s%s", directory,
                 directory[strlen(directory) - 1] == '/' ? "" : "/",
                 name) < 0)
        cli_no_memory();
    return path;
}

/* Where a relative path that does not exist would be: the directories that do
 * exist resolved, the rest as it was given. */
static char *
absolute_of_missing(const char *path)
{
    char *head = must_dup(path);
    char *slash = strrchr(head, '/');
    char *base, *result;

    if (slash)
        *slash = '\0';
    base = realpath(slash ? head : ".", NULL);
    if (base) {
        result = join(base, slash ? slash + 1 : head);
    } else {
        base = realpath(".", NULL);
        result = base ? join(base, path) : must_dup(path);
    }
    free(base);
    free(head);
    return result;
}

static void
strip_slashes(char *path)
{
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
}

char *
cli_absolute(const char *path)
{
    char *copy = must_dup(path), *result;

    strip_slashes(copy);
    if (copy[0] == '/' || copy[0] == '\0')
        return copy; /* the engine refuses an empty one by name */
    result = realpath(copy, NULL);
    if (!result)
        result = absolute_of_missing(copy);
    free(copy);
    return result;
}

void
cli_add_path(struct cli_paths *paths, const char *path)
{
    char **grown = realloc(paths->path, (paths->count + 2) * sizeof *grown);

    if (!grown)
        cli_no_memory();
    paths->path = grown;
    paths->path[paths->count++] = cli_absolute(path);
    paths->path[paths->count] = NULL;
}

static void
free_paths(struct cli_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        free(paths->path[i]);
    free(paths->path);
}

void
cli_done(struct cli *cli)
{
    free_paths(&cli->data);
    free_paths(&cli->cache);
    free(cli->config);
    for (size_t i = 0; i < CLI_LINES_KEPT; i++)
        free(cli->line[i]);
}

struct lsvd_env
cli_env(struct cli *cli)
{
    return (struct lsvd_env){
        .log = log_line,
        .log_ctx = cli,
        .config_path = cli->config,
        .data = (const char *const *)cli->data.path,
        .cache = (const char *const *)cli->cache.path,
    };
}

/* ---- sizes ---- */

const char *
cli_size(uint64_t bytes, char *text)
{
    static const char units[] = "KMGTPE";
    uint64_t unit = 1;
    int idx = -1;

    while (bytes / unit >= 1024) {
        unit *= 1024;
        idx++;
    }
    if (idx < 0)
        snprintf(text, CLI_SIZE_BYTES, "%" PRIu64, bytes);
    else if (bytes % unit == 0)
        snprintf(text, CLI_SIZE_BYTES, "%" PRIu64 "%c", bytes / unit,
                 units[idx]);
    else
        snprintf(text, CLI_SIZE_BYTES, "%.1f%c",
                 (double)bytes / (double)unit, units[idx]);
    return text;
}

const char *
cli_redundancy(const struct lsvd_info *info, char *text)
{
    if (info->ec_data)
        snprintf(text, CLI_SIZE_BYTES, "EC %" PRIu32 "+%" PRIu32,
                 info->ec_data, info->ec_parity);
    else
        snprintf(text, CLI_SIZE_BYTES, "%" PRIu32 " replica%s",
                 info->replicas, info->replicas == 1 ? "" : "s");
    return text;
}

char *
cli_volume_of(const char *name)
{
    char *volume = strndup(name, strcspn(name, "@"));

    if (!volume)
        cli_no_memory();
    return volume;
}

/* ---- JSON ---- */

json_t *
cli_json_must(json_t *value)
{
    if (!value)
        cli_no_memory();
    return value;
}

json_t *
cli_json_new(void)
{
    return cli_json_must(json_object());
}

json_t *
cli_json_text(const char *text)
{
    json_t *value = json_string(text);

    if (!value) {
        char *copy = must_dup(text);

        for (char *p = copy; *p; p++)
            if ((unsigned char)*p >= 0x80)
                *p = '?';
        value = json_string(copy);
        free(copy);
    }
    return cli_json_must(value);
}

json_t *
cli_json_u64(uint64_t value)
{
    return cli_json_must(json_integer((json_int_t)value));
}

void
cli_json_set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) < 0)
        cli_no_memory();
}

void
cli_json_append(json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) < 0)
        cli_no_memory();
}

void
cli_json_print(json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2));

    if (!text)
        cli_no_memory();
    puts(text);
    free(text);
    json_decref(value);
}

/* ---- signals ---- */

static void
block_signals(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(how, &set, NULL);
}

void
cli_hold_signals(void)
{
    block_signals(SIG_BLOCK);
}

void
cli_let_signals(void)
{
    block_signals(SIG_UNBLOCK);
}
