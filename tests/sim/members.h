/* members.h: bug switches that break the rules of who is a member, by taking
 * the place of functions of the engine at link time (see meson.build), as
 * redo.h does. */
#ifndef LSVD_SIM_MEMBERS_H
#define LSVD_SIM_MEMBERS_H

enum member_bug {
    MEMBER_BUG_NO_VIEW = 1, /* R2: a part is dropped, and nobody is told */
    MEMBER_BUG_STALE = 2,   /* R5: whoever is in S is used at a start */
    MEMBER_BUG_SKIP = 4,    /* a fill says of some chunks that it has them */
    MEMBER_BUG_READ = 8,    /* I7: reads take what is being filled, too */
};

void members_set_bugs(unsigned bugs);

#endif
