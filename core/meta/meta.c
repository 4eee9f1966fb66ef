/* meta.c: the policy of a volume as text.
 *
 * [volume]            format, features, identity, size, policy
 * [source 1] …        number and UUID of each volume that references lead to
 * [part a] …          instance and root of each part
 * [history]           only if a loss was accepted: by whom, when, why
 * [end]               the checksum (keyfile.h) */
#include "meta/meta.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include "meta/keyfile.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOLUME_GROUP "volume"
#define HISTORY_GROUP "history"
#define META_LINES_MAX 1024u

void
meta_done(struct volume_meta *meta)
{
    for (size_t i = 0; i < PARTS_MAX; i++)
        free(meta->part[i].root);
    for (size_t i = 0; i < META_FORCED_MAX; i++)
        free(meta->forced[i]);
    memset(meta, 0, sizeof *meta);
}

int
meta_copy(const struct volume_meta *from, struct volume_meta *ret)
{
    struct volume_meta copy = *from;
    int r = 0;

    for (size_t i = 0; i < PARTS_MAX; i++)
        copy.part[i].root = NULL;
    memset(copy.forced, 0, sizeof copy.forced);
    for (size_t i = 0; i < PARTS_MAX && r == 0; i++)
        if (from->part[i].root != NULL)
            r = mem_dup(from->part[i].root, &copy.part[i].root);
    for (size_t i = 0; i < from->forced_count && r == 0; i++)
        r = mem_dup(from->forced[i], &copy.forced[i]);
    if (r < 0) {
        meta_done(&copy);
        return r;
    }
    *ret = copy;
    return 0;
}

/* ---- judging ---- */

static bool
is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z');
}

/* At most so many bytes of it. */
static int
check_word(const char *word, size_t bytes, const char *what, const char *safe)
{
    if (bytes == 0 || !is_alnum(word[0]))
        return err_set(-EINVAL, "name \"%s\": %s must begin with a letter or "
                       "digit", safe, what);
    for (size_t i = 1; i < bytes; i++)
        if (!is_alnum(word[i]) && strchr("._-", word[i]) == NULL)
            return err_set(-EINVAL, "name \"%s\": %s may hold letters, digits, "
                           "dot, underscore and dash only", safe, what);
    return 0;
}

int
meta_check_name(const char *name)
{
    char safe[KEYFILE_SAFE_BYTES];
    size_t bytes = strnlen(name, VOLUME_NAME_BYTES_MAX + 1), base;
    int r;

    keyfile_safe(name, safe);
    if (bytes == 0)
        return err_set(-EINVAL, "the name of a volume can't be empty");
    if (bytes > VOLUME_NAME_BYTES_MAX)
        return err_set(-EINVAL, "name \"%s\": longer than %d bytes", safe,
                       VOLUME_NAME_BYTES_MAX);
    base = strcspn(name, "@");
    r = check_word(name, base, "it", safe);
    if (r < 0 || base == bytes)
        return r;
    base += name[base + 1] == '+' ? 2 : 1; /* unborn */
    return check_word(name + base, bytes - base, "what follows the @", safe);
}

void
meta_base_name(const char *name, char ret[VOLUME_NAME_BYTES_MAX + 1])
{
    snprintf(ret, VOLUME_NAME_BYTES_MAX + 1, "%.*s", (int)strcspn(name, "@"),
             name);
}

int
meta_unborn_name(const char *base, uint32_t number,
                 char ret[VOLUME_NAME_BYTES_MAX + 1])
{
    int bytes = snprintf(ret, VOLUME_NAME_BYTES_MAX + 1, "%s@+%" PRIu32, base,
                         number);

    if (bytes > VOLUME_NAME_BYTES_MAX)
        return err_set(-EINVAL, "volume %s: its name is too long for a "
                       "snapshot: %d bytes must be left", base,
                       bytes - (int)strlen(base));
    return 0;
}

bool
meta_is_unborn_name(const char *name)
{
    return strstr(name, "@+") != NULL;
}

