/* read_cache.c: see read_cache.h. */
#include "volume/read_cache.h"

#include "base/err.h"
#include "base/memory.h"
#include "readcache/readcache.h"
#include "target/guard.h"
#include "volume/around.h"
#include "volume/volume.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BLOCKS_MAX 256u
#define SMALL_BYTES (64u << 10)  /* reads up to this are timed */
#define SCAN_BYTES (256u << 10)  /* such long ones are a copy's or a scan's */
#define BULK_BYTES (256u << 10)  /* of a chunk at destage: the same */
#define QUEUED_MAX 64u           /* its writes behind: it can't keep up */
#define OFFER_BYTES (64u << 10)  /* so much at a time: the queue has room for
                                  * QUEUED_MAX of them */
#define PROBE_NS UINT64_C(1000000000)
#define PROBE_REQUESTS 64u
#define LOAD_AT_OPEN 256u /* pages: 0.5 GiB of blocks of 4 KiB, < 0.1 s */
#define LOAD_AT_ONCE 64u
#define MEAN_SHIFT 5 /* of the means: a sample counts 1/32 */

struct read_cache {
    struct target *dir;      /* owned */
    struct readcache *cache; /* owned */
    struct pace pace;        /* of its reads (RV2) */
    struct around around;    /* RV5 */
    atomic_bool off;         /* RV3 */
    bool unloaded;           /* there is more to load: by the thread */
    bool threaded;
    pthread_t loader;
    atomic_bool ending;
    pthread_mutex_t lock;    /* guards the next four; the innermost */
    char problem[256];       /* why it is off */
    struct read_cache_rate rate;
    bool rests;
    uint64_t since_ns; /* it rests, or does not */
    atomic_bool resting; /* the same for who has no lock */
    atomic_uint_fast64_t part_ns; /* when parts were read last */
    atomic_uint requests; /* while it rests */
};

void
read_cache_name(const struct lsvd_volume *v, char *text, size_t bytes)
{
    char uuid[37];

    uuid_format(&v->meta.uuid, uuid);
    snprintf(text, bytes, "%s.rcache", uuid);
}

/* ---- opening and closing ---- */

/* What of cache-size= the journal does not take; 0: no read cache. */
static uint64_t
own_bytes(struct lsvd_volume *v)
{
    uint64_t all = v->config.cache_bytes, journal = v->meta.journal_bytes;

    if (all == 0 || v->config.read_cache == READ_CACHE_OFF)
        return 0;
    if (all >= journal && all - journal >= READCACHE_BYTES_MIN &&
        all - journal >= 16 * (uint64_t)v->g.block_bytes)
        return all - journal;
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: no read cache: of cache-size %llu the journal takes "
              "%llu",
              v->meta.name, (unsigned long long)all,
              (unsigned long long)journal);
    return 0;
}

static int
open_directory(struct lsvd_volume *v, struct target **ret)
{
    struct io *io = v->world.read_guard ? v->world.read_guard : v->cache_io;
    char path[PATH_TEXT_MAX];
    int r = -ENOENT;

    for (size_t i = 0; r < 0 && v->config.cache[i]; i++) {
        /* For the guard a directory of its own (RV2). */
        snprintf(path, sizeof path, "%s%s", v->config.cache[i],
                 v->world.read_guard ? "/." : "");
        r = io->ops->open_dir(io, path, 0, ret);
    }
    return r;
}

