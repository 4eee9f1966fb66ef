/* A moment of a volume reads as the volume did when it was taken, whatever is
 * written, trimmed, destaged, frozen and grown meanwhile; and who writes never
 * notices that it is there. */
#include "unit.h"
#include "film.h"
#include "hold.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shot {
    struct lsvd_moment *moment; /* NULL: none */
    uint8_t *bytes;             /* what it must read as; owned */
};

static void
shoot(struct film *f, struct shot *s)
{
    s->bytes = malloc(BYTES);
    assert_non_null(s->bytes);
    memcpy(s->bytes, f->model, BYTES);
    MUST(lsvd_moment_take(f->world.volume, &s->moment));
    assert_int_equal(lsvd_moment_size(s->moment), BYTES);
}

static void
drop(struct shot *s)
{
    lsvd_moment_drop(s->moment);
    free(s->bytes);
    *s = (struct shot){0};
}

static void
check_piece(struct film *f, const struct shot *s, uint64_t at, size_t count)
{
    memset(f->found, 0xa5, count);
    MUST(lsvd_moment_pread(s->moment, f->found, count, at));
    assert_memory_equal(f->found, s->bytes + at, count);
}

static void
check_shot(struct film *f, const struct shot *s)
{
    check_piece(f, s, 0, BYTES);
}

struct walk {
    const uint8_t *bytes;
    uint64_t next, holes, calls;
    bool was_data;
};

static int
take_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct walk *w = ctx;

    assert_true(count > 0);
    assert_int_equal(offset, w->next);
    assert_true(w->calls++ == 0 || is_data != w->was_data);
    w->was_data = is_data;
    w->next += count;
    if (is_data)
        return 0;
    w->holes += count;
    for (uint64_t at = offset; at < offset + count; at++)
        assert_int_equal(w->bytes[at], 0);
    return 0;
}

/* Runs are maximal, and no data is called a hole. Returns the holes' bytes. */
static uint64_t
check_extents(const struct shot *s, uint64_t at, uint64_t count)
{
    struct walk w = {.bytes = s->bytes, .next = at};

    MUST(lsvd_moment_extents(s->moment, count, at, take_extent, &w));
    assert_int_equal(w.next, at + count);
    return w.holes;
}

static struct lsvd_now_status
now_of(struct film *f)
{
    return world_status(&f->world)->now;
}

/* ---- any requests ---- */

enum { SHOTS = 4 };

struct walkers {
    struct film film;
    struct shot shot[SHOTS];
    unsigned snapshots;
};

static uint64_t
below(struct film *f, uint64_t limit)
{
    return random_below(&f->random, limit);
}

/* Small or large, on the edge of a block or not. */
static void
pick(struct film *f, uint64_t *ret_at, size_t *ret_count)
{
    uint64_t most = below(f, 4) > 0 ? 6 * f->block : CHUNK + CHUNK / 2;

    *ret_at = below(f, BYTES);
    if (below(f, 2))
        *ret_at -= *ret_at % f->block;
    *ret_count = 1 + below(f, most);
    if (below(f, 2))
        *ret_count += f->block - *ret_count % f->block;
    if (*ret_count > BYTES - *ret_at)
        *ret_count = BYTES - *ret_at;
}

static void
snapshot(struct walkers *w)
{
    char name[16];

    if (w->snapshots == 3)
        return;
    snprintf(name, sizeof name, "v1@s%u", w->snapshots++);
    film_snapshot(&w->film, name);
}

static void
look(struct walkers *w, const struct shot *s)
{
    struct film *f = &w->film;
    uint64_t at;
    size_t count;

    if (!s->moment)
        return;
    pick(f, &at, &count);
    check_piece(f, s, at, count);
    pick(f, &at, &count);
    (void)check_extents(s, at, count);
}

