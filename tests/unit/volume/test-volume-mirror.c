/* A journal in two directories, of which one refuses, is away, rots, or is
 * given up; and a journal in one, that fails. */
#include "base/wait.h"
#include "faulty-io.h"
#include "unit.h"
#include "volume/journal_refill.h"
#include "world.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096, CHUNK = 256 << 10, BYTES = 2 << 20, THREADS = 4 };

struct rig {
    struct world world;
    struct faulty_io io;
    char cache2[300];
    uint8_t model[BYTES]; /* what was answered */
    uint8_t found[BYTES];
    pthread_mutex_t lock; /* guards what follows */
    char said[4096];      /* warnings and errors */
};

static void
hear(void *ctx, enum lsvd_log_level level, const char *line)
{
    struct rig *rig = ctx;
    size_t used;

    if (level > LSVD_WARNING)
        return;
    pthread_mutex_lock(&rig->lock);
    used = strlen(rig->said);
    snprintf(rig->said + used, sizeof rig->said - used, "%s\n", line);
    pthread_mutex_unlock(&rig->lock);
}

static bool
was_said(struct rig *rig, const char *text)
{
    bool said;

    pthread_mutex_lock(&rig->lock);
    said = strstr(rig->said, text) != NULL;
    pthread_mutex_unlock(&rig->lock);
    return said;
}

/* Which directories the next start is given: bit 0 cache, bit 1 cache2. */
static void
give(struct rig *rig, unsigned set)
{
    struct world *w = &rig->world;
    size_t count = 0;

    if (set & 1)
        w->cache_list[count++] = w->cache;
    if (set & 2)
        w->cache_list[count++] = rig->cache2;
    w->cache_list[count] = NULL;
}

static struct rig *
rig_new_of(uint32_t replicas, unsigned caches)
{
    const struct kind kind = {.replicas = replicas, .block_bytes = BLOCK,
                              .chunk_bytes = CHUNK, .size_bytes = BYTES,
                              .journal_bytes = 4 << 20, .ram_bytes = 1};
    struct rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    pthread_mutex_init(&rig->lock, NULL);
    faulty_io_init(&rig->io);
    world_init(&rig->world, &kind);
    rig->world.env.io = &rig->io.io;
    rig->world.env.log = hear;
    rig->world.env.log_ctx = rig;
    snprintf(rig->cache2, sizeof rig->cache2, "%s/cache2", rig->world.path);
    assert_int_equal(mkdir(rig->cache2, 0700), 0);
    give(rig, caches);
    world_open(&rig->world);
    return rig;
}

static struct rig *
rig_new(unsigned caches)
{
    return rig_new_of(2, caches);
}

static void
rig_free(struct rig *rig)
{
    world_done(&rig->world);
    pthread_mutex_destroy(&rig->lock);
    free(rig);
}

static void
kill_it(struct rig *rig)
{
    lsvd_abandon(rig->world.volume);
    rig->world.volume = NULL;
}

static int
start(struct rig *rig)
{
    return lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume);
}

static int
write_block(struct rig *rig, uint64_t block, uint8_t value)
{
    uint8_t bytes[BLOCK];
    int r;

    memset(bytes, value, sizeof bytes);
    r = lsvd_pwrite(rig->world.volume, bytes, BLOCK, block * BLOCK, 0);
    if (r == 0)
        memset(rig->model + block * BLOCK, value, BLOCK);
    return r;
}

static void
check_all(struct rig *rig)
{
    MUST(lsvd_pread(rig->world.volume, rig->found, BYTES, 0));
    assert_memory_equal(rig->found, rig->model, BYTES);
}

static void
journal_path(const char *directory, char *text, size_t bytes)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;

    text[0] = 0;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (strstr(entry->d_name, ".journal"))
            snprintf(text, bytes, "%s/%s", directory, entry->d_name);
    }
    closedir(dir);
    assert_int_not_equal(text[0], 0);
}

static uint8_t *
slurp(const char *directory, size_t *ret_bytes)
{
    char path[600];
    struct stat st;
    uint8_t *bytes;
    int fd;

    journal_path(directory, path, sizeof path);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    *ret_bytes = (size_t)st.st_size;
    bytes = malloc(*ret_bytes);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, *ret_bytes, 0), st.st_size);
    close(fd);
    return bytes;
}

