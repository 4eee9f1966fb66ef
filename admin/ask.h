/* ask.h: tools ask the server of a volume that is served on this host. */
#ifndef LSVD_ADMIN_ASK_H
#define LSVD_ADMIN_ASK_H

#include "cli.h"
#include <control/client.h>

/* control_ask, with the caches that the command line and the configuration
 * name. -ENOENT or -EACCES: no server that we may ask has it, see
 * ask_is_offline. */
int cli_ask(struct cli *cli, const struct control_ask *ask,
            json_t **ret_result, char error[CONTROL_ERROR_BYTES]);

/* True if what cli_ask returned means that the volume may be opened without
 * its server: the lock will tell. */
bool ask_is_offline(int result);

/* Values of an answer; what is missing or of another type is 0, "" or
 * false. */
uint64_t ask_u64(const json_t *object, const char *key);
const char *ask_text(const json_t *object, const char *key);
bool ask_bool(const json_t *object, const char *key);
char ask_letter(const json_t *object, const char *key);

#endif
