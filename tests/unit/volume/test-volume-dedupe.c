/* References: a volume whose blocks lie in another one reads as before, costs
 * what it changed, and loses nothing, whatever happens to it. */
#include "faulty-io.h"
#include "unit.h"
#include "volume/refer.h"
#include "world.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 256 << 10, BYTES = 2 << 20, STEPS = FEWER(120), COPY = 12,
       HALF = BYTES / 2 };

/* A source, v1, and a volume with much that is the same, v2. */
struct pair {
    struct world world;
    struct lsvd_volume *copy; /* v2; NULL: closed */
    bool was_degraded;        /* a part of it is, or may be, away */
    uint8_t *source, *model, *found; /* BYTES each */
    uint64_t random;
    uint32_t block;
};

static const struct kind one = {.replicas = 1, .block_bytes = 4096,
                                .chunk_bytes = CHUNK, .size_bytes = BYTES};
static const struct kind three = {.replicas = 3, .block_bytes = 4096,
                                  .chunk_bytes = CHUNK, .size_bytes = BYTES};
static const struct kind small = {.replicas = 2, .block_bytes = 512,
                                  .chunk_bytes = CHUNK, .size_bytes = BYTES};
static const struct kind large = {.replicas = 1, .block_bytes = 65536,
                                  .chunk_bytes = 2 * CHUNK,
                                  .size_bytes = BYTES};
static const struct kind ec21 = {.ec_data = 2, .ec_parity = 1,
                                 .block_bytes = 4096, .chunk_bytes = CHUNK,
                                 .size_bytes = BYTES};
static const struct kind ec42 = {.ec_data = 4, .ec_parity = 2,
                                 .block_bytes = 4096, .chunk_bytes = CHUNK,
                                 .size_bytes = BYTES};

static void
make(struct pair *p, const char *name, const struct kind *kind)
{
    struct lsvd_create spec = {.name = name,
                               .size_bytes = kind->size_bytes,
                               .chunk_bytes = kind->chunk_bytes,
                               .block_bytes = kind->block_bytes,
                               .replicas = kind->replicas,
                               .ec_data = kind->ec_data,
                               .ec_parity = kind->ec_parity,
                               .journal_bytes = 1u << 20};

    MUST(lsvd_create(&p->world.env, &spec));
}

static void
open_copy(struct pair *p)
{
    MUST(lsvd_open(&p->world.env, "v2", 0, &p->copy));
    assert_true(lsvd_can_write(p->copy));
}

static void
close_copy(struct pair *p)
{
    struct lsvd_volume *v = p->copy;

    p->copy = NULL;
    MUST(lsvd_close(v));
}

static void
drain(struct pair *p)
{
    while (MUST(lsvd_destage_step(p->copy)) > 0)
        ;
}

static void
write_at(struct pair *p, const void *bytes, size_t count, uint64_t at)
{
    memcpy(p->model + at, bytes, count);
    MUST(lsvd_pwrite(p->copy, bytes, count, at, 0));
}

/* The source is full but for its last quarter, and has a block of zeroes that
 * were written. */
static void
begin(struct pair *p, const struct kind *source, const struct kind *copy)
{
    *p = (struct pair){.random = 11, .block = copy->block_bytes};
    p->source = calloc(1, BYTES);
    p->model = calloc(1, BYTES);
    p->found = malloc(BYTES);
    assert_true(p->source && p->model && p->found);
    world_init(&p->world, source);
    random_fill(&p->random, p->source, BYTES / 4 * 3);
    memset(p->source + p->block, 0, p->block);
    world_open(&p->world);
    MUST(lsvd_pwrite(p->world.volume, p->source, BYTES / 4 * 3, 0, 0));
    world_close(&p->world);
    MUST(lsvd_set(&p->world.env, NAME, "read-only", "on"));
    make(p, "v2", copy);
    open_copy(p);
}

static void
check(struct pair *p)
{
    MUST(lsvd_pread(p->copy, p->found, BYTES, 0));
    assert_memory_equal(p->found, p->model, BYTES);
}

static void
check_sound(struct pair *p, const char *name)
{
    struct lsvd_report report;

    MUST(lsvd_verify(&p->world.env, name, true, NULL, &report));
    assert_true(report.policy_met);
    assert_false(report.data_lost);
}

static void
drop(struct pair *p)
{
    world_done(&p->world);
    free(p->source);
    free(p->model);
    free(p->found);
}

