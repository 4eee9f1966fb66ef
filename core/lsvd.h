/* lsvd.h: the API of the engine: what plugin, tools and tests use.
 *
 * Errors: functions return 0 (or as described) or a negative errno, and leave
 * one line of text for this thread (lsvd_error). Offsets and counts are bytes
 * of the volume; any alignment and size is served. Functions on a volume may
 * be called from any thread, except open, start, close.
 *
 * Promises (docs/architecture.md says how each is kept):
 * - a write that returned 0 survives the death of the process;
 * - a write that returned 0 before a flush began survives a power cut once
 *   the flush returned 0, whichever threads made the calls;
 * - a block read is one that was written there, or an error. */
#ifndef LSVD_H
#define LSVD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LSVD_EXPORT __attribute__((visibility("default")))

struct lsvd_volume;
struct lsvd_openings;
struct io; /* base/io.h; tests only */

enum lsvd_log_level { LSVD_ERROR, LSVD_WARNING, LSVD_INFO, LSVD_DEBUG };
typedef void (*lsvd_log_cb)(void *ctx, enum lsvd_log_level level,
                            const char *line);

/* Where things are, and how to report. Borrowed for the duration of a call;
 * lsvd_open keeps copies (not of io, which must outlive the volume). */
struct lsvd_env {
    struct io *io;           /* NULL: the real world */
    lsvd_log_cb log;         /* NULL: events are dropped */
    void *log_ctx;
    const char *config_path; /* NULL: /etc/lsvd/lsvd.conf if it exists */
    const char *const *data; /* roots, NULL-terminated; NULL: from config */
    const char *const *cache; /* journal directories; NULL: from config */
    uint64_t ram_bytes;      /* 0: from config */
    const char *const *settings; /* "key=value", NULL-terminated, as in the
                              * file; they override it. NULL: none */
    const char *fault_path;  /* NULL, or a file of rules by which the world
                              * misbehaves (target/fault.h); tests only */
    struct lsvd_openings *openings; /* NULL, or see lsvd_openings_end */
};

/* The text of this thread's last error; never NULL. */
const char *lsvd_error(void);

/* "10G", "1.5M", "4096": bytes. -EINVAL. */
int lsvd_parse_size(const char *text, uint64_t *ret);

/* Versions of what the engine is built on, as "key=value" lines. */
const char *lsvd_versions(void);
#define LSVD_VERSION "0.1.0"

/* ---- volumes as things: admin/volumes.c of core/volume ---- */

struct lsvd_create_part {
    char letter;      /* 'a' … */
    const char *root; /* absolute */
};

struct lsvd_create {
    const char *name;
    uint64_t size_bytes;
    uint32_t chunk_bytes, block_bytes; /* 0: 4 MiB, 4 KiB */
    uint32_t replicas;                 /* 0 with EC; default 1 */
    uint32_t ec_data, ec_parity;       /* 0: replicated */
    uint64_t journal_bytes;            /* 0: chosen from the size */
    const struct lsvd_create_part *parts; /* roots of single parts; the */
    size_t part_count;                    /* others lie under data[0] */
    const char *parent; /* NULL, or a read-only volume that has what this one
                         * lacks: a clone. Then 0 is as the parent has it, and
                         * of as many parts each lies where the parent's does,
                         * unless it is named. */
};

/* Nothing is left behind when it fails. -EEXIST: name taken; -EROFS: the parent
 * is not read-only. */
int lsvd_create(const struct lsvd_env *env, const struct lsvd_create *spec);

/* One volume in a listing. Pointers are valid during the callback. */
struct lsvd_listed {
    const char *name;
    uint32_t number;
    uint64_t size_bytes;
    char redundancy[32]; /* "3 replicas", "EC 4+2" */
    bool read_only;
    const char *problem; /* NULL, or why its policy can't be read */
};
int lsvd_list(const struct lsvd_env *env,
              int (*cb)(void *ctx, const struct lsvd_listed *volume),
              void *ctx);

int lsvd_resize(const struct lsvd_env *env, const char *name,
                uint64_t size_bytes, bool allow_shrink);

/* Keys: read-only=on|off, append-only=on|off (others are refused by name,
 * with what can be set). */
int lsvd_set(const struct lsvd_env *env, const char *name, const char *key,
             const char *value);

/* Another name for a volume that nobody serves, and for its snapshots, which
 * may be in use. It can be called again when it was interrupted. -EEXIST. */
int lsvd_rename(const struct lsvd_env *env, const char *from, const char *to);

/* Removes every trace under the roots that can be reached. -EBUSY: in use, or
 * the parent of others. Continues one that was interrupted. What a rollback
 * discarded that was interrupted leads to the volume until that was opened
 * once, which is done here then; -EBUSY, too, if it can't be. */
