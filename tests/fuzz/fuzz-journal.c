/* fuzz-journal.c: a journal's file: superblocks, then the ring.
 *
 * Input: a byte of flags, a superblock copy (put in all four places, its
 * fields that place things corrected if asked), the ring. Records are followed
 * as replay would follow them and their salts, places, chains and sums
 * corrected, so that what is left to lie are the fields that replay must
 * judge. Whatever replay accepts must lie within the volume, and must work as
 * a journal. */
#include "base/bytes.h"
#include "base/err.h"
#include "base/seq.h"
#include "base/sum.h"
#include "fuzz.h"
#include "journal/journal_format.h"
#include "memory-target.h"
#include <stdlib.h>
#include <string.h>

#define NAME "f.journal"
#define FILE_BYTES 65536u
#define RING_BYTES (FILE_BYTES - RING_OVERHEAD_BYTES) /* with the area */
#define BLOCK_BYTES 512u
#define CHUNK_BLOCKS 8u
#define VOLUME_BLOCKS 500u
#define CHUNKS ((VOLUME_BLOCKS + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS)
#define SALT UINT64_C(0x5a17)

enum {
    FIX_SUPER = 1,    /* its sum */
    PIN_SUPER = 2,    /* sizes, salt, tail: that of an ordinary journal */
    FIX_RECORDS = 4,  /* salt, place, chain, sum of each */
    FIX_PAYLOADS = 8, /* sums of the blocks and of redo bodies */
    FIX_ORDER = 16,   /* seq grows, durable is below it */
};

static uint64_t
seed_of(void *ctx, uint64_t block)
{
    (void)ctx;
    FUZZ_CHECK(block < VOLUME_BLOCKS);
    return block * 3 + 1;
}

static bool
is_present(void *ctx, uint64_t chunk)
{
    (void)ctx;
    FUZZ_CHECK(chunk < CHUNKS);
    return chunk % 3 != 0;
}

struct seen {
    uint64_t last_redo;
    uint64_t redo_bytes;
};

static int
see_redo(void *ctx, uint64_t seq, const uint8_t *body, size_t bytes)
{
    struct seen *seen = ctx;

    FUZZ_CHECK(seq > seen->last_redo);
    FUZZ_CHECK(bytes > 0 && bytes <= RING_BYTES);
    (void)sum_bytes(body, bytes); /* all of it may be read */
    seen->last_redo = seq;
    seen->redo_bytes += bytes;
    FUZZ_CHECK(seen->redo_bytes <= RING_BYTES);
    return 0;
}

static void
pin_super(uint8_t *super)
{
    put_le32(super + 20, BLOCK_BYTES);
    put_le64(super + 24, get_le64(super + 24) & 1); /* an area, or none */
    put_le32(super + 156, RING_BYTES / 2 / JOURNAL_UNIT_BYTES);
    put_le64(super + 80, 4);
    put_le64(super + 88, FILE_BYTES);
    put_le64(super + 96, SALT);
    put_le64(super + 104, RING_AT);
    put_le64(super + 112, SALT);
    put_le64(super + 120, 1);
}

static uint64_t
area_of(const uint8_t *super)
{
    uint64_t bytes = (uint64_t)get_le32(super + 156) * JOURNAL_UNIT_BYTES;

    return get_le64(super + 24) == 1 && bytes < RING_BYTES ? bytes : 0;
}

/* Correct the sum of a REDO's body in the area, if it is there. */
static void
fix_body(const uint8_t *ring, uint8_t *header)
{
    uint64_t at = get_le64(header + 64) - RING_AT;
    uint64_t bytes = get_le64(header + 80);

    if (at < RING_BYTES && bytes <= RING_BYTES - at)
        put_le64(header + 88, sum_bytes(ring + at, (size_t)bytes));
}

/* Correct the sums of a WRITE's blocks or of a REDO's body, if they are in
 * the ring. */
