/* event.c: see event.h: a ring of the latest. */
#include "volume/event.h"
#include "base/memory.h"
#include "volume/volume.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENT_TEXT_BYTES 320

struct event {
    uint64_t wall_seconds;
    const char *kind;
    char part;
    char text[EVENT_TEXT_BYTES];
};

struct events {
    atomic_uint owners;
    pthread_mutex_t lock; /* guards what follows */
    uint64_t count;       /* ever; the newest has this id */
    struct event ring[LSVD_EVENTS_MAX];
};

int
events_new(struct events **ret)
{
    struct events *e;
    int r = mem_new(1, sizeof *e, &e);

    if (r < 0)
        return r;
    atomic_init(&e->owners, 1);
    pthread_mutex_init(&e->lock, NULL);
    *ret = e;
    return 0;
}

void
events_free(struct events *e)
{
    if (!e || atomic_fetch_sub(&e->owners, 1) > 1)
        return;
    pthread_mutex_destroy(&e->lock);
    free(e);
}

void
events_share(struct lsvd_volume *from, struct lsvd_volume *to)
{
    events_free(to->events);
    atomic_fetch_add(&from->events->owners, 1);
    to->events = from->events;
}

void
event_note(struct lsvd_volume *v, enum log_level level, const char *kind,
           char part, const char *format, ...)
{
    struct event event = {.kind = kind, .part = part};
    struct events *e = v->events;
    va_list args;

    event.wall_seconds = v->io->ops->wall_seconds(v->io);
    va_start(args, format);
    vsnprintf(event.text, sizeof event.text, format, args);
    va_end(args);
    pthread_mutex_lock(&e->lock);
    e->ring[e->count++ % LSVD_EVENTS_MAX] = event;
    pthread_mutex_unlock(&e->lock);
    log_event(&v->log, level, "volume %s: %s", v->meta.name, event.text);
}

int
lsvd_events(struct lsvd_volume *v, uint64_t after,
            int (*cb)(void *ctx, const struct lsvd_event *event), void *ctx)
{
    struct events *e = v->events;
    int r = 0;

    while (r == 0) {
        struct lsvd_event told;
        struct event event;

        pthread_mutex_lock(&e->lock);
        if (e->count > LSVD_EVENTS_MAX && after < e->count - LSVD_EVENTS_MAX)
            after = e->count - LSVD_EVENTS_MAX;
        if (after >= e->count) {
            pthread_mutex_unlock(&e->lock);
            return 0;
        }
        event = e->ring[after % LSVD_EVENTS_MAX];
        pthread_mutex_unlock(&e->lock);
        told = (struct lsvd_event){.id = ++after,
                                   .wall_seconds = event.wall_seconds,
                                   .part = event.part,
                                   .kind = event.kind,
                                   .text = event.text};
        r = cb(ctx, &told);
    }
    return r;
}
