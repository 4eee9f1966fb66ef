/* kept.c: see kept.h. */
#include "volume/kept.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/lease.h"
#include "base/memory.h"
#include "base/sum.h"
#include "target/target.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BLOCKS 32u  /* 2 bits each */
#define LEAF_CHUNKS 1024u
#define SUM_BYTES 8u
#define REGION_ALIGN 4096u
#define NAME_TRIES 16

struct kept_chunk {
    uint64_t region; /* of the file, from 1; 0: none */
    uint64_t word[]; /* a kept_state for each block */
};

struct leaf {
    struct kept_chunk *chunk[LEAF_CHUNKS]; /* owned; NULL: nothing is kept */
};

struct kept {
    struct kept_shape shape;     /* fixed, as the next three */
    struct io *io;
    char *path[KEPT_PLACES_MAX]; /* owned */
    char *name;                  /* owned */

    struct lease_table making; /* range [0, 1): guards the next three */
    struct target *dir;        /* owned; NULL: no file yet */
    struct object *file;       /* owned; who found a kept block may read it */
    bool is_closed;

    pthread_mutex_t lock; /* guards what follows */
    struct leaf **leaf;   /* owned, as they are; NULL: as its chunks */
    size_t leaf_count;
    uint64_t regions;     /* given out */
    atomic_uint_fast64_t bytes;
};

/* ---- the index ---- */

static uint64_t
chunk_of(const struct kept *k, uint64_t block)
{
    return block / k->shape.chunk_blocks; /* from 0 */
}

static uint32_t
block_in_chunk(const struct kept *k, uint64_t block)
{
    return (uint32_t)(block % k->shape.chunk_blocks);
}

static enum kept_state
state_locked(const struct kept_chunk *c, uint32_t block)
{
    uint64_t word = c->word[block / WORD_BLOCKS];

    return (enum kept_state)(word >> 2 * (block % WORD_BLOCKS) & 3);
}

/* ret_end: the first block behind the chunk, or behind all the chunks of which
 * nothing is kept either, as far as that is known at once. */
static struct kept_chunk *
find_locked(const struct kept *k, uint64_t block, uint64_t *ret_end)
{
    uint64_t chunk = chunk_of(k, block);
    const struct leaf *leaf = k->leaf[chunk / LEAF_CHUNKS];
    uint64_t next = leaf ? chunk + 1 : (chunk / LEAF_CHUNKS + 1) * LEAF_CHUNKS;

    *ret_end = next * k->shape.chunk_blocks;
    return leaf ? leaf->chunk[chunk % LEAF_CHUNKS] : NULL;
}

enum kept_state
kept_find(struct kept *k, uint64_t block, uint64_t count, uint64_t *ret_run)
{
    enum kept_state state = KEPT_NOT;
    const struct kept_chunk *c;
    uint64_t end, run;

    assert(count > 0);
    assert(block < k->shape.block_count);
    pthread_mutex_lock(&k->lock);
    c = find_locked(k, block, &end);
    run = end - block < count ? end - block : count;
    if (c) {
        uint32_t first = block_in_chunk(k, block), n = 1;

        state = state_locked(c, first);
        while (n < run && state_locked(c, first + n) == state)
            n++;
        run = n;
    }
    pthread_mutex_unlock(&k->lock);
    *ret_run = run;
    return state;
}

static int
new_chunk_locked(struct kept *k, uint64_t chunk, struct kept_chunk **ret)
{
    size_t words = (k->shape.chunk_blocks + WORD_BLOCKS - 1) / WORD_BLOCKS;
    struct leaf **leaf = &k->leaf[chunk / LEAF_CHUNKS];
    int r = *leaf ? 0 : mem_new(1, sizeof **leaf, leaf);

    if (r == 0)
        r = mem_new(1, sizeof **ret + words * sizeof *(*ret)->word, ret);
    if (r == 0)
        (*leaf)->chunk[chunk % LEAF_CHUNKS] = *ret;
    return r;
}

/* The entry of its chunk, which stays where it is. */
static int
get_chunk(struct kept *k, uint64_t block, struct kept_chunk **ret)
{
    uint64_t end;
    int r = 0;

    pthread_mutex_lock(&k->lock);
    *ret = find_locked(k, block, &end);
    if (!*ret)
        r = new_chunk_locked(k, chunk_of(k, block), ret);
    pthread_mutex_unlock(&k->lock);
    return r;
}