void
read_cache_open(struct lsvd_volume *v)
{
    struct readcache_shape shape = {.volume = v->meta.uuid,
                                    .block_bytes = v->g.block_bytes,
                                    .bytes = own_bytes(v),
                                    .block_count = geometry_block_count(&v->g)};
    struct readcache_counts counts;
    struct read_cache *rc;
    char name[64];
    int r;

    if (shape.bytes == 0 || v->observer)
        return;
    read_cache_name(v, name, sizeof name);
    r = mem_new(1, sizeof *rc, &rc);
    if (r == 0) {
        pthread_mutex_init(&rc->lock, NULL);
        around_init(&rc->around);
        v->read_cache = rc;
        r = open_directory(v, &rc->dir);
    }
    if (r == 0)
        r = readcache_open(rc->dir, name, &shape, &rc->cache);
    if (r == 0)
        r = readcache_load(rc->cache, LOAD_AT_OPEN);
    if (r < 0) {
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: no read cache: %s", v->meta.name, err_text());
        read_cache_close(v);
        return;
    }
    rc->unloaded = r > 0;
    rc->since_ns = v->io->ops->now_ns(v->io);
    readcache_get_counts(rc->cache, &counts);
    log_event(&v->log, LOG_INFO_LEVEL,
              "volume %s: read cache: %llu of %llu blocks%s, index %llu MiB",
              v->meta.name, (unsigned long long)counts.used,
              (unsigned long long)counts.slots,
              rc->unloaded ? " so far" : "",
              (unsigned long long)(counts.memory >> 20));
}

/* RV3. */
static void
turn_off(struct lsvd_volume *v, int error)
{
    struct read_cache *rc = v->read_cache;

    bool was_off;

    if (error == -ENOMEM)
        return;
    pthread_mutex_lock(&rc->lock);
    was_off = atomic_load(&rc->off);
    if (!was_off)
        snprintf(rc->problem, sizeof rc->problem, "%s", err_text());
    atomic_store(&rc->off, true);
    pthread_mutex_unlock(&rc->lock);
    if (was_off)
        return;
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: the read cache is off until the next start, all is "
              "read from the parts: %s", v->meta.name, err_text());
}

static bool
is_off(const struct lsvd_volume *v)
{
    return !v->read_cache || atomic_load(&v->read_cache->off);
}

static void *
loader_thread(void *ctx)
{
    struct lsvd_volume *v = ctx;
    struct read_cache *rc = v->read_cache;
    int r = 1;

    while (r > 0 && !atomic_load(&rc->ending) && !is_off(v))
        r = readcache_load(rc->cache, LOAD_AT_ONCE);
    if (r < 0)
        turn_off(v, r);
    return NULL;
}

void
read_cache_start(struct lsvd_volume *v)
{
    struct read_cache *rc = v->read_cache;

    if (!rc || !rc->unloaded)
        return;
    rc->threaded = pthread_create(&rc->loader, NULL, loader_thread, v) == 0;
    if (!rc->threaded)
        turn_off(v, err_set(-EAGAIN, "can't start a thread"));
}

static void
stop_loading(struct read_cache *rc)
{
    atomic_store(&rc->ending, true);
    if (rc->threaded)
        pthread_join(rc->loader, NULL);
    rc->threaded = false;
}

void
read_cache_store(struct lsvd_volume *v)
{
    int r;

    if (v->read_cache)
        stop_loading(v->read_cache);
    if (is_off(v))
        return;
    r = readcache_store(v->read_cache->cache);
    if (r < 0)
        turn_off(v, r);
}

void
read_cache_close(struct lsvd_volume *v)
{
    struct read_cache *rc = v->read_cache;

    if (!rc)
        return;
    stop_loading(rc);
    readcache_close(rc->cache);
    target_close(rc->dir);
    pthread_mutex_destroy(&rc->lock);
    around_done(&rc->around);
    free(rc);
    v->read_cache = NULL;
}

uint64_t
read_cache_table_bytes(const struct lsvd_volume *v)
{
    /* 16 bytes of table for each block that can be cached */
    return v->read_cache ? v->config.cache_bytes / v->g.block_bytes * 16 : 0;
}

/* ---- when it rests (RV4) ---- */

