/* chunks.c: chunks with their open fragments, the least recently used closed
 * when descriptors (of all volumes of the process) or memory run over their
 * bounds.
 *
 * A fragment's state on a part, and who changes it:
 *   UNKNOWN -> LOADING -> OK | MISSING | STALE | CORRUPT
 *                                       chunk_fragment (first user loads,
 *                                       the others wait)
 *   LOADING -> UNKNOWN                  the medium refused (ERROR), or the
 *                                       part was let go (AWAY)
 *   any -> UNKNOWN                      chunk_forget_fragments (exclusive
 *                                       lease), eviction (no pins), the part
 *                                       is let go (chunks_forget_part) */
#include "volume/bypass.h"
#include "volume/read_cache.h"
#include "volume/refer.h"
#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_FILES_DEFAULT 512
#define OPEN_MEMORY_MAX (64u << 20)
#define ANCESTOR_MEMORY_MAX (8u << 20)
#define CHUNKS_MIN 8 /* that a volume keeps, however many others have open */

/* By the process, as descriptors are. */
static atomic_size_t open_files, open_files_max = OPEN_FILES_DEFAULT;

void
lsvd_limit_files(size_t max)
{
    atomic_store(&open_files_max, max);
}

size_t
chunks_open_max(const struct lsvd_volume *v)
{
    return atomic_load(&open_files_max) / v->g.part_count;
}

void
chunks_keep_few(struct lsvd_volume *v)
{
    atomic_store(&v->chunks.memory_max, ANCESTOR_MEMORY_MAX);
}

int
chunk_store_init(struct lsvd_volume *v)
{
    struct chunk_store *s = &v->chunks;

    s->bucket_count = 1024;
    if (atomic_load(&s->memory_max) == 0)
        atomic_store(&s->memory_max, OPEN_MEMORY_MAX);
    return mem_new(s->bucket_count, sizeof(struct chunk *), &s->bucket);
}

void
chunk_count_fragment(struct lsvd_volume *v, const struct fragment *f)
{
    if (!f)
        return;
    atomic_fetch_add(&v->chunks.memory, fragment_memory(f));
    atomic_fetch_add(&open_files, 1);
}

static void
chunk_free(struct lsvd_volume *v, struct chunk *c)
{
    chunk_forget_fragments(v, c);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c);
}

void
chunk_store_done(struct lsvd_volume *v)
{
    struct chunk *c = v->chunks.oldest, *next;

    for (; c; c = next) {
        next = c->newer;
        assert(c->pins == 0);
        chunk_free(v, c);
    }
    free(v->chunks.bucket);
    v->chunks.bucket = NULL;
    v->chunks.newest = v->chunks.oldest = NULL;
    v->chunks.count = 0;
}

static struct chunk **
bucket_of(struct chunk_store *s, uint64_t number)
{
    return &s->bucket[(number * UINT64_C(0x9e3779b97f4a7c15) >> 32) %
                      s->bucket_count];
}

static void
order_remove(struct chunk_store *s, struct chunk *c)
{
    if (c->newer)
        c->newer->older = c->older;
    else
        s->newest = c->older;
    if (c->older)
        c->older->newer = c->newer;
    else
        s->oldest = c->newer;
    c->newer = c->older = NULL;
}

static void
order_add(struct chunk_store *s, struct chunk *c)
{
    c->older = s->newest;
    c->newer = NULL;
    if (s->newest)
        s->newest->newer = c;
    else
        s->oldest = c;
    s->newest = c;
}

static bool
is_over_bounds(const struct lsvd_volume *v)
{
    const struct chunk_store *s = &v->chunks;
    size_t max = atomic_load(&open_files_max);

    return s->count > CHUNKS_MIN &&
           (s->count >= max || atomic_load(&open_files) >= max ||
            atomic_load(&s->memory) >= atomic_load(&s->memory_max) +
                                           read_cache_table_bytes(v));
}

/* Take the oldest unpinned chunk out, if the store is over its bounds. */
static struct chunk *
evict_one(struct lsvd_volume *v)
{
    struct chunk_store *s = &v->chunks;
    struct chunk *c = s->oldest;
    struct chunk **at;

    if (!is_over_bounds(v))
        return NULL;
    while (c && c->pins > 0)
        c = c->newer;
    if (!c)
        return NULL;
    for (at = bucket_of(s, c->number); *at != c; at = &(*at)->next_in_hash)
        ;
    *at = c->next_in_hash;
    order_remove(s, c);
    s->count--;
    return c;
}

static struct chunk *
find_and_pin(struct chunk_store *s, uint64_t number)
{
    struct chunk *c = *bucket_of(s, number);

    while (c && c->number != number)
        c = c->next_in_hash;
    if (!c)
        return NULL;
    c->pins++;
    order_remove(s, c);
    order_add(s, c);
    return c;
}

