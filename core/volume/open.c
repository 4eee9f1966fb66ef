/* open.c: open, claim, recover, close: the order of things (faults.md O2, O7).
 *
 * Open: find the policy -> lock the parts -> read labels, choose the view ->
 *   its journal, if it names one, must be here -> tables -> replay (index and
 *   redo records) -> if the rules allow it with the parts that are there (R1,
 *   R3): claim the epoch, install the view that names the journal, without
 *   those that are away -> what was replayed is checkpointed.
 * Close: destage all -> view with the journal detached, labels clean.
 * (P1) No label or journal is written before every part that is there is
 *      locked, and no view of an epoch before all members promised it.
 * (P3) No byte is served of a start that can't prove that it is the newest
 *      (R3), also not to readers, unless the cache directories know that
 *      nothing newer was written with them (JF8).
 * (P2) Nothing is destaged, and no table, label or journal tail moves, unless
 *      the volume is attached. Redo records are re-applied all the same:
 *      without them a stripe cut in half can't be decoded. */
#include "volume/bypass.h"
#include "base/err.h"
#include "base/memory.h"
#include "volume/find.h"
#include "redundancy/membership.h"
#include "volume/parent.h"
#include "volume/journal_refill.h"
#include "volume/moment.h"
#include "volume/read_cache.h"
#include "volume/refer.h"
#include "volume/resync.h"
#include "volume/snapshot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
volume_new(const struct lsvd_env *env, const char *name,
           struct lsvd_volume **ret)
{
    struct lsvd_volume *v;
    int r;

    r = mem_new(1, sizeof *v, &v);
    if (r < 0)
        return r;
    r = events_new(&v->events);
    if (r == 0)
        r = env_load(env, name, &v->config, &v->world, &v->log);
    if (r < 0) {
        events_free(v->events);
        free(v);
        return r;
    }
    v->io = v->world.io;
    opening_begins(env->openings, v);
    v->opened_ns = v->io->ops->now_ns(v->io);
    v->cache_io = v->world.cache_io;
    pthread_mutex_init(&v->table_lock, NULL);
    pthread_mutex_init(&v->state_lock, NULL);
    pthread_cond_init(&v->work, NULL);
    pthread_cond_init(&v->progress, NULL);
    pthread_cond_init(&v->watching, NULL);
    pthread_cond_init(&v->bypass.changed, NULL);
    lease_table_init(&v->leases);
    lease_table_init(&v->chunk_leases);
    lease_table_init(&v->part_leases);
    lease_table_init(&v->role);
    lease_table_init(&v->chain);
    pthread_mutex_init(&v->chunks.lock, NULL);
    moments_init(v);
    *ret = v;
    return 0;
}

void
volume_free(struct lsvd_volume *v)
{
    if (!v)
        return;
    opening_ends(v);
    moments_end(v);
    parent_close(v);
    sources_close(v);
    batch_free(v);
    bypass_done(v);
    chunk_store_done(v);
    cache_free(v->cache);
    read_cache_close(v);
    refill_done(v);
    journal_close(v->journal);
    target_close(v->cache_dir);
    resync_done(v);
    journal_files_done(v);
    parts_close(v);
    ec_free(v->ec);
    meta_done(&v->meta);
    config_done(&v->config);
    env_done(&v->world);
    events_free(v->events);
    lease_table_done(&v->leases);
    lease_table_done(&v->chunk_leases);
    lease_table_done(&v->part_leases);
    lease_table_done(&v->role);
    lease_table_done(&v->chain);
    pthread_mutex_destroy(&v->chunks.lock);
    pthread_mutex_destroy(&v->table_lock);
    pthread_mutex_destroy(&v->state_lock);
    pthread_cond_destroy(&v->work);
    pthread_cond_destroy(&v->progress);
    pthread_cond_destroy(&v->watching);
    pthread_cond_destroy(&v->bypass.changed);
    free(v);
}

#define HURRIED_DRAIN_NS UINT64_C(3000000000)

