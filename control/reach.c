/* reach.c: see reach.h. */
#include "control/reach.h"

#include "control/protocol.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Of who waits and the thread; the one who is last frees it. */
struct attempt {
    const struct job *job;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended, given_up;
    int result;               /* job->run's */
    struct reach_names names; /* ret of a listing */
    char name[REACH_NAME_BYTES]; /* what a connection is to */
    char directory[];
};

struct job {
    int (*run)(struct attempt *a);
    void (*drop)(struct attempt *a); /* the result: nobody wants it any more */
};

static bool
is_socket_name(const char *name)
{
    size_t length = strlen(name), suffix = strlen(CONTROL_SUFFIX);

    return length == 36 + suffix && length < REACH_NAME_BYTES &&
           strcmp(name + length - suffix, CONTROL_SUFFIX) == 0;
}

static int
add_name(struct reach_names *names, const char *name)
{
    char (*grown)[REACH_NAME_BYTES] =
        realloc(names->name, (names->count + 1) * sizeof *grown);

    if (!grown)
        return -ENOMEM;
    names->name = grown;
    (void)snprintf(grown[names->count++], sizeof *grown, "%s", name);
    return 0;
}

static int
list_names(struct attempt *a)
{
    DIR *dir = opendir(a->directory);
    struct dirent *entry;
    int r = 0;

    while (dir && r == 0 && (entry = readdir(dir))) {
        if (is_socket_name(entry->d_name))
            r = add_name(&a->names, entry->d_name);
    }
    if (dir)
        (void)closedir(dir);
    return r;
}

void
reach_names_done(struct reach_names *names)
{
    free(names->name);
    *names = (struct reach_names){0};
}

static void
drop_names(struct attempt *a)
{
    reach_names_done(&a->names);
}

static const struct job listing = { list_names, drop_names };

static int
connect_to(struct attempt *a)
{
    int directory_fd = open(a->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct sockaddr_un address;
    const void *at = &address;
    int fd, r = 0;

    if (directory_fd < 0)
        return -errno;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    control_address(a->directory, directory_fd, a->name, &address);
    if (fd < 0 || connect(fd, at, sizeof address) != 0)
        r = -errno;
    (void)close(directory_fd);
    if (r < 0 && fd >= 0)
        (void)close(fd);
    return r < 0 ? r : fd;
}

static void
drop_connection(struct attempt *a)
{
    if (a->result >= 0)
        (void)close(a->result);
}

static const struct job connection = { connect_to, drop_connection };

static void
free_attempt(struct attempt *a)
{
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void *
run(void *arg)
{
    struct attempt *a = arg;
    bool given_up;
    int r = a->job->run(a);

    pthread_mutex_lock(&a->lock);
    a->result = r;
    a->ended = true;
    given_up = a->given_up;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    if (given_up) {
        a->job->drop(a);
        free_attempt(a);
    }
    return NULL;
}

static struct attempt *
new_attempt(const struct job *job, const char *directory)
{
    size_t bytes = strlen(directory) + 1;
    struct attempt *a = calloc(1, sizeof *a + bytes);

    if (!a)
        return NULL;
    a->job = job;
    memcpy(a->directory, directory, bytes);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    return a;
}

/* True: it has ended, and is the caller's alone. */
static bool
wait_for(struct attempt *a)
{
    struct timespec until;
    bool ended;
    int r = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += REACH_MS / 1000;
    pthread_mutex_lock(&a->lock);
    while (!a->ended && r == 0)
        r = pthread_cond_clockwait(&a->changed, &a->lock, CLOCK_MONOTONIC,
                                   &until);
    ended = a->ended;
    a->given_up = !ended;
    pthread_mutex_unlock(&a->lock);
    return ended;
}

/* Anything but 0: a is not the caller's any more. */
static int
begin_and_wait(struct attempt *a)
{
    pthread_attr_t detached;
    pthread_t thread;
    int r;

    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &detached, run, a);
    pthread_attr_destroy(&detached);
    if (r != 0) {
        free_attempt(a);
        return -ENOMEM;
    }
    return wait_for(a) ? 0 : -EHOSTDOWN;
}

int
reach_list(const char *directory, struct reach_names *ret)
{
    struct attempt *a = new_attempt(&listing, directory);
    int r = a ? begin_and_wait(a) : -ENOMEM;

    *ret = (struct reach_names){0};
    if (r < 0)
        return r;
    r = a->result;
    *ret = a->names;
    free_attempt(a);
    if (r < 0)
        reach_names_done(ret);
    return r;
}

int
reach_connect(const char *directory, const char *name)
{
    struct attempt *a = new_attempt(&connection, directory);
    int r;

    if (!a)
        return -ENOMEM;
    (void)snprintf(a->name, sizeof a->name, "%s", name);
    r = begin_and_wait(a);
    if (r < 0)
        return r;
    r = a->result;
    free_attempt(a);
    return r;
}
