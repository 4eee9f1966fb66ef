#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/seq.h"
#include "base/sum.h"
#include "journal/journal_format.h"
#include <stdlib.h>

#define SECTOR 512u

uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* ---- the target ---- */

struct cut_object {
    struct object base;
    struct cut_target *t;
};

static struct cut_target *
of(struct object *o)
{
    return ((struct cut_object *)o)->t;
}

/* A write or a sync: may it still happen? */
static bool
is_dead(struct cut_target *t)
{
    if (t->calls_left == 0)
        return true;
    if (t->calls_left > 0)
        t->calls_left--;
    return false;
}

static void
pass_gate(struct cut_target *t)
{
    if (t->gate_after < 0 || t->gate_after-- > 0)
        return;
    t->at_gate = true;
    pthread_cond_broadcast(&t->gate_moved);
    while (!t->gate_open)
        pthread_cond_wait(&t->gate_moved, &t->lock);
    t->at_gate = false;
}

void
cut_target_set_gate(struct cut_target *t, long after)
{
    pthread_mutex_lock(&t->lock);
    t->gate_after = after;
    t->gate_open = false;
    pthread_mutex_unlock(&t->lock);
}

void
cut_target_wait_gate(struct cut_target *t)
{
    pthread_mutex_lock(&t->lock);
    while (!t->at_gate)
        pthread_cond_wait(&t->gate_moved, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void
cut_target_open_gate(struct cut_target *t)
{
    pthread_mutex_lock(&t->lock);
    t->gate_open = true;
    pthread_cond_broadcast(&t->gate_moved);
    pthread_mutex_unlock(&t->lock);
}

static int
cut_open(struct target *target, const char *name, unsigned flags,
         struct object **ret)
{
    struct cut_target *t = (struct cut_target *)target;
    struct cut_object *o;

    if (!t->exists && !(flags & OBJECT_CREATE))
        return err_set(-ENOENT, "%s: none", name);
    t->exists = true;
    o = calloc(1, sizeof *o);
    assert_non_null(o);
    o->base = (struct object){ .ops = target->ops, .target = target };
    o->t = t;
    *ret = &o->base;
    return 0;
}

static int
cut_readv(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    struct cut_target *t = of(o);
    int r = 0;

    for (int i = 0; i < 4; i++) {
        if (t->bad_at[i] == at + 1)
            return err_set(-EIO, "bad sector");
    }
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < count && r == 0; at += iov[i++].iov_len) {
        if (at + iov[i].iov_len > t->bytes)
            r = err_set(-EIO, "short read");
        else
            memcpy(iov[i].iov_base, t->now + at, iov[i].iov_len);
    }
    pthread_mutex_unlock(&t->lock);
    return r;
}

static int
cut_writev(struct object *o, const struct iovec *iov, int count, uint64_t at)
{
    struct cut_target *t = of(o);
    int r = 0;

    pthread_mutex_lock(&t->lock);
    pass_gate(t);
    t->writes++;
    if (is_dead(t))
        r = err_set(-EIO, "dead");
    for (int i = 0; i < count && r == 0; at += iov[i++].iov_len) {
        if (at + iov[i].iov_len > t->bytes)
            r = err_set(-EIO, "beyond the end");
        else
            memcpy(t->now + at, iov[i].iov_base, iov[i].iov_len);
    }
    pthread_mutex_unlock(&t->lock);
    return r;
}

static int
cut_resize(struct object *o, uint64_t bytes)
{
    struct cut_target *t = of(o);

    t->now = realloc(t->now, bytes);
    t->medium = realloc(t->medium, bytes);
    assert_true(t->now && t->medium);
    if (bytes > t->bytes) {
        memset(t->now + t->bytes, 0, bytes - t->bytes);
        memset(t->medium + t->bytes, 0, bytes - t->bytes);
    }
    t->bytes = bytes;
    return 0;
}

static int
cut_allocate(struct object *o, uint64_t at, uint64_t bytes)
{
    (void)o;
    (void)at;
    (void)bytes;
    return 0;
}

static int
cut_object_sync(struct object *o)
{
    struct cut_target *t = of(o);
    int r = 0;

    pthread_mutex_lock(&t->lock);
    t->syncs++;
    if (is_dead(t))
        r = err_set(-EIO, "dead");
    else
        memcpy(t->medium, t->now, t->bytes);
    pass_gate(t);
    pthread_mutex_unlock(&t->lock);
    return r;
}

static int
cut_stat(struct object *o, struct object_stat *ret)
{
    *ret = (struct object_stat){.size_bytes = of(o)->bytes,
                                .allocated_bytes = of(o)->bytes};
    return 0;
}

static int
cut_lock(struct object *o, uint64_t at, uint64_t bytes, bool exclusive)
{
    (void)o;
    (void)at;
    (void)bytes;
    (void)exclusive;
    return 0;
}

static void
cut_drop_cache(struct object *o)
{
    (void)o;
}

static int
cut_sync(struct target *t)
{
    (void)t;
    return 0;
}

static void
cut_object_close(struct object *o)
{
    free(o);
}

void
cut_target_init(struct cut_target *t, uint64_t seed)
{
    static const struct target_ops ops = {
        .open = cut_open,
        .sync = cut_sync,
        .readv = cut_readv,
        .writev = cut_writev,
        .resize = cut_resize,
        .allocate = cut_allocate,
        .object_sync = cut_object_sync,
        .stat = cut_stat,
        .lock = cut_lock,
        .drop_cache = cut_drop_cache,
        .object_close = cut_object_close,
    };
    static char path[] = "memory";

    memset(t, 0, sizeof *t);
    t->base = (struct target){ .ops = &ops, .path = path };
    t->random = seed;
    t->calls_left = t->gate_after = -1;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->gate_moved, NULL);
}

