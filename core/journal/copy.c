/* copy.c: a second copy of a journal is made equal to the first: before either
 * is used (follow, clone), or while the first is (fill).
 *
 * (Y1) The ring and the area come before the superblocks: a copy counts by its
 *      superblock.
 * (Y2) What lies at the end of the chain is broken: a record that only the
 *      copy had there could follow what was just copied (records behind a gap
 *      are not answered writes, and must not come back to life). In a fill the
 *      end moves; where something is appended, nothing older can follow it.
 * Stale records elsewhere in the copy can do nothing: a record counts only
 * behind the one whose sum it holds (J2).
 * (Y3) What is copied while others append lies before every append that is
 *      under way, so nobody writes it; the tail does not move meanwhile (both
 *      are the role's), so nobody reuses it. What is appended later is copied
 *      later, or goes to both (join).
 * (Y4) join comes between two appends: one that had its place before it is
 *      waited for and copied, one that gets it later goes to the copy as well.
 *      So none is missed, and what is copied is never newer than what it
 *      overwrites.
 * (Y5) Bodies in the area are the role's, too: those that count are copied at
 *      the end of a fill, which the role runs itself.
 * Fails: the copy is what it was, or has no valid superblock, or is cut short
 * as by a power cut; never more. */
#include "journal/state.h"

#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_BYTES (1u << 20)
#define FILL_REST_PART 64 /* of the ring may be left to journal_fill_end */
#define FILL_SYNC_BYTES (16u << 20) /* so that its sync is short */
#define FILL_LAPS_MAX 2 /* whoever appends faster than we copy */

static int
copy_range(struct object *from, struct object *to, uint64_t at, uint64_t end)
{
    uint8_t *slice;
    int r = mem_new_aligned(SLICE_BYTES, &slice);

    if (r < 0)
        return r;
    for (; r == 0 && at < end; at += SLICE_BYTES) {
        size_t bytes = end - at < SLICE_BYTES ? (size_t)(end - at)
                                              : SLICE_BYTES;

        r = object_read(from, slice, bytes, at);
        if (r == 0)
            r = object_write(to, slice, bytes, at);
    }
    free(slice);
    return r;
}

/* The superblocks as they are, first the pair that is not in force there. */
static int
copy_supers(const struct journal *j, struct object *to, unsigned first_pair)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < 2; i++) {
        unsigned pair = (first_pair + i) % 2;

        for (unsigned copy = 2 * pair; r == 0 && copy < 2 * pair + 2; copy++) {
            uint64_t at = super_at(j->file_bytes, copy);

            r = copy_range(j->object, to, at, at + SUPER_BYTES);
        }
        if (r == 0)
            r = object_sync(to);
    }
    return r;
}

static int
copy_area(const struct journal *j, struct object *to, uint64_t used)
{
    return copy_range(j->object, to, area_at(j), area_at(j) + used);
}

/* The next record would begin where the first live one does. */
static bool
is_full(const struct journal *j, const struct journal_end *end)
{
    return end->at == file_at(j, j->tail.pos) && end->seq >= j->tail.seq;
}

int
journal_follow(struct journal *j, const struct journal_end *end,
               struct journal *to, const struct journal_end *to_end)
{
    static const uint8_t nothing[JOURNAL_ALIGN_BYTES];
    uint64_t ring_end = RING_AT + j->ring_bytes;
    int r = 0;

    assert(!j->started && !to->started);
    if (j->file_bytes != to->file_bytes || j->salt != to->salt ||
        j->block_bytes != to->block_bytes)
        return err_set(-EINVAL, "%s: not a copy of %s", to->path, j->path);
    /* Y1: while the area is copied, what lies there must not count. */
    if (j->area_bytes > 0 && to->redo_seq != j->redo_seq)
        return err_set(-EINVAL, "%s: other bodies than %s", to->path, j->path);
    if (to_end->at == end->at && to_end->chain != end->chain)
        return err_set(-EINVAL, "%s: a whole lap behind %s", to->path,
                       j->path);
    if (to_end->at > end->at) { /* over the end of the ring */
        r = copy_range(j->object, to->object, to_end->at, ring_end);
        if (r == 0)
            r = copy_range(j->object, to->object, RING_AT, end->at);
    } else {
        r = copy_range(j->object, to->object, to_end->at, end->at);
    }
    if (r == 0)
        r = copy_area(j, to->object, end->area_used);
    if (r == 0 && !is_full(j, end)) /* Y2 */
        r = object_write(to->object, nothing, sizeof nothing, end->at);
    if (r == 0)
        r = object_sync(to->object);
    return r < 0 ? r : copy_supers(j, to->object, to->next_pair); /* Y1 */
}

/* Of the right size, and no journal. */
static int
blank(const struct journal *j, struct object *to)
{
    static const uint8_t nothing[SUPER_BYTES];
    struct object_stat st;
    int r = object_stat(to, &st);

    if (r == 0 && st.size_bytes != j->file_bytes) {
        r = object_resize(to, 0);
        if (r == 0)
            r = object_resize(to, j->file_bytes);
    }
    for (unsigned copy = 0; r == 0 && copy < 4; copy++)
        r = object_write(to, nothing, sizeof nothing,
                         super_at(j->file_bytes, copy));
    if (r == 0)
        r = object_sync(to);
    if (r == 0)
        r = object_allocate(to, 0, j->file_bytes);
    return r == -EOPNOTSUPP ? 0 : r; /* then what is copied allocates */
}

