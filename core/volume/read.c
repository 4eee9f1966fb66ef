/* read.c: RAM, then the journal, then read cache and parts, verified.
 *
 * Happy path: every block from the cache, without a lease.
 * Miss: shared lease on the missing run -> index -> journal, or read cache
 * (read_cache.h) and parts -> cache.
 * A block that fails its check is computed from the others, counted, logged
 * once, and its fragment queued for healing; if it can't be computed, the
 * request gets -EIO and other blocks are unaffected. */
#include "volume/bypass.h"
#include "volume/parent.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "volume/read_cache.h"
#include "volume/refer.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BLOCKS_MAX 256u
/* Requests as long as this are a copy's or a scan's. */
#define SCAN_BYTES (256u << 10)

uint64_t
volume_block_seed(const struct lsvd_volume *v, uint64_t block)
{
    return sum_seed(&v->meta.uuid, geometry_chunk_of(&v->g, block),
                    geometry_block_in_chunk(&v->g, block));
}

int
volume_check_range(const struct lsvd_volume *v, uint64_t count,
                   uint64_t offset)
{
    if (offset > v->g.volume_bytes || count > v->g.volume_bytes - offset)
        return err_set(-EINVAL, "volume %s: %llu bytes at %llu are beyond "
                       "its end", v->meta.name, (unsigned long long)count,
                       (unsigned long long)offset);
    return 0;
}

void
volume_queue_heal(struct lsvd_volume *v, uint64_t chunk, uint32_t slot)
{
    bool known = false;

    if (!v->attached)
        return;
    pthread_mutex_lock(&v->state_lock);
    for (size_t i = 0; i < v->heal_count; i++)
        known |= v->heal[i].chunk == chunk && v->heal[i].slot == slot;
    if (!known && v->heal_count < HEAL_QUEUE_MAX) {
        v->heal[v->heal_count++] = (struct heal){chunk, slot};
        pthread_cond_signal(&v->work);
    }
    pthread_mutex_unlock(&v->state_lock);
}

/* row UINT32_MAX: the file as a whole. */
void
volume_note_bad(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
                uint32_t row, const char *what)
{
    struct part *p = &v->part[slot];
    char where[64] = "";

    atomic_fetch_add(&v->count.bad_blocks, 1);
    atomic_fetch_add(&p->bad, 1);
    if (row != UINT32_MAX) {
        uint32_t block = geometry_is_parity(&v->g, slot)
                             ? UINT32_MAX
                             : geometry_block_of(&v->g, slot, row);

        if (block == UINT32_MAX)
            snprintf(where, sizeof where, " parity row %u,", row);
        else
            snprintf(where, sizeof where, " block %u,", block);
    }
    part_complain(v, slot, "chunk %llu,%s part %c, file %s/%llu: %s",
                  (unsigned long long)c->number, where, p->letter,
                  p->dir ? p->dir->path : "?", (unsigned long long)c->number,
                  what);
    volume_queue_heal(v, c->number, slot);
}

/* Blocks of the chunk that lie on one data fragment, `step` apart (1:
 * replicas), so that their cells are neighbours there. */
struct span {
    uint32_t slot, block, step, count;
    uint8_t *to;
    struct iovec *iov; /* count of them, for its use */
    bool *bad;         /* count: what the fragment could not give */
    uint8_t *said;     /* NULL, or of the first block, and every step-th */
    /* Of the read of it: */
    int error; /* it was not even begun */
    uint64_t begin_ns; /* how long it took to begin it */
    struct fragment_read read;
};

static uint8_t *
span_cell(const struct lsvd_volume *v, const struct span *s, uint32_t n)
{
    return s->to + (size_t)n * s->step * v->g.block_bytes;
}

static void
note_sum(const struct span *s, uint32_t n, uint64_t sum)
{
    if (s->said)
        s->said[(size_t)n * s->step] = said_by_sum(sum);
}

/* Why cells could not be computed. */
struct loss {
    int error; /* -ENOMEM, if any was for that; 0: none */
    char text[256];
};