void
cut_target_done(struct cut_target *t)
{
    pthread_cond_destroy(&t->gate_moved);
    pthread_mutex_destroy(&t->lock);
    free(t->now);
    free(t->medium);
}

void
cut_target_cut(struct cut_target *t)
{
    /* Sometimes nearly all is lost, sometimes nearly nothing. */
    uint64_t keep = next_random(&t->random) % 256;

    t->calls_left = -1;
    for (uint64_t at = 0; at < t->bytes; at += SECTOR) {
        if (memcmp(t->now + at, t->medium + at, SECTOR) == 0)
            continue;
        if (next_random(&t->random) % 256 < keep)
            memcpy(t->medium + at, t->now + at, SECTOR);
    }
    memcpy(t->now, t->medium, t->bytes);
}

void
cut_target_cut_records(struct cut_target *t)
{
    t->calls_left = -1;
    memcpy(t->now + RING_AT, t->medium + RING_AT,
           t->bytes - RING_OVERHEAD_BYTES);
    memcpy(t->medium, t->now, t->bytes);
}

/* ---- the rig ---- */

uint64_t
rig_seed(void *ctx, uint64_t block)
{
    (void)ctx;
    return block * 77 + 5;
}

bool
rig_present(void *ctx, uint64_t chunk)
{
    const struct rig *rig = ctx;

    return rig->present[chunk];
}

void
rig_fill(const struct rig *rig, uint64_t block, uint64_t number, uint8_t *to)
{
    uint64_t state = number * 1000003 + block;

    if (number == 0) {
        memset(to, 0, rig->block_bytes);
        return;
    }
    for (uint32_t at = 0; at < rig->block_bytes; at += 8)
        put_le64(to + at, next_random(&state));
    put_le64(to, number);
    put_le64(to + 8, block);
}

/* Which write this content is. */
static uint64_t
number_of(const struct rig *rig, uint64_t block, const uint8_t *content)
{
    uint8_t expected[BLOCK_BYTES_MAX];
    uint64_t number = get_le64(content);

    rig_fill(rig, block, number, expected);
    assert_memory_equal(content, expected, rig->block_bytes);
    return number;
}

static int
remember_redo(void *ctx, uint64_t seq, const uint8_t *body, size_t bytes)
{
    struct rig *rig = ctx;

    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(body[i], (uint8_t)(bytes + i));
    assert_true(rig->redo_count < 64);
    rig->redo_seen[rig->redo_count] = seq;
    rig->redo_bytes[rig->redo_count++] = bytes;
    return 0;
}

int
rig_try_redo(struct rig *rig, size_t bytes)
{
    uint8_t *body = malloc(bytes);
    int r;

    assert_non_null(body);
    for (size_t i = 0; i < bytes; i++)
        body[i] = (uint8_t)(bytes + i);
    r = journal_append_redo(rig->j, body, bytes);
    free(body);
    return r;
}

