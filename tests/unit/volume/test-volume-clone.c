/* A clone reads as its parent does but for what was written to it, whatever
 * was written, trimmed, destaged or cut off; and its parent stays as it is. */
#include "unit.h"
#include "world.h"
#include "base/io.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 4096, CHUNK = 256 << 10, BYTES = 2 << 20, STEPS = FEWER(100),
       CLONE = 12 }; /* the number that it gets */

/* ---- a parent and a clone of it ---- */

struct family {
    struct world world;
    struct lsvd_volume *clone;
    uint8_t *parent, *model, *found; /* BYTES each */
    uint64_t size, random;
};

static const struct kind one = {.replicas = 1, .block_bytes = BLOCK,
                                .chunk_bytes = CHUNK, .size_bytes = BYTES};
static const struct kind three = {.replicas = 3, .block_bytes = BLOCK,
                                  .chunk_bytes = CHUNK, .size_bytes = BYTES};
static const struct kind small = {.replicas = 2, .block_bytes = 512,
                                  .chunk_bytes = CHUNK, .size_bytes = BYTES};
static const struct kind ec21 = {.ec_data = 2, .ec_parity = 1,
                                 .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                                 .size_bytes = BYTES};
static const struct kind ec42 = {.ec_data = 4, .ec_parity = 2,
                                 .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                                 .size_bytes = BYTES};
static const struct kind ec31 = {.ec_data = 3, .ec_parity = 1,
                                 .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                                 .size_bytes = BYTES};

static int
make_clone(struct world *w, const char *parent, const char *name,
           const struct kind *kind)
{
    struct lsvd_create spec = {.name = name, .parent = parent,
                               .journal_bytes = 1u << 20};

    if (kind) {
        spec.replicas = kind->replicas;
        spec.ec_data = kind->ec_data;
        spec.ec_parity = kind->ec_parity;
    }
    return lsvd_create(&w->env, &spec);
}

/* The parent: chunks 0 and 1 full, 2 half, 3 every other block, others holes.
 */
static void
fill_parent(struct family *f)
{
    uint64_t half = CHUNK / 2;

    world_open(&f->world);
    random_fill(&f->random, f->parent, 2 * CHUNK + half);
    for (uint64_t at = 3 * CHUNK; at < 4 * CHUNK; at += 2 * BLOCK)
        random_fill(&f->random, f->parent + at, BLOCK);
    for (uint64_t at = 0; at < 4 * CHUNK; at += BLOCK) {
        if (at >= 2 * CHUNK + half && at < 3 * CHUNK)
            continue;
        if (at >= 3 * CHUNK && at / BLOCK % 2 == 1)
            continue;
        MUST(lsvd_pwrite(f->world.volume, f->parent + at, BLOCK, at, 0));
    }
    world_close(&f->world);
}

static void
open_clone(struct family *f)
{
    MUST(lsvd_open(&f->world.env, "v2", 0, &f->clone));
    assert_true(lsvd_can_write(f->clone));
}

static void
close_clone(struct family *f)
{
    struct lsvd_volume *v = f->clone;

    f->clone = NULL;
    MUST(lsvd_close(v));
}

static void
begin(struct family *f, const struct kind *parent, const struct kind *clone)
{
    *f = (struct family){.size = BYTES, .random = 7};
    f->parent = calloc(1, BYTES);
    f->model = malloc(BYTES);
    f->found = malloc(BYTES);
    assert_true(f->parent && f->model && f->found);
    world_init(&f->world, parent);
    fill_parent(f);
    memcpy(f->model, f->parent, BYTES);
    MUST(lsvd_set(&f->world.env, NAME, "read-only", "on"));
    MUST(make_clone(&f->world, NAME, "v2", clone));
    open_clone(f);
}

static struct lsvd_counters
counters_of(struct lsvd_volume *v)
{
    static struct lsvd_info info; /* large */

    lsvd_get_info(v, &info);
    return info.counters;
}

static void
check(struct family *f)
{
    MUST(lsvd_pread(f->clone, f->found, f->size, 0));
    assert_memory_equal(f->found, f->model, f->size);
}