static void
end(struct pair *p)
{
    struct lsvd_volume *v;

    if (p->copy)
        close_copy(p);
    check_sound(p, "v2");
    check_sound(p, NAME);
    MUST(lsvd_open(&p->world.env, NAME, LSVD_OPEN_READ_ONLY, &v));
    MUST(lsvd_pread(v, p->found, BYTES, 0));
    assert_memory_equal(p->found, p->source, BYTES);
    MUST(lsvd_close(v));
    drop(p);
}

static void
reopen(struct pair *p, bool killed)
{
    if (killed)
        lsvd_abandon(p->copy);
    else
        MUST(lsvd_close(p->copy));
    open_copy(p);
}

static const char *const v1[] = {NAME, NULL};

static struct lsvd_dedupe_report
dedupe_with(struct pair *p, const struct lsvd_dedupe *spec)
{
    struct lsvd_dedupe_report report;

    MUST(lsvd_live_dedupe(p->copy, &p->world.env, spec, NULL, NULL,
                          &report));
    return report;
}

static struct lsvd_dedupe_report
dedupe(struct pair *p)
{
    const struct lsvd_dedupe spec = {.sources = v1};

    return dedupe_with(p, &spec);
}

/* Allocated, of the files of the copy's chunks. */
static uint64_t
allocated(struct pair *p)
{
    uint64_t bytes = 0;

    for (char part = 'a'; part <= 'f'; part++) {
        for (unsigned chunk = 1; chunk <= BYTES / CHUNK; chunk++) {
            for (unsigned n = 0; n < 2; n++) {
                char path[600];
                struct stat st;

                (void)snprintf(path, sizeof path, "%s/%d/%c/%u%s",
                               p->world.data, COPY, part, chunk,
                               n ? ".refs" : "");
                if (stat(path, &st) == 0)
                    bytes += (uint64_t)st.st_blocks * 512;
            }
        }
    }
    return bytes;
}

/* ---- a full copy ---- */

static void
a_copy(const struct kind *kind)
{
    struct lsvd_dedupe estimate = {.sources = v1, .estimate = true};
    uint32_t own = BYTES / 4 * 3 / kind->block_bytes - 1; /* one is zeroes */
    struct lsvd_dedupe_report told, found, again;
    uint64_t before, after;
    struct pair p;

    begin(&p, kind, kind);
    write_at(&p, p.source, BYTES / 4 * 3, 0);
    drain(&p);
    before = allocated(&p);
    told = dedupe_with(&p, &estimate);
    assert_int_equal(told.blocks_matched, own);
    assert_int_equal(told.blocks_zero, 1);
    assert_int_equal(allocated(&p), before);
    found = dedupe(&p);
    drain(&p);
    after = allocated(&p);
    assert_int_equal(found.blocks_matched, own);
    assert_int_equal(found.blocks_zero, 1);
    assert_int_equal(found.chunks_skipped, 0);
    assert_int_equal(found.bytes_given_back, before - after);
    assert_true(after < before / 5);
    assert_true(told.bytes_given_back >=
                found.bytes_given_back / 100 * 97);
    assert_true(told.bytes_given_back <=
                found.bytes_given_back / 100 * 103);
    check(&p);
    reopen(&p, false);
    check(&p);
    again = dedupe(&p);
    assert_int_equal(again.blocks_matched, 0);
    assert_int_equal(again.blocks_zero, 0);
    check(&p);
    end(&p);
}

static void
test_a_copy_gives_its_space_back(void **state)
{
    (void)state;
    a_copy(&one);
    a_copy(&three);
    a_copy(&ec21);
    a_copy(&ec42);
    a_copy(&large);
}

/* Of a volume that is served, whose journal loses a copy meanwhile: who records
 * that waits for who makes references, and not the other way round, too. */
static void
test_a_copy_of_the_journal_fails_meanwhile(void **state)
{
    char second[320];
    struct faulty_io io;
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    close_copy(&p);
    MUST(lsvd_remove(&p.world.env, "v2"));
    faulty_io_init(&io);
    p.world.env.io = &io.io;
    (void)snprintf(second, sizeof second, "%s/cache2", p.world.path);
    assert_int_equal(mkdir(second, 0700), 0);
    p.world.cache_list[1] = second;
    make(&p, "v2", &one);
    open_copy(&p);
    write_at(&p, p.source, BYTES / 4 * 3, 0);
    drain(&p);
    MUST(lsvd_start(p.copy));
    atomic_store(&io.refuse_cache[1], REFUSE_WRITES);
    alarm(60); /* it hangs for ever, or not */
    assert_true(dedupe(&p).blocks_matched > 0);
    alarm(0);
    assert_true(io.refused > 0);
    check(&p);
    atomic_store(&io.refuse_cache[1], 0);
    end(&p);
}

