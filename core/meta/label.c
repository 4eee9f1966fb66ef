/* label.c: the bytes of a label, and its two slots.
 *
 *    at  bytes  what
 *     0      8  magic "LSVDLABL"
 *     8      4  format, 1
 *    12      4  reserved, zero
 *    16      8  incompat     features: unknown -> refuse
 *    24      8  ro-compat              unknown -> read only
 *    32      8  compat                 unknown -> ignore
 *    40     16  volume UUID
 *    56     16  instance UUID
 *    72      8  geometry hash
 *    80      4  slot, 0 = part a
 *    84      4  state: 1 init, 2 live
 *    88      4  flags: bit 0 clean
 *    92      4  promised epoch
 *    96      8  write count; the slot of the file is this % 2
 *   104      8  ckpt, a sequence
 *   112      8  generation of the chunk table
 *   120      8  written at, seconds since 1970
 *   128     64  host, ended by a zero
 *   192      4  bytes of the view
 *   196      4  reserved, zero
 *   200      …  view (view.c), then zeroes
 *  4088      8  XXH3-64 of the 4088 bytes above
 * Integers are little-endian. Magic, format, masks and checksum stay where
 * they are in every later format.
 *
 * (LA1) A store writes the slot that the newest label is not in, so a torn
 *       write leaves the newest label of before.
 * (LA2) A slot whose write count belongs into the other one was misdirected:
 *       damaged.
 * (LA3) A slot that can't be read may be the newest: then there is no label,
 *       and the part is away. Only one that was read, and fails its check, was
 *       torn or has rotted, and the other one is what counts. */
#include "meta/label.h"

#include "base/err.h"
#include "base/sum.h"
#include <assert.h>
#include <string.h>

#define LABEL_BODY_BYTES (LABEL_SLOT_BYTES - 8)
#define LABEL_FILE_BYTES (2 * LABEL_SLOT_BYTES)
#define LABEL_FLAG_CLEAN 1u
#define LABEL_VIEW_AT 200u
#define LABEL_INCOMPAT_KNOWN UINT64_C(0)

static_assert(LABEL_VIEW_AT + VIEW_BYTES_MAX <= LABEL_BODY_BYTES,
              "the largest view fits");

static const uint8_t magic[8] = { 'L', 'S', 'V', 'D', 'L', 'A', 'B', 'L' };

/* ---- bytes ---- */

/* Our text for hosts is cut, ended, and safe to print. */
static void
clean_host(char *host)
{
    size_t bytes = strnlen(host, sizeof ((struct label *)0)->host - 1);

    for (size_t i = 0; i < bytes; i++)
        if (host[i] < ' ' || host[i] > '~')
            host[i] = '?';
    memset(host + bytes, 0, sizeof ((struct label *)0)->host - bytes);
}

void
label_encode(const struct label *label, uint8_t *bytes)
{
    struct byte_writer out = { .at = bytes, .left = LABEL_BODY_BYTES };
    struct byte_writer view_out = {
        .at = bytes + LABEL_VIEW_AT, .left = VIEW_BYTES_MAX,
    };
    char host[sizeof label->host];

    assert(label->slot < PARTS_MAX);
    assert(label->state == LABEL_INIT || label->state == LABEL_LIVE);
    memset(bytes, 0, LABEL_SLOT_BYTES);
    memcpy(host, label->host, sizeof host);
    clean_host(host);

    view_encode(&label->view, &view_out);
    assert(!view_out.overrun);

    write_bytes(&out, magic, sizeof magic);
    write_u32(&out, FORMAT_VERSION);
    write_u32(&out, 0);
    write_u64(&out, label->incompat);
    write_u64(&out, label->ro_compat);
    write_u64(&out, label->compat);
    write_bytes(&out, label->volume.b, sizeof label->volume.b);
    write_bytes(&out, label->instance.b, sizeof label->instance.b);
    write_u64(&out, label->geometry);
    write_u32(&out, label->slot);
    write_u32(&out, label->state);
    write_u32(&out, label->clean ? LABEL_FLAG_CLEAN : 0);
    write_u32(&out, label->promised);
    write_u64(&out, label->write_count);
    write_u64(&out, label->ckpt);
    write_u64(&out, label->table_generation);
    write_u64(&out, label->written_at);
    write_bytes(&out, host, sizeof host);
    write_u32(&out, (uint32_t)(view_out.at - bytes) - LABEL_VIEW_AT);
    write_u32(&out, 0);
    assert(out.at == bytes + LABEL_VIEW_AT);

    put_le64(bytes + LABEL_BODY_BYTES, sum_bytes(bytes, LABEL_BODY_BYTES));
}

