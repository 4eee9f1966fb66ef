/* One writer, and starts that are forced: what can be refused is refused with
 * nothing changed, and what was begun can be ended. */
#include "unit.h"
#include "base/memory.h"
#include "meta/label.h"
#include "target/target.h"
#include "rig.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct kind *const kinds[] = {&rig_mirror, &rig_triple, &rig_ec,
                                           &rig_wide};
#define KINDS (sizeof kinds / sizeof kinds[0])

/* ---- locks that can't be had ---- */

static int
try_open(struct rig *rig)
{
    return lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume);
}

static void
a_part_that_can_not_be_locked_is_not_missing(void **state)
{
    struct rig *rig = rig_new(&rig_triple);

    (void)state;
    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    rig->io.refuse[1] = REFUSE_LOCKS;
    assert_int_equal(try_open(rig), -ENOLCK);
    rig->world.volume = NULL;
    assert_non_null(strstr(lsvd_error(), "part b can't be locked"));
    assert_non_null(strstr(lsvd_error(), "unsafe-nolock=1"));
    rig_set(rig, "unsafe-nolock=1");
    rig_forget_said(rig);
    rig_open(rig, false);
    assert_true(rig_has_said(rig, "part b is used without a lock"));
    assert_true(rig_is_healthy(rig_status(rig), 0));
    rig_check(rig);
    rig_close(rig);
    rig_free(rig);
}

/* ---- force-start ---- */

struct told {
    uint64_t doubtful; /* bytes */
    uint64_t lost;
};

static void
on_doubtful(void *ctx, const struct lsvd_lost_range *range)
{
    ((struct told *)ctx)->doubtful += range->count;
}

static void
on_lost(void *ctx, const struct lsvd_lost_range *range)
{
    ((struct told *)ctx)->lost += range->count;
}

static int
force(struct rig *rig, struct lsvd_report *report, struct told *told)
{
    const struct lsvd_repair_callbacks cb = {
        .doubtful = on_doubtful, .lost = on_lost, .ctx = told};

    memset(told, 0, sizeof *told);
    return lsvd_force_start(&rig->world.env, NAME, "somebody", "a test", &cb,
                            report);
}

static void
remove_journal(struct rig *rig)
{
    DIR *dir = opendir(rig->world.cache);
    struct dirent *entry;
    unsigned removed = 0;
    char path[600];

    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        if (!strstr(entry->d_name, ".journal"))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", rig->world.cache,
                       entry->d_name);
        removed += unlink(path) == 0;
    }
    (void)closedir(dir);
    assert_int_equal(removed, 1);
}

/* Old content on the parts, newer in the journal and, of some of it, there. */
static struct rig *
rig_that_lost_its_journal(const struct kind *kind, uint8_t *old)
{
    struct rig *rig = rig_new(kind);

    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    memcpy(old, rig->model, BYTES);
    rig_open(rig, false);
    rig_touch(rig, 0, CHUNKS);
    MUST(lsvd_destage_step(rig->world.volume));
    rig_touch(rig, 0, CHUNKS);
    rig_kill(rig);
    remove_journal(rig);
    return rig;
}

static void
read_all(struct rig *rig)
{
    rig_open(rig, false);
    MUST(lsvd_pread(rig->world.volume, rig->found, BYTES, 0));
}

static struct lsvd_info *
info_of(struct rig *rig)
{
    struct lsvd_info *info = calloc(1, sizeof *info);

    assert_non_null(info);
    MUST(lsvd_info(&rig->world.env, NAME, info));
    return info;
}

static void
a_lost_journal_is_given_up(void **state)
{
    static uint8_t old[BYTES];

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = rig_that_lost_its_journal(kinds[i], old);
        struct lsvd_report report;
        struct lsvd_info *info;
        struct told told;

        assert_true(try_open(rig) < 0);
        rig->world.volume = NULL;
        MUST(force(rig, &report, &told));
        assert_true(report.journal_given_up);
        assert_true(report.kept_seq > 0);
        assert_true(report.policy_met);
        assert_int_equal(told.lost, 0);
        info = info_of(rig);
        assert_true(info->clean);
        assert_false(info->accepted_loss);
        assert_int_equal(info->forced_count, 1);
        assert_non_null(strstr(info->forced[0], " somebody@"));
        assert_non_null(strstr(info->forced[0], ": a test"));
        free(info);
        assert_int_equal(force(rig, &report, &told), -EALREADY);
        world_check_sound(&rig->world);
        read_all(rig);
        assert_true(lsvd_can_write(rig->world.volume));
        rig_touch(rig, 0, CHUNKS); /* and it goes on */
        rig_close(rig);
        rig_free(rig);
    }
}