static void
check_parent(struct family *f)
{
    struct lsvd_volume *v;

    MUST(lsvd_open(&f->world.env, NAME, LSVD_OPEN_READ_ONLY, &v));
    MUST(lsvd_pread(v, f->found, BYTES, 0));
    assert_memory_equal(f->found, f->parent, BYTES);
    MUST(lsvd_close(v));
}

static void
check_sound(struct family *f, const char *name)
{
    struct lsvd_report report;

    MUST(lsvd_verify(&f->world.env, name, true, NULL, &report));
    assert_true(report.policy_met);
    assert_false(report.data_lost);
}

static void
end(struct family *f)
{
    if (f->clone)
        close_clone(f);
    check_sound(f, "v2");
    check_sound(f, NAME);
    check_parent(f);
    world_done(&f->world);
    free(f->parent);
    free(f->model);
    free(f->found);
}

static void
drain(struct family *f)
{
    while (MUST(lsvd_destage_step(f->clone)) > 0)
        ;
}

static void
put(struct family *f, uint64_t at, size_t count)
{
    random_fill(&f->random, f->model + at, count);
    MUST(lsvd_pwrite(f->clone, f->model + at, count, at, 0));
}

static void
zero(struct family *f, uint64_t at, size_t count)
{
    memset(f->model + at, 0, count);
    MUST(lsvd_zero(f->clone, count, at, 0));
}

static void
reopen(struct family *f, bool killed)
{
    if (killed)
        lsvd_abandon(f->clone);
    else
        MUST(lsvd_close(f->clone));
    open_clone(f);
}

/* ---- anything at all ---- */

static void
step(struct family *f)
{
    uint64_t at = random_below(&f->random, f->size), count = BLOCK;

    switch (random_below(&f->random, 12)) {
    case 0:
    case 1:
    case 2:
        put(f, at, 1 + random_below(&f->random, f->size - at) % 9000);
        return;
    case 3:
    case 4:
        at -= at % BLOCK;
        put(f, at, count);
        return;
    case 5: /* whole chunks, perhaps */
        at -= at % CHUNK;
        zero(f, at, CHUNK);
        return;
    case 6:
        zero(f, at, 1 + random_below(&f->random, f->size - at));
        return;
    case 7:
        at -= at % BLOCK;
        zero(f, at, count);
        return;
    case 8:
        drain(f);
        return;
    case 9:
        reopen(f, random_below(&f->random, 2));
        return;
    default:
        check(f);
        return;
    }
}

static void
live(const struct kind *parent, const struct kind *clone)
{
    struct family f;

    begin(&f, parent, clone);
    check(&f);
    for (unsigned i = 0; i < STEPS; i++)
        step(&f);
    check(&f);
    drain(&f);
    reopen(&f, false);
    check(&f);
    end(&f);
}

static void
test_replicas(void **state)
{
    (void)state;
    live(&one, NULL);
    live(&three, NULL);
    live(&small, NULL);
}

static void
test_erasure_coded(void **state)
{
    (void)state;
    live(&ec21, NULL);
    live(&ec42, NULL);
    live(&ec31, NULL);
}

static void
test_another_redundancy_than_the_parent(void **state)
{
    (void)state;
    live(&one, &ec42);
    live(&ec21, &three);
}

/* ---- zeroes are not the parent's blocks ---- */

static void
zeroes(const struct kind *kind)
{
    struct family f;

    begin(&f, kind, NULL);
    zero(&f, 0, CHUNK);                /* a chunk */
    zero(&f, CHUNK + 3 * BLOCK, BLOCK); /* a block of one that has no file */
    put(&f, CHUNK + 9 * BLOCK, BLOCK);
    zero(&f, 2 * CHUNK, CHUNK / 4);
    drain(&f);
    check(&f);
    reopen(&f, false);
    check(&f);
    put(&f, 5 * BLOCK, BLOCK); /* the rest of the chunk stays zero */
    zero(&f, CHUNK + 9 * BLOCK, BLOCK);
    drain(&f);
    reopen(&f, false);
    check(&f);
    zero(&f, 0, CHUNK); /* and once more, with a file */
    put(&f, 7 * BLOCK, 100);
    drain(&f);
    reopen(&f, true);
    check(&f);
    end(&f);
}

static void
test_zeroes_hide_the_parent(void **state)
{
    (void)state;
    zeroes(&three);
    zeroes(&ec42);
}

