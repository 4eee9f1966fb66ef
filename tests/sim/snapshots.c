/* snapshots.c: the volume is frozen now and then, also while it is written,
 * and what was frozen must stay as it was. */
#include "snapshots.h"
#include "dedupes.h"
#include "volume/volume.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void
name_of(size_t nth, char *text, size_t bytes)
{
    snprintf(text, bytes, LIFE_VOLUME "@s%zu", nth);
}

void
snapshots_end(struct life *l)
{
    for (size_t i = 0; i < l->frozen_count; i++)
        free(l->frozen[i].image);
    l->frozen_count = 0;
}

/* Under which number is the volume now? */
void
snapshots_find(struct life *l)
{
    struct lsvd_info info;

    if (l->failed || !l->number_due)
        return;
    if (lsvd_info(&l->env, LIFE_VOLUME, &info) < 0) {
        life_fail(l, "info: %s", lsvd_error());
        return;
    }
    l->number_due = false;
    snprintf(l->uuid, sizeof l->uuid, "%s", info.uuid);
    if (l->number == info.number)
        return;
    l->number = info.number;
    life_mirror_renewed(l);
    life_parts_end(l); /* old copies are of what is the snapshot now */
    life_parts_begin(l);
    l->rules = (struct rules){.checked = l->rules.checked};
}

bool
snapshots_note(struct life *l)
{
    struct frozen *f = &l->frozen[l->frozen_count];

    if (life_read_image(l) < 0)
        return false;
    *f = (struct frozen){.image = malloc(l->volume_bytes)};
    if (!f->image)
        abort();
    memcpy(f->image, l->image, l->volume_bytes);
    l->number_due = true;
    l->frozen_count++;
    return true;
}

int
snapshots_take_offline(struct life *l)
{
    char name[32];
    int r;

    name_of(l->frozen_count - 1, name, sizeof name);
    r = lsvd_snapshot_create(&l->env, name);
    life_event(l, "snapshot %s: %s", name, r < 0 ? lsvd_error() : "made");
    l->frozen[l->frozen_count - 1].is_sure = r == 0;
    return r;
}

/* The requests that came meanwhile are in it. */
static int
commit(struct life *l, struct lsvd_volume *next, const char *name)
{
    struct frozen *f;
    int r;

    if (!snapshots_note(l))
        return -EIO;
    f = &l->frozen[l->frozen_count - 1];
    r = lsvd_snapshot_commit(l->v, next, name);
    if (r < 0)
        return r;
    l->v = next;
    f->is_sure = true;
    model_flushed(l->m);
    return 0;
}

int
snapshots_take(struct life *l, unsigned requests)
{
    struct lsvd_volume *next;
    char name[32];
    int r;

    name_of(l->frozen_count, name, sizeof name);
    life_event(l, "snapshot %s", name);
    r = lsvd_snapshot_begin(l->v, &l->env, name, &next);
    for (unsigned i = 0; i < requests && r == 0 && !simio_halted(l->s); i++)
        life_request(l, true);
    if (r < 0)
        return r;
    r = commit(l, next, name);
    if (r < 0) {
        lsvd_snapshot_cancel(next, &l->env);
        return r;
    }
    for (uint64_t i = prng_below(&l->prng, 3); i > 0; i--)
        life_request(l, true);
    (void)lsvd_snapshot_finish(next);
    return simio_halted(l->s) ? -EIO : 0;
}

/* One that was cut while blocks of it were made references, and that nothing
 * goes on from any more, has a journal to be moved: this may be cut, too. */
static void
compare(struct life *l, struct lsvd_volume *v, const char *name,
        const struct frozen *f)
{
    int r = lsvd_pread(v, l->buffer, l->volume_bytes, 0);

    if (simio_halted(l->s))
        return;
    if (lsvd_get_size(v) != l->volume_bytes)
        life_fail(l, "%s has another size", name);
    else if (r < 0)
        life_fail(l, "read of %s: %s", name, lsvd_error());
    else if (memcmp(l->buffer, f->image, l->volume_bytes) != 0)
        life_fail(l, "%s is not what was frozen", name);
}

static bool
check(struct life *l, size_t nth)
{
    struct frozen *f = &l->frozen[nth];
    struct lsvd_volume *v;
    char name[32];
    int r;

    if (f->is_gone)
        return true;
    name_of(nth, name, sizeof name);
    r = lsvd_open(&l->env, name, LSVD_OPEN_READ_ONLY, &v);
    if (r == -ENOENT && !f->is_sure)
        return false;
    if (r < 0) {
        if (!simio_halted(l->s))
            life_fail(l, "open of %s: %s", name, lsvd_error());
        return true;
    }
    f->is_sure = true;
    compare(l, v, name, f);
    if (lsvd_close(v) < 0 && !simio_halted(l->s))
        life_fail(l, "close of %s: %s", name, lsvd_error());
    l->snapshots_read++;
    return true;
}

void
snapshots_check(struct life *l)
{
    for (size_t i = 0; i < l->frozen_count && !l->failed; i++) {
        if (!check(l, i)) /* it was never made, or is removed */
            l->frozen[i].is_gone = true;
    }
    snapshots_find(l);
}