/* What every format has: is it one, is it whole, may we read it? */
static int
decode_frame(struct byte_reader *in, struct label *l)
{
    uint32_t format;

    if (memcmp(in->at, magic, sizeof magic) != 0)
        return err_set(-EBADMSG, "label: not a label");
    if (get_le64(in->at + LABEL_BODY_BYTES) !=
        sum_bytes(in->at, LABEL_BODY_BYTES))
        return err_set(-EBADMSG, "label: damaged: its checksum is wrong");
    (void)read_skip(in, sizeof magic);
    format = read_u32(in);
    (void)read_u32(in);
    l->incompat = read_u64(in);
    l->ro_compat = read_u64(in);
    l->compat = read_u64(in);
    if (format == 0)
        return err_set(-EBADMSG, "label: damaged: it has no format");
    if (format > FORMAT_VERSION)
        return err_set(-EPROTO, "label: format %u is newer than this version "
                       "of lsvd, which knows format %d", format,
                       FORMAT_VERSION);
    if (l->incompat & ~LABEL_INCOMPAT_KNOWN)
        return err_set(-EPROTO, "label: uses features (0x%jx) that this "
                       "version of lsvd does not know",
                       (uintmax_t)(l->incompat & ~LABEL_INCOMPAT_KNOWN));
    return 0;
}

static int
decode_body(struct byte_reader *in, struct label *l)
{
    struct byte_reader view_in;
    uint32_t flags, view_bytes;

    read_bytes(in, l->volume.b, sizeof l->volume.b);
    read_bytes(in, l->instance.b, sizeof l->instance.b);
    l->geometry = read_u64(in);
    l->slot = read_u32(in);
    l->state = read_u32(in);
    flags = read_u32(in);
    l->clean = flags & LABEL_FLAG_CLEAN;
    l->promised = read_u32(in);
    l->write_count = read_u64(in);
    l->ckpt = read_u64(in);
    l->table_generation = read_u64(in);
    l->written_at = read_u64(in);
    read_bytes(in, l->host, sizeof l->host);
    clean_host(l->host);
    view_bytes = read_u32(in);
    (void)read_u32(in);
    view_in.at = read_skip(in, view_bytes);
    view_in.left = view_bytes;
    view_in.overrun = false;
    if (in->overrun)
        return err_set(-EBADMSG, "label: damaged: cut short");
    if (l->slot >= PARTS_MAX)
        return err_set(-EBADMSG, "label: damaged: slot %u", l->slot);
    if (l->state != LABEL_INIT && l->state != LABEL_LIVE)
        return err_set(-EBADMSG, "label: damaged: state %u", l->state);
    return view_decode(&view_in, &l->view);
}

int
label_decode(const uint8_t *bytes, struct label *ret)
{
    struct byte_reader in = { .at = bytes, .left = LABEL_BODY_BYTES };
    struct label label;
    int r;

    memset(&label, 0, sizeof label);
    r = decode_frame(&in, &label);
    if (r == 0)
        r = decode_body(&in, &label);
    if (r == 0)
        *ret = label;
    return r;
}

/* ---- slots ---- */

/* -ENOENT: never written. */
static int
load_slot(struct object *o, unsigned slot, uint64_t file_bytes,
          struct label *ret)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    uint64_t at = (uint64_t)slot * LABEL_SLOT_BYTES;
    int r;

    if (file_bytes < at + LABEL_SLOT_BYTES)
        return err_set(-EBADMSG, "label: cut short");
    r = object_read(o, bytes, sizeof bytes, at);
    if (r < 0) /* once more: it may pass */
        r = object_read(o, bytes, sizeof bytes, at);
    if (r < 0)
        return r;
    if (sum_all_zero(bytes, sizeof bytes))
        return err_set(-ENOENT, "label: this slot was never written");
    r = label_decode(bytes, ret);
    if (r == 0 && ret->write_count % 2 != slot)
        return err_set(-EBADMSG, "label: damaged: in the wrong slot"); /*LA2*/
    return r;
}

