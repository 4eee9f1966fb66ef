/* config.h: /etc/lsvd/lsvd.conf: [defaults], and a section per volume that
 * overrides it. Keys: data, cache (lists separated by ;), ram, journal-size
 * (sizes with K M G T P E suffixes, powers of 1024). Unknown keys and a file
 * that is not a key file are errors that name the file and the key. */
#ifndef LSVD_META_CONFIG_H
#define LSVD_META_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#define CONFIG_PATH_DEFAULT "/etc/lsvd/lsvd.conf"
#define CONFIG_DATA_DEFAULT "/data"
#define CONFIG_CACHE_DEFAULT "/cache"
#define CONFIG_RAM_DEFAULT (UINT64_C(256) << 20)

struct config {
    char **data;  /* NULL-terminated; owned; never empty */
    char **cache; /* NULL-terminated; owned; never empty */
    uint64_t ram_bytes;
    uint64_t journal_bytes; /* 0: chosen from the volume's size */
};

/* path NULL: CONFIG_PATH_DEFAULT, and its absence is fine. volume NULL: only
 * [defaults]. -ENOENT, -EINVAL, -ENOMEM. */
int config_load(const char *path, const char *volume, struct config *ret);
void config_done(struct config *config);

/* "4M", "1.5G", "512", "10k": bytes; suffixes K M G T P E and b (=1), s
 * (=512), either case, as nbdkit and qemu-img take them; a fraction is taken
 * when the result is whole. -EINVAL with a text. */
int size_parse(const char *text, uint64_t *ret);

#endif
