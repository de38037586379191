/* master.h - the process that stays: it keeps the pid and the listening sockets, and starts and
 * ends the processes that serve. */
#ifndef SB_DATAPLANE_PROCESS_MASTER_H
#define SB_DATAPLANE_PROCESS_MASTER_H

#include "shared/err.h"

struct sb_options;

/* Runs until a signal ends it. started(arg) is called once, when the first process serves. The
 * caller has no threads; signals are blocked when this returns. *code: the exit code. On failure
 * nothing was started, and err says why. */
SB_MUST enum sb_rc sb_master_run(const struct sb_options *options, const char *prefix,
                                 void (*started)(void *arg), void *arg, int *code,
                                 struct sb_err *err);

#endif
