/* film.c: see film.h. */
#include "unit.h"
#include "film.h"
#include "base/io.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const struct kind film_one = {.replicas = 1, .block_bytes = 4096,
                              .chunk_bytes = CHUNK, .size_bytes = BYTES};
const struct kind film_mirror = {.replicas = 2, .block_bytes = 4096,
                                 .chunk_bytes = CHUNK, .size_bytes = BYTES};
const struct kind film_triple = {.replicas = 3, .block_bytes = 4096,
                                 .chunk_bytes = CHUNK, .size_bytes = BYTES};
const struct kind film_small = {.replicas = 2, .block_bytes = 512,
                                .chunk_bytes = CHUNK, .size_bytes = BYTES};
const struct kind film_ec = {.ec_data = 2, .ec_parity = 1,
                             .block_bytes = 4096, .chunk_bytes = CHUNK,
                             .size_bytes = BYTES};

/* ---- what is in it ---- */

void
film_check_is(struct film *f, struct lsvd_volume *v, const uint8_t *what)
{
    memset(f->found, 0x5a, BYTES);
    MUST(lsvd_pread(v, f->found, BYTES, 0));
    assert_memory_equal(f->found, what, BYTES);
}

void
film_check(struct film *f)
{
    film_check_is(f, f->world.volume, f->model);
}

void
film_check_named(struct film *f, const char *name, const uint8_t *what)
{
    struct lsvd_volume *v;

    MUST(lsvd_open(&f->world.env, name, LSVD_OPEN_READ_ONLY, &v));
    assert_false(lsvd_can_write(v));
    film_check_is(f, v, what);
    MUST(lsvd_close(v));
}

void
film_put(struct film *f, uint64_t at, size_t count)
{
    random_fill(&f->random, f->model + at, count);
    MUST(lsvd_pwrite(f->world.volume, f->model + at, count, at, 0));
}

void
film_zero(struct film *f, uint64_t at, size_t count)
{
    memset(f->model + at, 0, count);
    MUST(lsvd_zero(f->world.volume, count, at, 0));
}

void
film_trim(struct film *f, uint64_t at, size_t count)
{
    memset(f->model + at, 0, count);
    MUST(lsvd_trim(f->world.volume, count, at, 0));
}

void
film_write_to_journal(struct film *f)
{
    uint64_t b = f->block;

    film_put(f, 3 * b, 2 * b);                   /* over blocks of the parts */
    film_put(f, 9 * b + 100, 50);                /* a part of one */
    film_trim(f, CHUNK, CHUNK);                  /* a whole chunk */
    film_put(f, CHUNK + 5 * b, b);               /* and a block in it again */
    film_trim(f, 2 * CHUNK + b, 3 * b);
    film_zero(f, 2 * CHUNK + 9 * b + 7, 2 * b);  /* in part at both ends */
    film_put(f, 4 * CHUNK, CHUNK / 4);           /* where there was nothing */
    film_put(f, 5 * CHUNK + b, b);
    film_put(f, 6 * CHUNK + b + 33, 3 * b);
    assert_true(world_status(&f->world)->journal_only_bytes > 0);
}

/* ---- a volume, and the steps of its snapshot ---- */

/* The same volume again, each part under a root of its own. */
static void
spread(struct film *f)
{
    struct lsvd_create_part part[ROOTS];
    const struct kind *kind = &f->world.kind;
    struct lsvd_create spec = {.name = NAME, .size_bytes = BYTES,
                               .chunk_bytes = CHUNK,
                               .block_bytes = kind->block_bytes,
                               .replicas = kind->replicas,
                               .journal_bytes = 1u << 20,
                               .parts = part};

    MUST(lsvd_remove(&f->world.env, NAME));
    for (; spec.part_count < kind->replicas; spec.part_count++) {
        size_t i = spec.part_count;

        assert_true(asprintf(&f->root[i], "%s/root%zu", f->world.path, i) > 0);
        assert_int_equal(mkdir(f->root[i], 0700), 0);
        part[i] = (struct lsvd_create_part){(char)('a' + i), f->root[i]};
        f->roots[i] = f->root[i];
    }
    f->world.env.data = f->roots;
    MUST(lsvd_create(&f->world.env, &spec));
}

/* Chunks 0 and 1 are full, 2 and 3 in part. */
void
film_begin(struct film *f, const struct kind *kind, uint64_t ram_bytes,
           bool is_spread)
{
    struct kind my = *kind;

    *f = (struct film){.random = 11, .block = kind->block_bytes};
    f->model = calloc(1, BYTES);
    f->frozen = calloc(1, BYTES);
    f->found = calloc(1, BYTES);
    assert_true(f->model && f->frozen && f->found);
    my.ram_bytes = ram_bytes;
    world_init(&f->world, &my);
    f->world.env.io = io_system(); /* no deadlines: they take most of it */
    if (is_spread)
        spread(f);
    world_open(&f->world);
    film_put(f, 0, 2 * CHUNK);
    film_put(f, 2 * CHUNK, CHUNK / 2);
    film_put(f, 3 * CHUNK + 7 * f->block, 9 * f->block);
    world_drain(&f->world);
}

