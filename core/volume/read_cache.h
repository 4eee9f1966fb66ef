/* read_cache.h: the volume's side of the read cache (readcache/readcache.h):
 * when it is asked, what is offered to it, when it is off.
 *
 * It stands between the journal's index and the parts: who looks into it holds
 * the lease on the blocks and the chunk's, shared, as who reads the parts.
 * (RV1) The sum that a block must have is that of the entry of the fragment
 *       which would be read: the preferred replica's, or with EC that of the
 *       data fragment; not of one that is doubtful or away. That entry is in
 *       memory as long as the chunk is open, so a part that is slow, or hangs,
 *       is not asked for what is here.
 * (RV2) Nobody waits for the cache longer than its pace allows (hedge.h), and
 *       one that was late is left alone for a second. It has a guard, and
 *       threads, of its own: giving them up does nothing to the journal.
 * (RV3) After an error, or a hang for the part-timeout, it is off until the
 *       next start, which one line says.
 * (RV4) With read-cache=auto it rests while reads of the parts take no longer
 *       than its own (mean times of small reads; to begin and to end a rest it
 *       takes different ratios, and some seconds). It keeps what it has. Both
 *       are still tried now and then, so that the figures stay true.
 * (RV5) While it has slots that were never used, it takes what comes by: of a
 *       scan, too, and of parts to which it is a long way the neighbours of a
 *       block that is missed, which are read with it (around.h). All these are
 *       guesses (slots.h), so about as much is read in vain as the cache holds.
 *       A neighbour is judged as any block; one that can't be read costs a
 *       second read, of what was asked for. */
#ifndef LSVD_VOLUME_READ_CACHE_H
#define LSVD_VOLUME_READ_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chunk;
struct lsvd_read_cache_status;
struct lsvd_volume;
struct plan;

/* Open it, if one is configured; at a start that serves. What goes wrong is
 * logged, and costs speed. */
void read_cache_open(struct lsvd_volume *v);
/* Threads may be used: load what is not loaded yet (RC5). */
void read_cache_start(struct lsvd_volume *v);
/* At the end of a volume that was served well: what is where, for the next
 * start. */
void read_cache_store(struct lsvd_volume *v);
/* Writes nothing. */
void read_cache_close(struct lsvd_volume *v);

/* As volume_read_parts, which it calls for what is not here. */
int read_cache_fetch(struct lsvd_volume *v, struct chunk *c, uint32_t block,
                     uint32_t count, uint8_t *to, uint8_t *said);

/* The plan is in place, and in the tables. The role's. */
void read_cache_destaged(struct lsvd_volume *v, const struct plan *plan);

/* So much memory more may tables of open chunks take (RV1). */
uint64_t read_cache_table_bytes(const struct lsvd_volume *v);

void read_cache_get_status(struct lsvd_volume *v,
                           struct lsvd_read_cache_status *ret);
/* <volume UUID>.rcache. */
void read_cache_name(const struct lsvd_volume *v, char *text, size_t bytes);

/* ---- for tests: when to rest (RV4); pure ---- */

#define READ_CACHE_SAMPLES_MIN 32u
#define READ_CACHE_DWELL_NS UINT64_C(5000000000)

struct read_cache_rate { /* any thread; approximate */
    uint64_t cache_ns, part_ns;           /* means; 0: none yet */
    uint64_t cache_samples, part_samples; /* up to READ_CACHE_SAMPLES_MIN */
};
/* Shall it rest, after it did (or not) since `since_ns`? */
bool read_cache_should_rest(const struct read_cache_rate *rate, bool rests,
                            uint64_t since_ns, uint64_t now_ns);

#endif
