/* cli.h: what lsvd and lsvd-repair share: where volumes are looked for, how
 * errors, sizes and JSON are printed. Of the engine both know lsvd.h alone. */
#ifndef LSVD_ADMIN_CLI_H
#define LSVD_ADMIN_CLI_H

#include "lsvd.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXIT_USAGE 64 /* sysexits(3): EX_USAGE */

/* A list of absolute paths that env takes as it is. */
struct cli_paths {
    char **path; /* NULL-terminated once it is not empty; owned */
    size_t count;
};

#define CLI_LINES_KEPT 16

/* Zeroed, with program set, it is ready for use. */
struct cli {
    const char *program; /* "lsvd": first word of every message */
    const char *command; /* the subcommand; NULL until it is known */
    struct cli_paths data, cache;
    char *config; /* owned; NULL: the default */
    bool json;
    bool verbose; /* show events of level info, too */
    bool quiet;   /* show events of level error only */
    void (*before_line)(void *ctx); /* clears a progress bar; or NULL */
    void *before_line_ctx;
    /* The latest events shown: what is found at each of several steps is
     * told once. Owned; guarded by a lock of cli.c. */
    char *line[CLI_LINES_KEPT];
    size_t line_count; /* ever */
};

/* One row for each long option of a program; the last has a NULL name. A
 * program takes its options anywhere on the line, and says which of its
 * commands each belongs to. */
struct cli_option {
    const char *name;
    char letter;       /* short form, or 0 */
    bool has_value;
    unsigned commands; /* bits of the commands that know it */
};

/* Called for each option in order. Returns 0 or an exit status. */
typedef int (*cli_option_cb)(void *ctx, const struct cli_option *option,
                             const char *value);

#define CLI_OPTIONS_MAX 32

/* Parse a command line into options and words (argv is reordered: the words
 * are argv[*ret_first …]). *ret_seen has bit i set when options[i] was given.
 * Returns 0 or EXIT_USAGE, the reason printed. */
int cli_parse(const struct cli *cli, int argc, char **argv,
              const struct cli_option *options, cli_option_cb cb, void *ctx,
              uint64_t *ret_seen, int *ret_first);

/* Refuse options that the command (one bit) does not know. 0 or EXIT_USAGE. */
int cli_check_seen(const struct cli *cli, const struct cli_option *options,
                   uint64_t seen, unsigned command);

/* The options that both programs have: true if this was one of them. */
bool cli_common_option(struct cli *cli, const struct cli_option *option,
                       const char *value);

/* --max-mbps: 0 or EXIT_USAGE. */
int cli_take_rate(const struct cli *cli, const char *value,
                  uint64_t *ret_bytes_per_s);

/* Between these two Ctrl-C and its like wait: what is half done would have to
 * be found and cleared away. */
void cli_hold_signals(void);
void cli_let_signals(void);

/* Free what the struct owns. */
void cli_done(struct cli *cli);

/* Add path, made absolute. */
void cli_add_path(struct cli_paths *paths, const char *path);

/* path itself if it is absolute (without slashes at its end); else where it
 * leads from here, symlinks of what exists resolved. malloc'ed. */
char *cli_absolute(const char *path);

/* An environment for the engine; valid while cli lives. */
struct lsvd_env cli_env(struct cli *cli);

/* "program: text" on stderr, one line. Control characters of the text are
 * printed as ?. Returns status, so that it can be returned at once. */
int cli_fail(const struct cli *cli, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* cli_fail with EXIT_FAILURE and the engine's own line. */
int cli_engine_failed(const struct cli *cli);

/* cli_fail with EXIT_USAGE, and the hint to look at --help. */
int cli_usage(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Nothing sensible is left to do without memory: print, exit with 3. */
void cli_no_memory(void) __attribute__((noreturn));

/* "10G", "1.5M", "512": text must have room for CLI_SIZE_BYTES. Exact when it
 * can be in at most 4 digits, else rounded to one decimal. */
#define CLI_SIZE_BYTES 24
const char *cli_size(uint64_t bytes, char *text);

/* "3 replicas" or "EC 4+2"; text must have room for CLI_SIZE_BYTES. */
const char *cli_redundancy(const struct lsvd_info *info, char *text);

/* "vm" of "vm@monday" or "vm"; malloc'ed. */
char *cli_volume_of(const char *name);

/* Print text (control characters as ?) without a newline on stdout. */
void cli_print_safe(const char *text);

/* JSON values; out of memory ends the program. Text that is not UTF-8 (a file
 * name may hold any bytes) gets ? for the bytes that are not. */
json_t *cli_json_must(json_t *value); /* value; NULL is out of memory */
json_t *cli_json_new(void);           /* an object */
json_t *cli_json_text(const char *text);
json_t *cli_json_u64(uint64_t value);
void cli_json_set(json_t *object, const char *key, json_t *value);
void cli_json_append(json_t *array, json_t *value);

/* Print and release. */
void cli_json_print(json_t *value);

/* Flush stdout; a failure (a full disk, a closed pipe) makes status failed
 * unless it was not 0 before. */
int cli_finish(const struct cli *cli, int status, int failed);

#endif
