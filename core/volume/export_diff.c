/* export_diff.c: what has changed between two volumes of a family, or all that
 * one holds, as a stream (diff_format.h). */
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "volume/diff.h"
#include "volume/diff_format.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct exporting {
    struct diff d;
    const struct lsvd_diff_sink *out;
    struct diff_stream stream;
    uint8_t *data; /* owned; DIFF_DATA_MAX */
};

static int
put(struct exporting *x, const void *bytes, size_t count)
{
    int r = x->out->write(x->out->ctx, bytes, count);

    if (r >= 0)
        return 0;
    if (r == -EINTR)
        return err_set(r, "interrupted");
    return err_set(r, "the stream can't be written: %s", strerror(-r));
}

static int
put_record(struct exporting *x, const struct diff_record *record)
{
    uint8_t bytes[DIFF_RECORD_BYTES];

    diff_record_encode(record, &x->stream, bytes);
    return put(x, bytes, sizeof bytes);
}

static int
put_data(struct exporting *x, uint64_t offset, uint64_t count)
{
    struct diff_record record = {DIFF_DATA, offset, count, 0};
    int r = lsvd_pread(x->d.to.top, x->data, (size_t)count, offset);

    if (r < 0)
        return r;
    record.data_sum = sum_bytes(x->data, (size_t)count);
    r = put_record(x, &record);
    return r < 0 ? r : put(x, x->data, (size_t)count);
}

static int
put_change(void *ctx, const struct lsvd_change *c)
{
    const struct diff_record zeroes = {DIFF_ZERO, c->offset, c->count, 0};
    struct exporting *x = ctx;
    int r = 0;

    if (!c->is_data)
        return put_record(x, &zeroes);
    for (uint64_t done = 0, n; done < c->count && r == 0; done += n) {
        n = c->count - done < DIFF_DATA_MAX ? c->count - done : DIFF_DATA_MAX;
        r = put_data(x, c->offset + done, n);
    }
    return r;
}

static int
put_header(struct exporting *x, const char *from, const char *to)
{
    const struct volume_meta *meta = &x->d.to.top->meta;
    struct diff_header h = {.size_bytes = meta->size_bytes,
                            .block_bytes = meta->block_bytes,
                            .to_uuid = meta->uuid};
    uint8_t bytes[DIFF_HEADER_BYTES];

    snprintf(h.to, sizeof h.to, "%s", to);
    if (from) {
        snprintf(h.from, sizeof h.from, "%s", from);
        h.from_uuid = x->d.from.top->meta.uuid;
    }
    diff_header_encode(&h, &x->stream, bytes);
    return put(x, bytes, sizeof bytes);
}

static int
put_all(struct exporting *x, const char *from, const char *to)
{
    const struct diff_record end = {.type = DIFF_END};
    int r = put_header(x, from, to);

    if (r == 0)
        r = diff_each(&x->d, 0, put_change, x);
    return r < 0 ? r : put_record(x, &end);
}

int
lsvd_export_diff(const struct lsvd_env *env, const char *from, const char *to,
                 const struct lsvd_diff_sink *out,
                 struct lsvd_diff_totals *ret)
{
    struct exporting x = {.out = out};
    int r;

    if (from && !meta_is_snapshot_name(from))
        return err_set(-EINVAL, "%s is no snapshot: it can't be told later "
                       "what it held", from);
    r = diff_open(env, from, to, &x.d);
    if (r < 0)
        return r;
    r = mem_new_aligned(DIFF_DATA_MAX, &x.data);
    if (r == 0)
        r = put_all(&x, from, to);
    diff_close(&x.d);
    free(x.data);
    *ret = (struct lsvd_diff_totals){x.stream.records, x.stream.data_bytes,
                                     x.stream.zero_bytes};
    return r;
}
