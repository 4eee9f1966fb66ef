/* test-redundancy-ec-faulty.c: the self-test of ec_new sees a CPU or an ISA-L
 * that calculates wrongly. The linker puts the functions below in the place of
 * ISA-L's. */
#include "base/err.h"
#include "redundancy/ec.h"
#include "unit.h"
#include <string.h>

enum fault { NONE, WRONG_MATRIX, WRONG_TAIL, WRONG_INVERSE, NO_INVERSE };
static enum fault fault;

void __real_gf_gen_cauchy1_matrix(unsigned char *a, int m, int k);
void __wrap_gf_gen_cauchy1_matrix(unsigned char *a, int m, int k);
void __real_ec_encode_data(int len, int k, int rows, unsigned char *tables,
                           unsigned char **data, unsigned char **coding);
void __wrap_ec_encode_data(int len, int k, int rows, unsigned char *tables,
                           unsigned char **data, unsigned char **coding);
int __real_gf_invert_matrix(unsigned char *in, unsigned char *out, int n);
int __wrap_gf_invert_matrix(unsigned char *in, unsigned char *out, int n);

void
__wrap_gf_gen_cauchy1_matrix(unsigned char *a, int m, int k)
{
    __real_gf_gen_cauchy1_matrix(a, m, k);
    if (fault == WRONG_MATRIX) /* another one that can be inverted */
        for (int i = k * k; i < m * k; i++)
            a[i] ^= 0x40;
}

void
__wrap_ec_encode_data(int len, int k, int rows, unsigned char *tables,
                      unsigned char **data, unsigned char **coding)
{
    __real_ec_encode_data(len, k, rows, tables, data, coding);
    if (fault == WRONG_TAIL) /* as a broken vector loop would */
        coding[rows - 1][len - 1] ^= 1;
}

int
__wrap_gf_invert_matrix(unsigned char *in, unsigned char *out, int n)
{
    int r = __real_gf_invert_matrix(in, out, n);

    if (fault == WRONG_INVERSE)
        out[n * n - 1] ^= 1;
    return fault == NO_INVERSE ? -1 : r;
}

static void
test_faults(void **state)
{
    static const char *const texts[] = {"", "coefficients", "encode",
                                        "inverse", "inverted"};
    struct ec *ec;

    (void)state;
    for (fault = WRONG_MATRIX; fault <= NO_INVERSE; fault++) {
        assert_int_equal(ec_new(4, 2, &ec), -EIO);
        assert_non_null(strstr(err_text(), texts[fault]));
    }
    fault = NONE;
    assert_int_equal(ec_new(4, 2, &ec), 0);
    ec_free(ec);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
