/* moment.c: see moment.h. */
#include "volume/moment.h"
#include "base/err.h"
#include "base/memory.h"
#include "target/guard.h"
#include "volume/kept.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_BYTES_MAX (1u << 20)

struct lsvd_moment {
    struct lsvd_volume *v; /* NULL: it was closed (MO6). Changed with no request
                            * under way */
    char name[VOLUME_NAME_BYTES_MAX + 1]; /* of the volume, then */
    uint64_t bytes, blocks; /* its size; fixed */
    struct io *guard;       /* owned; NULL if its cache directory is alone */
    struct kept *kept;      /* owned */
    atomic_bool is_broken;  /* MO4; set before what is missing changes */
    atomic_uint users;      /* the owner, and those who keep blocks just now */
};

/* ---- life ---- */

void
moment_file_name(const struct lsvd_volume *v, char *text, size_t bytes)
{
    char uuid[37];

    uuid_format(&v->meta.uuid, uuid);
    snprintf(text, bytes, "%s.now", uuid);
}

static void
put_moment(struct lsvd_moment *m)
{
    if (atomic_fetch_sub(&m->users, 1) > 1)
        return;
    kept_free(m->kept);
    guard_free(m->guard);
    free(m);
}

/* The file may outlive the volume by whose configuration it is found (MO6), and
 * so does what it is reached through: not the guards of the journal's copies.
 * Of two directories one that hangs must not hold up who writes (MO4); for the
 * guard the directory is another one than theirs. */
static int
make_kept(struct lsvd_volume *v, struct lsvd_moment *m)
{
    struct kept_shape shape = {.volume = v->meta.uuid,
                               .block_bytes = v->g.block_bytes,
                               .chunk_blocks = v->g.chunk_blocks,
                               .block_count = m->blocks};
    char name[64], path[KEPT_PLACES_MAX][PATH_TEXT_MAX];
    struct kept_place place = {.io = v->cache_io, .name = name};
    int r = 0;

    moment_file_name(v, name, sizeof name);
    if (v->world.copy_guard[0])
        r = guard_new(v->cache_io, v->world.timeout_ms, &m->guard);
    if (r < 0)
        return r;
    if (m->guard) {
        guard_set_waits(m->guard);
        place.io = m->guard;
    }
    for (size_t i = 0; i < KEPT_PLACES_MAX && v->config.cache[i]; i++) {
        snprintf(path[i], sizeof path[i], "%s%s", v->config.cache[i],
                 m->guard ? "/./." : "");
        place.path[i] = path[i];
    }
    return kept_new(&shape, &place, &m->kept);
}

static int
add(struct lsvd_volume *v, struct lsvd_moment *m)
{
    unsigned count;

    pthread_mutex_lock(&v->moments.lock);
    count = atomic_load(&v->moments.count);
    if (count < LSVD_MOMENTS_MAX) {
        v->moments.member[count] = m;
        atomic_store(&v->moments.count, count + 1);
    }
    pthread_mutex_unlock(&v->moments.lock);
    if (count < LSVD_MOMENTS_MAX)
        return 0;
    return err_set(-EBUSY, "volume %s: %d clients read %s@now already, each "
                   "what it held at another moment: no more at a time",
                   m->name, LSVD_MOMENTS_MAX, m->name);
}

int
lsvd_moment_take(struct lsvd_volume *v, struct lsvd_moment **ret)
{
    struct lsvd_moment *m;
    int r = mem_new(1, sizeof *m, &m);

    if (r < 0)
        return r;
    snprintf(m->name, sizeof m->name, "%s", v->meta.name);
    atomic_init(&m->users, 1);
    m->v = v;
    m->bytes = v->g.volume_bytes;
    m->blocks = geometry_block_count(&v->g);
    r = make_kept(v, m);
    if (r == 0)
        r = add(v, m);
    if (r < 0) {
        put_moment(m);
        return r;
    }
    *ret = m;
    return 0;
}

static void
remove_from(struct lsvd_volume *v, const struct lsvd_moment *m)
{
    unsigned last;

    pthread_mutex_lock(&v->moments.lock);
    last = atomic_load(&v->moments.count) - 1;
    for (unsigned i = 0; i < last; i++) {
        if (v->moments.member[i] == m)
            v->moments.member[i] = v->moments.member[last];
    }
    v->moments.member[last] = NULL;
    atomic_store(&v->moments.count, last);
    pthread_mutex_unlock(&v->moments.lock);
}

