/* Many change what the same roots say, and none is lost. */
#include "volume/root_lock.h"
#include "unit.h"
#include "base/err.h"
#include "faulty-io.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ADDERS 8
#define THREADS 8
#define TURNS 40
#define LOCK_FILE ".volumesmeta.lock"

static const struct logger silent = {NULL, NULL};
static char *no_data[] = {NULL};

struct place {
    char dir[64], root[2][80], alias[80];
};

static int
set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);

    assert_non_null(p);
    strcpy(p->dir, "/tmp/lsvd-root-lock-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    for (int i = 0; i < 2; i++) {
        snprintf(p->root[i], sizeof p->root[i], "%s/r%d", p->dir, i);
        assert_int_equal(mkdir(p->root[i], 0700), 0);
    }
    snprintf(p->alias, sizeof p->alias, "%s/z", p->dir);
    assert_int_equal(symlink("r0", p->alias), 0);
    *state = p;
    return 0;
}

static int
tear_down(void **state)
{
    struct place *p = *state;
    char path[128];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/.volumesmeta", p->root[i]);
        (void)unlink(path);
        assert_int_equal(rmdir(p->root[i]), 0); /* nothing else is left */
    }
    assert_int_equal(unlink(p->alias), 0);
    assert_int_equal(rmdir(p->dir), 0);
    free(p);
    return 0;
}

/* ---- one root ---- */

static int
add(void *ctx, struct target *root, struct registry *registry, bool damaged,
    bool *ret_changed)
{
    const uint32_t *number = ctx;
    struct registry_entry entry = {.number = *number};

    (void)root;
    (void)damaged;
    *ret_changed = true;
    snprintf(entry.name, sizeof entry.name, "v%u", *number);
    memcpy(entry.uuid.b, number, sizeof *number);
    return registry_add(registry, &entry);
}

/* In a process of its own. */
static pid_t
begin_adding(const char *root, uint32_t first)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child > 0)
        return child;
    for (uint32_t number = first; number < first + TURNS; number++) {
        if (registry_change(io_system(), &silent, root, NULL, add,
                            &number) < 0)
            _exit(1);
    }
    _exit(0);
}

static size_t
count_entries(const char *path)
{
    struct registry registry;
    struct target *root;
    bool damaged;
    size_t count;

    assert_int_equal(io_system()->ops->open_dir(io_system(), path, 0, &root),
                     0);
    assert_int_equal(registry_load(root, &silent, &registry, &damaged), 0);
    assert_false(damaged);
    count = registry.count;
    registry_done(&registry);
    target_close(root);
    return count;
}

