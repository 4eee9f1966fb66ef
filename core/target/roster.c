/* roster.c: the crews of this process, their threads' beginnings and ends, and
 * what a fork does to them.
 *
 * Process-wide on purpose: a directory that hangs does so for everybody who
 * opens it, and knows nothing of who does. */
#include "base/err.h"
#include "base/memory.h"
#include "target/crew.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STACK_BYTES (512u << 10)
#define WAIT_FOR_THREADS_NS UINT64_C(2000000000)

/* A thread of some crew. */
struct worker {
    pthread_t thread;
    struct worker *next; /* of the ended ones */
    struct crew *crew;   /* a reference */
    void (*work)(struct crew *c);
};

static struct {
    pthread_once_t once;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended_one;
    struct crew *crews;
    struct worker *ended; /* to be joined */
} roster = { .once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER };

uint64_t
crew_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
crew_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int r;

    r = pthread_condattr_init(&attr);
    assert(r == 0);
    r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    assert(r == 0);
    r = pthread_cond_init(cond, &attr);
    assert(r == 0);
    (void)pthread_condattr_destroy(&attr);
}

void
crew_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                uint64_t until_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000u),
        .tv_nsec = (long)(until_ns % 1000000000u),
    };

    (void)pthread_cond_timedwait(cond, lock, &until);
}

/* ---- fork ---- */

static void
before_fork(void)
{
    (void)pthread_mutex_lock(&roster.lock);
    for (struct crew *c = roster.crews; c != NULL; c = c->next)
        (void)pthread_mutex_lock(&c->lock);
}

static void
after_fork_in_parent(void)
{
    for (struct crew *c = roster.crews; c != NULL; c = c->next)
        (void)pthread_mutex_unlock(&c->lock);
    (void)pthread_mutex_unlock(&roster.lock);
}

static void
crew_free(struct crew *c)
{
    assert(c->things == 0);
    assert(c->queued_count == 0);
    (void)pthread_cond_destroy(&c->work);
    (void)pthread_mutex_destroy(&c->lock);
    free(c->path);
    free(c);
}

static void
after_fork_in_child(void)
{
    struct crew **link = &roster.crews;

    crew_cond_init(&roster.ended_one);
    while (roster.ended != NULL) { /* threads of the parent */
        struct worker *w = roster.ended;

        roster.ended = w->next;
        free(w);
    }
    while (*link != NULL) {
        struct crew *c = *link;

        crew_after_fork(c);
        (void)pthread_mutex_unlock(&c->lock);
        if (atomic_load(&c->refs) == 0) {
            *link = c->next;
            crew_free(c);
        } else {
            link = &c->next;
        }
    }
    (void)pthread_mutex_unlock(&roster.lock);
}

static void
roster_init(void)
{
    crew_cond_init(&roster.ended_one);
    (void)pthread_atfork(before_fork, after_fork_in_parent,
                         after_fork_in_child);
}

/* ---- crews ---- */

/* "/a//b/" and "/a/b" are one directory. */
static void
clean_path(char *path)
{
    char *to = path;

    for (const char *from = path; *from != '\0'; from++)
        if (*from != '/' || to == path || to[-1] != '/')
            *to++ = *from;
    if (to > path + 1 && to[-1] == '/')
        to--;
    *to = '\0';
}

static int
crew_new(char *path, struct crew **ret)
{
    struct crew *c;
    int r;

    r = mem_new(1, sizeof *c, &c);
    if (r < 0)
        return r;
    c->path = path;
    atomic_init(&c->refs, 1);
    r = pthread_mutex_init(&c->lock, NULL);
    assert(r == 0);
    crew_cond_init(&c->work);
    *ret = c;
    return 0;
}

static struct crew *
find_locked(const char *path)
{
    for (struct crew *c = roster.crews; c != NULL; c = c->next)
        if (strcmp(c->path, path) == 0)
            return c;
    return NULL;
}

