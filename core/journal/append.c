/* append.c: a record gets its place under the lock, its bytes without it, and
 * is answered when the chain up to it is in the file.
 *
 * Happy path: reserve index and space -> place (PAD at the end of the ring),
 * header sealed with the sum of the one before -> unlock -> one writev ->
 * lock -> index -> wait until all before are written too (J1).
 * (A1) Sequence, place and chain are given out together: order in the ring is
 *      order of sequence.
 * (A2) Writes leave reserve_bytes free: REDO records, and with them destage
 *      and the tail, can always go on. Until the next advance REDO records may
 *      take half of what is free: if a crash leaves them behind, the next
 *      try has room again.
 * (A3) A body in the area is in the file before its record is: a chain that
 *      has the record has the body.
 * Fails: no room -> nothing happened; the write fails -> J5, the record is
 * not indexed, its place is never reused. */
#include "journal/state.h"

#include "base/err.h"
#include "base/sum.h"
#include <assert.h>

struct append {
    struct record_header header;  /* type, blocks and payload: the caller */
    const void *payload;
    struct zero_plan *zero;       /* of a ZERO record */
    size_t entries, nodes;        /* reserved */
    uint64_t head_bytes, total_bytes;
    uint64_t pos, pad_pos;
    bool has_pad;
    uint32_t segment;
    uint64_t cost;
    struct bypass_mark mark;      /* of a BYPASS record */
    bool from_hold;               /* J10 */
    struct unfinished unfinished;
    uint8_t *bytes;               /* RECORD_HEADER_BYTES_MAX, with sums */
    uint8_t pad[JOURNAL_ALIGN_BYTES];
};

void
journal_segment_begin_locked(struct journal *j, uint64_t pos, uint64_t seq,
                             uint64_t chain)
{
    struct segment *s = &j->segments[segment_of(j, pos)];

    if (s->first_pos >= j->tail.pos && s->first_pos < pos)
        return; /* not the first of this lap */
    assert(s->live == 0);
    assert(s->unfinished == 0);
    s->first_pos = pos;
    s->first_seq = seq;
    s->first_chain = chain;
    s->cost = 0;
}

/* Bytes that may be appended before the head meets the tail's segment. */
static uint64_t
free_locked(const struct journal *j)
{
    uint64_t end = segment_start(j, j->tail.pos) + j->ring_bytes;

    assert(j->head_pos <= end);
    return end - j->head_pos;
}

static uint64_t
left_in_lap(const struct journal *j, uint64_t pos)
{
    return j->ring_bytes - pos % j->ring_bytes;
}

/* Does a record of total_bytes fit behind the head? */
static bool
fits_locked(const struct journal *j, uint64_t total_bytes, uint64_t reserve)
{
    uint64_t left = left_in_lap(j, j->head_pos);
    uint64_t pad = left < total_bytes ? left : 0;

    return pad + total_bytes + reserve <= free_locked(j);
}

/* The header of the next record, sealed, and the head moved behind it. */
static void
place_locked(struct journal *j, struct record_header *h, uint8_t *bytes,
             uint64_t total_bytes)
{
    h->salt = j->salt;
    h->seq = ++j->last_seq;
    h->chain = j->head_chain;
    h->durable = j->durable_seq;
    h->at = file_at(j, j->head_pos);
    journal_segment_begin_locked(j, j->head_pos, h->seq, h->chain);
    record_header_encode(h, bytes);
    j->head_chain = h->sum;
    j->head_pos += total_bytes;
    j->last_record_seq = h->seq;
    j->appended_bytes += total_bytes;
}