static void
fix_payload(uint8_t *header, uint8_t *end)
{
    uint32_t type = get_le32(header + 56);
    uint32_t header_bytes = get_le32(header + 60);
    uint64_t first = get_le64(header + 64), count = get_le64(header + 72);
    uint64_t bytes = get_le64(header + 80);
    uint8_t *payload = header + header_bytes;

    if (bytes > (uint64_t)(end - payload))
        return;
    if (type == RECORD_REDO)
        put_le64(header + 88, sum_bytes(payload, (size_t)bytes));
    if (type != RECORD_WRITE || count > bytes / BLOCK_BYTES ||
        count > (header_bytes - RECORD_FIXED_BYTES) / 8 ||
        first > VOLUME_BLOCKS || count > VOLUME_BLOCKS - first)
        return;
    for (uint32_t i = 0; i < count; i++)
        record_sum_put(header, i,
                       sum_block(seed_of(NULL, first + i),
                                 payload + (size_t)i * BLOCK_BYTES,
                                 BLOCK_BYTES));
}

/* Walk the ring and make each record fit behind the one before. */
static void
fix_records(uint8_t *ring, uint8_t flags, uint64_t salt, uint64_t chain,
            uint64_t ring_bytes)
{
    uint64_t at = 0, seq = 0, total;

    while (ring_bytes - at >= JOURNAL_ALIGN_BYTES) {
        uint8_t *header = ring + at;
        uint32_t header_bytes = get_le32(header + 60);
        bool apart = get_le32(header + 56) == RECORD_REDO_APART;
        uint64_t payload = apart ? 0 : get_le64(header + 80);

        if (header_bytes < JOURNAL_ALIGN_BYTES ||
            header_bytes > RECORD_HEADER_BYTES_MAX ||
            header_bytes > ring_bytes - at)
            return;
        memcpy(header, "LSVDJREC", 8);
        put_le64(header + 16, salt);
        put_le64(header + 32, chain);
        put_le64(header + 48, RING_AT + at);
        if (flags & FIX_ORDER) {
            put_le64(header + 24, ++seq);
            put_le64(header + 40, get_le64(header + 40) % seq);
        }
        if (flags & FIX_PAYLOADS && apart)
            fix_body(ring, header);
        else if (flags & FIX_PAYLOADS)
            fix_payload(header, ring + ring_bytes);
        chain = sum_bytes(header + 16, header_bytes - 16);
        put_le64(header + 8, chain);
        if (payload > ring_bytes)
            return;
        total = header_bytes + round_up_512(payload);
        if (total > ring_bytes - at)
            return;
        at += total;
    }
}

static void
load(struct memory_file *file, const uint8_t *data, size_t size)
{
    uint8_t super[SUPER_BYTES] = { 0 };
    uint8_t flags = data[0];
    size_t super_bytes = size - 1 < sizeof super ? size - 1 : sizeof super;
    size_t ring_bytes = size - 1 - super_bytes;
    uint64_t salt;

    if (ring_bytes > RING_BYTES)
        ring_bytes = RING_BYTES;
    memcpy(super, data + 1, super_bytes);
    memcpy(file->bytes + RING_AT, data + 1 + super_bytes, ring_bytes);
    if (flags & PIN_SUPER)
        pin_super(super);
    if (flags & FIX_SUPER)
        put_le64(super + 8, sum_bytes(super + 16, sizeof super - 16));
    for (unsigned copy = 0; copy < 4; copy++)
        memcpy(file->bytes + super_at(FILE_BYTES, copy), super,
               sizeof super);
    salt = get_le64(super + 96);
    if (flags & FIX_RECORDS)
        fix_records(file->bytes + RING_AT, flags, salt,
                    get_le64(super + 112), RING_BYTES - area_of(super));
}

/* Every entry is within the volume and its payload within the ring; destage
 * empties it all. */
