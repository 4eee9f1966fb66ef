/* journal_files.c: where the journal is: one cache directory, or two with a
 * copy in each (target/mirror.h).
 *
 * (JF1) Every claim gives the journal a new UUID, in the superblock of the
 *       copies that are used, then in the labels. A copy that was not there
 *       (a lost one, one restored from an old cache directory) has an older
 *       one. No write is accepted before.
 * (JF2) A copy may be used at a start if it has the UUID that the view in
 *       force names, or if its own view follows that one (a cut came between
 *       superblock and labels). Among those that may, each has all that was
 *       answered; the newest view is taken, then the longer chain. One that
 *       could not be looked at may be of a newer view, which left out this
 *       copy and, with it, the parts that are in sight: then a copy proves
 *       nothing (copy_unseen), and the labels must (R3).
 * (JF3) When a copy is lost while serving, a view with a new UUID is installed
 *       (journal_settle) before anything that the lost copy may not have is
 *       relied on: before an answer (journal_await), before a byte in place
 *       (destage, D3), before the loss of a second one could matter. Until
 *       then either copy is enough for a start; from then on only the one that
 *       is left. RAM changes after that, too: nothing is read that could be
 *       lost (W2).
 * (JF4) At a start the other copies are made equal (journal_level) before the
 *       claim, so that redundancy is back with the first answer: by what their
 *       chain lacks, or as a whole. One that can't be is left out, and JF1
 *       keeps it out.
 * (JF5) Redo records are applied again only after the claim: what is changed
 *       in place may be known to this copy alone.
 * (JF6, JF7) Of a copy that comes back while serving: journal_refill.h.
 * (JF8) After a clean stop the file stays, and with it the view that detached
 *       it: the last that this host had. A part with that view is as new as
 *       anything that was ever written with these cache directories, also if no
 *       others are in sight to prove more. It may be read; to write, R3 must
 *       hold. Of two directories both must know it: one may have been away. */
#include "volume/volume.h"
#include "base/err.h"
#include "base/memory.h"
#include "target/mirror.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One cache directory, looked at. */
struct journal_copy {
    struct target *dir; /* NULL: can't be opened; owned */
    struct journal *j;  /* NULL: none that can be read; owned */
    bool acceptable;    /* JF2 */
    bool sound;         /* its chain was read to the end */
    bool keep_off;      /* not ours to overwrite */
    bool unread;        /* nobody knows what is in it: not missing, and not
                         * damaged as far as was seen */
    struct journal_end end;
    char why[256];      /* it can't be used */
};

void
journal_name(const struct lsvd_volume *v, char *text, size_t bytes)
{
    char uuid[UUID_TEXT_BYTES];

    uuid_format(&v->meta.uuid, uuid);
    snprintf(text, bytes, "%s.journal", uuid);
}

static void
copy_done(struct journal_copy *c)
{
    journal_close(c->j);
    target_close(c->dir);
    c->j = NULL;
    c->dir = NULL;
}

void
journal_files_done(struct lsvd_volume *v)
{
    for (size_t i = 0; v->spare && i < MIRROR_COPIES_MAX; i++)
        copy_done(&v->spare[i]);
    free(v->spare);
    v->spare = NULL;
}

/* JF2. */
static bool
is_acceptable(const struct lsvd_volume *v, const struct journal_identity *id)
{
    if (uuid_equal(&id->journal, &v->view.journal))
        return true;
    for (uint32_t i = 0; i < id->view.history_count; i++) {
        if (view_id_equal(&id->view.history[i], &v->view.id))
            return true;
    }
    return false;
}

/* After an error of reading it. */
static void
note_why(struct journal_copy *c, int r)
{
    c->unread = r != -ENOENT && r != -EBADMSG && r != -EPROTO;
    snprintf(c->why, sizeof c->why, "%s", err_text());
}

/* -EBUSY: another server has it; anything else only says that this copy is of
 * no use. */
static int
copy_open(struct lsvd_volume *v, size_t nth, struct journal_copy *c)
{
    const char *path = v->config.cache[nth];
    char name[64];
    int r;

    r = env_open_cache(&v->world, &v->config, nth, &c->dir);
    if (r < 0) {
        note_why(c, r);
        return r;
    }
    journal_name(v, name, sizeof name);
    r = journal_open(c->dir, name, 0, &c->j);
    if (r < 0) {
        note_why(c, r);
        c->keep_off = r == -EPROTO;
        return r == -EBUSY ? err_wrap(r, "volume %s is in use",
                                      v->meta.name) : r;
    }
    if (!uuid_equal(&journal_identity(c->j)->volume, &v->meta.uuid)) {
        c->keep_off = true;
        r = err_set(-EBADMSG, "%s/%s is of another volume", path, name);
        note_why(c, r);
        return r;
    }
    c->acceptable = is_acceptable(v, journal_identity(c->j));
    return c->acceptable ? 0 : -ENOENT;
}

