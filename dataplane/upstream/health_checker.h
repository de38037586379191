/* health_checker.h - active checks, and what people ask and say about health.
 *
 * One thread a process. It follows the snapshots as workers do, resolves the targets of upstreams
 * that are checked, probes their addresses at the intervals that `healthchecks` asks for, and tells
 * health.h what came of it. Upstreams that stay keep their intervals and their states whatever else
 * changes; a target that goes takes its states along, an upstream that goes leaves them for five
 * minutes to one of its name.
 *
 * Probes go out on a connection each. http and https ask for http_path and look at the status; grpc
 * and grpcs ask grpc.health.v1.Health/Check for the server's own health; tcp connects.
 */
#ifndef SB_DATAPLANE_UPSTREAM_HEALTH_CHECKER_H
#define SB_DATAPLANE_UPSTREAM_HEALTH_CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"

struct sb_health;
struct sb_health_checker;
struct sb_publication;
struct sb_settings;

/* settings are read during the call only; health must outlive the checker. */
SB_MUST enum sb_rc sb_health_checker_start(const struct sb_settings *settings,
                                           struct sb_health *health, struct sb_health_checker **out,
                                           struct sb_err *err);
/* NULL is nothing to do. Leaves the publication that it holds. */
void sb_health_checker_stop(struct sb_health_checker *c);

/* The next snapshot; the publication counts the checker among its holders. Never blocks. */
void sb_health_checker_publish(struct sb_health_checker *c, struct sb_publication *p);

/* What another node was told: "<upstream>|<target>|<address>|<1 or 0>", in ids. Ignored where it
 * means nothing here. Never blocks. */
void sb_health_checker_hear(struct sb_health_checker *c, struct sb_str word);

/* -- from any thread but a worker: both wait for the checker -- */

struct sb_health_view_address {
    struct sb_str ip; /* IPv6 in brackets */
    uint16_t port;
    unsigned weight;
    bool healthy;
};

struct sb_health_view_target {
    struct sb_str target, host; /* host:port */
    uint16_t port;
    int weight;
    const char *dns; /* where the addresses come from, or why there are none */
    const struct sb_health_view_address *addresses;
    size_t naddresses;
    uint64_t total, unavailable; /* weight */
};

struct sb_health_view {
    bool checked; /* some health check is switched on */
    bool healthy; /* enough of the weight is available */
    uint64_t total, unavailable;
    const struct sb_health_view_target *targets;
    size_t ntargets;
};

/* An upstream of the served snapshot, by name; everything in the arena. Waits a moment for names
 * that are being resolved. SB_NOTFOUND: it is not served. */
SB_MUST enum sb_rc sb_health_checker_view(struct sb_health_checker *c, struct sb_str upstream,
                                          struct sb_arena *a, struct sb_health_view *out);

/* A target ("host:port") or, where address is not "", one address of it ("ip" or "ip:port", port
 * 8000) is fit or not. SB_NOTFOUND: the upstream is not served, or has no health checks. */
SB_MUST enum sb_rc sb_health_checker_set(struct sb_health_checker *c, struct sb_str upstream,
                                         struct sb_str target, struct sb_str address, bool fit);

#endif
