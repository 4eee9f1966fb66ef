/* The mirror by itself, over targets in memory that refuse when told. */
#include "unit.h"
#include "base/err.h"
#include "target/mirror.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 64 << 10 };

enum refuse { WRITES = 1, SYNCS = 2, READS = 4, OPENS = 8, LOCKS = 16,
              ALLOCATES = 32 };

/* One object in memory. */
struct fake {
    struct target target;
    struct object object;
    uint8_t bytes[BYTES];
    uint64_t size;
    atomic_uint refuse;
    atomic_uint writes, syncs;
    unsigned locks, open;
    bool cannot_allocate, exists;
    struct meeting *meeting; /* syncs wait there for each other */
    _Atomic(void (*)(struct fake *f)) during; /* called once, by a write */
};

/* Two syncs at the same time, or nobody goes on. */
struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t came;
    unsigned count;
};

static struct fake *
of(struct target *t)
{
    return (struct fake *)t;
}

static int
ask(struct target *t, unsigned what)
{
    return of(t)->refuse & what ? err_set(-EIO, "%s refuses", t->path) : 0;
}

static int
fake_open(struct target *t, const char *name, unsigned flags,
          struct object **ret)
{
    if (ask(t, OPENS) < 0)
        return -EIO;
    if (!of(t)->exists && !(flags & OBJECT_CREATE))
        return err_set(-ENOENT, "%s/%s: none", t->path, name);
    of(t)->exists = true;
    of(t)->open++;
    of(t)->object = (struct object){.ops = t->ops, .target = t};
    *ret = &of(t)->object;
    return 0;
}

static int
fake_target_sync(struct target *t)
{
    return ask(t, SYNCS);
}

static void
fake_close(struct target *t)
{
    assert_int_equal(of(t)->open, 0);
    free(t->path);
    t->path = NULL;
}

static int
fake_readv(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    if (ask(o->target, READS) < 0)
        return -EIO;
    for (int i = 0; i < count; at += iov[i++].iov_len)
        memcpy(iov[i].iov_base, of(o->target)->bytes + at, iov[i].iov_len);
    return 0;
}

static int
fake_writev(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    void (*during)(struct fake *f) =
        atomic_exchange(&of(o->target)->during, NULL);

    atomic_fetch_add(&of(o->target)->writes, 1);
    if (during)
        during(of(o->target));
    if (ask(o->target, WRITES) < 0)
        return -EIO;
    for (int i = 0; i < count; at += iov[i++].iov_len)
        memcpy(of(o->target)->bytes + at, iov[i].iov_base, iov[i].iov_len);
    return 0;
}

static int
fake_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    (void)at;
    (void)bytes;
    if (of(o->target)->cannot_allocate)
        return err_set(-EOPNOTSUPP, "can't");
    return ask(o->target, ALLOCATES);
}

static int
fake_resize(struct object *o, uint64_t bytes)
{
    if (ask(o->target, ALLOCATES) < 0)
        return -EIO;
    of(o->target)->size = bytes;
    return 0;
}

static int
fake_sync(struct object *o)
{
    struct meeting *m = of(o->target)->meeting;

    atomic_fetch_add(&of(o->target)->syncs, 1);
    if (m) {
        pthread_mutex_lock(&m->lock);
        m->count++;
        pthread_cond_broadcast(&m->came);
        while (m->count % 2 != 0)
            pthread_cond_wait(&m->came, &m->lock);
        pthread_mutex_unlock(&m->lock);
    }
    return ask(o->target, SYNCS);
}

static int
fake_stat(struct object *o, struct object_stat *ret)
{
    *ret = (struct object_stat){.size_bytes = of(o->target)->size,
                                .allocated_bytes = of(o->target)->size};
    return 0;
}

static void
fake_drop_cache(struct object *o)
{
    (void)o;
}

static int
fake_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    (void)at;
    (void)bytes;
    (void)exclusive;
    if (of(o->target)->refuse & LOCKS)
        return err_set(-EBUSY, "%s is locked", o->target->path);
    of(o->target)->locks++;
    return 0;
}

static void
fake_object_close(struct object *o)
{
    of(o->target)->open--;
    of(o->target)->locks = 0;
}

