/* keyfile.c: key files that end with their own checksum; see keyfile.h. */
#include "meta/keyfile.h"

#include "base/err.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/sum.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SUM_LINE_BYTES 28 /* "checksum = ", 16 digits, newline */

static void
sum_line(const uint8_t *bytes, size_t count, char line[SUM_LINE_BYTES + 1])
{
    (void)snprintf(line, SUM_LINE_BYTES + 1, "checksum = %016" PRIx64 "\n",
                   sum_bytes(bytes, count));
    assert(strlen(line) == SUM_LINE_BYTES);
}

/* K1 */
static int
verify_sum(const uint8_t *bytes, size_t count)
{
    char line[SUM_LINE_BYTES + 1];
    size_t body;

    if (count <= SUM_LINE_BYTES)
        return err_set(-EBADMSG, "damaged: cut short");
    body = count - SUM_LINE_BYTES;
    sum_line(bytes, body, line);
    if (bytes[body - 1] != '\n' ||
        memcmp(bytes + body, line, SUM_LINE_BYTES) != 0)
        return err_set(-EBADMSG,
                       "damaged: the checksum in its last line is wrong");
    return 0;
}

static size_t
count_lines(const uint8_t *bytes, size_t count)
{
    const uint8_t *end = bytes + count;
    size_t lines = 0;

    while (bytes < end) {
        const uint8_t *newline = memchr(bytes, '\n', (size_t)(end - bytes));

        lines++;
        if (newline == NULL)
            break;
        bytes = newline + 1;
    }
    return lines;
}

int
keyfile_parse(const uint8_t *bytes, size_t count, size_t max_lines,
              GKeyFile **ret)
{
    g_autoptr(GKeyFile) file = NULL;
    g_autoptr(GError) error = NULL;
    int r;

    r = verify_sum(bytes, count);
    if (r < 0)
        return r;
    if (memchr(bytes, '\0', count) != NULL)
        return err_set(-EBADMSG, "damaged: holds a zero byte");
    if (count_lines(bytes, count) > max_lines)
        return err_set(-EBADMSG, "damaged: more than %zu lines", max_lines);
    file = g_key_file_new();
    if (!g_key_file_load_from_data(file, (const char *)bytes, count,
                                   G_KEY_FILE_NONE, &error))
        return err_set(-EBADMSG, "damaged: not a key file");
    *ret = g_steal_pointer(&file);
    return 0;
}

void
keyfile_safe(const char *text, char *to)
{
    size_t i;

    for (i = 0; text[i] != '\0' && i < KEYFILE_SAFE_BYTES - 4; i++)
        to[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    if (text[i] != '\0') {
        memcpy(to + i, "...", 3);
        i += 3;
    }
    to[i] = '\0';
}

/* ---- reading ---- */

static int
bad_value(const char *group, const char *key, const char *what)
{
    char safe[KEYFILE_SAFE_BYTES];

    keyfile_safe(group, safe);
    return err_set(-EBADMSG, "damaged: [%s] %s: %s", safe, key, what);
}

/* The value as it stands in the file; freed with g_free. */
static int
raw_value(GKeyFile *file, const char *group, const char *key, char **ret)
{
    char *value = g_key_file_get_value(file, group, key, NULL);

    if (value == NULL)
        return bad_value(group, key, "missing");
    *ret = value;
    return 0;
}

int
keyfile_u64(GKeyFile *file, const char *group, const char *key, uint64_t min,
            uint64_t max, uint64_t *ret)
{
    g_autofree char *text = NULL;
    guint64 value;
    int r;

    r = raw_value(file, group, key, &text);
    if (r < 0)
        return r;
    if (!g_ascii_string_to_unsigned(text, 10, min, max, &value, NULL))
        return bad_value(group, key, "not a number, or out of range");
    *ret = value;
    return 0;
}

int
keyfile_u32(GKeyFile *file, const char *group, const char *key, uint32_t min,
            uint32_t max, uint32_t *ret)
{
    uint64_t value = 0;
    int r;

    r = keyfile_u64(file, group, key, min, max, &value);
    if (r < 0)
        return r;
    *ret = (uint32_t)value; /* <= max */
    return 0;
}

int
keyfile_bool(GKeyFile *file, const char *group, const char *key, bool *ret)
{
    g_autofree char *text = NULL;
    int r;

    r = raw_value(file, group, key, &text);
    if (r < 0)
        return r;
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return bad_value(group, key, "neither true nor false");
    *ret = text[0] == 't';
    return 0;
}

int
keyfile_uuid(GKeyFile *file, const char *group, const char *key,
             struct uuid *ret)
{
    g_autofree char *text = NULL;
    int r;

    r = raw_value(file, group, key, &text);
    if (r < 0)
        return r;
    if (uuid_parse(text, ret) < 0)
        return bad_value(group, key, "not a UUID");
    return 0;
}

int
keyfile_text(GKeyFile *file, const char *group, const char *key, char **ret)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    if (!g_key_file_has_key(file, group, key, NULL))
        return bad_value(group, key, "missing");
    text = g_key_file_get_string(file, group, key, &error);
    /* For a wrong escape GLib returns both a text and an error. */
    if (text == NULL || error != NULL)
        return bad_value(group, key, "not UTF-8, or a wrong escape");
    *ret = g_steal_pointer(&text);
    return 0;
}

