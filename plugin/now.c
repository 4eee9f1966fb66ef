/* now.c: the export NAME@now. */
#include "now.h"

#include <errno.h>
#include <lsvd.h>
#include <stdlib.h>
#include <string.h>

#include "exports.h"
#include "report.h"

/* Where the suffix begins; NULL: it is another name. */
static const char *
suffix_of(const char *name)
{
    const char *at = strchr(name, '@');

    return at != NULL && at != name && strcmp(at, NOW_SUFFIX) == 0 ? at : NULL;
}

bool
now_is_name(const char *name)
{
    return suffix_of(name) != NULL;
}

static int
take(void *ctx, struct lsvd_volume *v)
{
    int r = lsvd_moment_take(v, ctx);

    return r < 0 ? report_error(NULL, r) : 0;
}

/* The gate is shut for the moment, and not while the volume is opened. */
struct export *
now_open(const char *name, bool read_only, struct lsvd_moment **ret)
{
    char *base = strndup(name, (size_t)(suffix_of(name) - name));
    struct export *e;

    if (base == NULL) {
        (void)report_refusal(-ENOMEM, "out of memory");
        return NULL;
    }
    e = exports_get(base, read_only);
    free(base);
    if (e == NULL || export_alone(e, take, ret) == 0)
        return e;
    exports_put(e);
    return NULL;
}

/* As a request: the volume is not exchanged meanwhile. */
void
now_close(struct export *e, struct lsvd_moment *m)
{
    unsigned entered;

    (void)export_enter(e, &entered);
    lsvd_moment_drop(m);
    export_leave(e, entered);
}
