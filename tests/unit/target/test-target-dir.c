/* The directory target on a real directory: what is refused, what lasts, who
 * may lock.
 *
 *   test-target-dir [guarded] [openat2] [fallocate] [seek]
 * guarded: through a guard (target/guard.h), with the same results. The calls
 * named are missing, as in old kernels, containers that filter them, and file
 * systems (NFS v3) that can't: so the fallbacks are tested, too. Exit status
 * 77: they can't be taken away here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/memory.h"
#include "target/guard.h"
#include "target/target.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

/* What the process was started without. */
static bool lacks_fallocate, lacks_seek;

static struct io *guarded; /* NULL: the real world, bare */

static struct io *
the_io(void)
{
    return guarded != NULL ? guarded : io_system();
}

struct world {
    char path[64];
    int fd; /* of the directory: the test's own way in */
    struct target *t;
};

static int
set_up(void **state)
{
    struct io *io = the_io();
    struct world *w = calloc(1, sizeof *w);
    const char *tmp = getenv("TMPDIR");

    if (w == NULL)
        return -1;
    (void)snprintf(w->path, sizeof w->path, "%s/lsvd-dir-XXXXXX",
                   tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
    if (mkdtemp(w->path) == NULL)
        return -1;
    w->fd = open(w->path, O_RDONLY | O_DIRECTORY);
    *state = w;
    return io->ops->open_dir(io, w->path, 0, &w->t);
}

static int
remove_entry(void *ctx, const char *name)
{
    const struct world *w = ctx;

    if (unlinkat(w->fd, name, 0) < 0)
        return unlinkat(w->fd, name, AT_REMOVEDIR);
    return 0;
}

static int
tear_down(void **state)
{
    struct world *w = *state;
    int r;

    r = target_list(w->t, remove_entry, w);
    target_close(w->t);
    (void)close(w->fd);
    if (r == 0)
        r = rmdir(w->path);
    free(w);
    return r;
}

static void
assert_error_names(const char *what)
{
    if (strstr(err_text(), what) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err_text(), what);
}

static void
put_file(const struct world *w, const char *name, const char *bytes)
{
    int fd = openat(w->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t count = (ssize_t)strlen(bytes);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, strlen(bytes)), count);
    assert_int_equal(close(fd), 0);
}

static void
a_name_is_one_component(void **state)
{
    static const char *const names[] = { "", ".", "..", "/", "a/b", "../a",
                                         "/etc/passwd", "a/" };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct target *sub;
        struct object *o;

        assert_int_equal(target_open(w->t, names[i],
                                     OBJECT_WRITE | OBJECT_CREATE, &o),
                         -EINVAL);
        assert_error_names(w->path);
        assert_int_equal(target_remove(w->t, names[i]), -EINVAL);
        assert_int_equal(target_rename(w->t, names[i], "x"), -EINVAL);
        assert_int_equal(target_rename(w->t, "x", names[i]), -EINVAL);
        assert_int_equal(target_subdir(w->t, names[i], DIR_CREATE, &sub),
                         -EINVAL);
        assert_int_equal(target_remove_dir(w->t, names[i]), -EINVAL);
    }
}

/* Both ways of opening are refused with -EPROTO and a text that names it. */
static void
assert_refused(const struct world *w, const char *name, const char *kind)
{
    static const unsigned ways[] = { 0, OBJECT_WRITE,
                                     OBJECT_WRITE | OBJECT_CREATE };

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct object *o;

        assert_int_equal(target_open(w->t, name, ways[i], &o), -EPROTO);
        assert_error_names(name);
        assert_error_names(kind);
        assert_error_names(w->path);
    }
}

