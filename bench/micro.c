/* micro.c: what the inner pieces of the engine cost, each by itself.
 *
 * A piece is timed in batches; of each batch the time per operation is kept,
 * and the median of all batches is printed, with the least: what noise can
 * only add to. No test: nothing here fails but for want of memory. */
#include "base/io.h"
#include "base/lease.h"
#include "base/memory.h"
#include "base/sum.h"
#include "cache/cache.h"
#include "journal/index.h"
#include "journal/journal.h"
#include "memory-target.h"
#include "redundancy/ec.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK 4096u
#define BATCHES_MAX 1000u
#define EC_K 4u
#define EC_M 2u
#define CACHE_BYTES (64u << 20)
#define CACHE_BLOCKS 8192u        /* half of what fits */
#define CHUNK_BLOCKS 1024u
#define VOLUME_BLOCKS (1u << 20)
#define INDEX_BLOCKS 65536u
#define JOURNAL_BYTES (48u << 20) /* of a target in memory */
#define JOURNAL_DISK_BYTES (256u << 20)
#define RECORD_BLOCKS 32u
#define REPLAY_BLOCKS 8192u       /* in one journal of those */

static unsigned batches = 101;
static bool as_json, printed;
static volatile uint64_t sink; /* results are used, so calls are made */

static void *
memory(size_t bytes)
{
    void *p = NULL;

    if (mem_new_aligned(bytes, &p) < 0) {
        fputs("micro: out of memory\n", stderr);
        exit(1);
    }
    memset(p, 0x5a, bytes);
    return p;
}

static void
must(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "micro: %s: %s\n", what, strerror(-r));
    exit(1);
}

static uint64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* xorshift: cheap beside what is timed. */
static uint64_t
next_random(void)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* One line: name, median and least ns per operation; bytes: of the user's that
 * one operation handles, 0: says nothing. */
static void
print(const char *name, double *ns, unsigned count, size_t bytes)
{
    double median;

    qsort(ns, count, sizeof(*ns), compare_doubles);
    median = ns[count / 2];
    if (as_json) {
        printf("%s\n  {\"name\": \"%s\", \"ns\": %.1f, \"least_ns\": %.1f, "
               "\"bytes\": %zu}", printed ? "," : "[", name, median, ns[0],
               bytes);
    } else {
        if (!printed)
            printf("%-44s %10s %10s %8s\n", "operation", "median, ns",
                   "least, ns", "GB/s");
        printf("%-44s %10.1f %10.1f", name, median, ns[0]);
        if (bytes > 0)
            printf(" %8.2f", (double)bytes / median);
        putchar('\n');
    }
    printed = true;
}

/* Time `count` calls of piece(ctx, i) as a batch, again and again. before, if
 * there is one, is called ahead of each batch and is not timed. */
static void
measure(const char *name, unsigned count, size_t bytes,
        void (*piece)(void *ctx, unsigned i), void (*before)(void *ctx),
        void *ctx)
{
    double ns[BATCHES_MAX];

    for (unsigned batch = 0; batch < batches; batch++) {
        uint64_t begin;

        if (before != NULL)
            before(ctx);
        begin = now_ns();
        for (unsigned i = 0; i < count; i++)
            piece(ctx, i);
        ns[batch] = (double)(now_ns() - begin) / count;
    }
    print(name, ns, batches, bytes);
}

/* ---- sums and parity ---- */

#define SUM_BLOCKS 4096u /* more than a cache of the CPU holds of one core */

struct sums {
    uint8_t *data;
    struct uuid volume;
    uint32_t blocks;
};

static void
sum_piece(void *ctx, unsigned i)
{
    const struct sums *s = ctx;
    uint64_t seed = sum_seed(&s->volume, i / CHUNK_BLOCKS, i % CHUNK_BLOCKS);

    sink += sum_block(seed, s->data + (size_t)(i % s->blocks) * BLOCK, BLOCK);
}

static void
copy_piece(void *ctx, unsigned i)
{
    const struct sums *s = ctx;

    memcpy(s->data + (size_t)SUM_BLOCKS * BLOCK,
           s->data + (size_t)(i % s->blocks) * BLOCK, BLOCK);
    sink += s->data[(size_t)SUM_BLOCKS * BLOCK + i % BLOCK];
}

