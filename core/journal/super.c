/* super.c: make, open, close the journal; its superblock.
 *
 * Four copies in two pairs (journal.h). The pair that is in force is never
 * written: a cut leaves it, or the new one whole.
 * (U1) A superblock never says of a record that it is durable before it is.
 * (U2) The tail moves in memory after it has moved on disk.
 * (U3) A copy that can't be read may be the newest: its fellow stands for the
 *      pair then, and without that nothing does. An older superblock must not
 *      be believed because a newer one was not to be had just now.
 * (U4) What any copy of the same journal says of the past is true, also one
 *      that does not count: it was written after the sync. An older superblock
 *      would take the REDO records before the last advance for ones that count,
 *      but their bodies may be written over. Only the tail, and who the journal
 *      belongs to, are for the one that counts to say. */
#include "journal/state.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/seq.h"
#include "base/sum.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SEGMENTS_WANTED 256u
#define SEGMENT_BYTES_MIN 4096u
#define INDEX_MIN 64u
#define INDEX_DEFAULT_MIN 4096u
#define ZERO_WRITE_BYTES (1u << 20)

/* ---- sizes ---- */

/* What a ring of this size may index, whatever a configuration or a file
 * says: 1/512 of it, so that memory is bounded by the journal's size. */
static size_t
clamp_index_limit(uint64_t limit, uint64_t ring_bytes, uint32_t block_bytes)
{
    uint64_t most = ring_bytes / JOURNAL_ALIGN_BYTES;

    if (limit == 0)
        limit = ring_bytes / block_bytes > INDEX_DEFAULT_MIN
              ? ring_bytes / block_bytes : INDEX_DEFAULT_MIN;
    if (most < INDEX_DEFAULT_MIN)
        most = INDEX_DEFAULT_MIN;
    if (most > UINT32_MAX / 8)
        most = UINT32_MAX / 8;
    if (limit > most)
        limit = most;
    return (size_t)(limit > INDEX_MIN ? limit : INDEX_MIN);
}

/* For REDO records, their bodies included: an eighth, but room for a whole one
 * and the padding before it where that leaves half for writes. */
static uint64_t
redo_share(uint64_t bytes)
{
    uint64_t share = bytes / 8;
    uint64_t wanted = 2 * (JOURNAL_REDO_BYTES_MAX + SEGMENT_BYTES_MIN);

    if (share < wanted)
        share = wanted;
    return share < bytes / 2 ? share : bytes / 2;
}

/* Of a new journal. */
static uint64_t
area_for(uint64_t file_bytes)
{
    uint64_t share = redo_share(file_bytes - RING_OVERHEAD_BYTES);
    uint64_t most = (uint64_t)JOURNAL_REDO_RECORDS_MAX *
                    JOURNAL_REDO_BYTES_MAX;

    if (share > most)
        share = most;
    return share - share % JOURNAL_UNIT_BYTES;
}

/* Of the ring; with an area only for the headers. */
static uint64_t
reserve_for(uint64_t ring_bytes, uint64_t area_bytes)
{
    uint64_t least = 2 * JOURNAL_ALIGN_BYTES, reserve = ring_bytes / 64;

    if (area_bytes == 0)
        return redo_share(ring_bytes);
    reserve -= reserve % JOURNAL_ALIGN_BYTES;
    return reserve > least ? reserve : least;
}

size_t
journal_payload_max(const struct journal *j)
{
    uint64_t most = j->ring_bytes / 8;

    if (most > JOURNAL_RECORD_PAYLOAD_MAX)
        most = JOURNAL_RECORD_PAYLOAD_MAX;
    if (most > j->index_limit / 2 * j->block_bytes)
        most = j->index_limit / 2 * j->block_bytes;
    most -= most % j->block_bytes;
    return (size_t)(most > 0 ? most : j->block_bytes);
}

/* A record of the smallest kind fits even if the end of the ring must be
 * padded before it and the reserve and the tail's segment are not ours. */
static bool
ring_is_enough(uint64_t ring_bytes, uint64_t area_bytes, uint32_t block_bytes)
{
    return 3 * ((uint64_t)block_bytes + JOURNAL_ALIGN_BYTES) +
               SEGMENT_BYTES_MIN + reserve_for(ring_bytes, area_bytes) <=
           ring_bytes;
}

/* ---- the object in memory ---- */

int
journal_new(struct object *object, const char *directory, const char *name,
            const struct journal_super *s, size_t index_limit,
            struct journal **ret)
{
    struct journal *j;
    uint64_t ring_bytes = s->file_bytes - RING_OVERHEAD_BYTES - s->area_bytes;
    uint32_t block_bytes = s->identity.block_bytes;
    char path[PATH_TEXT_MAX];
    int r = mem_new(1, sizeof *j, &j);

