/* import_diff.c: a stream of lsvd_export_diff is applied to a volume.
 *
 * Happy path: the header is read -> the volume is opened, and is what the
 *   stream leads from -> it gets the size -> a successor is made, if there is
 *   to be a snapshot -> records, as they come -> the end was right -> the
 *   snapshot, whose policy says of which one it is a copy.
 * (IM1) The state that a stream leads from is a snapshot, which never changes;
 *       its UUID names it. So the volume is in that state if it says nothing
 *       itself, not even a size, and its newest snapshot is that one, or was
 *       made by an import that ended there (source-uuid).
 * (IM2) Nothing of a record is written before its sums were right; and only
 *       with a right end is there a snapshot.
 * Fails, or is interrupted: the volume is rolled back to that snapshot; without
 *   one it is empty again, and has its old size.
 * (IM3) That is done only to a volume which was found untouched when it was
 *       opened, and held open since. To be resized it is closed: if it is not
 *       as it was after that, somebody else has come, and it is left to him.
 * Killed: it holds a part of it, and the next import says that it has been
 *   written. */
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "volume/diff_format.h"
#include "volume/find.h"
#include "volume/parent.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOLD_TRIES 15u /* of 20 s */

typedef unsigned long long ull;

struct import {
    const struct lsvd_env *env;
    const char *name;
    const struct lsvd_diff_source *in;
    struct diff_header header;
    struct diff_stream stream;
    char from[VOLUME_NAME_BYTES_MAX + 1]; /* ours; "": none */
    char to[VOLUME_NAME_BYTES_MAX + 1];   /* the same */
    uint8_t *data;               /* owned; DIFF_DATA_MAX */
    struct lsvd_volume *v;       /* open for writing, or NULL */
    struct lsvd_volume *next;    /* its successor, or NULL */
    uint64_t size_bytes;         /* that it had, … */
    struct uuid uuid;            /* … and its own */
    bool is_resized;             /* perhaps */
    bool is_changed;             /* by us, and by nobody else: IM3 */
};

/* ---- the stream ---- */

static int
take(struct import *y, void *to, size_t count)
{
    size_t got = 0;
    int r = y->in->read(y->in->ctx, to, count, &got);

    if (r == -EINTR)
        return err_set(r, "interrupted");
    if (r < 0)
        return err_set(r, "the stream can't be read: %s", strerror(-r));
    if (got < count)
        return err_set(-EBADMSG, "the stream ends too early, after %llu "
                       "records", (ull)y->stream.records);
    return 0;
}

/* Nothing may follow the end. */
static int
take_end(struct import *y)
{
    uint8_t byte;
    size_t got = 0;
    int r = y->in->read(y->in->ctx, &byte, 1, &got);

    if (r == -EINTR)
        return err_set(r, "interrupted");
    if (r < 0)
        return err_set(r, "the stream can't be read: %s", strerror(-r));
    return got == 0 ? 0 : err_set(-EBADMSG, "the stream is damaged: something "
                                  "follows its end");
}

/* "vm1@monday" of the stream is our "copy@monday". */
static int
name_ours(const struct import *y, const char *theirs,
          char ret[VOLUME_NAME_BYTES_MAX + 1])
{
    const char *at = strchr(theirs, '@');
    int bytes;

    ret[0] = 0;
    if (!at)
        return 0;
    bytes = snprintf(ret, VOLUME_NAME_BYTES_MAX + 1, "%s%s", y->name, at);
    return bytes <= VOLUME_NAME_BYTES_MAX
               ? 0
               : err_set(-EINVAL, "volume %s: with %s its name is too long",
                         y->name, at);
}

static int
take_header(struct import *y)
{
    uint8_t bytes[DIFF_HEADER_BYTES];
    int r = take(y, bytes, sizeof bytes);

    if (r == 0)
        r = diff_header_decode(bytes, &y->header, &y->stream);
    if (r == 0)
        r = name_ours(y, y->header.from, y->from);
    return r < 0 ? r : name_ours(y, y->header.to, y->to);
}

static int
apply(struct import *y, const struct diff_record *record)
{
    int r;

    if (record->type == DIFF_ZERO) {
        y->is_changed = true;
        return lsvd_zero(y->v, record->count, record->offset, 0);
    }
    r = take(y, y->data, (size_t)record->count);
    if (r < 0)
        return r;
    if (sum_bytes(y->data, (size_t)record->count) != record->data_sum)
        return err_set(-EBADMSG, "the stream is damaged: the data of its "
                       "record %llu", (ull)y->stream.records);
    y->is_changed = true;
    return lsvd_pwrite(y->v, y->data, (size_t)record->count, record->offset,
                       0);
}

