/* verify_references.c: is the reference file of a chunk on every part as it
 * should be, and does each reference lead to what it is said to? */
#include "base/err.h"
#include "base/memory.h"
#include "volume/refer.h"
#include "volume/verify.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int
check_block(struct lsvd_volume *v, struct chunk *c, uint32_t block,
            uint8_t *bytes, struct chunk_check *check)
{
    uint64_t at = geometry_first_block(&v->g, c->number) + block;
    const uint8_t said = SAID_REFERENCE;
    struct reference reference;
    uint8_t have = 0;
    int r;

    if (v->journal)
        journal_lookup(v->journal, at, 1, &have);
    if (have != 0 || !refer_cell_says_so(v, c, block))
        return 0;
    r = refer_look(v, c, block, 1, &said, &reference);
    if (r == 0)
        r = refer_fetch(v, at, 1, &reference, bytes);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        log_event(&v->log, LOG_WARNING_LEVEL, "%s", err_text());
        note_lost(check, block);
    }
    return 0;
}

int
chunk_check_references(struct lsvd_volume *v, struct chunk *c,
                       struct chunk_check *check)
{
    uint32_t count = geometry_blocks_in(&v->g, c->number);
    uint8_t *bytes;
    int r = mem_new_aligned(v->g.block_bytes, &bytes);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (v->usable & UINT32_C(1) << i)
            check_file(v, c, i, check);
    }
    for (uint32_t i = 0; i < count && r == 0; i++)
        r = check_block(v, c, i, bytes, check);
    free(bytes);
    return r;
}
