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
    char *config_path;  /* NULL: the default file */
    uint64_t ram_bytes; /* 0: not given */
};

/* One key=value. 0, or -1 after an nbdkit_error. */
int config_set(struct config *config, const char *key, const char *value);

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
    "config=FILE        Instead of /etc/lsvd/lsvd.conf."

#endif
