/* volume.h: the engine's inside: what the files of core/volume share.
 *
 * Lock order (a thread only climbs):
 *   chain < block lease (leases) < role < chunk lease (chunk_leases)
 *     < part lease (part_leases) < state_lock < chunks.lock < journal's own
 *     < table_lock < cache's own, and those of moments (moment.h), innermost
 * No mutex is held across I/O; leases are.
 *
 * (V1) What a block holds: RAM if it is there, else the journal's index, else
 *      the parts. A reader holds a shared lease on the block from the lookup
 *      in the index to the end of the read from the part, so no write can be
 *      accepted in between and no destage of it can begin.
 * (V2) A chunk's fragments change only in plan_apply, under the exclusive
 *      chunk lease; whoever reads cells holds it shared.
 * (V3) Only the holder of the role (the destage thread, or who does its work
 *      for a moment: destage_step, verify, replace of a live volume) builds and
 *      applies plans, heals and rebuilds, and changes the view and the parts.
 * (V4) can_write: the epoch is claimed by at least w parts, the journal is
 *      attached.
 * (V5) usable: the members of the view that are in use. Readers take bytes of
 *      these alone (I7). A part leaves it before the view without it is begun,
 *      and enters it after the view with it is durable on all its members;
 *      nothing is destaged while it is not the view's members.
 * (V6) Who uses a part's directory without the role holds the part's lease,
 *      shared, and has looked at usable under it; the part is let go under the
 *      exclusive one. */
#ifndef LSVD_VOLUME_VOLUME_H
#define LSVD_VOLUME_VOLUME_H

#include "base/io.h"
#include "base/lease.h"
#include "base/log.h"
#include "base/seq.h"
#include "base/shared.h"
#include "base/sum.h"
#include "cache/cache.h"
#include "chunk/chunk_table.h"
#include "chunk/fragment.h"
#include "chunk/geometry.h"
#include "journal/journal.h"
#include "lsvd.h"
#include "meta/config.h"
#include "meta/label.h"
#include "meta/meta.h"
#include "redundancy/ec.h"
#include "target/mirror.h"
#include "volume/hedge.h"
#include "volume/policy.h"
#include "volume/scrub.h"
#include "volume/latency.h"
#include "volume/event.h"
#include "volume/throttle.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define LOCK_NAME ".lock"
#define LOCK_CHUNK_AT (UINT64_C(1) << 32) /* + chunk: "in flux" (verify.c) */
#define HEAL_QUEUE_MAX 256
#define OWNER_BYTES 256 /* of the record in .lock */

struct root_locks;

struct part {
    uint32_t slot;
    char letter;
    enum lsvd_part_state state; /* changed under state_lock, as problem is */
    char problem[256];
    struct target *dir;        /* NULL: not there; owned */
    struct object *lock;       /* held .lock; owned */
    bool has_label;
    int damaged_label_slots;
    struct label label;        /* destage caller's, or under open/close */
    struct chunk_table *table; /* guarded by table_lock; NULL if not there */
    uint64_t table_damaged;    /* pages, at open */
    bool table_doubtful;       /* missing, damaged, or older than it was */
    atomic_uint_fast64_t label_writes; /* write_count of the label, … */
    atomic_uint label_promised; /* … and its promise: for all threads */
    int failure;               /* the role's: what it failed last, or 0 */
    char failure_text[256];
    int absence;               /* what the watch found, under state_lock */
    char absence_text[256];
    unsigned absences;         /* the watch's: in a row */
    atomic_uint fills_failed;  /* in a row: then it is looked for less often */
    unsigned sources_refused;  /* the role's: of these, for other parts' sake */
    unsigned looks_left;       /* the watch's: not to be made, for that */
    atomic_uint_fast64_t errors; /* operations that failed */
    atomic_uint_fast64_t bad;    /* files and cells that were wrong */
    atomic_bool slow, failing;   /* policy.h */
    char unwanted_text[128];     /* why, under state_lock */
    uint64_t off_until_ns;       /* the same; not taken back before */
    struct pace pace;          /* of its reads; see hedge.h */
    uint64_t lines_since_ns;   /* complain.c's, under state_lock: */
    uint64_t lines_left_out;
    unsigned lines;
};

/* One chunk with its open fragments; see chunks.c. */
enum fragment_state {
    FRAGMENT_UNKNOWN,
    FRAGMENT_LOADING,
    FRAGMENT_OK,
    FRAGMENT_AWAY,    /* the part is not used; never stored in a chunk */
    FRAGMENT_REFUSED, /* by the part: not judged, asked again */
    FRAGMENT_ERROR,   /* for a reason of ours, no memory: the same */
    FRAGMENT_MISSING, /* the chunk table has it, the directory not */
    FRAGMENT_STALE,
    FRAGMENT_CORRUPT,
};

struct chunk {
    uint64_t number; /* from 1 */
    unsigned pins;
    atomic_bool in_flight; /* a batch has begun to change its files, and has
                            * not ended */
    struct chunk *next_in_hash, *newer, *older;
    pthread_mutex_t lock;   /* guards the next four */
    pthread_cond_t changed;
    enum fragment_state state[PARTS_MAX];
    struct fragment *fragment[PARTS_MAX];
    struct references *references; /* refer.h; NULL: not loaded */
};

struct chunk_store {
    pthread_mutex_t lock;
    struct chunk **bucket;
    size_t bucket_count, count;
    struct chunk *newest, *oldest; /* order of use */
    atomic_size_t memory;          /* of open fragments, … */
    atomic_size_t memory_max;      /* … and so much may it be */
};

struct heal {
    uint64_t chunk;
    uint32_t slot;
};

struct volume_counters {
    atomic_uint_fast64_t read_bytes, write_bytes, reads, writes, flushes;
    atomic_uint_fast64_t part_bytes, part_syncs;
    atomic_uint_fast64_t bypass_bytes, bypass_recovered;
    atomic_uint_fast64_t bad_blocks, healed_blocks, lost_blocks;
    atomic_uint_fast64_t views, evictions, returns;
    atomic_uint_fast64_t resynced_chunks, resynced_bytes;
    atomic_uint_fast64_t hedged_reads, late_reads;
    atomic_uint_fast64_t stalled_requests, stalled_ns;
    atomic_uint_fast64_t read_errors, write_errors; /* that clients got */
    struct latency read, write, flush, trim;
};

/* How the engine reaches its surroundings; see env.c. */
struct env_world {
    struct io *io;       /* roots and parts, clocks, chance */
    struct io *cache_io; /* a cache directory that is alone */
    struct io *guard, *fault; /* owned; NULL if there is none */
    struct io *copy_guard[MIRROR_COPIES_MAX]; /* of two; the same */
    struct io *read_guard; /* the read cache's; the same */
    unsigned timeout_ms; /* the part-timeout */
};

/* A start that is forced; see force.c. */
struct force {
    uint32_t quorum;    /* instead of w; 0: no such start */
    bool given_up;      /* the journal is not used, whatever it holds */
    uint32_t left_out;  /* parts, when it began (FO3), … */
    struct view_id dropped_by; /* … and by which view */
};

struct offer;

/* Filling a part; see resync.h. */
struct resync {
    struct offer *offered[PARTS_MAX]; /* under state_lock; owned */
    uint32_t held, taken;             /* under state_lock; taken: an offer that
                                       * is about to be in place */
    bool is_active; /* changed by the role under state_lock, as slot is */
    uint32_t slot;
    uint64_t cursor;         /* chunks before it are done in this pass */
    uint64_t copied_in_pass, unstored, began_ns; /* the role's */
    atomic_uint_fast64_t chunks_done, chunks_total, bytes_done, copied;
};