static void
time_sums(void)
{
    struct sums s = { .data = memory((SUM_BLOCKS + 1u) * (size_t)BLOCK) };

    s.blocks = 1;
    measure("sum of 4 KiB, with its seed, in L1", 4096, BLOCK, sum_piece,
            NULL, &s);
    measure("copy of 4 KiB, in L1", 4096, BLOCK, copy_piece, NULL, &s);
    s.blocks = SUM_BLOCKS;
    measure("sum of 4 KiB, from memory", 4096, BLOCK, sum_piece, NULL, &s);
    measure("copy of 4 KiB, from memory", 4096, BLOCK, copy_piece, NULL, &s);
    free(s.data);
}

struct coder {
    struct ec *ec;
    uint8_t *cell[EC_K + EC_M];
};

static void
encode_piece(void *ctx, unsigned i)
{
    struct coder *c = ctx;

    (void)i;
    ec_encode(c->ec, BLOCK, (const uint8_t *const *)c->cell,
              c->cell + EC_K);
    sink += c->cell[EC_K][0];
}

static void
decode_piece(void *ctx, unsigned i)
{
    struct coder *c = ctx;

    (void)i;
    must(ec_decode(c->ec, BLOCK, 0x1e, 0x1, c->cell), "decode");
    sink += c->cell[0][0];
}

static void
time_parity(void)
{
    struct coder c;

    must(ec_new(EC_K, EC_M, &c.ec), "ec_new");
    for (unsigned i = 0; i < EC_K + EC_M; i++)
        c.cell[i] = memory(BLOCK);
    measure("encode 4+2, a row of 4 KiB cells", 1024, EC_K * (size_t)BLOCK,
            encode_piece, NULL, &c);
    measure("decode 4+2, one cell of 4 KiB", 256, BLOCK, decode_piece, NULL,
            &c);
    for (unsigned i = 0; i < EC_K + EC_M; i++)
        free(c.cell[i]);
    ec_free(c.ec);
}

/* ---- cache ---- */

struct caching {
    struct cache *cache;
    uint8_t *block;
    uint64_t next;
};

static void
hit_piece(void *ctx, unsigned i)
{
    struct caching *c = ctx;

    (void)i;
    sink += cache_get(c->cache, next_random() % CACHE_BLOCKS, 0, BLOCK,
                      c->block);
}

static void
miss_piece(void *ctx, unsigned i)
{
    struct caching *c = ctx;

    (void)i;
    sink += cache_get(c->cache, (UINT64_C(1) << 40) + next_random()
                      % CACHE_BLOCKS, 0, BLOCK, c->block);
}

static void
replace_piece(void *ctx, unsigned i)
{
    struct caching *c = ctx;

    (void)i;
    cache_put(c->cache, next_random() % CACHE_BLOCKS, c->block);
}

static void
evict_piece(void *ctx, unsigned i)
{
    struct caching *c = ctx;

    (void)i;
    cache_put(c->cache, CACHE_BLOCKS + c->next++, c->block);
}

static void
offer_piece(void *ctx, unsigned i)
{
    struct caching *c = ctx;

    (void)i;
    cache_offer(c->cache, CACHE_BLOCKS + c->next++, c->block, true);
}

static void
time_cache(void)
{
    struct caching c = { .block = memory(BLOCK) };

    must(cache_new(CACHE_BYTES, BLOCK, &c.cache), "cache_new");
    for (uint64_t i = 0; i < CACHE_BLOCKS; i++)
        cache_put(c.cache, i, c.block);
    measure("cache: hit", 1024, BLOCK, hit_piece, NULL, &c);
    measure("cache: miss", 1024, 0, miss_piece, NULL, &c);
    measure("cache: put, replaces", 1024, BLOCK, replace_piece, NULL, &c);
    for (uint64_t i = 0; i < 4 * CACHE_BLOCKS; i++) /* full */
        evict_piece(&c, 0);
    measure("cache: put, evicts", 1024, BLOCK, evict_piece, NULL, &c);
    measure("cache: offer, remembered only", 1024, 0, offer_piece, NULL, &c);
    cache_free(c.cache);
    free(c.block);
}

/* ---- leases ---- */

#define LEASES_HELD 16u /* as many as nbdkit has threads for a connection */

struct leases {
    struct lease_table table;
    struct lease held[LEASES_HELD];
};

