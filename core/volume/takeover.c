/* takeover.c: who has a volume, and taking it from a host that is gone
 * (faults.md section 4).
 *
 * (TO1) Whether the other server can still write is not known here: the caller
 *       knows it. Nothing is taken from a process of this host, which can be
 *       stopped, or from one that nobody can name.
 * (TO2) The lock of the other stays with it, on a file that has no name any
 *       more; whoever comes next finds ours.
 * (TO3) A promise above every epoch that is known goes to every part, into both
 *       slots of the label: the other, if it lives and writes its own label
 *       once more without having looked, overwrites the older of the two only.
 *       Then it looks (OW2), and is fenced. */
#include "base/err.h"
#include "redundancy/membership.h"
#include "volume/find.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NEW_NAME ".lock.new"

/* ---- the record ---- */

/* What follows the word, up to a comma. */
static bool
field(const char *record, const char *word, char *text, size_t bytes)
{
    const char *at = strstr(record, word);
    size_t count;

    text[0] = '\0';
    if (!at || (at != record && at[-1] != ' '))
        return false;
    at += strlen(word);
    count = strcspn(at, ",");
    if (count == 0 || count >= bytes)
        return false;
    memcpy(text, at, count);
    text[count] = '\0';
    return true;
}

static uint64_t
parse_time(const char *text)
{
    struct tm tm = {0};
    time_t at;

    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ", &tm.tm_year, &tm.tm_mon,
               &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    at = timegm(&tm);
    return at > 0 ? (uint64_t)at : 0;
}

static void
owner_parse(struct lsvd_volume *v, const char *record, struct lsvd_owner *ret)
{
    char number[24], at[32], boot[16], own_boot[16], own_host[65] = "?";
    bool has_boot;

    snprintf(ret->text, sizeof ret->text, "%s", record);
    ret->is_known = field(record, "host ", ret->host, sizeof ret->host) &&
                    field(record, "pid ", number, sizeof number);
    if (!ret->is_known)
        return;
    ret->pid = strtol(number, NULL, 10);
    if (field(record, "epoch ", number, sizeof number))
        ret->epoch = (uint32_t)strtoul(number, NULL, 10);
    if (field(record, "heartbeat ", at, sizeof at))
        ret->heartbeat = parse_time(at);
    has_boot = field(record, "boot ", boot, sizeof boot);
    owner_boot(v, own_boot, sizeof own_boot);
    gethostname(own_host, sizeof own_host - 1);
    ret->is_here = has_boot && strcmp(boot, own_boot) == 0 &&
                   strcmp(ret->host, own_host) == 0;
}

void
owner_describe(struct lsvd_volume *v, const char *record, char *text,
               size_t bytes)
{
    uint64_t now = v->io->ops->wall_seconds(v->io);
    struct lsvd_owner owner = {0};
    char beat[64] = "unknown", uuid[UUID_TEXT_BYTES], control[200] = "";

    owner_parse(v, record, &owner);
    if (!owner.is_known) {
        snprintf(text, bytes, "%s", record[0] ? record : "another process");
        return;
    }
    if (owner.heartbeat > 0 && owner.heartbeat <= now)
        snprintf(beat, sizeof beat, "%" PRIu64 " s ago",
                 now - owner.heartbeat);
    else /* its clock is not ours */
        field(record, "heartbeat ", beat, sizeof beat);
    uuid_format(&v->meta.uuid, uuid);
    if (owner.is_here)
        snprintf(control, sizeof control, ", control socket %.100s/%s.control",
                 v->config.cache[0], uuid);
    snprintf(text, bytes, "host %s (pid %ld, epoch %u, heartbeat %s%s)",
             owner.host, owner.pid, owner.epoch, beat, control);
}

/* ---- who has it ---- */

static void
look_at(struct lsvd_volume *v, uint32_t slot, struct lsvd_owner *owners,
        uint32_t *count)
{
    struct lsvd_owner *o = &owners[*count];
    char record[OWNER_BYTES];
    struct target *dir;
    struct object *lock;

    if (part_dir_open(v->io, &v->meta, slot, 0, &dir) < 0)
        return;
    if (target_open(dir, LOCK_NAME, 0, &lock) == 0) {
        memset(o, 0, sizeof *o);
        o->part = (char)('a' + slot);
        o->held = object_is_locked(lock, 0, 1) > 0;
        object_close(lock);
        part_owner(dir, record, sizeof record);
        owner_parse(v, record, o);
        ++*count;
    }
    target_close(dir);
}

static int
find_owners(const struct lsvd_env *env, const char *name,
            struct lsvd_volume **ret, struct lsvd_owner *owners,
            uint32_t *ret_count)
{
    struct lsvd_volume *v;
    int r = volume_new(env, name, &v);

    *ret_count = 0;
    if (r < 0)
        return r;
    r = volume_find(v->io, &v->log, &v->config, name, &v->meta, NULL);
    for (uint32_t i = 0; r == 0 && i < v->meta.part_count; i++)
        look_at(v, i, owners, ret_count);
    if (r < 0 || !ret)
        volume_free(v);
    else
        *ret = v;
    return r;
}

