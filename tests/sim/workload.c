/* workload.c: random requests, small and crowded: few places, much overlap,
 * every alignment. */
#include "dedupes.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void
clip(const struct life *l, uint64_t *offset, uint64_t *count)
{
    if (*offset >= l->volume_bytes)
        *offset = l->volume_bytes - 1;
    if (*count > l->volume_bytes - *offset)
        *count = l->volume_bytes - *offset;
    if (*count == 0)
        *count = 1;
}

static void
choose_range(struct life *l, uint64_t *offset, uint64_t *count)
{
    uint64_t block = l->policy.block_bytes;
    uint64_t stripe = block * (l->policy.ec_data ? l->policy.ec_data : 4);
    uint64_t at = prng_one_in(&l->prng, 4)
                      ? prng_below(&l->prng, l->volume_bytes)
                      : l->hot[prng_below(&l->prng, 4)] +
                            prng_below(&l->prng, 6 * block);

    switch (prng_below(&l->prng, 16)) {
    case 0: /* sectors, whatever the block */
    case 1:
    case 2:
        *offset = at / 512 * 512;
        *count = 512 * prng_between(&l->prng, 1, 9);
        break;
    case 3: /* any bytes */
    case 4:
        *offset = at;
        *count = prng_between(&l->prng, 1, 3 * block);
        break;
    case 5: /* stripes */
    case 6:
    case 7:
        *offset = at / stripe * stripe;
        *count = stripe * prng_between(&l->prng, 1, 3);
        break;
    case 8: /* much */
        *offset = at / block * block;
        *count = prng_between(&l->prng, 1, 32) * 4096;
        break;
    case 9: /* a chunk, or nearly */
        if (prng_one_in(&l->prng, 2)) {
            *offset = at / LIFE_CHUNK_BYTES * LIFE_CHUNK_BYTES;
            *count = LIFE_CHUNK_BYTES;
            break;
        }
        *offset = at / block * block;
        *count = LIFE_CHUNK_BYTES;
        break;
    default: /* blocks */
        *offset = at / block * block;
        *count = block * prng_between(&l->prng, 1, 3);
        break;
    }
    clip(l, offset, count);
}

/* Before a request: what it needs may come back while it is served. */
static void
note_owed(struct life *l)
{
    l->owes_reads = life_parts_suffice(l, false);
    l->owes_writes = life_parts_suffice(l, true);
}

/* False: the request failed and that is the end of this cycle. */
static bool
went_well(struct life *l, const char *what, int r, bool may_fail)
{
    if (r >= 0)
        return true;
    life_event(l, "    -> %s", lsvd_error());
    if (life_is_unknown(l))
        return false;
    if (!may_fail && !simio_halted(l->s) &&
        (strcmp(what, "read") == 0 ? l->owes_reads : l->owes_writes))
        life_fail(l, "%s: unexpected error: %s", what, lsvd_error());
    return false;
}

/* The write that the model knows of has. */
static bool
ended_well(struct life *l, int r, bool may_fail)
{
    model_write_end(l->m, r == 0, false);
    return went_well(l, "write", r, may_fail);
}

static void
request_write(struct life *l, bool may_fail)
{
    uint64_t offset, count, id = model_next_id(l->m);
    unsigned flags = prng_one_in(&l->prng, 10) ? LSVD_FUA : 0;
    int r;

    choose_range(l, &offset, &count);
    if (prng_one_in(&l->prng, 16))
        memset(l->buffer, 0, count);
    else
        model_fill(id, offset, l->buffer, count);
    life_event(l, "write %" PRIu64 ": %" PRIu64 " +%" PRIu64 "%s", id, offset,
               count, flags ? " fua" : "");
    model_write_begin(l->m, offset, count, l->buffer);
    r = lsvd_pwrite(l->v, l->buffer, count, offset, flags);
    model_write_end(l->m, r == 0, flags & LSVD_FUA);
    went_well(l, "write", r, may_fail);
}

