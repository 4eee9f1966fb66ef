/* ec.c: see ec.h.
 *
 * The code, for whoever must decode without us: GF(2^8) modulo x^8 + x^4 + x^3
 * + x^2 + 1 (0x11d); parity p = sum over j of c(p, j) * data j with c(p, j) =
 * the inverse of ((K + p) xor j). ISA-L's Cauchy matrix is compared with this
 * formula before use, so that no version of it can change what is on disk.
 * (EC1) Nothing is decoded with a matrix whose inverse was not multiplied out
 *       with plain arithmetic. */
#include "redundancy/ec.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/memory.h"
#include <assert.h>
#include <isa-l/erasure_code.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define POLYNOMIAL 0x11du
#define TABLE_BYTES 32u /* ISA-L: of one coefficient */
#define PIECE_BYTES (1u << 30) /* ISA-L takes lengths as int */
#define TEST_BYTES 1100u /* whole vectors of every CPU, and a rest */
#define TEST_PATTERNS_MAX 600u

struct ec {
    uint32_t k, m;
    uint8_t matrix[PARTS_MAX * EC_DATA_MAX]; /* k + m rows of k */
    uint8_t tables[TABLE_BYTES * EC_DATA_MAX * EC_PARITY_MAX]; /* of parity */
    uint8_t log[256], exp[510]; /* plain arithmetic: powers of 2 */
};

/* ISA-L's prototypes lack const; it writes neither its tables nor its
 * sources. */
static unsigned char *
unconst(const uint8_t *p)
{
    return (unsigned char *)(uintptr_t)p;
}

static void
plain_init(struct ec *ec)
{
    unsigned v = 1;

    for (unsigned i = 0; i < 255; i++) {
        ec->exp[i] = (uint8_t)v;
        ec->exp[i + 255] = (uint8_t)v;
        ec->log[v] = (uint8_t)i;
        v <<= 1;
        if (v & 0x100)
            v ^= POLYNOMIAL;
    }
}

static uint8_t
plain_mul(const struct ec *ec, uint8_t a, uint8_t b)
{
    if (a == 0 || b == 0)
        return 0;
    return ec->exp[ec->log[a] + ec->log[b]];
}

static uint8_t
plain_inverse(const struct ec *ec, uint8_t a)
{
    assert(a != 0);
    return ec->exp[255 - ec->log[a]];
}

/* One product of a row and the cells, byte by byte. */
static void
plain_dot(const struct ec *ec, const uint8_t *row, uint32_t count,
          size_t bytes, const uint8_t *const *cells, uint8_t *to)
{
    memset(to, 0, bytes);
    for (uint32_t j = 0; j < count; j++)
        for (size_t i = 0; i < bytes; i++)
            to[i] ^= plain_mul(ec, row[j], cells[j][i]);
}

static void
dot_rows(uint32_t k, uint32_t rows, size_t bytes, const uint8_t *tables,
         const uint8_t *const *from, uint8_t *const *to)
{
    unsigned char *source[EC_DATA_MAX], *dest[PARTS_MAX];

    for (size_t at = 0; at < bytes; at += PIECE_BYTES) {
        size_t piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;

        for (uint32_t i = 0; i < k; i++)
            source[i] = unconst(from[i] + at);
        for (uint32_t i = 0; i < rows; i++)
            dest[i] = to[i] + at;
        ec_encode_data((int)piece, (int)k, (int)rows, unconst(tables), source,
                       dest);
    }
}

void
ec_encode(const struct ec *ec, size_t bytes, const uint8_t *const *data,
          uint8_t *const *parity)
{
    assert(bytes > 0);
    dot_rows(ec->k, ec->m, bytes, ec->tables, data, parity);
}

