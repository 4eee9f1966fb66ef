/* jobs.c: verify, rebuild, replace, set, resize, snapshot, flatten, dedupe of
 * a served volume.
 *
 * The engine calls back while it may hold what clients of the disk depend on,
 * so nothing here waits for who asked: findings and lost ranges are kept, and
 * sent when the work is done; progress is sent if there is room for it. */
#include "control/ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INT(x) ((json_int_t)(x))
#define FINDINGS_KEPT_MAX 1000
#define RANGES_KEPT_MAX 100000
#define PROGRESS_EVERY_MS 100

struct job {
    struct answer *answer;
    bool verbose;
    pthread_mutex_t lock; /* guards what follows */
    json_t *findings, *ranges;
    uint64_t findings_total, ranges_dropped;
};

static void
lines_begin(struct job *job, struct answer *a, const json_t *args)
{
    *job = (struct job){ .answer = a, .findings = json_array(),
                         .ranges = json_array() };
    job->verbose = json_is_true(json_object_get(args, "verbose"));
    pthread_mutex_init(&job->lock, NULL);
}

static void
lines_end(struct job *job)
{
    json_decref(job->findings);
    json_decref(job->ranges);
    pthread_mutex_destroy(&job->lock);
}

static uint64_t
now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- callbacks ---- */

static json_t *
finding_to_json(const struct lsvd_finding *f)
{
    const char letter[2] = { f->part, '\0' };

    return json_pack("{s:o, s:I, s:i, s:o, s:o}", "part",
                     f->part ? json_string(letter) : json_null(), "chunk",
                     INT(f->chunk), "kind", (int)f->kind, "file",
                     control_text(f->file ? f->file : ""), "text",
                     control_text(f->text ? f->text : ""));
}

static void
on_finding(void *ctx, const struct lsvd_finding *f)
{
    struct job *job = ctx;

    if (f->kind == LSVD_CHUNK_HEALTHY) {
        if (job->verbose)
            answer_try(job->answer, "healed", finding_to_json(f));
        return;
    }
    pthread_mutex_lock(&job->lock);
    job->findings_total++;
    if (json_array_size(job->findings) < FINDINGS_KEPT_MAX)
        (void)json_array_append_new(job->findings, finding_to_json(f));
    pthread_mutex_unlock(&job->lock);
}

static void
on_lost(void *ctx, const struct lsvd_lost_range *range)
{
    struct job *job = ctx;
    json_t *line = json_pack("{s:I, s:I}", "offset", INT(range->offset),
                             "bytes", INT(range->count));

    pthread_mutex_lock(&job->lock);
    if (json_array_size(job->ranges) >= RANGES_KEPT_MAX ||
        json_array_append(job->ranges, line) < 0)
        job->ranges_dropped++;
    pthread_mutex_unlock(&job->lock);
    json_decref(line);
}

static void
on_progress(void *ctx, const struct lsvd_progress *p)
{
    struct job *job = ctx;
    struct answer *a = job->answer;
    uint64_t now = now_ms();
    bool due;

    pthread_mutex_lock(&job->lock);
    due = now - a->progress_ms >= PROGRESS_EVERY_MS;
    if (due)
        a->progress_ms = now;
    pthread_mutex_unlock(&job->lock);
    if (due)
        answer_try(a, "progress",
                   json_pack("{s:I, s:I, s:I}", "chunks_done",
                             INT(p->chunks_done), "chunks_total",
                             INT(p->chunks_total), "bytes_done",
                             INT(p->bytes_done)));
}

static bool
is_cancelled(void *ctx)
{
    struct job *job = ctx;

    return answer_unwanted(job->answer);
}

static struct lsvd_repair_callbacks
callbacks_of(struct job *job)
{
    return (struct lsvd_repair_callbacks){
        .finding = on_finding,
        .lost = on_lost,
        .progress = on_progress,
        .cancelled = is_cancelled,
        .ctx = job,
    };
}

/* ---- the report ---- */

static json_t *
part_to_json(const struct lsvd_part_report *p)
{
    const char letter[2] = { p->letter, '\0' };

    return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "part", letter,
                     "state", (int)p->state, "healthy", INT(p->healthy),
                     "missing", INT(p->missing), "stale", INT(p->stale),
                     "corrupt", INT(p->corrupt), "unexpected",
                     INT(p->unexpected));
}

static json_t *
report_to_json(const struct lsvd_report *r, const struct job *job)
{
    json_t *parts = json_array();

    for (uint32_t i = 0; parts && i < r->part_count; i++)
        if (json_array_append_new(parts, part_to_json(&r->part[i])) < 0) {
            json_decref(parts);
            parts = NULL;
        }
    return json_pack("{s:b, s:b, s:b, s:b, s:I, s:I, s:I, s:I, s:o}", "full",
                     r->full, "beside_server", r->beside_server,
                     "policy_met", r->policy_met, "data_lost", r->data_lost,
                     "lost_bytes", INT(r->lost_bytes), "rebuilt",
                     INT(r->rebuilt), "findings", INT(job->findings_total),
                     "ranges_dropped", INT(job->ranges_dropped), "parts",
                     parts);
}

