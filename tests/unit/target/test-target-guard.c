/* Directories that hang: who waits how long, what is still carried out, what
 * is kept, and when they may be used again. The letters are guard.h's. The
 * deadline is short only while something is meant to miss it. */
#include "unit.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/wait.h"
#include "gate-io.h"
#include "target/crew.h"
#include "target/guard.h"
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHORT_MS 30
#define LONG_MS 60000
#define FORKS 1000u
#define PATH "/mnt/b/11/b"

/* The fork test starts threads in the child: that is its point. */
__attribute__((visibility("default"))) const char *
__tsan_default_options(void);

const char *
__tsan_default_options(void)
{
    return "die_after_fork=0";
}

struct world {
    struct gate gate;
    struct io *io;
    struct target *t;
    struct object *a, *b;
    unsigned threads; /* before all this */
};

static unsigned
count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned n = 0;

    assert_non_null(tasks);
    while (readdir(tasks) != NULL)
        n++;
    (void)closedir(tasks);
    return n;
}

static int
open_dir(struct world *w, const char *path, struct target **ret)
{
    return w->io->ops->open_dir(w->io, path, 0, ret);
}

static void
open_both(struct world *w)
{
    assert_int_equal(open_dir(w, PATH, &w->t), 0);
    assert_int_equal(target_open(w->t, "a", OBJECT_WRITE | OBJECT_CREATE,
                                 &w->a), 0);
    assert_int_equal(target_open(w->t, "b", OBJECT_WRITE | OBJECT_CREATE,
                                 &w->b), 0);
}

static void
close_both(struct world *w)
{
    object_close(w->a);
    object_close(w->b);
    target_close(w->t);
    w->a = w->b = NULL;
    w->t = NULL;
}

static int
set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    if (w == NULL)
        return -1;
    w->threads = count_threads();
    gate_init(&w->gate);
    if (guard_new(&w->gate.io, LONG_MS, &w->io) < 0)
        return -1;
    open_both(w);
    *state = w;
    return 0;
}

/* Nothing is left: no object, no target, no thread. */
static int
tear_down(void **state)
{
    struct world *w = *state;

    gate_open(&w->gate);
    close_both(w);
    gate_wait_closed(&w->gate);
    guard_free(w->io);
    while (count_threads() > w->threads) /* one that was joined may show */
        pause_ms(1);
    gate_done(&w->gate);
    free(w);
    return 0;
}

static void
assert_error_names(const char *what)
{
    if (strstr(err_text(), what) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err_text(), what);
}

static struct guard_stats
stats_of(struct target *t)
{
    struct guard_stats stats;

    assert_true(guard_stats(t, &stats));
    return stats;
}

/* Let them go on, and wait until the crew has seen them all return. */
static void
let_return(struct world *w)
{
    guard_set_deadline(w->io, LONG_MS);
    gate_open(&w->gate);
    while (stats_of(w->t).abandoned > 0)
        pause_ms(1);
}

static void
assert_usable_again(struct world *w)
{
    char byte = 'x';

    let_return(w);
    assert_int_equal(object_read(w->a, &byte, 1, 0), -ETIMEDOUT);
    close_both(w);
    open_both(w);
    assert_int_equal(object_write(w->a, &byte, 1, 7), 0);
    assert_int_equal(object_sync(w->a), 0);
    byte = 0;
    assert_int_equal(object_read(w->a, &byte, 1, 7), 0);
    assert_int_equal(byte, 'x');
}

/* A call on a thread of its own. */
struct caller {
    pthread_t thread;
    struct object *o;
    int r;
    char byte, text[200];
    uint64_t at;
};

static void *
read_one(void *arg)
{
    struct caller *c = arg;

    c->r = object_read(c->o, &c->byte, 1, c->at);
    (void)strncpy(c->text, err_text(), sizeof c->text - 1);
    return NULL;
}

static void *
sync_one(void *arg)
{
    struct caller *c = arg;

    c->r = object_sync(c->o);
    return NULL;
}

static void
start(struct caller *c, struct object *o, void *(*call)(void *))
{
    memset(c, 0, sizeof *c);
    c->o = o;
    assert_int_equal(pthread_create(&c->thread, NULL, call, c), 0);
}

static int
finish(struct caller *c)
{
    assert_int_equal(pthread_join(c->thread, NULL), 0);
    return c->r;
}

/* ---- what is not hung ---- */

static void
calls_come_through(void **state)
{
    struct world *w = *state;
    struct target_space space;
    struct object_stat st;
    uint64_t begin, end;
    struct target *sub;
    char bytes[3] = { 1, 2, 3 };
    struct iovec iov[2] = { { bytes, 1 }, { bytes + 1, 2 } };

    assert_string_equal(w->t->path, PATH);
    assert_int_equal(object_writev(w->a, iov, 2, 100), 0);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(object_readv(w->a, iov, 2, 100), 0);
    assert_memory_equal(bytes, "\1\2\3", 3);
    assert_int_equal(object_stat(w->a, &st), 0);
    assert_int_equal(st.size_bytes, 103);
    assert_int_equal(object_punch(w->a, 0, 1), 0);
    assert_int_equal(object_allocate(w->a, 0, 1), 0);
    assert_int_equal(object_resize(w->a, 5), 0);
    assert_int_equal(object_next_data(w->a, 5, &begin, &end), 0);
    assert_int_equal(begin, 5);
    assert_int_equal(end, 6);
    object_drop_cache(w->a);
    assert_int_equal(object_lock(w->a, 0, 0, true), 0);
    assert_int_equal(object_lock(w->b, 0, 0, true), 0);
    assert_int_equal(object_unlock(w->a, 0, 0), 0);
    assert_int_equal(object_is_locked(w->a, 0, 0), 0);
    assert_int_equal(object_sync(w->a), 0);
    assert_int_equal(target_space(w->t, &space), 0);
    assert_int_equal(space.device, 3);
    assert_int_equal(target_sync(w->t), 0);
    assert_int_equal(target_rename(w->t, "x", "y"), 0);
    assert_int_equal(target_remove(w->t, "x"), 0);
    assert_int_equal(target_remove_dir(w->t, "x"), 0);
    assert_int_equal(target_subdir(w->t, "c", 0, &sub), 0);
    assert_string_equal(sub->path, PATH "/c");
    target_close(sub);
    assert_int_equal(w->io->ops->now_ns(w->io), 42);
    assert_int_equal(w->io->ops->wall_seconds(w->io), 42);
    assert_int_equal(w->io->ops->random(w->io, bytes, 1), 0);
    assert_int_equal(bytes[0], 7);
}