static int
apply_all(struct import *y)
{
    struct diff_record record = {.type = DIFF_ZERO};
    uint8_t bytes[DIFF_RECORD_BYTES];
    int r = 0;

    while (r == 0) {
        r = take(y, bytes, sizeof bytes);
        if (r == 0)
            r = diff_record_decode(bytes, &y->stream, &record);
        if (r == 0 && record.type == DIFF_END)
            return take_end(y);
        if (r == 0)
            r = apply(y, &record);
    }
    return r;
}

/* ---- is it what the stream leads from? ---- */

static int
refuse_own(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    const struct import *y = ctx;

    (void)first;
    (void)count;
    if (is == OWN_ABSENT)
        return 0;
    if (is == OWN_UNKNOWN)
        return err_set(-EIO, "volume %s: whether it was written since %s can't "
                       "be read now (lsvd status)", y->name, y->from);
    return err_set(-EEXIST, "volume %s was written since %s: go back to that "
                   "first (lsvd snapshot rollback %s)", y->name, y->from,
                   y->from);
}

/* IM1: nothing was written; blocks: so many of its beginning count. */
static int
check_untouched(struct import *y, uint64_t blocks)
{
    return volume_own(y->v, 0, blocks, refuse_own, y);
}

static int
check_from(struct import *y)
{
    const struct lsvd_volume *v = y->v, *base = v->parent;
    const char *newest = base ? meta_stored_name(&base->meta) : NULL;

    if (!base || !volume_is_clone(v) || !base->meta.successor)
        return err_set(-ENOENT, "volume %s has no snapshot %s, to which the "
                       "stream adds", y->name, y->from);
    if (strcmp(newest, y->from) != 0)
        return err_set(-EINVAL, "volume %s goes on from %s, and the stream "
                       "from %s", y->name, newest, y->from);
    if (!uuid_equal(&y->header.from_uuid, &base->meta.uuid) &&
        !uuid_equal(&y->header.from_uuid, &base->meta.source_uuid))
        return err_set(-EINVAL, "%s is not known to hold what %s does, from "
                       "which the stream goes on: it was not made by an import "
                       "of that", y->from, y->header.from);
    if (v->meta.size_bytes != base->meta.size_bytes ||
        v->meta.overlap_bytes != base->meta.size_bytes)
        return err_set(-EEXIST, "volume %s was resized since %s: go back to "
                       "that first (lsvd snapshot rollback %s)", y->name,
                       y->from, y->from);
    return check_untouched(y, geometry_block_count(&v->g));
}

static int
refuse_data(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    const struct import *y = ctx;

    (void)offset;
    (void)count;
    return is_data ? err_set(-EEXIST, "volume %s holds something: the stream "
                             "is of all that %s holds, and is for an empty "
                             "volume", y->name, y->header.to)
                   : 0;
}

static int
check_base(struct import *y)
{
    struct lsvd_volume *v = y->v;

    if (!lsvd_can_write(v))
        return err_set(-EROFS, "volume %s is read-only, or can't be written "
                       "now", y->name);
    if (v->append_only)
        return err_set(-EPERM, "volume %s is append-only: what goes wrong "
                       "could not be taken back", y->name);
    if (y->to[0] && volume_has_name(v->io, &v->log, &v->config, y->to))
        return err_set(-EEXIST, "there is a snapshot %s already: was the "
                       "stream imported before?", y->to);
    if (y->from[0])
        return check_from(y);
    return lsvd_extents(v, v->g.volume_bytes, 0, refuse_data, y);
}

static int
open_volume(struct import *y)
{
    return lsvd_open(y->env, y->name, 0, &y->v);
}

static int
close_volume(struct import *y)
{
    struct lsvd_volume *v = y->v;

    y->v = NULL;
    return v ? lsvd_close(v) : 0;
}

/* What is cut off may leave zeroes in the last block. */
static int
check_resized(struct import *y)
{
    const struct lsvd_volume *v = y->v;
    uint64_t size = v->meta.size_bytes;

    if (!uuid_equal(&v->meta.uuid, &y->uuid) ||
        size != y->header.size_bytes || v->append_only || !lsvd_can_write(v))
        return err_set(-EBUSY, "volume %s is being changed by somebody else",
                       y->name);
    if (y->from[0])
        return check_untouched(y, size / v->g.block_bytes);
    return lsvd_extents(y->v, size, 0, refuse_data, y);
}

/* IM3. */
static int
reopen(struct import *y)
{
    int r = open_volume(y);

    if (r == 0)
        r = check_resized(y);
    y->is_changed = r == 0;
    return r;
}

