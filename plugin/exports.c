/* exports.c: the volumes that this server has open.
 *
 *   (none) -> OPENING   exports_get, first to ask
 *   OPENING -> OPEN     exports_get, once the engine has it
 *   OPENING -> (none)   exports_get, the engine refused: the next may try
 *   OPEN -> OPENING -> OPEN   revive: parts are back, so it is opened anew
 *   OPEN -> OPEN   freeze: a snapshot is made; its successor is served
 *   OPEN -> OPENING -> (none)   let_go_locked: a snapshot that nobody has asked
 *                  for, or not any more
 *   OPEN -> (none)      exports_close
 * (X1) The engine is called without the lock held; those who ask meanwhile
 *      wait for the state to change. So one volume that takes long to
 *      recover doesn't hold up the others.
 * (X2) Who uses the volume of an export that is OPEN is inside its gate, or
 *      holds the lock and is quick, or has shut the gate. One thread exchanges
 *      volumes, with the gate shut, and the lock held for a moment; it may use
 *      them without. So no request sees two of them.
 * (X3) An export is settled if its volume doesn't wait for parts; it stays so.
 *      One that is not had too few parts to be written, and is opened anew, in
 *      state OPENING. There are never two of one name (the engine's locks would
 *      see to that, too).
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

#include "gate.h"
#include "listing.h"
#include "now.h"
#include "report.h"
#include "thread.h"

enum export_state { EXPORT_OPENING, EXPORT_OPEN };

struct export {
    struct export *next;        /* under the lock */
    enum export_state state;    /* under the lock */
    unsigned users;             /* connections, and who began; the same */
    struct lsvd_volume *volume; /* owned; X2; NULL: could not be opened anew */
    struct control_server *control; /* owned; NULL: none; the same */
    struct control_owner owner;     /* of it */
    char *name;                 /* owned */
    atomic_uint_fast64_t size_bytes; /* when it was opened */
    uint32_t block_bytes;       /* never changes */
    bool settled;               /* X3; the exchanging thread's, after OPENING */
    struct gate gate;           /* X2 */
    unsigned left, pause;       /* looks not to be made */
};

#define LOOK_S 1
#define SHUT_MS 2000 /* so long is waited for requests that are under way */
#define PAUSE_MAX 64 /* looks after an attempt that did not help */

/* nbdkit serves one plugin a process and passes no context to half of the
 * callbacks. */
static struct {
    const struct config *config;
    struct lsvd_openings *openings; /* owned; NULL: none was opened */
    bool threads; /* set before the first connection, then fixed */
    bool ending;  /* under the lock; X5 */
    bool closing; /* the same */
    bool exchanges; /* the thread exists */
    pthread_t exchanger;
    pthread_cond_t call; /* of it: to end, or for a snapshot */
    struct wish *wishes; /* under the lock: snapshots to be made */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct export *head; /* under the lock */
} served = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .call = PTHREAD_COND_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
};

struct lsvd_volume *
export_enter(struct export *e, unsigned *ret_entered)
{
    *ret_entered = gate_enter(&e->gate);
    return e->volume;
}

void
export_leave(struct export *e, unsigned entered)
{
    gate_leave(&e->gate, entered);
}

int
export_alone(struct export *e, int (*fn)(void *ctx, struct lsvd_volume *v),
             void *ctx)
{
    int r;

    if (!gate_try_shut(&e->gate, SHUT_MS))
        return report_refusal(-EBUSY, "volume %s: requests are under way that "
                              "do not end (see lsvd status)", e->name);
    if (e->volume == NULL)
        r = report_refusal(-EIO, "volume %s could not be opened anew",
                           e->name);
    else
        r = fn(ctx, e->volume);
    gate_open(&e->gate);
    return r;
}

const char *
export_volume_name(const struct export *e)
{
    return e->name;
}

