/* A snapshot in the middle goes while the volume is used (AD1-AD3 of
 * volume/adding.h), and parts of parents come back (volume/renew.c): what is
 * refused, what is cut short, and requests on other threads meanwhile. */
#include "film.h"
#include "unit.h"
#include "volume/volume.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* As a server does it: requests are inside, who exchanges volumes is alone. */
struct gate {
    pthread_rwlock_t lock;
    int refuses; /* the how manieth time from now; 0: never */
};

static int
run_alone(void *ctx, int (*fn)(void *arg), void *arg,
          char text[LSVD_TEXT_BYTES])
{
    struct gate *gate = ctx;
    int r;

    if (gate->refuses > 0 && --gate->refuses == 0) {
        snprintf(text, LSVD_TEXT_BYTES, "busy");
        return -EBUSY;
    }
    pthread_rwlock_wrlock(&gate->lock);
    r = fn(arg);
    snprintf(text, LSVD_TEXT_BYTES, "%s", lsvd_error());
    pthread_rwlock_unlock(&gate->lock);
    return r;
}

static int
merge(struct film *f, struct gate *gate, const char *parent,
      const struct lsvd_repair_callbacks *cb)
{
    const struct lsvd_alone alone = {.run = run_alone, .ctx = gate};
    const struct lsvd_flatten spec = {.parent = parent};

    return lsvd_live_flatten(f->world.volume, &f->world.env, &spec, &alone, cb);
}

/* v1@x, v1@y, v1@z, each with blocks of its own; copies[i]: what it holds. */
static void
take_three(struct film *f, uint8_t *copies[3])
{
    static const char *const names[] = {"v1@x", "v1@y", "v1@z"};

    for (unsigned i = 0; i < 3; i++) {
        film_write_to_journal(f);
        film_trim(f, i * CHUNK, CHUNK / 2);
        film_snapshot(f, names[i]);
        copies[i] = test_malloc(BYTES);
        memcpy(copies[i], f->frozen, BYTES);
        film_put(f, (3 + i) * f->block, 5 * f->block);
    }
}

static void
free_three(uint8_t *copies[3])
{
    for (unsigned i = 0; i < 3; i++)
        test_free(copies[i]);
}

static bool
at_once(void *ctx)
{
    int *left = ctx;

    return (*left)-- <= 0;
}

static void
test_refused_or_cut_short(void **state)
{
    struct gate gate = {.lock = PTHREAD_RWLOCK_INITIALIZER};
    struct lsvd_repair_callbacks cb = {.cancelled = at_once};
    struct lsvd_volume *other;
    uint8_t *copies[3];
    struct film f;

    (void)state;
    film_begin(&f, &film_mirror, 1, true);
    take_three(&f, copies);
    assert_int_equal(merge(&f, &gate, "v1@nowhere", NULL), -EXDEV);
    /* somebody reads it, AD2 */
    MUST(lsvd_open(&f.world.env, "v1@y", LSVD_OPEN_READ_ONLY, &other));
    assert_int_equal(merge(&f, &gate, "v1@x", NULL), -EBUSY);
    MUST(lsvd_close(other));
    /* the gate can't be shut, the first time or the second */
    for (int i = 1; i <= 2; i++) {
        gate.refuses = i;
        assert_int_equal(merge(&f, &gate, "v1@x", NULL), -EBUSY);
        film_check(&f);
    }
    /* cut short at each step */
    for (int looks = 0, n;; looks++) {
        int r;

        n = looks;
        cb.ctx = &n;
        r = merge(&f, &gate, "v1@x", &cb);
        if (r == 0)
            break;
        assert_int_equal(r, -EINTR);
        film_check(&f);
        assert_true(lsvd_snapshot_tend(f.world.volume));
        film_check_named(&f, "v1@y", copies[1]);
    }
    film_check(&f);
    MUST(lsvd_remove(&f.world.env, "v1@x"));
    world_close(&f.world);
    film_check_unknown(&f, "v1@x");
    film_check_named(&f, "v1@y", copies[1]);
    film_check_named(&f, "v1@z", copies[2]);
    film_check_sound(&f, "v1@y");
    free_three(copies);
    film_end(&f);
}

/* ---- requests meanwhile ---- */

struct client {
    struct film *f;
    struct gate *gate;
    pthread_t thread;
    atomic_bool over;
    uint64_t done;
};

static void *
use(void *arg)
{
    struct client *c = arg;
    uint64_t random = 7, at;
    uint8_t *block = test_malloc(c->f->block);

    while (!atomic_load(&c->over) || c->done < 100) {
        at = random_below(&random, BYTES / c->f->block) * c->f->block;
        pthread_rwlock_rdlock(&c->gate->lock);
        if (c->done % 3 == 0)
            memset(block, (int)c->done, c->f->block);
        if (c->done % 3 == 0)
            MUST(lsvd_pwrite(c->f->world.volume, block, c->f->block, at, 0));
        else
            MUST(lsvd_pread(c->f->world.volume, block, c->f->block, at));
        pthread_rwlock_unlock(&c->gate->lock);
        if (c->done % 3 == 0)
            memcpy(c->f->model + at, block, c->f->block);
        else
            assert_memory_equal(block, c->f->model + at, c->f->block);
        (void)world_status(&c->f->world); /* goes through the parents, too */
        c->done++;
    }
    test_free(block);
    return NULL;
}

