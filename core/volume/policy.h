/* policy.h: is a part failing, or slow? Judged now and then, by the watch, from
 * what its operations have come to.
 *
 * (PO1) Failing: more than 20 errors in an hour: of the medium, or bytes that
 *       fail their check. A full part is not failing.
 * (PO2) Slow: for 60 s, in every look that saw enough of its reads (or of its
 *       syncs), the 99th percentile was above 100 ms and above ten times the
 *       median of the other parts'; where there are none to compare with, of
 *       its own since the start. It recovers as it became slow; or when
 *       nothing could be judged for ten minutes: it gets another chance.
 * (PO3) It is named. It is dropped only if the configuration says so, and if
 *       R7 allows it; then it is not taken back for an hour, unless somebody
 *       asks for it (rebuild, replace). */
#ifndef LSVD_VOLUME_POLICY_H
#define LSVD_VOLUME_POLICY_H

#include "meta/view.h"
#include "target/guard.h"
#include <stdbool.h>
#include <stdint.h>

#define POLICY_LOOK_NS UINT64_C(10000000000)
#define POLICY_AWAY_NS UINT64_C(3600000000000)
#define POLICY_ERRORS_MAX 20
#define POLICY_MINUTES 60

struct lsvd_volume;

enum policy_kind { POLICY_READ, POLICY_SYNC, POLICY_KINDS };

/* A part at a moment; counters only grow while it is in use. */
struct policy_sample {
    bool in_use;
    uint64_t errors;
    uint64_t bucket[POLICY_KINDS][GUARD_LATENCY_BUCKETS];
};

struct policy_pace {
    unsigned bad, good;  /* looks in a row */
    uint64_t since_ns;   /* these began */
    uint64_t judged_ns;  /* last */
    bool slow;
};

struct policy_part {
    bool known; /* last is */
    struct policy_sample last;
    uint64_t minute; /* number of the newest of */
    uint64_t errors[POLICY_MINUTES];
    struct policy_pace pace[POLICY_KINDS];
};

struct policy {
    uint64_t looked_ns;
    struct policy_part part[PARTS_MAX];
};

struct policy_verdict {
    uint32_t slow, failing; /* bit per part */
    uint64_t errors[PARTS_MAX]; /* in the last hour */
    uint64_t late_us[PARTS_MAX]; /* at least so much is its 99th percentile */
};

/* Take these samples, of parts 0 to count - 1, into account. Nothing else is
 * looked at. */
void policy_look(struct policy *p, uint64_t now_ns,
                 const struct policy_sample *sample, uint32_t count,
                 struct policy_verdict *ret);

/* Every POLICY_LOOK_NS, of the parts as they are: name them, and ask the role
 * to drop them (v->unwanted). The watch's. */
void policy_watch(struct lsvd_volume *v);
/* Is it still too early to take back what was dropped so? */
bool policy_keeps_off(struct lsvd_volume *v, uint32_t slot);
/* Somebody wants it back now. */
void policy_admit(struct lsvd_volume *v, uint32_t slot);

#endif
