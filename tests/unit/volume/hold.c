/* hold.c: see hold.h. Apart, as it looks into the engine. */
#include "hold.h"
#include "volume/volume.h"
#include <stdlib.h>
#include <time.h>

struct hold {
    struct lsvd_volume *v;
    struct lease lease;
};

struct hold *
hold_block(struct lsvd_volume *v, uint64_t block)
{
    struct hold *h = calloc(1, sizeof *h);

    if (!h)
        abort();
    h->v = v;
    lease_get(&v->leases, &h->lease, block, block + 1, true);
    return h;
}

void
hold_release(struct hold *h)
{
    lease_put(&h->v->leases, &h->lease);
    free(h);
}

bool
hold_wait(struct hold *h)
{
    const struct timespec moment = {.tv_nsec = 1000000}; /* between looks */
    struct lease_table *table = &h->v->leases;
    bool waits = false;

    for (unsigned i = 0; i < 10000 && !waits; i++) {
        pthread_mutex_lock(&table->lock);
        waits = table->tail && !table->tail->granted;
        pthread_mutex_unlock(&table->lock);
        if (!waits)
            nanosleep(&moment, NULL);
    }
    return waits;
}
