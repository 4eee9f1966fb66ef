/* fuzz.h: what a harness offers to its driver, main.c or libFuzzer. */
#ifndef LSVD_TESTS_FUZZ_H
#define LSVD_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Feed one input to the parser. Returns 0; whatever is wrong aborts.
 * The harness corrects the checksums in its copy of the input, so that the
 * parser's depths are reached. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fill in the idx-th valid input; returns its bytes (<= room), or 0 if there
 * is no such seed. */
size_t fuzz_seed(size_t idx, uint8_t *to, size_t room);

#define FUZZ_INPUT_MAX (64u << 10)

/* For judging results: like assert, but in every build. */
#define FUZZ_CHECK(x)                                                     \
    do {                                                                  \
        if (!(x))                                                         \
            __builtin_trap();                                             \
    } while (0)

#endif
