/* film.h: a volume of which snapshots are made, with a model of what it holds
 * now, and one of what the last snapshot holds. */
#ifndef LSVD_TESTS_UNIT_VOLUME_FILM_H
#define LSVD_TESTS_UNIT_VOLUME_FILM_H

#include "world.h"
#include <stdbool.h>

enum { CHUNK = 256 << 10, BYTES = 2 << 20, ROOTS = 3 };

extern const struct kind film_one;    /* 1 replica */
extern const struct kind film_mirror; /* 2 replicas */
extern const struct kind film_triple; /* 3 replicas */
extern const struct kind film_small;  /* 2 replicas, blocks of 512 bytes */
extern const struct kind film_ec;     /* EC 2+1 */

struct film {
    struct world world;       /* its volume: the one that is written */
    struct lsvd_volume *next; /* between begin and commit */
    char *root[ROOTS];        /* owned; of the parts, if they are spread */
    const char *roots[ROOTS + 1];
    uint8_t *model, *frozen, *found; /* BYTES each */
    uint64_t random, block;
};

/* It is open, and has blocks on its parts, but none in the last chunk. Each
 * part is under the one root, or under its own. */
void film_begin(struct film *f, const struct kind *kind, uint64_t ram_bytes,
                bool is_spread);
/* Of a sound volume that reads as it should, open or closed. */
void film_end(struct film *f);
/* Whatever became of it. */
void film_free(struct film *f);

/* ---- requests ---- */

void film_put(struct film *f, uint64_t at, size_t count);
void film_zero(struct film *f, uint64_t at, size_t count);
void film_trim(struct film *f, uint64_t at, size_t count);
/* All kinds, and less than the journal holds: they stay there. */
void film_write_to_journal(struct film *f);

/* ---- snapshots ---- */

void film_snapshot_begin(struct film *f, const char *name);
void film_snapshot_commit(struct film *f, const char *name);
void film_snapshot_finish(struct film *f, const char *name);
void film_snapshot(struct film *f, const char *name); /* all three */
/* As kill -9 leaves it, at any time. */
void film_kill(struct film *f);

/* ---- what it is ---- */

/* Opened, or by that name, it holds the model, or what is given. */
void film_check(struct film *f);
void film_check_is(struct film *f, struct lsvd_volume *v, const uint8_t *what);
void film_check_named(struct film *f, const char *name, const uint8_t *what);
/* No data is called a hole. */
void film_check_extents(struct film *f);
void film_check_sound(struct film *f, const char *name);
void film_check_unknown(struct film *f, const char *name);
/* lsvd_list has each of these once, and none that is unborn. */
void film_check_list(struct film *f, const char *const *names);
bool film_has_unborn(struct film *f);
/* So many directories of volumes, and journals, are there. */
void film_check_traces(struct film *f, unsigned volumes, unsigned journals);

/* Rename a file below one directory to another below another. */
void film_move(const char *from_dir, const char *from, const char *to_dir,
               const char *to);

#endif