    if (r < 0)
        return r;
    j->file_bytes = s->file_bytes;
    j->ring_bytes = ring_bytes;
    j->area_bytes = s->area_bytes;
    j->segment_bytes = round_up_512(ring_bytes / SEGMENTS_WANTED);
    if (j->segment_bytes < SEGMENT_BYTES_MIN)
        j->segment_bytes = SEGMENT_BYTES_MIN;
    j->segment_count = (uint32_t)((ring_bytes + j->segment_bytes - 1) /
                                  j->segment_bytes);
    j->reserve_bytes = reserve_for(ring_bytes, s->area_bytes);
    j->block_bytes = block_bytes;
    j->salt = s->salt;
    j->volume_blocks = VOLUME_BYTES_MAX / block_bytes;
    j->index_limit = clamp_index_limit(index_limit, ring_bytes, block_bytes);
    j->stored_index_limit = clamp_index_limit(s->index_limit, ring_bytes,
                                              block_bytes);
    j->tail = (struct journal_tail){
        .pos = s->tail_at - RING_AT,
        .chain = s->tail_chain,
        .seq = s->tail_seq,
    };
    j->head_pos = j->tail.pos;
    j->head_chain = j->tail.chain;
    j->last_seq = j->last_record_seq = j->written_seq = s->tail_seq - 1;
    j->durable_seq = s->durable_seq;
    j->identity = s->identity;
    j->counter = s->counter;
    j->redo_seq = s->redo_seq;
    j->failed_floor = UINT64_MAX;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    r = mem_dup(path, &j->path);
    if (r == 0)
        r = mem_new(j->segment_count, sizeof *j->segments, &j->segments);
    if (r == 0)
        r = index_init(&j->index, j->index_limit, j->segments);
    if (r < 0) {
        free(j->segments);
        free(j->path);
        free(j);
        return r;
    }
    for (uint32_t i = 0; i < j->segment_count; i++)
        j->segments[i].first_pos = UINT64_MAX;
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->written, NULL);
    j->object = object;
    *ret = j;
    return 0;
}

void
journal_close(struct journal *j)
{
    if (!j)
        return;
    assert(!j->oldest_unfinished && !j->syncing && !j->sync_waiters);
    pthread_cond_destroy(&j->written);
    pthread_mutex_destroy(&j->lock);
    object_close(j->object);
    index_done(&j->index);
    free(j->segments);
    free(j->bypass);
    free(j->path);
    free(j);
}

const struct journal_identity *
journal_identity(const struct journal *j)
{
    return &j->identity;
}

void
journal_set_chunk_blocks(struct journal *j, uint32_t chunk_blocks)
{
    assert(chunk_blocks > 0);
    assert(j->index.oldest == 0);
    j->index.chunk_blocks = chunk_blocks;
}

void
journal_set_volume_blocks(struct journal *j, uint64_t volume_blocks)
{
    assert(volume_blocks > 0);
    assert(volume_blocks <= VOLUME_BYTES_MAX / j->block_bytes);
    pthread_mutex_lock(&j->lock);
    j->volume_blocks = volume_blocks;
    pthread_mutex_unlock(&j->lock);
}

/* J7. Only there: whatever lies further behind would have to follow a record
 * that is yet to be written, by its sum. */
static int
wipe_cut_header(struct journal *j)
{
    static const uint8_t zeroes[JOURNAL_ALIGN_BYTES];
    int r = object_write(j->object, zeroes, sizeof zeroes,
                         file_at(j, j->head_pos));

    return r < 0 ? r : object_sync(j->object);
}

int
journal_start(struct journal *j, uint32_t epoch)
{
    int r = 0;

    assert(epoch <= SEQ_EPOCH_MAX);
    if (j->is_cut)
        r = wipe_cut_header(j);
    pthread_mutex_lock(&j->lock);
    assert(!j->started);
    j->started = true;
    if (r < 0)
        journal_fail_locked(j);
    if (seq_make(epoch, 0) >= j->last_seq) {
        j->last_seq = seq_make(epoch, 0);
    } else { /* the file says so: not our mistake */
        err_set(-EIO, "%s: holds sequence %" PRIu64 ", beyond epoch %" PRIu32,
                j->path, j->last_seq, epoch);
        journal_fail_locked(j);
    }
    r = j->failed ? journal_failed_error_locked(j) : 0;
    pthread_mutex_unlock(&j->lock);
    return r;
}

/* In an empty journal no REDO record is needed, and redo_seq is 0 until
 * something was done under its view. */
