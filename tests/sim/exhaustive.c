/* exhaustive.c: every workload of a few writes from a small alphabet, cut at
 * every step, with several subsets of what was not durable.
 *
 * The workload runs once; before each step the world is cloned, the clone
 * loses power (or its process), and a second engine recovers it, while the
 * first one stands still in the middle of its call. */
#include "life.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum letter {
    WRITE_BLOCK,  /* block 0 */
    WRITE_TWO,    /* blocks 1 and 2: two stripes with EC 2+1 */
    WRITE_STRIPE, /* whole stripes */
    WRITE_PART,   /* less than a block */
    ZERO_BLOCK,
    TRIM_ALL,
    LETTERS,
};

enum after { NOTHING, FLUSH, DESTAGE, AFTERS };

struct exhaustive {
    struct life life;
    unsigned subsets;
    uint64_t seed, point, cuts;
    char text[160];
};

static void
say_workload(struct exhaustive *e, const char *more)
{
    size_t n = strlen(e->text);

    snprintf(e->text + n, sizeof e->text - n, " %s", more);
}

/* The clone as a life of its own; it borrows the model. */
static void
clone_life(const struct exhaustive *e, uint64_t seed, struct life *ret)
{
    *ret = e->life;
    prng_seed(&ret->prng, seed);
    ret->s = simio_clone(e->life.s, seed);
    ret->env.io = simio_io(ret->s);
    ret->env.log_ctx = ret;
    ret->rules.epoch = 0; /* the one that stands still has its own */
    ret->rules.has_volume = false;
    rules_begin(ret);
    ret->v = NULL;
    ret->image = calloc(2, ret->volume_bytes);
    if (!ret->image)
        abort();
}

static void
check_clone(struct life *c, const struct model *m, bool with_power,
            const char *when)
{
    char why[1024];

    if (c->failed)
        return;
    if (life_read_image(c) < 0)
        life_fail(c, "%s: read: %s", when, lsvd_error());
    else if (!model_check_image_only(m, true, with_power, c->image, why,
                                     sizeof why))
        life_fail(c, "%s: %s", when, why);
}

/* What was read with parts away must be what is read with all of them. */
static void
check_degraded(struct life *c, const struct model *m, bool with_power)
{
    uint32_t parts = life_parts(&c->policy);
    uint32_t away = (uint32_t)prng_below(&c->prng, parts);
    char path[64];

    life_part_path(c, away, path, sizeof path);
    simio_hide(c->s, path, true);
    if (life_open(c, 0) < 0)
        life_fail(c, "open with part %c away: %s", (char)('a' + away),
                  lsvd_error());
    check_clone(c, m, with_power, "degraded");
    if (c->v)
        lsvd_abandon(c->v);
    c->v = NULL;
    simio_hide(c->s, path, false);
    memcpy(c->image + c->volume_bytes, c->image, c->volume_bytes);
}

static void
recover_clone(struct life *c, const struct model *m, bool with_power)
{
    bool degraded = c->policy.missing && life_tolerated(&c->policy) > 0;

    if (degraded)
        check_degraded(c, m, with_power);
    if (c->failed)
        return;
    if (life_open(c, 0) < 0) {
        life_fail(c, "open after a crash: %s", lsvd_error());
        return;
    }
    check_clone(c, m, with_power, "recovered");
    if (degraded && !c->failed &&
        memcmp(c->image, c->image + c->volume_bytes, c->volume_bytes) != 0)
        life_fail(c, "other bytes than with a part away");
    if (prng_one_in(&c->prng, 4) && !c->failed) {
        life_calm(c); /* a cut may look like a part that fails */
        if (!c->failed && life_close(c) < 0)
            life_fail(c, "close: %s", lsvd_error());
        life_verify(c);
    }
}

static void
crash_clone(struct exhaustive *e, unsigned subset)
{
    uint64_t seed = prng_mix(e->seed ^ e->point << 8 ^ subset);
    bool with_power = subset != 0;
    struct life c;

    clone_life(e, seed, &c);
    if (!with_power)
        simio_kill(c.s);
    else if (subset == 1)
        simio_power_cut_with(c.s, SIM_KEEP_NONE, SIM_SECTOR_BYTES);
    else
        simio_power_cut(c.s);
    e->cuts++;
    recover_clone(&c, e->life.m, with_power);
    if (c.failed) {
        life_fail(&e->life, "workload%s, cut at step %" PRIu64 ", subset %u: "
                  "%s", e->text, e->point, subset, c.why);
        life_print_failure(&c, stdout);
    }
    if (c.v)
        lsvd_abandon(c.v);
    if (simio_open_handles(c.s) == 0)
        simio_free(c.s);
    free(c.image);
}

static void
at_step(void *ctx, enum sim_call kind)
{
    struct exhaustive *e = ctx;

    (void)kind;
    e->point++;
    for (unsigned i = 0; i < e->subsets && !e->life.failed; i++)
        crash_clone(e, i);
}