static void
note_loss(struct loss *loss, int error)
{
    if (loss->error == 0)
        snprintf(loss->text, sizeof loss->text, "%s", err_text());
    if (loss->error != -ENOMEM)
        loss->error = error;
}

/* When the entries of all that is there agree about every row, K cells of each
 * will do: the parts of parity that need not be read, slow ones first. */
static uint32_t
find_surplus(struct lsvd_volume *v, struct chunk *c, uint32_t first,
             uint32_t count, struct rows *rows)
{
    uint32_t there = 0, surplus = 0;
    struct stripe stripe;

    if (!rows_peek(v, c, first, count, rows))
        return 0;
    for (uint32_t i = 0; i < v->g.part_count; i++)
        there |= rows->fragment[i] ? UINT32_C(1) << i : 0;
    for (uint32_t row = first; row < first + count; row++) {
        rows_judge(v, rows, row, &stripe);
        if (stripe.good != there)
            return 0;
    }
    for (uint32_t i = 0; i < 2 * v->g.parity_count; i++) {
        uint32_t slot = v->g.data_count +
                        (uint32_t)((c->number + i) % v->g.parity_count);
        bool slow = atomic_load(&v->part[slot].slow);

        if (slow == (i < v->g.parity_count) &&
            (uint32_t)__builtin_popcount(there & ~surplus) > v->g.data_count)
            surplus |= there & UINT32_C(1) << slot;
    }
    return surplus;
}

/* Cells [n, n + count) of the span from the other parts, but those in skip;
 * `least`: only if some of these need not be read. bad stays for what can't be
 * computed. False: there are some. */
static bool
reconstruct_from(struct lsvd_volume *v, struct chunk *c, const struct span *s,
                 uint32_t n, uint32_t count, uint32_t skip, bool least,
                 struct loss *loss)
{
    uint32_t first = geometry_row_of(&v->g, s->block) + n, surplus;
    struct cell_entry entry;
    struct stripe stripe;
    struct rows rows;
    bool all = true;
    int r;

    r = rows_new(v, count, &rows);
    if (r < 0) {
        note_loss(loss, r);
        return false;
    }
    rows.skip = skip;
    surplus = least ? find_surplus(v, c, first, count, &rows) : 0;
    if (least && surplus == 0) {
        rows_free(&rows);
        return false;
    }
    rows.skip |= surplus;
    rows_load(v, c, first, count, &rows);
    for (uint32_t i = 0; i < count; i++) {
        rows_judge(v, &rows, first + i, &stripe);
        r = 0;
        if (stripe.state[s->slot] == CELL_GOOD)
            entry = fragment_entry(rows.fragment[s->slot], first + i);
        else
            r = rows_rebuild(v, &rows, &stripe, s->slot, &entry);
        s->bad[n + i] = r < 0;
        if (r < 0) {
            note_loss(loss, r);
        } else {
            memcpy(span_cell(v, s, n + i),
                   rows.cell[s->slot] + (size_t)i * v->g.block_bytes,
                   v->g.block_bytes);
            note_sum(s, n + i, entry.sum);
        }
        all = all && r == 0;
    }
    rows_free(&rows);
    return all;
}

/* What a part that is there could not give may be newer than all parity: then
 * everything has a say. */
static bool
reconstruct(struct lsvd_volume *v, struct chunk *c, const struct span *s,
            uint32_t n, uint32_t count, uint32_t skip, struct loss *loss)
{
    struct loss passing = {0};

    if (v->g.is_ec && !chunk_fragment(v, c, s->slot, NULL) &&
        reconstruct_from(v, c, s, n, count, skip, true, &passing))
        return true;
    return reconstruct_from(v, c, s, n, count, skip, false, loss);
}

/* The same of all its bad cells: many at a time, and one by one where that did
 * not do. What a part refuses of a long read it may have in part. */
