/* chunk_page.h: one page of the chunk table as bytes; for chunk_table.c, its
 * tests and its fuzzer.
 *
 *   at   size
 *     0     8  magic "LSVDctab"
 *     8     4  page number, from 0
 *    12     4  format, 1
 *    16     8  generation of the table with which the page was written, from 1
 *    24     8  sum of bytes 0 … 23 and 32 … 4095, seeded with the instance
 *              UUID and the page number
 *    32  4064  254 entries: seq u64, state u32, the lower half of
 *              references_seq u32, which is less than seq by less than 2^32
 * Entry i of page p is chunk p * 254 + i + 1. */
#ifndef LSVD_CHUNK_CHUNK_PAGE_H
#define LSVD_CHUNK_CHUNK_PAGE_H

#include "chunk/chunk_table.h"
#include <stdint.h>

#define CHUNK_PAGE_BYTES 4096u
#define CHUNK_PAGE_ENTRIES 254u
/* Out of reach of honest counting, and far from wrapping round. */
#define CHUNK_GENERATION_MAX (UINT64_C(1) << 62)

/* bytes: a page whose entries are set; fills in the rest. */
void chunk_page_seal(const struct uuid *instance, uint64_t page,
                     uint64_t generation, uint8_t *bytes);

/* 0: *ret_generation is set and every entry is legal. -ENOENT: never written
 * (no text). -EBADMSG: damaged, or of another place or instance. -EPROTO: of
 * the future. */
int chunk_page_judge(const struct uuid *instance, uint64_t page,
                     const uint8_t *bytes, uint64_t *ret_generation);

/* i < CHUNK_PAGE_ENTRIES, of a page that was judged. */
struct chunk_entry chunk_page_get(const uint8_t *bytes, uint32_t i);
void chunk_page_set(uint8_t *bytes, uint32_t i, struct chunk_entry entry);

#endif