int
lsvd_owners(const struct lsvd_env *env, const char *name,
            struct lsvd_owner *ret, uint32_t *ret_count)
{
    return find_owners(env, name, NULL, ret, ret_count);
}

int
lsvd_fence_command(const struct lsvd_env *env, const char *name, char *text,
                   size_t bytes)
{
    struct config config;
    struct env_world world;
    struct logger log;
    int r = env_load(env, name, &config, &world, &log);

    text[0] = '\0';
    if (r < 0)
        return r;
    if (config.fence_cmd &&
        (size_t)snprintf(text, bytes, "%s", config.fence_cmd) >= bytes)
        r = err_set(-EINVAL, "fence-cmd: longer than %zu bytes", bytes - 1);
    config_done(&config);
    env_done(&world);
    return r;
}

/* ---- taking it ---- */

/* TO1. */
static int
check_owners(const char *name, struct lsvd_volume *v,
             const struct lsvd_owner *owners, uint32_t count)
{
    bool held = false;

    for (uint32_t i = 0; i < count; i++) {
        char text[OWNER_BYTES + 256];

        if (!owners[i].held)
            continue;
        held = true;
        owner_describe(v, owners[i].text, text, sizeof text);
        if (owners[i].is_here)
            return err_set(-EBUSY, "volume %s is in use on this host by %s: "
                           "stop it; nothing was changed", name, text);
        if (!owners[i].is_known)
            return err_set(-EBUSY, "volume %s: nobody can tell who has the "
                           "lock of part %c; nothing was changed", name,
                           owners[i].part);
    }
    if (!held)
        return err_set(-EALREADY, "volume %s is in use by nobody: it can be "
                       "started; nothing was changed", name);
    return 0;
}

int
takeover_lock(struct lsvd_volume *v, struct part *p)
{
    char record[OWNER_BYTES], text[OWNER_BYTES + 256];
    struct object *lock;
    int r;

    part_owner(p->dir, record, sizeof record);
    owner_describe(v, record, text, sizeof text);
    r = target_open(p->dir, LOCK_NEW_NAME, OBJECT_WRITE | OBJECT_CREATE,
                    &lock);
    if (r < 0)
        return r;
    r = object_lock(lock, 0, 1, true);
    object_close(p->lock);
    p->lock = lock;
    if (r == 0)
        r = owner_write(v, p);
    if (r == 0)
        r = object_sync(p->lock);
    if (r == 0)
        r = target_rename(p->dir, LOCK_NEW_NAME, LOCK_NAME);
    if (r == 0)
        r = target_sync(p->dir);
    if (r < 0)
        return err_wrap(r, "part %c: its lock", p->letter);
    event_note(v, LOG_WARNING_LEVEL, "takeover", p->letter,
               "the lock of part %c is taken from %s", p->letter, text);
    return 0;
}

static bool
may_promise(const struct lsvd_volume *v, const struct part *p)
{
    return p->lock && p->has_label && p->state != LSVD_PART_FOREIGN &&
           uuid_equal(&p->label.volume, &v->meta.uuid);
}

/* TO3. Views, and all else, stay as they are. */
static int
promise(struct lsvd_volume *v, uint32_t *ret_epoch)
{
    const struct label *labels[PARTS_MAX];
    const struct view none = {0};
    uint32_t epoch;
    int r = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++)
        labels[i] = may_promise(v, &v->part[i]) ? &v->part[i].label : NULL;
    epoch = membership_next_epoch(labels, v->g.part_count, &none);
    if (epoch > SEQ_EPOCH_MAX)
        return err_set(-EIO, "volume %s has used up its %u starts",
                       v->meta.name, SEQ_EPOCH_MAX);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++) {
        struct part *p = &v->part[i];

        if (!labels[i])
            continue;
        p->label.promised = epoch;
        r = label_write(v, p);
        if (r == 0)
            r = label_write(v, p);
    }
    *ret_epoch = epoch;
    return r;
}

int
lsvd_takeover(const struct lsvd_env *env, const char *name, const char *how)
{
    struct lsvd_owner owners[LSVD_OWNERS_MAX];
    struct lsvd_volume *v;
    uint32_t count, epoch = 0;
    int r;

    r = find_owners(env, name, &v, owners, &count);
    if (r < 0)
        return r;
    r = check_owners(name, v, owners, count);
    volume_free(v);
    if (r < 0 || !how)
        return r;
    r = volume_open(env, name,
                    OPEN_LOCKED | OPEN_REPAIR | OPEN_INSPECT | OPEN_TAKE_OVER,
                    &v);
    if (r < 0)
        return r;
    r = promise(v, &epoch);
    if (r == 0)
        event_note(v, LOG_WARNING_LEVEL, "takeover", 0,
                   "the volume was taken over (%.200s); epoch %u is promised",
                   how, epoch);
    volume_free(v);
    return r;
}
