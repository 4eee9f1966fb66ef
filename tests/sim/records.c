/* records.c: see records.h. */
#include "records.h"
#include "journal/journal_format.h"
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

/* Its size, or -1: there is none. */
static int64_t
journal_file(struct life *l, char *path, size_t bytes)
{
    char **names = simio_names(l->s, "/cache");

    path[0] = '\0';
    if (l->uuid[0]) {
        snprintf(path, bytes, "/cache/%s.journal", l->uuid);
        simio_names_free(names);
        return simio_file_size(l->s, path);
    }
    for (size_t i = 0; names && names[i]; i++) {
        size_t n = strlen(names[i]);

        if (n > 8 && strcmp(names[i] + n - 8, ".journal") == 0)
            snprintf(path, bytes, "/cache/%s", names[i]);
    }
    simio_names_free(names);
    return path[0] ? simio_file_size(l->s, path) : -1;
}

/* A counter that stands in both copies of its pair wins. */
bool
records_super(struct life *l, bool durable, struct journal_super *ret)
{
    uint8_t bytes[4096];
    bool found = false, found_twice = false;
    char path[96];
    int64_t size = journal_file(l, path, sizeof path);

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

bool
records_held(struct life *l, const struct journal_super *super)
{
    uint8_t bytes[RECORD_HEADER_BYTES_MAX];
    char path[96];
    uint64_t end;

    if (super->tail_seq > 1 || super->durable_seq > 0 || super->redo_seq > 0)
        return true;
    end = (uint64_t)journal_file(l, path, sizeof path) - SUPER_BYTES * 2;
    for (uint64_t at = RING_AT; at < end; at += JOURNAL_ALIGN_BYTES) {
        struct record_header h;
        size_t room = end - at < sizeof bytes ? (size_t)(end - at)
                                              : sizeof bytes;

        if (simio_peek(l->s, path, false, at, bytes, room) == (int64_t)room &&
            record_header_decode(bytes, room, super->salt, at, &h))
            return true;
    }
    return false;
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

/* JF2: of the claim that the view is of, or of one that followed it. */
static bool
is_its_journal(const struct journal_identity *id, const struct view *view)
{
    if (uuid_is_zero(&view->journal))
        return false;
    if (uuid_equal(&id->journal, &view->journal))
        return true;
    for (uint32_t i = 0; i < id->view.history_count; i++) {
        if (view_id_equal(&id->view.history[i], &view->id))
            return true;
    }
    return false;
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
    if (!newest || !all->has_super ||
        !is_its_journal(&all->super.identity, newest))
        return newest;
    *ret_journal = true;
    return view_id_compare(&stored->id, &newest->id) > 0 ? stored : newest;
}
