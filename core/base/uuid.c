/* uuid.c: text form of identities. */
#include "base/uuid.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

/* Is there a dash before byte i? 8-4-4-4-12 */
static bool
dash_before(size_t i)
{
    return i == 4 || i == 6 || i == 8 || i == 10;
}

void
uuid_format(const struct uuid *uuid, char *text)
{
    for (size_t i = 0; i < sizeof uuid->b; i++) {
        if (dash_before(i))
            *text++ = '-';
        *text++ = digits[uuid->b[i] >> 4];
        *text++ = digits[uuid->b[i] & 15];
    }
    *text = '\0';
}

/* Value of a lower-case hex digit, or 16. */
static unsigned
digit_value(char c)
{
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (unsigned)(at - digits) : 16;
}

int
uuid_parse(const char *text, struct uuid *ret)
{
    struct uuid uuid;

    for (size_t i = 0; i < sizeof uuid.b; i++) {
        unsigned high, low;

        if (dash_before(i) && *text++ != '-')
            return -EINVAL;
        high = digit_value(text[0]);
        if (high > 15) /* also the end: text[1] is not read behind it */
            return -EINVAL;
        low = digit_value(text[1]);
        if (low > 15)
            return -EINVAL;
        uuid.b[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return -EINVAL;
    *ret = uuid;
    return 0;
}

bool
uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool
uuid_is_zero(const struct uuid *uuid)
{
    static const struct uuid zero;

    return uuid_equal(uuid, &zero);
}
