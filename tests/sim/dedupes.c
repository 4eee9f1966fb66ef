/* dedupes.c: see dedupes.h. */
#include "dedupes.h"
#include "chunk/references.h"
#include "volume/refer.h"
#include <stdlib.h>
#include <string.h>

int __real_references_store(struct target *part, const struct references *r);
int __wrap_references_store(struct target *part, const struct references *r);
int __real_references_mend(struct lsvd_volume *v, struct chunk *c,
                           uint32_t slot);
int __wrap_references_mend(struct lsvd_volume *v, struct chunk *c,
                           uint32_t slot);

/* of the whole program: the linker has no context */
static unsigned enabled;

void
dedupes_set_bugs(unsigned bugs)
{
    enabled = bugs;
}

/* In place, and neither file nor name synced. */
static int
store_unsynced(struct target *part, const struct references *r)
{
    char name[REFERENCES_NAME_BYTES];
    struct object *object;
    uint8_t *bytes;
    size_t count;
    int e = references_encode(r, &bytes, &count);

    if (e < 0)
        return e;
    references_name(r->chunk, name);
    e = target_open(part, name, OBJECT_WRITE | OBJECT_CREATE, &object);
    if (e == 0) {
        e = object_resize(object, 0);
        if (e == 0)
            e = object_write(object, bytes, count, 0);
        object_close(object);
    }
    free(bytes);
    return e;
}

int
__wrap_references_store(struct target *part, const struct references *r)
{
    return enabled & DEDUPE_BUG_UNSYNCED ? store_unsynced(part, r)
                                         : __real_references_store(part, r);
}

int
__wrap_references_mend(struct lsvd_volume *v, struct chunk *c, uint32_t slot)
{
    return enabled & DEDUPE_BUG_MEND ? 0 : __real_references_mend(v, c, slot);
}

int
dedupes_make_source(struct life *l)
{
    static const char *const place[] = {"/twin", NULL};
    struct lsvd_create spec = {
        .name = "twin",
        .size_bytes = l->volume_bytes,
        .chunk_bytes = LIFE_CHUNK_BYTES << prng_below(&l->prng, 2),
        .block_bytes = l->policy.block_bytes,
        .replicas = life_parts(&l->policy) == 2 ? 3 : 2,
        .journal_bytes = 1u << 20,
    };
    struct lsvd_env env = l->env;
    struct lsvd_volume *v;
    int r, closed;

    l->source = calloc(1, l->volume_bytes);
    if (!l->source)
        abort();
    model_fill(UINT64_C(1) << 40, 0, l->source, l->volume_bytes);
    env.data = env.cache = place;
    env.settings = NULL;
    simio_make_dir(l->s, "/twin");
    r = lsvd_create(&env, &spec);
    if (r == 0)
        r = lsvd_open(&env, "twin", 0, &v);
    if (r < 0)
        return r;
    for (uint64_t at = 0; at < l->volume_bytes && r == 0;
         at += LIFE_CHUNK_BYTES) {
        uint64_t left = l->volume_bytes - at;

        r = lsvd_pwrite(v, l->source + at,
                        left < LIFE_CHUNK_BYTES ? left : LIFE_CHUNK_BYTES, at,
                        0);
    }
    closed = lsvd_close(v);
    if (r == 0)
        r = closed;
    return r < 0 ? r : lsvd_set(&env, "twin", "read-only", "on");
}

void
dedupes_choose(struct life *l, uint64_t *offset, uint64_t *count,
               const uint8_t **ret)
{
    uint64_t block = l->policy.block_bytes;
    uint64_t blocks = l->volume_bytes / block, most, from;

    *offset = *offset / block * block;
    *count = (*count + block - 1) / block * block;
    from = prng_one_in(&l->prng, 2) ? *offset
                                    : prng_below(&l->prng, blocks) * block;
    most = l->volume_bytes - (from > *offset ? from : *offset);
    if (*count > most)
        *count = most;
    *ret = l->source + from;
}

static const char *const twin[] = {"twin", NULL};

int
dedupes_run(struct life *l, const char *snapshot,
            const struct lsvd_alone *alone)
{
    struct lsvd_dedupe spec = {.sources = twin,
                               .memory_bytes = 1u << 20,
                               .snapshot = snapshot};
    const char *of = snapshot ? snapshot : LIFE_VOLUME;
    struct lsvd_dedupe_report report;
    int r;

    if (prng_one_in(&l->prng, 8)) {
        life_event(l, "rehydrate %s", of);
        return lsvd_live_rehydrate(l->v, &l->env, &spec, alone, NULL,
                                   &report);
    }
    if (prng_one_in(&l->prng, 8))
        spec.hash_bits = 4; /* most of what it proposes is wrong */
    life_event(l, "dedupe %s", of);
    r = lsvd_live_dedupe(l->v, &l->env, &spec, alone, NULL, &report);
    if (r == 0)
        l->references += report.blocks_matched;
    return r;
}

int
dedupes_run_offline(struct life *l, const char *name,
                    struct lsvd_dedupe_report *ret)
{
    const struct lsvd_dedupe spec = {.sources = twin,
                                     .memory_bytes = 1u << 20};

    return lsvd_dedupe(&l->env, name, &spec, NULL, ret);
}

void
dedupes_end(struct life *l)
{
    free(l->source);
}