static void
test_blocks_of_512_bytes(void **state)
{
    struct lsvd_dedupe_report found;
    struct pair p;

    (void)state;
    begin(&p, &small, &small);
    write_at(&p, p.source, HALF, 0);
    found = dedupe(&p);
    assert_int_equal(found.blocks_matched, HALF / 512 - 1);
    check(&p);
    reopen(&p, true);
    check(&p);
    end(&p);
}

/* Chunks of the two need not be alike, nor where a block lies. */
static void
test_elsewhere(void **state)
{
    struct kind other = ec42;
    struct pair p;

    (void)state;
    other.chunk_bytes = 4 * CHUNK;
    begin(&p, &other, &three);
    write_at(&p, p.source + 5 * 4096, 40 * 4096, 77 * 4096);
    write_at(&p, p.source + 300 * 4096, 4096, 0);
    assert_int_equal(dedupe(&p).blocks_matched, 41);
    check(&p);
    reopen(&p, false);
    check(&p);
    end(&p);
}

/* ---- a life ---- */

static void
degrade(struct pair *p, bool is_back)
{
    char there[600], away[600];

    (void)snprintf(there, sizeof there, "%s/%d/b", p->world.data, COPY);
    (void)snprintf(away, sizeof away, "%s/b-away", p->world.path);
    p->was_degraded = true;
    lsvd_abandon(p->copy);
    assert_int_equal(is_back ? rename(away, there) : rename(there, away), 0);
    open_copy(p);
}

/* RF2: nothing new becomes a reference while a part is away or not yet filled.
 */
static void
try_dedupe(struct pair *p)
{
    const struct lsvd_dedupe spec = {.sources = v1};
    struct lsvd_dedupe_report report;
    int r;

    r = lsvd_live_dedupe(p->copy, &p->world.env, &spec, NULL, NULL,
                         &report);
    if (r == 0)
        return;
    assert_true(r == -EIO && p->was_degraded);
    assert_int_equal(report.blocks_matched, 0);
}

static void
step(struct pair *p)
{
    uint64_t blocks = BYTES / p->block;
    uint64_t at = random_below(&p->random, blocks) * p->block;
    uint64_t from = random_below(&p->random, blocks) * p->block;
    uint64_t most = BYTES - (at > from ? at : from);
    size_t count = (1 + random_below(&p->random, 40)) * p->block;
    uint8_t bytes[5000];

    if (count > most)
        count = most;
    switch (random_below(&p->random, 14)) {
    case 0: /* anything, anywhere */
    case 1:
        count = 1 + random_below(&p->random, sizeof bytes - 1);
        if (count > BYTES - at)
            count = BYTES - at;
        random_fill(&p->random, bytes, count);
        write_at(p, bytes, count, at);
        return;
    case 2:
    case 3:
    case 4:
    case 5:
        write_at(p, p->source + from, count, at);
        return;
    case 6:
        memset(p->model + at, 0, count);
        MUST(lsvd_zero(p->copy, count, at, 0));
        return;
    case 7: /* perhaps whole chunks */
        at -= at % CHUNK;
        memset(p->model + at, 0, CHUNK);
        MUST(lsvd_trim(p->copy, CHUNK, at, 0));
        return;
    case 8:
        drain(p);
        return;
    case 9:
        reopen(p, random_below(&p->random, 2));
        return;
    case 10:
    case 11:
        try_dedupe(p);
        return;
    default:
        check(p);
        return;
    }
}

static void
life(const struct kind *source, const struct kind *copy)
{
    struct pair p;

    begin(&p, source, copy);
    for (unsigned i = 0; i < STEPS; i++) {
        if (copy->replicas != 1 && i == STEPS / 3)
            degrade(&p, false);
        if (copy->replicas != 1 && i == STEPS / 3 * 2)
            degrade(&p, true);
        step(&p);
    }
    check(&p);
    lsvd_watch(p.copy); /* a part may still be filled */
    drain(&p);
    check(&p);
    (void)dedupe(&p);
    check(&p);
    end(&p);
}

static void
test_lives(void **state)
{
    (void)state;
    life(&one, &one);
    life(&one, &three);
    life(&three, &ec21);
    life(&ec21, &ec42);
}

/* ---- hashes only propose ---- */

