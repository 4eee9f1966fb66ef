/* request.h: a parsed command line of lsvd, and what its commands print. */
#ifndef LSVD_ADMIN_REQUEST_H
#define LSVD_ADMIN_REQUEST_H

#include "cli.h"
#include "progress.h"

#define CREATE_PARTS_MAX 26 /* a … z; the engine has its own limit */

enum command_bit {
    COMMAND_CREATE = 1,
    COMMAND_LIST = 2,
    COMMAND_INFO = 4,
    COMMAND_RESIZE = 8,
    COMMAND_SET = 16,
    COMMAND_REMOVE = 32,
    COMMAND_STATUS = 64,
    COMMAND_EVENTS = 128,
    COMMAND_METRICS = 256,
    COMMAND_CLONE = 512,
    COMMAND_SNAPSHOT = 1024,
    COMMAND_FLATTEN = 2048,
    COMMAND_RENAME = 4096,
    COMMAND_DIFF = 8192,
    COMMAND_EXPORT_DIFF = 16384,
    COMMAND_IMPORT_DIFF = 32768,
    COMMAND_ALL = 65535,
};

struct request {
    struct cli cli;
    bool force;
    bool watch;  /* status */
    bool follow; /* events */
    const char *from; /* export-diff: a snapshot, or NULL */
    uint64_t rate_bytes; /* flatten, snapshot remove: 0: not given */
    bool no_progress;
    struct progress progress; /* flatten.c's */
    struct lsvd_create create; /* name and size: filled by its command */
    struct lsvd_create_part part[CREATE_PARTS_MAX];
    char *part_root[CREATE_PARTS_MAX]; /* owned; part[i].root points here */
    char *const *words; /* after the command; NULL-terminated */
};

/* Commands (commands.c): exit status. */
int command_create(struct request *req);
int command_clone(struct request *req);
int command_list(struct request *req);
int command_info(struct request *req);
int command_resize(struct request *req);
int command_set(struct request *req);
int command_rename(struct request *req);
int command_remove(struct request *req);
/* snapshot.c */
int command_snapshot(struct request *req);
/* flatten.c */
int command_flatten(struct request *req);
int snapshot_remove(struct request *req, const char *name);
/* diff.c, stream.c */
int command_diff(struct request *req);
int command_export_diff(struct request *req);
int command_import_diff(struct request *req);
/* served.c */
int command_status(struct request *req);
int command_events(struct request *req);
int command_metrics(struct request *req);

/* Options of create and clone (create_options.c). 0 or EXIT_USAGE; *ret_known
 * is false if the option is none of these. */
int create_option(struct request *req, const struct cli_option *option,
                  const char *value, bool *ret_known);

/* info.c */
json_t *info_to_json(const struct lsvd_info *info);
void info_print(const struct lsvd_info *info);

/* help.c; command NULL: the program as a whole. */
void help_print(const char *command);

#endif
