/* redo.h: where the redo records of destage go, by taking the place of the
 * journal's functions at link time (see meson.build), so that the engine itself
 * has no switch: nowhere, which is a bug, or to the ring, as in journals made
 * before there was an area for them. */
#ifndef LSVD_SIM_REDO_H
#define LSVD_SIM_REDO_H

#include <stdbool.h>

void redo_skip(bool skip);
void redo_in_ring(bool in_ring);

#endif
