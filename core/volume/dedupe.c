/* dedupe.c: see dedupe.h. */
#include "volume/dedupe.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "base/wait.h"
#include "volume/parent.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_DEFAULT (UINT64_C(512) << 20)
#define INDEX_BYTES (1u << 20) /* of a source, read at once */
#define PATIENCE_NS UINT64_C(10000000000) /* with one chunk */
#define TRIES_MAX 1000 /* where time does not pass */
#define WAIT_MS 20

static int
check_going(void *ctx)
{
    const struct dedupe *d = ctx;

    return volume_check_going(d->v, d->cb);
}

static void
tell(struct dedupe *d)
{
    if (d->cb && d->cb->progress)
        d->cb->progress(d->cb->ctx, &d->progress);
}

/* ---- sources ---- */

struct indexing {
    struct dedupe *d;
    struct lsvd_volume *source;
    struct dedupe_build *build;
    struct dedupe_shape shape;
    uint8_t *bytes; /* INDEX_BYTES, or a block; owned */
    size_t room;
};

static int
index_blocks(struct indexing *x, uint64_t first, uint32_t count)
{
    size_t bytes = x->source->g.block_bytes;
    int r = volume_fetch_leased(x->source, first, count, x->bytes);

    for (uint32_t i = 0; i < count && r == 0; i++) {
        const uint8_t *at = x->bytes + i * bytes;
        struct dedupe_hash hash;

        if (sum_all_zero(at, bytes))
            continue;
        hash = dedupe_hash_of(&x->shape, at);
        r = dedupe_build_add(x->build, &hash, first + i);
    }
    return r < 0 ? r : check_going(x->d);
}

static int
index_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct indexing *x = ctx;
    uint64_t bytes = x->source->g.block_bytes, first = offset / bytes;
    uint64_t end = (offset + count + bytes - 1) / bytes;
    uint32_t most = (uint32_t)(x->room / bytes);
    int r = 0;

    while (is_data && first < end && r == 0) {
        uint32_t n = end - first < most ? (uint32_t)(end - first) : most;

        r = index_blocks(x, first, n);
        first += n;
    }
    return r;
}

/* The extents are told chunk by chunk: no lease is held for the whole. */
static int
index_all(struct indexing *x)
{
    uint64_t chunk = x->source->g.chunk_bytes;
    uint64_t size = x->source->g.volume_bytes;
    int r = 0;

    for (uint64_t at = 0; at < size && r == 0; at += chunk)
        r = lsvd_extents(x->source, size - at < chunk ? size - at : chunk, at,
                         index_extent, x);
    return r;
}

static int
make_index(struct dedupe *d, struct lsvd_volume *source,
           const struct dedupe_shape *shape, size_t memory)
{
    struct indexing x = {.d = d, .source = source, .shape = *shape};
    int r;

    x.room = INDEX_BYTES > source->g.block_bytes ? INDEX_BYTES
                                                 : source->g.block_bytes;
    r = mem_new_aligned(x.room, &x.bytes);
    if (r == 0)
        r = dedupe_build_begin(d->dir, shape, memory, &x.build);
    if (r == 0)
        r = index_all(&x);
    if (r == 0)
        r = dedupe_build_end(x.build);
    dedupe_build_free(x.build);
    free(x.bytes);
    return r < 0 ? err_wrap(r, "volume %s: its dedupe index",
                            source->meta.name)
                 : 0;
}

static int
get_index(struct dedupe *d, struct dedupe_source *s, size_t memory)
{
    struct dedupe_shape shape = {
        .source = s->volume->meta.uuid,
        .source_bytes = s->volume->g.volume_bytes,
        .block_bytes = s->volume->g.block_bytes,
        .hash_bits = d->spec->hash_bits ? d->spec->hash_bits
                                        : DEDUPE_HASH_BITS_MAX,
        .generation = s->volume->meta.generation,
    };
    size_t part = memory / d->source_count;
    int r = dedupe_index_open(d->dir, &shape, part, &s->index);

    if (r == -ENOENT || r == -EBADMSG) {
        r = make_index(d, s->volume, &shape, part);
        if (r == 0)
            r = dedupe_index_open(d->dir, &shape, part, &s->index);
    }
    if (r < 0)
        return r;
    d->report->index_blocks += dedupe_index_entries(s->index);
    d->report->index_memory_bytes += dedupe_index_memory(s->index);
    return 0;
}

