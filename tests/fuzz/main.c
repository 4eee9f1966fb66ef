/* main.c: drives a fuzz harness without libFuzzer.
 *
 *   fuzz-x                   mutate the built-in seeds for about two seconds
 *   fuzz-x -s SECONDS        … for longer
 *   fuzz-x -r SEED           … with other random numbers (default 1)
 *   fuzz-x -w DIR            write the seeds to DIR, as a corpus
 *   fuzz-x FILE …            replay inputs
 * Input that crashes is left in fuzz-crash.bin. */
#include "fuzz.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_DEFAULT 2
#define MUTATIONS_MAX 8

/* For the signal handler; this is a program, not core. */
static uint8_t input[FUZZ_INPUT_MAX];
static size_t input_bytes;

void __sanitizer_set_death_callback(void (*cb)(void)) __attribute__((weak));

static void
keep_input(void)
{
    int fd = open("fuzz-crash.bin", O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (fd < 0)
        return;
    if (write(fd, input, input_bytes) == (ssize_t)input_bytes)
        (void)!write(2, "input kept in fuzz-crash.bin\n", 29);
    (void)close(fd);
}

static void
on_signal(int signal_number)
{
    keep_input();
    (void)signal(signal_number, SIG_DFL);
    (void)raise(signal_number);
}

static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Half of the changes go to the first bytes, where headers are. */
static size_t
place(uint64_t *state, size_t bytes)
{
    uint64_t n = next_random(state);

    if (bytes > 256 && (n & 1))
        bytes = 256;
    return (size_t)(n >> 1) % bytes;
}

static void
mutate_once(uint64_t *state)
{
    static const uint64_t values[] = {
        0, 1, 0x7f, 0xff, 0xffff, 0x80000000, UINT32_MAX, INT64_MAX,
        UINT64_MAX,
    };
    uint64_t n = next_random(state), value;
    size_t at, count;

    if (input_bytes == 0)
        return;
    at = place(state, input_bytes);
    switch (n % 6) {
    case 0:
        input[at] ^= (uint8_t)(1 << (n >> 8) % 8);
        break;
    case 1:
        input[at] = (uint8_t)(n >> 8);
        break;
    case 2: /* a value that is often wrong */
        value = values[(n >> 8) % (sizeof values / sizeof *values)];
        count = (size_t)1 << (n >> 16) % 4;
        if (count <= input_bytes - at)
            memcpy(input + at, &value, count);
        break;
    case 3: /* cut short */
        if ((n >> 8) % 4 == 0)
            input_bytes = at;
        break;
    case 4: /* copy a piece elsewhere */
        count = (size_t)(n >> 8) % 64 + 1;
        value = place(state, input_bytes);
        if (count <= input_bytes - at && count <= input_bytes - value)
            memmove(input + at, input + value, count);
        break;
    default: /* longer, or a run of one byte */
        count = (size_t)(n >> 8) % 64 + 1;
        if ((n >> 16) % 8 == 0 && input_bytes + count <= sizeof input) {
            memset(input + input_bytes, (int)(n >> 24 & 0xff), count);
            input_bytes += count;
        } else if (count <= input_bytes - at)
            memset(input + at, (int)(n >> 24 & 0xff), count);
        break;
    }
}

static size_t
seed_count(void)
{
    size_t n = 0;

    while (fuzz_seed(n, input, sizeof input) > 0)
        n++;
    return n;
}

static double
seconds_now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int
mutate(double seconds, uint64_t state)
{
    double end = seconds_now() + seconds;
    size_t seeds = seed_count();
    uint64_t runs = 0;

    if (seeds == 0) {
        fprintf(stderr, "no seeds\n");
        return 1;
    }
    for (; runs < seeds; runs++) { /* the seeds as they are */
        input_bytes = fuzz_seed((size_t)runs, input, sizeof input);
        (void)LLVMFuzzerTestOneInput(input, input_bytes);
    }
    do {
        for (int i = 0; i < 64; i++, runs++) {
            uint64_t changes = next_random(&state) % MUTATIONS_MAX + 1;

            input_bytes = fuzz_seed((size_t)(next_random(&state) % seeds),
                                    input, sizeof input);
            while (changes-- > 0)
                mutate_once(&state);
            (void)LLVMFuzzerTestOneInput(input, input_bytes);
        }
    } while (seconds_now() < end);
    printf("%llu inputs\n", (unsigned long long)runs);
    return 0;
}

static int
replay(const char *path)
{
    FILE *in = fopen(path, "rb");

    if (!in) {
        perror(path);
        return 1;
    }
    input_bytes = fread(input, 1, sizeof input, in);
    (void)fclose(in);
    (void)LLVMFuzzerTestOneInput(input, input_bytes);
    printf("%s: fine\n", path);
    return 0;
}

static int
write_seeds(const char *folder)
{
    size_t bytes;

    for (size_t i = 0; (bytes = fuzz_seed(i, input, sizeof input)) > 0; i++) {
        char path[4096];
        FILE *out;

        (void)snprintf(path, sizeof path, "%s/seed-%zu", folder, i);
        out = fopen(path, "wb");
        if (!out || fwrite(input, 1, bytes, out) != bytes
            || fclose(out) != 0) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

int
main(int argc, char **argv)
{
    double seconds = SECONDS_DEFAULT;
    uint64_t state = 1;
    int option, r = 0;

    (void)signal(SIGABRT, on_signal);
    (void)signal(SIGSEGV, on_signal);
    (void)signal(SIGILL, on_signal);
    (void)signal(SIGBUS, on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(keep_input);
    while ((option = getopt(argc, argv, "s:r:w:")) != -1) {
        switch (option) {
        case 's':
            seconds = strtod(optarg, NULL);
            break;
        case 'r':
            state = strtoull(optarg, NULL, 0);
            break;
        case 'w':
            return write_seeds(optarg);
        default:
            return 64;
        }
    }
    if (optind == argc)
        return mutate(seconds, state);
    for (; optind < argc; optind++)
        r |= replay(argv[optind]);
    return r;
}
