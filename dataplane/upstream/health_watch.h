/* health_watch.h - inside upstream/: the upstreams of the served snapshot that have health checks,
 * and their probes. The health checker's thread alone calls this. */
#ifndef SB_DATAPLANE_UPSTREAM_HEALTH_WATCH_H
#define SB_DATAPLANE_UPSTREAM_HEALTH_WATCH_H

#include <stdbool.h>

#include "dataplane/upstream/resolver.h"
#include "shared/http_client.h"

struct event_base;
struct sb_health;
struct sb_health_watch;
struct sb_publication;
struct sb_snapshot;

/* Everything must outlive it; what trust points to, too. */
struct sb_health_watch *sb_health_watch_new(struct event_base *base, struct sb_resolver *resolver,
                                            struct sb_health *health,
                                            const struct sb_http_tls *trust);
void sb_health_watch_free(struct sb_health_watch *w);

/* Takes the next snapshot, and leaves the one before. */
void sb_health_watch_follow(struct sb_health_watch *w, struct sb_publication *p);
const struct sb_snapshot *sb_health_watch_snapshot(const struct sb_health_watch *w); /* or NULL */

/* As sb_health_checker_set. False: the upstream is not checked. */
bool sb_health_watch_set(struct sb_health_watch *w, struct sb_str upstream, struct sb_str target,
                         struct sb_str address, bool fit);
/* "<upstream>|<target>|<address>|<1 or 0>", in ids; ignored where it means nothing. */
void sb_health_watch_hear(struct sb_health_watch *w, struct sb_str word);

#endif
