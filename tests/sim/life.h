/* life.h: one volume in one simulated world, with the model of what it may
 * hold: what every mode of the simulator is made of.
 *
 * A life fails once, at the first thing that may not be; everything after
 * that is skipped, and the reason and the last events are printed. */
#ifndef LSVD_SIM_LIFE_H
#define LSVD_SIM_LIFE_H

#include "lsvd.h"
#include "model.h"
#include "prng.h"
#include "rules.h"
#include "simio.h"
#include <stdbool.h>
#include <stdint.h>

#define LIFE_VOLUME "v"
#define LIFE_CHUNK_BYTES (256u << 10)
#define LIFE_EVENTS 48
#define LIFE_EVENT_BYTES 200
#define LIFE_PARTS_MAX 8
#define LIFE_COPIES 32
#define LIFE_DIRS_MAX 16
#define LIFE_SNAPSHOTS_MAX 6
#define LIFE_NUMBERS_MAX 32

struct sim_policy {
    uint32_t replicas;           /* 0 with EC */
    uint32_t ec_data, ec_parity; /* 0: replicated */
    uint32_t block_bytes;
    bool missing; /* parts are away now and then */
    bool rot;     /* parts are damaged now and then */
    bool small;   /* one chunk, few shapes: for exhaustive search */
    unsigned bugs; /* enum simio_bug */
    bool skip_redo;
    bool redo_in_ring; /* journals have no area */
    unsigned member_bugs; /* enum member_bug */
    bool mirror;          /* two cache directories */
    bool conceal_losses;  /* and the bugs of that */
    bool skip_rest, skip_settle;
    bool read_cache; /* there is one */
    bool blind;      /* and the bug of that */
    bool stream;     /* much is written in order */
    bool clone;      /* the volume has a parent */
    unsigned clone_bugs; /* enum clone_bug */
    bool snapshot;   /* it is frozen now and then */
    bool dedupe;     /* it has blocks of another one, and references to it */
    unsigned dedupe_bugs; /* enum dedupe_bug */
    unsigned stream_bugs; /* enum stream_bug */
};

struct life {
    struct sim_policy policy;
    uint64_t seed;
    struct prng prng;
    struct simio *s;
    struct model *m;
    struct lsvd_volume *v;
    uint64_t volume_bytes;
    unsigned number; /* of the volume */
    bool number_due; /* it may have changed since */
    char uuid[37];   /* the same, once it is not the only one; "" */
    bool one_root;
    char root[LIFE_PARTS_MAX][16];
    const char *data[LIFE_PARTS_MAX + 3]; /* with the parent's, and twin's */
    const char *cache[3];
    const char *settings[3];
    struct lsvd_env env;
    uint8_t *image, *buffer; /* volume_bytes each */
    uint64_t hot[4];         /* places that requests like */
    struct frozen {
        uint8_t *image; /* owned */
        bool is_sure;   /* it was made, and not perhaps */
        bool is_gone;   /* it was removed */
    } frozen[LIFE_SNAPSHOTS_MAX];
    size_t frozen_count;
    const char *scenario; /* admin.c's */
    uint64_t snapshots_read;
    uint64_t snapshots_merged; /* into a later one, of the open volume */
    uint8_t *source;     /* dedupes.c: what twin holds; owned */
    uint64_t references; /* that were made */
    bool snapshots_reduced; /* one has left a part out of its view */
    struct sim_file *copy[LIFE_COPIES]; /* chunk files of earlier times */
    /* mirror.c; bit per cache directory */
    unsigned truth;     /* has all that was answered; 0: one has, or both */
    unsigned hidden, dying, dead, hide_next;
    bool in_destage, dies_at_sync;
    uint64_t steps_to_death; /* 0: never */
    bool must_open, rolled_back;
    bool needs_both; /* a start with one copy away was refused, rightly */
    struct sim_file *journal_copy[2];
    uint64_t copy_start[2], starts, alone, refused, refilled;
    /* parts.c; bit per directory of a part */
    char dir[LIFE_DIRS_MAX][64];
    uint32_t dir_count;
    uint32_t hidden_dirs, sick_dirs;
    uint32_t hidden_numbers[LIFE_PARTS_MAX]; /* bit 0: 11 */
    uint32_t old_dirs; /* put back from an old copy, not in sync since */
    uint32_t tampered; /* while the volume served: it sees another one */
    struct sim_inode *dir_copy[LIFE_DIRS_MAX];
    uint64_t copy_writes[LIFE_DIRS_MAX]; /* of the labels in these */
    bool swapped; /* a part is not where its letter is */
    bool owes_reads, owes_writes; /* the request that is being served */
    uint64_t calms, replaced, unwritable, part_failures;
    struct rules rules;
    struct sim_file *rcache_copy; /* spoil.c */
    bool in_stream;        /* workload.c's */
    uint64_t cached_reads; /* blocks that came from the read cache */
    uint64_t bypassed, spilled, recovered; /* see bypass.h: bytes, chunks */
    bool damaged; /* rot that may not all have been found: see life_mend */
    uint64_t steps_typical;  /* of one cycle; where to set the next cut */
    uint64_t cuts, recoveries, verifies, degraded;
    bool failed;
    char why[2048];
    char event[LIFE_EVENTS][LIFE_EVENT_BYTES];
    uint64_t event_count;
    bool verbose;
};

/* A world with roots and no volume. */
void life_begin_empty(struct life *l, const struct sim_policy *policy,
                      uint64_t seed);
