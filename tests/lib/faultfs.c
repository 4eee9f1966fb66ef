/* faultfs.c: a file system that hangs, fails, slows down and loses what was
 * not synced, when told to; for tests.
 *
 *   faultfs SOURCE MOUNTPOINT SOCKET [--undo]
 * shows SOURCE at MOUNTPOINT until it is unmounted or killed. SOCKET is a Unix
 * socket (SOCK_SEQPACKET) for commands, one a message, each answered "ok":
 *   hang              no call is answered any more
 *   fail KIND ERRNO   calls of this KIND (all, read, write, sync) fail
 *   slow MS [KIND]    calls (of this KIND) take so much longer
 *   resume            as before; what hung is done now, however late
 *   waiting           answered with the number of calls that hang
 *   syncing           the same of syncs that were begun and have not ended
 *   lose [KEPT SEED]  with --undo: as a power cut would leave it. Bytes and
 *                     sizes of files become what they were at their last
 *                     fsync, names in a directory what they were at its own;
 *                     but of what was changed since, KEPT percent stay, in
 *                     any mixture (of names: the first of them), by SEED.
 *                     Directories stay. Nobody may have a file open
 * A call that hangs ends early, with EINTR, if the thread that made it has
 * been killed: as over NFS (hard), where SIGKILL ends a process, and nothing
 * less does. Closing never hangs. Locks are the kernel's own. */
#define FUSE_USE_VERSION 312
#include <fuse.h>
#include <fuse_lowlevel.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum kind { READS, WRITES, SYNCS, KINDS };

static char source[PATH_MAX / 2];
static bool keeps_undo;
static int listener;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool hung;
static int failing[KINDS]; /* errno, or 0 */
static unsigned slow_ms[KINDS], waiting, syncing;

/* SplitMix64 (Steele and others, 2014). */
static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* ---- undoing ---- */

#define PAGE 4096
#define SECTOR 512

struct undo {
    struct undo *next; /* the one before it in time */
    off_t size;        /* of the file before the change */
    off_t at, length;  /* what was changed */
    size_t count;      /* bytes that follow: what was there */
    char bytes[];
};

struct tracked {
    struct tracked *next;
    dev_t dev;
    ino_t ino;
    int fd;
    struct undo *last;
};

/* A page of a file as it is when the power is cut. */
struct page {
    struct page *next;
    off_t at;
    size_t count;
    char bytes[PAGE];
};

enum name_change { NAME_MADE, NAME_REMOVED, NAME_MOVED };

struct name_undo {
    struct name_undo *next; /* the one before it in time */
    enum name_change change;
    dev_t dev;   /* of the directory */
    ino_t ino;
    char *name;  /* path; of MOVED: the new one */
    char *from;  /* of MOVED */
    char *aside; /* a link to the file that the name had; or NULL */
};

static pthread_mutex_t undo_lock = PTHREAD_MUTEX_INITIALIZER;
static struct tracked *tracked;
static struct name_undo *names;
static char aside[PATH_MAX]; /* a directory beside the source */
static unsigned asides;

#define must(what) must_be(what, #what, __LINE__)
static void
must_be(bool true_, const char *what, int line)
{
    if (true_)
        return;
    (void)fprintf(stderr, "line %d: not so: %s: %s\n", line, what,
                  strerror(errno));
    abort();
}

static void *
must_have(void *p)
{
    must(p != NULL);
    return p;
}

static void
forget(struct tracked *t)
{
    while (t->last != NULL) {
        struct undo *u = t->last;

        t->last = u->next;
        free(u);
    }
}

static struct tracked *
find_tracked(int fd, const struct stat *s)
{
    struct tracked *t;
    char path[64];

    for (t = tracked; t != NULL; t = t->next)
        if (t->dev == s->st_dev && t->ino == s->st_ino)
            return t;
    t = must_have(calloc(1, sizeof *t));
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    t->dev = s->st_dev;
    t->ino = s->st_ino;
    t->fd = open(path, O_RDWR | O_CLOEXEC); /* so the inode stays its own */
    must(t->fd >= 0);
    t->next = tracked;
    tracked = t;
    return t;
}