static void
reconstruct_bad(struct lsvd_volume *v, struct chunk *c, const struct span *s,
                uint32_t skip, struct loss *loss)
{
    for (uint32_t n = 0, end; n < s->count; n = end) {
        struct loss passing = {0};

        end = n + 1;
        if (!s->bad[n])
            continue;
        while (end < s->count && s->bad[end] && end - n < rows_at_once(v))
            end++;
        if (end - n > 1 &&
            reconstruct(v, c, s, n, end - n, skip, &passing))
            continue;
        for (uint32_t i = n; i < end; i++)
            if (s->bad[i])
                (void)reconstruct(v, c, s, i, 1, skip, loss);
    }
}

/* Begin to read the medium of its part, which is not waited for longer than
 * its patience (hedge.h), unless it is the last resort. */
static void
span_begin(struct lsvd_volume *v, struct chunk *c, struct span *s,
           bool last_resort)
{
    struct fragment *f = chunk_fragment(v, c, s->slot, NULL);
    struct pace *pace = &v->part[s->slot].pace;
    uint64_t now = v->io->ops->now_ns(v->io);
    size_t bytes = v->g.block_bytes;
    int pieces = 1;

    s->error = 0;
    if (f && f->doubtful) /* entries may be old: the others have a say */
        volume_queue_heal(v, c->number, s->slot);
    if (!f || f->doubtful)
        s->error = -EIO;
    else if (!last_resort && pace_is_avoided(pace, now))
        s->error = -EAGAIN;
    if (s->error < 0)
        return;
    if (s->step == 1) {
        s->iov[0] = (struct iovec){s->to, s->count * bytes};
    } else {
        for (uint32_t n = 0; n < s->count; n++)
            s->iov[n] = (struct iovec){span_cell(v, s, n), bytes};
        pieces = (int)s->count;
    }
    fragment_read_begin(f, geometry_row_of(&v->g, s->block), s->count, s->iov,
                        pieces, last_resort ? 0 : pace_patience_ns(pace),
                        s->bad, &s->read);
    s->begin_ns = v->io->ops->now_ns(v->io) - now;
}

/* How fast was it? One of several that are waited for was over when its bytes
 * were there, not when its turn came: what was done for it at its beginning and
 * at its end counts, and not what lies between. */
static int
end_at_pace(struct lsvd_volume *v, struct span *s)
{
    struct pace *pace = &v->part[s->slot].pace;
    uint64_t began = v->io->ops->now_ns(v->io), now;
    int r = fragment_read_end(&s->read);

    now = v->io->ops->now_ns(v->io);
    if (r == -EAGAIN) {
        pace_late(pace, now);
        atomic_fetch_add(&v->count.late_reads, 1);
    } else if (r == 0) {
        pace_note(pace, s->read.read.took_ns > 0
                            ? s->read.read.took_ns
                            : s->begin_ns + (now - began));
    }
    return r;
}

/* -EAGAIN: it is slow, and others may be asked. */
static int
span_end(struct lsvd_volume *v, struct chunk *c, struct span *s)
{
    uint32_t row = geometry_row_of(&v->g, s->block);
    int r = s->error;

    if (r < 0) {
        memset(s->bad, 1, s->count);
        return r;
    }
    r = end_at_pace(v, s);
    if (r < 0) {
        memset(s->bad, 1, s->count);
        if (r == -ETIMEDOUT) {
            part_suspect(v, s->slot, r);
        } else if (r != -EAGAIN && r != -ENOMEM) {
            part_missed(v, s->slot);
            volume_note_bad(v, c, s->slot, UINT32_MAX, err_text());
        }
        return r;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->bad[i])
            volume_note_bad(v, c, s->slot, row + i,
                            "the block does not pass its check");
        else if (s->said)
            note_sum(s, i, fragment_entry(s->read.f, row + i).sum);
    }
    return 0;
}

/* Who is asked as the i-th, in two rounds: spread over chunks, so that all
 * parts work; slow ones (policy.h) only in the second. false: nobody. */
static bool
replica_in_turn(struct lsvd_volume *v, uint64_t chunk, uint32_t i,
                uint32_t *ret_slot)
{
    *ret_slot = (uint32_t)((chunk + i) % v->g.part_count);
    return atomic_load(&v->part[*ret_slot].slow) == (i >= v->g.part_count);
}

