/* fault_rules.c: reading rules of faults; see fault_rules.h.
 *
 * The file is read, not looked at, to find out whether it has changed: it is
 * small, and two changes within one tick of a file system's clock count. */
#include "meta/fault_rules.h"

#include "base/err.h"
#include "base/memory.h"
#include "meta/keyfile.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct rules_file {
    char *path;   /* owned */
    struct logger log;
    char *text;   /* g_malloc'ed; what was read last */
    size_t bytes;
};

/* ---- the keys ---- */

struct word {
    const char *name;
    unsigned value;
};

static const struct word call_words[] = {
    { "open", FAULT_OPEN },         { "read", FAULT_READ },
    { "write", FAULT_WRITE },       { "sync", FAULT_SYNC },
    { "punch", FAULT_PUNCH },       { "allocate", FAULT_ALLOCATE },
    { "resize", FAULT_RESIZE },     { "list", FAULT_LIST },
    { "remove", FAULT_REMOVE },     { "rename", FAULT_RENAME },
    { "stat", FAULT_STAT },         { "lock", FAULT_LOCK },
    { "dir", FAULT_DIR },           { "any", FAULT_ANY },
};

static const struct word kind_words[] = {
    { "hang", FAULT_HANG }, { "short", FAULT_SHORT }, { "lie", FAULT_LIE },
    { "flip", FAULT_FLIP }, { "drop", FAULT_DROP },
    { "misdirect", FAULT_MISDIRECT },
};

#define WORDS(table) table, sizeof table / sizeof table[0]

static unsigned
find_word(const char *name, const struct word *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i].name, name) == 0)
            return words[i].value;
    return 0;
}

static int
set_number(const char *text, uint64_t max, uint64_t *ret)
{
    guint64 value;

    if (!g_ascii_string_to_unsigned(text, 10, 0, max, &value, NULL))
        return err_set(-EINVAL, "not a number, or too big");
    *ret = value;
    return 0;
}

static int
set_path(struct fault_rule *rule, const char *text)
{
    if (strlen(text) >= sizeof rule->path)
        return err_set(-EINVAL, "longer than %zu", sizeof rule->path - 1);
    g_strlcpy(rule->path, text, sizeof rule->path);
    return 0;
}

static int
set_calls(struct fault_rule *rule, const char *text)
{
    g_auto(GStrv) names = g_strsplit_set(text, ";,", -1);

    rule->calls = 0;
    for (size_t i = 0; names[i] != NULL; i++) {
        unsigned call = find_word(g_strstrip(names[i]), WORDS(call_words));

        if (call == 0 && (names[i][0] != '\0' || i == 0))
            return err_set(-EINVAL, "no such call");
        rule->calls |= call;
    }
    return 0;
}

static int
set_probability(struct fault_rule *rule, const char *text)
{
    char *end;
    double value = g_ascii_strtod(text, &end);

    /* Less than a millionth would be 0, which is "always". */
    if (end == text || *end != '\0' || !(value >= 1e-6 && value <= 1))
        return err_set(-EINVAL, "not between 0.000001 and 1");
    rule->probability = (uint32_t)(value * FAULT_MILLION + 0.5);
    return 0;
}

static int
set_kind(struct fault_rule *rule, enum fault_kind kind)
{
    if (rule->kind != FAULT_NONE)
        return err_set(-EINVAL, "there is another fault in this rule");
    rule->kind = kind;
    return 0;
}

static int
set_error(struct fault_rule *rule, const char *text)
{
    for (int i = 1; i < 256; i++) {
        const char *name = strerrorname_np(i);

        if (name == NULL || strcmp(name, text) != 0)
            continue;
        rule->error = -i;
        return set_kind(rule, FAULT_ERROR);
    }
    return err_set(-EINVAL, "not the name of an errno");
}

static int
set_count(struct fault_rule *rule, const char *text)
{
    int r = set_number(text, UINT64_MAX, &rule->count);

    if (r == 0 && rule->count == 0)
        return err_set(-EINVAL, "must be more than 0");
    return r;
}

static int
set_delay(struct fault_rule *rule, const char *text)
{
    uint64_t ms = 0;
    int r = set_number(text, 3600000, &ms);

    rule->delay_ms = (uint32_t)ms;
    return r;
}

static int
set_key(struct fault_rule *rule, const char *key, const char *text)
{
    unsigned kind = find_word(key, WORDS(kind_words));

    if (kind != 0)
        return strcmp(text, "yes") == 0
               ? set_kind(rule, (enum fault_kind)kind)
               : err_set(-EINVAL, "must be yes, or not be there");
    if (strcmp(key, "path") == 0)
        return set_path(rule, text);
    if (strcmp(key, "call") == 0)
        return set_calls(rule, text);
    if (strcmp(key, "error") == 0)
        return set_error(rule, text);
    if (strcmp(key, "after") == 0)
        return set_number(text, UINT64_MAX, &rule->after);
    if (strcmp(key, "count") == 0)
        return set_count(rule, text);
    if (strcmp(key, "seed") == 0)
        return set_number(text, UINT64_MAX, &rule->seed);
    if (strcmp(key, "probability") == 0)
        return set_probability(rule, text);
    if (strcmp(key, "delay-ms") == 0)
        return set_delay(rule, text);
    return err_set(-EINVAL, "unknown key");
}