static void
test_collisions(void **state)
{
    struct lsvd_dedupe spec = {.sources = v1, .hash_bits = 4};
    struct lsvd_dedupe_report found;
    struct pair p;

    (void)state;
    begin(&p, &one, &three);
    random_fill(&p.random, p.model, HALF); /* nothing is equal */
    MUST(lsvd_pwrite(p.copy, p.model, HALF, 0, 0));
    write_at(&p, p.source + 2 * 4096, 4096, HALF); /* but this */
    drain(&p);
    found = dedupe_with(&p, &spec);
    assert_true(found.blocks_collided >= HALF / 4096 - 16);
    assert_true(found.blocks_matched <= 1);
    drain(&p);
    check(&p);
    reopen(&p, false);
    check(&p);
    assert_int_equal(dedupe(&p).blocks_matched, 1 - found.blocks_matched);
    check(&p);
    end(&p);
}

/* ---- sources stay ---- */

static void
test_a_source_stays_as_it_is(void **state)
{
    static struct lsvd_info info; /* large */
    const struct lsvd_dedupe none = {.sources = NULL};
    struct lsvd_dedupe_report report;
    struct pair p;

    (void)state;
    begin(&p, &three, &three);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    close_copy(&p);
    assert_int_equal(lsvd_remove(&p.world.env, NAME), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "v2"));
    assert_int_equal(lsvd_set(&p.world.env, NAME, "read-only", "off"), -EBUSY);
    assert_int_equal(lsvd_resize(&p.world.env, NAME, 2 * BYTES, false), -EBUSY);
    MUST(lsvd_info(&p.world.env, NAME, &info));
    assert_string_equal(info.children, "v2");
    /* and back */
    MUST(lsvd_rehydrate(&p.world.env, "v2", &none, NULL, &report));
    assert_int_equal(report.blocks_matched, HALF / 4096 - 1);
    open_copy(&p);
    check(&p);
    close_copy(&p);
    MUST(lsvd_info(&p.world.env, NAME, &info));
    assert_string_equal(info.children, "");
    MUST(lsvd_set(&p.world.env, NAME, "read-only", "off"));
    end(&p);
}

static void
test_a_source_is_gone(void **state)
{
    struct lsvd_report report;
    char there[600], away[600];
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    close_copy(&p);
    (void)snprintf(there, sizeof there, "%s/11", p.world.data);
    (void)snprintf(away, sizeof away, "%s/11-away", p.world.path);
    assert_int_equal(rename(there, away), 0);
    assert_true(lsvd_open(&p.world.env, "v2", 0, &p.copy) < 0);
    assert_non_null(strstr(lsvd_error(), "volume v2: volume 11"));
    p.copy = NULL;
    MUST(lsvd_verify(&p.world.env, "v2", true, NULL, &report));
    assert_true(report.data_lost);
    assert_int_equal(report.lost_bytes, HALF - 4096); /* one is of zeroes */
    assert_int_equal(rename(away, there), 0);
    open_copy(&p);
    check(&p);
    end(&p);
}

/* By whoever does not see the copy, so that nothing refuses it. */
static void
change_source(struct pair *p, bool writable, uint64_t bytes, uint64_t at)
{
    const struct lsvd_env *env = &p->world.env;
    char there[600], away[600];
    struct lsvd_volume *v;

    (void)snprintf(there, sizeof there, "%s/%d", p->world.data, COPY);
    (void)snprintf(away, sizeof away, "%s/away", p->world.path);
    assert_int_equal(rename(there, away), 0);
    MUST(lsvd_set(env, NAME, "read-only", "off"));
    MUST(lsvd_resize(env, NAME, bytes, true));
    MUST(lsvd_open(env, NAME, 0, &v));
    MUST(lsvd_pwrite(v, "changed", 7, at, 0));
    MUST(lsvd_close(v));
    if (!writable)
        MUST(lsvd_set(env, NAME, "read-only", "on"));
    assert_int_equal(rename(away, there), 0);
}

/* What verify says is lost is what can't be read. */
static void
check_lost(struct pair *p, uint64_t begin, uint64_t end)
{
    struct lsvd_report report;
    struct lsvd_volume *v;

    MUST(lsvd_verify(&p->world.env, "v2", true, NULL, &report));
    assert_true(report.data_lost);
    assert_int_equal(report.lost_bytes, end - begin);
    if (lsvd_open(&p->world.env, "v2", LSVD_OPEN_READ_ONLY, &v) < 0)
        return;
    for (uint64_t at = 0; at < BYTES; at += p->block) {
        int r = lsvd_pread(v, p->found, p->block, at);

        assert_int_equal(r < 0, at >= begin && at < end);
        if (r == 0)
            assert_memory_equal(p->found, p->model + at, p->block);
    }
    MUST(lsvd_close(v));
}

