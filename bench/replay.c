/* replay.c: hit ratios of the RAM cache beside LRU and CLOCK, on traces that
 * are made up, or on files (tests/lib/trace.h says what is in them). No clock
 * and no chance: everybody gets the same table. */
#include "replay.h"
#include "cache/cache.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS (UINT64_C(1) << 18) /* 1 GiB of 4 KiB */
#define ASKED  (UINT64_C(4) << 20)

/* Of the cache to what is asked for, in thousandths. */
static const unsigned sizes[] = {10, 50, 100, 250};

static void
row(const struct trace *t, uint64_t blocks)
{
    struct cache *c = replay_cache_new(blocks);
    uint64_t capacity = cache_counts(c).capacity_blocks;
    struct replay ours = replay_cache(c, t);
    struct replay lru = replay_other(REPLAY_LRU, capacity, t);
    struct replay clock = replay_other(REPLAY_CLOCK, capacity, t);

    printf("| %-42s | %7" PRIu64 " | %6.2f | %6.2f | %6.2f |\n", t->name,
           capacity, 100 * replay_ratio(lru), 100 * replay_ratio(clock),
           100 * replay_ratio(ours));
    cache_free(c);
}

static void
rows(const struct trace *t, uint64_t blocks)
{
    if (blocks > 0) {
        row(t, blocks);
        return;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        row(t, t->blocks * sizes[i] / 1000 + 1);
}

static void
usage(FILE *to)
{
    fputs("replay [--blocks N] [FILE...]: hit ratios of the RAM cache, LRU and "
          "CLOCK,\n"
          "in percent of the blocks that are read\n"
          "  --blocks N  size of the cache (default: 1, 5, 10 and 25 % of what "
          "is asked for)\n"
          "  FILE        a trace, a request per line: FIRST [COUNT] [w]\n"
          "              (number of the first block; of blocks; a write)\n"
          "Without a file: traces that are made up.\n",
          to);
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"blocks", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    uint64_t blocks = 0;
    struct trace t;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
        switch (c) {
        case 'b':
            blocks = strtoull(optarg, NULL, 10);
            if (blocks == 0) {
                usage(stderr);
                return 64;
            }
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 64;
        }
    printf("| %-42s | %7s | %6s | %6s | %6s |\n|%.44s|%.8s:|%.7s:|%.7s:|%.7s:"
           "|\n",
           "trace", "blocks", "LRU", "CLOCK", "lsvd",
           "--------------------------------------------", "--------",
           "-------", "-------", "-------");
    for (int kind = 0; optind == argc && kind < TRACE_KINDS; kind++) {
        trace_make(&t, (enum trace_kind)kind, BLOCKS, ASKED);
        rows(&t, blocks);
        trace_free(&t);
    }
    for (int i = optind; i < argc; i++) {
        if (!trace_load(&t, argv[i]))
            return 1;
        rows(&t, blocks);
        trace_free(&t);
    }
    return 0;
}
