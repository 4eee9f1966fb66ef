/* space.c: a write is accepted only when there is room for it: on the parts
 * (so that destage never has to give up for want of space), and in the
 * journal.
 *
 * Room on the parts is what their file systems say is free, less what the
 * journal holds and has not put there yet (counted as if every block needed
 * new space), less a reserve. When that runs out, blocks that have their
 * space already may still be overwritten.
 *
 * Before the journal is full writers are slowed down (throttle.h). */
#include "volume/volume.h"
#include "base/err.h"
#include "base/wait.h"
#include <string.h>

#define RESERVE_BYTES_MAX (UINT64_C(16) << 20)
#define CHUNK_METADATA_BYTES 16384u /* header, table pages, chunk table */

/* Space of the parts that are in use. */
struct spaces {
    uint32_t parts;
    struct target_space of[PARTS_MAX];
};

/* How many parts keep their bytes on this device; 0 if an earlier part has
 * counted it already. */
static uint32_t
device_parts(struct lsvd_volume *v, const struct spaces *space, uint32_t slot)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!(space->parts & UINT32_C(1) << i) ||
            space->of[i].device != space->of[slot].device)
            continue;
        if (i < slot)
            return 0;
        count++;
    }
    return count;
}

static uint64_t
reserve(const struct target_space *space)
{
    uint64_t bytes = space->total_bytes / 16;

    return bytes < RESERVE_BYTES_MAX ? bytes : RESERVE_BYTES_MAX;
}

/* Those on devices without room for this many dirty blocks and chunks; of each
 * device the first. */
static uint32_t
parts_without_room(struct lsvd_volume *v, const struct spaces *space,
                   uint64_t blocks, uint64_t chunks)
{
    uint64_t copies_max = v->g.is_ec ? 1 + v->g.parity_count : v->g.part_count;
    uint32_t without = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        uint32_t parts = space->parts & UINT32_C(1) << i
                             ? device_parts(v, space, i)
                             : 0;
        uint64_t copies = parts < copies_max ? parts : copies_max, need;

        if (parts == 0)
            continue;
        need = blocks * v->g.block_bytes * copies +
               chunks * CHUNK_METADATA_BYTES * parts + reserve(&space->of[i]);
        if (space->of[i].free_bytes < need)
            without |= UINT32_C(1) << i;
    }
    return without;
}

#define FULL_AGAIN_NS UINT64_C(60000000000)

/* -ENOSPC. Named among the events, now and then. */
static int
refuse(struct lsvd_volume *v, const struct spaces *space, uint32_t without)
{
    uint32_t slot = (uint32_t)__builtin_ctz(without);
    uint64_t now = v->io->ops->now_ns(v->io);
    char letters[PART_LETTERS_BYTES];
    bool tell;

    part_letters(without, letters, sizeof letters);
    pthread_mutex_lock(&v->state_lock);
    tell = v->full_told_ns == 0 || now - v->full_told_ns > FULL_AGAIN_NS;
    v->full_told_ns = tell ? now : v->full_told_ns;
    pthread_mutex_unlock(&v->state_lock);
    if (tell)
        event_note(v, LOG_ERROR_LEVEL, "full", (char)('a' + slot),
                   "no space for what is new on the disk of part %s (%llu MiB "
                   "free, of which some are kept back): writes that need space "
                   "are refused", letters,
                   (unsigned long long)(space->of[slot].free_bytes >> 20));
    return err_set(-ENOSPC, "volume %s: no space left on the disk of part %s",
                   v->meta.name, letters);
}

/* V6. One that can't say is no reason to refuse a write: destage will find out
 * what is wrong with it. */
static void
spaces_get(struct lsvd_volume *v, struct spaces *ret)
{
    ret->parts = 0;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        uint32_t bit = UINT32_C(1) << i;
        struct lease lease;
        int r = -ENOENT;

        lease_get(&v->part_leases, &lease, i, i + 1, false);
        if (v->usable & bit)
            r = target_space(v->part[i].dir, &ret->of[i]);
        lease_put(&v->part_leases, &lease);
        if (r == 0)
            ret->parts |= bit;
        else
            part_suspect(v, i, r);
    }
}