static void
step(struct walkers *w, bool freezes)
{
    struct film *f = &w->film;
    struct shot *s = &w->shot[below(f, SHOTS)];
    uint64_t at;
    size_t count;

    pick(f, &at, &count);
    switch (below(f, 16)) {
    case 0:
        film_trim(f, at, count);
        break;
    case 1:
        film_zero(f, at, count);
        break;
    case 2:
        film_trim(f, at - at % CHUNK, CHUNK);
        break;
    case 3:
        if (s->moment)
            drop(s);
        else
            shoot(f, s);
        break;
    case 4:
        (void)MUST(lsvd_destage_step(f->world.volume));
        break;
    case 5:
        if (freezes && below(f, 20) == 0)
            snapshot(w);
        break;
    case 6:
    case 7:
    case 8:
        look(w, s);
        break;
    default:
        film_put(f, at, count);
    }
}

static void
any_requests(const struct kind *kind, uint64_t ram_bytes, unsigned steps,
             bool freezes)
{
    struct walkers w = {0};
    struct film *f = &w.film;

    film_begin(f, kind, ram_bytes, false);
    for (unsigned i = 0; i < steps; i++)
        step(&w, freezes);
    for (unsigned i = 0; i < SHOTS; i++) {
        if (!w.shot[i].moment)
            shoot(f, &w.shot[i]);
    }
    film_trim(f, 0, BYTES);
    film_put(f, 1, BYTES - 2);
    world_drain(&f->world);
    for (unsigned i = 0; i < SHOTS; i++) {
        check_shot(f, &w.shot[i]);
        (void)check_extents(&w.shot[i], 0, BYTES);
        drop(&w.shot[i]);
    }
    assert_int_equal(now_of(f).readers, 0);
    film_check(f);
    film_end(f);
}

static void
test_any_requests(void **state)
{
    (void)state;
    any_requests(&film_one, 1, 1500, false);
    any_requests(&film_mirror, 64 << 10, 1500, false);
    any_requests(&film_small, 1, 800, false);
    any_requests(&film_ec, 1, 1500, false);
    any_requests(&film_ec, 4u << 20, 1500, false);
}

static void
test_any_requests_and_snapshots(void **state)
{
    (void)state;
    any_requests(&film_mirror, 1, 1500, true);
    any_requests(&film_ec, 64 << 10, 1500, true);
}

/* ---- what is kept, and where ---- */

/* Names in its cache directory that end so. */
static unsigned
names(const struct film *f, const char *ending)
{
    DIR *dir = opendir(f->world.cache);
    unsigned count = 0;

    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        size_t bytes = strlen(e->d_name), end = strlen(ending);

        count += bytes >= end &&
                 strcmp(e->d_name + bytes - end, ending) == 0;
    }
    closedir(dir);
    return count;
}

/* The file of the only moment, by its descriptor; -1: there is none. */
static int
open_kept(const struct film *f)
{
    DIR *dir = opendir("/proc/self/fd");
    char path[300], target[600];
    int found = -1;

    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        ssize_t n;

        (void)snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        if (strstr(target, ".now (deleted)") &&
            strncmp(target, f->world.cache, strlen(f->world.cache)) == 0) {
            assert_int_equal(found, -1);
            found = open(path, O_RDWR);
            assert_true(found >= 0);
        }
    }
    closedir(dir);
    return found;
}

static void
test_what_is_kept(void **state)
{
    struct shot s;
    struct film f;
    int fd;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    shoot(&f, &s);
    assert_int_equal(now_of(&f).readers, 1);
    assert_int_equal(open_kept(&f), -1); /* nothing is made before need */
    film_put(&f, 6 * CHUNK, CHUNK);       /* nothing was there */
    assert_int_equal(open_kept(&f), -1);
    assert_int_equal(now_of(&f).kept_bytes, 0);
    film_put(&f, 3 * f.block + 1, 1);
    film_put(&f, 3 * f.block, 2 * f.block);
    film_put(&f, 3 * f.block, 2 * f.block); /* kept already */
    assert_int_equal(now_of(&f).kept_bytes, 2 * f.block);
    fd = open_kept(&f);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(names(&f, ".now"), 0);
    film_trim(&f, 0, BYTES);
    check_shot(&f, &s);
    assert_true(check_extents(&s, 0, BYTES) >= 4 * CHUNK);
    drop(&s);
    assert_int_equal(open_kept(&f), -1);
    assert_int_equal(now_of(&f).readers, 0);
    film_end(&f);
}

/* Never written, and as large as the format allows: nothing is looked at block
 * by block. */
