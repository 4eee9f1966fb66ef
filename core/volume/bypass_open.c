/* bypass_open.c: when writes go past the journal (bypass.h), and how a chunk is
 * opened for them. */
#include "volume/bypass.h"
#include "volume/parent.h"
#include "base/memory.h"
#include "base/wait.h"
#include <stdlib.h>

#define MEMORY_MAX (64u << 20) /* of the bytes of open chunks */
#define CHUNKS_MAX 16u
#define LARGE_BYTES (64u << 10) /* a write that opens a chunk */
#define SLOT_WAIT_MS 2000u
#define SLOT_LOOK_MS 100u

/* ---- when ---- */

/* Does the journal lie on the disk of one of the parts? */
static bool
shares_a_disk(struct lsvd_volume *v)
{
    struct target_space journal, part;

    if (target_space(v->cache_dir, &journal) < 0)
        return false;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((v->usable & UINT32_C(1) << i) &&
            target_space(v->part[i].dir, &part) == 0 &&
            part.device == journal.device)
            return true;
    }
    return false;
}

static size_t
chunks_max(const struct lsvd_volume *v)
{
    size_t most = MEMORY_MAX / v->g.chunk_bytes;
    size_t held = journal_bypass_max(v->journal);

    if (most > CHUNKS_MAX)
        most = CHUNKS_MAX;
    return most > held ? held : most;
}

/* A journal on a disk of its own takes a burst faster than the parts would: as
 * long as it would not fill up, it does. On a disk that it shares with a part
 * its bytes are written twice at the cost of both; but the first of them are
 * worth that, as a flush syncs many small files then, and else the journal.
 * So what matters is how many bytes go by without a flush. */
void
bypass_begin(struct lsvd_volume *v)
{
    bool fits = chunks_max(v) > 0 &&
                (!v->g.is_ec || v->g.chunk_blocks % v->g.data_count == 0);
    struct journal_space now;

    journal_space(v->journal, &now);
    if (!fits)
        v->bypass.after_bytes = CONFIG_BYPASS_NEVER;
    else if (v->config.bypass_after != CONFIG_BYPASS_AUTO)
        v->bypass.after_bytes = v->config.bypass_after;
    else
        v->bypass.after_bytes = shares_a_disk(v) ? now.ring_bytes / 32
                                                 : now.ring_bytes / 2;
}

static bool
is_healthy(struct lsvd_volume *v)
{
    return v->usable == volume_all_parts(v) &&
           atomic_load(&v->destage_error) == 0 &&
           !atomic_load(&v->stopping) && !atomic_load(&v->hurried) &&
           !atomic_load(&v->fenced) &&
           (!atomic_load(&v->in_repair) || atomic_load(&v->adds_below) ||
            atomic_load(&v->is_added_to));
}

static bool
is_worth_it(struct lsvd_volume *v)
{
    uint64_t flushed_at = atomic_load(&v->bypass.flushed_at); /* first */

    return atomic_load(&v->count.write_bytes) - flushed_at >
               v->bypass.after_bytes &&
           is_healthy(v);
}

size_t
bypass_cut(struct lsvd_volume *v, size_t count, uint64_t offset)
{
    uint64_t left = v->g.chunk_bytes - offset % v->g.chunk_bytes;
    uint64_t most = (uint64_t)bypass_blocks_max(v) * v->g.block_bytes;

    if (atomic_load(&v->bypass.count) == 0 && !is_worth_it(v))
        return count;
    if (left > most)
        left = most;
    return count < left ? count : (size_t)left;
}

/* ---- opening ---- */

