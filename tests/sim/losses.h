/* losses.h: the bug switch that keeps it from the engine that a copy of the
 * journal was lost, by taking the place of mirror_losses at link time. */
#ifndef LSVD_SIM_LOSSES_H
#define LSVD_SIM_LOSSES_H

#include <stdbool.h>

void losses_conceal(bool conceal);

#endif
