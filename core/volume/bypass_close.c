/* bypass_close.c: the role's side of bypass.h: open chunks become chunks like
 * any other, or their blocks go to the journal after all.
 *
 * (D4) holds as for destage: files, then names, then tables, then labels. Until
 * the tables are stored a crash finds the BYPASS record. */
#include "volume/bypass.h"
#include "base/err.h"
#include <assert.h>
#include <stdio.h>

#define AGE_NS UINT64_C(5000000000)
#define CHECKPOINT_PART 8

/* Those that are closed in one go, oldest first. */
struct closing {
    struct lsvd_volume *v;
    struct bypass_chunk *chunk[64];
    size_t count;
};

static bool
is_due(const struct lsvd_volume *v, const struct bypass_chunk *b,
       uint64_t upto)
{
    return b->closing || b->broken || b->id <= upto ||
           b->blocks == v->g.chunk_blocks;
}

/* Nobody writes to these from here on. */
static void
choose(struct closing *all, uint64_t upto)
{
    struct lsvd_volume *v = all->v;

    pthread_mutex_lock(&v->table_lock);
    for (struct bypass_chunk *b = v->bypass.first;
         b && all->count < sizeof all->chunk / sizeof all->chunk[0];
         b = b->next) {
        if (b->found || !is_due(v, b, upto))
            continue;
        b->closing = true;
        while (b->writers > 0)
            pthread_cond_wait(&v->bypass.changed, &v->table_lock);
        all->chunk[all->count++] = b;
    }
    pthread_mutex_unlock(&v->table_lock);
}

static void
take_off_list(struct lsvd_volume *v, struct bypass_chunk *b)
{
    struct bypass_chunk **at = &v->bypass.first;

    pthread_mutex_lock(&v->table_lock);
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    atomic_fetch_sub(&v->bypass.count, 1);
    pthread_mutex_unlock(&v->table_lock);
}

/* It is not on the list any more. */
static void
let_go(struct lsvd_volume *v, struct bypass_chunk *b)
{
    journal_forget_bypass(v->journal, b->chunk - 1, b->seq);
    chunk_mark_flux(v, b->chunk, false);
    if (b->pin)
        chunk_put(v, b->pin);
    bypass_free(b);
}

void
bypass_forget(struct lsvd_volume *v, struct bypass_chunk *b)
{
    take_off_list(v, b);
    let_go(v, b);
}

/* ---- all is well ---- */

/* What its records say goes into its files, with a sequence above theirs (D1).
 */
static int
store_entries(struct lsvd_volume *v, struct bypass_chunk *b)
{
    uint64_t seq = journal_take_seq(v->journal);
    struct lease lease;
    int r = 0;

    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, true);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        struct fragment *f = chunk_fragment_to_write(v, b->pin, i, NULL);

        if (f)
            atomic_fetch_add(&v->count.part_bytes, fragment_meta_bytes(f));
        r = f ? fragment_store_meta(f, seq) : -EIO;
        if (r < 0)
            r = part_failed(v, i, err_set(r, "part %c: its file of chunk %llu "
                                          "can't be written",
                                          v->part[i].letter,
                                          (unsigned long long)b->chunk));
    }
    b->newest = r == 0 ? seq : b->newest;
    lease_put(&v->chunk_leases, &lease);
    return r;
}

/* Of each chunk a plan, which has nothing to put in place. */
static int
make_plans(const struct lsvd_volume *v, struct bypass_chunk *const *chunk,
           size_t count, struct plan **ret_first)
{
    for (size_t i = count; i-- > 0;) {
        struct plan *plan = plan_new(chunk[i]->chunk);

        if (!plan)
            return -ENOMEM;
        plan->seq = chunk[i]->newest;
        plan->pin = chunk[i]->pin;
        plan->bulk = plan_is_bulk(v, chunk[i]->blocks);
        plan->next = *ret_first;
        *ret_first = plan;
    }
    return 0;
}

static void
free_plans(struct plan *first)
{
    struct plan *next;

    for (; first; first = next) {
        next = first->next;
        first->pin = NULL; /* it is the chunk's */
        plan_free(first);
    }
}

