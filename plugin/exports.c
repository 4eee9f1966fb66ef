/* exports.c: the volumes that this server has open.
 *
 *   (none) -> OPENING   exports_get, first to ask
 *   OPENING -> OPEN     exports_get, once the engine has it
 *   OPENING -> (none)   exports_get, the engine refused: the next may try
 *   OPEN -> (none)      exports_close
 * (X1) The engine is called without the lock held; those who ask meanwhile
 *      wait for the state to change. So one volume that takes long to
 *      recover doesn't hold up the others.
 * (X2) An export that is OPEN doesn't change until exports_close: readers of
 *      it need no lock. */
#define NBDKIT_API_VERSION 2
#include "exports.h"

#include <assert.h>
#include <control/server.h>
#include <errno.h>
#include <nbdkit-plugin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

enum export_state { EXPORT_OPENING, EXPORT_OPEN };

struct export {
    struct export *next;        /* under the lock */
    enum export_state state;    /* under the lock */
    struct lsvd_volume *volume; /* owned; X2 */
    struct control_server *control; /* owned; NULL: none; X2 */
    char *name;                 /* owned */
    uint64_t size_bytes;        /* X2 */
    uint32_t block_bytes;       /* X2 */
};

/* nbdkit serves one plugin a process and passes no context to half of the
 * callbacks. */
static struct {
    const struct config *config;
    bool threads; /* set before the first connection, then fixed */
    bool closing; /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct export *head; /* under the lock */
} served = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
};

struct lsvd_volume *
export_volume(const struct export *e)
{
    return e->volume;
}

const char *
export_volume_name(const struct export *e)
{
    return e->name;
}

uint64_t
export_size_bytes(const struct export *e)
{
    return e->size_bytes;
}

uint32_t
export_block_bytes(const struct export *e)
{
    return e->block_bytes;
}

static struct export *
find_locked(const char *name)
{
    for (struct export *e = served.head; e != NULL; e = e->next)
        if (strcmp(e->name, name) == 0)
            return e;
    return NULL;
}

static void
free_export(struct export *e)
{
    if (e != NULL)
        free(e->name);
    free(e);
}

static int
learn_size(struct export *e)
{
    struct lsvd_info *info; /* too large for a stack */

    info = calloc(1, sizeof(*info));
    if (info == NULL)
        return report_refusal(-ENOMEM, "out of memory");
    lsvd_get_info(e->volume, info);
    e->size_bytes = info->size_bytes;
    e->block_bytes = info->block_bytes;
    free(info);
    return 0;
}

/* Threads may run: destaging, and those who answer lsvd status. Without a
 * control socket the volume is served all the same. */
static int
start_volume(struct export *e)
{
    char text[CONTROL_ERROR_BYTES];
    int r;

    r = lsvd_start(e->volume);
    if (r < 0)
        return report_error("starting", r);
    if (control_server_start(e->volume, &e->control, text) < 0)
        report_event(NULL, LSVD_WARNING, text);
    return 0;
}

static void
close_volume(struct export *e)
{
    int r;

    control_server_stop(e->control);
    e->control = NULL;
    r = lsvd_close(e->volume);
    if (r < 0)
        (void)report_error("closing", r);
    e->volume = NULL;
}

/* Another server has one of our volumes. Whatever is still under way must not
 * be finished: an orderly end would. The engine has said why. */
static void
end_at_once(void *ctx)
{
    (void)ctx;
    _exit(EXIT_FAILURE);
}

/* Everything that a volume needs before it can serve. */
static int
bring_up(struct export *e, bool read_only)
{
    struct lsvd_env env;
    int r;

    env = config_env(served.config);
    r = lsvd_open(&env, e->name, read_only ? LSVD_OPEN_READ_ONLY : 0,
                  &e->volume);
    if (r < 0)
        return report_error(NULL, r);
    lsvd_on_fenced(e->volume, end_at_once, NULL);
    r = learn_size(e);
    if (r == 0 && served.threads)
        r = start_volume(e);
    if (r < 0)
        close_volume(e);
    return r;
}

/* Enter an export that others can wait for. NULL: out of memory. */
static struct export *
add_locked(const char *name)
{
    struct export *e;

    e = calloc(1, sizeof(*e));
    if (e != NULL)
        e->name = strdup(name);
    if (e == NULL || e->name == NULL) {
        free_export(e);
        return NULL;
    }
    e->state = EXPORT_OPENING;
    e->next = served.head;
    served.head = e;
    return e;
}

static void
remove_locked(struct export *e)
{
    struct export **at = &served.head;

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    free_export(e);
}

static const struct export *
get(const char *name, bool read_only)
{
    struct export *e;
    int r;

    pthread_mutex_lock(&served.lock);
    while ((e = find_locked(name)) != NULL && e->state == EXPORT_OPENING)
        pthread_cond_wait(&served.changed, &served.lock);
    if (e == NULL && (e = add_locked(name)) != NULL) {
        pthread_mutex_unlock(&served.lock);
        r = bring_up(e, read_only);
        pthread_mutex_lock(&served.lock);
        e->state = EXPORT_OPEN;
        if (r < 0) {
            remove_locked(e);
            e = NULL;
        }
        pthread_cond_broadcast(&served.changed);
    } else if (e == NULL)
        (void)report_refusal(-ENOMEM, "out of memory");
    pthread_mutex_unlock(&served.lock);
    return e;
}

int
exports_open(const struct config *config)
{
    assert(served.config == NULL);
    served.config = config;
    if (config->volume == NULL)
        return 0;
    return get(config->volume, false) == NULL ? -1 : 0;
}

int
exports_start(void)
{
    served.threads = true;
    for (struct export *e = served.head; e != NULL; e = e->next)
        if (start_volume(e) < 0)
            return -1;
    return 0;
}

/* fn is called with the lock held: it must be quick, and call nothing here. */
void
exports_each(void (*fn)(void *ctx, struct lsvd_volume *v), void *ctx)
{
    struct export *e;

    pthread_mutex_lock(&served.lock);
    for (e = served.closing ? NULL : served.head; e != NULL; e = e->next)
        if (e->state == EXPORT_OPEN)
            fn(ctx, e->volume);
    pthread_mutex_unlock(&served.lock);
}

void
exports_close(void)
{
    struct export *e;

    pthread_mutex_lock(&served.lock); /* nobody is in exports_each then */
    served.closing = true;
    pthread_mutex_unlock(&served.lock);
    for (e = served.head; e != NULL; e = e->next)
        lsvd_hurry(e->volume); /* their time is one, however many they are */
    while ((e = served.head) != NULL) {
        assert(e->state == EXPORT_OPEN);
        close_volume(e);
        served.head = e->next;
        free_export(e);
    }
}

const struct export *
exports_get(const char *name, bool read_only)
{
    const char *only = served.config->volume;

    if (only != NULL && *name != '\0' && strcmp(name, only) != 0) {
        (void)report_refusal(-EINVAL, "export '%.80s': this server serves "
                             "volume %s alone", name, only);
        return NULL;
    }
    if (only == NULL && *name == '\0') {
        (void)report_refusal(-EINVAL, "no export name given: this server "
                             "serves several volumes, or none (nbdinfo "
                             "--list shows them)");
        return NULL;
    }
    return get(only != NULL ? only : name, read_only);
}