void
snapshots_rebuild(struct life *l)
{
    static const struct lsvd_repair_callbacks none;

    for (size_t i = 0; i < l->frozen_count && !l->failed; i++) {
        struct lsvd_report report = {0};
        char name[32];

        name_of(i, name, sizeof name);
        if (!l->frozen[i].is_gone &&
            lsvd_rebuild(&l->env, name, 0, false, &none, &report) < 0)
            life_event(l, "rebuild of %s: %s", name, lsvd_error());
    }
    l->snapshots_reduced = false;
}

/* ---- in random lives ---- */

/* All parts, and where they were made; and no snapshot has its journal yet,
 * which keeps others from opening it. */
static bool
is_whole(const struct life *l)
{
    return !life_frozen_journal(l) &&
           (l->hidden_dirs | l->sick_dirs | l->old_dirs | l->tampered) == 0 &&
           l->replaced == 0 && !l->swapped &&
           l->v->usable == (1u << life_parts(&l->policy)) - 1;
}

/* Requests come until that moment. */
static int
run_at_once(void *ctx, int (*fn)(void *arg), void *arg,
            char text[LSVD_TEXT_BYTES])
{
    struct life *l = ctx;
    int r;

    for (uint64_t i = prng_below(&l->prng, 3); i > 0 && !simio_halted(l->s);
         i--)
        life_request(l, true);
    r = fn(arg);
    snprintf(text, LSVD_TEXT_BYTES, "%s", lsvd_error());
    return r;
}

int
snapshots_remove(struct life *l, size_t nth)
{
    const struct lsvd_alone alone = {.run = run_at_once, .ctx = l};
    static struct lsvd_info info; /* large */
    struct lsvd_flatten spec = {.rate_bytes = 0};
    char name[32];
    int r;

    name_of(nth, name, sizeof name);
    spec.parent = name;
    life_event(l, "remove %s", name);
    l->frozen[nth].is_sure = false;
    r = lsvd_info(&l->env, name, &info);
    /* one above it was cut after it was let go, and before it was removed */
    if (r == 0 && info.child_count > 1)
        return 0;
    if (r == 0 && info.child_count > 0) { /* else it was cut just before */
        r = lsvd_live_flatten(l->v, &l->env, &spec, &alone, NULL);
        l->snapshots_merged += r == 0 && strcmp(info.children, LIFE_VOLUME);
    }
    if (r == 0)
        r = lsvd_remove(&l->env, name);
    l->frozen[nth].is_gone = r == 0;
    return r;
}

int
snapshots_dedupe(struct life *l, size_t nth)
{
    const struct lsvd_alone alone = {.run = run_at_once, .ctx = l};
    struct lsvd_dedupe_report report;
    char name[32];
    int r;

    name_of(nth, name, sizeof name);
    r = dedupes_run(l, name, &alone);
    /* cut after it was let go, and before it was removed */
    return r == -EXDEV ? dedupes_run_offline(l, name, &report) : r;
}

/* One of those that are there; false: there is none. */
static bool
choose_frozen(struct life *l, size_t *ret)
{
    size_t there = 0, skip;

    for (size_t i = 0; i < l->frozen_count; i++)
        there += !l->frozen[i].is_gone;
    if (there == 0)
        return false;
    skip = (size_t)prng_below(&l->prng, there);
    for (*ret = 0; l->frozen[*ret].is_gone || skip > 0; ++*ret)
        skip -= !l->frozen[*ret].is_gone;
    return true;
}

/* A part may have vanished with the requests that came meanwhile, and what a
 * directory that died had may be needed: a journal, or a copy of it. */
static bool
is_unexpected(const struct life *l, int r)
{
    return r < 0 && !simio_halted(l->s) && !l->dead && is_whole(l);
}

static void
remove_one(struct life *l)
{
    size_t at;

    if (choose_frozen(l, &at) && is_unexpected(l, snapshots_remove(l, at)))
        life_fail(l, "remove of s%zu: %s", at, lsvd_error());
}

static void
dedupe_one(struct life *l)
{
    size_t at;

    if (choose_frozen(l, &at) && is_unexpected(l, snapshots_dedupe(l, at)))
        life_fail(l, "dedupe of s%zu: %s", at, lsvd_error());
}

void
snapshots_event(struct life *l)
{
    int r;

    if (!l->policy.snapshot || l->frozen_count == LIFE_SNAPSHOTS_MAX ||
        l->snapshots_reduced || !prng_one_in(&l->prng, 12) || !is_whole(l))
        return;
    l->number_due |= !l->uuid[0]; /* soon there are journals of two */
    snapshots_check(l); /* was the last one made? */
    if (l->failed)
        return;
    if (l->policy.dedupe && prng_one_in(&l->prng, 3)) {
        dedupe_one(l);
        return;
    }
    if (prng_one_in(&l->prng, 3)) {
        remove_one(l);
        return;
    }
    r = snapshots_take(l, (unsigned)prng_below(&l->prng, 4));
    if (is_unexpected(l, r))
        life_fail(l, "snapshot: %s", lsvd_error());
    if (!simio_halted(l->s))
        snapshots_find(l);
}
