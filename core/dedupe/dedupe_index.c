/* dedupe_index.c: a block by its hash: the fences say which page. */
#include "dedupe/dedupe_index.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "dedupe/dedupe_page.h"
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX 16384u

/* A page that is kept. */
struct slot {
    uint64_t page; /* + 1; 0: none */
    uint32_t count;
    struct dedupe_entry entry[DEDUPE_PAGE_ENTRIES];
};

struct dedupe_index {
    struct object *object; /* owned */
    struct dedupe_header header;
    uint8_t *fences;   /* owned */
    struct slot *slot; /* owned */
    size_t slots;
};

static bool
same_shape(const struct dedupe_shape *a, const struct dedupe_shape *b)
{
    return uuid_equal(&a->source, &b->source) &&
           a->source_bytes == b->source_bytes &&
           a->block_bytes == b->block_bytes && a->hash_bits == b->hash_bits &&
           a->generation == b->generation;
}

static int
load_header(struct dedupe_index *x, const struct dedupe_shape *shape,
            uint64_t size)
{
    uint8_t bytes[DEDUPE_PAGE_BYTES];
    int r;

    if (size < DEDUPE_PAGE_BYTES)
        return err_set(-EBADMSG, "the dedupe index is cut short");
    r = object_read(x->object, bytes, sizeof bytes, 0);
    if (r == 0)
        r = dedupe_header_decode(bytes, &x->header);
    if (r < 0)
        return r;
    if (!same_shape(&x->header.shape, shape) ||
        x->header.pages > size / DEDUPE_PAGE_BYTES ||
        size != (1 + x->header.pages) * DEDUPE_PAGE_BYTES +
                    x->header.pages * sizeof(struct dedupe_hash))
        return err_set(-EBADMSG, "the dedupe index is another's");
    return 0;
}

static int
load_fences(struct dedupe_index *x, size_t memory)
{
    size_t bytes = (size_t)x->header.pages * sizeof(struct dedupe_hash);
    int r;

    if (bytes + sizeof(struct slot) > memory)
        return err_set(-ENOSPC, "the index of %llu blocks takes %zu bytes of "
                       "memory at least, and %zu are allowed",
                       (unsigned long long)x->header.entries,
                       bytes + sizeof(struct slot), memory);
    if (bytes == 0)
        return 0;
    r = mem_new(bytes, 1, &x->fences);
    if (r == 0)
        r = object_read(x->object, x->fences, bytes,
                        (1 + x->header.pages) * DEDUPE_PAGE_BYTES);
    if (r < 0)
        return r;
    x->slots = (memory - bytes) / sizeof(struct slot);
    if (x->slots > x->header.pages)
        x->slots = (size_t)x->header.pages;
    if (x->slots > SLOTS_MAX)
        x->slots = SLOTS_MAX;
    if (sum_bytes(x->fences, bytes) != x->header.fence_sum)
        return err_set(-EBADMSG, "the dedupe index is damaged");
    return mem_new(x->slots, sizeof *x->slot, &x->slot);
}

int
dedupe_index_open(struct target *dir, const struct dedupe_shape *shape,
                  size_t memory, struct dedupe_index **ret)
{
    char name[DEDUPE_NAME_BYTES];
    struct object_stat stat;
    struct dedupe_index *x;
    int r = mem_new(1, sizeof *x, &x);

    if (r < 0)
        return r;
    dedupe_name(shape, name);
    r = target_open_stat(dir, name, 0, &stat, &x->object);
    if (r == 0)
        r = load_header(x, shape, stat.size_bytes);
    if (r == 0)
        r = load_fences(x, memory);
    if (r < 0) {
        dedupe_index_close(x);
        return r == -EPROTO ? -EBADMSG : r;
    }
    *ret = x;
    return 0;
}

void
dedupe_index_close(struct dedupe_index *x)
{
    if (!x)
        return;
    object_close(x->object);
    free(x->fences);
    free(x->slot);
    free(x);
}

/* The last page that begins with this hash or before; -1: none does. */
static int64_t
find_page(const struct dedupe_index *x, const struct dedupe_hash *hash)
{
    uint64_t low = 0, high = x->header.pages;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct dedupe_hash fence = dedupe_fence_get(x->fences, middle);

        if (dedupe_hash_order(&fence, hash) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return (int64_t)low - 1;
}

static int
get_page(struct dedupe_index *x, uint64_t page, const struct slot **ret)
{
    struct slot *slot = &x->slot[page % x->slots];
    uint8_t bytes[DEDUPE_PAGE_BYTES];
    int r;

    *ret = slot;
    if (slot->page == page + 1)
        return 0;
    slot->page = 0;
    r = object_read(x->object, bytes, sizeof bytes,
                    (1 + page) * DEDUPE_PAGE_BYTES);
    if (r < 0)
        return r;
    slot->count = dedupe_page_decode(page, bytes, slot->entry);
    slot->page = page + 1;
    return 0;
}

int
dedupe_index_find(struct dedupe_index *x, const struct dedupe_hash *hash,
                  uint64_t *ret_block)
{
    int64_t page = find_page(x, hash);
    const struct slot *slot;
    uint32_t low = 0, high;
    int r;

    if (page < 0)
        return 0;
    r = get_page(x, (uint64_t)page, &slot);
    if (r < 0)
        return r;
    high = slot->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = dedupe_hash_order(&slot->entry[middle].hash, hash);

        if (order == 0) {
            *ret_block = slot->entry[middle].block;
            return 1;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

uint64_t
dedupe_index_entries(const struct dedupe_index *x)
{
    return x->header.entries;
}

size_t
dedupe_index_memory(const struct dedupe_index *x)
{
    return sizeof *x + x->slots * sizeof *x->slot +
           (size_t)x->header.pages * sizeof(struct dedupe_hash);
}