static void
mark(struct kept *k, struct kept_chunk *c, uint64_t first, uint32_t count,
     enum kept_state state)
{
    uint32_t block = block_in_chunk(k, first);

    pthread_mutex_lock(&k->lock);
    for (uint32_t i = block; i < block + count; i++) {
        assert(state_locked(c, i) == KEPT_NOT); /* KP1 */
        c->word[i / WORD_BLOCKS] |= (uint64_t)state << 2 * (i % WORD_BLOCKS);
    }
    pthread_mutex_unlock(&k->lock);
}

/* Where the chunk's blocks lie in the file. */
static uint64_t
region_at(struct kept *k, struct kept_chunk *c)
{
    uint64_t blocks = k->shape.chunk_blocks, bytes, nth;

    bytes = blocks * k->shape.block_bytes + blocks * SUM_BYTES;
    bytes = (bytes + REGION_ALIGN - 1) / REGION_ALIGN * REGION_ALIGN;
    pthread_mutex_lock(&k->lock);
    if (c->region == 0)
        c->region = ++k->regions;
    nth = c->region - 1;
    pthread_mutex_unlock(&k->lock);
    return nth * bytes;
}

/* ---- the file ---- */

static int
remove_name(const struct kept *k, struct target *dir)
{
    int r = target_remove(dir, k->name);

    return r == -ENOENT ? 0 : r;
}

/* The name is anybody's who makes one for this volume: it may go between two
 * of these calls, and be there again (KP3). */
static int
make_in(struct kept *k, const char *path)
{
    struct object *file = NULL;
    struct target *dir;
    int r = k->io->ops->open_dir(k->io, path, 0, &dir);

    if (r < 0)
        return r;
    for (int i = 0; i < NAME_TRIES; i++) {
        r = remove_name(k, dir);
        if (r == 0)
            r = target_open(dir, k->name,
                            OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL,
                            &file);
        if (r != -EEXIST)
            break;
    }
    if (r == 0)
        r = remove_name(k, dir);
    if (r < 0) {
        object_close(file);
        target_close(dir);
        return r;
    }
    k->dir = dir;
    k->file = file;
    return 0;
}

static int
open_file(struct kept *k)
{
    struct lease lease;
    int r = 0;

    lease_get(&k->making, &lease, 0, 1, true);
    if (k->is_closed)
        r = err_set(-EIO, "%s: it was closed", k->name);
    else if (!k->file)
        r = err_set(-ENOENT, "there is no cache directory");
    for (size_t i = 0; i < KEPT_PLACES_MAX && !k->file && r < 0; i++) {
        if (k->path[i] && !k->is_closed)
            r = make_in(k, k->path[i]);
    }
    lease_put(&k->making, &lease);
    return r;
}

static uint64_t
seed_of(const struct kept *k, uint64_t block)
{
    return sum_seed(&k->shape.volume, chunk_of(k, block) + 1,
                    block_in_chunk(k, block));
}

static uint64_t
sums_at(const struct kept *k, uint64_t region, uint64_t first)
{
    return region + (uint64_t)k->shape.chunk_blocks * k->shape.block_bytes +
           (uint64_t)block_in_chunk(k, first) * SUM_BYTES;
}

static uint64_t
data_at(const struct kept *k, uint64_t region, uint64_t first)
{
    return region + (uint64_t)block_in_chunk(k, first) * k->shape.block_bytes;
}

static int
write_run(struct kept *k, struct kept_chunk *c, uint64_t first,
          uint32_t count, const uint8_t *data)
{
    size_t bytes = k->shape.block_bytes;
    uint8_t sums[KEPT_RUN_MAX * SUM_BYTES];
    uint64_t region;
    int r = open_file(k);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < count; i++)
        put_le64(sums + (size_t)i * SUM_BYTES,
                 sum_block(seed_of(k, first + i), data + i * bytes, bytes));
    region = region_at(k, c);
    r = object_write(k->file, data, count * bytes, data_at(k, region, first));
    if (r == 0)
        r = object_write(k->file, sums, (size_t)count * SUM_BYTES,
                         sums_at(k, region, first));
    if (r == 0)
        atomic_fetch_add(&k->bytes, count * bytes);
    return r;
}

