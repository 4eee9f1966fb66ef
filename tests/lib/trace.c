/* trace.c: see trace.h. */
#include "trace.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONG  256u /* blocks: 1 MiB of 4 KiB */
#define RANGE 16u

struct maker {
    struct trace *t;
    uint64_t random, blocks, zipf_count;
    size_t asked; /* blocks, so far */
    uint64_t scan_at, log_at;
    uint64_t *zipf; /* sums of the weights of ranks 0 ... i */
};

static void *
must_have(void *p)
{
    if (p == NULL) {
        fputs("trace: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static void
add(struct trace *t, uint64_t first, uint32_t count, bool is_write)
{
    if ((t->count & (t->count - 1)) == 0) /* room for it ends here */
        t->request = must_have(
            realloc(t->request, (t->count * 2 + 1) * sizeof *t->request));
    t->request[t->count++] = (struct request){
        .first = first,
        .count = count,
        .is_write = is_write,
    };
}

static void
ask(struct maker *m, uint64_t first, uint32_t count, bool is_write)
{
    add(m->t, first, count, is_write);
    m->asked += count;
}

/* splitmix64 */
static uint64_t
below(struct maker *m, uint64_t limit)
{
    uint64_t x = m->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % limit;
}

/* Rank i has the weight 1 / (i + 1)^exponent. Whole numbers, so that the last
 * bit of pow() does not matter. */
static void
zipf_init(struct maker *m, uint64_t count, double exponent)
{
    uint64_t sum = 0;

    m->zipf = must_have(malloc(count * sizeof *m->zipf));
    m->zipf_count = count;
    for (uint64_t i = 0; i < count; i++) {
        sum += (uint64_t)(0x1p40 / pow((double)i + 1, exponent) + 0.5);
        m->zipf[i] = sum;
    }
}

static uint64_t
zipf_rank(struct maker *m)
{
    uint64_t low = 0, high = m->zipf_count - 1, at;

    at = below(m, m->zipf[high]);
    while (low < high) {
        uint64_t middle = (low + high) / 2;

        if (m->zipf[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* A block of that rank: neighbours in rank are not neighbours on the disk. */
static uint64_t
scatter(const struct maker *m, uint64_t rank)
{
    return (rank * 2654435761u + 12345) & (m->blocks - 1);
}

static uint64_t
zipf_block(struct maker *m)
{
    return scatter(m, zipf_rank(m));
}

/* Of each quarter of a million blocks, the last quarter is a piece of a scan
 * of everything. */
static bool
is_scan(const struct maker *m)
{
    return (m->asked >> 16 & 3) == 3;
}

/* The next piece of reading all below `end`, over and over. */
static void
scan(struct maker *m, uint32_t count, uint64_t end)
{
    ask(m, m->scan_at, count, false);
    m->scan_at = (m->scan_at + count) % end;
}

static void
make_database(struct maker *m)
{
    uint64_t die = below(m, 1000), log_blocks = m->blocks / 16;

    if (die < 780)
        ask(m, zipf_block(m), 1, false);
    else if (die < 880)
        ask(m, zipf_block(m), 1, true);
    else if (die < 980) { /* a page of the log is written four times */
        ask(m, m->blocks + m->log_at / 4, 1, true);
        m->log_at = (m->log_at + 1) % (4 * log_blocks);
    } else if (die < 999) {
        ask(m, below(m, m->blocks - RANGE), RANGE, false);
    } else {
        scan(m, LONG, m->blocks);
    }
}

static void
make_one(struct maker *m, enum trace_kind kind, size_t block_count)
{
    uint64_t hot = m->blocks / 20, place;

    switch (kind) {
    case TRACE_ZIPF_08:
    case TRACE_ZIPF_099:
    case TRACE_ZIPF_12:
        ask(m, zipf_block(m), 1, false);
        break;
    case TRACE_UNIFORM:
        ask(m, below(m, m->blocks), 1, false);
        break;
    case TRACE_LOOP:
        scan(m, 1, m->blocks / 2);
        break;
    case TRACE_LOOP_LONG:
        scan(m, LONG, m->blocks / 2);
        break;
    case TRACE_SCAN:
        if (is_scan(m))
            scan(m, 1, m->blocks);
        else
            ask(m, zipf_block(m), 1, false);
        break;
    case TRACE_SCAN_LONG:
        if (is_scan(m))
            scan(m, LONG, m->blocks);
        else
            ask(m, zipf_block(m), 1, false);
        break;
    case TRACE_LONG: /* some small requests before */
        if (m->asked < block_count / 8)
            ask(m, below(m, m->blocks), 1, false);
        else
            ask(m, zipf_rank(m) * 7 % (m->blocks / LONG) * LONG, LONG, false);
        break;
    case TRACE_SHIFT: /* ten places, one after the other */
        place = m->asked / (block_count / 10 + 1);
        if (below(m, 10) == 0)
            ask(m, below(m, m->blocks), 1, false);
        else
            ask(m, scatter(m, place * hot + below(m, hot)), 1, false);
        break;
    case TRACE_READ_WRITE:
        ask(m, zipf_block(m), 1, below(m, 2) == 0);
        break;
    case TRACE_DATABASE:
        make_database(m);
        break;
    case TRACE_KINDS:
    default:
        abort();
    }
}

void
trace_make(struct trace *t, enum trace_kind kind, uint64_t blocks,
           size_t block_count)
{
    static const char *const names[TRACE_KINDS] = {
        [TRACE_ZIPF_08] = "Zipf 0.8",
        [TRACE_ZIPF_099] = "Zipf 0.99",
        [TRACE_ZIPF_12] = "Zipf 1.2",
        [TRACE_UNIFORM] = "uniform",
        [TRACE_LOOP] = "loop over half",
        [TRACE_LOOP_LONG] = "loop over half, 1 MiB requests",
        [TRACE_SCAN] = "Zipf 0.99 + scan",
        [TRACE_SCAN_LONG] = "Zipf 0.99 + scan, 1 MiB requests",
        [TRACE_LONG] = "uniform, then Zipf 0.99 of 1 MiB requests",
        [TRACE_SHIFT] = "working set of 5 % that moves",
        [TRACE_READ_WRITE] = "Zipf 0.99, half of it writes",
        [TRACE_DATABASE] = "database",
    };
    struct maker m = {.t = t, .random = (uint64_t)kind + 1, .blocks = blocks};

    assert((blocks & (blocks - 1)) == 0);
    assert(blocks >= 1u << 12);
    *t = (struct trace){.name = names[kind], .blocks = blocks};
    if (kind == TRACE_LONG)
        zipf_init(&m, blocks / LONG, 0.99);
    else
        zipf_init(&m, blocks,
                  kind == TRACE_ZIPF_08   ? 0.8
                  : kind == TRACE_ZIPF_12 ? 1.2
                                          : 0.99);
    while (m.asked < block_count)
        make_one(&m, kind, block_count);
    free(m.zipf);
}

static bool
number(char **at, uint64_t *ret)
{
    char *end;

    if (!isdigit((unsigned char)**at))
        return false;
    *ret = strtoull(*at, &end, 10);
    *at = end + strspn(end, " \t");
    return true;
}

static bool
parse(struct trace *t, char *line)
{
    uint64_t first, count = 1;
    bool is_write;

    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = '\0';
    if (*line == '\0' || *line == '#')
        return true;
    if (!number(&line, &first))
        return false;
    if (*line != '\0' && *line != 'w' && !number(&line, &count))
        return false;
    is_write = *line == 'w';
    if (line[is_write] != '\0' || count == 0 || count > 1u << 20 ||
        first > UINT64_MAX - count)
        return false;
    add(t, first, (uint32_t)count, is_write);
    return true;
}

static int
compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* How many different blocks? */
static uint64_t
footprint(const struct trace *t)
{
    uint64_t *all, count = 0, different = 0;

    for (size_t i = 0; i < t->count; i++)
        count += t->request[i].count;
    all = must_have(malloc((count + 1) * sizeof *all));
    count = 0;
    for (size_t i = 0; i < t->count; i++)
        for (uint32_t k = 0; k < t->request[i].count; k++)
            all[count++] = t->request[i].first + k;
    qsort(all, count, sizeof *all, compare_numbers);
    for (uint64_t i = 0; i < count; i++)
        different += i == 0 || all[i] != all[i - 1];
    free(all);
    return different;
}

bool
trace_load(struct trace *t, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[256];
    unsigned long n = 0;
    bool ok = true;

    if (file == NULL) {
        perror(path);
        return false;
    }
    *t = (struct trace){.name = path};
    while (ok && fgets(line, sizeof line, file) != NULL) {
        n++;
        ok = parse(t, line);
    }
    if (!ok)
        fprintf(stderr, "%s:%lu: not FIRST [COUNT] [w]\n", path, n);
    else if (ferror(file)) {
        perror(path);
        ok = false;
    }
    (void)fclose(file);
    if (ok)
        t->blocks = footprint(t);
    else
        trace_free(t);
    return ok;
}

void
trace_free(struct trace *t)
{
    free(t->request);
    t->request = NULL;
}
