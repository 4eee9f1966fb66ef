/* model.h: the oracle: what each block of the volume may hold.
 *
 * A block has a list of versions, oldest first. The first is durable: flushed,
 * or read after a recovery. A version whose request was answered with success
 * is certain, others may have happened or not, and may still come true after
 * a crash. What may be found:
 *   while the volume serves      the newest certain version, or an uncertain
 *                                one behind it; once read, the same again
 *   after kill -9                the same, without the memory of reads
 *   after a power cut            any version of the list
 * A version is the content of the whole block, so a mix inside a block is
 * never one of them. Sectors carry a stamp (place, write), so that a foreign
 * one can be named. */
#ifndef LSVD_SIM_MODEL_H
#define LSVD_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct model;

struct model *model_new(uint64_t volume_bytes, uint32_t block_bytes);
void model_free(struct model *m);

/* The bytes that write number `id` puts at `offset`: stamped sectors, or what
 * of them lies in the range. */
void model_fill(uint64_t id, uint64_t offset, uint8_t *to, size_t count);

/* A request is on its way: data NULL: zeroes. Versions are uncertain until
 * model_write_end; requests do not overlap in time. Returns its number. */
uint64_t model_next_id(const struct model *m);
void model_write_begin(struct model *m, uint64_t offset, size_t count,
                       const uint8_t *data);
void model_write_end(struct model *m, bool succeeded, bool fua);

/* A flush returned 0. */
void model_flushed(struct model *m);

/* Judge bytes that a read returned. False: why says what is wrong. A block of
 * which only a part was read is compared in that part. */
bool model_check_read(struct model *m, uint64_t offset, size_t count,
                      const uint8_t *data, char *why, size_t why_bytes);

/* May the range be reported as a hole? Only if it may be zeroes. */
bool model_may_be_zero(const struct model *m, uint64_t offset, uint64_t count);

/* The server died: what was in memory is gone; with_power: so is what was not
 * durable. Several crashes before the next check add up. */
void model_crashed(struct model *m, bool with_power);

/* The whole volume was read after the crash. On success the image is what the
 * volume holds, durably; a next recovery must give the same. */
bool model_check_image(struct model *m, const uint8_t *image, char *why,
                       size_t why_bytes);

/* As above, but nothing is concluded: for images of other worlds. */
bool model_check_image_only(const struct model *m, bool crashed,
                            bool with_power, const uint8_t *image, char *why,
                            size_t why_bytes);

#endif
