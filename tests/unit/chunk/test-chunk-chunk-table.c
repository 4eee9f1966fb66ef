/* test-chunk-chunk-table.c: the chunk table of a part. */
#include "base/bytes.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/sum.h"
#include "chunk/chunk_page.h"
#include "golden.h"
#include "memory-target.h"
#include "temp-dir.h"
#include "unit.h"
#include <stdlib.h>
#include <string.h>

static const struct uuid ours = {{0x42, 1, 2, 3}};
static const struct uuid theirs = {{0x43, 1, 2, 3}};

static void
set(struct chunk_table *t, uint64_t chunk, uint64_t seq, uint32_t state)
{
    struct chunk_entry entry = {.seq = seq, .state = state};

    assert_int_equal(chunk_table_set(t, chunk, entry), 0);
}

static void
check(const struct chunk_table *t, uint64_t chunk, uint64_t seq,
      uint32_t state)
{
    struct chunk_entry entry = chunk_table_get(t, chunk);

    assert_int_equal(entry.seq, seq);
    assert_int_equal(entry.state, state);
}

static struct chunk_table *
make(struct target *part, uint64_t chunks)
{
    struct chunk_table *t;

    assert_int_equal(chunk_table_create(part, &ours, chunks, &t), 0);
    assert_int_equal(chunk_table_generation(t), 0);
    return t;
}

