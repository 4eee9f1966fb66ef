/* work.c: runs the engine on one volume and gathers what it reports. */
#include "repair.h"

#include <ask.h>
#include <errno.h>
#include <interrupt.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- callbacks ---- */

static char *
must_dup(const char *text)
{
    char *copy = strdup(text ? text : "");

    if (!copy)
        cli_no_memory();
    return copy;
}

void
outcome_finding(struct outcome *o, const struct lsvd_finding *f)
{
    if (f->kind == LSVD_CHUNK_HEALTHY) {
        /* Not something wrong: put right. A whole part is many lines. */
        if (o->req->cli.verbose)
            (void)cli_fail(&o->req->cli, 0, "%s: part %c chunk %" PRIu64
                           " %s: %s", o->volume, f->part, f->chunk, f->text,
                           f->file ? f->file : "");
        return;
    }
    pthread_mutex_lock(&o->lock);
    o->findings_total++;
    if (o->finding_count < FINDINGS_KEPT_MAX)
        o->finding[o->finding_count++] = (struct kept_finding){
            .part = f->part,
            .chunk = f->chunk,
            .kind = f->kind,
            .file = must_dup(f->file),
            .text = must_dup(f->text),
        };
    pthread_mutex_unlock(&o->lock);
}

static bool
joins_last(const struct ranges *r, const struct lsvd_lost_range *range)
{
    const struct lsvd_lost_range *last;

    if (r->count == 0)
        return false;
    last = &r->range[r->count - 1];
    return last->offset + last->count == range->offset;
}

static void
add_range(struct ranges *r, const struct lsvd_lost_range *range)
{
    size_t count = r->count;

    /* Grown at each power of two. */
    if ((count & (count - 1)) == 0) {
        size_t room = count ? 2 * count : 1;
        struct lsvd_lost_range *grown =
            realloc(r->range, room * sizeof *grown);

        if (!grown)
            cli_no_memory();
        r->range = grown;
    }
    r->range[r->count++] = *range;
}

static void
note_range(struct outcome *o, struct ranges *r,
           const struct lsvd_lost_range *range)
{
    pthread_mutex_lock(&o->lock);
    if (joins_last(r, range))
        r->range[r->count - 1].count += range->count;
    else if (r->count < RANGES_KEPT_MAX)
        add_range(r, range);
    else
        r->dropped++;
    pthread_mutex_unlock(&o->lock);
}

void
outcome_lost(struct outcome *o, const struct lsvd_lost_range *range)
{
    note_range(o, &o->lost, range);
}

void
outcome_progress(struct outcome *o, const struct lsvd_progress *at)
{
    progress_update(&o->req->progress, at);
}

static void
on_finding(void *ctx, const struct lsvd_finding *f)
{
    outcome_finding(ctx, f);
}

static void
on_lost(void *ctx, const struct lsvd_lost_range *range)
{
    outcome_lost(ctx, range);
}

static void
on_doubtful(void *ctx, const struct lsvd_lost_range *range)
{
    struct outcome *o = ctx;

    note_range(o, &o->doubtful, range);
}

static void
on_progress(void *ctx, const struct lsvd_progress *at)
{
    outcome_progress(ctx, at);
}

static bool
is_cancelled(void *ctx)
{
    (void)ctx;
    return interrupted();
}

/* ---- one volume ---- */

/* Who gives the reason. */
static const char *
user_name(void)
{
    const struct passwd *user = getpwuid(getuid());

    return user && user->pw_name[0] ? user->pw_name : "?";
}

/* A volume that somebody has, who can't be asked: a look at it from beside
 * says little, and only who wants that gets it. */
static int
refuse_if_in_use(struct request *req, struct outcome *o, const char *why)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_location *at = malloc(sizeof *at);
    int r = 0;

    if (!at)
        cli_no_memory();
    env.log = NULL; /* the check itself will say it */
    if (lsvd_locate(&env, o->volume, at) == 0 && at->in_use) {
        r = -EBUSY;
        if (asprintf(&o->error, "volume %s is in use by %s, and no control "
                     "socket answers (%s); --no-lock looks at it all the "
                     "same", o->volume,
                     at->owner[0] ? at->owner : "another process", why) < 0)
            cli_no_memory();
    }
    free(at);
    return r;
}

