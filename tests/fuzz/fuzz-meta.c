/* fuzz-meta: a .meta of any bytes: refused, or a policy within its limits. */
#include "../unit/meta/sample.h"
#include "base/err.h"
#include "base/sum.h"
#include "fuzz.h"
#include "meta/meta.h"
#include <inttypes.h>
#include <stdlib.h>

#define SUM_LINE_BYTES 28

static void
judge(const struct volume_meta *meta)
{
    struct volume_meta back;
    size_t bytes;
    char *text;
    int r;

    FUZZ_CHECK(meta_check(meta) == 0);
    FUZZ_CHECK(meta->size_bytes > 0 && meta->size_bytes <= VOLUME_BYTES_MAX);
    FUZZ_CHECK(meta->part_count >= 1 && meta->part_count <= PARTS_MAX);
    FUZZ_CHECK(meta->size_bytes / meta->chunk_bytes <= CHUNK_COUNT_MAX);
    r = meta_format(meta, &text, &bytes);
    if (meta->ro_compat != 0) {
        FUZZ_CHECK(r == -EROFS && meta->read_only);
        return;
    }
    FUZZ_CHECK(r == 0);
    FUZZ_CHECK(meta_parse((const uint8_t *)text, bytes, &back) == 0);
    FUZZ_CHECK(back.size_bytes == meta->size_bytes);
    FUZZ_CHECK(strcmp(back.name, meta->name) == 0);
    for (uint32_t i = 0; i < meta->part_count; i++)
        FUZZ_CHECK(strcmp(back.part[i].root, meta->part[i].root) == 0);
    meta_done(&back);
    free(text);
}

static void
parse(const uint8_t *bytes, size_t count)
{
    struct volume_meta meta;
    int r;

    r = meta_parse(bytes, count, &meta);
    FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -EPROTO);
    if (r == 0) {
        judge(&meta);
        meta_done(&meta);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t body = size > SUM_LINE_BYTES ? size - SUM_LINE_BYTES : size;
    uint8_t *copy;

    parse(data, size);
    copy = malloc(body + SUM_LINE_BYTES + 1);
    if (copy == NULL)
        return 0;
    memcpy(copy, data, body);
    (void)snprintf((char *)copy + body, SUM_LINE_BYTES + 1,
                   "checksum = %016" PRIx64 "\n", sum_bytes(copy, body));
    parse(copy, body + SUM_LINE_BYTES);
    free(copy);
    return 0;
}

size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    static const uint32_t kinds[][3] = {
        { 1, 0, 0 }, { 3, 0, 0 }, { 0, 2, 1 }, { 0, 16, 4 },
    };
    char roots[PARTS_MAX][64];
    struct volume_meta meta;
    size_t bytes;
    char *text;

    if (idx >= sizeof kinds / sizeof kinds[0])
        return 0;
    sample_meta(kinds[idx][0], kinds[idx][1], kinds[idx][2], roots, &meta);
    if (meta_format(&meta, &text, &bytes) < 0 || bytes > room)
        abort();
    memcpy(to, text, bytes);
    free(text);
    return bytes;
}
