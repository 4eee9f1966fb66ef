/* The API as a client sees it, one thread at a time, against a model. */
#include "unit.h"
#include "world.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct kind kinds[] = {
    {.replicas = 1, .block_bytes = 512, .chunk_bytes = 256 << 10,
     .size_bytes = 700001},
    {.replicas = 3, .block_bytes = 4096, .chunk_bytes = 256 << 10,
     .size_bytes = 700001},
    {.ec_data = 2, .ec_parity = 1, .block_bytes = 512,
     .chunk_bytes = 256 << 10, .size_bytes = 524289},
    {.ec_data = 3, .ec_parity = 2, .block_bytes = 4096,
     .chunk_bytes = 256 << 10, .size_bytes = 900000},
    {.ec_data = 4, .ec_parity = 2, .block_bytes = 65536,
     .chunk_bytes = 256 << 10, .size_bytes = 1000000},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* What one byte is by the extents. */
enum { UNKNOWN, HOLE, DATA };

struct map {
    uint8_t *bytes;
    uint64_t next; /* runs come in order, and meet */
    int last;
};

static int
note_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct map *map = ctx;

    assert_int_equal(offset, map->next);
    assert_true(count > 0);
    assert_int_not_equal(map->last, is_data ? DATA : HOLE); /* maximal */
    map->last = is_data ? DATA : HOLE;
    memset(map->bytes + offset, map->last, count);
    map->next = offset + count;
    return 0;
}

/* Nothing that was written is a hole; whole blocks that were zeroed, or never
 * written, are. */
static void
check_extents(struct world *w, const uint8_t *written)
{
    uint64_t size = w->kind.size_bytes, block = w->kind.block_bytes;
    struct map map = {.bytes = calloc(1, size)};

    assert_non_null(map.bytes);
    MUST(lsvd_extents(w->volume, size, 0, note_extent, &map));
    assert_int_equal(map.next, size);
    for (uint64_t at = 0; at < size; at += block) {
        uint64_t n = size - at < block ? size - at : block;

        for (uint64_t i = 0; i < n; i++)
            assert_int_equal(map.bytes[at + i], written[at / block]);
    }
    free(map.bytes);
}

static void
check_all(struct world *w, const uint8_t *model)
{
    uint8_t *found = malloc(w->kind.size_bytes);

    assert_non_null(found);
    MUST(lsvd_pread(w->volume, found, w->kind.size_bytes, 0));
    assert_memory_equal(found, model, w->kind.size_bytes);
    free(found);
}

/* Random writes, zeroes, destages, closes and kills; then the model's view. */
static void
live(const struct kind *kind)
{
    uint64_t size = kind->size_bytes, block = kind->block_bytes, random = 3;
    uint64_t blocks = (size + block - 1) / block;
    uint8_t *model = calloc(1, size), *bytes = malloc(size);
    uint8_t *written = malloc(blocks);
    struct world w;

    assert_non_null(model);
    assert_non_null(bytes);
    assert_non_null(written);
    memset(written, HOLE, blocks);
    world_init(&w, kind);
    world_open(&w);
    for (unsigned i = 0; i < 120; i++) {
        uint64_t at = random_below(&random, size);
        uint64_t most = random_below(&random, 5) ? 3 * block : size;
        uint64_t what = random_below(&random, 20);
        size_t count;

        most = size - at < most ? size - at : most;
        count = 1 + random_below(&random, most);
        if (what < 12) {
            random_fill(&random, bytes, count);
            MUST(lsvd_pwrite(w.volume, bytes, count, at,
                             what == 0 ? LSVD_FUA : 0));
            memcpy(model + at, bytes, count);
            memset(written + at / block, DATA,
                   (at + count - 1) / block - at / block + 1);
        } else if (what < 16) {
            uint64_t end = at + count == size ? blocks : (at + count) / block;

            /* A block of which only a part becomes zeroes is written. */
            MUST(lsvd_trim(w.volume, count, at, 0));
            memset(model + at, 0, count);
            memset(written + at / block, DATA,
                   (at + count - 1) / block - at / block + 1);
            for (uint64_t b = (at + block - 1) / block; b < end; b++)
                written[b] = HOLE;
        } else if (what == 16) {
            world_drain(&w);
            check_extents(&w, written);
        } else if (what == 17) {
            world_close(&w);
            world_open(&w);
            check_all(&w, model);
        } else if (what == 18) {
            lsvd_abandon(w.volume);
            w.volume = NULL;
            world_open(&w);
            check_all(&w, model);
            check_extents(&w, written);
        } else {
            check_extents(&w, written);
        }
    }
    check_all(&w, model);
    world_close(&w);
    world_check_sound(&w);
    world_done(&w);
    free(model);
    free(bytes);
    free(written);
}

