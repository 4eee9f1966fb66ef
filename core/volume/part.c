/* part.c: the parts of a volume as they are found: directory, lock, label,
 * chunk table. A part is what its label says, wherever it lies. */
#include "volume/bypass.h"
#include "base/err.h"
#include "target/guard.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
part_fail(struct part *p, enum lsvd_part_state state, const char *format, ...)
{
    va_list args;

    p->state = state;
    va_start(args, format);
    vsnprintf(p->problem, sizeof p->problem, format, args);
    va_end(args);
}

int
part_failed(struct lsvd_volume *v, uint32_t slot, int r)
{
    struct part *p = &v->part[slot];

    if (!is_part_trouble(r))
        return r;
    atomic_fetch_add(&p->errors, 1);
    pthread_mutex_lock(&v->state_lock);
    p->failure = r;
    snprintf(p->failure_text, sizeof p->failure_text, "%s", err_text());
    v->failed |= UINT32_C(1) << slot;
    pthread_mutex_unlock(&v->state_lock);
    return r;
}

void
part_suspect(struct lsvd_volume *v, uint32_t slot, int r)
{
    struct part *p = &v->part[slot];

    if (!is_part_trouble(r))
        return;
    atomic_fetch_add(&p->errors, 1);
    part_missed(v, slot);
    if (r == -ETIMEDOUT)
        part_gone(v, slot, r);
}

void
part_gone(struct lsvd_volume *v, uint32_t slot, int r)
{
    struct part *p = &v->part[slot];

    pthread_mutex_lock(&v->state_lock);
    if (!(v->gone & UINT32_C(1) << slot)) {
        v->gone |= UINT32_C(1) << slot;
        p->absence = r;
        snprintf(p->absence_text, sizeof p->absence_text, "%s", err_text());
        pthread_cond_signal(&v->work);
    }
    pthread_mutex_unlock(&v->state_lock);
}

static bool
is_gone(int failure)
{
    switch (failure) {
    case -ETIMEDOUT:
    case -ENOLCK: /* OW1 */
    case -ENOENT:
    case -ENOTDIR:
    case -ESTALE:
    case -ENODEV:
    case -ENXIO:
        return true;
    default:
        return false;
    }
}

bool
parts_are_gone(struct lsvd_volume *v, uint32_t parts)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((parts & UINT32_C(1) << i) && !is_gone(v->part[i].failure))
            return false;
    }
    return true;
}

/* V6. What is under way on it is given up. */
void
part_let_go(struct lsvd_volume *v, uint32_t slot)
{
    struct part *p = &v->part[slot];
    struct chunk_table *table;
    struct object *lock;
    struct target *dir;
    struct lease lease;

    if (p->dir)
        guard_give_up(p->dir);
    lease_get(&v->part_leases, &lease, p->slot, p->slot + 1, true);
    pthread_mutex_lock(&v->table_lock);
    table = p->table;
    p->table = NULL;
    pthread_mutex_unlock(&v->table_lock);
    pthread_mutex_lock(&v->state_lock);
    dir = p->dir;
    lock = p->lock;
    p->dir = NULL;
    p->lock = NULL;
    v->gone &= ~(UINT32_C(1) << p->slot);
    pthread_mutex_unlock(&v->state_lock);
    lease_put(&v->part_leases, &lease);
    if (v->chunks.bucket)
        chunks_forget_part(v, p->slot);
    chunk_table_close(table);
    object_close(lock);
    target_close(dir);
}

void
part_lost(struct lsvd_volume *v, uint32_t parts)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        if (!(parts & UINT32_C(1) << i))
            continue;
        atomic_fetch_and(&v->usable, ~(UINT32_C(1) << i));
        bypass_break(v);
        pthread_mutex_lock(&v->state_lock);
        part_fail(p, is_gone(p->failure) ? LSVD_PART_MISSING
                                         : LSVD_PART_ERROR,
                  "%s", p->failure_text);
        pthread_mutex_unlock(&v->state_lock);
        part_let_go(v, i);
        v->failed &= ~(UINT32_C(1) << i);
    }
}

/* A lock that can't be had is no missing part: somebody else may write to it.
 * The text is that of the error. */
