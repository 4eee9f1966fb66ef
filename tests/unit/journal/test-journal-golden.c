/* Golden images: what format 1 wrote must replay for ever, to the same blocks:
 * a journal without an area for REDO records, and one with it.
 *
 *   test-journal-golden DIR           check
 *   test-journal-golden --write DIR   make the images that are missing
 * An image holds what is not zero of a journal of 64 KiB: its superblock copy 0
 * or 2, whichever is newer, the first 16 KiB of the ring, and the first 4 KiB
 * of the area if it has one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

#include "base/bytes.h"
#include "base/err.h"
#include "journal/journal_format.h"
#include <stdlib.h>
#include <string.h>

#define IMAGE_RING_BYTES 16384u
#define IMAGE_AREA_BYTES 4096u
#define IMAGE_BYTES_MAX (SUPER_BYTES + IMAGE_RING_BYTES + IMAGE_AREA_BYTES)
#define BLOCK 512u

struct golden {
    struct target *folder;
    const char *name;
    bool has_area;
};

static size_t
image_bytes(const struct golden *g)
{
    return g->has_area ? IMAGE_BYTES_MAX : IMAGE_BYTES_MAX - IMAGE_AREA_BYTES;
}

/* One record of each kind, with a sync in between. */
static void
make_journal(const struct golden *g, struct rig *rig)
{
    struct journal_identity identity;

    if (g->has_area)
        rig_init(rig, NULL, BLOCK, 8, 40, 65536, 100);
    else
        rig_init_without_area(rig, BLOCK, 8, 40, 65536, 100);
    identity = *journal_identity(rig->j);
    identity.view.id.epoch = 1;
    identity.view.members = identity.view.complete_members = 7;
    for (unsigned i = 0; i < 3; i++) {
        memset(identity.view.instance[i].b, (int)(0x30 + i), 16);
        identity.part_ckpt[i] = 5 + i;
    }
    strcpy(identity.host, "golden");
    assert_int_equal(rig_write(rig, 3, 6), 0);
    assert_int_equal(rig_zero(rig, 4, 14), 0);
    assert_int_equal(rig_sync(rig), 0);
    rig_redo(rig, 600);
    assert_int_equal(rig_write(rig, 17, 1), 0);
    assert_int_equal(rig_sync(rig), 0);
    assert_int_equal(journal_store_identity(rig->j, &identity), 0);
}

/* Where the two ranges of an image lie that follow the superblock. */
static void
place(const struct golden *g, struct rig *rig, struct iovec ret[2])
{
    ret[0] = (struct iovec){ rig->cut.now + RING_AT, IMAGE_RING_BYTES };
    ret[1] = (struct iovec){ rig->cut.now + rig_area_at(rig),
                             g->has_area ? IMAGE_AREA_BYTES : 0 };
}

static void
make_image(const struct golden *g, uint8_t *image)
{
    struct iovec range[2];
    const uint8_t *now;
    struct rig rig;

    make_journal(g, &rig);
    now = rig.cut.now;
    place(g, &rig, range);
    assert_true(get_le64(now + 80) != get_le64(now + SUPER_BYTES + 80));
    memcpy(image, get_le64(now + 80) > get_le64(now + SUPER_BYTES + 80)
                  ? now : now + SUPER_BYTES, SUPER_BYTES);
    image += SUPER_BYTES;
    for (unsigned i = 0; i < 2; image += range[i++].iov_len)
        memcpy(image, range[i].iov_base, range[i].iov_len);
    rig_done(&rig);
}

static void
load_image(const struct golden *g, uint8_t *image)
{
    uint8_t *bytes;
    size_t count;

    if (target_load(g->folder, g->name, IMAGE_BYTES_MAX, &bytes, &count) < 0)
        fail_msg("%s", err_text());
    assert_int_equal(count, image_bytes(g));
    memcpy(image, bytes, count);
    free(bytes);
}

static void
the_writer_writes_the_same_bytes(void **state)
{
    static uint8_t image[IMAGE_BYTES_MAX], made[IMAGE_BYTES_MAX];
    const struct golden *g = *state;

    load_image(g, image);
    make_image(g, made);
    for (size_t i = 0; i < image_bytes(g); i++) {
        if (image[i] != made[i])
            fail_msg("%s: byte %zu: %02x is now %02x", g->name, i, image[i],
                     made[i]);
    }
}

static void
the_image_replays(void **state)
{
    static uint8_t image[IMAGE_BYTES_MAX];
    const struct journal_identity *identity;
    const struct golden *g = *state;
    const uint8_t *from = image + SUPER_BYTES;
    struct iovec range[2];
    struct rig rig;

    load_image(g, image);
    make_journal(g, &rig); /* for the model; its bytes are replaced */
    place(g, &rig, range);
    memset(rig.cut.now, 0, rig.cut.bytes);
    for (unsigned copy = 0; copy < 4; copy++)
        memcpy(rig.cut.now + super_at(rig.file_bytes, copy), image,
               SUPER_BYTES);
    for (unsigned i = 0; i < 2; from += range[i++].iov_len)
        memcpy(range[i].iov_base, from, range[i].iov_len);
    if (rig_reopen(&rig) < 0)
        fail_msg("%s", err_text());
    assert_int_equal(rig.stats.records, 4);
    assert_false(rig.stats.torn_tail);
    assert_int_equal(rig.redo_count, 1);
    assert_int_equal(rig.redo_bytes[0], 600);
    rig_check(&rig);
    identity = journal_identity(rig.j);
    assert_string_equal(identity->host, "golden");
    assert_int_equal(identity->part_ckpt[2], 7);
    assert_int_equal(identity->view.members, 7);
    assert_int_equal(identity->view.instance[1].b[0], 0x31);
    assert_int_equal(identity->block_bytes, BLOCK);
    rig_done(&rig);
}

static int
write_image(const struct golden *g)
{
    static uint8_t image[IMAGE_BYTES_MAX];
    struct object *o;
    int r = target_open(g->folder, g->name,
                        OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL, &o);

    if (r == -EEXIST)
        return 0;
    if (r < 0)
        return r;
    make_image(g, image);
    r = object_write(o, image, image_bytes(g), 0);
    object_close(o);
    return r;
}

int
main(int argc, char **argv)
{
    struct golden in_ring = { .name = "v1-journal.bin" };
    struct golden apart = { .name = "v1-journal-area.bin", .has_area = true };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_writer_writes_the_same_bytes, &in_ring),
        cmocka_unit_test_prestate(the_writer_writes_the_same_bytes, &apart),
        cmocka_unit_test_prestate(the_image_replays, &in_ring),
        cmocka_unit_test_prestate(the_image_replays, &apart),
    };
    bool must_write = argc == 3 && strcmp(argv[1], "--write") == 0;
    int r;

    if (argc != 2 && !must_write)
        return 64;
    r = io_system()->ops->open_dir(io_system(), argv[argc - 1], 0,
                                   &in_ring.folder);
    apart.folder = in_ring.folder;
    if (r == 0 && must_write)
        r = write_image(&in_ring);
    if (r == 0 && must_write)
        r = write_image(&apart);
    if (r < 0) {
        print_error("%s\n", err_text());
        return 1;
    }
    r = cmocka_run_group_tests_name("journal", tests, NULL, NULL);
    target_close(in_ring.folder);
    return r;
}
