/* write.c: write, flush, trim and write-zeroes.
 *
 * Happy path: exclusive lease on the blocks -> partial blocks completed from
 * what they hold -> sum of each -> journal record -> RAM -> answer. The record
 * holds whole blocks always, so a block is never half old and half new.
 * Large writes into new chunks go straight to the parts instead (bypass.h).
 * Under the lease, who reads the volume as it was keeps the old (moment.h).
 * (W1) Two requests on one block go one after the other (the lease), also
 *      when they touch different bytes of it.
 * (W2) RAM changes only after the record is in the journal, in every copy of
 *      it that a later start may take (JF3).
 * Fails: no space on the parts -> -ENOSPC, nothing changed. Journal full ->
 * wait for destage (space_wait), or its error. */
#include "volume/bypass.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "volume/moment.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int
check_writable(struct lsvd_volume *v, uint64_t count, uint64_t offset)
{
    int r = volume_check_range(v, count, offset);

    if (r == 0)
        r = volume_check_awake(v);
    if (r < 0)
        return r;
    if (!lsvd_can_write(v))
        return err_set(-EROFS, "volume %s is %s", v->meta.name,
                       v->client_read_only
                           ? "read-only"
                           : "served read-only: too few of its parts are "
                             "in sync");
    return 0;
}

/* append-only: what was written once stays (lsvd set). Asked for the whole
 * request, so that it is refused as a whole, and again under the lease on the
 * blocks: of two who write to one block only the first may. */
static int
check_append_only(struct lsvd_volume *v, uint64_t count, uint64_t offset);

static int
append(struct lsvd_volume *v, uint64_t first, uint32_t count,
       const uint64_t *sums, const void *data)
{
    int r;

    for (;;) {
        struct admission a;

        r = space_admit(v, &a, first, count,
                        (uint64_t)count * v->g.block_bytes);
        if (r == 0) {
            r = journal_append_write(v->journal, first, count, sums, data);
            space_admitted(v, &a, r == 0);
        }
        if (r != -EAGAIN)
            return r < 0 ? journal_failed(v, r) : journal_await(v);
        r = space_wait(v);
        if (r < 0)
            return r;
    }
}

/* Also when it failed: the journal may have what it will say from now on, and
 * RAM must not say otherwise until it forgets. */
static void
drop_old(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    cache_drop(v->cache, first, first + count);
}

int
volume_write_blocks(struct lsvd_volume *v, uint64_t first, uint32_t count,
                    const uint8_t *data)
{
    uint64_t sums[JOURNAL_RECORD_PAYLOAD_MAX / BLOCK_BYTES_MIN];
    enum bypass_result bypassed = BYPASS_NOT;
    size_t bytes = v->g.block_bytes;
    int r;

    assert((size_t)count * bytes <= JOURNAL_RECORD_PAYLOAD_MAX);
    for (uint32_t i = 0; i < count; i++)
        sums[i] = sum_block(volume_block_seed(v, first + i), data + i * bytes,
                            bytes);
    r = space_check(v, first, count);
    if (r == 0)
        bypassed = bypass_write(v, first, count, sums, data);
    if (bypassed == BYPASS_CONFLICT)
        return -EAGAIN;
    if (bypassed == BYPASS_DONE)
        r = journal_await(v);
    else if (r == 0)
        r = append(v, first, count, sums, data);
    if (r < 0) {
        drop_old(v, first, count);
        return r;
    }
    volume_cache(v, first, count, data, true);
    return 0;
}

/* Bytes [at, at + count) of the leased block: complete it, then write it. */
static int
write_within_block(struct lsvd_volume *v, uint64_t block, size_t at,
                   size_t count, const uint8_t *from)
{
    uint8_t *bounce;
    int r = 0;

    r = mem_new_aligned(v->g.block_bytes, &bounce);
    if (r < 0)
        return r;
    if (!cache_get(v->cache, block, 0, v->g.block_bytes, bounce))
        r = volume_fetch(v, block, 1, bounce);
    if (r == 0) {
        if (from)
            memcpy(bounce + at, from, count);
        else
            memset(bounce + at, 0, count);
        r = volume_write_blocks(v, block, 1, bounce);
    }
    free(bounce);
    return r;
}

/* One piece: at most a record, or part of one block (then from may be NULL:
 * zeroes). */
