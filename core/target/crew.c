/* crew.c: see crew.h. */
#include "target/crew.h"

#include "base/err.h"
#include "base/memory.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_NS UINT64_C(5000000000)  /* then a thread goes */
#define CLOSE_NS UINT64_C(2000000000) /* then who closes goes on */

static void work(struct crew *c);

/* ---- lists ---- */

static void
push(struct crew_ops_list *list, struct crew_op *op)
{
    op->next = NULL;
    if (list->last == NULL)
        list->first = op;
    else
        list->last->next = op;
    list->last = op;
}

static struct crew_op *
pop(struct crew_ops_list *list)
{
    struct crew_op *op = list->first;

    if (op != NULL) {
        list->first = op->next;
        if (list->first == NULL)
            list->last = NULL;
        op->next = NULL;
    }
    return op;
}

static void
insert(struct crew_op **set, struct crew_op *op)
{
    op->before = NULL;
    op->after = *set;
    if (*set != NULL)
        (*set)->before = op;
    *set = op;
}

static void
take_out(struct crew_op **set, struct crew_op *op)
{
    if (op->before != NULL)
        op->before->after = op->after;
    else
        *set = op->after;
    if (op->after != NULL)
        op->after->before = op->before;
}

/* When the oldest of them began; UINT64_MAX if there is none. */
static uint64_t
oldest_ns(const struct crew_op *set)
{
    uint64_t oldest = UINT64_MAX;

    for (; set != NULL; set = set->after)
        if (set->begun_ns < oldest)
            oldest = set->begun_ns;
    return oldest;
}

static uint64_t
count(const struct crew_op *set)
{
    uint64_t n = 0;

    for (; set != NULL; set = set->after)
        n++;
    return n;
}

/* ---- waiters ---- */

static void
waiter_add_locked(struct crew *c, struct crew_waiter *w)
{
    crew_cond_init(&w->cond);
    w->for_room = false;
    w->prev = NULL;
    w->next = c->waiters;
    if (w->next != NULL)
        w->next->prev = w;
    c->waiters = w;
}

static void
waiter_remove_locked(struct crew *c, struct crew_waiter *w)
{
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        c->waiters = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    (void)pthread_cond_destroy(&w->cond);
}

static void
wake_waiters_locked(struct crew *c, bool all)
{
    for (struct crew_waiter *w = c->waiters; w != NULL; w = w->next)
        if (all || w->for_room)
            (void)pthread_cond_signal(&w->cond);
}

/* ---- errors ---- */

static double
seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static int
no_answer_locked(const struct crew *c, const char *name)
{
    return err_set(-ETIMEDOUT, "%s: no answer for %.3g s", name,
                   seconds(c->silent_ns));
}

/* For who comes after it was given up. */
static int
leftover_error_locked(const struct crew *c, const char *name)
{
    uint64_t now = crew_now_ns(), since = oldest_ns(c->leftover);
    uint64_t left = count(c->leftover);

    if (left == 0)
        return no_answer_locked(c, name);
    return err_set(-ETIMEDOUT, "%s: %ju operation%s not come back for %.3g s",
                   name, (uintmax_t)left, left == 1 ? " has" : "s have",
                   seconds(now > since ? now - since : 0));
}

static bool
is_dead(const struct crew_thing *thing)
{
    return thing->generation != thing->crew->generation;
}

/* A read is not told of a write that failed (G4). */
static int
check_locked(const struct crew_thing *thing, const char *name, bool is_read)
{
    if (is_dead(thing))
        return leftover_error_locked(thing->crew, name);
    if (thing->error < 0 && !is_read)
        return err_set(thing->error, "%s", thing->error_text);
    return 0;
}

/* ---- threads ---- */

static int
start_thread_locked(struct crew *c)
{
    int r = crew_start_thread(c, work);

    if (r == 0)
        c->threads++;
    return r;
}

