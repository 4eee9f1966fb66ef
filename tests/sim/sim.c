/* sim.c: the simulator: the whole engine in a world that breaks.
 *
 * Everything follows from the seed of a life; a failure prints the command
 * that lives it again. */
#include "blindness.h"
#include "clones.h"
#include "dedupes.h"
#include "life.h"
#include "losses.h"
#include "members.h"
#include "redo.h"
#include "streams.h"
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CUTS_A_LIFE 25
#define POLICIES_MAX 40

enum mode { MODE_RANDOM, MODE_EXHAUSTIVE, MODE_NTH, MODE_ADMIN };

struct options {
    enum mode mode;
    uint64_t seed, cuts, life_cuts, seconds;
    uint64_t replay;
    bool is_replay, expect_failure, full, verbose, trace, missing_set;
    unsigned length, subsets;
    const char *scenario; /* of --admin; NULL: all */
    uint64_t every;       /* of its steps */
    struct sim_policy policy[POLICIES_MAX];
    size_t policy_count;
};

static const char usage[] =
    "Usage: sim [OPTION]...\n"
    "Run the volume engine in a simulated world, cut it off, and check what\n"
    "is left.\n\n"
    "  --seed N           of the whole run (default 1)\n"
    "  --cuts N           at least this many (default 2000)\n"
    "  --seconds N        stop after that time instead\n"
    "  --config C         replicas=N or ec=K+M; may be repeated (default: "
    "all)\n"
    "  --block-size N     (default: 4096 and 512)\n"
    "  --missing          parts vanish, die, come back, are old copies, are\n"
    "                     replaced (default: in half of the lives, unless\n"
    "                     --config is given)\n"
    "  --mirror           two cache directories: one may die, go away, come\n"
    "                     back, be an old copy\n"
    "  --read-cache       copies of blocks are kept in the cache directory\n"
    "                     (not by default)\n"
    "  --redo-in-ring     journals as they were before redo records had an\n"
    "                     area of their own (not by default)\n"
    "  --stream           much is written in order, past the journal\n"
    "  --clone            the volume has a parent (not by default)\n"
    "  --snapshot         it is frozen now and then (not by default)\n"
    "  --dedupe           it shares blocks with another one (not by default)\n"
    "  --rot              damage parts, and expect them healed\n"
    "  --replay SEED      live one life again (with the same options)\n"
    "  --life-cuts N      cuts in a life (default 25)\n"
    "  --exhaustive       all small workloads, cut at every step\n"
    "  --length N         most writes of those (default 2)\n"
    "  --full             more than two with all that can come between\n"
    "  --subsets N        cuts at each step of those (default 4)\n"
    "  --nth              every call and allocation fails once\n"
    "  --admin            create, resize, remove, rebuild, replace, cut at\n"
    "                     every step and failing at every call\n"
    "  --scenario NAME    of those this one alone\n"
    "  --every N          of --nth and --admin: at one in N of the steps\n"
    "                     (default 1: at all)\n"
    "  --bug NAME         break a promise of the world: journal-sync,\n"
    "                     dir-sync, table, redo; mirror, refill, settle\n"
    "                     (with --mirror); or a rule: view, stale, skip,\n"
    "                     read (--missing); blind (--read-cache);\n"
    "                     bypass-flush, bypass-found (--stream);\n"
    "                     zeroes, shows (--clone); refs-sync (--dedupe),\n"
    "                     refs-mend (--dedupe --missing)\n"
    "  --expect-failure   succeed only if a failure is found\n"
    "  --verbose, --trace print events, print every call\n";

static void
stop(const char *what, const char *value)
{
    fprintf(stderr, "sim: %s: %s\n", what, value);
    exit(64);
}

static uint64_t
number(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 0);

    if (*text == '\0' || *end != '\0')
        stop("not a number", text);
    return n;
}

