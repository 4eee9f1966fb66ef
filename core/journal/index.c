/* index.c: block -> newest record; chunk -> its blocks; oldest chunk first. */
#include "journal/index.h"

#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>

static uint32_t
hash(uint64_t key, unsigned bits)
{
    key ^= key >> 32;
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - bits));
}

static unsigned
bits_for(size_t capacity)
{
    unsigned bits = 4;

    while ((size_t)1 << bits < capacity)
        bits++;
    return bits;
}

int
index_init(struct index *x, size_t capacity, struct segment *segments)
{
    unsigned bits = bits_for(capacity);
    int r;

    *x = (struct index){ .segments = segments };
    assert(capacity > 0 && capacity < UINT32_MAX / 2);
    r = mem_new(capacity + 1, sizeof *x->entries, &x->entries);
    if (r == 0)
        r = mem_new(capacity + 1, sizeof *x->nodes, &x->nodes);
    if (r == 0)
        r = mem_new((size_t)1 << bits, sizeof(uint32_t), &x->entry_heads);
    if (r == 0)
        r = mem_new((size_t)1 << bits, sizeof(uint32_t), &x->node_heads);
    if (r < 0) {
        index_done(x);
        return r;
    }
    x->entry_bits = x->node_bits = bits;
    x->entry_pool.capacity = x->node_pool.capacity = (uint32_t)capacity;
    return 0;
}

void
index_done(struct index *x)
{
    free(x->entries);
    free(x->nodes);
    free(x->entry_heads);
    free(x->node_heads);
    *x = (struct index){ 0 };
}

/* A greater pool with the same content; places stay what they are. */
static int
grow_pool(void **pool, size_t item_bytes, const struct pool_counts *counts,
          uint32_t capacity)
{
    void *more;
    int r = mem_new((size_t)capacity + 1, item_bytes, &more);

    if (r < 0)
        return r;
    memcpy(more, *pool, ((size_t)counts->capacity + 1) * item_bytes);
    free(*pool);
    *pool = more;
    return 0;
}

/* Room for `need` more in the counts, and how much to grow to, or 0. */
static int
growth(const struct pool_counts *counts, size_t need, size_t capacity_max,
       uint32_t *ret)
{
    size_t wanted = (size_t)counts->used + counts->reserved + need;
    size_t doubled = (size_t)counts->capacity * 2;

    *ret = 0;
    if (wanted <= counts->capacity)
        return 0;
    if (wanted > capacity_max)
        return err_set(-ENOMEM, "the journal holds more than its index may "
                       "(%zu entries)", capacity_max);
    if (doubled > capacity_max)
        doubled = capacity_max;
    *ret = (uint32_t)(doubled > wanted ? doubled : wanted);
    return 0;
}

static int
grow_entries(struct index *x, uint32_t capacity)
{
    unsigned bits = bits_for(capacity);
    uint32_t *heads;
    void *pool = x->entries;
    int r = mem_new((size_t)1 << bits, sizeof *heads, &heads);

    if (r < 0)
        return r;
    r = grow_pool(&pool, sizeof *x->entries, &x->entry_pool, capacity);
    if (r < 0) {
        free(heads);
        return r;
    }
    x->entries = pool;
    x->entry_pool.capacity = capacity;
    free(x->entry_heads);
    x->entry_heads = heads;
    x->entry_bits = bits;
    for (uint32_t n = x->oldest; n; n = x->nodes[n].next) {
        for (uint32_t e = x->nodes[n].entries; e; e = x->entries[e].next) {
            uint32_t h = hash(x->entries[e].block.block, bits);

            x->entries[e].hash_next = heads[h];
            heads[h] = e;
        }
    }
    return 0;
}

static int
grow_nodes(struct index *x, uint32_t capacity)
{
    unsigned bits = bits_for(capacity);
    uint32_t *heads;
    void *pool = x->nodes;
    int r = mem_new((size_t)1 << bits, sizeof *heads, &heads);

    if (r < 0)
        return r;
    r = grow_pool(&pool, sizeof *x->nodes, &x->node_pool, capacity);
    if (r < 0) {
        free(heads);
        return r;
    }
    x->nodes = pool;
    x->node_pool.capacity = capacity;
    free(x->node_heads);
    x->node_heads = heads;
    x->node_bits = bits;
    for (uint32_t n = x->oldest; n; n = x->nodes[n].next) {
        uint32_t h = hash(x->nodes[n].chunk, bits);

        x->nodes[n].hash_next = heads[h];
        heads[h] = n;
    }
    return 0;
}

int
index_make_room(struct index *x, size_t entries, size_t nodes,
                size_t capacity_max)
{
    uint32_t capacity;
    int r = growth(&x->entry_pool, entries, capacity_max, &capacity);

    if (r == 0 && capacity > 0)
        r = grow_entries(x, capacity);
    if (r < 0)
        return r;
    r = growth(&x->node_pool, nodes, capacity_max, &capacity);
    if (r == 0 && capacity > 0)
        r = grow_nodes(x, capacity);
    return r;
}

