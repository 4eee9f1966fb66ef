/* dedupe_page.h: pages of sorted entries as bytes; for dedupe_build.c, which
 * writes them, and dedupe_index.c. See dedupe_index.h for the format. */
#ifndef LSVD_DEDUPE_DEDUPE_PAGE_H
#define LSVD_DEDUPE_DEDUPE_PAGE_H

#include "dedupe/dedupe_index.h"
#include <stdbool.h>

#define DEDUPE_PAGE_BYTES 4096u
#define DEDUPE_PAGE_ENTRIES 170u
#define DEDUPE_NAME_BYTES 64

struct dedupe_entry {
    struct dedupe_hash hash;
    uint64_t block;
};

struct dedupe_header {
    struct dedupe_shape shape;
    uint64_t entries, pages, fence_sum;
};

static inline int
dedupe_hash_order(const struct dedupe_hash *a, const struct dedupe_hash *b)
{
    if (a->high != b->high)
        return a->high < b->high ? -1 : 1;
    return a->low < b->low ? -1 : a->low > b->low;
}

void dedupe_name(const struct dedupe_shape *shape,
                 char name[DEDUPE_NAME_BYTES]);

/* count <= DEDUPE_PAGE_ENTRIES. */
void dedupe_page_encode(uint64_t page, const struct dedupe_entry *entry,
                        uint32_t count, uint8_t *bytes);
/* How many there are; 0 also if it does not pass its check (DX1). */
uint32_t dedupe_page_decode(uint64_t page, const uint8_t *bytes,
                            struct dedupe_entry *entry);

void dedupe_fence_put(uint8_t *fences, uint64_t page,
                      const struct dedupe_hash *hash);
struct dedupe_hash dedupe_fence_get(const uint8_t *fences, uint64_t page);

void dedupe_header_encode(const struct dedupe_header *h, uint8_t *bytes);
/* -EBADMSG, -EPROTO. */
int dedupe_header_decode(const uint8_t *bytes, struct dedupe_header *ret);

#endif