/* Many names are one call: the inner target opens each if it knows no better.
 */
static void
names_are_asked_at_once(void **state)
{
    struct world *w = *state;
    const char *names[] = {"a", "none", "b"};
    struct target_named named[3];
    struct guard_stats before, after;

    assert_int_equal(object_write(w->b, "x", 1, 76), 0);
    assert_int_equal(object_sync(w->b), 0);
    before = stats_of(w->t);
    assert_int_equal(target_stat_names(w->t, names, 3, named), 0);
    assert_int_equal(named[0].error, 0);
    assert_int_equal(named[0].size_bytes, 0);
    assert_int_equal(named[1].error, -ENOENT);
    assert_int_equal(named[2].error, 0);
    assert_int_equal(named[2].size_bytes, 77);
    after = stats_of(w->t);
    assert_int_equal(after.latency[GUARD_OTHER].count,
                     before.latency[GUARD_OTHER].count + 1);
    gate_shut(&w->gate, 1u << GATE_OPEN, NULL);
    guard_set_deadline(w->io, SHORT_MS);
    assert_int_equal(target_stat_names(w->t, names, 3, named), -ETIMEDOUT);
    let_return(w);
}

/* What every first use of a chunk does: one hand-over, not two. */
static void
opening_tells_the_size_at_once(void **state)
{
    struct world *w = *state;
    struct guard_stats before, after;
    struct object_stat st;
    struct object *o;

    assert_int_equal(object_write(w->b, "x", 1, 76), 0);
    assert_int_equal(object_sync(w->b), 0);
    before = stats_of(w->t);
    assert_int_equal(target_open_stat(w->t, "b", 0, &st, &o), 0);
    assert_int_equal(st.size_bytes, 77);
    after = stats_of(w->t);
    assert_int_equal(after.latency[GUARD_OTHER].count,
                     before.latency[GUARD_OTHER].count + 1);
    object_close(o);
    assert_int_equal(target_open_stat(w->t, "none", 0, &st, &o), -ENOENT);
    /* It was opened, and could not be asked; then it comes too late. */
    gate_fail(&w->gate, GATE_STAT, -EIO);
    assert_int_equal(target_open_stat(w->t, "b", 0, &st, &o), -EIO);
    gate_fail(&w->gate, GATE_STAT, 0);
    gate_shut(&w->gate, 1u << GATE_STAT, NULL);
    guard_set_deadline(w->io, SHORT_MS);
    assert_int_equal(target_open_stat(w->t, "b", 0, &st, &o), -ETIMEDOUT);
    assert_usable_again(w);
    assert_int_equal(w->gate.open_objects, 2);
}

static void
errors_come_through_with_their_text(void **state)
{
    struct world *w = *state;
    struct target *t;
    struct object *o;

    assert_int_equal(target_open(w->t, "none", 0, &o), -ENOENT);
    assert_error_names("none: is missing");
    gate_fail(&w->gate, GATE_READ, -EIO);
    assert_int_equal(object_read(w->a, &(char){ 0 }, 1, 0), -EIO);
    assert_error_names("the test wants it so");
    gate_fail(&w->gate, GATE_OPEN_DIR, -ENOTDIR);
    assert_int_equal(open_dir(w, "/elsewhere", &t), -ENOTDIR);
    assert_int_equal(target_subdir(w->t, "c", 0, &t), -ENOTDIR);
    assert_int_equal(stats_of(w->t).errors, 1); /* a missing file is none */
    gate_fail(&w->gate, GATE_READ, 0);
    assert_int_equal(object_read(w->a, &(char){ 0 }, 1, 0), 0);
}

/* G4: in order, joined where one goes on where the other ends. */
static void
writes_keep_their_order(void **state)
{
    struct world *w = *state;
    uint8_t bytes[64];

    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    assert_int_equal(object_write(w->a, "x", 1, 5000), 0);
    gate_wait_inside(&w->gate, 1);
    for (unsigned i = 0; i < 200; i++) { /* 8 places, again and again */
        memset(bytes, (int)i, sizeof bytes);
        assert_int_equal(object_write(w->a, bytes, 64, i % 8 * 64), 0);
    }
    assert_int_equal(object_punch(w->a, 0, 1), 0);
    gate_open(&w->gate);
    assert_int_equal(object_sync(w->a), 0);
    assert_int_equal(w->gate.pieces, 201);
    assert_int_equal(w->gate.logged, 1 + 200 / 8);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(w->gate.file[0].bytes[i * 64 + 63], 192 + i);
}

/* One operation, in order with the others; the memory is the caller's again. */
static void
pieces_go_together(void **state)
{
    static const uint64_t places[] = {0, 64, 128, 1000, 4000, 4064, 500};
    enum { COUNT = sizeof places / sizeof places[0], RUNS = 4 };
    struct world *w = *state;
    struct object_piece piece[COUNT];
    uint8_t bytes[COUNT][64];

    for (unsigned i = 0; i < COUNT; i++) {
        memset(bytes[i], (int)(1 + i), sizeof bytes[i]);
        piece[i] = (struct object_piece){places[i], {bytes[i], 64}};
    }
    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    assert_int_equal(object_write(w->a, "x", 1, 5000), 0);
    gate_wait_inside(&w->gate, 1);
    assert_int_equal(object_write_pieces(w->a, piece, COUNT), 0);
    memset(bytes, 0xee, sizeof bytes);
    assert_int_equal(object_write(w->a, "y", 1, 1000), 0);
    assert_int_equal(stats_of(w->t).queued, 2);
    gate_open(&w->gate);
    assert_int_equal(object_sync(w->a), 0);
    assert_int_equal(w->gate.logged, 1 + RUNS + 1);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(w->gate.file[0].bytes[places[i] + 63], 1 + i);
    assert_int_equal(w->gate.file[0].bytes[1000], 'y');

    gate_fail(&w->gate, GATE_WRITE, -ENOSPC);
    assert_int_equal(object_write_pieces(w->a, piece, COUNT), 0);
    assert_int_equal(object_sync(w->a), -ENOSPC);
    assert_int_equal(w->gate.logged, 1 + RUNS + 1 + 1); /* none behind it */
}

