/* repair.c: rebuild and replace: redundancy put back.
 *
 * Replace, in order, each step durable before the next, so that it can be
 * killed anywhere and run again (rebuild finishes it too, as does a server):
 *   view without the old instance -> blank part with its label INIT -> policy
 *   names the new instance -> chunks, one by one (resync.c) -> label LIVE and
 *   view with it. */
#include "base/err.h"
#include "base/memory.h"
#include "base/wait.h"
#include "volume/resync.h"
#include "volume/verify.h"
#include "volume/watch.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_STORE_EVERY 64

struct repair {
    struct verify y;
    const struct lsvd_env *env;
    const char *name;
};

static int
repair_open(struct repair *p)
{
    int r;

    r = volume_open(p->env, p->name, OPEN_REPAIR | OPEN_DEGRADED, &p->y.v);
    if (r < 0)
        return r;
    p->y.v->insists = true;
    if (p->y.v->attached) {
        r = volume_drain(p->y.v);
        if (r < 0)
            lsvd_abandon(p->y.v);
    }
    return r;
}

static int
rebuild_chunk(struct repair *p, uint64_t chunk, uint32_t slot)
{
    struct lsvd_volume *v = p->y.v;
    struct lsvd_finding finding = {.part = (char)('a' + slot),
                                   .chunk = chunk,
                                   .kind = LSVD_CHUNK_HEALTHY,
                                   .text = "rebuilt"};
    char file[600];
    uint64_t lost;
    int r;

    r = fragment_rebuild(v, chunk, slot, &lost);
    if (r <= 0)
        return r;
    p->y.report->rebuilt++;
    snprintf(file, sizeof file, "%.512s/%llu", v->part[slot].dir->path,
             (unsigned long long)chunk);
    finding.file = file;
    if (p->y.cb && p->y.cb->finding)
        p->y.cb->finding(p->y.cb->ctx, &finding);
    return 0;
}

static int
rebuild_parts(struct repair *p, uint32_t parts)
{
    struct lsvd_volume *v = p->y.v;
    uint64_t done = 0;
    int r = 0;

    for (uint64_t c = next_known_chunk(v, 1); c && r == 0;
         c = next_known_chunk(v, c + 1)) {
        for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
            if (parts & UINT32_C(1) << i)
                r = verify_pass_over(&p->y, rebuild_chunk(p, c, i));
        }
        p->y.progress.chunks_done++;
        p->y.progress.bytes_done += v->g.chunk_bytes;
        if (r == 0 && ++done % TABLE_STORE_EVERY == 0)
            r = files_store(v, parts);
        if (r == 0 && verify_progress(&p->y))
            r = err_set(-EINTR, "interrupted; run it again to go on");
    }
    /* Of names also those that a run before this one has made. */
    return r < 0 ? r : files_store(v, parts);
}

/* Out of use and out of the view, whatever it is; its directory is let go. */
static int
leave_part(struct lsvd_volume *v, uint32_t slot, const char *why)
{
    struct part *p = &v->part[slot];
    uint32_t bit = UINT32_C(1) << slot;
    int r = 0;

    if ((v->view.members | v->usable) & bit) {
        (void)part_failed(v, slot, err_set(-EPIPE, "%s", why));
        v->failed = 0;
        r = volume_drop(v, bit);
    } else {
        r = volume_sync_labels(v); /* it may have been left by one that was
                                    * killed before that was durable */
    }
    if (r == 0 && v->resync.is_active && v->resync.slot == slot) {
        (void)part_failed(v, slot, err_set(-EPIPE, "%s", why));
        resync_give_up(v);
    }
    if (r == 0)
        part_let_go(v, slot);
    return r < 0 ? err_wrap(r, "part %c", p->letter) : 0;
}

/* Fill a part that is back, or new, and count it in. */
static int
refill(struct repair *p, uint32_t slot)
{
    struct lsvd_volume *v = p->y.v;
    struct resync *s = &v->resync;
    uint64_t done = 0, now;
    int r = 0;

    while (r == 0 && !(v->usable & UINT32_C(1) << slot)) {
        if (!s->is_active && !resync_has(v, slot))
            return err_set(-EIO, "part %c: %s", (char)('a' + slot),
                           v->part[slot].problem);
        if (!resync_step(v))
            pause_ms(1); /* too early, or no memory now */
        now = atomic_load(&s->chunks_done);
        p->y.progress.chunks_done += now > done ? now - done : 0;
        done = now;
        p->y.progress.bytes_done = atomic_load(&s->bytes_done);
        if (verify_progress(&p->y))
            r = err_set(-EINTR, "interrupted; run it again to go on");
    }
    if (r == 0)
        p->y.report->rebuilt += atomic_load(&s->copied);
    return r;
}

