/* admin-force.c: a server was killed, and what is left does not start by
 * itself.
 *
 * Its journal is gone: after a forced start what was on the parts before it
 * began is there, each block that was written since is as one of its writes
 * left it, or lost and called so, and what it is found to be it stays.
 *
 * So many parts are gone that it can't be written: nothing is lost, and when
 * they are back they are filled. */
#include "admin.h"
#include "dedupes.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX 4096 /* of the volume */

static struct forced {
    bool written[BLOCKS_MAX]; /* since all was on the parts */
    bool lost[BLOCKS_MAX];
} forced;

/* Whole blocks, which are never flushed for a client: each may be lost. */
static void
write_some(struct life *l)
{
    uint64_t block = l->policy.block_bytes;
    uint64_t blocks = l->volume_bytes / block;
    uint64_t offset = prng_below(&l->prng, blocks) * block;
    uint64_t count = prng_between(&l->prng, 1, 12) * block;
    const uint8_t *bytes = l->buffer;
    bool zeroes = prng_one_in(&l->prng, 6);
    int r;

    if (count > blocks * block - offset)
        count = blocks * block - offset;
    model_fill(model_next_id(l->m), offset, l->buffer, count);
    if (!zeroes && prng_one_in(&l->prng, 2))
        dedupes_choose(l, &offset, &count, &bytes);
    if (count == 0)
        return;
    for (uint64_t i = 0; i < count / block; i++)
        forced.written[offset / block + i] = true;
    life_event(l, "%s %" PRIu64 " +%" PRIu64, zeroes ? "zero" : "write",
               offset, count);
    model_write_begin(l->m, offset, count, zeroes ? NULL : bytes);
    r = zeroes ? lsvd_zero(l->v, count, offset, 0)
               : lsvd_pwrite(l->v, bytes, count, offset, 0);
    model_write_end(l->m, r == 0, false);
    if (r < 0 && !simio_halted(l->s))
        life_fail(l, "write: %s", lsvd_error());
}

/* Until the end of its power, somewhere within a destage as a rule. */
static void
use_until_killed(struct life *l)
{
    int r = 0;

    simio_arm_cut(l->s, 20 + prng_below(&l->prng, 300));
    for (int i = 0; i < 16 && !l->failed && !simio_halted(l->s); i++) {
        write_some(l);
        if (prng_one_in(&l->prng, 2) && !simio_halted(l->s))
            r = lsvd_destage_step(l->v);
        if (prng_one_in(&l->prng, 6) && !simio_halted(l->s))
            r = dedupes_run(l, NULL, NULL);
        if (r < 0 && !simio_halted(l->s))
            life_fail(l, "before the kill: %s", lsvd_error());
    }
    simio_arm_cut(l->s, 0);
    life_crash(l, prng_one_in(&l->prng, 2));
    model_crashed(l->m, true); /* what the journal had is gone anyhow */
}

static void
remove_journals(struct life *l)
{
    char **names, path[400];

    for (int i = 0; l->cache[i]; i++) {
        names = simio_names(l->s, l->cache[i]);
        for (size_t n = 0; names && names[n]; n++) {
            if (!strstr(names[n], ".journal"))
                continue;
            snprintf(path, sizeof path, "%s/%s", l->cache[i], names[n]);
            simio_delete(l->s, path);
        }
        simio_names_free(names);
    }
}

