/* protocol.h: what is said on the control socket of a served volume.
 *
 * The socket is <cache>/<volume UUID>.control, mode 0600. One request on a
 * connection, one line: a JSON object of at most CONTROL_REQUEST_MAX bytes,
 *
 *   {"version": 1, "id": 7, "volume": "db", "op": "status", "args": {}}
 *
 * and lines in answer, JSON objects with the same id: any number of
 *
 *   {"id": 7, "event": {…}}  or "finding", "lost", "healed", "progress"
 *
 * then one with "done", after which the server closes:
 *
 *   {"version": 1, "id": 7, "done": true, "result": {…}}
 *   {"version": 1, "id": 7, "done": true, "error": "one line", "errno": 16}
 *
 * errno is ENXIO if the volume is another than the socket's.
 * Names that a reader does not know are to be passed over; what changes the
 * meaning of those that exist gets another version. */
#ifndef LSVD_CONTROL_PROTOCOL_H
#define LSVD_CONTROL_PROTOCOL_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#define CONTROL_VERSION 1
#define CONTROL_REQUEST_MAX 4096 /* bytes, the newline included */
#define CONTROL_ANSWER_MAX (4u << 20)
#define CONTROL_SUFFIX ".control"
#define CONTROL_ERROR_BYTES 512

struct control_request {
    json_int_t id;    /* >= 0 */
    char volume[65];  /* name or UUID */
    char op[32];
    json_t *args;     /* an object; owned */
};

/* Parse one line (without its newline). 0, or -EINVAL, -EPROTO (another
 * version), -ENOMEM with a line of text; ret->id is what could be read, else
 * 0, and nothing is owned then. */
int control_request_parse(const char *line, size_t bytes,
                          struct control_request *ret,
                          char error[CONTROL_ERROR_BYTES]);
void control_request_done(struct control_request *request);

/* The line, with its newline; args (NULL: none) is borrowed. NULL: out of
 * memory, or longer than CONTROL_REQUEST_MAX. malloc'ed. */
char *control_request_format(json_int_t id, const char *volume,
                             const char *op, const json_t *args);

/* A JSON string of any bytes: those that are not UTF-8 become ?. NULL: out of
 * memory. */
json_t *control_text(const char *text);

/* Where the socket `name` in a directory is: by its path where that is short
 * enough, else through the descriptor of the directory, which must stay open
 * until bind or connect has returned. */
void control_address(const char *directory, int directory_fd,
                     const char *name, struct sockaddr_un *ret);

/* For errors on the way: write one line to `to` (CONTROL_ERROR_BYTES) and
 * return error. */
int control_fail(char *to, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Monotonic milliseconds, for deadlines. */
int64_t control_now_ms(void);

#endif
