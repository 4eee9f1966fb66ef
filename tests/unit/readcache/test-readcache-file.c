/* The read cache's file: what comes out is right whatever is done to it. */
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "readcache/readcache.h"
#include "unit.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096, BYTES = 1 << 20, VOLUME_BLOCKS = 1024, NAME_BYTES = 64 };

struct io *io_system(void);

struct place {
    char path[64], file[128];
    struct target *dir;
    struct readcache_shape shape;
    struct readcache *rc;
    bool in_steps; /* the test loads the table */
    uint32_t version[VOLUME_BLOCKS]; /* that each block has now */
};

#define NAME "x.rcache"

static int
setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    struct io *io = io_system();

    assert_non_null(p);
    snprintf(p->path, sizeof p->path, "/tmp/lsvd-test-XXXXXX");
    assert_non_null(mkdtemp(p->path));
    snprintf(p->file, sizeof p->file, "%s/" NAME, p->path);
    assert_int_equal(io->ops->open_dir(io, p->path, 0, &p->dir), 0);
    memset(p->shape.volume.b, 7, sizeof p->shape.volume.b);
    p->shape.block_bytes = BLOCK;
    p->shape.bytes = BYTES;
    p->shape.block_count = VOLUME_BLOCKS;
    *state = p;
    return 0;
}

static int
teardown(void **state)
{
    struct place *p = *state;

    readcache_close(p->rc);
    target_close(p->dir);
    (void)unlink(p->file);
    assert_int_equal(rmdir(p->path), 0);
    free(p);
    return 0;
}

static void
reopen(struct place *p, bool stored)
{
    if (p->rc && stored)
        assert_int_equal(readcache_store(p->rc), 0);
    readcache_close(p->rc);
    p->rc = NULL;
    if (readcache_open(p->dir, NAME, &p->shape, &p->rc) < 0)
        fail_msg("%s", err_text());
    if (!p->in_steps)
        assert_int_equal(readcache_load(p->rc, 1000), 0);
}

static void
make(const struct place *p, uint64_t block, uint8_t *to)
{
    uint64_t word = block << 32 | p->version[block];

    for (size_t i = 0; i < BLOCK; i += 8)
        memcpy(to + i, &word, 8);
}

static struct readcache_block
want(const struct place *p, uint64_t block)
{
    uint64_t seed = sum_seed(&p->shape.volume, 1, block);
    uint8_t bytes[BLOCK];

    make(p, block, bytes);
    return (struct readcache_block){seed, sum_block(seed, bytes, BLOCK), false};
}

/* As volume does it. True: it came from the cache, and was right. */
static bool
read_run(struct place *p, uint64_t first, uint32_t count)
{
    uint8_t bytes[16 * BLOCK], right[BLOCK];
    struct readcache_block wanted[16];
    bool have[16], all = true;

    assert_true(count <= 16);
    for (uint32_t i = 0; i < count; i++)
        wanted[i] = want(p, first + i);
    assert_int_equal(readcache_get(p->rc, first, count, wanted, bytes, 0,
                                   have), 0);
    for (uint32_t i = 0; i < count; i++) {
        make(p, first + i, right);
        if (have[i]) /* RC1 */
            assert_memory_equal(bytes + (size_t)i * BLOCK, right, BLOCK);
        else
            memcpy(bytes + (size_t)i * BLOCK, right, BLOCK);
        all = all && have[i];
    }
    if (!all)
        assert_int_equal(readcache_offer(p->rc, first, count, wanted, bytes,
                                         false), 0);
    return all;
}

static unsigned
read_all(struct place *p, uint64_t count)
{
    unsigned hits = 0;

    for (uint64_t b = 0; b < count; b++)
        hits += read_run(p, b, 1);
    return hits;
}

static struct readcache_counts
counts(struct place *p)
{
    struct readcache_counts c;

    readcache_get_counts(p->rc, &c);
    return c;
}

static void
test_keeps(void **state)
{
    struct place *p = *state;

    reopen(p, false);
    assert_false(read_run(p, 0, 16));
    assert_true(read_run(p, 0, 16));
    assert_true(read_run(p, 3, 5));
    assert_false(read_run(p, 10, 16)); /* some */
    assert_true(read_run(p, 10, 16));
    assert_int_equal(counts(p).used, 26);
    assert_int_equal(counts(p).hits, 16 + 5 + 6 + 16);
    assert_true(counts(p).slots * BLOCK > BYTES - BYTES / 64);
    assert_true(counts(p).slots * BLOCK < BYTES);
}