/* Making a copy of the journal anew; see journal_refill.h. */
struct refill {
    struct target *offered; /* under state_lock; owned; which: index */
    char problem[256];      /* the same: why there is none; "" or a line */
    bool is_active;         /* the same; changed by the role */
    bool is_unrecorded;     /* … it counts, and no view says so yet */
    size_t index;           /* of the cache directory */
    struct target *dir;     /* the role's, as what follows; owned until it
                             * joins */
    struct object *object;  /* the same */
    struct journal_fill fill;
    atomic_uint_fast64_t done, total; /* bytes */
    atomic_uint_fast64_t ended;       /* well, since the start */
    atomic_uint failed; /* in a row: then it is looked for less often */
    unsigned looks_left, quiet_looks; /* the watch's */
};

/* A volume that references lead to; see refer.h. */
struct source {
    uint32_t number;
    struct lsvd_volume *volume; /* owned; NULL: not there, for a tool that does
                                 * without */
};

struct bypass_chunk;
#define BYPASS_STREAMS 8u

/* Writes past the journal; see bypass.h. */
struct bypass {
    struct bypass_chunk *first; /* oldest first; under table_lock, as is what
                                 * they hold, and the next four */
    pthread_cond_t changed;     /* with it: a writer has left */
    uint64_t newest_id;
    unsigned barred;
    uint64_t stream[BYPASS_STREAMS]; /* chunks at which they are */
    unsigned next_stream;            /* whose place is taken */
    atomic_uint count;
    atomic_uint_fast64_t spills;
    atomic_uint_fast64_t flushed_at; /* write_bytes at the last flush */
    uint64_t after_bytes; /* so many must follow it (config.h) */
    uint64_t asked;       /* under state_lock: close up to this id */
};

/* Who reads it as it was; see moment.h. */
struct moment_set {
    atomic_uint count;    /* changed under lock */
    pthread_mutex_t lock; /* guards the next one; the innermost */
    struct lsvd_moment *member[LSVD_MOMENTS_MAX]; /* borrowed */
};

struct metadata_problem {
    char letter; /* 0: a root's own */
    char path[512];
    char text[256];
};

struct lsvd_volume {
    struct env_world world;
    struct io *io;       /* world.io */
    struct io *cache_io; /* world.cache_io */
    struct logger log;
    struct events *events; /* owned */
    struct config config;
    struct volume_meta meta;
    struct geometry g;
    struct lsvd_volume *parent; /* parent.h; owned; NULL: none, or not there
                                 * for a tool that does without */
    const struct lsvd_volume *opener; /* who needs it, while it is opened */
    unsigned borrowers; /* borrow.h: more who have it; of who opens, and who
                         * has the top of them reserved */
    atomic_uint source_count;   /* the role's to change; each has its place for
                                 * good, and as it is in the policy */
    struct source source[META_SOURCES_MAX];
    struct uuid imported; /* import_diff.c: what is frozen next holds what this
                           * snapshot of another volume does; zero: who knows */
    struct root_locks *root_locks; /* held for its policy (root_lock.h), or
                                    * NULL; owned while it is unborn, else the
                                    * role's */
    bool may_be_named; /* an unborn successor: by a policy of its parent's that
                        * could not be taken back (snapshot.c) */
    struct part part[PARTS_MAX];
    struct view view;
    atomic_uint usable; /* bit per part that reads may use (V5) */
    bool observer;   /* LSVD_OPEN_NO_LOCK */
    bool takes_over; /* OPEN_TAKE_OVER */
    struct lsvd_volume *instead; /* volume_open_instead: while it is locked */
    bool exclusive;  /* our locks are: files may be written */
    atomic_bool client_read_only; /* lsvd_live_set turns these two */
    atomic_bool append_only;
    bool attached;   /* epoch claimed, journal named in the view */
    bool insists;    /* offline repair: what media refuse is not asked for
                      * again (fragment_judge_unknown) */
    struct force force;
    struct metadata_problem problem[16]; /* copies that need rewriting */
    size_t problem_count;

    struct target *cache_dir; /* where the journal is; owned */
    struct target *mirror;    /* the same, if it has two copies; else NULL */
    struct journal_copy *spare; /* at a start: the other directories; owned */
    atomic_uint losses_settled; /* of the mirror's: recorded on the parts */
    atomic_bool journal_lost;   /* it has failed, and that was said */
    struct journal *journal;  /* NULL: nothing to replay, nothing written */
    bool copy_unseen;  /* the journal may have a copy that could not be read */
    bool journal_held; /* a claim with it was complete, so that it may hold
                        * records: only then does it prove that no newer view
                        * exists; a claim that was cut may have left an empty
                        * one behind (docs/model) */
    struct cache *cache;
    struct read_cache *read_cache; /* read_cache.h; NULL: none */
    struct ec *ec; /* NULL for replicas */
    struct lease_table leases;       /* of blocks of the volume */
    struct lease_table chunk_leases; /* of chunks */
    struct lease_table part_leases;  /* of parts: V6 */
    struct lease_table role;         /* V3; range [0, 1) */
    struct lease_table chain;        /* the parents, [0, 1): shared by who goes
                                      * through them beside requests, exclusive
                                      * by who lets one go */
    struct chunk_store chunks;
    pthread_mutex_t table_lock; /* part[].table */

    pthread_mutex_t state_lock; /* guards what follows */
    pthread_cond_t work;        /* wakes the destage thread */
    pthread_cond_t progress;    /* wakes who waits for journal space */
    struct throttle throttle;
    pthread_cond_t watching;    /* wakes the watch */
    atomic_int destage_error;   /* of the last batch: 0, -ENOSPC, -EIO */
    uint64_t destage_rounds;    /* batches ended, well or badly */
    uint64_t settle_rounds;     /* attempts of journal_settle ended */
    bool threaded; /* there is a destage thread */
    bool parallel; /* there was, so threads may be used, also to close */
    atomic_bool stopping;
    atomic_bool hurried; /* lsvd_hurry, at … */
    uint64_t hurried_ns; /* … under state_lock */
    atomic_bool in_repair; /* volume_reserve */
    atomic_bool is_added_to; /* a snapshot, open for that (adding.h) */
    atomic_bool adds_below;  /* that is what it is reserved for */
    atomic_bool in_snapshot; /* what it is must not change (snapshot.c) */
    atomic_uint_fast64_t held_until_ns; /* destage_hold */
    atomic_bool fenced; /* OW3 */
    void (*on_fenced)(void *ctx);
    void *on_fenced_ctx;
    atomic_uint_fast64_t awake_ns; /* OW4: the watch was here */
    atomic_bool must_look;         /* OW4: we have slept */
    atomic_uint_fast64_t heard_ns; /* OW5: of a part, the last time */
    atomic_bool is_silent;         /* OW5: the watch has said so */
    uint64_t since_wall; /* owner.c's */
    char boot[16];
    unsigned space_waiters;
    uint32_t unwanted; /* parts to drop if R7 allows it (policy.h) */
    uint32_t gone;  /* parts in use that are not there, or don't answer */
    uint64_t stalled_since; /* too few parts to destage: 0, or since when */
    uint64_t journal_mark;  /* what its medium is at (journal_under_way), … */
    uint64_t journal_mark_ns; /* … and since when */
    bool journal_hangs;     /* for longer than the part-timeout */
    struct heal heal[HEAL_QUEUE_MAX];
    size_t heal_count;
    uint64_t free_checked_at; /* write_bytes at the last look at free space */
    uint64_t full_told_ns;    /* 0, or when it was told that there is none */
    uint64_t redo_rows; /* EC: at most so many rows need a redo record, … */
    uint64_t admitted_blocks, admitted_bytes; /* … and are being appended */
    pthread_t thread, watcher;
    atomic_bool is_watched;
    uint64_t beat_ns; /* the watch's: the last heartbeat */
    uint64_t opened_ns;

