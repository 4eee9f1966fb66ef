/* replay.c: what the ring holds after a start.
 *
 * Happy path: sync (what is read now must not be lost later), forget cached
 * bytes (after a failed sync they may differ from the medium), walk the chain
 * from the tail, index each record, stop where the chain ends.
 * (P1) A record counts only with our salt, its own place, the sum of the one
 *      before it and a greater sequence (J2).
 * (P2) Where the chain ends, the rest of the ring is searched: a later header,
 *      or the superblock, that knew a missing record as durable makes the end
 *      damage and not a torn tail.
 * (P3) Bytes that pass their sums and still make no sense were never written
 *      by us: refused.
 * (P4) journal_scan walks the same way and judges the same, and changes
 *      nothing: it tells which of two copies of a journal has the longer
 *      chain, and whether the shorter one is a beginning of it.
 * Bounds: one pass over the ring for the chain, one for the search; memory by
 * journal_cost_max. */
#include "journal/state.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#define WINDOW_BYTES (JOURNAL_REDO_BYTES_MAX + (1u << 20))

static_assert(WINDOW_BYTES >= JOURNAL_REDO_BYTES_MAX +
                              RECORD_HEADER_BYTES_MAX, "a record fits");

/* A piece of the ring in memory; never over the end of a lap. */
struct window {
    uint8_t *bytes;
    size_t capacity, count;
    uint64_t pos;
};

struct replay {
    struct journal *j;
    const struct replay_callbacks *cb;
    struct replay_stats *stats;
    struct window window;
    uint8_t *body;        /* of a REDO_APART record; NULL until one comes */
    uint64_t pos, end;    /* next record; where the tail's segment is again */
    uint64_t chain, seq;  /* of the last good record */
    uint64_t area_used;   /* by bodies that count */
    bool is_cut;          /* the record at pos was begun by us */
    struct journal_scan *scan; /* NULL: replay */
    const struct journal_end *through;
};

static uint64_t
left_in_lap(const struct journal *j, uint64_t pos)
{
    return j->ring_bytes - pos % j->ring_bytes;
}

/* *ret points to count bytes of the ring, valid until the next call. */
static int
window_get(struct replay *rp, uint64_t pos, size_t count,
           const uint8_t **ret)
{
    struct window *w = &rp->window;
    uint64_t left = left_in_lap(rp->j, pos);

    assert(count <= w->capacity && count <= left);
    if (pos < w->pos || pos + count > w->pos + w->count) {
        size_t bytes = left < w->capacity ? (size_t)left : w->capacity;
        int r = object_read(rp->j->object, w->bytes, bytes,
                            file_at(rp->j, pos));

        w->count = 0;
        if (r < 0)
            return r;
        w->pos = pos;
        w->count = bytes;
    }
    *ret = w->bytes + (pos - w->pos);
    return 0;
}

/* Most bytes of a header that may begin at pos. */
static size_t
header_room(const struct replay *rp, uint64_t pos)
{
    uint64_t left = left_in_lap(rp->j, pos);

    return left < RECORD_HEADER_BYTES_MAX ? (size_t)left
                                          : RECORD_HEADER_BYTES_MAX;
}

static int
nonsense(const struct replay *rp, const struct record_header *h)
{
    return err_set(-EBADMSG, "%s: record %" PRIu64 " at %" PRIu64
                   " has impossible fields", rp->j->path, h->seq, h->at);
}

static bool
range_is_sane(const struct replay *rp, const struct record_header *h)
{
    return h->count > 0 && h->first < rp->j->volume_blocks &&
           h->count <= rp->j->volume_blocks - h->first;
}

/* The same, but it may go on to the end of the last chunk (Z1). */
static bool
zero_range_is_sane(const struct replay *rp, const struct record_header *h)
{
    uint64_t chunk_blocks = rp->j->index.chunk_blocks;
    uint64_t last = (rp->j->volume_blocks - 1) / chunk_blocks * chunk_blocks;

    return range_is_sane(rp, h) ||
           (h->first <= last && h->count == last + chunk_blocks - h->first);
}

