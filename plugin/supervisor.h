/* supervisor.h: systemd, or whoever started us so, is told that the server is
 * ready and that it is alive: sd_notify(3)'s protocol, a word in a datagram.
 *
 * Alive means more than that there is a process: every volume could be asked
 * how it is. A server in which one can't (its locks are stuck) falls silent,
 * and WatchdogSec= has it started again. */
#ifndef LSVD_PLUGIN_SUPERVISOR_H
#define LSVD_PLUGIN_SUPERVISOR_H

/* Last in .after_fork: sockets are listening. 0, or -1 after an
 * nbdkit_error. */
int supervisor_start(void);

/* First in .cleanup: from now on volumes are closed, which may take long and
 * is not looked at. */
void supervisor_closing(void);

/* Last in .cleanup. */
void supervisor_stop(void);

#endif