static void
send_list(struct answer *a, const char *key, json_t *list)
{
    json_t *line;
    size_t i;

    json_array_foreach(list, i, line)
        if (answer_line(a, key, json_incref(line)) < 0)
            return;
}

static void
finish(struct job *job, int r, const struct lsvd_report *report)
{
    struct answer *a = job->answer;

    if (r < 0) {
        answer_error(a, r, lsvd_error());
        return;
    }
    send_list(a, "finding", job->findings);
    send_list(a, "lost", job->ranges);
    answer_done(a, report_to_json(report, job));
}

/* ---- arguments ---- */

/* "b"; with may_miss, nothing or null is every part. */
static bool
take_part(const json_t *args, bool may_miss, char *ret)
{
    const json_t *value = json_object_get(args, "part");
    const char *text = json_string_value(value);

    *ret = '\0';
    if (!text)
        return may_miss && (!value || json_is_null(value));
    *ret = text[0];
    return text[0] >= 'a' && text[0] <= 'z' && text[1] == '\0';
}

/* What destroys something is done only for who has looked at this server
 * before: a command from an old script, or of yesterday's, is not. */
static bool
knows_nonce(const struct served *s, const json_t *args)
{
    const char *nonce =
        json_string_value(json_object_get(args, "nonce"));

    return nonce && strcmp(nonce, s->nonce) == 0;
}

#define NEEDS_NONCE "needs the nonce that status tells"

/* ---- ops ---- */

void
op_verify(struct served *s, const json_t *args, struct answer *a)
{
    bool full = json_is_true(json_object_get(args, "full"));
    struct lsvd_repair_callbacks cb;
    struct lsvd_report report = { 0 };
    struct job job;

    lines_begin(&job, a, args);
    cb = callbacks_of(&job);
    finish(&job, lsvd_live_verify(s->volume, full, &cb, &report), &report);
    lines_end(&job);
}

void
op_rebuild(struct served *s, const json_t *args, struct answer *a)
{
    struct lsvd_repair_callbacks cb;
    struct lsvd_report report = { 0 };
    struct job job;
    char part;

    if (!take_part(args, true, &part)) {
        answer_error(a, -EINVAL, "rebuild: part is not a letter");
        return;
    }
    lines_begin(&job, a, args);
    cb = callbacks_of(&job);
    finish(&job, lsvd_live_rebuild(s->volume, part, &cb, &report), &report);
    lines_end(&job);
}

/* The one path that a client may name: it is root or who runs the server (see
 * server.c), and a new place is an operator's to choose. */
void
op_replace(struct served *s, const json_t *args, struct answer *a)
{
    const json_t *root = json_object_get(args, "root");
    struct lsvd_repair_callbacks cb;
    struct lsvd_report report = { 0 };
    struct job job;
    char part;

    if (!take_part(args, false, &part)) {
        answer_error(a, -EINVAL, "replace: part is not a letter");
        return;
    }
    if (root && !json_is_null(root) &&
        (!json_is_string(root) || json_string_value(root)[0] != '/')) {
        answer_error(a, -EINVAL, "replace: root is not an absolute path");
        return;
    }
    if (!knows_nonce(s, args)) {
        answer_error(a, -EPERM, "replace " NEEDS_NONCE);
        return;
    }
    lines_begin(&job, a, args);
    cb = callbacks_of(&job);
    finish(&job, lsvd_live_replace(s->volume, part, json_string_value(root),
                                   &cb, &report), &report);
    lines_end(&job);
}

static void
simple_end(struct answer *a, int r)
{
    if (r < 0)
        answer_error(a, r, lsvd_error());
    else
        answer_done(a, json_object());
}

void
op_set(struct served *s, const json_t *args, struct answer *a)
{
    const char *key = json_string_value(json_object_get(args, "key"));
    const char *value = json_string_value(json_object_get(args, "value"));

    if (!key || !value)
        answer_error(a, -EINVAL, "set: key or value is missing");
    else
        simple_end(a, lsvd_live_set(s->volume, key, value));
}

/* {"size": bytes} -> {"size": what it is now, "reconnect": true if clients that
 * are connected do not see that size}. NBD can't tell them. */