/* The inverse of the rows of `cells` (k of them), multiplied out (EC1). */
static int
invert(const struct ec *ec, const uint32_t *cells, uint8_t *inverse)
{
    uint8_t rows[EC_DATA_MAX * EC_DATA_MAX];
    uint8_t scratch[EC_DATA_MAX * EC_DATA_MAX];
    uint32_t k = ec->k;

    for (uint32_t i = 0; i < k; i++)
        memcpy(rows + i * k, ec->matrix + cells[i] * k, k);
    memcpy(scratch, rows, k * k);
    if (gf_invert_matrix(scratch, inverse, (int)k) != 0)
        return err_set(-EIO, "erasure code: matrix can't be inverted");
    for (uint32_t i = 0; i < k; i++)
        for (uint32_t j = 0; j < k; j++) {
            uint8_t sum = 0;

            for (uint32_t l = 0; l < k; l++)
                sum ^= plain_mul(ec, rows[i * k + l], inverse[l * k + j]);
            if (sum != (i == j))
                return err_set(-EIO, "erasure code: wrong inverse of a "
                                     "matrix; the CPU or ISA-L is faulty");
        }
    return 0;
}

/* How cell `want` is made from the k cells that were inverted. */
static void
want_row(const struct ec *ec, uint32_t want, const uint8_t *inverse,
         uint8_t *row)
{
    uint32_t k = ec->k;

    if (want < k) {
        memcpy(row, inverse + want * k, k);
        return;
    }
    for (uint32_t j = 0; j < k; j++) {
        row[j] = 0;
        for (uint32_t l = 0; l < k; l++)
            row[j] ^= plain_mul(ec, ec->matrix[want * k + l],
                                inverse[l * k + j]);
    }
}

int
ec_decode(const struct ec *ec, size_t bytes, uint32_t have, uint32_t want,
          uint8_t *const *cells)
{
    uint32_t k = ec->k, all = ec->k + ec->m, from_count = 0, to_count = 0;
    uint8_t inverse[EC_DATA_MAX * EC_DATA_MAX];
    uint8_t rows[PARTS_MAX * EC_DATA_MAX];
    uint8_t tables[TABLE_BYTES * EC_DATA_MAX * EC_PARITY_MAX];
    const uint8_t *from[EC_DATA_MAX];
    uint8_t *to[PARTS_MAX];
    uint32_t source[EC_DATA_MAX];
    int r;

    assert(bytes > 0);
    assert((have & want) == 0);
    assert((have | want) >> all == 0);
    for (uint32_t i = 0; i < all && from_count < k; i++)
        if (have >> i & 1) {
            source[from_count] = i;
            from[from_count++] = cells[i];
        }
    if (from_count < k)
        return err_set(-EIO, "erasure code: %u of %u cells, needs %u",
                       from_count, all, k);
    r = invert(ec, source, inverse);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < all; i++)
        if (want >> i & 1) {
            want_row(ec, i, inverse, rows + to_count * k);
            to[to_count++] = cells[i];
        }
    if (to_count == 0)
        return 0;
    assert(to_count <= ec->m); /* disjoint from the k in have */
    ec_init_tables((int)k, (int)to_count, rows, tables);
    dot_rows(k, to_count, bytes, tables, from, to);
    return 0;
}

/* Buffers of the self-test: every cell as encoded, and one being rebuilt. */
struct self_test {
    uint8_t encoded[PARTS_MAX][TEST_BYTES];
    uint8_t rebuilt[PARTS_MAX][TEST_BYTES];
    uint8_t plain[TEST_BYTES];
};

static int
self_test_failed(const struct ec *ec, const char *what)
{
    return err_set(-EIO,
                   "erasure code %u+%u: self-test failed (%s); the CPU or "
                   "ISA-L is faulty",
                   ec->k, ec->m, what);
}

static int
test_matrix(const struct ec *ec)
{
    uint32_t k = ec->k;

    for (uint32_t i = 0; i < k; i++)
        for (uint32_t j = 0; j < k; j++)
            if (ec->matrix[i * k + j] != (i == j))
                return self_test_failed(ec, "identity");
    for (uint32_t i = k; i < k + ec->m; i++)
        for (uint32_t j = 0; j < k; j++)
            if (ec->matrix[i * k + j]
                != plain_inverse(ec, (uint8_t)(i ^ j)))
                return self_test_failed(ec, "coefficients");
    return 0;
}