static const struct target_ops fake_ops = {
    .open = fake_open,
    .sync = fake_target_sync,
    .close = fake_close,
    .readv = fake_readv,
    .writev = fake_writev,
    .allocate = fake_allocate,
    .resize = fake_resize,
    .object_sync = fake_sync,
    .stat = fake_stat,
    .drop_cache = fake_drop_cache,
    .lock = fake_lock,
    .object_close = fake_object_close,
};

struct rig {
    struct fake fake[2];
    struct target *mirror;
    struct object *o;
    atomic_uint lost;
    char lost_path[64];
};

static void
on_lost(void *ctx, const char *path, const char *why)
{
    struct rig *rig = ctx;

    assert_non_null(strstr(why, "refuses"));
    snprintf(rig->lost_path, sizeof rig->lost_path, "%s", path);
    atomic_fetch_add(&rig->lost, 1);
}

static void
rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    for (unsigned i = 0; i < 2; i++) {
        rig->fake[i].target.ops = &fake_ops;
        rig->fake[i].target.path = strdup(i == 0 ? "/one" : "/two");
        assert_non_null(rig->fake[i].target.path);
        rig->fake[i].size = BYTES;
    }
    assert_int_equal(mirror_new(on_lost, rig, &rig->mirror), 0);
}

static int
rig_open(struct rig *rig)
{
    return target_open(rig->mirror, "j", OBJECT_WRITE | OBJECT_CREATE,
                       &rig->o);
}

static struct rig *
rig_new(void)
{
    struct rig *rig = malloc(sizeof *rig);

    assert_non_null(rig);
    rig_init(rig);
    assert_int_equal(mirror_add(rig->mirror, &rig->fake[0].target), 0);
    assert_int_equal(mirror_add(rig->mirror, &rig->fake[1].target), 0);
    assert_int_equal(rig_open(rig), 0);
    return rig;
}

static void
rig_free(struct rig *rig)
{
    object_close(rig->o);
    target_close(rig->mirror);
    free(rig);
}

static int
put(struct rig *rig, const char *text, uint64_t at)
{
    return object_write(rig->o, text, strlen(text), at);
}

static bool
holds(struct rig *rig, unsigned copy, const char *text, uint64_t at)
{
    return memcmp(rig->fake[copy].bytes + at, text, strlen(text)) == 0;
}

static void
test_both_get_all(void **state)
{
    struct rig *rig = rig_new();
    char text[4] = "";

    (void)state;
    assert_int_equal(put(rig, "abc", 100), 0);
    assert_int_equal(object_sync(rig->o), 0);
    assert_int_equal(object_allocate(rig->o, 0, BYTES), 0);
    assert_int_equal(object_resize(rig->o, 512), 0);
    assert_int_equal(target_sync(rig->mirror), 0);
    assert_int_equal(object_lock(rig->o, 0, 0, true), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(holds(rig, i, "abc", 100));
        assert_int_equal(rig->fake[i].syncs, 1);
        assert_int_equal(rig->fake[i].size, 512);
        assert_int_equal(rig->fake[i].locks, 1);
    }
    assert_int_equal(object_read(rig->o, text, 3, 100), 0);
    assert_string_equal(text, "abc");
    assert_int_equal(mirror_losses(rig->mirror), 0);
    assert_int_equal(mirror_copies(rig->mirror), 2);
    rig_free(rig);
}

