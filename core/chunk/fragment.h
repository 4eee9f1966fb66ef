/* fragment.h: one part's file of one chunk: header, table, data.
 *
 * (C1) The header names volume, instance, part, chunk and fragment; a file
 *      that says anything else is not this fragment (misdirected, swapped).
 * (C2) The header holds the sequence of the last destage that touched the
 *      chunk and the sum of the whole table. A header older than the chunk
 *      table's entry is a stale file.
 * (C3) What identifies and dates the fragment lies in the first 512 bytes, so
 *      a torn write leaves the old header or the new one.
 * (C4) The table may be torn by a cut (table sum wrong): then the fragment is
 *      "doubtful": each entry counts only if the cell's bytes match it, and
 *      an entry that says zero only if the bytes are zero.
 *      fragment_store_meta declares the table in memory to be the truth, so
 *      whoever stores a doubtful fragment has read all its cells before, and
 *      set the entries of the bad ones.
 * (C5) Nothing here reads or repairs another part; nothing here syncs unless
 *      told to.
 * A struct fragment is used by one thread at a time, except that cells may be
 * read by any number (volume/ holds the chunk's lease). */
#ifndef LSVD_CHUNK_FRAGMENT_H
#define LSVD_CHUNK_FRAGMENT_H

#include "base/uuid.h"
#include "chunk/geometry.h"
#include "target/guard.h"
#include "target/target.h"

struct fragment_id {
    struct uuid volume, instance;
    uint64_t chunk;
    uint32_t fragment; /* = part slot */
};

struct cell_entry {
    uint64_t sum; /* 0: zeroes */
    uint64_t seq;
};

struct fragment {
    const struct geometry *geometry; /* borrowed */
    struct fragment_id id;
    struct object *object; /* owned */
    uint64_t seq;          /* of the header */
    bool doubtful;         /* C4 */
    bool writable;         /* its object is */
    bool fresh;            /* made by this open: not yet on disk */
    uint8_t *table;        /* table_bytes, as on disk; owned */
    uint64_t *dirty_pages; /* bit per 4 KiB of table not yet written; owned */
};

/* File name of a chunk's fragment: decimal chunk number. text: 24 bytes. */
void fragment_name(uint64_t chunk, char *text);

/* Open and judge an existing file. -ENOENT: no file. -EBADMSG: wrong size,
 * damaged or foreign header (text says which). -EPROTO: not a plain file, or
 * a format of the future. */
int fragment_open(struct target *part, const struct geometry *g,
                  const struct fragment_id *id, bool writable,
                  struct fragment **ret);
/* There is no file that could be opened at another time: an error of
 * fragment_open that says so. */
bool fragment_is_none(int r);

/* Make the file name (or take over an existing one, whose content is lost:
 * for the caller's ".new" names and for chunks the table says are holes),
 * with its full size, sparse, all entries zero. The header is not on disk
 * before fragment_store_meta. */
int fragment_create(struct target *part, const char *name,
                    const struct geometry *g, const struct fragment_id *id,
                    struct fragment **ret);

void fragment_close(struct fragment *f); /* NULL is fine */

/* Bytes of memory it holds; for bounding caches of them. */
size_t fragment_memory(const struct fragment *f);

struct cell_entry fragment_entry(const struct fragment *f, uint32_t row);

/* Parity: the sum of data cell i that the parity of row was computed from. */
uint64_t fragment_stripe_sum(const struct fragment *f, uint32_t row,
                             uint32_t i);

/* Change the entry in memory. stripe_sums: K values for a parity fragment,
 * NULL for a data fragment. */
void fragment_set_entry(struct fragment *f, uint32_t row,
                        struct cell_entry entry, const uint64_t *stripe_sums);

/* Read and verify `count` cells from `row` on into iov (whose total length is
 * count * block_bytes, any number of pieces, each a multiple of the block
 * size). Cells whose entry says zero are filled with zeroes without a read.
 * bad: count bools, set true for each cell that failed its check or that the
 * medium refused (after -EIO each cell is asked for by itself); what iov then
 * holds for it is undefined. Returns 0 also when some are bad; -EIO when the
 * medium gave none of the cells, -ETIMEDOUT when it does not answer, -ENOMEM
 * (all are then marked bad). */
