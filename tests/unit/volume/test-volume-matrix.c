/* Blocks and chunks of every size, and snapshots, clones, differences, shared
 * blocks, flattening on them; read-only and append-only. */
#include "unit.h"
#include "world.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Where something is written: around the beginning, and around the border of
 * two chunks; the rest of a volume of three chunks stays as it is. */
enum { PIECE = 192 << 10, PLACES = 2 };

struct shape {
    struct world world;
    struct lsvd_volume *v;
    uint64_t at[PLACES];
    uint8_t *model, *frozen, *found; /* PLACES * PIECE */
    uint64_t random;
    uint32_t block;
};

static void
open_it(struct shape *s, const char *name)
{
    MUST(lsvd_open(&s->world.env, name, 0, &s->v));
}

static void
close_it(struct shape *s)
{
    MUST(lsvd_close(s->v));
    s->v = NULL;
}

static void
put(struct shape *s, unsigned place, uint32_t from, uint32_t count)
{
    uint8_t *bytes = s->model + place * PIECE + from;

    random_fill(&s->random, bytes, count);
    MUST(lsvd_pwrite(s->v, bytes, count, s->at[place] + from, 0));
}

static void
zero(struct shape *s, unsigned place, uint32_t from, uint32_t count)
{
    memset(s->model + place * PIECE + from, 0, count);
    MUST(lsvd_trim(s->v, count, s->at[place] + from, 0));
}

static void
check(struct shape *s, const char *name, const uint8_t *what)
{
    struct lsvd_report report;
    struct lsvd_volume *v;

    MUST(lsvd_open(&s->world.env, name, LSVD_OPEN_READ_ONLY, &v));
    for (unsigned i = 0; i < PLACES; i++)
        MUST(lsvd_pread(v, s->found + i * PIECE, PIECE, s->at[i]));
    MUST(lsvd_close(v));
    assert_memory_equal(s->found, what, PLACES * PIECE);
    MUST(lsvd_verify(&s->world.env, name, true, NULL, &report));
    assert_true(report.policy_met);
    assert_false(report.data_lost);
}

static void
begin(struct shape *s, const struct kind *kind)
{
    *s = (struct shape){.random = 5, .block = kind->block_bytes};
    s->model = calloc(PLACES, PIECE);
    s->frozen = calloc(PLACES, PIECE);
    s->found = calloc(PLACES, PIECE);
    assert_true(s->model && s->frozen && s->found);
    world_init(&s->world, kind);
    s->at[1] = kind->chunk_bytes - PIECE / 3;
    if (s->at[1] < PIECE)
        s->at[1] += kind->chunk_bytes;
    open_it(s, NAME);
    put(s, 0, 0, PIECE);
    put(s, 1, 1000, PIECE - 5000);
    zero(s, 0, 65536, 65536);
    close_it(s);
    check(s, NAME, s->model);
}

static void
end(struct shape *s)
{
    world_done(&s->world);
    free(s->model);
    free(s->frozen);
    free(s->found);
}

/* ---- differences ---- */

struct told {
    struct shape *s;
    bool *is; /* of each byte of the places */
};

static int
note_change(void *ctx, const struct lsvd_change *change)
{
    struct told *told = ctx;

    for (unsigned i = 0; i < PLACES; i++) {
        for (uint32_t k = 0; k < PIECE; k++) {
            uint64_t byte = told->s->at[i] + k;

            if (byte >= change->offset &&
                byte < change->offset + change->count)
                told->is[i * PIECE + k] = true;
        }
    }
    return 0;
}

static void
check_diff(struct shape *s)
{
    struct told told = {s, calloc(PLACES * PIECE, sizeof(bool))};

    assert_non_null(told.is);
    MUST(lsvd_diff(&s->world.env, NAME "@a", NAME, note_change, &told));
    for (uint32_t k = 0; k < PLACES * PIECE; k++)
        assert_true(told.is[k] || s->model[k] == s->frozen[k]);
    free(told.is);
}

/* ---- shared blocks ---- */

/* A volume of its own with the same bytes. */
static void
make_copy(struct shape *s, const struct kind *kind)
{
    struct lsvd_create spec = {.name = "copy",
                               .size_bytes = kind->size_bytes,
                               .chunk_bytes = kind->chunk_bytes,
                               .block_bytes = kind->block_bytes,
                               .replicas = kind->replicas,
                               .ec_data = kind->ec_data,
                               .ec_parity = kind->ec_parity,
                               .journal_bytes = 1u << 20};

    MUST(lsvd_create(&s->world.env, &spec));
    open_it(s, "copy");
    for (unsigned i = 0; i < PLACES; i++)
        MUST(lsvd_pwrite(s->v, s->frozen + i * PIECE, PIECE, s->at[i], 0));
    close_it(s);
}