/* What is overwritten is never served, whether the cache is told or not. */
static void
test_overwritten(void **state)
{
    struct place *p = *state;

    reopen(p, false);
    assert_int_equal(read_all(p, 100), 0);
    for (uint64_t b = 0; b < 100; b++)
        p->version[b]++;
    assert_int_equal(read_all(p, 100), 0);
    assert_int_equal(read_all(p, 100), 100);
    p->version[5]++;
    {
        struct readcache_block changed = want(p, 5);
        uint8_t bytes[BLOCK];

        make(p, 5, bytes);
        assert_int_equal(readcache_offer(p->rc, 5, 1, &changed, bytes, true),
                         0);
    }
    assert_true(read_run(p, 5, 1));
    readcache_drop(p->rc, 5);
    assert_false(read_run(p, 5, 1));
}

static void
test_warm(void **state)
{
    struct place *p = *state;

    reopen(p, false);
    assert_int_equal(read_all(p, 200), 0);
    reopen(p, true);
    assert_int_equal(counts(p).used, 200);
    assert_int_equal(read_all(p, 200), 200);
    /* A crash: the table is that of the last clean end. */
    for (uint64_t b = 0; b < 100; b++)
        p->version[b]++;
    assert_int_equal(read_all(p, 200), 100);
    reopen(p, false);
    assert_int_equal(read_all(p, 200), 100);
    assert_int_equal(read_all(p, 200), 200);
}

/* RC5: nothing is lost or let in before all is loaded, also if that is never
 * done. */
static void
test_loaded_in_steps(void **state)
{
    struct place *p = *state;
    unsigned hits;

    p->shape.bytes = 4 << 20; /* two pages, and a bit of a third */
    p->shape.bytes += 32 << 10;
    reopen(p, false);
    assert_int_equal(read_all(p, VOLUME_BLOCKS), 0);
    assert_true(counts(p).used > 1022);
    reopen(p, true);
    p->in_steps = true;
    reopen(p, true);
    assert_int_equal(counts(p).used, 0);
    assert_int_equal(read_all(p, 10), 0);
    assert_int_equal(readcache_load(p->rc, 1), 1);
    assert_int_equal(counts(p).used, 511);
    assert_int_equal(counts(p).admitted, 0);
    hits = read_all(p, VOLUME_BLOCKS);
    assert_int_equal(hits, 511);
    p->version[3]++; /* known to be out of date, when it is asked for */
    assert_false(read_run(p, 3, 1));
    assert_int_equal(counts(p).admitted, 0);
    reopen(p, true); /* one page is stored, the others stay as they are */
    assert_int_equal(readcache_load(p->rc, 2), 1);
    assert_int_equal(readcache_load(p->rc, 1), 0);
    assert_int_equal(readcache_load(p->rc, 1), 0);
    assert_int_equal(read_all(p, VOLUME_BLOCKS), VOLUME_BLOCKS - 1);
    assert_int_equal(counts(p).admitted, 1);
}

/* The tags are the same, and the sums differ: found, judged, not served. */
static void
test_tag_collision(void **state)
{
    struct place *p = *state;
    struct readcache_block wanted, other;
    uint8_t bytes[BLOCK];
    bool have;

    reopen(p, false);
    (void)read_run(p, 9, 1);
    wanted = other = want(p, 9);
    other.sum ^= 1;
    assert_int_equal(readcache_get(p->rc, 9, 1, &other, bytes, 0, &have), 0);
    assert_false(have);
    assert_int_equal(counts(p).wrong, 1);
    assert_int_equal(readcache_get(p->rc, 9, 1, &wanted, bytes, 0, &have), 0);
    assert_false(have); /* forgotten */
}

