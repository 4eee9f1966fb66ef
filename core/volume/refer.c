/* refer.c: see refer.h. */
#include "volume/refer.h"
#include "base/err.h"
#include "base/parallel.h"
#include "base/memory.h"
#include "base/sum.h"
#include "volume/parent.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BLOCKS_MAX 256u

/* ---- files ---- */

static int
load_from(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
          struct references **ret)
{
    struct lease lease;
    int r = -ENOENT;

    lease_get(&v->part_leases, &lease, slot, slot + 1, false); /* V6 */
    if ((atomic_load(&v->usable) & UINT32_C(1) << slot) && v->part[slot].dir)
        r = references_load(v->part[slot].dir, &v->g, &v->meta.uuid,
                            c->number, ret);
    lease_put(&v->part_leases, &lease);
    if (r == -ENOENT)
        return err_set(r, "part %c has no reference file of chunk %llu",
                       v->part[slot].letter, (unsigned long long)c->number);
    return r;
}

/* all: the newest of all parts; else the first that can be read. */
static int
load(struct lsvd_volume *v, struct chunk *c, bool all, struct references **ret)
{
    struct references *best = NULL;
    int r = err_set(-ENOENT, "no part that is in use has a reference file of "
                    "chunk %llu", (unsigned long long)c->number);

    for (uint32_t i = 0; i < v->g.part_count && (all || !best); i++) {
        uint32_t slot = (uint32_t)((c->number + i) % v->g.part_count);
        struct references *found;
        int got;

        if (!(atomic_load(&v->usable) & UINT32_C(1) << slot))
            continue;
        got = load_from(v, c, slot, &found);
        if (got == -ENOMEM)
            r = got;
        else if (got < 0)
            volume_note_bad(v, c, slot, UINT32_MAX, err_text());
        if (got < 0) {
            r = r == -ENOENT ? got : r;
            continue;
        }
        if (best && best->seq >= found->seq) {
            references_free(found);
            continue;
        }
        references_free(best);
        best = found;
    }
    *ret = best;
    return best ? 0 : r;
}

/* In place of what is kept, if `keep` is. Returns what is kept then. */
static const struct references *
keep_loaded(struct lsvd_volume *v, struct chunk *c, struct references *loaded)
{
    struct references *old;

    pthread_mutex_lock(&c->lock);
    old = c->references;
    if (!old)
        c->references = loaded;
    pthread_mutex_unlock(&c->lock);
    if (old) {
        references_free(loaded);
        return old;
    }
    atomic_fetch_add(&v->chunks.memory, references_memory(loaded));
    return loaded;
}

int
chunk_references(struct lsvd_volume *v, struct chunk *c,
                 const struct references **ret)
{
    struct references *loaded;
    int r;

    pthread_mutex_lock(&c->lock);
    *ret = c->references;
    pthread_mutex_unlock(&c->lock);
    if (*ret)
        return 0;
    r = load(v, c, false, &loaded);
    if (r == 0)
        *ret = keep_loaded(v, c, loaded);
    return r;
}

void
chunk_forget_references(struct lsvd_volume *v, struct chunk *c)
{
    struct references *old;

    pthread_mutex_lock(&c->lock);
    old = c->references;
    c->references = NULL;
    pthread_mutex_unlock(&c->lock);
    if (old)
        atomic_fetch_sub(&v->chunks.memory, references_memory(old));
    references_free(old);
}

struct putting {
    struct lsvd_volume *v;
    const struct references *next;
    uint32_t slot[PARTS_MAX];
    size_t count;
};

static int
put_on_part(void *ctx, size_t i)
{
    const struct putting *p = ctx;
    struct part *part = &p->v->part[p->slot[i]];
    int r = references_store(part->dir, p->next);

    return r < 0 ? err_wrap(r, "part %c", part->letter) : 0;
}

/* Side by side: each is a file with two syncs. */
static int
put_on_parts(struct lsvd_volume *v, const struct references *next)
{
    struct parallel_result result[PARTS_MAX];
    struct putting p = {.v = v, .next = next};
    uint32_t parts = v->usable;
    int r = 0;

    if (v->resync.is_active)
        parts |= UINT32_C(1) << v->resync.slot;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (parts & UINT32_C(1) << i)
            p.slot[p.count++] = i;
    }
    parallel_each(v->parallel ? PARTS_MAX : 1, p.count, v->turn++, put_on_part,
                  &p, result);
    for (size_t i = 0; i < p.count; i++) {
        if (result[i].error == -ENOSPC) /* no reason to do without it */
            return err_set(-ENOSPC, "%s", result[i].text);
    }
    for (size_t i = 0; i < p.count; i++) {
        if (result[i].error < 0)
            r = part_failed(v, p.slot[i],
                            err_set(result[i].error, "%s", result[i].text));
    }
    return r;
}