int lsvd_remove(const struct lsvd_env *env, const char *name);

/* ---- snapshots: volume@name ---- */

/* Freeze a volume that nobody serves. It goes on under its name, as an empty
 * clone of the snapshot. Nothing is copied. -EEXIST, -EIO: not all parts are in
 * sync; the volume is as it was then. */
int lsvd_snapshot_create(const struct lsvd_env *env, const char *name);

/* The same of one that is open for writing, step by step. First, beside
 * requests: a successor, which stays unused. */
int lsvd_snapshot_begin(struct lsvd_volume *v, const struct lsvd_env *env,
                        const char *name, struct lsvd_volume **ret_next);
/* Beside requests, just before the moment: who else changes volumes in the same
 * directories is waited for here, not by clients, and what was written is made
 * durable. -EBUSY: too long. Without it the moment itself does it. */
int lsvd_snapshot_hold(struct lsvd_volume *next);
/* While no request is under way: v is the snapshot from here on, and belongs to
 * next, which is to be used, started and closed in its place. On an error v
 * goes on, and next is to be cancelled. */
int lsvd_snapshot_commit(struct lsvd_volume *v, struct lsvd_volume *next,
                         const char *name);
/* Beside requests of next: what is left to do, so that others may open the
 * snapshot. False: that is not all done, for parts fail; see
 * lsvd_snapshot_tend. */
bool lsvd_snapshot_finish(struct lsvd_volume *next);
/* Now and then, of any volume that is open and may have been frozen, by the
 * thread that freezes it: try the rest of it. True: nothing is left. */
bool lsvd_snapshot_tend(struct lsvd_volume *v);
/* What lsvd_snapshot_begin made goes. The error text stays. */
void lsvd_snapshot_cancel(struct lsvd_volume *next,
                          const struct lsvd_env *env);

/* A volume that nobody serves holds again what its snapshot holds; all that was
 * written since is gone, but for what later snapshots have. It can be called
 * again when it was interrupted: only before the moment that counts is the
 * volume as it was. What is discarded may be left to lsvd_remove (lsvd_list
 * shows it). */
int lsvd_snapshot_rollback(const struct lsvd_env *env, const char *name);

struct lsvd_repair_callbacks; /* below; progress and cancelled are used */

/* A clone that nobody serves gets all that it lacks from its parent, and from
 * its parent's, and all that it has references to, and needs them no more. It
 * can be interrupted (-EINTR) and begun anew. rate_bytes: so many are copied in
 * a second; 0: as many as can be. */
int lsvd_flatten(const struct lsvd_env *env, const char *name,
                 uint64_t rate_bytes, const struct lsvd_repair_callbacks *cb);

/* How to have something done while no request of a volume is under way: fn is
 * called so, on any thread, and what it returned is returned, with its text. */
#define LSVD_TEXT_BYTES 512
struct lsvd_alone {
    int (*run)(void *ctx, int (*fn)(void *arg), void *arg,
               char text[LSVD_TEXT_BYTES]);
    void *ctx;
};
struct lsvd_flatten {
    const char *parent;  /* NULL: all of them, and references; or the one that
                          * is to go, and so is let go by what depends on it:
                          * the volume, or a later snapshot */
    uint64_t rate_bytes; /* as above */
};
/* The same of an open volume, beside requests. env: that it was opened with.
 * -EXDEV: the parent that is named is none of the volume's. */
int lsvd_live_flatten(struct lsvd_volume *v, const struct lsvd_env *env,
                      const struct lsvd_flatten *spec,
                      const struct lsvd_alone *alone,
                      const struct lsvd_repair_callbacks *cb);

/* What a snapshot holds goes to the one volume that depends on it, then it is
 * removed. -EBUSY: that one is in use, or there are several, which the text
 * names. What a snapshot or a rollback left that was interrupted goes before,
 * for which the volume is opened. It can be interrupted and begun anew. */
int lsvd_snapshot_remove(const struct lsvd_env *env, const char *name,
                         uint64_t rate_bytes,
                         const struct lsvd_repair_callbacks *cb);

/* ---- dedupe: blocks shared with read-only volumes ---- */

struct lsvd_dedupe {
    const char *const *sources; /* names of read-only volumes, NULL behind them
                                 */
    bool estimate;         /* nothing is written: what would a run give back? */
    uint64_t memory_bytes; /* for the indexes of the sources; 0: 512 MiB */
    uint64_t rate_bytes;   /* of the volume that are read in a second; 0: as
                            * many as can be */
    uint32_t hash_bits;    /* 0: all; fewer, so that some collide, for tests */
    const char *snapshot;  /* of an open volume: not its own blocks, but those
                            * of this snapshot that it goes on from; or NULL */
};

