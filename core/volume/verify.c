/* verify.c: is every part holding what it should? Changes nothing.
 *
 * With the lock free, verify takes it, replays and destages, then looks.
 * Beside a server it looks without a lock, and believes what looks wrong only
 * when it looks the same while the server is not changing that chunk: the
 * server holds a byte of part a's lock file for each chunk in flux (K2). */
#include "volume/verify.h"
#include "base/err.h"
#include "base/memory.h"
#include "base/sum.h"
#include "base/wait.h"
#include "volume/parent.h"
#include "volume/refer.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_NS UINT64_C(100000000)
#define FLUX_POLLS_MAX 1200 /* of 50 ms: a server that hangs is not damage */

int
chunk_check_new(struct lsvd_volume *v, struct chunk_check **ret)
{
    struct chunk_check *check;
    int r;

    r = mem_new(1, sizeof *check, &check);
    if (r < 0)
        return r;
    check->lost_max = v->g.chunk_blocks;
    r = mem_new(check->lost_max, sizeof check->lost[0], &check->lost);
    if (r < 0)
        free(check);
    else
        *ret = check;
    return r;
}

void
chunk_check_free(struct chunk_check *check)
{
    if (check) {
        free(check->odd);
        free(check->lost);
    }
    free(check);
}

void
chunk_check_set(struct chunk_check *check, uint32_t slot,
            enum lsvd_chunk_finding kind, const char *text)
{
    if (check->kind[slot] != LSVD_CHUNK_HEALTHY)
        return; /* the first thing found names it */
    check->kind[slot] = kind;
    snprintf(check->text[slot], sizeof check->text[slot], "%s", text);
}

/* Files and tables only. */
static void
check_quick(struct lsvd_volume *v, uint64_t chunk, uint32_t slot,
            struct chunk_entry truth, const struct quick *quick,
            struct chunk_check *check)
{
    struct part *p = &v->part[slot];
    uint64_t bytes;
    int r;

    r = quick_size(v, quick, chunk, slot, &bytes);
    if (r == -ENOENT)
        chunk_check_set(check, slot, LSVD_CHUNK_MISSING, "the file is missing");
    else if (r < 0)
        chunk_check_set(check, slot, LSVD_CHUNK_CORRUPT, err_text());
    else if (bytes != geometry_file_bytes(&v->g, slot))
        chunk_check_set(check, slot, LSVD_CHUNK_CORRUPT,
                    "the file has the wrong size");
    else if (chunk_table_get(p->table, chunk).seq < truth.seq)
        chunk_check_set(check, slot, LSVD_CHUNK_STALE,
                    "its chunk table entry is older than the other parts'");
}

static void
check_file(struct lsvd_volume *v, struct chunk *c, uint32_t slot,
           struct chunk_entry truth, struct chunk_check *check)
{
    enum fragment_state state;
    struct fragment *f = chunk_fragment(v, c, slot, &state);

    switch (state) {
    case FRAGMENT_OK:
        if (f->doubtful)
            chunk_check_set(check, slot, LSVD_CHUNK_CORRUPT,
                        "its table does not pass its check");
        else if (chunk_table_get(v->part[slot].table, c->number).seq <
                 truth.seq)
            chunk_check_set(check, slot, LSVD_CHUNK_STALE,
                        "its chunk table entry is older than the other "
                        "parts'");
        break;
    case FRAGMENT_MISSING:
        chunk_check_set(check, slot, LSVD_CHUNK_MISSING, "the file is missing");
        break;
    case FRAGMENT_STALE:
        chunk_check_set(check, slot, LSVD_CHUNK_STALE,
                    "the file is older than the chunk table says");
        break;
    case FRAGMENT_CORRUPT:
        chunk_check_set(check, slot, LSVD_CHUNK_CORRUPT,
                    "the file is not this chunk's, or is damaged");
        break;
    case FRAGMENT_REFUSED:
    case FRAGMENT_ERROR:
        chunk_check_set(check, slot, LSVD_CHUNK_CORRUPT, "it can't be read");
        break;
    case FRAGMENT_UNKNOWN:
    case FRAGMENT_LOADING:
    case FRAGMENT_AWAY:
        break;
    }
}

