/* read.c: the newest bytes of a block, out of the ring.
 *
 * The index says where, the lock is dropped, the bytes are read, the sum
 * proves them. Destage may have moved the block to the parts meanwhile and
 * the place may have been overwritten: then the index has changed, and the
 * answer is "not here" or another place. A mirrored journal has a second copy
 * of what one can't give. */
#include "journal/state.h"

#include "base/err.h"
#include "base/sum.h"
#include "target/mirror.h"
#include <assert.h>

static int
read_copy(struct journal *j, unsigned copy, const struct journal_block *b,
          uint64_t seed, void *to)
{
    int r = mirror_read(j->object, copy, to, j->block_bytes, b->at);

    if (r == -ENOENT)
        return r;
    if (r < 0)
        return err_wrap(-EIO, "block %llu of the volume, journalled as %llu",
                        (unsigned long long)b->block,
                        (unsigned long long)b->seq);
    if (sum_block(seed, to, j->block_bytes) != b->sum)
        return err_set(-EIO, "%s: block %llu of the volume (sequence %llu at "
                       "%llu) does not match its checksum", j->path,
                       (unsigned long long)b->block,
                       (unsigned long long)b->seq,
                       (unsigned long long)b->at);
    return 0;
}

int
journal_read_at(struct journal *j, const struct journal_block *b,
                uint64_t seed, void *to)
{
    int r = read_copy(j, 0, b, seed, to);

    for (unsigned copy = 1; r < 0; copy++) {
        int other = read_copy(j, copy, b, seed, to);

        if (other == -ENOENT) /* no more copies; the text is of the last */
            break;
        r = other;
    }
    return r == -ENOENT ? err_set(-EIO, "%s: no copy is left", j->path) : r;
}

bool
journal_follows(const struct journal *j, const struct journal_block *a,
                const struct journal_block *b)
{
    return b->at == a->at + j->block_bytes;
}

int
journal_read_run(struct journal *j, const struct journal_block *b,
                 const uint64_t *seeds, size_t count, void *to)
{
    size_t bytes = j->block_bytes;
    bool at_once = count > 1 &&
                   mirror_read(j->object, 0, to, count * bytes, b->at) == 0;
    int r = 0;

    for (size_t i = 0; i < count && r == 0; i++) {
        uint8_t *at = (uint8_t *)to + i * bytes;

        assert(i == 0 || journal_follows(j, &b[i - 1], &b[i]));
        if (!at_once || sum_block(seeds[i], at, bytes) != b[i].sum)
            r = journal_read_at(j, &b[i], seeds[i], at);
    }
    return r;
}

static uint8_t
what_is(uint64_t sum)
{
    return sum == SUM_ZERO_BLOCK  ? JOURNAL_ZEROES
           : sum == SUM_REFERENCE ? JOURNAL_REFERENCE
                                  : JOURNAL_DATA;
}

/* 0: nothing; else what; data are in *ret. */
static uint8_t
find_locked(const struct journal *j, uint64_t block,
            struct journal_block *ret)
{
    const struct index_entry *e = index_find(&j->index, block);
    const struct index_node *node;

    if (e) {
        *ret = e->block;
        return what_is(e->block.sum);
    }
    node = index_find_chunk(&j->index, block / j->index.chunk_blocks);
    return node && node->zero_seq != 0 ? JOURNAL_ZEROES : 0;
}

int
journal_read(struct journal *j, uint64_t block, uint64_t seed, void *to)
{
    struct journal_block b = { 0 }, seen;
    uint8_t have;
    int r = 0;

    /* Every round more has seen the entry replaced or gone. */
    for (bool again = false;; again = true) {
        seen = b;
        pthread_mutex_lock(&j->lock);
        have = find_locked(j, block, &b);
        pthread_mutex_unlock(&j->lock);
        if (have == 0 || have == JOURNAL_REFERENCE)
            return 0;
        if (have == JOURNAL_ZEROES) {
            memset(to, 0, j->block_bytes);
            return 1;
        }
        if (again && b.seq == seen.seq && b.at == seen.at)
            return r;
        r = journal_read_at(j, &b, seed, to);
        if (r == 0)
            return 1;
    }
}

void
journal_lookup(struct journal *j, uint64_t first, uint32_t count,
               uint8_t *have)
{
    struct journal_block b;

    pthread_mutex_lock(&j->lock);
    for (uint32_t i = 0; i < count; i++)
        have[i] = find_locked(j, first + i, &b);
    pthread_mutex_unlock(&j->lock);
}