uint64_t
export_size_bytes(struct export *e)
{
    unsigned entered = gate_enter(&e->gate);
    uint64_t bytes = e->volume != NULL ? lsvd_get_size(e->volume)
                                       : atomic_load(&e->size_bytes);

    gate_leave(&e->gate, entered);
    return bytes;
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
        gate_done(&e->gate);
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

static int wish_snapshot(void *ctx, const char *name, uint64_t *ret_pause_us,
                         char error[CONTROL_ERROR_BYTES]);
static int wish_alone(void *ctx, int (*fn)(void *arg), void *arg,
                      char error[CONTROL_ERROR_BYTES]);

static struct lsvd_env
env_of_sources(void *ctx)
{
    struct lsvd_env env = config_env(served.config);

    (void)ctx;
    env.openings = served.openings;
    return env;
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
    e->owner = (struct control_owner){ .snapshot = wish_snapshot,
                                       .env = env_of_sources,
                                       .alone = wish_alone,
                                       .ctx = e };
    if (control_server_start(e->volume, &e->owner, &e->control, text) < 0)
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

/* Enter an export that others can wait for. NULL: out of memory. */
static struct export *
add_locked(const char *name)
{
    struct export *e;

    e = calloc(1, sizeof(*e));
    if (e != NULL) {
        gate_init(&e->gate);
        e->settled = true;
        e->name = strdup(name);
    }
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
            e->settled = !lsvd_awaits_parts(e->volume);
        pthread_cond_broadcast(&served.changed);
    } else if (e == NULL)
        (void)report_refusal(-ENOMEM, "out of memory");
    if (e != NULL)
        e->users++;
    pthread_mutex_unlock(&served.lock);
    return e;
}

static void refuse_wishes_locked(const struct export *e, const char *why);

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

    gate_shut(&e->gate);
    close_volume(e);
    as_wanted = bring_up(e, false) == 0;
    if (!as_wanted && !is_ending())
        (void)bring_up(e, true);
    e->settled = as_wanted && !lsvd_awaits_parts(e->volume);
    if (as_wanted && lsvd_can_write(e->volume)) {
        (void)snprintf(line, sizeof(line), "volume %.64s: parts are back: it "
                       "can be written, by clients that connect now", e->name);
        report_event(NULL, LSVD_WARNING, line);
    }
    gate_open(&e->gate);
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
    refuse_wishes_locked(e, "the volume is being opened anew");
    pthread_mutex_unlock(&served.lock);
    revive(e);
    e->pause = e->pause == 0 ? 1 : e->pause < PAUSE_MAX ? 2 * e->pause
                                                        : PAUSE_MAX;
    e->left = e->pause;
    pthread_mutex_lock(&served.lock);
    e->state = EXPORT_OPEN;
    pthread_cond_broadcast(&served.changed);
}

/* ---- snapshots that nobody reads any more ---- */

static bool
is_idle_locked(const struct export *e)
{
    return e->users == 0 && e->state == EXPORT_OPEN && e->settled &&
           strchr(e->name, '@') != NULL;
}

/* So that it can be removed. The lock is held, and let go meanwhile. */
static void
let_go_locked(struct export *e)
{
    e->state = EXPORT_OPENING; /* who asks for it now waits */
    refuse_wishes_locked(e, "the snapshot is being closed");
    lsvd_hurry(e->volume); /* a server that is to end doesn't wait for it */
    pthread_mutex_unlock(&served.lock);
    close_volume(e);
    pthread_mutex_lock(&served.lock);
    remove_locked(e);
    pthread_cond_broadcast(&served.changed);
}

void
exports_put(struct export *e)
{
    pthread_mutex_lock(&served.lock);
    e->users--;
    if (is_idle_locked(e))
        pthread_cond_signal(&served.call);
    pthread_mutex_unlock(&served.lock);
}

/* ---- snapshots ---- */

/* Of somebody who waits for it. Under the lock, unless it is being granted. */
struct wish {
    struct wish *next;
    struct export *export;
    const char *name; /* volume@snapshot */
    uint64_t pause_us;
    int (*fn)(void *arg); /* NULL: a snapshot; or what is to be done alone */
    void *arg;
    int result;
    char text[CONTROL_ERROR_BYTES];
    bool is_done;
};

/* One line for who wished. Returns r. */
static int
report_text(int r, const char *why, char text[CONTROL_ERROR_BYTES])
{
    (void)snprintf(text, CONTROL_ERROR_BYTES, "%s", why);
    return r;
}