void
journal_vouch(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    assert(j->started);
    if (j->redo_seq == 0)
        j->redo_seq = j->last_seq + 1;
    pthread_mutex_unlock(&j->lock);
}

bool
journal_vouches(const struct journal *j)
{
    return j->redo_seq > 0;
}

/* ---- superblock ---- */

static int
write_pair(struct object *object, const struct journal_super *s)
{
    uint8_t bytes[SUPER_BYTES];
    unsigned pair = (unsigned)(s->counter % 2);
    int r = 0;

    journal_super_encode(s, bytes);
    for (unsigned copy = 2 * pair; r == 0 && copy < 2 * pair + 2; copy++)
        r = object_write(object, bytes, sizeof bytes,
                         super_at(s->file_bytes, copy));
    return r < 0 ? r : object_sync(object);
}

int
journal_store_super(struct journal *j,
                    const struct journal_identity *identity,
                    const struct journal_tail *tail, uint64_t redo_seq)
{
    struct journal_super s = {
        .identity = *identity,
        .counter = j->counter + 1,
        .file_bytes = j->file_bytes,
        .salt = j->salt,
        .tail_at = file_at(j, tail->pos),
        .tail_chain = tail->chain,
        .tail_seq = tail->seq,
        .redo_seq = redo_seq,
        .area_bytes = j->area_bytes,
        .index_limit = j->index_limit > j->stored_index_limit
                     ? j->index_limit : j->stored_index_limit,
    };
    int r;

    if (s.counter % 2 != j->next_pair)
        s.counter++; /* never the pair that is in force */
    s.identity.block_bytes = j->block_bytes;
    pthread_mutex_lock(&j->lock);
    s.durable_seq = j->durable_seq; /* U1 */
    r = j->failed ? journal_failed_error_locked(j) : 0;
    j->storing = r == 0;
    pthread_mutex_unlock(&j->lock);
    if (r < 0)
        return r;
    r = write_pair(j->object, &s);
    pthread_mutex_lock(&j->lock);
    j->storing = false;
    j->stores++;
    if (r < 0)
        journal_fail_locked(j);
    pthread_mutex_unlock(&j->lock);
    if (r < 0)
        return r;
    j->counter = s.counter;
    j->next_pair = 1 - (unsigned)(s.counter % 2);
    return 0;
}

int
journal_store_identity(struct journal *j,
                       const struct journal_identity *identity)
{
    struct journal_identity copy = *identity; /* it may be our own */
    int r;

    copy.block_bytes = j->block_bytes;
    r = journal_store_super(j, &copy, &j->tail, j->redo_seq);
    if (r == 0)
        j->identity = copy;
    return r;
}

/* The copies as they are on the medium, and which one counts. */
struct super_set {
    uint8_t bytes[4][SUPER_BYTES];
    struct journal_super super[4];
    bool valid[4];
    bool unread[4];         /* the medium refused */
    bool is_future;         /* one of them is of a later format */
    uint64_t counter_max;   /* of the valid ones */
};

static int
load_copies(struct object *object, uint64_t file_bytes, struct super_set *set)
{
    for (unsigned copy = 0; copy < 4; copy++) {
        uint64_t at = super_at(file_bytes, copy);
        int r = object_read(object, set->bytes[copy], SUPER_BYTES, at);

        if (r < 0) /* once more: it may pass */
            r = object_read(object, set->bytes[copy], SUPER_BYTES, at);
        set->unread[copy] = r < 0;
        if (r == -ENOMEM)
            return r;
        if (r < 0) /* one bad sector is what the other copies are for */
            continue;
        r = journal_super_decode(set->bytes[copy], &set->super[copy]);
        if (r == -EPROTO)
            set->is_future = true;
        /* in its own pair, or it is misdirected */
        set->valid[copy] = r == 0 &&
                           set->super[copy].file_bytes == file_bytes &&
                           set->super[copy].counter % 2 == copy / 2;
        if (set->valid[copy] && set->super[copy].counter > set->counter_max)
            set->counter_max = set->super[copy].counter;
    }
    /* U3 */
    for (unsigned copy = 0; copy < 4; copy += 2)
        if (set->unread[copy] && set->unread[copy + 1])
            return err_set(-EIO, "two copies of its superblock can't be read, "
                           "perhaps the newest");
    return 0;
}

/* The copy of the pair that begins here, if it stands in both, or in the only
 * one that can be read (U3); else -1. */
