/* readcache.c: the file of the read cache, and the index before it.
 *
 * Happy path of a read: index -> neighbours in the file read together -> each
 * judged (RC1). Of an offer: the index says where -> neighbours written
 * together -> published.
 * Fails: what can't be read or written is forgotten by the index; the error
 *   goes up (RC4). */
#include "readcache/readcache.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/memory.h"
#include "readcache/slots.h"
#include "target/guard.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RUN_MAX 256u
#define TABLE_PAGES_A_READ 256u

struct readcache {
    struct readcache_shape shape; /* fixed, as the next four */
    struct object *object;        /* owned */
    uint32_t slots;
    uint64_t pages;   /* of the table, behind the header */
    uint64_t data_at;
    atomic_uint_fast64_t loaded; /* pages of it; RC5 */

    pthread_mutex_t lock; /* guards the index; memory only */
    struct slots index;
    atomic_uint_fast64_t hits, misses, admitted, wrong;
};

/* ---- opening, storing ---- */

static void
lay_out(struct readcache *rc)
{
    uint64_t block = rc->shape.block_bytes;
    uint64_t slots = rc->shape.bytes / (block + 8), at;

    if (slots > SLOTS_MAX)
        slots = SLOTS_MAX;
    for (;; slots--) {
        rc->pages = (slots + READCACHE_PAGE_SLOTS - 1) / READCACHE_PAGE_SLOTS;
        at = (1 + rc->pages) * READCACHE_PAGE_BYTES;
        at = (at + block - 1) / block * block;
        if (slots <= 1 || at + slots * block <= rc->shape.bytes)
            break;
    }
    assert(slots > 0);
    rc->slots = (uint32_t)slots;
    rc->data_at = at;
}

static bool
is_ours(const struct readcache *rc, const uint8_t *page)
{
    struct readcache_header h;

    return readcache_header_decode(page, &h) == 0 &&
           uuid_equal(&h.volume, &rc->shape.volume) &&
           h.block_bytes == rc->shape.block_bytes && h.slots == rc->slots;
}

/* A page that is damaged says nothing of its slots. */
static void
load_page(struct readcache *rc, uint64_t nth, const uint8_t *page)
{
    uint64_t first = nth * READCACHE_PAGE_SLOTS;

    if (!readcache_page_is_sound(&rc->shape.volume, nth, page))
        return;
    pthread_mutex_lock(&rc->lock);
    for (uint32_t i = 0; i < READCACHE_PAGE_SLOTS; i++) {
        if (first + i < rc->slots)
            slots_unpack(&rc->index, (uint32_t)(first + i),
                         get_le64(page + 8 * i), rc->shape.block_count);
    }
    pthread_mutex_unlock(&rc->lock);
}

/* Room for the pages that are read or written at a time. */
static int
pages_new(uint8_t **ret)
{
    return mem_new_aligned(TABLE_PAGES_A_READ * READCACHE_PAGE_BYTES, ret);
}

int
readcache_load(struct readcache *rc, uint64_t pages)
{
    uint64_t done = atomic_load(&rc->loaded), end = done + pages;
    uint8_t *bytes = NULL;
    int r = 0;

    if (end > rc->pages)
        end = rc->pages;
    if (done < end)
        r = pages_new(&bytes);
    for (uint64_t count; r == 0 && done < end; done += count) {
        count = end - done;
        if (count > TABLE_PAGES_A_READ)
            count = TABLE_PAGES_A_READ;
        r = object_read(rc->object, bytes, count * READCACHE_PAGE_BYTES,
                        (1 + done) * READCACHE_PAGE_BYTES);
        for (uint64_t i = 0; r == 0 && i < count; i++)
            load_page(rc, done + i, bytes + i * READCACHE_PAGE_BYTES);
        if (r == 0)
            atomic_store(&rc->loaded, done + count);
    }
    free(bytes);
    return r < 0 ? r : atomic_load(&rc->loaded) < rc->pages;
}

static int
open_file(struct readcache *rc, struct target *dir, const char *name)
{
    uint64_t bytes = rc->data_at + (uint64_t)rc->slots * rc->shape.block_bytes;
    uint8_t page[READCACHE_PAGE_BYTES];
    struct object_stat stat;
    int r;

    atomic_store(&rc->loaded, rc->pages); /* unless there is what to load */
    r = target_open(dir, name, OBJECT_WRITE | OBJECT_CREATE, &rc->object);
    if (r == 0)
        r = object_lock(rc->object, 0, 1, true);
    if (r == 0)
        r = object_stat(rc->object, &stat);
    if (r == 0 && stat.size_bytes != bytes)
        return object_resize(rc->object, bytes); /* another shape's */
    if (r == 0)
        r = object_read(rc->object, page, sizeof page, 0);
    if (r == 0 && is_ours(rc, page))
        atomic_store(&rc->loaded, 0);
    return r;
}

