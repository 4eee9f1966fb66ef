/* status.c: see status.h. The keys are documented in lsvd(1). */
#include "control/status.h"

#include "control/protocol.h"
#include <inttypes.h>
#include <stdio.h>

#define INT(x) ((json_int_t)(x))

uint64_t
latency_quantile_us(const struct lsvd_latency *latency, double share)
{
    double wanted = share * (double)latency->count, seen = 0;
    unsigned last = 0;

    for (unsigned i = 0; i < LSVD_LATENCY_BUCKETS; i++) {
        double here = (double)latency->bucket[i];
        double from = i ? (double)(UINT64_C(1) << (i - 1)) : 0;
        double to = (double)(UINT64_C(1) << i);

        if (here > 0 && seen + here >= wanted)
            return (uint64_t)(from + (to - from) * (wanted - seen) / here);
        seen += here;
        last = here > 0 ? i : last;
    }
    return latency->count ? UINT64_C(1) << last : 0;
}

static json_t *
latency_to_json(const struct lsvd_latency *l)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "count", INT(l->count),
                     "mean_us",
                     INT(l->count ? l->sum_ns / l->count / 1000 : 0),
                     "p50_us", INT(latency_quantile_us(l, 0.5)),
                     "p99_us", INT(latency_quantile_us(l, 0.99)),
                     "p999_us", INT(latency_quantile_us(l, 0.999)));
}

static json_t *
text_or_null(const char *text)
{
    return text[0] ? control_text(text) : json_null();
}

static json_t *
letter_or_null(char letter)
{
    const char text[2] = { letter, '\0' };

    return letter ? json_string(text) : json_null();
}

static json_t *
part_to_json(const struct lsvd_part_status *p)
{
    return json_pack(
        "{s:o, s:s, s:o, s:o, s:o, s:I, s:I, s:b, s:b, s:I, s:I, s:o, s:o, "
        "s:o}",
        "part", letter_or_null(p->letter),
        "state", lsvd_part_state_text(p->state),
        "directory", control_text(p->directory),
        "instance", text_or_null(p->instance),
        "problem", text_or_null(p->problem),
        "lag_bytes", INT(p->lag_bytes),
        "lag_chunks", INT(p->lag_chunks),
        "slow", p->slow,
        "failing", p->failing,
        "errors", INT(p->errors),
        "abandoned", INT(p->abandoned),
        "read", latency_to_json(&p->read),
        "write", latency_to_json(&p->write),
        "sync", latency_to_json(&p->sync));
}

static json_t *
parts_to_json(const struct lsvd_status *s)
{
    json_t *parts = json_array();

    for (uint32_t i = 0; parts && i < s->part_count; i++)
        if (json_array_append_new(parts, part_to_json(&s->part[i])) < 0) {
            json_decref(parts);
            return NULL;
        }
    return parts;
}

static json_t *
task_to_json(const struct lsvd_task_status *t)
{
    return json_pack("{s:b, s:o, s:I, s:I, s:I, s:I, s:I}",
                     "active", t->active,
                     "part", letter_or_null(t->part),
                     "chunks_done", INT(t->chunks_done),
                     "chunks_total", INT(t->chunks_total),
                     "bytes_done", INT(t->bytes_done),
                     "copied", INT(t->copied),
                     "seconds", INT(t->seconds));
}

static json_t *
scrub_to_json(const struct lsvd_status *s)
{
    json_t *scrub = task_to_json(&s->scrub);
    json_t *more = json_pack("{s:I, s:I, s:I}",
                             "every_seconds", INT(s->scrub_every_seconds),
                             "last_end", INT(s->scrub_last_end),
                             "passes", INT(s->scrub_passes));
    int r = json_object_update(scrub, more); /* NULLs are an error */

    json_decref(more);
    if (r == 0)
        return scrub;
    json_decref(scrub);
    return NULL;
}

