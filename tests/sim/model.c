/* model.c: see model.h. */
#include "model.h"
#include "prng.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define STAMP_MAGIC UINT64_C(0x6c73766453544d50)

struct version {
    uint64_t id;  /* of the write; 0: as found or as made */
    bool certain; /* answered with success */
    uint8_t *data; /* whole block; NULL: zeroes; owned */
};

struct block {
    struct version *version;
    size_t count, room;
    size_t seen; /* index + 1 of what a read has returned; 0: nothing yet */
};

struct model {
    uint64_t volume_bytes;
    uint32_t block_bytes;
    uint64_t block_count;
    struct block *block;
    uint64_t next_id;
    uint64_t open_first, open_end; /* blocks of the request on its way */
    bool crashed, lost_power;
};

static void *
must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct model *
model_new(uint64_t volume_bytes, uint32_t block_bytes)
{
    struct model *m = must(calloc(1, sizeof *m));

    m->volume_bytes = volume_bytes;
    m->block_bytes = block_bytes;
    m->block_count = (volume_bytes + block_bytes - 1) / block_bytes;
    m->block = must(calloc(m->block_count, sizeof *m->block));
    m->next_id = 1;
    for (uint64_t i = 0; i < m->block_count; i++) {
        struct block *b = &m->block[i];

        b->room = 2;
        b->version = must(calloc(b->room, sizeof *b->version));
        b->version[0].certain = true;
        b->count = 1;
    }
    return m;
}

void
model_free(struct model *m)
{
    if (!m)
        return;
    for (uint64_t i = 0; i < m->block_count; i++) {
        for (size_t k = 0; k < m->block[i].count; k++)
            free(m->block[i].version[k].data);
        free(m->block[i].version);
    }
    free(m->block);
    free(m);
}

static uint64_t
stamp_word(uint64_t id, uint64_t sector, unsigned word)
{
    switch (word) {
    case 0:
        return STAMP_MAGIC;
    case 1:
        return sector;
    case 2:
        return id;
    default:
        return prng_mix(id << 24 ^ sector << 6 ^ word);
    }
}

void
model_fill(uint64_t id, uint64_t offset, uint8_t *to, size_t count)
{
    size_t done = 0;

    while (done < count) {
        uint64_t at = offset + done;
        uint64_t words[SECTOR / 8];
        size_t in = at % SECTOR;
        size_t n = SECTOR - in;

        if (n > count - done)
            n = count - done;
        for (unsigned i = 0; i < SECTOR / 8; i++)
            words[i] = stamp_word(id, at / SECTOR, i);
        memcpy(to + done, (uint8_t *)words + in, n);
        done += n;
    }
}

uint64_t
model_next_id(const struct model *m)
{
    return m->next_id;
}

static uint64_t
bytes_of(const struct model *m, uint64_t block)
{
    uint64_t at = block * m->block_bytes;
    uint64_t left = m->volume_bytes - at;

    return left < m->block_bytes ? left : m->block_bytes;
}

/* Forget the versions before `first`, which becomes the durable one. */
static void
drop_before(struct block *b, size_t first)
{
    for (size_t i = 0; i < first; i++)
        free(b->version[i].data);
    memmove(b->version, b->version + first,
            (b->count - first) * sizeof *b->version);
    b->count -= first;
    b->seen = b->seen > first ? b->seen - first : 0;
}

static size_t
newest_certain(const struct block *b)
{
    size_t i = b->count;

    while (i > 0 && !b->version[i - 1].certain)
        i--;
    assert(i > 0);
    return i - 1;
}

/* What a write to a part of the block is laid over: what the volume holds. As
 * long as that is open (an earlier write failed), the harness must not write
 * parts of the block; see model_write_begin. */
static const struct version *
base_of(const struct block *b)
{
    return &b->version[b->seen ? b->seen - 1 : newest_certain(b)];
}

static void
add_version(struct model *m, uint64_t block, const struct version *over,
            uint64_t offset, size_t count, const uint8_t *data)
{
    struct block *b = &m->block[block];
    uint64_t at = block * m->block_bytes;
    uint64_t begin = offset > at ? offset - at : 0;
    uint64_t end = offset + count - at;
    struct version v = {.id = m->next_id};

    if (end > m->block_bytes)
        end = m->block_bytes;
    if (data || begin > 0 || end < bytes_of(m, block)) {
        v.data = must(calloc(1, m->block_bytes));
        if (over->data)
            memcpy(v.data, over->data, m->block_bytes);
        if (data)
            memcpy(v.data + begin, data + (at + begin - offset), end - begin);
        else
            memset(v.data + begin, 0, end - begin);
    }
    if (b->count == b->room) {
        b->room *= 2;
        b->version =
            must(realloc(b->version, b->room * sizeof *b->version));
    }
    b->version[b->count++] = v;
}

