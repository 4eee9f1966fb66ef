/* Parts that refuse while the volume is served, and come back; bytes that rot.
 * What was answered is there afterwards, whatever was refused, and no client
 * is told of anything that the other parts can make good. */
#include "unit.h"
#include "rig.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- one part ---- */

static const struct kind *const kinds[] = {&rig_mirror, &rig_triple, &rig_ec,
                                           &rig_wide};

/* Writes to two of the eight chunks while part b refuses something. */
static void
write_past(struct rig *rig, unsigned what)
{
    rig->io.refuse[1] = what;
    assert_int_equal(rig_write_until_refused(rig, 2, 2, 1500), 0);
    if (what & (REFUSE_WRITES | REFUSE_SYNCS))
        rig_until(rig, rig_has_dropped, 1);
    assert_true(rig->io.refused > 0);
    rig_check(rig);
}

/* Everything can be read without as many of the parts that never failed as
 * redundancy covers. */
static void
check_without_the_others(struct rig *rig)
{
    const struct kind *kind = &rig->world.kind;
    uint32_t parts = rig_status(rig)->part_count;
    uint32_t spare = kind->replicas ? kind->replicas - 1 : kind->ec_parity;
    unsigned all = (1u << parts) - 1, left = all;

    for (uint32_t i = 0; i < parts && spare > 0; i++) {
        if (i == 1)
            continue;
        left &= ~(1u << i);
        spare--;
    }
    rig_check_from(rig, left);
}

/* No client notices anything; the part is dropped, and in sync again soon
 * after it works; only what changed is copied to it. */
static void
part_refuses(const struct kind *kind, unsigned what, bool threaded)
{
    struct rig *rig = rig_new(kind);
    struct lsvd_status *s;

    rig_open_filled(rig);
    rig_close(rig);
    rig_open(rig, threaded);
    write_past(rig, what);
    s = rig_status(rig);
    assert_true(s->writable);
    if (what & (REFUSE_WRITES | REFUSE_SYNCS)) {
        assert_int_equal(s->health, LSVD_DEGRADED);
        assert_true(s->evictions >= 1);
        assert_true(strstr(s->problem, "part b") != NULL);
        rig_until_said(rig, "part b is dropped");
    }
    rig->io.refuse[1] = 0;
    rig_until(rig, rig_is_healthy, 0);
    s = rig_status(rig);
    assert_int_equal(s->returns > 0, s->evictions > 0);
    assert_true(s->resync.copied <= 2);
    rig_check(rig);
    rig_close(rig);
    rig_open(rig, false);
    check_without_the_others(rig);
    rig_end(rig);
}

static void
refuses_in_all_kinds(unsigned what)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        part_refuses(kinds[i], what, false);
    part_refuses(what & REFUSE_WRITES ? &rig_triple : &rig_mirror, what, true);
    part_refuses(what & REFUSE_READS ? &rig_wide : &rig_ec, what, true);
}

static void
test_writes_refused(void **state)
{
    (void)state;
    refuses_in_all_kinds(REFUSE_WRITES);
}

static void
test_syncs_refused(void **state)
{
    (void)state;
    refuses_in_all_kinds(REFUSE_SYNCS);
}

static void
test_reads_refused(void **state)
{
    (void)state;
    refuses_in_all_kinds(REFUSE_READS);
}

static void
test_all_refused(void **state)
{
    (void)state;
    refuses_in_all_kinds(REFUSE_WRITES | REFUSE_READS | REFUSE_SYNCS);
}

/* A part that never comes back: the volume is closed and opened without it,
 * and knows whom it waits for. */
