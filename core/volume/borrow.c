/* borrow.c: see borrow.h. */
#include "volume/borrow.h"
#include "base/err.h"
#include "base/uuid.h"

/* One that moves what its journal holds just now needs it no more in a
 * moment. */
static bool
is_lendable(const struct lsvd_volume *v)
{
    return v->journal && !v->threaded && v->meta.read_only;
}

static struct lsvd_volume *
find(struct lsvd_volume *v, uint32_t number, const struct uuid *uuid);

static struct lsvd_volume *
find_below(const struct lsvd_volume *v, uint32_t number,
           const struct uuid *uuid)
{
    uint32_t count = atomic_load(&v->source_count);
    struct lsvd_volume *found = find(v->parent, number, uuid);

    for (uint32_t i = 0; i < count && !found; i++)
        found = find(v->source[i].volume, number, uuid);
    return found;
}

static struct lsvd_volume *
find(struct lsvd_volume *v, uint32_t number, const struct uuid *uuid)
{
    if (!v)
        return NULL;
    if (v->meta.number == number && uuid_equal(&v->meta.uuid, uuid) &&
        is_lendable(v))
        return v;
    return find_below(v, number, uuid);
}

struct lsvd_volume *
borrow(const struct lsvd_volume *v, uint32_t number, const struct uuid *uuid)
{
    struct lsvd_volume *found = NULL;

    /* those that are being opened are not below anybody yet */
    for (; v && !found; v = v->opener)
        found = find_below(v, number, uuid);
    if (found)
        found->borrowers++;
    return found;
}

bool
borrow_give_back(struct lsvd_volume *v)
{
    if (v->borrowers == 0)
        return false;
    v->borrowers--;
    return true;
}

int
borrow_check_alone(const struct lsvd_volume *v)
{
    const char *name = meta_stored_name(&v->meta);

    if (v->borrowers == 0)
        return 0;
    return err_set(-EBUSY, "%s is not yet complete on its parts, and needed "
                   "twice, also for references: start its server again when "
                   "all its parts are there (lsvd-repair verify %s), or take "
                   "the references back (lsvd-dedupe --rehydrate)", name,
                   name);
}