static void
a_symlink_is_refused(void **state)
{
    struct world *w = *state;
    struct target *sub;

    put_file(w, "plain", "x");
    assert_int_equal(symlinkat("plain", w->fd, "link"), 0);
    assert_refused(w, "link", "symbolic link");
    assert_int_equal(symlinkat("nowhere", w->fd, "dangling"), 0);
    assert_refused(w, "dangling", "symbolic link");
    assert_int_equal(faccessat(w->fd, "nowhere", F_OK, 0), -1);
    assert_int_equal(symlinkat("/tmp", w->fd, "dirlink"), 0);
    assert_int_equal(target_subdir(w->t, "dirlink", 0, &sub), -EPROTO);
    assert_error_names("symbolic link");
    assert_int_equal(target_subdir(w->t, "dirlink", DIR_CREATE, &sub),
                     -EPROTO);
}

static void
special_files_are_refused_without_waiting(void **state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct world *w = *state;
    int fd;

    assert_int_equal(mkfifoat(w->fd, "fifo", 0600), 0);
    assert_refused(w, "fifo", "FIFO");
    assert_int_equal(mkdirat(w->fd, "folder", 0700), 0);
    assert_refused(w, "folder", "directory");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/socket",
                   w->path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address,
                          sizeof address), 0);
    assert_refused(w, "socket", "socket");
    (void)close(fd);
}

static void
a_device_is_refused(void **state)
{
    struct world *w = *state;

    if (mknodat(w->fd, "null", S_IFCHR | 0600, makedev(1, 3)) < 0)
        skip(); /* only root may make one */
    assert_refused(w, "null", "device");
}

static void
a_hard_link_is_refused(void **state)
{
    struct world *w = *state;

    put_file(w, "one", "x");
    assert_int_equal(linkat(w->fd, "one", w->fd, "two", 0), 0);
    assert_refused(w, "one", "hard link");
    assert_refused(w, "two", "hard link");
}

static void
a_file_is_no_directory(void **state)
{
    struct io *io = the_io();
    struct world *w = *state;
    struct target *sub;
    char path[128];

    put_file(w, "plain", "x");
    assert_int_equal(target_subdir(w->t, "plain", 0, &sub), -ENOTDIR);
    assert_int_equal(target_subdir(w->t, "none", 0, &sub), -ENOENT);
    assert_error_names("none");
    (void)snprintf(path, sizeof path, "%s/plain", w->path);
    assert_int_equal(io->ops->open_dir(io, path, DIR_CREATE, &sub), -ENOTDIR);
    (void)snprintf(path, sizeof path, "%s/no/where", w->path);
    assert_int_equal(io->ops->open_dir(io, path, DIR_CREATE, &sub), -ENOENT);
    assert_error_names(path);
}

static void
a_root_may_be_reached_through_links(void **state)
{
    struct io *io = the_io();
    struct world *w = *state;
    struct target *root;
    struct object *o;
    char path[128];

    assert_int_equal(symlinkat(w->path, w->fd, "mnt"), 0);
    (void)snprintf(path, sizeof path, "%s/mnt/made", w->path);
    assert_int_equal(io->ops->open_dir(io, path, 0, &root), -ENOENT);
    assert_int_equal(io->ops->open_dir(io, path, DIR_CREATE, &root), 0);
    assert_string_equal(root->path, path);
    assert_int_equal(target_open(root, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    object_close(o);
    assert_int_equal(target_remove(root, "x"), 0);
    target_close(root);
    assert_int_equal(io->ops->open_dir(io, path, DIR_CREATE, &root), 0);
    target_close(root);
}

static void
create_and_excl(void **state)
{
    struct world *w = *state;
    struct object *o;
    struct stat st;

    assert_int_equal(target_open(w->t, "x", 0, &o), -ENOENT);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE, &o), -ENOENT);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE |
                                 OBJECT_EXCL, &o), 0);
    object_close(o);
    assert_int_equal(fstatat(w->fd, "x", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE |
                                 OBJECT_EXCL, &o), -EEXIST);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    object_close(o);
    object_close(NULL);
    target_close(NULL);
}

#define PIECES 3000 /* more than a system call takes */