static void
check_index(struct journal *j)
{
    struct journal_block blocks[CHUNK_BLOCKS];
    uint64_t ckpt[PARTS_MAX] = { 0 };
    uint64_t chunk, zero_seq;
    struct journal_space space;
    uint8_t content[BLOCK_BYTES];
    size_t total, count;
    unsigned rounds = 0;

    while (journal_oldest_chunks(j, &chunk, 1) == 1) {
        FUZZ_CHECK(chunk < CHUNKS);
        FUZZ_CHECK(rounds++ < CHUNKS);
        count = journal_chunk_blocks(j, chunk, blocks, CHUNK_BLOCKS, &total,
                                     &zero_seq);
        FUZZ_CHECK(count == total);
        for (size_t i = 0; i < count; i++) {
            FUZZ_CHECK(blocks[i].block < VOLUME_BLOCKS);
            FUZZ_CHECK(blocks[i].block / CHUNK_BLOCKS == chunk);
            if (blocks[i].sum == 0)
                continue;
            FUZZ_CHECK(blocks[i].at >= RING_AT);
            FUZZ_CHECK(blocks[i].at + BLOCK_BYTES <= FILE_BYTES - RING_AT);
            FUZZ_CHECK(journal_read(j, blocks[i].block,
                                    seed_of(NULL, blocks[i].block),
                                    content) == 1);
        }
        journal_forget(j, chunk, blocks, count, zero_seq);
    }
    FUZZ_CHECK(journal_advance(j, ckpt) == 0);
    journal_space(j, &space);
    FUZZ_CHECK(space.used_bytes == 0 && space.live_blocks == 0);
}

/* What was replayed goes on as a journal, and is replayed again. */
static void
check_append(struct journal *j)
{
    uint8_t data[BLOCK_BYTES], have;
    uint64_t sum;

    memset(data, 7, sizeof data);
    sum = sum_block(seed_of(NULL, 9), data, sizeof data);
    FUZZ_CHECK(journal_append_write(j, 9, 1, &sum, data) == 0);
    FUZZ_CHECK(journal_append_zero(j, 10, 30, is_present, NULL) == 0);
    FUZZ_CHECK(journal_sync(j) == 0);
    journal_lookup(j, 9, 1, &have);
    FUZZ_CHECK(have == 1);
}

static int
open_and_replay(struct memory_target *t, struct journal **ret,
                struct replay_stats *stats)
{
    struct seen seen = { 0 };
    struct replay_callbacks cb = {
        .present = is_present,
        .redo = see_redo,
        .seed = seed_of,
        .ctx = &seen,
    };
    int r = journal_open(&t->base, NAME, 64, ret);

    if (r < 0)
        return r;
    if (journal_identity(*ret)->block_bytes != BLOCK_BYTES) {
        journal_close(*ret); /* as volume/ would */
        return -EPROTO;
    }
    journal_set_chunk_blocks(*ret, CHUNK_BLOCKS);
    journal_set_volume_blocks(*ret, VOLUME_BLOCKS);
    r = journal_replay(*ret, &cb, stats);
    if (r < 0)
        journal_close(*ret);
    return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct replay_stats stats;
    struct memory_target t;
    struct journal *j;

    if (size < 1)
        return 0;
    memory_target_init(&t);
    load(memory_target_file(&t, NAME, FILE_BYTES), data, size);
    if (open_and_replay(&t, &j, &stats) == 0) {
        uint32_t epoch = seq_epoch(stats.max_seq);
        int r;

        FUZZ_CHECK(stats.records * JOURNAL_ALIGN_BYTES <= RING_BYTES);
        FUZZ_CHECK(stats.bytes <= RING_BYTES);
        FUZZ_CHECK(t.reads < 16);
        check_index(j);
        r = journal_start(j, epoch < SEQ_EPOCH_MAX ? epoch + 1 : epoch);
        FUZZ_CHECK((r == 0) == (epoch < SEQ_EPOCH_MAX));
        if (r == 0) {
            check_append(j);
            journal_close(j);
            FUZZ_CHECK(open_and_replay(&t, &j, &stats) == 0);
            FUZZ_CHECK(stats.records >= 1 && !stats.torn_tail);
        }
        journal_close(j);
    }
    memory_target_done(&t);
    return 0;
}

/* ---- seeds ---- */

