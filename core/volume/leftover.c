/* leftover.c: files that a crash left behind.
 *
 * A chunk that became zeroes loses its file after all tables call it a hole
 * (D5); a cut in between leaves files that nothing refers to. After a replay
 * they are looked for, once; and in a part that was away, before it is a
 * member again. So are files that were just begun for writes past the journal
 * (bypass.h), of which the record was lost with the power, and with it all that
 * could have been promised of them.
 * A file is removed only if no table, of which one is sound, and no record of a
 * journal that was replayed knows of it; and if its header, with our volume and
 * instance, says that it is ours, or was never written, or is damaged where a
 * file was to be removed. */
#include "base/err.h"
#include "base/sum.h"
#include "volume/volume.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct search {
    struct lsvd_volume *v;
    uint32_t slot;
    uint64_t found[64];
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
is_leftover(struct search *s, uint64_t chunk)
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
    return is_ours(s, chunk, truth.seq > 0);
}

static int
look_at(void *ctx, const char *name)
{
    struct search *s = ctx;
    char canonical[24], *end;
    uint64_t chunk;

    if (!isdigit((unsigned char)name[0]))
        return 0;
    errno = 0;
    chunk = strtoull(name, &end, 10);
    if (*end || errno || chunk < 1 || chunk > geometry_chunk_count(&s->v->g))
        return 0;
    fragment_name(chunk, canonical);
    if (strcmp(canonical, name) != 0 || !is_leftover(s, chunk))
        return 0;
    s->found[s->count++] = chunk;
    return s->count == sizeof s->found / sizeof s->found[0];
}

/* What can't be removed now is found by verify. */
void
leftovers_remove_of(struct lsvd_volume *v, uint32_t slot)
{
    struct search s = {.v = v, .slot = slot};
    char name[24];
    int r;

    do {
        s.count = 0;
        r = target_list(v->part[slot].dir, look_at, &s);
        for (size_t n = 0; n < s.count && r >= 0; n++) {
            fragment_name(s.found[n], name);
            r = target_remove(v->part[slot].dir, name) < 0 ? -EIO : r;
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
