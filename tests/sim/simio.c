/* simio.c: life and death of the simulated world; see simio.h. */
#include "simtree.h"
#include "base/err.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct io_ops sim_io_ops;

const char *
simio_call_name(enum sim_call kind)
{
    static const char *const names[SIM_CALL_KINDS] = {
        "open",     "read",   "write",  "punch",    "allocate", "resize",
        "sync",     "sync-dir", "rename", "remove", "make-dir", "other",
    };

    return names[kind];
}

struct simio *
simio_new(uint64_t seed)
{
    struct simio *s = calloc(1, sizeof *s);

    if (!s)
        abort();
    s->io.ops = &sim_io_ops;
    prng_seed(&s->prng, seed);
    s->root = sim_inode_new(true);
    s->serial = 1;
    s->now_ns = 1000000000;
    return s;
}

void
simio_free(struct simio *s)
{
    if (!s)
        return;
    assert(s->handles == 0);
    sim_inode_put(s->root);
    free(s);
}

struct simio *
simio_clone(const struct simio *s, uint64_t seed)
{
    struct simio *copy = simio_new(seed);

    sim_inode_put(copy->root);
    copy->root = sim_tree_clone(s->root);
    copy->serial = s->serial;
    copy->now_ns = s->now_ns;
    copy->read_ns = s->read_ns;
    copy->bugs = s->bugs;
    copy->table_bytes = s->table_bytes;
    copy->trace = s->trace;
    return copy;
}

struct io *
simio_io(struct simio *s)
{
    return &s->io;
}

const struct simio_stats *
simio_get_stats(const struct simio *s)
{
    return &s->stats;
}

void
simio_make_dir(struct simio *s, const char *path)
{
    char text[1024];
    size_t n = strlen(path);

    assert(n < sizeof text);
    assert(path[0] == '/');
    for (size_t i = 1; i <= n; i++) {
        struct sim_inode *above, *dir;
        char *name;

        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(text, path, i);
        text[i] = '\0';
        if (sim_tree_find(s->root, text, true))
            continue;
        name = strrchr(text, '/');
        *name++ = '\0';
        above = sim_tree_find(s->root, text[0] ? text : "/", true);
        assert(above);
        dir = sim_inode_new(true);
        sim_dir_create(above, s->serial++, name, dir);
        sim_inode_put(dir);
        sim_dir_sync(above);
    }
}

void
simio_settle(struct simio *s)
{
    sim_tree_sync(s->root);
}

void
simio_arm_cut(struct simio *s, uint64_t nth_step)
{
    s->cut_at_step = nth_step ? s->stats.steps + nth_step : 0;
}

void
simio_halt(struct simio *s)
{
    s->halted = true;
}

bool
simio_halted(const struct simio *s)
{
    return s->halted;
}

void
simio_set_step_hook(struct simio *s,
                    void (*hook)(void *ctx, enum sim_call kind), void *ctx)
{
    s->hook = hook;
    s->hook_ctx = ctx;
}

void
simio_set_witness(struct simio *s,
                  void (*witness)(void *ctx, const struct sim_seen *seen),
                  void *ctx)
{
    s->witness = witness;
    s->witness_ctx = ctx;
}

struct sim_cut
sim_random_cut(struct simio *s)
{
    struct sim_cut cut = {
        .prng = &s->prng,
        .keep = (enum sim_keep)prng_below(&s->prng, SIM_KEEP_KINDS),
        .piece_bytes = prng_one_in(&s->prng, 3) ? 4096 : SIM_SECTOR_BYTES,
    };
    static const uint8_t odds[] = {1, 4, 8, 12, 15};

    /* a little before the end is where it matters */
    if (prng_one_in(&s->prng, 2))
        cut.serial_limit = s->serial - prng_below(&s->prng, 16) % s->serial;
    else
        cut.serial_limit = s->serial - prng_below(&s->prng, 200) % s->serial;
    cut.keep_of_16 = odds[prng_below(&s->prng, sizeof odds)];
    return cut;
}

static void
end_of_life(struct simio *s)
{
    assert(s->handles == 0);
    s->halted = s->full = false;
    s->sick_count = 0;
    s->cut_at_step = s->fail_at_call = 0;
    s->serial = 1; /* nothing older is pending, or order among them is kept */
    sim_tree_forget_locks(s->root);
}

void
simio_power_cut(struct simio *s)
{
    struct sim_cut cut = sim_random_cut(s);

    sim_tree_power_cut(s->root, &cut);
    end_of_life(s);
    s->stats.power_cuts++;
}

