/* sum.c: the only user of xxHash. XXH3's result does not depend on the byte
 * order or the vector unit of the machine. */
#include "base/sum.h"

#include "base/bytes.h"
#include <assert.h>
#include <string.h>
#include <xxhash.h>

uint64_t
sum_seed(const struct uuid *volume, uint64_t chunk, uint64_t cell)
{
    uint8_t place[sizeof volume->b + 8 + 8];

    memcpy(place, volume->b, sizeof volume->b);
    put_le64(place + 16, chunk);
    put_le64(place + 24, cell);
    return XXH3_64bits(place, sizeof place);
}

uint64_t
sum_block(uint64_t seed, const void *data, size_t bytes)
{
    uint64_t sum = XXH3_64bits_withSeed(data, bytes, seed);

    return sum_has_bytes(sum) ? sum : 1;
}

uint64_t
sum_bytes(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

void
sum_wide(const void *data, size_t bytes, uint64_t *ret_high,
         uint64_t *ret_low)
{
    XXH128_hash_t hash = XXH3_128bits(data, bytes);

    *ret_high = hash.high64;
    *ret_low = hash.low64;
}

bool
sum_all_zero(const void *data, size_t bytes)
{
    const uint8_t *p = data;

    /* All are zero if the first is, and each equals the one before it. */
    if (bytes == 0)
        return true;
    return p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}
