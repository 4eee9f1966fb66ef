/* advance.c: destage's side: what is dirty, what is done with, and the tail.
 *
 * Happy path: oldest chunks -> their blocks -> (destage makes them durable on
 * the parts) -> forget -> checkpoint -> advance: sync, superblock, reuse.
 * (V1) The tail stops at the first segment that has a live entry, a live mark
 *      or an append that still writes.
 * (V2) Before the tail moves, every record that had a place when it was chosen
 *      is durable: the successor of a version that goes is safe (J3).
 * Fails: sync or superblock -> J5, the old tail stays in force. */
#include "journal/state.h"

#include "base/err.h"
#include <assert.h>

size_t
journal_oldest_chunks(struct journal *j, uint64_t *chunks, size_t max)
{
    size_t count = 0;

    pthread_mutex_lock(&j->lock);
    index_settle_oldest(&j->index);
    for (uint32_t n = j->index.oldest; n && count < max;
         n = j->index.nodes[n].next)
        chunks[count++] = j->index.nodes[n].chunk;
    pthread_mutex_unlock(&j->lock);
    return count;
}

/* ---- the blocks of a chunk, in order ---- */

static void
sift_down(struct journal_block *blocks, size_t root, size_t count)
{
    struct journal_block moving = blocks[root];

    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count &&
            blocks[child + 1].block > blocks[child].block)
            child++;
        if (blocks[child].block <= moving.block)
            break;
        blocks[root] = blocks[child];
    }
    blocks[root] = moving;
}

/* In place and without a worst case (qsort may allocate). */
static void
sort_blocks(struct journal_block *blocks, size_t count)
{
    for (size_t root = count / 2; root-- > 0; )
        sift_down(blocks, root, count);
    for (size_t end = count; end-- > 1; ) {
        struct journal_block greatest = blocks[0];

        blocks[0] = blocks[end];
        sift_down(blocks, 0, end);
        blocks[end] = greatest;
    }
}

/* Too many for the caller: the first ones in order of block. */
static size_t
first_blocks_locked(const struct journal *j, uint64_t chunk,
                    struct journal_block *blocks, size_t max)
{
    uint64_t first = chunk * j->index.chunk_blocks;
    size_t count = 0;

    for (uint32_t i = 0; i < j->index.chunk_blocks && count < max; i++) {
        const struct index_entry *e = index_find(&j->index, first + i);

        if (e)
            blocks[count++] = e->block;
    }
    return count;
}

static size_t
all_blocks_locked(const struct journal *j, const struct index_node *node,
                  struct journal_block *blocks)
{
    size_t count = 0;

    for (uint32_t e = node->entries; e; e = j->index.entries[e].next)
        blocks[count++] = j->index.entries[e].block;
    assert(count == node->count);
    return count;
}

size_t
journal_chunk_blocks(struct journal *j, uint64_t chunk,
                     struct journal_block *blocks, size_t max,
                     size_t *ret_total, uint64_t *ret_zero_seq)
{
    const struct index_node *node;
    bool must_sort = false;
    size_t count = 0;

    *ret_total = 0;
    *ret_zero_seq = 0;
    pthread_mutex_lock(&j->lock);
    node = index_find_chunk(&j->index, chunk);
    if (node) {
        *ret_total = node->count;
        *ret_zero_seq = node->zero_seq;
        must_sort = node->count <= max;
        count = must_sort ? all_blocks_locked(j, node, blocks)
                          : first_blocks_locked(j, chunk, blocks, max);
    }
    pthread_mutex_unlock(&j->lock);
    if (must_sort)
        sort_blocks(blocks, count);
    return count;
}

void
journal_forget(struct journal *j, uint64_t chunk,
               const struct journal_block *blocks, size_t count,
               uint64_t zero_seq)
{
    const struct index_node *node;

    pthread_mutex_lock(&j->lock);
    node = index_find_chunk(&j->index, chunk);
    /* An entry that goes while the mark stays would let the mark answer for
     * its block (X2). A mark that is not the caller's is newer than all the
     * caller has, so nothing of that is left. */
    if (node && (node->zero_seq == 0 || node->zero_seq == zero_seq)) {
        for (size_t i = 0; i < count; i++) {
            assert(blocks[i].block / j->index.chunk_blocks == chunk);
            index_forget(&j->index, blocks[i].block, blocks[i].seq);
        }
        index_forget_mark(&j->index, chunk, zero_seq);
    }
    pthread_mutex_unlock(&j->lock);
}

uint64_t
journal_checkpoint_seq(struct journal *j)
{
    uint64_t least;

    pthread_mutex_lock(&j->lock);
    least = j->last_seq + 1;
    index_settle_oldest(&j->index);
    if (j->index.oldest && j->index.nodes[j->index.oldest].first_seq < least)
        least = j->index.nodes[j->index.oldest].first_seq;
    if (mark_least_locked(j) < least)
        least = mark_least_locked(j);
    if (j->oldest_unfinished && j->oldest_unfinished->seq < least)
        least = j->oldest_unfinished->seq;
    if (j->failed && j->failed_floor < least)
        least = j->failed_floor;
    pthread_mutex_unlock(&j->lock);
    return least - 1;
}