int
bypass_make_durable(struct lsvd_volume *v, struct bypass_chunk *const *chunk,
                    size_t count)
{
    struct plan *first = NULL;
    int r = make_plans(v, chunk, count, &first);

    if (r == 0 && count > 0)
        r = plan_sync(v, first, v->usable);
    if (r == 0)
        r = names_sync(v, v->usable);
    for (const struct plan *plan = first; plan && r == 0; plan = plan->next)
        r = tables_set(v, plan);
    if (r == 0)
        r = tables_store(v, v->usable);
    free_plans(first);
    return r;
}

/* Those who wait look again. */
static void
tell_progress(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->state_lock);
    v->destage_rounds++;
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
}

/* Labels and the journal's tail may stay behind for a while: their syncs take
 * longer than all others while much is being written. A batch that is kept has
 * its REDO records in the journal, which must not be taken as done with, and
 * comes to a checkpoint by itself. */
static bool
is_checkpoint_due(struct lsvd_volume *v)
{
    struct journal_space now;

    if (v->batch)
        return false;
    journal_space(v->journal, &now);
    return atomic_load(&v->bypass.count) == 0 ||
           now.used_bytes > now.ring_bytes / CHECKPOINT_PART;
}

/* The tables are durable: what fails now is only told of the parts. */
static int
checkpoint(struct lsvd_volume *v)
{
    int r = parts_try(v, destage_checkpoint);

    return r < 0 ? journal_failed(v, r) : 0;
}

/* ---- all is not ---- */

/* As much of the piece's rest as a record takes. */
static int
spill_some(struct lsvd_volume *v, struct bypass_chunk *b,
           const struct plan *piece)
{
    size_t bytes = v->g.block_bytes, left = piece->block_count - b->spilled;
    size_t most = journal_payload_max(v->journal) / bytes;
    uint64_t sums[JOURNAL_RECORD_PAYLOAD_MAX / BLOCK_BYTES_MIN];
    uint64_t first = piece->blocks[b->spilled].block;
    uint32_t count = (uint32_t)(left < most ? left : most);
    int r;

    for (uint32_t i = 0; i < count; i++)
        sums[i] = piece->blocks[b->spilled + i].sum;
    r = journal_append_spilled(v->journal, first, count, sums,
                               shared_bytes(piece->written) +
                                   b->spilled * bytes);
    if (r == 0)
        b->spilled += count;
    return r;
}

/* BY6. Goes on where the last attempt ended. */
static int
spill(struct lsvd_volume *v, struct bypass_chunk *b)
{
    struct lease lease;
    int r = 0;

    while (b->pieces && r == 0) {
        struct plan *piece = b->pieces;

        r = spill_some(v, b, piece);
        if (r < 0 || b->spilled < piece->block_count)
            continue;
        b->pieces = piece->next;
        b->spilled = 0;
        plan_free(piece);
    }
    if (r < 0)
        return journal_failed(v, r);
    /* Its files are nothing from here on: who reads them now sees neither half
     * of this. */
    lease_get(&v->chunk_leases, &lease, b->chunk, b->chunk + 1, true);
    atomic_fetch_add(&v->bypass.spills, 1);
    if (b->pin)
        chunk_forget_fragments(v, b->pin);
    take_off_list(v, b);
    lease_put(&v->chunk_leases, &lease);
    let_go(v, b);
    return 0;
}

static int
spill_all(struct closing *all)
{
    int r = 0;

    for (size_t i = 0; i < all->count; i++) {
        int one = spill(all->v, all->chunk[i]);

        r = one < 0 ? one : r;
    }
    return r;
}

/* ---- which ---- */

/* Those that go no other way than into the journal, out of the others. */
static void
take_broken(struct closing *all, struct closing *broken, bool may_close)
{
    struct lsvd_volume *v = all->v;
    size_t kept = 0;

    for (size_t i = 0; i < all->count; i++) {
        struct bypass_chunk *b = all->chunk[i];

        if (!may_close || b->broken || b->parts != v->usable)
            broken->chunk[broken->count++] = b;
        else
            all->chunk[kept++] = b;
    }
    all->count = kept;
}