    struct moment_set moments;
    struct bypass bypass;
    struct policy policy; /* the watch's */
    struct resync resync;
    struct refill refill;
    struct scrub scrub;  /* under state_lock; see scrub.h */
    struct batch *batch; /* the role's: being retried, or NULL */
    atomic_bool retries; /* there is one; for who has not the role */
    unsigned turn;       /* the same: with what of several things it begins */
    size_t batch_chunks;  /* the same: what the next one gets; see batch_took */
    bool heal_fails;     /* of the destage caller: the last one did */
    uint64_t tended_ns;  /* the same: what it did after a batch took so long */
    uint32_t failed;     /* the role's: parts that failed it (part_failed) */
    atomic_uint_fast32_t missed; /* renew.c: parts in use that have failed */
    uint64_t renew_ns;   /* renew.c's: not before */
    unsigned renewed;    /* renew.c's: so often */
    uint32_t behind;     /* the role's: parts with an older policy, perhaps */
    uint32_t view_incomplete; /* the role's: could not be told that the view is
                          * complete; 0: all were */
    bool view_begun;     /* the role's: the view is not known to be on all its
                          * members yet; nothing is destaged until it is */
    struct volume_counters count;
    struct lsvd_openings *openings; /* that it is one of, while it is opened */
    struct lsvd_volume *next_opening; /* under their lock */
};

/* ---- env.c ---- */

int env_load(const struct lsvd_env *env, const char *name,
             struct config *ret, struct env_world *ret_world,
             struct logger *ret_log);
/* Nothing that was opened through it is open. */
void env_done(struct env_world *w);
/* Open cache directory nth of the configuration. */
int env_open_cache(const struct env_world *w, const struct config *config,
                   size_t nth, struct target **ret);
/* How long it is waited for: for the part-timeout, or until somebody else gives
 * it up (the mirror, which has a second copy). Nothing for one that is alone.
 */
void env_cache_patience(const struct env_world *w, size_t nth, bool forever);

/* ---- manage.c ---- */

/* Journal, read cache and what is known of the scrub: its files in the cache
 * directories. None of them is open. */
int volume_remove_cache_files(struct lsvd_volume *v);
/* Is a journal of it in any of them? */
bool volume_has_journal_file(struct lsvd_volume *v);

/* The flag of the policy that lsvd set means by this key. -EINVAL. */
int policy_flag(struct volume_meta *meta, const char *key, const char *value,
                bool **ret_flag, bool *ret_on);

/* ---- create.c ---- */

/* What is to come after this volume: of its shape and in its places, a clone of
 * that one, which may be the volume itself; and yet unborn. ret: its policy, to
 * be freed. Nothing is left behind when it fails. */
int volume_make_successor(const struct volume_meta *of,
                          const struct volume_meta *parent,
                          const struct lsvd_env *env, struct volume_meta *ret);

/* ---- roots.c ---- */

struct roots {
    struct target **root; /* those that could be opened */
    size_t count;
};
/* Open every directory of the list; those that can't be are logged. -ENOENT
 * when none can. */
int roots_open(struct io *io, const struct logger *log, char *const *paths,
               struct roots *ret);
void roots_close(struct roots *roots);

/* Load a root's registry; damaged or missing: rebuilt in memory from the
 * .meta files below it, of which some may be out of reach just now
 * (ret->unknown). */
int registry_load(struct target *root, const struct logger *log,
                  struct registry *ret, bool *ret_damaged);
/* For who stores it, or has to know of every volume: -EIO, and why, if some are
 * out of reach. */
int registry_is_complete(struct target *root, const struct registry *registry);
/* With the root's lock: root_lock.h. */
int registry_store(struct target *root, const struct registry *registry);

/* The copy in one directory. */
int volume_load_meta(struct target *dir, struct volume_meta *ret);
/* -EEXIST: the directory has that of another volume; it may be of another
 * host's, which has the same number there. */
int volume_check_dir(struct target *dir, const struct volume_meta *meta);
/* The same of a part's, by its label if that can be read. */
int part_check_dir(struct target *dir, const struct volume_meta *meta);
/* <root>/<number>, opened. */
int volume_dir_open(struct io *io, const char *path, uint32_t number,
                    unsigned flags, struct target **ret);
/* True if no earlier part has the same root. */
bool volume_is_first_of_root(const struct volume_meta *meta, uint32_t slot);

/* Write this policy to every root and part that can be reached, and its entry
 * into every root's registry. -EIO if not a single copy could be written;
 * -ENOMEM: some may not have been. */
int volume_store_meta(struct io *io, const struct volume_meta *meta);
/* As above, but an error if any copy could not be written. held: locks that
 * the caller has (root_lock.h), or NULL. */
int volume_store_meta_everywhere(struct io *io,
                                 const struct volume_meta *meta,
                                 const struct root_locks *held);
/* Before a volume is written: that a registry knows it may be in memory alone,
 * where a process was killed that made it. A root that fails is as one that is
 * away: others know it, or its part is not written either. */
void volume_sync_roots(struct io *io, const struct volume_meta *meta);
/* To these parts, where the policy says that they are, and their roots; none
 * may fail. */
int volume_store_meta_at(struct io *io, const struct volume_meta *meta,
                         uint32_t parts);
/* Remove what is left of the volume's (emptied) directories: of these parts,
 * a bit for each. */
void volume_remove_dirs(struct io *io, const struct volume_meta *meta,
                        uint32_t parts);
/* Take the volume out of the registries of its roots. held: as above. */
int volume_forget(struct io *io, const struct logger *log,
                  const struct volume_meta *meta,
                  const struct root_locks *held);

/* To all parts in use and their roots, none of which may fail; to no others.
 * One that did is noted (v->behind), and gets it when the volume is closed if
 * it answers again by then. The role's. */
int volume_store_meta_in_use(struct lsvd_volume *v,
                             const struct volume_meta *meta);
/* That has failed with another policy: some copies may be that one, and the
 * newest counts. So v's own becomes a newer one, and is stored; an error: not
 * everywhere. The error text stays. The role's. */
int volume_restore_meta(struct lsvd_volume *v);
/* Both: next is stored, or, with -EIO, v's own as a newer one; the text says
 * so, or that it is not known which the next start will find. v->meta's other
 * fields are the caller's to change. The role's. */
int volume_change_meta(struct lsvd_volume *v, const struct volume_meta *next);
/* Bring the copy in one part, which is open, up to date; and its root's, of
 * which a failure is only logged. The role's. */
int volume_store_part_meta(struct lsvd_volume *v, uint32_t slot);

/* <root>/<number>/<letter>, opened. part_path fills text for messages. */
int part_dir_open(struct io *io, const struct volume_meta *meta,
                  uint32_t slot, unsigned flags, struct target **ret);
void part_path(const struct volume_meta *meta, uint32_t slot, char *text,
               size_t bytes);

/* ---- part.c ---- */

/* Open directories, labels, tables of all parts; sets state and problem. */
int parts_open(struct lsvd_volume *v, bool exclusive);
void parts_close(struct lsvd_volume *v);
/* -EBUSY: somebody else has it; -EEXIST: another part of v, which is the same
 * directory, has it. */
int part_take_lock(struct lsvd_volume *v, struct part *p, bool exclusive);
/* Make label and table of a blank part; state INIT; nothing else there is
 * touched. */
int part_init(struct lsvd_volume *v, struct target *dir, uint32_t slot,
              const struct uuid *instance, struct chunk_table **ret_table);
int part_open_table(struct lsvd_volume *v, struct part *p);
/* Date the chunks of a doubtful table by the headers of their files. */
int part_raise_table(struct lsvd_volume *v, struct part *p);
/* It can't be used, and not for want of a directory or an answer. */
bool part_may_be_there(const struct part *p);
void part_fail(struct part *p, enum lsvd_part_state state, const char *format,
               ...) __attribute__((format(printf, 3, 4)));

/* Not the part's: no memory, or nobody wants it any more (openings.c), or we
 * are fenced. */
