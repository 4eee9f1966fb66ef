/* mark.c: which chunks' writes go past the journal (J9): one mark for each,
 * live in the segment of its record, so that the tail does not pass it. */
#include "journal/state.h"

#include "base/memory.h"
#include <assert.h>

int
mark_reserve_locked(struct journal *j)
{
    int r = mem_grow(j->bypass_count + j->bypass_reserved + 1,
                     sizeof *j->bypass, &j->bypass_room, &j->bypass);

    if (r == 0)
        j->bypass_reserved++;
    return r;
}

struct bypass_mark *
mark_find_locked(struct journal *j, uint64_t chunk)
{
    for (size_t i = 0; i < j->bypass_count; i++) {
        if (j->bypass[i].chunk == chunk)
            return &j->bypass[i];
    }
    return NULL;
}

static void
drop_locked(struct journal *j, struct bypass_mark *mark)
{
    assert(j->segments[mark->segment].live > 0);
    j->segments[mark->segment].live--;
    j->held_bytes -= mark->held_bytes;
    index_unreserve(&j->index, mark->entries, mark->nodes);
    *mark = j->bypass[--j->bypass_count];
}

void
mark_put_locked(struct journal *j, const struct bypass_mark *mark)
{
    struct bypass_mark *old = mark_find_locked(j, mark->chunk);

    if (old)
        drop_locked(j, old);
    assert(j->bypass_reserved > 0);
    j->bypass_reserved--;
    j->bypass[j->bypass_count++] = *mark;
    j->segments[mark->segment].live++;
}

void
mark_use_locked(struct journal *j, struct bypass_mark *mark, uint64_t bytes)
{
    assert(bytes <= mark->held_bytes);
    mark->held_bytes -= bytes;
    j->held_bytes -= bytes;
}

/* Each block with a record of its own, both when it is told of and when it is
 * appended; and the end of the ring may have to be padded, once, as it can't be
 * gone round while the mark is there. */
uint64_t
mark_hold(const struct journal *j)
{
    uint64_t record = JOURNAL_ALIGN_BYTES + round_up_512(j->block_bytes);

    return j->index.chunk_blocks * (record + JOURNAL_ALIGN_BYTES) +
           journal_payload_max(j) + RECORD_HEADER_BYTES_MAX;
}

size_t
journal_bypass_max(const struct journal *j)
{
    return (size_t)(j->ring_bytes / HOLD_PART / mark_hold(j));
}

uint64_t
mark_least_locked(const struct journal *j)
{
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < j->bypass_count; i++) {
        if (j->bypass[i].seq < least)
            least = j->bypass[i].seq;
    }
    return least;
}

uint32_t
journal_bypassed_max(uint32_t of, uint32_t more)
{
    return RECORD_SUMS_MAX / (of + more) * of;
}

void
journal_forget_bypass(struct journal *j, uint64_t chunk, uint64_t seq)
{
    struct bypass_mark *mark;

    pthread_mutex_lock(&j->lock);
    mark = mark_find_locked(j, chunk);
    if (mark && mark->seq == seq)
        drop_locked(j, mark);
    pthread_mutex_unlock(&j->lock);
}