static void
long_vectors_are_whole(void **state)
{
    struct world *w = *state;
    struct iovec iov[PIECES];
    static uint8_t in[PIECES * 7], out[PIECES * 7];
    struct object *o;
    size_t used = 0;

    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 31 + i / 256);
    for (size_t i = 0; i < PIECES; i++) { /* of 0 to 6 bytes */
        iov[i].iov_base = in + used;
        iov[i].iov_len = i % 7;
        used += i % 7;
    }
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    assert_int_equal(object_writev(o, iov, PIECES, 100), 0);
    assert_int_equal(object_read(o, out, used, 100), 0);
    assert_memory_equal(in, out, used);
    memset(out, 0, sizeof out);
    used = 0;
    for (size_t i = 0; i < PIECES; i++) {
        iov[i].iov_base = out + used;
        used += iov[i].iov_len;
    }
    assert_int_equal(object_readv(o, iov, PIECES, 100), 0);
    assert_memory_equal(in, out, used);
    assert_int_equal(object_readv(o, iov, 0, 5000), 0);
    object_close(o);
}

static void
a_short_read_is_an_error(void **state)
{
    struct world *w = *state;
    char buffer[8];
    struct object *o;

    put_file(w, "x", "12345");
    assert_int_equal(target_open(w->t, "x", 0, &o), 0);
    assert_int_equal(object_read(o, buffer, 5, 0), 0);
    assert_int_equal(object_read(o, buffer, 6, 0), -EIO);
    assert_error_names("/x");
    assert_int_equal(object_read(o, buffer, 1, 5), -EIO);
    assert_int_equal(object_read(o, buffer, 8, INT64_MAX - 3), -EFBIG);
    assert_int_equal(object_read(o, buffer, 8, UINT64_MAX - 3), -EFBIG);
    object_close(o);
}

/* Whether bytes are at hand is the kernel's to say; what is not there isn't.
 */
static void
bytes_at_hand_are_the_bytes(void **state)
{
    struct world *w = *state;
    char buffer[8] = { 0 };
    struct iovec iov[2] = { { buffer, 2 }, { buffer + 2, 3 } };
    struct object *o;

    put_file(w, "x", "12345");
    assert_int_equal(target_open(w->t, "x", 0, &o), 0);
    for (int i = 0; i < 3; i++) {
        int r = o->ops->try_readv(o, iov, 2, 0);

        assert_true(r == 0 || r == -EAGAIN);
        if (r == 0)
            assert_memory_equal(buffer, "12345", 5);
        memset(buffer, 0, sizeof buffer);
    }
    assert_int_equal(o->ops->try_readv(o, iov, 2, 1), -EAGAIN);
    assert_int_equal(o->ops->try_readv(o, iov, 2, UINT64_MAX), -EAGAIN);
    object_close(o);
}

static void
punched_bytes_are_zero_and_free(void **state)
{
    static uint8_t bytes[1 << 20];
    struct world *w = *state;
    struct object_stat before, after;
    struct object *o;

    memset(bytes, 0xaa, sizeof bytes);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    assert_int_equal(object_write(o, bytes, sizeof bytes, 0), 0);
    assert_int_equal(object_sync(o), 0);
    assert_int_equal(object_stat(o, &before), 0);
    assert_int_equal(object_punch(o, 65536 + 1, 262144), 0);
    assert_int_equal(object_punch(o, sizeof bytes - 10, 4096), 0);
    assert_int_equal(object_punch(o, 5, 0), 0);
    assert_int_equal(object_sync(o), 0);
    assert_int_equal(object_stat(o, &after), 0);
    assert_int_equal(after.size_bytes, sizeof bytes); /* the size stays */
    if (!lacks_fallocate)
        assert_true(after.allocated_bytes < before.allocated_bytes);
    assert_int_equal(object_read(o, bytes, sizeof bytes, 0), 0);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bool punched = (i > 65536 && i <= 65536 + 262144) ||
                       i >= sizeof bytes - 10;

        assert_int_equal(bytes[i], punched ? 0 : 0xaa);
    }
    object_close(o);
}

