/* label.h: the self-checked record on each part that says which part of which
 * volume it is and how far it is (faults.md 2.2). Object ".label" of the part:
 * two slots of 4 KiB, written alternately (slot = write_count % 2), never
 * renamed; the valid slot with the greater write_count is the label. */
#ifndef LSVD_META_LABEL_H
#define LSVD_META_LABEL_H

#include "meta/view.h"
#include "target/target.h"

#define LABEL_NAME ".label"
#define LABEL_SLOT_BYTES 4096

enum label_state {
    LABEL_INIT = 1, /* being created or refilled: holds nothing usable yet */
    LABEL_LIVE = 2,
};

struct label {
    uint64_t incompat, ro_compat, compat; /* feature masks, as in .meta */
    struct uuid volume, instance;
    uint64_t geometry; /* geometry_hash(): sizes and redundancy agree */
    uint32_t slot;     /* 0 = part a */
    uint32_t state;    /* enum label_state */
    bool clean;        /* closed with everything destaged */
    uint64_t write_count;
    uint32_t promised; /* epoch claimed for the next view (rule R4) */
    uint64_t ckpt;     /* every record <= this is durable in this part */
    uint64_t table_generation; /* of the chunk table at that checkpoint */
    uint64_t written_at; /* wall clock seconds; for messages only */
    char host[64];       /* who wrote it; for messages only */
    struct view view;
    bool durable; /* not stored: this process has synced it */
};

/* bytes: LABEL_SLOT_BYTES, ended by its own checksum. */
void label_encode(const struct label *label, uint8_t *bytes);
/* -EBADMSG: damaged or no label; -EPROTO: from the future. */
int label_decode(const uint8_t *bytes, struct label *ret);

/* Load the newest valid slot. -ENOENT: no .label at all (text asks whether
 * the file system is mounted); -EBADMSG: no valid slot; -EPROTO; -EIO and
 * others: a slot can't be read, and whether it is the newest (LA3).
 * *ret_damaged_slots counts slots that were written once (not all zero) and
 * do not pass. */
int label_load(struct target *part, struct label *ret,
               int *ret_damaged_slots);
/* The same, from the medium or the file server, not from the page cache: who
 * was cut off from them must not take what it knows for what is there. */
int label_load_fresh(struct target *part, struct label *ret,
                     int *ret_damaged_slots);

/* What was loaded may be in memory only, if its writer was killed: make it
 * durable. */
int label_sync(struct target *part, struct label *label);

/* Raise label->write_count, write the slot it names, sync the object. The
 * first store (write_count 0) makes the object (and the caller syncs the
 * directory); an older label of the same part of the same volume, or a damaged
 * one, is removed for it (its greater count would win). -EEXIST: the directory
 * holds another part. On error write_count is as before, so that a retry
 * writes the same slot again and never the last good one. */
int label_store(struct target *part, struct label *label);

#endif
