/* Appends, syncs, reads and destage at once; then the power goes. For TSan
 * too.
 *
 * Each writer has its own blocks (as leases would give it) and knows of each
 * the last number it wrote and the last it saw flushed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

#include "base/err.h"
#include "base/sum.h"
#include <sched.h>
#include <stdatomic.h>

enum { WRITERS = 8, BLOCKS_EACH = 40, BLOCK = 512 };

struct crowd {
    struct rig rig;
    atomic_bool stop;
    atomic_uint writers;            /* still at work */
    uint64_t steps;                 /* of a writer */
    pthread_mutex_t space_lock;
    pthread_cond_t space;           /* destage made some */
    uint64_t advances;              /* guarded by space_lock */
    uint64_t errors;                /* guarded by space_lock */
};

struct writer {
    struct crowd *crowd;
    uint64_t first, random;
    uint64_t tried[BLOCKS_EACH], answered[BLOCKS_EACH];
    uint64_t flushed[BLOCKS_EACH];
    uint64_t next_number;
    pthread_t thread;
};

static void
wait_for_space(struct crowd *c, uint64_t advances)
{
    pthread_mutex_lock(&c->space_lock);
    while (c->advances == advances && !c->stop)
        pthread_cond_wait(&c->space, &c->space_lock);
    pthread_mutex_unlock(&c->space_lock);
}

static uint64_t
advances_now(struct crowd *c)
{
    uint64_t advances;

    pthread_mutex_lock(&c->space_lock);
    advances = c->advances;
    pthread_mutex_unlock(&c->space_lock);
    return advances;
}

static int
write_some(struct writer *w, uint64_t n)
{
    uint64_t at = n % BLOCKS_EACH, count = (n >> 20) % 4 + 1;
    struct rig *rig = &w->crowd->rig;
    uint8_t data[4 * BLOCK];
    uint64_t sums[4], number = w->next_number, advances;
    int r;

    if (count > BLOCKS_EACH - at)
        count = BLOCKS_EACH - at;
    w->next_number += WRITERS;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t block = w->first + at + i;

        rig_fill(rig, block, number, data + i * BLOCK);
        sums[i] = sum_block(rig_seed(NULL, block), data + i * BLOCK, BLOCK);
        w->tried[at + i] = number;
    }
    do {
        advances = advances_now(w->crowd);
        r = journal_append_write(rig->j, w->first + at, (uint32_t)count, sums,
                                 data);
        if (r == -EAGAIN)
            wait_for_space(w->crowd, advances);
    } while (r == -EAGAIN && !w->crowd->stop);
    for (uint64_t i = 0; i < count && r == 0; i++)
        w->answered[at + i] = number;
    return r;
}

static int
read_one(struct writer *w, uint64_t n)
{
    uint64_t at = n % BLOCKS_EACH;
    struct rig *rig = &w->crowd->rig;
    uint8_t to[BLOCK], expected[BLOCK];
    int r = journal_read(rig->j, w->first + at,
                         rig_seed(NULL, w->first + at), to);

    rig_fill(rig, w->first + at, w->answered[at], expected);
    /* 0: destage has taken it */
    return r == 1 && memcmp(to, expected, BLOCK) != 0 ? -EBADMSG : r;
}

static int
flush(struct writer *w)
{
    uint64_t answered[BLOCKS_EACH];
    int r;

    memcpy(answered, w->answered, sizeof answered);
    r = journal_sync(w->crowd->rig.j);
    if (r == 0)
        memcpy(w->flushed, answered, sizeof answered);
    return r;
}

static void *
writer_main(void *arg)
{
    struct writer *w = arg;
    int r = 0;

    for (uint64_t i = 0; i < w->crowd->steps && r >= 0; i++) {
        uint64_t n = next_random(&w->random);

        if ((n >> 40) % 16 == 0)
            r = flush(w);
        else if ((n >> 40) % 4 == 1)
            r = read_one(w, n);
        else
            r = write_some(w, n);
    }
    pthread_mutex_lock(&w->crowd->space_lock);
    if (r < 0 && r != -EIO && r != -EAGAIN)
        w->crowd->errors++;
    pthread_mutex_unlock(&w->crowd->space_lock);
    atomic_fetch_sub(&w->crowd->writers, 1);
    return NULL;
}