/* Remember a range before it is changed; undo_lock is held. */
static void
remember(int fd, off_t at, off_t length)
{
    off_t count = length;
    struct tracked *t;
    struct undo *u;
    struct stat s;

    if (!keeps_undo || fstat(fd, &s) < 0)
        return;
    if (at >= s.st_size)
        count = 0;
    else if (count > s.st_size - at)
        count = s.st_size - at;
    t = find_tracked(fd, &s);
    u = must_have(malloc(sizeof *u + (size_t)count));
    must(pread(t->fd, u->bytes, (size_t)count, at) == count);
    u->next = t->last;
    u->size = s.st_size;
    u->at = at;
    u->length = length;
    u->count = (size_t)count;
    t->last = u;
}

/* The same of a name, before it is changed; undo_lock is held. */
static void
remember_name(enum name_change change, const char *name, const char *from)
{
    char copy[PATH_MAX], link_name[PATH_MAX];
    struct name_undo *u;
    struct stat s;

    (void)snprintf(copy, sizeof copy, "%s", name);
    if (!keeps_undo || stat(dirname(copy), &s) < 0)
        return;
    u = must_have(calloc(1, sizeof *u));
    u->change = change;
    u->dev = s.st_dev;
    u->ino = s.st_ino;
    u->name = must_have(strdup(name));
    u->from = from ? must_have(strdup(from)) : NULL;
    must(snprintf(link_name, sizeof link_name, "%s/%u", aside, ++asides) <
         (int)sizeof link_name);
    if (link(name, link_name) == 0)
        u->aside = must_have(strdup(link_name));
    u->next = names;
    names = u;
}

static void
free_name(struct name_undo *u)
{
    if (u->aside != NULL)
        (void)unlink(u->aside);
    free(u->name);
    free(u->from);
    free(u->aside);
    free(u);
}

/* Those of one directory. */
static void
forget_names(const struct stat *s)
{
    for (struct name_undo **at = &names; *at != NULL;) {
        struct name_undo *u = *at;

        if (u->dev != s->st_dev || u->ino != s->st_ino) {
            at = &u->next;
            continue;
        }
        *at = u->next;
        free_name(u);
    }
}

static void
undo_name(const struct name_undo *u)
{
    if (u->change == NAME_MADE && u->aside == NULL)
        must(unlink(u->name) == 0);
    if (u->change == NAME_MOVED)
        must(rename(u->name, u->from) == 0);
    if (u->change != NAME_MADE && u->aside != NULL)
        must(link(u->aside, u->name) == 0);
}

/* What is lost of a directory's changes is all behind one of them, as in file
 * systems that keep a log of them. */
static void
lose_names(unsigned kept, uint64_t *random)
{
    while (names != NULL) {
        struct name_undo *u = names;
        struct stat s = { .st_dev = u->dev, .st_ino = u->ino };

        if (next_random(random) % 100 < kept) {
            forget_names(&s);
            continue;
        }
        undo_name(u);
        names = u->next;
        free_name(u);
    }
}

/* Pages that were changed, as they are. */
static struct page *
read_changed(const struct tracked *t)
{
    struct page *pages = NULL;
    struct stat s;

    must(fstat(t->fd, &s) == 0);
    for (const struct undo *u = t->last; u != NULL; u = u->next) {
        off_t end = u->length > s.st_size - u->at ? s.st_size
                                                  : u->at + u->length;

        for (off_t at = u->at / PAGE * PAGE; at < end; at += PAGE) {
            struct page *page = must_have(malloc(sizeof *page));
            ssize_t count = pread(t->fd, page->bytes, PAGE, at);

            must(count >= 0);
            page->at = at;
            page->count = (size_t)count;
            page->next = pages;
            pages = page;
        }
    }
    return pages;
}

