/* What lsvd_diff tells of two states of a volume, against their bytes and
 * against what was asked of the volume between them: nothing that differs is
 * missed, and nothing is told that no request touched. */
#include "unit.h"
#include "world.h"
#include "base/io.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 << 10, SIZE = 1 << 20, MOST = 2 << 20, STATES = 8,
       LAYERS = 64, BLOCKS = MOST / 512, PARTIAL = 777 };

/* A volume of the chain, as it should be. */
struct layer {
    int parent; /* -1: none */
    uint64_t size, overlap;
    bool touched[BLOCKS];
};

struct state { /* a snapshot */
    char name[16];
    int layer;
    uint64_t size;
    uint8_t *bytes; /* owned; MOST */
};

struct family {
    struct world world;
    uint64_t random, block, size;
    uint8_t *model; /* MOST; zeroes behind the end */
    uint8_t *found;
    struct layer layer[LAYERS];
    int layers, top; /* top: the volume's own */
    struct state state[STATES];
    int states, named;
    bool told[BLOCKS], is_data[BLOCKS];
    uint64_t told_to; /* bytes */
};

static void
begin(struct family *f, const struct kind *kind, uint64_t seed)
{
    *f = (struct family){.random = seed, .block = kind->block_bytes,
                         .size = kind->size_bytes, .layers = 1};
    f->model = calloc(1, MOST);
    f->found = malloc(MOST);
    assert_true(f->model && f->found);
    f->layer[0] = (struct layer){.parent = -1, .size = f->size};
    world_init(&f->world, kind);
    f->world.env.io = io_system();
    world_open(&f->world);
}

static void
end(struct family *f)
{
    if (f->world.volume)
        world_close(&f->world);
    world_check_sound(&f->world);
    world_done(&f->world);
    for (int i = 0; i < f->states; i++)
        free(f->state[i].bytes);
    free(f->model);
    free(f->found);
}

/* ---- requests ---- */

static void
touch(struct family *f, uint64_t at, uint64_t count)
{
    for (uint64_t b = at / f->block; b * f->block < at + count; b++)
        f->layer[f->top].touched[b] = true;
}

static void
put(struct family *f, uint64_t at, uint64_t count)
{
    random_fill(&f->random, f->model + at, count);
    MUST(lsvd_pwrite(f->world.volume, f->model + at, count, at, 0));
    touch(f, at, count);
}

static void
zero(struct family *f, uint64_t at, uint64_t count)
{
    memset(f->model + at, 0, count);
    if (random_below(&f->random, 2))
        MUST(lsvd_trim(f->world.volume, count, at, 0));
    else
        MUST(lsvd_zero(f->world.volume, count, at, 0));
    touch(f, at, count);
}

static void
request(struct family *f)
{
    uint64_t at = random_below(&f->random, f->size), count = f->block;

    if (random_below(&f->random, 3) == 0)
        at -= at % f->block;
    if (random_below(&f->random, 5) == 0) {
        at -= at % CHUNK;
        count = CHUNK;
    } else if (random_below(&f->random, 2)) {
        count = 1 + random_below(&f->random, 9 * f->block);
    }
    if (count > f->size - at)
        count = f->size - at;
    if (random_below(&f->random, 3))
        put(f, at, count);
    else
        zero(f, at, count);
}

/* ---- what happens to volumes ---- */

static int
new_layer(struct family *f, int parent, uint64_t size)
{
    assert_true(f->layers < LAYERS);
    f->layer[f->layers] = (struct layer){.parent = parent, .size = size,
                                         .overlap = size};
    return f->layers++;
}

static void
snapshot(struct family *f)
{
    struct state *s = &f->state[f->states++];

    (void)snprintf(s->name, sizeof s->name, NAME "@s%d", f->named++);
    s->layer = f->top;
    s->size = f->size;
    s->bytes = malloc(MOST);
    assert_non_null(s->bytes);
    memcpy(s->bytes, f->model, MOST);
    world_close(&f->world);
    MUST(lsvd_snapshot_create(&f->world.env, s->name));
    world_open(&f->world);
    f->top = new_layer(f, s->layer, f->size);
}

