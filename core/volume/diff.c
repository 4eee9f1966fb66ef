/* diff.c: see diff.h. */
#include "volume/diff.h"
#include "base/err.h"
#include "volume/find.h"
#include "volume/parent.h"
#include <stdio.h>
#include <string.h>

#define WINDOW_BLOCKS 1024u

/* ---- what is compared ---- */

static struct lsvd_volume *
find_in_chain(struct lsvd_volume *top, const struct uuid *uuid)
{
    while (top && !uuid_equal(&top->meta.uuid, uuid))
        top = top->parent;
    return top;
}

/* Bytes of the common ancestor that come to light at the top. */
static uint64_t
shown(const struct diff_side *side)
{
    const struct lsvd_volume *layer = side->top;
    uint64_t bytes = layer->g.volume_bytes;

    for (; layer != side->common; layer = layer->parent) {
        if (bytes > layer->meta.overlap_bytes)
            bytes = layer->meta.overlap_bytes;
    }
    return bytes < layer->g.volume_bytes ? bytes : layer->g.volume_bytes;
}

static int
open_one(const struct lsvd_env *env, const char *name,
         struct lsvd_volume **ret)
{
    int r = volume_open(env, name, LSVD_OPEN_READ_ONLY | OPEN_PARENT, ret);

    if (r == 0)
        opening_ends(*ret);
    return r;
}

/* Which volume is FROM? */
static int
find_from(struct lsvd_volume *v, const char *name, struct uuid *ret)
{
    struct volume_meta meta;
    bool stays;
    int r = volume_find(v->io, &v->log, &v->config, name, &meta, NULL);

    if (r < 0)
        return r;
    *ret = meta.uuid;
    stays = meta.read_only && !meta.removing && !meta_is_unborn_name(name);
    meta_done(&meta);
    return stays ? 0 : err_set(-EINVAL, "volume %s is no snapshot: what it "
                               "held before is not known", name);
}

/* The nearest that both have in their chains. */
static int
find_common(struct diff *d, const char *from, const char *to)
{
    for (struct lsvd_volume *p = d->from.top; p; p = p->parent) {
        struct lsvd_volume *same = find_in_chain(d->to.top, &p->meta.uuid);

        if (!same)
            continue;
        d->from.common = p;
        d->to.common = same;
        d->from.shows = shown(&d->from);
        d->to.shows = shown(&d->to);
        return 0;
    }
    return err_set(-EINVAL, "%s and %s have no common origin: what differs "
                   "can't be told without reading both", from, to);
}

static int
open_from(struct diff *d, const struct lsvd_env *env, const char *from,
          const char *to)
{
    struct uuid uuid;
    int r = find_from(d->to.top, from, &uuid);

    if (r < 0)
        return r;
    d->from.top = find_in_chain(d->to.top, &uuid);
    d->owns_from = !d->from.top;
    if (d->owns_from)
        r = open_one(env, from, &d->from.top);
    if (r == 0 && d->from.top->g.block_bytes != d->to.top->g.block_bytes)
        r = err_set(-EINVAL, "%s and %s have blocks of different sizes", from,
                    to);
    return r < 0 ? r : find_common(d, from, to);
}

int
diff_open(const struct lsvd_env *env, const char *from, const char *to,
          struct diff *ret)
{
    int r;

    *ret = (struct diff){0};
    if (meta_is_unborn_name(to))
        return err_set(-EINVAL, "volume %s: it is left by a snapshot that was "
                       "cut short", to);
    r = open_one(env, to, &ret->to.top);
    if (r == 0 && from)
        r = open_from(ret, env, from, to);
    if (r < 0)
        diff_close(ret);
    return r;
}

void
diff_close(struct diff *d)
{
    char text[512];

    snprintf(text, sizeof text, "%s", err_text());
    if (d->owns_from && d->from.top)
        (void)lsvd_close(d->from.top);
    if (d->to.top)
        (void)lsvd_close(d->to.top);
    *d = (struct diff){0};
    (void)err_set(-EIO, "%s", text);
}

/* ---- some blocks of it ---- */

enum change { SAME, CHANGED, ZERO, DATA }; /* CHANGED: not known to what */

struct window {
    const struct diff *d;
    uint64_t first;
    uint32_t count;
    bool is_same; /* all of it: nothing needs to be looked at one by one */
    uint8_t is[WINDOW_BLOCKS]; /* enum change */
};