/* There is something to begin. C4: if no thread can be had, those that are
 * there must do. */
static void
wake_thread_locked(struct crew *c, enum crew_lane lane)
{
    if (c->busy[lane] >= CREW_THREADS_MAX)
        return; /* C5 */
    if (c->idle > c->signalled) {
        c->signalled++;
        (void)pthread_cond_signal(&c->work);
    } else if (c->threads < LANES * CREW_THREADS_MAX) {
        (void)start_thread_locked(c);
    }
}

static void
begin_later_locked(struct crew *c, struct crew_op *op)
{
    push(&c->queue[op->lane], op);
    wake_thread_locked(c, op->lane);
}

static bool
is_something_queued_locked(const struct crew *c)
{
    for (enum crew_lane lane = 0; lane < LANES; lane++) {
        if (c->queue[lane].first != NULL)
            return true;
    }
    return false;
}

/* The next one of a lane that has threads left. */
static struct crew_op *
take_next_locked(struct crew *c)
{
    for (enum crew_lane lane = 0; lane < LANES; lane++) {
        if (c->queue[lane].first != NULL && c->busy[lane] < CREW_THREADS_MAX)
            return pop(&c->queue[lane]);
    }
    return NULL;
}

/* ---- things ---- */

static int
run_closing(struct crew_op *op)
{
    op->thing->close(op->thing);
    return 0;
}

static void
use_less_locked(struct crew_thing *thing)
{
    struct crew *c = thing->crew;
    struct crew_op *op = &thing->closing;

    assert(thing->users > 0);
    if (--thing->users > 0)
        return;
    op->run = run_closing;
    op->thing = thing;
    op->kind = GUARD_OTHER;
    op->lane = LANE_WRITE; /* on NFS a close writes */
    if (is_dead(thing)) { /* no new life before it is closed */
        op->abandoned = true;
        op->begun_ns = crew_now_ns();
        insert(&c->leftover, op);
    }
    c->queued_count++;
    begin_later_locked(c, op);
}

/* It is no more. */
static void
thing_gone_locked(struct crew_thing *thing)
{
    struct crew *c = thing->crew;

    if (thing->parent != NULL)
        use_less_locked(thing->parent);
    assert(c->things > 0);
    if (--c->things == 0)
        (void)pthread_cond_broadcast(&c->work); /* they may go */
}

int
crew_thing_begin(struct crew *c, struct crew_thing *parent,
                 struct crew_thing *thing)
{
    int r = 0;