static void
add_policy(struct options *o, struct sim_policy policy)
{
    if (o->policy_count == POLICIES_MAX)
        stop("too many", "--config");
    o->policy[o->policy_count++] = policy;
}

static struct sim_policy
parse_config(const char *text)
{
    struct sim_policy p = {0};
    char rest;

    if (sscanf(text, "replicas=%u%c", &p.replicas, &rest) != 1 &&
        sscanf(text, "ec=%u+%u%c", &p.ec_data, &p.ec_parity, &rest) != 2)
        stop("not replicas=N or ec=K+M", text);
    if (p.replicas + p.ec_data + p.ec_parity == 0 ||
        life_parts(&p) > LIFE_PARTS_MAX)
        stop("too many or no parts", text);
    return p;
}

static void
parse_bug(struct sim_policy *all, const char *text)
{
    if (strcmp(text, "journal-sync") == 0)
        all->bugs |= SIM_BUG_NO_JOURNAL_SYNC;
    else if (strcmp(text, "dir-sync") == 0)
        all->bugs |= SIM_BUG_NO_DIR_SYNC;
    else if (strcmp(text, "table") == 0)
        all->bugs |= SIM_BUG_LOST_TABLE;
    else if (strcmp(text, "redo") == 0)
        all->skip_redo = true;
    else if (strcmp(text, "mirror") == 0)
        all->conceal_losses = true;
    else if (strcmp(text, "refill") == 0)
        all->skip_rest = true;
    else if (strcmp(text, "settle") == 0)
        all->skip_settle = true;
    else if (strcmp(text, "view") == 0)
        all->member_bugs |= MEMBER_BUG_NO_VIEW;
    else if (strcmp(text, "stale") == 0)
        all->member_bugs |= MEMBER_BUG_STALE;
    else if (strcmp(text, "skip") == 0)
        all->member_bugs |= MEMBER_BUG_SKIP;
    else if (strcmp(text, "read") == 0)
        all->member_bugs |= MEMBER_BUG_READ;
    else if (strcmp(text, "blind") == 0)
        all->blind = true;
    else if (strcmp(text, "bypass-flush") == 0)
        all->stream_bugs |= STREAM_BUG_FLUSH;
    else if (strcmp(text, "bypass-found") == 0)
        all->stream_bugs |= STREAM_BUG_FOUND;
    else if (strcmp(text, "zeroes") == 0)
        all->clone_bugs |= CLONE_BUG_ZEROES;
    else if (strcmp(text, "shows") == 0)
        all->clone_bugs |= CLONE_BUG_SHOWS;
    else if (strcmp(text, "refs-sync") == 0)
        all->dedupe_bugs |= DEDUPE_BUG_UNSYNCED;
    else if (strcmp(text, "refs-mend") == 0)
        all->dedupe_bugs |= DEDUPE_BUG_MEND;
    else
        stop("no such bug", text);
}

/* Every config with every block size; without --config, with and without
 * parts away. */
static void
multiply(struct options *o, const struct sim_policy *all)
{
    static const char *const configs[] = {"replicas=1", "replicas=2",
                                          "replicas=3", "ec=2+1", "ec=4+2"};
    static const uint32_t sizes[] = {4096, 512};
    struct sim_policy given[POLICIES_MAX];
    size_t count = o->policy_count;
    bool is_default = count == 0;

    memcpy(given, o->policy, sizeof given);
    for (size_t i = 0; is_default && i < 5; i++)
        given[count++] = parse_config(configs[i]);
    o->policy_count = 0;
    for (int missing = 0; missing < 2; missing++) {
        for (int size = 0; size < 2; size++) {
            for (size_t i = 0; i < count; i++) {
                struct sim_policy p = *all;

                p.replicas = given[i].replicas;
                p.ec_data = given[i].ec_data;
                p.ec_parity = given[i].ec_parity;
                p.missing = missing;
                if (p.block_bytes == 0)
                    p.block_bytes = sizes[size];
                else if (size > 0)
                    continue;
                if (is_default && !o->missing_set ? false
                                                  : missing != all->missing)
                    continue;
                if (missing && is_default && life_tolerated(&p) == 0)
                    continue;
                add_policy(o, p);
            }
        }
    }
}

