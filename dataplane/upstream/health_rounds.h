/* health_rounds.h - the intervals of an upstream's active checks.
 *
 * Two rounds an upstream: one goes through the addresses that are healthy, one through the others,
 * each at its own interval. A round that is due while its last one still runs is left out. No more
 * than `concurrency` probes of a round run at once, and no more than a few hundred in all.
 */
#ifndef SB_DATAPLANE_UPSTREAM_HEALTH_ROUNDS_H
#define SB_DATAPLANE_UPSTREAM_HEALTH_ROUNDS_H

#include "dataplane/upstream/health.h"
#include "shared/http_client.h"

struct event_base;
struct sb_prober;
struct sb_rounds;

struct sb_prober *sb_prober_new(struct event_base *base);
/* After all rounds. */
void sb_prober_free(struct sb_prober *p);

/* What probes need to know. Pointed to, so it must live until it is set anew or the rounds stop. */
struct sb_rounds_order {
    const struct sb_health_checks *checks;
    const struct sb_http_tls *tls;
    struct sb_str host_header;
};

struct sb_rounds *sb_rounds_new(struct sb_prober *p, struct sb_health_upstream *upstream);
void sb_rounds_free(struct sb_rounds *r);
/* Starts, or goes on: an interval that stays the same keeps its phase. */
void sb_rounds_set(struct sb_rounds *r, const struct sb_rounds_order *order);
void sb_rounds_stop(struct sb_rounds *r);

#endif