/* Does the journal hold newer bytes for a block of this row? Then what lies
 * on the parts may be half of the old and half of the new. */
static bool
row_in_journal(struct lsvd_volume *v, uint64_t chunk, uint32_t row)
{
    uint8_t have[EC_DATA_MAX];
    uint32_t block = row * v->g.data_count, count = v->g.data_count;

    if (!v->journal)
        return false;
    if (block + count > v->g.chunk_blocks)
        count = v->g.chunk_blocks - block;
    journal_lookup(v->journal, geometry_first_block(&v->g, chunk) + block,
                   count, have);
    for (uint32_t i = 0; i < count; i++) {
        if (have[i] != 0)
            return true;
    }
    return false;
}

/* Encode the row's data and compare with the stored parity. False: it is not
 * that. */
static bool
check_parity(struct lsvd_volume *v, const struct rows *rows,
             const struct stripe *s, uint8_t *scratch,
             struct chunk_check *check)
{
    size_t bytes = v->g.block_bytes, at = (s->row - rows->first) * bytes;
    uint32_t data = (UINT32_C(1) << v->g.data_count) - 1;
    const uint8_t *in[EC_DATA_MAX];
    uint8_t *out[EC_PARITY_MAX];

    bool right = true;

    if ((s->good & data) != data)
        return true;
    for (uint32_t i = 0; i < v->g.data_count; i++)
        in[i] = rows->cell[i] + at;
    for (uint32_t i = 0; i < v->g.parity_count; i++)
        out[i] = scratch + i * bytes;
    ec_encode(v->ec, bytes, in, out);
    for (uint32_t i = 0; i < v->g.parity_count; i++) {
        uint32_t slot = v->g.data_count + i;

        if (s->state[slot] != CELL_GOOD ||
            memcmp(out[i], rows->cell[slot] + at, bytes) == 0)
            continue;
        chunk_check_set(check, slot, LSVD_CHUNK_CORRUPT,
                    "its parity is not that of the data");
        right = false;
    }
    return right;
}

static void
note_lost(struct lsvd_volume *v, struct rows *rows, const struct stripe *s,
          struct chunk_check *check)
{
    for (uint32_t i = 0; i < v->g.data_count; i++) {
        uint32_t block = geometry_block_of(&v->g, i, s->row);
        struct cell_entry entry;

        if (block == UINT32_MAX ||
            block >= geometry_blocks_in(&v->g, rows->chunk->number))
            continue;
        if (v->g.is_ec ? s->state[i] == CELL_GOOD : s->good != 0)
            continue;
        if (v->g.is_ec && rows_rebuild(v, rows, s, i, &entry) == 0)
            continue;
        if (check->lost_count == check->lost_max)
            return;
        check->lost[check->lost_count++] = block;
    }
}

static void
note_odd(struct chunk_check *check, uint32_t row)
{
    if (check->odd && check->odd_count < check->lost_max)
        check->odd[check->odd_count++] = row;
}

static void
check_row(struct lsvd_volume *v, struct rows *rows, uint32_t row,
          uint8_t *scratch, struct chunk_check *check)
{
    struct stripe s;
    bool odd = false;
    char text[96];

    if (row_in_journal(v, rows->chunk->number, row))
        return;
    rows_judge(v, rows, row, &s);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!rows->fragment[i] || s.state[i] == CELL_GOOD)
            continue;
        if (v->g.is_ec && i < v->g.data_count &&
            geometry_block_of(&v->g, i, row) == UINT32_MAX)
            continue;
        odd = true;
        if (s.state[i] == CELL_STALE) {
            snprintf(text, sizeof text, "row %u is older than the others",
                     row);
            chunk_check_set(check, i, LSVD_CHUNK_STALE, text);
        } else {
            snprintf(text, sizeof text, "row %u does not pass its check",
                     row);
            chunk_check_set(check, i, LSVD_CHUNK_CORRUPT, text);
        }
    }
    if (v->g.is_ec && !check_parity(v, rows, &s, scratch, check))
        odd = true;
    if (odd)
        note_odd(check, row);
    note_lost(v, rows, &s, check);
}

