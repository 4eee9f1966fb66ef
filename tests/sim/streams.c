/* streams.c: see streams.h. */
#include "streams.h"
#include "volume/bypass.h"

void __real_bypass_begin(struct lsvd_volume *v);
void __wrap_bypass_begin(struct lsvd_volume *v);
int __real_bypass_flush(struct lsvd_volume *v);
int __wrap_bypass_flush(struct lsvd_volume *v);
int __real_bypass_found(struct lsvd_volume *v, uint64_t chunk, uint64_t seq);
int __wrap_bypass_found(struct lsvd_volume *v, uint64_t chunk, uint64_t seq);

/* of the whole program: the linker has no context */
static bool at_once;
static unsigned enabled;

void
streams_set(bool eager, unsigned bugs)
{
    at_once = eager;
    enabled = bugs;
}

void
__wrap_bypass_begin(struct lsvd_volume *v)
{
    __real_bypass_begin(v);
    if (at_once && v->bypass.after_bytes != CONFIG_BYPASS_NEVER)
        v->bypass.after_bytes = 0;
}

int
__wrap_bypass_flush(struct lsvd_volume *v)
{
    return enabled & STREAM_BUG_FLUSH ? 0 : __real_bypass_flush(v);
}

int
__wrap_bypass_found(struct lsvd_volume *v, uint64_t chunk, uint64_t seq)
{
    return enabled & STREAM_BUG_FOUND
               ? 0
               : __real_bypass_found(v, chunk, seq);
}
