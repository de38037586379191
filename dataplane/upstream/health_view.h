/* health_view.h - inside upstream/: an upstream's targets with the health of their addresses. */
#ifndef SB_DATAPLANE_UPSTREAM_HEALTH_VIEW_H
#define SB_DATAPLANE_UPSTREAM_HEALTH_VIEW_H

#include "dataplane/upstream/health.h"
#include "dataplane/upstream/health_checker.h"
#include "dataplane/upstream/targets.h"

/* health NULL: nothing is checked. Everything in the arena, or in t. */
void sb_health_view_fill(struct sb_arena *a, const struct sb_targets *t,
                         const struct sb_health_checks *checks, struct sb_health_upstream *health,
                         struct sb_health_view *out);

#endif
