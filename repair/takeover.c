/* takeover.c: making sure that the old server can't write, before its locks are
 * taken away: by the site's command, or by the word of the operator and by
 * watching its heartbeat. */
#include "repair.h"

#include <interrupt.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define OBSERVE_SECONDS 180 /* two leases of an NFS server */
#define LOOK_MS 1000
#define COMMAND_BYTES 4096

extern char **environ;

struct owners {
    struct lsvd_owner owner[LSVD_OWNERS_MAX];
    uint32_t count;
};

static enum repair_code
fail(struct request *req, const char *text)
{
    return (enum repair_code)cli_fail(&req->cli, CODE_FAILED, "%s", text);
}

static bool
look(struct request *req, const char *volume, struct owners *ret)
{
    struct lsvd_env env = cli_env(&req->cli);

    return lsvd_owners(&env, volume, ret->owner, &ret->count) == 0;
}

/* ---- the site's command ---- */

static void
set_number(const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    if (setenv(name, text, 1) < 0)
        cli_no_memory();
}

/* Its exit status, or -1. Values go by the environment and as words, never
 * into the command. */
static int
run_command(const char *command, const char *volume,
            const struct lsvd_owner *owner)
{
    char pid_text[24], epoch_text[24], host[sizeof owner->host];
    char *name = strdup(volume), *text = strdup(command);
    char *words[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, text,
                      (char[]){ "fence-cmd" }, name, host, pid_text,
                      epoch_text, NULL };
    pid_t pid;
    int status = -1, r;

    if (!name || !text || setenv("LSVD_VOLUME", volume, 1) < 0 ||
        setenv("LSVD_HOST", owner->host, 1) < 0)
        cli_no_memory();
    memcpy(host, owner->host, sizeof host);
    (void)snprintf(pid_text, sizeof pid_text, "%ld", owner->pid);
    (void)snprintf(epoch_text, sizeof epoch_text, "%" PRIu32, owner->epoch);
    set_number("LSVD_PID", (uint64_t)owner->pid);
    set_number("LSVD_EPOCH", owner->epoch);
    r = posix_spawn(&pid, words[0], NULL, NULL, words, environ);
    if (r == 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    free(name);
    free(text);
    return r == 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool
is_same(const struct lsvd_owner *a, const struct lsvd_owner *b)
{
    return strcmp(a->host, b->host) == 0 && a->pid == b->pid;
}

/* Each process that has a lock, once. */
static bool
fence_all(struct request *req, const char *command, const char *volume,
          const struct owners *owners)
{
    for (uint32_t i = 0; i < owners->count; i++) {
        const struct lsvd_owner *o = &owners->owner[i];
        bool seen = !o->held;
        char text[256];
        int status;

        for (uint32_t j = 0; j < i; j++)
            seen |= owners->owner[j].held && is_same(o, &owners->owner[j]);
        if (seen)
            continue;
        status = run_command(command, volume, o);
        if (status == 0)
            continue;
        (void)snprintf(text, sizeof text, "volume %s: fence-cmd for host "
                       "%.64s failed (status %d); nothing was changed",
                       volume, o->host, status);
        (void)fail(req, text);
        return false;
    }
    return true;
}

/* ---- watching ---- */

static const struct lsvd_owner *
find(const struct owners *owners, char part)
{
    for (uint32_t i = 0; i < owners->count; i++)
        if (owners->owner[i].part == part)
            return &owners->owner[i];
    return NULL;
}

/* The one whose record has changed; NULL: none. */
static const struct lsvd_owner *
moved(const struct owners *first, const struct owners *now)
{
    for (uint32_t i = 0; i < now->count; i++) {
        const struct lsvd_owner *o = &now->owner[i];
        const struct lsvd_owner *before = find(first, o->part);

        if (o->held && before && strcmp(o->text, before->text) != 0)
            return o;
    }
    return NULL;
}

static bool
observe(struct request *req, const char *volume, const struct owners *first)
{
    unsigned seconds = req->observe_seconds ? req->observe_seconds
                                            : OBSERVE_SECONDS;
    struct owners now;
    char text[256];

    if (!req->cli.quiet)
        (void)cli_fail(&req->cli, 0, "volume %s: watching the heartbeat of "
                       "its owner for %u s", volume, seconds);
    for (unsigned i = 0; i < seconds; i++) {
        const struct lsvd_owner *alive;

        (void)poll(NULL, 0, LOOK_MS);
        if (interrupted()) {
            (void)fail(req, "interrupted; nothing was changed");
            return false;
        }
        if (!look(req, volume, &now)) {
            (void)fail(req, lsvd_error());
            return false;
        }
        alive = moved(first, &now);
        if (!alive)
            continue;
        (void)snprintf(text, sizeof text, "volume %s: host %.64s (pid %ld) is "
                       "alive, its heartbeat goes on: it is not fenced; "
                       "nothing was changed", volume, alive->host,
                       alive->pid);
        (void)fail(req, text);
        return false;
    }
    return true;
}

/* ---- the whole ---- */

/* How it is known that the old server can't write; NULL: it is not, and that
 * was said. */
static const char *
make_sure(struct request *req, const char *volume)
{
    struct lsvd_env env = cli_env(&req->cli);
    char command[COMMAND_BYTES];
    struct owners first;

    if (lsvd_fence_command(&env, volume, command, sizeof command) < 0 ||
        lsvd_takeover(&env, volume, NULL) < 0 ||
        !look(req, volume, &first)) {
        (void)fail(req, lsvd_error());
        return NULL;
    }
    if (req->fenced_it)
        return observe(req, volume, &first)
                   ? "the operator has fenced the other host" : NULL;
    if (command[0])
        return fence_all(req, command, volume, &first)
                   ? "fence-cmd has succeeded" : NULL;
    (void)fail(req, "there is no fence-cmd: fence the other host, then say "
                    "--i-fenced-it; nothing was changed");
    return NULL;
}

enum repair_code
takeover(struct request *req, const char *volume)
{
    const char *how = make_sure(req, volume);
    struct lsvd_env env = cli_env(&req->cli);
    json_t *object;
    int r;

    if (!how)
        return CODE_FAILED;
    r = lsvd_takeover(&env, volume, how);
    if (r < 0 && r != -EALREADY) /* it is gone, and its locks with it */
        return fail(req, lsvd_error());
    if (!req->cli.json) {
        if (!req->cli.quiet)
            printf("%s: taken over: %s; start it now\n", volume, how);
        return CODE_OK;
    }
    object = cli_json_new();
    cli_json_set(object, "volume", cli_json_text(volume));
    cli_json_set(object, "command", cli_json_text("takeover"));
    cli_json_set(object, "exit_code", cli_json_u64(CODE_OK));
    cli_json_set(object, "how", cli_json_text(how));
    cli_json_print(object);
    return CODE_OK;
}