static void
test_stays_away(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct rig *rig = rig_new(kinds[i]);

        rig_open_filled(rig);
        write_past(rig, REFUSE_WRITES);
        rig_close(rig);
        rig_open(rig, false);
        rig_check(rig);
        rig_touch(rig, 0, 1);
        assert_int_equal(rig_status(rig)->health, LSVD_DEGRADED);
        rig_close(rig);
        rig->io.refuse[1] = 0;
        rig_open(rig, false);
        rig_until(rig, rig_is_healthy, 0);
        assert_in_range(rig_status(rig)->resync.copied, 1, 3);
        check_without_the_others(rig);
        rig_end(rig);
    }
}

/* ---- one too many ---- */

/* How many parts may go before too few are left to write. */
static uint32_t
spare_writers(const struct kind *kind)
{
    if (kind->replicas)
        return kind->replicas / 2;
    return kind->ec_parity >= 2 ? kind->ec_parity - 1 : kind->ec_parity;
}

static void
refuse_from_b(struct rig *rig, uint32_t count, unsigned what)
{
    uint32_t parts = rig_status(rig)->part_count;

    for (uint32_t i = 0; i < count; i++)
        rig->io.refuse[(1 + i) % parts] = what;
}

/* Writes go on while the journal has room, and then fail; what can be read is;
 * the parts come back one by one, and all is well without a restart. */
/* Serves again; or the part that is back is one that was dropped before the
 * others failed, and these are waited for (R7): which comes first is chance
 * under threads. */
static bool
serves_or_waits_for_others(const struct lsvd_status *s, unsigned slot)
{
    return s->health == LSVD_DEGRADED ||
           (s->health == LSVD_STALLED &&
            s->part[slot].state == LSVD_PART_SYNCING);
}

static void
too_many_refuse(const struct kind *kind, bool threaded, const char *timeout)
{
    struct rig *rig = rig_new(kind);
    uint32_t count = spare_writers(kind) + 1;
    struct lsvd_status *s;

    rig_set(rig, timeout);
    rig_open_filled(rig);
    rig_close(rig);
    rig_open(rig, threaded);
    refuse_from_b(rig, count, REFUSE_WRITES);
    rig_touch(rig, 0, CHUNKS); /* accepted: the journal has them */
    assert_int_equal(rig_write_until_refused(rig, 0, CHUNKS, 5000), -EIO);
    rig_check(rig);
    s = rig_status(rig);
    assert_int_equal(s->health, LSVD_STALLED);
    assert_true(s->journal_only_bytes > 0);
    rig_until_said(rig, "safe in the journal");
    MUST(lsvd_flush(rig->world.volume));
    /* The last one first: an earlier one may have been dropped before the
     * later ones failed, and then it is those that are waited for. */
    for (uint32_t left = count; left-- > 0;) {
        unsigned slot = (1 + left) % s->part_count;

        rig->io.refuse[slot] = 0;
        if (left == 0)
            rig_until(rig, rig_is_in_health, LSVD_HEALTHY);
        else if (threaded)
            rig_until(rig, serves_or_waits_for_others, slot);
        else
            rig_until(rig, rig_is_in_health, LSVD_DEGRADED);
        if (rig_status(rig)->health != LSVD_STALLED)
            rig_touch(rig, 0, CHUNKS);
        rig_check(rig);
    }
    rig_end(rig);
}

static void
test_too_many(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        too_many_refuse(kinds[i], false, "stall-timeout=60");
        too_many_refuse(kinds[i], true, "stall-timeout=0");
    }
    too_many_refuse(&rig_mirror, true, "stall-timeout=1");
}

/* A part returns, and at the moment that it becomes a member again another one
 * fails, and then it does, too: views were begun, and none came into force. The
 * one that failed has missed nothing. */
