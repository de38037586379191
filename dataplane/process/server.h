/* server.h - the running gateway: puts the parts together, waits for signals, takes them apart.
 *
 * Signals are Kong's (configuration.md 8): TERM and INT stop at once, QUIT stops gracefully, HUP
 * reads the configuration again, USR1 reopens the logs.
 */
#ifndef SB_DATAPLANE_PROCESS_SERVER_H
#define SB_DATAPLANE_PROCESS_SERVER_H

#include "shared/err.h"

struct sb_options;
struct sb_settings;

/* Runs until a signal ends it. started(arg) is called once when everything listens. Signals must
 * not be blocked by the caller; they are when this returns. The settings stay the caller's. */
SB_MUST enum sb_rc sb_server_run(const struct sb_options *options, const struct sb_settings *s,
                                 void (*started)(void *arg), void *arg, struct sb_err *err);

#endif