static inline bool
is_our_trouble(int r)
{
    return r == -ENOMEM || r == -ECANCELED || r == -ESHUTDOWN;
}

/* Is it the part that fails? An error of ours is not. */
static inline bool
is_part_trouble(int r)
{
    return r < 0 && !is_our_trouble(r) && r != -EINTR && r != -EMFILE &&
           r != -ENFILE;
}

/* Something failed on this part: note it and return r. By the role, or for it
 * (parallel.h), which then decides (v->failed). Errors of ours are not the
 * part's. Takes state_lock. */
int part_failed(struct lsvd_volume *v, uint32_t slot, int r);
/* The same for who has not the role, by reading. One that does not answer
 * (-ETIMEDOUT) is gone. */
void part_suspect(struct lsvd_volume *v, uint32_t slot, int r);
/* A part of a volume that nobody drops parts of, for it is not attached, has
 * failed: see renew.c. */
static inline void
part_missed(struct lsvd_volume *v, uint32_t slot)
{
    if (!v->attached)
        atomic_fetch_or(&v->missed, UINT32_C(1) << slot);
}
/* It is not there, or does not answer: the role is told, and drops it. */
void part_gone(struct lsvd_volume *v, uint32_t slot, int r);
/* Do all of these fail in a way that trying again can't cure? The role's. */
bool parts_are_gone(struct lsvd_volume *v, uint32_t parts);
/* Look for the instance of the slot that the policy knows, under its root,
 * those that were named and those of the other parts; everywhere: also where
 * another letter belongs. Locked, label read, state judged. Nothing of v is
 * changed. -ENOENT and others: why not. */
int part_find(struct lsvd_volume *v, uint32_t slot, bool everywhere,
              struct part *ret);
void part_candidate_close(struct part *p);
/* await.c. Of a volume that is not attached: does a part that is open answer;
 * and one that is not in use, so that it could be? */
bool part_is_still_there(struct lsvd_volume *v, const struct part *p);
bool part_is_back(struct lsvd_volume *v, uint32_t slot);
/* Close all that is open of a part that is not usable. */
void part_let_go(struct lsvd_volume *v, uint32_t slot);
/* These are not used any more: not usable, and their directories let go. Their
 * failure says why. The view is as it was. */
void part_lost(struct lsvd_volume *v, uint32_t parts);

/* The first chunk >= chunk that any table knows of, or 0. */
uint64_t next_known_chunk(struct lsvd_volume *v, uint64_t chunk);

uint64_t count_present_chunks(struct lsvd_volume *v);

/* What the chunk is: present while it is open for writes past the journal
 * (bypass.h), else as tables_truth. */
struct chunk_entry chunk_truth(struct lsvd_volume *v, uint64_t chunk);
/* The newest entry of the chunk among usable parts. */
struct chunk_entry tables_truth(struct lsvd_volume *v, uint64_t chunk);

/* ---- complain.c ---- */

/* A warning about this part, one of many perhaps (CO1). */
void part_complain(struct lsvd_volume *v, uint32_t slot, const char *format,
                   ...) __attribute__((format(printf, 3, 4)));
/* The watch's, now and then. */
void parts_tell_left_out(struct lsvd_volume *v);

#define PART_LETTERS_BYTES (PARTS_MAX * 4 + 8)

/* A set of slots as people name them: "a", "a and c", "a, b and c". */
void part_letters(uint32_t set, char *text, size_t bytes);

/* ---- info.c ---- */

/* A debug event with what was asked of the volume, and written for it, since
 * it was opened; bench/run reads it. */
void volume_log_counters(struct lsvd_volume *v);
void volume_counters_get(struct lsvd_volume *v, struct lsvd_counters *ret);
void volume_caches(const struct config *config, struct lsvd_caches *ret);

/* ---- openings.c ---- */

/* What a hurried operation may take; with HURRIED_DRAIN_NS below 10 s. */
#define HURRIED_DEADLINE_MS 4000

/* One more of them, and one less. o may be NULL; the latter is done by
 * volume_free, if it was not before. */
void opening_begins(struct lsvd_openings *o, struct lsvd_volume *v);
void opening_ends(struct lsvd_volume *v);
/* -ECANCELED once they were ended; o may be NULL. name: for the text. */
int openings_check(struct lsvd_openings *o, const char *name);
/* The same for one that is open, too, and was told to hurry (lsvd_hurry): it
 * does not look for parts any more. */
int volume_check_hurried(struct lsvd_volume *v);
/* Between the steps of long work, of which cb (or NULL) is the caller's: also
 * -EINTR: cancelled, and what volume_check_awake returns. */
int volume_check_going(struct lsvd_volume *v,
                       const struct lsvd_repair_callbacks *cb);

/* ---- open.c, bring_up.c, close.c, volume.c ---- */

enum { OPEN_ADD = 1u << 15, /* a read-only one is written to by the engine, what
                             * does not change it (adopt.h) */
       OPEN_INSPECT = 1u << 16, /* repair metadata copies: no */
       OPEN_REPAIR = 1u << 17,  /* parts may be away; exclusive */
       OPEN_DEGRADED = 1u << 18, /* with REPAIR: a journal with data is
                                  * attached also without all parts */
       OPEN_TAKE_OVER = 1u << 20, /* a lock that is held is taken away */
       OPEN_PARENT = 1u << 21, /* for a clone: nothing is cached */
       OPEN_DEPTH_SHIFT = 22,  /* … and so many clones are above it */
       OPEN_LOCKED = 1u << 19 }; /* no further than locks and labels; then */
int volume_open(const struct lsvd_env *env, const char *name, unsigned flags,
                struct lsvd_volume **ret);
/* The parent of a clone, as whose the policy knows it. name: its own, by which
 * the configuration knows it. */
int volume_open_parent_of(const struct lsvd_env *env,
                          const struct lsvd_volume *child, const char *name,
                          unsigned flags, struct lsvd_volume **ret);
/* The same of its nth source. */
int volume_open_source_of(const struct lsvd_env *env,
                          const struct lsvd_volume *v, uint32_t nth,
                          const char *name, unsigned flags,
                          struct lsvd_volume **ret);
/* To be written; its parent is open, and on success owned by it. */
int volume_open_with_parent(const struct lsvd_env *env, const char *name,
                            struct lsvd_volume *parent,
                            struct lsvd_volume **ret);
/* The parent of child once more, for another use of it, while it is being read:
 * its locks, which are exclusive, go over to the new one, which has the same
 * parent. When that fails it has fewer locks, or none. */
int volume_open_instead(const struct lsvd_env *env,
                        const struct lsvd_volume *child, unsigned flags,
                        struct lsvd_volume **ret);
int volume_new(const struct lsvd_env *env, const char *name,
               struct lsvd_volume **ret);
void volume_free(struct lsvd_volume *v);
/* lsvd_abandon of one that was served, and that nobody reads any more: what
 * hangs there is not waited for long. */
void volume_let_go(struct lsvd_volume *v);
/* lsvd_close after work that returned r; the text is that of the first error.
 */
int volume_close_after(struct lsvd_volume *v, int r);
/* The policy was read before the locks were taken: has somebody changed it in
 * between? -EAGAIN then: begin anew. */
int volume_check_policy(struct lsvd_volume *v);
/* The view in force by the labels, … */
int volume_choose_view(struct lsvd_volume *v);
/* … its journal, and by that the view, if it names one, … */
int volume_find_journal(struct lsvd_volume *v);
/* … which parts may be used with that, … */
void volume_judge_parts(struct lsvd_volume *v);
/* … and the rest: recover, and attach if that is wanted and allowed. */
int volume_bring_up(struct lsvd_volume *v, unsigned flags, bool wants_write);
int volume_drain(struct lsvd_volume *v);
int volume_detach(struct lsvd_volume *v);

/* ---- owner.c (OW1-OW6) ---- */