/* Of three blocks in chunk 3; the journal is lost. */
static struct rig *
rig_with_copies_that_differ(void)
{
    struct rig *rig = rig_new(&rig_mirror);
    char from[512], to[512];

    rig_open(rig, false);
    rig_fill(rig);
    rig_close(rig);
    rig_open(rig, false);
    world_path(&rig->world, "b/3", from);
    world_path(&rig->world, "b.old", to);
    rig_copy(rig, from, to);
    MUST(rig_write(rig, 2 * CHUNK + BLOCK, 3 * BLOCK));
    world_drain(&rig->world);
    rig_kill(rig);
    world_path(&rig->world, "b.old", from);
    world_path(&rig->world, "b/3", to);
    rig_copy(rig, from, to);
    remove_journal(rig);
    return rig;
}

/* What the one copy has and the other not is told, and then they are alike. */
static void
copies_that_differ_are_told(void **state)
{
    struct rig *rig = rig_with_copies_that_differ();
    struct lsvd_report report;
    struct told told;

    (void)state;
    MUST(force(rig, &report, &told));
    assert_in_range(told.doubtful, 3 * BLOCK, CHUNK);
    assert_true(report.rebuilt > 0);
    world_check_sound(&rig->world);
    read_all(rig);
    assert_memory_equal(rig->found, rig->model, BYTES);
    rig_check_from(rig, 1);
    rig_check_from(rig, 2);
    rig_close(rig);
    rig_free(rig);
}

/* FO5: also where another chunk can't be mended. */
static void
what_is_lost_holds_up_nothing_else(void **state)
{
    struct rig *rig = rig_with_copies_that_differ();
    struct lsvd_report report;
    struct lsvd_info *info;
    struct told told;

    (void)state;
    world_flip(&rig->world, "a/1", 9); /* all of it */
    world_flip(&rig->world, "b/1", -5);
    MUST(force(rig, &report, &told));
    assert_true(report.data_lost);
    assert_int_equal(told.lost, BLOCK);
    assert_true(report.rebuilt > 0);
    info = info_of(rig);
    assert_false(info->accepted_loss);
    free(info);
    rig_open(rig, false);
    assert_true(rig_has_said(rig, "chunk 1 can't be used"));
    for (unsigned i = 0; i < 2; i++) {
        rig->io.refuse[i] = REFUSE_READS;
        MUST(rig_read(rig, 2 * CHUNK, CHUNK));
        rig->io.refuse[i] = 0;
    }
    rig_close(rig);
    rig_free(rig);
}

/* A reason is needed, and the volume must need it. */
static void
refusals_change_nothing(void **state)
{
    static const char *const reasons[] = {"", " ", "\t "};
    struct rig *rig = rig_new(&rig_mirror);
    struct lsvd_report report;
    struct lsvd_info *info;
    struct told told;

    (void)state;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        assert_int_equal(lsvd_force_start(&rig->world.env, NAME, "somebody",
                                          reasons[i], NULL, &report), -EINVAL);
    assert_int_equal(force(rig, &report, &told), -EALREADY);
    rig_delete(rig, 'b');
    assert_int_equal(lsvd_force_start(&rig->world.env, NAME, "somebody",
                                      "two\nlines", NULL, &report), -EINVAL);
    info = info_of(rig);
    assert_int_equal(info->forced_count, 0);
    free(info);
    MUST(force(rig, &report, &told));
    assert_false(report.journal_given_up);
    assert_int_equal(told.doubtful, 0);
    assert_false(report.policy_met);
    rig_free(rig);
}

