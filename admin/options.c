/* options.c: command lines; see cli.h.
 *
 * getopt_long finds options anywhere on the line. Which command the line is
 * for is only known at its end, so options are noted in a mask and those that
 * do not belong to the command are refused afterwards. */
#include "cli.h"

#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define LONG_BASE 256 /* getopt's value for options[i] is this plus i */

static size_t
fill_tables(const struct cli_option *options, struct option *longs,
            char *shorts)
{
    size_t count;

    *shorts++ = ':'; /* a missing value is told from an unknown option */
    for (count = 0; options[count].name; count++) {
        assert(count < CLI_OPTIONS_MAX);
        longs[count] = (struct option){
            .name = options[count].name,
            .has_arg = options[count].has_value ? required_argument
                                                : no_argument,
            .val = LONG_BASE + (int)count,
        };
        if (options[count].letter)
            *shorts++ = options[count].letter;
        if (options[count].letter && options[count].has_value)
            *shorts++ = ':';
    }
    longs[count] = (struct option){ 0 };
    *shorts = '\0';
    return count;
}

static const struct cli_option *
find_option(const struct cli_option *options, int found)
{
    if (found >= LONG_BASE)
        return &options[found - LONG_BASE];
    for (; options->name; options++)
        if (options->letter == found)
            return options;
    return NULL;
}

static int
refuse(const struct cli *cli, int found, char *const *argv)
{
    const char *text = argv[optind > 1 ? optind - 1 : 1];

    if (found == ':')
        return cli_usage(cli, "option %s needs a value", text);
    if (optopt >= LONG_BASE)
        return cli_usage(cli, "option %s takes no value", text);
    if (optopt)
        return cli_usage(cli, "unknown option -%c", optopt);
    return cli_usage(cli, "unknown option %s", text);
}

int
cli_parse(const struct cli *cli, int argc, char **argv,
          const struct cli_option *options, cli_option_cb cb, void *ctx,
          uint64_t *ret_seen, int *ret_first)
{
    struct option longs[CLI_OPTIONS_MAX + 1];
    char shorts[2 * CLI_OPTIONS_MAX + 2];
    int found, r;

    *ret_seen = 0;
    (void)fill_tables(options, longs, shorts);
    opterr = 0;
    while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        const struct cli_option *option = find_option(options, found);

        if (found == '?' || found == ':' || !option)
            return refuse(cli, found, argv);
        *ret_seen |= UINT64_C(1) << (option - options);
        r = cb(ctx, option, optarg);
        if (r)
            return r;
    }
    *ret_first = optind;
    return 0;
}

int
cli_check_seen(const struct cli *cli, const struct cli_option *options,
               uint64_t seen, unsigned command)
{
    for (size_t i = 0; options[i].name; i++)
        if ((seen & UINT64_C(1) << i) && !(options[i].commands & command))
            return cli_usage(cli, "%s has no option --%s", cli->command,
                             options[i].name);
    return 0;
}

bool
cli_common_option(struct cli *cli, const struct cli_option *option,
                  const char *value)
{
    if (strcmp(option->name, "data") == 0) {
        cli_add_path(&cli->data, value);
    } else if (strcmp(option->name, "cache") == 0) {
        cli_add_path(&cli->cache, value);
    } else if (strcmp(option->name, "config") == 0) {
        free(cli->config);
        cli->config = cli_absolute(value);
    } else if (strcmp(option->name, "json") == 0) {
        cli->json = true;
    } else if (strcmp(option->name, "verbose") == 0) {
        cli->verbose = true;
    } else {
        return false;
    }
    return true;
}

int
cli_take_rate(const struct cli *cli, const char *value,
              uint64_t *ret_bytes_per_s)
{
    char *end;
    double number = strtod(value, &end);

    if (*end || end == value || !(number > 0) || number > 1e9)
        return cli_usage(cli, "--max-mbps %s: not a number of megabytes a "
                         "second", value);
    *ret_bytes_per_s = (uint64_t)(number * 1e6);
    return 0;
}