    assert(parent == NULL || parent->crew == c);
    (void)pthread_mutex_lock(&c->lock);
    if (parent != NULL && is_dead(parent)) {
        r = leftover_error_locked(c, c->path);
    } else if (c->leftover != NULL) {
        r = leftover_error_locked(c, c->path);
    } else {
        crew_ref(c);
        thing->crew = c;
        thing->parent = parent;
        if (parent != NULL)
            parent->users++;
        thing->generation = c->generation;
        thing->users = 1;
        c->things++;
    }
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

void
crew_thing_discard(struct crew_thing *thing)
{
    struct crew *c = thing->crew;

    (void)pthread_mutex_lock(&c->lock);
    thing_gone_locked(thing);
    (void)pthread_mutex_unlock(&c->lock);
    thing->free(thing);
    crew_put(c);
}

void
crew_thing_hold(struct crew_thing *thing)
{
    (void)pthread_mutex_lock(&thing->crew->lock);
    thing->users++;
    (void)pthread_mutex_unlock(&thing->crew->lock);
}

void
crew_thing_release(struct crew_thing *thing)
{
    struct crew *c = thing->crew;

    crew_ref(c); /* it may be the last that keeps it */
    (void)pthread_mutex_lock(&c->lock);
    use_less_locked(thing);
    (void)pthread_mutex_unlock(&c->lock);
    crew_put(c);
}

int
crew_thing_check(struct crew_thing *thing, const char *name, bool *ret_busy)
{
    int r;

    /* Every read at hand passes here: without the lock, if all is well. */
    if (!is_dead(thing)) {
        *ret_busy = atomic_load(&thing->unread) > 0;
        return 0;
    }
    (void)pthread_mutex_lock(&thing->crew->lock);
    r = check_locked(thing, name, true);
    *ret_busy = atomic_load(&thing->unread) > 0;
    (void)pthread_mutex_unlock(&thing->crew->lock);
    return r;
}

void
crew_thing_forgive(struct crew_thing *thing)
{
    (void)pthread_mutex_lock(&thing->crew->lock);
    if (!thing->in_order_busy)
        thing->error = 0;
    (void)pthread_mutex_unlock(&thing->crew->lock);
}

/* ---- giving up ---- */

/* When c counts as hung for somebody who waits since began_ns (G1). */
static uint64_t
hung_at_locked(const struct crew *c, uint64_t began_ns, unsigned deadline_ms)
{
    uint64_t since = oldest_ns(c->running);

    if (since == UINT64_MAX) /* no thread has come to it yet */
        since = began_ns > c->progress_ns ? began_ns : c->progress_ns;
    return since + deadline_ms * UINT64_C(1000000);
}

static void
account_bytes_locked(struct crew *c, const struct crew_op *op)
{
    if (op->bytes == 0)
        return;
    assert(c->queued_bytes >= op->bytes);
    c->queued_bytes -= op->bytes;
    /* Not for every little room: each would cost a switch of threads. */
    if (c->room_waiters > 0 && c->queued_bytes <= CREW_QUEUE_BYTES_MAX / 2)
        wake_waiters_locked(c, false);
}

static void
account_order_locked(struct crew_op *op, bool begins)
{
    if (!op->ordered || op->unseen || op->kind == GUARD_READ)
        return;
    if (begins)
        atomic_fetch_add(&op->thing->unread, 1);
    else
        atomic_fetch_sub(&op->thing->unread, 1);
}

/* It is over, whatever came of it: to its waiter, or away. */
static void
hand_back_locked(struct crew *c, struct crew_op *op)
{
    account_bytes_locked(c, op);
    account_order_locked(op, false);
    if (op->thing != NULL)
        use_less_locked(op->thing);
    op->done = true;
    if (op->waiter != NULL)
        (void)pthread_cond_signal(&op->waiter->cond);
    else
        op->free(op);
}

/* It was not begun and never will be (G3). */
static void
drop_locked(struct crew *c, struct crew_op *op)
{
    c->queued_count--;
    c->stats.timeouts++;
    op->cancelled = true;
    op->result = -ETIMEDOUT;
    hand_back_locked(c, op);
}

static void
drop_later_locked(struct crew *c, struct crew_thing *thing)
{
    struct crew_op *op;

    while ((op = pop(&thing->later)) != NULL)
        drop_locked(c, op);
}

static void
abandon_locked(struct crew *c, struct crew_op *op)
{
    op->abandoned = true;
    insert(&c->leftover, op);
}

static void
give_up_lane_locked(struct crew *c, enum crew_lane lane)
{
    struct crew_ops_list queue = c->queue[lane];
    struct crew_op *op;

    c->queue[lane] = (struct crew_ops_list){ NULL, NULL };
    while ((op = pop(&queue)) != NULL) {
        struct crew_thing *thing = op->thing;

        if (thing != NULL && op == &thing->closing) {
            /* Closing must happen, and be over before a new life. */
            if (!op->abandoned) {
                op->begun_ns = crew_now_ns();
                abandon_locked(c, op);
            }
            push(&c->queue[lane], op);
            continue;
        }
        if (op->ordered) {
            drop_later_locked(c, thing);
            thing->in_order_busy = false;
        }
        drop_locked(c, op);
    }
}

static void
give_up_locked(struct crew *c, uint64_t now)
{
    uint64_t since = oldest_ns(c->running);
    struct crew_op *op;

    if (since == UINT64_MAX)
        since = c->progress_ns;
    c->silent_ns = now > since ? now - since : 0;
    c->generation++;
    while ((op = c->running) != NULL) {
        take_out(&c->running, op);
        abandon_locked(c, op);
        c->stats.timeouts++;
        if (op->ordered)
            drop_later_locked(c, op->thing);
    }
    for (enum crew_lane lane = 0; lane < LANES; lane++)
        give_up_lane_locked(c, lane);
    wake_waiters_locked(c, true);
}

bool
crew_give_up(struct crew *c, uint64_t generation, uint64_t after_ns)
{
    bool given_up;

    (void)pthread_mutex_lock(&c->lock);
    if (generation == c->generation) {
        uint64_t now = crew_now_ns(), since = oldest_ns(c->running);
        bool busy = c->running != NULL || is_something_queued_locked(c);

        if (after_ns > 0)
            busy = since != UINT64_MAX && now >= since &&
                   now - since >= after_ns;
        if (busy)
            give_up_locked(c, now);
    }
    given_up = generation != c->generation;
    (void)pthread_mutex_unlock(&c->lock);
    return given_up;
}

/* ---- carrying out ---- */

static bool
is_answer(int r)
{
    return r >= 0 || r == -ENOENT || r == -EEXIST || r == -ENXIO ||
           r == -EBUSY;
}

/* Not a full or a forbidden directory: a bad medium. */
static bool
is_of_medium(int r)
{
    return r == -EIO || r == -EREMOTEIO || r == -EUCLEAN || r == -ENODATA;
}

static void
count_locked(struct crew *c, const struct crew_op *op, uint64_t ns)
{
    struct guard_latency *l = &c->stats.latency[op->kind];
    uint64_t us = ns / 1000;
    unsigned bucket = us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);

