/* chunk_table.h: per part, 16 bytes a chunk: the sequence of its last
 * checkpointed change, and whether it is present, a hole, or bad.
 *
 * Object ".chunks": pages of 4 KiB, each in two slots at (page * 2 + slot) *
 * 4096, written alternately: always the slot that does not hold the newest
 * valid copy (so not derived from the generation, which other pages raise
 * too). A page has a header of 32 bytes (magic, page number, table generation
 * when written, own checksum), then 254 entries of 16 bytes; chunk_page.h has
 * the bytes. Never written pages are holes of the file and mean "all chunks
 * are holes". The generation is one counter for the whole
 * table, raised by every store; the label records it, so that an older copy
 * of the file is known for what it is.
 *
 * (CT1) A torn page leaves its other slot: the state of the last checkpoint.
 * (CT2) Entries only move forward in sequence.
 * (CT3) Memory: one pointer a page, and 4 KiB for pages that exist.
 * Not thread-safe; volume/ owns it and locks. */
#ifndef LSVD_CHUNK_CHUNK_TABLE_H
#define LSVD_CHUNK_CHUNK_TABLE_H

#include "base/uuid.h"
#include "target/target.h"

#define CHUNK_TABLE_NAME ".chunks"

enum chunk_state {
    CHUNK_HOLE = 0,
    CHUNK_PRESENT = 1,
    CHUNK_BAD = 2, /* known to be unreadable here */
};

struct chunk_entry {
    uint64_t seq; /* 0: never changed */
    uint32_t state;
    /* 0, or of the reference file that says all there is to say of the chunk
     * (RF6, volume/refer.h); if it is not less than seq by 2^32, or its lower
     * 32 bits are 0, it becomes 0 when it is set. */
    uint64_t references_seq;
};

struct chunk_table;

/* A new, empty table with its object (not yet synced into the directory). part
 * outlives it, here and below. */
int chunk_table_create(struct target *part, const struct uuid *instance,
                       uint64_t chunk_count, struct chunk_table **ret);

/* Load. Damaged pages (a slot that was written and fails its check, or a page
 * number or instance that is not ours) are counted in *ret_damaged; the other
 * slot, or "hole", stands in for them; what a torn checkpoint left counts too.
 * Writable: the next store writes over what was damaged, so the caller makes
 * good before what the damage took from the entries.
 * -ENOENT: no such object; -EPROTO: a format of the future. */
int chunk_table_open(struct target *part, const struct uuid *instance,
                     uint64_t chunk_count, bool writable,
                     struct chunk_table **ret, uint64_t *ret_damaged);

void chunk_table_close(struct chunk_table *t); /* NULL is fine */

/* chunk: from 1 to chunk_count. */
struct chunk_entry chunk_table_get(const struct chunk_table *t,
                                   uint64_t chunk);

/* Change in memory, also of a table opened for reading; the page is dirty
 * until chunk_table_store, also if the entry is the same. -ENOMEM. -EINVAL:
 * the sequence would go back (CT2); nothing is changed. */
int chunk_table_set(struct chunk_table *t, uint64_t chunk,
                    struct chunk_entry entry);

/* The first chunk >= `chunk` whose entry is not all zero, or 0. */
uint64_t chunk_table_next(const struct chunk_table *t, uint64_t chunk);

/* Write the dirty pages with the next generation, and sync the object;
 * nothing if none is dirty. Pages of which both slots were damaged are written
 * twice, with two generations. On error the pages stay dirty. */
int chunk_table_store(struct chunk_table *t);

/* Greatest generation on disk; 0: never stored. */
uint64_t chunk_table_generation(const struct chunk_table *t);

/* The volume grows or has shrunk. Entries beyond the new or old end, whichever
 * is less, are forgotten on disk too, so that a later growth does not bring
 * them back. Store the table before a greater size is in force, and after a
 * smaller one is. -ENOMEM, or the target's error: unchanged. */
int chunk_table_resize(struct chunk_table *t, uint64_t chunk_count);

/* Growing in two steps, for a table that others read: the first does all that
 * may fail or wait, and changes nothing that they see. The second, for which
 * the caller keeps them off, changes memory alone; it may be left out. */
int chunk_table_prepare(struct chunk_table *t, uint64_t chunk_count);
void chunk_table_grow(struct chunk_table *t, uint64_t chunk_count);

uint64_t chunk_table_count(const struct chunk_table *t);

#endif