static int
load_newest(struct object *o, struct label *ret, int *ret_damaged_slots)
{
    struct object_stat st;
    struct label newest;
    bool found = false;
    int damaged = 0;
    int r;

    r = object_stat(o, &st);
    if (r < 0)
        return r;
    for (unsigned slot = 0; slot < 2; slot++) {
        struct label label;

        r = load_slot(o, slot, st.size_bytes, &label);
        if (r == -EPROTO)
            return r; /* perhaps the newest: not for us to judge */
        if (r == 0 && (!found || label.write_count > newest.write_count)) {
            newest = label;
            found = true;
        }
        if (r < 0 && r != -ENOENT && r != -EBADMSG) /* LA3 */
            return err_wrap(r, "one copy of it can't be read, perhaps the "
                            "newest");
        if (r == -EBADMSG)
            damaged++;
    }
    if (!found)
        return err_set(-EBADMSG, "no valid label");
    *ret = newest;
    *ret_damaged_slots = damaged;
    return 0;
}

static int
load(struct target *part, bool fresh, struct label *ret,
     int *ret_damaged_slots)
{
    struct object *o;
    int r;

    r = target_open(part, LABEL_NAME, 0, &o);
    if (r == -ENOENT)
        return err_set(r, "%s: has no label: is its file system mounted?",
                       part->path);
    if (r < 0)
        return r;
    if (fresh)
        object_drop_cache(o);
    r = load_newest(o, ret, ret_damaged_slots);
    object_close(o);
    if (r < 0)
        return err_wrap(r, "%s/" LABEL_NAME, part->path);
    return 0;
}

int
label_load(struct target *part, struct label *ret, int *ret_damaged_slots)
{
    return load(part, false, ret, ret_damaged_slots);
}

int
label_load_fresh(struct target *part, struct label *ret,
                 int *ret_damaged_slots)
{
    return load(part, true, ret, ret_damaged_slots);
}

int
label_sync(struct target *part, struct label *label)
{
    struct object *o;
    int r;

    if (label->durable)
        return 0;
    r = target_open(part, LABEL_NAME, OBJECT_WRITE, &o);
    if (r == 0) {
        r = object_sync(o);
        object_close(o);
    }
    if (r < 0)
        return err_wrap(r, "%s/" LABEL_NAME, part->path);
    label->durable = true;
    return 0;
}

static int
store_slot(struct object *o, const struct label *label)
{
    uint8_t bytes[LABEL_SLOT_BYTES];
    int r;

    label_encode(label, bytes);
    r = object_write(o, bytes, sizeof bytes,
                     label->write_count % 2 * LABEL_SLOT_BYTES);
    if (r < 0)
        return r;
    return object_sync(o);
}

/* A first store that failed leaves no label behind, so that it can be tried
 * again; the text of the failure stays. */
static int
discard_first(struct target *part, int error)
{
    char text[512];
    size_t bytes = strnlen(err_text(), sizeof text - 1);

    memcpy(text, err_text(), bytes);
    text[bytes] = '\0';
    (void)target_remove(part, LABEL_NAME);
    return err_set(error, "%s", text);
}

/* Before a first store: the label that is there, if there is one, goes, since
 * its greater write count would win. Not that of somebody else. */
static int
make_way(struct target *part, const struct label *label)
{
    struct label old;
    int damaged, r;

    r = label_load(part, &old, &damaged);
    if (r == -ENOENT)
        return 0;
    if (r == 0 && (!uuid_equal(&old.volume, &label->volume) ||
                   old.slot != label->slot))
        return err_set(-EEXIST, "%s: holds part %c of %s volume", part->path,
                       (int)('a' + old.slot),
                       uuid_equal(&old.volume, &label->volume) ? "this"
                                                               : "another");
    if (r < 0 && r != -EBADMSG)
        return r;
    return target_remove(part, LABEL_NAME);
}

int
label_store(struct target *part, struct label *label)
{
    struct label next = *label;
    unsigned flags = OBJECT_WRITE;
    bool is_first = label->write_count == 0;
    struct object *o;
    int r;

    next.write_count++;
    if (is_first) {
        flags |= OBJECT_CREATE | OBJECT_EXCL;
        r = make_way(part, label);
        if (r < 0)
            return r;
    }
    r = target_open(part, LABEL_NAME, flags, &o);
    if (r < 0)
        return r;
    if (is_first)
        r = object_resize(o, LABEL_FILE_BYTES);
    /* What was loaded may be in the page cache alone, left by a process that
     * was killed before its sync: the other slot is all that the medium has,
     * and must not be written over before. */
    else if (!label->durable)
        r = object_sync(o);
    if (r == 0)
        r = store_slot(o, &next);
    object_close(o);
    if (r < 0)
        return is_first ? discard_first(part, r) : r;
    label->write_count = next.write_count; /* others read the rest */
    label->durable = true;
    return 0;
}
