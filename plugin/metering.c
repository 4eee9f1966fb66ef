/* metering.c: see metering.h. Volumes that name the same file share it. */
#define NBDKIT_API_VERSION 2
#include "metering.h"

#include <control/metrics.h>
#include <errno.h>
#include <nbdkit-plugin.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "exports.h"
#include "thread.h"

#define EVERY_S 10

/* What is told of one volume. */
struct reading {
    struct reading *next;
    char *path; /* owned */
    bool done;
    struct lsvd_status status;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running, stop; /* under the lock */
    int last_error;     /* of the thread: one line for each new error */
    pthread_t thread;
} metering = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

static void
read_volume(void *ctx, struct lsvd_volume *v)
{
    struct lsvd_serving *serving = malloc(sizeof(*serving));
    struct reading *reading = calloc(1, sizeof(*reading));
    struct reading **list = ctx;

    if (serving != NULL && reading != NULL) {
        lsvd_get_serving(v, serving);
        if (serving->metrics[0] != '\0')
            reading->path = strdup(serving->metrics);
    }
    free(serving);
    if (reading == NULL || reading->path == NULL) {
        free(reading);
        return;
    }
    lsvd_get_status(v, &reading->status);
    reading->next = *list;
    *list = reading;
}

static void
complain(const char *path, int error)
{
    if (error != 0 && error != metering.last_error)
        nbdkit_error("lsvd: warning: metrics=%s: %s", path,
                     strerror(-error));
    metering.last_error = error;
}

/* All volumes of the first one's file. */
static void
write_file(struct reading *first, bool served)
{
    const struct lsvd_status **status;
    size_t count = 0, room = 0;
    char *text = NULL;
    int r = -ENOMEM;

    for (struct reading *one = first; one != NULL; one = one->next)
        room++;
    status = calloc(room, sizeof(struct lsvd_status *));
    for (struct reading *one = first; status != NULL && one != NULL;
         one = one->next)
        if (strcmp(one->path, first->path) == 0) {
            status[count++] = &one->status;
            one->done = true;
        }
    if (status != NULL)
        text = metrics_format(status, count, served);
    if (text != NULL)
        r = metrics_store(first->path, text);
    complain(first->path, r);
    free(text);
    free((void *)status);
}

static void
write_all(bool served)
{
    struct reading *list = NULL, *next;

    exports_each(read_volume, &list);
    for (struct reading *one = list; one != NULL; one = next) {
        if (!one->done)
            write_file(one, served);
        next = one->next;
        free(one->path);
        free(one);
    }
}

static struct timespec
in_a_while(void)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += EVERY_S;
    return at;
}

static void *
run(void *unused)
{
    struct timespec until;
    bool stop = false;

    (void)unused;
    while (!stop) {
        write_all(true);
        until = in_a_while();
        pthread_mutex_lock(&metering.lock);
        while (!metering.stop &&
               pthread_cond_clockwait(&metering.wake, &metering.lock,
                                      CLOCK_MONOTONIC, &until) != ETIMEDOUT)
            continue;
        stop = metering.stop;
        pthread_mutex_unlock(&metering.lock);
    }
    write_all(false);
    return NULL;
}

int
metering_start(void)
{
    if (thread_start(&metering.thread, run, NULL) < 0)
        return -1;
    metering.running = true;
    return 0;
}

void
metering_stop(void)
{
    if (!metering.running)
        return;
    pthread_mutex_lock(&metering.lock);
    metering.stop = true;
    pthread_cond_signal(&metering.wake);
    pthread_mutex_unlock(&metering.lock);
    (void)pthread_join(metering.thread, NULL);
    metering.running = false;
}