static void
rollback(struct family *f)
{
    const struct state *s = &f->state[random_below(&f->random,
                                                   (uint64_t)f->states)];

    world_close(&f->world);
    MUST(lsvd_snapshot_rollback(&f->world.env, s->name));
    world_open(&f->world);
    memcpy(f->model, s->bytes, MOST);
    f->size = s->size;
    f->top = new_layer(f, s->layer, f->size);
}

static void
resize(struct family *f)
{
    struct layer *top = &f->layer[f->top];
    uint64_t size = MOST / 4 + random_below(&f->random, MOST * 3 / 4);

    if (random_below(&f->random, 2))
        size -= size % f->block;
    if (size < f->size)
        touch(f, size, f->size - size);
    world_close(&f->world);
    MUST(lsvd_resize(&f->world.env, NAME, size, true));
    world_open(&f->world);
    memset(f->model + size, 0, MOST - size);
    f->size = top->size = size;
    if (top->overlap > size)
        top->overlap = size;
}

/* How many layers have it below them, and one of them. */
static int
dependants(const struct family *f, int layer, int *ret)
{
    int count = 0;

    *ret = -1;
    for (int i = 0; i < f->states; i++) {
        if (f->layer[f->state[i].layer].parent == layer) {
            *ret = f->state[i].layer;
            count++;
        }
    }
    if (f->layer[f->top].parent == layer) {
        *ret = f->top;
        count++;
    }
    return count;
}

/* What it says goes to the one above it. */
static void
remove_one(struct family *f)
{
    int which = (int)random_below(&f->random, (uint64_t)f->states), above;
    struct state *s = &f->state[which];
    struct layer *gone = &f->layer[s->layer], *heir;
    int count = dependants(f, s->layer, &above);

    if (count > 1)
        return;
    world_close(&f->world);
    MUST(lsvd_snapshot_remove(&f->world.env, s->name, 0, NULL));
    world_open(&f->world);
    if (count == 1) {
        heir = &f->layer[above];
        for (uint64_t b = 0; b * f->block < heir->overlap; b++)
            heir->touched[b] |= gone->touched[b];
        heir->parent = gone->parent;
        if (gone->parent >= 0 && heir->overlap > gone->overlap)
            heir->overlap = gone->overlap;
    }
    free(s->bytes);
    *s = f->state[--f->states];
}

static void
step(struct family *f)
{
    uint64_t what = random_below(&f->random, 40);

    if (what < 2 && f->states < STATES)
        snapshot(f);
    else if (what == 2 && f->states > 0)
        rollback(f);
    else if (what == 3)
        resize(f);
    else if (what == 4 && f->states > 0)
        remove_one(f);
    else if (what == 5)
        world_drain(&f->world);
    else if (what == 6) {
        lsvd_abandon(f->world.volume);
        f->world.volume = NULL;
        world_open(&f->world);
    } else
        request(f);
}

/* ---- what is told ---- */

static int
note(void *ctx, const struct lsvd_change *c)
{
    struct family *f = ctx;

    assert_true(c->count > 0);
    assert_true(c->offset >= f->told_to);
    assert_int_equal(c->offset % f->block, 0);
    f->told_to = c->offset + c->count;
    for (uint64_t b = c->offset / f->block; b * f->block < f->told_to; b++) {
        f->told[b] = true;
        f->is_data[b] = c->is_data;
    }
    return 0;
}

static bool
is_above(const struct family *f, int layer, int below)
{
    while (layer >= 0 && layer != below)
        layer = f->layer[layer].parent;
    return layer == below;
}

static int
common(const struct family *f, int a, int b)
{
    while (a >= 0 && !is_above(f, b, a))
        a = f->layer[a].parent;
    return a;
}

/* Has a request touched it above the common one, in what the top shows; and how
 * much of that does it show? */
