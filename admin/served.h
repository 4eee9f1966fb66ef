/* served.h: what lsvd tells of volumes that are served. */
#ifndef LSVD_ADMIN_SERVED_H
#define LSVD_ADMIN_SERVED_H

#include "ask.h"
#include "request.h"

/* show.c; s as lsvd status --json prints it. */
void show_status(const json_t *s);
void show_event(const json_t *event);

/* merge.c: texts for Prometheus made one: the samples of a metric must stand
 * together. */
struct merged {
    struct family *family; /* owned */
    size_t count;
};
void merged_add(struct merged *m, const char *text);
void merged_print(const struct merged *m);
void merged_free(struct merged *m);

#endif