int
readcache_open(struct target *dir, const char *name,
               const struct readcache_shape *shape, struct readcache **ret)
{
    struct readcache *rc;
    int r;

    assert(shape->bytes >= READCACHE_BYTES_MIN);
    r = mem_new(1, sizeof *rc, &rc);
    if (r < 0)
        return r;
    rc->shape = *shape;
    pthread_mutex_init(&rc->lock, NULL);
    lay_out(rc);
    r = slots_new(rc->slots, &rc->index);
    if (r == 0)
        r = open_file(rc, dir, name);
    if (r < 0) {
        readcache_close(rc);
        return r;
    }
    *ret = rc;
    return 0;
}

void
readcache_close(struct readcache *rc)
{
    if (!rc)
        return;
    object_close(rc->object);
    slots_done(&rc->index);
    pthread_mutex_destroy(&rc->lock);
    free(rc);
}

static void
fill_page(struct readcache *rc, uint64_t nth, uint8_t *page)
{
    uint64_t first = nth * READCACHE_PAGE_SLOTS;

    memset(page, 0, READCACHE_PAGE_BYTES);
    pthread_mutex_lock(&rc->lock);
    for (uint32_t i = 0; i < READCACHE_PAGE_SLOTS; i++) {
        if (first + i < rc->slots)
            put_le64(page + 8 * i,
                     slots_pack(&rc->index, (uint32_t)(first + i)));
    }
    pthread_mutex_unlock(&rc->lock);
    readcache_page_seal(&rc->shape.volume, nth, page);
}

int
readcache_store(struct readcache *rc)
{
    struct readcache_header h = {.volume = rc->shape.volume,
                                 .block_bytes = rc->shape.block_bytes,
                                 .slots = rc->slots};
    uint64_t end = atomic_load(&rc->loaded); /* RC5 */
    uint8_t *pages = NULL;
    int r = pages_new(&pages);

    for (uint64_t nth = 0, count; r == 0 && nth < end; nth += count) {
        count = end - nth;
        if (count > TABLE_PAGES_A_READ)
            count = TABLE_PAGES_A_READ;
        for (uint64_t i = 0; i < count; i++)
            fill_page(rc, nth + i, pages + i * READCACHE_PAGE_BYTES);
        r = object_write(rc->object, pages, count * READCACHE_PAGE_BYTES,
                         (1 + nth) * READCACHE_PAGE_BYTES);
    }
    if (r == 0) {
        readcache_header_encode(&h, pages);
        r = object_write(rc->object, pages, READCACHE_PAGE_BYTES, 0);
    }
    free(pages);
    return r;
}

/* ---- blocks ---- */

static uint64_t
slot_at(const struct readcache *rc, uint32_t slot)
{
    return rc->data_at + (uint64_t)slot * rc->shape.block_bytes;
}

/* How many from i on lie one behind the other in the file, too. */
static uint32_t
neighbours(const uint32_t *slot, uint32_t i, uint32_t count)
{
    uint32_t run = 1;

    while (slot[i] != SLOT_NONE && i + run < count &&
           slot[i + run] == slot[i] + run)
        run++;
    return run;
}

static void
judge(struct readcache *rc, uint64_t first, uint32_t count,
      const struct readcache_block *want, const uint8_t *data,
      uint32_t slot, bool *have)
{
    uint32_t bytes = rc->shape.block_bytes;

    for (uint32_t i = 0; i < count; i++) {
        have[i] = readcache_proves(&want[i], data + (size_t)i * bytes, bytes);
        if (have[i])
            continue;
        atomic_fetch_add(&rc->wrong, 1);
        pthread_mutex_lock(&rc->lock);
        slots_forget(&rc->index, first + i, slot + i);
        pthread_mutex_unlock(&rc->lock);
    }
}