    if (bucket >= GUARD_LATENCY_BUCKETS)
        bucket = GUARD_LATENCY_BUCKETS - 1;
    l->count++;
    l->sum_ns += ns;
    l->bucket[bucket]++;
    if (!is_answer(op->result))
        c->stats.errors++;
    if (is_of_medium(op->result))
        c->stats.medium_errors++;
}

/* The first error of an op that nobody waits for. */
static void
stick_locked(struct crew_thing *thing, int error, const char *text)
{
    if (thing->error < 0)
        return;
    thing->error = error;
    (void)snprintf(thing->error_text, sizeof thing->error_text, "%s",
                   text != NULL ? text : strerror(-error));
}

static void
join_locked(struct crew *c, struct crew_op *op)
{
    struct crew_thing *thing = op->thing;

    if (op->join == NULL || !op->ordered)
        return;
    while (thing->later.first != NULL &&
           op->join(op, thing->later.first)) {
        push(&op->joined, pop(&thing->later));
        c->queued_count--;
    }
}

/* May it still be begun? */
static bool
may_begin_locked(struct crew_op *op)
{
    if (op->cancelled) {
        op->result = -ECANCELED;
        return false;
    }
    if (op->ordered && op->kind != GUARD_READ && op->thing->error < 0) {
        op->result = op->thing->error;
        (void)mem_dup(op->thing->error_text, &op->text);
        return false;
    }
    return true;
}

/* Its part that needs no lock. */
static void
perform(struct crew *c, struct crew_op *op)
{
    op->begun = true;
    op->begun_ns = crew_now_ns();
    if (!op->abandoned)
        insert(&c->running, op);
    (void)pthread_mutex_unlock(&c->lock);
    op->result = op->run(op);
    if (op->result < 0)
        (void)mem_dup(err_text(), &op->text);
    (void)pthread_mutex_lock(&c->lock);
    if (op->abandoned && op->undo != NULL) {
        (void)pthread_mutex_unlock(&c->lock);
        op->undo(op);
        (void)pthread_mutex_lock(&c->lock);
    }
    c->progress_ns = op->ended_ns = crew_now_ns();
    take_out(op->abandoned ? &c->leftover : &c->running, op);
}

