/* temp-dir.c: see temp-dir.h. */
#include "temp-dir.h"
#include "base/io.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

void
temp_dir_init(struct temp_dir *d)
{
    const char *base = getenv("TMPDIR");
    struct io *io = io_system();
    int n;

    n = snprintf(d->path, sizeof d->path, "%s/lsvd-test-XXXXXX",
                 base ? base : "/tmp");
    must(n > 0 && (size_t)n < sizeof d->path, "TMPDIR");
    must(mkdtemp(d->path) != NULL, d->path);
    must(io->ops->open_dir(io, d->path, 0, &d->target) == 0, d->path);
}

void
temp_dir_done(struct temp_dir *d)
{
    const struct dirent *entry;
    DIR *dir;

    target_close(d->target);
    dir = opendir(d->path);
    must(dir != NULL, d->path);
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0
            && strcmp(entry->d_name, "..") != 0)
            must(unlinkat(dirfd(dir), entry->d_name, 0) == 0, entry->d_name);
    (void)closedir(dir);
    must(rmdir(d->path) == 0, d->path);
}

static int
open_file(const struct temp_dir *d, const char *name, int flags)
{
    char path[512];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", d->path, name);
    fd = open(path, flags | O_CLOEXEC);
    must(fd >= 0, path);
    return fd;
}

void
temp_dir_poke(const struct temp_dir *d, const char *name, uint64_t at,
              const void *bytes, size_t count)
{
    int fd = open_file(d, name, O_WRONLY);

    must(pwrite(fd, bytes, count, (off_t)at) == (ssize_t)count, name);
    must(close(fd) == 0, name);
}

void
temp_dir_peek(const struct temp_dir *d, const char *name, uint64_t at,
              void *bytes, size_t count)
{
    int fd = open_file(d, name, O_RDONLY);

    must(pread(fd, bytes, count, (off_t)at) == (ssize_t)count, name);
    must(close(fd) == 0, name);
}

void
temp_dir_flip(const struct temp_dir *d, const char *name, uint64_t at)
{
    uint8_t byte;

    temp_dir_peek(d, name, at, &byte, 1);
    byte ^= 0x10;
    temp_dir_poke(d, name, at, &byte, 1);
}
