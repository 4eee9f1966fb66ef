/* chunk_table.c: see chunk_table.h.
 *
 * Happy path: open -> set* -> store, again and again.
 * (CT4) A page's newest valid slot changes only after a store whose sync
 *       succeeded; until then each attempt writes the other slot.
 * (CT5) A generation is never used for two attempts, so that the copy of a
 *       failed one is always older than the next.
 * (CT6) After a store that failed the next one goes through a handle that was
 *       opened anew: the old one keeps its error (guard.h, G4), and a sync of
 *       it would not tell of what was lost before. */
#include "chunk/chunk_table.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/memory.h"
#include "chunk/chunk_page.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PAIR_BYTES (2 * CHUNK_PAGE_BYTES)
#define LOAD_PAIRS 16u /* read at once by open */

struct table_page {
    uint64_t page;
    uint64_t generation; /* of the newest valid slot */
    unsigned slot;       /* which that is; 1 if there is none */
    bool dirty;
    bool both_damaged;   /* when loaded: it takes two stores */
    struct table_page *next_dirty;
    uint8_t bytes[CHUNK_PAGE_BYTES];
};

struct chunk_table {
    struct uuid instance;
    struct target *part;   /* borrowed; where the object is */
    struct object *object; /* owned */
    bool failed;           /* CT6 */
    bool writable;
    bool must_sync; /* the size changed since the last sync */
    uint64_t chunk_count;
    uint64_t generation; /* greatest known to be on disk */
    uint64_t attempt;    /* greatest ever used */
    size_t page_room;    /* of pages[] */
    size_t page_end;     /* every page >= this is NULL */
    struct table_page **pages; /* owned, and what they point to */
    struct table_page **spare; /* owned; NULL, or for chunk_table_grow */
    size_t spare_room;
    struct table_page *dirty;
};

static size_t
pages_of(uint64_t chunk_count)
{
    return (size_t)((chunk_count + CHUNK_PAGE_ENTRIES - 1)
                    / CHUNK_PAGE_ENTRIES);
}

static uint64_t
slot_at(uint64_t page, unsigned slot)
{
    return page * PAIR_BYTES + slot * CHUNK_PAGE_BYTES;
}

void
chunk_table_close(struct chunk_table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->page_end; i++)
        free(t->pages[i]);
    free(t->pages);
    free(t->spare);
    object_close(t->object);
    free(t);
}

static int
table_new(struct target *part, const struct uuid *instance,
          uint64_t chunk_count, unsigned flags, struct chunk_table **ret)
{
    struct chunk_table *t;
    int r;

    assert(chunk_count >= 1);
    assert(chunk_count <= CHUNK_COUNT_MAX);
    r = mem_new(1, sizeof *t, &t);
    if (r < 0)
        return r;
    t->part = part;
    t->instance = *instance;
    t->chunk_count = chunk_count;
    t->writable = (flags & OBJECT_WRITE) != 0;
    t->page_room = pages_of(chunk_count);
    r = mem_new(t->page_room, sizeof *t->pages, &t->pages);
    if (r == 0) {
        r = target_open(part, CHUNK_TABLE_NAME, flags, &t->object);
        if (r < 0)
            t->object = NULL;
    }
    if (r < 0) {
        chunk_table_close(t);
        return r;
    }
    *ret = t;
    return 0;
}

int
chunk_table_create(struct target *part, const struct uuid *instance,
                   uint64_t chunk_count, struct chunk_table **ret)
{
    struct chunk_table *t;
    int r;

    r = table_new(part, instance, chunk_count, OBJECT_WRITE | OBJECT_CREATE,
                  &t);
    if (r < 0)
        return r;
    r = object_resize(t->object, 0); /* of an attempt that was given up */
    if (r < 0) {
        chunk_table_close(t);
        return r;
    }
    t->must_sync = true;
    *ret = t;
    return 0;
}

/* Find or make the page in memory. */
static int
page_get(struct chunk_table *t, uint64_t page, struct table_page **ret)
{
    struct table_page *p;
    int r;

    assert(page < t->page_room);
    if (!t->pages[page]) {
        r = mem_new(1, sizeof *p, &p);
        if (r < 0)
            return r;
        p->page = page;
        p->slot = 1;
        t->pages[page] = p;
        if (page >= t->page_end)
            t->page_end = (size_t)page + 1;
    }
    *ret = t->pages[page];
    return 0;
}

