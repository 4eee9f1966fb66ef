/* rollback.c: a volume begins again as one of its snapshots; see snapshot.h. */
#include "base/err.h"
#include "volume/find.h"
#include "volume/snapshot.h"
#include <stdio.h>

/* The snapshot that the volume is to begin with again. */
static int
find_target(struct lsvd_volume *v, const char *name, struct volume_meta *ret)
{
    int r = volume_find(v->io, &v->log, &v->config, name, ret, NULL);

    if (r < 0)
        return r;
    if (ret->successor && !ret->removing)
        return 0;
    meta_done(ret);
    return err_set(-EINVAL, "volume %s is no snapshot, or is being removed",
                   name);
}

static int
check_may_forget(const struct lsvd_volume *v)
{
    if (v->append_only)
        return err_set(-EPERM, "volume %s is append-only: what was written "
                       "stays", v->meta.name);
    return 0;
}

/* What is the volume now gives its name to an empty clone of the snapshot, and
 * is being removed from that moment on. */
static int
give_name_away(struct lsvd_volume *v, const struct volume_meta *next,
               char discarded[VOLUME_NAME_BYTES_MAX + 1], bool *ret_named)
{
    struct volume_meta policy;
    int r = meta_unborn_name(v->meta.name, v->meta.number, discarded);

    if (r == 0)
        r = snapshot_policy(v, next, discarded, &policy);
    if (r < 0)
        return r;
    policy.removing = true;
    r = volume_store_meta_in_use(v, &policy);
    if (r < 0)
        r = snapshot_take_back(v, "rollback", ret_named);
    meta_done(&policy);
    return r;
}

/* v has no journal at the moment, so that none of its parts can go on without
 * those that know of it (SN1). */
static int
roll_back(struct lsvd_volume *v, const struct lsvd_env *env, const char *name,
          char discarded[VOLUME_NAME_BYTES_MAX + 1])
{
    struct volume_meta to, next;
    struct lsvd_volume *target;
    bool named = false;
    int r = find_target(v, name, &to);

    if (r < 0)
        return r;
    /* it can be read, and stays: else the volume could not be opened then */
    r = volume_open(env, name, LSVD_OPEN_READ_ONLY | OPEN_PARENT, &target);
    if (r == 0)
        r = volume_make_successor(&v->meta, &to, env, &next);
    else
        target = NULL;
    meta_done(&to);
    if (r < 0) {
        volume_free(target);
        return r;
    }
    r = volume_detach(v);
    if (r == 0) {
        snapshot_forget_journal(v);
        r = give_name_away(v, &next, discarded, &named);
    }
    if (r < 0 && !named) {
        char text[512];

        snprintf(text, sizeof text, "%s", err_text());
        (void)lsvd_remove(env, next.name);
        r = err_set(r, "%s", text);
    }
    meta_done(&next);
    volume_free(target);
    return r;
}

/* ---- what it discarded ---- */

/* Does it alone know who has the volume's name, as v's policy says?
 * -ENOENT, and false: that one was removed. */
static int
is_alone_to_know(struct lsvd_volume *v, bool *ret)
{
    struct volume_meta next;
    int r = volume_find_number_settled(v->io, &v->log, &v->config, &v->meta,
                                       v->meta.successor,
                                       &v->meta.successor_uuid, &next);

    *ret = false;
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    *ret = meta_is_unborn_name(next.name) && !next.successor &&
           !next.removing;
    meta_done(&next);
    return 0;
}

int
rollback_pass_name(struct lsvd_volume *v, const struct lsvd_env *env)
{
    char base[VOLUME_NAME_BYTES_MAX + 1], text[512];
    struct lsvd_volume *next;
    bool alone;
    int r;

    if (!v->meta.removing || !v->meta.successor)
        return 0;
    r = is_alone_to_know(v, &alone);
    if (r < 0 || !alone)
        return r;
    meta_base_name(v->meta.name, base);
    r = lsvd_open(env, base, 0, &next); /* it takes its name */
    if (r == 0)
        r = lsvd_close(next);
    if (r == 0)
        r = is_alone_to_know(v, &alone);
    if (r == 0 && !alone)
        return 0;
    snprintf(text, sizeof text, "%s", r < 0 ? err_text() : "it has no name");
    return err_set(-EBUSY, "volume %s: nothing else leads to %s yet: open %s "
                   "once first: %s", v->meta.name, base, base, text);
}

/* ---- all of it ---- */

int
lsvd_snapshot_rollback(const struct lsvd_env *env, const char *name)
{
    char base[VOLUME_NAME_BYTES_MAX + 1], discarded[VOLUME_NAME_BYTES_MAX + 1];
    struct lsvd_volume *v;
    int r = meta_check_name(name);

    if (r < 0)
        return r;
    meta_base_name(name, base);
    r = lsvd_open(env, base, 0, &v);
    if (r < 0)
        return r;
    r = snapshot_check_state(v);
    if (r == 0)
        r = check_may_forget(v);
    if (r == 0)
        r = snapshot_remove_leftovers(v, env);
    if (r == 0)
        r = roll_back(v, env, name, discarded);
    if (r < 0)
        return volume_close_after(v, r);
    lsvd_abandon(v);
    r = lsvd_open(env, base, 0, &v); /* it takes its name */
    if (r == 0)
        r = lsvd_close(v);
    return r < 0 ? r : lsvd_remove(env, discarded);
}