struct full_check {
    struct lsvd_volume *v;
    struct chunk *chunk;
    struct chunk_check *check;
    struct rows rows;
    uint8_t *scratch; /* a row's parity */
};

static int
check_rows(void *ctx, uint32_t first, uint32_t count)
{
    struct full_check *full = ctx;

    rows_load(full->v, full->chunk, first, count, &full->rows);
    full->check->unread |= full->rows.trouble != 0;
    for (uint32_t i = 0; i < count; i++)
        check_row(full->v, &full->rows, first + i, full->scratch,
                  full->check);
    return 0;
}

static int
check_full(struct lsvd_volume *v, struct chunk *c, struct chunk_check *check)
{
    struct full_check full = {.v = v, .chunk = c, .check = check};
    int r;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct fragment *f = chunk_fragment(v, c, i, NULL);

        if (f)
            fragment_drop_cache(f);
    }
    r = rows_new(v, rows_at_once(v), &full.rows);
    if (r == 0)
        r = mem_new_aligned((size_t)(v->g.parity_count + 1) *
                                v->g.block_bytes,
                            &full.scratch);
    if (r == 0)
        r = rows_each(v, check_rows, &full);
    free(full.scratch);
    rows_free(&full.rows);
    return r;
}

/* Without reading: too few files left means that the chunk is lost. */
static void
check_enough(struct lsvd_volume *v, uint64_t number,
             struct chunk_check *check)
{
    uint32_t healthy = 0, needed = v->g.is_ec ? v->g.data_count : 1;

    for (uint32_t i = 0; i < v->g.part_count; i++)
        healthy += check->kind[i] == LSVD_CHUNK_HEALTHY;
    if (healthy >= needed)
        return;
    check->lost_count = geometry_blocks_in(&v->g, number);
    for (uint32_t i = 0; i < check->lost_count; i++)
        check->lost[i] = i;
}

int
chunk_check(struct lsvd_volume *v, uint64_t number, bool full,
            const struct quick *quick, struct chunk_check *check)
{
    struct chunk_entry truth = chunk_truth(v, number);
    struct lease lease;
    struct chunk *c;
    int r;

    memset(check->kind, 0, sizeof check->kind);
    check->lost_count = check->odd_count = 0;
    check->unread = false;
    check->present = truth.state == CHUNK_PRESENT;
    if (!check->present)
        return 0;
    r = chunk_get(v, number, &c);
    if (r < 0)
        return r;
    lease_get(&v->chunk_leases, &lease, number, number + 1, true);
    chunk_forget_fragments(v, c);
    lease_put(&v->chunk_leases, &lease);
    /* Shared, as nobody but us could change it (V3): clients read on. */
    lease_get(&v->chunk_leases, &lease, number, number + 1, false);
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if (!(v->usable & UINT32_C(1) << i))
            chunk_check_set(check, i, LSVD_CHUNK_MISSING, v->part[i].problem);
        else if (full)
            check_file(v, c, i, truth, check);
        else
            check_quick(v, number, i, truth, quick, check);
    }
    if (full)
        r = check_full(v, c, check);
    if (full && r == 0 && volume_has_references(v))
        r = chunk_check_references(v, c, check);
    if (!full)
        check_enough(v, number, check);
    lease_put(&v->chunk_leases, &lease);
    chunk_put(v, c);
    return r;
}

static bool
check_is_clean(const struct chunk_check *check)
{
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        if (check->kind[i] != LSVD_CHUNK_HEALTHY)
            return false;
    }
    return check->lost_count == 0;
}

