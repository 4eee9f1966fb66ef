/* bring_up.c: from locked parts and a view to a volume that serves (faults.md
 * O2, O7).
 *
 * Tables -> replay (index and redo records) -> if the rules allow it with the
 *   parts that are there (R1, R3): claim the epoch, install the view that names
 *   the journal, without those that are away -> what was replayed is
 *   checkpointed.
 * (P2) Nothing is destaged, and no table, label or journal tail moves, unless
 *      the volume is attached. Redo records are re-applied all the same:
 *      without them a stripe cut in half can't be decoded.
 * (P3) No byte is served of a start that can't prove that it is the newest
 *      (R3), also not to readers, unless the cache directories know that
 *      nothing newer was written with them (JF8). */
#include "base/err.h"
#include "volume/bypass.h"
#include "volume/parent.h"
#include <stdio.h>
#include <string.h>

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
        if (is_our_trouble(r))
            return r;
        if (r < 0) {
            part_fail(&v->part[i], LSVD_PART_ERROR, "%s", err_text());
            v->usable &= ~(UINT32_C(1) << i);
        }
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
        r = force_without_journal(v);
    if (r == 0)
        r = chunk_store_init(v);
    if (r == 0)
        r = cache_new(v->config.ram_bytes, v->g.block_bytes, &v->cache);
    return r < 0 ? r : recover_and_attach(v, flags, wants_write);
}