static uint32_t
labels_of(struct lsvd_volume *v, const struct label **labels)
{
    uint32_t present = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        bool ok = v->part[i].state == LSVD_PART_OK;

        labels[i] = ok ? &v->part[i].label : NULL;
        if (ok)
            present |= UINT32_C(1) << i;
    }
    return present;
}

int
volume_choose_view(struct lsvd_volume *v)
{
    const struct label *labels[PARTS_MAX];
    int r;

    (void)labels_of(v, labels);
    r = membership_choose(labels, v->g.part_count, &v->view);
    if (r == -ENOENT)
        return err_set(r, "volume %s: no part can be used; part a is %s: %s",
                       v->meta.name, lsvd_part_state_text(v->part[0].state),
                       v->part[0].problem);
    return r < 0 ? err_wrap(r, "volume %s", v->meta.name) : 0;
}

int
volume_find_journal(struct lsvd_volume *v)
{
    const struct view *stored;
    int r;

    if (uuid_is_zero(&v->view.journal) || v->observer)
        return 0;
    r = journal_find(v);
    if (r < 0)
        return r;
    stored = &journal_identity(v->journal)->view;
    if (view_id_compare(&stored->id, &v->view.id) < 0)
        return err_set(-EIO,
                       "volume %s: its journal is older than its parts: "
                       "an old copy of the cache directory?",
                       v->meta.name);
    v->view = *stored;
    return 0;
}

void
volume_judge_parts(struct lsvd_volume *v)
{
    const struct label *labels[PARTS_MAX];
    uint32_t present = labels_of(v, labels);
    uint64_t ckpt, newest;

    newest = membership_newest_ckpt(labels, v->g.part_count, &v->view);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const char *objection;

        if (!(present & UINT32_C(1) << i))
            continue;
        ckpt = v->journal ? journal_identity(v->journal)->part_ckpt[i] : 0;
        objection = membership_objection(&v->part[i].label, i, &v->view,
                                         ckpt, newest);
        if (objection)
            part_fail(&v->part[i], LSVD_PART_STALE, "%s %s",
                      v->part[i].dir->path, objection);
        else
            v->usable |= UINT32_C(1) << i;
    }
}

/* Choose the view, find its journal, judge each part against both. */
static int
choose_view(struct lsvd_volume *v)
{
    int r = volume_choose_view(v);

    if (r == 0)
        r = volume_find_journal(v);
    if (r < 0)
        return r;
    volume_judge_parts(v);
    return 0;
}

/* Those that the view counts on, and that are not in use. Returns the first. */
static const struct part *
missing_letters(struct lsvd_volume *v, char *text, size_t bytes)
{
    uint32_t set = (v->view.members | v->view.complete_members) & ~v->usable;

    part_letters(set, text, bytes);
    return &v->part[__builtin_ctz(set)];
}

/* R3, R6, P3. Tools that only look at what is there may do so. */
static int
check_proven(struct lsvd_volume *v, unsigned flags)
{
    char letters[PART_LETTERS_BYTES];
    const struct part *first;

    if (v->observer || volume_is_proven(v))
        return 0;
    first = missing_letters(v, letters, sizeof letters);
    if (!v->journal && journal_remembers(v)) {
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: nothing newer was written with this cache "
                  "directory than what is read now; if it was served with "
                  "another since, newer data is on part %s",
                  v->meta.name, letters);
        return 0;
    }
    if (!(flags & (OPEN_REPAIR | OPEN_INSPECT)))
        return err_set(-EIO,
                       "volume %s: not started: without part %s (%s: %s) "
                       "nothing proves that what is here is the newest: it "
                       "may have gone on there; bring it back, or, if it is "
                       "lost for good, see lsvd-repair replace and "
                       "force-start",
                       v->meta.name, letters,
                       lsvd_part_state_text(first->state), first->problem);
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: without part %s nothing proves that this is the "
              "newest state; it may have gone on there",
              v->meta.name, letters);
    return 0;
}

