/* losses.c: see losses.h. */
#include "losses.h"
#include "journal/journal.h"
#include "target/mirror.h"

unsigned __real_mirror_losses(struct target *mirror);
unsigned __wrap_mirror_losses(struct target *mirror);
int __real_journal_fill_end(struct journal *j, struct journal_fill *f,
                            bool (*join)(void *ctx), void *ctx);
int __wrap_journal_fill_end(struct journal *j, struct journal_fill *f,
                            bool (*join)(void *ctx), void *ctx);

/* of the whole program: the linker has no context */
static bool concealing, skipping;

void
losses_conceal(bool conceal)
{
    concealing = conceal;
}

void
losses_skip_rest(bool skip)
{
    skipping = skip;
}

unsigned
__wrap_mirror_losses(struct target *mirror)
{
    return concealing ? 0 : __real_mirror_losses(mirror);
}

int
__wrap_journal_fill_end(struct journal *j, struct journal_fill *f,
                        bool (*join)(void *ctx), void *ctx)
{
    if (!skipping)
        return __real_journal_fill_end(j, f, join, ctx);
    return join(ctx) ? 0 : -1;
}