bool
parts_are_to_blame(struct lsvd_volume *v, uint32_t parts, int error)
{
    struct spaces space;

    if (parts == 0 || error == -ENOMEM)
        return false;
    if (error != -ENOSPC)
        return true;
    spaces_get(v, &space);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((space.parts & ~parts & UINT32_C(1) << i) &&
            space.of[i].free_bytes < reserve(&space.of[i]))
            return false;
    }
    return true;
}

static bool
is_allocated(struct lsvd_volume *v, uint64_t first, uint32_t count)
{
    uint64_t offset = first * v->g.block_bytes;
    uint64_t bytes = (uint64_t)count * v->g.block_bytes;

    if (bytes > v->g.volume_bytes - offset)
        bytes = v->g.volume_bytes - offset;
    return volume_is_allocated(v, bytes, offset);
}

int
space_check(struct lsvd_volume *v, uint64_t first, uint32_t count)
{
    struct journal_space journal;
    struct spaces space;
    uint64_t accepted, left;
    uint32_t without;

    accepted = atomic_load(&v->count.write_bytes);
    pthread_mutex_lock(&v->state_lock);
    left = v->free_checked_at;
    pthread_mutex_unlock(&v->state_lock);
    if (accepted < left)
        return 0;
    spaces_get(v, &space);
    journal_space(v->journal, &journal);
    without = parts_without_room(v, &space, journal.live_blocks + count,
                                 journal.dirty_chunks + 2);
    if (without == 0) {
        /* Plenty: look again only after a part of it has been accepted. */
        uint64_t step = UINT64_C(64) << 20;

        while (step > 0 &&
               parts_without_room(v, &space,
                                  journal.live_blocks + count +
                                      step / v->g.block_bytes,
                                  journal.dirty_chunks + 2 +
                                      step / v->g.block_bytes) != 0)
            step /= 2;
        pthread_mutex_lock(&v->state_lock);
        v->free_checked_at = accepted + step;
        pthread_mutex_unlock(&v->state_lock);
        return 0;
    }
    if (is_allocated(v, first, count))
        return 0;
    return refuse(v, &space, without);
}

uint64_t
space_patience_ms_locked(struct lsvd_volume *v)
{
    uint64_t all = (uint64_t)v->config.stall_timeout_s * 1000, gone;

    if (v->stalled_since == 0)
        return UINT64_MAX;
    gone = (v->io->ops->now_ns(v->io) - v->stalled_since) / 1000000;
    return gone < all ? all - gone : 0;
}

/* Until a round has ended well, or badly for too long; for want of space, once:
 * what an earlier one met may be over. Caller holds state_lock. */
static int
wait_for_round(struct lsvd_volume *v)
{
    uint64_t round = v->destage_rounds, left;

    for (;;) {
        int error = atomic_load(&v->destage_error);

        if (atomic_load(&v->stopping) || atomic_load(&v->hurried) ||
            atomic_load(&v->fenced))
            return -ESHUTDOWN;
        if (error == -ENOSPC && v->destage_rounds != round)
            return error;
        if (atomic_load(&v->journal_lost)) /* for good: no round will help */
            return -EIO;
        if (error == 0 && v->destage_rounds != round)
            return 0;
        left = space_patience_ms_locked(v);
        if (error != 0 && error != -ENOSPC && left == 0)
            return error;
        wait_ms(&v->progress, &v->state_lock,
                left < 1000 ? (unsigned)left : 1000);
    }
}

/* Ask for a round, and wait for it. */
static int
await_round(struct lsvd_volume *v)
{
    uint64_t begin;
    int r;

    pthread_mutex_lock(&v->state_lock);
    v->space_waiters++;
    atomic_fetch_add(&v->count.stalled_requests, 1);
    begin = v->io->ops->now_ns(v->io);
    pthread_cond_signal(&v->work);
    r = wait_for_round(v);
    v->space_waiters--;
    pthread_mutex_unlock(&v->state_lock);
    atomic_fetch_add(&v->count.stalled_ns,
                     v->io->ops->now_ns(v->io) - begin);
    return r;
}