static int
call_engine(struct request *req, struct outcome *o)
{
    struct lsvd_env env = cli_env(&req->cli);
    const struct lsvd_repair_callbacks cb = {
        .finding = on_finding,
        .lost = on_lost,
        .doubtful = on_doubtful,
        .progress = on_progress,
        .cancelled = is_cancelled,
        .ctx = o,
    };

    switch (req->command) {
    case COMMAND_REBUILD:
        return lsvd_rebuild(&env, o->volume, req->part, req->dry_run, &cb,
                            &o->report);
    case COMMAND_REPLACE:
        return lsvd_replace(&env, o->volume, req->part, req->new_root, &cb,
                            &o->report);
    case COMMAND_FORCE_START:
        return lsvd_force_start(&env, o->volume, user_name(), req->reason,
                                &cb, &o->report);
    case COMMAND_VERIFY:
    case COMMAND_TAKEOVER: /* takeover.c */
    case COMMAND_ALL:
        break;
    }
    return lsvd_verify(&env, o->volume, !req->quick, &cb, &o->report);
}

static enum repair_code
judge(const struct outcome *o)
{
    if (o->report.data_lost || o->lost.count || o->doubtful.count ||
        o->report.journal_given_up)
        return CODE_LOST;
    return o->report.policy_met ? CODE_OK : CODE_REDUCED;
}

/* For naming blocks; not knowing their size is no reason to stop. */
static uint32_t
find_block_bytes(struct request *req, const char *volume)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct lsvd_info info;

    env.log = NULL; /* the check itself will say it */
    return lsvd_info(&env, volume, &info) < 0 ? 0 : info.block_bytes;
}

/* The server, where there is one, else the engine here. */
static int
do_request(struct request *req, struct outcome *o)
{
    char text[CONTROL_ERROR_BYTES];
    int r = -ENOENT;

    if (req->command == COMMAND_FORCE_START)
        return call_engine(req, o);
    if (!req->no_lock)
        r = served_ask(req, o, text);
    /* One that is served read-only does not change: a look from beside it is
     * as good. */
    if (req->command == COMMAND_VERIFY && r == -EROFS)
        return call_engine(req, o);
    if (!req->no_lock && !ask_is_offline(r)) {
        if (r < 0)
            o->error = must_dup(text);
        return r;
    }
    if (req->command == COMMAND_VERIFY && !req->no_lock)
        r = refuse_if_in_use(req, o, text);
    else
        r = 0;
    if (r == 0)
        r = call_engine(req, o);
    o->unconfirmed = o->report.beside_server;
    return r;
}

void
work_on_volume(struct request *req, const char *volume, struct outcome *ret)
{
    int r;

    *ret = (struct outcome){ .req = req, .volume = volume };
    pthread_mutex_init(&ret->lock, NULL);
    ret->finding = calloc(FINDINGS_KEPT_MAX, sizeof *ret->finding);
    if (!ret->finding)
        cli_no_memory();
    if (!interrupted()) {
        progress_start(&req->progress, volume);
        r = do_request(req, ret);
        progress_clear(&req->progress);
    } else {
        r = -EINTR;
    }
    if (r >= 0) {
        ret->code = judge(ret);
        if (ret->lost.count || ret->doubtful.count)
            ret->block_bytes = find_block_bytes(req, volume);
        return;
    }
    ret->code = CODE_FAILED;
    ret->report = (struct lsvd_report){ 0 };
    if (r == -EINTR || !ret->error) {
        free(ret->error);
        ret->error = must_dup(r == -EINTR ? "interrupted" : lsvd_error());
    }
}

void
outcome_done(struct outcome *o)
{
    for (size_t i = 0; i < o->finding_count; i++) {
        free(o->finding[i].file);
        free(o->finding[i].text);
    }
    free(o->finding);
    free(o->lost.range);
    free(o->doubtful.range);
    free(o->error);
    pthread_mutex_destroy(&o->lock);
}
