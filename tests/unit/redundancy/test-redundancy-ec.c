/* test-redundancy-ec.c: against a reference that multiplies bit by bit and
 * makes its own matrix, so that neither ISA-L nor ec.c judges itself. */
#include "base/err.h"
#include "base/limits.h"
#include "base/memory.h"
#include "redundancy/ec.h"
#include "unit.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX 4096u

/* Polynomials over GF(2), modulo x^8 + x^4 + x^3 + x^2 + 1. */
static uint8_t
slow_mul(uint8_t a, uint8_t b)
{
    uint8_t product = 0;

    for (; b; b >>= 1) {
        if (b & 1)
            product ^= a;
        a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1d : 0));
    }
    return product;
}

static uint8_t
slow_inverse(uint8_t a)
{
    for (unsigned b = 1; b < 256; b++)
        if (slow_mul(a, (uint8_t)b) == 1)
            return (uint8_t)b;
    fail_msg("no inverse");
    return 0;
}

struct stripe {
    uint32_t k, m;
    size_t bytes;
    uint8_t cell[PARTS_MAX][BYTES_MAX];
    uint8_t rebuilt[PARTS_MAX][BYTES_MAX];
};

/* Data that is the same in every run; parity by the formula in ec.c. */
static void
fill(struct stripe *s, uint32_t k, uint32_t m, size_t bytes)
{
    uint32_t v = k * 100 + m;

    s->k = k;
    s->m = m;
    s->bytes = bytes;
    for (uint32_t i = 0; i < k; i++)
        for (size_t at = 0; at < bytes; at++) {
            v = v * 1664525u + 1013904223u;
            s->cell[i][at] = (uint8_t)(v >> 24);
        }
    for (uint32_t p = 0; p < m; p++) {
        memset(s->cell[k + p], 0, bytes);
        for (uint32_t j = 0; j < k; j++) {
            uint8_t factor = slow_inverse((uint8_t)((k + p) ^ j));

            for (size_t at = 0; at < bytes; at++)
                s->cell[k + p][at] ^= slow_mul(factor, s->cell[j][at]);
        }
    }
}

static void
check_encode(const struct ec *ec, struct stripe *s)
{
    const uint8_t *data[EC_DATA_MAX];
    uint8_t *parity[EC_PARITY_MAX];

    for (uint32_t i = 0; i < s->k; i++)
        data[i] = s->cell[i];
    for (uint32_t i = 0; i < s->m; i++) {
        parity[i] = s->rebuilt[i];
        memset(parity[i], 0x5a, BYTES_MAX);
    }
    ec_encode(ec, s->bytes, data, parity);
    for (uint32_t i = 0; i < s->m; i++) {
        assert_memory_equal(parity[i], s->cell[s->k + i], s->bytes);
        for (size_t at = s->bytes; at < BYTES_MAX; at++) /* not beyond */
            assert_int_equal(parity[i][at], 0x5a);
    }
}

static void
check_decode(const struct ec *ec, struct stripe *s, uint32_t have,
             uint32_t want)
{
    uint8_t *cells[PARTS_MAX];

    for (uint32_t i = 0; i < s->k + s->m; i++) {
        cells[i] = NULL; /* neither in have nor in want: not touched */
        if (have >> i & 1)
            cells[i] = s->cell[i];
        if (want >> i & 1) {
            cells[i] = s->rebuilt[i];
            memset(cells[i], 0xa5, s->bytes);
        }
    }
    assert_int_equal(ec_decode(ec, s->bytes, have, want, cells), 0);
    for (uint32_t i = 0; i < s->k + s->m; i++)
        if (want >> i & 1)
            assert_memory_equal(s->rebuilt[i], s->cell[i], s->bytes);
}

/* Every set of up to m cells lost, all of them rebuilt. */
static void
check_patterns(const struct ec *ec, struct stripe *s)
{
    uint32_t all = (UINT32_C(1) << (s->k + s->m)) - 1;

    for (uint32_t lost = 0; lost <= all; lost++)
        if ((uint32_t)__builtin_popcount(lost) <= s->m)
            check_decode(ec, s, all & ~lost, lost);
}

