/* hangup.h: idle clients and media that hang don't keep the server from ending.
 *
 * nbdkit waits at SIGTERM until every client has gone; an idle one (a mounted
 * /dev/nbd0, a virtual machine) stays for ever and the supervisor would kill
 * the server in the end. So, once the signal has come and no request is
 * running, we close the reading side of the connections: nbdkit sees their
 * end, finishes and calls .cleanup. If all that takes too long the process
 * ends as if it was killed, which loses nothing. */
#ifndef LSVD_PLUGIN_HANGUP_H
#define LSVD_PLUGIN_HANGUP_H

/* In .after_fork, once. 0, or -1 after an nbdkit_error. */
int hangup_start(void);

/* First in .cleanup: connections are left alone from now on. */
void hangup_closing(void);
/* Last in .cleanup. */
void hangup_stop(void);

/* Around every request. */
void hangup_enter(void);
void hangup_leave(void);

#endif