static uint64_t
scan_seed(void *ctx, uint64_t block)
{
    return volume_block_seed(ctx, block);
}

static int
scan(struct lsvd_volume *v, struct journal *j, const struct journal_end *by,
     struct journal_scan *ret)
{
    struct replay_callbacks cb = {.seed = scan_seed, .ctx = v};

    journal_set_chunk_blocks(j, v->g.chunk_blocks);
    journal_set_volume_blocks(j, geometry_block_count(&v->g));
    return journal_scan(j, &cb, by, ret);
}

static void
copy_scan(struct lsvd_volume *v, struct journal_copy *c)
{
    struct journal_scan found;
    int r = scan(v, c->j, NULL, &found);

    c->sound = r == 0;
    if (c->sound) {
        c->end = found.end;
    } else {
        note_why(c, r);
        log_event(&v->log, LOG_ERROR_LEVEL,
                  "volume %s: a copy of the journal %s: %s", v->meta.name,
                  c->unread ? "can't be read" : "is damaged", c->why);
    }
}

/* Is a better than b? Both may be used. */
static bool
is_better(const struct journal_copy *a, const struct journal_copy *b)
{
    int order = view_id_compare(&journal_identity(a->j)->view.id,
                                &journal_identity(b->j)->view.id);

    if (a->sound != b->sound)
        return a->sound;
    return order != 0 ? order > 0 : a->end.seq > b->end.seq;
}

static int
refuse(struct lsvd_volume *v, int r)
{
    char uuid[UUID_TEXT_BYTES];
    const char *host = "?";

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->part[i].has_label &&
            uuid_equal(&v->part[i].label.view.journal, &v->view.journal))
            host = v->part[i].label.host;
    }
    uuid_format(&v->view.journal, uuid);
    return err_set(r, "volume %s needs its journal %s, last used on host %s, "
                   "which is not usable in %s%s; it may hold writes that the "
                   "parts do not have: start it there, or give that cache "
                   "directory",
                   v->meta.name, uuid, host, v->config.cache[0],
                   v->config.cache[1] ? " or the other cache directories"
                                      : "");
}

static void
on_lost(void *ctx, const char *path, const char *why)
{
    struct lsvd_volume *v = ctx;

    for (size_t i = 0; v->config.cache[i]; i++) {
        if (strcmp(v->config.cache[i], path) == 0)
            env_cache_patience(&v->world, i, false);
    }

    event_note(v, LOG_ERROR_LEVEL, "journal", 0,
               "the copy of the journal in %s is lost: %s; going on with the "
               "other one alone",
               path, why);
    pthread_mutex_lock(&v->state_lock);
    pthread_cond_broadcast(&v->work);
    pthread_mutex_unlock(&v->state_lock);
}

static int
mirror_make(struct lsvd_volume *v)
{
    int r = mirror_new(on_lost, v, &v->mirror);

    if (r == 0)
        v->cache_dir = v->mirror; /* which owns it */
    return r;
}

size_t
journal_directories(const struct lsvd_volume *v)
{
    size_t count = 0;

    while (v->config.cache[count])
        count++;
    return count;
}

static int
check_directories(const struct lsvd_volume *v)
{
    if (journal_directories(v) <= MIRROR_COPIES_MAX)
        return 0;
    return err_set(-EINVAL, "volume %s: %zu cache directories: the journal is "
                   "kept in one or two", v->meta.name, journal_directories(v));
}

/* The journal that is taken, through the mirror if there is a second
 * directory. */
static int
take(struct lsvd_volume *v, struct journal_copy *c)
{
    struct target *dir = c->dir;
    char name[64];
    int r;

    if (journal_directories(v) == 1) {
        v->journal = c->j;
        v->cache_dir = c->dir;
        *c = (struct journal_copy){0};
        return 0;
    }
    journal_close(c->j);
    *c = (struct journal_copy){0};
    r = mirror_make(v);
    if (r < 0) {
        target_close(dir);
        return r;
    }
    r = mirror_add(v->mirror, dir);
    journal_name(v, name, sizeof name);
    if (r == 0)
        r = journal_open(v->mirror, name, 0, &v->journal);
    if (r < 0)
        note_why(c, r);
    return r;
}