static void
test_a_source_was_changed(void **state)
{
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    write_at(&p, p.source + HALF / 2, HALF / 2, 0);
    assert_int_equal(dedupe(&p).blocks_matched, HALF / 2 / 4096);
    close_copy(&p);
    check_sound(&p, "v2");
    change_source(&p, true, BYTES, HALF - 4096);
    check_lost(&p, 0, HALF / 2);
    change_source(&p, false, BYTES, HALF - 4096);
    check_lost(&p, HALF / 2 - 4096, HALF / 2);
    /* references behind its end */
    change_source(&p, false, HALF - 2 * CHUNK, 0);
    check_lost(&p, 0, HALF / 2);
    drop(&p);
}

static void
refuse(struct pair *p, const char *const *sources, int error,
       const char *words)
{
    const struct lsvd_dedupe spec = {.sources = sources};
    struct lsvd_dedupe_report report;

    assert_int_equal(lsvd_live_dedupe(p->copy, &p->world.env, &spec, NULL,
                                      NULL, &report),
                     error);
    assert_non_null(strstr(lsvd_error(), words));
    check(p);
}

static void
test_what_is_no_source(void **state)
{
    struct kind other = one;
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    write_at(&p, p.source, HALF, 0);
    other.block_bytes = 512;
    make(&p, "other", &other);
    MUST(lsvd_set(&p.world.env, "other", "read-only", "on"));
    make(&p, "written", &one);
    refuse(&p, (const char *[]){"other", NULL}, -EINVAL, "blocks of 512");
    refuse(&p, (const char *[]){"written", NULL}, -EROFS, "not read-only");
    refuse(&p, (const char *[]){"v2", NULL}, -EINVAL, "itself");
    refuse(&p, (const char *[]){"nobody", NULL}, -ENOENT, "nobody");
    refuse(&p, (const char *[]){NAME, NAME, NULL}, -EINVAL, "twice");
    refuse(&p, (const char *[]){NULL}, -EINVAL, "no source");
    end(&p);
}

/* ---- reference files ---- */

static void
refs_path(struct pair *p, char part, char path[600])
{
    (void)snprintf(path, 600, "%s/%d/%c/1.refs", p->world.data, COPY, part);
}

static void
flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+");
    int byte;

    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    byte = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    assert_int_equal(fclose(file), 0);
}

static void
damage(struct pair *p, char part, long at)
{
    char path[600];

    refs_path(p, part, path);
    flip(path, at);
}

static uint64_t
findings(struct pair *p)
{
    struct lsvd_report report;
    uint64_t bad = 0;

    MUST(lsvd_verify(&p->world.env, "v2", true, NULL, &report));
    for (uint32_t i = 0; i < report.part_count; i++)
        bad += report.part[i].missing + report.part[i].stale +
               report.part[i].corrupt + report.part[i].unexpected;
    assert_false(report.data_lost);
    return bad;
}

static void
test_a_reference_file_is_damaged_or_gone(void **state)
{
    struct lsvd_report report;
    char path[600];
    struct pair p;

    (void)state;
    begin(&p, &one, &three);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    close_copy(&p);
    assert_int_equal(findings(&p), 0);
    damage(&p, 'a', 200);
    refs_path(&p, 'b', path);
    assert_int_equal(unlink(path), 0);
    open_copy(&p);
    check(&p);
    close_copy(&p);
    damage(&p, 'c', 30);
    damage(&p, 'c', 30); /* and back */
    (void)findings(&p); /* what the reader met may have been mended */
    MUST(lsvd_rebuild(&p.world.env, "v2", 0, false, NULL, &report));
    assert_int_equal(findings(&p), 0);
    open_copy(&p);
    check(&p);
    end(&p);
}

static void
test_all_reference_files_are_gone(void **state)
{
    struct lsvd_report report;
    char path[600], away[600];
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    close_copy(&p);
    refs_path(&p, 'a', path);
    (void)snprintf(away, sizeof away, "%s/refs-away", p.world.path);
    assert_int_equal(rename(path, away), 0);
    open_copy(&p);
    assert_int_equal(lsvd_pread(p.copy, p.found, p.block, 0), -EIO);
    MUST(lsvd_pread(p.copy, p.found, CHUNK, CHUNK)); /* another chunk */
    assert_memory_equal(p.found, p.model + CHUNK, CHUNK);
    close_copy(&p);
    MUST(lsvd_verify(&p.world.env, "v2", true, NULL, &report));
    assert_true(report.data_lost);
    assert_false(report.policy_met);
    assert_int_equal(rename(away, path), 0);
    open_copy(&p);
    check(&p);
    end(&p);
}