static bool
in_flux(struct lsvd_volume *v, uint64_t chunk)
{
    struct object *lock;
    int r;

    if (!v->part[0].dir ||
        target_open(v->part[0].dir, LOCK_NAME, 0, &lock) < 0)
        return false;
    r = object_is_locked(lock, LOCK_CHUNK_AT + chunk, 1);
    object_close(lock);
    return r > 0;
}

static int
tables_reload(struct lsvd_volume *v)
{
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];
        struct chunk_table *table;
        uint64_t damaged;
        int r;

        if (!(v->usable & UINT32_C(1) << i))
            continue;
        r = chunk_table_open(p->dir, &p->label.instance,
                             geometry_chunk_count(&v->g), false, &table,
                             &damaged);
        if (r < 0)
            return r;
        chunk_table_close(p->table);
        p->table = table;
    }
    return 0;
}

/* Look again until the chunk holds still. Clean: believed at once. */
static int
check_beside_server(struct lsvd_volume *v, uint64_t chunk, bool full,
                    struct chunk_check *check)
{
    struct chunk_entry before, after;
    int r;

    for (int i = 0; i < FLUX_POLLS_MAX; i++) {
        if (in_flux(v, chunk)) {
            pause_ms(50);
            continue;
        }
        r = tables_reload(v);
        if (r < 0)
            return r;
        before = chunk_truth(v, chunk);
        r = chunk_check(v, chunk, full, NULL, check);
        if (r < 0 || check_is_clean(check))
            return r;
        if (in_flux(v, chunk))
            continue;
        r = tables_reload(v);
        if (r < 0)
            return r;
        after = chunk_truth(v, chunk);
        if (before.seq == after.seq && before.state == after.state)
            return 0;
    }
    memset(check->kind, 0, sizeof check->kind);
    check->lost_count = 0;
    log_event(&v->log, LOG_WARNING_LEVEL,
              "volume %s: chunk %llu is being changed all the time; not "
              "checked",
              v->meta.name, (unsigned long long)chunk);
    return 0;
}

static void
emit_finding(struct verify *y, uint32_t slot, uint64_t chunk,
             enum lsvd_chunk_finding kind, const char *file, const char *text)
{
    struct lsvd_finding finding = {.part = slot < y->v->g.part_count
                                               ? (char)('a' + slot)
                                               : 0,
                                   .chunk = chunk,
                                   .kind = kind,
                                   .file = file,
                                   .text = text};

    if (y->cb && y->cb->finding)
        y->cb->finding(y->cb->ctx, &finding);
}

static void
count_finding(struct lsvd_part_report *part, enum lsvd_chunk_finding kind)
{
    switch (kind) {
    case LSVD_CHUNK_HEALTHY:
        part->healthy++;
        break;
    case LSVD_CHUNK_MISSING:
        part->missing++;
        break;
    case LSVD_CHUNK_STALE:
        part->stale++;
        break;
    case LSVD_CHUNK_CORRUPT:
        part->corrupt++;
        break;
    case LSVD_CHUNK_UNEXPECTED:
        part->unexpected++;
        break;
    }
}

static int
block_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

void
chunk_check_lost(struct lsvd_volume *v, uint64_t chunk,
                 struct chunk_check *check,
                 void (*lost)(void *ctx, const struct lsvd_lost_range *range),
                 void *ctx)
{
    uint64_t bytes = v->g.block_bytes;

    if (check->lost_count > 1)
        qsort(check->lost, check->lost_count, sizeof check->lost[0],
              block_order);
    for (uint32_t i = 0, run; i < check->lost_count; i += run) {
        struct lsvd_lost_range range;

        for (run = 1; i + run < check->lost_count &&
                      check->lost[i + run] == check->lost[i] + run;
             run++)
            ;
        range.offset = (geometry_first_block(&v->g, chunk) + check->lost[i]) *
                       bytes;
        range.count = run * bytes;
        if (range.offset + range.count > v->g.volume_bytes)
            range.count = v->g.volume_bytes - range.offset;
        lost(ctx, &range);
    }
}

