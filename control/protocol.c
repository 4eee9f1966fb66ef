/* protocol.c: requests, read and written; see protocol.h. Whatever a client
 * sent is judged here, before anything else sees it. */
#include "control/protocol.h"

#include <stdint.h>
#include <time.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int refuse(char *to, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int
refuse(char *to, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(to, CONTROL_ERROR_BYTES, format, args);
    va_end(args);
    return error;
}

/* Words and names: printable, and short enough for what takes them. */
static bool
take_word(const json_t *from, const char *key, char *to, size_t to_bytes)
{
    const json_t *value = json_object_get(from, key);
    size_t length = json_string_length(value);

    if (!json_is_string(value) || length == 0 || length >= to_bytes)
        return false;
    for (const char *p = json_string_value(value); *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return false;
    memcpy(to, json_string_value(value), length + 1);
    return true;
}

static int
take_args(const json_t *from, json_t **ret)
{
    json_t *args = json_object_get(from, "args");

    if (args && !json_is_object(args))
        return -EINVAL;
    *ret = args ? json_incref(args) : json_object();
    return *ret ? 0 : -ENOMEM;
}

static int
take_all(const json_t *from, struct control_request *ret, char *error)
{
    const json_t *version = json_object_get(from, "version");
    const json_t *id = json_object_get(from, "id");
    int r;

    if (json_is_integer(id) && json_integer_value(id) >= 0)
        ret->id = json_integer_value(id);
    else if (id)
        return refuse(error, -EINVAL, "id is not a number from 0 on");
    if (!json_is_integer(version))
        return refuse(error, -EINVAL, "the request names no version");
    if (json_integer_value(version) != CONTROL_VERSION)
        return refuse(error, -EPROTO, "version %" JSON_INTEGER_FORMAT
                      " of the protocol is not spoken here: this server has "
                      "version %d", json_integer_value(version),
                      CONTROL_VERSION);
    if (!take_word(from, "volume", ret->volume, sizeof ret->volume))
        return refuse(error, -EINVAL, "the request names no volume");
    if (!take_word(from, "op", ret->op, sizeof ret->op))
        return refuse(error, -EINVAL, "the request names no op");
    r = take_args(from, &ret->args);
    if (r == -EINVAL)
        return refuse(error, r, "args is not an object");
    return r < 0 ? refuse(error, r, "out of memory") : 0;
}

int
control_request_parse(const char *line, size_t bytes,
                      struct control_request *ret,
                      char error[CONTROL_ERROR_BYTES])
{
    json_error_t why;
    json_t *all;
    int r;

    *ret = (struct control_request){ 0 };
    if (bytes >= CONTROL_REQUEST_MAX)
        return refuse(error, -EINVAL, "the request is longer than %d bytes",
                      CONTROL_REQUEST_MAX);
    all = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &why);
    if (!all && json_error_code(&why) == json_error_out_of_memory)
        return refuse(error, -ENOMEM, "out of memory");
    if (!json_is_object(all)) {
        json_decref(all);
        return refuse(error, -EINVAL, "the request is not a JSON object");
    }
    r = take_all(all, ret, error);
    json_decref(all);
    return r;
}

void
control_request_done(struct control_request *request)
{
    json_decref(request->args);
    request->args = NULL;
}

char *
control_request_format(json_int_t id, const char *volume, const char *op,
                       const json_t *args)
{
    json_t *all = json_pack("{s:i, s:I, s:s, s:s}", "version",
                            CONTROL_VERSION, "id", id, "volume", volume,
                            "op", op);
    json_t *copy = args ? json_deep_copy(args) : json_object();
    char *text = NULL, *line = NULL;

    if (all && json_object_set_new(all, "args", copy) == 0)
        text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    if (text && strlen(text) < CONTROL_REQUEST_MAX &&
        asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    return line;
}

json_t *
control_text(const char *text)
{
    json_t *value = json_string(text);
    char *copy;

    if (value)
        return value;
    copy = strdup(text);
    if (!copy)
        return NULL;
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

void
control_address(const char *directory, int directory_fd, const char *name,
                struct sockaddr_un *ret)
{
    int length;

    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    length = snprintf(ret->sun_path, sizeof ret->sun_path, "%s/%s",
                      directory, name);
    if (length < 0 || (size_t)length >= sizeof ret->sun_path)
        (void)snprintf(ret->sun_path, sizeof ret->sun_path,
                       "/proc/self/fd/%d/%s", directory_fd, name);
}

int
control_fail(char *to, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(to, CONTROL_ERROR_BYTES, format, args);
    va_end(args);
    return error;
}

int64_t
control_now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