void
rig_redo(struct rig *rig, size_t bytes)
{
    assert_int_equal(rig_try_redo(rig, bytes), 0);
}

static void
set_up_journal(struct rig *rig)
{
    journal_set_chunk_blocks(rig->j, rig->chunk_blocks);
    journal_set_volume_blocks(rig->j, rig->blocks);
}

static void
init(struct rig *rig, struct target *target, uint32_t block_bytes,
     uint32_t chunk_blocks, uint64_t blocks, uint64_t file_bytes,
     size_t index_limit, bool has_area)
{
    struct journal_identity identity = { .block_bytes = block_bytes };
    int r;

    *rig = (struct rig){
        .block_bytes = block_bytes,
        .chunk_blocks = chunk_blocks,
        .blocks = blocks,
        .chunks = (blocks + chunk_blocks - 1) / chunk_blocks,
        .epoch = 1,
        .file_bytes = file_bytes,
        .index_limit = index_limit,
        .next_number = 1,
    };
    cut_target_init(&rig->cut, file_bytes + blocks);
    rig->target = target ? target : &rig->cut.base;
    rig->may = calloc(blocks, sizeof *rig->may);
    rig->parts = calloc(blocks, sizeof *rig->parts);
    rig->present = calloc(rig->chunks, sizeof *rig->present);
    assert_true(rig->may && rig->parts && rig->present);
    for (uint64_t block = 0; block < blocks; block++)
        rig->may[block].count = 1; /* zeroes */
    memset(identity.volume.b, 1, 16);
    memset(identity.journal.b, 2, 16);
    r = journal_create(rig->target, RIG_NAME, file_bytes, &identity,
                       index_limit, has_area, &rig->j);
    if (r < 0)
        fail_msg("create: %s", err_text());
    set_up_journal(rig);
    assert_int_equal(journal_start(rig->j, rig->epoch++), 0);
}

void
rig_init(struct rig *rig, struct target *target, uint32_t block_bytes,
         uint32_t chunk_blocks, uint64_t blocks, uint64_t file_bytes,
         size_t index_limit)
{
    init(rig, target, block_bytes, chunk_blocks, blocks, file_bytes,
         index_limit, true);
}

void
rig_init_without_area(struct rig *rig, uint32_t block_bytes,
                      uint32_t chunk_blocks, uint64_t blocks,
                      uint64_t file_bytes, size_t index_limit)
{
    init(rig, NULL, block_bytes, chunk_blocks, blocks, file_bytes, index_limit,
         false);
}

uint64_t
rig_area_at(struct rig *rig)
{
    struct journal_space space;

    journal_space(rig->j, &space);
    return RING_AT + space.ring_bytes;
}

void
rig_done(struct rig *rig)
{
    journal_close(rig->j);
    cut_target_done(&rig->cut);
    free(rig->may);
    free(rig->parts);
    free(rig->present);
}

int
rig_reopen(struct rig *rig)
{
    struct replay_callbacks cb = {
        .present = rig_present,
        .redo = remember_redo,
        .seed = rig_seed,
        .ctx = rig,
    };
    int r;

    journal_close(rig->j);
    rig->j = NULL;
    rig->redo_count = 0;
    r = journal_open(rig->target, RIG_NAME, rig->index_limit, &rig->j);
    if (r < 0)
        return r;
    set_up_journal(rig);
    r = journal_replay(rig->j, &cb, &rig->stats);
    return r < 0 ? r : journal_start(rig->j, rig->epoch++);
}

static void
may_become(struct rig *rig, uint64_t block, uint64_t number)
{
    rig->may[block].value[rig->may[block].count++] = number;
    if (rig->may[block].count == RIG_VALUES_MAX)
        assert_int_equal(rig_sync(rig), 0);
}

int
rig_write(struct rig *rig, uint64_t first, uint32_t count)
{
    uint8_t *data = malloc((size_t)count * rig->block_bytes);
    uint64_t *sums = calloc(count, sizeof *sums);
    uint64_t number = rig->next_number++;
    int r;

    assert_true(data && sums);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *block = data + (size_t)i * rig->block_bytes;

        rig_fill(rig, first + i, number, block);
        sums[i] = sum_block(rig_seed(rig, first + i), block,
                            rig->block_bytes);
    }
    r = journal_append_write(rig->j, first, count, sums, data);
    /* A write that failed may be found after a restart all the same. */
    for (uint32_t i = 0; i < count && (r == 0 || r == -EIO); i++)
        may_become(rig, first + i, number);
    free(data);
    free(sums);
    return r;
}