/* The first cache directory that is there. */
static int
open_dir(struct dedupe *d)
{
    int r = -ENOENT;

    for (size_t i = 0; d->v->config.cache[i] && r < 0; i++)
        r = env_open_cache(&d->v->world, &d->v->config, i, &d->dir);
    return r;
}

static int
get_indexes(struct dedupe *d)
{
    size_t memory = d->spec->memory_bytes ? (size_t)d->spec->memory_bytes
                                          : (size_t)MEMORY_DEFAULT;
    int r = open_dir(d);

    for (uint32_t i = 0; i < d->source_count && r == 0; i++)
        r = get_index(d, &d->source[i], memory);
    return r;
}

/* One that it has already stays open as it is. */
static int
open_source(struct dedupe *d, const struct lsvd_env *env, const char *name)
{
    struct dedupe_source *s = &d->source[d->source_count];
    struct lsvd_volume *volume, *known;
    int r;

    if (d->source_count == META_SOURCES_MAX)
        return err_set(-E2BIG, "more than %d sources", META_SOURCES_MAX);
    r = source_open_named(d->v, env, name, &volume);
    if (r < 0)
        return r;
    known = source_find(d->v, volume->meta.number);
    *s = (struct dedupe_source){.volume = known ? known : volume,
                                .is_added = known != NULL};
    d->source_count++;
    if (known)
        lsvd_abandon(volume);
    for (uint32_t i = 0; i + 1 < d->source_count; i++) {
        if (d->source[i].volume->meta.number == s->volume->meta.number)
            return err_set(-EINVAL, "volume %s is named twice as a source",
                           name);
    }
    return 0;
}

/* DD3. */
static int
add_sources(struct dedupe *d)
{
    struct lease role;
    int r = 0;

    for (uint32_t i = 0; i < d->source_count && r == 0; i++) {
        struct dedupe_source *s = &d->source[i];
        bool is_wanted = false;

        for (uint32_t b = 0; b < d->want->count && !s->is_added; b++)
            is_wanted |= d->want->block[b].volume == s->volume->meta.number;
        if (!is_wanted)
            continue;
        r = role_get(d->v, &role);
        if (r < 0)
            return r;
        r = source_add(d->v, s->volume);
        role_put(d->v, &role);
        s->is_added = r == 0;
    }
    return r;
}

/* ---- chunks ---- */

/* Allocated on the parts in use, of a chunk's files. */
static uint64_t
allocated(struct lsvd_volume *v, uint64_t chunk)
{
    char name[2][REFERENCES_NAME_BYTES];
    uint64_t bytes = 0;

    fragment_name(chunk, name[0]);
    references_name(chunk, name[1]);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct lease lease;

        lease_get(&v->part_leases, &lease, i, i + 1, false); /* V6 */
        for (unsigned n = 0; n < 2; n++) {
            struct object_stat stat;
            struct object *o;

            if (!(atomic_load(&v->usable) & UINT32_C(1) << i) ||
                target_open_stat(v->part[i].dir, name[n], 0, &stat, &o) < 0)
                continue;
            bytes += stat.allocated_bytes;
            object_close(o);
        }
        lease_put(&v->part_leases, &lease);
    }
    return bytes;
}

/* Something more is destaged, here or by another thread. */
static int
wait_for_destage(struct dedupe *d)
{
    int r = destage_batch(d->v);

    if (r == 0)
        pause_ms(WAIT_MS);
    return r < 0 ? r : check_going(d);
}

typedef int (*chunk_job)(struct dedupe *d, uint64_t chunk);

/* Again, as long as it is not its time, or until it has taken too long. */
static int
persist(struct dedupe *d, uint64_t chunk, chunk_job job)
{
    struct io *io = d->v->io;
    uint64_t until = io->ops->now_ns(io) + PATIENCE_NS;
    int r = check_going(d);

    if (r == 0)
        r = job(d, chunk);
    for (unsigned i = 0; r == -EAGAIN && i < TRIES_MAX &&
                         io->ops->now_ns(io) < until;
         i++) {
        r = wait_for_destage(d);
        if (r == 0)
            r = job(d, chunk);
    }
    return r;
}

static int
refer(struct dedupe *d, uint64_t chunk)
{
    struct refer_result result = {0};
    int r = refer_chunk(d->v, chunk, d->want, &result);

    d->report->blocks_matched += result.blocks;
    return r;
}

