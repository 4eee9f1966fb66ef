/* rot.c: a closed, healthy volume is damaged in no more parts than it can
 * lose: bytes flipped, chunk files deleted, cut short or put back as they were
 * some time ago. Every byte must still be read, and rebuild must leave nothing
 * behind. */
#include "life.h"
#include <inttypes.h>

static uint64_t
chunk_count(const struct life *l)
{
    return (l->volume_bytes + LIFE_CHUNK_BYTES - 1) / LIFE_CHUNK_BYTES;
}

static void
chunk_path(const struct life *l, uint32_t part, uint64_t chunk, char *text,
           size_t bytes)
{
    char dir[64];

    life_part_path(l, part, dir, sizeof dir);
    snprintf(text, bytes, "%s/%" PRIu64, dir, chunk);
}

void
life_forget_copies(struct life *l)
{
    for (size_t i = 0; i < LIFE_COPIES; i++) {
        simio_copy_free(l->copy[i]);
        l->copy[i] = NULL;
    }
}

static struct sim_file **
copy_slot(struct life *l, uint32_t part, uint64_t chunk)
{
    return &l->copy[(part * chunk_count(l) + chunk - 1) % LIFE_COPIES];
}

/* Keep a chunk file of today for a later day. */
static void
take_copies(struct life *l, uint32_t part)
{
    for (uint64_t chunk = 1; chunk <= chunk_count(l); chunk++) {
        struct sim_file **slot = copy_slot(l, part, chunk);
        char path[80];

        if (*slot && !prng_one_in(&l->prng, 3))
            continue;
        chunk_path(l, part, chunk, path, sizeof path);
        simio_copy_free(*slot);
        *slot = simio_take_copy(l->s, path);
    }
}

static void
damage_chunk(struct life *l, uint32_t part, uint64_t chunk)
{
    struct sim_file *copy = *copy_slot(l, part, chunk);
    uint64_t flips = prng_between(&l->prng, 1, 6);
    char path[80];
    int64_t size;

    chunk_path(l, part, chunk, path, sizeof path);
    size = simio_file_size(l->s, path);
    if (size <= 0)
        return;
    switch (prng_below(&l->prng, 4)) {
    case 0:
        life_event(l, "damage: %s deleted", path);
        simio_delete(l->s, path);
        break;
    case 1:
        if (!copy)
            break;
        life_event(l, "damage: %s put back", path);
        simio_put_copy(l->s, path, copy);
        break;
    default:
        for (uint64_t i = 0; i < flips; i++) {
            uint64_t limit = prng_one_in(&l->prng, 3) ? 6000
                                                      : (uint64_t)size;
            uint64_t at = prng_below(&l->prng, limit);

            /* Bytes of a cell that is zero by its entry are never read, and
             * most are not even stored: nobody could notice. */
            if (!simio_has_bytes(l->s, path, at))
                continue;
            life_event(l, "damage: %s flipped at %" PRIu64, path, at);
            simio_flip(l->s, path, at,
                       (uint8_t)(1u << prng_below(&l->prng, 8)));
        }
        break;
    }
}

/* What a part knows about itself: another copy, or the other parts, know it
 * too. */
static void
damage_metadata(struct life *l, uint32_t part)
{
    static const char *const names[] = {".label", ".chunks", ".meta"};
    char dir[64], path[80];
    int64_t size;
    uint64_t at;

    life_part_path(l, part, dir, sizeof dir);
    snprintf(path, sizeof path, "%s/%s", dir,
             names[prng_below(&l->prng, 3)]);
    size = simio_file_size(l->s, path);
    if (size <= 0)
        return;
    at = prng_below(&l->prng, (uint64_t)size);
    if (!simio_has_bytes(l->s, path, at))
        return;
    life_event(l, "damage: %s flipped at %" PRIu64, path, at);
    simio_flip(l->s, path, at, (uint8_t)(1u << prng_below(&l->prng, 8)));
}

/* As many parts as can be lost. */
static void
damage(struct life *l, bool with_metadata)
{
    uint32_t parts = life_parts(&l->policy);
    uint32_t first = (uint32_t)prng_below(&l->prng, parts);
    uint32_t count = life_tolerated(&l->policy);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t part = (first + i) % parts;

        for (uint64_t chunk = 1; chunk <= chunk_count(l); chunk++) {
            if (prng_one_in(&l->prng, 2))
                damage_chunk(l, part, chunk);
        }
        if (with_metadata && prng_one_in(&l->prng, 4))
            damage_metadata(l, part);
    }
    l->damaged = true;
}

void
life_mend(struct life *l)
{
    static const struct lsvd_repair_callbacks no_callbacks;
    struct lsvd_report report;

    if (l->failed || !l->damaged)
        return;
    if (lsvd_rebuild(&l->env, LIFE_VOLUME, 0, false, &no_callbacks,
                     &report) < 0)
        life_fail(l, "rebuild: %s", lsvd_error());
    else
        life_event(l, "rebuild: %" PRIu64 " chunks written", report.rebuilt);
    l->damaged = false;
}

void
life_rot_crashed(struct life *l)
{
    if (l->policy.rot && !l->damaged && life_tolerated(&l->policy) > 0 &&
        life_parts_all_recoverable(l) && prng_one_in(&l->prng, 6))
        damage(l, false);
}

void
life_rot(struct life *l)
{
    if (!l->policy.rot || l->damaged || life_tolerated(&l->policy) == 0 ||
        l->failed || prng_one_in(&l->prng, 2))
        return;
    damage(l, true);
    /* sometimes rebuild finds the damage, sometimes a reader does first */
    if (prng_one_in(&l->prng, 2)) {
        if (life_open(l, 0) < 0) {
            life_fail(l, "open after damage: %s", lsvd_error());
            return;
        }
        life_check_image(l, "damaged");
        if (!l->failed && life_close(l) < 0)
            life_fail(l, "close after damage: %s", lsvd_error());
    }
    life_mend(l);
    life_verify(l);
    for (uint32_t i = 0; i < life_parts(&l->policy) && !l->failed; i++)
        take_copies(l, i);
}
