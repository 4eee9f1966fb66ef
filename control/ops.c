/* ops.c: see ops.h. */
#include "control/ops.h"

#include "control/metrics.h"
#include "control/status.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct lsvd_status *
get_status(struct served *s)
{
    struct lsvd_status *status = malloc(sizeof *status); /* 100 KB */

    if (status)
        lsvd_get_status(s->volume, status);
    return status;
}

static void
op_status(struct served *s, const json_t *args, struct answer *a)
{
    struct lsvd_status *status = get_status(s);
    json_t *result = status ? status_to_json(status) : NULL;

    (void)args;
    free(status);
    if (result && json_object_set_new(result, "nonce",
                                      json_string(s->nonce)) < 0) {
        json_decref(result);
        result = NULL;
    }
    if (result)
        answer_done(a, result);
    else
        answer_error(a, -ENOMEM, "out of memory");
}

static void
op_metrics(struct served *s, const json_t *args, struct answer *a)
{
    struct lsvd_status *status = get_status(s);
    const struct lsvd_status *const one = status;
    char *text = status ? metrics_format(&one, 1, true) : NULL;

    (void)args;
    free(status);
    if (text)
        answer_done(a, json_pack("{s:s}", "text", text));
    else
        answer_error(a, -ENOMEM, "out of memory");
    free(text);
}

struct events_context {
    struct answer *answer;
    uint64_t last;
};

static int
send_event(void *ctx, const struct lsvd_event *event)
{
    struct events_context *to = ctx;

    to->last = event->id;
    return answer_line(to->answer, "event", event_to_json(event));
}

static void
op_events(struct served *s, const json_t *args, struct answer *a)
{
    const json_t *after = json_object_get(args, "after");
    struct events_context to = { .answer = a };

    if (after && (!json_is_integer(after) || json_integer_value(after) < 0)) {
        answer_error(a, -EINVAL, "events: after is not a number from 0 on");
        return;
    }
    to.last = after ? (uint64_t)json_integer_value(after) : 0;
    if (lsvd_events(s->volume, to.last, send_event, &to) == 0)
        answer_done(a, json_pack("{s:I}", "last", (json_int_t)to.last));
}

static const struct op {
    const char *name;
    void (*run)(struct served *s, const json_t *args, struct answer *a);
} ops[] = {
    { "status", op_status },   { "events", op_events },
    { "metrics", op_metrics }, { "verify", op_verify },
    { "rebuild", op_rebuild }, { "replace", op_replace },
    { "set", op_set },         { "resize", op_resize },
    { "snapshot", op_snapshot }, { "flatten", op_flatten },
    { "dedupe", op_dedupe },   { "diff", op_diff },
    /* by another name: a server that is older must not do it to the volume */
    { "dedupe-snapshot", op_dedupe },
};

/* A snapshot exchanges the volume. */
static void
run(const struct op *op, struct served *s, const json_t *args,
    struct answer *a)
{
    bool uses_volume = op->run != op_snapshot;

    if (uses_volume)
        pthread_rwlock_rdlock(&s->gate);
    op->run(s, args, a);
    if (uses_volume)
        pthread_rwlock_unlock(&s->gate);
}

void
ops_run(struct served *served, const struct control_request *request,
        struct answer *answer)
{
    char text[CONTROL_ERROR_BYTES];

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(ops[i].name, request->op) == 0) {
            run(&ops[i], served, request->args, answer);
            return;
        }
    (void)snprintf(text, sizeof text, "this server knows no op %s",
                   request->op);
    answer_error(answer, -EOPNOTSUPP, text);
}