static void
all_entries_are_there(void **state)
{
    struct place *p = *state;
    pid_t child[ADDERS];
    int status;

    for (uint32_t i = 0; i < ADDERS; i++)
        child[i] = begin_adding(i % 2 ? p->alias : p->root[0],
                                VOLUME_NUMBER_FIRST + i * TURNS);
    for (int i = 0; i < ADDERS; i++) {
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(count_entries(p->root[0]), ADDERS * TURNS);
}

static int
change_nothing(void *ctx, struct target *root, struct registry *registry,
               bool damaged, bool *ret_changed)
{
    struct stat st;
    char path[128];

    (void)registry;
    (void)damaged;
    (void)ret_changed;
    snprintf(path, sizeof path, "%s/%s", root->path, LOCK_FILE);
    assert_int_not_equal(stat(path, &st), 0);
    ++*(int *)ctx;
    return 0;
}

static void
who_changes_nothing_locks_nothing(void **state)
{
    struct place *p = *state;
    int called = 0;

    assert_int_equal(registry_change(io_system(), &silent, p->root[0], NULL,
                                     change_nothing, &called), 0);
    assert_int_equal(called, 1);
}

static void
what_a_kill_has_left_is_nobodys(void **state)
{
    uint32_t number = VOLUME_NUMBER_FIRST;
    struct place *p = *state;
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", p->root[0], LOCK_FILE);
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(registry_change(io_system(), &silent, p->root[0], NULL,
                                     add, &number), 0);
    assert_int_equal(count_entries(p->root[0]), 1);
}

/* Somebody else lets go, and removes it, before we look where the name leads;
 * perhaps a third has come then. */
struct remover {
    const char *path;
    bool makes_anew;
    int opened;
};

static void
remove_it(void *ctx, const char *name)
{
    struct remover *r = ctx;

    if (strcmp(name, LOCK_FILE) != 0 || ++r->opened != 2)
        return;
    assert_int_equal(unlink(r->path), 0);
    if (r->makes_anew)
        fclose(fopen(r->path, "w"));
}

static void
a_lock_of_what_has_no_name_is_none(void **state)
{
    struct place *p = *state;
    char path[128];

    snprintf(path, sizeof path, "%s/%s", p->root[0], LOCK_FILE);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t number = VOLUME_NUMBER_FIRST + i;
        struct remover remover = {path, i > 0, 0};
        struct faulty_io faulty;

        faulty_io_init(&faulty);
        faulty.on_open = remove_it;
        faulty.on_open_ctx = &remover;
        assert_int_equal(registry_change(&faulty.io, &silent, p->root[0],
                                         NULL, add, &number), 0);
        /* once more, and before it is removed; what is there now is opened as
         * such */
        assert_int_equal(remover.opened, 5 + i);
    }
    assert_int_equal(count_entries(p->root[0]), 2);
}

/* ---- several ---- */

static void
meta_of(struct volume_meta *meta, char *a, char *b)
{
    memset(meta, 0, sizeof *meta);
    meta->part_count = 2;
    meta->part[0].root = a;
    meta->part[1].root = b;
}

struct taker {
    pthread_t thread;
    char *a, *b;
    unsigned *turns; /* of all: guarded by the locks alone */
    int failed;
};

static void *
take_all(void *ctx)
{
    struct taker *t = ctx;
    struct volume_meta meta;

    meta_of(&meta, t->a, t->b);
    for (int i = 0; i < TURNS; i++) {
        struct root_locks locks = {.count = 0};
        unsigned before;

        if (root_locks_take(io_system(), &meta, no_data, &locks) < 0) {
            t->failed++;
            break; /* each would wait for half a minute */
        }
        before = __atomic_load_n(t->turns, __ATOMIC_RELAXED);
        sched_yield();
        __atomic_store_n(t->turns, before + 1, __ATOMIC_RELAXED);
        root_locks_release(&locks);
    }
    return NULL;
}