static int
without_lock(struct lsvd_volume *v, const struct part *p)
{
    char why[256];

    snprintf(why, sizeof why, "%s", err_text());
    if (!v->config.unsafe_nolock)
        return err_set(-ENOLCK,
                       "volume %s: part %c can't be locked, so nothing keeps "
                       "a second server away; not started (unsafe-nolock=1 "
                       "starts it all the same): %s",
                       v->meta.name, p->letter, why);
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: part %c is used without a lock (unsafe-nolock): %s",
              v->meta.name, p->letter, why);
    return 0;
}

/* Of the same directory: two descriptions of one file can't both have it. */
static void
give_up_lock(struct lsvd_volume *old, const struct target *dir)
{
    for (uint32_t i = 0; i < old->g.part_count; i++) {
        struct part *p = &old->part[i];
        struct object *lock = NULL;

        pthread_mutex_lock(&old->state_lock);
        if (p->dir && strcmp(p->dir->path, dir->path) == 0) {
            lock = p->lock;
            p->lock = NULL;
        }
        pthread_mutex_unlock(&old->state_lock);
        object_close(lock);
    }
}

/* Somebody has this lock: is it us, by another path to the same directory (a
 * slash more, a symlink, a second mount)? Not p's own. A part that somebody has
 * leased, perhaps the caller, is not asked: the next look will. */
static bool
is_held_by_us(struct lsvd_volume *v, const struct part *p)
{
    struct object_stat theirs, ours;
    bool same = false;

    if (!p->lock || object_stat(p->lock, &theirs) < 0)
        return false;
    for (uint32_t i = 0; i < v->g.part_count && !same; i++) {
        const struct part *own = &v->part[i];
        struct lease lease;

        if (own == p ||
            !lease_try(&v->part_leases, &lease, i, i + 1, false))
            continue;
        same = own->lock && object_stat(own->lock, &ours) == 0 &&
               ours.device == theirs.device && ours.node == theirs.node;
        lease_put(&v->part_leases, &lease);
    }
    return same;
}

int
part_take_lock(struct lsvd_volume *v, struct part *p, bool exclusive)
{
    char record[OWNER_BYTES], owner[OWNER_BYTES + 256];
    int r;

    if (!p->lock) {
        r = target_open(p->dir, LOCK_NAME, OBJECT_WRITE | OBJECT_CREATE,
                        &p->lock);
        if (r < 0 && !exclusive)
            r = target_open(p->dir, LOCK_NAME, 0, &p->lock);
        if (r < 0)
            return r;
    }
    if (v->instead)
        give_up_lock(v->instead, p->dir);
    r = object_lock(p->lock, 0, 1, exclusive);
    if (r == -EBUSY && is_held_by_us(v, p))
        return err_set(-EEXIST, "%s is in use as another part already",
                       p->dir->path);
    if (r == -EBUSY && v->takes_over)
        return takeover_lock(v, p);
    if (r == -EBUSY) {
        part_owner(p->dir, record, sizeof record);
        owner_describe(v, record, owner, sizeof owner);
        return err_set(-EBUSY,
                       "volume %s is in use by %s; not started (part %c, %s)",
                       v->meta.name, owner, p->letter, p->dir->path);
    }
    if (r == -ENOLCK || r == -EOPNOTSUPP || r == -ENOSYS)
        r = without_lock(v, p);
    if (r < 0)
        return r;
    if (exclusive)
        (void)owner_write(v, p);
    return 0;
}

static void
candidate_close(struct part *p)
{
    object_close(p->lock);
    target_close(p->dir);
    p->lock = NULL;
    p->dir = NULL;
}

/* Open the directory under this root and see what label it has. 0: this
 * volume's; the label's slot may differ from the letter. One that is in use by
 * us is none. */
