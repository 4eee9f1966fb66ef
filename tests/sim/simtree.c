/* simtree.c: names and inodes of the simulated world. The tree is a few
 * levels deep and made by the harness and the engine alone, so walking it by
 * recursion is bounded. */
#include "simtree.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *
must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct sim_inode *
sim_inode_new(bool is_dir)
{
    struct sim_inode *inode = must(calloc(1, sizeof *inode));

    inode->refs = 1;
    inode->is_dir = is_dir;
    return inode;
}

struct sim_inode *
sim_inode_get(struct sim_inode *inode)
{
    inode->refs++;
    return inode;
}

static void
names_done(struct sim_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        sim_inode_put(names->name[i].inode);
    free(names->name);
    *names = (struct sim_names){0};
}

static void
pending_clear(struct sim_inode *dir)
{
    for (size_t i = 0; i < dir->pending_count; i++)
        sim_inode_put(dir->pending[i].inode);
    dir->pending_count = 0;
}

void
sim_inode_put(struct sim_inode *inode)
{
    if (--inode->refs > 0)
        return;
    names_done(&inode->now);
    names_done(&inode->medium);
    pending_clear(inode);
    free(inode->pending);
    sim_file_done(&inode->file);
    free(inode->lock);
    free(inode);
}

static struct sim_name *
names_slot(const struct sim_names *names, const char *text)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->name[i].text, text) == 0)
            return &names->name[i];
    }
    return NULL;
}

struct sim_inode *
sim_names_find(const struct sim_names *names, const char *text)
{
    struct sim_name *slot = names_slot(names, text);

    return slot ? slot->inode : NULL;
}

/* Add, or replace what has that name. */
static void
names_set(struct sim_names *names, const char *text, struct sim_inode *inode)
{
    struct sim_name *slot = names_slot(names, text);

    sim_inode_get(inode);
    if (slot) {
        sim_inode_put(slot->inode);
        slot->inode = inode;
        return;
    }
    if (names->count == names->room) {
        names->room = names->room ? names->room * 2 : 8;
        names->name =
            must(realloc(names->name, names->room * sizeof *names->name));
    }
    slot = &names->name[names->count++];
    assert(strlen(text) < sizeof slot->text);
    strcpy(slot->text, text);
    slot->inode = inode;
}

static void
names_remove(struct sim_names *names, const char *text)
{
    struct sim_name *slot = names_slot(names, text);
    size_t index;

    if (!slot)
        return;
    index = (size_t)(slot - names->name);
    sim_inode_put(slot->inode);
    memmove(slot, slot + 1, (names->count - index - 1) * sizeof *slot);
    names->count--;
}

static void
names_copy(const struct sim_names *from, struct sim_names *to)
{
    struct sim_names fresh = {0};

    for (size_t i = 0; i < from->count; i++)
        names_set(&fresh, from->name[i].text, from->name[i].inode);
    names_done(to);
    *to = fresh;
}

/* Do it, if it is possible: a rename or a removal whose file never came to be
 * under that name falls away with it. */
static void
names_apply(struct sim_names *names, const struct sim_name_op *op)
{
    switch (op->kind) {
    case SIM_NAME_CREATE:
        names_set(names, op->from, op->inode);
        break;
    case SIM_NAME_REMOVE:
        if (sim_names_find(names, op->from) == op->inode)
            names_remove(names, op->from);
        break;
    case SIM_NAME_RENAME:
        if (sim_names_find(names, op->from) == op->inode) {
            names_set(names, op->to, op->inode);
            names_remove(names, op->from);
        }
        break;
    }
}

static struct sim_name_op *
pending_add(struct sim_inode *dir, enum sim_name_kind kind, uint64_t serial,
            const char *from, const char *to, struct sim_inode *inode)
{
    struct sim_name_op *op;

    if (dir->pending_count == dir->pending_room) {
        dir->pending_room = dir->pending_room ? dir->pending_room * 2 : 8;
        dir->pending = must(
            realloc(dir->pending, dir->pending_room * sizeof *dir->pending));
    }
    op = &dir->pending[dir->pending_count++];
    *op = (struct sim_name_op){.kind = kind, .serial = serial};
    assert(strlen(from) < sizeof op->from);
    strcpy(op->from, from);
    assert(strlen(to) < sizeof op->to);
    strcpy(op->to, to);
    op->inode = sim_inode_get(inode);
    return op;
}

void
sim_dir_create(struct sim_inode *dir, uint64_t serial, const char *name,
               struct sim_inode *inode)
{
    assert(!sim_names_find(&dir->now, name));
    names_apply(&dir->now, pending_add(dir, SIM_NAME_CREATE, serial, name, "",
                                       inode));
}