static void
test_all_patterns(void **state)
{
    struct stripe *s = malloc(sizeof *s);
    struct ec *ec;

    (void)state;
    assert_non_null(s);
    for (uint32_t k = EC_DATA_MIN; k <= EC_DATA_MAX; k++)
        for (uint32_t m = 1; m <= EC_PARITY_MAX; m++) {
            assert_int_equal(ec_new(k, m, &ec), 0);
            fill(s, k, m, 96);
            check_encode(ec, s);
            check_patterns(ec, s);
            ec_free(ec);
        }
    free(s);
}

/* All lengths near a vector's end, and those of real blocks. */
static void
test_lengths(void **state)
{
    struct stripe *s = malloc(sizeof *s);
    struct ec *ec;

    (void)state;
    assert_non_null(s);
    assert_int_equal(ec_new(4, 2, &ec), 0);
    for (size_t bytes = 1; bytes <= 4096;
         bytes = bytes < 200 ? bytes + 1 : bytes * 2 - bytes % 2) {
        fill(s, 4, 2, bytes);
        check_encode(ec, s);
        check_decode(ec, s, 0x3c, 0x03);
        check_decode(ec, s, 0x0f, 0x30);
    }
    fill(s, 4, 2, 4096);
    check_encode(ec, s);
    check_decode(ec, s, 0x35, 0x0a);
    ec_free(ec);
    free(s);
}

/* Only a part of what is lost is wanted, and more than k cells are there. */
static void
test_subsets(void **state)
{
    struct stripe *s = malloc(sizeof *s);
    struct ec *ec;

    (void)state;
    assert_non_null(s);
    assert_int_equal(ec_new(3, 3, &ec), 0);
    fill(s, 3, 3, 512);
    for (uint32_t have = 0; have < 64; have++) {
        if (__builtin_popcount(have) < 3)
            continue;
        for (uint32_t want = 0; want < 64; want++)
            if ((have & want) == 0)
                check_decode(ec, s, have, want);
    }
    ec_free(ec);
    free(s);
}

static void
test_too_few(void **state)
{
    uint8_t bytes[6][64] = {{0}};
    uint8_t *cells[6];
    struct ec *ec;

    (void)state;
    for (int i = 0; i < 6; i++)
        cells[i] = bytes[i];
    memset(bytes[1], 0x77, 64);
    assert_int_equal(ec_new(4, 2, &ec), 0);
    for (uint32_t have = 0; have < 64; have++)
        if (__builtin_popcount(have) < 4 && !(have & 2)) {
            assert_int_equal(ec_decode(ec, 64, have, 2, cells), -EIO);
            assert_int_equal(bytes[1][0], 0x77);
        }
    ec_free(ec);
    ec_free(NULL);
}

/* What is on disk: parity of two small stripes, worked out once. */
static void
test_known_answer(void **state)
{
    static const uint8_t a[1] = {0x01}, b[1] = {0x02}, c[1] = {0x80};
    const uint8_t *data[3] = {a, b, c};
    uint8_t p[1], q[1];
    uint8_t *parity[2] = {p, q};
    struct ec *ec;

    (void)state;
    assert_int_equal(ec_new(2, 1, &ec), 0);
    ec_encode(ec, 1, data, parity);
    assert_int_equal(p[0], 0x7b);
    ec_free(ec);
    assert_int_equal(ec_new(3, 2, &ec), 0);
    ec_encode(ec, 1, data, parity);
    assert_int_equal(p[0], 0x75);
    assert_int_equal(q[0], 0xdf);
    ec_free(ec);
}

static void
test_no_memory(void **state)
{
    struct ec *ec;
    int failures = 0;

    (void)state;
    for (long nth = 0;; nth++) {
        int r;

        (void)mem_fail_after(nth);
        r = ec_new(4, 2, &ec);
        if (!mem_fail_after(-1)) {
            assert_int_equal(r, 0);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        failures++;
    }
    assert_true(failures > 0);
    ec_free(ec);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_patterns),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_subsets),
        cmocka_unit_test(test_too_few),
        cmocka_unit_test(test_known_answer),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
