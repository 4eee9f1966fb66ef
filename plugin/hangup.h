/* hangup.h: an idle client doesn't keep the server from ending.
 *
 * nbdkit waits at SIGTERM until every client has gone; an idle one (a mounted
 * /dev/nbd0, a virtual machine) stays for ever and the supervisor would kill
 * the server in the end. So, once the signal has come and no request is
 * running, we close the reading side of the connections: nbdkit sees their
 * end, finishes and calls .cleanup. */
#ifndef LSVD_PLUGIN_HANGUP_H
#define LSVD_PLUGIN_HANGUP_H

/* In .after_fork, once. 0, or -1 after an nbdkit_error. */
int hangup_start(void);

/* Readable, for good, once one of nbdkit's signals to end has come. */
int hangup_signal_fd(void);

/* In .cleanup. */
void hangup_stop(void);

/* Around every request. */
void hangup_enter(void);
void hangup_leave(void);

#endif