int
references_put(struct lsvd_volume *v, struct chunk *c, struct references *next)
{
    struct lease lease;
    int r;

    next->seq = journal_take_seq(v->journal);
    r = put_on_parts(v, next);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, c->number, c->number + 1, true);
    chunk_forget_references(v, c);
    (void)keep_loaded(v, c, next);
    lease_put(&v->chunk_leases, &lease);
    return 0;
}

bool
references_exist(struct lsvd_volume *v, uint64_t chunk)
{
    char name[REFERENCES_NAME_BYTES];
    uint64_t bytes;

    references_name(chunk, name);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((v->usable & UINT32_C(1) << i) &&
            target_stat_name(v->part[i].dir, name, &bytes) == 0)
            return true;
    }
    return false;
}

int
references_remove(struct target *part, uint64_t chunk)
{
    char name[REFERENCES_NAME_BYTES];

    references_name(chunk, name);
    return target_remove(part, name);
}

/* Does a cell of this file, or one that its parity was computed from, say that
 * it is a reference? */
static bool
fragment_refers(const struct lsvd_volume *v, const struct fragment *f)
{
    bool parity = geometry_is_parity(&v->g, f->id.fragment);

    for (uint32_t row = 0; row < v->g.rows; row++) {
        if (!parity && fragment_entry(f, row).sum == SUM_REFERENCE)
            return true;
        for (uint32_t i = 0; parity && i < v->g.data_count; i++) {
            if (fragment_stripe_sum(f, row, i) == SUM_REFERENCE)
                return true;
        }
    }
    return false;
}

/* 1, 0; an error if those that know of all cells can't be opened now. */
static int
has_references(struct lsvd_volume *v, struct chunk *c)
{
    uint32_t data = 0; /* fragments that were asked */
    bool known = false;
    int trouble = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        enum fragment_state state;
        const struct fragment *f = chunk_fragment(v, c, i, &state);

        if (f && fragment_refers(v, f))
            return 1;
        known |= f && (!v->g.is_ec || geometry_is_parity(&v->g, i));
        data += f && !geometry_is_parity(&v->g, i);
        rows_trouble(&trouble, fragment_trouble(state));
    }
    return known || data == v->g.data_count || trouble == 0
               ? 0
               : err_set(trouble, "chunk %llu: its files can't be opened now",
                         (unsigned long long)c->number);
}

bool
refer_journal_has(struct lsvd_volume *v, uint64_t chunk)
{
    uint64_t first = geometry_first_block(&v->g, chunk);
    uint32_t count = geometry_blocks_in(&v->g, chunk);
    uint8_t have[RUN_BLOCKS_MAX];

    for (uint32_t at = 0; v->journal && at < count; at += RUN_BLOCKS_MAX) {
        uint32_t n = count - at < RUN_BLOCKS_MAX ? count - at
                                                 : RUN_BLOCKS_MAX;

        journal_lookup(v->journal, first + at, n, have);
        if (memchr(have, JOURNAL_REFERENCE, n))
            return true;
    }
    return false;
}

/* The newest of those in use, of a chunk that has references. -ENOENT: it has
 * none, and needs no file. */
static int
load_newest(struct lsvd_volume *v, struct chunk *c, struct references **ret)
{
    int r = volume_has_references(v) ? has_references(v, c) : 0;

    if (r < 0)
        return r;
    if (r == 0 && (!volume_has_references(v) ||
                   !refer_journal_has(v, c->number)))
        return -ENOENT;
    r = load(v, c, true, ret);
    return r == -ENOENT ? -EIO : r;
}