static int
check_readable(struct lsvd_volume *v, unsigned flags)
{
    uint32_t usable = (uint32_t)__builtin_popcount(v->usable);
    uint32_t needed = v->g.is_ec ? v->g.data_count : 1;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->part[i].state != LSVD_PART_OK)
            log_event(&v->log, LOG_WARNING_LEVEL,
                      "volume %s: part %c is %s: %s", v->meta.name,
                      v->part[i].letter,
                      lsvd_part_state_text(v->part[i].state),
                      v->part[i].problem);
    }
    if (usable >= needed)
        return 0;
    if (v->observer || (flags & OPEN_INSPECT))
        return 0;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->part[i].state != LSVD_PART_OK)
            return err_set(-EIO,
                           "volume %s: %u of the %u parts needed can be "
                           "used; part %c is %s: %s",
                           v->meta.name, usable, needed, v->part[i].letter,
                           lsvd_part_state_text(v->part[i].state),
                           v->part[i].problem);
    }
    return err_set(-EIO, "volume %s: not enough parts", v->meta.name);
}

static uint64_t
replay_seed(void *ctx, uint64_t block)
{
    return volume_block_seed(ctx, block);
}

struct replay_context {
    struct lsvd_volume *v;
    struct redo_list *redo;
};

/* Any part that has the chunk: a cut may have left tables that differ; or the
 * records before, that it was open. No more than that, or a replay would need
 * more of the index than the run did that wrote the records. */
static bool
replay_present(void *ctx, uint64_t chunk)
{
    struct replay_context *replay = ctx;
    struct lsvd_volume *v = replay->v;
    bool present = bypass_is_open(v, chunk + 1);

    pthread_mutex_lock(&v->table_lock);
    for (uint32_t i = 0; i < v->g.part_count && !present; i++)
        present = v->part[i].table &&
                  chunk_table_get(v->part[i].table, chunk + 1).state ==
                      CHUNK_PRESENT;
    pthread_mutex_unlock(&v->table_lock);
    return present || (tables_truth(v, chunk + 1).seq == 0 &&
                       parent_shows(v, chunk + 1));
}

static uint64_t
replay_block_seed(void *ctx, uint64_t block)
{
    struct replay_context *replay = ctx;

    return replay_seed(replay->v, block);
}

static int
replay_redo(void *ctx, uint64_t seq, const uint8_t *body, size_t bytes)
{
    struct replay_context *replay = ctx;

    return redo_remember(replay->redo, seq, body, bytes);
}

static int
replay_bypass(void *ctx, uint64_t chunk, uint64_t seq)
{
    struct replay_context *replay = ctx;

    return bypass_found(replay->v, chunk, seq);
}

static int
replay_bypassed(void *ctx, uint64_t seq,
                const struct journal_bypassed *record)
{
    struct replay_context *replay = ctx;

    return bypass_found_blocks(replay->v, seq, record);
}

/* Parts that failed just now are left out, when the rest may do without them.
 * True: the caller tries again without them. */
static bool
lose_failed(struct lsvd_volume *v, int error)
{
    uint32_t failed = v->failed & v->usable;

    v->failed = 0;
    if (!parts_are_to_blame(v, failed, error) ||
        !volume_may_be_members(v, v->usable & v->view.members & ~failed))
        return false;
    part_lost(v, failed);
    return true;
}