bool
read_cache_should_rest(const struct read_cache_rate *rate, bool rests,
                       uint64_t since_ns, uint64_t now_ns)
{
    if (rate->cache_samples < READ_CACHE_SAMPLES_MIN ||
        rate->part_samples < READ_CACHE_SAMPLES_MIN ||
        now_ns - since_ns < READ_CACHE_DWELL_NS)
        return rests;
    return rests ? rate->part_ns < 2 * rate->cache_ns
                 : rate->part_ns < rate->cache_ns + rate->cache_ns / 4;
}

static void
note(uint64_t *mean_ns, uint64_t *samples, uint64_t ns)
{
    if (*samples < READ_CACHE_SAMPLES_MIN) /* a plain mean, at first */
        *mean_ns = (*mean_ns * *samples + ns) / (*samples + 1);
    else
        *mean_ns = *mean_ns - (*mean_ns >> MEAN_SHIFT) + (ns >> MEAN_SHIFT);
    if (*samples < READ_CACHE_SAMPLES_MIN)
        ++*samples;
}

static void
took(struct lsvd_volume *v, bool is_part, uint64_t begin_ns)
{
    struct read_cache *rc = v->read_cache;
    uint64_t now = v->io->ops->now_ns(v->io), part_ns, cache_ns;
    bool rests, changed;

    if (is_part)
        atomic_store(&rc->part_ns, now);
    pthread_mutex_lock(&rc->lock);
    if (is_part)
        note(&rc->rate.part_ns, &rc->rate.part_samples, now - begin_ns);
    else
        note(&rc->rate.cache_ns, &rc->rate.cache_samples, now - begin_ns);
    rests = v->config.read_cache == READ_CACHE_AUTO &&
            read_cache_should_rest(&rc->rate, rc->rests, rc->since_ns, now);
    changed = rests != rc->rests;
    if (changed)
        rc->since_ns = now;
    rc->rests = rests;
    part_ns = rc->rate.part_ns;
    cache_ns = rc->rate.cache_ns;
    pthread_mutex_unlock(&rc->lock);
    if (!changed)
        return;
    atomic_store(&rc->resting, rests);
    log_event(&v->log, LOG_INFO_LEVEL,
              "volume %s: the read cache %s: a read of the parts takes %llu "
              "us, one of the cache %llu us",
              v->meta.name, rests ? "rests" : "works again",
              (unsigned long long)(part_ns / 1000),
              (unsigned long long)(cache_ns / 1000));
}

/* Is the cache to be asked this time? While it works the parts are, once a
 * second; while it rests it is, for one request of some. */
static bool
is_to_be_asked(struct lsvd_volume *v, uint64_t now)
{
    struct read_cache *rc = v->read_cache;
    uint_fast64_t last = atomic_load(&rc->part_ns);

    if (pace_is_avoided(&rc->pace, now))
        return false;
    if (atomic_load(&rc->resting))
        return atomic_fetch_add(&rc->requests, 1) % PROBE_REQUESTS == 0;
    return v->config.read_cache != READ_CACHE_AUTO || now - last < PROBE_NS ||
           !atomic_compare_exchange_strong(&rc->part_ns, &last, now);
}

/* ---- reading ---- */

/* RV1. */
static void
fill_wants(struct lsvd_volume *v, struct chunk *c, uint32_t block,
           uint32_t count, struct readcache_block *want)
{
    uint64_t first = (c->number - 1) * v->g.chunk_blocks + block;
    struct fragment *f = NULL;

    memset(want, 0, count * sizeof *want);
    if (!v->g.is_ec)
        f = volume_preferred_fragment(v, c);
    for (uint32_t i = 0; i < count; i++) {
        if (v->g.is_ec)
            f = chunk_fragment(v, c, geometry_fragment_of(&v->g, block + i),
                               NULL);
        if (!f || f->doubtful)
            continue;
        want[i].sum = fragment_entry(f, geometry_row_of(&v->g, block + i)).sum;
        if (!sum_has_bytes(want[i].sum)) /* nothing to keep */
            want[i].sum = SUM_ZERO_BLOCK;
        want[i].seed = volume_block_seed(v, first + i);
    }
}