/* P3. Total length of the record in *ret. */
static int
judge_fields(const struct replay *rp, const struct record_header *h,
             uint64_t *ret)
{
    uint64_t payload_bytes = h->payload_bytes; /* in the ring */
    uint32_t sum_count = 0;
    bool ok = h->durable < h->seq;

    switch (h->type) {
    case RECORD_WRITE:
        ok = ok && range_is_sane(rp, h) && h->count <= RECORD_SUMS_MAX &&
             h->payload_bytes == h->count * rp->j->block_bytes &&
             h->payload_bytes <= JOURNAL_RECORD_PAYLOAD_MAX;
        sum_count = ok ? (uint32_t)h->count : 0;
        break;
    case RECORD_ZERO:
        ok = ok && zero_range_is_sane(rp, h) && h->payload_bytes == 0;
        break;
    case RECORD_REFERENCE:
        ok = ok && range_is_sane(rp, h) && h->payload_bytes == 0 &&
             h->first / rp->j->index.chunk_blocks ==
                 (h->first + h->count - 1) / rp->j->index.chunk_blocks;
        break;
    case RECORD_REDO:
        ok = ok && h->payload_bytes > 0 &&
             h->payload_bytes <= JOURNAL_REDO_BYTES_MAX;
        break;
    case RECORD_REDO_APART:
        ok = ok && h->payload_bytes > 0 &&
             h->payload_bytes <= JOURNAL_REDO_BYTES_MAX &&
             h->payload_bytes <= rp->j->area_bytes &&
             h->first >= area_at(rp->j) &&
             h->first - area_at(rp->j) <=
                 rp->j->area_bytes - h->payload_bytes;
        payload_bytes = 0;
        break;
    case RECORD_BYPASS:
        ok = ok && h->payload_bytes == 0 &&
             h->first <= (rp->j->volume_blocks - 1) /
                             rp->j->index.chunk_blocks;
        break;
    case RECORD_BYPASSED:
        ok = ok && range_is_sane(rp, h) && h->payload_bytes == 0 &&
             h->count <= RECORD_SUMS_MAX &&
             h->payload_sum <= RECORD_SUMS_MAX - h->count &&
             h->first / rp->j->index.chunk_blocks ==
                 (h->first + h->count - 1) / rp->j->index.chunk_blocks;
        sum_count = ok ? (uint32_t)(h->count + h->payload_sum) : 0;
        break;
    case RECORD_PAD:
        ok = ok && h->payload_bytes == 0;
        break;
    default:
        return err_set(-EPROTO, "%s: record %" PRIu64 " is of a kind (%"
                       PRIu32 ") that needs a newer lsvd", rp->j->path,
                       h->seq, h->type);
    }
    if (!ok || h->header_bytes != record_header_bytes(sum_count))
        return nonsense(rp, h);
    *ret = h->type == RECORD_PAD
         ? left_in_lap(rp->j, rp->pos)
         : h->header_bytes + round_up_512(payload_bytes);
    if (*ret > left_in_lap(rp->j, rp->pos) || *ret > rp->end - rp->pos)
        return nonsense(rp, h);
    return 0;
}

static bool
is_done_with(const struct replay *rp, const struct record_header *h)
{
    return h->seq < rp->j->redo_seq;
}

/* The same of a body in the area, which is then in rp->body. */
static int
judge_body(struct replay *rp, const struct record_header *h)
{
    int r = 0;

    if (is_done_with(rp, h))
        return 1; /* and perhaps written over */
    if (h->first != area_at(rp->j) + rp->area_used)
        return nonsense(rp, h); /* they lie one behind the other */
    if (!rp->body)
        r = mem_new_aligned(JOURNAL_REDO_BYTES_MAX, &rp->body);
    if (r == 0)
        r = object_read(rp->j->object, rp->body, (size_t)h->payload_bytes,
                        h->first);
    return r < 0 ? r
                 : sum_bytes(rp->body, (size_t)h->payload_bytes) ==
                       h->payload_sum;
}