/* Nothing in place is changed; list gets the redo records. */
static int
recover(struct lsvd_volume *v, struct redo_list *list)
{
    struct replay_context ctx = {v, list};
    struct replay_callbacks cb = {.present = replay_present,
                                  .redo = replay_redo,
                                  .bypass = replay_bypass,
                                  .bypassed = replay_bypassed,
                                  .seed = replay_block_seed,
                                  .ctx = &ctx};
    struct replay_stats stats;
    uint64_t begin = v->io->ops->now_ns(v->io), ms;
    int r;

    r = journal_level(v);
    journal_set_chunk_blocks(v->journal, v->g.chunk_blocks);
    journal_set_volume_blocks(v->journal, geometry_block_count(&v->g));
    if (r == 0)
        r = journal_replay(v->journal, &cb, &stats);
    if (r < 0)
        return err_wrap(r, "volume %s: replay", v->meta.name);
    v->journal_held = stats.max_seq > 0 || journal_vouches(v->journal);
    ms = (v->io->ops->now_ns(v->io) - begin) / 1000000;
    log_event(&v->log, LOG_INFO_LEVEL,
              "volume %s: replayed %llu records, %llu blocks, in %llu ms%s",
              v->meta.name, (unsigned long long)stats.records,
              (unsigned long long)stats.blocks, (unsigned long long)ms,
              stats.torn_tail ? "; the last record was cut short" : "");
    return 0;
}

/* One sound table is enough: it has everything up to the last checkpoint, and
 * the journal has the rest. Only without any are the headers of the chunk files
 * asked: those of a destage that was cut short are ahead of the other parts,
 * whose good files must not be called stale for that. */
static int
tables_open(struct lsvd_volume *v)
{
    bool any_sound = false;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        int r;

        if (!(v->usable & UINT32_C(1) << i))
            continue;
        r = part_open_table(v, &v->part[i]);
        if (is_our_trouble(r))
            return r;
        if (r < 0) {
            part_fail(&v->part[i], LSVD_PART_ERROR, "%s", err_text());
            v->usable &= ~(UINT32_C(1) << i);
        } else if (!v->part[i].table_doubtful) {
            any_sound = true;
        }
    }
    for (uint32_t i = 0; i < v->g.part_count && !any_sound; i++) {
        int r = 0;

        if (v->usable & UINT32_C(1) << i)
            r = part_raise_table(v, &v->part[i]);
        if (r < 0)
            return err_wrap(r, "part %c", v->part[i].letter);
    }
    return 0;
}

static bool
any_doubtful(const struct lsvd_volume *v)
{
    bool any = false;

    for (uint32_t i = 0; i < v->g.part_count; i++)
        any |= v->part[i].table_doubtful;
    return any;
}

/* Without the parts that fail at it. */
static int
redo_again(struct lsvd_volume *v, struct redo_list *list)
{
    int r;

    v->failed = 0;
    do {
        r = redo_apply_all(v, list);
        if (r == 0)
            r = bypass_keep_found(v);
    } while (r < 0 && lose_failed(v, r));
    return r;
}

/* Again, and checkpointed: with the view that is in force no member lacks any
 * of that. Parts that fail at it are dropped. */
static int
redo_and_checkpoint(struct lsvd_volume *v, struct redo_list *list)
{
    for (;;) {
        size_t recovered = 0;
        uint32_t failed;
        int r;

        v->failed = 0;
        r = redo_apply_all(v, list);
        if (r == 0)
            r = redo_checkpoint(v, list);
        if (r == 0)
            r = bypass_recover(v, &recovered);
        if (r == 0 && (!redo_list_is_empty(list) || recovered > 0))
            r = destage_checkpoint(v); /* so that their space is free */
        failed = v->failed & v->usable;
        if (r == 0 || !parts_are_to_blame(v, failed, r))
            return r;
        r = volume_drop(v, failed);
        if (r < 0)
            return r;
    }
}

/* Claim the volume, then put in place what a crash cut short (JF5). */
static int
attach(struct lsvd_volume *v, struct redo_list *list)
{
    int r = 0;

    /* before a label dates the damaged table, and makes it look sound */
    v->failed = 0;
    if (any_doubtful(v)) {
        do
            r = tables_level(v);
        while (r < 0 && lose_failed(v, r));
    }
    if (r == 0)
        r = volume_claim(v);
    if (r == 0)
        r = redo_and_checkpoint(v, list);
    if (r < 0)
        return r;
    leftovers_remove(v);
    bypass_begin(v);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            part_let_go(v, i); /* the watch will look at it */
    }
    return 0;
}

