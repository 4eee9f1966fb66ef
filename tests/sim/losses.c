/* losses.c: see losses.h. */
#include "losses.h"
#include "target/mirror.h"

unsigned __real_mirror_losses(struct target *mirror);
unsigned __wrap_mirror_losses(struct target *mirror);

static bool concealing; /* of the whole program: the linker has no context */

void
losses_conceal(bool conceal)
{
    concealing = conceal;
}

unsigned
__wrap_mirror_losses(struct target *mirror)
{
    return concealing ? 0 : __real_mirror_losses(mirror);
}