static int
write_leased(struct lsvd_volume *v, const uint8_t *from, size_t count,
             uint64_t offset)
{
    size_t bytes = v->g.block_bytes;
    bool is_within = offset % bytes != 0 || count < bytes;
    uint32_t blocks = is_within ? 1 : (uint32_t)(count / bytes);
    uint64_t first = offset / bytes;
    struct lease lease;
    int r;

    lease_get(&v->leases, &lease, first, first + blocks, true);
    r = check_append_only(v, count, offset); /* still? */
    if (r == 0)
        moments_keep(v, first, blocks);
    if (r == 0)
        r = is_within ? write_within_block(v, first, offset % bytes, count,
                                           from)
                      : volume_write_blocks(v, first, blocks, from);
    lease_put(&v->leases, &lease);
    return r;
}

static int
write_piece(struct lsvd_volume *v, const uint8_t *from, size_t count,
            uint64_t offset)
{
    uint64_t first = offset / v->g.block_bytes;
    uint64_t end = (offset + count - 1) / v->g.block_bytes + 1;
    int r;

    while ((r = write_leased(v, from, count, offset)) == -EAGAIN) {
        r = bypass_settle(v, first, end - first);
        if (r < 0)
            break;
    }
    return r;
}

/* The largest piece at offset that write_piece takes. */
static size_t
piece_bytes(struct lsvd_volume *v, size_t count, uint64_t offset)
{
    size_t bytes = v->g.block_bytes, at = offset % bytes;

    if (at != 0 || count < bytes)
        return bytes - at < count ? bytes - at : count;
    if (count > journal_payload_max(v->journal))
        count = journal_payload_max(v->journal);
    return count / bytes * bytes;
}

static int
sync_journal(struct lsvd_volume *v)
{
    int r = journal_sync(v->journal);

    return r < 0 ? journal_failed(v, r) : journal_await(v);
}

/* Everything that was answered becomes durable. */
static int
sync_all(struct lsvd_volume *v)
{
    int r = bypass_flush(v);

    return r < 0 ? r : sync_journal(v);
}

static int
finish(struct lsvd_volume *v, unsigned flags)
{
    return flags & LSVD_FUA ? sync_all(v) : 0;
}

static int
serve_write(struct lsvd_volume *v, const void *from, size_t count,
            uint64_t offset, unsigned flags)
{
    const uint8_t *at = from;
    int r;

    r = check_writable(v, count, offset);
    if (r == 0)
        r = check_append_only(v, count, offset);
    if (r < 0)
        return r;
    atomic_fetch_add(&v->count.writes, 1);
    atomic_fetch_add(&v->count.write_bytes, count);
    while (count > 0) {
        size_t n = piece_bytes(v, bypass_cut(v, count, offset), offset);
        uint32_t blocks = (uint32_t)(n / v->g.block_bytes);

        space_throttle(v, blocks + 1);
        if (blocks > 0 && !(flags & LSVD_FUA))
            bypass_prepare(v, offset / v->g.block_bytes, blocks);
        r = write_piece(v, at, n, offset);
        if (r < 0)
            return r;
        at += n;
        offset += n;
        count -= n;
    }
    return finish(v, flags);
}

int
lsvd_pwrite(struct lsvd_volume *v, const void *from, size_t count,
            uint64_t offset, unsigned flags)
{
    uint64_t begin = v->io->ops->now_ns(v->io);

    return volume_request_ended(v, &v->count.write, begin,
                                serve_write(v, from, count, offset, flags),
                                &v->count.write_errors);
}

static int
serve_flush(struct lsvd_volume *v)
{
    int r = volume_check_awake(v);

    return r == 0 && v->attached ? sync_all(v) : r;
}

int
lsvd_flush(struct lsvd_volume *v)
{
    uint64_t begin = v->io->ops->now_ns(v->io);

    atomic_fetch_add(&v->count.flushes, 1);
    return volume_request_ended(v, &v->count.flush, begin,
                                serve_flush(v),
                                &v->count.write_errors);
}

/* The most that one ZERO record takes, ending at a chunk's end if it can, so
 * that whole chunks get one mark each. */
static uint64_t
zero_piece(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    uint64_t max = (uint64_t)JOURNAL_ZERO_CHUNKS_MAX * v->g.chunk_blocks;
    uint64_t in_chunk = first % v->g.chunk_blocks;

    return count < max - in_chunk ? count : max - in_chunk;
}