static void
lease_piece(void *ctx, unsigned i)
{
    struct leases *l = ctx;
    struct lease lease;
    uint64_t first = 1000 + next_random() % VOLUME_BLOCKS;

    lease_get(&l->table, &lease, first, first + 1, i % 2 == 0);
    lease_put(&l->table, &lease);
}

static void
time_leases(void)
{
    struct leases l;

    lease_table_init(&l.table);
    measure("lease: get and put, alone", 4096, 0, lease_piece, NULL, &l);
    for (unsigned i = 0; i < LEASES_HELD; i++)
        lease_get(&l.table, &l.held[i], i, i + 1, true);
    measure("lease: get and put, 16 others held", 4096, 0, lease_piece, NULL,
            &l);
    for (unsigned i = 0; i < LEASES_HELD; i++)
        lease_put(&l.table, &l.held[i]);
    lease_table_done(&l.table);
}

/* ---- the journal's index ---- */

struct indexing {
    struct index index;
    struct segment segment;
    uint64_t seq;
};

static void
index_put_piece(void *ctx, unsigned i)
{
    struct indexing *x = ctx;
    struct journal_block block = {
        .block = next_random() % INDEX_BLOCKS, .seq = ++x->seq, .sum = 1,
        .at = BLOCK,
    };

    (void)i;
    if (!index_reserve(&x->index, 1, 1, 2 * INDEX_BLOCKS))
        must(-ENOSPC, "index_reserve");
    index_put(&x->index, &block, 0);
    index_unreserve(&x->index, 1, 1);
}

static void
index_find_piece(void *ctx, unsigned i)
{
    struct indexing *x = ctx;

    (void)i;
    sink += index_find(&x->index, next_random() % INDEX_BLOCKS) != NULL;
}

static void
time_index(void)
{
    static struct indexing x;

    must(index_init(&x.index, 2 * INDEX_BLOCKS, &x.segment), "index_init");
    x.index.chunk_blocks = CHUNK_BLOCKS;
    for (unsigned i = 0; i < 4 * INDEX_BLOCKS; i++)
        index_put_piece(&x, i);
    measure("index: put, replaces, 64k blocks", 1024, 0, index_put_piece,
            NULL, &x);
    measure("index: lookup, 64k blocks", 1024, 0, index_find_piece, NULL,
            &x);
    index_done(&x.index);
}

/* ---- the journal ---- */

struct journaling {
    struct target *target;
    struct journal *journal;
    struct journal_identity identity;
    struct uuid volume;
    uint64_t file_bytes;
    uint32_t record_blocks;
    uint8_t *data;
};

/* A fresh one: there is nobody to empty it. */
static void
journal_anew(void *ctx)
{
    struct journaling *j = ctx;

    journal_close(j->journal);
    j->journal = NULL;
    for (unsigned i = 0; i < 8; i++)
        j->identity.journal.b[i] = (uint8_t)next_random();
    must(journal_create(j->target, "micro.journal", j->file_bytes,
                        &j->identity, 0, false, &j->journal),
         "journal_create");
    journal_set_chunk_blocks(j->journal, CHUNK_BLOCKS);
    journal_set_volume_blocks(j->journal, VOLUME_BLOCKS);
    journal_start(j->journal, 1);
}

static void
append_piece(void *ctx, unsigned i)
{
    struct journaling *j = ctx;
    uint64_t sums[RECORD_BLOCKS];
    uint64_t first = next_random() % (VOLUME_BLOCKS - RECORD_BLOCKS);

    (void)i;
    for (uint32_t b = 0; b < j->record_blocks; b++)
        sums[b] = 1; /* the caller's, and timed by itself */
    must(journal_append_write(j->journal, first, j->record_blocks, sums,
                              j->data), "journal_append_write");
}

static void
commit_piece(void *ctx, unsigned i)
{
    struct journaling *j = ctx;

    append_piece(ctx, i);
    must(journal_sync(j->journal), "journal_sync");
}

static uint64_t
seed_of(void *ctx, uint64_t block)
{
    const struct journaling *j = ctx;

    return sum_seed(&j->volume, block / CHUNK_BLOCKS, block % CHUNK_BLOCKS);
}

/* A server was killed: what it left is checked and indexed, and the rest of the
 * file is looked through, too. */
