/* The read cache of a volume: what it serves, what it survives, when it
 * rests. */
#include "rig.h"
#include "unit.h"
#include "volume/read_cache.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* RAM for a few blocks: nearly all reads go further. */
static const struct kind one = {
    .replicas = 1, .block_bytes = BLOCK, .chunk_bytes = CHUNK,
    .size_bytes = BYTES, .ram_bytes = 64 << 10};
static const struct kind two = {
    .replicas = 2, .block_bytes = BLOCK, .chunk_bytes = CHUNK,
    .size_bytes = BYTES, .ram_bytes = 64 << 10};
static const struct kind ec = {
    .ec_data = 2, .ec_parity = 1, .block_bytes = BLOCK, .chunk_bytes = CHUNK,
    .size_bytes = BYTES, .ram_bytes = 64 << 10};

enum { BLOCKS = BYTES / BLOCK };

/* Filled, destaged, and open, with a cache that takes it all. */
static struct rig *
begin(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);

    rig_set(rig, "cache-size=5M"); /* the journal has 1 MiB of it */
    rig_set(rig, "read-cache=on");
    rig_open_filled(rig);
    return rig;
}

static struct lsvd_read_cache_status *
cache_status(struct rig *rig)
{
    return &rig_status(rig)->read_cache;
}

/* Block by block: what is longer is a scan's. */
static void
check_blocks(struct rig *rig)
{
    for (uint64_t at = 0; at < BYTES; at += BLOCK)
        MUST(rig_read(rig, at, BLOCK));
}

static void
check_kind(const struct kind *kind)
{
    struct rig *rig = begin(kind);
    uint64_t before;

    check_blocks(rig);
    assert_true(cache_status(rig)->used_bytes > BYTES * 9 / 10);
    before = cache_status(rig)->hits;
    check_blocks(rig);
    assert_true(cache_status(rig)->hits - before > BLOCKS * 8 / 10);
    /* What is destaged is seen, and what is known is kept up to date. */
    for (unsigned i = 0; i < 8; i++) {
        rig_touch(rig, 0, CHUNKS);
        world_drain(&rig->world);
        check_blocks(rig);
    }
    before = cache_status(rig)->misses;
    check_blocks(rig);
    assert_true(cache_status(rig)->misses - before < BLOCKS / 10);
    MUST(rig_trim(rig, CHUNK / 2, 2 * CHUNK));
    world_drain(&rig->world);
    check_blocks(rig);
    /* A clean end: warm. */
    rig_close(rig);
    rig_open(rig, false);
    check_blocks(rig);
    assert_true(cache_status(rig)->hits > BLOCKS * 6 / 10);
    /* A crash: what was overwritten since the clean end is not served. */
    for (unsigned i = 0; i < 8; i++)
        rig_touch(rig, 0, CHUNKS);
    world_drain(&rig->world);
    rig_touch(rig, 0, CHUNKS);
    rig_kill(rig);
    rig_open(rig, false);
    check_blocks(rig);
    assert_true(cache_status(rig)->hits > BLOCKS / 2);
    assert_int_equal(cache_status(rig)->state, LSVD_READ_CACHE_WORKS);
    rig_end(rig);
}

static void
test_replica(void **state)
{
    (void)state;
    check_kind(&one);
}

static void
test_replicas(void **state)
{
    (void)state;
    check_kind(&two);
}

static void
test_ec(void **state)
{
    (void)state;
    check_kind(&ec);
}

/* RV1: parts are not asked for what is here. */
static void
test_parts_are_not_asked(void **state)
{
    struct rig *rig = begin(&one);
    unsigned served = 0;

    (void)state;
    check_blocks(rig);
    atomic_store(&rig->io.refuse[0], REFUSE_READS);
    for (uint64_t at = 0; at < BYTES; at += BLOCK) {
        if (lsvd_pread(rig->world.volume, rig->found, BLOCK, at) < 0)
            continue;
        assert_memory_equal(rig->found, rig->model + at, BLOCK);
        served++;
    }
    assert_true(served > BLOCKS * 9 / 10);
    atomic_store(&rig->io.refuse[0], 0);
    rig_end(rig);
}

