/* limits.h: every named limit, and how they relate. */
#ifndef LSVD_BASE_LIMITS_H
#define LSVD_BASE_LIMITS_H

#include <assert.h>
#include <stdint.h>

#define VOLUME_BYTES_MAX (UINT64_C(1) << 53)
#define VOLUME_NAME_BYTES_MAX 64 /* without the final zero */
#define BLOCK_BYTES_MIN 512u
#define BLOCK_BYTES_MAX 65536u
#define BLOCK_BYTES_DEFAULT 4096u
#define CHUNK_BYTES_MIN (256u << 10)
#define CHUNK_BYTES_MAX (64u << 20)
#define CHUNK_BYTES_DEFAULT (4u << 20)
#define CHUNK_COUNT_MAX UINT32_MAX /* chunk numbers are 1 … this */
#define REPLICAS_MAX 8
#define EC_DATA_MIN 2
#define EC_DATA_MAX 16
#define EC_PARITY_MAX 4
#define PARTS_MAX (EC_DATA_MAX + EC_PARITY_MAX)
#define VIEW_HISTORY_MAX 64
#define PATH_TEXT_MAX 4096
#define JOURNAL_BYTES_MIN (1u << 20) /* by configuration */
#define JOURNAL_MIRRORS_MAX 2
#define VOLUME_NUMBER_FIRST 11
#define VOLUME_NUMBER_MAX 65535 /* two bytes in a block reference */
#define FORMAT_VERSION 1

static_assert(PARTS_MAX >= REPLICAS_MAX, "one slot a replica");
static_assert(PARTS_MAX <= 26, "parts are named a … z");

#endif
