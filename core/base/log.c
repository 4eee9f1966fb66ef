/* log.c: format an event and hand it to the program's function. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LOG_LINE_BYTES 1024

void
log_event(const struct logger *log, enum log_level level, const char *format,
          ...)
{
    char line[LOG_LINE_BYTES];
    va_list args;
    int length;

    if (log == NULL || log->cb == NULL)
        return;
    va_start(args, format);
    length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length >= 0)
        log->cb(log->ctx, level, line);
}
