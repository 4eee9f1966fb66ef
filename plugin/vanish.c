/* vanish.c: see vanish.h.
 *
 * What we were compiled against says nothing about what runs us, and there is
 * no function that tells; so the program that we are in is asked for its
 * version, as a person would. */
#define NBDKIT_API_VERSION 2
#include "vanish.h"

#include <errno.h>
#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIXED_IN 1, 33, 10

static struct {
    char version[32]; /* "1.32.5" */
    bool aborts;      /* fixed before the first connection */
    atomic_flag warned;
} vanish = { .warned = ATOMIC_FLAG_INIT };

struct version {
    unsigned major, minor, release;
};

static bool
is_older(const struct version *a, unsigned major, unsigned minor,
         unsigned release)
{
    if (a->major != major)
        return a->major < major;
    if (a->minor != minor)
        return a->minor < minor;
    return a->release < release;
}

/* Its standard output goes to the pipe, all else nowhere. */
static pid_t
spawn_version(int to)
{
    static char program[] = "nbdkit", option[] = "--version";
    char *const words[] = { program, option, NULL };
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int r;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    r = posix_spawn_file_actions_adddup2(&actions, to, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO,
                                             "/dev/null", O_RDONLY, 0);
    if (r == 0)
        r = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO,
                                             "/dev/null", O_WRONLY, 0);
    if (r == 0)
        r = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, words,
                        environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? pid : -1;
}

/* The first line that the program prints, "" if it can't be had. */
static void
ask_version(char *line, size_t room)
{
    int fds[2], status;
    ssize_t n = 0;
    pid_t pid;

    line[0] = '\0';
    if (pipe2(fds, O_CLOEXEC) < 0)
        return;
    pid = spawn_version(fds[1]);
    (void)close(fds[1]);
    if (pid > 0) {
        do
            n = read(fds[0], line, room - 1);
        while (n < 0 && errno == EINTR);
        line[n > 0 ? n : 0] = '\0';
    }
    (void)close(fds[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
}

void
vanish_find_out(void)
{
    struct version v = {
        .major = NBDKIT_VERSION_MAJOR,
        .minor = NBDKIT_VERSION_MINOR,
        .release = NBDKIT_VERSION_MICRO,
    };
    char line[128];

    ask_version(line, sizeof(line));
    if (sscanf(line, "nbdkit %u.%u.%u", &v.major, &v.minor, &v.release) != 3)
        nbdkit_debug("lsvd: the version of this nbdkit is taken to be that "
                     "of the plugin's headers");
    (void)snprintf(vanish.version, sizeof(vanish.version), "%u.%u.%u",
                   v.major, v.minor, v.release);
    vanish.aborts = is_older(&v, FIXED_IN);
}

void
vanish_enter(struct vanish *connection)
{
    if (atomic_fetch_add(&connection->running, 1) == 0 ||
        connection->is_tls || !vanish.aborts ||
        atomic_flag_test_and_set(&vanish.warned))
        return;
    nbdkit_error("lsvd: warning: nbdkit %s aborts, with all its clients' "
                 "connections, when a client vanishes that has several "
                 "requests running, as one has now; answered writes are "
                 "safe. Use nbdkit 1.34 or later, --tls=require, -t 1, or a "
                 "supervisor: see nbdkit-lsvd-plugin(1)", vanish.version);
}

void
vanish_leave(struct vanish *connection)
{
    (void)atomic_fetch_sub(&connection->running, 1);
}