static int
fit_size(struct import *y)
{
    int r;

    y->size_bytes = y->v->meta.size_bytes;
    y->uuid = y->v->meta.uuid;
    if (y->header.size_bytes == y->size_bytes)
        return 0;
    r = close_volume(y);
    if (r < 0)
        return r;
    y->is_resized = true;
    r = lsvd_resize(y->env, y->name, y->header.size_bytes, true);
    return r < 0 ? r : reopen(y);
}

static int
prepare(struct import *y)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];
    int r = meta_check_name(y->name);

    if (r < 0)
        return r;
    meta_base_name(y->name, base);
    if (strcmp(base, y->name) != 0)
        return err_set(-EINVAL, "%s is a snapshot: a stream is imported into "
                       "its volume", y->name);
    r = take_header(y);
    if (r == 0)
        r = mem_new_aligned(DIFF_DATA_MAX, &y->data);
    if (r == 0)
        r = open_volume(y);
    if (r == 0)
        r = check_base(y);
    if (r == 0 && (y->from[0] || y->to[0])) /* also for a rollback */
        r = snapshot_check_state(y->v);
    if (r == 0)
        r = fit_size(y);
    if (r == 0 && y->to[0])
        r = lsvd_snapshot_begin(y->v, y->env, y->to, &y->next);
    return r;
}

/* ---- the end, well or not ---- */

/* What may have taken hours is not given up because somebody else changes
 * volumes in the same directories. */
static int
hold(struct import *y)
{
    int r = lsvd_snapshot_hold(y->next);

    for (unsigned i = 1; i < HOLD_TRIES && r == -EBUSY; i++)
        r = lsvd_snapshot_hold(y->next);
    return r;
}

static int
finish(struct import *y)
{
    int r = lsvd_flush(y->v);

    if (r == 0 && y->next)
        r = hold(y);
    if (r == 0 && y->next) {
        y->v->imported = y->header.to_uuid;
        r = lsvd_snapshot_commit(y->v, y->next, y->to);
    }
    if (r < 0)
        return r;
    y->is_changed = false; /* from here on it is there to stay */
    if (y->next) {
        y->v = y->next;
        y->next = NULL;
        (void)lsvd_snapshot_finish(y->v); /* or who opens it next */
    }
    return close_volume(y);
}

static int
empty_again(struct import *y)
{
    uint64_t size = y->v ? y->v->meta.size_bytes : y->size_bytes;
    int r = y->v ? lsvd_trim(y->v, size, 0, LSVD_FUA) : 0;

    if (r == 0)
        r = close_volume(y);
    return r < 0 ? r : lsvd_resize(y->env, y->name, y->size_bytes, true);
}

static int
take_back(struct import *y)
{
    if (!y->from[0])
        return empty_again(y);
    (void)close_volume(y); /* all of that is given up */
    return lsvd_snapshot_rollback(y->env, y->from);
}

/* The size may be another one, and it was not found untouched. */
static int
take_size_back(struct import *y)
{
    int r = y->v ? check_resized(y) : reopen(y);

    if (r == 0)
        return take_back(y);
    if (y->v && y->v->meta.size_bytes == y->size_bytes)
        return 0; /* it was not */
    return err_wrap(r, "its size may be that of the stream");
}

/* r, with its text, is why. */
static int
undo(struct import *y, int r)
{
    char text[512];
    int undone = 0;

    snprintf(text, sizeof text, "%s", err_text());
    if (y->next)
        lsvd_snapshot_cancel(y->next, y->env);
    y->next = NULL;
    if (y->is_changed)
        undone = take_back(y);
    else if (y->is_resized)
        undone = take_size_back(y);
    if (undone < 0)
        (void)err_set(r, "%s; and volume %s is not as it was%s: %s", text,
                      y->name, y->is_changed ? ", but holds a part of the "
                      "stream" : "", lsvd_error());
    else
        (void)err_set(r, "%s", text);
    if (y->v) {
        snprintf(text, sizeof text, "%s", err_text());
        (void)close_volume(y);
        (void)err_set(r, "%s", text);
    }
    return r;
}

int
lsvd_import_diff(const struct lsvd_env *env, const char *name,
                 const struct lsvd_diff_source *in,
                 struct lsvd_diff_totals *ret)
{
    struct import y = {.env = env, .name = name, .in = in};
    int r = prepare(&y);

    if (r == 0)
        r = apply_all(&y);
    if (r == 0)
        r = finish(&y);
    if (r < 0)
        r = undo(&y, r);
    free(y.data);
    *ret = (struct lsvd_diff_totals){y.stream.records, y.stream.data_bytes,
                                     y.stream.zero_bytes};
    return r;
}