/* Some of it stays: all of the page, or its first sectors. */
static void
keep_page(const struct tracked *t, const struct page *page, unsigned kept,
          uint64_t *random)
{
    size_t count = page->count;

    if (next_random(random) % 100 >= kept)
        return;
    if (kept < 100 && next_random(random) % 8 == 0)
        count = count / SECTOR * (next_random(random) % 8) / 8 * SECTOR;
    must(pwrite(t->fd, page->bytes, count, page->at) == (ssize_t)count);
}

static void
lose_bytes(struct tracked *t, unsigned kept, uint64_t *random)
{
    struct page *pages = read_changed(t), *next;

    for (struct undo *u = t->last; u != NULL; u = u->next)
        must(ftruncate(t->fd, u->size) == 0 &&
             pwrite(t->fd, u->bytes, u->count, u->at) == (ssize_t)u->count);
    for (; pages != NULL; pages = next) {
        keep_page(t, pages, kept, random);
        next = pages->next;
        free(pages);
    }
    forget(t);
}

static void
lose_all(unsigned kept, unsigned seed)
{
    uint64_t random = seed;

    pthread_mutex_lock(&undo_lock);
    while (tracked != NULL) {
        struct tracked *t = tracked;

        lose_bytes(t, kept, &random);
        tracked = t->next;
        (void)close(t->fd);
        free(t);
    }
    lose_names(kept, &random);
    pthread_mutex_unlock(&undo_lock);
}

static int
sync_file(int fd, bool data_only)
{
    struct stat s;
    int r = 0;

    pthread_mutex_lock(&undo_lock);
    if ((data_only ? fdatasync(fd) : fsync(fd)) < 0 || fstat(fd, &s) < 0)
        r = -errno;
    else if (keeps_undo && S_ISDIR(s.st_mode))
        forget_names(&s);
    else if (keeps_undo && S_ISREG(s.st_mode))
        forget(find_tracked(fd, &s));
    pthread_mutex_unlock(&undo_lock);
    return r;
}

/* ---- the gate that every call passes ---- */

/* Whether SIGKILL is on its way to the thread that made this call. */
static bool
caller_is_killed(void)
{
    char path[64], line[128];
    unsigned long long pending = 0, bits;
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/status",
                   (int)fuse_get_context()->pid);
    f = fopen(path, "r");
    if (f == NULL)
        return true; /* gone */
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "SigPnd: %llx", &bits) == 1 ||
            sscanf(line, "ShdPnd: %llx", &bits) == 1)
            pending |= bits;
    (void)fclose(f);
    return pending >> (9 - 1) & 1;
}

static void
sleep_ms(unsigned ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    (void)nanosleep(&t, NULL);
}

/* The lock is held. */
static int
wait_while_hung(void)
{
    int r = 0;

    waiting++;
    while (hung && r == 0) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 20 * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&changed, &lock, &until);
        if (hung && fuse_interrupted() && caller_is_killed())
            r = -EINTR;
    }
    waiting--;
    return r;
}

static int
gate(enum kind kind)
{
    unsigned ms;
    int r;

    pthread_mutex_lock(&lock);
    r = wait_while_hung();
    ms = slow_ms[kind];
    if (r == 0)
        r = -failing[kind];
    pthread_mutex_unlock(&lock);
    if (ms > 0)
        sleep_ms(ms);
    return r;
}

static bool
is_number(const char *text, int *ret)
{
    char *end;
    long value = strtol(text, &end, 10);

    *ret = (int)value;
    return end != text && *end == '\0' && value >= 0 && value <= 3600000;
}

static bool
is_kind(const char *text, enum kind kind)
{
    static const char *const kinds[KINDS] = { "read", "write", "sync" };

    return strcmp(text, kinds[kind]) == 0 || strcmp(text, "all") == 0;
}