static bool
is_power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static int
check_sizes(const struct volume_meta *m)
{
    uint64_t size_max;

    if (m->block_bytes < BLOCK_BYTES_MIN || m->block_bytes > BLOCK_BYTES_MAX ||
        !is_power_of_two(m->block_bytes))
        return err_set(-EINVAL, "block size %" PRIu32 ": must be a power of "
                       "two from %u to %u", m->block_bytes, BLOCK_BYTES_MIN,
                       BLOCK_BYTES_MAX);
    if (m->chunk_bytes < CHUNK_BYTES_MIN || m->chunk_bytes > CHUNK_BYTES_MAX ||
        !is_power_of_two(m->chunk_bytes))
        return err_set(-EINVAL, "chunk size %" PRIu32 ": must be a power of "
                       "two from %u to %u", m->chunk_bytes, CHUNK_BYTES_MIN,
                       CHUNK_BYTES_MAX);
    if (m->size_bytes == 0)
        return err_set(-EINVAL, "size 0: must be at least 1");
    size_max = (uint64_t)m->chunk_bytes * CHUNK_COUNT_MAX;
    if (size_max > VOLUME_BYTES_MAX)
        size_max = VOLUME_BYTES_MAX;
    if (m->size_bytes > size_max)
        return err_set(-EINVAL, "size %" PRIu64 ": must be at most %" PRIu64
                       " with chunks of %" PRIu32, m->size_bytes, size_max,
                       m->chunk_bytes);
    if (m->journal_bytes != 0 && (m->journal_bytes < JOURNAL_BYTES_MIN ||
                                  m->journal_bytes > VOLUME_BYTES_MAX))
        return err_set(-EINVAL, "journal size %" PRIu64 ": must be from %u "
                       "to %" PRIu64, m->journal_bytes, JOURNAL_BYTES_MIN,
                       VOLUME_BYTES_MAX);
    return 0;
}

static int
check_parent(const struct volume_meta *m)
{
    bool has = m->incompat & META_INCOMPAT_PARENT;

    if (has != (m->parent != 0))
        return err_set(-EINVAL, "parent %" PRIu32 ": the feature says "
                       "otherwise", m->parent);
    if (!has)
        return 0;
    if (m->parent < VOLUME_NUMBER_FIRST || m->parent > VOLUME_NUMBER_MAX ||
        m->parent == m->number)
        return err_set(-EINVAL, "parent %" PRIu32 ": must be %d to %d, and "
                       "another volume", m->parent, VOLUME_NUMBER_FIRST,
                       VOLUME_NUMBER_MAX);
    if (uuid_is_zero(&m->parent_uuid) || uuid_equal(&m->parent_uuid, &m->uuid))
        return err_set(-EINVAL, "the parent has an impossible UUID");
    if (m->overlap_bytes > m->size_bytes)
        return err_set(-EINVAL, "overlap %" PRIu64 ": the volume has %" PRIu64
                       " bytes", m->overlap_bytes, m->size_bytes);
    return 0;
}

static int
check_successor(const struct volume_meta *m)
{
    bool has = m->incompat & META_INCOMPAT_SNAPSHOT;

    if (has != (m->successor != 0))
        return err_set(-EINVAL, "successor %" PRIu32 ": the feature says "
                       "otherwise", m->successor);
    if (!has)
        return 0;
    if (m->successor < VOLUME_NUMBER_FIRST ||
        m->successor > VOLUME_NUMBER_MAX || m->successor == m->number)
        return err_set(-EINVAL, "successor %" PRIu32 ": must be %d to %d, and "
                       "another volume", m->successor, VOLUME_NUMBER_FIRST,
                       VOLUME_NUMBER_MAX);
    if (uuid_is_zero(&m->successor_uuid) ||
        uuid_equal(&m->successor_uuid, &m->uuid))
        return err_set(-EINVAL, "the successor has an impossible UUID");
    if (!m->read_only || !meta_is_snapshot_name(meta_stored_name(m)))
        return err_set(-EINVAL, "a snapshot is read-only, and its name has an "
                       "@");
    return 0;
}

static int
check_source(const struct volume_meta *m, uint32_t i)
{
    const struct meta_source *s = &m->source[i];

    if (s->number < VOLUME_NUMBER_FIRST || s->number > VOLUME_NUMBER_MAX ||
        s->number == m->number)
        return err_set(-EINVAL, "source %" PRIu32 ": must be %d to %d, and "
                       "another volume", s->number, VOLUME_NUMBER_FIRST,
                       VOLUME_NUMBER_MAX);
    if (uuid_is_zero(&s->uuid) || uuid_equal(&s->uuid, &m->uuid))
        return err_set(-EINVAL, "source %" PRIu32 " has an impossible UUID",
                       s->number);
    for (uint32_t k = 0; k < i; k++) {
        if (m->source[k].number == s->number)
            return err_set(-EINVAL, "source %" PRIu32 ": is there twice",
                           s->number);
    }
    return 0;
}

