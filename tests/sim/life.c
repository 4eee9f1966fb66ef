/* life.c: see life.h. */
#include "life.h"
#include "clones.h"
#include "dedupes.h"
#include "members.h"
#include "snapshots.h"
#include "streams.h"
#include "volume/around.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

uint32_t
life_parts(const struct sim_policy *policy)
{
    return policy->replicas ? policy->replicas
                            : policy->ec_data + policy->ec_parity;
}

uint32_t
life_tolerated(const struct sim_policy *policy)
{
    return policy->replicas ? policy->replicas - 1 : policy->ec_parity;
}

void
life_part_path(const struct life *l, uint32_t part, char *text, size_t bytes)
{
    snprintf(text, bytes, "%s/%u/%c", l->one_root ? "/data" : l->root[part],
             l->number, (char)('a' + part));
}

void
life_event(struct life *l, const char *format, ...)
{
    char *line = l->event[l->event_count++ % LIFE_EVENTS];
    va_list args;

    va_start(args, format);
    vsnprintf(line, LIFE_EVENT_BYTES, format, args);
    va_end(args);
    if (l->verbose)
        printf("%6" PRIu64 " %s\n", l->event_count, line);
}

void
life_fail(struct life *l, const char *format, ...)
{
    va_list args;

    if (l->failed)
        return;
    l->failed = true;
    va_start(args, format);
    vsnprintf(l->why, sizeof l->why, format, args);
    va_end(args);
}

void
life_policy_text(const struct sim_policy *policy, char *text, size_t bytes)
{
    char redundancy[32];

    if (policy->replicas)
        snprintf(redundancy, sizeof redundancy, "replicas=%u",
                 policy->replicas);
    else
        snprintf(redundancy, sizeof redundancy, "ec=%u+%u", policy->ec_data,
                 policy->ec_parity);
    snprintf(text, bytes,
             "--config %s --block-size %u%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s"
             "%s%s%s%s%s%s%s%s",
             redundancy, policy->block_bytes,
             policy->missing ? " --missing" : "",
             policy->rot ? " --rot" : "",
             policy->read_cache ? " --read-cache" : "",
             policy->redo_in_ring ? " --redo-in-ring" : "",
             policy->stream ? " --stream" : "",
             policy->clone ? " --clone" : "",
             policy->snapshot ? " --snapshot" : "",
             policy->dedupe ? " --dedupe" : "",
             policy->dedupe_bugs & DEDUPE_BUG_UNSYNCED ? " --bug refs-sync"
                                                       : "",
             policy->dedupe_bugs & DEDUPE_BUG_MEND ? " --bug refs-mend" : "",
             policy->clone_bugs & CLONE_BUG_ZEROES ? " --bug zeroes" : "",
             policy->clone_bugs & CLONE_BUG_SHOWS ? " --bug shows" : "",
             policy->stream_bugs & STREAM_BUG_FLUSH ? " --bug bypass-flush"
                                                    : "",
             policy->stream_bugs & STREAM_BUG_FOUND ? " --bug bypass-found"
                                                    : "",
             policy->blind ? " --bug blind" : "",
             policy->bugs & SIM_BUG_NO_JOURNAL_SYNC ? " --bug journal-sync"
                                                    : "",
             policy->bugs & SIM_BUG_NO_DIR_SYNC ? " --bug dir-sync" : "",
             policy->bugs & SIM_BUG_LOST_TABLE ? " --bug table" : "",
             policy->skip_redo ? " --bug redo" : "",
             policy->mirror ? " --mirror" : "",
             policy->conceal_losses ? " --bug mirror" : "",
             policy->skip_rest ? " --bug refill" : "",
             policy->skip_settle ? " --bug settle" : "",
             policy->member_bugs & MEMBER_BUG_NO_VIEW ? " --bug view" : "",
             policy->member_bugs & MEMBER_BUG_STALE ? " --bug stale" : "",
             policy->member_bugs & MEMBER_BUG_SKIP ? " --bug skip" : "",
             policy->member_bugs & MEMBER_BUG_READ ? " --bug read" : "");
}