/* A part of the clone is gone: what was its own, what is zero and what is the
 * parent's can still be told from each other. */
static void
test_degraded(void **state)
{
    char from[512], to[512];
    struct family f;

    (void)state;
    begin(&f, &ec42, NULL);
    put(&f, 0, CHUNK / 2);
    zero(&f, CHUNK / 4, CHUNK / 8);
    zero(&f, CHUNK, BLOCK);
    drain(&f);
    close_clone(&f);
    snprintf(from, sizeof from, "%s/%d/b", f.world.data, CLONE);
    snprintf(to, sizeof to, "%s/away", f.world.path);
    assert_int_equal(rename(from, to), 0);
    open_clone(&f);
    check(&f);
    put(&f, 3 * BLOCK, 5 * BLOCK);
    zero(&f, CHUNK + BLOCK, 6 * BLOCK);
    drain(&f);
    check(&f);
    close_clone(&f);
    assert_int_equal(rename(to, from), 0);
    MUST(lsvd_rebuild(&f.world.env, "v2", 0, false, NULL,
                      &(struct lsvd_report){0}));
    open_clone(&f);
    check(&f);
    end(&f);
}

static uint64_t
allocated(const char *root, const char *rest)
{
    char path[512];
    struct stat st;

    snprintf(path, sizeof path, "%s/%d/%s", root, CLONE, rest);
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Zeroes take no space, also of a part that was made anew. */
static void
test_zeroes_are_holes(void **state)
{
    struct lsvd_report report;
    struct family f;

    (void)state;
    begin(&f, &ec42, NULL);
    zero(&f, 0, CHUNK);
    drain(&f);
    put(&f, 5 * BLOCK, BLOCK); /* of part b */
    drain(&f);
    check(&f);
    for (char part[] = "a/1"; part[0] <= 'f'; part[0]++)
        assert_true(allocated(f.world.data, part) <= 5 * BLOCK);
    close_clone(&f);
    MUST(lsvd_replace(&f.world.env, "v2", 'b', f.world.cache, NULL, &report));
    assert_true(allocated(f.world.cache, "b/1") <= 5 * BLOCK);
    open_clone(&f);
    check(&f);
    end(&f);
}

/* ---- what is allocated ---- */

struct map {
    const struct family *f;
    uint64_t next;
    unsigned runs;
};

static int
take_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct map *map = ctx;

    assert_int_equal(offset, map->next);
    map->next += count;
    map->runs++;
    for (uint64_t at = offset; at < offset + count; at += BLOCK) {
        bool is_zero = map->f->model[at] == 0 &&
                       memcmp(map->f->model + at, map->f->model + at + 1,
                              BLOCK - 1) == 0;

        assert_int_equal(is_data, !is_zero);
    }
    return 0;
}

static void
check_extents(struct family *f)
{
    struct map map = {.f = f};

    MUST(lsvd_extents(f->clone, BYTES, 0, take_extent, &map));
    assert_int_equal(map.next, BYTES);
    assert_true(map.runs > 2);
}

static void
test_extents(void **state)
{
    struct family f;

    (void)state;
    begin(&f, &ec21, NULL);
    check_extents(&f);
    zero(&f, CHUNK, CHUNK);
    zero(&f, 4 * BLOCK, 3 * BLOCK);
    put(&f, 2 * CHUNK + 5 * BLOCK, BLOCK);
    put(&f, 6 * CHUNK, BLOCK);
    check_extents(&f);
    drain(&f);
    check_extents(&f);
    reopen(&f, false);
    check_extents(&f);
    end(&f);
}

/* ---- sizes ---- */

static void
test_what_was_cut_off_stays_so(void **state)
{
    struct family f;

    (void)state;
    begin(&f, &three, NULL);
    put(&f, CHUNK, BLOCK);
    close_clone(&f);
    MUST(lsvd_resize(&f.world.env, "v2", CHUNK + CHUNK / 2 + 100, true));
    MUST(lsvd_resize(&f.world.env, "v2", BYTES, false));
    memset(f.model + CHUNK + CHUNK / 2 + 100, 0,
           BYTES - CHUNK - CHUNK / 2 - 100);
    open_clone(&f);
    check(&f);
    put(&f, 3 * CHUNK, 1);
    drain(&f);
    check(&f);
    end(&f);
}