static void
begin_locked(struct journal *j, struct append *a)
{
    uint64_t left = left_in_lap(j, j->head_pos);

    if (left < a->total_bytes) {
        struct record_header pad = {
            .type = RECORD_PAD,
            .header_bytes = JOURNAL_ALIGN_BYTES,
        };

        a->has_pad = true;
        a->pad_pos = j->head_pos;
        memset(a->pad, 0, sizeof a->pad);
        place_locked(j, &pad, a->pad, left);
        j->segments[segment_of(j, a->pad_pos)].unfinished++;
    }
    a->pos = j->head_pos;
    a->segment = segment_of(j, a->pos);
    place_locked(j, &a->header, a->bytes, a->total_bytes);
    j->segments[a->segment].unfinished++;
    j->segments[a->segment].cost += a->cost;
    j->cost += a->cost;

    a->unfinished.seq = a->header.seq;
    a->unfinished.pos = a->has_pad ? a->pad_pos : a->pos;
    a->unfinished.linked = true;
    a->unfinished.prev = j->newest_unfinished;
    if (j->newest_unfinished)
        j->newest_unfinished->next = &a->unfinished;
    else
        j->oldest_unfinished = &a->unfinished;
    j->newest_unfinished = &a->unfinished;
}

static int
write_record(struct journal *j, struct append *a)
{
    static const uint8_t zeroes[JOURNAL_ALIGN_BYTES];
    uint64_t payload_bytes = a->header.payload_bytes;
    struct iovec iov[3];
    int count = 0;
    int r;

    if (a->header.type == RECORD_REDO_APART) {
        r = object_write(j->object, a->payload, payload_bytes,
                         a->header.first);
        if (r < 0)
            return r;
        payload_bytes = 0;
    }
    if (a->has_pad) {
        r = object_write(j->object, a->pad, sizeof a->pad,
                         file_at(j, a->pad_pos));
        if (r < 0)
            return r;
    }
    iov[count++] = (struct iovec){ a->bytes, a->header.header_bytes };
    if (payload_bytes > 0) {
        union { const void *from; void *to; } u = { .from = a->payload };

        iov[count++] = (struct iovec){ u.to, payload_bytes };
    }
    if (payload_bytes % JOURNAL_ALIGN_BYTES != 0) {
        union { const void *from; void *to; } u = { .from = zeroes };

        iov[count++] = (struct iovec){
            u.to, round_up_512(payload_bytes) - payload_bytes
        };
    }
    return object_writev(j->object, iov, count, file_at(j, a->pos));
}

static void
unlink_unfinished_locked(struct journal *j, struct unfinished *u)
{
    if (u->prev)
        u->prev->next = u->next;
    else
        j->oldest_unfinished = u->next;
    if (u->next)
        u->next->prev = u->prev;
    else
        j->newest_unfinished = u->prev;
    u->linked = false;
}

static void
index_record_locked(struct journal *j, const struct append *a)
{
    const struct record_header *h = &a->header;
    uint64_t at = file_at(j, a->pos) + h->header_bytes;

    index_unreserve(&j->index, a->entries, a->nodes);
    if (h->type == RECORD_ZERO)
        zero_apply_locked(j, a->zero, h->seq, a->segment);
    if (h->type == RECORD_BYPASS) {
        struct bypass_mark mark = a->mark;

        mark.seq = h->seq;
        mark.segment = a->segment;
        mark_put_locked(j, &mark);
    }
    if (h->type != RECORD_WRITE && h->type != RECORD_REFERENCE)
        return;
    for (uint32_t i = 0; i < h->count; i++) {
        struct journal_block b = {
            .block = h->first + i,
            .seq = h->seq,
            .sum = SUM_REFERENCE,
        };

        if (h->type == RECORD_WRITE) {
            b.sum = record_sum_get(a->bytes, i);
            b.at = at + (uint64_t)i * j->block_bytes;
        }

        index_put(&j->index, &b, a->segment);
    }
}

/* The chain in the file has grown up to here. Returns those who waited for
 * that. */
static struct unfinished *
take_finished_locked(struct journal *j)
{
    struct unfinished *woken = NULL, *u;

    while ((u = j->oldest_unfinished) && u->written) {
        j->written_seq = u->seq;
        unlink_unfinished_locked(j, u);
        if (u->waiting) {
            u->next = woken;
            woken = u;
        }
    }
    pthread_cond_broadcast(&j->written);
    return woken;
}

