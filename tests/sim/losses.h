/* losses.h: bug switches for a journal with two copies, which take the place of
 * functions at link time. */
#ifndef LSVD_SIM_LOSSES_H
#define LSVD_SIM_LOSSES_H

#include <stdbool.h>

/* mirror_losses: it is kept from the engine that a copy was lost. */
void losses_conceal(bool conceal);
/* journal_fill_end: of a copy that is filled again while serving the last bit
 * is left out. */
void losses_skip_rest(bool skip);
/* journal_settle: destage puts in place what the lost copy may not have. */
void losses_skip_settle(bool skip);
void losses_in_destage(bool in_destage);

#endif
