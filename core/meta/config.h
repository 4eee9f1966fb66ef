/* config.h: /etc/lsvd/lsvd.conf: [defaults], and a section per volume that
 * overrides it. Keys: data, cache (lists separated by ;), ram, journal-size,
 * cache-size, resync-rate, scrub-rate (sizes with K M G T P E suffixes, powers
 * of 1024), read-cache (auto, on or off), bypass-after (auto, never or a size),
 * part-timeout, stall-timeout, scrub (times: seconds, or with the suffix s, m,
 * h or d), slow-part, failing-part (warn or drop), fence-cmd, metrics (text),
 * unsafe-nolock (0 or 1).
 * Unknown keys and a file that is not a key file are errors that name the file
 * and the key. */
#ifndef LSVD_META_CONFIG_H
#define LSVD_META_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_PATH_DEFAULT "/etc/lsvd/lsvd.conf"
#define CONFIG_DATA_DEFAULT "/data"
#define CONFIG_CACHE_DEFAULT "/cache"
#define CONFIG_RAM_DEFAULT (UINT64_C(256) << 20)
#define CONFIG_PART_TIMEOUT_DEFAULT 15
#define CONFIG_STALL_TIMEOUT_DEFAULT 60
#define CONFIG_SCRUB_DEFAULT (7u * 86400)
#define CONFIG_SCRUB_RATE_DEFAULT (UINT64_C(32) << 20)

#define CONFIG_BYPASS_NEVER UINT64_MAX
#define CONFIG_BYPASS_AUTO (UINT64_MAX - 1)

enum config_read_cache { READ_CACHE_AUTO, READ_CACHE_ON, READ_CACHE_OFF };

struct config {
    char **data;  /* NULL-terminated; owned; never empty */
    char **cache; /* NULL-terminated; owned; never empty */
    uint64_t ram_bytes;
    uint64_t journal_bytes; /* 0: chosen from the volume's size */
    uint64_t cache_bytes;   /* journal and read cache; 0: no read cache */
    enum config_read_cache read_cache; /* does it work: auto, as it is worth */
    uint64_t bypass_after;    /* so many bytes after a flush large writes go
                               * past the journal (volume/bypass.h) */
    uint32_t part_timeout_s;  /* no answer for so long: the part is dropped */
    uint32_t stall_timeout_s; /* too few parts: writes wait, then EIO */
    uint64_t resync_rate;     /* bytes a second; 0: as fast as it goes */
    uint32_t scrub_s;         /* a full pass in this time; 0: never */
    uint64_t scrub_rate;      /* at most so many bytes a second; 0: no bound */
    bool drop_slow;           /* a slow part is dropped, not only named */
    bool drop_failing;        /* so is one with many errors an hour */
    char *fence_cmd;          /* owned; NULL: none */
    bool unsafe_nolock;       /* start though a part can't be locked */
    char *metrics;            /* owned; NULL: none */
};

/* path NULL: CONFIG_PATH_DEFAULT, and its absence is fine. volume NULL: only
 * [defaults]. -ENOENT, -EINVAL, -ENOMEM. */
int config_load(const char *path, const char *volume, struct config *ret);
void config_done(struct config *config);

/* One "key=value", as in the file (lists excepted: one value). -EINVAL. */
int config_set(struct config *config, const char *setting);

/* "4M", "1.5G", "512", "10k": bytes; suffixes K M G T P E and b (=1), s
 * (=512), either case, as nbdkit and qemu-img take them; a fraction is taken
 * when the result is whole. -EINVAL with a text. */
int size_parse(const char *text, uint64_t *ret);

#endif
