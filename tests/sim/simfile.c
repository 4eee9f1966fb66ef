/* simfile.c: see simfile.h. Memory that runs out ends the program: the
 * simulator itself is not under test. */
#include "simfile.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *
must(void *p)
{
    if (!p)
        abort();
    return p;
}

static void
page_put(struct sim_page *page)
{
    if (page && --page->refs == 0)
        free(page);
}

static struct sim_page *
page_get(struct sim_page *page)
{
    if (page)
        page->refs++;
    return page;
}

static void
map_reserve(struct sim_map *m, size_t pages)
{
    size_t room = m->count ? m->count : 16;

    if (pages <= m->count)
        return;
    while (room < pages)
        room *= 2;
    m->page = must(realloc(m->page, room * sizeof *m->page));
    memset(m->page + m->count, 0, (room - m->count) * sizeof *m->page);
    m->count = room;
}

static void
map_done(struct sim_map *m)
{
    for (size_t i = 0; i < m->count; i++)
        page_put(m->page[i]);
    free(m->page);
    *m = (struct sim_map){0};
}

static void
map_clone(const struct sim_map *from, struct sim_map *ret)
{
    *ret = (struct sim_map){.count = from->count,
                            .size_bytes = from->size_bytes};
    if (from->count == 0)
        return;
    ret->page = must(malloc(from->count * sizeof *ret->page));
    for (size_t i = 0; i < from->count; i++)
        ret->page[i] = page_get(from->page[i]);
}

/* The page for writing: ours alone. */
static uint8_t *
map_page(struct sim_map *m, size_t index)
{
    struct sim_page *old, *page;

    map_reserve(m, index + 1);
    old = m->page[index];
    if (old && old->refs == 1)
        return old->bytes;
    page = must(malloc(sizeof *page));
    page->refs = 1;
    if (old)
        memcpy(page->bytes, old->bytes, SIM_PAGE_BYTES);
    else
        memset(page->bytes, 0, SIM_PAGE_BYTES);
    page_put(old);
    m->page[index] = page;
    return page->bytes;
}

static void
map_write(struct sim_map *m, uint64_t at, const uint8_t *data, uint64_t bytes)
{
    if (bytes > 0 && at + bytes > m->size_bytes)
        m->size_bytes = at + bytes;
    while (bytes > 0) {
        uint64_t in = at % SIM_PAGE_BYTES;
        uint64_t n = SIM_PAGE_BYTES - in;

        if (n > bytes)
            n = bytes;
        memcpy(map_page(m, at / SIM_PAGE_BYTES) + in, data, n);
        at += n;
        data += n;
        bytes -= n;
    }
}

/* Zeroes; whole pages become holes. Does not change the size. */
static void
map_punch(struct sim_map *m, uint64_t at, uint64_t bytes)
{
    uint64_t end = (uint64_t)m->count * SIM_PAGE_BYTES;

    if (at >= end)
        return;
    if (bytes > end - at)
        bytes = end - at;
    while (bytes > 0) {
        uint64_t in = at % SIM_PAGE_BYTES;
        uint64_t n = SIM_PAGE_BYTES - in;
        size_t index = at / SIM_PAGE_BYTES;

        if (n > bytes)
            n = bytes;
        if (n == SIM_PAGE_BYTES) {
            page_put(m->page[index]);
            m->page[index] = NULL;
        } else if (m->page[index]) {
            memset(map_page(m, index) + in, 0, n);
        }
        at += n;
        bytes -= n;
    }
}

static void
map_resize(struct sim_map *m, uint64_t bytes)
{
    if (bytes < m->size_bytes)
        map_punch(m, bytes, m->size_bytes - bytes);
    m->size_bytes = bytes;
}

static void
map_apply(struct sim_map *m, const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_WRITE:
        map_write(m, op->at, op->data, op->bytes);
        break;
    case SIM_PUNCH:
        map_punch(m, op->at, op->bytes);
        break;
    case SIM_RESIZE:
        map_resize(m, op->bytes);
        break;
    }
}

