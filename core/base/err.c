/* err.c: the error text of a thread: a fixed buffer, so that telling of an
 * error can't itself fail. Too long a text is cut. */
#include "base/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ERR_TEXT_BYTES 1024

static _Thread_local char thread_text[ERR_TEXT_BYTES];

/* The arguments may point into the thread's text (a caller that quotes
 * err_text()), so nothing is formatted in place. */
static void
format_text(char *to, const char *format, va_list args)
{
    int length = vsnprintf(to, ERR_TEXT_BYTES, format, args);

    if (length < 0)
        to[0] = '\0';
}

int
err_set(int code, const char *format, ...)
{
    char text[ERR_TEXT_BYTES];
    va_list args;

    assert(code <= 0);
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    memcpy(thread_text, text, sizeof text);
    return code;
}

int
err_wrap(int code, const char *format, ...)
{
    char text[ERR_TEXT_BYTES];
    size_t prefix_bytes;
    va_list args;

    assert(code <= 0);
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    prefix_bytes = strlen(text);
    (void)snprintf(text + prefix_bytes, sizeof text - prefix_bytes, ": %s",
                   thread_text);
    memcpy(thread_text, text, sizeof text);
    return code;
}

const char *
err_text(void)
{
    return thread_text;
}