/* Data, a hole, data, a hole to the end. */
static void
data_is_found_between_holes(void **state)
{
    static uint8_t bytes[65536];
    struct world *w = *state;
    uint64_t begin, end;
    struct object *o;

    memset(bytes, 0xaa, sizeof bytes);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    assert_int_equal(object_write(o, bytes, sizeof bytes, 0), 0);
    assert_int_equal(object_write(o, bytes, sizeof bytes, 1 << 20), 0);
    assert_int_equal(object_resize(o, 2 << 20), 0);
    assert_int_equal(object_next_data(o, 5, &begin, &end), 0);
    assert_int_equal(begin, 5);
    assert_int_equal(end, lacks_seek ? 2 << 20 : 65536);
    assert_int_equal(object_next_data(o, 65536, &begin, &end), 0);
    assert_int_equal(begin, lacks_seek ? 65536 : 1 << 20);
    assert_int_equal(end, lacks_seek ? 2 << 20 : (1 << 20) + 65536);
    if (!lacks_seek)
        assert_int_equal(object_next_data(o, end, &begin, &end), -ENXIO);
    assert_int_equal(object_next_data(o, 2 << 20, &begin, &end), -ENXIO);
    assert_int_equal(object_next_data(o, UINT64_MAX, &begin, &end), -EFBIG);
    object_close(o);
}

/* What was there stays, what was not reads as zeroes. */
static void
allocating_keeps_the_bytes(void **state)
{
    static uint8_t bytes[3 * 65536];
    struct world *w = *state;
    struct object *o;

    memset(bytes, 0xaa, 65536);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    assert_int_equal(object_write(o, bytes, 65536, 65536), 0);
    assert_int_equal(object_allocate(o, 100, sizeof bytes - 100), 0);
    assert_int_equal(object_read(o, bytes, sizeof bytes, 0), 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], i / 65536 == 1 ? 0xaa : 0);
    object_close(o);
}

static void
resize_and_allocate(void **state)
{
    struct world *w = *state;
    struct object_stat st;
    uint64_t begin, end;
    struct object *o;
    uint8_t byte = 7;

    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    assert_int_equal(object_resize(o, 1 << 20), 0);
    assert_int_equal(object_stat(o, &st), 0);
    assert_int_equal(st.size_bytes, 1 << 20);
    if (!lacks_seek)
        assert_int_equal(object_next_data(o, 0, &begin, &end), -ENXIO);
    assert_int_equal(object_allocate(o, 0, 2 << 20), 0);
    assert_int_equal(object_stat(o, &st), 0);
    assert_int_equal(st.size_bytes, 2 << 20);
    if (!lacks_fallocate || !lacks_seek)
        assert_true(st.allocated_bytes >= 2 << 20);
    assert_int_equal(object_read(o, &byte, 1, (2 << 20) - 1), 0);
    assert_int_equal(byte, 0);
    assert_int_equal(object_resize(o, 0), 0);
    assert_int_equal(object_stat(o, &st), 0);
    assert_int_equal(st.size_bytes, 0);
    assert_int_equal(object_sync(o), 0);
    object_drop_cache(o);
    object_close(o);
}

/* More neighbours than one call takes, and others; nothing in between. */
static void
pieces_land_in_their_places(void **state)
{
    enum { COUNT = 200, SIZE = 100, NEIGHBOURS = 150 };
    struct object_piece piece[COUNT];
    struct world *w = *state;
    uint8_t bytes[COUNT * SIZE], model[2 * COUNT * SIZE] = {0};
    uint8_t found[sizeof model];
    struct object *o;

    for (size_t i = 0; i < COUNT; i++) {
        size_t place = i < NEIGHBOURS ? i : i + (i - NEIGHBOURS) / 2 * 3;

        memset(bytes + i * SIZE, (int)(1 + i), SIZE);
        memset(model + place * SIZE, (int)(1 + i), SIZE);
        piece[i] = (struct object_piece){place * SIZE,
                                         {bytes + i * SIZE, SIZE}};
    }
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE, &o),
                     0);
    assert_int_equal(object_resize(o, sizeof model), 0);
    assert_int_equal(object_write_pieces(o, piece, COUNT), 0);
    assert_int_equal(object_sync(o), 0);
    assert_int_equal(object_read(o, found, sizeof found, 0), 0);
    assert_memory_equal(found, model, sizeof model);
    object_close(o);
}