struct lsvd_dedupe_report {
    uint64_t blocks_scanned; /* of the volume's own, … */
    uint64_t bytes_scanned;  /* … and their bytes */
    uint64_t blocks_matched; /* became references, or would */
    uint64_t blocks_zero;    /* became holes, or would */
    uint64_t blocks_collided; /* had the hash of another one */
    uint64_t bytes_given_back; /* on the parts, as allocated there; an estimate
                                * tells what it would be */
    uint64_t chunks_skipped; /* were being written whenever it was their turn */
    uint64_t index_blocks;   /* of the sources, in their indexes */
    uint64_t index_memory_bytes;
    uint64_t duration_ms;
};

/* Blocks of a volume or snapshot that nobody serves which are equal to blocks
 * of a source become references to those. It can be interrupted (-EINTR) and
 * run again. Of the callbacks progress and cancelled are used. -EINVAL: a
 * source is the volume itself, or has another block size; -EROFS: one is not
 * read-only; -ELOOP: a source needs the volume. Nothing is changed then. */
int lsvd_dedupe(const struct lsvd_env *env, const char *name,
                const struct lsvd_dedupe *spec,
                const struct lsvd_repair_callbacks *cb,
                struct lsvd_dedupe_report *ret);
/* The same of an open volume, beside requests; one at a time: -EBUSY. alone is
 * used for a snapshot. -EXDEV: the volume does not go on from it. */
int lsvd_live_dedupe(struct lsvd_volume *v, const struct lsvd_env *env,
                     const struct lsvd_dedupe *spec,
                     const struct lsvd_alone *alone,
                     const struct lsvd_repair_callbacks *cb,
                     struct lsvd_dedupe_report *ret);
/* And back: every reference becomes a block of the volume's own (counted as
 * matched), and the volume needs its sources no more. Of spec the rate and the
 * snapshot are used. */
int lsvd_rehydrate(const struct lsvd_env *env, const char *name,
                   const struct lsvd_dedupe *spec,
                   const struct lsvd_repair_callbacks *cb,
                   struct lsvd_dedupe_report *ret);
int lsvd_live_rehydrate(struct lsvd_volume *v, const struct lsvd_env *env,
                        const struct lsvd_dedupe *spec,
                        const struct lsvd_alone *alone,
                        const struct lsvd_repair_callbacks *cb,
                        struct lsvd_dedupe_report *ret);

/* Snapshots of a volume, oldest first. Pointers are valid during the call. */
struct lsvd_snapshot {
    const char *name;
    uint32_t number;
    uint64_t size_bytes;
    uint64_t frozen_at; /* seconds since 1970 */
};
int lsvd_snapshot_list(const struct lsvd_env *env, const char *name,
                       int (*cb)(void *ctx, const struct lsvd_snapshot *s),
                       void *ctx);

/* ---- differences between them ---- */

/* Bytes in which one volume may differ from another, and how it reads there. */
struct lsvd_change {
    uint64_t offset, count;
    bool is_data; /* false: as zeroes */
};

/* Where TO, a volume that nobody serves or a snapshot, may differ from FROM, a
 * snapshot of the same family, by what the volumes between them say of
 * themselves: no data is read, and nothing that differs is left out. In order;
 * a non-zero return of cb stops and is returned. Behind the end of FROM it is
 * taken for zeroes. -EINVAL: they have nothing in common. */
int lsvd_diff(const struct lsvd_env *env, const char *from, const char *to,
              int (*cb)(void *ctx, const struct lsvd_change *change),
              void *ctx);

/* The same of an open volume as TO, from a byte on, beside requests: what is
 * written meanwhile may be told or not. FROM is one that it goes on from; else
 * -EXDEV. A parent that is to be let go stays until it returns. */
int lsvd_live_diff(struct lsvd_volume *v, const char *from, uint64_t offset,
                   int (*cb)(void *ctx, const struct lsvd_change *change),
                   void *ctx);

struct lsvd_diff_totals {
    uint64_t records, data_bytes, zero_bytes;
};

/* Takes all of these bytes. 0 or a negative errno; -EINTR: stop. */
struct lsvd_diff_sink {
    int (*write)(void *ctx, const void *bytes, size_t count);
    void *ctx;
};
/* The same, with the data: a stream that checks itself (docs/format.md). from
 * NULL: all that TO holds. */
int lsvd_export_diff(const struct lsvd_env *env, const char *from,
                     const char *to, const struct lsvd_diff_sink *out,
                     struct lsvd_diff_totals *ret);

/* Gives `count` bytes; less: these were the last. As above. */
struct lsvd_diff_source {
    int (*read)(void *ctx, void *to, size_t count, size_t *ret_count);
    void *ctx;
};
/* Apply such a stream to a volume that nobody serves and that is what the
 * stream leads from: its newest snapshot is the one, by name and by what is
 * known of where it came from, and it was not written since; or the stream has
 * all, and the volume holds nothing. It gets the size, and the snapshot at
 * which the stream ends, if it is one. On an error, -EINTR included, it is what
 * it was, unless the text says otherwise; killed meanwhile, it holds a part of
 * it. -EBADMSG: the stream is cut or damaged; -EEXIST: it was written, or has
 * that snapshot. */