int
rig_zero(struct rig *rig, uint64_t first, uint64_t count)
{
    int r = journal_append_zero(rig->j, first, count, rig_present, rig);

    for (uint64_t i = 0; i < count && (r == 0 || r == -EIO); i++)
        may_become(rig, first + i, 0);
    return r;
}

static void
flushed(struct rig *rig)
{
    for (uint64_t block = 0; block < rig->blocks; block++) {
        unsigned last = rig->may[block].count - 1;

        rig->may[block].value[0] = rig->may[block].value[last];
        rig->may[block].count = 1;
    }
}

int
rig_sync(struct rig *rig)
{
    int r = journal_sync(rig->j);

    if (r == 0)
        flushed(rig);
    return r;
}

static void
destage_chunk(struct rig *rig, uint64_t chunk)
{
    struct journal_block blocks[1024];
    uint8_t content[BLOCK_BYTES_MAX];
    uint64_t zero_seq;
    size_t total, count;

    count = journal_chunk_blocks(rig->j, chunk, blocks, 1024, &total,
                                 &zero_seq);
    assert_int_equal(count, total);
    if (zero_seq) {
        for (uint64_t i = 0; i < rig->chunk_blocks; i++) {
            if (chunk * rig->chunk_blocks + i < rig->blocks)
                rig->parts[chunk * rig->chunk_blocks + i] = 0;
        }
        rig->present[chunk] = count > 0;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t block = blocks[i].block;

        assert_true(i == 0 || block > blocks[i - 1].block);
        rig->present[chunk] = true;
        rig->parts[block] = 0;
        if (blocks[i].sum == 0)
            continue;
        if (journal_read_at(rig->j, &blocks[i], rig_seed(rig, block),
                            content) < 0)
            fail_msg("destage: %s", err_text());
        rig->parts[block] = number_of(rig, block, content);
    }
    journal_forget(rig->j, chunk, blocks, count, zero_seq);
}

int
rig_destage(struct rig *rig, size_t max, size_t *ret_done)
{
    uint64_t chunks[64];
    int r = rig_sync(rig);

    *ret_done = 0;
    if (r < 0)
        return r;
    *ret_done = journal_oldest_chunks(rig->j, chunks, max < 64 ? max : 64);
    for (size_t i = 0; i < *ret_done; i++)
        destage_chunk(rig, chunks[i]);
    return 0;
}

int
rig_advance(struct rig *rig)
{
    uint64_t ckpt[PARTS_MAX] = { journal_checkpoint_seq(rig->j) };

    return journal_advance(rig->j, ckpt);
}

uint64_t
rig_read(struct rig *rig, uint64_t block)
{
    uint8_t content[BLOCK_BYTES_MAX];
    uint8_t have;
    int r;

    journal_lookup(rig->j, block, 1, &have);
    r = journal_read(rig->j, block, rig_seed(rig, block), content);
    if (r < 0)
        fail_msg("read: %s", err_text());
    assert_int_equal(r, have > 0);
    if (r == 0)
        return rig->parts[block];
    assert_int_equal(have == 2, get_le64(content) == 0);
    return number_of(rig, block, content);
}

void
rig_check(struct rig *rig)
{
    for (uint64_t block = 0; block < rig->blocks; block++) {
        uint64_t number = rig_read(rig, block);
        uint64_t last = rig->may[block].value[rig->may[block].count - 1];

        if (number != last)
            fail_msg("block %llu is %llu, not %llu",
                     (unsigned long long)block, (unsigned long long)number,
                     (unsigned long long)last);
    }
}

void
rig_adopt(struct rig *rig)
{
    for (uint64_t block = 0; block < rig->blocks; block++) {
        uint64_t number = rig_read(rig, block);
        unsigned count = rig->may[block].count;
        bool found = false;

        for (unsigned i = 0; i < count; i++)
            found = found || rig->may[block].value[i] == number;
        if (!found)
            fail_msg("block %llu is %llu; flushed %llu, last written %llu",
                     (unsigned long long)block, (unsigned long long)number,
                     (unsigned long long)rig->may[block].value[0],
                     (unsigned long long)rig->may[block].value[count - 1]);
        rig->may[block].value[0] = number;
        rig->may[block].count = 1;
    }
}
