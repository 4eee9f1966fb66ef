/* lsvd_export_diff and lsvd_import_diff: a copy follows its source from
 * snapshot to snapshot, whatever its shape; what is wrong with a stream, or
 * with the copy, is found, and the copy is what it was. */
#include "unit.h"
#include "world.h"
#include "base/io.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 << 10, SIZE = 1 << 20, MOST = 2 << 20, HEADER = 256,
       RECORD = 40 };

struct stream {
    uint8_t *bytes; /* owned */
    size_t count, room;
    size_t at;      /* read so far */
    int fails_after; /* calls of read until it is interrupted; < 0: never */
};

struct pair {
    struct world world; /* its volume: the source; the copy is "copy" */
    uint64_t random, size;
    uint8_t *model, *before, *found; /* MOST each */
};

static int
take(void *ctx, const void *bytes, size_t count)
{
    struct stream *s = ctx;

    if (s->count + count > s->room) {
        s->room = 2 * (s->room + count);
        s->bytes = realloc(s->bytes, s->room);
        assert_non_null(s->bytes);
    }
    memcpy(s->bytes + s->count, bytes, count);
    s->count += count;
    return 0;
}

static int
give(void *ctx, void *to, size_t count, size_t *ret_count)
{
    struct stream *s = ctx;

    if (s->fails_after == 0)
        return -EINTR;
    if (s->fails_after > 0)
        s->fails_after--;
    if (count > s->count - s->at)
        count = s->count - s->at;
    memcpy(to, s->bytes + s->at, count);
    s->at += count;
    *ret_count = count;
    return 0;
}

static void
export(struct pair *p, const char *from, const char *to, struct stream *ret)
{
    const struct lsvd_diff_sink sink = {.write = take, .ctx = ret};
    struct lsvd_diff_totals totals;

    *ret = (struct stream){.fails_after = -1};
    MUST(lsvd_export_diff(&p->world.env, from, to, &sink, &totals));
    assert_true(ret->count >= HEADER + RECORD);
}

/* So many bytes of it. */
static int
import_some(struct pair *p, struct stream *s, size_t count)
{
    const struct lsvd_diff_source source = {.read = give, .ctx = s};
    struct lsvd_diff_totals totals;
    size_t whole = s->count;
    int r;

    s->at = 0;
    s->count = count;
    r = lsvd_import_diff(&p->world.env, "copy", &source, &totals);
    s->count = whole;
    return r;
}

static int
import(struct pair *p, struct stream *s)
{
    return import_some(p, s, s->count);
}

static void
check(struct pair *p, const char *name, const uint8_t *what, uint64_t size)
{
    struct lsvd_volume *v;

    MUST(lsvd_open(&p->world.env, name, LSVD_OPEN_READ_ONLY, &v));
    assert_int_equal(lsvd_get_size(v), size);
    MUST(lsvd_pread(v, p->found, size, 0));
    assert_memory_equal(p->found, what, size);
    MUST(lsvd_close(v));
}