static int
close_chosen(struct closing *all)
{
    struct lsvd_volume *v = all->v;
    struct closing broken = {.v = v};
    int r = 0, spilled;

    take_broken(all, &broken, parts_settle(v) == 0);
    spilled = spill_all(&broken);
    if (all->count == 0)
        return spilled;
    v->failed = 0;
    for (size_t i = 0; i < all->count && r == 0; i++)
        r = store_entries(v, all->chunk[i]);
    if (r == 0)
        r = bypass_make_durable(v, all->chunk, all->count);
    if (r < 0) {
        log_event(&v->log, LOG_WARNING_LEVEL, "volume %s: %s: what was written "
                  "to its parts goes to the journal, too", v->meta.name,
                  err_text());
        v->failed = 0; /* destage will meet it, and decide */
        r = spill_all(all);
        return r < 0 ? r : spilled;
    }
    for (size_t i = 0; i < all->count; i++)
        bypass_forget(v, all->chunk[i]);
    tell_progress(v);
    if (is_checkpoint_due(v))
        r = checkpoint(v);
    return r < 0 ? r : spilled;
}

int
bypass_close(struct lsvd_volume *v, uint64_t upto, bool *ret_closed)
{
    struct closing all = {.v = v};
    int r;

    *ret_closed = false;
    if (atomic_load(&v->bypass.count) == 0)
        return 0;
    if (v->usable != volume_all_parts(v) || atomic_load(&v->stopping))
        upto = BYPASS_ALL;
    choose(&all, upto);
    if (all.count == 0)
        return 0;
    r = close_chosen(&all);
    *ret_closed = r == 0;
    return r;
}

/* ---- rounds ---- */

bool
bypass_is_asked_locked(struct lsvd_volume *v)
{
    bool asked = false;

    if (atomic_load(&v->bypass.count) == 0)
        return false;
    pthread_mutex_lock(&v->table_lock);
    for (const struct bypass_chunk *b = v->bypass.first; b; b = b->next)
        asked = asked || (!b->found && is_due(v, b, v->bypass.asked));
    pthread_mutex_unlock(&v->table_lock);
    return asked;
}

int
bypass_round(struct lsvd_volume *v)
{
    struct lease lease;
    uint64_t upto;
    bool closed;
    int r;

    pthread_mutex_lock(&v->state_lock);
    upto = v->bypass.asked;
    pthread_mutex_unlock(&v->state_lock);
    lease_get(&v->role, &lease, 0, 1, true);
    r = volume_check_ours(v);
    if (r == 0)
        r = bypass_close(v, upto, &closed);
    lease_put(&v->role, &lease);
    tell_progress(v);
    return r;
}

void
bypass_look_for_old(struct lsvd_volume *v, bool all)
{
    uint64_t now = v->io->ops->now_ns(v->io);

    if (atomic_load(&v->bypass.count) == 0)
        return;
    pthread_mutex_lock(&v->state_lock);
    pthread_mutex_lock(&v->table_lock);
    for (const struct bypass_chunk *b = v->bypass.first; b; b = b->next) {
        if ((all || now - b->begun_ns >= AGE_NS) && b->id > v->bypass.asked)
            v->bypass.asked = b->id;
    }
    pthread_mutex_unlock(&v->table_lock);
    pthread_mutex_unlock(&v->state_lock);
}

static void
bar(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->table_lock);
    v->bypass.barred++;
    pthread_mutex_unlock(&v->table_lock);
}

int
bypass_bar(struct lsvd_volume *v)
{
    bool closed;
    int r;

    bar(v);
    r = bypass_close(v, BYPASS_ALL, &closed);
    if (r == 0 && atomic_load(&v->bypass.count) == 0)
        return 0;
    bypass_unbar(v);
    return r < 0 ? r : -EIO;
}

void
bypass_unbar(struct lsvd_volume *v)
{
    pthread_mutex_lock(&v->table_lock);
    assert(v->bypass.barred > 0);
    v->bypass.barred--;
    pthread_mutex_unlock(&v->table_lock);
}

bool
bypass_bar_opening(struct lsvd_volume *v, uint64_t chunk)
{
    bar(v);
    if (!bypass_is_open(v, chunk))
        return true;
    bypass_unbar(v);
    return false;
}