void
life_print_failure(const struct life *l, FILE *out)
{
    uint64_t first = l->event_count > LIFE_EVENTS
                         ? l->event_count - LIFE_EVENTS
                         : 0;

    fprintf(out, "last events:\n");
    for (uint64_t i = first; i < l->event_count; i++)
        fprintf(out, "%6" PRIu64 " %s\n", i + 1, l->event[i % LIFE_EVENTS]);
    fprintf(out, "FAILED after %" PRIu64 " cuts: %s\n", l->cuts, l->why);
}

static void
engine_log(void *ctx, enum lsvd_log_level level, const char *line)
{
    if (level < LSVD_DEBUG)
        life_event(ctx, "    log: %s", line);
}

static void
choose_shape(struct life *l)
{
    static const uint32_t ram[] = {4096, 64u << 10, 1u << 20};
    uint64_t chunks = l->policy.small ? 1 : prng_between(&l->prng, 1, 3);
    uint64_t bytes = chunks * LIFE_CHUNK_BYTES;
    uint32_t tail = LIFE_CHUNK_BYTES / 512 - 1;

    if (l->policy.small)
        bytes = 12 * l->policy.block_bytes - 512 + 100;
    else if (prng_one_in(&l->prng, 2))
        bytes -= prng_below(&l->prng, tail) * 512;
    if (prng_one_in(&l->prng, 8) && !l->policy.small)
        bytes -= prng_below(&l->prng, 511);
    l->volume_bytes = bytes;
    l->env.ram_bytes = ram[prng_below(&l->prng, 3)];
    l->one_root = prng_one_in(&l->prng, 3);
    for (size_t i = 0; i < 4; i++)
        l->hot[i] = prng_below(&l->prng, bytes);
    if (chunks > 1)
        l->hot[0] = LIFE_CHUNK_BYTES - 2 * l->policy.block_bytes;
    l->hot[1] = bytes - 1;
}

/* Some of what the parent holds: the model knows it as flushed. */
static int
write_parent(struct life *l, struct lsvd_volume *v, uint64_t bytes)
{
    uint64_t most = bytes < l->volume_bytes ? bytes : l->volume_bytes;
    int r = 0;

    for (uint64_t n = prng_between(&l->prng, 1, 6); n > 0 && r == 0; n--) {
        uint64_t at = prng_below(&l->prng, most);
        uint64_t left = most - at, longest = LIFE_CHUNK_BYTES / 2;
        size_t count = prng_between(&l->prng, 1,
                                    left < longest ? left : longest);

        model_fill(model_next_id(l->m), at, l->buffer, count);
        model_write_begin(l->m, at, count, l->buffer);
        r = lsvd_pwrite(v, l->buffer, count, at, 0);
        model_write_end(l->m, r == 0, false);
    }
    return r;
}

/* In a place of its own, of another shape than the clone. */
static int
make_parent(struct life *l)
{
    static const char *const place[] = {"/base", NULL};
    struct lsvd_create spec = {
        .name = "base",
        .size_bytes = l->volume_bytes,
        .chunk_bytes = LIFE_CHUNK_BYTES << prng_below(&l->prng, 2),
        .block_bytes = l->policy.block_bytes,
        .replicas = life_parts(&l->policy) == 2 ? 3 : 2,
        .journal_bytes = 1u << 20,
    };
    struct lsvd_env env = l->env;
    struct lsvd_volume *v;
    int r, closed;

    env.data = env.cache = place;
    env.settings = NULL;
    if (prng_one_in(&l->prng, 2))
        spec.size_bytes = prng_between(&l->prng, 1, 2 * l->volume_bytes);
    simio_make_dir(l->s, "/base");
    r = lsvd_create(&env, &spec);
    if (r == 0)
        r = lsvd_open(&env, "base", 0, &v);
    if (r < 0)
        return r;
    r = write_parent(l, v, spec.size_bytes);
    closed = lsvd_close(v);
    if (r == 0)
        r = closed;
    if (r == 0)
        model_flushed(l->m);
    return r < 0 ? r : lsvd_set(&env, "base", "read-only", "on");
}

