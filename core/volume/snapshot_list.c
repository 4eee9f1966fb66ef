/* snapshot_list.c: which snapshots a volume has. */
#include "base/memory.h"
#include "volume/find.h"
#include <stdlib.h>
#include <string.h>

struct found {
    char name[VOLUME_NAME_BYTES_MAX + 1];
    struct lsvd_snapshot snapshot; /* its name: the one above, at last */
};

struct listing {
    const char *base;
    struct found *found; /* owned */
    size_t count, room;
};

static int
note_snapshot(void *ctx, const struct volume_meta *meta)
{
    char base[VOLUME_NAME_BYTES_MAX + 1];
    struct listing *l = ctx;
    struct found *found;
    int r;

    meta_base_name(meta->name, base);
    if (!meta->successor || strcmp(base, l->base) != 0 || meta->removing)
        return 0;
    r = mem_grow(l->count + 1, sizeof *found, &l->room, &l->found);
    if (r < 0)
        return r;
    found = &l->found[l->count++];
    memcpy(found->name, meta->name, sizeof found->name);
    found->snapshot = (struct lsvd_snapshot){
        .number = meta->number,
        .size_bytes = meta->size_bytes,
        .frozen_at = meta->frozen_at,
    };
    return 0;
}

static int
compare_age(const void *a, const void *b)
{
    const struct lsvd_snapshot *x = &((const struct found *)a)->snapshot;
    const struct lsvd_snapshot *y = &((const struct found *)b)->snapshot;

    if (x->frozen_at != y->frozen_at)
        return x->frozen_at < y->frozen_at ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

int
lsvd_snapshot_list(const struct lsvd_env *env, const char *name,
                   int (*cb)(void *ctx, const struct lsvd_snapshot *s),
                   void *ctx)
{
    struct listing l = {.base = name};
    struct volume_meta meta;
    struct lsvd_volume *v;
    int r = volume_new(env, name, &v);

    if (r < 0)
        return r;
    r = volume_find(v->io, &v->log, &v->config, name, &meta, NULL);
    if (r == 0) {
        r = volume_each_policy(v->io, &v->log, &v->config, &meta,
                               false, note_snapshot, &l);
        meta_done(&meta);
    }
    if (l.count > 0)
        qsort(l.found, l.count, sizeof *l.found, compare_age);
    for (size_t i = 0; i < l.count && r == 0; i++) {
        l.found[i].snapshot.name = l.found[i].name;
        r = cb(ctx, &l.found[i].snapshot);
    }
    free(l.found);
    volume_free(v);
    return r;
}