static int
check_sources(const struct volume_meta *m)
{
    bool has = m->incompat & META_INCOMPAT_SOURCES;
    int r = 0;

    if (has != (m->source_count > 0) || m->source_count > META_SOURCES_MAX)
        return err_set(-EINVAL, "%" PRIu32 " sources: the feature says "
                       "otherwise", m->source_count);
    for (uint32_t i = 0; i < m->source_count && r == 0; i++)
        r = check_source(m, i);
    return r;
}

static int
check_redundancy(const struct volume_meta *m)
{
    uint32_t part_count = m->replicas;

    if (m->replicas == 0) {
        if (m->ec_data < EC_DATA_MIN || m->ec_data > EC_DATA_MAX ||
            m->ec_parity < 1 || m->ec_parity > EC_PARITY_MAX)
            return err_set(-EINVAL, "EC %" PRIu32 "+%" PRIu32 ": must be "
                           "%d to %d data and 1 to %d parity", m->ec_data,
                           m->ec_parity, EC_DATA_MIN, EC_DATA_MAX,
                           EC_PARITY_MAX);
        part_count = m->ec_data + m->ec_parity;
    } else if (m->replicas > REPLICAS_MAX) {
        return err_set(-EINVAL, "%" PRIu32 " replicas: must be 1 to %d",
                       m->replicas, REPLICAS_MAX);
    } else if (m->ec_data != 0 || m->ec_parity != 0) {
        return err_set(-EINVAL, "a volume has either replicas or EC");
    }
    if (m->part_count != part_count)
        return err_set(-EINVAL, "%" PRIu32 " parts: the redundancy needs %"
                       PRIu32, m->part_count, part_count);
    return 0;
}

/* The root of a part: it is shown in messages and stored as a line of text. */
static int
check_root(char letter, const char *root)
{
    char safe[KEYFILE_SAFE_BYTES];

    if (root == NULL || root[0] != '/')
        return err_set(-EINVAL, "part %c: its root must be an absolute path",
                       letter);
    keyfile_safe(root, safe);
    if (strlen(root) >= PATH_TEXT_MAX)
        return err_set(-EINVAL, "part %c: root %s: longer than %d bytes",
                       letter, safe, PATH_TEXT_MAX - 1);
    if (!g_utf8_validate(root, -1, NULL))
        return err_set(-EINVAL, "part %c: root %s: must be UTF-8", letter,
                       safe);
    for (const char *c = root; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == '\x7f')
            return err_set(-EINVAL, "part %c: root %s: has a control "
                           "character", letter, safe);
    return 0;
}

static int
check_parts(const struct volume_meta *m)
{
    for (uint32_t i = 0; i < m->part_count; i++) {
        char letter = (char)('a' + i);
        int r;

        r = check_root(letter, m->part[i].root);
        if (r < 0)
            return r;
        if (uuid_is_zero(&m->part[i].instance))
            return err_set(-EINVAL, "part %c: has no instance", letter);
        for (uint32_t j = 0; j < i; j++)
            if (uuid_equal(&m->part[i].instance, &m->part[j].instance))
                return err_set(-EINVAL, "parts %c and %c: have the same "
                               "instance", (char)('a' + j), letter);
    }
    return 0;
}

/* A line of the history: shown to people, and stored as a line. */
static int
check_forced(const char *line)
{
    size_t bytes = strnlen(line, META_FORCED_BYTES_MAX + 1);

    if (bytes == 0 || bytes > META_FORCED_BYTES_MAX)
        return err_set(-EINVAL, "a line of the history has 1 to %d bytes",
                       META_FORCED_BYTES_MAX);
    if (!g_utf8_validate(line, -1, NULL))
        return err_set(-EINVAL, "a line of the history must be UTF-8");
    for (const char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == '\x7f')
            return err_set(-EINVAL, "a line of the history has a control "
                           "character");
    return 0;
}