/* G5: even if the bytes are at hand. */
static void
reads_see_queued_writes(void **state)
{
    struct world *w = *state;
    struct guard_stats stats;
    struct caller reader;

    w->gate.try_works = true;
    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    assert_int_equal(object_write(w->a, "w", 1, 0), 0);
    start(&reader, w->a, read_one);
    do { /* until it is queued, or, wrongly, done */
        pause_ms(1);
        stats = stats_of(w->t);
    } while (stats.queued == 0 && stats.latency[GUARD_READ].count == 0);
    gate_open(&w->gate);
    assert_int_equal(finish(&reader), 0);
    assert_int_equal(reader.byte, 'w');
    assert_int_equal(object_sync(w->a), 0);
}

/* A sync changes nothing that a read could see, and takes its time. */
static void
reads_do_not_wait_for_syncs(void **state)
{
    struct world *w = *state;
    struct caller syncer, reader;

    assert_int_equal(object_write(w->a, "w", 1, 0), 0);
    assert_int_equal(object_sync(w->a), 0);
    gate_shut(&w->gate, 1u << GATE_SYNC, NULL);
    start(&syncer, w->a, sync_one);
    gate_wait_inside(&w->gate, 1);
    start(&reader, w->a, read_one);
    assert_int_equal(finish(&reader), 0);
    assert_int_equal(reader.byte, 'w');
    w->gate.try_works = true; /* and when the bytes are at hand */
    assert_int_equal(object_read(w->a, &reader.byte, 1, 0), 0);
    gate_open(&w->gate);
    assert_int_equal(finish(&syncer), 0);
}

/* One that stands behind a write goes before the sync that came first. */
static void
reads_go_before_queued_syncs(void **state)
{
    struct world *w = *state;
    struct caller syncer, reader;

    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    assert_int_equal(object_write(w->a, "w", 1, 0), 0);
    gate_wait_inside(&w->gate, 1);
    start(&syncer, w->a, sync_one);
    while (stats_of(w->t).queued != 1)
        pause_ms(1);
    start(&reader, w->a, read_one);
    while (stats_of(w->t).queued != 2)
        pause_ms(1);
    gate_shut(&w->gate, 1u << GATE_SYNC, NULL);
    assert_int_equal(finish(&reader), 0);
    assert_int_equal(reader.byte, 'w');
    assert_int_equal(stats_of(w->t).latency[GUARD_SYNC].count, 0);
    gate_open(&w->gate);
    assert_int_equal(finish(&syncer), 0);
}

/* As many as there are threads for leave some for what does not sync. */
static void
syncs_leave_threads_for_others(void **state)
{
    struct world *w = *state;
    struct object *o[CREW_THREADS_MAX + 2];
    struct caller syncer[CREW_THREADS_MAX + 2];
    char name[8] = "f0", byte;

    for (unsigned i = 0; i < CREW_THREADS_MAX + 2; i++) {
        name[1] = (char)('0' + i);
        assert_int_equal(target_open(w->t, name, OBJECT_WRITE |
                                     OBJECT_CREATE, &o[i]), 0);
    }
    gate_shut(&w->gate, 1u << GATE_SYNC, NULL);
    for (unsigned i = 0; i < CREW_THREADS_MAX + 2; i++)
        start(&syncer[i], o[i], sync_one);
    gate_wait_inside(&w->gate, CREW_THREADS_MAX);
    assert_int_equal(object_write(w->b, "w", 1, 0), 0);
    assert_int_equal(object_read(w->b, &byte, 1, 0), 0); /* behind it */
    assert_int_equal(byte, 'w');
    gate_open(&w->gate);
    for (unsigned i = 0; i < CREW_THREADS_MAX + 2; i++) {
        assert_int_equal(finish(&syncer[i]), 0);
        object_close(o[i]);
    }
}

static void
reads_at_hand_need_no_thread(void **state)
{
    struct world *w = *state;
    char byte;

    w->gate.try_works = true;
    gate_shut(&w->gate, 1u << GATE_READ, NULL);
    assert_int_equal(object_read(w->a, &byte, 1, 0), 0);
    assert_int_equal(gate_count(&w->gate, GATE_READ), 0);
    w->gate.try_works = false;
    gate_open(&w->gate);
    assert_int_equal(object_read(w->a, &byte, 1, 0), 0);
    assert_int_equal(gate_count(&w->gate, GATE_READ), 1);
}

static void
objects_go_side_by_side(void **state)
{
    struct world *w = *state;
    struct caller reader[4];
    char byte;

    gate_shut(&w->gate, 1u << GATE_WRITE, "a");
    assert_int_equal(object_write(w->a, "x", 1, 0), 0);
    assert_int_equal(object_write(w->b, "y", 1, 0), 0);
    assert_int_equal(object_sync(w->b), 0);
    assert_int_equal(object_read(w->b, &byte, 1, 0), 0);
    assert_int_equal(byte, 'y');
    assert_int_equal(target_sync(w->t), 0);
    gate_shut(&w->gate, 1u << GATE_WRITE | 1u << GATE_READ, NULL);
    for (unsigned i = 0; i < 4; i++) /* of one object, too */
        start(&reader[i], w->b, read_one);
    gate_wait_inside(&w->gate, 5);
    gate_open(&w->gate);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(finish(&reader[i]), 0);
}

static void
threads_are_bounded(void **state)
{
    struct world *w = *state;
    struct caller reader[CREW_THREADS_MAX + 4];

    gate_shut(&w->gate, 1u << GATE_READ, NULL);
    for (unsigned i = 0; i < CREW_THREADS_MAX + 4; i++)
        start(&reader[i], w->a, read_one);
    gate_wait_inside(&w->gate, CREW_THREADS_MAX);
    while (stats_of(w->t).queued != 4)
        pause_ms(1);
    gate_open(&w->gate);
    for (unsigned i = 0; i < CREW_THREADS_MAX + 4; i++)
        assert_int_equal(finish(&reader[i]), 0);
    assert_true(w->gate.inside_max <= CREW_THREADS_MAX);
    assert_int_equal(stats_of(w->t).latency[GUARD_READ].count,
                     CREW_THREADS_MAX + 4);
}

