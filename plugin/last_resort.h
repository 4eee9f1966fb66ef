/* last_resort.h: nothing that hangs keeps the server from ending.
 *
 * Parts, and copies of the journal, are given up in time. But somebody may wait
 * for the only journal there is, or for what nobody has thought of: if for
 * LAST_RESORT_MS after a signal no volume comes to its end, the process ends as
 * if it was killed, which loses nothing. */
#ifndef LSVD_PLUGIN_LAST_RESORT_H
#define LSVD_PLUGIN_LAST_RESORT_H

/* What a hurried end may take (HURRIED_DRAIN_NS and HURRIED_DEADLINE_MS of the
 * engine), and a second; below 10 s. */
#define LAST_RESORT_MS 9000

/* In .after_fork. signal_fd becomes readable, for good, when the server is to
 * end. 0, or -1 after an nbdkit_error. */
int last_resort_start(int signal_fd);

/* First in .cleanup: it may have begun without a signal. */
void last_resort_closing(void);

/* A volume has come to its end: the others have as long again. */
void last_resort_progress(void);

/* Last in .cleanup. */
void last_resort_stop(void);

#endif
