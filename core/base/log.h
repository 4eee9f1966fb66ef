/* log.h: events that nobody's return value carries (a block was healed, the
 * journal was replayed) go to a function that the program supplied. */
#ifndef LSVD_BASE_LOG_H
#define LSVD_BASE_LOG_H

enum log_level { LOG_ERROR_LEVEL, LOG_WARNING_LEVEL, LOG_INFO_LEVEL,
                 LOG_DEBUG_LEVEL };

/* Called from any thread; message is one line without a newline. */
typedef void (*log_cb)(void *ctx, enum log_level level, const char *message);

struct logger {
    log_cb cb;  /* NULL: events are dropped */
    void *ctx;
};

void log_event(const struct logger *log, enum log_level level,
               const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
