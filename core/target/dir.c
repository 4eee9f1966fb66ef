/* dir.c: a target that is a directory, and the rest of the real world (clocks,
 * random bytes): the only file of core that makes storage system calls.
 *
 * (D1) A name is one component: no '/', not "." or "..", so it stays in its
 *      directory; the kernel is told so once more (RESOLVE_BENEATH).
 * (D2) What is opened is judged by its descriptor (fstat), never by its name:
 *      nobody can exchange it in between.
 * (D3) object_sync makes sizes and allocation durable, too: after a change of
 *      them the next sync is a full fsync.
 * (D4) On NFS a file that may be written has a lock of its own, a shared one on
 *      a byte that nobody uses. When the server has forgotten our locks, or
 *      given them to another host, whatever is still on its way to such a file
 *      is refused, and an error here: a write that was sent before we were cut
 *      off does not land after another host has claimed the volume.
 * The path given to open_dir may lead through symbolic links (that is how a
 * person lays out mounts); nothing below it may. */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/memory.h"
#include "target/target.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define AHEAD_BYTES_MIN (256u << 10)
#define EAGER_BYTES_MIN (64u << 10)
#define IOV_BATCH 256      /* pieces a system call; below IOV_MAX */
#define OPEN_ATTEMPTS 1000 /* while the name is being replaced */
#define ZERO_BYTES 65536u  /* a piece of written zeroes */
#define TIE_AT (INT64_MAX - 1) /* D4; far behind every file's end */

/* Whose files are they? Asked when it is needed first. */
enum { PLACE_UNKNOWN, PLACE_HERE, PLACE_NFS };

struct dir {
    struct target base; /* first */
    int fd;
    atomic_int place;
};

struct file {
    struct object base; /* first */
    int fd;
    bool writable;
    bool eager; /* OBJECT_EAGER */
    atomic_bool needs_fsync; /* metadata changed since the last sync (D3) */
    atomic_bool always_waits; /* the file system can't tell beforehand */
    char *name;              /* for messages; owned */
};

static const struct target_ops dir_ops;

static struct dir *
to_dir(struct target *t)
{
    assert(t->ops == &dir_ops);
    return (struct dir *)t;
}

static struct file *
to_file(struct object *o)
{
    assert(o->ops == &dir_ops);
    return (struct file *)o;
}

/* ---- errors ---- */

static int
dir_error(const struct target *t, const char *name, const char *what,
          int error)
{
    const char *slash = name[0] != '\0' ? "/" : "";

    assert(error > 0);
    /* To a client a full quota is a full disk. */
    return err_set(error == EDQUOT ? -ENOSPC : -error, "%s%s%s: %s: %s",
                   t->path, slash, name, what, strerror(error));
}

static int
file_error(const struct file *f, const char *what, int error)
{
    return dir_error(f->base.target, f->name, what, error);
}

static const char *
kind_text(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISLNK(mode))
        return "a symbolic link";
    if (S_ISFIFO(mode))
        return "a FIFO";
    if (S_ISSOCK(mode))
        return "a socket";
    if (S_ISCHR(mode) || S_ISBLK(mode))
        return "a device";
    return "of an unknown kind";
}

static int
check_component(const struct target *t, const char *name)
{
    if (name[0] == '\0' || strchr(name, '/') != NULL ||
        strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_set(-EINVAL, "%s: \"%s\" is not the name of a file",
                       t->path, name);
    return 0;
}

static bool
is_unsupported(int error)
{
    return error == EOPNOTSUPP || error == ENOSYS || error == EINVAL;
}

/* ---- opening ---- */

/* openat that stays below fd and follows no link; -1 with errno. */
static int
open_beneath(int fd, const char *name, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_NOFOLLOW | O_CLOEXEC),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                   RESOLVE_NO_MAGICLINKS,
    };
    long opened;

    do {
        opened = syscall(SYS_openat2, fd, name, &how, sizeof how);
    } while (opened < 0 && errno == EINTR);
    if (opened >= 0 || (errno != ENOSYS && errno != EPERM))
        return (int)opened;

    /* An old kernel, or a container that filters the call. The name is one
     * component (D1), so O_NOFOLLOW says the same. */
    do {
        opened = openat(fd, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
    } while (opened < 0 && errno == EINTR);
    return (int)opened;
}

