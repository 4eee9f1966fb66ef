/* world.c: see world.h. */
#include "unit.h"
#include "world.h"
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int
must(int r, const char *what, const char *file, int line)
{
    if (r < 0) {
        fprintf(stderr, "%s:%d: %s: %d (%s): %s\n", file, line, what, r,
                strerror(-r), lsvd_error());
        abort(); /* cmocka can't fail from a thread of ours */
    }
    return r;
}

static void
print_event(void *ctx, enum lsvd_log_level level, const char *line)
{
    (void)ctx;
    if (level <= LSVD_WARNING && getenv("LSVD_TEST_LOG"))
        fprintf(stderr, "%s\n", line);
}

void
world_init(struct world *w, const struct kind *kind)
{
    struct lsvd_create spec = {.name = NAME,
                               .size_bytes = kind->size_bytes,
                               .chunk_bytes = kind->chunk_bytes,
                               .block_bytes = kind->block_bytes,
                               .replicas = kind->replicas,
                               .ec_data = kind->ec_data,
                               .ec_parity = kind->ec_parity,
                               .journal_bytes = kind->journal_bytes
                                                    ? kind->journal_bytes
                                                    : 1u << 20};
    const char *base = getenv("TMPDIR");

    memset(w, 0, sizeof *w);
    w->kind = *kind;
    (void)snprintf(w->path, sizeof w->path, "%s/lsvd-volume-XXXXXX",
                   base ? base : "/tmp");
    assert_non_null(mkdtemp(w->path));
    (void)snprintf(w->data, sizeof w->data, "%s/data", w->path);
    (void)snprintf(w->cache, sizeof w->cache, "%s/cache", w->path);
    assert_int_equal(mkdir(w->data, 0700), 0);
    assert_int_equal(mkdir(w->cache, 0700), 0);
    w->data_list[0] = w->data;
    w->cache_list[0] = w->cache;
    w->env.data = w->data_list;
    w->env.cache = w->cache_list;
    w->env.log = print_event;
    w->env.ram_bytes = kind->ram_bytes ? kind->ram_bytes : 256u << 10;
    MUST(lsvd_create(&w->env, &spec));
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

void
world_done(struct world *w)
{
    if (w->volume)
        lsvd_abandon(w->volume);
    w->volume = NULL;
    assert_int_equal(nftw(w->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void
world_open(struct world *w)
{
    assert_null(w->volume);
    MUST(lsvd_open(&w->env, NAME, 0, &w->volume));
    assert_true(lsvd_can_write(w->volume));
}

void
world_close(struct world *w)
{
    struct lsvd_volume *v = w->volume;

    w->volume = NULL;
    MUST(lsvd_close(v));
}

void
world_path(const struct world *w, const char *rest, char *text)
{
    (void)snprintf(text, 512, "%s/11/%s", w->data, rest);
}

static void
print_finding(void *ctx, const struct lsvd_finding *f)
{
    (void)ctx;
    print_error("finding: part %c, chunk %" PRIu64 ": %s: %s\n", f->part,
                f->chunk, f->file ? f->file : "", f->text);
}

void
world_flip(const struct world *w, const char *name, int64_t at)
{
    char path[512];
    uint8_t byte;
    int fd;

    world_path(w, name, path);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    if (at < 0)
        at += lseek(fd, 0, SEEK_END);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

void
world_check_sound(struct world *w)
{
    struct lsvd_repair_callbacks cb = {.finding = print_finding};
    struct lsvd_report report;

    assert_null(w->volume);
    MUST(lsvd_verify(&w->env, NAME, true, &cb, &report));
    assert_true(report.policy_met);
    assert_false(report.data_lost);
    for (uint32_t i = 0; i < report.part_count; i++)
        assert_int_equal(report.part[i].unexpected, 0);
}

struct lsvd_status *
world_status(struct world *w)
{
    static struct lsvd_status status;

    lsvd_get_status(w->volume, &status);
    return &status;
}

void
world_drain(struct world *w)
{
    while (MUST(lsvd_destage_step(w->volume)) > 0)
        ;
}

uint64_t
random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t
random_below(uint64_t *state, uint64_t limit)
{
    return random_next(state) % limit;
}

void
random_fill(uint64_t *state, void *to, size_t bytes)
{
    uint8_t *at = to;

    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(random_next(state) >> 24);
}