int
chunk_get(struct lsvd_volume *v, uint64_t number, struct chunk **ret)
{
    struct chunk_store *s = &v->chunks;
    struct chunk *c, *fresh, *victim;
    int r;

    assert(number >= 1);
    assert(number <= geometry_chunk_count(&v->g));
    pthread_mutex_lock(&s->lock);
    c = find_and_pin(s, number);
    pthread_mutex_unlock(&s->lock);
    if (c) {
        *ret = c;
        return 0;
    }
    r = mem_new(1, sizeof *fresh, &fresh);
    if (r < 0)
        return r;
    fresh->number = number;
    fresh->pins = 1;
    pthread_mutex_init(&fresh->lock, NULL);
    pthread_cond_init(&fresh->changed, NULL);

    pthread_mutex_lock(&s->lock);
    c = find_and_pin(s, number); /* somebody else was faster? */
    victim = c ? NULL : evict_one(v);
    if (!c) {
        struct chunk **bucket = bucket_of(s, number);

        fresh->next_in_hash = *bucket;
        *bucket = fresh;
        order_add(s, fresh);
        s->count++;
    }
    pthread_mutex_unlock(&s->lock);
    if (c)
        chunk_free(v, fresh);
    if (victim)
        chunk_free(v, victim);
    *ret = c ? c : fresh;
    return 0;
}

void
chunk_put(struct lsvd_volume *v, struct chunk *c)
{
    pthread_mutex_lock(&v->chunks.lock);
    assert(c->pins > 0);
    c->pins--;
    pthread_mutex_unlock(&v->chunks.lock);
}

/* A part that can't be written any more, as one whose file system became
 * read-only, can be read (R7). */
static int
open_file(struct lsvd_volume *v, uint32_t slot, const struct fragment_id *id,
          bool to_write, struct fragment **ret)
{
    struct target *dir = v->part[slot].dir;
    int r = fragment_open(dir, &v->g, id, v->exclusive, ret);

    if (!to_write && v->exclusive &&
        (r == -EROFS || r == -EACCES || r == -EPERM || r == -EIO))
        r = fragment_open(dir, &v->g, id, false, ret);
    return r;
}

/* Nothing was promised of the files of a chunk that no table knows yet. */
static void
note_bad_file(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
              const char *what)
{
    if (!bypass_is_open(v, c->number))
        volume_note_bad(v, c, slot, UINT32_MAX, what);
}

/* The part stays what it is while its lease is held (V6). */
static enum fragment_state
load_leased(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
            bool to_write, struct fragment **ret)
{
    struct part *p = &v->part[slot];
    struct fragment_id id = {.volume = v->meta.uuid,
                             .chunk = c->number,
                             .fragment = slot};
    struct chunk_entry truth;
    int r;

    *ret = NULL;
    if (!p->dir)
        return FRAGMENT_AWAY;
    id.instance = p->label.instance;
    truth = chunk_truth(v, c->number);
    if (truth.state != CHUNK_PRESENT)
        return FRAGMENT_MISSING;
    r = open_file(v, slot, &id, to_write, ret);
    if (r == -ENOENT) {
        part_missed(v, slot);
        note_bad_file(v, c, slot, "the file is missing");
        return FRAGMENT_MISSING;
    }
    if (r == -EBADMSG || r == -EPROTO) {
        note_bad_file(v, c, slot, err_text());
        return FRAGMENT_CORRUPT;
    }
    if (r < 0) { /* no memory, a bad sector: says nothing about the file */
        part_complain(v, slot, "part %c: %s", p->letter, err_text());
        part_suspect(v, slot, r);
        return is_part_trouble(r) ? FRAGMENT_REFUSED : FRAGMENT_ERROR;
    }
    if ((*ret)->seq < truth.seq) {
        fragment_close(*ret);
        *ret = NULL;
        note_bad_file(v, c, slot,
                      "the file is older than the chunk table says");
        return FRAGMENT_STALE;
    }
    return FRAGMENT_OK;
}

static enum fragment_state
fragment_load(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
              bool to_write, struct fragment **ret)
{
    enum fragment_state state = FRAGMENT_AWAY;
    struct lease lease;

    *ret = NULL;
    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    if (to_write || (atomic_load(&v->usable) & UINT32_C(1) << slot))
        state = load_leased(v, c, slot, to_write, ret);
    lease_put(&v->part_leases, &lease);
    return state;
}

