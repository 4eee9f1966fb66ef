/* redo.c: see redo.h. */
#include "redo.h"
#include "journal/journal.h"

int __real_journal_append_redo(struct journal *j, const void *body,
                               size_t bytes);
int __wrap_journal_append_redo(struct journal *j, const void *body,
                               size_t bytes);
int __real_journal_create(struct target *cache, const char *name,
                          uint64_t bytes,
                          const struct journal_identity *identity,
                          size_t index_limit, bool has_area,
                          struct journal **ret);
int __wrap_journal_create(struct target *cache, const char *name,
                          uint64_t bytes,
                          const struct journal_identity *identity,
                          size_t index_limit, bool has_area,
                          struct journal **ret);

/* of the whole program: the linker has no context */
static bool skipping, no_area;

void
redo_skip(bool skip)
{
    skipping = skip;
}

void
redo_in_ring(bool in_ring)
{
    no_area = in_ring;
}

int
__wrap_journal_append_redo(struct journal *j, const void *body, size_t bytes)
{
    return skipping ? 0 : __real_journal_append_redo(j, body, bytes);
}

int
__wrap_journal_create(struct target *cache, const char *name, uint64_t bytes,
                      const struct journal_identity *identity,
                      size_t index_limit, bool has_area, struct journal **ret)
{
    return __real_journal_create(cache, name, bytes, identity, index_limit,
                                 has_area && !no_area, ret);
}
