/* create_options.c: the options of lsvd create. Only their form is judged
 * here; what values a volume may have is the engine's to say. */
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A number of one or more digits that ends at *end. */
static bool
parse_count(const char *text, uint32_t *ret, const char **end)
{
    unsigned long value;
    char *stop;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoul(text, &stop, 10);
    if (errno || value > UINT32_MAX)
        return false;
    *ret = (uint32_t)value;
    *end = stop;
    return true;
}

static int
option_replicas(struct request *req, const char *value)
{
    const char *end;

    if (!parse_count(value, &req->create.replicas, &end) || *end ||
        req->create.replicas == 0)
        return cli_usage(&req->cli, "--replicas %s: not a number from 1",
                         value);
    return 0;
}

static int
option_ec(struct request *req, const char *value)
{
    struct lsvd_create *c = &req->create;
    const char *end;

    if (!parse_count(value, &c->ec_data, &end) || *end != '+' ||
        !parse_count(end + 1, &c->ec_parity, &end) || *end ||
        c->ec_data == 0 || c->ec_parity == 0)
        return cli_usage(&req->cli, "--ec %s: not of the form K+M, as 4+2",
                         value);
    return 0;
}

static int
option_size(struct request *req, const char *name, const char *value,
            uint64_t *ret)
{
    if (lsvd_parse_size(value, ret) < 0)
        return cli_usage(&req->cli, "--%s: %s", name, lsvd_error());
    if (*ret == 0)
        return cli_usage(&req->cli, "--%s %s: must be more than 0", name,
                         value);
    return 0;
}

static int
option_size32(struct request *req, const char *name, const char *value,
              uint32_t *ret)
{
    uint64_t bytes;
    int r = option_size(req, name, value, &bytes);

    if (r)
        return r;
    if (bytes > UINT32_MAX)
        return cli_usage(&req->cli, "--%s %s: too large", name, value);
    *ret = (uint32_t)bytes;
    return 0;
}

/* The same directory, by whatever names. */
static bool
same_place(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = x && y && strcmp(x, y) == 0;

    free(x);
    free(y);
    return same;
}

static int
option_part(struct request *req, const char *value)
{
    struct lsvd_create *c = &req->create;

    if (value[0] < 'a' || value[0] > 'z' || value[1] != '=' || !value[2])
        return cli_usage(&req->cli,
                         "--part %s: not of the form a=DIR", value);
    for (size_t i = 0; i < c->part_count; i++)
        if (req->part[i].letter == value[0])
            return cli_usage(&req->cli, "--part %c is given twice",
                             value[0]);
    req->part_root[c->part_count] = cli_absolute(value + 2);
    for (size_t i = 0; i < c->part_count; i++)
        if (same_place(req->part[i].root, req->part_root[c->part_count]))
            return cli_usage(&req->cli,
                             "parts %c and %c are given the same directory %s",
                             req->part[i].letter, value[0],
                             req->part[i].root);
    req->part[c->part_count] = (struct lsvd_create_part){
        .letter = value[0],
        .root = req->part_root[c->part_count],
    };
    c->part_count++; /* at most 26: letters do not repeat */
    c->parts = req->part;
    return 0;
}

int
create_option(struct request *req, const struct cli_option *option,
              const char *value, bool *ret_known)
{
    struct lsvd_create *c = &req->create;
    const char *name = option->name;

    *ret_known = true;
    if (strcmp(name, "replicas") == 0)
        return option_replicas(req, value);
    if (strcmp(name, "ec") == 0)
        return option_ec(req, value);
    if (strcmp(name, "part") == 0)
        return option_part(req, value);
    if (strcmp(name, "chunk-size") == 0)
        return option_size32(req, name, value, &c->chunk_bytes);
    if (strcmp(name, "block-size") == 0)
        return option_size32(req, name, value, &c->block_bytes);
    if (strcmp(name, "size") == 0)
        return option_size(req, name, value, &c->size_bytes);
    if (strcmp(name, "journal-size") == 0)
        return option_size(req, name, value, &c->journal_bytes);
    *ret_known = false;
    return 0;
}
