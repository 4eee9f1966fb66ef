/* stream.c: lsvd export-diff, import-diff: the engine's stream to and from a
 * file or a pipe.
 *
 * Ctrl-C and its like are held back, and asked for whenever the stream is: so
 * one of them also ends the waiting for a pipe, and never what the engine is
 * at. */
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

struct stream {
    int fd, signal_fd;
    bool is_file; /* else a pipe or the like: it may be full, or empty */
};

/* False: and it was said why. */
static bool
begin(struct stream *s, struct request *req, int fd)
{
    struct stat is;
    sigset_t set;

    cli_hold_signals();
    (void)signal(SIGPIPE, SIG_IGN); /* an error like any other */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    s->fd = fd;
    s->is_file = fstat(fd, &is) == 0 && S_ISREG(is.st_mode);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (s->signal_fd >= 0)
        return true;
    (void)cli_fail(&req->cli, 0, "no file for signals: %s", strerror(errno));
    return false;
}

static void
end(struct stream *s)
{
    close(s->signal_fd);
}

/* Until it is ready. -EINTR: somebody wants this to end. */
static int
wait_for(const struct stream *s, short events)
{
    struct pollfd fds[] = { { .fd = s->signal_fd, .events = POLLIN },
                            { .fd = s->fd, .events = events } };

    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return fds[0].revents ? -EINTR : 0;
}

static int
write_all(void *ctx, const void *bytes, size_t count)
{
    const struct stream *s = ctx;
    const char *at = bytes;

    while (count > 0) {
        size_t most = s->is_file ? count : PIPE_BUF; /* does not wait then */
        ssize_t n;
        int r = wait_for(s, POLLOUT);

        if (r < 0)
            return r;
        n = write(s->fd, at, count < most ? count : most);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        if (n > 0) {
            at += n;
            count -= (size_t)n;
        }
    }
    return 0;
}

static int
read_all(void *ctx, void *to, size_t count, size_t *ret_count)
{
    const struct stream *s = ctx;
    char *at = to;

    for (*ret_count = 0; *ret_count < count;) {
        ssize_t n;
        int r = wait_for(s, POLLIN);

        if (r < 0)
            return r;
        n = read(s->fd, at + *ret_count, count - *ret_count);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        if (n > 0)
            *ret_count += (size_t)n;
    }
    return 0;
}

static int
print_totals(const struct request *req, const char *verb, const char *what,
             const struct lsvd_diff_totals *t)
{
    char data[CLI_SIZE_BYTES], zeroes[CLI_SIZE_BYTES];
    json_t *answer;

    if (!req->cli.json) {
        printf("%s %s: %s of data, %s of zeroes\n", verb, what,
               cli_size(t->data_bytes, data),
               cli_size(t->zero_bytes, zeroes));
        return 0;
    }
    answer = cli_json_new();
    cli_json_set(answer, verb, cli_json_text(what));
    cli_json_set(answer, "records", cli_json_u64(t->records));
    cli_json_set(answer, "data_bytes", cli_json_u64(t->data_bytes));
    cli_json_set(answer, "zero_bytes", cli_json_u64(t->zero_bytes));
    cli_json_print(answer);
    return 0;
}

/* ---- export ---- */

/* What a server has open can't be read from here. */
static int
export_failed(const struct request *req, int r, const char *to)
{
    if (r == -EBUSY && !strchr(to, '@'))
        return cli_fail(&req->cli, EXIT_FAILURE, "%s: make a snapshot of it, "
                        "and export that", lsvd_error());
    return cli_engine_failed(&req->cli);
}

static int
export_to(struct request *req, const char *to, int fd,
          struct lsvd_diff_totals *ret)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct stream s;
    const struct lsvd_diff_sink sink = { .write = write_all, .ctx = &s };
    int r;

    if (!begin(&s, req, fd))
        return EXIT_FAILURE;
    r = lsvd_export_diff(&env, req->from, to, &sink, ret);
    end(&s);
    return r < 0 ? export_failed(req, r, to) : 0;
}

static int
export_to_stdout(struct request *req, const char *to)
{
    struct lsvd_diff_totals totals;

    if (isatty(STDOUT_FILENO))
        return cli_usage(&req->cli, "the stream is not for a terminal: name a "
                         "file, or a pipe");
    return export_to(req, to, STDOUT_FILENO, &totals);
}

static bool
is_there(const char *path)
{
    struct stat is;

    return lstat(path, &is) == 0;
}

static int
file_failed(const struct request *req, const char *path)
{
    return cli_fail(&req->cli, EXIT_FAILURE, "%s: %s", path, strerror(errno));
}

/* Its name is to survive a power cut, as its content does. */
static int
sync_dir_of(const char *path)
{
    char *copy = strdup(path);
    int fd, r;

    if (!copy)
        cli_no_memory();
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return -1;
    r = fsync(fd);
    close(fd);
    return r;
}

/* Under another name until it is whole. */
static int
export_to_new(struct request *req, const char *to, const char *path,
              char *unfinished)
{
    struct lsvd_diff_totals totals;
    int fd = mkostemp(unfinished, O_CLOEXEC), r;

    if (fd < 0)
        return file_failed(req, path);
    r = export_to(req, to, fd, &totals);
    if (r == 0 && fsync(fd) < 0)
        r = file_failed(req, path);
    if (close(fd) < 0 && r == 0)
        r = file_failed(req, path);
    if (r == 0 && is_there(path))
        r = cli_fail(&req->cli, EXIT_FAILURE, "%s was made meanwhile: it "
                     "stays as it is", path);
    if (r == 0 && rename(unfinished, path) < 0)
        r = file_failed(req, path);
    if (r != 0) {
        (void)unlink(unfinished);
        return r;
    }
    if (sync_dir_of(path) < 0)
        return file_failed(req, path);
    return print_totals(req, "exported", to, &totals);
}

static int
export_to_file(struct request *req, const char *to, const char *path)
{
    char *unfinished;
    int r;

    if (is_there(path))
        return cli_fail(&req->cli, EXIT_FAILURE, "%s is there already: remove "
                        "it, or name another", path);
    if (asprintf(&unfinished, "%s.XXXXXX", path) < 0)
        cli_no_memory();
    r = export_to_new(req, to, path, unfinished);
    free(unfinished);
    return r;
}

int
command_export_diff(struct request *req)
{
    const char *to = req->words[0], *path = req->words[1];

    if (strcmp(path, "-") == 0)
        return export_to_stdout(req, to);
    return export_to_file(req, to, path);
}

/* ---- import ---- */

static int
import_from(struct request *req, int fd, const char *name)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_diff_totals totals;
    struct stream s;
    const struct lsvd_diff_source source = { .read = read_all, .ctx = &s };
    int r;

    if (!begin(&s, req, fd))
        return EXIT_FAILURE;
    r = lsvd_import_diff(&env, name, &source, &totals);
    end(&s);
    if (r < 0)
        return cli_engine_failed(&req->cli);
    return print_totals(req, "imported", name, &totals);
}

int
command_import_diff(struct request *req)
{
    const char *path = req->words[0], *name = req->words[1];
    int fd, r;

    if (strcmp(path, "-") == 0 && isatty(STDIN_FILENO))
        return cli_usage(&req->cli, "the stream does not come from a "
                         "terminal: name a file, or a pipe");
    if (strcmp(path, "-") == 0)
        return import_from(req, STDIN_FILENO, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return file_failed(req, path);
    r = import_from(req, fd, name);
    close(fd);
    return r;
}
