/* fuzz-registry: a .volumesmeta of any bytes: refused, or entries that are
 * valid, in order, and found again. */
#include "../unit/meta/sample.h"
#include "base/err.h"
#include "base/sum.h"
#include "fuzz.h"
#include "meta/meta.h"
#include <inttypes.h>
#include <stdlib.h>

#define SUM_LINE_BYTES 28

static void
judge(const struct registry *registry)
{
    struct registry back;
    size_t bytes;
    char *text;
    int r;

    for (size_t i = 0; i < registry->count; i++) {
        const struct registry_entry *e = &registry->entry[i];

        FUZZ_CHECK(meta_check_name(e->name) == 0);
        FUZZ_CHECK(e->number >= VOLUME_NUMBER_FIRST);
        FUZZ_CHECK(e->number <= VOLUME_NUMBER_MAX);
        FUZZ_CHECK(i == 0 || e[-1].number < e->number);
        FUZZ_CHECK(registry_find(registry, e->name) == e);
    }
    r = registry_format(registry, &text, &bytes);
    if (registry->ro_compat != 0) {
        FUZZ_CHECK(r == -EROFS);
        return;
    }
    FUZZ_CHECK(r == 0);
    FUZZ_CHECK(registry_parse((const uint8_t *)text, bytes, &back) == 0);
    FUZZ_CHECK(back.count == registry->count);
    FUZZ_CHECK(back.generation == registry->generation);
    registry_done(&back);
    free(text);
}

static void
parse(const uint8_t *bytes, size_t count)
{
    struct registry registry;
    int r;

    r = registry_parse(bytes, count, &registry);
    FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -EPROTO);
    if (r == 0) {
        judge(&registry);
        registry_done(&registry);
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
    static const unsigned counts[] = { 0, 1, 2, 20 };
    struct registry registry = { .generation = 3 };
    size_t bytes;
    char *text;

    if (idx >= sizeof counts / sizeof counts[0])
        return 0;
    for (unsigned i = 0; i < counts[idx]; i++) {
        struct registry_entry e = { .number = VOLUME_NUMBER_FIRST + i };

        (void)snprintf(e.name, sizeof e.name, "volume%u", i);
        e.uuid = sample_uuid(i);
        if (registry_add(&registry, &e) < 0)
            abort();
    }
    if (registry_format(&registry, &text, &bytes) < 0 || bytes > room)
        abort();
    registry_done(&registry);
    memcpy(to, text, bytes);
    free(text);
    return bytes;
}