/* Are the payload's bytes those that the header names? Negative: nonsense. */
static int
judge_payload(struct replay *rp, const struct record_header *h,
              const uint8_t *bytes)
{
    const uint8_t *payload = bytes + h->header_bytes;
    size_t block_bytes = rp->j->block_bytes;

    if (h->type == RECORD_REDO_APART)
        return judge_body(rp, h);
    if (h->type == RECORD_REDO)
        return is_done_with(rp, h) ||
               sum_bytes(payload, h->payload_bytes) == h->payload_sum;
    if (h->type != RECORD_WRITE)
        return 1;
    for (uint32_t i = 0; i < h->count; i++) {
        uint64_t sum = record_sum_get(bytes, i);
        uint64_t seed = rp->cb->seed(rp->cb->ctx, h->first + i);

        if (!sum_has_bytes(sum))
            return nonsense(rp, h);
        if (sum_block(seed, payload + i * block_bytes, block_bytes) != sum)
            return 0;
    }
    return 1;
}

/* The record at rp->pos: 1: good, in *h, *ret, *ret_total; 0: the chain ends
 * here; negative: an error. */
static int
next_record(struct replay *rp, struct record_header *h, const uint8_t **ret,
            uint64_t *ret_total)
{
    const struct journal *j = rp->j;
    uint64_t at = file_at(j, rp->pos);
    uint64_t seq;
    size_t room;
    int r;

    *ret_total = 0;
    rp->is_cut = false;
    if (rp->pos == rp->end) /* full: here the tail's segment begins again */
        return 0;
    room = header_room(rp, rp->pos);
    r = window_get(rp, rp->pos, room, ret);
    if (r < 0)
        return r;
    rp->is_cut = record_header_begun(*ret, j->salt, at, &seq) &&
                 seq > rp->seq;
    if (!record_header_decode(*ret, room, j->salt, at, h) ||
        h->chain != rp->chain || h->seq <= rp->seq)
        return 0;
    r = judge_fields(rp, h, ret_total);
    if (r < 0)
        return r;
    if (h->type == RECORD_PAD)
        return 1;
    r = window_get(rp, rp->pos, (size_t)*ret_total, ret);
    return r < 0 ? r : judge_payload(rp, h, *ret);
}

/* ---- what a good record does ---- */

/* Room in the index for a record that needs this much; counts it as its
 * append did. */
static int
make_room(struct replay *rp, size_t entries, size_t nodes)
{
    struct journal *j = rp->j;
    uint64_t limit = j->index_limit > j->stored_index_limit
                   ? j->index_limit : j->stored_index_limit;

    j->segments[segment_of(j, rp->pos)].cost += entries + nodes;
    j->cost += entries + nodes;
    /* twice: the tail on disk may be a step behind the one that counted */
    return index_make_room(&j->index, entries, nodes,
                           (size_t)(2 * journal_cost_max(limit)));
}

/* A WRITE record, or a REFERENCE record. */
static int
apply_write(struct replay *rp, const struct record_header *h,
            const uint8_t *bytes)
{
    struct journal *j = rp->j;
    uint32_t segment = segment_of(j, rp->pos);
    uint32_t chunk_blocks = j->index.chunk_blocks;
    int r = make_room(rp, (size_t)h->count,
                      (size_t)((h->first + h->count - 1) / chunk_blocks -
                               h->first / chunk_blocks + 1));

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < h->count; i++) {
        struct journal_block b = {
            .block = h->first + i,
            .seq = h->seq,
            .sum = SUM_REFERENCE,
        };

        if (h->type == RECORD_WRITE) {
            b.sum = record_sum_get(bytes, i);
            b.at = h->at + h->header_bytes + (uint64_t)i * j->block_bytes;
        }
        index_put(&j->index, &b, segment);
    }
    rp->stats->blocks += h->count;
    return 0;
}