static void
test_trims_of_what_was_never_written(void **state)
{
    const struct kind kind = {.replicas = 1, .block_bytes = 512,
                              .chunk_bytes = 64u << 20,
                              .size_bytes = UINT64_C(64) << 40};
    struct lsvd_moment *m;
    struct world w;

    (void)state;
    world_init(&w, &kind);
    world_open(&w);
    MUST(lsvd_moment_take(w.volume, &m));
    MUST(lsvd_trim(w.volume, kind.size_bytes, 0, 0));
    MUST(lsvd_zero(w.volume, kind.size_bytes - 700, 700, 0));
    assert_int_equal(world_status(&w)->now.kept_bytes, 0);
    lsvd_moment_drop(m);
    world_done(&w);
}

static void
test_a_name_that_was_left(void **state)
{
    struct lsvd_status *status;
    char path[400];
    struct shot s;
    struct film f;
    int fd;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    status = world_status(&f.world);
    (void)snprintf(path, sizeof path, "%s/%s.now", f.world.cache,
                   status->uuid);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "left by a kill", 14), 14);
    close(fd);
    shoot(&f, &s);
    film_put(&f, 0, CHUNK);
    assert_int_equal(names(&f, ".now"), 0);
    check_shot(&f, &s);
    drop(&s);
    film_end(&f);
}

static void
test_wrong_bytes_are_not_given_out(void **state)
{
    struct shot s;
    struct film f;
    uint8_t byte;
    int fd;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    shoot(&f, &s);
    film_put(&f, CHUNK, 4 * f.block);
    fd = open_kept(&f);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)(2 * f.block + 77)), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(2 * f.block + 77)), 1);
    close(fd);
    check_piece(&f, &s, CHUNK, 2 * f.block);
    check_piece(&f, &s, CHUNK + 3 * f.block, f.block);
    assert_int_equal(lsvd_moment_pread(s.moment, f.found, 1,
                                       CHUNK + 2 * f.block), -EIO);
    check_piece(&f, &s, 0, CHUNK); /* it is that block's trouble alone */
    drop(&s);
    film_end(&f);
}

/* ---- limits ---- */

static void
test_so_many_at_a_time(void **state)
{
    struct lsvd_moment *m[LSVD_MOMENTS_MAX + 1];
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    for (unsigned i = 0; i < LSVD_MOMENTS_MAX; i++)
        MUST(lsvd_moment_take(f.world.volume, &m[i]));
    assert_int_equal(lsvd_moment_take(f.world.volume, &m[8]), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "8 clients"));
    lsvd_moment_drop(m[3]);
    MUST(lsvd_moment_take(f.world.volume, &m[3]));
    film_put(&f, 5, 3 * CHUNK);
    for (unsigned i = 0; i < LSVD_MOMENTS_MAX; i++)
        lsvd_moment_drop(m[i]);
    lsvd_moment_drop(NULL);
    film_end(&f);
}

static void
test_beyond_its_end(void **state)
{
    struct shot s;
    struct film f;
    uint8_t *more = malloc(BYTES);

    (void)state;
    assert_non_null(more);
    memset(more, 0x77, BYTES);
    film_begin(&f, &film_ec, 1, false);
    shoot(&f, &s);
    MUST(lsvd_live_resize(f.world.volume, 2 * BYTES));
    MUST(lsvd_pwrite(f.world.volume, more, BYTES, BYTES - CHUNK, 0));
    MUST(lsvd_trim(f.world.volume, BYTES, BYTES, 0));
    assert_int_equal(lsvd_moment_size(s.moment), BYTES);
    check_shot(&f, &s);
    (void)check_extents(&s, 0, BYTES);
    assert_int_equal(lsvd_moment_pread(s.moment, more, 1, BYTES), -EINVAL);
    assert_int_equal(lsvd_moment_pread(s.moment, more, 2, BYTES - 1), -EINVAL);
    assert_int_equal(lsvd_moment_extents(s.moment, 1, BYTES, take_extent,
                                         NULL), -EINVAL);
    drop(&s);
    world_close(&f.world);
    film_free(&f);
    free(more);
}

