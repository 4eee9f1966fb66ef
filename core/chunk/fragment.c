/* fragment.c: open, make, date and store a fragment file; fragment_cells.c
 * moves the data.
 *
 * Happy path: open -> (set_entry, write)* -> store_meta -> sync.
 * (F1) What fragment_store_meta wrote is marked clean only when all of it was
 *      accepted: after an error the next store writes it again.
 * (F2) set_entry marks its page dirty even if the bytes do not change: after a
 *      failed sync the page cache may show what the medium never got, and
 *      then the repetition of a destage must write everything again. */
#include "chunk/fragment.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define NAME_BYTES 24

/* Feature bits of which this version can keep what they promise. */
#define RO_COMPAT_KNOWN UINT64_C(0)

static size_t
table_bytes(const struct fragment *f)
{
    return (size_t)geometry_table_bytes(f->geometry, f->id.fragment);
}

static size_t
page_count(const struct fragment *f)
{
    return table_bytes(f) / PAGE_BYTES;
}

static size_t
dirty_words(const struct fragment *f)
{
    return (page_count(f) + 63) / 64;
}

static bool
is_dirty(const struct fragment *f, size_t page)
{
    return (f->dirty_pages[page / 64] >> page % 64 & 1) != 0;
}

static void
set_dirty(struct fragment *f, size_t page)
{
    f->dirty_pages[page / 64] |= UINT64_C(1) << page % 64;
}

void
fragment_name(uint64_t chunk, char *text)
{
    int n = snprintf(text, NAME_BYTES, "%" PRIu64, chunk);

    assert(n > 0);
    assert(n < NAME_BYTES);
}

void
fragment_close(struct fragment *f)
{
    if (!f)
        return;
    object_close(f->object);
    free(f->table);
    free(f->dirty_pages);
    free(f);
}

/* A fragment without its object; the table is not initialised. */
static int
fragment_new(const struct geometry *g, const struct fragment_id *id,
             struct fragment **ret)
{
    struct fragment *f;
    int r;

    assert(id->fragment < g->part_count);
    assert(id->chunk >= 1);
    r = mem_new(1, sizeof *f, &f);
    if (r < 0)
        return r;
    f->geometry = g;
    f->id = *id;
    r = mem_new_aligned(table_bytes(f), &f->table);
    if (r == 0)
        r = mem_new(dirty_words(f), sizeof *f->dirty_pages, &f->dirty_pages);
    if (r < 0) {
        fragment_close(f);
        return r;
    }
    *ret = f;
    return 0;
}

/* Does the header say what we expect? Which field differs tells a person
 * whether the file was swapped, copied or made for another volume. */
static int
judge_header(const struct fragment *f, const struct fragment_header *h)
{
    const struct geometry *g = f->geometry;
    const struct fragment_id *id = &f->id;

    if (!uuid_equal(&h->id.volume, &id->volume))
        return err_set(-EBADMSG, "belongs to another volume");
    if (h->id.chunk != id->chunk)
        return err_set(-EBADMSG, "holds chunk %" PRIu64, h->id.chunk);
    if (h->id.fragment != id->fragment)
        return err_set(-EBADMSG, "belongs to part %c",
                       (char)('a' + (int)h->id.fragment));
    if (!uuid_equal(&h->id.instance, &id->instance))
        return err_set(-EBADMSG, "belongs to another instance of this part");
    if (h->block_bytes != g->block_bytes || h->chunk_bytes != g->chunk_bytes
        || h->data_count != g->data_count
        || h->parity_count != g->parity_count)
        return err_set(-EBADMSG, "was made with other sizes or redundancy");
    return 0;
}

static int
load_once(struct fragment *f, bool writable, const struct object_stat *st)
{
    uint8_t header[FRAGMENT_HEADER_BYTES];
    struct iovec iov[2] = {
        {header, sizeof header},
        {f->table, table_bytes(f)},
    };
    uint64_t file_bytes = geometry_file_bytes(f->geometry, f->id.fragment);
    struct fragment_header h;
    int r;

    if (st->size_bytes != file_bytes)
        return err_set(-EBADMSG, "size is %" PRIu64 ", must be %" PRIu64,
                       st->size_bytes, file_bytes);
    r = object_readv(f->object, iov, 2, 0);
    if (r < 0)
        return r;
    r = fragment_header_decode(header, &h);
    if (r < 0)
        return r;
    if (writable && (h.ro_compat & ~RO_COMPAT_KNOWN) != 0)
        return err_set(-EPROTO,
                       "has features %#" PRIx64
                       " that this version can only read",
                       h.ro_compat);
    r = judge_header(f, &h);
    if (r < 0)
        return r;
    f->seq = h.seq;
    f->doubtful = sum_bytes(f->table, table_bytes(f)) != h.table_sum;
    return 0;
}

