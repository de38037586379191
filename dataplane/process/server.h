/* server.h - a serving process: puts the parts together, waits for signals and for the master,
 * takes the parts apart.
 *
 * TERM and INT stop at once, QUIT finishes what is under way, USR1 reopens the logs.
 */
#ifndef SB_DATAPLANE_PROCESS_SERVER_H
#define SB_DATAPLANE_PROCESS_SERVER_H

#include "shared/err.h"

struct sb_settings;

/* Runs until a signal or the master ends it. Sockets were adopted before (listen/sockets.h);
 * channel: to the master (channel.h). The settings stay the caller's. On failure nothing serves. */
SB_MUST enum sb_rc sb_server_run(const struct sb_settings *s, int channel, struct sb_err *err);

#endif