static int
destage_some(struct crowd *c)
{
    struct rig *rig = &c->rig;
    uint64_t chunks[8], zero_seq;
    uint64_t ckpt[PARTS_MAX] = { 0 };
    struct journal_block blocks[64];
    size_t chunk_count, count, total;
    uint8_t content[BLOCK];
    int r = journal_sync(rig->j);

    if (r < 0)
        return r;
    chunk_count = journal_oldest_chunks(rig->j, chunks, 8);
    for (size_t k = 0; k < chunk_count; k++) {
        count = journal_chunk_blocks(rig->j, chunks[k], blocks, 64, &total,
                                     &zero_seq);
        r = journal_sync(rig->j); /* what is applied must be durable */
        for (size_t i = 0; i < count && r == 0; i++) {
            r = journal_read_at(rig->j, &blocks[i],
                                rig_seed(NULL, blocks[i].block), content);
            if (r == 0)
                memcpy(&rig->parts[blocks[i].block], content, 8);
        }
        if (r < 0)
            return r;
        journal_forget(rig->j, chunks[k], blocks, count, zero_seq);
    }
    ckpt[0] = journal_checkpoint_seq(rig->j);
    return journal_advance(rig->j, ckpt);
}

static void *
destage_main(void *arg)
{
    struct crowd *c = arg;
    int r = 0;

    while (r == 0 && atomic_load(&c->writers) > 0) {
        r = destage_some(c);
        pthread_mutex_lock(&c->space_lock);
        c->advances++;
        if (r < 0)
            c->stop = true;
        if (r < 0 && r != -EIO)
            c->errors++;
        pthread_cond_broadcast(&c->space);
        pthread_mutex_unlock(&c->space_lock);
        sched_yield();
    }
    return NULL;
}

static void
run_crowd(struct crowd *c, struct writer *writers)
{
    pthread_t destage;

    c->stop = false;
    c->writers = WRITERS;
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]);
    pthread_create(&destage, NULL, destage_main, c);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    pthread_join(destage, NULL);
    assert_int_equal(c->errors, 0);
}

static void
init_crowd(struct crowd *c, struct writer *writers, uint64_t seed)
{
    memset(c, 0, sizeof *c);
    rig_init(&c->rig, NULL, BLOCK, 16, WRITERS * BLOCKS_EACH, 65536, 0);
    c->rig.cut.random = seed;
    pthread_mutex_init(&c->space_lock, NULL);
    pthread_cond_init(&c->space, NULL);
    memset(writers, 0, WRITERS * sizeof *writers);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].crowd = c;
        writers[i].first = i * BLOCKS_EACH;
        writers[i].random = seed * 100 + i;
        writers[i].next_number = i + 1;
    }
}

static void
done_crowd(struct crowd *c)
{
    pthread_cond_destroy(&c->space);
    pthread_mutex_destroy(&c->space_lock);
    rig_done(&c->rig);
}

/* is_cut: what was flushed, or newer; else: what was answered. */
static void
check_crowd(struct crowd *c, struct writer *writers, bool is_cut)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        struct writer *w = &writers[i];

        for (unsigned k = 0; k < BLOCKS_EACH; k++) {
            uint64_t number = rig_read(&c->rig, w->first + k);
            uint64_t least = is_cut ? w->flushed[k] : w->answered[k];

            if (number < least || number > w->tried[k])
                fail_msg("block %u of writer %u is %llu, not %llu … %llu", k,
                         i, (unsigned long long)number,
                         (unsigned long long)least,
                         (unsigned long long)w->tried[k]);
            w->tried[k] = w->answered[k] = w->flushed[k] = number;
        }
    }
}

static void
a_crowd_gets_what_it_wrote(void **state)
{
    static struct writer writers[WRITERS];
    static struct crowd c;
    struct journal_space space;

    (void)state;
    init_crowd(&c, writers, 1);
    c.steps = 400;
    for (unsigned run = 0; run < 4; run++) {
        run_crowd(&c, writers);
        check_crowd(&c, writers, false);
        assert_int_equal(rig_reopen(&c.rig), 0);
        assert_false(c.rig.stats.torn_tail);
        check_crowd(&c, writers, false);
    }
    journal_space(c.rig.j, &space);
    assert_false(space.failed);
    done_crowd(&c);
}

static void
a_cut_leaves_the_crowd_what_was_flushed(void **state)
{
    static struct writer writers[WRITERS];
    static struct crowd c;

    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        init_crowd(&c, writers, seed);
        c.steps = 100000; /* until the medium dies */
        for (unsigned run = 0; run < 15; run++) {
            c.rig.cut.calls_left =
                (long)(next_random(&c.rig.cut.random) % 300);
            run_crowd(&c, writers);
            cut_target_cut(&c.rig.cut);
            if (rig_reopen(&c.rig) < 0)
                fail_msg("seed %u run %u: %s", (unsigned)seed, run,
                         err_text());
            check_crowd(&c, writers, true);
        }
        done_crowd(&c);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_gets_what_it_wrote),
        cmocka_unit_test(a_cut_leaves_the_crowd_what_was_flushed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