static int
copy_of_pair(const struct super_set *set, int copy)
{
    if (set->unread[copy + 1])
        return set->valid[copy] ? copy : -1;
    if (set->unread[copy])
        return set->valid[copy + 1] ? copy + 1 : -1;
    return set->valid[copy] && set->valid[copy + 1] &&
                   memcmp(set->bytes[copy], set->bytes[copy + 1],
                          SUPER_BYTES) == 0
               ? copy
               : -1;
}

/* The copy that counts, or -1. */
static int
choose_copy(const struct super_set *set)
{
    int best = -1;

    for (int pair = 0; pair < 4; pair += 2) {
        int copy = copy_of_pair(set, pair);

        if (copy >= 0 && (best < 0 || set->super[copy].counter >
                                          set->super[best].counter))
            best = copy;
    }
    if (best >= 0)
        return best;
    for (int copy = 0; copy < 4; copy++) {
        if (set->valid[copy] && (best < 0 || set->super[copy].counter >
                                             set->super[best].counter))
            best = copy;
    }
    return best;
}

/* U4. */
static void
learn_from_all(struct journal *j, const struct super_set *set)
{
    for (unsigned copy = 0; copy < 4; copy++) {
        const struct journal_super *s = &set->super[copy];

        if (!set->valid[copy] || s->salt != j->salt)
            continue;
        if (s->durable_seq > j->durable_seq)
            j->durable_seq = s->durable_seq;
        if (s->redo_seq > j->redo_seq)
            j->redo_seq = s->redo_seq;
    }
}

/* Open the object and take the lock. */
static int
open_locked(struct target *cache, const char *name, unsigned flags,
            struct object **ret, struct object_stat *ret_stat)
{
    struct object *object;
    int r = target_open(cache, name, OBJECT_WRITE | OBJECT_EAGER | flags,
                        &object);

    if (r < 0)
        return r;
    r = object_lock(object, 0, 0, true);
    if (r == 0)
        r = object_stat(object, ret_stat);
    if (r < 0) {
        object_close(object);
        return r;
    }
    *ret = object;
    return 0;
}

static int
load_super(struct object *object, const struct object_stat *st,
           struct super_set *set)
{
    int chosen, r;

    if (st->size_bytes < JOURNAL_FILE_BYTES_MIN ||
        st->size_bytes % JOURNAL_UNIT_BYTES != 0)
        return err_set(-EBADMSG, "a journal of %" PRIu64 " bytes was cut "
                       "short or never finished", st->size_bytes);
    r = load_copies(object, st->size_bytes, set);
    if (r < 0)
        return r;
    chosen = choose_copy(set);
    if (chosen >= 0)
        return chosen;
    if (set->is_future)
        return err_set(-EPROTO, "journal of a later format: needs a newer "
                       "lsvd");
    return err_set(-EBADMSG, "no superblock of the journal is valid");
}

int
journal_open(struct target *cache, const char *name, size_t index_limit,
             struct journal **ret)
{
    struct object_stat st;
    struct object *object;
    struct super_set *set = NULL;
    int chosen = 0, r;

    r = open_locked(cache, name, 0, &object, &st);
    if (r < 0)
        return r;
    /* What a process before this one could not sync may be in the page cache,
     * clean, and nowhere else: it must not be taken for what is on the medium,
     * whose other superblock is the next to be written over. */
    r = object_sync(object);
    object_drop_cache(object);
    if (r == 0)
        r = mem_new(1, sizeof *set, &set);
    if (r == 0)
        r = chosen = load_super(object, &st, set);
    if (r >= 0)
        r = journal_new(object, cache->path, name, &set->super[chosen],
                        index_limit, ret);
    if (r == 0) {
        (*ret)->counter = set->counter_max;
        (*ret)->next_pair = 1 - (unsigned)chosen / 2;
        learn_from_all(*ret, set);
    } else {
        r = err_wrap(r, "%s/%s", cache->path, name);
        object_close(object);
    }
    free(set);
    return r;
}

/* ---- create ---- */

int
journal_write_zeroes(struct object *object, uint64_t at, uint64_t bytes)
{
    uint64_t end = at + bytes;
    uint8_t *zeroes;
    int r = mem_new_aligned(ZERO_WRITE_BYTES, &zeroes);

    if (r < 0)
        return r;
    memset(zeroes, 0, ZERO_WRITE_BYTES);
    for (; r == 0 && at < end; at += ZERO_WRITE_BYTES) {
        uint64_t left = end - at;

        r = object_write(object, zeroes, (size_t)(left < ZERO_WRITE_BYTES
                                                  ? left : ZERO_WRITE_BYTES),
                         at);
    }
    free(zeroes);
    return r;
}

/* Is it a finished journal of this size already, all of it allocated? Then
 * its superblock is in *set, and its records need not be wiped: the new salt
 * disowns them. */
