/* policy.c: see policy.h. */
#include "volume/policy.h"
#include "volume/volume.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)
#define MINUTE_NS (60 * SECOND_NS)
#define CHANCE_NS (10 * MINUTE_NS)
#define LOOKS_MIN 4       /* judged, in a row */
#define OPERATIONS_MIN 5  /* of a look that is judged */
#define OWN_MIN 100       /* of a long term that is compared with */
#define LATE_US 100000
#define TIMES 10

/* ---- errors: by minutes ---- */

static uint64_t
count_errors(struct policy_part *part, uint64_t now_ns, uint64_t more)
{
    uint64_t minute = now_ns / MINUTE_NS, sum = 0;

    if (minute - part->minute >= POLICY_MINUTES)
        memset(part->errors, 0, sizeof part->errors);
    else
        for (uint64_t m = part->minute + 1; m <= minute; m++)
            part->errors[m % POLICY_MINUTES] = 0;
    part->minute = minute;
    part->errors[minute % POLICY_MINUTES] += more;
    for (unsigned i = 0; i < POLICY_MINUTES; i++)
        sum += part->errors[i];
    return sum;
}

/* ---- pace ---- */

/* What happened between two samples. */
struct seen {
    uint64_t count;
    unsigned p99; /* bucket: less than 2^p99 us */
};

static struct seen
see(const uint64_t *from, const uint64_t *to)
{
    struct seen seen = {0, 0};
    uint64_t below = 0;

    for (unsigned i = 0; i < GUARD_LATENCY_BUCKETS; i++)
        seen.count += to[i] - (from ? from[i] : 0);
    for (unsigned i = 0; i < GUARD_LATENCY_BUCKETS; i++) {
        below += to[i] - (from ? from[i] : 0);
        seen.p99 = i;
        if (below * 100 >= seen.count * 99)
            break;
    }
    return seen;
}

static int
order(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

    return x < y ? -1 : x > y;
}

/* Its bucket; false: nothing to compare with. */
static bool
reference(const struct policy *p, const struct seen *seen, uint32_t count,
          uint32_t slot, enum policy_kind kind, unsigned *ret)
{
    unsigned other[PARTS_MAX], n = 0;
    struct seen own;

    for (uint32_t i = 0; i < count; i++) {
        if (i != slot && seen[i].count >= OPERATIONS_MIN)
            other[n++] = seen[i].p99;
    }
    if (n > 0) {
        qsort(other, n, sizeof other[0], order);
        *ret = other[(n - 1) / 2];
        return true;
    }
    own = see(NULL, p->part[slot].last.bucket[kind]);
    *ret = own.p99;
    return own.count >= OWN_MIN;
}

/* At least so much. */
static uint64_t
late_us(const struct seen *seen)
{
    return seen->p99 > 0 ? UINT64_C(1) << (seen->p99 - 1) : 0;
}

static void
judge_pace(struct policy_pace *pace, uint64_t now_ns, bool bad)
{
    unsigned *streak = bad ? &pace->bad : &pace->good;

    if (now_ns - pace->judged_ns > MINUTE_NS)
        pace->bad = pace->good = 0; /* long ago */
    if (*streak == 0)
        pace->since_ns = now_ns - POLICY_LOOK_NS;
    ++*streak;
    if (bad)
        pace->good = 0;
    else
        pace->bad = 0;
    pace->judged_ns = now_ns;
    if (*streak >= LOOKS_MIN && now_ns - pace->since_ns >= MINUTE_NS)
        pace->slow = bad;
}

static void
look_at_pace(struct policy *p, uint64_t now_ns, enum policy_kind kind,
             const struct seen *seen, uint32_t count,
             struct policy_verdict *ret)
{
    for (uint32_t i = 0; i < count; i++) {
        struct policy_pace *pace = &p->part[i].pace[kind];
        uint64_t late = late_us(&seen[i]);
        unsigned usual;

        if (seen[i].count >= OPERATIONS_MIN &&
            reference(p, seen, count, i, kind, &usual))
            judge_pace(pace, now_ns,
                       late > LATE_US &&
                           late > TIMES * (UINT64_C(1) << usual));
        else if (now_ns - pace->judged_ns >= CHANCE_NS)
            memset(pace, 0, sizeof *pace);
        if (!pace->slow)
            continue;
        ret->slow |= UINT32_C(1) << i;
        if (late > ret->late_us[i])
            ret->late_us[i] = late;
    }
}

/* ---- a look ---- */

static bool
follows(const struct policy_part *part, const struct policy_sample *sample)
{
    bool grown = part->known && sample->in_use &&
                 sample->errors >= part->last.errors;

    for (int k = 0; k < POLICY_KINDS; k++) {
        for (unsigned i = 0; i < GUARD_LATENCY_BUCKETS; i++)
            grown = grown && sample->bucket[k][i] >= part->last.bucket[k][i];
    }
    return grown;
}

void
policy_look(struct policy *p, uint64_t now_ns,
            const struct policy_sample *sample, uint32_t count,
            struct policy_verdict *ret)
{
    struct seen seen[POLICY_KINDS][PARTS_MAX];