static void
wake_finished(struct unfinished *woken)
{
    while (woken) {
        struct unfinished *u = woken;

        woken = u->next;
        wake_post(&u->wake);
    }
}

void
journal_wake_appends_locked(struct journal *j)
{
    for (struct unfinished *u = j->oldest_unfinished; u; u = u->next) {
        if (u->waiting) {
            u->waiting = false;
            wake_post(&u->wake);
        }
    }
}

/* Its bytes are in the file: index it, and wait for those before it. Drops the
 * lock, for good. */
static int
finish_and_unlock(struct journal *j, struct append *a)
{
    struct unfinished *u = &a->unfinished, *woken;
    int r;

    if (!j->failed) {
        bool waits;

        index_record_locked(j, a);
        j->segments[a->segment].unfinished--;
        if (a->has_pad)
            j->segments[segment_of(j, a->pad_pos)].unfinished--;
        u->written = true;
        woken = take_finished_locked(j);
        waits = u->linked;
        u->waiting = waits;
        if (waits)
            wake_init(&u->wake);
        pthread_mutex_unlock(&j->lock);
        wake_finished(woken);
        if (waits)
            wake_wait(&u->wake);
        if (!u->linked)
            return 0;
        pthread_mutex_lock(&j->lock);
    }
    unlink_unfinished_locked(j, u);
    r = journal_failed_error_locked(j);
    pthread_mutex_unlock(&j->lock);
    return r;
}

static int
reserve_redo_locked(struct journal *j, struct append *a)
{
    uint64_t left = free_locked(j) > j->held_bytes
                        ? free_locked(j) - j->held_bytes
                        : 0;
    uint64_t most = (left + j->redo_bytes) / 2, body = 0;

    if (a->header.type == RECORD_REDO_APART)
        body = round_up_512(a->header.payload_bytes);
    if (j->redo_bytes + a->total_bytes > most ||
        !fits_locked(j, a->total_bytes, j->held_bytes) ||
        body > j->area_bytes - j->area_used)
        return err_set(-ENOSPC, "%s: no room for a redo record of %llu bytes",
                       j->path,
                       (unsigned long long)a->header.payload_bytes);
    if (body > 0)
        a->header.first = area_at(j) + j->area_used;
    j->redo_bytes += a->total_bytes;
    j->area_used += body;
    j->appended_bytes += body;
    return 0;
}

/* J10. There is room, unless more is asked for than was held. */
static int
reserve_from_hold_locked(struct journal *j, struct append *a)
{
    uint64_t chunk = a->header.first / j->index.chunk_blocks;
    struct bypass_mark *mark = mark_find_locked(j, chunk);
    uint64_t left = left_in_lap(j, j->head_pos), pad;

    pad = left < a->total_bytes ? left : 0;
    if (!mark || mark->held_bytes < pad + a->total_bytes ||
        mark->entries < a->entries ||
        !fits_locked(j, a->total_bytes, 0))
        return err_set(-EAGAIN, "%s: full", j->path);
    mark_use_locked(j, mark, pad + a->total_bytes);
    /* what was reserved for the mark is the append's now */
    mark->entries -= a->entries;
    a->nodes = a->entries > 0 ? mark->nodes : 0;
    mark->nodes -= a->nodes;
    return 0;
}

static int
hold_locked(struct journal *j, struct append *a)
{
    uint64_t hold = mark_hold(j);
    uint32_t blocks = j->index.chunk_blocks;

    if (j->held_bytes + hold > j->ring_bytes / HOLD_PART ||
        !fits_locked(j, a->total_bytes, j->reserve_bytes + j->held_bytes +
                                            hold))
        return err_set(-EAGAIN, "%s: full", j->path);
    if (!index_reserve(&j->index, blocks, 1, j->index_limit))
        return err_set(-EAGAIN, "%s: full", j->path);
    if (mark_reserve_locked(j) < 0) {
        index_unreserve(&j->index, blocks, 1);
        return -ENOMEM;
    }
    j->held_bytes += hold;
    a->mark = (struct bypass_mark){.chunk = a->header.first,
                                   .held_bytes = hold,
                                   .entries = blocks,
                                   .nodes = 1};
    return 0;
}

