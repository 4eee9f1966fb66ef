/* progress.h: a progress bar on stderr, if that is a terminal. */
#ifndef LSVD_ADMIN_PROGRESS_H
#define LSVD_ADMIN_PROGRESS_H

#include "lsvd.h"
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown;      /* a bar is wanted */
    bool on_screen;  /* a bar stands on the line; guarded by lock */
    pthread_mutex_t lock;
    const char *what; /* "mydevice1" */
    uint64_t started_ms, drawn_ms;
};

void progress_init(struct progress *p, bool wanted);
void progress_done(struct progress *p);
void progress_start(struct progress *p, const char *what);
void progress_update(struct progress *p, const struct lsvd_progress *at);
void progress_clear(struct progress *p);

void progress_before_line(void *progress); /* of cli.h */

/* Work of the engine that is shown so, and ends at Ctrl-C (interrupt.h): with
 * the bar as ctx, also for control_ask. */
struct lsvd_repair_callbacks progress_callbacks(struct progress *p);
void progress_line(void *progress, const char *key, const json_t *value);
bool progress_cancelled(void *progress);

#endif
