/* fault_plan.c: judging calls by rules; see fault_plan.h.
 *
 * A call that waits looks again every REFRESH_MS by itself: nobody else may
 * be left to notice that its rule is gone. */
#include "target/fault_plan.h"

#include "base/err.h"
#include "base/memory.h"
#include "base/wait.h"
#include <assert.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFRESH_MS 50u

unsigned
fault_calls_of(enum fault_kind kind)
{
    switch (kind) {
    case FAULT_SHORT:
    case FAULT_FLIP:
        return FAULT_READ | FAULT_WRITE;
    case FAULT_LIE:
        return FAULT_SYNC;
    case FAULT_DROP:
        return FAULT_WRITE | FAULT_PUNCH | FAULT_ALLOCATE | FAULT_RESIZE |
               FAULT_REMOVE | FAULT_RENAME;
    case FAULT_MISDIRECT:
        return FAULT_WRITE;
    case FAULT_NONE:
    case FAULT_ERROR:
    case FAULT_HANG:
        return FAULT_ANY;
    case FAULT_KINDS:
        break;
    }
    return 0;
}

/* ---- the rules ---- */

static bool
same_rule(const struct fault_rule *a, const struct fault_rule *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->path, b->path) == 0 &&
           a->calls == b->calls && a->kind == b->kind &&
           a->error == b->error && a->after == b->after &&
           a->count == b->count && a->probability == b->probability &&
           a->seed == b->seed && a->delay_ms == b->delay_ms;
}

/* F2 */
static void
take_over(const struct fault_io *f, struct fault_live_rule *rule)
{
    for (size_t i = 0; i < f->count; i++)
        if (same_rule(&f->rules[i].rule, &rule->rule))
            *rule = f->rules[i];
}

int
fault_set_rules(struct io *io, const struct fault_rule *rules, size_t count)
{
    struct fault_io *f = (struct fault_io *)io;
    struct fault_live_rule *live = NULL;
    int r;

    if (count > FAULT_RULES_MAX)
        return err_set(-EINVAL, "more than %d rules", FAULT_RULES_MAX);
    r = count > 0 ? mem_new(count, sizeof *live, &live) : 0;
    if (r < 0)
        return r;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < count; i++) {
        assert(memchr(rules[i].name, '\0', FAULT_NAME_BYTES) != NULL);
        assert(memchr(rules[i].path, '\0', FAULT_PATH_BYTES) != NULL);
        assert(rules[i].kind < FAULT_KINDS);
        assert(rules[i].kind != FAULT_ERROR || rules[i].error < 0);
        live[i].rule = rules[i];
        live[i].rule.calls &= fault_calls_of(rules[i].kind);
        live[i].id = f->next_id++;
        take_over(f, &live[i]);
    }
    free(f->rules);
    f->rules = live;
    f->count = count;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

uint64_t
fault_hits(struct io *io, const char *name)
{
    struct fault_io *f = (struct fault_io *)io;
    uint64_t hits = 0;

    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->rules[i].rule.name, name) == 0)
            hits += f->rules[i].hits;
    pthread_mutex_unlock(&f->lock);
    return hits;
}

void
fault_ref(struct fault_io *f)
{
    pthread_mutex_lock(&f->lock);
    f->refs++;
    pthread_mutex_unlock(&f->lock);
}

void
fault_unref(struct fault_io *f)
{
    bool last;

    pthread_mutex_lock(&f->lock);
    assert(f->refs > 0);
    last = --f->refs == 0;
    pthread_mutex_unlock(&f->lock);
    if (!last)
        return;
    if (f->release != NULL)
        f->release(f->ctx);
    free(f->rules);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* ---- below this line the lock is held ---- */

static struct fault_live_rule *
rule_of_id(struct fault_io *f, uint64_t id)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->rules[i].id == id)
            return &f->rules[i];
    return NULL;
}

/* Gives the lock up while it asks. */
static void
refresh_locked(struct fault_io *f)
{
    uint64_t now = f->inner->ops->now_ns(f->inner);

    if (f->refresh == NULL || f->refreshing || f->ended ||
        now < f->next_refresh_ns)
        return;
    f->refreshing = true;
    f->refs++;
    pthread_mutex_unlock(&f->lock);
    f->refresh(f->ctx, &f->base);
    pthread_mutex_lock(&f->lock);
    f->refs--; /* who judges holds another */
    assert(f->refs > 0);
    f->next_refresh_ns = now + REFRESH_MS * UINT64_C(1000000);
    f->refreshing = false;
}