int
life_create(struct life *l)
{
    struct lsvd_create_part part[LIFE_PARTS_MAX];
    struct lsvd_create spec = {
        .name = LIFE_VOLUME,
        .size_bytes = l->volume_bytes,
        .chunk_bytes = LIFE_CHUNK_BYTES,
        .block_bytes = l->policy.block_bytes,
        .replicas = l->policy.replicas,
        .ec_data = l->policy.ec_data,
        .ec_parity = l->policy.ec_parity,
        .journal_bytes = l->policy.stream ? 12u << 20 : 1u << 20,
    };
    uint32_t count = life_parts(&l->policy);
    int r;

    for (uint32_t i = 0; i < count; i++) {
        part[i].letter = (char)('a' + i);
        part[i].root = l->root[i];
    }
    if (!l->one_root) {
        spec.parts = part;
        spec.part_count = count;
    }
    if (l->policy.clone) {
        spec.parent = "base";
        r = make_parent(l);
        if (r < 0)
            return r;
    }
    if (l->policy.dedupe) {
        r = dedupes_make_source(l);
        if (r < 0)
            return r;
    }
    r = lsvd_create(&l->env, &spec);
    if (r == 0)
        l->rules = (struct rules){0};
    return r;
}

static void
make_roots(struct life *l)
{
    uint32_t count = life_parts(&l->policy);

    assert(count <= LIFE_PARTS_MAX);
    simio_make_dir(l->s, "/cache");
    l->cache[0] = "/cache";
    life_mirror_begin(l);
    l->env.cache = l->cache;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(l->root[i], sizeof l->root[i], "/p/%c", (char)('a' + i));
        if (!l->one_root) {
            simio_make_dir(l->s, l->root[i]);
            l->data[i] = l->root[i];
        }
    }
    if (l->one_root) {
        simio_make_dir(l->s, "/data");
        l->data[0] = "/data";
    }
    if (l->policy.clone)
        l->data[l->one_root ? 1 : count] = "/base";
    if (l->policy.dedupe)
        l->data[(l->one_root ? 1 : count) + l->policy.clone] = "/twin";
    l->number = l->policy.clone || l->policy.dedupe ? 12 : 11;
    l->env.data = l->data;
    life_parts_begin(l);
}

void
life_begin_empty(struct life *l, const struct sim_policy *policy,
                 uint64_t seed)
{
    *l = (struct life){.policy = *policy, .seed = seed};
    prng_seed(&l->prng, seed);
    l->s = simio_new(prng_next(&l->prng));
    l->steps_typical = 60;
    choose_shape(l);
    make_roots(l);
    if (policy->read_cache) {
        /* the journal has 1 MiB of it; some have room for a few blocks */
        l->settings[0] = seed % 3 == 0   ? "cache-size=1088K"
                         : seed % 3 == 1 ? "cache-size=1280K"
                                         : "cache-size=3M";
        l->settings[1] = "read-cache=on"; /* parts are as fast as it is */
        l->env.settings = l->settings;
        if (seed & 1) /* it takes neighbours, too (RV5) */
            simio_set_read_ns(l->s, 2 * AROUND_FAR_NS);
    }
    l->env.io = simio_io(l->s);
    l->env.log = engine_log;
    l->env.log_ctx = l;
    l->m = model_new(l->volume_bytes, policy->block_bytes);
    l->image = calloc(1, l->volume_bytes);
    l->buffer = calloc(1, l->volume_bytes);
    if (!l->image || !l->buffer)
        abort();
}

void
life_begin(struct life *l, const struct sim_policy *policy, uint64_t seed,
           FILE *trace)
{
    uint32_t columns = policy->replicas ? 1 : policy->ec_data;
    uint64_t table_bytes =
        4096 + LIFE_CHUNK_BYTES / policy->block_bytes / columns * 16;

    life_begin_empty(l, policy, seed);
    life_event(l, "create %" PRIu64 " bytes, ram %" PRIu64 "%s",
               l->volume_bytes, l->env.ram_bytes,
               l->one_root ? ", one root" : "");
    if (life_create(l) < 0)
        life_fail(l, "create: %s", lsvd_error());
    else
        life_check_handles(l, "create");
    simio_settle(l->s);
    rules_begin(l);
    simio_set_bugs(l->s, policy->bugs, table_bytes);
    simio_set_trace(l->s, trace);
}

