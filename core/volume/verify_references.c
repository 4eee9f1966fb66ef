/* verify_references.c: is the reference file of a chunk on every part as it
 * should be, and does each reference lead to what it is said to? */
#include "base/err.h"
#include "base/memory.h"
#include "volume/refer.h"
#include "volume/verify.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BLOCKS 64u

static void
check_file(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
           struct chunk_check *check)
{
    switch (references_check(v, c, slot)) {
    case 0:
        break;
    case -ENOENT:
        chunk_check_set(check, slot, LSVD_CHUNK_MISSING,
                        "its reference file is missing");
        break;
    case -ESTALE:
        chunk_check_set(check, slot, LSVD_CHUNK_STALE,
                        "its reference file is not as the others'");
        break;
    default:
        chunk_check_set(check, slot, LSVD_CHUNK_CORRUPT,
                        "its reference file is damaged, or can't be read");
        break;
    }
}

static void
note_lost(struct chunk_check *check, uint32_t block)
{
    if (check->lost_count < check->lost_max)
        check->lost[check->lost_count++] = block;
}

/* Are these blocks, all of them references, what they lead to? */
static int
check_run(struct lsvd_volume *v, struct chunk *c, uint32_t block,
          uint32_t count, uint8_t *bytes, struct chunk_check *check)
{
    uint64_t at = geometry_first_block(&v->g, c->number) + block;
    struct reference reference[RUN_BLOCKS];
    uint8_t said[RUN_BLOCKS];
    int r;

    memset(said, SAID_REFERENCE, count);
    r = refer_look(v, c, block, count, said, reference);
    if (r == 0)
        r = refer_fetch(v, at, count, reference, bytes);
    if (r == 0 || r == -ENOMEM)
        return r;
    if (count == 1) {
        log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
        note_lost(check, block);
        return 0;
    }
    for (uint32_t i = 0; i < count && r != -ENOMEM; i++)
        r = check_run(v, c, block + i, 1, bytes, check);
    return r == -ENOMEM ? r : 0;
}

/* Is it one, with nothing newer in the journal? */
static bool
is_to_be_checked(struct lsvd_volume *v, struct chunk *c, uint32_t block)
{
    uint64_t at = geometry_first_block(&v->g, c->number) + block;
    uint8_t have = 0;

    if (v->journal)
        journal_lookup(v->journal, at, 1, &have);
    return have == 0 && refer_cell_says_so(v, c, block);
}

static int
check_blocks(struct lsvd_volume *v, struct chunk *c, uint8_t *bytes,
             struct chunk_check *check)
{
    uint32_t count = geometry_blocks_in(&v->g, c->number);
    int r = 0;

    for (uint32_t at = 0, run; at < count && r == 0; at += run ? run : 1) {
        for (run = 0; at + run < count && run < RUN_BLOCKS &&
                      is_to_be_checked(v, c, at + run);
             run++)
            ;
        if (run > 0)
            r = check_run(v, c, at, run, bytes, check);
    }
    return r;
}

int
chunk_check_references(struct lsvd_volume *v, struct chunk *c,
                       struct chunk_check *check)
{
    uint8_t *bytes;
    int r;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->usable & UINT32_C(1) << i)
            check_file(v, c, i, check);
    }
    r = mem_new_aligned((size_t)RUN_BLOCKS * v->g.block_bytes, &bytes);
    if (r < 0)
        return r;
    r = check_blocks(v, c, bytes, check);
    free(bytes);
    return r;
}
