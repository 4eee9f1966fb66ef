/* reach.h: the sockets in a cache directory, without waiting for one that
 * hangs: threads of their own touch it, and are given up after REACH_MS. They
 * end with the process, or when the directory answers after all. */
#ifndef LSVD_CONTROL_REACH_H
#define LSVD_CONTROL_REACH_H

#include <stddef.h>

#define REACH_MS 3000
#define REACH_NAME_BYTES 64

struct reach_names {
    size_t count;
    char (*name)[REACH_NAME_BYTES]; /* owned */
};

/* Names of sockets of servers; ret is the caller's to free with
 * reach_names_done. 0, also if the directory can't be read: it has none then;
 * -EHOSTDOWN: it hangs; -ENOMEM. */
int reach_list(const char *directory, struct reach_names *ret);
void reach_names_done(struct reach_names *names);

/* A connection to one of them (non-blocking, close-on-exec), or a negative
 * errno: -EAGAIN, the server takes none any more: it hangs, or is stopped;
 * -EHOSTDOWN, the directory hangs. */
int reach_connect(const char *directory, const char *name);

#endif
