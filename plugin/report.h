/* report.h: how the engine's errors and events reach people and clients. */
#ifndef LSVD_PLUGIN_REPORT_H
#define LSVD_PLUGIN_REPORT_H

#include <lsvd.h>

/* Print the engine's last error of this thread as one line, after what was
 * being done (NULL: nothing to add), and give the client an errno that NBD
 * can carry. error is a negative errno. Returns -1. */
int report_error(const char *doing, int error);

/* Our own error, to be used like report_error: prints "lsvd: " and text.
 * The text may hold bytes that a client chose. */
int report_refusal(int error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* lsvd_log_cb: called on any thread. */
void report_event(void *ctx, enum lsvd_log_level level, const char *line);

#endif