static uint32_t
preferred_replica(struct lsvd_volume *v, struct chunk *c, uint32_t skip)
{
    uint32_t slot;

    for (uint32_t i = 0; i < 2 * v->g.part_count; i++) {
        if (replica_in_turn(v, c->number, i, &slot) &&
            !(skip & UINT32_C(1) << slot) && chunk_fragment(v, c, slot, NULL))
            return slot;
    }
    return v->g.part_count;
}

bool
volume_reads_first(struct lsvd_volume *v, uint64_t chunk, uint32_t slot)
{
    uint32_t usable = atomic_load(&v->usable), first;

    if (v->g.is_ec)
        return slot < v->g.data_count || usable != volume_all_parts(v);
    for (uint32_t i = 0; i < 2 * v->g.part_count; i++) {
        if (replica_in_turn(v, chunk, i, &first) &&
            usable & UINT32_C(1) << first)
            return slot == first;
    }
    return true;
}

struct fragment *
volume_preferred_fragment(struct lsvd_volume *v, struct chunk *c)
{
    uint32_t slot = preferred_replica(v, c, 0);

    return slot == v->g.part_count ? NULL : chunk_fragment(v, c, slot, NULL);
}

/* One replica after the other, until one is not late. */
static void
read_replicas(struct lsvd_volume *v, struct chunk *c, struct span *s)
{
    uint32_t late = 0, slot;
    int r = -EAGAIN;

    memset(s->bad, 1, s->count);
    while (r == -EAGAIN &&
           (slot = preferred_replica(v, c, late)) != v->g.part_count) {
        if (late)
            atomic_fetch_add(&v->count.hedged_reads, 1);
        s->slot = slot;
        span_begin(v, c, s, false);
        r = span_end(v, c, s);
        late |= UINT32_C(1) << slot;
    }
    if (r != -EAGAIN)
        return;
    slot = preferred_replica(v, c, 0);
    if (slot == v->g.part_count)
        return;
    s->slot = slot;
    span_begin(v, c, s, true);
    (void)span_end(v, c, s);
}

/* What its fragment does not give is computed from the others; without those
 * that are late, if they are enough. */
static int
complete_span(struct lsvd_volume *v, struct chunk *c, const struct span *s,
              uint32_t late)
{
    uint32_t lost = 0, example = 0;
    struct loss loss = {0};

    if (late) {
        struct loss passing = {0};

        reconstruct_bad(v, c, s, late, &passing);
    }
    reconstruct_bad(v, c, s, 0, &loss);
    if (loss.error == 0 || loss.error == -ENOMEM)
        return loss.error == 0 ? 0 : err_set(-ENOMEM, "%s", loss.text);
    for (uint32_t n = s->count; n-- > 0;) {
        if (s->bad[n]) {
            example = s->block + n * s->step;
            lost++;
        }
    }
    if (!atomic_load(&c->in_flight))
        atomic_fetch_add(&v->count.lost_blocks, lost);
    return err_set(-EIO, "volume %s: chunk %llu, block %u can't be read or "
                   "computed: %s", v->meta.name, (unsigned long long)c->number,
                   example, loss.text);
}

/* Of its fragments, each on a part of its own, side by side. */
static int
read_stripes(struct lsvd_volume *v, struct chunk *c, struct span *span,
             uint32_t count)
{
    uint32_t late = 0;
    int failed = 0;

    for (uint32_t i = 0; i < count; i++)
        span_begin(v, c, &span[i], false);
    for (uint32_t i = 0; i < count; i++) {
        if (span_end(v, c, &span[i]) != -EAGAIN)
            continue;
        late |= UINT32_C(1) << span[i].slot;
        atomic_fetch_add(&v->count.hedged_reads, span[i].count);
    }
    if ((uint32_t)__builtin_popcount(late) > v->g.part_count - v->g.data_count)
        late = 0; /* some of them have to be waited for */
    for (uint32_t i = 0; i < count; i++) {
        int r = complete_span(v, c, &span[i], late);

        if (r < 0)
            failed = r;
    }
    return failed;
}