/* MI1-MI4, whichever it is and whatever it refuses. */
static void
test_one_is_lost(void **state)
{
    (void)state;
    for (unsigned copy = 0; copy < 2; copy++) {
        for (unsigned what = WRITES; what <= SYNCS; what++) {
            struct rig *rig = rig_new();
            struct fake *bad = &rig->fake[copy];
            unsigned writes, syncs;

            assert_int_equal(put(rig, "old", 0), 0);
            bad->refuse = what;
            assert_int_equal(put(rig, "new", 0), 0);
            assert_int_equal(object_sync(rig->o), 0);
            assert_int_equal(mirror_losses(rig->mirror), 1);
            assert_int_equal(mirror_copies(rig->mirror), 1);
            assert_int_equal(rig->lost, 1);
            assert_string_equal(rig->lost_path, bad->target.path);
            assert_false(mirror_is_in(rig->mirror, bad->target.path));
            assert_true(mirror_is_in(rig->mirror,
                                     rig->fake[1 - copy].target.path));
            assert_true(holds(rig, 1 - copy, "new", 0));

            writes = bad->writes; /* MI2, also when it is well again */
            syncs = bad->syncs;
            bad->refuse = 0;
            assert_int_equal(put(rig, "newer", 0), 0);
            assert_int_equal(object_sync(rig->o), 0);
            assert_int_equal(bad->writes, writes);
            assert_int_equal(bad->syncs, syncs);

            rig->fake[1 - copy].refuse = what; /* MI3 */
            if (what == WRITES) {
                assert_int_equal(put(rig, "no", 0), -EIO);
                assert_non_null(strstr(err_text(), "refuses"));
            } else {
                assert_int_equal(object_sync(rig->o), -EIO);
            }
            assert_int_equal(mirror_losses(rig->mirror), 1);
            rig_free(rig);
        }
    }
}

static void
test_both_refuse(void **state)
{
    struct rig *rig = rig_new();

    (void)state;
    rig->fake[0].refuse = rig->fake[1].refuse = WRITES | SYNCS;
    assert_int_equal(put(rig, "x", 0), -EIO);
    assert_int_equal(object_sync(rig->o), -EIO);
    assert_int_equal(mirror_losses(rig->mirror), 0);
    assert_int_equal(mirror_copies(rig->mirror), 2);
    rig_free(rig);
}

static void
test_reads_ask_the_other(void **state)
{
    struct rig *rig = rig_new();
    char text[4] = "";

    (void)state;
    assert_int_equal(put(rig, "abc", 0), 0);
    rig->fake[1].bytes[1] = 'X'; /* rot */
    assert_int_equal(mirror_read(rig->o, 0, text, 3, 0), 0);
    assert_string_equal(text, "abc");
    assert_int_equal(mirror_read(rig->o, 1, text, 3, 0), 0);
    assert_string_equal(text, "aXc");
    assert_int_equal(mirror_read(rig->o, 2, text, 3, 0), -ENOENT);
    rig->fake[0].refuse = READS;
    assert_int_equal(object_read(rig->o, text, 3, 0), 0);
    assert_string_equal(text, "aXc");
    assert_int_equal(mirror_losses(rig->mirror), 0); /* it may be written */
    rig->fake[1].refuse = READS;
    assert_int_equal(object_read(rig->o, text, 3, 0), -EIO);
    /* an object that is no mirror's has one copy */
    rig->fake[1].refuse = 0;
    assert_int_equal(mirror_read(&rig->fake[1].object, 0, text, 3, 0), 0);
    assert_int_equal(mirror_read(&rig->fake[1].object, 1, text, 3, 0),
                     -ENOENT);
    rig_free(rig);
}

static void
test_one_can_not_be_made(void **state)
{
    struct rig *rig = malloc(sizeof *rig);

    (void)state;
    assert_non_null(rig);
    rig_init(rig);
    rig->fake[1].refuse = OPENS;
    assert_int_equal(mirror_add(rig->mirror, &rig->fake[0].target), 0);
    assert_int_equal(mirror_add(rig->mirror, &rig->fake[1].target), 0);
    assert_int_equal(rig_open(rig), 0);
    assert_int_equal(mirror_losses(rig->mirror), 1);
    assert_int_equal(put(rig, "a", 0), 0);
    object_close(rig->o);
    rig->fake[0].refuse = OPENS; /* the only one left */
    assert_int_equal(rig_open(rig), -EIO);
    target_close(rig->mirror);
    free(rig);
}

static void
test_added_while_open(void **state)
{
    struct rig *rig = malloc(sizeof *rig);

    (void)state;
    assert_non_null(rig);
    rig_init(rig);
    rig->fake[1].exists = true;
    assert_int_equal(mirror_add(rig->mirror, &rig->fake[0].target), 0);
    assert_int_equal(rig_open(rig), 0);
    assert_int_equal(put(rig, "before", 0), 0);
    assert_int_equal(mirror_add(rig->mirror, &rig->fake[1].target), 0);
    assert_int_equal(rig->fake[1].locks, 1);
    assert_int_equal(put(rig, "after", 10), 0);
    assert_true(holds(rig, 1, "after", 10));
    assert_false(holds(rig, 1, "before", 0));
    assert_int_equal(mirror_copies(rig->mirror), 2);
    assert_string_equal(rig->mirror->path, "/one + /two");
    rig_free(rig);
}