/* ---- the file ---- */

static int
parse_keys(GKeyFile *file, const char *group, struct fault_rule *rule)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, group, NULL, NULL);

    for (size_t i = 0; keys != NULL && keys[i] != NULL; i++) {
        g_autofree char *text = g_key_file_get_value(file, group, keys[i],
                                                     NULL);
        char safe[KEYFILE_SAFE_BYTES];
        int r = set_key(rule, keys[i], text);

        if (r < 0) {
            keyfile_safe(keys[i], safe);
            return err_wrap(r, "%s", safe);
        }
    }
    return 0;
}

static int
parse_rule(GKeyFile *file, const char *group, struct fault_rule *ret)
{
    struct fault_rule rule = { .calls = FAULT_ANY };
    int r;

    if (strlen(group) >= sizeof rule.name)
        return err_set(-EINVAL, "the name is longer than %zu",
                       sizeof rule.name - 1);
    g_strlcpy(rule.name, group, sizeof rule.name);
    r = parse_keys(file, group, &rule);
    if (r < 0)
        return r;
    if (rule.kind == FAULT_NONE && rule.delay_ms == 0)
        return err_set(-EINVAL, "says nothing of what happens");
    if ((rule.calls & fault_calls_of(rule.kind)) == 0)
        return err_set(-EINVAL, "this fault can't happen to this call");
    *ret = rule;
    return 0;
}

int
fault_rules_parse(const char *text, size_t bytes,
                  struct fault_rule *ret_rules, size_t *ret_count)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) groups = NULL;
    gsize count;

    if (bytes > FAULT_RULES_BYTES_MAX)
        return err_set(-EINVAL, "longer than %d bytes",
                       FAULT_RULES_BYTES_MAX);
    if (bytes > 0 && !g_key_file_load_from_data(file, text, bytes,
                                                G_KEY_FILE_NONE, &error))
        return err_set(-EINVAL, "%s", error->message);
    groups = g_key_file_get_groups(file, &count);
    if (count > FAULT_RULES_MAX)
        return err_set(-EINVAL, "more than %d rules", FAULT_RULES_MAX);
    for (size_t i = 0; i < count; i++) {
        char safe[KEYFILE_SAFE_BYTES];
        int r = parse_rule(file, groups[i], &ret_rules[i]);

        if (r < 0) {
            keyfile_safe(groups[i], safe);
            return err_wrap(r, "[%s]", safe);
        }
    }
    *ret_count = count;
    return 0;
}

static int
set_rules(const struct rules_file *f, struct io *io)
{
    struct fault_rule *rules;
    size_t count = 0;
    int r;

    r = mem_new(FAULT_RULES_MAX, sizeof *rules, &rules);
    if (r < 0)
        return r;
    r = fault_rules_parse(f->text, f->bytes, rules, &count);
    if (r == 0)
        r = fault_set_rules(io, rules, count);
    free(rules);
    return r < 0 ? err_wrap(r, "%s", f->path) : 0;
}

/* Read the file, and set its rules if it is another than before. */
static int
load(struct rules_file *f, struct io *io)
{
    g_autoptr(GError) error = NULL;
    char *text = NULL;
    gsize bytes = 0;

    if (!g_file_get_contents(f->path, &text, &bytes, &error) &&
        !g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return err_set(-EINVAL, "%s", error->message);
    if (bytes == f->bytes && memcmp(text != NULL ? text : "",
                                    f->text != NULL ? f->text : "",
                                    bytes) == 0) {
        g_free(text);
        return 0;
    }
    g_free(f->text);
    f->text = text;
    f->bytes = bytes;
    return set_rules(f, io);
}

static void
refresh(void *ctx, struct io *io)
{
    struct rules_file *f = ctx;

    if (load(f, io) < 0)
        log_event(&f->log, LOG_ERROR_LEVEL, "%s: the former faults hold on",
                  err_text());
}

static void
release(void *ctx)
{
    struct rules_file *f = ctx;

    g_free(f->text);
    free(f->path);
    free(f);
}

int
fault_rules_new(struct io *inner, const char *path, const struct logger *log,
                struct io **ret)
{
    struct rules_file *f;
    struct io *io;
    int r;

    r = mem_new(1, sizeof *f, &f);
    if (r < 0)
        return r;
    f->log = *log;
    r = mem_dup(path, &f->path);
    if (r == 0)
        r = fault_new(inner, refresh, release, f, &io);
    if (r < 0) {
        free(f->path);
        free(f);
        return r;
    }
    r = load(f, io);
    if (r < 0) {
        fault_free(io);
        return r;
    }
    *ret = io;
    return 0;
}
