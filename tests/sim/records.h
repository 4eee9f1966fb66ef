/* records.h: what labels and the journal's superblock say, read in the world
 * behind the engine's back. */
#ifndef LSVD_SIM_RECORDS_H
#define LSVD_SIM_RECORDS_H

#include "journal/journal.h"
#include "life.h"
#include "meta/label.h"

struct records {
    bool has_label[LIFE_DIRS_MAX]; /* by directory, as l->dir */
    struct label label[LIFE_DIRS_MAX];
    bool has_super;
    struct journal_super super;
};

/* durable: what is on the media. False: none that is valid. */
bool records_label(struct life *l, const char *dir, bool durable,
                   struct label *ret);
bool records_super(struct life *l, bool durable, struct journal_super *ret);
/* The journal of this superblock has held a record: what it proves (R3). */
bool records_held(struct life *l, const struct journal_super *super);
/* Of the directories of the mask, hidden or not, and the journal. */
void records_read(struct life *l, uint32_t dirs, bool durable,
                  struct records *ret);
/* The directory of this instance, or -1. */
int records_find(const struct records *all, const struct uuid *instance);
/* The greatest view in these labels and in the journal that it names. NULL:
 * no label. *ret_journal: the journal that it names is there. */
const struct view *records_newest(const struct records *all,
                                  bool *ret_journal);

#endif