/* More objects than threads, each with always more to write: none starves. */
static void
objects_take_turns(void **state)
{
    struct world *w = *state;
    struct object *o[CREW_THREADS_MAX + 2];
    char name[8] = "f0";

    for (unsigned i = 0; i < CREW_THREADS_MAX + 2; i++) {
        name[1] = (char)('0' + i);
        assert_int_equal(target_open(w->t, name, OBJECT_WRITE |
                                     OBJECT_CREATE, &o[i]), 0);
    }
    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    for (unsigned n = 0; n < 50; n++)
        for (unsigned i = 0; i < CREW_THREADS_MAX + 2; i++)
            assert_int_equal(object_write(o[i], "x", 1, n * 2), 0);
    gate_open(&w->gate);
    for (unsigned i = 0; i < CREW_THREADS_MAX + 2; i++) {
        assert_int_equal(object_sync(o[i]), 0);
        object_close(o[i]);
    }
    assert_int_equal(gate_count(&w->gate, GATE_WRITE),
                     50 * (CREW_THREADS_MAX + 2));
}

/* G4: the first error stays, and nothing behind it is carried out. */
static void
errors_of_queued_writes_stick(void **state)
{
    struct world *w = *state;
    char byte;

    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    gate_fail(&w->gate, GATE_WRITE, -ENOSPC);
    assert_int_equal(object_write(w->a, "1", 1, 0), 0);
    assert_int_equal(object_write(w->a, "2", 1, 100), 0);
    assert_int_equal(object_punch(w->a, 100, 1), 0);
    gate_wait_inside(&w->gate, 1);
    gate_open(&w->gate);
    (void)err_set(-1, "nothing");
    assert_int_equal(object_sync(w->a), -ENOSPC);
    assert_error_names("a: the test wants it so");
    gate_fail(&w->gate, GATE_WRITE, 0);
    assert_int_equal(gate_count(&w->gate, GATE_WRITE), 1);
    (void)err_set(-1, "nothing");
    assert_int_equal(object_write(w->a, "3", 1, 0), -ENOSPC);
    assert_error_names("a: the test wants it so");
    assert_int_equal(object_read(w->a, &byte, 1, 0), 0); /* as it is there */
    w->gate.try_works = true;
    assert_int_equal(object_read(w->a, &byte, 1, 0), 0);
    assert_int_equal(object_resize(w->a, 1), -ENOSPC);
    assert_int_equal(object_write(w->b, "3", 1, 0), 0);
    assert_int_equal(object_sync(w->b), 0);
    object_close(w->a);
    assert_int_equal(target_open(w->t, "a", OBJECT_WRITE, &w->a), 0);
    assert_int_equal(object_write(w->a, "4", 1, 0), 0);
    assert_int_equal(object_sync(w->a), 0);
}

static void
a_failed_sync_does_not_stick(void **state)
{
    struct world *w = *state;

    gate_fail(&w->gate, GATE_SYNC, -EIO);
    assert_int_equal(object_sync(w->a), -EIO);
    gate_fail(&w->gate, GATE_SYNC, 0);
    assert_int_equal(object_sync(w->a), 0);
}

static void
a_close_leaves_nothing_behind(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < 300; i++) {
        struct object *o;

        assert_int_equal(target_open(w->t, "l", OBJECT_WRITE | OBJECT_CREATE,
                                     &o), 0);
        assert_int_equal(object_lock(o, 0, 0, true), 0);
        assert_int_equal(object_write(o, "x", 1, 2 * i), 0);
        object_close(o); /* not synced: written all the same */
        assert_int_equal(w->gate.open_objects, 2);
        assert_int_equal(gate_count(&w->gate, GATE_WRITE), i + 1);
    }
}

struct listing {
    pthread_t thread;
    unsigned names, stop_at;
};

static int
count_name(void *ctx, const char *name)
{
    struct listing *l = ctx;

    assert_true(pthread_equal(l->thread, pthread_self()));
    assert_int_equal(strlen(name), 1);
    return ++l->names == l->stop_at ? 77 : 0;
}

static void
names_are_told_on_the_callers_thread(void **state)
{
    struct world *w = *state;
    struct listing all = { .thread = pthread_self() };
    struct listing one = { .thread = pthread_self(), .stop_at = 1 };

    assert_int_equal(target_list(w->t, count_name, &all), 0);
    assert_int_equal(all.names, 2);
    assert_int_equal(target_list(w->t, count_name, &one), 77);
    assert_int_equal(one.names, 1);
    gate_fail(&w->gate, GATE_LIST, -EIO);
    assert_int_equal(target_list(w->t, count_name, &one), -EIO);
    assert_int_equal(one.names, 1);
}

/* ---- what hangs ---- */

/* G1, G2, G3 for one call that is waited for. */
static void
a_hung_read_is_given_up(void **state)
{
    struct world *w = *state;
    char *buffer = malloc(100);
    struct target *t;
    struct object *o;

    assert_non_null(buffer);
    gate_shut(&w->gate, 1u << GATE_READ, NULL);
    guard_set_deadline(w->io, SHORT_MS);
    assert_int_equal(object_read(w->a, buffer, 100, 0), -ETIMEDOUT);
    assert_error_names(PATH "/a: no answer for 0.0");
    free(buffer); /* it is not touched any more */
    guard_set_deadline(w->io, LONG_MS);
    assert_int_equal(object_write(w->b, "x", 1, 0), -ETIMEDOUT);
    assert_error_names(PATH "/b: 1 operation has not come back for ");
    assert_int_equal(target_open(w->t, "a", 0, &o), -ETIMEDOUT);
    assert_error_names(PATH ": 1 operation has not come back for ");
    assert_int_equal(target_list(w->t, count_name, NULL), -ETIMEDOUT);
    assert_int_equal(open_dir(w, "/mnt//b/11/b/", &t), -ETIMEDOUT);
    assert_error_names(PATH ": 1 operation has not come back for ");
    assert_int_equal(stats_of(w->t).abandoned, 1);
    assert_int_equal(stats_of(w->t).running, 0);
    assert_int_equal(stats_of(w->t).timeouts, 1);
    assert_usable_again(w);
}

/* G3: not even when the directory comes back. */
static void
what_had_not_begun_is_never_carried_out(void **state)
{
    struct world *w = *state;
    char *bytes = malloc(5000);

    assert_non_null(bytes);
    memset(bytes, 5, 5000);
    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(object_write(w->a, bytes, 5000, 20000 - i), 0);
    free(bytes); /* G2: the writes have their own */
    gate_wait_inside(&w->gate, 1);
    guard_set_deadline(w->io, SHORT_MS);
    assert_int_equal(object_sync(w->a), -ETIMEDOUT);
    assert_int_equal(object_sync(w->a), -ETIMEDOUT);
    assert_usable_again(w);
    assert_int_equal(w->gate.log[0], 20000);
    assert_int_equal(w->gate.logged, 2); /* the first, and the new one */
    assert_int_equal(gate_count(&w->gate, GATE_SYNC), 1);
}

