/* simtree.h: the inside of the simulated world: inodes, names, handles. Only
 * simio.c (life and death), simtarget.c (calls) and simtree.c include it. */
#ifndef LSVD_SIM_SIMTREE_H
#define LSVD_SIM_SIMTREE_H

#include "simio.h"

#define SIM_NAME_BYTES 80

struct sim_lock {
    const void *owner; /* the handle */
    uint64_t at, end;
    bool exclusive;
};

struct sim_name {
    char text[SIM_NAME_BYTES];
    struct sim_inode *inode; /* holds a reference */
};

struct sim_names {
    struct sim_name *name;
    size_t count, room;
};

enum sim_name_kind { SIM_NAME_CREATE, SIM_NAME_REMOVE, SIM_NAME_RENAME };

struct sim_name_op {
    enum sim_name_kind kind;
    uint64_t serial;
    char from[SIM_NAME_BYTES], to[SIM_NAME_BYTES]; /* to: RENAME only */
    struct sim_inode *inode; /* holds a reference */
};

struct sim_inode {
    unsigned refs;
    bool is_dir;
    struct sim_inode *twin; /* while cloning: the copy */
    struct sim_file file;
    struct sim_lock *lock;
    size_t lock_count, lock_room;
    struct sim_names now, medium; /* directories */
    struct sim_name_op *pending;
    size_t pending_count, pending_room;
    bool hidden;
};

struct simio {
    struct io io; /* first: it is what the engine holds */
    struct prng prng;
    struct sim_inode *root;
    uint64_t serial, now_ns, read_ns;
    uint64_t cut_at_step, fail_at_call;
    uint64_t steps_after_failure; /* to the halt; 0: none */
    int fail_code;
    bool halted, failed, full;
    struct sim_sick {
        char path[64];
        int code;
    } sick[SIM_SICK_MAX];
    size_t sick_count;
    enum sim_call failed_kind;
    size_t handles;
    unsigned bugs;
    uint64_t table_bytes;
    void (*hook)(void *ctx, enum sim_call kind);
    void *hook_ctx;
    void (*witness)(void *ctx, const struct sim_seen *seen);
    void *witness_ctx;
    struct simio_stats stats;
    FILE *trace;
};

struct sim_inode *sim_inode_new(bool is_dir);
struct sim_inode *sim_inode_get(struct sim_inode *inode);
void sim_inode_put(struct sim_inode *inode);

struct sim_inode *sim_names_find(const struct sim_names *names,
                                 const char *text);

/* Change what is seen now, and note it as pending. */
void sim_dir_create(struct sim_inode *dir, uint64_t serial, const char *name,
                    struct sim_inode *inode);
void sim_dir_remove(struct sim_inode *dir, uint64_t serial, const char *name);
void sim_dir_rename(struct sim_inode *dir, uint64_t serial, const char *from,
                    const char *to);
void sim_dir_sync(struct sim_inode *dir);
/* Now and on the medium, at once. */
void sim_dir_replace(struct sim_inode *dir, const char *name,
                     struct sim_inode *inode);

/* Names first, then the content of what is left: all of the tree. */
void sim_tree_power_cut(struct sim_inode *root, const struct sim_cut *cut);
void sim_tree_sync(struct sim_inode *root);
void sim_tree_forget_locks(struct sim_inode *root);
struct sim_inode *sim_tree_clone(struct sim_inode *root);

/* By absolute path; NULL if it is not there or hidden (unless see_hidden). */
struct sim_inode *sim_tree_find(struct sim_inode *root, const char *path,
                                bool see_hidden);

/* simtarget.c */
int sim_target_new(struct simio *s, struct sim_inode *dir, const char *path,
                   struct target **ret);

enum sim_verdict {
    SIM_GO,
    SIM_REFUSE, /* no effect, *ret_code */
    SIM_TEAR,   /* some effect, then *ret_code */
};

/* Every call begins here: counts it, and decides what happens to it. */
enum sim_verdict sim_judge(struct simio *s, enum sim_call kind, bool is_step,
                           const char *dir, const char *name, int *ret_code);

/* How an unwilling medium treats what it was asked to keep. */
struct sim_cut sim_random_cut(struct simio *s);

#endif