static void
member_fails_as_another_joins(const struct kind *kind, unsigned member)
{
    struct rig *rig = rig_new(kind);

    rig_open_filled(rig);
    rig->io.refuse[0] = REFUSE_WRITES;
    assert_int_equal(rig_write_until_refused(rig, 2, 2, 1500), 0);
    rig_until(rig, rig_has_dropped, 0);
    world_drain(&rig->world);
    rig->io.refuse[0] = 0;
    lsvd_watch(rig->world.volume);
    while (!rig_status(rig)->resync.active)
        (void)lsvd_destage_step(rig->world.volume);
    rig->io.refuse[member] = REFUSE_WRITES;
    while (rig_status(rig)->resync.active)
        (void)lsvd_destage_step(rig->world.volume);
    rig->io.refuse[0] = REFUSE_WRITES | REFUSE_READS;
    for (unsigned i = 0; i < 4; i++) {
        lsvd_watch(rig->world.volume);
        (void)lsvd_destage_step(rig->world.volume);
    }
    rig_kill(rig);
    for (uint32_t i = 0; i < 26; i++)
        rig->io.refuse[i] = 0;
    rig_open(rig, false);
    assert_true(rig_status(rig)->writable);
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    rig_end(rig);
}

static void
test_member_fails_as_another_joins(void **state)
{
    (void)state;
    member_fails_as_another_joins(&rig_triple, 2);
    member_fails_as_another_joins(&rig_wide, 4);
}

/* Reads go on meanwhile, of every block, whatever destage is doing: the parts
 * refuse nothing but to be written (R7). */
static void
reads_go_on(const struct kind *kind, unsigned what)
{
    struct rig *rig = rig_new(kind);
    uint32_t count = spare_writers(kind) + 1;
    unsigned before;

    rig_guard(rig, 10000);
    rig_open_filled(rig);
    rig_close(rig);
    rig_open(rig, true);
    refuse_from_b(rig, count, what);
    rig_touch(rig, 0, CHUNKS);
    rig_until(rig, rig_is_in_health, LSVD_STALLED);
    before = rig->io.refused;
    while (rig->io.refused - before < 30)
        rig_check(rig);
    for (uint32_t i = 0; i < 26; i++)
        rig->io.refuse[i] = 0;
    rig_until(rig, rig_is_healthy, 0);
    assert_int_equal(rig_status(rig)->counters.bad_blocks, 0);
    rig_check(rig);
    rig_end(rig);
}

static void
test_reads_go_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        reads_go_on(kinds[i], REFUSE_WRITES);
        reads_go_on(kinds[i], REFUSE_SYNCS);
        reads_go_on(kinds[i], REFUSE_WRITES | REFUSE_OPENS);
    }
}

/* All of them refuse to be written, but only b's heartbeat has met that when it
 * is decided whether b can be done without: the others are asked, so that b is
 * not let go for nothing, and what only b can give is still there. */
static void
one_is_heard_of_first(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);
    uint32_t count = spare_writers(kind) + 1;

    rig_open_filled(rig);
    refuse_from_b(rig, count, REFUSE_WRITES);
    rig_touch(rig, 0, CHUNKS);
    rig_until(rig, rig_is_in_health, LSVD_STALLED);
    refuse_from_b(rig, count, 0);
    rig->io.refuse[1] = REFUSE_WRITES;
    rig->io.ahead_ns += UINT64_C(6000000000); /* a heartbeat */
    lsvd_watch(rig->world.volume);
    refuse_from_b(rig, count, REFUSE_WRITES);
    assert_true(lsvd_destage_step(rig->world.volume) < 0);
    assert_false(rig_has_dropped(rig_status(rig), 1));
    rig_check(rig);
    assert_int_equal(rig_status(rig)->counters.lost_blocks, 0);
    refuse_from_b(rig, count, 0);
    rig_until(rig, rig_is_healthy, 0);
    assert_int_equal(rig_status(rig)->evictions, 0);
    rig_check(rig);
    rig_end(rig);
}

static void
test_one_is_heard_of_first(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        one_is_heard_of_first(kinds[i]);
}

static unsigned
count_lines(struct rig *rig)
{
    unsigned count = 0;

    pthread_mutex_lock(&rig->lock);
    for (const char *at = rig->said; (at = strchr(at, '\n')); at++)
        count++;
    pthread_mutex_unlock(&rig->lock);
    return count;
}

