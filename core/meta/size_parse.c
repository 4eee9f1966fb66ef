/* size_parse.c: sizes as people write them. */
#include "meta/config.h"

#include "base/err.h"
#include "meta/keyfile.h"
#include <stdbool.h>
#include <string.h>

/* More digits than this behind the point never make a whole number of bytes
 * that anybody means, and would not fit below. */
#define FRACTION_DIGITS_MAX 18

struct fraction {
    uint64_t numerator, denominator; /* denominator is a power of ten */
};

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits at *text; false if there are none or too many. */
static bool
parse_whole(const char **text, uint64_t *ret)
{
    uint64_t n = 0;

    if (!is_digit(**text))
        return false;
    for (; is_digit(**text); (*text)++)
        if (__builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(**text - '0'), &n))
            return false;
    *ret = n;
    return true;
}

static bool
parse_fraction(const char **text, struct fraction *ret)
{
    const char *end = *text;
    const char *last;

    while (is_digit(*end))
        end++;
    if (end == *text)
        return false;
    for (last = end; last > *text && last[-1] == '0'; last--)
        ; /* zeroes at the end say nothing */
    if (last - *text > FRACTION_DIGITS_MAX)
        return false;
    ret->numerator = 0;
    ret->denominator = 1;
    for (const char *c = *text; c < last; c++) {
        ret->numerator = ret->numerator * 10 + (uint64_t)(*c - '0');
        ret->denominator *= 10;
    }
    *text = end;
    return true;
}

/* The unit of a suffix, or 0. */
static uint64_t
unit_of(char suffix)
{
    static const char units[] = "kmgtpe";
    const char *at;
    char lower = suffix >= 'A' && suffix <= 'Z' ? (char)(suffix | 32) : suffix;

    if (suffix == '\0' || lower == 'b')
        return 1;
    if (lower == 's')
        return 512;
    at = strchr(units, lower);
    return at != NULL ? UINT64_C(1) << 10 * (at - units + 1) : 0;
}

int
size_parse(const char *text, uint64_t *ret)
{
    struct fraction f = { .numerator = 0, .denominator = 1 };
    char safe[KEYFILE_SAFE_BYTES];
    const char *at = text;
    unsigned __int128 bytes, part;
    uint64_t whole, unit;

    keyfile_safe(text, safe);
    if (!parse_whole(&at, &whole))
        return err_set(-EINVAL, "size \"%s\": not a number, or too large",
                       safe);
    if (*at == '.') {
        at++;
        if (!parse_fraction(&at, &f))
            return err_set(-EINVAL, "size \"%s\": not a number", safe);
    }
    unit = unit_of(*at);
    if (unit == 0 || (*at != '\0' && at[1] != '\0'))
        return err_set(-EINVAL, "size \"%s\": unknown suffix (K, M, G, T, P, "
                       "E, b, s)", safe);
    part = (unsigned __int128)f.numerator * unit; /* < 10^18 * 2^60 */
    if (part % f.denominator != 0)
        return err_set(-EINVAL, "size \"%s\": not a whole number of bytes",
                       safe);
    bytes = (unsigned __int128)whole * unit + part / f.denominator;
    if (bytes > UINT64_MAX)
        return err_set(-EINVAL, "size \"%s\": too large", safe);
    *ret = (uint64_t)bytes;
    return 0;
}