static void
every_call_misses_the_deadline(void **state)
{
    static const unsigned kinds[] = { GATE_OPEN_DIR, GATE_OPEN, GATE_NAMES,
                                      GATE_LIST, GATE_DIR_SYNC, GATE_SYNC,
                                      GATE_STAT, GATE_LOCK };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct target_space space;
        struct target *t;
        struct object *o;
        int r = 1;

        gate_shut(&w->gate, 1u << kinds[i], NULL);
        guard_set_deadline(w->io, SHORT_MS);
        if (kinds[i] == GATE_OPEN_DIR)
            r = open_dir(w, PATH, &t);
        else if (kinds[i] == GATE_OPEN)
            r = target_open(w->t, "a", 0, &o);
        else if (kinds[i] == GATE_NAMES)
            r = target_rename(w->t, "a", "c");
        else if (kinds[i] == GATE_LIST)
            r = target_list(w->t, count_name, NULL);
        else if (kinds[i] == GATE_DIR_SYNC)
            r = target_sync(w->t);
        else if (kinds[i] == GATE_SYNC)
            r = object_sync(w->a);
        else if (kinds[i] == GATE_STAT)
            r = target_space(w->t, &space);
        else
            r = object_lock(w->a, 0, 0, true);
        assert_int_equal(r, -ETIMEDOUT);
        assert_error_names(PATH);
        assert_error_names(": no answer for ");
        assert_usable_again(w);
    }
    /* What was opened too late has been closed. */
    assert_int_equal(w->gate.open_objects, 2);
    assert_int_equal(w->gate.open_targets, 1);
}

static void
a_child_directory_is_a_crew_of_its_own(void **state)
{
    struct world *w = *state;
    struct target *child, *again;
    struct object *o;

    assert_int_equal(target_subdir(w->t, "c", 0, &child), 0);
    assert_int_equal(target_open(child, "x", OBJECT_WRITE | OBJECT_CREATE,
                                 &o), 0);
    gate_shut(&w->gate, 1u << GATE_SYNC, "x");
    guard_set_deadline(w->io, SHORT_MS);
    assert_int_equal(object_sync(o), -ETIMEDOUT);
    guard_set_deadline(w->io, LONG_MS);
    assert_int_equal(target_subdir(w->t, "c", 0, &again), -ETIMEDOUT);
    assert_error_names(PATH "/c: 1 operation");
    assert_int_equal(open_dir(w, PATH "/c", &again), -ETIMEDOUT);
    assert_int_equal(object_sync(w->a), 0); /* the one above is well */
    object_close(o);
    gate_open(&w->gate);
    while (stats_of(child).abandoned > 0)
        pause_ms(1);
    target_close(child);

    /* One that can't be opened in time, and is closed when it is. */
    gate_shut(&w->gate, 1u << GATE_OPEN_DIR, "c");
    guard_set_deadline(w->io, SHORT_MS);
    while (target_subdir(w->t, "c", 0, &again) != -ETIMEDOUT)
        target_close(again);
    guard_set_deadline(w->io, LONG_MS);
    assert_int_equal(object_sync(w->a), 0);
}

/* The deadline of who waits already. */
static void
a_new_deadline_counts_at_once(void **state)
{
    struct world *w = *state;
    struct caller waiter[3];

    gate_shut(&w->gate, 1u << GATE_SYNC | 1u << GATE_READ, NULL);
    start(&waiter[0], w->a, sync_one);
    start(&waiter[1], w->b, read_one);
    gate_wait_inside(&w->gate, 2);
    start(&waiter[2], w->a, read_one); /* behind the sync, or too late */
    guard_set_deadline(w->io, SHORT_MS);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(finish(&waiter[i]), -ETIMEDOUT);
    assert_usable_again(w);
}

/* What is under way is waited for, nothing else is begun. */
static void
who_refuses_begins_nothing(void **state)
{
    struct world *w = *state;
    struct caller waiter[2];
    struct target *t;
    struct object *o;

    gate_shut(&w->gate, 1u << GATE_SYNC | 1u << GATE_READ, NULL);
    start(&waiter[0], w->a, sync_one);
    start(&waiter[1], w->b, read_one);
    gate_wait_inside(&w->gate, 2);
    guard_refuse(w->io, LONG_MS);
    assert_int_equal(object_sync(w->b), -ECANCELED);
    assert_error_names(PATH "/b: not done any more");
    assert_int_equal(object_write(w->b, "x", 1, 0), -ECANCELED);
    assert_int_equal(target_open(w->t, "c", 0, &o), -ECANCELED);
    assert_int_equal(target_list(w->t, count_name, NULL), -ECANCELED);
    assert_int_equal(open_dir(w, "/mnt/b/11/c", &t), -ECANCELED);
    gate_open(&w->gate);
    assert_int_equal(finish(&waiter[0]), 0);
    assert_int_equal(finish(&waiter[1]), 0);
    assert_int_equal(stats_of(w->t).timeouts, 0);
}

/* … and given up as ever when it hangs. */
static void
who_refuses_waits_no_longer(void **state)
{
    struct world *w = *state;
    struct caller waiter;

    gate_shut(&w->gate, 1u << GATE_SYNC, NULL);
    start(&waiter, w->a, sync_one);
    gate_wait_inside(&w->gate, 1);
    guard_refuse(w->io, SHORT_MS);
    assert_int_equal(finish(&waiter), -ETIMEDOUT);
    gate_open(&w->gate);
    while (stats_of(w->t).abandoned > 0)
        pause_ms(1);
}

static void
giving_up_frees_all_who_wait(void **state)
{
    struct world *w = *state;
    struct caller waiter[3];

    guard_give_up(w->t); /* nothing is under way: nothing happens */
    assert_int_equal(object_sync(w->a), 0);
    gate_shut(&w->gate, 1u << GATE_READ, NULL);
    for (unsigned i = 0; i < 3; i++)
        start(&waiter[i], i == 0 ? w->a : w->b, read_one);
    gate_wait_inside(&w->gate, 3);
    guard_give_up(w->t);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(finish(&waiter[i]), -ETIMEDOUT);
        assert_non_null(strstr(waiter[i].text, "no answer for "));
    }
    assert_int_equal(stats_of(w->t).abandoned, 3);
    assert_usable_again(w);
}