    memset(ret, 0, sizeof *ret);
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < count; i++) {
        struct policy_part *part = &p->part[i];

        if (!follows(part, &sample[i])) { /* away, or here anew */
            memset(part, 0, sizeof *part);
            part->known = sample[i].in_use;
            part->last = sample[i];
            continue;
        }
        ret->errors[i] = count_errors(part, now_ns, sample[i].errors -
                                                        part->last.errors);
        if (ret->errors[i] > POLICY_ERRORS_MAX)
            ret->failing |= UINT32_C(1) << i;
        for (int k = 0; k < POLICY_KINDS; k++)
            seen[k][i] = see(part->last.bucket[k], sample[i].bucket[k]);
    }
    for (int k = 0; k < POLICY_KINDS; k++)
        look_at_pace(p, now_ns, (enum policy_kind)k, seen[k], count, ret);
    for (uint32_t i = 0; i < count; i++)
        p->part[i].last = sample[i];
}

/* ---- of a volume ---- */

static void
take_sample(struct lsvd_volume *v, uint32_t slot, struct policy_sample *ret)
{
    struct part *p = &v->part[slot];
    struct guard_stats stats = {0};
    struct lease lease;

    memset(ret, 0, sizeof *ret);
    lease_get(&v->part_leases, &lease, slot, slot + 1, false);
    ret->in_use = (v->usable & UINT32_C(1) << slot) && p->dir;
    if (ret->in_use)
        (void)guard_stats(p->dir, &stats);
    lease_put(&v->part_leases, &lease);
    ret->errors = atomic_load(&p->bad) + stats.medium_errors;
    memcpy(ret->bucket[POLICY_READ], stats.latency[GUARD_READ].bucket,
           sizeof ret->bucket[POLICY_READ]);
    memcpy(ret->bucket[POLICY_SYNC], stats.latency[GUARD_SYNC].bucket,
           sizeof ret->bucket[POLICY_SYNC]);
}

/* The role is asked; every time, as R7 may allow tomorrow what it does not
 * today. */
static void
ask_to_drop(struct lsvd_volume *v, uint32_t slot, const char *why)
{
    struct part *p = &v->part[slot];

    pthread_mutex_lock(&v->state_lock);
    v->unwanted |= UINT32_C(1) << slot;
    snprintf(p->unwanted_text, sizeof p->unwanted_text, "%s", why);
    pthread_cond_signal(&v->work);
    pthread_mutex_unlock(&v->state_lock);
}

static void
act_on_failing(struct lsvd_volume *v, uint32_t slot,
               const struct policy_verdict *verdict)
{
    struct part *p = &v->part[slot];
    bool failing = verdict->failing & UINT32_C(1) << slot;
    char why[128];

    snprintf(why, sizeof why, "%" PRIu64 " errors in an hour",
             verdict->errors[slot]);
    if (atomic_exchange(&p->failing, failing) != failing)
        event_note(v, failing ? LOG_ERROR_LEVEL : LOG_WARNING_LEVEL,
                   "failing", p->letter, "part %c is %s: %s%s", p->letter,
                   failing ? "failing" : "no longer failing", why,
                   failing && !v->config.drop_failing
                       ? "; replace it" : "");
    if (failing && v->config.drop_failing)
        ask_to_drop(v, slot, why);
}

static void
act_on_slow(struct lsvd_volume *v, uint32_t slot,
            const struct policy_verdict *verdict)
{
    struct part *p = &v->part[slot];
    bool slow = verdict->slow & UINT32_C(1) << slot;
    char why[128];

    snprintf(why, sizeof why, "slow: one of a hundred operations takes more "
             "than %" PRIu64 " ms", verdict->late_us[slot] / 1000);
    if (atomic_exchange(&p->slow, slow) != slow) {
        if (slow)
            event_note(v, LOG_WARNING_LEVEL, "slow", p->letter,
                       "part %c is %s; reads avoid it", p->letter, why);
        else
            event_note(v, LOG_WARNING_LEVEL, "slow", p->letter,
                       "part %c is no longer slow", p->letter);
    }
    if (slow && v->config.drop_slow)
        ask_to_drop(v, slot, why);
}

void
policy_watch(struct lsvd_volume *v)
{
    struct policy_sample sample[PARTS_MAX];
    struct policy *p = &v->policy;
    struct policy_verdict verdict;
    uint64_t now = v->io->ops->now_ns(v->io);

    if (p->looked_ns != 0 && now - p->looked_ns < POLICY_LOOK_NS)
        return;
    p->looked_ns = now;
    for (uint32_t i = 0; i < v->g.part_count; i++)
        take_sample(v, i, &sample[i]);
    policy_look(p, now, sample, v->g.part_count, &verdict);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        act_on_failing(v, i, &verdict);
        act_on_slow(v, i, &verdict);
    }
}

bool
policy_keeps_off(struct lsvd_volume *v, uint32_t slot)
{
    uint64_t now = v->io->ops->now_ns(v->io);
    bool off;

    pthread_mutex_lock(&v->state_lock);
    off = now < v->part[slot].off_until_ns;
    pthread_mutex_unlock(&v->state_lock);
    return off;
}

void
policy_admit(struct lsvd_volume *v, uint32_t slot)
{
    pthread_mutex_lock(&v->state_lock);
    v->part[slot].off_until_ns = 0;
    pthread_mutex_unlock(&v->state_lock);
}
