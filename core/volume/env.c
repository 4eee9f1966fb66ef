/* env.c: what a caller's struct lsvd_env comes to: settings, and the world that
 * the engine sees.
 *
 * Roots and parts are reached through the guard: no call on them lasts longer
 * than the part-timeout. A cache directory that is alone is not: a journal that
 * hangs has nobody else to go on with, and its calls are not worth a hand-over
 * each. Of two each has a guard of its own, which gives nothing up by itself
 * while they serve: the mirror does, when the other one answers. The read cache
 * has one, too, wherever it lies: it can be done without. A world that the
 * caller brings (the simulator) is taken as it is. */
#include "base/err.h"
#include "base/memory.h"
#include "meta/fault_rules.h"
#include "target/guard.h"
#include "volume/volume.h"
#include <stdlib.h>
#include <string.h>

static int
list_copy(char **const from, const char *const *given, char ***ret)
{
    size_t count = 0;
    char **list = NULL;
    int r;

    while (given ? given[count] != NULL : from[count] != NULL)
        count++;
    r = mem_new(count + 1, sizeof(char *), &list);
    for (size_t i = 0; i < count && r == 0; i++)
        r = mem_dup(given ? given[i] : from[i], &list[i]);
    if (r < 0) {
        for (size_t i = 0; list && i < count; i++)
            free(list[i]);
        free(list);
        return r;
    }
    *ret = list;
    return 0;
}

static void
list_free(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

static int
override(const struct lsvd_env *env, struct config *config)
{
    char **list;
    int r = 0;

    if (env->data && env->data[0]) {
        r = list_copy(NULL, env->data, &list);
        if (r < 0)
            return r;
        list_free(config->data);
        config->data = list;
    }
    if (env->cache && env->cache[0]) {
        r = list_copy(NULL, env->cache, &list);
        if (r < 0)
            return r;
        list_free(config->cache);
        config->cache = list;
    }
    for (size_t i = 0; r == 0 && env->settings && env->settings[i]; i++)
        r = config_set(config, env->settings[i]);
    if (env->ram_bytes > 0)
        config->ram_bytes = env->ram_bytes;
    return r;
}

static int
world_make(const struct lsvd_env *env, const struct config *config,
           const struct logger *log, struct env_world *w)
{
    bool mirrored = config->cache[0] && config->cache[1];
    int r = 0;

    memset(w, 0, sizeof *w);
    w->timeout_ms = config->part_timeout_s * 1000;
    w->io = w->cache_io = env->io ? env->io : io_system();
    if (env->fault_path) {
        r = fault_rules_new(w->io, env->fault_path, log, &w->fault);
        if (r < 0)
            return r;
        w->io = w->cache_io = w->fault;
    }
    if (env->io)
        return 0;
    for (size_t i = 0; mirrored && r == 0 && i < MIRROR_COPIES_MAX; i++) {
        r = guard_new(w->cache_io, w->timeout_ms, &w->copy_guard[i]);
        if (r == 0)
            guard_set_waits(w->copy_guard[i]);
    }
    if (r == 0 && config->cache_bytes > 0)
        r = guard_new(w->cache_io, w->timeout_ms, &w->read_guard);
    if (r == 0)
        r = guard_new(w->io, w->timeout_ms, &w->guard);
    if (r == 0)
        w->io = w->guard;
    return r;
}

int
env_open_cache(const struct env_world *w, const struct config *config,
               size_t nth, struct target **ret)
{
    struct io *io = nth < MIRROR_COPIES_MAX && w->copy_guard[nth]
                        ? w->copy_guard[nth] : w->cache_io;

    return io->ops->open_dir(io, config->cache[nth], 0, ret);
}

void
env_cache_patience(const struct env_world *w, size_t nth, bool forever)
{
    if (w->copy_guard[nth])
        guard_set_deadline(w->copy_guard[nth],
                           forever ? GUARD_FOREVER : w->timeout_ms);
}

int
env_load(const struct lsvd_env *env, const char *name, struct config *ret,
         struct env_world *ret_world, struct logger *ret_log)
{
    int r;

    ret_log->cb = (log_cb)(void (*)(void))env->log;
    ret_log->ctx = env->log_ctx;
    r = config_load(env->config_path, name, ret);
    if (r < 0)
        return r;
    r = override(env, ret);
    if (r == 0) {
        r = world_make(env, ret, ret_log, ret_world);
        if (r < 0)
            env_done(ret_world);
    }
    if (r < 0)
        config_done(ret);
    return r;
}

void
env_done(struct env_world *w)
{
    guard_free(w->guard);
    guard_free(w->read_guard);
    for (size_t i = 0; i < MIRROR_COPIES_MAX; i++)
        guard_free(w->copy_guard[i]);
    fault_free(w->fault);
    memset(w, 0, sizeof *w);
}