static void
scribble(struct place *p, uint64_t *random, unsigned times)
{
    int fd = open(p->file, O_RDWR);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    for (unsigned i = 0; i < times; i++) {
        uint8_t byte;
        off_t at;

        *random = *random * UINT64_C(6364136223846793005) + 1442695040888963407;
        at = (off_t)((*random >> 20) % (uint64_t)st.st_size);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte = (uint8_t)(byte ^ (1u << (*random >> 60 & 7)));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

/* Flipped bits, also in header and table, also while it is in use. */
static void
test_damaged(void **state)
{
    struct place *p = *state;
    uint64_t random = 3, hits = 0, wrong = 0;

    reopen(p, false);
    for (unsigned round = 0; round < 60; round++) {
        (void)read_all(p, 300);
        p->version[round]++;
        scribble(p, &random, 30);
        (void)read_all(p, 300);
        hits += counts(p).hits;
        wrong += counts(p).wrong;
        reopen(p, round % 3 != 0);
        if (round % 4 == 0) {
            scribble(p, &random, 30);
            reopen(p, false);
        }
    }
    assert_true(hits > 1000 && wrong > 100);
}

static void
test_file_is_not_ours(void **state)
{
    struct place *p = *state;
    int fd;

    reopen(p, false);
    assert_int_equal(read_all(p, 100), 0);
    reopen(p, true);
    assert_int_equal(counts(p).used, 100);
    p->shape.volume.b[3]++; /* another volume's */
    reopen(p, false);
    assert_int_equal(counts(p).used, 0);
    p->shape.volume.b[3]--;
    p->shape.bytes += 1 << 20; /* another size */
    reopen(p, false);
    assert_int_equal(counts(p).used, 0);
    (void)read_all(p, 100);
    reopen(p, true);
    assert_int_equal(counts(p).used, 100);
    p->shape.block_count = 50; /* the volume shrank */
    reopen(p, false);
    assert_int_equal(counts(p).used, 50);
    readcache_close(p->rc);
    p->rc = NULL;
    fd = open(p->file, O_RDWR | O_TRUNC);
    assert_true(fd >= 0 && write(fd, "garbage", 7) == 7);
    close(fd);
    reopen(p, false);
    assert_int_equal(counts(p).used, 0);
    (void)read_all(p, 40);
    assert_int_equal(read_all(p, 40), 40);
}

static void
test_one_at_a_time(void **state)
{
    struct place *p = *state;
    struct readcache *other = NULL;

    reopen(p, false);
    assert_int_equal(readcache_open(p->dir, NAME, &p->shape, &other), -EBUSY);
    assert_null(other);
}

static void
test_no_memory(void **state)
{
    struct place *p = *state;
    long nth = 0;
    bool fired = true;

    for (; fired; nth++) {
        int r;

        (void)mem_fail_after(nth);
        r = readcache_open(p->dir, NAME, &p->shape, &p->rc);
        fired = mem_fail_after(-1);
        assert_int_equal(r, fired ? -ENOMEM : 0);
        readcache_close(p->rc);
        p->rc = NULL;
    }
    assert_true(nth > 4);
}

/* The bytes of the format, once and for all. */
static void
test_format(void **state)
{
    struct readcache_header h = {.block_bytes = 4096, .slots = 255}, back;
    uint8_t page[READCACHE_PAGE_BYTES];

    (void)state;
    memset(h.volume.b, 0xab, sizeof h.volume.b);
    readcache_header_encode(&h, page);
    assert_memory_equal(page, "LSVDRCAC\x01\0\0\0\0\x10\0\0\xab\xab", 18);
    assert_memory_equal(page + 32, "\xff\0\0\0\0\0\0\0", 8);
    assert_int_equal(readcache_header_decode(page, &back), 0);
    assert_int_equal(back.slots, 255);
    assert_true(uuid_equal(&back.volume, &h.volume));
    for (size_t at = 0; at < sizeof page; at++) {
        page[at] ^= 4;
        assert_int_equal(readcache_header_decode(page, &back), -EBADMSG);
        page[at] ^= 4;
    }
    readcache_page_seal(&h.volume, 3, page);
    assert_true(readcache_page_is_sound(&h.volume, 3, page));
    assert_false(readcache_page_is_sound(&h.volume, 4, page));
    for (size_t at = 0; at < sizeof page; at++) {
        page[at] ^= 1;
        assert_false(readcache_page_is_sound(&h.volume, 3, page));
        page[at] ^= 1;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_keeps),         TEST(test_overwritten),
        TEST(test_warm),          TEST(test_loaded_in_steps),
        TEST(test_tag_collision),
        TEST(test_damaged),       TEST(test_file_is_not_ours),
        TEST(test_one_at_a_time), TEST(test_no_memory),
        cmocka_unit_test(test_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