/* Room in the index and the ring, or an error and nothing done. */
static int
reserve_locked(struct journal *j, struct append *a)
{
    const struct record_header *h = &a->header;

    a->cost = a->entries + a->nodes;
    if (record_is_redo(h))
        return reserve_redo_locked(j, a);
    if (a->from_hold)
        return reserve_from_hold_locked(j, a);
    if (h->type == RECORD_BYPASS)
        return hold_locked(j, a);
    if (a->entries > j->index_limit / 2 || a->nodes > j->index_limit / 2)
        return err_set(-EFBIG, "%s: a record over %zu blocks and %zu chunks "
                       "is too much for an index of %zu", j->path, a->entries,
                       a->nodes, j->index_limit);
    if (j->cost + a->cost > journal_cost_max(j->index_limit) ||
        !fits_locked(j, a->total_bytes, j->reserve_bytes + j->held_bytes) ||
        !index_reserve(&j->index, a->entries, a->nodes, j->index_limit))
        return err_set(-EAGAIN, "%s: full", j->path);
    return 0;
}

/* Drops the lock, for good. */
static int
append_and_unlock(struct journal *j, struct append *a)
{
    int r;

    assert(j->started);
    r = j->failed ? journal_failed_error_locked(j) : reserve_locked(j, a);
    if (r < 0) {
        pthread_mutex_unlock(&j->lock);
        return r;
    }
    begin_locked(j, a);
    pthread_mutex_unlock(&j->lock);
    r = write_record(j, a);
    pthread_mutex_lock(&j->lock);
    if (r < 0)
        journal_fail_locked(j);
    return finish_and_unlock(j, a);
}

static void
append_init(struct append *a, uint32_t type, uint32_t sum_count,
            uint64_t payload_bytes, uint8_t *bytes)
{
    *a = (struct append){
        .header.type = type,
        .header.header_bytes = record_header_bytes(sum_count),
        .header.payload_bytes = payload_bytes,
        .bytes = bytes,
    };
    a->total_bytes = a->header.header_bytes + round_up_512(payload_bytes);
    memset(bytes, 0, a->header.header_bytes);
}

static int
append_write(struct journal *j, uint64_t first, uint32_t count,
             const uint64_t *sums, const void *data, bool from_hold)
{
    uint8_t bytes[RECORD_HEADER_BYTES_MAX];
    uint64_t payload_bytes = (uint64_t)count * j->block_bytes;
    uint32_t chunk_blocks = j->index.chunk_blocks;
    struct append a;

    assert(chunk_blocks > 0);
    assert(count > 0 && payload_bytes <= JOURNAL_RECORD_PAYLOAD_MAX);
    if (payload_bytes > journal_payload_max(j))
        return err_set(-EFBIG, "%s: a record of %llu bytes is too long for a "
                       "journal of %llu", j->path,
                       (unsigned long long)payload_bytes,
                       (unsigned long long)j->file_bytes);
    append_init(&a, RECORD_WRITE, count, payload_bytes, bytes);
    a.from_hold = from_hold;
    a.header.first = first;
    a.header.count = count;
    a.payload = data;
    a.entries = count;
    a.nodes = (size_t)((first + count - 1) / chunk_blocks -
                       first / chunk_blocks + 1);
    for (uint32_t i = 0; i < count; i++) {
        assert(sum_has_bytes(sums[i]));
        record_sum_put(bytes, i, sums[i]);
    }
    pthread_mutex_lock(&j->lock);
    assert(first + count > first && first + count <= j->volume_blocks);
    return append_and_unlock(j, &a);
}

int
journal_append_write(struct journal *j, uint64_t first, uint32_t count,
                     const uint64_t *sums, const void *data)
{
    return append_write(j, first, count, sums, data, false);
}

int
journal_append_spilled(struct journal *j, uint64_t first, uint32_t count,
                       const uint64_t *sums, const void *data)
{
    return append_write(j, first, count, sums, data, true);
}