int
crew_get(const char *path, struct crew **ret)
{
    struct crew *c;
    char *copy;
    int r;

    (void)pthread_once(&roster.once, roster_init);
    r = mem_dup(path, &copy);
    if (r < 0)
        return r;
    clean_path(copy);
    (void)pthread_mutex_lock(&roster.lock);
    c = find_locked(copy);
    if (c != NULL) {
        crew_ref(c);
        free(copy);
    } else {
        r = crew_new(copy, &c);
        if (r < 0) {
            free(copy);
        } else {
            c->next = roster.crews;
            roster.crews = c;
        }
    }
    (void)pthread_mutex_unlock(&roster.lock);
    if (r == 0)
        *ret = c;
    return r;
}

void
crew_ref(struct crew *c)
{
    (void)atomic_fetch_add(&c->refs, 1);
}

static void
put_locked(struct crew *c)
{
    struct crew **link = &roster.crews;

    if (atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    crew_free(c);
}

void
crew_put(struct crew *c)
{
    (void)pthread_mutex_lock(&roster.lock);
    put_locked(c);
    (void)pthread_mutex_unlock(&roster.lock);
}

void
crew_wake_all_waiters(void)
{
    (void)pthread_mutex_lock(&roster.lock);
    for (struct crew *c = roster.crews; c != NULL; c = c->next) {
        (void)pthread_mutex_lock(&c->lock);
        for (struct crew_waiter *w = c->waiters; w != NULL; w = w->next)
            (void)pthread_cond_signal(&w->cond);
        (void)pthread_mutex_unlock(&c->lock);
    }
    (void)pthread_mutex_unlock(&roster.lock);
}

/* ---- threads ---- */

/* They have ended, or are about to return. */
static void
join_all(struct worker *ended)
{
    while (ended != NULL) {
        struct worker *w = ended;

        ended = w->next;
        (void)pthread_join(w->thread, NULL);
        free(w);
    }
}

static void *
run_worker(void *arg)
{
    struct worker *me = arg, *others;

    me->thread = pthread_self();
    me->work(me->crew);

    /* Each takes along those before it, so that they don't pile up. */
    (void)pthread_mutex_lock(&roster.lock);
    (void)pthread_mutex_lock(&me->crew->lock);
    me->crew->ending--;
    (void)pthread_mutex_unlock(&me->crew->lock);
    put_locked(me->crew);
    others = roster.ended;
    me->next = NULL;
    roster.ended = me;
    (void)pthread_cond_broadcast(&roster.ended_one);
    (void)pthread_mutex_unlock(&roster.lock);
    join_all(others);
    return NULL;
}

int
crew_start_thread(struct crew *c, void (*work)(struct crew *c))
{
    sigset_t all, before;
    pthread_attr_t attr;
    struct worker *w;
    pthread_t thread;
    int r;

    r = mem_new(1, sizeof *w, &w);
    if (r < 0)
        return r;
    w->crew = c;
    w->work = work;
    crew_ref(c);

    /* The program's signals are for the program's threads. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    r = pthread_create(&thread, &attr, run_worker, w);
    (void)pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0) {
        (void)atomic_fetch_sub(&c->refs, 1); /* the caller has one, too */
        free(w);
        return err_set(-r, "%s: can't start a thread: %s", c->path,
                       strerror(r));
    }
    return 0;
}

/* Has a crew threads that are about to end? */
static bool
is_ending_locked(void)
{
    for (struct crew *c = roster.crews; c != NULL; c = c->next) {
        bool ending;

        (void)pthread_mutex_lock(&c->lock);
        ending = c->things == 0 && c->running == NULL &&
                 c->leftover == NULL;
        (void)pthread_mutex_unlock(&c->lock);
        if (ending)
            return true;
    }
    return false;
}

void
crew_wait_for_threads(void)
{
    uint64_t until = crew_now_ns() + WAIT_FOR_THREADS_NS;
    struct worker *ended;

    (void)pthread_once(&roster.once, roster_init);
    (void)pthread_mutex_lock(&roster.lock);
    while (is_ending_locked() && crew_now_ns() < until)
        crew_wait_until(&roster.ended_one, &roster.lock, until);
    ended = roster.ended;
    roster.ended = NULL;
    (void)pthread_mutex_unlock(&roster.lock);
    join_all(ended);
}