/* FO6: it may be the only one that has a block whole. */
static void
one_that_fails_is_not_left_out(void **state)
{
    static const char *const files[] = {".label", "3", ".chunks"};
    static uint8_t old[BYTES];

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = rig_that_lost_its_journal(kinds[i], old);
        struct lsvd_report report;
        struct lsvd_info *info;
        struct told told;

        for (size_t n = 0; n < sizeof files / sizeof files[0]; n++) {
            rig->io.only = files[n];
            atomic_store(&rig->io.refuse[1], REFUSE_READS | REFUSE_SYNCS);
            assert_int_equal(force(rig, &report, &told), -EIO);
            assert_non_null(strstr(lsvd_error(), "part b fails"));
            assert_non_null(strstr(lsvd_error(), "take its directory away"));
            atomic_store(&rig->io.refuse[1], 0);
            info = info_of(rig);
            assert_int_equal(info->forced_count, 0);
            free(info);
        }
        MUST(force(rig, &report, &told));
        assert_true(report.policy_met);
        assert_int_equal(told.lost, 0);
        world_check_sound(&rig->world);
        rig_free(rig);
    }
}

/* FO8: what made a start by force needed was something else. */
static void
a_journal_that_can_not_be_read_is_not_given_up(void **state)
{
    static const unsigned how[] = {REFUSE_READS, REFUSE_BYTES | REFUSE_READS};
    struct rig *rig = rig_new(&rig_triple);
    struct lsvd_report report;
    struct told told;

    (void)state;
    rig_open_filled(rig);
    rig_touch(rig, 0, CHUNKS);
    MUST(lsvd_flush(rig->world.volume));
    rig_kill(rig);
    rig_delete(rig, 'b');
    rig_delete(rig, 'c');
    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        atomic_store(&rig->io.refuse_cache[0], how[i]);
        assert_int_equal(force(rig, &report, &told), -EIO);
        assert_non_null(strstr(lsvd_error(), "journal can't be read"));
        assert_non_null(strstr(lsvd_error(), "take it away"));
    }
    atomic_store(&rig->io.refuse_cache[0], 0);
    MUST(force(rig, &report, &told));
    assert_false(report.journal_given_up);
    assert_int_equal(told.lost, 0);
    MUST(lsvd_open(&rig->world.env, NAME, 0, &rig->world.volume));
    MUST(rig_read(rig, 0, BYTES));
    rig_close(rig);
    rig_free(rig);
}

static bool
at_once(void *ctx)
{
    (void)ctx;
    return true;
}

/* Begun and not verified: the volume says so until somebody has. */
static void
one_that_was_interrupted_says_so(void **state)
{
    static uint8_t old[BYTES];
    const struct lsvd_repair_callbacks cb = {.cancelled = at_once};

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct rig *rig = rig_that_lost_its_journal(kinds[i], old);
        struct lsvd_report report;
        struct lsvd_info *info;

        assert_int_equal(lsvd_force_start(&rig->world.env, NAME, "somebody",
                                          "a test", &cb, &report), -EINTR);
        info = info_of(rig);
        assert_true(info->accepted_loss);
        assert_int_equal(info->forced_count, 1);
        free(info);
        /* nor is it verified without a part that may have more */
        rig_take_away(rig, 'b');
        (void)lsvd_verify(&rig->world.env, NAME, true, NULL, &report);
        rig_put_back(rig, 'b');
        info = info_of(rig);
        assert_true(info->accepted_loss);
        free(info);
        rig_forget_said(rig);
        rig_open(rig, false);
        assert_true(rig_has_said(rig, "a loss was accepted"));
        assert_true(rig_status(rig)->accepted_loss);
        assert_false(rig_is_healthy(rig_status(rig), 0));
        MUST(lsvd_live_rebuild(rig->world.volume, 0, NULL, &report));
        assert_true(rig_is_healthy(rig_status(rig), 0));
        rig_end(rig);
    }
}

/* Whatever allocation fails: an error, and once more ends it. */
static void
any_allocation_may_fail(void **state)
{
    static uint8_t old[BYTES];
    struct lsvd_report report;
    struct told told;
    long nth = 0;

    (void)state;
    for (bool failed = true; failed; nth += 1 + nth / 4) {
        struct rig *rig = rig_that_lost_its_journal(&rig_mirror, old);
        int r;

        (void)mem_fail_after(nth);
        r = force(rig, &report, &told);
        failed = mem_fail_after(-1);
        if (r < 0) {
            r = force(rig, &report, &told);
            if (r == -EALREADY) { /* begun before */
                struct lsvd_report verified;

                MUST(lsvd_rebuild(&rig->world.env, NAME, 0, false, NULL,
                                  &verified));
            } else {
                MUST(r);
            }
        }
        world_check_sound(&rig->world);
        rig_free(rig);
    }
    assert_true(nth > 20);
}