static uint64_t
now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The moment itself: nobody is inside. */
static int
exchange(struct export *e, struct lsvd_volume *next, const char *name)
{
    int r = lsvd_snapshot_commit(e->volume, next, name);

    if (r < 0)
        return r;
    lsvd_on_fenced(next, end_at_once, NULL);
    pthread_mutex_lock(&served.lock);
    e->volume = next;
    if (served.ending)
        lsvd_hurry(next);
    pthread_mutex_unlock(&served.lock);
    r = lsvd_start(next);
    if (r < 0) /* it works without threads, if slower */
        (void)report_error("starting", r);
    return 0;
}

/* Who asks at the control socket waits, too: for what the volume is then. Why
 * it failed is in the wish. */
static int
exchange_alone(struct export *e, struct lsvd_volume *next, struct wish *w)
{
    char text[CONTROL_ERROR_BYTES];
    int r;

    if (e->control != NULL)
        control_server_hold(e->control);
    if (!gate_try_shut(&e->gate, SHUT_MS)) {
        if (e->control != NULL)
            control_server_resume(e->control);
        return report_text(-EBUSY, "requests are under way that do not end "
                           "(see lsvd status): no snapshot now", w->text);
    }
    r = exchange(e, next, w->name);
    if (r < 0)
        (void)report_text(r, lsvd_error(), w->text);
    if (e->control != NULL && r < 0)
        control_server_resume(e->control);
    else if (e->control != NULL &&
             control_server_exchange(e->control, next, text) < 0)
        report_event(NULL, LSVD_WARNING, text);
    gate_open(&e->gate);
    return r;
}

static int
freeze(struct export *e, struct wish *w)
{
    struct lsvd_env env = config_env(served.config);
    struct lsvd_volume *next;
    uint64_t begin;
    int r;

    env.openings = served.openings;
    r = lsvd_snapshot_begin(e->volume, &env, w->name, &next);
    if (r < 0)
        return report_text(r, lsvd_error(), w->text);
    r = lsvd_snapshot_hold(next);
    begin = now_us();
    if (r < 0)
        (void)report_text(r, lsvd_error(), w->text);
    else
        r = exchange_alone(e, next, w);
    w->pause_us = now_us() - begin;
    if (r < 0)
        lsvd_snapshot_cancel(next, &env);
    else
        (void)lsvd_snapshot_finish(next); /* or tend_locked */
    return r;
}

/* On the exchanging thread. */
static int
run_alone(void *ctx, int (*fn)(void *arg), void *arg,
          char text[CONTROL_ERROR_BYTES])
{
    struct export *e = ctx;
    int r;

    if (!gate_try_shut(&e->gate, SHUT_MS))
        return report_text(-EBUSY, "requests are under way that do not end "
                           "(see lsvd status)", text);
    r = fn(arg);
    (void)report_text(r, r < 0 ? lsvd_error() : "", text);
    gate_open(&e->gate);
    return r;
}

/* The lock is held, and let go meanwhile. */
static void
grant_locked(struct wish *w)
{
    int r;

    pthread_mutex_unlock(&served.lock);
    if (w->export->volume == NULL)
        r = report_text(-EIO, "the volume could not be opened anew", w->text);
    else if (w->fn != NULL)
        r = run_alone(w->export, w->fn, w->arg, w->text);
    else
        r = freeze(w->export, w);
    pthread_mutex_lock(&served.lock);
    w->result = r;
    w->is_done = true;
    pthread_cond_broadcast(&served.changed);
}

static struct wish *
next_wish_locked(void)
{
    struct wish *w = served.wishes;

    if (w != NULL)
        served.wishes = w->next;
    return w;
}

/* Of one export, or of all (NULL). They would be waited for by who stops the
 * control socket. */
static void
refuse_wishes_locked(const struct export *e, const char *why)
{
    struct wish **at = &served.wishes, *w;

    while ((w = *at) != NULL) {
        if (e != NULL && w->export != e) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->result = report_text(-ESHUTDOWN, why, w->text);
        w->is_done = true;
    }
    pthread_cond_broadcast(&served.changed);
}

