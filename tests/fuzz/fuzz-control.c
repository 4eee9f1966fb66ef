/* fuzz-control: a request on the control socket of any bytes: refused with a
 * line, or one that says the same when it is written again. */
#include "control/protocol.h"
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void
judge(const struct control_request *request)
{
    char error[CONTROL_ERROR_BYTES];
    struct control_request back;
    char *line;

    FUZZ_CHECK(request->id >= 0);
    FUZZ_CHECK(strlen(request->volume) > 0 && strlen(request->op) > 0);
    FUZZ_CHECK(json_is_object(request->args));
    for (const char *p = request->volume; *p; p++)
        FUZZ_CHECK(*p > ' ' && *p < 0x7f);
    line = control_request_format(request->id, request->volume, request->op,
                                  request->args);
    if (!line)
        return; /* written out it may be longer: \u escapes, numbers */
    FUZZ_CHECK(strchr(line, '\n') == line + strlen(line) - 1);
    FUZZ_CHECK(control_request_parse(line, strlen(line) - 1, &back, error) ==
               0);
    FUZZ_CHECK(back.id == request->id);
    FUZZ_CHECK(strcmp(back.volume, request->volume) == 0);
    FUZZ_CHECK(strcmp(back.op, request->op) == 0);
    FUZZ_CHECK(json_equal(back.args, request->args));
    control_request_done(&back);
    free(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[CONTROL_ERROR_BYTES] = "";
    struct control_request request;
    char *copy = malloc(size ? size : 1); /* no byte behind it */
    int r;

    if (!copy)
        return 0;
    memcpy(copy, data, size);
    r = control_request_parse(copy, size, &request, error);
    FUZZ_CHECK(r == 0 || r == -EINVAL || r == -EPROTO);
    if (r == 0) {
        FUZZ_CHECK(size < CONTROL_REQUEST_MAX);
        judge(&request);
        control_request_done(&request);
    } else {
        FUZZ_CHECK(error[0] != '\0' && request.args == NULL);
    }
    free(copy);
    return 0;
}

size_t
fuzz_seed(size_t idx, uint8_t *to, size_t room)
{
    static const char *const seeds[] = {
        "{\"version\":1,\"id\":1,\"volume\":\"db\",\"op\":\"status\","
        "\"args\":{}}",
        "{\"version\":1,\"id\":7,\"volume\":\"db\",\"op\":\"events\","
        "\"args\":{\"after\":17}}",
        "{\"version\":1,\"id\":9223372036854775807,\"volume\":"
        "\"0f0e0d0c-0000-4000-8000-000000000001\",\"op\":\"replace\","
        "\"args\":{\"part\":\"b\",\"root\":\"/mnt/\\u00e9\",\"nonce\":"
        "\"0123456789abcdef\",\"x\":[1.5e3,null,true,{\"y\":[]}]}}",
        "{\"version\":2}",
        "[[[[[[[[{}]]]]]]]]",
    };
    size_t bytes;

    if (idx >= sizeof seeds / sizeof seeds[0])
        return 0;
    bytes = strlen(seeds[idx]);
    if (bytes > room)
        abort();
    memcpy(to, seeds[idx], bytes);
    return bytes;
}