static uint64_t
block_bytes(const struct window *w)
{
    return w->d->to.top->g.block_bytes;
}

static void
set_blocks(struct window *w, uint64_t first, uint64_t count, enum change is)
{
    memset(w->is + (first - w->first), is, (size_t)count);
}

static int
note_own(void *ctx, uint64_t first, uint64_t count, enum own is)
{
    struct window *w = ctx;

    if (is == OWN_ABSENT)
        return 0;
    set_blocks(w, first, count, CHANGED);
    w->is_same = false;
    return 0;
}

/* So many of the blocks have a byte before that. */
static uint64_t
blocks_before(const struct window *w, uint64_t limit)
{
    uint64_t end = (limit + block_bytes(w) - 1) / block_bytes(w);

    if (w->first >= end)
        return 0;
    return w->count < end - w->first ? w->count : end - w->first;
}

/* DI1: what the layers above the common one say, as far as it can be seen. */
static int
note_layers(struct window *w, const struct diff_side *side)
{
    struct lsvd_volume *above = NULL, *layer = side->top;
    uint64_t limit = layer->g.volume_bytes;
    int r = 0;

    while (layer != side->common && r == 0) {
        uint64_t n = blocks_before(w, limit);

        if (n == 0)
            return 0;
        r = above ? parent_own(above, w->first, n, note_own, w)
                  : volume_own(layer, w->first, n, note_own, w);
        if (limit > layer->meta.overlap_bytes)
            limit = layer->meta.overlap_bytes;
        above = layer;
        layer = layer->parent;
    }
    return r;
}

static uint64_t
clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* Do both sides show as much of the common one between these bytes? */
static bool
show_alike(const struct diff *d, uint64_t begin, uint64_t end)
{
    end = clamp(end, 0, d->to.top->g.volume_bytes);
    return clamp(d->to.shows, begin, end) == clamp(d->from.shows, begin, end);
}

/* DI2. */
static void
note_hidden(struct window *w)
{
    uint64_t bytes = block_bytes(w), begin = w->first * bytes;

    if (show_alike(w->d, begin, begin + w->count * bytes))
        return;
    w->is_same = false;
    for (uint32_t i = 0; i < w->count; i++, begin += bytes) {
        if (!show_alike(w->d, begin, begin + bytes))
            w->is[i] = CHANGED;
    }
}

/* How TO reads, of what may differ. */
static int
note_to(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct window *w = ctx;
    uint64_t bytes = block_bytes(w);

    set_blocks(w, offset / bytes, (count + bytes - 1) / bytes,
               is_data ? DATA : ZERO);
    return 0;
}

/* How FROM reads, where TO reads as zeroes. */
static int
note_from(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    struct window *w = ctx;
    uint64_t bytes = block_bytes(w);

    if (!is_data)
        set_blocks(w, offset / bytes, (count + bytes - 1) / bytes, SAME);
    return 0;
}

/* Ask a volume about a run of blocks; what lies behind its end is zeroes. */
static int
ask(struct window *w, struct lsvd_volume *v, uint32_t at, uint32_t count,
    int (*note_it)(void *ctx, uint64_t offset, uint64_t count, bool is_data))
{
    uint64_t offset = (w->first + at) * block_bytes(w);
    uint64_t bytes = count * block_bytes(w), have = 0;
    struct lease lease;
    int r = 0;

    if (v && offset < v->g.volume_bytes)
        have = clamp(bytes, 0, v->g.volume_bytes - offset);
    if (have > 0) {
        lease_get(&v->leases, &lease, w->first + at, w->first + at + count,
                  false); /* SN4 */
        r = lsvd_extents(v, have, offset, note_it, w);
        lease_put(&v->leases, &lease);
    }
    have = (have + block_bytes(w) - 1) / block_bytes(w);
    if (r == 0 && have < count)
        r = note_it(w, offset + have * block_bytes(w),
                    (count - have) * block_bytes(w), false);
    return r;
}

/* The same of each run of blocks that are what is given. */
static int
ask_where(struct window *w, enum change is, struct lsvd_volume *v,
          int (*note_it)(void *ctx, uint64_t offset, uint64_t count,
                         bool is_data))
{
    int r = 0;

    for (uint32_t i = 0, run; i < w->count && r == 0; i += run) {
        bool wanted = w->is[i] == is;

        for (run = 1; i + run < w->count && (w->is[i + run] == is) == wanted;
             run++)
            ;
        if (wanted)
            r = ask(w, v, i, run, note_it);
    }
    return r;
}

