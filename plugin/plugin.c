/* plugin.c: nbdkit's callbacks; each calls the engine and reports. */
#define NBDKIT_API_VERSION 2
#include <assert.h>
#include <inttypes.h>
#include <lsvd.h>
#include <nbdkit-plugin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "config.h"
#include "exports.h"
#include "hangup.h"
#include "last_resort.h"
#include "listing.h"
#include "metering.h"
#include "now.h"
#include "report.h"
#include "supervisor.h"
#include "vanish.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* What every client can send; larger requests are still served. */
#define REQUEST_BYTES_MAX (32u << 20)
#define PREFERRED_BYTES_MIN 512u /* nbdkit refuses less */
#define FILES_MAX 65536u

/* -D lsvd.io=1: each request and how it ended (with -v). nbdkit finds the
 * variable by this name, so it is exported. */
extern int lsvd_debug_io;
__attribute__((visibility("default"))) int lsvd_debug_io = 0;

static struct config config; /* nbdkit passes no context to .config */

struct handle {
    struct export *export;
    struct lsvd_moment *moment; /* of NAME@now; owned; else NULL */
    bool read_only;
    struct vanish connection;
};

/* ---- life of the server ---- */

static int
plugin_config(const char *key, const char *value)
{
    return config_parameter(&config, key, value);
}

/* A file is one chunk of one part: a soft limit of 1024, as is usual, is a few
 * hundred MiB of a volume, beyond which files would be opened and closed all
 * the time. Half is for them, the rest for clients. */
static void
raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_max > FILES_MAX)
        limit.rlim_max = FILES_MAX;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return;
    }
    lsvd_limit_files((size_t)(limit.rlim_cur / 2));
}

/* Before the fork: what is wrong is still seen where it was started. */
static int
plugin_get_ready(void)
{
    raise_file_limit();
    vanish_find_out();
    return exports_open(&config);
}

static int
plugin_after_fork(void)
{
    if (exports_start() < 0 || metering_start() < 0 || hangup_start() < 0 ||
        last_resort_start(hangup_signal_fd()) < 0)
        return -1;
    return supervisor_start();
}

/* Every connection has ended: nbdkit waits for them before it calls this. */
static void
plugin_cleanup(void)
{
    last_resort_closing();
    supervisor_closing();
    hangup_stop();
    metering_stop();
    exports_close(last_resort_progress);
    supervisor_stop();
    last_resort_stop();
}

static void
plugin_unload(void)
{
    config_free(&config);
}

static void
plugin_dump(void)
{
    const char *line = lsvd_versions();
    int bytes;

    printf("lsvd_version=%s\n", LSVD_VERSION);
    for (; *line != '\0'; line += line[bytes] == '\n' ? bytes + 1 : bytes) {
        bytes = (int)strcspn(line, "\n");
        if (bytes > 0 && strncmp(line, "lsvd_version=", 13) != 0)
            printf("%s%.*s\n", strncmp(line, "lsvd_", 5) == 0 ? "" : "lsvd_",
                   bytes, line);
    }
}

/* ---- exports ---- */

static int
plugin_list_exports(int read_only, int is_tls, struct nbdkit_exports *exports)
{
    (void)read_only;
    (void)is_tls;
    return listing_add(&config, exports);
}

static const char *
plugin_default_export(int read_only, int is_tls)
{
    (void)read_only;
    (void)is_tls;
    return listing_default(&config);
}

static void *
plugin_open(int read_only)
{
    const char *name = nbdkit_export_name();
    struct handle *h;

    h = calloc(1, sizeof(*h));
    if (h == NULL) {
        nbdkit_error("lsvd: out of memory");
        return NULL;
    }
    h->read_only = read_only != 0;
    h->connection.is_tls = nbdkit_is_tls() > 0;
    h->export = now_is_name(name) ? now_open(name, h->read_only, &h->moment)
                                  : exports_get(name, h->read_only);
    if (h->export != NULL)
        return h;
    free(h);
    return NULL;
}

static void
plugin_close(void *handle)
{
    struct handle *h = handle;

    if (h->moment != NULL)
        now_close(h->export, h->moment);
    exports_put(h->export);
    free(h);
}

static const char *
plugin_export_description(void *handle)
{
    const struct handle *h = handle;
    const char *name = export_volume_name(h->export);

    return h->moment != NULL ? listing_describe_now(name)
                             : listing_describe(&config, name);
}

/* ---- what an export can do ---- */

static int64_t
plugin_get_size(void *handle)
{
    const struct handle *h = handle;

    return (int64_t)(h->moment != NULL ? lsvd_moment_size(h->moment)
                                       : export_size_bytes(h->export));
}

static int
plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                  uint32_t *maximum)
{
    const struct handle *h = handle;
    const uint32_t block_bytes = export_block_bytes(h->export);

    assert(block_bytes >= PREFERRED_BYTES_MIN);
    *minimum = 1;
    *preferred = block_bytes;
    *maximum = REQUEST_BYTES_MAX;
    return 0;
}

static int
plugin_can_write(void *handle)
{
    const struct handle *h = handle;
    struct lsvd_volume *v;
    unsigned entered;
    bool can;

    if (h->moment != NULL)
        return 0;
    v = export_enter(h->export, &entered);
    can = !h->read_only && v != NULL && lsvd_can_write(v);
    export_leave(h->export, entered);
    return can;
}

static int
plugin_can(void *handle)
{
    (void)handle;
    return 1;
}

/* Connections to NAME@now read different moments. */
static int
plugin_can_multi_conn(void *handle)
{
    const struct handle *h = handle;

    return h->moment == NULL;
}

static int
plugin_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int
plugin_can_cache(void *handle)
{
    const struct handle *h = handle;

    return h->moment != NULL ? NBDKIT_CACHE_NONE : NBDKIT_CACHE_NATIVE;
}

