/* open.c: open, claim, recover, close: the order of things (faults.md O2, O7).
 *
 * Open: find the policy -> lock the parts -> read labels, choose the view ->
 *   its journal, if it names one, must be here -> tables -> replay (index and
 *   redo records) -> with all parts healthy: claim the epoch, install the
 *   view that names the journal.
 * Close: destage all -> view with the journal detached, labels clean.
 * (P1) No label or journal is written before every part that is there is
 *      locked, and no view of an epoch before all members promised it.
 * (P2) Nothing is destaged, and no table, label or journal tail moves, unless
 *      the volume is attached. Redo records are re-applied all the same:
 *      without them a stripe cut in half can't be decoded. */
#include "volume/volume.h"
#include "base/err.h"
#include "base/memory.h"
#include "redundancy/membership.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
list_copy(char **const from, const char *const *given, char ***ret)
{
    size_t count = 0;
    char **list = NULL;
    int r;

    while (given ? given[count] != NULL : from[count] != NULL)
        count++;
    r = mem_new(count + 1, sizeof(char *), &list);
    for (size_t i = 0; i < count && r == 0; i++)
        r = mem_dup(given ? given[i] : from[i], &list[i]);
    if (r < 0) {
        for (size_t i = 0; list && i < count; i++)
            free(list[i]);
        free(list);
        return r;
    }
    *ret = list;
    return 0;
}

static void
list_free(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

int
env_load(const struct lsvd_env *env, const char *name, struct config *ret,
         struct io **ret_io, struct logger *ret_log)
{
    char **list;
    int r;

    *ret_io = env->io ? env->io : io_system();
    ret_log->cb = (log_cb)(void (*)(void))env->log;
    ret_log->ctx = env->log_ctx;
    r = config_load(env->config_path, name, ret);
    if (r < 0)
        return r;
    if (env->data && env->data[0]) {
        r = list_copy(NULL, env->data, &list);
        if (r == 0) {
            list_free(ret->data);
            ret->data = list;
        }
    }
    if (r == 0 && env->cache && env->cache[0]) {
        r = list_copy(NULL, env->cache, &list);
        if (r == 0) {
            list_free(ret->cache);
            ret->cache = list;
        }
    }
    for (size_t i = 0; r == 0 && env->settings && env->settings[i]; i++)
        r = config_set(ret, env->settings[i]);
    if (env->ram_bytes > 0)
        ret->ram_bytes = env->ram_bytes;
    if (r < 0)
        config_done(ret);
    return r;
}

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
        r = env_load(env, name, &v->config, &v->io, &v->log);
    if (r < 0) {
        events_free(v->events);
        free(v);
        return r;
    }
    pthread_mutex_init(&v->table_lock, NULL);
    pthread_mutex_init(&v->state_lock, NULL);
    pthread_cond_init(&v->work, NULL);
    pthread_cond_init(&v->progress, NULL);
    lease_table_init(&v->leases);
    lease_table_init(&v->chunk_leases);
    pthread_mutex_init(&v->chunks.lock, NULL);
    *ret = v;
    return 0;
}

void
volume_free(struct lsvd_volume *v)
{
    if (!v)
        return;
    batch_free(v);
    chunk_store_done(v);
    cache_free(v->cache);
    journal_close(v->journal);
    target_close(v->cache_dir);
    journal_files_done(v);
    parts_close(v);
    ec_free(v->ec);
    meta_done(&v->meta);
    config_done(&v->config);
    events_free(v->events);
    lease_table_done(&v->leases);
    lease_table_done(&v->chunk_leases);
    pthread_mutex_destroy(&v->chunks.lock);
    pthread_mutex_destroy(&v->table_lock);
    pthread_mutex_destroy(&v->state_lock);
    pthread_cond_destroy(&v->work);
    pthread_cond_destroy(&v->progress);
    free(v);
}

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