static void
check_copies_equal(struct rig *rig)
{
    size_t one_bytes, two_bytes;
    uint8_t *one = slurp(rig->world.cache, &one_bytes);
    uint8_t *two = slurp(rig->cache2, &two_bytes);

    assert_int_equal(one_bytes, two_bytes);
    assert_memory_equal(one, two, one_bytes);
    free(one);
    free(two);
}

struct client {
    struct rig *rig;
    unsigned number;
    struct load *load;
    pthread_t thread;
};

/* Clients write until `enough`. The first makes a directory refuse these things
 * from its write `from` on, and no longer from `to` on. */
struct load {
    unsigned refuse, from, to;
    atomic_uint writes;
    atomic_bool enough;
    struct client client[THREADS];
};

#define FOR_EVER UINT32_MAX

/* Each has blocks of its own. */
static void *
client_run(void *arg)
{
    struct client *c = arg;

    for (unsigned i = 0; !atomic_load(&c->load->enough); i++) {
        if (c->number == 0 && (i == c->load->from || i == c->load->to))
            c->rig->io.refuse_cache[1] =
                i == c->load->from ? c->load->refuse : 0;
        MUST(write_block(c->rig, c->number + i % 100 * THREADS,
                         (uint8_t)(1 + i % 250)));
        atomic_fetch_add(&c->load->writes, 1);
        if (i % 16 == 0)
            MUST(lsvd_flush(c->rig->world.volume));
    }
    return NULL;
}

static void
load_wait(struct load *load, unsigned writes)
{
    unsigned tries = 0, end = atomic_load(&load->writes) + writes;

    for (; atomic_load(&load->writes) < end; pause_ms(1))
        assert_true(tries++ < 60000);
}

static void
load_begin(struct rig *rig, struct load *load)
{
    MUST(lsvd_start(rig->world.volume));
    for (unsigned i = 0; i < THREADS; i++) {
        struct client *c = &load->client[i];

        *c = (struct client){.rig = rig, .number = i, .load = load};
        assert_int_equal(pthread_create(&c->thread, NULL, client_run, c), 0);
    }
}

