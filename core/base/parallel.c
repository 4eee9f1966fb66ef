/* parallel.c: see parallel.h. Threads live for one call: what they do takes
 * milliseconds (syncs), and nothing has to be kept running or stopped. */
#include "base/parallel.h"
#include "base/err.h"
#include <pthread.h>
#include <stdio.h>

#define THREADS_MAX 16

struct parallel {
    int (*job)(void *ctx, size_t i);
    void *ctx;
    size_t count, first;
    struct parallel_result *result; /* of each job; its thread's */
    pthread_mutex_t lock;           /* guards what follows */
    size_t begun;
};

static void *
run(void *arg)
{
    struct parallel *p = arg;

    pthread_mutex_lock(&p->lock);
    while (p->begun < p->count) {
        size_t i = (p->first + p->begun++) % p->count;
        struct parallel_result *result = &p->result[i];

        pthread_mutex_unlock(&p->lock);
        result->error = p->job(p->ctx, i);
        if (result->error < 0)
            snprintf(result->text, sizeof result->text, "%s", err_text());
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void
parallel_each(unsigned threads, size_t count, size_t first,
              int (*job)(void *ctx, size_t i), void *ctx,
              struct parallel_result *ret)
{
    struct parallel p = {.job = job, .ctx = ctx, .count = count,
                         .first = first, .result = ret};
    pthread_t thread[THREADS_MAX];
    unsigned started = 0;

    pthread_mutex_init(&p.lock, NULL);
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    while (started + 1 < threads && started + 1 < count &&
           pthread_create(&thread[started], NULL, run, &p) == 0)
        started++;
    run(&p);
    for (unsigned i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&p.lock);
}