bool
space_read_waits(struct lsvd_volume *v)
{
    return v->threaded && await_round(v) == 0;
}

int
space_wait(struct lsvd_volume *v)
{
    int r = 0;

    if (!v->threaded) {
        v->space_waiters++;
        r = destage_batch(v);
        v->space_waiters--;
        if (r == 0)
            return err_set(-EIO, "volume %s: the journal is full and holds "
                           "nothing that can be moved", v->meta.name);
        return r < 0 ? r : 0;
    }
    r = await_round(v);
    if (r < 0)
        return err_set(r, "volume %s: the journal is full, and its data "
                       "can't be moved to the parts: %s", v->meta.name,
                       strerror(-r));
    return 0;
}

/* What a redo record takes of the ring, with the padding that it may need, but
 * without a body. */
#define RECORD_COST (2 * JOURNAL_ALIGN_BYTES)

/* What one more row may cost the ring: it may get a record of its own. */
static uint64_t
row_cost(const struct lsvd_volume *v, const struct journal_space *now)
{
    return RECORD_COST + (now->area_bytes > 0 ? 0 : redo_row_bytes(v));
}

static uint32_t
redo_rows_max(const struct lsvd_volume *v, const struct journal_space *now)
{
    uint64_t bytes = JOURNAL_REDO_BYTES_MAX - 4096u, rows, most;

    most = now->area_bytes > 0 ? now->area_bytes - JOURNAL_ALIGN_BYTES
                               : now->ring_bytes / 16;
    rows = (bytes < most ? bytes : most) / redo_row_bytes(v);
    return rows > 0 ? (uint32_t)rows : 1;
}

uint32_t
space_redo_rows_max(struct lsvd_volume *v)
{
    struct journal_space now;

    if (!v->g.is_ec)
        return UINT32_MAX;
    journal_space(v->journal, &now);
    return redo_rows_max(v, &now);
}

/* Rows of which these blocks are only a part. */
static uint64_t
partial_rows(const struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    uint64_t end = first + count;
    uint32_t k = v->g.data_count;
    uint32_t begin_in = geometry_block_in_chunk(&v->g, first);
    uint32_t end_in = geometry_block_in_chunk(&v->g, end - 1) + 1;
    bool same_row = geometry_chunk_of(&v->g, first) ==
                        geometry_chunk_of(&v->g, end - 1) &&
                    begin_in / k == (end_in - 1) / k;
    bool at_begin = begin_in % k != 0;
    bool at_end = end_in % k != 0 && end_in != v->g.chunk_blocks;

    return same_row ? at_begin || at_end : (uint64_t)at_begin + at_end;
}

/* A ring's end may have to be padded by the longest redo record, and the
 * tail's segment is not ours. */
static uint64_t
slack(const struct lsvd_volume *v, const struct journal_space *now)
{
    uint64_t longest = now->area_bytes > 0 ? 0 : now->ring_bytes / 16;
    uint64_t one = row_cost(v, now);

    return (longest > one ? longest : one) + now->ring_bytes / 128 + 8192;
}

/* What the redo records of all that the ring holds may take. Caller holds
 * state_lock. */
static uint64_t
redo_bytes_max(const struct lsvd_volume *v, const struct journal_space *now,
               uint64_t rows, uint64_t blocks)
{
    uint64_t records = rows < blocks ? rows : blocks, of_chunks;

    if (now->area_bytes > 0) {
        uint32_t rows_max = redo_rows_max(v, now);

        /* one for a chunk, or a few; and those of the batch under way, whose
         * chunks may be written to again meanwhile */
        of_chunks = (now->dirty_chunks + v->admitted_blocks +
                     BATCH_CHUNKS_MAX) * ((v->g.rows - 1) / rows_max + 1);
        if (records > of_chunks)
            records = of_chunks;
    }
    return records * row_cost(v, now);
}

static uint32_t
part_of(uint64_t part, uint64_t whole)
{
    return part < whole ? (uint32_t)(part * FILL_FULL / whole) : FILL_FULL;
}