/* Whether the medium is to begin with them at once or not: what is read is what
 * was written last. */
static void
eager_writes_are_the_bytes(void **state)
{
    enum { BULK = 1 << 20 };
    struct world *w = *state;
    uint8_t *model = calloc(1, BULK), *found = malloc(BULK), *from = NULL;
    unsigned seed = 5;
    struct object *o;

    assert_int_equal(mem_new_aligned(BULK, &from), 0);
    assert_true(model != NULL && found != NULL);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE | OBJECT_CREATE |
                                 OBJECT_EAGER, &o), 0);
    assert_int_equal(object_resize(o, BULK), 0);
    for (unsigned i = 0; i < 200; i++) {
        uint32_t unit = rand_r(&seed) % 3 ? 4096 : 512;
        uint32_t bytes = 0, at;

        bytes = (1 + (unsigned)rand_r(&seed) % 64) * unit;
        at = (unsigned)rand_r(&seed) % ((BULK - bytes) / unit + 1) * unit;
        memset(from, (int)(1 + i), bytes + 512);
        memset(model + at, (int)(1 + i) & 0xff, bytes);
        assert_int_equal(object_write(o, from, bytes, at), 0);
        if (i % 10 == 0) {
            assert_int_equal(object_read(o, found, BULK, 0), 0);
            assert_memory_equal(found, model, BULK);
        }
    }
    assert_int_equal(object_sync(o), 0);
    object_close(o);
    assert_int_equal(target_open(w->t, "x", 0, &o), 0);
    assert_int_equal(object_read(o, found, BULK, 0), 0);
    assert_memory_equal(found, model, BULK);
    object_close(o);
    free(model);
    free(found);
    free(from);
}

static void
locks_exclude_other_objects(void **state)
{
    struct world *w = *state;
    struct object *a, *b;

    put_file(w, "x", "x");
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE, &a), 0);
    assert_int_equal(target_open(w->t, "x", OBJECT_WRITE, &b), 0);
    assert_int_equal(object_is_locked(b, 0, 0), 0);
    assert_int_equal(object_lock(a, 0, 1, true), 0);
    assert_int_equal(object_lock(b, 0, 1, true), -EBUSY);
    assert_error_names("/x");
    assert_int_equal(object_lock(b, 0, 0, false), -EBUSY);
    assert_int_equal(object_is_locked(b, 0, 0), 1);
    assert_int_equal(object_is_locked(a, 0, 0), 0); /* by somebody else */
    assert_int_equal(object_is_locked(b, 1, 0), 0);
    assert_int_equal(object_lock(b, 1, 0, true), 0); /* another range */
    assert_int_equal(object_lock(a, 500, 1, false), -EBUSY);
    object_close(b); /* gives up only its own */
    assert_int_equal(target_open(w->t, "x", 0, &b), 0);
    assert_int_equal(object_is_locked(b, 0, 1), 1);
    assert_int_equal(object_unlock(a, 0, 1), 0);
    assert_int_equal(object_is_locked(b, 0, 1), 0);
    assert_int_equal(object_lock(b, 0, 1, false), 0);
    assert_int_equal(object_lock(a, 0, 1, false), 0);
    assert_int_equal(object_is_locked(a, 0, 1), 0); /* shared excludes none */
    assert_int_equal(object_lock(a, 0, 1, true), -EBUSY);
    object_close(b);
    assert_int_equal(object_lock(a, 0, 1, true), 0);
    object_close(a);
}