static void
mark_dirty(struct chunk_table *t, struct table_page *p)
{
    if (p->dirty)
        return;
    p->dirty = true;
    p->next_dirty = t->dirty;
    t->dirty = p;
}

/* Judge the two slots of a page; the newest valid one goes into memory. A page
 * with a damaged slot is dirty: the next store writes over that one. */
static int
load_pair(struct chunk_table *t, uint64_t page, const uint8_t *pair,
          uint64_t *damaged)
{
    uint64_t generation[2] = {0, 0};
    int newest = -1;
    bool is_damaged = false;
    struct table_page *p;
    int r;

    for (int slot = 0; slot < 2; slot++) {
        r = chunk_page_judge(&t->instance, page,
                             pair + slot * (int)CHUNK_PAGE_BYTES,
                             &generation[slot]);
        if (r == -EPROTO)
            return r;
        if (r == -EBADMSG)
            is_damaged = true;
        else if (r == 0
                 && (newest < 0 || generation[slot] > generation[newest]))
            newest = slot;
    }
    if (is_damaged)
        (*damaged)++;
    if (newest < 0 && !(is_damaged && t->writable))
        return 0;
    r = page_get(t, page, &p);
    if (r < 0)
        return r;
    if (is_damaged && t->writable) {
        mark_dirty(t, p);
        p->both_damaged = newest < 0;
    }
    if (newest < 0)
        return 0;
    p->slot = (unsigned)newest;
    p->generation = generation[newest];
    memcpy(p->bytes, pair + newest * (int)CHUNK_PAGE_BYTES,
           CHUNK_PAGE_BYTES);
    if (p->generation > t->generation)
        t->generation = p->generation;
    return 0;
}

/* Read `bytes` from `at` on, of which the file has those before `size`. What
 * the medium does not give becomes bytes that no check takes for a page or for
 * a hole. */
static void
read_slots(struct chunk_table *t, uint64_t at, size_t bytes, uint64_t size,
           uint8_t *to)
{
    size_t have = size - at < bytes ? (size_t)(size - at) : bytes;

    memset(to + have, 0, bytes - have);
    if (object_read(t->object, to, have, at) == 0)
        return;
    for (size_t done = 0; done < have; done += CHUNK_PAGE_BYTES) {
        size_t piece = have - done < CHUNK_PAGE_BYTES ? have - done
                                                      : CHUNK_PAGE_BYTES;

        if (object_read(t->object, to + done, piece, at + done) < 0)
            memset(to + done, 0xff, CHUNK_PAGE_BYTES);
    }
}

/* Load the pages of [begin, end), whole pairs. */
static int
load_range(struct chunk_table *t, uint64_t begin, uint64_t end, uint64_t size,
           uint8_t *buffer, uint64_t *damaged)
{
    while (begin < end) {
        size_t bytes = end - begin < LOAD_PAIRS * PAIR_BYTES
            ? (size_t)(end - begin)
            : LOAD_PAIRS * PAIR_BYTES;

        read_slots(t, begin, bytes, size, buffer);
        for (size_t at = 0; at < bytes; at += PAIR_BYTES) {
            int r = load_pair(t, (begin + at) / PAIR_BYTES, buffer + at,
                              damaged);

            if (r < 0)
                return r;
        }
        begin += bytes;
    }
    return 0;
}

/* Load what the file has, skipping its holes. */
static int
load(struct chunk_table *t, uint8_t *buffer, uint64_t *damaged)
{
    struct object_stat st;
    uint64_t end_all, at = 0;
    int r;

    r = object_stat(t->object, &st);
    if (r < 0)
        return r;
    end_all = (uint64_t)t->page_room * PAIR_BYTES;
    if (st.size_bytes < end_all)
        end_all = st.size_bytes;
    while (at < end_all) {
        uint64_t begin, end;

        r = object_next_data(t->object, at, &begin, &end);
        if (r == -ENXIO)
            return 0;
        if (r < 0)
            return r;
        if (begin >= end_all)
            return 0;
        if (begin < at)
            begin = at;
        if (end > end_all)
            end = end_all;
        begin = begin / PAIR_BYTES * PAIR_BYTES;
        end = (end + PAIR_BYTES - 1) / PAIR_BYTES * PAIR_BYTES;
        r = load_range(t, begin, end, st.size_bytes, buffer, damaged);
        if (r < 0)
            return r;
        at = end > at ? end : at + PAIR_BYTES;
    }
    return 0;
}