int
volume_zero_blocks(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    uint64_t piece = zero_piece(v, first, count);
    int r;

    while (count > 0) {
        struct admission a;

        r = space_admit(v, &a, first, piece, 0);
        if (r == 0) {
            r = journal_append_zero(v->journal, first, piece,
                                    journal_has_chunk, v);
            space_admitted(v, &a, r == 0);
        }
        if (r == -EFBIG && piece > 1) { /* too much for the index at once */
            piece /= 2;
            continue;
        }
        if (r == -EAGAIN) {
            r = space_wait(v);
            if (r < 0)
                return r;
            continue;
        }
        r = r < 0 ? journal_failed(v, r) : journal_await(v);
        drop_old(v, first, piece);
        if (r < 0)
            return r;
        first += piece;
        count -= piece;
        piece = zero_piece(v, first, count);
    }
    return 0;
}

/* From the beginning of a block on, the whole blocks; also the last of the
 * volume, as what lies behind the end is zero anyway. Only under the lease is
 * it known whether that is the end yet: the volume may have grown, and somebody
 * have written there. */
static int
zero_to(struct lsvd_volume *v, uint64_t end, uint64_t *offset)
{
    uint64_t bytes = v->g.block_bytes, first = *offset / bytes;
    uint64_t blocks = (end - *offset + bytes - 1) / bytes, count;
    struct lease lease;
    int r;

    moments_keep_data(v, first, blocks);
    lease_get(&v->leases, &lease, first, first + blocks, true);
    while (bypass_has(v, first, blocks)) { /* BY1 */
        lease_put(&v->leases, &lease);
        r = bypass_settle(v, first, blocks);
        if (r < 0)
            return r;
        lease_get(&v->leases, &lease, first, first + blocks, true);
    }
    if (end != v->g.volume_bytes)
        blocks = (end - *offset) / bytes;
    count = blocks * bytes < end - *offset ? blocks * bytes : end - *offset;
    r = check_append_only(v, count, *offset);
    if (r == 0)
        r = volume_zero_blocks(v, first, blocks);
    lease_put(&v->leases, &lease);
    *offset += count;
    return r;
}

static int
serve_zero(struct lsvd_volume *v, uint64_t count, uint64_t offset,
           unsigned flags)
{
    uint64_t bytes = v->g.block_bytes, end = offset + count;
    int r;

    r = check_writable(v, count, offset);
    if (r == 0)
        r = check_append_only(v, count, offset);
    if (r < 0 || count == 0)
        return r;
    atomic_fetch_add(&v->count.writes, 1);
    if (offset % bytes != 0) {
        uint64_t n = bytes - offset % bytes;

        if (n > end - offset)
            n = end - offset;
        r = write_piece(v, NULL, (size_t)n, offset);
        if (r < 0)
            return r;
        offset += n;
    }
    if (end - offset >= bytes ||
        (end > offset && end == v->g.volume_bytes)) {
        r = zero_to(v, end, &offset);
        if (r < 0)
            return r;
    }
    if (end > offset)
        r = write_piece(v, NULL, (size_t)(end - offset), offset);
    return r < 0 ? r : finish(v, flags);
}

int
lsvd_zero(struct lsvd_volume *v, uint64_t count, uint64_t offset,
          unsigned flags)
{
    uint64_t begin = v->io->ops->now_ns(v->io);

    return volume_request_ended(v, &v->count.trim, begin,
                                serve_zero(v, count, offset, flags),
                                &v->count.write_errors);
}

int
lsvd_trim(struct lsvd_volume *v, uint64_t count, uint64_t offset,
          unsigned flags)
{
    return lsvd_zero(v, count, offset, flags);
}

static int
refuse_data(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct lsvd_volume *v = ctx;

    (void)count;
    if (!is_data)
        return 0;
    return err_set(-EPERM,
                   "volume %s is append-only: the block at %llu was written "
                   "before",
                   v->meta.name, (unsigned long long)offset);
}

static int
check_append_only(struct lsvd_volume *v, uint64_t count, uint64_t offset)
{
    if (!v->append_only || count == 0)
        return 0;
    return lsvd_extents(v, count, offset, refuse_data, v);
}