static void
parse(struct options *o, int argc, char **argv)
{
    enum { SEED = 256, CUTS, SECONDS, CONFIG, BLOCK_SIZE, MISSING, MIRROR, ROT,
           READ_CACHE, IN_RING, STREAM, CLONE, SNAPSHOT, DEDUPE, REPLAY,
           LIFE_CUTS, EXHAUSTIVE, LENGTH, FULL, SUBSETS, NTH, ADMIN, SCENARIO,
           EVERY, BUG, EXPECT, VERBOSE, TRACE, HELP };
    static const struct option longs[] = {
        {"seed", required_argument, NULL, SEED},
        {"cuts", required_argument, NULL, CUTS},
        {"seconds", required_argument, NULL, SECONDS},
        {"config", required_argument, NULL, CONFIG},
        {"block-size", required_argument, NULL, BLOCK_SIZE},
        {"missing", no_argument, NULL, MISSING},
        {"mirror", no_argument, NULL, MIRROR},
        {"rot", no_argument, NULL, ROT},
        {"read-cache", no_argument, NULL, READ_CACHE},
        {"redo-in-ring", no_argument, NULL, IN_RING},
        {"stream", no_argument, NULL, STREAM},
        {"clone", no_argument, NULL, CLONE},
        {"snapshot", no_argument, NULL, SNAPSHOT},
        {"dedupe", no_argument, NULL, DEDUPE},
        {"replay", required_argument, NULL, REPLAY},
        {"life-cuts", required_argument, NULL, LIFE_CUTS},
        {"exhaustive", no_argument, NULL, EXHAUSTIVE},
        {"length", required_argument, NULL, LENGTH},
        {"full", no_argument, NULL, FULL},
        {"subsets", required_argument, NULL, SUBSETS},
        {"nth", no_argument, NULL, NTH},
        {"admin", no_argument, NULL, ADMIN},
        {"scenario", required_argument, NULL, SCENARIO},
        {"every", required_argument, NULL, EVERY},
        {"bug", required_argument, NULL, BUG},
        {"expect-failure", no_argument, NULL, EXPECT},
        {"verbose", no_argument, NULL, VERBOSE},
        {"trace", no_argument, NULL, TRACE},
        {"help", no_argument, NULL, HELP},
        {0},
    };
    struct sim_policy all = {0};
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case SEED:
            o->seed = number(optarg);
            break;
        case CUTS:
            o->cuts = number(optarg);
            break;
        case SECONDS:
            o->seconds = number(optarg);
            break;
        case CONFIG:
            add_policy(o, parse_config(optarg));
            break;
        case BLOCK_SIZE:
            all.block_bytes = (uint32_t)number(optarg);
            break;
        case MISSING:
            all.missing = o->missing_set = true;
            break;
        case MIRROR:
            all.mirror = true;
            break;
        case READ_CACHE:
            all.read_cache = true;
            break;
        case IN_RING:
            all.redo_in_ring = true;
            break;
        case STREAM:
            all.stream = true;
            break;
        case CLONE:
            all.clone = true;
            break;
        case SNAPSHOT:
            all.snapshot = true;
            break;
        case DEDUPE:
            all.dedupe = true;
            break;
        case ROT:
            all.rot = true;
            break;
        case REPLAY:
            o->replay = number(optarg);
            o->is_replay = true;
            break;
        case LIFE_CUTS:
            o->life_cuts = number(optarg);
            break;
        case EXHAUSTIVE:
            o->mode = MODE_EXHAUSTIVE;
            break;
        case LENGTH:
            o->length = (unsigned)number(optarg);
            break;
        case FULL:
            o->full = true;
            break;
        case SUBSETS:
            o->subsets = (unsigned)number(optarg);
            break;
        case NTH:
            o->mode = MODE_NTH;
            break;
        case ADMIN:
            o->mode = MODE_ADMIN;
            break;
        case SCENARIO:
            if (!admin_knows(optarg))
                stop("no such scenario", optarg);
            o->scenario = optarg;
            break;
        case EVERY:
            o->every = number(optarg);
            if (o->every == 0)
                stop("at no step", "--every");
            break;
        case BUG:
            parse_bug(&all, optarg);
            break;
        case EXPECT:
            o->expect_failure = true;
            break;
        case VERBOSE:
            o->verbose = true;
            break;
        case TRACE:
            o->trace = true;
            break;
        case HELP:
            fputs(usage, stdout);
            exit(0);
        default:
            exit(64);
        }
    }
    if (optind < argc)
        stop("unexpected", argv[optind]);
    redo_skip(all.skip_redo);
    redo_in_ring(all.redo_in_ring);
    readcache_be_blind(all.blind);
    streams_set(all.stream, all.stream_bugs);
    clones_set_bugs(all.clone_bugs);
    dedupes_set_bugs(all.dedupe_bugs);
    losses_conceal(all.conceal_losses);
    losses_skip_rest(all.skip_rest);
    losses_skip_settle(all.skip_settle);
    members_set_bugs(all.member_bugs);
    multiply(o, &all);
}