uint64_t
sim_map_allocated(const struct sim_map *map)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < map->count; i++) {
        if (map->page[i])
            bytes += SIM_PAGE_BYTES;
    }
    return bytes;
}

static void
pending_clear(struct sim_file *f)
{
    for (size_t i = 0; i < f->pending_count; i++)
        free(f->pending[i].data);
    f->pending_count = 0;
}

static struct sim_op *
pending_add(struct sim_file *f, enum sim_op_kind kind, uint64_t serial,
            uint64_t at, uint64_t bytes)
{
    struct sim_op *op;

    if (f->pending_count == f->pending_room) {
        f->pending_room = f->pending_room ? f->pending_room * 2 : 8;
        f->pending = must(
            realloc(f->pending, f->pending_room * sizeof *f->pending));
    }
    op = &f->pending[f->pending_count++];
    *op = (struct sim_op){
        .kind = kind, .serial = serial, .at = at, .bytes = bytes};
    return op;
}

void
sim_file_done(struct sim_file *f)
{
    pending_clear(f);
    free(f->pending);
    map_done(&f->now);
    map_done(&f->medium);
    *f = (struct sim_file){0};
}

void
sim_file_clone(const struct sim_file *from, struct sim_file *ret)
{
    *ret = (struct sim_file){.diverged = from->diverged};
    map_clone(&from->now, &ret->now);
    map_clone(&from->medium, &ret->medium);
    for (size_t i = 0; i < from->pending_count; i++) {
        const struct sim_op *old = &from->pending[i];
        struct sim_op *op =
            pending_add(ret, old->kind, old->serial, old->at, old->bytes);

        if (old->data) {
            op->data = must(malloc(old->bytes));
            memcpy(op->data, old->data, old->bytes);
        }
    }
}

void
sim_file_write(struct sim_file *f, uint64_t serial, uint64_t at,
               const void *data, uint64_t bytes)
{
    struct sim_op *op;

    if (bytes == 0)
        return;
    op = pending_add(f, SIM_WRITE, serial, at, bytes);
    op->data = must(malloc(bytes));
    memcpy(op->data, data, bytes);
    map_apply(&f->now, op);
}

void
sim_file_punch(struct sim_file *f, uint64_t serial, uint64_t at,
               uint64_t bytes)
{
    if (bytes > 0)
        map_apply(&f->now, pending_add(f, SIM_PUNCH, serial, at, bytes));
}

void
sim_file_resize(struct sim_file *f, uint64_t serial, uint64_t bytes)
{
    map_apply(&f->now, pending_add(f, SIM_RESIZE, serial, 0, bytes));
}

void
sim_file_read(const struct sim_file *f, uint64_t at, void *to, uint64_t bytes)
{
    uint8_t *out = to;

    assert(at <= f->now.size_bytes);
    assert(bytes <= f->now.size_bytes - at);
    while (bytes > 0) {
        uint64_t in = at % SIM_PAGE_BYTES;
        uint64_t n = SIM_PAGE_BYTES - in;
        size_t index = at / SIM_PAGE_BYTES;

        if (n > bytes)
            n = bytes;
        if (index < f->now.count && f->now.page[index])
            memcpy(out, f->now.page[index]->bytes + in, n);
        else
            memset(out, 0, n);
        out += n;
        at += n;
        bytes -= n;
    }
}

/* The pages an operation touched, by pointer: cheap, and right as long as
 * now = medium + pending (F1). */
static void
share_pages(struct sim_file *f, uint64_t first, uint64_t end)
{
    if (end > f->now.count)
        end = f->now.count;
    if (first >= end)
        return;
    map_reserve(&f->medium, end);
    for (uint64_t i = first; i < end; i++) {
        if (f->medium.page[i] == f->now.page[i])
            continue;
        page_put(f->medium.page[i]);
        f->medium.page[i] = page_get(f->now.page[i]);
    }
}

