/* rig.c: see rig.h. */
#include "unit.h"
#include "rig.h"
#include "target/guard.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 30 };

const struct kind rig_mirror = {.replicas = 2, .block_bytes = BLOCK,
                                .chunk_bytes = CHUNK, .size_bytes = BYTES};
const struct kind rig_triple = {.replicas = 3, .block_bytes = BLOCK,
                                .chunk_bytes = CHUNK, .size_bytes = BYTES};
const struct kind rig_ec = {.ec_data = 2, .ec_parity = 1,
                            .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                            .size_bytes = BYTES};
const struct kind rig_wide = {.ec_data = 4, .ec_parity = 2,
                              .block_bytes = BLOCK, .chunk_bytes = CHUNK,
                              .size_bytes = BYTES};

static void
hear(void *ctx, enum lsvd_log_level level, const char *line)
{
    struct rig *rig = ctx;
    size_t bytes = strlen(line);

    if (level <= LSVD_WARNING && getenv("LSVD_TEST_LOG"))
        fprintf(stderr, "%s\n", line);
    pthread_mutex_lock(&rig->lock);
    if (level <= LSVD_WARNING &&
        rig->said_bytes + bytes + 2 < sizeof rig->said) {
        memcpy(rig->said + rig->said_bytes, line, bytes);
        rig->said_bytes += bytes;
        rig->said[rig->said_bytes++] = '\n';
        rig->said[rig->said_bytes] = '\0';
    }
    pthread_cond_broadcast(&rig->logged);
    pthread_mutex_unlock(&rig->lock);
}

struct rig *
rig_new(const struct kind *kind)
{
    struct rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    pthread_mutex_init(&rig->lock, NULL);
    pthread_cond_init(&rig->logged, NULL);
    faulty_io_init(&rig->io);
    world_init(&rig->world, kind);
    rig->world.env.io = &rig->io.io;
    rig->world.env.log = hear;
    rig->world.env.log_ctx = rig;
    rig->world.env.ram_bytes = 1; /* reads ask the parts */
    rig->world.env.settings = rig->settings;
    rig->random = 5;
    return rig;
}

void
rig_free(struct rig *rig)
{
    world_done(&rig->world);
    guard_free(rig->guard);
    pthread_cond_destroy(&rig->logged);
    pthread_mutex_destroy(&rig->lock);
    free(rig);
}

void
rig_set(struct rig *rig, const char *setting)
{
    size_t i = 0;

    while (rig->settings[i])
        i++;
    assert_true(i + 1 < sizeof rig->settings / sizeof rig->settings[0]);
    rig->settings[i] = setting;
}

void
rig_guard(struct rig *rig, unsigned deadline_ms)
{
    MUST(guard_new(&rig->io.io, deadline_ms, &rig->guard));
    rig->world.env.io = rig->guard;
}

void
rig_open(struct rig *rig, bool threaded)
{
    world_open(&rig->world);
    rig->threaded = threaded;
    if (threaded)
        MUST(lsvd_start(rig->world.volume));
}

void
rig_close(struct rig *rig)
{
    world_close(&rig->world);
}

void
rig_end(struct rig *rig)
{
    rig_close(rig);
    world_check_sound(&rig->world);
    rig_free(rig);
}

void
rig_kill(struct rig *rig)
{
    lsvd_abandon(rig->world.volume);
    rig->world.volume = NULL;
}

/* ---- what is in it ---- */

int
rig_write(struct rig *rig, uint64_t at, size_t count)
{
    uint8_t bytes[CHUNK];
    int r;

    assert_true(count <= sizeof bytes);
    random_fill(&rig->random, bytes, count);
    r = lsvd_pwrite(rig->world.volume, bytes, count, at, 0);
    if (r == 0)
        memcpy(rig->model + at, bytes, count);
    return r;
}

int
rig_trim(struct rig *rig, uint64_t at, size_t count)
{
    int r = lsvd_trim(rig->world.volume, count, at, 0);

    if (r == 0)
        memset(rig->model + at, 0, count);
    return r;
}

int
rig_read(struct rig *rig, uint64_t at, size_t count)
{
    int r = lsvd_pread(rig->world.volume, rig->found + at, count, at);

    if (r == 0)
        assert_memory_equal(rig->found + at, rig->model + at, count);
    return r;
}

void
rig_fill(struct rig *rig)
{
    for (uint64_t at = 0; at < BYTES; at += CHUNK)
        MUST(rig_write(rig, at, CHUNK));
    MUST(lsvd_flush(rig->world.volume));
}

void
rig_open_filled(struct rig *rig)
{
    rig_open(rig, false);
    rig_fill(rig);
    world_drain(&rig->world);
}

static uint64_t
random_block(struct rig *rig, uint64_t first, uint64_t count)
{
    return first * CHUNK +
           random_below(&rig->random, count * (CHUNK / BLOCK)) * BLOCK;
}

void
rig_touch(struct rig *rig, uint64_t first, uint64_t count)
{
    for (uint64_t c = first; c < first + count; c++)
        MUST(rig_write(rig, random_block(rig, c, 1), BLOCK));
}

int
rig_write_until_refused(struct rig *rig, uint64_t first, uint64_t count,
                        unsigned most)
{
    for (unsigned i = 0; i < most; i++) {
        int r = rig_write(rig, random_block(rig, first, count), BLOCK);

        if (r < 0)
            return r;
    }
    return 0;
}