int
readcache_get(struct readcache *rc, uint64_t first, uint32_t count,
              const struct readcache_block *want, void *to,
              uint64_t patience_ns, bool *have)
{
    size_t bytes = rc->shape.block_bytes;
    uint32_t slot[RUN_MAX], hits = 0, wanted = 0;
    int r = 0;

    assert(count <= RUN_MAX);
    memset(have, 0, count * sizeof *have);
    pthread_mutex_lock(&rc->lock);
    for (uint32_t i = 0; i < count; i++) {
        slot[i] = SLOT_NONE;
        if (want[i].sum != 0)
            slot[i] = slots_find(&rc->index, first + i,
                                 readcache_tag(want[i].sum));
        wanted += want[i].sum != 0;
    }
    pthread_mutex_unlock(&rc->lock);
    for (uint32_t i = 0, run; i < count && r == 0; i += run) {
        struct iovec iov = {(uint8_t *)to + i * bytes, 0};

        run = neighbours(slot, i, count);
        if (slot[i] == SLOT_NONE)
            continue;
        iov.iov_len = run * bytes;
        r = guard_read_within(rc->object, &iov, 1, slot_at(rc, slot[i]),
                              patience_ns);
        if (r == 0)
            judge(rc, first + i, run, want + i, iov.iov_base, slot[i],
                  have + i);
    }
    for (uint32_t i = 0; i < count; i++)
        hits += have[i];
    atomic_fetch_add(&rc->hits, hits);
    atomic_fetch_add(&rc->misses, wanted - hits);
    return r;
}

static void
end_offer(struct readcache *rc, uint64_t first, uint32_t run,
          const struct readcache_block *blocks, uint32_t slot, bool written)
{
    pthread_mutex_lock(&rc->lock);
    for (uint32_t i = 0; i < run; i++) {
        if (written)
            slots_publish(&rc->index, slot + i, first + i,
                          readcache_tag(blocks[i].sum));
        else
            slots_release(&rc->index, slot + i);
    }
    pthread_mutex_unlock(&rc->lock);
    if (written)
        atomic_fetch_add(&rc->admitted, run);
}

static enum slots_reason
reason_of(const struct readcache_block *block, bool is_change)
{
    if (block->is_guess)
        return SLOTS_GUESS;
    return is_change ? SLOTS_CHANGE : SLOTS_MISS;
}

int
readcache_offer(struct readcache *rc, uint64_t first, uint32_t count,
                const struct readcache_block *blocks, const void *data,
                bool is_change)
{
    size_t bytes = rc->shape.block_bytes;
    uint32_t slot[RUN_MAX];
    int r = 0;

    assert(count <= RUN_MAX);
    if (atomic_load(&rc->loaded) < rc->pages)
        return 0;
    pthread_mutex_lock(&rc->lock);
    for (uint32_t i = 0; i < count; i++) {
        slot[i] = SLOT_NONE;
        if (blocks[i].sum != 0)
            slot[i] = slots_admit(&rc->index, first + i,
                                  readcache_tag(blocks[i].sum),
                                  reason_of(&blocks[i], is_change));
    }
    pthread_mutex_unlock(&rc->lock);
    for (uint32_t i = 0, run; i < count; i += run) {
        run = neighbours(slot, i, count);
        if (slot[i] == SLOT_NONE)
            continue;
        if (r == 0)
            r = object_write(rc->object, (const uint8_t *)data + i * bytes,
                             run * bytes, slot_at(rc, slot[i]));
        end_offer(rc, first + i, run, blocks + i, slot[i], r == 0);
    }
    return r;
}

bool
readcache_has_room(struct readcache *rc)
{
    bool has;

    if (atomic_load(&rc->loaded) < rc->pages)
        return false;
    pthread_mutex_lock(&rc->lock);
    has = slots_have_room(&rc->index);
    pthread_mutex_unlock(&rc->lock);
    return has;
}

void
readcache_drop(struct readcache *rc, uint64_t block)
{
    pthread_mutex_lock(&rc->lock);
    slots_drop(&rc->index, block);
    pthread_mutex_unlock(&rc->lock);
}

void
readcache_get_counts(struct readcache *rc, struct readcache_counts *ret)
{
    pthread_mutex_lock(&rc->lock);
    *ret = (struct readcache_counts){
        .slots = rc->slots,
        .used = rc->index.used,
        .evicted = rc->index.evicted,
        .memory = (uint64_t)rc->slots * SLOT_INDEX_BYTES,
    };
    pthread_mutex_unlock(&rc->lock);
    ret->hits = atomic_load(&rc->hits);
    ret->misses = atomic_load(&rc->misses);
    ret->admitted = atomic_load(&rc->admitted);
    ret->wrong = atomic_load(&rc->wrong);
}
