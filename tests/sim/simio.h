/* simio.h: a world in memory for the engine to live in: directories, files,
 * clock and chance, all from one seed, and every way to break them.
 *
 * It keeps the contract of target/target.h to the letter and not more: what
 * T1-T4 leave open goes wrong here as often as it can.
 * (W1) A name made, removed or renamed is pending until its directory is
 *      synced; a cut keeps any subset of the pending ones that is possible
 *      without the others. Syncing a file says nothing about its name.
 * (W2) Once halted (power or process gone) every call is -EIO and changes
 *      nothing, until simio_power_cut or simio_kill starts the next life.
 * (W3) A "step" is a call that can change the world; a cut may be set at
 *      each. The step in which it comes is done, half done or not done. */
#ifndef LSVD_SIM_SIMIO_H
#define LSVD_SIM_SIMIO_H

#include "base/io.h"
#include "simfile.h"
#include "target/target.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct simio;
struct sim_inode;

enum sim_call {
    SIM_CALL_OPEN,
    SIM_CALL_READ,
    SIM_CALL_WRITE,
    SIM_CALL_PUNCH,
    SIM_CALL_ALLOCATE,
    SIM_CALL_RESIZE,
    SIM_CALL_SYNC,
    SIM_CALL_SYNC_DIR,
    SIM_CALL_RENAME,
    SIM_CALL_REMOVE,
    SIM_CALL_MAKE_DIR,
    SIM_CALL_OTHER, /* list, stat, lock … */
    SIM_CALL_KINDS,
};
const char *simio_call_name(enum sim_call kind);

struct simio_stats {
    uint64_t calls[SIM_CALL_KINDS];
    uint64_t all_calls, steps, power_cuts, kills;
};

/* Deliberate faults of the world itself: each breaks a promise of target.h,
 * so that a harness that does not notice is worth nothing. */
enum simio_bug {
    SIM_BUG_NO_JOURNAL_SYNC = 1, /* syncs of *.journal do nothing */
    SIM_BUG_NO_DIR_SYNC = 2,     /* syncs of directories do nothing */
    SIM_BUG_LOST_TABLE = 4,      /* some writes to the header and table of
                                  * chunk files never happen */
};

struct simio *simio_new(uint64_t seed);
void simio_free(struct simio *s);

/* Another world in the same state, pending operations included, with no
 * handle open and nothing armed; its chance starts from seed. */
struct simio *simio_clone(const struct simio *s, uint64_t seed);

struct io *simio_io(struct simio *s);
const struct simio_stats *simio_get_stats(const struct simio *s);

/* Make a directory and those above it, durably. */
void simio_make_dir(struct simio *s, const char *path);

/* Everything that happened so far is durable. */
void simio_settle(struct simio *s);

/* Halt at the nth step from now (from 1). 0: never. */
void simio_arm_cut(struct simio *s, uint64_t nth_step);
void simio_halt(struct simio *s);
bool simio_halted(const struct simio *s);

/* Called before each step, with what it is. */
void simio_set_step_hook(struct simio *s,
                         void (*hook)(void *ctx, enum sim_call kind),
                         void *ctx);

/* A call that is carried out, or begun. */
struct sim_seen {
    enum sim_call kind;
    bool is_step;
    const char *dir, *name;
    uint64_t at;         /* data and bytes: of writes, which come a second */
    const uint8_t *data; /* time, with them */
    size_t bytes;
};
/* Called for each, before it has an effect. */
void simio_set_witness(struct simio *s,
                       void (*witness)(void *ctx, const struct sim_seen *seen),
                       void *ctx);

/* By its clock a read takes so much longer than other calls. */
void simio_set_read_ns(struct simio *s, uint64_t ns);

/* What comes after a halt (or at any time that no handle is open). The cut
 * draws what it keeps; simio_power_cut_with is told. */
void simio_power_cut(struct simio *s);
void simio_power_cut_with(struct simio *s, enum sim_keep keep,
                          uint32_t piece_bytes);
void simio_kill(struct simio *s);

/* Handles that are open: none may be left when a volume is gone. */
size_t simio_open_handles(const struct simio *s);

/* The nth call from now (from 1) fails once; -ENOSPC turns to -EIO for calls
 * that need no space. 0: never. */
void simio_arm_failure(struct simio *s, uint64_t nth_call, int code);
/* And so many steps later, from 1 on, the world halts. 0: it does not. */
void simio_halt_after_failure(struct simio *s, uint64_t steps);
bool simio_failure_fired(const struct simio *s);
enum sim_call simio_failure_kind(const struct simio *s);

/* A medium that has died: this error for all calls on the directory and below,
 * of handles too that are open. 0: well again. NULL: all are. */
#define SIM_SICK_MAX 8
void simio_set_sick(struct simio *s, const char *path, int code);

/* No space is left: -ENOSPC for what needs some. Bytes over bytes do not. */
void simio_set_full(struct simio *s, bool is_full);

/* A directory that is away: -ENOENT for it and all below. */
void simio_hide(struct simio *s, const char *path, bool hidden);

/* A directory with all that is in it, as it is now. NULL: not there. */
struct sim_inode *simio_take_dir(struct simio *s, const char *path);
/* Durably in place of the one that is there; handles that are open go on
 * seeing that one. */
void simio_put_dir(struct simio *s, const char *path, struct sim_inode *copy);
void simio_dir_free(struct sim_inode *copy);
void simio_swap_dirs(struct simio *s, const char *a, const char *b);

/* Bytes of a file, hidden or not; durable: of the medium. How many there are
 * at that place, or -ENOENT. */
int64_t simio_peek(struct simio *s, const char *path, bool durable,
                   uint64_t at, void *to, size_t bytes);

/* Damage. -ENOENT if there is no such file; -ERANGE if it is shorter. */
int simio_flip(struct simio *s, const char *path, uint64_t at, uint8_t mask);
/* Is there anything but zeroes in the sector at `at`? */
bool simio_has_bytes(struct simio *s, const char *path, uint64_t at);
struct sim_file *simio_take_copy(struct simio *s, const char *path);
int simio_put_copy(struct simio *s, const char *path,
                   const struct sim_file *copy);
int simio_delete(struct simio *s, const char *path);
void simio_copy_free(struct sim_file *copy);

/* -ENOENT or the size. */
int64_t simio_file_size(struct simio *s, const char *path);

/* Names in a directory, in the order they came. NULL-terminated, freed with
 * simio_names_free; NULL if there is no such directory. */
char **simio_names(struct simio *s, const char *path);
void simio_names_free(char **names);

/* table_bytes: where the data of chunk files begins at the earliest. */
void simio_set_bugs(struct simio *s, unsigned bugs, uint64_t table_bytes);

/* Print each call. NULL: don't. */
void simio_set_trace(struct simio *s, FILE *out);

#endif
