/* world.h: a volume in a temporary directory, for tests of the engine's API.
 * Calls that must not fail end the test with the engine's text. */
#ifndef LSVD_TESTS_UNIT_VOLUME_WORLD_H
#define LSVD_TESTS_UNIT_VOLUME_WORLD_H

#include "lsvd.h"
#include <stdio.h>

struct kind {
    uint32_t replicas, ec_data, ec_parity;
    uint32_t block_bytes, chunk_bytes;
    uint64_t size_bytes;
    uint64_t journal_bytes; /* 0: 1 MiB */
    uint64_t ram_bytes;     /* 0: 256 KiB */
};

struct world {
    char path[256];
    char data[300], cache[300];
    const char *data_list[2], *cache_list[3];
    struct lsvd_env env;
    struct kind kind;
    struct lsvd_volume *volume; /* NULL: closed */
};

#define NAME "v1"
#define MUST(call) must(call, #call, __FILE__, __LINE__)
int must(int r, const char *what, const char *file, int line);

/* Make directories and the volume; not yet opened. */
void world_init(struct world *w, const struct kind *kind);
void world_done(struct world *w); /* what is open is abandoned */

void world_open(struct world *w); /* for writing, or the test fails */
void world_close(struct world *w);
/* <data>/11/<rest>. text: 512 bytes. */
void world_path(const struct world *w, const char *rest, char *text);
/* A bit of such a file; at < 0: from its end. */
void world_flip(const struct world *w, const char *rest, int64_t at);
/* A full verify of the closed volume finds nothing. */
void world_check_sound(struct world *w);
struct lsvd_status *world_status(struct world *w); /* valid until the next;
                                                  * one thread */
/* Destage until nothing is left. */
void world_drain(struct world *w);

/* Deterministic. */
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t limit);
void random_fill(uint64_t *state, void *to, size_t bytes);

#endif
