/* seq.h: the write sequence: 64 bits, the epoch in the upper 20, a counter in
 * the lower 44, compared as one integer. Every start for writing takes a new
 * epoch, so a sequence is never used twice even when the tail of the journal
 * was lost. 2^20 starts, 2^44 writes a start. */
#ifndef LSVD_BASE_SEQ_H
#define LSVD_BASE_SEQ_H

#include <stdint.h>

#define SEQ_COUNTER_BITS 44
#define SEQ_EPOCH_MAX ((UINT32_C(1) << 20) - 1)

static inline uint64_t
seq_make(uint32_t epoch, uint64_t counter)
{
    return (uint64_t)epoch << SEQ_COUNTER_BITS | counter;
}

static inline uint32_t
seq_epoch(uint64_t seq)
{
    return (uint32_t)(seq >> SEQ_COUNTER_BITS);
}

#endif
