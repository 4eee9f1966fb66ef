/* view.c: the bytes of a view, inside a label or a journal superblock.
 *
 *  at   bytes  what
 *   0       2  slot count N (20 as written by this version, at most 20)
 *   2       2  history count H, at most 64
 *   4       4  reserved, zero
 *   8       4  members (bit i = slot i)
 *  12       4  complete members
 *  16      24  id:       epoch u32, minor u32, start UUID
 *  40      24  previous: the same
 *  64      16  journal UUID, zero = detached
 *  80    64*N  a slot:   instance UUID, absent: instance UUID,
 *                        dropped-by id (24), ckpt u64
 *         24*H  history:  ids, newest first
 * Integers are little-endian. */
#include "meta/view.h"

#include "base/err.h"
#include <assert.h>
#include <string.h>

#define VIEW_ID_BYTES 24u
#define VIEW_FIXED_BYTES 80u
#define VIEW_SLOT_BYTES 64u

static_assert(VIEW_FIXED_BYTES + VIEW_SLOT_BYTES * PARTS_MAX +
              VIEW_ID_BYTES * VIEW_HISTORY_MAX <= VIEW_BYTES_MAX,
              "the largest view fits the room kept for it");
static_assert(PARTS_MAX < 32, "a bit a slot");

int
view_id_compare(const struct view_id *a, const struct view_id *b)
{
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    return (a->minor > b->minor) - (a->minor < b->minor);
}

bool
view_id_equal(const struct view_id *a, const struct view_id *b)
{
    return view_id_compare(a, b) == 0 && uuid_equal(&a->start, &b->start);
}

static bool
is_zero_id(const struct view_id *id)
{
    return id->epoch == 0 && id->minor == 0 && uuid_is_zero(&id->start);
}

void
view_advance(struct view *view, const struct view_id *next)
{
    uint32_t kept = view->history_count;

    assert(view_id_compare(&view->id, next) < 0); /* ids only grow */
    view->previous = view->id;
    if (!is_zero_id(&view->id)) { /* the first view follows nothing */
        if (kept == VIEW_HISTORY_MAX)
            kept--;
        memmove(&view->history[1], &view->history[0],
                kept * sizeof view->history[0]);
        view->history[0] = view->id;
        view->history_count = kept + 1;
    }
    view->id = *next;
}

static void
write_uuid(struct byte_writer *out, const struct uuid *uuid)
{
    write_bytes(out, uuid->b, sizeof uuid->b);
}

static void
read_uuid(struct byte_reader *in, struct uuid *ret)
{
    read_bytes(in, ret->b, sizeof ret->b);
}

static void
write_id(struct byte_writer *out, const struct view_id *id)
{
    write_u32(out, id->epoch);
    write_u32(out, id->minor);
    write_uuid(out, &id->start);
}

static void
read_id(struct byte_reader *in, struct view_id *ret)
{
    ret->epoch = read_u32(in);
    ret->minor = read_u32(in);
    read_uuid(in, &ret->start);
}

void
view_encode(const struct view *view, struct byte_writer *out)
{
    assert(view->history_count <= VIEW_HISTORY_MAX);
    assert(view->members >> PARTS_MAX == 0);
    assert(view->complete_members >> PARTS_MAX == 0);
    write_u16(out, PARTS_MAX);
    write_u16(out, (uint16_t)view->history_count);
    write_u32(out, 0);
    write_u32(out, view->members);
    write_u32(out, view->complete_members);
    write_id(out, &view->id);
    write_id(out, &view->previous);
    write_uuid(out, &view->journal);
    for (size_t i = 0; i < PARTS_MAX; i++) {
        write_uuid(out, &view->instance[i]);
        write_uuid(out, &view->absent[i].instance);
        write_id(out, &view->absent[i].dropped_by);
        write_u64(out, view->absent[i].ckpt);
    }
    for (uint32_t i = 0; i < view->history_count; i++)
        write_id(out, &view->history[i]);
}

int
view_decode(struct byte_reader *in, struct view *ret)
{
    struct view view;
    uint32_t slots;

    memset(&view, 0, sizeof view);
    slots = read_u16(in);
    view.history_count = read_u16(in);
    (void)read_u32(in);
    view.members = read_u32(in);
    view.complete_members = read_u32(in);
    if (slots > PARTS_MAX || view.history_count > VIEW_HISTORY_MAX)
        return err_set(-EBADMSG, "view: has %u slots and %u past ids",
                       slots, view.history_count);
    if (view.members >> slots != 0 || view.complete_members >> slots != 0)
        return err_set(-EBADMSG, "view: has members beyond its %u slots",
                       slots);
    read_id(in, &view.id);
    read_id(in, &view.previous);
    read_uuid(in, &view.journal);
    for (uint32_t i = 0; i < slots; i++) {
        read_uuid(in, &view.instance[i]);
        read_uuid(in, &view.absent[i].instance);
        read_id(in, &view.absent[i].dropped_by);
        view.absent[i].ckpt = read_u64(in);
    }
    for (uint32_t i = 0; i < view.history_count; i++)
        read_id(in, &view.history[i]);
    if (in->overrun)
        return err_set(-EBADMSG, "view: cut short");
    *ret = view;
    return 0;
}
