/* force.c: a start without what can't be had any more (faults.md R8).
 *
 *   locks, labels -> is it needed? -> who, when, why: into the policy ->
 *   the journal, if it can't be used, is renamed -> claim with the parts that
 *   are there (R4), the others dropped -> full verify -> what does not agree
 *   is made alike -> the loss is verified -> close
 *
 * (FO1) Nothing is changed before it is known that it is needed, and nothing
 *       but the policy before the reason is in it.
 * (FO2) The view's members are the parts that are usable, all of them, however
 *       few, but as many as are needed to read. Q is the same set: R1 and R3
 *       are as strict afterwards as if there had never been others.
 * (FO3) Each part that is left out may have gone on in another history. It is
 *       called dropped by the view that would follow the last one we know, so
 *       that any later view of its own, of whatever epoch, makes it DIVERGED
 *       (membership_returning). Not so one that fails after the start began.
 * (FO4) Without its journal a part that was away may hold bytes, destaged and
 *       not checkpointed, of which no table tells: all of it is copied when it
 *       comes back.
 * (FO5) Without the journal the parts may not agree: readers of a replicated
 *       volume would see now the one, now the other. They are made alike before
 *       it can be served, by the newest copy that passes its check; a row of an
 *       EC volume by the newest that is whole (stripe.c).
 * (FO6) Without its journal a block may be torn on one part and whole on
 *       another, and with EC a row half old, half new: a part that is left out
 *       takes blocks with it. One that is there and fails ends the start.
 * (FO7) A server that was killed leaves bytes that no disk has yet, and no
 *       journal will write them again: all files of the parts are durable, and
 *       read anew, before anything is concluded from them.
 * (FO8) A journal is given up if it is missing or damaged. One that is there
 *       and can't be read may be whole a moment later: the start is refused. */
#include "base/err.h"
#include "base/memory.h"
#include "redundancy/membership.h"
#include "volume/refer.h"
#include "volume/verify.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct forcing {
    struct verify y;
    const struct lsvd_env *env;
    const struct lsvd_repair_callbacks *cb; /* the caller's; may be NULL */
    uint8_t *odd;     /* bit per chunk: something was found; owned */
    bool given_up;
    char cause[512];
};

bool
volume_has_accepted_loss(struct lsvd_volume *v)
{
    bool has;

    pthread_mutex_lock(&v->state_lock);
    has = v->meta.accepted_loss;
    pthread_mutex_unlock(&v->state_lock);
    return has;
}

bool
force_may_look_back(struct lsvd_volume *v)
{
    bool may;

    pthread_mutex_lock(&v->state_lock);
    may = v->meta.accepted_loss && !(v->view.members & ~v->usable);
    pthread_mutex_unlock(&v->state_lock);
    return may;
}

/* ---- what is on the parts, and nowhere else ---- */

static int
sync_file(void *ctx, const char *name)
{
    struct object *file;
    int r;

    if (strspn(name, "0123456789") != strlen(name) &&
        references_chunk_of(name) == 0 && strcmp(name, LABEL_NAME) != 0 &&
        strcmp(name, CHUNK_TABLE_NAME) != 0)
        return 0;
    r = target_open(ctx, name, 0, &file);
    if (r == -ENOENT || r == -EPROTO) /* gone, or no file of ours */
        return 0;
    if (r < 0)
        return r;
    r = object_sync(file);
    object_drop_cache(file); /* what an earlier sync could not write */
    object_close(file);
    return r;
}

/* FO7. */
static int
sync_parts(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];
        int r;

        if (!(v->usable & UINT32_C(1) << i))
            continue;
        r = target_list(p->dir, sync_file, p->dir);
        if (r == 0)
            r = target_sync(p->dir);
        if (r < 0 && !is_part_trouble(r))
            return r;
        if (r < 0) {
            part_fail(p, LSVD_PART_ERROR, "%s", err_text());
            v->usable &= ~(UINT32_C(1) << i);
        }
    }
    return 0;
}

/* FO6. */
static int
check_none_fails(const struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (part_may_be_there(&v->part[i]) &&
            (v->view.members | v->view.complete_members) & UINT32_C(1) << i)
            return err_set(-EIO,
                           "volume %s: part %c fails, and without it blocks "
                           "may be lost: %s; try again, or, if that will not "
                           "change, take its directory away",
                           v->meta.name, v->part[i].letter,
                           v->part[i].problem);
    }
    return 0;
}

/* ---- is it needed? ---- */