int lsvd_import_diff(const struct lsvd_env *env, const char *name,
                     const struct lsvd_diff_source *in,
                     struct lsvd_diff_totals *ret);

/* ---- serving ---- */

enum lsvd_open_flags {
    LSVD_OPEN_READ_ONLY = 1,
    LSVD_OPEN_NO_LOCK = 2, /* observe a volume that another process serves:
                            * parts only, no journal; implies READ_ONLY; for
                            * verify and info */
};

/* So many chunk files may the process have open, for all its volumes together
 * (512 unless told): about half of what it may open of anything. Each volume
 * keeps a few all the same. Any thread, any time. */
void lsvd_limit_files(size_t max);

/* Lock, check, recover. No thread is started (fork safely after this). A
 * volume with too few parts to write opens for reading: lsvd_can_write tells,
 * the log says why. -EIO: also when what is there may not be the newest.
 * -ENOENT: no such volume. -EBUSY: in use, text names the owner. */
int lsvd_open(const struct lsvd_env *env, const char *name, unsigned flags,
              struct lsvd_volume **ret);

/* Calls of lsvd_open that can be ended from another thread: those of which the
 * env says so. One whose parts hang does not keep a server from ending. */
int lsvd_openings_new(struct lsvd_openings **ret);
/* None is under way. NULL is fine. */
void lsvd_openings_free(struct lsvd_openings *o);
/* They return -ECANCELED soon, as does each that is begun later; a volume was
 * left then as by kill -9. At once, any thread. */
void lsvd_openings_end(struct lsvd_openings *o);

/* Call cb once, from any thread, when another server turns out to have claimed
 * the volume: every request gets -ESHUTDOWN from then on, and nothing is
 * written. Between lsvd_open and lsvd_start. */
void lsvd_on_fenced(struct lsvd_volume *v, void (*cb)(void *ctx), void *ctx);

/* Start background destaging. Without it, requests that need space destage
 * on their own thread (the simulator, the tools). */
int lsvd_start(struct lsvd_volume *v);

/* Finish, destage, detach the journal, unlock, free. An error means that the
 * journal still holds data (safe, replayed at the next open). */
int lsvd_close(struct lsvd_volume *v);

/* Free without writing anything: what kill -9 would leave. Tests. */
void lsvd_abandon(struct lsvd_volume *v);

bool lsvd_can_write(const struct lsvd_volume *v);

/* Bytes that it has now: lsvd_live_resize lets it grow. Any thread. */
uint64_t lsvd_get_size(const struct lsvd_volume *v);

/* It was opened to be written, and has too few parts for that. It stays
 * read-only; when parts are back it is to be closed and opened anew. */
bool lsvd_awaits_parts(const struct lsvd_volume *v);

/* Of such a volume: enough parts to write seem to be there. One thread at a
 * time, beside requests; waits for file systems up to the part-timeout. */
bool lsvd_parts_are_back(struct lsvd_volume *v);

struct lsvd_alone; /* below */
/* Now and then, of any volume that is open, by the thread that freezes it, and
 * waits for file systems: are parts there again of the volumes that it needs,
 * its parents and those it has references to? Then these are opened anew, and
 * used from a moment on at which no request is under way. */
void lsvd_renew_needed(struct lsvd_volume *v, const struct lsvd_env *env,
                       const struct lsvd_alone *alone);

enum lsvd_request_flags { LSVD_FUA = 1 };

int lsvd_pread(struct lsvd_volume *v, void *to, size_t count,
               uint64_t offset);
int lsvd_pwrite(struct lsvd_volume *v, const void *from, size_t count,
                uint64_t offset, unsigned flags);
int lsvd_flush(struct lsvd_volume *v);
/* Both make the range read as zeroes and give its space back. */
int lsvd_trim(struct lsvd_volume *v, uint64_t count, uint64_t offset,
              unsigned flags);
int lsvd_zero(struct lsvd_volume *v, uint64_t count, uint64_t offset,
              unsigned flags);
/* Prefetch into RAM. */
int lsvd_cache(struct lsvd_volume *v, uint64_t count, uint64_t offset);

/* Calls cb for consecutive, maximal runs that cover [offset, offset + count),
 * in order; a non-zero return stops and is returned. is_data false: not
 * allocated, reads as zeroes. */
int lsvd_extents(struct lsvd_volume *v, uint64_t count, uint64_t offset,
                 int (*cb)(void *ctx, uint64_t offset, uint64_t count,
                           bool is_data),
                 void *ctx);