/* A part that gives nothing is told of in a few lines, and how many there would
 * have been; the next minute again. */
static void
test_a_flood_is_counted(void **state)
{
    struct rig *rig = rig_new(&rig_mirror);
    uint64_t errors;

    (void)state;
    rig_open_filled(rig);
    rig_close(rig);
    rig_open(rig, false);
    for (unsigned minute = 0; minute < 2; minute++) {
        rig_forget_said(rig);
        errors = rig_status(rig)->part[1].errors;
        rig->io.refuse[1] = REFUSE_READS;
        for (unsigned i = 0; i < 20; i++)
            rig_check(rig);
        rig->io.refuse[1] = 0;
        assert_true(rig_status(rig)->part[1].errors > errors + 30);
        assert_in_range(count_lines(rig), 1, 12);
        rig->io.ahead_ns += UINT64_C(61000000000);
        lsvd_watch(rig->world.volume);
        assert_true(rig_has_said(rig, "more lines of this kind"));
        lsvd_watch(rig->world.volume);
    }
    rig_until(rig, rig_is_healthy, 0);
    rig_end(rig);
}

static void *
read_all(void *arg)
{
    rig_check(arg);
    return NULL;
}

/* One part is away, and the parity can't be written: rows that were half
 * changed give what that part had when the other half is there. Readers wait
 * for it. */
static void
test_reads_wait_for_half_a_row(void **state)
{
    struct rig *rig = rig_new(&rig_ec);
    pthread_t reader;

    (void)state;
    rig_guard(rig, 10000);
    rig_open_filled(rig);
    rig_take_away(rig, 'a');
    rig_until(rig, rig_has_dropped, 0);
    rig_close(rig);
    rig_open(rig, true);
    rig->io.refuse[2] = REFUSE_WRITES;
    for (uint64_t c = 0; c < CHUNKS; c++) /* b has the odd ones */
        MUST(rig_write(rig, c * CHUNK + 9 * BLOCK, BLOCK));
    rig_until(rig, rig_is_in_health, LSVD_STALLED);
    pthread_create(&reader, NULL, read_all, rig);
    while (rig_status(rig)->stalled_requests == 0)
        sched_yield();
    rig->io.refuse[2] = 0;
    pthread_join(reader, NULL);
    assert_int_equal(rig_status(rig)->counters.lost_blocks, 0);
    rig_put_back(rig, 'a');
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    rig_end(rig);
}

/* Only one of the files that stay open refuses, on one part too many to be let
 * go: no handle keeps its error for longer than the medium. */
static void
refuses_only(const struct kind *kind, const char *name)
{
    struct rig *rig = rig_new(kind);
    uint32_t count = spare_writers(kind) + 1;

    rig_guard(rig, 10000);
    rig_open_filled(rig);
    rig->io.only = name;
    refuse_from_b(rig, count, REFUSE_WRITES);
    rig_touch(rig, 0, CHUNKS);
    rig->io.ahead_ns += UINT64_C(6000000000); /* a heartbeat */
    rig_until(rig, rig_is_in_health, LSVD_STALLED);
    assert_true(rig->io.refused > 0);
    rig_check(rig);
    for (uint32_t i = 0; i < 26; i++)
        rig->io.refuse[i] = 0;
    rig->io.ahead_ns += UINT64_C(6000000000);
    rig_until(rig, rig_is_healthy, 0);
    rig_forget_said(rig);
    rig->io.ahead_ns += UINT64_C(6000000000);
    rig_look(rig, 2);
    assert_false(rig_has_said(rig, "lock"));
    assert_true(rig_status(rig)->healthy);
    rig_check(rig);
    rig_end(rig);
}

static void
test_one_file_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        refuses_only(kinds[i], ".chunks");
        refuses_only(kinds[i], ".label");
        refuses_only(kinds[i], ".lock");
    }
}