/* ---- takeover ---- */

static void
nobody_is_robbed(void **state)
{
    struct rig *rig = rig_new(&rig_mirror);
    struct lsvd_owner owner[LSVD_OWNERS_MAX];
    uint32_t count;

    (void)state;
    assert_int_equal(lsvd_takeover(&rig->world.env, NAME, "x"), -EALREADY);
    rig_open(rig, false);
    assert_int_equal(lsvd_takeover(&rig->world.env, NAME, "x"), -EBUSY);
    assert_non_null(strstr(lsvd_error(), "stop it"));
    MUST(lsvd_owners(&rig->world.env, NAME, owner, &count));
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(owner[i].held);
        assert_true(owner[i].is_here);
        assert_int_equal(owner[i].pid, getpid());
        assert_true(owner[i].heartbeat > 0);
    }
    rig_fill(rig);
    rig_close(rig);
    rig_free(rig);
}

/* ---- who was cut off ---- */

static struct target *
part_target(struct rig *rig, char part)
{
    char name[] = {part, '\0'}, path[512];
    struct target *dir;

    world_path(&rig->world, name, path);
    MUST(io_system()->ops->open_dir(io_system(), path, 0, &dir));
    return dir;
}

/* What another server's claim, or a takeover, leaves: it writes the label once,
 * or more often. Returns the epoch. */
static uint32_t
promise_so_often(struct rig *rig, char part, unsigned times)
{
    struct target *dir = part_target(rig, part);
    struct label label;
    int damaged;

    MUST(label_load(dir, &label, &damaged));
    label.promised++;
    while (times-- > 0)
        MUST(label_store(dir, &label));
    target_close(dir);
    return label.promised;
}

static void
promise_to_another(struct rig *rig, char part)
{
    (void)promise_so_often(rig, part, 2);
}

static uint32_t
promised_on(struct rig *rig, char part)
{
    struct target *dir = part_target(rig, part);
    struct label label;
    int damaged;

    MUST(label_load(dir, &label, &damaged));
    target_close(dir);
    return label.promised;
}

static struct object *
take_lock(struct rig *rig, char part)
{
    struct target *dir = part_target(rig, part);
    struct object *lock;

    MUST(target_open(dir, ".lock", OBJECT_WRITE, &lock));
    MUST(object_lock(lock, 0, 1, true));
    target_close(dir);
    return lock;
}

static void
sign(struct rig *rig, char part, const char *record)
{
    char owner[256] = "";
    struct target *dir = part_target(rig, part);
    struct object *lock;

    (void)snprintf(owner, sizeof owner, "%s", record);
    MUST(target_open(dir, ".lock", OBJECT_WRITE, &lock));
    MUST(object_write(lock, owner, sizeof owner, 0));
    object_close(lock);
    target_close(dir);
}

static void
take_all_away(struct rig *rig)
{
    for (char part = 'a'; part <= 'c'; part++)
        rig_take_away(rig, part);
    rig_until(rig, rig_has_dropped, 0);
    rig_until(rig, rig_has_dropped, 1);
    rig_until(rig, rig_has_dropped, 2);
}

/* No part answered for a while, and somebody has used the time: has been and
 * is gone, or is there and has the locks. */
static void
who_was_replaced_while_cut_off_is_fenced(void **state)
{
    (void)state;
    for (int still_there = 0; still_there < 2; still_there++) {
        struct rig *rig = rig_new(&rig_triple);
        struct object *lock[3] = {NULL};
        char byte;

        rig_open(rig, false);
        rig_fill(rig);
        take_all_away(rig);
        for (char part = 'a'; part <= 'c'; part++)
            rig_put_back(rig, part);
        for (char part = 'a'; part <= 'c'; part++) {
            promise_to_another(rig, part);
            if (still_there)
                lock[part - 'a'] = take_lock(rig, part);
        }
        rig_until(rig, rig_is_in_health, LSVD_FENCED);
        assert_int_equal(lsvd_pread(rig->world.volume, &byte, 1, 0),
                         -ESHUTDOWN);
        for (unsigned i = 0; i < 3; i++)
            object_close(lock[i]);
        rig_kill(rig);
        rig_free(rig);
    }
}