/* Also who names them in another order, and one of them otherwise. */
static void
one_at_a_time_has_both(void **state)
{
    struct place *p = *state;
    struct taker taker[THREADS];
    unsigned turns = 0;

    for (int i = 0; i < THREADS; i++) {
        char *first = i % 4 == 3 ? p->alias : p->root[0];

        taker[i] = (struct taker){.a = i % 2 ? first : p->root[1],
                                  .b = i % 2 ? p->root[1] : first,
                                  .turns = &turns};
        assert_int_equal(pthread_create(&taker[i].thread, NULL, take_all,
                                        &taker[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(taker[i].thread, NULL);
        assert_int_equal(taker[i].failed, 0);
    }
    assert_int_equal(turns, THREADS * TURNS);
}

static void
a_root_with_two_paths_is_locked_once(void **state)
{
    struct root_locks locks = {.count = 0};
    uint32_t number = VOLUME_NUMBER_FIRST;
    struct place *p = *state;
    struct volume_meta meta;

    meta_of(&meta, p->root[0], p->alias);
    assert_int_equal(root_locks_take(io_system(), &meta, no_data, &locks), 0);
    assert_int_equal(registry_change(io_system(), &silent, p->root[0], &locks,
                                     add, &number), 0);
    number++;
    assert_int_equal(registry_change(io_system(), &silent, p->alias, &locks,
                                     add, &number), 0);
    root_locks_release(&locks);
    assert_int_equal(count_entries(p->root[0]), 2);
}

static void
without_a_root_none_is_locked(void **state)
{
    struct root_locks locks = {.count = 0};
    struct place *p = *state;
    struct volume_meta meta;
    char gone[128];

    snprintf(gone, sizeof gone, "%s/gone", p->dir);
    meta_of(&meta, p->root[0], gone);
    assert_int_equal(root_locks_take(io_system(), &meta, no_data, &locks),
                     -ENOENT);
    assert_int_equal(locks.count, 0);
    assert_non_null(strstr(err_text(), gone));
}

/* Somebody has removed it meanwhile, as he was told to; now it is his. */
static void
who_has_lost_a_lock_leaves_that_of_the_next(void **state)
{
    struct root_locks mine = {.count = 0}, next = {.count = 0};
    struct place *p = *state;
    struct volume_meta meta;
    char path[128];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", p->root[0], LOCK_FILE);
    meta_of(&meta, p->root[0], p->root[0]);
    assert_int_equal(root_locks_take(io_system(), &meta, no_data, &mine), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(root_locks_take(io_system(), &meta, no_data, &next), 0);
    root_locks_release(&mine);
    assert_int_equal(stat(path, &st), 0);
    root_locks_release(&next);
    assert_int_not_equal(stat(path, &st), 0);
}

/* A data directory that is not there, or can't be written, has no say. */
static void
data_directories_are_locked_too(void **state)
{
    struct root_locks locks = {.count = 0};
    struct place *p = *state;
    struct volume_meta meta;
    char gone[128], path[128];
    char *data[] = {p->root[1], gone, NULL};

    snprintf(gone, sizeof gone, "%s/gone", p->dir);
    meta_of(&meta, p->root[0], p->root[0]);
    assert_int_equal(root_locks_take(io_system(), &meta, data, &locks), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", p->root[i], LOCK_FILE);
        assert_int_equal(access(path, F_OK), 0);
    }
    root_locks_release(&locks);
}

/* A registry that is damaged is made anew by what lies below its root; not
 * while it can't be told what that is. */
static void
what_is_out_of_reach_is_not_forgotten(void **state)
{
    static const char damage[] = "nothing of ours";
    struct place *p = *state;
    char registry[100], volume[100], policy[120];
    uint32_t number = 11;
    struct stat st;
    FILE *file;

    snprintf(registry, sizeof registry, "%s/.volumesmeta", p->root[0]);
    snprintf(volume, sizeof volume, "%s/12", p->root[0]);
    snprintf(policy, sizeof policy, "%s/.meta", volume);
    assert_int_equal(mkdir(volume, 0700), 0);
    assert_int_equal(mkdir(policy, 0700), 0); /* which can't be read */
    file = fopen(registry, "w");
    assert_non_null(file);
    assert_true(fputs(damage, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(registry_change(io_system(), &silent, p->root[0], NULL,
                                     add, &number), -EIO);
    assert_non_null(strstr(err_text(), "what else belongs in it"));
    assert_int_equal(stat(registry, &st), 0);
    assert_int_equal(st.st_size, strlen(damage));
    assert_int_equal(rmdir(policy), 0);
    assert_int_equal(registry_change(io_system(), &silent, p->root[0], NULL,
                                     add, &number), 0);
    assert_int_equal(count_entries(p->root[0]), 1);
    assert_int_equal(rmdir(volume), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_entries_are_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_changes_nothing_locks_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_kill_has_left_is_nobodys,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lock_of_what_has_no_name_is_none,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_at_a_time_has_both, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_root_with_two_paths_is_locked_once,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_root_none_is_locked, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            who_has_lost_a_lock_leaves_that_of_the_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_out_of_reach_is_not_forgotten,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(data_directories_are_locked_too,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