static int
check_enough(struct lsvd_volume *v)
{
    uint32_t usable = (uint32_t)__builtin_popcount(v->usable);
    uint32_t needed = v->g.is_ec ? v->g.data_count : 1;

    if (usable >= needed)
        return 0;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            return err_set(-EIO,
                           "volume %s: %u of the %u parts needed to read can "
                           "be used; part %c is %s: %s; that can't be forced",
                           v->meta.name, usable, needed, v->part[i].letter,
                           lsvd_part_state_text(v->part[i].state),
                           v->part[i].problem);
    }
    return err_set(-EIO, "volume %s: not enough parts", v->meta.name);
}

/* Errors that say nothing of the journal. */
static bool
is_ours(int r)
{
    return r == -EBUSY || r == -ENOMEM || r == -EINVAL || r == -EPROTO;
}

static int
find_cause(struct forcing *f)
{
    struct lsvd_volume *v = f->y.v;
    int r;

    r = volume_choose_view(v);
    if (r < 0)
        return r;
    r = volume_find_journal(v);
    if (is_ours(r))
        return r;
    if (r == 0 && v->journal) {
        r = journal_check(v);
        if (r < 0 && r != -EBADMSG) /* FO8 */
            return r;
    }
    f->given_up = r < 0;
    snprintf(f->cause, sizeof f->cause, "%s",
             r < 0 ? err_text() : "too few parts are in sync to prove that "
                                  "nothing newer exists, or to write");
    volume_judge_parts(v);
    r = check_enough(v);
    if (r == 0 && f->given_up)
        r = journal_may_give_up(v);
    if (r == 0 && f->given_up)
        r = sync_parts(v);
    if (r == 0 && f->given_up)
        r = check_none_fails(v);
    if (r == 0 && !f->given_up && volume_may_attach(v))
        r = err_set(-EALREADY, "volume %s starts without this; nothing was "
                    "changed", v->meta.name);
    return r;
}

/* ---- for ever ---- */

static int
record(struct lsvd_volume *v, const char *user, const char *reason)
{
    time_t now = (time_t)v->io->ops->wall_seconds(v->io);
    char line[META_FORCED_BYTES_MAX + 2], host[65] = "?", at[32] = "?";
    struct tm tm;
    int r;

    if (gmtime_r(&now, &tm))
        strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    gethostname(host, sizeof host - 1);
    snprintf(line, sizeof line, "%s %.64s@%s: %s", at, user, host, reason);
    r = meta_add_forced(&v->meta, line);
    if (r < 0)
        return err_wrap(r, "volume %s: --accept-loss", v->meta.name);
    v->meta.accepted_loss = true;
    v->meta.generation++;
    return volume_store_meta(v->io, &v->meta);
}

/* ---- the start ---- */

static void
say_what(struct forcing *f)
{
    struct lsvd_volume *v = f->y.v;

    event_note(v, LOG_WARNING_LEVEL, "force", 0,
               "the start is forced: %.400s", f->cause);
    if (!f->given_up)
        return;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((v->usable & UINT32_C(1) << i) &&
            v->part[i].label.ckpt > f->y.report->kept_seq)
            f->y.report->kept_seq = v->part[i].label.ckpt;
    }
    f->y.report->journal_given_up = true;
    event_note(v, LOG_WARNING_LEVEL, "force", 0,
               "writes since sequence %llu that were only in the journal are "
               "lost; which blocks is not known",
               (unsigned long long)f->y.report->kept_seq);
}

static int
start(struct forcing *f)
{
    struct lsvd_volume *v = f->y.v;
    uint32_t w = volume_write_quorum(v);
    uint32_t members = v->usable & v->view.members;
    uint32_t count = (uint32_t)__builtin_popcount(members);
    int r = 0;

    v->force.left_out = ~v->usable;
    v->force.dropped_by = v->view.id;
    v->force.dropped_by.minor++;
    memset(&v->force.dropped_by.start, 0, sizeof v->force.dropped_by.start);
    v->force.quorum = count < w || f->given_up ? count : w;
    v->force.given_up = f->given_up;
    v->view.complete_members = members;
    if (f->given_up)
        r = journal_give_up(v);
    if (r == 0)
        r = volume_bring_up(v, OPEN_DEGRADED, true);
    if (r == 0 && !v->attached)
        r = err_set(-EIO, "volume %s: too many parts have failed just now",
                    v->meta.name);
    return r < 0 ? r : volume_drain(v);
}

void
force_doubt_absent(struct lsvd_volume *v, struct view *next)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!(next->members & UINT32_C(1) << i))
            next->absent[i].ckpt = VIEW_CKPT_UNKNOWN;
    }
}