/* What is wrong must be so twice: bytes that went bad on their way here are no
 * damage, and taking them for a torn table would store them. */
static int
load(struct fragment *f, bool writable, struct object_stat *st)
{
    int r = load_once(f, writable, st);

    if (r != -EBADMSG && !(r == 0 && f->doubtful))
        return r;
    object_drop_cache(f->object);
    r = object_stat(f->object, st);
    return r < 0 ? r : load_once(f, writable, st);
}

int
fragment_open(struct target *part, const struct geometry *g,
              const struct fragment_id *id, bool writable,
              struct fragment **ret)
{
    struct object_stat st;
    struct fragment *f;
    char name[NAME_BYTES];
    int r;

    r = fragment_new(g, id, &f);
    if (r < 0)
        return r;
    fragment_name(id->chunk, name);
    r = target_open_stat(part, name, writable ? OBJECT_WRITE : 0, &st,
                         &f->object);
    if (r < 0) {
        f->object = NULL;
        fragment_close(f);
        return r;
    }
    f->writable = writable;
    r = load(f, writable, &st);
    if (r < 0) {
        fragment_close(f);
        /* Other errors are the target's, and name the file. */
        if (r == -EBADMSG || r == -EPROTO)
            return err_wrap(r, "chunk file %s/%s", part->path, name);
        return r;
    }
    *ret = f;
    return 0;
}

bool
fragment_is_none(int r)
{
    return r == -ENOENT || r == -EBADMSG || r == -EPROTO;
}

/* Whatever was there is gone, and all of the file is a hole. */
static int
make_empty(struct fragment *f, bool is_new)
{
    int r = is_new ? 0 : object_resize(f->object, 0);

    if (r < 0)
        return r;
    return object_resize(f->object,
                         geometry_file_bytes(f->geometry, f->id.fragment));
}

int
fragment_create(struct target *part, const char *name,
                const struct geometry *g, const struct fragment_id *id,
                struct fragment **ret)
{
    struct fragment *f;
    bool made = true;
    int r;

    r = fragment_new(g, id, &f);
    if (r < 0)
        return r;
    memset(f->table, 0, table_bytes(f));
    f->fresh = f->writable = true;
    r = target_open(part, name, OBJECT_WRITE | OBJECT_CREATE | OBJECT_EXCL,
                    &f->object);
    if (r == -EEXIST) {
        made = false;
        r = target_open(part, name, OBJECT_WRITE, &f->object);
    }
    if (r < 0) {
        f->object = NULL;
        fragment_close(f);
        return r;
    }
    r = make_empty(f, made);
    if (r < 0) {
        char why[256];

        fragment_close(f);
        (void)snprintf(why, sizeof why, "%s", err_text());
        /* A file of the wrong size must not stay behind; if it can't be
         * removed either, verify finds and names it. */
        if (made)
            (void)target_remove(part, name);
        return err_set(r, "%s", why);
    }
    *ret = f;
    return 0;
}

size_t
fragment_memory(const struct fragment *f)
{
    return sizeof *f + table_bytes(f) + dirty_words(f) * 8;
}

static uint8_t *
entry_at(const struct fragment *f, uint32_t row)
{
    assert(row < f->geometry->rows);
    return f->table
        + (size_t)row * geometry_entry_bytes(f->geometry, f->id.fragment);
}

struct cell_entry
fragment_entry(const struct fragment *f, uint32_t row)
{
    const uint8_t *p = entry_at(f, row);
    struct cell_entry entry;

    entry.sum = get_le64(p);
    entry.seq = get_le64(p + 8);
    return entry;
}

uint64_t
fragment_stripe_sum(const struct fragment *f, uint32_t row, uint32_t i)
{
    assert(geometry_is_parity(f->geometry, f->id.fragment));
    assert(i < f->geometry->data_count);
    return get_le64(entry_at(f, row) + DATA_ENTRY_BYTES + (size_t)i * 8);
}