static void
get(struct lsvd_volume *v, uint64_t first, uint32_t count,
    const struct readcache_block *want, uint8_t *to, bool *have)
{
    struct read_cache *rc = v->read_cache;
    uint64_t begin = v->io->ops->now_ns(v->io), now;
    bool hit = false;
    int r;

    r = readcache_get(rc->cache, first, count, want, to,
                      pace_patience_ns(&rc->pace), have);
    now = v->io->ops->now_ns(v->io);
    for (uint32_t i = 0; i < count; i++)
        hit |= have[i];
    if (r == -EAGAIN) {
        pace_late(&rc->pace, now);
        if (guard_is_hung(rc->dir))
            turn_off(v, err_set(-ETIMEDOUT, "%s: no answer", rc->dir->path));
    } else if (r < 0) {
        turn_off(v, r);
    } else if (hit) {
        pace_note(&rc->pace, now - begin);
        if (count * (size_t)v->g.block_bytes <= SMALL_BYTES)
            took(v, false, begin);
    }
}

/* Has it time for what is offered? */
static bool
takes_offers(struct lsvd_volume *v)
{
    struct read_cache *rc = v->read_cache;
    struct guard_stats stats;

    return !is_off(v) && !atomic_load(&rc->resting) &&
           !(guard_stats(rc->dir, &stats) && stats.queued >= QUEUED_MAX);
}

static void
offer(struct lsvd_volume *v, uint64_t first, uint32_t count,
      const struct readcache_block *blocks, const uint8_t *data,
      bool is_change)
{
    uint32_t at_once = OFFER_BYTES / v->g.block_bytes;
    int r = 0;

    for (uint32_t i = 0, run; i < count && r == 0 && takes_offers(v);
         i += run) {
        run = count - i < at_once ? count - i : at_once;
        r = readcache_offer(v->read_cache->cache, first + i, run, blocks + i,
                            data + i * (size_t)v->g.block_bytes, is_change);
    }
    if (r < 0)
        turn_off(v, r);
}

static int
read_parts(struct lsvd_volume *v, struct chunk *c, uint32_t block,
           uint32_t count, uint8_t *to, uint8_t *said)
{
    uint64_t begin = v->io->ops->now_ns(v->io);
    int r = volume_read_parts(v, c, block, count, to, said);

    if (r == 0 && count * (size_t)v->g.block_bytes <= SMALL_BYTES)
        took(v, true, begin);
    return r;
}

/* RV5. */

/* The blocks with bytes that are next to these within AROUND_BYTES, these
 * included, and what each must be. */
struct neighbours {
    uint32_t low, count;
    struct readcache_block want[RUN_BLOCKS_MAX];
};

/* False: there are none, or a block that is asked for needs no part. */
static bool
find_neighbours(struct lsvd_volume *v, struct chunk *c, uint32_t block,
                uint32_t count, struct neighbours *ret)
{
    uint32_t at_once = AROUND_BYTES / v->g.block_bytes;
    uint32_t begin = block / at_once * at_once, end = begin + at_once;
    uint32_t blocks = geometry_blocks_in(&v->g, c->number);
    uint32_t low = block, high = block + count;
    struct readcache_block *want = ret->want;

    if (end > blocks)
        end = blocks;
    if (high > end)
        return false;
    fill_wants(v, c, begin, end - begin, want);
    for (uint32_t i = low; i < high; i++) {
        if (want[i - begin].sum == SUM_ZERO_BLOCK)
            return false;
    }
    while (low > begin && want[low - 1 - begin].sum != SUM_ZERO_BLOCK)
        want[--low - begin].is_guess = true;
    while (high < end && want[high - begin].sum != SUM_ZERO_BLOCK)
        want[high++ - begin].is_guess = true;
    ret->low = low;
    ret->count = high - low;
    memmove(want, want + (low - begin), ret->count * sizeof *want);
    return ret->count > count;
}

