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
__attribute__((format(printf, 2, 0))) static void
format_text(char *to, const char *format, va_list args)
{
    int length = vsnprintf(to, ERR_TEXT_BYTES, format, args);

    if (length < 0)
        to[0] = '\0';
}

/* What does not fit is cut: the beginning names the thing. */
static void
append_text(char *to, const char *from)
{
    size_t used = strlen(to);
    size_t bytes = strlen(from);

    if (bytes > ERR_TEXT_BYTES - 1 - used)
        bytes = ERR_TEXT_BYTES - 1 - used;
    memcpy(to + used, from, bytes);
    to[used + bytes] = '\0';
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
    va_list args;

    assert(code <= 0);
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    append_text(text, ": ");
    append_text(text, thread_text);
    memcpy(thread_text, text, sizeof text);
    return code;
}

const char *
err_text(void)
{
    return thread_text;
}