/* The lock is held. */
static bool
obey(const char *command, const char *first, const char *second)
{
    bool is_slow = strcmp(command, "slow") == 0, known = false;
    const char *kind = is_slow ? second : first;
    int value = 0;

    if (strcmp(command, "hang") == 0)
        return hung = true;
    if (strcmp(command, "resume") == 0) {
        hung = false;
        memset(slow_ms, 0, sizeof slow_ms);
        memset(failing, 0, sizeof failing);
        return true;
    }
    if (!is_slow && strcmp(command, "fail") != 0)
        return false;
    if (!is_number(is_slow ? first : second, &value))
        return false;
    for (enum kind i = 0; i < KINDS; i++) {
        if (!is_kind(kind[0] != '\0' ? kind : "all", i))
            continue;
        if (is_slow)
            slow_ms[i] = (unsigned)value;
        else
            failing[i] = value;
        known = true;
    }
    return known;
}

static void
answer(int fd, char *text)
{
    char command[16] = "", kind[16] = "", number[16] = "", reply[32];
    int kept = 0, seed = 0;
    bool ok = true, is_question;

    (void)sscanf(text, "%15s %15s %15s", command, kind, number);
    pthread_mutex_lock(&lock);
    is_question = strcmp(command, "waiting") == 0 ||
                  strcmp(command, "syncing") == 0;
    (void)snprintf(reply, sizeof reply, "%u",
                   command[0] == 's' ? syncing : waiting);
    if (strcmp(command, "lose") == 0 && keeps_undo &&
        (kind[0] == '\0' ||
         (is_number(kind, &kept) && is_number(number, &seed))))
        lose_all((unsigned)kept, (unsigned)seed);
    else if (!is_question)
        ok = obey(command, kind, number);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (!is_question)
        (void)snprintf(reply, sizeof reply, ok ? "ok" : "what?");
    (void)send(fd, reply, strlen(reply), MSG_NOSIGNAL);
}

static void *
listen_for_commands(void *unused)
{
    (void)unused;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char text[64];
        ssize_t count;

        if (fd < 0)
            continue;
        count = recv(fd, text, sizeof text - 1, 0);
        if (count > 0) {
            text[count] = '\0';
            answer(fd, text);
        }
        (void)close(fd);
    }
    return NULL;
}

/* ---- calls ---- */

/* Of two: rename has both at once. */
static const char *
below(const char *path)
{
    static _Thread_local char full[2][PATH_MAX];
    static _Thread_local int turn;

    turn = !turn;
    (void)snprintf(full[turn], PATH_MAX, "%s%s", source, path);
    return full[turn];
}

static int
fd_of(const struct fuse_file_info *fi)
{
    return (int)fi->fh;
}

#define RESULT(call) ((call) < 0 ? -errno : 0)
#define PASS(kind)                                                           \
    do {                                                                     \
        int passed_ = gate(kind);                                            \
        if (passed_ < 0)                                                     \
            return passed_;                                                  \
    } while (0)

static int
do_getattr(const char *path, struct stat *s, struct fuse_file_info *fi)
{
    PASS(READS);
    return RESULT(fi != NULL ? fstat(fd_of(fi), s) : lstat(below(path), s));
}

static int
do_open(const char *path, struct fuse_file_info *fi)
{
    int fd;

    PASS(READS);
    fd = open(below(path), (fi->flags & ~O_DIRECT) | O_NOFOLLOW | O_CLOEXEC);
    fi->fh = (uint64_t)fd;
    return RESULT(fd);
}

static int
do_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    const char *full = below(path);
    int fd;

    PASS(WRITES);
    pthread_mutex_lock(&undo_lock);
    if (access(full, F_OK) < 0)
        remember_name(NAME_MADE, full, NULL);
    fd = open(full, (fi->flags & ~O_DIRECT) | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
              mode);
    must(fd >= 0 || !keeps_undo);
    pthread_mutex_unlock(&undo_lock);
    fi->fh = (uint64_t)fd;
    return RESULT(fd);
}

/* Of a control socket, too. */
static int
do_mknod(const char *path, mode_t mode, dev_t device)
{
    const char *full = below(path);
    int r;

    PASS(WRITES);
    pthread_mutex_lock(&undo_lock);
    if (access(full, F_OK) < 0)
        remember_name(NAME_MADE, full, NULL);
    r = RESULT(mknod(full, mode, device));
    pthread_mutex_unlock(&undo_lock);
    return r;
}