int
volume_read_parts(struct lsvd_volume *v, struct chunk *c, uint32_t block,
                  uint32_t count, uint8_t *to, uint8_t *said)
{
    uint32_t step = v->g.is_ec ? v->g.data_count : 1, spans = 0, used = 0;
    struct span span[EC_DATA_MAX];
    struct iovec iov[RUN_BLOCKS_MAX];
    bool bad[RUN_BLOCKS_MAX];

    assert(count > 0 && count <= RUN_BLOCKS_MAX);
    if (bypass_is_found(v, c->number))
        return bypass_read_found(v, c, block, count, to, said);
    for (uint32_t i = 0; i < step && i < count; i++) {
        struct span *s = &span[spans++];

        s->slot = geometry_fragment_of(&v->g, block + i);
        s->block = block + i;
        s->step = step;
        s->count = (count - i + step - 1) / step;
        s->to = to + i * (size_t)v->g.block_bytes;
        s->iov = iov + used;
        s->bad = bad + used;
        s->said = said ? said + i : NULL;
        used += s->count;
    }
    if (v->g.is_ec)
        return read_stripes(v, c, span, spans);
    read_replicas(v, c, span);
    return complete_span(v, c, span, 0);
}

void
volume_cache(struct lsvd_volume *v, uint64_t first, uint32_t count,
             const uint8_t *data, bool is_new)
{
    size_t bytes = v->g.block_bytes;

    for (uint32_t i = 0; i < count; i++) {
        if (count * bytes >= SCAN_BYTES)
            cache_offer(v->cache, first + i, data + i * bytes, is_new);
        else
            cache_put(v->cache, first + i, data + i * bytes);
    }
}

/* A chunk that has no files: zeroes, unless the parent has something. */
static int
fetch_from_hole(struct lsvd_volume *v, const struct chunk_entry *truth,
                uint64_t first, uint32_t count, uint8_t *to)
{
    if (truth->seq == 0 && volume_is_clone(v))
        return parent_fetch(v, first, count, to);
    memset(to, 0, (size_t)count * v->g.block_bytes);
    return 0;
}

/* Does anything show through where a cell has no bytes? */
static bool
is_layered(const struct lsvd_volume *v)
{
    return volume_is_clone(v) || volume_has_references(v);
}

/* PA1, RF1. */
static int
fetch_below(struct lsvd_volume *v, const uint8_t *said,
            const struct reference *references, uint64_t first, uint32_t count,
            uint8_t *to)
{
    int r = 0;

    for (uint32_t i = 0, run; i < count && r == 0; i += run) {
        uint8_t *at = to + (size_t)i * v->g.block_bytes;

        for (run = 1; i + run < count && said[i + run] == said[i]; run++)
            ;
        if (said[i] == SAID_NOTHING && volume_is_clone(v))
            r = parent_fetch(v, first + i, run, at);
        else if (said[i] == SAID_REFERENCE)
            r = refer_fetch(v, first + i, run, references + i, at);
    }
    return r;
}

/* Bytes, zeroes, and what the blocks are. Caller holds the chunk lease. */
static int
look_into_chunk(struct lsvd_volume *v, struct chunk *c,
                const struct chunk_entry *truth, uint32_t block,
                uint32_t count, uint8_t *to, uint8_t *said,
                struct reference *references)
{
    int r;

    if (refer_look_exact(v, c, truth, block, count, said, references)) {
        memset(to, 0, (size_t)count * v->g.block_bytes);
        return 0;
    }
    r = read_cache_fetch(v, c, block, count, to, said);
    return r == 0 ? refer_look(v, c, block, count, said, references) : r;
}

/* The chunk's lease is not kept while others are asked: what the volume says
 * nothing of, or that a block is a reference, stays so as long as the caller
 * has its lease on the blocks. */
