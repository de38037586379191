/* workers.h - the threads that serve traffic.
 *
 * A worker owns an event loop, a listener of its own on every address (SO_REUSEPORT), its client
 * and upstream connections and its counters; no one reaches across. What the rest of the process
 * wants of a worker it sends as a message, which the worker takes between two events:
 *
 *     config thread --publish(snapshot 42)--> worker 1..n      each swaps its pointer
 *     an exchange keeps the snapshot that it began with        the last to leave calls retired()
 *
 * Settings read here (reference/configuration.md): nginx_main_worker_processes, proxy_listen,
 * port_maps, ssl_*, trusted_ips, real_ip_*, headers*, error_*, upstream_keepalive_*, dns_*,
 * nginx_http_* limits and timeouts, proxy_access_log, prefix.
 */
#ifndef SB_DATAPLANE_LISTEN_WORKERS_H
#define SB_DATAPLANE_LISTEN_WORKERS_H

#include <stdint.h>

#include "shared/err.h"
#include "shared/str.h"

struct sb_health_checker;
struct sb_settings;
struct sb_snapshot;
struct sb_workers;

/* Sums over all workers, as of the call; each number by itself is exact, together they may be a
 * moment apart. Active is what is open now, everything else counts since the start. */
struct sb_proxy_stats {
    uint64_t connections_accepted, connections_handled, connections_active;
    uint64_t connections_reading, connections_writing, connections_waiting; /* of the active */
    uint64_t requests, bytes_in, bytes_out;
    uint64_t status[6]; /* [1]: 1xx ... [5]: 5xx, [0]: others */
    uint64_t upstream_connects, upstream_reuses;
};

/* Opens the listeners and starts the threads. Connections wait in the kernel until the first
 * snapshot is published. Settings are read during the call only. On failure nothing is left open,
 * and err names the setting. */
SB_MUST enum sb_rc sb_workers_start(const struct sb_settings *settings, struct sb_workers **out,
                                    struct sb_err *err);

/* Hands every worker a new snapshot; from any thread, never blocks. retired(arg, snap) is called
 * once, on a worker thread, when no worker and no exchange holds snap any more. */
void sb_workers_publish(struct sb_workers *ws, const struct sb_snapshot *snap,
                        void (*retired)(void *arg, const struct sb_snapshot *snap), void *arg);

/* Accepts what is queued, closes the listeners, and lets exchanges finish, with Connection: close.
 * Idle connections are closed after idle_ms. Returns at once; calling it again may shorten idle_ms.
 */
void sb_workers_drain(struct sb_workers *ws, int64_t idle_ms);
/* Readable when all threads have ended: every connection is gone. */
int sb_workers_ended_fd(const struct sb_workers *ws);
/* Ends the threads, after waiting at most drain_ms for exchanges (0: cuts them off), and frees
 * everything. Snapshots still held are retired on the way, by the caller's thread. Blocks. */
void sb_workers_stop(struct sb_workers *ws, int64_t drain_ms);

/* What another node was told about health; any thread, never blocks. */
void sb_workers_hear_health(struct sb_workers *ws, struct sb_str word);
/* Who knows the health of upstreams (dataplane/upstream/health_checker.h). */
struct sb_health_checker *sb_workers_health(const struct sb_workers *ws);
/* What was looked up, remembered and shared by all: dataplane/plugins/parts.h. */
struct sb_credentials;
const struct sb_credentials *sb_workers_credentials(const struct sb_workers *ws);
/* Sums over all workers, like the stats: dataplane/plugins/credentials/lookup.h. */
struct sb_lookup_stats;
void sb_workers_lookups(const struct sb_workers *ws, struct sb_lookup_stats *out);

unsigned sb_workers_count(const struct sb_workers *ws);
void sb_workers_stats(const struct sb_workers *ws, struct sb_proxy_stats *out);

/* Opens the access log's file anew (after rotation). Any thread. */
void sb_workers_reopen_logs(struct sb_workers *ws);

#endif
