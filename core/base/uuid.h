/* uuid.h: 16-byte identities of volumes, part instances and journals. */
#ifndef LSVD_BASE_UUID_H
#define LSVD_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_BYTES 37 /* 36 characters and the final zero */

struct uuid {
    uint8_t b[16]; /* in the order of the text form */
};

/* text must have room for UUID_TEXT_BYTES. Lower case, 8-4-4-4-12. */
void uuid_format(const struct uuid *uuid, char *text);

/* Accepts exactly what uuid_format writes. -EINVAL otherwise (no text set). */
int uuid_parse(const char *text, struct uuid *ret);

bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_zero(const struct uuid *uuid);

#endif
