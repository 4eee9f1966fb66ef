/* metrics.c: see metrics.h.
 *
 * The text format wants all samples of a metric together, so the outer loop
 * is over metrics and the inner over volumes. Histograms are cumulative, in
 * seconds. A metric is one row below, and one in docs/metrics.md. */
#include "control/metrics.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUCKET_FIRST 4 /* less than 16 us: nobody minds how much less */

struct labels {
    char text[160]; /* volume="db",part="a" */
};

struct metrics {
    FILE *to;
    const struct lsvd_status *const *volume;
    size_t count;
    bool served;
};

/* Names of volumes have letters, digits, . _ and - alone: nothing to quote. */
static struct labels
label_volume(const struct lsvd_status *s)
{
    struct labels labels;

    (void)snprintf(labels.text, sizeof labels.text, "volume=\"%s\"",
                   s->name);
    return labels;
}

static struct labels
label_more(const struct labels *labels, const char *key, const char *value)
{
    struct labels more = *labels;
    size_t at = strlen(more.text), room = sizeof more.text - at;
    int n = snprintf(more.text + at, room, ",%s=\"%s\"", key, value);

    assert(n >= 0 && (size_t)n < room); /* a name has 64 bytes at most */
    return more;
}

static struct labels
label_part(const struct lsvd_status *s, uint32_t idx)
{
    const char letter[2] = { s->part[idx].letter, '\0' };
    struct labels labels = label_volume(s);

    return label_more(&labels, "part", letter);
}

