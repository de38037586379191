/* limits.h - what the system allows this process, looked at once at its start. */
#ifndef SB_DATAPLANE_LISTEN_LIMITS_H
#define SB_DATAPLANE_LISTEN_LIMITS_H

struct sb_proxy_options;
struct sb_settings;

/* How many cores may be used: those that the process may run on, but no more than the quotas of its
 * control groups pay for, rounded up. At least 1. */
unsigned sb_limits_cores(void);
/* The same from files below a root and for a given path in the hierarchy: cpu.max of cgroup v2, or
 * cpu.cfs_quota_us and cpu.cfs_period_us of v1. 0: no quota. */
unsigned sb_limits_quota(const char *root, const char *path);

/* Raises the limit of open files to nginx_main_worker_rlimit_nofile (auto: as far as it goes), and
 * warns of what will not work as set: files, backlogs, outgoing ports. */
void sb_limits_apply(const struct sb_settings *s, const struct sb_proxy_options *o);

#endif
