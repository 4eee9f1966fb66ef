/* find.h: which volume is meant by a name, or by a number, and its policy.
 *
 * (FI1) The valid copy of the policy with the greatest generation counts, of
 *       all that are in sight; also for the question what the volume is called.
 *       A registry may lag behind: who has lost its name to another volume
 *       says so, by its successor.
 * (FI2) A volume that is yet unborn (meta.h) gets the name of the one that it
 *       is to succeed at the moment when that one's policy names it, before it
 *       says so itself.
 * (FI3) The newest copy in sight may be in memory alone, where a process was
 *       killed while it stored it: a power cut brings an older one back. Who
 *       destroys something for what a policy says finds it settled: the copies
 *       that count were synced before they are told. */
#ifndef LSVD_VOLUME_FIND_H
#define LSVD_VOLUME_FIND_H

#include "volume/volume.h"

/* Copies that are damaged, missing or old. */
struct metadata_problems {
    struct metadata_problem *problem; /* the caller's */
    size_t max, count;
};

/* The newest valid policy of a volume by name. problems may be NULL. -ENOENT:
 * unknown volume; -EEXIST: two of that name. */
int volume_find(struct io *io, const struct logger *log,
                const struct config *config, const char *name,
                struct volume_meta *ret, struct metadata_problems *problems);

/* The same, settled (FI3). */
int volume_find_settled(struct io *io, const struct logger *log,
                        const struct config *config, const char *name,
                        struct volume_meta *ret);

/* Has a volume this name, as far as registries lead to it? */
bool volume_has_name(struct io *io, const struct logger *log,
                     const struct config *config, const char *name);

/* The same of one of which number and UUID are known; also under the roots of
 * the parts of `of` (may be NULL). */
int volume_find_number(struct io *io, const struct logger *log,
                       const struct config *config,
                       const struct volume_meta *of, uint32_t number,
                       const struct uuid *uuid, struct volume_meta *ret,
                       struct metadata_problems *problems);

/* The same, settled. */
int volume_find_number_settled(struct io *io, const struct logger *log,
                               const struct config *config,
                               const struct volume_meta *of, uint32_t number,
                               const struct uuid *uuid,
                               struct volume_meta *ret);

/* The policies of all volumes that registries of these roots, and of those of
 * the parts of `of`, lead to: each volume once, as its newest copy has it
 * (FI1), for a root that was away while a clone was flattened does not know it;
 * settled, if that is asked for.
 * An error: of one of them it can't be told what it is; roots that are not
 * there are passed over. A non-zero return of cb stops and is returned. */
int volume_each_policy(struct io *io, const struct logger *log,
                       const struct config *config,
                       const struct volume_meta *of, bool settled,
                       int (*cb)(void *ctx, const struct volume_meta *meta),
                       void *ctx);

#endif