static int
count_one(void *ctx, const struct lsvd_snapshot *s)
{
    (void)s;
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned
snapshots_of_copy(struct pair *p)
{
    unsigned count = 0;

    MUST(lsvd_snapshot_list(&p->world.env, "copy", count_one, &count));
    return count;
}

/* No volume that is left over. */
static int
count_volume(void *ctx, const struct lsvd_listed *volume)
{
    assert_null(strstr(volume->name, "@+"));
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned
volumes(struct pair *p)
{
    unsigned count = 0;

    MUST(lsvd_list(&p->world.env, count_volume, &count));
    return count;
}

static void
put(struct pair *p, uint64_t at, uint64_t count)
{
    random_fill(&p->random, p->model + at, count);
    MUST(lsvd_pwrite(p->world.volume, p->model + at, count, at, 0));
}

static void
zero(struct pair *p, uint64_t at, uint64_t count)
{
    memset(p->model + at, 0, count);
    MUST(lsvd_zero(p->world.volume, count, at, 0));
}

static void
write_some(struct pair *p)
{
    for (int i = 0; i < 12; i++) {
        uint64_t at = random_below(&p->random, p->size);
        uint64_t count = 1 + random_below(&p->random, 40000);

        if (count > p->size - at)
            count = p->size - at;
        if (i % 3)
            put(p, at, count);
        else
            zero(p, at, count);
    }
}

static void
snapshot(struct pair *p, const char *name)
{
    world_close(&p->world);
    MUST(lsvd_snapshot_create(&p->world.env, name));
    world_open(&p->world);
}

static void
resize(struct pair *p, uint64_t size)
{
    world_close(&p->world);
    MUST(lsvd_resize(&p->world.env, NAME, size, true));
    world_open(&p->world);
    memset(p->model + size, 0, MOST - size);
    p->size = size;
}

static void
begin(struct pair *p, const struct kind *source, const struct kind *copy)
{
    const struct lsvd_create spec = {.name = "copy",
                                     .size_bytes = copy->size_bytes,
                                     .chunk_bytes = copy->chunk_bytes,
                                     .block_bytes = copy->block_bytes,
                                     .replicas = copy->replicas,
                                     .ec_data = copy->ec_data,
                                     .ec_parity = copy->ec_parity,
                                     .journal_bytes = 1u << 20};

    *p = (struct pair){.random = 3, .size = source->size_bytes};
    p->model = calloc(1, MOST);
    p->before = calloc(1, MOST);
    p->found = malloc(MOST);
    assert_true(p->model && p->before && p->found);
    world_init(&p->world, source);
    p->world.env.io = io_system();
    MUST(lsvd_create(&p->world.env, &spec));
    world_open(&p->world);
}

static void
end(struct pair *p)
{
    struct lsvd_report report;

    if (p->world.volume)
        world_close(&p->world);
    world_check_sound(&p->world);
    MUST(lsvd_verify(&p->world.env, "copy", true, NULL, &report));
    assert_true(report.policy_met);
    world_done(&p->world);
    free(p->model);
    free(p->before);
    free(p->found);
}

static const struct kind one = {.replicas = 1, .block_bytes = 4096,
                                .chunk_bytes = CHUNK, .size_bytes = SIZE};
static const struct kind small = {.replicas = 2, .block_bytes = 512,
                                  .chunk_bytes = CHUNK, .size_bytes = SIZE};
static const struct kind wide = {.ec_data = 4, .ec_parity = 2,
                                 .block_bytes = 4096, .chunk_bytes = CHUNK,
                                 .size_bytes = SIZE + 777};

/* ---- it follows ---- */

static void
follow(const struct kind *source, const struct kind *copy)
{
    static const uint64_t sizes[] = {SIZE, SIZE + 12345, MOST, SIZE / 2 + 99,
                                     SIZE};
    char from[24] = "", to[24], ours[24];
    struct stream s;
    struct pair p;

    begin(&p, source, copy);
    for (unsigned i = 0; i < 5; i++) {
        resize(&p, sizes[i]);
        write_some(&p);
        (void)snprintf(to, sizeof to, "v1@s%u", i);
        snapshot(&p, to);
        write_some(&p); /* what comes later is not in it */
        export(&p, from[0] ? from : NULL, to, &s);
        MUST(import(&p, &s));
        assert_int_equal(snapshots_of_copy(&p), i + 1);
        free(s.bytes);
        memcpy(from, to, sizeof from);
        memcpy(p.before, p.model, MOST);
        world_close(&p.world);
        MUST(lsvd_snapshot_rollback(&p.world.env, to));
        world_open(&p.world);
        MUST(lsvd_pread(p.world.volume, p.model, p.size, 0));
        (void)snprintf(ours, sizeof ours, "copy@s%u", i);
        check(&p, "copy", p.model, p.size);
        check(&p, ours, p.model, p.size);
    }
    write_some(&p);
    world_close(&p.world);
    export(&p, "v1@s4", NAME, &s); /* a volume: no snapshot is made of it */
    MUST(import(&p, &s));
    check(&p, "copy", p.model, p.size);
    assert_int_equal(snapshots_of_copy(&p), 5);
    free(s.bytes);
    end(&p);
}

static void
test_a_copy_follows(void **state)
{
    (void)state;
    follow(&one, &one);
    follow(&small, &wide);
    follow(&wide, &small);
}

/* The source went back, and on from there. */
static void
test_a_branch(void **state)
{
    struct stream s;
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    write_some(&p);
    snapshot(&p, "v1@a");
    memcpy(p.before, p.model, MOST);
    write_some(&p);
    snapshot(&p, "v1@b");
    export(&p, NULL, "v1@b", &s);
    MUST(import(&p, &s));
    free(s.bytes);
    world_close(&p.world);
    MUST(lsvd_snapshot_rollback(&p.world.env, "v1@a"));
    world_open(&p.world);
    memcpy(p.model, p.before, MOST);
    write_some(&p);
    snapshot(&p, "v1@c");
    export(&p, "v1@b", "v1@c", &s);
    MUST(import(&p, &s));
    check(&p, "copy", p.model, p.size);
    free(s.bytes);
    end(&p);
}

/* ---- what is wrong ---- */

/* A copy at v1@a, and the stream from there to v1@b, with data and zeroes and
 * another size. Or, is_whole: an empty copy, and the stream of all. */
static void
begin_step(struct pair *p, bool is_whole, struct stream *s)
{
    begin(p, &one, &one);
    put(p, 0, CHUNK);
    snapshot(p, "v1@a");
    export(p, NULL, "v1@a", s);
    if (!is_whole) {
        MUST(import(p, s));
        memcpy(p->before, p->model, MOST);
        free(s->bytes);
    }
    resize(p, SIZE + 5000);
    put(p, 100, 5000);
    zero(p, 40960, 8192);
    put(p, CHUNK + 5000, 3000);
    put(p, SIZE, 4000);
    snapshot(p, "v1@b");
    if (is_whole)
        free(s->bytes);
    export(p, is_whole ? NULL : "v1@a", "v1@b", s);
}

static void
check_unchanged(struct pair *p, bool is_whole, unsigned count)
{
    check(p, "copy", p->before, SIZE);
    assert_int_equal(snapshots_of_copy(p), is_whole ? 0 : 1);
    assert_int_equal(volumes(p), count);
}

static void
end_step(struct pair *p, struct stream *s)
{
    s->fails_after = -1;
    MUST(import(p, s));
    check(p, "copy", p->model, p->size);
    check(p, "copy@b", p->model, p->size);
    free(s->bytes);
    end(p);
}

static void
cut(bool is_whole)
{
    struct stream s;
    struct pair p;
    unsigned count;

    begin_step(&p, is_whole, &s);
    count = volumes(&p);
    for (size_t n = 0; n < s.count; n += n < HEADER ? 51 : 1 + s.count / 30) {
        assert_int_equal(import_some(&p, &s, n), -EBADMSG);
        assert_non_null(strstr(lsvd_error(), "too early"));
        check_unchanged(&p, is_whole, count);
    }
    assert_int_equal(import_some(&p, &s, s.count - 1), -EBADMSG);
    check_unchanged(&p, is_whole, count);
    take(&s, "", 1); /* and one too many */
    assert_int_equal(import(&p, &s), -EBADMSG);
    check_unchanged(&p, is_whole, count);
    s.count--;
    end_step(&p, &s);
}

static void
test_cut_anywhere(void **state)
{
    (void)state;
    cut(false);
    cut(true);
}

static void
test_any_bit(void **state)
{
    struct stream s;
    struct pair p;
    unsigned count;

    (void)state;
    begin_step(&p, false, &s);
    count = volumes(&p);
    for (size_t n = 0; n < s.count; n += n < HEADER + RECORD ? 7 : 977) {
        int r;

        s.bytes[n] ^= (uint8_t)(1u << n % 8);
        r = import(&p, &s);
        assert_int_equal(r, -EBADMSG);
        s.bytes[n] ^= (uint8_t)(1u << n % 8);
        check_unchanged(&p, false, count);
    }
    end_step(&p, &s);
}

/* Ctrl-C at each read. */
static void
interrupt(bool is_whole)
{
    struct stream s;
    struct pair p;
    unsigned count, n = 0;
    int r;

    begin_step(&p, is_whole, &s);
    count = volumes(&p);
    for (;; n++) {
        s.fails_after = (int)n;
        r = import(&p, &s);
        if (r == 0)
            break;
        assert_int_equal(r, -EINTR);
        assert_string_equal(lsvd_error(), "interrupted");
        check_unchanged(&p, is_whole, count);
    }
    assert_true(n > 8);
    check(&p, "copy@b", p.model, p.size);
    free(s.bytes);
    end(&p);
}

static void
test_interrupted(void **state)
{
    (void)state;
    interrupt(false);
    interrupt(true);
}

static void
write_to_copy(struct pair *p, const char *what)
{
    struct lsvd_volume *v;

    MUST(lsvd_open(&p->world.env, "copy", 0, &v));
    MUST(lsvd_pwrite(v, what, 1, 5, 0));
    MUST(lsvd_close(v));
}

static void
test_the_copy_is_another(void **state)
{
    const struct lsvd_env *env;
    struct stream s, whole;
    struct pair p;

    (void)state;
    begin_step(&p, false, &s);
    env = &p.world.env;
    export(&p, NULL, "v1@b", &whole);
    assert_int_equal(import(&p, &whole), -EEXIST);
    assert_non_null(strstr(lsvd_error(), "empty volume"));

    MUST(lsvd_set(env, "copy", "append-only", "on"));
    assert_int_equal(import(&p, &s), -EPERM);
    MUST(lsvd_set(env, "copy", "append-only", "off"));
    MUST(lsvd_set(env, "copy", "read-only", "on"));
    assert_int_equal(import(&p, &s), -EROFS);
    MUST(lsvd_set(env, "copy", "read-only", "off"));

    MUST(lsvd_snapshot_create(env, "copy@mine"));
    assert_int_equal(import(&p, &s), -EINVAL);
    assert_non_null(strstr(lsvd_error(), "copy@mine"));
    check(&p, "copy", p.before, SIZE);
    free(whole.bytes);
    free(s.bytes);
    end(&p);
}

static void
test_the_copy_was_changed(void **state)
{
    const struct lsvd_env *env;
    struct stream s;
    struct pair p;

    (void)state;
    begin_step(&p, false, &s);
    env = &p.world.env;
    write_to_copy(&p, "x");
    assert_int_equal(import(&p, &s), -EEXIST);
    assert_non_null(strstr(lsvd_error(), "rollback copy@a"));
    MUST(lsvd_snapshot_rollback(env, "copy@a"));
    MUST(lsvd_resize(env, "copy", SIZE / 2, true));
    assert_int_equal(import(&p, &s), -EEXIST);
    assert_non_null(strstr(lsvd_error(), "resized"));
    MUST(lsvd_resize(env, "copy", SIZE, true)); /* half of it is gone */
    assert_int_equal(import(&p, &s), -EEXIST);
    MUST(lsvd_snapshot_rollback(env, "copy@a"));
    MUST(import(&p, &s));
    check(&p, "copy", p.model, p.size);
    assert_int_equal(import(&p, &s), -EEXIST); /* twice */
    assert_non_null(strstr(lsvd_error(), "imported before"));
    check(&p, "copy", p.model, p.size);
    free(s.bytes);
    end(&p);
}

/* One of that name that was made here: nobody knows whether it holds the same.
 * But of what was renamed it is known. */
static void
test_the_snapshot_must_be_known(void **state)
{
    struct lsvd_create spec = {.name = "copy", .size_bytes = SIZE,
                               .journal_bytes = 1u << 20};
    const struct lsvd_env *env;
    struct stream s;
    struct pair p;

    (void)state;
    begin_step(&p, false, &s);
    env = &p.world.env;
    MUST(lsvd_rename(env, "copy", "old"));
    MUST(lsvd_create(env, &spec));
    MUST(lsvd_snapshot_create(env, "copy@a"));
    assert_int_equal(import(&p, &s), -EINVAL);
    assert_non_null(strstr(lsvd_error(), "not known"));
    MUST(lsvd_remove(env, "copy"));
    MUST(lsvd_snapshot_remove(env, "copy@a", 0, NULL));
    MUST(lsvd_rename(env, "old", "copy"));
    end_step(&p, &s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copy_follows),
        cmocka_unit_test(test_a_branch),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_any_bit),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_the_copy_is_another),
        cmocka_unit_test(test_the_copy_was_changed),
        cmocka_unit_test(test_the_snapshot_must_be_known),
    };

    return cmocka_run_group_tests_name("volume-stream", tests, NULL, NULL);
}
