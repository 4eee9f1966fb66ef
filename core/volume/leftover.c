/* leftover.c: files that a crash left behind.
 *
 * A chunk that became zeroes loses its file after all tables call it a hole
 * (D5); a cut in between leaves files that nothing refers to. After a replay
 * they are looked for, once; and in a part that was away, before it is a
 * member again. So are files that were just begun for writes past the journal
 * (bypass.h), of which the record was lost with the power, and with it all that
 * could have been promised of them.
 * With a chunk file goes its reference file (refer.h).
 * A file is removed only if no table, of which one is sound, and no record of a
 * journal that was replayed knows of it; and if its header, with our volume and
 * instance, says that it is ours, or was never written, or is damaged where a
 * file was to be removed. */
#include "base/err.h"
#include "base/sum.h"
#include "volume/refer.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search {
    struct lsvd_volume *v;
    uint32_t slot;
    char found[64][REFERENCES_NAME_BYTES];
    size_t count;
};

/* Its header says so, whatever else a cut has left of it; or it has none. */
static bool
is_ours(const struct search *s, uint64_t chunk, bool was_removed)
{
    struct lsvd_volume *v = s->v;
    uint8_t header[FRAGMENT_HEADER_BYTES] = {0};
    struct fragment_header h;
    struct object_stat stat;
    struct object *o;
    char name[24];
    int r;

    fragment_name(chunk, name);
    r = target_open_stat(v->part[s->slot].dir, name, 0, &stat, &o);
    if (r < 0)
        return false;
    if (stat.size_bytes > 0)
        r = object_read(o, header,
                        stat.size_bytes < sizeof header
                            ? (size_t)stat.size_bytes
                            : sizeof header, 0);
    object_close(o);
    if (r < 0)
        return false;
    if (sum_all_zero(header, sizeof header))
        return true;
    r = fragment_header_decode(header, &h);
    return (r == -EBADMSG && was_removed) ||
           (r == 0 && uuid_equal(&h.id.volume, &v->meta.uuid) &&
            uuid_equal(&h.id.instance, &v->part[s->slot].label.instance) &&
            h.id.chunk == chunk && h.id.fragment == s->slot);
}

static bool
references_are_ours(const struct search *s, uint64_t chunk, bool was_removed)
{
    struct lsvd_volume *v = s->v;
    struct references *found;
    int r = references_load(v->part[s->slot].dir, &v->g, &v->meta.uuid, chunk,
                            &found);

    if (r == 0)
        references_free(found);
    return r == 0 || (r == -EBADMSG && was_removed);
}

/* Of a chunk file, or of a reference file. */
static bool
is_leftover(struct search *s, uint64_t chunk, bool is_references)
{
    struct lsvd_volume *v = s->v;
    struct chunk_entry truth = chunk_truth(v, chunk);
    uint64_t zero_seq = 0;
    size_t dirty = 0;

    if (truth.state != CHUNK_HOLE || v->force.given_up ||
        volume_has_accepted_loss(v))
        return false;
    if (v->journal)
        journal_chunk_blocks(v->journal, chunk - 1, NULL, 0, &dirty,
                             &zero_seq);
    if (dirty > 0 || zero_seq != 0) /* destage will see to it */
        return false;
    return is_references ? references_are_ours(s, chunk, truth.seq > 0)
                         : is_ours(s, chunk, truth.seq > 0);
}

/* Whose file it is by its name, or 0. */
static uint64_t
chunk_of(const char *name)
{
    char canonical[24], *end;
    uint64_t chunk;

    if (!isdigit((unsigned char)name[0]))
        return 0;
    errno = 0;
    chunk = strtoull(name, &end, 10);
    if (*end || errno)
        return 0;
    fragment_name(chunk, canonical);
    return strcmp(canonical, name) == 0 ? chunk : 0;
}

static int
look_at(void *ctx, const char *name)
{
    struct search *s = ctx;
    uint64_t chunk = references_chunk_of(name);
    bool is_references = chunk > 0;

    if (!is_references)
        chunk = chunk_of(name);
    if (chunk < 1 || chunk > geometry_chunk_count(&s->v->g) ||
        !is_leftover(s, chunk, is_references))
        return 0;
    snprintf(s->found[s->count++], sizeof s->found[0], "%s", name);
    return s->count == sizeof s->found / sizeof s->found[0];
}

/* What can't be removed now is found by verify. */
void
leftovers_remove_of(struct lsvd_volume *v, uint32_t slot)
{
    struct search s = {.v = v, .slot = slot};
    int r;

    do {
        s.count = 0;
        r = target_list(v->part[slot].dir, look_at, &s);
        for (size_t n = 0; n < s.count && r >= 0; n++) {
            if (target_remove(v->part[slot].dir, s.found[n]) < 0)
                r = -EIO;
        }
        if (s.count > 0 && r >= 0)
            r = target_sync(v->part[slot].dir) < 0 ? -EIO : r;
    } while (r > 0); /* stopped early: there may be more */
    if (r < 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: part %c: files of removed chunks may be left: %s",
                  v->meta.name, v->part[slot].letter, err_text());
}

void
leftovers_remove(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->usable & UINT32_C(1) << i)
            leftovers_remove_of(v, i);
    }
}
