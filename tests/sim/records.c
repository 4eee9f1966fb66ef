/* records.c: see records.h. */
#include "records.h"
#include <string.h>

bool
records_label(struct life *l, const char *dir, bool durable,
              struct label *ret)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    bool found = false;
    char path[96];

    snprintf(path, sizeof path, "%s/%s", dir, LABEL_NAME);
    for (uint64_t slot = 0; slot < 2; slot++) {
        struct label label;

        if (simio_peek(l->s, path, durable, slot * LABEL_SLOT_BYTES, bytes,
                       sizeof bytes) != (int64_t)sizeof bytes ||
            label_decode(bytes, &label) < 0)
            continue;
        if (found && label.write_count < ret->write_count)
            continue;
        *ret = label;
        found = true;
    }
    return found;
}

/* A counter that stands in both copies of its pair wins. */
bool
records_super(struct life *l, bool durable, struct journal_super *ret)
{
    char **names = simio_names(l->s, "/cache");
    uint8_t bytes[4096];
    bool found = false, found_twice = false;
    char path[96] = "";
    int64_t size;

    for (size_t i = 0; names && names[i]; i++) {
        size_t n = strlen(names[i]);

        if (n > 8 && strcmp(names[i] + n - 8, ".journal") == 0)
            snprintf(path, sizeof path, "/cache/%s", names[i]);
    }
    simio_names_free(names);
    size = path[0] ? simio_file_size(l->s, path) : -1;
    for (uint64_t pair = 0; pair < 2 && size >= 16384; pair++) {
        struct journal_super copy[2];
        bool ok[2], twice;

        for (uint64_t i = 0; i < 2; i++) {
            uint64_t at = i == 0 ? pair * 4096
                                 : (uint64_t)size - 8192 + pair * 4096;

            ok[i] = simio_peek(l->s, path, durable, at, bytes,
                               sizeof bytes) == (int64_t)sizeof bytes &&
                    journal_super_decode(bytes, &copy[i]) == 0;
        }
        twice = ok[0] && ok[1] && copy[0].counter == copy[1].counter;
        for (int i = 0; i < 2; i++) {
            if (!ok[i] || (found_twice && !twice) ||
                (found && found_twice == twice &&
                 copy[i].counter < ret->counter))
                continue;
            *ret = copy[i];
            found = true;
            found_twice = twice;
        }
    }
    return found;
}

void
records_read(struct life *l, uint32_t dirs, bool durable, struct records *ret)
{
    memset(ret, 0, sizeof *ret);
    for (uint32_t i = 0; i < l->dir_count; i++) {
        if (dirs & 1u << i)
            ret->has_label[i] = records_label(l, l->dir[i], durable,
                                              &ret->label[i]);
    }
    ret->has_super = records_super(l, durable, &ret->super);
}

int
records_find(const struct records *all, const struct uuid *instance)
{
    for (int i = 0; i < LIFE_DIRS_MAX; i++) {
        if (all->has_label[i] &&
            uuid_equal(&all->label[i].instance, instance))
            return i;
    }
    return -1;
}

const struct view *
records_newest(const struct records *all, bool *ret_journal)
{
    const struct view *newest = NULL;
    const struct view *stored = &all->super.identity.view;

    *ret_journal = false;
    for (int i = 0; i < LIFE_DIRS_MAX; i++) {
        const struct view *view = &all->label[i].view;

        if (all->has_label[i] && all->label[i].state == LABEL_LIVE &&
            (!newest || view_id_compare(&view->id, &newest->id) > 0))
            newest = view;
    }
    if (!newest || !all->has_super || uuid_is_zero(&newest->journal) ||
        !uuid_equal(&newest->journal, &all->super.identity.journal))
        return newest;
    *ret_journal = true;
    return view_id_compare(&stored->id, &newest->id) > 0 ? stored : newest;
}