static bool
can_take_over(struct object *object, const struct object_stat *st,
              uint64_t bytes, struct super_set *set)
{
    return st->size_bytes == bytes && st->allocated_bytes >= bytes &&
           load_super(object, st, set) >= 0;
}

static int
prepare_file(struct object *object, const struct object_stat *st,
             uint64_t bytes, bool take_over)
{
    uint8_t head[SUPER_BYTES] = { 0 };
    int r = 0;

    if (take_over)
        return object_write(object, head, sizeof head, RING_AT);
    if (st->size_bytes != bytes)
        r = object_resize(object, bytes);
    if (r == 0)
        r = object_allocate(object, 0, bytes);
    if (r == -EOPNOTSUPP) /* then the zeroes allocate */
        r = 0;
    if (r == 0)
        r = journal_write_zeroes(object, 0, bytes);
    return r < 0 ? r : object_sync(object);
}

/* No two journals of a volume have the same: their UUIDs differ, and a reset
 * of one counts on from its last superblock. */
static uint64_t
make_salt(const struct journal_identity *identity, uint64_t old_salt,
          uint64_t old_counter)
{
    uint8_t bytes[48];

    memcpy(bytes, identity->volume.b, 16);
    memcpy(bytes + 16, identity->journal.b, 16);
    put_le64(bytes + 32, old_salt);
    put_le64(bytes + 40, old_counter);
    return sum_bytes(bytes, sizeof bytes);
}

static uint64_t
newest_salt(const struct super_set *set)
{
    uint64_t salt = 0;

    for (unsigned copy = 0; copy < 4; copy++) {
        if (set->valid[copy] &&
            set->super[copy].counter == set->counter_max)
            salt = set->super[copy].salt;
    }
    return salt;
}

static int
create_in(struct target *cache, const char *name, struct object *object,
          const struct object_stat *st, struct super_set *set,
          struct journal_super *s)
{
    bool take_over = can_take_over(object, st, s->file_bytes, set);
    uint64_t counter = take_over ? set->counter_max : 1;
    unsigned in_force = take_over ? (unsigned)choose_copy(set) / 2 : 1;
    int r;

    s->salt = make_salt(&s->identity, take_over ? newest_salt(set) : 0,
                        counter);
    s->tail_chain = s->salt;
    r = prepare_file(object, st, s->file_bytes, take_over);
    if (r < 0)
        return err_wrap(r, "%s/%s", cache->path, name);
    /* First the pair that is not in force, then the other. */
    s->counter = counter + 1;
    if (s->counter % 2 == in_force)
        s->counter++;
    r = write_pair(object, s);
    s->counter++;
    if (r == 0)
        r = write_pair(object, s);
    return r < 0 ? r : target_sync(cache);
}

int
journal_create(struct target *cache, const char *name, uint64_t bytes,
               const struct journal_identity *identity, size_t index_limit,
               bool has_area, struct journal **ret)
{
    uint64_t ring_bytes;
    struct journal_super s = {
        .identity = *identity,
        .file_bytes = bytes - bytes % JOURNAL_UNIT_BYTES,
        .tail_at = RING_AT,
        .tail_seq = 1,
    };
    struct super_set *set;
    struct object_stat st;
    struct object *object;
    int r;

    if (s.file_bytes < JOURNAL_FILE_BYTES_MIN)
        return err_set(-EINVAL, "%s/%s: a journal needs %u bytes",
                       cache->path, name, JOURNAL_FILE_BYTES_MIN);
    s.area_bytes = has_area ? area_for(s.file_bytes) : 0;
    ring_bytes = s.file_bytes - RING_OVERHEAD_BYTES - s.area_bytes;
    if (!ring_is_enough(ring_bytes, s.area_bytes, identity->block_bytes))
        return err_set(-EINVAL, "%s/%s: %" PRIu64 " bytes are too few for a "
                       "journal of blocks of %u bytes", cache->path, name,
                       bytes, identity->block_bytes);
    s.index_limit = clamp_index_limit(index_limit, ring_bytes,
                                      identity->block_bytes);
    r = open_locked(cache, name, OBJECT_CREATE, &object, &st);
    if (r < 0)
        return r;
    r = mem_new(1, sizeof *set, &set);
    if (r == 0) {
        r = create_in(cache, name, object, &st, set, &s);
        if (r == 0)
            r = journal_new(object, cache->path, name, &s, index_limit, ret);
        free(set);
    }
    if (r < 0) {
        object_close(object);
        return r;
    }
    (*ret)->next_pair = 1 - (unsigned)(s.counter % 2);
    return 0;
}