/* The chunk file of a part, to another place; or back. */
static void
hide_chunk(struct pair *p, char part, unsigned chunk, bool hidden)
{
    char path[600], away[600];

    (void)snprintf(path, sizeof path, "%s/%d/%c/%u", p->world.data, COPY, part,
                   chunk);
    (void)snprintf(away, sizeof away, "%s/away-%c-%u", p->world.path, part,
                   chunk);
    assert_int_equal(hidden ? rename(path, away) : rename(away, path), 0);
}

static int
read_found(struct pair *p, uint64_t at, size_t count)
{
    int r = lsvd_pread(p->copy, p->found, count, at);

    if (r == 0)
        assert_memory_equal(p->found, p->model + at, count);
    return r;
}

/* RF6: who reads a chunk that is nothing but references, and zeroes, does not
 * open its file; a block that is overwritten or trimmed is seen. */
static void
without_chunk_files(const struct kind *kind, unsigned parts)
{
    static const uint8_t zeroes[65536];
    struct pair p;

    begin(&p, kind, kind);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    drain(&p);
    for (unsigned step = 0; step < 4; step++) {
        bool alike = step % 2 == 0;

        close_copy(&p);
        for (unsigned i = 0; i < parts; i++)
            hide_chunk(&p, (char)('a' + i), 1, true);
        open_copy(&p);
        if (alike)
            MUST(read_found(&p, 0, CHUNK));
        else
            assert_int_equal(read_found(&p, 0, CHUNK), -EIO);
        close_copy(&p);
        for (unsigned i = 0; i < parts; i++)
            hide_chunk(&p, (char)('a' + i), 1, false);
        open_copy(&p);
        check(&p);
        if (step == 0) { /* a byte of its own */
            write_at(&p, "x", 1, 5 * p.block + 3);
        } else if (step == 1) { /* all references once more */
            write_at(&p, p.source + 5 * p.block, p.block, 5 * p.block);
            assert_int_equal(dedupe(&p).blocks_matched, 1);
        } else if (step == 2) { /* zeroes where the file has a reference */
            memcpy(p.model + 6 * p.block, zeroes, p.block);
            MUST(lsvd_zero(p.copy, p.block, 6 * p.block, 0));
        }
        check(&p);
        drain(&p);
        check(&p);
    }
    end(&p);
}

static void
test_without_chunk_files(void **state)
{
    (void)state;
    without_chunk_files(&one, 1);
    without_chunk_files(&three, 3);
    without_chunk_files(&ec21, 3);
}

static void
count_lost(void *ctx, const struct lsvd_lost_range *range)
{
    *(uint64_t *)ctx += range->count;
}

/* RF6: with the journal gone cells may be ahead of the tables, and count. */
static void
test_without_the_journal(void **state)
{
    uint64_t lost = 0;
    const struct lsvd_repair_callbacks cb = {.lost = count_lost, .ctx = &lost};
    struct lsvd_report report;
    char path[600], uuid[37];
    struct pair p;

    (void)state;
    begin(&p, &one, &three);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    drain(&p);
    uuid_format(&p.copy->meta.uuid, uuid);
    lsvd_abandon(p.copy);
    p.copy = NULL;
    (void)snprintf(path, sizeof path, "%s/%s.journal", p.world.cache, uuid);
    assert_int_equal(unlink(path), 0);
    MUST(lsvd_force_start(&p.world.env, "v2", "somebody", "a test", &cb,
                          &report));
    assert_true(report.journal_given_up);
    assert_int_equal(lost, 0);
    for (char part = 'a'; part <= 'c'; part++)
        hide_chunk(&p, part, 1, true);
    open_copy(&p);
    assert_int_equal(read_found(&p, 0, CHUNK), -EIO);
    close_copy(&p);
    for (char part = 'a'; part <= 'c'; part++)
        hide_chunk(&p, part, 1, false);
    open_copy(&p);
    check(&p);
    end(&p);
}

/* RF6: a reference file that was made later, for what a cut then lost. */
static void
test_a_newer_reference_file(void **state)
{
    struct references *all;
    struct geometry g;
    struct uuid uuid;
    char path[600];
    struct target *dir;
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    drain(&p);
    g = p.copy->g;
    uuid = p.copy->meta.uuid;
    close_copy(&p);
    (void)snprintf(path, sizeof path, "%s/%d/a", p.world.data, COPY);
    MUST(io_system()->ops->open_dir(io_system(), path, 0, &dir));
    MUST(references_load(dir, &g, &uuid, 1, &all));
    assert_int_equal(all->block[1].volume, 0); /* it is zeroes */
    all->block[1] = all->block[0];
    all->seq++;
    MUST(references_store(dir, all));
    references_free(all);
    target_close(dir);
    open_copy(&p);
    check(&p);
    end(&p);
}