/* Who holds the lock of this part, for messages; "" if nobody wrote it. */
void part_owner(struct target *dir, char *text, size_t bytes);
/* Tells two starts of one machine apart, where there is such a thing. */
void owner_boot(struct lsvd_volume *v, char *text, size_t bytes);
/* Name this process as the owner, and that it is alive. */
int owner_write(struct lsvd_volume *v, struct part *p);
/* The same for all parts: the one that locked them may have been another
 * process, before a fork. For exclusively locked volumes. */
void parts_sign(struct lsvd_volume *v);
/* OW1. The watch's. */
void owner_heartbeat(struct lsvd_volume *v, uint32_t slot);
/* OW2. True: we are fenced from now on. */
bool owner_is_foreign(struct lsvd_volume *v, uint32_t slot,
                      const struct label *label);
void volume_fence(struct lsvd_volume *v, uint32_t slot,
                  const struct label *label);
/* 0, or -ESHUTDOWN. */
int volume_check_fenced(struct lsvd_volume *v);
/* OW4, OW5. Before a request: the same, but after a sleep, or when no part has
 * been heard of for long, it waits until a label was looked at. -EIO: none
 * could be. No lease is held. */
int volume_check_awake(struct lsvd_volume *v);
/* The same without waiting: before parts are written. */
int volume_check_ours(struct lsvd_volume *v);
/* The watch's: it goes on; and: a label was read afresh that is ours, or the
 * record was written through the locked descriptor, since it said so. */
void owner_is_awake(struct lsvd_volume *v);
void owner_has_heard(struct lsvd_volume *v, uint32_t slot);
/* Must a look be a real one, because clients wait for it? Says so once. */
bool owner_is_in_doubt(struct lsvd_volume *v);
/* There will be no watch any more: what is in doubt now stays so. */
void owner_watch_ends(struct lsvd_volume *v);
/* OW6. A part is back, or somebody else has its lock: true if its label, read
 * afresh, says that we were replaced meanwhile; we are fenced then. */
bool owner_was_replaced(struct lsvd_volume *v, uint32_t slot,
                        const struct label *label);
void owner_look_beside(struct lsvd_volume *v, uint32_t slot,
                       struct target *dir);

/* ---- takeover.c ---- */

/* "host n2 (pid 4711, epoch 17, heartbeat 3 s ago)", and where to reach it if
 * that is this host. */
void owner_describe(struct lsvd_volume *v, const char *record, char *text,
                    size_t bytes);
/* Put a new lock file, which we have locked, in the place of one that somebody
 * holds. */
int takeover_lock(struct lsvd_volume *v, struct part *p);

/* ---- force.c ---- */

/* FO4: what any absent part holds may be newer than the volume. */
void force_doubt_absent(struct lsvd_volume *v, struct view *next);
/* Before the volume is ours: the tables are made to know chunk files that none
 * does (replicas), and not to be relied on for references (RF6). -EIO: FO6. */
int force_without_journal(struct lsvd_volume *v);
bool volume_has_accepted_loss(struct lsvd_volume *v);
/* FO5: such a loss, and no member is away that may have what is newest. */
bool force_may_look_back(struct lsvd_volume *v);

/* ---- live.c ---- */

/* What takes long, and goes through all of a volume or changes what it needs,
 * is done one at a time. -EBUSY, with text: something is. Any thread. */
int volume_reserve(struct lsvd_volume *v);
void volume_release(struct lsvd_volume *v);

/* ---- each_part.c ---- */

/* Do it for every part of the mask; those that fail are noted (part_failed).
 * The job is called on several threads at a time, each for another part.
 * Returns the last part's error, or 0. The role's. */
int parts_each(struct lsvd_volume *v, uint32_t parts,
               int (*job)(struct lsvd_volume *v, uint32_t slot));

/* ---- view.c ---- */

/* Store p's label, with what its table has come to. */
int label_write(struct lsvd_volume *v, struct part *p);
/* Every usable part holds everything up to ckpt: say so in its label. */
int volume_labels_checkpoint(struct lsvd_volume *v, uint64_t ckpt);
/* w: so many parts in sync are needed to write. */
uint32_t volume_write_quorum(const struct lsvd_volume *v);
/* For who has not the role. */
void volume_get_view(struct lsvd_volume *v, struct view *ret);
/* R1. */
bool volume_may_be_members(struct lsvd_volume *v, uint32_t members);
/* R3: can no newer view be on parts that are out of sight? */
bool volume_is_proven(struct lsvd_volume *v);
/* May writing begin with the parts that are usable? */
bool volume_may_attach(struct lsvd_volume *v);
/* Make the epoch ours (R4), and install the view without the parts that are
 * away and with the journal attached. */
int volume_claim(struct lsvd_volume *v);
/* R2. Members that fail are left out (VW2); one that is joining (a bit, or 0)
 * simply does not join. */
int volume_install_view(struct lsvd_volume *v, const struct view *next,
                        uint32_t joining, bool clean);
/* Q := S. A part that fails now is no error: see volume_settle_view. */
int volume_complete_view(struct lsvd_volume *v, bool clean);
/* On all parts, which are new; nothing may fail. */
int volume_store_first_view(struct lsvd_volume *v);
/* Let these parts go (their failure says why), and those members that are away
 * already, and install a view without them all. -EIO: R7 forbids it; then only
 * those that don't answer are let go, and the volume waits for them. */
int volume_drop(struct lsvd_volume *v, uint32_t parts);
/* Store the view once more that was begun and could not be ended, or not told
 * to be complete. A part that fails at it again is dropped. */
int volume_settle_view(struct lsvd_volume *v);
/* A view with this part, which holds all that its members do; it is usable
 * afterwards. */
int volume_view_with(struct lsvd_volume *v, uint32_t slot);
/* All members have the view in their labels, durably, when this returns 0: also
 * those that a cut left at the view before, and those of which only the page
 * cache has it. v is open with shared locks, which others may have too: -EBUSY,
 * and it can be tried again. */
int volume_roll_forward(struct lsvd_volume *v);
/* What the labels of the parts in use say is durable: of a volume that was left
 * by a process that was killed, before something relies on it. */
int volume_sync_labels(struct lsvd_volume *v);
/* R4: the next epoch, promised by every usable part. */
int volume_promise(struct lsvd_volume *v, uint32_t *ret_epoch);
int volume_next_epoch(struct lsvd_volume *v, struct view_id *ret);

/* ---- journal_files.c: the journal's copies (JF1-JF8) ---- */

/* The journal that the view names, from the cache directories: the best copy
 * of it. -ENOENT: not there; -EBUSY: in use. Changes nothing. */
int journal_find(struct lsvd_volume *v);
/* After journal_find, with exclusive locks, before journal_replay: bring the
 * other copies up to date and use them too. One that can't be is left out. */
int journal_level(struct lsvd_volume *v);
/* A journal for a volume that has none, in every directory that works. */
int journal_make(struct lsvd_volume *v, const struct view *view);
void journal_files_done(struct lsvd_volume *v);
/* Can what journal_find took be read to its end? -EBADMSG: it is damaged; -EIO:
 * nobody knows. */
int journal_check(struct lsvd_volume *v);
/* May the files that are in the cache directories be given up, and a new
 * journal be made there? -EEXIST; -EIO: one can't be read; -ENOENT … */
int journal_may_give_up(struct lsvd_volume *v);
/* Let go what was found; files keep their bytes and get another name. */
int journal_give_up(struct lsvd_volume *v);
/* How many cache directories there are, and the name of the journal in them. */
size_t journal_directories(const struct lsvd_volume *v);
void journal_name(const struct lsvd_volume *v, char *text, size_t bytes);
/* Open cache directory nth, and look at the journal in it: a file that is not
 * ours, or is in use, is an error. */
int journal_probe(struct lsvd_volume *v, size_t nth, struct target **ret);
/* A view like the one in force, with a new UUID for the journal. The role's. */
int journal_rename(struct lsvd_volume *v);
/* The view in force names no journal. Do the cache directories know it, and
 * none newer (JF8)? */