static bool
is_whole(const struct model *m, uint64_t block, uint64_t offset, size_t count)
{
    uint64_t at = block * m->block_bytes;

    return offset <= at && offset + count >= at + bytes_of(m, block);
}

void
model_write_begin(struct model *m, uint64_t offset, size_t count,
                  const uint8_t *data)
{
    assert(count > 0);
    assert(offset + count <= m->volume_bytes);
    m->open_first = offset / m->block_bytes;
    m->open_end = (offset + count - 1) / m->block_bytes + 1;
    for (uint64_t i = m->open_first; i < m->open_end; i++) {
        struct block *b = &m->block[i];
        size_t old = b->count, certain = newest_certain(b);

        if (is_whole(m, i, offset, count) || b->seen) {
            add_version(m, i, base_of(b), offset, count, data);
            continue;
        }
        /* laid over any of what the block may hold */
        for (size_t k = certain; k < old; k++) {
            struct version over = b->version[k];

            add_version(m, i, &over, offset, count, data);
        }
    }
    m->next_id++;
}

/* Success: the versions of this request are what the block holds. When it
 * could have been laid over several, any of them. */
void
model_write_end(struct model *m, bool succeeded, bool fua)
{
    uint64_t id = m->next_id - 1;

    for (uint64_t i = m->open_first; i < m->open_end; i++) {
        struct block *b = &m->block[i];
        size_t first = b->count;

        if (!succeeded) {
            b->seen = 0; /* the next read may find either */
            continue;
        }
        while (first > 0 && b->version[first - 1].id == id)
            first--;
        assert(first < b->count);
        b->version[first].certain = true;
        b->seen = first + 1 == b->count ? b->count : 0;
        if (fua)
            drop_before(b, first);
    }
}

void
model_flushed(struct model *m)
{
    for (uint64_t i = 0; i < m->block_count; i++) {
        if (m->block[i].count > 1)
            drop_before(&m->block[i], newest_certain(&m->block[i]));
    }
}

static bool
version_matches(const struct version *v, uint64_t begin, uint64_t end,
                const uint8_t *data)
{
    if (v->data)
        return memcmp(v->data + begin, data, end - begin) == 0;
    for (uint64_t i = begin; i < end; i++) {
        if (data[i - begin])
            return false;
    }
    return true;
}

/* Index + 1 of the newest version from `first` on that matches; 0: none. */
static size_t
find_version(const struct block *b, size_t first, uint64_t begin, uint64_t end,
             const uint8_t *data)
{
    for (size_t k = b->count; k > first; k--) {
        if (version_matches(&b->version[k - 1], begin, end, data))
            return k;
    }
    return 0;
}

/* The lowest version that may be found now. */
static size_t
first_allowed(const struct model *m, const struct block *b)
{
    return m->crashed && m->lost_power ? 0 : newest_certain(b);
}

static size_t __attribute__((format(printf, 4, 5)))
describe(char *why, size_t room, size_t at, const char *format, ...)
{
    va_list args;
    int n;

    if (at >= room)
        return at;
    va_start(args, format);
    n = vsnprintf(why + at, room - at, format, args);
    va_end(args);
    return n < 0 ? at : at + (size_t)n;
}

/* What a sector says that it is. */
static size_t
describe_sector(char *why, size_t room, size_t at, uint64_t sector,
                const uint8_t *data, size_t bytes)
{
    uint64_t word[3];
    bool zero = true;

    for (size_t i = 0; i < bytes; i++)
        zero = zero && data[i] == 0;
    if (zero)
        return describe(why, room, at, " zero");
    if (bytes < SECTOR)
        return describe(why, room, at, " part");
    memcpy(word, data, sizeof word);
    if (word[0] != STAMP_MAGIC)
        return describe(why, room, at, " unstamped");
    if (word[1] != sector)
        return describe(why, room, at, " write %" PRIu64
                        " of SECTOR %" PRIu64, word[2], word[1]);
    for (unsigned i = 3; i < SECTOR / 8; i++) {
        uint64_t w;

        memcpy(&w, data + i * 8, 8);
        if (w != stamp_word(word[2], word[1], i))
            return describe(why, room, at, " write %" PRIu64 " mixed",
                            word[2]);
    }
    return describe(why, room, at, " write %" PRIu64, word[2]);
}