/* Is it known whether there is a file that can be used? */
static bool
is_judged(enum fragment_state state)
{
    return state == FRAGMENT_OK || state == FRAGMENT_MISSING ||
           state == FRAGMENT_STALE || state == FRAGMENT_CORRUPT;
}

static struct fragment *
fragment_get(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
             bool to_write, enum fragment_state *ret)
{
    enum fragment_state state;
    struct fragment *f;

    pthread_mutex_lock(&c->lock);
    while (c->state[slot] == FRAGMENT_LOADING)
        pthread_cond_wait(&c->changed, &c->lock);
    state = c->state[slot];
    f = c->fragment[slot];
    if (state == FRAGMENT_UNKNOWN)
        c->state[slot] = FRAGMENT_LOADING;
    pthread_mutex_unlock(&c->lock);
    if (state == FRAGMENT_UNKNOWN) {
        state = fragment_load(v, c, slot, to_write, &f);
        chunk_count_fragment(v, f);
        pthread_mutex_lock(&c->lock);
        c->state[slot] = is_judged(state) ? state : FRAGMENT_UNKNOWN;
        c->fragment[slot] = f;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
    }
    if (ret)
        *ret = state;
    return f;
}

struct fragment *
chunk_fragment(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
               enum fragment_state *ret)
{
    if (atomic_load(&v->usable) & UINT32_C(1) << slot)
        return fragment_get(v, c, slot, false, ret);
    if (ret)
        *ret = FRAGMENT_AWAY;
    return NULL;
}

int
chunk_files_answer(struct lsvd_volume *v, struct chunk *c)
{
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        enum fragment_state state;

        (void)chunk_fragment(v, c, i, &state);
        if (state == FRAGMENT_ERROR)
            return err_set(-ENOMEM, "chunk %llu: its file on part %c can't be "
                           "opened", (unsigned long long)c->number,
                           v->part[i].letter);
        if (state == FRAGMENT_REFUSED)
            r = part_failed(v, i, err_set(-EIO, "part %c: its file of chunk "
                                          "%llu can't be opened; take it away "
                                          "if that will not change",
                                          v->part[i].letter,
                                          (unsigned long long)c->number));
    }
    return r;
}

struct fragment *
chunk_fragment_to_write(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
                        enum fragment_state *ret)
{
    struct fragment *f = fragment_get(v, c, slot, true, ret);

    if (!f || f->writable)
        return f;
    chunk_forget_fragment(v, c, slot); /* a reader has opened it */
    return fragment_get(v, c, slot, true, ret);
}

void
chunk_forget_fragment(struct lsvd_volume *v, struct chunk *c, uint32_t slot)
{
    struct fragment *f;

    pthread_mutex_lock(&c->lock);
    while (c->state[slot] == FRAGMENT_LOADING)
        pthread_cond_wait(&c->changed, &c->lock);
    f = c->fragment[slot];
    c->fragment[slot] = NULL;
    c->state[slot] = FRAGMENT_UNKNOWN;
    pthread_mutex_unlock(&c->lock);
    if (f) {
        atomic_fetch_sub(&v->chunks.memory, fragment_memory(f));
        atomic_fetch_sub(&open_files, 1);
    }
    fragment_close(f);
}

void
chunk_forget_fragments(struct lsvd_volume *v, struct chunk *c)
{
    for (uint32_t i = 0; i < PARTS_MAX; i++)
        chunk_forget_fragment(v, c, i);
    chunk_forget_references(v, c);
}

void
chunk_read_anew(struct lsvd_volume *v, struct chunk *c)
{
    char name[24];

    chunk_forget_fragments(v, c);
    fragment_name(c->number, name);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->usable & UINT32_C(1) << i)
            target_read_anew(v->part[i].dir, name);
    }
}

/* The next chunk of the store that has something of the part open, pinned. */
static struct chunk *
pin_one_with(struct chunk_store *s, uint32_t slot)
{
    struct chunk *c;

    pthread_mutex_lock(&s->lock);
    for (c = s->oldest; c; c = c->newer) {
        bool has;

        pthread_mutex_lock(&c->lock);
        has = c->state[slot] != FRAGMENT_UNKNOWN;
        pthread_mutex_unlock(&c->lock);
        if (has)
            break;
    }
    if (c)
        c->pins++;
    pthread_mutex_unlock(&s->lock);
    return c;
}

void
chunks_forget_part(struct lsvd_volume *v, uint32_t slot)
{
    struct chunk *c;

    while ((c = pin_one_with(&v->chunks, slot)) != NULL) {
        struct lease lease;

        lease_get(&v->chunk_leases, &lease, c->number, c->number + 1, true);
        chunk_forget_fragment(v, c, slot);
        lease_put(&v->chunk_leases, &lease);
        chunk_put(v, c);
    }
}