static void
say_read_only(struct lsvd_volume *v)
{
    log_event(&v->log, LOG_ERROR_LEVEL,
              "volume %s: %d of its parts are in sync, %u are needed to write: "
              "it is served read-only until they are back; see lsvd-repair "
              "verify",
              v->meta.name, __builtin_popcount(v->usable & v->view.members),
              volume_write_quorum(v));
}

/* Replay, if there is what, then claim, if that is wanted and allowed. */
static int
recover_and_attach(struct lsvd_volume *v, unsigned flags, bool wants_write)
{
    bool healthy = v->usable == volume_all_parts(v), dirty = v->journal;
    struct redo_list *list = redo_list_new();
    int r = list ? 0 : -ENOMEM;
    bool wanted;

    if (flags & OPEN_ADD) /* it needs all parts: none is left out for it */
        wants_write = healthy;
    wanted = wants_write || (dirty && (healthy || flags & OPEN_DEGRADED));
    if (r == 0 && dirty)
        r = recover(v, list);
    if (r == 0) /* only now: the journal may prove it */
        r = check_proven(v, flags);
    if (r == 0)
        r = volume_check_hurried(v); /* OP2 */
    if (r == 0 && !v->observer && wanted && volume_may_attach(v)) {
        r = attach(v, list);
        redo_list_free(list);
        return r;
    }
    if (r == 0 && dirty)
        r = redo_again(v, list);
    if (r == 0 && healthy && (flags & OPEN_REPAIR) && any_doubtful(v))
        r = tables_level(v);
    else if (r == 0 && wants_write)
        say_read_only(v);
    redo_list_free(list);
    return r;
}

int
volume_bring_up(struct lsvd_volume *v, unsigned flags, bool wants_write)
{
    int r = tables_open(v);

    if (r == 0)
        r = check_readable(v, flags);
    if (r == 0 && v->force.given_up)
        r = force_find_chunks(v);
    if (r == 0)
        r = chunk_store_init(v);
    if (r == 0)
        r = cache_new(v->config.ram_bytes, v->g.block_bytes, &v->cache);
    return r < 0 ? r : recover_and_attach(v, flags, wants_write);
}

/* Everything after the locks. */
static int
begin(struct lsvd_volume *v, unsigned flags)
{
    bool wants_write = !(flags & (LSVD_OPEN_READ_ONLY | OPEN_REPAIR)) &&
                       (!v->meta.read_only || flags & OPEN_ADD) &&
                       !v->observer;
    int r;

    r = choose_view(v);
    if (r < 0)
        return r;
    if (v->journal && !wants_write && !(flags & OPEN_REPAIR)) {
        /* Recovery writes, whatever the client may do. */
        for (uint32_t i = 0; i < v->g.part_count; i++) {
            if (!v->part[i].lock)
                continue;
            r = part_take_lock(v, &v->part[i], true);
            if (r < 0)
                return r;
        }
        v->exclusive = true;
    }
    return volume_bring_up(v, flags, wants_write);
}

int
volume_check_policy(struct lsvd_volume *v)
{
    const struct logger silent = {NULL, NULL};
    struct volume_meta now;
    bool same;
    int r;

    r = volume_find_number(v->io, &silent, &v->config, &v->meta,
                           v->meta.number, &v->meta.uuid, &now, NULL);
    if (r < 0)
        return r;
    same = now.generation + (v->meta.due_from ? 1 : 0) == v->meta.generation;
    meta_done(&now);
    return same ? 0 : err_set(-EAGAIN, "volume %s is being changed",
                              v->meta.name);
}

/* Which one is to be opened. */
struct wanted {
    const char *name;
    const struct lsvd_volume *child; /* NULL, or: its parent, or source, of
                                      * this number, whatever any registry says
                                      * of the name */
    uint32_t number;
    const struct uuid *uuid;
    struct lsvd_volume *parent;      /* NULL, or that of the one wanted, which
                                      * is open already */
    struct lsvd_volume *instead;     /* NULL, or the one wanted, as it is open:
                                      * it gives up its locks */
};