static void
test_larger_than_the_parent(void **state)
{
    struct family f;
    uint8_t *tail = calloc(1, BYTES);

    (void)state;
    assert_non_null(tail);
    begin(&f, &ec21, NULL);
    MUST(lsvd_live_resize(f.clone, 2 * BYTES));
    check(&f);
    MUST(lsvd_pread(f.clone, f.found, BYTES, BYTES));
    assert_memory_equal(f.found, tail, BYTES);
    random_fill(&f.random, tail, BLOCK);
    MUST(lsvd_pwrite(f.clone, tail, BLOCK, BYTES, 0));
    drain(&f);
    reopen(&f, true);
    MUST(lsvd_pread(f.clone, f.found, BYTES, BYTES));
    assert_memory_equal(f.found, tail, BYTES);
    free(tail);
    end(&f);
}

/* The parent ends, or shows no further, in the middle of a block: what lies
 * behind is zeroes, in the clone and in a clone of that. */
static void
test_overlap_ends_within_a_block(void **state)
{
    struct lsvd_create spec = {.name = "v2", .parent = NAME,
                               .size_bytes = 10000,
                               .journal_bytes = 1u << 20};
    struct family f;
    struct lsvd_volume *v;

    (void)state;
    f = (struct family){.size = BYTES, .random = 7};
    f.parent = calloc(1, BYTES);
    f.model = calloc(1, BYTES);
    f.found = malloc(BYTES);
    assert_true(f.parent && f.model && f.found);
    world_init(&f.world, &three);
    fill_parent(&f);
    memcpy(f.model, f.parent, spec.size_bytes);
    MUST(lsvd_set(&f.world.env, NAME, "read-only", "on"));
    MUST(lsvd_create(&f.world.env, &spec));
    MUST(lsvd_set(&f.world.env, "v2", "read-only", "on"));
    spec = (struct lsvd_create){.name = "v3", .parent = "v2",
                                .size_bytes = BYTES,
                                .journal_bytes = 1u << 20};
    MUST(lsvd_create(&f.world.env, &spec));
    MUST(lsvd_open(&f.world.env, "v3", 0, &v));
    MUST(lsvd_pread(v, f.found, BYTES, 0));
    assert_memory_equal(f.found, f.model, BYTES);
    MUST(lsvd_close(v));
    MUST(lsvd_remove(&f.world.env, "v3"));
    MUST(lsvd_set(&f.world.env, "v2", "read-only", "off"));
    MUST(lsvd_resize(&f.world.env, "v2", BYTES, false));
    open_clone(&f);
    check(&f);
    f.model[10001] = 77; /* a part of that block */
    MUST(lsvd_pwrite(f.clone, f.model + 10001, 1, 10001, 0));
    check(&f);
    drain(&f);
    end(&f);
}

/* ---- one above the other ---- */

static void
test_clone_of_a_clone(void **state)
{
    struct lsvd_volume *v;
    struct family f;

    (void)state;
    begin(&f, &ec42, NULL);
    put(&f, 11 * BLOCK, 3 * BLOCK);
    zero(&f, CHUNK, CHUNK);
    close_clone(&f);
    MUST(lsvd_set(&f.world.env, "v2", "read-only", "on"));
    MUST(make_clone(&f.world, "v2", "v3", NULL));
    MUST(lsvd_open(&f.world.env, "v3", 0, &v));
    MUST(lsvd_pread(v, f.found, BYTES, 0));
    assert_memory_equal(f.found, f.model, BYTES);
    random_fill(&f.random, f.model + CHUNK, BLOCK);
    MUST(lsvd_pwrite(v, f.model + CHUNK, BLOCK, CHUNK, 0));
    while (MUST(lsvd_destage_step(v)) > 0)
        ;
    MUST(lsvd_pread(v, f.found, BYTES, 0));
    assert_memory_equal(f.found, f.model, BYTES);
    MUST(lsvd_close(v));
    check_sound(&f, "v3");
    end(&f);
}