void
simio_power_cut_with(struct simio *s, enum sim_keep keep, uint32_t piece_bytes)
{
    struct sim_cut cut = sim_random_cut(s);

    cut.keep = keep;
    cut.piece_bytes = piece_bytes;
    sim_tree_power_cut(s->root, &cut);
    end_of_life(s);
    s->stats.power_cuts++;
}

/* What the kernel holds stays; where it holds clean pages that the medium
 * does not have, it may forget them. */
static void
forget_pages(struct simio *s, struct sim_inode *inode)
{
    if (!inode->is_dir && prng_one_in(&s->prng, 2))
        sim_file_drop_cache(&inode->file);
    for (size_t i = 0; i < inode->now.count; i++)
        forget_pages(s, inode->now.name[i].inode);
}

void
simio_kill(struct simio *s)
{
    uint64_t serial = s->serial;

    forget_pages(s, s->root);
    end_of_life(s);
    s->serial = serial; /* what is pending goes on being so */
    s->stats.kills++;
}

size_t
simio_open_handles(const struct simio *s)
{
    return s->handles;
}

void
simio_arm_failure(struct simio *s, uint64_t nth_call, int code)
{
    s->fail_at_call = nth_call ? s->stats.all_calls + nth_call : 0;
    s->fail_code = code;
    s->failed = false;
}

void
simio_halt_after_failure(struct simio *s, uint64_t steps)
{
    s->steps_after_failure = steps;
}

bool
simio_failure_fired(const struct simio *s)
{
    return s->failed;
}

enum sim_call
simio_failure_kind(const struct simio *s)
{
    return s->failed_kind;
}

static bool
needs_space(enum sim_call kind, bool is_step)
{
    return kind == SIM_CALL_WRITE || kind == SIM_CALL_ALLOCATE ||
           kind == SIM_CALL_RESIZE || kind == SIM_CALL_MAKE_DIR ||
           kind == SIM_CALL_RENAME || kind == SIM_CALL_SYNC ||
           (kind == SIM_CALL_OPEN && is_step);
}

/* 0, or what every call there gets. */
static int
sickness(const struct simio *s, const char *dir)
{
    for (size_t i = 0; i < s->sick_count; i++) {
        size_t n = strlen(s->sick[i].path);

        if (strncmp(dir, s->sick[i].path, n) == 0 &&
            (dir[n] == '\0' || dir[n] == '/'))
            return s->sick[i].code;
    }
    return 0;
}

enum sim_verdict
sim_judge(struct simio *s, enum sim_call kind, bool is_step, const char *dir,
          const char *name, int *ret_code)
{
    const char *slash = name[0] ? "/" : "";
    int code;

    if (s->halted) {
        *ret_code = err_set(-EIO, "%s%s%s: halted", dir, slash, name);
        return SIM_REFUSE;
    }
    s->now_ns += 20000 + (kind == SIM_CALL_READ ? s->read_ns : 0);
    s->stats.calls[kind]++;
    s->stats.all_calls++;
    if (is_step) {
        if (s->hook)
            s->hook(s->hook_ctx, kind);
        s->stats.steps++;
    }
    if (s->trace)
        fprintf(s->trace, "  %6" PRIu64 " %s %s%s%s\n", s->stats.steps,
                simio_call_name(kind), dir, slash, name);
    if (is_step && s->stats.steps == s->cut_at_step) {
        s->halted = true;
        *ret_code = err_set(-EIO, "%s%s%s: cut", dir, slash, name);
        return SIM_TEAR;
    }
    if (s->stats.all_calls == s->fail_at_call) {
        code = s->fail_code;
        if (code == -ENOSPC && !needs_space(kind, is_step))
            code = -EIO;
        s->failed = true;
        s->failed_kind = kind;
        if (s->steps_after_failure > 0)
            s->cut_at_step = s->stats.steps + s->steps_after_failure;
        *ret_code = err_set(code, "%s%s%s: %s (simulated)", dir, slash, name,
                            strerror(-code));
        /* reads that fail do nothing; a write may have been half done */
        return is_step && prng_one_in(&s->prng, 2) ? SIM_TEAR : SIM_REFUSE;
    }
    code = sickness(s, dir);
    if (code < 0) {
        *ret_code = err_set(code, "%s%s%s: the medium is dead (%s)", dir,
                            slash, name, strerror(-code));
        return SIM_REFUSE;
    }
    if (s->full && (kind == SIM_CALL_ALLOCATE || kind == SIM_CALL_MAKE_DIR ||
                    (kind == SIM_CALL_OPEN && is_step))) {
        *ret_code = err_set(-ENOSPC, "%s%s%s: full", dir, slash, name);
        return SIM_REFUSE;
    }
    *ret_code = 0;
    if (s->witness)
        s->witness(s->witness_ctx, &(struct sim_seen){.kind = kind,
                                                      .is_step = is_step,
                                                      .dir = dir,
                                                      .name = name});
    return SIM_GO;
}