static void
emit_doubtful(struct verify *y, uint64_t chunk, uint32_t block,
              uint32_t count)
{
    struct lsvd_volume *v = y->v;
    uint64_t bytes = v->g.block_bytes;
    struct lsvd_lost_range range = {
        .offset = (geometry_first_block(&v->g, chunk) + block) * bytes,
        .count = count * bytes};

    if (range.offset >= v->g.volume_bytes)
        return;
    if (range.offset + range.count > v->g.volume_bytes)
        range.count = v->g.volume_bytes - range.offset;
    if (y->cb && y->cb->doubtful)
        y->cb->doubtful(y->cb->ctx, &range);
}

/* After a loss that was accepted: where the parts do not agree, one of them
 * has what the others missed, and nobody knows what else was to come. Row by
 * row, where that can be told. */
static void
tell_doubtful(struct verify *y, uint64_t chunk,
              const struct chunk_check *check)
{
    struct lsvd_volume *v = y->v;
    uint32_t data = v->g.data_count, bad = 0;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        if ((v->usable & UINT32_C(1) << i) &&
            check->kind[i] != LSVD_CHUNK_HEALTHY)
            bad++;
    }
    y->unread += check->lost_count > 0 &&
                 (check->unread || (v->view.members & ~v->usable));
    if (bad == 0)
        return;
    y->mendable += check->lost_count == 0;
    if (!check->odd)
        return;
    if (check->odd_count == 0)
        emit_doubtful(y, chunk, 0, v->g.chunk_blocks);
    for (uint32_t i = 0; i < check->odd_count; i++)
        emit_doubtful(y, chunk, check->odd[i] * data, data);
}

static void
emit_lost(void *ctx, const struct lsvd_lost_range *range)
{
    struct verify *y = ctx;

    y->report->data_lost = true;
    y->report->lost_bytes += range->count;
    if (y->cb && y->cb->lost)
        y->cb->lost(y->cb->ctx, range);
}

static int
verify_chunk(struct verify *y, uint64_t chunk, const struct quick *quick,
             struct chunk_check *check)
{
    struct lsvd_volume *v = y->v;
    char file[600];
    int r;

    r = chunk_check(v, chunk, y->report->full, quick, check);
    if (r == 0 && v->observer && !check_is_clean(check))
        r = check_beside_server(v, chunk, y->report->full, check);
    if (r < 0 || !check->present)
        return r;
    for (uint32_t i = 0; i < v->g.part_count; i++) {
        count_finding(&y->report->part[i], check->kind[i]);
        if (check->kind[i] == LSVD_CHUNK_HEALTHY)
            continue;
        y->report->policy_met = false;
        snprintf(file, sizeof file, "%.512s/%llu",
                 v->part[i].dir ? v->part[i].dir->path : "?",
                 (unsigned long long)chunk);
        if (v->usable & UINT32_C(1) << i) /* a part away is told once */
            emit_finding(y, i, chunk, check->kind[i], file, check->text[i]);
    }
    chunk_check_lost(v, chunk, check, emit_lost, y);
    tell_doubtful(y, chunk, check);
    return 0;
}

struct listing {
    struct verify *y;
    uint32_t slot;
};

static bool
is_ours(const char *name)
{
    size_t bytes = strlen(name);

    return name[0] == '.' ||
           (bytes > 4 && strcmp(name + bytes - 4, ".new") == 0);
}