/* RV3: errors of its device cost speed, and one line. */
static void
test_read_errors(void **state)
{
    struct rig *rig = begin(&two);

    (void)state;
    check_blocks(rig);
    rig_forget_said(rig);
    atomic_store(&rig->io.refuse_cache[0], REFUSE_READS);
    check_blocks(rig);
    assert_true(rig_has_said(rig, "the read cache is off"));
    assert_int_equal(cache_status(rig)->state, LSVD_READ_CACHE_FAILED);
    assert_true(cache_status(rig)->problem[0] != '\0');
    rig_forget_said(rig);
    check_blocks(rig);
    assert_false(rig_has_said(rig, "read cache"));
    atomic_store(&rig->io.refuse_cache[0], 0);
    rig_close(rig);
    rig_open(rig, false);
    check_blocks(rig);
    assert_int_equal(cache_status(rig)->state, LSVD_READ_CACHE_WORKS);
    rig_end(rig);
}

static void
cache_file(struct rig *rig, char *path, size_t bytes)
{
    DIR *dir = opendir(rig->world.cache);
    struct dirent *entry;

    path[0] = '\0';
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        if (strstr(entry->d_name, ".rcache"))
            snprintf(path, bytes, "%s/%s", rig->world.cache, entry->d_name);
    closedir(dir);
    assert_true(path[0] != '\0');
}

