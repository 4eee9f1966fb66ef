/* Golden image: what format 1 wrote must replay for ever, to the same blocks.
 *
 *   test-journal-golden DIR           check
 *   test-journal-golden --write DIR   make the image if it is missing
 * The image holds what is not zero of a journal of 64 KiB: its superblock
 * copy 0 or 2, whichever is newer, and the first 16 KiB of the ring. */
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

#define IMAGE_NAME "v1-journal.bin"
#define IMAGE_RING_BYTES 16384u
#define IMAGE_BYTES (SUPER_BYTES + IMAGE_RING_BYTES)
#define BLOCK 512u

struct golden {
    struct target *folder;
};

/* One record of each kind, with a sync in between. */
static void
make_journal(struct rig *rig)
{
    struct journal_identity identity;
    uint8_t body[600];

    rig_init(rig, NULL, BLOCK, 8, 40, 65536, 100);
    identity = *journal_identity(rig->j);
    identity.view.id.epoch = 1;
    identity.view.members = identity.view.complete_members = 7;
    for (unsigned i = 0; i < 3; i++) {
        memset(identity.view.instance[i].b, (int)(0x30 + i), 16);
        identity.part_ckpt[i] = 5 + i;
    }
    strcpy(identity.host, "golden");
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(sizeof body + i);
    assert_int_equal(rig_write(rig, 3, 6), 0);
    assert_int_equal(rig_zero(rig, 4, 14), 0);
    assert_int_equal(rig_sync(rig), 0);
    assert_int_equal(journal_append_redo(rig->j, body, sizeof body), 0);
    assert_int_equal(rig_write(rig, 17, 1), 0);
    assert_int_equal(rig_sync(rig), 0);
    assert_int_equal(journal_store_identity(rig->j, &identity), 0);
}

static void
make_image(uint8_t *image)
{
    struct rig rig;
    const uint8_t *now;

    make_journal(&rig);
    now = rig.cut.now;
    assert_true(get_le64(now + 80) != get_le64(now + SUPER_BYTES + 80));
    memcpy(image, get_le64(now + 80) > get_le64(now + SUPER_BYTES + 80)
                  ? now : now + SUPER_BYTES, SUPER_BYTES);
    memcpy(image + SUPER_BYTES, now + RING_AT, IMAGE_RING_BYTES);
    rig_done(&rig);
}

static void
load_image(const struct golden *g, uint8_t *image)
{
    uint8_t *bytes;
    size_t count;

    if (target_load(g->folder, IMAGE_NAME, IMAGE_BYTES, &bytes, &count) < 0)
        fail_msg("%s", err_text());
    assert_int_equal(count, IMAGE_BYTES);
    memcpy(image, bytes, IMAGE_BYTES);
    free(bytes);
}

static void
the_writer_writes_the_same_bytes(void **state)
{
    static uint8_t image[IMAGE_BYTES], made[IMAGE_BYTES];

    load_image(*state, image);
    make_image(made);
    for (size_t i = 0; i < IMAGE_BYTES; i++) {
        if (image[i] != made[i])
            fail_msg("byte %zu is %u, was %u", i, made[i], image[i]);
    }
}

static void
the_image_replays(void **state)
{
    static uint8_t image[IMAGE_BYTES];
    const struct journal_identity *identity;
    struct rig rig;

    load_image(*state, image);
    make_journal(&rig); /* for the model; its bytes are replaced */
    memset(rig.cut.now, 0, rig.cut.bytes);
    for (unsigned copy = 0; copy < 4; copy++)
        memcpy(rig.cut.now + super_at(rig.file_bytes, copy), image,
               SUPER_BYTES);
    memcpy(rig.cut.now + RING_AT, image + SUPER_BYTES, IMAGE_RING_BYTES);
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
write_image(struct target *folder)
{
    static uint8_t image[IMAGE_BYTES];
    struct object *o;
    int r = target_open(folder, IMAGE_NAME,
                        OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL, &o);

    if (r == -EEXIST)
        return 0;
    if (r < 0)
        return r;
    make_image(image);
    r = object_write(o, image, sizeof image, 0);
    object_close(o);
    return r;
}

int
main(int argc, char **argv)
{
    struct golden g;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_writer_writes_the_same_bytes, &g),
        cmocka_unit_test_prestate(the_image_replays, &g),
    };
    bool must_write = argc == 3 && strcmp(argv[1], "--write") == 0;
    int r;

    if (argc != 2 && !must_write)
        return 64;
    r = io_system()->ops->open_dir(io_system(), argv[argc - 1], 0, &g.folder);
    if (r == 0 && must_write)
        r = write_image(g.folder);
    if (r < 0) {
        print_error("%s\n", err_text());
        return 1;
    }
    r = cmocka_run_group_tests_name("journal", tests, NULL, NULL);
    target_close(g.folder);
    return r;
}