static int
undo(struct dedupe *d, uint64_t chunk)
{
    struct refer_result result = {0};
    int r = refer_undo(d->v, chunk, &result);

    d->report->blocks_matched += result.blocks;
    return r;
}

static int
clear(struct dedupe *d, uint64_t chunk)
{
    return references_tidy(d->v, chunk);
}

/* ---- what it has given back ---- */

static int
note_touched(struct dedupe *d, uint64_t chunk)
{
    int r = mem_grow(d->touched_count + 1, sizeof *d->touched,
                     &d->touched_room, &d->touched);

    if (r < 0)
        return r;
    d->touched[d->touched_count++] = (struct dedupe_touched){
        chunk, allocated(d->v, chunk)};
    return 0;
}

/* Once what was done is on the parts, or would take too long to be. */
static void
measure(struct dedupe *d)
{
    struct io *io = d->v->io;
    uint64_t until = io->ops->now_ns(io) + PATIENCE_NS;
    int r = 0;

    for (size_t i = 0; i < d->touched_count && r == 0; i++) {
        const struct dedupe_touched *t = &d->touched[i];
        uint64_t now;

        for (unsigned n = 0; r == 0 && n < TRIES_MAX &&
                             io->ops->now_ns(io) < until &&
                             volume_chunk_is_dirty(d->v, t->chunk);
             n++)
            r = wait_for_destage(d);
        now = allocated(d->v, t->chunk);
        if (t->bytes > now)
            d->report->bytes_given_back += t->bytes - now;
    }
    (void)r; /* what was done is done */
}

static int
dedupe_one(struct dedupe *d, uint64_t chunk)
{
    int r = dedupe_scan(d, chunk);

    if (r < 0 || d->matched + d->zero == 0)
        return r;
    if (d->spec->estimate) {
        d->report->blocks_matched += d->matched;
        d->report->blocks_zero += d->zero;
        d->report->bytes_given_back += dedupe_estimate(d, chunk);
        return 0;
    }
    r = note_touched(d, chunk);
    if (r == 0 && d->matched > 0)
        r = add_sources(d);
    if (r == 0 && d->matched > 0)
        r = persist(d, chunk, refer);
    if (r == -EAGAIN) {
        d->report->chunks_skipped++;
        r = 0;
    }
    return r == 0 && d->zero > 0 ? dedupe_punch(d, chunk) : r;
}

static int
rehydrate_one(struct dedupe *d, uint64_t chunk)
{
    return persist(d, chunk, undo);
}

static int
clear_one(struct dedupe *d, uint64_t chunk)
{
    return persist(d, chunk, clear);
}

static int
each_chunk(struct dedupe *d, chunk_job job)
{
    struct lsvd_volume *v = d->v;
    int r = 0;

    rate_limit_begin(&d->limit, v->io, d->spec->rate_bytes);
    d->progress = (struct lsvd_progress){
        .chunks_total = geometry_chunk_count(&v->g)};
    for (uint64_t c = 1; c <= d->progress.chunks_total && r == 0; c++) {
        if (tables_truth(v, c).state == CHUNK_PRESENT ||
            volume_chunk_is_dirty(v, c)) {
            r = job(d, c);
            d->progress.bytes_done += v->g.chunk_bytes;
        }
        d->progress.chunks_done = c;
        tell(d);
        if (r == 0)
            r = check_going(d);
        if (r == 0)
            r = rate_limit_keep(&d->limit, d->progress.bytes_done,
                                check_going, d);
    }
    return r;
}

/* ---- a run ---- */

/* A snapshot that is attached was opened to be added to. */
static int
check_volume(const struct lsvd_volume *v, bool estimate)
{
    bool is_snapshot = v->meta.successor != 0;

    if (estimate && is_snapshot)
        return 0;
    if (!v->attached || (v->meta.read_only && !is_snapshot))
        return err_set(-EROFS, "volume %s can't be written now: its blocks "
                       "stay where they are", v->meta.name);
    return 0;
}

