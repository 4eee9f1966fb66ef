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
    size_t count;
    pthread_mutex_t lock; /* guards what follows */
    size_t next;
    int result;
    char text[512];
};

static void *
run(void *arg)
{
    struct parallel *p = arg;

    pthread_mutex_lock(&p->lock);
    while (p->next < p->count && p->result == 0) {
        size_t i = p->next++;
        int r;

        pthread_mutex_unlock(&p->lock);
        r = p->job(p->ctx, i);
        pthread_mutex_lock(&p->lock);
        if (r < 0 && p->result == 0) {
            p->result = r;
            snprintf(p->text, sizeof p->text, "%s", err_text());
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int
parallel_for(unsigned threads, size_t count, int (*job)(void *ctx, size_t i),
             void *ctx)
{
    struct parallel p = {.job = job, .ctx = ctx, .count = count};
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
    return p.result < 0 ? err_set(p.result, "%s", p.text) : 0;
}