void
fragment_set_entry(struct fragment *f, uint32_t row, struct cell_entry entry,
                   const uint64_t *stripe_sums)
{
    uint8_t *p = entry_at(f, row);
    size_t at = (size_t)(p - f->table);
    size_t bytes = geometry_entry_bytes(f->geometry, f->id.fragment);
    bool parity = geometry_is_parity(f->geometry, f->id.fragment);

    assert(parity == (stripe_sums != NULL));
    /* Where a ragged row has no block there is nothing to store. */
    assert(parity || entry.sum == SUM_ZERO_BLOCK
           || geometry_block_of(f->geometry, f->id.fragment, row)
               != UINT32_MAX);
    put_le64(p, entry.sum);
    put_le64(p + 8, entry.seq);
    if (parity)
        for (uint32_t i = 0; i < f->geometry->data_count; i++)
            put_le64(p + DATA_ENTRY_BYTES + (size_t)i * 8, stripe_sums[i]);
    set_dirty(f, at / PAGE_BYTES);
    set_dirty(f, (at + bytes - 1) / PAGE_BYTES);
}

static void
encode_header(const struct fragment *f, uint64_t seq, uint8_t *bytes)
{
    const struct geometry *g = f->geometry;
    struct fragment_header h = {
        .id = f->id,
        .block_bytes = g->block_bytes,
        .chunk_bytes = g->chunk_bytes,
        .data_count = g->data_count,
        .parity_count = g->parity_count,
        .seq = seq,
        .table_sum = sum_bytes(f->table, table_bytes(f)),
    };

    fragment_header_encode(&h, bytes);
}

/* A page of a fresh file that is all zero is already there, as a hole. */
static bool
must_write(const struct fragment *f, size_t page)
{
    return is_dirty(f, page)
        && !(f->fresh
             && sum_all_zero(f->table + page * PAGE_BYTES, PAGE_BYTES));
}

/* The first run of pages to write at or after `page`; its length, or 0. */
static size_t
next_run(const struct fragment *f, size_t page, size_t *ret_begin)
{
    size_t end;

    while (page < page_count(f) && !must_write(f, page))
        page++;
    end = page;
    while (end < page_count(f) && must_write(f, end))
        end++;
    *ret_begin = page;
    return end - page;
}

int
fragment_store_meta(struct fragment *f, uint64_t seq)
{
    uint8_t header[FRAGMENT_HEADER_BYTES];
    struct iovec iov[2] = {{header, sizeof header}, {NULL, 0}};
    size_t page, run;
    int r;

    encode_header(f, seq, header);
    run = next_run(f, 0, &page);
    if (run > 0 && page == 0) { /* lies behind the header: one write */
        iov[1].iov_base = f->table;
        iov[1].iov_len = run * PAGE_BYTES;
        r = object_writev(f->object, iov, 2, 0);
        run = next_run(f, run, &page);
    } else
        r = object_writev(f->object, iov, 1, 0);
    while (r == 0 && run > 0) {
        r = object_write(f->object, f->table + page * PAGE_BYTES,
                         run * PAGE_BYTES,
                         FRAGMENT_HEADER_BYTES + page * PAGE_BYTES);
        run = next_run(f, page + run, &page);
    }
    if (r < 0)
        return r;
    memset(f->dirty_pages, 0, dirty_words(f) * 8);
    f->seq = seq;
    f->doubtful = false;
    f->fresh = false;
    return 0;
}

int
fragment_await(struct fragment *f)
{
    struct object_stat stat;

    return object_stat(f->object, &stat); /* stands behind the writes */
}

int
fragment_sync(struct fragment *f)
{
    return object_sync(f->object);
}

void
fragment_drop_cache(struct fragment *f)
{
    object_drop_cache(f->object);
}

void
fragment_start_sync(struct fragment *f)
{
    object_start_sync(f->object);
}

uint64_t
fragment_cell_seed(const struct geometry *g, const struct fragment_id *id,
                   uint32_t row)
{
    uint64_t cell;

    assert(row < g->rows);
    if (geometry_is_parity(g, id->fragment))
        cell = UINT64_C(1) << 63
            | (uint64_t)(id->fragment - g->data_count) << 32 | row;
    else if (g->is_ec)
        cell = (uint64_t)row * g->data_count + id->fragment;
    else
        cell = row;
    return sum_seed(&id->volume, id->chunk, cell);
}

uint64_t
fragment_sum_cell(const struct geometry *g, const struct fragment_id *id,
                  uint32_t row, const uint64_t *stripe_sums,
                  const void *bytes)
{
    uint64_t seed = fragment_cell_seed(g, id, row);
    uint8_t sums[EC_DATA_MAX * 8];

    if (geometry_is_parity(g, id->fragment)) {
        for (uint32_t i = 0; i < g->data_count; i++)
            put_le64(sums + (size_t)i * 8, stripe_sums[i]);
        seed = sum_block(seed, sums, (size_t)g->data_count * 8);
    }
    return sum_block(seed, bytes, g->block_bytes);
}