static void
load_end(struct load *load)
{
    atomic_store(&load->enough, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(load->client[i].thread, NULL);
}

static void
test_one_dies_under_load(void **state)
{
    struct rig *rig = rig_new(3);
    struct load load = {.refuse = REFUSE_WRITES | REFUSE_SYNCS, .from = 200,
                        .to = FOR_EVER};
    struct lsvd_status *status;
    unsigned tries = 0;

    (void)state;
    load_begin(rig, &load);
    for (; !was_said(rig, "cache2 is lost"); pause_ms(10))
        assert_true(tries++ < 6000);
    load_wait(&load, 200 * THREADS);
    load_end(&load);
    status = world_status(&rig->world);
    assert_int_equal(status->health, LSVD_DEGRADED);
    assert_non_null(strstr(status->problem, "cache2"));
    check_all(rig);
    kill_it(rig);
    rig->io.refuse_cache[1] = 0;

    give(rig, 2); /* the one that was lost knows nothing of the end */
    assert_int_equal(start(rig), -ENOENT);
    assert_non_null(strstr(lsvd_error(), "needs its journal"));
    give(rig, 1);
    MUST(start(rig));
    check_all(rig);
    kill_it(rig);
    give(rig, 3);
    MUST(start(rig));
    check_all(rig);
    status = world_status(&rig->world);
    assert_true(status->healthy);
    check_copies_equal(rig);
    rig_free(rig);
}

/* Without destage, so that all that was written has to be copied. stop: after
 * so many steps; 0: when it is filled. */
static void
fill_by_steps(struct rig *rig, unsigned stop)
{
    struct lsvd_status *status;
    unsigned step = 0;

    for (unsigned i = 0; i < 20; i++)
        MUST(write_block(rig, i, 1));
    rig->io.refuse_cache[1] = REFUSE_WRITES;
    for (unsigned i = 10; i < 40; i++)
        MUST(write_block(rig, i, 2));
    rig->io.refuse_cache[1] = 0;
    lsvd_watch(rig->world.volume);
    do {
        MUST(write_block(rig, 100 + step, (uint8_t)(3 + step)));
        assert_true(refill_step(rig->world.volume));
        status = world_status(&rig->world);
        assert_true(status->journal_filling ==
                    (status->journal_copies == 1));
        assert_true(status->healthy == (status->journal_copies == 2));
        step++;
    } while (status->journal_copies < 2 && step != stop);
    assert_true(stop > 0 || status->journal_copies == 2);
    assert_false(refill_step(rig->world.volume) && stop == 0);
    MUST(write_block(rig, 40, 9));
}

/* JF6: at any step it is no copy, or one that has everything. */
static void
test_one_is_refilled_step_by_step(void **state)
{
    bool filled = false;

    (void)state;
    for (unsigned stop = 1; !filled; stop++) {
        struct rig *rig = rig_new(3);

        assert_true(stop < 1000);
        fill_by_steps(rig, stop);
        filled = journal_copies(rig->world.volume) == 2;
        kill_it(rig);
        give(rig, 2);
        if (!filled) {
            assert_int_not_equal(start(rig), 0);
            assert_non_null(strstr(lsvd_error(), "needs its journal"));
            give(rig, stop % 2 ? 1 : 3);
        }
        MUST(start(rig));
        check_all(rig);
        world_close(&rig->world);
        world_check_sound(&rig->world);
        rig_free(rig);
    }
}

static void
test_one_is_refilled_under_load(void **state)
{
    struct rig *rig = rig_new(3);
    struct load load = {.refuse = REFUSE_WRITES, .from = 50, .to = 100};
    struct lsvd_status *status;
    unsigned tries = 0;

    (void)state;
    load_begin(rig, &load);
    do {
        pause_ms(10);
        status = world_status(&rig->world);
        assert_true(tries++ < 6000);
    } while (status->journal_copy_returns == 0);
    assert_int_equal(status->journal_copies, 2);
    assert_int_equal(status->journal_copy_losses, 1);
    assert_true(status->healthy);
    load_end(&load);
    kill_it(rig);
    give(rig, 2); /* alone it has all that was answered */
    MUST(start(rig));
    check_all(rig);
    world_close(&rig->world);
    world_check_sound(&rig->world);
    rig_free(rig);
}

/* Either copy of a crashed server is enough, until it was started without the
 * other one. */
static void
test_either_is_enough(void **state)
{
    (void)state;
    for (unsigned one = 1; one <= 2; one++) {
        struct rig *rig = rig_new(3);

        for (unsigned i = 0; i < 50; i++)
            MUST(write_block(rig, i * 3, (uint8_t)i));
        kill_it(rig);
        check_copies_equal(rig);
        give(rig, one);
        MUST(start(rig));
        check_all(rig);
        kill_it(rig); /* before anything new was written */
        give(rig, 3 - one);
        assert_int_equal(start(rig), -ENOENT);
        give(rig, 3);
        MUST(start(rig));
        check_all(rig);
        check_copies_equal(rig);
        world_close(&rig->world);
        give(rig, 3 - one); /* closed: none is needed */
        MUST(start(rig));
        check_all(rig);
        rig_free(rig);
    }
}

/* faults.md matrix 4 and 5. both: of two directories, or of the only one. */
static void
journal_dies(unsigned caches)
{
    struct rig *rig = rig_new(caches);
    struct lsvd_status *status;
    char path[600], away[620];

    for (unsigned i = 0; i < 10; i++)
        MUST(write_block(rig, i, (uint8_t)(1 + i)));
    rig->io.refuse_cache[0] = REFUSE_WRITES;
    rig->io.refuse_cache[1] = REFUSE_WRITES;
    assert_int_equal(write_block(rig, 20, 9), -EIO);
    assert_int_equal(write_block(rig, 21, 9), -EIO);
    assert_int_equal(lsvd_flush(rig->world.volume), -EIO);
    assert_true(was_said(rig, "lost, 40960 bytes not on the parts"));
    status = world_status(&rig->world);
    assert_int_equal(status->health, LSVD_FAILED);
    check_all(rig); /* out of the journal, as long as it can be read */
    assert_int_not_equal(lsvd_close(rig->world.volume), 0);
    rig->world.volume = NULL;
    rig->io.refuse_cache[0] = rig->io.refuse_cache[1] = 0;

    journal_path(rig->world.cache, path, sizeof path);
    snprintf(away, sizeof away, "%s.away", path);
    give(rig, 1);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(start(rig), -ENOENT);
    assert_int_equal(rename(away, path), 0);
    give(rig, caches);
    MUST(start(rig));
    check_all(rig);
    rig_free(rig);
}

static void
test_the_only_one_dies(void **state)
{
    (void)state;
    journal_dies(1);
}

static void
test_both_die(void **state)
{
    (void)state;
    journal_dies(3);
}

/* The thread may have failed to destage, and tries again at its own pace. */
static void
write_when_possible(struct rig *rig, uint64_t block, uint8_t value)
{
    unsigned tries = 0;

    while (write_block(rig, block, value) < 0 ||
           lsvd_flush(rig->world.volume) < 0) {
        assert_true(tries++ < 1000);
        pause_ms(10);
    }
}

/* Nothing is answered that depends on the copy that is left alone while no
 * label can say so; when it can, all goes on. */
static void
test_the_loss_can_not_be_recorded(void **state)
{
    (void)state;
    for (int threaded = 0; threaded < 2; threaded++) {
        struct rig *rig = rig_new(3);

        if (threaded)
            MUST(lsvd_start(rig->world.volume));
        MUST(write_block(rig, 1, 1));
        rig->io.refuse_cache[0] = REFUSE_WRITES;
        rig->io.refuse[0] = rig->io.refuse[1] = REFUSE_WRITES;
        assert_int_equal(write_block(rig, 2, 2), -EIO);
        assert_int_equal(lsvd_flush(rig->world.volume), -EIO);
        rig->io.refuse[0] = rig->io.refuse[1] = 0;
        write_when_possible(rig, 2, 3);
        write_when_possible(rig, 3, 4);
        check_all(rig);
        kill_it(rig);
        rig->io.refuse_cache[0] = 0;
        give(rig, 1);
        assert_int_equal(start(rig), -ENOENT);
        give(rig, 2);
        MUST(start(rig));
        check_all(rig);
        rig_free(rig);
    }
}

/* The label that should record it fails: that part is dropped on the way. */
static void
test_a_part_dies_too(void **state)
{
    struct rig *rig = rig_new(3);

    (void)state;
    MUST(write_block(rig, 1, 1));
    rig->io.refuse_cache[1] = REFUSE_SYNCS;
    rig->io.refuse[0] = REFUSE_WRITES | REFUSE_SYNCS;
    MUST(write_block(rig, 2, 2));
    MUST(lsvd_flush(rig->world.volume));
    MUST(write_block(rig, 3, 3));
    check_all(rig);
    kill_it(rig);
    rig->io.refuse_cache[1] = rig->io.refuse[0] = 0;
    give(rig, 2);
    assert_int_equal(start(rig), -ENOENT);
    give(rig, 1);
    MUST(start(rig));
    check_all(rig);
    rig_free(rig);
}

/* Every byte of one copy's records may be wrong, while serving and at a
 * start. */
static void
test_one_rots(void **state)
{
    (void)state;
    for (unsigned one = 1; one <= 2; one++) {
        struct rig *rig = rig_new(3);
        char path[600];
        uint8_t rot[8192];
        int fd;

        for (unsigned i = 0; i < 50; i++)
            MUST(write_block(rig, i * 3, (uint8_t)(i + 1)));
        journal_path(one == 1 ? rig->world.cache : rig->cache2, path,
                     sizeof path);
        fd = open(path, O_WRONLY);
        assert_true(fd >= 0);
        memset(rot, 0x5a, sizeof rot);
        for (unsigned at = 8192; at < 50 * (BLOCK + 512); at += 8192)
            assert_int_equal(pwrite(fd, rot, sizeof rot, at), sizeof rot);
        close(fd);
        check_all(rig);
        kill_it(rig);
        MUST(start(rig));
        check_all(rig);
        check_copies_equal(rig);
        world_close(&rig->world);
        world_check_sound(&rig->world);
        rig_free(rig);
    }
}

static void
move_one(const char *path, bool back)
{
    char aside[640];

    (void)snprintf(aside, sizeof aside, "%s.aside", path);
    assert_int_equal(rename(back ? aside : path, back ? path : aside), 0);
}

/* A disk with these parts and a cache directory is away, or back. */
static void
move(struct rig *rig, const char *parts, const char *cache, bool back)
{
    char path[600];

    for (; *parts; parts++) {
        const char letter[] = {*parts, 0};

        world_path(&rig->world, letter, path);
        move_one(path, back);
    }
    move_one(cache, back);
}

static void
check_refused_without(struct rig *rig, const char *parts)
{
    move(rig, parts, rig->world.cache, false);
    give(rig, 3);
    for (unsigned flags = 0; flags < 2; flags++)
        assert_true(lsvd_open(&rig->world.env, NAME,
                              flags ? LSVD_OPEN_READ_ONLY : 0,
                              &rig->world.volume) < 0);
    move(rig, parts, rig->world.cache, true);
    MUST(start(rig));
    check_all(rig);
}

/* Two disks, each with a part and a copy of the journal. One goes while the
 * volume is served, and nobody can tell it. What is on it agrees with itself
 * and is old. */
static void
test_a_disk_with_a_copy_proves_nothing(void **state)
{
    struct rig *rig = rig_new(3);

    (void)state;
    MUST(write_block(rig, 1, 1));
    rig->io.refuse['b' - 'a'] = rig->io.refuse_cache[1] =
        REFUSE_WRITES | REFUSE_SYNCS;
    for (uint64_t i = 0; i < 8; i++)
        MUST(write_block(rig, i, 2));
    while (must(lsvd_destage_step(rig->world.volume), "destage", __FILE__,
                __LINE__) > 0)
        ;
    MUST(write_block(rig, 1, 3));
    kill_it(rig);
    rig->io.refuse['b' - 'a'] = rig->io.refuse_cache[1] = 0;
    check_refused_without(rig, "a");
    rig_free(rig);
}

/* Too few parts can be told of the loss, and one of those that can't goes away.
 * When enough are left it is recorded, without waiting for that one, and
 * without a round of destage between. */
static void
test_recorded_without_a_part_that_went(void **state)
{
    struct rig *rig = rig_new_of(3, 3);
    char part[600];

    (void)state;
    MUST(write_block(rig, 1, 1));
    rig->io.refuse['a' - 'a'] = rig->io.refuse['c' - 'a'] = REFUSE_OPENS;
    rig->io.refuse_cache[1] = REFUSE_WRITES | REFUSE_SYNCS;
    assert_int_equal(write_block(rig, 1, 2), -EIO);
    world_path(&rig->world, "c", part);
    move_one(part, false);
    for (unsigned i = 0; i < 2; i++) /* the second time it is believed */
        lsvd_watch(rig->world.volume);
    assert_int_equal(lsvd_destage_step(rig->world.volume), -EIO);
    rig->io.refuse['a' - 'a'] = 0;
    MUST(write_block(rig, 1, 3));
    kill_it(rig);
    rig->io.refuse['c' - 'a'] = rig->io.refuse_cache[1] = 0;
    move_one(part, true);
    give(rig, 2); /* does not have it */
    assert_int_equal(start(rig), -ENOENT);
    give(rig, 3);
    MUST(start(rig));
    check_all(rig);
    rig_free(rig);
}

/* JF8: a directory that was away for a while remembers what is old. */
static void
test_a_directory_that_was_away_remembers_nothing(void **state)
{
    struct rig *rig = rig_new_of(3, 3);

    (void)state;
    MUST(write_block(rig, 1, 1));
    world_close(&rig->world);
    move(rig, "c", rig->cache2, false);
    MUST(start(rig));
    MUST(write_block(rig, 1, 2));
    world_close(&rig->world);
    move(rig, "c", rig->cache2, true);
    check_refused_without(rig, "ab");
    rig_free(rig);
}

static void
test_too_many_directories(void **state)
{
    struct rig *rig = rig_new(3);
    const char *three[] = {rig->world.cache, rig->cache2, rig->world.data,
                           NULL};

    (void)state;
    kill_it(rig);
    rig->world.env.cache = three;
    assert_int_equal(start(rig), -EINVAL);
    assert_non_null(strstr(lsvd_error(), "one or two"));
    rig->world.env.cache = rig->world.cache_list;
    rig_free(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_dies_under_load),
        cmocka_unit_test(test_one_is_refilled_step_by_step),
        cmocka_unit_test(test_one_is_refilled_under_load),
        cmocka_unit_test(test_either_is_enough),
        cmocka_unit_test(test_the_only_one_dies),
        cmocka_unit_test(test_both_die),
        cmocka_unit_test(test_the_loss_can_not_be_recorded),
        cmocka_unit_test(test_a_part_dies_too),
        cmocka_unit_test(test_one_rots),
        cmocka_unit_test(test_a_disk_with_a_copy_proves_nothing),
        cmocka_unit_test(test_recorded_without_a_part_that_went),
        cmocka_unit_test(test_a_directory_that_was_away_remembers_nothing),
        cmocka_unit_test(test_too_many_directories),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
