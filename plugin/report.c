/* report.c: one line for people, one errno for the client. */
#define NBDKIT_API_VERSION 2
#include "report.h"

#include <errno.h>
#include <nbdkit-plugin.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* -D lsvd.engine=1: the engine's debug events (with -v). nbdkit finds the
 * variable by this name, so it is exported. */
extern int lsvd_debug_engine;
__attribute__((visibility("default"))) int lsvd_debug_engine = 0;

#define LINE_BYTES 1024

/* A client chooses export names: its control characters must not reach a
 * terminal or forge lines of a log. */
static void
make_one_line(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

/* nbdkit turns what NBD has no number for into EINVAL, which blames the
 * client; such a thing is an I/O error. */
static int
wire_errno(int error)
{
    switch (error) {
    case EPERM:
    case EROFS:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EOVERFLOW:
    case ENOTSUP:
    case ESHUTDOWN:
        return error;
    default:
        return EIO;
    }
}

static int
refuse(int error, char *line)
{
    make_one_line(line);
    nbdkit_error("lsvd: %s", line);
    nbdkit_set_error(wire_errno(-error));
    errno = wire_errno(-error);
    return -1;
}

int
report_error(const char *doing, int error)
{
    char line[LINE_BYTES];

    if (doing == NULL)
        (void)snprintf(line, sizeof(line), "%s", lsvd_error());
    else
        (void)snprintf(line, sizeof(line), "%s: %s", doing, lsvd_error());
    return refuse(error, line);
}

int
report_refusal(int error, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    return refuse(error, line);
}

void
report_event(void *ctx, enum lsvd_log_level level, const char *line)
{
    (void)ctx;
    switch (level) {
    case LSVD_ERROR:
        nbdkit_error("lsvd: %s", line);
        break;
    case LSVD_WARNING: /* nbdkit has no level between error and debug */
        nbdkit_error("lsvd: warning: %s", line);
        break;
    case LSVD_INFO:
        nbdkit_debug("lsvd: %s", line);
        break;
    case LSVD_DEBUG:
        if (lsvd_debug_engine != 0)
            nbdkit_debug("lsvd: %s", line);
        break;
    }
}
