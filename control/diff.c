/* diff.c: what has changed since a snapshot, of a volume that is served. */
#include "control/ops.h"

#include <errno.h>
#include <stdio.h>

#define CHANGES_MAX 4096 /* in one answer */

struct page {
    json_t *changes; /* an array; owned; NULL: out of memory */
    json_int_t next; /* where the following one begins */
};

/* Stops when the page is full. */
static int
add_change(void *ctx, const struct lsvd_change *c)
{
    struct page *page = ctx;

    page->next = (json_int_t)(c->offset + c->count);
    if (json_array_append_new(page->changes,
                              json_pack("[I, I, b]", (json_int_t)c->offset,
                                        (json_int_t)c->count,
                                        c->is_data)) < 0)
        return -ENOMEM;
    return json_array_size(page->changes) == CHANGES_MAX;
}

/* {from, offset} -> {changes: [[offset, bytes, is it data], …], next: where to
 * go on, or null: that was all}. */
void
op_diff(struct served *s, const json_t *args, struct answer *a)
{
    const char *from = json_string_value(json_object_get(args, "from"));
    json_int_t offset = json_integer_value(json_object_get(args, "offset"));
    struct page page = { .changes = json_array() };
    int r = -ENOMEM;

    if (!from || offset < 0) {
        answer_error(a, -EINVAL, "diff: from or offset makes no sense");
        json_decref(page.changes);
        return;
    }
    if (page.changes)
        r = lsvd_live_diff(s->volume, from, (uint64_t)offset, add_change,
                           &page);
    if (r < 0) {
        answer_error(a, r, r == -ENOMEM ? "out of memory" : lsvd_error());
        json_decref(page.changes);
        return;
    }
    answer_done(a, json_pack("{s:o, s:o}", "changes", page.changes, "next",
                             r ? json_integer(page.next) : json_null()));
}
