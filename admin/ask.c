/* ask.c: see ask.h. */
#include "ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int
cli_ask(struct cli *cli, const struct control_ask *ask, json_t **ret_result,
        char error[CONTROL_ERROR_BYTES])
{
    struct lsvd_env env = cli_env(cli);
    struct lsvd_caches *caches = malloc(sizeof *caches);
    int r;

    if (!caches)
        cli_no_memory();
    r = lsvd_caches(&env, ask->volume, caches);
    if (r < 0)
        (void)snprintf(error, CONTROL_ERROR_BYTES, "%s", lsvd_error());
    else
        r = control_ask(caches, ask, ret_result, error);
    free(caches);
    return r;
}

bool
ask_is_offline(int result)
{
    return result == -ENOENT || result == -EACCES;
}

uint64_t
ask_u64(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (uint64_t)value : 0;
}

const char *
ask_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

bool
ask_bool(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

char
ask_letter(const json_t *object, const char *key)
{
    return ask_text(object, key)[0];
}
