/* progress.c: see progress.h. Rate and time to go are of the
 * run so far. Drawn at most ten times a second. */
#include "progress.h"

#include "ask.h"
#include "interrupt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define DRAW_EVERY_MS 100
#define LINE_MAX_COLUMNS 200
#define BAR_MIN_COLUMNS 8

static uint64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static size_t
terminal_columns(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
        return 79;
    return size.ws_col > LINE_MAX_COLUMNS ? LINE_MAX_COLUMNS
                                          : size.ws_col - 1u;
}

static void
before_line(void *progress)
{
    progress_clear(progress);
}

void
progress_begin(struct progress *p, struct cli *cli, bool wanted)
{
    const char *term = getenv("TERM");

    interrupt_catch();
    *p = (struct progress){
        .shown = wanted && !cli->quiet && isatty(STDERR_FILENO) &&
                 !(term && strcmp(term, "dumb") == 0),
    };
    pthread_mutex_init(&p->lock, NULL);
    cli->before_line = before_line;
    cli->before_line_ctx = p;
}

void
progress_end(struct progress *p, struct cli *cli)
{
    progress_clear(p);
    cli->before_line = NULL;
    pthread_mutex_destroy(&p->lock);
}

void
progress_start(struct progress *p, const char *what)
{
    pthread_mutex_lock(&p->lock);
    p->what = what;
    p->started_ms = now_ms();
    p->drawn_ms = 0;
    pthread_mutex_unlock(&p->lock);
}

static void
clear_locked(struct progress *p)
{
    if (p->on_screen)
        fputs("\r\033[K", stderr);
    p->on_screen = false;
}

void
progress_clear(struct progress *p)
{
    pthread_mutex_lock(&p->lock);
    clear_locked(p);
    pthread_mutex_unlock(&p->lock);
}

/* "12:34" or "1:02:03". */
static void
time_text(uint64_t seconds, char *text, size_t bytes)
{
    if (seconds >= 3600)
        snprintf(text, bytes, "%" PRIu64 ":%02u:%02u", seconds / 3600,
                 (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
    else
        snprintf(text, bytes, "%u:%02u", (unsigned)(seconds / 60),
                 (unsigned)(seconds % 60));
}

static void
tail_text(const struct lsvd_progress *at, uint64_t elapsed_ms, char *text,
          size_t bytes)
{
    char rate[CLI_SIZE_BYTES], left[32] = "-:--";
    uint64_t todo = at->chunks_total - at->chunks_done;

    if (at->chunks_done)
        time_text((uint64_t)((double)elapsed_ms / 1000 * (double)todo /
                             (double)at->chunks_done),
                  left, sizeof left);
    cli_size(elapsed_ms ? (uint64_t)((double)at->bytes_done * 1000 /
                                     (double)elapsed_ms)
                        : 0,
             rate);
    snprintf(text, bytes, " %3u %%  %s/s  ETA %s",
             (unsigned)(100 * (double)at->chunks_done /
                        (double)at->chunks_total),
             rate, left);
}

static void
draw_locked(struct progress *p, const struct lsvd_progress *at,
            uint64_t elapsed_ms)
{
    char tail[128], bar[LINE_MAX_COLUMNS + 1];
    size_t columns = terminal_columns(), used, width, full;

    tail_text(at, elapsed_ms, tail, sizeof tail);
    used = strlen(p->what) + strlen(tail) + 3;
    if (used + BAR_MIN_COLUMNS > columns) {
        fprintf(stderr, "\r%.*s\033[K", (int)columns, tail + 1);
        p->on_screen = true;
        return;
    }
    width = columns - used;
    full = (size_t)((double)width * (double)at->chunks_done /
                    (double)at->chunks_total);
    memset(bar, '#', full);
    memset(bar + full, '.', width - full);
    bar[width] = '\0';
    fprintf(stderr, "\r%s [%s]%s\033[K", p->what, bar, tail);
    p->on_screen = true;
}

void
progress_update(struct progress *p, const struct lsvd_progress *at)
{
    uint64_t now = now_ms();

    if (!p->shown || at->chunks_total == 0 ||
        at->chunks_done > at->chunks_total)
        return;
    pthread_mutex_lock(&p->lock);
    if (now - p->drawn_ms >= DRAW_EVERY_MS) {
        p->drawn_ms = now;
        draw_locked(p, at, now - p->started_ms);
    }
    pthread_mutex_unlock(&p->lock);
}

static void
on_progress(void *ctx, const struct lsvd_progress *at)
{
    progress_update(ctx, at);
}

bool
progress_cancelled(void *progress)
{
    (void)progress;
    return interrupted();
}

struct lsvd_repair_callbacks
progress_callbacks(struct progress *p)
{
    return (struct lsvd_repair_callbacks){ .progress = on_progress,
                                           .cancelled = progress_cancelled,
                                           .ctx = p };
}

void
progress_line(void *progress, const char *key, const json_t *value)
{
    const struct lsvd_progress at = {
        .chunks_done = ask_u64(value, "chunks_done"),
        .chunks_total = ask_u64(value, "chunks_total"),
        .bytes_done = ask_u64(value, "bytes_done"),
    };

    if (strcmp(key, "progress") == 0)
        progress_update(progress, &at);
}