static void
a_hang_is_seen_without_a_waiter(void **state)
{
    struct world *w = *state;

    assert_false(guard_is_hung(w->t));
    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    assert_int_equal(object_write(w->a, "x", 1, 0), 0);
    gate_wait_inside(&w->gate, 1);
    assert_false(guard_is_hung(w->t));
    assert_int_equal(stats_of(w->t).running, 1);
    guard_set_deadline(w->io, SHORT_MS);
    while (!guard_is_hung(w->t))
        pause_ms(1);
    assert_int_equal(stats_of(w->t).abandoned, 1);
    assert_true(guard_is_hung(w->t)); /* it stays dead */
    guard_set_deadline(w->io, LONG_MS);
    assert_int_equal(object_write(w->a, "x", 1, 0), -ETIMEDOUT);
    assert_usable_again(w);
}

static void
the_queue_is_bounded(void **state)
{
    static uint8_t bytes[1 << 20];
    struct world *w = *state;
    unsigned written = 0;
    int r;

    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    assert_int_equal(object_write(w->a, bytes, 1, 0), 0);
    gate_wait_inside(&w->gate, 1);
    guard_set_deadline(w->io, SHORT_MS);
    do {
        r = object_write(w->b, bytes, sizeof bytes, 0);
        written++;
    } while (r == 0 && written < 100);
    assert_int_equal(r, -ETIMEDOUT);
    assert_true(written <= CREW_QUEUE_BYTES_MAX / sizeof bytes + 1);
    assert_usable_again(w);

    /* It goes on when there is room. A single write may be larger. */
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(object_write(w->b, bytes, sizeof bytes,
                                      i * GATE_FILE_BYTES), 0);
    assert_int_equal(object_sync(w->b), 0);
}

/* The read goes on by itself, the crew lives. */
static void
patience_ends_before_the_deadline(void **state)
{
    struct world *w = *state;
    char *buffer = malloc(100);
    struct iovec iov = { buffer, 100 };
    struct object *inner;
    struct target *t;
    char byte = 0;

    assert_non_null(buffer);
    gate_shut(&w->gate, 1u << GATE_READ, NULL);
    assert_int_equal(guard_read_within(w->a, &iov, 1, 0, 1000000), -EAGAIN);
    free(buffer);
    gate_shut(&w->gate, 1u << GATE_READ, "a");
    assert_int_equal(object_write(w->a, "x", 1, 0), 0);
    assert_int_equal(object_sync(w->a), 0);
    gate_open(&w->gate);
    iov = (struct iovec){ &byte, 1 };
    assert_int_equal(guard_read_within(w->a, &iov, 1, 0, 60000000000), 0);
    assert_int_equal(byte, 'x');
    assert_int_equal(stats_of(w->t).timeouts, 0);

    /* One that has not begun is not begun any more. */
    gate_shut(&w->gate, 1u << GATE_WRITE, NULL);
    assert_int_equal(object_write(w->a, "y", 1, 0), 0);
    assert_int_equal(guard_read_within(w->a, &iov, 1, 0, 1), -EAGAIN);
    gate_open(&w->gate);
    assert_int_equal(object_sync(w->a), 0);
    assert_true(gate_count(&w->gate, GATE_READ) <= 2);

    /* Not guarded. */
    assert_int_equal(w->gate.io.ops->open_dir(&w->gate.io, "p", 0, &t), 0);
    assert_int_equal(target_open(t, "a", 0, &inner), 0);
    assert_int_equal(guard_read_within(inner, &iov, 1, 0, 1), 0);
    assert_int_equal(byte, 'y');
    assert_false(guard_stats(t, &(struct guard_stats){ .errors = 1 }));
    assert_false(guard_is_hung(t));
    guard_give_up(t);
    object_close(inner);
    target_close(t);
}

/* One thread waits for two directories, each of which keeps its own time. */
static void
reads_of_two_directories_go_side_by_side(void **state)
{
    struct world *w = *state;
    char got[2][4] = { "", "" };
    struct iovec iov[2] = { { got[0], 4 }, { got[1], 4 } };
    struct guard_read read[2];
    struct object *other;
    struct target *t;

    assert_int_equal(object_write(w->a, "abcd", 4, 0), 0);
    assert_int_equal(object_sync(w->a), 0);
    assert_int_equal(open_dir(w, "/other", &t), 0);
    assert_int_equal(target_open(t, "a", 0, &other), 0);
    gate_shut(&w->gate, 1u << GATE_READ, NULL);
    guard_read_begin(w->a, &iov[0], 1, 0, 0, &read[0]);
    guard_read_begin(other, &iov[1], 1, 0, 0, &read[1]);
    gate_wait_inside(&w->gate, 2);
    gate_open(&w->gate);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(guard_read_end(&read[i]), 0);
        assert_memory_equal(got[i], "abcd", 4);
        assert_true(read[i].took_ns > 0);
    }

    /* Each has its own error, told at its end. */
    gate_fail(&w->gate, GATE_READ, -EIO);
    guard_read_begin(w->a, &iov[0], 1, 0, 0, &read[0]);
    assert_int_equal(guard_read_end(&read[0]), -EIO);
    gate_fail(&w->gate, GATE_READ, 0);
    guard_refuse(w->io, SHORT_MS);
    guard_read_begin(w->a, &iov[0], 1, 0, 0, &read[0]);
    guard_read_begin(other, &iov[1], 1, 0, 0, &read[1]);
    (void)err_set(-ENOENT, "of something else");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(guard_read_end(&read[i]), -ECANCELED);
        assert_non_null(strstr(err_text(), "not done any more"));
    }
    object_close(other);
    target_close(t);
}

/* What hangs is given up, and costs the other nothing but the wait. */
static void
one_of_two_reads_hangs(void **state)
{
    struct world *w = *state;
    char *got = malloc(4), healthy[4] = "";
    struct iovec iov[2] = { { got, 4 }, { healthy, 4 } };
    struct guard_read read[2];
    struct object *other;
    struct target *t;

    assert_non_null(got);
    assert_int_equal(object_write(w->b, "abcd", 4, 0), 0);
    assert_int_equal(object_sync(w->b), 0);
    assert_int_equal(open_dir(w, "/other", &t), 0);
    assert_int_equal(target_open(t, "b", 0, &other), 0);
    gate_shut(&w->gate, 1u << GATE_READ, "a");
    guard_set_deadline(w->io, SHORT_MS);
    guard_read_begin(w->a, &iov[0], 1, 0, 0, &read[0]);
    guard_read_begin(other, &iov[1], 1, 0, 0, &read[1]);
    assert_int_equal(guard_read_end(&read[0]), -ETIMEDOUT);
    assert_non_null(strstr(err_text(), PATH));
    free(got); /* G2 */
    assert_int_equal(guard_read_end(&read[1]), 0);
    assert_memory_equal(healthy, "abcd", 4);
    guard_set_deadline(w->io, LONG_MS);
    gate_open(&w->gate);
    object_close(other);
    target_close(t);
}

