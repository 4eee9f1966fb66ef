/* fault_plan.h: which calls are hit by which rule. Inside target/fault*.c. */
#ifndef LSVD_TARGET_FAULT_PLAN_H
#define LSVD_TARGET_FAULT_PLAN_H

#include "target/fault.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct fault_live_rule {
    struct fault_rule rule;
    uint64_t id;    /* of this rule, never used again */
    uint64_t calls; /* that matched */
    uint64_t hits;
};

struct fault_io {
    struct io base;  /* first */
    struct io *inner;
    fault_refresh refresh; /* NULL: none */
    void (*release)(void *ctx);
    void *ctx;

    pthread_mutex_t lock;    /* guards the fields below */
    pthread_cond_t changed;  /* the rules, or ended */
    struct fault_live_rule *rules; /* owned */
    size_t count;
    uint64_t next_id;
    uint64_t next_refresh_ns;
    bool refreshing;
    bool ended;    /* fault_free was called */
    uint64_t refs; /* owner, targets, calls that open one; 0: freed */
};

/* What is to become of a call. */
struct fault_verdict {
    enum fault_kind kind; /* never ERROR or HANG: those are over by then */
    uint64_t chance;      /* for what is flipped or misdirected; F1 */
};

/* Judge a call on directory/name ("" : the directory itself), and wait out its
 * delay or hang. 0, or the error it is to return. */
int fault_judge(struct fault_io *f, const char *directory, const char *name,
                enum fault_call call, struct fault_verdict *ret);

void fault_ref(struct fault_io *f);
void fault_unref(struct fault_io *f);

#endif
