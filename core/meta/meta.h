/* meta.h: the policy of a volume (.meta) and the names under a root
 * (.volumesmeta): text for people, checked and replaced as a whole.
 *
 * Both are GLib key files (sections, key = value, # comments) whose last line
 * is "checksum = <16 hex digits>": XXH3-64 of every byte before that line.
 * A copy of .meta lies in every root's directory of the volume
 * (<root>/11/.meta) and in every part's (<root>/11/a/.meta). The valid copy
 * with the greatest generation wins; volume/ brings the others up to date.
 * A .volumesmeta can be rebuilt from the .meta files below it.
 *
 * Parsers take hostile bytes: an error, never a crash, and nothing allocated
 * beyond a small multiple of the input. Not thread-safe on one struct. */
#ifndef LSVD_META_META_H
#define LSVD_META_META_H

#include "base/limits.h"
#include "base/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define META_NAME ".meta"
#define REGISTRY_NAME ".volumesmeta"
#define META_BYTES_MAX (256u << 10)
#define REGISTRY_BYTES_MAX (16u << 20)

/* Features that this version knows; see docs/format.md. */
#define META_INCOMPAT_PARENT UINT64_C(1) /* has a parent */
#define META_INCOMPAT_SNAPSHOT UINT64_C(2) /* is one: has a successor */
#define META_INCOMPAT_SOURCES UINT64_C(4) /* has references, into sources */
#define META_INCOMPAT_KNOWN (META_INCOMPAT_PARENT | META_INCOMPAT_SNAPSHOT | \
                             META_INCOMPAT_SOURCES)
#define META_RO_COMPAT_KNOWN UINT64_C(0)

/* Losses that were accepted (lsvd-repair force-start): kept for ever. */
#define META_FORCED_MAX 32
#define META_FORCED_BYTES_MAX 512

#define META_SOURCES_MAX 64

/* A volume that references name by its number alone (chunk/references.h). */
struct meta_source {
    uint32_t number;
    struct uuid uuid;
};

struct meta_part {
    struct uuid instance; /* which label belongs here */
    char *root;           /* absolute path; owned */
};

struct volume_meta {
    uint64_t generation; /* grows with every change */
    uint64_t incompat, ro_compat, compat; /* feature masks */
    char name[VOLUME_NAME_BYTES_MAX + 1];
    uint32_t number;
    struct uuid uuid;
    uint64_t size_bytes;
    uint32_t chunk_bytes, block_bytes;
    uint32_t replicas;                 /* 1 … 8; 0 with EC */
    uint32_t ec_data, ec_parity;       /* K, M; 0 with replicas */
    bool read_only, append_only;
    bool removing;      /* lsvd remove has begun; only remove may go on */
    uint32_t parent;    /* number of the volume that has what this one lacks;
                         * 0: none, and the next two mean nothing */
    struct uuid parent_uuid;
    uint64_t overlap_bytes; /* of its beginning, at most; 0 … size_bytes */
    uint32_t successor; /* a snapshot: number of the volume that has had its
                         * name since; 0: none, and the next two mean nothing */
    struct uuid successor_uuid;
    uint64_t frozen_at; /* when, seconds of the wall clock */
    uint32_t frozen_epoch, frozen_minor; /* no part of an older view has it all
                                          */
    struct uuid source_uuid; /* the snapshot of another volume that it is a copy
                              * of, by an import; zero: of none */
    char renamed[VOLUME_NAME_BYTES_MAX + 1]; /* in memory alone: what copies are
                                              * stored with, while threads read
                                              * the name; "": that */
    uint32_t due_from; /* in memory alone: name and generation are ahead of what
                        * any copy says, because this one, of this UUID, names
                        * it as its successor; 0: they are not */
    struct uuid due_from_uuid;
    uint32_t source_count;
    struct meta_source source[META_SOURCES_MAX]; /* in the order in which they
                                                  * came */
    uint64_t journal_bytes;
    uint32_t part_count; /* replicas or K + M */
    struct meta_part part[PARTS_MAX]; /* part[0] is a */
    uint32_t forced_count;
    char *forced[META_FORCED_MAX]; /* a line each, oldest first; owned */
    bool accepted_loss; /* of the last one: not yet verified */
};

