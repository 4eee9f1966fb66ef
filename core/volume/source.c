/* source.c: the volumes that references lead to; see refer.h. */
#include "base/err.h"
#include "volume/parent.h"
#include "volume/exchange.h"
#include "volume/refer.h"
#include <assert.h>
#include <string.h>

struct lsvd_volume *
source_find(const struct lsvd_volume *v, uint32_t number)
{
    uint32_t count = atomic_load_explicit(&v->source_count,
                                          memory_order_acquire);

    for (uint32_t i = 0; i < count; i++) {
        if (v->source[i].number == number)
            return v->source[i].volume;
    }
    return NULL;
}

static void
put_source(struct lsvd_volume *v, uint32_t number, struct lsvd_volume *source)
{
    uint32_t count = atomic_load(&v->source_count);

    assert(count < META_SOURCES_MAX);
    v->source[count] = (struct source){number, source};
    atomic_store_explicit(&v->source_count, count + 1, memory_order_release);
}

static int
check_source(const struct lsvd_volume *v, const struct lsvd_volume *source)
{
    if (source->g.block_bytes != v->g.block_bytes)
        return err_set(-EINVAL, "volume %s has blocks of %u bytes, and volume "
                       "%s of %u: they can't share any", source->meta.name,
                       source->g.block_bytes, v->meta.name,
                       v->g.block_bytes);
    return 0;
}

int
source_open_nth(struct lsvd_volume *v, const struct lsvd_env *env,
                uint32_t nth, unsigned flags, struct lsvd_volume **ret)
{
    const struct meta_source *s = &v->meta.source[nth];
    char name[VOLUME_NAME_BYTES_MAX + 1];
    int r = needed_name(v, s->number, &s->uuid, name, sizeof name);

    if (r == 0)
        r = needed_flags(v, name, flags, &flags);
    if (r == 0)
        r = volume_open_source_of(env, v, nth, name, flags, ret);
    if (r < 0)
        return r;
    opening_ends(*ret);
    r = needed_settle(*ret);
    if (r == 0)
        r = check_source(v, *ret);
    if (r == 0)
        return 0;
    lsvd_abandon(*ret);
    return r;
}

int
sources_open(struct lsvd_volume *v, const struct lsvd_env *env, unsigned flags)
{
    bool does_without = flags & (OPEN_REPAIR | LSVD_OPEN_NO_LOCK);

    for (uint32_t i = 0; i < v->meta.source_count; i++) {
        struct lsvd_volume *source = NULL;
        int r = 0;

        if (!(flags & OPEN_INSPECT))
            r = source_open_nth(v, env, i, flags, &source);
        if (r < 0)
            r = err_wrap(r, "volume %s: volume %u, which it has references to",
                         v->meta.name, v->meta.source[i].number);
        if (r < 0 && (r == -ENOMEM || !does_without))
            return r;
        if (r < 0)
            log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
        put_source(v, v->meta.source[i].number, r < 0 ? NULL : source);
    }
    return 0;
}

static void
close_all(struct lsvd_volume *v, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (v->source[i].volume)
            lsvd_abandon(v->source[i].volume);
        v->source[i].volume = NULL;
    }
}

void
sources_close(struct lsvd_volume *v)
{
    close_all(v, atomic_exchange(&v->source_count, 0));
}

/* Who reads from one has a lease on the blocks of v for which; renew.c has the
 * chain of top, lsvd_status and lsvd_hurry what chain_lock locks. */
void
sources_let_go(struct lsvd_volume *v, struct lsvd_volume *top)
{
    uint64_t blocks = geometry_block_count(&v->g);
    struct lease all, chain;
    uint32_t count;

    lease_get(&top->chain, &chain, 0, 1, true);
    lease_get(&v->leases, &all, 0, blocks, true);
    chain_lock(top, v);
    count = atomic_exchange(&v->source_count, 0);
    chain_unlock(top, v);
    lease_put(&v->leases, &all);
    close_all(v, count);
    lease_put(&top->chain, &chain);
}

/* Does p, or what it needs, need v? */
static bool
leads_to(const struct lsvd_volume *p, const struct lsvd_volume *v)
{
    uint32_t count = p ? atomic_load(&p->source_count) : 0;

    if (!p)
        return false;
    if (p->meta.number == v->meta.number &&
        uuid_equal(&p->meta.uuid, &v->meta.uuid))
        return true;
    for (uint32_t i = 0; i < count; i++) {
        if (leads_to(p->source[i].volume, v))
            return true;
    }
    return leads_to(p->parent, v);
}

void
sources_open_late(struct lsvd_volume *v, const struct lsvd_env *env)
{
    for (uint32_t i = 0; i < v->meta.source_count; i++) {
        if (!v->source[i].volume &&
            source_open_nth(v, env, i, LSVD_OPEN_NO_LOCK,
                            &v->source[i].volume) < 0) {
            log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
            v->source[i].volume = NULL;
        }
    }
}

int
source_open_named(struct lsvd_volume *v, const struct lsvd_env *env,
                  const char *name, struct lsvd_volume **ret)
{
    unsigned flags;
    int r = needed_flags(v, name, 0, &flags);

    if (r == 0 && strcmp(name, meta_stored_name(&v->meta)) == 0)
        r = err_set(-EINVAL, "volume %s can't be a source of itself", name);
    if (r == 0)
        r = volume_open(env, name, flags, ret);
    if (r < 0)
        return r;
    opening_ends(*ret);
    r = needed_settle(*ret);
    if (r == -EROFS)
        r = err_set(r, "volume %s is not read-only: references to it could "
                    "change; use a snapshot of it", name);
    if (r == 0)
        r = needed_check_settled(*ret);
    if (r == 0)
        r = check_source(v, *ret);
    if (r == 0 && leads_to(*ret, v))
        r = err_set(-ELOOP, "volume %s itself needs volume %s", name,
                    meta_stored_name(&v->meta));
    if (r == 0)
        return 0;
    lsvd_abandon(*ret);
    return r;
}

void
sources_take_policy(struct lsvd_volume *v, const struct volume_meta *next)
{
    pthread_mutex_lock(&v->state_lock);
    v->meta.generation = next->generation;
    v->meta.incompat = next->incompat;
    v->meta.source_count = next->source_count;
    memcpy(v->meta.source, next->source, sizeof next->source);
    pthread_mutex_unlock(&v->state_lock);
}

int
source_add(struct lsvd_volume *v, struct lsvd_volume *source)
{
    struct volume_meta next = v->meta;
    int r = meta_add_source(&next, source->meta.number, &source->meta.uuid);

    if (r == 0 && v->usable != volume_all_parts(v))
        r = err_set(-EIO, "volume %s: not all its parts are in use: it gets "
                    "a source when they are (lsvd status)", v->meta.name);
    if (r < 0)
        return r;
    if (next.source_count == v->meta.source_count)
        return err_set(-EEXIST, "volume %s is a source already",
                       source->meta.name);
    next.generation++;
    if (volume_store_meta_in_use(v, &next) < 0) {
        /* one that is named and not used does no harm */
        (void)volume_restore_meta(v);
        return err_wrap(-EIO, "volume %s: volume %s can't become a source of "
                        "it now", v->meta.name, source->meta.name);
    }
    sources_take_policy(v, &next);
    put_source(v, source->meta.number, source);
    return 0;
}