static int
sim_open_dir(struct io *io, const char *path, unsigned flags,
             struct target **ret)
{
    struct simio *s = (struct simio *)io;
    struct sim_inode *dir = sim_tree_find(s->root, path, false);
    struct sim_inode *above = NULL;
    enum sim_verdict verdict;
    char text[1024], *name;
    int code;

    assert(strlen(path) < sizeof text);
    strcpy(text, path);
    name = strrchr(text, '/');
    *name++ = '\0';
    if (!dir && flags & DIR_CREATE &&
        !sim_tree_find(s->root, path, true))
        above = sim_tree_find(s->root, text[0] ? text : "/", false);
    verdict = sim_judge(s, above ? SIM_CALL_MAKE_DIR : SIM_CALL_OTHER,
                        above != NULL, path, "", &code);
    if (verdict == SIM_REFUSE)
        return code;
    if (!dir && !above)
        return err_set(-ENOENT, "%s: No such file or directory", path);
    if (above && (verdict == SIM_GO || prng_one_in(&s->prng, 2))) {
        dir = sim_inode_new(true);
        sim_dir_create(above, s->serial++, name, dir);
        sim_inode_put(dir);
        if (verdict == SIM_GO)
            sim_dir_sync(above); /* DIR_CREATE makes the name durable */
    }
    if (verdict == SIM_TEAR)
        return code;
    if (!dir->is_dir)
        return err_set(-ENOTDIR, "%s: Not a directory", path);
    return sim_target_new(s, dir, path, ret);
}

static uint64_t
sim_now_ns(struct io *io)
{
    return ((struct simio *)io)->now_ns;
}

static uint64_t
sim_wall_seconds(struct io *io)
{
    return UINT64_C(1700000000) + sim_now_ns(io) / 1000000000;
}

static int
sim_random(struct io *io, void *buffer, size_t bytes)
{
    struct simio *s = (struct simio *)io;
    uint8_t *out = buffer;

    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)prng_next(&s->prng);
    return 0;
}

static const struct io_ops sim_io_ops = {
    .open_dir = sim_open_dir,
    .now_ns = sim_now_ns,
    .wall_seconds = sim_wall_seconds,
    .random = sim_random,
};

void
simio_set_sick(struct simio *s, const char *path, int code)
{
    size_t i = 0;

    if (!path) {
        s->sick_count = 0;
        return;
    }
    while (i < s->sick_count && strcmp(s->sick[i].path, path) != 0)
        i++;
    if (i < s->sick_count)
        s->sick[i] = s->sick[--s->sick_count];
    if (code == 0)
        return;
    assert(s->sick_count < SIM_SICK_MAX);
    i = s->sick_count++;
    snprintf(s->sick[i].path, sizeof s->sick[i].path, "%s", path);
    s->sick[i].code = code;
}

void
simio_set_full(struct simio *s, bool is_full)
{
    s->full = is_full;
}

void
simio_set_read_ns(struct simio *s, uint64_t ns)
{
    s->read_ns = ns;
}

void
simio_hide(struct simio *s, const char *path, bool hidden)
{
    struct sim_inode *dir = sim_tree_find(s->root, path, true);

    assert(dir);
    dir->hidden = hidden;
}

/* The directory that holds the name which the path ends with. */
static struct sim_inode *
find_above(struct simio *s, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char text[1024];
    struct sim_inode *dir;

    assert(slash);
    snprintf(text, sizeof text, "%.*s", (int)(slash - path), path);
    dir = sim_tree_find(s->root, text[0] ? text : "/", true);
    assert(dir);
    *ret_name = slash + 1;
    return dir;
}

struct sim_inode *
simio_take_dir(struct simio *s, const char *path)
{
    struct sim_inode *dir = sim_tree_find(s->root, path, true), *copy;

    if (!dir)
        return NULL;
    copy = sim_tree_clone(dir);
    sim_tree_sync(copy);
    return copy;
}

void
simio_put_dir(struct simio *s, const char *path, struct sim_inode *copy)
{
    struct sim_inode *old = sim_tree_find(s->root, path, true);
    struct sim_inode *fresh = sim_tree_clone(copy);
    const char *name;
    struct sim_inode *above = find_above(s, path, &name);

    fresh->hidden = old && old->hidden;
    sim_dir_replace(above, name, fresh);
    sim_inode_put(fresh);
}

void
simio_dir_free(struct sim_inode *copy)
{
    if (copy)
        sim_inode_put(copy);
}