/* A size that is no multiple of a block. */
static void
test_a_ragged_end(void **state)
{
    enum { SIZE = CHUNK + 4096 + 700 };
    const struct kind kind = {.replicas = 2, .block_bytes = 4096,
                              .chunk_bytes = CHUNK, .size_bytes = SIZE};
    uint8_t *old = malloc(SIZE), *found = malloc(SIZE);
    uint64_t random = 3;
    struct lsvd_moment *m;
    struct world w;

    (void)state;
    assert_true(old && found);
    world_init(&w, &kind);
    world_open(&w);
    random_fill(&random, old, SIZE);
    MUST(lsvd_pwrite(w.volume, old, SIZE, 0, 0));
    MUST(lsvd_moment_take(w.volume, &m));
    MUST(lsvd_trim(w.volume, 700, SIZE - 700, 0));
    MUST(lsvd_pwrite(w.volume, old, 1, SIZE - 1, 0));
    MUST(lsvd_zero(w.volume, SIZE - 5, 5, 0));
    MUST(lsvd_moment_pread(m, found, SIZE, 0));
    assert_memory_equal(found, old, SIZE);
    lsvd_moment_drop(m);
    world_close(&w);
    world_done(&w);
    free(old);
    free(found);
}

static void
test_of_one_that_is_read_only(void **state)
{
    struct shot s;
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    world_close(&f.world);
    MUST(lsvd_open(&f.world.env, NAME, LSVD_OPEN_READ_ONLY, &f.world.volume));
    shoot(&f, &s);
    check_shot(&f, &s);
    (void)check_extents(&s, 0, BYTES);
    drop(&s);
    film_end(&f);
}

static void
test_of_one_that_is_append_only(void **state)
{
    struct shot s;
    struct film f;
    uint8_t byte = 1;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    MUST(lsvd_live_set(f.world.volume, "append-only", "on"));
    shoot(&f, &s);
    assert_int_equal(lsvd_pwrite(f.world.volume, &byte, 1, 0, 0), -EPERM);
    assert_int_equal(lsvd_trim(f.world.volume, CHUNK, 0, 0), -EPERM);
    film_put(&f, 6 * CHUNK, CHUNK);
    assert_int_equal(now_of(&f).kept_bytes, 0);
    check_shot(&f, &s);
    drop(&s);
    film_end(&f);
}

/* ---- snapshots, and the end of the volume ---- */

static int
run_alone(void *ctx, int (*fn)(void *arg), void *arg,
          char text[LSVD_TEXT_BYTES])
{
    int r = fn(arg);

    (void)ctx;
    (void)snprintf(text, LSVD_TEXT_BYTES, "%s", lsvd_error());
    return r;
}

/* Its file outlives the volume by which it was made. */
static void
over_a_snapshot(const struct kind *kind, bool keeps_before)
{
    const struct lsvd_alone alone = {.run = run_alone};
    struct shot s, later;
    struct film f;

    film_begin(&f, kind, 1, false);
    film_write_to_journal(&f);
    shoot(&f, &s);
    if (keeps_before)
        film_put(&f, 7, 5 * f.block);
    film_snapshot(&f, "v1@x");
    assert_int_equal(now_of(&f).readers, 1);
    film_put(&f, 3 * f.block, 9 * f.block);
    film_trim(&f, 2 * CHUNK, CHUNK);
    check_shot(&f, &s);
    (void)check_extents(&s, 0, BYTES);
    shoot(&f, &later);
    world_drain(&f.world);
    MUST(lsvd_live_flatten(f.world.volume, &f.world.env,
                           &(struct lsvd_flatten){.rate_bytes = 0}, &alone,
                           NULL));
    check_shot(&f, &s);
    check_shot(&f, &later);
    film_put(&f, 0, BYTES);
    check_shot(&f, &s);
    check_shot(&f, &later);
    drop(&s);
    drop(&later);
    assert_int_equal(now_of(&f).readers, 0);
    film_end(&f);
}

static void
test_over_a_snapshot(void **state)
{
    (void)state;
    over_a_snapshot(&film_mirror, true);
    over_a_snapshot(&film_mirror, false);
    over_a_snapshot(&film_ec, true);
}