/* With EC the neighbours lie on other parts: may all of them be asked without
 * delay? */
static bool
parts_are_quick(struct lsvd_volume *v)
{
    uint64_t now = v->io->ops->now_ns(v->io);

    for (uint32_t i = 0; v->g.is_ec && i < v->g.data_count; i++) {
        if (atomic_load(&v->part[i].slow) ||
            pace_is_avoided(&v->part[i].pace, now))
            return false;
    }
    return true;
}

static uint64_t
small_read_ns(struct lsvd_volume *v)
{
    struct read_cache *rc = v->read_cache;
    uint64_t ns;

    pthread_mutex_lock(&rc->lock);
    ns = rc->rate.part_samples < AROUND_SMALL_SAMPLES ? 0 : rc->rate.part_ns;
    pthread_mutex_unlock(&rc->lock);
    return ns;
}

/* The time that it took counts for around.h, and not as that of a small read.
 */
static bool
read_window(struct lsvd_volume *v, struct chunk *c, uint64_t window,
            const struct neighbours *all, uint8_t *to, uint8_t *said)
{
    uint64_t began = v->io->ops->now_ns(v->io), took;
    int r = volume_read_parts(v, c, all->low, all->count, to, said);

    took = v->io->ops->now_ns(v->io) - began;
    around_end(&v->read_cache->around, window, r < 0 ? 0 : took + 1);
    return r == 0;
}

/* False: what was asked for has to be read by itself. While a destage is
 * changing rows of the chunk some may be read in vain: it is left alone. */
static bool
read_around(struct lsvd_volume *v, struct chunk *c, uint32_t block,
            uint32_t count, uint8_t *to, uint8_t *said)
{
    struct read_cache *rc = v->read_cache;
    uint64_t first = (c->number - 1) * v->g.chunk_blocks;
    uint8_t *bytes, said_all[RUN_BLOCKS_MAX];
    size_t block_bytes = v->g.block_bytes;
    uint64_t small_ns = small_read_ns(v);
    uint64_t window = (first + block) * block_bytes / AROUND_BYTES;
    struct neighbours all;
    bool done;

    if (!around_is_far(small_ns) || count * block_bytes >= AROUND_BYTES ||
        atomic_load(&c->in_flight) || !takes_offers(v) ||
        !readcache_has_room(rc->cache) || !parts_are_quick(v) ||
        !find_neighbours(v, c, block, count, &all) ||
        mem_new_aligned(all.count * block_bytes, &bytes) < 0)
        return false;
    done = around_begin(&rc->around, window, small_ns) &&
           read_window(v, c, window, &all, bytes, said_all);
    if (done) {
        memcpy(to, bytes + (block - all.low) * block_bytes,
               count * block_bytes);
        if (said)
            memcpy(said, said_all + (block - all.low), count);
        offer(v, first + all.low, all.count, all.want, bytes, false);
    }
    free(bytes);
    return done;
}

/* The parts are to give these blocks, and the cache to keep them. */
static int
read_missed(struct lsvd_volume *v, struct chunk *c, uint32_t block,
            uint32_t count, struct readcache_block *want, uint8_t *to,
            uint8_t *said)
{
    int r;

    if (!want[0].is_guess && read_around(v, c, block, count, to, said))
        return 0;
    r = read_parts(v, c, block, count, to, said);
    if (r == 0)
        offer(v, (c->number - 1) * v->g.chunk_blocks + block, count, want, to,
              false);
    return r;
}

