/* hold.h: requests are made to wait where a test wants them to. */
#ifndef LSVD_TESTS_UNIT_VOLUME_HOLD_H
#define LSVD_TESTS_UNIT_VOLUME_HOLD_H

#include "lsvd.h"

struct hold; /* an exclusive lease on a block */
struct hold *hold_block(struct lsvd_volume *v, uint64_t block);
void hold_release(struct hold *h);
/* Until somebody waits for a lease on blocks; false after ten seconds. */
bool hold_wait(struct hold *h);

#endif