/* A mirror with one copy, that the other one joins. */
static struct rig *
rig_joining(void)
{
    struct rig *rig = malloc(sizeof *rig);
    struct object *o;

    assert_non_null(rig);
    rig_init(rig);
    assert_int_equal(mirror_add(rig->mirror, &rig->fake[0].target), 0);
    assert_int_equal(rig_open(rig), 0);
    assert_int_equal(put(rig, "before", 0), 0);
    assert_int_equal(target_open(&rig->fake[1].target, "j", OBJECT_CREATE,
                                 &o), 0);
    assert_true(mirror_join(rig->mirror, &rig->fake[1].target, o));
    return rig;
}

/* MI6. */
static void
test_one_joins(void **state)
{
    struct rig *rig = rig_joining();
    char text[8] = "";

    (void)state;
    assert_int_equal(mirror_copies(rig->mirror), 1);
    assert_false(mirror_is_in(rig->mirror, "/two"));
    assert_int_equal(put(rig, "after", 10), 0);
    assert_int_equal(object_sync(rig->o), 0);
    assert_true(holds(rig, 1, "after", 10));
    assert_int_equal(rig->fake[1].syncs, 1);
    rig->fake[0].refuse = READS; /* it is not read */
    assert_int_equal(object_read(rig->o, text, 5, 10), -EIO);
    assert_int_equal(mirror_read(rig->o, 1, text, 5, 10), -ENOENT);
    rig->fake[0].refuse = WRITES; /* nor relied on */
    assert_int_equal(put(rig, "never", 20), -EIO);
    assert_int_equal(mirror_losses(rig->mirror), 0);
    rig->fake[0].refuse = 0;
    assert_true(mirror_promote(rig->mirror));
    assert_int_equal(mirror_copies(rig->mirror), 2);
    rig->fake[0].refuse = WRITES | READS;
    assert_int_equal(put(rig, "alone", 30), 0);
    assert_int_equal(mirror_losses(rig->mirror), 1);
    assert_int_equal(object_read(rig->o, text, 5, 30), 0);
    assert_string_equal(text, "alone");
    rig_free(rig);
}

static void
test_one_joins_and_is_lost(void **state)
{
    (void)state;
    for (int by_us = 0; by_us < 2; by_us++) {
        struct rig *rig = rig_joining();

        if (by_us)
            mirror_lose_joining(rig->mirror);
        else
            rig->fake[1].refuse = SYNCS;
        assert_int_equal(put(rig, "after", 10), 0);
        assert_int_equal(object_sync(rig->o), 0);
        assert_int_equal(mirror_losses(rig->mirror), 1); /* MI4 */
        assert_false(mirror_promote(rig->mirror));
        assert_int_equal(mirror_copies(rig->mirror), 1);
        assert_int_equal(rig->fake[1].open, 1);
        assert_true(mirror_bury(rig->mirror));
        assert_int_equal(rig->fake[1].open, 0);
        rig_free(rig);
    }
}

static struct rig *burying;

/* Another write loses the copy while this one is at it. */
static void
lose_and_bury(struct fake *f)
{
    f->refuse = WRITES;
    assert_int_equal(put(burying, "other", 40), 0);
    assert_int_equal(mirror_losses(burying->mirror), 1);
    assert_false(mirror_bury(burying->mirror));
    assert_int_equal(f->open, 1);
}

/* MI5. */
static void
test_not_buried_while_used(void **state)
{
    struct rig *rig = burying = rig_new();

    (void)state;
    rig->fake[1].during = lose_and_bury;
    assert_int_equal(put(rig, "slow", 0), 0);
    assert_int_equal(rig->fake[1].open, 1);
    assert_true(mirror_bury(rig->mirror));
    assert_int_equal(rig->fake[1].open, 0);
    assert_true(mirror_bury(rig->mirror));
    rig_free(rig);
}