static int
candidate_open(struct lsvd_volume *v, const char *root, uint32_t slot,
               bool exclusive, struct part *ret)
{
    struct volume_meta where = {.number = v->meta.number};
    char path[PATH_TEXT_MAX];
    int r;

    memcpy(path, root, strlen(root) + 1);
    where.part[slot].root = path;
    memset(ret, 0, sizeof *ret);
    ret->slot = slot;
    ret->letter = (char)('a' + slot);
    r = volume_check_hurried(v);
    if (r < 0)
        return r;
    r = part_dir_open(v->io, &where, slot, 0, &ret->dir);
    if (r < 0) {
        ret->failure = r;
        part_fail(ret, LSVD_PART_MISSING, "%s", err_text());
        return r;
    }
    r = target_open(ret->dir, LABEL_NAME, 0, &ret->lock);
    if (r == 0) { /* only to see that it is there: lock before reading */
        object_close(ret->lock);
        ret->lock = NULL;
        if (!v->observer)
            r = part_take_lock(v, ret, exclusive);
        if (r == -EEXIST) {
            part_fail(ret, LSVD_PART_MISSING, "%s", err_text());
            candidate_close(ret);
            return -ENOENT;
        }
    }
    if (r < 0 && r != -ENOENT) {
        part_fail(ret, LSVD_PART_ERROR, "%s", err_text());
        return r;
    }
    r = label_load_fresh(ret->dir, &ret->label, &ret->damaged_label_slots);
    if (r < 0) {
        part_fail(ret,
                  r == -ENOENT ? LSVD_PART_MISSING : LSVD_PART_ERROR, "%s",
                  err_text());
        return r;
    }
    ret->has_label = true;
    return 0;
}

/* Judge a label against the policy, whichever letter it was found under. */
static void
candidate_judge(struct lsvd_volume *v, struct part *p)
{
    const struct label *label = &p->label;
    uint32_t slot = label->slot;

    if (!uuid_equal(&label->volume, &v->meta.uuid)) {
        part_fail(p, LSVD_PART_FOREIGN, "%s holds a part of another volume",
                  p->dir->path);
        return;
    }
    if (slot >= v->g.part_count ||
        !uuid_equal(&label->instance, &v->meta.part[slot].instance)) {
        part_fail(p, LSVD_PART_FOREIGN,
                  "%s holds an instance of part %c that was replaced",
                  p->dir->path, (char)('a' + slot % 26));
        return;
    }
    p->slot = slot;
    p->letter = (char)('a' + slot);
    if (label->geometry != geometry_hash(&v->g))
        part_fail(p, LSVD_PART_FOREIGN,
                  "%s: its label's geometry is not this volume's",
                  p->dir->path);
    else if (label->state != LABEL_LIVE)
        part_fail(p, LSVD_PART_REBUILDING,
                  "not yet refilled; run lsvd-repair rebuild %s",
                  v->meta.name);
    else
        p->state = LSVD_PART_OK;
}

bool
part_may_be_there(const struct part *p)
{
    return p->state == LSVD_PART_ERROR ||
           (p->state == LSVD_PART_MISSING && p->failure != 0 &&
            !is_gone(p->failure));
}

/* Of two places without a label: where it may be, or else is a directory. */
static bool
tells_more(const struct part *place, const struct part *p)
{
    if (part_may_be_there(place) != part_may_be_there(p))
        return part_may_be_there(place);
    return place->dir && !p->dir;
}

/* Place a judged candidate; a better one replaces what was known. */
static int
candidate_place(struct lsvd_volume *v, struct part *p)
{
    struct part *place = &v->part[p->slot];

    if (place->has_label && place->state != LSVD_PART_FOREIGN) {
        bool same = p->state != LSVD_PART_FOREIGN;
        char first[128];

        snprintf(first, sizeof first, "%.127s", place->dir->path);
        if (same) {
            err_set(-EINVAL, "part %c is there twice: %s and %s", p->letter,
                    first, p->dir->path);
            candidate_close(p);
            return -EINVAL;
        }
        candidate_close(p);
        return 0;
    }
    if (tells_more(place, p)) {
        candidate_close(p);
        return 0;
    }
    candidate_close(place);
    *place = *p;
    return 0;
}

static const char *
nth_root(const struct lsvd_volume *v, uint32_t slot, size_t n)
{
    if (n == 0)
        return v->meta.part[slot].root;
    n--;
    for (size_t i = 0; v->config.data[i]; i++) {
        if (n-- == 0)
            return v->config.data[i];
    }
    return n < v->g.part_count ? v->meta.part[n].root : NULL;
}