static int
plugin_is_rotational(void *handle)
{
    (void)handle;
    return 0;
}

/* ---- requests ---- */

struct request {
    struct handle *h;
    const char *what;
    uint64_t count, offset;
    struct lsvd_volume *v;
    unsigned entered; /* exports.h */
};

static void
leave(const struct request *q, const char *how)
{
    export_leave(q->h->export, q->entered);
    vanish_leave(&q->h->connection);
    hangup_leave();
    if (lsvd_debug_io != 0)
        nbdkit_debug("lsvd: %s %" PRIu64 " at %" PRIu64 ": %s", q->what,
                     q->count, q->offset, how);
}

/* -1: refused; there is no volume just now. Otherwise end follows. */
static int
begin(void *handle, const char *what, uint64_t count, uint64_t offset,
      struct request *ret)
{
    *ret = (struct request){ .h = handle, .what = what, .count = count,
                             .offset = offset };
    hangup_enter();
    vanish_enter(&ret->h->connection);
    ret->v = export_enter(ret->h->export, &ret->entered);
    if (ret->v != NULL)
        return 0;
    leave(ret, "no volume");
    return report_refusal(-EIO, "%s: the volume is being opened anew, and "
                          "that did not work yet", what);
}

/* r: of the engine. */
static int
end(const struct request *q, int r)
{
    leave(q, r < 0 ? lsvd_error() : "ok");
    return r < 0 ? report_error(q->what, r) : 0;
}

static unsigned
request_flags(uint32_t flags)
{
    return (flags & NBDKIT_FLAG_FUA) != 0 ? LSVD_FUA : 0;
}

static int
plugin_pread(void *handle, void *to, uint32_t count, uint64_t offset,
             uint32_t flags)
{
    struct request q;

    (void)flags;
    if (begin(handle, "read", count, offset, &q) < 0)
        return -1;
    return end(&q, q.h->moment != NULL
                       ? lsvd_moment_pread(q.h->moment, to, count, offset)
                       : lsvd_pread(q.v, to, count, offset));
}

static int
plugin_pwrite(void *handle, const void *from, uint32_t count, uint64_t offset,
              uint32_t flags)
{
    struct request q;

    if (begin(handle, "write", count, offset, &q) < 0)
        return -1;
    return end(&q, lsvd_pwrite(q.v, from, count, offset,
                               request_flags(flags)));
}

static int
plugin_flush(void *handle, uint32_t flags)
{
    struct request q;

    (void)flags;
    if (begin(handle, "flush", 0, 0, &q) < 0)
        return -1;
    return end(&q, lsvd_flush(q.v));
}

static int
plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct request q;

    if (begin(handle, "trim", count, offset, &q) < 0)
        return -1;
    return end(&q, lsvd_trim(q.v, count, offset, request_flags(flags)));
}

/* With or without NBDKIT_FLAG_MAY_TRIM the space is given back; both always
 * cost less than writing zeroes, so NBDKIT_FLAG_FAST_ZERO is always met. */
static int
plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct request q;

    if (begin(handle, "zero", count, offset, &q) < 0)
        return -1;
    return end(&q, lsvd_zero(q.v, count, offset, request_flags(flags)));
}

static int
plugin_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct request q;

    (void)flags;
    if (begin(handle, "cache", count, offset, &q) < 0)
        return -1;
    return end(&q, lsvd_cache(q.v, count, offset));
}

struct extents_context {
    struct nbdkit_extents *to;
    bool only_one;
};

static int
add_extent(void *ctx, uint64_t offset, uint64_t count, bool is_data)
{
    const struct extents_context *add = ctx;

    if (nbdkit_add_extent(add->to, offset, count, is_data ? 0 :
                          NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) < 0)
        return -ENOMEM; /* nbdkit has said so */
    return add->only_one ? 1 : 0;
}

static int
plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
               struct nbdkit_extents *extents)
{
    struct extents_context add = {
        .to = extents,
        .only_one = (flags & NBDKIT_FLAG_REQ_ONE) != 0,
    };
    struct request q;

    if (begin(handle, "extents", count, offset, &q) < 0)
        return -1;
    return end(&q, q.h->moment != NULL
                       ? lsvd_moment_extents(q.h->moment, count, offset,
                                             add_extent, &add)
                       : lsvd_extents(q.v, count, offset, add_extent, &add));
}

static struct nbdkit_plugin plugin = {
    .name = "lsvd",
    .longname = "lsvd virtual disks",
    .version = LSVD_VERSION,
    .description = "Replicated and erasure-coded virtual disks over "
                   "directories",
    .config_help = CONFIG_HELP,
    .magic_config_key = "volume",
    .errno_is_preserved = 1,

    .unload = plugin_unload,
    .dump_plugin = plugin_dump,
    .config = plugin_config,
    .get_ready = plugin_get_ready,
    .after_fork = plugin_after_fork,
    .cleanup = plugin_cleanup,

    .list_exports = plugin_list_exports,
    .default_export = plugin_default_export,
    .open = plugin_open,
    .close = plugin_close,
    .export_description = plugin_export_description,

    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_write = plugin_can_write,
    .can_flush = plugin_can,
    .is_rotational = plugin_is_rotational,
    .can_trim = plugin_can,
    .can_zero = plugin_can,
    .can_fast_zero = plugin_can,
    .can_extents = plugin_can,
    .can_multi_conn = plugin_can_multi_conn,
    .can_fua = plugin_can_fua,
    .can_cache = plugin_can_cache,

    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .trim = plugin_trim,
    .zero = plugin_zero,
    .extents = plugin_extents,
    .cache = plugin_cache,
};

NBDKIT_REGISTER_PLUGIN(plugin)