static int
do_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    (void)fi;
    PASS(WRITES);
    return RESULT(fchmodat(AT_FDCWD, below(path), mode, 0));
}

static int
do_release(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    return RESULT(close(fd_of(fi)));
}

static int
do_read(const char *path, char *buffer, size_t count, off_t at,
        struct fuse_file_info *fi)
{
    ssize_t done;

    (void)path;
    PASS(READS);
    done = pread(fd_of(fi), buffer, count, at);
    return done < 0 ? -errno : (int)done;
}

static int
do_write(const char *path, const char *buffer, size_t count, off_t at,
         struct fuse_file_info *fi)
{
    ssize_t done;

    (void)path;
    PASS(WRITES);
    pthread_mutex_lock(&undo_lock);
    remember(fd_of(fi), at, (off_t)count);
    done = pwrite(fd_of(fi), buffer, count, at);
    pthread_mutex_unlock(&undo_lock);
    return done < 0 ? -errno : (int)done;
}

static int
do_fallocate(const char *path, int mode, off_t at, off_t count,
             struct fuse_file_info *fi)
{
    int r;

    (void)path;
    PASS(WRITES);
    pthread_mutex_lock(&undo_lock);
    remember(fd_of(fi), at, count);
    r = RESULT(fallocate(fd_of(fi), mode, at, count));
    pthread_mutex_unlock(&undo_lock);
    return r;
}

static int
do_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    int fd, r;

    PASS(WRITES);
    fd = fi != NULL ? fd_of(fi) : open(below(path), O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    pthread_mutex_lock(&undo_lock);
    remember(fd, size, INT64_MAX - size);
    r = RESULT(ftruncate(fd, size));
    pthread_mutex_unlock(&undo_lock);
    if (fi == NULL)
        (void)close(fd);
    return r;
}

static void
count_syncs(int more)
{
    pthread_mutex_lock(&lock);
    syncing += (unsigned)more;
    pthread_mutex_unlock(&lock);
}

/* The kernel lets nobody change a file, or names, while it is being synced. */
static int
do_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
    int r;

    (void)path;
    count_syncs(1);
    r = gate(SYNCS);
    if (r == 0 && fuse_interrupted() && caller_is_killed())
        r = -EINTR; /* it never came to be */
    if (r == 0)
        r = sync_file(fd_of(fi), data_only != 0);
    count_syncs(-1);
    return r;
}

static off_t
do_lseek(const char *path, off_t at, int whence, struct fuse_file_info *fi)
{
    off_t found;

    (void)path;
    PASS(READS);
    found = lseek(fd_of(fi), at, whence);
    return found < 0 ? -errno : found;
}

static int
do_statfs(const char *path, struct statvfs *s)
{
    PASS(READS);
    return RESULT(statvfs(below(path), s));
}

static int
do_unlink(const char *path)
{
    const char *full = below(path);
    int r;

    PASS(WRITES);
    pthread_mutex_lock(&undo_lock);
    if (access(full, F_OK) == 0)
        remember_name(NAME_REMOVED, full, NULL);
    r = RESULT(unlink(full));
    pthread_mutex_unlock(&undo_lock);
    return r;
}

static int
do_mkdir(const char *path, mode_t mode)
{
    PASS(WRITES);
    return RESULT(mkdir(below(path), mode));
}

static int
do_rmdir(const char *path)
{
    PASS(WRITES);
    return RESULT(rmdir(below(path)));
}

static int
do_rename(const char *from, const char *to, unsigned flags)
{
    const char *full_from = below(from), *full_to = below(to);
    int r;

    PASS(WRITES);
    pthread_mutex_lock(&undo_lock);
    if (access(full_from, F_OK) == 0)
        remember_name(NAME_MOVED, full_to, full_from);
    r = RESULT(renameat2(AT_FDCWD, full_from, AT_FDCWD, full_to, flags));
    must(r == 0 || !keeps_undo);
    pthread_mutex_unlock(&undo_lock);
    return r;
}