/* Every chunk is there, with its number for a sequence; stored. */
static struct chunk_table *
make_full(struct target *part, uint64_t chunks)
{
    struct chunk_table *t = make(part, chunks);

    for (uint64_t chunk = 1; chunk <= chunks; chunk++)
        set(t, chunk, chunk, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    return t;
}

static struct chunk_table *
load(struct target *part, uint64_t chunks, uint64_t expect_damaged)
{
    struct chunk_table *t;
    uint64_t damaged = 99;

    assert_int_equal(
        chunk_table_open(part, &ours, chunks, true, &t, &damaged), 0);
    assert_int_equal(damaged, expect_damaged);
    return t;
}

static void
test_round_trip(void **state)
{
    struct chunk_table *t;
    struct temp_dir d;
    uint64_t damaged;

    (void)state;
    temp_dir_init(&d);
    assert_int_equal(
        chunk_table_open(d.target, &ours, 1000, true, &t, &damaged), -ENOENT);
    t = make(d.target, 1000);
    assert_int_equal(chunk_table_next(t, 1), 0);
    check(t, 1, 0, CHUNK_HOLE);
    check(t, 1000, 0, CHUNK_HOLE);
    set(t, 1, 10, CHUNK_PRESENT);
    set(t, 254, 11, CHUNK_BAD);
    set(t, 255, 12, CHUNK_HOLE); /* a hole with a sequence */
    set(t, 1000, 13, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    assert_int_equal(chunk_table_generation(t), 1);
    assert_int_equal(chunk_table_store(t), 0); /* nothing to do */
    assert_int_equal(chunk_table_generation(t), 1);
    set(t, 2, 20, CHUNK_PRESENT); /* not stored */
    chunk_table_close(t);

    t = load(d.target, 1000, 0);
    assert_int_equal(chunk_table_generation(t), 1);
    check(t, 1, 10, CHUNK_PRESENT);
    check(t, 2, 0, CHUNK_HOLE);
    check(t, 254, 11, CHUNK_BAD);
    check(t, 255, 12, CHUNK_HOLE);
    check(t, 1000, 13, CHUNK_PRESENT);
    assert_int_equal(chunk_table_next(t, 1), 1);
    assert_int_equal(chunk_table_next(t, 2), 254);
    assert_int_equal(chunk_table_next(t, 255), 255);
    assert_int_equal(chunk_table_next(t, 256), 1000);
    assert_int_equal(chunk_table_next(t, 1001), 0);
    chunk_table_close(t);
    chunk_table_close(NULL);
    temp_dir_done(&d);
}

static void
test_sequence_grows(void **state)
{
    struct chunk_entry older = {.seq = 4, .state = CHUNK_PRESENT};
    struct memory_target m;
    struct chunk_table *t;

    (void)state;
    memory_target_init(&m);
    t = make(&m.base, 10);
    set(t, 3, 5, CHUNK_PRESENT);
    assert_int_equal(chunk_table_set(t, 3, older), -EINVAL);
    check(t, 3, 5, CHUNK_PRESENT);
    set(t, 3, 5, CHUNK_HOLE);
    chunk_table_close(t);
    memory_target_done(&m);
}

/* A model of entries, and stores of random pages, through many reopens. */
static void
test_against_model(void **state)
{
    enum { CHUNKS = 1300 };
    struct chunk_entry *model = calloc(CHUNKS + 1, sizeof *model);
    struct memory_target m;
    struct chunk_table *t;
    uint32_t v = 7;

    (void)state;
    assert_non_null(model);
    memory_target_init(&m);
    t = make(&m.base, CHUNKS);
    for (uint64_t round = 1; round <= 200; round++) {
        uint64_t next = 0;

        for (uint32_t i = 0; i < round % 7; i++) {
            v = v * 1664525u + 1013904223u;
            uint64_t chunk = (v >> 8) % CHUNKS + 1;

            model[chunk].seq = round;
            model[chunk].state = v % 3;
            set(t, chunk, round, v % 3);
        }
        assert_int_equal(chunk_table_store(t), 0);
        if (round % 3 == 0) {
            uint64_t generation = chunk_table_generation(t);

            chunk_table_close(t);
            t = load(&m.base, CHUNKS, 0);
            assert_int_equal(chunk_table_generation(t), generation);
        }
        for (uint64_t chunk = CHUNKS; chunk > 0; chunk--) {
            check(t, chunk, model[chunk].seq, model[chunk].state);
            if (model[chunk].seq != 0)
                next = chunk;
            assert_int_equal(chunk_table_next(t, chunk), next);
        }
    }
    chunk_table_close(t);
    memory_target_done(&m);
    free(model);
}

/* Page A is stored, then B, then A again: the older copy of A must still be
 * there, whatever happens to the newest (CT1). */
static void
test_torn_slot(void **state)
{
    struct chunk_table *t;
    struct temp_dir d;

    (void)state;
    for (uint64_t newest_slot = 0; newest_slot < 2; newest_slot++)
        for (uint64_t torn_at = 0; torn_at < 4096; torn_at += 512) {
            temp_dir_init(&d);
            t = make(d.target, 1000);
            if (newest_slot == 0) {
                set(t, 9, 1, CHUNK_PRESENT);
                assert_int_equal(chunk_table_store(t), 0);
            }
            set(t, 9, 2, CHUNK_PRESENT);
            assert_int_equal(chunk_table_store(t), 0);
            set(t, 600, 3, CHUNK_PRESENT); /* another page */
            assert_int_equal(chunk_table_store(t), 0);
            for (uint64_t chunk = 1; chunk <= 254; chunk++)
                set(t, chunk, 4, CHUNK_HOLE);
            assert_int_equal(chunk_table_store(t), 0);
            chunk_table_close(t);
            temp_dir_flip(&d, CHUNK_TABLE_NAME, newest_slot * 4096 + torn_at);
            t = load(d.target, 1000, 1);
            check(t, 9, 2, CHUNK_PRESENT);
            check(t, 600, 3, CHUNK_PRESENT);
            set(t, 9, 5, CHUNK_BAD); /* goes to the torn slot */
            assert_int_equal(chunk_table_store(t), 0);
            chunk_table_close(t);
            t = load(d.target, 1000, 0);
            check(t, 9, 5, CHUNK_BAD);
            chunk_table_close(t);
            temp_dir_done(&d);
        }
}

/* Every byte of a page is covered. */
static void
test_flips(void **state)
{
    struct chunk_table *t;
    struct temp_dir d;

    (void)state;
    temp_dir_init(&d);
    t = make(d.target, 100);
    set(t, 50, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    for (uint64_t at = 0; at < 4096; at++) {
        temp_dir_flip(&d, CHUNK_TABLE_NAME, at);
        t = load(d.target, 100, 1);
        check(t, 50, 0, CHUNK_HOLE);
        assert_int_equal(chunk_table_generation(t), 0);
        chunk_table_close(t);
        temp_dir_flip(&d, CHUNK_TABLE_NAME, at);
    }
    t = load(d.target, 100, 0);
    check(t, 50, 1, CHUNK_PRESENT);
    chunk_table_close(t);
    temp_dir_done(&d);
}

/* A page in another page's place, and the table of another instance. */
static void
test_wrong_page(void **state)
{
    struct chunk_table *t;
    struct temp_dir d;
    uint8_t pair[8192];
    uint64_t damaged;

    (void)state;
    temp_dir_init(&d);
    t = make(d.target, 1000);
    set(t, 1, 1, CHUNK_PRESENT);
    set(t, 300, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    assert_int_equal(chunk_table_open(d.target, &theirs, 1000, true, &t,
                                      &damaged),
                     0);
    assert_int_equal(damaged, 2);
    assert_int_equal(chunk_table_next(t, 1), 0);
    chunk_table_close(t);
    temp_dir_peek(&d, CHUNK_TABLE_NAME, 0, pair, 4096);
    temp_dir_poke(&d, CHUNK_TABLE_NAME, 8192, pair, 4096);
    t = load(d.target, 1000, 1);
    check(t, 1, 1, CHUNK_PRESENT);
    check(t, 255, 0, CHUNK_HOLE);
    chunk_table_close(t);
    temp_dir_done(&d);
}

/* An older copy of the file is known by its generation. */
static void
test_old_copy(void **state)
{
    struct chunk_table *t;
    struct temp_dir d;
    uint8_t old[8192];

    (void)state;
    temp_dir_init(&d);
    t = make(d.target, 100);
    set(t, 1, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    set(t, 1, 2, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    temp_dir_peek(&d, CHUNK_TABLE_NAME, 0, old, sizeof old);
    set(t, 1, 3, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    assert_int_equal(chunk_table_generation(t), 3);
    chunk_table_close(t);
    temp_dir_poke(&d, CHUNK_TABLE_NAME, 0, old, sizeof old);
    t = load(d.target, 100, 0);
    assert_int_equal(chunk_table_generation(t), 2);
    chunk_table_close(t);
    temp_dir_done(&d);
}

/* The file is as sparse as the volume, and so is the memory. */
static void
test_biggest(void **state)
{
    const uint64_t chunks = CHUNK_COUNT_MAX;
    struct object_stat st;
    struct object *o;
    struct chunk_table *t;
    struct temp_dir d;

    (void)state;
    temp_dir_init(&d);
    t = make(d.target, chunks);
    set(t, chunks, 7, CHUNK_PRESENT);
    set(t, chunks / 2, 8, CHUNK_PRESENT);
    set(t, 1, 9, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    assert_int_equal(target_open(d.target, CHUNK_TABLE_NAME, 0, &o), 0);
    assert_int_equal(object_stat(o, &st), 0);
    assert_true(st.allocated_bytes <= 1u << 20);
    object_close(o);
    t = load(d.target, chunks, 0);
    assert_int_equal(chunk_table_next(t, 1), 1);
    assert_int_equal(chunk_table_next(t, 2), chunks / 2);
    assert_int_equal(chunk_table_next(t, chunks / 2 + 1), chunks);
    check(t, chunks, 7, CHUNK_PRESENT);
    set(t, chunks, 10, CHUNK_HOLE);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    t = load(d.target, chunks, 0);
    check(t, chunks, 10, CHUNK_HOLE);
    chunk_table_close(t);
    temp_dir_done(&d);
}

static void
test_resize(void **state)
{
    struct memory_target m;
    struct chunk_table *t;

    (void)state;
    memory_target_init(&m);
    t = make_full(&m.base, 600);
    assert_int_equal(chunk_table_resize(t, 300), 0);
    assert_int_equal(chunk_table_next(t, 300), 300);
    assert_int_equal(chunk_table_next(t, 301), 0);
    m.syncs = 0;
    assert_int_equal(chunk_table_store(t), 0);
    assert_int_equal(m.syncs, 1);
    assert_int_equal(chunk_table_resize(t, 70000), 0);
    assert_int_equal(chunk_table_next(t, 301), 0);
    check(t, 299, 299, CHUNK_PRESENT);
    check(t, 70000, 0, CHUNK_HOLE);
    set(t, 70000, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    t = load(&m.base, 70000, 0);
    assert_int_equal(chunk_table_next(t, 301), 70000);
    check(t, 300, 300, CHUNK_PRESENT);
    /* Cut between pages: no entry changes, but the file's size does. */
    m.syncs = 0;
    assert_int_equal(chunk_table_resize(t, 254), 0);
    assert_int_equal(chunk_table_store(t), 0);
    assert_int_equal(m.syncs, 1);
    assert_int_equal(memory_target_find(&m, CHUNK_TABLE_NAME)->size, 8192);
    chunk_table_close(t);
    memory_target_done(&m);
}

/* In two steps: nothing is seen of the first, and it may be all there is. */
static void
test_grow_in_steps(void **state)
{
    struct memory_target m;
    struct chunk_table *t;

    (void)state;
    memory_target_init(&m);
    t = make_full(&m.base, 600);
    chunk_table_close(t);
    t = load(&m.base, 255, 0); /* what lies behind was never forgotten */
    assert_int_equal(chunk_table_prepare(t, 5000), 0);
    assert_int_equal(chunk_table_prepare(t, 70000), 0);
    assert_int_equal(chunk_table_count(t), 255);
    assert_int_equal(chunk_table_next(t, 255), 255);
    assert_int_equal(chunk_table_next(t, 256), 0);
    assert_int_equal(memory_target_find(&m, CHUNK_TABLE_NAME)->size, 16384);
    set(t, 255, 700, CHUNK_PRESENT);
    assert_int_equal(chunk_table_prepare(t, 300), 0);
    chunk_table_grow(t, 300);
    assert_int_equal(chunk_table_count(t), 300);
    assert_int_equal(chunk_table_next(t, 256), 0);
    assert_int_equal(chunk_table_prepare(t, 70000), 0);
    chunk_table_grow(t, 70000);
    assert_int_equal(chunk_table_next(t, 256), 0);
    set(t, 70000, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    t = load(&m.base, 70000, 0);
    check(t, 1, 1, CHUNK_PRESENT);
    check(t, 254, 254, CHUNK_PRESENT);
    check(t, 255, 700, CHUNK_PRESENT);
    assert_int_equal(chunk_table_next(t, 256), 70000);
    chunk_table_close(t);
    memory_target_done(&m);
}

/* The shrunk size was in force, but its table never stored: growing later
 * brings nothing back. Also with dirty pages behind the end. */
static void
test_resize_after_cut(void **state)
{
    struct memory_target m;
    struct chunk_table *t;

    (void)state;
    memory_target_init(&m);
    t = make_full(&m.base, 600);
    chunk_table_close(t);
    t = load(&m.base, 260, 0);
    assert_int_equal(chunk_table_next(t, 261), 0);
    assert_int_equal(chunk_table_resize(t, 600), 0);
    assert_int_equal(chunk_table_next(t, 261), 0);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    t = load(&m.base, 600, 0);
    assert_int_equal(chunk_table_next(t, 260), 260);
    assert_int_equal(chunk_table_next(t, 261), 0);
    set(t, 1, 1000, CHUNK_BAD);
    set(t, 600, 1000, CHUNK_BAD);
    set(t, 300, 1000, CHUNK_BAD);
    assert_int_equal(chunk_table_resize(t, 10), 0);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    t = load(&m.base, 10, 0);
    check(t, 1, 1000, CHUNK_BAD);
    check(t, 10, 10, CHUNK_PRESENT);
    chunk_table_close(t);
    memory_target_done(&m);
}

/* Each call of a store fails once: the pages stay dirty, the old copy stays
 * whole, and the next store succeeds. */
static void
test_store_fails(void **state)
{
    struct memory_target m;
    struct chunk_table *t, *seen;
    uint64_t damaged;
    long nth = 0;

    (void)state;
    for (bool fired = true; fired; nth++) {
        memory_target_init(&m);
        t = make(&m.base, 600);
        set(t, 1, 1, CHUNK_PRESENT);
        set(t, 600, 1, CHUNK_PRESENT);
        assert_int_equal(chunk_table_store(t), 0);
        set(t, 1, 2, CHUNK_BAD);
        set(t, 600, 2, CHUNK_BAD);
        m.fail_after = nth;
        m.fail_code = -EIO;
        if (chunk_table_store(t) < 0) {
            m.fail_after = -1;
            assert_int_equal(chunk_table_generation(t), 1);
            /* What a cut would find now: each page old or new (CT1). */
            seen = load(&m.base, 600, 0);
            assert_in_range(chunk_table_get(seen, 1).seq, 1, 2);
            assert_in_range(chunk_table_get(seen, 600).seq, 1, 2);
            chunk_table_close(seen);
            set(t, 1, 3, CHUNK_HOLE);
            assert_int_equal(chunk_table_store(t), 0);
            assert_int_equal(chunk_table_generation(t), 3); /* CT5 */
        }
        fired = m.fired;
        m.fail_after = -1;
        assert_int_equal(chunk_table_open(&m.base, &ours, 600, false, &seen,
                                          &damaged),
                         0);
        assert_int_equal(damaged, 0);
        check(seen, 1, fired ? 3 : 2, fired ? CHUNK_HOLE : CHUNK_BAD);
        check(seen, 600, 2, CHUNK_BAD);
        chunk_table_close(seen);
        chunk_table_close(t);
        memory_target_done(&m);
    }
    assert_int_equal(nth, 4); /* two pages, a sync, and none */
}

/* A page that can't be read is damaged, not empty, and costs no other. */
static void
test_bad_sector(void **state)
{
    struct memory_target m;
    struct chunk_table *t;

    (void)state;
    memory_target_init(&m);
    t = make(&m.base, 600);
    set(t, 1, 1, CHUNK_PRESENT);
    set(t, 300, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    set(t, 300, 2, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    m.bad_begin = 8192 + 4096 + 1000; /* the newer slot of page 1 */
    m.bad_end = m.bad_begin + 1;
    t = load(&m.base, 600, 1);
    check(t, 1, 1, CHUNK_PRESENT);
    check(t, 300, 1, CHUNK_PRESENT);
    chunk_table_close(t);
    m.bad_begin = 0;
    m.bad_end = 1;
    t = load(&m.base, 600, 1);
    check(t, 1, 0, CHUNK_HOLE);
    check(t, 300, 2, CHUNK_PRESENT);
    chunk_table_close(t);
    memory_target_done(&m);
}

static void
test_no_memory(void **state)
{
    struct memory_target m;
    struct chunk_table *t;
    uint64_t damaged;
    int failures = 0;

    (void)state;
    memory_target_init(&m);
    t = make(&m.base, 600);
    set(t, 1, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    (void)mem_fail_after(0);
    assert_int_equal(chunk_table_set(t, 600, (struct chunk_entry){1, 1, 0}),
                     -ENOMEM);
    (void)mem_fail_after(0);
    assert_int_equal(chunk_table_resize(t, 70000), -ENOMEM);
    (void)mem_fail_after(-1);
    assert_int_equal(chunk_table_next(t, 2), 0);
    chunk_table_close(t);
    for (long nth = 0;; nth++) {
        int r;

        (void)mem_fail_after(nth);
        r = chunk_table_open(&m.base, &ours, 600, true, &t, &damaged);
        if (!mem_fail_after(-1)) {
            assert_int_equal(r, 0);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        failures++;
    }
    assert_true(failures >= 3);
    chunk_table_close(t);
    memory_target_done(&m);
}

/* A part of a page at the end of the file, as a cut leaves it. */
static void
test_cut_short(void **state)
{
    struct memory_target m;
    struct chunk_table *t;

    (void)state;
    memory_target_init(&m);
    t = make(&m.base, 600);
    set(t, 600, 1, CHUNK_PRESENT);
    set(t, 100, 1, CHUNK_PRESENT);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    (void)memory_target_file(&m, CHUNK_TABLE_NAME, 2 * 8192 + 512);
    t = load(&m.base, 600, 1);
    check(t, 600, 0, CHUNK_HOLE);
    check(t, 100, 1, CHUNK_PRESENT);
    chunk_table_close(t);
    memory_target_done(&m);
}

static void
test_page_judge(void **state)
{
    uint8_t page[CHUNK_PAGE_BYTES] = {0};
    uint64_t generation = 0, seed;

    (void)state;
    assert_int_equal(chunk_page_judge(&ours, 3, page, &generation), -ENOENT);
    chunk_page_seal(&ours, 3, 5, page);
    assert_int_equal(chunk_page_judge(&ours, 3, page, &generation), 0);
    assert_int_equal(generation, 5);
    assert_int_equal(chunk_page_judge(&ours, 4, page, &generation), -EBADMSG);
    assert_int_equal(chunk_page_judge(&theirs, 3, page, &generation),
                     -EBADMSG);
    put_le32(page + 32 + 8, 3); /* a state that does not exist */
    chunk_page_seal(&ours, 3, 5, page);
    assert_int_equal(chunk_page_judge(&ours, 3, page, &generation), -EBADMSG);
    put_le32(page + 32 + 8, 2);
    chunk_page_seal(&ours, 3, 0, page);
    assert_int_equal(chunk_page_judge(&ours, 3, page, &generation), -EBADMSG);
    chunk_page_seal(&ours, 3, CHUNK_GENERATION_MAX + 1, page);
    assert_int_equal(chunk_page_judge(&ours, 3, page, &generation), -EBADMSG);
    chunk_page_seal(&ours, 3, 5, page);
    put_le32(page + 12, 2); /* a format of the future, with a right sum */
    seed = sum_block(sum_seed(&ours, 3, UINT64_MAX), page, 24);
    put_le64(page + 24, sum_block(seed, page + 32, 4096 - 32));
    assert_int_equal(chunk_page_judge(&ours, 3, page, &generation), -EPROTO);
}

/* Both slots of a page of format 1. */
static void
test_golden(void **state)
{
    uint8_t bytes[8192], image[8192];
    struct memory_target m;
    struct chunk_table *t;

    (void)state;
    memory_target_init(&m);
    t = make(&m.base, 254);
    for (uint64_t chunk = 1; chunk <= 254; chunk += 3)
        set(t, chunk, UINT64_C(0x300000000000) + chunk,
            (uint32_t)(chunk % 2 + 1));
    assert_int_equal(chunk_table_store(t), 0);
    set(t, 254, UINT64_C(0x300000001000), CHUNK_HOLE);
    assert_int_equal(chunk_table_store(t), 0);
    chunk_table_close(t);
    memcpy(bytes, memory_target_find(&m, CHUNK_TABLE_NAME)->bytes,
           sizeof bytes);
    golden_check("v1-chunk-table.page", bytes, sizeof bytes, image);
    memcpy(memory_target_find(&m, CHUNK_TABLE_NAME)->bytes, image,
           sizeof image);
    t = load(&m.base, 254, 0);
    assert_int_equal(chunk_table_generation(t), 2);
    for (uint64_t chunk = 1; chunk < 254; chunk++)
        if (chunk % 3 == 1)
            check(t, chunk, UINT64_C(0x300000000000) + chunk,
                  (uint32_t)(chunk % 2 + 1));
        else
            check(t, chunk, 0, CHUNK_HOLE);
    check(t, 254, UINT64_C(0x300000001000), CHUNK_HOLE);
    chunk_table_close(t);
    memory_target_done(&m);
}

/* What is kept of references_seq, with half of its bits. */
static void
test_references_seq(void **state)
{
    const uint64_t half = UINT64_C(1) << 32;
    const struct {
        uint64_t seq, references_seq, kept;
    } cases[] = {
        {0, 0, 0},
        {7, 6, 6},
        {7, 0, 0},
        {half + 3, half - 2, half - 2},
        {half + 3, half, 0}, /* its lower half is 0 */
        {5 * half, 4 * half + 1, 4 * half + 1},
        {5 * half + 1, 4 * half + 1, 0}, /* too far */
        {9, 10, 0}, /* not before it */
        {UINT64_MAX, UINT64_MAX - half + 1, 0},
        {UINT64_MAX, UINT64_MAX - half + 2, UINT64_MAX - half + 2},
    };
    struct memory_target m;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chunk_entry entry = {.seq = cases[i].seq,
                                    .state = CHUNK_PRESENT,
                                    .references_seq = cases[i].references_seq};
        struct chunk_table *t;

        memory_target_init(&m);
        t = make(&m.base, 10);
        assert_int_equal(chunk_table_set(t, 3, entry), 0);
        assert_int_equal(chunk_table_store(t), 0);
        chunk_table_close(t);
        t = load(&m.base, 10, 0);
        check(t, 3, cases[i].seq, CHUNK_PRESENT);
        assert_int_equal(chunk_table_get(t, 3).references_seq, cases[i].kept);
        set(t, 3, cases[i].seq, CHUNK_PRESENT);
        assert_int_equal(chunk_table_get(t, 3).references_seq, 0);
        chunk_table_close(t);
        memory_target_done(&m);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references_seq),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_sequence_grows),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_torn_slot),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_wrong_page),
        cmocka_unit_test(test_old_copy),
        cmocka_unit_test(test_biggest),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_grow_in_steps),
        cmocka_unit_test(test_resize_after_cut),
        cmocka_unit_test(test_store_fails),
        cmocka_unit_test(test_bad_sector),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_page_judge),
        cmocka_unit_test(test_golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