/* Bytes that are not copied: who began may let go of them at any time. */
static void
one_of_two_shared_writes_hangs(void **state)
{
    struct world *w = *state;
    struct guard_write write[2];
    struct shared *bytes;
    char got[4] = "";
    struct iovec iov;
    struct object *other;
    struct target *t;

    assert_int_equal(shared_new(4, &bytes), 0);
    memcpy(shared_bytes(bytes), "abcd", 4);
    iov = (struct iovec){ shared_bytes(bytes), 4 };
    assert_int_equal(open_dir(w, "/other", &t), 0);
    assert_int_equal(target_open(t, "b", OBJECT_WRITE | OBJECT_CREATE,
                                 &other), 0);
    gate_shut(&w->gate, 1u << GATE_WRITE, "a");
    guard_set_deadline(w->io, SHORT_MS);
    guard_write_begin(w->a, bytes, &iov, 1, 0, &write[0]);
    guard_write_begin(other, bytes, &iov, 1, 0, &write[1]);
    shared_put(bytes); /* G2: the sanitizers watch the late one */
    assert_int_equal(guard_write_end(&write[1]), 0);
    assert_int_equal(guard_write_end(&write[0]), -ETIMEDOUT);
    assert_error_names(PATH);
    guard_set_deadline(w->io, LONG_MS);
    gate_open(&w->gate);
    assert_int_equal(object_read(other, got, 4, 0), 0);
    assert_memory_equal(got, "abcd", 4);

    /* An error is the write's alone; what is not guarded is over at once. */
    assert_int_equal(shared_new(4, &bytes), 0);
    iov.iov_base = memcpy(shared_bytes(bytes), "efgh", 4);
    gate_fail(&w->gate, GATE_WRITE, -EIO);
    guard_write_begin(other, bytes, &iov, 1, 0, &write[0]);
    assert_int_equal(guard_write_end(&write[0]), -EIO);
    gate_fail(&w->gate, GATE_WRITE, 0);
    assert_int_equal(object_sync(other), 0);
    guard_write_begin(other, bytes, &iov, 1, 0, &write[0]);
    assert_int_equal(guard_write_end(&write[0]), 0);
    shared_put(shared_hold(bytes));
    shared_put(bytes);
    shared_put(NULL);
    object_close(other);
    target_close(t);
}

static void
closing_what_hangs_is_quick(void **state)
{
    struct world *w = *state;
    struct target *t;

    gate_shut(&w->gate, 1u << GATE_WRITE | 1u << GATE_CLOSE, NULL);
    assert_int_equal(object_write(w->a, "x", 1, 0), 0);
    gate_wait_inside(&w->gate, 1);
    guard_set_deadline(w->io, SHORT_MS);
    close_both(w); /* all stand still */
    assert_true(w->gate.open_objects > 0);
    assert_int_equal(open_dir(w, PATH, &t), -ETIMEDOUT);
    guard_set_deadline(w->io, LONG_MS);
    gate_open(&w->gate);
    gate_wait_closed(&w->gate);
    while (open_dir(w, PATH, &t) == -ETIMEDOUT) /* any moment now */
        pause_ms(1);
    target_close(t);
    open_both(w);

    /* A close alone that hangs. */
    gate_shut(&w->gate, 1u << GATE_CLOSE, NULL);
    guard_set_deadline(w->io, SHORT_MS);
    object_close(w->a);
    assert_int_equal(w->gate.open_objects, 2);
    guard_set_deadline(w->io, LONG_MS);
    gate_open(&w->gate);
    assert_int_equal(target_open(w->t, "a", OBJECT_WRITE, &w->a), 0);
}

/* ---- memory ---- */

static int
use_all(struct world *w)
{
    struct target *t = NULL, *sub = NULL;
    struct object *o = NULL;
    char bytes[8] = { 0 };
    int r;

    r = open_dir(w, "/other", &t);
    if (r == 0)
        r = target_subdir(t, "sub", 0, &sub);
    if (r == 0)
        r = target_open(sub, "a", OBJECT_WRITE, &o);
    if (r == 0)
        r = object_write(o, bytes, sizeof bytes, 0);
    if (r == 0)
        r = object_sync(o);
    if (r == 0)
        r = object_read(o, bytes, sizeof bytes, 0);
    if (r == 0)
        r = target_list(sub, count_name,
                        &(struct listing){ .thread = pthread_self() });
    object_close(o);
    target_close(sub);
    target_close(t);
    return r;
}

static void
every_allocation_may_fail(void **state)
{
    struct world *w = *state;
    bool fired = true;
    long nth;

    for (nth = 0; fired; nth++) {
        int r;

        (void)mem_fail_after(nth);
        r = use_all(w);
        fired = mem_fail_after(-1);
        /* A further thread that can't be had is no error. */
        assert_true(r == 0 || (fired && r == -ENOMEM));
        assert_int_equal(w->gate.open_objects, 2);
        assert_int_equal(w->gate.open_targets, 1);
    }
    assert_true(nth > 15);
}

/* ---- fork ---- */

#define CHECK(what) do { if (!(what)) _exit(__LINE__ % 200 + 1); } while (0)

static void
in_child(struct world *w)
{
    struct target *t;
    struct object *o;
    char byte;

    pthread_cond_init(&w->gate.changed, NULL); /* its waiters are gone */
    w->gate.shut = 0;
    CHECK(stats_of(w->t).abandoned == 0);
    CHECK(stats_of(w->t).running == 0);
    CHECK(object_sync(w->a) == -EIO); /* its write is the parent's */
    CHECK(object_write(w->b, "b", 1, 0) == 0);
    CHECK(object_sync(w->b) == 0);
    CHECK(object_read(w->b, &byte, 1, 0) == 0 && byte == 'b');
    object_close(w->b);
    object_close(w->a);
    CHECK(open_dir(w, "/hung", &t) == 0);
    CHECK(target_open(t, "c", OBJECT_WRITE | OBJECT_CREATE, &o) == 0);
    CHECK(object_write(o, "c", 1, 0) == 0);
    CHECK(object_sync(o) == 0);
    object_close(o);
    target_close(t);
    _exit(0);
}