/* A part that is there, but not in sync: what it lacks is copied to it. */
static int
take_back(struct repair *p, uint32_t slot)
{
    struct lsvd_volume *v = p->y.v;
    int r;

    r = leave_part(v, slot, v->part[slot].problem);
    if (r < 0)
        return r;
    watch_for(v, slot);
    return refill(p, slot);
}

int
repair_check_sources(struct lsvd_volume *v, uint32_t slot)
{
    uint32_t others = v->usable & ~(UINT32_C(1) << slot);
    uint32_t needed = v->g.is_ec ? v->g.data_count : 1;

    if ((uint32_t)__builtin_popcount(others) >= needed &&
        ((v->view.members & UINT32_C(1) << slot) == 0 ||
         volume_may_be_members(v, others & v->view.members)))
        return 0;
    return err_set(-EIO,
                   "volume %s: the other parts can't supply the data of "
                   "part %c",
                   v->meta.name, (char)('a' + slot));
}

/* The directory may hold leftovers, but not somebody else's part. */
static int
check_place(struct lsvd_volume *v, struct target *dir)
{
    struct label label;
    int damaged;

    int r = part_check_dir(dir, &v->meta);

    if (r < 0 || label_load(dir, &label, &damaged) < 0)
        return r;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((v->usable & UINT32_C(1) << i) &&
            uuid_equal(&label.instance, &v->part[i].label.instance))
            return err_set(-EEXIST, "%s holds part %c, which is in use",
                           dir->path, (char)('a' + i));
    }
    return 0;
}

static int
make_dirs(struct lsvd_volume *v, const char *root, uint32_t slot,
          struct target **ret)
{
    char number[16], letter[2] = {(char)('a' + slot), 0};
    struct target *top, *dir;
    int r;

    snprintf(number, sizeof number, "%u", v->meta.number);
    r = v->io->ops->open_dir(v->io, root, 0, &top);
    if (r < 0)
        return r;
    r = target_subdir(top, number, DIR_CREATE, &dir);
    target_close(top);
    if (r < 0)
        return r;
    r = volume_check_dir(dir, &v->meta);
    if (r == 0)
        r = target_subdir(dir, letter, DIR_CREATE, ret);
    target_close(dir);
    return r;
}

/* Directory, lock, label, table of a blank part. */
static int
make_blank(struct lsvd_volume *v, struct target *dir, struct part *p)
{
    struct uuid instance;
    int r;

    p->dir = dir;
    r = v->io->ops->random(v->io, instance.b, sizeof instance.b);
    if (r == 0)
        r = part_take_lock(v, p, true);
    if (r == 0)
        r = part_init(v, dir, p->slot, &instance, &p->table);
    if (r == 0)
        r = label_load(dir, &p->label, &p->damaged_label_slots);
    return r;
}

/* The policy names the new instance. */
static int
name_instance(struct lsvd_volume *v, const struct part *p, const char *root)
{
    struct lease lease;
    char *path, *old;
    int r = mem_dup(root, &path);

    if (r < 0)
        return r;
    lease_get(&v->part_leases, &lease, p->slot, p->slot + 1, true);
    pthread_mutex_lock(&v->state_lock);
    old = v->meta.part[p->slot].root;
    v->meta.part[p->slot].root = path;
    v->meta.part[p->slot].instance = p->label.instance;
    v->meta.generation++;
    pthread_mutex_unlock(&v->state_lock);
    lease_put(&v->part_leases, &lease);
    free(old);
    return volume_store_meta(v->io, &v->meta);
}

