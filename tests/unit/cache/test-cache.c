/* test-cache.c: the RAM cache against a model, bounded, and with threads. */
#include "base/err.h"
#include "base/memory.h"
#include "cache/cache.h"
#include "unit.h"
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512u

/* A block's content says which block and which version it is, everywhere. */
static void
make(uint64_t block, uint64_t version, uint64_t *to)
{
    for (size_t i = 0; i < BLOCK / 8; i++)
        to[i] = block << 32 | version;
}

static void
put(struct cache *c, uint64_t block, uint64_t version)
{
    uint64_t data[BLOCK / 8];

    make(block, version, data);
    cache_put(c, block, data);
}

/* The version that is cached, or 0; a mix of versions or blocks fails. */
static uint64_t
get(struct cache *c, uint64_t block)
{
    uint64_t data[BLOCK / 8];

    if (!cache_get(c, block, 0, BLOCK, data))
        return 0;
    for (size_t i = 0; i < BLOCK / 8; i++)
        assert_int_equal(data[i], data[0]);
    assert_int_equal(data[0] >> 32, block);
    return data[0] & UINT32_MAX;
}

static void
offer(struct cache *c, uint64_t block, uint64_t version)
{
    uint64_t data[BLOCK / 8];

    make(block, version, data);
    cache_offer(c, block, data, true);
}

/* What a long request offers takes free room, replaces older content, and
 * drives out nobody. What comes a second time is let in. */
static void
test_offer(void **state)
{
    uint64_t capacity, kept = 0;
    struct cache *c;

    (void)state;
    assert_int_equal(cache_new(64 << 10, BLOCK, &c), 0);
    capacity = cache_counts(c).capacity_blocks;
    for (uint64_t b = 0; b < 10 * capacity; b++) {
        offer(c, b, 1);
        kept += get(c, b) == 1;
    }
    assert_int_equal(kept, capacity);
    assert_int_equal(cache_counts(c).used_blocks, capacity);
    assert_int_equal(cache_counts(c).evictions, 0);
    for (uint64_t b = 0; b < 8 * capacity; b++) { /* long forgotten, or here */
        bool had = get(c, b) != 0;

        offer(c, b, 2);
        assert_int_equal(get(c, b), had ? 2 : 0);
    }
    assert_int_equal(cache_counts(c).evictions, 0);
    offer(c, 20 * capacity, 3);
    assert_int_equal(get(c, 20 * capacity), 0);
    offer(c, 20 * capacity, 4);
    assert_int_equal(get(c, 20 * capacity), 4);
    assert_int_equal(cache_counts(c).evictions, 1);
    assert_true(cache_ok(c));
    cache_free(c);
}

/* Fill a small cache, look at its first block with get or peek, and put one
 * more: is the first still there? */
static bool
survives(bool by_get)
{
    uint64_t data[BLOCK / 8], want[BLOCK / 8], capacity;
    struct cache_counts before, after;
    struct cache *c;
    bool is_here;

    assert_int_equal(cache_new(8 << 10, BLOCK, &c), 0); /* one shard */
    capacity = cache_counts(c).capacity_blocks;
    assert_true(capacity > 1 && capacity < 32);
    assert_false(cache_peek(c, 1, data));
    for (uint64_t b = 1; b <= capacity; b++)
        put(c, b, 7);
    if (by_get) {
        assert_int_equal(get(c, 1), 7);
    } else {
        before = cache_counts(c);
        assert_true(cache_peek(c, 1, data));
        after = cache_counts(c);
        make(1, 7, want);
        assert_memory_equal(data, want, BLOCK);
        assert_memory_equal(&before, &after, sizeof before);
    }
    put(c, capacity + 1, 7);
    assert_int_equal(cache_counts(c).evictions, 1);
    is_here = cache_peek(c, 1, data);
    cache_free(c);
    return is_here;
}

/* Neither counted nor taken for a use: the block goes as if it had not been. */
static void
test_peek(void **state)
{
    (void)state;
    assert_false(survives(false));
    assert_true(survives(true));
}