void
film_free(struct film *f)
{
    world_done(&f->world);
    for (size_t i = 0; i < ROOTS; i++)
        free(f->root[i]);
    free(f->model);
    free(f->frozen);
    free(f->found);
}

void
film_end(struct film *f)
{
    if (f->world.volume)
        world_close(&f->world);
    film_check_sound(f, NAME);
    film_check_named(f, NAME, f->model);
    film_free(f);
}

void
film_snapshot_begin(struct film *f, const char *name)
{
    MUST(lsvd_snapshot_begin(f->world.volume, &f->world.env, name, &f->next));
}

void
film_snapshot_commit(struct film *f, const char *name)
{
    MUST(lsvd_snapshot_commit(f->world.volume, f->next, name));
    f->world.volume = f->next;
    f->next = NULL;
    memcpy(f->frozen, f->model, BYTES);
}

void
film_snapshot_finish(struct film *f, const char *name)
{
    (void)name;
    assert_true(lsvd_snapshot_finish(f->world.volume));
}

void
film_snapshot(struct film *f, const char *name)
{
    film_snapshot_begin(f, name);
    film_snapshot_commit(f, name);
    film_snapshot_finish(f, name);
}

/* The new one has the old one, from the beginning. */
void
film_kill(struct film *f)
{
    lsvd_abandon(f->next ? f->next : f->world.volume);
    f->next = NULL;
    f->world.volume = NULL;
}

/* ---- what there is ---- */

struct walk {
    const uint8_t *model;
    uint64_t next, holes; /* bytes */
};

static int
take_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct walk *w = ctx;

    assert_int_equal(offset, w->next);
    w->next += count;
    if (is_data)
        return 0;
    w->holes += count;
    for (uint64_t at = offset; at < offset + count; at++)
        assert_int_equal(w->model[at], 0);
    return 0;
}

/* Zeroes may be told as data; the last chunk was never written. */
void
film_check_extents(struct film *f)
{
    struct walk w = {.model = f->model};

    MUST(lsvd_extents(f->world.volume, BYTES, 0, take_extent, &w));
    assert_int_equal(w.next, BYTES);
    assert_true(w.holes >= CHUNK);
}

void
film_check_sound(struct film *f, const char *name)
{
    struct lsvd_report report;

    MUST(lsvd_verify(&f->world.env, name, true, NULL, &report));
    assert_true(report.policy_met);
    assert_false(report.data_lost);
}

struct names {
    const char *name;
    unsigned count, unborn;
};

static int
count_name(void *ctx, const struct lsvd_listed *volume)
{
    struct names *n = ctx;

    assert_null(volume->problem);
    n->count += strcmp(volume->name, n->name) == 0;
    n->unborn += strstr(volume->name, "@+") != NULL;
    return 0;
}

void
film_check_list(struct film *f, const char *const *names)
{
    for (; *names; names++) {
        struct names n = {.name = *names};

        MUST(lsvd_list(&f->world.env, count_name, &n));
        assert_int_equal(n.count, 1);
        assert_int_equal(n.unborn, 0);
    }
}

static int
note_unborn(void *ctx, const struct lsvd_listed *volume)
{
    if (strstr(volume->name, "@+")) {
        *(bool *)ctx = true;
        assert_non_null(volume->problem);
    }
    return 0;
}

bool
film_has_unborn(struct film *f)
{
    bool has = false;

    MUST(lsvd_list(&f->world.env, note_unborn, &has));
    return has;
}

/* Entries of a directory with this ending, but none that is hidden. */
static unsigned
entries(const char *path, const char *ending)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        size_t bytes = strlen(e->d_name), end = strlen(ending);

        count += e->d_name[0] != '.' && bytes >= end &&
                 strcmp(e->d_name + bytes - end, ending) == 0;
    }
    closedir(dir);
    return count;
}

void
film_check_traces(struct film *f, unsigned volumes, unsigned journals)
{
    assert_int_equal(entries(f->world.data, ""), volumes);
    assert_int_equal(entries(f->world.cache, ".journal"), journals);
}

void
film_check_unknown(struct film *f, const char *name)
{
    struct lsvd_volume *v;

    assert_int_equal(lsvd_open(&f->world.env, name, LSVD_OPEN_READ_ONLY, &v),
                     -ENOENT);
}

void
film_move(const char *from_dir, const char *from, const char *to_dir,
          const char *to)
{
    char a[700], b[700];

    snprintf(a, sizeof a, "%s/%s", from_dir, from);
    snprintf(b, sizeof b, "%s/%s", to_dir, to);
    assert_int_equal(rename(a, b), 0);
}

