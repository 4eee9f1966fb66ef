/* live_set.c: properties of a volume that is being served.
 *
 * The new policy is durable everywhere before it is said to be in force; but
 * no write is accepted any more from the moment on that it may be read by the
 * next who opens the volume. The role keeps others from writing policies and
 * from changing the parts meanwhile. */
#include "base/err.h"
#include "volume/parent.h"
#include <stdio.h>

static int
check(struct lsvd_volume *v)
{
    if (!v->attached)
        return err_set(-EROFS, "volume %s is served read-only: stop the server "
                       "first", v->meta.name);
    if (atomic_load(&v->in_snapshot))
        return err_set(-EBUSY, "volume %s: a snapshot of it is being made; try "
                       "again", v->meta.name);
    if (v->usable != volume_all_parts(v))
        return err_set(-EIO, "volume %s: not all its parts are in sync; see "
                       "lsvd status %s", v->meta.name, v->meta.name);
    return 0;
}

static void
put_in_force(struct lsvd_volume *v, const struct volume_meta *meta)
{
    pthread_mutex_lock(&v->state_lock);
    v->meta.generation = meta->generation;
    v->meta.read_only = meta->read_only;
    v->meta.append_only = meta->append_only;
    pthread_mutex_unlock(&v->state_lock);
    v->client_read_only = meta->read_only;
    v->append_only = meta->append_only;
}

/* The role's. A stricter rule holds at once, a laxer one when it is stored. */
static int
set(struct lsvd_volume *v, const char *key, const char *value)
{
    struct volume_meta next = v->meta;
    bool *flag, on;
    int r;

    r = policy_flag(&next, key, value, &flag, &on);
    if (r == 0)
        r = check(v);
    if (r < 0 || *flag == on)
        return r;
    if (flag == &next.read_only && !on)
        r = parent_check_thaw(v);
    if (r < 0)
        return r;
    *flag = on;
    next.generation++;
    if (on) {
        v->client_read_only = next.read_only;
        v->append_only = next.append_only;
    }
    r = volume_change_meta(v, &next);
    put_in_force(v, r == 0 ? &next : &v->meta);
    if (r < 0)
        return r;
    event_note(v, LOG_WARNING_LEVEL, "set", 0, "%s is %s now", key,
               on ? "on" : "off");
    return 0;
}

int
lsvd_live_set(struct lsvd_volume *v, const char *key, const char *value)
{
    struct lease role;
    int r;

    r = role_get(v, &role);
    if (r < 0)
        return r;
    r = set(v, key, value);
    role_put(v, &role);
    return r;
}