/* As long as nobody has a lease on its blocks this may change. */
static bool
is_unused(struct lsvd_volume *v, uint64_t chunk)
{
    struct chunk_entry truth;
    uint64_t zero_seq;
    size_t blocks;

    /* In this order: destage says that a chunk is present, or has removed it,
     * before the journal forgets. */
    journal_chunk_blocks(v->journal, chunk - 1, NULL, 0, &blocks, &zero_seq);
    if (blocks > 0 || zero_seq != 0)
        return false;
    truth = chunk_truth(v, chunk);
    return truth.state == CHUNK_HOLE &&
           (truth.seq == 0 || !volume_is_clone(v)); /* PA1 */
}

/* What comes in order, from the beginning of a chunk on, will go on: this chunk
 * and the next one are expected. The requests of such a stream overtake each
 * other. */
static bool
is_of_a_stream(struct lsvd_volume *v, uint64_t first, uint32_t count)
{
    uint64_t chunk = geometry_chunk_of(&v->g, first);
    uint64_t large = v->g.chunk_bytes / 16;
    bool is_expected = geometry_block_in_chunk(&v->g, first) == 0;

    if (large > LARGE_BYTES)
        large = LARGE_BYTES;
    if ((uint64_t)count * v->g.block_bytes < large ||
        !bypass_is_whole_rows(v, first, count))
        return false;
    pthread_mutex_lock(&v->table_lock);
    for (size_t i = 0; i < BYPASS_STREAMS; i++) {
        uint64_t *at = &v->bypass.stream[i];

        if (*at != chunk && *at + 1 != chunk)
            continue;
        *at = chunk;
        pthread_mutex_unlock(&v->table_lock);
        return true;
    }
    if (is_expected)
        v->bypass.stream[v->bypass.next_stream++ % BYPASS_STREAMS] = chunk;
    pthread_mutex_unlock(&v->table_lock);
    return is_expected;
}

static bool
may_open_locked(struct lsvd_volume *v)
{
    return v->bypass.barred == 0 && is_healthy(v) &&
           atomic_load(&v->bypass.count) < chunks_max(v);
}

static bool
may_open(struct lsvd_volume *v)
{
    bool may;

    pthread_mutex_lock(&v->table_lock);
    may = may_open_locked(v);
    pthread_mutex_unlock(&v->table_lock);
    return may;
}

/* Among those that are open; false: they are too many. */
static bool
enlist(struct lsvd_volume *v, struct bypass_chunk *b)
{
    bool may;

    pthread_mutex_lock(&v->table_lock);
    may = may_open_locked(v);
    if (may) {
        b->parts = v->usable;
        b->writers = 1;
        bypass_enlist_locked(v, b);
    }
    pthread_mutex_unlock(&v->table_lock);
    return may;
}

/* V6: while the part's lease is held nothing is loaded, as that takes it once
 * more; so the chunk's state is settled before. The chunk lease keeps it. */
static int
make_leased(struct lsvd_volume *v, struct bypass_chunk *b,
            const struct plan *plan, uint32_t slot)
{
    enum fragment_state state;
    struct lease lease;
    int r = -EIO;

    (void)chunk_fragment_to_write(v, b->pin, slot, &state);
    if (state != FRAGMENT_MISSING) /* no table knows of a file */
        return -EIO;
    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    if (atomic_load(&v->usable) & UINT32_C(1) << slot)
        r = plan_apply_to(v, plan, b->pin, slot);
    lease_put(&v->part_leases, &lease);
    return r;
}

/* It must be there, with its header, when the first answer is given. */
static int
make_file(struct lsvd_volume *v, struct bypass_chunk *b,
          const struct plan *plan, uint32_t slot)
{
    struct fragment *f;
    int r = make_leased(v, b, plan, slot);

    if (r == 0) {
        f = chunk_fragment(v, b->pin, slot, NULL);
        r = f ? fragment_await(f) : -EIO; /* the part was just let go */
    }
    if (r < 0)
        part_suspect(v, slot, r);
    return r;
}