/* Free what the struct owns and zero it. */
void meta_done(struct volume_meta *meta);

int meta_copy(const struct volume_meta *from, struct volume_meta *ret);

/* -EBADMSG: damaged; -EPROTO: format or incompatible feature of the future
 * (text says which). On success every field is within limits.h and passes
 * meta_check; *ret is filled only on success. Unknown keys are ignored;
 * unknown ro_compat bits make read_only true in *ret. */
int meta_parse(const uint8_t *bytes, size_t count, struct volume_meta *ret);

/* *ret is malloc'ed text with its checksum line. -EINVAL: does not pass
 * meta_check; -EROFS: has features of the future (a copy is made by copying
 * the bytes). */
int meta_format(const struct volume_meta *meta, char **ret, size_t *ret_bytes);

/* The name that copies are stored with. */
static inline const char *
meta_stored_name(const struct volume_meta *meta)
{
    return meta->renamed[0] ? meta->renamed : meta->name;
}

/* Judge values of a user or a file: names, sizes, ranges, powers of two,
 * part counts, absolute roots. -EINVAL, text names the value and the range. */
int meta_check(const struct volume_meta *meta);

/* Add a line to the history. -EINVAL: not a line of text, or too long; -ENOSPC:
 * there are META_FORCED_MAX. */
int meta_add_forced(struct volume_meta *meta, const char *line);

/* Does it need that other volume: as its parent, or as a source? */
bool meta_needs(const struct volume_meta *meta, uint32_t number,
                const struct uuid *uuid);
/* Is that one of its sources? */
bool meta_has_source(const struct volume_meta *meta, uint32_t number,
                     const struct uuid *uuid);

/* Add a source, if it is none yet. -ENOSPC: there are META_SOURCES_MAX. */
int meta_add_source(struct volume_meta *meta, uint32_t number,
                    const struct uuid *uuid);
void meta_remove_source(struct volume_meta *meta, uint32_t number);

/* A name matches [A-Za-z0-9][A-Za-z0-9._-]* and has at most 64 bytes; that of a
 * snapshot is the volume's, '@' and another such. -EINVAL with a text that is
 * safe to print whatever the name holds. */
int meta_check_name(const char *name);

/* That of the volume of which it is a snapshot, or the name itself. */
void meta_base_name(const char *name, char ret[VOLUME_NAME_BYTES_MAX + 1]);

static inline bool
meta_is_snapshot_name(const char *name)
{
    return strchr(name, '@') != NULL;
}

/* Of a successor that is being made, and is nothing yet: volume@+number. No
 * user can give such a name. -EINVAL: the volume's is too long for it. */
int meta_unborn_name(const char *base, uint32_t number,
                     char ret[VOLUME_NAME_BYTES_MAX + 1]);
bool meta_is_unborn_name(const char *name);

struct registry_entry {
    char name[VOLUME_NAME_BYTES_MAX + 1];
    uint32_t number;
    struct uuid uuid;
};

struct registry {
    uint64_t generation;
    uint64_t ro_compat, compat; /* feature masks, kept as they were read */
    size_t count;
    struct registry_entry *entry; /* owned; in order of number */
    char unknown[256]; /* "", or why it can't be told what else belongs in it */
};

void registry_done(struct registry *registry);
/* -EBADMSG, -EPROTO as meta_parse. */
int registry_parse(const uint8_t *bytes, size_t count, struct registry *ret);
/* -EROFS: has read-only-compatible features of the future. */
int registry_format(const struct registry *registry, char **ret,
                    size_t *ret_bytes);

/* NULL if there is none. */
const struct registry_entry *registry_find(const struct registry *registry,
                                           const char *name);

/* Add, or replace the entry of the same number. -EEXIST if the name is taken
 * by another number. */
int registry_add(struct registry *registry, const struct registry_entry *e);

/* False if there was none of that number. */
bool registry_remove(struct registry *registry, uint32_t number);

#endif
