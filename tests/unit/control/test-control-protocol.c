/* test-control-protocol.c: requests on the control socket, read and
 * written. */
#include "../unit.h"
#include "control/protocol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int
parse(const char *line, struct control_request *request, char *error)
{
    return control_request_parse(line, strlen(line), request, error);
}

static void
what_is_written_is_read(void **state)
{
    json_t *args = json_pack("{s:s, s:i}", "part", "b", "n", 5);
    char *line = control_request_format(9, "db", "rebuild", args);
    char error[CONTROL_ERROR_BYTES];
    struct control_request request;
    size_t bytes = strlen(line);

    (void)state;
    assert_int_equal(line[bytes - 1], '\n');
    assert_ptr_equal(strchr(line, '\n'), line + bytes - 1);
    assert_int_equal(control_request_parse(line, bytes - 1, &request, error),
                     0);
    assert_int_equal(request.id, 9);
    assert_string_equal(request.volume, "db");
    assert_string_equal(request.op, "rebuild");
    assert_true(json_equal(request.args, args));
    control_request_done(&request);
    json_decref(args);
    free(line);
}

static void
args_and_id_may_be_left_out(void **state)
{
    char error[CONTROL_ERROR_BYTES];
    struct control_request request;

    (void)state;
    assert_int_equal(parse("{\"version\":1,\"volume\":\"v\",\"op\":\"status\","
                           "\"later\":[1,{\"x\":null}]}", &request, error),
                     0);
    assert_int_equal(request.id, 0);
    assert_int_equal(json_object_size(request.args), 0);
    control_request_done(&request);
}

static void
nonsense_is_refused_with_a_line(void **state)
{
    static const struct {
        int r;
        const char *line, *word;
    } rows[] = {
        { -EINVAL, "", "JSON" },
        { -EINVAL, "status", "JSON" },
        { -EINVAL, "[]", "JSON" },
        { -EINVAL, "7", "JSON" },
        { -EINVAL, "{} {}", "JSON" },
        { -EINVAL, "{\"version\":1,\"version\":1}", "JSON" },
        { -EINVAL, "{}", "version" },
        { -EINVAL, "{\"version\":\"1\"}", "version" },
        { -EINVAL, "{\"version\":1.0}", "version" },
        { -EPROTO, "{\"version\":0}", "version" },
        { -EPROTO, "{\"version\":9223372036854775807}", "version" },
        { -EINVAL, "{\"version\":1,\"id\":-1}", "id" },
        { -EINVAL, "{\"version\":1,\"id\":\"x\"}", "id" },
        { -EINVAL, "{\"version\":1}", "volume" },
        { -EINVAL, "{\"version\":1,\"volume\":\"a b\"}", "volume" },
        { -EINVAL, "{\"version\":1,\"volume\":\"a\\u0007\"}", "volume" },
        { -EINVAL, "{\"version\":1,\"volume\":\"\xc3\xa9\"}", "volume" },
        { -EINVAL, "{\"version\":1,\"volume\":\"v\"}", "op" },
        { -EINVAL, "{\"version\":1,\"volume\":\"v\",\"op\":1}", "op" },
        { -EINVAL,
          "{\"version\":1,\"volume\":\"v\",\"op\":\"x\",\"args\":1}",
          "args" },
    };
    char error[CONTROL_ERROR_BYTES];
    struct control_request request;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        error[0] = '\0';
        assert_int_equal(parse(rows[i].line, &request, error), rows[i].r);
        assert_non_null(strstr(error, rows[i].word));
        assert_null(strchr(error, '\n'));
        assert_null(request.args);
    }
}

static void
an_id_is_known_also_of_a_refused_request(void **state)
{
    char error[CONTROL_ERROR_BYTES];
    struct control_request request;

    (void)state;
    assert_int_equal(parse("{\"version\":2,\"id\":5}", &request, error),
                     -EPROTO);
    assert_int_equal(request.id, 5);
}

static void
lengths_are_bounded(void **state)
{
    static const char whole[] =
        "{\"version\":1,\"volume\":\"v\",\"op\":\"x\"}";
    char *line = malloc(CONTROL_REQUEST_MAX + 1), name[66];
    char error[CONTROL_ERROR_BYTES];
    struct control_request request;
    json_t *args;

    (void)state;
    memset(line, ' ', CONTROL_REQUEST_MAX);
    memcpy(line, whole, sizeof whole - 1);
    assert_int_equal(control_request_parse(line, CONTROL_REQUEST_MAX - 1,
                                           &request, error), 0);
    control_request_done(&request);
    assert_int_equal(control_request_parse(line, CONTROL_REQUEST_MAX,
                                           &request, error), -EINVAL);
    free(line);

    memset(name, 'n', sizeof name);
    name[65] = '\0';
    line = control_request_format(1, name, "status", NULL);
    assert_int_equal(parse(line, &request, error), -EINVAL);
    free(line);
    line = control_request_format(1, name + 1, "status", NULL);
    assert_int_equal(parse(line, &request, error), 0);
    control_request_done(&request);
    free(line);

    args = json_object();
    line = malloc(CONTROL_REQUEST_MAX);
    memset(line, 'x', CONTROL_REQUEST_MAX - 1);
    line[CONTROL_REQUEST_MAX - 1] = '\0';
    json_object_set_new(args, "x", json_string(line));
    assert_null(control_request_format(1, "v", "x", args));
    json_decref(args);
    free(line);
}

static void
a_long_directory_is_reached_through_its_descriptor(void **state)
{
    char directory[200];
    struct sockaddr_un address;

    (void)state;
    control_address("/cache", 7, "x.control", &address);
    assert_int_equal(address.sun_family, AF_UNIX);
    assert_string_equal(address.sun_path, "/cache/x.control");
    memset(directory, 'd', sizeof directory);
    directory[0] = '/';
    directory[sizeof address.sun_path - 10] = '\0';
    control_address(directory, 7, "x.control", &address);
    assert_string_equal(address.sun_path, "/proc/self/fd/7/x.control");
    directory[sizeof address.sun_path - 11] = '\0'; /* just fits */
    control_address(directory, 7, "x.control", &address);
    assert_int_equal(strlen(address.sun_path), sizeof address.sun_path - 1);
}

static void
any_bytes_become_text(void **state)
{
    json_t *text = control_text("/a/\xff");

    (void)state;
    assert_string_equal(json_string_value(text), "/a/?");
    json_decref(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(args_and_id_may_be_left_out),
        cmocka_unit_test(nonsense_is_refused_with_a_line),
        cmocka_unit_test(an_id_is_known_also_of_a_refused_request),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(a_long_directory_is_reached_through_its_descriptor),
        cmocka_unit_test(any_bytes_become_text),
    };

    return cmocka_run_group_tests_name("control-protocol", tests, NULL, NULL);
}