static void
run_letter(struct exhaustive *e, enum letter letter)
{
    static const char *const names[LETTERS] = {
        "write-block", "write-two", "write-stripe",
        "write-part",  "zero-block", "trim-all",
    };
    struct life *l = &e->life;
    uint64_t block = l->policy.block_bytes;
    uint64_t columns = l->policy.ec_data ? l->policy.ec_data : 1;
    uint64_t offset = 0, count = block;
    bool is_zero = letter == ZERO_BLOCK || letter == TRIM_ALL;
    int r;

    if (letter == WRITE_TWO) {
        offset = block;
        count = 2 * block;
    } else if (letter == WRITE_STRIPE) {
        count = 2 * columns * block;
    } else if (letter == WRITE_PART) {
        offset = 100;
        count = 300;
    } else if (letter == TRIM_ALL) {
        count = l->volume_bytes;
    }
    say_workload(e, names[letter]);
    life_event(l, "%s", names[letter]);
    if (!is_zero)
        model_fill(model_next_id(l->m), offset, l->buffer, count);
    model_write_begin(l->m, offset, count, is_zero ? NULL : l->buffer);
    if (is_zero)
        r = lsvd_trim(l->v, count, offset, 0);
    else
        r = lsvd_pwrite(l->v, l->buffer, count, offset, 0);
    model_write_end(l->m, r == 0, false);
    if (r < 0)
        life_fail(l, "%s: %s", names[letter], lsvd_error());
}

static void
run_after(struct exhaustive *e, enum after after)
{
    struct life *l = &e->life;
    int r = 0;

    if (after == NOTHING || l->failed)
        return;
    say_workload(e, after == FLUSH ? "flush" : "destage");
    life_event(l, after == FLUSH ? "flush" : "destage");
    if (after == FLUSH) {
        r = lsvd_flush(l->v);
        if (r == 0)
            model_flushed(l->m);
    } else {
        while ((r = lsvd_destage_step(l->v)) > 0)
            ;
    }
    if (r < 0)
        life_fail(l, "%s: %s", after == FLUSH ? "flush" : "destage",
                  lsvd_error());
}

static void
run_close(struct exhaustive *e)
{
    struct life *l = &e->life;

    say_workload(e, "close");
    if (life_close(l) < 0)
        life_fail(l, "close: %s", lsvd_error());
    model_flushed(l->m); /* a clean close is as good as a flush */
    at_step(e, SIM_CALL_OTHER);
}

/* `code` names the workload: a digit (letter, after) for each write. */
static bool
run_workload(const struct sim_policy *policy, unsigned length, uint64_t code,
             unsigned subsets, uint64_t seed, uint64_t *ret_cuts)
{
    struct exhaustive e = {.subsets = subsets, .seed = seed};
    struct life *l = &e.life;
    bool ok;

    life_begin(l, policy, seed, NULL);
    if (!l->failed && life_open(l, 0) < 0)
        life_fail(l, "open of a new volume: %s", lsvd_error());
    simio_set_step_hook(l->s, at_step, &e);
    for (unsigned i = 0; i < length && !l->failed; i++) {
        run_letter(&e, (enum letter)(code % LETTERS));
        code /= LETTERS;
        run_after(&e, (enum after)(code % AFTERS));
        code /= AFTERS;
    }
    if (!l->failed)
        run_after(&e, DESTAGE);
    if (!l->failed)
        run_close(&e);
    ok = !l->failed;
    if (!ok)
        printf("FAILED: %s\n", l->why);
    *ret_cuts += e.cuts;
    life_end(l);
    return ok;
}

/* All sequences of letters, with one choice, by the seed, of what comes
 * between them. */
static uint64_t
sparse_code(unsigned length, uint64_t letters, uint64_t seed)
{
    uint64_t between = prng_mix(seed ^ letters), code = 0, place = 1;

    for (unsigned i = 0; i < length; i++) {
        code += place * (letters % LETTERS + between % AFTERS * LETTERS);
        place *= LETTERS * AFTERS;
        letters /= LETTERS;
        between /= AFTERS;
    }
    return code;
}

bool
exhaustive_run(const struct sim_policy *policy, unsigned length,
               unsigned subsets, bool full, uint64_t seed, uint64_t *ret_cuts)
{
    struct sim_policy small = *policy;
    uint64_t all = 1, letters = 1;

    small.small = true;
    for (unsigned n = 1; n <= length; n++) {
        bool sparse = n > 2 && !full;

        letters *= LETTERS;
        all *= LETTERS * AFTERS;
        for (uint64_t i = 0; i < (sparse ? letters : all); i++) {
            uint64_t code = sparse ? sparse_code(n, i, seed) : i;

            if (!run_workload(&small, n, code, subsets, seed, ret_cuts))
                return false;
        }
    }
    return true;
}