/* The recorded root of the part, those that the user named, those of the other
 * parts; each once. False: no more. */
static bool
root_to_search(struct lsvd_volume *v, uint32_t slot, size_t nth, char *path)
{
    const char *root;
    bool found = false;

    pthread_mutex_lock(&v->state_lock); /* of others, who may be replaced */
    for (size_t i = 0; !found && (root = nth_root(v, slot, i)); i++) {
        bool known = false;

        for (size_t k = 0; k < i && !known; k++)
            known = strcmp(root, nth_root(v, slot, k)) == 0;
        found = !known && nth-- == 0;
        if (found)
            snprintf(path, PATH_TEXT_MAX, "%s", root);
    }
    pthread_mutex_unlock(&v->state_lock);
    return found;
}

/* Not one that is in use: it is locked, and by us. */
static bool
is_in_use(struct lsvd_volume *v, const char *root, uint32_t letter)
{
    char path[PATH_TEXT_MAX + 32];
    bool used = false;

    snprintf(path, sizeof path, "%s/%u/%c", root, v->meta.number,
             (int)('a' + letter));
    pthread_mutex_lock(&v->state_lock);
    for (uint32_t i = 0; i < v->g.part_count && !used; i++)
        used = v->part[i].dir && strcmp(v->part[i].dir->path, path) == 0;
    pthread_mutex_unlock(&v->state_lock);
    return used;
}

/* The recorded root first, then the roots the user named. */
static int
part_search(struct lsvd_volume *v, uint32_t slot, bool exclusive)
{
    const char *recorded = v->meta.part[slot].root;
    struct part found;
    int r;

    for (size_t i = 0;; i++) {
        const char *root = i == 0 ? recorded : v->config.data[i - 1];

        if (!root)
            return 0;
        if (i > 0 && strcmp(root, recorded) == 0)
            continue;
        r = candidate_open(v, root, slot, exclusive, &found);
        if (r == -EBUSY || r == -ENOLCK || is_our_trouble(r)) {
            candidate_close(&found);
            return r;
        }
        if (r == 0)
            candidate_judge(v, &found);
        if (!found.dir && (v->part[slot].dir || i > 0))
            continue;
        r = candidate_place(v, &found);
        if (r < 0)
            return r;
        if (v->part[slot].has_label)
            return 0;
    }
}

/* Directory `letter` of the root, if it holds the slot's instance. */
static int
find_in(struct lsvd_volume *v, const char *root, uint32_t letter,
        uint32_t slot, struct part *ret)
{
    int r = candidate_open(v, root, letter, v->exclusive, ret);

    if (r == 0) {
        candidate_judge(v, ret);
        if (ret->slot == slot && (ret->state == LSVD_PART_OK ||
                                  ret->state == LSVD_PART_REBUILDING))
            return 0;
        r = err_set(-ENOENT, "%s",
                    ret->problem[0] ? ret->problem : "another part");
    } else if (r == -EBUSY) {
        owner_look_beside(v, slot, ret->dir); /* OW6 */
        err_set(r, "%s", ret->problem);
    }
    candidate_close(ret);
    return r;
}

/* Under its own letter first; the label decides, so under the others, too: a
 * part that was swapped with another one is one that is there. */
int
part_find(struct lsvd_volume *v, uint32_t slot, bool everywhere,
          struct part *ret)
{
    uint32_t letters = everywhere ? v->g.part_count : 1;
    int r, first = -ENOENT;
    char text[256] = "not found", root[PATH_TEXT_MAX];

    for (size_t i = 0; root_to_search(v, slot, i, root); i++) {
        for (uint32_t k = 0; k < letters; k++) {
            uint32_t letter = (slot + k) % v->g.part_count;

            if (is_in_use(v, root, letter))
                continue;
            r = find_in(v, root, letter, slot, ret);
            if (r == 0 || is_our_trouble(r))
                return r;
            if (i > 0 || k > 0)
                continue;
            first = r;
            snprintf(text, sizeof text, "%s", err_text());
        }
    }
    return err_set(first, "%s", text);
}