/* ---- a volume as it was at one moment, while it is written ---- */

struct lsvd_moment;
#define LSVD_MOMENTS_MAX 8 /* of a volume, at a time */

/* While no request of v is under way: what it holds now, to be read as long as
 * it is written. Blocks that are overwritten are kept in a file without a name
 * in the cache directory, which is made when the first is. Whoever writes never
 * fails because of that; a moment whose blocks can't be kept gives -EIO. A
 * snapshot that is made does no harm to it; when v is closed, it is lost.
 * -EBUSY: there are LSVD_MOMENTS_MAX. */
int lsvd_moment_take(struct lsvd_volume *v, struct lsvd_moment **ret);
/* Like a request of the volume: not while that is exchanged or closed. NULL is
 * fine. */
void lsvd_moment_drop(struct lsvd_moment *m);
uint64_t lsvd_moment_size(const struct lsvd_moment *m);
/* Both are requests of the volume; see lsvd_pread and lsvd_extents. */
int lsvd_moment_pread(struct lsvd_moment *m, void *to, size_t count,
                      uint64_t offset);
int lsvd_moment_extents(struct lsvd_moment *m, uint64_t count, uint64_t offset,
                        int (*cb)(void *ctx, uint64_t offset, uint64_t count,
                                  bool is_data),
                        void *ctx);

/* One look at the parts, on this thread: are those in use still there, are
 * others back? What is found, the next destage acts on. A thread of lsvd_start
 * does it every second. */
void lsvd_watch(struct lsvd_volume *v);

/* Destage up to a batch now, on this thread. 1: did something; 0: nothing to
 * do. Must not run beside lsvd_start's thread. */
int lsvd_destage_step(struct lsvd_volume *v);

/* Check the next chunk (scrub=, scrub-rate=), if it is time for it, on this
 * thread. 1: did; 0: not yet, or something is more urgent. For who has not
 * started the thread of lsvd_start, which does it by itself. */
int lsvd_scrub_step(struct lsvd_volume *v);

/* ---- information ---- */

enum lsvd_part_state {
    LSVD_PART_OK,      /* in sync: a member of the view */
    LSVD_PART_MISSING, /* directory or label not there */
    LSVD_PART_STALE,   /* a label, but not of the present view */
    LSVD_PART_FOREIGN, /* another volume's or another part's */
    LSVD_PART_REBUILDING, /* replaced, not yet refilled */
    LSVD_PART_ERROR,   /* can't be read */
    LSVD_PART_SYNCING, /* is back; what changed is being copied to it */
    LSVD_PART_DIVERGED, /* has a history of its own: never used */
};
const char *lsvd_part_state_text(enum lsvd_part_state state);

struct lsvd_part_info {
    char letter;
    enum lsvd_part_state state;
    char root[4096]; /* part directory: root/number/letter */
    char instance[37];
    char problem[256]; /* "" or why it is not OK */
};

struct lsvd_counters {
    uint64_t read_bytes, write_bytes, reads, writes, flushes;
    uint64_t journal_bytes, journal_syncs; /* written by us */
    uint64_t part_bytes, part_syncs; /* written to parts, metadata included */
    uint64_t bypass_bytes;  /* of clients, that went past the journal */
    uint64_t bypass_spills; /* chunks that had to go there after all */
    uint64_t bypass_recovered; /* chunks that were found open after a crash */
    uint64_t cache_hits, cache_misses;
    uint64_t bad_blocks, healed_blocks, lost_blocks;
};

#define LSVD_FORCED_MAX 32
#define LSVD_FORCED_BYTES 513

struct lsvd_info {
    char name[65], uuid[37];
    uint32_t number;
    uint64_t size_bytes;
    uint32_t chunk_bytes, block_bytes;
    uint32_t replicas, ec_data, ec_parity;
    bool read_only, append_only;
    bool in_use;        /* another process holds the lock */
    char owner[256];    /* "" or who: "host h, pid 1, since …" */
    bool clean;         /* nothing to replay */
    bool accepted_loss; /* lsvd_force_start, and not verified since */
    uint32_t forced_count;
    char forced[LSVD_FORCED_MAX][LSVD_FORCED_BYTES]; /* "when who: why" */
    char parent[65];         /* "" or the name of its parent, … */
    uint32_t parent_number;  /* … 0: none */
    uint64_t overlap_bytes;  /* of its beginning that the parent shows in */
    char children[1024];     /* "" or names, one behind the other with ", " */
    uint32_t child_count;
    char sources[1024];      /* the same of volumes that it has references to */
    uint32_t source_count;
    uint64_t referenced_bytes; /* of its chunk files, that lie in these */
    uint64_t chunks_present;
    uint64_t epoch, view_minor;
    uint64_t journal_bytes, journal_used_bytes;
    uint32_t part_count;
    struct lsvd_part_info part[20];
    struct lsvd_counters counters; /* of an open volume */
};