/* A part that is no member is no witness: what was done with it alone is a
 * history of its own. */
static void
what_is_promised_on_a_dropped_part_fences_nobody(void **state)
{
    struct rig *rig = rig_new(&rig_triple);

    (void)state;
    rig_open(rig, false);
    rig_fill(rig);
    rig_take_away(rig, 'b');
    rig_until(rig, rig_has_dropped, 1);
    rig_put_back(rig, 'b');
    promise_to_another(rig, 'b');
    rig_look(rig, 5);
    assert_false(rig_is_in_health(rig_status(rig), LSVD_FENCED));
    rig_check(rig);
    rig_close(rig);
    rig_free(rig);
}

/* OW2. What can't be read may be the promise to another server; it must be
 * there still when it can be read again, and is heard of then. */
static void
a_label_that_can_not_be_read_is_not_written(void **state)
{
    (void)state;
    for (unsigned times = 1; times <= 2; times++) {
        struct rig *rig = rig_new(&rig_triple);
        uint32_t epoch[3];

        rig_open_filled(rig);
        rig->io.only = ".label";
        for (unsigned i = 0; i < 3; i++) {
            epoch[i] = promise_so_often(rig, (char)('a' + i), times);
            rig->io.refuse[i] = REFUSE_BYTES;
        }
        for (unsigned i = 0; i < 3; i++) { /* a checkpoint each */
            rig_touch(rig, 0, CHUNKS);
            (void)lsvd_destage_step(rig->world.volume);
        }
        assert_true(rig->io.refused > 0);
        for (unsigned i = 0; i < 3; i++) {
            rig->io.refuse[i] = 0;
            assert_int_equal(promised_on(rig, (char)('a' + i)), epoch[i]);
        }
        rig_until(rig, rig_is_in_health, LSVD_FENCED);
        rig_kill(rig);
        rig_free(rig);
    }
}

static void
promise_all_once(void *ctx, const char *name)
{
    struct rig *rig = ctx;

    if (strcmp(name, ".chunks") != 0)
        return;
    rig->io.on_open = NULL;
    for (char part = 'a'; part <= 'c'; part++)
        promise_to_another(rig, part);
}

/* Its host slept, say, behind the reading of the labels, and was taken for
 * dead. */
static void
a_start_that_was_overtaken_claims_nothing(void **state)
{
    struct rig *rig = rig_new(&rig_triple);
    uint32_t epoch;

    (void)state;
    rig_open_filled(rig);
    rig_kill(rig);
    epoch = promised_on(rig, 'a');
    rig->io.on_open_ctx = rig;
    rig->io.on_open = promise_all_once;
    assert_int_equal(try_open(rig), -ESHUTDOWN);
    assert_non_null(strstr(lsvd_error(), "another server has claimed it"));
    rig->world.volume = NULL;
    for (char part = 'a'; part <= 'c'; part++)
        assert_int_equal(promised_on(rig, part), epoch + 1);
    rig_open(rig, false);
    rig_check(rig);
    rig_close(rig);
    rig_free(rig);
}

static void
pass(struct rig *rig, unsigned seconds)
{
    atomic_fetch_add(&rig->io.ahead_ns, seconds * UINT64_C(1000000000));
}

/* K1, also where the rules forbid to do without the parts: a file server has
 * forgotten the locks, and somebody else has them. */
static void
nothing_is_written_without_a_lock(void **state)
{
    struct rig *rig = rig_new(&rig_triple);

    (void)state;
    rig_open(rig, false);
    rig_fill(rig);
    for (unsigned i = 0; i < 3; i++) {
        rig->io.refuse[i] = REFUSE_RECORDS | REFUSE_LOCKS;
        sign(rig, (char)('a' + i), "host elsewhere, pid 1, since ever");
    }
    pass(rig, 6);
    rig_look(rig, 2);
    for (unsigned i = 0; i < 3; i++)
        assert_true(rig_has_dropped(rig_status(rig), i));
    MUST(rig_write(rig, 0, CHUNK)); /* the journal has it */
    for (unsigned i = 0; i < 3; i++)
        rig->io.refuse[i] = 0;
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    world_drain(&rig->world);
    rig_close(rig);
    rig_free(rig);
}