/* Choose the view, find its journal, judge each part against both. */
static int
choose_view(struct lsvd_volume *v)
{
    const struct label *labels[PARTS_MAX];
    uint32_t present = labels_of(v, labels), w;
    uint64_t ckpt, newest;
    int r;

    r = membership_choose(labels, v->g.part_count, &v->view);
    if (r == -ENOENT)
        return err_set(r, "volume %s: no part can be used; part a is %s: %s",
                       v->meta.name, lsvd_part_state_text(v->part[0].state),
                       v->part[0].problem);
    if (r < 0)
        return err_wrap(r, "volume %s", v->meta.name);
    if (!uuid_is_zero(&v->view.journal) && !v->observer) {
        const struct view *stored;

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
    }
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
    w = membership_write_quorum(v->meta.replicas, v->g.data_count,
                                v->g.parity_count);
    if (!v->journal && !v->observer &&
        !membership_proven(&v->view, v->usable, w))
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: too many parts are out of sight to prove that "
                  "this is the newest state; if they were written to "
                  "without these, newer data is there",
                  v->meta.name);
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

/* Any part that has the chunk: a cut may have left tables that differ. No
 * more than that, or a replay would need more of the index than the run did
 * that wrote the records. */
static bool
replay_present(void *ctx, uint64_t chunk)
{
    struct replay_context *replay = ctx;
    struct lsvd_volume *v = replay->v;
    bool present = false;

    pthread_mutex_lock(&v->table_lock);
    for (uint32_t i = 0; i < v->g.part_count && !present; i++)
        present = v->part[i].table &&
                  chunk_table_get(v->part[i].table, chunk + 1).state ==
                      CHUNK_PRESENT;
    pthread_mutex_unlock(&v->table_lock);
    return present;
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
recover(struct lsvd_volume *v, bool healthy)
{
    struct redo_list *list = redo_list_new();
    struct replay_context ctx = {v, list};
    struct replay_callbacks cb = {.present = replay_present,
                                  .redo = replay_redo,
                                  .seed = replay_block_seed,
                                  .ctx = &ctx};
    struct replay_stats stats;
    uint64_t begin = v->io->ops->now_ns(v->io), ms;
    int r;

    if (!list)
        return -ENOMEM;
    r = journal_level(v);
    journal_set_chunk_blocks(v->journal, v->g.chunk_blocks);
    journal_set_volume_blocks(v->journal, v->g.block_count);
    if (r == 0)
        r = journal_replay(v->journal, &cb, &stats);
    if (r == 0 && healthy)
        r = volume_claim(v); /* JF5 */
    if (r == 0)
        r = redo_apply_all(v, list, healthy);
    redo_list_free(list);
    if (r == 0 && healthy)
        r = leftovers_remove(v);
    if (r < 0)
        return err_wrap(r, "volume %s: replay", v->meta.name);
    ms = (v->io->ops->now_ns(v->io) - begin) / 1000000;
    log_event(&v->log, LOG_INFO_LEVEL,
              "volume %s: replayed %llu records, %llu blocks, in %llu ms%s",
              v->meta.name, (unsigned long long)stats.records,
              (unsigned long long)stats.blocks, (unsigned long long)ms,
              stats.torn_tail ? "; the last record was cut short" : "");
    return 0;
}

int
label_write(struct lsvd_volume *v, struct part *p)
{
    struct label *label = &p->label;
    int r;

    label->written_at = v->io->ops->wall_seconds(v->io);
    memset(label->host, 0, sizeof label->host);
    gethostname(label->host, sizeof label->host - 1);
    if (p->table)
        label->table_generation = chunk_table_generation(p->table);
    atomic_fetch_add(&v->count.part_bytes, LABEL_SLOT_BYTES);
    atomic_fetch_add(&v->count.part_syncs, 1);
    r = label_store(p->dir, label);
    return r < 0 ? err_wrap(r, "part %c", p->letter) : 0;
}

int
volume_labels_checkpoint(struct lsvd_volume *v, uint64_t ckpt)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        int r;

        if (!(v->usable & UINT32_C(1) << i))
            continue;
        v->part[i].label.ckpt = ckpt;
        r = label_write(v, &v->part[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

int
volume_install_view(struct lsvd_volume *v, const struct view *next,
                    bool clean)
{
    struct view view = *next;
    int r;

    if (v->journal && !uuid_is_zero(&view.journal)) {
        struct journal_identity identity = *journal_identity(v->journal);

        identity.view = view;
        identity.journal = view.journal;
        r = journal_store_identity(v->journal, &identity);
        if (r < 0)
            return r;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        if (!(v->usable & UINT32_C(1) << i) ||
            !(view.members & UINT32_C(1) << i))
            continue;
        p->label.view = view;
        p->label.clean = clean;
        r = label_write(v, p);
        if (r < 0)
            return r;
    }
    v->view = view;
    return 0;
}

/* R4: promised everywhere before any view of that epoch exists. */
int
volume_promise(struct lsvd_volume *v, uint32_t *ret_epoch)
{
    const struct label *labels[PARTS_MAX];
    uint32_t epoch;
    int r;

    /* of any part that was seen, also one that is stale */
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct part *p = &v->part[i];

        labels[i] = p->has_label &&
                            uuid_equal(&p->label.volume, &v->meta.uuid)
                        ? &p->label
                        : NULL;
    }
    epoch = membership_next_epoch(labels, v->g.part_count, &v->view);
    if (epoch > SEQ_EPOCH_MAX)
        return err_set(-EIO, "volume %s has used up its %u starts",
                       v->meta.name, SEQ_EPOCH_MAX);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            continue;
        /* R5: one that a cut left at the view before is rolled forward, or
         * the next view would leave it two behind. */
        if (v->view.members & UINT32_C(1) << i)
            v->part[i].label.view = v->view;
        v->part[i].label.promised = epoch;
        r = label_write(v, &v->part[i]);
        if (r < 0)
            return r;
    }
    *ret_epoch = epoch;
    return 0;
}

int
volume_claim(struct lsvd_volume *v)
{
    struct view next;
    struct view_id id;
    uint32_t epoch;
    int r;

    r = volume_promise(v, &epoch);
    if (r < 0)
        return r;
    memset(&id, 0, sizeof id);
    id.epoch = epoch;
    r = v->io->ops->random(v->io, id.start.b, sizeof id.start.b);
    if (r < 0)
        return r;
    next = v->view;
    view_advance(&next, &id);
    r = v->io->ops->random(v->io, next.journal.b, sizeof next.journal.b);
    if (r == 0 && !v->journal)
        r = journal_make(v, &next);
    if (r < 0)
        return r;
    journal_start(v->journal, epoch);
    r = volume_install_view(v, &next, false); /* JF1 */
    if (r == 0)
        r = journal_settle(v); /* a copy may have failed just now */
    if (r < 0)
        return r;
    v->attached = true;
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
        if (r == -ENOMEM) /* our trouble, not the part's */
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

/* Everything after the locks. */
static int
volume_bring_up(struct lsvd_volume *v, unsigned flags)
{
    bool wants_write = !(flags & (LSVD_OPEN_READ_ONLY | OPEN_REPAIR)) &&
                       !v->meta.read_only && !v->observer;
    bool healthy, dirty;
    int r;

    r = choose_view(v);
    if (r < 0)
        return r;
    dirty = v->journal != NULL;
    if (dirty && !wants_write && !(flags & OPEN_REPAIR)) {
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
    r = tables_open(v);
    if (r == 0)
        r = check_readable(v, flags);
    if (r == 0)
        r = chunk_store_init(v);
    if (r == 0)
        r = cache_new(v->config.ram_bytes, v->g.block_bytes, &v->cache);
    if (r < 0)
        return r;
    healthy = v->usable == volume_all_parts(v);
    if (dirty) {
        r = recover(v, healthy);
        if (r < 0)
            return r;
    }
    if (healthy && !v->observer &&
        (wants_write || dirty || (flags & OPEN_REPAIR)) && any_doubtful(v)) {
        /* before a store of the damaged table makes it look sound */
        r = tables_level(v);
        if (r < 0)
            return r;
    }
    if (healthy && !v->observer && wants_write && !v->attached)
        return volume_claim(v);
    if (!healthy && wants_write)
        log_event(&v->log, LOG_ERROR_LEVEL,
                  "volume %s: not all parts are healthy: it is served "
                  "read-only; see lsvd-repair verify",
                  v->meta.name);
    return 0;
}

/* The policy was read before the locks were taken: has somebody changed it in
 * between? -EAGAIN then: begin anew. */
static int
check_policy(struct lsvd_volume *v)
{
    const struct logger silent = {NULL, NULL};
    struct volume_meta now;
    bool same;
    int r;

    r = volume_find(v->io, &silent, &v->config, v->meta.name, &now, NULL, 0,
                    NULL);
    if (r < 0)
        return r;
    same = now.generation == v->meta.generation;
    meta_done(&now);
    return same ? 0 : err_set(-EAGAIN, "volume %s is being changed",
                              v->meta.name);
}

static int
find_policy(struct lsvd_volume *v, const char *name)
{
    int r = volume_find(v->io, &v->log, &v->config, name, &v->meta,
                        v->problem,
                        sizeof v->problem / sizeof v->problem[0],
                        &v->problem_count);

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

static int
open_once(const struct lsvd_env *env, const char *name, unsigned flags,
          struct lsvd_volume **ret)
{
    struct lsvd_volume *v;
    int r;

    r = volume_new(env, name, &v);
    if (r < 0)
        return r;
    v->observer = flags & LSVD_OPEN_NO_LOCK;
    r = find_policy(v, name);
    v->client_read_only = (flags & (LSVD_OPEN_READ_ONLY | LSVD_OPEN_NO_LOCK |
                                    OPEN_REPAIR)) ||
                          v->meta.read_only;
    v->exclusive = !v->client_read_only || (flags & OPEN_REPAIR);
    if (r == 0 && v->g.is_ec)
        r = ec_new(v->meta.ec_data, v->meta.ec_parity, &v->ec);
    if (r == 0)
        r = parts_open(v, v->exclusive);
    if (r == 0 && !v->observer)
        r = check_policy(v);
    if (r == 0)
        r = volume_bring_up(v, flags);
    if (r == 0 && v->exclusive && v->problem_count > 0 &&
        !(flags & OPEN_INSPECT)) {
        log_event(&v->log, LOG_WARNING_LEVEL,
                  "volume %s: %s: %s; brought up to date", v->meta.name,
                  v->problem[0].path, v->problem[0].text);
        (void)volume_store_meta(v->io, &v->meta);
    }
    if (r < 0) {
        volume_free(v);
        return r;
    }
    *ret = v;
    return 0;
}

int
volume_open(const struct lsvd_env *env, const char *name, unsigned flags,
            struct lsvd_volume **ret)
{
    int r = -EAGAIN;

    for (int tries = 0; r == -EAGAIN && tries < 5; tries++)
        r = open_once(env, name, flags, ret);
    return r == -EAGAIN ? -EBUSY : r;
}

/* Destage everything that the journal holds. */
int
volume_drain(struct lsvd_volume *v)
{
    struct journal_space space;
    int r;

    for (;;) {
        journal_space(v->journal, &space);
        if (space.dirty_chunks == 0 && !v->batch)
            return 0;
        r = destage_batch(v);
        if (r < 0)
            return r;
        if (r == 0)
            return err_set(-EIO, "volume %s: the journal does not empty",
                           v->meta.name);
    }
}

/* O7: only then may another host open without this journal. */
int
volume_detach(struct lsvd_volume *v)
{
    struct view next = v->view;
    struct view_id id = v->view.id;
    int r;

    r = volume_drain(v);
    if (r < 0)
        return r;
    id.minor++;
    view_advance(&next, &id);
    memset(&next.journal, 0, sizeof next.journal);
    r = volume_install_view(v, &next, true);
    if (r == 0)
        v->attached = false;
    return r;
}

int
lsvd_close(struct lsvd_volume *v)
{
    char text[256];
    int r = 0;

    destage_stop(v);
    if (v->attached)
        r = volume_detach(v);
    snprintf(text, sizeof text, "%s", err_text());
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
    return volume_open(env, name,
                       flags & (LSVD_OPEN_READ_ONLY | LSVD_OPEN_NO_LOCK),
                       ret);
}

bool
lsvd_can_write(const struct lsvd_volume *v)
{
    return v->attached && !v->client_read_only;
}