int
meta_add_forced(struct volume_meta *m, const char *line)
{
    int r = check_forced(line);

    if (r == 0 && m->forced_count == META_FORCED_MAX)
        r = err_set(-ENOSPC, "a loss was accepted %d times: no more",
                    META_FORCED_MAX);
    if (r == 0)
        r = mem_dup(line, &m->forced[m->forced_count]);
    if (r == 0)
        m->forced_count++;
    return r;
}

bool
meta_needs(const struct volume_meta *m, uint32_t number,
           const struct uuid *uuid)
{
    return (m->parent == number && uuid_equal(&m->parent_uuid, uuid)) ||
           meta_has_source(m, number, uuid);
}

bool
meta_has_source(const struct volume_meta *m, uint32_t number,
                const struct uuid *uuid)
{
    for (uint32_t i = 0; i < m->source_count; i++) {
        if (m->source[i].number == number &&
            uuid_equal(&m->source[i].uuid, uuid))
            return true;
    }
    return false;
}

int
meta_add_source(struct volume_meta *m, uint32_t number,
                const struct uuid *uuid)
{
    for (uint32_t i = 0; i < m->source_count; i++) {
        if (m->source[i].number == number)
            return uuid_equal(&m->source[i].uuid, uuid)
                       ? 0
                       : err_set(-EEXIST, "volume %s has references to "
                                 "another volume of the number %" PRIu32,
                                 m->name, number);
    }
    if (m->source_count == META_SOURCES_MAX)
        return err_set(-ENOSPC, "volume %s has references to %d volumes: no "
                       "more", m->name, META_SOURCES_MAX);
    m->source[m->source_count++] = (struct meta_source){number, *uuid};
    m->incompat |= META_INCOMPAT_SOURCES;
    return 0;
}

void
meta_remove_source(struct volume_meta *m, uint32_t number)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < m->source_count; i++) {
        if (m->source[i].number != number)
            m->source[kept++] = m->source[i];
    }
    m->source_count = kept;
    if (kept == 0)
        m->incompat &= ~META_INCOMPAT_SOURCES;
}

int
meta_check(const struct volume_meta *m)
{
    int r;

    r = meta_check_name(m->name);
    if (r < 0)
        return r;
    if (m->number < VOLUME_NUMBER_FIRST || m->number > VOLUME_NUMBER_MAX)
        return err_set(-EINVAL, "number %" PRIu32 ": must be %d to %d",
                       m->number, VOLUME_NUMBER_FIRST, VOLUME_NUMBER_MAX);
    if (uuid_is_zero(&m->uuid))
        return err_set(-EINVAL, "the volume has no UUID");
    r = check_sizes(m);
    if (r == 0)
        r = check_redundancy(m);
    if (r == 0)
        r = check_parts(m);
    if (r == 0)
        r = check_parent(m);
    if (r == 0)
        r = check_successor(m);
    if (r == 0)
        r = check_sources(m);
    for (uint32_t i = 0; i < m->forced_count && r == 0; i++)
        r = check_forced(m->forced[i]);
    return r;
}

/* ---- parsing ---- */

static int
parse_name(GKeyFile *file, struct volume_meta *m)
{
    g_autofree char *name = NULL;
    int r;

    r = keyfile_text(file, VOLUME_GROUP, "name", &name);
    if (r == 0)
        r = meta_check_name(name);
    if (r < 0)
        return r;
    memcpy(m->name, name, strlen(name) + 1); /* checked: it fits */
    return 0;
}

/* "3" up to the end character; at most 99. */
static bool
parse_small(const char **text, char end, uint32_t *ret)
{
    const char *c = *text;
    uint32_t n = 0;

    while (*c >= '0' && *c <= '9' && n <= 9)
        n = n * 10 + (uint32_t)(*c++ - '0');
    if (c == *text || *c != end)
        return false;
    *text = end != '\0' ? c + 1 : c;
    *ret = n;
    return true;
}