/* The same, and the server is stopped meanwhile, or dies: nothing is lost. */
static void
test_too_many_at_the_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * sizeof kinds / sizeof kinds[0]; i++) {
        struct rig *rig = rig_new(kinds[i / 2]);
        uint32_t count = spare_writers(kinds[i / 2]) + 1;
        struct lsvd_volume *v;

        rig_open(rig, false);
        rig_fill(rig);
        refuse_from_b(rig, count, REFUSE_WRITES);
        (void)rig_write_until_refused(rig, 0, CHUNKS, 5000);
        v = rig->world.volume;
        if (i % 2) {
            rig_kill(rig);
        } else {
            rig->world.volume = NULL;
            assert_int_equal(lsvd_close(v), -EIO);
        }
        for (unsigned p = 0; p < 26; p++)
            rig->io.refuse[p] = 0;
        rig_open(rig, false);
        rig_check(rig);
        rig_until(rig, rig_is_healthy, 0);
        rig_end(rig);
    }
}

/* Reads where fewer are left than are needed: EIO for what only the parts
 * have, and all of it again when they answer. */
static void
test_too_few_to_read(void **state)
{
    struct rig *rig = rig_new(&rig_ec);
    uint8_t block[BLOCK];

    (void)state;
    rig_open_filled(rig);
    rig_touch(rig, 1, 1);
    rig->io.refuse[1] = rig->io.refuse[2] = REFUSE_WRITES | REFUSE_READS;
    assert_int_equal(lsvd_pread(rig->world.volume, rig->found, CHUNK, 0),
                     -EIO);
    rig_look(rig, 3);
    assert_int_equal(lsvd_pread(rig->world.volume, rig->found, CHUNK, 0),
                     -EIO);
    MUST(rig_write(rig, CHUNK, BLOCK)); /* what the journal has can be read */
    MUST(lsvd_pread(rig->world.volume, block, BLOCK, CHUNK));
    assert_memory_equal(block, rig->model + CHUNK, BLOCK);
    rig->io.refuse[1] = rig->io.refuse[2] = 0;
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    rig_end(rig);
}

/* ---- space ---- */

/* One part has no room for what was accepted (a quota, a file system that
 * copies on write): it is dropped, the others go on. */
static void
test_one_is_full(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct rig *rig = rig_new(kinds[i]);

        rig_open_filled(rig);
        write_past(rig, REFUSE_SPACE | REFUSE_WRITES);
        rig->io.refuse[1] = 0;
        rig_until(rig, rig_is_healthy, 0);
        assert_true(rig_status(rig)->resync.copied <= 2);
        rig_end(rig);
    }
}

/* All of them: that is no fault of theirs. Nobody is dropped, writers are
 * told, and it goes on when there is room. */
static void
all_are_full(const struct kind *kind, bool threaded)
{
    struct rig *rig = rig_new(kind);
    struct lsvd_status *s;

    rig_open_filled(rig);
    rig_close(rig);
    rig_open(rig, threaded);
    for (unsigned p = 0; p < 26; p++)
        rig->io.refuse[p] = REFUSE_SPACE | REFUSE_WRITES;
    assert_int_equal(rig_write_until_refused(rig, 0, CHUNKS, 5000), -ENOSPC);
    rig_check(rig);
    s = rig_status(rig);
    assert_int_equal(s->evictions, 0);
    for (uint32_t i = 0; i < s->part_count; i++)
        assert_int_equal(s->part[i].state, LSVD_PART_OK);
    for (unsigned p = 0; p < 26; p++)
        rig->io.refuse[p] = 0;
    rig_until_said(rig, "destage works again");
    rig_until(rig, rig_is_healthy, 0);
    rig_touch(rig, 0, CHUNKS);
    rig_check(rig);
    rig_end(rig);
}

static void
test_all_are_full(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        all_are_full(kinds[i], false);
        all_are_full(kinds[i], true);
    }
}

