/* golden.h: images of format 1 that must decode for ever, and that the encoder
 * must still make byte by byte. LSVD_GOLDEN_WRITE=1 in the environment writes
 * a missing one. */
#ifndef LSVD_TESTS_GOLDEN_H
#define LSVD_TESTS_GOLDEN_H

#include "unit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Compare `count` bytes with the image; `image` gets it. */
static inline void
golden_check(const char *name, const uint8_t *bytes, size_t count,
             uint8_t *image)
{
    char path[1024];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
    if (getenv("LSVD_GOLDEN_WRITE") && (file = fopen(path, "wxb"))) {
        assert_int_equal(fwrite(bytes, 1, count, file), count);
        assert_int_equal(fclose(file), 0);
    }
    file = fopen(path, "rb");
    if (!file)
        fail_msg("%s: no such image", path);
    assert_int_equal(fread(image, 1, count, file), count);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
    assert_memory_equal(bytes, image, count);
}

#endif
