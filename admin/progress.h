/* progress.h: a progress bar on stderr, if that is a terminal. */
#ifndef LSVD_ADMIN_PROGRESS_H
#define LSVD_ADMIN_PROGRESS_H

#include "cli.h"
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

/* From here to the end Ctrl-C is caught (interrupt.h), and the bar makes way
 * for what cli prints on stderr. No bar if it is to be quiet. */
void progress_begin(struct progress *p, struct cli *cli, bool wanted);
void progress_end(struct progress *p, struct cli *cli);
void progress_start(struct progress *p, const char *what);
void progress_update(struct progress *p, const struct lsvd_progress *at);
void progress_clear(struct progress *p);

/* Work of the engine that is shown so, and ends at Ctrl-C (interrupt.h): with
 * the bar as ctx, also for control_ask. */
struct lsvd_repair_callbacks progress_callbacks(struct progress *p);
void progress_line(void *progress, const char *key, const json_t *value);
bool progress_cancelled(void *progress);

#endif