static uint64_t
now_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

struct totals {
    uint64_t cuts, recoveries, verifies, degraded, steps, calls;
    uint64_t alone, refused, refilled, cached_reads, snapshots_read, references;
    uint64_t snapshots_merged;
    uint64_t bypassed, spilled, recovered;
    uint64_t calms, replaced, checked, unwritable, failures;
};

static bool
live(const struct options *o, const struct sim_policy *policy, uint64_t seed,
     struct totals *totals)
{
    static struct life l; /* too large for comfort on the stack */
    char text[160];
    bool ok;

    life_begin(&l, policy, seed, o->trace ? stdout : NULL);
    l.verbose = o->verbose;
    life_run(&l, o->life_cuts);
    ok = !l.failed;
    totals->cuts += l.cuts;
    totals->recoveries += l.recoveries;
    totals->verifies += l.verifies;
    totals->degraded += l.degraded;
    totals->steps += simio_get_stats(l.s)->steps;
    totals->alone += l.alone;
    totals->refused += l.refused;
    totals->refilled += l.refilled;
    totals->cached_reads += l.cached_reads;
    totals->snapshots_read += l.snapshots_read;
    totals->snapshots_merged += l.snapshots_merged;
    totals->references += l.references;
    totals->bypassed += l.bypassed;
    totals->spilled += l.spilled;
    totals->recovered += l.recovered;
    totals->calms += l.calms;
    totals->replaced += l.replaced;
    totals->unwritable += l.unwritable;
    totals->checked += l.rules.checked;
    totals->failures += l.part_failures;
    totals->calls += simio_get_stats(l.s)->all_calls;
    if (!ok) {
        life_policy_text(policy, text, sizeof text);
        life_print_failure(&l, stdout);
        printf("replay with: sim %s --life-cuts %" PRIu64 " --replay %#" PRIx64
               "\n", text, o->life_cuts, seed);
    }
    life_end(&l);
    return ok;
}

