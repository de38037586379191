/* health_probe.h - one probe of one address, on libcurl. */
#ifndef SB_DATAPLANE_UPSTREAM_HEALTH_PROBE_H
#define SB_DATAPLANE_UPSTREAM_HEALTH_PROBE_H

#include "dataplane/upstream/health.h"
#include "shared/http_client.h"

struct sb_probe;

/* What is read during sb_probe_start only. */
struct sb_probe_order {
    const struct sb_health_checks *checks;
    const struct sb_http_tls *tls;
    struct sb_str host_header; /* the upstream's; "" */
    struct sb_str host;        /* the target's name, or an address as text */
    const union sb_sockaddr *addr;
};

/* How a probe ended: what to report, or the status to report by. */
struct sb_probe_result {
    int status; /* 0: there was none */
    enum sb_health_report report;
};

/* done is called once, from the loop, unless the probe is cancelled. */
struct sb_probe *sb_probe_start(struct sb_http *http, const struct sb_probe_order *order,
                                void (*done)(void *arg, const struct sb_probe_result *result),
                                void *arg);
void sb_probe_cancel(struct sb_probe *p);

#endif