static void
test_too_small(void **state)
{
    struct cache *c;

    (void)state;
    for (uint64_t ram = 0; ram < 600; ram += 100) {
        assert_int_equal(cache_new(ram, BLOCK, &c), 0);
        assert_int_equal(cache_counts(c).capacity_blocks, 0);
        put(c, 1, 1);
        assert_int_equal(get(c, 1), 0);
        cache_drop(c, 0, UINT64_MAX);
        cache_free(c);
    }
    cache_free(NULL);
}

static void
test_pieces(void **state)
{
    uint8_t data[4096], piece[100];
    struct cache *c;

    (void)state;
    assert_int_equal(cache_new(1u << 20, 4096, &c), 0);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 >> 3);
    cache_put(c, UINT64_MAX - 1, data);
    for (size_t at = 0; at + sizeof piece <= sizeof data; at += 333) {
        assert_true(cache_get(c, UINT64_MAX - 1, at, sizeof piece, piece));
        assert_memory_equal(piece, data + at, sizeof piece);
    }
    assert_true(cache_get(c, UINT64_MAX - 1, 4095, 1, piece));
    assert_int_equal(piece[0], data[4095]);
    assert_true(cache_get(c, UINT64_MAX - 1, 4096, 0, piece));
    assert_false(cache_get(c, UINT64_MAX, 0, 1, piece));
    cache_free(c);
}

/* Whatever is found is the newest; what fits is found. */
static void
test_against_model(void **state)
{
    enum { BLOCKS = 2000 };
    static uint64_t model[BLOCKS]; /* version; 0: dropped or never put */
    struct cache_counts counts;
    struct cache *c;
    uint64_t hits = 0, misses = 0;
    uint32_t v = 3;

    (void)state;
    assert_int_equal(cache_new(UINT64_C(700) << 10, BLOCK, &c), 0);
    for (uint64_t step = 1; step < 200000; step++) {
        uint64_t block, found;

        v = v * 1664525u + 1013904223u;
        block = (v >> 10) % BLOCKS;
        if (v >> 29 == 0 && step % 64 == 0) {
            uint64_t end = block + (v >> 5) % 300 + 1;

            end = end < BLOCKS ? end : BLOCKS;
            cache_drop(c, block, end);
            for (; block < end; block++)
                model[block] = 0;
            assert_true(cache_ok(c));
        } else if (v >> 28 < 8) {
            put(c, block, step);
            model[block] = step;
        } else {
            found = get(c, block);
            if (found != 0) {
                assert_int_equal(found, model[block]);
                hits++;
            } else
                misses++;
        }
    }
    counts = cache_counts(c);
    assert_int_equal(counts.hits, hits);
    assert_int_equal(counts.misses, misses);
    assert_true(counts.evictions > 0);
    assert_true(counts.used_blocks <= counts.capacity_blocks);
    assert_true(hits > misses / 4); /* it does keep things */
    assert_true(cache_ok(c));
    cache_drop(c, 0, UINT64_MAX); /* by walking the cache */
    assert_int_equal(cache_counts(c).used_blocks, 0);
    for (uint64_t block = 0; block < BLOCKS; block++)
        assert_int_equal(get(c, block), 0);
    cache_free(c);
}

/* Nothing is evicted while there is room. */
static void
test_fills_up(void **state)
{
    struct cache *c;
    uint64_t n, kept = 0;

    (void)state;
    assert_int_equal(cache_new(20000, BLOCK, &c), 0); /* a single shard */
    n = cache_counts(c).capacity_blocks;
    assert_in_range(n, 30, 36);
    for (uint64_t block = 0; block < n; block++)
        put(c, block * 1000003, 1);
    for (uint64_t block = 0; block < n; block++)
        kept += get(c, block * 1000003);
    assert_int_equal(kept, n);
    assert_int_equal(cache_counts(c).used_blocks, n);
    assert_int_equal(cache_counts(c).evictions, 0);
    cache_drop(c, 0, 1); /* its slot is used again before any eviction */
    put(c, 5, 2);
    assert_int_equal(cache_counts(c).evictions, 0);
    assert_int_equal(get(c, 5), 2);
    cache_free(c);
}

