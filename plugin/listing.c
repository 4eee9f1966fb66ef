/* listing.c: what a client sees before it chooses an export. */
#define NBDKIT_API_VERSION 2
#include "listing.h"

#include <inttypes.h>
#include <nbdkit-plugin.h>
#include <stdio.h>
#include <string.h>

#include "now.h"
#include "report.h"

#define DESCRIPTION_BYTES 512

/* "10 GiB", or bytes where that isn't exact. */
static void
format_size(char *to, size_t to_bytes, uint64_t bytes)
{
    static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB",
                                        "TiB", "PiB" };
    size_t i = 0;

    while (bytes != 0 && bytes % 1024 == 0 &&
           i + 1 < sizeof(unit) / sizeof(unit[0])) {
        bytes /= 1024;
        i++;
    }
    (void)snprintf(to, to_bytes, "%" PRIu64 " %s", bytes, unit[i]);
}

static void
describe(char *to, size_t to_bytes, const struct lsvd_listed *volume)
{
    char size[32];

    if (volume->problem != NULL) {
        (void)snprintf(to, to_bytes, "can't be served: %s", volume->problem);
        return;
    }
    format_size(size, sizeof(size), volume->size_bytes);
    (void)snprintf(to, to_bytes, "%s, %s%s", size, volume->redundancy,
                   volume->read_only ? ", read-only" : "");
}

bool
listing_is_of(const char *name, const char *volume)
{
    size_t bytes = strlen(volume);

    return strncmp(name, volume, bytes) == 0 &&
           (name[bytes] == '\0' || name[bytes] == '@');
}

static void
describe_now(char *to, size_t to_bytes, const char *name)
{
    (void)snprintf(to, to_bytes, "%s as it is when a client connects, for a "
                   "backup", name);
}

/* Of what can be served, and is no snapshot. */
static int
add_now(struct nbdkit_exports *to, const struct lsvd_listed *volume)
{
    char name[DESCRIPTION_BYTES], text[DESCRIPTION_BYTES];

    if (volume->problem != NULL || strchr(volume->name, '@') != NULL)
        return 0;
    (void)snprintf(name, sizeof(name), "%s" NOW_SUFFIX, volume->name);
    describe_now(text, sizeof(text), volume->name);
    return nbdkit_add_export(to, name, text);
}

struct add_context {
    const char *only; /* NULL: all */
    struct nbdkit_exports *to;
};

static int
add_one(void *ctx, const struct lsvd_listed *volume)
{
    const struct add_context *add = ctx;
    char text[DESCRIPTION_BYTES];

    if ((add->only != NULL && !listing_is_of(volume->name, add->only)) ||
        strstr(volume->name, "@+") != NULL) /* see lsvd list */
        return 0;
    describe(text, sizeof(text), volume);
    if (nbdkit_add_export(add->to, volume->name, text) < 0)
        return -1;
    return add_now(add->to, volume);
}

int
listing_add(const struct config *config, struct nbdkit_exports *to)
{
    struct add_context add = { .only = config->volume, .to = to };
    struct lsvd_env env = config_env(config);
    int r;

    r = lsvd_list(&env, add_one, &add);
    return r < 0 ? report_error("listing the volumes", r) : 0;
}

struct only_context {
    unsigned count;
    const char *name; /* of the last one */
};

static int
count_one(void *ctx, const struct lsvd_listed *volume)
{
    struct only_context *only = ctx;

    if (strchr(volume->name, '@') != NULL)
        return 0;
    only->count++;
    only->name = only->count > 1 ? NULL : nbdkit_strdup_intern(volume->name);
    return 0;
}

const char *
listing_default(const struct config *config)
{
    struct only_context only = { 0 };
    struct lsvd_env env = config_env(config);
    int r;

    if (config->volume != NULL)
        return config->volume;
    r = lsvd_list(&env, count_one, &only);
    if (r < 0) {
        (void)report_error("listing the volumes", r);
        return NULL;
    }
    return only.count == 1 ? only.name : "";
}

struct describe_context {
    const char *name;
    const char *text; /* NULL until found */
};

static int
describe_one(void *ctx, const struct lsvd_listed *volume)
{
    struct describe_context *found = ctx;
    char text[DESCRIPTION_BYTES];

    if (strcmp(volume->name, found->name) != 0)
        return 0;
    describe(text, sizeof(text), volume);
    found->text = nbdkit_strdup_intern(text);
    return 0;
}

const char *
listing_describe(const struct config *config, const char *name)
{
    struct describe_context found = { .name = name };
    struct lsvd_env env = config_env(config);

    if (lsvd_list(&env, describe_one, &found) < 0)
        nbdkit_debug("lsvd: listing the volumes: %s", lsvd_error());
    return found.text;
}

const char *
listing_describe_now(const char *name)
{
    char text[DESCRIPTION_BYTES];

    describe_now(text, sizeof(text), name);
    return nbdkit_strdup_intern(text);
}