/* Of an open volume. */
void lsvd_get_info(struct lsvd_volume *v, struct lsvd_info *ret);

/* Opens nothing for writing and needs no lock; works beside a server. */
int lsvd_info(const struct lsvd_env *env, const char *name,
              struct lsvd_info *ret);

/* Where the journal of a volume is, and with it the control socket of its
 * server. name NULL: of volumes without settings of their own. From env and
 * the configuration file alone: no root is touched, so this works while parts
 * hang. */
#define LSVD_CACHES_MAX 2
struct lsvd_caches {
    uint32_t count;
    char directory[LSVD_CACHES_MAX][4096];
};
int lsvd_caches(const struct lsvd_env *env, const char *name,
                struct lsvd_caches *ret);

/* Which volume a name means, and who has it: asks the roots and the locks of
 * the parts, needs none. -ENOENT: no such volume. */
struct lsvd_location {
    char name[65], uuid[37];
    struct lsvd_caches caches;
    bool in_use;     /* another process holds the lock */
    char owner[256]; /* "" or who */
};
int lsvd_locate(const struct lsvd_env *env, const char *name,
                struct lsvd_location *ret);

/* Who has, or had last, the lock of a part: what it wrote of itself. */
struct lsvd_owner {
    char part;
    bool held;     /* somebody has the lock */
    bool is_known; /* the record can be read; else the rest is empty */
    bool is_here;  /* it was written on this host, since it was started */
    char text[256]; /* as it is written */
    char host[65];
    long pid;
    uint32_t epoch;
    uint64_t heartbeat; /* wall clock seconds, of that host; 0: unknown */
};
#define LSVD_OWNERS_MAX 20
/* Of all parts that can be reached, in order. Needs no lock. */
int lsvd_owners(const struct lsvd_env *env, const char *name,
                struct lsvd_owner *ret, uint32_t *ret_count);

/* fence-cmd of the volume: "" if there is none. */
int lsvd_fence_command(const struct lsvd_env *env, const char *name,
                       char *text, size_t bytes);

/* Take the locks away from a server on another host, of which the caller knows
 * that it can't write any more (how: one line that says why). Its locks stay on
 * files that nobody finds; an epoch above its own is promised on every part, so
 * that it is fenced if it lives after all. An ordinary start may follow.
 * -EALREADY: nobody has the volume; -EBUSY: somebody on this host has, or
 * nobody knows who. Nothing is changed then. how NULL: only looks whether it
 * could be done. */
int lsvd_takeover(const struct lsvd_env *env, const char *name,
                  const char *how);

/* ---- an open volume, seen while it serves; any thread ---- */

/* Bucket i counts what took less than 2^i microseconds and not less than
 * 2^(i-1); the last one everything above. */
#define LSVD_LATENCY_BUCKETS 28
struct lsvd_latency {
    uint64_t count, sum_ns;
    uint64_t bucket[LSVD_LATENCY_BUCKETS];
};

enum lsvd_health {
    LSVD_HEALTHY,  /* every part in sync, nothing missing */
    LSVD_DEGRADED, /* serves; redundancy is reduced */
    LSVD_STALLED,  /* too few parts to destage: writes wait, then get EIO; or
                    * the journal hangs */
    LSVD_READ_ONLY, /* was opened so, or may not be written as it is */
    LSVD_FAILED,   /* the journal is lost: reads only, until a restart */
    LSVD_FENCED,   /* another server may have the volume: nothing is served */
};
const char *lsvd_health_text(enum lsvd_health health);

struct lsvd_part_status {
    char letter;
    enum lsvd_part_state state;
    bool slow;             /* answers much later than it used to */
    bool failing;          /* more than 20 errors in an hour */
    char directory[4096];  /* root/number/letter */
    char instance[37];
    char problem[256];     /* "" or why it is not OK */
    uint64_t lag_chunks, lag_bytes; /* what it lacks; 0 when in sync */
    uint64_t abandoned;    /* operations that have not come back */
    uint64_t errors;       /* operations that failed since the start */
    struct lsvd_latency read, write, sync;
};

struct lsvd_task_status { /* resync, scrub */
    bool active;
    char part;           /* resync: which; 0: none or all */
    uint64_t chunks_done, chunks_total, bytes_done;
    uint64_t copied;     /* resync: chunks written to the part; scrub: files
                          * of chunks that were healed */
    uint64_t seconds;    /* since it began */
};