static int
fetch_leased_chunk(struct lsvd_volume *v, struct chunk *c, uint64_t first,
                   uint32_t count, uint8_t *to)
{
    uint32_t block = geometry_block_in_chunk(&v->g, first);
    struct reference references[RUN_BLOCKS_MAX];
    uint8_t said[RUN_BLOCKS_MAX];
    uint64_t number = c->number;
    struct chunk_entry truth;
    struct lease lease;
    int r = 0;

    lease_get(&v->chunk_leases, &lease, number, number + 1, false);
    /* It may have been removed while we waited. */
    truth = chunk_truth(v, number);
    if (truth.state == CHUNK_PRESENT)
        r = look_into_chunk(v, c, &truth, block, count, to, said, references);
    lease_put(&v->chunk_leases, &lease);
    if (truth.state != CHUNK_PRESENT)
        return fetch_from_hole(v, &truth, first, count, to);
    /* whatever the policy says: a reference is never read as zeroes */
    if (r == 0 && (is_layered(v) || memchr(said, SAID_REFERENCE, count)))
        return fetch_below(v, said, references, first, count, to);
    if (r == 0)
        volume_cache(v, first, count, to, false);
    return r;
}

/* Blocks of one chunk that the journal does not have. A row that a destage is
 * changing and could not yet change on all members does not give a block whose
 * part is away: that is there again when the destage has ended, so the reader
 * waits as a writer does. */
static int
fetch_from_chunk(struct lsvd_volume *v, uint64_t first, uint32_t count,
                 uint8_t *to)
{
    uint64_t number = geometry_chunk_of(&v->g, first);
    struct chunk_entry truth = chunk_truth(v, number);
    char text[512];
    struct chunk *c;
    bool torn;
    int r;

    if (truth.state != CHUNK_PRESENT)
        return fetch_from_hole(v, &truth, first, count, to);
    r = chunk_get(v, number, &c);
    if (r < 0)
        return r;
    do {
        torn = atomic_load(&c->in_flight);
        r = fetch_leased_chunk(v, c, first, count, to);
        if (r < 0)
            snprintf(text, sizeof text, "%s", err_text());
    } while (r == -EIO && torn && space_read_waits(v));
    chunk_put(v, c);
    return r < 0 ? err_set(r, "%s", text) : 0;
}

static int
fetch_from_journal(struct lsvd_volume *v, uint64_t first, uint32_t count,
                   uint8_t *to)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = to + (size_t)i * v->g.block_bytes;
        int r = journal_read(v->journal, first + i,
                             volume_block_seed(v, first + i), at);

        if (r == 0) /* destaged meanwhile */
            r = fetch_from_chunk(v, first + i, 1, at);
        if (r < 0)
            return r;
        cache_put(v->cache, first + i, at);
    }
    return 0;
}

static int
fetch_references(struct lsvd_volume *v, uint64_t first, uint32_t count,
                 uint8_t *to)
{
    struct reference references[RUN_BLOCKS_MAX];
    int r = refer_look_up(v, first, count, references);

    return r == 0 ? refer_fetch(v, first, count, references, to) : r;
}

