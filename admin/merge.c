/* merge.c: see served.h. A family is what stands between two "# HELP " lines
 * at their beginning. */
#include "served.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELP "# HELP "

struct family {
    char *heading; /* HELP and TYPE; owned */
    char *samples; /* of all volumes so far; owned */
};

static char *
must_ndup(const char *text, size_t bytes)
{
    char *copy = strndup(text, bytes);

    if (!copy)
        cli_no_memory();
    return copy;
}

static struct family *
find_family(struct merged *m, const char *heading, size_t bytes)
{
    struct family *grown;

    for (size_t i = 0; i < m->count; i++)
        if (strlen(m->family[i].heading) == bytes &&
            memcmp(m->family[i].heading, heading, bytes) == 0)
            return &m->family[i];
    grown = realloc(m->family, (m->count + 1) * sizeof *grown);
    if (!grown)
        cli_no_memory();
    m->family = grown;
    grown[m->count] = (struct family){ .heading = must_ndup(heading, bytes),
                                       .samples = must_ndup("", 0) };
    return &grown[m->count++];
}

static void
add_samples(struct family *family, const char *text, size_t bytes)
{
    char *joined;

    if (asprintf(&joined, "%s%.*s", family->samples, (int)bytes, text) < 0)
        cli_no_memory();
    free(family->samples);
    family->samples = joined;
}

void
merged_add(struct merged *m, const char *text)
{
    while (*text) {
        const char *next = strstr(text + 1, "\n" HELP), *samples = text;
        size_t bytes = next ? (size_t)(next + 1 - text) : strlen(text);

        while (*samples == '#') {
            samples += strcspn(samples, "\n");
            samples += *samples == '\n';
        }
        add_samples(find_family(m, text, (size_t)(samples - text)), samples,
                    bytes - (size_t)(samples - text));
        text += bytes;
    }
}

void
merged_print(const struct merged *m)
{
    for (size_t i = 0; i < m->count; i++) {
        fputs(m->family[i].heading, stdout);
        fputs(m->family[i].samples, stdout);
    }
}

void
merged_free(struct merged *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->family[i].heading);
        free(m->family[i].samples);
    }
    free(m->family);
}