void
sim_dir_remove(struct sim_inode *dir, uint64_t serial, const char *name)
{
    struct sim_inode *inode = sim_names_find(&dir->now, name);

    assert(inode);
    names_apply(&dir->now, pending_add(dir, SIM_NAME_REMOVE, serial, name, "",
                                       inode));
}

void
sim_dir_rename(struct sim_inode *dir, uint64_t serial, const char *from,
               const char *to)
{
    struct sim_inode *inode = sim_names_find(&dir->now, from);

    assert(inode);
    names_apply(&dir->now, pending_add(dir, SIM_NAME_RENAME, serial, from, to,
                                       inode));
}

void
sim_dir_sync(struct sim_inode *dir)
{
    names_copy(&dir->now, &dir->medium);
    pending_clear(dir);
}

void
sim_dir_replace(struct sim_inode *dir, const char *name,
                struct sim_inode *inode)
{
    names_set(&dir->now, name, inode);
    names_set(&dir->medium, name, inode);
}

static void
dir_power_cut(struct sim_inode *dir, const struct sim_cut *cut)
{
    for (size_t i = 0; i < dir->pending_count; i++) {
        if (sim_cut_keeps(cut, dir->pending[i].serial))
            names_apply(&dir->medium, &dir->pending[i]);
    }
    pending_clear(dir);
    names_copy(&dir->medium, &dir->now);
}

void
sim_tree_power_cut(struct sim_inode *root, const struct sim_cut *cut)
{
    if (!root->is_dir) {
        sim_file_power_cut(&root->file, cut);
        return;
    }
    dir_power_cut(root, cut);
    for (size_t i = 0; i < root->now.count; i++)
        sim_tree_power_cut(root->now.name[i].inode, cut);
}

void
sim_tree_sync(struct sim_inode *root)
{
    if (!root->is_dir) {
        sim_file_sync(&root->file);
        return;
    }
    sim_dir_sync(root);
    for (size_t i = 0; i < root->now.count; i++)
        sim_tree_sync(root->now.name[i].inode);
}

void
sim_tree_forget_locks(struct sim_inode *root)
{
    root->lock_count = 0;
    for (size_t i = 0; i < root->now.count; i++)
        sim_tree_forget_locks(root->now.name[i].inode);
}

/* An inode can have several names (now, medium, pending): it is copied once,
 * and its twin found again. The reference goes to the caller. */
static struct sim_inode *
twin_of(struct sim_inode *inode)
{
    struct sim_inode *copy;

    if (inode->twin)
        return sim_inode_get(inode->twin);
    copy = sim_inode_new(inode->is_dir);
    inode->twin = copy;
    copy->hidden = inode->hidden;
    sim_file_clone(&inode->file, &copy->file);
    for (size_t i = 0; i < inode->now.count; i++) {
        struct sim_inode *twin = twin_of(inode->now.name[i].inode);

        names_set(&copy->now, inode->now.name[i].text, twin);
        sim_inode_put(twin);
    }
    for (size_t i = 0; i < inode->medium.count; i++) {
        struct sim_inode *twin = twin_of(inode->medium.name[i].inode);

        names_set(&copy->medium, inode->medium.name[i].text, twin);
        sim_inode_put(twin);
    }
    for (size_t i = 0; i < inode->pending_count; i++) {
        const struct sim_name_op *op = &inode->pending[i];
        struct sim_inode *twin = twin_of(op->inode);

        pending_add(copy, op->kind, op->serial, op->from, op->to, twin);
        sim_inode_put(twin);
    }
    return copy;
}

static void
forget_twins(struct sim_inode *inode)
{
    if (!inode->twin)
        return;
    inode->twin = NULL;
    for (size_t i = 0; i < inode->now.count; i++)
        forget_twins(inode->now.name[i].inode);
    for (size_t i = 0; i < inode->medium.count; i++)
        forget_twins(inode->medium.name[i].inode);
    for (size_t i = 0; i < inode->pending_count; i++)
        forget_twins(inode->pending[i].inode);
}

struct sim_inode *
sim_tree_clone(struct sim_inode *root)
{
    struct sim_inode *copy = twin_of(root);

    forget_twins(root);
    return copy;
}

struct sim_inode *
sim_tree_find(struct sim_inode *root, const char *path, bool see_hidden)
{
    struct sim_inode *at = root;

    assert(path[0] == '/');
    while (at) {
        char name[SIM_NAME_BYTES];
        size_t n;

        path += strspn(path, "/");
        if (at->hidden && !see_hidden)
            return NULL;
        if (*path == '\0')
            return at;
        n = strcspn(path, "/");
        assert(n < sizeof name);
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
        at = at->is_dir ? sim_names_find(&at->now, name) : NULL;
    }
    return NULL;
}
