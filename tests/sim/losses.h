/* losses.h: two bug switches for a journal with two copies, which take the
 * place of functions at link time: that a copy was lost is kept from the engine
 * (mirror_losses); of one that is filled again while serving the last bit is
 * left out (journal_fill_end). */
#ifndef LSVD_SIM_LOSSES_H
#define LSVD_SIM_LOSSES_H

#include <stdbool.h>

void losses_conceal(bool conceal);
void losses_skip_rest(bool skip);

#endif