int
journal_probe(struct lsvd_volume *v, size_t nth, struct target **ret)
{
    struct journal_copy c = {0};
    int r = copy_open(v, nth, &c);

    if (c.dir && !c.keep_off && r != -EBUSY) {
        *ret = c.dir;
        c.dir = NULL;
        r = 0;
    } else {
        r = r < 0 ? r : -EIO;
    }
    copy_done(&c);
    return r;
}

/* They have answered: a journal is worth waiting for. */
static void
wait_for_ever(struct lsvd_volume *v)
{
    for (size_t i = 0; v->config.cache[i]; i++)
        env_cache_patience(&v->world, i, true);
}

int
journal_find(struct lsvd_volume *v)
{
    struct journal_copy *best = NULL;
    int r, last = -ENOENT;

    r = check_directories(v);
    if (r == 0)
        r = mem_new(MIRROR_COPIES_MAX, sizeof *v->spare, &v->spare);
    if (r < 0)
        return r;
    for (size_t i = 0; v->config.cache[i]; i++) {
        r = copy_open(v, i, &v->spare[i]);
        if (r == -EBUSY)
            return r;
        if (r < 0 && r != -ENOENT) {
            log_event(&v->log, LOG_ERROR_LEVEL, "%s", err_text());
            if (v->spare[i].dir)
                last = r;
        }
        v->copy_unseen = v->copy_unseen || !v->spare[i].j; /* JF2 */
    }
    wait_for_ever(v);
    for (size_t i = 0; v->config.cache[i]; i++) {
        struct journal_copy *c = &v->spare[i];

        if (!c->acceptable)
            continue;
        if (journal_directories(v) > 1)
            copy_scan(v, c);
        if (!best || is_better(c, best))
            best = c;
    }
    return best ? take(v, best) : refuse(v, last);
}

/* The last view that was in force here. -ENOENT: none of this volume. */
static int
last_view(struct lsvd_volume *v, size_t nth, struct view_id *ret)
{
    struct journal_copy c = {0};
    char name[64];
    int r = env_open_cache(&v->world, &v->config, nth, &c.dir);

    journal_name(v, name, sizeof name);
    if (r == 0)
        r = journal_open(c.dir, name, 0, &c.j);
    if (r == 0 &&
        !uuid_equal(&journal_identity(c.j)->volume, &v->meta.uuid))
        r = -ENOENT;
    if (r == 0)
        *ret = journal_identity(c.j)->view.id;
    copy_done(&c);
    return r;
}

/* JF8. */
bool
journal_remembers(struct lsvd_volume *v)
{
    bool any = false;

    for (size_t i = 0; v->config.cache[i]; i++) {
        struct view_id id;
        int r = last_view(v, i, &id);

        if (r < 0 || view_id_compare(&id, &v->view.id) > 0)
            return false;
        any = any || view_id_equal(&id, &v->view.id);
    }
    return any;
}

/* ---- a loss that is accepted (force.c) ---- */

/* It may be as it should be a moment later. */
static int
say_unread(const struct lsvd_volume *v, const char *why)
{
    return err_set(-EIO, "volume %s: its journal can't be read, for which it "
                   "is not given up: %s; try again, or, if it will never be "
                   "read, take it away, or its directory out of cache=",
                   v->meta.name, why);
}

int
journal_check(struct lsvd_volume *v)
{
    struct journal_scan found;
    char why[256];
    int r = scan(v, v->journal, NULL, &found);

    if (r == 0 || r == -ENOMEM)
        return r;
    if (r == -EBADMSG)
        return err_wrap(r, "volume %s", v->meta.name);
    snprintf(why, sizeof why, "%s", err_text());
    return say_unread(v, why);
}

int
journal_may_give_up(struct lsvd_volume *v)
{
    int r = -ENOENT;

    for (size_t i = 0; v->config.cache[i]; i++) {
        struct target *dir;

        if (v->spare && i < MIRROR_COPIES_MAX && v->spare[i].keep_off)
            return err_set(-EEXIST, "volume %s: its journal can't be given "
                           "up: %s", v->meta.name, v->spare[i].why);
        if (v->spare && i < MIRROR_COPIES_MAX && v->spare[i].unread)
            return say_unread(v, v->spare[i].why);
        if (env_open_cache(&v->world, &v->config, i, &dir) == 0) {
            target_close(dir);
            r = 0;
        }
    }
    return r < 0 ? err_set(r, "volume %s: no cache directory can be used for "
                           "a new journal: %s", v->meta.name,
                           v->config.cache[0]) : 0;
}

