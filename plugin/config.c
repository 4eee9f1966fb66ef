/* config.c: parameters are a table, one small function a kind. */
#define NBDKIT_API_VERSION 2
#include "config.h"

#include <errno.h>
#include <nbdkit-plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

static int
set_volume(struct config *config, const char *value)
{
    if (config->volume != NULL) {
        nbdkit_error("lsvd: volume=%s: volume %s was given already; to "
                     "serve several, give none", value, config->volume);
        return -1;
    }
    if (*value == '\0') {
        nbdkit_error("lsvd: volume=: the name is empty");
        return -1;
    }
    config->volume = strdup(value);
    if (config->volume == NULL)
        nbdkit_error("lsvd: out of memory");
    return config->volume == NULL ? -1 : 0;
}

/* Takes text over. */
static int
add_text(struct paths *paths, char *text)
{
    const char **at;

    at = realloc(paths->at, (paths->count + 2) * sizeof(*at));
    if (at == NULL) {
        free(text);
        nbdkit_error("lsvd: out of memory");
        return -1;
    }
    at[paths->count] = text;
    at[paths->count + 1] = NULL;
    paths->at = at;
    paths->count++;
    return 0;
}

/* Paths are made absolute here, as the server changes to / later, but not
 * resolved: a root that is missing today must not hide a volume that
 * another root knows. */
static int
add_path(struct paths *paths, const char *value)
{
    char *path = nbdkit_absolute_path(value);

    return path == NULL ? -1 : add_text(paths, path);
}

/* The engine judges the value, when it opens the first volume. */
static int
add_setting(struct config *config, const char *key, const char *value)
{
    char *text;

    if (asprintf(&text, "%s=%s", key, value) < 0) {
        nbdkit_error("lsvd: out of memory");
        return -1;
    }
    return add_text(&config->settings, text);
}

static int
add_data(struct config *config, const char *value)
{
    return add_path(&config->data, value);
}

static int
add_cache(struct config *config, const char *value)
{
    return add_path(&config->cache, value);
}

static int
set_ram(struct config *config, const char *value)
{
    int64_t bytes;

    bytes = nbdkit_parse_size(value);
    if (bytes < 0)
        return -1;
    if (bytes == 0) {
        nbdkit_error("lsvd: ram=%s: must be more than 0", value);
        return -1;
    }
    config->ram_bytes = (uint64_t)bytes;
    return 0;
}

static int
set_config_path(struct config *config, const char *value)
{
    free(config->config_path);
    config->config_path = nbdkit_absolute_path(value);
    return config->config_path == NULL ? -1 : 0;
}

#ifdef LSVD_FAULTS
static int
set_fault_path(struct config *config, const char *value)
{
    free(config->fault_path);
    config->fault_path = nbdkit_absolute_path(value);
    return config->fault_path == NULL ? -1 : 0;
}
#endif

static const struct parameter {
    const char *key;
    int (*set)(struct config *config, const char *value);
} parameters[] = {
    { "volume", set_volume },
    { "data", add_data },
    { "cache", add_cache },
    { "ram", set_ram },
    { "config", set_config_path },
#ifdef LSVD_FAULTS
    { "fault", set_fault_path },
#endif
};

/* Those of the configuration file that a command line may have, too. */
static const char *const settings[] = {
    "part-timeout", "stall-timeout", "resync-rate", "scrub", "scrub-rate",
    "slow-part", "failing-part", "fence-cmd", "unsafe-nolock", "cache-size",
    "read-cache", "bypass-after",
};

static int
set_metrics(struct config *config, const char *value)
{
    char *path = nbdkit_absolute_path(value);
    int r;

    if (path == NULL)
        return -1;
    r = add_setting(config, "metrics", path);
    free(path);
    return r;
}

int
config_parameter(struct config *config, const char *key, const char *value)
{
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        if (strcmp(key, parameters[i].key) == 0)
            return parameters[i].set(config, value);
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        if (strcmp(key, settings[i]) == 0)
            return add_setting(config, key, value);
    if (strcmp(key, "metrics") == 0)
        return set_metrics(config, value);
    nbdkit_error("lsvd: unknown parameter '%s' (nbdkit lsvd --help lists "
                 "them)", key);
    return -1;
}

static void
free_paths(struct paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        free((void *)(uintptr_t)paths->at[i]);
    free(paths->at);
    *paths = (struct paths){ 0 };
}

void
config_free(struct config *config)
{
    free(config->volume);
    free(config->config_path);
    free(config->fault_path);
    free_paths(&config->data);
    free_paths(&config->cache);
    free_paths(&config->settings);
    *config = (struct config){ 0 };
}

struct lsvd_env
config_env(const struct config *config)
{
    return (struct lsvd_env){
        .log = report_event,
        .config_path = config->config_path,
        .data = config->data.at,
        .cache = config->cache.at,
        .ram_bytes = config->ram_bytes,
        .settings = config->settings.at,
        .fault_path = config->fault_path,
    };
}
