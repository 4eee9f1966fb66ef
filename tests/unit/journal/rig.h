/* rig.h: a journal over a file in memory that can be cut, a stand-in for the
 * parts, and a model of what a block may hold.
 *
 * Every write has its own number; a block's content is made from its place and
 * that number, so that content read tells which write it was. Number 0 is
 * zeroes. */
#ifndef LSVD_TESTS_JOURNAL_RIG_H
#define LSVD_TESTS_JOURNAL_RIG_H

#include "journal/journal.h"

#include <pthread.h>

#define RIG_NAME "v.journal"
#define RIG_VALUES_MAX 64

/* One object in memory: what the process sees, and what the medium has. A
 * sector that differs is not yet synced. */
struct cut_target {
    struct target base;
    pthread_mutex_t lock;
    uint8_t *now, *medium;
    uint64_t bytes;
    uint64_t random;      /* state */
    long calls_left;      /* writes and syncs until all fail; < 0: never */
    bool exists;
    uint64_t writes, syncs;
    uint64_t bad_at[4];   /* - 1: reads from there are -EIO; 0: none */
    /* The call after gate_after others (< 0: none) stops at the gate until it
     * is opened: a write before it is done, a sync after it. */
    pthread_cond_t gate_moved;
    long gate_after;
    bool at_gate, gate_open;
};

void cut_target_init(struct cut_target *t, uint64_t seed);
void cut_target_done(struct cut_target *t);
/* Power cut: each sector that was not synced is old or new, by chance. */
void cut_target_cut(struct cut_target *t);
/* … all are old but those of the superblocks, which are new. */
void cut_target_cut_records(struct cut_target *t);
/* The next call but `after` is to stop; wait until it does; let it go. */
void cut_target_set_gate(struct cut_target *t, long after);
void cut_target_wait_gate(struct cut_target *t);
void cut_target_open_gate(struct cut_target *t);
uint64_t next_random(uint64_t *state);

struct rig {
    struct cut_target cut;   /* unless another target is given */
    struct target *target;
    struct journal *j;
    uint32_t block_bytes, chunk_blocks;
    uint64_t blocks, chunks;
    uint32_t epoch;
    uint64_t file_bytes;
    size_t index_limit;
    uint64_t next_number;    /* of the next write */
    /* What each block may be: the value at the last flush, and those since. */
    struct { uint64_t value[RIG_VALUES_MAX]; unsigned count; } *may;
    uint64_t *parts;         /* numbers, as destaged */
    bool *present;           /* chunk has something in parts */
    struct replay_stats stats;
    uint64_t redo_seen[64];
    size_t redo_bytes[64];
    unsigned redo_count;
};

void rig_init(struct rig *rig, struct target *target, uint32_t block_bytes,
              uint32_t chunk_blocks, uint64_t blocks, uint64_t file_bytes,
              size_t index_limit);
/* A journal without an area, in memory. */
void rig_init_without_area(struct rig *rig, uint32_t block_bytes,
                           uint32_t chunk_blocks, uint64_t blocks,
                           uint64_t file_bytes, size_t index_limit);
/* Where its area begins, or would. */
uint64_t rig_area_at(struct rig *rig);
void rig_done(struct rig *rig);

uint64_t rig_seed(void *ctx, uint64_t block);
bool rig_present(void *ctx, uint64_t chunk);
void rig_fill(const struct rig *rig, uint64_t block, uint64_t number,
              uint8_t *to);

/* Open and replay; what replay returned. The journal is closed first, as a
 * kill would. On success it is started with the next epoch. */
int rig_reopen(struct rig *rig);

/* As the journal's; the model follows. */
int rig_write(struct rig *rig, uint64_t first, uint32_t count);
int rig_zero(struct rig *rig, uint64_t first, uint64_t count);
int rig_sync(struct rig *rig);
/* A REDO record; a replay checks that it is this one. */
int rig_try_redo(struct rig *rig, size_t bytes);
void rig_redo(struct rig *rig, size_t bytes);

/* Sync, move the oldest chunks to the parts, forget; *ret_done of them. */
int rig_destage(struct rig *rig, size_t max, size_t *ret_done);
int rig_advance(struct rig *rig);

/* What the volume would read now. Fails the test if it can't be read. */
uint64_t rig_read(struct rig *rig, uint64_t block);

/* Every block is what was written last. */
void rig_check(struct rig *rig);
/* After a cut: every block is one of the values it may be, and from now on
 * only that. */
void rig_adopt(struct rig *rig);

#endif
