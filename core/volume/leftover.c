/* leftover.c: files that a crash left behind.
 *
 * A chunk that became zeroes loses its file after all tables call it a hole
 * (D5); a cut in between leaves files that nothing refers to. After a replay
 * they are looked for, once; and in a part that was away, before it is a
 * member again. Only a file that is provably older than the hole is removed:
 * its own header, with our volume and instance, says so. */
#include "base/err.h"
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

static bool
is_leftover(struct search *s, uint64_t chunk)
{
    struct lsvd_volume *v = s->v;
    struct fragment_id id = {.volume = v->meta.uuid,
                             .instance = v->part[s->slot].label.instance,
                             .chunk = chunk,
                             .fragment = s->slot};
    struct chunk_entry truth = chunk_truth(v, chunk);
    uint64_t zero_seq = 0;
    struct fragment *f;
    size_t dirty = 0;
    bool older;

    if (truth.state != CHUNK_HOLE || truth.seq == 0)
        return false;
    if (v->journal)
        journal_chunk_blocks(v->journal, chunk - 1, NULL, 0, &dirty,
                             &zero_seq);
    if (dirty > 0 || zero_seq != 0) /* destage will see to it */
        return false;
    if (fragment_open(v->part[s->slot].dir, &v->g, &id, false, &f) < 0)
        return false;
    older = f->seq < truth.seq;
    fragment_close(f);
    return older;
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
