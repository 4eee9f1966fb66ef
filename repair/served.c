/* served.c: a volume that is served on this host is checked and mended by its
 * server, which knows what is in flux: so there are no false alarms. */
#include "repair.h"

#include <ask.h>
#include <interrupt.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_PATIENCE_MS 10000

/* ---- lines of the answer, as the engine's callbacks ---- */

static void
take_finding(struct outcome *o, const json_t *value,
             enum lsvd_chunk_finding kind)
{
    const struct lsvd_finding finding = {
        .part = ask_letter(value, "part"),
        .chunk = ask_u64(value, "chunk"),
        .kind = kind,
        .file = ask_text(value, "file"),
        .text = ask_text(value, "text"),
    };

    outcome_finding(o, &finding);
}

static void
take_line(void *ctx, const char *key, const json_t *value)
{
    struct outcome *o = ctx;

    if (strcmp(key, "finding") == 0) {
        take_finding(o, value,
                     (enum lsvd_chunk_finding)ask_u64(value, "kind"));
    } else if (strcmp(key, "healed") == 0) {
        take_finding(o, value, LSVD_CHUNK_HEALTHY);
    } else if (strcmp(key, "lost") == 0) {
        outcome_lost(o, &(struct lsvd_lost_range){
                            .offset = ask_u64(value, "offset"),
                            .count = ask_u64(value, "bytes") });
    } else if (strcmp(key, "progress") == 0) {
        outcome_progress(o, &(struct lsvd_progress){
                                .chunks_done = ask_u64(value, "chunks_done"),
                                .chunks_total =
                                    ask_u64(value, "chunks_total"),
                                .bytes_done =
                                    ask_u64(value, "bytes_done") });
    }
}

static bool
is_cancelled(void *ctx)
{
    (void)ctx;
    return interrupted();
}

/* ---- the result ---- */

static struct lsvd_part_report
part_of(const json_t *value)
{
    return (struct lsvd_part_report){
        .letter = ask_letter(value, "part"),
        .state = (enum lsvd_part_state)ask_u64(value, "state"),
        .healthy = ask_u64(value, "healthy"),
        .missing = ask_u64(value, "missing"),
        .stale = ask_u64(value, "stale"),
        .corrupt = ask_u64(value, "corrupt"),
        .unexpected = ask_u64(value, "unexpected"),
    };
}

static void
take_report(struct outcome *o, const json_t *result)
{
    struct lsvd_report *r = &o->report;
    const size_t room = sizeof r->part / sizeof r->part[0];
    json_t *part;
    size_t i;

    *r = (struct lsvd_report){
        .full = ask_bool(result, "full"),
        .beside_server = true,
        .policy_met = ask_bool(result, "policy_met"),
        .data_lost = ask_bool(result, "data_lost"),
        .lost_bytes = ask_u64(result, "lost_bytes"),
        .rebuilt = ask_u64(result, "rebuilt"),
    };
    json_array_foreach(json_object_get(result, "parts"), i, part)
        if (i < room)
            r->part[r->part_count++] = part_of(part);
    o->findings_total = ask_u64(result, "findings");
    o->lost.dropped += ask_u64(result, "ranges_dropped");
}

/* ---- the request ---- */

/* What destroys something needs the nonce of this run of the server. */
static int
add_nonce(struct request *req, const char *volume, json_t *args, char *error)
{
    const struct control_ask ask = { .volume = volume, .op = "status",
                                     .patience_ms = STATUS_PATIENCE_MS };
    json_t *status = NULL;
    int r = cli_ask(&req->cli, &ask, &status, error);

    if (r == 0)
        cli_json_set(args, "nonce",
                     cli_json_text(ask_text(status, "nonce")));
    json_decref(status);
    return r;
}

static int
make_args(struct request *req, const char *volume, json_t *args, char *error)
{
    const char letter[2] = { req->part, '\0' };

    if (req->cli.verbose)
        cli_json_set(args, "verbose", json_true());
    if (req->part)
        cli_json_set(args, "part", cli_json_text(letter));
    switch (req->command) {
    case COMMAND_REPLACE:
        if (req->new_root)
            cli_json_set(args, "root", cli_json_text(req->new_root));
        return add_nonce(req, volume, args, error);
    case COMMAND_VERIFY:
        cli_json_set(args, "full", json_boolean(!req->quick));
        break;
    case COMMAND_REBUILD:
    case COMMAND_ALL:
        cli_json_set(args, "full", json_true()); /* --dry-run */
        break;
    case COMMAND_FORCE_START: /* of volumes that nobody serves */
    case COMMAND_TAKEOVER:
        break;
    }
    return 0;
}

static const char *
op_of(const struct request *req)
{
    if (req->command == COMMAND_REPLACE)
        return "replace";
    /* What would be written back is what is found. */
    return req->command == COMMAND_REBUILD && !req->dry_run ? "rebuild"
                                                             : "verify";
}

int
served_ask(struct request *req, struct outcome *o,
           char error[CONTROL_ERROR_BYTES])
{
    struct control_ask ask = { .volume = o->volume, .op = op_of(req),
                               .line = take_line,
                               .cancelled = is_cancelled, .ctx = o };
    json_t *args = cli_json_new(), *result = NULL;
    int r = make_args(req, o->volume, args, error);

    ask.args = args;
    if (r == 0)
        r = cli_ask(&req->cli, &ask, &result, error);
    if (r == 0)
        take_report(o, result);
    json_decref(result);
    json_decref(args);
    return r;
}
