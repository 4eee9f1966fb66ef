/* config.c: the configuration file.
 *
 * The whole file is judged, also what is not asked for: a mistake shows at
 * the next start of anything, not on the day that one volume starts. */
#include "meta/config.h"

#include "base/err.h"
#include "base/limits.h"
#include "base/memory.h"
#include "meta/keyfile.h"
#include "meta/meta.h"
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULTS_GROUP "defaults"

static void
list_free(char **list)
{
    if (list == NULL)
        return;
    for (size_t i = 0; list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

void
config_done(struct config *config)
{
    list_free(config->data);
    list_free(config->cache);
    free(config->fence_cmd);
    free(config->metrics);
    memset(config, 0, sizeof *config);
}

/* Copy texts to a list of ours, in place of what *list was. */
static int
list_replace(char ***list, const char *const *texts, size_t count)
{
    char **copy;
    int r;

    r = mem_new(count + 1, sizeof *copy, &copy);
    for (size_t i = 0; i < count && r == 0; i++) {
        r = mem_dup(texts[i], &copy[i]);
        if (r < 0)
            list_free(copy);
    }
    if (r < 0)
        return r;
    list_free(*list);
    *list = copy;
    return 0;
}

/* ---- the keys ---- */

static int
set_paths(char ***list, const char *const *texts, size_t count, size_t max)
{
    if (count == 0)
        return err_set(-EINVAL, "names no directory");
    if (count > max)
        return err_set(-EINVAL, "names %zu directories, at most %zu can be "
                       "used", count, max);
    for (size_t i = 0; i < count; i++)
        if (texts[i][0] != '/')
            return err_set(-EINVAL, "directories must be absolute paths, "
                           "separated by ;");
    return list_replace(list, texts, count);
}

static int
set_data(struct config *c, const char *const *texts, size_t count)
{
    return set_paths(&c->data, texts, count, SIZE_MAX);
}

static int
set_cache(struct config *c, const char *const *texts, size_t count)
{
    return set_paths(&c->cache, texts, count, JOURNAL_MIRRORS_MAX);
}

static int
set_size(uint64_t *size, const char *const *texts, size_t count)
{
    if (count != 1)
        return err_set(-EINVAL, "must be one size");
    return size_parse(texts[0], size);
}

static int
set_ram(struct config *c, const char *const *texts, size_t count)
{
    int r;

    r = set_size(&c->ram_bytes, texts, count);
    if (r == 0 && c->ram_bytes == 0)
        return err_set(-EINVAL, "must be more than 0");
    return r;
}

static int
set_journal_size(struct config *c, const char *const *texts, size_t count)
{
    int r;

    r = set_size(&c->journal_bytes, texts, count);
    if (r == 0 && c->journal_bytes != 0 &&
        c->journal_bytes < JOURNAL_BYTES_MIN)
        return err_set(-EINVAL, "must be at least %u (or 0: chosen from the "
                       "size of the volume)", JOURNAL_BYTES_MIN);
    return r;
}

static int
set_cache_size(struct config *c, const char *const *texts, size_t count)
{
    return set_size(&c->cache_bytes, texts, count);
}

static int
check_one(size_t count)
{
    return count == 1 ? 0 : err_set(-EINVAL, "must be one value");
}

static int
set_seconds(uint32_t *seconds, uint32_t min, const char *const *texts,
            size_t count)
{
    static const struct {
        char suffix;
        uint32_t seconds;
    } units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    unsigned long long value;
    const char *text;
    char *end;

    if (check_one(count) < 0)
        return -EINVAL;
    text = texts[0];
    errno = 0;
    value = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!isdigit((unsigned char)text[0]) || errno != 0 ||
            end[0] != units[i].suffix || (end[0] != '\0' && end[1] != '\0'))
            continue;
        if (value < min || value > UINT32_MAX / units[i].seconds / 4)
            break;
        *seconds = (uint32_t)value * units[i].seconds;
        return 0;
    }
    return err_set(-EINVAL, "must be a time of at least %u s, such as 90, "
                   "90s, 5m, 12h or 7d", min);
}

static int
set_part_timeout(struct config *c, const char *const *texts, size_t count)
{
    return set_seconds(&c->part_timeout_s, 1, texts, count);
}

static int
set_stall_timeout(struct config *c, const char *const *texts, size_t count)
{
    return set_seconds(&c->stall_timeout_s, 0, texts, count);
}

