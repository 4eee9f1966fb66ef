/* ghost.c: see ghost.h. A set is ordered by age, without gaps between its
 * prints, and holds each at most once. */
#include "cache/ghost.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

int
ghost_init(struct ghost *g, uint32_t places)
{
    g->set_count = places / GHOST_WAYS;
    if (g->set_count == 0)
        return 0;
    return mem_new(g->set_count, GHOST_WAYS * sizeof *g->prints, &g->prints);
}

void
ghost_done(struct ghost *g)
{
    free(g->prints);
}

static uint32_t *
set_of(const struct ghost *g, uint64_t hash)
{
    uint64_t set = (hash & UINT32_MAX) * g->set_count >> 32;

    return g->prints + set * GHOST_WAYS;
}

static uint32_t
print_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1; /* never 0 */
}

static uint32_t
find(const uint32_t *set, uint32_t print)
{
    uint32_t i = 0;

    while (i < GHOST_WAYS && set[i] != print)
        i++;
    return i;
}

void
ghost_put(struct ghost *g, uint64_t hash)
{
    uint32_t *set, at;

    if (g->set_count == 0)
        return;
    set = set_of(g, hash);
    at = find(set, print_of(hash));
    if (at == GHOST_WAYS)
        at--; /* the oldest goes */
    memmove(set + 1, set, at * sizeof *set);
    set[0] = print_of(hash);
}

bool
ghost_take(struct ghost *g, uint64_t hash)
{
    uint32_t *set, at;

    if (g->set_count == 0)
        return false;
    set = set_of(g, hash);
    at = find(set, print_of(hash));
    if (at == GHOST_WAYS)
        return false;
    memmove(set + at, set + at + 1, (GHOST_WAYS - 1 - at) * sizeof *set);
    set[GHOST_WAYS - 1] = 0;
    return true;
}