void
life_end(struct life *l)
{
    if (l->v)
        lsvd_abandon(l->v);
    if (simio_open_handles(l->s) == 0)
        simio_free(l->s);
    life_forget_copies(l);
    snapshots_end(l);
    dedupes_end(l);
    life_mirror_end(l);
    life_parts_end(l);
    life_spoil_end(l);
    model_free(l->m);
    free(l->image);
    free(l->buffer);
}

int
life_open(struct life *l, unsigned flags)
{
    struct lsvd_volume *v = NULL;
    int r = lsvd_open(&l->env, LIFE_VOLUME, flags, &v);

    if (r < 0) {
        life_event(l, "open: %s", lsvd_error());
        life_check_handles(l, "open that failed");
        return r;
    }
    l->v = v;
    l->tampered = 0;
    if (lsvd_can_write(v))
        rules_started(l);
    life_event(l, "open: %s", lsvd_can_write(v) ? "writable" : "read-only");
    return 0;
}

void
life_check_handles(struct life *l, const char *what)
{
    if (simio_open_handles(l->s) > 0)
        life_fail(l, "%s leaves %zu handles open", what,
                  simio_open_handles(l->s));
}

/* What the volume has done, before it is gone. */
static void
count(struct life *l)
{
    static struct lsvd_status status; /* large */

    lsvd_get_status(l->v, &status);
    if (l->policy.read_cache)
        l->cached_reads += status.read_cache.hits;
    l->bypassed += status.counters.bypass_bytes;
    l->spilled += status.counters.bypass_spills;
    l->recovered += status.counters.bypass_recovered;
}

int
life_close(struct life *l)
{
    int r;

    count(l);
    r = lsvd_close(l->v);

    l->v = NULL;
    life_event(l, "close: %s", r < 0 ? lsvd_error() : "clean");
    life_check_handles(l, "close");
    return r;
}

void
life_crash(struct life *l, bool with_power)
{
    uint64_t steps = simio_get_stats(l->s)->steps;

    if (l->v) {
        count(l);
        lsvd_abandon(l->v);
    }
    l->v = NULL;
    life_check_handles(l, "abandon");
    if (simio_get_stats(l->s)->steps != steps)
        life_fail(l, "abandon changes the world");
    if (l->failed)
        return;
    life_event(l, "%s", with_power ? "POWER CUT" : "KILL");
    if (with_power)
        simio_power_cut(l->s);
    else
        simio_kill(l->s);
    model_crashed(l->m, with_power);
    l->sick_dirs = l->tampered = 0;
    life_mirror_crashed(l);
    l->cuts++;
}

int
life_read_image(struct life *l)
{
    uint64_t done = 0;

    while (done < l->volume_bytes) {
        size_t n = 128u << 10;
        int r;

        if (n > l->volume_bytes - done)
            n = l->volume_bytes - done;
        l->rules.in_client_read = true;
        r = lsvd_pread(l->v, l->image + done, n, done);
        l->rules.in_client_read = false;
        if (r < 0)
            return r;
        done += n;
    }
    return 0;
}

bool
life_is_unknown(const struct life *l)
{
    return l->policy.stream && !lsvd_can_write(l->v) &&
           strstr(lsvd_error(), "was being written when its server ended");
}

void
life_check_image(struct life *l, const char *when)
{
    char why[1024];

    if (l->failed)
        return;
    if (life_read_image(l) < 0) {
        if (!simio_halted(l->s) && !life_is_unknown(l))
            life_fail(l, "%s: read: %s", when, lsvd_error());
        return;
    }
    if (!model_check_image(l->m, l->image, why, sizeof why))
        life_fail(l, "%s: %s", when, why);
}