/* Its bytes change while it is in use, and its file ends too soon. */
static void
test_garbage(void **state)
{
    struct rig *rig = begin(&two);
    uint8_t garbage[4096];
    char path[1024];
    int fd;

    (void)state;
    check_blocks(rig);
    cache_file(rig, path, sizeof path);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    for (off_t at = 0; at < 3 << 20; at += 3 * 4096) {
        random_fill(&rig->random, garbage, sizeof garbage);
        assert_int_equal(pwrite(fd, garbage, sizeof garbage, at + 512),
                         sizeof garbage);
    }
    check_blocks(rig);
    assert_true(cache_status(rig)->wrong > 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    check_blocks(rig);
    close(fd);
    rig_close(rig);
    assert_int_equal(unlink(path), 0);
    rig_open(rig, false);
    check_blocks(rig);
    assert_int_equal(cache_status(rig)->wrong, 0);
    rig_end(rig);
}

struct worker {
    struct rig *rig;
    pthread_t thread;
    unsigned nth;
};

enum { WORKERS = 4, REQUESTS = 3000 };

/* Each has blocks of its own, and every other request is a write. */
static void *
work(void *ctx)
{
    struct worker *w = ctx;
    struct lsvd_volume *v = w->rig->world.volume;
    uint64_t random = w->nth + 1, bytes[BLOCK / 8];

    for (unsigned i = 0; i < REQUESTS; i++) {
        uint64_t block = random_below(&random, BLOCKS / WORKERS) * WORKERS +
                         w->nth;
        uint8_t *right = w->rig->model + block * BLOCK;

        if (i % 4 == 0) {
            random_fill(&random, bytes, BLOCK);
            MUST(lsvd_pwrite(v, bytes, BLOCK, block * BLOCK, 0));
            memcpy(right, bytes, BLOCK);
        } else {
            MUST(lsvd_pread(v, bytes, BLOCK, block * BLOCK));
            if (memcmp(bytes, right, BLOCK) != 0)
                return w; /* not here: the test ends on its own thread */
        }
    }
    return NULL;
}

/* Threads, the destage thread, the queue of the guard; a cache that holds an
 * eighth. */
static void
test_threads(void **state)
{
    struct rig *rig = rig_new(&two);
    struct worker worker[WORKERS];
    void *wrong;

    (void)state;
    rig_set(rig, "cache-size=1280K");
    rig_set(rig, "read-cache=on");
    rig_guard(rig, 10000);
    rig_open_filled(rig);
    rig_close(rig);
    rig_open(rig, true);
    for (unsigned i = 0; i < WORKERS; i++) {
        worker[i] = (struct worker){.rig = rig, .nth = i};
        assert_int_equal(pthread_create(&worker[i].thread, NULL, work,
                                        &worker[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(worker[i].thread, &wrong), 0);
        assert_null(wrong);
    }
    check_blocks(rig);
    assert_true(cache_status(rig)->hits > 0);
    assert_true(cache_status(rig)->evicted > 0);
    rig_end(rig);
}

/* A table that is not loaded at once: by a thread, which the end does not wait
 * for; blocks are kept when it is done. */
static void
test_large(void **state)
{
    struct rig *rig = rig_new(&one);

    (void)state;
    rig_set(rig, "cache-size=3G");
    rig_set(rig, "read-cache=on");
    rig_open_filled(rig);
    check_blocks(rig);
    for (unsigned i = 0; i < 3; i++) {
        rig_close(rig);
        rig_open(rig, true);
    }
    assert_true(cache_status(rig)->used_bytes > BYTES * 9 / 10);
    check_blocks(rig);
    assert_true(cache_status(rig)->hits > BLOCKS * 6 / 10);
    rig_kill(rig);
    rig_open(rig, true);
    rig_end(rig);
}

/* Whatever the settings are, the volume is served. */
static void
test_settings(void **state)
{
    static const struct {
        const char *size, *use;
        enum lsvd_read_cache_state state;
    } cases[] = {
        {"cache-size=0", "read-cache=on", LSVD_READ_CACHE_NONE},
        {"cache-size=1M", "read-cache=on", LSVD_READ_CACHE_NONE},
        {"cache-size=100K", "read-cache=on", LSVD_READ_CACHE_NONE},
        {"cache-size=4M", "read-cache=off", LSVD_READ_CACHE_NONE},
        {"cache-size=4M", "read-cache=auto", LSVD_READ_CACHE_WORKS},
        {"cache-size=1152K", "read-cache=on", LSVD_READ_CACHE_WORKS},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig *rig = rig_new(&one);

        rig_set(rig, cases[i].size);
        rig_set(rig, cases[i].use);
        rig_open_filled(rig);
        check_blocks(rig);
        assert_int_equal(cache_status(rig)->state, cases[i].state);
        assert_true(cache_status(rig)->bytes <= 3 << 20);
        rig_end(rig);
    }
}

/* The volume goes, and its copies with it. */
static void
test_removed(void **state)
{
    struct rig *rig = begin(&one);
    char path[1024];

    (void)state;
    cache_file(rig, path, sizeof path);
    assert_int_equal(access(path, F_OK), 0);
    rig_close(rig);
    MUST(lsvd_remove(&rig->world.env, NAME));
    assert_int_equal(access(path, F_OK), -1);
    rig_free(rig);
}

/* Long reads of all of it; then it is all there, if there is room. */
static void
check_scanned(const char *size, bool fits)
{
    struct rig *rig = rig_new(&one);
    unsigned before;

    rig_set(rig, size);
    rig_set(rig, "read-cache=on");
    rig_open_filled(rig);
    rig_check(rig);
    before = rig->io.reads;
    check_blocks(rig);
    if (fits)
        assert_true(rig->io.reads - before < BLOCKS / 100);
    else
        assert_true(rig->io.reads - before > BLOCKS / 4);
    rig_end(rig);
}

/* RV5: a scan gets what room there is. */
static void
test_scan(void **state)
{
    (void)state;
    check_scanned("cache-size=5M", true);
    check_scanned("cache-size=1280K", false);
}

/* Reads of chunk files, for one of each block in an order that jumps. */
static unsigned
reads_of_all(struct rig *rig)
{
    unsigned before = rig->io.reads;

    for (uint64_t i = 0; i < BLOCKS; i++)
        MUST(rig_read(rig, i * 77 % BLOCKS * BLOCK, BLOCK));
    return rig->io.reads - before;
}

static void
check_far(const struct kind *kind, uint64_t read_ns, bool is_far)
{
    struct rig *rig = begin(kind);
    unsigned reads;

    rig->io.read_ns = read_ns;
    reads = reads_of_all(rig);
    if (is_far)
        assert_true(reads < BLOCKS / 5);
    else
        assert_true(reads > BLOCKS / 2);
    assert_true(cache_status(rig)->used_bytes > BYTES * 8 / 10);
    for (unsigned i = 0; i < 3; i++) {
        rig_touch(rig, 0, CHUNKS);
        MUST(rig_trim(rig, CHUNK / 2, CHUNK));
        (void)reads_of_all(rig);
        world_drain(&rig->world);
        (void)reads_of_all(rig);
    }
    rig_end(rig);
}

/* RV5: of parts that are far a block's neighbours come with it. */
static void
test_far(void **state)
{
    (void)state;
    check_far(&one, 10000000, true);
    check_far(&two, 10000000, true);
    check_far(&ec, 10000000, true);
    check_far(&one, 500000, false);
}

/* RV5: a block whose neighbour no part has is read all the same. */
static void
test_far_and_rotten(void **state)
{
    struct rig *rig = begin(&one);
    uint64_t last = 3 * (CHUNK / BLOCK) - 1;
    unsigned before;

    (void)state;
    rig->io.read_ns = 10000000;
    for (uint64_t i = 0; i < READ_CACHE_SAMPLES_MIN; i++)
        MUST(rig_read(rig, i * BLOCK, BLOCK));
    world_flip(&rig->world, "a/3", -100);
    before = rig->io.reads;
    MUST(rig_read(rig, (last - 3) * BLOCK, BLOCK));
    assert_true(rig->io.reads - before >= 2);
    before = rig->io.reads;
    MUST(rig_read(rig, (last - 20) * BLOCK, BLOCK)); /* those are sound */
    MUST(rig_read(rig, (last - 21) * BLOCK, BLOCK));
    assert_int_equal(rig->io.reads - before, 1);
    assert_int_equal(rig_read(rig, last * BLOCK, BLOCK), -EIO);
    MUST(rig_write(rig, last * BLOCK, BLOCK));
    rig_end(rig);
}

/* RV4. */
static void
test_rest(void **state)
{
    struct read_cache_rate rate = {
        .cache_ns = 100000, .part_ns = 90000, .cache_samples = 32,
        .part_samples = 32};
    uint64_t later = READ_CACHE_DWELL_NS + 1000;

    (void)state;
    assert_true(read_cache_should_rest(&rate, false, 1000, later));
    assert_false(read_cache_should_rest(&rate, false, 1000, later - 1));
    rate.part_ns = 124000; /* between the two ratios all stays as it is */
    assert_true(read_cache_should_rest(&rate, false, 1000, later));
    rate.part_ns = 126000;
    assert_false(read_cache_should_rest(&rate, false, 1000, later));
    assert_true(read_cache_should_rest(&rate, true, 1000, later));
    rate.part_ns = 199000;
    assert_true(read_cache_should_rest(&rate, true, 1000, later));
    rate.part_ns = 200000;
    assert_false(read_cache_should_rest(&rate, true, 1000, later));
    assert_true(read_cache_should_rest(&rate, true, 1000, later - 1));
    rate.part_ns = 10;
    rate.cache_samples--;
    assert_false(read_cache_should_rest(&rate, false, 1000, later));
    rate.cache_samples++;
    rate.part_samples--;
    assert_false(read_cache_should_rest(&rate, false, 1000, later));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica),
        cmocka_unit_test(test_replicas),
        cmocka_unit_test(test_ec),
        cmocka_unit_test(test_parts_are_not_asked),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_removed),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_far_and_rotten),
        cmocka_unit_test(test_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