static int
apply_zero(struct replay *rp, const struct record_header *h)
{
    struct journal *j = rp->j;
    struct zero_plan plan;
    int r = zero_plan_locked(j, h->first, h->count, rp->cb->present,
                             rp->cb->ctx, &plan);

    if (r < 0)
        return nonsense(rp, h);
    r = make_room(rp, plan.entries, plan.nodes);
    if (r < 0)
        return r;
    zero_apply_locked(j, &plan, h->seq, segment_of(j, rp->pos));
    rp->stats->blocks += plan.entries;
    return 0;
}

static int
apply_redo(struct replay *rp, const struct record_header *h,
           const uint8_t *bytes)
{
    const uint8_t *body = h->type == RECORD_REDO_APART
                              ? rp->body : bytes + h->header_bytes;

    return rp->cb->redo ? rp->cb->redo(rp->cb->ctx, h->seq, body,
                                       (size_t)h->payload_bytes)
                        : 0;
}

/* J9. */
static int
apply_bypass(struct replay *rp, const struct record_header *h)
{
    struct journal *j = rp->j;
    int r;

    index_forget_chunk(&j->index, h->first);
    r = rp->cb->bypass ? rp->cb->bypass(rp->cb->ctx, h->first, h->seq) : 0;
    if (r <= 0)
        return r;
    r = mark_reserve_locked(j);
    if (r == 0)
        mark_put_locked(j, &(struct bypass_mark){
                                 .chunk = h->first,
                                 .seq = h->seq,
                                 .segment = segment_of(j, rp->pos)});
    return r;
}

static int
apply_bypassed(struct replay *rp, const struct record_header *h,
               const uint8_t *bytes)
{
    uint64_t sums[RECORD_SUMS_MAX];
    struct journal_bypassed record = {.first = h->first,
                                      .count = (uint32_t)h->count,
                                      .more = (uint32_t)h->payload_sum,
                                      .sums = sums};

    for (uint32_t i = 0; i < record.count + record.more; i++)
        sums[i] = record_sum_get(bytes, i);
    return rp->cb->bypassed
               ? rp->cb->bypassed(rp->cb->ctx, h->seq, &record)
               : 0;
}

static void
step(struct replay *rp, const struct record_header *h, uint64_t total)
{
    if (h->type != RECORD_PAD)
        rp->stats->records++;
    if (h->type == RECORD_REDO_APART && !is_done_with(rp, h))
        rp->area_used += round_up_512(h->payload_bytes);
    rp->stats->bytes += total;
    rp->pos += total;
    rp->chain = h->sum;
    rp->seq = h->seq;
}

static int
apply(struct replay *rp, const struct record_header *h, const uint8_t *bytes,
      uint64_t total)
{
    struct journal *j = rp->j;
    int r = 0;

    journal_segment_begin_locked(j, rp->pos, h->seq, h->chain);
    if (h->type == RECORD_WRITE || h->type == RECORD_REFERENCE)
        r = apply_write(rp, h, bytes);
    else if (h->type == RECORD_ZERO)
        r = apply_zero(rp, h);
    else if (h->type == RECORD_BYPASS)
        r = apply_bypass(rp, h);
    else if (h->type == RECORD_BYPASSED)
        r = apply_bypassed(rp, h, bytes);
    else if (record_is_redo(h) && !is_done_with(rp, h))
        r = apply_redo(rp, h, bytes);
    if (r == 0)
        step(rp, h, total);
    return r;
}

/* ---- where the chain ends ---- */

/* P2: the greatest `durable` that a later header knows, and whether there is
 * a later header at all. */
static int
search_rest(struct replay *rp, uint64_t *ret_durable)
{
    const struct journal *j = rp->j;
    uint64_t end = j->tail.pos + j->ring_bytes;
    struct record_header h;
    const uint8_t *bytes;

    *ret_durable = 0;
    for (uint64_t pos = rp->pos; pos < end; pos += JOURNAL_ALIGN_BYTES) {
        size_t room = header_room(rp, pos);
        int r = window_get(rp, pos, room, &bytes);

        if (r < 0)
            return r;
        if (!record_header_decode(bytes, room, j->salt, file_at(j, pos), &h))
            continue;
        if (h.seq <= rp->seq || h.durable >= h.seq)
            continue;
        rp->stats->torn_tail = true;
        if (h.durable > *ret_durable)
            *ret_durable = h.durable;
        if (h.seq > rp->stats->max_seq)
            rp->stats->max_seq = h.seq;
    }
    return 0;
}