/* As many as are allowed, and one more. */
static void
test_chain(void **state)
{
    enum { DEPTH = 64 };
    struct lsvd_volume *v;
    struct family f;
    char name[16], above[16] = "v2";

    (void)state;
    begin(&f, &one, NULL);
    put(&f, BLOCK, BLOCK);
    close_clone(&f);
    f.world.env.io = io_system(); /* deadlines would take most of the time */
    for (unsigned depth = 2; depth <= DEPTH; depth++) {
        snprintf(name, sizeof name, "v%u", depth + 1);
        MUST(lsvd_set(&f.world.env, above, "read-only", "on"));
        MUST(make_clone(&f.world, above, name, NULL));
        memcpy(above, name, sizeof above);
    }
    MUST(lsvd_open(&f.world.env, name, 0, &v));
    MUST(lsvd_pread(v, f.found, BYTES, 0));
    assert_memory_equal(f.found, f.model, BYTES);
    MUST(lsvd_close(v));
    MUST(lsvd_set(&f.world.env, name, "read-only", "on"));
    assert_int_equal(make_clone(&f.world, name, "one-more", NULL), -ELOOP);
    end(&f);
}

/* ---- what is refused ---- */

static void
test_refusals(void **state)
{
    struct lsvd_env *env;
    struct lsvd_info info;
    struct family f;
    struct kind kind = three;

    (void)state;
    world_init(&f.world, &kind);
    env = &f.world.env;
    assert_int_equal(make_clone(&f.world, NAME, "v2", NULL), -EROFS);
    assert_non_null(strstr(lsvd_error(), "read-only=on"));
    assert_int_equal(make_clone(&f.world, "none", "v2", NULL), -ENOENT);
    MUST(lsvd_set(env, NAME, "read-only", "on"));
    MUST(make_clone(&f.world, NAME, "v2", NULL));
    MUST(make_clone(&f.world, NAME, "v3", NULL));
    assert_int_equal(make_clone(&f.world, NAME, "v3", NULL), -EEXIST);
    assert_int_equal(lsvd_set(env, NAME, "read-only", "off"), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "v2, v3"));
    assert_int_equal(lsvd_resize(env, NAME, 2 * BYTES, false), -EBUSY);
    assert_int_equal(lsvd_remove(env, NAME), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "v2, v3"));
    MUST(lsvd_info(env, NAME, &info));
    assert_string_equal(info.children, "v2, v3");
    assert_int_equal(info.child_count, 2);
    MUST(lsvd_info(env, "v2", &info));
    assert_string_equal(info.parent, NAME);
    assert_int_equal(info.parent_number, 11);
    assert_int_equal(info.overlap_bytes, BYTES);
    MUST(lsvd_remove(env, "v2"));
    assert_int_equal(lsvd_remove(env, NAME), -EBUSY);
    MUST(lsvd_remove(env, "v3"));
    MUST(lsvd_set(env, NAME, "read-only", "off"));
    MUST(lsvd_remove(env, NAME));
    world_done(&f.world);
}

/* What else the roots know does not matter to it, but a clone does, whatever
 * its name. */
static void
test_roots_that_know_others(void **state)
{
    char second[300], third[300], path[600];
    const char *both[] = {NULL, second, NULL};
    const char *roots_of[][2] = {{NULL, NULL}, {second, NULL}};
    struct lsvd_create_part parts[] = {{'a', NULL}, {'b', second}};
    struct lsvd_create_part only[] = {{'a', second}};
    struct lsvd_create spec = {.name = "golden", .size_bytes = BYTES,
                               .replicas = 2, .parts = parts,
                               .part_count = 2};
    struct lsvd_env env;
    struct world w;

    (void)state;
    world_init(&w, &one); /* v1, under the first root */
    snprintf(second, sizeof second, "%s/second", w.path);
    snprintf(third, sizeof third, "%s/third", w.path);
    assert_int_equal(mkdir(second, 0700), 0);
    both[0] = roots_of[0][0] = parts[0].root = w.data;
    env = w.env;
    env.data = both;
    MUST(lsvd_create(&env, &spec));
    MUST(lsvd_set(&env, "golden", "read-only", "on"));
    /* another v1, a clone, which only the second root knows */
    env.data = roots_of[1];
    spec = (struct lsvd_create){.name = "v1", .parent = "golden",
                                .replicas = 1, .parts = only,
                                .part_count = 1,
                                .journal_bytes = 1u << 20};
    MUST(lsvd_create(&env, &spec));
    env.data = roots_of[0];
    assert_int_equal(lsvd_remove(&env, "golden"), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "of v1:"));
    env.data = roots_of[1];
    MUST(lsvd_remove(&env, "v1"));
    /* and one that is none */
    spec.parent = NULL;
    spec.name = "x";
    spec.size_bytes = BYTES;
    MUST(lsvd_create(&env, &spec));
    env.data = roots_of[0];
    MUST(lsvd_set(&env, "golden", "read-only", "off"));
    /* a directory that is gone, with its name still there */
    snprintf(path, sizeof path, "%s/13", second);
    assert_int_equal(rename(path, third), 0);
    MUST(lsvd_set(&env, "golden", "read-only", "on"));
    MUST(lsvd_remove(&env, "golden"));
    world_done(&w);
}