/* "replicas 3" or "ec 4+2"; a word that we don't know is of the future. */
static int
parse_redundancy(GKeyFile *file, struct volume_meta *m)
{
    g_autofree char *value = NULL;
    char safe[KEYFILE_SAFE_BYTES];
    const char *text;
    int r;

    r = keyfile_text(file, VOLUME_GROUP, "redundancy", &value);
    if (r < 0)
        return r;
    if (g_str_has_prefix(value, "replicas ")) {
        text = value + strlen("replicas ");
        if (parse_small(&text, '\0', &m->replicas) && m->replicas > 0) {
            m->part_count = m->replicas;
            return 0;
        }
    }
    if (g_str_has_prefix(value, "ec ")) {
        text = value + strlen("ec ");
        if (parse_small(&text, '+', &m->ec_data) &&
            parse_small(&text, '\0', &m->ec_parity)) {
            m->part_count = m->ec_data + m->ec_parity;
            return 0;
        }
    }
    keyfile_safe(value, safe);
    return err_set(-EPROTO, "redundancy \"%s\" is not known to this version "
                   "of lsvd", safe);
}

static int
parse_layout(GKeyFile *file)
{
    g_autofree char *layout = NULL;
    char safe[KEYFILE_SAFE_BYTES];
    int r;

    r = keyfile_text(file, VOLUME_GROUP, "layout", &layout);
    if (r < 0)
        return r;
    keyfile_safe(layout, safe);
    if (strcmp(layout, "chunk") != 0)
        return err_set(-EPROTO, "layout \"%s\" is not known to this version "
                       "of lsvd", safe);
    return 0;
}

static int
parse_numbers(GKeyFile *file, struct volume_meta *m)
{
    const char *g = VOLUME_GROUP;
    int r;

    r = keyfile_u32(file, g, "number", 0, UINT32_MAX, &m->number);
    if (r == 0)
        r = keyfile_uuid(file, g, "uuid", &m->uuid);
    if (r == 0)
        r = keyfile_u64(file, g, "size", 0, UINT64_MAX, &m->size_bytes);
    if (r == 0)
        r = keyfile_u32(file, g, "chunk-size", 0, UINT32_MAX,
                        &m->chunk_bytes);
    if (r == 0)
        r = keyfile_u32(file, g, "block-size", 0, UINT32_MAX,
                        &m->block_bytes);
    if (r == 0)
        r = keyfile_u64(file, g, "journal-size", 0, UINT64_MAX,
                        &m->journal_bytes);
    if (r == 0)
        r = keyfile_u64(file, g, "generation", 0, UINT64_MAX,
                        &m->generation);
    return r;
}

static int
parse_flags(GKeyFile *file, struct volume_meta *m)
{
    int r;

    r = keyfile_bool(file, VOLUME_GROUP, "read-only", &m->read_only);
    if (r == 0)
        r = keyfile_bool(file, VOLUME_GROUP, "append-only", &m->append_only);
    if (r == 0)
        r = keyfile_bool(file, VOLUME_GROUP, "removing", &m->removing);
    return r;
}

static int
parse_parent(GKeyFile *file, struct volume_meta *m)
{
    const char *g = VOLUME_GROUP;
    int r;

    if (!(m->incompat & META_INCOMPAT_PARENT))
        return 0;
    r = keyfile_u32(file, g, "parent", 0, UINT32_MAX, &m->parent);
    if (r == 0)
        r = keyfile_uuid(file, g, "parent-uuid", &m->parent_uuid);
    if (r == 0)
        r = keyfile_u64(file, g, "overlap", 0, UINT64_MAX,
                        &m->overlap_bytes);
    return r;
}

static int
parse_successor(GKeyFile *file, struct volume_meta *m)
{
    const char *g = VOLUME_GROUP;
    int r;

    if (!(m->incompat & META_INCOMPAT_SNAPSHOT))
        return 0;
    r = keyfile_u32(file, g, "successor", 0, UINT32_MAX, &m->successor);
    if (r == 0)
        r = keyfile_uuid(file, g, "successor-uuid", &m->successor_uuid);
    if (r == 0)
        r = keyfile_u64(file, g, "frozen-at", 0, UINT64_MAX, &m->frozen_at);
    if (r == 0)
        r = keyfile_u32(file, g, "frozen-epoch", 0, UINT32_MAX,
                        &m->frozen_epoch);
    if (r == 0)
        r = keyfile_u32(file, g, "frozen-minor", 0, UINT32_MAX,
                        &m->frozen_minor);
    if (r == 0 && g_key_file_has_key(file, g, "source-uuid", NULL))
        r = keyfile_uuid(file, g, "source-uuid", &m->source_uuid);
    return r;
}