static void
use_while_merged(const struct kind *kind)
{
    struct gate gate = {.lock = PTHREAD_RWLOCK_INITIALIZER};
    struct client c = {.gate = &gate};
    uint8_t *copies[3];
    struct film f;

    film_begin(&f, kind, 1, false);
    take_three(&f, copies);
    MUST(lsvd_start(f.world.volume));
    c.f = &f;
    assert_int_equal(pthread_create(&c.thread, NULL, use, &c), 0);
    MUST(merge(&f, &gate, "v1@y", NULL));
    MUST(lsvd_remove(&f.world.env, "v1@y"));
    MUST(merge(&f, &gate, "v1@x", NULL));
    MUST(lsvd_remove(&f.world.env, "v1@x"));
    atomic_store(&c.over, true);
    pthread_join(c.thread, NULL);
    film_check(&f);
    world_close(&f.world);
    film_check_named(&f, "v1@z", copies[2]);
    film_check_sound(&f, "v1@z");
    free_three(copies);
    film_end(&f);
}

static void
test_requests_meanwhile(void **state)
{
    (void)state;
    use_while_merged(&film_mirror);
    use_while_merged(&film_ec);
}

/* A volume that holds this, read-only. */
static void
make_source(struct film *f, const struct kind *kind, const uint8_t *what)
{
    struct lsvd_create spec = {.name = "same",
                               .size_bytes = BYTES,
                               .chunk_bytes = CHUNK,
                               .block_bytes = kind->block_bytes,
                               .replicas = 1,
                               .journal_bytes = 1u << 20};
    struct lsvd_volume *v;

    MUST(lsvd_create(&f->world.env, &spec));
    MUST(lsvd_open(&f->world.env, "same", 0, &v));
    MUST(lsvd_pwrite(v, what, BYTES, 0, 0));
    MUST(lsvd_close(v));
    MUST(lsvd_set(&f->world.env, "same", "read-only", "on"));
}

static void
use_while_deduped(const struct kind *kind)
{
    static const char *const same[] = {"same", NULL};
    struct gate gate = {.lock = PTHREAD_RWLOCK_INITIALIZER};
    const struct lsvd_alone alone = {.run = run_alone, .ctx = &gate};
    const struct lsvd_dedupe spec = {.sources = same, .snapshot = "v1@y"};
    struct lsvd_dedupe_report report;
    struct client c = {.gate = &gate};
    uint8_t *copies[3];
    struct film f;

    film_begin(&f, kind, 1, false);
    take_three(&f, copies);
    make_source(&f, kind, copies[1]);
    MUST(lsvd_start(f.world.volume));
    c.f = &f;
    assert_int_equal(pthread_create(&c.thread, NULL, use, &c), 0);
    for (unsigned i = 0; i < 3; i++) {
        MUST(lsvd_live_dedupe(f.world.volume, &f.world.env, &spec, &alone,
                              NULL, &report));
        assert_int_not_equal(report.blocks_matched, 0);
        MUST(lsvd_live_rehydrate(f.world.volume, &f.world.env, &spec, &alone,
                                 NULL, &report));
        assert_int_not_equal(report.blocks_matched, 0);
    }
    atomic_store(&c.over, true);
    pthread_join(c.thread, NULL);
    film_check(&f);
    world_close(&f.world);
    film_check_named(&f, "v1@y", copies[1]);
    film_check_named(&f, "v1@z", copies[2]);
    film_check_sound(&f, "v1@y");
    MUST(lsvd_remove(&f.world.env, "same"));
    free_three(copies);
    film_end(&f);
}

static void
test_requests_while_a_snapshot_is_deduped(void **state)
{
    (void)state;
    use_while_deduped(&film_mirror);
    use_while_deduped(&film_ec);
}

/* ---- parts that are back ---- */

static void
test_parts_of_parents_are_back(void **state)
{
    struct gate gate = {.lock = PTHREAD_RWLOCK_INITIALIZER};
    const struct lsvd_alone alone = {.run = run_alone, .ctx = &gate};
    struct client c = {.gate = &gate};
    uint8_t *copies[3];
    struct film f;

    (void)state;
    film_begin(&f, &film_triple, 1, true);
    take_three(&f, copies);
    world_close(&f.world);
    film_move(f.root[1], "11", f.world.path, "away");
    world_open(&f.world);
    MUST(lsvd_start(f.world.volume));
    c.f = &f;
    assert_int_equal(pthread_create(&c.thread, NULL, use, &c), 0);
    lsvd_renew_needed(f.world.volume, &f.world.env, &alone);
    film_move(f.world.path, "away", f.root[1], "11");
    /* the next look is due in some seconds */
    while (f.world.volume->renewed == 0)
        lsvd_renew_needed(f.world.volume, &f.world.env, &alone);
    atomic_store(&c.over, true);
    pthread_join(c.thread, NULL);
    for (struct lsvd_volume *p = f.world.volume->parent; p; p = p->parent)
        assert_int_equal(p->usable, volume_all_parts(p));
    film_check(&f);
    world_close(&f.world);
    free_three(copies);
    film_end(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_or_cut_short),
        cmocka_unit_test(test_requests_meanwhile),
        cmocka_unit_test(test_requests_while_a_snapshot_is_deduped),
        cmocka_unit_test(test_parts_of_parents_are_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