int
journal_append_zero(struct journal *j, uint64_t first, uint64_t count,
                    bool (*present)(void *ctx, uint64_t chunk), void *ctx)
{
    uint8_t bytes[JOURNAL_ALIGN_BYTES];
    struct zero_plan plan;
    struct append a;
    int r;

    assert(j->index.chunk_blocks > 0);
    append_init(&a, RECORD_ZERO, 0, 0, bytes);
    pthread_mutex_lock(&j->lock);
    assert(first + count > first && first + count <= j->volume_blocks);
    r = zero_plan_locked(j, first, count, present, ctx, &plan);
    if (r == 0 && plan.nodes > 0) {
        a.header.first = first;
        a.header.count = plan.end - first;
        a.zero = &plan;
        a.entries = plan.entries;
        a.nodes = plan.nodes;
        return append_and_unlock(j, &a);
    }
    if (r == 0 && j->failed)
        r = journal_failed_error_locked(j);
    pthread_mutex_unlock(&j->lock);
    return r;
}

int
journal_append_reference(struct journal *j, uint64_t first, uint32_t count)
{
    uint8_t bytes[JOURNAL_ALIGN_BYTES];
    struct append a;

    assert(count > 0);
    assert(first / j->index.chunk_blocks ==
           (first + count - 1) / j->index.chunk_blocks);
    append_init(&a, RECORD_REFERENCE, 0, 0, bytes);
    a.header.first = first;
    a.header.count = count;
    a.entries = count;
    a.nodes = 1;
    pthread_mutex_lock(&j->lock);
    assert(first + count <= j->volume_blocks);
    return append_and_unlock(j, &a);
}

int
journal_append_redo(struct journal *j, const void *body, size_t bytes)
{
    uint8_t header[JOURNAL_ALIGN_BYTES];
    struct append a;

    assert(bytes > 0 && bytes <= JOURNAL_REDO_BYTES_MAX);
    append_init(&a, RECORD_REDO, 0, bytes, header);
    if (j->area_bytes > 0) {
        a.header.type = RECORD_REDO_APART;
        a.total_bytes = a.header.header_bytes;
    }
    a.header.payload_sum = sum_bytes(body, bytes);
    a.payload = body;
    pthread_mutex_lock(&j->lock);
    return append_and_unlock(j, &a);
}

int
journal_append_bypass(struct journal *j, uint64_t chunk, uint64_t *ret_seq)
{
    uint8_t bytes[JOURNAL_ALIGN_BYTES];
    struct append a;
    int r;

    append_init(&a, RECORD_BYPASS, 0, 0, bytes);
    a.header.first = chunk;
    pthread_mutex_lock(&j->lock);
    assert(!index_find_chunk(&j->index, chunk)); /* J9 */
    r = append_and_unlock(j, &a);
    *ret_seq = a.header.seq;
    return r;
}

int
journal_append_bypassed(struct journal *j,
                        const struct journal_bypassed *record,
                        uint64_t *ret_seq)
{
    uint8_t bytes[RECORD_HEADER_BYTES_MAX];
    uint32_t sums = record->count + record->more;
    struct append a;
    int r;

    assert(record->count > 0 && sums <= RECORD_SUMS_MAX);
    append_init(&a, RECORD_BYPASSED, sums, 0, bytes);
    a.from_hold = true;
    a.header.first = record->first;
    a.header.count = record->count;
    a.header.payload_sum = record->more;
    for (uint32_t i = 0; i < sums; i++)
        record_sum_put(bytes, i, record->sums[i]);
    pthread_mutex_lock(&j->lock);
    r = append_and_unlock(j, &a);
    *ret_seq = a.header.seq;
    return r;
}

uint64_t
journal_take_seq(struct journal *j)
{
    uint64_t seq;

    pthread_mutex_lock(&j->lock);
    assert(j->started);
    seq = ++j->last_seq;
    pthread_mutex_unlock(&j->lock);
    return seq;
}