void
simio_swap_dirs(struct simio *s, const char *a, const char *b)
{
    struct sim_inode *first = sim_tree_find(s->root, a, true);
    struct sim_inode *second = sim_tree_find(s->root, b, true);
    const char *name;
    struct sim_inode *above;

    assert(first);
    assert(second);
    sim_inode_get(first);
    sim_inode_get(second);
    above = find_above(s, a, &name);
    sim_dir_replace(above, name, second);
    above = find_above(s, b, &name);
    sim_dir_replace(above, name, first);
    sim_inode_put(first);
    sim_inode_put(second);
}

static struct sim_inode *
find_file(struct simio *s, const char *path)
{
    struct sim_inode *inode = sim_tree_find(s->root, path, true);

    return inode && !inode->is_dir ? inode : NULL;
}

int
simio_flip(struct simio *s, const char *path, uint64_t at, uint8_t mask)
{
    struct sim_inode *inode = find_file(s, path);

    if (!inode)
        return -ENOENT;
    if (at >= inode->file.now.size_bytes)
        return -ERANGE;
    sim_file_flip(&inode->file, at, mask);
    return 0;
}

int64_t
simio_peek(struct simio *s, const char *path, bool durable, uint64_t at,
           void *to, size_t bytes)
{
    struct sim_inode *inode = find_file(s, path);
    struct sim_map *map;
    struct sim_file only = {0};

    if (!inode)
        return -ENOENT;
    map = durable ? &inode->file.medium : &inode->file.now;
    if (at >= map->size_bytes)
        return 0;
    if (bytes > map->size_bytes - at)
        bytes = map->size_bytes - at;
    only.now = *map;
    sim_file_read(&only, at, to, bytes);
    return (int64_t)bytes;
}

bool
simio_has_bytes(struct simio *s, const char *path, uint64_t at)
{
    struct sim_inode *inode = find_file(s, path);
    uint8_t sector[SIM_SECTOR_BYTES];
    uint64_t begin = at / SIM_SECTOR_BYTES * SIM_SECTOR_BYTES, size, n;

    size = inode ? inode->file.now.size_bytes : 0;
    if (at >= size)
        return false;
    n = size - begin < sizeof sector ? size - begin : sizeof sector;
    sim_file_read(&inode->file, begin, sector, n);
    for (uint64_t i = 0; i < n; i++) {
        if (sector[i])
            return true;
    }
    return false;
}

struct sim_file *
simio_take_copy(struct simio *s, const char *path)
{
    struct sim_inode *inode = find_file(s, path);
    struct sim_file *copy;

    if (!inode)
        return NULL;
    copy = calloc(1, sizeof *copy);
    if (!copy)
        abort();
    sim_file_clone(&inode->file, copy);
    return copy;
}

int
simio_put_copy(struct simio *s, const char *path, const struct sim_file *copy)
{
    struct sim_inode *inode = find_file(s, path);

    if (!inode)
        return -ENOENT;
    sim_file_done(&inode->file);
    sim_file_clone(copy, &inode->file);
    sim_file_sync(&inode->file);
    return 0;
}

void
simio_copy_free(struct sim_file *copy)
{
    if (!copy)
        return;
    sim_file_done(copy);
    free(copy);
}

int
simio_delete(struct simio *s, const char *path)
{
    struct sim_inode *dir;
    char text[1024], *name;

    if (!find_file(s, path))
        return -ENOENT;
    assert(strlen(path) < sizeof text);
    strcpy(text, path);
    name = strrchr(text, '/');
    *name++ = '\0';
    dir = sim_tree_find(s->root, text[0] ? text : "/", true);
    sim_dir_remove(dir, s->serial++, name);
    sim_dir_sync(dir);
    return 0;
}

int64_t
simio_file_size(struct simio *s, const char *path)
{
    struct sim_inode *inode = find_file(s, path);

    return inode ? (int64_t)inode->file.now.size_bytes : -ENOENT;
}

char **
simio_names(struct simio *s, const char *path)
{
    struct sim_inode *dir = sim_tree_find(s->root, path, true);
    char **names;

    if (!dir || !dir->is_dir)
        return NULL;
    names = calloc(dir->now.count + 1, sizeof *names);
    if (!names)
        abort();
    for (size_t i = 0; i < dir->now.count; i++) {
        names[i] = strdup(dir->now.name[i].text);
        if (!names[i])
            abort();
    }
    return names;
}

void
simio_names_free(char **names)
{
    for (size_t i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
}

void
simio_set_bugs(struct simio *s, unsigned bugs, uint64_t table_bytes)
{
    s->bugs = bugs;
    s->table_bytes = table_bytes;
}

void
simio_set_trace(struct simio *s, FILE *out)
{
    s->trace = out;
}