static void
source_group(uint32_t i, char group[24])
{
    snprintf(group, 24, "source %" PRIu32, i + 1);
}

static int
parse_sources(GKeyFile *file, struct volume_meta *m)
{
    int r = 0;

    if (!(m->incompat & META_INCOMPAT_SOURCES))
        return 0;
    for (uint32_t i = 0; r == 0; i++) {
        char group[24];

        source_group(i, group);
        if (!g_key_file_has_group(file, group))
            break;
        if (i == META_SOURCES_MAX)
            return err_set(-EBADMSG, "more than %d sources",
                           META_SOURCES_MAX);
        r = keyfile_u32(file, group, "number", 0, UINT32_MAX,
                        &m->source[i].number);
        if (r == 0)
            r = keyfile_uuid(file, group, "uuid", &m->source[i].uuid);
        m->source_count = i + 1;
    }
    return r;
}

static void
part_group(uint32_t part, char group[8])
{
    memcpy(group, "part a", 7);
    group[5] = (char)('a' + part);
}

static int
parse_part(GKeyFile *file, uint32_t i, struct volume_meta *m)
{
    g_autofree char *root = NULL;
    char group[8];
    int r;

    part_group(i, group);
    r = keyfile_uuid(file, group, "instance", &m->part[i].instance);
    if (r == 0)
        r = keyfile_text(file, group, "root", &root);
    if (r == 0)
        r = mem_dup(root, &m->part[i].root);
    return r;
}

static void
forced_key(uint32_t i, char key[24])
{
    snprintf(key, 24, "forced-%" PRIu32, i + 1);
}

/* Absent from most files, and from all of older versions. */
static int
parse_history(GKeyFile *file, struct volume_meta *m)
{
    char key[24];
    int r;

    if (!g_key_file_has_group(file, HISTORY_GROUP))
        return 0;
    r = keyfile_bool(file, HISTORY_GROUP, "accepted-loss",
                     &m->accepted_loss);
    for (uint32_t i = 0; i < META_FORCED_MAX && r == 0; i++) {
        g_autofree char *line = NULL;

        forced_key(i, key);
        if (!g_key_file_has_key(file, HISTORY_GROUP, key, NULL))
            break;
        r = keyfile_text(file, HISTORY_GROUP, key, &line);
        if (r == 0)
            r = meta_add_forced(m, line);
    }
    return r;
}

static int
parse_volume(GKeyFile *file, struct volume_meta *m)
{
    int r;

    r = keyfile_features(file, VOLUME_GROUP, META_INCOMPAT_KNOWN,
                         &m->incompat, &m->ro_compat, &m->compat);
    if (r == 0)
        r = parse_layout(file);
    if (r == 0)
        r = parse_name(file, m);
    if (r == 0)
        r = parse_numbers(file, m);
    if (r == 0)
        r = parse_redundancy(file, m);
    if (r == 0)
        r = check_redundancy(m); /* bounds part_count */
    if (r == 0)
        r = parse_flags(file, m);
    if (r == 0)
        r = parse_parent(file, m);
    if (r == 0)
        r = parse_successor(file, m);
    if (r == 0)
        r = parse_sources(file, m);
    for (uint32_t i = 0; i < m->part_count && r == 0; i++)
        r = parse_part(file, i, m);
    if (r == 0)
        r = parse_history(file, m);
    if (r == 0)
        r = meta_check(m);
    if (m->ro_compat & ~META_RO_COMPAT_KNOWN)
        m->read_only = true;
    /* To a user an impossible value is a wrong argument; in a file it is
     * damage. */
    return r == -EINVAL ? err_wrap(-EBADMSG, "damaged") : r;
}

int
meta_parse(const uint8_t *bytes, size_t count, struct volume_meta *ret)
{
    g_autoptr(GKeyFile) file = NULL;
    struct volume_meta m = { 0 };
    int r;

    if (count > META_BYTES_MAX)
        return err_set(-EBADMSG, "damaged: more than %u bytes",
                       META_BYTES_MAX);
    r = keyfile_parse(bytes, count, META_LINES_MAX, &file);
    if (r < 0)
        return r;
    r = parse_volume(file, &m);
    if (r < 0) {
        meta_done(&m);
        return r;
    }
    *ret = m;
    return 0;
}

/* ---- formatting ---- */

