/* places.c: see places.h. */
#include "volume/places.h"
#include "base/err.h"
#include "base/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
places_get(struct places *p, const char *path, struct place **ret)
{
    struct place *place;
    int r;

    for (size_t i = 0; i < p->count; i++) {
        *ret = &p->place[i];
        if (strcmp((*ret)->path, path) == 0)
            return 0;
    }
    r = mem_grow(p->count + 1, sizeof *p->place, &p->room, &p->place);
    if (r < 0)
        return r;
    place = &p->place[p->count];
    r = mem_dup(path, &place->path);
    if (r < 0)
        return r;
    place->error = p->io->ops->open_dir(p->io, path, 0, &place->root);
    if (place->error < 0) {
        place->root = NULL;
        snprintf(place->text, sizeof place->text, "%s", err_text());
    }
    p->count++;
    *ret = place;
    return 0;
}

int
places_open(struct io *io, const struct logger *log,
            const struct config *config, const struct volume_meta *of,
            struct places *ret)
{
    struct place *place;
    int r = 0;

    *ret = (struct places){.io = io, .log = log, .of = of};
    for (size_t i = 0; config->data[i] && r == 0; i++)
        r = places_get(ret, config->data[i], &place);
    ret->configured = ret->count;
    for (uint32_t i = 0; of && i < of->part_count && r == 0; i++)
        r = places_get(ret, of->part[i].root, &place);
    if (r < 0)
        places_close(ret);
    return r;
}

void
places_close(struct places *p)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->place[i].root)
            target_close(p->place[i].root);
        free(p->place[i].path);
    }
    free(p->place);
    *p = (struct places){0};
}

int
places_check(const struct places *p)
{
    const struct place *failed = NULL;
    bool any = false;

    for (size_t i = 0; i < p->configured; i++) {
        const struct place *place = &p->place[i];

        any |= place->root != NULL;
        if (place->root)
            continue;
        if (!failed || !is_our_trouble(failed->error))
            failed = place;
        if (p->configured > 1)
            log_event(p->log, LOG_WARNING_LEVEL, "%s", place->text);
    }
    if (failed && (!any || is_our_trouble(failed->error)))
        return err_set(failed->error, "data directory: %s", failed->text);
    return any ? 0 : err_set(-ENOENT, "no data directory is given");
}

const char *
places_first(const struct places *p)
{
    size_t i = 0;

    while (i + 1 < p->configured && !p->place[i].root)
        i++;
    return p->place[i].path;
}
