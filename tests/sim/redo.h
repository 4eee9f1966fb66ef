/* redo.h: the bug switch that leaves out the redo records of destage, by
 * taking the place of journal_append_redo at link time (see meson.build), so
 * that the engine itself has no switch. */
#ifndef LSVD_SIM_REDO_H
#define LSVD_SIM_REDO_H

#include <stdbool.h>

void redo_skip(bool skip);

#endif