static void
append_some(struct journal *j)
{
    uint8_t data[3 * BLOCK_BYTES], body[700];
    uint64_t sums[3];

    memset(data, 9, sizeof data);
    memset(body, 8, sizeof body);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3; i++)
            sums[i] = sum_block(seed_of(NULL, 20 * round + i),
                                data + i * BLOCK_BYTES, BLOCK_BYTES);
        FUZZ_CHECK(journal_append_write(j, 20 * round, 3, sums, data) == 0);
        FUZZ_CHECK(journal_append_zero(j, 20 * round + 1, 40, is_present,
                                       NULL) == 0);
        FUZZ_CHECK(journal_append_redo(j, body, sizeof body) == 0);
        if (round == 1)
            FUZZ_CHECK(journal_sync(j) == 0);
    }
}

/* Until the ring has begun anew; the tail is then somewhere in its middle. */
static void
append_a_lap(struct journal *j)
{
    struct journal_block blocks[CHUNK_BLOCKS];
    uint64_t ckpt[PARTS_MAX] = { 0 }, chunk, zero_seq;
    uint8_t data[5 * BLOCK_BYTES];
    struct journal_space space;
    uint64_t sums[5];
    size_t total, count;

    memset(data, 6, sizeof data);
    for (uint64_t first = 0;; first = (first + 7) % (VOLUME_BLOCKS - 5)) {
        for (unsigned i = 0; i < 5; i++)
            sums[i] = sum_block(seed_of(NULL, first + i),
                                data + i * BLOCK_BYTES, BLOCK_BYTES);
        FUZZ_CHECK(journal_append_write(j, first, 5, sums, data) == 0);
        journal_space(j, &space);
        if (space.appended_bytes > RING_BYTES + 3000)
            return;
        while (space.dirty_chunks > 4 &&
               journal_oldest_chunks(j, &chunk, 1) == 1) {
            count = journal_chunk_blocks(j, chunk, blocks, CHUNK_BLOCKS,
                                         &total, &zero_seq);
            journal_forget(j, chunk, blocks, count, zero_seq);
            journal_space(j, &space);
        }
        FUZZ_CHECK(journal_advance(j, ckpt) == 0);
    }
}

size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    static const struct { uint8_t flags; bool is_lap; } seeds[] = {
        { 0, false },
        { FIX_SUPER, false },
        { FIX_SUPER | FIX_RECORDS, false },
        { FIX_SUPER | PIN_SUPER | FIX_RECORDS, false },
        { FIX_SUPER | PIN_SUPER | FIX_RECORDS | FIX_PAYLOADS, false },
        { FIX_SUPER | PIN_SUPER | FIX_RECORDS | FIX_ORDER, false },
        { FIX_SUPER | PIN_SUPER | FIX_RECORDS | FIX_PAYLOADS | FIX_ORDER,
          false },
        { 0, true },
        { FIX_SUPER, true },
    };
    struct journal_identity identity = { .block_bytes = BLOCK_BYTES };
    struct memory_file *file;
    struct memory_target t;
    struct journal *j;

    if (idx >= sizeof seeds / sizeof *seeds)
        return 0;
    FUZZ_CHECK(1 + SUPER_BYTES + RING_BYTES <= room);
    memory_target_init(&t);
    FUZZ_CHECK(journal_create(&t.base, NAME, FILE_BYTES, &identity, 64,
                              true, &j) == 0);
    journal_set_chunk_blocks(j, CHUNK_BLOCKS);
    journal_set_volume_blocks(j, VOLUME_BLOCKS);
    FUZZ_CHECK(journal_start(j, 0) == 0);
    if (seeds[idx].is_lap)
        append_a_lap(j);
    else
        append_some(j);
    journal_close(j);
    file = memory_target_find(&t, NAME);
    to[0] = seeds[idx].flags;
    /* the newer pair */
    memcpy(to + 1, file->bytes + (get_le64(file->bytes + 80) <
                                  get_le64(file->bytes + SUPER_BYTES + 80)
                                  ? SUPER_BYTES : 0), SUPER_BYTES);
    memcpy(to + 1 + SUPER_BYTES, file->bytes + RING_AT, RING_BYTES);
    memory_target_done(&t);
    return 1 + SUPER_BYTES + RING_BYTES;
}