static int
find_policy(struct lsvd_volume *v, const struct wanted *w)
{
    struct metadata_problems problems = {
        v->problem, sizeof v->problem / sizeof v->problem[0], 0};
    const char *name = w->name;
    int r;

    if (w->child)
        r = volume_find_number(v->io, &v->log, &v->config, &w->child->meta,
                               w->number, w->uuid, &v->meta, &problems);
    else
        r = volume_find(v->io, &v->log, &v->config, name, &v->meta,
                        &problems);
    v->problem_count = problems.count;
    if (r == 0 && v->meta.removing)
        r = err_set(-ENOENT,
                    "volume %s is being removed; finish with lsvd remove %s",
                    name, name);
    if (r < 0)
        return r;
    geometry_init(&v->g, v->meta.size_bytes, v->meta.chunk_bytes,
                  v->meta.block_bytes, v->meta.replicas, v->meta.ec_data,
                  v->meta.ec_parity);
    return 0;
}

static void
say_accepted_loss(struct lsvd_volume *v)
{
    if (v->meta.accepted_loss && v->force.quorum == 0)
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: a loss was accepted, and what it did is not "
                  "verified: run lsvd-repair verify --full %s",
                  v->meta.name, v->meta.name);
}

/* A policy that was being stored when a server before this one ended may stand
 * on a part that is out of sight now. It is not to come into force by that
 * part's return: ours becomes newer than any that is older than our epoch. */
static void
outdate_unseen(struct lsvd_volume *v)
{
    uint64_t least = (uint64_t)v->view.id.epoch << 32;

    if (!v->attached || v->usable == volume_all_parts(v) ||
        v->meta.generation >= least)
        return;
    v->meta.generation = least;
    if (volume_store_meta_in_use(v, &v->meta) < 0)
        log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: %s: its policy is "
                  "not up to date everywhere", v->meta.name, err_text());
}

/* Who checks or mends the files of a clone needs no other volume, but to tell
 * what is wrong with references. */
static int
open_parent(struct lsvd_volume *v, const struct lsvd_env *env,
            const struct wanted *w, unsigned flags)
{
    int r;

    v->parent = w->parent;
    if (w->parent)
        return 0;
    r = parent_open(v, env, flags);
    if (r == 0 || r == -ENOMEM ||
        !(flags & (OPEN_REPAIR | LSVD_OPEN_NO_LOCK)))
        return r;
    log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
    parent_close(v);
    return 0;
}

static int
open_once(const struct lsvd_env *env, const struct wanted *w, unsigned flags,
          struct lsvd_volume **ret)
{
    struct lsvd_volume *v;
    bool takes_name; /* then all copies lag behind, and that is no news */
    int r;