/* A name that the chunk tables do not explain. */
static int
judge_name(void *ctx, const char *name)
{
    struct listing *listing = ctx;
    struct verify *y = listing->y;
    struct lsvd_volume *v = y->v;
    char canonical[24] = "", file[800];
    unsigned long long number;
    char *end;

    if (is_ours(name))
        return 0;
    errno = 0;
    number = strtoull(name, &end, 10);
    if (references_chunk_of(name) == number && number > 0)
        end += strlen(end);
    if (isdigit((unsigned char)name[0]) && !*end && !errno && number >= 1 &&
        number <= geometry_chunk_count(&v->g)) {
        fragment_name(number, canonical);
        if ((strcmp(canonical, name) == 0 ||
             references_chunk_of(name) == number) &&
            (chunk_truth(v, number).state == CHUNK_PRESENT ||
             (v->observer &&
              (in_flux(v, number) || tables_reload(v) < 0 ||
               chunk_truth(v, number).state == CHUNK_PRESENT))))
            return 0;
    }
    y->report->part[listing->slot].unexpected++;
    snprintf(file, sizeof file, "%.512s/%.255s",
             v->part[listing->slot].dir->path, name);
    emit_finding(y, listing->slot, canonical[0] ? number : 0,
                 LSVD_CHUNK_UNEXPECTED, file,
                 "the chunk table knows no such file");
    return 0;
}

/* Labels, tables, copies of the policy, parts that are away. */
static void
verify_parts(struct verify *y)
{
    struct lsvd_volume *v = y->v;

    for (uint32_t i = 0; i < v->g.part_count; i++) {
        struct part *p = &v->part[i];
        char path[512];

        y->report->part[i].letter = p->letter;
        y->report->part[i].state = p->state;
        part_path(&v->meta, i, path, sizeof path);
        if (p->state != LSVD_PART_OK) {
            y->report->policy_met = false;
            emit_finding(y, i, 0, LSVD_CHUNK_MISSING, path, p->problem);
        } else if (!v->observer && p->table_doubtful) {
            y->report->policy_met = false;
            emit_finding(y, i, 0, LSVD_CHUNK_CORRUPT, path,
                         "its chunk table was missing, damaged or old");
        } else if (!v->observer && !v->attached &&
                   p->damaged_label_slots > 0) {
            y->report->policy_met = false;
            emit_finding(y, i, 0, LSVD_CHUNK_CORRUPT, path,
                         "one copy of its label is damaged");
        }
    }
    for (size_t i = 0; i < v->problem_count; i++) {
        uint32_t slot = v->problem[i].letter
                            ? (uint32_t)(v->problem[i].letter - 'a')
                            : UINT32_MAX;

        y->report->policy_met = false;
        emit_finding(y, slot, 0, LSVD_CHUNK_CORRUPT, v->problem[i].path,
                     v->problem[i].text);
    }
}

bool
verify_progress(struct verify *y)
{
    if (y->cb && y->cb->progress)
        y->cb->progress(y->cb->ctx, &y->progress);
    return y->cb && y->cb->cancelled && y->cb->cancelled(y->cb->ctx);
}

void
verify_note(struct verify *y, int r)
{
    if (r >= 0 || y->failed < 0)
        return;
    y->failed = r;
    snprintf(y->problem, sizeof y->problem, "%s", err_text());
}

int
verify_pass_over(struct verify *y, int r)
{
    if (r != -EIO && r != -EBADMSG)
        return r < 0 ? r : 0;
    verify_note(y, r);
    return 0;
}

int
verify_step_begin(struct verify *y, struct lease *role)
{
    int r = y->live ? role_get(y->v, role) : 0;

    y->step_ns = y->v->io->ops->now_ns(y->v->io);
    return r;
}

void
verify_step_end(struct verify *y, struct lease *role)
{
    if (y->live)
        role_put(y->v, role);
}

bool
verify_step_is_over(const struct verify *y)
{
    return !y->v->threaded ||
           y->v->io->ops->now_ns(y->v->io) - y->step_ns >= STEP_NS;
}

static int
verify_names(struct verify *y, uint32_t slot)
{
    struct lsvd_volume *v = y->v;
    struct listing listing = {y, slot};
    struct lease role;
    int r;

    r = verify_step_begin(y, &role);
    if (r < 0)
        return r;
    if (v->usable & UINT32_C(1) << slot)
        r = target_list(v->part[slot].dir, judge_name, &listing);
    verify_step_end(y, &role);
    return r;
}

/* Some chunks from *chunk on, in one step: *chunk is the next one then, or 0.
 */