static int
do_opendir(const char *path, struct fuse_file_info *fi)
{
    int fd;

    PASS(READS);
    fd = open(below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fi->fh = (uint64_t)fd;
    return RESULT(fd);
}

static int
do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t at,
           struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
    struct dirent *entry;
    DIR *dir;

    (void)path;
    (void)at;
    (void)flags;
    PASS(READS);
    dir = fdopendir(openat(fd_of(fi), ".", O_RDONLY | O_DIRECTORY |
                           O_CLOEXEC));
    if (dir == NULL)
        return -errno;
    while ((entry = readdir(dir)) != NULL)
        (void)fill(buffer, entry->d_name, NULL, 0, 0);
    (void)closedir(dir);
    return 0;
}

static void *
do_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    pthread_t thread;

    (void)connection;
    config->use_ino = 1;
    config->nullpath_ok = 1;
    config->intr = 1;
    config->intr_signal = SIGUSR1;
    config->hard_remove = 1; /* no .fuse_hidden in listings */
    config->entry_timeout = config->attr_timeout = 0; /* ask us always */
    if (pthread_create(&thread, NULL, listen_for_commands, NULL) != 0)
        abort();
    return NULL;
}

static const struct fuse_operations operations = {
    .init = do_init, .getattr = do_getattr, .open = do_open,
    .create = do_create, .mknod = do_mknod, .chmod = do_chmod,
    .release = do_release, .read = do_read,
    .write = do_write, .fallocate = do_fallocate, .truncate = do_truncate,
    .fsync = do_fsync, .lseek = do_lseek, .statfs = do_statfs,
    .unlink = do_unlink, .mkdir = do_mkdir, .rmdir = do_rmdir,
    .rename = do_rename, .opendir = do_opendir, .releasedir = do_release,
    .readdir = do_readdir, .fsyncdir = do_fsync,
};

static int
listen_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    (void)strcpy(address.sun_path, path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return listener < 0 || bind(listener, (struct sockaddr *)&address,
                                sizeof address) < 0 ||
           listen(listener, 8) < 0 ? -1 : 0;
}

/* Its arrival ends nothing: fuse_interrupted tells. */
static void
ignore_signal(int signal_number)
{
    (void)signal_number;
}

int
main(int argc, char **argv)
{
    char *options[] = { argv[0], (char[]){ "-ofsname=faultfs" }, NULL };
    struct fuse_args args = FUSE_ARGS_INIT(2, options);
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    struct sigaction interrupted = { .sa_handler = ignore_signal };
    struct fuse *fuse;
    int r;

    if (argc < 4 || loop == NULL || strlen(argv[1]) >= sizeof source) {
        (void)fputs("faultfs SOURCE MOUNTPOINT SOCKET [--undo]\n", stderr);
        return 64;
    }
    (void)strcpy(source, argv[1]);
    keeps_undo = argc > 4 && strcmp(argv[4], "--undo") == 0;
    (void)snprintf(aside, sizeof aside, "%s.aside", source);
    if (keeps_undo && mkdir(aside, 0700) < 0 && errno != EEXIST) {
        perror(aside);
        return 1;
    }
    (void)umask(0); /* the kernel has applied the caller's */
    (void)sigaction(SIGUSR1, &interrupted, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* leave nothing that hangs */
    if (listen_at(argv[3]) < 0) {
        perror(argv[3]);
        return 1;
    }
    fuse = fuse_new(&args, &operations, sizeof operations, NULL);
    if (fuse == NULL || fuse_mount(fuse, argv[2]) < 0)
        return 1;
    /* A thread for each call that hangs. */
    fuse_loop_cfg_set_max_threads(loop, 10000);
    fuse_loop_cfg_set_idle_threads(loop, 16);
    r = fuse_loop_mt(fuse, loop);
    fuse_unmount(fuse);
    return r != 0;
}