static bool
run_random(const struct options *o)
{
    struct totals t = {0};
    uint64_t start = now_seconds();
    bool ok = true;

    for (uint64_t i = 0; ok; i++) {
        if (o->seconds ? now_seconds() - start >= o->seconds
                       : t.cuts >= o->cuts)
            break;
        ok = live(o, &o->policy[i % o->policy_count],
                  o->is_replay ? o->replay : prng_mix(o->seed ^ i << 32), &t);
        if (o->is_replay)
            break;
    }
    printf("%" PRIu64 " verified clean, %" PRIu64 " degraded, %" PRIu64
           " steps, %" PRIu64 " calls\n", t.verifies, t.degraded, t.steps,
           t.calls);
    if (t.alone + t.refused > 0)
        printf("%" PRIu64 " starts with one copy of the journal, %" PRIu64
               " refused; %" PRIu64 " times refilled while serving\n",
               t.alone, t.refused, t.refilled);
    if (t.references > 0)
        printf("%" PRIu64 " blocks became references\n", t.references);
    if (t.snapshots_read > 0)
        printf("%" PRIu64 " times a snapshot was read and compared; %" PRIu64
               " merged into a later one that was in use\n",
               t.snapshots_read, t.snapshots_merged);
    if (t.cached_reads > 0)
        printf("%" PRIu64 " blocks came from the read cache\n",
               t.cached_reads);
    if (t.bypassed > 0)
        printf("%" PRIu64 " KiB went past the journal; of chunks %" PRIu64
               " were found open at a start, %" PRIu64 " had to go there\n",
               t.bypassed / 1024, t.recovered, t.spilled);
    if (t.failures > 0)
        printf("%" PRIu64 " times a part vanished, died or was an old copy; %"
               PRIu64 " replaced; %" PRIu64 " starts read-only; %" PRIu64
               " times all in sync again\n", t.failures, t.replaced,
               t.unwritable, t.calms);
    printf("%" PRIu64 " labels and superblocks checked\n", t.checked);
    printf("%" PRIu64 " cuts, %" PRIu64 " recoveries, %d failures\n", t.cuts,
           t.recoveries, !ok);
    return ok;
}

static bool
run_one_policy(const struct options *o, const struct sim_policy *p,
               uint64_t *count)
{
    switch (o->mode) {
    case MODE_NTH:
        return nth_run(p, o->every, o->seed, count);
    case MODE_ADMIN:
        return admin_run(p, o->scenario, o->every, o->seed, count);
    case MODE_EXHAUSTIVE:
    case MODE_RANDOM:
        break;
    }
    return exhaustive_run(p, o->length, o->subsets, o->full, o->seed, count);
}

/* The modes that try everything, policy by policy. */
static bool
run_others(const struct options *o)
{
    static const char *const names[] = {"random", "exhaustive", "nth",
                                        "admin"};
    const char *scenario = o->scenario ? o->scenario : "";
    static const char *const units[] = {"cuts", "cuts and recoveries",
                                        "failures injected", "interruptions"};
    uint64_t count = 0;
    bool ok = true;

    for (size_t i = 0; i < o->policy_count; i++) {
        const struct sim_policy *p = &o->policy[i];
        uint64_t before = count;
        char text[160];

        life_policy_text(p, text, sizeof text);
        if (!run_one_policy(o, p, &count)) {
            printf("replay with: sim --%s%s%s --seed %" PRIu64 " %s\n",
                   names[o->mode], scenario[0] ? " --scenario " : "", scenario,
                   o->seed, text);
            ok = false;
        }
        printf("%s: %" PRIu64 " %s\n", text, count - before,
               units[o->mode]);
    }
    printf("%" PRIu64 " %s, %s\n", count, units[o->mode],
           ok ? "0 failures" : "FAILED");
    return ok;
}

int
main(int argc, char **argv)
{
    static struct options o = {
        .seed = 1,
        .cuts = 2000,
        .life_cuts = CUTS_A_LIFE,
        .every = 1,
        .length = 2,
        .subsets = 4,
    };
    bool ok;

    parse(&o, argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    ok = o.mode == MODE_RANDOM ? run_random(&o) : run_others(&o);
    if (o.expect_failure) {
        printf("%s\n", ok ? "NOT FOUND: the bug was not noticed"
                          : "found, as it must be");
        ok = !ok;
    }
    return ok ? 0 : 1;
}