void
life_write(struct life *l)
{
    note_owed(l);
    request_write(l, false);
}

static void
request_zero(struct life *l, bool may_fail)
{
    uint64_t offset, count, id = model_next_id(l->m);
    unsigned flags = prng_one_in(&l->prng, 10) ? LSVD_FUA : 0;
    bool is_trim = prng_one_in(&l->prng, 2);
    int r;

    choose_range(l, &offset, &count);
    if (prng_one_in(&l->prng, 20)) {
        offset = 0;
        count = l->volume_bytes;
    }
    life_event(l, "%s %" PRIu64 ": %" PRIu64 " +%" PRIu64 "%s",
               is_trim ? "trim" : "zero", id, offset, count,
               flags ? " fua" : "");
    model_write_begin(l->m, offset, count, NULL);
    r = is_trim ? lsvd_trim(l->v, count, offset, flags)
                : lsvd_zero(l->v, count, offset, flags);
    model_write_end(l->m, r == 0, flags & LSVD_FUA);
    went_well(l, is_trim ? "trim" : "zero", r, may_fail);
}

static void
request_read(struct life *l, bool may_fail)
{
    uint64_t offset, count;
    char why[1024];
    int r;

    choose_range(l, &offset, &count);
    l->rules.in_client_read = true;
    r = lsvd_pread(l->v, l->buffer, count, offset);
    l->rules.in_client_read = false;
    if (r < 0) {
        life_event(l, "read %" PRIu64 " +%" PRIu64, offset, count);
        went_well(l, "read", r, may_fail);
    } else if (!model_check_read(l->m, offset, count, l->buffer, why,
                                 sizeof why)) {
        life_fail(l, "read %" PRIu64 " +%" PRIu64 ": %s", offset, count, why);
    }
}

static void
request_flush(struct life *l, bool may_fail)
{
    int r;

    life_event(l, "flush");
    r = lsvd_flush(l->v);
    if (went_well(l, "flush", r, may_fail))
        model_flushed(l->m);
}

static void
request_destage(struct life *l, bool may_fail)
{
    uint64_t steps = prng_between(&l->prng, 1, 4);

    for (uint64_t i = 0; i < steps; i++) {
        int r;

        life_event(l, "destage");
        note_owed(l);
        life_mirror_destage(l, true);
        r = lsvd_destage_step(l->v);
        life_mirror_destage(l, false);
        if (!went_well(l, "destage", r, may_fail) || r == 0)
            return;
    }
}

/* A chunk in order, as a copy of an image comes; most of the time one that
 * holds nothing, whose bytes then go past the journal. Now and then the stream
 * ends early, is disturbed, or comes back to where it was. */
static void
request_stream(struct life *l, bool may_fail)
{
    uint64_t chunks = (l->volume_bytes + LIFE_CHUNK_BYTES - 1) /
                      LIFE_CHUNK_BYTES;
    uint64_t at = prng_below(&l->prng, chunks) * LIFE_CHUNK_BYTES;
    uint64_t end = at + LIFE_CHUNK_BYTES, count, id;

    if (end > l->volume_bytes)
        end = l->volume_bytes;
    if (!prng_one_in(&l->prng, 4)) {
        life_event(l, "trim for a stream: %" PRIu64 " +%" PRIu64, at,
                   end - at);
        model_write_begin(l->m, at, end - at, NULL);
        if (!ended_well(l, lsvd_trim(l->v, end - at, at, 0), may_fail))
            return;
        request_destage(l, may_fail);
    }
    l->in_stream = true;
    while (at < end && !l->failed && !simio_halted(l->s)) {
        count = prng_one_in(&l->prng, 8) ? prng_between(&l->prng, 1, 9) * 512
                                         : prng_between(&l->prng, 1, 8) *
                                               16384;
        if (count > end - at)
            count = end - at;
        id = model_next_id(l->m);
        model_fill(id, at, l->buffer, count);
        life_event(l, "stream %" PRIu64 ": %" PRIu64 " +%" PRIu64, id, at,
                   count);
        model_write_begin(l->m, at, count, l->buffer);
        if (!ended_well(l, lsvd_pwrite(l->v, l->buffer, count, at, 0),
                        may_fail) ||
            prng_one_in(&l->prng, 24))
            break;
        if (!prng_one_in(&l->prng, 12))
            at += count;
        if (prng_one_in(&l->prng, 10))
            life_request(l, may_fail);
    }
    l->in_stream = false;
}

