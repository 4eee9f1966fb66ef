/* imports.h: a stream of lsvd_export_diff, of the volume of a life, applied to
 * itself. */
#ifndef LSVD_SIM_IMPORTS_H
#define LSVD_SIM_IMPORTS_H

#include "life.h"

/* Keep the stream from v@s0 to v@s1, until the next is kept. */
int imports_keep(struct life *l);
/* Apply it to the volume. */
int imports_apply(struct life *l);
/* The last one that was applied failed, and said that it left a part. */
bool imports_left_some(void);

#endif