uint32_t
space_fill(struct lsvd_volume *v)
{
    struct journal_space now;
    uint32_t fill, other;
    uint64_t need;

    journal_space(v->journal, &now);
    need = now.used_bytes;
    if (v->g.is_ec) {
        pthread_mutex_lock(&v->state_lock);
        need += redo_bytes_max(v, &now, v->redo_rows, now.live_blocks) +
                slack(v, &now);
        pthread_mutex_unlock(&v->state_lock);
    }
    fill = part_of(need, v->g.is_ec ? now.ring_bytes
                                    : now.used_bytes + now.free_bytes);
    other = part_of(now.cost, now.cost_max);
    fill = other > fill ? other : fill;
    other = part_of(now.index_blocks, now.index_limit);
    return other > fill ? other : fill;
}

void
space_throttle(struct lsvd_volume *v, uint64_t blocks)
{
    uint64_t now, end;
    uint32_t fill;

    if (!v->threaded || atomic_load(&v->destage_error) != 0)
        return;
    fill = space_fill(v);
    if (fill < FILL_THROTTLED)
        return;
    now = v->io->ops->now_ns(v->io);
    pthread_mutex_lock(&v->state_lock);
    pthread_cond_signal(&v->work); /* it may still rest: a fast burst */
    end = now + throttle_wait_ns(&v->throttle, fill, blocks, now);
    /* A millisecond is less than a timer's and a switch's noise. */
    while (now + 1000000 <= end && !atomic_load(&v->stopping) &&
           !atomic_load(&v->hurried) && atomic_load(&v->destage_error) == 0) {
        wait_ms(&v->progress, &v->state_lock,
                (unsigned)((end - now) / 1000000));
        now = v->io->ops->now_ns(v->io);
    }
    pthread_mutex_unlock(&v->state_lock);
}

int
space_admit(struct lsvd_volume *v, struct admission *a, uint64_t first,
            uint64_t count, uint64_t payload)
{
    struct journal_space now;
    uint64_t blocks, rows, need;
    int r = 0;

    *a = (struct admission){0};
    if (!v->g.is_ec)
        return 0;
    a->rows = partial_rows(v, first, count);
    a->blocks = a->rows > 0 ? a->rows : 1;
    /* header, sums, padding; and at the ring's end as much is lost */
    a->bytes = 2 * (payload + 1536 + 8 * (payload / v->g.block_bytes));
    pthread_mutex_lock(&v->state_lock);
    journal_space(v->journal, &now);
    blocks = now.live_blocks + v->admitted_blocks + a->blocks;
    if (now.dirty_chunks == 0 && v->admitted_blocks == 0)
        v->redo_rows = 0;
    rows = v->redo_rows + a->rows;
    need = redo_bytes_max(v, &now, rows, blocks) + a->bytes +
           v->admitted_bytes + slack(v, &now) + now.held_bytes;
    if (now.ring_bytes - now.used_bytes < need &&
        (now.dirty_chunks > 0 || v->admitted_blocks > 0)) {
        r = -EAGAIN;
    } else {
        v->redo_rows += a->rows;
        v->admitted_blocks += a->blocks;
        v->admitted_bytes += a->bytes;
    }
    pthread_mutex_unlock(&v->state_lock);
    return r;
}

void
space_admitted(struct lsvd_volume *v, const struct admission *a,
               bool appended)
{
    if (!v->g.is_ec)
        return;
    pthread_mutex_lock(&v->state_lock);
    v->admitted_blocks -= a->blocks;
    v->admitted_bytes -= a->bytes;
    if (!appended)
        v->redo_rows -= a->rows < v->redo_rows ? a->rows : v->redo_rows;
    pthread_mutex_unlock(&v->state_lock);
}

void
space_redone(struct lsvd_volume *v, uint64_t rows)
{
    pthread_mutex_lock(&v->state_lock);
    v->redo_rows -= rows < v->redo_rows ? rows : v->redo_rows;
    pthread_mutex_unlock(&v->state_lock);
}

void
space_recovered(struct lsvd_volume *v)
{
    struct journal_space now;

    pthread_mutex_lock(&v->state_lock);
    journal_space(v->journal, &now);
    v->redo_rows = now.live_blocks;
    pthread_mutex_unlock(&v->state_lock);
}