/* The same error, but the disks are what has failed: they can be read. */
static void
a_record_that_can_not_be_written_is_no_lost_lock(void **state)
{
    struct rig *rig = rig_new(&rig_triple);

    (void)state;
    rig_open(rig, false);
    rig_fill(rig);
    for (unsigned i = 0; i < 3; i++)
        rig->io.refuse[i] = REFUSE_WRITES | REFUSE_SYNCS;
    pass(rig, 6);
    rig_look(rig, 2);
    for (unsigned i = 0; i < 3; i++)
        assert_false(rig_has_dropped(rig_status(rig), i));
    rig_check(rig);
    for (unsigned i = 0; i < 3; i++)
        rig->io.refuse[i] = 0;
    rig_until(rig, rig_is_healthy, 0);
    rig_close(rig);
    rig_free(rig);
}

/* OW5. The clock goes by steps, or it would be a sleep (OW4). */
static void
who_hears_of_no_part_answers_nobody(void **state)
{
    struct rig *rig = rig_new(&rig_triple);
    char byte;

    (void)state;
    rig_set(rig, "stall-timeout=1");
    rig_open(rig, true);
    rig_fill(rig);
    MUST(rig_write(rig, 0, BLOCK)); /* it is in RAM */
    for (unsigned i = 0; i < 3; i++)
        rig->io.refuse[i] = REFUSE_WRITES | REFUSE_READS | REFUSE_SYNCS;
    pass(rig, 15);
    rig_until_said(rig, "part");
    MUST(lsvd_pread(rig->world.volume, &byte, 1, 0));
    pass(rig, 16);
    rig_until_said(rig, "nothing was heard of any part");
    assert_int_equal(lsvd_pread(rig->world.volume, &byte, 1, 0), -EIO);
    assert_int_equal(rig_write(rig, 0, BLOCK), -EIO);
    assert_int_equal(lsvd_flush(rig->world.volume), -EIO);
    for (unsigned i = 0; i < 3; i++)
        rig->io.refuse[i] = 0;
    rig_until_said(rig, "is heard of again");
    rig_until(rig, rig_is_healthy, 0);
    rig_check(rig);
    rig_close(rig);
    rig_free(rig);
}

/* What can be read is heard of: no other server has promised anything there. */
static void
parts_that_can_be_read_are_heard_of(void **state)
{
    struct rig *rig = rig_new(&rig_triple);

    (void)state;
    rig_set(rig, "stall-timeout=1");
    rig_open(rig, true);
    rig_fill(rig);
    for (unsigned i = 0; i < 3; i++)
        rig->io.refuse[i] = REFUSE_WRITES | REFUSE_SYNCS;
    for (unsigned i = 0; i < 5; i++) {
        unsigned before = rig->io.refused;

        pass(rig, 12);
        while (rig->io.refused < before + 3) /* a heartbeat of each */
            rig_look(rig, 1);
        rig_check(rig);
    }
    for (unsigned i = 0; i < 3; i++)
        rig->io.refuse[i] = 0;
    rig_until(rig, rig_is_healthy, 0);
    rig_close(rig);
    rig_free(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_that_can_not_be_locked_is_not_missing),
        cmocka_unit_test(a_lost_journal_is_given_up),
        cmocka_unit_test(copies_that_differ_are_told),
        cmocka_unit_test(what_is_lost_holds_up_nothing_else),
        cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(one_that_fails_is_not_left_out),
        cmocka_unit_test(a_journal_that_can_not_be_read_is_not_given_up),
        cmocka_unit_test(one_that_was_interrupted_says_so),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(nobody_is_robbed),
        cmocka_unit_test(who_was_replaced_while_cut_off_is_fenced),
        cmocka_unit_test(what_is_promised_on_a_dropped_part_fences_nobody),
        cmocka_unit_test(a_label_that_can_not_be_read_is_not_written),
        cmocka_unit_test(a_start_that_was_overtaken_claims_nothing),
        cmocka_unit_test(nothing_is_written_without_a_lock),
        cmocka_unit_test(a_record_that_can_not_be_written_is_no_lost_lock),
        cmocka_unit_test(who_hears_of_no_part_answers_nobody),
        cmocka_unit_test(parts_that_can_be_read_are_heard_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
