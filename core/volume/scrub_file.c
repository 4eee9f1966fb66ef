/* scrub_file.c: the pace of the scrub, and the file that says where it was
 * (docs/format.md). */
#include "base/bytes.h"
#include "base/err.h"
#include "base/sum.h"
#include "target/target.h"
#include "volume/scrub.h"
#include "volume/volume.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_VERSION 1
#define BODY_BYTES (SCRUB_FILE_BYTES - 8)

static const uint8_t magic[8] = {'L', 'S', 'V', 'D', 'S', 'C', 'R', 'B'};

/* ---- pace ---- */

/* The last one is due when the pass is over. */
uint64_t
scrub_due_in_pass_ns(uint64_t pass_ns, uint64_t done, uint64_t total)
{
    if (done >= total || done + 1 == total)
        return pass_ns;
    return (uint64_t)((double)pass_ns * ((double)(done + 1) / (double)total));
}

uint64_t
scrub_rate_ns(uint64_t bytes, uint64_t rate)
{
    return rate ? (uint64_t)((double)bytes / (double)rate * 1e9) : 0;
}

/* ---- bytes ---- */

void
scrub_encode(const struct scrub_mark *mark, const struct uuid *volume,
             uint8_t *bytes)
{
    struct byte_writer out = {.at = bytes, .left = BODY_BYTES};

    memset(bytes, 0, SCRUB_FILE_BYTES);
    write_bytes(&out, magic, sizeof magic);
    write_u32(&out, FORMAT_VERSION);
    write_u32(&out, 0);
    write_bytes(&out, volume->b, sizeof volume->b);
    write_u64(&out, mark->next);
    write_u64(&out, mark->chunks);
    write_u64(&out, mark->bytes);
    write_u64(&out, mark->served_ns);
    write_u64(&out, mark->began);
    write_u64(&out, mark->last_end);
    write_u64(&out, mark->passes);
    write_u64(&out, mark->healed);
    write_u64(&out, mark->unhealed);
    write_u64(&out, mark->lost_bytes);
    assert(!out.overrun);
    put_le64(bytes + BODY_BYTES, sum_bytes(bytes, BODY_BYTES));
}

int
scrub_decode(const uint8_t *bytes, uint64_t count, const struct uuid *volume,
             struct scrub_mark *ret)
{
    struct byte_reader in = {.at = bytes, .left = BODY_BYTES};
    struct uuid uuid;
    uint32_t format;

    if (count != SCRUB_FILE_BYTES ||
        memcmp(bytes, magic, sizeof magic) != 0 ||
        get_le64(bytes + BODY_BYTES) != sum_bytes(bytes, BODY_BYTES))
        return err_set(-EBADMSG, "scrub: damaged, or not its file");
    (void)read_skip(&in, sizeof magic);
    format = read_u32(&in);
    (void)read_u32(&in);
    read_bytes(&in, uuid.b, sizeof uuid.b);
    if (format != FORMAT_VERSION || !uuid_equal(&uuid, volume))
        return err_set(-EBADMSG, "scrub: another volume's, or another "
                       "version's");
    ret->next = read_u64(&in);
    ret->chunks = read_u64(&in);
    ret->bytes = read_u64(&in);
    ret->served_ns = read_u64(&in);
    ret->began = read_u64(&in);
    ret->last_end = read_u64(&in);
    ret->passes = read_u64(&in);
    ret->healed = read_u64(&in);
    ret->unhealed = read_u64(&in);
    ret->lost_bytes = read_u64(&in);
    return 0;
}

/* ---- the file ---- */

void
scrub_file_name(const struct lsvd_volume *v, char *text, size_t bytes)
{
    char uuid[UUID_TEXT_BYTES];

    uuid_format(&v->meta.uuid, uuid);
    snprintf(text, bytes, "%s.scrub", uuid);
}

static int
load_from(struct lsvd_volume *v, size_t nth, struct scrub_mark *ret)
{
    uint8_t *bytes = NULL;
    struct target *dir;
    size_t count;
    char name[64];
    int r;

    r = env_open_cache(&v->world, &v->config, nth, &dir);
    if (r < 0)
        return r;
    scrub_file_name(v, name, sizeof name);
    r = target_load(dir, name, SCRUB_FILE_BYTES, &bytes, &count);
    if (r == 0)
        r = scrub_decode(bytes, count, &v->meta.uuid, ret);
    free(bytes);
    target_close(dir);
    return r;
}

/* One from a directory that was not there for a while lags behind. */
static bool
is_further(const struct scrub_mark *a, const struct scrub_mark *b)
{
    return a->passes != b->passes ? a->passes > b->passes
                                  : a->next > b->next;
}

void
scrub_load(struct lsvd_volume *v, struct scrub_mark *ret)
{
    struct scrub_mark found;

    memset(ret, 0, sizeof *ret);
    for (size_t i = 0; v->config.cache[i]; i++) {
        int r = load_from(v, i, &found);

        if (r == 0 && is_further(&found, ret))
            *ret = found;
        else if (r < 0 && r != -ENOENT)
            log_event(&v->log, LOG_WARNING_LEVEL,
                      "volume %s: where the scrub was can't be read from %s "
                      "(%s)",
                      v->meta.name, v->config.cache[i], err_text());
    }
}

static int
store_in(struct lsvd_volume *v, size_t nth, const uint8_t *bytes)
{
    struct target *dir;
    char name[64];
    int r;

    r = env_open_cache(&v->world, &v->config, nth, &dir);
    if (r < 0)
        return r;
    scrub_file_name(v, name, sizeof name);
    r = target_store(dir, name, bytes, SCRUB_FILE_BYTES);
    target_close(dir);
    return r;
}

int
scrub_store(struct lsvd_volume *v, const struct scrub_mark *mark)
{
    uint8_t bytes[SCRUB_FILE_BYTES];
    int r = -ENOENT;

    scrub_encode(mark, &v->meta.uuid, bytes);
    for (size_t i = 0; r < 0 && v->config.cache[i]; i++)
        r = store_in(v, i, bytes);
    return r;
}