static int
verify_some(struct verify *y, struct quick *quick, struct chunk_check *check,
            uint64_t *chunk)
{
    struct lsvd_volume *v = y->v;
    uint64_t end = *chunk + QUICK_CHUNKS;
    struct lease role;
    int r;

    r = verify_step_begin(y, &role);
    if (r < 0)
        return r;
    if (quick)
        quick_look(v, quick, *chunk);
    do {
        r = verify_chunk(y, *chunk, quick, check);
        y->progress.chunks_done += check->present;
        y->progress.bytes_done += check->present ? v->g.chunk_bytes : 0;
        *chunk = next_known_chunk(v, *chunk + 1);
    } while (r == 0 && *chunk &&
             (quick ? *chunk < end : !verify_step_is_over(y)));
    verify_step_end(y, &role);
    if (r == 0 && verify_progress(y))
        r = err_set(-EINTR, "interrupted");
    return r;
}

int
verify_volume(struct verify *y)
{
    struct lsvd_volume *v = y->v;
    struct chunk_check *check;
    struct quick *quick = NULL;
    uint64_t chunk;
    struct lease role;
    int r;

    y->report->policy_met = true;
    y->report->part_count = v->g.part_count;
    y->report->beside_server = v->observer;
    y->progress.chunks_total = count_present_chunks(v);
    r = chunk_check_new(v, &check);
    if (r < 0)
        return r;
    if (y->report->full && volume_has_accepted_loss(v))
        r = mem_new(check->lost_max, sizeof check->odd[0], &check->odd);
    if (r == 0)
        r = verify_step_begin(y, &role);
    if (r == 0) {
        verify_parts(y);
        verify_step_end(y, &role);
    }
    if (r == 0 && !y->report->full)
        r = quick_new(&quick);
    chunk = next_known_chunk(v, 1);
    while (r == 0 && chunk)
        r = verify_some(y, quick, check, &chunk);
    for (uint32_t i = 0; i < v->g.part_count && r == 0; i++)
        r = verify_names(y, i);
    quick_free(quick);
    chunk_check_free(check);
    return r;
}

int
verify_settles_loss(struct verify *y)
{
    struct lsvd_volume *v = y->v;
    struct lease role;
    int r;

    if (!volume_has_accepted_loss(v) || !y->report->full || v->observer ||
        y->mendable > 0 || y->unread > 0)
        return 0;
    r = verify_step_begin(y, &role);
    if (r < 0)
        return r;
    if (v->view.members & ~v->usable) {
        verify_step_end(y, &role);
        return 0;
    }
    pthread_mutex_lock(&v->state_lock);
    v->meta.accepted_loss = false;
    v->meta.generation++;
    pthread_mutex_unlock(&v->state_lock);
    r = volume_store_meta(v->io, &v->meta);
    verify_step_end(y, &role);
    event_note(v, LOG_WARNING_LEVEL, "force", 0,
               "the loss that was accepted is verified");
    return r;
}

int
lsvd_verify(const struct lsvd_env *env, const char *name, bool full,
            const struct lsvd_repair_callbacks *cb, struct lsvd_report *ret)
{
    struct verify y = {.cb = cb, .report = ret};
    int r, closed;

    memset(ret, 0, sizeof *ret);
    ret->full = full;
    r = volume_open(env, name, OPEN_REPAIR | OPEN_INSPECT, &y.v);
    if (r == -EBUSY)
        r = volume_open(env, name, LSVD_OPEN_NO_LOCK | OPEN_INSPECT, &y.v);
    if (r < 0)
        return r;
    if (full)
        sources_open_late(y.v, env);
    r = parent_check_known(y.v);
    if (r == 0 && y.v->attached)
        r = volume_drain(y.v);
    if (r == 0)
        r = verify_volume(&y);
    if (r == 0)
        r = verify_settles_loss(&y);
    if (r < 0) {
        lsvd_abandon(y.v);
        return r;
    }
    closed = lsvd_close(y.v);
    return closed;
}