/* Encode fixed bytes, compare with plain arithmetic. */
static int
test_encode(const struct ec *ec, struct self_test *t)
{
    const uint8_t *data[EC_DATA_MAX];
    uint8_t *parity[EC_PARITY_MAX];
    uint32_t v = 1;

    for (uint32_t i = 0; i < ec->k; i++) {
        for (size_t at = 0; at < TEST_BYTES; at++) {
            v = v * 1664525u + 1013904223u;
            t->encoded[i][at] = (uint8_t)(v >> 24);
        }
        data[i] = t->encoded[i];
    }
    for (uint32_t i = 0; i < ec->m; i++)
        parity[i] = t->encoded[ec->k + i];
    ec_encode(ec, TEST_BYTES, data, parity);
    for (uint32_t i = 0; i < ec->m; i++) {
        plain_dot(ec, ec->matrix + (ec->k + i) * ec->k, ec->k, TEST_BYTES,
                  data, t->plain);
        if (memcmp(t->plain, parity[i], TEST_BYTES) != 0)
            return self_test_failed(ec, "encode");
    }
    return 0;
}

static int
test_pattern(const struct ec *ec, struct self_test *t, uint32_t lost)
{
    uint32_t all = ec->k + ec->m;
    uint32_t have = ((UINT32_C(1) << all) - 1) & ~lost;
    uint8_t *cells[PARTS_MAX];
    int r;

    for (uint32_t i = 0; i < all; i++) {
        cells[i] = lost >> i & 1 ? t->rebuilt[i] : t->encoded[i];
        if (lost >> i & 1)
            memset(t->rebuilt[i], 0xa5, TEST_BYTES);
    }
    r = ec_decode(ec, TEST_BYTES, have, lost, cells);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < all; i++)
        if (memcmp(cells[i], t->encoded[i], TEST_BYTES) != 0)
            return self_test_failed(ec, "decode");
    return 0;
}

static uint32_t
bit_count(uint32_t v)
{
    return (uint32_t)__builtin_popcount(v);
}

/* Every way to lose up to m cells; of wide codes a fixed sample. */
static int
test_patterns(const struct ec *ec, struct self_test *t)
{
    uint32_t end = UINT32_C(1) << (ec->k + ec->m);
    uint32_t count = 0, step, n = 0;

    for (uint32_t lost = 1; lost < end; lost++)
        count += bit_count(lost) <= ec->m;
    step = count / TEST_PATTERNS_MAX + 1;
    for (uint32_t lost = 1; lost < end; lost++) {
        int r;

        if (bit_count(lost) > ec->m || n++ % step != 0)
            continue;
        r = test_pattern(ec, t, lost);
        if (r < 0)
            return r;
    }
    return 0;
}

static int
self_test(const struct ec *ec)
{
    struct self_test *t;
    int r;

    r = mem_new(1, sizeof *t, &t);
    if (r < 0)
        return r;
    r = test_matrix(ec);
    if (r == 0)
        r = test_encode(ec, t);
    if (r == 0)
        r = test_patterns(ec, t);
    free(t);
    return r;
}

int
ec_new(uint32_t k, uint32_t m, struct ec **ret)
{
    struct ec *ec;
    int r;

    assert(k >= EC_DATA_MIN);
    assert(k <= EC_DATA_MAX);
    assert(m >= 1);
    assert(m <= EC_PARITY_MAX);
    r = mem_new(1, sizeof *ec, &ec);
    if (r < 0)
        return r;
    ec->k = k;
    ec->m = m;
    plain_init(ec);
    gf_gen_cauchy1_matrix(ec->matrix, (int)(k + m), (int)k);
    ec_init_tables((int)k, (int)m, ec->matrix + k * k, ec->tables);
    r = self_test(ec);
    if (r < 0) {
        ec_free(ec);
        return r;
    }
    *ret = ec;
    return 0;
}

void
ec_free(struct ec *ec)
{
    free(ec);
}
