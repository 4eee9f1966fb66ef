/* gate.h: who uses a volume is inside; who exchanges it waits until nobody is,
 * and keeps others out meanwhile.
 *
 * To go in and out costs a few atomic operations on memory that is shared with
 * few other threads: every request does it. Whoever shuts the gate is not kept
 * waiting by those who come later. */
#ifndef LSVD_PLUGIN_GATE_H
#define LSVD_PLUGIN_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define GATE_SHARDS 32
#define GATE_LINE_BYTES 64

struct gate { /* fields belong to gate.c */
    union {
        atomic_uint inside;
        char line[GATE_LINE_BYTES];
    } shard[GATE_SHARDS];
    atomic_bool is_shut;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

void gate_init(struct gate *g);
void gate_done(struct gate *g); /* nobody is inside */

/* Waits while it is shut. The result is for gate_leave, on any thread. */
unsigned gate_enter(struct gate *g);
void gate_leave(struct gate *g, unsigned entered);

/* Wait until nobody is inside, and keep it so until gate_open. Who comes while
 * it is shut waits until it is opened. */
void gate_shut(struct gate *g);
/* The same, for so long at most. False: somebody is inside, or has it shut; the
 * caller has not. */
bool gate_try_shut(struct gate *g, unsigned timeout_ms);
void gate_open(struct gate *g);

#endif
