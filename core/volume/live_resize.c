/* live_resize.c: a volume grows while it is being served.
 *
 * Happy path: the parts' chunk tables forget what may lie behind the old end,
 *   durably -> all parts in use have the new policy, durably -> tables, journal
 *   and geometry, in memory. The role keeps others from changing tables, parts
 *   and policies meanwhile; requests go on, and are held up by none of it.
 * (GR1) No block behind the old end is accepted before the new size is durable
 *       with every part in use: whatever set of them a later start may go by,
 *       it finds the size with them, and the journal's records within it.
 * (GR2) What one request may see grows in this order: tables, journal, the size
 *       that requests are checked against.
 * (GR3) A part that is away has no part in it. It comes back with the old size
 *       and the lesser generation, is no member of the view, and gets the
 *       policy before it is one again (RS5).
 * (GR4) Behind the old end are zeroes: the last block is written whole, and
 *       what a shrinking cut off was made zeroes, or is forgotten here.
 * Fails: a part refuses -> the old policy is made newer than the new one.
 * Killed anywhere: some parts may have the new policy, which then counts at the
 *   next start that sees one of them; their tables are prepared for it.
 * Making a volume smaller is not for here: the journal, what is in RAM, and
 * requests under way may lie behind the new end. That takes a stopped server.
 */
#include "base/err.h"
#include "volume/volume.h"
#include <stdio.h>

typedef unsigned long long ull;

static int
check_parts(struct lsvd_volume *v)
{
    uint32_t away = v->view.members & ~v->usable;
    const struct part *p = &v->part[away ? __builtin_ctz(away) : 0];

    if (!v->attached)
        return err_set(-EROFS, "volume %s is served read-only: stop the server "
                       "first", v->meta.name);
    if (atomic_load(&v->in_snapshot))
        return err_set(-EBUSY, "volume %s: a snapshot of it is being made; try "
                       "again", v->meta.name);
    if (away)
        return err_set(-EIO, "volume %s can't grow now: part %c, without which "
                       "it can't go on, does not answer; see lsvd status %s",
                       v->meta.name, p->letter, v->meta.name);
    return 0;
}

/* Also those of a part that is being filled: it is asked about every chunk. */
static int
prepare_tables(struct lsvd_volume *v, const struct geometry *next)
{
    uint64_t chunks = geometry_chunk_count(next);
    uint32_t parts = 0;
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if (!v->part[i].table)
            continue;
        parts |= UINT32_C(1) << i;
        if (chunk_table_count(v->part[i].table) >= chunks)
            continue; /* an attempt that failed got so far */
        r = chunk_table_prepare(v->part[i].table, chunks);
        if (r < 0)
            r = err_wrap(r, "part %c", v->part[i].letter);
    }
    if (r < 0)
        return r;
    pthread_mutex_lock(&v->table_lock);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((parts & UINT32_C(1) << i) &&
            chunk_table_count(v->part[i].table) < chunks)
            chunk_table_grow(v->part[i].table, chunks);
    }
    pthread_mutex_unlock(&v->table_lock);
    return tables_store(v, parts);
}

/* GR2. */
static void
put_in_force(struct lsvd_volume *v, const struct volume_meta *meta,
             const struct geometry *next)
{
    pthread_mutex_lock(&v->state_lock);
    v->meta.generation = meta->generation;
    v->meta.size_bytes = meta->size_bytes;
    pthread_mutex_unlock(&v->state_lock);
    journal_set_volume_blocks(v->journal, geometry_block_count(next));
    geometry_grow(&v->g, meta->size_bytes);
}

/* The role's. */
static int
grow(struct lsvd_volume *v, uint64_t size_bytes)
{
    struct volume_meta old = v->meta, next = v->meta;
    struct geometry g;
    int r = check_parts(v);

    next.size_bytes = size_bytes;
    next.generation++;
    if (r == 0)
        r = meta_check(&next);
    if (r == 0 && size_bytes < old.size_bytes)
        r = err_set(-EBUSY, "volume %s is served and has %llu bytes: it can "
                    "grow, but not shrink to %llu; for that stop its server, "
                    "resize it with force, and start it again", v->meta.name,
                    (ull)old.size_bytes, (ull)size_bytes);
    if (r < 0 || size_bytes == old.size_bytes)
        return r;
    geometry_init(&g, size_bytes, next.chunk_bytes, next.block_bytes,
                  next.replicas, next.ec_data, next.ec_parity);
    v->failed = 0;
    r = prepare_tables(v, &g);
    if (r < 0)
        return err_wrap(r, "volume %s stays as it was", v->meta.name);
    r = volume_change_meta(v, &next);
    if (r < 0)
        return r;
    put_in_force(v, &next, &g);
    event_note(v, LOG_WARNING_LEVEL, "resize", 0, "the volume has grown from "
               "%llu to %llu bytes; clients see it when they connect again",
               (ull)old.size_bytes, (ull)size_bytes);
    return 0;
}

int
lsvd_live_resize(struct lsvd_volume *v, uint64_t size_bytes)
{
    struct lease role;
    int r;

    r = volume_check_awake(v);
    if (r == 0)
        r = role_get(v, &role);
    if (r < 0)
        return r;
    r = grow(v, size_bytes);
    role_put(v, &role);
    return r;
}

uint64_t
lsvd_get_size(const struct lsvd_volume *v)
{
    return v->g.volume_bytes;
}