static int
set_scrub(struct config *c, const char *const *texts, size_t count)
{
    return set_seconds(&c->scrub_s, 0, texts, count);
}

static int
set_resync_rate(struct config *c, const char *const *texts, size_t count)
{
    return set_size(&c->resync_rate, texts, count);
}

static int
set_scrub_rate(struct config *c, const char *const *texts, size_t count)
{
    return set_size(&c->scrub_rate, texts, count);
}

static int
set_read_cache(struct config *c, const char *const *texts, size_t count)
{
    static const char *const names[] = {[READ_CACHE_AUTO] = "auto",
                                        [READ_CACHE_ON] = "on",
                                        [READ_CACHE_OFF] = "off"};

    if (check_one(count) < 0)
        return -EINVAL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(texts[0], names[i]) != 0)
            continue;
        c->read_cache = (enum config_read_cache)i;
        return 0;
    }
    return err_set(-EINVAL, "must be auto, on or off");
}

static int
set_bypass_after(struct config *c, const char *const *texts, size_t count)
{
    if (count == 1 && strcmp(texts[0], "auto") == 0)
        c->bypass_after = CONFIG_BYPASS_AUTO;
    else if (count == 1 && strcmp(texts[0], "never") == 0)
        c->bypass_after = CONFIG_BYPASS_NEVER;
    else if (set_size(&c->bypass_after, texts, count) < 0)
        return err_set(-EINVAL, "must be auto, never, or a size");
    return 0;
}

static int
set_policy(bool *drop, const char *const *texts, size_t count)
{
    if (check_one(count) < 0)
        return -EINVAL;
    if (strcmp(texts[0], "warn") != 0 && strcmp(texts[0], "drop") != 0)
        return err_set(-EINVAL, "must be warn or drop");
    *drop = strcmp(texts[0], "drop") == 0;
    return 0;
}

static int
set_slow_part(struct config *c, const char *const *texts, size_t count)
{
    return set_policy(&c->drop_slow, texts, count);
}

static int
set_failing_part(struct config *c, const char *const *texts, size_t count)
{
    return set_policy(&c->drop_failing, texts, count);
}

static int
set_text(char **to, const char *const *texts, size_t count)
{
    char *copy;
    int r = check_one(count);

    if (r == 0)
        r = mem_dup(texts[0], &copy);
    if (r < 0)
        return r;
    free(*to);
    *to = copy;
    return 0;
}

static int
set_fence_cmd(struct config *c, const char *const *texts, size_t count)
{
    return set_text(&c->fence_cmd, texts, count);
}

static int
set_unsafe_nolock(struct config *c, const char *const *texts, size_t count)
{
    if (check_one(count) < 0)
        return -EINVAL;
    if (strcmp(texts[0], "0") != 0 && strcmp(texts[0], "1") != 0)
        return err_set(-EINVAL, "must be 0 or 1");
    c->unsafe_nolock = texts[0][0] == '1';
    return 0;
}

static int
set_metrics(struct config *c, const char *const *texts, size_t count)
{
    if (count == 1 && texts[0][0] != '/')
        return err_set(-EINVAL, "must be an absolute path");
    return set_text(&c->metrics, texts, count);
}

static const struct key {
    const char *name;
    int (*set)(struct config *c, const char *const *texts, size_t count);
} keys[] = {
    { "data", set_data },
    { "cache", set_cache },
    { "ram", set_ram },
    { "journal-size", set_journal_size },
    { "cache-size", set_cache_size },
    { "read-cache", set_read_cache },
    { "bypass-after", set_bypass_after },
    { "part-timeout", set_part_timeout },
    { "stall-timeout", set_stall_timeout },
    { "resync-rate", set_resync_rate },
    { "scrub", set_scrub },
    { "scrub-rate", set_scrub_rate },
    { "slow-part", set_slow_part },
    { "failing-part", set_failing_part },
    { "fence-cmd", set_fence_cmd },
    { "unsafe-nolock", set_unsafe_nolock },
    { "metrics", set_metrics },
};

static const struct key *
find_key(const char *name)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static int
unknown_key(const char *name)
{
    char safe[KEYFILE_SAFE_BYTES], known[256] = "";
    size_t at = 0;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s",
                               i > 0 ? ", " : "", keys[i].name);
    keyfile_safe(name, safe);
    return err_set(-EINVAL, "unknown key \"%s\" (there are %s)", safe, known);
}