/* The thing is closed: nothing of it is left but its memory. */
static void
closed_locked(struct crew_thing *thing)
{
    struct crew *c = thing->crew;

    thing_gone_locked(thing);
    thing->closed = true;
    if (thing->closer != NULL) {
        (void)pthread_cond_signal(&thing->closer->cond);
        return;
    }
    thing->free(thing);
    /* The thread that we are has a reference of its own. */
    (void)atomic_fetch_sub(&c->refs, 1);
}

static void
finish_locked(struct crew *c, struct crew_op *op)
{
    struct crew_op *joined;
    uint64_t ns = op->begun ? c->progress_ns - op->begun_ns : 0;

    while ((joined = pop(&op->joined)) != NULL) {
        joined->result = op->result;
        if (!op->abandoned)
            count_locked(c, joined, ns);
        hand_back_locked(c, joined);
    }
    if (op->begun && !op->abandoned)
        count_locked(c, op, ns);
    if (op->async && op->result < 0)
        stick_locked(op->thing, op->result, op->text);
    hand_back_locked(c, op);
}

/* The next one in order, if this thread is to go on with it. */
static struct crew_op *
next_in_order_locked(struct crew *c, struct crew_thing *thing,
                     enum crew_lane lane)
{
    struct crew_op *op = pop(&thing->later);

    if (op == NULL) {
        thing->in_order_busy = false;
        if (thing->closer != NULL)
            (void)pthread_cond_signal(&thing->closer->cond);
        return NULL;
    }
    if (op->lane == lane &&
        ((c->queue[lane].first == NULL && /* C4: perhaps the only one */
          (c->threads > c->busy[lane] || !is_something_queued_locked(c))) ||
         (c->idle > 0 && c->busy[lane] < CREW_THREADS_MAX)))
        return op;
    begin_later_locked(c, op); /* others wait, too: in turn */
    return NULL;
}

static void
carry_out_locked(struct crew *c, struct crew_op *op)
{
    enum crew_lane lane = op->lane;

    c->busy[lane]++;
    while (op != NULL) {
        struct crew_op *next = NULL;
        struct crew_thing *thing = op->thing;
        bool closing = thing != NULL && op == &thing->closing;

        c->queued_count--;
        if (may_begin_locked(op)) {
            join_locked(c, op);
            perform(c, op);
        }
        if (closing) {
            closed_locked(thing);
            break;
        }
        if (op->ordered)
            next = next_in_order_locked(c, thing, lane);
        finish_locked(c, op);
        op = next;
    }
    c->busy[lane]--;
}

/* A thread. */
static void
work(struct crew *c)
{
    bool is_time = false;

    (void)pthread_mutex_lock(&c->lock);
    for (;;) {
        struct crew_op *op = take_next_locked(c);
        uint64_t until;

        if (op != NULL) {
            carry_out_locked(c, op);
            is_time = false;
            continue;
        }
        if (c->things == 0 || is_time)
            break;
        until = crew_now_ns() + IDLE_NS;
        c->idle++;
        crew_wait_until(&c->work, &c->lock, until);
        c->idle--;
        if (c->signalled > 0)
            c->signalled--;
        is_time = crew_now_ns() >= until;
    }
    c->threads--;
    c->ending++;
    (void)pthread_mutex_unlock(&c->lock);
}

/* ---- calling ---- */