/* A cut while a chunk is destaged leaves a table that does not tell which cells
 * are references: those that it had stay so, whatever comes first. */
static void
test_a_table_that_was_torn(void **state)
{
    char path[600];
    struct pair p;

    (void)state;
    begin(&p, &one, &one);
    write_at(&p, p.source, 10 * 4096, 0);
    assert_int_equal(dedupe(&p).blocks_matched, 9);
    close_copy(&p);
    (void)snprintf(path, sizeof path, "%s/%d/a/1", p.world.data, COPY);
    flip(path, 4096 + 63 * 16 + 8); /* of a block that was never written */
    open_copy(&p);
    write_at(&p, p.source + 30 * 4096, 4096, 20 * 4096);
    assert_int_equal(dedupe(&p).blocks_matched, 1);
    drain(&p);
    reopen(&p, false);
    check(&p);
    end(&p);
}

/* ---- a snapshot and a clone of a volume with references ---- */

static void
test_below_a_snapshot(void **state)
{
    struct lsvd_volume *frozen;
    uint8_t *then;
    struct pair p;

    (void)state;
    begin(&p, &one, &ec21);
    write_at(&p, p.source, HALF, 0);
    (void)dedupe(&p);
    close_copy(&p);
    then = malloc(BYTES);
    assert_non_null(then);
    memcpy(then, p.model, BYTES);
    MUST(lsvd_snapshot_create(&p.world.env, "v2@then"));
    open_copy(&p);
    write_at(&p, p.source + 9 * 4096, 30 * 4096, 0);
    (void)dedupe(&p);
    check(&p);
    reopen(&p, false);
    check(&p);
    close_copy(&p);
    MUST(lsvd_open(&p.world.env, "v2@then", LSVD_OPEN_READ_ONLY, &frozen));
    MUST(lsvd_pread(frozen, p.found, BYTES, 0));
    assert_memory_equal(p.found, then, BYTES);
    MUST(lsvd_close(frozen));
    MUST(lsvd_flatten(&p.world.env, "v2", 0, NULL));
    open_copy(&p);
    check(&p);
    free(then);
    close_copy(&p);
    check_sound(&p, "v2@then");
    end(&p);
}

/* ---- and its own blocks ---- */

static int
run_at_once(void *ctx, int (*fn)(void *arg), void *arg,
            char text[LSVD_TEXT_BYTES])
{
    int r = fn(arg);

    (void)ctx;
    (void)snprintf(text, LSVD_TEXT_BYTES, "%s", lsvd_error());
    return r;
}

static int
dedupe_snapshot(struct pair *p, const char *name, bool estimate,
                const char *const *sources, struct lsvd_dedupe_report *ret)
{
    const struct lsvd_alone alone = {.run = run_at_once};
    const struct lsvd_dedupe spec = {.sources = sources,
                                     .estimate = estimate,
                                     .snapshot = name};

    return lsvd_live_dedupe(p->copy, &p->world.env, &spec, &alone, NULL, ret);
}

static void
check_named(struct pair *p, const char *name, const uint8_t *what)
{
    struct lsvd_volume *v;

    MUST(lsvd_open(&p->world.env, name, LSVD_OPEN_READ_ONLY, &v));
    MUST(lsvd_pread(v, p->found, BYTES, 0));
    assert_memory_equal(p->found, what, BYTES);
    MUST(lsvd_close(v));
}

/* v2@then has half of what v1 has, v2@later more, and v2 something else. */
static void
take_two(struct pair *p, uint8_t *then)
{
    write_at(p, p->source, HALF, 0);
    close_copy(p);
    memcpy(then, p->model, BYTES);
    MUST(lsvd_snapshot_create(&p->world.env, "v2@then"));
    open_copy(p);
    write_at(p, p->source, CHUNK, HALF);
    close_copy(p);
    MUST(lsvd_snapshot_create(&p->world.env, "v2@later"));
    open_copy(p);
    write_at(p, p->source + 9 * 4096, 30 * 4096, 0);
}