static bool
is_touched(const struct family *f, int layer, int below, uint64_t block,
           uint64_t *ret_shown)
{
    bool touched = false;

    *ret_shown = f->layer[layer].size;
    for (; layer != below; layer = f->layer[layer].parent) {
        touched |= f->layer[layer].touched[block] &&
                   block * f->block < *ret_shown;
        if (*ret_shown > f->layer[layer].overlap)
            *ret_shown = f->layer[layer].overlap;
    }
    return touched;
}

static uint64_t
part_of(uint64_t shown, uint64_t begin, uint64_t bytes)
{
    return shown < begin ? 0 : shown - begin < bytes ? shown - begin : bytes;
}

static bool
may_be_told(const struct family *f, const struct state *from,
            const struct state *to, uint64_t block)
{
    int below = common(f, from->layer, to->layer);
    uint64_t shown, theirs, at = block * f->block;
    bool touched = is_touched(f, to->layer, below, block, &shown);

    touched |= is_touched(f, from->layer, below, block, &theirs);
    return touched || part_of(shown, at, f->block) !=
                          part_of(theirs, at, f->block);
}

/* from->bytes and to->bytes are zeroes behind the end. */
static unsigned
compare(const struct family *f, const struct state *from,
        const struct state *to)
{
    unsigned told = 0;

    assert_true(f->told_to <= to->size);
    for (uint64_t b = 0; b * f->block < to->size; b++) {
        uint64_t at = b * f->block, n = f->block;
        bool differs;

        if (n > to->size - at)
            n = to->size - at;
        differs = memcmp(from->bytes + at, to->bytes + at, n) != 0;
        told += f->told[b];
        if (differs && !f->told[b])
            fail_msg("%s to %s: block %llu has changed and is not told",
                     from->name, to->name, (unsigned long long)b);
        if (f->told[b] && !may_be_told(f, from, to, b))
            fail_msg("%s to %s: block %llu was not touched and is told",
                     from->name, to->name, (unsigned long long)b);
        for (uint64_t i = 0; f->told[b] && !f->is_data[b] && i < n; i++)
            assert_int_equal(to->bytes[at + i], 0);
    }
    return told;
}

static unsigned
check_pair(struct family *f, const struct state *from, const struct state *to)
{
    memset(f->told, 0, sizeof f->told);
    f->told_to = 0;
    MUST(lsvd_diff(&f->world.env, from->name, to->name, note, f));
    return compare(f, from, to);
}

static struct state
state_now(struct family *f)
{
    return (struct state){.name = NAME, .layer = f->top, .size = f->size,
                          .bytes = f->model};
}

/* Whatever the server knows, too: it is the same. */
static void
check_live(struct family *f, const struct state *from)
{
    const struct state now = state_now(f);
    int r;

    memset(f->told, 0, sizeof f->told);
    f->told_to = 0;
    r = lsvd_live_diff(f->world.volume, from->name, 0, note, f);
    if (is_above(f, f->top, from->layer) && from->layer != f->top) {
        MUST(r);
        (void)compare(f, from, &now);
    } else {
        assert_int_equal(r, -EXDEV);
    }
}

static unsigned
check_all(struct family *f)
{
    const struct state now = state_now(f);
    unsigned told = 0;

    for (int i = 0; i < f->states; i++)
        check_live(f, &f->state[i]);
    world_close(&f->world);
    for (int i = 0; i < f->states; i++) {
        for (int k = 0; k < f->states; k++) {
            unsigned n = 0;

            if (common(f, f->state[i].layer, f->state[k].layer) >= 0)
                n = check_pair(f, &f->state[i], &f->state[k]);
            assert_true(i != k || n == 0);
            told += n;
        }
        if (common(f, f->state[i].layer, f->top) >= 0)
            told += check_pair(f, &f->state[i], &now);
    }
    world_open(&f->world);
    return told;
}

