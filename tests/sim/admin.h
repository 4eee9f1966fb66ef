/* admin.h: scenarios of admin.c, and what they have in common. */
#ifndef LSVD_SIM_ADMIN_H
#define LSVD_SIM_ADMIN_H

#include "life.h"

enum {
    SCENARIO_SHARES = 1, /* the volume has a twin (dedupes.h) */
    SCENARIO_BOTH = 2,   /* its end judges also what an error leaves, and a kill
                          * a few steps later */
};

struct scenario {
    const char *name; /* NULL: behind the last one */
    bool (*applies)(const struct sim_policy *policy);
    void (*prepare)(struct life *l);
    int (*act)(struct life *l);
    /* act was interrupted, or returned 0: make it whole and judge */
    void (*finish)(struct life *l, int result, bool crashed);
    unsigned flags;
};

extern const struct scenario admin_changes[]; /* admin-change.c */
extern const struct scenario admin_freezes[]; /* admin-freeze.c */
extern const struct scenario admin_seconds[]; /* admin-second.c */
extern const struct scenario admin_forces[];  /* admin-force.c */

/* ---- admin.c ---- */

bool admin_always(const struct sim_policy *policy);
bool admin_has_redundancy(const struct sim_policy *policy);
void admin_prepare_nothing(struct life *l);
/* A volume that was used and closed; … */
void admin_prepare_volume(struct life *l);
/* … that is open. */
void admin_prepare_served(struct life *l);
/* More requests, then the server ends. r: of what was done. */
int admin_end_served(struct life *l, int r);
/* A source that could not be read for a moment is no error of the call: the
 * report tells that it has to be done again. r: of the call. */
int admin_whole(struct life *l, int r, const struct lsvd_report *report);
int admin_rebuild(struct life *l);
/* An error on a part may have cost it its place: a person would rebuild it
 * first. */
int admin_once_more(struct life *l, int (*act)(struct life *l));
/* What a volume that was served may hold now: of an error, a sync that failed,
 * as little as of a power cut. result, crashed: of what was done. */
void admin_after_error(struct life *l, int result, bool crashed);
/* The closed volume: opens, holds what it must, closes, verifies. */
void admin_judge(struct life *l);

/* ---- what second lives follow on ---- */

void admin_finish_create(struct life *l, int result, bool crashed);
void admin_prepare_snapshot(struct life *l);
int admin_snapshot_served(struct life *l);
void admin_prepare_rollback(struct life *l);
int admin_rollback(struct life *l);
void admin_finish_rollback(struct life *l, int result, bool crashed);
void admin_prepare_two_snapshots(struct life *l);
int admin_remove_last(struct life *l);
int admin_flatten(struct life *l);
/* How many snapshots are there yet? */
size_t admin_forget_removed(struct life *l);
#define OTHER_NAME "w"
int admin_rename(struct life *l);

#endif