int
chunk_table_open(struct target *part, const struct uuid *instance,
                 uint64_t chunk_count, bool writable,
                 struct chunk_table **ret, uint64_t *ret_damaged)
{
    struct chunk_table *t;
    uint8_t *buffer = NULL;
    uint64_t damaged = 0;
    int r;

    r = table_new(part, instance, chunk_count, writable ? OBJECT_WRITE : 0,
                  &t);
    if (r < 0)
        return r;
    r = mem_new_aligned(LOAD_PAIRS * PAIR_BYTES, &buffer);
    /* What is found may be in the page cache alone, left by a process that was
     * killed before its sync; our caller will build on it as on a checkpoint
     * (a label that a power cut then finds ahead of its table). */
    if (r == 0 && writable)
        r = object_sync(t->object);
    if (r == 0)
        r = load(t, buffer, &damaged);
    free(buffer);
    if (r < 0) {
        chunk_table_close(t);
        return r == -EPROTO
            ? err_wrap(r, "%s/%s", part->path, CHUNK_TABLE_NAME)
            : r;
    }
    t->attempt = t->generation;
    *ret = t;
    *ret_damaged = damaged;
    return 0;
}

struct chunk_entry
chunk_table_get(const struct chunk_table *t, uint64_t chunk)
{
    const struct chunk_entry none = {.state = CHUNK_HOLE};
    const struct table_page *p;

    assert(chunk >= 1);
    assert(chunk <= t->chunk_count);
    p = t->pages[(chunk - 1) / CHUNK_PAGE_ENTRIES];
    if (!p)
        return none;
    return chunk_page_get(p->bytes,
                          (uint32_t)((chunk - 1) % CHUNK_PAGE_ENTRIES));
}

int
chunk_table_set(struct chunk_table *t, uint64_t chunk,
                struct chunk_entry entry)
{
    struct table_page *p;
    int r;

    if (entry.seq < chunk_table_get(t, chunk).seq)
        return err_set(-EINVAL,
                       "chunk table: the sequence of a chunk would go back");
    r = page_get(t, (chunk - 1) / CHUNK_PAGE_ENTRIES, &p);
    if (r < 0)
        return r;
    chunk_page_set(p->bytes, (uint32_t)((chunk - 1) % CHUNK_PAGE_ENTRIES),
                   entry);
    mark_dirty(t, p);
    return 0;
}

uint64_t
chunk_table_next(const struct chunk_table *t, uint64_t chunk)
{
    assert(chunk >= 1);
    while (chunk <= t->chunk_count) {
        uint64_t page = (chunk - 1) / CHUNK_PAGE_ENTRIES;

        if (page >= t->page_end)
            return 0;
        if (t->pages[page]) {
            struct chunk_entry entry = chunk_table_get(t, chunk);

            if (entry.seq != 0 || entry.state != CHUNK_HOLE)
                return chunk;
            chunk++;
        } else
            chunk = (page + 1) * CHUNK_PAGE_ENTRIES + 1;
    }
    return 0;
}

/* CT6. */
static int
open_anew(struct chunk_table *t)
{
    struct object *object;
    int r = target_open(t->part, CHUNK_TABLE_NAME, OBJECT_WRITE, &object);

    if (r < 0)
        return r;
    object_close(t->object);
    t->object = object;
    t->failed = false;
    return 0;
}

static int
write_dirty(struct chunk_table *t, uint64_t generation)
{
    int r = t->failed ? open_anew(t) : 0;

    for (struct table_page *p = t->dirty; p && r == 0; p = p->next_dirty) {
        chunk_page_seal(&t->instance, p->page, generation, p->bytes);
        r = object_write(t->object, p->bytes, sizeof p->bytes,
                         slot_at(p->page, p->slot ^ 1));
    }
    return r == 0 ? object_sync(t->object) : r;
}

static int
store_dirty(struct chunk_table *t, bool *ret_again)
{
    uint64_t generation;
    struct table_page *p, *again = NULL;
    int r;

    generation = t->attempt + 1;
    if (generation > CHUNK_GENERATION_MAX)
        return err_set(-EOVERFLOW, "chunk table: no generation is left");
    if (t->dirty)
        t->attempt = generation;
    r = write_dirty(t, generation);
    t->failed = r < 0;
    if (r < 0)
        return r;
    t->must_sync = false;
    if (t->dirty)
        t->generation = generation;
    while ((p = t->dirty)) {
        p->slot ^= 1;
        p->generation = generation;
        p->dirty = false;
        t->dirty = p->next_dirty;
        p->next_dirty = p->both_damaged ? again : NULL;
        if (p->both_damaged)
            again = p;
    }
    while ((p = again)) {
        again = p->next_dirty;
        p->both_damaged = false;
        mark_dirty(t, p);
    }
    *ret_again = t->dirty != NULL;
    return 0;
}