/* A name that is free. */
static int
rename_aside(struct target *dir, const char *name)
{
    struct object *object;
    char aside[96];
    int r = target_open(dir, name, 0, &object);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    object_close(object);
    for (unsigned i = 1;; i++) {
        snprintf(aside, sizeof aside, "%.64s.given-up-%u", name, i);
        r = target_open(dir, aside, 0, &object);
        if (r == -ENOENT)
            break;
        if (r < 0)
            return r;
        object_close(object);
    }
    r = target_rename(dir, name, aside);
    return r < 0 ? r : target_sync(dir);
}

int
journal_give_up(struct lsvd_volume *v)
{
    char name[64];

    journal_close(v->journal);
    target_close(v->cache_dir);
    v->journal = NULL;
    v->cache_dir = v->mirror = NULL;
    journal_files_done(v);
    journal_name(v, name, sizeof name);
    for (size_t i = 0; v->config.cache[i]; i++) {
        struct target *dir;
        int r;

        r = env_open_cache(&v->world, &v->config, i, &dir);
        if (r < 0)
            continue; /* what is in it is never taken again: JF1 */
        r = rename_aside(dir, name);
        target_close(dir);
        if (r < 0)
            return err_wrap(r, "the journal of volume %s", v->meta.name);
    }
    return 0;
}

/* ---- JF4 ---- */

/* *ret_copied: bytes, for the message. */
static int
make_equal(struct lsvd_volume *v, struct journal_copy *c, const char **ret_how)
{
    struct journal_scan found;
    char name[64];
    int r;

    if (c->keep_off)
        return err_set(-EEXIST, "%s", c->why);
    r = scan(v, v->journal, c->sound ? &c->end : NULL, &found);
    if (r < 0)
        return r;
    if (c->j && found.passed) {
        *ret_how = "what it lacked";
        r = journal_follow(v->journal, &found.end, c->j, &c->end);
        if (r != -EINVAL)
            return r;
    }
    *ret_how = "as a whole";
    journal_close(c->j);
    c->j = NULL;
    journal_name(v, name, sizeof name);
    return journal_clone(v->journal, c->dir, name);
}

/* The copy's directory goes to the mirror. */
static int
join(struct lsvd_volume *v, struct journal_copy *c, const char **ret_how)
{
    struct target *dir = c->dir;
    int r;

    if (!dir)
        return err_set(-ENOENT, "%s", c->why);
    r = make_equal(v, c, ret_how);
    if (r < 0)
        return r;
    journal_close(c->j);
    c->j = NULL;
    c->dir = NULL;
    return mirror_add(v->mirror, dir);
}

int
journal_level(struct lsvd_volume *v)
{
    char in_use[256];

    snprintf(in_use, sizeof in_use, "%s", v->cache_dir->path);
    for (size_t i = 0; v->spare && v->config.cache[i]; i++) {
        const char *how = "";

        if (!v->mirror || mirror_is_in(v->mirror, v->config.cache[i]))
            continue;
        if (join(v, &v->spare[i], &how) < 0)
            event_note(v, LOG_ERROR_LEVEL, "journal", 0,
                       "no copy of the journal in %s: %s; the one in %s is "
                       "alone",
                       v->config.cache[i], err_text(), in_use);
        else
            event_note(v, LOG_INFO_LEVEL, "journal", 0,
                       "the copy of the journal in %s is up to date (copied: "
                       "%s)",
                       v->config.cache[i], how);
    }
    journal_files_done(v);
    /* A cut may have come between a clone and its name. */
    return v->mirror ? target_sync(v->mirror) : 0;
}

/* ---- a new one ---- */

static int
open_directories(struct lsvd_volume *v)
{
    struct target *dir;
    bool any = false;
    int r;

    r = check_directories(v);
    if (r < 0)
        return r;
    if (journal_directories(v) == 1)
        return env_open_cache(&v->world, &v->config, 0, &v->cache_dir);
    r = mirror_make(v);
    if (r < 0)
        return r;
    for (size_t i = 0; v->config.cache[i]; i++) {
        r = env_open_cache(&v->world, &v->config, i, &dir);
        if (r == 0)
            r = mirror_add(v->mirror, dir);
        any = any || r == 0;
        if (r < 0)
            event_note(v, LOG_ERROR_LEVEL, "journal", 0,
                       "no copy of the journal in %s: %s",
                       v->config.cache[i], err_text());
    }
    wait_for_ever(v);
    return any ? 0 : r;
}