static void
replay_piece(void *ctx, unsigned i)
{
    const struct replay_callbacks callbacks = { .seed = seed_of, .ctx = ctx };
    struct journaling *j = ctx;
    struct replay_stats found;

    (void)i;
    must(journal_open(j->target, "micro.journal", 0, &j->journal),
         "journal_open");
    journal_set_chunk_blocks(j->journal, CHUNK_BLOCKS);
    journal_set_volume_blocks(j->journal, VOLUME_BLOCKS);
    must(journal_replay(j->journal, &callbacks, &found), "journal_replay");
    must(found.blocks == REPLAY_BLOCKS ? 0 : -EPROTO, "journal_replay");
    journal_close(j->journal);
    j->journal = NULL;
}

static void
time_replay(struct journaling *j, const char *where, uint32_t record_blocks)
{
    uint64_t sums[RECORD_BLOCKS];
    char name[64];

    journal_anew(j);
    for (uint64_t at = 0; at < REPLAY_BLOCKS; at += record_blocks) {
        uint64_t first = next_random() % (VOLUME_BLOCKS - RECORD_BLOCKS);

        for (uint32_t b = 0; b < record_blocks; b++)
            sums[b] = sum_block(seed_of(j, first + b),
                                j->data + (size_t)b * BLOCK, BLOCK);
        must(journal_append_write(j->journal, first, record_blocks, sums,
                                  j->data), "journal_append_write");
    }
    must(journal_sync(j->journal), "journal_sync");
    journal_close(j->journal);
    j->journal = NULL;
    snprintf(name, sizeof(name), "journal: replay, records of %u KiB, %s",
             record_blocks * BLOCK / 1024, where);
    measure(name, 1, j->file_bytes, replay_piece, NULL, j);
}

static void
time_appends(const char *where, struct target *target, uint64_t file_bytes,
             bool commits)
{
    struct journaling j = {
        .target = target, .file_bytes = file_bytes,
        .identity.block_bytes = BLOCK,
        .data = memory(RECORD_BLOCKS * (size_t)BLOCK),
    };
    unsigned all = batches;
    char name[64];

    memset(j.volume.b, 7, sizeof(j.volume.b));
    batches = batches < 11 ? batches : 11; /* the ring is made each time */
    j.record_blocks = 1;
    snprintf(name, sizeof(name), "journal: append 4 KiB, %s", where);
    measure(name, 2048, BLOCK, append_piece, journal_anew, &j);
    j.record_blocks = RECORD_BLOCKS;
    snprintf(name, sizeof(name), "journal: append 128 KiB, %s", where);
    measure(name, 128, RECORD_BLOCKS * (size_t)BLOCK, append_piece,
            journal_anew, &j);
    if (commits) {
        j.record_blocks = 1;
        snprintf(name, sizeof(name), "journal: append 4 KiB + sync, %s",
                 where);
        measure(name, 64, BLOCK, commit_piece, journal_anew, &j);
    }
    time_replay(&j, where, 1);
    time_replay(&j, where, RECORD_BLOCKS);
    journal_close(j.journal);
    free(j.data);
    batches = all;
}

static void
time_journal(const char *directory)
{
    static struct memory_target t;
    struct target *dir;

    memory_target_init(&t);
    time_appends("in memory", &t.base, JOURNAL_BYTES, false);
    memory_target_done(&t);
    if (directory == NULL)
        return;
    must(io_system()->ops->open_dir(io_system(), directory, 0, &dir),
         directory);
    time_appends("in --dir", dir, JOURNAL_DISK_BYTES, true);
    must(target_remove(dir, "micro.journal"), "remove");
    target_close(dir);
}

static void
usage(FILE *to)
{
    fputs("micro [--json] [--batches N] [--dir DIR]: what the inner pieces "
          "cost\n"
          "  --json       for programs\n"
          "  --batches N  of which the median is taken (1 to 1000; default "
          "101)\n"
          "  --dir DIR    time a journal there, too (256 MiB)\n", to);
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' },
        { "batches", required_argument, NULL, 'b' },
        { "dir", required_argument, NULL, 'd' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *directory = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
        switch (c) {
        case 'j':
            as_json = true;
            break;
        case 'b':
            batches = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            directory = optarg;
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 64;
        }
    if (optind < argc || batches < 1 || batches > BATCHES_MAX) {
        usage(stderr);
        return 64;
    }
    time_sums();
    time_parity();
    time_cache();
    time_leases();
    time_index();
    time_journal(directory);
    if (as_json)
        puts("\n]");
    return 0;
}