/* ---- chunk files that no table knows ---- */

struct find {
    struct lsvd_volume *v;
    uint32_t slot;
};

/* Written for the first time, and not checkpointed before the end: what is in
 * it was answered to somebody. Not with EC: the chunk would need K of them. */
static int
find_chunk(void *ctx, const char *name)
{
    struct find *find = ctx;
    struct lsvd_volume *v = find->v;
    struct part *p = &v->part[find->slot];
    struct fragment_id id = {.volume = v->meta.uuid,
                             .instance = p->label.instance,
                             .fragment = find->slot};
    struct chunk_entry truth;
    struct fragment *f;
    char *end;
    int r = 0;

    errno = 0;
    id.chunk = strtoull(name, &end, 10);
    if (!isdigit((unsigned char)name[0]) || *end || errno || id.chunk == 0 ||
        id.chunk > geometry_chunk_count(&v->g))
        return 0;
    truth = chunk_truth(v, id.chunk);
    if (truth.state == CHUNK_PRESENT)
        return 0;
    r = fragment_open(p->dir, &v->g, &id, false, &f);
    if (r < 0) /* FO6 */
        return fragment_is_none(r)
                   ? 0
                   : err_wrap(r, "part %c fails, and without its file of "
                              "chunk %llu blocks may be lost; try again, or, "
                              "if that will not change, take the file away",
                              p->letter, (unsigned long long)id.chunk);
    if (f->seq > truth.seq)
        r = chunk_table_set(p->table, id.chunk,
                            (struct chunk_entry){f->seq, CHUNK_PRESENT, 0});
    fragment_close(f);
    return r;
}

static int
find_chunks(struct lsvd_volume *v)
{
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r == 0 && !v->g.is_ec; i++) {
        struct find find = {v, i};

        if ((v->usable & UINT32_C(1) << i) && v->part[i].table)
            r = target_list(v->part[i].dir, find_chunk, &find);
    }
    return r;
}

/* What the tables say of references (RF6) counts on a journal that has what
 * cells are ahead of them. Durable at once: a start after a kill would not know
 * that this one was forced. */
static int
forget_references(struct chunk_table *t)
{
    int r = 0;

    for (uint64_t c = chunk_table_next(t, 1); c && r == 0;
         c = chunk_table_next(t, c + 1)) {
        struct chunk_entry entry = chunk_table_get(t, c);

        if (entry.references_seq == 0)
            continue;
        entry.references_seq = 0;
        r = chunk_table_set(t, c, entry);
    }
    return r;
}

int
force_without_journal(struct lsvd_volume *v)
{
    int r = check_none_fails(v); /* a table may have failed just now */

    if (r == 0)
        r = find_chunks(v);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if ((v->usable & UINT32_C(1) << i) && v->part[i].table)
            r = forget_references(v->part[i].table);
    }
    return r < 0 ? r : tables_store(v, v->usable);
}

/* ---- verify, and make alike ---- */

static bool
is_odd(const struct forcing *f, uint64_t chunk)
{
    return f->odd[chunk / 8] & 1u << chunk % 8;
}

/* A file that no table knows: the whole chunk is doubtful. Told once. */
static void
tell_unexpected(struct forcing *f, uint64_t chunk)
{
    const struct geometry *g = &f->y.v->g;
    struct lsvd_lost_range range = {
        .offset = geometry_first_block(g, chunk) * g->block_bytes,
        .count = g->chunk_bytes};

    if (range.offset + range.count > g->volume_bytes)
        range.count = g->volume_bytes - range.offset;
    if (!is_odd(f, chunk) && f->cb && f->cb->doubtful)
        f->cb->doubtful(f->cb->ctx, &range);
}

static void
on_finding(void *ctx, const struct lsvd_finding *found)
{
    struct forcing *f = ctx;

    if (found->chunk > 0 && found->kind == LSVD_CHUNK_UNEXPECTED)
        tell_unexpected(f, found->chunk);
    if (found->chunk > 0)
        f->odd[found->chunk / 8] |= (uint8_t)(1u << found->chunk % 8);
    if (f->cb && f->cb->finding)
        f->cb->finding(f->cb->ctx, found);
}

static void
on_lost(void *ctx, const struct lsvd_lost_range *range)
{
    struct forcing *f = ctx;

    if (f->cb && f->cb->lost)
        f->cb->lost(f->cb->ctx, range);
}