/* The read cache (cache-size=). */
enum lsvd_read_cache_state {
    LSVD_READ_CACHE_NONE,   /* not configured, or could not be opened */
    LSVD_READ_CACHE_WORKS,
    LSVD_READ_CACHE_RESTS,  /* the parts are as fast (read-cache=auto) */
    LSVD_READ_CACHE_FAILED, /* an error: off until the next start */
};
const char *lsvd_read_cache_text(enum lsvd_read_cache_state state);

struct lsvd_read_cache_status {
    enum lsvd_read_cache_state state;
    char problem[256];           /* of one that failed */
    uint64_t bytes, used_bytes;  /* of blocks that fit, and that are there */
    uint64_t hits, misses;       /* blocks asked for, since the start */
    uint64_t admitted, evicted;  /* blocks */
    uint64_t wrong;  /* blocks found that were not what they should be, and not
                      * served: overwritten since, mostly after a crash */
    uint64_t memory_bytes;       /* of its index */
    uint64_t cache_read_ns, part_read_ns; /* means of small reads; 0: unknown */
};

/* Moments of it that are being read (lsvd_moment_take). */
struct lsvd_now_status {
    uint32_t readers, broken; /* the latter of the former */
    uint64_t kept_bytes;      /* in the cache directory, for the others */
};

struct lsvd_status {
    char name[65], uuid[37];
    enum lsvd_health health;
    bool healthy;            /* health is LSVD_HEALTHY */
    bool writable;
    bool accepted_loss;      /* as in lsvd_info */
    char problem[256];       /* "" or why it is not healthy, one line */
    uint64_t size_bytes;
    uint32_t chunk_bytes;
    uint32_t epoch, view_minor;
    uint64_t uptime_seconds;
    uint64_t journal_bytes, journal_used_bytes;
    uint64_t journal_only_bytes; /* in the journal and not yet on the parts */
    uint64_t dirty_chunks;
    uint32_t journal_copies;        /* that a later start may take */
    uint32_t journal_copies_wanted; /* cache directories */
    bool journal_filling;           /* one is being made anew: */
    uint64_t journal_fill_done, journal_fill_total; /* bytes, about */
    uint64_t journal_copy_losses, journal_copy_returns; /* since the start */
    uint32_t part_count;
    struct lsvd_part_status part[20];
    struct lsvd_task_status resync, scrub;
    uint64_t scrub_last_end; /* wall clock seconds; 0: never finished */
    uint64_t scrub_passes;
    uint64_t scrub_every_seconds; /* a pass is meant to take; 0: no scrub */
    struct lsvd_counters counters;
    struct lsvd_read_cache_status read_cache;
    struct lsvd_now_status now;
    struct lsvd_latency read, write, flush, trim; /* of clients */
    uint64_t views, evictions, returns;     /* since the start */
    uint64_t resynced_chunks, resynced_bytes;
    uint64_t hedged_reads, late_reads;
    uint64_t stalled_requests, stalled_ns;
    uint64_t read_errors, write_errors;     /* that clients got */
};
void lsvd_get_status(struct lsvd_volume *v, struct lsvd_status *ret);

/* What the configuration and the command line say of an open volume, for the
 * program that serves it. metrics: "" or an absolute path. */
struct lsvd_serving {
    char name[65], uuid[37];
    struct lsvd_caches caches;
    char metrics[4096];
};
void lsvd_get_serving(struct lsvd_volume *v, struct lsvd_serving *ret);

/* A change of state: a part dropped, back, in sync; a stall; a heal … */
struct lsvd_event {
    uint64_t id;           /* grows by 1; from 1 */
    uint64_t wall_seconds;
    char part;             /* 0: the volume as a whole */
    const char *kind;      /* one word, see volume/event.h */
    const char *text;      /* one line: cause, and what was done */
};
#define LSVD_EVENTS_MAX 1000 /* kept */
/* Those with an id above `after`, oldest first; a non-zero return of cb stops
 * and is returned. Pointers are valid during the call of cb. */
int lsvd_events(struct lsvd_volume *v, uint64_t after,
                int (*cb)(void *ctx, const struct lsvd_event *event),
                void *ctx);

/* The clients' side of the server is ending: waiting requests get an error,
 * deadlines become short. lsvd_close follows. Any thread, any number of
 * times; does not wait. */
void lsvd_hurry(struct lsvd_volume *v);

/* ---- repair ---- */

struct lsvd_repair_callbacks;
struct lsvd_report;

/* The same as lsvd_verify, lsvd_rebuild, lsvd_replace, lsvd_set on a volume
 * that is open here: for the control socket. They wait for the destage thread
 * to do it, and may be cancelled by the callback. One at a time: -EBUSY. */
int lsvd_live_verify(struct lsvd_volume *v, bool full,
                     const struct lsvd_repair_callbacks *cb,
                     struct lsvd_report *ret);
int lsvd_live_rebuild(struct lsvd_volume *v, char part,
                      const struct lsvd_repair_callbacks *cb,
                      struct lsvd_report *ret);
