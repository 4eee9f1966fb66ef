/* exports.c: the volumes that this server has open.
 *
 *   (none) -> OPENING   exports_get, first to ask
 *   OPENING -> OPEN     exports_get, once the engine has it
 *   OPENING -> (none)   exports_get, the engine refused: the next may try
 *   OPEN -> OPENING -> OPEN   revive: parts are back, so it is opened anew
 *   OPEN -> (none)      exports_close
 * (X1) The engine is called without the lock held; those who ask meanwhile
 *      wait for the state to change. So one volume that takes long to
 *      recover doesn't hold up the others.
 * (X2) An export that is OPEN and settled doesn't change until exports_close:
 *      readers of it need no lock. Settled is whatever doesn't wait for parts;
 *      it stays so.
 * (X3) One that is not settled had too few parts to be written. Its requests
 *      hold its gate, shared; the volume is exchanged under the exclusive
 *      gate, in state OPENING. So no request sees two volumes, and there are
 *      never two of one name (the engine's locks would see to that, too).
 * (X4) A connection that was told "read-only" stays so: nbdkit asks once.
 * (X5) Once the server is to end no volume is opened any more, and one that is
 *      being opened is left as it is: exports_hurry. */
#define NBDKIT_API_VERSION 2
#include "exports.h"

#include <assert.h>
#include <control/server.h>
#include <errno.h>
#include <nbdkit-plugin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "report.h"
#include "thread.h"

enum export_state { EXPORT_OPENING, EXPORT_OPEN };

struct export {
    struct export *next;        /* under the lock */
    enum export_state state;    /* under the lock */
    struct lsvd_volume *volume; /* owned; X2, X3; NULL: could not be opened
                                 * anew */
    struct control_server *control; /* owned; NULL: none; X2, X3 */
    char *name;                 /* owned */
    atomic_uint_fast64_t size_bytes; /* when it was opened */
    uint32_t block_bytes;       /* X2 */
    atomic_bool settled;        /* X2 */
    pthread_rwlock_t gate;      /* X3 */
    unsigned left, pause;       /* the reviver's: looks not to be made */
};

#define LOOK_S 1
#define PAUSE_MAX 64 /* looks after an attempt that did not help */

/* nbdkit serves one plugin a process and passes no context to half of the
 * callbacks. */
static struct {
    const struct config *config;
    struct lsvd_openings *openings; /* owned; NULL: none was opened */
    bool threads; /* set before the first connection, then fixed */
    bool ending;  /* under the lock; X5 */
    bool closing; /* the same */
    bool revives; /* the thread exists */
    pthread_t reviver;
    pthread_cond_t end; /* of the reviver */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct export *head; /* under the lock */
} served = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .end = PTHREAD_COND_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
};

struct lsvd_volume *
export_enter(struct export *e, bool *ret_gated)
{
    *ret_gated = !atomic_load(&e->settled);
    if (*ret_gated)
        pthread_rwlock_rdlock(&e->gate);
    return e->volume;
}

void
export_leave(struct export *e, bool gated)
{
    if (gated)
        pthread_rwlock_unlock(&e->gate);
}

const char *
export_volume_name(const struct export *e)
{
    return e->name;
}

uint64_t
export_size_bytes(const struct export *e)
{
    /* a volume that is not settled may be exchanged just now */
    return atomic_load(&e->settled) ? lsvd_get_size(e->volume)
                                    : atomic_load(&e->size_bytes);
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
    if (e != NULL) {
        pthread_rwlock_destroy(&e->gate);
        free(e->name);
    }
    free(e);
}

static int
learn_sizes(struct export *e)
{
    struct lsvd_info *info; /* too large for a stack */

    info = calloc(1, sizeof(*info));
    if (info == NULL)
        return report_refusal(-ENOMEM, "out of memory");
    lsvd_get_info(e->volume, info);
    atomic_store(&e->size_bytes, info->size_bytes);
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
    if (e->volume == NULL)
        return;
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
    env.openings = served.openings;
    r = lsvd_open(&env, e->name, read_only ? LSVD_OPEN_READ_ONLY : 0,
                  &e->volume);
    if (r < 0)
        return report_error(NULL, r);
    lsvd_on_fenced(e->volume, end_at_once, NULL);
    r = learn_sizes(e);
    if (r == 0 && served.threads)
        r = start_volume(e);
    if (r < 0)
        close_volume(e);
    return r;
}

/* A gate that a stream of readers doesn't keep shut. */
static void
make_gate(struct export *e)
{
    pthread_rwlockattr_t attributes;

    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes,
                                  PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&e->gate, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

/* Enter an export that others can wait for. NULL: out of memory. */
static struct export *
add_locked(const char *name)
{
    struct export *e;

    e = calloc(1, sizeof(*e));
    if (e != NULL) {
        make_gate(e);
        atomic_store(&e->settled, true);
    }
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

static struct export *
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
        } else
            atomic_store(&e->settled, !lsvd_awaits_parts(e->volume));
        pthread_cond_broadcast(&served.changed);
    } else if (e == NULL)
        (void)report_refusal(-ENOMEM, "out of memory");
    pthread_mutex_unlock(&served.lock);
    return e;
}