bool
refer_cell_says_so(struct lsvd_volume *v, struct chunk *c, uint32_t block)
{
    uint32_t slot = geometry_fragment_of(&v->g, block);
    uint32_t row = geometry_row_of(&v->g, block);

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct fragment *f = chunk_fragment(v, c, i, NULL);

        if (!f || f->doubtful)
            continue;
        if (geometry_is_parity(&v->g, i) &&
            fragment_stripe_sum(f, row, slot) == SUM_REFERENCE)
            return true;
        if ((!v->g.is_ec || i == slot) &&
            fragment_entry(f, row).sum == SUM_REFERENCE)
            return true;
    }
    return false;
}

/* Does the file have all that cells, or the journal, say are references? It may
 * have others: what a cut left there, or what is no reference any more. */
static bool
has_all_needed(struct lsvd_volume *v, struct chunk *c,
               const struct references *own, const struct references *newest)
{
    uint64_t first = geometry_first_block(&v->g, c->number);
    uint32_t count = geometry_blocks_in(&v->g, c->number);

    for (uint32_t i = 0; i < count; i++) {
        uint8_t have = 0;

        if (reference_equal(&own->block[i], &newest->block[i]))
            continue;
        if (v->journal)
            journal_lookup(v->journal, first + i, 1, &have);
        if (have == JOURNAL_REFERENCE ||
            (have == 0 && refer_cell_says_so(v, c, i)))
            return false;
    }
    return true;
}

/* The file of a part, used or being filled. */
static int
compare(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
        const struct references *newest)
{
    struct references *own;
    int r = references_load(v->part[slot].dir, &v->g, &v->meta.uuid,
                            c->number, &own);

    if (r < 0)
        return r;
    r = has_all_needed(v, c, own, newest) ? 0 : -ESTALE;
    references_free(own);
    return r;
}

/* No other part has the file: what the part has itself is what there is. Its
 * chunk is filled and mended all the same. */
static int
keep_own(struct lsvd_volume *v, struct chunk *c, uint32_t slot)
{
    char text[256];
    struct references *own;
    int r;

    snprintf(text, sizeof text, "%s", err_text());
    r = references_load(v->part[slot].dir, &v->g, &v->meta.uuid, c->number,
                        &own);
    if (r == 0)
        references_free(own);
    else
        part_complain(v, slot, "chunk %llu has references, and no part has "
                      "its reference file: %s", (unsigned long long)c->number,
                      text);
    return r == -ENOMEM ? r : 0;
}

int
references_mend(struct lsvd_volume *v, struct chunk *c, uint32_t slot)
{
    struct references *newest;
    int r = load_newest(v, c, &newest);

    if (r == -ENOENT || r == -ENOMEM)
        return r == -ENOENT ? 0 : r;
    if (r < 0)
        return keep_own(v, c, slot);
    r = compare(v, c, slot, newest);
    if (r == -ENOENT || r == -EBADMSG || r == -ESTALE || r == -EPROTO ||
        r == -EIO)
        r = references_store(v->part[slot].dir, newest) < 0 ? -EIO : 1;
    references_free(newest);
    return r;
}

int
references_check(struct lsvd_volume *v, struct chunk *c, uint32_t slot)
{
    struct references *newest;
    int r = load_newest(v, c, &newest);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    r = compare(v, c, slot, newest);
    references_free(newest);
    return r;
}

static uint64_t
count_of_chunk(struct lsvd_volume *v, uint64_t chunk)
{
    uint32_t blocks = geometry_blocks_in(&v->g, chunk);
    struct lease lease;
    uint64_t count = 0;
    struct chunk *c;

    if (chunk_get(v, chunk, &c) < 0)
        return 0;
    lease_get(&v->chunk_leases, &lease, chunk, chunk + 1, false);
    for (uint32_t i = 0; i < blocks; i++)
        count += refer_cell_says_so(v, c, i);
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return count;
}

uint64_t
references_count(struct lsvd_volume *v)
{
    uint64_t count = 0;

    for (uint64_t c = next_known_chunk(v, 1); c;
         c = next_known_chunk(v, c + 1)) {
        if (chunk_truth(v, c).state == CHUNK_PRESENT && references_exist(v, c))
            count += count_of_chunk(v, c);
    }
    return count;
}

/* ---- reading ---- */

static int
no_reference(struct lsvd_volume *v, struct chunk *c, uint32_t block)
{
    return err_set(-EIO, "volume %s: chunk %llu, block %u is a reference, and "
                   "the reference file does not have it", v->meta.name,
                   (unsigned long long)c->number, block);
}