struct names {
    unsigned seen_a, seen_b, others;
};

static int
count_name(void *ctx, const char *name)
{
    struct names *names = ctx;

    if (strcmp(name, "a") == 0)
        names->seen_a++;
    else if (strcmp(name, "b") == 0)
        names->seen_b++;
    else
        names->others++;
    return 0;
}

static int
stop_at_once(void *ctx, const char *name)
{
    unsigned *calls = ctx;

    (void)name;
    (*calls)++;
    return -EINTR;
}

/* As opening each would tell. */
static void
names_are_judged_by_the_directory(void **state)
{
    struct world *w = *state;
    const char *names[] = {"plain", "none", "link", "dir", "hard"};
    const int expected[] = {0, -ENOENT, -EPROTO, -EPROTO, -EPROTO};
    struct target_named named[5];
    const char *beyond = "../plain";

    put_file(w, "plain", "12345");
    put_file(w, "hard", "x");
    assert_int_equal(linkat(w->fd, "hard", w->fd, "hard2", 0), 0);
    assert_int_equal(symlinkat("plain", w->fd, "link"), 0);
    assert_int_equal(mkdirat(w->fd, "dir", 0700), 0);
    assert_int_equal(target_stat_names(w->t, names, 5, named), 0);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(named[i].error, expected[i]);
    assert_int_equal(named[0].size_bytes, 5);
    assert_int_equal(target_stat_names(w->t, &beyond, 1, named), -EINVAL);
}

static void
lists_every_name_once(void **state)
{
    struct world *w = *state;
    unsigned calls = 0;

    put_file(w, "a", "");
    assert_int_equal(mkdirat(w->fd, "b", 0700), 0);
    for (int again = 0; again < 2; again++) {
        struct names names = { 0 };

        assert_int_equal(target_list(w->t, count_name, &names), 0);
        assert_int_equal(names.seen_a, 1);
        assert_int_equal(names.seen_b, 1);
        assert_int_equal(names.others, 0);
    }
    assert_int_equal(target_list(w->t, stop_at_once, &calls), -EINTR);
    assert_int_equal(calls, 1);
}

static void
names_are_removed_and_renamed(void **state)
{
    struct world *w = *state;
    struct target *sub;

    put_file(w, "a", "1");
    put_file(w, "b", "2");
    assert_int_equal(target_rename(w->t, "a", "b"), 0);
    assert_int_equal(target_rename(w->t, "a", "c"), -ENOENT);
    assert_int_equal(target_sync(w->t), 0);
    assert_int_equal(target_remove(w->t, "b"), 0);
    assert_int_equal(target_remove(w->t, "b"), -ENOENT);
    assert_int_equal(target_subdir(w->t, "d", DIR_CREATE, &sub), 0);
    put_file(w, "d/x", "");
    target_close(sub);
    assert_int_equal(target_subdir(w->t, "d", DIR_CREATE, &sub), 0);
    assert_true(target_remove_dir(w->t, "d") < 0); /* not empty */
    assert_int_equal(target_remove(sub, "x"), 0);
    target_close(sub);
    assert_int_equal(target_remove_dir(w->t, "d"), 0);
}

static void
space_is_told(void **state)
{
    struct world *w = *state;
    struct target_space space;
    struct stat st;

    assert_int_equal(target_space(w->t, &space), 0);
    assert_int_equal(fstat(w->fd, &st), 0);
    assert_true(space.total_bytes > 0);
    assert_true(space.free_bytes <= space.total_bytes);
    assert_int_equal(space.device, st.st_dev);
}