static void
test_against_model(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++)
        live(&kinds[i]);
}

/* Bounds. */
static void
test_beyond_the_end(void **state)
{
    struct world w;
    uint8_t byte = 1;

    (void)state;
    world_init(&w, &kinds[1]);
    world_open(&w);
    assert_int_equal(lsvd_pwrite(w.volume, &byte, 1, 700001, 0), -EINVAL);
    assert_int_equal(lsvd_pread(w.volume, &byte, 2, 700000), -EINVAL);
    assert_int_equal(lsvd_zero(w.volume, UINT64_MAX, 1, 0), -EINVAL);
    MUST(lsvd_pwrite(w.volume, &byte, 1, 700000, 0));
    world_done(&w);
}

struct half {
    struct world *world;
    uint64_t at;
    uint8_t last;
};

static void *
write_half(void *arg)
{
    struct half *half = arg;
    uint8_t bytes[512];

    for (unsigned i = 0; i < 300; i++) {
        half->last = (uint8_t)i;
        memset(bytes, half->last, sizeof bytes);
        MUST(lsvd_pwrite(half->world->volume, bytes, sizeof bytes, half->at,
                         0));
    }
    return NULL;
}

/* Two halves of one block, each from a thread of its own. */
static void
test_two_writers_of_a_block(void **state)
{
    struct half half[2];
    pthread_t thread[2];
    struct world w;

    (void)state;
    world_init(&w, &kinds[3]);
    world_open(&w);
    MUST(lsvd_start(w.volume));
    for (int i = 0; i < 2; i++) {
        half[i] = (struct half){&w, 8192 + (uint64_t)i * 512, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, write_half,
                                        &half[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < 2; i++) {
        uint8_t bytes[512];

        MUST(lsvd_pread(w.volume, bytes, sizeof bytes, half[i].at));
        for (size_t n = 0; n < sizeof bytes; n++)
            assert_int_equal(bytes[n], half[i].last);
    }
    world_close(&w);
    world_done(&w);
}

static void
test_append_only(void **state)
{
    uint8_t bytes[8192] = {1};
    struct world w;

    (void)state;
    world_init(&w, &kinds[1]);
    MUST(lsvd_set(&w.env, NAME, "append-only", "on"));
    world_open(&w);
    MUST(lsvd_pwrite(w.volume, bytes, sizeof bytes, 0, 0));
    MUST(lsvd_zero(w.volume, 4096, 8192, 0)); /* there is nothing */
    assert_int_equal(lsvd_pwrite(w.volume, bytes, 4096, 4096, 0), -EPERM);
    assert_int_equal(lsvd_trim(w.volume, 1, 0, 0), -EPERM);
    world_drain(&w);
    assert_int_equal(lsvd_pwrite(w.volume, bytes, 8192, 4096, 0), -EPERM);
    MUST(lsvd_pwrite(w.volume, bytes, 4096, 8192, 0));
    world_close(&w);
    world_done(&w);
}

/* What was cut off does not come back. */
static void
test_resize(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        uint64_t size = kinds[i].size_bytes, cut = 300001, random = 9;
        uint8_t *bytes = malloc(2 * size), *found = malloc(2 * size);
        struct world w;

        assert_non_null(bytes);
        assert_non_null(found);
        random_fill(&random, bytes, size);
        memset(bytes + size, 0, size);
        world_init(&w, &kinds[i]);
        world_open(&w);
        MUST(lsvd_pwrite(w.volume, bytes, size, 0, 0));
        world_close(&w);
        MUST(lsvd_resize(&w.env, NAME, 2 * size, false));
        world_open(&w);
        MUST(lsvd_pread(w.volume, found, 2 * size, 0));
        assert_memory_equal(found, bytes, 2 * size);
        MUST(lsvd_pwrite(w.volume, bytes, 100, size + 17, 0));
        world_close(&w);
        assert_int_equal(lsvd_resize(&w.env, NAME, cut, false), -EPERM);
        MUST(lsvd_resize(&w.env, NAME, cut, true));
        MUST(lsvd_resize(&w.env, NAME, 2 * size, false));
        memset(bytes + cut, 0, 2 * size - cut);
        world_open(&w);
        MUST(lsvd_pread(w.volume, found, 2 * size, 0));
        assert_memory_equal(found, bytes, 2 * size);
        world_close(&w);
        world_check_sound(&w);
        world_done(&w);
        free(bytes);
        free(found);
    }
}

static unsigned
files_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* A block of each chunk, over and over; the most that were open. */
static unsigned
read_chunks(struct world *w, uint64_t count)
{
    unsigned most = 0;

    for (unsigned lap = 0; lap < 2; lap++) {
        for (uint64_t i = 0; i < count; i++) {
            uint8_t byte;
            unsigned now;

            MUST(lsvd_pread(w->volume, &byte, 1, i * w->kind.chunk_bytes));
            assert_int_equal(byte, i + 1);
            now = files_open();
            most = now > most ? now : most;
        }
    }
    return most;
}

/* Chunk files stay open up to the limit, which all volumes share. */
static void
test_files_are_kept_open_within_the_limit(void **state)
{
    enum { CHUNKS = 100, VOLUMES = 2, MIN = 9 };
    static const struct kind kind = {
        .replicas = 1, .block_bytes = 4096, .chunk_bytes = 256 << 10,
        .size_bytes = CHUNKS * (256 << 10), .ram_bytes = 4096,
    };
    struct world w[VOLUMES];
    unsigned before;

    (void)state;
    for (unsigned v = 0; v < VOLUMES; v++) {
        world_init(&w[v], &kind);
        world_open(&w[v]);
        for (uint64_t i = 0; i < CHUNKS; i++) {
            uint8_t byte = (uint8_t)(i + 1);

            MUST(lsvd_pwrite(w[v].volume, &byte, 1, i * kind.chunk_bytes, 0));
        }
        world_close(&w[v]); /* nothing is in the journal, or open */
        world_open(&w[v]);
    }
    before = files_open();
    lsvd_limit_files(CHUNKS / 2);
    assert_in_range(read_chunks(&w[0], CHUNKS) - before, CHUNKS / 2 - 1,
                    CHUNKS / 2 + 2);
    /* The first has all of them, and does not need them. */
    assert_in_range(read_chunks(&w[1], CHUNKS) - before, CHUNKS / 2 + MIN - 2,
                    CHUNKS / 2 + MIN + 2);
    lsvd_limit_files(10 * CHUNKS);
    assert_int_equal(read_chunks(&w[0], CHUNKS) - before, CHUNKS + MIN);
    assert_int_equal(read_chunks(&w[1], CHUNKS) - before, 2 * CHUNKS);
    lsvd_limit_files(512);
    for (unsigned v = 0; v < VOLUMES; v++) {
        world_close(&w[v]);
        world_done(&w[v]);
    }
}

static void
limit_descriptors(rlim_t count)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* A batch keeps to the limit, with many parts, too; and want of descriptors is
 * no fault of any part. */
static void
test_few_descriptors(void **state)
{
    enum { CHUNKS = 40, PARTS = 20, FILES = 10 * PARTS };
    static const struct kind kind = {
        .ec_data = 16, .ec_parity = 4, .block_bytes = 4096,
        .chunk_bytes = 256 << 10, .size_bytes = CHUNKS * (256 << 10),
        .journal_bytes = 16 << 20,
    };
    struct rlimit usual;
    struct world w;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    world_init(&w, &kind);
    world_open(&w);
    lsvd_limit_files(FILES);
    for (uint64_t i = 0; i < CHUNKS; i++) {
        uint8_t byte = (uint8_t)(i + 1);

        MUST(lsvd_pwrite(w.volume, &byte, 1, i * kind.chunk_bytes, 0));
    }
    /* enough for most parts (files_open counts its own, and . and ..) */
    limit_descriptors(files_open() - 3 + PARTS - 2);
    assert_true(lsvd_destage_step(w.volume) < 0);
    assert_true(lsvd_destage_step(w.volume) < 0);
    /* the files of a batch come on top of those that are kept */
    limit_descriptors(files_open() + FILES + FILES / 2 + PARTS);
    world_drain(&w);
    assert_true(world_status(&w)->healthy);
    limit_descriptors(usual.rlim_cur);
    (void)read_chunks(&w, CHUNKS);
    lsvd_limit_files(512);
    world_close(&w);
    world_check_sound(&w);
    world_done(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_beyond_the_end),
        cmocka_unit_test(test_two_writers_of_a_block),
        cmocka_unit_test(test_append_only),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_files_are_kept_open_within_the_limit),
        cmocka_unit_test(test_few_descriptors),
    };

    return cmocka_run_group_tests_name("volume-basics", tests, NULL, NULL);
}
