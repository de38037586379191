/* probes.h - /healthz and /readyz, /metrics (reference/kic-operations.md 8, 9). */
#ifndef SB_CONTROLPLANE_STATUS_PROBES_H
#define SB_CONTROLPLANE_STATUS_PROBES_H

#include "shared/buf.h"
#include "shared/err.h"

struct event_base;
struct sb_probes;

struct sb_probes_config {
    struct event_base *base;
    const char *health, *metrics; /* "host:port", ":port"; NULL or "0": none */
    /* NULL when ready, else why not. */
    const char *(*not_ready)(void *arg);
    /* Appends the metrics in Prometheus' text format. */
    void (*write_metrics)(void *arg, struct sb_buf *out);
    void *arg;
};

SB_MUST enum sb_rc sb_probes_start(const struct sb_probes_config *config, struct sb_probes **out,
                                   struct sb_err *err);
void sb_probes_stop(struct sb_probes *probes);

#endif