static void
explain(const struct model *m, uint64_t block, size_t first, uint64_t begin,
        uint64_t end, const uint8_t *data, char *why, size_t room)
{
    const struct block *b = &m->block[block];
    uint64_t at = block * m->block_bytes;
    size_t n = describe(why, room, 0,
                        "block %" PRIu64 " (offset %" PRIu64 ") holds:", block,
                        at);

    for (uint64_t i = begin; i < end;) {
        uint64_t piece = SECTOR - (at + i) % SECTOR;

        if (piece > end - i)
            piece = end - i;
        n = describe_sector(why, room, n, (at + i) / SECTOR, data + i - begin,
                            piece);
        n = describe(why, room, n, ",");
        i += piece;
    }
    n = describe(why, room, n, " allowed:");
    for (size_t k = first; k < b->count; k++)
        n = describe(why, room, n, " %" PRIu64 "%s%s", b->version[k].id,
                     b->version[k].certain ? "" : "?",
                     b->version[k].data ? "" : "(zero)");
    for (size_t k = 0; k < first; k++)
        n = describe(why, room, n, "%s%" PRIu64, k ? " " : " older: ",
                     b->version[k].id);
}

bool
model_check_read(struct model *m, uint64_t offset, size_t count,
                 const uint8_t *data, char *why, size_t why_bytes)
{
    uint64_t block = offset / m->block_bytes;

    for (size_t done = 0; done < count; block++) {
        struct block *b = &m->block[block];
        uint64_t begin = offset + done - block * m->block_bytes;
        uint64_t end = m->block_bytes;
        size_t first = first_allowed(m, b), found;
        bool whole;

        if (end > begin + (count - done))
            end = begin + (count - done);
        whole = begin == 0 && end == bytes_of(m, block);
        if (b->seen && !m->crashed)
            found = version_matches(&b->version[b->seen - 1], begin, end,
                                    data + done)
                        ? b->seen
                        : 0;
        else
            found = find_version(b, first, begin, end, data + done);
        if (!found) {
            explain(m, block, b->seen && !m->crashed ? b->seen - 1 : first,
                    begin, end, data + done, why, why_bytes);
            return false;
        }
        if (whole && !m->crashed)
            b->seen = found;
        done += end - begin;
    }
    return true;
}

bool
model_may_be_zero(const struct model *m, uint64_t offset, uint64_t count)
{
    uint64_t end = offset + count;

    while (offset < end) {
        uint64_t block = offset / m->block_bytes;
        const struct block *b = &m->block[block];
        uint64_t begin = offset - block * m->block_bytes;
        uint64_t stop = m->block_bytes;
        bool possible = false;

        if (stop > begin + (end - offset))
            stop = begin + (end - offset);
        for (size_t k = newest_certain(b); k < b->count; k++) {
            const struct version *v = &b->version[k];
            bool zero = true;

            if (b->seen && k + 1 != b->seen)
                continue;
            for (uint64_t i = begin; v->data && i < stop; i++)
                zero = zero && v->data[i] == 0;
            possible = possible || zero;
        }
        if (!possible)
            return false;
        offset += stop - begin;
    }
    return true;
}

void
model_crashed(struct model *m, bool with_power)
{
    m->crashed = true;
    m->lost_power = m->lost_power || with_power;
    for (uint64_t i = 0; i < m->block_count; i++)
        m->block[i].seen = 0;
}

static bool
check_image(const struct model *m, const uint8_t *image, char *why,
            size_t why_bytes, size_t *found)
{
    for (uint64_t i = 0; i < m->block_count; i++) {
        const struct block *b = &m->block[i];
        uint64_t at = i * m->block_bytes;
        size_t first = first_allowed(m, b), k;

        k = find_version(b, first, 0, bytes_of(m, i), image + at);
        if (!k) {
            explain(m, i, first, 0, bytes_of(m, i), image + at, why,
                    why_bytes);
            return false;
        }
        if (found)
            found[i] = k - 1;
    }
    return true;
}

bool
model_check_image_only(const struct model *m, bool crashed, bool with_power,
                       const uint8_t *image, char *why, size_t why_bytes)
{
    struct model view = *m;

    view.crashed = m->crashed || crashed;
    view.lost_power = m->lost_power || with_power;
    return check_image(&view, image, why, why_bytes, NULL);
}

bool
model_check_image(struct model *m, const uint8_t *image, char *why,
                  size_t why_bytes)
{
    size_t *found = must(calloc(m->block_count, sizeof *found));
    bool ok = check_image(m, image, why, why_bytes, found);

    for (uint64_t i = 0; ok && i < m->block_count; i++) {
        struct block *b = &m->block[i];

        drop_before(b, found[i]);
        while (b->count > 1)
            free(b->version[--b->count].data);
        b->version[0].certain = true;
        b->seen = 1;
    }
    if (ok)
        m->crashed = m->lost_power = false;
    free(found);
    return ok;
}