int
config_set(struct config *config, const char *setting)
{
    const char *equals = strchr(setting, '='), *text;
    const struct key *key;
    char name[64] = "";
    int r;

    if (equals != NULL && equals - setting < (ptrdiff_t)sizeof name)
        memcpy(name, setting, (size_t)(equals - setting));
    key = find_key(name);
    if (key == NULL)
        return unknown_key(name);
    text = equals + 1;
    r = key->set(config, &text, 1);
    return r < 0 ? err_wrap(r, "%s", name) : 0;
}

/* ---- the file ---- */

static int
apply_key(GKeyFile *file, const char *group, const char *name,
          struct config *config)
{
    const struct key *key = find_key(name);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) texts = NULL;
    gsize count;
    int r;

    if (key == NULL)
        return unknown_key(name);
    texts = g_key_file_get_string_list(file, group, name, &count, &error);
    if (texts == NULL || error != NULL)
        return err_set(-EINVAL, "%s: not UTF-8, or a wrong escape", name);
    r = key->set(config, (const char *const *)texts, count);
    return r < 0 ? err_wrap(r, "%s", name) : 0;
}

static int
apply_group(GKeyFile *file, const char *group, struct config *config)
{
    g_auto(GStrv) names = NULL;
    char safe[KEYFILE_SAFE_BYTES];

    keyfile_safe(group, safe);
    names = g_key_file_get_keys(file, group, NULL, NULL);
    for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
        int r;

        r = apply_key(file, group, names[i], config);
        if (r < 0)
            return err_wrap(r, "[%s]", safe);
    }
    return 0;
}

static int
set_defaults(struct config *config)
{
    const char *data = CONFIG_DATA_DEFAULT;
    const char *cache = CONFIG_CACHE_DEFAULT;
    int r;

    config->ram_bytes = CONFIG_RAM_DEFAULT;
    config->part_timeout_s = CONFIG_PART_TIMEOUT_DEFAULT;
    config->stall_timeout_s = CONFIG_STALL_TIMEOUT_DEFAULT;
    config->scrub_s = CONFIG_SCRUB_DEFAULT;
    config->scrub_rate = CONFIG_SCRUB_RATE_DEFAULT;
    config->bypass_after = CONFIG_BYPASS_AUTO;
    r = list_replace(&config->data, &data, 1);
    if (r == 0)
        r = list_replace(&config->cache, &cache, 1);
    return r;
}

/* A section that nobody asked for is applied to a config that is thrown
 * away. */
static int
judge_group(GKeyFile *file, const char *group)
{
    struct config config = { 0 };
    int r = 0;

    if (strcmp(group, DEFAULTS_GROUP) != 0)
        r = meta_check_name(group);
    if (r == 0)
        r = apply_group(file, group, &config);
    config_done(&config);
    return r;
}

/* A snapshot goes by the section of its volume. */
static int
apply_file(GKeyFile *file, const char *volume, struct config *config)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
    char base[VOLUME_NAME_BYTES_MAX + 1] = "";
    int r = 0;

    if (volume != NULL)
        meta_base_name(volume, base);
    for (size_t i = 0; groups[i] != NULL && r == 0; i++)
        r = judge_group(file, groups[i]);
    if (r == 0 && g_key_file_has_group(file, DEFAULTS_GROUP))
        r = apply_group(file, DEFAULTS_GROUP, config);
    if (r == 0 && base[0] != '\0' && g_key_file_has_group(file, base))
        r = apply_group(file, base, config);
    return r;
}

/* 0: loaded. 1: there is none, and that is fine. */
static int
load_file(const char *path, bool must_exist, GKeyFile **ret)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;

    if (g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &error)) {
        *ret = g_steal_pointer(&file);
        return 0;
    }
    if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return must_exist ? err_set(-ENOENT, "%s", error->message) : 1;
    return err_set(-EINVAL, "%s", error->message);
}

int
config_load(const char *path, const char *volume, struct config *ret)
{
    bool must_exist = path != NULL;
    g_autoptr(GKeyFile) file = NULL;
    struct config config = { 0 };
    int r;

    if (path == NULL)
        path = CONFIG_PATH_DEFAULT;
    r = set_defaults(&config);
    if (r == 0)
        r = load_file(path, must_exist, &file);
    if (r == 0)
        r = apply_file(file, volume, &config);
    if (r < 0) {
        config_done(&config);
        return err_wrap(r, "%s", path);
    }
    *ret = config;
    return 0;
}