/* Create the volume: 0 or the error. */
int life_create(struct life *l);
/* A world with a volume in it, created and settled. */
void life_begin(struct life *l, const struct sim_policy *policy,
                uint64_t seed, FILE *trace);
void life_end(struct life *l);

uint32_t life_parts(const struct sim_policy *policy);
uint32_t life_tolerated(const struct sim_policy *policy);

/* Directory of a part: what is hidden, damaged, looked at. */
void life_part_path(const struct life *l, uint32_t part, char *text,
                    size_t bytes);

void life_event(struct life *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void life_fail(struct life *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The options that make this life again, as on the command line. */
void life_policy_text(const struct sim_policy *policy, char *text,
                      size_t bytes);
void life_print_failure(const struct life *l, FILE *out);

/* 0, or the error; l->v is set on success. */
int life_open(struct life *l, unsigned flags);
int life_close(struct life *l);
int life_read_image(struct life *l);

/* None may be open once a volume is gone. */
void life_check_handles(struct life *l, const char *what);

/* Leave the volume as a crash would, and apply the crash. */
void life_crash(struct life *l, bool with_power);

/* The read that just failed was of a block that nobody can tell (bypass.h): its
 * chunk was open when the server ended, and a part is away now. */
bool life_is_unknown(const struct life *l);
/* The open volume is read whole and compared; the model follows. */
void life_check_image(struct life *l, const char *when);

/* workload.c: one random request, compared with the model. `may_fail`: errors
 * are expected (a failure is armed). */
void life_request(struct life *l, bool may_fail);
/* The same, always a write. */
void life_write(struct life *l);

/* recover.c: bring a crashed volume back, through cuts and with parts away if
 * the policy says so, until it is open for writing and checked. */
void life_recover(struct life *l);

/* The volume is closed: everything must be where it belongs. */
void life_verify(struct life *l);

/* mirror.c: what happens to the copies of the journal. Without the policy
 * these do nothing. */
void life_mirror_begin(struct life *l);
void life_mirror_serve(struct life *l);
/* Around a step of destage. */
void life_mirror_destage(struct life *l, bool begins);
/* While it serves: a directory dies, or is back, or is looked for. */
void life_mirror_event(struct life *l);
/* After each request: are both copies in place again? */
void life_mirror_look(struct life *l);
/* Nothing is hidden or dead any more. */
void life_mirror_well(struct life *l);
void life_mirror_crashed(struct life *l);
void life_mirror_before_reading(struct life *l);
void life_mirror_before_open(struct life *l);
bool life_mirror_after_open(struct life *l, bool opened);
void life_mirror_closed(struct life *l);
/* Copies that were kept are of a snapshot now. */
void life_mirror_renewed(struct life *l);
/* Has a snapshot below the open volume a journal yet? */
bool life_frozen_journal(const struct life *l);
void life_mirror_end(struct life *l);

/* parts.c: parts that are away, dead, old, replaced. */
struct owed {
    bool proven; /* what is newest can be seen */
    bool serve, write;
};
void life_parts_begin(struct life *l);
void life_parts_end(struct life *l);
/* While it serves: one of the things that can happen to a part. */
void life_parts_event(struct life *l);
/* Between two starts: who is away at the next, what was put back. */
void life_parts_between(struct life *l);
void life_parts_replace(struct life *l);
void life_parts_mend(struct life *l);
/* Nothing is hidden or dead any more. */
void life_parts_well(struct life *l);
/* The same, and the open volume must come to have all parts in sync. */
void life_calm(struct life *l);
/* Are enough members well for a request to succeed? */
bool life_parts_suffice(struct life *l, bool to_write);
/* What the next start owes, by the records on the media. */
struct owed life_owed(struct life *l);
/* The closed volume: is nothing away, and every part a member? */
bool life_parts_all_in_sync(struct life *l);
/* The crashed volume: the same, and will the next start use each? A view with
 * a part that returns may have come to the journal alone: then that part is
 * lost to that start, and nothing else may be. */
bool life_parts_all_recoverable(struct life *l);

/* rot.c: damage the closed, healthy volume within what it can lose; read it;
 * rebuild it. */
void life_rot(struct life *l);
/* The same to chunk files after a crash, before recovery. */
void life_rot_crashed(struct life *l);
/* The volume is closed: rebuild it, if it was damaged. */
void life_mend(struct life *l);
void life_forget_copies(struct life *l);

/* spoil.c: nobody serves; something happens to the read cache, if there is
 * one. */
void life_spoil(struct life *l);
void life_spoil_end(struct life *l);

/* random.c: cuts until `cuts` of them or a failure. */
void life_run(struct life *l, uint64_t cuts);

/* exhaustive.c: all workloads of up to `length` small writes, cut before each
 * step, `subsets` times. Up to two writes with everything that can come
 * between them; more only if `full`, else with one choice of it by the seed.
 * False: failed, and said so. */
bool exhaustive_run(const struct sim_policy *policy, unsigned length,
                    unsigned subsets, bool full, uint64_t seed,
                    uint64_t *ret_cuts);

/* nth.c: every call of the world, then every allocation, fails once; every: or
 * only one in so many. */
bool nth_run(const struct sim_policy *policy, uint64_t every, uint64_t seed,
             uint64_t *ret_failures);

/* admin.c: create, resize, remove, rebuild and replace, cut at every step and
 * failing at every call; every: or only so many of them, which, by the seed.
 * scenario: NULL, or that one alone. */
bool admin_run(const struct sim_policy *policy, const char *scenario,
               uint64_t every, uint64_t seed, uint64_t *ret_cuts);
bool admin_knows(const char *scenario);

#endif