int
chunk_table_store(struct chunk_table *t)
{
    bool again = false;
    int r;

    assert(t->writable);
    if (!t->dirty && !t->must_sync)
        return 0;
    r = store_dirty(t, &again);
    return r == 0 && again ? store_dirty(t, &again) : r;
}

uint64_t
chunk_table_generation(const struct chunk_table *t)
{
    return t->generation;
}

static void
forget_pages(struct chunk_table *t, size_t from)
{
    struct table_page **link = &t->dirty;

    while (*link)
        if ((*link)->page >= from)
            *link = (*link)->next_dirty;
        else
            link = &(*link)->next_dirty;
    for (size_t i = from; i < t->page_end; i++) {
        free(t->pages[i]);
        t->pages[i] = NULL;
    }
    if (t->page_end > from)
        t->page_end = from;
}

/* Clear the entries of the last page that lie behind chunk `end`. */
static void
forget_entries(struct chunk_table *t, uint64_t end)
{
    const struct chunk_entry none = {.state = CHUNK_HOLE};
    uint32_t first = (uint32_t)(end % CHUNK_PAGE_ENTRIES);
    struct table_page *p = t->pages[(end - 1) / CHUNK_PAGE_ENTRIES];

    if (!p || first == 0)
        return;
    for (uint32_t i = first; i < CHUNK_PAGE_ENTRIES; i++) {
        struct chunk_entry entry = chunk_page_get(p->bytes, i);

        if (entry.seq != 0 || entry.state != CHUNK_HOLE) {
            chunk_page_set(p->bytes, i, none);
            mark_dirty(t, p);
        }
    }
}

/* Room for more pages, which chunk_table_grow takes. */
static int
make_spare(struct chunk_table *t, size_t page_count)
{
    struct table_page **spare;
    int r;

    if (page_count <= t->page_room || page_count <= t->spare_room)
        return 0;
    r = mem_new(page_count, sizeof *spare, &spare);
    if (r < 0)
        return r;
    free(t->spare);
    t->spare = spare;
    t->spare_room = page_count;
    return 0;
}

static void
take_spare(struct chunk_table *t)
{
    memcpy(t->spare, t->pages, t->page_end * sizeof *t->pages);
    free(t->pages);
    t->pages = t->spare;
    t->page_room = t->spare_room;
    t->spare = NULL;
    t->spare_room = 0;
}

int
chunk_table_prepare(struct chunk_table *t, uint64_t chunk_count)
{
    uint64_t kept =
        chunk_count < t->chunk_count ? chunk_count : t->chunk_count;
    uint64_t kept_bytes = (uint64_t)pages_of(kept) * PAIR_BYTES;
    struct object_stat st;
    int r;

    assert(t->writable);
    assert(chunk_count >= 1);
    assert(chunk_count <= CHUNK_COUNT_MAX);
    r = make_spare(t, pages_of(chunk_count));
    if (r == 0)
        r = object_stat(t->object, &st);
    if (r < 0)
        return r;
    if (st.size_bytes > kept_bytes) {
        r = t->failed ? open_anew(t) : 0;
        if (r == 0)
            r = object_resize(t->object, kept_bytes);
        if (r < 0)
            return r;
        t->must_sync = true;
    }
    return 0;
}

static void
change_count(struct chunk_table *t, uint64_t chunk_count)
{
    uint64_t kept =
        chunk_count < t->chunk_count ? chunk_count : t->chunk_count;

    if (pages_of(chunk_count) > t->page_room)
        take_spare(t);
    forget_pages(t, pages_of(kept));
    forget_entries(t, kept);
    t->chunk_count = chunk_count;
}

void
chunk_table_grow(struct chunk_table *t, uint64_t chunk_count)
{
    assert(chunk_count >= t->chunk_count);
    assert(pages_of(chunk_count) <= t->page_room ||
           pages_of(chunk_count) <= t->spare_room);
    change_count(t, chunk_count);
}

int
chunk_table_resize(struct chunk_table *t, uint64_t chunk_count)
{
    int r = chunk_table_prepare(t, chunk_count);

    if (r == 0)
        change_count(t, chunk_count);
    return r;
}

uint64_t
chunk_table_count(const struct chunk_table *t)
{
    return t->chunk_count;
}