/* The slot is held. */
static int
blank_held(struct lsvd_volume *v, uint32_t slot, const char *root)
{
    struct offer offer;
    struct target *dir;
    int r;

    memset(&offer, 0, sizeof offer);
    offer.part.slot = slot;
    offer.part.letter = (char)('a' + slot);
    offer.full = true;
    r = make_dirs(v, root, slot, &dir);
    if (r < 0)
        return r;
    r = check_place(v, dir);
    if (r == 0)
        r = leave_part(v, slot, "replaced");
    if (r < 0) {
        target_close(dir);
        return r;
    }
    r = make_blank(v, dir, &offer.part);
    if (r == 0)
        r = name_instance(v, &offer.part, root);
    if (r == 0 && !resync_offer_held(v, &offer))
        r = -ENOMEM;
    if (r < 0) {
        chunk_table_close(offer.part.table);
        part_candidate_close(&offer.part);
    }
    return r;
}

int
repair_blank_part(struct lsvd_volume *v, uint32_t slot, const char *root)
{
    int r;

    resync_hold(v, slot);
    r = blank_held(v, slot, root);
    resync_release(v, slot);
    return r;
}

/* After the parts are whole again: an ordinary recovery of what the journal
 * may hold, and a last look. */
static int
settle(struct repair *p)
{
    struct lsvd_volume *v = p->y.v;
    bool attached = v->attached;
    int r;

    if (attached) {
        r = lsvd_close(v);
    } else {
        lsvd_abandon(v);
        r = 0;
    }
    p->y.v = NULL;
    if (r < 0)
        return r;
    r = repair_open(p);
    if (r < 0)
        return r;
    p->y.mendable = p->y.unread = 0;
    r = verify_volume(&p->y);
    if (r == 0)
        r = verify_settles_loss(&p->y);
    if (r < 0) {
        lsvd_abandon(p->y.v);
        return r;
    }
    return lsvd_close(p->y.v);
}

/* A part whose label is gone but whose chunk table proves which it is. */
static bool
lost_only_its_label(struct lsvd_volume *v, uint32_t slot)
{
    struct chunk_table *table;
    struct target *dir;
    struct label label;
    uint64_t damaged = 0;
    bool ours = false;
    int r, slots;

    if (v->part[slot].has_label ||
        part_dir_open(v->io, &v->meta, slot, 0, &dir) < 0)
        return false;
    /* It must be gone: refilling the part gives up what is in it, and a part
     * that could not be read for a moment has its label yet. */
    r = label_load(dir, &label, &slots);
    if (r != -ENOENT && r != -EBADMSG) {
        target_close(dir);
        return false;
    }
    if (chunk_table_open(dir, &v->meta.part[slot].instance,
                         geometry_chunk_count(&v->g), false, &table,
                         &damaged) == 0) {
        ours = damaged == 0 && chunk_table_generation(table) > 0;
        chunk_table_close(table);
    }
    target_close(dir);
    return ours;
}

static int
rebuild_slot(struct repair *p, uint32_t slot)
{
    struct lsvd_volume *v = p->y.v;
    struct part *part = &v->part[slot];
    int r;

    if (part->state == LSVD_PART_OK && (v->usable & UINT32_C(1) << slot)) {
        r = rebuild_parts(p, UINT32_C(1) << slot);
        if (r == 0 && part->table_doubtful)
            r = tables_level(v);
        if (r == 0 && (part->damaged_label_slots > 0 ||
                       part->table_doubtful))
            r = label_write(v, part); /* goes to the damaged slot, and
                                       * dates the table */
        if (r == 0) {
            part->damaged_label_slots = 0;
            part->table_doubtful = false;
        }
        return r;
    }
    r = repair_check_sources(v, slot);
    if (r < 0)
        return r;
    if (part->has_label && (part->state == LSVD_PART_REBUILDING ||
                            part->state == LSVD_PART_STALE)) {
        r = take_back(p, slot);
        /* filling it looked at what it lacked, not at what it had kept */
        return r < 0 ? r : rebuild_parts(p, UINT32_C(1) << slot);
    }
    if (lost_only_its_label(v, slot)) {
        char root[PATH_TEXT_MAX];

        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: part %c has lost its label; it is refilled",
                  v->meta.name, part->letter);
        snprintf(root, sizeof root, "%s", v->meta.part[slot].root);
        r = repair_blank_part(v, slot, root);
        return r < 0 ? r : refill(p, slot);
    }
    return err_set(-ENOENT,
                   "volume %s: part %c is %s (%s); bring it back, or fill a "
                   "new one with lsvd-repair replace %s %c[=DIR]",
                   v->meta.name, (char)('a' + slot),
                   lsvd_part_state_text(part->state), part->problem,
                   v->meta.name, (char)('a' + slot));
}