static void
load_is_bounded(void **state)
{
    struct world *w = *state;
    uint8_t *bytes;
    size_t count;

    put_file(w, "x", "hello");
    assert_int_equal(target_load(w->t, "x", 5, &bytes, &count), 0);
    assert_int_equal(count, 5);
    assert_string_equal((char *)bytes, "hello");
    free(bytes);
    assert_int_equal(target_load(w->t, "x", 4, &bytes, &count), -EBADMSG);
    assert_error_names("/x");
    assert_int_equal(target_load(w->t, "y", 4, &bytes, &count), -ENOENT);
}

static void
store_replaces_and_is_never_fooled(void **state)
{
    struct world *w = *state;
    struct names names = { 0 };
    uint8_t *bytes;
    size_t count;

    put_file(w, "precious", "untouched");
    /* What a crash, or somebody else, left at the name in between. */
    assert_int_equal(symlinkat("precious", w->fd, "a.new"), 0);
    assert_int_equal(target_store(w->t, "a", "one", 3), 0);
    assert_int_equal(target_store(w->t, "a", "", 0), 0);
    put_file(w, "a.new", "long leftover of a crash");
    assert_int_equal(target_store(w->t, "a", "two", 3), 0);
    assert_int_equal(target_load(w->t, "a", 100, &bytes, &count), 0);
    assert_int_equal(count, 3);
    assert_memory_equal(bytes, "two", 3);
    free(bytes);
    assert_int_equal(target_load(w->t, "precious", 100, &bytes, &count), 0);
    assert_string_equal((char *)bytes, "untouched");
    free(bytes);
    assert_int_equal(target_list(w->t, count_name, &names), 0);
    assert_int_equal(names.seen_a, 1);
    assert_int_equal(names.others, 1); /* no a.new */
}

/* A reader beside somebody who replaces a name sees one of the contents, and
 * never that the name is missing. */
struct replacer {
    struct target *t;
    atomic_bool stop;
    int r;
};

static int
replace_once(struct target *t, char c)
{
    struct object *o;
    char text[1000];
    int r;

    memset(text, c, sizeof text);
    r = target_open(t, "x.new", OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL,
                    &o);
    if (r < 0)
        return r;
    r = object_write(o, text, sizeof text, 0);
    object_close(o);
    if (r == 0) /* as target_store, without the syncs that slow it down */
        r = target_rename(t, "x.new", "x");
    return r;
}

static void *
replace_until_stop(void *arg)
{
    struct replacer *s = arg;

    for (char c = 'a'; !atomic_load(&s->stop) && s->r == 0;
         c = c == 'z' ? 'a' : (char)(c + 1))
        s->r = replace_once(s->t, c);
    return NULL;
}

static int
load_and_judge(struct target *t)
{
    uint8_t *bytes;
    size_t count;
    int r;

    r = target_load(t, "x", 2000, &bytes, &count);
    if (r < 0)
        return r;
    if (count != 1000 || memcmp(bytes, bytes + 1, count - 1) != 0)
        r = err_set(-EBADMSG, "a mix");
    free(bytes);
    return r;
}

