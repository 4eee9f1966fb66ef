/* dedupe_run.c: a run of dedupe.c: of a volume, or of a snapshot of it, which
 * is added to (adding.h) for that; beside requests, or of one that nobody
 * serves. */
#include "base/err.h"
#include "volume/adding.h"
#include "volume/dedupe.h"
#include "volume/event.h"

struct run {
    struct lsvd_volume *top; /* what is served; NULL: nothing is */
    const struct lsvd_env *env;
    const struct lsvd_dedupe *spec;
    const struct lsvd_repair_callbacks *cb;
    struct lsvd_dedupe_report *report;
    bool undo;
};

static int
run_on(void *arg, struct lsvd_volume *v)
{
    const struct run *run = arg;

    return run->undo ? dedupe_undo(v, run->top ? run->top : v, run->spec,
                                   run->cb, run->report)
                     : dedupe_volume(v, run->env, run->spec, run->cb,
                                     run->report);
}

static bool
only_looks(const struct run *run)
{
    return run->spec->estimate && !run->undo;
}

/* Of a snapshot, as it is: all of it, if nothing is to be written. */
static int
look_at(struct lsvd_volume *p, struct run *run)
{
    if (run->undo)
        return 0;
    return only_looks(run) ? run_on(run, p)
                           : dedupe_check_sources(p, run->env, run->spec);
}

static int
run_on_needed(struct lsvd_volume *v, const struct lsvd_alone *alone,
              struct run *run)
{
    const char *name = run->spec->snapshot;
    struct lsvd_volume *p = needed_find(v, name, NULL);
    int r;

    if (!p)
        return err_set(-EXDEV, "volume %s does not go on from %s",
                       v->meta.name, name);
    if (p->attached) /* its journal may go at any moment (SN4) */
        return err_set(-EBUSY, "%s is not yet complete on its parts: try "
                       "again when it is", name);
    r = look_at(p, run);
    return r < 0 || only_looks(run)
               ? r
               : add_to_needed(v, name, run->env, alone, run_on, run);
}

static int
run_live(struct lsvd_volume *v, const struct lsvd_alone *alone,
         struct run *run)
{
    int r = volume_reserve(v);

    *run->report = (struct lsvd_dedupe_report){0};
    if (r < 0)
        return r;
    r = run->spec->snapshot ? run_on_needed(v, alone, run) : run_on(run, v);
    volume_release(v);
    return r;
}

int
lsvd_live_dedupe(struct lsvd_volume *v, const struct lsvd_env *env,
                 const struct lsvd_dedupe *spec,
                 const struct lsvd_alone *alone,
                 const struct lsvd_repair_callbacks *cb,
                 struct lsvd_dedupe_report *ret)
{
    struct run run = {v, env, spec, cb, ret, .undo = false};
    int r = run_live(v, alone, &run);

    if (r == 0 && !spec->estimate && ret->blocks_matched > 0)
        event_note(v, LOG_INFO_LEVEL, "dedupe", 0, "%llu blocks of %s are "
                   "references now", (unsigned long long)ret->blocks_matched,
                   spec->snapshot ? spec->snapshot : v->meta.name);
    return r;
}

int
lsvd_live_rehydrate(struct lsvd_volume *v, const struct lsvd_env *env,
                    const struct lsvd_dedupe *spec,
                    const struct lsvd_alone *alone,
                    const struct lsvd_repair_callbacks *cb,
                    struct lsvd_dedupe_report *ret)
{
    struct run run = {v, env, spec, cb, ret, .undo = true};

    return run_live(v, alone, &run);
}

/* ---- of a volume that nobody serves ---- */

static int
run_volume(const char *name, struct run *run)
{
    struct lsvd_volume *v;
    int r = lsvd_open(run->env, name, 0, &v);

    return r < 0 ? r : volume_close_after(v, run_on(run, v));
}

static int
run_snapshot(const char *name, struct run *run)
{
    struct lsvd_volume *v;
    int r = lsvd_open(run->env, name, LSVD_OPEN_READ_ONLY, &v);

    if (r == 0)
        r = volume_close_after(v, look_at(v, run));
    return r < 0 || only_looks(run)
               ? r
               : add_to_snapshot(run->env, name, run_on, run);
}

static int
run_unserved(const char *name, struct run *run)
{
    *run->report = (struct lsvd_dedupe_report){0};
    return meta_is_snapshot_name(name) ? run_snapshot(name, run)
                                       : run_volume(name, run);
}

int
lsvd_dedupe(const struct lsvd_env *env, const char *name,
            const struct lsvd_dedupe *spec,
            const struct lsvd_repair_callbacks *cb,
            struct lsvd_dedupe_report *ret)
{
    struct run run = {NULL, env, spec, cb, ret, .undo = false};

    return run_unserved(name, &run);
}

int
lsvd_rehydrate(const struct lsvd_env *env, const char *name,
               const struct lsvd_dedupe *spec,
               const struct lsvd_repair_callbacks *cb,
               struct lsvd_dedupe_report *ret)
{
    struct run run = {NULL, env, spec, cb, ret, .undo = true};

    return run_unserved(name, &run);
}