/* A miss is followed by a put, as in the volume. */
static void
read_block(struct cache *c, uint64_t block)
{
    if (get(c, block) == 0)
        put(c, block, 1);
}

/* A cache that is full, two thirds of it with what was read twice. The first
 * `*ret_hot` blocks are these. */
static struct cache *
make_hot(uint64_t *ret_hot)
{
    struct cache *c;
    uint64_t n, hot;

    assert_int_equal(cache_new(1u << 20, BLOCK, &c), 0);
    n = cache_counts(c).capacity_blocks;
    hot = n * 2 / 3;
    for (uint64_t junk = 0; junk < n; junk++)
        put(c, 3000000 + junk, 1);
    for (int round = 0; round < 2; round++)
        for (uint64_t block = 0; block < hot; block++)
            read_block(c, block);
    for (uint64_t block = 0; block < hot; block++)
        assert_int_equal(get(c, block), 1);
    *ret_hot = hot;
    return c;
}

static uint64_t
still_here(struct cache *c, uint64_t hot)
{
    uint64_t data[BLOCK / 8], kept = 0;

    for (uint64_t block = 0; block < hot; block++)
        kept += cache_peek(c, block, data);
    return kept;
}

/* M5: what is wanted survives a scan over much more, in which nobody asks for
 * it: whether the scan reads blocks whole, or piece by piece, or writes them
 * so, or is made of long requests. */
static void
test_scan(void **state)
{
    uint64_t data[BLOCK / 8], hot, n;

    (void)state;
    for (int how = 0; how < 4; how++) {
        struct cache *c = make_hot(&hot);

        n = cache_counts(c).capacity_blocks;
        for (uint64_t block = 1000000; block < 1000000 + 10 * n; block++) {
            if (how == 0) {
                read_block(c, block);
            } else if (how == 3) {
                offer(c, block, 1);
            } else {
                read_block(c, block);
                for (size_t at = 64; at < BLOCK; at += 64) {
                    assert_true(cache_get(c, block, at, 64, data));
                    if (how == 2)
                        put(c, block, 1);
                }
            }
        }
        assert_int_equal(still_here(c, hot), hot);
        assert_true(cache_ok(c));
        cache_free(c);
    }
}

/* What is wanted now takes the place of what was wanted before, be it by small
 * requests or by long ones. */
static void
test_shift(void **state)
{
    uint64_t hot;

    (void)state;
    for (int is_long = 0; is_long < 2; is_long++) {
        struct cache *c = make_hot(&hot);
        uint64_t hits = 0;

        for (int round = 0; round < 12; round++) {
            hits = 0;
            for (uint64_t block = 5000; block < 5000 + hot; block++) {
                bool hit = get(c, block) != 0;

                hits += hit;
                if (!hit && is_long)
                    offer(c, block, 1);
                else if (!hit)
                    put(c, block, 1);
            }
        }
        assert_true(hits > hot * 9 / 10);
        cache_free(c);
    }
}

/* All memory counts, and most of it holds blocks. */
static void
test_bounded(void **state)
{
    static const uint32_t blocks[] = {512, 4096, 65536};

    (void)state;
    for (int i = 0; i < 3; i++) {
        const uint64_t ram = 64u << 20;
        struct mallinfo2 before = mallinfo2(), after;
        uint8_t *data = calloc(1, blocks[i]);
        struct cache_counts counts;
        struct cache *c;

        assert_non_null(data);
        assert_int_equal(cache_new(ram, blocks[i], &c), 0);
        counts = cache_counts(c);
        assert_true(counts.capacity_blocks * blocks[i] <= ram);
        assert_true(counts.capacity_blocks * blocks[i]
                    >= ram / 100 * (blocks[i] < 4096 ? 93 : 98));
        for (uint64_t n = 0; n < counts.capacity_blocks * 2; n++)
            cache_put(c, n, data);
        after = mallinfo2();
        /* Whole pages for each of 64 allocations are malloc's. */
        assert_true(after.uordblks + after.hblkhd
                    <= before.uordblks + before.hblkhd + ram + 66 * 4096
                        + blocks[i]);
        counts = cache_counts(c);
        assert_true(counts.used_blocks <= counts.capacity_blocks);
        assert_true(counts.evictions > 0);
        cache_free(c);
        free(data);
    }
}