static const struct kind kinds[] = {
    {.replicas = 1, .block_bytes = 4096, .chunk_bytes = CHUNK,
     .size_bytes = SIZE},
    {.replicas = 2, .block_bytes = 512, .chunk_bytes = CHUNK,
     .size_bytes = SIZE},
    {.replicas = 3, .block_bytes = 4096, .chunk_bytes = CHUNK,
     .size_bytes = SIZE + PARTIAL},
    {.ec_data = 4, .ec_parity = 2, .block_bytes = 4096, .chunk_bytes = CHUNK,
     .size_bytes = SIZE},
    {.ec_data = 3, .ec_parity = 1, .block_bytes = 1024, .chunk_bytes = CHUNK,
     .size_bytes = SIZE - PARTIAL},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void
test_anything(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        for (uint64_t seed = 1; seed <= FEWER(2u); seed++) {
            unsigned told = 0;
            struct family *f = malloc(sizeof *f);

            assert_non_null(f);
            begin(f, &kinds[i], 100 * seed + (uint64_t)i);
            for (int n = 1; n <= 240; n++) {
                step(f);
                if (n % 60 == 0)
                    told += check_all(f);
            }
            assert_true(told > 0);
            end(f);
            free(f);
        }
    }
}

/* ---- what it is good for: few bytes ---- */

static void
test_only_what_was_written(void **state)
{
    struct family *f = malloc(sizeof *f);
    struct state now;

    (void)state;
    assert_non_null(f);
    begin(f, &kinds[0], 5);
    put(f, 0, SIZE);
    snapshot(f);
    put(f, 10 * f->block, 1);
    put(f, 3 * CHUNK, 2 * f->block);
    zero(f, CHUNK, CHUNK);
    now = state_now(f);
    world_close(&f->world);
    assert_int_equal(check_pair(f, &f->state[0], &now),
                     1 + 2 + CHUNK / f->block);
    assert_true(f->told[10] && f->is_data[10]);
    assert_true(f->told[CHUNK / f->block] && !f->is_data[CHUNK / f->block]);
    MUST(lsvd_snapshot_rollback(&f->world.env, f->state[0].name));
    now.bytes = f->state[0].bytes;
    now.layer = new_layer(f, f->state[0].layer, f->size);
    assert_int_equal(check_pair(f, &f->state[0], &now), 0);
    world_open(&f->world);
    end(f);
    free(f);
}

static int
stop(void *ctx, const struct lsvd_change *c)
{
    (void)ctx;
    (void)c;
    return 7;
}

static void
test_refusals(void **state)
{
    struct lsvd_create other = {.name = "v2", .size_bytes = SIZE};
    struct family *f = malloc(sizeof *f);
    const struct lsvd_env *env;

    (void)state;
    assert_non_null(f);
    begin(f, &kinds[0], 6);
    env = &f->world.env;
    snapshot(f);
    put(f, 0, 1);
    MUST(lsvd_create(env, &other));
    MUST(lsvd_snapshot_create(env, "v2@s"));
    assert_int_equal(lsvd_diff(env, "v1@s0", NAME, note, f), -EBUSY);
    world_close(&f->world);
    assert_int_equal(lsvd_diff(env, "v1@s0", NAME, stop, f), 7);
    assert_int_equal(lsvd_diff(env, "v1@s0", "v2@s", note, f), -EINVAL);
    assert_non_null(strstr(lsvd_error(), "no common origin"));
    assert_int_equal(lsvd_diff(env, NAME, "v1@s0", note, f), -EINVAL);
    assert_non_null(strstr(lsvd_error(), "no snapshot"));
    assert_int_equal(lsvd_diff(env, "v1@no", NAME, note, f), -ENOENT);
    assert_int_equal(lsvd_diff(env, "v1@s0", "v1@no", note, f), -ENOENT);
    world_open(&f->world);
    end(f);
    free(f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_anything),
        cmocka_unit_test(test_only_what_was_written),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests_name("volume-diff", tests, NULL, NULL);
}