static json_t *
counters_to_json(const struct lsvd_status *s)
{
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        { "reads", s->counters.reads },
        { "writes", s->counters.writes },
        { "flushes", s->counters.flushes },
        { "read_bytes", s->counters.read_bytes },
        { "write_bytes", s->counters.write_bytes },
        { "journal_written_bytes", s->counters.journal_bytes },
        { "journal_syncs", s->counters.journal_syncs },
        { "part_written_bytes", s->counters.part_bytes },
        { "part_syncs", s->counters.part_syncs },
        { "bypass_bytes", s->counters.bypass_bytes },
        { "bypass_spills", s->counters.bypass_spills },
        { "cache_hits", s->counters.cache_hits },
        { "cache_misses", s->counters.cache_misses },
        { "bad_blocks", s->counters.bad_blocks },
        { "healed_blocks", s->counters.healed_blocks },
        { "lost_blocks", s->counters.lost_blocks },
        { "views", s->views },
        { "evictions", s->evictions },
        { "returns", s->returns },
        { "resynced_chunks", s->resynced_chunks },
        { "resynced_bytes", s->resynced_bytes },
        { "hedged_reads", s->hedged_reads },
        { "late_reads", s->late_reads },
        { "stalled_requests", s->stalled_requests },
        { "stalled_ns", s->stalled_ns },
        { "read_errors", s->read_errors },
        { "write_errors", s->write_errors },
    };
    json_t *all = json_object();

    for (size_t i = 0; all && i < sizeof counters / sizeof counters[0]; i++)
        if (json_object_set_new(all, counters[i].name,
                                json_integer(INT(counters[i].value))) < 0) {
            json_decref(all);
            return NULL;
        }
    return all;
}

static json_t *
journal_to_json(const struct lsvd_status *s)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:I}",
        "bytes", INT(s->journal_bytes),
        "used_bytes", INT(s->journal_used_bytes),
        "only_bytes", INT(s->journal_only_bytes),
        "dirty_chunks", INT(s->dirty_chunks),
        "copies", INT(s->journal_copies),
        "copies_wanted", INT(s->journal_copies_wanted),
        "filling", s->journal_filling,
        "fill_done_bytes", INT(s->journal_fill_done),
        "fill_total_bytes", INT(s->journal_fill_total),
        "copy_losses", INT(s->journal_copy_losses),
        "copy_returns", INT(s->journal_copy_returns));
}

static json_t *
read_cache_to_json(const struct lsvd_read_cache_status *s)
{
    return json_pack(
        "{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
        "state", lsvd_read_cache_text(s->state),
        "problem", text_or_null(s->problem),
        "bytes", INT(s->bytes),
        "used_bytes", INT(s->used_bytes),
        "memory_bytes", INT(s->memory_bytes),
        "hits", INT(s->hits),
        "misses", INT(s->misses),
        "admitted", INT(s->admitted),
        "evicted", INT(s->evicted),
        "wrong", INT(s->wrong),
        "cache_read_us", INT(s->cache_read_ns / 1000),
        "part_read_us", INT(s->part_read_ns / 1000));
}

static json_t *
now_to_json(const struct lsvd_now_status *s)
{
    return json_pack("{s:I, s:I, s:I}", "readers", INT(s->readers),
                     "broken", INT(s->broken),
                     "kept_bytes", INT(s->kept_bytes));
}

json_t *
status_to_json(const struct lsvd_status *s)
{
    return json_pack(
        "{s:s, s:s, s:I, s:b, s:b, s:s, s:o, s:b, s:b, s:I, s:{s:I, s:I},"
        " s:o, s:o, s:o, s:o, s:o, s:o, s:o,"
        " s:{s:o, s:o, s:o, s:o}}",
        "name", s->name,
        "uuid", s->uuid,
        "size", INT(s->size_bytes),
        "served", 1,
        "healthy", s->healthy,
        "health", lsvd_health_text(s->health),
        "problem", text_or_null(s->problem),
        "writable", s->writable,
        "accepted_loss", s->accepted_loss,
        "uptime_seconds", INT(s->uptime_seconds),
        "view", "epoch", INT(s->epoch), "minor", INT(s->view_minor),
        "journal", journal_to_json(s),
        "read_cache", read_cache_to_json(&s->read_cache),
        "now", now_to_json(&s->now),
        "parts", parts_to_json(s),
        "resync", task_to_json(&s->resync),
        "scrub", scrub_to_json(s),
        "counters", counters_to_json(s),
        "latency",
        "read", latency_to_json(&s->read),
        "write", latency_to_json(&s->write),
        "flush", latency_to_json(&s->flush),
        "trim", latency_to_json(&s->trim));
}

json_t *
event_to_json(const struct lsvd_event *e)
{
    return json_pack("{s:I, s:I, s:o, s:s, s:o}", "event", INT(e->id),
                     "time", INT(e->wall_seconds), "part",
                     letter_or_null(e->part), "kind", e->kind, "text",
                     control_text(e->text));
}
