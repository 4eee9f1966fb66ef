/* metering.h: the files of metrics= are written every few seconds, for
 * Prometheus. */
#ifndef LSVD_PLUGIN_METERING_H
#define LSVD_PLUGIN_METERING_H

/* In .after_fork, once. 0, or -1 after an nbdkit_error. */
int metering_start(void);

/* In .cleanup, before exports_close: the files' last word. */
void metering_stop(void);

#endif