void
part_candidate_close(struct part *p)
{
    candidate_close(p);
}

/* Under another letter, or another part's root: it has changed places with
 * another part. */
static int
part_search_all(struct lsvd_volume *v, uint32_t slot, bool exclusive)
{
    char root[PATH_TEXT_MAX];
    struct part found;

    for (size_t i = 0; root_to_search(v, slot, i, root); i++) {
        for (uint32_t letter = 0; letter < v->g.part_count; letter++) {
            int r;

            if (is_in_use(v, root, letter))
                continue;
            r = candidate_open(v, root, letter, exclusive, &found);
            if (r == 0) {
                candidate_judge(v, &found);
                if (found.slot == slot && found.state != LSVD_PART_FOREIGN)
                    return candidate_place(v, &found);
            }
            candidate_close(&found);
            if (r == -EBUSY || is_our_trouble(r))
                return r;
        }
    }
    return 0;
}

int
parts_open(struct lsvd_volume *v, bool exclusive)
{
    int r;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        memset(p, 0, sizeof *p);
        p->slot = i;
        p->letter = (char)('a' + i);
        part_fail(p, LSVD_PART_MISSING, "not found");
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        r = part_search(v, i, exclusive);
        if (r < 0)
            return r;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        const struct part *p = &v->part[i];

        if (p->has_label && p->state != LSVD_PART_FOREIGN)
            continue;
        r = part_search_all(v, i, exclusive);
        if (r < 0)
            return r;
    }
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];

        p->slot = i;
        p->letter = (char)('a' + i);
        atomic_store(&p->label_writes, p->label.write_count);
        atomic_store(&p->label_promised, p->label.promised);
        if (p->damaged_label_slots > 0)
            log_event(&v->log, LOG_WARNING_LEVEL,
                      "volume %s: part %c: one copy of its label is damaged; "
                      "the other is used",
                      v->meta.name, p->letter);
    }
    return 0;
}

void
parts_close(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        chunk_table_close(v->part[i].table);
        v->part[i].table = NULL;
        candidate_close(&v->part[i]);
    }
}

int
part_init(struct lsvd_volume *v, struct target *dir, uint32_t slot,
          const struct uuid *instance, struct chunk_table **ret_table)
{
    struct label label = {.volume = v->meta.uuid,
                          .instance = *instance,
                          .geometry = geometry_hash(&v->g),
                          .slot = slot,
                          .state = LABEL_INIT,
                          .written_at = v->io->ops->wall_seconds(v->io)};
    int r;

    label.view = v->view;
    gethostname(label.host, sizeof label.host - 1);
    r = label_store(dir, &label);
    if (r == 0)
        r = label_store(dir, &label); /* both slots: nothing older remains */
    if (r == 0)
        r = chunk_table_create(dir, instance, geometry_chunk_count(&v->g),
                               ret_table);
    if (r == 0) {
        r = target_sync(dir);
        if (r < 0) {
            chunk_table_close(*ret_table);
            *ret_table = NULL;
        }
    }
    return r;
}

struct table_scan {
    struct lsvd_volume *v;
    struct part *p;
};

/* A chunk file's own header dates it when the table can't be trusted. */
static int
table_raise(void *ctx, const char *name)
{
    struct table_scan *scan = ctx;
    struct lsvd_volume *v = scan->v;
    struct fragment_id id = {.volume = v->meta.uuid,
                             .instance = scan->p->label.instance,
                             .fragment = scan->p->slot};
    struct chunk_entry entry;
    struct fragment *f;
    char *end;
    int r = 0;

    errno = 0;
    id.chunk = strtoull(name, &end, 10);
    if (!isdigit((unsigned char)name[0]) || *end || errno || id.chunk == 0 ||
        id.chunk > geometry_chunk_count(&v->g))
        return 0;
    if (atomic_load(&v->stopping))
        return err_set(-EINTR, "volume %s is being closed", v->meta.name);
    pthread_mutex_lock(&v->table_lock);
    entry = chunk_table_get(scan->p->table, id.chunk);
    pthread_mutex_unlock(&v->table_lock);
    r = fragment_open(scan->p->dir, &v->g, &id, false, &f);
    if (r < 0) /* what the table calls present is no hole for that */
        return fragment_is_none(r) || entry.state == CHUNK_PRESENT
                   ? 0
                   : err_wrap(r, "no table says what is in it; take the file "
                              "away if it can't be read any more");
    if (f->seq > entry.seq ||
        (f->seq == entry.seq && entry.state != CHUNK_PRESENT)) {
        entry = (struct chunk_entry){.seq = f->seq, .state = CHUNK_PRESENT};
        pthread_mutex_lock(&v->table_lock);
        r = chunk_table_set(scan->p->table, id.chunk, entry);
        pthread_mutex_unlock(&v->table_lock);
    }
    fragment_close(f);
    return r;
}