static bool
has_room(const struct pool_counts *counts, size_t need, size_t limit)
{
    size_t wanted = (size_t)counts->used + counts->reserved + need;

    return wanted <= limit && wanted <= counts->capacity;
}

bool
index_reserve(struct index *x, size_t entries, size_t nodes, size_t limit)
{
    if (!has_room(&x->entry_pool, entries, limit) ||
        !has_room(&x->node_pool, nodes, limit))
        return false;
    x->entry_pool.reserved += (uint32_t)entries;
    x->node_pool.reserved += (uint32_t)nodes;
    return true;
}

void
index_unreserve(struct index *x, size_t entries, size_t nodes)
{
    assert(x->entry_pool.reserved >= entries);
    assert(x->node_pool.reserved >= nodes);
    x->entry_pool.reserved -= (uint32_t)entries;
    x->node_pool.reserved -= (uint32_t)nodes;
}

/* ---- lookup ---- */

static uint32_t
find_entry(const struct index *x, uint64_t block)
{
    uint32_t e = x->entry_heads[hash(block, x->entry_bits)];

    while (e && x->entries[e].block.block != block)
        e = x->entries[e].hash_next;
    return e;
}

static uint32_t
find_node(const struct index *x, uint64_t chunk)
{
    uint32_t n = x->node_heads[hash(chunk, x->node_bits)];

    while (n && x->nodes[n].chunk != chunk)
        n = x->nodes[n].hash_next;
    return n;
}

const struct index_entry *
index_find(const struct index *x, uint64_t block)
{
    uint32_t e = find_entry(x, block);

    return e ? &x->entries[e] : NULL;
}

const struct index_node *
index_find_chunk(const struct index *x, uint64_t chunk)
{
    uint32_t n = find_node(x, chunk);

    return n ? &x->nodes[n] : NULL;
}

/* ---- the list of dirty chunks (X3) ---- */

static void
unlink_node(struct index *x, uint32_t n)
{
    struct index_node *node = &x->nodes[n];

    if (node->prev)
        x->nodes[node->prev].next = node->next;
    else
        x->oldest = node->next;
    if (node->next)
        x->nodes[node->next].prev = node->prev;
    else
        x->newest = node->prev;
    node->prev = node->next = 0;
}

/* Nearly always the newest: the walk is as long as the number of chunks that
 * became dirty since this sequence was given out. */
static void
link_node(struct index *x, uint32_t n)
{
    struct index_node *node = &x->nodes[n];
    uint32_t before = x->newest;

    while (before && x->nodes[before].first_seq > node->first_seq)
        before = x->nodes[before].prev;
    node->prev = before;
    node->next = before ? x->nodes[before].next : x->oldest;
    if (node->next)
        x->nodes[node->next].prev = n;
    else
        x->newest = n;
    if (before)
        x->nodes[before].next = n;
    else
        x->oldest = n;
}

/* The least live sequence of a chunk; UINT64_MAX if it has none. */
static uint64_t
least_seq(const struct index *x, const struct index_node *node)
{
    uint64_t least = node->zero_seq ? node->zero_seq : UINT64_MAX;

    for (uint32_t e = node->entries; e; e = x->entries[e].next) {
        if (x->entries[e].block.seq < least)
            least = x->entries[e].block.seq;
    }
    return least;
}

void
index_settle_oldest(struct index *x)
{
    /* Ends: every round makes one more first_seq exact and moves its chunk
     * behind; a chunk that is exact and oldest stays. */
    while (x->oldest) {
        uint32_t n = x->oldest;
        uint64_t least = least_seq(x, &x->nodes[n]);

        assert(least != UINT64_MAX);
        assert(least >= x->nodes[n].first_seq);
        if (least == x->nodes[n].first_seq)
            return;
        unlink_node(x, n);
        x->nodes[n].first_seq = least;
        link_node(x, n);
    }
}

/* ---- pools ---- */

static uint32_t
pool_take(struct pool_counts *counts)
{
    assert(counts->used < counts->capacity);
    counts->used++;
    return ++counts->touched;
}

static uint32_t
new_entry(struct index *x, uint64_t block)
{
    uint32_t h = hash(block, x->entry_bits);
    uint32_t e = x->entry_pool.free_list;

    if (e) {
        x->entry_pool.free_list = x->entries[e].hash_next;
        x->entry_pool.used++;
    } else {
        e = pool_take(&x->entry_pool);
    }
    x->entries[e] = (struct index_entry){ .block.block = block };
    x->entries[e].hash_next = x->entry_heads[h];
    x->entry_heads[h] = e;
    return e;
}

static uint32_t
new_node(struct index *x, uint64_t chunk, uint64_t seq)
{
    uint32_t h = hash(chunk, x->node_bits);
    uint32_t n = x->node_pool.free_list;

    if (n) {
        x->node_pool.free_list = x->nodes[n].hash_next;
        x->node_pool.used++;
    } else {
        n = pool_take(&x->node_pool);
    }
    x->nodes[n] = (struct index_node){ .chunk = chunk, .first_seq = seq };
    x->nodes[n].hash_next = x->node_heads[h];
    x->node_heads[h] = n;
    link_node(x, n);
    return n;
}

