/* complain.c: what a part does wrong, told in bounded words.
 *
 * A part that refuses its reads does so for every cell of every chunk; the
 * lines would fill the log's disk, and hide all others.
 * (CO1) Of each part so many lines a minute are written; the rest is counted,
 *       and the count is told when the minute is over (by the watch, or with
 *       the next line). Counters and events are not touched by this. */
#include "volume/volume.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define MINUTE_NS UINT64_C(60000000000)
#define LINES_MAX 10u /* of a part in a minute */

static void
tell_left_out(struct lsvd_volume *v, const struct part *p, uint64_t count)
{
    if (count > 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: part %c: %" PRIu64 " more lines of this kind "
                  "were left out", v->meta.name, p->letter, count);
}

/* What was left out in a minute that is over; a new one begins. */
static uint64_t
end_minute_locked(struct lsvd_volume *v, struct part *p)
{
    uint64_t now = v->io->ops->now_ns(v->io), count = p->lines_left_out;

    if (p->lines > 0 && now - p->lines_since_ns < MINUTE_NS)
        return 0;
    p->lines_since_ns = now;
    p->lines = 0;
    p->lines_left_out = 0;
    return count;
}

void
part_complain(struct lsvd_volume *v, uint32_t slot, const char *format, ...)
{
    struct part *p = &v->part[slot];
    uint64_t left_out;
    char line[900];
    va_list args;
    bool fits;

    pthread_mutex_lock(&v->state_lock);
    left_out = end_minute_locked(v, p);
    fits = p->lines < LINES_MAX;
    if (fits)
        p->lines++;
    else
        p->lines_left_out++;
    pthread_mutex_unlock(&v->state_lock);
    tell_left_out(v, p, left_out);
    if (!fits)
        return;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: %s", v->meta.name, line);
}

void
parts_tell_left_out(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        uint64_t left_out;

        pthread_mutex_lock(&v->state_lock);
        left_out = end_minute_locked(v, &v->part[i]);
        pthread_mutex_unlock(&v->state_lock);
        tell_left_out(v, &v->part[i], left_out);
    }
}

void
part_letters(uint32_t set, char *text, size_t bytes)
{
    size_t at = 0;

    text[0] = '\0';
    while (set && at + 8 < bytes) {
        uint32_t slot = (uint32_t)__builtin_ctz(set);

        set &= set - 1;
        at += (size_t)snprintf(text + at, bytes - at, "%s%c",
                               at == 0 ? "" : set ? ", " : " and ",
                               (char)('a' + slot));
    }
}