/* ---- the tail ---- */

static uint64_t
next_segment_start(const struct journal *j, uint64_t start)
{
    uint64_t left = j->ring_bytes - start % j->ring_bytes;

    return start + (left < j->segment_bytes ? left : j->segment_bytes);
}

uint64_t
journal_tail_bound(struct journal *j)
{
    uint64_t bound = UINT64_MAX;
    bool live = false;

    pthread_mutex_lock(&j->lock);
    for (uint64_t start = segment_start(j, j->tail.pos);
         start < j->head_pos && bound == UINT64_MAX;
         start = next_segment_start(j, start)) {
        const struct segment *s = &j->segments[segment_of(j, start)];

        if (live && s->first_pos >= start && s->first_pos < j->head_pos)
            bound = s->first_seq;
        live = live || s->live > 0 || s->unfinished > 0;
    }
    pthread_mutex_unlock(&j->lock);
    return bound;
}

/* V1. */
static struct journal_tail
choose_tail_locked(struct journal *j)
{
    struct segment *s;

    for (uint64_t start = segment_start(j, j->tail.pos);
         start < j->head_pos; start = next_segment_start(j, start)) {
        s = &j->segments[segment_of(j, start)];
        if (s->live == 0 && s->unfinished == 0)
            continue;
        assert(s->first_pos >= j->tail.pos && s->first_pos < j->head_pos);
        return (struct journal_tail){
            .pos = s->first_pos,
            .chain = s->first_chain,
            .seq = s->first_seq,
        };
    }
    /* Nothing is live: the next record is the first. Its segment begins anew
     * with it, whatever lies there before it. */
    s = &j->segments[segment_of(j, j->head_pos)];
    assert(s->live == 0 && s->unfinished == 0);
    assert(j->cost >= s->cost);
    j->cost -= s->cost;
    s->cost = 0;
    s->first_pos = UINT64_MAX;
    return (struct journal_tail){
        .pos = j->head_pos,
        .chain = j->head_chain,
        .seq = j->last_seq + 1,
    };
}

static void
publish_tail_locked(struct journal *j, const struct journal_tail *tail)
{
    assert(tail->pos >= j->tail.pos && tail->pos <= j->head_pos);
    for (uint64_t start = segment_start(j, j->tail.pos);
         start < segment_start(j, tail->pos);
         start = next_segment_start(j, start)) {
        struct segment *s = &j->segments[segment_of(j, start)];

        assert(s->live == 0 && s->unfinished == 0);
        assert(j->cost >= s->cost);
        j->cost -= s->cost;
        s->cost = 0;
        s->first_pos = UINT64_MAX;
    }
    j->tail = *tail;
}

int
journal_advance(struct journal *j, const uint64_t *part_ckpt)
{
    struct journal_identity identity = j->identity;
    struct journal_tail tail;
    uint64_t want, redo_seq;
    int r;

    memcpy(identity.part_ckpt, part_ckpt, sizeof identity.part_ckpt);
    pthread_mutex_lock(&j->lock);
    tail = choose_tail_locked(j);
    want = j->last_record_seq;
    redo_seq = j->last_seq + 1;
    pthread_mutex_unlock(&j->lock);

    r = journal_sync_to(j, want); /* V2 */
    if (r == 0)
        r = journal_store_super(j, &identity, &tail, redo_seq);
    if (r < 0)
        return r;

    j->identity = identity;
    j->redo_seq = redo_seq;
    pthread_mutex_lock(&j->lock);
    publish_tail_locked(j, &tail);
    j->redo_bytes = j->area_used = 0;
    pthread_mutex_unlock(&j->lock);
    return 0;
}

void
journal_space(struct journal *j, struct journal_space *ret)
{
    uint64_t end;

    pthread_mutex_lock(&j->lock);
    end = segment_start(j, j->tail.pos) + j->ring_bytes;
    *ret = (struct journal_space){
        .ring_bytes = j->ring_bytes,
        .used_bytes = j->head_pos - j->tail.pos,
        .index_blocks = j->index.entry_pool.used > j->index.node_pool.used
                      ? j->index.entry_pool.used : j->index.node_pool.used,
        .index_limit = j->index_limit,
        .live_blocks = j->index.entry_pool.used,
        .dirty_chunks = j->index.node_pool.used,
        .bypassed_chunks = j->bypass_count,
        .held_bytes = j->held_bytes,
        .cost = j->cost,
        .cost_max = journal_cost_max(j->index_limit),
        .appended_bytes = j->appended_bytes,
        .syncs = j->syncs,
        .area_bytes = j->area_bytes,
        .last_seq = j->last_seq,
        .failed = j->failed,
    };
    if (end - j->head_pos > j->reserve_bytes + j->held_bytes)
        ret->free_bytes = end - j->head_pos - j->reserve_bytes -
                          j->held_bytes;
    pthread_mutex_unlock(&j->lock);
}