static int
judge_end(struct replay *rp)
{
    struct journal *j = rp->j;
    uint64_t durable;
    int r;

    rp->stats->torn_tail = rp->is_cut;
    rp->stats->max_seq = rp->seq > j->durable_seq ? rp->seq : j->durable_seq;
    r = search_rest(rp, &durable);
    if (r < 0)
        return r;
    if (j->durable_seq > durable)
        durable = j->durable_seq;
    if (durable > rp->seq)
        return err_set(-EBADMSG, "%s: journal corrupt at sequence %" PRIu64
                       " (file offset %" PRIu64 "): records up to %" PRIu64
                       " had been made durable", j->path, rp->seq + 1,
                       file_at(j, rp->pos), durable);
    return 0;
}

/* P4: does the chain come by where another copy ends? */
static void
note_passed(struct replay *rp)
{
    const struct journal_end *end = rp->through;

    if (end && end->at == file_at(rp->j, rp->pos) &&
        end->chain == rp->chain)
        rp->scan->passed = true;
}

static int
walk(struct replay *rp)
{
    struct record_header h;
    const uint8_t *bytes;
    uint64_t total;
    int r;

    if (rp->scan)
        note_passed(rp);
    while ((r = next_record(rp, &h, &bytes, &total)) > 0) {
        if (rp->scan) {
            step(rp, &h, total);
            note_passed(rp);
            continue;
        }
        r = apply(rp, &h, bytes, total);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : judge_end(rp);
}

/* From the tail on; what is read is on the medium. */
static int
replay_run(struct replay *rp)
{
    struct journal *j = rp->j;
    int r;

    assert(!j->started && j->head_pos == j->tail.pos);
    assert(j->index.chunk_blocks > 0);
    rp->pos = j->tail.pos;
    rp->end = segment_start(j, j->tail.pos) + j->ring_bytes;
    rp->chain = j->tail.chain;
    rp->seq = j->tail.seq - 1;
    object_drop_cache(j->object);
    rp->window.capacity = j->ring_bytes < WINDOW_BYTES
                        ? (size_t)j->ring_bytes : WINDOW_BYTES;
    r = mem_new_aligned(rp->window.capacity, &rp->window.bytes);
    if (r < 0)
        return r;
    r = walk(rp); /* without the lock: nobody else is here yet */
    free(rp->window.bytes);
    free(rp->body);
    return r;
}

int
journal_replay(struct journal *j, const struct replay_callbacks *cb,
               struct replay_stats *ret)
{
    struct replay rp = { .j = j, .cb = cb, .stats = ret };
    int r;

    *ret = (struct replay_stats){ 0 };
    r = object_sync(j->object);
    if (r == 0)
        r = replay_run(&rp);
    if (r < 0)
        return r;
    j->head_pos = rp.pos;
    j->head_chain = rp.chain;
    j->is_cut = rp.is_cut;
    j->area_used = rp.area_used;
    j->last_seq = ret->max_seq;
    j->last_record_seq = j->written_seq = j->durable_seq = rp.seq;
    return 0;
}

int
journal_scan(struct journal *j, const struct replay_callbacks *cb,
             const struct journal_end *through, struct journal_scan *ret)
{
    struct replay_stats stats = { 0 };
    struct replay rp = { .j = j, .cb = cb, .stats = &stats, .scan = ret,
                         .through = through };
    int r;

    *ret = (struct journal_scan){ 0 };
    r = object_sync(j->object);
    if (r == 0)
        r = replay_run(&rp);
    if (r < 0)
        return r;
    ret->end = (struct journal_end){
        .seq = rp.seq,
        .at = file_at(j, rp.pos),
        .chain = rp.chain,
        .area_used = rp.area_used,
    };
    return 0;
}