int
journal_clone(struct journal *j, struct target *dir, const char *name)
{
    struct object *to;
    int r = target_open(dir, name, OBJECT_WRITE | OBJECT_CREATE, &to);

    assert(!j->started);
    if (r < 0)
        return r;
    r = object_lock(to, 0, 0, true);
    if (r == 0)
        r = blank(j, to);
    if (r == 0)
        r = copy_range(j->object, to, RING_AT, area_at(j) + j->area_bytes);
    if (r == 0)
        r = object_sync(to);
    if (r == 0)
        r = copy_supers(j, to, 0); /* Y1 */
    if (r == 0)
        r = target_sync(dir);
    object_close(to);
    return r;
}

/* ---- fill ---- */

/* Is all of it on the medium already? What was never written makes every sync
 * dearer until the ring has been round once. */
static bool
is_written(const struct journal *j, struct object *o)
{
    struct object_stat st;

    return object_stat(o, &st) == 0 && st.size_bytes == j->file_bytes &&
           st.allocated_bytes >= j->file_bytes;
}

int
journal_fill_begin(struct journal *j, struct object *to,
                   struct journal_fill *ret)
{
    bool written = is_written(j, to);
    int r = blank(j, to);

    assert(j->started);
    if (r < 0)
        return r;
    *ret = (struct journal_fill){.to = to};
    ret->zero_end = area_at(j) + j->area_bytes;
    ret->zero_at = written ? ret->zero_end : RING_AT;
    pthread_mutex_lock(&j->lock);
    ret->pos = j->tail.pos;
    ret->total = ret->zero_end - ret->zero_at + j->head_pos - j->tail.pos;
    pthread_mutex_unlock(&j->lock);
    return 0;
}

static int
fill_sync(struct journal_fill *f)
{
    f->unsynced = 0;
    return object_sync(f->to);
}

/* The file as a whole, once, before anything is copied. */
static int
fill_zeroes(struct journal_fill *f, uint64_t bytes)
{
    uint64_t left = f->zero_end - f->zero_at, n = bytes < left ? bytes : left;
    int r = journal_write_zeroes(f->to, f->zero_at, n);

    f->zero_at += n;
    f->done += n;
    f->unsynced += n;
    return r;
}

/* What lies before it can be copied (Y3). */
static uint64_t
fill_limit(struct journal *j, struct journal_fill *f)
{
    uint64_t limit;

    pthread_mutex_lock(&j->lock);
    limit = j->oldest_unfinished ? j->oldest_unfinished->pos : j->head_pos;
    if (f->pos < j->tail.pos)
        f->pos = j->tail.pos;
    pthread_mutex_unlock(&j->lock);
    return limit;
}

static int
fill_range(struct journal *j, struct journal_fill *f, uint64_t end)
{
    int r = 0;

    while (r == 0 && f->pos < end) {
        uint64_t at = file_at(j, f->pos);
        uint64_t lap = RING_AT + j->ring_bytes - at;
        uint64_t n = end - f->pos < lap ? end - f->pos : lap;

        r = copy_range(j->object, f->to, at, at + n);
        f->pos += n;
        f->done += n;
        f->unsynced += n;
    }
    return r;
}

int
journal_fill_step(struct journal *j, struct journal_fill *f, uint64_t bytes)
{
    bool too_long = f->done > FILL_LAPS_MAX * j->ring_bytes + j->area_bytes;
    uint64_t limit;
    int r;

    if (f->zero_at < f->zero_end) {
        r = fill_zeroes(f, bytes);
    } else {
        limit = fill_limit(j, f);
        if (limit <= f->pos + j->ring_bytes / FILL_REST_PART || too_long)
            return 0;
        r = fill_range(j, f, limit - f->pos < bytes ? limit : f->pos + bytes);
    }
    if (r == 0 && f->unsynced >= FILL_SYNC_BYTES)
        r = fill_sync(f);
    return r < 0 ? r : 1;
}

/* Y4. Where the head was when join was called; all before it is in the file
 * when this returns 0. */
static int
fill_join(struct journal *j, bool (*join)(void *ctx), void *ctx,
          uint64_t *ret_end)
{
    uint64_t last;
    int r = 0;

    pthread_mutex_lock(&j->lock);
    *ret_end = j->head_pos;
    last = j->last_record_seq;
    if (!join(ctx))
        r = err_set(-EAGAIN, "%s: no place for a copy", j->path);
    while (r == 0 && !j->failed && j->oldest_unfinished &&
           j->oldest_unfinished->seq <= last)
        pthread_cond_wait(&j->written, &j->lock);
    if (r == 0 && j->failed)
        r = journal_failed_error_locked(j);
    pthread_mutex_unlock(&j->lock);
    return r;
}

/* Y2. Before join: from then on others append there. */
static int
break_end(struct journal *j, struct journal_fill *f)
{
    static const uint8_t nothing[JOURNAL_ALIGN_BYTES];
    uint64_t head;
    bool full;

    pthread_mutex_lock(&j->lock);
    head = j->head_pos;
    full = head == j->tail.pos + j->ring_bytes;
    pthread_mutex_unlock(&j->lock);
    return full ? 0 : object_write(f->to, nothing, sizeof nothing,
                                   file_at(j, head));
}

int
journal_fill_end(struct journal *j, struct journal_fill *f,
                 bool (*join)(void *ctx), void *ctx)
{
    uint64_t end;
    int r;

    (void)fill_limit(j, f); /* what is dead needs no copy */
    r = break_end(j, f);
    if (r == 0)
        r = fill_join(j, join, ctx, &end);
    if (r == 0)
        r = fill_range(j, f, end);
    if (r == 0)
        r = copy_area(j, f->to, j->area_used); /* Y5 */
    return r < 0 ? r : fill_sync(f);
}