struct extents {
    struct life *l;
    uint64_t next, end;
};

static int
one_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct extents *e = ctx;

    if (offset != e->next || count == 0 || count > e->end - offset) {
        life_fail(e->l, "extents: %" PRIu64 " +%" PRIu64 " where %" PRIu64
                  " was next", offset, count, e->next);
        return 1;
    }
    e->next += count;
    if (!is_data && !model_may_be_zero(e->l->m, offset, count)) {
        life_fail(e->l, "extents: %" PRIu64 " +%" PRIu64
                  " called a hole", offset, count);
        return 1;
    }
    return 0;
}

static void
request_extents(struct life *l, bool may_fail)
{
    struct extents e = {.l = l};
    uint64_t offset, count;
    int r;

    choose_range(l, &offset, &count);
    e.next = offset;
    e.end = offset + count;
    r = lsvd_extents(l->v, count, offset, one_extent, &e);
    if (went_well(l, "extents", r, may_fail) && !l->failed && e.next != e.end)
        life_fail(l, "extents: end at %" PRIu64 " instead of %" PRIu64,
                  e.next, e.end);
}

static void
request_copy(struct life *l, bool may_fail)
{
    uint64_t offset, count;
    const uint8_t *bytes;

    choose_range(l, &offset, &count);
    if (l->volume_bytes < 2 * l->policy.block_bytes)
        return;
    dedupes_choose(l, &offset, &count, &bytes);
    if (count == 0)
        return;
    life_event(l, "write of twin's: %" PRIu64 " +%" PRIu64, offset, count);
    model_write_begin(l->m, offset, count, bytes);
    ended_well(l, lsvd_pwrite(l->v, bytes, count, offset, 0), may_fail);
}

static void
request_dedupe(struct life *l, bool may_fail)
{
    int r = dedupes_run(l, NULL, NULL);

    /* a part that fails, or is away, ends a run, or the directory that the
     * indexes are in */
    went_well(l, "dedupe", r, may_fail || l->policy.missing || l->dead ||
              r == -EAGAIN ||
              (r == -EIO && !life_parts_all_in_sync(l)));
}

void
life_request(struct life *l, bool may_fail)
{
    uint64_t offset, count;

    note_owed(l);
    if (l->policy.dedupe && prng_one_in(&l->prng, 3)) {
        if (prng_one_in(&l->prng, 6))
            request_dedupe(l, may_fail);
        else
            request_copy(l, may_fail);
        return;
    }
    if (l->policy.stream && !l->in_stream && prng_one_in(&l->prng, 4)) {
        request_stream(l, may_fail);
        return;
    }
    switch (prng_below(&l->prng, 20)) {
    case 0:
    case 1:
    case 2:
        request_read(l, may_fail);
        break;
    case 3:
    case 4:
        request_zero(l, may_fail);
        break;
    case 5:
    case 6:
        request_flush(l, may_fail);
        break;
    case 7:
    case 8:
    case 9:
        request_destage(l, may_fail);
        break;
    case 10:
        if (prng_one_in(&l->prng, 2)) {
            request_extents(l, may_fail);
            break;
        }
        choose_range(l, &offset, &count);
        went_well(l, "cache", lsvd_cache(l->v, count, offset), may_fail);
        break;
    default:
        request_write(l, may_fail);
        break;
    }
}