static void
heading(const struct metrics *m, const char *name, const char *type,
        const char *help)
{
    fprintf(m->to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
sample(const struct metrics *m, const char *name,
       const struct labels *labels, uint64_t value)
{
    fprintf(m->to, "%s{%s} %" PRIu64 "\n", name, labels->text, value);
}

/* ---- of a volume ---- */

#define STATUS(field)                                                     \
    static uint64_t get_##field(const struct lsvd_status *s)              \
    {                                                                     \
        return (uint64_t)s->field;                                        \
    }
#define READ_CACHE(field)                                                 \
    static uint64_t read_cache_##field(const struct lsvd_status *s)       \
    {                                                                     \
        return s->read_cache.field;                                       \
    }

#define COUNTER(field)                                                    \
    static uint64_t count_##field(const struct lsvd_status *s)            \
    {                                                                     \
        return s->counters.field;                                         \
    }

STATUS(healthy)
STATUS(writable)
STATUS(uptime_seconds)
STATUS(epoch)
STATUS(view_minor)
STATUS(journal_bytes)
STATUS(journal_used_bytes)
STATUS(journal_only_bytes)
STATUS(journal_copies)
STATUS(journal_copies_wanted)
STATUS(journal_filling)
STATUS(journal_copy_losses)
STATUS(journal_copy_returns)
STATUS(dirty_chunks)
STATUS(views)
STATUS(evictions)
STATUS(returns)
STATUS(resynced_chunks)
STATUS(resynced_bytes)
STATUS(hedged_reads)
STATUS(late_reads)
STATUS(stalled_requests)
STATUS(read_errors)
STATUS(write_errors)
STATUS(scrub_passes)
STATUS(scrub_last_end)
STATUS(scrub_every_seconds)
READ_CACHE(used_bytes)
READ_CACHE(hits)
READ_CACHE(misses)
READ_CACHE(admitted)
READ_CACHE(evicted)
READ_CACHE(wrong)
READ_CACHE(bytes)
READ_CACHE(memory_bytes)
COUNTER(read_bytes)
COUNTER(write_bytes)
COUNTER(journal_bytes)
COUNTER(journal_syncs)
COUNTER(part_bytes)
COUNTER(part_syncs)
COUNTER(bypass_bytes)
COUNTER(bypass_spills)
COUNTER(cache_hits)
COUNTER(cache_misses)
COUNTER(bad_blocks)
COUNTER(healed_blocks)
COUNTER(lost_blocks)

static uint64_t
get_read_cache_working(const struct lsvd_status *s)
{
    return s->read_cache.state == LSVD_READ_CACHE_WORKS;
}

static uint64_t
get_read_cache_failed(const struct lsvd_status *s)
{
    return s->read_cache.state == LSVD_READ_CACHE_FAILED;
}

static uint64_t
get_now_readers(const struct lsvd_status *s)
{
    return s->now.readers;
}

static uint64_t
get_now_broken(const struct lsvd_status *s)
{
    return s->now.broken;
}

static uint64_t
get_now_kept(const struct lsvd_status *s)
{
    return s->now.kept_bytes;
}

static uint64_t
get_dirty_bytes(const struct lsvd_status *s)
{
    return s->dirty_chunks * s->chunk_bytes;
}

static uint64_t
get_resync_active(const struct lsvd_status *s)
{
    return s->resync.active;
}

static uint64_t
get_resync_done(const struct lsvd_status *s)
{
    return s->resync.chunks_done;
}

static uint64_t
get_resync_total(const struct lsvd_status *s)
{
    return s->resync.chunks_total;
}

static uint64_t
get_scrub_active(const struct lsvd_status *s)
{
    return s->scrub.active;
}

static uint64_t
get_scrub_done(const struct lsvd_status *s)
{
    return s->scrub.chunks_done;
}

static uint64_t
get_scrub_total(const struct lsvd_status *s)
{
    return s->scrub.chunks_total;
}

static const struct volume_metric {
    const char *name, *type, *help;
    uint64_t (*get)(const struct lsvd_status *s);
} volume_metrics[] = {
    { "lsvd_healthy", "gauge",
      "1: every part is in sync, nothing is missing.", get_healthy },
    { "lsvd_writable", "gauge", "1: writes are accepted.", get_writable },
    { "lsvd_uptime_seconds", "gauge", "Since the volume was opened.",
      get_uptime_seconds },
    { "lsvd_view_epoch", "gauge", "Grows with every start.", get_epoch },
    { "lsvd_view_minor", "gauge",
      "Grows with every change of the set of parts in sync.",
      get_view_minor },
    { "lsvd_read_bytes_total", "counter", "Bytes that clients read.",
      count_read_bytes },
    { "lsvd_written_bytes_total", "counter", "Bytes that clients wrote.",
      count_write_bytes },
    { "lsvd_read_errors_total", "counter",
      "Reads that clients got an error for.", get_read_errors },
    { "lsvd_write_errors_total", "counter",
      "Writes, trims and flushes that clients got an error for.",
      get_write_errors },
    { "lsvd_stalled_requests_total", "counter",
      "Requests that had to wait because too few parts were there.",
      get_stalled_requests },
    { "lsvd_cache_hits_total", "counter", "Blocks found in RAM.",
      count_cache_hits },
    { "lsvd_cache_misses_total", "counter", "Blocks not found in RAM.",
      count_cache_misses },
    { "lsvd_read_cache_working", "gauge",
      "1: there is a read cache, and it is asked before the parts.",
      get_read_cache_working },
    { "lsvd_read_cache_failed", "gauge",
      "1: the read cache is off because of an error.",
      get_read_cache_failed },
    { "lsvd_read_cache_size_bytes", "gauge",
      "Blocks that fit into the read cache.", read_cache_bytes },
    { "lsvd_read_cache_used_bytes", "gauge", "Blocks that are in it.",
      read_cache_used_bytes },
    { "lsvd_read_cache_memory_bytes", "gauge", "Memory of its index.",
      read_cache_memory_bytes },
    { "lsvd_read_cache_hits_total", "counter",
      "Blocks that came from the read cache.", read_cache_hits },
    { "lsvd_read_cache_misses_total", "counter",
      "Blocks that it was asked for and did not have.", read_cache_misses },
    { "lsvd_read_cache_admitted_total", "counter",
      "Blocks written to the read cache.", read_cache_admitted },
    { "lsvd_read_cache_evicted_total", "counter",
      "Blocks that had to make room for others.", read_cache_evicted },
    { "lsvd_read_cache_wrong_total", "counter",
      "Blocks in it that were out of date or damaged, and not served.",
      read_cache_wrong },
    { "lsvd_now_readers", "gauge",
      "Clients that read what the volume held when they connected.",
      get_now_readers },
    { "lsvd_now_broken", "gauge",
      "Those of them for whom it could not be kept, and who get errors.",
      get_now_broken },
    { "lsvd_now_kept_bytes", "gauge",
      "Kept in the cache directory for the others.", get_now_kept },
    { "lsvd_journal_size_bytes", "gauge", "Size of the journal.",
      get_journal_bytes },
    { "lsvd_journal_used_bytes", "gauge",
      "What of the journal can't be used again yet.",
      get_journal_used_bytes },
    { "lsvd_journal_only_bytes", "gauge",
      "Written, in the journal, and not yet on the parts.",
      get_journal_only_bytes },
    { "lsvd_dirty_chunks", "gauge",
      "Chunks that have data in the journal only.", get_dirty_chunks },
    { "lsvd_dirty_bytes", "gauge",
      "The size of those chunks: at most so much is to be rewritten.",
      get_dirty_bytes },
    { "lsvd_journal_written_bytes_total", "counter",
      "Bytes written to the journal.", count_journal_bytes },
    { "lsvd_journal_syncs_total", "counter", "Syncs of the journal.",
      count_journal_syncs },
    { "lsvd_journal_copies", "gauge",
      "Cache directories with a copy that a later start may take.",
      get_journal_copies },
    { "lsvd_journal_copies_wanted", "gauge",
      "Cache directories: so many copies there should be.",
      get_journal_copies_wanted },
    { "lsvd_journal_filling", "gauge",
      "1: a copy of the journal is being made anew.", get_journal_filling },
    { "lsvd_journal_copy_losses_total", "counter",
      "Copies of the journal that were lost while it served.",
      get_journal_copy_losses },
    { "lsvd_journal_copy_returns_total", "counter",
      "Copies of the journal that were made anew while it served.",
      get_journal_copy_returns },
    { "lsvd_parts_written_bytes_total", "counter",
      "Bytes written to parts, metadata included.", count_part_bytes },
    { "lsvd_parts_syncs_total", "counter", "Syncs of files of parts.",
      count_part_syncs },
    { "lsvd_bypass_bytes_total", "counter",
      "Bytes that clients wrote straight to the parts, past the journal.",
      count_bypass_bytes },
    { "lsvd_bypass_spills_total", "counter",
      "Chunks written so that had to go into the journal after all.",
      count_bypass_spills },
    { "lsvd_views_total", "counter",
      "Changes of the set of parts in sync.", get_views },
    { "lsvd_evictions_total", "counter",
      "Parts dropped because they failed or did not answer.",
      get_evictions },
    { "lsvd_returns_total", "counter", "Parts that came back.",
      get_returns },
    { "lsvd_hedged_reads_total", "counter",
      "Reads that asked another part because the first was late.",
      get_hedged_reads },
    { "lsvd_late_reads_total", "counter",
      "Reads of parts that had no answer within the deadline.",
      get_late_reads },
    { "lsvd_resync_active", "gauge", "1: a part is being filled.",
      get_resync_active },
    { "lsvd_resync_chunks_done", "gauge", "Of the present resync.",
      get_resync_done },
    { "lsvd_resync_chunks", "gauge", "That the present resync looks at.",
      get_resync_total },
    { "lsvd_resynced_chunks_total", "counter",
      "Chunks brought up to date on parts that came back.",
      get_resynced_chunks },
    { "lsvd_resynced_bytes_total", "counter",
      "Bytes written to parts that came back.", get_resynced_bytes },
    { "lsvd_scrub_active", "gauge", "1: a pass of the scrub is under way.",
      get_scrub_active },
    { "lsvd_scrub_chunks_done", "gauge", "Of the present pass.",
      get_scrub_done },
    { "lsvd_scrub_chunks", "gauge", "That a pass looks at.",
      get_scrub_total },
    { "lsvd_scrub_passes_total", "counter", "Passes that were finished.",
      get_scrub_passes },
    { "lsvd_scrub_last_end_timestamp_seconds", "gauge",
      "When the last pass was finished; 0: never.", get_scrub_last_end },
    { "lsvd_scrub_interval_seconds", "gauge",
      "In which a pass is meant to be made; 0: no scrub.",
      get_scrub_every_seconds },
    { "lsvd_bad_blocks_total", "counter",
      "Blocks of parts that failed a check or could not be read.",
      count_bad_blocks },
    { "lsvd_healed_blocks_total", "counter",
      "Blocks written back from other parts.", count_healed_blocks },
    { "lsvd_lost_blocks_total", "counter",
      "Blocks that could not be rebuilt.", count_lost_blocks },
};

static void
print_volume_metric(const struct metrics *m, const struct volume_metric *row)
{
    heading(m, row->name, row->type, row->help);
    for (size_t i = 0; i < m->count; i++) {
        struct labels labels = label_volume(m->volume[i]);

        sample(m, row->name, &labels, row->get(m->volume[i]));
    }
}

static void
print_stalled_seconds(const struct metrics *m)
{
    heading(m, "lsvd_stalled_seconds_total", "counter",
            "Time that requests waited because too few parts were there.");
    for (size_t i = 0; i < m->count; i++)
        fprintf(m->to, "lsvd_stalled_seconds_total{%s} %.6f\n",
                label_volume(m->volume[i]).text,
                (double)m->volume[i]->stalled_ns / 1e9);
}

static void
print_up(const struct metrics *m)
{
    heading(m, "lsvd_up", "gauge",
            "1: served; 0: the server has ended, the rest is its last word.");
    for (size_t i = 0; i < m->count; i++) {
        struct labels labels = label_volume(m->volume[i]);

        sample(m, "lsvd_up", &labels, m->served);
    }
}

/* One for each health and volume; the one that is so has 1. */
static void
print_health(const struct metrics *m)
{
    heading(m, "lsvd_health", "gauge", "1 for the health that it has.");
    for (size_t i = 0; i < m->count; i++)
        for (int h = LSVD_HEALTHY; h <= LSVD_FENCED; h++) {
            struct labels labels = label_volume(m->volume[i]);

            labels = label_more(&labels, "health",
                                lsvd_health_text((enum lsvd_health)h));
            sample(m, "lsvd_health", &labels,
                   m->volume[i]->health == (enum lsvd_health)h);
        }
}

/* ---- of a part ---- */

static uint64_t
part_in_sync(const struct lsvd_part_status *p)
{
    return p->state == LSVD_PART_OK;
}

static uint64_t
part_slow(const struct lsvd_part_status *p)
{
    return p->slow;
}

static uint64_t
part_failing(const struct lsvd_part_status *p)
{
    return p->failing;
}

static uint64_t
part_lag_bytes(const struct lsvd_part_status *p)
{
    return p->lag_bytes;
}

static uint64_t
part_lag_chunks(const struct lsvd_part_status *p)
{
    return p->lag_chunks;
}

static uint64_t
part_errors(const struct lsvd_part_status *p)
{
    return p->errors;
}

static uint64_t
part_abandoned(const struct lsvd_part_status *p)
{
    return p->abandoned;
}

static const struct part_metric {
    const char *name, *type, *help;
    uint64_t (*get)(const struct lsvd_part_status *p);
} part_metrics[] = {
    { "lsvd_part_in_sync", "gauge", "1: the part is in sync.",
      part_in_sync },
    { "lsvd_part_slow", "gauge",
      "1: the part answers much later than it used to.", part_slow },
    { "lsvd_part_failing", "gauge",
      "1: the part had more than 20 errors in an hour.", part_failing },
    { "lsvd_part_lag_bytes", "gauge", "What the part lacks.",
      part_lag_bytes },
    { "lsvd_part_lag_chunks", "gauge", "Chunks that the part lacks.",
      part_lag_chunks },
    { "lsvd_part_errors_total", "counter",
      "Operations of the part that failed.", part_errors },
    { "lsvd_part_abandoned", "gauge",
      "Operations of the part that have not come back.", part_abandoned },
};

static void
print_part_metric(const struct metrics *m, const struct part_metric *row)
{
    heading(m, row->name, row->type, row->help);
    for (size_t i = 0; i < m->count; i++)
        for (uint32_t p = 0; p < m->volume[i]->part_count; p++) {
            struct labels labels = label_part(m->volume[i], p);

            sample(m, row->name, &labels, row->get(&m->volume[i]->part[p]));
        }
}

/* ---- histograms ---- */

static void
print_histogram(const struct metrics *m, const char *name,
                struct labels labels, const char *op,
                const struct lsvd_latency *l)
{
    uint64_t below = 0;

    labels = label_more(&labels, "op", op);
    /* The last bucket has no upper bound: it is +Inf. */
    for (unsigned i = 0; i < LSVD_LATENCY_BUCKETS; i++) {
        below += l->bucket[i];
        if (i >= BUCKET_FIRST && i < LSVD_LATENCY_BUCKETS - 1)
            fprintf(m->to, "%s_bucket{%s,le=\"%.6f\"} %" PRIu64 "\n", name,
                    labels.text, (double)(UINT64_C(1) << i) / 1e6, below);
    }
    /* Counted while others add: the sum of the buckets is what agrees. */
    fprintf(m->to, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name,
            labels.text, below);
    fprintf(m->to, "%s_sum{%s} %.9f\n", name, labels.text,
            (double)l->sum_ns / 1e9);
    fprintf(m->to, "%s_count{%s} %" PRIu64 "\n", name, labels.text, below);
}

static void
print_client_histograms(const struct metrics *m)
{
    const char *name = "lsvd_request_duration_seconds";

    heading(m, name, "histogram", "Requests of clients: how long they took.");
    for (size_t i = 0; i < m->count; i++) {
        const struct lsvd_status *s = m->volume[i];

        print_histogram(m, name, label_volume(s), "read", &s->read);
        print_histogram(m, name, label_volume(s), "write", &s->write);
        print_histogram(m, name, label_volume(s), "flush", &s->flush);
        print_histogram(m, name, label_volume(s), "trim", &s->trim);
    }
}

static void
print_part_histograms(const struct metrics *m)
{
    const char *name = "lsvd_part_duration_seconds";

    heading(m, name, "histogram",
            "Operations of parts: how long they took.");
    for (size_t i = 0; i < m->count; i++)
        for (uint32_t p = 0; p < m->volume[i]->part_count; p++) {
            const struct lsvd_part_status *s = &m->volume[i]->part[p];
            struct labels labels = label_part(m->volume[i], p);

            print_histogram(m, name, labels, "read", &s->read);
            print_histogram(m, name, labels, "write", &s->write);
            print_histogram(m, name, labels, "sync", &s->sync);
        }
}

/* ---- all ---- */

char *
metrics_format(const struct lsvd_status *const *volume, size_t count,
               bool served)
{
    struct metrics m = { .volume = volume, .count = count, .served = served };
    char *text = NULL;
    size_t bytes;
    bool failed;

    m.to = open_memstream(&text, &bytes);
    if (!m.to)
        return NULL;
    print_up(&m);
    print_health(&m);
    for (size_t i = 0; i < sizeof volume_metrics / sizeof volume_metrics[0];
         i++)
        print_volume_metric(&m, &volume_metrics[i]);
    print_stalled_seconds(&m);
    for (size_t i = 0; i < sizeof part_metrics / sizeof part_metrics[0]; i++)
        print_part_metric(&m, &part_metrics[i]);
    print_client_histograms(&m);
    print_part_histograms(&m);
    failed = ferror(m.to) != 0;
    if (fclose(m.to) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}

static int
write_all(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t n = write(fd, text, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

/* Not synced: after a power cut nobody wants to know. Readable for all, as
 * the collector is another user. The new file is made, never opened, so that
 * no link leads elsewhere. */
int
metrics_store(const char *path, const char *text)
{
    char *fresh;
    int fd, r = 0;

    if (asprintf(&fresh, "%s.new", path) < 0)
        return -ENOMEM;
    if (unlink(fresh) < 0 && errno != ENOENT)
        r = -errno;
    fd = r == 0 ? open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)
                : -1;
    if (r == 0 && fd < 0)
        r = -errno;
    if (r == 0 && fchmod(fd, 0644) < 0) /* whatever our umask is */
        r = -errno;
    if (r == 0)
        r = write_all(fd, text);
    if (fd >= 0 && close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && rename(fresh, path) < 0)
        r = -errno;
    if (r < 0 && fd >= 0)
        (void)unlink(fresh);
    free(fresh);
    return r;
}
