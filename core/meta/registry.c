/* registry.c: the names and numbers of the volumes under a root as text.
 *
 * [.registry]   format, features, generation
 * [<name>]      number and uuid, one section a volume
 * [.end]        the checksum (keyfile.h)
 * No volume's name begins with a dot, so our own sections can't be taken for
 * one. */
#include "meta/meta.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/memory.h"
#include "meta/keyfile.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define REGISTRY_GROUP ".registry"
#define REGISTRY_LINES_MAX (4u * (VOLUME_NUMBER_MAX + 1u) + 64u)

void
registry_done(struct registry *registry)
{
    free(registry->entry);
    memset(registry, 0, sizeof *registry);
}

static int
check_entry(const struct registry_entry *e)
{
    int r;

    r = meta_check_name(e->name);
    if (r < 0)
        return r;
    if (e->number < VOLUME_NUMBER_FIRST || e->number > VOLUME_NUMBER_MAX)
        return err_set(-EINVAL, "volume %s: number %" PRIu32 ": must be %d "
                       "to %d", e->name, e->number, VOLUME_NUMBER_FIRST,
                       VOLUME_NUMBER_MAX);
    if (uuid_is_zero(&e->uuid))
        return err_set(-EINVAL, "volume %s: has no UUID", e->name);
    return 0;
}

/* ---- parsing ---- */

static int
parse_entry(GKeyFile *file, const char *name, struct registry_entry *ret)
{
    int r;

    r = meta_check_name(name);
    if (r < 0)
        return r;
    memcpy(ret->name, name, strlen(name) + 1); /* checked: it fits */
    r = keyfile_u32(file, name, "number", 0, UINT32_MAX, &ret->number);
    if (r == 0)
        r = keyfile_uuid(file, name, "uuid", &ret->uuid);
    if (r == 0)
        r = check_entry(ret);
    return r;
}

static int
compare_numbers(const void *a, const void *b)
{
    const struct registry_entry *x = a;
    const struct registry_entry *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static int
parse_entries(GKeyFile *file, char **groups, size_t group_count,
              struct registry *out)
{
    int r;

    r = mem_new(group_count, sizeof *out->entry, &out->entry);
    if (r < 0)
        return r;
    for (size_t i = 0; i < group_count; i++) {
        if (groups[i][0] == '.')
            continue; /* ours, or of a later version */
        r = parse_entry(file, groups[i], &out->entry[out->count]);
        if (r < 0)
            return r;
        out->count++;
    }
    qsort(out->entry, out->count, sizeof *out->entry, compare_numbers);
    for (size_t i = 1; i < out->count; i++)
        if (out->entry[i].number == out->entry[i - 1].number)
            return err_set(-EBADMSG, "damaged: volumes %s and %s have the "
                           "same number", out->entry[i - 1].name,
                           out->entry[i].name);
    return 0;
}

static int
parse_registry(GKeyFile *file, struct registry *out)
{
    g_auto(GStrv) groups = NULL;
    uint64_t incompat;
    gsize group_count;
    int r;

    r = keyfile_features(file, REGISTRY_GROUP, 0, &incompat,
                         &out->ro_compat, &out->compat);
    if (r == 0)
        r = keyfile_u64(file, REGISTRY_GROUP, "generation", 0, UINT64_MAX,
                        &out->generation);
    if (r < 0)
        return r;
    groups = g_key_file_get_groups(file, &group_count);
    r = parse_entries(file, groups, group_count, out);
    return r == -EINVAL ? err_wrap(-EBADMSG, "damaged") : r;
}

int
registry_parse(const uint8_t *bytes, size_t count, struct registry *ret)
{
    g_autoptr(GKeyFile) file = NULL;
    struct registry registry = { 0 };
    int r;

    if (count > REGISTRY_BYTES_MAX)
        return err_set(-EBADMSG, "damaged: more than %u bytes",
                       REGISTRY_BYTES_MAX);
    r = keyfile_parse(bytes, count, REGISTRY_LINES_MAX, &file);
    if (r < 0)
        return r;
    r = parse_registry(file, &registry);
    if (r < 0) {
        registry_done(&registry);
        return r;
    }
    *ret = registry;
    return 0;
}

/* ---- formatting ---- */

int
registry_format(const struct registry *registry, char **ret,
                size_t *ret_bytes)
{
    g_autoptr(GString) out = NULL;

    if (registry->ro_compat & ~META_RO_COMPAT_KNOWN)
        return err_set(-EROFS, "the list of volumes was made by a newer "
                       "version of lsvd: this one can't change it");
    out = g_string_new(
        "# The lsvd volumes under this directory: section = name, number =\n"
        "# directory. Kept by the lsvd tools: its last line is a checksum,\n"
        "# and a file that was edited by hand is refused.\n"
        "\n[" REGISTRY_GROUP "]\n");
    keyfile_put_features(out, 0, registry->ro_compat, registry->compat);
    keyfile_put_u64(out, "generation", registry->generation);
    for (size_t i = 0; i < registry->count; i++) {
        const struct registry_entry *e = &registry->entry[i];
        int r;

        r = check_entry(e);
        if (r < 0)
            return r;
        g_string_append_printf(out, "\n[%s]\n", e->name);
        keyfile_put_u64(out, "number", e->number);
        keyfile_put_uuid(out, "uuid", &e->uuid);
    }
    return keyfile_seal(out, ".end", REGISTRY_BYTES_MAX, ret, ret_bytes);
}

/* ---- looking up, changing ---- */

const struct registry_entry *
registry_find(const struct registry *registry, const char *name)
{
    for (size_t i = 0; i < registry->count; i++)
        if (strcmp(registry->entry[i].name, name) == 0)
            return &registry->entry[i];
    return NULL;
}

/* Index of the first entry whose number is not below `number`. */
static size_t
place_of(const struct registry *registry, uint32_t number)
{
    size_t i = 0;

    while (i < registry->count && registry->entry[i].number < number)
        i++;
    return i;
}

int
registry_add(struct registry *registry, const struct registry_entry *e)
{
    const struct registry_entry *same_name;
    struct registry_entry *grown;
    size_t at;
    int r;

    r = check_entry(e);
    if (r < 0)
        return r;
    same_name = registry_find(registry, e->name);
    if (same_name != NULL && same_name->number != e->number)
        return err_set(-EEXIST, "there is a volume %s already", e->name);
    at = place_of(registry, e->number);
    if (at < registry->count && registry->entry[at].number == e->number) {
        registry->entry[at] = *e;
        return 0;
    }
    r = mem_new(registry->count + 1, sizeof *grown, &grown);
    if (r < 0)
        return r;
    for (size_t i = 0; i < registry->count; i++)
        grown[i < at ? i : i + 1] = registry->entry[i];
    grown[at] = *e;
    free(registry->entry);
    registry->entry = grown;
    registry->count++;
    return 0;
}

bool
registry_remove(struct registry *registry, uint32_t number)
{
    size_t at = place_of(registry, number);

    if (at == registry->count || registry->entry[at].number != number)
        return false;
    registry->count--;
    memmove(&registry->entry[at], &registry->entry[at + 1],
            (registry->count - at) * sizeof *registry->entry);
    return true;
}
