/* clones.h: rules of clones (parent.h) that the engine keeps unless told not
 * to, by taking the place of its functions at link time (see meson.build). */
#ifndef LSVD_SIM_CLONES_H
#define LSVD_SIM_CLONES_H

enum clone_bug {
    CLONE_BUG_ZEROES = 1, /* zeroes are put in place as in other volumes */
    CLONE_BUG_SHOWS = 2,  /* nobody thinks of the parent when he zeroes */
};

void clones_set_bugs(unsigned bugs);

#endif