/* On all parts, with a header. */
static int
make_files(struct lsvd_volume *v, struct bypass_chunk *b, uint64_t seq)
{
    struct plan *plan = plan_new(b->chunk);
    struct lease lease;
    int r;

    if (!plan)
        return -ENOMEM;
    plan->make = b->parts;
    plan->seq = seq;
    r = volume_check_ours(v); /* OW4, OW5 */
    if (r == 0)
        r = chunk_get(v, b->chunk, &b->pin);
    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, true);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++)
        r = make_file(v, b, plan, i);
    lease_put(&v->chunk_leases, &lease);
    plan_free(plan);
    return r;
}

/* All its blocks are leased. From when it is listed nothing is waited for that
 * the role does: that may be waiting for us. False: it is not listed. */
static bool
open_leased(struct lsvd_volume *v, struct bypass_chunk *b)
{
    uint64_t seq;
    int r;

    if (journal_append_bypass(v->journal, b->chunk - 1, &seq) < 0)
        return false;
    b->seq = b->newest = seq;
    if (journal_await(v) < 0 || !enlist(v, b)) {
        journal_forget_bypass(v->journal, b->chunk - 1, seq);
        return false;
    }
    b->begun_ns = v->io->ops->now_ns(v->io);
    chunk_mark_flux(v, b->chunk, true);
    r = make_files(v, b, seq);
    pthread_mutex_lock(&v->table_lock);
    b->has_files = r == 0;
    pthread_mutex_unlock(&v->table_lock);
    bypass_leave(v, b, r);
    return true;
}

static int
bypass_new(struct lsvd_volume *v, uint64_t chunk, struct bypass_chunk **ret)
{
    struct bypass_chunk *b;
    int r = mem_new(1, sizeof *b, &b);

    if (r < 0)
        return r;
    b->chunk = chunk;
    r = mem_new((v->g.chunk_blocks + 63) / 64, sizeof *b->written,
                &b->written);
    if (r < 0) {
        free(b);
        return r;
    }
    *ret = b;
    return 0;
}

static void
open_chunk(struct lsvd_volume *v, uint64_t chunk)
{
    uint64_t first = geometry_first_block(&v->g, chunk);
    struct bypass_chunk *b;
    struct lease lease;

    if (bypass_new(v, chunk, &b) < 0)
        return;
    lease_get(&v->leases, &lease, first, first + v->g.chunk_blocks,
              true); /* BY2 */
    if (bypass_is_open(v, chunk) || !is_unused(v, chunk) || !may_open(v) ||
        !open_leased(v, b))
        bypass_free(b);
    lease_put(&v->leases, &lease);
}

/* Ask for some to be closed, if all that may be open are, and wait. */
static void
await_slot(struct lsvd_volume *v)
{
    size_t most = chunks_max(v);

    for (unsigned ms = 0; v->threaded && is_healthy(v) && ms < SLOT_WAIT_MS &&
                          atomic_load(&v->bypass.count) >= most;
         ms += SLOT_LOOK_MS) {
        const struct bypass_chunk *b;

        pthread_mutex_lock(&v->state_lock);
        pthread_mutex_lock(&v->table_lock);
        b = v->bypass.first;
        for (size_t i = 0; b && b->next && i < most / 2; i++)
            b = b->next;
        if (b && v->bypass.asked < b->id)
            v->bypass.asked = b->id;
        pthread_mutex_unlock(&v->table_lock);
        if (b) {
            pthread_cond_signal(&v->work);
            wait_ms(&v->progress, &v->state_lock, SLOT_LOOK_MS);
        }
        pthread_mutex_unlock(&v->state_lock);
    }
}

void
bypass_prepare(struct lsvd_volume *v, uint64_t first, uint32_t count)
{
    uint64_t chunk = geometry_chunk_of(&v->g, first);

    if (!is_worth_it(v) || chunk * v->g.chunk_bytes > v->g.volume_bytes ||
        bypass_is_open(v, chunk) || !is_of_a_stream(v, first, count) ||
        !is_unused(v, chunk))
        return;
    await_slot(v);
    open_chunk(v, chunk);
}