static void
put_redundancy(GString *out, const struct volume_meta *m)
{
    if (m->replicas > 0)
        g_string_append_printf(out, "redundancy = replicas %" PRIu32 "\n",
                               m->replicas);
    else
        g_string_append_printf(out, "redundancy = ec %" PRIu32 "+%" PRIu32
                               "\n", m->ec_data, m->ec_parity);
}

static void
put_volume(GString *out, const struct volume_meta *m)
{
    g_string_append_printf(out,
        "# lsvd volume \"%s\": what it is and where its parts are.\n"
        "# Copies of this file lie in each root and each part. Change it\n"
        "# with lsvd set, lsvd resize or lsvd-repair replace: its last line\n"
        "# is a checksum, and a file that was edited by hand is refused.\n"
        "\n[" VOLUME_GROUP "]\n", meta_stored_name(m));
    keyfile_put_features(out, m->incompat, m->ro_compat, m->compat);
    keyfile_put_text(out, "name", meta_stored_name(m));
    keyfile_put_u64(out, "number", m->number);
    keyfile_put_uuid(out, "uuid", &m->uuid);
    keyfile_put_u64(out, "size", m->size_bytes);
    keyfile_put_u64(out, "chunk-size", m->chunk_bytes);
    keyfile_put_u64(out, "block-size", m->block_bytes);
    put_redundancy(out, m);
    keyfile_put_text(out, "layout", "chunk");
    keyfile_put_bool(out, "read-only", m->read_only);
    keyfile_put_bool(out, "append-only", m->append_only);
    keyfile_put_bool(out, "removing", m->removing);
    if (m->parent) {
        keyfile_put_u64(out, "parent", m->parent);
        keyfile_put_uuid(out, "parent-uuid", &m->parent_uuid);
        keyfile_put_u64(out, "overlap", m->overlap_bytes);
    }
    if (m->successor) {
        keyfile_put_u64(out, "successor", m->successor);
        keyfile_put_uuid(out, "successor-uuid", &m->successor_uuid);
        keyfile_put_u64(out, "frozen-at", m->frozen_at);
        keyfile_put_u64(out, "frozen-epoch", m->frozen_epoch);
        keyfile_put_u64(out, "frozen-minor", m->frozen_minor);
        if (!uuid_is_zero(&m->source_uuid))
            keyfile_put_uuid(out, "source-uuid", &m->source_uuid);
    }
    keyfile_put_u64(out, "journal-size", m->journal_bytes);
    keyfile_put_u64(out, "generation", m->generation);
}

static void
put_history(GString *out, const struct volume_meta *m)
{
    char key[24];

    if (m->forced_count == 0)
        return;
    g_string_append(out, "\n[" HISTORY_GROUP "]\n");
    keyfile_put_bool(out, "accepted-loss", m->accepted_loss);
    for (uint32_t i = 0; i < m->forced_count; i++) {
        forced_key(i, key);
        keyfile_put_text(out, key, m->forced[i]);
    }
}

int
meta_format(const struct volume_meta *m, char **ret, size_t *ret_bytes)
{
    g_autoptr(GString) out = NULL;
    int r;

    /* Never write what meta_parse would refuse, or would lose. */
    r = meta_check(m);
    if (r < 0)
        return r;
    if ((m->incompat & ~META_INCOMPAT_KNOWN) ||
        (m->ro_compat & ~META_RO_COMPAT_KNOWN))
        return err_set(-EROFS, "volume %s was made by a newer version of "
                       "lsvd: this one can't change it", m->name);
    out = g_string_new(NULL);
    put_volume(out, m);
    for (uint32_t i = 0; i < m->source_count; i++) {
        char group[24];

        source_group(i, group);
        g_string_append_printf(out, "\n[%s]\n", group);
        keyfile_put_u64(out, "number", m->source[i].number);
        keyfile_put_uuid(out, "uuid", &m->source[i].uuid);
    }
    for (uint32_t i = 0; i < m->part_count; i++) {
        char group[8];

        part_group(i, group);
        g_string_append_printf(out, "\n[%s]\n", group);
        keyfile_put_uuid(out, "instance", &m->part[i].instance);
        keyfile_put_text(out, "root", m->part[i].root);
    }
    put_history(out, m);
    return keyfile_seal(out, "end", META_BYTES_MAX, ret, ret_bytes);
}