void
lsvd_moment_drop(struct lsvd_moment *m)
{
    if (!m)
        return;
    if (m->v)
        remove_from(m->v, m);
    put_moment(m);
}

uint64_t
lsvd_moment_size(const struct lsvd_moment *m)
{
    return m->bytes;
}

/* MO4. err_text says why. */
static void
break_moment(struct lsvd_volume *v, struct lsvd_moment *m)
{
    if (atomic_exchange(&m->is_broken, true))
        return;
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: who reads %s@now gets errors from now on, for what "
              "is overwritten can't be kept: %s; connect anew, with room in "
              "the cache directory", v->meta.name, m->name, err_text());
    kept_empty(m->kept);
}

static int
check_whole(const struct lsvd_moment *m)
{
    if (m->v && !atomic_load(&m->is_broken))
        return 0;
    return err_set(-EIO, "%s@now: what it held at the moment could not be "
                   "kept (the log says why): connect anew", m->name);
}

/* ---- keeping what is about to change ---- */

/* Those that are whole, each with one user more. */
static unsigned
get_moments(struct lsvd_volume *v, struct lsvd_moment **to)
{
    unsigned count = 0;

    pthread_mutex_lock(&v->moments.lock);
    for (unsigned i = 0; i < atomic_load(&v->moments.count); i++) {
        struct lsvd_moment *m = v->moments.member[i];

        if (atomic_load(&m->is_broken))
            continue;
        atomic_fetch_add(&m->users, 1);
        to[count++] = m;
    }
    pthread_mutex_unlock(&v->moments.lock);
    return count;
}

static uint32_t
blocks_at_once(const struct lsvd_volume *v)
{
    uint32_t blocks = COPY_BYTES_MAX / v->g.block_bytes;

    return blocks < KEPT_RUN_MAX ? blocks : KEPT_RUN_MAX;
}

/* Whole blocks as they are now; the caller has the lease. That a block in RAM
 * is copied is no sign that it will be wanted. */
static int
fetch_now(struct lsvd_volume *v, uint64_t first, uint32_t count, uint8_t *to)
{
    size_t bytes = v->g.block_bytes;
    uint32_t run = 0;
    int r = 0;

    for (uint32_t i = 0; i < count && r == 0; i++) {
        bool is_there = cache_peek(v->cache, first + i, to + i * bytes);

        if (!is_there)
            run++;
        if (run > 0 && (is_there || i + 1 == count)) {
            uint32_t end = is_there ? i : i + 1;

            r = volume_fetch(v, first + end - run, run,
                             to + (end - run) * bytes);
            run = 0;
        }
    }
    return r;
}

/* At most blocks_at_once of one chunk. copy: room for them, made when it is
 * needed. */
static int
keep_some(struct lsvd_volume *v, struct lsvd_moment *m, uint64_t first,
          uint32_t count, uint8_t **copy)
{
    int r = 0;

    for (uint64_t run; count > 0 && r == 0;
         first += run, count -= (uint32_t)run) {
        if (kept_find(m->kept, first, count, &run) != KEPT_NOT)
            continue;
        if (!*copy)
            r = mem_new_aligned((size_t)blocks_at_once(v) * v->g.block_bytes,
                                copy);
        if (r == 0)
            r = fetch_now(v, first, (uint32_t)run, *copy);
        if (r == 0)
            r = kept_put(m->kept, first, (uint32_t)run, *copy);
    }
    return r;
}

static void
keep_for(struct lsvd_volume *v, struct lsvd_moment *m, uint64_t first,
         uint64_t count, uint8_t **copy)
{
    uint64_t end = first + count < m->blocks ? first + count : m->blocks;
    uint32_t most = blocks_at_once(v);

    while (first < end && !atomic_load(&m->is_broken)) {
        uint32_t left = v->g.chunk_blocks -
                        geometry_block_in_chunk(&v->g, first);
        uint32_t n = end - first < left ? (uint32_t)(end - first) : left;

        if (n > most)
            n = most;
        if (keep_some(v, m, first, n, copy) < 0)
            break_moment(v, m);
        first += n;
    }
}

void
moment_keep(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    struct lsvd_moment *moment[LSVD_MOMENTS_MAX];
    unsigned moments = get_moments(v, moment);
    uint8_t *copy = NULL;

    for (unsigned i = 0; i < moments; i++) {
        keep_for(v, moment[i], first, count, &copy);
        put_moment(moment[i]);
    }
    free(copy);
}

