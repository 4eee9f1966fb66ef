/* imports.c: see imports.h. One life at a time has a stream: it lies in no
 * struct of its own. */
#include "imports.h"
#include "snapshots.h"
#include <stdlib.h>
#include <string.h>

static struct stream {
    uint8_t *bytes; /* owned */
    size_t count, room;
    size_t at; /* read so far */
    bool left_some;
} kept;

static int
take(void *ctx, const void *bytes, size_t count)
{
    struct stream *s = ctx;

    if (s->count + count > s->room) {
        s->room = 2 * (s->room + count);
        s->bytes = realloc(s->bytes, s->room);
        if (!s->bytes)
            abort();
    }
    memcpy(s->bytes + s->count, bytes, count);
    s->count += count;
    return 0;
}

static int
give(void *ctx, void *to, size_t count, size_t *ret_count)
{
    struct stream *s = ctx;

    if (count > s->count - s->at)
        count = s->count - s->at;
    memcpy(to, s->bytes + s->at, count);
    s->at += count;
    *ret_count = count;
    return 0;
}

int
imports_keep(struct life *l)
{
    const struct lsvd_diff_sink sink = {.write = take, .ctx = &kept};
    struct lsvd_diff_totals totals;

    kept.count = 0;
    return lsvd_export_diff(&l->env, LIFE_VOLUME "@s0", LIFE_VOLUME "@s1",
                            &sink, &totals);
}

int
imports_apply(struct life *l)
{
    const struct lsvd_diff_source source = {.read = give, .ctx = &kept};
    struct lsvd_diff_totals totals;
    int r;

    kept.at = 0;
    r = lsvd_import_diff(&l->env, LIFE_VOLUME, &source, &totals);
    kept.left_some = r < 0 && strstr(lsvd_error(), "is not as it was");
    return r;
}

bool
imports_left_some(void)
{
    return kept.left_some;
}
