/* rig.h: a volume on parts that can be made to refuse, taken away and put
 * back, with a model of what was answered. */
#ifndef LSVD_TESTS_UNIT_VOLUME_RIG_H
#define LSVD_TESTS_UNIT_VOLUME_RIG_H

#include "faulty-io.h"
#include "world.h"
#include <pthread.h>
#include <stdbool.h>

enum { BLOCK = 4096, CHUNK = 256 << 10, BYTES = 2 << 20,
       CHUNKS = BYTES / CHUNK };

/* Volumes of eight chunks; in brackets the parts that are needed to write,
 * and to read. */
extern const struct kind rig_mirror; /* 2 replicas (1, 1) */
extern const struct kind rig_triple; /* 3 replicas (2, 1) */
extern const struct kind rig_ec;     /* EC 2+1 (2, 2) */
extern const struct kind rig_wide;   /* EC 4+2 (5, 4) */

struct rig {
    struct world world;
    struct faulty_io io;
    struct io *guard; /* rig_guard, or NULL */
    uint8_t model[BYTES]; /* what was answered */
    uint8_t found[BYTES];
    uint64_t random;
    bool threaded;
    pthread_mutex_t lock;
    pthread_cond_t logged; /* the volume said something */
    char said[64 << 10];   /* warnings and errors, a line each; under lock */
    size_t said_bytes;
    const char *settings[4];
};

struct rig *rig_new(const struct kind *kind); /* not yet opened */
void rig_free(struct rig *rig);
/* "key=value", for the opens that follow. */
void rig_set(struct rig *rig, const char *setting);
/* Deadlines, and queued writes, as a server has them. Before the first open. */
void rig_guard(struct rig *rig, unsigned deadline_ms);
void rig_open(struct rig *rig, bool threaded);
void rig_close(struct rig *rig);
/* Close it, a full verify finds nothing, and free it. */
void rig_end(struct rig *rig);
/* As kill -9 leaves it. */
void rig_kill(struct rig *rig);

/* 0, or the error; the model follows what was answered. */
int rig_write(struct rig *rig, uint64_t at, size_t count);
int rig_trim(struct rig *rig, uint64_t at, size_t count);
/* 0, and it was as the model says, or the error. */
int rig_read(struct rig *rig, uint64_t at, size_t count);
/* All of it, and flushed. */
void rig_fill(struct rig *rig);
/* Opened without a thread and filled, and all of that is on the parts. */
void rig_open_filled(struct rig *rig);
/* One block in each of the chunks [first, first + count), counted from 0. */
void rig_touch(struct rig *rig, uint64_t first, uint64_t count);
/* Blocks of these chunks until one is refused; 0 if none of `most` is. */
int rig_write_until_refused(struct rig *rig, uint64_t first, uint64_t count,
                            unsigned most);
/* Everything reads as the model says. */
void rig_check(struct rig *rig);
/* The same, with no part to ask but those of the mask. */
void rig_check_from(struct rig *rig, unsigned parts);

struct lsvd_status *rig_status(struct rig *rig); /* valid until the next */
/* Look at the parts and do what there is to do (or let the threads) until this
 * is true; the test fails when it does not become so. */
typedef bool (*rig_condition)(const struct lsvd_status *s, unsigned number);
void rig_until(struct rig *rig, rig_condition condition, unsigned number);
bool rig_is_healthy(const struct lsvd_status *s, unsigned unused);
/* Part `slot` is not in use. */
bool rig_has_dropped(const struct lsvd_status *s, unsigned slot);
bool rig_has_diverged(const struct lsvd_status *s, unsigned slot);
bool rig_is_in_health(const struct lsvd_status *s, unsigned health);
/* The same for a few looks, to see that something does not happen. */
void rig_look(struct rig *rig, unsigned times);

/* Directories of parts; letters. */
void rig_take_away(struct rig *rig, char part); /* rename */
void rig_put_back(struct rig *rig, char part);
void rig_delete(struct rig *rig, char part); /* rm -r */
void rig_copy(struct rig *rig, const char *from, const char *to); /* cp -a */
/* The part as it is, kept aside, and put in its place again. */
void rig_back_up(struct rig *rig, char part);
void rig_restore(struct rig *rig, char part);
/* The log says so, or has. */
void rig_until_said(struct rig *rig, const char *text);
bool rig_has_said(struct rig *rig, const char *text);
void rig_forget_said(struct rig *rig);

#endif
