/* One writer, and starts that are forced: what can be refused is refused with
 * nothing changed, and what was begun can be ended. */
#include "unit.h"
#include "base/memory.h"
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

/* What the one copy has and the other not is told, and then they are alike. */
static void
copies_that_differ_are_told(void **state)
{
    struct rig *rig = rig_new(&rig_mirror);
    char from[512], to[512];
    struct lsvd_report report;
    struct told told;

    (void)state;
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
        rig_forget_said(rig);
        rig_open(rig, false);
        assert_true(rig_has_said(rig, "a loss was accepted"));
        assert_true(rig_status(rig)->accepted_loss);
        assert_false(rig_is_healthy(rig_status(rig), 0));
        MUST(lsvd_live_rebuild(rig->world.volume, 0, NULL, &report));
        assert_true(rig_is_healthy(rig_status(rig), 0));
        rig_close(rig);
        world_check_sound(&rig->world);
        rig_free(rig);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_that_can_not_be_locked_is_not_missing),
        cmocka_unit_test(a_lost_journal_is_given_up),
        cmocka_unit_test(copies_that_differ_are_told),
        cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(one_that_was_interrupted_says_so),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(nobody_is_robbed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
