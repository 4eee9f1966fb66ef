/* config.h: the parameters of the command line. */
#ifndef LSVD_PLUGIN_CONFIG_H
#define LSVD_PLUGIN_CONFIG_H

#include <lsvd.h>
#include <stddef.h>
#include <stdint.h>

/* A NULL-terminated list that grows; owns its strings. */
struct paths {
    const char **at; /* NULL while empty: the engine's "from config" */
    size_t count;
};

struct config {
    char *volume;       /* NULL: every volume is an export */
    struct paths data;  /* roots, absolute */
    struct paths cache; /* journal directories, absolute */
    struct paths settings; /* "key=value", for the engine to judge */
    char *config_path;  /* NULL: the default file */
    char *fault_path;   /* NULL: none; always in release builds */
    uint64_t ram_bytes; /* 0: not given */
};

/* One key=value. 0, or -1 after an nbdkit_error. */
int config_parameter(struct config *config, const char *key, const char *value);

void config_free(struct config *config);

/* What to hand to the engine; borrows from config. */
struct lsvd_env config_env(const struct config *config);

#define CONFIG_HELP                                                       \
    "[volume=]NAME      Serve this volume. Without it every volume is\n"  \
    "                   an export by its name.\n"                         \
    "data=DIR           A root that knows the volume; may be repeated.\n" \
    "cache=DIR          Directory of the journal; given twice, the\n"     \
    "                   journal is mirrored.\n"                           \
    "ram=SIZE           Memory for cached blocks (example: ram=256M).\n"  \
    "cache-size=SIZE    Of the journal and a read cache beside it, for\n"  \
    "                   parts that are slow (default: no read cache).\n"  \
    "read-cache=auto    Or on, off. Auto: it rests while the parts are\n" \
    "                   as fast as it is.\n"                              \
    "bypass-after=auto  So many bytes after a flush large writes to new\n" \
    "                   chunks go past the journal; or never.\n"         \
    "config=FILE        Instead of /etc/lsvd/lsvd.conf.\n"                \
    "part-timeout=15    A part that does not answer for so many\n"        \
    "                   seconds is dropped, and taken back later.\n"      \
    "stall-timeout=60   With too few parts, writes wait so long.\n"       \
    "resync-rate=SIZE   Most bytes a second that filling a part that\n"   \
    "                   came back may take (0: no bound).\n"              \
    "scrub=7d           Check everything in this time (0: never).\n"      \
    "scrub-rate=32M     But no more than so many bytes a second.\n"       \
    "slow-part=warn     Or drop: what happens to a part that is slow.\n"  \
    "failing-part=warn  Or drop: to one with many errors an hour.\n"      \
    "unsafe-nolock=0    Or 1: serve though a part can't be locked.\n"     \
    "fence-cmd=COMMAND  Cuts another server off: lsvd-repair takeover.\n" \
    "metrics=FILE       Written every few seconds, for Prometheus."

#endif
