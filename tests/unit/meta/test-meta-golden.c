/* Golden images: what format 1 wrote must decode for ever, to the same values.
 *
 *   test-meta-golden DIR           check
 *   test-meta-golden --write DIR   make the images that are missing
 * An image that exists is never written: a format that changed is a new image
 * beside the old one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "sample.h"
#include "target/target.h"
#include <errno.h>
#include <stdlib.h>

#define GOLDEN_BYTES_MAX 65536

struct golden {
    struct target *folder;
};

static uint8_t *
load(void **state, const char *name, size_t *ret_bytes)
{
    const struct golden *g = *state;
    uint8_t *bytes;

    if (target_load(g->folder, name, GOLDEN_BYTES_MAX, &bytes, ret_bytes) < 0)
        fail_msg("%s", err_text());
    return bytes;
}

static void
make_label(struct label *ret)
{
    sample_label(ret);
}

static void
make_meta(char roots[PARTS_MAX][64], struct volume_meta *ret)
{
    sample_meta(0, 4, 2, roots, ret);
    ret->append_only = true;
}

static void
make_clone(char roots[PARTS_MAX][64], struct volume_meta *ret)
{
    sample_meta(3, 0, 0, roots, ret);
    ret->incompat = META_INCOMPAT_PARENT;
    ret->parent = 65535;
    ret->parent_uuid = sample_uuid(77);
    ret->overlap_bytes = ret->size_bytes - 1;
}

static void
make_registry(struct registry *ret)
{
    static const struct {
        const char *name;
        uint32_t number;
    } volumes[] = { { "mydevice1", 11 }, { "end", 12 }, { "A.b-c_d", 65535 } };

    memset(ret, 0, sizeof *ret);
    ret->generation = 5;
    for (size_t i = 0; i < sizeof volumes / sizeof volumes[0]; i++) {
        struct registry_entry e = { .number = volumes[i].number };

        (void)snprintf(e.name, sizeof e.name, "%s", volumes[i].name);
        e.uuid = sample_uuid(volumes[i].number);
        if (registry_add(ret, &e) < 0)
            abort();
    }
}

/* A clone that has references, too. */
static void
make_sharer(char roots[PARTS_MAX][64], struct volume_meta *ret)
{
    make_clone(roots, ret);
    for (uint32_t i = 0; i < 3; i++) {
        struct uuid uuid = sample_uuid(80 + i);

        if (meta_add_source(ret, 65533 - i, &uuid) < 0)
            abort();
    }
}

/* Encoding what was decoded gives the same bytes: so every field is compared,
 * and this version writes what format 1 is. */

static void
label_of_format_1(void **state)
{
    uint8_t ours[LABEL_SLOT_BYTES];
    struct label label, expected;
    size_t count;
    uint8_t *bytes = load(state, "v1-label.bin", &count);

    assert_int_equal(count, LABEL_SLOT_BYTES);
    assert_int_equal(label_decode(bytes, &label), 0);
    make_label(&expected);
    assert_int_equal(label.write_count, expected.write_count);
    assert_int_equal(label.ckpt, expected.ckpt);
    assert_int_equal(label.view.history_count, 4);
    label_encode(&expected, ours);
    assert_memory_equal(ours, bytes, sizeof ours);
    label_encode(&label, ours);
    assert_memory_equal(ours, bytes, sizeof ours);
    free(bytes);
}

static void
meta_of_format_1(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta meta, expected;
    size_t count, our_count;
    uint8_t *bytes = load(state, "v1-meta.txt", &count);
    char *ours;

    assert_int_equal(meta_parse(bytes, count, &meta), 0);
    make_meta(roots, &expected);
    assert_string_equal(meta.name, expected.name);
    assert_int_equal(meta.size_bytes, expected.size_bytes);
    assert_int_equal(meta.ec_data, 4);
    assert_true(meta.append_only);
    assert_int_equal(meta_format(&meta, &ours, &our_count), 0);
    free(ours);
    meta_done(&meta);
    assert_int_equal(meta_format(&expected, &ours, &our_count), 0);
    assert_int_equal(our_count, count);
    assert_memory_equal(ours, bytes, count);
    free(ours);
    free(bytes);
}

static void
clone_of_format_1(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta meta, expected;
    size_t count, our_count;
    uint8_t *bytes = load(state, "v1-meta-clone.txt", &count);
    char *ours;

    assert_int_equal(meta_parse(bytes, count, &meta), 0);
    make_clone(roots, &expected);
    assert_int_equal(meta.parent, expected.parent);
    assert_true(uuid_equal(&meta.parent_uuid, &expected.parent_uuid));
    assert_int_equal(meta.overlap_bytes, expected.overlap_bytes);
    meta_done(&meta);
    assert_int_equal(meta_format(&expected, &ours, &our_count), 0);
    assert_int_equal(our_count, count);
    assert_memory_equal(ours, bytes, count);
    free(ours);
    free(bytes);
}

static void
sources_of_format_1(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta meta, expected;
    size_t count, our_count;
    uint8_t *bytes = load(state, "v1-meta-sources.txt", &count);
    char *ours;

    assert_int_equal(meta_parse(bytes, count, &meta), 0);
    make_sharer(roots, &expected);
    assert_int_equal(meta.source_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(meta.source[i].number, expected.source[i].number);
        assert_true(uuid_equal(&meta.source[i].uuid,
                               &expected.source[i].uuid));
    }
    meta_done(&meta);
    assert_int_equal(meta_format(&expected, &ours, &our_count), 0);
    assert_int_equal(our_count, count);
    assert_memory_equal(ours, bytes, count);
    free(ours);
    free(bytes);
}

