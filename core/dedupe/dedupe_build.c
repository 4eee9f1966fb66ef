/* dedupe_build.c: entries in any order become the sorted file.
 *
 * Happy path: entries into memory -> when that is full, sorted, into a file of
 * their own (a run) -> at the end all runs and what is left in memory are
 * merged, page by page, into "<name>.new", which then takes the name.
 * Nothing of it needs to survive a crash: what is cut off does not pass its
 * check (DX1), and is made anew. */
#include "dedupe/dedupe_page.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS_MAX 1024u
#define OUT_PAGES 64u /* written at once */

struct run {
    struct object *object; /* owned */
    uint64_t pages, next;  /* to be read */
    struct dedupe_entry entry[DEDUPE_PAGE_ENTRIES];
    uint32_t count, at;
};

struct dedupe_build {
    struct target *dir; /* borrowed */
    struct dedupe_shape shape;
    struct dedupe_entry *entry; /* owned */
    size_t room, count;
    struct run *run[RUNS_MAX]; /* owned */
    uint32_t runs;
};

/* Pages on their way to a file. */
struct output {
    struct object *object;
    uint64_t first_at; /* of page 0 in the file */
    uint64_t pages;    /* complete */
    uint8_t *bytes;    /* OUT_PAGES */
    struct dedupe_entry entry[DEDUPE_PAGE_ENTRIES];
    uint32_t count;
    uint64_t entries;
    struct dedupe_hash last;
    uint8_t *fences; /* NULL: not wanted; owned, 16 each */
    size_t fences_room;
};

static void
run_name(const struct dedupe_build *b, uint32_t nth,
         char name[DEDUPE_NAME_BYTES + 16])
{
    char base[DEDUPE_NAME_BYTES];

    dedupe_name(&b->shape, base);
    snprintf(name, DEDUPE_NAME_BYTES + 16, "%s.run%u", base, nth);
}

int
dedupe_build_begin(struct target *dir, const struct dedupe_shape *shape,
                   size_t memory, struct dedupe_build **ret)
{
    struct dedupe_build *b;
    int r = mem_new(1, sizeof *b, &b);

    if (r < 0)
        return r;
    b->dir = dir;
    b->shape = *shape;
    if (memory < DEDUPE_MEMORY_MIN)
        memory = DEDUPE_MEMORY_MIN;
    /* the other half is for qsort, and later for runs */
    b->room = memory / 2 / sizeof *b->entry;
    r = mem_new(b->room, sizeof *b->entry, &b->entry);
    if (r < 0) {
        free(b);
        return r;
    }
    *ret = b;
    return 0;
}

void
dedupe_build_free(struct dedupe_build *b)
{
    char name[DEDUPE_NAME_BYTES + 16];

    if (!b)
        return;
    for (uint32_t i = 0; i < b->runs; i++) {
        object_close(b->run[i]->object);
        free(b->run[i]);
        run_name(b, i, name);
        (void)target_remove(b->dir, name);
    }
    free(b->entry);
    free(b);
}

static int
entry_order(const void *a, const void *b)
{
    const struct dedupe_entry *x = a, *y = b;
    int order = dedupe_hash_order(&x->hash, &y->hash);

    return order != 0 ? order : x->block < y->block ? -1 : x->block > y->block;
}

/* ---- pages ---- */

static int
output_begin(struct output *o, struct target *dir, const char *name,
             uint64_t first_at)
{
    int r;

    *o = (struct output){.first_at = first_at};
    r = mem_new_aligned((size_t)OUT_PAGES * DEDUPE_PAGE_BYTES, &o->bytes);
    if (r == 0)
        r = target_open(dir, name, OBJECT_WRITE | OBJECT_CREATE, &o->object);
    if (r == 0)
        r = object_resize(o->object, 0);
    return r;
}

static void
output_done(struct output *o)
{
    object_close(o->object);
    free(o->bytes);
    free(o->fences);
}

/* Called at each multiple of OUT_PAGES, and at the end. */
static int
write_pages(struct output *o)
{
    uint64_t first = (o->pages - 1) / OUT_PAGES * OUT_PAGES;

    return object_write(o->object, o->bytes,
                        (size_t)(o->pages - first) * DEDUPE_PAGE_BYTES,
                        o->first_at + first * DEDUPE_PAGE_BYTES);
}

static int
add_fence(struct output *o)
{
    size_t at = (size_t)o->pages * sizeof(struct dedupe_hash);
    int r = mem_grow(at + sizeof(struct dedupe_hash), 1, &o->fences_room,
                     &o->fences);

    if (r < 0)
        return r;
    dedupe_fence_put(o->fences, o->pages, &o->entry[0].hash);
    return 0;
}

static int
end_page(struct output *o)
{
    int r = add_fence(o);

    if (r < 0)
        return r;
    dedupe_page_encode(o->pages, o->entry, o->count,
                       o->bytes + o->pages % OUT_PAGES * DEDUPE_PAGE_BYTES);
    o->pages++;
    o->count = 0;
    return o->pages % OUT_PAGES == 0 ? write_pages(o) : 0;
}