static void
test_the_volume_is_closed(void **state)
{
    struct shot s;
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, false);
    shoot(&f, &s);
    film_put(&f, 0, CHUNK);
    check_shot(&f, &s);
    world_close(&f.world);
    assert_int_equal(open_kept(&f), -1);
    assert_int_equal(lsvd_moment_pread(s.moment, f.found, 1, 0), -EIO);
    assert_non_null(strstr(lsvd_error(), "v1@now"));
    assert_int_equal(lsvd_moment_extents(s.moment, 1, 0, take_extent, NULL),
                     -EIO);
    world_open(&f.world);
    film_put(&f, 0, CHUNK);
    assert_int_equal(lsvd_moment_pread(s.moment, f.found, 1, 0), -EIO);
    drop(&s);
    film_end(&f);
}

/* ---- beside threads ---- */

struct reader {
    struct film *film;
    const struct shot *shot;
    uint64_t at;
};

static void *
read_block(void *arg)
{
    struct reader *r = arg;

    MUST(lsvd_moment_pread(r->shot->moment, r->film->found, r->film->block,
                           r->at));
    return NULL;
}

/* MO2. The one who changes it has kept it, but not changed it yet, or the other
 * way round: nobody sees that. */
static void
waits_for_who_changes(uint64_t block, bool is_kept)
{
    struct hold *hold;
    struct reader r;
    struct shot s;
    struct film f;
    pthread_t id;

    film_begin(&f, &film_mirror, 4u << 20, false);
    shoot(&f, &s);
    r = (struct reader){&f, &s, block * f.block};
    if (is_kept)
        film_put(&f, r.at, f.block);
    hold = hold_block(f.world.volume, block);
    assert_int_equal(pthread_create(&id, NULL, read_block, &r), 0);
    assert_true(hold_wait(hold));
    hold_release(hold);
    pthread_join(id, NULL);
    assert_memory_equal(f.found, s.bytes + r.at, f.block);
    drop(&s);
    film_end(&f);
}

static void
test_a_reader_waits_for_who_changes_it(void **state)
{
    (void)state;
    waits_for_who_changes(3, false);
    waits_for_who_changes(3, true);
    waits_for_who_changes(BYTES / 4096 - 1, false);
}

enum { THREADS = 4, STEPS_BETWEEN = 60, TAKES = 12 };

struct crowd {
    struct film film;      /* its model: a region for each thread */
    pthread_rwlock_t gate; /* shared: a request is under way */
    atomic_uint steps;     /* of all */
    atomic_bool over;
};

struct thread {
    struct crowd *crowd;
    unsigned number;
    uint64_t random;
    uint8_t bytes[CHUNK];
    pthread_t id;
};

/* The model follows inside the gate: it is what was answered when that is
 * shut. */
static void
thread_step(struct thread *t)
{
    struct film *f = &t->crowd->film;
    size_t region = BYTES / THREADS;
    size_t at = random_below(&t->random, region);
    size_t most = random_below(&t->random, 4) ? 3 * f->block : sizeof t->bytes;
    size_t count = 1 + random_below(&t->random, most);

    if (count > region - at)
        count = region - at;
    at += region * t->number;
    pthread_rwlock_rdlock(&t->crowd->gate);
    switch (random_below(&t->random, 6)) {
    case 0:
        memset(f->model + at, 0, count);
        MUST(lsvd_trim(f->world.volume, count, at, 0));
        break;
    case 1:
        MUST(lsvd_pread(f->world.volume, t->bytes, count, at));
        if (memcmp(t->bytes, f->model + at, count) != 0)
            abort();
        break;
    default:
        random_fill(&t->random, f->model + at, count);
        MUST(lsvd_pwrite(f->world.volume, f->model + at, count, at, 0));
    }
    pthread_rwlock_unlock(&t->crowd->gate);
    atomic_fetch_add(&t->crowd->steps, 1);
}

static void *
run_thread(void *arg)
{
    struct thread *t = arg;

    while (!atomic_load(&t->crowd->over))
        thread_step(t);
    return NULL;
}

static void
let_them_run(struct crowd *c)
{
    unsigned goal = atomic_load(&c->steps) + STEPS_BETWEEN;

    while (atomic_load(&c->steps) < goal)
        sched_yield();
}