/* Without its parent a clone does not start, and is not sound; its own chunks
 * can be put back. */
static void
test_parent_is_gone(void **state)
{
    struct lsvd_report report;
    char from[512], to[512];
    struct family f;

    (void)state;
    begin(&f, &three, NULL);
    put(&f, 0, BLOCK);
    close_clone(&f);
    snprintf(from, sizeof from, "%s/11", f.world.data);
    snprintf(to, sizeof to, "%s/away", f.world.path);
    assert_int_equal(rename(from, to), 0);
    assert_true(lsvd_open(&f.world.env, "v2", 0, &f.clone) < 0);
    assert_non_null(strstr(lsvd_error(), "volume v2: its parent"));
    f.clone = NULL;
    assert_int_equal(lsvd_verify(&f.world.env, "v2", true, NULL, &report),
                     -ENOENT);
    assert_non_null(strstr(lsvd_error(), "volume v2: its parent"));
    MUST(lsvd_rebuild(&f.world.env, "v2", 0, false, NULL, &report));
    assert_true(report.policy_met);
    assert_int_equal(rename(to, from), 0);
    open_clone(&f);
    check(&f);
    end(&f);
}

/* A copy of an image that is mostly zeroes: large writes of them, which go past
 * the journal, where the parent has data and where it has none. */
static void
test_streams_of_zeroes(void **state)
{
    static const char *const settings[] = {"bypass-after=0", NULL};
    static const struct kind *const kinds[] = {&one, &three, &ec21, &ec42};
    enum { PIECE = 64 << 10 };

    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct lsvd_create spec = {.name = "v3", .parent = NAME,
                                   .journal_bytes = 32 << 20};
        struct lsvd_counters counters;
        struct family f;

        begin(&f, kinds[k], NULL);
        MUST(lsvd_create(&f.world.env, &spec));
        close_clone(&f);
        f.world.env.settings = settings;
        MUST(lsvd_open(&f.world.env, "v3", 0, &f.clone));
        memset(f.model, 0, BYTES);
        for (uint64_t at = 0; at < BYTES; at += PIECE)
            MUST(lsvd_pwrite(f.clone, f.model + at, PIECE, at, 0));
        counters = counters_of(f.clone);
        assert_in_range(counters.bypass_bytes, BYTES / 2, BYTES);
        check(&f);
        MUST(lsvd_close(f.clone));
        MUST(lsvd_open(&f.world.env, "v3", 0, &f.clone));
        check(&f);
        close_clone(&f);
        check_sound(&f, "v3");
        open_clone(&f);
        memcpy(f.model, f.parent, BYTES);
        check(&f);
        end(&f);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas),
        cmocka_unit_test(test_erasure_coded),
        cmocka_unit_test(test_another_redundancy_than_the_parent),
        cmocka_unit_test(test_zeroes_hide_the_parent),
        cmocka_unit_test(test_degraded),
        cmocka_unit_test(test_zeroes_are_holes),
        cmocka_unit_test(test_extents),
        cmocka_unit_test(test_what_was_cut_off_stays_so),
        cmocka_unit_test(test_larger_than_the_parent),
        cmocka_unit_test(test_overlap_ends_within_a_block),
        cmocka_unit_test(test_clone_of_a_clone),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_roots_that_know_others),
        cmocka_unit_test(test_parent_is_gone),
        cmocka_unit_test(test_streams_of_zeroes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