/* ---- files ---- */

/* Two of three parts out of reach while partial stripes are destaged: what
 * can't be read then is not lost, and must not be written off. */
static void
test_out_of_reach_is_not_lost(void **state)
{
    struct rig *rig = rig_new(&rig_ec);

    (void)state;
    rig_open_filled(rig);
    for (uint64_t block = 0; block < 64; block += 2)
        MUST(rig_write(rig, block * BLOCK, BLOCK));
    rig->io.refuse[1] = rig->io.refuse[2] = REFUSE_READS;
    assert_int_equal(lsvd_destage_step(rig->world.volume), -EIO);
    rig->io.refuse[1] = rig->io.refuse[2] = 0;
    world_drain(&rig->world);
    rig_check(rig);
    rig_end(rig);
}

/* Files that are gone from parts that take no new ones: healing one fails, and
 * meets the other; neither destage nor writers nor close wait for an end of
 * that. */
static void
test_heal_that_fails(void **state)
{
    (void)state;
    for (int threaded = 0; threaded < 2; threaded++) {
        struct rig *rig = rig_new(&rig_wide);
        char path[512];

        rig_set(rig, "stall-timeout=0");
        rig_open(rig, false);
        rig_fill(rig);
        rig_close(rig);
        world_path(&rig->world, "b/1", path);
        assert_int_equal(unlink(path), 0);
        world_path(&rig->world, "c/1", path);
        assert_int_equal(unlink(path), 0);
        rig_open(rig, threaded);
        rig->io.refuse[1] = rig->io.refuse[2] = REFUSE_WRITES;
        rig_check(rig);
        if (!threaded)
            world_drain(&rig->world);
        rig_check(rig);
        assert_int_equal(rig_write_until_refused(rig, 0, CHUNKS, 5000),
                         -EIO);
        rig->io.refuse[1] = rig->io.refuse[2] = 0;
        rig_close(rig);
        rig_open(rig, false);
        rig_check(rig);
        world_drain(&rig->world);
        rig_end(rig);
    }
}

static void
read_file(struct rig *rig, const char *name, uint8_t **ret, size_t *ret_bytes)
{
    char path[512];
    ssize_t n;
    int fd;

    world_path(&rig->world, name, path);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    *ret_bytes = (size_t)lseek(fd, 0, SEEK_END);
    *ret = malloc(*ret_bytes);
    assert_non_null(*ret);
    n = pread(fd, *ret, *ret_bytes, 0);
    assert_int_equal(n, *ret_bytes);
    close(fd);
}

/* Where the blocks begin; before them, a cell that was computed anew may carry
 * a later sequence than it had. */
static size_t
data_at(const struct kind *kind, size_t file_bytes)
{
    return file_bytes - CHUNK / (kind->ec_data ? kind->ec_data : 1);
}

/* Any byte of a file flips: all is read, and the file is as before. */
static void
heals(const struct kind *kind, const char *file)
{
    struct rig *rig = rig_new(kind);
    uint8_t *before, *after;
    size_t bytes, count;

    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    read_file(rig, file, &before, &bytes);
    for (uint64_t at = 17; at < bytes; at += bytes / 13) {
        world_flip(&rig->world, file, (int64_t)at);
        rig_open(rig, false);
        rig_check(rig);
        world_drain(&rig->world);
        rig_close(rig);
        read_file(rig, file, &after, &count);
        assert_int_equal(count, bytes);
        if (memcmp(before, after, bytes) != 0) {
            /* not met by reading: a replica that was not asked, parity, what
             * is never used of the header */
            struct lsvd_report report;

            MUST(lsvd_rebuild(&rig->world.env, NAME, 0, false, NULL,
                              &report));
            free(after);
            read_file(rig, file, &after, &count);
        }
        assert_memory_equal(before + data_at(kind, bytes),
                            after + data_at(kind, bytes),
                            bytes - data_at(kind, bytes));
        free(after);
        world_check_sound(&rig->world);
    }
    free(before);
    rig_free(rig);
}