static void
share(struct shape *s, const struct kind *kind)
{
    static const char *const sources[] = {NAME "@a", NULL};
    const struct lsvd_dedupe spec = {.sources = sources};
    struct lsvd_dedupe_report report;

    make_copy(s, kind);
    MUST(lsvd_dedupe(&s->world.env, "copy", &spec, NULL, &report));
    assert_true(report.blocks_matched >= PIECE / kind->block_bytes / 2);
    check(s, "copy", s->frozen);
    MUST(lsvd_dedupe(&s->world.env, "copy", &spec, NULL, &report));
    assert_int_equal(report.blocks_matched, 0);
    assert_int_equal(lsvd_snapshot_remove(&s->world.env, NAME "@a", 0, NULL),
                     -EBUSY);
    MUST(lsvd_flatten(&s->world.env, "copy", 0, NULL));
    check(s, "copy", s->frozen);
}

/* ---- all of it ---- */

static void
append_only(struct shape *s)
{
    uint8_t byte = 1;

    MUST(lsvd_set(&s->world.env, NAME, "append-only", "on"));
    open_it(s, NAME);
    assert_int_equal(lsvd_pwrite(s->v, &byte, 1, s->at[0], 0), -EPERM);
    assert_int_equal(lsvd_trim(s->v, s->block, s->at[0], 0), -EPERM);
    assert_int_equal(lsvd_zero(s->v, s->block, s->at[0], 0), -EPERM);
    /* the chunk behind all that was written */
    MUST(lsvd_pwrite(s->v, &byte, 1, s->world.kind.size_bytes - 1, 0));
    close_it(s);
    check(s, NAME, s->model);
    MUST(lsvd_set(&s->world.env, NAME, "append-only", "off"));
}

static void
read_only(struct shape *s)
{
    uint8_t byte = 1;

    MUST(lsvd_set(&s->world.env, NAME, "read-only", "on"));
    open_it(s, NAME);
    assert_int_equal(lsvd_pwrite(s->v, &byte, 1, s->at[0], 0), -EROFS);
    close_it(s);
    MUST(lsvd_set(&s->world.env, NAME, "read-only", "off"));
}

static void
all_of_it(const struct kind *kind)
{
    struct lsvd_create clone = {.name = "clone", .parent = NAME "@a",
                                .journal_bytes = 1u << 20};
    struct shape s;

    begin(&s, kind);
    MUST(lsvd_snapshot_create(&s.world.env, NAME "@a"));
    memcpy(s.frozen, s.model, PLACES * PIECE);
    open_it(&s, NAME);
    put(&s, 0, 30000, 9000);
    zero(&s, 1, 65536, 65536);
    put(&s, 1, 70000, 512);
    close_it(&s);
    check(&s, NAME, s.model);
    check(&s, NAME "@a", s.frozen);
    check_diff(&s);
    MUST(lsvd_create(&s.world.env, &clone));
    check(&s, "clone", s.frozen);
    MUST(lsvd_flatten(&s.world.env, "clone", 0, NULL));
    check(&s, "clone", s.frozen);
    share(&s, kind);
    append_only(&s);
    read_only(&s);
    MUST(lsvd_snapshot_remove(&s.world.env, NAME "@a", 0, NULL));
    check(&s, NAME, s.model);
    end(&s);
}

static void
with_chunks_of(uint32_t chunk)
{
    static const uint32_t blocks[] = {4096, 512, 65536};

    for (unsigned i = 0; i < FEWER(sizeof blocks / sizeof *blocks); i++) {
        struct kind kind = {.replicas = 2, .block_bytes = blocks[i],
                            .chunk_bytes = chunk,
                            .size_bytes = 3 * (uint64_t)chunk};

        all_of_it(&kind);
        kind.replicas = 0;
        kind.ec_data = 2;
        kind.ec_parity = 1;
        all_of_it(&kind);
    }
}

static void
test_small_chunks(void **state)
{
    (void)state;
    with_chunks_of(256u << 10);
}

static void
test_the_usual_chunks(void **state)
{
    (void)state;
    with_chunks_of(4u << 20);
}

static void
test_large_chunks(void **state)
{
    (void)state;
    with_chunks_of(64u << 20);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_chunks),
        cmocka_unit_test(test_the_usual_chunks),
        cmocka_unit_test(test_large_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