static bool
path_matches(const char *pattern, const char *path)
{
    if (strpbrk(pattern, "*?[") == NULL)
        return strstr(path, pattern) != NULL;
    while (path != NULL) {
        if (fnmatch(pattern, path, 0) == 0)
            return true;
        path = strchr(path, '/');
        if (path != NULL)
            path++;
    }
    return false;
}

/* splitmix64: a good number from any two. */
static uint64_t
mix(uint64_t seed, uint64_t n)
{
    uint64_t x = seed + n * UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Count a matching call; true if it is hit. F1. */
static bool
rule_hits(struct fault_live_rule *live)
{
    const struct fault_rule *rule = &live->rule;
    uint64_t n = ++live->calls;

    if (n <= rule->after)
        return false;
    if (rule->count > 0 && live->hits >= rule->count)
        return false;
    if (rule->probability > 0 &&
        mix(rule->seed, n) % FAULT_MILLION >= rule->probability)
        return false;
    live->hits++;
    return true;
}

static struct fault_live_rule *
find_hit(struct fault_io *f, const char *directory, const char *name,
         enum fault_call call)
{
    char path[4096 + 256];

    if (f->count == 0)
        return NULL;
    (void)snprintf(path, sizeof path, "%s%s%s", directory,
                   name[0] != '\0' ? "/" : "", name);
    for (size_t i = 0; i < f->count; i++) {
        struct fault_live_rule *live = &f->rules[i];

        if ((live->rule.calls & call) && path_matches(live->rule.path, path) &&
            rule_hits(live))
            return live;
    }
    return NULL;
}

/* F3: wait while the rule is there, and the time is not over. */
static void
wait_out(struct fault_io *f, uint64_t id, const struct fault_rule *rule)
{
    uint64_t begin = f->inner->ops->now_ns(f->inner);
    uint64_t delay_ns = rule->delay_ms * UINT64_C(1000000);

    while (!f->ended && rule_of_id(f, id) != NULL) {
        uint64_t waited = f->inner->ops->now_ns(f->inner) - begin;
        unsigned ms = REFRESH_MS;

        if (rule->kind != FAULT_HANG && waited >= delay_ns)
            return;
        if (rule->kind != FAULT_HANG &&
            delay_ns - waited < REFRESH_MS * UINT64_C(1000000))
            ms = (unsigned)((delay_ns - waited) / 1000000) + 1;
        wait_ms(&f->changed, &f->lock, ms);
        refresh_locked(f);
    }
}

static int
judge_locked(struct fault_io *f, const char *directory, const char *name,
             enum fault_call call, struct fault_verdict *ret)
{
    const char *slash = name[0] != '\0' ? "/" : "";
    struct fault_live_rule *live;
    struct fault_rule rule;

    refresh_locked(f);
    live = find_hit(f, directory, name, call);
    if (live == NULL)
        return 0;
    rule = live->rule;
    ret->chance = mix(rule.seed ^ UINT64_C(0x5851f42d4c957f2d), live->calls);
    if (rule.kind == FAULT_HANG || rule.delay_ms > 0)
        wait_out(f, live->id, &rule);
    if (f->ended)
        return err_set(-EIO, "%s%s%s: fault %s: given up", directory, slash,
                       name, rule.name);
    if (rule.kind == FAULT_ERROR)
        return err_set(rule.error, "%s%s%s: fault %s: %s", directory, slash,
                       name, rule.name, strerror(-rule.error));
    ret->kind = rule.kind == FAULT_HANG ? FAULT_NONE : rule.kind;
    return 0;
}

int
fault_judge(struct fault_io *f, const char *directory, const char *name,
            enum fault_call call, struct fault_verdict *ret)
{
    int r;

    *ret = (struct fault_verdict){ FAULT_NONE, 0 };
    pthread_mutex_lock(&f->lock);
    r = judge_locked(f, directory, name, call, ret);
    pthread_mutex_unlock(&f->lock);
    return r;
}
