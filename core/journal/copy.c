/* copy.c: a second copy of a journal is made equal to the first, before either
 * is used.
 *
 * (Y1) The ring comes before the superblocks: a copy counts by its superblock.
 * (Y2) What lies at the end of the chain is broken: a record that only the
 *      copy had there could follow what was just copied (records behind a gap
 *      are not answered writes, and must not come back to life).
 * Stale records elsewhere in the copy can do nothing: a record counts only
 * behind the one whose sum it holds (J2).
 * Fails: the copy is what it was, or has no valid superblock, or is cut short
 * as by a power cut; never more. */
#include "journal/state.h"

#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>

#define SLICE_BYTES (1u << 20)

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
        r = copy_range(j->object, to, RING_AT, RING_AT + j->ring_bytes);
    if (r == 0)
        r = object_sync(to);
    if (r == 0)
        r = copy_supers(j, to, 0); /* Y1 */
    if (r == 0)
        r = target_sync(dir);
    object_close(to);
    return r;
}