    r = volume_new(env, w->name, &v);
    if (r < 0)
        return r;
    v->observer = flags & LSVD_OPEN_NO_LOCK;
    v->takes_over = flags & OPEN_TAKE_OVER;
    v->instead = w->instead;
    if (flags & OPEN_PARENT)
        v->config.ram_bytes = 0;
    if (flags >> OPEN_DEPTH_SHIFT > 1)
        chunks_keep_few(v);
    r = find_policy(v, w);
    v->client_read_only = (flags & (LSVD_OPEN_READ_ONLY | LSVD_OPEN_NO_LOCK |
                                    OPEN_REPAIR)) ||
                          (v->meta.read_only && !(flags & OPEN_ADD));
    v->append_only = v->meta.append_only;
    v->exclusive = !v->client_read_only || (flags & OPEN_REPAIR);
    if (r == 0 && v->g.is_ec)
        r = ec_new(v->meta.ec_data, v->meta.ec_parity, &v->ec);
    if (r == 0)
        r = open_parent(v, env, w, flags);
    if (r == 0)
        r = sources_open(v, env, flags);
    if (r == 0)
        r = parts_open(v, v->exclusive);
    v->instead = NULL;
    if (r == 0 && !v->observer)
        r = volume_check_policy(v);
    if (r == 0 && !(flags & OPEN_LOCKED))
        r = begin(v, flags);
    if (r == 0 && !v->observer)
        say_accepted_loss(v);
    takes_name = v->meta.due_from != 0;
    if (r == 0)
        r = snapshot_take_name(v);
    if (r == 0 && v->exclusive && v->problem_count > 0 &&
        !(flags & OPEN_INSPECT)) {
        log_event(&v->log, takes_name ? LOG_INFO_LEVEL : LOG_WARNING_LEVEL,
                  "volume %s: %s: %s; brought up to date", v->meta.name,
                  v->problem[0].path, v->problem[0].text);
        (void)volume_store_meta(v->io, &v->meta);
    }
    if (r == 0)
        outdate_unseen(v);
    if (r < 0) {
        if (w->parent)
            v->parent = NULL; /* stays the caller's */
        volume_free(v);
        return r;
    }
    *ret = v;
    return 0;
}

static int
open_wanted(const struct lsvd_env *env, const struct wanted *w, unsigned flags,
            struct lsvd_volume **ret)
{
    int r = -EAGAIN;

    for (int tries = 0; r == -EAGAIN && tries < 5; tries++)
        r = open_once(env, w, flags, ret);
    return r == -EAGAIN ? -EBUSY : r;
}

int
volume_open(const struct lsvd_env *env, const char *name, unsigned flags,
            struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name};

    return open_wanted(env, &w, flags, ret);
}

int
volume_open_parent_of(const struct lsvd_env *env,
                      const struct lsvd_volume *child, const char *name,
                      unsigned flags, struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name,
                             .child = child,
                             .number = child->meta.parent,
                             .uuid = &child->meta.parent_uuid};

    return open_wanted(env, &w, flags, ret);
}

int
volume_open_source_of(const struct lsvd_env *env, const struct lsvd_volume *v,
                      uint32_t nth, const char *name, unsigned flags,
                      struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name,
                             .child = v,
                             .number = v->meta.source[nth].number,
                             .uuid = &v->meta.source[nth].uuid};

    return open_wanted(env, &w, flags, ret);
}

int
volume_open_with_parent(const struct lsvd_env *env, const char *name,
                        struct lsvd_volume *parent, struct lsvd_volume **ret)
{
    const struct wanted w = {.name = name, .parent = parent};

    return open_wanted(env, &w, 0, ret);
}

int
volume_open_instead(const struct lsvd_env *env, const struct lsvd_volume *child,
                    unsigned flags, struct lsvd_volume **ret)
{
    struct lsvd_volume *old = child->parent;
    const struct wanted w = {.name = meta_stored_name(&old->meta),
                             .child = child,
                             .number = child->meta.parent,
                             .uuid = &child->meta.parent_uuid,
                             .parent = old->parent,
                             .instead = old};

    return open_wanted(env, &w, flags, ret);
}

/* Whoever stops a server may wait so long for what is in the journal. */
static bool
is_late(struct lsvd_volume *v)
{
    return atomic_load(&v->hurried) &&
           v->io->ops->now_ns(v->io) - v->hurried_ns > HURRIED_DRAIN_NS;
}

/* Destage everything that the journal holds. */
int
volume_drain(struct lsvd_volume *v)
{
    struct journal_space space;
    int r;

    for (;;) {
        journal_space(v->journal, &space);
        if (space.dirty_chunks == 0 && !v->batch &&
            atomic_load(&v->bypass.count) == 0)
            return 0;
        if (is_late(v))
            return err_set(-ETIMEDOUT, "volume %s: there was no time to move "
                           "all that the journal holds", v->meta.name);
        r = destage_batch(v);
        if (r < 0)
            return r;
        if (r == 0)
            return err_set(-EIO, "volume %s: the journal does not empty",
                           v->meta.name);
    }
}

