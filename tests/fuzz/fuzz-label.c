/* fuzz-label: a label of any bytes: refused, or one whose members, slots and
 * history are within limits and that is encoded to the same meaning. */
#include "../unit/meta/sample.h"
#include "base/err.h"
#include "base/sum.h"
#include "fuzz.h"
#include "meta/label.h"

static void
judge(const struct label *label)
{
    uint8_t again[LABEL_SLOT_BYTES], twice[LABEL_SLOT_BYTES];
    struct label back;

    FUZZ_CHECK(label->slot < PARTS_MAX);
    FUZZ_CHECK(label->state == LABEL_INIT || label->state == LABEL_LIVE);
    FUZZ_CHECK(label->view.members >> PARTS_MAX == 0);
    FUZZ_CHECK(label->view.complete_members >> PARTS_MAX == 0);
    FUZZ_CHECK(label->view.history_count <= VIEW_HISTORY_MAX);
    FUZZ_CHECK(memchr(label->host, '\0', sizeof label->host) != NULL);
    label_encode(label, again);
    FUZZ_CHECK(label_decode(again, &back) == 0);
    label_encode(&back, twice);
    FUZZ_CHECK(memcmp(again, twice, sizeof again) == 0);
}

static void
decode(const uint8_t *bytes)
{
    struct label label;
    int r;

    r = label_decode(bytes, &label);
    FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -EPROTO);
    if (r == 0)
        judge(&label);
}

/* The view alone, in a buffer of exactly its size. */
static void
decode_view(const uint8_t *data, size_t size)
{
    struct byte_reader in = { .at = data, .left = size };
    struct view view;
    int r;

    r = view_decode(&in, &view);
    FUZZ_CHECK(r == 0 || r == -EBADMSG);
    if (r == 0)
        FUZZ_CHECK(view.history_count <= VIEW_HISTORY_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[LABEL_SLOT_BYTES] = { 0 };

    memcpy(bytes, data, size < sizeof bytes ? size : sizeof bytes);
    decode(bytes);
    put_le64(bytes + LABEL_SLOT_BYTES - 8,
             sum_bytes(bytes, LABEL_SLOT_BYTES - 8));
    decode(bytes);
    if (size > 200)
        decode_view(data + 200, size - 200);
    return 0;
}

size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    struct label label;

    if (idx > 2 || room < LABEL_SLOT_BYTES)
        return 0;
    sample_label(&label);
    if (idx == 1) {
        memset(&label.view, 0, sizeof label.view);
        label.state = LABEL_INIT;
    }
    for (uint32_t i = 10; idx == 2 && i < 10 + VIEW_HISTORY_MAX; i++) {
        struct view_id id = sample_view_id(i, 0);

        view_advance(&label.view, &id);
    }
    label_encode(&label, to);
    return LABEL_SLOT_BYTES;
}
