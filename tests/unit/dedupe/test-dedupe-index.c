/* test-dedupe-index.c: what was put in is found, however little memory there
 * is; and what is not there is not. */
#include "base/err.h"
#include "base/memory.h"
#include "dedupe/dedupe_page.h"
#include "temp-dir.h"
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1u << 20)

static const struct dedupe_shape shape = {
    .source = {{0x42, 1, 2, 3}},
    .source_bytes = UINT64_C(1) << 40,
    .block_bytes = 4096,
    .hash_bits = DEDUPE_HASH_BITS_MAX,
};

/* Of a block that holds its number. */
static struct dedupe_hash
hash_of(uint64_t block)
{
    uint8_t bytes[4096] = {0};

    memcpy(bytes + 100, &block, sizeof block);
    return dedupe_hash_of(&shape, bytes);
}

static void
build(struct temp_dir *dir, uint64_t blocks, size_t memory)
{
    struct dedupe_build *b;

    assert_int_equal(dedupe_build_begin(dir->target, &shape, memory, &b), 0);
    for (uint64_t i = 0; i < blocks; i++) {
        struct dedupe_hash hash = hash_of(i);

        assert_int_equal(dedupe_build_add(b, &hash, i), 0);
        if (i % 7 == 0) /* there again, further on */
            assert_int_equal(dedupe_build_add(b, &hash, i + blocks), 0);
    }
    assert_int_equal(dedupe_build_end(b), 0);
    dedupe_build_free(b);
}

static int
count_name(void *ctx, const char *name)
{
    unsigned *count = ctx;

    (void)name;
    (*count)++;
    return 0;
}

static void
found_again(uint64_t blocks, size_t memory)
{
    struct dedupe_index *x;
    struct temp_dir dir;
    unsigned names = 0;
    uint64_t at;

    temp_dir_init(&dir);
    build(&dir, blocks, memory);
    assert_int_equal(target_list(dir.target, count_name, &names), 0);
    assert_int_equal(names, 1); /* nothing is left beside it */
    assert_int_equal(dedupe_index_open(dir.target, &shape, memory, &x), 0);
    assert_int_equal(dedupe_index_entries(x), blocks);
    assert_true(dedupe_index_memory(x) <= memory + 4096);
    for (uint64_t i = 0; i < blocks; i++) {
        struct dedupe_hash hash = hash_of(i);

        assert_int_equal(dedupe_index_find(x, &hash, &at), 1);
        assert_int_equal(at, i); /* the first of equals */
    }
    for (uint64_t i = blocks; i < blocks + 1000; i++) {
        struct dedupe_hash hash = hash_of(i);

        assert_int_equal(dedupe_index_find(x, &hash, &at), 0);
    }
    dedupe_index_close(x);
    temp_dir_done(&dir);
}

static void
all_in_memory(void **state)
{
    (void)state;
    found_again(0, MIB);
    found_again(1, MIB);
    found_again(DEDUPE_PAGE_ENTRIES, MIB);
    found_again(DEDUPE_PAGE_ENTRIES + 1, MIB);
    found_again(20000, 8 * MIB);
}

/* 21,845 entries fit into a mebibyte while they are sorted. */
static void
sorted_in_pieces(void **state)
{
    (void)state;
    found_again(21845, MIB);
    found_again(100000, MIB);
}

static void
another_one_is_refused(void **state)
{
    struct dedupe_shape other = shape;
    struct dedupe_index *x;
    struct temp_dir dir;

    (void)state;
    temp_dir_init(&dir);
    assert_int_equal(dedupe_index_open(dir.target, &shape, MIB, &x), -ENOENT);
    build(&dir, 5000, MIB);
    other.source_bytes++;
    assert_int_equal(dedupe_index_open(dir.target, &other, MIB, &x), -EBADMSG);
    other = shape;
    other.generation++;
    assert_int_equal(dedupe_index_open(dir.target, &other, MIB, &x), -EBADMSG);
    other = shape;
    other.hash_bits = 64;
    assert_int_equal(dedupe_index_open(dir.target, &other, MIB, &x), -EBADMSG);
    other = shape;
    other.source.b[0]++;
    assert_int_equal(dedupe_index_open(dir.target, &other, MIB, &x), -ENOENT);
    assert_int_equal(dedupe_index_open(dir.target, &shape, 1000, &x), -ENOSPC);
    assert_non_null(strstr(err_text(), "of memory"));
    temp_dir_done(&dir);
}

static void
damage(struct temp_dir *dir, uint64_t at)
{
    char name[DEDUPE_NAME_BYTES];

    dedupe_name(&shape, name);
    temp_dir_flip(dir, name, at);
}

static void
damage_costs_its_page(void **state)
{
    struct dedupe_index *x;
    struct temp_dir dir;
    uint64_t at, found = 0;

    (void)state;
    temp_dir_init(&dir);
    build(&dir, 5000, MIB);
    damage(&dir, 4096 + 3 * 4096 + 1000);
    assert_int_equal(dedupe_index_open(dir.target, &shape, MIB, &x), 0);
    for (uint64_t i = 0; i < 5000; i++) {
        struct dedupe_hash hash = hash_of(i);

        found += dedupe_index_find(x, &hash, &at) == 1 && at == i;
    }
    assert_int_equal(found, 5000 - DEDUPE_PAGE_ENTRIES);
    dedupe_index_close(x);
    damage(&dir, 40); /* the header */
    assert_int_equal(dedupe_index_open(dir.target, &shape, MIB, &x), -EBADMSG);
    damage(&dir, 40);
    damage(&dir, 4096 + 30 * 4096 + 5); /* a fence */
    assert_int_equal(dedupe_index_open(dir.target, &shape, MIB, &x), -EBADMSG);
    temp_dir_done(&dir);
}

static void
fewer_bits(void **state)
{
    struct dedupe_shape few = shape;
    uint8_t bytes[4096] = {1};
    struct dedupe_hash all = dedupe_hash_of(&few, bytes), hash;

    (void)state;
    few.hash_bits = 100;
    hash = dedupe_hash_of(&few, bytes);
    assert_int_equal(hash.high, all.high);
    assert_int_equal(hash.low, all.low >> 28 << 28);
    few.hash_bits = 5;
    hash = dedupe_hash_of(&few, bytes);
    assert_int_equal(hash.high, all.high >> 59 << 59);
    assert_int_equal(hash.low, 0);
}

/* Each allocation fails once: an error, and nothing stays behind. */
static void
without_memory(void **state)
{
    struct temp_dir dir;
    bool failed = true;

    (void)state;
    temp_dir_init(&dir);
    for (long nth = 0; failed; nth++) {
        struct dedupe_build *b = NULL;
        struct dedupe_index *x = NULL;
        int r;

        (void)mem_fail_after(nth);
        r = dedupe_build_begin(dir.target, &shape, MIB, &b);
        for (uint64_t i = 0; i < 30000 && r == 0; i++) {
            struct dedupe_hash hash = hash_of(i);

            r = dedupe_build_add(b, &hash, i);
        }
        if (r == 0)
            r = dedupe_build_end(b);
        dedupe_build_free(b);
        if (r == 0)
            r = dedupe_index_open(dir.target, &shape, MIB, &x);
        dedupe_index_close(x);
        failed = mem_fail_after(-1);
        assert_int_equal(r, failed ? -ENOMEM : 0);
    }
    temp_dir_done(&dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_in_memory),
        cmocka_unit_test(sorted_in_pieces),
        cmocka_unit_test(another_one_is_refused),
        cmocka_unit_test(damage_costs_its_page),
        cmocka_unit_test(fewer_bits),
        cmocka_unit_test(without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
