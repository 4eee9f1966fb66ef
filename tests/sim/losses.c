/* losses.c: see losses.h. */
#include "losses.h"
#include "journal/journal.h"
#include "target/mirror.h"
#include "volume/volume.h"

unsigned __real_mirror_losses(struct target *mirror);
unsigned __wrap_mirror_losses(struct target *mirror);
int __real_journal_fill_end(struct journal *j, struct journal_fill *f,
                            bool (*join)(void *ctx), void *ctx);
int __wrap_journal_fill_end(struct journal *j, struct journal_fill *f,
                            bool (*join)(void *ctx), void *ctx);

int __real_journal_settle(struct lsvd_volume *v);
int __wrap_journal_settle(struct lsvd_volume *v);

/* of the whole program: the linker has no context */
static bool concealing, skipping, not_settling, destaging;

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

void
losses_skip_settle(bool skip)
{
    not_settling = skip;
}

void
losses_in_destage(bool in_destage)
{
    destaging = in_destage;
}

int
__wrap_journal_settle(struct lsvd_volume *v)
{
    return not_settling && destaging ? 0 : __real_journal_settle(v);
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