void
sim_file_sync(struct sim_file *f)
{
    for (size_t i = 0; i < f->pending_count; i++) {
        const struct sim_op *op = &f->pending[i];

        if (f->diverged)
            map_apply(&f->medium, op);
        else if (op->kind == SIM_RESIZE)
            share_pages(f, op->bytes / SIM_PAGE_BYTES, f->now.count);
        else
            share_pages(f, op->at / SIM_PAGE_BYTES,
                        (op->at + op->bytes - 1) / SIM_PAGE_BYTES + 1);
    }
    if (!f->diverged)
        f->medium.size_bytes = f->now.size_bytes;
    pending_clear(f);
}

bool
sim_cut_keeps(const struct sim_cut *cut, uint64_t serial)
{
    switch (cut->keep) {
    case SIM_KEEP_NONE:
        return false;
    case SIM_KEEP_ALL:
        return true;
    case SIM_KEEP_PREFIX:
        return serial < cut->serial_limit;
    case SIM_KEEP_PIECES:
    case SIM_KEEP_OPS:
        return prng_below(cut->prng, 16) < cut->keep_of_16;
    case SIM_KEEP_KINDS:
        break;
    }
    abort();
}

/* One write or punch, piece by piece. The new size may be kept although the
 * bytes are lost: then they read as zeroes. */
static void
apply_some(struct sim_map *m, const struct sim_op *op,
           const struct sim_cut *cut)
{
    uint64_t done = 0;
    bool whole = cut->keep == SIM_KEEP_OPS ? sim_cut_keeps(cut, op->serial)
                                           : true;

    if (!whole)
        return;
    if (op->kind == SIM_WRITE && op->at + op->bytes > m->size_bytes &&
        sim_cut_keeps(cut, op->serial))
        m->size_bytes = op->at + op->bytes;
    while (done < op->bytes) {
        uint64_t at = op->at + done;
        uint64_t n = cut->piece_bytes - at % cut->piece_bytes;

        if (n > op->bytes - done)
            n = op->bytes - done;
        if (cut->keep == SIM_KEEP_OPS || sim_cut_keeps(cut, op->serial)) {
            if (op->kind == SIM_WRITE)
                map_write(m, at, op->data + done, n);
            else
                map_punch(m, at, n);
        }
        done += n;
    }
}

static void
apply_pending(struct sim_file *f, const struct sim_cut *cut)
{
    for (size_t i = 0; i < f->pending_count; i++) {
        const struct sim_op *op = &f->pending[i];

        if (op->kind != SIM_RESIZE)
            apply_some(&f->medium, op, cut);
        else if (sim_cut_keeps(cut, op->serial))
            map_apply(&f->medium, op);
    }
    pending_clear(f);
}

void
sim_file_sync_failed(struct sim_file *f, const struct sim_cut *cut)
{
    if (f->pending_count == 0)
        return;
    apply_pending(f, cut);
    f->diverged = true;
}

void
sim_file_drop_cache(struct sim_file *f)
{
    if (!f->diverged)
        return;
    map_done(&f->now);
    map_clone(&f->medium, &f->now);
    for (size_t i = 0; i < f->pending_count; i++)
        map_apply(&f->now, &f->pending[i]);
    f->diverged = false;
}

void
sim_file_power_cut(struct sim_file *f, const struct sim_cut *cut)
{
    if (f->pending_count == 0 && !f->diverged)
        return;
    apply_pending(f, cut);
    map_done(&f->now);
    map_clone(&f->medium, &f->now);
    f->diverged = false;
}

void
sim_file_flip(struct sim_file *f, uint64_t at, uint8_t mask)
{
    assert(at < f->now.size_bytes);
    map_page(&f->now, at / SIM_PAGE_BYTES)[at % SIM_PAGE_BYTES] ^= mask;
    if (at < f->medium.size_bytes)
        map_page(&f->medium, at / SIM_PAGE_BYTES)[at % SIM_PAGE_BYTES] ^=
            mask;
}