void
op_resize(struct served *s, const json_t *args, struct answer *a)
{
    const json_t *size = json_object_get(args, "size");
    uint64_t before = lsvd_get_size(s->volume);
    int r;

    if (!json_is_integer(size) || json_integer_value(size) <= 0) {
        answer_error(a, -EINVAL, "resize: size is not a number of bytes");
        return;
    }
    r = lsvd_live_resize(s->volume, (uint64_t)json_integer_value(size));
    if (r < 0)
        answer_error(a, r, lsvd_error());
    else
        answer_done(a, json_pack("{s:I, s:b}", "size",
                                 INT(lsvd_get_size(s->volume)), "reconnect",
                                 before != lsvd_get_size(s->volume)));
}

/* {name} -> {pause_us}. */
void
op_snapshot(struct served *s, const json_t *args, struct answer *a)
{
    const char *name = json_string_value(json_object_get(args, "name"));
    char text[CONTROL_ERROR_BYTES];
    uint64_t pause_us = 0;
    int r;

    if (!name) {
        answer_error(a, -EINVAL, "snapshot: it has no name");
        return;
    }
    r = s->owner->snapshot(s->owner->ctx, name, &pause_us, text);
    if (r < 0)
        answer_error(a, r, text);
    else
        answer_done(a, json_pack("{s:I}", "pause_us", INT(pause_us)));
}

/* 0: it is not given, or makes no sense. */
static uint64_t
take_size(const json_t *args, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(args, key));

    return value > 0 ? (uint64_t)value : 0;
}

/* {parent, rate}; without a parent, of all of them. */
void
op_flatten(struct served *s, const json_t *args, struct answer *a)
{
    const struct lsvd_flatten spec = {
        .parent = json_string_value(json_object_get(args, "parent")),
        .rate_bytes = take_size(args, "rate"),
    };
    struct lsvd_env env = s->owner->env(s->owner->ctx);
    const struct lsvd_alone alone = { .run = s->owner->alone,
                                      .ctx = s->owner->ctx };
    struct lsvd_repair_callbacks cb;
    struct job job;
    int r;

    lines_begin(&job, a, args);
    cb = callbacks_of(&job);
    r = lsvd_live_flatten(s->volume, &env, &spec, &alone, &cb);
    if (r < 0)
        answer_error(a, r, lsvd_error());
    else
        answer_done(a, json_object());
    lines_end(&job);
}

#define SOURCES_MAX 64

/* {snapshot, estimate, memory, rate}: those that are given. */
static struct lsvd_dedupe
take_dedupe(const json_t *args)
{
    return (struct lsvd_dedupe){
        .snapshot = json_string_value(json_object_get(args, "snapshot")),
        .estimate = json_is_true(json_object_get(args, "estimate")),
        .memory_bytes = take_size(args, "memory"),
        .rate_bytes = take_size(args, "rate"),
    };
}

static json_t *
dedupe_to_json(const struct lsvd_dedupe_report *r)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
                     "blocks_scanned", INT(r->blocks_scanned),
                     "bytes_scanned", INT(r->bytes_scanned),
                     "blocks_matched", INT(r->blocks_matched), "blocks_zero",
                     INT(r->blocks_zero), "blocks_collided",
                     INT(r->blocks_collided), "bytes_given_back",
                     INT(r->bytes_given_back), "chunks_skipped",
                     INT(r->chunks_skipped), "index_blocks",
                     INT(r->index_blocks), "index_memory_bytes",
                     INT(r->index_memory_bytes), "duration_ms",
                     INT(r->duration_ms));
}

/* {sources: [name …], snapshot, estimate, memory, rate} or {rehydrate: true,
 * snapshot, rate}. */
void
op_dedupe(struct served *s, const json_t *args, struct answer *a)
{
    bool rehydrate = json_is_true(json_object_get(args, "rehydrate"));
    json_t *names = json_object_get(args, "sources"), *name;
    const char *sources[SOURCES_MAX + 1] = { NULL };
    struct lsvd_dedupe spec = take_dedupe(args);
    struct lsvd_env env = s->owner->env(s->owner->ctx);
    const struct lsvd_alone alone = { .run = s->owner->alone,
                                      .ctx = s->owner->ctx };
    struct lsvd_dedupe_report report;
    struct lsvd_repair_callbacks cb;
    struct job job;
    size_t i;
    int r;

    json_array_foreach(names, i, name) {
        if (i == SOURCES_MAX || !json_is_string(name)) {
            answer_error(a, -EINVAL, "dedupe: sources are not up to 64 names");
            return;
        }
        sources[i] = json_string_value(name);
    }
    spec.sources = sources;
    lines_begin(&job, a, args);
    cb = callbacks_of(&job);
    r = (rehydrate ? lsvd_live_rehydrate : lsvd_live_dedupe)(
        s->volume, &env, &spec, &alone, &cb, &report);
    if (r < 0)
        answer_error(a, r, lsvd_error());
    else
        answer_done(a, dedupe_to_json(&report));
    lines_end(&job);
}