int fragment_read(struct fragment *f, uint32_t row, uint32_t count,
                  const struct iovec *iov, int iov_count, bool *bad);
/* The same, but what an entry says is zero is read, too, unless it is a hole,
 * and bad if it is not zero. */
int fragment_read_all(struct fragment *f, uint32_t row, uint32_t count,
                      const struct iovec *iov, int iov_count, bool *bad);

/* The same in two steps, so that fragments on several parts can be read side by
 * side; each that is begun is ended. With a cell that reads as zeroes by its
 * entry all is read at the end. f, iov and bad are borrowed until then.
 * patience_ns, if not 0: no read of the medium is waited for any longer,
 * -EAGAIN then, and all are marked bad. */
struct fragment_read {
    struct fragment *f;
    uint32_t row, count;
    const struct iovec *iov;
    int iov_count;
    uint64_t patience_ns;
    bool *bad;
    bool all;   /* cells, also those whose entry says zero */
    bool begun; /* one read gives them all; else they are read at the end */
    struct guard_read read;
};
void fragment_read_begin(struct fragment *f, uint32_t row, uint32_t count,
                         const struct iovec *iov, int iov_count,
                         uint64_t patience_ns, bool *bad,
                         struct fragment_read *ret);
int fragment_read_end(struct fragment_read *read);

/* Put bytes in place, unverified: count cells from row on. Entries are the
 * caller's (fragment_set_entry). */
int fragment_write(struct fragment *f, uint32_t row, uint32_t count,
                   const struct iovec *iov, int iov_count);

/* The same for many runs of cells, in any order; at most FRAGMENT_RUNS_MAX. */
struct fragment_run {
    uint32_t row, count;
    uint8_t *cells; /* one behind the other */
};
#define FRAGMENT_RUNS_MAX 256
int fragment_write_runs(struct fragment *f, const struct fragment_run *run,
                        int count);

/* Neighbouring cells of which the bytes stay where they are, on several parts
 * side by side (guard_write_begin): from row on, as many as iov has. */
void fragment_put_begin(struct fragment *f, uint32_t row,
                        struct shared *bytes, const struct iovec *iov,
                        int count, struct guard_write *ret);
/* Give the cells' space back. */
int fragment_punch(struct fragment *f, uint32_t row, uint32_t count);

/* Write the dirty table pages and the header with this sequence and the new
 * table sum; no sync. Clears doubtful (see C4). On error the pages stay
 * dirty. */
int fragment_store_meta(struct fragment *f, uint64_t seq);

/* Until what was written to it is in the file, where a kill of this process
 * does not reach it (guard.h, G4); an error of any of that. */
int fragment_await(struct fragment *f);
int fragment_sync(struct fragment *f);
/* What of it is cached may go: it is not read soon, or read from the part. */
void fragment_drop_cache(struct fragment *f);
/* It will be synced soon. */
void fragment_start_sync(struct fragment *f);

/* Seed for the sum of a cell of this fragment. */
uint64_t fragment_cell_seed(const struct geometry *g,
                            const struct fragment_id *id, uint32_t row);

/* The sum of a cell, never 0. Parity: it covers the K stripe sums too, so that
 * they count in a doubtful table (C4) only together with the bytes; parity
 * whose entry says zero has stripe sums that are all zero. Data: NULL. */
uint64_t fragment_sum_cell(const struct geometry *g,
                           const struct fragment_id *id, uint32_t row,
                           const uint64_t *stripe_sums, const void *bytes);

/* For the fuzzer and for tools: judge the 4 KiB of a header alone. */
struct fragment_header {
    uint64_t incompat, ro_compat, compat;
    struct fragment_id id;
    uint32_t block_bytes, chunk_bytes, data_count, parity_count;
    uint64_t seq, table_sum;
};
int fragment_header_decode(const uint8_t *bytes, struct fragment_header *ret);
void fragment_header_encode(const struct fragment_header *h, uint8_t *bytes);

#endif
