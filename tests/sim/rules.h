/* rules.h: the invariants of the design (I1 …) that can be seen from outside,
 * checked at every call that the engine makes and every record it writes. */
#ifndef LSVD_SIM_RULES_H
#define LSVD_SIM_RULES_H

#include "base/uuid.h"
#include <stdbool.h>
#include <stdint.h>

struct life;

#define RULES_INSTANCES_MAX 64

struct rules {
    bool has_volume;
    struct uuid volume;
    uint64_t geometry;
    struct { /* I15 */
        struct uuid instance;
        uint32_t slot;
    } instance[RULES_INSTANCES_MAX];
    uint32_t instance_count;
    uint32_t epoch;         /* of the last start that was accepted (I6) */
    bool in_client_read;    /* I7 */
    bool in_quiet_open;     /* I22 */
    uint64_t chunk_calls;   /* that read or change chunk files */
    uint64_t chunk_changes; /* of these, that change them */
    bool in_force;          /* I3 was checked, and nothing has changed */
    uint64_t checked;       /* records */
};

/* The world calls us from now on. */
void rules_begin(struct life *l);
/* A start was accepted. */
void rules_started(struct life *l);

#endif