static void
test_heal(void **state)
{
    (void)state;
    heals(&rig_mirror, "a/1");
    heals(&rig_mirror, "b/1");
    heals(&rig_ec, "a/2");
    heals(&rig_ec, "c/2");
}

/* The same, met by reading alone. */
static void
test_heal_on_read(void **state)
{
    struct rig *rig = rig_new(&rig_ec);
    struct lsvd_info info;
    uint8_t *before, *after;
    size_t bytes, count;

    (void)state;
    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    read_file(rig, "a/1", &before, &bytes);
    world_flip(&rig->world, "a/1", -100);
    rig_open(rig, false);
    rig_check(rig);
    world_drain(&rig->world);
    lsvd_get_info(rig->world.volume, &info);
    assert_int_equal(info.counters.bad_blocks, 1);
    assert_int_equal(info.counters.healed_blocks, 1);
    assert_int_equal(info.counters.lost_blocks, 0);
    read_file(rig, "a/1", &after, &count);
    assert_int_equal(count, bytes);
    assert_memory_equal(before + data_at(&rig_ec, bytes),
                        after + data_at(&rig_ec, bytes),
                        bytes - data_at(&rig_ec, bytes));
    free(before);
    free(after);
    rig_close(rig);
    rig_free(rig);
}

/* A crash in the midst of a destage: of a row with EC one block is in place,
 * and what is on parts b and c is old; the REDO record has all. */
static struct rig *
rig_with_half_a_row(const struct kind *kind)
{
    struct rig *rig = rig_new(kind);

    rig_open_filled(rig);
    MUST(rig_write(rig, 0, BLOCK)); /* of part a */
    rig->io.only = "1";
    rig->io.refuse[1] = rig->io.refuse[2] = REFUSE_WRITES;
    assert_int_equal(lsvd_destage_step(rig->world.volume), -EIO);
    rig_kill(rig);
    rig->io.refuse[1] = rig->io.refuse[2] = 0;
    return rig;
}

/* Then it is started without part b, and once there is no memory to read a
 * file: none is left out of what the record has. True: it came so far. */
static bool
redo_leaves_none_out(unsigned nth)
{
    struct rig *rig = rig_with_half_a_row(&rig_ec);
    bool came;
    int r;

    rig_take_away(rig, 'b');
    rig->io.reads = 0;
    rig->io.no_memory_at = nth;
    r = lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume);
    came = rig->io.reads >= nth;
    rig->io.no_memory_at = 0;
    if (r < 0) {
        rig->world.volume = NULL;
        rig_open(rig, false);
    }
    rig_check(rig);
    rig_kill(rig);
    rig_free(rig);
    return came;
}

static void
test_redo_leaves_none_out(void **state)
{
    unsigned nth = 1;

    (void)state;
    while (redo_leaves_none_out(nth))
        nth++;
    assert_true(nth > 2);
}

/* A file that can't be read any more does not keep it from being started where
 * the others are enough. */
static void
test_redo_goes_on_without_a_file(void **state)
{
    struct rig *rig = rig_with_half_a_row(&rig_wide);

    (void)state;
    rig_take_away(rig, 'f');
    rig->io.refuse[1] = REFUSE_READS; /* that one */
    rig_open(rig, false);
    rig_check(rig);
    rig->io.refuse[1] = 0;
    rig_put_back(rig, 'f');
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    MUST(lsvd_live_rebuild(rig->world.volume, 0, NULL,
                           &(struct lsvd_report){.full = false}));
    rig_check_from(rig, 0x3c);
    rig_end(rig);
}

/* A block is written of a row with EC whose part is away, and there is no
 * memory to read the other one of it, nor once more: that one is not lost. */