/* A piece at a time, so that nobody waits for all of them. */
static void
keep_leased(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    uint64_t n = blocks_at_once(v);
    struct lease lease;

    for (; count > 0; first += n, count -= n) {
        if (n > count)
            n = count;
        lease_get(&v->leases, &lease, first, first + n, true);
        moment_keep(v, first, n);
        lease_put(&v->leases, &lease);
    }
}

struct extent {
    uint64_t at, bytes;
};

static int
note_data(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct extent *found = ctx;

    if (is_data)
        *found = (struct extent){offset, count};
    return is_data;
}

/* MO5. What can't be told is taken for data. */
void
moment_keep_data(struct lsvd_volume *v, uint64_t first, uint64_t count)
{
    uint64_t bytes = v->g.block_bytes, size = v->g.volume_bytes;
    uint64_t at = first * bytes, end = (first + count) * bytes;

    if (end > size)
        end = size;
    while (at < end) {
        struct extent found = {0};

        if (lsvd_extents(v, end - at, at, note_data, &found) < 0)
            found = (struct extent){at, end - at};
        if (found.bytes == 0)
            return;
        at = found.at + found.bytes;
        first = found.at / bytes;
        keep_leased(v, first, (at - 1) / bytes + 1 - first);
    }
}

/* ---- reading ---- */

/* Whole blocks; at most blocks_at_once. */
static int
read_blocks(struct lsvd_moment *m, uint64_t first, uint32_t count,
            uint8_t *to)
{
    struct lsvd_volume *v = m->v;
    size_t bytes = v->g.block_bytes;
    struct lease lease;
    int r;

    lease_get(&v->leases, &lease, first, first + count, false);
    r = check_whole(m);
    for (uint64_t run; count > 0 && r == 0; first += run,
                       count -= (uint32_t)run, to += run * bytes) {
        switch (kept_find(m->kept, first, count, &run)) {
        case KEPT_NOT:
            r = fetch_now(v, first, (uint32_t)run, to);
            break;
        case KEPT_ZERO:
            memset(to, 0, run * bytes);
            break;
        case KEPT_DATA:
            r = kept_get(m->kept, first, (uint32_t)run, to);
            break;
        }
    }
    lease_put(&v->leases, &lease);
    return r;
}

static int
read_within_block(struct lsvd_moment *m, uint64_t block, size_t at,
                  size_t count, uint8_t *to)
{
    uint8_t *bounce;
    int r = mem_new_aligned(m->v->g.block_bytes, &bounce);

    if (r < 0)
        return r;
    r = read_blocks(m, block, 1, bounce);
    if (r == 0)
        memcpy(to, bounce + at, count);
    free(bounce);
    return r;
}

static int
check_range(const struct lsvd_moment *m, uint64_t count, uint64_t offset)
{
    if (offset > m->bytes || count > m->bytes - offset)
        return err_set(-EINVAL, "%s@now: %llu bytes at %llu are beyond its "
                       "end", m->name, (unsigned long long)count,
                       (unsigned long long)offset);
    return 0;
}

static int
serve_read(struct lsvd_moment *m, uint8_t *to, size_t count, uint64_t offset)
{
    struct lsvd_volume *v = m->v;
    size_t bytes = v->g.block_bytes, n;
    int r = check_range(m, count, offset);

    if (r == 0)
        r = volume_check_awake(v);
    if (r < 0)
        return r;
    atomic_fetch_add(&v->count.reads, 1);
    atomic_fetch_add(&v->count.read_bytes, count);
    for (; count > 0 && r == 0; to += n, offset += n, count -= n) {
        uint64_t block = offset / bytes;
        size_t at = offset % bytes;
        size_t blocks = count / bytes;

        if (at == 0 && blocks > 0) {
            if (blocks > blocks_at_once(v))
                blocks = blocks_at_once(v);
            n = blocks * bytes;
            r = read_blocks(m, block, (uint32_t)blocks, to);
        } else {
            n = bytes - at < count ? bytes - at : count;
            r = read_within_block(m, block, at, n, to);
        }
    }
    if (r < 0 && atomic_load(&m->is_broken)) /* perhaps only just */
        r = check_whole(m);
    return r;
}

int
lsvd_moment_pread(struct lsvd_moment *m, void *to, size_t count,
                  uint64_t offset)
{
    struct lsvd_volume *v = m->v;
    uint64_t begin;

    if (!v)
        return check_whole(m);
    begin = v->io->ops->now_ns(v->io);
    return volume_request_ended(v, &v->count.read, begin,
                                serve_read(m, to, count, offset),
                                &v->count.read_errors);
}

