/* diff.c: lsvd diff: in what two states of a volume differ. The server of a
 * volume tells it, piece by piece; of others and of snapshots, the engine here.
 */
#include "ask.h"
#include "request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* They are printed when all are known: a list that is cut short is none. */
struct changes {
    struct lsvd_change *change; /* owned */
    size_t count, room;
};

static int
keep(void *ctx, const struct lsvd_change *change)
{
    struct changes *c = ctx;
    struct lsvd_change *grown, *last;

    last = c->count > 0 ? &c->change[c->count - 1] : NULL;
    if (last && last->offset + last->count == change->offset &&
        last->is_data == change->is_data) { /* of two pieces */
        last->count += change->count;
        return 0;
    }
    if (c->count == c->room) {
        c->room = 2 * c->room + 64;
        grown = realloc(c->change, c->room * sizeof *grown);
        if (!grown)
            cli_no_memory();
        c->change = grown;
    }
    c->change[c->count++] = *change;
    return 0;
}

/* As qemu-img map prints it. Depth: seen from FROM, TO is one layer above. */
static void
print_json_change(const struct lsvd_change *change)
{
    json_t *object = cli_json_new();
    char *text;

    cli_json_set(object, "start", cli_json_u64(change->offset));
    cli_json_set(object, "length", cli_json_u64(change->count));
    cli_json_set(object, "depth", cli_json_u64(0));
    cli_json_set(object, "present", json_true());
    cli_json_set(object, "zero", json_boolean(!change->is_data));
    cli_json_set(object, "data", json_boolean(change->is_data));
    cli_json_set(object, "compressed", json_false());
    text = json_dumps(object, 0);
    if (!text)
        cli_no_memory();
    fputs(text, stdout);
    free(text);
    json_decref(object);
}

static void
print_json(const struct changes *c)
{
    putchar('[');
    for (size_t i = 0; i < c->count; i++) {
        print_json_change(&c->change[i]);
        if (i + 1 < c->count)
            fputs(",\n", stdout);
    }
    puts("]");
}

static void
print_table(const struct changes *c, const char *from, const char *to)
{
    char all[CLI_SIZE_BYTES], zeroes[CLI_SIZE_BYTES];
    uint64_t bytes = 0, zero_bytes = 0;

    if (c->count == 0) {
        printf("%s holds what %s does\n", to, from);
        return;
    }
    printf("%16s %16s  %s\n", "START", "LENGTH", "IS NOW");
    for (size_t i = 0; i < c->count; i++) {
        const struct lsvd_change *change = &c->change[i];

        printf("%16" PRIu64 " %16" PRIu64 "  %s\n", change->offset,
               change->count, change->is_data ? "data" : "zeroes");
        bytes += change->count;
        zero_bytes += change->is_data ? 0 : change->count;
    }
    printf("%s changed in %zu extent%s, %s of it to zeroes\n",
           cli_size(bytes, all), c->count, c->count == 1 ? "" : "s",
           cli_size(zero_bytes, zeroes));
}

/* ---- of a served volume ---- */

static json_t *
new_args(const char *from, uint64_t offset)
{
    json_t *args = cli_json_new();
    cli_json_set(args, "from", cli_json_text(from));
    cli_json_set(args, "offset", cli_json_u64(offset));
    return args;
}

/* As cli_ask. *ret_next: where to go on; 0: that was all. */
static int
ask_piece(struct request *req, const char *from, const char *volume,
          uint64_t offset, struct changes *c, uint64_t *ret_next,
          char error[CONTROL_ERROR_BYTES])
{
    json_t *args = new_args(from, offset), *result = NULL, *one;
    const struct control_ask ask = { .volume = volume, .op = "diff",
                                     .args = args };
    int r = cli_ask(&req->cli, &ask, &result, error);
    size_t i;

    json_decref(args);
    if (r < 0)
        return r;
    json_array_foreach(json_object_get(result, "changes"), i, one) {
        const struct lsvd_change change = {
            .offset = (uint64_t)json_integer_value(json_array_get(one, 0)),
            .count = (uint64_t)json_integer_value(json_array_get(one, 1)),
            .is_data = json_is_true(json_array_get(one, 2)),
        };

        (void)keep(c, &change);
    }
    *ret_next = ask_u64(result, "next");
    json_decref(result);
    return 0;
}

/* True: there is a server, and *ret is the exit status. */
static bool
told_by_server(struct request *req, const char *from, const char *volume,
               struct changes *c, int *ret)
{
    char error[CONTROL_ERROR_BYTES];
    uint64_t at = 0, next;
    int r;

    if (strchr(volume, '@'))
        return false;
    r = ask_piece(req, from, volume, 0, c, &next, error);
    if (ask_is_offline(r))
        return false;
    while (r == 0 && next > at) {
        at = next;
        r = ask_piece(req, from, volume, at, c, &next, error);
    }
    *ret = r < 0 ? cli_fail(&req->cli, EXIT_FAILURE, "%s", error) : 0;
    return true;
}

static int
diff(struct request *req, const char *from, const char *to)
{
    struct lsvd_env env = cli_env(&req->cli);
    struct changes c = { .count = 0 };
    int r = 0;

    if (!told_by_server(req, from, to, &c, &r) &&
        lsvd_diff(&env, from, to, keep, &c) < 0)
        r = cli_engine_failed(&req->cli);
    if (r == 0 && req->cli.json)
        print_json(&c);
    else if (r == 0)
        print_table(&c, from, to);
    free(c.change);
    return r;
}

int
command_diff(struct request *req)
{
    const char *from = req->words[0], *at = strchr(from, '@');
    char *volume;
    int r;

    if (req->words[1])
        return diff(req, from, req->words[1]);
    if (!at || at == from || !at[1])
        return cli_usage(&req->cli, "%s: a snapshot is named "
                         "VOLUME@SNAPSHOT", from);
    volume = strndup(from, (size_t)(at - from));
    if (!volume)
        cli_no_memory();
    r = diff(req, from, volume);
    free(volume);
    return r;
}