int
lsvd_rebuild(const struct lsvd_env *env, const char *name, char part,
             bool dry_run, const struct lsvd_repair_callbacks *cb,
             struct lsvd_report *ret)
{
    struct repair p = {.y = {.cb = cb, .report = ret},
                       .env = env,
                       .name = name};
    uint64_t rebuilt;
    int r = 0;

    if (dry_run)
        return lsvd_verify(env, name, true, cb, ret);
    memset(ret, 0, sizeof *ret);
    r = repair_open(&p);
    if (r < 0)
        return r;
    if (part && (part < 'a' || (uint32_t)(part - 'a') >= p.y.v->g.part_count)) {
        lsvd_abandon(p.y.v);
        return err_set(-EINVAL, "volume %s has no part %c", name, part);
    }
    for (uint64_t c = next_known_chunk(p.y.v, 1); c;
         c = next_known_chunk(p.y.v, c + 1))
        p.y.progress.chunks_total += part ? 1 : p.y.v->g.part_count;
    for (uint32_t i = 0; i < p.y.v->g.part_count && r != -EINTR; i++) {
        if (part && i != (uint32_t)(part - 'a'))
            continue;
        r = rebuild_slot(&p, i);
        verify_note(&p.y, r);
    }
    if (r == -EINTR) {
        lsvd_abandon(p.y.v);
        return r;
    }
    rebuilt = ret->rebuilt;
    memset(ret, 0, sizeof *ret);
    memset(&p.y.progress, 0, sizeof p.y.progress);
    ret->full = true;
    r = settle(&p);
    ret->rebuilt = rebuilt;
    if (r == 0 && p.y.failed < 0)
        log_event(&(struct logger){(log_cb)(void (*)(void))env->log,
                                   env->log_ctx},
                  LOG_ERROR_LEVEL, "%s", p.y.problem);
    return r;
}

int
lsvd_replace(const struct lsvd_env *env, const char *name, char part,
             const char *new_root, const struct lsvd_repair_callbacks *cb,
             struct lsvd_report *ret)
{
    struct repair p = {.y = {.cb = cb, .report = ret},
                       .env = env,
                       .name = name};
    char root[PATH_TEXT_MAX];
    struct part *old;
    uint64_t rebuilt;
    uint32_t slot;
    bool moves;
    int r;

    memset(ret, 0, sizeof *ret);
    r = repair_open(&p);
    if (r < 0)
        return r;
    slot = (uint32_t)(part - 'a');
    if (part < 'a' || slot >= p.y.v->g.part_count) {
        lsvd_abandon(p.y.v);
        return err_set(-EINVAL, "volume %s has no part %c", name, part);
    }
    old = &p.y.v->part[slot];
    snprintf(root, sizeof root, "%s", p.y.v->meta.part[slot].root);
    moves = new_root && strcmp(new_root, root) != 0;
    if (moves)
        snprintf(root, sizeof root, "%s", new_root);
    for (uint64_t c = next_known_chunk(p.y.v, 1); c;
         c = next_known_chunk(p.y.v, c + 1))
        p.y.progress.chunks_total++;
    r = repair_check_sources(p.y.v, slot);
    if (r == 0 && old->state == LSVD_PART_OK && !moves)
        r = err_set(-EEXIST,
                    "volume %s: part %c is healthy (%s); nothing to replace",
                    name, part, old->dir->path);
    if (r == 0 && old->state == LSVD_PART_REBUILDING && old->has_label &&
        !moves)
        r = take_back(&p, slot);
    else if (r == 0) {
        r = repair_blank_part(p.y.v, slot, root);
        if (r == 0)
            r = refill(&p, slot);
    }
    if (r < 0) {
        lsvd_abandon(p.y.v);
        return r;
    }
    rebuilt = ret->rebuilt;
    memset(ret, 0, sizeof *ret);
    memset(&p.y.progress, 0, sizeof p.y.progress);
    ret->full = true;
    r = settle(&p);
    ret->rebuilt = rebuilt;
    return r;
}