static void
on_doubtful(void *ctx, const struct lsvd_lost_range *range)
{
    struct forcing *f = ctx;

    if (f->cb && f->cb->doubtful)
        f->cb->doubtful(f->cb->ctx, range);
}

static void
on_progress(void *ctx, const struct lsvd_progress *progress)
{
    struct forcing *f = ctx;

    if (f->cb && f->cb->progress)
        f->cb->progress(f->cb->ctx, progress);
}

static bool
is_cancelled(void *ctx)
{
    struct forcing *f = ctx;

    return f->cb && f->cb->cancelled && f->cb->cancelled(f->cb->ctx);
}

/* FO5. One chunk on all members. What can't be mended of it holds up neither
 * its other files nor other chunks. */
static int
make_alike(struct verify *y, uint64_t chunk)
{
    struct lsvd_volume *v = y->v;
    uint64_t lost;
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            continue;
        r = fragment_rebuild(v, chunk, i, &lost);
        y->report->rebuilt += r > 0;
        r = verify_pass_over(y, r);
    }
    return r;
}

static int
mend(struct forcing *f)
{
    struct lsvd_volume *v = f->y.v;
    int r = 0;

    for (uint64_t c = 1; c <= geometry_chunk_count(&v->g) && r == 0; c++) {
        if (!is_odd(f, c))
            continue;
        r = make_alike(&f->y, c);
        if (r == 0 && verify_progress(&f->y))
            r = err_set(-EINTR, "interrupted");
    }
    return r < 0 ? r : tables_store(v, v->usable);
}

/* Is anything still wrong that could be mended? */
static int
look_again(struct forcing *f)
{
    struct lsvd_volume *v = f->y.v;
    struct lsvd_report *report = f->y.report, seen;
    struct verify y = {.v = v, .report = &seen};
    int r;

    memset(&seen, 0, sizeof seen);
    seen.full = true;
    r = verify_volume(&y);
    if (r < 0)
        return r;
    seen.rebuilt = report->rebuilt;
    seen.journal_given_up = report->journal_given_up;
    seen.kept_seq = report->kept_seq;
    *report = seen;
    f->y.mendable = y.mendable;
    f->y.unread = y.unread;
    return 0;
}

static int
verify_and_mend(struct forcing *f)
{
    int r = mem_new(geometry_chunk_count(&f->y.v->g) / 8 + 1, 1, &f->odd);

    if (r == 0)
        r = verify_volume(&f->y);
    if (r == 0)
        r = mend(f);
    if (r == 0 && f->y.report->rebuilt > 0)
        r = look_again(f);
    if (r == 0)
        r = verify_settles_loss(&f->y);
    if (r == 0 && f->y.failed < 0)
        log_event(&f->y.v->log, LOG_ERROR_LEVEL, "%s", f->y.problem);
    return r;
}

/* ---- the whole ---- */

static bool
is_blank(const char *text)
{
    return text[strspn(text, " \t")] == '\0';
}

static int
run(struct forcing *f, const char *user, const char *reason)
{
    char text[256];
    int closed, r = find_cause(f);

    if (r == 0)
        r = record(f->y.v, user, reason);
    if (r == 0) {
        say_what(f);
        r = start(f);
    }
    if (r < 0) {
        volume_free(f->y.v);
        return r;
    }
    sources_open_late(f->y.v, f->env);
    r = verify_and_mend(f);
    snprintf(text, sizeof text, "%s", err_text());
    closed = lsvd_close(f->y.v);
    if (r < 0)
        return err_set(r, "begun, but not verified: %s; go on with "
                       "lsvd-repair rebuild", text);
    return closed;
}

int
lsvd_force_start(const struct lsvd_env *env, const char *name,
                 const char *user, const char *reason,
                 const struct lsvd_repair_callbacks *cb,
                 struct lsvd_report *ret)
{
    struct forcing f = {.y = {.report = ret}, .env = env, .cb = cb};
    const struct lsvd_repair_callbacks own = {.finding = on_finding,
                                              .lost = on_lost,
                                              .doubtful = on_doubtful,
                                              .progress = on_progress,
                                              .cancelled = is_cancelled,
                                              .ctx = &f};
    int r;

    memset(ret, 0, sizeof *ret);
    ret->full = true;
    if (is_blank(reason))
        return err_set(-EINVAL, "a loss is accepted only with a reason");
    r = volume_open(env, name, OPEN_LOCKED | OPEN_REPAIR | OPEN_INSPECT,
                    &f.y.v);
    if (r < 0)
        return r;
    f.y.cb = &own;
    r = run(&f, user, reason);
    free(f.odd);
    return r;
}
