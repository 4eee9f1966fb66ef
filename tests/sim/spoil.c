/* spoil.c: what happens to the file of the read cache while nobody serves: it
 * is gone, damaged, or one of an earlier time. None of that may be seen but by
 * what is read from the parts. */
#include "life.h"
#include <stdlib.h>
#include <string.h>

static bool
find(struct life *l, char *path, size_t bytes)
{
    char **names = simio_names(l->s, "/cache");
    bool found = false;

    for (size_t i = 0; names && names[i] && !found; i++) {
        size_t length = strlen(names[i]);

        found = length > 7 && strcmp(names[i] + length - 7, ".rcache") == 0;
        if (found)
            snprintf(path, bytes, "/cache/%s", names[i]);
    }
    simio_names_free(names);
    return found;
}

static void
flip_some(struct life *l, const char *path)
{
    int64_t size = simio_file_size(l->s, path);

    for (uint64_t i = prng_between(&l->prng, 1, 40); i > 0 && size > 0; i--)
        (void)simio_flip(l->s, path, prng_below(&l->prng, (uint64_t)size),
                         (uint8_t)(1u << prng_below(&l->prng, 8)));
}

void
life_spoil(struct life *l)
{
    char path[96];

    if (!l->policy.read_cache || l->failed || !find(l, path, sizeof path))
        return;
    switch (prng_below(&l->prng, 12)) {
    case 0:
        life_event(l, "the read cache is gone");
        (void)simio_delete(l->s, path);
        break;
    case 1:
        life_event(l, "the read cache is damaged");
        flip_some(l, path);
        break;
    case 2:
        simio_copy_free(l->rcache_copy);
        l->rcache_copy = simio_take_copy(l->s, path);
        break;
    case 3:
    case 4:
        if (!l->rcache_copy)
            break;
        life_event(l, "the read cache is an old copy");
        (void)simio_put_copy(l->s, path, l->rcache_copy);
        break;
    default:
        break;
    }
}

void
life_spoil_end(struct life *l)
{
    simio_copy_free(l->rcache_copy);
    l->rcache_copy = NULL;
}