int
part_raise_table(struct lsvd_volume *v, struct part *p)
{
    struct table_scan scan = {v, p};

    return target_list(p->dir, table_raise, &scan);
}

int
part_open_table(struct lsvd_volume *v, struct part *p)
{
    uint64_t chunks = geometry_chunk_count(&v->g);
    bool missing = false;
    int r;

    if (v->journal) /* after a crash; else it costs each opening a cold read */
        target_read_anew(p->dir, CHUNK_TABLE_NAME);
    r = chunk_table_open(p->dir, &p->label.instance, chunks,
                         p->lock && v->exclusive, &p->table,
                         &p->table_damaged);
    if (r == -ENOENT && v->exclusive) {
        missing = true;
        r = chunk_table_create(p->dir, &p->label.instance, chunks, &p->table);
        if (r == 0)
            r = target_sync(p->dir);
    }
    if (r < 0)
        return r;
    if (!missing && p->table_damaged == 0 &&
        chunk_table_generation(p->table) >= p->label.table_generation)
        return 0;
    p->table_doubtful = true;
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: part %c: its chunk table is %s; using the other "
              "parts', or else its chunk files",
              v->meta.name, p->letter,
              missing                ? "missing"
              : p->table_damaged > 0 ? "damaged"
                                     : "older than its label");
    return 0;
}

static struct chunk_entry
tables_truth_locked(struct lsvd_volume *v, uint64_t chunk)
{
    struct chunk_entry best = {.state = CHUNK_HOLE};
    bool known = false;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct chunk_entry entry;

        if (!(v->usable & UINT32_C(1) << i) || !v->part[i].table)
            continue;
        known = true;
        entry = chunk_table_get(v->part[i].table, chunk);
        if (entry.seq > best.seq)
            best = entry;
    }
    if (!known) /* of no part: it may hold anything */
        best.state = CHUNK_PRESENT;
    return best;
}

struct chunk_entry
tables_truth(struct lsvd_volume *v, uint64_t chunk)
{
    struct chunk_entry truth;

    pthread_mutex_lock(&v->table_lock);
    truth = tables_truth_locked(v, chunk);
    pthread_mutex_unlock(&v->table_lock);
    return truth;
}

struct chunk_entry
chunk_truth(struct lsvd_volume *v, uint64_t chunk)
{
    struct chunk_entry truth = {.state = CHUNK_PRESENT};

    pthread_mutex_lock(&v->table_lock);
    if (!bypass_is_open_locked(v, chunk, &truth.seq))
        truth = tables_truth_locked(v, chunk);
    pthread_mutex_unlock(&v->table_lock);
    return truth;
}

uint64_t
next_known_chunk(struct lsvd_volume *v, uint64_t chunk)
{
    uint64_t least = 0;

    pthread_mutex_lock(&v->table_lock);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        uint64_t next;

        if (!v->part[i].table || chunk > geometry_chunk_count(&v->g))
            continue;
        next = chunk_table_next(v->part[i].table, chunk);
        if (next != 0 && (least == 0 || next < least))
            least = next;
    }
    pthread_mutex_unlock(&v->table_lock);
    return least;
}

uint64_t
count_present_chunks(struct lsvd_volume *v)
{
    uint64_t count = 0;

    for (uint64_t c = next_known_chunk(v, 1); c;
         c = next_known_chunk(v, c + 1))
        count += chunk_truth(v, c).state == CHUNK_PRESENT;
    return count;
}