static void
replacing_is_atomic_for_readers(void **state)
{
    struct world *w = *state;
    struct replacer replacer = { .t = w->t, .r = 0 };
    pthread_t thread;
    int r = 0;

    assert_int_equal(replace_once(w->t, 'A'), 0);
    atomic_init(&replacer.stop, false);
    assert_int_equal(pthread_create(&thread, NULL, replace_until_stop,
                                    &replacer), 0);
    for (int i = 0; i < 20000 && r == 0; i++)
        r = load_and_judge(w->t);
    atomic_store(&replacer.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (r < 0)
        fail_msg("reader saw %d: %s", r, err_text());
    assert_int_equal(replacer.r, 0);
}

static void
every_allocation_may_fail(void **state)
{
    struct world *w = *state;
    bool fired = true;
    long nth;

    if (guarded != NULL)
        skip(); /* see test-target-guard: not every failure is seen */
    assert_int_equal(target_store(w->t, "a", "old", 3), 0);
    for (nth = 0; fired; nth++) {
        struct target *sub = NULL;
        uint8_t *bytes = NULL;
        size_t count;
        int r;

        (void)mem_fail_after(nth);
        r = target_store(w->t, "a", "old", 3);
        if (r == 0)
            r = target_subdir(w->t, "b", DIR_CREATE, &sub);
        if (r == 0)
            r = target_load(w->t, "a", 10, &bytes, &count);
        fired = mem_fail_after(-1);
        assert_int_equal(r, fired ? -ENOMEM : 0);
        target_close(sub);
        free(bytes);
        assert_int_equal(target_load(w->t, "a", 10, &bytes, &count), 0);
        assert_string_equal((char *)bytes, "old");
        free(bytes);
    }
    assert_true(nth > 5);
}

static void
clocks_go_on_and_random_differs(void **state)
{
    struct io *io = the_io();
    uint8_t a[32] = { 0 }, b[32] = { 0 };
    uint64_t before = io->ops->now_ns(io);

    (void)state;
    assert_true(io->ops->now_ns(io) >= before);
    assert_true(io->ops->wall_seconds(io) > 1600000000);
    assert_int_equal(io->ops->random(io, a, sizeof a), 0);
    assert_int_equal(io->ops->random(io, b, sizeof b), 0);
    assert_memory_not_equal(a, b, sizeof a);
}

/* From now on the call fails with this error, if its third argument is at
 * least `least`. */
static int
take_away(unsigned call, unsigned least, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, least, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {
        .len = sizeof code / sizeof code[0], .filter = code,
    };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Returns an exit status. */
static int
take_away_named(const char *name)
{
    int r = -1;

    if (strcmp(name, "openat2") == 0) {
        r = take_away(SYS_openat2, 0, ENOSYS);
        if (r == 0 && (syscall(SYS_openat2, -1, "", NULL, 0) != -1 ||
                       errno != ENOSYS))
            r = -1;
    } else if (strcmp(name, "fallocate") == 0) {
        r = take_away(SYS_fallocate, 0, EOPNOTSUPP);
        lacks_fallocate = true;
    } else if (strcmp(name, "seek") == 0) {
        r = take_away(SYS_lseek, SEEK_DATA, EINVAL);
        lacks_seek = true;
    } else {
        (void)fprintf(stderr, "%s: not a call\n", name);
        return 64;
    }
    if (r < 0)
        (void)fprintf(stderr, "can't take %s away\n", name);
    return r < 0 ? 77 : 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_is_one_component),
        TEST(a_symlink_is_refused),
        TEST(special_files_are_refused_without_waiting),
        TEST(a_device_is_refused),
        TEST(a_hard_link_is_refused),
        TEST(a_file_is_no_directory),
        TEST(a_root_may_be_reached_through_links),
        TEST(create_and_excl),
        TEST(long_vectors_are_whole),
        TEST(a_short_read_is_an_error),
        TEST(bytes_at_hand_are_the_bytes),
        TEST(pieces_land_in_their_places),
        TEST(eager_writes_are_the_bytes),
        TEST(punched_bytes_are_zero_and_free),
        TEST(data_is_found_between_holes),
        TEST(allocating_keeps_the_bytes),
        TEST(resize_and_allocate),
        TEST(locks_exclude_other_objects),
        TEST(names_are_judged_by_the_directory),
        TEST(lists_every_name_once),
        TEST(names_are_removed_and_renamed),
        TEST(space_is_told),
        TEST(load_is_bounded),
        TEST(store_replaces_and_is_never_fooled),
        TEST(replacing_is_atomic_for_readers),
        TEST(every_allocation_may_fail),
        cmocka_unit_test(clocks_go_on_and_random_differs),
    };

    int r;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "guarded") == 0)
            r = guard_new(io_system(), 60000, &guarded) < 0 ? 1 : 0;
        else
            r = take_away_named(argv[i]);
        if (r != 0)
            return r;
    }
    r = cmocka_run_group_tests(tests, NULL, NULL);
    guard_free(guarded);
    return r;
}