static void
wish_and_wait(struct wish *w)
{
    struct wish **at = &served.wishes;

    pthread_mutex_lock(&served.lock);
    while (*at != NULL)
        at = &(*at)->next;
    *at = w;
    if (served.ending)
        refuse_wishes_locked(w->export, "the server ends");
    else if (w->export->state != EXPORT_OPEN)
        refuse_wishes_locked(w->export, "the volume is being opened anew");
    pthread_cond_signal(&served.call);
    while (!w->is_done)
        pthread_cond_wait(&served.changed, &served.lock);
    pthread_mutex_unlock(&served.lock);
}

/* The control socket's, on a thread of its own. */
static int
wish_snapshot(void *ctx, const char *name, uint64_t *ret_pause_us,
              char error[CONTROL_ERROR_BYTES])
{
    struct wish w = { .export = ctx, .name = name };

    wish_and_wait(&w);
    *ret_pause_us = w.pause_us;
    (void)snprintf(error, CONTROL_ERROR_BYTES, "%s", w.text);
    return w.result;
}

static int
wish_alone(void *ctx, int (*fn)(void *arg), void *arg,
           char error[CONTROL_ERROR_BYTES])
{
    struct wish w = { .export = ctx, .fn = fn, .arg = arg };

    wish_and_wait(&w);
    (void)snprintf(error, CONTROL_ERROR_BYTES, "%s", w.text);
    return w.result;
}

/* ---- the thread that does both ---- */

/* What a snapshot, or the removal of one, left to do, for parts that failed
 * then; and parts of its parents that are back. */
static void
tend_locked(struct export *e)
{
    const struct lsvd_alone alone = { .run = run_alone, .ctx = e };
    struct lsvd_env env = config_env(served.config);

    env.openings = served.openings;
    pthread_mutex_unlock(&served.lock);
    (void)lsvd_snapshot_tend(e->volume);
    lsvd_renew_needed(e->volume, &env, &alone);
    pthread_mutex_lock(&served.lock);
}

static void
look_at_all_locked(void)
{
    struct export *e = served.head;

    while (e != NULL && !served.ending) {
        if (is_idle_locked(e)) {
            let_go_locked(e);
            e = served.head;
            continue;
        }
        if (e->state == EXPORT_OPEN && !e->settled)
            look_at_locked(e);
        else if (e->state == EXPORT_OPEN && e->volume != NULL)
            tend_locked(e);
        e = e->next;
    }
}

static void *
exchange_volumes(void *unused)
{
    struct timespec until;
    struct wish *w;

    (void)unused;
    pthread_mutex_lock(&served.lock);
    while (!served.ending) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LOOK_S;
        if (served.wishes == NULL)
            (void)pthread_cond_clockwait(&served.call, &served.lock,
                                         CLOCK_MONOTONIC, &until);
        while (!served.ending && (w = next_wish_locked()) != NULL)
            grant_locked(w);
        look_at_all_locked();
    }
    refuse_wishes_locked(NULL, "the server ends");
    pthread_mutex_unlock(&served.lock);
    return NULL;
}

static int
start_exchanger(void)
{
    if (thread_start(&served.exchanger, exchange_volumes, NULL) < 0)
        return -1;
    served.exchanges = true;
    return 0;
}

static void
stop_exchanger(void)
{
    if (!served.exchanges)
        return;
    pthread_mutex_lock(&served.lock);
    pthread_cond_signal(&served.call);
    pthread_mutex_unlock(&served.lock);
    pthread_join(served.exchanger, NULL);
    served.exchanges = false;
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
    if (now_is_name(config->volume))
        return report_refusal(-EINVAL, "%.80s: serve the volume itself, and "
                              "clients may ask for this as an export",
                              config->volume);
    return get(config->volume, false) == NULL ? -1 : 0;
}

int
exports_start(void)
{
    served.threads = true;
    for (struct export *e = served.head; e != NULL; e = e->next)
        if (start_volume(e) < 0)
            return -1;
    return start_exchanger();
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
    stop_exchanger();
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

    if (only != NULL && *name != '\0' && !listing_is_of(name, only)) {
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
    return get(*name == '\0' ? only : name, read_only);
}