static void
test_no_memory(void **state)
{
    struct cache *c;
    int failures = 0;

    (void)state;
    for (long nth = 0;; nth++) {
        int r;

        (void)mem_fail_after(nth);
        r = cache_new(1u << 20, BLOCK, &c);
        if (!mem_fail_after(-1)) {
            assert_int_equal(r, 0);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        failures++;
    }
    assert_int_equal(failures, 1 + 16 * 4);
    cache_free(c);
}

/* Threads: each owns the blocks of its number, as if it held their leases:
 * what it finds of them is what it put. All read the blocks of all: any
 * version, but never a mix. */
enum { THREADS = 4, THREAD_BLOCKS = 256, STEPS = 30000 };

struct worker {
    struct cache *c;
    pthread_t thread;
    uint64_t number, wrong, found;
    uint64_t version[THREAD_BLOCKS];
};

static bool
is_whole(const uint64_t *data, uint64_t block)
{
    for (size_t i = 1; i < BLOCK / 8; i++)
        if (data[i] != data[0])
            return false;
    return data[0] >> 32 == block;
}

static void
work_step(struct worker *w, uint32_t v, uint64_t step)
{
    uint64_t mine = (v >> 8) % THREAD_BLOCKS;
    uint64_t block = mine * THREADS + w->number;
    uint64_t other = (v >> 4) % (THREAD_BLOCKS * THREADS);
    uint64_t data[BLOCK / 8];

    if (v >> 30 == 0) {
        if (v >> 29 == 0)
            offer(w->c, block, step);
        else
            put(w->c, block, step);
        w->version[mine] = step;
    } else if (v >> 24 == 0xff) {
        cache_drop(w->c, block, block + 1);
        w->version[mine] = 0;
    } else if (cache_get(w->c, block, 0, BLOCK, data)) {
        w->found++;
        w->wrong += !is_whole(data, block)
            || (data[0] & UINT32_MAX) != w->version[mine];
    }
    if (cache_get(w->c, other, 0, BLOCK, data))
        w->wrong += !is_whole(data, other);
}

static void *
work(void *arg)
{
    struct worker *w = arg;
    uint32_t v = (uint32_t)w->number * 77u + 1;

    for (uint64_t step = 1; step <= STEPS; step++) {
        v = v * 1664525u + 1013904223u;
        work_step(w, v, step);
        if (step % 1000 == 0) {
            (void)cache_counts(w->c);
            cache_drop(w->c, THREADS * THREAD_BLOCKS, UINT64_MAX); /* nobody */
            w->wrong += !cache_ok(w->c);
        }
    }
    return NULL;
}

static void
test_threads(void **state)
{
    struct worker *w = calloc(THREADS, sizeof *w);
    struct cache_counts counts;
    struct cache *c;

    (void)state;
    assert_non_null(w);
    assert_int_equal(cache_new(UINT64_C(300) << 10, BLOCK, &c), 0);
    for (uint64_t i = 0; i < THREADS; i++) {
        w[i].c = c;
        w[i].number = i;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(w[i].wrong, 0);
        assert_true(w[i].found > 0);
    }
    counts = cache_counts(c);
    assert_true(counts.evictions > 0);
    assert_true(counts.used_blocks <= counts.capacity_blocks);
    assert_true(cache_ok(c));
    cache_free(c);
    free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_small),
        cmocka_unit_test(test_offer),
        cmocka_unit_test(test_peek),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_fills_up),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_shift),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