static bool
neighbours_are_kept(unsigned nth)
{
    struct rig *rig = rig_new(&rig_ec);
    bool came;

    rig_open_filled(rig);
    rig_take_away(rig, 'a');
    rig_until(rig, rig_has_dropped, 0);
    MUST(rig_write(rig, 0, BLOCK)); /* of part a */
    rig->io.reads = 0;
    rig->io.no_memory_at = nth;
    rig->io.no_memory_more = 1;
    (void)lsvd_destage_step(rig->world.volume);
    came = rig->io.reads >= nth;
    rig->io.no_memory_at = 0;
    world_drain(&rig->world);
    rig_check(rig);
    rig_put_back(rig, 'a');
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    rig_end(rig);
    return came;
}

static void
test_neighbours_are_kept(void **state)
{
    unsigned nth = 1;

    (void)state;
    while (neighbours_are_kept(nth))
        nth++;
    assert_true(nth > 1);
}

/* Of one part's copy: the volume stays as it was, by the others' too. */
static void
test_a_policy_that_can_not_be_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct rig *rig = rig_new(kinds[i]);
        const struct lsvd_env *env = &rig->world.env;

        rig_open_filled(rig);
        rig_close(rig);
        rig->io.only = ".meta.new";
        rig->io.refuse[1] = REFUSE_WRITES;
        assert_int_equal(lsvd_set(env, NAME, "read-only", "on"), -EIO);
        assert_non_null(strstr(lsvd_error(), "stays as it was"));
        assert_int_equal(lsvd_resize(env, NAME, 2 * BYTES, false), -EIO);
        assert_int_equal(lsvd_resize(env, NAME, BYTES / 2, true), -EIO);
        memset(rig->model + BYTES / 2, 0, BYTES / 2); /* that was meant */
        assert_int_equal(lsvd_rename(env, NAME, "v2"), -EIO);
        assert_non_null(strstr(lsvd_error(), "keeps its name"));
        rig_open(rig, false);
        assert_int_equal(lsvd_get_size(rig->world.volume), BYTES);
        assert_int_equal(lsvd_live_set(rig->world.volume, "append-only",
                                       "on"), -EIO);
        MUST(rig_write(rig, CHUNK, BLOCK));
        assert_int_equal(lsvd_live_resize(rig->world.volume, 2 * BYTES), -EIO);
        rig->io.refuse[1] = 0;
        rig_close(rig);
        rig_open(rig, false);
        assert_int_equal(lsvd_get_size(rig->world.volume), BYTES);
        MUST(rig_write(rig, CHUNK, BLOCK));
        rig_check(rig);
        rig_end(rig);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_refused),
        cmocka_unit_test(test_syncs_refused),
        cmocka_unit_test(test_reads_refused),
        cmocka_unit_test(test_all_refused),
        cmocka_unit_test(test_stays_away),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_member_fails_as_another_joins),
        cmocka_unit_test(test_reads_go_on),
        cmocka_unit_test(test_one_is_heard_of_first),
        cmocka_unit_test(test_reads_wait_for_half_a_row),
        cmocka_unit_test(test_a_flood_is_counted),
        cmocka_unit_test(test_one_file_refuses),
        cmocka_unit_test(test_too_many_at_the_end),
        cmocka_unit_test(test_too_few_to_read),
        cmocka_unit_test(test_one_is_full),
        cmocka_unit_test(test_all_are_full),
        cmocka_unit_test(test_out_of_reach_is_not_lost),
        cmocka_unit_test(test_heal_that_fails),
        cmocka_unit_test(test_heal),
        cmocka_unit_test(test_heal_on_read),
        cmocka_unit_test(test_redo_leaves_none_out),
        cmocka_unit_test(test_redo_goes_on_without_a_file),
        cmocka_unit_test(test_neighbours_are_kept),
        cmocka_unit_test(test_a_policy_that_can_not_be_stored),
    };

    return cmocka_run_group_tests_name("volume-faults", tests, NULL, NULL);
}
