/* blindness.h: the bug switch that lets the read cache serve what it finds
 * without a look at its sum, by taking the place of readcache_proves and
 * readcache_tag at link time (see meson.build). */
#ifndef LSVD_SIM_BLINDNESS_H
#define LSVD_SIM_BLINDNESS_H

#include <stdbool.h>

void readcache_be_blind(bool blind);

#endif