int
keyfile_features(GKeyFile *file, const char *group, uint64_t incompat_known,
                 uint64_t *ret_incompat, uint64_t *ret_ro_compat,
                 uint64_t *ret_compat)
{
    uint64_t format = 0, incompat = 0;
    int r;

    r = keyfile_u64(file, group, "format", 1, UINT64_MAX, &format);
    if (r < 0)
        return r;
    if (format > FORMAT_VERSION)
        return err_set(-EPROTO, "format %" PRIu64 " is newer than this "
                       "version of lsvd, which knows format %d", format,
                       FORMAT_VERSION);
    r = keyfile_u64(file, group, "incompat", 0, UINT64_MAX, &incompat);
    if (r < 0)
        return r;
    if (incompat & ~incompat_known)
        return err_set(-EPROTO, "uses features (0x%" PRIx64 ") that this "
                       "version of lsvd does not know",
                       incompat & ~incompat_known);
    r = keyfile_u64(file, group, "ro-compat", 0, UINT64_MAX, ret_ro_compat);
    if (r == 0)
        r = keyfile_u64(file, group, "compat", 0, UINT64_MAX, ret_compat);
    if (r == 0)
        *ret_incompat = incompat;
    return r;
}

/* ---- writing ---- */

void
keyfile_put_u64(GString *out, const char *key, uint64_t value)
{
    g_string_append_printf(out, "%s = %" PRIu64 "\n", key, value);
}

void
keyfile_put_bool(GString *out, const char *key, bool value)
{
    g_string_append_printf(out, "%s = %s\n", key, value ? "true" : "false");
}

void
keyfile_put_uuid(GString *out, const char *key, const struct uuid *uuid)
{
    char text[UUID_TEXT_BYTES];

    uuid_format(uuid, text);
    g_string_append_printf(out, "%s = %s\n", key, text);
}

void
keyfile_put_text(GString *out, const char *key, const char *value)
{
    /* GLib escapes what GLib will read. */
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *escaped = NULL;

    g_key_file_set_string(file, "x", key, value);
    escaped = g_key_file_get_value(file, "x", key, NULL);
    assert(escaped != NULL);
    g_string_append_printf(out, "%s = %s\n", key, escaped);
}

void
keyfile_put_features(GString *out, uint64_t incompat, uint64_t ro_compat,
                     uint64_t compat)
{
    keyfile_put_u64(out, "format", FORMAT_VERSION);
    keyfile_put_u64(out, "incompat", incompat);
    keyfile_put_u64(out, "ro-compat", ro_compat);
    keyfile_put_u64(out, "compat", compat);
}

int
keyfile_seal(GString *out, const char *end_group, size_t max_bytes,
             char **ret, size_t *ret_bytes)
{
    char line[SUM_LINE_BYTES + 1];
    int r;

    g_string_append_printf(out, "\n[%s]\n", end_group);
    sum_line((const uint8_t *)out->str, out->len, line);
    g_string_append(out, line);
    if (out->len > max_bytes)
        return err_set(-EFBIG, "would have %zu bytes, more than the %zu that "
                       "it can have", (size_t)out->len, max_bytes);
    r = mem_dup(out->str, ret);
    if (r < 0)
        return r;
    *ret_bytes = out->len;
    return 0;
}