/* Wait for a place in the queue. Who comes while others wait, waits, too. */
static int
wait_for_room_locked(struct crew *c, struct crew_op *op, const char *name,
                     const atomic_uint *deadline_ms)
{
    uint64_t began = crew_now_ns();
    struct crew_waiter w;
    int r = 0;

    if (c->room_waiters == 0 &&
        c->queued_bytes + op->bytes <= CREW_QUEUE_BYTES_MAX)
        return 0;
    waiter_add_locked(c, &w);
    w.for_room = true;
    c->room_waiters++;
    while (c->queued_bytes > 0 &&
           c->queued_bytes + op->bytes > CREW_QUEUE_BYTES_MAX) {
        uint64_t at = hung_at_locked(c, began, atomic_load(deadline_ms));
        uint64_t now = crew_now_ns();

        if (now >= at)
            give_up_locked(c, now);
        else
            crew_wait_until(&w.cond, &c->lock, at);
        r = check_locked(op->thing, name, op->kind == GUARD_READ);
        if (r < 0)
            break;
    }
    c->room_waiters--;
    waiter_remove_locked(c, &w);
    return r;
}

static bool
must_stand_in_order(const struct crew_op *op)
{
    if (op->kind == GUARD_READ)
        return atomic_load(&op->thing->unread) > 0;
    return op->thing->in_order_busy;
}

/* A read goes before what it can't see the effect of. */
static void
put_in_order_locked(struct crew_ops_list *later, struct crew_op *op)
{
    struct crew_op *before = NULL;

    if (op->kind != GUARD_READ) {
        push(later, op);
        return;
    }
    for (struct crew_op *other = later->first; other; other = other->next) {
        if (!other->unseen)
            before = other;
    }
    op->next = before ? before->next : later->first;
    if (before)
        before->next = op;
    else
        later->first = op;
    if (op->next == NULL)
        later->last = op;
}

static int
enqueue_locked(struct crew *c, struct crew_op *op, const char *name,
               const atomic_uint *deadline_ms)
{
    int r = 0;

    assert(op->thing == NULL || op->thing->crew == c);
    if (op->thing != NULL)
        r = check_locked(op->thing, name, op->kind == GUARD_READ);
    if (r == 0 && op->made != NULL)
        r = check_locked(op->made, name, false);
    if (r == 0 && op->bytes > 0)
        r = wait_for_room_locked(c, op, name, deadline_ms);
    if (r == 0 && c->threads == 0)
        r = start_thread_locked(c);
    if (r < 0)
        return r;

    op->lane = op->unseen ? LANE_SYNC : op->async ? LANE_WRITE : LANE_PROMPT;
    c->queued_count++;
    c->queued_bytes += op->bytes;
    if (op->thing != NULL) {
        op->thing->users++;
        op->ordered = op->in_order || must_stand_in_order(op);
        account_order_locked(op, true);
        if (op->ordered && op->thing->in_order_busy) {
            put_in_order_locked(&op->thing->later, op);
            return 0;
        }
        if (op->ordered)
            op->thing->in_order_busy = true;
    }
    begin_later_locked(c, op);
    return 0;
}

