/* places.h: roots under which volumes are looked for, each opened once, however
 * many volumes that are: one that hangs costs its deadline once.
 *
 * For one call, by one thread. */
#ifndef LSVD_VOLUME_PLACES_H
#define LSVD_VOLUME_PLACES_H

#include "volume/volume.h"

struct place {
    char *path;          /* owned */
    struct target *root; /* owned; NULL: it can't be opened */
    int error;           /* then: why */
    char text[256];
    unsigned searched; /* the last search that was here; find.c's */
};

struct places {
    struct io *io;
    const struct logger *log;
    struct place *place; /* owned */
    size_t count, room;
    size_t configured;            /* so many, from the first on, are those of
                                   * the configuration */
    const struct volume_meta *of; /* NULL, or its parts' roots, too */
    unsigned searches;            /* so far; find.c's, like … */
    bool settle;                  /* … what is found is to be synced (FI3) */
};

/* Those of the configuration and of the parts of `of` (may be NULL; stays the
 * caller's), whether they can be opened or not. -ENOMEM: nothing is open. */
int places_open(struct io *io, const struct logger *log,
                const struct config *config, const struct volume_meta *of,
                struct places *ret);
void places_close(struct places *p);

/* 0 if one of the configuration at least is there; those that are not are
 * logged. Else why it is not. */
int places_check(const struct places *p);
/* The path of the first that is there, for messages. */
const char *places_first(const struct places *p);

/* This one, opened now, if it was not before; *ret is valid until the next
 * call. -ENOMEM: it is not known. */
int places_get(struct places *p, const char *path, struct place **ret);

#endif