static int
sync_fd(int fd)
{
    int r;

    do {
        r = fsync(fd);
    } while (r < 0 && errno == EINTR);
    return r;
}

static int
dir_new(int fd, char *path, struct target **ret)
{
    struct dir *d;
    int r;

    r = mem_new(1, sizeof *d, &d);
    if (r < 0)
        return r;
    d->base.ops = &dir_ops;
    d->base.path = path;
    d->fd = fd;
    atomic_init(&d->place, PLACE_UNKNOWN);
    *ret = &d->base;
    return 0;
}

static int
path_error(const char *path, const char *what, int error)
{
    return err_set(-error, "%s: %s: %s", path, what, strerror(error));
}

static int
open_path(const char *path)
{
    int fd;

    do {
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* Make the name of the directory fd durable in the directory above it. */
static int
sync_parent(int fd)
{
    int parent, r, error;

    parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return -1;
    r = sync_fd(parent);
    error = errno;
    (void)close(parent);
    errno = error;
    return r;
}

static int
system_open_dir(struct io *io, const char *path, unsigned flags,
                struct target **ret)
{
    AUTO_FREE char *copy = NULL;
    bool made = false;
    int fd, r;

    (void)io;
    r = mem_dup(path, &copy);
    if (r < 0)
        return r;
    fd = open_path(path);
    if (fd < 0 && errno == ENOENT && (flags & DIR_CREATE)) {
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return path_error(path, "can't make the directory", errno);
        made = true;
        fd = open_path(path);
    }
    if (fd < 0)
        return path_error(path, "can't open the directory", errno);

    /* One that was there may have been made a moment ago by somebody who did
     * not sync; to do it for them is an attempt, ours must succeed. */
    if ((flags & DIR_CREATE) && sync_parent(fd) < 0 && made) {
        r = path_error(path, "can't sync the directory above", errno);
        (void)close(fd);
        return r;
    }
    r = dir_new(fd, copy, ret);
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    copy = NULL; /* the target's now */
    return 0;
}

/* A name could not be opened: because it is not a plain file? */
static int
open_error(struct dir *d, const char *name, int error)
{
    struct stat st;

    if (error != ENOENT && error != EEXIST &&
        fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISREG(st.st_mode))
        return err_set(-EPROTO, "%s/%s: is %s, not a plain file: not used",
                       d->base.path, name, kind_text(st.st_mode));
    return dir_error(&d->base, name, "can't open", error);
}

/* T5, by the descriptor (D2). 0: fine. 1: has no name any more. */
static int
judge_file(struct dir *d, const char *name, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return dir_error(&d->base, name, "can't stat", errno);
    if (!S_ISREG(st.st_mode))
        return err_set(-EPROTO, "%s/%s: is %s, not a plain file: not used",
                       d->base.path, name, kind_text(st.st_mode));
    if (st.st_nlink == 0)
        return 1;
    if (st.st_nlink > 1)
        return err_set(-EPROTO,
                       "%s/%s: is a hard link (%ju names): not used",
                       d->base.path, name, (uintmax_t)st.st_nlink);
    return 0;
}

static bool
is_on_nfs(struct dir *d)
{
    int place = atomic_load(&d->place);
    struct statfs fs;

    if (place == PLACE_UNKNOWN && fstatfs(d->fd, &fs) == 0) {
        place = fs.f_type == NFS_SUPER_MAGIC ? PLACE_NFS : PLACE_HERE;
        atomic_store(&d->place, place);
    }
    return place == PLACE_NFS;
}

/* D4. Where there are no locks at all, that was told about the part's own. */
static int
tie_to_lock(struct dir *d, const char *name, int fd)
{
    struct flock lock = {
        .l_type = F_RDLCK,
        .l_whence = SEEK_SET,
        .l_start = TIE_AT,
        .l_len = 1,
    };
    int r;

    do {
        r = fcntl(fd, F_OFD_SETLK, &lock);
    } while (r < 0 && errno == EINTR);
    if (r == 0 || errno == ENOLCK || is_unsupported(errno))
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(-EBUSY, "%s/%s: is in use by another process",
                       d->base.path, name);
    return dir_error(&d->base, name, "can't lock", errno);
}

/* Returns a descriptor. */
static int
open_file(struct dir *d, const char *name, unsigned flags)
{
    int how = O_NONBLOCK | O_NOCTTY;

    how |= flags & OBJECT_WRITE ? O_RDWR : O_RDONLY;
    if (flags & OBJECT_CREATE)
        how |= O_CREAT;
    if (flags & OBJECT_EXCL)
        how |= O_EXCL;

    for (int attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
        int fd, r;

        fd = open_beneath(d->fd, name, how, 0600);
        if (fd < 0)
            return open_error(d, name, errno);
        r = judge_file(d, name, fd);
        if (r == 0 && (flags & OBJECT_WRITE) && is_on_nfs(d))
            r = tie_to_lock(d, name, fd);
        if (r == 0)
            return fd;
        (void)close(fd);
        if (r < 0)
            return r;
        /* It was replaced (target_store) or removed between open and fstat:
         * the name tells which. */
    }
    /* Not -ENOENT: the name was there each time. */
    return err_set(-EIO, "%s/%s: can't open: is replaced all the time, or its "
                   "links are not counted", d->base.path, name);
}

static int
dir_open(struct target *t, const char *name, unsigned flags,
         struct object **ret)
{
    struct dir *d = to_dir(t);
    AUTO_FREE struct file *f = NULL;
    AUTO_FREE char *copy = NULL;
    int r;

    assert(!(flags & OBJECT_EXCL) || (flags & OBJECT_CREATE));
    assert(!(flags & OBJECT_CREATE) || (flags & OBJECT_WRITE));
    r = check_component(t, name);
    if (r < 0)
        return r;
    r = mem_new(1, sizeof *f, &f);
    if (r < 0)
        return r;
    r = mem_dup(name, &copy);
    if (r < 0)
        return r;
    r = open_file(d, name, flags);
    if (r < 0)
        return r;
    f->base.ops = &dir_ops;
    f->base.target = t;
    f->fd = r;
    f->writable = flags & OBJECT_WRITE;
    f->eager = flags & OBJECT_EAGER;
    atomic_init(&f->needs_fsync, flags & OBJECT_CREATE);
    atomic_init(&f->always_waits, false);
    f->name = copy;
    *ret = &f->base;
    copy = NULL; /* both are the caller's now */
    f = NULL;
    return 0;
}

/* ---- names ---- */

static int
dir_remove(struct target *t, const char *name)
{
    int r;

    r = check_component(t, name);
    if (r < 0)
        return r;
    if (unlinkat(to_dir(t)->fd, name, 0) < 0)
        return dir_error(t, name, "can't remove", errno);
    return 0;
}

static int
dir_stat_names(struct target *t, const char *const *names, size_t count,
               struct target_named *ret)
{
    int r = 0;

    for (size_t i = 0; i < count && r == 0; i++) {
        struct stat st;

        r = check_component(t, names[i]);
        if (r < 0)
            break;
        if (fstatat(to_dir(t)->fd, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
            ret[i].error = -errno;
        else if (!S_ISREG(st.st_mode) || st.st_nlink > 1)
            ret[i].error = -EPROTO;
        else
            ret[i] = (struct target_named){0, (uint64_t)st.st_size};
    }
    return r;
}

static int
dir_rename(struct target *t, const char *from, const char *to)
{
    struct dir *d = to_dir(t);
    int r;

    r = check_component(t, from);
    if (r == 0)
        r = check_component(t, to);
    if (r < 0)
        return r;
    if (renameat(d->fd, from, d->fd, to) < 0)
        return err_set(errno == EDQUOT ? -ENOSPC : -errno,
                       "%s/%s: can't rename to %s: %s", t->path, from, to,
                       strerror(errno));
    return 0;
}

static int
list_stream(struct target *t, DIR *stream,
            int (*cb)(void *ctx, const char *name), void *ctx)
{
    for (;;) {
        const struct dirent *entry;
        int r;

        errno = 0;
        entry = readdir(stream);
        if (entry == NULL)
            return errno == 0 ? 0 : dir_error(t, "", "can't list", errno);
        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0)
            continue;
        r = cb(ctx, entry->d_name);
        if (r != 0)
            return r;
    }
}

static int
dir_list(struct target *t, int (*cb)(void *ctx, const char *name), void *ctx)
{
    DIR *stream;
    int fd, r;

    /* A descriptor of its own: the position of d->fd is shared. */
    fd = openat(to_dir(t)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return dir_error(t, "", "can't list", errno);
    stream = fdopendir(fd);
    if (stream == NULL) {
        r = dir_error(t, "", "can't list", errno);
        (void)close(fd);
        return r;
    }
    r = list_stream(t, stream, cb, ctx);
    (void)closedir(stream);
    return r;
}

static int
dir_sync(struct target *t)
{
    if (sync_fd(to_dir(t)->fd) < 0)
        return dir_error(t, "", "can't sync the directory", errno);
    return 0;
}

static int
dir_space(struct target *t, struct target_space *ret)
{
    struct dir *d = to_dir(t);
    struct statvfs fs;
    struct stat st;

    if (fstatvfs(d->fd, &fs) < 0 || fstat(d->fd, &st) < 0)
        return dir_error(t, "", "can't ask for the free space", errno);
    ret->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    ret->total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    ret->device = st.st_dev;
    return 0;
}

static int
subdir_error(struct dir *d, const char *name, int error)
{
    struct stat st;

    if (error != ENOENT &&
        fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(st.st_mode))
        return err_set(-EPROTO, "%s/%s: is %s, not a directory: not used",
                       d->base.path, name, kind_text(st.st_mode));
    return dir_error(&d->base, name, "can't open the directory", error);
}

static int
join_path(const char *path, const char *name, char **ret)
{
    size_t path_bytes = strlen(path);
    size_t name_bytes = strlen(name);
    char *joined;
    int r;

    r = mem_new(path_bytes + 1 + name_bytes + 1, 1, &joined);
    if (r < 0)
        return r;
    memcpy(joined, path, path_bytes);
    joined[path_bytes] = '/';
    memcpy(joined + path_bytes + 1, name, name_bytes);
    *ret = joined;
    return 0;
}

static int
dir_subdir(struct target *t, const char *name, unsigned flags,
           struct target **ret)
{
    struct dir *d = to_dir(t);
    AUTO_FREE char *path = NULL;
    int fd, r;

    r = check_component(t, name);
    if (r < 0)
        return r;
    r = join_path(t->path, name, &path);
    if (r < 0)
        return r;
    if (flags & DIR_CREATE) {
        if (mkdirat(d->fd, name, 0700) < 0 && errno != EEXIST)
            return dir_error(t, name, "can't make the directory", errno);
        r = dir_sync(t);
        if (r < 0)
            return r;
    }
    fd = open_beneath(d->fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return subdir_error(d, name, errno);
    r = dir_new(fd, path, ret);
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    path = NULL; /* the target's now */
    return 0;
}

static int
dir_remove_dir(struct target *t, const char *name)
{
    int r;

    r = check_component(t, name);
    if (r < 0)
        return r;
    if (unlinkat(to_dir(t)->fd, name, AT_REMOVEDIR) < 0)
        return dir_error(t, name, "can't remove the directory", errno);
    return 0;
}

static void
dir_close(struct target *t)
{
    struct dir *d = to_dir(t);

    (void)close(d->fd);
    free(t->path);
    free(d);
}

/* ---- reading and writing ---- */

/* Where in a caller's vector we are. */
struct cursor {
    const struct iovec *iov;
    int left;    /* pieces from iov on */
    size_t skip; /* bytes of iov[0] that are done */
};

/* Up to IOV_BATCH pieces from the cursor on; returns how many. */
static int
cursor_batch(const struct cursor *c, struct iovec *batch)
{
    int count = c->left < IOV_BATCH ? c->left : IOV_BATCH;

    memcpy(batch, c->iov, (size_t)count * sizeof *batch);
    if (count > 0) {
        batch[0].iov_base = (uint8_t *)batch[0].iov_base + c->skip;
        batch[0].iov_len -= c->skip;
    }
    return count;
}

static void
cursor_advance(struct cursor *c, size_t bytes)
{
    c->skip += bytes;
    while (c->left > 0 && c->skip >= c->iov[0].iov_len) {
        c->skip -= c->iov[0].iov_len;
        c->iov++;
        c->left--;
    }
    assert(c->left > 0 || c->skip == 0);
}

static int
check_range(const struct file *f, uint64_t at, uint64_t bytes)
{
    if (at > INT64_MAX || bytes > INT64_MAX - at)
        return file_error(f, "place out of range", EFBIG);
    return 0;
}

static int
vector_bytes(const struct file *f, const struct iovec *iov, int count,
             uint64_t at)
{
    uint64_t bytes = 0;

    for (int i = 0; i < count; i++)
        bytes += iov[i].iov_len; /* of memory: the sum fits */
    return check_range(f, at, bytes);
}

/* All of a long read is asked of the medium at once, not as the kernel's
 * window for reading ahead grows. */
static void
read_ahead(const struct file *f, const struct iovec *iov, int count,
           uint64_t at)
{
    size_t bytes = 0;

    for (int i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    if (bytes >= AHEAD_BYTES_MIN)
        (void)posix_fadvise(f->fd, (off_t)at, (off_t)bytes,
                            POSIX_FADV_WILLNEED);
}

static int
file_readv(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    struct file *f = to_file(o);
    struct cursor c = { .iov = iov, .left = count };
    struct iovec batch[IOV_BATCH];
    int r;

    r = vector_bytes(f, iov, count, at);
    if (r < 0)
        return r;
    read_ahead(f, iov, count, at);
    cursor_advance(&c, 0); /* over leading empty pieces */
    while (c.left > 0) {
        ssize_t got = preadv(f->fd, batch, cursor_batch(&c, batch),
                             (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return file_error(f, "can't read", errno);
        if (got == 0)
            return err_set(-EIO, "%s/%s: ends before byte %ju: short read",
                           o->target->path, f->name, (uintmax_t)at + 1);
        at += (uint64_t)got;
        cursor_advance(&c, (size_t)got);
    }
    return 0;
}

/* From the page cache, in one call, or not at all. */
static int
file_try_readv(struct object *o, const struct iovec *iov, int count,
               uint64_t at)
{
    struct file *f = to_file(o);
    size_t bytes = 0;
    ssize_t got;

    if (count > IOV_BATCH || at > INT64_MAX ||
        atomic_load_explicit(&f->always_waits, memory_order_relaxed))
        return -EAGAIN;
    for (int i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    got = preadv2(f->fd, iov, count, (off_t)at, RWF_NOWAIT);
    if (got < 0 && is_unsupported(errno))
        atomic_store(&f->always_waits, true);
    return got >= 0 && (size_t)got == bytes ? 0 : -EAGAIN;
}

static int
file_writev(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    struct file *f = to_file(o);
    struct cursor c = { .iov = iov, .left = count };
    struct iovec batch[IOV_BATCH];
    int r;

    assert(f->writable);
    r = vector_bytes(f, iov, count, at);
    if (r < 0)
        return r;
    cursor_advance(&c, 0);
    while (c.left > 0) {
        ssize_t put = pwritev(f->fd, batch, cursor_batch(&c, batch),
                              (off_t)at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return file_error(f, "can't write", errno);
        if (put == 0)
            return file_error(f, "can't write", EIO);
        if (f->eager && (size_t)put >= EAGER_BYTES_MIN) /* else by the sync */
            (void)sync_file_range(f->fd, (off_t)at, put,
                                  SYNC_FILE_RANGE_WRITE);
        at += (uint64_t)put;
        cursor_advance(&c, (size_t)put);
    }
    return 0;
}

/* ---- space ---- */

static int
write_zeroes(struct file *f, uint64_t at, uint64_t bytes)
{
    static const uint8_t zeroes[ZERO_BYTES];

    while (bytes > 0) {
        size_t piece = bytes < ZERO_BYTES ? (size_t)bytes : ZERO_BYTES;
        ssize_t put = pwrite(f->fd, zeroes, piece, (off_t)at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return file_error(f, "can't write zeroes", errno);
        if (put == 0)
            return file_error(f, "can't write zeroes", EIO);
        at += (uint64_t)put;
        bytes -= (uint64_t)put;
    }
    return 0;
}

static int
call_fallocate(const struct file *f, int mode, uint64_t at, uint64_t bytes)
{
    int r;

    do {
        r = fallocate(f->fd, mode, (off_t)at, (off_t)bytes);
    } while (r < 0 && errno == EINTR);
    return r;
}

/* Where holes can't be punched the bytes must still read as zeroes. */
static int
punch_by_writing(struct file *f, uint64_t at, uint64_t bytes)
{
    struct stat st;
    uint64_t size;

    if (fstat(f->fd, &st) < 0)
        return file_error(f, "can't stat", errno);
    size = (uint64_t)st.st_size;
    if (at >= size)
        return 0;
    if (bytes > size - at)
        bytes = size - at; /* the size stays */
    return write_zeroes(f, at, bytes);
}

static int
file_punch(struct object *o, uint64_t at, uint64_t bytes)
{
    struct file *f = to_file(o);
    int r;

    assert(f->writable);
    r = check_range(f, at, bytes);
    if (r < 0 || bytes == 0)
        return r;
    r = call_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
                       bytes);
    if (r < 0 && is_unsupported(errno))
        r = punch_by_writing(f, at, bytes);
    else if (r < 0)
        r = file_error(f, "can't punch a hole", errno);
    atomic_store(&f->needs_fsync, true); /* after the change: a sync between
                                          * them does not owe it (D3) */
    return r;
}

static int
file_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
               uint64_t *ret_end);

/* Give every hole of the range its zeroes. */
static int
allocate_by_writing(struct file *f, uint64_t at, uint64_t bytes)
{
    uint64_t end = at + bytes;

    while (at < end) {
        uint64_t data_begin = end, data_end = end;
        int r;

        r = file_next_data(&f->base, at, &data_begin, &data_end);
        if (r < 0 && r != -ENXIO)
            return r;
        if (r == -ENXIO || data_begin > end)
            data_begin = data_end = end;
        r = write_zeroes(f, at, data_begin - at);
        if (r < 0)
            return r;
        at = data_end;
    }
    return 0;
}

static int
file_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    struct file *f = to_file(o);
    int r;

    assert(f->writable);
    r = check_range(f, at, bytes);
    if (r < 0 || bytes == 0)
        return r;
    r = call_fallocate(f, 0, at, bytes);
    if (r < 0 && is_unsupported(errno))
        r = allocate_by_writing(f, at, bytes);
    else if (r < 0)
        r = file_error(f, "can't reserve space", errno);
    atomic_store(&f->needs_fsync, true);
    return r;
}

static int
file_resize(struct object *o, uint64_t bytes)
{
    struct file *f = to_file(o);
    int r;

    assert(f->writable);
    r = check_range(f, 0, bytes);
    if (r < 0)
        return r;
    do {
        r = ftruncate(f->fd, (off_t)bytes);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        r = file_error(f, "can't change the size", errno);
    atomic_store(&f->needs_fsync, true);
    return r;
}

static int
file_sync(struct object *o)
{
    struct file *f = to_file(o);
    bool full = atomic_exchange(&f->needs_fsync, false);
    int r;

    do {
        r = full ? fsync(f->fd) : fdatasync(f->fd);
    } while (r < 0 && errno == EINTR);
    if (r < 0) {
        int error = errno;

        if (full)
            atomic_store(&f->needs_fsync, true);
        return file_error(f, "can't sync", error);
    }
    return 0;
}

static int
file_stat(struct object *o, struct object_stat *ret)
{
    struct file *f = to_file(o);
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return file_error(f, "can't stat", errno);
    ret->size_bytes = (uint64_t)st.st_size;
    ret->allocated_bytes = (uint64_t)st.st_blocks * 512;
    ret->device = st.st_dev;
    ret->node = st.st_ino;
    return 0;
}

/* Where holes can't be asked for, everything is data. */
static int
all_is_data(struct file *f, uint64_t at, uint64_t *ret_begin,
            uint64_t *ret_end)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return file_error(f, "can't stat", errno);
    if (at >= (uint64_t)st.st_size)
        return file_error(f, "no data behind this place", ENXIO);
    *ret_begin = at;
    *ret_end = (uint64_t)st.st_size;
    return 0;
}

static int
file_next_data(struct object *o, uint64_t at, uint64_t *ret_begin,
               uint64_t *ret_end)
{
    struct file *f = to_file(o);
    int r;

    r = check_range(f, at, 0);
    if (r < 0)
        return r;
    for (;;) {
        off_t begin, end;

        /* The descriptor's position is moved, and used by nobody. */
        begin = lseek(f->fd, (off_t)at, SEEK_DATA);
        if (begin < 0 && is_unsupported(errno))
            return all_is_data(f, at, ret_begin, ret_end);
        if (begin < 0)
            return file_error(f, "can't find data", errno); /* or ENXIO */
        end = lseek(f->fd, begin, SEEK_HOLE);
        if (end < 0)
            return file_error(f, "can't find a hole", errno);
        if (end > begin) {
            *ret_begin = (uint64_t)begin;
            *ret_end = (uint64_t)end;
            return 0;
        }
        at = (uint64_t)begin; /* punched in between: look again */
    }
}

/* An error of that writing is told by the next sync. */
static void
file_start_sync(struct object *o)
{
    (void)sync_file_range(to_file(o)->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static void
file_drop_cache(struct object *o)
{
    (void)posix_fadvise(to_file(o)->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ---- locks ---- */

static int
call_lock(struct file *f, int command, short type, uint64_t at,
          uint64_t bytes, struct flock *ret)
{
    struct flock lock = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)at,
        .l_len = (off_t)bytes,
    };
    int r;

    r = check_range(f, at, bytes);
    if (r < 0)
        return r;
    do {
        r = fcntl(f->fd, command, &lock);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && (errno == EAGAIN || errno == EACCES))
        return err_set(-EBUSY, "%s/%s: is in use by another process",
                       f->base.target->path, f->name);
    if (r < 0)
        return file_error(f, "can't lock", errno);
    if (ret != NULL)
        *ret = lock;
    return 0;
}

static int
file_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    struct file *f = to_file(o);

    assert(f->writable || !exclusive);
    return call_lock(f, F_OFD_SETLK, exclusive ? F_WRLCK : F_RDLCK, at, bytes,
                     NULL);
}

static int
file_unlock(struct object *o, uint64_t at, uint64_t bytes)
{
    return call_lock(to_file(o), F_OFD_SETLK, F_UNLCK, at, bytes, NULL);
}

static int
file_is_locked(struct object *o, uint64_t at, uint64_t bytes)
{
    struct flock found;
    int r;

    r = call_lock(to_file(o), F_OFD_GETLK, F_RDLCK, at, bytes, &found);
    if (r < 0)
        return r;
    return found.l_type != F_UNLCK;
}

static void
file_close(struct object *o)
{
    struct file *f = to_file(o);

    /* What must last was synced; an error here tells nothing of it. */
    (void)close(f->fd);
    free(f->name);
    free(f);
}

static const struct target_ops dir_ops = {
    .open = dir_open,
    .remove = dir_remove,
    .rename = dir_rename,
    .list = dir_list,
    .stat_names = dir_stat_names,
    .sync = dir_sync,
    .space = dir_space,
    .subdir = dir_subdir,
    .remove_dir = dir_remove_dir,
    .close = dir_close,
    .readv = file_readv,
    .try_readv = file_try_readv,
    .writev = file_writev,
    .punch = file_punch,
    .allocate = file_allocate,
    .resize = file_resize,
    .object_sync = file_sync,
    .start_sync = file_start_sync,
    .stat = file_stat,
    .next_data = file_next_data,
    .drop_cache = file_drop_cache,
    .lock = file_lock,
    .unlock = file_unlock,
    .is_locked = file_is_locked,
    .object_close = file_close,
};

/* ---- clocks and random bytes ---- */

static uint64_t
system_now_ns(struct io *io)
{
    struct timespec now;

    (void)io;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t
system_wall_seconds(struct io *io)
{
    struct timespec now;

    (void)io;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec;
}

static int
system_random(struct io *io, void *buffer, size_t bytes)
{
    uint8_t *at = buffer;

    (void)io;
    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(-errno, "can't get random bytes: %s",
                           strerror(errno));
        at += got;
        bytes -= (size_t)got;
    }
    return 0;
}

struct io *
io_system(void)
{
    static const struct io_ops ops = {
        .open_dir = system_open_dir,
        .now_ns = system_now_ns,
        .wall_seconds = system_wall_seconds,
        .random = system_random,
    };
    static struct io io = { .ops = &ops };

    return &io;
}
