/* redo.c: see redo.h. */
#include "redo.h"
#include "journal/journal.h"

int __real_journal_append_redo(struct journal *j, const void *body,
                               size_t bytes);
int __wrap_journal_append_redo(struct journal *j, const void *body,
                               size_t bytes);

static bool skipping; /* of the whole program: the linker has no context */

void
redo_skip(bool skip)
{
    skipping = skip;
}

int
__wrap_journal_append_redo(struct journal *j, const void *body, size_t bytes)
{
    return skipping ? 0 : __real_journal_append_redo(j, body, bytes);
}