int lsvd_live_replace(struct lsvd_volume *v, char part, const char *new_root,
                      const struct lsvd_repair_callbacks *cb,
                      struct lsvd_report *ret);
/* On all parts, which must be in sync. What was begun before may still end
 * after it returned. -EROFS: it was opened read-only; that takes a restart. */
int lsvd_live_set(struct lsvd_volume *v, const char *key, const char *value);
/* Grow. When it returns 0 the size is durable with every part in use, and what
 * was added can be read (as zeroes) and written; requests go on all the time. A
 * part that is away learns of it when it is back. -EBUSY: a smaller size, for
 * which the volume must not be served; -EROFS as above. */
int lsvd_live_resize(struct lsvd_volume *v, uint64_t size_bytes);

enum lsvd_chunk_finding {
    LSVD_CHUNK_HEALTHY,
    LSVD_CHUNK_MISSING,   /* the chunk table has it, the part does not */
    LSVD_CHUNK_STALE,     /* valid, but older than it should be */
    LSVD_CHUNK_CORRUPT,   /* fails a check, or is not a plain file */
    LSVD_CHUNK_UNEXPECTED, /* a file the chunk table does not know */
};

struct lsvd_finding {
    char part;      /* letter */
    uint64_t chunk; /* 0: the part as a whole (label, chunk table) */
    enum lsvd_chunk_finding kind;
    const char *file; /* path */
    const char *text; /* one line: what is wrong */
};

struct lsvd_lost_range {
    uint64_t offset, count; /* bytes that can't be read any more */
};

struct lsvd_progress {
    uint64_t chunks_done, chunks_total, bytes_done;
};

struct lsvd_repair_callbacks {
    void (*finding)(void *ctx, const struct lsvd_finding *f);
    void (*lost)(void *ctx, const struct lsvd_lost_range *range);
    /* After a loss was accepted: here the parts do not agree. */
    void (*doubtful)(void *ctx, const struct lsvd_lost_range *range);
    void (*progress)(void *ctx, const struct lsvd_progress *p);
    bool (*cancelled)(void *ctx); /* true: stop soon, -EINTR */
    void *ctx;
};

struct lsvd_part_report {
    char letter;
    enum lsvd_part_state state;
    uint64_t healthy, missing, stale, corrupt, unexpected; /* chunks */
};

struct lsvd_report {
    bool full;        /* every checksum was read */
    bool beside_server;
    bool policy_met;  /* every part holds all it should */
    bool data_lost;
    uint64_t lost_bytes;
    uint64_t rebuilt; /* chunks of parts written back (rebuild) */
    bool journal_given_up; /* force-start: writes after this sequence, */
    uint64_t kept_seq;     /* that no part has, are lost */
    uint32_t part_count;
    struct lsvd_part_report part[20];
};

/* Check a volume. quick: listings and chunk tables alone; full: every
 * checksum, parity against data, parts against each other. Beside a running
 * server it re-reads what looks wrong. Members of cb may be NULL. A return of
 * 0 means that the check ran: the report says what it found. An error, too: its
 * parent is unknown, or not read-only any more. */
int lsvd_verify(const struct lsvd_env *env, const char *name, bool full,
                const struct lsvd_repair_callbacks *cb,
                struct lsvd_report *ret);

/* Write back what is missing, stale or corrupt. part 0: all parts. dry_run:
 * only say what would be done. Needs the lock (-EBUSY names the owner). */
int lsvd_rebuild(const struct lsvd_env *env, const char *name, char part,
                 bool dry_run, const struct lsvd_repair_callbacks *cb,
                 struct lsvd_report *ret);

/* Make a new, empty instance of a part (in new_root, or where it was) and
 * refill it. Refused while the old part is healthy (unless new_root is
 * another place), or when the rest can't supply its data. */
int lsvd_replace(const struct lsvd_env *env, const char *name, char part,
                 const char *new_root,
                 const struct lsvd_repair_callbacks *cb,
                 struct lsvd_report *ret);

/* Start anew without what can't be had: the journal is missing or damaged, or
 * too few parts are there to prove that nothing newer exists, and nobody will
 * find any of it again. Ends with the volume closed: a new epoch; parts that
 * are not there are dropped; the journal, if it can't be used, is detached and
 * what is left of its file renamed; all was verified, what is doubtful was
 * told and made alike on all parts. Who (a user's name) and why (a line of
 * text) are kept in the policy for ever. -EINVAL: no reason; -EALREADY: it
 * starts without this. Nothing is changed then. -EINTR: begun, but not
 * verified. */
int lsvd_force_start(const struct lsvd_env *env, const char *name,
                     const char *user, const char *reason,
                     const struct lsvd_repair_callbacks *cb,
                     struct lsvd_report *ret);

#endif