/* In order; of equal hashes the first stays. */
static int
output_add(struct output *o, const struct dedupe_entry *e)
{
    if (o->entries > 0 && dedupe_hash_order(&o->last, &e->hash) == 0)
        return 0;
    o->entry[o->count++] = *e;
    o->last = e->hash;
    o->entries++;
    return o->count == DEDUPE_PAGE_ENTRIES ? end_page(o) : 0;
}

static int
output_end(struct output *o)
{
    int r = o->count > 0 ? end_page(o) : 0;

    return r == 0 && o->pages % OUT_PAGES != 0 ? write_pages(o) : r;
}

/* ---- runs ---- */

static int
spill(struct dedupe_build *b)
{
    char name[DEDUPE_NAME_BYTES + 16];
    struct output o;
    struct run *run;
    int r;

    if (b->runs == RUNS_MAX)
        return err_set(-ENOSPC, "the dedupe index needs more memory: it would "
                       "be sorted in more than %u pieces", RUNS_MAX);
    r = mem_new(1, sizeof *run, &run);
    if (r < 0)
        return r;
    qsort(b->entry, b->count, sizeof *b->entry, entry_order);
    run_name(b, b->runs, name);
    r = output_begin(&o, b->dir, name, 0);
    for (size_t i = 0; i < b->count && r == 0; i++)
        r = output_add(&o, &b->entry[i]);
    if (r == 0)
        r = output_end(&o);
    run->pages = o.pages;
    run->object = o.object;
    o.object = NULL;
    output_done(&o);
    b->run[b->runs++] = run; /* to be removed in any case */
    b->count = 0;
    return r;
}

int
dedupe_build_add(struct dedupe_build *b, const struct dedupe_hash *hash,
                 uint64_t block)
{
    int r = b->count == b->room ? spill(b) : 0;

    if (r == 0)
        b->entry[b->count++] = (struct dedupe_entry){*hash, block};
    return r;
}

/* The next entry of a run is at run->entry[run->at], or there is none. */
static int
run_settle(struct run *run)
{
    uint8_t bytes[DEDUPE_PAGE_BYTES];
    int r;

    while (run->at == run->count && run->next < run->pages) {
        r = object_read(run->object, bytes, sizeof bytes,
                        run->next * DEDUPE_PAGE_BYTES);
        if (r < 0)
            return r;
        run->count = dedupe_page_decode(run->next, bytes, run->entry);
        run->at = 0;
        if (run->count == 0)
            return err_set(-EIO, "a part of the dedupe index does not read "
                           "back as it was written");
        run->next++;
    }
    return 0;
}

/* The run with the least next entry; NULL: all are at their end. */
static struct run *
least_run(struct dedupe_build *b)
{
    struct run *least = NULL;

    for (uint32_t i = 0; i < b->runs; i++) {
        struct run *run = b->run[i];

        if (run->at < run->count &&
            (!least || entry_order(&run->entry[run->at],
                                   &least->entry[least->at]) < 0))
            least = run;
    }
    return least;
}

static int
merge(struct dedupe_build *b, struct output *o)
{
    struct run *run;
    int r = 0;

    for (uint32_t i = 0; i < b->runs && r == 0; i++)
        r = run_settle(b->run[i]);
    while (r == 0 && (run = least_run(b)) != NULL) {
        r = output_add(o, &run->entry[run->at++]);
        if (r == 0)
            r = run_settle(run);
    }
    return r;
}

/* ---- the file ---- */

static int
write_all(struct dedupe_build *b, struct output *o)
{
    int r;

    if (b->runs > 0) {
        r = b->count > 0 ? spill(b) : 0;
        return r == 0 ? merge(b, o) : r;
    }
    qsort(b->entry, b->count, sizeof *b->entry, entry_order);
    r = 0;
    for (size_t i = 0; i < b->count && r == 0; i++)
        r = output_add(o, &b->entry[i]);
    return r;
}

static int
write_ends(struct dedupe_build *b, struct output *o)
{
    size_t fences = (size_t)o->pages * sizeof(struct dedupe_hash);
    uint8_t bytes[DEDUPE_PAGE_BYTES];
    struct dedupe_header h = {.shape = b->shape,
                              .entries = o->entries,
                              .pages = o->pages,
                              .fence_sum = sum_bytes(o->fences, fences)};
    int r = 0;

    if (fences > 0)
        r = object_write(o->object, o->fences, fences,
                         (1 + o->pages) * DEDUPE_PAGE_BYTES);
    dedupe_header_encode(&h, bytes);
    if (r == 0)
        r = object_write(o->object, bytes, sizeof bytes, 0);
    return r == 0 ? object_sync(o->object) : r;
}

int
dedupe_build_end(struct dedupe_build *b)
{
    char name[DEDUPE_NAME_BYTES], fresh[DEDUPE_NAME_BYTES + 16];
    struct output o;
    int r;

    dedupe_name(&b->shape, name);
    snprintf(fresh, sizeof fresh, "%s.new", name);
    r = output_begin(&o, b->dir, fresh, DEDUPE_PAGE_BYTES);
    if (r == 0)
        r = write_all(b, &o);
    if (r == 0)
        r = output_end(&o);
    if (r == 0)
        r = write_ends(b, &o);
    output_done(&o);
    if (r == 0)
        r = target_rename(b->dir, fresh, name);
    if (r < 0)
        (void)target_remove(b->dir, fresh);
    return r;
}