int
kept_put(struct kept *k, uint64_t first, uint32_t count, const uint8_t *data)
{
    size_t bytes = k->shape.block_bytes;
    struct kept_chunk *c;
    int r = get_chunk(k, first, &c);

    assert(count <= KEPT_RUN_MAX);
    assert(block_in_chunk(k, first) + count <= k->shape.chunk_blocks);
    for (uint32_t i = 0, run; i < count && r == 0; i += run) {
        const uint8_t *at = data + i * bytes;
        bool is_zero = sum_all_zero(at, bytes);

        for (run = 1; i + run < count &&
                      sum_all_zero(at + run * bytes, bytes) == is_zero; run++)
            ;
        if (!is_zero)
            r = write_run(k, c, first + i, run, at);
        if (r == 0)
            mark(k, c, first + i, run, is_zero ? KEPT_ZERO : KEPT_DATA);
    }
    return r;
}

int
kept_get(struct kept *k, uint64_t first, uint32_t count, uint8_t *to)
{
    size_t bytes = k->shape.block_bytes;
    uint8_t sums[KEPT_RUN_MAX * SUM_BYTES];
    struct kept_chunk *c;
    uint64_t region;
    int r = get_chunk(k, first, &c);

    assert(count <= KEPT_RUN_MAX);
    if (r < 0)
        return r;
    region = region_at(k, c);
    r = object_read(k->file, to, count * bytes, data_at(k, region, first));
    if (r == 0)
        r = object_read(k->file, sums, (size_t)count * SUM_BYTES,
                        sums_at(k, region, first));
    for (uint32_t i = 0; i < count && r == 0; i++) {
        if (sum_block(seed_of(k, first + i), to + i * bytes, bytes) !=
            get_le64(sums + (size_t)i * SUM_BYTES)) /* KP2 */
            r = err_set(-EIO, "%s/%s, which has no name any more: block "
                        "%llu is not what was written there", k->dir->path,
                        k->name, (unsigned long long)(first + i));
    }
    return r;
}

void
kept_empty(struct kept *k)
{
    struct lease lease;

    lease_get(&k->making, &lease, 0, 1, true);
    if (k->file)
        (void)object_resize(k->file, 0);
    lease_put(&k->making, &lease);
}

void
kept_close(struct kept *k)
{
    object_close(k->file);
    target_close(k->dir);
    k->file = NULL;
    k->dir = NULL;
    k->is_closed = true;
}

uint64_t
kept_bytes(struct kept *k)
{
    return atomic_load(&k->bytes);
}

/* ---- life ---- */

int
kept_new(const struct kept_shape *shape, const struct kept_place *place,
         struct kept **ret)
{
    struct kept *k;
    int r = mem_new(1, sizeof *k, &k);

    if (r < 0)
        return r;
    k->shape = *shape;
    k->io = place->io;
    lease_table_init(&k->making);
    pthread_mutex_init(&k->lock, NULL);
    k->leaf_count = (size_t)(chunk_of(k, shape->block_count - 1) /
                             LEAF_CHUNKS) + 1;
    r = mem_new(k->leaf_count, sizeof *k->leaf, &k->leaf);
    if (r == 0)
        r = mem_dup(place->name, &k->name);
    for (size_t i = 0; i < KEPT_PLACES_MAX && r == 0; i++) {
        if (place->path[i])
            r = mem_dup(place->path[i], &k->path[i]);
    }
    if (r < 0) {
        kept_free(k);
        return r;
    }
    *ret = k;
    return 0;
}

static void
free_leaf(struct leaf *leaf)
{
    for (size_t i = 0; leaf && i < LEAF_CHUNKS; i++)
        free(leaf->chunk[i]);
    free(leaf);
}

void
kept_free(struct kept *k)
{
    if (!k)
        return;
    kept_close(k);
    for (size_t i = 0; k->leaf && i < k->leaf_count; i++)
        free_leaf(k->leaf[i]);
    free(k->leaf);
    for (size_t i = 0; i < KEPT_PLACES_MAX; i++)
        free(k->path[i]);
    free(k->name);
    pthread_mutex_destroy(&k->lock);
    lease_table_done(&k->making);
    free(k);
}