/* ---- X1 ---- */

static void
segment_get(struct index *x, uint32_t segment)
{
    x->segments[segment].live++;
}

static void
segment_put(struct index *x, uint32_t segment)
{
    assert(x->segments[segment].live > 0);
    x->segments[segment].live--;
}

/* ---- change ---- */

/* The chunk's node, made if need be, with a first_seq not above seq. */
static uint32_t
dirty_node(struct index *x, uint64_t chunk, uint64_t seq)
{
    uint32_t n = find_node(x, chunk);

    if (!n)
        return new_node(x, chunk, seq);
    if (x->nodes[n].first_seq > seq) {
        unlink_node(x, n);
        x->nodes[n].first_seq = seq;
        link_node(x, n);
    }
    return n;
}

void
index_put(struct index *x, const struct journal_block *block,
          uint32_t segment)
{
    uint32_t e = find_entry(x, block->block);
    uint32_t n;

    if (e) {
        struct index_entry *old = &x->entries[e];

        if (old->block.seq >= block->seq)
            return;
        segment_put(x, old->segment);
        old->block = *block;
        old->segment = segment;
        segment_get(x, segment);
        return;
    }
    n = find_node(x, block->block / x->chunk_blocks);
    if (n && x->nodes[n].zero_seq > block->seq)
        return;
    n = dirty_node(x, block->block / x->chunk_blocks, block->seq);
    e = new_entry(x, block->block);
    x->entries[e].block = *block;
    x->entries[e].segment = segment;
    x->entries[e].node = n;
    x->entries[e].next = x->nodes[n].entries;
    if (x->nodes[n].entries)
        x->entries[x->nodes[n].entries].prev = e;
    x->nodes[n].entries = e;
    x->nodes[n].count++;
    segment_get(x, segment);
}

static void
drop_entry(struct index *x, uint32_t e)
{
    struct index_entry *entry = &x->entries[e];
    struct index_node *node = &x->nodes[entry->node];
    uint32_t *link = &x->entry_heads[hash(entry->block.block,
                                          x->entry_bits)];

    segment_put(x, entry->segment);
    while (*link != e)
        link = &x->entries[*link].hash_next;
    *link = entry->hash_next;
    if (entry->prev)
        x->entries[entry->prev].next = entry->next;
    else
        node->entries = entry->next;
    if (entry->next)
        x->entries[entry->next].prev = entry->prev;
    assert(node->count > 0);
    node->count--;
    *entry = (struct index_entry){ .hash_next = x->entry_pool.free_list };
    x->entry_pool.free_list = e;
    assert(x->entry_pool.used > 0);
    x->entry_pool.used--;
}

static void
drop_node_if_clean(struct index *x, uint32_t n)
{
    struct index_node *node = &x->nodes[n];
    uint32_t *link = &x->node_heads[hash(node->chunk, x->node_bits)];

    if (node->count > 0 || node->zero_seq != 0)
        return;
    assert(node->entries == 0);
    while (*link != n)
        link = &x->nodes[*link].hash_next;
    *link = node->hash_next;
    unlink_node(x, n);
    *node = (struct index_node){ .hash_next = x->node_pool.free_list };
    x->node_pool.free_list = n;
    assert(x->node_pool.used > 0);
    x->node_pool.used--;
}

void
index_put_zero_chunk(struct index *x, uint64_t chunk, uint64_t seq,
                     uint32_t segment)
{
    uint32_t n = dirty_node(x, chunk, seq);
    struct index_node *node = &x->nodes[n];
    uint32_t next;

    if (node->zero_seq >= seq)
        return;
    if (node->zero_seq)
        segment_put(x, node->zero_segment);
    node->zero_seq = seq;
    node->zero_segment = segment;
    segment_get(x, segment);
    for (uint32_t e = node->entries; e; e = next) {
        next = x->entries[e].next;
        if (x->entries[e].block.seq < seq)
            drop_entry(x, e);
    }
}

void
index_forget(struct index *x, uint64_t block, uint64_t seq)
{
    uint32_t e = find_entry(x, block);
    uint32_t n;

    if (!e || x->entries[e].block.seq != seq)
        return;
    n = x->entries[e].node;
    drop_entry(x, e);
    drop_node_if_clean(x, n);
}

void
index_forget_mark(struct index *x, uint64_t chunk, uint64_t seq)
{
    uint32_t n = find_node(x, chunk);

    if (!n || seq == 0 || x->nodes[n].zero_seq != seq)
        return;
    segment_put(x, x->nodes[n].zero_segment);
    x->nodes[n].zero_seq = 0;
    drop_node_if_clean(x, n);
}

void
index_forget_chunk(struct index *x, uint64_t chunk)
{
    uint32_t n = find_node(x, chunk);

    if (!n)
        return;
    while (x->nodes[n].entries)
        drop_entry(x, x->nodes[n].entries);
    if (x->nodes[n].zero_seq)
        segment_put(x, x->nodes[n].zero_segment);
    x->nodes[n].zero_seq = 0;
    drop_node_if_clean(x, n);
}