bool journal_remembers(struct lsvd_volume *v);
bool journal_is_settled(struct lsvd_volume *v);
/* JF3: record that a copy was lost. The destage caller's (or open's). */
int journal_settle(struct lsvd_volume *v);
/* Before an answer: wait until it is recorded. Anybody's. -EIO: can't be. */
int journal_await(struct lsvd_volume *v);
/* The journal gave this error (with the text): if it has failed for good, say
 * so once. Returns the error. */
int journal_failed(struct lsvd_volume *v, int error);

/* ---- chunks.c ---- */

/* One of up to 64 that lie below each other: less memory for open chunks. */
void chunks_keep_few(struct lsvd_volume *v);
int chunk_store_init(struct lsvd_volume *v);
void chunk_store_done(struct lsvd_volume *v);
/* So many may be open with all their files. */
size_t chunks_open_max(const struct lsvd_volume *v);
/* Pin the chunk; no I/O. */
int chunk_get(struct lsvd_volume *v, uint64_t number, struct chunk **ret);
void chunk_put(struct lsvd_volume *v, struct chunk *c);
/* One more is open and kept in a chunk (NULL: none). */
void chunk_count_fragment(struct lsvd_volume *v, const struct fragment *f);
/* The fragment on a part, opened at first use and judged against the chunk
 * tables; NULL if it can't be used (state says why). Caller holds the chunk's
 * lease. */
struct fragment *chunk_fragment(struct lsvd_volume *v, struct chunk *c,
                                uint32_t slot, enum fragment_state *ret);
/* Is it known of each part in use what file it has? Then chunk_fragment says so
 * until it is forgotten. -ENOMEM; -EIO: some refuse just now, and are noted
 * (part_failed). As chunk_fragment. */
int chunk_files_answer(struct lsvd_volume *v, struct chunk *c);
/* The same for the role, also on a part that is being filled (resync.c), and
 * only if it can be written; exclusive lease, if it was not written before. */
struct fragment *chunk_fragment_to_write(struct lsvd_volume *v,
                                         struct chunk *c, uint32_t slot,
                                         enum fragment_state *ret);
/* Close what is open, and forget its references, so that the next use opens
 * anew. Exclusive lease. */
void chunk_forget_fragments(struct lsvd_volume *v, struct chunk *c);
/* The same, and what the page cache has of its files: bytes that a process
 * before this one wrote and could not sync are clean there, and perhaps nowhere
 * else. Those that are dirty stay, and the next sync is theirs, too. */
void chunk_read_anew(struct lsvd_volume *v, struct chunk *c);
/* That of one part; it is not usable, or the lease is exclusive. */
void chunk_forget_fragment(struct lsvd_volume *v, struct chunk *c,
                           uint32_t slot);
/* The same in all chunks. The part is no longer usable; waits for those who
 * still read from it. */
void chunks_forget_part(struct lsvd_volume *v, uint32_t slot);

/* ---- stripe.c ---- */

enum cell_state {
    CELL_GOOD,
    CELL_BAD,   /* no fragment, or fails its check */
    CELL_STALE, /* valid, but older than its stripe */
};

/* Some rows of a chunk, all cells of each. */
struct rows {
    struct chunk *chunk;
    uint32_t first, count;
    uint8_t *cell[PARTS_MAX]; /* count blocks each */
    bool *bad[PARTS_MAX];     /* count each */
    struct fragment *fragment[PARTS_MAX];
    uint32_t skip; /* parts that rows_load does not ask; 0 after rows_new */
    int trouble;   /* why a part did not tell what it has; see rows_trouble */
    void *memory; /* owned */
};

/* One judged row. */
struct stripe {
    uint32_t row;
    enum cell_state state[PARTS_MAX];
    uint32_t good;      /* bit per cell */
    uint64_t seq;       /* newest among the good */
    uint64_t sum[EC_DATA_MAX]; /* what each data cell must hash to */
    bool readable;      /* every data cell is good or can be rebuilt */
};

#define ROWS_AT_ONCE 64u /* at most */
/* So many take a mebibyte of each part, or less. */
uint32_t rows_at_once(const struct lsvd_volume *v);

int rows_new(struct lsvd_volume *v, uint32_t count, struct rows *ret);
void rows_free(struct rows *rows);
/* All rows of a chunk, up to rows_at_once of them at a time, until a job
 * fails. */
int rows_each(struct lsvd_volume *v,
              int (*job)(void *ctx, uint32_t first, uint32_t count), void *ctx);
/* Add to what is known of why cells could not be had: 0, all parts told; -EIO,
 * a medium refused, which may be for good; anything else will pass, and counts
 * more; -ENOMEM, it was us. */
void rows_trouble(int *trouble, int error);
/* What it means that a fragment is in this state. */
int fragment_trouble(enum fragment_state state);
/* Read these rows from every fragment that can be read. */
void rows_load(struct lsvd_volume *v, struct chunk *c, uint32_t first,
               uint32_t count, struct rows *rows);
/* Only what their entries say, as if all bytes were right: rows_judge then
 * tells what ought to be there. False: a table is doubtful (C4), nothing can be
 * said without the bytes. */
bool rows_peek(struct lsvd_volume *v, struct chunk *c, uint32_t first,
               uint32_t count, struct rows *rows);
void rows_judge(struct lsvd_volume *v, const struct rows *rows, uint32_t row,
                struct stripe *ret);
/* The parity of a row of these data cells (K sums and pointers; what a sum
 * calls zero is zeroes), and the sums of its M cells. False: all of it is
 * zeroes, the sums are 0, and parity is left as it was. */
bool stripe_encode(struct lsvd_volume *v, uint64_t chunk, uint32_t row,
                   const uint64_t *sums, const uint8_t *const *data,
                   uint8_t *const *parity, uint64_t *ret_sums);
/* Compute the cell (into rows->cell) from the good ones, and its entry.
 * -EIO: can't be. */
int rows_rebuild(struct lsvd_volume *v, struct rows *rows,
                 const struct stripe *stripe, uint32_t slot,
                 struct cell_entry *ret_entry);
enum cell_change { CELL_KEEP, CELL_WRITE, CELL_PUNCH };
/* Put the cells that rows has of a slot into a fragment, or punch them out of
 * it, neighbours in one call. change: rows->count. Entries are the caller's. */
int rows_change(struct lsvd_volume *v, const struct rows *rows, uint32_t slot,
                struct fragment *to, const enum cell_change *change);

/* ---- write.c: whole blocks, leased by the caller ---- */

/* At most the payload of a record. -EAGAIN: of a chunk that is open for writes
 * past the journal, in a way that can't go past it (bypass_settle). */
int volume_write_blocks(struct lsvd_volume *v, uint64_t first, uint32_t count,
                        const uint8_t *data);
/* Of no chunk that is open so. */
int volume_zero_blocks(struct lsvd_volume *v, uint64_t first, uint64_t count);

/* ---- extents.c ---- */

/* What a volume itself says of a block; absent: nothing, it is the parent's;
 * reference: data, which are another volume's (refer.h); unknown: its files
 * can't be asked now. */
enum own { OWN_ABSENT, OWN_ZERO, OWN_DATA, OWN_REFERENCE, OWN_UNKNOWN };
typedef int (*volume_own_cb)(void *ctx, uint64_t first, uint64_t count,
                             enum own is);
/* Runs of blocks that cover [first, first + count), in order; a non-zero return
 * of cb stops and is returned. It is called with a chunk lease held. */
int volume_own(struct lsvd_volume *v, uint64_t first, uint64_t count,
               volume_own_cb cb, void *ctx);
/* Does the journal hold anything of the chunk, zeroes included? */
bool volume_chunk_is_dirty(struct lsvd_volume *v, uint64_t chunk);