/* ---- extents ---- */

struct told {
    struct lsvd_moment *m;
    int (*cb)(void *ctx, uint64_t offset, uint64_t count, bool is_data);
    void *ctx;
    uint64_t at, bytes; /* a run that was not told yet; 0: none */
    bool is_data;
};

static int
tell(struct told *t)
{
    uint64_t bytes = t->bytes;

    t->bytes = 0;
    return bytes > 0 ? t->cb(t->ctx, t->at, bytes, t->is_data) : 0;
}

static int
tell_later(struct told *t, uint64_t at, uint64_t bytes, bool is_data)
{
    int r;

    if (t->bytes > 0 && t->is_data == is_data) {
        t->bytes += bytes;
        return 0;
    }
    r = tell(t);
    t->at = at;
    t->bytes = bytes;
    t->is_data = is_data;
    return r;
}

/* MO3: of the volume this was so, a moment ago. */
static int
judge_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct told *t = ctx;
    uint64_t bytes = t->m->v->g.block_bytes, end = offset + count;
    int r = 0;

    while (offset < end && r == 0) {
        uint64_t block = offset / bytes, run, next;
        enum kept_state is = kept_find(t->m->kept, block,
                                       (end - 1) / bytes + 1 - block, &run);

        next = (block + run) * bytes < end ? (block + run) * bytes : end;
        r = check_whole(t->m);
        if (r == 0)
            r = tell_later(t, offset, next - offset,
                           is == KEPT_NOT ? is_data : is == KEPT_DATA);
        offset = next;
    }
    return r;
}

int
lsvd_moment_extents(struct lsvd_moment *m, uint64_t count, uint64_t offset,
                    int (*cb)(void *ctx, uint64_t offset, uint64_t count,
                              bool is_data),
                    void *ctx)
{
    struct told t = {.m = m, .cb = cb, .ctx = ctx};
    int r = check_whole(m);

    if (r == 0)
        r = check_range(m, count, offset);
    if (r == 0)
        r = lsvd_extents(m->v, count, offset, judge_extent, &t);
    return r == 0 ? tell(&t) : r;
}

/* ---- the volume's ---- */

void
moments_init(struct lsvd_volume *v)
{
    pthread_mutex_init(&v->moments.lock, NULL);
}

void
moments_end(struct lsvd_volume *v)
{
    for (unsigned i = 0; i < atomic_load(&v->moments.count); i++) {
        struct lsvd_moment *m = v->moments.member[i];

        (void)err_set(-EIO, "the volume had to be closed");
        break_moment(v, m);
        kept_close(m->kept);
        m->v = NULL;
    }
    pthread_mutex_destroy(&v->moments.lock);
}

void
moments_move(struct lsvd_volume *from, struct lsvd_volume *to)
{
    unsigned count;

    pthread_mutex_lock(&from->moments.lock);
    count = atomic_load(&from->moments.count);
    atomic_store(&from->moments.count, 0);
    pthread_mutex_unlock(&from->moments.lock);
    for (unsigned i = 0; i < count; i++) {
        struct lsvd_moment *m = from->moments.member[i];

        if (from->world.fault) { /* its file is reached through that one */
            (void)err_set(-EIO, "a snapshot was made, of a volume that is "
                          "served with fault=");
            break_moment(from, m);
            kept_close(m->kept);
        }
        m->v = to;
    }
    pthread_mutex_lock(&to->moments.lock);
    assert(atomic_load(&to->moments.count) == 0);
    memcpy(to->moments.member, from->moments.member,
           count * sizeof *to->moments.member);
    atomic_store(&to->moments.count, count);
    pthread_mutex_unlock(&to->moments.lock);
}

void
moments_get_status(struct lsvd_volume *v, struct lsvd_now_status *ret)
{
    memset(ret, 0, sizeof *ret);
    pthread_mutex_lock(&v->moments.lock);
    ret->readers = atomic_load(&v->moments.count);
    for (uint32_t i = 0; i < ret->readers; i++) {
        struct lsvd_moment *m = v->moments.member[i];

        if (atomic_load(&m->is_broken))
            ret->broken++;
        else
            ret->kept_bytes += kept_bytes(m->kept);
    }
    pthread_mutex_unlock(&v->moments.lock);
}
