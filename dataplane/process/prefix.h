/* prefix.h - the working directory of a node, laid out as Kong's so that people's tools find what
 * they look for (configuration.md 7): pids/nginx.pid, logs/, ssl/, .kong_env.
 */
#ifndef SB_DATAPLANE_PROCESS_PREFIX_H
#define SB_DATAPLANE_PROCESS_PREFIX_H

#include <stdbool.h>
#include <sys/types.h>

#include "shared/err.h"

struct sb_settings;

/* Makes the directory and what belongs in it, and writes .kong_env (mode 640). */
SB_MUST enum sb_rc sb_prefix_prepare(const struct sb_settings *s, struct sb_err *err);
/* The process that runs in this prefix; 0: none. A stale pid file counts as none. */
pid_t sb_prefix_pid(const char *prefix);
SB_MUST enum sb_rc sb_prefix_write_pid(const char *prefix, struct sb_err *err);
void sb_prefix_remove_pid(const char *prefix);

/* Waits until a process is gone; false when it still runs after timeout_ms. */
bool sb_process_wait(pid_t pid, int timeout_ms);

#endif