/* Has every block of the range bytes of its own, in the journal or on the
 * parts? */
bool volume_is_allocated(struct lsvd_volume *v, uint64_t count,
                         uint64_t offset);

/* ---- read.c ---- */

/* Whole blocks [first, first + count) into `to`; the caller holds a lease on
 * them. Fills the cache. */
int volume_fetch(struct lsvd_volume *v, uint64_t first, uint32_t count,
                 uint8_t *to);
/* The same; takes the lease itself, shared (SN4). */
int volume_fetch_leased(struct lsvd_volume *v, uint64_t first, uint32_t count,
                        uint8_t *to);
/* What a cell says of its block: nothing (PA1), or that it is a reference
 * (RF1); its bytes are zeroes then. */
enum said { SAID_BYTES, SAID_NOTHING, SAID_REFERENCE };
/* Blocks of one chunk from the parts; caller holds the chunk lease. said: NULL,
 * or an enum said for each block. */
int volume_read_parts(struct lsvd_volume *v, struct chunk *c, uint32_t block,
                      uint32_t count, uint8_t *to, uint8_t *said);
static inline uint8_t
said_by_sum(uint64_t sum)
{
    return sum == SUM_ZERO_BLOCK  ? SAID_NOTHING
           : sum == SUM_REFERENCE ? SAID_REFERENCE
                                  : SAID_BYTES;
}
/* Whether what is in place on the part is read while all is well: of parity and
 * of replicas that others are asked before, nothing is. By the parts alone: it
 * may be asked with a file on its way, of which opening would say that it is
 * missing. */
bool volume_reads_first(struct lsvd_volume *v, uint64_t chunk, uint32_t slot);
/* The file of the replica that is asked first; NULL: none can be. */
struct fragment *volume_preferred_fragment(struct lsvd_volume *v,
                                           struct chunk *c);
/* Whole blocks, newest content, into RAM; the caller holds a lease on them.
 * is_new: they were written. What a long read brings is not worth memory that
 * has to be made for it, the first time. */
void volume_cache(struct lsvd_volume *v, uint64_t first, uint32_t count,
                  const uint8_t *data, bool is_new);
uint64_t volume_block_seed(const struct lsvd_volume *v, uint64_t block);
int volume_check_range(const struct lsvd_volume *v, uint64_t count,
                       uint64_t offset);
void volume_note_bad(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
                     uint32_t row, const char *what);
void volume_queue_heal(struct lsvd_volume *v, uint64_t chunk, uint32_t slot);
/* It was tried: not queued any more. */
void volume_heal_tried(struct lsvd_volume *v, uint64_t chunk, uint32_t slot);

/* A request of a client has ended. error: the counter of those that failed. */
static inline int
volume_request_ended(struct lsvd_volume *v, struct latency *l,
                     uint64_t begin_ns, int r, atomic_uint_fast64_t *error)
{
    latency_note(l, v->io->ops->now_ns(v->io) - begin_ns);
    if (r < 0)
        atomic_fetch_add(error, 1);
    return r;
}

/* ---- space.c ---- */

/* May `blocks` more blocks from `first` on be accepted? 0 or -ENOSPC. */
int space_check(struct lsvd_volume *v, uint64_t first, uint32_t count);
/* How full the journal is, in FILL_FULLths, of whatever there is least of: its
 * ring, room for redo records, the index. */
uint32_t space_fill(struct lsvd_volume *v);
/* Wait a moment if the journal fills faster than it is emptied. With no lease
 * held: who reads the blocks should not have to wait, too. */
void space_throttle(struct lsvd_volume *v, uint64_t blocks);
/* The journal is full: destage, or wait until somebody has; -EIO when the
 * volume has been stalled for the stall-timeout. */
int space_wait(struct lsvd_volume *v);
/* Milliseconds that a client may wait yet: the time that the volume has been
 * stalled counts, not the client's own. Caller holds state_lock. */
uint64_t space_patience_ms_locked(struct lsvd_volume *v);
/* For a reader under threads, with block leases alone: as long as a writer
 * would wait, until a round has ended well. False: not worth trying again. */
bool space_read_waits(struct lsvd_volume *v);
/* Is it because of these parts that it went wrong, so that to go on without
 * them would help? A disk that is full is to blame only if the others are not:
 * when they fill up together, that would trade redundancy for space. */
bool parts_are_to_blame(struct lsvd_volume *v, uint32_t parts, int error);

/* EC: a record may be appended only if the redo records that all of the
 * journal may need still fit behind it; else destage could not go on, and
 * nothing could ever be written again. */
struct admission {
    uint64_t blocks, bytes, rows;
};
/* payload: 0 for zeroes. -EAGAIN: not now, see space_wait. */
int space_admit(struct lsvd_volume *v, struct admission *a, uint64_t first,
                uint64_t count, uint64_t payload);
/* The append has ended, well or not. */
void space_admitted(struct lsvd_volume *v, const struct admission *a,
                    bool appended);
/* So many rows have had their redo record, and are on the parts. */
void space_redone(struct lsvd_volume *v, uint64_t rows);
/* After replay: any block of the journal may need one. */
void space_recovered(struct lsvd_volume *v);
/* EC: rows whose parity fits into one redo record. */
uint32_t space_redo_rows_max(struct lsvd_volume *v);
/* Bytes of a redo record that one row takes, and of one row alone. */
uint64_t redo_row_bytes(const struct lsvd_volume *v);

/* ---- plan.c, destage.c, redo.c ---- */

struct plan_cell {
    uint32_t row;
    struct cell_entry entry;
    uint64_t *stripe_sums; /* parity: K; else NULL */
    uint8_t *data;         /* NULL: zeroes */
};

struct plan {
    uint64_t chunk; /* from 1 */
    uint64_t seq;
    bool fresh;  /* nothing old remains: the file is made anew */
    uint32_t make; /* on these parts it is made, if it can't be used */
    bool remove; /* nothing at all remains */
    uint32_t cell_count[PARTS_MAX]; /* by fragment, in order of row */
    struct plan_cell *cells[PARTS_MAX]; /* replicas: all the same list */
    struct journal_block *blocks; /* what it destages */
    size_t block_count;           /* … and how many, of which … */
    size_t taken;                 /* … the journal has so many */
    bool bulk; /* PL1 */
    uint64_t zero_seq;
    struct shared *written; /* plan_of_write: its blocks, one behind the other,
                             * then parity; owned */
    uint32_t also; /* bit of a part that is being filled and gets it, too */
    bool *row_needs_redo; /* EC; rows entries, or NULL */
    uint32_t redo_rows;   /* how many do */
    struct chunk *pin;    /* from plan_apply on; released by plan_release */
    uint32_t applied;     /* to these parts, by the files they have open */
    bool in_flux;         /* its chunk is marked so (LOCK_CHUNK_AT) */
    bool is_done;         /* the journal has forgotten it: whatever is retried,
                           * its chunk may be anybody's */
    struct plan *next;
    struct plan_memory *memory; /* chain of what the plan owns */
};

/* Plans that destage carries out together, each with a redo record at most. */
#define BATCH_CHUNKS_MAX JOURNAL_REDO_RECORDS_MAX

/* (PL1) Of a chunk that was written in bulk, half of it or more in one go, only
 * what is read first stays in the page cache: three copies take no more of it
 * than one. Fewer blocks at random are likely to be followed by others of the
 * same chunk soon. */
static inline bool
plan_is_bulk(const struct lsvd_volume *v, size_t blocks)
{
    return 2 * blocks >= v->g.chunk_blocks;
}

/* Everything that destaging this chunk needs, read and computed; nothing
 * written. rows_max bounds the rows that need a redo record; only rows with a
 * block of a sequence below `before` are taken (UINT64_MAX: all). */
int plan_build(struct lsvd_volume *v, uint64_t chunk, uint32_t rows_max,
               uint64_t before, struct plan **ret);