static void
a_fork_leaves_nothing_broken(void **state)
{
    struct world *w = *state;
    struct target *t;
    struct object *o;
    int status;
    pid_t child;

    assert_int_equal(object_write(w->b, "x", 1, 0), 0);
    assert_int_equal(object_sync(w->b), 0); /* threads are idle */
    assert_int_equal(open_dir(w, "/hung", &t), 0);
    assert_int_equal(target_open(t, "h", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    gate_shut(&w->gate, 1u << GATE_SYNC | 1u << GATE_WRITE, NULL);
    guard_set_deadline(w->io, SHORT_MS);
    assert_int_equal(object_sync(o), -ETIMEDOUT);
    guard_set_deadline(w->io, LONG_MS);
    assert_int_equal(object_write(w->a, "1", 1, 0), 0); /* running */
    gate_wait_inside(&w->gate, 2);
    assert_int_equal(object_write(w->a, "2", 1, 100), 0); /* queued */

    pthread_mutex_lock(&w->gate.lock); /* the test's own is ours to keep */
    child = fork();
    pthread_mutex_unlock(&w->gate.lock);
    assert_true(child >= 0);
    if (child == 0)
        in_child(w);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    gate_open(&w->gate);
    assert_int_equal(object_sync(w->a), 0); /* the parent knows */
    object_close(o);
    target_close(t);
}

/* Else each who closes in the child waits for one that is not there. */
static void
a_fork_counts_no_thread_that_is_ending(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < FORKS; i++) {
        struct target *t;
        int status;
        pid_t child;

        assert_int_equal(open_dir(w, "/ends", &t), 0);
        target_close(t);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct crew *c;

            CHECK(crew_get("/ends", &c) == 0);
            CHECK(atomic_load(&c->refs) == 1); /* our own */
            /* an exit would count the parent's threads, with a sanitizer */
            (void)raise(SIGKILL);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
}

/* ---- all at once ---- */

struct crowd {
    struct world *w;
    unsigned seed;
    unsigned timeouts, fine;
};

static int
call_something(struct object *o, unsigned n)
{
    char bytes[300] = { 0 };
    struct iovec iov = { bytes, sizeof bytes };
    struct object_stat st;
    int r;

    switch (n % 7) {
    case 0:
        return object_sync(o);
    case 1:
        return object_read(o, bytes, sizeof bytes, 0);
    case 2:
        r = guard_read_within(o, &iov, 1, 0, 20000);
        return r == -EAGAIN ? 0 : r;
    case 3:
        return object_stat(o, &st);
    default:
        return object_write(o, bytes, sizeof bytes, n % 64 * 300);
    }
}

static void *
be_many(void *arg)
{
    struct crowd *c = arg;
    unsigned n = c->seed;

    for (unsigned round = 0; round < 60; round++) {
        struct target *t;
        struct object *o;

        if (open_dir(c->w, PATH, &t) < 0) {
            c->timeouts++;
            continue;
        }
        if (target_open(t, n % 2 == 0 ? "a" : "b", OBJECT_WRITE, &o) == 0) {
            for (unsigned i = 0; i < 30; i++) {
                n = n * 1103515245 + 12345;
                if (call_something(o, n >> 16) < 0)
                    c->timeouts++;
                else
                    c->fine++;
            }
            if (n >> 20 & 1)
                guard_give_up(t);
            object_close(o);
        }
        target_close(t);
    }
    return NULL;
}

static void
a_crowd_with_giving_up(void **state)
{
    struct world *w = *state;
    struct crowd crowd[6];
    pthread_t thread[6];
    unsigned fine = 0;

    for (unsigned i = 0; i < 6; i++) {
        crowd[i] = (struct crowd){ .w = w, .seed = i + 1 };
        assert_int_equal(pthread_create(&thread[i], NULL, be_many,
                                        &crowd[i]), 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        fine += crowd[i].fine;
    }
    assert_true(fine > 0);
    while (stats_of(w->t).abandoned > 0)
        pause_ms(1);
    assert_int_equal(stats_of(w->t).queued, 0);
    close_both(w);
    open_both(w);
    assert_int_equal(object_sync(w->a), 0);
}

static void *
do_nothing(void *arg)
{
    return arg;
}

/* A sanitizer starts one of its own then, which is not to be counted. */
static int
first_thread(void **state)
{
    pthread_t thread;

    (void)state;
    if (pthread_create(&thread, NULL, do_nothing, NULL) != 0)
        return -1;
    return pthread_join(thread, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(calls_come_through),
        TEST(names_are_asked_at_once),
        TEST(opening_tells_the_size_at_once),
        TEST(errors_come_through_with_their_text),
        TEST(writes_keep_their_order),
        TEST(pieces_go_together),
        TEST(reads_see_queued_writes),
        TEST(reads_do_not_wait_for_syncs),
        TEST(reads_go_before_queued_syncs),
        TEST(syncs_leave_threads_for_others),
        TEST(reads_at_hand_need_no_thread),
        TEST(objects_go_side_by_side),
        TEST(threads_are_bounded),
        TEST(objects_take_turns),
        TEST(errors_of_queued_writes_stick),
        TEST(a_failed_sync_does_not_stick),
        TEST(a_close_leaves_nothing_behind),
        TEST(names_are_told_on_the_callers_thread),
        TEST(a_hung_read_is_given_up),
        TEST(what_had_not_begun_is_never_carried_out),
        TEST(every_call_misses_the_deadline),
        TEST(a_child_directory_is_a_crew_of_its_own),
        TEST(a_new_deadline_counts_at_once),
        TEST(who_refuses_begins_nothing),
        TEST(who_refuses_waits_no_longer),
        TEST(giving_up_frees_all_who_wait),
        TEST(a_hang_is_seen_without_a_waiter),
        TEST(the_queue_is_bounded),
        TEST(patience_ends_before_the_deadline),
        TEST(reads_of_two_directories_go_side_by_side),
        TEST(one_of_two_shared_writes_hangs),
        TEST(one_of_two_reads_hangs),
        TEST(closing_what_hangs_is_quick),
        TEST(every_allocation_may_fail),
        TEST(a_fork_leaves_nothing_broken),
        TEST(a_fork_counts_no_thread_that_is_ending),
        TEST(a_crowd_with_giving_up),
    };

    return cmocka_run_group_tests(tests, first_thread, NULL);
}