static void
test_locked_by_another(void **state)
{
    struct rig *rig = rig_new();

    (void)state;
    rig->fake[1].refuse = LOCKS;
    assert_int_equal(object_lock(rig->o, 0, 0, true), -EBUSY);
    assert_int_equal(mirror_losses(rig->mirror), 0);
    rig_free(rig);
}

static void
test_sizes_and_space(void **state)
{
    struct rig *rig = rig_new();
    struct object_stat st;

    (void)state;
    assert_int_equal(object_stat(rig->o, &st), 0);
    assert_int_equal(st.size_bytes, BYTES);
    rig->fake[1].size = 512; /* they differ: begin anew */
    assert_int_equal(object_stat(rig->o, &st), 0);
    assert_int_equal(st.size_bytes, 0);
    rig->fake[1].cannot_allocate = true; /* an answer, no failure */
    assert_int_equal(object_allocate(rig->o, 0, 512), -EOPNOTSUPP);
    assert_int_equal(mirror_losses(rig->mirror), 0);
    rig->fake[0].refuse = ALLOCATES;
    assert_int_equal(object_resize(rig->o, 1024), 0);
    assert_int_equal(mirror_losses(rig->mirror), 1);
    assert_int_equal(object_punch(rig->o, 0, 512), -ENOTSUP);
    rig_free(rig);
}

/* Each sync waits until the other one has begun. */
static void
test_syncs_run_side_by_side(void **state)
{
    struct meeting m = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .came = PTHREAD_COND_INITIALIZER};
    struct rig *rig = rig_new();

    (void)state;
    mirror_start(rig->mirror, 15000);
    rig->fake[0].meeting = rig->fake[1].meeting = &m;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(object_sync(rig->o), 0);
    assert_int_equal(m.count, 200);
    rig->fake[1].refuse = SYNCS;
    assert_int_equal(object_sync(rig->o), 0);
    assert_int_equal(mirror_losses(rig->mirror), 1);
    rig->fake[0].meeting = NULL;
    assert_int_equal(object_sync(rig->o), 0);
    rig_free(rig);
}

enum { WRITERS = 4, ROUNDS = 2000 };

struct writer {
    struct rig *rig;
    unsigned number;
    pthread_t thread;
};

/* Own bytes, alternating; one of the writers breaks a copy in the middle. */
static void *
write_on(void *arg)
{
    struct writer *w = arg;

    for (unsigned i = 1; i <= ROUNDS; i++) {
        uint32_t value = i;

        if (w->number == 0 && i == ROUNDS / 2)
            w->rig->fake[1].refuse = WRITES | SYNCS;
        if (object_write(w->rig->o, &value, sizeof value,
                         w->number * sizeof value) < 0)
            abort();
        if (i % 8 == 0 && object_sync(w->rig->o) < 0)
            abort();
    }
    return NULL;
}

static void
test_a_copy_dies_under_threads(void **state)
{
    struct writer w[WRITERS];
    struct rig *rig = rig_new();

    (void)state;
    mirror_start(rig->mirror, 15000);
    for (unsigned i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.rig = rig, .number = i};
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_on, &w[i]),
                         0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    assert_int_equal(mirror_losses(rig->mirror), 1);
    assert_int_equal(rig->lost, 1);
    for (unsigned i = 0; i < WRITERS; i++) {
        uint32_t value;

        assert_int_equal(object_read(rig->o, &value, sizeof value,
                                     i * sizeof value), 0);
        assert_int_equal(value, ROUNDS);
    }
    rig_free(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_get_all),
        cmocka_unit_test(test_one_is_lost),
        cmocka_unit_test(test_both_refuse),
        cmocka_unit_test(test_reads_ask_the_other),
        cmocka_unit_test(test_one_can_not_be_made),
        cmocka_unit_test(test_added_while_open),
        cmocka_unit_test(test_one_joins),
        cmocka_unit_test(test_one_joins_and_is_lost),
        cmocka_unit_test(test_not_buried_while_used),
        cmocka_unit_test(test_locked_by_another),
        cmocka_unit_test(test_sizes_and_space),
        cmocka_unit_test(test_syncs_run_side_by_side),
        cmocka_unit_test(test_a_copy_dies_under_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