/* The newest record that it takes something from. */
uint64_t plan_newest_seq(const struct plan *plan);
struct plan *plan_new(uint64_t chunk);
void plan_free(struct plan *plan); /* NULL is fine; holds no pin */
void *plan_alloc(struct plan *plan, size_t count, size_t bytes);
/* Give the pin back. */
void plan_release(struct lsvd_volume *v, struct plan *plan);
/* With no batch under way, or at its end: the labels, then the journal, say how
 * far the parts are, and the space of what they have is free. The role's. */
int destage_checkpoint(struct lsvd_volume *v);
/* Put the bytes in place on the parts of the mask; no sync. Idempotent. Parts
 * that fail are noted (part_failed), the others get them all the same. A plan
 * that removes does nothing here, but in plan_remove, once the tables call the
 * chunk a hole: a file that the table has and the directory has not is damage,
 * and its blocks need not all be in the journal. */
int plan_remove(struct lsvd_volume *v, const struct plan *plan,
                uint32_t parts);
int plan_apply(struct lsvd_volume *v, struct plan *plan, uint32_t parts);
/* The same for one part, under the exclusive chunk lease; what fails is not
 * noted. */
int plan_apply_to(struct lsvd_volume *v, const struct plan *plan,
                  struct chunk *c, uint32_t slot);
/* What fragment_store_meta is about to write. */
uint64_t fragment_meta_bytes(const struct fragment *f);
/* Blocks of one chunk that are written just now, which have no place in the
 * journal, and no sequence yet: their sums, and a copy of their bytes. EC:
 * whole rows. */
int plan_of_write(struct lsvd_volume *v, uint64_t first, uint32_t count,
                  const uint64_t *sums, const void *data, struct plan **ret);
/* Sync the files of this plan and of those after it in its list, on the parts
 * of the mask and those that get the plan, too. */
int plan_sync(struct lsvd_volume *v, const struct plan *first,
              uint32_t parts);

/* Body of a REDO record; *ret NULL if the plan needs none. */
int redo_encode(struct lsvd_volume *v, const struct plan *plan,
                uint8_t **ret, size_t *ret_bytes);
/* The plan that the body describes. -EBADMSG. */
int redo_decode(struct lsvd_volume *v, const uint8_t *body, size_t bytes,
                struct plan **ret);
/* Re-apply what was cut short: every redo record that a usable part's table
 * does not cover. Then, once the view has no member that did not get it, say so
 * in the tables: one that is away and had none of it could else not be told
 * from one that has. */
struct redo_list;
int redo_remember(void *ctx, uint64_t seq, const uint8_t *body, size_t bytes);
int redo_apply_all(struct lsvd_volume *v, struct redo_list *list);
int redo_checkpoint(struct lsvd_volume *v, struct redo_list *list);
struct redo_list *redo_list_new(void);
bool redo_list_is_empty(const struct redo_list *list);
void redo_list_free(struct redo_list *list);
/* All tables in use alike, and stored: what one says is durable on all members
 * of the view (D4). A table that lagged behind could later, with the others
 * away, have an old record applied over newer bytes. */
int tables_level(struct lsvd_volume *v);
/* The chunk becomes what the plan makes of it (D7). */
int tables_set(struct lsvd_volume *v, const struct plan *plan);
/* Write every dirty chunk table page. Parts that fail are noted. */
int tables_store(struct lsvd_volume *v, uint32_t parts);
/* Directories of the parts. */
int names_sync(struct lsvd_volume *v, uint32_t parts);
/* Both, of files that were made beside destage: what a table says is there must
 * not lose its name. */
int files_store(struct lsvd_volume *v, uint32_t parts);
/* The parts that failed (v->failed) fail for the second time, or are gone: do
 * without them. 0: that can be. Of disks that are full writers are told when
 * that does not help, and also when too few would be left. */
int parts_do_without(struct lsvd_volume *v, int error);
/* A step that notes the parts that fail at it, and may be repeated: twice with
 * them, then without. What it returned at last. */
int parts_try(struct lsvd_volume *v, int (*step)(struct lsvd_volume *v));
/* Before anything is put on the parts: parts and view as they are (V5). */
int parts_settle(struct lsvd_volume *v);
/* Tell verify in another process whether the chunk is being changed. */
void chunk_mark_flux(struct lsvd_volume *v, uint64_t chunk, bool in_flux);

/* Gather a batch into v->batch, if there is none; some of it may be on its way
 * to the parts then. 1: there is one; 0: nothing to do. Parts that fail at it
 * are dropped. */
int batch_prepare(struct lsvd_volume *v);
/* Destage it: until it is done, or nobody is left who could be dropped. */
int batch_run(struct lsvd_volume *v);
uint64_t batch_blocks(const struct lsvd_volume *v);
/* The next batch gets more chunks, or fewer. */
void batch_took(struct lsvd_volume *v, uint64_t ns);
/* A member was away: what is kept goes out once more. */
void batch_begin_anew(struct lsvd_volume *v);
/* One round of all that is to be done: parts that failed are dropped, a batch
 * is destaged, a file healed, a part filled a little. 1: did something, 0:
 * nothing to do, or an error. Takes the role. */
int destage_batch(struct lsvd_volume *v);
/* Between these two no other thread has the role. -EIO: a batch that could not
 * be ended is in the way. */
int role_get(struct lsvd_volume *v, struct lease *lease);
void role_put(struct lsvd_volume *v, struct lease *lease);
/* Before the role is taken with no request under way: clients would wait for a
 * batch, too. The one that is under way is waited for, and until destage_go_on,
 * or for two seconds, none is begun, unless somebody waits for room. -EIO,
 * -ESHUTDOWN, as role_get: it is not held. */
int destage_hold(struct lsvd_volume *v);
void destage_go_on(struct lsvd_volume *v);
void batch_free(struct lsvd_volume *v);
/* End the thread, if there is one, after the batch it is at. Who waits for
 * journal space gets an error. */
void destage_stop(struct lsvd_volume *v);
bool journal_has_chunk(void *ctx, uint64_t chunk);

/* ---- leftover.c ---- */

/* After a replay, with all parts there: remove the files of chunks that are
 * durably holes. */
void leftovers_remove(struct lsvd_volume *v);
/* Of one part, usable or being filled. The role's. */
void leftovers_remove_of(struct lsvd_volume *v, uint32_t slot);

/* ---- rebuild.c ---- */

/* Make the fragment on a part right, from what the others and itself hold.
 * 1: rewritten; 0: was right already. Holds the exclusive chunk lease. */
int fragment_rebuild(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
                     uint64_t *ret_lost_blocks);
/* The table entry of a chunk whose fragment is right and durable. */
int fragment_declare_whole(struct lsvd_volume *v, uint64_t chunk,
                           uint32_t slot, struct chunk_entry truth);
#define REFUSALS_BEFORE_LOSS 2
/* Cells of the fragment that could not be had from the other parts: are they
 * lost? 0, or the error to end with when that is not known (rows_load): a part
 * that is being filled must not become a member without them. What was refused
 * a few times is; in an offline repair, which nobody repeats by himself, what a
 * medium refused at once: else one bad sector would keep a part out for ever.
 * The role's. */
int fragment_judge_unknown(struct lsvd_volume *v, uint32_t slot,
                           uint64_t chunk, int trouble);
/* The greatest sequence that any of the chunk's fragments carries. */
uint64_t fragment_newest_seq(struct lsvd_volume *v, struct chunk *c);

/* ---- fill.c ---- */

/* Bring the fragment of a part that is being filled up to date. Its table entry
 * follows. bytes: what was written. The role's. */
int fragment_fill(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
                  uint64_t *ret_bytes);

static inline uint32_t
volume_all_parts(const struct lsvd_volume *v)
{
    return (UINT32_C(1) << v->g.part_count) - 1;
}

#endif