/* As the plugin does it: requests of the moment are inside the gate, too. */
static void
compare(struct crowd *c, const struct shot *s, uint64_t *random)
{
    struct film *f = &c->film;
    size_t count;

    for (uint64_t at = 0; at < BYTES; at += count) {
        count = 1 + random_below(random, CHUNK);
        if (count > BYTES - at)
            count = BYTES - at;
        pthread_rwlock_rdlock(&c->gate);
        check_piece(f, s, at, count);
        (void)check_extents(s, at, count);
        pthread_rwlock_unlock(&c->gate);
    }
}

static void
take_beside(struct crowd *c, struct shot *s)
{
    pthread_rwlock_wrlock(&c->gate);
    shoot(&c->film, s);
    pthread_rwlock_unlock(&c->gate);
}

static void
freeze_beside(struct crowd *c, unsigned nth)
{
    struct film *f = &c->film;
    char name[16];

    snprintf(name, sizeof name, "v1@s%u", nth);
    film_snapshot_begin(f, name);
    pthread_rwlock_wrlock(&c->gate);
    film_snapshot_commit(f, name);
    MUST(lsvd_start(f->world.volume));
    pthread_rwlock_unlock(&c->gate);
    film_snapshot_finish(f, name);
}

/* Two at a time; each is read twice, and dropped while requests are under
 * way. */
static void
take_all(struct crowd *c)
{
    struct shot shot[2] = {{0}};
    uint64_t random = 9;

    for (unsigned i = 0; i < TAKES; i++) {
        struct shot *s = &shot[i % 2];

        if (s->moment) {
            compare(c, s, &random);
            pthread_rwlock_rdlock(&c->gate);
            drop(s);
            pthread_rwlock_unlock(&c->gate);
        }
        take_beside(c, s);
        compare(c, s, &random);
        if (i == TAKES / 2)
            freeze_beside(c, i);
        let_them_run(c);
    }
    for (unsigned i = 0; i < 2; i++) {
        compare(c, &shot[i], &random);
        drop(&shot[i]);
    }
}

static void
run_crowd(struct crowd *c)
{
    struct thread *t = calloc(THREADS, sizeof *t);

    assert_non_null(t);
    MUST(lsvd_start(c->film.world.volume));
    for (unsigned i = 0; i < THREADS; i++) {
        t[i].crowd = c;
        t[i].number = i;
        t[i].random = 70 + i;
        assert_int_equal(pthread_create(&t[i].id, NULL, run_thread, &t[i]), 0);
    }
    take_all(c);
    atomic_store(&c->over, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i].id, NULL);
    free(t);
}

static void
gate_init(pthread_rwlock_t *gate)
{
    pthread_rwlockattr_t attr;

    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(
        &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    assert_int_equal(pthread_rwlock_init(gate, &attr), 0);
    pthread_rwlockattr_destroy(&attr);
}

static void
beside_threads(const struct kind *kind, uint64_t ram_bytes)
{
    struct crowd *c = calloc(1, sizeof *c);

    assert_non_null(c);
    gate_init(&c->gate);
    film_begin(&c->film, kind, ram_bytes, false);
    run_crowd(c);
    film_check(&c->film);
    film_end(&c->film);
    pthread_rwlock_destroy(&c->gate);
    free(c);
}

static void
test_beside_threads(void **state)
{
    (void)state;
    beside_threads(&film_triple, 1);
    beside_threads(&film_ec, 256 << 10);
    beside_threads(&film_small, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_requests),
        cmocka_unit_test(test_any_requests_and_snapshots),
        cmocka_unit_test(test_what_is_kept),
        cmocka_unit_test(test_trims_of_what_was_never_written),
        cmocka_unit_test(test_a_name_that_was_left),
        cmocka_unit_test(test_wrong_bytes_are_not_given_out),
        cmocka_unit_test(test_so_many_at_a_time),
        cmocka_unit_test(test_beyond_its_end),
        cmocka_unit_test(test_a_ragged_end),
        cmocka_unit_test(test_of_one_that_is_read_only),
        cmocka_unit_test(test_of_one_that_is_append_only),
        cmocka_unit_test(test_over_a_snapshot),
        cmocka_unit_test(test_the_volume_is_closed),
        cmocka_unit_test(test_a_reader_waits_for_who_changes_it),
        cmocka_unit_test(test_beside_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