static void
impossible_sources(void **state)
{
    char roots[PARTS_MAX][64];
    struct uuid uuid = sample_uuid(80);
    struct volume_meta meta;

    (void)state;
    make_sharer(roots, &meta);
    assert_int_equal(meta_check(&meta), 0);
    assert_true(meta_needs(&meta, 65533, &uuid));
    assert_true(meta_needs(&meta, meta.parent, &meta.parent_uuid));
    assert_false(meta_needs(&meta, 65532, &uuid));
    assert_int_equal(meta_add_source(&meta, 65533, &uuid), 0);
    assert_int_equal(meta.source_count, 3);
    assert_int_equal(meta_add_source(&meta, 65532, &uuid), -EEXIST);
    meta.source[1].number = meta.source[0].number;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_sharer(roots, &meta);
    meta.source[1].uuid = meta.uuid;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_sharer(roots, &meta);
    meta.source[2].number = meta.number;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_sharer(roots, &meta);
    meta.incompat &= ~META_INCOMPAT_SOURCES;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_sharer(roots, &meta);
    for (uint32_t i = 0; i < 3; i++)
        meta_remove_source(&meta, 65533 - i);
    assert_int_equal(meta.incompat, META_INCOMPAT_PARENT);
    assert_int_equal(meta_check(&meta), 0);
    for (uint32_t i = 0; i < META_SOURCES_MAX; i++) {
        uuid = sample_uuid(100 + i);
        assert_int_equal(meta_add_source(&meta, 100 + i, &uuid), 0);
    }
    assert_int_equal(meta_add_source(&meta, 99, &uuid), -ENOSPC);
}

/* What the feature says and what the keys say must agree. */
static void
impossible_parents(void **state)
{
    char roots[PARTS_MAX][64];
    struct volume_meta meta;

    (void)state;
    make_clone(roots, &meta);
    assert_int_equal(meta_check(&meta), 0);
    meta.overlap_bytes = meta.size_bytes + 1;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_clone(roots, &meta);
    meta.parent = meta.number;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_clone(roots, &meta);
    meta.parent_uuid = meta.uuid;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_clone(roots, &meta);
    meta.incompat = 0;
    assert_int_equal(meta_check(&meta), -EINVAL);
    make_clone(roots, &meta);
    meta.parent = 0;
    assert_int_equal(meta_check(&meta), -EINVAL);
}

static void
registry_of_format_1(void **state)
{
    struct registry registry, expected;
    size_t count, our_count;
    uint8_t *bytes = load(state, "v1-registry.txt", &count);
    char *ours;

    assert_int_equal(registry_parse(bytes, count, &registry), 0);
    make_registry(&expected);
    assert_int_equal(registry.count, expected.count);
    assert_int_equal(registry_find(&registry, "end")->number, 12);
    registry_done(&registry);
    assert_int_equal(registry_format(&expected, &ours, &our_count), 0);
    assert_int_equal(our_count, count);
    assert_memory_equal(ours, bytes, count);
    free(ours);
    registry_done(&expected);
    free(bytes);
}

/* ---- making them ---- */

static int
write_missing(struct target *folder, const char *name, const void *bytes,
              size_t count)
{
    struct object *o;
    int r;

    r = target_open(folder, name,
                    OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL, &o);
    if (r == -EEXIST)
        return 0;
    if (r < 0)
        return r;
    r = object_write(o, bytes, count, 0);
    object_close(o);
    return r;
}

static int
write_all(struct target *folder)
{
    char roots[PARTS_MAX][64];
    uint8_t label_bytes[LABEL_SLOT_BYTES];
    struct volume_meta meta;
    struct registry registry;
    struct label label;
    size_t count;
    char *text;
    int r;

    make_label(&label);
    label_encode(&label, label_bytes);
    r = write_missing(folder, "v1-label.bin", label_bytes,
                      sizeof label_bytes);
    make_meta(roots, &meta);
    if (r == 0)
        r = meta_format(&meta, &text, &count);
    if (r == 0) {
        r = write_missing(folder, "v1-meta.txt", text, count);
        free(text);
    }
    make_clone(roots, &meta);
    if (r == 0)
        r = meta_format(&meta, &text, &count);
    if (r == 0) {
        r = write_missing(folder, "v1-meta-clone.txt", text, count);
        free(text);
    }
    make_sharer(roots, &meta);
    if (r == 0)
        r = meta_format(&meta, &text, &count);
    if (r == 0) {
        r = write_missing(folder, "v1-meta-sources.txt", text, count);
        free(text);
    }
    make_registry(&registry);
    if (r == 0)
        r = registry_format(&registry, &text, &count);
    if (r == 0) {
        r = write_missing(folder, "v1-registry.txt", text, count);
        free(text);
    }
    registry_done(&registry);
    return r;
}

static struct golden golden;

static int
give_folder(void **state)
{
    *state = &golden;
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(label_of_format_1),
        cmocka_unit_test(meta_of_format_1),
        cmocka_unit_test(clone_of_format_1),
        cmocka_unit_test(sources_of_format_1),
        cmocka_unit_test(impossible_parents),
        cmocka_unit_test(impossible_sources),
        cmocka_unit_test(registry_of_format_1),
    };
    bool is_writing = argc == 3 && strcmp(argv[1], "--write") == 0;
    struct io *io = io_system();
    int r;

    if (argc != 2 && !is_writing) {
        (void)fprintf(stderr, "usage: %s [--write] DIR\n", argv[0]);
        return 64;
    }
    r = io->ops->open_dir(io, argv[argc - 1], 0, &golden.folder);
    if (r == 0 && is_writing)
        r = write_all(golden.folder);
    if (r < 0) {
        (void)fprintf(stderr, "%s\n", err_text());
        return 1;
    }
    r = is_writing ? 0 : cmocka_run_group_tests(tests, give_folder, NULL);
    target_close(golden.folder);
    return r;
}