void
rig_check(struct rig *rig)
{
    MUST(lsvd_pread(rig->world.volume, rig->found, BYTES, 0));
    assert_memory_equal(rig->found, rig->model, BYTES);
}

void
rig_check_from(struct rig *rig, unsigned parts)
{
    unsigned before[26];

    for (unsigned i = 0; i < 26; i++) {
        before[i] = rig->io.refuse[i];
        if (!(parts & 1u << i))
            rig->io.refuse[i] |= REFUSE_READS;
    }
    rig_check(rig);
    for (unsigned i = 0; i < 26; i++)
        rig->io.refuse[i] = before[i];
}

/* ---- what becomes of it ---- */

struct lsvd_status *
rig_status(struct rig *rig)
{
    return world_status(&rig->world);
}

/* By hand; what fails is tried again by the next round. */
static void
do_a_round(struct rig *rig)
{
    lsvd_watch(rig->world.volume);
    for (unsigned i = 0; i < 1000; i++) {
        if (lsvd_destage_step(rig->world.volume) <= 0)
            return;
    }
}

/* Until the volume says something, or a while has passed: not every change is
 * told. */
static void
wait_for_news(struct rig *rig)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 50000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&rig->lock);
    (void)pthread_cond_timedwait(&rig->logged, &rig->lock, &until);
    pthread_mutex_unlock(&rig->lock);
}

void
rig_until(struct rig *rig, rig_condition condition, unsigned number)
{
    time_t begin = time(NULL);

    for (unsigned rounds = 0; !condition(rig_status(rig), number);
         rounds++) {
        if (time(NULL) - begin > PATIENCE_S ||
            (!rig->threaded && rounds > 50)) {
            struct lsvd_status *s = rig_status(rig);

            for (uint32_t i = 0; i < s->part_count; i++)
                print_error("part %c: %s %s\n", s->part[i].letter,
                            lsvd_part_state_text(s->part[i].state),
                            s->part[i].problem);
            fail_msg("still %s: %s; it said:\n%s", lsvd_health_text(s->health),
                     s->problem, rig->said);
        }
        if (rig->threaded)
            wait_for_news(rig);
        else
            do_a_round(rig);
    }
}

bool
rig_is_healthy(const struct lsvd_status *s, unsigned unused)
{
    (void)unused;
    return s->healthy;
}

bool
rig_has_dropped(const struct lsvd_status *s, unsigned slot)
{
    return s->part[slot].state != LSVD_PART_OK;
}

bool
rig_has_diverged(const struct lsvd_status *s, unsigned slot)
{
    return s->part[slot].state == LSVD_PART_DIVERGED;
}

bool
rig_is_in_health(const struct lsvd_status *s, unsigned health)
{
    return s->health == (enum lsvd_health)health;
}

void
rig_look(struct rig *rig, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        do_a_round(rig);
}

/* ---- directories ---- */

static void
run(const char *const argv[])
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        char *copy[8] = {NULL};

        for (size_t i = 0; argv[i] && i < 7; i++)
            copy[i] = strdup(argv[i]);
        execvp(copy[0], copy);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void
paths(struct rig *rig, char part, char *place, char *aside, const char *suffix)
{
    char name[] = {part, '\0'};

    world_path(&rig->world, name, place);
    (void)snprintf(aside, 512, "%s/%c.%s", rig->world.path, part, suffix);
}

void
rig_take_away(struct rig *rig, char part)
{
    char place[512], aside[512];

    paths(rig, part, place, aside, "away");
    assert_int_equal(rename(place, aside), 0);
}

void
rig_put_back(struct rig *rig, char part)
{
    char place[512], aside[512];

    paths(rig, part, place, aside, "away");
    assert_int_equal(rename(aside, place), 0);
}

void
rig_delete(struct rig *rig, char part)
{
    char place[512], aside[512];

    paths(rig, part, place, aside, "away");
    run((const char *const[]){"rm", "-r", place, NULL});
}

void
rig_copy(struct rig *rig, const char *from, const char *to)
{
    (void)rig;
    run((const char *const[]){"cp", "-a", from, to, NULL});
}

void
rig_back_up(struct rig *rig, char part)
{
    char place[512], aside[512];

    paths(rig, part, place, aside, "backup");
    rig_copy(rig, place, aside);
}

void
rig_restore(struct rig *rig, char part)
{
    char place[512], aside[512];

    paths(rig, part, place, aside, "backup");
    run((const char *const[]){"rm", "-rf", place, NULL});
    rig_copy(rig, aside, place);
}

bool
rig_has_said(struct rig *rig, const char *text)
{
    bool has;

    pthread_mutex_lock(&rig->lock);
    has = strstr(rig->said, text) != NULL;
    pthread_mutex_unlock(&rig->lock);
    return has;
}

void
rig_until_said(struct rig *rig, const char *text)
{
    time_t begin = time(NULL);

    while (!rig_has_said(rig, text)) {
        if (time(NULL) - begin > PATIENCE_S)
            fail_msg("\"%s\" was not said, but:\n%s", text, rig->said);
        if (rig->threaded)
            wait_for_news(rig);
        else
            do_a_round(rig);
    }
}

void
rig_forget_said(struct rig *rig)
{
    pthread_mutex_lock(&rig->lock);
    rig->said[0] = '\0';
    rig->said_bytes = 0;
    pthread_mutex_unlock(&rig->lock);
}