/* ---- opening anew ---- */

static bool
is_ending(void)
{
    bool ending;

    pthread_mutex_lock(&served.lock);
    ending = served.ending;
    pthread_mutex_unlock(&served.lock);
    return ending;
}

/* X3. For reading at least; a cache directory that is full, say, must not cost
 * the readers what they had. */
static void
revive(struct export *e)
{
    bool as_wanted;
    char line[200];

    pthread_rwlock_wrlock(&e->gate);
    close_volume(e);
    as_wanted = bring_up(e, false) == 0;
    if (!as_wanted && !is_ending())
        (void)bring_up(e, true);
    atomic_store(&e->settled, as_wanted && !lsvd_awaits_parts(e->volume));
    if (as_wanted && lsvd_can_write(e->volume)) {
        (void)snprintf(line, sizeof(line), "volume %.64s: parts are back: it "
                       "can be written, by clients that connect now", e->name);
        report_event(NULL, LSVD_WARNING, line);
    }
    pthread_rwlock_unlock(&e->gate);
}

/* Only this thread exchanges the volume, so it may use it as it is. */
static bool
is_worth_it(struct export *e)
{
    if (e->left > 0) {
        e->left--;
        return false;
    }
    return e->volume == NULL || !lsvd_awaits_parts(e->volume) ||
           lsvd_parts_are_back(e->volume);
}

/* The lock is held, and let go meanwhile: an export that is OPEN is not removed
 * before exports_close has joined us. */
static void
look_at_locked(struct export *e)
{
    bool worth_it;

    pthread_mutex_unlock(&served.lock);
    worth_it = is_worth_it(e);
    pthread_mutex_lock(&served.lock);
    if (!worth_it || served.ending)
        return;
    e->state = EXPORT_OPENING;
    pthread_mutex_unlock(&served.lock);
    revive(e);
    e->pause = e->pause == 0 ? 1 : e->pause < PAUSE_MAX ? 2 * e->pause
                                                        : PAUSE_MAX;
    e->left = e->pause;
    pthread_mutex_lock(&served.lock);
    e->state = EXPORT_OPEN;
    pthread_cond_broadcast(&served.changed);
}

static void *
revive_all(void *unused)
{
    struct timespec until;

    (void)unused;
    pthread_mutex_lock(&served.lock);
    while (!served.ending) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LOOK_S;
        (void)pthread_cond_clockwait(&served.end, &served.lock,
                                     CLOCK_MONOTONIC, &until);
        for (struct export *e = served.head; e != NULL && !served.ending;
             e = e->next)
            if (e->state == EXPORT_OPEN && !atomic_load(&e->settled))
                look_at_locked(e);
    }
    pthread_mutex_unlock(&served.lock);
    return NULL;
}

static int
start_reviver(void)
{
    if (thread_start(&served.reviver, revive_all, NULL) < 0)
        return -1;
    served.revives = true;
    return 0;
}

static void
stop_reviver(void)
{
    if (!served.revives)
        return;
    pthread_cond_signal(&served.end);
    pthread_join(served.reviver, NULL);
    served.revives = false;
}

/* ---- from the first to the last ---- */

int
exports_open(const struct config *config)
{
    assert(served.config == NULL);
    served.config = config;
    if (lsvd_openings_new(&served.openings) < 0)
        return report_refusal(-ENOMEM, "out of memory");
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
    return start_reviver();
}

/* fn is called with the lock held: it must be quick, and call nothing here. */
void
exports_each(void (*fn)(void *ctx, struct lsvd_volume *v), void *ctx)
{
    struct export *e;

    pthread_mutex_lock(&served.lock);
    for (e = served.closing ? NULL : served.head; e != NULL; e = e->next)
        if (e->state == EXPORT_OPEN && e->volume != NULL)
            fn(ctx, e->volume);
    pthread_mutex_unlock(&served.lock);
}

/* Their time is one, however many they are. One that is OPENING is its
 * opener's, who is told by way of the openings. */
void
exports_hurry(void)
{
    pthread_mutex_lock(&served.lock);
    served.ending = true;
    for (struct export *e = served.head; e != NULL; e = e->next)
        if (e->state == EXPORT_OPEN && e->volume != NULL)
            lsvd_hurry(e->volume);
    pthread_mutex_unlock(&served.lock);
    if (served.openings != NULL)
        lsvd_openings_end(served.openings);
}

void
exports_close(void (*closed)(void))
{
    struct export *e;

    exports_hurry();
    pthread_mutex_lock(&served.lock); /* nobody is in exports_each then */
    served.closing = true;
    pthread_mutex_unlock(&served.lock);
    stop_reviver();
    exports_hurry(); /* what it had open already then */
    while ((e = served.head) != NULL) {
        assert(e->state == EXPORT_OPEN);
        close_volume(e);
        served.head = e->next;
        free_export(e);
        closed();
    }
    lsvd_openings_free(served.openings);
    served.openings = NULL;
}

struct export *
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