static int
fetch_run_once(struct lsvd_volume *v, uint64_t first, uint32_t count,
               uint8_t *to)
{
    uint8_t have[RUN_BLOCKS_MAX];

    if (v->journal)
        journal_lookup(v->journal, first, count, have);
    else
        memset(have, 0, count);
    for (uint32_t i = 0, run; i < count; i += run) {
        uint8_t *at = to + (size_t)i * v->g.block_bytes;
        int r = 0;

        for (run = 1; i + run < count && have[i + run] == have[i]; run++)
            ;
        if (have[i] == JOURNAL_ZEROES)
            memset(at, 0, (size_t)run * v->g.block_bytes);
        else if (have[i] == JOURNAL_DATA)
            r = fetch_from_journal(v, first + i, run, at);
        else if (have[i] == JOURNAL_REFERENCE)
            r = fetch_references(v, first + i, run, at);
        else
            r = fetch_from_chunk(v, first + i, run, at);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A run within one chunk, at most RUN_BLOCKS_MAX. */
static int
fetch_run(struct lsvd_volume *v, uint64_t first, uint32_t count, uint8_t *to)
{
    uint64_t spills;
    int r;

    do { /* what was on the parts may be in the journal since we asked that */
        spills = bypass_spills(v);
        r = fetch_run_once(v, first, count, to);
    } while (spills != bypass_spills(v));
    /* only now: until then a block may have been looked for in neither place
     * that has it, and have been taken for the parent's */
    if (r == 0 && is_layered(v))
        volume_cache(v, first, count, to, false);
    return r;
}

int
volume_fetch(struct lsvd_volume *v, uint64_t first, uint32_t count,
             uint8_t *to)
{
    while (count > 0) {
        uint32_t left = v->g.chunk_blocks -
                        geometry_block_in_chunk(&v->g, first);
        uint32_t run = count < left ? count : left;
        int r;

        if (run > RUN_BLOCKS_MAX)
            run = RUN_BLOCKS_MAX;
        r = fetch_run(v, first, run, to);
        if (r < 0)
            return r;
        first += run;
        count -= run;
        to += (size_t)run * v->g.block_bytes;
    }
    return 0;
}

int
volume_fetch_leased(struct lsvd_volume *v, uint64_t first, uint32_t count,
                    uint8_t *to)
{
    struct lease lease;
    int r;

    lease_get(&v->leases, &lease, first, first + count, false);
    r = volume_fetch(v, first, count, to);
    lease_put(&v->leases, &lease);
    return r;
}

/* Part of one block, not in RAM. */
static int
read_within_block(struct lsvd_volume *v, uint64_t block, size_t at,
                  size_t count, uint8_t *to)
{
    uint8_t *bounce = NULL;
    int r;

    r = mem_new_aligned(v->g.block_bytes, &bounce);
    if (r < 0)
        return r;
    r = volume_fetch_leased(v, block, 1, bounce);
    if (r == 0)
        memcpy(to, bounce + at, count);
    free(bounce);
    return r;
}

static int
serve_read(struct lsvd_volume *v, void *to, size_t count, uint64_t offset)
{
    size_t bytes = v->g.block_bytes;
    uint8_t *out = to, *run_at = NULL;
    uint64_t run_first = 0;
    uint32_t run = 0;
    int r;

    r = volume_check_range(v, count, offset);
    if (r == 0)
        r = volume_check_awake(v);
    if (r < 0)
        return r;
    atomic_fetch_add(&v->count.reads, 1);
    atomic_fetch_add(&v->count.read_bytes, count);
    while (count > 0) {
        uint64_t block = offset / bytes;
        size_t at = offset % bytes;
        size_t n = bytes - at < count ? bytes - at : count;
        bool whole = n == bytes;

        if (!cache_get(v->cache, block, at, n, out)) {
            if (whole && run++ == 0) {
                run_first = block;
                run_at = out;
            } else if (!whole) {
                r = read_within_block(v, block, at, n, out);
                if (r < 0)
                    return r;
            }
            whole = whole && run < RUN_BLOCKS_MAX;
        } else {
            whole = false;
        }
        out += n;
        offset += n;
        count -= n;
        if (run > 0 && (!whole || count < bytes)) { /* the run ends here */
            r = volume_fetch_leased(v, run_first, run, run_at);
            if (r < 0)
                return r;
            run = 0;
        }
    }
    return 0;
}

int
lsvd_pread(struct lsvd_volume *v, void *to, size_t count, uint64_t offset)
{
    uint64_t begin = v->io->ops->now_ns(v->io);

    return volume_request_ended(v, &v->count.read, begin,
                                serve_read(v, to, count, offset),
                                &v->count.read_errors);
}

int
lsvd_cache(struct lsvd_volume *v, uint64_t count, uint64_t offset)
{
    uint64_t first, end;
    uint8_t *bounce = NULL;
    int r;

    r = volume_check_range(v, count, offset);
    if (r < 0 || count == 0)
        return r;
    first = offset / v->g.block_bytes;
    end = (offset + count - 1) / v->g.block_bytes + 1;
    r = mem_new_aligned((size_t)RUN_BLOCKS_MAX * v->g.block_bytes, &bounce);
    while (r == 0 && first < end) {
        uint32_t run = end - first < RUN_BLOCKS_MAX ? (uint32_t)(end - first)
                                                    : RUN_BLOCKS_MAX;

        r = volume_fetch_leased(v, first, run, bounce);
        first += run;
    }
    free(bounce);
    return r;
}
