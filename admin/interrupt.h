/* interrupt.h: Ctrl-C and its like end long work at its next step; the second
 * one kills, for a file system that hangs. */
#ifndef LSVD_ADMIN_INTERRUPT_H
#define LSVD_ADMIN_INTERRUPT_H

#include <stdbool.h>

void interrupt_catch(void);
bool interrupted(void);

#endif