int
read_cache_fetch(struct lsvd_volume *v, struct chunk *c, uint32_t block,
                 uint32_t count, uint8_t *to, uint8_t *said)
{
    uint64_t first = (c->number - 1) * v->g.chunk_blocks + block;
    bool is_scan = count * (size_t)v->g.block_bytes >= SCAN_BYTES;
    struct readcache_block want[RUN_BLOCKS_MAX];
    size_t bytes = v->g.block_bytes;
    bool have[RUN_BLOCKS_MAX];
    int r = 0;

    assert(count <= RUN_BLOCKS_MAX);
    if (is_off(v))
        return volume_read_parts(v, c, block, count, to, said);
    if (!is_to_be_asked(v, v->io->ops->now_ns(v->io)))
        return read_parts(v, c, block, count, to, said);
    fill_wants(v, c, block, count, want);
    get(v, first, count, want, to, have);
    for (uint32_t i = 0; i < count; i++)
        want[i].is_guess = is_scan;
    for (uint32_t i = 0, run; i < count && r == 0; i += run) {
        for (run = 1; i + run < count && have[i + run] == have[i]; run++)
            ;
        if (said && have[i]) /* what has no bytes is not kept */
            memset(said + i, SAID_BYTES, run);
        if (have[i])
            continue;
        r = read_missed(v, c, block + i, run, want + i, to + i * bytes,
                        said ? said + i : NULL);
    }
    return r;
}

/* ---- destage ---- */

static void
offer_cells(struct lsvd_volume *v, const struct plan *plan, uint32_t slot)
{
    uint64_t chunk_first = (plan->chunk - 1) * v->g.chunk_blocks;

    for (uint32_t i = 0; i < plan->cell_count[slot]; i++) {
        const struct plan_cell *cell = &plan->cells[slot][i];
        uint64_t block = chunk_first +
                         geometry_block_of(&v->g, slot, cell->row);
        struct readcache_block offered = {volume_block_seed(v, block),
                                          cell->entry.sum, false};

        if (cell->data)
            offer(v, block, 1, &offered, cell->data, true);
        else
            readcache_drop(v->read_cache->cache, block);
    }
}

void
read_cache_destaged(struct lsvd_volume *v, const struct plan *plan)
{
    uint32_t slots = v->g.is_ec ? v->g.data_count : 1;

    if (is_off(v) || plan->remove ||
        plan->block_count * v->g.block_bytes >= BULK_BYTES)
        return;
    for (uint32_t i = 0; i < slots; i++)
        offer_cells(v, plan, i);
}

/* ---- looking on ---- */

void
read_cache_get_status(struct lsvd_volume *v,
                      struct lsvd_read_cache_status *ret)
{
    struct read_cache *rc = v->read_cache;
    struct readcache_counts counts;

    memset(ret, 0, sizeof *ret);
    if (!rc)
        return;
    readcache_get_counts(rc->cache, &counts);
    ret->state = atomic_load(&rc->off) ? LSVD_READ_CACHE_FAILED
                 : atomic_load(&rc->resting) ? LSVD_READ_CACHE_RESTS
                                             : LSVD_READ_CACHE_WORKS;
    ret->bytes = counts.slots * v->g.block_bytes;
    ret->used_bytes = counts.used * v->g.block_bytes;
    ret->hits = counts.hits;
    ret->misses = counts.misses;
    ret->admitted = counts.admitted;
    ret->evicted = counts.evicted;
    ret->wrong = counts.wrong;
    ret->memory_bytes = counts.memory;
    pthread_mutex_lock(&rc->lock);
    memcpy(ret->problem, rc->problem, sizeof ret->problem);
    ret->cache_read_ns = rc->rate.cache_ns;
    ret->part_read_ns = rc->rate.part_ns;
    pthread_mutex_unlock(&rc->lock);
}

const char *
lsvd_read_cache_text(enum lsvd_read_cache_state state)
{
    switch (state) {
    case LSVD_READ_CACHE_NONE:
        return "none";
    case LSVD_READ_CACHE_WORKS:
        return "works";
    case LSVD_READ_CACHE_RESTS:
        return "rests";
    case LSVD_READ_CACHE_FAILED:
        return "failed";
    }
    return "unknown";
}