/* Some of what is on the parts are references, and chunks of nothing else. */
static void
prepare_lost_journal(struct life *l)
{
    const uint8_t *bytes;
    uint64_t offset = 0, count = LIFE_CHUNK_BYTES;

    memset(&forced, 0, sizeof forced);
    admin_prepare_volume(l);
    if (l->failed)
        return;
    if (l->volume_bytes / l->policy.block_bytes > BLOCKS_MAX)
        life_fail(l, "a volume of too many blocks");
    else if (life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
    if (l->failed)
        return;
    dedupes_choose(l, &offset, &count, &bytes);
    model_write_begin(l->m, offset, count, bytes);
    model_write_end(l->m, lsvd_pwrite(l->v, bytes, count, offset, 0) == 0,
                    false);
    if (dedupes_run(l, NULL, NULL) < 0 || life_close(l) < 0)
        life_fail(l, "dedupe, or close: %s", lsvd_error());
    model_flushed(l->m);
    simio_settle(l->s);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open: %s", lsvd_error());
    if (!l->failed)
        use_until_killed(l);
    if (!l->failed)
        remove_journals(l);
}

static int
act_force(struct life *l)
{
    struct lsvd_report report;

    return lsvd_force_start(&l->env, LIFE_VOLUME, "somebody", "a test", NULL,
                            &report);
}

static void
note_lost(void *ctx, const struct lsvd_lost_range *range)
{
    struct life *l = ctx;
    uint64_t block = l->policy.block_bytes;
    uint64_t end = range->offset + range->count;

    for (uint64_t i = range->offset / block; i * block < end; i++) {
        if (!forced.written[i])
            life_fail(l, "block %" PRIu64 " is lost, and nobody wrote it", i);
        forced.lost[i] = true;
    }
}

/* What is lost is not read as anything, and can be written. */
static void
write_lost(struct life *l)
{
    uint64_t block = l->policy.block_bytes;

    for (uint64_t i = 0; i < BLOCKS_MAX && !l->failed; i++) {
        if (!forced.lost[i])
            continue;
        if (lsvd_pread(l->v, l->buffer, block, i * block) != -EIO)
            life_fail(l, "block %" PRIu64 " is called lost, and is read", i);
        model_write_begin(l->m, i * block, block, NULL);
        if (lsvd_zero(l->v, block, i * block, LSVD_FUA) < 0)
            life_fail(l, "zero of what is lost: %s", lsvd_error());
        model_write_end(l->m, true, true);
    }
}

/* As a person would: what was begun is gone on with, or forced again. */
static int
force_again(struct life *l)
{
    int r = act_force(l);

    life_event(l, "force again: %s", r < 0 ? lsvd_error() : "done");
    if (r != -EALREADY)
        return r;
    r = admin_rebuild(l);
    life_event(l, "rebuild: %s", r < 0 ? lsvd_error() : "done");
    return 0; /* what is lost, verify tells */
}

/* It is verified, and serves. */
static void
use_forced(struct life *l)
{
    const struct lsvd_repair_callbacks cb = {.lost = note_lost, .ctx = l};
    struct lsvd_report report;

    if (lsvd_verify(&l->env, LIFE_VOLUME, true, &cb, &report) < 0)
        life_fail(l, "verify after a forced start: %s", lsvd_error());
    else if (life_open(l, 0) < 0)
        life_fail(l, "open after a forced start: %s", lsvd_error());
    if (l->failed)
        return;
    write_lost(l);
    life_check_image(l, "after a forced start");
    for (int i = 0; i < 8 && !l->failed && lsvd_can_write(l->v); i++)
        life_request(l, false);
    if (life_close(l) < 0)
        life_fail(l, "close: %s", lsvd_error());
    model_flushed(l->m);
}

static void
finish_force(struct life *l, int result, bool crashed)
{
    if ((result < 0 || crashed) && force_again(l) < 0)
        life_fail(l, "force again: %s", lsvd_error());
    else
        use_forced(l);
    admin_judge(l);
}

/* ---- too few parts ---- */

static bool
can_be_read_alone(const struct sim_policy *policy)
{
    return policy->replicas > 1 || policy->ec_parity > 1;
}

static void
hide_parts(struct life *l, bool hidden)
{
    for (uint32_t i = 0; i < life_tolerated(&l->policy); i++)
        simio_hide(l->s, l->dir[i], hidden);
}

static void
prepare_few(struct life *l)
{
    memset(&forced, 0, sizeof forced);
    admin_prepare_served(l);
    for (int i = 0; i < 6 && !l->failed; i++)
        life_request(l, false);
    life_crash(l, prng_one_in(&l->prng, 2));
    hide_parts(l, true);
}

static void
finish_few(struct life *l, int result, bool crashed)
{
    admin_after_error(l, result, crashed);
    if ((result < 0 || crashed) && force_again(l) < 0)
        life_fail(l, "force again: %s", lsvd_error());
    else
        use_forced(l);
    hide_parts(l, false);
    if (!l->failed && admin_rebuild(l) < 0)
        life_fail(l, "rebuild: %s", lsvd_error());
    admin_judge(l);
}

const struct scenario admin_forces[] = {
    {"force-start", admin_always, prepare_lost_journal, act_force,
     finish_force, SCENARIO_SHARES},
    {"force-few", can_be_read_alone, prepare_few, act_force, finish_few, 0},
    {0},
};