int
journal_make(struct lsvd_volume *v, const struct view *view)
{
    struct journal_identity identity = {.volume = v->meta.uuid,
                                        .journal = view->journal,
                                        .block_bytes = v->meta.block_bytes,
                                        .view = *view};
    char name[64];
    int r;

    for (uint32_t i = 0; i < v->g.part_count; i++)
        identity.part_ckpt[i] = v->part[i].label.ckpt;
    gethostname(identity.host, sizeof identity.host - 1);
    journal_name(v, name, sizeof name);
    r = open_directories(v);
    if (r < 0)
        return err_wrap(r, "cache directory (for the journal; see cache=)");
    r = journal_create(v->cache_dir, name, v->meta.journal_bytes, &identity, 0,
                       v->g.is_ec, &v->journal);
    if (r < 0)
        return err_wrap(r, "journal of volume %s", v->meta.name);
    journal_set_chunk_blocks(v->journal, v->g.chunk_blocks);
    journal_set_volume_blocks(v->journal, geometry_block_count(&v->g));
    return 0;
}

/* ---- JF3 ---- */

bool
journal_is_settled(struct lsvd_volume *v)
{
    return !v->mirror ||
           mirror_losses(v->mirror) == atomic_load(&v->losses_settled);
}

/* Never a second view while one is begun that its members do not have: they
 * would be two behind, and no start would take them (R5). A member that is not
 * in use can't be given any: without it, if that may be, or clients would wait
 * for it to come back. */
int
journal_rename(struct lsvd_volume *v)
{
    struct view_id id;
    struct view next;
    int r = 0;

    if (v->view.members & ~v->usable)
        r = volume_drop(v, 0);
    if (r == 0 && v->view_begun)
        r = volume_settle_view(v);
    if (r < 0)
        return r;
    next = v->view;
    id = next.id;
    id.minor++;
    view_advance(&next, &id);
    r = v->io->ops->random(v->io, next.journal.b, sizeof next.journal.b);
    if (r == 0)
        r = volume_install_view(v, &next, 0, false);
    if (r == 0 && v->view.members != v->view.complete_members)
        r = volume_complete_view(v, false);
    return r;
}

int
journal_settle(struct lsvd_volume *v)
{
    int r = 0;

    while (r == 0 && !journal_is_settled(v)) {
        unsigned losses = mirror_losses(v->mirror);

        r = journal_rename(v);
        if (r == 0)
            atomic_store(&v->losses_settled, losses);
    }
    pthread_mutex_lock(&v->state_lock);
    v->settle_rounds++;
    pthread_cond_broadcast(&v->progress);
    pthread_mutex_unlock(&v->state_lock);
    return r < 0 ? err_wrap(r, "recording that a copy of the journal is lost")
                 : 0;
}

/* One attempt of the thread that began after we asked must have ended. */
static void
wait_for_thread(struct lsvd_volume *v)
{
    uint64_t before;

    pthread_mutex_lock(&v->state_lock);
    before = v->settle_rounds;
    pthread_cond_broadcast(&v->work);
    while (!journal_is_settled(v) && v->settle_rounds < before + 2 &&
           !atomic_load(&v->stopping))
        pthread_cond_wait(&v->progress, &v->state_lock);
    pthread_mutex_unlock(&v->state_lock);
}

int
journal_await(struct lsvd_volume *v)
{
    if (journal_is_settled(v))
        return 0;
    if (!v->threaded)
        return journal_settle(v);
    wait_for_thread(v);
    if (journal_is_settled(v))
        return 0;
    /* it may be because the other copy failed, too */
    return journal_failed(v, err_set(-EIO, "volume %s: a copy of the journal "
                                     "is lost, and that can't be recorded",
                                     v->meta.name));
}

/* faults.md 2.5: said once, with what it means. */
int
journal_failed(struct lsvd_volume *v, int error)
{
    struct journal_space space;
    char uuid[UUID_TEXT_BYTES], why[256];

    if (error != -EIO)
        return error;
    snprintf(why, sizeof why, "%s", err_text());
    journal_space(v->journal, &space);
    if (space.failed && !atomic_exchange(&v->journal_lost, true)) {
        uuid_format(&journal_identity(v->journal)->journal, uuid);
        event_note(v, LOG_ERROR_LEVEL, "failed", 0,
                   "journal %s lost, %llu bytes not on the parts: %s; writes "
                   "get EIO, reads go on; it must be there at the next start",
                   uuid,
                   (unsigned long long)(space.live_blocks * v->g.block_bytes),
                   why);
    }
    return err_set(error, "%s", why);
}