int
crew_queue(struct crew *c, struct crew_op *op, const char *name,
           const atomic_uint *deadline_ms)
{
    int r;

    assert(op->async);
    (void)pthread_mutex_lock(&c->lock);
    r = enqueue_locked(c, op, name, deadline_ms);
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

/* Until it is done, or needn't be waited for any more: false then. */
static bool
wait_locked(struct crew_pending *p)
{
    const struct crew_patience *patience = &p->patience;
    uint64_t patient_until = p->began_ns + patience->ns;
    struct crew_op *op = p->op;
    struct crew *c = p->crew;

    while (!op->done && !op->abandoned) {
        uint64_t until = hung_at_locked(c, p->began_ns,
                                        atomic_load(patience->deadline_ms));
        uint64_t now = crew_now_ns();

        if (now >= until) {
            give_up_locked(c, now);
            continue;
        }
        if (patience->ns > 0 && now >= patient_until)
            return false;
        if (patience->ns > 0 && until > patient_until)
            until = patient_until;
        crew_wait_until(&p->waiter.cond, &c->lock, until);
    }
    return true;
}

/* What the waiter gets; may leave op to the crew. */
static int
outcome_locked(struct crew *c, struct crew_op *op, const char *name,
               bool waited, bool *ret_own)
{
    if (!waited) {
        op->waiter = NULL;
        op->cancelled = !op->begun;
        *ret_own = false;
        return -EAGAIN;
    }
    if (op->abandoned) {
        op->waiter = NULL;
        if (op->done)
            op->free(op);
        *ret_own = false;
        return no_answer_locked(c, name);
    }
    *ret_own = true;
    if (op->cancelled) /* dropped */
        return no_answer_locked(c, name);
    if (op->result < 0)
        return err_set(op->result, "%s",
                       op->text != NULL ? op->text : strerror(-op->result));
    return op->result;
}

int
crew_begin(struct crew *c, struct crew_op *op, const char *name,
           const struct crew_patience *patience, struct crew_pending *ret)
{
    int r;

    *ret = (struct crew_pending){
        .crew = c, .op = op, .name = name, .patience = *patience};
    (void)pthread_mutex_lock(&c->lock);
    op->waiter = &ret->waiter;
    r = enqueue_locked(c, op, name, patience->deadline_ms);
    if (r == 0) {
        ret->began_ns = crew_now_ns();
        waiter_add_locked(c, &ret->waiter);
    }
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

int
crew_end(struct crew_pending *p, bool *ret_own)
{
    struct crew *c = p->crew;
    bool waited;
    int r;

    (void)pthread_mutex_lock(&c->lock);
    waited = wait_locked(p);
    r = outcome_locked(c, p->op, p->name, waited, ret_own);
    waiter_remove_locked(c, &p->waiter);
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

int
crew_call(struct crew *c, struct crew_op *op, const char *name,
          const struct crew_patience *patience, bool *ret_own)
{
    struct crew_pending p;
    int r;

    *ret_own = true;
    r = crew_begin(c, op, name, patience, &p);
    return r < 0 ? r : crew_end(&p, ret_own);
}

/* ---- closing ---- */

/* Until when to wait for the closing; *since: when that alone was waited for
 * first.
 * First for what is queued, as every call; then for the closing, not for long.
 * Of a dead one: if what is left of the crew is not old; so one that came back
 * can be opened at once when its old handles are closed. */
static uint64_t
wait_closed_until_locked(const struct crew_thing *thing, uint64_t began,
                         uint64_t now, uint64_t *since)
{
    unsigned deadline_ms = atomic_load(thing->deadline_ms);
    uint64_t brief = deadline_ms * UINT64_C(1000000);

    if (brief > CLOSE_NS)
        brief = CLOSE_NS;
    if (is_dead(thing)) {
        uint64_t oldest = oldest_ns(thing->crew->leftover);

        return oldest == UINT64_MAX ? 0 : oldest + brief;
    }
    if (thing->in_order_busy)
        return hung_at_locked(thing->crew, began, deadline_ms);
    if (*since == 0)
        *since = now;
    return *since + brief;
}

static void
wait_closed_locked(struct crew_thing *thing)
{
    struct crew *c = thing->crew;
    uint64_t began = crew_now_ns(), since = 0;
    struct crew_waiter w;

    waiter_add_locked(c, &w);
    thing->closer = &w;
    while (!thing->closed) {
        uint64_t now = crew_now_ns();
        uint64_t until = wait_closed_until_locked(thing, began, now, &since);

        if (now < until) {
            crew_wait_until(&w.cond, &c->lock, until);
            continue;
        }
        if (thing->in_order_busy && !is_dead(thing))
            give_up_locked(c, now);
        break;
    }
    thing->closer = NULL;
    waiter_remove_locked(c, &w);
}

void
crew_thing_close(struct crew_thing *thing)
{
    struct crew *c = thing->crew;
    bool closed;

    (void)pthread_mutex_lock(&c->lock);
    if (c->threads == 0 && c->leftover == NULL &&
        start_thread_locked(c) < 0 && thing->users == 1) {
        /* No thread to be had: a lock that stays would be worse. */
        (void)pthread_mutex_unlock(&c->lock);
        thing->close(thing);
        crew_thing_discard(thing);
        return;
    }
    use_less_locked(thing);
    wait_closed_locked(thing);
    closed = thing->closed; /* else the memory is the crew's */
    (void)pthread_mutex_unlock(&c->lock);
    if (closed) {
        thing->free(thing);
        crew_put(c);
    }
}

/* ---- looking on ---- */

void
crew_get_stats(struct crew *c, struct guard_stats *ret)
{
    uint64_t now = crew_now_ns(), since;

    (void)pthread_mutex_lock(&c->lock);
    *ret = c->stats;
    ret->abandoned = count(c->leftover);
    ret->running = count(c->running);
    ret->queued = c->queued_count;
    since = oldest_ns(c->running);
    ret->longest_ns = now > since ? now - since : 0;
    (void)pthread_mutex_unlock(&c->lock);
}

/* ---- fork ---- */

/* The child does not know what came of it: the parent's thread may be at it
 * still. So it can't be repeated either, which could undo later writes. */
static void
lose_locked(struct crew *c, struct crew_op *op)
{
    struct crew_thing *thing = op->thing;
    struct crew_op *other;

    while ((other = pop(&op->joined)) != NULL)
        lose_locked(c, other);
    if (op->ordered) {
        while ((other = pop(&thing->later)) != NULL)
            lose_locked(c, other);
        thing->in_order_busy = false;
    }
    if (op->async)
        stick_locked(thing, -EIO, "a fork came between: what was being "
                     "written is lost");
    if (op->made != NULL) {
        thing_gone_locked(op->made);
        (void)atomic_fetch_sub(&c->refs, 1);
    }
    c->queued_bytes -= op->bytes;
    account_order_locked(op, false);
    if (thing != NULL)
        use_less_locked(thing);
    if (!op->begun) /* else a thread that is no more was at its memory */
        op->free(op);
}

static void
lose_set_locked(struct crew *c, struct crew_op **set)
{
    struct crew_op *op;

    while ((op = *set) != NULL) {
        take_out(set, op);
        op->abandoned = false;
        if (op->thing == NULL || op != &op->thing->closing) {
            lose_locked(c, op);
        } else if (op->begun) { /* half closed: its memory is lost */
            thing_gone_locked(op->thing);
            (void)atomic_fetch_sub(&c->refs, 1);
        } /* else it is in the queue, too, and stays there */
    }
}

static void
lose_lane_locked(struct crew *c, enum crew_lane lane,
                 struct crew_ops_list *queue)
{
    struct crew_op *op;

    while ((op = pop(queue)) != NULL) {
        if (op->thing != NULL && op == &op->thing->closing) {
            push(&c->queue[lane], op);
            c->queued_count++;
        } else {
            lose_locked(c, op);
        }
    }
}

void
crew_after_fork(struct crew *c)
{
    struct crew_ops_list queue[LANES];
    unsigned threads = c->threads + c->ending;

    crew_cond_init(&c->work);
    c->waiters = NULL;
    c->room_waiters = 0;
    c->idle = 0;
    c->signalled = 0;
    c->threads = LANES * CREW_THREADS_MAX; /* so that none is started here */
    memcpy(queue, c->queue, sizeof queue);
    memset(c->queue, 0, sizeof c->queue);
    memset(c->busy, 0, sizeof c->busy);
    c->queued_count = 0;
    lose_set_locked(c, &c->running);
    lose_set_locked(c, &c->leftover);
    for (enum crew_lane lane = 0; lane < LANES; lane++)
        lose_lane_locked(c, lane, &queue[lane]);
    c->ending = 0;
    c->threads = 0; /* C4 holds again when the next call has begun */
    (void)atomic_fetch_sub(&c->refs, threads);
}