static int
begin(struct dedupe *d, struct lsvd_volume *v, const struct lsvd_dedupe *spec,
      const struct lsvd_repair_callbacks *cb, struct lsvd_dedupe_report *ret)
{
    size_t run = (size_t)DEDUPE_RUN_BLOCKS * v->g.block_bytes;
    int r = check_volume(v, spec->estimate);

    memset(ret, 0, sizeof *ret);
    *d = (struct dedupe){.v = v,
                         .spec = spec,
                         .cb = cb,
                         .report = ret,
                         .began_ns = v->io->ops->now_ns(v->io)};
    if (r == 0)
        r = mem_new_aligned(run, &d->own);
    if (r == 0)
        r = mem_new_aligned(run, &d->other);
    if (r == 0)
        r = mem_new(v->g.chunk_blocks, sizeof *d->is, &d->is);
    if (r == 0)
        r = mem_new(v->g.chunk_blocks, sizeof *d->gone, &d->gone);
    if (r == 0)
        r = references_new(&v->g, &v->meta.uuid, 1, &d->want);
    return r;
}

static void
close_sources(struct dedupe *d)
{
    for (uint32_t i = 0; i < d->source_count; i++) {
        dedupe_index_close(d->source[i].index);
        if (!d->source[i].is_added)
            lsvd_abandon(d->source[i].volume);
    }
}

/* The error text stays. */
static int
done(struct dedupe *d, int r)
{
    char text[LSVD_TEXT_BYTES];

    snprintf(text, sizeof text, "%s", err_text());
    close_sources(d);
    target_close(d->dir);
    references_free(d->want);
    free(d->touched);
    free(d->gone);
    free(d->is);
    free(d->other);
    free(d->own);
    d->report->duration_ms =
        (d->v->io->ops->now_ns(d->v->io) - d->began_ns) / 1000000;
    return r < 0 ? err_set(r, "%s", text) : r;
}

static int
open_sources(struct dedupe *d, const struct lsvd_env *env)
{
    int r = 0;

    for (size_t i = 0; d->spec->sources[i] && r == 0; i++)
        r = open_source(d, env, d->spec->sources[i]);
    if (r == 0 && d->source_count == 0)
        r = err_set(-EINVAL, "no source is named");
    return r;
}

int
dedupe_check_sources(struct lsvd_volume *v, const struct lsvd_env *env,
                     const struct lsvd_dedupe *spec)
{
    char text[LSVD_TEXT_BYTES];
    struct dedupe d = {.v = v, .spec = spec};
    int r = open_sources(&d, env);

    snprintf(text, sizeof text, "%s", err_text());
    close_sources(&d);
    return r < 0 ? err_set(r, "%s", text) : 0;
}

static int
dedupe(struct dedupe *d, const struct lsvd_env *env)
{
    int r = open_sources(d, env);

    if (r == 0)
        r = get_indexes(d);
    if (r == 0)
        r = each_chunk(d, dedupe_one);
    if (r == 0)
        measure(d);
    return r;
}

int
dedupe_volume(struct lsvd_volume *v, const struct lsvd_env *env,
              const struct lsvd_dedupe *spec,
              const struct lsvd_repair_callbacks *cb,
              struct lsvd_dedupe_report *ret)
{
    struct dedupe d;
    int r = begin(&d, v, spec, cb, ret);

    if (r == 0)
        r = dedupe(&d, env);
    return done(&d, r);
}

/* Nothing refers to them any more: the policy names no source. */
static int
forget_sources(struct lsvd_volume *v, struct lsvd_volume *top)
{
    struct volume_meta next;
    struct lease role;
    int r;

    if (!volume_has_references(v))
        return 0;
    r = lsvd_flush(v);
    if (r == 0)
        r = role_get(v, &role);
    if (r < 0)
        return r;
    next = v->meta; /* others change it, with the role */
    next.source_count = 0;
    next.incompat &= ~META_INCOMPAT_SOURCES;
    next.generation++;
    r = volume_store_meta_in_use(v, &next);
    if (r == 0) {
        sources_take_policy(v, &next);
    } else {
        (void)volume_restore_meta(v);
    }
    role_put(v, &role);
    if (r == 0)
        sources_let_go(v, top);
    return r;
}

int
dedupe_undo(struct lsvd_volume *v, struct lsvd_volume *top,
            const struct lsvd_dedupe *spec,
            const struct lsvd_repair_callbacks *cb,
            struct lsvd_dedupe_report *ret)
{
    struct dedupe d;
    int r = begin(&d, v, spec, cb, ret);

    if (r == 0)
        r = each_chunk(&d, rehydrate_one);
    if (r == 0)
        r = each_chunk(&d, clear_one);
    r = done(&d, r);
    if (r == -EAGAIN)
        r = err_set(-EBUSY, "volume %s is being written too much: run it "
                    "again", v->meta.name);
    return r == 0 ? forget_sources(v, top) : r;
}
