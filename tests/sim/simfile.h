/* simfile.h: the bytes of one simulated file: what a reader sees now, what is
 * on the medium, and the operations in between.
 *
 * (F1) now = medium + every pending operation in order, unless a sync failed
 *      (then `diverged`: now also shows bytes that the medium does not have,
 *      as a page cache does).
 * (F2) A cut applies any subset of the pieces of the pending operations to the
 *      medium, in order: of two kept pieces for one place the later one wins.
 * Pages are shared between maps and copied when written. */
#ifndef LSVD_SIM_SIMFILE_H
#define LSVD_SIM_SIMFILE_H

#include "prng.h"
#include <stddef.h>
#include <stdint.h>

#define SIM_PAGE_BYTES 4096u
#define SIM_SECTOR_BYTES 512u

struct sim_page {
    unsigned refs;
    uint8_t bytes[SIM_PAGE_BYTES];
};

struct sim_map {
    struct sim_page **page; /* NULL: hole */
    size_t count;           /* of the array; pages behind it are holes */
    uint64_t size_bytes;
};

enum sim_op_kind { SIM_WRITE, SIM_PUNCH, SIM_RESIZE };

struct sim_op {
    enum sim_op_kind kind;
    uint64_t serial;    /* place in the order of everything in this world */
    uint64_t at, bytes; /* RESIZE: bytes is the new size */
    uint8_t *data;      /* WRITE; owned */
};

struct sim_file {
    struct sim_map now, medium;
    struct sim_op *pending;
    size_t pending_count, pending_room;
    bool diverged;
};

/* How a power cut treats what was not synced. */
enum sim_keep {
    SIM_KEEP_NONE,
    SIM_KEEP_ALL,
    SIM_KEEP_PREFIX, /* what has a serial below the limit */
    SIM_KEEP_PIECES, /* each piece by itself, with a probability */
    SIM_KEEP_OPS,    /* each operation as a whole, with a probability */
    SIM_KEEP_KINDS,
};

struct sim_cut {
    struct prng *prng;
    enum sim_keep keep;
    uint64_t serial_limit;
    uint64_t keep_of_16;  /* probability in sixteenths */
    uint32_t piece_bytes; /* 512 or 4096 */
};

void sim_file_done(struct sim_file *f);
void sim_file_clone(const struct sim_file *from, struct sim_file *ret);

void sim_file_write(struct sim_file *f, uint64_t serial, uint64_t at,
                    const void *data, uint64_t bytes);
void sim_file_punch(struct sim_file *f, uint64_t serial, uint64_t at,
                    uint64_t bytes);
void sim_file_resize(struct sim_file *f, uint64_t serial, uint64_t bytes);
/* The range lies within the size (assert). */
void sim_file_read(const struct sim_file *f, uint64_t at, void *to,
                   uint64_t bytes);

/* All pending operations reach the medium. */
void sim_file_sync(struct sim_file *f);

/* A sync that failed: what was pending reaches the medium or is lost for good,
 * piece by piece, while readers still see it. */
void sim_file_sync_failed(struct sim_file *f, const struct sim_cut *cut);

/* The page cache forgets what it believes clean. */
void sim_file_drop_cache(struct sim_file *f);

void sim_file_power_cut(struct sim_file *f, const struct sim_cut *cut);

/* Whether an operation as a whole, or a piece of one, is kept. */
bool sim_cut_keeps(const struct sim_cut *cut, uint64_t serial);

uint64_t sim_map_allocated(const struct sim_map *map);

/* Change the medium and the view of it: bit rot. */
void sim_file_flip(struct sim_file *f, uint64_t at, uint8_t mask);

#endif