static void
snapshots_of(const struct kind *kind)
{
    static const char *const later[] = {"v2@later", NULL};
    struct lsvd_dedupe_report report, told;
    const struct lsvd_dedupe spec = {.sources = v1};
    uint8_t *then = malloc(BYTES);
    struct pair p;

    assert_non_null(then);
    begin(&p, &one, kind);
    take_two(&p, then);
    assert_int_equal(dedupe_snapshot(&p, "v2@never", false, v1, &report),
                     -EXDEV);
    assert_int_equal(dedupe_snapshot(&p, "v2@never", true, v1, &report),
                     -EXDEV);
    assert_int_equal(dedupe_snapshot(&p, "v2@then", false, later, &report),
                     -ELOOP);
    MUST(dedupe_snapshot(&p, "v2@then", true, v1, &told));
    MUST(dedupe_snapshot(&p, "v2@then", false, v1, &report));
    assert_int_equal(report.blocks_matched, HALF / 4096 - 1);
    assert_int_equal(report.blocks_zero, 1);
    assert_int_equal(told.blocks_matched, report.blocks_matched);
    assert_true(told.bytes_given_back >=
                report.bytes_given_back / 100 * 97);
    assert_true(told.bytes_given_back <=
                report.bytes_given_back / 100 * 103);
    check(&p);
    check_named(&p, "v2@then", then);
    MUST(dedupe_snapshot(&p, "v2@then", false, v1, &report));
    assert_int_equal(report.blocks_matched + report.blocks_zero, 0);
    assert_int_equal(lsvd_remove(&p.world.env, NAME), -EBUSY);
    reopen(&p, true);
    check(&p);
    close_copy(&p);
    /* the other one, of a volume that nobody serves; and the first, back */
    MUST(lsvd_dedupe(&p.world.env, "v2@later", &spec, NULL, &report));
    assert_int_equal(report.blocks_matched, CHUNK / 4096 - 1);
    MUST(lsvd_rehydrate(&p.world.env, "v2@then", &spec, NULL, &report));
    assert_int_equal(report.blocks_matched, HALF / 4096 - 1);
    check_named(&p, "v2@then", then);
    check_sound(&p, "v2@then");
    check_sound(&p, "v2@later");
    MUST(lsvd_snapshot_remove(&p.world.env, "v2@then", 0, NULL));
    MUST(lsvd_snapshot_remove(&p.world.env, "v2@later", 0, NULL));
    open_copy(&p);
    check(&p);
    end(&p);
    free(then);
}

static void
test_of_snapshots(void **state)
{
    (void)state;
    snapshots_of(&one);
    snapshots_of(&three);
    snapshots_of(&ec21);
}

/* Without all its parts it is not added to, and stays as it is. */
static void
test_of_a_snapshot_that_lacks_a_part(void **state)
{
    const struct lsvd_dedupe spec = {.sources = v1};
    struct lsvd_dedupe_report report;
    char there[600], away[600];
    uint8_t *then = malloc(BYTES);
    struct pair p;

    (void)state;
    assert_non_null(then);
    begin(&p, &one, &three);
    take_two(&p, then);
    close_copy(&p);
    (void)snprintf(there, sizeof there, "%s/%d/b", p.world.data, COPY);
    (void)snprintf(away, sizeof away, "%s/b-away", p.world.path);
    assert_int_equal(rename(there, away), 0);
    assert_int_equal(lsvd_dedupe(&p.world.env, "v2@then", &spec, NULL,
                                 &report), -EIO);
    assert_non_null(strstr(lsvd_error(), "not all its parts are in sync"));
    open_copy(&p);
    assert_int_equal(dedupe_snapshot(&p, "v2@then", false, v1, &report),
                     -EIO);
    assert_non_null(strstr(lsvd_error(), "not all its parts are in sync"));
    check(&p);
    close_copy(&p);
    assert_int_equal(rename(away, there), 0);
    check_named(&p, "v2@then", then);
    open_copy(&p);
    MUST(dedupe_snapshot(&p, "v2@then", false, v1, &report));
    assert_int_equal(report.blocks_matched, HALF / 4096 - 1);
    check(&p);
    end(&p);
    free(then);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copy_gives_its_space_back),
        cmocka_unit_test(test_a_copy_of_the_journal_fails_meanwhile),
        cmocka_unit_test(test_blocks_of_512_bytes),
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_lives),
        cmocka_unit_test(test_collisions),
        cmocka_unit_test(test_a_source_stays_as_it_is),
        cmocka_unit_test(test_a_source_is_gone),
        cmocka_unit_test(test_a_source_was_changed),
        cmocka_unit_test(test_what_is_no_source),
        cmocka_unit_test(test_a_reference_file_is_damaged_or_gone),
        cmocka_unit_test(test_all_reference_files_are_gone),
        cmocka_unit_test(test_without_chunk_files),
        cmocka_unit_test(test_without_the_journal),
        cmocka_unit_test(test_a_newer_reference_file),
        cmocka_unit_test(test_a_table_that_was_torn),
        cmocka_unit_test(test_below_a_snapshot),
        cmocka_unit_test(test_of_snapshots),
        cmocka_unit_test(test_of_a_snapshot_that_lacks_a_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
