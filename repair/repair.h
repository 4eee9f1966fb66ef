/* repair.h: a parsed command line of lsvd-repair, and what is gathered of one
 * volume while the engine checks it. */
#ifndef LSVD_REPAIR_REPAIR_H
#define LSVD_REPAIR_REPAIR_H

#include "cli.h"
#include <control/protocol.h>
#include <progress.h>
#include <pthread.h>

/* Exit status, and the worst of several volumes: the greatest. */
enum repair_code {
    CODE_OK = 0,      /* every part holds all that it should */
    CODE_REDUCED = 1, /* all data can be read; redundancy is below policy */
    CODE_LOST = 2,    /* some data can't be read any more, or is doubtful */
    CODE_FAILED = 3,  /* could not check */
};

#define FINDINGS_KEPT_MAX 1000
#define RANGES_KEPT_MAX 100000
#define RANGES_SHOWN_MAX 1000 /* to people */

enum command_bit {
    COMMAND_VERIFY = 1,
    COMMAND_REBUILD = 2,
    COMMAND_REPLACE = 4,
    COMMAND_FORCE_START = 8,
    COMMAND_TAKEOVER = 16,
    COMMAND_ALL = 31,
};

/* ---- a request, and a volume ---- */

struct request {
    struct cli cli;
    enum command_bit command;
    bool all, quick, full, dry_run, no_lock, no_progress;
    char part; /* 0: all */
    char *new_root; /* replace; owned; NULL: where it was */
    bool fenced_it;     /* takeover: --i-fenced-it */
    unsigned observe_seconds; /* takeover; 0: as long as it must be */
    const char *reason; /* force-start: of --accept-loss; NULL: not given */
    struct progress progress;
};

struct kept_finding {
    char part;
    uint64_t chunk;
    enum lsvd_chunk_finding kind;
    char *file, *text; /* owned */
};

/* What came of one volume. Callbacks of the engine may come from any of its
 * threads: lock guards the lists. */
struct ranges { /* neighbours joined */
    struct lsvd_lost_range *range; /* owned */
    size_t count;                  /* kept */
    uint64_t dropped;
};

struct outcome {
    struct request *req; /* only its progress changes */
    const char *volume;
    enum repair_code code;
    bool unconfirmed; /* looked at while another process changed it */
    char *error; /* owned; NULL unless code is CODE_FAILED */
    uint32_t block_bytes; /* 0: unknown */
    struct lsvd_report report; /* zero with an error */
    pthread_mutex_t lock;
    struct kept_finding *finding; /* in order of discovery; owned */
    size_t finding_count;         /* kept */
    uint64_t findings_total;
    struct ranges lost, doubtful;
};

/* ---- work.c ---- */

/* Do the request on one volume; fill *ret (outcome_done frees). */
void work_on_volume(struct request *req, const char *volume,
                    struct outcome *ret);
void outcome_done(struct outcome *o);

/* What the engine's callbacks do; any thread. */
void outcome_finding(struct outcome *o, const struct lsvd_finding *f);
void outcome_lost(struct outcome *o, const struct lsvd_lost_range *range);
void outcome_progress(struct outcome *o, const struct lsvd_progress *at);

/* ---- served.c ---- */

/* Have the server of the volume do the request, and fill *o. Returns what
 * cli_ask does (ask.h), with a line of text. */
int served_ask(struct request *req, struct outcome *o,
               char error[CONTROL_ERROR_BYTES]);

/* ---- takeover.c ---- */

enum repair_code takeover(struct request *req, const char *volume);

/* ---- report.c ---- */

const char *kind_text(enum lsvd_chunk_finding kind);
void report_print(const struct outcome *o);
json_t *report_to_json(const struct outcome *o);

/* ---- help.c; command NULL: the program as a whole ---- */

void help_print(const char *command);

#endif
