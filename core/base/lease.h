/* lease.h: exclusive and shared claims on ranges of integers (blocks), held
 * across I/O where a mutex must not be. Fair enough: a waiting exclusive claim
 * keeps later claims on its range waiting. Any number of ranges; a claim lives
 * on its owner's stack, so nothing is allocated. */
#ifndef LSVD_BASE_LEASE_H
#define LSVD_BASE_LEASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct lease {           /* fields belong to lease.c */
    uint64_t first, end; /* [first, end) */
    bool exclusive, granted;
    struct lease *next, *prev;
};

struct lease_table {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct lease *head, *tail; /* in order of arrival; guarded by lock */
};

void lease_table_init(struct lease_table *table);
void lease_table_done(struct lease_table *table); /* no claim is left */

/* Wait until [first, end) is ours. Shared claims share with shared ones. */
void lease_get(struct lease_table *table, struct lease *lease, uint64_t first,
               uint64_t end, bool exclusive);

/* As lease_get, but false at once instead of waiting. */
bool lease_try(struct lease_table *table, struct lease *lease, uint64_t first,
               uint64_t end, bool exclusive);

void lease_put(struct lease_table *table, struct lease *lease);

#endif
