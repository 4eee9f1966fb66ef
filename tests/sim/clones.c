/* clones.c: see clones.h. */
#include "clones.h"
#include "volume/parent.h"

uint64_t __real_volume_cell_sum(const struct lsvd_volume *v, uint64_t block,
                                uint64_t sum);
uint64_t __wrap_volume_cell_sum(const struct lsvd_volume *v, uint64_t block,
                                uint64_t sum);
bool __real_parent_shows(struct lsvd_volume *v, uint64_t chunk);
bool __wrap_parent_shows(struct lsvd_volume *v, uint64_t chunk);

/* of the whole program: the linker has no context */
static unsigned enabled;

void
clones_set_bugs(unsigned bugs)
{
    enabled = bugs;
}

uint64_t
__wrap_volume_cell_sum(const struct lsvd_volume *v, uint64_t block,
                       uint64_t sum)
{
    return enabled & CLONE_BUG_ZEROES ? sum
                                      : __real_volume_cell_sum(v, block, sum);
}

bool
__wrap_parent_shows(struct lsvd_volume *v, uint64_t chunk)
{
    return !(enabled & CLONE_BUG_SHOWS) && __real_parent_shows(v, chunk);
}