/* Take what the table has. False: it lacks one. */
static bool
take(const struct references *from, uint32_t block, uint32_t count,
     const uint8_t *said, struct reference *ret, uint32_t *ret_missing)
{
    for (uint32_t i = 0; i < count; i++) {
        if (said[i] != SAID_REFERENCE)
            continue;
        ret[i] = from->block[block + i];
        if (ret[i].volume == 0) {
            *ret_missing = block + i;
            return false;
        }
    }
    return true;
}

int
refer_look(struct lsvd_volume *v, struct chunk *c, uint32_t block,
           uint32_t count, const uint8_t *said, struct reference *ret)
{
    const struct references *kept;
    struct references *newest;
    uint32_t missing = 0;
    bool complete;
    int r;

    if (!memchr(said, SAID_REFERENCE, count))
        return 0;
    r = chunk_references(v, c, &kept);
    if (r < 0)
        return err_wrap(r == -ENOMEM ? r : -EIO, "volume %s: chunk %llu",
                        v->meta.name, (unsigned long long)c->number);
    if (take(kept, block, count, said, ret, &missing))
        return 0;
    r = load(v, c, true, &newest); /* a part may have lost a write */
    if (r < 0)
        return r;
    complete = take(newest, block, count, said, ret, &missing);
    references_free(newest);
    return complete ? 0 : no_reference(v, c, missing);
}

int
refer_look_up(struct lsvd_volume *v, uint64_t first, uint32_t count,
              struct reference *ret)
{
    uint64_t number = geometry_chunk_of(&v->g, first);
    uint8_t said[RUN_BLOCKS_MAX];
    struct lease lease;
    struct chunk *c;
    int r = chunk_get(v, number, &c);

    if (r < 0)
        return r;
    memset(said, SAID_REFERENCE, count);
    lease_get(&v->chunk_leases, &lease, number, number + 1, false);
    r = refer_look(v, c, geometry_block_in_chunk(&v->g, first), count, said,
                   ret);
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return r;
}

bool
refer_follows(const struct geometry *g, const struct reference *a,
              const struct reference *b)
{
    return a->volume != 0 && b->volume == a->volume && b->chunk == a->chunk &&
           b->at == a->at + g->block_bytes;
}

int
refer_read(struct lsvd_volume *v, const struct reference *ref, uint32_t count,
           uint8_t *to)
{
    struct lsvd_volume *source = source_find(v, ref->volume);
    uint64_t first;
    int r;

    if (!source)
        return err_set(-EIO, "volume %s: volume %u, which it has references "
                       "to, is not there", v->meta.name, ref->volume);
    first = refer_block(&source->g, ref);
    if (ref->at >= source->g.chunk_bytes ||
        first + count > geometry_block_count(&source->g))
        return err_set(-EIO, "volume %s has a reference behind the end of "
                       "volume %s", v->meta.name, source->meta.name);
    r = volume_fetch_leased(source, first, count, to);
    return r < 0 ? err_wrap(r, "volume %s: a reference", v->meta.name) : 0;
}

/* RF4. */
static int
check_sums(struct lsvd_volume *v, uint64_t first, uint32_t count,
           const struct reference *ref, const uint8_t *bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (sum_block(volume_block_seed(v, first + i),
                      bytes + (size_t)i * v->g.block_bytes,
                      v->g.block_bytes) == ref[i].sum)
            continue;
        atomic_fetch_add(&v->count.bad_blocks, 1);
        return err_set(-EIO, "volume %s: block %llu is a reference to volume "
                       "%u, chunk %u, byte %u, which was changed",
                       v->meta.name, (unsigned long long)(first + i),
                       ref[i].volume, ref[i].chunk, ref[i].at);
    }
    return 0;
}

int
refer_fetch(struct lsvd_volume *v, uint64_t first, uint32_t count,
            const struct reference *ref, uint8_t *to)
{
    int r = 0;

    for (uint32_t i = 0, run; i < count && r == 0; i += run) {
        uint8_t *at = to + (size_t)i * v->g.block_bytes;

        for (run = 1; i + run < count &&
                      refer_follows(&v->g, &ref[i + run - 1], &ref[i + run]);
             run++)
            ;
        r = refer_read(v, &ref[i], run, at);
        if (r == 0)
            r = check_sums(v, first + i, run, ref + i, at);
    }
    return r;
}