/* After a drain all members have what one of them has; their labels say so
 * before the last view is begun, because without the journal only they tell an
 * old copy from a member. */
static int
level_checkpoints(struct lsvd_volume *v)
{
    for (;;) {
        uint64_t newest = 0, oldest = UINT64_MAX;
        uint32_t failed;
        int r;

        for (uint32_t i = 0; i < v->g.part_count; i++) {
            uint64_t ckpt = v->part[i].label.ckpt;

            if (!(v->usable & UINT32_C(1) << i))
                continue;
            newest = ckpt > newest ? ckpt : newest;
            oldest = ckpt < oldest ? ckpt : oldest;
        }
        if (oldest >= newest)
            return 0;
        v->failed = 0;
        r = volume_labels_checkpoint(v, newest);
        failed = v->failed & v->usable;
        v->failed = 0;
        if (r < 0 && failed)
            r = volume_drop(v, failed);
        if (r < 0)
            return r;
    }
}

/* The next start would take the newest policy, and so it does no harm if this
 * fails; but until then verify would find an old one. */
static void
store_missed_policies(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->behind & v->usable & UINT32_C(1) << i &&
            volume_store_part_meta(v, i) < 0)
            log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: part %c: its "
                      "copy of the policy is not up to date: %s", v->meta.name,
                      v->part[i].letter, err_text());
    }
    v->behind = 0;
}

/* O7: only then may another host open without this journal. */
int
volume_detach(struct lsvd_volume *v)
{
    struct view next;
    struct view_id id;
    int r;

    r = volume_drain(v);
    if (r == 0)
        r = level_checkpoints(v);
    if (r < 0)
        return r;
    store_missed_policies(v);
    next = v->view;
    id = next.id;
    id.minor++;
    view_advance(&next, &id);
    memset(&next.journal, 0, sizeof next.journal);
    r = volume_install_view(v, &next, 0, true);
    if (r < 0)
        return r;
    v->attached = false;
    /* A member may have failed just now: the next start must not need it. */
    return v->view.complete_members == v->view.members
               ? 0
               : volume_complete_view(v, true);
}

int
lsvd_close(struct lsvd_volume *v)
{
    char text[256];
    int r = 0;

    destage_stop(v);
    scrub_end(v);
    if (v->attached)
        r = volume_check_fenced(v);
    if (v->attached && r == 0) {
        r = volume_detach(v);
        if (r == 0 && v->meta.successor) /* read-only for ever */
            snapshot_drop_journal(v);
    }
    snprintf(text, sizeof text, "%s", err_text());
    snapshot_end(v);
    read_cache_store(v);
    volume_log_counters(v);
    if (r < 0)
        r = err_set(r,
                    "volume %s: not everything could be moved to its parts; "
                    "it is safe in the journal: %s",
                    v->meta.name, text);
    volume_free(v);
    return r;
}

void
lsvd_abandon(struct lsvd_volume *v)
{
    destage_stop(v);
    volume_free(v);
}

int
lsvd_open(const struct lsvd_env *env, const char *name, unsigned flags,
          struct lsvd_volume **ret)
{
    struct lsvd_volume *v = NULL;
    int r, ended;

    if (meta_is_unborn_name(name))
        return err_set(-EINVAL, "volume %s: it is left by a snapshot that was "
                       "cut short", name);
    r = volume_open(env, name,
                    flags & (LSVD_OPEN_READ_ONLY | LSVD_OPEN_NO_LOCK), &v);
    if (r == 0)
        opening_ends(v);
    ended = openings_check(env->openings, name);
    if (ended < 0) { /* what was said of parts would mislead */
        volume_free(v);
        return ended;
    }
    if (r == 0)
        read_cache_open(v);
    *ret = v;
    return r;
}

bool
lsvd_can_write(const struct lsvd_volume *v)
{
    return v->attached && !v->client_read_only;
}