static int
look(struct window *w)
{
    const struct diff *d = w->d;
    int r = 0;

    w->is_same = d->from.top;
    memset(w->is, w->is_same ? SAME : CHANGED, sizeof w->is);
    if (d->from.top) {
        note_hidden(w);
        r = note_layers(w, &d->to);
        if (r == 0)
            r = note_layers(w, &d->from);
    }
    if (r < 0 || w->is_same)
        return r;
    r = ask_where(w, CHANGED, d->to.top, note_to);
    return r == 0 ? ask_where(w, ZERO, d->from.top, note_from) : r;
}

/* ---- all of it ---- */

/* A run that is not told yet: the next window may go on with it. */
struct telling {
    struct lsvd_change run; /* of 0 bytes: none */
    int (*cb)(void *ctx, const struct lsvd_change *change);
    void *ctx;
};

static int
tell_run(struct telling *t)
{
    struct lsvd_change run = t->run;

    t->run.count = 0;
    return run.count > 0 ? t->cb(t->ctx, &run) : 0;
}

static int
tell(struct telling *t, uint64_t offset, uint64_t count, bool is_data)
{
    int r;

    if (t->run.count > 0 && t->run.offset + t->run.count == offset &&
        t->run.is_data == is_data) {
        t->run.count += count;
        return 0;
    }
    r = tell_run(t);
    t->run = (struct lsvd_change){offset, count, is_data};
    return r;
}

static int
tell_window(struct telling *t, const struct window *w)
{
    uint64_t size = w->d->to.top->g.volume_bytes, bytes = block_bytes(w);
    int r = 0;

    for (uint32_t i = 0; i < w->count && !w->is_same && r == 0; i++) {
        uint64_t offset = (w->first + i) * bytes;

        if (w->is[i] == ZERO || w->is[i] == DATA)
            r = tell(t, offset, clamp(bytes, 0, size - offset),
                     w->is[i] == DATA);
    }
    return r;
}

int
diff_each(const struct diff *d, uint64_t offset,
          int (*cb)(void *ctx, const struct lsvd_change *change), void *ctx)
{
    uint64_t blocks = geometry_block_count(&d->to.top->g);
    struct telling t = {.cb = cb, .ctx = ctx};
    struct window w = {.d = d, .first = offset / d->to.top->g.block_bytes};
    int r = 0;

    for (; w.first < blocks && r == 0; w.first += w.count) {
        w.count = blocks - w.first < WINDOW_BLOCKS
                      ? (uint32_t)(blocks - w.first)
                      : WINDOW_BLOCKS;
        r = volume_check_hurried(d->to.top);
        if (r == 0)
            r = look(&w);
        if (r == 0)
            r = tell_window(&t, &w);
    }
    return r == 0 ? tell_run(&t) : r;
}

int
lsvd_diff(const struct lsvd_env *env, const char *from, const char *to,
          int (*cb)(void *ctx, const struct lsvd_change *change), void *ctx)
{
    struct diff d;
    int r = diff_open(env, from, to, &d);

    if (r < 0)
        return r;
    r = diff_each(&d, 0, cb, ctx);
    diff_close(&d);
    return r;
}

/* ---- beside requests ---- */

/* Of those before it alone: no other volume is opened in a server for this. */
static int
start_from(struct diff *d, struct lsvd_volume *v, const char *from)
{
    struct uuid uuid;
    int r = find_from(v, from, &uuid);

    if (r < 0)
        return r;
    *d = (struct diff){.to.top = v, .from.top = find_in_chain(v, &uuid)};
    if (d->from.top && d->from.top != v)
        return find_common(d, from, v->meta.name);
    return err_set(-EXDEV, "volume %s, which is served, does not go on from "
                   "%s: make a snapshot of it, and name that", v->meta.name,
                   from);
}

int
lsvd_live_diff(struct lsvd_volume *v, const char *from, uint64_t offset,
               int (*cb)(void *ctx, const struct lsvd_change *change),
               void *ctx)
{
    struct lease chain;
    struct diff d;
    int r = volume_check_awake(v);

    if (r < 0)
        return r;
    lease_get(&v->chain, &chain, 0, 1, false); /* its parents stay */
    r = start_from(&d, v, from);
    if (r == 0)
        r = diff_each(&d, offset, cb, ctx);
    lease_put(&v->chain, &chain);
    return r;
}
